//! SIGHUP with lists and configuration files that are no such thing, and far too many of it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::fixture::{ALLOWED, BANNED, Folder, Launch, Traffic, sh};

/// Whatever a list turns into, the one in force stays in force, and the line says what is wrong
/// where. The next good one is taken.
#[test]
fn lists_that_are_none() {
    let folder = Folder::new();
    let lists = folder.file("lists");
    let path = lists.join("bans.txt");
    fs::create_dir(&lists).expect("a folder in a folder of ours");
    fs::write(&path, "192.0.2.0/24\n").expect("a file of ours");
    let server = Launch::new(&folder).path("--ban-list", &path).start();
    let traffic = Traffic::start(&server);
    let at = |line: usize, what: &str| format!("{} line {line}: {what}", path.display());
    let cannot = |why: &str| format!("cannot read the ban list {}: {why}", path.display());
    type Fault<'a> = (&'a dyn Fn(&Path), String);
    let faults: [Fault<'_>; 8] = [
        (
            &|path| fs::write(path, "192.0.2.0/24\n<html>\n").expect("a file of ours"),
            at(
                2,
                "'<html>' is not an address or network, as in 192.0.2.0/24",
            ),
        ),
        (
            &|path| fs::write(path, b"192.0.2.0/24\n\xff\xfe\x00").expect("a file of ours"),
            cannot("stream did not contain valid UTF-8"),
        ),
        (
            &|path| fs::write(path, "192.0.2.0/24\n192.0.3.").expect("a file of ours"),
            at(2, "'192.0.3.' is not an address or network"),
        ),
        (
            &|path| fs::write(path, "192.0.2.0/24\n192.0.3.0/33\n").expect("a file of ours"),
            at(2, "'192.0.3.0/33'"),
        ),
        (
            &|path| fs::remove_file(path).expect("it is there"),
            cannot("No such file or directory"),
        ),
        (
            &|path| fs::create_dir(path).expect("it is gone"),
            cannot("Is a directory"),
        ),
        (
            &|path| {
                fs::remove_dir(path).expect("it is there");
                std::os::unix::fs::symlink(path, path).expect("it is gone");
            },
            cannot("Too many levels of symbolic links"),
        ),
        (
            &|path| {
                let parent = path.parent().expect("it has one");
                fs::remove_dir_all(parent).expect("it is there");
                fs::write(parent, "").expect("it is gone");
            },
            cannot("Not a directory"),
        ),
    ];
    for (count, (fault, expected)) in (1..).zip(&faults) {
        fault(&path);
        server.signal(Signal::SIGHUP);
        let line = server.await_line("reload failed, all stays as it was: ", count);
        assert!(line.contains(expected), "no '{expected}' in: {line}");
        assert_eq!(server.metrics().get("reload_failures_total"), count as f64);
        traffic.goes_on();
    }
    assert_eq!(server.metrics().get("list_ranges"), 1.0);
    let asked = traffic.finish();

    fs::remove_file(&lists).expect("it is there");
    fs::create_dir(&lists).expect("it is gone");
    fs::write(&path, "127.0.0.1\n198.51.100.0/24\n").expect("a file of ours");
    let mut peer = server.peer();
    assert_eq!(
        (peer.ask(BANNED), peer.ask(ALLOWED)),
        ("ban".to_owned(), "allow".to_owned())
    );
    server.signal(Signal::SIGHUP);
    server.await_line("reloaded; 2 ranges banned", 1);
    assert_eq!(
        (peer.ask(BANNED), peer.ask(ALLOWED)),
        ("allow".to_owned(), "ban".to_owned())
    );
    let metrics = server.metrics();
    assert_eq!(metrics.get("reloads_total"), 1.0);
    assert_eq!(metrics.get("list_ranges"), 2.0);
    println!("{asked}");
    server.finish();
}

/// A configuration file with a mistake changes nothing; one with settings that a reload cannot
/// change takes the others and names those.
#[test]
fn configuration_files_with_mistakes() {
    let folder = Folder::new();
    let path = folder.write("ringspoa.toml", "max-connections = 100\n");
    let server = Launch::new(&folder).path("--config", &path).start();
    let traffic = Traffic::start(&server);
    for (count, (text, parts)) in (1..).zip([
        (
            "max-connections = 7\nmax-conections = 7\n",
            &[
                "line 2",
                "`max-conections`",
                "did you mean `max-connections`?",
            ][..],
        ),
        (
            "max-connections = 0\n",
            &["max-connections must be at least 1"],
        ),
        ("max-connections = \"many\"\n", &["line 1"]),
        (
            "max-connections = 7\nlog-level = \"loud\"\n",
            &["log-level 'loud'"],
        ),
        (
            "max-connections = 7\nban-list = \"/nonexistent/list\"\n",
            &["/nonexistent/list"],
        ),
        ("max-connections = [\n", &["line"]),
        ("\u{0}\u{1}\u{2}", &["line 1"]),
    ]) {
        folder.replace("ringspoa.toml", text);
        server.signal(Signal::SIGHUP);
        let line = server.await_line("reload failed, all stays as it was: ", count);
        for part in parts {
            // It may go on in the lines after it, where it shows the place.
            assert!(
                server.log().contains(part),
                "no '{part}' for {text:?} in: {line}"
            );
        }
        let metrics = server.metrics();
        assert_eq!(metrics.get("reload_failures_total"), count as f64);
        assert_eq!(metrics.get("max_connections"), 100.0);
        traffic.goes_on();
    }
    folder.replace(
        "ringspoa.toml",
        "max-connections = 7\nmax-frame-size = 16380\ncores = \"0\"\nlog-format = \"json\"\n",
    );
    server.signal(Signal::SIGHUP);
    let line = server.await_line("reloaded; ", 1);
    let named =
        "these settings are used after a restart or SIGUSR2: cores, max-frame-size, log-format";
    assert!(line.contains(named), "{line}");
    assert_eq!(server.metrics().get("max_connections"), 7.0);
    traffic.goes_on();
    traffic.finish();
    server.finish();
}

/// Two hundred SIGHUPs in a second, with a list that takes a while: reloads follow each other, every
/// NOTIFY is answered meanwhile, and SIGTERM does not wait for more than one of them.
#[test]
fn a_storm_of_sighup() {
    let folder = Folder::new();
    let mut list = String::from("192.0.2.0/24\n");
    for n in 0..60_000_u32 {
        let [_, a, b, c] = (2 * n).to_be_bytes();
        list.push_str(&format!("10.{a}.{b}.{c}\n"));
    }
    let path = folder.write("bans.txt", list);
    let server = Launch::new(&folder)
        .path("--ban-list", &path)
        .arguments(&["--drain-timeout-ms", "500"])
        .start();
    let traffic = Traffic::start(&server);
    traffic.goes_on();
    for _ in 0..200 {
        server.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(5));
    }
    traffic.goes_on();
    let reloads = server.lines("reloaded; ");
    traffic.may_end();
    server.signal(Signal::SIGTERM);
    let began = Instant::now();
    server.await_line("draining, for", 1);
    let drained_after = began.elapsed();
    let asked = traffic.await_goodbye();
    println!("{reloads} reloads, draining after {drained_after:?}, {asked}");
    assert!(drained_after < Duration::from_secs(3), "{drained_after:?}");
    assert!(reloads >= 1);
    let mut server = server;
    assert_eq!(server.await_end().code(), Some(0));
    assert_eq!(server.lines("reload failed"), 0);
}

/// A list that never ends to be read, as on a file system that hangs, holds up reloads and nothing
/// else.
#[test]
fn a_list_that_hangs() {
    let folder = Folder::new();
    let path = folder.write("bans.txt", "192.0.2.0/24\n");
    let server = Launch::new(&folder)
        .path("--ban-list", &path)
        .arguments(&["--drain-timeout-ms", "500"])
        .start();
    let traffic = Traffic::start(&server);
    // Opening a FIFO waits for somebody who writes.
    let script = "mkfifo \"$1.next\" && mv \"$1.next\" \"$1\"";
    sh(
        script,
        &[std::ffi::OsStr::from_bytes(path.as_os_str().as_bytes())],
    );
    server.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    traffic.goes_on();
    traffic.may_end();
    server.signal(Signal::SIGTERM);
    traffic.await_goodbye();
    let mut server = server;
    assert_eq!(server.await_end().code(), Some(0));
}

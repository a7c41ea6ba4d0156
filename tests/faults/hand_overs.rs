//! Hand-overs that do not come about, and what the process is told meanwhile.

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{
    ALLOWED, BINARY, DRIVERS, Folder, Launch, Peer, Server, SetOnDrop, Stream, Traffic, children,
    eventually, is_gone, lapi, notify, own_loopback_address, scrape, sh,
};

/// A copy of the binary that a test can replace. Written by another process: a child of this one
/// that has just been forked would hold it open for writing, and then it cannot be run.
fn copy_of_binary(folder: &Folder) -> PathBuf {
    let copy = folder.file("ringspoa");
    sh("cp \"$1\" \"$2\"", &[BINARY.as_ref(), copy.as_os_str()]);
    copy
}

/// Puts a script in its place.
fn replace_binary(folder: &Folder, script: &str) {
    let line = format!("#!/bin/sh\n{script}\n");
    sh(
        "printf %s \"$2\" >\"$1.next\" && chmod +x \"$1.next\" && mv \"$1.next\" \"$1\"",
        &[folder.file("ringspoa").as_os_str(), line.as_ref()],
    );
}

fn restore_binary(folder: &Folder) {
    sh(
        "cp \"$1\" \"$2.next\" && mv \"$2.next\" \"$2\"",
        &[BINARY.as_ref(), folder.file("ringspoa").as_os_str()],
    );
}

/// The process that `server` handed over to.
fn successor(server: &Server) -> Pid {
    let line = server.await_line("handed over to process", 1);
    let pid = line.rsplit(' ').next().and_then(|pid| pid.parse().ok());
    Pid::from_raw(pid.unwrap_or_else(|| panic!("no process id in: {line}")))
}

/// Whatever keeps the new process from serving, the old one goes on with all that it had, says why,
/// and can hand over later.
#[test]
fn new_processes_that_do_not_come_to_serve() {
    let folder = Folder::new();
    let copy = copy_of_binary(&folder);
    let (address, admin) = (own_loopback_address(), folder.file("admin.sock"));
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let occupied = occupied.local_addr().expect("it has one");
    let listen = format!(
        "\"unix:{}\", \"{address}\"",
        folder.file("spop.sock").display()
    );
    let config = format!("listen = [{listen}]\n");
    let path = folder.write("ringspoa.toml", &config);
    let mut server = Launch::new(&folder)
        .program(copy)
        .without_addresses()
        .path("--config", &path)
        .start();
    let mut peers: Vec<_> = (0..2).map(|_| server.peer()).collect();
    let tcp = || Peer::introduced(Stream::tcp(address)?);
    peers.push(tcp().expect("it listens"));
    let traffic = Traffic::on(peers);

    let mut failures = 0;
    let mut fails = |why: &str| {
        failures += 1;
        let line = server.await_line("the hand-over failed, this process goes on: ", failures);
        assert!(line.contains(why), "no '{why}' in: {line}");
        // New connections come to it over both listeners as before.
        assert_eq!(server.peer().ask(ALLOWED), "allow");
        assert_eq!(tcp().expect("it listens").ask(ALLOWED), "allow");
        traffic.goes_on();
        assert_eq!(children(server.pid()), [], "nobody is left");
    };

    folder.replace("ringspoa.toml", "no-such-key = 1\n");
    server.signal(Signal::SIGUSR2);
    fails("the new process ended with exit status: 2");
    // Each of these fails when it serves already, or nearly so.
    folder.replace(
        "ringspoa.toml",
        format!("listen = [{listen}, \"{occupied}\"]\n"),
    );
    server.signal(Signal::SIGUSR2);
    fails("the new process ended with exit status: 1");
    folder.replace(
        "ringspoa.toml",
        format!("{config}admin-listen = \"{occupied}\"\n"),
    );
    server.signal(Signal::SIGUSR2);
    fails("the new process ended with exit status: 1");
    folder.replace("ringspoa.toml", &config);

    replace_binary(&folder, "exit 3");
    server.signal(Signal::SIGUSR2);
    fails("the new process ended with exit status: 3");
    // One that hangs is waited for, and can be killed.
    replace_binary(&folder, "exec sleep 100");
    server.signal(Signal::SIGUSR2);
    let mut hanging = Vec::new();
    eventually("a new process", || {
        hanging = children(server.pid());
        !hanging.is_empty()
    });
    server.signal(Signal::SIGUSR2);
    server.await_line("SIGUSR2 ignored", 1);
    kill(hanging[0], Signal::SIGKILL).expect("it hangs");
    fails("the new process ended with signal: 9");
    sh("rm \"$1\"", &[folder.file("ringspoa").as_os_str()]);
    server.signal(Signal::SIGUSR2);
    fails("cannot start");

    restore_binary(&folder);
    folder.replace(
        "ringspoa.toml",
        format!("{config}admin-listen = \"unix:{}\"\n", admin.display()),
    );
    server.signal(Signal::SIGUSR2);
    let new = successor(&server);
    assert_eq!(server.await_end().code(), Some(0));
    traffic.goes_on();
    let asked = traffic.finish();
    assert!(
        scrape(&admin, "/readyz")
            .expect("it listens")
            .ends_with("ok\n")
    );
    println!("{failures} failed, one went well: {asked}");
    kill(new, Signal::SIGTERM).expect("it serves");
    eventually("the new process ends", || is_gone(new));
    assert_eq!(server.lines("ended; "), 2, "{}", server.log());
    assert!(
        !folder.file("spop.sock").exists(),
        "the last one removes the socket file"
    );
}

/// What a new process is told to do otherwise it does, also with its admin listener.
#[test]
fn the_new_process_shows_metrics_where_it_is_told() {
    let folder = Folder::new();
    let admin = |name: &str| format!("admin-listen = \"unix:{}\"\n", folder.file(name).display());
    let path = folder.write("ringspoa.toml", admin("admin.sock"));
    let listen = format!("unix:{}", folder.file("spop.sock").display());
    let mut server = Launch::new(&folder)
        .without_addresses()
        .arguments(&["--listen", &listen])
        .path("--config", &path)
        .start();
    folder.replace("ringspoa.toml", admin("other.sock"));
    server.signal(Signal::SIGHUP);
    server.await_line("used after a restart or SIGUSR2: admin-listen", 1);
    server.signal(Signal::SIGUSR2);
    let new = successor(&server);
    assert_eq!(server.await_end().code(), Some(0));
    let ready = scrape(&folder.file("other.sock"), "/readyz");
    assert!(ready.expect("it listens").ends_with("ok\n"));
    assert_eq!(server.peer().ask(ALLOWED), "allow");
    kill(new, Signal::SIGTERM).expect("it serves");
    eventually("the new process ends", || is_gone(new));
}

/// SIGTERM while a new process starts: the hand-over is called off, and this process drains as it
/// does without one. Nobody is left.
#[test]
fn sigterm_before_the_new_process_serves() {
    let folder = Folder::new();
    let copy = copy_of_binary(&folder);
    let mut server = Launch::new(&folder)
        .program(copy)
        .arguments(&["--drain-timeout-ms", "500"])
        .start();
    // It starts the new one only after it has its listeners.
    replace_binary(&folder, &format!("sleep 1; exec {BINARY} \"$@\""));
    let traffic = Traffic::start(&server);
    server.signal(Signal::SIGUSR2);
    eventually("a new process", || !children(server.pid()).is_empty());
    traffic.goes_on();
    traffic.may_end();
    server.signal(Signal::SIGTERM);
    let asked = traffic.await_goodbye();
    assert_eq!(server.await_end().code(), Some(0));
    eventually("nobody is left", || {
        folder.processes().iter().all(|&pid| is_gone(pid))
    });
    assert!(!folder.file("spop.sock").exists());
    println!("{asked}");
}

/// SIGTERM while connections go over, of which one cannot: the new process is told to end too once
/// it has them, or at a second one at once. Nobody is left, and each NOTIFY was answered.
#[test]
fn sigterm_while_connections_go_over() {
    for signals in [1, 2] {
        let folder = Folder::new();
        let mut server = Launch::new(&folder)
            .arguments(&["--drain-timeout-ms", "1000"])
            .start();
        let traffic = Traffic::start(&server);
        // A peer that does not read cannot go.
        let mut deaf = server.peer();
        deaf.stream.set_nonblocking(true).expect("a socket");
        let burst: Vec<u8> = (1..=100).flat_map(|id| notify(id, ALLOWED, 0)).collect();
        while matches!(deaf.stream.write(&burst), Ok(len) if len > 0) {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.signal(Signal::SIGUSR2);
        eventually("a new process serves", || {
            server.lines(" listening on ") == 2
        });
        // They have gone over by now.
        std::thread::sleep(Duration::from_millis(300));
        traffic.goes_on();
        traffic.may_end();
        server.signal(Signal::SIGTERM);
        server.await_line("is told to end too", 1);
        let mut code = 0;
        if signals == 2 {
            server.signal(Signal::SIGTERM);
            code = 1;
        }
        let asked = traffic.await_goodbye();
        assert_eq!(server.await_end().code(), Some(code));
        eventually("nobody is left", || {
            folder.processes().iter().all(|&pid| is_gone(pid))
        });
        assert!(!folder.file("spop.sock").exists());
        println!("{signals}: {asked}");
    }
}

/// A second SIGTERM ends the process before the drain is over. What was answered until then was
/// answered whole.
#[test]
fn a_second_sigterm_under_load() {
    let folder = Folder::new();
    let mut server = Launch::new(&folder)
        .arguments(&["--drain-notice-ms", "60000", "--drain-timeout-ms", "60000"])
        .start();
    let traffic = Traffic::start(&server);
    server.signal(Signal::SIGTERM);
    server.await_line("draining: health checks fail for 60s, then 60s at most", 1);
    // The notice: all goes on.
    traffic.goes_on();
    assert!(
        scrape(server.admin(), "/readyz")
            .expect("it listens")
            .ends_with("draining\n")
    );
    server.signal(Signal::SIGHUP);
    server.await_line("SIGHUP ignored", 1);
    server.signal(Signal::SIGUSR2);
    server.await_line("SIGUSR2 ignored", 1);
    traffic.goes_on();
    let asked = traffic.finish();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.await_end().code(), Some(1));
    server.await_line("ended by a second signal", 1);
    println!("{asked}");
}

/// Connections that begin while everything goes over are served, by whichever process. The two need
/// not wait for I/O the same way, though they share the flags of their listeners.
#[test]
fn connects_during_a_hand_over() {
    for (old, new) in DRIVERS
        .into_iter()
        .flat_map(|old| DRIVERS.map(|new| (old, new)))
    {
        let folder = Folder::new();
        let address = own_loopback_address();
        let driver = |name: &str| format!("driver = \"{name}\"\n");
        let path = folder.write("ringspoa.toml", driver(old));
        let mut server = Launch::new(&folder)
            .listen(address)
            .path("--config", &path)
            .start();
        let traffic = Traffic::start(&server);
        let ended = &AtomicBool::new(false);
        let connects = std::thread::scope(|scope| {
            let ending = SetOnDrop(ended);
            let server = &server;
            let connecting = scope.spawn(move || {
                let mut connects = 0;
                while !ended.load(Ordering::Relaxed) {
                    let tcp = Stream::tcp(address).expect("it listens");
                    let mut tcp = Peer::introduced(tcp).expect("it answers");
                    assert_eq!(tcp.ask(ALLOWED), "allow");
                    assert_eq!(server.peer().ask(ALLOWED), "allow");
                    connects += 2;
                }
                connects
            });
            traffic.goes_on();
            folder.replace("ringspoa.toml", driver(new));
            server.signal(Signal::SIGUSR2);
            successor(server);
            traffic.goes_on();
            drop(ending);
            connecting.join().expect("each connection was served")
        });
        assert_eq!(server.await_end().code(), Some(0));
        let asked = traffic.finish();
        println!("{old} to {new}: {connects} connects, {asked}");
        server.await_line("ended; ", 1);
        let new = successor(&server);
        kill(new, Signal::SIGTERM).expect("it serves");
        eventually("the new process ends", || is_gone(new));
    }
}

/// A LAPI says once what changed, to whoever has the key: while a new process starts, it alone asks.
#[test]
fn who_hands_over_leaves_the_lapi_to_the_new_process() {
    let folder = Folder::new();
    let copy = copy_of_binary(&folder);
    let (url, asked) = lapi(r#"{"new":null,"deleted":null}"#);
    let path = folder.write(
        "ringspoa.toml",
        format!(
            "[remediation]\nstate-file = \"{}\"\n[remediation.crowdsec]\nurl = \"{url}\"\nkey = \"key\"\n\
             update-frequency-ms = 50\n",
            folder.file("decisions").display()
        ),
    );
    let server = Launch::new(&folder)
        .program(copy)
        .path("--config", &path)
        .start();
    let count = || asked.lock().unwrap().len();
    eventually("it asks", || count() > 2);
    replace_binary(&folder, "exec sleep 100");
    server.signal(Signal::SIGUSR2);
    let mut hanging = Vec::new();
    eventually("a new process", || {
        hanging = children(server.pid());
        !hanging.is_empty()
    });
    assert!(
        folder.file("decisions").exists(),
        "kept for the new process"
    );
    // One question may have been on its way.
    std::thread::sleep(Duration::from_millis(100));
    let before = count();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(count(), before, "{:?}", asked.lock().unwrap());
    kill(hanging[0], Signal::SIGKILL).expect("it hangs");
    server.await_line("the hand-over failed, this process goes on: ", 1);
    eventually("it asks again", || count() > before + 2);
    assert!(asked.lock().unwrap()[before].contains("startup=true"));
    restore_binary(&folder);
}

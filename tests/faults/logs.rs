//! Nobody takes the log: a full disk, a reader that is gone, one that does not read, no stderr.

use std::io::{Read, Write};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::fixture::{Folder, Launch, Server, Traffic, eventually, lapi};

/// Makes it say much: about peers that send no frames, failed and good reloads, and every frame.
fn make_it_talk(server: &Server) {
    for _ in 0..20 {
        let mut peer = server.connect().expect("it listens");
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
        let _ = peer.read(&mut [0; 256]);
        server.signal(Signal::SIGHUP);
    }
    let reloads = |server: &Server| server.metrics().get("reloads_total") >= 1.0;
    eventually("a reload", || reloads(server));
}

/// Serves, does not spin, and ends well.
fn serves_without_a_log(name: &str, shell: &str) {
    let folder = Folder::new();
    let mut server = Launch::new(&folder)
        .shell(shell)
        .arguments(&["--refusal-delay-ms", "0", "--drain-timeout-ms", "1000"])
        .arguments(&["--trace-frames", "1"])
        .start();
    let traffic = Traffic::on((0..3).map(|_| server.peer()).collect());
    make_it_talk(&server);
    // Two lines for each: more than any pipe holds.
    traffic.goes_on_for(1500);
    let asked = traffic.finish();
    let idle = server.cpu_time();
    std::thread::sleep(Duration::from_millis(500));
    let idle = server.cpu_time() - idle;
    assert!(
        idle < Duration::from_millis(200),
        "{name}: {idle:?} of CPU time in half a second"
    );
    println!("{name}: {asked}, idle {:?}/s", 2 * idle);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.await_end().code(), Some(0), "{name}");
}

#[test]
fn the_disk_of_the_log_is_full() {
    serves_without_a_log("full disk", "exec 2>/dev/full");
}

#[test]
fn the_reader_of_the_log_is_gone() {
    // The shell's own end of the FIFO is closed with it; nobody reads after that.
    serves_without_a_log(
        "reader gone",
        "t=$(mktemp -d) && mkfifo $t/f && { : <$t/f & } && exec 2>$t/f && rm -r $t && wait",
    );
}

#[test]
fn stderr_is_closed() {
    serves_without_a_log("closed", "exec 2>&-");
}

/// A reader that stopped reading, as a log daemon that hangs: lines are lost, answers are not.
#[test]
fn the_reader_of_the_log_hangs() {
    serves_without_a_log(
        "reader hangs",
        "t=$(mktemp -d) && mkfifo $t/f && exec 3<>$t/f && exec 2>$t/f && rm -r $t",
    );
}

/// The exit code is what it would be with a log.
#[test]
fn exit_codes_do_not_need_a_log() {
    for shell in ["exec 2>/dev/full", "exec 2>&-"] {
        let folder = Folder::new();
        let (code, _) = Launch::new(&folder)
            .shell(shell)
            .arguments(&["--cores", "x"])
            .fails();
        assert_eq!(code, Some(2), "{shell}: a bad flag");
        let (code, _) = Launch::new(&folder)
            .shell(shell)
            .listen("127.0.0.1:0")
            .arguments(&["--listen", "unix:/nonexistent/spop.sock"])
            .fails();
        assert_eq!(code, Some(1), "{shell}: a start that fails");
        let mut server = Launch::new(&folder)
            .shell(shell)
            .arguments(&["--drain-timeout-ms", "60000", "--drain-notice-ms", "60000"])
            .start();
        server.signal(Signal::SIGTERM);
        eventually("a drain", || server.metrics().get("draining") == 1.0);
        server.signal(Signal::SIGTERM);
        assert_eq!(
            server.await_end().code(),
            Some(1),
            "{shell}: a second signal"
        );
    }
}

/// Whoever starts it sees that the LAPI knows it, and with debug what comes of each question.
#[test]
fn what_a_lapi_answers_is_told() {
    let folder = Folder::new();
    let (url, _) = lapi(
        r#"{"new":[{"id":1,"origin":"cscli","type":"ban","scope":"Ip","duration":"4h",
            "value":"192.0.2.1"}],"deleted":null}"#,
    );
    let crowdsec = format!(
        "[remediation.crowdsec]\nurl = \"{url}\"\nkey = \"key\"\nupdate-frequency-ms = 50\n"
    );
    let path = folder.write("ringspoa.toml", &crowdsec);
    let server = Launch::new(&folder)
        .path("--config", &path)
        .arguments(&["--log-level", "debug"])
        .start();
    server.await_line("debug: decisions of crowdsec: 0 added, ", 3);
    let log = server.finish();
    let first = "info: decisions of crowdsec: the LAPI has answered, with 1\n";
    assert_eq!(log.matches(first).count(), 1, "{log}");
    let (before, _) = log.split_once(first).unwrap();
    assert!(!before.contains(" added, "), "{log}");
}

/// What a LAPI or a file says begins no line of its own in the log, and moves no cursor.
#[test]
fn what_others_say_stays_in_its_line() {
    let folder = Folder::new();
    let (url, _) = lapi(
        r#"{"new":[{"id":1,"origin":"cscli","type":"ban","scope":"Ip","duration":"4h",
            "value":"x\nerror: none of ours\r<3>nor this\u001b[2J"}],"deleted":null}"#,
    );
    let crowdsec = format!("[remediation.crowdsec]\nurl = \"{url}\"\nkey = \"key\"\n");
    let path = folder.write("ringspoa.toml", &crowdsec);
    let server = Launch::new(&folder).path("--config", &path).start();
    server.await_line("an answer has 1 bad ones", 1);
    let log = server.finish();
    let is_ours = |line: &str| {
        let levels = ["error: ", "warn: ", "info: "];
        levels.iter().any(|level| line.starts_with(level)) || line.starts_with("    ")
    };
    assert!(log.lines().all(is_ours), "{log}");
    assert!(!log.contains("\nerror:"), "{log}");
    assert!(!log.contains(['\r', '\u{1b}']), "{log}");

    let list = folder.write("list.csv", "192.0.2.1,ban,\"4h\u{1b}[2J\"\n");
    let text = format!("[[remediation.list]]\npath = \"{}\"\n", list.display());
    folder.replace("ringspoa.toml", text);
    let (code, log) = Launch::new(&folder)
        .path("--config", &folder.file("ringspoa.toml"))
        .fails();
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("is no end of a decision"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

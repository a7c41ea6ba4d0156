//! The binary as an operator meets it: flags, messages, exit codes, signals, and which driver it
//! ends up with.

mod handshake;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use handshake::shake_hands;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringspoa::spop::{Frame, FrameType};

const BINARY: &str = env!("CARGO_BIN_EXE_ringspoa");

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringspoa-cli-{}-{name}", std::process::id()))
}

/// Runs a command line that must fail at once.
fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new(BINARY).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// A server as a process, ended by its pid whatever the test does.
struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
    /// The line that says what it does.
    started: String,
    /// The server itself: strace's child where strace runs it.
    pid: Pid,
}

impl Serving {
    fn start(mut command: Command, under_strace: bool) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut started = String::new();
        log.read_line(&mut started).unwrap();
        let mut pid = i32::try_from(child.id()).unwrap();
        if under_strace {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            pid = children.trim().parse().unwrap_or(pid);
        }
        Self {
            child,
            log,
            started,
            pid: Pid::from_raw(pid),
        }
    }

    fn plain(arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments);
        Self::start(command, false)
    }

    fn address(&self) -> &str {
        let rest = self
            .started
            .split("listening on ")
            .nth(1)
            .expect(&self.started);
        rest.split(';').next().unwrap()
    }

    /// Connects and says HELLO.
    fn connect(&self) -> TcpStream {
        let mut socket = TcpStream::connect(self.address()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        shake_hands(&mut socket);
        socket
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Waits for the end; the exit code, and what was logged since the start.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn wrong_flags_are_named_and_exit_with_2() {
    for (arguments, part) in [
        (
            &["serve", "--listen", "nowhere"][..],
            "listen address 'nowhere'",
        ),
        (&["serve", "--cores", "0-x"], "cores '0-x'"),
        (
            &["serve", "--cores", "8000"],
            "CPU 8000 is not one this process may use",
        ),
        (&["serve", "--driver", "kqueue"], "driver 'kqueue'"),
        (&["serve", "--max-frame-size", "255"], "from 256 to 1048572"),
        (
            &["serve", "--fallback", "remediation=allow"],
            "txn.remediation=allow",
        ),
        (
            &["serve", "--fallback", "txn.re-mediation=allow"],
            "only letters, digits",
        ),
        (
            &["serve", "--ban-list", "/nonexistent/list"],
            "/nonexistent/list",
        ),
        (
            &["serve", "--config", "/nonexistent/file"],
            "/nonexistent/file",
        ),
        (&["serve", "--no-such-flag"], "--no-such-flag"),
        (&[], "Usage"),
    ] {
        let (code, text) = fails(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

#[test]
fn a_bad_line_of_the_ban_list_is_refused_with_file_line_and_reason() {
    let path = temporary("bans");
    fs::write(&path, "# ours\n192.0.2.1\n192.0.2.300\n").unwrap();
    let (code, text) = fails(&["serve", "--ban-list", path.to_str().unwrap()]);
    fs::remove_file(&path).unwrap();
    assert_eq!(code, Some(2));
    let expected = format!("{} line 3: '192.0.2.300' is not an address", path.display());
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn a_database_of_countries_that_is_missing_is_named() {
    let (list, file) = (temporary("geo-list"), temporary("geo.toml"));
    fs::write(&list, "192.0.2.1\n").unwrap();
    let missing = temporary("missing.mmdb");
    for key in ["city-database", "asn-database"] {
        let text =
            format!("[remediation]\n{key} = {missing:?}\n[[remediation.list]]\npath = {list:?}\n");
        fs::write(&file, text).unwrap();
        let start = ["serve", "--listen", "127.0.0.1:0", "--config"];
        let config = file.to_str().unwrap();
        for arguments in [&[config, "--check"][..], &[config]] {
            let (code, text) = fails(&[&start[..], arguments].concat());
            assert_ne!(code, Some(0));
            let part = format!("remediation: {key}: {}: No such file", missing.display());
            assert!(text.contains(&part), "{text}");
        }
    }
    fs::remove_file(&file).unwrap();
    fs::remove_file(&list).unwrap();
}

#[test]
fn an_address_in_use_exits_with_1() {
    let first = Serving::plain(&[]);
    let (code, text) = fails(&["serve", "--listen", first.address()]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains(first.address()) && text.contains("in use"),
        "{text}"
    );
    first.signal(Signal::SIGTERM);
    assert_eq!(first.end().0, Some(0));
}

#[test]
fn both_signals_drain_with_a_goodbye_and_exit_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Serving::plain(&["--cores", "0"]);
        let mut socket = server.connect();
        server.signal(signal);
        let mut goodbye = Vec::new();
        socket.read_to_end(&mut goodbye).unwrap();
        let (frame, _) = Frame::split(&goodbye, 16_380).unwrap().unwrap();
        assert_eq!(frame.frame_type, FrameType::AgentDisconnect);
        drop(socket);
        let (code, log) = server.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("draining"), "{log}");
    }
}

#[test]
fn a_second_signal_ends_at_once_with_1() {
    let mut server = Serving::plain(&["--drain-timeout-ms", "60000"]);
    // A peer that does not close keeps the drain waiting for a while.
    let _socket = server.connect();
    server.signal(Signal::SIGTERM);
    let mut line = String::new();
    server.log.read_line(&mut line).unwrap();
    assert!(line.contains("draining"), "{line}");
    server.signal(Signal::SIGTERM);
    let (code, log) = server.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
}

/// The server with a system call of the ring failing, as a container or a kernel would have it.
fn with_failing(call: &str, error: &str, driver: &str) -> Serving {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:error={error}"))
        .args([
            BINARY,
            "serve",
            "--cores",
            "0",
            "--listen",
            "127.0.0.1:0",
            "--driver",
            driver,
        ]);
    Serving::start(command, true)
}

#[test]
fn where_io_uring_does_not_work_epoll_takes_over_and_says_why() {
    for (call, error, why) in [
        ("io_uring_setup", "ENOSYS", "the kernel has none"),
        ("io_uring_setup", "EPERM", "io_uring_disabled"),
        ("io_uring_setup", "EINVAL", "older than 6.0"),
        ("io_uring_setup", "ENOMEM", "RLIMIT_MEMLOCK"),
        // A seccomp filter that lets a ring be made but not used.
        ("io_uring_enter", "EPERM", "seccomp"),
    ] {
        let server = with_failing(call, error, "auto");
        let started = &server.started;
        assert!(
            started.contains("epoll, since io_uring is not usable"),
            "{call}: {started}"
        );
        assert!(started.contains(why), "{call} {error}: {started}");
        // And it serves.
        drop(server.connect());
        server.signal(Signal::SIGTERM);
        let (code, log) = server.end();
        assert_eq!(code, Some(0), "{log}");
    }
}

#[test]
fn io_uring_asked_for_and_not_there_exits_with_1() {
    let server = with_failing("io_uring_setup", "EPERM", "io_uring");
    assert!(
        server.started.contains("--driver auto or epoll"),
        "{}",
        server.started
    );
    assert_eq!(server.end().0, Some(1));
}

#[test]
fn the_driver_asked_for_is_the_one_that_runs() {
    for (driver, line) in [
        ("io_uring", "io_uring (SINGLE_ISSUER, COOP_TASKRUN"),
        ("epoll", "; epoll;"),
    ] {
        let server = Serving::plain(&["--driver", driver]);
        assert!(server.started.contains(line), "{}", server.started);
        server.signal(Signal::SIGTERM);
        assert_eq!(server.end().0, Some(0));
    }
}

#[test]
fn ipv6_and_several_listeners_at_once() {
    let path = temporary("several.sock");
    let unix = format!("unix:{},mode=600", path.display());
    let server = Serving::plain(&["--listen", "[::1]:0", "--listen", &unix]);
    let addresses: Vec<_> = server.address().split(", ").collect();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    assert!(addresses[1].starts_with("[::1]:"), "{addresses:?}");
    TcpStream::connect(addresses[0]).unwrap();
    TcpStream::connect(addresses[1]).unwrap();
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().0, Some(0));
    assert!(!path.exists(), "the socket file is removed at the end");
}

/// A configuration with challenges, and its path.
fn with_challenges(name: &str, path: &str) -> PathBuf {
    let file = temporary(name);
    let text = format!(
        "[challenge]\npath = \"{path}\"\n[[challenge.key]]\nid = 3\n\
         secret = \"YSBrZXkgb2YgdGVzdHMsIHRoZSBmaXJzdCBvZiB0aGU=\"\n[[challenge.realm]]\n\
         trusted-domains = [\"shop.example\"]\n[[challenge.realm.level]]\ntype = \"pow\"\n\
         [[challenge.realm.level]]\ntype = \"wait\"\n"
    );
    fs::write(&file, text).unwrap();
    file
}

/// Runs a command line; its code, and what it says on both streams.
fn says(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(BINARY).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn tokens_are_made_and_looked_into() {
    let file = with_challenges("tokens.toml", "/.challenge");
    let config = file.to_str().unwrap();
    let mint = |more: &[&str]| {
        let arguments = [&["token", "mint", "--config", config], more].concat();
        let (code, out, err) = says(&arguments);
        (code, out.trim().to_owned(), err)
    };
    let inspect = |token: &str, more: &[&str]| says(&[&["token", "inspect", token], more].concat());
    let (code, token, err) = mint(&[
        "--host",
        "www.example",
        "--address",
        "192.0.2.1",
        "--level",
        "1",
    ]);
    assert_eq!((code, token.len()), (Some(0), 64), "{err}");
    let names = "the cookie __Host-clearance over TLS, clearance without; its id is ";
    assert!(err.contains(names), "{err}");
    let checked = ["--config", config, "--host", "www.example"];
    let (code, out, _) = inspect(&token, &checked);
    assert_eq!(code, Some(0), "{out}");
    for line in [
        "key         3",
        "level       1",
        "class       operator",
        "bound to    IPv4 address",
        "for         one host",
        "signature   good, of realm default",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (code, out, _) = inspect(&token, &["--config", config, "--host", "other.example"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("signature   none of any realm's for other.example"),
        "{out}"
    );
    let (code, out, _) = inspect(&token, &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("not checked"), "{out}");
    let (_, shared, err) = mint(&["--host", "a.shop.example", "--user-agent", "monitor/1"]);
    assert!(err.contains("the cookie clearance-s; its id"), "{err}");
    let both = format!("clearance={token}.{shared}");
    let (code, out, _) = inspect(&both, &["--config", config, "--host", "b.shop.example"]);
    assert_eq!(code, Some(1), "one of them is of another host: {out}");
    assert!(
        out.contains("all hosts of a trusted domain") && out.contains("good, of realm default"),
        "{out}"
    );
    let (code, out, _) = inspect("7z9k-0mpd-41xw", &[]);
    assert_eq!(code, Some(1), "{out}");
    for part in [
        "7Z9K-0MPD-41XW is a support ID",
        "grep support_id=7Z9K-0MPD-41XW",
        "log-level debug",
    ] {
        assert!(out.contains(part), "{out}");
    }
    let (code, out, _) = inspect("nothing", &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("no token"), "{out}");
    for (more, part) in [
        (&["--host", "a b"][..], "--host: "),
        (
            &["--host", "a", "--level", "3"],
            "--level: the realm has 1 to 2",
        ),
        (
            &["--host", "a", "--realm", "x"],
            "--realm: there is none named \"x\"",
        ),
        (&["--host", "a", "--duration", "367d"], "want 1s to 366d"),
        (&["--host", "a", "--duration", "soon"], "not a duration"),
        (
            &["--host", "a", "--duration", "2y"],
            "the longest unit is d, as in 30d, and the most is 366d",
        ),
    ] {
        let (code, out, err) = mint(more);
        assert_eq!((code, &*out), (Some(2), ""), "{more:?}");
        assert!(err.contains(part), "{more:?}: {err}");
    }
    let _ = fs::remove_file(file);
}

#[test]
fn the_page_is_written_for_haproxy_or_as_it_is() {
    let file = with_challenges("page.toml", "/check");
    let config = file.to_str().unwrap();
    let (code, html, err) = says(&[
        "page",
        "--config",
        config,
        "--site",
        "A & B",
        "--language",
        "de",
    ]);
    assert_eq!((code, &*err), (Some(0), ""));
    for part in [
        "\"path\":\"/check\"",
        "A &amp; B",
        "%[var(txn.challenge.response)]",
        "lang=\"de\"",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let (page, packed) = (temporary("page.html"), temporary("page.html.gz"));
    let (page, packed) = (page.to_str().unwrap(), packed.to_str().unwrap());
    for _ in 0..2 {
        let (code, out, err) = says(&["page", "--plain", "--output", page, "--gzip", packed]);
        assert_eq!((code, &*out, &*err), (Some(0), "", ""));
    }
    let html = fs::read_to_string(page).unwrap();
    assert!(html.contains("\"path\":\"/.challenge\"") && !html.contains("%["));
    let packed_len = fs::metadata(packed).unwrap().len();
    assert!(
        html.len() <= 12 * 1024 && packed_len <= 5 * 1024,
        "{}, {packed_len}",
        html.len()
    );
    let (_, texts, _) = says(&["page", "--texts"]);
    let strings = temporary("strings.json");
    fs::write(&strings, &texts).unwrap();
    let (code, _, err) = says(&["page", "--strings", strings.to_str().unwrap()]);
    assert_eq!((code, &*err), (Some(0), ""), "its own texts are taken");
    for (more, part) in [
        (&["--path", "//a"][..], "--path: "),
        (&["--contact", "javascript:1"], "--contact: "),
        (&["--plain", "--no-js", "link"], "--no-js: "),
        (&["--csp", "--captcha", "mine"], "'mine' is unknown"),
        (&["--config", "/nowhere"], "/nowhere"),
    ] {
        let (code, out, err) = says(&[&["page"], more].concat());
        assert_eq!((code, &*out), (Some(2), ""), "{more:?}");
        assert!(err.contains(part), "{more:?}: {err}");
    }
    for path in [config, page, packed, strings.to_str().unwrap()] {
        let _ = fs::remove_file(path);
    }
}

/// A server with a `[remediation]` table, its files in a folder of their own.
struct Bouncing {
    folder: PathBuf,
    serving: Serving,
}

impl Bouncing {
    /// What follows the path of the list, and stands in the table.
    fn settings(folder: &std::path::Path, list: &str, rest: &str) -> String {
        format!(
            "admin-listen = \"unix:{0}/admin.sock\"\n[[remediation.list]]\npath = \"{0}/{list}\"\n{rest}",
            folder.display()
        )
    }

    fn start(name: &str) -> Self {
        let folder = temporary(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("bans"), "192.0.2.1\n").unwrap();
        let config = folder.join("ringspoa.toml");
        fs::write(&config, Self::settings(&folder, "bans", "")).unwrap();
        let serving = Serving::plain(&["--config", config.to_str().unwrap()]);
        Self { folder, serving }
    }

    /// Has it read these settings; what it logs of that.
    fn reload(&mut self, settings: &str) -> String {
        fs::write(self.config(), settings).unwrap();
        self.serving.signal(Signal::SIGHUP);
        let log = &mut self.serving.log;
        let mut lines = log.lines().map(Result::unwrap);
        lines.find(|line| line.contains("reload")).unwrap()
    }

    fn config(&self) -> PathBuf {
        self.folder.join("ringspoa.toml")
    }

    fn failed_reloads(&self) -> String {
        let path = self.folder.join("admin.sock");
        let mut socket = std::os::unix::net::UnixStream::connect(path).unwrap();
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("ringspoa_reload_failures_total "));
        count.unwrap().to_owned()
    }
}

impl Drop for Bouncing {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What `--check` refuses is in force neither after a reload nor after a start, and each says why.
#[test]
fn a_reload_and_a_start_refuse_what_check_refuses() {
    let mut server = Bouncing::start("refuses");
    let captcha = "[[remediation.host]]\nhost = \"shop.example\"\n[remediation.host.captcha]\n\
        provider = \"turnstile\"\nsite-key = \"a\"\nsecret-key = \"b\"\nsigning-key = \"short\"\n";
    let crowdsec = |url: &str, key: &str| {
        format!("[remediation.crowdsec]\nurl = \"{url}\"\nkey = \"{key}\"\n")
    };
    let cases = [
        ("nope", String::new(), "/nope: "),
        (
            "bans",
            crowdsec("127.0.0.1:28080", "k"),
            "crowdsec: url: the URL is refused",
        ),
        (
            "bans",
            crowdsec("http://127.0.0.1:1/", ""),
            "crowdsec: key must be",
        ),
        (
            "bans",
            captcha.to_owned(),
            "host 1 (\"shop.example\"): captcha.signing-key has 5 of the 32 bytes",
        ),
        (
            "bans",
            "[remediation.appsec]\nurl = \"http://a b/\"\napi-key = \"k\"\n".to_owned(),
            "the URL is refused",
        ),
    ];
    for (count, (list, rest, part)) in cases.iter().enumerate() {
        let settings = Bouncing::settings(&server.folder, list, rest);
        let line = server.reload(&settings);
        assert!(
            line.contains("reload failed, all stays as it was"),
            "{rest}: {line}"
        );
        assert!(line.contains(part), "{line} lacks {part}");
        assert_eq!(server.failed_reloads(), (count + 1).to_string());
        let config = server.config();
        let config = ["--config", config.to_str().unwrap()];
        for more in [&["--check"][..], &["--listen", "127.0.0.1:0"]] {
            let (code, error) = fails(&[&["serve"], &config[..], more].concat());
            assert_eq!(code, Some(2), "{more:?}: {error}");
            assert!(error.contains(part), "{more:?}: {error} lacks {part}");
        }
    }
    let settings = Bouncing::settings(&server.folder, "bans", "");
    let line = server.reload(&settings);
    assert!(line.contains("reloaded; "), "{line}");
    assert!(!line.contains("restart"), "{line}");
}

/// The keys that wait for a new start are named, below the table; a setting that is only warned of is
/// warned of by `--check` too.
#[test]
fn a_reload_names_what_waits_and_check_warns_as_it_does() {
    let mut server = Bouncing::start("waits");
    let settings = Bouncing::settings(
        &server.folder,
        "bans",
        "remediation = \"captcha\"\n[remediation]\nstate-file = \"/tmp/ringspoa-no-state\"\n\
         [remediation.appsec]\nurl = \"http://127.0.0.1:1/\"\napi-key = \"k\"\ntimeout = \"200xs\"\n",
    );
    let line = server.reload(&settings);
    let (_, waiting) = line
        .split_once("restart or SIGUSR2: ")
        .unwrap_or_else(|| panic!("{line}"));
    assert_eq!(waiting, "remediation.list, remediation.state-file");
    let config = server.config();
    let (code, out, told) = says(&["serve", "--check", "--config", config.to_str().unwrap()]);
    assert_eq!((code, &*out), (Some(0), "valid\n"), "{told}");
    assert!(
        told.contains("warning: remediation: all hosts: appsec.timeout \"200xs\""),
        "{told}"
    );
}

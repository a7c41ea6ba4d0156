//! The binary as a service manager meets it: sockets that it is given, what it tells, who it becomes.

mod handshake;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use handshake::shake_hands;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

const BINARY: &str = env!("CARGO_BIN_EXE_ringspoa");
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder for one test, with the log and the socket that the service manager listens on.
struct Manager {
    folder: PathBuf,
    notify: UnixDatagram,
    /// Every process that served, to be ended whatever the test does.
    pids: Vec<Pid>,
}

impl Manager {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ringspoa-{}-{name}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let notify = UnixDatagram::bind(folder.join("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        // Also for who is not root.
        for path in [folder.clone(), folder.join("notify")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let pids = Vec::new();
        Self {
            folder,
            notify,
            pids,
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Starts `ringspoa serve` with these flags as the manager does, with the watchdog on.
    fn start(&mut self, flags: &[&str], socket: Option<OwnedFd>) -> Child {
        // The socket is to be descriptor 3, and LISTEN_PID the process's own.
        let script = if socket.is_some() {
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\""
        } else {
            "exec \"$@\""
        };
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let child = Command::new("sh")
            .args(["-c", script, "sh", BINARY, "serve"])
            .args(flags)
            .env("NOTIFY_SOCKET", self.folder.join("notify"))
            .env("WATCHDOG_USEC", "600000")
            .env_remove("RUST_LOG")
            .stdin(socket.map_or_else(Stdio::null, Stdio::from))
            .stderr(log)
            .spawn()
            .unwrap();
        self.pids
            .push(Pid::from_raw(i32::try_from(child.id()).unwrap()));
        child
    }

    /// Waits until the manager is told a line that begins so; what follows.
    #[track_caller]
    fn told(&self, beginning: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while Instant::now() < give_up {
            let mut buffer = [0; 1024];
            let len = self.notify.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if let Some(rest) = text.lines().find_map(|line| line.strip_prefix(beginning)) {
                return rest.to_owned();
            }
            heard.push(text);
        }
        panic!("{beginning} was not told, but {heard:?}\n{}", self.log());
    }

    fn signal(&self, signal: Signal) {
        kill(*self.pids.last().unwrap(), signal).unwrap();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        for pid in &self.pids {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim() == "ringspoa" {
                let _ = kill(*pid, Signal::SIGKILL);
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn connect(address: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    shake_hands(&mut socket);
    socket
}

/// A NOTIFY of one message without arguments, and its ACK.
fn ask(socket: &mut TcpStream) {
    socket
        .write_all(b"\0\0\0\x0a\x03\0\0\0\x01\x07\x01\x01m\0")
        .unwrap();
    let mut ack = [0; 11];
    socket.read_exact(&mut ack).unwrap();
    assert_eq!(ack, *b"\0\0\0\x07\x67\0\0\0\x01\x07\x01");
}

/// Given its socket, the server listens there and nowhere else; reloads, says that it is alive, hands
/// over to a process that the manager is told of and that listens there too, and stops.
#[test]
fn a_service_with_its_socket_given() {
    let mut manager = Manager::new("activated");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let socket = listener.try_clone().unwrap().into();
    // The address of the settings is in use: nobody may try to listen on it.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let mut first = manager.start(&["--listen", &taken], Some(socket));
    manager.told("READY=1");
    let log = manager.log();
    assert!(log.contains(&format!("listening on {address};")), "{log}");
    let mut haproxy = connect(&address);
    ask(&mut haproxy);

    manager.told("WATCHDOG=1");
    manager.signal(Signal::SIGHUP);
    manager.told("RELOADING=1");
    manager.told("READY=1");
    let log = manager.log();
    assert!(log.contains("reloaded; "), "{log}");
    assert!(!log.contains("after a restart"), "{log}");

    manager.signal(Signal::SIGUSR2);
    let pid = manager.told("MAINPID=").parse().unwrap();
    manager.pids.push(Pid::from_raw(pid));
    assert!(first.wait().unwrap().success());
    // On the connection of before, and on a new one.
    ask(&mut haproxy);
    ask(&mut connect(&address));
    // The new process is watched too, though the variable named the old one.
    manager.told("WATCHDOG=1");
    manager.signal(Signal::SIGUSR2);
    let pid = manager.told("MAINPID=").parse().unwrap();
    manager.pids.push(Pid::from_raw(pid));
    ask(&mut haproxy);
    ask(&mut connect(&address));

    manager.signal(Signal::SIGTERM);
    manager.told("STOPPING=1");
    let mut rest = Vec::new();
    haproxy.read_to_end(&mut rest).unwrap();
    assert_eq!(rest[4], 102, "AGENT-DISCONNECT");
    // The manager's socket is still there for the next start.
    drop(TcpStream::connect(&address).unwrap());
}

/// A cut descriptor, a datagram socket: what cannot be listened on is refused by name.
#[test]
fn a_socket_that_does_not_listen_is_refused() {
    let mut manager = Manager::new("deaf");
    let (deaf, _other) = UnixStream::pair().unwrap();
    let mut child = manager.start(&[], Some(deaf.into()));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let log = manager.log();
    assert!(log.contains("does not listen"), "{log}");
}

fn ids(pid: Pid, field: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let ids = line.unwrap().split_whitespace();
    ids.map(|id| id.parse().unwrap()).collect()
}

/// The server becomes who it is told to, all of it, and still reloads and hands over.
#[test]
fn privileges_are_dropped_once_everything_is_opened() {
    const NOBODY: u32 = 65534;
    let mut manager = Manager::new("nobody");
    let unix = format!("unix:{}", manager.file("spop.sock"));
    let flags = ["--listen", &unix, "--user", "65534", "--group", "65534"];
    let mut child = manager.start(&flags, None);
    if !Uid::effective().is_root() {
        // Only root can become somebody else, and a server that cannot must not go on as it was.
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert!(manager.log().contains("cannot"), "{}", manager.log());
        return;
    }
    manager.told("READY=1");
    let pid = manager.pids[0];
    assert_eq!(ids(pid, "Uid:"), [NOBODY; 4]);
    assert_eq!(ids(pid, "Gid:"), [NOBODY; 4]);
    assert!(ids(pid, "Groups:").iter().all(|&group| group == NOBODY));
    // Each of its threads, not only the first.
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(
            status.contains("Uid:\t65534\t65534\t65534\t65534"),
            "{status}"
        );
    }
    // Its threads may come back to their nice value where root may allow for that: CAP_SYS_RESOURCE.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = own.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    let capabilities = u64::from_str_radix(capabilities.unwrap(), 16).unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let nice = limits.lines().find(|line| line.starts_with("Max nice"));
    let is_raised = nice.unwrap().split_whitespace().nth(3) == Some("20");
    assert_eq!(is_raised, capabilities & 1 << 24 != 0, "{limits}");
    manager.signal(Signal::SIGUSR2);
    let pid = Pid::from_raw(manager.told("MAINPID=").parse().unwrap());
    manager.pids.push(pid);
    assert!(child.wait().unwrap().success(), "{}", manager.log());
    assert_eq!(ids(pid, "Uid:"), [NOBODY; 4]);
    let mut socket = UnixStream::connect(Path::new(&manager.file("spop.sock"))).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    shake_hands(&mut socket);
    manager.signal(Signal::SIGTERM);
    manager.told("STOPPING=1");
}

/// `--check` says whether all is valid, and starts nothing.
#[test]
fn a_check_starts_nothing() {
    let manager = Manager::new("check");
    let list = manager.file("bans");
    let check = |flags: &[&str]| {
        let mut command = Command::new(BINARY);
        let output = command.args(["serve", "--check"]).args(flags).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    fs::write(&list, "192.0.2.1\n").unwrap();
    // Port 1 is nobody's to open, and not opened.
    let good = ["--listen", "127.0.0.1:1", "--ban-list", &list];
    assert_eq!(check(&good), (Some(0), String::new()));
    fs::write(&list, "192.0.2.1\nnobody\n").unwrap();
    let (code, text) = check(&good);
    assert_eq!(code, Some(2));
    assert!(text.contains(&format!("{list} line 2: 'nobody'")), "{text}");
    for (flags, part) in [
        (["--log-level", "loud"], "log-level 'loud'"),
        (["--log-format", "xml"], "log-format 'xml'"),
        (
            ["--admin-listen", "9001"],
            "admin-listen: listen address '9001'",
        ),
        (["--user", "no-such-user"], "'no-such-user'"),
        (["--refusal-delay-ms", "90000"], "refusal-delay-ms is 90s"),
        (
            ["--listen", "unix:/tmp/x,group=no-such-group"],
            "'no-such-group'",
        ),
        (["--cores", "8000"], "CPU 8000"),
    ] {
        let (code, text) = check(&flags);
        assert_eq!(code, Some(2), "{flags:?}");
        assert!(text.contains(part), "{text}");
    }
    // A value of the file is a mistake of the file.
    let config = manager.file("wrong.toml");
    fs::write(&config, "max-frame-size = 100\n").unwrap();
    let (code, text) = check(&["--config", &config]);
    assert_eq!(code, Some(2));
    assert!(
        text.contains(&format!("{config}: max-frame-size is 100")),
        "{text}"
    );
}

/// As text with the priorities that journald takes, or as JSON; frames of every second connection.
#[test]
fn log_lines_and_traced_frames() {
    let mut manager = Manager::new("lines");
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--cores",
        "0",
        "--trace-frames",
        "2",
    ];
    let address = |log: &str| {
        let rest = log.split("listening on ").nth(1).unwrap();
        rest.split(';').next().unwrap().to_owned()
    };
    let mut child = manager.start(&[&flags[..], &["--log-format", "json"]].concat(), None);
    manager.told("READY=1");
    for _ in 0..4 {
        ask(&mut connect(&address(&manager.log())));
    }
    manager.signal(Signal::SIGTERM);
    manager.told("STOPPING=1");
    assert!(child.wait().unwrap().success());
    let log = manager.log();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            line["message"].is_string() && line["level"] == "INFO",
            "{line}"
        );
    }
    for frame in [
        "HAPROXY-HELLO",
        "AGENT-HELLO",
        "<- NOTIFY FIN",
        "-> ACK FIN",
    ] {
        assert_eq!(log.matches(frame).count(), 2, "{frame}:\n{log}");
    }
}

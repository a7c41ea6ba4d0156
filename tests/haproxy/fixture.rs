//! What a test starts and leaves no trace of: HAProxy of some version, our server in this process
//! or as the real binary, and the folder their sockets are in.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringspoa::spop::Messages;
use ringspoa::{Agent, AgentError, ListenAddress, Reply, Server, ServerConfig, Stats};

use crate::http::{Request, Response};

/// How long a process may take to be there, on a machine that does much else.
const START: Duration = Duration::from_secs(10);

/// A process that was asked to go must have gone by then. HAProxy up to 3.0 waits for the agent's
/// goodbye, here for its `timeout idle` of 60 s.
pub(crate) const GONE: Duration = Duration::from_secs(3);

/// How often to look whether something has come about.
const POLL: Duration = Duration::from_millis(10);

/// Looks until `found` has something; `None` after `timeout`.
pub(crate) fn wait_for<T>(timeout: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(found) = found() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Numbers what the tests of this process make.
fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A HAProxy release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V2_6,
    V2_8,
    V3_0,
    V3_2,
}

impl Version {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V2_6 => "2.6",
            Self::V2_8 => "2.8",
            Self::V3_0 => "3.0",
            Self::V3_2 => "3.2",
        }
    }

    /// Whether SPOP is a multiplexer as for HTTP/2, as from 3.1 on, and not an applet of the
    /// filter.
    pub(crate) fn has_multiplexer(self) -> bool {
        self >= Self::V3_2
    }

    /// The executable; a version that is not installed fails the test.
    pub(crate) fn executable(self) -> PathBuf {
        let name = self.name();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(".haproxy/{name}/haproxy"));
        assert!(
            path.is_file(),
            "HAProxy {name} is not installed: {} is missing, run scripts/install-haproxy",
            path.display()
        );
        path
    }
}

/// A folder of its own for one test, removed at the end. Its path is short: a Unix socket's is
/// limited to 107 bytes.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!("ringspoa-{}-{}", std::process::id(), next_number());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder for temporary files");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).expect("a file in a folder of ours");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child process with its output in a file. Killed when dropped; after a failed assertion its
/// output is printed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    fn start(command: &mut Command, output: PathBuf) -> Self {
        let file = File::create(&output).expect("a file for the output");
        let errors = file.try_clone().expect("a second descriptor of the file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, output }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).expect("a process id is positive"))
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a child that was not waited for has its id");
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waiting for a child")
    }

    /// How it ended, and after what time; fails if it does not within `timeout`.
    #[track_caller]
    pub(crate) fn wait(&mut self, timeout: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        match wait_for(timeout, || self.exited()) {
            Some(status) => (status, began.elapsed()),
            None => panic!("process {} still runs after {timeout:?}", self.id()),
        }
    }

    /// Waits until `found` has something; fails if the process ends first.
    #[track_caller]
    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let found = wait_for(START, || match self.exited() {
            Some(status) => panic!("{status} instead of {what}:\n{}", self.output()),
            None => found(self),
        });
        found.unwrap_or_else(|| panic!("no {what} within {START:?}:\n{}", self.output()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.output.display(), self.output());
        }
    }
}

/// What a test configures; the rest is the same in all.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// HAProxy's threads.
    pub(crate) threads: u32,
    /// Options of the frontend's `bind` line.
    pub(crate) bind: &'static str,
    /// Lines of the frontend.
    pub(crate) frontend: String,
    /// Lines of the backend the agent is in.
    pub(crate) backend: &'static str,
    /// Options of the agent's `server` line.
    pub(crate) server: &'static str,
    /// Lines of the `spoe-agent` section; `messages` has to be among them.
    pub(crate) agent: &'static str,
    /// `timeout processing`, in milliseconds.
    pub(crate) processing_ms: u32,
    /// The `spoe-message` sections.
    pub(crate) messages: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: 1,
            bind: "",
            frontend: respond(&[]),
            backend: "",
            server: "",
            agent: "messages request",
            processing_ms: 10_000,
            messages: "",
        }
    }
}

/// The frontend line that answers every request with these expressions as headers, and with the
/// SPOE error, if there was one, in `x-error`.
pub(crate) fn respond(headers: &[(&str, &str)]) -> String {
    let mut line = String::from("http-request return status 200");
    for (name, expression) in [("x-error", "var(txn.t.error)")].iter().chain(headers) {
        write!(line, " hdr {name} \"%[{expression}]\"").expect("writing to a string");
    }
    line
}

impl Config {
    /// The main configuration file.
    fn haproxy(&self, version: Version, agent: &str, folder: &Folder) -> String {
        let dir = folder.0.display();
        let Self {
            threads,
            bind,
            frontend,
            backend,
            server,
            ..
        } = self;
        let mode = if version.has_multiplexer() {
            "spop"
        } else {
            "tcp"
        };
        // `origin` is what HAProxy proxies to where a test wants a response that passes through.
        format!(
            "global
    nbthread {threads}
    log stdout format raw local0 notice
    stats socket unix@{dir}/stats.sock level admin expose-fd listeners
defaults
    mode http
    timeout connect 1s
    timeout client 20s
    timeout server 20s
frontend web
    bind unix@{dir}/http.sock {bind}
    filter spoe engine test config {dir}/spoe.cfg
    default_backend proxied
    {frontend}
backend proxied
    server origin unix@{dir}/origin.sock
frontend origin
    bind unix@{dir}/origin.sock
    http-request return status 200
backend agents
    mode {mode}
    {backend}
    server agent {agent} {server}
"
        )
    }

    /// The engine's configuration file. The agent's idle timeout is longer than any test: where
    /// HAProxy waits for it, the test fails.
    fn engine(&self, version: Version) -> String {
        let Self {
            agent,
            processing_ms,
            messages,
            ..
        } = self;
        // Required up to 3.0, ignored from 3.1 on.
        let timeouts = if version.has_multiplexer() {
            ""
        } else {
            "timeout hello 2s\n    timeout idle 60s"
        };
        format!(
            "[test]
spoe-agent test
    {agent}
    option var-prefix t
    option set-on-error error
    option dontlog-normal
    {timeouts}
    timeout processing {processing_ms}ms
    use-backend agents
    log global
{messages}
"
        )
    }
}

/// A running HAProxy, whose frontend `web` is a Unix socket in a folder of the test.
#[derive(Debug)]
pub(crate) struct Haproxy {
    pub(crate) process: Process,
    version: Version,
    folder: Folder,
}

impl Haproxy {
    /// Starts it in front of the agent at `agent`, as HAProxy writes addresses.
    pub(crate) fn start(version: Version, agent: &str, config: &Config) -> Self {
        let folder = Folder::new();
        folder.write("haproxy.cfg", &config.haproxy(version, agent, &folder));
        folder.write("spoe.cfg", &config.engine(version));
        Self::start_in(version, folder)
    }

    /// Starts it with the files in `folder`, whose `haproxy.cfg` listens on `http.sock` there.
    pub(crate) fn start_in(version: Version, folder: Folder) -> Self {
        let mut process = Self::spawn(version, &folder, &[]);
        let socket = folder.file("http.sock");
        process.until("a frontend", |_| UnixStream::connect(&socket).ok());
        Self {
            process,
            version,
            folder,
        }
    }

    fn spawn(version: Version, folder: &Folder, flags: &[String]) -> Process {
        let mut command = Command::new(version.executable());
        command.arg("-db").arg("-f").arg(folder.file("haproxy.cfg"));
        let output = folder.file(&format!("haproxy-{}.log", next_number()));
        Process::start(command.args(flags), output)
    }

    /// Starts a second process that takes the listeners over and sends the first one SIGUSR1, as
    /// a reload does; returns the first one.
    pub(crate) fn reload(&mut self) -> Process {
        let stats = self.folder.file("stats.sock").display().to_string();
        let flags = [
            "-x".into(),
            stats,
            "-sf".into(),
            self.process.id().to_string(),
        ];
        let new = Self::spawn(self.version, &self.folder, &flags);
        std::mem::replace(&mut self.process, new)
    }

    /// What it logged about SPOE: nothing, as long as nothing is wrong.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let output = self.process.output();
        let lines = output.lines().filter(|line| line.contains("SPOE:"));
        lines.map(str::to_owned).collect()
    }

    /// The frontend's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.file("http.sock")
    }

    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Response {
        match request.send(&self.socket()) {
            Ok(response) => response,
            Err(error) => panic!("{request:?}: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.send(&Request::get(path))
    }
}

/// An agent made of a function.
pub(crate) struct FnAgent<F>(F);

impl<F> Agent for FnAgent<F>
where
    F: Fn(&mut Messages<'_>, &mut Reply<'_>) -> Result<(), AgentError>,
{
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        self.0(messages, reply)
    }
}

/// Our server in this process. A test that fails drains it too.
#[derive(Debug)]
pub(crate) struct Served {
    server: Option<Server>,
    /// Where its Unix socket is, if it has one.
    _folder: Option<Folder>,
}

impl Served {
    /// On a TCP port the kernel chooses.
    pub(crate) fn start<F>(agent: F) -> Self
    where
        F: Fn(&mut Messages<'_>, &mut Reply<'_>) -> Result<(), AgentError>,
        F: Clone + Send + Sync + 'static,
    {
        Self::start_at("127.0.0.1:0", agent)
    }

    /// On a Unix socket.
    pub(crate) fn start_unix<F>(agent: F) -> Self
    where
        F: Fn(&mut Messages<'_>, &mut Reply<'_>) -> Result<(), AgentError>,
        F: Clone + Send + Sync + 'static,
    {
        let folder = Folder::new();
        let address = format!("unix:{}", folder.file("spop.sock").display());
        let mut served = Self::start_at(&address, agent);
        served._folder = Some(folder);
        served
    }

    /// At an address as our flags have it.
    pub(crate) fn start_at<F>(address: &str, agent: F) -> Self
    where
        F: Fn(&mut Messages<'_>, &mut Reply<'_>) -> Result<(), AgentError>,
        F: Clone + Send + Sync + 'static,
    {
        let config = ServerConfig {
            listen: vec![address.parse().expect("an address of a test")],
            // Longer than HAProxy waits: a lost ticket shows as an error of SPOE, not as an ACK.
            agent_deadline: Duration::from_secs(20),
            ..ServerConfig::default()
        };
        let server = Server::start(config, move |_core| Ok(FnAgent(agent.clone())))
            .unwrap_or_else(|error| panic!("the server at {address}: {error}"));
        Self {
            server: Some(server),
            _folder: None,
        }
    }

    /// Where HAProxy finds it.
    pub(crate) fn address(&self) -> String {
        match &self.server().addresses()[0] {
            ListenAddress::Unix { path, .. } => format!("unix@{}", path.display()),
            address => address.to_string(),
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("taken only when it ends")
    }

    /// Drains it, and checks what holds after every test: each NOTIFY had its one ACK, and no peer
    /// was at fault in our eyes.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Stats {
        let server = self.server.take().expect("taken only here and in drop");
        server.drain();
        let stats = server.join().expect("no worker panics");
        assert_eq!(stats.acks, stats.notifies, "{stats:?}");
        let faults = [
            stats.protocol_errors,
            stats.agent_panics,
            stats.agent_errors,
            stats.too_large,
            stats.deadlines_passed,
            stats.tickets_abandoned,
            stats.late_answers_discarded,
            stats.timeouts,
        ];
        assert_eq!(faults, [0; 8], "{stats:?}");
        stats
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.drain();
            let _ = server.join();
        }
    }
}

/// The real binary, with its own remediation agent.
#[derive(Debug)]
pub(crate) struct Binary {
    process: Process,
    draining: bool,
}

impl Binary {
    /// Starts `ringspoa serve` at an address as its flags have it.
    pub(crate) fn start(folder: &Folder, listen: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringspoa"));
        command.args(["serve", "--listen", listen]).args(flags);
        let output = folder.file(&format!("ringspoa-{}.log", next_number()));
        let mut process = Process::start(&mut command, output);
        process.until("a listening server", |process| {
            process.output().contains(" listening on ").then_some(())
        });
        Self {
            process,
            draining: false,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// What it and those that it handed over to have logged.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// Waits until it has ended, and well.
    #[track_caller]
    pub(crate) fn await_exit(&mut self) {
        let (status, _) = self.process.wait(START);
        assert_eq!(status.code(), Some(0), "{}", self.output());
    }

    /// Asks it to answer what is in flight and go; once, as a second signal ends it at once.
    pub(crate) fn drain(&mut self) {
        if !self.draining {
            self.process.signal(Signal::SIGTERM);
            self.draining = true;
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        let _ = self.process.wait(GONE);
    }

    /// Drains it, and checks how it ended.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.drain();
        let (status, _) = self.process.wait(GONE);
        let output = self.process.output();
        assert_eq!(status.code(), Some(0), "{output}");
        // Its last line has the totals, and names a fault only where there was one.
        let totals = output.lines().rev().find(|line| line.contains("ended; "));
        let totals = totals.unwrap_or_else(|| panic!("no totals:\n{output}"));
        for fault in ["agent panics", "agent errors", "protocol errors"] {
            assert!(!totals.contains(fault), "{fault}:\n{output}");
        }
    }
}

/// An address of loopback that no other test has, with a port that the kernel gives to nobody: a
/// server can leave it and come back to it.
pub(crate) fn own_loopback_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, high, low, number), 9000))
}

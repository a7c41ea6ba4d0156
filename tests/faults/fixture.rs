//! What a row of the table is made of: the real binary in a folder of its own, what it logs, counts
//! and holds, peers that speak as HAProxy does, and traffic that goes on meanwhile.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringspoa::spop::{
    Action, Actions, Argument, Disconnect, Frame, FrameId, FrameType, HaproxyHello, NotifyWriter,
    Scope, StreamId, TypedData,
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ringspoa");

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Both ways to wait for I/O, for rows where the two do not share their code.
pub(crate) const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

/// Looks until `found` has something; fails after [`PATIENCE`].
#[track_caller]
pub(crate) fn await_some<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    await_some(what, || holds().then_some(()));
}

fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An address of loopback that no other test has, with a port that the kernel gives to nobody: a
/// server can leave it and come back to it.
pub(crate) fn own_loopback_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, high, low, number), 9100))
}

/// A folder of its own for one test, with a short path: a Unix socket's is limited to 107 bytes.
///
/// It is named on the command line of every process that the test starts and of those that these
/// start, so that none of them outlives it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!("rings-faults-{}-{}.d", std::process::id(), next_number());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder for temporary files");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("a file in a folder of ours");
        path
    }

    /// Puts a file in the place of another in one step, as a good deployment does.
    pub(crate) fn replace(&self, name: &str, text: impl AsRef<[u8]>) {
        let next = self.write(&format!("{name}.next"), text);
        fs::rename(next, self.file(name)).expect("a file in a folder of ours");
    }

    /// Processes that have this folder on their command line.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let wanted = self.0.as_os_str().as_encoded_bytes();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if line.windows(wanted.len()).any(|part| part == wanted) {
                found.push(Pid::from_raw(pid));
            }
        }
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How the binary is started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    folder: &'a Folder,
    program: PathBuf,
    /// What the shell does before it becomes the binary, for limits and redirections.
    shell: String,
    addresses: Vec<(&'static str, String)>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl<'a> Launch<'a> {
    /// On a Unix socket and a free port, with an admin listener on another Unix socket.
    pub(crate) fn new(folder: &'a Folder) -> Self {
        Self {
            folder,
            program: BINARY.into(),
            shell: String::new(),
            addresses: vec![
                ("--listen", "127.0.0.1:0".to_owned()),
                (
                    "--listen",
                    format!("unix:{}", folder.file("spop.sock").display()),
                ),
                (
                    "--admin-listen",
                    format!("unix:{}", folder.file("admin.sock").display()),
                ),
            ],
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    pub(crate) fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    pub(crate) fn shell(mut self, line: &str) -> Self {
        line.clone_into(&mut self.shell);
        self
    }

    /// On this address instead of a free port.
    pub(crate) fn listen(mut self, address: impl ToString) -> Self {
        self.addresses[0].1 = address.to_string();
        self
    }

    /// With its admin listener there instead.
    pub(crate) fn admin(mut self, address: &str) -> Self {
        address.clone_into(&mut self.addresses[2].1);
        self
    }

    /// With what the configuration says, at the same Unix sockets.
    pub(crate) fn without_addresses(mut self) -> Self {
        self.addresses.clear();
        self
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|&it| it.to_owned()));
        self
    }

    /// A flag with a path.
    pub(crate) fn path(mut self, flag: &str, path: &Path) -> Self {
        self.arguments
            .extend([flag.to_owned(), path.display().to_string()]);
        self
    }

    pub(crate) fn environment(mut self, name: &'static str, value: PathBuf) -> Self {
        self.environment.push((name, value));
        self
    }

    /// The line that is run, with its errors in a file.
    fn command(&self) -> (Command, PathBuf) {
        let mut line = vec![self.program.display().to_string(), "serve".to_owned()];
        for (flag, address) in &self.addresses {
            line.extend([(*flag).to_owned(), address.clone()]);
        }
        line.extend(self.arguments.iter().cloned());
        let log = self.folder.file(&format!("log-{}", next_number()));
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{}\nexec \"$0\" \"$@\"", self.shell))
            .args(line)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file in a folder of ours"));
        (command, log)
    }

    /// Starts it, and waits until it serves.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let (mut command, log) = self.command();
        let child = command.spawn().expect("there is a shell");
        let mut server = Server {
            child,
            log,
            tcp: None,
            unix: self.folder.file("spop.sock"),
            admin: self.folder.file("admin.sock"),
        };
        let unix = server.unix.clone();
        await_some("a server", || {
            if let Some(status) = server.exited() {
                panic!("{status} instead of a server:\n{}", server.log());
            }
            UnixStream::connect(&unix).ok()
        });
        // The admin listener comes after that, and after it the signals are heard.
        eventually("a start", || {
            let log = server.log();
            log.contains(" listening on ") || scrape(&server.admin, "/readyz").is_ok()
        });
        // What was asked over is closed some time after its answer.
        let mut last = 0;
        eventually("a quiet server", || {
            std::thread::sleep(Duration::from_millis(20));
            let before = std::mem::replace(&mut last, server.descriptors());
            last == before
        });
        // Where stderr is not our file there is no such line, and the Unix socket has to do.
        let log = server.log();
        let line = log.split("listening on ").nth(1);
        server.tcp = line.and_then(|line| line.split([',', ';']).next()?.parse().ok());
        server
    }

    /// Starts one that must fail; its exit code and its lines.
    pub(crate) fn fails(self) -> (Option<i32>, String) {
        let (mut command, log) = self.command();
        let mut child = command.spawn().expect("there is a shell");
        let status = await_some("a server that does not start", || {
            child.try_wait().expect("it is our child")
        });
        (
            status.code(),
            fs::read_to_string(log).expect("the log of a server"),
        )
    }
}

/// The binary as a process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    tcp: Option<SocketAddr>,
    unix: PathBuf,
    admin: PathBuf,
}

impl Server {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id is positive"))
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.tcp.expect("it said where it listens")
    }

    /// As HAProxy writes it.
    pub(crate) fn unix(&self) -> String {
        format!("unix@{}", self.unix.display())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for the `count`-th line that has `part`, and returns that line.
    #[track_caller]
    pub(crate) fn await_line(&self, part: &str, count: usize) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            // A line is whole once the next one could begin.
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            if let Some(line) = whole
                .lines()
                .filter(|line| line.contains(part))
                .nth(count - 1)
            {
                return line.to_owned();
            }
            assert!(
                Instant::now() < end,
                "no line {count} with '{part}' in\n{log}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many lines have `part`.
    pub(crate) fn lines(&self, part: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(part))
            .count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a child that was not waited for has its id");
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn await_end(&mut self) -> ExitStatus {
        await_some("the end of a server", || self.exited())
    }

    /// Drains it, and checks that it ended well: with 0, all it had to answer answered, and no word
    /// of a panic.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.await_end();
        let log = self.log();
        assert_eq!(status.code(), Some(0), "{status}\n{log}");
        for fault in ["panic", "overruns", "NOTIFYs whose"] {
            assert!(!log.contains(fault), "{fault}:\n{log}");
        }
        log
    }

    pub(crate) fn admin(&self) -> &Path {
        &self.admin
    }

    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = scrape(&self.admin, "/metrics");
        Metrics::parse(&answer.unwrap_or_else(|error| panic!("{error}\n{}", self.log())))
    }

    pub(crate) fn memory(&self) -> u64 {
        memory_of(self.pid())
    }

    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("as proc(5) has it");
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks: u64 = [11, 12]
            .iter()
            .map(|&at| fields[at].parse::<u64>().unwrap_or(0))
            .sum();
        // USER_HZ is 100 everywhere.
        Duration::from_millis(10 * ticks)
    }

    /// A peer on the Unix socket, past the handshake.
    #[track_caller]
    pub(crate) fn peer(&self) -> Peer {
        Peer::introduced(self.connect().expect("it listens")).expect("it answers a HELLO")
    }

    /// A connection to the Unix socket that has said nothing.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        Stream::unix(&self.unix)
    }

    /// A connection to the port that has said nothing.
    pub(crate) fn connect_tcp(&self) -> io::Result<Stream> {
        Stream::tcp(self.tcp())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log\n{}", self.log());
        }
    }
}

/// Bytes of RAM that a process holds.
pub(crate) fn memory_of(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("as proc(5) has it") * 1024
}

/// Whether a process has ended; one that nobody waits for counts.
pub(crate) fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// The processes that this one has started and that run.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    // Threads have children of their own in this file.
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .map(Pid::from_raw),
        );
    }
    found
}

/// One GET over a Unix socket; the whole answer.
pub(crate) fn scrape(socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// What `/metrics` says.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(HashMap<String, f64>);

impl Metrics {
    fn parse(answer: &str) -> Self {
        let lines = answer.lines().filter(|line| line.starts_with("ringspoa_"));
        let samples = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// A sample by its name without `ringspoa_`, all of its labels added up.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> f64 {
        let name = format!("ringspoa_{name}");
        let samples = self
            .0
            .iter()
            .filter(|(key, _)| key.split('{').next() == Some(&name));
        let values: Vec<f64> = samples.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no sample {name}");
        values.iter().sum()
    }
}

/// A connection over either kind of socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::Tcp(stream))
    }

    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::Unix(stream))
    }

    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Unix(stream) => stream.set_nonblocking(on),
        }
    }

    /// Whether the other side has ended it, waiting for that.
    pub(crate) fn is_ended(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match self.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A HELLO as HAProxy 3.2 sends it.
pub(crate) fn hello(max_frame_size: u32) -> Vec<u8> {
    let mut out = vec![0; 256];
    let hello = HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size,
        capabilities: b"pipelining",
        engine_id: None,
        healthcheck: false,
    };
    let len = hello.encode(&mut out).expect("there is room");
    out.truncate(len);
    out
}

/// A NOTIFY that asks for the verdict on an address; `padding` bytes go with it.
pub(crate) fn notify(stream_id: u64, address: [u8; 4], padding: usize) -> Vec<u8> {
    let mut out = vec![0; 256 + padding];
    let filler = vec![b'x'; padding];
    let arguments = [
        Argument::new("src", Ipv4Addr::from(address)),
        Argument::new("filler", TypedData::Binary(&filler)),
    ];
    let mut writer = NotifyWriter::begin(&mut out, u32::MAX, StreamId(stream_id), FrameId(1))
        .expect("there is room");
    writer.message("check", arguments).expect("there is room");
    let len = writer.finish();
    out.truncate(len);
    out
}

/// In the list that the binary has without one of its own.
pub(crate) const BANNED: [u8; 4] = [192, 0, 2, 7];

/// In none of the lists.
pub(crate) const ALLOWED: [u8; 4] = [127, 0, 0, 1];

/// What came of a NOTIFY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An ACK with this verdict.
    Verdict(String),
    /// An AGENT-DISCONNECT with this status, instead.
    Goodbye(u32),
}

/// HAProxy's side of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) stream: Stream,
    input: Vec<u8>,
    next_id: u64,
}

impl Peer {
    pub(crate) fn introduced(stream: Stream) -> io::Result<Self> {
        Self::with_frames(stream, 16_380)
    }

    pub(crate) fn with_frames(stream: Stream, max_frame_size: u32) -> io::Result<Self> {
        let mut peer = Self {
            stream,
            input: Vec::new(),
            next_id: 1,
        };
        peer.stream.write_all(&hello(max_frame_size))?;
        match peer.receive(|frame| frame.frame_type)? {
            FrameType::AgentHello => Ok(peer),
            other => Err(io::Error::other(format!("{other:?} for a HELLO"))),
        }
    }

    /// Sends a NOTIFY and takes what comes for it.
    pub(crate) fn try_ask(&mut self, address: [u8; 4]) -> io::Result<Answer> {
        let id = self.next_id;
        self.next_id += 1;
        self.stream.write_all(&notify(id, address, 0))?;
        self.receive(|frame| match frame.frame_type {
            FrameType::Ack => {
                assert_eq!(frame.stream_id.0, id, "an answer to what was not asked");
                Answer::Verdict(verdict(frame.payload))
            }
            FrameType::AgentDisconnect => {
                let disconnect = Disconnect::decode(frame).expect("a valid goodbye");
                Answer::Goodbye(disconnect.status.0)
            }
            other => panic!("{other:?} for a NOTIFY"),
        })
    }

    /// The verdict on an address.
    #[track_caller]
    pub(crate) fn ask(&mut self, address: [u8; 4]) -> String {
        match self.try_ask(address) {
            Ok(Answer::Verdict(verdict)) => verdict,
            other => panic!("no verdict but {other:?}"),
        }
    }

    /// Takes the verdict on what was asked before.
    #[track_caller]
    pub(crate) fn take_verdict(&mut self) -> String {
        self.receive(|frame| verdict(frame.payload))
            .expect("an answer")
    }

    /// Takes one frame.
    fn receive<T>(&mut self, take: impl FnOnce(&Frame<'_>) -> T) -> io::Result<T> {
        loop {
            if let Some((frame, used)) = Frame::split(&self.input, u32::MAX).expect("valid frames")
            {
                let taken = take(&frame);
                self.input.drain(..used);
                return Ok(taken);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.input.extend_from_slice(&buffer[..len]),
            }
        }
    }

    /// What ends the connection from the other side: the status of its goodbye, if there is one.
    pub(crate) fn goodbye(&mut self) -> io::Result<u32> {
        self.receive(|frame| Disconnect::decode(frame).expect("a goodbye").status.0)
    }
}

fn verdict(payload: &[u8]) -> String {
    for action in Actions::new(payload) {
        if let Action::SetVar {
            scope: Scope::Transaction,
            name: b"remediation",
            value,
        } = action.expect("valid actions")
        {
            return value.as_str().unwrap_or_default().to_owned();
        }
    }
    String::new()
}

/// Connections that ask again and again in the background, each one NOTIFY at a time, and check
/// every answer.
#[derive(Debug)]
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    /// Whether the server may say goodbye.
    may_end: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    /// What went wrong first.
    lost: Arc<Mutex<Option<String>>>,
    threads: Vec<JoinHandle<Duration>>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) answered: u64,
    pub(crate) longest: Duration,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} NOTIFYs answered, the slowest after {:?}",
            self.answered, self.longest
        )
    }
}

impl Traffic {
    /// On two connections over the Unix socket, and two over TCP where there is a port.
    pub(crate) fn start(server: &Server) -> Self {
        let mut peers: Vec<_> = (0..2).map(|_| server.peer()).collect();
        if server.tcp.is_some() {
            let tcp = || Peer::introduced(server.connect_tcp().expect("it listens"));
            peers.extend((0..2).map(|_| tcp().expect("it answers a HELLO")));
        }
        Self::on(peers)
    }

    pub(crate) fn on(peers: Vec<Peer>) -> Self {
        let mut traffic = Self {
            stop: Arc::default(),
            may_end: Arc::default(),
            answered: Arc::default(),
            lost: Arc::default(),
            threads: Vec::new(),
        };
        for mut peer in peers {
            let stop = Arc::clone(&traffic.stop);
            let may_end = Arc::clone(&traffic.may_end);
            let answered = Arc::clone(&traffic.answered);
            let lost = Arc::clone(&traffic.lost);
            traffic.threads.push(std::thread::spawn(move || {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    for (address, expected) in [(BANNED, "ban"), (ALLOWED, "allow")] {
                        let began = Instant::now();
                        let answer = peer.try_ask(address);
                        longest = longest.max(began.elapsed());
                        match answer {
                            Ok(Answer::Verdict(verdict)) if verdict == expected => {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(Answer::Goodbye(0)) if may_end.load(Ordering::Relaxed) => {
                                return longest;
                            }
                            other => {
                                let mut lost = lost.lock().expect("no panic in here");
                                lost.get_or_insert(format!("{other:?} for {address:?}"));
                                return longest;
                            }
                        }
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                longest
            }));
        }
        traffic
    }

    /// Waits until some more were answered.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        self.goes_on_for(8);
    }

    /// Waits until so many more were answered.
    #[track_caller]
    pub(crate) fn goes_on_for(&self, count: u64) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually("answers go on", || {
            self.check();
            self.answered.load(Ordering::Relaxed) >= before + count
        });
    }

    #[track_caller]
    fn check(&self) {
        if let Some(lost) = &*self.lost.lock().expect("no panic in here") {
            panic!("an answer was lost: {lost}");
        }
    }

    /// Ends it; every NOTIFY was answered.
    #[track_caller]
    pub(crate) fn finish(self) -> Asked {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// From now on the server may end connections, as a drain does, with a goodbye.
    pub(crate) fn may_end(&self) {
        self.may_end.store(true, Ordering::Relaxed);
    }

    /// Waits for the server to say goodbye on every connection.
    #[track_caller]
    pub(crate) fn await_goodbye(self) -> Asked {
        eventually("goodbye everywhere", || {
            self.threads.iter().all(JoinHandle::is_finished)
        });
        self.join()
    }

    #[track_caller]
    fn join(mut self) -> Asked {
        let mut longest = Duration::ZERO;
        for thread in std::mem::take(&mut self.threads) {
            longest = longest.max(
                thread
                    .join()
                    .expect("every answer is one to what was asked"),
            );
        }
        self.check();
        let answered = self.answered.load(Ordering::Relaxed);
        assert_ne!(answered, 0);
        Asked { answered, longest }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sets a flag when it goes, also by a panic.
#[derive(Debug)]
pub(crate) struct SetOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A shell command of the test's own, which must succeed.
#[track_caller]
pub(crate) fn sh(script: &str, arguments: &[&OsStr]) {
    let mut command = Command::new("sh");
    let status = command
        .arg("-ec")
        .arg(script)
        .arg("sh")
        .args(arguments)
        .status();
    assert!(status.expect("there is a shell").success(), "{script}");
}

/// A LAPI with this answer to every question, and the first lines of the questions to it.
pub(crate) fn lapi(body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it has one"));
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let paths = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut head = BufReader::new(socket.try_clone().expect("a descriptor"));
            let mut path = String::new();
            let mut line = String::new();
            while head.read_line(&mut line).is_ok_and(|len| len > 2) {
                if path.is_empty() {
                    path.clone_from(&line);
                }
                line.clear();
            }
            paths.lock().unwrap().push(path);
            let len = body.len();
            let _ = write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    (url, asked)
}

//! What tests of a running server share: a blocking HAProxy that says what it is told to, and a
//! server on a port of its own.
//!
//! Every wait ends after [`PATIENCE`] with a panic, so that a server that hangs fails a test
//! instead of hanging it too. Nothing sleeps to give the server time.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ringspoa::spop::{
    Action, Actions, AgentHello, Argument, Disconnect, Flags, Frame, FrameId, FrameType,
    NotifyWriter, Status, StreamId, TypedData,
};
use ringspoa::{Agent, AgentError, Cores, Driver, ListenAddress, Server, ServerConfig, Stats};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What HAProxy offers with its default `tune.bufsize`.
pub(crate) const FRAME_SIZE: u32 = 16_380;

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// All of it, with the prefix.
    pub(crate) bytes: Vec<u8>,
}

impl Received {
    /// The frame in these bytes.
    pub(crate) fn frame(&self) -> Frame<'_> {
        let (frame, used) = Frame::split(&self.bytes, u32::MAX)
            .expect("the server's frames are valid")
            .expect("a received frame is whole");
        assert_eq!(used, self.bytes.len());
        frame
    }

    /// Stream-id and frame-id.
    pub(crate) fn ids(&self) -> (u64, u64) {
        let frame = self.frame();
        (frame.stream_id.0, frame.frame_id.0)
    }

    /// The actions of an ACK, all of which must be valid.
    pub(crate) fn actions(&self) -> Vec<Action<'_>> {
        Actions::new(self.frame().payload)
            .collect::<Result<_, _>>()
            .expect("the server's actions are valid")
    }

    /// The value this ACK sets `name` to, if it does.
    pub(crate) fn value(&self, name: &str) -> Option<TypedData<'_>> {
        self.actions().into_iter().find_map(|action| match action {
            Action::SetVar {
                name: found, value, ..
            } if found == name.as_bytes() => Some(value),
            _ => None,
        })
    }

    /// Length without the prefix, which is what frame sizes count.
    pub(crate) fn frame_len(&self) -> usize {
        self.bytes.len() - 4
    }
}

/// A connection of a HAProxy that follows no rules but the test's.
#[derive(Debug)]
pub(crate) struct FakeHaproxy {
    socket: Arc<Socket>,
    /// Received and not yet taken.
    input: Vec<u8>,
}

impl FakeHaproxy {
    /// Connects, and says nothing.
    pub(crate) fn connect(address: &ListenAddress) -> Self {
        Self::try_connect(address).expect("the server listens")
    }

    /// Connects if the server still listens.
    pub(crate) fn try_connect(address: &ListenAddress) -> std::io::Result<Self> {
        let (domain, address) = match address {
            ListenAddress::Tcp(address) => (Domain::for_address(*address), (*address).into()),
            ListenAddress::Unix { path, .. } => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.connect(&address)?;
        // Frames sent byte by byte shall arrive so. Fails on Unix sockets, which need it not.
        let _ = SockRef::from(&socket).set_tcp_nodelay(true);
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket: Arc::new(socket),
            input: Vec::new(),
        })
    }

    /// Sends a HELLO that offers `max_frame_size`; the size agreed on.
    pub(crate) fn shake_hands(&mut self, max_frame_size: u32) -> u32 {
        self.send(&hello(max_frame_size, "pipelining"));
        self.expect_hello().0
    }

    /// Reads an AGENT-HELLO; its size and capabilities.
    pub(crate) fn expect_hello(&mut self) -> (u32, String) {
        let received = self.expect_frame();
        let frame = received.frame();
        assert_eq!(frame.frame_type, FrameType::AgentHello);
        assert_eq!(frame.flags, Flags::FIN);
        assert_eq!((frame.stream_id.0, frame.frame_id.0), (0, 0));
        let hello = AgentHello::decode(&frame).expect("an AGENT-HELLO is valid");
        assert_eq!(hello.version, b"2.0");
        let capabilities = String::from_utf8(hello.capabilities.to_vec()).expect("text");
        (hello.max_frame_size, capabilities)
    }

    /// Sends bytes, in one call.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes)
            .expect("the server takes what it is sent");
    }

    /// Sends bytes to a server that may have closed.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        (&*self.socket).write_all(bytes)
    }

    /// The next frame, or `None` at a clean end of the stream or a reset.
    pub(crate) fn next_frame(&mut self) -> Option<Received> {
        loop {
            if let Some(bytes) = self.take_frame() {
                return Some(Received { bytes });
            }
            if self.receive(PATIENCE) == 0 {
                assert!(self.input.is_empty(), "a frame was cut");
                return None;
            }
        }
    }

    /// The next frame.
    pub(crate) fn expect_frame(&mut self) -> Received {
        self.next_frame().expect("a frame before the end")
    }

    /// An ACK of these ids: FIN, not ABORT.
    pub(crate) fn expect_ack(&mut self, stream_id: u64, frame_id: u64) -> Received {
        let received = self.expect_frame();
        let frame = received.frame();
        assert_eq!(frame.frame_type, FrameType::Ack);
        assert_eq!(frame.flags, Flags::FIN);
        assert_eq!(received.ids(), (stream_id, frame_id));
        received
    }

    /// An AGENT-DISCONNECT with both keys, and nothing after it but the end.
    pub(crate) fn expect_disconnect(&mut self, status: Status) {
        let received = self.expect_frame();
        self.check_disconnect(&received, status);
        self.expect_end();
    }

    /// Checks an AGENT-DISCONNECT already read.
    pub(crate) fn check_disconnect(&self, received: &Received, status: Status) {
        let frame = received.frame();
        assert_eq!(frame.frame_type, FrameType::AgentDisconnect);
        assert_eq!(frame.flags, Flags::FIN);
        assert_eq!(received.ids(), (0, 0));
        let disconnect = Disconnect::decode(&frame).expect("an AGENT-DISCONNECT is valid");
        assert_eq!(disconnect, Disconnect::with_status(status));
        assert!((1..=255).contains(&disconnect.reason.len()));
    }

    /// The end of the stream, or a reset, with no byte before it.
    pub(crate) fn expect_end(&mut self) {
        let next = self
            .next_frame()
            .map(|received| received.frame().frame_type);
        assert_eq!(next, None, "nothing may come before the end");
    }

    /// Waits this long and finds that nothing came.
    pub(crate) fn expect_silence(&mut self, wait: Duration) {
        assert!(self.input.is_empty(), "unread frames are not silence");
        self.socket
            .set_read_timeout(Some(wait))
            .expect("a timeout can be set");
        let mut byte = [0];
        let result = (&*self.socket).read(&mut byte);
        self.socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let kind = result.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::WouldBlock), "something came: {byte:?}");
    }

    /// What one call of `recv` gives.
    pub(crate) fn receive_once(&mut self) -> Vec<u8> {
        assert!(self.input.is_empty(), "nothing was received before");
        self.receive(PATIENCE);
        std::mem::take(&mut self.input)
    }

    /// Everything up to the end of the stream.
    pub(crate) fn receive_all(&mut self) -> Vec<u8> {
        while self.receive(PATIENCE) > 0 {}
        std::mem::take(&mut self.input)
    }

    /// Sends a NOTIFY and takes its ACK.
    pub(crate) fn ask(&mut self, stream_id: u64, message: &str, value: i64) -> Received {
        self.send(&notify(stream_id, 1, message, value));
        self.expect_ack(stream_id, 1)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&self) {
        self.socket
            .shutdown(Shutdown::Write)
            .expect("a connected socket can be shut down");
    }

    /// Ends with a reset, as HAProxy from 3.1 on ends idle connections.
    pub(crate) fn reset(self) {
        SockRef::from(&*self.socket)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket can be told to reset");
    }

    /// The socket, for what only a test wants to do with it.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let prefix = self.input.first_chunk::<4>()?;
        let len = 4 + u32::from_be_bytes(*prefix) as usize;
        if self.input.len() < len {
            return None;
        }
        let rest = self.input.split_off(len);
        Some(std::mem::replace(&mut self.input, rest))
    }

    /// Receives once and returns how many bytes; 0 at the end of the stream.
    fn receive(&mut self, patience: Duration) -> usize {
        let mut buffer = vec![0; 128 * 1024];
        match (&*self.socket).read(&mut buffer) {
            Ok(len) => {
                self.input.extend_from_slice(&buffer[..len]);
                len
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing came for {patience:?}: {error}"),
        }
    }
}

/// A frame from ready bytes, prefix included.
pub(crate) fn frame(code: u8, flags: u32, ids: (u64, u64), payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + 64];
    let len = Frame {
        frame_type: FrameType::from_code(code),
        flags: Flags(flags),
        stream_id: StreamId(ids.0),
        frame_id: FrameId(ids.1),
        payload,
    }
    .encode(&mut out)
    .expect("there is room");
    out.truncate(len);
    out
}

/// The payload of a control frame: these keys in this order.
pub(crate) fn pairs(pairs: &[(&str, TypedData<'_>)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (key, value) in pairs {
        payload.push(u8::try_from(key.len()).expect("keys are short"));
        payload.extend_from_slice(key.as_bytes());
        let mut out = [0; 512];
        let len = value.encode(&mut out).expect("values are short");
        payload.extend_from_slice(&out[..len]);
    }
    payload
}

/// A HAPROXY-HELLO of these pairs.
pub(crate) fn hello_of(content: &[(&str, TypedData<'_>)]) -> Vec<u8> {
    frame(1, 1, (0, 0), &pairs(content))
}

/// A HAPROXY-HELLO as HAProxy sends it.
pub(crate) fn hello(max_frame_size: u32, capabilities: &str) -> Vec<u8> {
    hello_of(&[
        ("supported-versions", "2.0".into()),
        ("max-frame-size", max_frame_size.into()),
        ("capabilities", capabilities.into()),
        ("engine-id", "a3b0c44e-98fc-4c14-9afb-f4c8996fb924".into()),
    ])
}

/// A NOTIFY of one message with one argument, `n`.
pub(crate) fn notify(stream_id: u64, frame_id: u64, message: &str, n: i64) -> Vec<u8> {
    notify_with(stream_id, frame_id, message, &[Argument::new("n", n)])
}

/// A NOTIFY of one message.
pub(crate) fn notify_with(
    stream_id: u64,
    frame_id: u64,
    message: &str,
    arguments: &[Argument<'_>],
) -> Vec<u8> {
    let values: usize = arguments
        .iter()
        .map(|argument| 64 + argument.value.as_bytes().map_or(0, <[u8]>::len))
        .sum();
    let mut out = vec![0; 128 + message.len() + values];
    let mut writer =
        NotifyWriter::begin(&mut out, u32::MAX, StreamId(stream_id), FrameId(frame_id))
            .expect("there is room");
    writer
        .message(message, arguments.iter().copied())
        .expect("there is room");
    let len = writer.finish();
    out.truncate(len);
    out
}

/// A HAPROXY-DISCONNECT with a text.
pub(crate) fn haproxy_disconnect(status: u32) -> Vec<u8> {
    let content = pairs(&[
        ("status-code", status.into()),
        ("message", "as the test says".into()),
    ]);
    frame(2, 1, (0, 0), &content)
}

/// Settings for a server on one core and a free port.
pub(crate) fn config(driver: Driver) -> ServerConfig {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let cores = core_affinity::get_core_ids().expect("the system tells its CPUs");
    // Tests run side by side: each server on the next CPU.
    let core = cores[NEXT.fetch_add(1, Ordering::Relaxed) % cores.len()].id;
    ServerConfig {
        listen: vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into())],
        cores: Cores::List(vec![core]),
        driver,
        // Long, so that no ticket expires on a busy machine; tests of deadlines set their own.
        agent_deadline: PATIENCE,
        // Tests of the delay set it.
        refusal_delay: Duration::ZERO,
        ..ServerConfig::default()
    }
}

/// A server that runs for one test.
#[derive(Debug)]
pub(crate) struct Running {
    server: Server,
    /// Those that connected to it.
    clients: Mutex<Vec<Weak<Socket>>>,
}

impl Running {
    /// Starts one.
    pub(crate) fn start<A: Agent + 'static>(
        config: ServerConfig,
        agent: impl Fn() -> A + Send + Sync + 'static,
    ) -> Self {
        let server = Server::start(config, move |_| Ok::<_, AgentError>(agent()))
            .expect("the server starts");
        Self {
            server,
            clients: Mutex::default(),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.server.addresses()[0]
    }

    /// Where its listener of this index listens.
    pub(crate) fn address_of(&self, index: usize) -> &ListenAddress {
        &self.server.addresses()[index]
    }

    /// What it counted until now.
    pub(crate) fn stats(&self) -> Stats {
        self.server.handle().stats()
    }

    /// To reload it, and to see its metrics.
    pub(crate) fn handle(&self) -> ringspoa::ServerHandle {
        self.server.handle()
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        match self.address() {
            ListenAddress::Tcp(address) => address.port(),
            ListenAddress::Unix { path, .. } => panic!("{} has no port", path.display()),
        }
    }

    /// A connection that has said nothing.
    pub(crate) fn connect(&self) -> FakeHaproxy {
        let haproxy = FakeHaproxy::connect(self.address());
        let mut clients = self.clients.lock().expect("no panic in here");
        clients.push(Arc::downgrade(&haproxy.socket));
        haproxy
    }

    /// A connection past the handshake, as HAProxy 3.2 does it.
    pub(crate) fn introduce(&self) -> FakeHaproxy {
        let mut haproxy = self.connect();
        haproxy.shake_hands(FRAME_SIZE);
        haproxy
    }

    /// Begins a drain and returns once nobody can connect any more.
    pub(crate) fn drain(&self) {
        self.server.drain();
        eventually("the server stops listening", || {
            FakeHaproxy::try_connect(self.address()).is_err()
        });
    }

    /// Hangs up on it everywhere and drains it; what it counted.
    pub(crate) fn stop(self) -> Stats {
        let clients = std::mem::take(&mut *self.clients.lock().expect("no panic in here"));
        for client in clients.iter().filter_map(Weak::upgrade) {
            // It fails where the server was quicker.
            let _ = client.shutdown(Shutdown::Both);
        }
        self.server.drain();
        self.join()
    }

    /// Waits for the end of a drain; what it counted.
    pub(crate) fn join(self) -> Stats {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(self.server.join());
        });
        receiver
            .recv_timeout(2 * PATIENCE)
            .expect("a drained server ends")
            .expect("no worker panics")
    }

    /// Sockets the server holds for connections to it, in whatever state.
    pub(crate) fn open_sockets(&self) -> usize {
        sockets_at(self.port())
    }
}

/// TCP sockets with this local port that a process holds, listening ones left out. Unlike a count
/// of descriptors it is not disturbed by tests that run beside this one.
pub(crate) fn sockets_at(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells its sockets");
    let local = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Local address, state (0A listens), inode (0 once nobody holds it).
            fields[1].ends_with(&local) && fields[3] != "0A" && fields[9] != "0"
        })
        .count()
}

/// Waits until `condition` holds, which nothing announces.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! Stub servers on loopback that do to a client what they are told to, and what the tests ask with.
//!
//! Every wait ends after [`PATIENCE`] with a failure.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::Linger};
use ringspoa::outbound::{
    Endpoint, EndpointConfig, Method, Outbound, OutboundConfig, OutboundError, Request, Response,
};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A deadline that no test waits for.
pub(crate) const LONG: Duration = Duration::from_secs(15);

/// What a stub reads and writes.
pub(crate) trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A request as a stub got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The request line and the headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A client of a stub.
pub(crate) struct Peer {
    pub(crate) io: Box<dyn Duplex>,
    /// For the shutting down that TLS hides.
    pub(crate) socket: Option<TcpStream>,
    /// From 1 on, in the order they came.
    pub(crate) number: usize,
}

impl Peer {
    /// The next request, unless the client has gone.
    pub(crate) fn request(&mut self) -> Option<Seen> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.io.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |len| len.parse().unwrap());
        let mut body = vec![0; len];
        self.io.read_exact(&mut body).ok()?;
        Some(Seen { head, body })
    }

    /// Sends these bytes. Whether the client takes them is the client's affair.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.io.write_all(bytes.as_ref()).is_ok() && self.io.flush().is_ok()
    }

    /// Answers 200 with this body.
    pub(crate) fn answer(&mut self, body: &str) -> bool {
        self.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Waits until the client has gone.
    pub(crate) fn wait_until_gone(&mut self) {
        let mut bytes = [0; 4096];
        while matches!(self.io.read(&mut bytes), Ok(1..)) {}
    }

    /// Closes with a RST rather than a FIN.
    pub(crate) fn reset(self) {
        let socket = self.socket.expect("a stub of TCP");
        // With no time to wait for what is unsent, closing discards and says so.
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&socket, Linger, &linger).unwrap();
    }
}

/// A server that gives each connection to what it is told.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Stub {
    pub(crate) fn start(serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::wrapped(|socket| Some(Box::new(socket)), serve)
    }

    /// With something between the socket and the stub.
    pub(crate) fn wrapped(
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Duplex>> + Send + Sync + 'static,
        serve: impl Fn(Peer) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stub = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            is_over: Arc::default(),
        };
        let (connections, is_over) = (Arc::clone(&stub.connections), Arc::clone(&stub.is_over));
        let (wrap, serve) = (Arc::new(wrap), Arc::new(serve));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let socket = socket.unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.set_write_timeout(Some(PATIENCE)).unwrap();
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (wrap, serve) = (Arc::clone(&wrap), Arc::clone(&serve));
                std::thread::spawn(move || {
                    let raw = socket.try_clone().unwrap();
                    if let Some(io) = wrap(socket) {
                        serve(Peer {
                            io,
                            socket: Some(raw),
                            number,
                        });
                    }
                });
            }
        });
        stub
    }

    /// One that answers every request with its own path.
    pub(crate) fn echo() -> Self {
        Self::start(|mut peer| {
            while let Some(seen) = peer.request() {
                let path = seen.head.split(' ').nth(1).unwrap().to_owned();
                peer.answer(&path);
            }
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections taken so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

pub(crate) fn start() -> Outbound {
    Outbound::start(OutboundConfig::default()).unwrap()
}

/// An endpoint without a breaker, which is not what most tests are about.
pub(crate) fn config(url: impl Into<String>) -> EndpointConfig {
    EndpointConfig {
        breaker: None,
        ..EndpointConfig::new("stub", url)
    }
}

pub(crate) fn get(path: &str) -> Request {
    Request::new(Method::Get, path)
}

pub(crate) fn post(path: &str, body: &'static str) -> Request {
    let mut request = Request::new(Method::Post, path);
    request.body(body);
    request
}

/// Makes a call and waits for it.
pub(crate) fn ask_within(
    endpoint: &Endpoint,
    request: Request,
    deadline: Duration,
) -> Result<Response, OutboundError> {
    let (sender, receiver) = mpsc::channel();
    endpoint.call(request, deadline, 1024 * 1024, move |result| {
        sender.send(result).unwrap();
    });
    receiver.recv_timeout(PATIENCE).expect("a callback")
}

pub(crate) fn ask(endpoint: &Endpoint, request: Request) -> Result<Response, OutboundError> {
    ask_within(endpoint, request, LONG)
}

/// Makes a call that has to be answered, and returns its body.
pub(crate) fn body_of(endpoint: &Endpoint, request: Request) -> String {
    let response = ask(endpoint, request).expect("an answer");
    String::from_utf8(response.into_body().to_vec()).unwrap()
}

/// Waits until it holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

//! The admin listener: `/metrics`, `/healthz` and `/readyz` over HTTP, on threads of its own, away
//! from the cores that answer HAProxy. It knows HTTP, and refuses to know what it shows.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::metrics::Exposition;
use crate::server::{InheritedSocket, ListenAddress, open_one};

/// The longest request: a scraper's has some hundred bytes.
const MAX_REQUEST_LEN: usize = 8 * 1024;

/// For all of a request, and for all of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests at once; one more waits to be accepted.
const MAX_REQUESTS: usize = 16;

/// How often the listener looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// What an admin listener shows.
pub trait Shows: Send + Sync {
    /// Writes the metrics.
    fn metrics(&self, out: &mut Exposition);

    /// Why the process is not alive, if it is not: for `/healthz`.
    ///
    /// # Errors
    ///
    /// The reason, for a person.
    fn health(&self) -> Result<(), String>;

    /// Why it is not to be asked now, if it is not: for `/readyz`.
    ///
    /// # Errors
    ///
    /// The reason, for a person.
    fn readiness(&self) -> Result<(), String>;
}

/// Why there is no admin listener.
pub struct AdminError(ListenAddress, io::Error);

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {} for admin: {}", self.0, self.1)
    }
}

/// As `Display`: this is what a `main` that returns it prints, and an `unwrap`.
impl fmt::Debug for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for AdminError {}

/// A running admin listener. Ends when it is dropped.
#[derive(Debug)]
pub struct Admin {
    address: ListenAddress,
    /// Once more, for another process.
    socket: OwnedFd,
    owned_file: Option<PathBuf>,
    is_lent: bool,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Admin {
    /// Listens on `address`, or on the socket that another process opened there.
    ///
    /// # Errors
    ///
    /// It cannot be listened on.
    pub fn start(
        address: &ListenAddress,
        inherited: Option<InheritedSocket>,
        shows: Arc<dyn Shows>,
    ) -> Result<Self, AdminError> {
        let failed = |error| AdminError(address.clone(), error);
        let is_lent = inherited.as_ref().is_some_and(|socket| socket.is_lent);
        let (socket, address, owned_file) = open_one(address, inherited).map_err(failed)?;
        let failed = |error| AdminError(address.clone(), error);
        let kept = socket.try_clone().map_err(failed)?;
        let listener = match &address {
            ListenAddress::Tcp(_) => {
                let listener = TcpListener::from(socket);
                listener
                    .set_nonblocking(true)
                    .map(|()| Listener::Tcp(listener))
            }
            ListenAddress::Unix { .. } => {
                let listener = UnixListener::from(socket);
                listener
                    .set_nonblocking(true)
                    .map(|()| Listener::Unix(listener))
            }
        };
        let listener = listener.map_err(failed)?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = {
            let ended = Arc::clone(&ended);
            std::thread::Builder::new()
                .name("ringspoa-admin".to_owned())
                .spawn(move || listen(&listener, &ended, &shows))
                .map_err(failed)?
        };
        Ok(Self {
            address,
            socket: kept,
            owned_file,
            is_lent,
            ended,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Its socket once more, for another process, under this name.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn socket(&self, name: &str) -> io::Result<InheritedSocket> {
        Ok(InheritedSocket {
            name: name.to_owned(),
            owned_file: self.owned_file.clone(),
            is_lent: self.is_lent,
            socket: self.socket.try_clone()?,
        })
    }

    /// Ends it, and leaves its socket file to the process that goes on.
    pub fn hand_over(mut self) {
        self.owned_file = None;
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(file) = &self.owned_file {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn listen(listener: &Listener, ended: &AtomicBool, shows: &Arc<dyn Shows>) {
    let requests = Arc::new(AtomicUsize::new(0));
    while !ended.load(Ordering::Relaxed) {
        if requests.load(Ordering::Relaxed) >= MAX_REQUESTS || !is_readable(listener) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let stream = match listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        let Ok(stream) = stream else {
            // Too many open files, or gone again: it says so again.
            std::thread::sleep(LOOK);
            continue;
        };
        requests.fetch_add(1, Ordering::Relaxed);
        let (shows, count) = (Arc::clone(shows), Arc::clone(&requests));
        let spawned = std::thread::Builder::new()
            .name("ringspoa-admin".to_owned())
            .spawn(move || {
                // The peer has gone when this fails, and nobody is left to tell.
                let _ = serve(&stream, &*shows);
                count.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Waits a while for a connection.
fn is_readable(listener: &Listener) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let fd = match listener {
        Listener::Tcp(listener) => listener.as_fd(),
        Listener::Unix(listener) => listener.as_fd(),
    };
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// The time for reading and writing that is left until `end`.
    fn limit(&self, end: Instant) -> io::Result<()> {
        let left = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or(io::ErrorKind::TimedOut)?;
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
        }
    }

    /// Says that nothing more comes.
    fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(buffer),
            Self::Unix(stream) => (&*stream).read(buffer),
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Unix(stream) => (&*stream).write(bytes),
        }
    }
}

fn serve(stream: &Stream, shows: &dyn Shows) -> io::Result<()> {
    match stream {
        Stream::Tcp(stream) => stream.set_nonblocking(false)?,
        Stream::Unix(stream) => stream.set_nonblocking(false)?,
    }
    let end = Instant::now() + PATIENCE;
    let mut request = Vec::new();
    let answer = loop {
        let mut buffer = [0; 1024];
        stream.limit(end)?;
        let len = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..len]);
        match parse_request(&request) {
            Request::Partial if len == 0 => return Ok(()),
            Request::Partial if request.len() > MAX_REQUEST_LEN => {
                break Answer::text(431, "Request Header Fields Too Large", "request too long\n");
            }
            Request::Partial => {}
            Request::Invalid => break Answer::text(400, "Bad Request", "not an HTTP request\n"),
            Request::Of { method, path } => break answer(method, path, shows),
        }
    };
    let is_head = request.starts_with(b"HEAD ");
    let bytes = answer.encode(is_head);
    let end = Instant::now() + PATIENCE;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        stream.limit(end)?;
        match stream.write(rest)? {
            0 => return Ok(()),
            written => rest = &rest[written..],
        }
    }
    stream.finish()?;
    // Closing with unread input would reset the connection and take the answer with it.
    let (mut unread, mut buffer) = (0, [0; 1024]);
    while unread < 16 * MAX_REQUEST_LEN {
        stream.limit(end)?;
        match stream.read(&mut buffer)? {
            0 => break,
            len => unread += len,
        }
    }
    Ok(())
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// More is to come.
    Partial,
    /// Not HTTP.
    Invalid,
    /// A whole head.
    Of {
        /// GET, mostly.
        method: &'a str,
        /// Without the query.
        path: &'a str,
    },
}

/// Reads the head of a request; a body is not waited for.
pub(crate) fn parse_request(bytes: &[u8]) -> Request<'_> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Request::Partial,
        Ok(httparse::Status::Complete(_)) => match (request.method, request.path) {
            (Some(method), Some(target)) => Request::Of {
                method,
                path: target.split('?').next().unwrap_or(target),
            },
            _ => Request::Invalid,
        },
        Err(_) => Request::Invalid,
    }
}

struct Answer {
    status: u16,
    reason: &'static str,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: u16, reason: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    fn encode(&self, is_head: bool) -> Vec<u8> {
        let Self {
            status,
            reason,
            content_type,
            body,
        } = self;
        let len = body.len();
        let allow = if *status == 405 {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let mut bytes = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\n\
             Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
        )
        .into_bytes();
        if !is_head {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

fn answer(method: &str, path: &str, shows: &dyn Shows) -> Answer {
    if !matches!(method, "GET" | "HEAD") {
        return Answer::text(405, "Method Not Allowed", "only GET and HEAD\n");
    }
    let state = |state: Result<(), String>| match state {
        Ok(()) => Answer::text(200, "OK", "ok\n"),
        Err(why) => Answer::text(503, "Service Unavailable", format!("{why}\n")),
    };
    match path {
        "/metrics" => {
            let mut out = Exposition::new();
            shows.metrics(&mut out);
            Answer {
                status: 200,
                reason: "OK",
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                body: out.into_text(),
            }
        }
        "/healthz" => state(shows.health()),
        "/readyz" => state(shows.readiness()),
        "/" => Answer::text(200, "OK", "ringspoa: /metrics, /healthz, /readyz\n"),
        _ => Answer::text(
            404,
            "Not Found",
            "there are /metrics, /healthz and /readyz\n",
        ),
    }
}

/// Whether who can reach this address is on this host.
#[must_use]
pub const fn is_local(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(SocketAddr::V4(address)) => address.ip().is_loopback(),
        ListenAddress::Tcp(SocketAddr::V6(address)) => address.ip().is_loopback(),
        ListenAddress::Unix { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Family, Kind};

    struct Fixed {
        ready: bool,
    }

    impl Shows for Fixed {
        fn metrics(&self, out: &mut Exposition) {
            let family = Family {
                name: "shown_total",
                kind: Kind::Counter,
                labels: "",
                help: "What is shown.",
            };
            out.single(&family, 7_u64);
        }

        fn health(&self) -> Result<(), String> {
            Ok(())
        }

        fn readiness(&self) -> Result<(), String> {
            self.ready
                .then_some(())
                .ok_or_else(|| "no list yet".to_owned())
        }
    }

    fn ask(admin: &Admin, request: &[u8]) -> String {
        let ListenAddress::Tcp(address) = admin.address() else {
            panic!("not TCP")
        };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn start(ready: bool) -> Admin {
        let address = "127.0.0.1:0".parse().unwrap();
        Admin::start(&address, None, Arc::new(Fixed { ready })).unwrap()
    }

    #[test]
    fn what_is_asked_for_is_shown() {
        let admin = start(true);
        let metrics = ask(&admin, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("version=0.0.4"), "{metrics}");
        assert!(
            metrics.ends_with("# TYPE shown_total counter\nshown_total 7\n"),
            "{metrics}"
        );
        let head = ask(&admin, b"HEAD /metrics HTTP/1.0\r\n\r\n");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        for (request, status) in [
            (&b"GET /healthz HTTP/1.1\r\n\r\n"[..], 200),
            (b"GET /readyz HTTP/1.1\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\n\r\n", 200),
            (b"GET /other HTTP/1.1\r\n\r\n", 404),
            (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
            (b"\x00\x01\x02 nonsense\r\n\r\n", 400),
        ] {
            let answer = ask(&admin, request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
        let unready = start(false);
        let answer = ask(&unready, b"GET /readyz HTTP/1.1\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("no list yet\n"),
            "{answer}"
        );
    }

    #[test]
    fn a_request_a_byte_at_a_time_has_an_end() {
        let admin = start(true);
        let ListenAddress::Tcp(address) = admin.address() else {
            panic!("not TCP")
        };
        let mut stream = TcpStream::connect(address).unwrap();
        let give_up = Instant::now() + 4 * PATIENCE;
        while stream.write_all(b"G").is_ok() {
            assert!(Instant::now() < give_up, "it is still read");
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_request_that_never_ends_is_ended() {
        let admin = start(true);
        let mut endless = b"GET /metrics HTTP/1.1\r\n".to_vec();
        endless.extend(b"x: y\r\n".repeat(60));
        endless.extend(vec![b'a'; 2 * MAX_REQUEST_LEN]);
        let answer = ask(&admin, &endless);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

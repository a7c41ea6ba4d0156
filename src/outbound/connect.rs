//! From a target to a connection that takes requests: addresses, sockets, TLS, HTTP/1.1.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet, spawn_local};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::error::OutboundFault;
use super::proxy::ProxyServer;
use super::request::{Payload, ViaProxy};
use super::target::{Place, Target};
use super::tls::{self, Tls};

/// What the head of an answer and a piece of its body may take in memory; hyper's smallest is 8 KiB.
pub(super) const MAX_HEAD_LEN: usize = 64 * 1024;

/// When the next address is tried beside one that does not answer: "Connection Attempt Delay" of RFC
/// 8305, section 5.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Addresses this old are not used any more while the name is resolved anew.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// Makes the connections of one endpoint.
pub(super) struct Connector {
    pub(super) target: Target,
    pub(super) tls: Option<Tls>,
    pub(super) proxy: Option<ProxyServer>,
    pub(super) resolver: Rc<Resolver>,
}

impl Connector {
    /// What requests have more because they go to a proxy that makes the call itself.
    pub(super) fn via_proxy(&self) -> Option<ViaProxy> {
        let proxy = self.proxy.as_ref().filter(|_| !self.target.is_tls);
        proxy.map(ProxyServer::via)
    }

    pub(super) async fn connect(&self) -> Result<Connection, OutboundFault> {
        let socket: Socket = match &self.target.place {
            Place::Unix(path) => Box::pin(
                UnixStream::connect(path)
                    .await
                    .map_err(|error| OutboundFault::Connect(describe(&error)))?,
            ),
            _ => {
                let mut stream = self.connect_tcp().await?;
                if let (Some(proxy), true) = (&self.proxy, self.target.is_tls) {
                    proxy.tunnel(&mut stream, &self.target).await?;
                }
                match &self.tls {
                    Some(tls) => Box::pin(handshake(tls, stream).await?),
                    None => Box::pin(stream),
                }
            }
        };
        Connection::new(socket).await
    }

    async fn connect_tcp(&self) -> Result<TcpStream, OutboundFault> {
        let result = self.connect_to_first().await;
        match &self.proxy {
            Some(_) => result.map_err(|fault| OutboundFault::Proxy(fault.to_string())),
            None => result,
        }
    }

    /// Connects to whichever address answers first, in their order but for those that do not answer.
    async fn connect_to_first(&self) -> Result<TcpStream, OutboundFault> {
        let mut addresses = self.resolver.addresses().await?;
        let mut attempts = JoinSet::new();
        let mut last = None;
        loop {
            if let Some(address) = addresses.pop_front() {
                attempts.spawn_local(TcpStream::connect(address));
            } else if attempts.is_empty() {
                return Err(OutboundFault::Connect(match last {
                    Some(error) => describe(&error),
                    None => "the name has no address".to_owned(),
                }));
            }
            let joined = if addresses.is_empty() {
                attempts.join_next().await
            } else {
                let next = timeout(NEXT_ADDRESS_AFTER, attempts.join_next()).await;
                next.unwrap_or_default()
            };
            match joined {
                Some(Ok(Ok(stream))) => {
                    // A request is written at once; waiting to fill a segment only delays it.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => last = Some(error),
                Some(Err(_)) | None => {}
            }
        }
    }
}

/// "connection refused" rather than "Connection refused (os error 111)".
pub(super) fn describe(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::Other => error.to_string(),
        kind => match kind.to_string() {
            kind if kind.starts_with("uncategorized") => error.to_string(),
            kind => kind,
        },
    };
    text.replace('\n', " ")
}

async fn handshake(
    tls: &Tls,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, OutboundFault> {
    TlsConnector::from(std::sync::Arc::clone(&tls.config))
        .connect(tls.name.clone(), stream)
        .await
        .map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            OutboundFault::Tls(match inner {
                Some(error) => tls::explain(error),
                None => format!("the handshake was cut off: {}", describe(&error)),
            })
        })
}

/// The addresses of a name: resolved at most once at a time, whoever waits for it, and kept.
pub(super) struct Resolver {
    name: Result<(String, u16), SocketAddr>,
    resolve_every: Duration,
    state: RefCell<Resolved>,
    done: Notify,
}

#[derive(Default)]
struct Resolved {
    addresses: VecDeque<SocketAddr>,
    at: Option<Instant>,
    failure: Option<String>,
    is_running: bool,
}

impl Resolver {
    /// `None` for what has no addresses.
    pub(super) fn new(place: &Place, resolve_every: Duration) -> Self {
        let name = match place {
            Place::Name(name, port) => Ok((name.clone(), *port)),
            Place::Address(address, port) => Err(SocketAddr::new(*address, *port)),
            Place::Unix(_) => Err(SocketAddr::from(([0, 0, 0, 0], 0))),
        };
        Self {
            name,
            resolve_every,
            state: RefCell::default(),
            done: Notify::new(),
        }
    }

    async fn addresses(self: &Rc<Self>) -> Result<VecDeque<SocketAddr>, OutboundFault> {
        let (name, port) = match &self.name {
            Ok(name) => name,
            Err(address) => return Ok(VecDeque::from([*address])),
        };
        let age = self.state.borrow().at.map(|at| at.elapsed());
        if age.is_none_or(|age| age >= self.resolve_every) && !self.state.borrow().is_running {
            self.state.borrow_mut().is_running = true;
            let (resolver, name, port) = (Rc::clone(self), name.clone(), *port);
            // A task of its own: a call that gives up does not begin a second one for the next.
            spawn_local(async move {
                let found = tokio::net::lookup_host((name.as_str(), port)).await;
                resolver.note(found.map(interleave));
            });
        }
        if age.is_none_or(|age| age >= STALE_AFTER) {
            self.done.notified().await;
        }
        let state = self.state.borrow();
        match (&state.failure, state.addresses.is_empty()) {
            (_, false) => Ok(state.addresses.clone()),
            (Some(failure), true) => Err(OutboundFault::Resolve(failure.clone())),
            (None, true) => Err(OutboundFault::Resolve("it has no address".to_owned())),
        }
    }

    /// Keeps what was found, or what was there before if nothing was.
    fn note(&self, found: io::Result<VecDeque<SocketAddr>>) {
        let mut state = self.state.borrow_mut();
        state.is_running = false;
        match found {
            Ok(addresses) => {
                state.addresses = addresses;
                state.at = Some(Instant::now());
                state.failure = None;
            }
            Err(error) => state.failure = Some(error.to_string().replace('\n', " ")),
        }
        drop(state);
        self.done.notify_waiters();
    }
}

/// One address of each family in turn, beginning with the one the system prefers (RFC 8305, section 4).
fn interleave(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let prefers_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == prefers_ipv6);
    let mut ordered = VecDeque::new();
    while !first.is_empty() || !second.is_empty() {
        ordered.extend(first.pop_front());
        ordered.extend(second.pop_front());
    }
    ordered
}

/// What hyper reads and writes.
trait Duplex: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Duplex for T {}
type Socket = Pin<Box<dyn Duplex>>;

/// A connection that takes one request at a time. Dropped, it is closed.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Payload>,
    pub(super) traffic: Rc<Traffic>,
    pub(super) opened: Instant,
    /// When it is not to be used any more, while it is idle.
    pub(super) expires: Instant,
    /// It was used, or has lain unused: it may have been closed meanwhile.
    pub(super) is_kept: bool,
    task: AbortHandle,
}

/// What went over a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) read: Cell<u64>,
    pub(super) written: Cell<u64>,
    /// Why it ended, unless in peace.
    pub(super) failure: RefCell<Option<hyper::Error>>,
}

impl Connection {
    async fn new(socket: Socket) -> Result<Self, OutboundFault> {
        let traffic = Rc::new(Traffic::default());
        let io = Counted {
            socket,
            traffic: Rc::clone(&traffic),
            scratch: vec![0; 16 * 1024].into(),
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_LEN)
            .handshake(io)
            .await
            .map_err(|error| OutboundFault::Connect(error.to_string()))?;
        let ended = Rc::clone(&traffic);
        let task = spawn_local(async move {
            if let Err(error) = connection.await {
                *ended.failure.borrow_mut() = Some(error);
            }
        });
        Ok(Self {
            sender,
            traffic,
            opened: Instant::now(),
            expires: Instant::now(),
            is_kept: false,
            task: task.abort_handle(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket of tokio as hyper wants it, counting what passes. The copy by way of `scratch` is the price
/// of doing without unsafe code.
struct Counted {
    socket: Socket,
    traffic: Rc<Traffic>,
    scratch: Box<[u8]>,
}

impl hyper::rt::Read for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut out: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let len = this.scratch.len().min(out.remaining());
        let mut buffer = ReadBuf::new(&mut this.scratch[..len]);
        ready!(this.socket.as_mut().poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        this.traffic
            .read
            .set(this.traffic.read.get() + read.len() as u64);
        out.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl Counted {
    fn wrote(&self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(len) = result {
            let written = &self.traffic.written;
            written.set(written.get() + len as u64);
        }
        Poll::Ready(result)
    }
}

impl hyper::rt::Write for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(this.socket.as_mut().poll_write(context, bytes));
        this.wrote(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(this.socket.as_mut().poll_write_vectored(context, slices));
        this.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.as_mut().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.as_mut().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"];
        let ordered = interleave(addresses.iter().map(|address| address.parse().unwrap()));
        let shown: Vec<_> = ordered.iter().map(ToString::to_string).collect();
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"];
        assert_eq!(shown, expected);
    }
}

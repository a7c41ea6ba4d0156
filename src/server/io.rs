//! What a worker asks of the runtime: listeners, sockets, sleep, tasks, the clocks. A thin layer over
//! monoio, so that the unit tests of this room can run whole workers on a simulated one.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::{TcpListener, UnixListener, UnixStream};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use socket2::SockRef;

pub(super) use monoio::io::{CancelHandle, Canceller};
pub(super) use nix::sys::socket::Shutdown;
/// The fine clock, for what the coarse one is too coarse for.
pub(super) use std::time::Instant;

/// How long an accept may wait that must not wait at all: see [`CoreListener::new`].
const ACCEPT_PATIENCE: Duration = Duration::from_millis(1);

/// A listener as this core's driver has it.
pub(super) enum CoreListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl CoreListener {
    /// Takes a listening socket over, on the thread that will accept.
    pub(super) fn new(socket: OwnedFd, is_unix: bool, is_io_uring: bool) -> io::Result<Self> {
        let options = SockRef::from(&socket);
        // monoio leaves Unix listeners blocking on epoll, where a second accept then stops the
        // whole thread.
        options.set_nonblocking(!is_io_uring)?;
        // All who hold the socket share that flag, and during a hand-over one of them may need it
        // the other way. So that an accept on epoll does not wait for ever then; a ring does not
        // mind.
        options.set_read_timeout(Some(ACCEPT_PATIENCE))?;
        Ok(if is_unix {
            Self::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Self::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    /// Turns away whoever connects from now on.
    pub(super) fn shutdown(&self) {
        let fd = self.raw_fd();
        // It fails where another core that shares the listener was first.
        let _ = nix::sys::socket::shutdown(fd, Shutdown::Both);
    }

    /// A connection that waits to be accepted, if there is one.
    pub(super) fn try_accept(&self) -> io::Result<Socket> {
        // SAFETY: the listener owns the descriptor and outlives the borrow.
        let listener = unsafe { BorrowedFd::borrow_raw(self.raw_fd()) };
        // Not made nonblocking for it: another process may go on with it.
        let mut fds = [PollFd::new(listener, PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Should somebody else be quicker, it waits for `ACCEPT_PATIENCE`.
        Ok(Socket(SockRef::from(&listener).accept()?.0.into()))
    }

    /// Ends an accept that waits on a ring though it was cancelled: where the cancelling found it just
    /// woken, and it then found that another process had been quicker, it waits on. To be called on
    /// the listener's core, until the accept has ended.
    pub(super) fn interrupt_accept(&self) {
        if let Some(ring) = super::driver::ring() {
            super::driver::cancel(ring, self.raw_fd());
        }
    }

    fn raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }

    /// Never dropped while in flight, but cancelled: monoio 0.2.4 leaks the connection it gets then.
    pub(super) async fn accept(&self, cancel: CancelHandle) -> io::Result<Socket> {
        let fd = match self {
            Self::Tcp(listener) => listener.cancelable_accept(cancel).await?.0.into_raw_fd(),
            Self::Unix(listener) => listener.cancelable_accept(cancel).await?.0.into_raw_fd(),
        };
        // SAFETY: `into_raw_fd` hands over a descriptor that is open and that nobody else owns.
        Ok(Socket(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// A connected socket, of a peer that was accepted.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Of another process.
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Makes it this core's: what names it, its receiving and its sending side. TCP sockets are
    /// wrapped as Unix streams too: monoio's calls only use the file descriptor, and one type
    /// means one pump.
    pub(super) fn attach(self, is_io_uring: bool) -> io::Result<(Handle, Receiver, Sender)> {
        let options = SockRef::from(&self.0);
        // Sockets accepted by a ring have neither flag set. epoll needs the second; a ring must
        // not have it, or its reads fail instead of waiting.
        options.set_cloexec(true)?;
        options.set_nonblocking(!is_io_uring)?;
        // These two fail on Unix sockets, which need neither: an ACK must not wait for another
        // packet, and a peer that vanished without a FIN must be noticed some day.
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_keepalive(true);
        let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(self.0))?;
        let handle = Handle(stream.as_raw_fd());
        let (receiver, sender) = stream.into_split();
        Ok((handle, Receiver(receiver), Sender(sender)))
    }
}

/// Names an attached socket for as long as its receiving side lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handle(RawFd);

impl Handle {
    /// Ends reading, writing or both; what is in flight completes.
    pub(super) fn shutdown(self, how: Shutdown) {
        // It fails on a socket the peer has reset, which is as closed as it gets.
        let _ = nix::sys::socket::shutdown(self.0, how);
    }

    /// The same socket once more, for another process.
    pub(super) fn duplicate(self) -> io::Result<OwnedFd> {
        // SAFETY: the socket is open for as long as its receiving side lives, which is what this
        // handle is used within.
        unsafe { BorrowedFd::borrow_raw(self.0) }.try_clone_to_owned()
    }

    /// Ends a read that waits on a ring, with ECANCELED; what it received already is not lost. To be
    /// called on the socket's core, and not while something is written.
    pub(super) fn interrupt_read(self) {
        if let Some(ring) = super::driver::ring() {
            super::driver::cancel(ring, self.0);
        }
    }
}

/// The receiving side of a socket. A read is never dropped while in flight: monoio 0.2.4 loses data
/// then.
pub(super) struct Receiver(OwnedReadHalf<UnixStream>);

impl Receiver {
    #[inline]
    pub(super) fn read<T: IoBufMut>(
        &mut self,
        buffer: T,
    ) -> impl Future<Output = BufResult<usize, T>> {
        self.0.read(buffer)
    }
}

/// The sending side of a socket.
pub(super) struct Sender(OwnedWriteHalf<UnixStream>);

impl Sender {
    #[inline]
    pub(super) fn write<T: IoBuf>(
        &mut self,
        buffer: T,
    ) -> impl Future<Output = BufResult<usize, T>> {
        self.0.write(buffer)
    }
}

/// Whole milliseconds: monoio's timers know nothing shorter.
pub(super) fn sleep(duration: Duration) -> impl Future<Output = ()> {
    monoio::time::sleep(duration)
}

/// Starts a task on this core. Its handle is dropped here, on its own thread: monoio 0.2.4 has a
/// race when it is dropped on another.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// The monotonic clock, for what is measured: 20 ns to read.
pub(super) fn precise_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}

/// The coarse monotonic clock: its resolution is a scheduler tick, 1 to 4 ms, and it costs 5 ns.
pub(super) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map(Duration::from)
        .unwrap_or_default()
}

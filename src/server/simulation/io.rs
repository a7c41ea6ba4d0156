//! The layer that `server::io` is, as the unit tests have it: the same names, and behind each of them
//! either monoio, for the tests that start real servers, or the simulator of the thread. What is not
//! named here is the same in both.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut, Slice, SliceMut};

use super::network::{Cancel, Descriptor, Half};
use super::runtime::current;
use crate::server::monoio_io as real;

pub(in crate::server) use real::*;

/// A listener of either kind.
pub(in crate::server) enum CoreListener {
    Monoio(real::CoreListener),
    Simulated(usize),
}

impl CoreListener {
    pub(in crate::server) fn new(
        socket: OwnedFd,
        is_unix: bool,
        is_io_uring: bool,
    ) -> io::Result<Self> {
        real::CoreListener::new(socket, is_unix, is_io_uring).map(Self::Monoio)
    }

    pub(in crate::server) fn shutdown(&self) {
        match self {
            Self::Monoio(listener) => listener.shutdown(),
            Self::Simulated(listener) => simulator().shut_listener(*listener),
        }
    }

    pub(in crate::server) fn try_accept(&self) -> io::Result<Socket> {
        match self {
            Self::Monoio(listener) => listener.try_accept().map(Socket::Monoio),
            Self::Simulated(listener) => simulator().try_accept(*listener).map(Socket::Simulated),
        }
    }

    /// Cancelling ends a simulated accept at once.
    pub(in crate::server) fn interrupt_accept(&self) {
        if let Self::Monoio(listener) = self {
            listener.interrupt_accept();
        }
    }

    pub(in crate::server) async fn accept(&self, cancel: CancelHandle) -> io::Result<Socket> {
        match (self, cancel) {
            (Self::Monoio(listener), CancelHandle::Monoio(cancel)) => {
                listener.accept(cancel).await.map(Socket::Monoio)
            }
            (Self::Simulated(listener), CancelHandle::Simulated(cancel)) => {
                let descriptor = simulator().accept(*listener, &cancel).await;
                descriptor.map(Socket::Simulated)
            }
            _ => unreachable!("both are of the thread's runtime"),
        }
    }
}

/// Ends accepts.
pub(in crate::server) enum Canceller {
    Monoio(real::Canceller),
    Simulated(Rc<Cancel>),
}

impl Canceller {
    pub(in crate::server) fn new() -> Self {
        match current() {
            None => Self::Monoio(real::Canceller::new()),
            Some(_) => Self::Simulated(Rc::default()),
        }
    }

    pub(in crate::server) fn handle(&self) -> CancelHandle {
        match self {
            Self::Monoio(canceller) => CancelHandle::Monoio(canceller.handle()),
            Self::Simulated(cancel) => CancelHandle::Simulated(Rc::clone(cancel)),
        }
    }

    pub(in crate::server) fn cancel(self) -> Self {
        match self {
            Self::Monoio(canceller) => Self::Monoio(canceller.cancel()),
            Self::Simulated(cancel) => {
                cancel.cancel();
                Self::Simulated(Rc::default())
            }
        }
    }
}

/// What an accept is told by.
#[derive(Clone)]
pub(in crate::server) enum CancelHandle {
    Monoio(real::CancelHandle),
    Simulated(Rc<Cancel>),
}

/// A connected socket.
#[derive(Debug)]
pub(in crate::server) enum Socket {
    Monoio(real::Socket),
    Simulated(Descriptor),
}

impl Socket {
    pub(in crate::server) const fn new(socket: OwnedFd) -> Self {
        Self::Monoio(real::Socket::new(socket))
    }

    pub(in crate::server) fn attach(
        self,
        is_io_uring: bool,
    ) -> io::Result<(Handle, Receiver, Sender)> {
        Ok(match self {
            Self::Monoio(socket) => {
                let (handle, receiver, sender) = socket.attach(is_io_uring)?;
                (
                    Handle::Monoio(handle),
                    Receiver::Monoio(receiver),
                    Sender::Monoio(sender),
                )
            }
            Self::Simulated(descriptor) => {
                let (link, receiver, sender) = descriptor.attach()?;
                (
                    Handle::Simulated(link),
                    Receiver::Simulated(receiver),
                    Sender::Simulated(sender),
                )
            }
        })
    }
}

/// Names an attached socket.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) enum Handle {
    Monoio(real::Handle),
    Simulated(usize),
}

impl Handle {
    pub(in crate::server) fn shutdown(self, how: Shutdown) {
        match self {
            Self::Monoio(handle) => handle.shutdown(how),
            Self::Simulated(link) => simulator().shutdown(link, how),
        }
    }

    /// Nothing simulated goes to another process.
    pub(in crate::server) fn duplicate(self) -> io::Result<OwnedFd> {
        match self {
            Self::Monoio(handle) => handle.duplicate(),
            Self::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(in crate::server) fn interrupt_read(self) {
        if let Self::Monoio(handle) = self {
            handle.interrupt_read();
        }
    }
}

/// The receiving side of a socket.
pub(in crate::server) enum Receiver {
    Monoio(real::Receiver),
    Simulated(Half),
}

impl Receiver {
    pub(in crate::server) async fn read<T: Input>(&mut self, mut buffer: T) -> BufResult<usize, T> {
        match self {
            Self::Monoio(receiver) => receiver.read(buffer).await,
            Self::Simulated(half) => {
                let result = half.read(buffer.room()).await;
                let result = result.map(|bytes| {
                    buffer.fill(&bytes);
                    bytes.len()
                });
                (result, buffer)
            }
        }
    }
}

/// The sending side of a socket.
pub(in crate::server) enum Sender {
    Monoio(real::Sender),
    Simulated(Half),
}

impl Sender {
    pub(in crate::server) async fn write<T: Output>(&mut self, buffer: T) -> BufResult<usize, T> {
        match self {
            Self::Monoio(sender) => sender.write(buffer).await,
            Self::Simulated(half) => (half.write(buffer.bytes()).await, buffer),
        }
    }
}

/// A buffer to read into, without pointers.
pub(in crate::server) trait Input: IoBufMut {
    fn room(&self) -> usize;
    fn fill(&mut self, bytes: &[u8]);
}

impl Input for Vec<u8> {
    fn room(&self) -> usize {
        self.capacity()
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.clear();
        self.extend_from_slice(bytes);
    }
}

impl Input for SliceMut<Vec<u8>> {
    fn room(&self) -> usize {
        self.end() - self.begin()
    }

    fn fill(&mut self, bytes: &[u8]) {
        let begin = self.begin();
        self.get_mut().truncate(begin);
        self.get_mut().extend_from_slice(bytes);
    }
}

/// A buffer to write from, without pointers.
pub(in crate::server) trait Output: IoBuf {
    fn bytes(&self) -> &[u8];
}

impl Output for Slice<Vec<u8>> {
    fn bytes(&self) -> &[u8] {
        &self.get_ref()[self.begin()..self.end()]
    }
}

/// The fine clock.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) enum Instant {
    Real(real::Instant),
    Simulated(Duration),
}

impl Instant {
    pub(in crate::server) fn now() -> Self {
        match current() {
            None => Self::Real(real::Instant::now()),
            Some(simulator) => Self::Simulated(simulator.now()),
        }
    }

    pub(in crate::server) fn elapsed(self) -> Duration {
        match self {
            Self::Real(instant) => instant.elapsed(),
            Self::Simulated(then) => simulator().now() - then,
        }
    }
}

pub(in crate::server) async fn sleep(duration: Duration) {
    match current() {
        None => real::sleep(duration).await,
        Some(simulator) => simulator.sleep(duration).await,
    }
}

pub(in crate::server) fn spawn(task: impl Future<Output = ()> + 'static) {
    match current() {
        None => real::spawn(task),
        Some(simulator) => simulator.spawn(task),
    }
}

pub(in crate::server) fn now() -> Duration {
    match current() {
        None => real::now(),
        Some(simulator) => simulator.coarse_now(),
    }
}

pub(in crate::server) fn precise_now() -> Duration {
    match current() {
        None => real::precise_now(),
        Some(simulator) => simulator.now(),
    }
}

fn simulator() -> Rc<super::runtime::Simulator> {
    current().expect("what is simulated has a simulator")
}

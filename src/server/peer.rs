//! One connected peer as its core sees it: what the tasks that read, write and watch it share.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::RawFd;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::buf::IoBuf;
use monoio::io::{AsyncWriteRent, OwnedWriteHalf};
use monoio::net::UnixStream;
use nix::sys::socket::{Shutdown, shutdown};

use crate::connection::Connection;

/// The sending side. TCP sockets are wrapped as Unix streams too: monoio's calls only use the file
/// descriptor, and one type means one pump.
pub(super) type Sender = OwnedWriteHalf<UnixStream>;

/// Wakes one task of the same thread; a wake before the wait is not lost.
#[derive(Default)]
pub(super) struct Signal {
    raised: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Signal {
    pub(super) fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    pub(super) async fn wait(&self) {
        poll_fn(|context| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            self.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// What the tasks of one connection share.
pub(super) struct Peer {
    pub(super) connection: RefCell<Connection>,
    /// For `shutdown` only, which ends reads and writes that are in flight and gives their buffers
    /// back. Dropping a read or write future instead loses data in monoio 0.2.4, and so does a
    /// timeout around one.
    fd: RawFd,
    /// Out of here while someone writes, so that frames never interleave.
    sender: Cell<Option<Sender>>,
    sender_back: Signal,
    /// Whole frames from tickets and the drain, not yet written.
    pub(super) late: RefCell<Vec<u8>>,
    /// There is something in `late`, or the connection ended.
    pub(super) late_ready: Signal,
    /// A late answer went out: a full connection may be read again.
    pub(super) room: Signal,
    /// Whether a task writes `late`. Connections without late answers have none.
    pub(super) has_flusher: Cell<bool>,
    pub(super) ended: Cell<bool>,
    /// When something was last received.
    pub(super) active_at: Cell<Duration>,
    /// When the write under way must be done.
    write_by: Cell<Option<Duration>>,
    /// When a connection that says goodbye is cut.
    pub(super) close_by: Cell<Option<Duration>>,
}

impl Peer {
    pub(super) fn new(connection: Connection, fd: RawFd, sender: Sender, now: Duration) -> Self {
        Self {
            connection: RefCell::new(connection),
            fd,
            sender: Cell::new(Some(sender)),
            sender_back: Signal::default(),
            late: RefCell::default(),
            late_ready: Signal::default(),
            room: Signal::default(),
            has_flusher: Cell::new(false),
            ended: Cell::new(false),
            active_at: Cell::new(now),
            write_by: Cell::new(None),
            close_by: Cell::new(None),
        }
    }

    /// Ends reading, writing or both; what is in flight completes.
    pub(super) fn shutdown(&self, how: Shutdown) {
        // Once the pump has ended the descriptor may be closed, and its number another socket's.
        if !self.ended.get() {
            // It fails on a socket the peer has reset, which is as closed as it gets.
            let _ = shutdown(self.fd, how);
        }
    }

    pub(super) fn is_writing(&self) -> bool {
        self.write_by.get().is_some()
    }

    /// Whether the write under way takes too long.
    pub(super) fn write_expired(&self, now: Duration) -> bool {
        self.write_by.get().is_some_and(|by| now >= by)
    }

    /// Writes `buffer[start..end]`, and gives the buffer back. `by` is when it must be done.
    pub(super) async fn write(
        &self,
        mut buffer: Vec<u8>,
        mut start: usize,
        end: usize,
        by: Duration,
    ) -> (bool, Vec<u8>) {
        let mut sender = loop {
            match self.sender.take() {
                Some(sender) => break sender,
                None => self.sender_back.wait().await,
            }
        };
        self.write_by.set(Some(by));
        while start < end && !self.ended.get() {
            let (result, slice) = sender.write(buffer.slice(start..end)).await;
            buffer = slice.into_inner();
            match result {
                Ok(written) if written > 0 => start += written,
                _ => break,
            }
        }
        self.write_by.set(None);
        self.sender.set(Some(sender));
        self.sender_back.raise();
        (start == end, buffer)
    }
}

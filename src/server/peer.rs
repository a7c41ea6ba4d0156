//! One connected peer as its core sees it: what the tasks that read, write and watch it share.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::buf::IoBuf;

use super::io::{Handle, Sender, Shutdown, now};
use crate::connection::Connection;

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
        poll_fn(|context| self.poll(context)).await;
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.raised.replace(false) {
            return Poll::Ready(());
        }
        // Mostly it is the same task again, and its waker need not be made once more.
        let waker = match self.waiting.take() {
            Some(known) if known.will_wake(context.waker()) => known,
            _ => context.waker().clone(),
        };
        self.waiting.set(Some(waker));
        Poll::Pending
    }
}

/// Who writes. Whoever wants to while the other does goes next, so that frames go out in the order
/// they were made and a goodbye is the last of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Pump,
    Flusher,
}

impl Lane {
    const fn other(self) -> Self {
        match self {
            Self::Pump => Self::Flusher,
            Self::Flusher => Self::Pump,
        }
    }
}

/// Late answers not yet written, in bytes, from which on a connection is not read: what its peer
/// does not take must not pile up.
const LATE_LIMIT: usize = 64 * 1024;

/// What the tasks of one connection share.
pub(super) struct Peer {
    pub(super) connection: RefCell<Connection>,
    /// For `shutdown` only, which ends reads and writes that are in flight and gives their buffers
    /// back. Dropping a read or write future instead loses data in monoio 0.2.4, and so does a
    /// timeout around one.
    handle: Handle,
    /// Out of here while someone writes, so that frames never interleave.
    sender: Cell<Option<Sender>>,
    /// Which lanes wait for it, by `Lane`, and what wakes them.
    waiting: [Cell<bool>; 2],
    sender_back: [Signal; 2],
    /// Whose turn it is, where someone waited.
    next: Cell<Option<Lane>>,
    /// Whole frames from tickets and the drain, not yet written.
    pub(super) late: RefCell<Vec<u8>>,
    /// There is something in `late`, or the connection ended.
    pub(super) late_ready: Signal,
    /// A late answer came or went out: a full connection may be read again.
    pub(super) room: Signal,
    /// Whether a task writes `late`. Connections without late answers have none.
    pub(super) has_flusher: Cell<bool>,
    /// Whether late answers can no longer be written.
    pub(super) cut: Cell<bool>,
    pub(super) ended: Cell<bool>,
    /// Another process goes on with it.
    pub(super) handed_over: Cell<bool>,
    /// It is not read any more, so that it can go to another process soon.
    pub(super) must_go: Cell<bool>,
    /// Ends a read on epoll, see [`interrupt`](Self::interrupt).
    pub(super) interrupted: Signal,
    /// What it is called in the log, if its frames are logged: core and number on it.
    pub(super) traced: Option<String>,
    /// When something was last received.
    pub(super) active_at: Cell<Duration>,
    /// When the write under way must be done.
    write_by: Cell<Option<Duration>>,
    /// When a connection that says goodbye is cut.
    pub(super) close_by: Cell<Option<Duration>>,
}

impl Peer {
    pub(super) fn new(
        connection: Connection,
        handle: Handle,
        sender: Sender,
        now: Duration,
    ) -> Self {
        Self {
            connection: RefCell::new(connection),
            handle,
            sender: Cell::new(Some(sender)),
            waiting: Default::default(),
            sender_back: Default::default(),
            next: Cell::new(None),
            late: RefCell::default(),
            late_ready: Signal::default(),
            room: Signal::default(),
            has_flusher: Cell::new(false),
            cut: Cell::new(false),
            ended: Cell::new(false),
            handed_over: Cell::new(false),
            must_go: Cell::new(false),
            interrupted: Signal::default(),
            traced: None,
            active_at: Cell::new(now),
            write_by: Cell::new(None),
            close_by: Cell::new(None),
        }
    }

    /// Ends reading, writing or both; what is in flight completes.
    pub(super) fn shutdown(&self, how: Shutdown) {
        // Once the pump has ended the descriptor may be closed, and its number another socket's.
        if !self.ended.get() {
            self.handle.shutdown(how);
        }
    }

    /// Ends a read that waits, without loss, so that the pump looks at what else there is to do.
    pub(super) fn interrupt(&self) {
        self.interrupted.raise();
        if !self.ended.get() && !self.is_writing() {
            self.handle.interrupt_read();
        }
    }

    /// The same socket once more, for another process.
    pub(super) fn duplicate(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        self.handle.duplicate()
    }

    pub(super) fn is_writing(&self) -> bool {
        self.write_by.get().is_some()
    }

    /// Whether the write under way takes too long.
    pub(super) fn write_expired(&self, now: Duration) -> bool {
        self.write_by.get().is_some_and(|by| now >= by)
    }

    /// Whether so many late answers wait to be written that more must not be asked for.
    pub(super) fn is_clogged(&self) -> bool {
        self.late.borrow().len() >= LATE_LIMIT
    }

    /// Writes `buffer[start..ends[0]]`, then what follows up to `ends[1]`, and gives the buffer
    /// back. `timeout` is how long the peer may take none of it, from `began`, which is now, or from
    /// the last that it took.
    pub(super) async fn write(
        &self,
        lane: Lane,
        mut buffer: Vec<u8>,
        mut start: usize,
        ends: [usize; 2],
        mut began: Duration,
        timeout: Duration,
    ) -> (bool, Vec<u8>) {
        let (mut sender, waited) = self.take_sender(lane).await;
        if waited {
            began = now();
        }
        'ends: for end in ends {
            while start < end {
                if self.ended.get() {
                    break 'ends;
                }
                self.write_by.set(Some(began.saturating_add(timeout)));
                let (result, slice) = sender.write(buffer.slice(start..end)).await;
                buffer = slice.into_inner();
                match result {
                    Ok(written) if written > 0 => start += written,
                    _ => break 'ends,
                }
                if start < ends[1] {
                    began = now();
                }
            }
        }
        self.write_by.set(None);
        self.give_sender(lane, sender);
        (start >= ends[1], buffer)
    }

    /// The sender, and whether it had to be waited for.
    async fn take_sender(&self, lane: Lane) -> (Sender, bool) {
        let mut waited = false;
        self.waiting[lane as usize].set(true);
        loop {
            if self.next.get() != Some(lane.other())
                && let Some(sender) = self.sender.take()
            {
                self.waiting[lane as usize].set(false);
                self.next.set(None);
                return (sender, waited);
            }
            waited = true;
            self.sender_back[lane as usize].wait().await;
        }
    }

    fn give_sender(&self, lane: Lane, sender: Sender) {
        self.sender.set(Some(sender));
        let other = lane.other();
        if self.waiting[other as usize].get() {
            self.next.set(Some(other));
            self.sender_back[other as usize].raise();
        }
    }
}

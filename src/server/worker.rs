//! One core: its agent, its peers, its share of the connections, its clock.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures_util::{FutureExt, StreamExt};
use monoio::io::{CancelHandle, Canceller, Splitable};
use monoio::net::{TcpListener, UnixListener, UnixStream};
use nix::errno::Errno;
use nix::sys::socket::Shutdown;
use nix::time::{ClockId, clock_gettime};
use slab::Slab;
use socket2::SockRef;

use super::buffers::{Buffers, output_len};
use super::config::ServerConfig;
use super::peer::Peer;
use super::pump;
use super::stats::{Counters, Stats};
use crate::agent::{Agent, AnswerQueue, Context, Fault, LateAnswer, Notified, finish_late};
use crate::connection::{Connection, NotifyId, State};
use crate::spop::{PREFIX_LEN, Status};

/// How often timeouts are looked at, and so how late one may be noticed.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The same for the deadlines of tickets, while there are any.
const TICKET_INTERVAL: Duration = Duration::from_millis(10);

/// The same during a drain.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

/// A draining connection that received nothing for this long is told goodbye: what HAProxy sent
/// before it could know has arrived by then.
const QUIET_AFTER: Duration = Duration::from_millis(50);

/// How long a peer may take to close after the last frame.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How long to leave accept alone after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What other threads tell a core.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A connection that another core accepted.
    Connection(OwnedFd),
    /// A ticket was sent or dropped.
    Answer(LateAnswer),
    /// Stop accepting, answer what is in flight, end.
    Drain,
    /// The last peer or task of a draining core has gone.
    Empty,
}

/// How many connections each core has. Looked at once a connection, never once a frame.
#[derive(Debug)]
pub(super) struct Placement {
    counts: Mutex<Vec<usize>>,
    max: usize,
}

impl Placement {
    pub(super) fn new(cores: usize, max: usize) -> Self {
        Self {
            counts: Mutex::new(vec![0; cores]),
            max,
        }
    }

    /// The core with the fewest connections, `here` if it is one of them; `None` at the limit.
    ///
    /// The kernel's choice among SO_REUSEPORT sockets is a hash: with the few long connections
    /// HAProxy opens it leaves cores idle (4 connections on 4 cores: in 91 % of the cases).
    fn place(&self, here: usize) -> Option<usize> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.iter().sum::<usize>() >= self.max {
            return None;
        }
        let least = counts.iter().copied().min()?;
        let target = if counts[here] == least {
            here
        } else {
            counts.iter().position(|&n| n == least)?
        };
        counts[target] += 1;
        Some(target)
    }

    fn leave(&self, core: usize) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)[core] -= 1;
    }
}

/// Tickets of one core answer through its inbox.
pub(super) struct Inbox(pub(super) UnboundedSender<Inbound>);

impl AnswerQueue for Inbox {
    fn push(&self, answer: LateAnswer) {
        // The core is gone when this fails, and with it the connection.
        let _ = self.0.unbounded_send(Inbound::Answer(answer));
    }
}

/// What a worker is made of.
pub(super) struct Parts<A> {
    pub(super) index: usize,
    pub(super) is_io_uring: bool,
    pub(super) config: Arc<ServerConfig>,
    pub(super) agent: A,
    pub(super) placement: Arc<Placement>,
    pub(super) inboxes: Arc<[UnboundedSender<Inbound>]>,
}

/// One core.
pub(super) struct Worker<A> {
    index: usize,
    is_io_uring: bool,
    pub(super) config: Arc<ServerConfig>,
    pub(super) agent: RefCell<A>,
    pub(super) context: Context,
    pub(super) buffers: Buffers,
    pub(super) counters: Counters,
    peers: RefCell<Slab<Rc<Peer>>>,
    placement: Arc<Placement>,
    inboxes: Arc<[UnboundedSender<Inbound>]>,
    /// The next NOTIFY's serial; unique on this core, so a late answer never finds the wrong
    /// NOTIFY, whatever became of its connection's key. NOTIFYs without a ticket take one too: the
    /// agent may have drawn a ticket and then failed, and that ticket must find nothing.
    serial: Cell<u64>,
    /// Whether a task watches the deadlines of tickets.
    watches_tickets: Cell<bool>,
    /// Tasks that hold a socket and are not waited for by `peers`: the core ends after them, for
    /// what is in flight when a monoio runtime is dropped is never freed.
    tasks: Cell<usize>,
    /// When a drain must be over.
    drain_by: Cell<Option<Duration>>,
}

/// The coarse monotonic clock: its resolution is a scheduler tick, 1 to 4 ms, and it costs 5 ns.
pub(super) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map(Duration::from)
        .unwrap_or_default()
}

impl<A: Agent + 'static> Worker<A> {
    pub(super) fn new(parts: Parts<A>) -> Rc<Self> {
        let Parts {
            index,
            is_io_uring,
            config,
            agent,
            placement,
            inboxes,
        } = parts;
        let context = Context::new(
            config.agent_deadline,
            config.fallback.clone(),
            config.never_empty_acks,
            Arc::new(Inbox(inboxes[index].clone())),
        );
        Rc::new(Self {
            index,
            is_io_uring,
            config,
            agent: RefCell::new(agent),
            context,
            buffers: Buffers::default(),
            counters: Counters::default(),
            peers: RefCell::default(),
            placement,
            inboxes,
            serial: Cell::new(0),
            watches_tickets: Cell::new(false),
            tasks: Cell::new(0),
            drain_by: Cell::new(None),
        })
    }

    /// Serves until drained.
    pub(super) async fn run(
        self: Rc<Self>,
        listeners: Vec<CoreListener>,
        mut inbox: UnboundedReceiver<Inbound>,
    ) -> Stats {
        let listeners: Vec<_> = listeners.into_iter().map(Rc::new).collect();
        let mut accepting = Canceller::new();
        for listener in &listeners {
            let task = Rc::clone(&self).accept(Rc::clone(listener), accepting.handle());
            self.spawn_counted(task);
        }
        spawn(sweep(Rc::downgrade(&self)));
        while let Some(message) = inbox.next().await {
            match message {
                Inbound::Connection(socket) => self.adopt(socket),
                Inbound::Answer(answer) => self.answer(answer),
                Inbound::Drain => {
                    if self.drain_by.get().is_none() {
                        let drain_by = now().saturating_add(self.config.drain_timeout);
                        self.drain_by.set(Some(drain_by));
                        spawn(drain(Rc::downgrade(&self)));
                    }
                    // Nobody may connect to a listener that nobody will accept from.
                    for listener in &listeners {
                        let _ = nix::sys::socket::shutdown(listener.raw_fd(), Shutdown::Both);
                    }
                    // A dropped accept future leaks the connection it gets in monoio 0.2.4, so it
                    // is cancelled. The shutdown does not do: epoll is not told of it where the
                    // socket is a Unix one.
                    accepting = accepting.cancel();
                }
                Inbound::Empty => {}
            }
            if self.has_ended() {
                break;
            }
        }
        self.counters.snapshot()
    }

    /// Whether a drain has come to its end.
    fn has_ended(&self) -> bool {
        self.drain_by.get().is_some() && self.peers.borrow().is_empty() && self.tasks.get() == 0
    }

    fn note_end(&self) {
        if self.has_ended() {
            let _ = self.inboxes[self.index].unbounded_send(Inbound::Empty);
        }
    }

    fn spawn_counted(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.tasks.set(self.tasks.get() + 1);
        let worker = Rc::clone(self);
        spawn(async move {
            task.await;
            worker.tasks.set(worker.tasks.get() - 1);
            worker.note_end();
        });
    }

    async fn accept(self: Rc<Self>, listener: Rc<CoreListener>, cancel: CancelHandle) {
        loop {
            match listener.accept(cancel.clone()).await {
                Ok(socket) => self.place(socket),
                Err(_) if self.drain_by.get().is_some() => return,
                // The cores share a Unix listener, and another one was told to drain first.
                Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => return,
                Err(error) => {
                    log::warn!("accept failed, next try in {ACCEPT_PAUSE:?}: {error}");
                    monoio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a new connection to the core that has the fewest.
    fn place(self: &Rc<Self>, socket: OwnedFd) {
        match self.placement.place(self.index) {
            None => self.counters.connections_refused.add(1),
            Some(target) if target == self.index => self.adopt(socket),
            Some(target) => {
                // The core is gone when this fails, in a drain; dropping the socket closes it.
                if self.inboxes[target]
                    .unbounded_send(Inbound::Connection(socket))
                    .is_err()
                {
                    self.placement.leave(target);
                }
            }
        }
    }

    /// Serves a connection on this core.
    fn adopt(self: &Rc<Self>, socket: OwnedFd) {
        self.counters.connections.add(1);
        match self.prepare(socket) {
            Ok(stream) => {
                let (fd, now) = (stream.as_raw_fd(), now());
                let (receiver, sender) = stream.into_split();
                let connection = Connection::new(self.config.limits, now);
                let peer = Rc::new(Peer::new(connection, fd, sender, now));
                let key = self.peers.borrow_mut().insert(Rc::clone(&peer));
                spawn(Rc::clone(self).attend(key, peer, receiver));
            }
            Err(error) => {
                log::warn!("a connection could not be set up: {error}");
                self.placement.leave(self.index);
            }
        }
    }

    fn prepare(&self, socket: OwnedFd) -> io::Result<UnixStream> {
        let options = SockRef::from(&socket);
        // Sockets accepted by a ring have neither flag set. epoll needs the second; a ring must
        // not have it, or its reads fail instead of waiting.
        options.set_cloexec(true)?;
        options.set_nonblocking(!self.is_io_uring)?;
        // These two fail on Unix sockets, which need neither: an ACK must not wait for another
        // packet, and a peer that vanished without a FIN must be noticed some day.
        let _ = options.set_tcp_nodelay(true);
        let _ = options.set_keepalive(true);
        UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))
    }

    /// Runs a peer's pump to its end, whatever end that is, and forgets the peer.
    async fn attend(
        self: Rc<Self>,
        key: usize,
        peer: Rc<Peer>,
        receiver: monoio::io::OwnedReadHalf<UnixStream>,
    ) {
        let pump = pump::pump(&self, key, &peer, receiver);
        // monoio lets a panic of a task take the whole core with it.
        if AssertUnwindSafe(pump).catch_unwind().await.is_err() {
            log::error!("a connection was dropped after a panic in its handling, please report it");
        }
        peer.shutdown(Shutdown::Both);
        peer.ended.set(true);
        peer.late_ready.raise();
        self.peers.borrow_mut().remove(key);
        self.placement.leave(self.index);
        self.note_end();
    }

    pub(super) fn next_serial(&self) -> u64 {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        serial
    }

    /// Notes a ticket drawn for `id` on this peer.
    pub(super) fn defer(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        connection: &mut Connection,
        notify: Notified,
        deadline: Duration,
    ) {
        self.counters.deferred.add(1);
        connection.defer(notify.serial, notify.id, now().saturating_add(deadline));
        self.ensure_flusher(peer);
        if !self.watches_tickets.replace(true) {
            spawn(watch_tickets(Rc::downgrade(self)));
        }
    }

    fn ensure_flusher(self: &Rc<Self>, peer: &Rc<Peer>) {
        if !peer.has_flusher.replace(true) {
            self.spawn_counted(pump::flush_late(Rc::clone(self), Rc::clone(peer)));
        }
    }

    /// A ticket's answer has come.
    fn answer(&self, answer: LateAnswer) {
        let peer = self.peers.borrow().get(answer.connection).map(Rc::clone);
        let deferred = peer.and_then(|peer| {
            let id = peer.connection.borrow_mut().take_deferred(answer.serial)?;
            Some((peer, id))
        });
        match deferred {
            Some((peer, id)) => {
                let actions = answer.actions.as_deref().map_err(|&fault| fault);
                self.ack_late(&peer, id, actions);
            }
            // A ticket dropped by an agent that failed has had its fallback: not worth a count.
            None if matches!(answer.actions, Err(Fault::Abandoned)) => {}
            None => self.counters.late_answers_discarded.add(1),
        }
    }

    /// Queues the ACK of a late answer.
    fn ack_late(&self, peer: &Peer, id: NotifyId, actions: Result<&[u8], Fault>) {
        let notify = Notified {
            id,
            max_ack_size: peer.connection.borrow().max_ack_size(),
            connection: 0,
            serial: 0,
        };
        let mut late = peer.late.borrow_mut();
        let start = late.len();
        let room = self.context.late_ack_len(actions.map_or(0, <[u8]>::len));
        late.resize(start + room, 0);
        let (len, fault) = finish_late(&self.context, notify, actions, &mut late[start..]);
        late.truncate(start + len);
        self.counters.acks.add(1);
        if let Some(fault) = fault {
            self.counters.fault(fault);
        }
        peer.late_ready.raise();
        peer.room.raise();
    }

    /// Answers what tickets did not; whether there still are tickets.
    fn look_at_tickets(&self) -> bool {
        let (now, mut waiting) = (now(), 0);
        for peer in self.all_peers() {
            self.answer_expired(&peer, now);
            waiting += peer.connection.borrow().in_flight();
        }
        self.watches_tickets.set(waiting > 0);
        waiting > 0
    }

    fn answer_expired(&self, peer: &Peer, now: Duration) {
        loop {
            let expired = peer.connection.borrow_mut().poll_expired(now);
            let Some(id) = expired else { return };
            self.ack_late(peer, id, Err(Fault::Deadline));
        }
    }

    fn all_peers(&self) -> Vec<Rc<Peer>> {
        self.peers
            .borrow()
            .iter()
            .map(|(_, peer)| Rc::clone(peer))
            .collect()
    }

    /// Cuts what takes too long.
    fn look_at_timeouts(self: &Rc<Self>) {
        let now = now();
        let mut idle = Vec::new();
        for (_, peer) in self.peers.borrow().iter() {
            let expired = peer.connection.borrow().hello_expired(now);
            if expired || peer.write_expired(now) {
                self.counters.timeouts.add(1);
                peer.shutdown(Shutdown::Both);
            } else if let Some(close_by) = peer.close_by.get() {
                if now >= close_by {
                    peer.shutdown(Shutdown::Both);
                }
            } else if self.config.idle_timeout.is_some_and(|idle_timeout| {
                now >= peer.active_at.get().saturating_add(idle_timeout)
                    && peer.connection.borrow().is_quiet()
            }) {
                idle.push(Rc::clone(peer));
            }
        }
        for peer in idle {
            self.counters.timeouts.add(1);
            self.say_goodbye(&peer, Status::TIMEOUT);
        }
    }

    /// Ends every connection that is quiet, and all of them at the deadline.
    fn look_at_drain(self: &Rc<Self>) {
        let (now, deadline) = (now(), self.drain_by.get().unwrap_or_default());
        for peer in self.all_peers() {
            if now >= deadline.saturating_add(LINGER) {
                peer.shutdown(Shutdown::Both);
            } else if now >= deadline {
                self.answer_expired(&peer, Duration::MAX);
                self.say_goodbye(&peer, Status::NORMAL);
            } else if peer.connection.borrow().is_quiet()
                && peer.late.borrow().is_empty()
                && !peer.is_writing()
                && now >= peer.active_at.get() + QUIET_AFTER
            {
                self.say_goodbye(&peer, Status::NORMAL);
            }
        }
    }

    /// Sends AGENT-DISCONNECT after what is queued, then closes.
    fn say_goodbye(self: &Rc<Self>, peer: &Rc<Peer>, status: Status) {
        let mut connection = peer.connection.borrow_mut();
        match connection.state() {
            State::Closing(_) => {}
            // Nothing to say to a peer that has not introduced itself, or only came to check.
            State::AwaitingHello | State::CheckAnswered => peer.shutdown(Shutdown::Both),
            State::Running => {
                connection.disconnect(status);
                let mut late = peer.late.borrow_mut();
                let start = late.len();
                late.resize(start + crate::connection::MAX_REPLY_LEN, 0);
                let len = connection.poll_reply(&mut late[start..]);
                late.truncate(start + len);
                peer.close_by.set(Some(now() + LINGER));
                self.ensure_flusher(peer);
                peer.late_ready.raise();
                peer.room.raise();
            }
        }
    }

    /// The longest input of a connection, for the classes of buffers.
    pub(super) fn largest_input(&self) -> usize {
        self.config.limits.max_frame_size as usize + PREFIX_LEN
    }

    pub(super) fn largest_output(&self) -> usize {
        output_len(self.config.limits.max_frame_size as usize)
    }
}

// What sleeps holds its worker weakly: a task that sleeps when its monoio runtime ends is never
// freed, and the agent with it if the task held on to it.

/// Watches all timeouts of a core. One task for all: a timer for each read would cost more and, by
/// dropping reads, lose data.
async fn sweep<A: Agent + 'static>(worker: Weak<Worker<A>>) {
    loop {
        monoio::time::sleep(SWEEP_INTERVAL).await;
        let Some(worker) = worker.upgrade() else {
            return;
        };
        worker.look_at_timeouts();
    }
}

/// Watches the deadlines of tickets, while there are tickets.
async fn watch_tickets<A: Agent + 'static>(worker: Weak<Worker<A>>) {
    loop {
        monoio::time::sleep(TICKET_INTERVAL).await;
        let Some(worker) = worker.upgrade() else {
            return;
        };
        if !worker.look_at_tickets() {
            return;
        }
    }
}

/// Sees a drain through.
async fn drain<A: Agent + 'static>(worker: Weak<Worker<A>>) {
    while let Some(worker) = worker.upgrade() {
        worker.look_at_drain();
        drop(worker);
        monoio::time::sleep(DRAIN_INTERVAL).await;
    }
}

/// Starts a task on this core. Its handle is dropped here, on its own thread: monoio 0.2.4 has a
/// race when it is dropped on another.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// A listener as this core's driver has it.
pub(super) enum CoreListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl CoreListener {
    /// Takes a listening socket over, on the thread that will accept.
    pub(super) fn new(socket: OwnedFd, is_unix: bool, is_io_uring: bool) -> io::Result<Self> {
        // monoio leaves Unix listeners blocking on epoll, where a second accept then stops the
        // whole thread.
        SockRef::from(&socket).set_nonblocking(!is_io_uring)?;
        Ok(if is_unix {
            Self::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Self::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    fn raw_fd(&self) -> std::os::fd::RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }

    async fn accept(&self, cancel: CancelHandle) -> io::Result<OwnedFd> {
        let fd = match self {
            Self::Tcp(listener) => listener.cancelable_accept(cancel).await?.0.into_raw_fd(),
            Self::Unix(listener) => listener.cancelable_accept(cancel).await?.0.into_raw_fd(),
        };
        // SAFETY: `into_raw_fd` hands over a descriptor that is open and that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly_and_stay_when_they_can() {
        let placement = Placement::new(4, 100);
        let mut counts = [0; 4];
        for _ in 0..16 {
            counts[placement.place(0).unwrap()] += 1;
        }
        assert_eq!(counts, [4; 4]);
        assert_eq!(
            placement.place(2),
            Some(2),
            "a tie stays where it was accepted"
        );
        placement.leave(3);
        assert_eq!(
            placement.place(0),
            Some(3),
            "the core with the fewest gets the next"
        );
    }

    #[test]
    fn the_limit_holds_for_all_cores_together() {
        let placement = Placement::new(2, 3);
        assert!((0..3).all(|_| placement.place(0).is_some()));
        assert_eq!(placement.place(1), None);
        placement.leave(0);
        assert_eq!(placement.place(1), Some(1));
    }
}

//! One core: its agent, its peers, its share of the connections, its clock.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures_util::{FutureExt, StreamExt};
use slab::Slab;

use super::buffers::{Buffers, output_len};
use super::busy_poll::BusyPoll;
use super::config::ServerConfig;
use super::io::{Canceller, CoreListener, Receiver, Shutdown, Socket, now, spawn};
use super::peer::Peer;
use super::placement::Placement;
use super::pump;
use super::stats::{Counters, Stats};
use super::watch::{drain, sweep, watch_tickets};
use crate::agent::{
    Agent, AnswerQueue, Context, Fault, LateAnswer, Notified, SparseLog, finish_late,
};
use crate::connection::{Connection, NotifyId, State};
use crate::spop::{PREFIX_LEN, Status};

/// How long a peer may take to close after the last frame.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The rest of a task that never had to wait, for others to run; timers know nothing shorter. Waking oneself would not do: such a task runs again first in monoio 0.2.4, and timers
/// only while no task is ready.
pub(super) const REST: Duration = Duration::from_millis(1);

/// What other threads tell a core.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A connection that another core accepted.
    Connection(Socket),
    /// A ticket was sent or dropped.
    Answer(LateAnswer),
    /// Stop accepting, answer what is in flight, end.
    Drain,
    /// The last peer or task of a draining core has gone.
    Empty,
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
    pub(super) index: usize,
    pub(super) is_io_uring: bool,
    pub(super) config: Arc<ServerConfig>,
    pub(super) agent: RefCell<A>,
    pub(super) context: Context,
    pub(super) buffers: Buffers,
    pub(super) counters: Counters,
    pub(super) refusals: SparseLog,
    pub(super) peers: RefCell<Slab<Rc<Peer>>>,
    pub(super) placement: Arc<Placement>,
    pub(super) inboxes: Arc<[UnboundedSender<Inbound>]>,
    /// The next NOTIFY's serial; unique on this core, so a late answer never finds the wrong
    /// NOTIFY, whatever became of its connection's key. NOTIFYs without a ticket take one too: the
    /// agent may have drawn a ticket and then failed, and that ticket must find nothing.
    serial: Cell<u64>,
    /// Whether a task watches the deadlines of tickets.
    pub(super) watches_tickets: Cell<bool>,
    /// Tasks that hold a socket and are not waited for by `peers`: the core ends after them, for
    /// what is in flight when a monoio runtime is dropped is never freed.
    tasks: Cell<usize>,
    /// What keeps the core awake, if the settings ask for it.
    pub(super) busy_poll: Option<Rc<BusyPoll>>,
    /// When a drain must be over.
    pub(super) drain_by: Cell<Option<Duration>>,
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
        let busy_poll = (!config.busy_poll.is_zero()).then(Rc::default);
        Rc::new(Self {
            index,
            is_io_uring,
            config,
            agent: RefCell::new(agent),
            context,
            buffers: Buffers::default(),
            counters: Counters::default(),
            refusals: SparseLog::default(),
            peers: RefCell::default(),
            placement,
            inboxes,
            serial: Cell::new(0),
            watches_tickets: Cell::new(false),
            tasks: Cell::new(0),
            busy_poll,
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
        if let Some(busy_poll) = &self.busy_poll {
            let limit = self.config.busy_poll;
            self.spawn_counted(Rc::clone(busy_poll).run(limit, self.is_io_uring));
        }
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
                    if let Some(busy_poll) = &self.busy_poll {
                        busy_poll.end();
                    }
                    // Nobody may connect to a listener that nobody will accept from.
                    for listener in &listeners {
                        listener.shutdown();
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

    /// Serves a connection on this core.
    pub(super) fn adopt(self: &Rc<Self>, socket: Socket) {
        self.counters.connections.add(1);
        match socket.attach(self.is_io_uring) {
            Ok((handle, receiver, sender)) => {
                let now = now();
                let connection = Connection::new(self.config.limits, now);
                let peer = Rc::new(Peer::new(connection, handle, sender, now));
                let key = self.peers.borrow_mut().insert(Rc::clone(&peer));
                spawn(Rc::clone(self).attend(key, peer, receiver));
            }
            Err(error) => {
                log::warn!("a connection could not be set up: {error}");
                self.placement.leave(self.index);
            }
        }
    }

    /// Runs a peer's pump to its end, whatever end that is, and forgets the peer.
    async fn attend(self: Rc<Self>, key: usize, peer: Rc<Peer>, receiver: Receiver) {
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

    pub(super) fn answer_expired(&self, peer: &Peer, now: Duration) {
        loop {
            let expired = peer.connection.borrow_mut().poll_expired(now);
            let Some(id) = expired else { return };
            self.ack_late(peer, id, Err(Fault::Deadline));
        }
    }

    pub(super) fn peer_count(&self) -> usize {
        self.peers.borrow().len()
    }

    pub(super) fn all_peers(&self) -> Vec<Rc<Peer>> {
        self.peers
            .borrow()
            .iter()
            .map(|(_, peer)| Rc::clone(peer))
            .collect()
    }

    /// Sends AGENT-DISCONNECT after what is queued, then closes.
    pub(super) fn say_goodbye(self: &Rc<Self>, peer: &Rc<Peer>, status: Status) {
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

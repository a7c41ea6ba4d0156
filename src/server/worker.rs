//! One core: its agent, its peers, its share of the connections, its clock.

use std::cell::{Cell, Ref, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures_util::{FutureExt, StreamExt};
use slab::Slab;

use super::buffers::{Buffers, output_len};
use super::busy_poll::BusyPoll;
use super::config::ServerConfig;
use super::hand_over::{HandedOver, Resumed};
use super::io::{Canceller, CoreListener, Receiver, Shutdown, Socket, now, precise_now, spawn};
use super::peer::Peer;
use super::placement::{Limits as PlaceLimits, Place, Placement};
use super::pump;
use super::stats::{Counted, Counters, Stats, Tally, status_index};
use super::watch::{drain, hand_over, sweep, watch_tickets};
use crate::agent::{
    Agent, AgentError, AnswerQueue, Context, Fault, LateAnswer, Notified, SparseLog, finish_late,
};
use crate::connection::{Admission, CloseReason, Connection, Deferred, State};
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
    Connection(Socket, Place),
    /// A connection that another process began.
    Resumed(Resumed, Place),
    /// A ticket was sent or dropped.
    Answer(LateAnswer),
    /// Make an agent with the factory, keep it aside, and say how it went.
    Prepare(mpsc::Sender<Result<(), AgentError>>),
    /// Use the agent kept aside, and these settings.
    Commit(Arc<ServerConfig>, mpsc::Sender<()>),
    /// Drop the agent kept aside.
    Abort,
    /// Fail health checks: a drain is near.
    FailChecks,
    /// Stop accepting, answer what is in flight, end.
    Drain,
    /// Stop accepting, give all connections to another process, end.
    HandOver(mpsc::Sender<HandedOver>),
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
    pub(super) factory: Factory<A>,
    pub(super) counters: Arc<Counters>,
    pub(super) placement: Arc<Placement>,
    pub(super) inboxes: Arc<[UnboundedSender<Inbound>]>,
}

/// What a turn works with.
pub(super) struct Desk<A> {
    pub(super) agent: A,
    pub(super) context: Context,
    pub(super) tally: Tally,
}

/// Makes the agent of the core that it is called on.
pub(super) type Factory<A> = Box<dyn Fn() -> Result<A, AgentError>>;

/// One core.
pub(super) struct Worker<A> {
    pub(super) index: usize,
    pub(super) is_io_uring: bool,
    config: RefCell<Arc<ServerConfig>>,
    /// What buffers are sized by; a reload does not change it.
    max_frame_size: u32,
    pub(super) desk: RefCell<Desk<A>>,
    /// Of `config`, at hand for every turn.
    pub(super) write_timeout: Cell<Duration>,
    pub(super) agent_deadline: Cell<Duration>,
    /// Made for a reload, and not yet used.
    next_agent: RefCell<Option<A>>,
    factory: Factory<A>,
    pub(super) buffers: Buffers,
    pub(super) counters: Arc<Counters>,
    pub(super) refusals: SparseLog,
    handshakes: Handshakes,
    admission: Cell<Admission>,
    /// Connections until the next one whose frames are logged.
    until_traced: Cell<u32>,
    pub(super) peers: RefCell<Slab<Rc<Peer>>>,
    /// The listeners that are accepted from.
    pub(super) accepting: RefCell<Vec<Rc<CoreListener>>>,
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
    /// Where connections go, once they go to another process.
    pub(super) hand_over: RefCell<Option<mpsc::Sender<HandedOver>>>,
    /// Whether they do.
    pub(super) hands_over: Cell<bool>,
}

/// The handshakes that a core may answer: a bucket that holds those of a second and fills all the
/// time.
#[derive(Debug, Default)]
struct Handshakes {
    /// In thousandths.
    tokens: Cell<u64>,
    filled_at: Cell<Duration>,
}

impl Handshakes {
    /// Takes one if there is one.
    fn take(&self, per_second: u32, now: Duration) -> bool {
        if per_second == 0 {
            return true;
        }
        let full = u64::from(per_second) * 1000;
        let passed = now.saturating_sub(self.filled_at.get()).as_millis();
        let new = u64::try_from(passed)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(per_second));
        self.filled_at.set(now);
        let tokens = self.tokens.get().saturating_add(new).min(full);
        let taken = tokens >= 1000;
        self.tokens.set(if taken { tokens - 1000 } else { tokens });
        taken
    }
}

impl<A: Agent + 'static> Worker<A> {
    pub(super) fn new(parts: Parts<A>) -> Rc<Self> {
        let Parts {
            index,
            is_io_uring,
            config,
            agent,
            factory,
            counters,
            placement,
            inboxes,
        } = parts;
        let desk = RefCell::new(Desk {
            agent,
            context: context(&config, &inboxes[index]),
            tally: Tally::default(),
        });
        let write_timeout = Cell::new(config.write_timeout);
        let agent_deadline = Cell::new(config.agent_deadline);
        let busy_poll = (!config.busy_poll.is_zero()).then(Rc::default);
        Rc::new(Self {
            index,
            is_io_uring,
            max_frame_size: config.limits.max_frame_size,
            config: RefCell::new(config),
            desk,
            write_timeout,
            agent_deadline,
            next_agent: RefCell::new(None),
            factory,
            buffers: Buffers::default(),
            counters,
            refusals: SparseLog::default(),
            handshakes: Handshakes::default(),
            admission: Cell::default(),
            until_traced: Cell::new(0),
            peers: RefCell::default(),
            accepting: RefCell::default(),
            placement,
            inboxes,
            serial: Cell::new(0),
            watches_tickets: Cell::new(false),
            tasks: Cell::new(0),
            busy_poll,
            drain_by: Cell::new(None),
            hand_over: RefCell::new(None),
            hands_over: Cell::new(false),
        })
    }

    /// Serves until drained.
    pub(super) async fn run(
        self: Rc<Self>,
        listeners: Vec<(usize, CoreListener, bool)>,
        mut inbox: UnboundedReceiver<Inbound>,
    ) -> Stats {
        let listeners: Vec<_> = listeners
            .into_iter()
            .map(|(index, listener, is_lent)| (index, Rc::new(listener), is_lent))
            .collect();
        let mut accepting = Canceller::new();
        for (index, listener, _) in &listeners {
            let handle = accepting.handle();
            let task = Rc::clone(&self).accept(*index, Rc::clone(listener), handle);
            self.placement.begin_accepting();
            self.accepting.borrow_mut().push(Rc::clone(listener));
            let (worker, listener) = (Rc::clone(&self), Rc::clone(listener));
            self.spawn_counted(async move {
                task.await;
                let mut accepting = worker.accepting.borrow_mut();
                accepting.retain(|other| !Rc::ptr_eq(other, &listener));
                drop(accepting);
                if worker.placement.end_accepting() {
                    worker.tell_all_empty();
                }
            });
        }
        spawn(sweep(Rc::downgrade(&self)));
        if let Some(busy_poll) = &self.busy_poll {
            let limit = self.config().busy_poll;
            self.spawn_counted(Rc::clone(busy_poll).run(limit, self.is_io_uring));
        }
        let mut next = inbox.next().await;
        while let Some(message) = next {
            match message {
                Inbound::Connection(socket, place) => self.adopt(socket, place),
                Inbound::Resumed(resumed, place) => self.resume(resumed, place),
                Inbound::Answer(answer) => self.answer(answer),
                Inbound::Prepare(report) => {
                    let prepared = catch_unwind(AssertUnwindSafe(|| (self.factory)()))
                        .unwrap_or_else(|_| Err("making the agent panicked".into()));
                    let _ = report.send(prepared.map(|agent| {
                        self.next_agent.replace(Some(agent));
                    }));
                }
                Inbound::Commit(config, report) => {
                    self.commit(config);
                    let _ = report.send(());
                }
                Inbound::Abort => {
                    self.next_agent.replace(None);
                }
                Inbound::FailChecks => self.fail_checks(),
                Inbound::Drain => {
                    self.fail_checks();
                    self.begin_drain();
                    // What connected before it could know is answered, then nobody may connect any
                    // more: nobody would accept it.
                    // Of a listener that is lent somebody will.
                    let ours = listeners.iter().filter(|(.., is_lent)| !is_lent);
                    for (index, listener, _) in ours {
                        self.empty_queue(*index, listener);
                        listener.shutdown();
                    }
                    // A dropped accept future leaks the connection it gets in monoio 0.2.4, so it
                    // is cancelled. The shutdown does not do: epoll is not told of it where the
                    // socket is a Unix one.
                    accepting = accepting.cancel();
                }
                Inbound::HandOver(sender) => {
                    self.begin_drain();
                    // The listener is the other process's too: what waits in its queue is not lost.
                    accepting = accepting.cancel();
                    self.hand_over.replace(Some(sender));
                    self.hands_over.set(true);
                    spawn(hand_over(Rc::downgrade(&self)));
                }
                Inbound::Empty => {}
            }
            // What other cores placed here before they stopped accepting is in the inbox by now.
            next = if self.has_ended() {
                inbox.try_recv().ok()
            } else {
                inbox.next().await
            };
        }
        // What other cores passed on in the meantime is closed, and not counted as open any more.
        inbox.close();
        while let Some(message) = inbox.next().await {
            if let Inbound::Connection(_, place) | Inbound::Resumed(_, place) = message {
                self.placement.leave(place);
            }
        }
        self.counters.ended.add(1);
        self.counters.snapshot()
    }

    /// Whether a drain has come to its end.
    fn has_ended(&self) -> bool {
        let Some(drain_by) = self.drain_by.get() else {
            return false;
        };
        self.peers.borrow().is_empty()
            && self.tasks.get() == 0
            // A core that panicked never ends to accept.
            && (!self.placement.is_accepting() || now() >= drain_by)
    }

    /// Has every core look whether it has ended.
    fn tell_all_empty(&self) {
        for inbox in self.inboxes.iter() {
            // A core that is gone already has ended.
            let _ = inbox.unbounded_send(Inbound::Empty);
        }
    }

    pub(super) fn note_end(&self) {
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

    /// The settings in force.
    #[inline]
    pub(super) fn config(&self) -> Ref<'_, ServerConfig> {
        Ref::map(self.config.borrow(), |config| &**config)
    }

    fn begin_drain(self: &Rc<Self>) {
        if self.drain_by.get().is_none() {
            let drain_by = now().saturating_add(self.config().drain_timeout);
            self.drain_by.set(Some(drain_by));
            spawn(drain(Rc::downgrade(self)));
        }
        if let Some(busy_poll) = &self.busy_poll {
            busy_poll.end();
        }
    }

    fn fail_checks(&self) {
        self.admission.set(Admission::NoChecks);
        for (_, peer) in self.peers.borrow().iter() {
            let mut connection = peer.connection.borrow_mut();
            connection.set_admission(Admission::NoChecks);
        }
    }

    /// Swaps in what a reload prepared.
    fn commit(&self, config: Arc<ServerConfig>) {
        let next = self.next_agent.take();
        let old = {
            let mut desk = self.desk.borrow_mut();
            desk.context = context(&config, &self.inboxes[self.index]);
            next.map(|agent| std::mem::replace(&mut desk.agent, agent))
        };
        self.write_timeout.set(config.write_timeout);
        self.agent_deadline.set(config.agent_deadline);
        self.placement.set_limits(PlaceLimits {
            total: config.max_connections,
            per_listener: config.max_connections_per_listener,
        });
        self.config.replace(config);
        // It may panic, and must not take the core with it.
        if catch_unwind(AssertUnwindSafe(|| drop(old))).is_err() {
            tracing::error!("the agent before the reload panicked when it was dropped");
        }
    }

    /// Serves a connection on this core.
    pub(super) fn adopt(self: &Rc<Self>, socket: Socket, place: Place) {
        let mut connection = Connection::new(self.config().limits, now());
        connection.set_admission(if place.is_surplus {
            self.counters.connections_surplus.add(1);
            Admission::ChecksOnly
        } else {
            self.admission.get()
        });
        self.serve(socket, place, connection, Vec::new());
    }

    /// Goes on with a connection that another process began.
    fn resume(self: &Rc<Self>, resumed: Resumed, place: Place) {
        let Resumed {
            socket,
            snapshot,
            input,
        } = resumed;
        let limits = self.config().limits;
        match Connection::resume(limits, snapshot, now()) {
            Some(connection) => {
                self.counters.connections_resumed.add(1);
                self.serve(socket, place, connection, input);
            }
            None => {
                tracing::warn!(
                    "a connection of the process before was closed: it negotiated frames larger than max-frame-size is now"
                );
                self.placement.leave(place);
            }
        }
    }

    /// `input` was received already.
    fn serve(
        self: &Rc<Self>,
        socket: Socket,
        place: Place,
        connection: Connection,
        input: Vec<u8>,
    ) {
        self.counters.connections.add(1);
        match socket.attach(self.is_io_uring) {
            Ok((handle, receiver, sender)) => {
                let mut peer = Peer::new(connection, handle, sender, now());
                peer.traced = self.is_traced().then(|| {
                    let number = self.counters.connections.get();
                    format!("{}.{number}", self.index)
                });
                let peer = Rc::new(peer);
                let key = self.peers.borrow_mut().insert(Rc::clone(&peer));
                self.counters.open.add(1);
                spawn(Rc::clone(self).attend(key, peer, receiver, place, input));
            }
            Err(error) => {
                tracing::warn!("a connection could not be set up: {error}");
                self.placement.leave(place);
            }
        }
    }

    /// Whether the frames of a new connection are to be logged.
    fn is_traced(&self) -> bool {
        let one_in = self.config().trace_frames;
        if one_in == 0 {
            return false;
        }
        let until = self.until_traced.get();
        self.until_traced
            .set(until.checked_sub(1).unwrap_or(one_in - 1));
        until == 0
    }

    /// Whether one more HELLO may be answered now.
    pub(super) fn admits_handshake(&self) -> bool {
        let per_second = self.config().max_handshakes;
        self.handshakes.take(per_second, now())
    }

    /// Runs a peer's pump to its end, whatever end that is, and forgets the peer.
    async fn attend(
        self: Rc<Self>,
        key: usize,
        peer: Rc<Peer>,
        receiver: Receiver,
        place: Place,
        input: Vec<u8>,
    ) {
        let pump = pump::pump(&self, key, &peer, receiver, input);
        // monoio lets a panic of a task take the whole core with it.
        if AssertUnwindSafe(pump).catch_unwind().await.is_err() {
            tracing::error!(
                "a connection was dropped after a panic in its handling, please report it"
            );
        }
        // The socket of a connection that another process goes on with is the same socket there.
        if !peer.handed_over.get() {
            peer.shutdown(Shutdown::Both);
        }
        peer.ended.set(true);
        peer.late_ready.raise();
        self.peers.borrow_mut().remove(key);
        self.counters.open.sub(1);
        self.placement.leave(place);
        self.count_end(&peer);
        self.note_end();
    }

    /// Counts how a connection ended.
    fn count_end(&self, peer: &Peer) {
        let counters = &self.counters;
        let mut connection = peer.connection.borrow_mut();
        for deferred in connection.take_unanswered() {
            counters.in_flight.sub(1);
            counters.settle(deferred.label, Counted::Lost, Duration::ZERO);
        }
        match connection.state() {
            State::Closing(reason) => {
                if let CloseReason::ByPeer(status) = reason {
                    counters.disconnects_received[status_index(status)].add(1);
                }
                let status = reason.status();
                counters.disconnects_sent[status_index(status)].add(1);
                if !connection.is_introduced() {
                    counters.handshakes_refused[status_index(status)].add(1);
                }
            }
            State::AwaitingHello if !peer.handed_over.get() => counters.connections_silent.add(1),
            _ => {}
        }
    }

    /// Whether one more ticket may be out.
    pub(super) fn has_room_in_flight(&self) -> bool {
        self.counters.in_flight.get() < self.config().max_in_flight_per_core as u64
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
        (label, since): (usize, Duration),
    ) {
        self.counters.note(label);
        self.counters.deferred.add(1);
        self.counters.in_flight.add(1);
        let deferred = Deferred {
            id: notify.id,
            deadline: since.saturating_add(deadline),
            since,
            label,
        };
        connection.defer_counted(notify.serial, deferred);
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
            let deferred = peer.connection.borrow_mut().take_counted(answer.serial)?;
            Some((peer, deferred))
        });
        match deferred {
            Some((peer, deferred)) => {
                let actions = answer.actions.as_deref().map_err(|&fault| fault);
                self.ack_late(&peer, deferred, actions);
            }
            // A ticket dropped by an agent that failed has had its fallback: not worth a count.
            None if matches!(answer.actions, Err(Fault::Abandoned)) => {}
            None => self.counters.late_answers_discarded.add(1),
        }
    }

    /// Queues the ACK of a late answer.
    fn ack_late(&self, peer: &Peer, deferred: Deferred, actions: Result<&[u8], Fault>) {
        let notify = Notified {
            id: deferred.id,
            max_ack_size: peer.connection.borrow().max_ack_size(),
            connection: 0,
            serial: 0,
        };
        let mut late = peer.late.borrow_mut();
        let start = late.len();
        let context = &self.desk.borrow().context;
        let room = context.late_ack_len(actions.map_or(0, <[u8]>::len));
        late.resize(start + room, 0);
        let (len, fault) = finish_late(context, notify, actions, &mut late[start..]);
        late.truncate(start + len);
        match fault {
            Some(Fault::Deadline) => context.warn(format_args!(
                "a ticket was not sent within its deadline; HAProxy got the fallback"
            )),
            Some(Fault::Abandoned) => context.warn(format_args!(
                "a ticket was dropped unsent; HAProxy got the fallback"
            )),
            Some(Fault::TooLarge) => context.warn(format_args!(
                "the actions of a ticket do not fit the frame; HAProxy got the fallback"
            )),
            _ => {}
        }
        self.counters.in_flight.sub(1);
        let outcome = fault.map_or(Counted::Answered, Counted::Fault);
        let took = precise_now().saturating_sub(deferred.since);
        self.counters.settle(deferred.label, outcome, took);
        peer.late_ready.raise();
        peer.room.raise();
    }

    pub(super) fn answer_expired(&self, peer: &Peer, now: Duration) {
        loop {
            let expired = peer.connection.borrow_mut().poll_expired_counted(now);
            let Some(deferred) = expired else { return };
            self.ack_late(peer, deferred, Err(Fault::Deadline));
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
            State::AwaitingHello => peer.shutdown(Shutdown::Both),
            State::CheckAnswered if !peer.is_writing() => peer.shutdown(Shutdown::Both),
            // It gets all of its HELLO.
            State::CheckAnswered => peer.close_by.set(Some(now() + LINGER)),
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
        self.max_frame_size as usize + PREFIX_LEN
    }

    pub(super) fn largest_output(&self) -> usize {
        output_len(self.max_frame_size as usize)
    }
}

/// What every reply of a core shares.
fn context(config: &ServerConfig, inbox: &UnboundedSender<Inbound>) -> Context {
    Context::new(
        config.agent_deadline,
        config.fallback.clone(),
        config.never_empty_acks,
        Arc::new(Inbox(inbox.clone())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_of_a_second_at_once_then_as_they_come() {
        let handshakes = Handshakes::default();
        let at = |ms| Duration::from_secs(100) + Duration::from_millis(ms);
        let burst = (0..).take_while(|_| handshakes.take(50, at(0))).count();
        assert_eq!(burst, 50);
        assert!(!handshakes.take(50, at(19)));
        assert!(handshakes.take(50, at(39)));
        assert!(!handshakes.take(50, at(39)));
        assert!(handshakes.take(0, at(39)));
    }
}

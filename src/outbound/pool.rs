//! The connections of one endpoint: so many at most, kept while they are of use, and given to whoever
//! waits longest.
//!
//! Connecting is not bound to the call that caused it. A call that gives up leaves its connection to
//! the next one, so that an endpoint farther away than a deadline is reached all the same.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{Connection, Connector};
use super::error::{OutboundFault, Phase};
use super::shared::Shared;

/// Connections are not used for longer, so that calls follow a name that moves.
const MAX_AGE: Duration = Duration::from_secs(600);

/// How long a connection may take to be ready for the next request once its answer is there: for as
/// long as a server reads the rest of a request that it answered early.
const READY_WITHIN: Duration = Duration::from_millis(200);

/// Limits of a pool.
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) idle: usize,
    pub(super) idle_timeout: Duration,
    pub(super) connect_timeout: Duration,
}

pub(super) struct Pool {
    pub(super) connector: Connector,
    pub(super) shared: Arc<Shared>,
    limits: Limits,
    /// Connections that are there or being made, and the latter alone.
    total: Rc<Cell<usize>>,
    connecting: Rc<Cell<usize>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// The one used last is at the end.
    idle: Vec<Pooled>,
    waiting: VecDeque<oneshot::Sender<Result<Pooled, OutboundFault>>>,
    /// At so many of those, the ones that gave up are looked for.
    look_at: usize,
    is_swept: bool,
}

impl State {
    /// Forgets those who gave up waiting: at once where they are the next, and the others before there
    /// are as many of them as of the rest, which makes it cheap however many wait.
    fn forget_closed(&mut self) {
        while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiting.pop_front();
        }
        if self.waiting.len() >= self.look_at {
            self.waiting.retain(|waiting| !waiting.is_closed());
            self.look_at = 2 * self.waiting.len() + 16;
        }
    }
}

/// A connection that counts as one of its pool until it is dropped.
pub(super) struct Pooled {
    pub(super) connection: Connection,
    _place: Counted,
}

/// One of a number of things, for as long as it is there.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn one_of(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pool {
    pub(super) fn new(connector: Connector, shared: Arc<Shared>, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            connector,
            shared,
            limits,
            total: Rc::default(),
            connecting: Rc::default(),
            state: RefCell::default(),
        })
    }

    /// A connection that is ready for a request: an unused one, or the next that is made or free.
    ///
    /// Whoever gives up waiting, or drops a connection, calls [`refill`](Self::refill) after.
    pub(super) async fn take(
        self: &Rc<Self>,
        phase: &Cell<Phase>,
    ) -> Result<Pooled, OutboundFault> {
        let receiver = {
            let mut state = self.state.borrow_mut();
            let now = Instant::now();
            while let Some(pooled) = state.idle.pop() {
                if pooled.connection.sender.is_ready() && now < pooled.connection.expires {
                    return Ok(pooled);
                }
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        self.refill();
        phase.set(if self.connecting.get() > 0 {
            Phase::Connecting
        } else {
            Phase::Queued
        });
        receiver.await.unwrap_or(Err(OutboundFault::Stopped))
    }

    /// Forgets the unused connections: one of them was found closed.
    pub(super) fn forget_idle(&self) {
        self.state.borrow_mut().idle.clear();
    }

    /// Makes connections for those who wait, as far as that is allowed.
    pub(super) fn refill(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        state.forget_closed();
        while self.connecting.get() < state.waiting.len()
            && self.total.get() < self.limits.connections
        {
            let place = Counted::one_of(&self.total);
            let connecting = Counted::one_of(&self.connecting);
            spawn_local(Rc::clone(self).connect(place, connecting));
        }
    }

    async fn connect(self: Rc<Self>, place: Counted, connecting: Counted) {
        let limit = self.limits.connect_timeout;
        let result = timeout(limit, self.connector.connect()).await;
        let result = result.unwrap_or(Err(OutboundFault::Timeout {
            after: limit,
            phase: Phase::Connecting,
        }));
        drop(connecting);
        match result {
            Ok(connection) => {
                self.shared.counters.connections.add(1);
                self.give(Pooled {
                    connection,
                    _place: place,
                });
            }
            Err(fault) => {
                drop(place);
                let mut state = self.state.borrow_mut();
                let mut result = Err(fault);
                while let Some(waiting) = state.waiting.pop_front() {
                    match waiting.send(result) {
                        Ok(()) => break,
                        Err(unsent) => result = unsent,
                    }
                }
            }
        }
        self.refill();
    }

    /// Takes back a connection whose answer has been read, as soon as it is ready for another request.
    /// `kept_for` is what the server says.
    pub(super) async fn give_back(self: &Rc<Self>, mut pooled: Pooled, kept_for: Option<Duration>) {
        let sender = &mut pooled.connection.sender;
        if !matches!(timeout(READY_WITHIN, sender.ready()).await, Ok(Ok(()))) {
            return;
        }
        let idle = match kept_for {
            // Ours must be the one to close.
            Some(kept) => kept
                .saturating_sub(Duration::from_secs(1))
                .min(self.limits.idle_timeout),
            None => self.limits.idle_timeout,
        };
        let expires = Instant::now() + idle;
        pooled.connection.expires = expires.min(pooled.connection.opened + MAX_AGE);
        self.give(pooled);
    }

    /// Gives a connection to whoever waits longest, or keeps it.
    fn give(self: &Rc<Self>, mut pooled: Pooled) {
        let now = Instant::now();
        if !pooled.connection.is_kept {
            pooled.connection.expires = now + self.limits.idle_timeout;
        } else if pooled.connection.expires <= now {
            return;
        }
        let mut state = self.state.borrow_mut();
        while let Some(waiting) = state.waiting.pop_front() {
            match waiting.send(Ok(pooled)) {
                Ok(()) => return,
                Err(Ok(unsent)) => pooled = unsent,
                Err(Err(_)) => return,
            }
        }
        if state.idle.len() < self.limits.idle {
            pooled.connection.is_kept = true;
            state.idle.push(pooled);
            if !std::mem::replace(&mut state.is_swept, true) {
                spawn_local(Self::sweep(Rc::downgrade(self)));
            }
        }
    }

    /// Closes unused connections when they expire, until there are none.
    async fn sweep(pool: Weak<Self>) {
        loop {
            let next = {
                let Some(pool) = pool.upgrade() else { return };
                let mut state = pool.state.borrow_mut();
                let now = Instant::now();
                let is_kept = |pooled: &Pooled| {
                    now < pooled.connection.expires && !pooled.connection.sender.is_closed()
                };
                state.idle.retain(is_kept);
                let next = state.idle.iter().map(|pooled| pooled.connection.expires);
                let Some(next) = next.min() else {
                    state.is_swept = false;
                    return;
                };
                next
            };
            sleep_until(next).await;
        }
    }
}

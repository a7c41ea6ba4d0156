//! The clocks of a core: timeouts, the deadlines of tickets, the drain. One task for each kind looks
//! at all peers: a timer for each read would cost more and, by dropping reads, lose data.

use std::rc::{Rc, Weak};
use std::time::Duration;

use super::io::{Shutdown, now, precise_now, sleep};
use super::peer::Peer;
use super::worker::{LINGER, Worker};
use crate::agent::Agent;
use crate::connection::State;
use crate::spop::Status;

/// How often timeouts are looked at, and so how late one may be noticed.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The longest time for which deadlines of tickets are not looked at, while there are tickets: one
/// drawn meanwhile may have a deadline before those that were known.
const TICKET_INTERVAL: Duration = Duration::from_millis(10);

/// The shortest time between two looks at the deadlines of so many tickets: each look takes some
/// nanoseconds for each of them.
const TICKET_REST: (Duration, usize) = (Duration::from_millis(1), 256);

/// The same during a drain.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

/// A draining connection that received nothing for this long is told goodbye: what HAProxy sent
/// before it could know has arrived by then.
const QUIET_AFTER: Duration = Duration::from_millis(50);

// What sleeps holds its worker weakly: a task that sleeps when its monoio runtime ends is never
// freed, and the agent with it if the task held on to it.

/// Watches all timeouts of a core.
pub(super) async fn sweep<A: Agent + 'static>(worker: Weak<Worker<A>>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        let Some(worker) = worker.upgrade() else {
            return;
        };
        worker.look_at_timeouts();
    }
}

/// Watches the deadlines of tickets, while there are tickets.
pub(super) async fn watch_tickets<A: Agent + 'static>(worker: Weak<Worker<A>>) {
    let mut rest = TICKET_REST.0;
    loop {
        sleep(rest).await;
        let Some(worker) = worker.upgrade() else {
            return;
        };
        match worker.look_at_tickets() {
            Some(until_next) => rest = until_next,
            None => return,
        }
    }
}

/// Sees a drain through.
pub(super) async fn drain<A: Agent + 'static>(worker: Weak<Worker<A>>) {
    while let Some(worker) = worker.upgrade() {
        worker.look_at_drain();
        drop(worker);
        sleep(DRAIN_INTERVAL).await;
    }
}

/// A frame whose other fragments are still to come is waited for a while, not until the end.
fn quiet_after(peer: &Peer) -> Duration {
    if peer.connection.borrow().is_quiet() {
        QUIET_AFTER
    } else {
        LINGER
    }
}

/// How often to look for connections that can go to another process.
const HAND_OVER_INTERVAL: Duration = Duration::from_millis(5);

/// After this long a connection is not read any more, so that what is in flight can end.
const HAND_OVER_GRACE: Duration = Duration::from_millis(200);

/// Gives all connections to another process, as soon as nothing is in flight on each.
pub(super) async fn hand_over<A: Agent + 'static>(worker: Weak<Worker<A>>) {
    let began = now();
    while let Some(worker) = worker.upgrade() {
        worker.look_at_hand_over(now() > began + HAND_OVER_GRACE);
        drop(worker);
        sleep(HAND_OVER_INTERVAL).await;
    }
}

impl<A: Agent + 'static> Worker<A> {
    /// Has pumps that wait for input look whether their connections can go.
    fn look_at_hand_over(&self, grace_is_over: bool) {
        for peer in self.all_peers() {
            let in_flight = peer.connection.borrow().in_flight();
            if grace_is_over {
                peer.must_go.set(true);
            }
            if in_flight == 0 || grace_is_over {
                peer.interrupt();
            }
        }
    }

    /// Answers what tickets did not; when to look again, if there still are tickets.
    fn look_at_tickets(&self) -> Option<Duration> {
        // By the clock that deadlines are set by: the coarse one may be a tick behind.
        let now = precise_now();
        let (mut waiting, mut earliest) = (0, now + TICKET_INTERVAL);
        for peer in self.all_peers() {
            self.answer_expired(&peer, now);
            let connection = peer.connection.borrow();
            waiting += connection.in_flight();
            earliest = earliest.min(connection.next_deadline().unwrap_or(earliest));
        }
        self.watches_tickets.set(waiting > 0);
        let (shortest, count) = TICKET_REST;
        let looks = u32::try_from(waiting / count).unwrap_or(u32::MAX);
        let rest = shortest.saturating_mul(looks.saturating_add(1));
        let until_next = earliest.saturating_sub(now).max(rest).min(TICKET_INTERVAL);
        (waiting > 0).then_some(until_next)
    }

    /// Cuts what takes too long.
    fn look_at_timeouts(self: &Rc<Self>) {
        self.counters.beats.add(1);
        let now = now();
        let config = self.config();
        let mut idle = Vec::new();
        for (_, peer) in self.peers.borrow().iter() {
            let silent = peer.connection.borrow().hello_expired(now);
            if silent || peer.write_expired(now) {
                // A peer without a HELLO may be a TCP check, of which nobody wants to read.
                if !silent {
                    self.refusals.warn(format_args!(
                        "connection cut: its peer does not take its answers"
                    ));
                }
                self.counters.timeouts.add(1);
                peer.shutdown(Shutdown::Both);
            } else if let Some(close_by) = peer.close_by.get() {
                if now >= close_by {
                    peer.shutdown(Shutdown::Both);
                }
            } else if peer.is_writing() || !peer.late.borrow().is_empty() {
                // Not idle: it has answers to take.
                peer.active_at.set(now);
            } else if config.idle_timeout.is_some_and(|idle_timeout| {
                now >= peer.active_at.get().saturating_add(idle_timeout)
                    && peer.connection.borrow().in_flight() == 0
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
        for listener in self.accepting.borrow().iter() {
            listener.interrupt_accept();
        }
        for peer in self.all_peers() {
            if now >= deadline.saturating_add(LINGER) {
                peer.shutdown(Shutdown::Both);
            } else if now >= deadline {
                self.answer_expired(&peer, Duration::MAX);
                if peer.connection.borrow().state() == State::Running {
                    self.counters.busy_at_drain_end.add(1);
                }
                self.say_goodbye(&peer, Status::NORMAL);
            } else if self.hands_over.get() {
                // Another process goes on with it, as soon as it can.
            } else if peer.connection.borrow().in_flight() == 0
                && peer.late.borrow().is_empty()
                && !peer.is_writing()
                && now >= peer.active_at.get() + quiet_after(&peer)
            {
                self.say_goodbye(&peer, Status::NORMAL);
            }
        }
        if now >= deadline {
            self.note_end();
        }
    }
}

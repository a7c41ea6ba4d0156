//! Which core gets a new connection, and whether there is room for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Connections taken beyond the limit: health checks, which must not fail because we are busy, and
/// those that are told about the limit.
pub(super) const SURPLUS: usize = 64;

/// How many connections each core and each listener has. Looked at once a connection, never once a
/// frame.
#[derive(Debug)]
pub(super) struct Placement {
    state: Mutex<State>,
    /// Tasks that accept, of all cores: each may still place a connection on any core.
    accepting: AtomicUsize,
}

#[derive(Debug)]
struct State {
    by_core: Vec<usize>,
    by_listener: Vec<usize>,
    surplus: usize,
    limits: Limits,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) total: usize,
    pub(super) per_listener: usize,
}

/// A connection's place; to be given back when it ends.
#[derive(Debug)]
#[must_use]
pub(super) struct Place {
    pub(super) core: usize,
    listener: Option<usize>,
    /// Beyond the limit.
    pub(super) is_surplus: bool,
}

impl Placement {
    pub(super) fn new(cores: usize, listeners: usize, limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                by_core: vec![0; cores],
                by_listener: vec![0; listeners],
                surplus: 0,
                limits,
            }),
            accepting: AtomicUsize::new(0),
        }
    }

    pub(super) fn begin_accepting(&self) {
        self.accepting.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether that was the last task that accepted.
    pub(super) fn end_accepting(&self) -> bool {
        // What it placed is in the inboxes before anybody can see that it ended.
        self.accepting.fetch_sub(1, Ordering::Release) == 1
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire) > 0
    }

    /// A place on the core with the fewest connections, `here` if it is one of them; `None` if
    /// there is no room even beyond the limits. A connection that comes from another process has
    /// no listener and is never refused.
    ///
    /// The kernel's choice among SO_REUSEPORT sockets is a hash: with the few long connections
    /// HAProxy opens it leaves cores idle (4 connections on 4 cores: in 91 % of the cases).
    pub(super) fn place(&self, here: usize, listener: Option<usize>) -> Option<Place> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = state.limits;
        let regular = state.by_core.iter().sum::<usize>() - state.surplus;
        let is_surplus = listener.is_some_and(|listener| {
            regular >= limits.total || state.by_listener[listener] >= limits.per_listener
        });
        if is_surplus && state.surplus >= SURPLUS {
            return None;
        }
        let least = state.by_core.iter().copied().min()?;
        let core = if state.by_core[here] == least {
            here
        } else {
            state.by_core.iter().position(|&n| n == least)?
        };
        state.by_core[core] += 1;
        if is_surplus {
            state.surplus += 1;
        } else if let Some(listener) = listener {
            state.by_listener[listener] += 1;
        }
        Some(Place {
            core,
            listener,
            is_surplus,
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is used up")]
    pub(super) fn leave(&self, place: Place) {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.by_core[place.core] -= 1;
        if place.is_surplus {
            state.surplus -= 1;
        } else if let Some(listener) = place.listener {
            state.by_listener[listener] -= 1;
        }
    }

    /// For connections to come.
    pub(super) fn set_limits(&self, limits: Limits) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.limits = limits;
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> Vec<usize> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = std::iter::once(&state.surplus);
        let by_core = state.by_core.iter().chain(&state.by_listener);
        by_core.chain(surplus).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(cores: usize, total: usize, per_listener: usize) -> Placement {
        let limits = Limits {
            total,
            per_listener,
        };
        Placement::new(cores, 2, limits)
    }

    #[test]
    fn connections_are_spread_evenly_and_stay_when_they_can() {
        let placement = placement(4, 100, 100);
        let mut counts = [0; 4];
        let mut last = None;
        for _ in 0..16 {
            let place = placement.place(0, Some(0)).unwrap();
            counts[place.core] += 1;
            last = Some(place);
        }
        assert_eq!(counts, [4; 4]);
        let place = placement.place(2, Some(0)).unwrap();
        assert_eq!(place.core, 2, "a tie stays where it was accepted");
        let last = last.unwrap();
        let core = last.core;
        placement.leave(last);
        let place = placement.place(0, Some(0)).unwrap();
        assert_eq!(place.core, core, "the core with the fewest gets the next");
    }

    #[test]
    fn the_limit_holds_for_all_cores_together_and_a_few_more_are_checks() {
        let placement = placement(2, 3, 100);
        let first = placement.place(0, Some(0)).unwrap();
        for _ in 0..2 {
            assert!(!placement.place(0, Some(1)).unwrap().is_surplus);
        }
        for _ in 0..SURPLUS {
            assert!(placement.place(1, Some(0)).unwrap().is_surplus);
        }
        assert!(placement.place(1, Some(0)).is_none());
        placement.leave(first);
        assert!(!placement.place(1, Some(0)).unwrap().is_surplus);
        assert!(!placement.place(1, None).unwrap().is_surplus);
        placement.set_limits(Limits {
            total: 100,
            per_listener: 100,
        });
        assert!(!placement.place(1, Some(0)).unwrap().is_surplus);
    }

    #[test]
    fn a_listener_has_a_limit_of_its_own() {
        let placement = placement(2, 100, 1);
        let place = placement.place(0, Some(0)).unwrap();
        assert!(placement.place(0, Some(0)).unwrap().is_surplus);
        assert!(!placement.place(0, Some(1)).unwrap().is_surplus);
        placement.leave(place);
        assert!(!placement.place(0, Some(0)).unwrap().is_surplus);
    }
}

//! Which core gets a new connection.

use std::sync::{Mutex, PoisonError};

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
    pub(super) fn place(&self, here: usize) -> Option<usize> {
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

    pub(super) fn leave(&self, core: usize) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)[core] -= 1;
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

//! The circuit breaker of an endpoint: after some failures in a row no call is made for a while, then
//! one, whose outcome decides.
//!
//! Calls are let through on any core and end on the outbound thread, so the state is in atomics and
//! nobody waits for anybody. It refuses to know the clock: times are nanoseconds since whenever.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// When an endpoint is not called for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it: deadlines that passed, no connection, broken answers, and the
    /// statuses 502, 503 and 504. Default 5. A peer that answers, with whatever else, is not failing.
    pub failures: u32,
    /// For how long it is open before one call is let through; default 5 s, and up to a quarter more
    /// at random, so that many agents do not come back at once.
    pub open_for: Duration,
    /// Count only that no connection can be made, and not that a request fails on one: where requests are
    /// of others' making, who knows one that the peer is slow with could keep everybody from being asked
    /// about. Default false.
    pub connecting_only: bool,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_secs(5),
            connecting_only: false,
        }
    }
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Every call.
    Closed,
    /// None.
    Open,
    /// One call, to see.
    HalfOpen,
}

/// What a call says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Works,
    Fails,
    /// It was reached, and failed with this request.
    FailsWithThis,
    /// It did not get as far as that.
    Unknown,
}

/// How a call was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Usual,
    /// It is the one that decides whether the breaker closes.
    Probe,
}

/// What a verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

#[derive(Debug)]
pub(super) struct Breaker {
    /// `None`: it never opens.
    config: Option<BreakerConfig>,
    in_a_row: AtomicU32,
    /// Until when it is open; 0 while it is closed.
    open_until_ns: AtomicU64,
    is_probed: AtomicBool,
}

impl Breaker {
    pub(super) const fn new(config: Option<BreakerConfig>) -> Self {
        Self {
            config,
            in_a_row: AtomicU32::new(0),
            open_until_ns: AtomicU64::new(0),
            is_probed: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self, now_ns: u64) -> BreakerState {
        match self.open_until_ns.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            until if now_ns < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// For how long it opens, but for the part at random.
    pub(super) fn open_for(&self) -> Duration {
        self.config.map_or(Duration::ZERO, |config| config.open_for)
    }

    /// Whether a call may be made. Each passage ends in a [`settle`](Self::settle).
    pub(super) fn pass(&self, now_ns: u64) -> Option<Passage> {
        match self.state(now_ns) {
            BreakerState::Closed => return Some(Passage::Usual),
            BreakerState::Open => return None,
            BreakerState::HalfOpen => {}
        }
        if self.is_probed.swap(true, Ordering::AcqRel) {
            return None;
        }
        // Another probe may have ended between the two.
        match self.state(now_ns) {
            BreakerState::HalfOpen => Some(Passage::Probe),
            state => {
                self.is_probed.store(false, Ordering::Release);
                (state == BreakerState::Closed).then_some(Passage::Usual)
            }
        }
    }

    /// Ends a passage.
    pub(super) fn settle(
        &self,
        passage: Passage,
        verdict: Verdict,
        now_ns: u64,
        random: u64,
    ) -> Option<Change> {
        let config = self.config?;
        let is_probe = passage == Passage::Probe;
        let is_closed = self.open_until_ns.load(Ordering::Acquire) == 0;
        let verdict = match verdict {
            Verdict::FailsWithThis if config.connecting_only => Verdict::Works,
            Verdict::FailsWithThis => Verdict::Fails,
            verdict => verdict,
        };
        let change = match verdict {
            Verdict::Works if is_probe => {
                self.in_a_row.store(0, Ordering::Relaxed);
                self.open_until_ns.store(0, Ordering::Release);
                Some(Change::Closed)
            }
            Verdict::Works => {
                // One that began before it opened says nothing of now.
                if is_closed {
                    self.in_a_row.store(0, Ordering::Relaxed);
                }
                None
            }
            Verdict::Fails | Verdict::FailsWithThis => {
                let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
                (is_probe || (is_closed && in_a_row >= config.failures)).then(|| {
                    let open_ns = u64::try_from(config.open_for.as_nanos()).unwrap_or(u64::MAX / 4);
                    let jitter_ns = random % (open_ns / 4 + 1);
                    let until = now_ns.saturating_add(open_ns).saturating_add(jitter_ns);
                    self.open_until_ns.store(until.max(1), Ordering::Release);
                    Change::Opened
                })
            }
            Verdict::Unknown => None,
        };
        if is_probe {
            self.is_probed.store(false, Ordering::Release);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig {
        failures: 3,
        open_for: Duration::from_nanos(1000),
        connecting_only: false,
    };

    fn fail(breaker: &Breaker, now_ns: u64) -> Option<Change> {
        let passage = breaker.pass(now_ns).unwrap();
        breaker.settle(passage, Verdict::Fails, now_ns, 0)
    }

    #[test]
    fn it_opens_lets_one_through_and_closes() {
        let breaker = Breaker::new(Some(CONFIG));
        assert_eq!([fail(&breaker, 1), fail(&breaker, 2)], [None, None]);
        assert_eq!(fail(&breaker, 3), Some(Change::Opened));
        assert_eq!(breaker.state(4), BreakerState::Open);
        assert_eq!(breaker.pass(1002), None);
        assert_eq!(breaker.state(1003), BreakerState::HalfOpen);
        assert_eq!(breaker.pass(1003), Some(Passage::Probe));
        assert_eq!(breaker.pass(1003), None, "one probe at a time");
        let change = breaker.settle(Passage::Probe, Verdict::Fails, 1010, 0);
        assert_eq!(change, Some(Change::Opened));
        assert_eq!(breaker.pass(2009), None);
        assert_eq!(breaker.pass(2010), Some(Passage::Probe));
        // A probe that did not get there is tried again.
        assert_eq!(
            breaker.settle(Passage::Probe, Verdict::Unknown, 2011, 0),
            None
        );
        assert_eq!(breaker.pass(2012), Some(Passage::Probe));
        let change = breaker.settle(Passage::Probe, Verdict::Works, 2013, 0);
        assert_eq!(change, Some(Change::Closed));
        // And counts from zero.
        assert_eq!([fail(&breaker, 2014), fail(&breaker, 2015)], [None, None]);
    }

    #[test]
    fn an_answer_ends_the_row() {
        let breaker = Breaker::new(Some(CONFIG));
        for now_ns in 0..9 {
            assert_eq!(fail(&breaker, now_ns), None);
            assert_eq!(fail(&breaker, now_ns), None);
            breaker.settle(Passage::Usual, Verdict::Works, now_ns, 0);
        }
    }

    #[test]
    fn late_failures_of_earlier_calls_do_not_keep_it_open() {
        let breaker = Breaker::new(Some(CONFIG));
        for now_ns in 1..=3 {
            breaker.settle(Passage::Usual, Verdict::Fails, now_ns, 0);
        }
        assert_eq!(breaker.settle(Passage::Usual, Verdict::Fails, 900, 0), None);
        assert_eq!(breaker.state(1003), BreakerState::HalfOpen);
    }

    #[test]
    fn jitter_is_a_quarter_at_most() {
        for random in [0, 1, 250, 251, u64::MAX] {
            let breaker = Breaker::new(Some(CONFIG));
            for _ in 0..3 {
                breaker.settle(Passage::Usual, Verdict::Fails, 0, random);
            }
            assert_eq!(breaker.state(999), BreakerState::Open);
            assert_eq!(breaker.state(1250), BreakerState::HalfOpen, "{random}");
        }
    }

    #[test]
    fn what_fails_on_a_connection_counts_unless_only_connecting_does() {
        for connecting_only in [false, true] {
            let config = BreakerConfig {
                connecting_only,
                ..CONFIG
            };
            let breaker = Breaker::new(Some(config));
            for now_ns in 1..=3 {
                breaker.settle(Passage::Usual, Verdict::FailsWithThis, now_ns, 0);
            }
            let is_closed = breaker.state(4) == BreakerState::Closed;
            assert_eq!(is_closed, connecting_only);
        }
        // Who connects again is there again, whatever becomes of the request.
        let breaker = Breaker::new(Some(BreakerConfig {
            connecting_only: true,
            ..CONFIG
        }));
        assert_eq!([fail(&breaker, 1), fail(&breaker, 2)], [None, None]);
        assert_eq!(fail(&breaker, 3), Some(Change::Opened));
        let passage = breaker.pass(1003).unwrap();
        let change = breaker.settle(passage, Verdict::FailsWithThis, 1004, 0);
        assert_eq!(change, Some(Change::Closed));
    }

    #[test]
    fn without_settings_it_never_opens() {
        let breaker = Breaker::new(None);
        for now_ns in 0..100 {
            assert_eq!(fail(&breaker, now_ns), None);
        }
    }
}

//! What an endpoint counts. Written on any thread, read by others for their metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::breaker::BreakerState;
use super::error::FailureKind;

/// Upper bounds of the buckets of latencies, in milliseconds; those above the last are in one more.
const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals of an endpoint since it was made, and its state now.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct EndpointStats {
            /// The endpoint's name.
            pub endpoint: String,
            $($(#[$doc])* pub $name: u64,)*
            /// Calls and streams that failed, by [`FailureKind::ALL`].
            pub failures: [u64; FailureKind::ALL.len()],
            /// Calls that ended in so many of [`latency_bounds`](Self::latency_bounds), those refused at
            /// once apart.
            pub latencies: [u64; BOUNDS_MS.len() + 1],
            /// Time all of those took.
            pub latency_sum: Duration,
            /// Calls and streams in flight or waiting now.
            pub in_flight: u64,
            /// What the breaker lets through now.
            pub breaker: BreakerState,
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Count,)*
            failures: [Count; FailureKind::ALL.len()],
            latencies: [Count; BOUNDS_MS.len() + 1],
            latency_sum_ns: Count,
        }

        impl Counters {
            pub(super) fn snapshot(
                &self,
                endpoint: &str,
                in_flight: u64,
                breaker: BreakerState,
            ) -> EndpointStats {
                EndpointStats {
                    endpoint: endpoint.to_owned(),
                    $($name: self.$name.get(),)*
                    failures: std::array::from_fn(|index| self.failures[index].get()),
                    latencies: std::array::from_fn(|index| self.latencies[index].get()),
                    latency_sum: Duration::from_nanos(self.latency_sum_ns.get()),
                    in_flight,
                    breaker,
                }
            }
        }
    };
}

stats! {
    /// Calls and streams asked for, the refused ones included.
    calls,
    /// Calls and streams that were answered, with any status.
    answered,
    /// Connections made.
    connections,
    /// Requests sent on a connection that had been used before.
    reuses,
    /// Requests sent once more because a connection kept from before was gone.
    retries,
    /// How often the breaker opened.
    breaker_opened,
    /// Panics in what a call was to do with its answer.
    callback_panics,
}

impl EndpointStats {
    /// Failures of one kind.
    #[must_use]
    pub const fn failures_of(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize]
    }

    /// Upper bounds of `latencies`; the last has none.
    pub fn latency_bounds() -> impl Iterator<Item = Option<Duration>> {
        let bounds = BOUNDS_MS.into_iter();
        bounds
            .map(|bound| Some(Duration::from_millis(bound)))
            .chain([None])
    }
}

/// A number that any thread may add to.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn failed(&self, kind: FailureKind) {
        self.failures[kind as usize].add(1);
    }

    pub(super) fn took(&self, latency: Duration) {
        let bucket = BOUNDS_MS.partition_point(|&bound| Duration::from_millis(bound) < latency);
        self.latencies[bucket].add(1);
        self.latency_sum_ns
            .add(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_in_their_order() {
        for (index, kind) in FailureKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn a_latency_is_in_the_bucket_of_its_bound() {
        let counters = Counters::default();
        for millis in [0, 1, 3, 10_000, 10_001] {
            counters.took(Duration::from_millis(millis));
        }
        let stats = counters.snapshot("x", 0, BreakerState::Closed);
        assert_eq!(stats.latencies, [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(
            EndpointStats::latency_bounds().count(),
            stats.latencies.len()
        );
    }
}

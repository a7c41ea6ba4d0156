//! What a core counts. Written by its own thread only; handed over when the worker ends.

use std::cell::Cell;
use std::ops::AddAssign;

use crate::agent::Fault;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals of a server, from its start to its end.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl AddAssign for Stats {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.0.get(),)* }
            }
        }
    };
}

stats! {
    /// Connections accepted.
    connections,
    /// Connections closed at once because `max_connections` was reached.
    connections_refused,
    /// Health checks answered.
    health_checks,
    /// NOTIFYs received whole.
    notifies,
    /// ACKs written, of any kind. Once nothing is in flight: NOTIFYs less those whose connection
    /// ended first.
    acks,
    /// NOTIFYs for which the agent drew a ticket.
    deferred,
    /// ACKs with the fallback because the agent returned an error.
    agent_errors,
    /// ACKs with the fallback because the agent panicked.
    agent_panics,
    /// ACKs with the fallback because the actions did not fit.
    too_large,
    /// ACKs with the fallback because a ticket's deadline passed.
    deadlines_passed,
    /// ACKs with the fallback because a ticket was dropped unsent.
    tickets_abandoned,
    /// Late answers that found nothing to answer any more.
    late_answers_discarded,
    /// Times a core was kept from its other connections longer than the agent deadline by one
    /// batch of NOTIFYs; each was answered all the same.
    overruns,
    /// Connections disconnected because of what the peer sent.
    protocol_errors,
    /// Connections cut because HELLO did not come, answers were not taken, or nothing was sent.
    timeouts,
    /// Connections that were still busy at the drain timeout, and told goodbye all the same.
    busy_at_drain_end,
}

/// A number only one thread changes.
#[derive(Debug, Default)]
pub(super) struct Counter(Cell<u64>);

impl Counter {
    #[inline]
    pub(super) fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }
}

impl Counters {
    pub(super) fn fault(&self, fault: Fault) {
        let counter = match fault {
            Fault::Error => &self.agent_errors,
            Fault::Panic => &self.agent_panics,
            Fault::TooLarge => &self.too_large,
            Fault::Deadline => &self.deadlines_passed,
            Fault::Abandoned => &self.tickets_abandoned,
        };
        counter.add(1);
    }
}

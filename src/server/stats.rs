//! What a core counts. Written by its own thread only, each core on cache lines of its own, and
//! read by others without locks: a plain load, add and store here, a plain load there.

use std::ops::AddAssign;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::agent::Fault;
use crate::spop::{Status, decode_varint};

/// A number that only one thread changes.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, count: u64) {
        // One writer, so nothing can come between; `fetch_add` would lock the bus.
        self.0
            .store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// For gauges, which go down too.
    #[inline]
    pub(super) fn sub(&self, count: u64) {
        self.0
            .store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals of a server since its start.
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

        /// What one core counts. Two cache lines of distance, since CPUs fetch them in pairs.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
            /// AGENT-DISCONNECTs by [`status_index`].
            pub(super) disconnects_sent: [Counter; STATUSES],
            /// HAPROXY-DISCONNECTs by [`status_index`].
            pub(super) disconnects_received: [Counter; STATUSES],
            /// Connections refused in the handshake, by [`status_index`].
            pub(super) handshakes_refused: [Counter; STATUSES],
            /// Connections open now.
            pub(super) open: Counter,
            /// NOTIFYs that wait for a late answer now.
            pub(super) in_flight: Counter,
            /// Goes up every 100 ms for as long as the core is alive.
            pub(super) beats: Counter,
            /// 1 once the core has drained.
            pub(super) ended: Counter,
            pub(super) messages: [MessageStats; MESSAGES],
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> Stats {
                let mut stats = Stats { $($name: self.$name.get(),)* };
                // Those answered at once are counted once only, by message.
                stats.notifies += self.at_once();
                stats.acks += self.at_once();
                // Only the other frames are counted on their own.
                stats.frames_received += stats.notifies;
                stats
            }
        }
    };
}

stats! {
    /// Connections taken.
    connections,
    /// Connections closed at once because a limit was reached.
    connections_refused,
    /// Connections beyond a limit that were kept for a health check, or for being told so.
    connections_surplus,
    /// Connections whose peer said nothing and went: TCP checks.
    connections_silent,
    /// Connections taken over from the process before.
    connections_resumed,
    /// Connections given to the process after.
    connections_handed_over,
    /// Health checks answered.
    health_checks,
    /// Health checks that were told that the server is draining.
    health_checks_failed,
    /// HELLOs that had to wait for their turn because of `max_handshakes`.
    handshakes_delayed,
    /// Bytes received.
    bytes_received,
    /// Bytes sent.
    bytes_sent,
    /// Frames received whole, of any type.
    frames_received,
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
    /// ACKs with the fallback because `max_in_flight_per_core` was reached.
    shed,
    /// NOTIFYs whose connection ended before their late answer came.
    lost,
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
    /// Times accept failed.
    accept_errors,
}

/// The statuses that are told apart: 0 to 13, 99, and the rest.
pub(super) const STATUSES: usize = 16;

pub(super) fn status_index(status: Status) -> usize {
    match status.0 {
        code @ 0..=13 => code as usize,
        99 => 14,
        _ => 15,
    }
}

/// What [`status_index`] gives as text.
pub(super) fn status_label(index: usize) -> String {
    match index {
        14 => "99".to_owned(),
        15 => "other".to_owned(),
        code => code.to_string(),
    }
}

/// What became of a NOTIFY, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Answered,
    Fault(Fault),
    /// Its payload was not what it claimed to be: the connection was disconnected.
    Invalid,
    /// Its connection ended before its answer came.
    Lost,
}

/// The words for [`Counted`], by [`Counted::index`].
pub(super) const OUTCOMES: [&str; 9] = [
    "answered",
    "error",
    "panic",
    "too_large",
    "deadline",
    "abandoned",
    "shed",
    "invalid",
    "lost",
];

impl Counted {
    const fn index(self) -> usize {
        match self {
            Self::Answered => 0,
            Self::Fault(Fault::Error) => 1,
            Self::Fault(Fault::Panic) => 2,
            Self::Fault(Fault::TooLarge) => 3,
            Self::Fault(Fault::Deadline) => 4,
            Self::Fault(Fault::Abandoned) => 5,
            Self::Fault(Fault::Shed) => 6,
            Self::Invalid => 7,
            Self::Lost => 8,
        }
    }
}

/// Messages that are told apart on a core. HAProxy's configuration has a few; a peer that makes
/// names up gets no memory for them.
pub(super) const MESSAGES: usize = 32;

/// Where NOTIFYs without a message are counted.
const NONE: usize = 0;

/// Where those are counted whose name found no place.
const OTHER: usize = MESSAGES - 1;

/// Longer names are counted with the others.
const MAX_NAME_LEN: usize = 64;

/// Buckets of a service time: bucket `i` ends at 2^(10 + i) ns, from 1 us to 1.07 s, and one for
/// what takes longer.
pub(super) const BUCKETS: usize = 22;

const FIRST_BUCKET_LOG2: u32 = 10;

/// The upper bound of a bucket in seconds; `None` for the last.
pub(super) fn bucket_bound(index: usize) -> Option<f64> {
    (index < BUCKETS - 1).then(|| (1_u64 << (FIRST_BUCKET_LOG2 as usize + index)) as f64 / 1e9)
}

#[inline]
fn bucket(took_ns: u64) -> usize {
    let log2 = u64::BITS - took_ns.saturating_sub(1).leading_zeros();
    (log2.saturating_sub(FIRST_BUCKET_LOG2) as usize).min(BUCKETS - 1)
}

/// What is counted of the NOTIFYs whose first message has one name.
#[derive(Debug, Default)]
pub(super) struct MessageStats {
    name: OnceLock<Box<str>>,
    /// NOTIFYs that were answered at once, as nearly all are.
    at_once: Counter,
    /// The others, and what became of them.
    noted: Counter,
    outcomes: [Counter; OUTCOMES.len()],
    pub(super) buckets: [Counter; BUCKETS],
    pub(super) took_ns: Counter,
}

impl MessageStats {
    /// NOTIFYs received.
    pub(super) fn notifies(&self) -> u64 {
        self.at_once.get() + self.noted.get()
    }

    /// NOTIFYs that ended so, by index of [`OUTCOMES`].
    pub(super) fn outcome(&self, index: usize) -> u64 {
        let at_once = if index == Counted::Answered.index() {
            self.at_once.get()
        } else {
            0
        };
        at_once + self.outcomes[index].get()
    }

    #[inline]
    fn observe(&self, took: Duration, count: u64) {
        // Wraps after five centuries.
        let took_ns = took.as_secs().wrapping_mul(1_000_000_000) + u64::from(took.subsec_nanos());
        self.buckets[bucket(took_ns)].add(count);
        self.took_ns.add(took_ns.wrapping_mul(count));
    }
}

impl Counters {
    /// The name of what is counted there, if anything is.
    pub(super) fn message_name(&self, slot: usize) -> Option<&str> {
        match slot {
            NONE => Some("(none)"),
            OTHER => Some("(other)"),
            _ => self.messages[slot].name.get().map(AsRef::as_ref),
        }
        .filter(|_| self.messages[slot].notifies() > 0)
    }

    /// NOTIFYs that were answered at once.
    fn at_once(&self) -> u64 {
        let messages = self.messages.iter();
        messages.map(|message| message.at_once.get()).sum()
    }

    /// A NOTIFY that was not answered at once.
    pub(super) fn note(&self, slot: usize) {
        self.notifies.add(1);
        self.messages[slot].noted.add(1);
    }

    /// One NOTIFY's end, `took` after it was taken up.
    pub(super) fn settle(&self, slot: usize, outcome: Counted, took: Duration) {
        let message = &self.messages[slot];
        message.outcomes[outcome.index()].add(1);
        match outcome {
            Counted::Answered => self.acks.add(1),
            Counted::Fault(fault) => {
                self.acks.add(1);
                let counter = match fault {
                    Fault::Error => &self.agent_errors,
                    Fault::Panic => &self.agent_panics,
                    Fault::TooLarge => &self.too_large,
                    Fault::Deadline => &self.deadlines_passed,
                    Fault::Abandoned => &self.tickets_abandoned,
                    Fault::Shed => &self.shed,
                };
                counter.add(1);
            }
            Counted::Invalid => return,
            Counted::Lost => return self.lost.add(1),
        }
        message.observe(took, 1);
    }
}

/// How a payload begins whose first message has a certain name: with its length and the name. To
/// compare that with the payload before takes no decoding.
#[derive(Clone, Debug)]
struct Beginning {
    /// Of the first 16 bytes those that belong to it.
    mask: u128,
    head: u128,
    /// What follows them, of a longer name.
    tail: Box<[u8]>,
}

/// That of no payload.
impl Default for Beginning {
    fn default() -> Self {
        Self {
            mask: 0,
            head: 1,
            tail: Box::default(),
        }
    }
}

impl Beginning {
    const HEAD_LEN: usize = size_of::<u128>();

    fn of(payload: &[u8], name_len: usize) -> Self {
        let len = 1 + name_len;
        let (Some(head), true) = (payload.first_chunk(), name_len <= MAX_NAME_LEN) else {
            return Self::default();
        };
        let mask = match Self::HEAD_LEN.checked_sub(len) {
            Some(others) => u128::MAX >> (8 * others),
            None => u128::MAX,
        };
        Self {
            mask,
            head: u128::from_le_bytes(*head) & mask,
            tail: payload.get(Self::HEAD_LEN..len).unwrap_or_default().into(),
        }
    }

    #[inline(always)]
    fn is_of(&self, payload: &[u8]) -> bool {
        let Some((head, rest)) = payload.split_first_chunk() else {
            return false;
        };
        u128::from_le_bytes(*head) & self.mask == self.head
            && (self.tail.is_empty() || rest.starts_with(&self.tail))
    }
}

/// The counting of one turn: which NOTIFYs were answered at once, by name. What all of them share
/// (the time they took, the cache lines of the counters) is added once a turn.
#[derive(Debug)]
pub(super) struct Tally {
    /// By slot; those that have one of their own.
    names: Vec<Box<[u8]>>,
    /// The NOTIFY before, whose name the next one mostly has too.
    last: Beginning,
    last_slot: usize,
    answered: [u32; MESSAGES],
    /// A bit for each slot that has something to add.
    seen: u32,
}

/// NOTIFYs one after the other that are counted in the same place. Kept beside the tally, in
/// registers.
#[derive(Debug)]
pub(super) struct Run {
    slot: usize,
    answered: u32,
}

impl Run {
    /// The last one was answered at once.
    #[inline(always)]
    pub(super) const fn answered(&mut self) {
        self.answered += 1;
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            // The first slot is that of NOTIFYs without a name.
            names: vec![Box::default()],
            last: Beginning::default(),
            last_slot: NONE,
            answered: [0; MESSAGES],
            seen: 0,
        }
    }
}

/// The name of the first message; empty where there is none, or where it cannot be read.
fn first_name(payload: &[u8]) -> &[u8] {
    let Ok((len, used)) = decode_varint(payload) else {
        return &[];
    };
    let end = usize::try_from(len).map_or(usize::MAX, |len| len.saturating_add(used));
    payload.get(used..end).unwrap_or_default()
}

impl Tally {
    /// Begins to count.
    #[inline(always)]
    pub(super) const fn begin(&self) -> Run {
        Run {
            slot: self.last_slot,
            answered: 0,
        }
    }

    /// Where a NOTIFY with this payload is counted: by the name of its first message.
    #[inline(always)]
    pub(super) fn slot(&mut self, run: &mut Run, counters: &Counters, payload: &[u8]) -> usize {
        if !self.last.is_of(payload) {
            self.end(run);
            run.slot = self.find(counters, payload);
        }
        run.slot
    }

    /// Takes what a run counted.
    fn end(&mut self, run: &mut Run) {
        self.answered[run.slot] += std::mem::take(&mut run.answered);
        self.seen |= 1 << run.slot;
    }

    #[inline(never)]
    fn find(&mut self, counters: &Counters, payload: &[u8]) -> usize {
        let name = first_name(payload);
        let slot = match self.names.iter().position(|known| **known == *name) {
            Some(slot) => slot,
            None => match std::str::from_utf8(name) {
                Ok(text) if name.len() <= MAX_NAME_LEN && self.names.len() < OTHER => {
                    let slot = self.names.len();
                    self.names.push(name.into());
                    // Empty until now: each slot is named once.
                    let _ = counters.messages[slot].name.set(text.into());
                    slot
                }
                _ => OTHER,
            },
        };
        self.last = if slot == OTHER {
            Beginning::default()
        } else {
            Beginning::of(payload, name.len())
        };
        self.last_slot = slot;
        slot
    }

    /// Adds what the turn counted; it took `took`.
    #[inline]
    pub(super) fn flush(&mut self, mut run: Run, counters: &Counters, took: Duration) {
        self.end(&mut run);
        while self.seen != 0 {
            let slot = self.seen.trailing_zeros() as usize;
            self.seen &= self.seen - 1;
            let answered = u64::from(std::mem::take(&mut self.answered[slot]));
            if answered > 0 {
                let message = &counters.messages[slot];
                message.at_once.add(answered);
                message.observe(took, answered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_time_is_in_the_bucket_that_ends_at_or_above_it() {
        for (took_ns, index) in [
            (0, 0),
            (1, 0),
            (1024, 0),
            (1025, 1),
            (2048, 1),
            (1 << 30, BUCKETS - 2),
            ((1 << 30) + 1, BUCKETS - 1),
            (u64::MAX, BUCKETS - 1),
        ] {
            assert_eq!(bucket(took_ns), index, "{took_ns} ns");
        }
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(1 << (FIRST_BUCKET_LOG2 as usize + index)), index);
            assert!(bucket_bound(index).is_some());
        }
        assert_eq!(bucket_bound(BUCKETS - 1), None);
    }

    /// Of a NOTIFY with one message of this name and an argument.
    fn payload(name: &[u8]) -> Vec<u8> {
        let mut payload = vec![u8::try_from(name.len()).unwrap()];
        payload.extend_from_slice(name);
        payload.extend_from_slice(b"\x01\x01p\x08\x02/x");
        payload
    }

    #[test]
    fn invented_names_take_no_memory() {
        let (counters, mut tally) = (Counters::default(), Tally::default());
        let mut run = tally.begin();
        let mut count = |payload: &[u8]| {
            let slot = tally.slot(&mut run, &counters, payload);
            run.answered();
            slot
        };
        assert_eq!(count(b""), NONE);
        assert_eq!(count(&payload(b"")), NONE);
        // Also while there is room.
        assert_eq!(count(&payload(&[b'x'; MAX_NAME_LEN + 1])), OTHER);
        assert_ne!(count(&payload(&[b'x'; MAX_NAME_LEN])), OTHER);
        let check = count(&payload(b"check"));
        for number in 0..1000 {
            count(&payload(format!("invented-{number}").as_bytes()));
        }
        assert_eq!(count(&payload(b"\xff")), OTHER);
        assert_eq!(count(&payload(b"check")), check);
        tally.flush(run, &counters, Duration::from_nanos(1500));
        let run = tally.begin();
        tally.flush(run, &counters, Duration::from_secs(1));
        assert_eq!(tally.names.len(), OTHER);
        assert_eq!(counters.snapshot().notifies, 1007);
        assert_eq!(counters.messages[check].notifies(), 2);
        assert_eq!(counters.messages[check].outcome(0), 2);
        assert_eq!(counters.messages[check].buckets[1].get(), 2);
        assert_eq!(counters.messages[check].took_ns.get(), 3000);
        assert_eq!(counters.message_name(check), Some("check"));
        assert_eq!(counters.message_name(OTHER), Some("(other)"));
        let total: u64 = counters.messages.iter().map(MessageStats::notifies).sum();
        assert_eq!(total, 1007);
    }

    #[test]
    fn names_that_differ_anywhere_are_told_apart() {
        let (counters, mut tally) = (Counters::default(), Tally::default());
        let mut run = tally.begin();
        let mut slot = |name: &str| tally.slot(&mut run, &counters, &payload(name.as_bytes()));
        let long = "a-name-of-more-than-16-bytes";
        let names = [
            "a", "b", "ab", "ba", "1234567", "12345678", "a\0", "\0a", long,
        ];
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.push(long.replace('m', "n"));
        names.push("check-client-ip".to_owned());
        names.push("check-client-iq".to_owned());
        let slots: Vec<_> = names.iter().map(|name| slot(name)).collect();
        for (name, expected) in names.iter().zip(&slots) {
            for _ in 0..2 {
                assert_eq!(slot(name), *expected, "{name:?}");
                // One without a place does not change where the next one goes.
                assert_eq!(slot(&"x".repeat(MAX_NAME_LEN + 1)), OTHER);
            }
        }
        let mut different = slots.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), slots.len());
    }

    #[test]
    fn statuses_have_a_place_each() {
        for (code, label) in [
            (0, "0"),
            (13, "13"),
            (99, "99"),
            (14, "other"),
            (u32::MAX, "other"),
        ] {
            assert_eq!(status_label(status_index(Status(code))), label);
        }
    }
}

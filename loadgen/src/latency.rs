//! Histograms of one thread, and how they reach the main thread once a second.
//!
//! A thread records into its own [`Interval`] and swaps it with an empty one that the main thread
//! left behind; the main thread merges. Swapping costs the sender nothing that grows with the
//! histogram, so the progress line does not show in the latencies.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::errors::Errors;
use crate::slots::Flight;

/// The longest latency told apart, 60 s; longer ones are recorded as this.
const HIGHEST_NS: u64 = 60_000_000_000;

/// Three digits, so 0.1 %: about 220 KiB a histogram over this range.
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram: 1 ns to 60 s at three significant digits, saturating.
#[must_use]
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_NS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants and right")
}

/// What was measured in some stretch of time.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    /// ACKs within the measured time.
    pub(crate) frames: u64,
    /// Latency from the intended send time.
    pub(crate) corrected: Histogram<u64>,
    /// Only in an open loop; in a closed one these are empty.
    pub(crate) open: Option<Box<OpenLoop>>,
}

/// What only an open loop tells apart.
#[derive(Clone, Debug)]
pub(crate) struct OpenLoop {
    /// Latency from the actual send time.
    pub(crate) uncorrected: Histogram<u64>,
    /// From intended to actual send time, of the NOTIFYs that did not wait for a free slot: what
    /// the generator itself was late.
    pub(crate) late: Histogram<u64>,
}

impl Interval {
    pub(crate) fn new(open_loop: bool) -> Self {
        let open = || {
            Box::new(OpenLoop {
                uncorrected: new_histogram(),
                late: new_histogram(),
            })
        };
        Self {
            frames: 0,
            corrected: new_histogram(),
            open: open_loop.then(open),
        }
    }

    #[inline]
    fn record(&mut self, flight: Flight, received_ns: u64) {
        let since = |ns: u64| received_ns.saturating_sub(ns);
        self.corrected.saturating_record(since(flight.intended_ns));
        if let Some(open) = &mut self.open {
            open.uncorrected.saturating_record(since(flight.sent_ns));
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        const SAME: &str = "all histograms have the same bounds";
        self.frames += other.frames;
        self.corrected.add(&other.corrected).expect(SAME);
        if let (Some(open), Some(more)) = (&mut self.open, &other.open) {
            open.uncorrected.add(&more.uncorrected).expect(SAME);
            open.late.add(&more.late).expect(SAME);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.frames = 0;
        self.corrected.reset();
        if let Some(open) = &mut self.open {
            open.uncorrected.reset();
            open.late.reset();
        }
    }
}

/// What one thread records.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) interval: Interval,
    pub(crate) errors: Errors,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Within the measured time.
    pub(crate) counting: bool,
}

impl Recorder {
    pub(crate) fn new(open_loop: bool) -> Self {
        Self {
            interval: Interval::new(open_loop),
            errors: Errors::default(),
            bytes_in: 0,
            bytes_out: 0,
            counting: false,
        }
    }

    /// Records one ACK.
    #[inline]
    pub(crate) fn answered(&mut self, flight: Flight, received_ns: u64) {
        self.interval.frames += u64::from(self.counting);
        self.interval.record(flight, received_ns);
    }

    /// Records how late the generator itself was.
    #[inline]
    pub(crate) fn late(&mut self, late_ns: u64) {
        if let Some(open) = &mut self.interval.open {
            open.late.saturating_record(late_ns);
        }
    }

    #[inline]
    pub(crate) fn received_bytes(&mut self, len: usize) {
        self.bytes_in += if self.counting { len as u64 } else { 0 };
    }

    #[inline]
    pub(crate) fn sent_bytes(&mut self, len: usize) {
        self.bytes_out += if self.counting { len as u64 } else { 0 };
    }
}

/// Where a thread leaves its intervals for the main thread.
#[derive(Debug)]
pub(crate) struct Mailbox(Mutex<Mail>);

#[derive(Debug)]
struct Mail {
    interval: Interval,
    full: bool,
    errors: u64,
}

impl Mailbox {
    pub(crate) fn new(open_loop: bool) -> Self {
        Self(Mutex::new(Mail {
            interval: Interval::new(open_loop),
            full: false,
            errors: 0,
        }))
    }

    /// Leaves an interval and takes an empty one. If the last was not collected yet, `interval`
    /// stays and goes on growing.
    pub(crate) fn leave(&self, interval: &mut Interval, errors: u64) {
        if let Ok(mut mail) = self.0.try_lock()
            && !mail.full
        {
            std::mem::swap(&mut mail.interval, interval);
            mail.full = true;
            mail.errors = errors;
        }
    }

    /// Adds what was left to `sum`, and returns the errors so far.
    pub(crate) fn collect(&self, sum: &mut Interval) -> u64 {
        let mut mail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if mail.full {
            sum.merge(&mail.interval);
            mail.interval.clear();
            mail.full = false;
        }
        mail.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_both_times() {
        let mut recorder = Recorder::new(true);
        recorder.counting = true;
        let flight = Flight {
            intended_ns: 1_000,
            sent_ns: 201_000,
        };
        recorder.answered(flight, 211_000);
        let interval = &recorder.interval;
        let near = |value: u64, wanted: u64| value.abs_diff(wanted) * 1000 <= wanted;
        assert!(near(interval.corrected.max(), 210_000));
        assert!(near(
            interval.open.as_ref().unwrap().uncorrected.max(),
            10_000
        ));
        assert_eq!(interval.frames, 1);
    }

    #[test]
    fn longer_than_the_range_is_kept_at_its_end() {
        let mut histogram = new_histogram();
        histogram.saturating_record(u64::MAX);
        assert!(histogram.max() >= HIGHEST_NS);
        assert_eq!(histogram.len(), 1);
    }

    #[test]
    fn an_interval_not_collected_keeps_growing() {
        let mailbox = Mailbox::new(false);
        let mut interval = Interval::new(false);
        interval.frames = 1;
        mailbox.leave(&mut interval, 0);
        assert_eq!(interval.frames, 0);
        interval.frames = 2;
        mailbox.leave(&mut interval, 5);
        assert_eq!(interval.frames, 2);
        let mut sum = Interval::new(false);
        assert_eq!(mailbox.collect(&mut sum), 0);
        mailbox.leave(&mut interval, 5);
        assert_eq!(mailbox.collect(&mut sum), 5);
        assert_eq!(sum.frames, 3);
    }
}

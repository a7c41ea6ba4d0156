//! Axes: where the ticks of a range are, and what is written at them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::report::to_f64;

/// The part of an axis that is drawn, in its own coordinates (those of a logarithmic axis are
/// decades), and its labelled ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From zero to at least `max`, with at most `count` round steps.
    pub(super) fn linear(max: f64, count: u32, label: impl Fn(f64) -> String) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_step(max / f64::from(count));
        let steps = (max / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=count)
            .map(|index| step * f64::from(index))
            .filter(|tick| *tick <= step * (steps + 0.5))
            .map(|tick| (tick, label(tick)))
            .collect();
        Self {
            from: 0.0,
            to: step * steps,
            ticks,
        }
    }

    /// From zero to exactly `max`, which need not have a tick.
    pub(super) fn linear_exact(max: f64, count: u32, label: impl Fn(f64) -> String) -> Self {
        let mut axis = Self::linear(max, count, label);
        if max > 0.0 {
            axis.to = max;
            axis.ticks.retain(|(tick, _)| *tick <= max * (1.0 + 1e-9));
        }
        axis
    }

    /// Decades from at most `min` to at least `max`, both above zero, with ticks at 1, and at 2
    /// and 5 where there are few.
    pub(super) fn logarithmic(min: f64, max: f64, label: impl Fn(f64) -> String) -> Self {
        const STEPS: [f64; 3] = [1.0, 2.0, 5.0];
        let (mut from, mut to) = (0, 0);
        let grid = |index: i32| {
            let step = usize::try_from(index.rem_euclid(3)).unwrap_or(0);
            STEPS[step] * 10_f64.powi(index.div_euclid(3))
        };
        while grid(from) > min * (1.0 + 1e-9) {
            from -= 1;
        }
        while grid(from + 1) <= min * (1.0 + 1e-9) {
            from += 1;
        }
        while grid(to) < max * (1.0 - 1e-9) {
            to += 1;
        }
        while grid(to - 1) >= max * (1.0 - 1e-9) {
            to -= 1;
        }
        if to <= from {
            to = from + 1;
        }
        let dense = to - from <= 9;
        let ticks = (from..=to)
            .filter(|index| dense || index.rem_euclid(3) == 0)
            .map(|index| (grid(index).log10(), label(grid(index))))
            .collect();
        Self {
            from: grid(from).log10(),
            to: grid(to).log10(),
            ticks,
        }
    }

    /// The axis of `HdrHistogram`'s plots: each step of a decade leaves a tenth of the samples, so
    /// 0, 90, 99, 99.9 % are at 0, 1, 2, 3. Long enough for `count` samples.
    pub(super) fn percentiles(count: u64) -> Self {
        let decades = depth(count).ceil().max(1.0);
        let mut ticks = vec![
            (0.0, "0%".to_owned()),
            (0.5_f64.recip().log10(), "50%".to_owned()),
            (1.0, "90%".to_owned()),
        ];
        let mut decade = 2;
        while f64::from(decade) <= decades {
            let nines = "9".repeat(usize::try_from(decade).unwrap_or(2));
            let (whole, rest) = nines.split_at(2);
            let point = if rest.is_empty() { "" } else { "." };
            ticks.push((f64::from(decade), format!("{whole}{point}{rest}%")));
            decade += 1;
        }
        Self {
            from: 0.0,
            to: decades,
            ticks,
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[allow(
        clippy::cast_possible_truncation,
        reason = "casts saturate, and a place in a picture fits"
    )]
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.from) / (self.to - self.from);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        plain(*value)
    }

    fn format_ext(&self, value: &f64) -> String {
        self.ticks
            .iter()
            .find(|(tick, _)| tick.total_cmp(value).is_eq())
            .map_or_else(String::new, |(_, label)| label.clone())
    }
}

/// How far right on [`Axis::percentiles`] the last of `count` samples is.
pub(super) fn depth(count: u64) -> f64 {
    to_f64(count.max(1)).log10()
}

/// The next of 1, 2, 2.5 and 5 times a power of ten.
fn round_step(at_least: f64) -> f64 {
    let power = 10_f64.powf(at_least.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= at_least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// A number without the digits that only the computer's arithmetic put there.
pub(super) fn plain(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

/// A count or rate in few digits: 500, 20k, 1.5M.
pub(super) fn short_count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{}G", plain(v / 1e9)),
        v if v >= 1e6 => format!("{}M", plain(v / 1e6)),
        v if v >= 1e4 => format!("{}k", plain(v / 1e3)),
        v => plain(v),
    }
}

/// A latency of few digits with its unit, as a tick has it: 500 ns, 50 us, 2 ms, 1 s.
pub(super) fn short_latency(ns: f64) -> String {
    match ns {
        v if v >= 1e9 => format!("{} s", plain(v / 1e9)),
        v if v >= 1e6 => format!("{} ms", plain(v / 1e6)),
        v if v >= 1e3 => format!("{} us", plain(v / 1e3)),
        v => format!("{} ns", plain(v)),
    }
}

/// A measured latency with its unit and the three digits that a histogram of three can back.
pub(super) fn latency(ns: u64) -> String {
    let us = to_f64(ns) / 1e3;
    let (value, unit) = match us {
        us if us < 1e3 => (us, "us"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// The unit of an axis from zero to `max_ns`: its name, and how many nanoseconds it is.
pub(super) fn unit_of(max_ns: f64) -> (&'static str, f64) {
    match max_ns {
        ns if ns >= 2e9 => ("s", 1e9),
        ns if ns >= 2e6 => ("ms", 1e6),
        _ => ("us", 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> String {
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        labels.join(" ")
    }

    #[test]
    fn linear_ticks_are_round_and_cover_the_range() {
        for (max, wanted) in [
            (0.0, "0 0.2 0.4 0.6 0.8 1"),
            (1.0, "0 0.2 0.4 0.6 0.8 1"),
            (7.3, "0 2 4 6 8"),
            (117.0, "0 25 50 75 100 125"),
            (250.0, "0 50 100 150 200 250"),
            (999_999.0, "0 200000 400000 600000 800000 1000000"),
        ] {
            let axis = Axis::linear(max, 5, plain);
            assert_eq!(labels(&axis), wanted, "{max}");
            assert!(axis.to >= max);
        }
        let axis = Axis::linear_exact(7.3, 5, plain);
        assert_eq!((labels(&axis).as_str(), axis.to), ("0 2 4 6", 7.3));
    }

    #[test]
    fn logarithmic_ticks_thin_out() {
        let axis = Axis::logarithmic(23_000.0, 1_400_000.0, short_latency);
        assert_eq!(labels(&axis), "20 us 50 us 100 us 200 us 500 us 1 ms 2 ms");
        let axis = Axis::logarithmic(20_000.0, 3e9, short_latency);
        assert_eq!(labels(&axis), "100 us 1 ms 10 ms 100 ms 1 s");
        // One value, and one on the grid.
        for value in [1_000.0, 1_300.0] {
            let axis = Axis::logarithmic(value, value, short_latency);
            assert!(axis.from < axis.to && axis.ticks.len() >= 2, "{axis:?}");
            assert!(axis.from <= value.log10() && value.log10() <= axis.to);
        }
    }

    #[test]
    fn percentile_ticks_reach_the_last_sample() {
        assert_eq!(labels(&Axis::percentiles(1)), "0% 50% 90%");
        assert_eq!(labels(&Axis::percentiles(100)), "0% 50% 90% 99%");
        assert_eq!(
            labels(&Axis::percentiles(10_001)),
            "0% 50% 90% 99% 99.9% 99.99% 99.999%"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [900.0, 20_000.0, 1.5e6, 2e9].map(short_count),
            ["900", "20k", "1.5M", "2G"]
        );
        assert_eq!(
            [38_444, 9_876_543, 12_345_678, 200_015_871, 12_000_000_000].map(latency),
            ["38.4 us", "9.88 ms", "12.3 ms", "200 ms", "12.0 s"]
        );
    }
}

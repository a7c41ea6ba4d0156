//! The search for the highest rate at which an agent still answers in time.
//!
//! Rates grow geometrically until one fails, then the gap between the last that passed and the
//! first that failed is halved until it is about 3 %. Each rate is measured until two measurements
//! agree, at most three times: one hiccup of the machine decides nothing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::plan::{Plan, nanoseconds};
use crate::report::{BUSY, Grouped, Micros, Settings, round, to_f64};
use crate::run::{Progress, RunError, run};
use crate::saved::SavedRun;

/// Raised when readers of an older curve would misread it.
const FORMAT: u32 = 1;

/// The search ends when the rate that fails is above the one that passes by no more than this.
const RESOLUTION: f64 = 1.03;

/// From one rate to the next while they pass.
const GROWTH: f64 = 2.0;

/// A 99th percentile of fewer NOTIFYs than this is one or two of them.
const LEAST_SAMPLES: f64 = 200.0;

/// What to search for, and where.
#[derive(Clone, Debug)]
pub struct SweepPlan {
    /// The load. Its `rate` is not used; its `duration` is that of one measurement.
    pub plan: Plan,
    /// The 99th percentile of the latency from the intended send time must be below this.
    pub p99_below: Duration,
    /// The lowest rate, tried first, in NOTIFYs a second.
    pub from: u64,
    /// The highest rate to try; default none.
    pub to: Option<u64>,
    /// How many rates to try from `from` to `to`, in equal ratios, while they pass; at least 2,
    /// and only with `to`. Default none: each is twice the one before.
    pub steps: Option<u32>,
}

/// A setting of a sweep out of its range: the flag, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepError(String);

impl fmt::Display for SweepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SweepError {}

/// What a measurement, or several of one rate, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SweepVerdict {
    /// The 99th percentile is below the bound.
    Pass,
    /// It is not.
    Slow,
    /// So many NOTIFYs were never sent for want of a free slot that the 99th percentile is one of
    /// them.
    Behind,
    /// Errors or violations were counted.
    Errors,
    /// The generator itself was the limit, so nothing is known of the agent.
    Generator,
}

impl SweepVerdict {
    /// What counts when measurements are held against each other.
    const fn class(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Slow | Self::Behind | Self::Errors => 1,
            Self::Generator => 2,
        }
    }
}

impl fmt::Display for SweepVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Slow => "too slow",
            Self::Behind => "behind",
            Self::Errors => "errors",
            Self::Generator => "generator",
        })
    }
}

/// One measurement of one rate. Latencies are from the intended send time, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// NOTIFYs a second asked for.
    pub rate: u64,
    /// ACKs a second that came.
    pub frames_per_second: f64,
    /// The median.
    pub p50_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// NOTIFYs that were due and never sent; they count as beyond the bound.
    pub unsent: u64,
    /// Errors and violations.
    pub errors: u64,
    /// How late the generator itself sent, 99 %.
    pub late_p99_us: f64,
    /// CPU time of the generator over its threads' time.
    pub cpu_busy: f64,
    /// What it says.
    pub verdict: SweepVerdict,
    /// Why, unless it passed.
    pub reason: Option<String>,
}

/// How a sweep ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SweepEnd {
    /// A rate passed, and one about 3 % above it did not.
    Found,
    /// The highest rate asked for passed.
    ReachedTo,
    /// At this rate the generator was the limit; the agent may be faster than what passed.
    Generator {
        /// The rate.
        rate: u64,
        /// How it shows.
        reason: String,
    },
    /// Not even the lowest rate passed.
    NothingPassed {
        /// Why.
        reason: String,
    },
    /// The user ended it.
    Stopped,
    /// A measurement could not be made, such as of an agent that has gone.
    Failed {
        /// Its rate.
        rate: u64,
        /// Why.
        reason: String,
    },
}

/// What a sweep measured, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The version of this form.
    pub format: u32,
    /// The bound of the 99th percentile.
    pub p99_below_us: f64,
    /// The highest rate that passed, in NOTIFYs a second.
    pub best_rate: Option<u64>,
    /// Why the search ended.
    pub end: SweepEnd,
    /// The lowest rate that failed.
    pub failed_rate: Option<u64>,
    /// Errors and violations of all measurements.
    pub errors: u64,
    /// How the measurements were made, but for the rate; none if there was none.
    pub settings: Option<Settings>,
    /// All of them, in the order they were made.
    pub measurements: Vec<Measurement>,
}

impl SweepPlan {
    /// Checks every setting and what they ask of each other.
    ///
    /// # Errors
    ///
    /// The first that is out of its range.
    pub fn check(&self) -> Result<(), SweepError> {
        let fail = |text: String| Err(SweepError(text));
        for (flag, rate) in [("--from", Some(self.from)), ("--to", self.to)] {
            let plan = Plan {
                rate,
                ..self.plan.clone()
            };
            if let Err(error) = plan.check() {
                let text = error.to_string();
                return fail(
                    text.replace("--rate", flag)
                        .replace("--duration", "--seconds"),
                );
            }
        }
        if self.p99_below.is_zero() {
            return fail("--p99-below: must be more than 0 us".to_owned());
        }
        let seconds = self.plan.duration.as_secs_f64();
        if to_f64(self.from) * seconds < LEAST_SAMPLES {
            return fail(format!(
                "--from: {} NOTIFYs/s for {seconds} s are too few for a 99th percentile; give more \
                 --seconds or a higher --from, at least {LEAST_SAMPLES} NOTIFYs together",
                self.from
            ));
        }
        if self.to.is_some_and(|to| to <= self.from) {
            return fail(format!("--to: must be above --from, {}", self.from));
        }
        match (self.steps, self.to) {
            (Some(_), None) => fail("--steps: needs --to, where the steps end".to_owned()),
            (Some(0 | 1), _) => fail("--steps: must be at least 2, --from and --to".to_owned()),
            _ => Ok(()),
        }
    }

    /// From one rate to the next.
    fn growth(&self) -> f64 {
        match (self.steps, self.to) {
            (Some(steps), Some(to)) => {
                let ratio = to_f64(to) / to_f64(self.from);
                ratio.powf(1.0 / f64::from(steps.max(2) - 1))
            }
            _ => GROWTH,
        }
    }
}

/// Searches, calling `progress` after each measurement, until the end or until `stop` is set.
///
/// # Errors
///
/// If the plan is wrong, or the first measurement could not be made.
pub fn sweep(
    plan: &SweepPlan,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Measurement),
) -> Result<Curve, RunError> {
    plan.check()
        .map_err(|SweepError(text)| RunError::System(text))?;
    let mut settings = None;
    let mut first_failure = None;
    let mut measure = |rate: u64| {
        let one = Plan {
            rate: Some(rate),
            ..plan.plan.clone()
        };
        let measured = match run(&one, stop, &mut |_: &Progress| {}) {
            Ok(measured) => measured,
            Err(RunError::Stopped) => return Ok(None),
            Err(error) => {
                let reason = error.to_string();
                if settings.is_none() {
                    first_failure = Some(error);
                }
                return Err(reason);
            }
        };
        // One that was cut short is none.
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let measurement = Measurement::of(&measured, rate, plan.p99_below);
        settings.get_or_insert(Settings {
            rate: None,
            ..measured.settings
        });
        progress(&measurement);
        Ok(Some(measurement))
    };
    let mut search = Search::new(plan);
    let end = search.run(plan, &mut measure);
    if let Some(error) = first_failure {
        return Err(error);
    }
    Ok(Curve {
        format: FORMAT,
        p99_below_us: plan.p99_below.as_secs_f64() * 1e6,
        best_rate: search.best,
        end,
        failed_rate: search.failed,
        errors: search.measurements.iter().map(|one| one.errors).sum(),
        settings,
        measurements: search.measurements,
    })
}

/// Measures a rate: `None` where the user ended it.
type Measure<'a> = dyn FnMut(u64) -> Result<Option<Measurement>, String> + 'a;

struct Search {
    growth: f64,
    best: Option<u64>,
    failed: Option<u64>,
    measurements: Vec<Measurement>,
}

impl Search {
    fn new(plan: &SweepPlan) -> Self {
        Self {
            growth: plan.growth(),
            best: None,
            failed: None,
            measurements: Vec::new(),
        }
    }

    fn run(&mut self, plan: &SweepPlan, measure: &mut Measure<'_>) -> SweepEnd {
        let mut rate = plan.from;
        loop {
            let (verdict, reason) = match self.point(rate, measure) {
                Ok(point) => point,
                Err(end) => return end,
            };
            match verdict {
                SweepVerdict::Pass => {
                    self.best = Some(rate);
                    if plan.to == Some(rate) {
                        return SweepEnd::ReachedTo;
                    }
                }
                SweepVerdict::Generator => return SweepEnd::Generator { rate, reason },
                _ => {
                    self.failed = Some(rate);
                    if self.best.is_none() {
                        return SweepEnd::NothingPassed { reason };
                    }
                }
            }
            let next = match (self.best, self.failed) {
                (Some(best), Some(failed)) => between(best, failed),
                _ => Some(self.grown(rate, plan.to)),
            };
            match next {
                Some(next) => rate = next,
                None => return SweepEnd::Found,
            }
        }
    }

    fn grown(&self, rate: u64, to: Option<u64>) -> u64 {
        let grown = round(to_f64(rate) * self.growth).max(rate + 1);
        match to {
            // The last step is not to miss the end by a rounding.
            Some(to) if to_f64(grown) * RESOLUTION > to_f64(to) => to,
            _ => grown,
        }
    }

    /// Measures a rate until two measurements agree, and says what they say.
    fn point(
        &mut self,
        rate: u64,
        measure: &mut Measure<'_>,
    ) -> Result<(SweepVerdict, String), SweepEnd> {
        let first = self.measurements.len();
        for _ in 0..3 {
            let measurement = match measure(rate) {
                Ok(Some(measurement)) => measurement,
                Ok(None) => return Err(SweepEnd::Stopped),
                Err(reason) => return Err(SweepEnd::Failed { rate, reason }),
            };
            let agrees = |one: &Measurement| one.verdict.class() == measurement.verdict.class();
            let agreed = self.measurements[first..].iter().any(agrees);
            let verdict = measurement.verdict;
            let reason = measurement.reason.clone().unwrap_or_default();
            self.measurements.push(measurement);
            if agreed {
                return Ok((verdict, reason));
            }
        }
        let reason = "three measurements said three different things".to_owned();
        Ok((SweepVerdict::Generator, reason))
    }
}

/// The rate in the middle of a gap, unless it is small enough.
fn between(best: u64, failed: u64) -> Option<u64> {
    let (low, high) = (to_f64(best), to_f64(failed));
    let middle = round((low * high).sqrt());
    (high > low * RESOLUTION && best < middle && middle < failed).then_some(middle)
}

impl Measurement {
    fn of(run: &SavedRun, rate: u64, p99_below: Duration) -> Self {
        let results = &run.results;
        let bound_ns = nanoseconds(p99_below);
        let (verdict, reason) = judge(run, bound_ns);
        Self {
            rate,
            frames_per_second: results.frames_per_second,
            p50_us: results.p50_us,
            p99_us: results.p99_us,
            p999_us: results.p999_us,
            max_us: results.max_us,
            unsent: results.unsent,
            errors: results.errors,
            late_p99_us: results.late_p99_us,
            cpu_busy: results.cpu_busy,
            verdict,
            reason,
        }
    }
}

fn judge(run: &SavedRun, bound_ns: u64) -> (SweepVerdict, Option<String>) {
    let results = &run.results;
    if results.errors > 0 {
        let text = format!("errors counted: {}", Grouped(results.errors));
        return (SweepVerdict::Errors, Some(text));
    }
    // What was never sent would have taken longer than anything that was.
    let count = run.corrected.len();
    let rank = (to_f64(count + results.unsent) * 0.99).ceil();
    let behind = rank > to_f64(count);
    let p99_ns = run.corrected.value_at_quantile(rank / to_f64(count.max(1)));
    if !behind && p99_ns < bound_ns {
        return (SweepVerdict::Pass, None);
    }
    // Only where it fails does it matter whose fault it is.
    if results.late_p99_us * 2e3 > to_f64(bound_ns) {
        let text = format!(
            "it sent {} us late by itself at its 99th percentile, using {:.0} % of its threads' time",
            Micros(round(results.late_p99_us * 1e3)),
            results.cpu_busy * 100.0
        );
        return (SweepVerdict::Generator, Some(text));
    }
    // Without a free slot it waits and does not poll, so what it uses then is work: it may be that
    // ACKs have come and it gets to none of them.
    if behind && results.cpu_busy > BUSY {
        let text = format!(
            "it used {:.0} % of its threads' time and fell behind",
            results.cpu_busy * 100.0
        );
        return (SweepVerdict::Generator, Some(text));
    }
    if behind {
        let text = format!("{} NOTIFYs were never sent", Grouped(results.unsent));
        return (SweepVerdict::Behind, Some(text));
    }
    let text = format!("p99 is {} us", Micros(p99_ns));
    (SweepVerdict::Slow, Some(text))
}

impl Measurement {
    /// The names over the columns of [`row`](Self::row).
    #[must_use]
    pub fn header() -> String {
        format!(
            "{:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}  verdict",
            "asked/s", "got/s", "p50 us", "p99 us", "p99.9 us", "max us", "unsent"
        )
    }

    /// The measurement as a line of a table.
    #[must_use]
    pub fn row(&self) -> String {
        let us = |us: f64| Micros(round(us * 1e3)).to_string();
        let reason = match &self.reason {
            Some(reason) => format!(": {reason}"),
            None => String::new(),
        };
        format!(
            "{:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}  {}{reason}",
            Grouped(self.rate).to_string(),
            Grouped(round(self.frames_per_second)).to_string(),
            us(self.p50_us),
            us(self.p99_us),
            us(self.p999_us),
            us(self.max_us),
            Grouped(self.unsent).to_string(),
            self.verdict,
        )
    }
}

impl Curve {
    /// The measurement that stands for a rate: of those with its verdict, the one with the highest
    /// 99th percentile.
    pub(crate) fn points(&self) -> Vec<&Measurement> {
        let mut rates: Vec<u64> = self.measurements.iter().map(|one| one.rate).collect();
        rates.sort_unstable();
        rates.dedup();
        let point = |rate: u64| {
            let of_rate = || self.measurements.iter().filter(move |one| one.rate == rate);
            let class = of_rate().next_back()?.verdict.class();
            of_rate()
                .filter(|one| one.verdict.class() == class)
                .max_by(|a, b| a.p99_us.total_cmp(&b.p99_us))
        };
        rates.into_iter().filter_map(point).collect()
    }

    /// The answer in one line.
    #[must_use]
    pub fn answer(&self) -> String {
        let bound = Micros(round(self.p99_below_us * 1e3)).to_string();
        let at_least = match self.best_rate {
            Some(rate) => {
                let p99_us = |one: &&Measurement| one.rate == rate;
                let measured = self
                    .points()
                    .into_iter()
                    .find(p99_us)
                    .map_or(0.0, |one| one.p99_us);
                format!(
                    "p99 is below {bound} us at {} NOTIFYs/s ({} us)",
                    Grouped(rate),
                    Micros(round(measured * 1e3))
                )
            }
            None => format!("no rate with a p99 below {bound} us was found"),
        };
        match &self.end {
            SweepEnd::Found => format!(
                "{at_least}, and not at {}",
                Grouped(self.failed_rate.unwrap_or(0))
            ),
            SweepEnd::ReachedTo => {
                format!("{at_least}, the highest rate tried: give a higher --to to look further")
            }
            SweepEnd::Generator { rate, reason } => format!(
                "{at_least}, and the agent may be faster: at {} the generator itself was the limit \
                 ({reason}); give it --cores that nothing else runs on, and if it used most of its \
                 time more --threads",
                Grouped(*rate)
            ),
            SweepEnd::NothingPassed { reason } => format!(
                "{at_least}: even at {} NOTIFYs/s {reason}; give a lower --from or a higher \
                 --p99-below",
                Grouped(self.failed_rate.unwrap_or(0))
            ),
            SweepEnd::Stopped => format!("{at_least}; interrupted, so higher rates are not known"),
            SweepEnd::Failed { rate, reason } => format!(
                "{at_least}; then at {} the measurement failed: {reason}",
                Grouped(*rate)
            ),
        }
    }

    /// The curve as one JSON object, on several lines.
    ///
    /// # Errors
    ///
    /// None in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::profile::Profile;
    use crate::report::tests::sample;

    fn plan() -> SweepPlan {
        let target = "127.0.0.1:1".parse().unwrap();
        SweepPlan {
            plan: Plan::new(target, Profile::ip(None, None)),
            p99_below: Duration::from_micros(500),
            from: 1_000,
            to: None,
            steps: None,
        }
    }

    fn measurement(rate: u64, verdict: SweepVerdict) -> Measurement {
        Measurement {
            verdict,
            reason: (verdict != SweepVerdict::Pass).then(|| "so it is".to_owned()),
            ..Measurement::of(&sample(Some(rate)), rate, Duration::from_secs(1))
        }
    }

    /// The curve of an agent that takes `capacity`.
    pub(crate) fn curve(capacity: u64) -> Curve {
        let (search, end) = searched(&plan(), |rate, _| {
            if rate <= capacity {
                SweepVerdict::Pass
            } else {
                SweepVerdict::Slow
            }
        });
        Curve {
            format: FORMAT,
            p99_below_us: 500.0,
            best_rate: search.best,
            end,
            failed_rate: search.failed,
            errors: 0,
            settings: Some(sample(None).settings),
            measurements: search.measurements,
        }
    }

    /// Searches where the verdict depends on the rate and the number of the measurement.
    fn searched(
        plan: &SweepPlan,
        verdict: impl Fn(u64, usize) -> SweepVerdict,
    ) -> (Search, SweepEnd) {
        plan.check().unwrap();
        let mut search = Search::new(plan);
        let mut count = 0;
        let end = search.run(plan, &mut |rate| {
            count += 1;
            assert!(count < 200, "the search goes on for ever");
            Ok(Some(measurement(rate, verdict(rate, count))))
        });
        (search, end)
    }

    fn rates(search: &Search) -> Vec<u64> {
        let mut rates: Vec<u64> = search.measurements.iter().map(|one| one.rate).collect();
        rates.dedup();
        rates
    }

    #[test]
    fn the_highest_rate_is_found_to_three_percent() {
        for capacity in [1_000, 1_001, 1_999, 54_321, 1_000_000, 7_654_321] {
            let curve = curve(capacity);
            let (best, failed) = (curve.best_rate.unwrap(), curve.failed_rate.unwrap());
            assert_eq!(curve.end, SweepEnd::Found);
            assert!(best <= capacity && capacity < failed);
            assert!(
                to_f64(failed) <= to_f64(best) * RESOLUTION,
                "{best} {failed}"
            );
            // Each rate twice, as the two agree.
            assert_eq!(curve.measurements.len(), 2 * curve.points().len());
            assert!(curve.answer().contains(&Grouped(best).to_string()));
        }
    }

    #[test]
    fn one_hiccup_decides_nothing() {
        let capacity = 20_000;
        // Every third measurement says the opposite.
        let (search, end) = searched(&plan(), |rate, count| {
            if (rate <= capacity) == (count % 3 != 0) {
                SweepVerdict::Pass
            } else {
                SweepVerdict::Slow
            }
        });
        assert_eq!(end, SweepEnd::Found);
        assert!(search.best.unwrap() <= capacity && search.best.unwrap() > 19_000);
    }

    #[test]
    fn steps_reach_the_end_exactly() {
        let plan = SweepPlan {
            to: Some(16_000),
            steps: Some(5),
            ..plan()
        };
        let (search, end) = searched(&plan, |_, _| SweepVerdict::Pass);
        assert_eq!(rates(&search), [1_000, 2_000, 4_000, 8_000, 16_000]);
        assert_eq!((search.best, end), (Some(16_000), SweepEnd::ReachedTo));
        let plan = SweepPlan {
            to: Some(5_000),
            steps: None,
            ..plan
        };
        let (search, _) = searched(&plan, |_, _| SweepVerdict::Pass);
        assert_eq!(rates(&search), [1_000, 2_000, 4_000, 5_000]);
    }

    #[test]
    fn the_generator_ends_the_search_and_is_named() {
        let verdict = |rate, _| {
            if rate <= 4_000 {
                SweepVerdict::Pass
            } else {
                SweepVerdict::Generator
            }
        };
        let (search, end) = searched(&plan(), verdict);
        assert_eq!(search.best, Some(4_000));
        let reason = "so it is".to_owned();
        assert_eq!(
            end,
            SweepEnd::Generator {
                rate: 8_000,
                reason
            }
        );
        let curve = Curve {
            best_rate: search.best,
            failed_rate: None,
            end,
            ..curve(4_000)
        };
        let answer = curve.answer();
        assert!(answer.contains("at 8 000 the generator itself"), "{answer}");
    }

    #[test]
    fn a_bound_that_nothing_keeps_is_said() {
        let (search, end) = searched(&plan(), |_, _| SweepVerdict::Behind);
        assert_eq!((search.best, search.measurements.len()), (None, 2));
        assert!(matches!(end, SweepEnd::NothingPassed { .. }));
    }

    #[test]
    fn a_stop_keeps_what_was_found() {
        let plan = plan();
        let mut search = Search::new(&plan);
        let end = search.run(&plan, &mut |rate| {
            Ok((rate < 4_000).then(|| measurement(rate, SweepVerdict::Pass)))
        });
        assert_eq!((search.best, end), (Some(2_000), SweepEnd::Stopped));
        let end = Search::new(&plan).run(&plan, &mut |_| Err("it has gone".to_owned()));
        assert!(matches!(end, SweepEnd::Failed { rate: 1_000, .. }));
    }

    #[test]
    fn whose_fault_it_is() {
        // Latencies up to 100 ms, so a p99 of 99 ms; the generator itself late by up to 2 ms.
        let mut run = sample(Some(5_000));
        run.results.errors = 0;
        run.results.unsent = 0;
        run.results.cpu_busy = 1.0;
        run.results.late_p99_us = 10.0;
        let said = |run: &SavedRun, bound_ms: u64| judge(run, bound_ms * 1_000_000).0;
        assert_eq!(said(&run, 101), SweepVerdict::Pass);
        assert_eq!(said(&run, 98), SweepVerdict::Slow);
        // Late as it was, what it measured is below the bound.
        run.results.late_p99_us = 50_000.0;
        assert_eq!(said(&run, 101), SweepVerdict::Pass);
        assert_eq!(said(&run, 98), SweepVerdict::Generator);
        run.results.late_p99_us = 10.0;
        // 100 000 were sent: beyond 1 % the rest decides.
        run.results.unsent = 900;
        assert_eq!(said(&run, 101), SweepVerdict::Pass);
        run.results.unsent = 2_000;
        assert_eq!(said(&run, 101), SweepVerdict::Generator);
        run.results.cpu_busy = 0.5;
        assert_eq!(said(&run, 101), SweepVerdict::Behind);
        run.results.errors = 1;
        assert_eq!(said(&run, 101), SweepVerdict::Errors);
    }

    #[test]
    fn settings_out_of_range_name_their_flag() {
        let wrong = |change: fn(&mut SweepPlan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        assert!(wrong(|plan| plan.from = 0).starts_with("--from: "));
        assert!(wrong(|plan| plan.from = 10).starts_with("--from: 10 NOTIFYs/s for 10 s"));
        assert!(wrong(|plan| plan.to = Some(u64::MAX)).starts_with("--to: "));
        assert!(wrong(|plan| plan.to = Some(1_000)).starts_with("--to: "));
        assert!(wrong(|plan| plan.steps = Some(3)).starts_with("--steps: "));
        assert!(wrong(|plan| plan.p99_below = Duration::ZERO).starts_with("--p99-below: "));
        assert!(wrong(|plan| plan.plan.duration = Duration::ZERO).starts_with("--seconds: "));
        assert!(
            wrong(|plan| (plan.to, plan.steps) = (Some(2_000), Some(1))).starts_with("--steps")
        );
    }

    #[test]
    fn a_curve_is_json() {
        let curve = curve(54_321);
        let object: serde_json::Value = serde_json::from_str(&curve.to_json().unwrap()).unwrap();
        assert_eq!(object["best_rate"], curve.best_rate.unwrap());
        assert_eq!(object["end"], "found");
        assert_eq!(object["measurements"][0]["verdict"], "pass");
        assert!(Measurement::header().len() < 120);
    }
}

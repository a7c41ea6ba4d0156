//! Results: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::errors::{ErrorKind, Errors};
use crate::latency::Interval;
use crate::plan::Plan;
use crate::saved::{LoadError, Round, SavedRun};
use crate::statistics::scatter;

/// The generator is taken for the bottleneck above this share of its threads' time.
pub(crate) const BUSY: f64 = 0.9;

/// The generator is taken for late above this at its own 99th percentile.
pub(crate) const LATE_US: f64 = 1_000.0;

/// How a run was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The agent's address.
    pub target: String,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub loop_kind: String,
    /// Connections.
    pub connections: usize,
    /// NOTIFYs in flight on each connection that were really allowed.
    pub in_flight: usize,
    /// NOTIFYs in flight that were asked for; more where the agent does not pipeline.
    pub in_flight_asked: usize,
    /// NOTIFYs a second asked for, in an open loop.
    pub rate: Option<u64>,
    /// Seconds that were not counted.
    pub warmup_s: f64,
    /// The profile.
    pub profile: String,
    /// Its messages.
    pub messages: Vec<String>,
    /// Threads of the generator.
    pub threads: usize,
    /// Cores these were pinned to.
    pub cores: Vec<usize>,
    /// Whether an open loop polled before NOTIFYs were due.
    pub polling: bool,
    /// The `max-frame-size` offered, in bytes.
    pub max_frame_size: u32,
    /// What every ACK had to set.
    pub expectations: Vec<String>,
    /// The generator's version.
    pub version: String,
    /// When the run started, in seconds since 1970.
    pub started_unix_s: u64,
    /// System, release and version of the kernel.
    pub kernel: String,
    /// What the user calls the agent. None in files of format 1, as the rest below.
    pub name: Option<String>,
    /// Seconds to measure that were asked for, of one round.
    pub duration_asked_s: Option<f64>,
    /// [`Profile::digest`](crate::Profile::digest): what the profile sends.
    pub profile_digest: Option<String>,
    /// The host's CPU as the kernel calls it.
    pub cpu_model: Option<String>,
    /// CPUs the host has online.
    pub cpu_count: Option<usize>,
}

/// What a run measured, or a round of it. Latencies are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Seconds measured; fewer than asked for if interrupted.
    pub duration_s: f64,
    /// ACKs within them.
    pub frames: u64,
    /// The same a second.
    pub frames_per_second: f64,
    /// The median latency; from the intended send time in an open loop, as all without a prefix.
    pub p50_us: f64,
    /// 75 %.
    pub p75_us: f64,
    /// 90 %.
    pub p90_us: f64,
    /// 99 %.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// 99.99 %.
    pub p9999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// The median, from the actual send time.
    pub uncorrected_p50_us: f64,
    /// 99 %, from the actual send time.
    pub uncorrected_p99_us: f64,
    /// 99.9 %, from the actual send time.
    pub uncorrected_p999_us: f64,
    /// The longest, from the actual send time.
    pub uncorrected_max_us: f64,
    /// How late the generator itself sent, of NOTIFYs that had a free slot; 0 in a closed loop.
    pub late_p50_us: f64,
    /// 99 % of that.
    pub late_p99_us: f64,
    /// NOTIFYs due before the end and not sent by then, mostly for want of a free slot: the agent
    /// is slower than the rate, and these are missing from the latencies.
    pub unsent: u64,
    /// Errors and violations of all kinds, from the first connection on.
    pub errors: u64,
    /// The same by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// The first text of each kind that happened.
    pub error_examples: BTreeMap<String, String>,
    /// Bytes of ACKs within the measured time.
    pub bytes_in: u64,
    /// Bytes of NOTIFYs within the measured time.
    pub bytes_out: u64,
    /// CPU time of the generator, all threads and progress lines, for each frame.
    pub cpu_us_per_frame: f64,
    /// The part of it outside the kernel, from the kernel's own ratio.
    pub cpu_user_us_per_frame: f64,
    /// CPU time of the generator over the measured time and its threads: 1 is all it can take.
    pub cpu_busy: f64,
    /// Connections that were open when the run began; the fewest of its rounds.
    pub connections_opened: usize,
    /// What the user should know about the figures.
    pub warnings: Vec<String>,
}

/// What the threads of a run brought together.
pub(crate) struct Outcome {
    pub(crate) interval: Interval,
    pub(crate) errors: Errors,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) unsent: u64,
    pub(crate) measured_ns: u64,
    pub(crate) frames_by_second: Vec<u64>,
    pub(crate) cpu: CpuTime,
    pub(crate) cpu_window_ns: u64,
    pub(crate) connections: usize,
    pub(crate) sequential: usize,
    pub(crate) started_unix_s: u64,
    pub(crate) warnings: Vec<String>,
}

impl SavedRun {
    /// A run of one round.
    pub(crate) fn new(plan: &Plan, outcome: Outcome) -> Self {
        let settings = Settings::new(plan, &outcome);
        let Interval {
            frames,
            corrected,
            open,
        } = outcome.interval;
        let (uncorrected, late) = match open {
            Some(open) => (open.uncorrected, Some(open.late)),
            None => (corrected.clone(), None),
        };
        let duration_s = to_f64(outcome.measured_ns) / 1e9;
        let threads_ns = to_f64(outcome.cpu_window_ns) * to_f64(plan.threads as u64);
        let mut results = Results {
            duration_s,
            frames,
            frames_per_second: ratio(to_f64(frames), duration_s),
            unsent: outcome.unsent,
            errors: outcome.errors.total(),
            errors_by_kind: outcome.errors.by_kind(),
            error_examples: outcome.errors.examples(),
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            cpu_us_per_frame: ratio(to_f64(outcome.cpu.total_ns) / 1e3, to_f64(frames)),
            cpu_user_us_per_frame: ratio(to_f64(outcome.cpu.user_ns()) / 1e3, to_f64(frames)),
            cpu_busy: ratio(to_f64(outcome.cpu.total_ns), threads_ns),
            connections_opened: outcome.connections,
            warnings: outcome.warnings,
            ..Results::default()
        };
        results.set_latencies(&corrected, &uncorrected, late.as_ref());
        let figures = results.figure_warnings(&settings);
        results.warnings.extend(figures.into_iter().flatten());
        Self {
            results: results.clone(),
            rounds: vec![Round {
                started_unix_s: settings.started_unix_s,
                pair: None,
                results,
                frames_by_second: outcome.frames_by_second,
                corrected: corrected.clone(),
                uncorrected: uncorrected.clone(),
                late,
            }],
            settings,
            corrected,
            uncorrected,
        }
    }

    /// Settings and results as one JSON object on one line; of several rounds also what each
    /// measured, as the array `rounds`.
    ///
    /// # Errors
    ///
    /// None in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<String, LoadError> {
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(flatten)]
            settings: &'a Settings,
            #[serde(flatten)]
            results: &'a Results,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            rounds: Vec<FlatRound<'a>>,
        }
        #[derive(Serialize)]
        struct FlatRound<'a> {
            started_unix_s: u64,
            #[serde(flatten)]
            results: &'a Results,
        }
        let rounds = if self.rounds.len() > 1 {
            self.rounds
                .iter()
                .map(|round| FlatRound {
                    started_unix_s: round.started_unix_s,
                    results: &round.results,
                })
                .collect()
        } else {
            Vec::new()
        };
        serde_json::to_string(&Flat {
            settings: &self.settings,
            results: &self.results,
            rounds,
        })
        .map_err(LoadError::Json)
    }

    /// The results as a table.
    #[must_use]
    pub fn table(&self) -> impl fmt::Display + '_ {
        Table(self)
    }
}

impl Settings {
    fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let uname = rustix::system::uname();
        let (cpu_model, cpu_count) = host_cpus();
        let open_loop = plan.rate.is_some();
        Self {
            target: plan.target.to_string(),
            loop_kind: if open_loop { "open" } else { "closed" }.to_owned(),
            connections: plan.connections,
            in_flight: if outcome.sequential > 0 {
                1
            } else {
                plan.in_flight
            },
            in_flight_asked: plan.in_flight,
            rate: plan.rate,
            warmup_s: plan.warmup.as_secs_f64(),
            profile: plan.profile.name().to_owned(),
            messages: plan.profile.messages().to_vec(),
            threads: plan.threads,
            cores: plan.cores.clone(),
            polling: plan.polling,
            max_frame_size: plan.max_frame_size,
            expectations: plan.expectations.iter().map(ToString::to_string).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_s: outcome.started_unix_s,
            kernel: [uname.sysname(), uname.release(), uname.version()]
                .map(|text| text.to_string_lossy())
                .join(" "),
            name: None,
            duration_asked_s: Some(plan.duration.as_secs_f64()),
            profile_digest: Some(plan.profile.digest()),
            cpu_model,
            cpu_count,
        }
    }
}

/// Model and number of the host's CPUs, as far as the kernel tells.
fn host_cpus() -> (Option<String>, Option<usize>) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = |wanted: &'static str| {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .filter(move |(key, _)| key.trim() == wanted)
            .map(|(_, value)| value.trim().to_owned())
    };
    // ARM has no name there, but numbers that stand for one.
    let model = values("model name").next().or_else(|| {
        let (implementer, part) = (
            values("CPU implementer").next()?,
            values("CPU part").next()?,
        );
        Some(format!("implementer {implementer} part {part}"))
    });
    let count = values("processor").count();
    (model, (count > 0).then_some(count))
}

impl Results {
    fn set_latencies(
        &mut self,
        corrected: &Histogram<u64>,
        uncorrected: &Histogram<u64>,
        late: Option<&Histogram<u64>>,
    ) {
        let us = |histogram: &Histogram<u64>, quantile: f64| {
            to_f64(histogram.value_at_quantile(quantile)) / 1e3
        };
        self.p50_us = us(corrected, 0.5);
        self.p75_us = us(corrected, 0.75);
        self.p90_us = us(corrected, 0.9);
        self.p99_us = us(corrected, 0.99);
        self.p999_us = us(corrected, 0.999);
        self.p9999_us = us(corrected, 0.9999);
        self.max_us = us(corrected, 1.0);
        self.uncorrected_p50_us = us(uncorrected, 0.5);
        self.uncorrected_p99_us = us(uncorrected, 0.99);
        self.uncorrected_p999_us = us(uncorrected, 0.999);
        self.uncorrected_max_us = us(uncorrected, 1.0);
        self.late_p50_us = late.map_or(0.0, |late| us(late, 0.5));
        self.late_p99_us = late.map_or(0.0, |late| us(late, 0.99));
    }

    /// What all rounds together measured.
    pub(crate) fn of_rounds(
        settings: &Settings,
        rounds: &[Round],
        corrected: &Histogram<u64>,
        uncorrected: &Histogram<u64>,
        late: Option<&Histogram<u64>>,
    ) -> Self {
        let mut sum = Self {
            connections_opened: usize::MAX,
            ..Self::default()
        };
        let (mut cpu_us, mut cpu_user_us, mut busy_s) = (0.0, 0.0, 0.0);
        for Round { results: one, .. } in rounds {
            let frames = to_f64(one.frames);
            sum.duration_s += one.duration_s;
            sum.frames += one.frames;
            sum.unsent += one.unsent;
            sum.errors += one.errors;
            for (kind, count) in &one.errors_by_kind {
                *sum.errors_by_kind.entry(kind.clone()).or_default() += count;
            }
            for (kind, text) in &one.error_examples {
                let entry = sum.error_examples.entry(kind.clone());
                entry.or_insert_with(|| text.clone());
            }
            sum.bytes_in += one.bytes_in;
            sum.bytes_out += one.bytes_out;
            cpu_us += one.cpu_us_per_frame * frames;
            cpu_user_us += one.cpu_user_us_per_frame * frames;
            busy_s += one.cpu_busy * one.duration_s;
            sum.connections_opened = sum.connections_opened.min(one.connections_opened);
        }
        let frames = to_f64(sum.frames);
        sum.frames_per_second = ratio(frames, sum.duration_s);
        sum.cpu_us_per_frame = ratio(cpu_us, frames);
        sum.cpu_user_us_per_frame = ratio(cpu_user_us, frames);
        sum.cpu_busy = ratio(busy_s, sum.duration_s);
        sum.set_latencies(corrected, uncorrected, late);
        sum.warnings = sum.warnings_of_rounds(settings, rounds);
        sum
    }

    /// Those of the rounds that are not about figures, each once; then for each figure what all
    /// rounds together give cause to say, or else what single ones do.
    fn warnings_of_rounds(&self, settings: &Settings, rounds: &[Round]) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        let figures: Vec<_> = rounds
            .iter()
            .map(|round| round.results.figure_warnings(settings))
            .collect();
        for (round, own) in rounds.iter().zip(&figures) {
            for text in &round.results.warnings {
                if !own.iter().flatten().any(|one| one == text) && !warnings.contains(text) {
                    warnings.push(text.clone());
                }
            }
        }
        for (kind, text) in self.figure_warnings(settings).into_iter().enumerate() {
            if let Some(text) = text {
                warnings.push(text);
                continue;
            }
            for (index, own) in figures.iter().enumerate() {
                if let Some(text) = &own[kind] {
                    warnings.push(format!("round {}: {text}", index + 1));
                }
            }
        }
        warnings
    }

    /// What the figures themselves give cause to say, always in the same order.
    fn figure_warnings(&self, settings: &Settings) -> [Option<String>; 4] {
        let short = settings.duration_asked_s.and_then(|asked| {
            (self.duration_s < asked * 0.99).then(|| {
                format!(
                    "ended early: {:.2} of {asked} s were measured",
                    self.duration_s
                )
            })
        });
        let busy = (self.cpu_busy > BUSY && settings.rate.is_none()).then(|| {
            format!(
                "the generator used {:.0} % of its threads' time: the agent may be faster than \
                 this, try more --threads",
                self.cpu_busy * 100.0
            )
        });
        let late = (self.late_p99_us > LATE_US).then(|| {
            format!(
                "the generator itself was late by {} us at its 99th percentile, which the \
                 latencies contain: {}",
                Micros(round(self.late_p99_us * 1e3)),
                self.late_advice()
            )
        });
        let unsent = (self.unsent > 0).then(|| {
            format!(
                "{} NOTIFYs of the schedule were never sent: the agent, or the generator where it \
                 says that it was late, is slower than --rate, and latencies would go on growing",
                Grouped(self.unsent)
            )
        });
        [short, busy, late, unsent]
    }

    /// What to do about a generator that was late.
    fn late_advice(&self) -> String {
        if self.cpu_busy < 0.5 {
            return format!(
                "though it used only {:.0} % of its threads' time, so something else runs on its \
                 cores, see top; give it --cores of its own",
                self.cpu_busy * 100.0
            );
        }
        "try more --threads, --cores of its own or a lower --rate".to_owned()
    }
}

struct Table<'a>(&'a SavedRun);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SavedRun {
            settings, results, ..
        } = self.0;
        let open = settings.loop_kind == "open";
        write!(
            f,
            "{} loop, {} connections, {} in flight each",
            settings.loop_kind, settings.connections, settings.in_flight
        )?;
        if settings.in_flight != settings.in_flight_asked {
            write!(f, " ({} asked, no pipelining)", settings.in_flight_asked)?;
        }
        if let Some(rate) = settings.rate {
            write!(f, ", {} NOTIFYs/s intended", Grouped(rate))?;
        }
        writeln!(f, ", profile {}, {}", settings.profile, settings.target)?;
        writeln!(
            f,
            "{:.2} s measured{} after {} s of warm-up; latency counts from the {}",
            results.duration_s,
            match self.0.rounds.len() {
                1 => String::new(),
                count => format!(" in {count} rounds, each"),
            },
            settings.warmup_s,
            if open {
                "intended send time to the read of the ACK"
            } else {
                "write of a NOTIFY to the read of its ACK"
            }
        )?;
        writeln!(f)?;
        let rate = round(results.frames_per_second);
        writeln!(
            f,
            "  {:<12}{:>14} frames/s ({} frames)",
            "throughput",
            Grouped(rate).to_string(),
            Grouped(results.frames)
        )?;
        if open {
            writeln!(f, "  {:<12}{:>14}    {:>14}", "", "latency", "uncorrected")?;
        }
        for (name, quantile) in [
            ("p50", 0.5),
            ("p75", 0.75),
            ("p90", 0.9),
            ("p99", 0.99),
            ("p99.9", 0.999),
            ("p99.99", 0.9999),
            ("max", 1.0),
        ] {
            let us = |histogram: &Histogram<u64>| {
                Micros(histogram.value_at_quantile(quantile)).to_string()
            };
            write!(f, "  {name:<12}{:>14} us", us(&self.0.corrected))?;
            if open {
                write!(f, " {:>14} us", us(&self.0.uncorrected))?;
            }
            writeln!(f)?;
        }
        let bytes = format_args!(
            "{} in, {} out",
            Grouped(results.bytes_in),
            Grouped(results.bytes_out)
        )
        .to_string();
        writeln!(f, "  {:<12}{bytes}", "bytes")?;
        writeln!(
            f,
            "  {:<12}{:.3} us per frame ({:.3} us user), {:.0} % of {} thread{}{}, the generator's own",
            "CPU",
            results.cpu_us_per_frame,
            results.cpu_user_us_per_frame,
            results.cpu_busy * 100.0,
            settings.threads,
            if settings.threads == 1 { "" } else { "s" },
            if open && settings.polling {
                ", polling included"
            } else {
                ""
            }
        )?;
        if open {
            writeln!(
                f,
                "  {:<12}p50 {:.1} us, p99 {:.1} us late by itself",
                "generator", results.late_p50_us, results.late_p99_us
            )?;
        }
        let errors = Grouped(results.errors);
        let note = if results.errors > 0 {
            ", warm-up included"
        } else {
            ""
        };
        writeln!(f, "  {:<12}{errors}{note}", "errors")?;
        for &kind in ErrorKind::ALL {
            let count = results.errors_by_kind.get(kind.key()).copied().unwrap_or(0);
            if count == 0 {
                continue;
            }
            writeln!(f, "    {:>10} {}", Grouped(count).to_string(), kind.text())?;
            if let Some(example) = results.error_examples.get(kind.key()) {
                writeln!(f, "               first: {example}")?;
            }
        }
        write_spread(f, &self.0.rounds)?;
        for warning in &results.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

/// How far the rounds are apart, where there are several.
fn write_spread(f: &mut fmt::Formatter<'_>, rounds: &[Round]) -> fmt::Result {
    if rounds.len() < 2 {
        return Ok(());
    }
    writeln!(f)?;
    writeln!(
        f,
        "  {:<12}{:>14}{:>14}{:>14}{:>12}",
        "rounds", "lowest", "median", "highest", "scatter"
    )?;
    type Figure = fn(&Results) -> f64;
    let rows: [(&str, Figure, &str); 4] = [
        ("throughput", |one| one.frames_per_second, "frames/s"),
        ("p50", |one| one.p50_us, "us"),
        ("p99", |one| one.p99_us, "us"),
        ("p99.9", |one| one.p999_us, "us"),
    ];
    for (name, figure, unit) in rows {
        let mut figures: Vec<f64> = rounds.iter().map(|round| figure(&round.results)).collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        write!(f, "  {name:<12}")?;
        for value in [figures[0], median, figures[figures.len() - 1]] {
            let text = if unit == "us" {
                Micros(round(value * 1e3)).to_string()
            } else {
                Grouped(round(value)).to_string()
            };
            write!(f, "{text:>14}")?;
        }
        let scatter =
            scatter(&figures).map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        writeln!(f, "{scatter:>12}  {unit}")?;
    }
    Ok(())
}

/// A number with its digits in groups of three.
pub(crate) struct Grouped(pub(crate) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.bytes().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(" ")?;
            }
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

/// Nanoseconds as microseconds, with the digits a histogram of three can back.
pub(crate) struct Micros(pub(crate) u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = to_f64(self.0) / 1e3;
        match self.0 {
            0..10_000 => write!(f, "{us:.2}"),
            10_000..100_000 => write!(f, "{us:.1}"),
            _ => Grouped(round(us)).fmt(f),
        }
    }
}

/// CPU time of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    total_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
}

impl CpuTime {
    /// Until now. The total is of the scheduler's clock. How it divides into user and system is
    /// only known in ticks, from `/proc/self/stat`.
    pub(crate) fn of_process() -> Self {
        let total = clock_gettime(ClockId::ProcessCPUTime);
        let nanoseconds = total.tv_sec * 1_000_000_000 + total.tv_nsec;
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name, in brackets, may have spaces; utime and stime are fields 14 and 15 of all.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut ticks = fields
            .split_ascii_whitespace()
            .skip(11)
            .map(|field| field.parse().unwrap_or(0));
        Self {
            total_ns: u64::try_from(nanoseconds).unwrap_or(0),
            user_ticks: ticks.next().unwrap_or(0),
            system_ticks: ticks.next().unwrap_or(0),
        }
    }

    pub(crate) fn since(self, start: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(start.total_ns),
            user_ticks: self.user_ticks.saturating_sub(start.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(start.system_ticks),
        }
    }

    fn user_ns(self) -> u64 {
        let ticks = self.user_ticks + self.system_ticks;
        self.total_ns * self.user_ticks / ticks.max(1)
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "figures for people: 53 bits are more digits than they have"
)]
pub(crate) fn to_f64(value: u64) -> f64 {
    value as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts saturate, and figures are neither negative nor that large"
)]
pub(crate) fn round(value: f64) -> u64 {
    value.round() as u64
}

/// Zero where there is nothing to divide by: JSON has no NaN.
fn ratio(value: f64, by: f64) -> f64 {
    if by > 0.0 { value / by } else { 0.0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::profile::Profile;

    pub(crate) fn sample(rate: Option<u64>) -> SavedRun {
        let plan = Plan {
            rate,
            duration: std::time::Duration::from_secs(2),
            ..Plan::new("127.0.0.1:1".parse().unwrap(), Profile::ip(None, None))
        };
        let mut interval = Interval::new(rate.is_some());
        for value in 1..=100_000_u64 {
            interval.corrected.record(value * 997).unwrap();
            if let Some(open) = &mut interval.open {
                open.uncorrected.record(value * 499).unwrap();
                open.late.record(value * 20).unwrap();
            }
        }
        interval.frames = 100_000;
        let mut errors = Errors::default();
        errors.add(ErrorKind::Duplicate, || "twice".to_owned());
        SavedRun::new(
            &plan,
            Outcome {
                interval,
                errors,
                bytes_in: 1_000,
                bytes_out: 4_000,
                unsent: 3,
                measured_ns: 2_000_000_000,
                frames_by_second: vec![40_000, 60_000],
                cpu: CpuTime {
                    total_ns: 20_000_000,
                    user_ticks: 1,
                    system_ticks: 3,
                },
                cpu_window_ns: 2_000_000_000,
                connections: 1,
                sequential: 1,
                started_unix_s: 1_700_000_000,
                warnings: Vec::new(),
            },
        )
    }

    #[test]
    fn json_has_every_promised_field() {
        let object: serde_json::Value =
            serde_json::from_str(&sample(Some(50_000)).to_json().unwrap()).unwrap();
        let fields = "frames frames_per_second p50_us p90_us p99_us p999_us p9999_us max_us \
                      uncorrected_p999_us errors errors_by_kind connections in_flight rate \
                      duration_s threads cpu_us_per_frame";
        for field in fields.split_whitespace() {
            assert!(!object[field].is_null(), "{field}");
        }
        assert_eq!(object["frames_per_second"], 50_000.0);
        assert_eq!(object["errors"], 1);
        assert_eq!(object["errors_by_kind"]["duplicate"], 1);
        assert_eq!(object["cpu_us_per_frame"], 0.2);
        assert_eq!(object["cpu_user_us_per_frame"], 0.05);
        assert_eq!(
            (&object["in_flight"], &object["in_flight_asked"]),
            (&1.into(), &20.into())
        );
    }

    #[test]
    fn in_a_closed_loop_both_latencies_are_one() {
        let run = sample(None);
        assert_eq!(run.corrected, run.uncorrected);
        assert!((run.results.p999_us - run.results.uncorrected_p999_us).abs() < f64::EPSILON);
    }

    #[test]
    fn the_table_has_every_figure() {
        let text = sample(Some(50_000)).table().to_string();
        for part in [
            "50 000 frames/s",
            "uncorrected",
            "p99.99",
            "1 000 in, 4 000 out",
            "first: twice",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!sample(None).table().to_string().contains("uncorrected"));
    }

    #[test]
    fn several_rounds_show_their_spread() {
        let mut run = sample(None);
        assert!(!run.table().to_string().contains("scatter"));
        let json = |run: &SavedRun| -> serde_json::Value {
            serde_json::from_str(&run.to_json().unwrap()).unwrap()
        };
        assert!(json(&run)["rounds"].is_null());
        let mut other = sample(None);
        other.rounds[0].results.frames_per_second *= 1.1;
        run.add_rounds_of(other).unwrap();
        let text = run.table().to_string();
        assert!(text.contains("4.00 s measured in 2 rounds, each after 1 s"));
        let wanted =
            "  throughput          50 000        52 500        55 000       6.7 %  frames/s";
        assert!(text.lines().any(|line| line == wanted), "{text}");
        let object = json(&run);
        assert_eq!(object["frames"], 200_000);
        assert_eq!(object["rounds"].as_array().unwrap().len(), 2);
        assert_eq!(object["rounds"][0]["frames"], 100_000);
    }

    #[test]
    fn numbers_have_sensible_digits() {
        let micros = [4_321, 38_444, 112_499, 1_234_567_000].map(|ns| Micros(ns).to_string());
        assert_eq!(micros, ["4.32", "38.4", "112", "1 234 567"]);
        assert_eq!(
            [0, 999, 1_000].map(|n| Grouped(n).to_string()),
            ["0", "999", "1 000"]
        );
    }
}

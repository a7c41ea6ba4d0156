//! Saved runs side by side: what differs, and by how much more than their own scatter.
//!
//! The first run is what every other one is compared with. Rounds that have pair ids in common are
//! compared in pairs, others as two samples; [`crate::statistics`] has the arithmetic. A difference
//! is named only where the rounds back it.

use std::fmt;

use serde::Serialize;

use crate::report::{Grouped, Micros, Results, Settings, round, to_f64};
use crate::saved::{Round, SavedRun};
use crate::statistics::{CONFIDENCE, Ratio, mean};

/// A percentile with fewer latencies beyond it than this is a matter of luck.
const MIN_BEYOND: f64 = 10.0;

/// A histogram of three digits may be off by this share, in one direction.
const RESOLUTION: f64 = 0.001;

/// A run that takes part in a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Contestant<'a> {
    /// Where it is from, for the legend: a file's name. Empty if it was just made.
    pub source: &'a str,
    /// The run.
    pub run: &'a SavedRun,
}

/// Settings that must agree for a comparison to mean something, under the names by which a user
/// allows them to differ.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    name: &'static str,
    /// The value as text; None if the run does not know it.
    value: fn(&Settings) -> Option<String>,
}

impl Setting {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::new("loop", |one| Some(one.loop_kind.clone())),
        Self::new("connections", |one| Some(one.connections.to_string())),
        Self::new("in-flight", |one| Some(one.in_flight_asked.to_string())),
        Self::new("rate", |one| {
            Some(one.rate.map_or("none".to_owned(), |rate| rate.to_string()))
        }),
        Self::new("duration", |one| {
            one.duration_asked_s.map(|seconds| format!("{seconds} s"))
        }),
        Self::new("warmup", |one| Some(format!("{} s", one.warmup_s))),
        Self::new("profile", |one| Some(one.profile.clone())),
        Self::new("messages", |one| Some(one.messages.join(", "))),
        Self::new("profile-digest", |one| one.profile_digest.clone()),
        Self::new("expect", |one| Some(list(&one.expectations))),
        Self::new("max-frame-size", |one| Some(one.max_frame_size.to_string())),
        Self::new("threads", |one| Some(one.threads.to_string())),
        Self::new("cores", |one| Some(list(&one.cores))),
        Self::new("polling", |one| Some(one.polling.to_string())),
        Self::new("kernel", |one| Some(one.kernel.clone())),
        Self::new("cpu-model", |one| one.cpu_model.clone()),
        Self::new("cpu-count", |one| {
            one.cpu_count.map(|count| count.to_string())
        }),
    ];

    const fn new(name: &'static str, value: fn(&Settings) -> Option<String>) -> Self {
        Self { name, value }
    }

    /// The name by which a user allows it to differ.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Why runs are not compared.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CompareError {
    /// There are fewer than two.
    TooFew,
    /// Settings differ that must agree: one line each.
    Different(Vec<Difference>),
}

/// A setting that two runs have different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub setting: &'static str,
    /// The label of the first run, and its value.
    pub a: (String, String),
    /// The label of the other, and its value.
    pub b: (String, String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, a, b } = self;
        write!(f, "{setting}: {} in {}, {} in {}", a.1, a.0, b.1, b.0)?;
        if *setting == "profile-digest" {
            f.write_str(" (what the profile sends differs: other addresses, or an edited file)")?;
        }
        Ok(())
    }
}

impl fmt::Display for CompareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew => f.write_str("give at least two saved runs"),
            Self::Different(differences) => {
                writeln!(f, "the runs differ in settings that must agree:")?;
                let mut names: Vec<&str> = Vec::new();
                for difference in differences {
                    writeln!(f, "  {difference}")?;
                    if !names.contains(&difference.setting) {
                        names.push(difference.setting);
                    }
                }
                f.write_str("make them alike, or allow it with")?;
                for name in names {
                    write!(f, " --allow-different {name}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for CompareError {}

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// It says nothing of the agent.
    Neither,
}

impl fmt::Display for Better {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Neither => "-",
        })
    }
}

/// What the rounds say of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// A side has a single round: nothing can be said.
    NoInterval,
    /// A round has no such figure, or it is zero.
    NoRatio,
    /// The interval contains 1.
    WithinNoise,
    /// The whole interval says that B is better than A.
    BBetter,
    /// The whole interval says that B is worse than A.
    BWorse,
    /// The whole interval says that they differ, and neither way is better.
    Differs,
}

/// One figure of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its key in [`Results`].
    pub key: &'static str,
    /// Its name and unit in the table.
    #[serde(skip)]
    pub name: &'static str,
    /// Which way it is better.
    pub better: Better,
    /// The geometric mean of A's rounds.
    pub a: f64,
    /// The geometric mean of B's rounds.
    pub b: f64,
    /// B's over A's.
    pub ratio: Option<f64>,
    /// Where the true ratio lies with 95 % confidence.
    pub interval: Option<(f64, f64)>,
    /// What follows from that.
    pub verdict: Verdict,
    /// A percentile with fewer than about ten latencies beyond it in some round.
    pub thin: bool,
}

/// How the rounds of two runs were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// As pairs, made beside each other.
    Paired,
    /// As two samples, by Welch.
    Welch,
    /// Not at all: a side has one round.
    SingleRound,
}

/// Two runs compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pairing {
    /// The label of the first run.
    pub a: String,
    /// The label of the other.
    pub b: String,
    /// How.
    pub method: Method,
    /// How many rounds of A were compared.
    pub rounds_a: usize,
    /// How many rounds of B.
    pub rounds_b: usize,
    /// The figures.
    pub figures: Vec<Row>,
    /// Errors of A and B in all their rounds.
    pub errors: (u64, u64),
    /// NOTIFYs that A and B did not send in all their rounds.
    pub unsent: (u64, u64),
}

/// A run of the comparison, as the legend says it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Entry {
    label: String,
    source: String,
    settings: Settings,
    rounds: usize,
    results: Results,
}

/// Runs compared with the first of them. Its `Display` is a document in Markdown, aligned for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    confidence: f64,
    runs: Vec<Entry>,
    /// The first run with each other one.
    pub comparisons: Vec<Pairing>,
    /// What to know about the comparison itself.
    pub notes: Vec<String>,
    /// What to know about the figures.
    pub warnings: Vec<String>,
}

type Figure = fn(&Results) -> f64;

/// A row before it has figures: key, name, direction, quantile if it is one of latencies.
struct Kind(&'static str, &'static str, Better, Option<f64>, Figure);

const KINDS: &[Kind] = &[
    Kind(
        "frames_per_second",
        "throughput, frames/s",
        Better::Higher,
        None,
        |one| one.frames_per_second,
    ),
    Kind("p50_us", "p50, us", Better::Lower, Some(0.5), |one| {
        one.p50_us
    }),
    Kind("p90_us", "p90, us", Better::Lower, Some(0.9), |one| {
        one.p90_us
    }),
    Kind("p99_us", "p99, us", Better::Lower, Some(0.99), |one| {
        one.p99_us
    }),
    Kind("p999_us", "p99.9, us", Better::Lower, Some(0.999), |one| {
        one.p999_us
    }),
    Kind(
        "p9999_us",
        "p99.99, us",
        Better::Lower,
        Some(0.9999),
        |one| one.p9999_us,
    ),
    Kind("max_us", "max, us", Better::Lower, Some(1.0), |one| {
        one.max_us
    }),
    Kind(
        "cpu_us_per_frame",
        "generator CPU, us/frame",
        Better::Neither,
        None,
        |one| one.cpu_us_per_frame,
    ),
];

/// The figures that [`Comparison::slower`] looks at.
const GATED: &[&str] = &["frames_per_second", "p50_us", "p99_us", "p999_us"];

impl Comparison {
    /// Compares every run after the first with the first.
    ///
    /// `allowed` says of a [`Setting`]'s name whether it may differ; what then does is noted.
    ///
    /// # Errors
    ///
    /// If there are fewer than two runs, or settings differ that must agree.
    pub fn new(
        contestants: &[Contestant<'_>],
        allowed: &dyn Fn(&str) -> bool,
    ) -> Result<Self, CompareError> {
        let [first, others @ ..] = contestants else {
            return Err(CompareError::TooFew);
        };
        if others.is_empty() {
            return Err(CompareError::TooFew);
        }
        let labels = labels(contestants);
        let mut notes = Vec::new();
        let mut refused = Vec::new();
        for (other, label) in others.iter().zip(&labels[1..]) {
            for found in differences(
                (&labels[0], &first.run.settings),
                (label, &other.run.settings),
                &mut notes,
            ) {
                if allowed(found.setting) {
                    notes.push(format!("different, and allowed to be: {found}"));
                } else {
                    refused.push(found);
                }
            }
        }
        if !refused.is_empty() {
            return Err(CompareError::Different(refused));
        }
        for (contestant, label) in contestants.iter().zip(&labels) {
            notes.extend(short_rounds(label, contestant.run));
        }
        let mut warnings = Vec::new();
        for (contestant, label) in contestants.iter().zip(&labels) {
            let results = &contestant.run.results;
            if results.errors > 0 {
                warnings.push(format!(
                    "{label}: {} errors were counted, so its figures are not those of an agent \
                     that works",
                    Grouped(results.errors)
                ));
            }
            for text in &results.warnings {
                warnings.push(format!("{label}: {text}"));
            }
        }
        let comparisons = others
            .iter()
            .zip(&labels[1..])
            .map(|(other, label)| Pairing::new((&labels[0], first.run), (label, other.run)))
            .collect();
        let runs = contestants
            .iter()
            .zip(&labels)
            .map(|(contestant, label)| Entry {
                label: label.clone(),
                source: contestant.source.to_owned(),
                settings: contestant.run.settings.clone(),
                rounds: contestant.run.rounds.len(),
                results: contestant.run.results.clone(),
            })
            .collect();
        Ok(Self {
            confidence: CONFIDENCE,
            runs,
            comparisons,
            notes,
            warnings,
        })
    }

    /// Whether every comparison has an interval, without which nothing can be called slower.
    #[must_use]
    pub fn has_intervals(&self) -> bool {
        let single = |one: &Pairing| one.method == Method::SingleRound;
        !self.comparisons.iter().any(single)
    }

    /// What is slower than the first run by more than `percent`, with the whole interval beyond: a
    /// sentence for each of throughput, p50, p99 and p99.9 that is.
    #[must_use]
    pub fn slower(&self, percent: f64) -> Vec<String> {
        let mut found = Vec::new();
        for pairing in &self.comparisons {
            for row in &pairing.figures {
                let Some((low, high)) = row.interval else {
                    continue;
                };
                let beyond = match row.better {
                    Better::Higher => high < 1.0 - percent / 100.0,
                    Better::Lower => low > 1.0 + percent / 100.0,
                    Better::Neither => false,
                };
                if beyond && GATED.contains(&row.key) {
                    found.push(format!(
                        "{}: {} is worse than {} by more than {percent} %: {}, 95 % interval {}",
                        row.name,
                        pairing.b,
                        pairing.a,
                        row.change(),
                        row.interval_text()
                    ));
                }
            }
        }
        found
    }

    /// The comparison as one JSON object on one line.
    ///
    /// # Errors
    ///
    /// None in practice: every field has a JSON form.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// The runs' names, or letters where a run has none or two have the same.
fn labels(contestants: &[Contestant<'_>]) -> Vec<String> {
    let names: Vec<_> = contestants
        .iter()
        .map(|contestant| contestant.run.settings.name.as_deref())
        .collect();
    let letter = |index: usize| {
        u8::try_from(index)
            .ok()
            .filter(|&index| index < 26)
            .map_or_else(
                || format!("run {}", index + 1),
                |index| char::from(b'A' + index).to_string(),
            )
    };
    names
        .iter()
        .enumerate()
        .map(|(index, name)| match name {
            Some(name) if names.iter().filter(|other| *other == &Some(*name)).count() == 1 => {
                (*name).to_owned()
            }
            _ => letter(index),
        })
        .collect()
}

fn differences(
    a: (&str, &Settings),
    b: (&str, &Settings),
    notes: &mut Vec<String>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    for setting in Setting::ALL {
        match ((setting.value)(a.1), (setting.value)(b.1)) {
            (Some(value_a), Some(value_b)) if value_a != value_b => found.push(Difference {
                setting: setting.name,
                a: (a.0.to_owned(), value_a),
                b: (b.0.to_owned(), value_b),
            }),
            (None, Some(value)) | (Some(value), None) => {
                let known = if (setting.value)(a.1).is_some() {
                    a.0
                } else {
                    b.0
                };
                notes.push(format!(
                    "{} is known of {known} only ({value}), so it was not compared: the other file \
                     is of an older generator",
                    setting.name
                ));
            }
            _ => {}
        }
    }
    let mut note = |what: &str, value: fn(&Settings) -> String| {
        let (value_a, value_b) = (value(a.1), value(b.1));
        if value_a != value_b {
            notes.push(format!(
                "{what}: {value_a} in {}, {value_b} in {}",
                a.0, b.0
            ));
        }
    };
    note("generators of different versions", |one| {
        one.version.clone()
    });
    // Only what was asked for must agree: an agent without pipelining is what it is.
    if a.1.in_flight_asked == b.1.in_flight_asked {
        note("NOTIFYs in flight that the agents allow", |one| {
            one.in_flight.to_string()
        });
    }
    found
}

/// A round cut short scatters more than its like, and finds less of the tail.
fn short_rounds(label: &str, run: &SavedRun) -> Option<String> {
    let asked = run.settings.duration_asked_s?;
    let mut rounds = run.rounds.iter().map(|round| round.results.duration_s);
    let short = rounds.find(|&seconds| seconds < asked * 0.99)?;
    Some(format!(
        "a round of {label} was ended after {} of {} s",
        Seconds(short),
        Seconds(asked)
    ))
}

impl Pairing {
    fn new(a: (&str, &SavedRun), b: (&str, &SavedRun)) -> Self {
        let pairs = pairs(&a.1.rounds, &b.1.rounds);
        let (rounds_a, rounds_b): (Vec<&Round>, Vec<&Round>) = if pairs.len() > 1 {
            pairs.iter().copied().unzip()
        } else {
            (a.1.rounds.iter().collect(), b.1.rounds.iter().collect())
        };
        let method = if rounds_a.len() < 2 || rounds_b.len() < 2 {
            Method::SingleRound
        } else if pairs.len() > 1 {
            Method::Paired
        } else {
            Method::Welch
        };
        let figures = KINDS
            .iter()
            .map(|kind| Row::new(kind, method, &rounds_a, &rounds_b))
            .collect();
        Self {
            a: a.0.to_owned(),
            b: b.0.to_owned(),
            method,
            rounds_a: rounds_a.len(),
            rounds_b: rounds_b.len(),
            figures,
            errors: (a.1.results.errors, b.1.results.errors),
            unsent: (a.1.results.unsent, b.1.results.unsent),
        }
    }
}

/// The rounds that have a pair id in common.
fn pairs<'a>(a: &'a [Round], b: &'a [Round]) -> Vec<(&'a Round, &'a Round)> {
    a.iter()
        .filter_map(|one| {
            let id = one.pair.as_ref()?;
            let other = b.iter().find(|other| other.pair.as_ref() == Some(id))?;
            Some((one, other))
        })
        .collect()
}

impl Row {
    fn new(kind: &Kind, method: Method, rounds_a: &[&Round], rounds_b: &[&Round]) -> Self {
        let &Kind(key, name, better, quantile, figure) = kind;
        let figures = |rounds: &[&Round]| -> Vec<f64> {
            rounds.iter().map(|round| figure(&round.results)).collect()
        };
        let (a, b) = (figures(rounds_a), figures(rounds_b));
        let resolution = if quantile.is_some() { RESOLUTION } else { 0.0 };
        let ratio = if method == Method::Paired {
            let pairs: Vec<_> = a.iter().copied().zip(b.iter().copied()).collect();
            Ratio::of_pairs(&pairs, resolution)
        } else {
            Ratio::of_samples(&a, &b, resolution)
        };
        let verdict = match (ratio, ratio.and_then(Ratio::is_difference)) {
            (None, _) => Verdict::NoRatio,
            (Some(_), None) => Verdict::NoInterval,
            (Some(_), Some(false)) => Verdict::WithinNoise,
            (Some(ratio), Some(true)) => match (better, ratio.middle > 1.0) {
                (Better::Neither, _) => Verdict::Differs,
                (Better::Higher, true) | (Better::Lower, false) => Verdict::BBetter,
                (Better::Higher, false) | (Better::Lower, true) => Verdict::BWorse,
            },
        };
        // The longest is one latency of each round and never claims to be more.
        let thin = quantile
            .filter(|&quantile| quantile < 1.0)
            .is_some_and(|quantile| {
                rounds_a
                    .iter()
                    .chain(rounds_b)
                    .any(|round| to_f64(round.corrected.len()) * (1.0 - quantile) < MIN_BEYOND)
            });
        Self {
            key,
            name,
            better,
            a: mean(&a),
            b: mean(&b),
            ratio: ratio.map(|ratio| ratio.middle),
            interval: ratio.and_then(|ratio| ratio.interval),
            verdict,
            thin,
        }
    }

    fn figure_text(&self, value: f64) -> String {
        match self.key {
            "frames_per_second" => Grouped(round(value)).to_string(),
            "cpu_us_per_frame" => format!("{value:.3}"),
            _ => Micros(round(value * 1e3)).to_string(),
        }
    }

    fn interval_text(&self) -> String {
        self.interval.map_or("-".to_owned(), |(low, high)| {
            format!("{} to {}", ratio_text(low), ratio_text(high))
        })
    }

    /// The change from A to B as a percentage.
    fn change(&self) -> String {
        let percent = (self.ratio.unwrap_or(1.0) - 1.0) * 100.0;
        match percent.abs() {
            0.0..1.0 => format!("{percent:+.2} %"),
            1.0..10.0 => format!("{percent:+.1} %"),
            _ => format!("{percent:+.0} %"),
        }
    }

    fn verdict_text(&self, label_b: &str) -> String {
        let change = self.change();
        let star = if self.thin { " *" } else { "" };
        match self.verdict {
            Verdict::NoInterval => format!("unknown, one round{star}"),
            Verdict::NoRatio => "no ratio: a figure is 0".to_owned(),
            Verdict::WithinNoise => format!("within the noise{star}"),
            Verdict::BBetter => format!("{label_b} better, {change}{star}"),
            Verdict::BWorse => format!("{label_b} worse, {change}{star}"),
            Verdict::Differs => format!("differs, {change}{star}"),
        }
    }
}

fn ratio_text(ratio: f64) -> String {
    match ratio {
        0.0..10.0 => format!("{ratio:.3}"),
        10.0..100.0 => format!("{ratio:.1}"),
        _ if ratio < 1e6 => Grouped(round(ratio)).to_string(),
        _ => format!("{ratio:.0e}"),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            write!(
                f,
                "- {}: {}, {} of {} s",
                run.label,
                run.settings.target,
                plural(run.rounds, "round"),
                Seconds(run.results.duration_s / to_f64(run.rounds as u64))
            )?;
            if !run.source.is_empty() {
                write!(f, ", {}", run.source)?;
            }
            writeln!(f)?;
        }
        let settings = &self.runs[0].settings;
        write!(
            f,
            "- load: {} loop, {}, {} in flight each",
            settings.loop_kind,
            plural(settings.connections, "connection"),
            settings.in_flight_asked
        )?;
        if let Some(rate) = settings.rate {
            write!(f, ", {} NOTIFYs/s", Grouped(rate))?;
        }
        writeln!(f, ", profile {}", settings.profile)?;
        for pairing in &self.comparisons {
            write!(f, "\n{pairing}")?;
        }
        if self.has_intervals() {
            writeln!(
                f,
                "\nFigures are geometric means of the rounds. Of 20 rows of equal agents about one \
                 shows a difference by chance."
            )?;
        }
        if self
            .comparisons
            .iter()
            .any(|pairing| pairing.figures.iter().any(|row| row.thin))
        {
            writeln!(
                f,
                "\n\\* fewer than 10 latencies of a round are beyond this percentile: luck decides it. \
                 Make --duration longer."
            )?;
        }
        if !self.notes.is_empty() || !self.warnings.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { a, b, .. } = self;
        let mut table = Markdown::new(&[
            "figure",
            "better",
            a,
            b,
            &format!("{b} / {a}"),
            "95 % interval",
            "verdict",
        ]);
        for row in &self.figures {
            table.row([
                row.name.to_owned(),
                row.better.to_string(),
                row.figure_text(row.a),
                row.figure_text(row.b),
                row.ratio.map_or("-".to_owned(), ratio_text),
                row.interval_text(),
                row.verdict_text(b),
            ]);
        }
        for (name, (count_a, count_b)) in [("errors", self.errors), ("unsent", self.unsent)] {
            let more = match count_a.cmp(&count_b) {
                std::cmp::Ordering::Less => format!("{b} has more"),
                std::cmp::Ordering::Equal => String::new(),
                std::cmp::Ordering::Greater => format!("{a} has more"),
            };
            table.row([
                name.to_owned(),
                "lower".to_owned(),
                Grouped(count_a).to_string(),
                Grouped(count_b).to_string(),
                String::new(),
                String::new(),
                more,
            ]);
        }
        write!(f, "{table}")?;
        match self.method {
            Method::Paired => writeln!(
                f,
                "\n{} pairs of rounds, made beside each other, and compared pair by pair.",
                self.rounds_a
            ),
            Method::Welch => writeln!(
                f,
                "\n{} and {} rounds, not made in turn: whatever else changed on the machine between \
                 them looks like a difference of the agents. `ab` makes them in turn.",
                self.rounds_a, self.rounds_b
            ),
            Method::SingleRound => writeln!(
                f,
                "\nA single round does not say how far its figures scatter, so there is no interval, \
                 and what looks like a difference may be noise. Make several with `run --rounds 5`, \
                 or better with `ab`, which makes those of both agents in turn."
            ),
        }
    }
}

fn plural(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Seconds without the digits nobody asked for.
struct Seconds(f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A table that Markdown takes and that is aligned as plain text.
struct Markdown {
    head: [String; Self::COLUMNS],
    rows: Vec<[String; Self::COLUMNS]>,
}

impl Markdown {
    const COLUMNS: usize = 7;

    /// Figures, their ratio and its interval are aligned to the right, words to the left.
    const RIGHT: [bool; Self::COLUMNS] = [false, false, true, true, true, true, false];

    fn new(head: &[&str; Self::COLUMNS]) -> Self {
        Self {
            head: head.map(escape),
            rows: Vec::new(),
        }
    }

    fn row(&mut self, cells: [String; Self::COLUMNS]) {
        self.rows.push(cells.map(|cell| escape(&cell)));
    }
}

/// A bar would end the cell, and an asterisk begin emphasis.
fn escape(cell: &str) -> String {
    cell.replace('|', "\\|").replace('*', "\\*")
}

impl fmt::Display for Markdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [3; Self::COLUMNS];
        for cells in self.rows.iter().chain([&self.head]) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String; Self::COLUMNS]| {
            for ((cell, &width), right) in cells.iter().zip(&widths).zip(Self::RIGHT) {
                if right {
                    write!(f, "| {cell:>width$} ")?;
                } else {
                    write!(f, "| {cell:<width$} ")?;
                }
            }
            writeln!(f, "|")
        };
        line(f, &self.head)?;
        for (&width, right) in widths.iter().zip(Self::RIGHT) {
            let dashes = "-".repeat(width + 1);
            write!(f, "|{dashes}{}", if right { ":" } else { "-" })?;
        }
        writeln!(f, "|")?;
        for cells in &self.rows {
            line(f, cells)?;
        }
        Ok(())
    }
}

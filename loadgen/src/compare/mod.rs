//! Saved runs side by side: what differs, and by how much more than their own scatter.
//!
//! The first run is what every other one is compared with. Rounds that have pair ids in common are
//! compared in pairs, others as two samples; [`crate::statistics`] has the arithmetic. A difference
//! is named only where the rounds back it.

mod settings;
mod table;

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::report::{Grouped, Results, Settings, round, to_f64};
use crate::saved::{Round, SavedRun};
use crate::statistics::{CONFIDENCE, Ratio, mean};

use self::settings::differences;
pub use self::settings::{Difference, Setting};
use self::table::Seconds;

/// A percentile with fewer latencies beyond it than this is a matter of luck.
const MIN_BEYOND: u64 = 10;

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

/// Why runs are not compared.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CompareError {
    /// There are fewer than two.
    TooFew,
    /// Settings differ that must agree: one line each.
    Different(Vec<Difference>),
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
                    "{label}: errors were counted, {} in all, so its figures are not those of an \
                     agent that works",
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

/// The runs' names, or a letter where one has none. Letters for all where two would be called the
/// same.
fn labels(contestants: &[Contestant<'_>]) -> Vec<String> {
    let letter = |index: usize| match u8::try_from(index) {
        Ok(index @ 0..26) => char::from(b'A' + index).to_string(),
        _ => format!("run {}", index + 1),
    };
    let labels: Vec<String> = contestants
        .iter()
        .enumerate()
        .map(|(index, one)| one.run.settings.name.clone().unwrap_or(letter(index)))
        .collect();
    let distinct: BTreeSet<_> = labels.iter().collect();
    if distinct.len() == labels.len() {
        labels
    } else {
        (0..labels.len()).map(letter).collect()
    }
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

/// How many latencies of a round are beyond a quantile.
fn beyond(one: &Round, quantile: f64) -> u64 {
    round(to_f64(one.corrected.len()) * (1.0 - quantile))
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
                    .any(|round| beyond(round, quantile) < MIN_BEYOND)
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    /// A run of rounds with these throughputs, and latencies that are 1000 / throughput of the
    /// sample's.
    fn run(name: Option<&str>, throughputs: &[f64], session: Option<&str>) -> SavedRun {
        let mut run: Option<SavedRun> = None;
        for (index, &throughput) in throughputs.iter().enumerate() {
            let mut one = sample(None);
            let round = &mut one.rounds[0];
            round.pair = session.map(|session| format!("{session}/{index}"));
            let results = &mut round.results;
            results.frames_per_second = throughput;
            for latency in [
                &mut results.p50_us,
                &mut results.p90_us,
                &mut results.p99_us,
                &mut results.p999_us,
                &mut results.p9999_us,
                &mut results.max_us,
            ] {
                *latency *= 1000.0 / throughput;
            }
            match &mut run {
                Some(run) => run.add_rounds_of(one).unwrap(),
                None => run = Some(one),
            }
        }
        let mut run = run.unwrap();
        run.settings.name = name.map(str::to_owned);
        run.results.errors = 0;
        run
    }

    fn compare(runs: &[&SavedRun]) -> Result<Comparison, CompareError> {
        let contestants: Vec<_> = runs
            .iter()
            .map(|run| Contestant { source: "", run })
            .collect();
        Comparison::new(&contestants, &|_| false)
    }

    fn verdict(comparison: &Comparison, key: &str) -> Verdict {
        let mut figures = comparison.comparisons[0].figures.iter();
        figures.find(|row| row.key == key).unwrap().verdict
    }

    #[test]
    fn a_slow_agent_is_named() {
        let a = run(Some("quick"), &[1000.0, 1010.0, 990.0], None);
        let b = run(Some("slow"), &[800.0, 805.0, 795.0], None);
        let comparison = compare(&[&a, &b]).unwrap();
        assert_eq!(comparison.comparisons[0].method, Method::Welch);
        assert_eq!(verdict(&comparison, "frames_per_second"), Verdict::BWorse);
        assert_eq!(verdict(&comparison, "p99_us"), Verdict::BWorse);
        let text = comparison.to_string();
        assert!(text.contains("| slow worse, -20 %"), "{text}");
        assert!(text.contains("| slow worse, +25 %"), "{text}");
        assert!(text.contains("not made in turn"), "{text}");
        let back = compare(&[&b, &a]).unwrap();
        assert_eq!(verdict(&back, "p50_us"), Verdict::BBetter);
        assert!(back.to_string().contains("| quick better, +25 %"));

        assert_eq!(
            comparison.slower(10.0).len(),
            4,
            "{:?}",
            comparison.slower(10.0)
        );
        assert!(comparison.slower(10.0)[0].starts_with(
            "throughput, frames/s: slow is worse than quick by more than 10 %: -20 %"
        ));
        // Latencies are worse by 25 %, but not all of the interval is beyond that.
        assert!(comparison.slower(25.0).is_empty());
        assert!(back.slower(0.0).is_empty());
    }

    #[test]
    fn noise_is_called_noise() {
        let a = run(None, &[1000.0, 900.0, 1100.0], None);
        let b = run(None, &[1050.0, 910.0, 1000.0], None);
        let comparison = compare(&[&a, &b]).unwrap();
        for row in &comparison.comparisons[0].figures {
            assert_eq!(row.verdict, Verdict::WithinNoise, "{}", row.key);
        }
        let text = comparison.to_string();
        assert!(
            !text.contains("better,") && !text.contains("worse,"),
            "{text}"
        );
        assert!(comparison.slower(0.0).is_empty());
    }

    #[test]
    fn rounds_made_beside_each_other_are_pairs() {
        // Far apart from round to round, but always 5 % apart from each other.
        let (a, b) = ([1000.0, 500.0, 2000.0], [950.0, 476.0, 1899.0]);
        let unpaired = compare(&[&run(None, &a, Some("x")), &run(None, &b, Some("y"))]).unwrap();
        assert_eq!(unpaired.comparisons[0].method, Method::Welch);
        assert_eq!(
            verdict(&unpaired, "frames_per_second"),
            Verdict::WithinNoise
        );
        let (a, mut b) = (run(None, &a, Some("x")), run(None, &b, Some("x")));
        let paired = compare(&[&a, &b]).unwrap();
        assert_eq!(paired.comparisons[0].method, Method::Paired);
        assert_eq!(verdict(&paired, "frames_per_second"), Verdict::BWorse);
        assert!(paired.to_string().contains("3 pairs of rounds"));
        // One without its other half is not counted, and the order does not matter.
        b.rounds.remove(0);
        b.rounds.reverse();
        let pairing = &compare(&[&a, &b]).unwrap().comparisons[0];
        assert_eq!(
            (pairing.method, pairing.rounds_a, pairing.rounds_b),
            (Method::Paired, 2, 2)
        );
        assert!((pairing.figures[0].a - 1000.0).abs() < 1e-6);
    }

    #[test]
    fn a_single_round_names_no_difference() {
        let several = run(None, &[500.0, 501.0], None);
        let comparison = compare(&[&run(None, &[1000.0], None), &several]).unwrap();
        assert!(!comparison.has_intervals() && comparison.slower(0.0).is_empty());
        let text = comparison.to_string();
        assert!(
            text.contains("run --rounds 5") && text.contains("`ab`"),
            "{text}"
        );
        assert!(
            !text.contains("worse") && !text.contains("better,"),
            "{text}"
        );
    }

    #[test]
    fn different_settings_are_refused_by_name() {
        let a = run(None, &[1000.0, 1001.0], None);
        let mut b = a.clone();
        b.settings.connections = 32;
        b.settings.kernel = "Linux 9".to_owned();
        b.settings.profile_digest = Some("0123456789abcdef".to_owned());
        // These may differ.
        b.settings.target = "192.0.2.1:9000".to_owned();
        b.settings.started_unix_s += 86_400;
        b.settings.version = "9.0.0".to_owned();
        let error = compare(&[&a, &b]).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 5, "{error}");
        assert_eq!(lines[1], "  connections: 1 in A, 32 in B");
        assert!(lines[2].starts_with("  profile-digest: ") && lines[2].contains("sends differs"));
        assert!(lines[3].ends_with("Linux 9 in B"), "{error}");
        assert_eq!(
            lines[4],
            "make them alike, or allow it with --allow-different connections --allow-different \
             profile-digest --allow-different kernel"
        );

        let contestants = [&a, &b].map(|run| Contestant { source: "", run });
        let allowed = |name: &str| name != "kernel";
        let error = Comparison::new(&contestants, &allowed).unwrap_err();
        assert!(matches!(&error, CompareError::Different(found) if found.len() == 1));
        let comparison = Comparison::new(&contestants, &|_| true).unwrap();
        let text = comparison.to_string();
        for part in [
            "note: different, and allowed to be: connections: 1 in A, 32 in B",
            "generators of different versions",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn every_setting_is_compared_or_left_out_on_purpose() {
        let a = run(None, &[1000.0], None);
        let serde_json::Value::Object(fields) = serde_json::to_value(&a.settings).unwrap() else {
            panic!("settings are an object");
        };
        // `in_flight` is what the agent allows; only what was asked for must agree.
        let left_out = ["target", "version", "started_unix_s", "name", "in_flight"];
        assert_eq!(fields.len(), Setting::ALL.len() + left_out.len());
    }

    #[test]
    fn what_an_old_file_does_not_say_is_noted() {
        let a = run(None, &[1000.0], None);
        let mut b = a.clone();
        b.settings.cpu_model = None;
        b.settings.profile_digest = None;
        let mut a = a;
        a.settings.cpu_model = Some("x".to_owned());
        let comparison = compare(&[&a, &b]).unwrap();
        assert_eq!(comparison.notes.len(), 1);
        assert!(comparison.notes[0].ends_with("that of A does: profile-digest, cpu-model"));
    }

    #[test]
    fn errors_and_warnings_are_passed_on() {
        let a = run(None, &[1000.0, 1001.0], None);
        let mut b = a.clone();
        b.results.errors = 7;
        b.results.warnings = vec!["something".to_owned()];
        b.rounds[1].results.duration_s = 0.5;
        b.settings.duration_asked_s = Some(2.0);
        let mut a = a;
        a.settings.duration_asked_s = Some(2.0);
        let text = compare(&[&a, &b]).unwrap().to_string();
        for part in [
            "warning: B: errors were counted, 7 in all",
            "warning: B: something",
            "B has more",
            "note: a round of B was ended after 0.5 of 2 s",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn tails_of_few_latencies_are_marked() {
        // 100 000 latencies a round: 10 beyond p99.99.
        let a = run(None, &[1000.0, 1001.0], None);
        assert!(!compare(&[&a, &a]).unwrap().to_string().contains("\\*"));
        let mut b = a.clone();
        b.rounds[1].corrected.reset();
        for value in 1..50_000 {
            b.rounds[1].corrected.record(value).unwrap();
        }
        let comparison = compare(&[&a, &b]).unwrap();
        let thin = comparison.comparisons[0].figures.iter();
        let thin: Vec<_> = thin.filter(|row| row.thin).map(|row| row.key).collect();
        assert_eq!(thin, ["p9999_us"]);
        let text = comparison.to_string();
        assert!(
            text.contains("noise (few)") && text.contains("\n(few): fewer"),
            "{text}"
        );
    }

    #[test]
    fn three_runs_make_two_tables() {
        let runs = ["one", "two", "two"].map(|name| run(Some(name), &[1000.0, 1001.0], None));
        let comparison = compare(&[&runs[0], &runs[1], &runs[2]]).unwrap();
        // The same name twice names nothing.
        let others: Vec<_> = comparison
            .comparisons
            .iter()
            .map(|pairing| (pairing.a.as_str(), pairing.b.as_str()))
            .collect();
        assert_eq!(others, [("A", "B"), ("A", "C")]);
        let named_as_a_letter = run(Some("B"), &[1000.0, 1001.0], None);
        let pairing = &compare(&[&named_as_a_letter, &run(None, &[1.0, 1.1], None)])
            .unwrap()
            .comparisons[0];
        assert_eq!((pairing.a.as_str(), pairing.b.as_str()), ("A", "B"));
        assert_eq!(compare(&[&runs[0]]), Err(CompareError::TooFew));
        let object: serde_json::Value =
            serde_json::from_str(&comparison.to_json().unwrap()).unwrap();
        assert_eq!(
            object["comparisons"][1]["figures"][0]["verdict"],
            "within_noise"
        );
        assert_eq!(object["comparisons"][1]["figures"][0]["better"], "higher");
        assert_eq!(object["comparisons"][0]["method"], "welch");
        assert_eq!(object["runs"][2]["rounds"], 2);
        assert!(object["comparisons"][0]["figures"][0]["interval"][1].is_f64());
    }

    #[test]
    fn without_a_frame_there_is_no_ratio() {
        let a = run(None, &[1000.0, 1001.0], None);
        let mut b = a.clone();
        b.rounds[0].results.frames_per_second = 0.0;
        let comparison = compare(&[&a, &b]).unwrap();
        assert_eq!(verdict(&comparison, "frames_per_second"), Verdict::NoRatio);
        assert!(comparison.to_string().contains("no ratio: a figure is 0"));
        assert!(comparison.to_json().is_ok());
    }

    #[test]
    fn the_table_is_markdown_and_aligned() {
        let a = run(Some("a|b"), &[1000.0, 1001.0], None);
        let b = run(Some("b"), &[1000.0, 1001.0], None);
        let text = compare(&[&a, &b]).unwrap().to_string();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), 12);
        let width = lines[0].chars().count();
        assert!(
            lines.iter().all(|line| line.chars().count() == width),
            "{text}"
        );
        assert!(lines[0].contains("a\\|b"));
        assert!(lines[1].starts_with("|---") && lines[1].contains("-:|"));
    }
}

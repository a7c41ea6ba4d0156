//! `compare`: saved runs side by side.

use std::path::PathBuf;

use clap::Args;
use ringspoa_loadgen::{Comparison, Contestant, Setting};

use crate::commands::{Exit, Failure, load, once, print};

/// What may differ, however it is compared.
const ALL: &str = "all";

/// The flags of `compare`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every run is compared with the first. Ratios have 95 % intervals from the rounds: \
    of pairs where both files are from one `ab`, by Welch otherwise. A difference is named only \
    where the whole interval backs it; with a single round nothing is named.\n\n\
    Runs of different load, kernel or CPU are refused. Target, start and version may differ.\n\n\
    Exit codes: 0 compared; 1 a file could not be read; 2 wrong flags, or settings differ; \
    4 slower than --fail-if-slower allows."
)]
pub(crate) struct CompareArgs {
    /// Files that `run --output` or `ab --output-a` saved; the first is what the others are
    /// compared with.
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    files: Vec<PathBuf>,
    /// A setting that may differ, or all of them. Repeatable.
    #[arg(long, value_name = "SETTING|all", value_parser = setting)]
    allow_different: Vec<String>,
    #[command(flatten)]
    gate: GateArgs,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// The flag that makes a comparison a test.
#[derive(Debug, Args)]
pub(crate) struct GateArgs {
    /// Ends with exit code 4 if throughput, p50, p99 or p99.9 is worse than the first run's by more
    /// than this, with the whole 95 % interval beyond.
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
    fail_if_slower: Option<f64>,
}

impl GateArgs {
    /// Whether it was asked for.
    pub(crate) const fn is_set(&self) -> bool {
        self.fail_if_slower.is_some()
    }

    /// What it says of a comparison. The reasons go to stderr.
    pub(crate) fn check(&self, comparison: &Comparison) -> Exit {
        let Some(percent) = self.fail_if_slower else {
            return Exit::Success;
        };
        let slower = comparison.slower(percent);
        for text in &slower {
            eprintln!("slower: {text}");
        }
        if slower.is_empty() {
            Exit::Success
        } else {
            Exit::Slower
        }
    }
}

/// Loads, compares, prints.
pub(crate) fn execute(args: &CompareArgs) -> Result<Exit, Failure> {
    once(&args.files)?;
    let mut runs = Vec::new();
    for path in &args.files {
        runs.push((path.display().to_string(), load(path)?));
    }
    let contestants: Vec<_> = runs
        .iter()
        .map(|(source, run)| Contestant { source, run })
        .collect();
    let allowed = |name: &str| {
        let mut names = args.allow_different.iter();
        names.any(|one| one == name || one == ALL)
    };
    let comparison = Comparison::new(&contestants, &allowed).map_err(Failure::flags)?;
    if args.gate.is_set() && !comparison.has_intervals() {
        return Err(Failure::flags(
            "--fail-if-slower: a file has a single round, of which nothing can be called slower; \
             make several with run --rounds 5 or with ab",
        ));
    }
    print_comparison(&comparison, args.json)?;
    Ok(args.gate.check(&comparison))
}

/// Prints a comparison to stdout.
pub(crate) fn print_comparison(comparison: &Comparison, json: bool) -> Result<(), Failure> {
    if json {
        let json = comparison.to_json().map_err(Failure::failed)?;
        print(format_args!("{json}\n"))
    } else {
        print(comparison)
    }
}

fn setting(text: &str) -> Result<String, String> {
    let mut names = Setting::ALL.iter().map(Setting::name);
    if text == ALL || names.any(|name| name == text) {
        return Ok(text.to_owned());
    }
    let names: Vec<_> = Setting::ALL.iter().map(Setting::name).collect();
    Err(format!("there are {}, and {ALL}", names.join(", ")))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent),
        _ => Err("write a percentage from 0 to below 100, such as 5".to_owned()),
    }
}

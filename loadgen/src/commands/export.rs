//! `export`: a saved run's histogram for other tools.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ringspoa_loadgen::{LatencyUnit, percentile_csv, percentile_distribution};

use crate::commands::{Exit, Failure, Output, distinct, load, print};

/// The flags of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Of several rounds, all are in one distribution. Exit codes: 0 it was written; \
    1 it could not be; 2 wrong flags."
)]
pub(crate) struct ExportArgs {
    /// A file that --output of a run wrote.
    #[arg(value_name = "RUN.json")]
    run: PathBuf,
    /// What to write: a percentile distribution as HdrHistogram's plotter and wrk2 have it, or the
    /// same lines as comma-separated values.
    #[arg(long, value_enum, default_value = "hgrm")]
    format: Format,
    /// Where to write it; without this, to stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Latencies from the actual send time, which hide the stalls of an open loop.
    #[arg(long)]
    uncorrected: bool,
    /// The unit of the latencies.
    #[arg(long, value_name = "us|ms|ns", default_value = "us")]
    unit: LatencyUnit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Hgrm,
    Csv,
}

/// Loads, converts, writes.
pub(crate) fn execute(args: &ExportArgs) -> Result<Exit, Failure> {
    if let Some(output) = &args.output {
        distinct(("--output", output), ("the run", &args.run))?;
    }
    let run = load(&args.run)?;
    let histogram = if args.uncorrected {
        &run.uncorrected
    } else {
        &run.corrected
    };
    let text = match args.format {
        Format::Hgrm => percentile_distribution(histogram, args.unit),
        Format::Csv => percentile_csv(histogram, args.unit),
    }
    .map_err(|error| Failure::failed(format!("{}: {error}", args.run.display())))?;
    match &args.output {
        Some(path) => Output::create("--output", path)?.write_text(&text)?,
        None => print(&text)?,
    }
    Ok(Exit::Success)
}

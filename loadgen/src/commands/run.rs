//! `run`: one agent.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use ringspoa_loadgen::Target;

use crate::commands::load::LoadArgs;
use crate::commands::rounds::{Contender, Rounds, make_rounds};
use crate::commands::{Exit, Failure, Output, print, rounds, stop_flag};

/// The flags of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --rate the loop is closed: each connection keeps --in-flight \
    NOTIFYs in flight, and latency counts from the write. With --rate it is open: NOTIFYs have \
    fixed times, and latency counts from these; the uncorrected figures, from the actual write, \
    stand beside it. A closed loop cannot see coordinated omission: there both are the same.\n\n\
    A signal ends the run early, with what was measured by then; a second one, a second later, at \
    once.\n\n\
    Exit codes: 0 all went well; 1 the run could not be made; 2 wrong flags; 3 the run was made, \
    and errors or violations were counted."
)]
pub(crate) struct RunArgs {
    /// Where the agent listens.
    #[arg(long, value_name = "ADDR|unix:PATH")]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Rounds to make, each with connections and a warm-up of its own: their spread says how far a
    /// figure can be trusted, and `compare` needs it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = rounds)]
    rounds: usize,
    /// Saves settings, results and full histograms here, as JSON.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Prints no progress.
    #[arg(long)]
    quiet: bool,
}

/// Runs, saves, prints.
pub(crate) fn execute(args: &RunArgs) -> Result<Exit, Failure> {
    let plan = args.load.plan(&args.target).map_err(Failure::flags)?;
    // Before the run: that its results cannot be written must not be found out after it.
    let mut output = args
        .output
        .as_deref()
        .map(|path| Output::create("--output", path))
        .transpose()?;
    let stop = stop_flag()?;
    let contender = Contender {
        name: plan.target.to_string(),
        flag: "--target",
        plan,
    };
    let Rounds { runs, failure } = make_rounds(&[contender], args.rounds, &stop, args.quiet)?;
    let Some(Some(run)) = runs.into_iter().next() else {
        return Err(failure.unwrap_or_else(|| Failure::failed("no round was made")));
    };
    if run.results.frames == 0 && stop.load(Ordering::Relaxed) {
        return Err(Failure::failed(
            "interrupted before anything was measured; nothing is saved",
        ));
    }
    if let Some(output) = &mut output {
        output.write(&run)?;
    }
    if args.json {
        let json = run.to_json().map_err(Failure::failed)?;
        print(format_args!("{json}\n"))?;
    } else {
        print(run.table())?;
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(Exit::of_errors(run.results.errors)),
    }
}

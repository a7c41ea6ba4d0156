//! `run`: one agent.

use std::path::PathBuf;

use clap::Args;
use ringspoa_loadgen::{Progress, Target, run};

use crate::commands::load::LoadArgs;
use crate::commands::{Exit, Failure, Output, stop_flag};

/// The flags of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --rate the loop is closed: each connection keeps --in-flight \
    NOTIFYs in flight, and latency counts from the write. With --rate it is open: NOTIFYs have \
    fixed times, and latency counts from these; the uncorrected figures, from the actual write, \
    stand beside it. A closed loop cannot see coordinated omission: there both are the same.\n\n\
    Exit codes: 0 all went well; 1 the run could not be made; 2 wrong flags; 3 the run was made, \
    and errors or violations were counted."
)]
pub(crate) struct RunArgs {
    /// Where the agent listens.
    #[arg(long, value_name = "ADDR|unix:PATH")]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
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
    let mut output = args.output.as_deref().map(Output::create).transpose()?;
    let stop = stop_flag()?;
    let mut print = |progress: &Progress| {
        if !args.quiet {
            eprintln!("{progress}");
        }
    };
    let result = run(&plan, &stop, &mut print).map_err(Failure::failed)?;
    if let Some(output) = &mut output {
        output.write(&result)?;
    }
    if args.json {
        println!("{}", result.to_json().map_err(Failure::failed)?);
    } else {
        print!("{}", result.table());
    }
    Ok(Exit::of_errors(result.results.errors))
}

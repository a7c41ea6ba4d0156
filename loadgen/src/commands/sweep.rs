//! `sweep`: the highest rate an agent answers in time.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringspoa_loadgen::{Measurement, SweepEnd, SweepPlan, Target, plot_curve_svg, sweep};

use crate::commands::load::{TrafficArgs, seconds};
use crate::commands::{Exit, Failure, Output, distinct, print, stop_flag};

/// The flags of `sweep`.
#[derive(Debug, Args)]
#[command(
    after_help = "The loop is open: NOTIFYs have fixed times, latency counts from these, and those \
    that were never sent count as beyond the bound. The rate doubles until it fails, then the gap is \
    halved until it is about 3 %. Each rate is measured until two measurements agree, at most three \
    times, each with a warm-up of its own.\n\n\
    Where a rate fails and the generator itself was late or out of CPU time, nothing is known of the \
    agent: the verdict is \"generator\", and the search ends there with what had passed.\n\n\
    Exit codes: 0 a rate was found; 1 it could not be measured; 2 wrong flags; 3 errors or \
    violations were counted, or not even the lowest rate passed."
)]
pub(crate) struct SweepArgs {
    /// Where the agent listens.
    #[arg(long, value_name = "ADDR|unix:PATH")]
    target: Target,
    /// The 99th percentile of latency must stay below this, in microseconds.
    #[arg(long, value_name = "US", value_parser = microseconds, allow_negative_numbers = true)]
    p99_below: Duration,
    /// The first and lowest rate to try, in NOTIFYs a second.
    #[arg(long, value_name = "RATE", default_value_t = 1_000)]
    from: u64,
    /// The highest rate to try; without this, it goes on until one fails.
    #[arg(long, value_name = "RATE")]
    to: Option<u64>,
    /// Rates to try from --from to --to, in equal ratios; without this, each is twice the last.
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Seconds of one measurement.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    seconds: Duration,
    #[command(flatten)]
    traffic: TrafficArgs,
    /// Saves settings, measurements and the answer here, as JSON.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draws latency over rate here, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Prints no table, only the answer.
    #[arg(long)]
    quiet: bool,
}

/// Searches, prints while it goes, saves, answers.
pub(crate) fn execute(args: &SweepArgs) -> Result<Exit, Failure> {
    let plan = args.plan().map_err(Failure::flags)?;
    if let Some(path) = &args.plot
        && !path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("svg"))
    {
        return Err(Failure::flags(format!(
            "--plot {}: give a name that ends in .svg",
            path.display()
        )));
    }
    if let (Some(output), Some(plot)) = (&args.output, &args.plot) {
        distinct(("--output", output), ("--plot", plot))?;
    }
    let create = |flag, path: &Option<PathBuf>| {
        let path = path.as_deref();
        path.map(|path| Output::create(flag, path)).transpose()
    };
    let mut output = create("--output", &args.output)?;
    let mut picture = create("--plot", &args.plot)?;
    let stop = stop_flag()?;
    let say = |line: &str| {
        if args.quiet {
            return Ok(());
        }
        if args.json {
            eprintln!("{line}");
            return Ok(());
        }
        print(format_args!("{line}\n"))
    };
    say(&Measurement::header())?;
    // A reader that has gone does not end the search; what else may fail says so at its end.
    let mut progress = |one: &Measurement| drop(say(&one.row()));
    let curve = sweep(&plan, &stop, &mut progress).map_err(Failure::failed)?;
    let json = curve.to_json().map_err(Failure::failed)?;
    if let Some(output) = &mut output {
        output.write_text(&format!("{json}\n"))?;
    }
    if let Some(picture) = &mut picture
        && !curve.measurements.is_empty()
    {
        picture.write_text(&plot_curve_svg(&curve).map_err(Failure::failed)?)?;
    }
    if args.json {
        print(format_args!("{json}\n"))?;
    }
    if let SweepEnd::Failed { .. } = curve.end {
        return Err(Failure::failed(curve.answer()));
    }
    if !args.json {
        print(format_args!("{}\n", curve.answer()))?;
    }
    Ok(if curve.best_rate.is_none() {
        Exit::CountedErrors
    } else {
        Exit::of_errors(curve.errors)
    })
}

impl SweepArgs {
    fn plan(&self) -> Result<SweepPlan, String> {
        let plan = SweepPlan {
            plan: self
                .traffic
                .plan(&self.target, Some(self.from), self.seconds)?,
            p99_below: self.p99_below,
            from: self.from,
            to: self.to,
            steps: self.steps,
        };
        plan.check().map_err(|error| error.to_string())?;
        Ok(plan)
    }
}

fn microseconds(text: &str) -> Result<Duration, String> {
    let hint = || "write microseconds, such as 500".to_owned();
    let number = text.strip_suffix("us").unwrap_or(text);
    let us: f64 = number.trim().parse().map_err(|_| hint())?;
    Duration::try_from_secs_f64(us / 1e6).map_err(|_| hint())
}

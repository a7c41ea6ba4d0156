//! The commands one can give; the flags of each are in its file.

use clap::{Parser, Subcommand};

use crate::commands::ab::AbArgs;
use crate::commands::compare::CompareArgs;
use crate::commands::conform::ConformArgs;
use crate::commands::export::ExportArgs;
use crate::commands::plot::PlotArgs;
use crate::commands::run::RunArgs;
use crate::commands::sweep::SweepArgs;

/// Drives an SPOE agent as HAProxy does and measures its latency.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 all went well; 1 the run could not be made; \
    2 wrong flags; 3 the run was made, and errors, violations or failed rules were counted; 4 an agent is slower \
    than --fail-if-slower allows."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs against an agent and prints a table, or with --json an object.
    Run(Box<RunArgs>),
    /// Runs against two agents in turn and compares them.
    Ab(Box<AbArgs>),
    /// Compares saved runs.
    Compare(CompareArgs),
    /// Searches the highest rate at which the agent still answers in time.
    Sweep(Box<SweepArgs>),
    /// Checks what an agent does on the wire, rule by rule, in HAProxy's place.
    Conform(Box<ConformArgs>),
    /// Draws saved runs: latency by percentile, and throughput over time.
    Plot(PlotArgs),
    /// Writes the latencies of a saved run for HdrHistogram's tools, or as CSV.
    Export(ExportArgs),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringspoa_loadgen::Plan;

    use super::*;

    fn plan(extra: &str) -> Result<Plan, String> {
        let mut line =
            "ringspoa-loadgen run --connections 4 --in-flight 2 --duration 1 ".to_owned();
        line.push_str(extra);
        if !extra.contains("--target") {
            line.push_str(" --target 127.0.0.1:1");
        }
        let cli =
            Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Run(args) = cli.command else {
            panic!("another command");
        };
        args.load.plan(&args.target)
    }

    #[test]
    fn flags_become_a_plan() {
        let plan = plan(
            "--rate 500 --warmup 0.25 --profile http --threads 2 --cores 0,2-3 --expect a=b|c",
        )
        .unwrap();
        assert_eq!(
            (plan.connections, plan.in_flight, plan.rate),
            (4, 2, Some(500))
        );
        assert_eq!(plan.warmup, Duration::from_millis(250));
        assert_eq!((plan.threads, plan.cores), (2, vec![0, 2, 3]));
        assert_eq!(plan.expectations[0].to_string(), "a=b|c");
        assert_eq!((plan.profile.name(), plan.max_frame_size), ("http", 16_380));
    }

    #[test]
    fn wrong_flags_are_named_with_a_way_out() {
        let cases = [
            ("--target 9000", "--target", "HOST:PORT"),
            ("--warmup -1", "--warmup", ""),
            ("--warmup soon", "--warmup", "such as 10 or 0.5"),
            ("--threads 5", "--threads", "1 to 4"),
            ("--rate 0", "--rate", "1 to"),
            ("--cores 3-1", "--cores", "0,2-3"),
            ("--expect remediation", "--expect", "VAR=VALUE"),
            ("--profile htpp", "--profile", "'ip' and 'http'"),
            (
                "--profile x.toml --ip 192.0.2.1",
                "--profile",
                "write it into the file",
            ),
            ("--ip 300.1.1.1", "--ip", ""),
            ("--max-frame-size 100", "--max-frame-size", "256"),
        ];
        for (extra, flag, way_out) in cases {
            let error = plan(extra).unwrap_err();
            assert!(
                error.contains(flag) && error.contains(way_out),
                "{extra}: {error}"
            );
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

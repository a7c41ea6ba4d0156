//! The flags.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ringspoa_loadgen::{Expectation, Plan, Profile, Target};

/// Drives an SPOE agent as HAProxy does and measures its latency.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 all went well; 1 the run could not be made; \
    2 wrong flags; 3 the run was made, and errors or violations were counted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs against an agent and prints a table, or with --json an object.
    Run(Box<RunArgs>),
}

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
    target: Target,
    /// Connections to open.
    #[arg(long, value_name = "N")]
    connections: usize,
    /// NOTIFYs in flight on each connection; HAProxy has at most 20.
    #[arg(long, value_name = "D")]
    in_flight: usize,
    /// NOTIFYs a second over all connections: an open loop.
    #[arg(long, value_name = "R")]
    rate: Option<u64>,
    /// Seconds to measure.
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    duration: Duration,
    /// Seconds before that, not counted.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    warmup: Duration,
    /// Seconds to wait for ACKs after that.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    drain: Duration,
    /// Seconds a connection may take to open.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    connect_timeout: Duration,
    /// What to send: an address; a request; or what a TOML file says.
    #[arg(long, value_name = "ip|http|FILE.toml", default_value = "ip")]
    profile: String,
    /// Sends the (first) message under this name.
    #[arg(long, value_name = "NAME")]
    message: Option<String>,
    /// Sends this address always, instead of a mix of which half is in documentation networks.
    #[arg(long, value_name = "ADDR")]
    ip: Option<IpAddr>,
    /// Threads to share the connections.
    #[arg(long, value_name = "T", default_value_t = 1)]
    threads: usize,
    /// Cores to pin the threads to, as in "0,2-3".
    #[arg(long, value_name = "LIST", value_parser = cores)]
    cores: Option<Cores>,
    /// With --rate, sleeps until a NOTIFY is due instead of polling for the last microseconds: less
    /// CPU, but the time a core takes to wake up is in the latencies.
    #[arg(long)]
    no_polling: bool,
    /// The max-frame-size to offer, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16_380)]
    max_frame_size: u32,
    /// A variable every ACK must set: [SCOPE.]NAME=VALUE[|VALUE...]. Repeatable. A fixed
    /// value mostly needs a fixed address, see --ip.
    #[arg(long, value_name = "VAR=VALUE")]
    expect: Vec<Expectation>,
    /// Saves settings, results and full histograms here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints no progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl RunArgs {
    /// The plan these flags describe.
    pub(crate) fn plan(&self) -> Result<Plan, String> {
        let profile = Profile::load(&self.profile, self.message.as_deref(), self.ip)
            .map_err(|error| format!("--profile: {error}"))?;
        let plan = Plan {
            connections: self.connections,
            in_flight: self.in_flight,
            rate: self.rate,
            warmup: self.warmup,
            duration: self.duration,
            drain: self.drain,
            connect_timeout: self.connect_timeout,
            threads: self.threads,
            cores: self.cores.clone().unwrap_or_default().0,
            polling: !self.no_polling,
            max_frame_size: self.max_frame_size,
            expectations: self.expect.clone(),
            ..Plan::new(self.target.clone(), profile)
        };
        plan.check().map_err(|error| error.to_string())?;
        Ok(plan)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = number
        .parse()
        .map_err(|_| "write seconds, such as 10 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "write seconds, such as 10 or 0.5".to_owned())
}

/// Cores, in a type of its own since clap would take a list for a flag given several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cores(Vec<usize>);

fn cores(text: &str) -> Result<Cores, String> {
    let hint = || "write core numbers as taskset takes them, such as 0,2-3".to_owned();
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| hint());
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(hint());
        }
        cores.extend((first..=last).map(usize::from));
    }
    Ok(Cores(cores))
}

#[cfg(test)]
mod tests {
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
        let Command::Run(args) = cli.command;
        args.plan()
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

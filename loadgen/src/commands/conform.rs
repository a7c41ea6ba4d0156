//! `conform`: whether an agent does what HAProxy needs.

use std::time::Duration;

use clap::Args;
use ringspoa_loadgen::{ConformError, ConformPlan, Conformance, Hostile, Rule, Target, conform};

use crate::commands::load::{MessageArgs, seconds};
use crate::commands::{Exit, Failure, print, stop_flag};

/// The flags of `conform`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each rule is one thing that HAProxy, in some version, needs of an agent. A rule fails only \
    where HAProxy would suffer or where the spec (doc/SPOE.txt) forbids what came; where HAProxy copes with \
    several answers, each of them passes. What cannot be seen from outside, or depends on what the agent did \
    not announce, is not applicable (n/a), with the reason.\n\n\
    Give --message or --profile a message that the agent knows and answers with variables: what it writes can \
    only be judged if it writes something.\n\n\
    Exit codes: 0 no rule failed; 1 the check could not be made, as nobody listens, or not to its end; 2 wrong \
    flags; 3 at least one rule failed."
)]
pub(crate) struct ConformArgs {
    /// Where the agent listens.
    #[arg(value_name = "ADDR|unix:PATH", required_unless_present = "list")]
    target: Option<Target>,
    /// Prints the rules, a line each, and ends. No agent is needed.
    #[arg(long)]
    list: bool,
    /// Plays only these rules, by id or name.
    #[arg(long, value_name = "RULE[,RULE...]", value_delimiter = ',', value_parser = rule)]
    only: Vec<&'static Rule>,
    /// Leaves these rules out.
    #[arg(long, value_name = "RULE[,RULE...]", value_delimiter = ',', value_parser = rule)]
    skip: Vec<&'static Rule>,
    #[command(flatten)]
    message: MessageArgs,
    /// The max-frame-size to offer, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16_380)]
    max_frame_size: u32,
    /// Seconds to wait for one answer. Longer than the agent waits before it refuses a HELLO.
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Duration,
    /// Seconds all rules may take together, malformed frames apart.
    #[arg(long, value_name = "S", default_value = "120", value_parser = seconds, allow_negative_numbers = true)]
    run_timeout: Duration,
    /// Seconds the agent gives a peer to say HELLO; waits so long to see that it closes (rule H13b).
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    hello_timeout: Option<Duration>,
    /// Connections to open at once (rule C43).
    #[arg(long, value_name = "N", default_value_t = 500)]
    idle_connections: usize,
    /// Sends malformed frames as well (rule X1): an agent in use may not like it.
    #[arg(long)]
    hostile: bool,
    /// What the malformed frames are made from; the same seed makes the same frames of a profile.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "hostile")]
    seed: u64,
    /// Malformed frames to send at most.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1_000,
        requires = "hostile"
    )]
    hostile_frames: u64,
    /// Seconds to send malformed frames at most.
    #[arg(long, value_name = "S", default_value = "20", value_parser = seconds, requires = "hostile",
        allow_negative_numbers = true)]
    hostile_seconds: Duration,
    /// Sends only the malformed frame of this number, to repeat a failure.
    #[arg(long, value_name = "NUMBER", requires = "hostile")]
    hostile_frame: Option<u64>,
    /// Shows what was sent and what came for every rule, not only those that fail.
    #[arg(long)]
    verbose: bool,
    /// Prints one JSON object at the end instead.
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
}

/// Checks, and prints each rule as it is known.
pub(crate) fn execute(args: &ConformArgs) -> Result<Exit, Failure> {
    if args.list {
        return print(listed()).map(|()| Exit::Success);
    }
    let Some(target) = &args.target else {
        return Err(Failure::flags("give the ADDR of an agent, or --list"));
    };
    let plan = plan(args, target)?;
    let stop = stop_flag()?;
    let mut printed = Ok(());
    let report = conform(&plan, &stop, &mut |result| {
        if !args.json && printed.is_ok() {
            printed = print(result.lines(args.verbose));
        }
    });
    let report = report.map_err(|error| match error {
        ConformError::Setting { .. } => Failure::flags(error),
        _ => Failure::failed(error),
    })?;
    printed?;
    if args.json {
        let json = report.to_json().map_err(Failure::failed)?;
        print(format_args!("{json}\n"))?;
    } else {
        print(format_args!("\n{}", report.summary()))?;
    }
    exit(&report)
}

/// A failure counts for more than that the check did not come to its end.
fn exit(report: &Conformance) -> Result<Exit, Failure> {
    if report.failed > 0 {
        return Ok(Exit::CountedErrors);
    }
    if report.not_run > 0 {
        return Err(Failure::failed(format!(
            "{} rules were not played, as a signal came or --run-timeout was over: raise it, or choose fewer \
             with --only or --skip",
            report.not_run
        )));
    }
    Ok(Exit::Success)
}

fn plan(args: &ConformArgs, target: &Target) -> Result<ConformPlan, Failure> {
    let profile = args.message.profile().map_err(Failure::flags)?;
    let mut rules: Vec<&'static Rule> = Rule::all()
        .filter(|rule| args.only.is_empty() || is_among(&args.only, rule))
        .filter(|rule| !is_among(&args.skip, rule))
        .collect();
    // Of no use in the report of somebody who did not ask for it.
    if !args.hostile && args.only.is_empty() {
        rules.retain(|rule| rule.group() != "hostile");
    }
    let hostile = args.hostile.then_some(Hostile {
        seed: args.seed,
        frames: args.hostile_frames,
        duration: args.hostile_seconds,
        only_frame: args.hostile_frame,
    });
    Ok(ConformPlan {
        rules,
        max_frame_size: args.max_frame_size,
        timeout: args.timeout,
        run_timeout: args.run_timeout,
        hello_timeout: args.hello_timeout,
        idle_connections: args.idle_connections,
        hostile,
        ..ConformPlan::new(target.clone(), profile)
    })
}

fn is_among(rules: &[&'static Rule], rule: &Rule) -> bool {
    rules.iter().any(|one| one.id == rule.id)
}

fn rule(text: &str) -> Result<&'static Rule, String> {
    Rule::find(text.trim()).ok_or_else(|| {
        "no such rule: give an id such as N16 or a name such as known-message; --list has all of them"
            .to_owned()
    })
}

fn listed() -> String {
    Rule::all()
        .map(|rule| format!("{:<4}  {:<36}  {}\n", rule.id, rule.name, rule.text))
        .collect()
}

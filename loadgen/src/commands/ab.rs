//! `ab`: two agents, in turn.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::Args;
use ringspoa_loadgen::{Comparison, Contestant, Plan, RunError, Target};

use crate::commands::compare::{GateArgs, print_comparison};
use crate::commands::load::LoadArgs;
use crate::commands::rounds::{Contender, Rounds, fail, make_rounds};
use crate::commands::{Exit, Failure, Output, distinct, print, rounds, stop_flag};

/// The flags of `ab`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each round runs both agents, one right after the other, and every other round in \
    the opposite order: A B, B A, A B. What slows the machine for a while then hits both, and a \
    steady drift favours each as often as the other; of an even number of rounds it cancels. The \
    rounds are compared pair by pair, as `compare` would compare the two files.\n\n\
    A signal ends it early: whole rounds are kept and compared, the one cut short is left out.\n\n\
    Exit codes: 0 all went well; 1 the rounds could not all be made; 2 wrong flags; 3 errors or \
    violations were counted; 4 slower than --fail-if-slower allows."
)]
pub(crate) struct AbArgs {
    /// Where agent A listens, with which B is compared.
    #[arg(value_name = "TARGET_A")]
    pub(crate) target_a: Target,
    /// Where agent B listens.
    #[arg(value_name = "TARGET_B")]
    target_b: Target,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Rounds to make, each of A and of B. More make the intervals narrower.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = rounds)]
    rounds: usize,
    /// What to call agent A.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name_a: Option<String>,
    /// What to call agent B.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name_b: Option<String>,
    /// Saves the rounds of A here, as `run --output` does.
    #[arg(long, value_name = "FILE")]
    output_a: Option<PathBuf>,
    /// Saves the rounds of B here.
    #[arg(long, value_name = "FILE")]
    output_b: Option<PathBuf>,
    #[command(flatten)]
    gate: GateArgs,
    /// Prints one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// Prints no progress.
    #[arg(long)]
    quiet: bool,
}

/// Makes the rounds, saves, compares, prints.
pub(crate) fn execute(args: &AbArgs) -> Result<Exit, Failure> {
    if let (Some(a), Some(b)) = (&args.output_a, &args.output_b) {
        distinct(("--output-a", a), ("--output-b", b))?;
    }
    if args.name_a.is_some() && args.name_a == args.name_b {
        return Err(Failure::flags(
            "--name-a and --name-b are the same: give two names",
        ));
    }
    if args.gate.is_set() && args.rounds < 2 {
        return Err(Failure::flags(
            "--fail-if-slower: of a single round nothing can be called slower; give --rounds 2 or \
             more",
        ));
    }
    let contender = |letter: &str, name: &Option<String>, flag, target: &Target| {
        let name = name.as_deref().unwrap_or(letter);
        let plan = args.load.plan(target).map_err(Failure::flags)?;
        Ok(Contender {
            name: format!("{name}, {target}"),
            flag,
            plan,
        })
    };
    let contenders = [
        contender("A", &args.name_a, "TARGET_A", &args.target_a)?,
        contender("B", &args.name_b, "TARGET_B", &args.target_b)?,
    ];
    let output = |path: &Option<PathBuf>, flag| {
        path.as_deref()
            .map(|path| Output::create(flag, path))
            .transpose()
    };
    let outputs = [
        output(&args.output_a, "--output-a")?,
        output(&args.output_b, "--output-b")?,
    ];
    for contender in &contenders {
        reach(contender)?;
    }
    let stop = stop_flag()?;
    let Rounds { runs, failure } = make_rounds(&contenders, args.rounds, &stop, args.quiet)?;
    let mut made = Vec::new();
    for ((run, name), output) in runs
        .into_iter()
        .zip([&args.name_a, &args.name_b])
        .zip(outputs)
    {
        let Some(mut run) = run else { continue };
        run.settings.name.clone_from(name);
        if let Some(mut output) = output {
            output.write(&run)?;
        }
        made.push(run);
    }
    let [a, b] = made.as_slice() else {
        // All there is. It is of no use to a program, which gets the error alone.
        if let ([only], false, None) = (made.as_slice(), args.json, &failure) {
            print(only.table())?;
        }
        return Err(failure.unwrap_or_else(|| {
            Failure::failed("interrupted before both agents had a round: nothing to compare")
        }));
    };
    let contestants = [a, b].map(|run| Contestant { source: "", run });
    // Both had the same flags on the same machine.
    let comparison = Comparison::new(&contestants, &|_| true).map_err(Failure::failed)?;
    print_comparison(&comparison, args.json)?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if args.gate.is_set() && !comparison.has_intervals() {
        return Err(Failure::failed(
            "--fail-if-slower: interrupted before there were two rounds of each agent, so nothing \
             can be called slower",
        ));
    }
    let slower = args.gate.check(&comparison);
    Ok(match Exit::of_errors(a.results.errors + b.results.errors) {
        Exit::Success => slower,
        errors => errors,
    })
}

/// Whether an agent listens there at all: that one of two does not must not be found out after a long
/// round of the other.
fn reach(contender: &Contender) -> Result<(), Failure> {
    let Plan {
        target,
        connect_timeout,
        ..
    } = &contender.plan;
    let result = match target {
        Target::Tcp(address) => TcpStream::connect_timeout(address, *connect_timeout).map(drop),
        Target::Unix(path) => UnixStream::connect(path).map(drop),
    };
    result.map_err(|error| {
        let (target, reason) = (target.to_string(), error.to_string());
        fail(contender.flag, &RunError::NoConnection { target, reason })
    })
}

fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("write a word or two, such as epoll".to_owned());
    }
    Ok(text.to_owned())
}

//! Rounds: the same load several times, of several agents in turn.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringspoa_loadgen::{Plan, Progress, RunError, SavedRun, run};

use crate::commands::Failure;

/// What a round may be shorter than asked for and still be a whole one.
const TOLERANCE: Duration = Duration::from_millis(1);

/// One agent of several.
pub(crate) struct Contender {
    /// For progress lines and errors.
    pub(crate) name: String,
    /// Where its address is given.
    pub(crate) flag: &'static str,
    pub(crate) plan: Plan,
}

/// What came of all rounds.
pub(crate) struct Rounds {
    /// The run of each agent. If the first round was cut short, what there is of it: shorter, or
    /// nothing.
    pub(crate) runs: Vec<Option<SavedRun>>,
    /// Why there are fewer rounds than asked for, if it was not the user's wish.
    pub(crate) failure: Option<Failure>,
}

/// Makes `count` rounds of all contenders, until the end or until `stop` is set.
///
/// Every other round takes the contenders in the opposite order, A B, B A, A B: what drifts along with
/// time, such as a core that gets warm, then favours each side as often as the other, and of an even
/// number of rounds a steady drift cancels. The runs of a round get the same pair id.
///
/// A round that was cut short is left out, since it would count like a whole one; only where it is
/// the first, it is all there is.
pub(crate) fn make_rounds(
    contenders: &[Contender],
    count: usize,
    stop: &AtomicBool,
    quiet: bool,
) -> Result<Rounds, Failure> {
    let say = |text: &str| {
        if !quiet {
            eprintln!("{text}");
        }
    };
    let session = RandomState::new().hash_one(std::process::id());
    let mut runs: Vec<Option<SavedRun>> = contenders.iter().map(|_| None).collect();
    for index in 0..count {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if index % 2 == 1 {
            order.reverse();
        }
        let mut round: Vec<Option<SavedRun>> = contenders.iter().map(|_| None).collect();
        let mut failure = None;
        let mut whole = true;
        for which in order {
            let Contender { name, flag, plan } = &contenders[which];
            let number = index + 1;
            match contenders.len() {
                1 if count == 1 => {}
                1 => say(&format!("round {number} of {count}")),
                _ => say(&format!("round {number} of {count}: {name}")),
            }
            let mut progress = |progress: &Progress| say(&progress.to_string());
            match run(plan, stop, &mut progress) {
                Ok(mut one) => {
                    let measured = Duration::from_secs_f64(one.results.duration_s);
                    whole &= measured + TOLERANCE >= plan.duration;
                    if contenders.len() > 1 {
                        one.rounds[0].pair = Some(format!("{session:016x}/{number}"));
                    }
                    round[which] = Some(one);
                }
                Err(error) => {
                    whole = false;
                    let interrupted = matches!(error, RunError::Stopped);
                    let nothing = runs.iter().chain(&round).all(Option::is_none);
                    failure = (!interrupted || nothing).then(|| fail(flag, &error));
                }
            }
            if !whole || stop.load(Ordering::Relaxed) {
                break;
            }
        }
        whole &= round.iter().all(Option::is_some);
        if whole || index == 0 {
            for (run, one) in runs.iter_mut().zip(round) {
                match (&mut *run, one) {
                    (Some(run), Some(one)) => run.add_rounds_of(one).map_err(Failure::failed)?,
                    (None, one) => *run = one,
                    (Some(_), None) => {}
                }
            }
        } else {
            say(&format!(
                "round {} was cut short and is left out",
                index + 1
            ));
        }
        if failure.is_some() || !whole || stop.load(Ordering::Relaxed) {
            if runs.iter().all(Option::is_none)
                && let Some(failure) = failure
            {
                return Err(failure);
            }
            return Ok(Rounds { runs, failure });
        }
    }
    Ok(Rounds {
        runs,
        failure: None,
    })
}

/// What went wrong, in terms of the flags.
pub(crate) fn fail(flag: &str, error: &RunError) -> Failure {
    match error {
        RunError::NoConnection { target, reason } => Failure::failed(format!(
            "no connection to the agent at {target}: {reason}; check that it runs and listens \
             there, or give its address as {flag}"
        )),
        RunError::Pin { .. } => Failure::flags(error),
        _ => Failure::failed(error),
    }
}

//! A conformance check of any agent: HAProxy's side of the wire, played by rules.
//!
//! Each rule is one thing HAProxy, in some version, needs of an agent, and is played on connections
//! of its own, one rule after the other. It knows sockets, bytes and waits that end; it refuses to
//! know the agent: what an agent does beside the wire (handlers called, memory taken, lines logged)
//! it cannot see, and rules that would need it say so instead of passing.
//!
//! A rule fails only where HAProxy would suffer or where the spec forbids what came. Where HAProxy
//! copes with several answers each of them passes, with a note if one of them is unusual.

mod checks;
mod connection;
mod fragments;
mod frames;
mod framing;
mod handshake;
mod hostile;
mod judge;
mod messages;
mod notify;
mod output;
mod plan;
mod refusals;
mod report;
mod socket;
mod trial;
mod wire;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use plan::{ConformError, ConformPlan, Hostile};
pub use report::{Conformance, Exchange, RuleResult, RuleVerdict, Side};

use self::socket::Socket;
use self::trial::{Judged, Stop, Trial};

/// Payloads made of a profile, which then repeat: as many as the most that one rule sends.
const PAYLOADS: usize = 64;

/// One thing HAProxy needs of an agent.
#[derive(Debug)]
pub struct Rule {
    /// Stable: a letter for the group and a number, as in `N16`.
    pub id: &'static str,
    /// Stable: the same in words, as in `known-message`.
    pub name: &'static str,
    /// What the agent must do, in one line.
    pub text: &'static str,
    /// What HAProxy, and which, suffers if it does not.
    pub why: &'static str,
    check: Check,
}

/// How a rule is played.
#[derive(Clone, Copy, Debug)]
enum Check {
    /// By this.
    Play(fn(&Trial<'_>) -> Judged),
    /// With `--hostile` only.
    Hostile(fn(&Trial<'_>, &Hostile) -> Judged),
    /// Not from outside, and why.
    NotCovered(&'static str),
}

impl Rule {
    const fn played(
        id: &'static str,
        name: &'static str,
        text: &'static str,
        why: &'static str,
        check: fn(&Trial<'_>) -> Judged,
    ) -> Self {
        Self {
            id,
            name,
            text,
            why,
            check: Check::Play(check),
        }
    }

    const fn not_covered(
        id: &'static str,
        name: &'static str,
        text: &'static str,
        why: &'static str,
        reason: &'static str,
    ) -> Self {
        Self {
            id,
            name,
            text,
            why,
            check: Check::NotCovered(reason),
        }
    }

    /// The group a rule is in, by its letter.
    #[must_use]
    pub fn group(&self) -> &'static str {
        match self.id.as_bytes()[0] {
            b'H' => "handshake",
            b'K' => "health check",
            b'N' => "notify",
            b'F' => "framing",
            b'C' => "connection",
            b'A' => "output",
            _ => "hostile",
        }
    }

    /// All rules, in the order they are played.
    pub fn all() -> impl Iterator<Item = &'static Rule> {
        [
            handshake::RULES,
            checks::RULES,
            notify::RULES,
            framing::RULES,
            connection::RULES,
            output::RULES,
            hostile::RULES,
        ]
        .into_iter()
        .flatten()
    }

    /// The rule of an id or a name; case does not count.
    #[must_use]
    pub fn find(text: &str) -> Option<&'static Self> {
        Self::all()
            .find(|rule| rule.id.eq_ignore_ascii_case(text) || rule.name.eq_ignore_ascii_case(text))
    }
}

/// What the agent's first HELLO said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentSeen {
    max_frame_size: u32,
    capabilities: String,
}

/// Plays the rules of a plan, in order, and tells each result as it is known.
///
/// # Errors
///
/// A setting out of its range, or nobody listening: then nothing was checked.
pub fn conform(
    plan: &ConformPlan,
    stop: &AtomicBool,
    on_result: &mut dyn FnMut(&RuleResult),
) -> Result<Conformance, ConformError> {
    plan.check()?;
    let began = Instant::now();
    drop(
        Socket::connect(&plan.target, plan.timeout)
            .map_err(|error| ConformError::Connect(plan.target.clone(), error))?,
    );
    let deadline = began + plan.run_timeout;
    let payloads = trial::payloads(plan, PAYLOADS);
    let agent = RefCell::new(None);
    let mut results = Vec::new();
    let mut gone: Option<String> = None;
    for rule in &plan.rules {
        // One that its supervisor starts again is checked on.
        if gone.is_some() && comes_back(plan, stop) {
            gone = None;
        }
        let result = if let Some(rule_id) = &gone {
            RuleResult::not_run(
                rule,
                &format!("nobody listens any more since rule {rule_id}"),
            )
        } else if stop.load(Ordering::Relaxed) {
            RuleResult::not_run(rule, "the run was interrupted")
        } else {
            // Malformed frames have a bound of their own.
            let deadline = match (rule.check, &plan.hostile) {
                (Check::Hostile(_), Some(hostile)) => {
                    Instant::now() + hostile.duration + plan.timeout * 4
                }
                _ => deadline,
            };
            let trial = Trial::new(plan, deadline, stop, &agent, &payloads);
            let start = Instant::now();
            let judged = play(rule, &trial);
            if let Err(Stop::Gone(_)) = &judged {
                gone = Some(rule.id.to_owned());
            }
            RuleResult::new(rule, judged, trial, start.elapsed())
        };
        on_result(&result);
        results.push(result);
    }
    Ok(Conformance::new(
        plan,
        agent.into_inner(),
        results,
        began.elapsed(),
    ))
}

fn play(rule: &Rule, trial: &Trial<'_>) -> Judged {
    match rule.check {
        Check::Play(check) => {
            trial.limited(trial.timeout())?;
            check(trial)
        }
        Check::Hostile(check) => match &trial.plan.hostile {
            Some(hostile) => check(trial, hostile),
            None => Err(Stop::NotApplicable(
                "malformed frames are sent with --hostile only".to_owned(),
            )),
        },
        Check::NotCovered(reason) => Err(Stop::NotApplicable(reason.to_owned())),
    }
}

/// Whether somebody listens again, within the timeout.
fn comes_back(plan: &ConformPlan, stop: &AtomicBool) -> bool {
    const TRY_EVERY: Duration = Duration::from_millis(50);
    let until = Instant::now() + plan.timeout;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        if Socket::connect(&plan.target, plan.timeout).is_ok() {
            return true;
        }
        std::thread::sleep(TRY_EVERY);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rules_have_ids_and_names_of_their_own() {
        let mut seen = BTreeSet::new();
        for rule in Rule::all() {
            assert!(seen.insert(rule.id), "{}", rule.id);
            assert!(seen.insert(rule.name), "{}", rule.name);
            let kebab =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(rule.name.bytes().all(kebab), "{}", rule.name);
            let (letter, number) = rule.id.split_at(1);
            assert!("HKNFCAX".contains(letter), "{}", rule.id);
            assert!(number.starts_with(|first: char| first.is_ascii_digit()));
            assert!(
                rule.why.ends_with('.') && !rule.text.ends_with('.'),
                "{}",
                rule.id
            );
            assert!(rule.text.len() <= 100, "{}: one line", rule.id);
            assert!(std::ptr::eq(Rule::find(rule.name).unwrap(), rule));
            assert!(std::ptr::eq(
                Rule::find(&rule.id.to_lowercase()).unwrap(),
                rule
            ));
        }
        assert!(Rule::find("N99").is_none());
    }

    #[test]
    fn every_case_has_a_rule() {
        for case in 1..=50 {
            let has = |rule: &Rule| {
                let number = rule.id[1..].trim_end_matches(|c: char| c.is_ascii_lowercase());
                number.parse() == Ok(case)
            };
            assert!(Rule::all().any(has), "case {case}");
        }
    }
}

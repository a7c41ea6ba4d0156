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
mod frames;
mod framing;
mod handshake;
mod hostile;
mod judge;
mod notify;
mod output;
mod report;
mod trial;
mod wire;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringspoa::spop::MIN_MAX_FRAME_SIZE;

pub use report::{Conformance, Exchange, RuleResult, RuleVerdict, Side};

use self::trial::{Judged, Stop, Trial};
use self::wire::Socket;
use crate::plan::Target;
use crate::profile::Profile;

/// Payloads made of a profile, which then repeat: as many as the most that one rule sends.
const PAYLOADS: usize = 64;

/// Bounds what one process opens at once.
const MAX_IDLE_CONNECTIONS: usize = 20_000;

/// A wait or a run of more is a slip of the unit.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

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

/// Malformed frames, and their bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostile {
    /// What all mutations come from; default 1.
    pub seed: u64,
    /// How many frames at most; default 1000.
    pub frames: u64,
    /// How long at most; default 20 s.
    pub duration: Duration,
    /// Only the frame of this number, from 1, to repeat a failure; default all.
    pub only_frame: Option<u64>,
}

impl Default for Hostile {
    fn default() -> Self {
        Self {
            seed: 1,
            frames: 1_000,
            duration: Duration::from_secs(20),
            only_frame: None,
        }
    }
}

/// What to check, and how. [`ConformPlan::new`] has a default for everything but agent and profile.
#[derive(Clone, Debug)]
pub struct ConformPlan {
    /// The agent.
    pub target: Target,
    /// Messages the agent knows.
    pub profile: Profile,
    /// The rules to play; default all.
    pub rules: Vec<&'static Rule>,
    /// The `max-frame-size` to offer, in bytes without prefix; default 16 380, HAProxy's.
    pub max_frame_size: u32,
    /// How long to wait for one answer; default 2 s. Every rule an agent leaves unanswered takes so
    /// long, some of them a few times.
    pub timeout: Duration,
    /// How long the rules may take together, malformed frames apart; default 120 s.
    pub run_timeout: Duration,
    /// The agent's own bound for a HELLO, if it is to be waited for; default none.
    pub hello_timeout: Option<Duration>,
    /// Connections opened at once by rule C43; default 500. Fewer where descriptors run out.
    pub idle_connections: usize,
    /// Malformed frames as well; default none.
    pub hostile: Option<Hostile>,
}

impl ConformPlan {
    /// The defaults.
    #[must_use]
    pub fn new(target: Target, profile: Profile) -> Self {
        Self {
            target,
            profile,
            rules: Rule::all().collect(),
            max_frame_size: 16_380,
            timeout: Duration::from_secs(2),
            run_timeout: Duration::from_secs(120),
            hello_timeout: None,
            idle_connections: 500,
            hostile: None,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first that is out of its range.
    pub fn check(&self) -> Result<(), ConformError> {
        let ensure = |met: bool, flag: &'static str, text: &str| {
            if met {
                return Ok(());
            }
            let text = text.to_owned();
            Err(ConformError::Setting { flag, text })
        };
        // What a HELLO and the rules' own messages need; HAProxy's buffers are no larger.
        let sizes = 1_024..=1_048_572;
        let text = format!("must be {} to {} bytes", sizes.start(), sizes.end());
        ensure(
            sizes.contains(&self.max_frame_size),
            "--max-frame-size",
            &text,
        )?;
        let frame_len = self.profile.max_frame_len();
        let size = self.max_frame_size;
        let text = format!(
            "NOTIFYs of up to {frame_len} bytes do not fit --max-frame-size {size}: make the profile \
             smaller or the frame larger"
        );
        ensure(frame_len <= size as usize, "--profile", &text)?;
        for (flag, value) in [
            ("--timeout", Some(self.timeout)),
            ("--run-timeout", Some(self.run_timeout)),
            ("--hello-timeout", self.hello_timeout),
            (
                "--hostile-seconds",
                self.hostile.as_ref().map(|hostile| hostile.duration),
            ),
        ] {
            let met = value.is_none_or(|value| !value.is_zero() && value <= MAX_WAIT);
            ensure(met, flag, "must be more than 0 s and at most an hour")?;
        }
        let text = format!("must be 1 to {MAX_IDLE_CONNECTIONS}");
        let met = (1..=MAX_IDLE_CONNECTIONS).contains(&self.idle_connections);
        ensure(met, "--idle-connections", &text)?;
        if let Some(hostile) = &self.hostile {
            ensure(hostile.frames > 0, "--hostile-frames", "must be at least 1")?;
            let met = hostile.only_frame != Some(0);
            ensure(met, "--hostile-frame", "frames are counted from 1")?;
        }
        ensure(
            !self.rules.is_empty(),
            "--skip",
            "no rule is left: skip fewer, see --list",
        )
    }
}

/// Why nothing could be checked.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConformError {
    /// A setting out of its range: the flag, and what to write.
    Setting {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and what to write.
        text: String,
    },
    /// Nobody listens there.
    Connect(Target, io::Error),
}

impl fmt::Display for ConformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { flag, text } => write!(f, "{flag}: {text}"),
            Self::Connect(target, error) => write!(
                f,
                "cannot connect to {target}: {error}; start the agent, or give the ADDR it listens on"
            ),
        }
    }
}

impl std::error::Error for ConformError {}

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

// The smallest frame size a rule offers is the smallest there is.
const _: () = assert!(MIN_MAX_FRAME_SIZE == 256);

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

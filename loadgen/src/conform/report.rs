//! What a check found: for people, and as JSON.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::trial::{Judged, Stop, Trial};
use super::{AgentSeen, ConformPlan, Rule};

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleVerdict {
    /// The agent keeps it.
    Pass,
    /// The agent breaks it.
    Fail,
    /// It does not concern this agent, or cannot be seen from outside.
    NotApplicable,
    /// The run ended before, or the agent was gone.
    NotRun,
}

impl RuleVerdict {
    /// The word a person reads.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotApplicable => "n/a",
            Self::NotRun => "not run",
        }
    }
}

/// Who sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The checker, in HAProxy's place.
    Haproxy,
    /// The agent.
    Agent,
}

/// Something that was sent, one way or the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Who sent it.
    pub from: Side,
    /// On which connection of the rule, from 1.
    pub connection: u32,
    /// What it is, in words.
    pub what: String,
    /// Its first bytes.
    pub hex: String,
    /// All its bytes, in number.
    pub len: usize,
}

/// One rule, and how it came out.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RuleResult {
    /// As in `N16`.
    pub id: &'static str,
    /// As in `known-message`.
    pub name: &'static str,
    /// As in `notify`.
    pub group: &'static str,
    /// What the agent must do.
    pub text: &'static str,
    /// How it came out.
    pub verdict: RuleVerdict,
    /// Why it did not pass.
    pub reason: Option<String>,
    /// What else is worth knowing, though HAProxy copes.
    pub notes: Vec<String>,
    /// What HAProxy, and which, suffers where the rule is broken.
    pub why: &'static str,
    /// The last that was sent either way.
    pub exchange: Vec<Exchange>,
    /// How much went before and is not kept.
    pub exchange_omitted: u64,
    /// How long it took.
    pub duration_ms: u64,
}

impl RuleResult {
    pub(super) fn new(rule: &Rule, judged: Judged, trial: Trial<'_>, took: Duration) -> Self {
        let (exchange, exchange_omitted, notes) = trial.into_record();
        let (verdict, reason) = match judged {
            Ok(()) => (RuleVerdict::Pass, None),
            Err(Stop::Failed(text) | Stop::Gone(text)) => (RuleVerdict::Fail, Some(text)),
            Err(Stop::NotApplicable(text)) => (RuleVerdict::NotApplicable, Some(text)),
            Err(Stop::TimeOver) => {
                let text = "the run ended before the rule did: by --run-timeout, or a signal";
                (RuleVerdict::NotRun, Some(text.to_owned()))
            }
        };
        Self {
            exchange,
            exchange_omitted,
            notes,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            ..Self::bare(rule, verdict, reason)
        }
    }

    pub(super) fn not_run(rule: &Rule, reason: &str) -> Self {
        Self::bare(rule, RuleVerdict::NotRun, Some(reason.to_owned()))
    }

    fn bare(rule: &Rule, verdict: RuleVerdict, reason: Option<String>) -> Self {
        Self {
            id: rule.id,
            name: rule.name,
            group: rule.group(),
            text: rule.text,
            verdict,
            reason,
            notes: Vec::new(),
            why: rule.why,
            exchange: Vec::new(),
            exchange_omitted: 0,
            duration_ms: 0,
        }
    }

    /// The lines a person reads; with `details` also what was sent where the rule was kept.
    #[must_use]
    pub fn lines(&self, details: bool) -> String {
        let mut text = format!(
            "{:<7}  {:<4}  {}\n",
            self.verdict.text(),
            self.id,
            self.name
        );
        let indent = "               ";
        let failed = self.verdict == RuleVerdict::Fail;
        let mut line = |what: &dyn fmt::Display| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{indent}{what}");
        };
        if failed || details {
            line(&format_args!("rule: {}", self.text));
        }
        if let Some(reason) = &self.reason {
            line(reason);
        }
        for note in &self.notes {
            line(&format_args!("note: {note}"));
        }
        if failed || details {
            if self.exchange_omitted > 0 {
                line(&format_args!("({} before)", self.exchange_omitted));
            }
            for exchange in &self.exchange {
                line(exchange);
            }
        }
        if failed {
            line(&format_args!("why: {}", self.why));
        }
        text
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.from {
            Side::Haproxy => "->",
            Side::Agent => "<-",
        };
        write!(f, "[{}] {arrow} {}", self.connection, self.what)?;
        if self.len > 0 {
            write!(f, "  {}", self.hex)?;
        }
        if self.hex.len() / 2 < self.len {
            write!(f, "... ({} bytes)", self.len)?;
        }
        Ok(())
    }
}

/// What a HELLO told of the agent.
#[derive(Clone, Debug, Serialize)]
struct AgentReport {
    max_frame_size: u32,
    capabilities: String,
}

#[derive(Clone, Debug, Serialize)]
struct HostileReport {
    seed: u64,
    frames: u64,
    seconds: f64,
}

/// A finished check.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Conformance {
    /// The version of this program.
    pub version: &'static str,
    /// The agent.
    pub target: String,
    /// What the NOTIFYs were made of.
    pub profile: String,
    /// The name of its first message.
    pub message: String,
    /// What was offered, in bytes.
    pub max_frame_size: u32,
    /// How long one answer was waited for.
    pub timeout_s: f64,
    /// What the first good HELLO of the agent said.
    agent: Option<AgentReport>,
    /// The bounds of malformed frames, if they were asked for.
    hostile: Option<HostileReport>,
    /// Rules kept.
    pub passed: usize,
    /// Rules broken.
    pub failed: usize,
    /// Rules that do not concern this agent, or cannot be seen from outside.
    pub not_applicable: usize,
    /// Rules the run did not come to.
    pub not_run: usize,
    /// How long all of it took.
    pub duration_s: f64,
    /// Each rule.
    pub rules: Vec<RuleResult>,
}

impl Conformance {
    pub(super) fn new(
        plan: &ConformPlan,
        agent: Option<AgentSeen>,
        rules: Vec<RuleResult>,
        took: Duration,
    ) -> Self {
        let count = |verdict| rules.iter().filter(|rule| rule.verdict == verdict).count();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: plan.target.to_string(),
            profile: plan.profile.name().to_owned(),
            message: plan.profile.messages()[0].clone(),
            max_frame_size: plan.max_frame_size,
            timeout_s: plan.timeout.as_secs_f64(),
            agent: agent.map(|seen| AgentReport {
                max_frame_size: seen.max_frame_size,
                capabilities: seen.capabilities,
            }),
            hostile: plan.hostile.as_ref().map(|hostile| HostileReport {
                seed: hostile.seed,
                frames: hostile.frames,
                seconds: hostile.duration.as_secs_f64(),
            }),
            passed: count(RuleVerdict::Pass),
            failed: count(RuleVerdict::Fail),
            not_applicable: count(RuleVerdict::NotApplicable),
            not_run: count(RuleVerdict::NotRun),
            duration_s: took.as_secs_f64(),
            rules,
        }
    }

    /// The result of a rule by its id, if it was among those asked for.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&RuleResult> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// The last lines: counts, and what the agent said of itself.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        if let Some(agent) = &self.agent {
            let (size, list) = (agent.max_frame_size, &agent.capabilities);
            let _ = writeln!(
                text,
                "agent: {}, max-frame-size {size} of {} offered, capabilities \"{list}\"",
                self.target, self.max_frame_size
            );
        }
        let _ = write!(
            text,
            "{} passed, {} failed, {} not applicable",
            self.passed, self.failed, self.not_applicable
        );
        if self.not_run > 0 {
            let _ = write!(text, ", {} not run", self.not_run);
        }
        let _ = writeln!(text, ", in {:.1} s", self.duration_s);
        text
    }

    /// One JSON object.
    ///
    /// # Errors
    ///
    /// None that is known: the types have text keys only.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

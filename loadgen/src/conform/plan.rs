//! What to check, and how: settings that are checked before anything is opened.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Rule;
use crate::plan::Target;
use crate::profile::Profile;

/// Bounds what one process opens at once.
const MAX_IDLE_CONNECTIONS: usize = 20_000;

/// A wait or a run of more is a slip of the unit.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

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

//! `ringspoa spoe-config`: prints what HAProxy's configuration needs to ask an agent of this binary.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringspoa::agents::challenge::{self, ChallengeSettings};
use ringspoa::agents::remediation::{AddressTable, RemediationAgent, messages};
use ringspoa::{Agent, AgentDeclaration, HaproxyVersion, SpoeConfig};

use crate::challenge_sample::Sample;
use crate::config::Settings;

/// The agent of a list of addresses.
const REMEDIATION: &str = "remediation";

/// The agent of the `[remediation]` table.
const CROWDSEC: &str = "crowdsec";

/// The agent of the `[challenge]` table.
const CHALLENGE: &str = "challenge";

/// What a request waits at most for an agent of this binary that answers at once.
const PROCESSING_TIMEOUT: Duration = Duration::from_millis(100);

/// The same for the agent that may ask others before it answers, as CrowdSec's own configuration has it.
const ASKING_PROCESSING_TIMEOUT: Duration = Duration::from_millis(500);

/// Print the parts of HAProxy's configuration that fit an agent, made from what the agent declares.
///
/// Exit codes: 0 when printed, 1 if it cannot be written, 2 for bad flags or configuration.
#[derive(Debug, Args)]
pub(crate) struct Print {
    /// Version of HAProxy, from 2.6 on
    #[arg(long, value_name = "VERSION", default_value = "3.2")]
    haproxy: String,
    /// Agent to ask: remediation; crowdsec, which takes the messages of CrowdSec's bouncer; or challenge, with
    /// the rules of the samples [default: those that --config has tables of, else remediation]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// What to print: the SPOE file, the backend of haproxy.cfg, lines for frontends, or all of it
    #[arg(
        long,
        value_name = "spoe|backend|frontend|all",
        default_value = "all",
        hide_possible_values = true
    )]
    part: Part,
    /// Where HAProxy finds the agent, as in a `server` line: 127.0.0.1:9000,
    /// unix@/run/ringspoa/ringspoa.sock [default: where the agent listens, by its configuration]
    #[arg(long, value_name = "ADDR")]
    address: Option<String>,
    /// Configuration file of `ringspoa serve`: the first address of `listen` is where the agent is, and
    /// requests wait a fifth longer than `agent-deadline-ms`, 20 ms at least, if that is set, instead of 100 ms
    /// (500 ms for crowdsec); of challenge solutions alone wait for that
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Spoe,
    Backend,
    Frontend,
    All,
}

/// The agents of this binary, by the names of `--agent`.
pub(crate) fn agents() -> Vec<(&'static str, AgentDeclaration)> {
    let remediation = RemediationAgent::new(AddressTable::default());
    vec![
        (REMEDIATION, remediation.declaration()),
        (CROWDSEC, messages::declaration()),
        (CHALLENGE, challenge::messages::declaration()),
    ]
}

/// The versions that differ, or are in wide use.
const VERSIONS: [HaproxyVersion; 6] = [
    HaproxyVersion::V2_6,
    HaproxyVersion::V2_8,
    HaproxyVersion::V3_0,
    HaproxyVersion::V3_1,
    HaproxyVersion::V3_2,
    HaproxyVersion::V3_3,
];

pub(crate) fn version(text: &str) -> Result<HaproxyVersion, String> {
    let known = VERSIONS.map(|version| version.to_string()).join(", ");
    match text.parse::<HaproxyVersion>() {
        Ok(version) if version >= HaproxyVersion::V2_6 => Ok(version),
        Ok(version) => Err(format!(
            "--haproxy: HAProxy {version} is too old: want 2.6 or later, as in {known}"
        )),
        Err(error) => Err(format!("--haproxy: {error}; known are {known}")),
    }
}

pub(crate) fn declaration(name: &str) -> Result<AgentDeclaration, String> {
    let mut agents = agents();
    match agents.iter().position(|(known, _)| *known == name) {
        Some(index) => Ok(agents.swap_remove(index).1),
        None => {
            let known: Vec<_> = agents.iter().map(|(known, _)| *known).collect();
            Err(format!(
                "--agent: there is no agent '{name}'; there is {}",
                known.join(", ")
            ))
        }
    }
}

/// Runs the command; `usage` is the exit code for bad flags or configuration.
pub(crate) fn run(arguments: &Print, usage: u8) -> ExitCode {
    let text = match arguments.text() {
        Ok(text) => text,
        Err(error) => {
            crate::complain(&error);
            return ExitCode::from(usage);
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain(&format!("cannot write the configuration: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Print {
    fn text(&self) -> Result<String, String> {
        let settings = match &self.config {
            // Not whether its users and files are here: HAProxy may run elsewhere.
            Some(path) => Settings::load(path).map_err(|error| error.to_string())?,
            None => Settings::default(),
        };
        let names = match &self.agent {
            Some(name) => vec![name.as_str()],
            None => served(&settings),
        };
        let texts = names.iter().map(|name| self.text_of(name, &settings));
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }

    fn text_of(&self, agent: &str, settings: &Settings) -> Result<String, String> {
        let timeout = match agent {
            CROWDSEC => ASKING_PROCESSING_TIMEOUT,
            _ => PROCESSING_TIMEOUT,
        };
        let version = version(&self.haproxy)?;
        let mut config = SpoeConfig::new(&declaration(agent)?)
            .for_haproxy(version)
            .processing_timeout(timeout);
        let server = settings.server_config().map_err(|error| {
            let file = self
                .config
                .iter()
                .map(|path| format!("{}: ", path.display()));
            format!("{}{error}", file.collect::<String>())
        })?;
        let deadline = settings.agent_deadline_ms.map(Duration::from_millis);
        if let Some(deadline) = deadline {
            config = config.agent_deadline(deadline);
        }
        match (&self.address, server.listen.first()) {
            (Some(address), _) => config = config.address(address),
            (None, Some(address)) => config = config.address(address),
            (None, None) => {}
        }
        if agent == CHALLENGE {
            let backend = config.backend().map_err(|error| error.to_string())?;
            return Ok(self.challenge(Sample::of(version), settings, deadline, &backend));
        }
        let text = match self.part {
            Part::Spoe => config.spoe(),
            Part::Backend => config.backend(),
            Part::Frontend => config.frontend_lines(),
            Part::All => config.text(),
        };
        text.map_err(|error| error.to_string())
    }

    /// The sample, with the address that a backend made from the declaration has.
    fn challenge(
        &self,
        sample: Sample,
        settings: &Settings,
        deadline: Option<Duration>,
        backend: &str,
    ) -> String {
        let mut servers = backend.lines().filter_map(|line| {
            let line = line.trim_start().strip_prefix("server ")?;
            let (_, address) = line.strip_suffix(" check")?.split_once(' ')?;
            Some(address)
        });
        let address = servers.next().unwrap_or_default();
        let default = ChallengeSettings::default();
        let settings = settings.challenge.as_ref().unwrap_or(&default);
        match self.part {
            Part::Spoe => sample.spoe(settings, deadline),
            Part::Backend => sample.backends(address),
            Part::Frontend => sample.frontend(settings),
            Part::All => format!(
                "{}\n# ---- the rest is for haproxy.cfg: in each frontend that asks the agent\n{}\n\
                 # ---- and once\n{}",
                sample.spoe(settings, deadline),
                sample.frontend(settings),
                sample.backends(address)
            ),
        }
    }
}

/// The agents that a server of these settings has, by the names of `--agent`.
fn served(settings: &Settings) -> Vec<&'static str> {
    let addresses = match (&settings.remediation, &settings.challenge) {
        (Some(_), _) => Some(CROWDSEC),
        // Beside challenges nobody is banned but by a list.
        (None, Some(_)) => settings.ban_list.as_ref().map(|_| REMEDIATION),
        (None, None) => Some(REMEDIATION),
    };
    let challenge = settings.challenge.as_ref().map(|_| CHALLENGE);
    addresses.into_iter().chain(challenge).collect()
}

//! The checks, a file for each theme.

mod backend;
mod challenge;
mod engine;
mod frames;
mod messages;
mod timeouts;
mod types;
mod variables;

use std::time::Duration;

use super::finding::{Findings, Place, Report};
use super::model::{self, Config, Engine};
use super::read::{ConfigFile, Word};
use super::version::HaproxyVersion;
use crate::agent::AgentDeclaration;

pub use challenge::{ChallengeFacts, RealmFacts};

/// Every id that a finding may have, and what it is about.
pub const IDS: &[(&str, &str)] = &[
    // Files.
    ("file-unknown", "a file that is no configuration of HAProxy"),
    ("syntax", "a line that HAProxy cannot take apart"),
    ("section-misplaced", "an engine's section in a haproxy.cfg"),
    (
        "keyword-unknown",
        "a keyword, option or timeout that is none",
    ),
    ("keyword-ignored", "a keyword that the version does not use"),
    ("value-invalid", "a value that is no time or number"),
    ("not-checked", "lines that were not read"),
    ("agent-unknown", "an engine that no agent here is taken for"),
    // Engines.
    ("engine-not-found", "a filter whose engine is in no file"),
    ("engine-not-given", "a filter whose file was not given"),
    ("engine-unused", "an engine that no filter uses"),
    ("engine-duplicate", "two filters or agents of one engine"),
    ("filter-invalid", "a filter without a file, or in defaults"),
    // Messages and groups.
    ("messages-missing", "an agent that sends nothing"),
    (
        "message-undefined",
        "a message that is listed and has no section",
    ),
    ("message-unused", "a message that nothing lists"),
    ("message-duplicate", "a message that is there twice"),
    ("message-without-event", "a message that is sent by nothing"),
    ("message-unknown", "a message that the agent does not know"),
    (
        "group-undefined",
        "a group that is listed or sent and has no section",
    ),
    ("group-unlisted", "a group that the agent does not list"),
    ("group-not-sent", "a group that no rule sends"),
    (
        "inspect-delay-missing",
        "a group sent before there is anything to inspect",
    ),
    ("event-unknown", "an event that is none"),
    ("event-unfit", "an event that does not happen there"),
    // Arguments.
    (
        "argument-missing",
        "an argument that the agent wants and does not get",
    ),
    (
        "argument-absent",
        "an argument that may be absent, at a cost",
    ),
    (
        "argument-unknown",
        "an argument that the agent does not know",
    ),
    ("argument-unnamed", "an argument without a name"),
    ("argument-duplicate", "an argument that is there twice"),
    ("argument-count", "more arguments than a message can have"),
    (
        "argument-type",
        "an argument of a type that the agent does not take",
    ),
    (
        "argument-type-partial",
        "an argument of which the agent takes some types only",
    ),
    (
        "argument-optional",
        "an argument that is not always there, and has to be",
    ),
    (
        "sample-unavailable",
        "a fetch that has nothing at that event",
    ),
    ("body-not-buffered", "a body that is not waited for"),
    // Times.
    (
        "timeout-processing-missing",
        "no limit to what a request waits",
    ),
    (
        "timeout-processing-short",
        "HAProxy gives up before the agent's fallback is there",
    ),
    (
        "timeout-hello-missing",
        "no limit to the handshake, up to 3.0",
    ),
    (
        "timeout-idle-missing",
        "no end of idle connections, up to 3.0",
    ),
    ("timeout-connect-missing", "no limit to connecting"),
    (
        "timeout-server-missing",
        "no limit to a connection to the agent, up to 3.0",
    ),
    (
        "timeout-server-short",
        "connections cut before other timeouts are due",
    ),
    // Sizes.
    (
        "frame-size-invalid",
        "a max-frame-size that HAProxy refuses",
    ),
    ("frame-size-agent", "frames larger than the agent takes"),
    (
        "check-frame-size",
        "a health check that fails for its frame size",
    ),
    // Backends.
    ("backend-missing", "an engine whose backend is none"),
    (
        "backend-mode",
        "a mode that the engine's backend must not have",
    ),
    (
        "backend-name",
        "a frontend and the engine's backend of one name",
    ),
    ("backend-shared", "a backend of several engines"),
    ("backend-empty", "a backend without servers"),
    ("check-missing", "a server that is not checked"),
    ("check-plain", "a check that does not speak SPOP"),
    ("server-address", "a server where the agent does not listen"),
    (
        "server-chroot",
        "a socket that HAProxy looks for inside its chroot",
    ),
    (
        "server-encryption",
        "TLS or a PROXY header, which the agent does not read",
    ),
    ("option-async", "a capability that the agent does not take"),
    ("option-pipelining", "one message at a time on a connection"),
    ("empty-acks", "answers that HAProxy 3.1.0 waits for in vain"),
    // Variables.
    ("set-on-error-missing", "errors that nothing shows"),
    ("prefix-invalid", "a prefix or name that HAProxy refuses"),
    (
        "prefix-shared",
        "two engines whose variables have one prefix",
    ),
    ("variable-too-long", "a variable whose name HAProxy drops"),
    (
        "variable-unknown",
        "a rule reading a variable that nothing sets",
    ),
    (
        "variable-prefix",
        "a rule reading a variable with another prefix",
    ),
    (
        "variable-scope",
        "a rule reading a variable in another scope",
    ),
    ("variable-unread", "an answer that no rule reads"),
    (
        "variable-refused",
        "a variable that HAProxy does not let be set",
    ),
    (
        "file-missing",
        "a page that rules return and that is not there",
    ),
    // Browser validation.
    ("challenge-level", "a level that the realm does not have"),
    (
        "challenge-path",
        "rules and settings with different paths for the page's requests",
    ),
    ("challenge-tls", "a level that is for TLS, without it"),
];

/// What the files are held against.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// The version of HAProxy. Without it 3.2 is assumed, which is the version of `mode spop` too.
    pub version: Option<HaproxyVersion>,
    /// The agents that engines may be for. An engine is for one that has its name, its prefix or one of
    /// its messages.
    pub agents: Vec<AgentDeclaration>,
    /// Whether engines are for the agent, if there is one only, whatever they are called.
    pub is_for_any_engine: bool,
    /// When the agent gives a late answer up.
    pub deadline: Option<Duration>,
    /// The largest frame the agent takes, in bytes without length prefix.
    pub max_frame_size: Option<u32>,
    /// Where the agent listens, as HAProxy writes it: `127.0.0.1:9000`, `unix@/run/agent.sock`. Empty if
    /// that is not known.
    pub listen: Vec<String>,
    /// Whether the agent never sends an ACK without actions, if that is known.
    pub never_empty_acks: Option<bool>,
    /// Files that rules return, of [`page_files`], and that are not where they should be.
    pub missing_files: Vec<String>,
    /// What browser validation is set to, if that is known.
    pub challenge: Option<ChallengeFacts>,
}

impl CheckOptions {
    /// For this version.
    #[must_use]
    pub fn with_version(mut self, version: HaproxyVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Against this agent, which the files are for.
    #[must_use]
    pub fn with_agent(mut self, agent: AgentDeclaration) -> Self {
        self.agents = vec![agent];
        self.is_for_any_engine = true;
        self
    }

    /// Against whichever of these an engine is for.
    #[must_use]
    pub fn with_agents(mut self, agents: impl IntoIterator<Item = AgentDeclaration>) -> Self {
        self.agents = agents.into_iter().collect();
        self.is_for_any_engine = false;
        self
    }

    /// Against an agent that gives late answers up after this time.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Against an agent that takes frames up to this size.
    #[must_use]
    pub fn with_max_frame_size(mut self, max_frame_size: u32) -> Self {
        self.max_frame_size = Some(max_frame_size);
        self
    }

    /// Against an agent that listens there, as HAProxy writes addresses.
    #[must_use]
    pub fn with_listen(mut self, listen: impl IntoIterator<Item = String>) -> Self {
        self.listen = listen.into_iter().collect();
        self
    }
}

/// Checks files: any number of haproxy.cfg, in the order that HAProxy reads them, and of files of
/// engines, told apart by what they hold.
#[must_use]
pub fn check(files: &[ConfigFile], options: &CheckOptions) -> Report {
    let mut found = Findings::default();
    let mut config = model::read(files, options.version, &mut found);
    engine::match_agents(&mut config, options);
    engine::check(&config, &mut found);
    messages::check(&config, options, &mut found);
    types::check(&config, options, &mut found);
    timeouts::check(&config, options, &mut found);
    frames::check(&config, options, &mut found);
    backend::check(&config, options, &mut found);
    variables::check(&config, options, &mut found);
    challenge::check(&config, options, &mut found);
    missing_pages(&config, options, &mut found);
    let names: Vec<_> = files.iter().map(ConfigFile::name).collect();
    Report {
        version: config.version,
        findings: found.finish(&names),
    }
}

/// The files that filters name, and that are not among these: what else HAProxy would read.
#[must_use]
pub fn engine_files(files: &[ConfigFile]) -> Vec<String> {
    let config = model::read(files, None, &mut Findings::default());
    let missing = config
        .filters
        .iter()
        .filter(|filter| filter.target.is_none());
    let mut paths: Vec<String> = missing
        .filter_map(|filter| filter.config.as_ref())
        .filter(|word| !word.is_open)
        .map(|word| word.text.clone())
        .filter(|path| {
            let is_it = |file: &ConfigFile| model::base_name(file.name()) == model::base_name(path);
            !files.iter().any(is_it)
        })
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The files that `http-request return` and its like answer with, which HAProxy reads when it starts: pages.
#[must_use]
pub fn page_files(files: &[ConfigFile]) -> Vec<String> {
    let config = model::read(files, None, &mut Findings::default());
    let mut paths: Vec<_> = pages(&config).map(|(word, _)| word.text.clone()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn pages(config: &Config) -> impl Iterator<Item = (&Word, Place)> {
    config.main_lines.iter().filter_map(|line| {
        let mut words = line.words.iter();
        words.find(|word| word.text == "return")?;
        words.find(|word| matches!(word.text.as_str(), "file" | "lf-file"))?;
        let path = words.next().filter(|word| !word.is_open)?;
        Some((path, line.place))
    })
}

fn missing_pages(config: &Config, options: &CheckOptions, found: &mut Findings) {
    for (word, place) in pages(config) {
        let path = &word.text;
        if options.missing_files.contains(path) {
            let fix = if path.ends_with("challenge.html") {
                format!("make it: ringspoa page --output {path}")
            } else {
                "put it there, or name the one that is there".to_owned()
            };
            found.error(
                "file-missing",
                place,
                format!("{path} is not there: HAProxy does not start"),
                fix,
            );
        }
    }
}

/// The version that the files can only be for, if they say so: `mode spop` came with 3.1.
#[must_use]
pub fn guess_version(files: &[ConfigFile]) -> Option<HaproxyVersion> {
    model::guess(&model::raw_lines(files, &mut Findings::default()))
}

/// The agent that an engine is for.
fn declaration<'o>(engine: &Engine, options: &'o CheckOptions) -> Option<&'o AgentDeclaration> {
    engine
        .declaration
        .and_then(|index| options.agents.get(index))
}

/// Engines that are used, or may be: all of them where there is no haproxy.cfg to say so.
fn engines_in_use(config: &Config) -> impl Iterator<Item = (usize, &Engine)> {
    let engines = config.engines.iter().enumerate();
    engines.filter(|(index, engine)| {
        !engine.agents.is_empty()
            && (!config.has_main || config.filters_of(*index).next().is_some())
    })
}

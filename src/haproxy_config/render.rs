//! The sections that an agent needs.

use std::collections::HashSet;
use std::fmt::{Display, Write as _};
use std::net::Ipv6Addr;
use std::time::Duration;

use super::error::ConfigTextError;
use super::fetches::sample;
use super::model::LONGEST;
use super::version::HaproxyVersion;
use super::words::{bad_in_section_name, bad_in_variable_name, fault_of_line, quoted};
use crate::agent::{AgentDeclaration, DEFAULT_AGENT_DEADLINE};
use crate::message::{MessageDeclaration, ValueTypes, VariableDeclaration};
use crate::spop::Scope;

/// The events of the `event` line (doc/SPOE.txt, 2.5).
pub(super) const EVENTS: [&str; 8] = [
    "on-client-session",
    "on-server-session",
    "on-frontend-tcp-request",
    "on-backend-tcp-request",
    "on-tcp-response",
    "on-frontend-http-request",
    "on-backend-http-request",
    "on-http-response",
];

/// The longest name of a variable: HAProxy puts `scope.prefix.name` together in 64 bytes, and drops what
/// does not fit without a word.
const MAX_FULL_NAME_LEN: usize = 63;

/// How wide lines get before the next word goes on a line of its own.
const WIDTH: usize = 100;

/// Where a server listens unless something else is said.
const ADDRESS: &str = "127.0.0.1:9000";

/// How much longer HAProxy waits than the agent at least: the fallback has to be made, sent and read.
const MIN_MARGIN: Duration = Duration::from_millis(20);

/// HAProxy's configuration for an agent, made from its declaration: the SPOE file, the backend that leads
/// to the agent, and lines for the frontends that ask it.
///
/// ```
/// use ringspoa::{AgentDeclaration, HaproxyVersion, Message, SpoeConfig, Var};
///
/// #[derive(Message)]
/// #[spop(name = "check-visit", event = "on-frontend-http-request")]
/// struct CheckVisit<'a> {
///     src: std::net::IpAddr,
///     #[spop(name = "ua", sample = "req.hdr(user-agent)")]
///     user_agent: Option<&'a [u8]>,
/// }
///
/// const SCORE: Var<i64> = Var::txn("score");
///
/// let declaration = AgentDeclaration::new("reputation")
///     .with_message::<CheckVisit<'_>>()
///     .with_variable(SCORE);
/// let config = SpoeConfig::new(&declaration)
///     .for_haproxy(HaproxyVersion::V3_2)
///     .address("127.0.0.1:9000");
/// assert_eq!(
///     config.spoe()?,
///     "\
/// ## SPOE engine for HAProxy 3.1 and later. Install as /etc/haproxy/reputation.spoe.cfg
/// [reputation]
/// spoe-agent reputation
///     messages   check-visit
///     option     var-prefix reputation
///     ## txn.reputation.error has the SPOE status of a request that got no answer.
///     option     set-on-error error
///     ## What a request waits at most; it goes on without an answer then.
///     timeout    processing 600ms
///     use-backend spoe-reputation
///
/// spoe-message check-visit
///     args  src=src ua=req.hdr(user-agent)
///     event on-frontend-http-request
/// "
/// );
/// assert!(config.backend()?.contains("    server reputation 127.0.0.1:9000 check\n"));
/// assert!(config.frontend_lines()?.contains("var(txn.reputation.score)"));
/// # Ok::<(), ringspoa::ConfigTextError>(())
/// ```
///
/// A message with an event is sent at it. One without has a `spoe-group` of its own, of its name, and is
/// sent where a rule says so; [`frontend_lines`](Self::frontend_lines) has that rule.
///
/// What HAProxy fetches for an argument is its `sample`: the expression without quotes around it, which
/// are added where HAProxy needs them. An argument without one is fetched by its name, if that is a fetch
/// without arguments such as `src`, `path`, `method` or `req.body`.
#[derive(Clone, Debug)]
pub struct SpoeConfig {
    declaration: AgentDeclaration,
    version: HaproxyVersion,
    address: String,
    processing_timeout: Duration,
    engine: String,
    backend: String,
    spoe_file: String,
    prefix: String,
    error_variable: String,
    has_checks: bool,
}

impl SpoeConfig {
    /// A configuration for the newest version with long-term support, 3.2; engine, variables and backend
    /// are called after the agent, and requests wait for as long as a server with the default deadline
    /// may take.
    #[must_use]
    pub fn new(declaration: &AgentDeclaration) -> Self {
        // A variable's name takes less than a section's.
        let prefix = declaration.name.replace(['-', ':'], "_");
        Self {
            declaration: declaration.clone(),
            version: HaproxyVersion::V3_2,
            address: ADDRESS.to_owned(),
            processing_timeout: processing_timeout_for(DEFAULT_AGENT_DEADLINE),
            engine: String::new(),
            backend: String::new(),
            spoe_file: String::new(),
            prefix,
            error_variable: "error".to_owned(),
            has_checks: true,
        }
        .engine(&declaration.name)
    }

    /// For this version, from 2.6 on.
    #[must_use]
    pub fn for_haproxy(mut self, version: HaproxyVersion) -> Self {
        self.version = version;
        self
    }

    /// Where HAProxy finds the agent, as in its `server` line: `127.0.0.1:9000`,
    /// `unix@/run/ringspoa/ringspoa.sock`. The form that the server's own settings have,
    /// `unix:/PATH[,mode=OCTAL]...`, is understood, too; for an address that stands for all of the
    /// machine's it is the loopback one. Default `127.0.0.1:9000`, where a server listens by default.
    #[must_use]
    pub fn address(mut self, address: impl Display) -> Self {
        let address = address.to_string();
        self.address = if let Some(rest) = address.strip_prefix("unix:") {
            let path = rest.split(',').next().unwrap_or(rest);
            format!("unix@{path}")
        } else if let Some(port) = address.strip_prefix("0.0.0.0:") {
            format!("127.0.0.1:{port}")
        } else if let Some(port) = address.strip_prefix("[::]:") {
            format!("[::1]:{port}")
        } else {
            address
        };
        self
    }

    /// What a request waits for its answer at most, connecting included: `timeout processing`. In whole
    /// milliseconds, at least one. Default 600 ms, which is for the server's default deadline, as
    /// [`agent_deadline`](Self::agent_deadline) has it; an agent that answers at once may have 100 ms.
    #[must_use]
    pub fn processing_timeout(mut self, timeout: Duration) -> Self {
        self.processing_timeout = timeout;
        self
    }

    /// As [`processing_timeout`](Self::processing_timeout), for a server with this
    /// `ServerConfig::agent_deadline`: a fifth longer, and 20 ms at least, so that the fallback is there
    /// in time.
    #[must_use]
    pub fn agent_deadline(self, deadline: Duration) -> Self {
        self.processing_timeout(processing_timeout_for(deadline))
    }

    /// The engine's name, which the `filter` line and `send-spoe-group` rules have; also that of its
    /// backend, `spoe-NAME`, and of the SPOE file, `/etc/haproxy/NAME.spoe.cfg`.
    #[must_use]
    pub fn engine(mut self, name: &str) -> Self {
        name.clone_into(&mut self.engine);
        self.backend = format!("spoe-{name}");
        self.spoe_file = format!("/etc/haproxy/{name}.spoe.cfg");
        self
    }

    /// Where the SPOE file will be; after [`engine`](Self::engine).
    #[must_use]
    pub fn spoe_file(mut self, path: impl Into<String>) -> Self {
        self.spoe_file = path.into();
        self
    }

    /// What variables are called between scope and name: `option var-prefix`. Default the agent's name,
    /// with an underscore for what variables may not have.
    #[must_use]
    pub fn variable_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// The variable, of scope txn and behind the prefix, that has the status of SPOE where there was no
    /// answer: `option set-on-error`. Default `error`.
    #[must_use]
    pub fn error_variable(mut self, name: &str) -> Self {
        name.clone_into(&mut self.error_variable);
        self
    }

    /// No health checks: HAProxy takes the agent to be there.
    #[must_use]
    pub fn without_checks(mut self) -> Self {
        self.has_checks = false;
        self
    }

    /// The name that a variable has in HAProxy, as in `txn.reputation.score`.
    #[must_use]
    pub fn variable_name(&self, variable: &VariableDeclaration) -> String {
        self.full_name(variable.scope, variable.name)
    }

    fn full_name(&self, scope: Scope, name: &str) -> String {
        format!("{}.{}.{name}", scope.as_str(), self.prefix)
    }

    /// What it is made from.
    pub(crate) fn declaration(&self) -> &AgentDeclaration {
        &self.declaration
    }

    /// The name in HAProxy of the [`error_variable`](Self::error_variable).
    pub(crate) fn error_variable_name(&self) -> String {
        self.full_name(Scope::Transaction, &self.error_variable)
    }

    /// All of it, for people to take apart: the SPOE file, and with comments that say where they belong the
    /// lines for frontends and the backend.
    ///
    /// # Errors
    ///
    /// As for [`backend`](Self::backend).
    pub fn text(&self) -> Result<String, ConfigTextError> {
        Ok(format!(
            "{}\n# ---- the rest is for haproxy.cfg: in each frontend that asks the agent\n{}\n\
             # ---- and once\n{}",
            self.spoe()?,
            self.frontend_lines()?,
            self.backend()?
        ))
    }

    /// The SPOE file: the engine with its `spoe-agent`, `spoe-message` and `spoe-group` sections.
    ///
    /// # Errors
    ///
    /// What has to be declared, or named otherwise, for HAProxy to take it.
    pub fn spoe(&self) -> Result<String, ConfigTextError> {
        self.check()?;
        let Self {
            engine,
            prefix,
            error_variable,
            backend,
            ..
        } = self;
        let agent = &self.declaration.name;
        let mut text = String::new();
        line(
            &mut text,
            format_args!(
                "# SPOE engine for HAProxy {}. Install as {}",
                if self.version.has_multiplexer() {
                    "3.1 and later"
                } else {
                    "2.6 to 3.0"
                },
                self.spoe_file
            ),
        );
        line(&mut text, format_args!("[{engine}]"));
        line(&mut text, format_args!("spoe-agent {agent}"));
        let names = |has_event: bool| {
            let messages = self.declaration.messages.iter();
            messages
                .filter(move |message| message.event.is_some() == has_event)
                .map(|message| message.name.to_owned())
        };
        wrapped(&mut text, "    messages  ", names(true));
        wrapped(&mut text, "    groups    ", names(false));
        line(
            &mut text,
            format_args!("    option     var-prefix {prefix}"),
        );
        let mut variables = self.declaration.variables.iter();
        if variables.any(|variable| variable.scope == Scope::Process) {
            text.push_str("    # Lets the agent set variables of the process.\n");
            text.push_str("    option     force-set-var\n");
        }
        line(
            &mut text,
            format_args!(
                "    # {} has the SPOE status of a request that got no answer.",
                self.error_variable_name()
            ),
        );
        line(
            &mut text,
            format_args!("    option     set-on-error {error_variable}"),
        );
        if !self.version.has_multiplexer() {
            text.push_str("    timeout    hello      1s\n    timeout    idle       60s\n");
        }
        text.push_str("    # What a request waits at most; it goes on without an answer then.\n");
        line(
            &mut text,
            format_args!(
                "    timeout    processing {}ms",
                self.processing_timeout.as_millis()
            ),
        );
        line(&mut text, format_args!("    use-backend {backend}"));
        for message in &self.declaration.messages {
            self.message(&mut text, message)?;
        }
        Ok(text)
    }

    /// The backend that leads to the agent, for the main configuration file.
    ///
    /// # Errors
    ///
    /// As for [`spoe`](Self::spoe), and if the address has no host or port to connect to.
    pub fn backend(&self) -> Result<String, ConfigTextError> {
        self.check()?;
        let address = &*self.address;
        if let Some(fault) = fault_of_address(address) {
            return Err(ConfigTextError::Setting {
                what: "address",
                value: address.to_owned(),
                fault,
            });
        }
        let mut text = format!("backend {}\n", self.backend);
        if self.version.has_multiplexer() {
            text.push_str("    mode spop\n");
        } else {
            text.push_str("    mode tcp\n");
        }
        if self.has_checks {
            text.push_str("    option spop-check\n");
        }
        if self.version.has_multiplexer() {
            text.push_str("    # Covers connecting and the HELLO.\n    timeout connect 1s\n");
            // Of a stream that waits for its ACK, and `timeout processing` has to end first.
            let server = self.server_timeout_s(30);
            line(&mut text, format_args!("    timeout server  {server}s"));
        } else {
            text.push_str("    timeout connect 1s\n");
            text.push_str("    # Longer than `timeout idle` of the engine.\n");
            let server = self.server_timeout_s(120);
            line(&mut text, format_args!("    timeout server  {server}s"));
        }
        if address.starts_with("unix@") {
            text.push_str("    # Looked for inside `chroot`, if the global section has one.\n");
        }
        let check = if self.has_checks { " check" } else { "" };
        line(
            &mut text,
            format_args!(
                "    server {} {}{check}",
                self.declaration.name,
                quoted(address)
            ),
        );
        Ok(text)
    }

    /// The usual timeout, or twice the time for processing if that is longer.
    fn server_timeout_s(&self, usual: u64) -> u64 {
        let twice = self.processing_timeout.as_secs().saturating_mul(2);
        usual.max(twice).min(LONGEST.as_secs())
    }

    /// Lines for each frontend that asks the agent: the filter, a rule for each message without an event,
    /// and as comments a rule for each variable that uses it, and two for requests without an answer, one
    /// that lets them pass and one that refuses them.
    ///
    /// # Errors
    ///
    /// As for [`spoe`](Self::spoe).
    pub fn frontend_lines(&self) -> Result<String, ConfigTextError> {
        self.check()?;
        let Self { engine, .. } = self;
        let mut text = String::new();
        let mut arguments = self
            .declaration
            .messages
            .iter()
            .flat_map(|message| message.arguments);
        let is_body = |sample: &str| sample.starts_with("req.body");
        if arguments.any(|argument| argument.sample.is_some_and(is_body)) {
            text.push_str(
                "    # A message has the body, which HAProxy would not wait for.\n    option http-buffer-request\n",
            );
        }
        line(
            &mut text,
            format_args!(
                "    filter spoe engine {engine} config {}",
                quoted(&self.spoe_file)
            ),
        );
        let messages = &self.declaration.messages;
        for message in messages.iter().filter(|message| message.event.is_none()) {
            let name = message.name;
            line(
                &mut text,
                format_args!("    # {name} has no event: it is sent here."),
            );
            let condition = message.condition.map(|condition| format!(" {condition}"));
            line(
                &mut text,
                format_args!(
                    "    http-request send-spoe-group {engine} {name}{}",
                    condition.unwrap_or_default()
                ),
            );
        }
        let only_responses = messages.iter().all(|message| sends(message, RESPONSES));
        let rules = if only_responses {
            "http-response"
        } else {
            "http-request"
        };
        let error = self.error_variable_name();
        for what in [
            format_args!(
                "    # Without an answer {error} is set, and of the agent's own variables none."
            ),
            format_args!("    # To let pass what got no answer, and say so to the next in line:"),
            format_args!(
                "    # {rules} set-header x-agent-error %[var({error})] if {{ var({error}) -m found }}"
            ),
            format_args!("    # To refuse it:"),
            format_args!("    # {rules} deny deny_status 503 if {{ var({error}) -m found }}"),
        ] {
            line(&mut text, what);
        }
        if !self.declaration.variables.is_empty() {
            text.push_str("    # What the agent sets, in rules to begin with.\n");
        }
        for variable in &self.declaration.variables {
            let rules = if only_responses || variable.scope == Scope::Response {
                "http-response"
            } else {
                "http-request"
            };
            line(
                &mut text,
                format_args!(
                    "    # {rules} deny deny_status 403 if {{ var({}) {} }}",
                    self.variable_name(variable),
                    example_match(variable.types)
                ),
            );
        }
        Ok(text)
    }

    fn message(
        &self,
        text: &mut String,
        message: &MessageDeclaration,
    ) -> Result<(), ConfigTextError> {
        let name = message.name;
        if message.event.is_none() {
            line(
                text,
                format_args!(
                    "\n# Sent by `http-request send-spoe-group {} {name}`.\nspoe-group {name}\n    \
                     messages {name}",
                    self.engine
                ),
            );
        }
        line(text, format_args!("\nspoe-message {name}"));
        let arguments = message.arguments.iter().map(|argument| {
            let sample = sample(argument).ok_or(ConfigTextError::NoSample {
                message: name,
                argument: argument.name,
            })?;
            let fault = if argument.name.contains('=') {
                Some("its name has a '=', at which HAProxy ends it")
            } else if argument.name.contains(char::is_control) || sample.contains(char::is_control)
            {
                Some("its name and its sample are one line")
            } else if sample.starts_with(['\'', '"']) {
                Some("give its sample without quotes around it; they are added")
            } else {
                None
            };
            match fault {
                Some(fault) => Err(ConfigTextError::Argument {
                    message: name,
                    argument: argument.name,
                    fault,
                }),
                None => Ok(quoted(&format!("{}={sample}", argument.name)).into_owned()),
            }
        });
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        wrapped(text, "    args ", arguments);
        if let Some(event) = message.event {
            let condition = message.condition.map(|condition| format!(" {condition}"));
            line(
                text,
                format_args!("    event {event}{}", condition.unwrap_or_default()),
            );
        }
        Ok(())
    }

    /// What holds for every part.
    fn check(&self) -> Result<(), ConfigTextError> {
        let Self { declaration, .. } = self;
        section_name("the agent", &declaration.name)?;
        section_name("the engine", &self.engine)?;
        variable_name("the prefix of variables", &self.prefix)?;
        variable_name("the error variable", &self.error_variable)?;
        setting("address", &self.address)?;
        setting("path of the SPOE file", &self.spoe_file)?;
        let fault = match self.processing_timeout {
            time if time.as_millis() == 0 => {
                "is below 1 ms, which HAProxy takes for no timeout at all"
            }
            time if time > LONGEST => "is above 2147483647 ms, which is all that HAProxy can count",
            _ => "",
        };
        if !fault.is_empty() {
            return Err(ConfigTextError::Setting {
                what: "processing timeout",
                value: format!("{:?}", self.processing_timeout),
                fault,
            });
        }
        if self.version < HaproxyVersion::V2_6 {
            return Err(ConfigTextError::Setting {
                what: "HAProxy version",
                value: self.version.to_string(),
                fault: "is too old: want 2.6 or later",
            });
        }
        if declaration.messages.is_empty() {
            return Err(ConfigTextError::NoMessage {
                agent: declaration.name.clone(),
            });
        }
        let mut names = HashSet::new();
        for message in &declaration.messages {
            check_message(message)?;
            if !names.insert(message.name) {
                return Err(ConfigTextError::RepeatedMessage {
                    message: message.name,
                });
            }
        }
        for variable in &declaration.variables {
            // The request's variables go where the response comes, and the other way round.
            let (events, of, event) = match variable.scope {
                Scope::Request => (REQUESTS, "request", "on-frontend-http-request"),
                Scope::Response => (RESPONSES, "response", "on-http-response"),
                _ => continue,
            };
            if !declaration
                .messages
                .iter()
                .any(|message| may_send(message, events))
            {
                return Err(ConfigTextError::VariableNeverSet {
                    name: self.variable_name(variable),
                    of,
                    event,
                });
            }
        }
        let error_variable = self.error_variable_name();
        let variables = declaration.variables.iter();
        let mut full_names: Vec<_> = variables.map(|v| self.variable_name(v)).collect();
        if full_names.contains(&error_variable) {
            return Err(ConfigTextError::ErrorVariableTaken {
                name: error_variable,
            });
        }
        full_names.push(error_variable);
        let too_long = full_names
            .into_iter()
            .find(|name| name.len() > MAX_FULL_NAME_LEN);
        too_long.map_or(Ok(()), |name| {
            Err(ConfigTextError::VariableTooLong { name })
        })
    }
}

/// Events at which variables of the request can be set, and those of the response. When there is a server,
/// it may be either.
const REQUESTS: &[&str] = &[
    "on-client-session",
    "on-frontend-tcp-request",
    "on-backend-tcp-request",
    "on-frontend-http-request",
    "on-backend-http-request",
    "on-server-session",
];
const RESPONSES: &[&str] = &["on-tcp-response", "on-http-response", "on-server-session"];

/// Whether a message is sent at one of these events.
fn sends(message: &MessageDeclaration, events: &[&str]) -> bool {
    message.event.is_some_and(|event| events.contains(&event))
}

/// As [`sends`]; one without an event may be sent by rules of any time.
fn may_send(message: &MessageDeclaration, events: &[&str]) -> bool {
    message.event.is_none() || sends(message, events)
}

/// Why HAProxy could not connect there, or would connect elsewhere.
fn fault_of_address(address: &str) -> Option<&'static str> {
    let families = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"];
    let plain = families
        .iter()
        .find_map(|family| address.strip_prefix(family))
        .unwrap_or(address);
    // Paths, and families that are no hosts, as abstract sockets and descriptors.
    if plain.starts_with('/') || plain.contains('@') {
        let is_empty = plain.ends_with('@');
        return is_empty.then_some("has nothing behind the '@'");
    }
    if plain.parse::<Ipv6Addr>().is_ok() {
        return Some("is an IPv6 address without brackets: write it as in [::1]:9000");
    }
    let Some((host, port)) = plain.rsplit_once(':').filter(|_| !plain.ends_with(']')) else {
        return Some("has no port: write it as in 127.0.0.1:9000, or unix@/PATH");
    };
    match (host, port.parse::<u16>()) {
        ("" | "*", _) => Some("has no host: write it as in 127.0.0.1:9000"),
        (_, Ok(0)) => Some("has the port 0, which is any: give the one that the agent listens on"),
        (_, Ok(_)) if !port.starts_with('+') => None,
        _ => Some("has no port from 1 to 65535 behind the last ':'"),
    }
}

/// What requests wait for an agent that has its fallback sent by this deadline.
fn processing_timeout_for(deadline: Duration) -> Duration {
    deadline.saturating_add((deadline / 5).max(MIN_MARGIN))
}

fn check_message(message: &MessageDeclaration) -> Result<(), ConfigTextError> {
    let name = message.name;
    section_name("a message", name)?;
    if let Some(event) = message.event.filter(|event| !EVENTS.contains(event)) {
        return Err(ConfigTextError::UnknownEvent {
            message: name,
            event,
        });
    }
    if message.arguments.len() > usize::from(u8::MAX) {
        return Err(ConfigTextError::TooManyArguments {
            message: name,
            count: message.arguments.len(),
        });
    }
    let fault = message.condition.and_then(|condition| {
        if condition.starts_with("if ") || condition.starts_with("unless ") {
            fault_of_line(condition)
        } else {
            Some("begins with neither `if` nor `unless`")
        }
    });
    fault.map_or(Ok(()), |fault| {
        Err(ConfigTextError::Condition {
            message: name,
            fault,
        })
    })
}

fn section_name(what: &'static str, name: &str) -> Result<(), ConfigTextError> {
    name_without(what, name, bad_in_section_name(name))
}

fn variable_name(what: &'static str, name: &str) -> Result<(), ConfigTextError> {
    name_without(what, name, bad_in_variable_name(name))
}

fn name_without(what: &'static str, name: &str, bad: Option<char>) -> Result<(), ConfigTextError> {
    if name.is_empty() || bad.is_some() {
        return Err(ConfigTextError::Name {
            what,
            name: name.to_owned(),
            found: bad,
        });
    }
    Ok(())
}

fn setting(what: &'static str, value: &str) -> Result<(), ConfigTextError> {
    let fault = if value.is_empty() {
        "is empty"
    } else if value.contains(char::is_control) {
        "is not one line"
    } else {
        return Ok(());
    };
    Err(ConfigTextError::Setting {
        what,
        value: value.to_owned(),
        fault,
    })
}

/// How a rule looks at a variable of these types.
fn example_match(types: ValueTypes) -> &'static str {
    let types_are = |set: ValueTypes| set.or(ValueTypes::NULL).contains(types);
    if types_are(ValueTypes::BOOL) {
        "-m bool"
    } else if types_are(ValueTypes::INTEGER) {
        "-m int gt 100"
    } else if types_are(ValueTypes::IPV6) {
        "-m ip 2001:db8::/32"
    } else if types_are(ValueTypes::ADDRESS) {
        "-m ip 192.0.2.0/24"
    } else if types_are(ValueTypes::STRING) {
        "-m str TEXT"
    } else if types_are(ValueTypes::BINARY) {
        "-m bin 00ff"
    } else {
        "-m found"
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{content}");
}

/// Lines that begin with `start` and go on with these words, as many as it takes: HAProxy adds the words
/// of a further line to those of the first, and takes 64 words a line.
fn wrapped(text: &mut String, start: &str, words: impl IntoIterator<Item = String>) {
    let mut line_len = WIDTH;
    let mut is_first = true;
    for word in words {
        if is_first || line_len + 1 + word.len() > WIDTH {
            if !is_first {
                text.push('\n');
            }
            is_first = false;
            text.push_str(start);
            line_len = start.len();
        }
        text.push(' ');
        text.push_str(&word);
        line_len += 1 + word.len();
    }
    if !is_first {
        text.push('\n');
    }
}

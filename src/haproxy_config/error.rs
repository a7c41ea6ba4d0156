//! Why a declaration has no configuration.

use std::fmt;

/// Why no configuration can be made: which message, argument or setting, and what to do about it.
///
/// ```
/// use ringspoa::{AgentDeclaration, Message, SpoeConfig};
///
/// #[derive(Message)]
/// #[spop(name = "visit", event = "on-frontend-http-request")]
/// struct Visit<'a> {
///     agent: Option<&'a [u8]>,
/// }
///
/// let declaration = AgentDeclaration::new("visits").with_message::<Visit<'_>>();
/// let error = SpoeConfig::new(&declaration).spoe().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "message visit: what HAProxy is to fetch for argument agent is not declared; \
///      add #[spop(sample = \"...\")] to its field"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigTextError {
    /// The agent takes no message: HAProxy would never ask it.
    NoMessage {
        /// The agent's name.
        agent: String,
    },
    /// A message is declared twice.
    RepeatedMessage {
        /// Its name.
        message: &'static str,
    },
    /// The event is none of HAProxy's.
    UnknownEvent {
        /// The message's name.
        message: &'static str,
        /// The event.
        event: &'static str,
    },
    /// The condition cannot follow an event.
    Condition {
        /// The message's name.
        message: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A message has more arguments than a NOTIFY can tell.
    TooManyArguments {
        /// The message's name.
        message: &'static str,
        /// How many there are.
        count: usize,
    },
    /// An argument's name says nothing to HAProxy, and no sample is declared.
    NoSample {
        /// The message's name.
        message: &'static str,
        /// The argument's name.
        argument: &'static str,
    },
    /// An argument, or its sample, cannot be a word of an `args` line.
    Argument {
        /// The message's name.
        message: &'static str,
        /// The argument's name.
        argument: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A name has a character that HAProxy does not take there.
    Name {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
        /// The character; `None` if the name is empty.
        found: Option<char>,
    },
    /// A variable's name is too long, with scope and prefix.
    VariableTooLong {
        /// The name, as in `txn.prefix.name`.
        name: String,
    },
    /// The agent sets the variable that is for errors of SPOE.
    ErrorVariableTaken {
        /// The name, as in `txn.prefix.error`.
        name: String,
    },
    /// A setting cannot be in a line of a configuration.
    Setting {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl fmt::Display for ConfigTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMessage { agent } => write!(
                f,
                "agent {agent} declares no message: HAProxy would never ask it"
            ),
            Self::RepeatedMessage { message } => write!(
                f,
                "message {message} is declared twice; HAProxy knows messages by their names"
            ),
            Self::UnknownEvent { message, event } => write!(
                f,
                "message {message}: HAProxy has no event '{}'; it has {}",
                event.escape_debug(),
                super::render::EVENTS.join(", ")
            ),
            Self::Condition { message, fault } => {
                write!(f, "message {message}: its condition {fault}")
            }
            Self::TooManyArguments { message, count } => write!(
                f,
                "message {message} has {count} arguments; 255 are the most, as their count is one byte"
            ),
            Self::NoSample { message, argument } => write!(
                f,
                "message {message}: what HAProxy is to fetch for argument {argument} is not declared; \
                 add #[spop(sample = \"...\")] to its field"
            ),
            Self::Argument {
                message,
                argument,
                fault,
            } => write!(
                f,
                "message {message}, argument '{}': {fault}",
                argument.escape_debug()
            ),
            Self::Name {
                what,
                name,
                found: Some(c),
            } => write!(
                f,
                "the name of {what} may not have {c:?} in it, as '{}' has",
                name.escape_debug()
            ),
            Self::Name { what, .. } => write!(f, "the name of {what} is empty"),
            Self::VariableTooLong { name } => write!(
                f,
                "variable {name} has {} bytes with scope and prefix; HAProxy drops what is longer than \
                 63: choose a shorter name or prefix",
                name.len()
            ),
            Self::ErrorVariableTaken { name } => write!(
                f,
                "variable {name} is set by the agent, but is also for errors of SPOE; choose another \
                 error variable"
            ),
            Self::Setting { what, value, fault } => {
                write!(f, "{what} '{}' {fault}", value.escape_debug())
            }
        }
    }
}

impl std::error::Error for ConfigTextError {}

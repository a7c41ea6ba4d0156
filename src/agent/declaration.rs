//! What an agent takes and sets, all in one.

use crate::message::{Message, MessageDeclaration, Var, VariableDeclaration, VariableType};

/// The messages an agent takes and the variables it sets: what HAProxy's configuration has to fit.
///
/// ```
/// use ringspoa::{AgentDeclaration, Message, Var};
///
/// #[derive(Message)]
/// #[spop(name = "check-client-ip", event = "on-frontend-http-request")]
/// struct CheckClientIp {
///     #[spop(sample = "src")]
///     ip: std::net::IpAddr,
/// }
///
/// const SCORE: Var<i64> = Var::txn("score");
///
/// let declaration = AgentDeclaration::new("reputation")
///     .with_message::<CheckClientIp>()
///     .with_variable(SCORE);
/// assert_eq!(declaration.messages[0].name, "check-client-ip");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentDeclaration {
    /// What HAProxy calls the agent: its `spoe-agent` section, and the prefix of its variables.
    pub name: String,
    /// The messages it takes.
    pub messages: Vec<MessageDeclaration>,
    /// What becomes of others.
    pub other_messages: OtherMessages,
    /// The variables it sets.
    pub variables: Vec<VariableDeclaration>,
}

impl AgentDeclaration {
    /// An agent that takes and sets nothing yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            messages: Vec::new(),
            other_messages: OtherMessages::Ignored,
            variables: Vec::new(),
        }
    }

    /// Takes this message.
    #[must_use]
    pub fn with_message<M: Message>(mut self) -> Self {
        self.messages.push(M::DECLARATION);
        self
    }

    /// Sets this variable.
    #[must_use]
    pub fn with_variable<T: VariableType + ?Sized>(mut self, variable: Var<T>) -> Self {
        self.variables.push(variable.declaration());
        self
    }

    /// Does this with messages of other names.
    #[must_use]
    pub const fn with_other_messages(mut self, other_messages: OtherMessages) -> Self {
        self.other_messages = other_messages;
        self
    }
}

/// What becomes of messages that an agent does not declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherMessages {
    /// They are passed over: the ACK is as if they were not there.
    #[default]
    Ignored,
    /// They are an error: HAProxy gets the fallback.
    Refused,
    /// They are read as this one, whatever their name.
    ReadAs(&'static MessageDeclaration),
}

//! Several messages to several handlers on one agent.

use std::fmt;
use std::marker::PhantomData;

use super::{Agent, AgentDeclaration, AgentError, OtherMessages, Reply};
use crate::message::{Message, Var, VariableType};
use crate::spop::{self, Messages};

/// An agent made of handlers, each for a message of its own type.
///
/// A NOTIFY may have several messages: each goes to its handler, in order, and what they set goes out in
/// one ACK. A handler answers now, or draws a [`Ticket`](crate::Ticket) and answers later, whatever the
/// others do. The first error ends it, and HAProxy gets the fallback for the whole NOTIFY.
///
/// ```
/// use ringspoa::{AgentError, Message, Reply, Router, Var};
///
/// #[derive(Message)]
/// #[spop(name = "check-path", event = "on-frontend-http-request")]
/// struct CheckPath<'a> {
///     #[spop(sample = "path")]
///     path: &'a [u8],
/// }
///
/// #[derive(Message)]
/// #[spop(name = "count-response", event = "on-http-response")]
/// struct CountResponse {
///     #[spop(sample = "status")]
///     status: u16,
/// }
///
/// const IS_API: Var<bool> = Var::txn("is_api");
///
/// /// Each core has its own.
/// #[derive(Default)]
/// struct State {
///     failures: u64,
/// }
///
/// impl State {
///     fn check_path(&mut self, check: CheckPath<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
///         Ok(reply.set(IS_API, check.path.starts_with(b"/api/"))?)
///     }
/// }
///
/// let agent = Router::new("api", State::default())
///     .on::<CheckPath>(State::check_path)
///     .on::<CountResponse>(|state: &mut State, response, _reply| {
///         state.failures += u64::from(response.status >= 500);
///         Ok(())
///     })
///     .sets(IS_API);
/// # let _ = agent;
/// ```
pub struct Router<S, R = ()> {
    state: S,
    routes: R,
    declaration: AgentDeclaration,
    /// Whether the log knows of a message that has no handler.
    has_told: bool,
}

impl<S> Router<S> {
    /// An agent that has this state and takes no message yet. Its name is that of the `spoe-agent`
    /// section: the prefix of its variables in HAProxy.
    #[must_use]
    pub fn new(name: impl Into<String>, state: S) -> Self {
        Self {
            state,
            routes: (),
            declaration: AgentDeclaration::new(name),
            has_told: false,
        }
    }
}

impl<S, R> Router<S, R> {
    /// Gives messages of this type to a handler: a closure or a method of the state.
    ///
    /// # Panics
    ///
    /// If a message of this name has a handler already.
    #[must_use]
    pub fn on<M: Message>(
        self,
        handler: impl for<'a> FnMut(&mut S, M::Of<'a>, &mut Reply<'_>) -> Result<(), AgentError>,
    ) -> Router<S, impl Routes<S>>
    where
        R: Routes<S>,
    {
        let name = M::DECLARATION.name;
        assert!(
            !self.declaration.messages.iter().any(|m| m.name == name),
            "message {name} has two handlers: one would never be called"
        );
        Router {
            state: self.state,
            routes: (
                self.routes,
                Route {
                    handler,
                    message: PhantomData,
                },
            ),
            declaration: self.declaration.with_message::<M>(),
            has_told: self.has_told,
        }
    }

    /// Says that a handler sets this variable, for configurations made from code.
    #[must_use]
    pub fn sets<T: VariableType + ?Sized>(mut self, variable: Var<T>) -> Self {
        self.declaration = self.declaration.with_variable(variable);
        self
    }

    /// What becomes of messages that have no handler; without it they are
    /// [`Ignored`](OtherMessages::Ignored). [`ReadAs`](OtherMessages::ReadAs) gives them to the handler
    /// of that message.
    #[must_use]
    pub fn other_messages(mut self, other_messages: OtherMessages) -> Self {
        self.declaration.other_messages = other_messages;
        self
    }

    /// The state.
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// The state, to change.
    pub const fn state_mut(&mut self) -> &mut S {
        &mut self.state
    }
}

impl<S, R: Routes<S>> Agent for Router<S, R> {
    #[inline]
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        while let Some(mut message) = messages.next_message()? {
            let name = message.name();
            let mut found = self
                .routes
                .route(&mut self.state, name, &mut message, reply)?;
            if !found && let OtherMessages::ReadAs(declaration) = self.declaration.other_messages {
                let name = declaration.name.as_bytes();
                found = self
                    .routes
                    .route(&mut self.state, name, &mut message, reply)?;
            }
            if !found {
                match self.declaration.other_messages {
                    OtherMessages::Refused => {
                        return Err(unknown_message(name, &self.declaration).into());
                    }
                    // Once: a name that is misspelt in the SPOE file would pass unseen for ever.
                    _ if !self.has_told => {
                        self.has_told = true;
                        let what = unknown_message(name, &self.declaration);
                        tracing::warn!("{what}; it is passed over, and not told again");
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn declaration(&self) -> AgentDeclaration {
        self.declaration.clone()
    }
}

#[cold]
#[inline(never)]
fn unknown_message(name: &[u8], declaration: &AgentDeclaration) -> String {
    let names: Vec<_> = declaration.messages.iter().map(|m| m.name).collect();
    let name: String = name.iter().take(100).map(|&byte| byte as char).collect();
    format!(
        "message {} is unknown; agent {} takes {}",
        name.escape_default(),
        declaration.name,
        names.join(", ")
    )
}

impl<S: fmt::Debug, R> fmt::Debug for Router<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("state", &self.state)
            .field("declaration", &self.declaration)
            .finish_non_exhaustive()
    }
}

/// One message and its handler.
struct Route<M, F> {
    handler: F,
    message: PhantomData<fn(M)>,
}

/// The handlers of a [`Router`]. Implemented by what [`Router::on`] makes; not for anybody else.
pub trait Routes<S>: sealed::Sealed {
    /// Gives the message to the handler that `name` has; whether there is one.
    #[doc(hidden)]
    fn route(
        &mut self,
        state: &mut S,
        name: &[u8],
        message: &mut spop::Message<'_, '_>,
        reply: &mut Reply<'_>,
    ) -> Result<bool, AgentError>;
}

impl<S> Routes<S> for () {
    #[inline(always)]
    fn route(
        &mut self,
        _: &mut S,
        _: &[u8],
        _: &mut spop::Message<'_, '_>,
        _: &mut Reply<'_>,
    ) -> Result<bool, AgentError> {
        Ok(false)
    }
}

impl<S, R, M, F> Routes<S> for (R, Route<M, F>)
where
    R: Routes<S>,
    M: Message,
    F: for<'a> FnMut(&mut S, M::Of<'a>, &mut Reply<'_>) -> Result<(), AgentError>,
{
    // Comparing names takes no time beside what a handler does: agents have one message or some few.
    #[inline(always)]
    fn route(
        &mut self,
        state: &mut S,
        name: &[u8],
        message: &mut spop::Message<'_, '_>,
        reply: &mut Reply<'_>,
    ) -> Result<bool, AgentError> {
        if name == M::DECLARATION.name.as_bytes() {
            (self.1.handler)(state, M::decode(message)?, reply)?;
            return Ok(true);
        }
        self.0.route(state, name, message, reply)
    }
}

mod sealed {
    #[allow(unreachable_pub, reason = "nobody outside is to implement it")]
    pub trait Sealed {}
    impl Sealed for () {}
    impl<R, M, F> Sealed for (R, super::Route<M, F>) {}
}

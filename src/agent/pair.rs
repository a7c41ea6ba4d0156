//! Two agents behind one listener.

use super::{Agent, AgentDeclaration, AgentError, Reply};
use crate::spop::Messages;

/// Two agents as one: the messages that the first declares go to it, all others to the second.
///
/// A NOTIFY may have messages of both. Each agent gets its own, in their order, neighbours in one call;
/// what both set goes out in one ACK, and tickets of both are waited for. The first error ends it, and
/// HAProxy gets the fallback for the whole NOTIFY. Nothing is allocated, and of messages for one agent
/// alone nothing is copied or read twice but their headers.
///
/// ```
/// use ringspoa::agents::remediation::{RemediationAgent, embedded};
/// use ringspoa::{AgentPair, Harness, Message, Router, Var};
///
/// #[derive(Message)]
/// #[spop(name = "check-path")]
/// struct CheckPath<'a> {
///     path: &'a [u8],
/// }
///
/// const IS_API: Var<bool> = Var::txn("is_api");
/// const REMEDIATION: Var<str> = Var::txn("remediation");
///
/// let paths = Router::new("api", ()).on::<CheckPath<'_>>(|(), check, reply| {
///     Ok(reply.set(IS_API, check.path.starts_with(b"/api/"))?)
/// });
/// // It takes whatever message has an address.
/// let addresses = RemediationAgent::new(embedded());
///
/// let mut harness = Harness::new(AgentPair::new(paths, addresses));
/// let ack = harness
///     .notify_with(|notify| {
///         notify.message("check-path", [ringspoa::spop::Argument::new("path", "/api/1")])?;
///         let ip: std::net::IpAddr = [192, 0, 2, 1].into();
///         notify.message("check-client-ip", [ringspoa::spop::Argument::new("ip", ip)])
///     })
///     .ack();
/// assert_eq!((ack.get(IS_API), ack.get(REMEDIATION)), (Some(true), Some("ban")));
/// ```
#[derive(Clone, Debug)]
pub struct AgentPair<A, B> {
    first: A,
    second: B,
    /// Names of messages, aliases included, that are the first's. Some few, so a look at each is as fast
    /// as anything.
    names: Vec<&'static str>,
}

impl<A: Agent, B: Agent> AgentPair<A, B> {
    /// Both as one.
    ///
    /// # Panics
    ///
    /// If both declare a message of one name: the second would never get it.
    #[must_use]
    pub fn new(first: A, second: B) -> Self {
        let names = |declaration: AgentDeclaration| {
            let messages = declaration.messages.into_iter();
            let names = messages.flat_map(|m| std::iter::once(m.name).chain(m.aliases.to_vec()));
            names.collect::<Vec<_>>()
        };
        let (names, others) = (names(first.declaration()), names(second.declaration()));
        for name in &names {
            assert!(
                !others.contains(name),
                "message {name} is declared by two agents: one would never get it"
            );
        }
        Self {
            first,
            second,
            names,
        }
    }

    #[inline]
    fn is_firsts(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| known.as_bytes() == name)
    }
}

impl<A: Agent, B: Agent> Agent for AgentPair<A, B> {
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let payload = messages.rest();
        // Neighbours of one agent: whose they are, and where they begin.
        let mut run: Option<(bool, usize)> = None;
        while let Some((name, left)) = messages.next_whole()? {
            let is_firsts = self.is_firsts(name);
            let at = payload.len() - left.end;
            match run {
                Some((known, _)) if known == is_firsts => {}
                Some((known, start)) => {
                    self.give(known, &payload[start..at], reply)?;
                    run = Some((is_firsts, at));
                }
                None => run = Some((is_firsts, at)),
            }
        }
        match run {
            Some((is_firsts, start)) => self.give(is_firsts, &payload[start..], reply),
            None => Ok(()),
        }
    }

    /// Under the first's name; what becomes of messages that neither declares is for the second to say.
    fn declaration(&self) -> AgentDeclaration {
        let (mut declaration, second) = (self.first.declaration(), self.second.declaration());
        declaration.messages.extend(second.messages);
        declaration.variables.extend(second.variables);
        declaration.other_messages = second.other_messages;
        declaration
    }
}

impl<A: Agent, B: Agent> AgentPair<A, B> {
    #[inline]
    fn give(
        &mut self,
        is_firsts: bool,
        payload: &[u8],
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let mut messages = Messages::new(payload);
        match is_firsts {
            true => self.first.handle_notify(&mut messages, reply),
            false => self.second.handle_notify(&mut messages, reply),
        }
    }
}

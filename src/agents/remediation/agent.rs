//! The SPOE side of IP remediation.

use std::net::IpAddr;
use std::sync::Arc;

use super::table::AddressTable;
use crate::agent::{Agent, AgentDeclaration, AgentError, OtherMessages, Reply};
use crate::message::{ArgumentDeclaration, MessageDeclaration, ValueTypes, Var};
use crate::spop::{Argument, Messages, TypedData};

const REMEDIATION: Var<str> = Var::txn("remediation");

/// What the samples send; messages of other names are read like it.
const CHECK_CLIENT_IP: MessageDeclaration = MessageDeclaration::new(
    "check-client-ip",
    &[ArgumentDeclaration::new(
        "ip",
        ValueTypes::ADDRESS.or(ValueTypes::STRING),
        "an IP address",
    )
    .with_aliases(&["src", "src-ip"])
    .with_sample("src")
    .optional()],
)
.with_event("on-frontend-http-request");

/// Sets `txn.<prefix>.remediation` to `ban` or `allow`, for the argument `ip`, `src` or `src-ip` of
/// whatever message. If a NOTIFY has several addresses, one banned address bans it; if it has none,
/// nothing is set.
#[derive(Clone, Debug)]
pub struct RemediationAgent {
    banned: Arc<AddressTable>,
}

impl RemediationAgent {
    /// An agent that bans these addresses. The table may be shared by all cores: nobody writes to
    /// it, and looking an address up does not touch its reference count.
    #[must_use]
    pub fn new(banned: impl Into<Arc<AddressTable>>) -> Self {
        Self {
            banned: banned.into(),
        }
    }
}

impl Agent for RemediationAgent {
    #[inline]
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let mut remediation = None;
        while let Some(message) = messages.next_message()? {
            for argument in message {
                let Some(address) = address(&argument?) else {
                    continue;
                };
                if self.banned.contains(address) {
                    remediation = Some("ban");
                } else {
                    remediation.get_or_insert("allow");
                }
            }
        }
        if let Some(word) = remediation {
            reply.set(REMEDIATION, word)?;
        }
        Ok(())
    }

    fn declaration(&self) -> AgentDeclaration {
        let mut declaration = AgentDeclaration::new("ringspoa")
            .with_variable(REMEDIATION)
            .with_other_messages(OtherMessages::ReadAs(&CHECK_CLIENT_IP));
        declaration.messages.push(CHECK_CLIENT_IP);
        declaration
    }
}

/// The address, of an argument that is expected to have one. A header fetched with `hdr()` instead
/// of `hdr_ip()` comes as text.
#[inline]
fn address(argument: &Argument<'_>) -> Option<IpAddr> {
    if !matches!(argument.name, b"ip" | b"src" | b"src-ip") {
        return None;
    }
    match argument.value {
        TypedData::String(_) => argument.value.as_str()?.trim().parse().ok(),
        value => value.as_ip(),
    }
}

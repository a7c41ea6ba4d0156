//! One line for each challenge, each request that is not cleared, and each solution that is taken or refused;
//! never a token, and for an address its pseudonym.

use std::fmt;
use std::net::IpAddr;

use super::super::messages::Visitor;
use super::super::realm::{Challenges, Realm};
use super::super::scope::ShownHost;
use super::super::support_id::SupportId;
use super::super::token::Reason;
use super::Validation;
use super::answer::{Answer, Outcome, Via};

/// What stands for an address in the log.
struct Pseudonym<'a>(&'a Challenges, Option<IpAddr>);

impl fmt::Debug for Pseudonym<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(address) => write!(f, "{:016x}", self.0.keyring.pseudonym(address)),
            None => f.write_str("-"),
        }
    }
}

/// A request whose visitor has no token that is good.
pub(super) fn log_not_cleared(
    challenges: &Challenges,
    realm: &Realm,
    visitor: &Visitor<'_>,
    asked: u8,
    validation: &Validation<'_>,
) {
    let Some(reason) = validation.reason else {
        return;
    };
    let support_id = validation.token.map(|token| SupportId::from(token.id));
    tracing::debug!(
        support_id = support_id.as_ref().map(SupportId::as_str),
        realm = realm.name(),
        level = asked,
        reason = reason.as_str(),
        bot = validation.bot.word(),
        would_challenge = validation.would_challenge,
        host = ?ShownHost(visitor.host),
        address = ?Pseudonym(challenges, visitor.address),
        "visitor not cleared"
    );
}

/// Nothing was made, as the realm does not serve the host.
pub(super) fn log_not_issued(challenges: &Challenges, realm: &Realm, visitor: &Visitor<'_>) {
    tracing::debug!(
        realm = realm.name(),
        reason = Reason::Host.as_str(),
        host = ?ShownHost(visitor.host),
        address = ?Pseudonym(challenges, visitor.address),
        "no challenge issued"
    );
}

pub(super) fn log_issued(
    challenges: &Challenges,
    realm: &Realm,
    visitor: &Visitor<'_>,
    work: u32,
    via: Via,
    out: &Answer,
) {
    tracing::debug!(
        support_id = out.support_id().as_ref().map(SupportId::as_str),
        realm = realm.name(),
        level = out.facts.level,
        work,
        via = via.as_str(),
        is_rebind = out.facts.is_rebind,
        host = ?ShownHost(visitor.host),
        address = ?Pseudonym(challenges, visitor.address),
        "challenge issued"
    );
}

pub(super) fn log_admitted(
    challenges: &Challenges,
    realm: &Realm,
    visitor: &Visitor<'_>,
    out: &Answer,
) {
    tracing::debug!(
        support_id = out.support_id().as_ref().map(SupportId::as_str),
        realm = realm.name(),
        level = out.facts.level,
        solved_in_s = out.facts.solved_in_s,
        host = ?ShownHost(visitor.host),
        address = ?Pseudonym(challenges, visitor.address),
        "visitor admitted"
    );
}

pub(super) fn log_refused(
    challenges: &Challenges,
    realm: &Realm,
    visitor: &Visitor<'_>,
    out: &Answer,
) {
    tracing::debug!(
        support_id = out.support_id().as_ref().map(SupportId::as_str),
        realm = realm.name(),
        level = out.facts.level,
        result = out.outcome().map(Outcome::as_str),
        host = ?ShownHost(visitor.host),
        address = ?Pseudonym(challenges, visitor.address),
        "solution refused"
    );
}

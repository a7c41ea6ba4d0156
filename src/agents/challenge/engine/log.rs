//! One line for each challenge and each visitor who is admitted or refused; never a token.

use std::fmt;
use std::net::IpAddr;

use super::super::messages::Visitor;
use super::super::realm::{Challenges, Realm};
use super::super::support_id::SupportId;
use super::answer::{Answer, Outcome, Via};

/// What stands for an address in the log.
struct Pseudonym<'a>(&'a Challenges, Option<IpAddr>);

impl Pseudonym<'_> {
    fn log(&self) -> impl tracing::Value + use<> {
        let hash = self.1.map(|address| self.0.keyring.pseudonym(address));
        tracing::field::debug(hash.map(Hash))
    }
}

struct Hash(u64);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
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
        address = Pseudonym(challenges, visitor.address).log(),
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
        address = Pseudonym(challenges, visitor.address).log(),
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
        address = Pseudonym(challenges, visitor.address).log(),
        "solution refused"
    );
}

//! Solutions that somebody else judges: the provider of a captcha, or a thread that derives.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::super::challenge::{Challenge, ChallengeId, Failure, Terms};
use super::super::messages::Visitor;
use super::super::puzzle::{Pending, Proof, Solved};
use super::super::realm::{Challenges, LevelCaptcha, Realm, RealmLevel};
use super::super::scope::{Scope, is_within};
use super::super::support_id::SupportId;
use super::answer::{Answer, Outcome, ProviderOutcome, admit, push_next, refuse, retry_s};
use super::log::{log_admitted, log_refused};
use super::visit;
use crate::agents::common::outside::{OutsideRequest, OutsideResult};
use crate::agents::common::provider::{Asked, ProviderAnswer, judge_provider};

/// A question to a provider, and what it is about.
#[derive(Debug)]
pub struct Asking {
    /// The question.
    pub request: OutsideRequest,
    pub(super) pending: Pending,
}

impl Asking {
    /// How long the provider has.
    #[must_use]
    pub const fn timeout(&self) -> std::time::Duration {
        self.request.timeout
    }

    /// What the challenge says.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        self.pending.challenge()
    }

    /// The question, and what is to be told its result.
    pub(in crate::agents::challenge) fn split(self) -> (OutsideRequest, Pending) {
        (self.request, self.pending)
    }
}

/// A solution that somebody else is to judge: all that an answer takes afterwards, on whatever thread.
pub struct Deferred {
    pub(super) challenges: Arc<Challenges>,
    pub(super) realm: usize,
    pub(super) level: u8,
    pub(super) support_id: SupportId,
    pub(super) visitor: OwnedVisitor,
    pub(super) next: (Terms, ChallengeId),
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred")
            .field("realm", &self.realm)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl Deferred {
    /// What a provider said.
    pub(in crate::agents::challenge) fn handle_provider(
        &self,
        pending: Pending,
        result: &OutsideResult<'_>,
        unix_s: u64,
        out: &mut Answer,
    ) {
        let realm = &self.challenges.realms()[self.realm];
        let captcha = realm
            .level(self.level)
            .and_then(|level| level.captcha.as_ref());
        let visitor = self.visitor.visitor();
        let provider = match (captcha, realm.scope.scope(visitor.host)) {
            (Some(captcha), Ok(scope)) => judge_captcha(captcha, &scope, result),
            _ => ProviderOutcome::Unusable,
        };
        let outcome = match provider {
            ProviderOutcome::Solved => Ok(pending.accepted()),
            ProviderOutcome::Refused => Err(Outcome::Work),
            ProviderOutcome::OtherHost => Err(Outcome::Host),
            ProviderOutcome::Unusable => Err(Outcome::Provider),
        };
        self.settle(outcome, unix_s, out);
        out.facts.provider = Some(provider);
    }

    /// What came of derivations.
    pub(in crate::agents::challenge) fn handle_derived(
        &self,
        result: Result<Solved, Failure>,
        unix_s: u64,
        out: &mut Answer,
    ) {
        self.settle(result.map_err(Outcome::from), unix_s, out);
    }

    /// There is no time left to find out.
    pub(in crate::agents::challenge) fn handle_busy(&self, out: &mut Answer) {
        out.clear(self.realm);
        out.facts.level = Some(self.level);
        out.facts.support_id = Some(self.support_id);
        refuse(Outcome::Busy, retry_s(Outcome::Busy), out);
        out.response.push("}");
    }

    fn settle(&self, result: Result<Solved, Outcome>, unix_s: u64, out: &mut Answer) {
        out.clear(self.realm);
        out.facts.level = Some(self.level);
        out.facts.support_id = Some(self.support_id);
        let realm = &self.challenges.realms()[self.realm];
        let visitor = self.visitor.visitor();
        let Ok(scope) = realm.scope.scope(visitor.host) else {
            refuse(Outcome::Host, None, out);
            out.response.push("}");
            return;
        };
        let visit = visit(&scope, &visitor, unix_s);
        match result.and_then(|solved| admit(realm, &solved, &visitor, &visit, out)) {
            Ok(()) => {}
            Err(outcome) => {
                refuse(outcome, retry_s(outcome), out);
                if outcome.has_next() {
                    let (terms, id) = &self.next;
                    push_next(realm, terms, *id, &visit, out);
                }
                out.response.push("}");
            }
        }
    }

    /// One line of what became of it.
    pub(in crate::agents::challenge) fn log(&self, out: &Answer) {
        let (realm, visitor) = (
            &self.challenges.realms()[self.realm],
            self.visitor.visitor(),
        );
        match out.outcome() {
            Some(Outcome::Ok) => log_admitted(&self.challenges, realm, &visitor, out),
            _ => log_refused(&self.challenges, realm, &visitor, out),
        }
    }
}

pub(super) struct OwnedVisitor {
    address: Option<IpAddr>,
    host: Option<Box<[u8]>>,
    user_agent: Option<Box<[u8]>>,
    tls: Option<Box<[u8]>>,
    is_secure: bool,
    cookie: Option<Box<[u8]>>,
    cookies: Option<Box<[u8]>>,
}

impl OwnedVisitor {
    pub(super) fn of(visitor: &Visitor<'_>) -> Self {
        Self {
            address: visitor.address,
            host: visitor.host.map(Into::into),
            user_agent: visitor.user_agent.map(Into::into),
            tls: visitor.tls.map(Into::into),
            is_secure: visitor.is_secure,
            cookie: visitor.cookie.map(Into::into),
            cookies: visitor.cookies.map(Into::into),
        }
    }

    pub(super) fn visitor(&self) -> Visitor<'_> {
        Visitor {
            realm: None,
            address: self.address,
            host: self.host.as_deref(),
            user_agent: self.user_agent.as_deref(),
            tls: self.tls.as_deref(),
            is_secure: self.is_secure,
            cookie: self.cookie.as_deref(),
            cookies: self.cookies.as_deref(),
        }
    }
}

/// Has the level's provider asked.
pub(super) fn ask(realm: &Realm, proof: Proof<'_>, visitor: &Visitor<'_>) -> Option<Asking> {
    let level: &RealmLevel = realm.level(proof.challenge().level)?;
    let captcha = level.captcha.as_ref()?;
    let asked = Asked {
        endpoint: captcha.endpoint,
        timeout: captcha.timeout,
        secret_key: &captcha.secret_key,
    };
    let address = visitor.address.filter(|_| captcha.sends_remote_ip);
    Some(Asking {
        request: asked.about(proof.token().as_bytes(), address),
        pending: proof.pending(),
    })
}

/// What a provider says, and whether the captcha was shown on this host.
pub(super) fn judge_captcha(
    captcha: &LevelCaptcha,
    scope: &Scope<'_>,
    result: &OutsideResult<'_>,
) -> ProviderOutcome {
    let answer = judge_provider(result);
    let is_of_wrong_key = answer.is_of_wrong_key();
    match answer {
        ProviderAnswer::Solved => {}
        ProviderAnswer::Refused(codes) => {
            // That the secret key is wrong is nothing that another captcha helps against.
            if is_of_wrong_key {
                tracing::error!(
                    ?codes,
                    "a captcha's provider refuses secret-key; see [[challenge.realm.level]]"
                );
                return ProviderOutcome::Unusable;
            }
            return ProviderOutcome::Refused;
        }
        ProviderAnswer::Unusable(reason) => {
            tracing::warn!(reason, "a captcha's provider could not be asked");
            return ProviderOutcome::Unusable;
        }
    }
    #[derive(Deserialize)]
    struct Shown<'a> {
        #[serde(borrow, default)]
        hostname: Option<std::borrow::Cow<'a, str>>,
    }
    if !captcha.checks_host {
        return ProviderOutcome::Solved;
    }
    let body = result
        .as_ref()
        .map(|answer| answer.body)
        .unwrap_or_default();
    let hostname = serde_json::from_slice::<Shown<'_>>(body)
        .ok()
        .and_then(|shown| shown.hostname);
    let is_ours = match hostname {
        Some(hostname) => {
            let hostname = hostname.to_ascii_lowercase();
            let host = scope.shared_domain().unwrap_or(scope.host());
            !host.is_empty() && is_within(&hostname, host)
        }
        None => !captcha.says_host,
    };
    if is_ours {
        ProviderOutcome::Solved
    } else {
        ProviderOutcome::OtherHost
    }
}

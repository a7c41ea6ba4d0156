//! Decisions: who may pass, what others are asked to do, and what becomes of it.
//!
//! An [`Engine`] is what one core has. It knows no socket and no clock: what it is, who asks and what time
//! it is are arguments, and what takes others or a thread to find out comes back as data.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::binding::Visit;
use super::challenge::{Algorithm, Challenge, ChallengeId, Failure, Submission, Terms};
use super::cookie::{CookieAttributes, CookieValue};
use super::crawlers::Bot;
use super::messages::{LevelArgument, Visitor};
use super::puzzle::{Pbkdf2Job, Pending, Proof, Solved, Step};
use super::realm::{Challenges, LevelCaptcha, NoJs, Realm, RealmLevel};
use super::reply::Text;
use super::scope::{Scope, is_within};
use super::support_id::SupportId;
use super::token::{Class, Reason, Refusal, Token, TokenId};
use super::work::{Networks, Pressure, Rate, doublings, work_at};
use crate::agents::outside::{OutsideRequest, OutsideResult};
use crate::agents::provider::{Asked, ProviderAnswer, judge_provider};

/// The longest reply, in bytes. The longest keys and URLs of captchas leave room in it.
const RESPONSE_LEN: usize = 6144;

/// The longest path with query that visitors without JavaScript are sent back to. From a longer one they
/// go to `/`.
pub(super) const MAX_RETURN_LEN: usize = 1024;

/// Room for such a path percent-encoded, beside a challenge and its signature.
const NO_JS_URL_LEN: usize = 4096;

/// Whose token is good but for the address does this part of the work.
const REBIND_SHARE: u32 = 16;

/// As often as this may a token be had anew for less work, in about a minute on a core.
const MAX_REBINDS: u32 = 8;

/// A wrong solution counts as so many challenges where networks are counted.
const WRONG_WEIGHT: u16 = 2;

/// When there is no place for another derivation, in seconds.
const BUSY_RETRY_S: u32 = 2;

/// When a provider cannot be asked, in seconds.
const PROVIDER_RETRY_S: u32 = 5;

/// What time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The second since 1970.
    pub unix_s: u64,
    /// Milliseconds of a clock that nobody sets, of whatever zero.
    pub ms: u64,
}

/// Where a challenge goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Via {
    /// To whoever asked by `issue`: a page that is sent, or one that asks for another.
    Issue,
    /// With a refusal, instead of the one that was solved in vain.
    Next,
    /// To whoever asked by berghain's `challenge`.
    Berghain,
    /// To a visitor without JavaScript, beside the one in the page.
    NoJs,
}

impl Via {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Issue, Self::Next, Self::Berghain, Self::NoJs];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Next => "next",
            Self::Berghain => "berghain",
            Self::NoJs => "nojs",
        }
    }
}

/// What became of a solution. All but [`Ok`](Self::Ok) are refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It is one.
    Ok,
    /// Its challenge is over, or of a level that is gone.
    Expired,
    /// It came too early.
    Early,
    /// It is somebody else's.
    Binding,
    /// It is wrong.
    Work,
    /// The challenge is none of this realm.
    Mac,
    /// It is none.
    Format,
    /// There is no place for what it takes to verify.
    Busy,
    /// The provider gave no answer of any use.
    Provider,
    /// The realm does not serve the host.
    Host,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Expired,
        Self::Early,
        Self::Binding,
        Self::Work,
        Self::Mac,
        Self::Format,
        Self::Busy,
        Self::Provider,
        Self::Host,
    ];

    /// The word for it, which the page knows it by.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Binding => "binding",
            Self::Work => "work",
            Self::Mac => "mac",
            Self::Format => "format",
            Self::Busy => "busy",
            Self::Provider => "provider",
            Self::Host => "host",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Format => 400,
            Self::Busy | Self::Provider => 503,
            _ => 403,
        }
    }

    /// Whether another challenge is of use to whoever gets this.
    const fn has_next(self) -> bool {
        matches!(self, Self::Expired | Self::Binding | Self::Work)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Format | Failure::Solution => Self::Format,
            Failure::Key | Failure::Mac => Self::Mac,
            Failure::Host => Self::Host,
            Failure::Tls | Failure::UserAgent | Failure::Address => Self::Binding,
            Failure::Level | Failure::Future | Failure::Expired => Self::Expired,
            Failure::Early { .. } => Self::Early,
            Failure::Work => Self::Work,
        }
    }
}

/// What a provider made of a captcha's solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProviderOutcome {
    /// It is one.
    Solved,
    /// It is none.
    Refused,
    /// It is one of another host.
    OtherHost,
    /// There was no answer, or none that can be read.
    Unusable,
}

impl ProviderOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Solved, Self::Refused, Self::OtherHost, Self::Unusable];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Solved => "solved",
            Self::Refused => "refused",
            Self::OtherHost => "host",
            Self::Unusable => "unusable",
        }
    }
}

/// What a visitor who does not pass is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The page.
    Page,
    /// A word, as a script or an image asks.
    Json,
}

impl Shown {
    /// The value of the variable `challenge`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Json => "json",
        }
    }
}

/// May a visitor pass?
#[derive(Clone, Debug)]
pub struct Validation<'e> {
    /// The index of the realm that decided it.
    pub realm: usize,
    /// Whether the visitor may pass.
    pub is_valid: bool,
    /// In a realm with `dry-run`, whether the visitor would not pass.
    pub would_challenge: Option<bool>,
    /// Why not, whether or not it is a dry run; `None` of who has a token that is good.
    pub reason: Option<Reason>,
    /// The token that is good, or the one that comes nearest to it and whose signature is.
    pub token: Option<Token>,
    /// How long ago that token's challenge was made, in seconds.
    pub token_age_s: u64,
    /// Whether only the address differs, and the token may be had anew for less work.
    pub can_rebind: bool,
    /// Whether the visitor is a crawler.
    pub bot: Bot<'e>,
    /// The level that load and the visitor's network suggest; not below the one that was asked for.
    pub suggested_level: u8,
    /// What the visitor is to be shown; `None` of who passes.
    pub shown: Option<Shown>,
    /// Whether the level asked for is one that nobody means.
    pub is_odd_level: bool,
}

/// What is answered to a page or a visitor without JavaScript, in room that is used again and again: a
/// refusal allocates nothing.
#[derive(Debug, Default)]
pub struct Answer {
    response: Text<RESPONSE_LEN>,
    no_js_url: Text<NO_JS_URL_LEN>,
    location: Text<MAX_RETURN_LEN>,
    domain: Text<272>,
    set_cookie: String,
    token: Option<CookieValue>,
    facts: Facts,
}

/// What an answer is besides texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) realm: usize,
    pub(super) status: u16,
    pub(super) level: Option<u8>,
    pub(super) support_id: Option<SupportId>,
    pub(super) token_id: Option<TokenId>,
    pub(super) outcome: Option<Outcome>,
    pub(super) provider: Option<ProviderOutcome>,
    /// A challenge in it.
    pub(super) issued: Option<(u8, Via)>,
    /// Another one, for a visitor without JavaScript.
    pub(super) no_js_wait_s: Option<u32>,
    /// How long the visitor took.
    pub(super) solved_in_s: Option<u64>,
    pub(super) is_rebind: bool,
    pub(super) is_odd_level: bool,
}

impl Answer {
    fn clear(&mut self, realm: usize) {
        self.response.clear();
        self.no_js_url.clear();
        self.location.clear();
        self.domain.clear();
        self.set_cookie.clear();
        self.token = None;
        self.facts = Facts {
            realm,
            ..Facts::default()
        };
    }

    /// The status of the reply.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.facts.status
    }

    /// The body of the reply, JSON.
    #[must_use]
    pub fn response(&self) -> Option<&str> {
        self.response.get()
    }

    /// What the visitor can read out.
    #[must_use]
    pub const fn support_id(&self) -> Option<SupportId> {
        self.facts.support_id
    }

    /// What became of a solution; `None` where none was sent.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        self.facts.outcome
    }

    /// The value of the cookie.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().map(CookieValue::as_str)
    }

    /// The token's id.
    #[must_use]
    pub const fn token_id(&self) -> Option<TokenId> {
        self.facts.token_id
    }

    /// The value of the `Set-Cookie` header.
    #[must_use]
    pub fn set_cookie(&self) -> Option<&str> {
        Some(&*self.set_cookie).filter(|text| !text.is_empty())
    }

    /// `domain=...;` of a cookie that several hosts have, for berghain's configuration.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.domain.get().unwrap_or_default()
    }

    /// Where a visitor without JavaScript goes on, and after how many seconds.
    #[must_use]
    pub fn no_js(&self) -> Option<(&str, u32)> {
        self.no_js_url.get().zip(self.facts.no_js_wait_s)
    }

    /// Where a visitor without JavaScript is sent back to.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.location.get()
    }

    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// What comes of a solution.
#[derive(Debug)]
#[must_use = "only `Done` has an answer"]
pub enum Verification {
    /// The answer.
    Done,
    /// A provider is to be asked.
    Ask(Asking),
    /// It takes a thread a while.
    Derive(Pbkdf2Job),
}

/// A question to a provider, and what it is about.
#[derive(Debug)]
pub struct Asking {
    /// The question.
    pub request: OutsideRequest,
    pending: Pending,
}

/// A solution that somebody else is to judge: all that an answer takes afterwards, on whatever thread.
pub struct Deferred {
    challenges: Arc<Challenges>,
    realm: usize,
    level: u8,
    visitor: OwnedVisitor,
    next: (Terms, ChallengeId),
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred")
            .field("realm", &self.realm)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

struct OwnedVisitor {
    address: Option<IpAddr>,
    host: Option<Box<[u8]>>,
    user_agent: Option<Box<[u8]>>,
    tls: Option<Box<[u8]>>,
    is_secure: bool,
    cookie: Option<Box<[u8]>>,
    cookies: Option<Box<[u8]>>,
}

impl OwnedVisitor {
    fn of(visitor: &Visitor<'_>) -> Self {
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

    fn visitor(&self) -> Visitor<'_> {
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
    pub(super) fn split(self) -> (OutsideRequest, Pending) {
        (self.request, self.pending)
    }
}

impl Deferred {
    /// What a provider said.
    pub(super) fn handle_provider(
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
    pub(super) fn handle_derived(
        &self,
        result: Result<Solved, Failure>,
        unix_s: u64,
        out: &mut Answer,
    ) {
        self.settle(result.map_err(Outcome::from), unix_s, out);
    }

    /// There is no time left to find out.
    pub(super) fn handle_busy(&self, out: &mut Answer) {
        out.clear(self.realm);
        out.facts.level = Some(self.level);
        refuse(Outcome::Busy, retry_s(Outcome::Busy), out);
        out.response.push("}");
    }

    fn settle(&self, result: Result<Solved, Outcome>, unix_s: u64, out: &mut Answer) {
        out.clear(self.realm);
        let realm = &self.challenges.realms()[self.realm];
        let visitor = self.visitor.visitor();
        let Ok(scope) = realm.scope.scope(visitor.host) else {
            refuse(Outcome::Host, None, out);
            out.response.push("}");
            return;
        };
        let visit = visit(&scope, &visitor, unix_s);
        out.facts.level = Some(self.level);
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
}

/// What one core decides by: settings that all share, and what it has seen itself.
pub struct Engine {
    challenges: Arc<Challenges>,
    core: CoreState,
}

struct CoreState {
    realms: Vec<RealmState>,
    networks: Networks,
    /// Keys of its own, which nobody outside can know.
    random: RandomState,
    /// Challenges that were given an id.
    ids: u64,
}

#[derive(Debug)]
struct RealmState {
    /// Of challenges.
    rate: Rate,
    /// Of each level.
    pressures: Vec<Pressure>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("ids", &self.core.ids)
            .field("realms", &self.core.realms)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that has seen nobody.
    #[must_use]
    pub fn new(challenges: Arc<Challenges>) -> Self {
        let realms = challenges.realms().iter().map(|realm| RealmState {
            rate: Rate::default(),
            pressures: vec![Pressure::default(); realm.levels().len()],
        });
        let core = CoreState {
            realms: realms.collect(),
            networks: Networks::new(),
            random: RandomState::new(),
            ids: 0,
        };
        Self { challenges, core }
    }

    /// The settings.
    #[must_use]
    pub const fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// How hard a level is pressed now, from 0 to 1.
    #[must_use]
    pub fn pressure(&self, realm: usize, level: u8, now: Now) -> f64 {
        let level = usize::from(level).checked_sub(1);
        let pressures = self.core.realms.get(realm).map(|realm| &realm.pressures);
        let pressure = pressures
            .zip(level)
            .and_then(|(pressures, level)| pressures.get(level));
        pressure.map_or(0.0, |pressure| pressure.at(now.ms))
    }

    /// May this visitor pass? `None` where nothing is asked for.
    pub fn validate(
        &mut self,
        visitor: &Visitor<'_>,
        level: LevelArgument,
        is_navigation: Option<bool>,
        load: Option<i64>,
        now: Now,
    ) -> Option<Validation<'_>> {
        let Self { challenges, core } = self;
        let index = challenges.realm_index(visitor.realm);
        let realm = &challenges.realms()[index];
        let (asked, is_odd_level) = realm.asked(level);
        let asked = asked?;
        let result = match realm.scope.scope(visitor.host) {
            Ok(scope) => {
                let visit = visit(&scope, visitor, now.unix_s);
                let cookies = visitor.all_cookies();
                realm
                    .keys
                    .validate_cookies(&realm.cookies, cookies, asked, &visit)
            }
            Err(_) => Err(Refusal {
                reason: Reason::Host,
                token: None,
            }),
        };
        let (reason, token) = match result {
            Ok(token) => (None, Some(token)),
            Err(refusal) => (Some(refusal.reason), refusal.token),
        };
        let is_cleared = reason.is_none();
        let can_rebind = reason == Some(Reason::Address)
            && token.is_some_and(|token| is_rebindable(realm, &token, now.unix_s));
        let suggested_level = core.suggested_level(realm, index, asked, visitor.address, load, now);
        let is_valid = is_cleared || realm.is_dry_run();
        Some(Validation {
            realm: index,
            is_valid,
            would_challenge: realm.is_dry_run().then_some(!is_cleared),
            reason,
            token,
            token_age_s: token.map_or(0, |token| token.age_s(now.unix_s)),
            can_rebind,
            bot: challenges
                .crawlers
                .judge(visitor.user_agent.unwrap_or_default(), visitor.address),
            suggested_level,
            shown: (!is_valid).then_some(match is_navigation {
                Some(false) => Shown::Json,
                _ => Shown::Page,
            }),
            is_odd_level,
        })
    }

    /// Makes a challenge. `url` is the path and query that a visitor without JavaScript comes back to.
    pub fn issue(
        &mut self,
        visitor: &Visitor<'_>,
        level: LevelArgument,
        load: Option<i64>,
        url: Option<&[u8]>,
        via: Via,
        now: Now,
        out: &mut Answer,
    ) {
        let Self { challenges, core } = self;
        let index = challenges.realm_index(visitor.realm);
        let realm = &challenges.realms()[index];
        out.clear(index);
        let (asked, is_odd_level) = realm.asked(level);
        // The page is there already, whatever the level is now.
        let number = asked.unwrap_or(1);
        let (Ok(scope), Some(level)) = (realm.scope.scope(visitor.host), realm.level(number))
        else {
            refuse(Outcome::Host, None, out);
            out.response.push("}");
            // Nothing was sent that this would be the outcome of.
            out.facts.outcome = None;
            return;
        };
        let visit = visit(&scope, visitor, now.unix_s);
        let mut terms = core.terms(realm, index, number, visitor.address, load, 1, now);
        let is_rebind = core.is_rebind(realm, number, visitor, &visit, now);
        if is_rebind && terms.work != 0 {
            terms.work = (terms.work / REBIND_SHARE).max(1);
        }
        let id = core.next_id();
        out.facts = Facts {
            realm: index,
            status: 200,
            level: Some(number),
            is_rebind,
            is_odd_level,
            ..Facts::default()
        };
        if push_issue(realm, &terms, id, &visit, &mut out.response) {
            out.facts.issued = Some((number, via));
            out.facts.support_id = Some(id.into());
        } else {
            // No key counts any more.
            refuse(Outcome::Mac, Some(PROVIDER_RETRY_S), out);
            out.response.push("}");
            out.facts.outcome = None;
            out.facts.status = 503;
            return;
        }
        if let Some(url) = url
            && realm.no_js() != NoJs::Off
            && level.has_no_js
        {
            push_no_js(challenges.path(), realm, number, id, url, &visit, out);
        }
        tracing::debug!(
            support_id = %SupportId::from(id),
            realm = realm.name(),
            level = number,
            work = terms.work,
            via = via.as_str(),
            is_rebind,
            address = Pseudonym(challenges, visitor.address).log(),
            "challenge issued"
        );
    }

    /// Judges a solution.
    pub fn verify(
        &mut self,
        visitor: &Visitor<'_>,
        body: &[u8],
        now: Now,
        out: &mut Answer,
    ) -> Verification {
        let Self { challenges, core } = self;
        let index = challenges.realm_index(visitor.realm);
        let realm = &challenges.realms()[index];
        out.clear(index);
        let submission = match Submission::parse(body) {
            Ok(submission) => submission,
            Err(failure) => {
                refuse(failure.into(), None, out);
                out.response.push("}");
                return Verification::Done;
            }
        };
        let Ok(scope) = realm.scope.scope(visitor.host) else {
            refuse(Outcome::Host, None, out);
            out.response.push("}");
            return Verification::Done;
        };
        let visit = visit(&scope, visitor, now.unix_s);
        let claimed = submission.claimed();
        let step = realm.keys.open(&submission, &visit).and_then(|opened| {
            // Whoever waits without JavaScript goes by `pass`.
            match opened.challenge().flags.class() {
                Some(Class::NoJs) | None => Err(Failure::Format),
                Some(_) => opened.judge(),
            }
        });
        let failure = match step {
            Ok(Step::Solved(solved)) => {
                out.facts.level = Some(solved.challenge().level);
                match admit(realm, &solved, visitor, &visit, out) {
                    Ok(()) => {
                        log_admitted(challenges, realm, visitor, out);
                        return Verification::Done;
                    }
                    Err(outcome) => Err(outcome),
                }
            }
            Ok(Step::AskProvider(proof)) => match ask(realm, proof, visitor) {
                Some(asking) => return Verification::Ask(asking),
                // A captcha of a level that is none any more: its definition is signed with it.
                None => Err(Outcome::Expired),
            },
            Ok(Step::Derive(job)) => return Verification::Derive(job),
            Err(failure) => Ok(failure),
        };
        let (outcome, retry_s) = match failure {
            Ok(Failure::Early { wait_s }) => (Outcome::Early, Some(wait_s)),
            Ok(failure) => (failure.into(), None),
            Err(outcome) => (outcome, None),
        };
        refuse(outcome, retry_s, out);
        // Only what was signed has a level that can be told: all that fails before has no next.
        if outcome.has_next()
            && let Some(claimed) = claimed
            && realm.level(claimed.level).is_some()
        {
            out.facts.level = Some(claimed.level);
            out.facts.support_id = Some(claimed.id.into());
            let weight = if outcome == Outcome::Work {
                WRONG_WEIGHT
            } else {
                1
            };
            let address = visitor.address;
            let terms = core.terms(realm, index, claimed.level, address, None, weight, now);
            push_next(realm, &terms, core.next_id(), &visit, out);
        }
        out.response.push("}");
        log_refused(challenges, realm, visitor, out);
        Verification::Done
    }

    /// What is kept of a solution while somebody else judges it.
    pub fn defer(&mut self, visitor: &Visitor<'_>, challenge: &Challenge, now: Now) -> Deferred {
        let Self { challenges, core } = self;
        let index = challenges.realm_index(visitor.realm);
        let realm = &challenges.realms()[index];
        let level = challenge.level;
        let terms = core.terms(realm, index, level, visitor.address, None, 0, now);
        Deferred {
            challenges: Arc::clone(challenges),
            realm: index,
            level,
            visitor: OwnedVisitor::of(visitor),
            next: (terms, core.next_id()),
        }
    }

    /// The answer where there is no place for what it takes to judge a solution.
    pub fn refuse_busy(&mut self, visitor: &Visitor<'_>, challenge: &Challenge, out: &mut Answer) {
        let Self { challenges, .. } = self;
        let index = challenges.realm_index(visitor.realm);
        out.clear(index);
        out.facts.level = Some(challenge.level);
        out.facts.support_id = Some(challenge.id.into());
        refuse(Outcome::Busy, Some(BUSY_RETRY_S), out);
        out.response.push("}");
        log_refused(challenges, &challenges.realms()[index], visitor, out);
    }

    /// Admits a visitor without JavaScript who has waited. `query` is what follows the `?`.
    pub fn pass(&mut self, visitor: &Visitor<'_>, query: &[u8], now: Now, out: &mut Answer) {
        let Self { challenges, .. } = self;
        let index = challenges.realm_index(visitor.realm);
        let realm = &challenges.realms()[index];
        out.clear(index);
        match pass(realm, visitor, query, now.unix_s, out) {
            Ok(()) => {
                out.facts.status = 303;
                // A reply that says nothing but where to go.
                out.response.clear();
                log_admitted(challenges, realm, visitor, out);
            }
            Err((outcome, retry_s)) => {
                out.location.clear();
                refuse(outcome, retry_s, out);
                out.response.push("}");
                log_refused(challenges, realm, visitor, out);
            }
        }
    }
}

impl CoreState {
    /// Random bytes that never come again: SipHash under a secret key, of numbers that do not.
    fn next_id(&mut self) -> ChallengeId {
        let halves = [0_u8, 1].map(|half| self.random.hash_one((self.ids, half)));
        self.ids += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&halves[0].to_ne_bytes());
        id[8..].copy_from_slice(&halves[1].to_ne_bytes()[..4]);
        ChallengeId(id)
    }

    /// What a challenge of a level asks for now; `weight` is what it counts for in the visitor's network, 0
    /// for a challenge that may never be made.
    fn terms(
        &mut self,
        realm: &Realm,
        index: usize,
        number: u8,
        address: Option<IpAddr>,
        load: Option<i64>,
        weight: u16,
        now: Now,
    ) -> Terms {
        let Some(level) = realm.level(number) else {
            // Callers have looked for it.
            return Terms::of(number, &realm.levels()[0].level, realm.challenge_ttl_s);
        };
        let mut terms = level.terms(number, realm.challenge_ttl_s);
        let state = &mut self.realms[index];
        if weight != 0 {
            state.rate.note(now.ms);
        }
        let Some(adaptive) = &level.adaptive else {
            return terms;
        };
        let pressure = &mut state.pressures[usize::from(number) - 1];
        let height = pressure.follow(adaptive, state.rate.at(now.ms), load, now.ms);
        let of_load = work_at(terms.work, adaptive.cap, height);
        let count = match address {
            Some(address) if weight != 0 => self.networks.note(address, weight, now.ms),
            Some(address) => self.networks.count(address, now.ms),
            None => 0,
        };
        let shift = doublings(count, adaptive.per_prefix);
        let factor = 1_u32.checked_shl(shift).unwrap_or(u32::MAX);
        terms.work = of_load
            .saturating_mul(factor)
            .min(adaptive.cap.max(terms.work));
        terms
    }

    /// The level that is asked for, and one or two above it where that is pressed.
    fn suggested_level(
        &mut self,
        realm: &Realm,
        index: usize,
        asked: u8,
        address: Option<IpAddr>,
        load: Option<i64>,
        now: Now,
    ) -> u8 {
        let Some(adaptive) = realm.level(asked).and_then(|level| level.adaptive.as_ref()) else {
            return asked;
        };
        let state = &mut self.realms[index];
        let pressure = &mut state.pressures[usize::from(asked) - 1];
        let height = match load {
            Some(_) => pressure.follow(adaptive, state.rate.at(now.ms), load, now.ms),
            None => pressure.at(now.ms),
        };
        let of_load = u32::from(height >= 0.5) + u32::from(height >= 1.0);
        let count = address.map_or(0, |address| self.networks.count(address, now.ms));
        let of_network = doublings(count, adaptive.per_prefix) / 2;
        let steps = of_load.max(of_network.min(2));
        let suggested = u32::from(asked).saturating_add(steps);
        u8::try_from(suggested)
            .unwrap_or(u8::MAX)
            .min(realm.keys.level_count())
    }

    /// Whether the visitor has a token for the level that only the address is wrong of, and has not had it
    /// anew too often.
    fn is_rebind(
        &mut self,
        realm: &Realm,
        level: u8,
        visitor: &Visitor<'_>,
        visit: &Visit<'_>,
        now: Now,
    ) -> bool {
        let cookies = visitor.all_cookies();
        match realm
            .keys
            .validate_cookies(&realm.cookies, cookies, level, visit)
        {
            Err(Refusal {
                reason: Reason::Address,
                token: Some(token),
            }) => {
                is_rebindable(realm, &token, now.unix_s)
                    && self.networks.note_token(token.id, now.ms) <= MAX_REBINDS
            }
            _ => false,
        }
    }
}

fn visit<'a>(scope: &'a Scope<'a>, visitor: &Visitor<'a>, now_unix_s: u64) -> Visit<'a> {
    Visit {
        scope,
        address: visitor.address,
        user_agent: visitor.user_agent,
        tls: visitor.tls,
        now_unix_s,
    }
}

/// Whether a token that only the address is wrong of may be had anew for less work.
fn is_rebindable(realm: &Realm, token: &Token, unix_s: u64) -> bool {
    // Who did nothing for a token has no work to be spared.
    let is_earned = matches!(token.class(), Class::Pow | Class::Pbkdf2 | Class::Captcha);
    is_earned && token.age_s(unix_s) < realm.rebind_max_age_s
}

const fn retry_s(outcome: Outcome) -> Option<u32> {
    match outcome {
        Outcome::Provider => Some(PROVIDER_RETRY_S),
        Outcome::Busy => Some(BUSY_RETRY_S),
        _ => None,
    }
}

/// Begins the reply that refuses; whoever calls it ends it by `}`.
fn refuse(outcome: Outcome, retry_s: Option<u32>, out: &mut Answer) {
    out.facts.outcome = Some(outcome);
    out.facts.status = outcome.status();
    out.token = None;
    out.set_cookie.clear();
    out.response.clear();
    let response = out.response.push("{\"ok\":false,\"code\":\"");
    response.push(outcome.as_str()).push("\"");
    if let Some(retry_s) = retry_s {
        response.push(",\"retry\":").push_number(u64::from(retry_s));
    }
}

/// Adds another challenge to a refusal.
fn push_next(realm: &Realm, terms: &Terms, id: ChallengeId, visit: &Visit<'_>, out: &mut Answer) {
    let before = out.response.len();
    out.response.push(",\"next\":");
    if push_issue(realm, terms, id, visit, &mut out.response) {
        out.facts.issued = Some((terms.level, Via::Next));
    } else {
        out.response.truncate(before);
    }
}

/// Adds the JSON of a challenge; false if there is none to be had.
fn push_issue(
    realm: &Realm,
    terms: &Terms,
    id: ChallengeId,
    visit: &Visit<'_>,
    out: &mut Text<RESPONSE_LEN>,
) -> bool {
    let Some((issued, level)) = realm
        .keys
        .issue(terms, id, visit)
        .zip(realm.level(terms.level))
    else {
        return false;
    };
    let challenge = &issued.challenge;
    out.push("{\"v\":1,\"a\":\"").push(level.algorithm());
    out.push("\",\"ch\":\"").push(issued.as_str()).push("\"");
    if matches!(challenge.algorithm, Algorithm::Sha256 | Algorithm::Pbkdf2) {
        out.push(",\"w\":").push_number(u64::from(challenge.work));
        out.push(",\"k\":").push_number(u64::from(challenge.parts));
    }
    if challenge.algorithm == Algorithm::Pbkdf2 {
        out.push(",\"it\":")
            .push_number(u64::from(challenge.iterations));
    }
    let ttl_s = challenge.expires.saturating_sub(challenge.issued);
    out.push(",\"nb\":").push_number(u64::from(terms.wait_s));
    out.push(",\"ttl\":").push_number(u64::from(ttl_s));
    if let Some(captcha) = &level.captcha {
        out.push(&captcha.members);
    }
    out.push(",\"sid\":\"")
        .push(SupportId::from(id).as_str())
        .push("\"}");
    true
}

/// Answers a solution with its token.
fn admit(
    realm: &Realm,
    solved: &Solved,
    visitor: &Visitor<'_>,
    visit: &Visit<'_>,
    out: &mut Answer,
) -> Result<(), Outcome> {
    let challenge = solved.challenge();
    out.facts.support_id = Some(challenge.id.into());
    let level = realm.level(challenge.level).ok_or(Outcome::Expired)?;
    let duration_s = match challenge.flags.class() {
        Some(Class::NoJs) => realm.no_js_duration_s,
        _ => level.level.duration_s,
    };
    let clearance = realm.keys.clearance(solved, duration_s, visit);
    let (token, text) = clearance.map_err(Outcome::from)?;
    // Whoever takes longer than it lasts would be sent round and round.
    let left_s = token.left_s(visit.now_unix_s);
    if left_s == 0 {
        return Err(Outcome::Expired);
    }
    let kept = realm
        .keys
        .kept(&realm.cookies, visitor.all_cookies(), &token, visit);
    let value = CookieValue::new(&text, kept.as_ref());
    let attributes = CookieAttributes {
        is_secure: visitor.is_secure,
        same_site: realm.same_site,
    };
    out.set_cookie.clear();
    realm
        .cookies
        .set_cookie(attributes, &token, &value, visit, &mut out.set_cookie);
    if let Some(domain) = visit
        .scope
        .shared_domain()
        .filter(|_| token.flags.is_shared())
    {
        out.domain.push("domain=").push(domain).push(";");
    }
    out.token = Some(value);
    out.facts.token_id = Some(token.id);
    out.facts.outcome = Some(Outcome::Ok);
    out.facts.status = Outcome::Ok.status();
    out.facts.solved_in_s = Some(token.age_s(visit.now_unix_s));
    out.response.clear();
    out.response
        .push("{\"ok\":true,\"exp\":")
        .push_number(left_s)
        .push("}");
    Ok(())
}

/// Has the level's provider asked.
fn ask(realm: &Realm, proof: Proof<'_>, visitor: &Visitor<'_>) -> Option<Asking> {
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
fn judge_captcha(
    captcha: &LevelCaptcha,
    scope: &Scope<'_>,
    result: &OutsideResult<'_>,
) -> ProviderOutcome {
    match judge_provider(result) {
        ProviderAnswer::Solved => {}
        ProviderAnswer::Refused(codes) => {
            // That the secret key is wrong is nothing that another captcha helps against.
            if codes.iter().any(|code| code.ends_with("-input-secret")) {
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

/// Adds the URL that a visitor without JavaScript goes on with.
fn push_no_js(
    path: &str,
    realm: &Realm,
    number: u8,
    id: ChallengeId,
    url: &[u8],
    visit: &Visit<'_>,
    out: &mut Answer,
) {
    let url = if is_return_path(url) { url } else { b"/" };
    let terms = Terms {
        level: number,
        algorithm: Algorithm::Wait,
        class: Class::NoJs,
        wait_s: realm.no_js_wait_s,
        ttl_s: realm.challenge_ttl_s,
        work: 0,
        parts: 0,
        iterations: 0,
    };
    let signed = realm.keys.issue(&terms, id, visit).and_then(|issued| {
        let signature = realm.keys.sign_return(&issued, url, visit)?;
        Some((issued, signature))
    });
    let Some((issued, signature)) = signed else {
        return;
    };
    out.no_js_url
        .push(path)
        .push("/pass?c=")
        .push(issued.as_str());
    out.no_js_url.push("&s=").push(signature.as_str());
    out.no_js_url.push("&r=").push_encoded(url);
    out.facts.no_js_wait_s = Some(realm.no_js_wait_s);
}

/// Whether a browser that is sent there stays on the host: a path that begins with one slash, of characters
/// that no browser takes out or turns round.
fn is_return_path(path: &[u8]) -> bool {
    let is_plain = |&byte: &u8| byte.is_ascii_graphic() && !b"\\\"<>".contains(&byte);
    path.len() <= MAX_RETURN_LEN
        && path.first() == Some(&b'/')
        && !matches!(path.get(1), Some(b'/'))
        && path.iter().all(is_plain)
}

fn pass(
    realm: &Realm,
    visitor: &Visitor<'_>,
    query: &[u8],
    unix_s: u64,
    out: &mut Answer,
) -> Result<(), (Outcome, Option<u32>)> {
    let refused = |outcome| (outcome, None);
    let failed = |failure| match failure {
        Failure::Early { wait_s } => (Outcome::Early, Some(wait_s)),
        failure => (failure.into(), None),
    };
    let (mut challenge, mut signature, mut encoded) = (None, None, None);
    for pair in query.split(|&byte| byte == b'&') {
        // Of two of a name neither is what we made.
        let seen = match pair {
            [b'c', b'=', value @ ..] => challenge.replace(value),
            [b's', b'=', value @ ..] => signature.replace(value),
            [b'r', b'=', value @ ..] => encoded.replace(value),
            _ => return Err(refused(Outcome::Format)),
        };
        if seen.is_some() {
            return Err(refused(Outcome::Format));
        }
    }
    let (Some(challenge), Some(signature), Some(encoded)) = (challenge, signature, encoded) else {
        return Err(refused(Outcome::Format));
    };
    let submission = Submission::without_solution(challenge).map_err(failed)?;
    decode(encoded, &mut out.location).ok_or(refused(Outcome::Format))?;
    let scope = realm.scope.scope(visitor.host);
    let scope = scope.map_err(|_| refused(Outcome::Host))?;
    let visit = visit(&scope, visitor, unix_s);
    let opened = realm.keys.open(&submission, &visit).map_err(failed)?;
    out.facts.level = Some(opened.challenge().level);
    out.facts.support_id = Some(opened.challenge().id.into());
    if opened.challenge().flags.class() != Some(Class::NoJs) {
        return Err(refused(Outcome::Format));
    }
    let level = realm.level(opened.challenge().level);
    if realm.no_js() == NoJs::Off || !level.is_some_and(|level| level.has_no_js) {
        return Err(refused(Outcome::Expired));
    }
    let path = out.location.get().unwrap_or_default();
    if !is_return_path(path.as_bytes())
        || !realm
            .keys
            .is_return(&opened, path.as_bytes(), signature, &visit)
    {
        return Err(refused(Outcome::Mac));
    }
    match opened.judge().map_err(failed)? {
        Step::Solved(solved) => admit(realm, &solved, visitor, &visit, out).map_err(refused),
        // A challenge of this class is solved by waiting.
        Step::AskProvider(_) | Step::Derive(_) => Err(refused(Outcome::Format)),
    }
}

/// Decodes what [`Text::push_encoded`] makes; `None` of anything else.
fn decode(encoded: &[u8], out: &mut Text<MAX_RETURN_LEN>) -> Option<()> {
    out.clear();
    let mut rest = encoded;
    while let [byte, after @ ..] = rest {
        rest = after;
        let byte = if *byte == b'%' {
            let [high, low, after @ ..] = after else {
                return None;
            };
            rest = after;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?
        } else {
            *byte
        };
        out.push_ascii(byte);
    }
    out.get().map(|_| ())
}

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

fn log_admitted(challenges: &Challenges, realm: &Realm, visitor: &Visitor<'_>, out: &Answer) {
    tracing::debug!(
        support_id = out.support_id().as_ref().map(SupportId::as_str),
        realm = realm.name(),
        level = out.facts.level,
        solved_in_s = out.facts.solved_in_s,
        address = Pseudonym(challenges, visitor.address).log(),
        "visitor admitted"
    );
}

fn log_refused(challenges: &Challenges, realm: &Realm, visitor: &Visitor<'_>, out: &Answer) {
    tracing::debug!(
        support_id = out.support_id().as_ref().map(SupportId::as_str),
        realm = realm.name(),
        level = out.facts.level,
        result = out.outcome().map(Outcome::as_str),
        address = Pseudonym(challenges, visitor.address).log(),
        "solution refused"
    );
}

impl Deferred {
    /// One line of what became of it.
    pub(super) fn log(&self, out: &Answer) {
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

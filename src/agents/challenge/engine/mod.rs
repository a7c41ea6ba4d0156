//! Decisions: who may pass, what others are asked to do, and what becomes of it.
//!
//! An [`Engine`] is what one core has. It knows no socket and no clock: what it is, who asks and what time
//! it is are arguments, and what takes others or a thread to find out comes back as data.
//!
//! `answer` has what is answered, `deferred` what somebody else judges, `no_js` the way without JavaScript.

mod answer;
mod deferred;
mod log;
mod no_js;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use super::binding::Visit;
use super::challenge::{Challenge, ChallengeId, Failure, Submission, Terms};
use super::crawlers::Bot;
use super::messages::{LevelArgument, Visitor};
use super::puzzle::{Pbkdf2Job, Step};
use super::realm::{Challenges, Realm};
use super::scope::Scope;
use super::token::{Class, Reason, Refusal, Token};
use super::work::{Networks, Pressure, Rate, doublings, work_at};
pub use answer::{Answer, Outcome, ProviderOutcome, Via};
use answer::{BUSY_RETRY_S, Facts, PROVIDER_RETRY_S, admit, push_issue, push_next, refuse};
pub use deferred::{Asking, Deferred};
use deferred::{OwnedVisitor, ask};
use log::{log_admitted, log_issued, log_not_cleared, log_not_issued, log_refused};
use no_js::{pass, push_no_js};

/// Whose token is good but for the address does this part of the work, as long as so much of its time is
/// left.
const REBIND_SHARE: u32 = 16;

/// As often as this may a token be had anew for less work, in about a minute on a core.
const MAX_REBINDS: u32 = 8;

/// Whose network sends more derivations in about a minute on a core gets half of the places for them.
const GREEDY_DERIVATIONS: u32 = 16;

/// A wrong solution counts as so many challenges where networks are counted.
const WRONG_WEIGHT: u16 = 2;

/// What time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The second since 1970.
    pub unix_s: u64,
    /// Milliseconds of a clock that nobody sets, of whatever zero.
    pub ms: u64,
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
    /// In a realm with `dry-run`, whether the visitor would not pass: has no token that is good, and is no
    /// crawler that comes from where it should.
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

/// What whoever asks for a challenge says.
#[derive(Clone, Copy, Debug)]
pub struct IssueRequest<'a> {
    /// The level.
    pub level: LevelArgument,
    /// How busy the site is.
    pub load: Option<i64>,
    /// The path and query that a visitor without JavaScript comes back to.
    pub url: Option<&'a [u8]>,
    /// Where it goes.
    pub via: Via,
}

/// What comes of a solution.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, and nothing is to allocate"
)]
#[must_use = "only `Done` has an answer"]
pub enum Verification {
    /// The answer.
    Done,
    /// A provider is to be asked.
    Ask(Asking),
    /// It takes a thread a while.
    Derive(Pbkdf2Job),
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

/// What work depends on.
struct Asked {
    realm: usize,
    level: u8,
    address: Option<IpAddr>,
    load: Option<i64>,
    now: Now,
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

    /// How hard a level is pressed.
    pub(in crate::agents::challenge) fn pressure(&self, realm: usize, level: u8) -> Pressure {
        let level = usize::from(level).checked_sub(1);
        let pressures = self.core.realms.get(realm).map(|realm| &realm.pressures);
        let pressure = pressures
            .zip(level)
            .and_then(|(pressures, level)| pressures.get(level));
        pressure.copied().unwrap_or_default()
    }

    /// Goes on where another engine left off, which decided by settings before these.
    pub(in crate::agents::challenge) fn press(
        &mut self,
        realm: usize,
        level: usize,
        pressure: Pressure,
    ) {
        let realm = self.core.realms.get_mut(realm);
        if let Some(known) = realm.and_then(|realm| realm.pressures.get_mut(level)) {
            *known = pressure;
        }
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
            && token.is_some_and(|token| is_rebindable(realm, asked, &token, now.unix_s));
        let suggested_level = core.suggested_level(
            realm,
            &Asked {
                realm: index,
                level: asked,
                address: visitor.address,
                load,
                now,
            },
        );
        let is_valid = is_cleared || realm.is_dry_run();
        let bot = challenges
            .crawlers
            .judge(visitor.user_agent.unwrap_or_default(), visitor.address);
        // HAProxy would let in who is known to be a crawler.
        let would_pass = is_cleared || matches!(bot, Bot::Verified(_));
        let validation = Validation {
            realm: index,
            is_valid,
            would_challenge: realm.is_dry_run().then_some(!would_pass),
            reason,
            token,
            token_age_s: token.map_or(0, |token| token.age_s(now.unix_s)),
            can_rebind,
            bot,
            suggested_level,
            shown: (!is_valid).then_some(match is_navigation {
                Some(false) => Shown::Json,
                _ => Shown::Page,
            }),
            is_odd_level,
        };
        log_not_cleared(challenges, realm, visitor, asked, &validation);
        Some(validation)
    }

    /// Makes a challenge.
    pub fn issue(
        &mut self,
        visitor: &Visitor<'_>,
        request: &IssueRequest<'_>,
        now: Now,
        out: &mut Answer,
    ) {
        let Self { challenges, core } = self;
        let index = challenges.realm_index(visitor.realm);
        let realm = &challenges.realms()[index];
        out.clear(index);
        let (asked, is_odd_level) = realm.asked(request.level);
        // The page is there already, whatever the level is now.
        let number = asked.unwrap_or(1);
        let (Ok(scope), Some(level)) = (realm.scope.scope(visitor.host), realm.level(number))
        else {
            refuse(Outcome::Host, None, out);
            out.response.push("}");
            // Nothing was sent that this would be the outcome of.
            out.facts.outcome = None;
            log_not_issued(challenges, realm, visitor);
            return;
        };
        let visit = visit(&scope, visitor, now.unix_s);
        let asked = Asked {
            realm: index,
            level: number,
            address: visitor.address,
            load: request.load,
            now,
        };
        let mut terms = core.terms(realm, &asked, 1);
        let mut id = core.next_id();
        let old = core.rebound(realm, number, visitor, &visit, now);
        if let Some(old) = old.filter(|_| terms.work != 0) {
            terms.work = (terms.work / REBIND_SHARE).max(1);
            terms.anew_of = Some(old.issued);
            // What limits and revokes the old one does so with the new.
            id = id.with_token_id(old.id);
        }
        let is_rebind = old.is_some();
        out.facts = Facts {
            realm: index,
            status: 200,
            level: Some(number),
            is_rebind,
            is_odd_level,
            ..Facts::default()
        };
        if push_issue(realm, &terms, id, &visit, &mut out.response) {
            out.facts.issued = Some((number, request.via));
            out.facts.support_id = Some(id.into());
        } else {
            // No key counts any more: whoever sees to it is on the way.
            refuse(Outcome::Busy, Some(PROVIDER_RETRY_S), out);
            out.response.push("}");
            out.facts.outcome = None;
            return;
        }
        if let Some(url) = request.url
            && level.has_no_js
        {
            push_no_js(challenges.path(), realm, number, id, url, &visit, out);
        }
        log_issued(challenges, realm, visitor, terms.work, request.via, out);
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
                log_refused(challenges, realm, visitor, out);
                return Verification::Done;
            }
        };
        let Ok(scope) = realm.scope.scope(visitor.host) else {
            refuse(Outcome::Host, None, out);
            out.response.push("}");
            log_refused(challenges, realm, visitor, out);
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
            let asked = Asked {
                realm: index,
                level: claimed.level,
                address: visitor.address,
                load: None,
                now,
            };
            let terms = core.terms(realm, &asked, weight);
            push_next(realm, &terms, core.next_id(), &visit, out);
        }
        out.response.push("}");
        log_refused(challenges, realm, visitor, out);
        Verification::Done
    }

    /// Whether a visitor's network has had more derivations verified lately than one is likely to need.
    pub fn is_greedy(&mut self, visitor: &Visitor<'_>, now: Now) -> bool {
        let Some(address) = visitor.address else {
            return false;
        };
        self.core.networks.note_derivation(address, now.ms) > GREEDY_DERIVATIONS
    }

    /// What is kept of a solution while somebody else judges it.
    pub fn defer(&mut self, visitor: &Visitor<'_>, challenge: &Challenge, now: Now) -> Deferred {
        let Self { challenges, core } = self;
        let index = challenges.realm_index(visitor.realm);
        let realm = &challenges.realms()[index];
        let level = challenge.level;
        let asked = Asked {
            realm: index,
            level,
            address: visitor.address,
            load: None,
            now,
        };
        let terms = core.terms(realm, &asked, 0);
        Deferred {
            challenges: Arc::clone(challenges),
            realm: index,
            level,
            support_id: challenge.id.into(),
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
    fn terms(&mut self, realm: &Realm, asked: &Asked, weight: u16) -> Terms {
        let &Asked {
            level: number,
            address,
            load,
            now,
            ..
        } = asked;
        let Some(level) = realm.level(number) else {
            // Callers have looked for it.
            return Terms::of(number, &realm.levels()[0].level, realm.challenge_ttl_s);
        };
        let mut terms = level.terms(number, realm.challenge_ttl_s);
        let per_prefix = level
            .adaptive
            .as_ref()
            .map_or(0, |adaptive| adaptive.per_prefix);
        let count = match address.filter(|_| per_prefix != 0) {
            Some(address) if weight != 0 => self.networks.note(address, weight, now.ms),
            Some(address) => self.networks.count(address, now.ms),
            None => 0,
        };
        let shift = doublings(count, per_prefix);
        let state = &mut self.realms[asked.realm];
        // Who asks for more than a network's share pays for it alone, and does not make all others pay.
        if weight != 0 && shift == 0 {
            state.rate.note(now.ms);
        }
        let Some(adaptive) = &level.adaptive else {
            return terms;
        };
        let pressure = &mut state.pressures[usize::from(number) - 1];
        let height = pressure.follow(adaptive, state.rate.at(now.ms), load, now.ms);
        let of_load = work_at(terms.work, adaptive.cap, height);
        let factor = 1_u32.checked_shl(shift).unwrap_or(u32::MAX);
        terms.work = of_load
            .saturating_mul(factor)
            .min(adaptive.cap.max(terms.work));
        terms
    }

    /// The level that is asked for, and one or two above it where that is pressed.
    fn suggested_level(&mut self, realm: &Realm, asked: &Asked) -> u8 {
        let &Asked {
            level,
            address,
            load,
            now,
            ..
        } = asked;
        let Some(adaptive) = realm.level(level).and_then(|level| level.adaptive.as_ref()) else {
            return level;
        };
        let state = &mut self.realms[asked.realm];
        let pressure = &mut state.pressures[usize::from(level) - 1];
        let height = match load {
            Some(_) => pressure.follow(adaptive, state.rate.at(now.ms), load, now.ms),
            None => pressure.at(now.ms),
        };
        let of_load = u32::from(height >= 0.5) + u32::from(height >= 1.0);
        let count = address.map_or(0, |address| self.networks.count(address, now.ms));
        let of_network = doublings(count, adaptive.per_prefix) / 2;
        let steps = of_load.max(of_network.min(2));
        let suggested = u32::from(level).saturating_add(steps);
        u8::try_from(suggested)
            .unwrap_or(u8::MAX)
            .min(realm.keys.level_count())
    }

    /// The visitor's token for the level that only the address is wrong of, unless it was had anew too often.
    fn rebound(
        &mut self,
        realm: &Realm,
        level: u8,
        visitor: &Visitor<'_>,
        visit: &Visit<'_>,
        now: Now,
    ) -> Option<Token> {
        let cookies = visitor.all_cookies();
        match realm.keys.validate_cookies(
            realm.own_cookies(visitor.is_secure),
            cookies,
            level,
            visit,
        ) {
            Err(Refusal {
                reason: Reason::Address,
                token: Some(token),
            }) => {
                let is_rebound = is_rebindable(realm, level, &token, now.unix_s)
                    && self.networks.note_token(token.id, now.ms) <= MAX_REBINDS;
                is_rebound.then_some(token)
            }
            _ => None,
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
///
/// The new one is over when the old one is, so that one puzzle is good for its time and no longer, however
/// often its visitor moves. Near that end there is little to be had, and all of the work is due.
fn is_rebindable(realm: &Realm, level: u8, token: &Token, unix_s: u64) -> bool {
    // Who did nothing for a token has no work to be spared.
    let is_earned = matches!(token.class(), Class::Pow | Class::Pbkdf2 | Class::Captcha);
    let age_s = token.age_s(unix_s);
    let has_time = realm.level(level).is_some_and(|level| {
        let duration_s = u64::from(level.level.duration_s);
        age_s < duration_s - duration_s / u64::from(REBIND_SHARE)
    });
    is_earned && has_time && age_s < realm.rebind_max_age_s
}

//! What is answered: words, JSON and cookies, in room that is used again.

use super::super::binding::Visit;
use super::super::challenge::{Algorithm, ChallengeId, Failure, Terms};
use super::super::cookie::{CookieAttributes, CookieValue};
use super::super::languages::{Language, OF_PAGE};
use super::super::messages::Visitor;
use super::super::puzzle::Solved;
use super::super::realm::Realm;
use super::super::reply::Text;
use super::super::support_id::SupportId;
use super::super::token::{Class, TokenId};

/// The longest reply, in bytes. The longest keys and URLs of captchas leave room in it.
pub(super) const RESPONSE_LEN: usize = 6144;

/// The longest path with query that visitors without JavaScript are sent back to. From a longer one they
/// go to `/`.
pub(in crate::agents::challenge) const MAX_RETURN_LEN: usize = 1024;

/// Room for such a path percent-encoded, beside a challenge and its signature.
pub(super) const NO_JS_URL_LEN: usize = 4096;

/// When there is no place for another derivation, in seconds.
pub(super) const BUSY_RETRY_S: u32 = 2;

/// When a provider cannot be asked, in seconds.
pub(super) const PROVIDER_RETRY_S: u32 = 5;

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

    pub(in crate::agents::challenge) const fn status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Format => 400,
            Self::Busy | Self::Provider => 503,
            _ => 403,
        }
    }

    /// Whether another challenge is of use to whoever gets this.
    pub(super) const fn has_next(self) -> bool {
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

/// What is answered to a page or a visitor without JavaScript, in room that is used again and again: a
/// refusal allocates nothing.
#[derive(Debug, Default)]
pub struct Answer {
    pub(super) response: Text<RESPONSE_LEN>,
    pub(super) no_js_url: Text<NO_JS_URL_LEN>,
    pub(super) location: Text<MAX_RETURN_LEN>,
    pub(super) domain: Text<272>,
    pub(super) set_cookie: String,
    pub(super) token: Option<CookieValue>,
    pub(super) facts: Facts,
}

/// What an answer is besides texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::agents::challenge) struct Facts {
    pub(in crate::agents::challenge) realm: usize,
    pub(in crate::agents::challenge) status: u16,
    pub(in crate::agents::challenge) level: Option<u8>,
    pub(in crate::agents::challenge) support_id: Option<SupportId>,
    pub(in crate::agents::challenge) token_id: Option<TokenId>,
    pub(in crate::agents::challenge) outcome: Option<Outcome>,
    pub(in crate::agents::challenge) provider: Option<ProviderOutcome>,
    /// A challenge in it.
    pub(in crate::agents::challenge) issued: Option<(u8, Via)>,
    /// Another one, for a visitor without JavaScript.
    pub(in crate::agents::challenge) no_js_wait_s: Option<u32>,
    /// How long the visitor took.
    pub(in crate::agents::challenge) solved_in_s: Option<u64>,
    pub(in crate::agents::challenge) is_rebind: bool,
    pub(in crate::agents::challenge) is_odd_level: bool,
}

impl Answer {
    /// Adds what the page says in the language that a browser asks for, unless that is the one in the page, or
    /// there is no challenge or no room.
    pub fn add_language(&mut self, accept_language: &[u8]) {
        let language =
            Language::asked_for(accept_language).filter(|language| language.code != OF_PAGE);
        let (Some(language), Some(_)) = (language, self.facts.issued) else {
            return;
        };
        let parts = [
            ",\"l\":\"",
            language.code,
            "\",\"t\":\"",
            &language.joined,
            "\"}",
        ];
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len <= self.response.room() && self.response.cut("}") {
            for part in parts {
                self.response.push(part);
            }
        }
    }

    pub(super) fn clear(&mut self, realm: usize) {
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

    pub(in crate::agents::challenge) const fn facts(&self) -> &Facts {
        &self.facts
    }
}

pub(super) const fn retry_s(outcome: Outcome) -> Option<u32> {
    match outcome {
        Outcome::Provider => Some(PROVIDER_RETRY_S),
        Outcome::Busy => Some(BUSY_RETRY_S),
        _ => None,
    }
}

/// Begins the reply that refuses; whoever calls it ends it by `}`.
pub(super) fn refuse(outcome: Outcome, retry_s: Option<u32>, out: &mut Answer) {
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
pub(super) fn push_next(
    realm: &Realm,
    terms: &Terms,
    id: ChallengeId,
    visit: &Visit<'_>,
    out: &mut Answer,
) {
    let before = out.response.len();
    out.response.push(",\"next\":");
    if push_issue(realm, terms, id, visit, &mut out.response) {
        out.facts.issued = Some((terms.level, Via::Next));
    } else {
        out.response.truncate(before);
    }
}

/// Adds the JSON of a challenge; false if there is none to be had.
pub(super) fn push_issue(
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
    let ttl_s = terms.wait_s.saturating_add(terms.ttl_s);
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
pub(super) fn admit(
    realm: &Realm,
    solved: &Solved,
    visitor: &Visitor<'_>,
    visit: &Visit<'_>,
    out: &mut Answer,
) -> Result<(), Outcome> {
    let challenge = solved.challenge();
    out.facts.support_id = Some(challenge.id.into());
    let level = realm.level(challenge.level).ok_or(Outcome::Expired)?;
    let (duration_s, wait_s) = match challenge.flags.class() {
        Some(Class::NoJs) => (realm.no_js_duration_s, realm.no_js_wait_s),
        _ => (level.level.duration_s, level.level.wait_s),
    };
    let clearance = realm.keys.clearance(solved, duration_s, visit);
    let (token, text) = clearance.map_err(Outcome::from)?;
    // Whoever takes longer than it lasts would be sent round and round.
    let left_s = token.left_s(visit.now_unix_s);
    if left_s == 0 {
        return Err(Outcome::Expired);
    }
    let kept = realm.keys.kept(
        realm.own_cookies(visitor.is_secure),
        visitor.all_cookies(),
        &token,
        visit,
    );
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
    // When the challenge was made; a token that is had anew counts from before that.
    let open_s = realm.challenge_ttl_s.saturating_add(wait_s);
    let made = challenge
        .expires
        .saturating_sub(open_s)
        .max(challenge.issued);
    out.facts.solved_in_s = Some(visit.now_unix_s.saturating_sub(u64::from(made)));
    out.response.clear();
    out.response
        .push("{\"ok\":true,\"exp\":")
        .push_number(left_s)
        .push("}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_called_as_its_failure_is() {
        for failure in [
            Failure::Format,
            Failure::Key,
            Failure::Level,
            Failure::Host,
            Failure::Mac,
            Failure::Tls,
            Failure::UserAgent,
            Failure::Address,
            Failure::Future,
            Failure::Expired,
            Failure::Early { wait_s: 1 },
            Failure::Solution,
            Failure::Work,
        ] {
            assert_eq!(Outcome::from(failure).as_str(), failure.code());
            assert_ne!(Outcome::from(failure), Outcome::Ok);
        }
    }

    #[test]
    fn places_in_counters_are_places_in_lists() {
        assert!(
            Outcome::ALL
                .iter()
                .enumerate()
                .all(|(place, &outcome)| outcome as usize == place)
        );
        assert!(
            Via::ALL
                .iter()
                .enumerate()
                .all(|(place, &via)| via as usize == place)
        );
        let mut outcomes = ProviderOutcome::ALL.iter().enumerate();
        assert!(outcomes.all(|(place, &outcome)| outcome as usize == place));
    }
}

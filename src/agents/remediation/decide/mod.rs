//! What becomes of a connection or a request: the decision on its address, then its host's captcha, then
//! AppSec.
//!
//! ```text
//! address --> decision --+-- allow, unknown ----------------------> AppSec --+
//!                        |                      solved |              |      |
//!                        +-- captcha --> cookie, form, provider <-----+      +--> verdict
//!                        |                                        captcha    |
//!                        +-- ban --------------------------------------------+
//! ```
//!
//! Pure: the time and random bytes come in, and so do decisions, which the caller has looked up. Where
//! others have to be asked, an [`Inquiry`] says whom and what, takes the answers in whatever order they
//! come, and has a verdict at any time.

mod inquiry;
mod verdict;

pub use inquiry::{Inquiry, Question};
pub use verdict::{Blocked, CaptchaCount, Counts, Verdict};

use std::net::IpAddr;
use std::sync::Arc;

use super::appsec::{AppSec, AppSecVerdict};
use super::captcha::{CaptchaOutcome, CaptchaStep, CaptchaVisit};
use super::dataset::Remediation;
use super::messages::HttpRequest;
use super::policy::{Host, Policy};

/// What is known of an address before anything else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup<'a> {
    /// The decision that holds for it.
    pub listed: Option<Listed<'a>>,
    /// Its country, by two letters.
    pub country: Option<&'a str>,
}

/// A decision on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// What is to be done.
    pub remediation: Remediation,
    /// The decision's own word for it.
    pub word: &'a str,
    /// Who decided, as counters have it.
    pub origin: &'a str,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Ruling<'a> {
    /// This.
    Now(Verdict<'a>),
    /// Others have to be asked first.
    Ask(Box<Inquiry>),
}

impl Policy {
    /// Decides about a connection. Without an address nothing is set.
    #[must_use]
    pub fn decide_tcp<'a>(&self, address: Option<IpAddr>, lookup: &Lookup<'a>) -> Verdict<'a> {
        let Some(address) = address else {
            return Verdict::without_address(None);
        };
        let lookup = self.lookup(address, lookup);
        let facts = Facts::new(address, None, &lookup);
        Verdict::new(None, &lookup, facts, &Progress::default())
    }

    /// Decides about a request, or says whom to ask first. `random` is called at most once.
    pub fn decide_http<'a>(
        self: &'a Arc<Self>,
        request: &HttpRequest<'_>,
        lookup: &Lookup<'a>,
        now_unix_s: u64,
        random: impl FnOnce() -> [u8; 16],
    ) -> Ruling<'a> {
        let Some(address) = request.address else {
            // What was said of the connection is all there is.
            let said = request.remediation.map(said);
            return Ruling::Now(Verdict::without_address(said));
        };
        let lookup = self.lookup(address, lookup);
        let facts = Facts::new(address, request.remediation, &lookup);
        let seen = request.seen();
        let rank = seen.host.and_then(|host| self.hosts.rank(host));
        let host = rank.and_then(|rank| self.hosts.at(rank));
        let visit = request.captcha_visit(&seen);
        let mut random = Some(random);
        // Each request comes to a captcha once at most: by the decision, or else by AppSec.
        let mut start_captcha = |via| {
            let visit = CaptchaVisit { via, ..visit };
            let random = || random.take().map(|random| random()).unwrap_or_default();
            match host {
                Some(host) => host.captcha.start(&visit, now_unix_s, random),
                // Nothing can show it.
                None => CaptchaStep::Decided(CaptchaOutcome::unshown(Remediation::Ban)),
            }
        };

        let mut progress = Progress::default();
        let mut provider = None;
        if facts.decided == Remediation::Captcha {
            let step = start_captcha(None);
            progress.captcha = Some(step.outcome().clone());
            if let CaptchaStep::AskProvider { request, then } = step {
                provider = Some((request, then));
            }
        } else if facts.decided == Remediation::Allow {
            progress.deletion = host.and_then(|host| deletion(host, &visit, now_unix_s));
        }

        let appsec = host.map_or(self.appsec.as_ref(), |host| host.appsec.as_ref());
        let is_asked = |appsec: &&AppSec| {
            let passes = progress.remediation(facts.decided) < Remediation::Captcha;
            // A visitor who turns out to have solved the captcha is judged as well, then.
            (passes || provider.is_some() || appsec.always_send) && !self.allowed.contains(address)
        };
        let Some(appsec) = appsec.filter(is_asked) else {
            if provider.is_none() {
                return Ruling::Now(Verdict::new(host, &lookup, facts, &progress));
            }
            let inquiry = Inquiry::new(self, rank, &lookup, facts, progress, provider);
            return Ruling::Ask(Box::new(inquiry));
        };
        let is_later = provider.is_some() && !appsec.always_send;
        let if_captcha =
            (facts.decided < Remediation::Captcha).then(|| start_captcha(Some("appsec")));
        let question = appsec.question(&request.inspected());
        let mut inquiry = Inquiry::new(self, rank, &lookup, facts, progress, provider);
        inquiry.set_appsec(question, is_later, if_captcha);
        Ruling::Ask(Box::new(inquiry))
    }

    /// What is known of an address, without the decision on it if it passes whatever is decided.
    fn lookup<'a>(&self, address: IpAddr, lookup: &Lookup<'a>) -> Lookup<'a> {
        let listed = lookup.listed.filter(|_| !self.allowed.contains(address));
        Lookup { listed, ..*lookup }
    }
}

/// What the argument `remediation` says: the word of the message before.
fn said(word: &[u8]) -> Remediation {
    std::str::from_utf8(word).map_or(Remediation::Unknown, Remediation::from_word)
}

/// The `Set-Cookie` that takes a captcha's cookie from a visitor who needs it no more.
fn deletion(host: &Host, visit: &CaptchaVisit<'_>, now_unix_s: u64) -> Option<String> {
    visit.cookie?;
    // AppSec may want the captcha for one request and not for the next: what it asked for stays.
    let is_appsecs = || {
        let captcha = host.captcha.captcha.as_ref()?;
        captcha.claims(visit, now_unix_s)?.via
    };
    if host.appsec.is_some() && is_appsecs().is_some() {
        return None;
    }
    Some(host.captcha.cookie.deletion(visit.is_tls))
}

/// What is known from the start.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// The decision on the address.
    decided: Remediation,
    is_ipv6: bool,
    /// The message before did not count this client.
    is_first: bool,
    /// Nor did it block this client.
    was_allowed: bool,
}

impl Facts {
    fn new(address: IpAddr, remediation: Option<&[u8]>, lookup: &Lookup<'_>) -> Self {
        Self {
            decided: lookup
                .listed
                .map_or(Remediation::Allow, |listed| listed.remediation),
            is_ipv6: address.to_canonical().is_ipv6(),
            is_first: remediation.is_none(),
            was_allowed: remediation.is_none_or(|word| said(word) == Remediation::Allow),
        }
    }
}

/// How far a request has come.
#[derive(Debug, Default)]
struct Progress {
    /// What came of the captcha, once there was reason for one.
    captcha: Option<CaptchaOutcome>,
    /// Whether that reason was AppSec.
    is_appsecs: bool,
    /// What the provider's answer came to.
    solution: Option<CaptchaCount>,
    deletion: Option<String>,
    appsec: Option<AppSecVerdict>,
}

impl Progress {
    /// What is to be done as far as is known.
    fn remediation(&self, decided: Remediation) -> Remediation {
        let base = match &self.captcha {
            Some(captcha) => captcha.remediation,
            None => decided,
        };
        match self.appsec {
            // It is in `captcha` what came of that.
            Some(appsec) if appsec.remediation == Remediation::Captcha => base,
            Some(appsec) => base.max(appsec.remediation),
            None => base,
        }
    }
}

//! What is to be done about a client: variables to set, and what to count.

use super::{Facts, Lookup, Progress};
use crate::agents::remediation::appsec::AppSecFailure;
use crate::agents::remediation::captcha::{Captcha, CaptchaStatus};
use crate::agents::remediation::dataset::Remediation;
use crate::agents::remediation::messages::{
    APPSEC_HTTP_STATUS, CAPTCHA_COOKIE_HEADER, CAPTCHA_FRONTEND_JS, CAPTCHA_FRONTEND_KEY,
    CAPTCHA_SITE_KEY, CAPTCHA_STATUS, CONTACT_US_URL, DECISION_TYPE, ISOCODE, REDIRECT,
    REMEDIATION,
};
use crate::agents::remediation::policy::Host;
use crate::message::Var;

/// The longest word of a decision that is passed on, in bytes.
const MAX_WORD_LEN: usize = 64;

/// What is to be done about a client.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    /// What is to be done; `None` if nobody knows who the client is.
    pub remediation: Option<Remediation>,
    /// The decision's own word, if it is another than that of its remediation.
    pub decision_type: Option<&'a str>,
    /// The client's country.
    pub country: Option<&'a str>,
    /// Where a client that is turned away can complain.
    pub contact_us_url: Option<&'a str>,
    /// The captcha whose page is to be shown, or was solved.
    pub captcha: Option<&'a Captcha>,
    /// How far a visitor is with it.
    pub captcha_status: Option<CaptchaStatus>,
    /// The value of a `Set-Cookie` header.
    pub cookie: Option<String>,
    /// Whether the visitor is to come back with another request.
    pub redirects: bool,
    /// The status that AppSec would have a client get, in digits.
    http_status: Option<[u8; 3]>,
    /// What to count.
    pub counts: Counts<'a>,
}

/// What a verdict adds to counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts<'a> {
    /// Whether the address is one of IPv6; those that are mapped to it are of IPv4.
    pub is_ipv6: bool,
    /// `processed_requests`.
    pub is_processed: bool,
    /// `blocked_requests`, for the decision.
    pub blocked: Option<Blocked<'a>>,
    /// `blocked_requests`, for AppSec: of the origin `appsec`, or `appsec-failure` where it gave no answer.
    pub blocked_by_appsec: Option<Blocked<'a>>,
    /// What came of a captcha, if one was due.
    pub captcha: Option<CaptchaCount>,
    /// What came of asking AppSec, if it was.
    pub appsec: Option<Result<Remediation, AppSecFailure>>,
}

impl Counts<'_> {
    /// The label `ip_type`.
    #[must_use]
    pub const fn ip_type(&self) -> &'static str {
        if self.is_ipv6 { "ipv6" } else { "ipv4" }
    }
}

/// The labels of a request that did not pass, beside its `ip_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked<'a> {
    /// Who decided.
    pub origin: &'a str,
    /// What was decided.
    pub remediation: Remediation,
}

/// What came of a captcha.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CaptchaCount {
    /// It could not be shown: the fallback held.
    NotShown,
    /// It was shown to a visitor who had none.
    Issued,
    /// It was shown again.
    Pending,
    /// The visitor has solved it before.
    Passed,
    /// The visitor has solved it with this request.
    Solved,
    /// The provider did not take the solution.
    Refused,
    /// The provider gave no answer in time.
    TimedOut,
    /// The provider does not know the secret key.
    KeyRefused,
    /// The provider could not be reached, or its answer is of no use.
    Unanswered,
}

impl CaptchaCount {
    /// All of them, in the order of their numbers.
    pub(in crate::agents::remediation) const ALL: [Self; 9] = [
        Self::NotShown,
        Self::Issued,
        Self::Pending,
        Self::Passed,
        Self::Solved,
        Self::Refused,
        Self::TimedOut,
        Self::KeyRefused,
        Self::Unanswered,
    ];

    /// It for a label of a metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotShown => "not_shown",
            Self::Issued => "issued",
            Self::Pending => "pending",
            Self::Passed => "passed",
            Self::Solved => "solved",
            Self::Refused => "refused",
            Self::TimedOut => "timeout",
            Self::KeyRefused => "unauthorized",
            Self::Unanswered => "error",
        }
    }
}

impl<'a> Verdict<'a> {
    /// For a message without an address: only what was said before, if anything.
    pub(super) fn without_address(remediation: Option<Remediation>) -> Self {
        Self {
            remediation,
            decision_type: None,
            country: None,
            contact_us_url: None,
            captcha: None,
            captcha_status: None,
            cookie: None,
            redirects: false,
            http_status: None,
            counts: Counts::default(),
        }
    }

    pub(super) fn new(
        host: Option<&'a Host>,
        lookup: &Lookup<'a>,
        facts: Facts,
        progress: &Progress,
    ) -> Self {
        let remediation = progress.remediation(facts.decided);
        let captcha = progress.captcha.as_ref();
        let blocks = remediation > Remediation::Unknown;
        let listed = lookup.listed;
        // A solved captcha leaves `allow`; what was merely milder at the message before is counted now.
        let blocked = listed.filter(|listed| {
            let is_counted = facts.is_first || facts.was_allowed;
            listed.remediation > Remediation::Unknown
                && remediation > Remediation::Allow
                && is_counted
        });
        let appsec = progress.appsec.filter(|appsec| {
            let raised = match appsec.remediation {
                Remediation::Captcha => progress.is_appsecs,
                said => said > captcha.map_or(facts.decided, |captcha| captcha.remediation),
            };
            raised && blocks
        });
        // What a feed may call a decision is not to be longer than an ACK, nor to begin another header
        // where HAProxy makes one of it.
        let is_word_of_its_own = |word: &&str| {
            listed.is_some_and(|listed| {
                let is_plain = word.len() <= MAX_WORD_LEN && !word.contains(char::is_control);
                *word != listed.remediation.as_str() && is_plain
            })
        };
        let http_status = appsec.and_then(|appsec| appsec.http_status);
        Self {
            remediation: Some(remediation),
            decision_type: listed.map(|listed| listed.word).filter(is_word_of_its_own),
            country: lookup.country,
            contact_us_url: host
                .filter(|_| remediation == Remediation::Ban)
                .map(|host| &*host.contact_us_url),
            captcha: host
                .filter(|_| captcha.is_some_and(|captcha| captcha.has_page))
                .and_then(|host| host.captcha.captcha.as_ref()),
            captcha_status: captcha.and_then(|captcha| captcha.status),
            cookie: captcha
                .and_then(|captcha| captcha.cookie.clone())
                .or_else(|| progress.deletion.clone()),
            redirects: captcha.is_some_and(|captcha| captcha.redirects),
            http_status: http_status.map(|status| {
                [status / 100, status / 10, status]
                    .map(|digit| b"0123456789"[usize::from(digit % 10)])
            }),
            counts: Counts {
                is_ipv6: facts.is_ipv6,
                is_processed: facts.is_first,
                blocked: blocked.map(|listed| Blocked {
                    origin: listed.origin,
                    remediation: listed.remediation,
                }),
                blocked_by_appsec: appsec.map(|appsec| Blocked {
                    origin: match appsec.failure {
                        Some(_) => "appsec-failure",
                        None => "appsec",
                    },
                    remediation: appsec.remediation,
                }),
                captcha: progress.solution.or_else(|| {
                    captcha.map(|captcha| match captcha.status {
                        None => CaptchaCount::NotShown,
                        Some(CaptchaStatus::Valid) => CaptchaCount::Passed,
                        Some(CaptchaStatus::Pending) if captcha.cookie.is_some() => {
                            CaptchaCount::Issued
                        }
                        Some(CaptchaStatus::Pending) => CaptchaCount::Pending,
                    })
                }),
                appsec: progress.appsec.map(|appsec| match appsec.failure {
                    Some(failure) => Err(failure),
                    None => Ok(appsec.remediation),
                }),
            },
        }
    }

    /// The status that AppSec would have a client that does not pass get, if it says one.
    #[must_use]
    pub fn http_status(&self) -> Option<&str> {
        std::str::from_utf8(self.http_status.as_ref()?).ok()
    }

    /// The variables to set and their values.
    pub fn variables(&self) -> impl Iterator<Item = (Var<str>, &str)> {
        let captcha = self.captcha;
        [
            (REMEDIATION, self.remediation.map(Remediation::as_str)),
            (DECISION_TYPE, self.decision_type),
            (ISOCODE, self.country),
            (CONTACT_US_URL, self.contact_us_url),
            (CAPTCHA_SITE_KEY, captcha.map(|captcha| &*captcha.site_key)),
            (
                CAPTCHA_FRONTEND_KEY,
                captcha.map(|captcha| &*captcha.provider.class),
            ),
            (
                CAPTCHA_FRONTEND_JS,
                captcha.map(|captcha| &*captcha.provider.script),
            ),
            (
                CAPTCHA_STATUS,
                self.captcha_status.map(CaptchaStatus::as_str),
            ),
            (CAPTCHA_COOKIE_HEADER, self.cookie.as_deref()),
            (REDIRECT, self.redirects.then_some("1")),
            (APPSEC_HTTP_STATUS, self.http_status()),
        ]
        .into_iter()
        .filter_map(|(variable, value)| Some((variable, value?)))
    }
}

//! What happens to a visitor who is to solve a captcha: a step, and another once the provider answered.

use std::net::IpAddr;

use super::{
    Captcha, CaptchaStatus, Claims, CookieAttributes, HostCaptcha, form_field, is_form, uuid_v4,
};
use crate::agents::common::outside::OutsideRequest;
use crate::agents::common::provider::{Asked, ProviderAnswer};
use crate::agents::remediation::dataset::Remediation;

/// The longest solution that a provider is asked about, in bytes. Those of the known providers have some
/// hundreds to some thousands.
const MAX_SOLUTION_LEN: usize = 16 * 1024;

/// What a captcha needs to know of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptchaVisit<'a> {
    /// The request's method.
    pub method: &'a [u8],
    /// The value of the cookie [`CAPTCHA_COOKIE`](super::CAPTCHA_COOKIE).
    pub cookie: Option<&'a [u8]>,
    /// The value of its `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// Its body.
    pub body: &'a [u8],
    /// The value of its `Host`.
    pub host: &'a [u8],
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// Who wants the captcha, if that is not a decision; noted in tokens that are made.
    pub via: Option<&'static str>,
}

/// What a visitor gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptchaOutcome {
    /// Whether the visitor may pass.
    pub remediation: Remediation,
    /// Whether the variables of the page are set; not if no captcha can be shown.
    pub has_page: bool,
    /// How far the visitor is.
    pub status: Option<CaptchaStatus>,
    /// The value of a `Set-Cookie` header.
    pub cookie: Option<String>,
    /// Whether the visitor has solved it in this very request, and is to come back with another.
    pub redirects: bool,
}

impl CaptchaOutcome {
    /// For where no captcha can be shown: this instead.
    pub(in crate::agents::remediation) const fn unshown(remediation: Remediation) -> Self {
        Self {
            remediation,
            has_page: false,
            status: None,
            cookie: None,
            redirects: false,
        }
    }
}

/// What comes first.
#[derive(Debug)]
pub enum CaptchaStep {
    /// Nobody has to be asked.
    Decided(CaptchaOutcome),
    /// The visitor sent a solution: the provider is asked whether it is one.
    AskProvider {
        /// The question.
        request: OutsideRequest,
        /// What goes on with the answer.
        then: Box<CaptchaAwaiting>,
    },
}

impl CaptchaStep {
    /// What the visitor gets as long as there is no answer.
    #[must_use]
    pub fn outcome(&self) -> &CaptchaOutcome {
        match self {
            Self::Decided(outcome) => outcome,
            Self::AskProvider { then, .. } => then.unanswered(),
        }
    }
}

/// A visitor whose solution is being verified.
#[derive(Debug)]
pub struct CaptchaAwaiting {
    unanswered: CaptchaOutcome,
    /// The token that the visitor gets, but for the times.
    passed: Claims,
    attributes: CookieAttributes,
    is_tls: bool,
}

impl HostCaptcha {
    /// Judges a visitor by the cookie and the request. The random bytes are for the token of a visitor
    /// who has none.
    pub fn start(
        &self,
        visit: &CaptchaVisit<'_>,
        now_unix_s: u64,
        random: impl FnOnce() -> [u8; 16],
    ) -> CaptchaStep {
        let fallback = || CaptchaStep::Decided(CaptchaOutcome::unshown(self.fallback));
        let Some(captcha) = &self.captcha else {
            return fallback();
        };
        let mut outcome = CaptchaOutcome {
            remediation: Remediation::Captcha,
            has_page: true,
            status: Some(CaptchaStatus::Pending),
            cookie: None,
            redirects: false,
        };
        let claims = match captcha.claims(visit, now_unix_s) {
            Some(claims) if claims.st == CaptchaStatus::Valid => {
                outcome.remediation = Remediation::Allow;
                outcome.status = Some(CaptchaStatus::Valid);
                return CaptchaStep::Decided(outcome);
            }
            Some(claims) => claims,
            None => {
                let (net, host) = captcha.binding.claims(visit.address, visit.host);
                let claims = Claims {
                    exp: now_unix_s.saturating_add(captcha.pending_ttl_s),
                    host,
                    iat: now_unix_s,
                    net,
                    st: CaptchaStatus::Pending,
                    uuid: uuid_v4(random()),
                    via: visit.via.map(str::to_owned),
                };
                outcome.cookie = self.cookie.set(&captcha.key.sign(&claims), visit.is_tls);
                if outcome.cookie.is_none() {
                    return fallback();
                }
                claims
            }
        };
        let Some(solution) = captcha.solution(visit) else {
            return CaptchaStep::Decided(outcome);
        };
        let (net, host) = captcha.binding.claims(visit.address, visit.host);
        CaptchaStep::AskProvider {
            request: captcha.question(&solution, visit.address),
            then: Box::new(CaptchaAwaiting {
                unanswered: outcome,
                passed: Claims {
                    net,
                    host,
                    st: CaptchaStatus::Valid,
                    via: visit.via.map(str::to_owned),
                    ..claims
                },
                attributes: self.cookie,
                is_tls: visit.is_tls,
            }),
        }
    }
}

impl Captcha {
    /// The claims of the visitor's cookie, if they count.
    pub(in crate::agents::remediation) fn claims(
        &self,
        visit: &CaptchaVisit<'_>,
        now_unix_s: u64,
    ) -> Option<Claims> {
        let claims = self.key.verify(visit.cookie?, now_unix_s).ok()?;
        let (net, host) = self.binding.claims(visit.address, visit.host);
        let holds = self.binding.holds(&claims, net.as_deref(), host.as_deref());
        holds.then_some(claims)
    }

    /// The visitor's solution, if the request brings one.
    fn solution(&self, visit: &CaptchaVisit<'_>) -> Option<Vec<u8>> {
        if visit.method != b"POST" || !visit.content_type.is_some_and(is_form) {
            return None;
        }
        let solution = form_field(visit.body, &self.provider.field)?;
        (1..=MAX_SOLUTION_LEN)
            .contains(&solution.len())
            .then_some(solution)
    }

    fn question(&self, solution: &[u8], address: Option<IpAddr>) -> OutsideRequest {
        let asked = Asked {
            endpoint: self.endpoint,
            timeout: self.timeout,
            secret_key: &self.secret_key,
        };
        asked.about(solution, address.filter(|_| self.sends_remote_ip))
    }
}

impl CaptchaAwaiting {
    /// What the visitor gets as long as there is no answer.
    #[must_use]
    pub const fn unanswered(&self) -> &CaptchaOutcome {
        &self.unanswered
    }

    /// What the visitor gets now that the provider has answered, or has not. `captcha` is the one that it
    /// began with.
    #[must_use]
    pub fn complete(
        self,
        captcha: &Captcha,
        answer: &ProviderAnswer,
        now_unix_s: u64,
    ) -> CaptchaOutcome {
        if *answer != ProviderAnswer::Solved {
            return self.unanswered;
        }
        let claims = Claims {
            exp: now_unix_s.saturating_add(captcha.passed_ttl_s),
            iat: now_unix_s,
            ..self.passed
        };
        let token = captcha.key.sign(&claims);
        let Some(cookie) = self.attributes.set(&token, self.is_tls) else {
            return self.unanswered;
        };
        CaptchaOutcome {
            remediation: Remediation::Allow,
            status: Some(CaptchaStatus::Valid),
            cookie: Some(cookie),
            redirects: true,
            ..self.unanswered
        }
    }
}

//! Who shows captchas, how a solution is put to them, and what they say to it.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::form::push_field;
use super::outside::{EndpointId, OutsideRequest, OutsideResult};
use super::secret::Secret;

/// The longest answer of a provider that is read, in bytes: a few hundred are usual.
const MAX_ANSWER_LEN: usize = 64 * 1024;

/// A provider: what its page needs, and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// The script of the page: `captcha_frontend_js`.
    pub script: String,
    /// The class of the element that becomes the captcha: `captcha_frontend_key`.
    pub class: String,
    /// The field of the form that has the visitor's solution.
    pub field: String,
    /// Where a solution is verified.
    pub verify_url: String,
}

/// Name, script, class and verification of the providers that are known; the field is the class with
/// `-response` behind it.
const PROVIDERS: [[&str; 4]; 3] = [
    [
        "hcaptcha",
        "https://hcaptcha.com/1/api.js",
        "h-captcha",
        "https://api.hcaptcha.com/siteverify",
    ],
    [
        "recaptcha",
        "https://www.google.com/recaptcha/api.js",
        "g-recaptcha",
        "https://www.google.com/recaptcha/api/siteverify",
    ],
    [
        "turnstile",
        "https://challenges.cloudflare.com/turnstile/v0/api.js",
        "cf-turnstile",
        "https://challenges.cloudflare.com/turnstile/v0/siteverify",
    ],
];

impl Provider {
    /// One of the providers that are known: `hcaptcha`, `recaptcha` (version 2) and `turnstile`.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        let [_, script, class, verify_url] =
            PROVIDERS.into_iter().find(|[known, ..]| *known == name)?;
        Some(Self {
            script: script.to_owned(),
            class: class.to_owned(),
            field: format!("{class}-response"),
            verify_url: verify_url.to_owned(),
        })
    }
}

/// How a provider is asked.
pub(in crate::agents) struct Asked<'a> {
    pub(in crate::agents) endpoint: EndpointId,
    pub(in crate::agents) timeout: Duration,
    pub(in crate::agents) secret_key: &'a Secret,
}

impl Asked<'_> {
    /// The question whether this solves a captcha, with the visitor's address if that is to be told.
    pub(in crate::agents) fn about(
        &self,
        solution: &[u8],
        address: Option<IpAddr>,
    ) -> OutsideRequest {
        let mut request = OutsideRequest::new(self.endpoint, self.timeout, MAX_ANSWER_LEN);
        request.is_post = true;
        request.push_header(b"content-type", b"application/x-www-form-urlencoded");
        request.push_header(b"accept", b"application/json");
        let mut form = Vec::with_capacity(solution.len() + 128);
        push_field(&mut form, "secret", self.secret_key.reveal().as_bytes());
        push_field(&mut form, "response", solution);
        if let Some(address) = address {
            push_field(&mut form, "remoteip", address.to_string().as_bytes());
        }
        request.body = form.into();
        request
    }
}

/// What a provider says to a solution.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProviderAnswer {
    /// It is one.
    Solved,
    /// It is none, for these reasons; `invalid-input-secret` among them is the operator's.
    Refused(Vec<String>),
    /// Nothing that can be read, or nothing at all.
    Unusable(&'static str),
}

impl ProviderAnswer {
    /// Whether it is the secret key that the provider does not take, whatever the solution.
    #[must_use]
    pub fn is_of_wrong_key(&self) -> bool {
        match self {
            Self::Refused(codes) => codes.iter().any(|code| code.ends_with("-input-secret")),
            _ => false,
        }
    }
}

/// Reads a provider's answer. Its status does not count, as some send errors with 200 and some do not.
#[must_use]
pub fn judge_provider(result: &OutsideResult<'_>) -> ProviderAnswer {
    #[derive(Deserialize)]
    struct Verification {
        success: bool,
        #[serde(default, rename = "error-codes")]
        error_codes: Option<Vec<String>>,
    }
    use ProviderAnswer::{Refused, Solved, Unusable};
    const JSON: &[u8] = b"application/json";
    let Ok(answer) = result else {
        return Unusable("it gave no answer");
    };
    let content_type = answer.content_type.unwrap_or_default();
    let mut windows = content_type.windows(JSON.len());
    if !windows.any(|window| window.eq_ignore_ascii_case(JSON)) {
        return Unusable("its answer is not of type application/json");
    }
    if answer.body.len() > MAX_ANSWER_LEN {
        return Unusable("its answer is too long");
    }
    match serde_json::from_slice::<Verification>(answer.body) {
        Err(_) => Unusable("its answer is not the JSON of a verification"),
        Ok(Verification { success: true, .. }) => Solved,
        Ok(Verification { error_codes, .. }) => {
            // As many and as long as a log line takes.
            let codes = error_codes.unwrap_or_default().into_iter().take(8);
            Refused(codes.map(|code| code.chars().take(64).collect()).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_providers() {
        for (name, class, field) in [
            ("hcaptcha", "h-captcha", "h-captcha-response"),
            ("recaptcha", "g-recaptcha", "g-recaptcha-response"),
            ("turnstile", "cf-turnstile", "cf-turnstile-response"),
        ] {
            let provider = Provider::known(name).unwrap();
            assert_eq!((&*provider.class, &*provider.field), (class, field));
            assert!(provider.script.starts_with("https://"));
            assert!(provider.verify_url.ends_with("/siteverify"));
        }
        assert_eq!(Provider::known("HCaptcha"), None);
    }
}

//! Who shows captchas and says whether they were solved.

use crate::agents::remediation::problem::{Problems, shown};
use crate::agents::remediation::settings::CustomProviderSettings;

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

    /// The provider that settings name, or `None` where they name none, which is then said.
    pub(super) fn of_settings(
        name: Option<&str>,
        custom: Option<&CustomProviderSettings>,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let name = name.unwrap_or_default();
        if name != "custom" {
            if custom.is_some() {
                problems.warning("captcha.custom", "is not used: the provider is not custom");
            }
            let provider = Self::known(name);
            if provider.is_none() {
                problems.error(
                    "captcha.provider",
                    format_args!(
                        "is {}: want hcaptcha, recaptcha, turnstile or custom",
                        shown(name)
                    ),
                );
            }
            return provider;
        }
        let custom = custom.cloned().unwrap_or_default();
        let mut text = |key: &str, text: Option<String>, is_url: bool| {
            let key = format!("captcha.custom.{key}");
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                problems.error(&key, "is missing, which a custom provider needs");
                return None;
            };
            let is_http = text.starts_with("https://") || text.starts_with("http://");
            if is_url && !is_http {
                let url = shown(&text);
                problems.error(&key, format_args!("is {url}: want an http or https URL"));
                return None;
            }
            problems.is_fit_for_page(&key, &text).then_some(text)
        };
        // Each is read, so that one look at the log is enough.
        let script = text("script", custom.script, true);
        let class = text("class", custom.class, false);
        let field = text("field", custom.field, false);
        let verify_url = text("url", custom.url, true);
        Some(Self {
            script: script?,
            class: class?,
            field: field?,
            verify_url: verify_url?,
        })
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

    #[test]
    fn a_custom_provider_says_all_four() {
        let custom = CustomProviderSettings {
            script: Some("https://captcha.example/api.js".to_owned()),
            class: Some("our-captcha".to_owned()),
            field: Some("our-captcha-response".to_owned()),
            url: Some("captcha.example/verify".to_owned()),
        };
        let read = |custom: &CustomProviderSettings| {
            let mut found = Vec::new();
            let mut problems = Problems::new("host 1", &mut found);
            let provider = Provider::of_settings(Some("custom"), Some(custom), &mut problems);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            (provider, found.join("\n"))
        };
        let (provider, found) = read(&custom);
        assert_eq!(provider, None);
        assert!(
            found
                .contains("host 1: captcha.custom.url is \"captcha.example/verify\": want an http"),
            "{found}"
        );
        let (provider, found) = read(&CustomProviderSettings {
            url: Some("https://captcha.example/verify".to_owned()),
            ..custom.clone()
        });
        assert_eq!(
            (provider.unwrap().class, found),
            ("our-captcha".to_owned(), String::new())
        );
        let (provider, found) = read(&CustomProviderSettings {
            class: Some("x\" onload=\"".to_owned()),
            script: None,
            ..custom
        });
        assert_eq!(provider, None);
        assert!(found.contains("custom.script is missing") && found.contains("custom.class has"));
    }
}

//! The provider that settings of a captcha name.

use crate::agents::common::provider::Provider;
use crate::agents::remediation::problem::{Problems, shown};
use crate::agents::remediation::settings::CustomProviderSettings;

/// The provider that settings name, or `None` where they name none, which is then said.
pub(super) fn provider_of_settings(
    name: Option<&str>,
    custom: Option<&CustomProviderSettings>,
    problems: &mut Problems<'_>,
) -> Option<Provider> {
    let name = name.unwrap_or_default();
    if name != "custom" {
        if custom.is_some() {
            problems.warning("captcha.custom", "is not used: the provider is not custom");
        }
        let provider = Provider::known(name);
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
    let missing: Vec<&str> = [
        ("script", &custom.script),
        ("class", &custom.class),
        ("field", &custom.field),
        ("url", &custom.url),
    ]
    .into_iter()
    .filter(|(_, text)| text.as_ref().is_none_or(String::is_empty))
    .map(|(key, _)| key)
    .collect();
    if !missing.is_empty() {
        let text = format!(
            "lacks {}: want script (the URL of the page's script), class (of the element that it fills), \
             field (of the form, that has the solution) and url (that verifies it)",
            missing.join(", ")
        );
        problems.error("captcha.custom", text);
    }
    let mut text = |key: &str, text: Option<String>, is_url: bool| {
        let key = format!("captcha.custom.{key}");
        let text = text.filter(|text| !text.is_empty())?;
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
    Some(Provider {
        script: script?,
        class: class?,
        field: field?,
        verify_url: verify_url?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let provider = provider_of_settings(Some("custom"), Some(custom), &mut problems);
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
        assert!(
            found.contains("custom lacks script: want script (")
                && found.contains("custom.class has")
        );
        // All at once.
        let (provider, found) = read(&CustomProviderSettings::default());
        assert_eq!(provider, None);
        assert!(found.starts_with("host 1: captcha.custom lacks script, class, field, url: want"));
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

//! The settings of hosts as a configuration file has them, before they are checked.
//!
//! Nothing here fails because a value is wrong: what is wrong is said when settings become a
//! [`Host`](super::Host), with the place it is at. Only a key that is none is refused at once: one that was
//! misspelt would be missed by nobody before its day. Keys may have `_` for `-`.

use serde::Deserialize;

use crate::agents::common::secret::{Secret, text};

/// One element of `hosts`, or a file of `hosts_dir`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostSettings {
    /// The pattern of its names: see [`HostPattern`](super::HostPattern).
    #[serde(deserialize_with = "text")]
    pub host: Option<String>,
    /// The captcha its visitors get. Without it they are turned away instead, or let through.
    pub captcha: Option<CaptchaSettings>,
    /// What those that are turned away get to see.
    pub ban: Option<BanSettings>,
    /// Its own AppSec, instead of the one of all hosts.
    pub appsec: Option<AppSecSettings>,
}

/// What `captcha` of a host says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaptchaSettings {
    /// `hcaptcha`, `recaptcha`, `turnstile`, or `custom`.
    #[serde(deserialize_with = "text")]
    pub provider: Option<String>,
    /// What the page needs.
    #[serde(deserialize_with = "text", alias = "site_key")]
    pub site_key: Option<String>,
    /// What asking the provider needs.
    #[serde(alias = "secret_key")]
    pub secret_key: Option<Secret>,
    /// What cookies are signed with, 32 bytes or more.
    #[serde(alias = "signing_key")]
    pub signing_key: Option<Secret>,
    /// What holds where no captcha can be shown: `ban`, the default, or `allow`.
    #[serde(deserialize_with = "text", alias = "fallback_remediation")]
    pub fallback_remediation: Option<String>,
    /// How long the provider has, in whole seconds: 5 by default, 300 at most.
    pub timeout: Option<i64>,
    /// How long a visitor has to solve it: 30m by default.
    #[serde(deserialize_with = "text", alias = "pending_ttl")]
    pub pending_ttl: Option<String>,
    /// How long a solved one lasts: 24h by default.
    #[serde(deserialize_with = "text", alias = "passed_ttl")]
    pub passed_ttl: Option<String>,
    /// The cookie's attributes.
    pub cookie: Option<CookieSettings>,
    /// With `provider: custom`, what it is.
    pub custom: Option<CustomProviderSettings>,
    /// Tell the provider the visitor's address; it is not told by default.
    #[serde(alias = "send_remote_ip")]
    pub send_remote_ip: Option<bool>,
    /// What a solved captcha is tied to; to nothing by default.
    pub binding: Option<BindingSettings>,
}

/// What `captcha.cookie` of a host says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CookieSettings {
    /// `auto`, the default: over TLS; `always` or `never`.
    #[serde(deserialize_with = "text")]
    pub secure: Option<String>,
    /// Keep it from scripts, which is the default.
    #[serde(alias = "http_only")]
    pub http_only: Option<bool>,
}

/// A provider that speaks the protocol of the others: a form of `secret` and `response`, answered by
/// JSON with `success`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CustomProviderSettings {
    /// The URL of the script on the page.
    #[serde(deserialize_with = "text")]
    pub script: Option<String>,
    /// The class of the element that the script makes its own.
    #[serde(deserialize_with = "text")]
    pub class: Option<String>,
    /// The field of the form that has the visitor's solution. The page sends the form once a field
    /// whose name ends in `-response` is filled.
    #[serde(deserialize_with = "text")]
    pub field: Option<String>,
    /// The URL that says whether it is one.
    #[serde(deserialize_with = "text")]
    pub url: Option<String>,
}

/// What `captcha.binding` of a host says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BindingSettings {
    /// A solved captcha counts for addresses of the same network alone.
    pub address: Option<bool>,
    /// How long that network's prefix is for IPv4: 24 by default.
    #[serde(alias = "ipv4_prefix_len")]
    pub ipv4_prefix_len: Option<i64>,
    /// The same for IPv6: 64 by default.
    #[serde(alias = "ipv6_prefix_len")]
    pub ipv6_prefix_len: Option<i64>,
    /// A solved captcha counts for the name of the host it was solved on alone.
    pub host: Option<bool>,
    /// Refuse cookies that are tied to nothing, as those from before this was set.
    pub strict: Option<bool>,
}

/// What `ban` of a host says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BanSettings {
    /// Where those that were turned away can complain.
    #[serde(deserialize_with = "text", alias = "contact_us_url")]
    pub contact_us_url: Option<String>,
}

/// What `appsec` of a host says, or the settings of all hosts' AppSec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AppSecSettings {
    /// Where it is. Without it, a host has the AppSec of all hosts.
    #[serde(deserialize_with = "text")]
    pub url: Option<String>,
    /// Its key; without it, that of all hosts.
    #[serde(alias = "api_key")]
    pub api_key: Option<Secret>,
    /// How long it has: 200ms by default.
    #[serde(deserialize_with = "text")]
    pub timeout: Option<String>,
    /// Ask it also about those that are turned away already.
    #[serde(alias = "always_send")]
    pub always_send: Option<bool>,
    /// What holds where it gives no answer: `passthrough`, the default, `deny` or `captcha`.
    #[serde(deserialize_with = "text", alias = "failure_action")]
    pub failure_action: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_may_lack_anything_and_have_nothing_more() {
        let settings: HostSettings = serde_json::from_str(
            r#"{
                "host": "shop.example", "ban": null,
                "captcha": {
                    "provider": "hcaptcha", "site_key": 12345, "signing_key": null,
                    "secret-key": "hidden",
                    "cookie": { "secure": false }
                },
                "appsec": { "timeout": null, "always_send": true }
            }"#,
        )
        .unwrap();
        let captcha = settings.captcha.clone().unwrap();
        assert_eq!(captcha.site_key.as_deref(), Some("12345"));
        assert_eq!(captcha.signing_key, None);
        assert_eq!(captcha.cookie.unwrap().secure.as_deref(), Some("false"));
        assert_eq!(captcha.secret_key.unwrap().reveal(), "hidden");
        assert!(settings.ban.is_none());
        assert!(!format!("{settings:?}").contains("hidden"));
        for text in [
            r#"{"zzz-key": 1}"#,
            r#"{"ban": {"zzz-key": 1}}"#,
            r#"{"appsec": {"zzz-key": 1}}"#,
            r#"{"captcha": {"zzz-key": 1}}"#,
            r#"{"captcha": {"cookie": {"zzz-key": 1}}}"#,
            r#"{"captcha": {"custom": {"zzz-key": 1}}}"#,
            r#"{"captcha": {"binding": {"zzz-key": 1}}}"#,
        ] {
            let error = serde_json::from_str::<HostSettings>(text).unwrap_err();
            assert!(
                error.to_string().contains("unknown field `zzz-key`"),
                "{error}"
            );
        }
    }
}

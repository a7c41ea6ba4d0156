//! The captcha that stands between a suspicious visitor and a host.
//!
//! `provider` reads who shows it, `token` and `cookie` know what a visitor keeps of it, `flow` what happens
//! when. How a solution comes and goes is not of this captcha alone, and in the rooms above. All state is in the visitor's cookie: any instance with the
//! same key goes on where another left off.

mod cookie;
mod flow;
mod provider;
mod token;

pub use cookie::{CAPTCHA_COOKIE, CookieAttributes, SecureCookie};
pub use flow::{CaptchaAwaiting, CaptchaOutcome, CaptchaStep, CaptchaVisit};
pub use token::{CaptchaStatus, Claims, TokenError, TokenKey, uuid_v4};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::dataset::Remediation;
use super::problem::{Problems, shown};
use super::settings::{BindingSettings, CaptchaSettings};
use crate::agents::common::form::{form_field, is_form};
use crate::agents::common::hosts::host_name;
use crate::agents::common::outside::{EndpointId, EndpointKind, Endpoints};
use crate::agents::common::provider::Provider;
use crate::agents::common::secret::Secret;

use provider::provider_of_settings;

const DEFAULT_TIMEOUT_S: i64 = 5;
const MAX_TIMEOUT_S: i64 = 300;
const DEFAULT_PENDING_TTL: Duration = Duration::from_secs(30 * 60);
const DEFAULT_PASSED_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// What a host does where a captcha is due.
#[derive(Clone, Debug)]
pub struct HostCaptcha {
    /// The captcha; without one the fallback holds.
    pub captcha: Option<Captcha>,
    /// What holds where no captcha can be shown: ban or allow.
    pub fallback: Remediation,
    /// The attributes of the cookie, also of one that is taken away.
    pub cookie: CookieAttributes,
}

impl Default for HostCaptcha {
    fn default() -> Self {
        Self {
            captcha: None,
            fallback: Remediation::Ban,
            cookie: CookieAttributes::default(),
        }
    }
}

/// A captcha that can be shown and verified.
#[derive(Clone, Debug)]
pub struct Captcha {
    /// Who shows it.
    pub provider: Provider,
    /// What the page needs: `captcha_site_key`.
    pub site_key: String,
    /// What signs cookies.
    pub key: TokenKey,
    /// How long a visitor has to solve it, in seconds.
    pub pending_ttl_s: u64,
    /// How long a solved one lasts, in seconds.
    pub passed_ttl_s: u64,
    /// How long the provider has.
    pub timeout: Duration,
    /// What a solved one is tied to.
    pub binding: Binding,
    /// Whether the provider is told the visitor's address.
    pub sends_remote_ip: bool,
    secret_key: Secret,
    endpoint: EndpointId,
}

impl HostCaptcha {
    pub(super) fn of_settings(
        settings: &CaptchaSettings,
        endpoints: &mut Endpoints,
        problems: &mut Problems<'_>,
    ) -> Self {
        let fallback = match settings.fallback_remediation.as_deref() {
            None | Some("" | "ban") => Remediation::Ban,
            Some("allow") => Remediation::Allow,
            Some(other) => {
                let other = shown(other);
                problems.error(
                    "captcha.fallback_remediation",
                    format_args!("is {other}, for which ban is used: want ban or allow"),
                );
                Remediation::Ban
            }
        };
        let cookie = CookieAttributes::of_settings(settings.cookie.as_ref(), problems);
        let captcha = Captcha::of_settings(settings, endpoints, problems);
        if captcha.is_none() {
            problems.error(
                "captcha",
                format_args!("cannot be shown: visitors get the remediation {fallback} instead"),
            );
        }
        Self {
            captcha,
            fallback,
            cookie,
        }
    }
}

impl Captcha {
    fn of_settings(
        settings: &CaptchaSettings,
        endpoints: &mut Endpoints,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        // Everything is read, so that one look at the log is enough.
        let name = settings.provider.as_deref();
        let provider = provider_of_settings(name, settings.custom.as_ref(), problems);
        let site_key = settings.site_key.clone().unwrap_or_default();
        let has_site_key = if site_key.is_empty() {
            problems.error("captcha.site_key", "is missing: the provider gives it");
            false
        } else {
            problems.is_fit_for_page("captcha.site_key", &site_key)
        };
        let secret_key = settings.secret_key.clone().unwrap_or_default();
        let has_secret_key = !secret_key.reveal().is_empty();
        if !has_secret_key {
            problems.error("captcha.secret_key", "is missing: the provider gives it");
        }
        let signing_key = settings.signing_key.clone().unwrap_or_default();
        let key = TokenKey::new(&signing_key);
        if key.is_none() {
            problems.error(
                "captcha.signing_key",
                format_args!(
                    "has {} of the {} bytes that it needs: make one with `openssl rand -hex 32`, and \
                     give the same to all instances",
                    signing_key.reveal().len(),
                    TokenKey::MIN_LEN
                ),
            );
        }
        let seconds = match settings.timeout {
            None => DEFAULT_TIMEOUT_S,
            Some(seconds) if seconds <= 0 => {
                let text = format!("is {seconds}: {DEFAULT_TIMEOUT_S} seconds are used");
                problems.warning("captcha.timeout", text);
                DEFAULT_TIMEOUT_S
            }
            Some(seconds) if seconds > MAX_TIMEOUT_S => {
                let text = format!("is {seconds}: the most, {MAX_TIMEOUT_S} seconds, is used");
                problems.warning("captcha.timeout", text);
                MAX_TIMEOUT_S
            }
            Some(seconds) => seconds,
        };
        let timeout = Duration::from_secs(seconds.unsigned_abs());
        let mut ttl_s = |key, text: &Option<String>, default| {
            let ttl = problems.duration(key, text.as_deref(), default);
            // A part of a second would be none.
            ttl.as_secs().max(1)
        };
        let pending_ttl_s = ttl_s(
            "captcha.pending_ttl",
            &settings.pending_ttl,
            DEFAULT_PENDING_TTL,
        );
        let passed_ttl_s = ttl_s(
            "captcha.passed_ttl",
            &settings.passed_ttl,
            DEFAULT_PASSED_TTL,
        );
        let binding = Binding::of_settings(settings.binding.as_ref(), problems);
        let (provider, key) = (provider?, key?);
        (has_site_key && has_secret_key).then(|| Self {
            endpoint: endpoints.add(EndpointKind::Captcha, &provider.verify_url, timeout),
            provider,
            site_key,
            key,
            pending_ttl_s,
            passed_ttl_s,
            timeout,
            binding,
            sends_remote_ip: settings.send_remote_ip.unwrap_or(false),
            secret_key,
        })
    }
}

/// What tokens are tied to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The lengths of the prefixes of IPv4 and IPv6, if they are tied to an address.
    pub prefix_len: Option<(u8, u8)>,
    /// Whether they are tied to the name of the host.
    pub to_host: bool,
    /// Whether tokens that are tied to nothing are refused.
    pub is_strict: bool,
}

impl Binding {
    fn of_settings(settings: Option<&BindingSettings>, problems: &mut Problems<'_>) -> Self {
        let Some(settings) = settings else {
            return Self::default();
        };
        let mut prefix_len = |key: &str, given: Option<i64>, default: u8, width: u8| {
            let Some(given) = given else {
                return default;
            };
            match u8::try_from(given) {
                Ok(len) if len <= width => len,
                _ => {
                    let text = format!("is {given}, not from 0 to {width}: {default} is used");
                    problems.warning(&format!("captcha.binding.{key}"), text);
                    default
                }
            }
        };
        let v4 = prefix_len("ipv4_prefix_len", settings.ipv4_prefix_len, 24, 32);
        let v6 = prefix_len("ipv6_prefix_len", settings.ipv6_prefix_len, 64, 128);
        let is_strict = settings.strict.unwrap_or(false);
        let binding = Self {
            prefix_len: settings.address.unwrap_or(false).then_some((v4, v6)),
            to_host: settings.host.unwrap_or(false),
            is_strict,
        };
        if is_strict && binding.prefix_len.is_none() && !binding.to_host {
            problems.warning(
                "captcha.binding.strict",
                "has no effect: neither address nor host is set beside it",
            );
        }
        binding
    }

    /// The claims `net` and `host` of a visitor's tokens.
    fn claims(&self, address: Option<IpAddr>, host: &[u8]) -> (Option<String>, Option<String>) {
        let net = self.prefix_len.zip(address).map(|(prefix_len, address)| {
            let (network, len) = network(address, prefix_len);
            format!("{network}/{len}")
        });
        let host = self.to_host.then(|| {
            // A name of a host is shorter; what is longer is cut, which makes it another one at most.
            let name = host_name(host);
            let name = &name[..name.len().min(255)];
            String::from_utf8_lossy(name).to_ascii_lowercase()
        });
        (net, host)
    }

    /// Whether a token with these claims is this visitor's.
    fn holds(&self, claims: &Claims, net: Option<&str>, host: Option<&str>) -> bool {
        let fits = |is_on: bool, claim: Option<&str>, own: Option<&str>| match claim {
            _ if !is_on => true,
            None => !self.is_strict,
            claim => claim == own,
        };
        fits(self.prefix_len.is_some(), claims.net.as_deref(), net)
            && fits(self.to_host, claims.host.as_deref(), host)
    }
}

/// The first address of an address's network, and the length of its prefix.
fn network(address: IpAddr, (v4_len, v6_len): (u8, u8)) -> (IpAddr, u8) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let host_mask = u32::MAX.checked_shr(u32::from(v4_len)).unwrap_or(0);
            let first = Ipv4Addr::from_bits(address.to_bits() & !host_mask);
            (IpAddr::V4(first), v4_len)
        }
        IpAddr::V6(address) => {
            let host_mask = u128::MAX.checked_shr(u32::from(v6_len)).unwrap_or(0);
            let first = Ipv6Addr::from_bits(address.to_bits() & !host_mask);
            (IpAddr::V6(first), v6_len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::remediation::problem::Problem;

    fn read(json: &str) -> (HostCaptcha, Endpoints, Vec<Problem>) {
        let settings = serde_json::from_str(json).unwrap();
        let (mut endpoints, mut found) = (Endpoints::default(), Vec::new());
        let mut problems = Problems::new("host 1", &mut found);
        let captcha = HostCaptcha::of_settings(&settings, &mut endpoints, &mut problems);
        (captcha, endpoints, found)
    }

    #[test]
    fn the_least_there_has_to_be() {
        let (host, endpoints, found) = read(
            r#"{ "provider": "turnstile", "site_key": "1x", "secret_key": "2x",
                 "signing_key": "0123456789abcdef0123456789abcdef" }"#,
        );
        assert_eq!(found, []);
        assert_eq!(host.fallback, Remediation::Ban);
        let captcha = host.captcha.unwrap();
        assert_eq!(
            (captcha.pending_ttl_s, captcha.passed_ttl_s),
            (1_800, 86_400)
        );
        assert_eq!(captcha.timeout, Duration::from_secs(5));
        assert_eq!(captcha.binding, Binding::default());
        assert!(!captcha.sends_remote_ip);
        assert_eq!(endpoints.0[0].url, captcha.provider.verify_url);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let (host, endpoints, found) = read(
            r#"{ "provider": "cloudflare", "site_key": "\"><script>", "signing_key": "short",
                 "fallback_remediation": "allow", "timeout": 900, "pending_ttl": "30",
                 "passed_ttl": "7d", "cookie": { "secure": "yes" },
                 "binding": { "strict": true, "address": false, "ipv4_prefix_len": 33 } }"#,
        );
        assert!(host.captcha.is_none() && endpoints.0.is_empty());
        assert_eq!(host.fallback, Remediation::Allow);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        for (index, start) in [
            "host 1: captcha.cookie.secure is \"yes\", which counts as never",
            "host 1: captcha.provider is \"cloudflare\": want hcaptcha",
            "host 1: captcha.site-key has the character '\"'",
            "host 1: captcha.secret-key is missing",
            "host 1: captcha.signing-key has 5 of the 32 bytes",
            "host 1: captcha.timeout is 900: the most, 300",
            "host 1: captcha.pending-ttl \"30\" is not a duration, as in 4h, 1h30m or 90s: 1800s is used",
            "host 1: captcha.binding.ipv4-prefix-len is 33, not from 0 to 32: 24 is used",
            "host 1: captcha.binding.strict has no effect",
            "host 1: captcha cannot be shown: visitors get the remediation allow instead",
        ]
        .iter()
        .enumerate()
        {
            assert!(texts[index].starts_with(start), "{}", texts[index]);
        }
        assert_eq!(found.len(), 10);
        assert!(!texts.join(" ").contains("short"), "keys are not shown");
    }

    #[test]
    fn networks_of_addresses() {
        for (address, lens, expected) in [
            ("192.0.2.77", (24, 64), "192.0.2.0/24"),
            ("::ffff:192.0.2.77", (32, 64), "192.0.2.77/32"),
            ("192.0.2.77", (0, 0), "0.0.0.0/0"),
            ("2001:db8:1:2:3:4:5:6", (24, 64), "2001:db8:1:2::/64"),
            ("2001:db8::1", (24, 128), "2001:db8::1/128"),
        ] {
            let binding = Binding {
                prefix_len: Some(lens),
                ..Binding::default()
            };
            let address = Some(address.parse().unwrap());
            assert_eq!(binding.claims(address, b"a").0.as_deref(), Some(expected));
        }
    }
}

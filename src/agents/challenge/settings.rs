//! The settings of browser validation as a configuration file has them, before they are checked.
//!
//! Keys may have `-` or `_`. One that is not known is an error: it is likely to be one that is misspelt,
//! and what it was to switch on would stay off. [`Challenges`](super::Challenges) is what they come to.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::agents::common::secret::Secret;
use crate::agents::remediation::rfc_3339;

/// The table `[challenge]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChallengeSettings {
    /// Where HAProxy sends the page's requests: `/.challenge` by default.
    pub path: Option<String>,
    /// The keys; the first that has not expired signs.
    #[serde(rename = "key")]
    pub keys: Vec<KeySettings>,
    /// The realms; the one named `default` serves all names that no other has.
    #[serde(rename = "realm")]
    pub realms: Vec<RealmSettings>,
    /// Crawlers that are known by their addresses.
    #[serde(rename = "crawler")]
    pub crawlers: Vec<CrawlerSettings>,
    /// Threads that verify solutions of levels of type `pbkdf2`: 1 by default.
    #[serde(alias = "pbkdf2_threads")]
    pub pbkdf2_threads: Option<u64>,
    /// Solutions that may wait for them: 256 by default. Whoever sends one more is asked to come back.
    #[serde(alias = "pbkdf2_queue")]
    pub pbkdf2_queue: Option<u64>,
}

/// One `[[challenge.key]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeySettings {
    /// Which key it is, 1 to 255, on all instances.
    pub id: Option<u64>,
    /// 32 bytes or more in base64.
    pub secret: Option<Secret>,
    /// The file that has them.
    #[serde(alias = "secret_file")]
    pub secret_file: Option<PathBuf>,
    /// Until when it counts.
    #[serde(alias = "not_after")]
    pub not_after: Option<Moment>,
}

/// One `[[challenge.realm]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RealmSettings {
    /// What messages call it: `default` by default.
    pub name: Option<String>,
    /// Patterns of the hosts that it serves; all by default.
    pub hosts: Vec<String>,
    /// Domains whose hosts have one cookie in common.
    #[serde(alias = "trusted_domains")]
    pub trusted_domains: Vec<String>,
    /// The cookie's name: `clearance` by default.
    pub cookie: Option<String>,
    /// What tokens are bound to.
    pub bind: BindSettings,
    /// How long a challenge may take to be solved, in seconds: 300 by default.
    #[serde(alias = "challenge_ttl_s")]
    pub challenge_ttl_s: Option<u64>,
    /// The status of the page: 403 by default.
    pub status: Option<u64>,
    /// What visitors without JavaScript can do: `off`, the default, `refresh` or `link`.
    pub nojs: Option<String>,
    /// The highest level that they pass by that: 1 by default. None from the first captcha on is passed so.
    #[serde(alias = "nojs_max_level")]
    pub nojs_max_level: Option<u64>,
    /// For how long they wait, in seconds: 10 by default.
    #[serde(alias = "nojs_wait_s")]
    pub nojs_wait_s: Option<u64>,
    /// For how long they are admitted then, in seconds: 3,600 by default.
    #[serde(alias = "nojs_duration_s")]
    pub nojs_duration_s: Option<u64>,
    /// How old a token may be to be had anew from another address for a sixteenth of the work, in seconds:
    /// 43,200 by default; 0 for never.
    #[serde(alias = "rebind_max_age_s")]
    pub rebind_max_age_s: Option<u64>,
    /// The cookie's attribute: `lax`, the default, or `none`, for sites that others embed.
    #[serde(alias = "same_site")]
    pub same_site: Option<String>,
    /// Whether everybody passes, and only what would be is told.
    #[serde(alias = "dry_run")]
    pub dry_run: bool,
    /// The levels, the weakest first.
    #[serde(rename = "level")]
    pub levels: Vec<LevelSettings>,
}

/// `bind` of a realm.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BindSettings {
    /// Bits of an IPv4 address, 24 to 32, or `"off"`: 32 by default.
    pub ipv4: Option<Prefix>,
    /// Bits of an IPv6 address, 48 to 64, or `"off"`: 64 by default.
    pub ipv6: Option<Prefix>,
    /// The `User-Agent`: true by default.
    #[serde(alias = "user_agent")]
    pub user_agent: Option<bool>,
    /// What HAProxy sends as `tls`: false by default.
    pub tls: Option<bool>,
}

/// One `[[challenge.realm.level]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LevelSettings {
    /// `wait`, `pow`, `pbkdf2` or `captcha`; as berghain has them also `none`, which is `wait`, and
    /// `turnstile`, `hcaptcha` and `recaptcha`, which are captchas of those providers.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// For how long its token counts, in seconds: 43,200 by default, of `wait` 3,600.
    #[serde(alias = "duration_s")]
    pub duration_s: Option<u64>,
    /// How long after its challenge a solution may come at the earliest, in seconds: 0 by default, of
    /// `wait` 3.
    #[serde(alias = "wait_s")]
    pub wait_s: Option<u64>,
    /// How many tries a solution takes on average: 1,048,576 of `pow` and 1,024 of `pbkdf2` by default.
    pub work: Option<u64>,
    /// How many puzzles that is divided into: 16 of `pow` and 4 of `pbkdf2` by default.
    pub parts: Option<u64>,
    /// Iterations of one try of `pbkdf2`: 1,000 by default.
    pub iterations: Option<u64>,
    /// Ask for more work while many challenges are asked for.
    pub adaptive: Option<AdaptiveSettings>,
    /// Whose captcha: `turnstile`, `hcaptcha`, `recaptcha`, or a name for another that speaks their
    /// protocol.
    pub provider: Option<String>,
    /// The key that the page shows it.
    #[serde(alias = "site_key", alias = "sitekey")]
    pub site_key: Option<String>,
    /// The key that asking it takes.
    #[serde(alias = "secret_key", alias = "secret")]
    pub secret_key: Option<Secret>,
    /// Where it is asked, if that is not known.
    #[serde(alias = "verify_url")]
    pub verify_url: Option<String>,
    /// The script of the page, if that is not known.
    #[serde(alias = "script_url")]
    pub script_url: Option<String>,
    /// The object that the script makes, if that is not known.
    #[serde(alias = "script_global")]
    pub script_global: Option<String>,
    /// Take solutions of whatever host, as with a provider's keys for tests.
    #[serde(alias = "skip_hostname_check")]
    pub skip_hostname_check: bool,
    /// Tell the provider the visitor's address.
    #[serde(alias = "send_remote_ip")]
    pub send_remote_ip: bool,
    /// How long the provider has, in seconds: 5 by default.
    #[serde(alias = "timeout_s")]
    pub timeout_s: Option<u64>,
}

/// `adaptive` of a level.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdaptiveSettings {
    /// The most work: 16 times the level's by default.
    pub cap: Option<u64>,
    /// Challenges a second, on each core, up to which work stays as it is: 20 by default.
    #[serde(alias = "normal_rate")]
    pub normal_rate: Option<u64>,
    /// From which on it is at the cap: 500 by default.
    #[serde(alias = "peak_rate")]
    pub peak_rate: Option<u64>,
    /// The same of the argument `load`, in whatever it is; it does not count by default.
    #[serde(alias = "normal_load")]
    pub normal_load: Option<u64>,
    /// With it.
    #[serde(alias = "peak_load")]
    pub peak_load: Option<u64>,
    /// Challenges that one network may be given on a core in about a minute before its own work doubles: 40
    /// by default; 0 for as many as it likes.
    #[serde(alias = "per_prefix")]
    pub per_prefix: Option<u64>,
}

/// One `[[challenge.crawler]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CrawlerSettings {
    /// What the variable `bot` calls it.
    pub name: Option<String>,
    /// What its `User-Agent` has in it: one text or several.
    #[serde(alias = "user_agent")]
    pub user_agent: Texts,
    /// Files of its networks, as its owner publishes them.
    pub files: Vec<PathBuf>,
}

/// A text, or several in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Texts, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(Texts(all))
            }
        }
        from.deserialize_any(Any)
    }
}

/// The bits of an address that tokens are bound to, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// None.
    Off,
    /// So many.
    Len(u64),
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Prefix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bits, or \"off\"")
            }

            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<Prefix, E> {
                match is_on {
                    false => Ok(Prefix::Off),
                    true => Err(E::invalid_value(de::Unexpected::Bool(true), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, len: u64) -> Result<Prefix, E> {
                Ok(Prefix::Len(len))
            }

            fn visit_i64<E: de::Error>(self, len: i64) -> Result<Prefix, E> {
                let invalid = || E::invalid_value(de::Unexpected::Signed(len), &self);
                u64::try_from(len).map(Prefix::Len).map_err(|_| invalid())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prefix, E> {
                match text {
                    "off" => Ok(Prefix::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        from.deserialize_any(Any)
    }
}

/// A second since 1970: written as such, as a text of RFC 3339, or as TOML has times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub u64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Moment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its zone, as in 2027-01-31T00:00:00Z")
            }

            fn visit_u64<E: de::Error>(self, second: u64) -> Result<Moment, E> {
                Ok(Moment(second))
            }

            fn visit_i64<E: de::Error>(self, second: i64) -> Result<Moment, E> {
                let invalid = || E::invalid_value(de::Unexpected::Signed(second), &self);
                u64::try_from(second).map(Moment).map_err(|_| invalid())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                let second = rfc_3339(text).and_then(|second| u64::try_from(second).ok());
                let invalid = || E::invalid_value(de::Unexpected::Str(text), &self);
                second.map(Moment).ok_or_else(invalid)
            }

            /// A time of TOML is handed over as a map with one text in it.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Moment, A::Error> {
                match map.next_entry::<String, String>()? {
                    Some((_, text)) => self.visit_str(&text),
                    None => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
                }
            }
        }
        from.deserialize_any(Any)
    }
}

/// Settings that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Where: the realm, level, key or crawler, and the key of the setting.
    pub place: String,
    /// What is wrong, and what to do about it.
    pub reason: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for SettingsError {}

/// The place of a setting, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// As in `realm "default"`.
    pub(super) name: &'a str,
}

impl Place<'_> {
    pub(super) fn error(&self, key: &str, reason: impl fmt::Display) -> SettingsError {
        SettingsError {
            place: match self.name {
                "" => key.to_owned(),
                name => format!("{name}: {key}"),
            },
            reason: reason.to_string(),
        }
    }

    /// A number in a range, or the default where none is given.
    pub(super) fn number<T: TryFrom<u64> + Copy + PartialOrd + fmt::Display>(
        &self,
        key: &str,
        given: Option<u64>,
        default: T,
        (least, most): (T, T),
    ) -> Result<T, SettingsError> {
        let Some(given) = given else {
            return Ok(default);
        };
        let number = T::try_from(given).ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.error(key, format_args!("is {given}: want {least} to {most}")))
    }

    /// What a file says.
    pub(super) fn file(&self, key: &str, path: &Path) -> Result<Vec<u8>, SettingsError> {
        std::fs::read(path)
            .map_err(|error| self.error(key, format_args!("{}: {error}", path.display())))
    }
}

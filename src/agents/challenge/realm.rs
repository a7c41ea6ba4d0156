//! What settings come to: realms with their levels, keys, crawlers, and who is asked about captchas.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::binding::BindingRules;
use super::challenge::Terms;
use super::cookie::{CookieNames, SameSite};
use super::crawlers::{Crawler, Crawlers, crawler_networks};
use super::keyring::{Key, Keyring, RealmKeys};
use super::level::{Level, MAX_PARTS, Method};
use super::messages::LevelArgument;
use super::reply::push_json;
use super::scope::{ScopeRules, is_within};
use super::settings::{
    AdaptiveSettings, ChallengeSettings, CrawlerSettings, KeySettings, LevelSettings, Place,
    Prefix, RealmSettings, SettingsError,
};
use super::work::AdaptiveWork;
use crate::agents::common::hosts::HostPattern;
use crate::agents::common::outside::{EndpointId, EndpointKind, EndpointNeed, Endpoints};
use crate::agents::common::provider::Provider;
use crate::agents::common::secret::Secret;

/// The realm that serves names which no other has.
const DEFAULT_REALM: &str = "default";

const DEFAULT_PATH: &str = "/.challenge";

/// Durations of more than a year are likely to be in another unit.
const MAX_DURATION_S: u32 = 366 * 86_400;

/// The longest URL of a provider: replies have room for one.
const MAX_URL_LEN: usize = 2_048;

/// What the provider's script makes, of those that are known, and what its URL takes for widgets that the
/// page itself shows.
const PROVIDER_GLOBALS: [(&str, &str); 3] = [
    ("turnstile", "turnstile"),
    ("hcaptcha", "hcaptcha"),
    ("recaptcha", "grecaptcha"),
];

/// A configuration, found valid. Does not change; shared by all cores.
#[derive(Debug)]
pub struct Challenges {
    path: String,
    pub(super) keyring: Keyring,
    /// Ids and until when they count, in the order of the configuration.
    keys: Vec<(u8, Option<u64>)>,
    realms: Vec<Realm>,
    /// Names and indices, sorted by name.
    by_name: Vec<(Box<[u8]>, usize)>,
    default_realm: usize,
    pub(super) crawlers: Crawlers,
    endpoints: Vec<EndpointNeed>,
    pub(super) pbkdf2_threads: usize,
    pub(super) pbkdf2_queue: usize,
    warnings: Vec<String>,
}

/// A realm: hosts that have levels, keys and cookies in common.
#[derive(Debug)]
pub struct Realm {
    name: String,
    pub(super) keys: RealmKeys,
    pub(super) scope: ScopeRules,
    pub(super) cookies: CookieNames,
    cookies_over_tls: CookieNames,
    pub(super) same_site: SameSite,
    pub(super) challenge_ttl_s: u32,
    status: u16,
    no_js: NoJs,
    pub(super) no_js_wait_s: u32,
    pub(super) no_js_duration_s: u32,
    pub(super) rebind_max_age_s: u64,
    is_dry_run: bool,
    levels: Vec<RealmLevel>,
}

/// What visitors without JavaScript can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoJs {
    /// Nothing.
    #[default]
    Off,
    /// Wait until the page goes on by itself.
    Refresh,
    /// Wait and follow a link.
    Link,
}

/// A level of a realm.
#[derive(Debug)]
pub struct RealmLevel {
    pub(super) level: Level,
    /// As `a` of a reply has it.
    algorithm: String,
    pub(super) adaptive: Option<AdaptiveWork>,
    pub(super) captcha: Option<LevelCaptcha>,
    /// Whether whoever waits without a script gets a token of this level.
    pub(super) has_no_js: bool,
}

/// A captcha and its provider.
#[derive(Debug)]
pub(super) struct LevelCaptcha {
    pub(super) endpoint: EndpointId,
    pub(super) timeout: Duration,
    pub(super) secret_key: Secret,
    /// What the page is told, as members of JSON.
    pub(super) members: String,
    pub(super) checks_host: bool,
    /// Whether the provider always says which host it was.
    pub(super) says_host: bool,
    pub(super) sends_remote_ip: bool,
}

impl Challenges {
    /// Checks settings, and reads the files that they name.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn new(settings: &ChallengeSettings) -> Result<Self, SettingsError> {
        let top = Place { name: "" };
        let path = settings.path.as_deref().unwrap_or(DEFAULT_PATH);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        if !path.starts_with('/')
            || path.starts_with("//")
            || path.ends_with('/')
            || path.len() > 200
            || !path.bytes().all(is_plain)
        {
            return Err(top.error(
                "path",
                format_args!(
                    "is {path:?}: want a path of letters, digits and -._~ that begins with one / and does \
                     not end with one, as in {DEFAULT_PATH}"
                ),
            ));
        }
        let mut warnings = Vec::new();
        let keys = settings.keys.iter().enumerate();
        let keys: Vec<(Key, Option<u64>)> = keys
            .map(|(index, key)| read_key(index, key, &mut warnings))
            .collect::<Result<_, _>>()?;
        let known = keys.iter().map(|(key, not_after)| (key.id(), *not_after));
        let known = known.collect();
        let keyring =
            Keyring::new(keys.into_iter().map(|(key, _)| key).collect()).map_err(|error| {
                top.error(
                    "key",
                    format_args!("{error}: want [[challenge.key]] with id and secret-file"),
                )
            })?;
        let mut endpoints = Endpoints::default();
        let realms = settings.realms.iter();
        let realms: Vec<Realm> = realms
            .map(|realm| Realm::of_settings(realm, &keyring, &mut endpoints, &mut warnings))
            .collect::<Result<_, _>>()?;
        let mut by_name: Vec<(Box<[u8]>, usize)> = Vec::with_capacity(realms.len());
        for (index, realm) in realms.iter().enumerate() {
            let name = realm.name.as_bytes();
            if by_name.iter().any(|(other, _)| **other == *name) {
                return Err(top.error(
                    "realm",
                    format_args!(
                        "name: two realms are named {:?}: give each its own",
                        realm.name
                    ),
                ));
            }
            by_name.push((name.into(), index));
        }
        by_name.sort();
        let default_realm = realms.iter().position(|realm| realm.name == DEFAULT_REALM);
        let default_realm = default_realm.ok_or_else(|| {
            top.error(
                "realm",
                format_args!(
                    "none is named {DEFAULT_REALM:?}, which serves names that no other has: want \
                     [[challenge.realm]] without name or with that"
                ),
            )
        })?;
        let crawlers = settings.crawlers.iter().enumerate();
        let crawlers = crawlers.map(|(index, crawler)| read_crawler(index, crawler));
        let pbkdf2_threads = top.number("pbkdf2-threads", settings.pbkdf2_threads, 1, (1, 64))?;
        let pbkdf2_queue = top.number("pbkdf2-queue", settings.pbkdf2_queue, 256, (1, 65_536))?;
        Ok(Self {
            path: path.to_owned(),
            keyring,
            keys: known,
            realms,
            by_name,
            default_realm,
            crawlers: Crawlers::new(crawlers.collect::<Result<_, _>>()?),
            endpoints: endpoints.0,
            pbkdf2_threads,
            pbkdf2_queue,
            warnings,
        })
    }

    /// Where HAProxy sends the page's requests.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What can be used, and is not likely to be meant so: each with its place.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The ids of the keys, and the second since 1970 until which each counts, if it has one.
    #[must_use]
    pub fn keys(&self) -> &[(u8, Option<u64>)] {
        &self.keys
    }

    /// The realms, in the order of the configuration.
    #[must_use]
    pub fn realms(&self) -> &[Realm] {
        &self.realms
    }

    /// The realm of this name, or the one that serves those that no other has.
    #[must_use]
    pub fn realm(&self, name: Option<&[u8]>) -> &Realm {
        &self.realms[self.realm_index(name)]
    }

    pub(super) fn realm_index(&self, name: Option<&[u8]>) -> usize {
        let found = name.and_then(|name| {
            let found = self
                .by_name
                .binary_search_by(|(other, _)| (**other).cmp(name));
            found.ok()
        });
        found.map_or(self.default_realm, |place| self.by_name[place].1)
    }

    /// Who is asked about captchas.
    #[must_use]
    pub fn endpoints(&self) -> &[EndpointNeed] {
        &self.endpoints
    }

    /// Whether any level takes a thread to verify.
    pub(super) fn has_pbkdf2(&self) -> bool {
        let mut levels = self.realms.iter().flat_map(|realm| &realm.levels);
        levels.any(|level| matches!(level.level.method, Method::Pbkdf2 { .. }))
    }
}

impl Realm {
    fn of_settings(
        settings: &RealmSettings,
        keyring: &Keyring,
        endpoints: &mut Endpoints,
        warnings: &mut Vec<String>,
    ) -> Result<Self, SettingsError> {
        let name = settings.name.as_deref().unwrap_or(DEFAULT_REALM);
        let place = format!("realm {name:?}");
        let place = Place { name: &place };
        if name.is_empty() {
            return Err(place.error("name", "is empty: want what messages call the realm"));
        }
        let challenge_ttl_s = place.number(
            "challenge-ttl-s",
            settings.challenge_ttl_s,
            300,
            (10, 86_400),
        )?;
        let (status, is_known) = (settings.status.unwrap_or(403), |status| {
            matches!(status, 200 | 401 | 403 | 429 | 503)
        });
        let status = u16::try_from(status)
            .ok()
            .filter(|&status| is_known(status));
        let status = status.ok_or_else(|| {
            place.error(
                "status",
                "is none of a challenge: want 200, 401, 403, 429 or 503",
            )
        })?;
        let no_js = match settings.nojs.as_deref() {
            None | Some("off") => NoJs::Off,
            Some("refresh") => NoJs::Refresh,
            Some("link") => NoJs::Link,
            Some(other) => {
                let reason = format!("is {other:?}: want off, refresh or link");
                return Err(place.error("nojs", reason));
            }
        };
        let same_site = match settings.same_site.as_deref() {
            None | Some("lax") => SameSite::Lax,
            Some("none") => SameSite::None,
            Some(other) => {
                let reason = format!("is {other:?}: want lax, or none for sites that others embed");
                return Err(place.error("same-site", reason));
            }
        };
        for host in &settings.hosts {
            if let Some(name) = without_port(host) {
                let reason = format!(
                    "{host:?} has a port: hosts are served whatever the port, want {name:?}"
                );
                return Err(place.error("hosts", reason));
            }
        }
        for domain in &settings.trusted_domains {
            let mut hosts = settings.hosts.iter();
            if hosts.len() > 0 && !hosts.any(|host| may_be_within(host, domain)) {
                let reason =
                    format!("no host of `hosts` is {domain:?} or below it, so it does nothing");
                warnings.push(place.error("trusted-domains", reason).to_string());
            }
        }
        let hosts = settings.hosts.iter().map(|host| HostPattern::new(host));
        let hosts: Vec<HostPattern> = hosts
            .collect::<Result<_, _>>()
            .map_err(|error| place.error("hosts", error))?;
        let trusted_domains = settings.trusted_domains.iter().map(String::as_str);
        let scope = ScopeRules::new(hosts, trusted_domains)
            .map_err(|error| place.error("trusted-domains", error))?;
        let cookies = match &settings.cookie {
            Some(name) => CookieNames::new(name).map_err(|error| place.error("cookie", error))?,
            None => CookieNames::default(),
        };
        let bind = &settings.bind;
        let prefix = |key, given, default| match given {
            None => Ok(Some(default)),
            Some(Prefix::Off) => Ok(None),
            Some(Prefix::Len(len)) => match u8::try_from(len) {
                Ok(len) => Ok(Some(len)),
                Err(_) => Err(place.error(key, format_args!("is {len}: want a number of bits"))),
            },
        };
        let binding = BindingRules::new(
            prefix("bind.ipv4", bind.ipv4, 32)?,
            prefix("bind.ipv6", bind.ipv6, 64)?,
            bind.user_agent.unwrap_or(true),
            bind.tls.unwrap_or(false),
        )
        .map_err(|error| place.error("bind", error))?;
        let mut levels = Vec::with_capacity(settings.levels.len());
        // Who waits without a script has solved no captcha, and no puzzle either.
        let mut has_no_js = no_js != NoJs::Off;
        let no_js_max_level: usize =
            place.number("nojs-max-level", settings.nojs_max_level, 1, (1, 255))?;
        for (index, level) in settings.levels.iter().enumerate() {
            let name = format!("{}: level {}", place.name, index + 1);
            let place = Place { name: &name };
            let mut level = RealmLevel::of_settings(level, place, endpoints)?;
            has_no_js &= level.captcha.is_none() && index < no_js_max_level;
            level.has_no_js = has_no_js;
            levels.push(level);
        }
        let definitions: Vec<Level> = levels.iter().map(|level| level.level.clone()).collect();
        let keys = RealmKeys::new(keyring, name, &definitions, binding).map_err(|error| {
            place.error(
                "level",
                format_args!("{error}: see [[challenge.realm.level]]"),
            )
        })?;
        Ok(Self {
            name: name.to_owned(),
            keys,
            scope,
            cookies_over_tls: cookies.over_tls(),
            cookies,
            same_site,
            challenge_ttl_s,
            status,
            no_js,
            no_js_wait_s: place.number("nojs-wait-s", settings.nojs_wait_s, 10, (1, 3_600))?,
            no_js_duration_s: place.number(
                "nojs-duration-s",
                settings.nojs_duration_s,
                3_600,
                (60, MAX_DURATION_S),
            )?,
            rebind_max_age_s: place.number(
                "rebind-max-age-s",
                settings.rebind_max_age_s,
                43_200,
                (0, u64::from(MAX_DURATION_S)),
            )?,
            is_dry_run: settings.dry_run,
            levels,
        })
    }

    /// The cookies that a new token may be made of: none that a neighbour of the host could have set, so that
    /// nobody is given another's id, who is limited and revoked by it.
    pub(super) const fn own_cookies(&self, is_secure: bool) -> &CookieNames {
        if is_secure {
            &self.cookies_over_tls
        } else {
            &self.cookies
        }
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the cookie of a token is called, of a visit over TLS or not, and for all hosts of a trusted domain or
    /// for one.
    #[must_use]
    pub fn cookie_name(&self, is_secure: bool, is_shared: bool) -> &str {
        self.cookies.name(is_secure, is_shared)
    }

    /// The levels, the weakest first.
    #[must_use]
    pub fn levels(&self) -> &[RealmLevel] {
        &self.levels
    }

    /// The status of the page.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// What visitors without JavaScript can do.
    #[must_use]
    pub const fn no_js(&self) -> NoJs {
        self.no_js
    }

    /// Whether everybody passes, and only what would be is told.
    #[must_use]
    pub const fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// The level that an argument asks for, from 1, or `None` for none at all; and whether the argument is
    /// one that nobody means. Never a weaker one than was asked for: what cannot be read is the strongest.
    pub(super) fn asked(&self, level: LevelArgument) -> (Option<u8>, bool) {
        let strongest = self.keys.level_count();
        match level {
            LevelArgument::Number(0) => (None, false),
            LevelArgument::Number(level @ 1..) => {
                let level = u8::try_from(level).unwrap_or(u8::MAX);
                (Some(level.min(strongest)), false)
            }
            LevelArgument::Number(_) | LevelArgument::Missing | LevelArgument::Invalid => {
                (Some(strongest), true)
            }
        }
    }

    /// The level of this number, from 1.
    pub(super) fn level(&self, number: u8) -> Option<&RealmLevel> {
        self.levels.get(usize::from(number).checked_sub(1)?)
    }
}

impl RealmLevel {
    fn of_settings(
        settings: &LevelSettings,
        place: Place<'_>,
        endpoints: &mut Endpoints,
    ) -> Result<Self, SettingsError> {
        const WANT: &str = "want wait, pow, pbkdf2 or captcha";
        let Some(kind) = settings.kind.as_deref() else {
            return Err(place.error("type", format_args!("is missing: {WANT}")));
        };
        let (is_captcha, is_puzzle) = match kind {
            "wait" | "none" => (false, false),
            "pow" | "pbkdf2" => (false, true),
            "captcha" | "turnstile" | "hcaptcha" | "recaptcha" => (true, false),
            other => return Err(place.error("type", format_args!("is {other:?}: {WANT}"))),
        };
        // What a level of this type does not have is likely to be meant for another.
        let misplaced = [
            ("work", settings.work.is_some() && !is_puzzle),
            ("parts", settings.parts.is_some() && !is_puzzle),
            (
                "iterations",
                settings.iterations.is_some() && kind != "pbkdf2",
            ),
            ("adaptive", settings.adaptive.is_some() && !is_puzzle),
            ("provider", settings.provider.is_some() && kind != "captcha"),
            ("site-key", settings.site_key.is_some() && !is_captcha),
            ("secret-key", settings.secret_key.is_some() && !is_captcha),
            ("verify-url", settings.verify_url.is_some() && !is_captcha),
            ("script-url", settings.script_url.is_some() && !is_captcha),
            (
                "script-global",
                settings.script_global.is_some() && !is_captcha,
            ),
            (
                "skip-hostname-check",
                settings.skip_hostname_check && !is_captcha,
            ),
            ("send-remote-ip", settings.send_remote_ip && !is_captcha),
            ("timeout-s", settings.timeout_s.is_some() && !is_captcha),
        ];
        if let Some((key, _)) = misplaced.iter().find(|(_, is_misplaced)| *is_misplaced) {
            let reason = format!("is not of a level of type {kind}: take it out");
            return Err(place.error(key, reason));
        }
        let is_wait = matches!(kind, "wait" | "none");
        // A level that is passed by waiting for nothing would be none.
        let (duration_s, wait_s, least_wait_s) = if is_wait {
            (3_600, 3, 1)
        } else {
            (43_200, 0, 0)
        };
        let wait_s = place.number("wait-s", settings.wait_s, wait_s, (least_wait_s, 300))?;
        let given = settings.duration_s;
        let duration_s = place.number("duration-s", given, duration_s, (10, MAX_DURATION_S))?;
        let parts = |default| place.number("parts", settings.parts, default, (1, MAX_PARTS));
        let mut captcha = None;
        let (method, algorithm) = match kind {
            "pow" => {
                let work = place.number("work", settings.work, 1 << 20, (1, u32::MAX))?;
                let parts = parts(16)?;
                (Method::Sha256 { work, parts }, "sha256".to_owned())
            }
            "pbkdf2" => {
                let iterations =
                    place.number("iterations", settings.iterations, 1_000, (1, 1_000_000))?;
                let work = place.number("work", settings.work, 1 << 10, (1, u32::MAX))?;
                let parts = parts(4)?;
                let method = Method::Pbkdf2 {
                    work,
                    parts,
                    iterations,
                };
                (method, "pbkdf2".to_owned())
            }
            "wait" | "none" => (Method::Wait, "wait".to_owned()),
            _ => {
                let (name, site_key, level) = read_captcha(settings, kind, place, endpoints)?;
                captcha = Some(level);
                let method = Method::Captcha {
                    provider: name.clone(),
                    site_key,
                };
                (method, name)
            }
        };
        let level = Level {
            method,
            wait_s,
            duration_s,
        };
        level.check().map_err(|error| place.error("type", error))?;
        let floor = match level.method {
            Method::Sha256 { work, .. } | Method::Pbkdf2 { work, .. } => work,
            _ => 0,
        };
        let adaptive = settings.adaptive.as_ref();
        let adaptive = adaptive.map(|adaptive| read_adaptive(adaptive, floor, place));
        Ok(Self {
            level,
            algorithm,
            adaptive: adaptive.transpose()?,
            captcha,
            has_no_js: false,
        })
    }

    /// How its challenges are solved, as replies have it: `wait`, `sha256`, `pbkdf2`, or the name of a
    /// provider of captchas.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// What it asks for.
    #[must_use]
    pub const fn definition(&self) -> &Level {
        &self.level
    }

    pub(super) const fn terms(&self, number: u8, ttl_s: u32) -> Terms {
        Terms::of(number, &self.level, ttl_s)
    }
}

/// A pattern that would match nothing, as ports are no part of hosts, without its port.
fn without_port(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    let is_port = !port.is_empty()
        && port
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'*');
    // An address of IPv6 has brackets around it.
    let is_name = !name.contains([':', '[']) || name.ends_with(']');
    (is_port && is_name).then_some(name)
}

/// Whether a pattern may match a domain or a host below it, by what follows its last wildcard.
fn may_be_within(pattern: &str, domain: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let tail = pattern.rsplit(['*', '?', ']']).next().unwrap_or_default();
    is_within(tail, domain) || tail.len() < pattern.len() && domain.ends_with(tail)
}

fn read_key(
    index: usize,
    settings: &KeySettings,
    warnings: &mut Vec<String>,
) -> Result<(Key, Option<u64>), SettingsError> {
    let name = match settings.id {
        Some(id) => format!("key {id}"),
        None => format!("key at place {}", index + 1),
    };
    let place = Place { name: &name };
    let Some(id) = settings.id else {
        return Err(place.error("id", "is missing: want 1 to 255, the same on all instances"));
    };
    let id = place.number("id", Some(id), 0, (1, u8::MAX))?;
    let not_after = settings.not_after.map(|moment| moment.0);
    let key = match (&settings.secret, &settings.secret_file) {
        (Some(secret), None) => {
            let key = Key::from_base64(id, secret.reveal(), not_after);
            key.map_err(|error| place.error("secret", error))?
        }
        (None, Some(path)) => {
            let text = place.file("secret-file", path)?;
            if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
                let path = path.display();
                let reason = format!("{path} can be read by everybody: chmod o= {path}");
                warnings.push(place.error("secret-file", reason).to_string());
            }
            let text = String::from_utf8_lossy(&text);
            let key = Key::from_base64(id, &text, not_after);
            key.map_err(|error| {
                place.error("secret-file", format_args!("{}: {error}", path.display()))
            })?
        }
        _ => {
            let reason = "want one of secret-file and secret, with the base64 of 32 random bytes";
            return Err(place.error("secret-file", reason));
        }
    };
    Ok((key, not_after))
}

fn read_crawler(index: usize, settings: &CrawlerSettings) -> Result<Crawler, SettingsError> {
    let number = format!("crawler {}", index + 1);
    let Some(name) = settings.name.clone().filter(|name| !name.is_empty()) else {
        let place = Place { name: &number };
        return Err(place.error("name", "is missing: want what the variable bot calls it"));
    };
    let title = format!("crawler {name:?}");
    let place = Place { name: &title };
    let is_word = |c: char| c.is_ascii_graphic();
    if name == "claimed" || !name.chars().all(is_word) {
        let reason = "want a word of its own, other than claimed, which stands for those that lie";
        return Err(place.error("name", reason));
    }
    let user_agents = settings.user_agent.0.clone();
    if user_agents.is_empty() || user_agents.iter().any(String::is_empty) {
        let reason = "is missing or empty: want what the crawler's User-Agent has in it";
        return Err(place.error("user-agent", reason));
    }
    if settings.files.is_empty() {
        let reason = "is missing: want files with the networks that its owner publishes";
        return Err(place.error("files", reason));
    }
    // One table of all files: each is read by itself, so that errors name it.
    let mut networks = Vec::with_capacity(settings.files.len());
    for path in &settings.files {
        let table = crawler_networks(&place.file("files", path)?);
        networks.push(
            table.map_err(|error| {
                place.error("files", format_args!("{}: {error}", path.display()))
            })?,
        );
    }
    Ok(Crawler {
        name,
        user_agents,
        networks,
    })
}

fn read_adaptive(
    settings: &AdaptiveSettings,
    floor: u32,
    place: Place<'_>,
) -> Result<AdaptiveWork, SettingsError> {
    let cap = place.number(
        "adaptive.cap",
        settings.cap,
        floor.saturating_mul(16),
        (floor, u32::MAX),
    )?;
    let normal: u32 = place.number(
        "adaptive.normal-rate",
        settings.normal_rate,
        20,
        (1, 1 << 24),
    )?;
    let peak = place.number(
        "adaptive.peak-rate",
        settings.peak_rate,
        500_u32.max(normal.saturating_mul(2)),
        (normal + 1, 1 << 25),
    )?;
    let load = match (settings.normal_load, settings.peak_load) {
        (None, None) => None,
        (Some(normal), Some(peak)) => {
            let normal =
                place.number("adaptive.normal-load", Some(normal), 0, (1, u32::MAX - 1))?;
            let peak = place.number("adaptive.peak-load", Some(peak), 0, (normal + 1, u32::MAX))?;
            Some((f64::from(normal), f64::from(peak)))
        }
        (Some(_), None) => {
            let reason = "is missing: normal-load and peak-load go together";
            return Err(place.error("adaptive.peak-load", reason));
        }
        (None, Some(_)) => {
            let reason = "is missing: normal-load and peak-load go together";
            return Err(place.error("adaptive.normal-load", reason));
        }
    };
    let per_prefix = settings.per_prefix;
    Ok(AdaptiveWork {
        cap,
        normal_rate: f64::from(normal),
        peak_rate: f64::from(peak),
        load,
        per_prefix: place.number("adaptive.per-prefix", per_prefix, 40, (0, 65_535))?,
    })
}

/// The provider's name, the site key and the rest.
fn read_captcha(
    settings: &LevelSettings,
    kind: &str,
    place: Place<'_>,
    endpoints: &mut Endpoints,
) -> Result<(String, String, LevelCaptcha), SettingsError> {
    let name = match (kind, settings.provider.as_deref()) {
        ("captcha", None) => {
            let reason = "is missing: want turnstile, hcaptcha, recaptcha, or a name for another";
            return Err(place.error("provider", reason));
        }
        ("captcha", Some(name)) => name,
        (kind, _) => kind,
    };
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if matches!(name, "wait" | "sha256" | "pbkdf2" | "")
        || name.len() > 32
        || !name.bytes().all(is_word)
    {
        let reason = format!(
            "is {name:?}: want turnstile, hcaptcha, recaptcha, or a name of a-z, 0-9 and - for another"
        );
        return Err(place.error("provider", reason));
    }
    let text = |key, given: &Option<String>| {
        let given = given.clone().filter(|text| !text.is_empty());
        given.ok_or_else(|| place.error(key, "is missing: the provider gives it"))
    };
    let url = |key, given: &Option<String>, known: Option<String>| {
        let Some(url) = given.clone().or(known) else {
            let reason = format!("is missing, which {name} needs as it is not known");
            return Err(place.error(key, reason));
        };
        let is_http = url.starts_with("https://") || url.starts_with("http://");
        if !is_http || url.contains(|c: char| c.is_control() || c.is_whitespace()) {
            let reason = format!("is {url:?}: want an https or http URL");
            return Err(place.error(key, reason));
        }
        if url.len() > MAX_URL_LEN {
            let reason = format!("has more than {MAX_URL_LEN} characters");
            return Err(place.error(key, reason));
        }
        Ok(url)
    };
    let known = Provider::known(name);
    let says_host = known.is_some();
    let (script, verify_url) = known.map(|known| (known.script, known.verify_url)).unzip();
    // Widgets are shown by the page itself.
    let script = script.map(|script| script + "?render=explicit");
    let site_key = text("site-key", &settings.site_key)?;
    let secret_key = settings.secret_key.clone().unwrap_or_default();
    if secret_key.reveal().is_empty() {
        return Err(place.error("secret-key", "is missing: the provider gives it"));
    }
    let script_url = url("script-url", &settings.script_url, script)?;
    let verify_url = url("verify-url", &settings.verify_url, verify_url)?;
    let known_global = PROVIDER_GLOBALS.iter().find(|(known, _)| *known == name);
    let known_global = known_global.map(|(_, global)| (*global).to_owned());
    let global = settings.script_global.clone().or(known_global);
    let global = text("script-global", &global)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte);
    if !global.bytes().all(is_name) {
        let reason = format!("is {global:?}: want the name of the object that the script makes");
        return Err(place.error("script-global", reason));
    }
    let timeout_s = place.number("timeout-s", settings.timeout_s, 5_u32, (1, 60))?;
    let timeout = Duration::from_secs(u64::from(timeout_s));
    let mut members = String::new();
    for (key, value) in [("sk", &site_key), ("js", &script_url), ("g", &global)] {
        let _ = write!(members, ",\"{key}\":");
        push_json(&mut members, value);
    }
    let captcha = LevelCaptcha {
        endpoint: endpoints.add(EndpointKind::Captcha, &verify_url, timeout),
        timeout,
        secret_key,
        members,
        checks_host: !settings.skip_hostname_check,
        says_host,
        sends_remote_ip: settings.send_remote_ip,
    };
    Ok((name.to_owned(), site_key, captcha))
}

//! The configuration file and its meeting with the flags. A setting's key is its flag's name.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Uid};
use ringspoa::agents::challenge::ChallengeSettings;
use ringspoa::agents::remediation::{self, AddressTable};
use ringspoa::spop::{Scope, TypedData, Variable};
use ringspoa::{Cores, Driver, Fallback, Family, Kind, ListenAddress, ServerConfig};
use serde::{Deserialize, Deserializer};
use tracing_subscriber::filter::Targets;

use crate::challenge::PreparedChallenge;
use crate::logging::{LogFormat, parse_level};
use crate::remediation::{PreparedRemediation, RemediationSettings};

/// What is shown of the list in force.
pub(crate) const LIST_RANGES: Family = Family {
    name: "ringspoa_list_ranges",
    kind: Kind::Gauge,
    labels: "",
    help: "Separate ranges of addresses in the ban list in force.",
};

/// Where the table of a server is from that has nothing to do with lists.
pub(crate) const NO_LIST: &str = "no list";

/// What is wrong with flags or files, in full sentences for the terminal.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl std::error::Error for UsageError {}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file, or the flags: each setting may be given or not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) listen: Option<Vec<String>>,
    pub(crate) admin_listen: Option<String>,
    pub(crate) cores: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) ban_list: Option<PathBuf>,
    pub(crate) max_frame_size: Option<u32>,
    pub(crate) max_reassembly_len: Option<usize>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_connections_per_listener: Option<usize>,
    pub(crate) max_handshakes: Option<u32>,
    pub(crate) refusal_delay_ms: Option<u64>,
    pub(crate) max_in_flight: Option<usize>,
    pub(crate) max_in_flight_per_core: Option<usize>,
    pub(crate) hello_timeout_ms: Option<u64>,
    pub(crate) idle_timeout_ms: Option<u64>,
    pub(crate) write_timeout_ms: Option<u64>,
    pub(crate) agent_deadline_ms: Option<u64>,
    pub(crate) drain_notice_ms: Option<u64>,
    pub(crate) drain_timeout_ms: Option<u64>,
    pub(crate) busy_poll_us: Option<u64>,
    pub(crate) never_empty_acks: Option<bool>,
    pub(crate) log_format: Option<String>,
    pub(crate) log_level: Option<String>,
    pub(crate) trace_frames: Option<u32>,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) fallback: Option<Vec<FallbackVariable>>,
    /// In the file alone, both.
    pub(crate) remediation: Option<RemediationSettings>,
    pub(crate) challenge: Option<ChallengeSettings>,
}

/// One variable of the fallback: `{ scope = "txn", name = "remediation", value = "allow" }`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FallbackVariable {
    scope: String,
    name: String,
    value: FallbackValue,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "want text, a whole number, true or false as the value"
)]
enum FallbackValue {
    Bool(bool),
    Integer(i64),
    Text(String),
}

/// One text, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "want text, or a list as in [\"127.0.0.1:9000\"]"
    )]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(Some(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    }))
}

impl FallbackVariable {
    /// Of the flag's form, `txn.remediation=allow`; the value is text.
    pub(crate) fn from_flag(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(variable, value)| {
            let (scope, name) = variable.split_once('.')?;
            Some((scope, name, value))
        });
        let (scope, name, value) =
            parts.ok_or_else(|| "want SCOPE.NAME=TEXT, as in txn.remediation=allow".to_owned())?;
        Ok(Self {
            scope: scope.to_owned(),
            name: name.to_owned(),
            value: FallbackValue::Text(value.to_owned()),
        })
    }

    fn checked(&self) -> Result<(Variable<'_>, TypedData<'_>), UsageError> {
        let scope = Scope::from_name(&self.scope).ok_or_else(|| {
            UsageError(format!(
                "fallback scope '{}' is none of proc, sess, txn, req and res",
                self.scope
            ))
        })?;
        let variable = Variable::new(scope, &self.name)
            .map_err(|error| UsageError(format!("fallback variable '{}': {error}", self.name)))?;
        let value = match &self.value {
            FallbackValue::Bool(value) => TypedData::from(*value),
            FallbackValue::Integer(value) => TypedData::from(*value),
            FallbackValue::Text(value) => TypedData::from(value.as_str()),
        };
        Ok((variable, value))
    }
}

/// Settings that were found valid, and what they name loaded.
pub(crate) struct Prepared {
    pub(crate) config: ServerConfig,
    pub(crate) table: AddressTable,
    /// Where the table is from.
    pub(crate) origin: String,
    pub(crate) admin_listen: Option<ListenAddress>,
    pub(crate) privileges: Privileges,
    pub(crate) remediation: Option<PreparedRemediation>,
    pub(crate) challenge: Option<PreparedChallenge>,
}

impl Prepared {
    /// Whether what the tables name can be used: what `--check` says, and a reload goes by.
    pub(crate) fn check(&self) -> Result<(), UsageError> {
        let remediation = self.remediation.as_ref();
        let checked = remediation.map_or(Ok(()), PreparedRemediation::check);
        checked.map_err(UsageError)
    }

    /// What is not as the settings say, and yet of use.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let remediation = self.remediation.iter();
        remediation
            .flat_map(PreparedRemediation::warnings)
            .collect()
    }
}

/// Who to be once everything is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Privileges {
    pub(crate) user: Option<Uid>,
    pub(crate) group: Option<Gid>,
}

impl Settings {
    /// Reads a TOML file.
    pub(crate) fn load(path: &Path) -> Result<Self, UsageError> {
        Self::parse(&read(path, "configuration")?, path)
    }

    /// Reads the text of a TOML file; `path` is for errors.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, UsageError> {
        toml::from_str(text).map_err(|error| {
            let position = error.span().map_or_else(String::new, |span| {
                let line = 1 + text[..span.start.min(text.len())].matches('\n').count();
                format!(" line {line}")
            });
            let hint = suggestion(error.message())
                .map_or_else(String::new, |key| format!("; did you mean `{key}`?"));
            UsageError(format!(
                "{}{position}: {}{hint}",
                path.display(),
                once_each(error.message())
            ))
        })
    }

    /// These settings, and `other` where these say nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        macro_rules! merge {
            ($($key:ident)*) => { Self { $($key: self.$key.or(other.$key),)* } };
        }
        merge!(listen admin_listen cores driver ban_list max_frame_size max_reassembly_len
            max_connections max_connections_per_listener max_handshakes refusal_delay_ms
            max_in_flight max_in_flight_per_core hello_timeout_ms idle_timeout_ms write_timeout_ms
            agent_deadline_ms drain_notice_ms drain_timeout_ms busy_poll_us never_empty_acks
            fallback log_format log_level trace_frames user group remediation challenge)
    }

    /// The server's settings, with its defaults where nothing was said.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, UsageError> {
        let mut config = ServerConfig::default();
        let wrong = |error: ringspoa::ConfigError| UsageError(error.to_string());
        if let Some(listen) = &self.listen {
            config.listen = listen
                .iter()
                .map(|address| address.parse::<ListenAddress>())
                .collect::<Result<_, _>>()
                .map_err(wrong)?;
        }
        if let Some(cores) = &self.cores {
            config.cores = cores.parse::<Cores>().map_err(wrong)?;
        }
        if let Some(driver) = &self.driver {
            config.driver = driver.parse::<Driver>().map_err(wrong)?;
        }
        set(&mut config.limits.max_frame_size, self.max_frame_size);
        set(
            &mut config.limits.max_reassembly_len,
            self.max_reassembly_len,
        );
        set(&mut config.limits.max_in_flight, self.max_in_flight);
        set(
            &mut config.limits.hello_timeout,
            self.hello_timeout_ms.map(Duration::from_millis),
        );
        set(&mut config.max_connections, self.max_connections);
        set(
            &mut config.max_connections_per_listener,
            self.max_connections_per_listener,
        );
        set(
            &mut config.max_in_flight_per_core,
            self.max_in_flight_per_core,
        );
        set(&mut config.max_handshakes, self.max_handshakes);
        set(
            &mut config.refusal_delay,
            self.refusal_delay_ms.map(Duration::from_millis),
        );
        set(
            &mut config.drain_notice,
            self.drain_notice_ms.map(Duration::from_millis),
        );
        set(&mut config.trace_frames, self.trace_frames);
        set(
            &mut config.write_timeout,
            self.write_timeout_ms.map(Duration::from_millis),
        );
        set(
            &mut config.agent_deadline,
            self.agent_deadline_ms.map(Duration::from_millis),
        );
        set(
            &mut config.drain_timeout,
            self.drain_timeout_ms.map(Duration::from_millis),
        );
        set(
            &mut config.busy_poll,
            self.busy_poll_us.map(Duration::from_micros),
        );
        set(&mut config.never_empty_acks, self.never_empty_acks);
        // 0 is how a file says "never".
        config.idle_timeout = self
            .idle_timeout_ms
            .filter(|&ms| ms > 0)
            .map(Duration::from_millis);
        if let Some(fallback) = &self.fallback {
            let variables = fallback
                .iter()
                .map(FallbackVariable::checked)
                .collect::<Result<Vec<_>, _>>()?;
            config.fallback = Fallback::with_variables(variables)
                .map_err(|error| UsageError(format!("fallback: {error}")))?;
        }
        // Spelled as flags and keys are.
        config
            .check()
            .map_err(|error| UsageError(as_key(&error.to_string())))?;
        Ok(config)
    }

    /// Reads a TOML file, and checks that its values are what they should be, so that the file is
    /// named if not.
    pub(crate) fn load_checked(path: &Path) -> Result<Self, UsageError> {
        let settings = Self::load(path)?;
        settings
            .check_values()
            .map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        Ok(settings)
    }

    fn check_values(&self) -> Result<(), UsageError> {
        self.server_config()?
            .check_here()
            .map_err(|error| UsageError(error.to_string()))?;
        self.log_format()?;
        self.log_level()?;
        self.admin_address()?;
        self.privileges()?;
        Ok(())
    }

    fn admin_address(&self) -> Result<Option<ListenAddress>, UsageError> {
        let address = self.admin_listen.as_ref();
        address
            .map(|address| address.parse::<ListenAddress>())
            .transpose()
            .map_err(|error| UsageError(format!("admin-listen: {error}")))
    }

    /// Everything that a start or a reload needs, or what is wrong with it.
    pub(crate) fn prepare(&self) -> Result<Prepared, UsageError> {
        self.check_values()?;
        let config = self.server_config()?;
        let admin_listen = self.admin_address()?;
        let privileges = self.privileges()?;
        let (table, origin) = self.ban_table()?;
        let remediation = self.remediation.as_ref();
        let remediation = remediation.map(RemediationSettings::prepare).transpose();
        let mut remediation = remediation.map_err(UsageError)?;
        if let Some(remediation) = &mut remediation {
            remediation.note_deadline(config.agent_deadline);
        }
        if remediation.is_some() && self.ban_list.is_some() {
            return Err(UsageError(
                "ban-list and [remediation] are two ways to say who is banned: give the list as \
                 [[remediation.list]] with path"
                    .to_owned(),
            ));
        }
        let challenge = self.challenge.as_ref().map(PreparedChallenge::new);
        let challenge = challenge.transpose().map_err(UsageError)?;
        Ok(Prepared {
            config,
            table,
            origin,
            admin_listen,
            privileges,
            remediation,
            challenge,
        })
    }

    pub(crate) fn log_format(&self) -> Result<LogFormat, UsageError> {
        let format = self.log_format.as_deref().map(str::parse).transpose();
        Ok(format.map_err(UsageError)?.unwrap_or_default())
    }

    /// RUST_LOG, as the ecosystem has it, where no setting says something.
    pub(crate) fn log_level(&self) -> Result<Targets, UsageError> {
        match &self.log_level {
            Some(level) => parse_level(level).map_err(UsageError),
            None => {
                let level = std::env::var("RUST_LOG").unwrap_or_default();
                let level = if level.is_empty() { "info" } else { &level };
                parse_level(level).map_err(|error| UsageError(format!("RUST_LOG: {error}")))
            }
        }
    }

    /// Which settings of the binary's own differ in `other` that only a new start can change.
    pub(crate) fn restart_needed(&self, other: &Self) -> Vec<&'static str> {
        let fixed = [
            ("admin-listen", self.admin_listen != other.admin_listen),
            ("log-format", self.log_format != other.log_format),
            ("user", self.user != other.user),
            ("group", self.group != other.group),
        ];
        let changed = fixed.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(name, _)| name).collect()
    }

    fn privileges(&self) -> Result<Privileges, UsageError> {
        let user = self.user.as_deref().map(ringspoa::user_id).transpose();
        let group = self.group.as_deref().map(ringspoa::group_id).transpose();
        let wrong = |error: std::io::Error| UsageError(error.to_string());
        Ok(Privileges {
            user: user.map_err(wrong)?,
            group: group.map_err(wrong)?,
        })
    }

    /// The addresses to ban, and where they are from.
    pub(crate) fn ban_table(&self) -> Result<(AddressTable, String), UsageError> {
        let Some(path) = &self.ban_list else {
            // Who challenges visitors has set something up, and wants nobody banned for a trial.
            if self.challenge.is_some() {
                return Ok((AddressTable::default(), NO_LIST.to_owned()));
            }
            return Ok((
                remediation::embedded(),
                "the embedded list of documentation networks".to_owned(),
            ));
        };
        let table = remediation::parse_list(&read(path, "ban list")?)
            .map_err(|error| UsageError(format!("{} {error}", path.display())))?;
        Ok((table, path.display().to_string()))
    }
}

/// A message that begins with a setting's name in code, with its key instead.
fn as_key(message: &str) -> String {
    let message = message.replace('_', "-");
    let (name, rest) = message.split_once(' ').unwrap_or((&message, ""));
    let unit = match name {
        "hello-timeout" | "write-timeout" | "agent-deadline" | "refusal-delay" => "-ms",
        "busy-poll" => "-us",
        _ => "",
    };
    format!("{name}{unit} {rest}")
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

fn read(path: &Path, what: &str) -> Result<String, UsageError> {
    fs::read_to_string(path).map_err(|error| {
        UsageError(format!(
            "cannot read the {what} {}: {error}",
            path.display()
        ))
    })
}

/// The known key most like the unknown one. serde names all of them in its message, in backticks,
/// the unknown one first.
fn suggestion(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, known) = rest.split_once('`')?;
    known
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|key| (strsim::jaro_winkler(unknown, key), key))
        .filter(|(likeness, _)| *likeness > 0.8)
        // Of the two ways to write a key the one of the documentation, which comes first in the alphabet.
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, key)| key)
}

/// serde's message without the other spelling of keys that may have `_` for `-`.
fn once_each(message: &str) -> String {
    let mut text = message.to_owned();
    let keys = message.split('`').skip(1).step_by(2);
    for key in keys.filter(|key| key.contains('_')) {
        if message.contains(&format!("`{}`", key.replace('_', "-"))) {
            text = text.replace(&format!(", `{key}`"), "");
            text = text.replace(&format!(" or `{key}`"), "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, UsageError> {
        let path = std::env::temp_dir().join(format!(
            "ringspoa-config-{}-{:?}.toml",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::write(&path, text).unwrap();
        let settings = Settings::load(&path);
        fs::remove_file(&path).unwrap();
        settings
    }

    #[test]
    fn a_full_file_is_read() {
        let settings = load(
            r#"
            listen = ["127.0.0.1:9000", "unix:/tmp/a.sock,mode=660"]
            cores = "0"
            driver = "epoll"
            max-frame-size = 131068
            max-reassembly-len = 1000000
            max-connections = 10
            max-in-flight = 11
            hello-timeout-ms = 12
            idle-timeout-ms = 13
            write-timeout-ms = 14
            agent-deadline-ms = 15
            drain-timeout-ms = 16
            busy-poll-us = 17
            never-empty-acks = true
            fallback = [
                { scope = "txn", name = "remediation", value = "allow" },
                { scope = "sess", name = "code", value = -1 },
                { scope = "req", name = "failed", value = true },
            ]
            "#,
        );
        let config = settings.unwrap().server_config().unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(
            (config.cores, config.driver),
            (Cores::List(vec![0]), Driver::Epoll)
        );
        assert_eq!(config.limits.max_frame_size, 131_068);
        assert_eq!(
            (config.max_connections, config.limits.max_in_flight),
            (10, 11)
        );
        assert_eq!(config.limits.hello_timeout, Duration::from_millis(12));
        assert_eq!(config.idle_timeout, Some(Duration::from_millis(13)));
        assert_eq!(config.drain_timeout, Duration::from_millis(16));
        assert_eq!(config.busy_poll, Duration::from_micros(17));
        assert!(config.never_empty_acks);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, parts) in [
            (
                "\nlisen = []\n",
                &["line 2", "`lisen`", "did you mean `listen`?"][..],
            ),
            ("cores = 1\n", &["line 1", "expected a string"]),
            ("listen = [\n", &["line"]),
            (
                "fallback = [{ scope = 'txn', name = 'a', value = 1.5 }]",
                &["want text, a whole"],
            ),
            ("max-frame-sise = 1", &["did you mean `max-frame-size`?"]),
            (
                "[remediation.appsec]\nfailure-actoin = 'deny'",
                &["line 2", "did you mean `failure-action`?"],
            ),
            (
                "[[remediation.host]]\nhost = '*'\n[remediation.host.captcha]\npased-ttl = '1h'",
                &["line 4", "did you mean `passed-ttl`?"],
            ),
            (
                "[[remediation.host]]\nhost = '*'\nban = { zzz-key = 1 }",
                &[
                    "line 3",
                    "unknown field `zzz-key`, expected `contact-us-url`",
                ],
            ),
            (
                "[remediation.appsec]\nzzz_key = 1",
                &["`zzz_key`, expected one of `url`, `api-key`, `timeout`"],
            ),
            (
                "[challenge]\n[[challenge.realm]]\ndryrun = true",
                &["did you mean `dry-run`?"],
            ),
        ] {
            let error = load(text).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
        for (text, part) in [
            ("listen = 'nowhere'", "listen address 'nowhere'"),
            (
                "hello-timeout-ms = 0",
                "hello-timeout-ms must be longer than 0",
            ),
            ("listen = ['nowhere']", "listen address 'nowhere'"),
            ("max-frame-size = 100", "max-frame-size is 100"),
            (
                "fallback = [{ scope = 'x', name = 'a', value = 1 }]",
                "fallback scope 'x'",
            ),
            (
                "fallback = [{ scope = 'txn', name = 'a-b', value = 1 }]",
                "'a-b'",
            ),
        ] {
            let error = load(text).unwrap().server_config().unwrap_err().to_string();
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Settings {
            cores: Some("1".to_owned()),
            ..Settings::default()
        };
        let file = load("cores = '0'\ndriver = 'epoll'").unwrap();
        let merged = flags.or(file);
        assert_eq!(
            (merged.cores.as_deref(), merged.driver.as_deref()),
            (Some("1"), Some("epoll"))
        );
    }
}

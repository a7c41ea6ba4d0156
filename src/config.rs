//! The configuration file and its meeting with the flags. A setting's key is its flag's name.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringspoa::agents::remediation::{self, AddressTable};
use ringspoa::spop::{Scope, TypedData, Variable};
use ringspoa::{Cores, Driver, Fallback, ListenAddress, ServerConfig};
use serde::{Deserialize, Deserializer};

/// What is wrong with flags or files, in full sentences for the terminal.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file, or the flags: each setting may be given or not.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) listen: Option<Vec<String>>,
    pub(crate) cores: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) ban_list: Option<PathBuf>,
    pub(crate) max_frame_size: Option<u32>,
    pub(crate) max_reassembly_len: Option<usize>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_in_flight: Option<usize>,
    pub(crate) hello_timeout_ms: Option<u64>,
    pub(crate) idle_timeout_ms: Option<u64>,
    pub(crate) write_timeout_ms: Option<u64>,
    pub(crate) agent_deadline_ms: Option<u64>,
    pub(crate) drain_timeout_ms: Option<u64>,
    pub(crate) busy_poll_us: Option<u64>,
    pub(crate) never_empty_acks: Option<bool>,
    pub(crate) fallback: Option<Vec<FallbackVariable>>,
}

/// One variable of the fallback: `{ scope = "txn", name = "remediation", value = "allow" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FallbackVariable {
    scope: String,
    name: String,
    value: FallbackValue,
}

#[derive(Debug, Deserialize)]
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
                error.message()
            ))
        })
    }

    /// These settings, and `other` where these say nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        macro_rules! merge {
            ($($key:ident)*) => { Self { $($key: self.$key.or(other.$key),)* } };
        }
        merge!(listen cores driver ban_list max_frame_size max_reassembly_len max_connections
            max_in_flight hello_timeout_ms idle_timeout_ms write_timeout_ms agent_deadline_ms
            drain_timeout_ms busy_poll_us never_empty_acks fallback)
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
            .map_err(|error| UsageError(error.to_string().replace('_', "-")))?;
        Ok(config)
    }

    /// The addresses to ban, and where they are from.
    pub(crate) fn ban_table(&self) -> Result<(AddressTable, String), UsageError> {
        let Some(path) = &self.ban_list else {
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
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
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
                "hello-timeout must be longer than 0",
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

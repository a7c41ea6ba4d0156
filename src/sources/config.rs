//! Where decisions come from, as the operator says it, and why that is refused.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::agents::remediation::{ListError, OnBadRecord, Remediation, StoreError};
use crate::outbound::{ClientCertificate, EndpointError, Proxy};

/// Settings of [`Sources`](super::Sources).
#[derive(Clone, Debug, Default)]
pub struct SourcesConfig {
    /// The sources. Together they have at most 256 files and LAPIs.
    pub sources: Vec<SourceConfig>,
    /// What words mean that are none of `allow`, `captcha` and `ban`, or that mean something else here.
    pub words: Vec<(String, Remediation)>,
    /// Where decisions of LAPIs are kept for the next start; default nowhere.
    pub warm: Option<WarmConfig>,
}

/// A source of decisions.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// What messages, metrics and the state on disk call it: unique, not empty, at most 255 bytes.
    pub name: String,
    /// See [`Source::priority`](crate::agents::remediation::Source::priority).
    pub priority: u8,
    /// See [`Source::is_allow_list`](crate::agents::remediation::Source::is_allow_list).
    pub is_allow_list: bool,
    /// What it is.
    pub kind: SourceKind,
}

impl SourceConfig {
    /// A source of priority 0 that is no allow list.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: impl Into<SourceKind>) -> Self {
        Self {
            name: name.into(),
            priority: 0,
            is_allow_list: false,
            kind: kind.into(),
        }
    }
}

/// What a source is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SourceKind {
    /// Files and directories.
    Files(FilesConfig),
    /// A LAPI of CrowdSec.
    Lapi(Box<LapiConfig>),
}

impl From<FilesConfig> for SourceKind {
    fn from(files: FilesConfig) -> Self {
        Self::Files(files)
    }
}

impl From<LapiConfig> for SourceKind {
    fn from(lapi: LapiConfig) -> Self {
        Self::Lapi(Box::new(lapi))
    }
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// One address or network a line.
    Lines,
    /// Comma-separated values.
    Csv,
    /// JSON as CrowdSec's tools write it.
    Json,
}

/// Longer times than a year are mistakes, and sums of them have no end.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 86_400);

const TOO_LONG: &str = "a time of it is longer than a year";

/// Settings of a source of files.
#[derive(Clone, Debug)]
pub struct FilesConfig {
    /// Files, and directories whose files are read: those with a name that ends in `.txt`, `.list`,
    /// `.lst`, `.netset`, `.ipset`, `.csv` or `.json`, or if a format is set all; but none whose name
    /// begins with a dot or ends with a tilde, and none in directories below.
    pub paths: Vec<PathBuf>,
    /// How they are read; by default `.csv` and `.json` by the end of their names, and others as lists.
    pub format: Option<FileFormat>,
    /// The word of decisions without one; default `ban`.
    pub remediation: String,
    /// The origin of decisions without one; default the name of the file.
    pub origin: Option<String>,
    /// What becomes of a file with a bad record; by default it is refused, and its last good content
    /// stays in force.
    pub on_bad: OnBadRecord,
    /// How often the files are looked at; default 1 s. A change is read once two looks agree about it,
    /// so that a file is not read while it is written.
    pub poll_every: Duration,
    /// Whether a file that is missing or bad at the start is an error; default true. If not, it is read
    /// as soon as it is good.
    pub is_required: bool,
}

impl FilesConfig {
    /// These files and directories, with the defaults.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            paths: paths.into_iter().map(Into::into).collect(),
            format: None,
            remediation: "ban".to_owned(),
            origin: None,
            on_bad: OnBadRecord::Refuse,
            poll_every: Duration::from_secs(1),
            is_required: true,
        }
    }
}

/// A key for a LAPI, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key as `cscli bouncers add` says it.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// What becomes of the decisions of a LAPI that does not answer. Each of them ends in its time in any
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StalePolicy {
    /// They hold.
    Keep,
    /// All of them are dropped once there was no good answer for this long.
    DropAfter(Duration),
}

/// How long a LAPI may take. An answer as a whole may take as long as it likes, while it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LapiTimeouts {
    /// Until there is a connection; default 5 s.
    pub connect: Duration,
    /// From then until the answer begins; default 30 s: of many decisions a LAPI sends none before it
    /// has all.
    pub first_byte: Duration,
    /// Between two pieces of the answer; default 30 s.
    pub idle_read: Duration,
    /// In this time an answer has to come to its end or get on by 4 KiB; default 60 s. An answer that
    /// trickles would never be idle, and never be there.
    pub progress: Duration,
}

impl Default for LapiTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            idle_read: Duration::from_secs(30),
            progress: Duration::from_secs(60),
        }
    }
}

/// Settings of a source that is a LAPI.
#[derive(Clone, Debug)]
pub struct LapiConfig {
    /// Its URL, as in `http://127.0.0.1:8080/`, or the path of its socket.
    pub api_url: String,
    /// The key it knows us by; either this or a certificate.
    pub api_key: Option<ApiKey>,
    /// The certificate it knows us by.
    pub client_certificate: Option<ClientCertificate>,
    /// Trust the authorities in this PEM file too, beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Take any certificate of it; default false.
    pub insecure: bool,
    /// Whether it is reached by a proxy; default no.
    pub proxy: Proxy,
    /// What it is told we are: a type, one slash and a version. By the type `cscli bouncers list` has a
    /// name for us; default `crowdsec-spoa-bouncer/v` and the version of this crate.
    pub user_agent: String,
    /// How often it is asked; default 10 s.
    pub update_frequency: Duration,
    /// Ask for these scopes; if empty, for `ip` and `range`, and those the next two add.
    pub scopes: Vec<String>,
    /// Ask for decisions on countries too, unless scopes are set: a LAPI does not send them unasked.
    pub wants_countries: bool,
    /// The same for autonomous systems.
    pub wants_as_numbers: bool,
    /// Ask only for decisions of these origins.
    pub origins: Vec<String>,
    /// Ask only for decisions whose scenario has one of these texts in it.
    pub scenarios_containing: Vec<String>,
    /// Ask only for decisions whose scenario has none of these texts in it.
    pub scenarios_not_containing: Vec<String>,
    /// Let the LAPI send only the longest of several decisions on one value; default false. It then
    /// sends one deletion for several too, of any of their origins, and a decision that another one hid
    /// is missed when that one ends or is of an origin that was not asked for. Without, an answer is
    /// larger where lists overlap.
    pub dedup: bool,
    /// Ask for all decisions this often, a tenth more or less at random; default 1 h. What a LAPI failed
    /// to say is repaired by that: it has the time of the last question, and rows that were written late
    /// or removed early are in no difference.
    pub resync_every: Duration,
    /// Ask for all decisions after no answer for this long; default 3 min. Shorter outages leave no gap,
    /// unless an answer was lost.
    pub resync_after: Duration,
    /// After failures it is asked again after 1 s, then after twice as long each time, up to this;
    /// default 10 s. A quarter more or less at random.
    pub retry_at_most: Duration,
    /// How long beyond its end a decision holds, so that it does not end before the LAPI says so;
    /// default twice `update_frequency`, and at least 10 s.
    pub grace: Option<Duration>,
    /// What becomes of decisions when it does not answer; default they hold.
    pub stale_policy: StalePolicy,
    /// How long it may take.
    pub timeouts: LapiTimeouts,
    /// An answer with more decisions than this is refused; default 5 million. Each takes 48 bytes until
    /// the answer is there in whole.
    pub max_decisions: usize,
    /// Tell it what was done, if [`Sources`](super::Sources) knows that; default true.
    pub usage: bool,
    /// How often it is told; default 15 min.
    pub usage_every: Duration,
}

impl LapiConfig {
    /// A LAPI with the defaults, known to it by a key.
    #[must_use]
    pub fn new(api_url: impl Into<String>, api_key: impl Into<String>) -> Self {
        Self {
            api_key: Some(ApiKey::new(api_key)),
            ..Self::without_key(api_url)
        }
    }

    /// The same, known to it by a certificate.
    #[must_use]
    pub fn with_certificate(api_url: impl Into<String>, certificate: ClientCertificate) -> Self {
        Self {
            client_certificate: Some(certificate),
            ..Self::without_key(api_url)
        }
    }

    fn without_key(api_url: impl Into<String>) -> Self {
        Self {
            api_url: api_url.into(),
            api_key: None,
            client_certificate: None,
            ca_file: None,
            insecure: false,
            proxy: Proxy::None,
            user_agent: concat!("crowdsec-spoa-bouncer/v", env!("CARGO_PKG_VERSION")).to_owned(),
            update_frequency: Duration::from_secs(10),
            scopes: Vec::new(),
            wants_countries: false,
            wants_as_numbers: false,
            origins: Vec::new(),
            scenarios_containing: Vec::new(),
            scenarios_not_containing: Vec::new(),
            dedup: false,
            resync_every: Duration::from_secs(3_600),
            resync_after: Duration::from_secs(180),
            retry_at_most: Duration::from_secs(10),
            grace: None,
            stale_policy: StalePolicy::Keep,
            timeouts: LapiTimeouts::default(),
            max_decisions: 5_000_000,
            usage: true,
            usage_every: Duration::from_secs(900),
        }
    }

    /// How long beyond its end a decision holds.
    pub(super) fn grace(&self) -> Duration {
        let by_default = (2 * self.update_frequency).max(Duration::from_secs(10));
        self.grace.unwrap_or(by_default)
    }
}

/// Where decisions of LAPIs are kept for the next start.
#[derive(Clone, Debug)]
pub struct WarmConfig {
    /// The file. It is replaced as a whole, by a file beside it.
    pub path: PathBuf,
    /// How soon it is written after a LAPI's first answer, and after one that changed something; default 2 s.
    /// Many changes are written at a time: after each megabyte it pauses for a second, and twenty times as
    /// long as writing took.
    pub write_after: Duration,
    /// How often it is written at least, for the time of the last answer; default 5 min. It is written at the
    /// end too.
    pub write_every: Duration,
    /// A larger file is neither written nor read, in bytes; default 512 MiB, which are some 20 million
    /// decisions.
    pub max_len: u64,
}

impl WarmConfig {
    /// This file, with the defaults.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            write_after: Duration::from_secs(2),
            write_every: Duration::from_secs(300),
            max_len: 512 << 20,
        }
    }
}

/// Why sources cannot be used as they are configured.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourcesError {
    /// Something about a source, by its name.
    Source {
        /// Its name.
        name: String,
        /// What is wrong.
        fault: SourceFault,
    },
    /// Two sources of this name.
    NameTwice(String),
    /// A name is empty, longer than 255 bytes or has control characters.
    Name(String),
    /// The system has no thread or no descriptors left.
    Start(std::io::Error),
}

/// What is wrong with a source.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceFault {
    /// A file or directory cannot be read.
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file has a bad record.
    Bad {
        /// Its path.
        path: PathBuf,
        /// Which and why.
        error: ListError,
    },
    /// A setting cannot be used; the text names it.
    Setting(&'static str),
    /// The LAPI's URL, proxy or files of certificates.
    Endpoint(EndpointError),
    /// More than the table takes.
    Store(StoreError),
}

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Bad { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Setting(text) => f.write_str(text),
            Self::Endpoint(error) => write!(f, "api_url, proxy or TLS: {error}"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SourceFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bad { error, .. } => Some(error),
            Self::Endpoint(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Unreadable { .. } | Self::Setting(_) => None,
        }
    }
}

impl fmt::Display for SourcesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { name, fault } => write!(f, "source '{name}': {fault}"),
            Self::NameTwice(name) => write!(f, "two sources are named '{name}'"),
            Self::Name(name) => {
                write!(
                    f,
                    "{name:?} is no name of a source, which has 1 to 255 bytes of printable text"
                )
            }
            Self::Start(error) => write!(f, "sources of decisions cannot be started: {error}"),
        }
    }
}

impl std::error::Error for SourcesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source { fault, .. } => Some(fault),
            Self::Start(error) => Some(error),
            Self::NameTwice(_) | Self::Name(_) => None,
        }
    }
}

impl SourceConfig {
    /// What is wrong with a setting.
    pub(super) fn check(&self) -> Result<(), SourceFault> {
        match &self.kind {
            SourceKind::Files(files) => files.check(),
            SourceKind::Lapi(lapi) => lapi.check(),
        }
        .map_err(SourceFault::Setting)
    }
}

impl FilesConfig {
    fn check(&self) -> Result<(), &'static str> {
        if self.paths.is_empty() {
            return Err("it has no file and no directory");
        }
        if self.poll_every.is_zero() {
            return Err("the time between two looks at its files must be more than zero");
        }
        if self.poll_every > LONGEST {
            return Err(TOO_LONG);
        }
        Ok(())
    }
}

impl LapiConfig {
    fn check(&self) -> Result<(), &'static str> {
        let is_unix = !self.api_url.contains("://");
        match (&self.api_key, &self.client_certificate) {
            (Some(_), Some(_)) => {
                return Err("api_key or a client certificate is needed, not both");
            }
            (None, None) => return Err("api_key or a client certificate is needed"),
            (Some(key), None)
                if key.as_str().is_empty()
                    || !key.as_str().bytes().all(|b| b.is_ascii_graphic()) =>
            {
                return Err("api_key must be printable ASCII without spaces, and not empty");
            }
            (None, Some(_)) if is_unix || !self.api_url.starts_with("https") => {
                return Err("a client certificate needs an api_url of https://");
            }
            _ => {}
        }
        let (kind, version) = self.user_agent.split_once('/').unwrap_or_default();
        let is_agent = !kind.is_empty() && !version.is_empty() && !version.contains('/');
        if !is_agent || !self.user_agent.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(
                "user_agent must be a type and a version with one slash between, as in \
                        crowdsec-spoa-bouncer/v1.0",
            );
        }
        let timeouts = &self.timeouts;
        for (time, problem) in [
            (
                self.update_frequency,
                "update_frequency must be more than zero",
            ),
            (self.resync_every, "resync_every must be more than zero"),
            (self.retry_at_most, "retry_at_most must be more than zero"),
            (self.usage_every, "usage_every must be more than zero"),
            (
                timeouts.connect,
                "the time to connect must be more than zero",
            ),
            (
                timeouts.first_byte,
                "the time until an answer must be more than zero",
            ),
            (
                timeouts.idle_read,
                "the time an answer may pause must be more than zero",
            ),
            (
                timeouts.progress,
                "the time for 4 KiB must be more than zero",
            ),
        ] {
            if time.is_zero() {
                return Err(problem);
            }
            if time > LONGEST {
                return Err(TOO_LONG);
            }
        }
        if self.grace() > LONGEST {
            return Err(TOO_LONG);
        }
        if self.max_decisions == 0 {
            return Err("max_decisions must be more than zero");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_lapi_are_checked() {
        let lapi = || LapiConfig::new("http://127.0.0.1:8080/", "key");
        assert_eq!(lapi().check(), Ok(()));
        let certificate = || ClientCertificate {
            certificate_file: "cert.pem".into(),
            key_file: "key.pem".into(),
        };
        type Change = fn(&mut LapiConfig);
        let cases: [(Change, &str); 10] = [
            (|lapi| lapi.api_key = None, "api_key"),
            (|lapi| lapi.api_key = Some(ApiKey::new("a b")), "api_key"),
            (|lapi| lapi.api_key = Some(ApiKey::new("")), "api_key"),
            (|lapi| lapi.user_agent = "agent".to_owned(), "one slash"),
            (|lapi| lapi.user_agent = "a/b/c".to_owned(), "one slash"),
            (
                |lapi| lapi.update_frequency = Duration::ZERO,
                "update_frequency",
            ),
            (|lapi| lapi.timeouts.progress = Duration::ZERO, "4 KiB"),
            (|lapi| lapi.max_decisions = 0, "max_decisions"),
            (|lapi| lapi.resync_every = Duration::MAX, "a year"),
            (|lapi| lapi.grace = Some(Duration::MAX), "a year"),
        ];
        for (change, part) in cases {
            let mut config = lapi();
            change(&mut config);
            assert!(config.check().unwrap_err().contains(part), "{config:?}");
        }
        let mut both = lapi();
        both.client_certificate = Some(certificate());
        assert!(both.check().unwrap_err().contains("not both"));
        let plain = LapiConfig::with_certificate("http://127.0.0.1/", certificate());
        assert!(plain.check().unwrap_err().contains("https"));
        assert_eq!(
            LapiConfig::with_certificate("https://127.0.0.1/", certificate()).check(),
            Ok(())
        );
        assert!(!format!("{:?}", lapi()).contains("\"key\""));
    }

    #[test]
    fn decisions_outlive_their_end_by_two_questions() {
        let mut lapi = LapiConfig::new("/run/crowdsec.sock", "key");
        assert_eq!(lapi.grace(), Duration::from_secs(20));
        lapi.update_frequency = Duration::from_secs(1);
        assert_eq!(lapi.grace(), Duration::from_secs(10));
        lapi.grace = Some(Duration::ZERO);
        assert_eq!(lapi.grace(), Duration::ZERO);
    }
}

//! What the outbound thread and its endpoints are told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::breaker::BreakerConfig;
use super::target::{Target, UrlError};

/// Settings of [`Outbound`](super::Outbound).
#[derive(Clone, Debug)]
pub struct OutboundConfig {
    /// For how long the addresses of a name are used before it is resolved again; default 30 s. They go
    /// on being used while that is under way, and where it fails.
    pub resolve_every: Duration,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            resolve_every: Duration::from_secs(30),
        }
    }
}

/// Settings of an [`Endpoint`](super::Endpoint).
#[derive(Clone)]
pub struct EndpointConfig {
    /// What messages and metrics call it.
    pub name: String,
    /// `http://host[:port][/path]`, the same with `https`, or a socket: `unix:/path` or its path alone.
    pub url: String,
    /// What of TLS is particular to it.
    pub tls: TlsConfig,
    /// Whether calls go by a proxy; default no.
    pub proxy: Proxy,
    /// Connections it may have, and so calls and streams at a time; default 64. Each holds up to 80 KiB
    /// of buffers, and its answer up to the limit of the call.
    pub max_in_flight: usize,
    /// Calls that may wait for one of those, within their deadlines; default 0. One more is shed.
    pub max_queued: usize,
    /// How long connecting may take, TLS and proxy included; default 5 s. A call waits no longer than
    /// its deadline, and a connection that comes later is kept for the next one.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept; default 30 s, or a second less than the server says in a
    /// `Keep-Alive` header, if that is shorter. Servers commonly close after 60 s or more; those that
    /// close after 5 s say so.
    pub idle_timeout: Duration,
    /// Unused connections that are kept; default 16.
    pub max_idle: usize,
    /// When it is not called for a while; default after 5 failures in a row, for 5 s. `None`: it always
    /// is.
    pub breaker: Option<BreakerConfig>,
}

impl EndpointConfig {
    /// An endpoint with the defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            tls: TlsConfig::default(),
            proxy: Proxy::None,
            max_in_flight: 64,
            max_queued: 0,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            max_idle: 16,
            breaker: Some(BreakerConfig::default()),
        }
    }

    pub(super) fn check(&self) -> Result<(), EndpointError> {
        for (setting, is_zero) in [
            ("max_in_flight", self.max_in_flight == 0),
            ("connect_timeout", self.connect_timeout.is_zero()),
            (
                "breaker.failures",
                self.breaker.is_some_and(|b| b.failures == 0),
            ),
            (
                "breaker.open_for",
                self.breaker.is_some_and(|b| b.open_for.is_zero()),
            ),
        ] {
            if is_zero {
                return Err(EndpointError::Zero(setting));
            }
        }
        Ok(())
    }
}

/// The URL may have in it what it must not, and is shown without its path.
impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match Target::parse(&self.url) {
            Ok(target) => target.to_string(),
            Err(_) => "not valid".to_owned(),
        };
        f.debug_struct("EndpointConfig")
            .field("name", &self.name)
            .field("url", &url)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_queued", &self.max_queued)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_idle", &self.max_idle)
            .field("breaker", &self.breaker)
            .finish()
    }
}

/// TLS of an endpoint whose URL is `https://`. The files are read when the endpoint is made.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Trust the authorities that the system trusts; default true.
    pub system_roots: bool,
    /// Trust the authorities in this PEM file too.
    pub ca_file: Option<PathBuf>,
    /// Show this certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// The name the certificate must be for; default the URL's host.
    pub server_name: Option<String>,
    /// Take any certificate, for any name, from anybody; default false. Whoever is between this and the
    /// server then reads and writes all of it, keys included.
    pub insecure: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            system_roots: true,
            ca_file: None,
            client_certificate: None,
            server_name: None,
            insecure: false,
        }
    }
}

/// A certificate of ours, and its key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// PEM file of the certificate, followed by those between it and the authority.
    pub certificate_file: PathBuf,
    /// PEM file of its key, not encrypted.
    pub key_file: PathBuf,
}

/// Whether calls go by a proxy. Sockets never do.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Proxy {
    /// They do not.
    #[default]
    None,
    /// If the environment says so when the endpoint is made: `https_proxy`, `http_proxy`, `all_proxy` and
    /// `no_proxy`, or the same in upper case, but for `HTTP_PROXY` where there is a `REQUEST_METHOD`:
    /// under CGI, clients choose what is in it.
    Environment,
    /// By the one at this URL: `http://[user:password@]host:port`.
    Url(String),
}

/// The URL may have a password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Environment => "Environment",
            Self::Url(_) => "Url(..)",
        })
    }
}

/// How long the parts of a stream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTimeouts {
    /// Until there is a connection; default 5 s.
    pub connect: Duration,
    /// From then until the head of the answer is there; default 30 s.
    pub first_byte: Duration,
    /// Between two pieces of the body; default 30 s. Time in which the reader does not read is not
    /// counted.
    pub idle_read: Duration,
}

impl Default for StreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            idle_read: Duration::from_secs(30),
        }
    }
}

/// Why an endpoint cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// The URL is refused. It is not in the text, as it may hold what it must not.
    Url(UrlError),
    /// A setting must not be zero.
    Zero(&'static str),
    /// A file of certificates or keys cannot be used.
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// TLS is not possible with these settings.
    Tls(String),
    /// The proxy's URL, or where it is said.
    Proxy(String),
    /// The outbound thread has ended.
    Stopped,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => write!(f, "the URL is refused: {error}"),
            Self::Zero(setting) => write!(f, "{setting} must be more than zero"),
            Self::File { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Tls(reason) => write!(f, "TLS: {reason}"),
            Self::Proxy(reason) => write!(f, "proxy: {reason}"),
            Self::Stopped => f.write_str("outbound calls have been stopped"),
        }
    }
}

impl std::error::Error for EndpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Url(error) => Some(error),
            _ => None,
        }
    }
}

//! What a server is told, checked before anything is started.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::agent::Fallback;
use crate::connection::{LARGEST_MAX_FRAME_SIZE, Limits};
use crate::spop::MIN_MAX_FRAME_SIZE;

/// A core that polls for longer than this between two NOTIFYs is not meant to.
const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

/// What is refused must not be held on to for long.
const MAX_REFUSAL_DELAY: Duration = Duration::from_secs(60);

/// Settings of a [`Server`](super::Server).
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; at least one. Default 127.0.0.1:9000.
    pub listen: Vec<ListenAddress>,
    /// On which CPUs; one worker each. Default: all the process may use.
    pub cores: Cores,
    /// How to wait for I/O. Default: `io_uring` where it works, else epoll.
    pub driver: Driver,
    /// What a connection accepts.
    pub limits: Limits,
    /// When a ticket is answered with the fallback; default 500 ms, a common `timeout processing`.
    /// Kept to a millisecond or two; some more where hundreds of tickets are out on a core.
    pub agent_deadline: Duration,
    /// What HAProxy gets where the agent has no answer; default an ACK without actions.
    pub fallback: Fallback,
    /// Put a harmless action into ACKs that would have none. HAProxy 3.1.0 and the first 3.1.x
    /// wait for their timeout on an empty ACK; default false.
    pub never_empty_acks: bool,
    /// Tickets that may be out on one core; for one more HAProxy gets the fallback at once. Default
    /// 65 536.
    pub max_in_flight_per_core: usize,
    /// Connections in total. Default 4096. A few more are taken for health checks; others get
    /// status 13, and beyond that a connection is closed at once. Each holds a buffer of
    /// 16 KiB, of `max_frame_size` if that was negotiated above 16 380, or less if the setting is
    /// below that. What of it was never filled takes no memory: an idle connection is 6 to 8 KB.
    pub max_connections: usize,
    /// The same for each address of `listen`; default no limit of its own.
    pub max_connections_per_listener: usize,
    /// HELLOs a second that a core answers; the next ones wait for their turn. Default 1000, 0 for
    /// no limit. HAProxy opens hundreds of connections after a reload, and a second is little to
    /// wait then.
    pub max_handshakes: u32,
    /// How long a peer waits for the DISCONNECT that refuses its HELLO; default 1 s. HAProxy up to
    /// 3.0 comes back at once, thousands of times a second.
    pub refusal_delay: Duration,
    /// Disconnect a peer that sent nothing for this long; default never, HAProxy does it itself.
    pub idle_timeout: Option<Duration>,
    /// Cut a peer that does not take its answers for this long; default 30 s.
    pub write_timeout: Duration,
    /// How long a drain goes on as before but for health checks, which fail, so that HAProxy sends
    /// what is new elsewhere; default 0. Where HAProxy has several agents, set it to the `inter` of
    /// its checks times `fall`.
    pub drain_notice: Duration,
    /// How long a drain may take after that; default 10 s.
    pub drain_timeout: Duration,
    /// Log every frame of one connection in so many; default 0, of none.
    pub trace_frames: u32,
    /// How long a core looks for more input before it sleeps; default 0, not at all. Some tens of
    /// microseconds take the waking of the CPU out of each answer at low load, a third of the
    /// median or less, and keep the core busy for as long as NOTIFYs come closer together than
    /// that. Under load, where cores do not sleep, it changes nothing. 1 s at most.
    pub busy_poll: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 9000)))],
            cores: Cores::Auto,
            driver: Driver::Auto,
            limits: Limits::default(),
            agent_deadline: Duration::from_millis(500),
            fallback: Fallback::empty(),
            never_empty_acks: false,
            max_in_flight_per_core: 65_536,
            max_connections: 4096,
            max_connections_per_listener: usize::MAX,
            max_handshakes: 1000,
            refusal_delay: Duration::from_secs(1),
            idle_timeout: None,
            write_timeout: Duration::from_secs(30),
            drain_notice: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            trace_frames: 0,
            busy_poll: Duration::ZERO,
        }
    }
}

impl ServerConfig {
    /// The defaults, but listening on `address`.
    #[must_use]
    pub fn listening_on(address: ListenAddress) -> Self {
        Self {
            listen: vec![address],
            ..Self::default()
        }
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    ///
    /// The setting that is out of range, and its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let size = self.limits.max_frame_size;
        if !(MIN_MAX_FRAME_SIZE..=LARGEST_MAX_FRAME_SIZE).contains(&size) {
            return Err(ConfigError(format!(
                "max_frame_size is {size}, must be from {MIN_MAX_FRAME_SIZE} to {LARGEST_MAX_FRAME_SIZE}"
            )));
        }
        let timeouts = [
            ("hello_timeout", self.limits.hello_timeout),
            ("write_timeout", self.write_timeout),
            ("agent_deadline", self.agent_deadline),
        ];
        for (name, value) in timeouts {
            if value.is_zero() {
                return Err(ConfigError(format!("{name} must be longer than 0")));
            }
        }
        if self.busy_poll > MAX_BUSY_POLL {
            return Err(ConfigError(format!(
                "busy_poll is {:?}, must be at most {MAX_BUSY_POLL:?}: some tens of microseconds do",
                self.busy_poll
            )));
        }
        let at_least_one = [
            ("listen", self.listen.len()),
            ("max_connections", self.max_connections),
            (
                "max_connections_per_listener",
                self.max_connections_per_listener,
            ),
            ("max_in_flight_per_core", self.max_in_flight_per_core),
            ("max_in_flight", self.limits.max_in_flight),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(ConfigError(format!("{name} must be at least 1")));
            }
        }
        if self.refusal_delay > MAX_REFUSAL_DELAY {
            return Err(ConfigError(format!(
                "refusal_delay is {:?}, must be at most {MAX_REFUSAL_DELAY:?}: each refused peer holds a connection for so long",
                self.refusal_delay
            )));
        }
        Ok(())
    }

    /// Checks what depends on the machine: that the CPUs are there, and the users and groups that
    /// sockets are to belong to.
    ///
    /// # Errors
    ///
    /// The setting that names what is not there.
    pub fn check_here(&self) -> Result<(), ConfigError> {
        super::usable_cores(&self.cores).map_err(|error| ConfigError(error.to_string()))?;
        for address in &self.listen {
            if let ListenAddress::Unix { user, group, .. } = address {
                let wrong = |error: std::io::Error| {
                    ConfigError(format!("listen address {address}: {error}"))
                };
                user.as_deref()
                    .map(super::user_id)
                    .transpose()
                    .map_err(wrong)?;
                group
                    .as_deref()
                    .map(super::group_id)
                    .transpose()
                    .map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Which settings differ in `other` that only a new start can change.
    #[must_use]
    pub fn restart_needed(&self, other: &Self) -> Vec<&'static str> {
        let fixed = [
            ("listen", self.listen != other.listen),
            ("cores", self.cores != other.cores),
            ("driver", self.driver != other.driver),
            (
                "max_frame_size",
                self.limits.max_frame_size != other.limits.max_frame_size,
            ),
            ("busy_poll", self.busy_poll != other.busy_poll),
        ];
        let changed = fixed.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(name, _)| name).collect()
    }

    /// `other`, but with what only a new start can change as it is here.
    pub(super) fn reloaded(&self, other: Self) -> Self {
        let mut config = other;
        config.listen.clone_from(&self.listen);
        config.cores.clone_from(&self.cores);
        config.driver = self.driver;
        config.limits.max_frame_size = self.limits.max_frame_size;
        config.busy_poll = self.busy_poll;
        config
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Where to listen.
///
/// As text: `127.0.0.1:9000`, `[::1]:9000`, or
/// `unix:/run/ringspoa.sock,mode=660,user=haproxy,group=haproxy` (the options as in HAProxy's
/// `bind`, each of them optional).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP over IPv4 or IPv6. An IPv6 listener takes IPv6 only.
    Tcp(SocketAddr),
    /// A Unix socket. A socket nobody listens on any more is replaced.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its permission bits; default 0660.
        mode: Option<u32>,
        /// Its owner, by name or number; default the process's.
        user: Option<String>,
        /// Its group, by name or number; default the process's.
        group: Option<String>,
    },
}

impl ListenAddress {
    /// Whether both are the same place, whatever is said of owners and modes.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(here), Self::Tcp(there)) => here == there,
            (Self::Unix { path: here, .. }, Self::Unix { path: there, .. }) => here == there,
            _ => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = |why: &str| ConfigError(format!("listen address '{text}': {why}"));
        let Some(rest) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| {
                wrong("want a numeric ADDRESS:PORT as in 127.0.0.1:9000 or [::1]:9000 (names are not looked up), or unix:/PATH")
            });
        };
        let mut parts = rest.split(',');
        let path = parts.next().unwrap_or_default();
        if path.is_empty() {
            return Err(wrong("unix: wants a path, as in unix:/run/ringspoa.sock"));
        }
        let (mut mode, mut user, mut group) = (None, None, None);
        for option in parts {
            match option.split_once('=') {
                Some(("mode", value)) => {
                    let bits = u32::from_str_radix(value, 8)
                        .ok()
                        .filter(|bits| *bits <= 0o777);
                    mode =
                        Some(bits.ok_or_else(|| wrong("mode wants octal digits, as in mode=660"))?);
                }
                Some(("user", value)) if !value.is_empty() => user = Some(value.to_owned()),
                Some(("group", value)) if !value.is_empty() => group = Some(value.to_owned()),
                _ => return Err(wrong("options are mode=OCTAL, user=NAME and group=NAME")),
            }
        }
        Ok(Self::Unix {
            path: PathBuf::from(path),
            mode,
            user,
            group,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which CPUs get a worker. As text: `auto`, or a list as taskset writes it: `0`, `0-3,8`, `0-6:2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Every CPU the process may use: its affinity, and no more than its CPU quota.
    Auto,
    /// These CPUs, by number.
    List(Vec<usize>),
}

impl FromStr for Cores {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut list = Vec::new();
        for part in text.split(',') {
            let range = parse_range(part).ok_or_else(|| {
                ConfigError(format!(
                    "cores '{text}': '{part}' is not a CPU number or range; want auto or a list as in 0-3,8"
                ))
            })?;
            list.extend(range);
        }
        list.sort_unstable();
        list.dedup();
        Ok(Self::List(list))
    }
}

/// `N`, `N-M` or `N-M:STRIDE`.
fn parse_range(part: &str) -> Option<impl Iterator<Item = usize> + use<>> {
    /// More CPUs than any kernel has (`CONFIG_NR_CPUS` ends at 8192).
    const MAX_CPU: usize = 8191;
    let (span, stride) = match part.split_once(':') {
        Some((span, stride)) if span.contains('-') => (span, stride.parse().ok()?),
        Some(_) => return None,
        None => (part, 1),
    };
    let (first, last) = span.split_once('-').unwrap_or((span, span));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (stride > 0 && first <= last && last <= MAX_CPU).then(|| (first..=last).step_by(stride))
}

/// How a core waits for I/O. As text: `auto`, `io_uring`, `epoll`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `io_uring` where it works, else epoll, saying why.
    Auto,
    /// `io_uring`, or fail to start.
    IoUring,
    /// epoll.
    Epoll,
}

impl FromStr for Driver {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(ConfigError(format!(
                "driver '{text}': want auto, io_uring or epoll"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_read_as_taskset_writes_them() {
        let list = |text: &str| text.parse::<Cores>();
        assert_eq!(list("auto"), Ok(Cores::Auto));
        assert_eq!(list("0"), Ok(Cores::List(vec![0])));
        assert_eq!(list("0-3,8"), Ok(Cores::List(vec![0, 1, 2, 3, 8])));
        assert_eq!(list("8,0-6:2,2"), Ok(Cores::List(vec![0, 2, 4, 6, 8])));
        for wrong in ["", "a", "1-", "3-1", "0-4:0", "1:2", "0-99999", "-1"] {
            let error = list(wrong).unwrap_err().to_string();
            assert!(error.contains("0-3,8"), "{error}");
        }
    }

    #[test]
    fn listen_addresses() {
        let address = |text: &str| text.parse::<ListenAddress>();
        let tcp = |text: &str| ListenAddress::Tcp(text.parse().unwrap());
        assert_eq!(address("127.0.0.1:9000"), Ok(tcp("127.0.0.1:9000")));
        assert_eq!(address("[::1]:9000"), Ok(tcp("[::1]:9000")));
        let unix = ListenAddress::Unix {
            path: "/run/a.sock".into(),
            mode: Some(0o660),
            user: Some("haproxy".into()),
            group: None,
        };
        assert_eq!(address("unix:/run/a.sock,mode=660,user=haproxy"), Ok(unix));
        for wrong in [
            "",
            "9000",
            "localhost",
            "unix:",
            "unix:/a,mode=9",
            "unix:/a,mod=660",
        ] {
            let error = address(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn out_of_range_settings_are_named() {
        let mut config = ServerConfig::default();
        assert_eq!(config.check(), Ok(()));
        config.limits.max_frame_size = 255;
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .starts_with("max_frame_size is 255")
        );
        config.limits.max_frame_size = LARGEST_MAX_FRAME_SIZE;
        config.busy_poll = Duration::from_millis(1_001);
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "busy_poll is 1.001s, must be at most 1s: some tens of microseconds do"
        );
        config.busy_poll = Duration::from_secs(1);
        config.max_connections = 0;
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "max_connections must be at least 1"
        );
    }
}

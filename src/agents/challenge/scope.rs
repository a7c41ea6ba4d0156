//! Whom a cookie is for: the host it was given by, or all hosts of a domain that the operator trusts.
//!
//! The host of a request becomes part of what is signed, and of attributes of a cookie. So it is taken
//! in one form, or not at all.

use std::fmt;
use std::net::Ipv6Addr;

use crate::agents::common::hosts::{HostPattern, HostTable};

/// The longest host, in bytes: what names may have, with what some write around them.
const MAX_HOST_LEN: usize = 255;

/// How much of a host is shown in the log.
const MAX_SHOWN_LEN: usize = 80;

/// Which hosts a realm serves, and which domains share what one of their hosts gave.
#[derive(Clone, Debug, Default)]
pub struct ScopeRules {
    hosts: HostTable<()>,
    trusted_domains: Box<[Box<str>]>,
}

impl ScopeRules {
    /// Rules of these. Without patterns all hosts are served.
    ///
    /// # Errors
    ///
    /// The trusted domain that is none.
    pub fn new<'a>(
        hosts: impl IntoIterator<Item = HostPattern>,
        trusted_domains: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TrustedDomainError> {
        let trusted = |domain: &str| {
            let is_domain = HostText::of(domain.as_bytes())
                .is_ok_and(|host| host.as_str() == domain && !host.is_address());
            if is_domain && domain.contains('.') {
                Ok(domain.into())
            } else {
                Err(TrustedDomainError {
                    domain: domain.to_owned(),
                })
            }
        };
        Ok(Self {
            hosts: HostTable::new(hosts.into_iter().map(|pattern| (pattern, ())).collect()),
            trusted_domains: trusted_domains
                .into_iter()
                .map(trusted)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The scope of a request with this value of a `Host` header; `None` if HAProxy does not send it, and
    /// so nothing is bound to it.
    ///
    /// # Errors
    ///
    /// Why the realm does not serve it.
    pub fn scope(&self, host: Option<&[u8]>) -> Result<Scope<'_>, HostError> {
        let Some(header) = host else {
            if self.hosts.is_empty() {
                return Ok(Scope {
                    host: HostText::default(),
                    shared: None,
                });
            }
            return Err(HostError::Unknown);
        };
        let host = HostText::of(header)?;
        if !self.hosts.is_empty() && self.hosts.get(header).is_none() {
            return Err(HostError::Unknown);
        }
        let shared = self
            .trusted_domains
            .iter()
            .find(|domain| is_within(host.as_str(), domain));
        Ok(Scope {
            host,
            shared: shared.map(|domain| &**domain),
        })
    }
}

/// Whether a host is the domain or below it.
pub(super) fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// Whom a cookie is for.
#[derive(Clone, Copy)]
pub struct Scope<'r> {
    host: HostText,
    shared: Option<&'r str>,
}

impl Scope<'_> {
    /// The host, in lower case and without port; empty if it is not known.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The trusted domain that the host is of.
    #[must_use]
    pub const fn shared_domain(&self) -> Option<&str> {
        self.shared
    }

    /// What is signed: of what is shared the domain, if there is one, else the host.
    pub(super) fn text(&self, is_shared: bool) -> Option<&[u8]> {
        if is_shared {
            self.shared.map(str::as_bytes)
        } else {
            Some(self.host.as_str().as_bytes())
        }
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("host", &self.host())
            .field("shared_domain", &self.shared)
            .finish()
    }
}

/// A host in the one form.
#[derive(Clone, Copy)]
struct HostText {
    bytes: [u8; MAX_HOST_LEN],
    len: u8,
}

impl Default for HostText {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_HOST_LEN],
            len: 0,
        }
    }
}

impl HostText {
    /// The host in a header: a name of labels, an IPv4 address or an IPv6 address in brackets, and a port.
    fn of(header: &[u8]) -> Result<Self, HostError> {
        // A port and brackets beside.
        if header.len() > MAX_HOST_LEN + 8 {
            return Err(HostError::TooLong);
        }
        let is_address = header.first() == Some(&b'[');
        let (host, port) = if is_address {
            let end = header
                .iter()
                .position(|&byte| byte == b']')
                .ok_or(HostError::Malformed)?;
            (&header[1..end], &header[end + 1..])
        } else {
            let end = header.iter().position(|&byte| byte == b':');
            header.split_at(end.unwrap_or(header.len()))
        };
        if !is_port(port) {
            return Err(HostError::Malformed);
        }
        let host = if is_address {
            host
        } else {
            host.strip_suffix(b".").unwrap_or(host)
        };
        if host.is_empty() {
            return Err(HostError::Empty);
        }
        let mut text = Self::default();
        let room = text.bytes.get_mut(..host.len()).ok_or(HostError::TooLong)?;
        room.copy_from_slice(host);
        room.make_ascii_lowercase();
        text.len = u8::try_from(host.len()).map_err(|_| HostError::TooLong)?;
        let is_host = if is_address {
            text.as_str().parse::<Ipv6Addr>().is_ok()
        } else {
            is_name(text.as_str().as_bytes())
        };
        is_host.then_some(text).ok_or(HostError::Malformed)
    }

    fn as_str(&self) -> &str {
        // Empty for what is not UTF-8, which no name and no address is.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// Whether it is an address, which no domain has below it.
    fn is_address(&self) -> bool {
        self.as_str().parse::<std::net::IpAddr>().is_ok()
    }
}

/// Nothing, or a colon and a number that ports have, or none.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits
                    .iter()
                    .fold(0_u32, |port, digit| 10 * port + u32::from(digit - b'0'))
                    <= 65535
        }
        _ => false,
    }
}

/// Labels with dots between; an underscore is in names that browsers take, though in none of RFC 1123.
fn is_name(text: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        !label.is_empty()
            && label.iter().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte)
            })
    };
    !text.is_empty() && text.split(|&byte| byte == b'.').all(is_label)
}

/// A host as it came, for the log: what is no plain letter is escaped, and what is longer than names are cut.
pub(super) struct ShownHost<'a>(pub(super) Option<&'a [u8]>);

impl fmt::Debug for ShownHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(host) = self.0 else {
            return f.write_str("-");
        };
        let shown = &host[..host.len().min(MAX_SHOWN_LEN)];
        let rest = if shown.len() < host.len() { "..." } else { "" };
        write!(f, "\"{}{rest}\"", shown.escape_ascii())
    }
}

/// Why a host is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// There is nothing in it.
    Empty,
    /// It is longer than names are.
    TooLong,
    /// It is no name and no address.
    Malformed,
    /// None of the realm's patterns has it.
    Unknown,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::TooLong => "the host is too long",
            Self::Malformed => "the host is no name and no address",
            Self::Unknown => "the host is none of the realm",
        })
    }
}

impl std::error::Error for HostError {}

/// A trusted domain that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedDomainError {
    /// As it was given.
    pub domain: String,
}

impl fmt::Display for TrustedDomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.domain.chars().take(80).collect();
        write!(
            f,
            "{text:?} is no domain to trust: want one of two labels or more in lower case, as in \
             example.com"
        )
    }
}

impl std::error::Error for TrustedDomainError {}

//! Where an endpoint is: the reading of its URL.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) is_tls: bool,
    /// Before each request's path; without a slash at its end.
    pub(super) base_path: String,
    /// The Host header.
    pub(super) authority: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A name that has to be resolved, and a port.
    Name(String, u16),
    Address(IpAddr, u16),
    Unix(PathBuf),
}

/// Why a URL is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither `http://`, `https://`, `unix:/` nor a path.
    Scheme,
    /// It has no host, or one with characters hosts do not have.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// A name or password before the host.
    UserInfo,
    /// Its path has characters that must be percent-encoded.
    Path,
    /// A query or a fragment.
    Query,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => {
                "it must begin with http:// or https://, or be the path of a socket, as in \
                 unix:/run/service.sock"
            }
            Self::Host => {
                "its host must be a name of letters, digits, '-', '_' and '.', an IPv4 address, or \
                 an IPv6 address in brackets"
            }
            Self::Port => "its port must be a number from 1 to 65535",
            Self::UserInfo => "it must not have a user name or password; send them as a header",
            Self::Path => {
                "its path must be of printable ASCII without spaces; percent-encode others"
            }
            Self::Query => "it must have no query and no fragment; they belong to the request",
        })
    }
}

impl std::error::Error for UrlError {}

impl Target {
    /// Reads `http://host[:port][/path]`, the same with `https`, `unix:/path`, `unix:///path` or
    /// `/path`.
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        let socket = url.strip_prefix("unix:").unwrap_or(url);
        let socket = socket.strip_prefix("//").unwrap_or(socket);
        if socket.starts_with('/') && (url.starts_with("unix:") || !url.starts_with("//")) {
            return Ok(Self {
                place: Place::Unix(PathBuf::from(socket)),
                is_tls: false,
                base_path: String::new(),
                authority: "localhost".to_owned(),
            });
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        if path.contains(['?', '#']) {
            return Err(UrlError::Query);
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Path);
        }
        let default_port = if is_tls { 443 } else { 80 };
        let (place, host, port) = split_authority(authority, default_port)?;
        Ok(Self {
            place,
            is_tls,
            base_path: path.trim_end_matches('/').to_owned(),
            authority: if port == default_port {
                host
            } else {
                format!("{host}:{port}")
            },
        })
    }

    /// The host as certificates have it, without brackets.
    pub(super) fn host(&self) -> String {
        match &self.place {
            Place::Name(name, _) => name.clone(),
            Place::Address(address, _) => address.to_string(),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Host and port, always with the port, for a proxy.
    pub(super) fn host_and_port(&self) -> Option<String> {
        match &self.place {
            Place::Name(name, port) => Some(format!("{name}:{port}")),
            Place::Address(IpAddr::V4(address), port) => Some(format!("{address}:{port}")),
            Place::Address(IpAddr::V6(address), port) => Some(format!("[{address}]:{port}")),
            Place::Unix(_) => None,
        }
    }
}

/// For messages: without the path, which some services have keys in.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        match &self.place {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            _ => write!(f, "{scheme}://{}", self.authority),
        }
    }
}

/// The place, the host as the Host header has it, and the port.
pub(super) fn split_authority(
    authority: &str,
    default_port: u16,
) -> Result<(Place, String, u16), UrlError> {
    let port_of = |text: Option<&str>| match text {
        None => Ok(default_port),
        // A sign is a number to `parse`.
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse() {
            Ok(0) | Err(_) => Err(UrlError::Port),
            Ok(port) => Ok(port),
        },
        Some(_) => Err(UrlError::Port),
    };
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
        let address: Ipv6Addr = host.parse().map_err(|_| UrlError::Host)?;
        let port = port_of(match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or(UrlError::Port)?),
        })?;
        let place = Place::Address(IpAddr::V6(address), port);
        return Ok((place, format!("[{address}]"), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port_of(Some(port))?),
        None => (authority, port_of(None)?),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(is_name) {
        return Err(UrlError::Host);
    }
    let host = host.to_ascii_lowercase();
    let place = match host.parse() {
        Ok(address) => Place::Address(IpAddr::V4(address), port),
        Err(_) => Place::Name(host.clone(), port),
    };
    Ok((place, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        let target = Target::parse(url).unwrap();
        format!("{target} {} {}", target.authority, target.base_path)
    }

    #[test]
    fn urls_are_read() {
        assert_eq!(
            shown("https://API.hcaptcha.com/siteverify"),
            "https://api.hcaptcha.com api.hcaptcha.com /siteverify"
        );
        assert_eq!(
            shown("http://127.0.0.1:8080/"),
            "http://127.0.0.1:8080 127.0.0.1:8080 "
        );
        assert_eq!(shown("http://[::1]:80"), "http://[::1] [::1] ");
        for url in ["unix:/run/a.sock", "unix:///run/a.sock", "/run/a.sock"] {
            assert_eq!(shown(url), "unix:/run/a.sock localhost ");
        }
        let target = Target::parse("https://[::1]").unwrap();
        assert_eq!(
            target.place,
            Place::Address(Ipv6Addr::LOCALHOST.into(), 443)
        );
        assert_eq!(target.host(), "::1");
        assert_eq!(target.host_and_port().unwrap(), "[::1]:443");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (url, error) in [
            ("", UrlError::Scheme),
            ("ftp://host", UrlError::Scheme),
            ("host:80", UrlError::Scheme),
            ("//host/path", UrlError::Scheme),
            ("unix:relative", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http:///path", UrlError::Host),
            ("http://bücher.example", UrlError::Host),
            ("http://a b/", UrlError::Host),
            ("http://::1/", UrlError::Port),
            ("http://[::1", UrlError::Host),
            ("http://[name]/", UrlError::Host),
            ("http://[::1]80", UrlError::Port),
            ("http://host:0", UrlError::Port),
            ("http://host:65536", UrlError::Port),
            ("http://host:+80", UrlError::Port),
            ("http://host:", UrlError::Port),
            ("http://user:secret@host/", UrlError::UserInfo),
            ("http://host?key=1", UrlError::Query),
            ("http://host/#top", UrlError::Query),
            ("http://host/a b", UrlError::Path),
        ] {
            assert_eq!(Target::parse(url), Err(error), "{url}");
        }
    }
}

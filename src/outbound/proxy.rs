//! Calls by way of a proxy: a tunnel (CONNECT) for TLS, the whole URL in the request line without.

use std::net::IpAddr;

use hyper::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::config::{EndpointError, Proxy};
use super::connect::describe;
use super::error::OutboundFault;
use super::request::ViaProxy;
use super::target::{Place, Target, split_authority};

/// Longest answer to CONNECT.
const MAX_ANSWER_LEN: usize = 8 * 1024;

/// The proxy of an endpoint.
pub(super) struct ProxyServer {
    pub(super) place: Place,
    authorization: Option<HeaderValue>,
}

impl ProxyServer {
    /// The proxy for this target, if there is one.
    pub(super) fn new(
        proxy: &Proxy,
        target: &Target,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EndpointError> {
        if matches!(target.place, Place::Unix(_)) {
            return Ok(None);
        }
        match proxy {
            Proxy::None => Ok(None),
            Proxy::Url(url) => Self::parse(url)
                .map(Some)
                .map_err(|reason| EndpointError::Proxy(format!("its URL is refused: {reason}"))),
            Proxy::Environment => {
                let Some((name, url)) = from_environment(target, environment) else {
                    return Ok(None);
                };
                Self::parse(&url).map(Some).map_err(|reason| {
                    EndpointError::Proxy(format!("the variable {name} is refused: {reason}"))
                })
            }
        }
    }

    fn parse(url: &str) -> Result<Self, String> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err("only proxies at http:// are possible".to_owned()),
            None => url,
        };
        let authority = rest.trim_end_matches('/');
        let (user_info, authority) = match authority.rsplit_once('@') {
            Some((user_info, authority)) => (Some(user_info), authority),
            None => (None, authority),
        };
        let (place, ..) = split_authority(authority, 80).map_err(|error| error.to_string())?;
        let authorization = user_info
            .map(|user_info| {
                let decoded = percent_decoded(user_info);
                let text = format!("Basic {}", base64(&decoded));
                let mut value = HeaderValue::from_str(&text)
                    .map_err(|_| "its user name and password cannot be sent".to_owned())?;
                value.set_sensitive(true);
                Ok::<_, String>(value)
            })
            .transpose()?;
        Ok(Self {
            place,
            authorization,
        })
    }

    /// What a request to the proxy itself has more.
    pub(super) fn via(&self) -> ViaProxy {
        ViaProxy {
            authorization: self.authorization.clone(),
        }
    }

    /// Has the proxy connect to the target: RFC 9110, section 9.3.6.
    pub(super) async fn tunnel(
        &self,
        stream: &mut TcpStream,
        target: &Target,
    ) -> Result<(), OutboundFault> {
        let failed = |error: std::io::Error| OutboundFault::Proxy(describe(&error));
        let authority = target.host_and_port().unwrap_or_default();
        let mut request =
            format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(failed)?;
        let mut answer = Vec::new();
        // Byte by byte, as what follows the empty line is no longer the proxy's. That is some hundred
        // system calls for a connection that is used many times.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_ANSWER_LEN {
                return Err(OutboundFault::Proxy("its answer is too long".to_owned()));
            }
            let byte = stream.read_u8().await.map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    OutboundFault::Proxy("it closed the connection".to_owned())
                }
                _ => failed(error),
            })?;
            answer.push(byte);
        }
        let status = answer
            .strip_prefix(b"HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| std::str::from_utf8(status).ok())
            .and_then(|status| status.parse::<u16>().ok());
        match status {
            Some(200..=299) => Ok(()),
            Some(407) => Err(OutboundFault::Proxy(
                "it wants another user name and password (status 407)".to_owned(),
            )),
            Some(status) => Err(OutboundFault::Proxy(format!(
                "it does not connect to {authority} (status {status})"
            ))),
            None => Err(OutboundFault::Proxy(
                "its answer is not valid HTTP".to_owned(),
            )),
        }
    }
}

/// The variable that is in effect for this target, and its value.
fn from_environment(
    target: &Target,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, String)> {
    let variable = |name: &'static str| {
        environment(name)
            .filter(|value| !value.trim().is_empty())
            .map(|value| (name, value.trim().to_owned()))
    };
    let (host, port) = match &target.place {
        Place::Name(name, port) => (name.clone(), *port),
        Place::Address(address, port) => {
            // A proxy elsewhere has another loopback.
            if address.is_loopback() {
                return None;
            }
            (address.to_string(), *port)
        }
        Place::Unix(_) => return None,
    };
    if host == "localhost" || host.ends_with(".localhost") {
        return None;
    }
    if let Some((_, exempt)) = variable("no_proxy").or_else(|| variable("NO_PROXY"))
        && exempt
            .split(',')
            .any(|rule| is_exempt(rule.trim(), &host, port))
    {
        return None;
    }
    let found = if target.is_tls {
        variable("https_proxy").or_else(|| variable("HTTPS_PROXY"))
    } else {
        // A web server puts a client's header `Proxy` there for CGI programs.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        variable("http_proxy").or_else(|| variable("HTTP_PROXY").filter(|_| !is_cgi))
    };
    found
        .or_else(|| variable("all_proxy"))
        .or_else(|| variable("ALL_PROXY"))
}

/// `*`, `name`, `.name` (both with what is below), an address or a network, any but the first with a
/// port if it is for that port only.
fn is_exempt(rule: &str, host: &str, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    if let Some((network, length)) = rule.split_once('/') {
        let (Ok(network), Ok(length), Ok(host)) = (network.parse(), length.parse(), host.parse())
        else {
            return false;
        };
        return is_in_network(network, length, host);
    }
    let (rule, rule_port) = match rule.rsplit_once(':') {
        // An IPv6 address without brackets has no port.
        Some((rest, port)) if !rest.contains(':') || rest.ends_with(']') => (rest, Some(port)),
        _ => (rule, None),
    };
    if rule_port.is_some_and(|text| text.parse() != Ok(port)) {
        return false;
    }
    let rule = rule.trim_start_matches("*.").trim_start_matches('.');
    let rule = rule.trim_matches(['[', ']']).to_ascii_lowercase();
    if rule.is_empty() {
        return false;
    }
    if let (Ok(rule), Ok(host)) = (rule.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        return rule == host;
    }
    host.strip_suffix(&rule)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_in_network(network: IpAddr, length: u32, host: IpAddr) -> bool {
    // The bits that are the host's own.
    match (network, host) {
        (IpAddr::V4(network), IpAddr::V4(host)) if length <= 32 => {
            let own = u32::MAX.checked_shr(length).unwrap_or(0);
            network.to_bits() | own == host.to_bits() | own
        }
        (IpAddr::V6(network), IpAddr::V6(host)) if length <= 128 => {
            let own = u128::MAX.checked_shr(length).unwrap_or(0);
            network.to_bits() | own == host.to_bits() | own
        }
        _ => false,
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        bytes
            .get(at)
            .and_then(|&byte| char::from(byte).to_digit(16))
    };
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index)) as usize & 63];
            out.push(if index <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let target = Target::parse(url).unwrap();
        let value = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        from_environment(&target, value).map(|(_, url)| url)
    }

    #[test]
    fn the_environment_is_read_by_scheme() {
        let both = [("http_proxy", "http://a"), ("HTTPS_PROXY", "http://b")];
        assert_eq!(chosen("http://h", &both).unwrap(), "http://a");
        assert_eq!(chosen("https://h", &both).unwrap(), "http://b");
        assert_eq!(
            chosen("http://h", &[("ALL_PROXY", "http://c")]).unwrap(),
            "http://c"
        );
        assert_eq!(chosen("http://h", &[("http_proxy", " ")]), None);
        for url in [
            "http://localhost:1",
            "http://127.0.0.2",
            "http://[::1]",
            "/run/s",
        ] {
            assert_eq!(chosen(url, &both), None, "{url}");
        }
        let cgi = [("HTTP_PROXY", "http://evil"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen("http://h", &cgi), None);
    }

    #[test]
    fn exemptions_are_names_addresses_and_networks() {
        for (rule, url, is_exempt) in [
            ("*", "http://h", true),
            ("example.com", "http://example.com", true),
            ("example.com", "http://a.example.com", true),
            (".Example.com", "http://a.example.com", true),
            ("example.com", "http://notexample.com", false),
            ("a, example.com:8080", "http://example.com:8080", true),
            ("example.com:8080", "http://example.com", false),
            ("10.0.0.0/8", "http://10.1.2.3", true),
            ("10.0.0.0/8", "http://11.1.2.3", false),
            ("0.0.0.0/0", "http://11.1.2.3", true),
            ("10.0.0.1", "http://10.0.0.1", true),
            ("fd00::/8", "http://[fd00::1]", true),
            ("fd00::1", "http://[fd00::1]", true),
            ("[fd00::1]:80", "http://[fd00::1]", true),
            ("[fd00::1]:81", "http://[fd00::1]", false),
            ("", "http://h", false),
        ] {
            let variables = [("http_proxy", "http://p"), ("no_proxy", rule)];
            let shown = format!("{rule} {url}");
            assert_eq!(chosen(url, &variables).is_none(), is_exempt, "{shown}");
        }
    }

    #[test]
    fn passwords_are_sent_and_not_shown() {
        let proxy = ProxyServer::parse("http://us%40er:pass@p:3128/").unwrap();
        assert_eq!(proxy.place, Place::Name("p".to_owned(), 3128));
        let authorization = proxy.authorization.unwrap();
        assert_eq!(authorization, "Basic dXNAZXI6cGFzcw==");
        assert_eq!(format!("{authorization:?}"), "Sensitive");
        let shown = format!("{:?}", Proxy::Url("http://user:pass@p".to_owned()));
        assert_eq!(shown, "Url(..)");
        for url in ["socks5://p", "https://user:pass@p", "http://", "http://p:x"] {
            let error = ProxyServer::parse(url).err().unwrap();
            assert!(!error.contains("pass"), "{error}");
        }
    }

    #[test]
    fn base64_pads() {
        for (bytes, text) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}

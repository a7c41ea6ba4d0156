//! What HAProxy sends and what it gets: the messages and variables of CrowdSec's bouncer.

use std::net::IpAddr;

use ringspoa_derive::Message;

use super::appsec::InspectedRequest;
use super::captcha::{CAPTCHA_COOKIE, CaptchaVisit};
use crate::agent::AgentDeclaration;
use crate::message::{ArgumentValue, Headers, ValueError, ValueTypes, Var};
use crate::spop::TypedData;

/// What is to be done: `allow`, `unknown`, `captcha` or `ban`.
pub const REMEDIATION: Var<str> = Var::txn("remediation");
/// The country of the address: two letters.
pub const ISOCODE: Var<str> = Var::txn("isocode");
/// Where whoever was turned away can complain; may be empty.
pub const CONTACT_US_URL: Var<str> = Var::txn("contact_us_url");
/// The site key of the captcha's page.
pub const CAPTCHA_SITE_KEY: Var<str> = Var::txn("captcha_site_key");
/// The class of the element that becomes the captcha.
pub const CAPTCHA_FRONTEND_KEY: Var<str> = Var::txn("captcha_frontend_key");
/// The script of the captcha's page.
pub const CAPTCHA_FRONTEND_JS: Var<str> = Var::txn("captcha_frontend_js");
/// How far the visitor is: `pending` or `valid`.
pub const CAPTCHA_STATUS: Var<str> = Var::txn("captcha_status");
/// The value of a `Set-Cookie` header.
pub const CAPTCHA_COOKIE_HEADER: Var<str> = Var::txn("captcha_cookie");
/// `1` where the visitor has just solved a captcha and is to come back with another request.
pub const REDIRECT: Var<str> = Var::txn("redirect");
/// The decision's own word, where that is none of those of [`REMEDIATION`].
pub const DECISION_TYPE: Var<str> = Var::txn("decision_type");
/// The status that AppSec would have a client that is turned away get.
pub const APPSEC_HTTP_STATUS: Var<str> = Var::txn("appsec_http_status");

/// All variables, for declarations.
pub const VARIABLES: [Var<str>; 11] = [
    REMEDIATION,
    ISOCODE,
    CONTACT_US_URL,
    CAPTCHA_SITE_KEY,
    CAPTCHA_FRONTEND_KEY,
    CAPTCHA_FRONTEND_JS,
    CAPTCHA_STATUS,
    CAPTCHA_COOKIE_HEADER,
    REDIRECT,
    DECISION_TYPE,
    APPSEC_HTTP_STATUS,
];

/// What a [`Bouncer`](super::Bouncer)'s agents declare, for HAProxy's configuration to be made from or
/// checked against without one.
///
/// ```
/// use ringspoa::SpoeConfig;
/// use ringspoa::agents::remediation::messages::declaration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spoe = SpoeConfig::new(&declaration()).spoe()?;
/// assert!(spoe.contains("spoe-message crowdsec-tcp"));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn declaration() -> AgentDeclaration {
    let mut declaration = AgentDeclaration::new("crowdsec")
        .with_message::<CrowdsecTcp>()
        .with_message::<CrowdsecHttpBody<'_>>()
        .with_message::<CrowdsecHttpNoBody<'_>>();
    for variable in VARIABLES {
        declaration = declaration.with_variable(variable);
    }
    declaration
}

/// The message of a connection: its address alone.
#[derive(Clone, Debug, PartialEq, Message)]
#[spop(
    name = "crowdsec-tcp",
    alias = "crowdsec-ip",
    event = "on-client-session"
)]
pub struct CrowdsecTcp {
    /// The client's address; NULL where it has none, as on a Unix socket.
    #[spop(name = "src-ip", sample = "src")]
    pub src_ip: Option<IpAddr>,
}

/// The two messages of a request, which differ in the body alone.
macro_rules! http_message {
    ($(#[$attribute:meta])* $name:ident { $($(#[$body_attribute:meta])* $body:ident)? }) => {
        #[derive(Clone, Debug, PartialEq, Message)]
        $(#[$attribute])*
        pub struct $name<'a> {
            /// What was said of the connection, if it was asked about.
            #[spop(sample = "var(txn.crowdsec.remediation)")]
            pub remediation: Option<&'a [u8]>,
            /// The name that HAProxy knows the request by.
            #[spop(sample = "unique-id")]
            pub id: Option<&'a [u8]>,
            /// The method.
            #[spop(sample = "method")]
            pub method: Option<&'a [u8]>,
            /// The path, undecoded.
            #[spop(sample = "path")]
            pub path: Option<&'a [u8]>,
            /// The query, without the `?`.
            #[spop(sample = "query")]
            pub query: Option<&'a [u8]>,
            /// The HTTP version, as in `1.1`.
            #[spop(sample = "req.ver")]
            pub version: Option<&'a [u8]>,
            /// The headers.
            #[spop(sample = "req.hdrs")]
            pub headers: RequestHeaders<'a>,
            $($(#[$body_attribute])* pub $body: Option<&'a [u8]>,)?
            /// The URL as it came.
            #[spop(sample = "url")]
            pub url: Option<&'a [u8]>,
            /// Whether it came over TLS.
            #[spop(sample = "ssl_fc")]
            pub ssl: Option<bool>,
            /// The client's address; NULL where it has none.
            #[spop(name = "src-ip", sample = "src")]
            pub src_ip: Option<IpAddr>,
        }

        impl<'a> From<&$name<'a>> for HttpRequest<'a> {
            fn from(message: &$name<'a>) -> Self {
                Self {
                    remediation: message.remediation,
                    id: message.id,
                    method: message.method,
                    path: message.path,
                    query: message.query,
                    version: message.version,
                    headers: message.headers.0,
                    body: [$(message.$body,)? None].into_iter().flatten().next().unwrap_or_default(),
                    url: message.url,
                    is_tls: message.ssl.unwrap_or(false),
                    address: message.src_ip,
                }
            }
        }
    };
}

http_message! {
    /// The message of a request with its body, as a `spoe-group`.
    // With headers of the usual size, such a body fits into a frame of HAProxy's default size.
    #[spop(
        name = "crowdsec-http-body",
        alias = "crowdsec-http",
        condition = "if { req.body_size le 8192 }"
    )]
    CrowdsecHttpBody {
        /// The body; empty where there is none.
        #[spop(sample = "req.body")]
        body
    }
}

http_message! {
    /// The message of a request without its body, as a `spoe-group`.
    #[spop(
        name = "crowdsec-http-no-body",
        condition = "unless { req.body_size le 8192 }"
    )]
    CrowdsecHttpNoBody {}
}

/// The headers of a request. A block that cannot be read is as none at all, and no error: the client had
/// a part in it, and its address is to be looked up all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaders<'a>(pub Option<Headers<'a>>);

impl<'a> ArgumentValue<'a> for RequestHeaders<'a> {
    const TYPES: ValueTypes = ValueTypes::BYTES.or(ValueTypes::NULL);
    const EXPECTED: &'static str = "a block of headers";

    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        match value {
            TypedData::String(_) | TypedData::Binary(_) => {
                Ok(Self(Headers::from_value(value).ok()))
            }
            TypedData::Null => Ok(Self(None)),
            _ => Err(ValueError::Type),
        }
    }

    fn to_value(&self) -> TypedData<'_> {
        self.0.map_or(TypedData::Null, TypedData::from)
    }

    fn missing() -> Option<Self> {
        Some(Self(None))
    }
}

/// A request, of whichever message.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpRequest<'a> {
    /// What was said of the connection, if it was asked about.
    pub remediation: Option<&'a [u8]>,
    /// The name that HAProxy knows it by.
    pub id: Option<&'a [u8]>,
    /// Its method.
    pub method: Option<&'a [u8]>,
    /// Its path, undecoded.
    pub path: Option<&'a [u8]>,
    /// Its query, without the `?`.
    pub query: Option<&'a [u8]>,
    /// Its HTTP version, as in `1.1`.
    pub version: Option<&'a [u8]>,
    /// Its headers, if they could be read.
    pub headers: Option<Headers<'a>>,
    /// Its body; empty where it is not known.
    pub body: &'a [u8],
    /// Its URL as it came.
    pub url: Option<&'a [u8]>,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// What of a request's headers decisions depend on, found in one reading of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SeenHeaders<'a> {
    pub(super) host: Option<&'a [u8]>,
    pub(super) captcha_cookie: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a [u8]>,
}

impl<'a> SeenHeaders<'a> {
    fn of(headers: Headers<'a>) -> Self {
        let mut seen = Self::default();
        for header in headers {
            let value = Some(header.value);
            match header.name.len() {
                4 if header.name.eq_ignore_ascii_case(b"host") => seen.host = seen.host.or(value),
                6 if header.name.eq_ignore_ascii_case(b"cookie") => {
                    let cookie = || captcha_cookie(header.value);
                    seen.captcha_cookie = seen.captcha_cookie.or_else(cookie);
                }
                12 if header.name.eq_ignore_ascii_case(b"content-type") => {
                    seen.content_type = seen.content_type.or(value);
                }
                _ => {}
            }
        }
        seen.host = seen.host.filter(|host| !host.is_empty());
        seen
    }
}

/// The captcha's cookie in the value of a `Cookie`, as [`Headers::cookie`] finds it.
fn captcha_cookie(value: &[u8]) -> Option<&[u8]> {
    value.split(|&byte| byte == b';').find_map(|pair| {
        let rest = trimmed(pair).strip_prefix(CAPTCHA_COOKIE.as_bytes())?;
        trimmed(rest).strip_prefix(b"=").map(trimmed)
    })
}

fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

impl<'a> HttpRequest<'a> {
    pub(super) fn seen(&self) -> SeenHeaders<'a> {
        self.headers.map(SeenHeaders::of).unwrap_or_default()
    }

    /// What a captcha needs to know of it.
    pub(super) fn captcha_visit(&self, seen: &SeenHeaders<'a>) -> CaptchaVisit<'a> {
        CaptchaVisit {
            method: self.method.unwrap_or_default(),
            cookie: seen.captcha_cookie,
            content_type: seen.content_type,
            body: self.body,
            host: seen.host.unwrap_or_default(),
            address: self.address,
            is_tls: self.is_tls,
            via: None,
        }
    }

    /// What AppSec needs to know of it.
    #[must_use]
    pub const fn inspected(&self) -> InspectedRequest<'a> {
        InspectedRequest {
            address: self.address,
            method: self.method,
            path: self.path,
            query: self.query,
            url: self.url,
            version: self.version,
            headers: self.headers,
            body: self.body,
            id: self.id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_finds_what_several_find() {
        for block in [
            "\r\n",
            "host: a\r\nHOST: b\r\ncontent-type: text/plain\r\ncontent-type: x\r\n\r\n",
            "cookie: a=1; crowdsec_captcha_cookie=x=y ;b=2\r\ncookie: crowdsec_captcha_cookie=z\r\n\r\n",
            "cookie: a=1\r\nhost:\r\ncookie:\tcrowdsec_captcha_cookie = \"q\"\r\n\r\n",
            "cookie: crowdsec_captcha_cookie2=1; xcrowdsec_captcha_cookie=2\r\nhots: a\r\n\r\n",
            "cookie: crowdsec_captcha_cookie; crowdsec_captcha_cookie=; =\r\n\r\n",
            "cookie: Crowdsec_captcha_cookie=1;;; \r\n\r\n",
        ] {
            let headers = Headers::from_text(block.as_bytes()).unwrap();
            let seen = SeenHeaders::of(headers);
            let host = headers.get("host").filter(|host| !host.is_empty());
            assert_eq!(seen.host, host, "{block}");
            assert_eq!(seen.content_type, headers.get("content-type"), "{block}");
            assert_eq!(
                seen.captcha_cookie,
                headers.cookie(CAPTCHA_COOKIE),
                "{block}"
            );
        }
    }
}

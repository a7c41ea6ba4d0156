//! What is asked and what is answered.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Uri;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::HeaderValue;
use hyper::http::request::Builder;

use super::error::OutboundFault;
use super::target::Target;

/// Headers that say how a message is framed, or that concern one connection alone. They are the
/// client's own: one that is copied from elsewhere would make of one request two.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Longest name of a header.
const MAX_NAME_LEN: usize = 1024;

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
}

impl Method {
    /// As it is on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether asking twice is no more than asking once, by intent of the method.
    pub(super) const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// A request to an [`Endpoint`](super::Endpoint). Its headers are in one buffer, so that it takes a
/// few allocations however many they are.
#[derive(Clone)]
pub struct Request {
    method: Method,
    path_and_query: String,
    /// Names and values, one after the other.
    headers: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
    body: Bytes,
}

impl Request {
    /// A request without headers and body. The path goes behind that of the endpoint's URL; if empty, it
    /// is that path.
    #[must_use]
    pub fn new(method: Method, path_and_query: impl Into<String>) -> Self {
        Self {
            method,
            path_and_query: path_and_query.into(),
            headers: Vec::new(),
            ends: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Adds a header. `Host`, the length and what concerns the connection are added by themselves.
    ///
    /// # Errors
    ///
    /// Nothing is added if it cannot be sent as it is, or is one of those: a caller that passes on
    /// headers of others may pass over the error.
    pub fn header(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Self, HeaderRefused> {
        let (name, value) = (name.as_ref(), value.as_ref());
        // RFC 9110, section 5.6.2: token.
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || name.len() > MAX_NAME_LEN || !name.iter().all(is_token) {
            return Err(HeaderRefused::Name);
        }
        let is_reserved = |reserved: &&str| name.eq_ignore_ascii_case(reserved.as_bytes());
        if RESERVED.iter().any(is_reserved) {
            return Err(HeaderRefused::Reserved);
        }
        // Section 5.5: a line break would begin another header.
        let is_value = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        if !value.iter().all(is_value) {
            return Err(HeaderRefused::Value);
        }
        self.headers.extend_from_slice(name);
        let name_end = self.headers.len();
        self.headers.extend_from_slice(value);
        self.ends.push((name_end, self.headers.len()));
        Ok(self)
    }

    /// Sets the body.
    pub fn body(&mut self, body: impl Into<Bytes>) -> &mut Self {
        self.body = body.into();
        self
    }

    pub(super) const fn method(&self) -> Method {
        self.method
    }

    /// What the client asks for.
    pub(super) fn uri(&self, target: &Target, is_proxied: bool) -> Result<Uri, OutboundFault> {
        let invalid = OutboundFault::InvalidRequest;
        let path = match (target.base_path.as_str(), self.path_and_query.as_str()) {
            ("", "") => "/".to_owned(),
            (base, path) => format!("{base}{path}"),
        };
        if !path.starts_with('/') {
            return Err(invalid("its path does not begin with a slash"));
        }
        let uri = if is_proxied {
            format!("http://{}{path}", target.authority)
        } else {
            path
        };
        Uri::try_from(uri)
            .map_err(|_| invalid("its path has characters that must be percent-encoded"))
    }

    /// The request as the client sends it.
    pub(super) fn to_message(
        &self,
        uri: Uri,
        target: &Target,
        via_proxy: Option<&ViaProxy>,
    ) -> Result<hyper::Request<Payload>, OutboundFault> {
        let mut builder = Builder::new()
            .method(self.method.name())
            .uri(uri)
            .header("host", &target.authority);
        if let Some(authorization) = via_proxy.and_then(|proxy| proxy.authorization.clone()) {
            builder = builder.header("proxy-authorization", authorization);
        }
        let mut start = 0;
        for &(name_end, value_end) in &self.ends {
            let name = &self.headers[start..name_end];
            let value = &self.headers[name_end..value_end];
            builder = builder.header(name, value);
            start = value_end;
        }
        // Each of them has been checked.
        builder
            .body(Payload(Some(self.body.clone())))
            .map_err(|_| OutboundFault::InvalidRequest("it has too many headers"))
    }
}

/// Neither the query nor headers and body, which may be secret.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &path)
            .field("headers", &self.ends.len())
            .field("body_len", &self.body.len())
            .finish()
    }
}

/// That a request goes to a proxy, which wants the whole URL and perhaps a password.
#[derive(Clone)]
pub(super) struct ViaProxy {
    pub(super) authorization: Option<HeaderValue>,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderRefused {
    /// Its name is empty, longer than 1 KiB, or has characters names do not have.
    Name,
    /// Its value has a control character.
    Value,
    /// It is one the client sets by itself, or that is for one connection only.
    Reserved,
}

impl fmt::Display for HeaderRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the header's name has characters that names do not have",
            Self::Value => "the header's value has control characters",
            Self::Reserved => "the header is one that the client sets by itself",
        })
    }
}

impl std::error::Error for HeaderRefused {}

/// A body that is there in whole.
pub(super) struct Payload(Option<Bytes>);

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = self.0.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// Status and headers of an answer.
#[derive(Clone)]
pub(super) struct Head(pub(super) hyper::http::response::Parts);

impl Head {
    pub(super) fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers.get(name).map(HeaderValue::as_bytes)
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.0.headers.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Response {
    pub(super) head: Head,
    pub(super) body: Bytes,
}

impl Response {
    /// Its status, from 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The first value of a header, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.header(name)
    }

    /// Its headers, with names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.headers()
    }

    /// Its body, as it came: nothing is decompressed, and compression is not asked for. A short one may
    /// be a part of a buffer of 64 KiB, so copy what is kept for long.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body, without the rest.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status())
            .field("headers", &self.head.0.headers.len())
            .field("body_len", &self.body.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(url: &str, request: &Request) -> Result<hyper::Request<Payload>, OutboundFault> {
        let target = Target::parse(url).unwrap();
        request.to_message(request.uri(&target, false)?, &target, None)
    }

    #[test]
    fn paths_go_behind_that_of_the_url() {
        for (url, path, expected) in [
            ("http://h", "", "/"),
            ("http://h/", "/v1/x?a=b", "/v1/x?a=b"),
            ("http://h/base/", "/v1", "/base/v1"),
            ("https://h/siteverify", "", "/siteverify"),
            ("unix:/run/s", "/v1", "/v1"),
        ] {
            let message = message(url, &Request::new(Method::Get, path)).unwrap();
            assert_eq!(message.uri(), expected);
        }
        for path in ["v1", "/a b", "/a\r\nX: y"] {
            let result = message("http://h", &Request::new(Method::Get, path));
            assert!(
                matches!(result, Err(OutboundFault::InvalidRequest(_))),
                "{path}"
            );
        }
    }

    #[test]
    fn headers_that_would_change_the_framing_are_refused() {
        let mut request = Request::new(Method::Post, "/");
        for (name, value, refused) in [
            ("", "x", HeaderRefused::Name),
            ("a b", "x", HeaderRefused::Name),
            ("a:", "x", HeaderRefused::Name),
            (&"a".repeat(1025), "x", HeaderRefused::Name),
            ("x", "a\r\nb: c", HeaderRefused::Value),
            ("x", "a\0", HeaderRefused::Value),
            ("Content-Length", "5", HeaderRefused::Reserved),
            ("TRANSFER-ENCODING", "chunked", HeaderRefused::Reserved),
            ("host", "x", HeaderRefused::Reserved),
        ] {
            assert_eq!(request.header(name, value).unwrap_err(), refused, "{name}");
        }
        request.header("X-Key", "secret").unwrap();
        request.header("x-key", b"\xff").unwrap();
        let message = message("http://h:81", &request).unwrap();
        assert_eq!(message.headers()["host"], "h:81");
        let values: Vec<_> = message.headers().get_all("x-key").iter().collect();
        assert_eq!(values, ["secret".as_bytes(), b"\xff"]);
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let mut request = Request::new(Method::Post, "/verify?key=secret");
        request.header("x-key", "secret").unwrap().body("secret");
        let shown = format!("{request:?}");
        assert_eq!(
            shown,
            "Request { method: Post, path: \"/verify\", headers: 1, body_len: 6 }"
        );
    }
}

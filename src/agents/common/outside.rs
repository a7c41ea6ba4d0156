//! Questions to others, as data: whoever carries them out knows sockets and clocks, this does not. How an
//! agent hands one to the outbound thread is at the foot.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::outbound::{FailureKind, Method, OutboundError, Request, Response};

/// Which of the endpoints that a configuration needs is asked: its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointId(pub(in crate::agents) usize);

impl EndpointId {
    /// The index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// Somebody who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointNeed {
    /// What for.
    pub kind: EndpointKind,
    /// Where: every question goes to this URL as it is.
    pub url: String,
    /// The longest time that any question has.
    pub timeout: Duration,
}

/// What somebody is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointKind {
    /// Whether captchas were solved.
    Captcha,
    /// What is to be done with requests.
    AppSec,
}

/// All that are asked, each once.
#[derive(Debug, Default)]
pub(in crate::agents) struct Endpoints(pub(in crate::agents) Vec<EndpointNeed>);

impl Endpoints {
    pub(in crate::agents) fn add(
        &mut self,
        kind: EndpointKind,
        url: &str,
        timeout: Duration,
    ) -> EndpointId {
        let known = self.0.iter().position(|e| e.kind == kind && e.url == url);
        let index = known.unwrap_or_else(|| {
            self.0.push(EndpointNeed {
                kind,
                url: url.to_owned(),
                timeout,
            });
            self.0.len() - 1
        });
        self.0[index].timeout = self.0[index].timeout.max(timeout);
        EndpointId(index)
    }
}

/// An HTTP request to the URL of an endpoint. What its connection and its length need is for whoever
/// sends it to add.
#[derive(Clone, PartialEq, Eq)]
pub struct OutsideRequest {
    /// Who is asked.
    pub endpoint: EndpointId,
    /// POST, with the body; else GET, without one.
    pub is_post: bool,
    /// How long an answer counts.
    pub timeout: Duration,
    /// The most bytes that an answer's body has.
    pub max_answer_len: usize,
    /// The body.
    pub body: Bytes,
    /// Names and values, one after the other.
    headers: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
}

impl OutsideRequest {
    pub(in crate::agents) fn new(
        endpoint: EndpointId,
        timeout: Duration,
        max_answer_len: usize,
    ) -> Self {
        Self {
            endpoint,
            is_post: false,
            timeout,
            max_answer_len,
            body: Bytes::new(),
            headers: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a header, if it can be sent: a name of other characters than RFC 9110, section 5.6.2, has for
    /// one, or a control character in the value, would be read as something else.
    pub(in crate::agents) fn push_header(&mut self, name: &[u8], value: &[u8]) {
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let is_value = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        if name.is_empty() || !name.iter().all(is_token) || !value.iter().all(is_value) {
            return;
        }
        self.headers.extend_from_slice(name);
        let name_end = self.headers.len();
        self.headers.extend_from_slice(value);
        self.ends.push((name_end, self.headers.len()));
    }

    /// Names and values of the headers.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        starts.zip(&self.ends).map(|(start, &(name_end, end))| {
            (&self.headers[start..name_end], &self.headers[name_end..end])
        })
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers()
            .find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

/// Neither headers nor body, which have keys and what a visitor sent.
impl fmt::Debug for OutsideRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutsideRequest")
            .field("endpoint", &self.endpoint)
            .field("is_post", &self.is_post)
            .field("timeout", &self.timeout)
            .field("headers", &self.ends.len())
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What came back: an answer of whatever status, or none.
pub type OutsideResult<'a> = Result<OutsideAnswer<'a>, NoAnswer>;

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideAnswer<'a> {
    /// Its status.
    pub status: u16,
    /// Its content type, if it says one.
    pub content_type: Option<&'a [u8]>,
    /// Its body.
    pub body: &'a [u8],
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoAnswer {
    /// None in time.
    TimedOut,
    /// No connection, an early end, or none that is tried after as many failures.
    Failed,
    /// One with a longer body than [`OutsideRequest::max_answer_len`].
    TooLarge,
}

/// The request as the outbound thread takes it.
pub(in crate::agents) fn outbound_request(question: &OutsideRequest) -> Request {
    let method = match question.is_post {
        true => Method::Post,
        false => Method::Get,
    };
    let mut request = Request::new(method, "");
    for (name, value) in question.headers() {
        // What cannot be sent, or is for whoever sends it to say, is left out.
        let _ = request.header(name, value);
    }
    request.body(question.body.clone());
    request
}

/// What came of it, for whoever asked.
pub(in crate::agents) fn outside_result(
    result: &Result<Response, OutboundError>,
) -> Result<OutsideAnswer<'_>, NoAnswer> {
    match result {
        Ok(response) => Ok(OutsideAnswer {
            status: response.status(),
            content_type: response.header("content-type"),
            body: response.body(),
        }),
        Err(error) => Err(match error.fault().kind() {
            FailureKind::Timeout => NoAnswer::TimedOut,
            FailureKind::TooLarge => NoAnswer::TooLarge,
            _ => NoAnswer::Failed,
        }),
    }
}

//! Why a call has no answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A call failed, with the endpoint it was made to. It names neither headers nor bodies, which may be
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundError {
    endpoint: Arc<str>,
    fault: OutboundFault,
}

impl OutboundError {
    pub(super) const fn new(endpoint: Arc<str>, fault: OutboundFault) -> Self {
        Self { endpoint, fault }
    }

    /// The endpoint as messages have it: its name and where it is.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What went wrong.
    #[must_use]
    pub const fn fault(&self) -> &OutboundFault {
        &self.fault
    }
}

impl fmt::Display for OutboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.fault)
    }
}

impl std::error::Error for OutboundError {}

/// What went wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutboundFault {
    /// The request cannot be sent as it is.
    InvalidRequest(&'static str),
    /// The endpoint has as many calls in flight and waiting as it may.
    Shed {
        /// Calls it may have, the waiting ones included.
        limit: usize,
    },
    /// Too many calls failed in a row; none is made until the endpoint is tried again.
    BreakerOpen,
    /// The outbound thread ended before the answer came.
    Stopped,
    /// A deadline passed.
    Timeout {
        /// How long it was.
        after: Duration,
        /// What the call was doing when it passed.
        phase: Phase,
    },
    /// The host's name has no address.
    Resolve(String),
    /// No connection: refused, unreachable, no such socket.
    Connect(String),
    /// The proxy is not there or does not let the call through.
    Proxy(String),
    /// The server's certificate is not accepted, or the client's, or they share no version of TLS.
    Tls(String),
    /// The connection ended before the answer did.
    Closed {
        /// What the call was doing when it ended.
        phase: Phase,
    },
    /// What came is not HTTP/1.
    InvalidResponse(String),
    /// The answer is longer than it may be.
    TooLarge {
        /// Its head or its body.
        part: Part,
        /// What it may have, in bytes.
        limit: usize,
    },
    /// The answer points elsewhere, where calls do not go by themselves.
    Redirected {
        /// Its status.
        status: u16,
        /// Where to, without query.
        location: String,
    },
}

/// What a call is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It waits for one of the endpoint's connections to be free.
    Queued,
    /// It waits for a connection to be made.
    Connecting,
    /// The request is being sent, or the answer has not begun.
    Waiting,
    /// The head of the answer is there, and its body is being read.
    Reading,
}

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Status line and headers.
    Head,
    /// The body.
    Body,
}

impl fmt::Display for OutboundFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(what) => write!(f, "the request is not valid: {what}"),
            Self::Shed { limit } => write!(f, "shed: {limit} calls are in flight or waiting"),
            Self::BreakerOpen => {
                f.write_str("not called: the last calls failed and the breaker is open")
            }
            Self::Stopped => f.write_str("not answered: outbound calls have been stopped"),
            Self::Timeout { after, phase } => {
                write!(f, "timeout after {} ms, ", after.as_millis())?;
                f.write_str(match phase {
                    Phase::Queued => "while all connections were in use",
                    Phase::Connecting => "before a connection was there",
                    Phase::Waiting => "before the answer began",
                    Phase::Reading => "in the middle of the answer",
                })
            }
            Self::Resolve(reason) => write!(f, "the host's name cannot be resolved: {reason}"),
            Self::Connect(reason) => write!(f, "cannot connect: {reason}"),
            Self::Proxy(reason) => write!(f, "proxy: {reason}"),
            Self::Tls(reason) => write!(f, "TLS: {reason}"),
            Self::Closed { phase } => {
                f.write_str("the connection was closed ")?;
                f.write_str(match phase {
                    Phase::Queued | Phase::Connecting => "before it could be used",
                    Phase::Waiting => "before the answer began",
                    Phase::Reading => "in the middle of the answer",
                })
            }
            Self::InvalidResponse(reason) => write!(f, "the answer is not valid HTTP: {reason}"),
            Self::TooLarge { part, limit } => {
                let part = match part {
                    Part::Head => "head",
                    Part::Body => "body",
                };
                write!(
                    f,
                    "the answer is too large: its {part} has more than {limit} bytes"
                )
            }
            Self::Redirected { status, location } => {
                write!(
                    f,
                    "redirected to {location} (status {status}), which is not followed"
                )
            }
        }
    }
}

/// The faults by kind, as counters have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// [`OutboundFault::InvalidRequest`]
    InvalidRequest,
    /// [`OutboundFault::Shed`]
    Shed,
    /// [`OutboundFault::BreakerOpen`]
    BreakerOpen,
    /// [`OutboundFault::Stopped`]
    Stopped,
    /// [`OutboundFault::Timeout`]
    Timeout,
    /// [`OutboundFault::Resolve`]
    Resolve,
    /// [`OutboundFault::Connect`]
    Connect,
    /// [`OutboundFault::Proxy`]
    Proxy,
    /// [`OutboundFault::Tls`]
    Tls,
    /// [`OutboundFault::Closed`]
    Closed,
    /// [`OutboundFault::InvalidResponse`]
    InvalidResponse,
    /// [`OutboundFault::TooLarge`]
    TooLarge,
    /// [`OutboundFault::Redirected`]
    Redirected,
}

impl FailureKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::InvalidRequest,
        Self::Shed,
        Self::BreakerOpen,
        Self::Stopped,
        Self::Timeout,
        Self::Resolve,
        Self::Connect,
        Self::Proxy,
        Self::Tls,
        Self::Closed,
        Self::InvalidResponse,
        Self::TooLarge,
        Self::Redirected,
    ];

    /// The kind for a label of a metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Shed => "shed",
            Self::BreakerOpen => "breaker_open",
            Self::Stopped => "stopped",
            Self::Timeout => "timeout",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Closed => "closed",
            Self::InvalidResponse => "invalid_response",
            Self::TooLarge => "too_large",
            Self::Redirected => "redirected",
        }
    }
}

impl OutboundFault {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::InvalidRequest(_) => FailureKind::InvalidRequest,
            Self::Shed { .. } => FailureKind::Shed,
            Self::BreakerOpen => FailureKind::BreakerOpen,
            Self::Stopped => FailureKind::Stopped,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Resolve(_) => FailureKind::Resolve,
            Self::Connect(_) => FailureKind::Connect,
            Self::Proxy(_) => FailureKind::Proxy,
            Self::Tls(_) => FailureKind::Tls,
            Self::Closed { .. } => FailureKind::Closed,
            Self::InvalidResponse(_) => FailureKind::InvalidResponse,
            Self::TooLarge { .. } => FailureKind::TooLarge,
            Self::Redirected { .. } => FailureKind::Redirected,
        }
    }
}

//! What AppSec, CrowdSec's web application firewall, is asked about a request, and what its answer means.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::dataset::Remediation;
use super::problem::{Problems, shown};
use super::settings::AppSecSettings;
use super::words::{CHALLENGE, RemediationWords};
use crate::agents::common::outside::{
    EndpointId, EndpointKind, Endpoints, NoAnswer, OutsideRequest, OutsideResult,
};
use crate::agents::common::secret::Secret;
use crate::message::Headers;

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest answer that is read, in bytes. One that blocks may have a page with it.
const MAX_ANSWER_LEN: usize = 2 << 20;

/// An AppSec, as one host or all of them ask it.
#[derive(Clone, Debug)]
pub struct AppSec {
    /// How long it has.
    pub timeout: Duration,
    /// Whether it is asked also about clients that are not to pass anyway.
    pub always_send: bool,
    /// What holds where it gives no answer.
    pub on_failure: FailureAction,
    api_key: Secret,
    endpoint: EndpointId,
}

/// What holds where AppSec gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureAction {
    /// As if it had nothing to say.
    #[default]
    Passthrough,
    /// The client is turned away.
    Deny,
    /// The client has to solve a captcha.
    Captcha,
}

impl AppSec {
    /// The AppSec of settings: of a host, with that of all hosts behind it, or that of all hosts. `None`
    /// if there is none.
    pub(super) fn of_settings(
        settings: &AppSecSettings,
        common: Option<&Self>,
        endpoints: &mut Endpoints,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let on_failure = match settings.failure_action.as_deref() {
            None | Some("") => common.map(|common| common.on_failure).unwrap_or_default(),
            Some("passthrough") => FailureAction::Passthrough,
            Some("deny") => FailureAction::Deny,
            Some("captcha") => FailureAction::Captcha,
            Some(other) => {
                let other = shown(other);
                problems.error(
                    "appsec.failure_action",
                    format_args!(
                        "is {other}, for which passthrough is used: want passthrough, deny or captcha"
                    ),
                );
                FailureAction::Passthrough
            }
        };
        let url = settings.url.as_deref().filter(|url| !url.is_empty());
        let Some(url) = url else {
            // A host may change how it asks the one of all hosts.
            let common = common?;
            let timeout = settings.timeout.as_deref();
            let timeout = problems.duration("appsec.timeout", timeout, common.timeout);
            return Some(Self {
                timeout,
                always_send: settings.always_send.unwrap_or(common.always_send),
                on_failure,
                ..common.clone()
            });
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let url = shown(url);
            problems.error(
                "appsec.url",
                format_args!("is {url}, which is not asked: want an http or https URL"),
            );
            return None;
        }
        let own_key = settings.api_key.clone().unwrap_or_default();
        let api_key = match common {
            Some(common) if own_key.reveal().is_empty() => common.api_key.clone(),
            _ => own_key,
        };
        if api_key.reveal().is_empty() {
            let text = "is missing: AppSec refuses every question without one";
            problems.warning("appsec.api_key", text);
        }
        let timeout = settings.timeout.as_deref();
        let timeout = problems.duration("appsec.timeout", timeout, DEFAULT_TIMEOUT);
        Some(Self {
            endpoint: endpoints.add(EndpointKind::AppSec, url, timeout),
            timeout,
            always_send: settings.always_send.unwrap_or(false),
            on_failure,
            api_key,
        })
    }

    /// Who is asked.
    pub(super) const fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// The question about a request; `None` if too little is known of it to ask.
    ///
    /// The client's headers go along, with spaces for control characters, except those of its connection
    /// and those that AppSec would take for ours. Those that its `Connection` names go along too: HAProxy
    /// passes them on to the application, and a client is not to hide any from AppSec.
    #[must_use]
    pub fn question(&self, about: &InspectedRequest<'_>) -> Option<OutsideRequest> {
        let headers = about.headers?;
        let (address, method, uri) = (about.address?, about.method?, about.uri()?);
        let mut request = OutsideRequest::new(self.endpoint, self.timeout, MAX_ANSWER_LEN);
        request.is_post = !about.body.is_empty();
        request.body = Bytes::copy_from_slice(about.body);
        for header in headers {
            if !is_ours(header.name) && !is_of_connection(header.name) {
                request.push_header(header.name, &without_controls(header.value));
            }
        }
        let address = address.to_canonical().to_string();
        let key = self.api_key.reveal().as_bytes();
        request.push_header(b"x-crowdsec-appsec-ip", address.as_bytes());
        request.push_header(b"x-crowdsec-appsec-uri", &uri);
        request.push_header(b"x-crowdsec-appsec-verb", method);
        request.push_header(b"x-crowdsec-appsec-api-key", key);
        request.push_header(b"x-crowdsec-appsec-http-version", about.version_digits());
        for (name, value) in [
            ("x-crowdsec-appsec-host", headers.get("host")),
            ("x-crowdsec-appsec-user-agent", headers.get("user-agent")),
            ("x-crowdsec-appsec-transaction-id", about.id),
        ] {
            if let Some(value) = value {
                request.push_header(name.as_bytes(), &without_controls(value));
            }
        }
        Some(request)
    }

    /// What an answer means, or that there is none.
    #[must_use]
    pub fn judge(&self, result: &OutsideResult<'_>, words: &RemediationWords) -> AppSecVerdict {
        #[derive(Default, Deserialize)]
        struct Answer {
            action: Option<String>,
            /// Whatever it is: what it may not be does not take the action with it.
            http_status: Option<serde_json::Value>,
        }
        let passes = AppSecVerdict {
            remediation: Remediation::Allow,
            http_status: None,
            wants_challenge: false,
            failure: None,
        };
        let failure = match result {
            Err(NoAnswer::TimedOut) => AppSecFailure::TimedOut,
            // One that lets a request pass says no more than that.
            Err(NoAnswer::TooLarge) => {
                return AppSecVerdict {
                    remediation: Remediation::Ban,
                    ..passes
                };
            }
            Err(NoAnswer::Failed) => AppSecFailure::Unreachable,
            Ok(answer) => match answer.status {
                200 => return passes,
                401 => AppSecFailure::KeyRefused,
                500.. => AppSecFailure::Failed,
                status => {
                    let read: Answer = serde_json::from_slice(answer.body).unwrap_or_default();
                    let remediation = match read.action.as_deref() {
                        // A word that nobody gave a meaning blocks: that is what was answered.
                        Some(action) => match words.remediation(action) {
                            Remediation::Unknown => Some(Remediation::Ban),
                            known => Some(known),
                        },
                        None => (status == 403).then_some(Remediation::Ban),
                    };
                    match remediation {
                        Some(remediation) => {
                            return AppSecVerdict {
                                remediation,
                                http_status: read
                                    .http_status
                                    .and_then(|status| u16::try_from(status.as_u64()?).ok())
                                    .filter(|status| (100..600).contains(status)),
                                wants_challenge: read.action.as_deref() == Some(CHALLENGE),
                                failure: None,
                            };
                        }
                        None => AppSecFailure::Failed,
                    }
                }
            },
        };
        self.failed(failure)
    }

    /// What holds where a question failed, or could not be asked.
    #[must_use]
    pub const fn failed(&self, failure: AppSecFailure) -> AppSecVerdict {
        AppSecVerdict {
            remediation: match self.on_failure {
                FailureAction::Passthrough => Remediation::Allow,
                FailureAction::Deny => Remediation::Ban,
                FailureAction::Captcha => Remediation::Captcha,
            },
            http_status: None,
            wants_challenge: false,
            failure: Some(failure),
        }
    }
}

/// What AppSec says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppSecVerdict {
    /// What is to be done; it only ever adds to what decisions say.
    pub remediation: Remediation,
    /// The status that a client that is turned away is to get, if it says one.
    pub http_status: Option<u16>,
    /// Whether it has a challenge for the client, which is not served: its word counts, as
    /// [`RemediationWords`] have it.
    pub wants_challenge: bool,
    /// Why it says nothing, if so.
    pub failure: Option<AppSecFailure>,
}

/// Why AppSec says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AppSecFailure {
    /// No answer in time.
    TimedOut,
    /// No connection, an early end, or none that is tried after as many failures.
    Unreachable,
    /// An answer that it gives where it cannot judge.
    Failed,
    /// It does not know the key.
    KeyRefused,
    /// Too little was known of the request to ask: the message has no address, method, path or headers.
    NotAsked,
}

impl FailureAction {
    /// What requests get where it holds, for a log.
    pub(super) const fn effect(self) -> &'static str {
        match self {
            Self::Passthrough => "requests pass",
            Self::Deny => "requests are turned away",
            Self::Captcha => "requests get a captcha",
        }
    }
}

/// What came of asking AppSec, for a label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppSecOutcome {
    Allow,
    Ban,
    Captcha,
    Timeout,
    Unreachable,
    Unauthorized,
    Error,
    NotAsked,
}

impl AppSecOutcome {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 8] = [
        Self::Allow,
        Self::Ban,
        Self::Captcha,
        Self::Timeout,
        Self::Unreachable,
        Self::Unauthorized,
        Self::Error,
        Self::NotAsked,
    ];

    pub(super) const fn of(outcome: Result<Remediation, AppSecFailure>) -> Self {
        match outcome {
            Ok(Remediation::Ban) => Self::Ban,
            Ok(Remediation::Captcha) => Self::Captcha,
            Ok(_) => Self::Allow,
            Err(AppSecFailure::TimedOut) => Self::Timeout,
            Err(AppSecFailure::Unreachable) => Self::Unreachable,
            Err(AppSecFailure::Failed) => Self::Error,
            Err(AppSecFailure::KeyRefused) => Self::Unauthorized,
            Err(AppSecFailure::NotAsked) => Self::NotAsked,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ban => "ban",
            Self::Captcha => "captcha",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Error => "error",
            Self::NotAsked => "not_asked",
        }
    }
}

/// What AppSec is told of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct InspectedRequest<'a> {
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// Its method.
    pub method: Option<&'a [u8]>,
    /// Its path, undecoded.
    pub path: Option<&'a [u8]>,
    /// Its query, without the `?`.
    pub query: Option<&'a [u8]>,
    /// Its URL as it came, for where no path is known: HTTP/2 brings an absolute one.
    pub url: Option<&'a [u8]>,
    /// Its HTTP version, as in `1.1`.
    pub version: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Option<Headers<'a>>,
    /// Its body.
    pub body: &'a [u8],
    /// The name that HAProxy knows it by.
    pub id: Option<&'a [u8]>,
}

impl<'a> InspectedRequest<'a> {
    /// Path and query, with what no header can have percent-encoded.
    fn uri(&self) -> Option<Vec<u8>> {
        let (path, query) = match self.path {
            Some(path) => (path, self.query),
            None => (without_authority(self.url?), None),
        };
        let mut uri = Vec::with_capacity(path.len() + 1 + query.map_or(0, <[u8]>::len));
        let mut push = |bytes: &[u8]| {
            for &byte in bytes {
                if byte <= b' ' || byte == 0x7f {
                    uri.extend_from_slice(format!("%{byte:02X}").as_bytes());
                } else {
                    uri.push(byte);
                }
            }
        };
        push(if path.is_empty() { b"/" } else { path });
        if let Some(query) = query {
            push(b"?");
            push(query);
        }
        Some(uri)
    }

    const fn version_digits(&self) -> &'static [u8] {
        match self.version {
            Some(b"1.0") => b"10",
            Some(b"2" | b"2.0") => b"20",
            Some(b"3" | b"3.0") => b"30",
            _ => b"11",
        }
    }
}

/// The path and query of a URL, also of an absolute one.
fn without_authority(url: &[u8]) -> &[u8] {
    let mut windows = url.windows(3);
    match windows.position(|window| window == b"://") {
        // Only a scheme may be before it: what is behind a slash is of the path or query.
        Some(at) if !url[..at].iter().any(|byte| b"/?".contains(byte)) => {
            let rest = &url[at + 3..];
            let path = rest.iter().position(|byte| b"/?".contains(byte));
            &rest[path.unwrap_or(rest.len())..]
        }
        _ => url,
    }
}

/// Whether AppSec, or something on the way that does not tell `_` from `-`, would take it for ours.
fn is_ours(name: &[u8]) -> bool {
    const OURS: &[u8] = b"x-crowdsec-appsec";
    name.get(..OURS.len()).is_some_and(|start| {
        let plain = |byte: u8| match byte {
            b'_' => b'-',
            byte => byte.to_ascii_lowercase(),
        };
        start
            .iter()
            .map(|&byte| plain(byte))
            .eq(OURS.iter().copied())
    })
}

/// Whether a header is about the client's connection or the request's framing (RFC 9110, 7.6.1), which
/// are others here.
fn is_of_connection(name: &[u8]) -> bool {
    const NAMES: [&str; 12] = [
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
    let mut names = NAMES.iter();
    names.any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// A value that can be sent: HAProxy takes control characters from clients, and AppSec refuses them.
fn without_controls(value: &[u8]) -> Cow<'_, [u8]> {
    let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    if !value.iter().any(|&byte| is_control(byte)) {
        return Cow::Borrowed(value);
    }
    let bytes = value.iter();
    Cow::Owned(
        bytes
            .map(|&byte| if is_control(byte) { b' ' } else { byte })
            .collect(),
    )
}

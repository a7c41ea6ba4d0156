//! What a LAPI is told of our work: `POST /v1/usage-metrics`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::outbound::{Endpoint, Method};

use super::bell::Bell;
use super::config::LapiConfig;
use super::lapi;
use super::status::{ActiveDecisions, SourceState, now_unix_s};

/// How long the LAPI may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long it may take for the last report, when everything is ended.
const LAST_DEADLINE: Duration = Duration::from_secs(2);

/// One before 1.6.3 has no such path; whether it still is, is asked rarely.
const ASK_OLDER: Duration = Duration::from_secs(86_400);

/// The longest text that a LAPI takes, in bytes.
const MAX_TEXT_LEN: usize = 255;

/// What was done with requests since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that were looked at.
    pub processed: Vec<Processed>,
    /// Those of them that something was done about.
    pub dropped: Vec<Dropped>,
}

/// Requests that were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// `ipv4` or `ipv6`.
    pub ip_type: &'static str,
    /// How many since the start.
    pub count: u64,
}

/// Requests that something was done about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Whose decision it was.
    pub origin: String,
    /// `ipv4` or `ipv6`.
    pub ip_type: &'static str,
    /// What was done: `ban` or `captcha`.
    pub remediation: String,
    /// How many since the start.
    pub count: u64,
}

/// Who knows what was done with requests.
///
/// It is asked on a thread of its own, every quarter of an hour or so.
pub trait TrafficCounts: Send + Sync {
    /// What was done since the start, as far as the source of this name is to be told of it.
    fn counts(&self, source: &str) -> Traffic;
}

impl<F: Fn(&str) -> Traffic + Send + Sync> TrafficCounts for F {
    fn counts(&self, source: &str) -> Traffic {
        self(source)
    }
}

/// The thread that tells a LAPI.
pub(super) struct Reporter {
    pub(super) config: LapiConfig,
    pub(super) endpoint: Endpoint,
    pub(super) state: Arc<SourceState>,
    pub(super) bell: Arc<Bell>,
    pub(super) counts: Arc<dyn TrafficCounts>,
    pub(super) active: Box<dyn Fn() -> Vec<ActiveDecisions> + Send>,
    pub(super) system: System,
}

/// What a report is about, beside labels: its origin, address type and remediation.
type Key = (String, &'static str, String);

/// What was reported, and what is to be.
#[derive(Clone, Debug, Default)]
struct Counts {
    processed: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<Key, u64>,
}

impl Counts {
    fn of(traffic: Traffic) -> Self {
        let mut counts = Self::default();
        for Processed { ip_type, count } in traffic.processed {
            *counts.processed.entry(ip_type).or_default() += count;
        }
        for dropped in traffic.dropped {
            let key = (
                cut(&dropped.origin),
                dropped.ip_type,
                cut(&dropped.remediation),
            );
            *counts.dropped.entry(key).or_default() += dropped.count;
        }
        counts
    }
}

/// A text of a length that a LAPI takes.
fn cut(text: &str) -> String {
    let mut len = text.len().min(MAX_TEXT_LEN);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text[..len].to_owned()
}

/// What the LAPI said.
enum Outcome {
    Taken,
    /// It is an older one.
    NoSuchPath,
    Failed(String),
}

impl Reporter {
    /// Tells it until it is stopped, and then once more.
    pub(super) fn run(self) {
        let started_unix_s = now_unix_s();
        let mut told = Counts::default();
        let mut told_at = Instant::now();
        let mut wait = self.config.usage_every;
        let mut is_older = false;
        loop {
            let is_last = self.bell.wait(wait).is_stopped;
            if is_last && is_older {
                return;
            }
            let name = self.state.name();
            let counts = Counts::of(self.counts.counts(&name));
            let report = report(
                &self.config.user_agent,
                &self.system,
                started_unix_s,
                now_unix_s(),
                told_at.elapsed(),
                &items(&(self.active)(), &name, &told, &counts),
            );
            let deadline = if is_last { LAST_DEADLINE } else { DEADLINE };
            wait = self.config.usage_every;
            let outcome = self.post(&report, deadline);
            is_older = matches!(outcome, Outcome::NoSuchPath);
            match outcome {
                Outcome::Taken => {
                    // Only now: what was not taken is in the next report.
                    (told, told_at) = (counts, Instant::now());
                    self.state.update(|status| status.usage_count += 1);
                }
                Outcome::NoSuchPath => {
                    tracing::info!(
                        "usage for {name}: this LAPI takes none; those from 1.6.3 on do"
                    );
                    wait = ASK_OLDER;
                }
                Outcome::Failed(reason) => {
                    self.state.update(|status| status.usage_failure_count += 1);
                    tracing::warn!(
                        "usage for {name} is not taken, and will be told later: {reason}"
                    );
                }
            }
            if is_last {
                return;
            }
        }
    }

    fn post(&self, report: &Value, deadline: Duration) -> Outcome {
        let mut request = lapi::request(&self.config, Method::Post, "/v1/usage-metrics");
        if request.header("content-type", "application/json").is_err() {
            return Outcome::Failed("the type of the report cannot be said".to_owned());
        }
        request.body(report.to_string().into_bytes());
        let (sender, receiver) = sync_channel(1);
        let callback = move |result: Result<_, _>| {
            // It has room for the one answer there is.
            let _ = sender.try_send(result);
        };
        self.endpoint.call(request, deadline, 64 * 1024, callback);
        match receiver.recv() {
            Ok(Ok(response)) => match response.status() {
                201 => Outcome::Taken,
                404 => Outcome::NoSuchPath,
                status => Outcome::Failed(format!("status {status}")),
            },
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed("outbound calls have been stopped".to_owned()),
        }
    }
}

fn items(active: &[ActiveDecisions], source: &str, told: &Counts, counts: &Counts) -> Vec<Value> {
    let mut items = Vec::new();
    let mut item = |name: &str, value: u64, unit: &str, labels: Value| {
        items.push(json!({"name": name, "value": value, "unit": unit, "labels": labels}));
    };
    for active in active.iter().filter(|active| active.source == source) {
        let labels = json!({
            "origin": cut(&active.origin), "ip_type": active.ip_type, "scope": active.scope,
        });
        item("active_decisions", active.count as u64, "ip", labels);
    }
    for (key, count) in &counts.dropped {
        let before = told.dropped.get(key).copied().unwrap_or(0);
        let (origin, ip_type, remediation) = key;
        if *count > before {
            let labels = json!({
                "origin": origin, "ip_type": ip_type, "remediation": remediation,
            });
            item("dropped", count - before, "request", labels);
        }
    }
    for (ip_type, count) in &counts.processed {
        let before = told.processed.get(ip_type).copied().unwrap_or(0);
        if *count > before {
            let labels = json!({"origin": "", "ip_type": ip_type});
            item("processed", count - before, "request", labels);
        }
    }
    items
}

fn report(
    user_agent: &str,
    system: &System,
    started_unix_s: u64,
    now_unix_s: u64,
    window: Duration,
    items: &[Value],
) -> Value {
    let (kind, version) = user_agent.split_once('/').unwrap_or((user_agent, ""));
    json!({
        "remediation_components": [{
            "type": cut(kind),
            "version": cut(version),
            "os": {"name": system.name, "version": system.version, "family": system.family},
            "utc_startup_timestamp": started_unix_s,
            "feature_flags": [],
            "metrics": [{
                "meta": {
                    "window_size_seconds": window.as_secs(),
                    "utc_now_timestamp": now_unix_s,
                },
                "items": items,
            }],
        }],
        "log_processors": null,
    })
}

/// What this runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    name: String,
    version: String,
    family: String,
}

impl System {
    /// As the system's own file says it.
    pub(super) fn here() -> Self {
        let text = fs::read_to_string("/etc/os-release");
        Self::of(
            &text
                .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
                .unwrap_or_default(),
        )
    }

    fn of(os_release: &str) -> Self {
        let value = |key: &str| {
            let line = os_release
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|value| cut(value.trim_matches(['"', '\''])));
            // None of them may be empty.
            line.filter(|value| !value.is_empty())
        };
        let name = value("ID").unwrap_or_else(|| "linux".to_owned());
        Self {
            version: value("VERSION_ID").unwrap_or_else(|| "unknown".to_owned()),
            family: value("ID_LIKE").unwrap_or_else(|| name.clone()),
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(count: u64) -> Counts {
        Counts::of(Traffic {
            processed: vec![
                Processed {
                    ip_type: "ipv4",
                    count: 10 * count,
                },
                Processed {
                    ip_type: "ipv6",
                    count: 0,
                },
            ],
            dropped: vec![
                Dropped {
                    origin: "CAPI".to_owned(),
                    ip_type: "ipv4",
                    remediation: "ban".to_owned(),
                    count,
                },
                Dropped {
                    origin: "CAPI".to_owned(),
                    ip_type: "ipv4",
                    remediation: "captcha".to_owned(),
                    count: 2 * count,
                },
            ],
        })
    }

    #[test]
    fn a_report_has_what_a_lapi_asks_for() {
        let system = System::of("NAME=\"Some Linux\"\nID=some\nVERSION_ID='12'\n");
        let active = [("main", 3), ("other", 9)].map(|(source, count)| ActiveDecisions {
            source: source.to_owned(),
            origin: "CAPI".to_owned(),
            scope: "ip",
            ip_type: "ipv4",
            count,
        });
        let items = items(&active, "main", &traffic(2), &traffic(5));
        let window = Duration::from_secs(900);
        let report = report("agent/v1", &system, 7, 9, window, &items);
        assert_eq!(
            report,
            json!({
                "remediation_components": [{
                    "type": "agent", "version": "v1",
                    "os": {"name": "some", "version": "12", "family": "some"},
                    "utc_startup_timestamp": 7, "feature_flags": [],
                    "metrics": [{
                        "meta": {"window_size_seconds": 900, "utc_now_timestamp": 9},
                        "items": [
                            {"name": "active_decisions", "value": 3, "unit": "ip",
                             "labels": {"origin": "CAPI", "ip_type": "ipv4", "scope": "ip"}},
                            {"name": "dropped", "value": 3, "unit": "request", "labels":
                             {"origin": "CAPI", "ip_type": "ipv4", "remediation": "ban"}},
                            {"name": "dropped", "value": 6, "unit": "request", "labels":
                             {"origin": "CAPI", "ip_type": "ipv4", "remediation": "captcha"}},
                            {"name": "processed", "value": 30, "unit": "request",
                             "labels": {"origin": "", "ip_type": "ipv4"}},
                        ],
                    }],
                }],
                "log_processors": null,
            })
        );
    }

    #[test]
    fn texts_are_never_longer_than_a_lapi_takes_nor_empty() {
        assert_eq!(cut(&"é".repeat(200)).len(), 254);
        let system = System::of("VERSION_ID=\"\"\nID_LIKE=debian\n");
        assert_eq!(
            [system.name, system.version, system.family],
            ["linux", "unknown", "debian"]
        );
    }
}

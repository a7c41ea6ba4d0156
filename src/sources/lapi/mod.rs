//! A LAPI of CrowdSec: asked for what changed, and now and then for everything.
//!
//! A LAPI keeps for each of its clients when it asked last, and moves that on before the answer is sent.
//! So a question whose answer is lost has used up what changed, and the next one must be for everything;
//! one that did not get as far as the LAPI has not.

mod answer;
mod bounded;

pub use answer::{Answer, AnswerRules, Pull};

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};
use std::time::{Duration, Instant};

use crate::background::{ThreadId, Urgency, Yielding, run_with_helper};
use crate::outbound::{
    Endpoint, EndpointConfig, EndpointError, Method, Outbound, OutboundFault, Phase, Request,
    StreamTimeouts, TlsConfig,
};

use super::bell::Bell;
use super::config::LapiConfig;
use super::owner::{Event, Refusal};
use super::status::{SourceState, now_unix_s};

/// How soon it is asked again after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The endpoint of a LAPI.
pub(super) fn endpoint(
    outbound: &Outbound,
    name: &str,
    config: &LapiConfig,
) -> Result<Endpoint, EndpointError> {
    outbound.endpoint(EndpointConfig {
        tls: TlsConfig {
            ca_file: config.ca_file.clone(),
            client_certificate: config.client_certificate.clone(),
            insecure: config.insecure,
            ..TlsConfig::default()
        },
        proxy: config.proxy.clone(),
        connect_timeout: config.timeouts.connect,
        // Questions are few, and have a back-off of their own.
        breaker: None,
        ..EndpointConfig::new(name, config.api_url.trim_end_matches('/'))
    })
}

/// A request to a LAPI, with what it knows us by.
pub(super) fn request(config: &LapiConfig, method: Method, path_and_query: &str) -> Request {
    let mut request = Request::new(method, path_and_query);
    let mut header = |name: &str, value: &str| {
        // The settings were checked to be such as can be sent.
        if request.header(name, value).is_err() {
            tracing::error!("the header {name} cannot be sent to a LAPI");
        }
    };
    header("user-agent", &config.user_agent);
    header("accept", "application/json");
    if let Some(key) = &config.api_key {
        header("x-api-key", key.as_str());
    }
    request
}

/// The path and query of a question.
fn path(config: &LapiConfig, pull: Pull) -> String {
    let mut path = "/v1/decisions/stream?".to_owned();
    if pull == Pull::Full {
        path.push_str("startup=true&");
    }
    if !config.dedup {
        path.push_str("dedup=false&");
    }
    let mut scopes = config.scopes.clone();
    if scopes.is_empty() && (config.wants_countries || config.wants_as_numbers) {
        scopes = vec!["ip".to_owned(), "range".to_owned()];
        if config.wants_countries {
            scopes.push("country".to_owned());
        }
        if config.wants_as_numbers {
            scopes.push("as".to_owned());
        }
    }
    for (name, values) in [
        ("scopes", &scopes),
        ("origins", &config.origins),
        ("scenarios_containing", &config.scenarios_containing),
        ("scenarios_not_containing", &config.scenarios_not_containing),
    ] {
        if !values.is_empty() {
            path.push_str(name);
            path.push('=');
            encode(&values.join(","), &mut path);
            path.push('&');
        }
    }
    path.pop();
    path
}

/// Appends a text as the value of a query has it.
fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b',' | b':' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
}

/// Why a question has no answer that was taken.
struct Fault {
    text: String,
    /// Whether the LAPI may take it for answered.
    may_have_answered: bool,
}

/// A number that is hard to tell beforehand.
fn random() -> u64 {
    // Seeded at random each time.
    RandomState::new().hash_one(0)
}

/// This long, and up to the share of it more or less.
fn jittered(time: Duration, share: f64, random: u64) -> Duration {
    // 53 bits are what a float keeps.
    let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
    time.mul_f64(1.0 + share * (2.0 * unit - 1.0))
}

/// The pause after this many failures in a row, without jitter.
fn retry_after(failures: u32, at_most: Duration) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    FIRST_RETRY.saturating_mul(doubled).min(at_most)
}

/// The thread of a LAPI.
pub(super) struct Puller {
    pub(super) source: usize,
    pub(super) config: LapiConfig,
    pub(super) endpoint: Endpoint,
    /// The thread that takes answers off the network.
    pub(super) helper: Option<ThreadId>,
    pub(super) state: Arc<SourceState>,
    pub(super) bell: Arc<Bell>,
    pub(super) events: Sender<Event>,
}

/// What a puller remembers from one question to the next.
struct Memory {
    /// Whether what changed since the last question would leave a gap.
    needs_all: bool,
    next_resync: Instant,
    answered_at: Instant,
    failures: u32,
    /// How many decisions there were in the last answer with all of them, or were kept from before the
    /// last stop.
    full_count: usize,
    /// Whether the last one had so few that it was not believed.
    is_doubted: bool,
}

/// An answer with all decisions is not doubted where there were fewer than this before.
const DOUBT_FROM: usize = 100;

impl Memory {
    /// Whether an answer may come into force. A LAPI from 1.5 on that fails half way ends its answer in
    /// good order, with what it has so far: one with less than half of what there was is asked for
    /// again, and the second one is believed.
    fn believe(&mut self, answer: &Answer) -> Result<(), String> {
        if answer.pull() == Pull::Delta {
            return Ok(());
        }
        let (before, now) = (self.full_count, answer.new_count());
        self.is_doubted = !self.is_doubted && before >= DOUBT_FROM && now < before / 2;
        if self.is_doubted {
            return Err(format!(
                "of {before} decisions the answer has {now} left: it may be cut short, and is asked for again"
            ));
        }
        self.full_count = now;
        Ok(())
    }
}

impl Puller {
    /// Asks until it is stopped.
    pub(super) fn run(self) {
        let now = Instant::now();
        let mut memory = Memory {
            needs_all: true,
            next_resync: now,
            answered_at: now,
            failures: 0,
            full_count: self.state.warm_count(),
            is_doubted: false,
        };
        loop {
            let began = Instant::now();
            let wait = match self.turn(&mut memory) {
                Some(wait) => wait.saturating_sub(began.elapsed()),
                None => return,
            };
            let rung = self.bell.wait(wait);
            if rung.is_stopped {
                return;
            }
            memory.needs_all |= rung.is_asked;
        }
    }

    /// One question, and how long after its beginning the next one is due; `None` at the end.
    fn turn(&self, memory: &mut Memory) -> Option<Duration> {
        let outage = memory.answered_at.elapsed();
        let is_due = Instant::now() >= memory.next_resync
            || memory.failures > 0 && outage >= self.config.resync_after;
        let pull = match memory.needs_all || is_due {
            true => Pull::Full,
            false => Pull::Delta,
        };
        self.state.update(|status| status.request_count += 1);
        let urgency = match pull {
            Pull::Delta => Some(Urgency::WhenIdle),
            // Where there are no decisions they are waited for.
            Pull::Full => {
                let has_some = memory.full_count > 0 && !self.state.status().is_dropped;
                has_some.then_some(Urgency::Low)
            }
        };
        let pull_it = || self.pull(pull, urgency, memory);
        match run_with_helper(urgency, self.helper, pull_it) {
            Ok(()) => {
                memory.answered_at = Instant::now();
                memory.failures = 0;
                memory.needs_all = false;
                if pull == Pull::Full {
                    let every = jittered(self.config.resync_every, 0.1, random());
                    memory.next_resync = memory.answered_at + every;
                }
                Some(self.config.update_frequency)
            }
            Err(_) if self.bell.is_stopped() => None,
            Err(fault) => {
                memory.failures = memory.failures.saturating_add(1);
                memory.needs_all |= fault.may_have_answered;
                self.state.update(|status| status.failure_count += 1);
                self.state.failed(fault.text);
                let after = retry_after(memory.failures, self.config.retry_at_most);
                Some(jittered(after, 0.25, random()))
            }
        }
    }

    fn pull(&self, pull: Pull, urgency: Option<Urgency>, memory: &mut Memory) -> Result<(), Fault> {
        let lost = |text: String| Fault {
            text,
            may_have_answered: true,
        };
        let timeouts = &self.config.timeouts;
        let rules = AnswerRules {
            pull,
            dedup: self.config.dedup,
            now_unix_s: now_unix_s(),
            grace: self.config.grace(),
            max_decisions: self.config.max_decisions,
        };
        let request = request(&self.config, Method::Get, &path(&self.config, pull));
        let stream_timeouts = StreamTimeouts {
            connect: timeouts.connect,
            first_byte: timeouts.first_byte,
            idle_read: timeouts.idle_read,
        };
        let stream = self
            .endpoint
            .stream(request, stream_timeouts)
            .map_err(|error| Fault {
                may_have_answered: !was_unsent(error.fault()),
                text: error.to_string(),
            })?;
        match stream.status() {
            200 => {}
            status => return Err(self.refused(status)),
        }
        let stream = Yielding::new(stream, urgency);
        let answer = Answer::read_with_pace(stream, rules, timeouts.progress)
            .map_err(|error| lost(format!("the answer is not taken: {}", error.reason)))?;
        if let Some(first) = answer.first_bad() {
            self.state
                .passed_over("an answer", answer.bad_count(), first);
        }
        memory.believe(&answer).map_err(lost)?;
        let (sender, reply) = sync_channel(1);
        let event = Event::Answer {
            source: self.source,
            answer: Box::new(answer),
            reply: sender,
        };
        let ended = || lost("not taken: the sources have been stopped".to_owned());
        self.events.send(event).map_err(|_| ended())?;
        match reply.recv().map_err(|_| ended())? {
            Ok(()) => Ok(()),
            Err(Refusal::Store(error)) => Err(lost(format!("the answer is not taken: {error}"))),
            Err(Refusal::NeedsAll) => Err(lost(
                "it answers again; all decisions are asked for, as they were dropped".to_owned(),
            )),
        }
    }

    fn refused(&self, status: u16) -> Fault {
        let text = match status {
            401 | 403 => format!(
                "the LAPI does not know us (status {status}): is {} registered? see 'cscli bouncers list'; \
                 what it sent before holds",
                match self.config.api_key {
                    Some(_) => "api_key",
                    None => "the client certificate",
                }
            ),
            404 => "there is no LAPI at api_url (status 404)".to_owned(),
            300..=399 => {
                format!("redirected (status {status}), which is not followed: see api_url")
            }
            _ => format!("the LAPI has no answer (status {status})"),
        };
        Fault {
            text,
            // Also what changed while it did not know us: registered again, it counts from then.
            may_have_answered: true,
        }
    }
}

/// Whether nothing of a question has reached the LAPI.
fn was_unsent(fault: &OutboundFault) -> bool {
    match fault {
        OutboundFault::Timeout { phase, .. } | OutboundFault::Closed { phase } => {
            *phase == Phase::Connecting
        }
        OutboundFault::InvalidRequest(_)
        | OutboundFault::Shed { .. }
        | OutboundFault::BreakerOpen
        | OutboundFault::Resolve(_)
        | OutboundFault::Connect(_)
        | OutboundFault::Proxy(_)
        | OutboundFault::Tls(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_say_what_is_wanted() {
        let mut config = LapiConfig::new("http://127.0.0.1:8080/", "key");
        assert_eq!(
            path(&config, Pull::Full),
            "/v1/decisions/stream?startup=true&dedup=false"
        );
        config.wants_countries = true;
        assert_eq!(
            path(&config, Pull::Delta),
            "/v1/decisions/stream?dedup=false&scopes=ip,range,country"
        );
        config.wants_as_numbers = true;
        config.dedup = true;
        assert_eq!(
            path(&config, Pull::Delta),
            "/v1/decisions/stream?scopes=ip,range,country,as"
        );
        config.scopes = vec!["ip".to_owned()];
        config.origins = vec!["cscli".to_owned(), "lists:a b&c".to_owned()];
        config.scenarios_containing = vec!["bf".to_owned()];
        config.scenarios_not_containing = vec!["é".to_owned()];
        assert_eq!(
            path(&config, Pull::Full),
            "/v1/decisions/stream?startup=true&scopes=ip&origins=cscli,lists:a%20b%26c&\
             scenarios_containing=bf&scenarios_not_containing=%C3%A9"
        );
        config = LapiConfig::new("/run/crowdsec.sock", "key");
        config.dedup = true;
        assert_eq!(path(&config, Pull::Delta), "/v1/decisions/stream");
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let pauses = [1, 2, 3, 4, 5, 6, 7, 1_000]
            .map(|failures| retry_after(failures, Duration::from_secs(30)).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        let short = Duration::from_millis(100);
        assert_eq!(retry_after(1, short), short);
        // As README.md has it.
        let by_default = LapiConfig::new("http://127.0.0.1:8080/", "key").retry_at_most;
        let pauses = [1, 2, 3, 4, 5, 6].map(|failures| retry_after(failures, by_default).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let time = Duration::from_secs(100);
        assert_eq!(jittered(time, 0.25, 0), Duration::from_secs(75));
        for random in [1, u64::MAX / 2, u64::MAX] {
            let jittered = jittered(time, 0.25, random);
            assert!(jittered >= Duration::from_secs(75) && jittered <= Duration::from_secs(125));
        }
    }

    #[test]
    fn what_was_not_sent_uses_up_nothing() {
        assert!(was_unsent(&OutboundFault::Connect("refused".to_owned())));
        for phase in [Phase::Waiting, Phase::Reading] {
            assert!(!was_unsent(&OutboundFault::Closed { phase }));
        }
        assert!(!was_unsent(&OutboundFault::InvalidResponse(String::new())));
    }
}

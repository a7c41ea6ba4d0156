//! The agent of CrowdSec's messages: decisions are looked up on the core, providers of captchas and AppSec
//! asked on the outbound thread, so that no answer waits for another's.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::appsec::{AppSecFailure, AppSecOutcome};
use super::dataset::{CountryCode, Remediation, SnapshotCell, SnapshotReader};
use super::decide::{CaptchaCount, Counts, Inquiry, Listed, Lookup, Question, Ruling, Verdict};
use super::geo::{GeoDatabases, Place};
use super::messages::{CrowdsecHttpBody, CrowdsecHttpNoBody, CrowdsecTcp, HttpRequest, VARIABLES};
use super::policy::Policy;
use super::words::CHALLENGE;
use crate::agent::{Agent, AgentError, Reply, Router, SparseLog, Ticket};
use crate::agents::common::outside::{
    EndpointKind, EndpointNeed, OutsideRequest, OutsideResult, outbound_request, outside_result,
};
use crate::agents::common::provider::ProviderAnswer;
use crate::outbound::{
    BreakerConfig, Endpoint, EndpointConfig, EndpointError, FailureKind, Outbound, OutboundError,
};

/// Questions end so long before the agent's deadline, to have their verdict answered and not the
/// fallback.
const MARGIN: Duration = Duration::from_millis(5);

/// Questions of an endpoint that wait for one of its connections, within their time: a burst that finds
/// all of them taken would pass unjudged otherwise. Each is as long as its request: 64 MB together where those
/// have 64 KiB.
const MAX_QUEUED: usize = 1024;

/// What CrowdSec's bouncer for HAProxy does, with the same messages and variables.
///
/// It is shared by all cores; each has an [`agent`](Self::agent) of it. Decisions come from a
/// [`SnapshotCell`], which somebody else keeps up to date.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use ringspoa::agents::remediation::messages::{CrowdsecTcp, REMEDIATION};
/// use ringspoa::agents::remediation::{
///     Bouncer, Decision, DecisionStore, Network, Policy, PolicySettings, SnapshotCell, Source,
/// };
/// use ringspoa::outbound::{Outbound, OutboundConfig};
/// use ringspoa::Harness;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut decisions = DecisionStore::new();
/// let source = decisions.add_source(Source::default())?;
/// decisions.insert(source, &Decision::new("192.0.2.0/24".parse::<Network>()?, "ban", "cscli"))?;
/// decisions.apply(0);
///
/// let (policy, _problems) = Policy::new(PolicySettings::default())?;
/// let outbound = Outbound::start(OutboundConfig::default())?;
/// let cell = SnapshotCell::new(Arc::clone(decisions.snapshot()));
/// let bouncer = Bouncer::new(Arc::new(policy), cell, &outbound, Duration::from_millis(400))?;
///
/// let mut harness = Harness::new(bouncer.agent());
/// let message = CrowdsecTcp { src_ip: Some([192, 0, 2, 7].into()) };
/// let ack = harness.notify(&message).ack();
/// assert_eq!(ack.get(REMEDIATION), Some("ban"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Bouncer {
    parts: Arc<Parts>,
    geo: Option<Arc<SnapshotCell<GeoDatabases>>>,
}

#[derive(Debug)]
struct Parts {
    policy: Arc<Policy>,
    decisions: Arc<SnapshotCell>,
    /// As [`Policy::endpoints`].
    endpoints: Vec<Endpoint>,
    /// Of each of those, that it fails: clients decide how often it does.
    logs: Vec<Mutex<SparseLog>>,
    /// How long a request may wait for all questions together.
    patience: Duration,
    /// Of all agents there were, also under other policies.
    cores: Arc<Mutex<Cores>>,
    /// Whether it was told that challenges are not served.
    told_of_challenges: AtomicBool,
}

/// An answer that did not come, or is of no use.
struct Failed<'a> {
    endpoint: usize,
    error: Option<&'a OutboundError>,
    /// Whether it had less time than its own timeout, as HAProxy is to be answered before.
    is_cut: bool,
}

impl Parts {
    /// That AppSec gave no verdict, and what requests get instead.
    fn tell_of_appsec(
        &self,
        failed: &Failed<'_>,
        inquiry: &Inquiry,
        why: AppSecFailure,
        status: u16,
    ) {
        let Some(appsec) = inquiry.appsec() else {
            return;
        };
        let cause = match (failed.error, why) {
            (Some(error), _) => error.fault().to_string(),
            (None, AppSecFailure::KeyRefused) => format!("{status}, check api-key"),
            (None, AppSecFailure::NotAsked) => {
                "not asked, as HAProxy's message lacks src-ip, method, path or headers".to_owned()
            }
            (None, _) => format!("{status}, which is no verdict"),
        };
        let cut = match failed.is_cut {
            true => ", at the end of agent-deadline-ms",
            false => "",
        };
        let effect = appsec.on_failure.effect();
        self.tell(
            failed.endpoint,
            format_args!("{cause}{cut}; {effect} (failure-action)"),
        );
    }

    /// That a visitor's solution is lost: the providers' are of use once.
    fn tell_of_provider(&self, failed: &Failed<'_>, answer: Option<&ProviderAnswer>) {
        let (cause, fix) = match (failed.error, answer) {
            (Some(error), _) => {
                let fix = match (error.fault().kind(), failed.is_cut) {
                    (FailureKind::Timeout, true) => {
                        "raise agent-deadline-ms, and HAProxy's timeout processing above it, to what the \
                         provider takes"
                    }
                    (FailureKind::Timeout, false) => "raise the captcha's timeout",
                    _ => "check that it can be reached from here",
                };
                (error.fault().to_string(), fix)
            }
            (None, Some(answer)) if answer.is_of_wrong_key() => {
                ("it does not know the key".to_owned(), "check secret-key")
            }
            (None, Some(ProviderAnswer::Unusable(reason))) => {
                ((*reason).to_owned(), "check the provider's URL")
            }
            _ => return,
        };
        self.tell(
            failed.endpoint,
            format_args!(
                "{cause}; a visitor's solution is lost, and the captcha comes again: {fix}"
            ),
        );
    }

    fn tell(&self, endpoint: usize, what: fmt::Arguments<'_>) {
        let title = self.endpoints[endpoint].title();
        lock(&self.logs[endpoint]).warn(format_args!("{title}: {what}"));
    }

    /// Once: a client decides how often it happens.
    fn tell_of_challenges(&self) {
        if !self.told_of_challenges.swap(true, Ordering::Relaxed) {
            let meaning = self.policy.words().remediation(CHALLENGE);
            tracing::warn!(
                "AppSec wants a client to solve a challenge, which is not served here: it gets {meaning} \
                 instead, as do others from now on; see words in [remediation]"
            );
        }
    }
}

/// What agents have counted.
#[derive(Debug, Default)]
struct Cores {
    present: Vec<Arc<CoreCounts>>,
    /// The sum of those that are gone: each reload makes new ones.
    gone: BouncerCounts,
}

impl Cores {
    /// Adds up what those have counted that nobody counts on any more, and forgets them.
    fn retire(&mut self) {
        let Self { present, gone } = self;
        present.retain(|core| {
            // Agents have a hold on theirs, and so does each question that is out.
            let is_present = Arc::strong_count(core) > 1;
            if !is_present {
                gone.add(core);
            }
            is_present
        });
    }
}

impl Bouncer {
    /// A bouncer that answers within `deadline`, that of the server: what has not been answered by
    /// others shortly before counts as no answer, and each verdict is what is known then.
    ///
    /// # Errors
    ///
    /// An address of a captcha provider or an AppSec that no call can be made to.
    pub fn new(
        policy: Arc<Policy>,
        decisions: Arc<SnapshotCell>,
        outbound: &Outbound,
        deadline: Duration,
    ) -> Result<Self, EndpointError> {
        Self::counting_on(policy, decisions, outbound, deadline, Arc::default())
    }

    /// The same, for agents that look each address up in these databases too, which somebody else keeps
    /// up to date: the country is told HAProxy, and decisions on countries and autonomous systems count.
    #[must_use]
    pub fn with_geo(mut self, databases: Arc<SnapshotCell<GeoDatabases>>) -> Self {
        self.geo = Some(databases);
        self
    }

    /// The same decisions and databases under another policy, with everything counted so far: for a reload.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_policy(
        &self,
        policy: Arc<Policy>,
        outbound: &Outbound,
        deadline: Duration,
    ) -> Result<Self, EndpointError> {
        let (decisions, cores) = (&self.parts.decisions, &self.parts.cores);
        let (decisions, cores) = (Arc::clone(decisions), Arc::clone(cores));
        let next = Self::counting_on(policy, decisions, outbound, deadline, cores)?;
        Ok(Self {
            geo: self.geo.clone(),
            ..next
        })
    }

    fn counting_on(
        policy: Arc<Policy>,
        decisions: Arc<SnapshotCell>,
        outbound: &Outbound,
        deadline: Duration,
        cores: Arc<Mutex<Cores>>,
    ) -> Result<Self, EndpointError> {
        let endpoint = |need: &EndpointNeed| {
            let name = match need.kind {
                EndpointKind::Captcha => "captcha",
                EndpointKind::AppSec => "appsec",
            };
            outbound.endpoint(EndpointConfig {
                max_queued: MAX_QUEUED,
                // What AppSec is asked about is of clients' making; a provider's questions are not.
                breaker: Some(BreakerConfig {
                    connecting_only: need.kind == EndpointKind::AppSec,
                    ..BreakerConfig::default()
                }),
                ..EndpointConfig::new(name, need.url.as_str())
            })
        };
        let endpoints = policy.endpoints().iter().map(endpoint);
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            parts: Arc::new(Parts {
                policy,
                decisions,
                logs: endpoints.iter().map(|_| Mutex::default()).collect(),
                endpoints,
                patience: deadline.saturating_sub(MARGIN),
                cores,
                told_of_challenges: AtomicBool::new(false),
            }),
            geo: None,
        })
    }

    /// An agent, for one core.
    #[must_use]
    pub fn agent(&self) -> impl Agent + use<> {
        let counts = Arc::<CoreCounts>::default();
        {
            let mut cores = lock(&self.parts.cores);
            cores.retire();
            cores.present.push(Arc::clone(&counts));
        }
        let state = Core {
            parts: Arc::clone(&self.parts),
            decisions: self.parts.decisions.reader(),
            geo: self.geo.as_ref().map(SnapshotCell::reader),
            counts,
            random: RandomState::new(),
            visitors: 0,
        };
        let mut router = Router::new("crowdsec", state)
            .on::<CrowdsecTcp>(Core::tcp)
            .on::<CrowdsecHttpBody<'_>>(|core: &mut Core, message, reply| {
                core.http(&HttpRequest::from(&message), reply)
            })
            .on::<CrowdsecHttpNoBody<'_>>(|core, message, reply| {
                core.http(&HttpRequest::from(&message), reply)
            });
        for variable in VARIABLES {
            router = router.sets(variable);
        }
        router
    }

    /// What has been counted on all cores.
    #[must_use]
    pub fn counts(&self) -> BouncerCounts {
        let cores = lock(&self.parts.cores);
        let mut sum = cores.gone.clone();
        cores.present.iter().for_each(|core| sum.add(core));
        sum
    }
}

/// What a [`Bouncer`] has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BouncerCounts {
    /// Requests from IPv4 addresses that were judged.
    pub processed_v4: u64,
    /// The same from IPv6 addresses.
    pub processed_v6: u64,
    /// Requests that did not pass.
    pub blocked: BTreeMap<BlockedLabels, u64>,
    /// Questions to AppSec, by what came of them: `allow`, `ban` and `captcha` are its answers, `timeout`,
    /// `unreachable`, `unauthorized`, `error` and `not_asked` why there is none.
    pub appsec: BTreeMap<&'static str, u64>,
    /// Requests that a captcha was due for, by what came of it: see [`CaptchaCount::name`].
    pub captcha: BTreeMap<&'static str, u64>,
}

impl BouncerCounts {
    fn add(&mut self, core: &CoreCounts) {
        self.processed_v4 += core.processed_v4.load(Ordering::Relaxed);
        self.processed_v6 += core.processed_v6.load(Ordering::Relaxed);
        for (labels, count) in lock(&core.blocked).iter() {
            *self.blocked.entry(labels.clone()).or_default() += count;
        }
        for (outcome, count) in AppSecOutcome::ALL.iter().zip(&core.appsec) {
            *self.appsec.entry(outcome.name()).or_default() += count.load(Ordering::Relaxed);
        }
        for (outcome, count) in CaptchaCount::ALL.iter().zip(&core.captcha) {
            *self.captcha.entry(outcome.name()).or_default() += count.load(Ordering::Relaxed);
        }
    }
}

/// What requests that did not pass are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockedLabels {
    /// Who decided.
    pub origin: String,
    /// `ipv4` or `ipv6`.
    pub ip_type: &'static str,
    /// What was decided.
    pub remediation: Remediation,
}

/// The counters of one core: written by it, and by the outbound thread for what it was asked.
#[derive(Debug, Default)]
struct CoreCounts {
    processed_v4: AtomicU64,
    processed_v6: AtomicU64,
    /// Taken for requests that do not pass, by nobody else but whoever reads it.
    blocked: Mutex<BTreeMap<BlockedLabels, u64>>,
    appsec: [AtomicU64; AppSecOutcome::ALL.len()],
    captcha: [AtomicU64; CaptchaCount::ALL.len()],
}

impl CoreCounts {
    fn note(&self, counts: &Counts<'_>) {
        if counts.is_processed {
            let processed = match counts.is_ipv6 {
                true => &self.processed_v6,
                false => &self.processed_v4,
            };
            processed.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(captcha) = counts.captcha {
            self.captcha[captcha as usize].fetch_add(1, Ordering::Relaxed);
        }
        for blocked in [counts.blocked, counts.blocked_by_appsec]
            .into_iter()
            .flatten()
        {
            let labels = BlockedLabels {
                origin: blocked.origin.to_owned(),
                ip_type: counts.ip_type(),
                remediation: blocked.remediation,
            };
            *lock(&self.blocked).entry(labels).or_default() += 1;
        }
    }
}

/// What a core has.
struct Core {
    parts: Arc<Parts>,
    decisions: SnapshotReader,
    geo: Option<SnapshotReader<GeoDatabases>>,
    counts: Arc<CoreCounts>,
    /// Keys of its own, which nobody outside can know.
    random: RandomState,
    /// Those who were given random bytes.
    visitors: u64,
}

impl Core {
    fn tcp(&mut self, message: CrowdsecTcp, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let policy = &self.parts.policy;
        let place = place(&mut self.geo, message.src_ip);
        let lookup = look_up(&mut self.decisions, policy, message.src_ip, &place);
        let verdict = policy.decide_tcp(message.src_ip, &lookup);
        self.counts.note(&verdict.counts);
        answer(&verdict, reply)
    }

    fn http(&mut self, request: &HttpRequest<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let policy = &self.parts.policy;
        let place = place(&mut self.geo, request.address);
        let lookup = look_up(&mut self.decisions, policy, request.address, &place);
        let (random, visitors) = (&self.random, &mut self.visitors);
        let bytes = || {
            // SipHash under a secret key, of numbers that never come again.
            *visitors += 2;
            let halves = [*visitors, *visitors + 1].map(|number| random.hash_one(number));
            ((u128::from(halves[0]) << 64) | u128::from(halves[1])).to_ne_bytes()
        };
        match policy.decide_http(request, &lookup, unix_s(), bytes) {
            Ruling::Now(verdict) => {
                self.counts.note(&verdict.counts);
                answer(&verdict, reply)
            }
            Ruling::Ask(inquiry) => {
                let asked = Asked {
                    parts: Arc::clone(&self.parts),
                    counts: Arc::clone(&self.counts),
                    end: Instant::now() + self.parts.patience,
                    pending: Mutex::new(Pending {
                        inquiry,
                        ticket: Some(reply.defer()),
                        is_appsec_counted: false,
                    }),
                };
                Arc::new(asked).go_on();
                Ok(())
            }
        }
    }
}

/// Where the address is, for every message: HAProxy is told the country whatever is decided.
fn place(geo: &mut Option<SnapshotReader<GeoDatabases>>, address: Option<IpAddr>) -> Place {
    let place = geo.as_mut().zip(address);
    let place = place.map(|(geo, address)| geo.snapshot().place(address));
    place.unwrap_or_default()
}

fn look_up<'s>(
    decisions: &'s mut SnapshotReader,
    policy: &Policy,
    address: Option<IpAddr>,
    place: &'s Place,
) -> Lookup<'s> {
    let found = address.and_then(|address| {
        let snapshot = decisions.snapshot();
        snapshot.lookup_with(address, place.country, place.as_number)
    });
    Lookup {
        listed: found.map(|found| Listed {
            remediation: match found.remediation() {
                Remediation::Unknown => policy.words().remediation(found.word()),
                remediation => remediation,
            },
            word: found.word(),
            origin: found.origin(),
        }),
        country: place.country.as_ref().map(CountryCode::as_str),
    }
}

fn answer(verdict: &Verdict<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
    for (variable, value) in verdict.variables() {
        reply.set(variable, value)?;
    }
    Ok(())
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind the locks of this file is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request about which others are asked. Its questions go out at once; each answer comes to it on
/// whatever thread, and may bring another question.
struct Asked {
    parts: Arc<Parts>,
    counts: Arc<CoreCounts>,
    /// When nobody is waited for any longer.
    end: Instant,
    pending: Mutex<Pending>,
}

struct Pending {
    inquiry: Box<Inquiry>,
    /// `None` once the verdict has been sent.
    ticket: Option<Ticket>,
    /// Its outcome may come after the verdict, where AppSec is to know of all requests.
    is_appsec_counted: bool,
}

impl Asked {
    /// Asks what is to be asked now, and sends the verdict if there is one.
    fn go_on(self: &Arc<Self>) {
        loop {
            // The lock is not held over a call: one that is refused is answered before it returns.
            let question = {
                let mut pending = lock(&self.pending);
                if self.end <= Instant::now() {
                    pending.inquiry.handle_deadline();
                }
                self.count_appsec(&mut pending);
                self.send_if_settled(&mut pending);
                pending.inquiry.poll_question()
            };
            match question {
                None => return,
                Some(Question::Captcha(request)) => {
                    let parts = Arc::clone(&self.parts);
                    self.ask(&request, move |inquiry, result, failed| {
                        let answer = inquiry.handle_provider(result, unix_s());
                        parts.tell_of_provider(failed, answer.as_ref());
                    });
                }
                Some(Question::AppSec(request)) => {
                    let parts = Arc::clone(&self.parts);
                    self.ask(&request, move |inquiry, result, failed| {
                        let verdict = inquiry.handle_appsec(result);
                        if verdict.is_some_and(|verdict| verdict.wants_challenge) {
                            parts.tell_of_challenges();
                        }
                        if let Some(why) = verdict.and_then(|verdict| verdict.failure) {
                            let status = result.as_ref().map_or(0, |answer| answer.status);
                            parts.tell_of_appsec(failed, inquiry, why, status);
                        }
                    });
                }
            }
        }
    }

    fn count_appsec(&self, pending: &mut Pending) {
        let Some(outcome) = pending.inquiry.appsec_outcome() else {
            return;
        };
        if std::mem::replace(&mut pending.is_appsec_counted, true) {
            return;
        }
        let counted = &self.counts.appsec[AppSecOutcome::of(outcome) as usize];
        counted.fetch_add(1, Ordering::Relaxed);
        if outcome == Err(AppSecFailure::NotAsked)
            && let Some(appsec) = pending.inquiry.appsec()
        {
            let failed = Failed {
                endpoint: appsec.endpoint().index(),
                error: None,
                is_cut: false,
            };
            let (inquiry, why) = (&pending.inquiry, AppSecFailure::NotAsked);
            self.parts.tell_of_appsec(&failed, inquiry, why, 0);
        }
    }

    fn send_if_settled(&self, pending: &mut Pending) {
        if !pending.inquiry.is_settled() {
            return;
        }
        let Some(mut ticket) = pending.ticket.take() else {
            return;
        };
        let verdict = pending.inquiry.verdict();
        self.counts.note(&verdict.counts);
        for (variable, value) in verdict.variables() {
            // What does not fit makes it the fallback.
            let _ = ticket.set(variable, value);
        }
        ticket.send();
    }

    fn ask(
        self: &Arc<Self>,
        question: &OutsideRequest,
        take: impl FnOnce(&mut Inquiry, &OutsideResult<'_>, &Failed<'_>) + Send + 'static,
    ) {
        let asked = Arc::clone(self);
        let left = self.end.saturating_duration_since(Instant::now());
        let deadline = left.min(question.timeout);
        let is_cut = left < question.timeout;
        let index = question.endpoint.index();
        let endpoint = &self.parts.endpoints[index];
        let max_len = question.max_answer_len;
        endpoint.call(
            outbound_request(question),
            deadline,
            max_len,
            move |result| {
                {
                    let mut pending = lock(&asked.pending);
                    let failed = Failed {
                        endpoint: index,
                        error: result.as_ref().err(),
                        is_cut: is_cut
                            && matches!(&result, Err(error)
                                if error.fault().kind() == FailureKind::Timeout),
                    };
                    take(&mut pending.inquiry, &outside_result(&result), &failed);
                }
                asked.go_on();
            },
        );
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dataset::DecisionStore;
    use super::super::policy::PolicySettings;
    use super::*;
    use crate::outbound::OutboundConfig;

    #[test]
    fn outcomes_are_numbered_in_their_order() {
        let appsec = AppSecOutcome::ALL.iter().enumerate();
        appsec.for_each(|(index, &outcome)| assert_eq!(outcome as usize, index));
        let captcha = CaptchaCount::ALL.iter().enumerate();
        captcha.for_each(|(index, &outcome)| assert_eq!(outcome as usize, index));
    }

    #[test]
    fn agents_that_are_gone_leave_their_counts_and_no_more() {
        let outbound = Outbound::start(OutboundConfig::default()).unwrap();
        let (policy, _) = Policy::new(PolicySettings::default()).unwrap();
        let cell = SnapshotCell::new(Arc::clone(DecisionStore::new().snapshot()));
        let deadline = Duration::from_millis(400);
        let policy = Arc::new(policy);
        let mut bouncer = Bouncer::new(Arc::clone(&policy), cell, &outbound, deadline).unwrap();
        for _ in 0..100 {
            bouncer = bouncer
                .with_policy(Arc::clone(&policy), &outbound, deadline)
                .unwrap();
            let agent = bouncer.agent();
            let cores = lock(&bouncer.parts.cores);
            let newest = cores.present.last().unwrap();
            newest.processed_v4.fetch_add(1, Ordering::Relaxed);
            newest.appsec[AppSecOutcome::Error as usize].fetch_add(1, Ordering::Relaxed);
            newest.captcha[CaptchaCount::TimedOut as usize].fetch_add(1, Ordering::Relaxed);
            drop((cores, agent));
        }
        let counted = lock(&bouncer.parts.cores).present.len();
        assert!(counted <= 2, "{counted}");
        let counts = bouncer.counts();
        assert_eq!(counts.processed_v4, 100);
        assert_eq!(
            (counts.appsec["error"], counts.captcha["timeout"]),
            (100, 100)
        );
    }
}

//! The agent that validates browsers: what is decided at once is decided on the core, providers of captchas
//! are asked on the outbound thread, and derivations verified on threads of their own, so that no visitor
//! who is cleared waits for one who wants to be.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::counts::{ChallengeCounts, CoreCounts};
use super::engine::{
    Answer, Asking, Deferred, Engine, IssueRequest, Now, Outcome, Validation, Verification, Via,
};
use super::messages::{
    BOT, Berghain, CHALLENGE, CLASS, DOMAIN, Issue, LEVEL, LOCATION, NOJS_URL, NOJS_WAIT, NUMBERS,
    PAGE_STATUS, Pass, REASON, REBIND_OK, RESPONSE, RESULT, SET_COOKIE, STATUS, SUGGEST_LEVEL,
    SUPPORT_ID, SWITCHES, TEXTS, TOKEN, TOKEN_AGE, TOKEN_ID, VALID, Validate, Verify, Visitor,
    WOULD_CHALLENGE,
};
use super::puzzle::Pbkdf2Job;
use super::realm::Challenges;
use super::scope::{HostError, ShownHost};
use super::token::Reason;
use super::verifier::Verifier;
use super::work::Pressure;
use crate::agent::{Agent, AgentError, Reply, Router, Ticket};
use crate::agents::common::outside::{outbound_request, outside_result};
use crate::message::{Var, VariableType};
use crate::outbound::{Endpoint, EndpointConfig, EndpointError, Outbound};
use crate::spop::EncodeError;

/// What takes others ends so long before its ticket's deadline, to have its result answered and not the
/// fallback.
const MARGIN: Duration = Duration::from_millis(50);

/// Solutions of captchas that wait until their provider can be asked. Whoever sends one more is asked to come
/// back.
const MAX_QUEUED: usize = 256;

/// So many milliseconds pass between two warnings of the same kind on a core.
const WARNING_EVERY_MS: u64 = 10_000;

/// And between two of hosts that no realm has, which anybody can name.
const HOST_WARNING_EVERY_MS: u64 = 60_000;

/// What time it is, for an agent.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Has browsers prove that they are some: the messages of [`messages`](super::messages).
///
/// It is shared by all cores; each has an [`agent`](Self::agent) of it.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use ringspoa::Harness;
/// use ringspoa::agents::challenge::messages::{LevelArgument, REASON, SentText, VALID, Validate};
/// use ringspoa::agents::challenge::{
///     ChallengeAgent, ChallengeSettings, Challenges, KeySettings, LevelSettings, RealmSettings,
/// };
/// use ringspoa::outbound::{Outbound, OutboundConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = ChallengeSettings {
///     keys: vec![KeySettings {
///         id: Some(1),
///         secret: Some("QmV0dGVyIHRha2UgMzIgcmFuZG9tIGJ5dGVzLCB5b3U=".into()),
///         ..KeySettings::default()
///     }],
///     realms: vec![RealmSettings {
///         levels: vec![LevelSettings {
///             kind: Some("pow".to_owned()),
///             ..LevelSettings::default()
///         }],
///         ..RealmSettings::default()
///     }],
///     ..ChallengeSettings::default()
/// };
/// let outbound = Outbound::start(OutboundConfig::default())?;
/// let challenges = Arc::new(Challenges::new(&settings)?);
/// let challenge = ChallengeAgent::new(challenges, &outbound, Duration::from_millis(500))?;
///
/// let mut harness = Harness::new(challenge.agent());
/// let message = Validate {
///     level: LevelArgument::Number(1),
///     src: Some([192, 0, 2, 7].into()),
///     host: SentText(Some(b"shop.example")),
///     ..Validate::default()
/// };
/// let ack = harness.notify(&message).ack();
/// assert_eq!(ack.get(VALID), Some(false));
/// assert_eq!(ack.get(REASON), Some("none"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ChallengeAgent {
    parts: Arc<Parts>,
    history: Arc<Mutex<History>>,
    clock: Clock,
}

struct Parts {
    challenges: Arc<Challenges>,
    /// As [`Challenges::endpoints`].
    endpoints: Vec<Endpoint>,
    /// Where a level needs it.
    verifier: Option<Verifier>,
    /// How long whoever waits for a derivation has.
    deadline: Duration,
    /// How hard levels were pressed before.
    pressures: Vec<(usize, usize, Pressure)>,
}

/// What has been counted, also under earlier settings.
#[derive(Default)]
struct History {
    /// Of agents that are gone.
    past: ChallengeCounts,
    cores: Vec<Arc<CoreCounts>>,
}

impl fmt::Debug for ChallengeAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChallengeAgent")
            .field("challenges", &self.parts.challenges)
            .finish_non_exhaustive()
    }
}

/// Why there is no agent.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address of a provider that no call can be made to.
    Endpoint(EndpointError),
    /// A thread for derivations that could not be started.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "no thread for pbkdf2-threads: {error}"),
        }
    }
}

impl Error for StartError {}

impl ChallengeAgent {
    /// An agent of these settings.
    ///
    /// `deadline` is how long derivations of levels of type `pbkdf2` may take, the server's agent deadline.
    /// Providers of captchas have what their level's `timeout-s` says, whatever that deadline is.
    ///
    /// # Errors
    ///
    /// An address of a provider that no call can be made to, or a thread that is not to be had.
    pub fn new(
        challenges: Arc<Challenges>,
        outbound: &Outbound,
        deadline: Duration,
    ) -> Result<Self, StartError> {
        let start = Instant::now();
        let clock = move || Now {
            unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Self {
            parts: Arc::new(Parts::new(challenges, outbound, deadline)?),
            history: Arc::default(),
            clock: Arc::new(clock),
        })
    }

    /// The same by another clock: for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// An agent of other settings, by the same clock and with everything counted so far: for a reload.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_settings(
        &self,
        challenges: Arc<Challenges>,
        outbound: &Outbound,
        deadline: Duration,
    ) -> Result<Self, StartError> {
        Ok(Self {
            parts: Arc::new(Parts {
                pressures: self.pressures(&challenges),
                ..Parts::new(challenges, outbound, deadline)?
            }),
            history: Arc::clone(&self.history),
            clock: Arc::clone(&self.clock),
        })
    }

    /// How hard the levels of these settings are pressed, as far as these were there before: a reload does
    /// not make it easier for whoever asks for many challenges.
    fn pressures(&self, challenges: &Challenges) -> Vec<(usize, usize, Pressure)> {
        let before = &self.parts.challenges;
        let mut pressures: Vec<(usize, usize, Pressure)> = Vec::new();
        let history = lock(&self.history);
        let cores = history.cores.iter().filter(|counts| counts.is_of(before));
        for (realm, level, pressure) in cores.flat_map(|counts| counts.pressures()) {
            let name = before.realms()[realm].name();
            let Some(realm) = challenges
                .realms()
                .iter()
                .position(|realm| realm.name() == name)
            else {
                continue;
            };
            let known = pressures
                .iter_mut()
                .find(|known| (known.0, known.1) == (realm, level));
            match known {
                Some((_, _, highest)) if highest.height < pressure.height => *highest = pressure,
                Some(_) => {}
                None => pressures.push((realm, level, pressure)),
            }
        }
        pressures
    }

    /// The settings.
    #[must_use]
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.parts.challenges
    }

    /// An agent, for one core.
    #[must_use]
    pub fn agent(&self) -> impl Agent + use<> {
        let challenges = &self.parts.challenges;
        let counts = Arc::new(CoreCounts::new(challenges));
        lock(&self.history).cores.push(Arc::clone(&counts));
        let mut engine = Engine::new(Arc::clone(challenges));
        for &(realm, level, pressure) in &self.parts.pressures {
            engine.press(realm, level, pressure);
        }
        let state = Core {
            engine,
            parts: Arc::clone(&self.parts),
            counts,
            clock: Arc::clone(&self.clock),
            answer: Box::default(),
            level_warning: Warning::default(),
            key_warning: Warning::default(),
            host_warning: Warning::default(),
        };
        let mut router = Router::new("challenge", state)
            .on::<Validate<'_>>(|core: &mut Core, message, reply| core.validate(&message, reply))
            .on::<Issue<'_>>(|core, message, reply| core.issue(&message, reply))
            .on::<Verify<'_>>(|core, message, reply| core.verify(&message, reply))
            .on::<Pass<'_>>(|core, message, reply| core.pass(&message, reply))
            .on::<Berghain<'_>>(|core, message, reply| core.berghain(&message, reply));
        for variable in SWITCHES {
            router = router.sets(variable);
        }
        for variable in NUMBERS {
            router = router.sets(variable);
        }
        for variable in TEXTS {
            router = router.sets(variable);
        }
        router
    }

    /// What has been counted on all cores, under these settings and those before.
    #[must_use]
    pub fn counts(&self) -> ChallengeCounts {
        let mut history = lock(&self.history);
        let History { past, cores } = &mut *history;
        // Nobody else has those any more, so that nothing is added to them.
        cores.retain(|counts| {
            let is_used = Arc::strong_count(counts) > 1;
            if !is_used {
                counts.add_to(past);
            }
            is_used
        });
        let mut sum = past.clone();
        for counts in cores.iter() {
            counts.add_to(&mut sum);
            if counts.is_of(&self.parts.challenges) {
                counts.add_work(&mut sum, (self.clock)().ms);
            }
        }
        sum
    }
}

impl Parts {
    fn new(
        challenges: Arc<Challenges>,
        outbound: &Outbound,
        deadline: Duration,
    ) -> Result<Self, StartError> {
        let needs = challenges.endpoints().iter();
        let endpoints = needs.map(|need| {
            let mut config = EndpointConfig::new("captcha", need.url.as_str());
            config.max_queued = MAX_QUEUED;
            outbound.endpoint(config)
        });
        let endpoints = endpoints
            .collect::<Result<_, _>>()
            .map_err(StartError::Endpoint)?;
        let verifier = challenges
            .has_pbkdf2()
            .then(|| Verifier::start(challenges.pbkdf2_threads, challenges.pbkdf2_queue));
        Ok(Self {
            endpoints,
            verifier: verifier.transpose().map_err(StartError::Thread)?,
            challenges,
            deadline,
            pressures: Vec::new(),
        })
    }
}

/// What a core has.
struct Core {
    engine: Engine,
    parts: Arc<Parts>,
    counts: Arc<CoreCounts>,
    clock: Clock,
    /// Room that every answer is written to.
    answer: Box<Answer>,
    level_warning: Warning,
    key_warning: Warning,
    host_warning: Warning,
}

/// A warning that is not given too often.
#[derive(Default)]
struct Warning {
    last_ms: Option<u64>,
    /// Those that were not given since.
    kept: u64,
}

impl Warning {
    /// How many there were since the last one, if it is time for another.
    fn note(&mut self, now_ms: u64, every_ms: u64) -> Option<u64> {
        self.kept += 1;
        let is_due = self
            .last_ms
            .is_none_or(|last_ms| now_ms.saturating_sub(last_ms) >= every_ms);
        if !is_due {
            return None;
        }
        self.last_ms = Some(now_ms);
        Some(std::mem::take(&mut self.kept))
    }
}

impl Core {
    fn validate(
        &mut self,
        message: &Validate<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let now = (self.clock)();
        let (visitor, load) = (message.visitor(), message.load.0);
        let validation = self
            .engine
            .validate(&visitor, message.level, message.nav, load, now);
        let Some(validation) = validation else {
            return Ok(());
        };
        self.counts.note_validation(&validation);
        if validation.is_odd_level {
            self.level_warning.tell(now);
        }
        if validation.reason == Some(Reason::Host) {
            let challenges = &self.parts.challenges;
            self.host_warning.tell_host(challenges, &visitor, now);
        }
        answer_validation(&validation, reply)?;
        Ok(())
    }

    fn issue(&mut self, message: &Issue<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let (visitor, now) = (message.visitor(), (self.clock)());
        let request = IssueRequest {
            level: message.level,
            load: message.load.0,
            url: message.url.0,
            via: Via::Issue,
        };
        self.engine.issue(&visitor, &request, now, &mut self.answer);
        self.note_issued(&visitor, now);
        if let Some(accept_language) = message.lang {
            self.answer.add_language(accept_language);
        }
        answer_issue(&self.answer, reply)?;
        let status = self.parts.challenges.realm(visitor.realm).status();
        reply.set(PAGE_STATUS, i64::from(status))?;
        Ok(())
    }

    fn verify(&mut self, message: &Verify<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        self.submit(&message.visitor(), message.body.unwrap_or_default(), reply)
    }

    fn pass(&mut self, message: &Pass<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let now = (self.clock)();
        let query = message.query.unwrap_or_default();
        self.engine
            .pass(&message.visitor(), query, now, &mut self.answer);
        self.counts.note_answer(&self.answer);
        answer_pass(&self.answer, reply)?;
        Ok(())
    }

    fn berghain(
        &mut self,
        message: &Berghain<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let visitor = message.visitor();
        match message.method {
            Some(b"GET") => {
                let now = (self.clock)();
                let request = IssueRequest {
                    level: message.level,
                    load: None,
                    url: None,
                    via: Via::Berghain,
                };
                self.engine.issue(&visitor, &request, now, &mut self.answer);
                self.note_issued(&visitor, now);
                reply.set(DOMAIN, "")?;
                answer_issue(&self.answer, reply)?;
                Ok(())
            }
            // What is neither has no body that would be a solution.
            _ => self.submit(&visitor, message.body.unwrap_or_default(), reply),
        }
    }

    fn note_issued(&mut self, visitor: &Visitor<'_>, now: Now) {
        self.counts.note_answer(&self.answer);
        let facts = self.answer.facts();
        if facts.is_odd_level {
            self.level_warning.tell(now);
        }
        if facts.status == Outcome::Host.status() {
            let challenges = &self.parts.challenges;
            self.host_warning.tell_host(challenges, visitor, now);
        }
        // There is nothing else that it would be too busy for.
        if facts.status == Outcome::Busy.status()
            && let Some(count) = self.key_warning.note(now.ms, WARNING_EVERY_MS)
        {
            tracing::error!(
                count,
                "no key counts any more, so nobody can be challenged and nobody passes: put a new \
                 [[challenge.key]] in front, and send SIGHUP"
            );
        }
        if let Some((level, _)) = facts.issued {
            let pressure = self.engine.pressure(facts.realm, level);
            self.counts.note_pressure(facts.realm, level, pressure);
        }
    }

    fn submit(
        &mut self,
        visitor: &Visitor<'_>,
        body: &[u8],
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let now = (self.clock)();
        match self.engine.verify(visitor, body, now, &mut self.answer) {
            Verification::Done => {}
            Verification::Ask(asking) => {
                let deferred = self.engine.defer(visitor, asking.challenge(), now);
                self.ask(asking, deferred, reply);
                return Ok(());
            }
            Verification::Derive(job) => {
                let is_greedy = self.engine.is_greedy(visitor, now);
                let verifier = self.parts.verifier.as_ref();
                if let Some(place) = verifier.and_then(|verifier| verifier.reserve(is_greedy)) {
                    let deferred = self.engine.defer(visitor, job.challenge(), now);
                    let waiter = Waiter {
                        deferred,
                        counts: Arc::clone(&self.counts),
                        clock: Arc::clone(&self.clock),
                        ticket: reply.defer_for(self.parts.deadline),
                    };
                    let deadline = self.parts.deadline;
                    let end = Instant::now() + (deadline - MARGIN.min(deadline / 4));
                    place.submit(move || waiter.derive(job, end));
                    return Ok(());
                }
                self.engine
                    .refuse_busy(visitor, job.challenge(), &mut self.answer);
            }
        }
        self.counts.note_answer(&self.answer);
        answer_submission(&self.answer, reply)?;
        Ok(())
    }

    fn ask(&self, asking: Asking, deferred: Deferred, reply: &mut Reply<'_>) {
        let timeout = asking.timeout();
        let waiter = Waiter {
            deferred,
            counts: Arc::clone(&self.counts),
            clock: Arc::clone(&self.clock),
            ticket: reply.defer_for(timeout + MARGIN),
        };
        let (question, pending) = asking.split();
        let request = outbound_request(&question);
        let endpoint = &self.parts.endpoints[question.endpoint.index()];
        endpoint.call(request, timeout, question.max_answer_len, move |result| {
            waiter.finish(|deferred, unix_s, answer| {
                deferred.handle_provider(pending, &outside_result(&result), unix_s, answer);
            });
        });
    }
}

impl Warning {
    fn tell(&mut self, now: Now) {
        if let Some(count) = self.note(now.ms, WARNING_EVERY_MS) {
            tracing::warn!(
                count,
                "the argument level is missing or is no level, so the strongest is asked for; see the \
                 variable that HAProxy sends as level"
            );
        }
    }

    fn tell_host(&mut self, challenges: &Challenges, visitor: &Visitor<'_>, now: Now) {
        let realm = challenges.realm(visitor.realm);
        // What is no host at all is no mistake of a configuration.
        if !matches!(realm.scope.scope(visitor.host), Err(HostError::Unknown)) {
            return;
        }
        if let Some(count) = self.note(now.ms, HOST_WARNING_EVERY_MS) {
            tracing::warn!(
                count,
                "host {:?} is none of realm {:?}, so nobody is let in there: see hosts of the realm, and what \
                 HAProxy sends as host",
                ShownHost(visitor.host),
                realm.name()
            );
        }
    }
}

/// A visitor whose solution somebody else judges.
struct Waiter {
    deferred: Deferred,
    counts: Arc<CoreCounts>,
    clock: Clock,
    ticket: Ticket,
}

impl Waiter {
    fn derive(self, job: Pbkdf2Job, end: Instant) {
        // Nobody waits for it any more.
        if Instant::now() >= end {
            self.finish(|deferred, _, answer| deferred.handle_busy(answer));
            return;
        }
        let result = job.run();
        self.finish(|deferred, unix_s, answer| deferred.handle_derived(result, unix_s, answer));
    }

    fn finish(mut self, decide: impl FnOnce(&Deferred, u64, &mut Answer)) {
        let mut answer = Box::<Answer>::default();
        decide(&self.deferred, (self.clock)().unix_s, &mut answer);
        self.deferred.log(&answer);
        self.counts.note_answer(&answer);
        // What does not fit makes it the fallback.
        let _ = answer_submission(&answer, &mut self.ticket);
        self.ticket.send();
    }
}

/// What variables are set in.
trait Variables {
    fn set<T: VariableType + ?Sized>(
        &mut self,
        variable: Var<T>,
        value: T::Value<'_>,
    ) -> Result<(), EncodeError>;
}

impl Variables for Reply<'_> {
    fn set<T: VariableType + ?Sized>(
        &mut self,
        variable: Var<T>,
        value: T::Value<'_>,
    ) -> Result<(), EncodeError> {
        Reply::set(self, variable, value)
    }
}

impl Variables for Ticket {
    fn set<T: VariableType + ?Sized>(
        &mut self,
        variable: Var<T>,
        value: T::Value<'_>,
    ) -> Result<(), EncodeError> {
        Ticket::set(self, variable, value)
    }
}

fn answer_validation(
    validation: &Validation<'_>,
    out: &mut impl Variables,
) -> Result<(), EncodeError> {
    out.set(VALID, validation.is_valid)?;
    out.set(SUGGEST_LEVEL, i64::from(validation.suggested_level))?;
    if let Some(would_challenge) = validation.would_challenge {
        out.set(WOULD_CHALLENGE, would_challenge)?;
    }
    if let Some(reason) = validation.reason {
        out.set(REASON, reason.as_str())?;
    }
    if let Some(token) = &validation.token {
        out.set(LEVEL, i64::from(token.level))?;
        out.set(TOKEN_ID, token_id(token.id.0, &mut [0; 16]))?;
        out.set(
            TOKEN_AGE,
            i64::try_from(validation.token_age_s).unwrap_or(i64::MAX),
        )?;
        out.set(CLASS, token.class().as_str())?;
    }
    if validation.reason == Some(Reason::Address) {
        out.set(REBIND_OK, validation.can_rebind)?;
    }
    if let Some(word) = validation.bot.word() {
        out.set(BOT, word)?;
    }
    if let Some(shown) = validation.shown {
        out.set(CHALLENGE, shown.as_str())?;
    }
    Ok(())
}

fn answer_issue(answer: &Answer, out: &mut impl Variables) -> Result<(), EncodeError> {
    out.set(STATUS, i64::from(answer.status()))?;
    out.set(RESPONSE, answer.response().unwrap_or_default())?;
    if let Some(support_id) = answer.support_id() {
        out.set(SUPPORT_ID, support_id.as_str())?;
    }
    if let Some((url, wait_s)) = answer.no_js() {
        out.set(NOJS_URL, url)?;
        out.set(NOJS_WAIT, i64::from(wait_s))?;
    }
    Ok(())
}

fn answer_submission(answer: &Answer, out: &mut impl Variables) -> Result<(), EncodeError> {
    out.set(STATUS, i64::from(answer.status()))?;
    out.set(RESPONSE, answer.response().unwrap_or_default())?;
    out.set(RESULT, answer.outcome().map_or("format", Outcome::as_str))?;
    out.set(DOMAIN, answer.domain())?;
    answer_token(answer, out)
}

fn answer_pass(answer: &Answer, out: &mut impl Variables) -> Result<(), EncodeError> {
    out.set(STATUS, i64::from(answer.status()))?;
    out.set(RESULT, answer.outcome().map_or("format", Outcome::as_str))?;
    if let Some(location) = answer.location() {
        out.set(LOCATION, location)?;
    }
    answer_token(answer, out)
}

fn answer_token(answer: &Answer, out: &mut impl Variables) -> Result<(), EncodeError> {
    if let Some(support_id) = answer.support_id() {
        out.set(SUPPORT_ID, support_id.as_str())?;
    }
    if let Some(((token, set_cookie), id)) = answer
        .token()
        .zip(answer.set_cookie())
        .zip(answer.token_id())
    {
        out.set(TOKEN, token)?;
        out.set(SET_COOKIE, set_cookie)?;
        out.set(TOKEN_ID, token_id(id.0, &mut [0; 16]))?;
    }
    Ok(())
}

/// The id in hexadecimal digits.
fn token_id(id: [u8; 8], text: &mut [u8; 16]) -> &str {
    for (digits, byte) in text.chunks_exact_mut(2).zip(id) {
        for (digit, value) in digits.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = b"0123456789abcdef"[usize::from(value)];
        }
    }
    std::str::from_utf8(text).unwrap_or_default()
}

fn lock(mutex: &Mutex<History>) -> MutexGuard<'_, History> {
    // It is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

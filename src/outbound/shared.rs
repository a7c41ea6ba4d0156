//! What the handles of an endpoint and the outbound thread have in common.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::breaker::{Breaker, BreakerConfig, Change, Passage, Verdict};
use super::error::{OutboundError, OutboundFault, Phase};
use super::request::Response;
use super::stats::{Counters, EndpointStats};

pub(super) struct Shared {
    pub(super) name: String,
    /// As errors have it.
    title: Arc<str>,
    pub(super) counters: Counters,
    breaker: Breaker,
    in_flight: AtomicUsize,
    limit: usize,
    /// The zero of the breaker's clock.
    began: Instant,
}

/// What is done with an answer.
pub(super) type Callback = Box<dyn FnOnce(Result<Response, OutboundError>) + Send>;

impl Shared {
    pub(super) fn new(
        name: String,
        title: String,
        breaker: Option<BreakerConfig>,
        limit: usize,
    ) -> Self {
        Self {
            name,
            title: title.into(),
            counters: Counters::default(),
            breaker: Breaker::new(breaker),
            in_flight: AtomicUsize::new(0),
            limit,
            began: Instant::now(),
        }
    }

    pub(super) fn error(&self, fault: OutboundFault) -> OutboundError {
        OutboundError::new(Arc::clone(&self.title), fault)
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    pub(super) fn stats(&self) -> EndpointStats {
        let in_flight = self.in_flight.load(Ordering::Relaxed) as u64;
        let breaker = self.breaker.state(self.now_ns());
        self.counters.snapshot(&self.name, in_flight, breaker)
    }

    fn now_ns(&self) -> u64 {
        // Of 584 years.
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets a call or a stream through, unless the endpoint has too many or its breaker is open.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admitted, OutboundFault> {
        self.counters.calls.add(1);
        let Some(passage) = self.breaker.pass(self.now_ns()) else {
            return Err(OutboundFault::BreakerOpen);
        };
        let admitted = Admitted {
            shared: Arc::clone(self),
            passage,
            began: Instant::now(),
            is_judged: false,
        };
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.limit {
            // Dropping `admitted` takes both back.
            return Err(OutboundFault::Shed { limit: self.limit });
        }
        Ok(admitted)
    }

    /// Ends a call that was not let through.
    pub(super) fn refuse(&self, fault: OutboundFault, callback: Callback) {
        self.counters.failed(fault.kind());
        self.call_back(callback, Err(self.error(fault)));
    }

    fn call_back(&self, callback: Callback, result: Result<Response, OutboundError>) {
        // What the callback had is gone with it, and nothing of ours is in there.
        if catch_unwind(AssertUnwindSafe(|| callback(result))).is_err() {
            self.counters.callback_panics.add(1);
            tracing::error!("{}: the callback of a call panicked", self.title);
        }
    }
}

/// A call or a stream that counts as one in flight until it is dropped.
pub(super) struct Admitted {
    shared: Arc<Shared>,
    passage: Passage,
    began: Instant,
    is_judged: bool,
}

impl Admitted {
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Tells the breaker what came of it, a status or a fault, if it got as far as that. The first time counts.
    pub(super) fn judge(&mut self, outcome: Option<Result<u16, &OutboundFault>>) {
        if std::mem::replace(&mut self.is_judged, true) {
            return;
        }
        let shared = &self.shared;
        let verdict = outcome.map_or(Verdict::Unknown, verdict);
        // Seeded at random in each process, which is random enough for a jitter.
        let random = RandomState::new().hash_one(0);
        match shared
            .breaker
            .settle(self.passage, verdict, shared.now_ns(), random)
        {
            Some(Change::Opened) => {
                shared.counters.breaker_opened.add(1);
                let cause = match outcome {
                    Some(Ok(status)) => format!("status {status}"),
                    Some(Err(fault)) => fault.to_string(),
                    None => String::new(),
                };
                tracing::warn!(
                    "{}: too many calls failed, the last one so: {cause}; none for {:?}, then one to see",
                    shared.title,
                    shared.breaker.open_for()
                );
            }
            Some(Change::Closed) => tracing::info!("{}: answers again", shared.title),
            None => {}
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.judge(None);
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an outcome says about the endpoint.
fn verdict(outcome: Result<u16, &OutboundFault>) -> Verdict {
    match outcome {
        Ok(502..=504) => Verdict::FailsWithThis,
        Ok(_) => Verdict::Works,
        Err(fault) => match fault {
            // The peer answered, if not to our liking.
            OutboundFault::TooLarge { .. } | OutboundFault::Redirected { .. } => Verdict::Works,
            OutboundFault::InvalidRequest(_)
            | OutboundFault::Shed { .. }
            | OutboundFault::BreakerOpen
            | OutboundFault::Stopped
            | OutboundFault::Timeout {
                phase: Phase::Queued,
                ..
            } => Verdict::Unknown,
            OutboundFault::Timeout {
                phase: Phase::Waiting | Phase::Reading,
                ..
            }
            | OutboundFault::Closed {
                phase: Phase::Waiting | Phase::Reading,
            }
            | OutboundFault::InvalidResponse(_) => Verdict::FailsWithThis,
            OutboundFault::Timeout { .. }
            | OutboundFault::Resolve(_)
            | OutboundFault::Connect(_)
            | OutboundFault::Proxy(_)
            | OutboundFault::Tls(_)
            | OutboundFault::Closed { .. } => Verdict::Fails,
        },
    }
}

/// That a call is called back once, whatever becomes of it: dropped, it says that calls were stopped.
pub(super) struct Completion {
    /// Both are there until it is called back.
    parts: Option<(Admitted, Callback)>,
}

impl Completion {
    pub(super) fn new(admitted: Admitted, callback: Callback) -> Self {
        Self {
            parts: Some((admitted, callback)),
        }
    }

    pub(super) fn finish(mut self, result: Result<Response, OutboundFault>) {
        self.settle(result);
    }

    fn settle(&mut self, result: Result<Response, OutboundFault>) {
        let Some((mut admitted, callback)) = self.parts.take() else {
            return;
        };
        admitted.judge(Some(result.as_ref().map(Response::status)));
        let shared = Arc::clone(&admitted.shared);
        let counters = &shared.counters;
        counters.took(admitted.began.elapsed());
        match &result {
            Ok(_) => counters.answered.add(1),
            Err(fault) => counters.failed(fault.kind()),
        }
        // Its place is free when the callback runs, which may make another call.
        drop(admitted);
        shared.call_back(callback, result.map_err(|fault| shared.error(fault)));
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.settle(Err(OutboundFault::Stopped));
    }
}

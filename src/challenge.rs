//! The `[challenge]` table of the configuration: keys, realms and levels, and what of it runs beside the
//! server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringspoa::agents::challenge::{ChallengeAgent, ChallengeSettings, Challenges};
use ringspoa::outbound::{Outbound, OutboundConfig};
use ringspoa::{Agent, Exposition, Family, Kind};

/// The table, found valid.
pub(crate) struct PreparedChallenge {
    challenges: Arc<Challenges>,
}

impl PreparedChallenge {
    /// Reads what it names, and checks it.
    pub(crate) fn new(settings: &ChallengeSettings) -> Result<Self, String> {
        let challenges =
            Challenges::new(settings).map_err(|error| format!("challenge: {error}"))?;
        Ok(Self {
            challenges: Arc::new(challenges),
        })
    }
}

/// What runs beside the server.
pub(crate) struct Challenge {
    outbound: Outbound,
    /// The one in force.
    agent: Arc<Mutex<ChallengeAgent>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Challenge {
    /// Starts it.
    pub(crate) fn start(
        prepared: PreparedChallenge,
        deadline: Duration,
    ) -> Result<Arc<Self>, Box<dyn std::error::Error>> {
        let outbound = Outbound::start(OutboundConfig::default())?;
        let agent = ChallengeAgent::new(prepared.challenges, &outbound, deadline)?;
        Ok(Arc::new(Self {
            outbound,
            agent: Arc::new(Mutex::new(agent)),
        }))
    }

    /// An agent, for one core.
    pub(crate) fn agent(&self) -> Box<dyn Agent> {
        Box::new(lock(&self.agent).agent())
    }

    /// Puts other settings in force for agents that are made from now on. Returns what was before, to be
    /// put back if they are not.
    pub(crate) fn replace(
        &self,
        prepared: PreparedChallenge,
        deadline: Duration,
    ) -> Result<ChallengeAgent, Box<dyn std::error::Error>> {
        let mut agent = lock(&self.agent);
        let next = agent.with_settings(prepared.challenges, &self.outbound, deadline)?;
        Ok(std::mem::replace(&mut *agent, next))
    }

    /// Takes a replacement back.
    pub(crate) fn put_back(&self, before: ChallengeAgent) {
        *lock(&self.agent) = before;
    }

    /// Ends it.
    pub(crate) fn stop(&self) {
        self.outbound.stop();
    }
}

//! What the admin listener shows of this process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringspoa::agents::remediation::AddressTable;
use ringspoa::{Exposition, ServerHandle, Shows};

use crate::challenge::Challenge;
use crate::remediation::Remediation;

/// A core that shows no sign of life for so long is stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The list in force, from which each core's agent is made.
pub(crate) type Lists = Arc<Mutex<Arc<AddressTable>>>;

/// What the admin listener shows.
pub(crate) struct Shown {
    handle: ServerHandle,
    cores: Mutex<Cores>,
    lists: Lists,
    remediation: Option<Arc<Remediation>>,
    challenge: Option<Arc<Challenge>>,
}

/// When each core last showed a sign of life.
struct Cores {
    beats: Vec<(Option<u64>, Instant)>,
}

impl Cores {
    /// The cores that are stuck.
    fn look(&mut self, beats: &[Option<u64>]) -> Vec<usize> {
        let now = Instant::now();
        self.beats.resize(beats.len(), (None, now));
        let mut stuck = Vec::new();
        for (index, (known, beat)) in self.beats.iter_mut().zip(beats).enumerate() {
            if known.0 != *beat {
                *known = (*beat, now);
            } else if beat.is_some() && now.duration_since(known.1) > STUCK_AFTER {
                stuck.push(index);
            }
        }
        stuck
    }
}

impl Shown {
    pub(crate) fn new(
        handle: ServerHandle,
        lists: Lists,
        remediation: Option<Arc<Remediation>>,
        challenge: Option<Arc<Challenge>>,
    ) -> Self {
        let cores = Mutex::new(Cores { beats: Vec::new() });
        Self {
            handle,
            cores,
            lists,
            remediation,
            challenge,
        }
    }

    /// The cores that are stuck.
    pub(crate) fn stuck(&self) -> Vec<usize> {
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        cores.look(&self.handle.heartbeats())
    }
}

impl Shows for Shown {
    fn metrics(&self, out: &mut Exposition) {
        self.handle.write_metrics(out);
        match &self.remediation {
            Some(remediation) => remediation.write_metrics(out),
            None => {
                let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
                out.single(&crate::config::LIST_RANGES, lists.range_count() as u64);
            }
        }
        if let Some(challenge) = &self.challenge {
            challenge.write_metrics(out);
        }
        crate::process::write_metrics(out);
    }

    fn health(&self) -> Result<(), String> {
        match &self.stuck()[..] {
            [] => Ok(()),
            stuck => Err(format!(
                "stuck for {STUCK_AFTER:?} or more: cores {stuck:?}"
            )),
        }
    }

    fn readiness(&self) -> Result<(), String> {
        if self.handle.is_draining() {
            return Err("draining".to_owned());
        }
        self.health()
    }
}

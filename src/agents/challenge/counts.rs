//! What is counted: on each core by itself, without locks and without anything that grows by what visitors
//! do, and summed up for whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::crawlers::Bot;
use super::engine::{Answer, Outcome, ProviderOutcome, Validation, Via};
use super::realm::Challenges;
use super::token::Reason;
use super::work::{Pressure, work_at};

/// Up to how many seconds a visitor takes to be counted in each bucket but the last.
pub const SOLVE_BOUNDS_S: [u64; 9] = [1, 2, 5, 10, 20, 60, 120, 300, 900];

const SOLVE_BUCKETS: usize = SOLVE_BOUNDS_S.len() + 1;

/// Who passes has no reason not to: the first of each row.
const VALIDATED: usize = Reason::ALL.len() + 1;

/// The counters of a core under one configuration.
#[derive(Debug)]
pub(super) struct CoreCounts {
    challenges: Arc<Challenges>,
    realms: Vec<RealmCounts>,
    /// Those that came from where they should, by crawler, and last those that did not.
    crawlers: Vec<AtomicU64>,
}

#[derive(Debug, Default)]
struct RealmCounts {
    validated: [AtomicU64; VALIDATED],
    submitted: [AtomicU64; Outcome::ALL.len()],
    rebound: AtomicU64,
    levels: Vec<LevelCounts>,
}

#[derive(Debug, Default)]
struct LevelCounts {
    issued: [AtomicU64; Via::ALL.len()],
    provider: [AtomicU64; ProviderOutcome::ALL.len()],
    solved: [AtomicU64; SOLVE_BUCKETS],
    solved_s: AtomicU64,
    /// As [`Pressure`] has it, the height in thousandths.
    pressure: AtomicU32,
    pressure_at_ms: AtomicU64,
}

impl LevelCounts {
    fn pressure(&self) -> Pressure {
        Pressure {
            height: f64::from(self.pressure.load(Ordering::Relaxed)) / 1_000.0,
            at_ms: self.pressure_at_ms.load(Ordering::Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl CoreCounts {
    pub(super) fn new(challenges: &Arc<Challenges>) -> Self {
        let realms = challenges.realms().iter().map(|realm| RealmCounts {
            levels: realm
                .levels()
                .iter()
                .map(|_| LevelCounts::default())
                .collect(),
            ..RealmCounts::default()
        });
        let crawlers = 0..=challenges.crawlers.names().count();
        Self {
            challenges: Arc::clone(challenges),
            realms: realms.collect(),
            crawlers: crawlers.map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(super) fn note_validation(&self, validation: &Validation<'_>) {
        // In a dry run a crawler counts as what it would be without: one that passes.
        let reason = validation
            .reason
            .filter(|_| validation.would_challenge != Some(false));
        let place = reason.map_or(0, |reason| 1 + reason as usize);
        if let Some(realm) = self.realms.get(validation.realm)
            && let Some(counter) = realm.validated.get(place)
        {
            add(counter, 1);
        }
        let crawler = match validation.bot {
            Bot::No => return,
            Bot::Claimed => self.crawlers.last(),
            Bot::Verified(name) => {
                let index = self
                    .challenges
                    .crawlers
                    .names()
                    .position(|known| known == name);
                index.and_then(|index| self.crawlers.get(index))
            }
        };
        if let Some(counter) = crawler {
            add(counter, 1);
        }
    }

    pub(super) fn note_answer(&self, answer: &Answer) {
        let facts = answer.facts();
        let Some(realm) = self.realms.get(facts.realm) else {
            return;
        };
        if let Some(outcome) = facts.outcome {
            add(&realm.submitted[outcome as usize], 1);
        }
        if let Some(level) = level(realm, facts.issued.map(|(level, _)| level)) {
            if let Some((_, via)) = facts.issued {
                add(&level.issued[via as usize], 1);
            }
            if facts.no_js_wait_s.is_some() {
                add(&level.issued[Via::NoJs as usize], 1);
            }
            add(&realm.rebound, u64::from(facts.is_rebind));
        }
        if let Some(level) = level(realm, facts.level) {
            if let Some(provider) = facts.provider {
                add(&level.provider[provider as usize], 1);
            }
            if let Some(solved_in_s) = facts.solved_in_s {
                let bucket = SOLVE_BOUNDS_S
                    .iter()
                    .position(|&bound| solved_in_s <= bound);
                add(&level.solved[bucket.unwrap_or(SOLVE_BOUNDS_S.len())], 1);
                add(&level.solved_s, solved_in_s);
            }
        }
    }

    /// How hard a level is pressed.
    pub(super) fn note_pressure(&self, realm: usize, number: u8, pressure: Pressure) {
        let realm = self.realms.get(realm);
        if let Some(found) = realm.and_then(|realm| level(realm, Some(number))) {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 1,000"
            )]
            let thousandths = (pressure.height.clamp(0.0, 1.0) * 1_000.0) as u32;
            found.pressure.store(thousandths, Ordering::Relaxed);
            let at_ms = pressure.at_ms;
            found.pressure_at_ms.store(at_ms, Ordering::Relaxed);
        }
    }

    /// The same for whoever reads it: by realm and level.
    pub(super) fn pressures(&self) -> impl Iterator<Item = (usize, usize, Pressure)> {
        let realms = self.realms.iter().enumerate();
        realms.flat_map(|(realm, counts)| {
            let levels = counts.levels.iter().enumerate();
            levels.map(move |(level, counts)| (realm, level, counts.pressure()))
        })
    }

    /// Adds all that was counted.
    pub(super) fn add_to(&self, sum: &mut ChallengeCounts) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (realm, counts) in self.challenges.realms().iter().zip(&self.realms) {
            let name = realm.name();
            let reasons = std::iter::once(None).chain(Reason::ALL.map(Some));
            for (reason, counter) in reasons.zip(&counts.validated) {
                let labels = ValidatedLabels {
                    realm: name.to_owned(),
                    reason: reason.map(Reason::as_str),
                };
                *sum.validated.entry(labels).or_default() += get(counter);
            }
            for (outcome, counter) in Outcome::ALL.iter().zip(&counts.submitted) {
                let labels = SubmittedLabels {
                    realm: name.to_owned(),
                    result: outcome.as_str(),
                };
                *sum.submitted.entry(labels).or_default() += get(counter);
            }
            *sum.rebound.entry(name.to_owned()).or_default() += get(&counts.rebound);
            for ((number, level), counts) in (1..).zip(realm.levels()).zip(&counts.levels) {
                let labels = LevelLabels {
                    realm: name.to_owned(),
                    level: number,
                };
                for (via, counter) in Via::ALL.iter().zip(&counts.issued) {
                    let labels = IssuedLabels {
                        realm: name.to_owned(),
                        level: number,
                        algorithm: level.algorithm().to_owned(),
                        via: via.as_str(),
                    };
                    *sum.issued.entry(labels).or_default() += get(counter);
                }
                if level.captcha.is_some() {
                    for (outcome, counter) in ProviderOutcome::ALL.iter().zip(&counts.provider) {
                        let labels = ProviderLabels {
                            provider: level.algorithm().to_owned(),
                            outcome: outcome.as_str(),
                        };
                        *sum.provider.entry(labels).or_default() += get(counter);
                    }
                }
                let times = sum.solved.entry(labels).or_default();
                for (bucket, counter) in times.buckets.iter_mut().zip(&counts.solved) {
                    *bucket += get(counter);
                }
                times.sum_s += get(&counts.solved_s);
            }
        }
        let names = self.challenges.crawlers.names().map(Some);
        for (name, counter) in names.chain([None]).zip(&self.crawlers) {
            let labels = CrawlerLabels {
                name: name.map(str::to_owned),
            };
            *sum.crawlers.entry(labels).or_default() += get(counter);
        }
    }

    /// The work of each level now, where it is more than on the other cores.
    pub(super) fn add_work(&self, sum: &mut ChallengeCounts, now_ms: u64) {
        for (realm, counts) in self.challenges.realms().iter().zip(&self.realms) {
            for ((number, level), counts) in (1..).zip(realm.levels()).zip(&counts.levels) {
                let floor = level.terms(number, 0).work;
                let pressure = counts.pressure().at(now_ms);
                let cap = level
                    .adaptive
                    .as_ref()
                    .map_or(floor, |adaptive| adaptive.cap);
                let labels = LevelLabels {
                    realm: realm.name().to_owned(),
                    level: number,
                };
                let work = sum.work.entry(labels).or_default();
                *work = (*work).max(work_at(floor, cap, pressure));
            }
        }
    }

    pub(super) fn is_of(&self, challenges: &Arc<Challenges>) -> bool {
        Arc::ptr_eq(&self.challenges, challenges)
    }
}

fn level(realm: &RealmCounts, number: Option<u8>) -> Option<&LevelCounts> {
    realm.levels.get(usize::from(number?).checked_sub(1)?)
}

/// What a [`ChallengeAgent`](super::ChallengeAgent) has counted on all cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChallengeCounts {
    /// Challenges that were made.
    pub issued: BTreeMap<IssuedLabels, u64>,
    /// Solutions that came.
    pub submitted: BTreeMap<SubmittedLabels, u64>,
    /// Requests that were asked about.
    pub validated: BTreeMap<ValidatedLabels, u64>,
    /// How long visitors took from challenge to token.
    pub solved: BTreeMap<LevelLabels, SolveTimes>,
    /// What is asked for now, on the core that asks for most; 0 of what is no puzzle.
    pub work: BTreeMap<LevelLabels, u32>,
    /// What providers of captchas said.
    pub provider: BTreeMap<ProviderLabels, u64>,
    /// Challenges with less work for who had a token at another address, by realm.
    pub rebound: BTreeMap<String, u64>,
    /// Requests of crawlers, and of who said to be one.
    pub crawlers: BTreeMap<CrawlerLabels, u64>,
}

/// What challenges are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IssuedLabels {
    /// The realm.
    pub realm: String,
    /// The level, from 1.
    pub level: u8,
    /// How the level's challenges are solved.
    pub algorithm: String,
    /// Where it went: see [`Via`].
    pub via: &'static str,
}

/// What solutions are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubmittedLabels {
    /// The realm.
    pub realm: String,
    /// What became of it: see [`Outcome`].
    pub result: &'static str,
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValidatedLabels {
    /// The realm.
    pub realm: String,
    /// Why the visitor is not cleared, see [`Reason`]; `None` if cleared.
    pub reason: Option<&'static str>,
}

/// A level of a realm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LevelLabels {
    /// The realm.
    pub realm: String,
    /// The level, from 1.
    pub level: u8,
}

/// What answers of providers are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderLabels {
    /// The provider.
    pub provider: String,
    /// What it said: see [`ProviderOutcome`].
    pub outcome: &'static str,
}

/// Whose requests they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrawlerLabels {
    /// The crawler; `None` of who said to be one and was not.
    pub name: Option<String>,
}

/// Times from challenge to token, to the second: both are measured here, and nothing a visitor says counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SolveTimes {
    /// How many took up to each of [`SOLVE_BOUNDS_S`] and more than the one before; the last, longer.
    pub buckets: [u64; SOLVE_BUCKETS],
    /// All of them together.
    pub sum_s: u64,
}

impl SolveTimes {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_counters_are_places_in_lists() {
        assert!(
            Reason::ALL
                .iter()
                .enumerate()
                .all(|(place, &reason)| reason as usize == place)
        );
    }
}

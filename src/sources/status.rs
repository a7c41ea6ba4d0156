//! How the sources fare, for people and for metrics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::agents::remediation::{Changes, Snapshot, SourceId};

use super::bell::after;

/// The seconds since 1970, of a clock that may be set.
pub(super) fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Whether a source has said what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// Not yet.
    #[default]
    Waiting,
    /// What it said before the last stop is in force.
    Warm,
    /// It has.
    Ready,
}

/// That something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What and why.
    pub text: String,
    /// When, in seconds since 1970.
    pub unix_s: u64,
}

/// A file of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Its path.
    pub path: PathBuf,
    /// Decisions of it that are in force, those that have ended included.
    pub decision_count: usize,
    /// Why it could not be read as it is now; what could be read before is in force.
    pub error: Option<String>,
}

/// How a source fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// Whether it is a LAPI, or else files.
    pub is_lapi: bool,
    /// Whether it has said what there is.
    pub readiness: Readiness,
    /// When it last did, in seconds since 1970: a good answer of a LAPI, or a look at all files that
    /// found each of them good. For one that is warm, when that was written.
    pub last_success_unix_s: Option<u64>,
    /// How long that is ago; while there was none, how long it has been tried.
    pub staleness: Duration,
    /// Whether it fails now.
    pub is_failing: bool,
    /// What failed last, perhaps long ago.
    pub last_failure: Option<Failure>,
    /// Whether its decisions were dropped because it does not answer.
    pub is_dropped: bool,
    /// How often they were.
    pub drop_count: u64,
    /// Questions sent to the LAPI, or readings of files.
    pub request_count: u64,
    /// Those of them that failed.
    pub failure_count: u64,
    /// Good answers with all decisions.
    pub full_count: u64,
    /// Good answers with what changed.
    pub delta_count: u64,
    /// Decisions that came.
    pub added_count: u64,
    /// Decisions that came again with another end.
    pub renewed_count: u64,
    /// Decisions that were taken back.
    pub removed_count: u64,
    /// Records that could not be read, of answers and files that were taken all the same.
    pub bad_count: u64,
    /// Records of scopes that are not looked up.
    pub ignored_count: u64,
    /// Reports of usage that the LAPI took.
    pub usage_count: u64,
    /// Reports of usage that it did not.
    pub usage_failure_count: u64,
    /// Its files, by their path.
    pub files: Vec<FileStatus>,
}

/// How many decisions of a sort are in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActiveDecisions {
    /// The name of their source.
    pub source: String,
    /// Who decided.
    pub origin: String,
    /// `ip`, `range`, `country` or `as`.
    pub scope: &'static str,
    /// `ipv4` or `ipv6`; empty for countries and autonomous systems.
    pub ip_type: &'static str,
    /// How many.
    pub count: usize,
}

/// How everything fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourcesStatus {
    /// The sources, in the order they were configured.
    pub sources: Vec<SourceStatus>,
    /// Decisions in force by source, origin, scope and type of address.
    pub active: Vec<ActiveDecisions>,
    /// How often a snapshot was published.
    pub generation: u64,
    /// What the snapshot takes in memory, in bytes.
    pub snapshot_len: usize,
    /// Decisions that ended in their time.
    pub expired_count: u64,
    /// How long it took to make the last snapshot.
    pub last_apply: Duration,
    /// How often the state on disk was written.
    pub warm_write_count: u64,
    /// Why it could last not be written or read.
    pub warm_failure: Option<Failure>,
}

/// What the threads of a source and those who ask have in common.
#[derive(Debug)]
pub(super) struct SourceState {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    status: SourceStatus,
    files: BTreeMap<PathBuf, FileStatus>,
    /// How many decisions of it were kept from before the last stop.
    warm_count: usize,
    /// Since when it is stale.
    fresh_at: Instant,
    /// What was logged last, and when.
    logged: Option<(String, Instant)>,
    /// When bad records were.
    logged_bad: Option<Instant>,
}

/// A failure that goes on is logged again after this long.
const LOG_AGAIN: Duration = Duration::from_secs(600);

impl SourceState {
    pub(super) fn new(name: &str, is_lapi: bool) -> Self {
        Self {
            inner: Mutex::new(Inner {
                status: SourceStatus {
                    name: name.to_owned(),
                    is_lapi,
                    ..SourceStatus::default()
                },
                files: BTreeMap::new(),
                warm_count: 0,
                fresh_at: Instant::now(),
                logged: None,
                logged_bad: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Counters and texts are whole at any time.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> String {
        self.lock().status.name.clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut SourceStatus)) {
        change(&mut self.lock().status);
    }

    /// It said what there is.
    pub(super) fn succeeded(&self) {
        let mut inner = self.lock();
        let since = inner.fresh_at.elapsed();
        inner.fresh_at = Instant::now();
        let status = &mut inner.status;
        status.last_success_unix_s = Some(now_unix_s());
        status.readiness = Readiness::Ready;
        status.is_dropped = false;
        if std::mem::take(&mut status.is_failing) {
            tracing::info!(
                "decisions of {}: works again, after {} s",
                status.name,
                since.as_secs()
            );
        }
        inner.logged = None;
    }

    /// Its decisions, so many, are those of this second, as it was before the last stop.
    pub(super) fn is_warm(&self, unix_s: u64, count: usize) {
        let mut inner = self.lock();
        inner.warm_count = count;
        let age = Duration::from_secs(now_unix_s().saturating_sub(unix_s));
        inner.fresh_at = Instant::now().checked_sub(age).unwrap_or(inner.fresh_at);
        inner.status.readiness = Readiness::Warm;
        inner.status.last_success_unix_s = Some(unix_s);
    }

    /// It failed. Says so in the log, unless it said the same a while ago.
    pub(super) fn failed(&self, text: String) {
        let mut inner = self.lock();
        let is_news = inner
            .logged
            .as_ref()
            .is_none_or(|(last, at)| *last != text || at.elapsed() > LOG_AGAIN);
        if is_news {
            tracing::warn!("decisions of {}: {text}", inner.status.name);
            inner.logged = Some((text.clone(), Instant::now()));
        }
        inner.status.is_failing = true;
        inner.status.last_failure = Some(Failure {
            text,
            unix_s: now_unix_s(),
        });
    }

    /// Records of it were passed over. Says so in the log, unless it did a while ago.
    pub(super) fn passed_over(&self, of: &str, count: usize, first: &str) {
        let mut inner = self.lock();
        if inner.logged_bad.is_none_or(|at| at.elapsed() > LOG_AGAIN) {
            let name = &inner.status.name;
            tracing::warn!("decisions of {name}: {of} has {count} bad ones, the first: {first}");
            inner.logged_bad = Some(Instant::now());
        }
    }

    pub(super) fn file(&self, path: &Path, change: impl FnOnce(&mut FileStatus)) {
        let mut inner = self.lock();
        let file = inner.files.entry(path.to_owned()).or_default();
        file.path = path.to_owned();
        change(file);
    }

    pub(super) fn file_is_gone(&self, path: &Path) {
        self.lock().files.remove(path);
    }

    pub(super) fn readiness(&self) -> Readiness {
        self.lock().status.readiness
    }

    pub(super) fn warm_count(&self) -> usize {
        self.lock().warm_count
    }

    /// How long it has said nothing.
    pub(super) fn staleness(&self) -> Duration {
        self.lock().fresh_at.elapsed()
    }

    pub(super) fn status(&self) -> SourceStatus {
        let inner = self.lock();
        SourceStatus {
            staleness: inner.fresh_at.elapsed(),
            files: inner.files.values().cloned().collect(),
            ..inner.status.clone()
        }
    }
}

impl SourceStatus {
    pub(super) fn count(&mut self, changes: Changes) {
        self.added_count += changes.added as u64;
        self.renewed_count += changes.renewed as u64;
        self.removed_count += changes.removed as u64;
    }
}

/// What is known of all sources together.
#[derive(Debug, Default)]
pub(super) struct Board {
    general: Mutex<General>,
    changes: Condvar,
}

/// What is of no one source.
#[derive(Debug, Default)]
pub(super) struct General {
    pub(super) expired_count: u64,
    pub(super) last_apply: Duration,
    pub(super) warm_write_count: u64,
    pub(super) warm_failure: Option<Failure>,
    /// The source of each number the store gave out, and its file.
    pub(super) slots: Vec<(usize, Option<PathBuf>)>,
    /// What was counted last, and of which snapshot.
    counted: Option<(u64, Vec<ActiveDecisions>)>,
}

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, General> {
        self.general.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a source may have become ready.
    pub(super) fn announce(&self) {
        // Whoever looks at sources and then waits has the lock meanwhile.
        drop(self.lock());
        self.changes.notify_all();
    }

    /// Waits for `is_so`, which is asked again with each announcement.
    pub(super) fn wait(&self, bound: Duration, is_so: impl Fn() -> bool) -> bool {
        let until = after(bound);
        let mut general = self.lock();
        loop {
            if is_so() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (general, _) = self
                .changes
                .wait_timeout(general, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What is in force, counted once for each snapshot: it takes some milliseconds for a million.
    pub(super) fn active(
        &self,
        snapshot: &Snapshot,
        generation: u64,
        names: &[String],
    ) -> Vec<ActiveDecisions> {
        let slots = {
            let general = self.lock();
            if let Some((of, active)) = &general.counted
                && *of == generation
            {
                return active.clone();
            }
            general.slots.clone()
        };
        let source_of = |id: SourceId| {
            let (index, _) = slots.get(id.index())?;
            names.get(*index)
        };
        let active = count(snapshot, |id| {
            source_of(id).map_or_else(String::new, Clone::clone)
        });
        self.lock().counted = Some((generation, active.clone()));
        active
    }
}

fn count(snapshot: &Snapshot, name: impl Fn(SourceId) -> String) -> Vec<ActiveDecisions> {
    let kinds: Vec<_> = snapshot.kinds().collect();
    let mut sums: BTreeMap<(String, &str, &'static str, &'static str), usize> = BTreeMap::new();
    for counted in snapshot.counts() {
        let kind = &kinds[counted.kind.index()];
        // As labels of metrics have them.
        let scope = match counted.scope {
            "Ip" => "ip",
            "Range" => "range",
            "Country" => "country",
            _ => "as",
        };
        let ip_type = match counted.is_ipv6 {
            Some(false) => "ipv4",
            Some(true) => "ipv6",
            None => "",
        };
        let key = (name(kind.source), kind.origin, scope, ip_type);
        *sums.entry(key).or_default() += counted.count;
    }
    let sums = sums.into_iter();
    sums.map(|((source, origin, scope, ip_type), count)| {
        let origin = origin.to_owned();
        ActiveDecisions {
            source,
            origin,
            scope,
            ip_type,
            count,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use crate::agents::remediation::{Decision, DecisionStore, Source, Subject};

    use super::*;

    #[test]
    fn decisions_are_counted_by_source_origin_and_sort() {
        let mut store = DecisionStore::with_seed([1, 2]);
        let sources = [0, 1].map(|_| store.add_source(Source::default()).unwrap());
        for (source, value, word, origin) in [
            (0, "192.0.2.1", "ban", "cscli"),
            (0, "192.0.2.1", "captcha", "cscli"),
            (0, "192.0.2.0/24", "ban", "cscli"),
            (0, "2001:db8::1", "ban", "CAPI"),
            (1, "2001:db8::/32", "ban", "CAPI"),
            (1, "AS7", "ban", "CAPI"),
        ] {
            let subject: Subject = value.parse().unwrap();
            let decision = Decision::new(subject, word, origin);
            store.insert(sources[source], &decision).unwrap();
        }
        store.apply(0);
        let board = Board::default();
        board.lock().slots = vec![(0, None), (1, None)];
        let names = ["a".to_owned(), "b".to_owned()];
        let active = board.active(store.snapshot(), 1, &names);
        let shown: Vec<String> = active
            .iter()
            .map(|active| {
                let ActiveDecisions {
                    source,
                    origin,
                    scope,
                    ip_type,
                    count,
                } = active;
                format!("{source} {origin} {scope} {ip_type} {count}")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a CAPI ip ipv6 1",
                "a cscli ip ipv4 2",
                "a cscli range ipv4 1",
                "b CAPI as  1",
                "b CAPI range ipv6 1",
            ]
        );
        // Once for each generation.
        store.clear(sources[0]);
        store.apply(0);
        assert_eq!(board.active(store.snapshot(), 1, &names), active);
        assert_eq!(board.active(store.snapshot(), 2, &names).len(), 2);
    }

    #[test]
    fn who_waits_hears_of_a_change() {
        let board = Board::default();
        assert!(!board.wait(Duration::from_millis(1), || false));
        assert!(board.wait(Duration::ZERO, || true));
        let state = SourceState::new("x", true);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                board.wait(Duration::from_secs(60), || {
                    state.readiness() == Readiness::Ready
                })
            });
            state.succeeded();
            board.announce();
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn a_source_that_works_again_keeps_what_failed_last() {
        let state = SourceState::new("x", true);
        state.failed("refused".to_owned());
        assert!(state.status().is_failing);
        state.succeeded();
        let status = state.status();
        assert!(!status.is_failing && status.last_success_unix_s.is_some());
        assert_eq!(status.last_failure.unwrap().text, "refused");
    }
}

//! The one thread that keeps the decisions: it takes what sources bring, lets what has ended end, and
//! puts snapshots in force.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::agents::remediation::{
    Changes, DecisionStore, SnapshotCell, Source, SourceId, StoreError,
};
use crate::background::{Urgency, run, step_back};

use super::batch::Batch;
use super::bell::Bell;
use super::config::{StalePolicy, WarmConfig};
use super::lapi::{Answer, Pull};
use super::status::{Board, Failure, Readiness, SourceState, now_unix_s};
use super::warm;

/// What the owner is told.
pub(super) enum Event {
    /// A LAPI answered.
    Answer {
        source: usize,
        answer: Box<Answer>,
        reply: SyncSender<Result<(), Refusal>>,
    },
    /// A file was read.
    File {
        source: usize,
        path: PathBuf,
        batch: Batch,
        reply: SyncSender<Result<(), Refusal>>,
    },
    /// A file is not there any more.
    FileIsGone { source: usize, path: PathBuf },
    /// To write the state, and then no more: another process does. The reply comes when it is written.
    Pause { reply: SyncSender<()> },
    /// To go on as before.
    Resume,
    /// To write the state and to end.
    Stop,
}

/// Why the owner did not take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Store(StoreError),
    /// What changed is of no use: the decisions it is about were dropped.
    NeedsAll,
}

/// What the owner has to know of a source.
pub(super) struct Owned {
    pub(super) source: Source,
    pub(super) state: Arc<SourceState>,
    pub(super) bell: Arc<Bell>,
    /// Of a LAPI, what is done when it does not answer.
    pub(super) stale_policy: Option<StalePolicy>,
}

pub(super) struct Owner {
    store: DecisionStore,
    cell: Arc<SnapshotCell>,
    board: Arc<Board>,
    sources: Vec<Owned>,
    /// The numbers the store gave out: of a LAPI one, of files one each.
    slots: HashMap<(usize, Option<PathBuf>), SourceId>,
    /// Numbers of files that are gone, by their source.
    free: Vec<(usize, SourceId)>,
    warm: Option<Warm>,
    /// Whether another process asks and writes now.
    is_paused: bool,
    published_at: Instant,
    collected_at: Instant,
    clock: Clock,
}

struct Warm {
    config: WarmConfig,
    written_at: Instant,
    /// What was written.
    written: Option<Mark>,
    /// Since when there is something that was not written.
    changed_at: Option<Instant>,
    /// How long after one writing the next may begin.
    pause: Duration,
    writing: Option<Writing>,
}

/// By what it is told whether there is anything to write.
#[derive(PartialEq, Eq)]
struct Mark {
    generation: u64,
    /// When each LAPI last answered, in seconds since 1970.
    answered: Vec<u64>,
}

/// A writing under way, on a thread of its own: a disk may take its time, and decisions are taken meanwhile.
struct Writing {
    thread: JoinHandle<(Duration, Result<u64, String>)>,
    mark: Mark,
}

/// How often it is looked whether a writing is over.
const LOOK_FOR_WRITTEN: Duration = Duration::from_millis(50);

impl Warm {
    /// How long until it is to be written.
    fn due_in(&self) -> Duration {
        let since = self.written_at.elapsed();
        let at_most = self.config.write_every.saturating_sub(since);
        let Some(changed_at) = self.changed_at else {
            return at_most;
        };
        let settled = self.config.write_after.saturating_sub(changed_at.elapsed());
        settled.max(self.pause.saturating_sub(since)).min(at_most)
    }

    /// The pause after this many bytes took so long: a large table that changes all the time neither wears
    /// the disk out nor keeps a CPU busy.
    fn pause_after(&self, len: u64, took: Duration) -> Duration {
        let by_len = Duration::from_millis(len / 1_000);
        let pause = self.config.write_after.max(by_len).max(20 * took);
        pause.min(self.config.write_every)
    }
}

/// Readers put snapshots aside some time after they were replaced: for this long it is looked for them
/// every second, and then rarely.
const COLLECT_FOR: Duration = Duration::from_secs(10);
const RARELY: Duration = Duration::from_secs(30);

/// Nothing is waited for longer, so that a clock that is set is noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Owner {
    pub(super) fn new(
        store: DecisionStore,
        cell: Arc<SnapshotCell>,
        board: Arc<Board>,
        sources: Vec<Owned>,
        warm: Option<WarmConfig>,
    ) -> Self {
        let now = Instant::now();
        Self {
            store,
            cell,
            board,
            sources,
            slots: HashMap::new(),
            free: Vec::new(),
            warm: warm.map(|config| Warm {
                config,
                written_at: now,
                written: None,
                changed_at: None,
                pause: Duration::ZERO,
                writing: None,
            }),
            is_paused: false,
            published_at: now,
            collected_at: now,
            clock: Clock::new(),
        }
    }

    /// The number of a source, or of a file of it.
    pub(super) fn slot(
        &mut self,
        source: usize,
        path: Option<&Path>,
    ) -> Result<SourceId, StoreError> {
        let key = (source, path.map(Path::to_owned));
        if let Some(id) = self.slots.get(&key) {
            return Ok(*id);
        }
        let free = self.free.iter().position(|(of, _)| *of == source);
        let id = match free {
            Some(index) => self.free.swap_remove(index).1,
            None => self.store.add_source(self.sources[source].source)?,
        };
        let slots = &mut self.board.lock().slots;
        if slots.len() <= id.index() {
            slots.resize(id.index() + 1, (source, None));
        }
        slots[id.index()] = key.clone();
        self.slots.insert(key, id);
        Ok(id)
    }

    /// Takes what a file has, in place of what it had.
    pub(super) fn take_file(
        &mut self,
        source: usize,
        path: &Path,
        batch: &Batch,
    ) -> Result<(), Refusal> {
        let id = self.slot(source, Some(path)).map_err(Refusal::Store)?;
        self.store.clear(id);
        let noted = batch.insert_into(&mut self.store, id);
        self.finish(source, noted).map(drop)
    }

    /// Takes the state of a LAPI as it was before the last stop.
    pub(super) fn warm_up(&mut self, loaded: &warm::Loaded) {
        for (index, source) in self.sources.iter().enumerate() {
            let name = source.state.name();
            let (Some(kept), Some(id)) = (loaded.get(&name), self.slots.get(&(index, None))) else {
                continue;
            };
            if let Err(error) = kept.batch.insert_into(&mut self.store, *id) {
                tracing::warn!("decisions of {name}, as they were before: {error}");
                self.store.discard();
                continue;
            }
            let changes = self.store.apply(now_unix_s());
            source.state.is_warm(kept.unix_s, changes.added);
            tracing::info!(
                "decisions of {name}: {} as they were {} s ago",
                kept.batch.count(),
                now_unix_s().saturating_sub(kept.unix_s)
            );
        }
        self.publish();
    }

    pub(super) fn warm_failed(&self, text: String) {
        tracing::warn!("{text}");
        self.board.lock().warm_failure = Some(Failure {
            text,
            unix_s: now_unix_s(),
        });
    }

    /// How urgent it is to take what came of a source: what there is none of is waited for.
    fn urgency(&self, source: usize, pull: Pull) -> Option<Urgency> {
        match pull {
            Pull::Delta => Some(Urgency::WhenIdle),
            Pull::Full => {
                let status = self.sources[source].state.status();
                let has_some = status.last_success_unix_s.is_some() && !status.is_dropped;
                has_some.then_some(Urgency::Low)
            }
        }
    }

    fn take_answer(&mut self, source: usize, answer: &Answer) -> Result<(), Refusal> {
        let id = self.slot(source, None).map_err(Refusal::Store)?;
        let is_full = answer.pull() == Pull::Full;
        let state = Arc::clone(&self.sources[source].state);
        if !is_full && state.status().is_dropped {
            return Err(Refusal::NeedsAll);
        }
        let noted = answer.apply(&mut self.store, id);
        let changes = self.finish(source, noted)?;
        let is_first = state.readiness() != Readiness::Ready;
        if is_first || changes.added + changes.renewed + changes.removed > 0 {
            self.note_change();
        }
        let name = state.name();
        if is_first {
            tracing::info!(
                "decisions of {name}: the LAPI has answered, with {}",
                answer.new_count()
            );
        } else {
            tracing::debug!(
                "decisions of {name}: {} added, {} renewed, {} deleted",
                changes.added,
                changes.renewed,
                changes.removed
            );
        }
        state.update(|status| {
            *match is_full {
                true => &mut status.full_count,
                false => &mut status.delta_count,
            } += 1;
            status.bad_count += answer.bad_count() as u64;
            status.ignored_count += answer.ignored_count() as u64;
        });
        state.succeeded();
        self.board.announce();
        Ok(())
    }

    /// What is kept on disk is not what is in force any more. That a decision ended need not be written:
    /// whoever reads it knows by the time.
    fn note_change(&mut self) {
        if let Some(warm) = &mut self.warm {
            warm.changed_at.get_or_insert_with(Instant::now);
        }
    }

    fn finish(&mut self, source: usize, noted: Result<(), StoreError>) -> Result<Changes, Refusal> {
        if let Err(error) = noted {
            self.store.discard();
            return Err(Refusal::Store(error));
        }
        let changes = self.apply();
        self.sources[source]
            .state
            .update(|status| status.count(changes));
        Ok(changes)
    }

    /// Does what was noted, and puts the outcome in force.
    fn apply(&mut self) -> Changes {
        let began = Instant::now();
        let changes = self.store.apply(now_unix_s());
        let took = began.elapsed();
        if !changes.is_empty() {
            let mut general = self.board.lock();
            general.expired_count += changes.expired as u64;
            general.last_apply = took;
            drop(general);
            self.publish();
        }
        changes
    }

    pub(super) fn publish(&mut self) {
        self.cell.publish(Arc::clone(self.store.snapshot()));
        self.published_at = Instant::now();
        self.collected_at = self.published_at;
    }

    /// Takes what comes until it is stopped.
    pub(super) fn run(mut self, events: &Receiver<Event>) {
        loop {
            match events.recv_timeout(self.next_turn()) {
                Ok(Event::Answer {
                    source,
                    answer,
                    reply,
                }) => {
                    let urgency = self.urgency(source, answer.pull());
                    let taken = run(urgency, || {
                        let taken = self.take_answer(source, &answer);
                        // Before the reply, on which the next answer may be read, and as urgent as taking
                        // it: that is milliseconds.
                        drop(answer);
                        taken
                    });
                    // If the thread has gone, it wants none.
                    let _ = reply.send(taken);
                }
                Ok(Event::File {
                    source,
                    path,
                    batch,
                    reply,
                }) => {
                    let urgency = self.urgency(source, Pull::Full);
                    let taken = run(urgency, || {
                        let taken = self.take_file(source, &path, &batch);
                        drop(batch);
                        taken
                    });
                    let _ = reply.send(taken);
                }
                Ok(Event::FileIsGone { source, path }) => self.drop_file(source, path),
                Ok(Event::Pause { reply }) => {
                    self.write_warm();
                    self.is_paused = true;
                    let _ = reply.send(());
                }
                Ok(Event::Resume) => {
                    self.is_paused = false;
                    // The file may be the other process's.
                    if let Some(warm) = &mut self.warm {
                        warm.written = None;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tick();
        }
        self.write_warm();
    }

    fn drop_file(&mut self, source: usize, path: PathBuf) {
        if let Some(id) = self.slots.remove(&(source, Some(path))) {
            self.store.clear(id);
            self.free.push((source, id));
            // Clearing cannot fail.
            let _ = self.finish(source, Ok(()));
        }
    }

    /// How long it may wait for an event.
    fn next_turn(&self) -> Duration {
        let mut wait = LONGEST_WAIT;
        if self.published_at.elapsed() < COLLECT_FOR {
            wait = Duration::from_secs(1);
        }
        if let Some(second) = self.store.next_expiry().unix_s() {
            // A decision ends in the second it says, not in the one before or after that.
            let left = second.saturating_sub(now_unix_s());
            wait = wait.min(Duration::from_secs(left).max(Duration::from_millis(100)));
        }
        for owned in &self.sources {
            if let Some(left) = owned.drops_in().filter(|_| !self.is_paused) {
                wait = wait.min(left);
            }
        }
        if let Some(warm) = self.warm.as_ref().filter(|_| !self.is_paused) {
            wait = wait.min(match warm.writing {
                Some(_) => LOOK_FOR_WRITTEN,
                None => warm.due_in(),
            });
        }
        wait.max(Duration::from_millis(1))
    }

    fn tick(&mut self) {
        if self.store.next_expiry().is_past(now_unix_s()) {
            run(Some(Urgency::WhenIdle), || self.apply());
        }
        self.drop_stale();
        let pause = match self.published_at.elapsed() < COLLECT_FOR {
            true => Duration::from_secs(1),
            false => RARELY,
        };
        if self.collected_at.elapsed() >= pause {
            // Giving some ten megabytes back takes milliseconds.
            run(Some(Urgency::WhenIdle), || self.cell.collect());
            self.collected_at = Instant::now();
        }
        if let Some(leap) = self.clock.leap() {
            // What ended by the wrong clock is gone, and the rest ends at the wrong time.
            tracing::warn!("the clock was set, by {leap} s: all decisions are asked for again");
            for owned in &self.sources {
                owned.bell.ask();
            }
        }
        self.end_writing(false);
        let is_due = |warm: &Warm| warm.writing.is_none() && warm.due_in().is_zero();
        if !self.is_paused && self.warm.as_ref().is_some_and(is_due) {
            self.begin_writing(Some(Urgency::Low));
        }
    }

    fn drop_stale(&mut self) {
        if self.is_paused {
            // It is not asked.
            return;
        }
        for index in 0..self.sources.len() {
            let owned = &self.sources[index];
            if owned.drops_in() != Some(Duration::ZERO) {
                continue;
            }
            let Some(id) = self.slots.get(&(index, None)) else {
                continue;
            };
            owned.state.update(|status| {
                status.is_dropped = true;
                status.drop_count += 1;
                tracing::warn!(
                    "decisions of {} are dropped: it has not answered for too long",
                    status.name
                );
            });
            self.store.clear(*id);
            let _ = self.finish(index, Ok(()));
            self.note_change();
        }
    }

    /// Writes what is known of LAPIs, and waits for that.
    fn write_warm(&mut self) {
        self.end_writing(true);
        if !self.is_paused {
            self.begin_writing(None);
            self.end_writing(true);
        }
    }

    /// Begins to write it, unless it is what was written last.
    fn begin_writing(&mut self, urgency: Option<Urgency>) {
        let Some(warm) = self.warm.as_mut() else {
            return;
        };
        warm.written_at = Instant::now();
        warm.changed_at = None;
        let kept: Vec<warm::Kept> = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, owned)| owned.stale_policy.is_some())
            .filter_map(|(index, owned)| {
                let status = owned.state.status();
                Some(warm::Kept {
                    id: *self.slots.get(&(index, None))?,
                    unix_s: status.last_success_unix_s?,
                    name: status.name,
                })
            })
            .collect();
        // What no LAPI has answered yet would take the place of what one did.
        if kept.is_empty() {
            return;
        }
        let mark = Mark {
            generation: self.cell.generation(),
            answered: kept.iter().map(|kept| kept.unix_s).collect(),
        };
        if warm.written.as_ref() == Some(&mark) {
            return;
        }
        let (config, snapshot) = (warm.config.clone(), Arc::clone(self.store.snapshot()));
        let write = move || {
            if let Some(urgency) = urgency {
                step_back(urgency);
            }
            let began = Instant::now();
            let written = warm::write(&config, &snapshot, &kept);
            (began.elapsed(), written)
        };
        match Builder::new().name("state-file".to_owned()).spawn(write) {
            Ok(thread) => warm.writing = Some(Writing { thread, mark }),
            Err(error) => self.write_failed(format!("decisions cannot be kept: {error}")),
        }
    }

    /// Takes note of how writing went, if it is over or is to be waited for.
    fn end_writing(&mut self, waits: bool) {
        let Some(warm) = &mut self.warm else {
            return;
        };
        let is_over = |writing: &mut Writing| waits || writing.thread.is_finished();
        let Some(Writing { thread, mark }) = warm.writing.take_if(is_over) else {
            return;
        };
        match thread.join() {
            Ok((took, Ok(len))) => {
                warm.pause = warm.pause_after(len, took);
                warm.written = Some(mark);
                self.board.lock().warm_write_count += 1;
            }
            Ok((_, Err(text))) => self.write_failed(text),
            // It has said itself what went wrong.
            Err(_) => {
                self.write_failed("decisions cannot be kept: the thread broke off".to_owned())
            }
        }
    }

    /// Tries again only after a while, so that the log is not filled.
    fn write_failed(&mut self, text: String) {
        if let Some(warm) = &mut self.warm {
            warm.pause = warm.config.write_every;
            warm.written = None;
        }
        self.warm_failed(text);
    }
}

impl Owned {
    /// How long until its decisions are dropped, if they are to be.
    fn drops_in(&self) -> Option<Duration> {
        let Some(StalePolicy::DropAfter(after)) = self.stale_policy else {
            return None;
        };
        // Without a success there is nothing to drop.
        let status = self.state.status();
        let has_some = status.last_success_unix_s.is_some() && !status.is_dropped;
        has_some.then(|| after.saturating_sub(self.state.staleness()))
    }
}

/// Notices when the clock of the system is set.
struct Clock {
    at: Instant,
    unix_s: u64,
}

impl Clock {
    /// What it may differ by without having been set: it is slewed, and a suspended machine's other clock
    /// stands still.
    const TOLERANCE_S: u64 = 60;

    fn new() -> Self {
        Self {
            at: Instant::now(),
            unix_s: now_unix_s(),
        }
    }

    /// By how many seconds it was set since this was asked last.
    fn leap(&mut self) -> Option<i64> {
        self.leap_at(Instant::now(), now_unix_s())
    }

    fn leap_at(&mut self, now: Instant, unix_s: u64) -> Option<i64> {
        let expected = self.unix_s + now.duration_since(self.at).as_secs();
        (self.at, self.unix_s) = (now, unix_s);
        let leap = i64::try_from(unix_s).ok()? - i64::try_from(expected).ok()?;
        (leap.unsigned_abs() > Self::TOLERANCE_S).then_some(leap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tables_are_written_less_often() {
        let now = Instant::now();
        let mut warm = Warm {
            config: WarmConfig::new("decisions"),
            written_at: now,
            written: None,
            changed_at: None,
            pause: Duration::ZERO,
            writing: None,
        };
        let near = |due: Duration, seconds: u64| {
            let seconds = Duration::from_secs(seconds);
            assert!(
                due <= seconds && due + Duration::from_secs(1) > seconds,
                "{due:?}"
            );
        };
        near(warm.due_in(), 300);
        warm.changed_at = Some(now);
        near(warm.due_in(), 2);
        let millisecond = Duration::from_millis(1);
        for (len, took, seconds) in [
            (100, millisecond, 2),
            // A million decisions.
            (22_000_000, 300 * millisecond, 22),
            (100, 3_000 * millisecond, 60),
            (512 << 20, millisecond, 300),
        ] {
            warm.pause = warm.pause_after(len, took);
            near(warm.due_in(), seconds);
        }
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once() {
        let mut clock = Clock::new();
        let (at, unix_s) = (clock.at, clock.unix_s);
        let later = |s| at + Duration::from_secs(s);
        assert_eq!(clock.leap_at(later(10), unix_s + 10), None);
        assert_eq!(clock.leap_at(later(20), unix_s + 80), None);
        assert_eq!(clock.leap_at(later(30), unix_s + 1_090), Some(1_000));
        assert_eq!(clock.leap_at(later(40), unix_s + 1_100), None);
        assert_eq!(clock.leap_at(later(50), unix_s + 50), Some(-1_060));
    }
}

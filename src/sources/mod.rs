//! Where decisions come from: files, which are read again when they change, and LAPIs of CrowdSec, which
//! are asked what changed. One thread keeps all of them and puts snapshots in force, which cores look
//! addresses up in without waiting for any of this.
//!
//! Databases that tell where an address is are looked after here too, by [`GeoFiles`].
//!
//! A source that fails takes nothing away from another, and what it said before holds. It refuses to
//! know agents, and what is done about a decision.
//!
//! ```text
//! a thread each                            owner                              cores
//! files:  look, read     --- Batch --->    DecisionStore::apply
//! LAPI:   ask, read      --- Answer -->    SnapshotCell::publish   ------>    SnapshotReader
//!                        <-- taken ----    end in time, drop, collect, keep on disk
//! ```

#![forbid(unsafe_code)]

mod batch;
mod bell;
mod config;
mod files;
mod geo;
mod lapi;
mod owner;
mod status;
mod usage;
mod warm;

use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::agents::remediation::{DecisionStore, SnapshotCell, Source, SourceId};
use crate::background::run_aside;
use crate::outbound::{Outbound, OutboundConfig};

pub use config::{
    ApiKey, FileFormat, FilesConfig, LapiConfig, LapiTimeouts, SourceConfig, SourceFault,
    SourceKind, SourcesConfig, SourcesError, StalePolicy, WarmConfig,
};
pub use geo::{GeoConfig, GeoFault, GeoFiles, GeoStatus};
pub use lapi::{Answer, AnswerRules, Pull};
pub use status::{ActiveDecisions, Failure, FileStatus, Readiness, SourceStatus, SourcesStatus};
pub use usage::{Dropped, Processed, Traffic, TrafficCounts};

use bell::Bell;
use files::{Files, Watcher, take_note};
use lapi::Puller;
use owner::{Event, Owned, Owner, Refusal};
use status::{Board, SourceState};
use usage::{Reporter, System};

/// How long threads may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The sources of decisions, at work. Dropped, they are [stopped](Self::stop).
///
/// ```no_run
/// # #[cfg(feature = "remediation")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use ringspoa::sources::{FilesConfig, LapiConfig, SourceConfig, Sources, SourcesConfig, WarmConfig};
///
/// let sources = Sources::start(SourcesConfig {
///     sources: vec![
///         SourceConfig::new("lists", FilesConfig::new(["/etc/ringspoa/lists"])),
///         SourceConfig::new("main", LapiConfig::new("http://127.0.0.1:8080/", "key of cscli")),
///     ],
///     warm: Some(WarmConfig::new("/var/lib/ringspoa/decisions")),
///     ..SourcesConfig::default()
/// })?;
/// if !sources.wait_ready(Duration::from_secs(10)) {
///     eprintln!("not all sources have answered yet");
/// }
/// let mut reader = sources.snapshots().reader();
/// let found = reader.snapshot().lookup("192.0.2.1".parse()?);
/// # let _ = found;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "remediation"))]
/// # fn main() {}
/// ```
pub struct Sources {
    cell: Arc<SnapshotCell>,
    board: Arc<Board>,
    states: Vec<Arc<SourceState>>,
    names: Vec<String>,
    watchers: Vec<Arc<Bell>>,
    pullers: Vec<Arc<Bell>>,
    reporters: Vec<Arc<Bell>>,
    events: Sender<Event>,
    outbound: Option<Outbound>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    /// They read files, which may hang.
    watchers: Vec<JoinHandle<()>>,
    pullers: Vec<JoinHandle<()>>,
    reporters: Vec<JoinHandle<()>>,
    owner: Option<JoinHandle<()>>,
}

impl Sources {
    /// Reads the files, takes what was kept of LAPIs, and starts asking these. When it returns, files and
    /// what was kept are in force.
    ///
    /// Its threads take the CPUs of the thread that calls this.
    ///
    /// # Errors
    ///
    /// A setting that cannot be used, or a required file that cannot be read; the error names the source.
    /// That a LAPI does not answer is none.
    pub fn start(config: SourcesConfig) -> Result<Self, SourcesError> {
        Self::start_reporting(config, None)
    }

    /// The same, and tells LAPIs what was done with requests.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with_usage(
        config: SourcesConfig,
        counts: Arc<dyn TrafficCounts>,
    ) -> Result<Self, SourcesError> {
        Self::start_reporting(config, Some(counts))
    }

    /// Whether these settings can be used: reads the files and makes the endpoints, but asks no LAPI.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn check(config: SourcesConfig) -> Result<(), SourcesError> {
        // A server that reloads answers meanwhile.
        run_aside(|| Prepared::new(config).map(drop))
    }

    /// What these settings come to while nothing runs: decisions of files as they are now, and those of
    /// LAPIs as they were [kept](WarmConfig) for the next start. No LAPI is asked and nothing is written, so
    /// that this may be done beside a server, whose questions are for what changed since its last one. For
    /// people who look; what changes later is not seen.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn at_rest(config: SourcesConfig) -> Result<Self, SourcesError> {
        let prepared = Prepared::new(config)?;
        // With nobody who listens, what is asked of it stays undone.
        let (events, _) = channel();
        Ok(Self {
            cell: prepared.cell,
            board: prepared.board,
            states: prepared.states,
            names: prepared.names,
            watchers: Vec::new(),
            pullers: Vec::new(),
            reporters: Vec::new(),
            events,
            outbound: None,
            threads: Mutex::default(),
        })
    }

    fn start_reporting(
        config: SourcesConfig,
        counts: Option<Arc<dyn TrafficCounts>>,
    ) -> Result<Self, SourcesError> {
        let Prepared {
            owner,
            cell,
            board,
            states,
            names,
            outbound,
            works,
        } = Prepared::new(config)?;
        let (events, receiver) = channel();
        let mut sources = Self {
            cell,
            board,
            states,
            names,
            watchers: Vec::new(),
            pullers: Vec::new(),
            reporters: Vec::new(),
            events,
            outbound,
            threads: Mutex::default(),
        };
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name);
            builder.spawn(run).map_err(SourcesError::Start)
        };
        // From here on a failure stops the threads that there are.
        let owner = spawn(
            "decisions".to_owned(),
            Box::new(move || owner.run(&receiver)),
        )?;
        sources.threads().owner = Some(owner);
        let system = System::here();
        for (source, (work, bell)) in works.into_iter().enumerate() {
            let name = sources.names[source].clone();
            let state = Arc::clone(&sources.states[source]);
            match work {
                Work::Files(files) => {
                    let board = Arc::clone(&sources.board);
                    let watcher = Watcher {
                        source,
                        files,
                        state,
                        bell: Arc::clone(&bell),
                        events: sources.events.clone(),
                        announce: Box::new(move || board.announce()),
                    };
                    let thread = spawn(format!("files {name}"), Box::new(|| watcher.run()))?;
                    sources.threads().watchers.push(thread);
                    sources.watchers.push(bell);
                }
                Work::Lapi(config, endpoint) => {
                    if let Some(counts) = counts.as_ref().filter(|_| config.usage) {
                        let bell = Arc::new(Bell::default());
                        let (cell, board) = (Arc::clone(&sources.cell), Arc::clone(&sources.board));
                        let names = sources.names.clone();
                        let reporter = Reporter {
                            config: (*config).clone(),
                            endpoint: endpoint.clone(),
                            state: Arc::clone(&state),
                            bell: Arc::clone(&bell),
                            counts: Arc::clone(counts),
                            active: Box::new(move || {
                                board.active(&cell.current(), cell.generation(), &names)
                            }),
                            system: system.clone(),
                        };
                        let thread = spawn(format!("usage {name}"), Box::new(|| reporter.run()))?;
                        sources.threads().reporters.push(thread);
                        sources.reporters.push(bell);
                    }
                    let puller = Puller {
                        source,
                        config: *config,
                        endpoint,
                        helper: sources.outbound.as_ref().and_then(Outbound::thread_id),
                        state,
                        bell: Arc::clone(&bell),
                        events: sources.events.clone(),
                    };
                    let thread = spawn(format!("lapi {name}"), Box::new(|| puller.run()))?;
                    sources.threads().pullers.push(thread);
                    sources.pullers.push(bell);
                }
            }
        }
        Ok(sources)
    }

    /// The snapshots in force, for the readers of cores.
    #[must_use]
    pub const fn snapshots(&self) -> &Arc<SnapshotCell> {
        &self.cell
    }

    /// Whether every source has said what there is, now or before the last stop.
    #[must_use]
    pub fn ready(&self) -> bool {
        let mut states = self.states.iter();
        states.all(|state| state.readiness() != Readiness::Waiting)
    }

    /// Waits for that, at most this long. Whether it is so.
    #[must_use]
    pub fn wait_ready(&self, bound: Duration) -> bool {
        self.board.wait(bound, || self.ready())
    }

    /// Has files looked at now, and read if they changed, even if they are still being written. Does not
    /// wait for that; what comes of it is in the [`status`](Self::status) and the log.
    pub fn reload(&self) {
        for bell in &self.watchers {
            bell.ask();
        }
    }

    /// Has every LAPI asked now, for all decisions.
    pub fn resync(&self) {
        for bell in &self.pullers {
            bell.ask();
        }
    }

    /// Has LAPIs asked no more, and writes what is known of them, for another process that takes over: a LAPI
    /// says once what changed, to whoever has the key, so that two who ask take it from each other. What is
    /// in force stays, and ends in time. Waits until it is written, for 5 s at most.
    ///
    /// After it, [`stop`](Self::stop) writes nothing: by then that process does.
    pub fn pause(&self) {
        for bell in &self.pullers {
            bell.hold();
        }
        let (reply, written) = sync_channel(1);
        if self.events.send(Event::Pause { reply }).is_ok() {
            let _ = written.recv_timeout(STOP_WITHIN);
        }
    }

    /// Has LAPIs asked again after a [`pause`](Self::pause), for all decisions: the other process did not come
    /// to serve.
    pub fn resume(&self) {
        // If it has ended, nobody asks either.
        let _ = self.events.send(Event::Resume);
        for bell in &self.pullers {
            bell.let_go();
        }
    }

    /// How everything fares. Counts the decisions if a snapshot came since it was asked last, which takes
    /// some milliseconds for a million.
    #[must_use]
    pub fn status(&self) -> SourcesStatus {
        let generation = self.cell.generation();
        let snapshot = self.cell.current();
        let active = self.board.active(&snapshot, generation, &self.names);
        let general = self.board.lock();
        SourcesStatus {
            sources: self.states.iter().map(|state| state.status()).collect(),
            active,
            generation,
            snapshot_len: snapshot.byte_len(),
            expired_count: general.expired_count,
            last_apply: general.last_apply,
            warm_write_count: general.warm_write_count,
            warm_failure: general.warm_failure.clone(),
        }
    }

    /// The name of the source that a decision is from, and its file.
    #[must_use]
    pub fn origin_of(&self, id: SourceId) -> Option<(&str, Option<PathBuf>)> {
        let general = self.board.lock();
        let (source, path) = general.slots.get(id.index())?;
        Some((&self.names[*source], path.clone()))
    }

    /// Ends all of it: tells LAPIs the last of what was done, and keeps their decisions on disk. Takes
    /// 10 s at most; what hangs for longer is left behind. The snapshot in force stays.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads());
        for bell in [&self.reporters, &self.watchers, &self.pullers] {
            bell.iter().for_each(|bell| bell.stop());
        }
        join(threads.reporters);
        // Ends the answers that are being read.
        if let Some(outbound) = &self.outbound {
            outbound.stop();
        }
        join(threads.pullers);
        // If it has ended, there is nobody to tell.
        let _ = self.events.send(Event::Stop);
        join(threads.owner.into_iter().chain(threads.watchers));
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for threads, but not for such as hang.
fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    let until = Instant::now() + STOP_WITHIN;
    for thread in threads {
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.is_finished() {
            // It has said what there was to say about a panic.
            let _ = thread.join();
        } else {
            let name = thread.thread().name().unwrap_or_default();
            tracing::warn!("the thread '{name}' does not end, and is left behind");
        }
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("names", &self.names)
            .field("cell", &self.cell)
            .finish_non_exhaustive()
    }
}

/// What the thread of a source will do.
enum Work {
    Files(Files),
    Lapi(Box<LapiConfig>, crate::outbound::Endpoint),
}

/// All that can fail, before a thread of a source is started.
struct Prepared {
    owner: Owner,
    cell: Arc<SnapshotCell>,
    board: Arc<Board>,
    states: Vec<Arc<SourceState>>,
    names: Vec<String>,
    outbound: Option<Outbound>,
    works: Vec<(Work, Arc<Bell>)>,
}

impl Prepared {
    fn new(config: SourcesConfig) -> Result<Self, SourcesError> {
        let names: Vec<String> = config.sources.iter().map(|one| one.name.clone()).collect();
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() || name.len() > 255 || name.contains(char::is_control) {
                return Err(SourcesError::Name(name.clone()));
            }
            if names[..index].contains(name) {
                return Err(SourcesError::NameTwice(name.clone()));
            }
        }
        let of = |name: &str| {
            let name = name.to_owned();
            move |fault| SourcesError::Source { name, fault }
        };
        let mut outbound = None;
        let mut works = Vec::new();
        let mut owned = Vec::new();
        for source in config.sources {
            source.check().map_err(of(&source.name))?;
            let is_lapi = matches!(source.kind, SourceKind::Lapi(_));
            let bell = Arc::new(Bell::default());
            let mut stale_policy = None;
            let work = match source.kind {
                SourceKind::Files(files) => Work::Files(Files::new(files)),
                SourceKind::Lapi(lapi) => {
                    stale_policy = Some(lapi.stale_policy);
                    // One of our own: stopping ends what is read, and a slow answer is nobody else's.
                    let outbound = match &mut outbound {
                        Some(outbound) => outbound,
                        none => none.insert(
                            Outbound::start(OutboundConfig::default())
                                .map_err(SourcesError::Start)?,
                        ),
                    };
                    let endpoint = lapi::endpoint(outbound, &source.name, &lapi)
                        .map_err(SourceFault::Endpoint)
                        .map_err(of(&source.name))?;
                    Work::Lapi(lapi, endpoint)
                }
            };
            owned.push(Owned {
                source: Source {
                    priority: source.priority,
                    is_allow_list: source.is_allow_list,
                },
                state: Arc::new(SourceState::new(&source.name, is_lapi)),
                bell: Arc::clone(&bell),
                stale_policy,
            });
            works.push((work, bell));
        }
        let mut store = DecisionStore::new();
        for (word, remediation) in &config.words {
            store.set_word(word, *remediation);
        }
        let cell = SnapshotCell::new(Arc::clone(store.snapshot()));
        let board = Arc::new(Board::default());
        let states: Vec<_> = owned.iter().map(|one| Arc::clone(&one.state)).collect();
        let warm = config.warm.clone();
        let mut owner = Owner::new(
            store,
            Arc::clone(&cell),
            Arc::clone(&board),
            owned,
            config.warm,
        );
        for (source, (work, _)) in works.iter_mut().enumerate() {
            let taken = match work {
                Work::Files(files) => first_look(&mut owner, source, files, &states[source]),
                Work::Lapi(..) => owner
                    .slot(source, None)
                    .map(drop)
                    .map_err(SourceFault::Store),
            };
            taken.map_err(of(&names[source]))?;
        }
        match warm.map_or(Ok(None), |warm| warm::load(&warm)) {
            Ok(Some(loaded)) => owner.warm_up(&loaded),
            Ok(None) => {}
            Err(text) => owner.warm_failed(text),
        }
        Ok(Self {
            owner,
            cell,
            board,
            states,
            names,
            outbound,
            works,
        })
    }
}

/// Reads the files of a source for the first time.
fn first_look(
    owner: &mut Owner,
    source: usize,
    files: &mut Files,
    state: &SourceState,
) -> Result<(), SourceFault> {
    let look = files.look(true);
    let is_required = files.is_required();
    let mut faults = look.faults;
    for reading in look.readings {
        state.update(|status| status.request_count += 1);
        let taken = reading.outcome.and_then(|(batch, summary)| {
            match owner.take_file(source, &reading.path, &batch) {
                Ok(()) => Ok(summary),
                Err(Refusal::Store(error)) => Err(SourceFault::Store(error)),
                Err(Refusal::NeedsAll) => Ok(summary),
            }
        });
        match taken {
            Ok(summary) => take_note(state, &reading.path, &summary),
            Err(fault) => {
                state.update(|status| status.failure_count += 1);
                state.file(&reading.path, |file| file.error = Some(fault.to_string()));
                faults.push(fault);
            }
        }
    }
    if faults.is_empty() {
        state.succeeded();
        return Ok(());
    }
    if is_required {
        return Err(faults.swap_remove(0));
    }
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    state.failed(texts.join("; "));
    Ok(())
}

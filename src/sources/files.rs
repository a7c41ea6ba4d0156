//! Files and directories of decisions, and what becomes of them.
//!
//! They are looked at every second rather than watched by inotify: that says nothing of a file on NFS or
//! in a directory of another container, stays with the old file where a bind mount or the links of a
//! ConfigMap get another one below, and loses events where they are too many, so that looking would be
//! needed all the same. A look costs two system calls a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};

use crate::agents::remediation::{
    Decision, Defaults, Expiry, ListError, Summary, parse_csv, parse_json, parse_lines,
};
use crate::background::{Urgency, step_back};

use super::batch::Batch;
use super::bell::Bell;
use super::config::{FileFormat, FilesConfig, SourceFault};
use super::owner::{Event, Refusal};
use super::status::{SourceState, now_unix_s};

/// The ends of names that a file of a directory is read for.
const ENDINGS: [&str; 7] = ["txt", "list", "lst", "netset", "ipset", "csv", "json"];

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    /// Also of what keeps the time of its content, as a copy does.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// At the last look; `None` if it was not there, or could not be looked at.
    seen: Option<Stamp>,
    /// When it was read, well or not.
    read: Option<Stamp>,
    is_good: bool,
}

/// A file that is read, and what came of it.
pub(super) struct Reading {
    pub(super) path: PathBuf,
    pub(super) outcome: Result<(Batch, Summary), SourceFault>,
}

/// The files of a source.
pub(super) struct Files {
    config: FilesConfig,
    known: BTreeMap<PathBuf, Known>,
}

/// What a look found.
#[derive(Default)]
pub(super) struct Look {
    /// Files that changed, read.
    pub(super) readings: Vec<Reading>,
    /// Files of directories that are there no more.
    pub(super) gone: Vec<PathBuf>,
    /// What could not be looked at, whose decisions stay.
    pub(super) faults: Vec<SourceFault>,
}

impl Files {
    pub(super) fn new(config: FilesConfig) -> Self {
        Self {
            config,
            known: BTreeMap::new(),
        }
    }

    /// Looks at all files, and reads those that changed: if `at_once`, whatever changed, else what did
    /// not change any more since the look before.
    pub(super) fn look(&mut self, at_once: bool) -> Look {
        let mut look = Look::default();
        let mut present = BTreeSet::new();
        // Directories that cannot be listed: what is known of them stays.
        let mut unlisted = Vec::new();
        for path in self.config.paths.clone() {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => match self.list(&path) {
                    Ok(files) => present.extend(files),
                    Err(error) => {
                        unlisted.push(path.clone());
                        look.faults.push(unreadable(&path, &error));
                    }
                },
                Ok(_) => _ = present.insert(path),
                Err(error) => {
                    // Not taken for empty: it may be a mount that is away, or about to be replaced.
                    unlisted.push(path.clone());
                    look.faults.push(unreadable(&path, &error));
                    if let Some(known) = self.known.get_mut(&path) {
                        known.seen = None;
                    }
                }
            }
        }
        for path in present.iter() {
            let stamp = match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => Stamp::of(&metadata),
                // One of a directory that has gone since.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    look.faults.push(unreadable(path, &error));
                    continue;
                }
                Ok(_) => {
                    // A pipe would be waited for.
                    let path = path.clone();
                    let reason = "neither a file nor a directory".to_owned();
                    look.faults.push(SourceFault::Unreadable { path, reason });
                    continue;
                }
            };
            let known = self.known.entry(path.clone()).or_default();
            let is_still = known.seen == Some(stamp);
            known.seen = Some(stamp);
            if known.read == Some(stamp) || !(is_still || at_once) {
                continue;
            }
            let outcome = read(path, &self.config);
            // Written while it was read: the look after the next one will have it.
            let after = fs::metadata(path).ok().map(|after| Stamp::of(&after));
            if after != Some(stamp) && !at_once {
                known.seen = after;
                continue;
            }
            known.read = Some(stamp);
            known.is_good = outcome.is_ok();
            look.readings.push(Reading {
                path: path.clone(),
                outcome,
            });
        }
        let is_away = |path: &Path| {
            let is_below = |of: &PathBuf| path == of || path.parent() == Some(of);
            !present.contains(path) && !unlisted.iter().any(is_below)
        };
        let gone = self.known.iter_mut().filter(|(path, _)| is_away(path));
        for (path, known) in gone {
            // Twice in a row, as some editors put a file away and then another one in its place.
            if known.seen.take().is_none() || at_once {
                look.gone.push(path.clone());
            }
        }
        for path in &look.gone {
            self.known.remove(path);
        }
        look
    }

    pub(super) const fn is_required(&self) -> bool {
        self.config.is_required
    }

    /// Whether each file could be read as it is.
    fn is_good(&self) -> bool {
        self.known.values().all(|known| known.is_good)
    }

    /// Reads a file again at the next look, as what came of it was not taken.
    fn forget(&mut self, path: &Path) {
        if let Some(known) = self.known.get_mut(path) {
            known.is_good = false;
        }
    }

    fn list(&self, path: &Path) -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_hidden = name.starts_with('.') || name.ends_with('~');
            let ending = path.extension().and_then(|ending| ending.to_str());
            let is_known = ending.is_some_and(|ending| {
                ENDINGS
                    .iter()
                    .any(|known| ending.eq_ignore_ascii_case(known))
            });
            if !is_hidden && (is_known || self.config.format.is_some()) && !path.is_dir() {
                files.push(path);
            }
        }
        Ok(files)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> SourceFault {
    SourceFault::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn read(path: &Path, config: &FilesConfig) -> Result<(Batch, Summary), SourceFault> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Durations count from when the file was written, so that reading it again lengthens nothing.
    let written_unix_s = u64::try_from(metadata.mtime()).unwrap_or(0);
    let defaults = Defaults {
        remediation: &config.remediation,
        origin: config.origin.as_deref().unwrap_or(&name),
        expiry: Expiry::NEVER,
        now_unix_s: written_unix_s.min(now_unix_s()),
    };
    let ending = path.extension().and_then(|ending| ending.to_str());
    let format = config.format.unwrap_or(match ending {
        Some(ending) if ending.eq_ignore_ascii_case("csv") => FileFormat::Csv,
        Some(ending) if ending.eq_ignore_ascii_case("json") => FileFormat::Json,
        _ => FileFormat::Lines,
    });
    let input = BufReader::with_capacity(64 * 1024, file);
    let mut batch = Batch::default();
    let sink = |decision: &Decision<'_>| batch.push(decision);
    let summary = match format {
        FileFormat::Lines => parse_lines(input, &defaults, config.on_bad, sink),
        FileFormat::Csv => parse_csv(input, &defaults, config.on_bad, sink),
        FileFormat::Json => parse_json(input, &defaults, config.on_bad, sink),
    };
    let summary = summary.map_err(|error: ListError| SourceFault::Bad {
        path: path.to_owned(),
        error,
    })?;
    Ok((batch, summary))
}

/// The thread of a source of files.
pub(super) struct Watcher {
    pub(super) source: usize,
    pub(super) files: Files,
    pub(super) state: Arc<SourceState>,
    pub(super) bell: Arc<Bell>,
    pub(super) events: Sender<Event>,
    pub(super) announce: Box<dyn Fn() + Send>,
}

impl Watcher {
    /// Looks at the files until it is stopped.
    pub(super) fn run(mut self) {
        // The start has read the files.
        step_back(Urgency::Low);
        loop {
            let rung = self.bell.wait(self.files.config.poll_every);
            if rung.is_stopped {
                return;
            }
            let look = self.files.look(rung.is_asked);
            if self.report(look).is_none() {
                return;
            }
        }
    }

    /// `None` if there is nobody any more to report to.
    fn report(&mut self, look: Look) -> Option<()> {
        let mut faults: Vec<String> = look.faults.iter().map(ToString::to_string).collect();
        for path in look.gone {
            tracing::info!(
                "decisions of {}: {} is gone",
                self.state.name(),
                path.display()
            );
            self.state.file_is_gone(&path);
            let source = self.source;
            self.events.send(Event::FileIsGone { source, path }).ok()?;
        }
        for reading in look.readings {
            self.state.update(|status| status.request_count += 1);
            let path = reading.path;
            let fault = match reading.outcome {
                Ok((batch, summary)) => {
                    let (sender, reply) = sync_channel(1);
                    let event = Event::File {
                        source: self.source,
                        path: path.clone(),
                        batch,
                        reply: sender,
                    };
                    self.events.send(event).ok()?;
                    match reply.recv().ok()? {
                        Ok(()) => {
                            take_note(&self.state, &path, &summary);
                            continue;
                        }
                        Err(Refusal::Store(error)) => {
                            self.files.forget(&path);
                            format!("{}: {error}", path.display())
                        }
                        Err(Refusal::NeedsAll) => continue,
                    }
                }
                Err(fault) => fault.to_string(),
            };
            self.state.update(|status| status.failure_count += 1);
            self.state
                .file(&path, |file| file.error = Some(fault.clone()));
            faults.push(fault);
        }
        if !faults.is_empty() {
            self.state.failed(faults.join("; "));
        } else if self.files.is_good() {
            self.state.succeeded();
            (self.announce)();
        }
        Some(())
    }
}

/// Notes that a file was read and taken.
pub(super) fn take_note(state: &SourceState, path: &Path, summary: &Summary) {
    state.file(path, |file| {
        file.decision_count = summary.decision_count;
        file.error = None;
    });
    state.update(|status| {
        status.bad_count += summary.bad_count as u64;
        status.ignored_count += summary.ignored_count as u64;
    });
    let name = state.name();
    tracing::info!(
        "decisions of {name}: {} has {}",
        path.display(),
        summary.decision_count
    );
    if let Some(first) = &summary.first_bad {
        let of = path.display().to_string();
        state.passed_over(&of, summary.bad_count, &first.to_string());
    }
}

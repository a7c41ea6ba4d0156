//! The commands, a file each: its flags, and what it does with them.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringspoa_loadgen::SavedRun;
use signal_hook::consts::{SIGINT, SIGTERM};

pub(crate) mod ab;
pub(crate) mod compare;
pub(crate) mod export;
mod load;
pub(crate) mod plot;
mod rounds;
pub(crate) mod run;
pub(crate) mod sweep;

/// How a command that did its work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Success,
    /// The run was made, and errors or violations were counted.
    CountedErrors,
    /// An agent is slower than another by more than the user allows.
    Slower,
}

impl Exit {
    pub(crate) const fn of_errors(errors: u64) -> Self {
        if errors > 0 {
            Self::CountedErrors
        } else {
            Self::Success
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::CountedErrors => Self::from(3),
            Exit::Slower => Self::from(4),
        }
    }
}

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
}

impl Failure {
    /// The run could not be made, or its results not be written.
    pub(crate) fn failed(text: impl Display) -> Self {
        let text = text.to_string();
        Self { code: 1, text }
    }

    /// Wrong flags; clap's own code too.
    pub(crate) fn flags(text: impl Display) -> Self {
        let text = text.to_string();
        Self { code: 2, text }
    }
}

/// The value of `--rounds`.
fn rounds(text: &str) -> Result<usize, String> {
    // A round keeps two or three histograms of 220 KiB, so this bounds memory at some 600 MiB.
    const MAX_ROUNDS: usize = 1_000;
    match text.parse() {
        Ok(count) if (1..=MAX_ROUNDS).contains(&count) => Ok(count),
        _ => Err(format!("write a number from 1 to {MAX_ROUNDS}")),
    }
}

/// Writes to stdout. A reader that has gone, as `head` does, has had enough and is no failure.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("writing to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Set by the first SIGINT or SIGTERM; the second ends the process.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let fail = |error: std::io::Error| Failure::failed(format!("signals: {error}"));
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first checks what the second has not set yet.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .map_err(fail)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(fail)?;
    }
    Ok(stop)
}

/// Loads a run, naming the file in what goes wrong.
pub(crate) fn load(path: &Path) -> Result<SavedRun, Failure> {
    SavedRun::load(path).map_err(|error| {
        Failure::failed(format!(
            "{}: {error}; give a file that --output of a run wrote",
            path.display()
        ))
    })
}

/// The file of `--output` and its like. It is written beside its place and moved there, so that a run that
/// fails does not take the results of the last one with it.
pub(crate) struct Output {
    flag: &'static str,
    path: PathBuf,
    partial: PathBuf,
    file: Option<File>,
}

impl Output {
    /// Opens the file beside the place, so that a place nothing can be written to is found out
    /// before the run.
    pub(crate) fn create(flag: &'static str, path: &Path) -> Result<Self, Failure> {
        let fail = |reason: &dyn Display| {
            let path = path.display();
            Failure::flags(format!(
                "{flag} {path}: {reason}; give a file in a directory you can write"
            ))
        };
        if path.is_dir() {
            return Err(fail(&"is a directory"));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(|error| fail(&error))?;
        Ok(Self {
            flag,
            path: path.to_owned(),
            partial,
            file: Some(file),
        })
    }

    /// Saves the run and moves it to its place.
    pub(crate) fn write(&mut self, result: &SavedRun) -> Result<(), Failure> {
        self.finish(|file| result.save(file).map_err(Failure::failed))
    }

    /// Writes a text and moves it to its place.
    pub(crate) fn write_text(&mut self, text: &str) -> Result<(), Failure> {
        self.finish(|mut file| file.write_all(text.as_bytes()).map_err(Failure::failed))
    }

    fn finish(&mut self, write: impl FnOnce(File) -> Result<(), Failure>) -> Result<(), Failure> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let named = |failure: Failure| {
            Failure::failed(format!(
                "{} {}: {}",
                self.flag,
                self.path.display(),
                failure.text
            ))
        };
        write(file).map_err(named)?;
        fs::rename(&self.partial, &self.path).map_err(|error| named(Failure::failed(error)))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

//! The commands, a file each: its flags, and what it does with them.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringspoa_loadgen::SavedRun;
use signal_hook::consts::{SIGINT, SIGTERM};

pub(crate) mod ab;
pub(crate) mod compare;
pub(crate) mod conform;
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

/// Set by the first SIGINT or SIGTERM. One that comes a second later or more ends the process: timeout(1)
/// sends its signal twice, to the process and to its group, and that must not take the results along.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    const LOOK_EVERY: Duration = Duration::from_millis(250);
    const PATIENCE: Duration = Duration::from_secs(1);
    let fail = |error: std::io::Error| Failure::failed(format!("signals: {error}"));
    let [stop, impatient] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&impatient))
            .map_err(fail)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(fail)?;
    }
    let stopped = Arc::clone(&stop);
    // Before the run pins anything, and ends with the process.
    std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY);
        }
        std::thread::sleep(PATIENCE);
        impatient.store(true, Ordering::Relaxed);
    });
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

/// Refuses two paths of one file, of which the one written last would be all that is left.
pub(crate) fn distinct(a: (&str, &Path), b: (&str, &Path)) -> Result<(), Failure> {
    if place(a.1) != place(b.1) || fs::metadata(a.1).is_ok_and(|found| !found.is_file()) {
        return Ok(());
    }
    Err(Failure::flags(format!(
        "{} and {} are the same file, {}: give two",
        a.0,
        b.0,
        a.1.display()
    )))
}

/// Refuses a file that is given twice: it would look like two runs that are alike.
pub(crate) fn once(paths: &[PathBuf]) -> Result<(), Failure> {
    for (index, path) in paths.iter().enumerate() {
        if paths[..index]
            .iter()
            .any(|other| place(other) == place(path))
        {
            return Err(Failure::flags(format!(
                "{} is given twice: give each run once",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Where a path leads, also if nothing is there yet.
fn place(path: &Path) -> PathBuf {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let beside = || Some(fs::canonicalize(parent).ok()?.join(path.file_name()?));
    fs::canonicalize(path)
        .ok()
        .or_else(beside)
        .unwrap_or_else(|| path.to_owned())
}

/// The file of `--output` and its like. It is written beside its place and moved there, so that a run that
/// fails does not take the results of the last one with it.
///
/// What is no plain file, such as /dev/null, stdout or a pipe, is written in place: a file moved there
/// would take its name away. A link is followed.
pub(crate) struct Output {
    flag: &'static str,
    path: PathBuf,
    partial: Option<PathBuf>,
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
        let (path, partial) = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(fail(&"is a directory")),
            Ok(found) if !found.is_file() => (path.to_owned(), None),
            found => {
                let path = match found {
                    Ok(_) => fs::canonicalize(path).map_err(|error| fail(&error))?,
                    Err(_) => path.to_owned(),
                };
                let mut partial = path.as_os_str().to_owned();
                partial.push(".partial");
                (path, Some(PathBuf::from(partial)))
            }
        };
        let file = match &partial {
            Some(partial) => File::create(partial),
            None => File::options().write(true).open(&path),
        };
        let file = file.map_err(|error| fail(&error))?;
        Ok(Self {
            flag,
            path,
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
        let result = write(file).map_err(named);
        match &self.partial {
            Some(partial) if result.is_ok() => {
                fs::rename(partial, &self.path).map_err(|error| named(Failure::failed(error)))
            }
            Some(partial) => {
                let _ = fs::remove_file(partial);
                result
            }
            None => result,
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let (Some(_), Some(partial)) = (&self.file, &self.partial) {
            let _ = fs::remove_file(partial);
        }
    }
}

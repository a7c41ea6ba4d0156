//! `ringspoa-loadgen`: flags in, progress to stderr, results to stdout, an exit code.

#![forbid(unsafe_code)]

mod args;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use ringspoa_loadgen::{Progress, SavedRun, run};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::{Cli, Command, RunArgs};

/// The run could not be made, or its results not be written.
const FAILED: u8 = 1;
/// Wrong flags; clap's own code too.
const WRONG_FLAGS: u8 = 2;
/// The run was made, and errors or violations were counted.
const COUNTED_ERRORS: u8 = 3;

fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command;
    match run_command(&args) {
        Ok(code) => ExitCode::from(code),
        Err((code, text)) => {
            eprintln!("error: {text}");
            ExitCode::from(code)
        }
    }
}

fn run_command(args: &RunArgs) -> Result<u8, (u8, String)> {
    let failed = |text: String| (FAILED, text);
    let plan = args.plan().map_err(|text| (WRONG_FLAGS, text))?;
    // Before the run: that its results cannot be written must not be found out after it.
    let mut output = args
        .output
        .as_deref()
        .map(Output::create)
        .transpose()
        .map_err(|text| (WRONG_FLAGS, text))?;
    let stop = stop_flag().map_err(|error| failed(format!("signals: {error}")))?;
    let mut print = |progress: &Progress| {
        if !args.quiet {
            eprintln!("{progress}");
        }
    };
    let result = run(&plan, &stop, &mut print).map_err(|error| failed(error.to_string()))?;
    if let Some(output) = &mut output {
        output.write(&result).map_err(failed)?;
    }
    if args.json {
        println!(
            "{}",
            result
                .to_json()
                .map_err(|error| failed(error.to_string()))?
        );
    } else {
        print!("{}", result.table());
    }
    Ok(if result.results.errors > 0 {
        COUNTED_ERRORS
    } else {
        0
    })
}

/// Set by the first SIGINT or SIGTERM; the second ends the process.
fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first checks what the second has not set yet.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// The file of `--output`. It is written beside its place and moved there, so that a run that
/// fails does not take the results of the last one with it.
struct Output {
    path: PathBuf,
    partial: PathBuf,
    file: Option<File>,
}

impl Output {
    fn create(path: &Path) -> Result<Self, String> {
        let fail = |reason: &dyn std::fmt::Display| {
            let path = path.display();
            format!("--output {path}: {reason}; give a file in a directory you can write")
        };
        if path.is_dir() {
            return Err(fail(&"is a directory"));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(|error| fail(&error))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file: Some(file),
        })
    }

    fn write(&mut self, result: &SavedRun) -> Result<(), String> {
        let fail =
            |reason: &dyn std::fmt::Display| format!("--output {}: {reason}", self.path.display());
        if let Some(file) = self.file.take() {
            result.save(file).map_err(|error| fail(&error))?;
            fs::rename(&self.partial, &self.path).map_err(|error| fail(&error))?;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

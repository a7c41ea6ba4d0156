//! `ringspoa-loadgen`: flags in, progress to stderr, results to stdout, an exit code.

#![forbid(unsafe_code)]

mod args;
mod commands;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => commands::run::execute(&args),
        Command::Ab(args) => commands::ab::execute(&args),
        Command::Compare(args) => commands::compare::execute(&args),
        Command::Sweep(args) => commands::sweep::execute(&args),
        Command::Conform(args) => commands::conform::execute(&args),
        Command::Plot(args) => commands::plot::execute(&args),
        Command::Export(args) => commands::export::execute(&args),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

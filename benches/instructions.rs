//! One scenario a run, a given number of times: what `scripts/instructions` counts the instructions
//! of.
//!
//! `instructions` lists the scenarios, each with how many items one iteration takes.
//! `instructions SCENARIO ITERATIONS` runs one. Two runs with different numbers differ by those
//! iterations and nothing else.

use std::process::ExitCode;

use work::Scenario;

mod corpus;
mod work;

/// Iterations before those that were asked for, so that nothing happens a first time in them.
const WARM_UP: u32 = 4;

#[inline(never)]
fn repeat(iterate: &mut dyn FnMut(), iterations: u32) {
    for _ in 0..iterations {
        iterate();
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` adds its own.
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| *argument != "--bench")
        .collect();
    let result = match arguments[..] {
        [] => {
            for scenario in Scenario::all() {
                println!("{} {}", scenario.name, scenario.item_count);
            }
            Ok(())
        }
        [name, iterations] => run(name, iterations),
        _ => Err("usage: instructions [SCENARIO ITERATIONS]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str, iterations: &str) -> Result<(), String> {
    let iterations: u32 = iterations
        .parse()
        .map_err(|_| format!("'{iterations}' is not a number of iterations"))?;
    let scenario = Scenario::all()
        .into_iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| format!("no scenario '{name}'; without arguments they are listed"))?;
    let mut iterate = (scenario.prepare)();
    repeat(&mut iterate, WARM_UP);
    repeat(&mut iterate, iterations);
    Ok(())
}

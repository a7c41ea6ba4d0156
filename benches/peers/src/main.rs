//! Other ways to serve SPOP, for `scripts/bench` to compare `ringspoa serve` with: the `spop` crate
//! on tokio, the floor that the runtime itself sets, and agents that are slow on purpose.

mod floor;
mod slow;
mod tokio_spop;
mod validate;

use std::error::Error;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ringspoa::{Cores, ListenAddress};
use tokio_spop::{Answers, Style};
use validate::Validator;

/// Serves SPOP in one of the ways that scripts/bench compares.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// The spop crate on tokio, each ACK in a write of its own, as that crate's examples do.
    Each(OneThread),
    /// The spop crate on tokio, ACKs written when no further frame has arrived: the best that can
    /// be done with its codec.
    Batched(OneThread),
    /// As `each`, of the message `validate`: decided as the built-in agent does.
    ValidateEach(Validate),
    /// As `batched`, of the same.
    ValidateBatched(Validate),
    /// As `each`, and each answer is slept for inside its connection's task.
    EachSlow {
        /// How long an answer takes.
        #[arg(value_name = "MS")]
        delay_ms: u64,
        #[command(flatten)]
        place: OneThread,
    },
    /// A framed echo on the runtime of the server: the same bytes in and out, and nothing else.
    Floor(OneThread),
    /// The ringspoa server, and an agent that defers each answer.
    Slow {
        /// How long an answer takes.
        #[arg(value_name = "MS")]
        delay_ms: u64,
        /// Where to listen.
        #[arg(value_name = "ADDR|unix:PATH")]
        address: ListenAddress,
        /// CPUs to serve on, as in 0,1.
        #[arg(value_name = "CPUS")]
        cores: Cores,
    },
}

/// Where a server of one thread is.
#[derive(Debug, clap::Args)]
struct OneThread {
    /// Where to listen.
    #[arg(value_name = "ADDR|unix:PATH")]
    address: ListenAddress,
    /// The CPU to run on.
    #[arg(value_name = "CPU")]
    cpu: usize,
}

/// A server of one thread that validates cookies.
#[derive(Debug, clap::Args)]
struct Validate {
    #[command(flatten)]
    place: OneThread,
    /// The secret of key 1, in base64.
    #[arg(value_name = "SECRET")]
    secret: String,
}

impl Validate {
    fn serve(&self, style: Style) -> Result<(), Box<dyn Error>> {
        self.place.pin()?;
        let answers = Answers::Cookies(Validator::new(1, &self.secret)?);
        tokio_spop::serve(&self.place.address, style, answers)
    }
}

impl OneThread {
    fn pin(&self) -> Result<(), Box<dyn Error>> {
        let core = core_affinity::CoreId { id: self.cpu };
        if core_affinity::set_for_current(core) {
            return Ok(());
        }
        Err(format!(
            "cannot pin to CPU {}: not one this process may use",
            self.cpu
        )
        .into())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().mode {
        Mode::Each(place) => {
            place.pin()?;
            tokio_spop::serve(&place.address, Style::Each, Answers::addresses())
        }
        Mode::Batched(place) => {
            place.pin()?;
            tokio_spop::serve(&place.address, Style::Batched, Answers::addresses())
        }
        Mode::ValidateEach(validate) => validate.serve(Style::Each),
        Mode::ValidateBatched(validate) => validate.serve(Style::Batched),
        Mode::EachSlow { delay_ms, place } => {
            place.pin()?;
            let delay = Duration::from_millis(delay_ms);
            let style = Style::EachAfter(delay);
            tokio_spop::serve(&place.address, style, Answers::addresses())
        }
        Mode::Floor(place) => {
            place.pin()?;
            floor::serve(&place.address)
        }
        Mode::Slow {
            delay_ms,
            address,
            cores,
        } => slow::serve(address, cores, Duration::from_millis(delay_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}

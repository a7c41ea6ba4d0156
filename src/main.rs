//! The `ringspoa` binary: flags, configuration, wiring an agent into the server, exit code.

mod config;
mod decode;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringspoa::agents::remediation::RemediationAgent;
use ringspoa::{Server, StartError, Stats, WorkerPanicked};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use config::{FallbackVariable, Settings, UsageError};

/// An io_uring, thread-per-core SPOA server for HAProxy.
///
/// Exit codes: 0 after a complete drain, 1 for a failure, 2 for bad flags or configuration.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one, taken apart at once"
)]
enum Command {
    /// Answer HAProxy: is this address banned?
    ///
    /// A message with an IP argument named ip, src or src-ip gets the variable
    /// txn.<prefix>.remediation, "ban" or "allow". SIGTERM and SIGINT drain: what is in flight is
    /// answered, connections are told goodbye. A second signal ends at once.
    Serve(Serve),
    Decode(decode::Decode),
}

#[derive(Debug, Args)]
struct Serve {
    /// Where to listen: 127.0.0.1:9000, [::1]:9000 or
    /// unix:/PATH[,mode=OCTAL][,user=NAME][,group=NAME]. Repeatable [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// CPUs to run on, a pinned worker each: auto, or a list as taskset writes it, 0-3,8
    /// [default: auto, every CPU the process may use]
    #[arg(long, value_name = "auto|LIST")]
    cores: Option<String>,
    /// How to wait for I/O: auto takes io_uring where it works [default: auto]
    #[arg(long, value_name = "auto|io_uring|epoll")]
    driver: Option<String>,
    /// Addresses to ban, one address or CIDR network a line, # begins a comment [default: the
    /// documentation and benchmark networks, to try things out]
    #[arg(long, value_name = "FILE")]
    ban_list: Option<PathBuf>,
    /// Configuration file (TOML). Its keys are the names of these flags; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Largest frame accepted, in bytes without length prefix, 256 to 1048572 [default: 65532]
    #[arg(long, value_name = "BYTES")]
    max_frame_size: Option<u32>,
    /// Largest message put together from fragments, in bytes [default: 262144]
    #[arg(long, value_name = "BYTES")]
    max_reassembly_len: Option<usize>,
    /// Connections in total [default: 4096]
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<usize>,
    /// NOTIFYs of one connection that may wait for a late answer [default: 1024]
    #[arg(long, value_name = "COUNT")]
    max_in_flight: Option<usize>,
    /// How long a peer may take to its HELLO [default: 5000]
    #[arg(long, value_name = "MS")]
    hello_timeout_ms: Option<u64>,
    /// Disconnect a peer that is silent for this long, 0 for never [default: 0]
    #[arg(long, value_name = "MS")]
    idle_timeout_ms: Option<u64>,
    /// Cut a peer that does not take its answers for this long [default: 30000]
    #[arg(long, value_name = "MS")]
    write_timeout_ms: Option<u64>,
    /// When a late answer is replaced by the fallback [default: 500]
    #[arg(long, value_name = "MS")]
    agent_deadline_ms: Option<u64>,
    /// How long a drain may take [default: 10000]
    #[arg(long, value_name = "MS")]
    drain_timeout_ms: Option<u64>,
    /// Look for more input for so long before a core sleeps: lower latency at low load, for a
    /// whole core each [default: 0, off]
    #[arg(long, value_name = "US")]
    busy_poll_us: Option<u64>,
    /// Never send an ACK without actions, for HAProxy 3.1.0 and the first 3.1.x
    #[arg(long)]
    never_empty_acks: bool,
    /// Variable to set where the agent fails, as in txn.remediation=allow. Repeatable [default:
    /// none, an ACK without actions]
    #[arg(long, value_name = "SCOPE.NAME=TEXT", value_parser = |text: &str| {
        FallbackVariable::from_flag(text).map(|_| text.to_owned())
    })]
    fallback: Vec<String>,
}

impl Serve {
    /// The flags over the file over nothing.
    fn settings(self) -> Result<Settings, UsageError> {
        let file = self
            .config
            .as_deref()
            .map(Settings::load)
            .transpose()?
            .unwrap_or_default();
        let fallback: Vec<_> = self
            .fallback
            .iter()
            .flat_map(|text| FallbackVariable::from_flag(text))
            .collect();
        let flags = Settings {
            listen: (!self.listen.is_empty()).then_some(self.listen),
            cores: self.cores,
            driver: self.driver,
            ban_list: self.ban_list,
            max_frame_size: self.max_frame_size,
            max_reassembly_len: self.max_reassembly_len,
            max_connections: self.max_connections,
            max_in_flight: self.max_in_flight,
            hello_timeout_ms: self.hello_timeout_ms,
            idle_timeout_ms: self.idle_timeout_ms,
            write_timeout_ms: self.write_timeout_ms,
            agent_deadline_ms: self.agent_deadline_ms,
            drain_timeout_ms: self.drain_timeout_ms,
            busy_poll_us: self.busy_poll_us,
            never_empty_acks: self.never_empty_acks.then_some(true),
            fallback: (!fallback.is_empty()).then_some(fallback),
        };
        Ok(flags.or(file))
    }
}

/// Exit code for bad flags or configuration; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format(|out, record| {
            writeln!(
                out,
                "{}: {}",
                record.level().as_str().to_lowercase(),
                record.args()
            )
        })
        .init();
    let serve = match Cli::parse().command {
        Command::Serve(serve) => serve,
        Command::Decode(arguments) => return decode::run(&arguments, USAGE),
    };
    let prepared = serve
        .settings()
        .and_then(|settings| Ok((settings.server_config()?, settings.ban_table()?)));
    let (config, (table, origin)) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("ringspoa: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let lists = match table.range_count() {
        1 => format!("1 range banned, from {origin}"),
        ranges => format!("{ranges} ranges banned, from {origin}"),
    };
    match run(config, table, &lists) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringspoa: {error}");
            match error.downcast_ref() {
                // Known only once the machine was asked, but a matter of flags all the same.
                Some(StartError::Config(_) | StartError::Core { .. }) => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// What the main thread waits for.
enum Wake {
    Signal,
    Ended(Result<Stats, WorkerPanicked>),
}

fn run(
    config: ringspoa::ServerConfig,
    table: ringspoa::agents::remediation::AddressTable,
    lists: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    raise_descriptor_limit();
    // Before anything listens, so that a signal never finds the default action.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let drain_timeout = config.drain_timeout;
    let busy_poll = match config.busy_poll {
        Duration::ZERO => String::new(),
        limit => format!("busy polling for {limit:?}; "),
    };
    let server = Server::start(config, move |_core| {
        Ok(RemediationAgent::new(table.clone()))
    })?;
    let listen: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    log::info!(
        "ringspoa {} listening on {}; CPUs {:?}; {}; {busy_poll}{lists}",
        env!("CARGO_PKG_VERSION"),
        listen.join(", "),
        server.cores(),
        drivers(&server),
    );
    let handle = server.handle();
    let (wake, woken) = mpsc::channel();
    let on_signal = wake.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                log::warn!("SIGHUP ignored: lists and settings are read at the start only");
            } else {
                let _ = on_signal.send(Wake::Signal);
            }
        }
    });
    std::thread::spawn(move || {
        let _ = wake.send(Wake::Ended(server.join()));
    });
    let mut draining = false;
    loop {
        match woken.recv()? {
            Wake::Signal if draining => return Err("ended by a second signal".into()),
            Wake::Signal => {
                draining = true;
                log::info!("draining, for {drain_timeout:?} at most");
                handle.drain();
            }
            Wake::Ended(stats) => {
                log::info!("ended; {}", summary(&stats?));
                return if draining {
                    Ok(())
                } else {
                    Err("all workers ended".into())
                };
            }
        }
    }
}

/// A connection is a descriptor, and the usual soft limit of 1024 is there for programs that use
/// `select`.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

/// The totals that matter to an operator; of the faults only those that happened.
fn summary(stats: &Stats) -> String {
    let mut text = format!(
        "{} connections, {} health checks, {} NOTIFYs, {} ACKs",
        stats.connections, stats.health_checks, stats.notifies, stats.acks
    );
    let faults = [
        (stats.connections_refused, "connections refused"),
        (stats.agent_errors, "agent errors"),
        (stats.agent_panics, "agent panics"),
        (stats.too_large, "answers too large"),
        (stats.deadlines_passed, "agent deadlines passed"),
        (stats.tickets_abandoned, "tickets abandoned"),
        (stats.late_answers_discarded, "late answers discarded"),
        (stats.overruns, "overruns"),
        (stats.protocol_errors, "protocol errors"),
        (stats.timeouts, "timeouts"),
        (
            stats.busy_at_drain_end,
            "connections still busy at the drain timeout",
        ),
    ];
    for (count, what) in faults.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    text
}

/// How the cores wait for I/O, once if all do it the same way.
fn drivers(server: &Server) -> String {
    let mut drivers = server.drivers().to_vec();
    drivers.dedup();
    drivers.join("; ")
}

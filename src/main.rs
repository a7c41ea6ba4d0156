//! The `ringspoa` binary: flags, and the commands that they choose.

mod challenge;
mod challenge_sample;
mod check;
mod config;
mod decode;
mod import;
mod lines;
mod logging;
mod lookup;
mod page;
mod process;
mod remediation;
mod serve;
mod service_manager;
mod shown;
mod spoe_config;
mod token;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use ringspoa::StartError;

use config::{FallbackVariable, Settings, UsageError};

/// An io_uring, thread-per-core SPOA server for HAProxy.
///
/// Exit codes: 0 after a drain, also one that ends at its timeout, or a hand-over; 1 for a failure; 2
/// for bad flags or configuration.
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
    /// answered, connections are told goodbye; a second signal ends at once. SIGHUP reads the
    /// configuration and the lists anew. SIGUSR2 starts the binary anew and hands everything over to
    /// it, connections included.
    Serve(Serve),
    Decode(decode::Decode),
    Check(check::Check),
    SpoeConfig(spoe_config::Print),
    Import(import::Import),
    Lookup(lookup::Lookup),
    Table(lookup::Table),
    Page(page::WritePage),
    Token(token::Tokens),
}

#[derive(Clone, Debug, Args)]
struct Serve {
    /// Where to listen: 127.0.0.1:9000, [::1]:9000 or
    /// unix:/PATH[,mode=OCTAL][,user=NAME][,group=NAME]. Repeatable [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Where to show /metrics, /healthz and /readyz over HTTP; an address as above [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
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
    /// Connections of each address of --listen [default: no limit of its own]
    #[arg(long, value_name = "COUNT")]
    max_connections_per_listener: Option<usize>,
    /// HELLOs a second that each core answers, the next ones wait; 0 for no limit [default: 1000]
    #[arg(long, value_name = "COUNT")]
    max_handshakes: Option<u32>,
    /// How long a peer waits for being told that its HELLO is refused [default: 1000]
    #[arg(long, value_name = "MS")]
    refusal_delay_ms: Option<u64>,
    /// NOTIFYs of one connection that may wait for a late answer [default: 1024]
    #[arg(long, value_name = "COUNT")]
    max_in_flight: Option<usize>,
    /// NOTIFYs of one core that may wait for a late answer; the next ones get the fallback at once
    /// [default: 65536]
    #[arg(long, value_name = "COUNT")]
    max_in_flight_per_core: Option<usize>,
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
    /// How long a drain goes on as before but for health checks, which fail [default: 0]
    #[arg(long, value_name = "MS")]
    drain_notice_ms: Option<u64>,
    /// How long a drain may take after that [default: 10000]
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
    /// How log lines look [default: text]
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
    /// What is logged: off, error, warn, info, debug, trace, or a list as in warn,ringspoa=debug
    /// [default: RUST_LOG, else info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log every frame of one connection in N on each core, as info: 1 for all, 0 for none
    /// [default: 0]
    #[arg(long, value_name = "N")]
    trace_frames: Option<u32>,
    /// User to become once everything is opened, by name or number [default: stay]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Group to become, by name or number [default: stay]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Only say whether flags, configuration and lists are valid
    #[arg(long)]
    check: bool,
}

impl Serve {
    /// The flags over the file over nothing.
    fn settings(&self) -> Result<Settings, UsageError> {
        let file = self
            .config
            .as_deref()
            .map(Settings::load_checked)
            .transpose()?
            .unwrap_or_default();
        let fallback: Vec<_> = self
            .fallback
            .iter()
            .flat_map(|text| FallbackVariable::from_flag(text))
            .collect();
        let flags = Settings {
            listen: (!self.listen.is_empty()).then(|| self.listen.clone()),
            admin_listen: self.admin_listen.clone(),
            cores: self.cores.clone(),
            driver: self.driver.clone(),
            ban_list: self.ban_list.clone(),
            max_frame_size: self.max_frame_size,
            max_reassembly_len: self.max_reassembly_len,
            max_connections: self.max_connections,
            max_connections_per_listener: self.max_connections_per_listener,
            max_handshakes: self.max_handshakes,
            refusal_delay_ms: self.refusal_delay_ms,
            max_in_flight: self.max_in_flight,
            max_in_flight_per_core: self.max_in_flight_per_core,
            hello_timeout_ms: self.hello_timeout_ms,
            idle_timeout_ms: self.idle_timeout_ms,
            write_timeout_ms: self.write_timeout_ms,
            agent_deadline_ms: self.agent_deadline_ms,
            drain_notice_ms: self.drain_notice_ms,
            drain_timeout_ms: self.drain_timeout_ms,
            busy_poll_us: self.busy_poll_us,
            never_empty_acks: self.never_empty_acks.then_some(true),
            fallback: (!fallback.is_empty()).then_some(fallback),
            log_format: self.log_format.clone(),
            log_level: self.log_level.clone(),
            trace_frames: self.trace_frames,
            user: self.user.clone(),
            group: self.group.clone(),
            remediation: None,
            challenge: None,
        };
        Ok(flags.or(file))
    }
}

/// Says why the process ends. Where stderr takes nothing it neither panics, as `eprintln!` does, nor
/// waits: the exit code says it too.
fn complain(error: &dyn std::fmt::Display) {
    if logging::has_room(&io::stderr()) {
        // It may have what a file says in it, and stderr is a terminal here.
        let text = error.to_string();
        let text: String = text
            .chars()
            .map(|letter| match letter {
                '\n' | '\t' => letter,
                letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
                letter => letter,
            })
            .collect();
        let _ = writeln!(io::stderr(), "ringspoa: {text}");
    }
}

/// Exit code for bad flags or configuration; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(serve) => run_serve(serve),
        Command::Decode(decode) => decode::run(&decode, USAGE),
        Command::Check(check) => check::run(&check, USAGE),
        Command::SpoeConfig(print) => spoe_config::run(&print, USAGE),
        Command::Import(import) => import::run(&import, USAGE),
        Command::Lookup(lookup) => lookup::run(&lookup, USAGE),
        Command::Table(table) => lookup::run_table(&table, USAGE),
        Command::Page(page) => page::run(&page, USAGE),
        Command::Token(token) => token::run(&token, USAGE),
    }
}

fn run_serve(serve: Serve) -> ExitCode {
    let check = serve.check;
    let source: serve::Source = Arc::new(move || serve.settings());
    let prepared = source().and_then(|settings| {
        let prepared = settings.prepare()?;
        let (format, level) = (settings.log_format()?, settings.log_level()?);
        Ok((settings, prepared, format, level))
    });
    let (settings, prepared, format, level) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    if check {
        for warning in prepared.challenge.iter().flat_map(|it| it.warnings()) {
            complain(&format!("warning: {warning}"));
        }
        if let Err(error) = prepared.check() {
            complain(&error);
            return ExitCode::from(USAGE);
        }
        for warning in prepared.warnings() {
            complain(&format_args!("warning: {warning}"));
        }
        let _ = writeln!(io::stdout(), "valid");
        return ExitCode::SUCCESS;
    }
    let levels = logging::start(format, level);
    match serve::run(source, settings, prepared, levels) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            if error.is::<remediation::Refused>() {
                return ExitCode::from(USAGE);
            }
            match error.downcast_ref() {
                // Known only once the machine was asked, but a matter of flags all the same.
                Some(StartError::Config(_) | StartError::Core { .. }) => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

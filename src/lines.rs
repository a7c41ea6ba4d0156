//! The lines that say what a process is and did.

use std::fmt::Write as _;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use ringspoa::agents::remediation::AddressTable;
use ringspoa::{Admin, Server, ServerConfig, Stats, is_local};

use crate::config::NO_LIST;

/// The one line that says all that matters.
pub(crate) fn log_start(server: &Server, config: &ServerConfig, admin: Option<&Admin>, what: &str) {
    let listen: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    let mut drivers = server.drivers().to_vec();
    // Once if all do it the same way.
    drivers.dedup();
    let busy_poll = match config.busy_poll {
        Duration::ZERO => String::new(),
        limit => format!("busy polling for {limit:?}; "),
    };
    let admin = admin.map_or_else(String::new, |admin| {
        format!("admin on {}; ", admin.address())
    });
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    tracing::info!(
        "ringspoa {}, process {}, listening on {}; CPUs {:?}; {}; {busy_poll}{admin}at most {} connections, {descriptors} open files; agent deadline {:?}; {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        listen.join(", "),
        server.cores(),
        drivers.join("; "),
        config.max_connections,
        config.agent_deadline,
        what,
    );
}

/// What an operator may not have meant, once at the start.
pub(crate) fn warn_at_start(server: &Server, config: &ServerConfig, admin: Option<&Admin>) {
    for address in server.addresses().iter().filter(|at| !is_local(at)) {
        tracing::warn!(
            "listening on {address}: whoever reaches it is taken for HAProxy, SPOP has no login"
        );
    }
    if let Some(admin) = admin.filter(|admin| !is_local(admin.address())) {
        tracing::warn!(
            "admin on {}: whoever reaches it can read it, it has no login",
            admin.address()
        );
    }
    // Beside connections there are rings, listeners and the log.
    let wanted = config.max_connections as u64 + 64;
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        tracing::warn!(
            "max-connections {} needs about {wanted} open files, and {soft} are allowed (RLIMIT_NOFILE)",
            config.max_connections
        );
    }
    if config.trace_frames > 0 && !tracing::enabled!(tracing::Level::INFO) {
        tracing::warn!("trace-frames shows nothing: frames are logged at level info");
    }
}

/// A list that bans nobody is rarely meant.
pub(crate) fn warn_if_empty(table: &AddressTable, origin: &str) {
    if table.range_count() == 0 && origin != NO_LIST {
        tracing::warn!("the ban list is empty, nobody is banned: {origin}");
    }
}

pub(crate) fn ranges(table: &AddressTable, origin: &str) -> String {
    match table.range_count() {
        1 => format!("1 range banned, from {origin}"),
        ranges => format!("{ranges} ranges banned, from {origin}"),
    }
}

/// The totals that matter to an operator; of the faults only those that happened.
pub(crate) fn summary(stats: &Stats) -> String {
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
        (stats.shed, "NOTIFYs shed"),
        (stats.lost, "NOTIFYs whose connection was lost"),
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
        let _ = write!(text, ", {count} {what}");
    }
    text
}

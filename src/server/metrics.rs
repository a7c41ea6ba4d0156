//! What is shown of the counters. A family's name, labels and help stand here once; the table for
//! operators, dist/metrics.md, is held to them by a test.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::Shared;
use super::stats::{
    BUCKETS, Counter, Counters, MESSAGES, MessageStats, OUTCOMES, STATUSES, bucket_bound,
    status_label,
};
use crate::metrics::{Exposition, Family, Kind};

macro_rules! families {
    ($($id:ident $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(const $id: Family = Family {
            name: $name,
            kind: Kind::$kind,
            labels: $labels,
            help: $help,
        };)*

        /// The families that a server shows, in their order.
        #[must_use]
        pub const fn families() -> &'static [Family] {
            &[$($id,)*]
        }
    };
}

families! {
    BUILD Gauge "ringspoa_build_info" ["version,drivers"] "Always 1; its labels say which version runs, and how its cores wait for I/O.";
    START Gauge "ringspoa_start_time_seconds" [""] "When the server started, in seconds since 1970.";
    DRAINING Gauge "ringspoa_draining" [""] "1 while the server drains, else 0.";
    RELOADS Counter "ringspoa_reloads_total" [""] "Reloads that went well since the start.";
    RELOAD_FAILURES Counter "ringspoa_reload_failures_total" [""] "Reloads that changed nothing because of an error.";
    RELOAD_TIME Gauge "ringspoa_reload_time_seconds" [""] "When the settings and lists in force were loaded, in seconds since 1970.";
    HAND_OVER_FAILURES Counter "ringspoa_hand_over_failures_total" [""] "Hand-overs to a new process that failed; this one went on.";
    MAX_CONNECTIONS Gauge "ringspoa_max_connections" [""] "The limit of connections in total.";
    CORE_CONNECTIONS Gauge "ringspoa_core_connections" ["core"] "Connections open on a core.";
    CORE_NOTIFIES Counter "ringspoa_core_notifies_total" ["core"] "NOTIFYs received on a core.";
    CORE_IN_FLIGHT Gauge "ringspoa_core_in_flight" ["core"] "NOTIFYs of a core that wait for a late answer.";
    CORE_BEATS Counter "ringspoa_core_heartbeats_total" ["core"] "Grows by 10 a second for as long as a core is alive.";
    CORE_OVERRUNS Counter "ringspoa_core_overruns_total" ["core"] "Batches that kept a core busy for longer than the agent deadline.";
    CONNECTIONS Counter "ringspoa_connections_total" [""] "Connections taken, surplus and resumed ones included.";
    REFUSED Counter "ringspoa_connections_refused_total" [""] "Connections closed at once because of a limit.";
    SURPLUS Counter "ringspoa_connections_surplus_total" [""] "Connections beyond a limit, kept for a health check or for being told so.";
    SILENT Counter "ringspoa_connections_silent_total" [""] "Connections that ended without a HELLO, as TCP checks do.";
    RESUMED Counter "ringspoa_connections_resumed_total" [""] "Connections taken over from the process before.";
    HANDED_OVER Counter "ringspoa_connections_handed_over_total" [""] "Connections given to the process after.";
    ACCEPT_ERRORS Counter "ringspoa_accept_errors_total" [""] "Times accept failed, for example for want of descriptors.";
    CHECKS Counter "ringspoa_health_checks_total" ["result"] "Health checks answered (ok), or failed because the server drains (draining).";
    DELAYED Counter "ringspoa_handshakes_delayed_total" [""] "HELLOs that waited for their turn because of max-handshakes.";
    HANDSHAKES_REFUSED Counter "ringspoa_handshakes_refused_total" ["status"] "Connections refused in the handshake, by the status that HAProxy was told.";
    SENT_DISCONNECTS Counter "ringspoa_disconnects_sent_total" ["status"] "AGENT-DISCONNECTs, by status.";
    RECEIVED_DISCONNECTS Counter "ringspoa_disconnects_received_total" ["status"] "HAPROXY-DISCONNECTs, by status.";
    PROTOCOL_ERRORS Counter "ringspoa_protocol_errors_total" [""] "Connections ended because of what the peer sent.";
    TIMEOUTS Counter "ringspoa_timeouts_total" [""] "Connections ended because HELLO did not come, answers were not taken, or nothing was sent.";
    BUSY_AT_END Counter "ringspoa_busy_at_drain_end_total" [""] "Connections that were still busy at the drain timeout.";
    BYTES_RECEIVED Counter "ringspoa_received_bytes_total" [""] "Bytes received.";
    BYTES_SENT Counter "ringspoa_sent_bytes_total" [""] "Bytes sent.";
    FRAMES Counter "ringspoa_frames_received_total" [""] "Frames received, of all types.";
    LATE_DISCARDED Counter "ringspoa_late_answers_discarded_total" [""] "Late answers that found nothing to answer any more.";
    NOTIFIES Counter "ringspoa_notifies_total" ["message"] "NOTIFYs received, by the name of their first message.";
    ANSWERS Counter "ringspoa_answers_total" ["message,outcome"] "What became of NOTIFYs: answered; the fallback for an agent's error, panic, too_large, deadline, abandoned or shed; or none, of an invalid NOTIFY or for a connection that was lost first.";
    SERVICE_TIME Histogram "ringspoa_service_time_seconds" ["message,le"] "From when a NOTIFY was read until its answer was ready to send; the answers of one batch count with the time of all of it.";
}

/// A family, and where its numbers are in a core's counters.
type Of<T> = (&'static Family, fn(&Counters) -> T);

/// The same of numbers by status.
type Statuses = (
    &'static Family,
    for<'a> fn(&'a Counters) -> &'a [Counter; STATUSES],
);

pub(super) fn write(shared: &Shared, out: &mut Exposition) {
    let total = {
        let mut total = super::Stats::default();
        for counters in &shared.counters {
            total += counters.snapshot();
        }
        total
    };
    let mut drivers = {
        let drivers = shared.drivers.lock();
        drivers.unwrap_or_else(PoisonError::into_inner).clone()
    };
    drivers.dedup();
    out.family(&BUILD);
    let version = env!("CARGO_PKG_VERSION");
    out.sample(
        &[("version", version), ("drivers", &drivers.join("; "))],
        1_u64,
    );
    out.single(&START, since_1970(shared.started));
    let draining = shared.draining.load(Ordering::Relaxed);
    out.single(&DRAINING, u64::from(draining));
    let reloads = &shared.reloads;
    out.single(&RELOADS, reloads.generation.load(Ordering::Relaxed));
    out.single(&RELOAD_FAILURES, reloads.failures.load(Ordering::Relaxed));
    let at = Duration::from_millis(reloads.at_ms.load(Ordering::Relaxed));
    out.single(&RELOAD_TIME, since_1970(shared.started + at));
    let failures = reloads.hand_over_failures.load(Ordering::Relaxed);
    out.single(&HAND_OVER_FAILURES, failures);
    let max_connections = {
        let config = shared.config.lock();
        config
            .unwrap_or_else(PoisonError::into_inner)
            .max_connections
    };
    out.single(&MAX_CONNECTIONS, max_connections as u64);

    let by_core: [Of<u64>; 5] = [
        (&CORE_CONNECTIONS, |core| core.open.get()),
        (&CORE_NOTIFIES, |core| core.snapshot().notifies),
        (&CORE_IN_FLIGHT, |core| core.in_flight.get()),
        (&CORE_BEATS, |core| core.beats.get()),
        (&CORE_OVERRUNS, |core| core.overruns.get()),
    ];
    for (family, counter) in by_core {
        out.family(family);
        for (cpu, counters) in shared.cores.iter().zip(&shared.counters) {
            out.sample(&[("core", &cpu.to_string())], counter(counters));
        }
    }
    for (family, count) in [
        (&CONNECTIONS, total.connections),
        (&REFUSED, total.connections_refused),
        (&SURPLUS, total.connections_surplus),
        (&SILENT, total.connections_silent),
        (&RESUMED, total.connections_resumed),
        (&HANDED_OVER, total.connections_handed_over),
        (&ACCEPT_ERRORS, total.accept_errors),
    ] {
        out.single(family, count);
    }
    out.family(&CHECKS);
    out.sample(&[("result", "ok")], total.health_checks);
    out.sample(&[("result", "draining")], total.health_checks_failed);
    out.single(&DELAYED, total.handshakes_delayed);
    let by_status: [Statuses; 3] = [
        (&HANDSHAKES_REFUSED, |core| &core.handshakes_refused),
        (&SENT_DISCONNECTS, |core| &core.disconnects_sent),
        (&RECEIVED_DISCONNECTS, |core| &core.disconnects_received),
    ];
    for (family, counters) in by_status {
        out.family(family);
        let count = |index: usize| {
            let cores = shared.counters.iter();
            cores.map(|core| counters(core)[index].get()).sum::<u64>()
        };
        for index in 0..STATUSES {
            // A status that never was is not shown, but for the usual one.
            if index == 0 || count(index) > 0 {
                out.sample(&[("status", &status_label(index))], count(index));
            }
        }
    }
    for (family, count) in [
        (&PROTOCOL_ERRORS, total.protocol_errors),
        (&TIMEOUTS, total.timeouts),
        (&BUSY_AT_END, total.busy_at_drain_end),
        (&BYTES_RECEIVED, total.bytes_received),
        (&BYTES_SENT, total.bytes_sent),
        (&FRAMES, total.frames_received),
        (&LATE_DISCARDED, total.late_answers_discarded),
    ] {
        out.single(family, count);
    }
    write_messages(&shared.counters, out);
}

/// Names are found by each core for itself, so their numbers are put together by name.
fn write_messages(cores: &[std::sync::Arc<Counters>], out: &mut Exposition) {
    let mut by_name: Vec<(&str, Vec<&MessageStats>)> = Vec::new();
    for core in cores {
        for slot in 0..MESSAGES {
            let Some(name) = core.message_name(slot) else {
                continue;
            };
            let message = &core.messages[slot];
            match by_name.iter_mut().find(|(known, _)| *known == name) {
                Some((_, messages)) => messages.push(message),
                None => by_name.push((name, vec![message])),
            }
        }
    }
    by_name.sort_by_key(|&(name, _)| name);
    let sum = |messages: &[&MessageStats], counter: &dyn Fn(&MessageStats) -> u64| -> u64 {
        messages.iter().map(|message| counter(message)).sum()
    };
    out.family(&NOTIFIES);
    for (name, messages) in &by_name {
        let count = sum(messages, &MessageStats::notifies);
        out.sample(&[("message", name)], count);
    }
    out.family(&ANSWERS);
    for (name, messages) in &by_name {
        for (index, outcome) in OUTCOMES.iter().enumerate() {
            let count = sum(messages, &|message| message.outcome(index));
            out.sample(&[("message", name), ("outcome", outcome)], count);
        }
    }
    out.family(&SERVICE_TIME);
    for (name, messages) in &by_name {
        let buckets = (0..BUCKETS).map(|index| {
            let count = sum(messages, &|message| message.buckets[index].get());
            (bucket_bound(index), count)
        });
        let took_ns = sum(messages, &|message| message.took_ns.get());
        out.histogram(&[("message", name)], buckets, took_ns as f64 / 1e9);
    }
}

fn since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

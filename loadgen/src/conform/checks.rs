//! Health checks: `option spop-check`.

use super::Rule;
use super::frames;
use super::judge::judge_hello;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, missed, shown};

/// Checks sent amid traffic: as many as a second of many servers' checks brings.
const CHECKS: u64 = 100;

/// What every check offers.
const OFFER: u32 = 16_380;

pub(super) const RULES: &[Rule] = &[
    Rule::played(
        "K14",
        "health-check",
        "a health check gets one HELLO with all keys and flags 0x00000001, and not a byte more",
        "HAProxy 3.1 and later mark the server DOWN if a key is missing, flags differ or a second frame \
         comes in the same segment; all versions do without a good version and max-frame-size.",
        health_check,
    ),
    Rule::played(
        "K15",
        "health-checks-amid-traffic",
        "100 health checks that end with a reset, amid traffic, are all answered with a HELLO alone",
        "A server whose checks fail is DOWN: HAProxy 3.1 and later send it no NOTIFY any more, and those up \
         to 3.0 open no new connection to it.",
        health_checks_amid_traffic,
    ),
];

/// Sends a check, and takes its answer strictly.
fn checked<'t>(trial: &'t Trial<'_>) -> Result<super::wire::Peer<'t>, Stop> {
    let mut peer = trial.connect()?;
    peer.max_frame_size = OFFER;
    peer.send("a health check's HAPROXY-HELLO", &frames::health_check())?;
    let came = peer.receive()?;
    let Came::Frame(owned) = came else {
        return Err(missed("AGENT-HELLO for a health check", &came, trial));
    };
    let hello = judge_hello(&owned.frame(), OFFER).map_err(Stop::failed)?;
    if hello.capabilities.is_none() {
        return Err(Stop::failed("AGENT-HELLO has no capabilities"));
    }
    if hello.flags != 1 {
        return Err(Stop::failed(format!(
            "AGENT-HELLO has flags 0x{:08x} instead of 0x00000001",
            hello.flags
        )));
    }
    // In the same read, so that no wait is needed to see it.
    if !peer.unread().is_empty() {
        let more = peer.receive()?;
        return Err(Stop::failed(format!(
            "behind the AGENT-HELLO of a health check {}",
            shown(&more)
        )));
    }
    Ok(peer)
}

fn health_check(trial: &Trial<'_>) -> Judged {
    let mut peer = checked(trial)?;
    match peer.receive_within(trial.settle())? {
        Came::Silence | Came::End(_) => {}
        came => {
            return Err(Stop::failed(format!(
                "after the AGENT-HELLO of a health check nothing may come, but {}",
                shown(&came)
            )));
        }
    }
    peer.reset();
    trial.still_answers("a health check that ended with a reset")
}

fn health_checks_amid_traffic(trial: &Trial<'_>) -> Judged {
    let mut traffic = trial.introduced()?;
    for number in 1..=CHECKS {
        checked(trial)?.reset();
        if number % 4 == 0 {
            let payload = trial.payload(usize::try_from(number).unwrap_or(0));
            traffic.ask("a message of the profile", (number, 1), payload)?;
        }
    }
    Ok(())
}

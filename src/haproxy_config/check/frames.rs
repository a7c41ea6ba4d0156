//! Sizes of frames: HAProxy's, its buffers', and the agent's.

use super::super::finding::Findings;
use super::super::model::{Config, Engine};
use super::{CheckOptions, engines_in_use};

/// The smallest max-frame-size.
const SMALLEST: u64 = 256;

/// What a buffer has beside the frame: its length prefix.
const PREFIX_LEN: u64 = 4;

/// What health checks offer from 3.1 on, whatever the size of buffers.
const CHECK_OFFER: u64 = 16_380;

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    for (_, engine) in engines_in_use(config) {
        let Some(largest) = config.bufsize().map(|size| size.saturating_sub(PREFIX_LEN)) else {
            continue;
        };
        frame_size(config, engine, largest, options, found);
        health_check(config, engine, largest, options, found);
    }
}

fn frame_size(
    config: &Config,
    engine: &Engine,
    largest: u64,
    options: &CheckOptions,
    found: &mut Findings,
) {
    let line = engine.setting(&["max-frame-size"]);
    let bufsize = config.global_setting(&["tune.bufsize"]);
    let (offered, place) = match line {
        Some(line) if line.words.get(1).is_some_and(|word| word.is_open) => return,
        Some(line) => {
            // No unit here, other than in global.
            let size = line.word(1).parse().ok();
            match size.filter(|size: &u64| (SMALLEST..=largest).contains(size)) {
                Some(size) => (size, line.place),
                None => {
                    found.error(
                        "frame-size-invalid",
                        line.place,
                        format!(
                            "max-frame-size {} is not from {SMALLEST} to {largest}, which is tune.bufsize less \
                             {PREFIX_LEN}: HAProxy does not start",
                            line.word(1)
                        ),
                        "take the line out, or raise tune.bufsize in the global section",
                    );
                    return;
                }
            }
        }
        None => {
            let place = bufsize.map(|line| line.place);
            let agent = engine.agent().map(|agent| agent.place());
            match place.or(agent) {
                Some(place) => (largest, place),
                None => return,
            }
        }
    };
    let Some(taken) = options.max_frame_size.map(u64::from) else {
        return;
    };
    if offered > taken {
        let fate = if config.version.has_multiplexer() {
            "not sent"
        } else {
            "sent in fragments"
        };
        found.warning(
            "frame-size-agent",
            place,
            format!(
                "HAProxy makes messages of up to {offered} bytes, and the agent takes frames of {taken}: \
                 larger ones are {fate}"
            ),
            format!("raise the agent's --max-frame-size to {offered}, or lower max-frame-size of spoe-agent"),
        );
    }
}

/// From 3.1 on, an agent that takes what the check offers is down where buffers are smaller than that.
fn health_check(
    config: &Config,
    engine: &Engine,
    largest: u64,
    options: &CheckOptions,
    found: &mut Findings,
) {
    let taken = options.max_frame_size.map_or(CHECK_OFFER, u64::from);
    let (Some(bufsize), Some(backend)) = (
        config.global_setting(&["tune.bufsize"]),
        config.backend_of(engine),
    ) else {
        return;
    };
    if config.version.has_multiplexer()
        && largest < CHECK_OFFER.min(taken)
        && backend.has_option("spop-check")
    {
        found.error(
            "check-frame-size",
            bufsize.place,
            format!(
                "option spop-check of backend '{}' offers frames of {CHECK_OFFER} bytes, and counts an \
                 agent as down that takes more than these buffers hold",
                backend.name()
            ),
            format!("lower the agent's --max-frame-size to {largest}, or raise tune.bufsize to 16384"),
        );
    }
}

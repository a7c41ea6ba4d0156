//! Malformed frames: mutations of good ones, each on a connection of its own.
//!
//! A frame is made of the seed and its number alone, so one that did harm can be sent again by
//! itself. What the agent answers is its own affair as long as it is a frame: what counts is that
//! nothing hangs, that nobody dies, and that others are served.

use std::ops::RangeInclusive;
use std::time::Instant;

use ringspoa::spop::FrameType;

use super::frames::{self, FIN, NOTIFY, UNSET};
use super::judge::describe;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, Peer};
use super::{Hostile, Rule};
use crate::profile::Random;

/// Frames between two new connections that must be served, and so the most that wait for a refusal.
const BATCH: u64 = 64;

/// Frames an agent may answer one malformed connection with.
const MAX_ANSWERS: usize = 1_000;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "X1",
    name: "malformed-frames",
    text: "mutated frames (--hostile) are refused or answered with frames; nothing hangs, others are served",
    why: "An agent that dies of what one peer sends fails the requests of all connections, in all versions of \
        HAProxy, and one that hangs runs out of descriptors.",
    check: super::Check::Hostile(malformed_frames),
}];

fn malformed_frames(trial: &Trial<'_>, hostile: &Hostile) -> Judged {
    let until = Instant::now() + hostile.duration;
    let (first, last) = match hostile.only_frame {
        Some(number) => (number, number),
        None => (1, hostile.frames),
    };
    let mut witness = trial.introduced()?;
    witness.ask("a message of the profile", (1, 1), trial.payload(0))?;
    let mut next = first;
    while next <= last && Instant::now() < until {
        let batch_last = last.min(next + BATCH - 1);
        batch(trial, &mut witness, hostile.seed, next..=batch_last)
            .and_then(|()| trial.still_answers("malformed frames"))
            .map_err(|stop| named(hostile.seed, next, batch_last, stop))?;
        next = batch_last + 1;
    }
    let sent = next - first;
    trial.note(format!("seed {}, {sent} frames sent", hostile.seed));
    if sent < last - first + 1 {
        trial.note("--hostile-seconds were over before --hostile-frames were sent");
    }
    Ok(())
}

/// Names seed and frames, if the frame is not known already, so that the failure can be repeated.
fn named(seed: u64, first: u64, last: u64, stop: Stop) -> Stop {
    let text = |text: String| match text.strip_prefix("frame ") {
        Some(named) => {
            let number = named.split(':').next().unwrap_or_default();
            format!(
                "seed {seed}, {text} (once more: --only X1 --hostile --seed {seed} --hostile-frame {number}, \
                 and the same message and --max-frame-size)"
            )
        }
        None if first == last => format!("seed {seed}, frame {first}: {text}"),
        None => format!("seed {seed}, one of the frames {first} to {last}: {text}"),
    };
    match stop {
        Stop::Failed(what) => Stop::Failed(text(what)),
        Stop::Gone(what) => Stop::Gone(text(what)),
        other => other,
    }
}

/// Sends some frames, each on a connection of its own, and reads what comes to its end: behind a good
/// HELLO at once, and else after all are sent, as an agent may take its time to refuse a HELLO.
fn batch(
    trial: &Trial<'_>,
    witness: &mut Peer<'_>,
    seed: u64,
    numbers: RangeInclusive<u64>,
) -> Judged {
    let mut waiting = Vec::new();
    for number in numbers {
        let attack = Attack::new(trial, seed, number);
        let what = format!("frame {number}: {}", attack.what);
        let mut peer = if attack.introduced {
            trial.introduced()?
        } else {
            let mut peer = trial.connect()?;
            // What a mutated HELLO offers is not sure.
            peer.max_frame_size = peer.max_frame_size.max(1 << 20);
            peer
        };
        peer.send(&what, &attack.bytes)
            .map_err(|stop| numbered(number, stop))?;
        peer.finish();
        if attack.introduced {
            read_to_end(&mut peer)
                .and_then(|()| others_are_served(trial, witness))
                .map_err(|stop| numbered(number, stop))?;
        } else {
            waiting.push((number, what, attack.bytes, peer));
        }
    }
    for (number, what, bytes, mut peer) in waiting {
        read_to_end(&mut peer).map_err(|stop| {
            trial.recall(peer.number(), &what, &bytes);
            numbered(number, stop)
        })?;
    }
    others_are_served(trial, witness)
}

fn others_are_served(trial: &Trial<'_>, witness: &mut Peer<'_>) -> Judged {
    let asked = witness.ask("a message of the profile", (3, 1), trial.payload(0));
    asked.map(drop).map_err(|stop| match stop {
        Stop::Failed(text) => {
            Stop::Failed(format!("another connection is not served any more: {text}"))
        }
        other => other,
    })
}

fn numbered(number: u64, stop: Stop) -> Stop {
    match stop {
        Stop::Failed(text) => Stop::Failed(format!("frame {number}: {text}")),
        other => other,
    }
}

fn read_to_end(peer: &mut Peer<'_>) -> Judged {
    for _ in 0..MAX_ANSWERS {
        match peer.receive()? {
            Came::End(_) => return Ok(()),
            Came::Frame(owned) => {
                let frame = owned.frame();
                let sent_by_agents = matches!(
                    frame.frame_type,
                    FrameType::AgentHello | FrameType::AgentDisconnect | FrameType::Ack
                );
                if !sent_by_agents || !frame.flags.is_fin() {
                    return Err(Stop::failed(format!(
                        "it was answered with {}, which no agent may send",
                        describe(&frame)
                    )));
                }
            }
            Came::Junk(why) => {
                return Err(Stop::failed(format!(
                    "it was answered with no frame: {why}"
                )));
            }
            Came::Silence => {
                return Err(Stop::failed(
                    "our side was closed after it, and the agent did not close in time",
                ));
            }
        }
    }
    Err(Stop::failed(format!(
        "it was answered with {MAX_ANSWERS} frames"
    )))
}

/// A malformed frame, or a few.
struct Attack {
    /// Whether a good HELLO goes before it.
    introduced: bool,
    what: String,
    bytes: Vec<u8>,
}

impl Attack {
    fn new(trial: &Trial<'_>, seed: u64, number: u64) -> Self {
        // Two numbers apart have nothing in common: this is the step of SplitMix64.
        let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..4 {
            random.next();
        }
        let payload = trial.payload(random.below(64) as usize);
        let half = payload.len() / 2;
        let (introduced, base, bytes) = match random.below(6) {
            0 => (
                false,
                "HAPROXY-HELLO",
                frames::hello(trial.offer(), "pipelining"),
            ),
            1 => (false, "a health check", frames::health_check()),
            2 => (true, "HAPROXY-DISCONNECT", frames::disconnect(0)),
            3 => {
                let fragments = [
                    frames::frame(NOTIFY, 0, (1, 1), &payload[..half]),
                    frames::frame(UNSET, FIN, (1, 1), &payload[half..]),
                ];
                (true, "a fragmented NOTIFY", fragments.concat())
            }
            4 => {
                let three = [1, 3, 5].map(|id| frames::notify(id, 1, payload));
                (true, "three NOTIFYs", three.concat())
            }
            _ => (true, "a NOTIFY", frames::notify(300, 1, payload)),
        };
        let mut bytes = bytes;
        let mut changes = Vec::new();
        for _ in 0..=random.below(3) {
            changes.push(mutate(&mut random, &mut bytes));
        }
        Self {
            introduced,
            what: format!("{base}, {}", changes.join(", ")),
            bytes,
        }
    }
}

/// Changes bytes in one of several ways, and says how.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) -> String {
    const LENGTHS: [u32; 8] = [0, 6, 7, 255, 16_381, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    const VARINTS: [&[u8]; 4] = [
        b"\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xf0\x80\x80\x80\x80",
        b"\xef",
    ];
    let any = |random: &mut Random, len: usize| {
        let limit = u32::try_from(len).unwrap_or(u32::MAX).max(1);
        random.below(limit) as usize
    };
    let low_byte = |random: &mut Random| random.below(256).to_le_bytes()[0];
    let at = any(random, bytes.len());
    match random.below(9) {
        0 if !bytes.is_empty() => {
            let bit = random.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        1 if !bytes.is_empty() => {
            bytes[at] = low_byte(random);
            format!("byte {at} is 0x{:02x}", bytes[at])
        }
        2 => {
            bytes.truncate(at);
            format!("cut after {at} bytes")
        }
        3 => {
            let count = 1 + any(random, 16);
            let more: Vec<u8> = (0..count).map(|_| low_byte(random)).collect();
            bytes.splice(at..at, more);
            format!("{count} bytes put in at {at}")
        }
        4 => {
            let end = bytes.len().min(at + 1 + any(random, 16));
            bytes.drain(at..end);
            format!("bytes {at} to {end} left out")
        }
        5 if bytes.len() >= 4 => {
            let len = LENGTHS[any(random, LENGTHS.len())];
            bytes[..4].copy_from_slice(&len.to_be_bytes());
            format!("length {len}")
        }
        6 => {
            let varint = VARINTS[any(random, VARINTS.len())];
            let end = bytes.len().min(at + varint.len());
            bytes.splice(at..end, varint.iter().copied());
            format!("a varint of {} bytes over byte {at}", varint.len())
        }
        7 if bytes.len() >= 9 => {
            let flags = random.next().to_le_bytes();
            bytes[5..9].copy_from_slice(&flags[..4]);
            "any flags".to_owned()
        }
        _ => {
            let copy = bytes.clone();
            bytes.splice(at..at, copy);
            format!("itself put in at {at}")
        }
    }
}

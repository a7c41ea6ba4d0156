//! What the agent writes: actions, their values and variables, the size of ACKs, its goodbye.

use ringspoa::spop::{Disconnect, FrameType, Scope, TypedData, Variable, VariableError};

use super::Rule;
use super::frames;
use super::handshake::refused_hello;
use super::judge::{RawAction, judge_actions};
use super::messages::filled;
use super::notify::IN_FLIGHT;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, Owned};

/// NOTIFYs asked for their ACKs: enough for both answers of a mix of addresses.
const SAMPLES: usize = 48;

/// The longest reason HAProxy up to 3.0 takes.
const MAX_REASON_LEN: usize = 255;

pub(super) const RULES: &[Rule] = &[
    Rule::played(
        "A45",
        "booleans",
        "booleans are set with type byte 0x11 or 0x01",
        "All versions of HAProxy take a BOOL for true only if its high nibble is exactly 1: 0x31 is false.",
        booleans,
    ),
    Rule::played(
        "A45b",
        "strings",
        "strings are set with type byte 0x08 exactly",
        "All versions of HAProxy compare the whole byte: a STRING with any other bit becomes a binary.",
        strings,
    ),
    Rule::played(
        "A45c",
        "negative-integers",
        "negative integers are extended to 64 bits, whatever their type",
        "All versions of HAProxy read integers as 64 bits: an INT32 of -1 sent as 0xffffffff becomes \
         4294967295.",
        negative_integers,
    ),
    Rule::played(
        "A46",
        "variable-names",
        "variables have letters, digits, '_' and '.' in their names, and 61 bytes with their scope at most",
        "All versions of HAProxy leave other variables unset without a word: the request goes on as if the \
         agent had said nothing.",
        variable_names,
    ),
    Rule::played(
        "A47",
        "ack-size",
        "ACKs stay below max-frame-size, whatever is asked",
        "HAProxy up to 3.0 disconnects with status 3 on a longer ACK and fails all requests of the connection; \
         3.1 to 3.5-dev5 stop reading it, even at exactly the size offered by default.",
        ack_size,
    ),
    Rule::not_covered(
        "A48",
        "null-values",
        "setting a variable to NULL is documented as unsetting it",
        "All versions of HAProxy since 2.3 unset a variable that is set to NULL.",
        "not covered: it is a rule for the interface of the agent's library",
    ),
    Rule::played(
        "A49",
        "empty-acks",
        "for HAProxy 3.1.0, no ACK is without actions (told, never failed)",
        "HAProxy 3.1.0 lets a request wait until timeout processing after an empty ACK; all others take it.",
        empty_acks,
    ),
    Rule::played(
        "A50",
        "disconnect-frames",
        "AGENT-DISCONNECT has FIN, ids 0/0, status-code and message, which has 255 bytes at most",
        "HAProxy up to 3.0 ignores one with a longer message, so its requests wait until timeout processing; \
         the spec wants both keys.",
        disconnect_frames,
    ),
    Rule::played(
        "A51",
        "actions",
        "every action of every ACK can be parsed: type, number of arguments, scope, name, value",
        "All versions of HAProxy drop an action they cannot parse and all behind it, without a word.",
        actions,
    ),
];

/// ACKs of all sorts of NOTIFYs, one after the other.
fn samples(trial: &Trial<'_>) -> Result<Vec<Owned>, Stop> {
    let mut peer = trial.introduced()?;
    let mut acks = Vec::new();
    for (index, id) in (0..SAMPLES).zip(1..) {
        acks.push(peer.ask("a message of the profile", (id, 1), trial.payload(index))?);
    }
    let name = trial.message();
    let others = [
        ("no message", Vec::new()),
        (
            "the known message without arguments",
            frames::message(name, &[]),
        ),
        (
            "an unknown message",
            frames::message("no-such-message", &[]),
        ),
    ];
    for ((what, payload), id) in others.iter().zip(1_000..) {
        acks.push(peer.ask(what, (id, 1), payload)?);
    }
    Ok(acks)
}

/// Judges each action of many ACKs; not applicable if there is none of the kind.
fn each_action(
    trial: &Trial<'_>,
    kind: &str,
    mut judge: impl FnMut(&RawAction<'_>) -> Result<bool, String>,
) -> Judged {
    let mut seen = false;
    for ack in samples(trial)? {
        // What cannot be parsed is the business of rule A51.
        let Ok(actions) = judge_actions(ack.frame().payload) else {
            continue;
        };
        for action in &actions {
            seen |= judge(action).map_err(Stop::failed)?;
        }
    }
    if seen {
        return Ok(());
    }
    Err(Stop::NotApplicable(format!(
        "no ACK set {kind}: if the agent can, give a message it answers so, with --message or --profile"
    )))
}

fn booleans(trial: &Trial<'_>) -> Judged {
    each_action(trial, "a boolean", |action| match action.type_byte() {
        Some(0x01 | 0x11) => Ok(true),
        Some(byte) if byte & 0x0f == 1 => Err(format!(
            "{} is set to a BOOL of type byte 0x{byte:02x}",
            action.variable()
        )),
        _ => Ok(false),
    })
}

fn strings(trial: &Trial<'_>) -> Judged {
    each_action(trial, "a string", |action| match action.type_byte() {
        Some(0x08) => Ok(true),
        Some(byte) if byte & 0x0f == 8 => Err(format!(
            "{} is set to a STRING of type byte 0x{byte:02x}",
            action.variable()
        )),
        _ => Ok(false),
    })
}

fn negative_integers(trial: &Trial<'_>) -> Judged {
    // Positive INT32s end at 2^31-1, and negative ones are the last 2^31 numbers of 64 bits.
    const FIRST_WRONG: u64 = 1 << 31;
    const FIRST_NEGATIVE: u64 = u64::MAX - (1 << 31) + 1;
    each_action(trial, "a signed integer", |action| {
        let Some(number) = action.integer() else {
            return Ok(false);
        };
        let is_int32 = action.type_byte().is_some_and(|byte| byte & 0x0f == 2);
        let is_int64 = action.type_byte().is_some_and(|byte| byte & 0x0f == 4);
        if is_int32 && (FIRST_WRONG..FIRST_NEGATIVE).contains(&number) {
            return Err(format!(
                "{} is set to INT32 {number}, which is no 32-bit integer extended to 64 bits",
                action.variable()
            ));
        }
        Ok(is_int32 || is_int64)
    })
}

fn variable_names(trial: &Trial<'_>) -> Judged {
    each_action(trial, "any variable", |action| {
        let shown = action.variable();
        let name = std::str::from_utf8(action.name)
            .map_err(|_| format!("the name of {shown} is no text"))?;
        let scope = Scope::from_name(action.scope).unwrap_or(Scope::Transaction);
        match Variable::new(scope, name) {
            // HAProxy takes an empty name.
            Ok(_) | Err(VariableError::Empty) => Ok(true),
            Err(error) => Err(format!("{shown}: {error}")),
        }
    })
}

fn ack_size(trial: &Trial<'_>) -> Judged {
    let offer = trial.offer();
    for size in [256, offer] {
        let mut peer = trial.connect()?;
        peer.max_frame_size = size;
        peer.send(
            &format!("HAPROXY-HELLO, max-frame-size {size}"),
            &frames::hello(size, "pipelining"),
        )?;
        peer.expect_hello(size)?;
        let agreed = peer.max_frame_size as usize;
        let mut asked = vec![
            ("a frame of the largest size", filled(trial, agreed)),
            ("no message", Vec::new()),
        ];
        let text = vec![b'y'; agreed / 2];
        let half = [("a", TypedData::String(&text)), ("b", TypedData::Null)];
        asked.push(("half a frame", frames::message(trial.message(), &half)));
        for index in 0..8 {
            let payload = trial.payload(index);
            if payload.len() + 16 <= agreed {
                asked.push(("a message of the profile", payload.to_vec()));
            }
        }
        let mut total = 0;
        for ((what, payload), id) in asked.iter().zip(1..) {
            let ack = peer.ask(what, (id, 1), payload)?;
            total += ack.bytes().len();
            // HAProxy offers what its buffer holds, unless it is told to offer less.
            if size == offer && ack.frame_len() >= offer as usize {
                return Err(Stop::failed(format!(
                    "the ACK has {} bytes, which fill a buffer of the size that was offered",
                    ack.frame_len()
                )));
            }
        }
        let burst = total / asked.len() * usize::try_from(IN_FLIGHT).unwrap_or(20);
        if size == offer && burst > offer as usize {
            trial.note(format!(
                "20 ACKs as these take {burst} bytes: if they come together they can fill a buffer of HAProxy \
                 3.1 to 3.5-dev5, which then stops reading"
            ));
        }
    }
    Ok(())
}

fn empty_acks(trial: &Trial<'_>) -> Judged {
    let empty = samples(trial)?
        .iter()
        .filter(|ack| ack.frame().payload.is_empty())
        .count();
    if empty == 0 {
        return Ok(());
    }
    Err(Stop::NotApplicable(format!(
        "{empty} of {} ACKs had no actions: that matters to HAProxy 3.1.0 alone, so it is told and not judged",
        SAMPLES + 3
    )))
}

fn disconnect_frames(trial: &Trial<'_>) -> Judged {
    let refused = refused_hello(trial)?;
    let mut peer = trial.introduced()?;
    peer.send("HAPROXY-DISCONNECT, status 0", &frames::disconnect(0))?;
    let goodbyes: Vec<Owned> = [refused, peer.receive()?]
        .into_iter()
        .filter_map(|came| match came {
            Came::Frame(owned) => Some(owned),
            _ => None,
        })
        .filter(|owned| owned.frame().frame_type == FrameType::AgentDisconnect)
        .collect();
    if goodbyes.is_empty() {
        return Err(Stop::NotApplicable(
            "the agent closes connections without AGENT-DISCONNECT".to_owned(),
        ));
    }
    for owned in goodbyes {
        let disconnect = Disconnect::decode(&owned.frame())
            .map_err(|error| Stop::failed(format!("AGENT-DISCONNECT: {error}")))?;
        let len = disconnect.reason.len();
        if len > MAX_REASON_LEN {
            return Err(Stop::failed(format!(
                "the message of AGENT-DISCONNECT has {len} bytes"
            )));
        }
        if !has_key(owned.frame().payload, b"message") {
            return Err(Stop::failed("AGENT-DISCONNECT has no message"));
        }
    }
    Ok(())
}

/// Whether the bytes of a key, its length before it, are there. Decoding takes a missing one for empty.
fn has_key(payload: &[u8], key: &[u8]) -> bool {
    let len = u8::try_from(key.len()).unwrap_or(u8::MAX);
    let encoded = [&[len], key].concat();
    payload.windows(encoded.len()).any(|part| part == encoded)
}

fn actions(trial: &Trial<'_>) -> Judged {
    for ack in samples(trial)? {
        let frame = ack.frame();
        judge_actions(frame.payload).map_err(|error| {
            Stop::failed(format!(
                "the ACK of {}/{} cannot be parsed: {error}",
                frame.stream_id, frame.frame_id
            ))
        })?;
    }
    Ok(())
}

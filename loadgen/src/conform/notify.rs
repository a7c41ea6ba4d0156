//! NOTIFY: exactly one ACK for each, with its own ids, whatever is in it.

use std::collections::BTreeSet;

use ringspoa::spop::FrameType;

use super::Rule;
use super::frames;
use super::messages;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, Peer, shown};

/// NOTIFYs in flight on one connection: what HAProxy has at most, by default or always.
pub(super) const IN_FLIGHT: u64 = 20;

/// What an id costs that HAProxy did not give out.
const BAD_ID: &str = "HAProxy 3.1 and later ignore whatever comes on a connection after an ACK of ids they \
    never gave out, so all its requests, up to 20, wait until timeout processing; up to \
    3.0 the one request does.";

/// What a missing ACK costs.
const NO_ACK: &str = "Without an ACK the request waits until timeout processing in all versions of \
    HAProxy, and one up to 3.0 without pipelining uses the connection no more until \
    timeout idle.";

pub(super) const RULES: &[Rule] = &[
    Rule::played(
        "N16",
        "known-message",
        "a NOTIFY of the profile gets exactly one ACK, with its ids and FIN",
        "A request waits until timeout processing without its ACK; a second ACK fails it in HAProxy 3.1.0; \
         one without FIN fails all requests of the connection up to 3.0 and stops 3.1 and later reading it.",
        known_message,
    ),
    Rule::played(
        "N17",
        "stream-id-0",
        "stream-id 0 is an id like any other",
        "The first stream of a process of HAProxy up to 3.0 has the id 0: its request would wait until \
         timeout processing.",
        stream_id_0,
    ),
    Rule::played(
        "N18",
        "wide-ids",
        "stream-ids and frame-ids of up to 32 bits are echoed exactly",
        BAD_ID,
        wide_ids,
    ),
    Rule::played(
        "N18b",
        "ids-beyond-32-bits",
        "ids of more than 32 bits are echoed exactly, or refused",
        "By the spec ids are varints of up to 64 bits and an ACK has those of its NOTIFY; HAProxy's own have \
         32 bits so far, and a wrong one stops 3.1 and later reading the connection.",
        ids_beyond_32_bits,
    ),
    Rule::played(
        "N19",
        "empty-notify",
        "a NOTIFY without any message gets an ACK",
        "HAProxy 3.1.0 to 3.3-dev6 send one where no message's ACL is true, and the request waits until \
         timeout processing.",
        empty_notify,
    ),
    Rule::played(
        "N20",
        "shapes-of-messages",
        "no argument, 255 of them, without names, of one name, two messages in a NOTIFY: one ACK each",
        NO_ACK,
        messages::shapes_of_messages,
    ),
    Rule::played(
        "N21",
        "values-of-every-type",
        "arguments of every type HAProxy sends are taken: NULL, empty, negative, bytes that are no UTF-8",
        "HAProxy sends NULL for what it could not fetch and strings as bytes: a request with such a value \
         waits until timeout processing, or takes its connection along.",
        messages::values_of_every_type,
    ),
    Rule::played(
        "N21b",
        "values-of-unused-types",
        "INT32, UINT32 and UINT64 are taken as arguments",
        "The spec has these types, though no HAProxy so far sends them as arguments.",
        messages::values_of_unused_types,
    ),
    Rule::played(
        "N21c",
        "largest-notify",
        "a NOTIFY that fills max-frame-size to the last byte gets an ACK",
        "HAProxy sends frames of up to the max-frame-size agreed on: larger headers or bodies would lose \
         their answer, and with it, if the connection ends, those of up to 19 others.",
        messages::largest_notify,
    ),
    Rule::played(
        "N22",
        "unknown-message",
        "a message the agent does not know gets an ACK, and the connection goes on",
        "One message name mistyped in spoe.cfg otherwise makes every request wait until timeout processing, \
         or ends the connection of up to 19 others.",
        messages::unknown_message,
    ),
    Rule::played(
        "N23",
        "twenty-in-one-write",
        "20 NOTIFYs in one write get 20 ACKs, each id once, in any order, no frame inside another",
        BAD_ID,
        twenty_in_one_write,
    ),
    Rule::played(
        "N24",
        "same-ids-on-two-connections",
        "the same ids on two connections at once are two NOTIFYs, each answered where it came from",
        "Every connection of HAProxy 3.1 and later begins with stream-id 1, and in all versions an ACK counts \
         where it comes: on another connection it answers somebody else's request, or nobody's.",
        same_ids_on_two_connections,
    ),
    Rule::played(
        "N25",
        "two-frames-of-one-stream",
        "frame-ids 1 and 2 of one stream in flight are both answered",
        "HAProxy up to 3.0 counts the events of a stream by frame-id: one would wait until timeout processing.",
        two_frames_of_one_stream,
    ),
    Rule::played(
        "N26",
        "arguments-the-agent-does-not-expect",
        "the known message without arguments, or all of them NULL or strings, gets an ACK",
        "A fetch that fails is NULL, so such requests come: without an ACK each waits until timeout \
         processing, and an agent that disconnects fails up to 19 others.",
        messages::odd_arguments,
    ),
    Rule::not_covered(
        "N27",
        "late-ack",
        "a late answer is still sent, once",
        "HAProxy up to 3.0 without pipelining keeps a connection blocked until the late ACK comes.",
        "not covered: it takes a message that the agent is slow to answer",
    ),
    Rule::played(
        "N28",
        "no-waiting-for-more-input",
        "without pipelining, each of 50 NOTIFYs gets its ACK before the next is sent",
        "A HAProxy without pipelining sends the next NOTIFY after the ACK: an agent that waits for more input \
         first makes each request wait until timeout processing.",
        no_waiting,
    ),
];

fn known_message(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.ask("a message of the profile", (1, 1), trial.payload(0))?;
    peer.expect_nothing("one ACK is due for a NOTIFY")?;
    for index in 1..8_u8 {
        let ids = (1 + 2 * u64::from(index), 1);
        peer.ask(
            "a message of the profile",
            ids,
            trial.payload(usize::from(index)),
        )?;
    }
    peer.expect_nothing("one ACK is due for each NOTIFY")
}

fn stream_id_0(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.ask("a message of the profile", (0, 1), trial.payload(0))?;
    Ok(())
}

fn wide_ids(trial: &Trial<'_>) -> Judged {
    let ids: [u64; 9] = [
        239,
        240,
        2_287,
        2_288,
        65_537,
        264_432,
        0x7fff_ffff,
        0x8000_0001,
        u64::from(u32::MAX),
    ];
    let mut peer = trial.introduced()?;
    for id in ids {
        peer.ask("a message of the profile", (id, 1), trial.payload(0))?;
        peer.ask("a message of the profile", (1, id), trial.payload(0))?;
    }
    Ok(())
}

fn ids_beyond_32_bits(trial: &Trial<'_>) -> Judged {
    for ids in [(0x1_0000_0001, 1), (1, 0x1_0000_0001), (u64::MAX, 1)] {
        let mut peer = trial.introduced()?;
        let what = format!("NOTIFY {}/{}: a message of the profile", ids.0, ids.1);
        peer.send(&what, &frames::notify(ids.0, ids.1, trial.payload(0)))?;
        answered_or_refused(&mut peer, ids)?;
    }
    trial.still_answers("ids of more than 32 bits")
}

/// Takes the ACK of these ids, or a refusal of something no HAProxy sends; says whether it was the ACK.
pub(super) fn answered_or_refused(peer: &mut Peer<'_>, ids: (u64, u64)) -> Result<bool, Stop> {
    match peer.receive()? {
        Came::End(_) => Ok(false),
        Came::Frame(owned) => {
            let frame = owned.frame();
            let right = (frame.stream_id.0, frame.frame_id.0) == ids;
            match frame.frame_type {
                FrameType::AgentDisconnect => Ok(false),
                FrameType::Ack if right => Ok(true),
                _ => Err(Stop::failed(format!(
                    "the ACK of stream-id {}, frame-id {} was due, and {} came",
                    ids.0,
                    ids.1,
                    super::judge::describe(&frame)
                ))),
            }
        }
        came => Err(Stop::failed(format!(
            "a NOTIFY of ids {}/{} must be answered or refused, but {}",
            ids.0,
            ids.1,
            shown(&came)
        ))),
    }
}

fn empty_notify(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.ask("no message", (1, 1), b"")?;
    peer.ask("a message of the profile", (3, 1), trial.payload(0))?;
    Ok(())
}

/// Sends NOTIFYs with these ids in one write and takes an ACK for each, in any order.
pub(super) fn ask_all(trial: &Trial<'_>, peer: &mut Peer<'_>, ids: &[(u64, u64)]) -> Judged {
    let mut all = Vec::new();
    for (index, &(stream_id, frame_id)) in ids.iter().enumerate() {
        all.extend(frames::notify(stream_id, frame_id, trial.payload(index)));
    }
    peer.send(&format!("{} NOTIFYs in one write", ids.len()), &all)?;
    expect_all(peer, ids)
}

/// Takes an ACK for each of these ids, in any order.
pub(super) fn expect_all(peer: &mut Peer<'_>, ids: &[(u64, u64)]) -> Judged {
    let mut due: BTreeSet<_> = ids.iter().copied().collect();
    while !due.is_empty() {
        let owned = peer.expect_any_ack().map_err(|stop| match stop {
            Stop::Failed(text) => Stop::Failed(format!(
                "{} of {} ACKs are missing: {text}",
                due.len(),
                ids.len()
            )),
            other => other,
        })?;
        let frame = owned.frame();
        let came = (frame.stream_id.0, frame.frame_id.0);
        if !due.remove(&came) {
            let again = if ids.contains(&came) {
                "a second ACK came for"
            } else {
                "an ACK came of ids never sent,"
            };
            return Err(Stop::failed(format!("{again} {}/{}", came.0, came.1)));
        }
    }
    Ok(())
}

fn twenty_in_one_write(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.needs("pipelining")?;
    let ids: Vec<_> = (0..IN_FLIGHT).map(|n| (1 + 2 * n, 1)).collect();
    for _ in 0..3 {
        ask_all(trial, &mut peer, &ids)?;
    }
    peer.expect_nothing("one ACK is due for each NOTIFY")
}

fn same_ids_on_two_connections(trial: &Trial<'_>) -> Judged {
    let mut first = trial.introduced()?;
    let mut second = trial.introduced()?;
    for round in 0..10 {
        let payloads = [trial.payload(2 * round), trial.payload(2 * round + 1)];
        first.send(
            "NOTIFY 1/1: a message of the profile",
            &frames::notify(1, 1, payloads[0]),
        )?;
        second.send(
            "NOTIFY 1/1: a message of the profile",
            &frames::notify(1, 1, payloads[1]),
        )?;
        for (peer, which) in [(&mut first, "first"), (&mut second, "second")] {
            peer.expect_ack(1, 1).map_err(|stop| match stop {
                Stop::Failed(text) => Stop::Failed(format!("on the {which} connection: {text}")),
                other => other,
            })?;
        }
    }
    for peer in [&mut first, &mut second] {
        peer.expect_nothing("one ACK is due for each NOTIFY, on its own connection")?;
    }
    Ok(())
}

fn two_frames_of_one_stream(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.needs("pipelining")?;
    ask_all(trial, &mut peer, &[(7, 1), (7, 2)])?;
    peer.expect_nothing("one ACK is due for each NOTIFY")
}

fn no_waiting(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.connect()?;
    peer.introduce("")?;
    for index in 0..50_u8 {
        let ids = (1 + 2 * u64::from(index), 1);
        peer.ask(
            "a message of the profile",
            ids,
            trial.payload(usize::from(index)),
        )?;
    }
    Ok(())
}

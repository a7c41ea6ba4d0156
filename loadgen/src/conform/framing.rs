//! Frames cut, joined, wrong and fragmented.

use ringspoa::spop::FrameType;

use super::Rule;
use super::fragments;
use super::frames::{self, FIN};
use super::judge::describe;
use super::messages::filled;
use super::notify::ask_all;
use super::refusals::answered_somehow;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, Peer, missed};

/// What an agent that dies or hangs on a frame costs.
const HARM: &str = "No HAProxy sends it, but one broken peer must not cost the others: an agent that \
    dies of it fails the requests of all connections, in all versions, and one that \
    hangs keeps the descriptor.";

/// What a fragmented message is worth.
const FRAGMENTS: &str = "HAProxy up to 3.0 splits messages that exceed a frame for an agent that announces \
    fragmentation: such a request waits until timeout processing.";

pub(super) const RULES: &[Rule] = &[
    Rule::played(
        "F29",
        "byte-by-byte",
        "HELLO and NOTIFY are understood when they arrive byte by byte",
        "TCP may cut the frames of all versions of HAProxy anywhere: a request would wait until timeout \
         processing, or the connection end.",
        byte_by_byte,
    ),
    Rule::played(
        "F29b",
        "fifty-in-one-read",
        "50 NOTIFYs that arrive at once get 50 ACKs",
        "HAProxy up to 3.0 puts max-waiting-frames NOTIFYs on a connection, and TCP may join them.",
        fifty_in_one_read,
    ),
    Rule::played(
        "F30",
        "impossible-lengths",
        "lengths 0, 6, 2^31, 2^32-1 and above max-frame-size are refused, before HELLO and after",
        HARM,
        impossible_lengths,
    ),
    Rule::played(
        "F31",
        "cut-frame",
        "a connection that ends inside a frame is closed, without an ACK",
        HARM,
        cut_frame,
    ),
    Rule::played(
        "F32",
        "lengths-that-lie",
        "lengths and counts inside a frame that lie are refused, or answered, and harm nobody",
        HARM,
        lengths_that_lie,
    ),
    Rule::played(
        "F33",
        "fragments",
        "a fragmented NOTIFY, cut anywhere, gets one ACK, of the same answer as the whole",
        FRAGMENTS,
        fragments::whole,
    ),
    Rule::played(
        "F33b",
        "no-early-ack",
        "a fragmented NOTIFY gets its ACK after the last fragment, not before",
        "HAProxy up to 3.0 ignores or uses an early ACK, by chance.",
        fragments::no_early_ack,
    ),
    Rule::played(
        "F34",
        "stray-fragments",
        "a fragment of nothing, and ids used again inside fragments, are refused or ignored: no wrong ACK",
        BAD_ACK,
        fragments::stray_fragments,
    ),
    Rule::played(
        "F35",
        "endless-fragments",
        "a fragmented NOTIFY of 2 MiB gets one ACK, or is given up; others are answered meanwhile",
        "HAProxy up to 3.0 sends what its buffers hold, which is less: but an agent without a bound loses all \
         its memory to one peer.",
        fragments::endless_fragments,
    ),
    Rule::played(
        "F36",
        "aborted-fragments",
        "a fragmented NOTIFY that HAProxy aborts gets no ACK, and the connection goes on",
        "HAProxy up to 3.0 aborts where the stream dies midway, and nobody waits for that ACK.",
        fragments::aborted_fragments,
    ),
    Rule::played(
        "F37",
        "fragments-not-announced",
        "a fragment, where fragmentation was not announced, is answered in some way; nothing hangs",
        HARM,
        fragments::fragments_not_announced,
    ),
    Rule::played(
        "F38",
        "unknown-frame-type",
        "a frame of type 50 is ignored or refused, never answered with an ACK",
        BAD_ACK,
        fragments::unknown_frame_type,
    ),
];

/// What an ACK costs that nobody waits for.
const BAD_ACK: &str = "HAProxy 3.1 and later ignore whatever comes on a connection after an ACK of ids they \
    never gave out; those up to 3.0 ignore the ACK.";

fn byte_by_byte(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.connect()?;
    let offer = trial.offer();
    for byte in frames::hello(offer, "pipelining") {
        peer.send("a byte of HAPROXY-HELLO", &[byte])?;
    }
    peer.expect_hello(offer)?;
    for id in [1, 300] {
        for byte in frames::notify(id, 1, trial.payload(0)) {
            peer.send("a byte of NOTIFY", &[byte])?;
        }
        peer.expect_ack(id, 1)?;
    }
    peer.expect_nothing("one ACK is due for each NOTIFY")
}

fn fifty_in_one_read(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.needs("pipelining")?;
    let ids: Vec<_> = (0..50).map(|n| (n, 1 + n % 3)).collect();
    ask_all(trial, &mut peer, &ids)
}

fn impossible_lengths(trial: &Trial<'_>) -> Judged {
    let after = |len: u32| {
        // Something to read, for an agent that looks for content.
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.resize(4_096, 3);
        (
            format!("a frame of length {len}, and 4092 bytes of it"),
            bytes,
        )
    };
    let lengths = [0, 6, 1 << 31, u32::MAX];
    let cases: Vec<_> = lengths.into_iter().map(after).collect();
    for introduced in [false, true] {
        let peers = trial.send_each(introduced, &cases)?;
        let when = if introduced { "after" } else { "before" };
        for (mut peer, (what, _)) in peers.into_iter().zip(&cases) {
            peer.expect_refusal(&format!("{what}, {when} HELLO,"))?;
        }
    }
    // A whole frame, one byte longer than was ever offered.
    let mut peer = trial.introduced()?;
    let size = trial.offer() as usize + 1;
    peer.send(
        &format!("NOTIFY 1/1 of {size} bytes, one more than was offered"),
        &frames::notify(1, 1, &filled(trial, size)),
    )?;
    taken_or_refused(trial, &mut peer, "a frame longer than was offered")?;
    trial.still_answers("frames of impossible lengths")
}

/// Takes a refusal, or an ACK of 1/1 by an agent that takes more than it must.
fn taken_or_refused(trial: &Trial<'_>, peer: &mut Peer<'_>, what: &str) -> Judged {
    match peer.receive()? {
        Came::End(_) => Ok(()),
        Came::Frame(owned) => {
            let frame = owned.frame();
            match frame.frame_type {
                FrameType::AgentDisconnect => Ok(()),
                FrameType::Ack if (frame.stream_id.0, frame.frame_id.0) == (1, 1) => {
                    trial.note(format!(
                        "{what} is answered with an ACK; no HAProxy sends it"
                    ));
                    Ok(())
                }
                _ => Err(Stop::failed(format!(
                    "{what} must be refused, but {} came",
                    describe(&frame)
                ))),
            }
        }
        came => Err(missed(
            &format!("AGENT-DISCONNECT or a close after {what}"),
            &came,
            trial,
        )),
    }
}

fn cut_frame(trial: &Trial<'_>) -> Judged {
    let whole = frames::notify(1, 1, trial.payload(0));
    for cut in [2, 4, 9, 11, whole.len() - 1] {
        let mut peer = trial.introduced()?;
        let what = format!("the first {cut} of {} bytes of NOTIFY 1/1", whole.len());
        peer.send(&what, &whole[..cut])?;
        peer.finish();
        peer.expect_refusal("a connection that ended inside a frame")?;
    }
    trial.still_answers("frames that were cut")
}

fn lengths_that_lie(trial: &Trial<'_>) -> Judged {
    const LONGEST: &[u8] = b"\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e";
    let long = |start: &[u8], end: &[u8]| [start, LONGEST, end].concat();
    let message = frames::raw_message(trial.message(), &[]);
    // The known message with a count of arguments and what follows it.
    let with = |count: u8, rest: &[u8]| [&message[..message.len() - 1], &[count], rest].concat();
    let payloads: Vec<(&str, Vec<u8>)> = vec![
        (
            "a string of 2^64-1 bytes",
            with(1, &long(b"\x01a\x08", b"")),
        ),
        (
            "a varint of 11 bytes",
            with(1, b"\x01a\x04\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x8e\x00"),
        ),
        ("a name of 2^64-1 bytes", long(b"", b"")),
        ("a name past the end", b"\x40m".to_vec()),
        ("an argument's name past the end", with(1, b"\xef")),
        ("more arguments than there are", with(255, b"\x01a\x00")),
        ("no count of arguments", b"\x01m".to_vec()),
        ("an address that is cut", with(1, b"\x01a\x06\x01\x02")),
    ];
    let cases: Vec<_> = payloads
        .into_iter()
        .map(|(what, payload)| {
            (
                format!("NOTIFY 1/1 with {what}"),
                frames::notify(1, 1, &payload),
            )
        })
        .collect();
    let peers = trial.send_each(true, &cases)?;
    for (mut peer, (what, _)) in peers.into_iter().zip(&cases) {
        taken_or_refused(trial, &mut peer, what)?;
    }
    let hellos: [(&str, Vec<u8>); 3] = [
        ("a key of 2^64-1 bytes", long(b"", b"")),
        (
            "a version list of 2^64-1 bytes",
            long(b"\x12supported-versions\x08", b""),
        ),
        (
            "a varint of 11 bytes",
            b"\x0emax-frame-size\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00".to_vec(),
        ),
    ];
    let cases: Vec<_> = hellos
        .into_iter()
        .map(|(what, payload)| {
            (
                format!("HAPROXY-HELLO with {what}"),
                frames::frame(frames::HAPROXY_HELLO, FIN, (0, 0), &payload),
            )
        })
        .collect();
    answered_somehow(trial, &cases)?;
    trial.still_answers("lengths that lie")
}

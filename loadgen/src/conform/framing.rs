//! Frames cut, joined, wrong and fragmented.

use std::ops::Range;

use ringspoa::spop::{Flags, FrameType};

use super::Rule;
use super::frames::{self, ABORT, FIN, NOTIFY, UNSET};
use super::handshake::answered_somehow;
use super::judge::describe;
use super::notify::{answered_or_refused, ask_all, filled};
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, Owned, Peer, missed, shown};

/// What an agent that dies or hangs on a frame costs.
const HARM: &str = "No HAProxy sends it, but one broken peer must not cost the others: an agent that dies of it fails the \
    requests of all connections, in all versions, and one that hangs keeps the descriptor.";

/// What a fragmented message is worth.
const FRAGMENTS: &str = "HAProxy up to 3.0 splits messages that exceed a frame for an agent that announces \
    fragmentation: such a request waits until timeout processing.";

/// Fragments of the endless message and the bytes of each: 2 MiB, above what agents mostly take.
const ENDLESS: Range<usize> = 0..256;
const PIECE_LEN: usize = 8_192;

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
        fragments,
    ),
    Rule::played(
        "F33b",
        "no-early-ack",
        "a fragmented NOTIFY gets its ACK after the last fragment, not before",
        "HAProxy up to 3.0 ignores or uses an early ACK, by chance.",
        no_early_ack,
    ),
    Rule::played(
        "F34",
        "stray-fragments",
        "a fragment of nothing, and ids used again inside fragments, are refused or ignored: no wrong ACK",
        BAD_ACK,
        stray_fragments,
    ),
    Rule::played(
        "F35",
        "endless-fragments",
        "a fragmented NOTIFY of 2 MiB gets one ACK, or is given up; others are answered meanwhile",
        "HAProxy up to 3.0 sends what its buffers hold, which is less: but an agent without a bound loses all \
         its memory to one peer.",
        endless_fragments,
    ),
    Rule::played(
        "F36",
        "aborted-fragments",
        "a fragmented NOTIFY that HAProxy aborts gets no ACK, and the connection goes on",
        "HAProxy up to 3.0 aborts where the stream dies midway, and nobody waits for that ACK.",
        aborted_fragments,
    ),
    Rule::played(
        "F37",
        "fragments-not-announced",
        "a fragment, where fragmentation was not announced, is answered in some way; nothing hangs",
        HARM,
        fragments_not_announced,
    ),
    Rule::played(
        "F38",
        "unknown-frame-type",
        "a frame of type 50 is ignored or refused, never answered with an ACK",
        BAD_ACK,
        unknown_frame_type,
    ),
];

/// What an ACK costs that nobody waits for.
const BAD_ACK: &str = "HAProxy 3.1 and later ignore whatever comes on a connection after an ACK of ids they never gave out; \
    those up to 3.0 ignore the ACK.";

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

/// A connection that announced fragmentation, and a payload whose answer tells it from an empty one.
fn with_fragments<'t>(trial: &'t Trial<'_>) -> Result<(Peer<'t>, &'t [u8], Option<Owned>), Stop> {
    let mut peer = trial.introduced()?;
    peer.needs("fragmentation")?;
    let empty = peer.ask("no message", (1, 1), b"")?;
    for index in 0..16 {
        let payload = trial.payload(index);
        let whole = peer.ask("a message of the profile", (1, 1), payload)?;
        if whole.frame().payload == empty.frame().payload {
            continue;
        }
        let again = peer.ask("the same again", (1, 1), payload)?;
        if again == whole {
            return Ok((peer, payload, Some(whole)));
        }
    }
    trial.note(
        "the agent answers the profile as it answers nothing, or each time anew: what it made of the \
         fragments could not be seen",
    );
    let payload = trial.payload(0);
    Ok((peer, payload, None))
}

fn fragments(trial: &Trial<'_>) -> Judged {
    let (mut peer, payload, expected) = with_fragments(trial)?;
    for cut in 0..=payload.len() {
        let end = payload.len().min(cut + 33);
        let pieces = [&payload[..cut], &payload[cut..end], &payload[end..]];
        let sent = [
            frames::frame(NOTIFY, 0, (1, 1), pieces[0]),
            frames::frame(UNSET, 0, (1, 1), pieces[1]),
            frames::frame(UNSET, FIN, (1, 1), pieces[2]),
        ];
        for piece in &sent {
            peer.send(
                &format!("a fragment of NOTIFY 1/1, cut at {cut} and {end}"),
                piece,
            )?;
        }
        let ack = peer.expect_ack(1, 1)?;
        if expected.as_ref().is_some_and(|expected| ack != *expected) {
            return Err(Stop::failed(format!(
                "fragments cut at {cut} and {end} of {} are answered otherwise than the whole message",
                payload.len()
            )));
        }
    }
    peer.expect_nothing("one ACK is due for a fragmented NOTIFY")
}

fn no_early_ack(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.needs("fragmentation")?;
    let payload = trial.payload(0);
    peer.send(
        "the first fragment of NOTIFY 1/1, with all of the message",
        &frames::frame(NOTIFY, 0, (1, 1), payload),
    )?;
    peer.expect_nothing("the last fragment is not sent yet")?;
    peer.send(
        "the last fragment of NOTIFY 1/1, which is empty",
        &frames::frame(UNSET, FIN, (1, 1), b""),
    )?;
    peer.expect_ack(1, 1)?;
    Ok(())
}

fn stray_fragments(trial: &Trial<'_>) -> Judged {
    trial.introduced()?.needs("fragmentation")?;
    let first = frames::frame(NOTIFY, 0, (1, 1), &trial.payload(0)[..2]);
    let last = frames::frame(UNSET, FIN, (1, 1), &trial.payload(0)[2..]);
    let again = frames::notify(1, 1, trial.payload(0));
    let cases = [
        (
            "a last fragment of a NOTIFY 9/1 never begun".to_owned(),
            frames::frame(UNSET, FIN, (9, 1), b"\x01m\x00"),
        ),
        (
            "a fragment of a NOTIFY 9/1 never begun".to_owned(),
            frames::frame(UNSET, 0, (9, 1), b"\x01m\x00"),
        ),
        (
            "a NOTIFY 1/1 inside the fragments of NOTIFY 1/1".to_owned(),
            [first, again, last].concat(),
        ),
    ];
    let peers = trial.send_each(true, &cases)?;
    for (mut peer, (what, _)) in peers.into_iter().zip(&cases) {
        let mut acks = 0;
        loop {
            let came = peer.receive_within(trial.settle())?;
            match &came {
                Came::End(_) => break,
                Came::Silence => {
                    peer.send(
                        "NOTIFY 33/1: a message of the profile",
                        &frames::notify(33, 1, trial.payload(0)),
                    )?;
                    if answered_or_refused(&mut peer, (33, 1))? {
                        trial.note(format!("{what} is ignored"));
                    }
                    break;
                }
                Came::Frame(owned) => {
                    let frame = owned.frame();
                    let ours = (frame.stream_id.0, frame.frame_id.0) == (1, 1);
                    match frame.frame_type {
                        FrameType::AgentDisconnect => break,
                        FrameType::Ack if ours && acks < 2 => acks += 1,
                        _ => {
                            let text = format!("after {what} {}", shown(&came));
                            return Err(Stop::failed(text));
                        }
                    }
                }
                Came::Junk(_) => {
                    return Err(Stop::failed(format!("after {what} {}", shown(&came))));
                }
            }
        }
    }
    trial.still_answers("stray fragments")
}

fn endless_fragments(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.needs("fragmentation")?;
    let mut witness = trial.introduced()?;
    let piece_len = PIECE_LEN.min(peer.max_frame_size as usize - 32);
    let piece = vec![b'x'; piece_len];
    peer.send(
        "the first fragment of NOTIFY 1/1",
        &frames::frame(NOTIFY, 0, (1, 1), &piece),
    )?;
    let more = frames::frame(UNSET, 0, (1, 1), &piece);
    for _ in ENDLESS {
        peer.send("a fragment of NOTIFY 1/1", &more)?;
    }
    witness.ask("a message of the profile", (1, 1), trial.payload(0))?;
    peer.send(
        "the last fragment of NOTIFY 1/1",
        &frames::frame(UNSET, FIN, (1, 1), b""),
    )?;
    match peer.receive()? {
        Came::End(_) => {}
        Came::Frame(owned) => {
            let frame = owned.frame();
            let aborted = frame.flags == Flags::FIN_ABORT;
            match frame.frame_type {
                FrameType::AgentDisconnect => {}
                FrameType::Ack if (frame.stream_id.0, frame.frame_id.0) == (1, 1) => {
                    if aborted {
                        trial.note("given up with an ACK that has ABORT");
                    }
                }
                _ => {
                    let text = format!("after fragments of 2 MiB {} came", describe(&frame));
                    return Err(Stop::failed(text));
                }
            }
        }
        came => return Err(missed("an answer to fragments of 2 MiB", &came, trial)),
    }
    trial.still_answers("fragments of 2 MiB")
}

fn aborted_fragments(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.needs("fragmentation")?;
    let payload = trial.payload(0);
    peer.send(
        "the first fragment of NOTIFY 1/1",
        &frames::frame(NOTIFY, 0, (1, 1), &payload[..payload.len() / 2]),
    )?;
    peer.send(
        "the abort of NOTIFY 1/1",
        &frames::frame(UNSET, FIN | ABORT, (1, 1), b""),
    )?;
    peer.expect_nothing("an aborted NOTIFY gets no ACK")?;
    peer.ask("a message of the profile", (3, 1), payload)?;
    Ok(())
}

fn fragments_not_announced(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    if peer.announced("fragmentation") {
        return Err(Stop::NotApplicable(
            "the agent announces fragmentation".to_owned(),
        ));
    }
    peer.send(
        "NOTIFY 1/1 with FIN clear",
        &frames::frame(NOTIFY, 0, (1, 1), trial.payload(0)),
    )?;
    refused_or_ignored(trial, &mut peer, "a fragment", Some((1, 1)))?;
    trial.still_answers("a fragment")
}

/// The ids of an ACK.
fn ids_of_ack(owned: &Owned) -> Option<(u64, u64)> {
    let frame = owned.frame();
    (frame.frame_type == FrameType::Ack).then_some((frame.stream_id.0, frame.frame_id.0))
}

/// Takes a refusal, or else the connection must still work. An ACK passes of `may_answer` alone.
fn refused_or_ignored(
    trial: &Trial<'_>,
    peer: &mut Peer<'_>,
    what: &str,
    may_answer: Option<(u64, u64)>,
) -> Judged {
    match peer.receive_within(trial.settle())? {
        Came::End(_) => return Ok(()),
        Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentDisconnect => {
            return Ok(());
        }
        Came::Silence => {}
        Came::Frame(owned) if may_answer.is_some() && ids_of_ack(&owned) == may_answer => {
            trial.note(format!(
                "{what} is answered with an ACK; no HAProxy sends it"
            ));
        }
        came => {
            let text = format!("after {what} {}", shown(&came));
            return Err(Stop::failed(text));
        }
    }
    peer.send(
        "NOTIFY 33/1: a message of the profile",
        &frames::notify(33, 1, trial.payload(0)),
    )?;
    if answered_or_refused(peer, (33, 1))? {
        trial.note(format!("{what} is ignored"));
    }
    Ok(())
}

fn unknown_frame_type(trial: &Trial<'_>) -> Judged {
    for ids in [(0, 0), (9, 1)] {
        let mut peer = trial.introduced()?;
        peer.send(
            &format!("a frame {}/{} of type 50", ids.0, ids.1),
            &frames::frame(50, FIN, ids, b"anything"),
        )?;
        refused_or_ignored(trial, &mut peer, "a frame of type 50", None)?;
    }
    trial.still_answers("a frame of type 50")
}

//! Frames in fragments, and frames nobody asked for.

use std::ops::Range;

use ringspoa::spop::{Flags, FrameType};

use super::frames::{self, ABORT, FIN, NOTIFY, UNSET};
use super::judge::describe;
use super::notify::answered_or_refused;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, Owned, Peer, missed, shown};

/// Fragments of the endless message and the bytes of each: 2 MiB, above what agents mostly take.
const ENDLESS: Range<usize> = 0..256;
const PIECE_LEN: usize = 8_192;

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

pub(super) fn whole(trial: &Trial<'_>) -> Judged {
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

pub(super) fn no_early_ack(trial: &Trial<'_>) -> Judged {
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

pub(super) fn stray_fragments(trial: &Trial<'_>) -> Judged {
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

pub(super) fn endless_fragments(trial: &Trial<'_>) -> Judged {
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

pub(super) fn aborted_fragments(trial: &Trial<'_>) -> Judged {
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

pub(super) fn fragments_not_announced(trial: &Trial<'_>) -> Judged {
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

pub(super) fn unknown_frame_type(trial: &Trial<'_>) -> Judged {
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

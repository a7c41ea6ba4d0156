//! HELLO gone wrong, or not come: what may be refused or ignored, and must not hang.

use std::time::Duration;

use ringspoa::spop::FrameType;

use super::frames::{self, FIN, HAPROXY_HELLO, UNSET};
use super::handshake::with_versions;
use super::notify::answered_or_refused;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, missed, shown};

pub(super) fn missing_keys(trial: &Trial<'_>) -> Judged {
    let all = with_versions("2.0", trial.offer());
    let cases: Vec<_> = (0..3)
        .map(|missing| {
            let kept: Vec<_> = all
                .iter()
                .filter(|pair| pair.0 != all[missing].0)
                .copied()
                .collect();
            let what = format!("HAPROXY-HELLO without {}", all[missing].0);
            (what, frames::hello_of(&kept))
        })
        .collect();
    answered_somehow(trial, &cases)
}

pub(super) fn hello_without_fin(trial: &Trial<'_>) -> Judged {
    let pairs = frames::pairs(&with_versions("2.0", trial.offer()));
    let cases: Vec<_> = [0, 0x0100_0000]
        .into_iter()
        .map(|flags| {
            (
                format!("HAPROXY-HELLO with flags 0x{flags:08x}"),
                frames::frame(HAPROXY_HELLO, flags, (0, 0), &pairs),
            )
        })
        .collect();
    answered_somehow(trial, &cases)
}

/// HELLOs that no HAProxy sends: refusing them is right, taking them harms nobody.
pub(super) fn answered_somehow(trial: &Trial<'_>, cases: &[(String, Vec<u8>)]) -> Judged {
    let peers = trial.send_each(false, cases)?;
    for (mut peer, (what, _)) in peers.into_iter().zip(cases) {
        match peer.receive()? {
            Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentHello => {
                trial.note(format!("{what} is accepted; no HAProxy sends it"));
            }
            Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentDisconnect => {}
            Came::End(_) => {}
            came => {
                let text = format!("AGENT-DISCONNECT or a close after {what}");
                return Err(missed(&text, &came, trial));
            }
        }
    }
    trial.still_answers("HELLOs that were wrong")
}

pub(super) fn frame_before_hello(trial: &Trial<'_>) -> Judged {
    let cases = [
        (
            "NOTIFY before HELLO".to_owned(),
            frames::notify(1, 1, trial.payload(0)),
        ),
        (
            "UNSET before HELLO".to_owned(),
            frames::frame(UNSET, FIN, (1, 1), b""),
        ),
        (
            "HAPROXY-DISCONNECT before HELLO".to_owned(),
            frames::disconnect(0),
        ),
        (
            "a frame of type 200 before HELLO".to_owned(),
            frames::frame(200, FIN, (0, 0), b""),
        ),
    ];
    let peers = trial.send_each(false, &cases)?;
    for (mut peer, (what, _)) in peers.into_iter().zip(&cases) {
        match peer.receive()? {
            Came::End(_) => {}
            Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentDisconnect => {}
            Came::Silence => {
                // Ignored, if the connection still works.
                peer.introduce("pipelining").map_err(|_| {
                    Stop::failed(format!(
                        "{what} was neither refused nor ignored: the connection hangs"
                    ))
                })?;
                trial.note(format!("{what} is ignored"));
            }
            came => {
                let text = format!("{what} must be refused or ignored, but {}", shown(&came));
                return Err(Stop::failed(text));
            }
        }
    }
    trial.still_answers("frames before HELLO")
}

pub(super) fn second_hello(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.ask("a message of the profile", (1, 1), trial.payload(0))?;
    let agreed = peer.max_frame_size;
    peer.send(
        "a second HAPROXY-HELLO, max-frame-size 256",
        &frames::hello(256, "pipelining"),
    )?;
    match peer.receive_within(trial.settle())? {
        Came::End(_) => return Ok(()),
        Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentDisconnect => {
            return Ok(());
        }
        Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentHello => {
            trial.note("a second HELLO is answered; no HAProxy sends one");
        }
        Came::Silence => {}
        came => {
            let text = format!(
                "a second HELLO must end the connection, but {}",
                shown(&came)
            );
            return Err(Stop::failed(text));
        }
    }
    // Not ended yet: it may be on its way, or the HELLO was ignored.
    peer.max_frame_size = agreed;
    peer.send(
        "NOTIFY 3/1: a message of the profile",
        &frames::notify(3, 1, trial.payload(0)),
    )?;
    answered_or_refused(&mut peer, (3, 1)).map(drop)
}

pub(super) fn silent_peers(trial: &Trial<'_>) -> Judged {
    let silent = trial.connect()?;
    let mut slow = trial.connect()?;
    slow.send("the first 3 bytes of a HELLO", &[0, 0, 0])?;
    let mut prober = trial.connect()?;
    prober.finish();
    prober.expect_refusal("a connection that ended without a word")?;
    trial.still_answers("peers that say nothing, which are still connected,")?;
    drop((silent, slow));
    Ok(())
}

pub(super) fn handshake_timer(trial: &Trial<'_>) -> Judged {
    let Some(own) = trial.plan.hello_timeout else {
        return Err(Stop::NotApplicable(
            "the time the agent gives is not known: give it with --hello-timeout".to_owned(),
        ));
    };
    let mut silent = trial.connect()?;
    let mut slow = trial.connect()?;
    slow.send("the first 3 bytes of a HELLO", &[0, 0, 0])?;
    for (peer, what) in [(&mut silent, "says nothing"), (&mut slow, "says 3 bytes")] {
        let within: Duration = own + trial.timeout();
        match peer.receive_within(within)? {
            Came::End(_) => {}
            Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentDisconnect => {}
            came => {
                return Err(Stop::failed(format!(
                    "a peer that {what} must be closed after {own:?}, but {}",
                    shown(&came)
                )));
            }
        }
    }
    Ok(())
}

//! How connections end, and what they may cost others.

use std::time::{Duration, Instant};

use ringspoa::spop::{Disconnect, FrameType};

use super::Rule;
use super::frames;
use super::trial::{Judged, Stop, Trial};
use super::wire::{Came, Peer, missed, shown};

/// Peers that do not read, and bounds of what is sent to an agent whose answers nobody reads.
const DEAF_PEERS: usize = 2;
const DEAF_LEN: usize = 8 << 20;
const DEAF_TIME: Duration = Duration::from_millis(500);

/// A socket that takes nothing for so long is full.
const FULL_AFTER: Duration = Duration::from_millis(100);

/// Connections given back where descriptors ran out, for those that the rule needs itself.
const SPARE: usize = 8;

/// EMFILE and ENFILE.
const OUT_OF_DESCRIPTORS: [i32; 2] = [24, 23];

/// What an unanswered goodbye costs.
const GOODBYE: &str = "HAProxy up to 3.0 waits for AGENT-DISCONNECT or a close up to timeout idle, and a \
    process that is being reloaded stays alive so long.";

pub(super) const RULES: &[Rule] = &[
    Rule::played(
        "C39",
        "disconnect-when-idle",
        "HAPROXY-DISCONNECT of any status is answered at once, with AGENT-DISCONNECT or a close",
        GOODBYE,
        disconnect_when_idle,
    ),
    Rule::played(
        "C39b",
        "disconnect-behind-notify",
        "HAPROXY-DISCONNECT behind NOTIFYs is answered at once, and nothing comes after the answer",
        GOODBYE,
        disconnect_behind_notify,
    ),
    Rule::played(
        "C40",
        "disconnect-behind-hello",
        "HAPROXY-DISCONNECT right behind HELLO, before any NOTIFY, is answered at once",
        "HAProxy up to 3.0 does so where maxconn of the backend is reached, and waits for the answer up to \
         timeout idle.",
        disconnect_behind_hello,
    ),
    Rule::played(
        "C41",
        "resets",
        "resets, idle and with NOTIFYs in flight, and half-closed connections harm nobody",
        "A reset is how HAProxy 3.1 and later close an idle connection: an agent that keeps or dies of it \
         takes the others along.",
        resets,
    ),
    Rule::played(
        "C42",
        "deaf-peers",
        "peers that send NOTIFYs and do not read the ACKs hold up nobody else",
        "HAProxy 3.1.0 to 3.5-dev5 can stop reading a connection whose buffer one read has filled: that must \
         not stop the others.",
        deaf_peers,
    ),
    Rule::played(
        "C43",
        "many-connections",
        "hundreds of connections at once (--idle-connections) are all greeted, and others served beside",
        "At a cold start HAProxy 3.1 and later open a connection for each request of a burst, those up to 3.0 \
         open more than they use, and after a reload all are opened anew.",
        many_connections,
    ),
    Rule::not_covered(
        "C44",
        "drain",
        "an agent that is shut down sends its ACKs first, then AGENT-DISCONNECT(0), and closes",
        "A NOTIFY on the wire when its connection closes is lost in all versions of HAProxy: its request fails.",
        "not covered: it takes somebody who stops the agent",
    ),
];

/// Takes the answer to HAPROXY-DISCONNECT. ACKs of what was asked before may come first.
fn expect_goodbye(trial: &Trial<'_>, peer: &mut Peer<'_>, acks: u64) -> Result<bool, Stop> {
    let mut seen = 0;
    loop {
        let came = peer.receive()?;
        match &came {
            Came::End(_) => {
                trial.note(
                    "HAPROXY-DISCONNECT is answered with a close alone: HAProxy copes, but the spec has \
                     AGENT-DISCONNECT for it",
                );
                return Ok(false);
            }
            Came::Frame(owned) => {
                let frame = owned.frame();
                match frame.frame_type {
                    FrameType::AgentDisconnect => {
                        if let Ok(disconnect) = Disconnect::decode(&frame)
                            && disconnect.status.0 != 0
                        {
                            let status = disconnect.status;
                            trial.note(format!("it is answered with status {status} instead of 0"));
                        }
                        return Ok(true);
                    }
                    FrameType::Ack if seen < acks => seen += 1,
                    _ => {
                        let text = format!("after HAPROXY-DISCONNECT {}", shown(&came));
                        return Err(Stop::failed(text));
                    }
                }
            }
            _ => return Err(missed("AGENT-DISCONNECT or a close", &came, trial)),
        }
    }
}

fn disconnect_when_idle(trial: &Trial<'_>) -> Judged {
    for status in [0, 1, 2, 3, 10, 99, 12_345] {
        let mut peer = trial.introduced()?;
        peer.ask("a message of the profile", (1, 1), trial.payload(0))?;
        let what = format!("HAPROXY-DISCONNECT, status {status}");
        peer.send(&what, &frames::disconnect(status))?;
        let said = expect_goodbye(trial, &mut peer, 0)?;
        if status == 0 && said {
            match peer.receive_within(trial.settle())? {
                Came::End(_) => {}
                Came::Silence => trial.note("closing is left to HAProxy"),
                came => {
                    let text = format!("after AGENT-DISCONNECT {}", shown(&came));
                    return Err(Stop::failed(text));
                }
            }
        }
    }
    Ok(())
}

fn disconnect_behind_notify(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    let count = if peer.announced("pipelining") { 5 } else { 1 };
    let mut all = Vec::new();
    for id in 1..=count {
        all.extend(frames::notify(id, 1, trial.payload(0)));
    }
    all.extend(frames::disconnect(0));
    peer.send(&format!("{count} NOTIFYs and HAPROXY-DISCONNECT"), &all)?;
    if expect_goodbye(trial, &mut peer, count)? {
        match peer.receive_within(trial.settle())? {
            Came::End(_) | Came::Silence => {}
            came => {
                let text = format!("after AGENT-DISCONNECT {}", shown(&came));
                return Err(Stop::failed(text));
            }
        }
    }
    Ok(())
}

fn disconnect_behind_hello(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    peer.send("HAPROXY-DISCONNECT, status 0", &frames::disconnect(0))?;
    expect_goodbye(trial, &mut peer, 0)?;

    let mut hasty = trial.connect()?;
    let offer = trial.offer();
    let both = [frames::hello(offer, "pipelining"), frames::disconnect(0)].concat();
    hasty.send("HAPROXY-HELLO and HAPROXY-DISCONNECT in one write", &both)?;
    hasty.expect_hello(offer)?;
    expect_goodbye(trial, &mut hasty, 0)?;
    Ok(())
}

fn resets(trial: &Trial<'_>) -> Judged {
    let notify = frames::notify(3, 1, trial.payload(0));
    for _ in 0..20 {
        let mut idle = trial.introduced()?;
        idle.ask("a message of the profile", (1, 1), trial.payload(0))?;
        idle.reset();
        let mut busy = trial.introduced()?;
        busy.send("NOTIFY 3/1: a message of the profile", &notify)?;
        busy.reset();
        trial.connect()?.reset();
    }
    let mut half = trial.introduced()?;
    half.ask("a message of the profile", (1, 1), trial.payload(0))?;
    half.finish();
    half.expect_refusal("a connection whose other end is closed")?;
    // The ACK may come before the end, or not.
    let mut half = trial.introduced()?;
    half.send("NOTIFY 3/1: a message of the profile", &notify)?;
    half.finish();
    loop {
        match half.receive()? {
            Came::End(_) => break,
            Came::Frame(_) => {}
            came => return Err(missed("the end of a half-closed connection", &came, trial)),
        }
    }
    trial.still_answers("resets and half-closed connections")
}

fn deaf_peers(trial: &Trial<'_>) -> Judged {
    let mut witness = trial.introduced()?;
    witness.needs("pipelining")?;
    let mut deaf = Vec::new();
    for _ in 0..DEAF_PEERS {
        let mut peer = trial.introduced()?;
        let mut batch = Vec::new();
        for id in 0..500_usize {
            batch.extend(frames::notify(id as u64, 1, trial.payload(id)));
        }
        let until = Instant::now() + DEAF_TIME;
        let (mut sent, mut offset) = (0, 0);
        while sent < DEAF_LEN && Instant::now() < until {
            let len = peer.send_some(&batch[offset..], FULL_AFTER);
            if len == 0 {
                break;
            }
            sent += len;
            offset = (offset + len) % batch.len();
        }
        trial.sent(
            0,
            &format!("NOTIFYs of {sent} bytes, whose ACKs are not read"),
            b"",
        );
        deaf.push(peer);
    }
    witness.ask("a message of the profile", (1, 1), trial.payload(0))?;
    trial.still_answers("peers that do not read, which are still connected,")?;
    for peer in deaf {
        peer.reset();
    }
    trial.still_answers("peers that did not read")
}

fn many_connections(trial: &Trial<'_>) -> Judged {
    let wanted = trial.plan.idle_connections;
    let offer = trial.offer();
    let hello = frames::hello(offer, "pipelining");
    let mut witness = trial.introduced()?;
    let mut idle = Vec::new();
    while idle.len() < wanted {
        match trial.try_connect()? {
            Ok(mut peer) => {
                peer.send("HAPROXY-HELLO", &hello)?;
                idle.push(peer);
            }
            Err(error) if is_out_of_descriptors(&error) && idle.len() > SPARE => {
                idle.truncate(idle.len() - SPARE);
                trial.note(format!(
                    "{} connections instead of {wanted}: this process ran out of descriptors (ulimit -n)",
                    idle.len()
                ));
                break;
            }
            Err(error) => {
                return Err(Stop::failed(format!(
                    "connection {} of {wanted} could not be opened: {error}",
                    idle.len() + 1
                )));
            }
        }
    }
    let (count, mut refused) = (idle.len(), 0);
    for (index, peer) in idle.iter_mut().enumerate() {
        match peer.receive()? {
            Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentHello => {}
            // A limit of the agent's own, which it tells.
            Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentDisconnect => {
                refused += 1;
            }
            came => {
                return Err(Stop::failed(format!(
                    "connection {} of {count} was not greeted: {}",
                    index + 1,
                    shown(&came)
                )));
            }
        }
    }
    if refused > 0 {
        trial.note(format!(
            "{refused} of {count} connections were refused with AGENT-DISCONNECT: is that the limit you set?"
        ));
    }
    witness.ask("a message of the profile", (1, 1), trial.payload(0))?;
    for peer in idle {
        peer.reset();
    }
    trial.still_answers("many connections")
}

fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| OUT_OF_DESCRIPTORS.contains(&code))
}

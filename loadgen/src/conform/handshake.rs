//! HELLO: what must be accepted, what must be refused, and how the answer must look.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use ringspoa::spop::TypedData;

use super::Rule;
use super::frames::{self, ENGINE_ID};
use super::refusals;
use super::trial::{Judged, Stop, Trial};
use super::wire::Came;

/// The bytes HAProxy takes off before it looks for the rest: prefix, type, flags and two ids of 0.
const HEADER_LEN: usize = 11;

/// How often the answer to a HELLO is looked at: two writes may arrive together by chance.
const TRIES: usize = 10;

pub(super) const RULES: &[Rule] = &[
    Rule::played(
        "H1",
        "hello",
        "HELLO is answered with version 2.0, a max-frame-size in bounds, capabilities, FIN, ids 0/0",
        "HAProxy up to 3.0 disconnects with status 4 to 10, and the request waits until timeout processing; \
         3.1 and later reset the connection or disconnect, and the request fails.",
        hello,
    ),
    Rule::played(
        "H1b",
        "hello-in-one-read",
        "AGENT-HELLO arrives whole, not cut behind its header",
        "HAProxy 3.2 to 3.5-dev5 reset a connection whose AGENT-HELLO is cut behind its 11-byte header \
         (HAProxy issue 3478).",
        hello_in_one_read,
    ),
    Rule::played(
        "H2",
        "no-async",
        "async is not announced, though it is offered",
        "With async, a lost connection of HAProxy up to 3.0 leaves its requests waiting until timeout \
         processing instead of failing them at once.",
        no_async,
    ),
    Rule::played(
        "H3",
        "empty-capabilities",
        "a HELLO without any capability is accepted, and NOTIFYs are answered",
        "HAProxy with `no option pipelining`, and every health check, offers nothing: an agent that refuses \
         it is never asked, or DOWN.",
        empty_capabilities,
    ),
    Rule::played(
        "H4",
        "no-engine-id",
        "a HELLO without engine-id is accepted",
        "The spec makes engine-id optional, and health checks of all versions have none.",
        no_engine_id,
    ),
    Rule::played(
        "H5",
        "keys-in-any-order",
        "keys in another order, unknown keys of each type and healthcheck=false are accepted",
        "The spec fixes no order and lets HAProxy add keys, so a version that does would lose the agent.",
        keys_in_any_order,
    ),
    Rule::played(
        "H6",
        "version-lists",
        "version 2.0 is found in lists: \"2.0, 1.5\", \" 2.0 \", \"3.0,2.0\"",
        "supported-versions is a list by the spec; a HAProxy that offers a second version would be refused.",
        version_lists,
    ),
    Rule::played(
        "H6b",
        "version-1-refused",
        "a list with 1.0 alone is refused, with AGENT-DISCONNECT or a close",
        "The spec wants a version that HAProxy announced or a lower one: 1.0 has its flags in another byte \
         order, so both sides would misread each other.",
        version_1_refused,
    ),
    Rule::played(
        "H7",
        "smallest-frame-size",
        "max-frame-size 256 works, and no frame of the agent is longer",
        "HAProxy up to 3.0 disconnects with status 3 on a longer frame and fails all requests of the \
         connection; 3.1 and later let them wait until timeout processing.",
        smallest_frame_size,
    ),
    Rule::played(
        "H7b",
        "frame-size-255-refused",
        "max-frame-size 255 is refused, with AGENT-DISCONNECT or a close",
        "The spec's least is 256, so no max-frame-size can be answered that all versions of HAProxy take.",
        frame_size_255_refused,
    ),
    Rule::played(
        "H7c",
        "large-frame-size",
        "max-frame-size 1048572 is accepted, with it or less",
        "HAProxy with a large tune.bufsize offers as much, and an agent that refuses it never gets a NOTIFY.",
        large_frame_size,
    ),
    Rule::played(
        "H8",
        "missing-keys",
        "a HELLO without a mandatory key is answered in some way, and harms nobody else",
        "An agent that dies or hangs on it takes the requests of all its connections along, in every \
         version of HAProxy.",
        refusals::missing_keys,
    ),
    Rule::played(
        "H9",
        "frame-size-of-any-integer-type",
        "max-frame-size as INT32, INT64 and UINT64 is accepted",
        "HAProxy itself takes all four integer types here, and the spec does not say which it will send.",
        frame_size_of_any_integer_type,
    ),
    Rule::played(
        "H10",
        "frame-before-hello",
        "NOTIFY, UNSET, DISCONNECT or an unknown type before HELLO is refused or ignored",
        "No HAProxy sends one: a connection that hangs there keeps its descriptor for good, and an ACK goes to \
         a peer whose max-frame-size is not known.",
        refusals::frame_before_hello,
    ),
    Rule::played(
        "H11",
        "hello-without-fin",
        "a HELLO without FIN, or with its flags byte-swapped, is answered in some way and harms nobody",
        "No HAProxy sends one: an agent that waits for the rest of it keeps the connection for good.",
        refusals::hello_without_fin,
    ),
    Rule::played(
        "H12",
        "second-hello",
        "a second HELLO ends the connection, or changes nothing",
        "No HAProxy sends a second one: a connection that hangs after it keeps its descriptor for good.",
        refusals::second_hello,
    ),
    Rule::played(
        "H13",
        "silent-peers",
        "peers that say nothing, or 3 bytes, hold up nobody; one that closes is closed",
        "HAProxy 3.1 and later leave a connection open that got stuck before HELLO, and TCP checks of all \
         versions connect and close without a word.",
        refusals::silent_peers,
    ),
    Rule::played(
        "H13b",
        "handshake-timer",
        "a peer that does not say HELLO is closed by a timer of the agent (--hello-timeout)",
        "HAProxy 3.1 and later leave a connection open that got stuck before HELLO, so the agent runs out \
         of descriptors.",
        refusals::handshake_timer,
    ),
];

fn hello(trial: &Trial<'_>) -> Judged {
    let peer = trial.introduced()?;
    match &peer.hello {
        Some(hello) if hello.capabilities.is_none() => Err(Stop::failed(
            "AGENT-HELLO has no capabilities: the spec wants the key, empty if there are none",
        )),
        _ => Ok(()),
    }
}

fn hello_in_one_read(trial: &Trial<'_>) -> Judged {
    for _ in 0..TRIES {
        let mut peer = trial.connect()?;
        let offer = trial.offer();
        peer.send("HAPROXY-HELLO", &frames::hello(offer, "pipelining"))?;
        let until = Instant::now() + trial.timeout();
        // What each read brought is looked at before the next one.
        loop {
            let before = peer.unread().len();
            if !peer.read_more(until)? || peer.has_ended() {
                break;
            }
            let there = peer.unread();
            let Some(prefix) = there.first_chunk::<4>() else {
                continue;
            };
            let whole = 4 + u64::from(u32::from_be_bytes(*prefix));
            if there.len() as u64 >= whole {
                if before > 0 {
                    trial.note(format!(
                        "AGENT-HELLO came in several writes, cut at {before}: HAProxy copes with a cut before \
                         its header's end"
                    ));
                }
                break;
            }
            if there.len() >= HEADER_LEN && there.len() > before {
                let came = there.len();
                trial.came(1, "the first part of AGENT-HELLO", there);
                return Err(Stop::failed(format!(
                    "the read after HELLO brought {came} of the {whole} bytes of AGENT-HELLO: send it \
                     with one write"
                )));
            }
        }
        peer.expect_hello(offer)?;
        peer.reset();
    }
    Ok(())
}

fn no_async(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.connect()?;
    peer.introduce("pipelining,async")?;
    if peer.announced("async") {
        return Err(Stop::failed("AGENT-HELLO announces async"));
    }
    Ok(())
}

fn empty_capabilities(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.connect()?;
    peer.introduce("")?;
    peer.ask("a message of the profile", (1, 1), trial.payload(0))?;
    Ok(())
}

/// Sends a HELLO of these pairs, which must be accepted, and then serve.
fn accepted(trial: &Trial<'_>, what: &str, pairs: &[(&str, TypedData<'_>)], offer: u32) -> Judged {
    let mut peer = trial.connect()?;
    peer.max_frame_size = offer;
    let what = format!("HAPROXY-HELLO with {what}");
    peer.send(&what, &frames::hello_of(pairs))?;
    peer.expect_hello(offer)
        .and_then(|()| peer.ask("a message of the profile", (1, 1), trial.payload(0)))
        .map(drop)
        .map_err(|stop| match stop {
            Stop::Failed(text) => Stop::Failed(format!("{what}: {text}")),
            other => other,
        })
}

fn no_engine_id(trial: &Trial<'_>) -> Judged {
    let offer = trial.offer();
    let pairs = [
        ("supported-versions", "2.0".into()),
        ("max-frame-size", offer.into()),
        ("capabilities", "pipelining".into()),
    ];
    accepted(trial, "no engine-id", &pairs, offer)
}

fn keys_in_any_order(trial: &Trial<'_>) -> Judged {
    let offer = trial.offer();
    let pairs = [
        ("x0", TypedData::Null),
        ("capabilities", "pipelining".into()),
        ("x1", true.into()),
        ("x2", (-2_i32).into()),
        ("x3", 3_u32.into()),
        ("engine-id", ENGINE_ID.into()),
        ("x4", i64::MIN.into()),
        ("x5", u64::MAX.into()),
        ("x6", Ipv4Addr::LOCALHOST.into()),
        ("healthcheck", false.into()),
        ("max-frame-size", offer.into()),
        ("x7", Ipv6Addr::LOCALHOST.into()),
        ("x8", "text".into()),
        ("x9", (&b"\x00\xff"[..]).into()),
        ("supported-versions", "2.0".into()),
    ];
    accepted(
        trial,
        "unknown keys x0 to x9 among the others",
        &pairs,
        offer,
    )
}

pub(super) fn with_versions<'v>(
    versions: &'v str,
    offer: u32,
) -> [(&'static str, TypedData<'v>); 4] {
    [
        ("supported-versions", versions.into()),
        ("max-frame-size", offer.into()),
        ("capabilities", "pipelining".into()),
        ("engine-id", ENGINE_ID.into()),
    ]
}

fn version_lists(trial: &Trial<'_>) -> Judged {
    for versions in ["2.0, 1.5", " 2.0 ", "3.0,2.0"] {
        let what = format!("supported-versions \"{versions}\"");
        accepted(
            trial,
            &what,
            &with_versions(versions, trial.offer()),
            trial.offer(),
        )?;
    }
    Ok(())
}

fn version_1_refused(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.connect()?;
    let hello = frames::hello_of(&with_versions("1.0", trial.offer()));
    peer.send("HAPROXY-HELLO with supported-versions \"1.0\"", &hello)?;
    peer.expect_refusal("a list without version 2.0")
}

fn smallest_frame_size(trial: &Trial<'_>) -> Judged {
    const LEAST: u32 = 256;
    let mut peer = trial.connect()?;
    peer.max_frame_size = LEAST;
    peer.send(
        "HAPROXY-HELLO, max-frame-size 256",
        &frames::hello(LEAST, "pipelining"),
    )?;
    peer.expect_hello(LEAST)?;
    // Whatever is too long shows as no valid frame.
    for index in 0..8_u8 {
        let payload = trial.payload(usize::from(index));
        let ids = (u64::from(index) + 1, 1);
        if payload.len() + 16 <= LEAST as usize {
            peer.ask("a message of the profile", ids, payload)?;
        }
    }
    let long = [b'x'; 180];
    let long = frames::message(trial.message(), &[("a", TypedData::String(&long))]);
    if long.len() + 16 <= LEAST as usize {
        peer.ask("a message with a long argument", (21, 1), &long)?;
    }
    peer.ask("no message", (23, 1), b"")?;
    Ok(())
}

fn frame_size_255_refused(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.connect()?;
    peer.send(
        "HAPROXY-HELLO, max-frame-size 255",
        &frames::hello(255, "pipelining"),
    )?;
    peer.expect_refusal("max-frame-size 255")
}

fn large_frame_size(trial: &Trial<'_>) -> Judged {
    const LARGE: u32 = 1_048_572;
    accepted(
        trial,
        "max-frame-size 1048572",
        &with_size(LARGE.into()),
        LARGE,
    )
}

fn with_size(size: TypedData<'_>) -> [(&'static str, TypedData<'_>); 4] {
    [
        ("supported-versions", "2.0".into()),
        ("max-frame-size", size),
        ("capabilities", "pipelining".into()),
        ("engine-id", ENGINE_ID.into()),
    ]
}

fn frame_size_of_any_integer_type(trial: &Trial<'_>) -> Judged {
    let offer = trial.offer();
    let signed = i32::try_from(offer).unwrap_or(i32::MAX);
    for size in [
        TypedData::Int32(signed),
        TypedData::Int64(i64::from(offer)),
        TypedData::Uint64(u64::from(offer)),
    ] {
        let what = format!("max-frame-size as {}", size.type_name());
        accepted(trial, &what, &with_size(size), offer)?;
    }
    Ok(())
}

/// What comes for a HELLO that should be refused, whatever it is: rule A50 looks at AGENT-DISCONNECTs.
pub(super) fn refused_hello(trial: &Trial<'_>) -> Result<Came, Stop> {
    let mut peer = trial.connect()?;
    let hello = frames::hello_of(&with_versions("1.0", trial.offer()));
    peer.send("HAPROXY-HELLO with supported-versions \"1.0\"", &hello)?;
    peer.receive()
}

//! HELLO and DISCONNECT of both sides.

use ringspoa::spop::{
    AgentHello, DecodeError, Disconnect, EncodeError, Flags, Frame, FrameId, FrameType,
    HaproxyHello, Status, StreamId, TypedData, decode_varint,
};

/// A frame of any header, mostly the right one, around any payload: the first byte says which.
fn control(data: &[u8], right: [FrameType; 2]) -> Option<(Frame<'_>, bool)> {
    let (&head, payload) = data.split_first()?;
    let mut frame = Frame {
        frame_type: right[usize::from(head & 1)],
        flags: Flags(1 | u32::from(head & 0x80)),
        stream_id: StreamId(0),
        frame_id: FrameId(0),
        payload,
    };
    match head >> 1 & 0x0f {
        1 => frame.frame_type = FrameType::Ack,
        2 => frame.flags = Flags(0x8000_0002),
        3 => frame.stream_id = StreamId(1),
        4 => frame.frame_id = FrameId(u64::MAX),
        _ => return Some((frame, true)),
    }
    Some((frame, false))
}

/// The pairs of a payload, as the spec has them.
fn naive_pairs(mut rest: &[u8]) -> Option<Vec<(&[u8], TypedData<'_>)>> {
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (len, used) = decode_varint(rest).ok()?;
        let (key, after) = rest[used..].split_at_checked(usize::try_from(len).ok()?)?;
        if key.is_empty() {
            return None;
        }
        let (value, used) = TypedData::decode(after).ok()?;
        pairs.push((key, value));
        rest = &after[used..];
    }
    Some(pairs)
}

/// Every value of a key must be right; the last one counts.
fn last<'a, T>(
    pairs: &[(&[u8], TypedData<'a>)],
    key: &str,
    read: impl Fn(TypedData<'a>) -> Option<T>,
) -> Option<Option<T>> {
    let mut found = None;
    for (_, value) in pairs.iter().filter(|(name, _)| *name == key.as_bytes()) {
        found = Some(read(*value)?);
    }
    Some(found)
}

fn text(value: TypedData<'_>) -> Option<&[u8]> {
    match value {
        TypedData::String(bytes) => Some(bytes),
        _ => None,
    }
}

/// Of this key only the last value need be right.
fn size(pairs: &[(&[u8], TypedData<'_>)]) -> Option<u32> {
    let (_, value) = pairs
        .iter()
        .rev()
        .find(|(key, _)| *key == b"max-frame-size")?;
    let size = u32::try_from(value.as_u64()?).ok()?;
    (size >= 256).then_some(size)
}

fn naive_haproxy_hello(payload: &[u8]) -> Option<HaproxyHello<'_>> {
    let pairs = naive_pairs(payload)?;
    Some(HaproxyHello {
        supported_versions: last(&pairs, "supported-versions", text)??,
        max_frame_size: size(&pairs)?,
        capabilities: last(&pairs, "capabilities", text)??,
        engine_id: last(&pairs, "engine-id", text)?,
        healthcheck: last(&pairs, "healthcheck", |value| value.as_bool())?.unwrap_or(false),
    })
}

fn naive_agent_hello(payload: &[u8]) -> Option<AgentHello<'_>> {
    let pairs = naive_pairs(payload)?;
    Some(AgentHello {
        version: last(&pairs, "version", text)??,
        max_frame_size: size(&pairs)?,
        capabilities: last(&pairs, "capabilities", text)??,
    })
}

fn naive_has(list: &[u8], word: &str) -> bool {
    let list = String::from_utf8_lossy(list);
    list.split(',')
        .any(|one| one.trim_matches(|c: char| c.is_ascii_whitespace()) == word)
}

/// Reads `out` as one whole frame.
fn only_frame(out: &[u8]) -> Frame<'_> {
    let (frame, used) = Frame::split(out, u32::MAX)
        .expect("a frame of ours is valid")
        .expect("it is whole");
    assert_eq!(used, out.len());
    frame
}

/// HELLO of both sides agrees with the spec read word for word, and what is valid is written back.
pub fn hello(data: &[u8]) {
    let types = [FrameType::HaproxyHello, FrameType::AgentHello];
    let Some((frame, right)) = control(data, types) else {
        return;
    };
    let (haproxy, agent) = (HaproxyHello::decode(&frame), AgentHello::decode(&frame));
    assert!(haproxy.is_err() || agent.is_err());
    if !right {
        assert!(haproxy.is_err() && agent.is_err());
        return;
    }
    let mut out = vec![0; frame.payload.len() + 128];
    if frame.frame_type == FrameType::HaproxyHello {
        assert_eq!(haproxy.ok(), naive_haproxy_hello(frame.payload));
        let Ok(hello) = haproxy else {
            check_status(haproxy.err());
            return;
        };
        let len = hello.encode(&mut out).expect("there is room");
        assert_eq!(HaproxyHello::decode(&only_frame(&out[..len])), Ok(hello));
        assert_eq!(hello.encode(&mut out[..len - 1]), Err(EncodeError::Full));
        let versions = hello.supported_versions;
        assert_eq!(hello.supports_version_2(), naive_has(versions, "2.0"));
        for word in ["pipelining", "async", "fragmentation"] {
            let listed = naive_has(hello.capabilities, word);
            assert_eq!(hello.has_capability(word), listed);
        }
    } else {
        assert_eq!(agent.ok(), naive_agent_hello(frame.payload));
        let Ok(hello) = agent else {
            check_status(agent.err());
            return;
        };
        let len = hello.encode(&mut out).expect("there is room");
        assert_eq!(AgentHello::decode(&only_frame(&out[..len])), Ok(hello));
        assert_eq!(hello.encode(&mut out[..len - 1]), Err(EncodeError::Full));
        let listed = naive_has(hello.capabilities, "pipelining");
        assert_eq!(hello.has_capability("pipelining"), listed);
    }
}

/// Whatever is wrong has a status that HAProxy knows.
fn check_status(error: Option<DecodeError>) {
    let status = Status::from(error.expect("it is an error"));
    assert!((1..=13).contains(&status.0), "{status}");
}

/// DISCONNECT of both sides agrees with the spec read word for word, and what is valid is written
/// back.
pub fn disconnect(data: &[u8]) {
    let types = [FrameType::HaproxyDisconnect, FrameType::AgentDisconnect];
    let Some((frame, right)) = control(data, types) else {
        return;
    };
    let decoded = Disconnect::decode(&frame);
    let expected = right.then(|| naive_disconnect(frame.payload)).flatten();
    assert_eq!(decoded.ok(), expected);
    let Ok(disconnect) = decoded else {
        check_status(decoded.err());
        return;
    };
    assert!((1..=255).contains(&disconnect.status.reason().len()));
    let mut out = [0; 512];
    let result = match frame.frame_type {
        FrameType::AgentDisconnect => disconnect.encode_agent(&mut out),
        _ => disconnect.encode_haproxy(&mut out),
    };
    if disconnect.reason.len() > 255 {
        assert_eq!(result, Err(EncodeError::ReasonTooLong));
        return;
    }
    let len = result.expect("there is room");
    let again = only_frame(&out[..len]);
    assert_eq!(again.frame_type, frame.frame_type);
    assert_eq!(Disconnect::decode(&again), Ok(disconnect));
}

fn naive_disconnect(payload: &[u8]) -> Option<Disconnect<'_>> {
    let pairs = naive_pairs(payload)?;
    let status = last(&pairs, "status-code", |value| value.as_u64())??;
    Some(Disconnect {
        status: Status(u32::try_from(status).ok()?),
        reason: last(&pairs, "message", text)?.unwrap_or_default(),
    })
}

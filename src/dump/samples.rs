//! Frames for the tests of this room.

use crate::spop::{
    AckWriter, AgentHello, Argument, Disconnect, Flags, Frame, FrameId, FrameType, HaproxyHello,
    NotifyWriter, Scope, Status, StreamId, TypedData, Variable,
};

/// A whole frame, with ids 1 and 2, of this payload.
pub(super) fn frame(frame_type: FrameType, payload: &[u8]) -> Frame<'_> {
    Frame {
        frame_type,
        flags: Flags::FIN,
        stream_id: StreamId(1),
        frame_id: FrameId(2),
        payload,
    }
}

/// A frame about the connection, as the codec's encoders write it.
pub(super) fn control(encode: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut out = vec![0; 512];
    let len = encode(&mut out);
    out.truncate(len);
    out
}

/// A HAPROXY-HELLO with every key.
pub(super) fn haproxy_hello() -> Vec<u8> {
    let hello = HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size: 16_380,
        capabilities: b"pipelining",
        engine_id: Some(b"e1"),
        healthcheck: true,
    };
    control(|out| hello.encode(out).unwrap())
}

/// An AGENT-HELLO.
pub(super) fn agent_hello() -> Vec<u8> {
    let hello = AgentHello {
        version: b"2.0",
        max_frame_size: 16_380,
        capabilities: b"",
    };
    control(|out| hello.encode(out).unwrap())
}

/// An AGENT-DISCONNECT of status 3.
pub(super) fn disconnect() -> Vec<u8> {
    let disconnect = Disconnect::with_status(Status::TOO_BIG);
    control(|out| disconnect.encode_agent(out).unwrap())
}

/// A NOTIFY with every type of data.
pub(super) fn notify() -> Vec<u8> {
    let all = [
        Argument::new("null", TypedData::Null),
        Argument::new("bool", true),
        Argument::new("int32", -1_i32),
        Argument::new("uint32", 2_u32),
        Argument::new("int64", -3_i64),
        Argument::new("uint64", u64::MAX),
        Argument::new("ipv4", std::net::Ipv4Addr::LOCALHOST),
        Argument::new("ipv6", std::net::Ipv6Addr::LOCALHOST),
        Argument::new("", "text"),
        Argument::new("two words", &b"\0\xff"[..]),
    ];
    control(|out| {
        let mut notify = NotifyWriter::begin(out, 512, StreamId(300), FrameId(2)).unwrap();
        notify.message("all-types", all).unwrap();
        notify.message("none", []).unwrap();
        notify.finish()
    })
}

/// An ACK with both actions.
pub(super) fn ack() -> Vec<u8> {
    control(|out| {
        let mut ack = AckWriter::begin(out, 512, StreamId(300), FrameId(2)).unwrap();
        ack.set_var(Variable::literal(Scope::Transaction, "score"), 7_i64)
            .unwrap();
        ack.unset_var(Variable::literal(Scope::Session, "old"))
            .unwrap();
        ack.finish()
    })
}

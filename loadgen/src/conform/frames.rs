//! The bytes HAProxy sends, and those no HAProxy would.

use ringspoa::spop::{Disconnect, HaproxyHello, MAX_VARINT_LEN, Status, TypedData, encode_varint};

pub(super) const UNSET: u8 = 0;
pub(super) const HAPROXY_HELLO: u8 = 1;
pub(super) const NOTIFY: u8 = 3;

pub(super) const FIN: u32 = 1;
pub(super) const ABORT: u32 = 2;

/// A UUID as HAProxy makes one a process.
pub(super) const ENGINE_ID: &str = "a3b0c44e-98fc-4c14-9afb-f4c8996fb924";

/// Room for a HELLO or DISCONNECT of this file; the largest has 300 bytes.
const CONTROL_ROOM: usize = 1024;

pub(super) fn varint(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; MAX_VARINT_LEN];
    let len = encode_varint(value, &mut bytes).expect("ten bytes hold every varint");
    out.extend_from_slice(&bytes[..len]);
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Any frame.
pub(super) fn frame(code: u8, flags: u32, ids: (u64, u64), payload: &[u8]) -> Vec<u8> {
    let mut body = vec![code];
    body.extend_from_slice(&flags.to_be_bytes());
    varint(&mut body, ids.0);
    varint(&mut body, ids.1);
    body.extend_from_slice(payload);
    let len = u32::try_from(body.len()).expect("frames here are small");
    [&len.to_be_bytes()[..], &body].concat()
}

pub(super) fn notify(stream_id: u64, frame_id: u64, payload: &[u8]) -> Vec<u8> {
    frame(NOTIFY, FIN, (stream_id, frame_id), payload)
}

/// A HAPROXY-HELLO, as HAProxy 3.1 and later write it.
pub(super) fn hello(max_frame_size: u32, capabilities: &str) -> Vec<u8> {
    control(&HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size,
        capabilities: capabilities.as_bytes(),
        engine_id: Some(ENGINE_ID.as_bytes()),
        healthcheck: false,
    })
}

/// The HELLO of `option spop-check`, which offers 16380 whatever is configured.
pub(super) fn health_check() -> Vec<u8> {
    control(&HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size: 16_380,
        capabilities: b"",
        engine_id: None,
        healthcheck: true,
    })
}

fn control(hello: &HaproxyHello<'_>) -> Vec<u8> {
    let mut out = vec![0; CONTROL_ROOM];
    let len = hello.encode(&mut out).expect("room was made for it");
    out.truncate(len);
    out
}

pub(super) fn disconnect(status: u32) -> Vec<u8> {
    let mut out = vec![0; CONTROL_ROOM];
    let len = Disconnect::with_status(Status(status))
        .encode_haproxy(&mut out)
        .expect("room was made for it");
    out.truncate(len);
    out
}

/// A HAPROXY-HELLO of these pairs and no others.
pub(super) fn hello_of(pairs: &[(&str, TypedData<'_>)]) -> Vec<u8> {
    frame(HAPROXY_HELLO, FIN, (0, 0), &self::pairs(pairs))
}

/// The payload of a control frame.
pub(super) fn pairs(pairs: &[(&str, TypedData<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        text(&mut out, key.as_bytes());
        data(&mut out, value);
    }
    out
}

pub(super) fn data(out: &mut Vec<u8>, value: &TypedData<'_>) {
    let start = out.len();
    let text_len = value.as_bytes().map_or(0, <[u8]>::len);
    // A type byte, then at most 16 bytes of address or a varint and the text.
    out.resize(start + 17 + MAX_VARINT_LEN + text_len, 0);
    let len = value
        .encode(&mut out[start..])
        .expect("room was made for it");
    out.truncate(start + len);
}

/// One message of named values.
pub(super) fn message(name: &str, arguments: &[(&str, TypedData<'_>)]) -> Vec<u8> {
    let encoded: Vec<(&str, Vec<u8>)> = arguments
        .iter()
        .map(|(name, value)| {
            let mut bytes = Vec::new();
            data(&mut bytes, value);
            (*name, bytes)
        })
        .collect();
    let borrowed: Vec<_> = encoded.iter().map(|(name, b)| (*name, &b[..])).collect();
    raw_message(name, &borrowed)
}

/// One message of values that are encoded already, or are none.
pub(super) fn raw_message(name: &str, arguments: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, name.as_bytes());
    out.push(u8::try_from(arguments.len()).expect("a message takes at most 255 arguments"));
    for (name, value) in arguments {
        text(&mut out, name.as_bytes());
        out.extend_from_slice(value);
    }
    out
}

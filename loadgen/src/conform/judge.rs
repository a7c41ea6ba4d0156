//! What HAProxy would make of a frame: its HELLO, its actions, and the frame in words.

use ringspoa::spop::{
    AgentHello, Disconnect, Frame, FrameType, MIN_MAX_FRAME_SIZE, TypedData, decode_varint,
};

/// An AGENT-HELLO that HAProxy takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentHelloSeen {
    pub(super) max_frame_size: u32,
    /// Missing in some; only health checks of HAProxy 3.1 and later mind.
    pub(super) capabilities: Option<String>,
    pub(super) flags: u32,
}

impl AgentHelloSeen {
    /// Whether the list of capabilities has this word; spaces around words do not count.
    pub(super) fn announces(&self, capability: &str) -> bool {
        let list = self.capabilities.as_deref().unwrap_or("");
        list.split(',').any(|word| word.trim() == capability)
    }
}

/// Reads an AGENT-HELLO as HAProxy does, and says why it would not take it.
pub(super) fn judge_hello(frame: &Frame<'_>, offer: u32) -> Result<AgentHelloSeen, String> {
    if frame.frame_type != FrameType::AgentHello {
        return Err(format!("AGENT-HELLO was due, and {} came", describe(frame)));
    }
    let flags = frame.flags.0;
    if !frame.flags.is_fin() {
        return Err(format!("AGENT-HELLO has flags 0x{flags:08x}, without FIN"));
    }
    if (frame.stream_id.0, frame.frame_id.0) != (0, 0) {
        let (stream_id, frame_id) = (frame.stream_id, frame.frame_id);
        return Err(format!(
            "AGENT-HELLO has stream-id {stream_id} and frame-id {frame_id}: both must be 0"
        ));
    }
    let (mut version, mut size, mut capabilities) = (None, None, None);
    let mut rest = frame.payload;
    while !rest.is_empty() {
        let (key, value);
        (key, value, rest) = pair(rest).map_err(|error| format!("AGENT-HELLO: {error}"))?;
        let shown = key.escape_ascii();
        let as_text = || match value {
            Some(TypedData::String(text)) => Ok(text),
            _ => Err(format!("{shown} of AGENT-HELLO must be a STRING (type 8)")),
        };
        match key {
            b"" => return Err("AGENT-HELLO has an empty key".to_owned()),
            b"version" => version = Some(as_text()?),
            b"capabilities" => {
                capabilities = Some(String::from_utf8_lossy(as_text()?).into_owned());
            }
            b"max-frame-size" => {
                let number = value.and_then(|value| value.as_u64());
                let wrong = || "max-frame-size of AGENT-HELLO must be an integer".to_owned();
                size = Some(number.ok_or_else(wrong)?);
            }
            // HAProxy compares keys by their first letters.
            _ => {
                for known in ["version", "max-frame-size", "capabilities"] {
                    if key.starts_with(known.as_bytes()) {
                        return Err(format!(
                            "AGENT-HELLO has a key \"{shown}\", which HAProxy reads as {known}"
                        ));
                    }
                }
            }
        }
    }
    let version = version.ok_or("AGENT-HELLO has no version")?;
    if version.trim_ascii() != b"2.0" {
        let version = version.escape_ascii();
        return Err(format!(
            "AGENT-HELLO has version \"{version}\" instead of \"2.0\""
        ));
    }
    let size = size.ok_or("AGENT-HELLO has no max-frame-size")?;
    let max_frame_size = u32::try_from(size)
        .ok()
        .filter(|size| (MIN_MAX_FRAME_SIZE..=offer).contains(size))
        .ok_or_else(|| {
            format!(
                "AGENT-HELLO has max-frame-size {size}: it must be {MIN_MAX_FRAME_SIZE} to {offer}, \
                 which was offered"
            )
        })?;
    Ok(AgentHelloSeen {
        max_frame_size,
        capabilities,
        flags,
    })
}

/// A key, its value and what follows.
type Pair<'a> = (&'a [u8], Option<TypedData<'a>>, &'a [u8]);

/// One pair off the front. HAProxy skips values of unknown types as one byte: those are `None`.
fn pair(input: &[u8]) -> Result<Pair<'_>, String> {
    let (key, rest) = string(input)?;
    let tag = rest.first().ok_or("ends inside a pair")?;
    if tag & 0x0f > 9 {
        return Ok((key, None, &rest[1..]));
    }
    let (value, used) = TypedData::decode(rest).map_err(|error| error.to_string())?;
    Ok((key, Some(value), &rest[used..]))
}

fn string(input: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let (len, used) = decode_varint(input).map_err(|error| error.to_string())?;
    let rest = &input[used..];
    match usize::try_from(len) {
        Ok(len) if len <= rest.len() => Ok(rest.split_at(len)),
        _ => Err(format!(
            "a length of {len} where {} bytes are left",
            rest.len()
        )),
    }
}

/// One action of an ACK, as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawAction<'a> {
    pub(super) scope: &'static str,
    pub(super) name: &'a [u8],
    /// The type byte and what follows it; none in an unset-var.
    pub(super) value: Option<&'a [u8]>,
}

impl RawAction<'_> {
    /// The variable, for people.
    pub(super) fn variable(&self) -> String {
        format!("{}.{}", self.scope, self.name.escape_ascii())
    }

    /// The whole type byte of a set-var.
    pub(super) fn type_byte(&self) -> Option<u8> {
        self.value?.first().copied()
    }

    /// The number of a set-var of an integer type.
    pub(super) fn integer(&self) -> Option<u64> {
        let (tag, rest) = self.value?.split_first()?;
        if !(2..=5).contains(&(tag & 0x0f)) {
            return None;
        }
        decode_varint(rest).ok().map(|(number, _)| number)
    }
}

/// Reads the actions of an ACK as HAProxy does, and says where it would stop.
pub(super) fn judge_actions(payload: &[u8]) -> Result<Vec<RawAction<'_>>, String> {
    let (mut actions, mut rest) = (Vec::new(), payload);
    while !rest.is_empty() {
        let number = actions.len() + 1;
        let (action, left) = action(rest).map_err(|why| format!("action {number}: {why}"))?;
        actions.push(action);
        rest = left;
    }
    Ok(actions)
}

fn action(input: &[u8]) -> Result<(RawAction<'_>, &[u8]), String> {
    const SCOPES: [&str; 5] = ["proc", "sess", "txn", "req", "res"];
    let [code, count, scope, rest @ ..] = input else {
        return Err("ends inside the action".to_owned());
    };
    let due = match code {
        1 => 3,
        2 => 2,
        other => return Err(format!("unknown action type {other}")),
    };
    if *count != due {
        return Err(format!("{count} arguments instead of {due}"));
    }
    let scope = SCOPES
        .get(usize::from(*scope))
        .ok_or_else(|| format!("unknown scope {scope}"))?;
    let (name, rest) = string(rest)?;
    if *code == 2 {
        let value = None;
        return Ok((RawAction { scope, name, value }, rest));
    }
    let len = value_len(rest)?;
    let (value, rest) = rest.split_at(len);
    let value = Some(value);
    Ok((RawAction { scope, name, value }, rest))
}

/// The bytes of a value, its type byte included. Numbers may be any: what they mean is judged apart.
fn value_len(input: &[u8]) -> Result<usize, String> {
    let (tag, rest) = input.split_first().ok_or("no value")?;
    let len = match tag & 0x0f {
        2..=5 => decode_varint(rest).map_err(|error| error.to_string())?.1,
        6 => 4,
        7 => 16,
        8 | 9 => rest.len() - string(rest)?.1.len(),
        _ => 0,
    };
    if len > rest.len() {
        return Err("ends inside a value".to_owned());
    }
    Ok(1 + len)
}

/// A frame in words.
pub(super) fn describe(frame: &Frame<'_>) -> String {
    let ids = format!("{}/{}", frame.stream_id, frame.frame_id);
    let mut text = match frame.frame_type {
        FrameType::AgentHello => match AgentHello::decode(frame) {
            Ok(hello) => format!(
                "AGENT-HELLO, version \"{}\", max-frame-size {}, capabilities \"{}\"",
                hello.version.escape_ascii(),
                hello.max_frame_size,
                hello.capabilities.escape_ascii()
            ),
            Err(error) => format!("AGENT-HELLO ({error})"),
        },
        FrameType::AgentDisconnect => match Disconnect::decode(frame) {
            Ok(disconnect) => format!(
                "AGENT-DISCONNECT, status {}, message \"{}\"",
                disconnect.status,
                disconnect.reason.escape_ascii()
            ),
            Err(error) => format!("AGENT-DISCONNECT ({error})"),
        },
        FrameType::Ack => {
            let actions = match judge_actions(frame.payload) {
                Ok(actions) if actions.is_empty() => "without actions".to_owned(),
                Ok(actions) => actions.iter().map(shown).collect::<Vec<_>>().join(", "),
                Err(error) => error,
            };
            format!("ACK {ids}, {actions}")
        }
        other => format!("{other} {ids}, {} bytes", frame.payload.len()),
    };
    if frame.flags.0 != 1 {
        text.push_str(&format!(", flags 0x{:08x}", frame.flags.0));
    }
    text
}

fn shown(action: &RawAction<'_>) -> String {
    let variable = action.variable();
    match action.value.map(|value| (value, TypedData::decode(value))) {
        None => format!("unset-var {variable}"),
        Some((_, Ok((value, _)))) => format!("set-var {variable}={value}"),
        Some((bytes, Err(_))) => format!("set-var {variable}=(type byte 0x{:02x})", bytes[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_as_haproxy_reads_them() {
        let payload =
            b"\x01\x03\x02\x01a\x31\x02\x02\x01\x01b\x01\x03\x00\x01c\x02\xff\xf0\xfe\xfe\x7e";
        let actions = judge_actions(payload).unwrap();
        assert_eq!(actions[0].variable(), "txn.a");
        assert_eq!(actions[0].type_byte(), Some(0x31));
        assert_eq!((actions[1].scope, actions[1].value), ("sess", None));
        // What TypedData::decode would refuse is a number here.
        assert_eq!(actions[2].integer(), Some(u64::from(u32::MAX)));
        for (cut, why) in [
            (&b"\x03\x03\x02\x01a\x00"[..], "unknown action type 3"),
            (b"\x01\x02\x02\x01a\x00", "2 arguments instead of 3"),
            (b"\x01\x03\x05\x01a\x00", "unknown scope 5"),
            (b"\x01\x03\x02\x05a\x00", "a length of 5 where 2"),
            (b"\x01\x03\x02\x01a\x06\x01", "ends inside a value"),
            (b"\x01\x03", "ends inside the action"),
        ] {
            let error = judge_actions(cut).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_hello_is_judged_as_haproxy_judges_it() {
        let judged = |payload: &[u8]| {
            let frame = Frame {
                frame_type: FrameType::AgentHello,
                flags: ringspoa::spop::Flags::FIN,
                stream_id: ringspoa::spop::StreamId(0),
                frame_id: ringspoa::spop::FrameId(0),
                payload,
            };
            judge_hello(&frame, 16_380)
        };
        let good = b"\x07version\x08\x052.0  \x0emax-frame-size\x04\xfc\xf0\x06\x01x\x0b";
        let seen = judged(good).unwrap();
        assert_eq!((seen.max_frame_size, seen.capabilities), (16_380, None));
        for (payload, why) in [
            (&b"\x07version\x08\x032.1"[..], "version \"2.1\""),
            (b"\x07version\x09\x032.0", "must be a STRING"),
            (b"\x07version\x08\x032.0", "no max-frame-size"),
            (b"\x0cversion-info\x08\x01x", "reads as version"),
            (b"\x00\x00", "empty key"),
            (
                b"\x07version\x08\x032.0\x0emax-frame-size\x03\xef",
                "256 to 16380",
            ),
            (b"\x07version\x08\x09", "ends inside a value"),
            (b"\x40version", "a length of 64 where 7"),
        ] {
            let error = judged(payload).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

//! What a payload holds, as far as it can be read.
//!
//! The codec takes a control frame or leaves it, and for speed does not keep where it stopped; a
//! person wants to see what came before, and the place. So this reads the payload once more, from the
//! codec's values up, and tests hold it to what the codec says.

use std::fmt;

use crate::spop::{
    AgentHello, DecodeError, Disconnect, Field, Frame, FrameType, HaproxyHello, PREFIX_LEN, Scope,
    TypedData, decode_varint,
};

/// Where the flags are in a frame, prefix included.
const FLAGS_OFFSET: usize = PREFIX_LEN + 1;

/// Where the ids are in a frame, prefix included.
pub(super) const IDS_OFFSET: usize = FLAGS_OFFSET + 4;

/// Where and why a frame stops being valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFault {
    /// The first byte of what could not be read, counted from the frame's length prefix on; of a
    /// reassembled frame from the payload's first byte on.
    pub offset: usize,
    /// Why.
    pub error: DecodeError,
}

/// One thing in a payload. A value of `None` is one that could not be read; why follows.
pub(super) enum Part<'a> {
    Pair(&'a [u8], Option<TypedData<'a>>),
    /// A message and how many arguments it announces.
    Message(&'a [u8], u8),
    Argument(&'a [u8], Option<TypedData<'a>>),
    SetVar(Scope, &'a [u8], Option<TypedData<'a>>),
    UnsetVar(Scope, &'a [u8]),
    /// Bytes that cannot be looked into, and what they are.
    Bytes(&'static str, &'a [u8]),
    Fault(FrameFault),
}

/// What takes the parts; its errors end the visit.
pub(super) type Sink<'s, 'a> = dyn FnMut(Part<'a>) -> fmt::Result + 's;

/// Why a visit ended early.
enum Stop {
    Sink(fmt::Error),
    Decode(DecodeError),
}

impl From<fmt::Error> for Stop {
    fn from(error: fmt::Error) -> Self {
        Self::Sink(error)
    }
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// Reads forward and knows where it is, which the codec's own cursors give up for speed. After an
/// error it is at the first byte of what could not be read.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let &byte = self.rest().first().ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let (len, used) = decode_varint(self.rest())?;
        let text = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest()[used..].get(..len))
            .ok_or(DecodeError::Truncated)?;
        self.at += used + text.len();
        Ok(text)
    }

    fn value(&mut self) -> Result<TypedData<'a>, DecodeError> {
        let (value, used) = TypedData::decode(self.rest())?;
        self.at += used;
        Ok(value)
    }
}

/// Hands over what the payload holds, in order. Faults of the payload count its first byte as
/// `payload_offset`.
pub(super) fn visit<'a>(
    frame: &Frame<'a>,
    payload_offset: usize,
    each: &mut Sink<'_, 'a>,
) -> fmt::Result {
    let mut payload = Cursor::new(frame.payload);
    let whole = frame.flags.is_fin();
    let read = match frame.frame_type {
        FrameType::Notify if whole => messages(&mut payload, each),
        FrameType::Ack if whole => actions(&mut payload, each),
        FrameType::Notify | FrameType::Ack | FrameType::Unset => {
            return each(Part::Bytes("fragment", frame.payload));
        }
        FrameType::Unknown(_) => return each(Part::Bytes("bytes", frame.payload)),
        FrameType::HaproxyHello => {
            let verdict = HaproxyHello::decode(frame).err();
            return control(payload, verdict, payload_offset, each);
        }
        FrameType::AgentHello => {
            let verdict = AgentHello::decode(frame).err();
            return control(payload, verdict, payload_offset, each);
        }
        FrameType::HaproxyDisconnect | FrameType::AgentDisconnect => {
            let verdict = Disconnect::decode(frame).err();
            return control(payload, verdict, payload_offset, each);
        }
    };
    match read {
        Ok(()) => Ok(()),
        Err(Stop::Sink(error)) => Err(error),
        Err(Stop::Decode(error)) => each(fault(payload_offset + payload.at, error)),
    }
}

fn fault<'a>(offset: usize, error: DecodeError) -> Part<'a> {
    Part::Fault(FrameFault { offset, error })
}

/// The pairs of a control frame, and what the codec, whose verdict this is, has against the frame.
fn control<'a>(
    mut payload: Cursor<'a>,
    verdict: Option<DecodeError>,
    payload_offset: usize,
    each: &mut Sink<'_, 'a>,
) -> fmt::Result {
    let in_header = match verdict {
        Some(DecodeError::NotFinal) => Some(FLAGS_OFFSET),
        Some(DecodeError::NonZeroId) => Some(IDS_OFFSET),
        _ => None,
    };
    if let (Some(offset), Some(error)) = (in_header, verdict) {
        each(fault(offset, error))?;
    }
    let blamed = match verdict {
        Some(DecodeError::WrongFieldType(field)) => Some(field),
        Some(DecodeError::BadMaxFrameSize(_)) => Some(Field::MaxFrameSize),
        // Of a value that could be read: a status is at most 32 bits, of whatever type.
        Some(DecodeError::IntegerOutOfRange) => Some(Field::StatusCode),
        _ => None,
    };
    // What is missing is missing at the end.
    let mut blamed_at = payload.bytes.len();
    let mut unreadable = None;
    while !payload.is_empty() && unreadable.is_none() {
        let start = payload.at;
        match payload.string() {
            Ok([]) => {
                payload.at = start;
                unreadable = Some(DecodeError::EmptyKey);
            }
            Ok(key) => {
                let value = payload.value();
                unreadable = value.err();
                each(Part::Pair(key, value.ok()))?;
                if blamed.is_some_and(|field| field.key().as_bytes() == key) {
                    blamed_at = start;
                }
            }
            Err(error) => unreadable = Some(error),
        }
    }
    if let Some(error) = unreadable {
        each(fault(payload_offset + payload.at, error))?;
    }
    match verdict {
        Some(error) if in_header.is_none() && verdict != unreadable => {
            each(fault(payload_offset + blamed_at, error))
        }
        _ => Ok(()),
    }
}

/// The messages of a NOTIFY, as [`Messages`](crate::spop::Messages) reads them.
fn messages<'a>(payload: &mut Cursor<'a>, each: &mut Sink<'_, 'a>) -> Result<(), Stop> {
    while !payload.is_empty() {
        let start = payload.at;
        let name = payload.string()?;
        let count = payload.byte().inspect_err(|_| payload.at = start)?;
        each(Part::Message(name, count))?;
        for _ in 0..count {
            let name = payload.string()?;
            let value = payload.value();
            each(Part::Argument(name, value.ok()))?;
            value?;
        }
    }
    Ok(())
}

/// The actions of an ACK, as [`Actions`](crate::spop::Actions) reads them.
fn actions<'a>(payload: &mut Cursor<'a>, each: &mut Sink<'_, 'a>) -> Result<(), Stop> {
    const SET_VAR: u8 = 1;
    const UNSET_VAR: u8 = 2;
    while !payload.is_empty() {
        let start = payload.at;
        let (code, count) = match (payload.byte(), payload.byte()) {
            (Ok(code), Ok(count)) => (code, count),
            _ => {
                payload.at = start;
                return Err(DecodeError::Truncated.into());
            }
        };
        let arguments = match code {
            SET_VAR => 3,
            UNSET_VAR => 2,
            other => {
                payload.at = start;
                return Err(DecodeError::UnknownAction(other).into());
            }
        };
        if count != arguments {
            payload.at = start + 1;
            return Err(DecodeError::WrongActionArguments(count).into());
        }
        let scope = payload.byte()?;
        let Some(scope) = Scope::from_code(scope) else {
            payload.at = start + 2;
            return Err(DecodeError::UnknownScope(scope).into());
        };
        let name = payload.string()?;
        if code == SET_VAR {
            let value = payload.value();
            each(Part::SetVar(scope, name, value.ok()))?;
            value?;
        } else {
            each(Part::UnsetVar(scope, name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::frame::FrameDump;
    use super::super::samples::{ack, agent_hello, disconnect, frame, haproxy_hello, notify};
    use super::super::stream::dump_stream;
    use super::*;
    use crate::spop::{Actions, Flags, FrameId, Messages, StreamId, varint_len};

    #[test]
    fn what_was_valid_is_there_then_where_and_why_it_ends() {
        // The second argument's value has a type that does not exist, at byte 11 + 7.
        let payload = b"\x01m\x02\x01a\x11\x01b\x0c\x00";
        let notify = frame(FrameType::Notify, payload);
        let error = DecodeError::UnknownDataType(12);
        let dump = FrameDump::new(&notify);
        assert_eq!(dump.fault(), Some(FrameFault { offset: 19, error }));
        assert_eq!(
            dump.at(100).to_string(),
            "@100 NOTIFY FIN stream-id=1 frame-id=2 payload=10 m: a=true b=? \
             invalid-at=19 stream-offset=119 error=\"unknown data type 12\""
        );
        assert_eq!(
            format!("{:#}", dump.at(100)),
            "@100 NOTIFY FIN stream-id=1 frame-id=2 payload=10
    message m, 2 arguments
        a = BOOL true
        b = ?
    not valid at byte 19 of the frame, byte 119 of the stream: unknown data type 12"
        );
        let place = |frame_type, payload: &[u8]| {
            let frame = Frame {
                stream_id: StreamId(0),
                frame_id: FrameId(0),
                ..frame(frame_type, payload)
            };
            let fault = FrameDump::new(&frame).fault().unwrap();
            (fault.offset - 11, fault.error)
        };
        use DecodeError::*;
        // An action at byte 4, after one that is right.
        for (action, at, error) in [
            (&b"\x07\x03"[..], 0, UnknownAction(7)),
            (b"\x01", 0, Truncated),
            (b"\x01\x02", 1, WrongActionArguments(2)),
            (b"\x01\x03\x05", 2, UnknownScope(5)),
            (b"\x01\x03", 2, Truncated),
            (b"\x01\x03\x01\x04nam", 3, Truncated),
            (b"\x01\x03\x01\x01n\x0b", 5, UnknownDataType(11)),
        ] {
            let payload = [b"\x02\x02\x01\x00", action].concat();
            assert_eq!(
                place(FrameType::Ack, &payload),
                (4 + at, error),
                "{action:?}"
            );
        }
        let hello = |payload| place(FrameType::AgentHello, payload);
        assert_eq!(hello(b""), (0, MissingField(Field::Version)));
        assert_eq!(hello(b"\x01k\x00\x00\x00"), (3, EmptyKey));
        assert_eq!(
            hello(b"\x01k\x00\x07version\x11\x01k\x00"),
            (3, WrongFieldType(Field::Version))
        );
        let small = b"\x07version\x08\x032.0\x0emax-frame-size\x03\xef\x0ccapabilities\x08\x00";
        assert_eq!(hello(small), (13, BadMaxFrameSize(239)));
        assert_eq!(
            place(
                FrameType::AgentDisconnect,
                b"\x0bstatus-code\x05\xff\xf0\xfe\xfe\xfe\x00"
            ),
            (0, IntegerOutOfRange)
        );
        assert_eq!(
            FrameDump::new(&frame(FrameType::AgentHello, &small[..13])).to_string(),
            "AGENT-HELLO FIN stream-id=1 frame-id=2 payload=13 invalid-at=9 \
             error=\"stream-id and frame-id must be 0 here\" version=\"2.0\""
        );
    }

    /// What the codec itself finds wrong with a frame.
    fn codec_error(frame: &Frame<'_>) -> Option<DecodeError> {
        match frame.frame_type {
            FrameType::Notify if frame.flags.is_fin() => {
                Messages::new(frame.payload).finish().err()
            }
            FrameType::Ack if frame.flags.is_fin() => {
                Actions::new(frame.payload).find_map(Result::err)
            }
            FrameType::HaproxyHello => HaproxyHello::decode(frame).err(),
            FrameType::AgentHello => AgentHello::decode(frame).err(),
            FrameType::HaproxyDisconnect | FrameType::AgentDisconnect => {
                Disconnect::decode(frame).err()
            }
            _ => None,
        }
    }

    /// What must hold for any frame: the printer finds wrong what the codec does, names a byte of the
    /// frame or its end, and prints text as long as what is there, in lines that are its own. Returns
    /// whether the frame is valid.
    fn check(frame: &Frame<'_>, seed: u64) -> bool {
        let dump = FrameDump::new(frame);
        let mut faults = Vec::new();
        dump.visit(&mut |part| {
            if let Part::Fault(fault) = part {
                faults.push(fault);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(dump.fault(), faults.first().copied());
        let error = codec_error(frame);
        let among = |error| faults.iter().any(|fault| fault.error == error);
        assert!(
            error.map_or(faults.is_empty(), among),
            "seed {seed}: {error:?} {faults:?}"
        );
        let header_len = 9 + varint_len(frame.stream_id.0) + varint_len(frame.frame_id.0);
        for fault in faults {
            assert!(
                fault.offset <= header_len + frame.payload.len(),
                "seed {seed}: {fault:?}"
            );
        }
        let printable = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let line = dump.to_string();
        assert!(printable(&line), "seed {seed}: {line}");
        let lines = format!("{:#}", dump.prefix(format_args!("> ")));
        for line in lines.lines() {
            assert!(
                line.starts_with("> ") && printable(line),
                "seed {seed}: {lines}"
            );
        }
        // A byte takes four characters at most, an item of two bytes some 40 beside them.
        let most = 400 + 24 * frame.payload.len();
        assert!(
            line.len() < most && lines.len() < most,
            "seed {seed}: {lines}"
        );
        error.is_none()
    }

    #[test]
    fn all_frame_types_with_any_payload_are_printed() {
        for code in 0..=u8::MAX {
            for sample in [
                haproxy_hello(),
                agent_hello(),
                disconnect(),
                notify(),
                ack(),
            ] {
                let (sample, _) = Frame::split(&sample, 512).unwrap().unwrap();
                for flags in [0, 1, 2, 3, u32::MAX] {
                    for payload in [sample.payload, &[], &[0xff; 40], &[0; 40]] {
                        let frame = Frame {
                            frame_type: FrameType::from_code(code),
                            flags: Flags(flags),
                            payload,
                            ..sample
                        };
                        check(&frame, u64::from(code));
                    }
                }
            }
        }
    }

    /// An announced length is no reason to print or to hold more than there is.
    #[test]
    fn announced_lengths_mean_nothing() {
        let longest = [0xff, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0e];
        for frame_type in [FrameType::Notify, FrameType::Ack, FrameType::HaproxyHello] {
            for before in [
                &b""[..],
                b"\x01m\xff",
                b"\x01m\xff\x01a\x08",
                b"\x01\x03\x02",
                b"\x01k\x09",
            ] {
                let payload = [before, &longest, b"rest"].concat();
                let dump = FrameDump::new(&frame(frame_type, &payload)).to_string();
                assert!(dump.contains("invalid-at=") && dump.len() < 300, "{dump}");
            }
        }
    }

    #[test]
    fn random_bytes_and_damaged_frames_are_printed() {
        let samples = [
            haproxy_hello(),
            agent_hello(),
            disconnect(),
            notify(),
            ack(),
        ];
        let (mut valid, mut wrong) = (0, 0);
        for seed in 0..100_000_u64 {
            // splitmix64.
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = || {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                usize::try_from((z ^ z >> 31) >> 32).unwrap()
            };
            let mut bytes = samples[next() % samples.len()].clone();
            if seed % 2 == 0 {
                // Any bytes behind a header; the length is right half of the time.
                bytes.truncate(PREFIX_LEN + 7);
                bytes.resize(PREFIX_LEN + 7 + next() % 60, 0);
                bytes[PREFIX_LEN + 5..].fill_with(|| next().to_le_bytes()[0]);
            }
            if seed % 4 < 2 {
                let len = u32::try_from(bytes.len() - PREFIX_LEN).unwrap();
                bytes[..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
            }
            for _ in 0..next() % 4 {
                let index = next() % bytes.len();
                bytes[index] = next().to_le_bytes()[0];
            }
            if let Ok(Some((frame, _))) = Frame::split(&bytes, 512) {
                let count = if check(&frame, seed) {
                    &mut valid
                } else {
                    &mut wrong
                };
                *count += 1;
            }
            for item in dump_stream(&bytes, 512).at(seed) {
                let text = format!("{item}{item:#}");
                assert!(
                    text.is_ascii() && text.len() < 40_000,
                    "seed {seed}: {text}"
                );
            }
        }
    }
}

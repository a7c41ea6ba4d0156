//! What is written is read again as it was meant.

use arbitrary::{Result, Unstructured};
use ringspoa::spop::{
    AckWriter, Action, Actions, AgentHello, Argument, Disconnect, EncodeError, Frame, FrameId,
    FrameType, HaproxyHello, MAX_VARIABLE_LEN, Messages, NotifyWriter, PREFIX_LEN, Scope, Status,
    StreamId, TypedData, Variable,
};

/// One frame made of the fuzzer's choices, of whatever type, written into whatever room, and read.
pub fn round_trip(data: &[u8]) {
    let mut choices = Unstructured::new(data);
    // Choices that run out end the input: what was made until then was checked.
    let _ = one_frame(&mut choices);
}

fn one_frame(choices: &mut Unstructured<'_>) -> Result<()> {
    let room = choices.int_in_range(0..=2000)?;
    let mut out = vec![0xaa; room];
    match choices.int_in_range(0..=4)? {
        0 => notify(choices, &mut out),
        1 => ack(choices, &mut out),
        2 => haproxy_hello(choices, &mut out),
        3 => agent_hello(choices, &mut out),
        _ => disconnect(choices, &mut out),
    }
}

/// An id, of any length on the wire.
pub(super) fn id(choices: &mut Unstructured<'_>) -> Result<u64> {
    let shift = choices.int_in_range(0..=64)?;
    let bits: u64 = match shift {
        // A byte is enough for what is below 2^8.
        57.. => u64::from(choices.arbitrary::<u8>()?),
        _ => choices.arbitrary()?,
    };
    Ok(bits.checked_shr(shift.min(56)).unwrap_or(bits))
}

/// Bytes of the input, at most this many.
fn bytes<'a>(choices: &mut Unstructured<'a>, max: usize) -> Result<&'a [u8]> {
    let len = choices.int_in_range(0..=max)?.min(choices.len());
    choices.bytes(len)
}

/// The text that begins some bytes.
fn text<'a>(choices: &mut Unstructured<'a>, max: usize) -> Result<&'a str> {
    let bytes = bytes(choices, max)?;
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    })
}

pub(super) fn value<'a>(choices: &mut Unstructured<'a>) -> Result<TypedData<'a>> {
    Ok(match choices.int_in_range(0..=9)? {
        0 => TypedData::Null,
        1 => TypedData::Bool(choices.arbitrary()?),
        2 => TypedData::Int32(choices.arbitrary()?),
        3 => TypedData::Uint32(choices.arbitrary()?),
        4 => TypedData::Int64(choices.arbitrary()?),
        5 => TypedData::Uint64(id(choices)?),
        6 => TypedData::Ipv4(choices.arbitrary::<u32>()?.into()),
        7 => TypedData::Ipv6(choices.arbitrary::<u128>()?.into()),
        8 => TypedData::String(bytes(choices, 600)?),
        _ => TypedData::Binary(bytes(choices, 600)?),
    })
}

/// Reads the front of `out` as one whole frame of this length.
fn read_back(out: &[u8], len: usize) -> Frame<'_> {
    let (frame, used) = Frame::split(out, u32::MAX)
        .expect("a frame of ours is valid")
        .expect("it is whole");
    assert_eq!(used, len);
    frame
}

fn notify(choices: &mut Unstructured<'_>, out: &mut [u8]) -> Result<()> {
    let max_frame_size = choices.int_in_range(0..=2000)?;
    let (stream_id, frame_id) = (StreamId(id(choices)?), FrameId(id(choices)?));
    let Ok(mut writer) = NotifyWriter::begin(out, max_frame_size, stream_id, frame_id) else {
        assert!(
            max_frame_size < 25 || out.len() < 29,
            "a header fits 25 bytes"
        );
        return Ok(());
    };
    let mut written = Vec::new();
    for _ in 0..choices.int_in_range(0..=4)? {
        let name = text(choices, 300)?;
        let mut arguments = Vec::new();
        let mut count = choices.int_in_range(0..=5)?;
        if count == 5 {
            // Beyond what a message takes, at times.
            count = choices.int_in_range(250..=260)?;
            arguments.resize(count, Argument::new("", true));
        }
        while arguments.len() < count {
            arguments.push(Argument {
                name: bytes(choices, 300)?,
                value: value(choices)?,
            });
        }
        match writer.message(name, arguments.iter().copied()) {
            Ok(()) => written.push((name, arguments)),
            Err(EncodeError::TooManyArguments) => assert!(arguments.len() > 255),
            Err(error) => assert_eq!(error, EncodeError::Full),
        }
    }
    let len = writer.finish();
    assert!(len <= PREFIX_LEN + max_frame_size as usize);
    let frame = read_back(out, len);
    assert_eq!(frame.frame_type, FrameType::Notify);
    assert_eq!((frame.stream_id, frame.frame_id), (stream_id, frame_id));
    let mut messages = Messages::new(frame.payload);
    for (name, arguments) in written {
        let mut message = messages
            .next_message()
            .expect("what we wrote is valid")
            .expect("each message is there");
        assert_eq!(message.name(), name.as_bytes());
        assert_eq!(usize::from(message.remaining()), arguments.len());
        for argument in arguments {
            assert_eq!(message.next_argument(), Ok(Some(argument)));
        }
        assert_eq!(message.next_argument(), Ok(None));
    }
    assert!(matches!(messages.next_message(), Ok(None)));
    Ok(())
}

pub(super) fn variable<'a>(choices: &mut Unstructured<'a>) -> Result<Option<Variable<'a>>> {
    const SCOPES: [Scope; 5] = [
        Scope::Process,
        Scope::Session,
        Scope::Transaction,
        Scope::Request,
        Scope::Response,
    ];
    let scope = *choices.choose(&SCOPES)?;
    let name = text(choices, 70)?;
    let variable = Variable::new(scope, name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let fits = scope.as_str().len() + name.len() <= MAX_VARIABLE_LEN;
    let allowed = !name.is_empty() && fits && name.chars().all(plain);
    assert_eq!(variable.is_ok(), allowed, "{name:?}");
    Ok(variable.ok())
}

fn ack(choices: &mut Unstructured<'_>, out: &mut [u8]) -> Result<()> {
    let max_frame_size = choices.int_in_range(0..=2000)?;
    let (stream_id, frame_id) = (StreamId(id(choices)?), FrameId(id(choices)?));
    let Ok(mut writer) = AckWriter::begin(out, max_frame_size, stream_id, frame_id) else {
        assert!(
            max_frame_size < 25 || out.len() < 29,
            "a header fits 25 bytes"
        );
        return Ok(());
    };
    let (mut written, mut overflowed) = (Vec::new(), false);
    for _ in 0..choices.int_in_range(0..=8)? {
        if choices.ratio(1, 16)? {
            writer.clear();
            written.clear();
            overflowed = false;
        }
        let Some(variable) = variable(choices)? else {
            continue;
        };
        let (scope, name) = (variable.scope(), variable.name().as_bytes());
        let (action, result) = if choices.arbitrary()? {
            let value = value(choices)?;
            let action = Action::SetVar { scope, name, value };
            (action, writer.set_var(variable, value))
        } else {
            let action = Action::UnsetVar { scope, name };
            (action, writer.unset_var(variable))
        };
        match result {
            Ok(()) => written.push(action),
            Err(error) => {
                assert_eq!(error, EncodeError::Full);
                overflowed = true;
            }
        }
        assert_eq!(writer.overflowed(), overflowed);
        assert_eq!(writer.is_empty(), written.is_empty());
    }
    let len = writer.finish();
    assert!(len <= PREFIX_LEN + max_frame_size as usize);
    let frame = read_back(out, len);
    assert_eq!(frame.frame_type, FrameType::Ack);
    assert_eq!((frame.stream_id, frame.frame_id), (stream_id, frame_id));
    let read: std::result::Result<Vec<_>, _> = Actions::new(frame.payload).collect();
    assert_eq!(read, Ok(written));
    Ok(())
}

fn haproxy_hello(choices: &mut Unstructured<'_>, out: &mut [u8]) -> Result<()> {
    let hello = HaproxyHello {
        max_frame_size: choices.int_in_range(256..=u32::MAX)?,
        healthcheck: choices.arbitrary()?,
        supported_versions: bytes(choices, 300)?,
        capabilities: bytes(choices, 300)?,
        engine_id: match choices.arbitrary()? {
            true => Some(bytes(choices, 300)?),
            false => None,
        },
    };
    if let Ok(len) = hello.encode(out) {
        assert_eq!(HaproxyHello::decode(&read_back(out, len)), Ok(hello));
        assert_eq!(hello.encode(&mut out[..len - 1]), Err(EncodeError::Full));
    }
    Ok(())
}

fn agent_hello(choices: &mut Unstructured<'_>, out: &mut [u8]) -> Result<()> {
    let hello = AgentHello {
        max_frame_size: choices.int_in_range(256..=u32::MAX)?,
        version: bytes(choices, 300)?,
        capabilities: bytes(choices, 300)?,
    };
    if let Ok(len) = hello.encode(out) {
        assert_eq!(AgentHello::decode(&read_back(out, len)), Ok(hello));
        assert_eq!(hello.encode(&mut out[..len - 1]), Err(EncodeError::Full));
    }
    Ok(())
}

fn disconnect(choices: &mut Unstructured<'_>, out: &mut [u8]) -> Result<()> {
    let (by_agent, status) = (choices.arbitrary()?, Status(choices.arbitrary()?));
    let reason = bytes(choices, 300)?;
    let disconnect = Disconnect { status, reason };
    let result = if by_agent {
        disconnect.encode_agent(out)
    } else {
        disconnect.encode_haproxy(out)
    };
    match result {
        Ok(len) => assert_eq!(Disconnect::decode(&read_back(out, len)), Ok(disconnect)),
        Err(EncodeError::ReasonTooLong) => assert!(reason.len() > 255),
        Err(error) => assert_eq!(error, EncodeError::Full),
    }
    Ok(())
}

//! Frames, and the payloads of NOTIFY and ACK.

use ringspoa::spop::{
    AckWriter, Action, Actions, Argument, DecodeError, EncodeError, Frame, FrameId, Messages,
    NotifyWriter, PREFIX_LEN, StreamId, Variable, decode_varint,
};

/// The shortest frame: type, flags and two ids of one byte.
const MIN_FRAME_LEN: u32 = 7;

/// A frame is judged by its length prefix alone until it is whole, at every limit; what is whole is
/// written back to the same bytes.
pub fn frame(data: &[u8]) {
    let Some(prefix) = data.first_chunk::<PREFIX_LEN>() else {
        for limit in [0, MIN_FRAME_LEN, u32::MAX] {
            assert_eq!(Frame::split(data, limit), Ok(None));
        }
        return;
    };
    let frame_len = u32::from_be_bytes(*prefix);
    let limits = [
        0,
        MIN_FRAME_LEN,
        256,
        16_380,
        frame_len.saturating_sub(1),
        frame_len,
        u32::MAX,
    ];
    for max_frame_size in limits {
        let result = Frame::split(data, max_frame_size);
        if frame_len > max_frame_size {
            let error = DecodeError::FrameTooLarge {
                frame_len,
                max_frame_size,
            };
            assert_eq!(result, Err(error));
            assert_eq!(Frame::split(prefix, max_frame_size), Err(error));
        } else {
            assert_eq!(result, check_split(data, frame_len));
        }
    }
}

/// What every limit that allows the frame gives.
fn check_split(data: &[u8], frame_len: u32) -> Result<Option<(Frame<'_>, usize)>, DecodeError> {
    if frame_len < MIN_FRAME_LEN {
        return Err(DecodeError::FrameTooShort { frame_len });
    }
    let Some(whole) = data.get(..PREFIX_LEN + frame_len as usize) else {
        return Ok(None);
    };
    for cut in [PREFIX_LEN, whole.len() / 2, whole.len() - 1] {
        assert_eq!(Frame::split(&whole[..cut], u32::MAX), Ok(None));
    }
    let (frame, used) = Frame::split(whole, u32::MAX)?.expect("all of it is there");
    assert_eq!(used, whole.len());
    assert!(whole.ends_with(frame.payload));
    let mut out = vec![0xaa; used + 1];
    assert_eq!(frame.encode(&mut out[..used - 1]), Err(EncodeError::Full));
    assert_eq!(frame.encode(&mut out), Ok(used));
    assert_eq!(&out[..used], whole, "{frame:?}");
    assert_eq!(out[used], 0xaa, "written beyond its end");
    Ok(Some((frame, used)))
}

/// A message and its arguments.
type Read<'a> = (&'a [u8], Vec<Argument<'a>>);

/// However the messages of a payload are read, argument by argument, in a loop, in part or not at
/// all, they are the same and end in the same error; what is valid is written back. The first byte
/// says which arguments the reader in part leaves unread.
pub fn notify(data: &[u8]) {
    let Some((&pattern, payload)) = data.split_first() else {
        return;
    };
    let (whole, error) = read_arguments(payload);
    let result = error.map_or(Ok(()), Err);
    assert_eq!(Messages::new(payload).finish(), result);
    assert_eq!(read_loop(payload), (whole.clone(), error));
    check_skipping(payload, pattern, &whole, result);
    if result.is_ok() {
        check_written(payload, &whole);
    }
}

fn read_arguments(payload: &[u8]) -> (Vec<Read<'_>>, Option<DecodeError>) {
    let (mut read, mut messages) = (Vec::new(), Messages::new(payload));
    let error = loop {
        let mut message = match messages.next_message() {
            Ok(Some(message)) => message,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        let count = usize::from(message.remaining());
        let (name, mut arguments) = (message.name(), Vec::new());
        let error = loop {
            match message.next_argument() {
                Ok(Some(argument)) => arguments.push(argument),
                Ok(None) => break None,
                Err(error) => {
                    assert_eq!(message.next_argument(), Err(error), "an error stays");
                    break Some(error);
                }
            }
        };
        let unread = usize::from(message.remaining());
        assert_eq!(arguments.len() + unread, count);
        assert_eq!(unread > 0, error.is_some());
        read.push((name, arguments));
        if error.is_some() {
            break error;
        }
    };
    match error {
        Some(error) => {
            assert_eq!(messages.next_message().err(), Some(error), "an error stays");
            assert_eq!(messages.finish(), Err(error), "an error stays");
        }
        None => assert_eq!(messages.finish(), Ok(())),
    }
    (read, error)
}

fn read_loop(payload: &[u8]) -> (Vec<Read<'_>>, Option<DecodeError>) {
    let (mut read, mut messages) = (Vec::new(), Messages::new(payload));
    loop {
        let mut message = match messages.next_message() {
            Ok(Some(message)) => message,
            Ok(None) => return (read, None),
            Err(error) => return (read, Some(error)),
        };
        let (name, mut arguments) = (message.name(), Vec::new());
        let mut error = None;
        for argument in message.by_ref() {
            assert_eq!(error, None, "an error is the last item");
            match argument {
                Ok(argument) => arguments.push(argument),
                Err(what) => error = Some(what),
            }
        }
        assert!(message.next().is_none());
        read.push((name, arguments));
        if error.is_some() {
            return (read, error);
        }
    }
}

fn check_skipping(
    payload: &[u8],
    pattern: u8,
    whole: &[Read<'_>],
    result: Result<(), DecodeError>,
) {
    let mut messages = Messages::new(payload);
    for (index, (name, arguments)) in whole.iter().enumerate() {
        let Ok(Some(mut message)) = messages.next_message() else {
            panic!("message {index} is there when all is read");
        };
        assert_eq!(message.name(), *name);
        let read = usize::from(pattern >> (index % 8) & 1) * (1 + index / 8);
        for argument in arguments.iter().take(read) {
            assert_eq!(message.next_argument(), Ok(Some(*argument)));
        }
    }
    assert_eq!(messages.next_message().map(|_| ()), result);
    assert_eq!(messages.finish(), result);
}

fn check_written(payload: &[u8], whole: &[Read<'_>]) {
    let mut out = vec![0; payload.len() + 11];
    let max = u32::try_from(out.len()).expect("inputs are short");
    let mut notify = NotifyWriter::begin(&mut out, max, StreamId(1), FrameId(1))
        .expect("there is room for the header");
    for (name, arguments) in whole {
        // HAProxy's names are text, and only such ones can be written.
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        notify
            .message(name, arguments.iter().copied())
            .expect("it takes the room it took");
    }
    let len = notify.finish();
    assert_eq!(len, payload.len() + 11, "every form has one length");
    let (frame, _) = Frame::split(&out, max)
        .expect("a frame of ours is valid")
        .expect("it is whole");
    let (again, error) = read_arguments(frame.payload);
    assert_eq!((&again[..], error), (whole, None));
}

/// The actions of a payload agree with the spec read word for word, and what is valid is written
/// back. The first two bytes say how large the ACK may be.
pub fn ack(data: &[u8]) {
    let Some((limit, payload)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut actions = Vec::new();
    let mut error = None;
    for action in Actions::new(payload) {
        assert_eq!(error, None, "an error is the last item");
        match action {
            Ok(action) => actions.push(action),
            Err(what) => error = Some(what),
        }
    }
    let (count, valid) = naive_actions(payload);
    assert_eq!((actions.len(), error.is_none()), (count, valid));
    check_ack_written(u32::from(u16::from_le_bytes(*limit)), &actions);
}

/// How many actions there are, and whether they fill the payload.
fn naive_actions(mut rest: &[u8]) -> (usize, bool) {
    fn one(rest: &[u8]) -> Option<&[u8]> {
        let (&[code, count, scope], rest) = rest.split_first_chunk::<3>()?;
        if !matches!((code, count), (1, 3) | (2, 2)) || scope > 4 {
            return None;
        }
        let (len, used) = decode_varint(rest).ok()?;
        let rest = rest[used..].get(usize::try_from(len).ok()?..)?;
        if code == 2 {
            return Some(rest);
        }
        let (_, used) = ringspoa::spop::TypedData::decode(rest).ok()?;
        Some(&rest[used..])
    }
    let mut count = 0;
    while !rest.is_empty() {
        let Some(after) = one(rest) else {
            return (count, false);
        };
        (rest, count) = (after, count + 1);
    }
    (count, true)
}

/// Each action with a name an agent may use is written whole or not at all.
fn check_ack_written(max_frame_size: u32, actions: &[Action<'_>]) {
    let mut out = vec![0; 2048];
    let Ok(mut ack) = AckWriter::begin(&mut out, max_frame_size, StreamId(1), FrameId(1)) else {
        assert!(max_frame_size < MIN_FRAME_LEN);
        return;
    };
    let mut written = Vec::new();
    for action in actions {
        let (Action::SetVar { scope, name, .. } | Action::UnsetVar { scope, name }) = *action;
        let Some(variable) = std::str::from_utf8(name)
            .ok()
            .and_then(|name| Variable::new(scope, name).ok())
        else {
            continue;
        };
        let result = match *action {
            Action::SetVar { value, .. } => ack.set_var(variable, value),
            Action::UnsetVar { .. } => ack.unset_var(variable),
        };
        match result {
            Ok(()) => written.push(*action),
            Err(error) => {
                assert_eq!(error, EncodeError::Full);
                assert!(ack.overflowed());
            }
        }
    }
    assert_eq!(ack.is_empty(), written.is_empty());
    let len = ack.finish();
    assert!(len - PREFIX_LEN <= max_frame_size as usize);
    let (frame, used) = Frame::split(&out, max_frame_size)
        .expect("a frame of ours is valid")
        .expect("it is whole");
    assert_eq!(used, len);
    let read: Result<Vec<_>, _> = Actions::new(frame.payload).collect();
    assert_eq!(read, Ok(written));
}

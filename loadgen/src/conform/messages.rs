//! What a NOTIFY may say: messages and arguments of every shape, each of which gets its ACK.

use ringspoa::spop::{Messages, TypedData};

use super::frames;
use super::trial::{Judged, Trial};

pub(super) fn shapes_of_messages(trial: &Trial<'_>) -> Judged {
    let name = trial.message();
    let many = vec![("", TypedData::Int64(1)); 255];
    let twice = frames::message(
        name,
        &[("a", 1_i64.into()), ("a", 2_i64.into()), ("", 3_i64.into())],
    );
    let mut two = trial.payload(0).to_vec();
    two.extend_from_slice(trial.payload(1));
    let shapes = [
        ("a message without arguments", frames::message(name, &[])),
        (
            "a message of 255 arguments without names",
            frames::message(name, &many),
        ),
        ("arguments of one name, and one without", twice),
        ("two messages of one name", two),
    ];
    let mut peer = trial.introduced()?;
    for ((what, payload), id) in shapes.iter().zip(1..) {
        peer.ask(what, (id, 1), payload)?;
    }
    peer.expect_nothing("one ACK is due for each NOTIFY, however many messages are in it")
}

/// Asks for each of these values, encoded, as the one argument of the known message.
fn ask_values(trial: &Trial<'_>, values: &[(&str, &[u8])]) -> Judged {
    let mut peer = trial.introduced()?;
    for ((what, value), id) in values.iter().zip(1..) {
        let payload = frames::raw_message(trial.message(), &[("v", value)]);
        peer.ask(&format!("an argument that is {what}"), (id, 1), &payload)?;
    }
    let names: Vec<_> = (0..values.len()).map(|index| format!("v{index}")).collect();
    let all: Vec<_> = names
        .iter()
        .zip(values)
        .map(|(name, &(_, value))| (&name[..], value))
        .collect();
    let payload = frames::raw_message(trial.message(), &all);
    peer.ask("all of them in one message", (1_000, 1), &payload)?;
    Ok(())
}

pub(super) fn values_of_every_type(trial: &Trial<'_>) -> Judged {
    ask_values(
        trial,
        &[
            ("NULL", b"\x00"),
            ("an empty string", b"\x08\x00"),
            ("false", b"\x01"),
            ("true", b"\x11"),
            ("INT64 -5", b"\x04\xfb\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e"),
            (
                "INT64 2^63-1",
                b"\x04\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x06",
            ),
            (
                "INT64 -2^63",
                b"\x04\xf0\xf1\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x06",
            ),
            ("an IPv4 address", b"\x06\xc0\x00\x02\x01"),
            (
                "an IPv6 address",
                b"\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
            ),
            ("an empty binary", b"\x09\x00"),
            ("a binary with NUL", b"\x09\x03\x00\xff\x00"),
            ("a string that is no UTF-8", b"\x08\x04caf\xe9"),
        ],
    )
}

pub(super) fn values_of_unused_types(trial: &Trial<'_>) -> Judged {
    ask_values(
        trial,
        &[
            ("INT32 7", b"\x02\x07"),
            ("INT32 -1", b"\x02\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e"),
            ("UINT32 2^32-1", b"\x03\xff\xf0\xfe\xfe\x7e"),
            (
                "UINT64 2^64-1",
                b"\x05\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
            ),
        ],
    )
}

pub(super) fn largest_notify(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    let size = peer.max_frame_size as usize;
    let payload = filled(trial, size);
    let what = format!("NOTIFY 1/1: a frame of {size} bytes");
    peer.send(&what, &frames::notify(1, 1, &payload))?;
    peer.expect_ack(1, 1)?;
    peer.ask("a message of the profile", (3, 1), trial.payload(0))?;
    Ok(())
}

/// The payload of a NOTIFY 1/1 whose frame has this many bytes: the known message with a binary.
pub(super) fn filled(trial: &Trial<'_>, frame_len: usize) -> Vec<u8> {
    let body = |len: usize| {
        let bytes = vec![b'x'; len];
        frames::message(trial.message(), &[("body", TypedData::Binary(&bytes))])
    };
    // Two tries, as the length of the length depends on the length.
    let header = 7;
    let mut len = frame_len.saturating_sub(header + body(0).len());
    for _ in 0..3 {
        let over = (header + body(len).len()).saturating_sub(frame_len);
        len -= over.min(len);
    }
    body(len)
}

pub(super) fn unknown_message(trial: &Trial<'_>) -> Judged {
    let mut peer = trial.introduced()?;
    // The bytes of HAProxy 2.6 for a message `m` with p="/x".
    let golden = b"\x01m\x01\x01p\x08\x02/x";
    peer.ask("message \"m\" with p=\"/x\"", (1, 1), golden)?;
    // With every sort of character that HAProxy takes in the name of a spoe-message.
    let odd = frames::message("No-such:message_1.x", &[]);
    peer.ask("message \"No-such:message_1.x\"", (3, 1), &odd)?;
    peer.ask("a message of the profile", (5, 1), trial.payload(0))?;
    Ok(())
}

pub(super) fn odd_arguments(trial: &Trial<'_>) -> Judged {
    let names = argument_names(trial.payload(0));
    let with = |value: TypedData<'static>| {
        let arguments: Vec<_> = names.iter().map(|name| (&name[..], value)).collect();
        frames::message(trial.message(), &arguments)
    };
    let mut peer = trial.introduced()?;
    let cases = [
        ("without arguments", frames::message(trial.message(), &[])),
        ("with NULL for each argument", with(TypedData::Null)),
        ("with a string for each argument", with("?".into())),
        ("with -1 for each argument", with((-1_i64).into())),
        (
            "with an IPv6 address for each argument",
            with(TypedData::Ipv6(1.into())),
        ),
    ];
    for ((what, payload), id) in cases.iter().zip(1..) {
        peer.ask(&format!("the known message {what}"), (id, 1), payload)?;
    }
    peer.ask("a message of the profile", (99, 1), trial.payload(0))?;
    Ok(())
}

/// The names of the arguments of the first message.
fn argument_names(payload: &[u8]) -> Vec<String> {
    let mut messages = Messages::new(payload);
    let Ok(Some(message)) = messages.next_message() else {
        return Vec::new();
    };
    message
        .filter_map(Result::ok)
        .map(|argument| String::from_utf8_lossy(argument.name).into_owned())
        .collect()
}

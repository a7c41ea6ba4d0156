//! Bytes that real HAProxy sent, decoded, compared with what was configured, and re-encoded to the
//! same bytes.

use ringspoa::spop::{
    Argument, Disconnect, Flags, Frame, FrameType, HaproxyHello, Messages, NotifyWriter, Status,
    TypedData,
};

const HAPROXY_2_6: &[u8] = include_bytes!("data/haproxy-2.6.bin");
const HAPROXY_3_2: &[u8] = include_bytes!("data/haproxy-3.2.bin");
const CHECK_2_6: &[u8] = include_bytes!("data/haproxy-2.6-check.bin");
const CHECK_3_2: &[u8] = include_bytes!("data/haproxy-3.2-check.bin");

/// Each frame with the bytes it was made of.
fn frames(mut stream: &'static [u8]) -> Vec<(Frame<'static>, &'static [u8])> {
    let mut frames = Vec::new();
    while let Some((frame, used)) = Frame::split(stream, 16_380).unwrap() {
        frames.push((frame, &stream[..used]));
        stream = &stream[used..];
    }
    assert!(stream.is_empty(), "the recording ends with a frame");
    frames
}

/// Messages with their arguments, by name.
type Owned<'a> = Vec<(&'a [u8], Vec<Argument<'a>>)>;

fn messages(payload: &[u8]) -> Owned<'_> {
    let mut owned = Vec::new();
    let mut messages = Messages::new(payload);
    while let Some(message) = messages.next_message().unwrap() {
        owned.push((message.name(), message.collect::<Result<_, _>>().unwrap()));
    }
    owned
}

fn reencoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = vec![0; 20_000];
    let len = match frame.frame_type {
        FrameType::HaproxyHello => HaproxyHello::decode(frame)
            .unwrap()
            .encode(&mut out)
            .unwrap(),
        FrameType::HaproxyDisconnect => Disconnect::decode(frame)
            .unwrap()
            .encode_haproxy(&mut out)
            .unwrap(),
        FrameType::Notify if frame.flags == Flags::FIN => {
            let mut notify =
                NotifyWriter::begin(&mut out, 16_380, frame.stream_id, frame.frame_id).unwrap();
            for (name, arguments) in messages(frame.payload) {
                notify
                    .message(std::str::from_utf8(name).unwrap(), arguments)
                    .unwrap();
            }
            notify.finish()
        }
        _ => frame.encode(&mut out).unwrap(),
    };
    out.truncate(len);
    out
}

#[test]
fn every_recorded_frame_is_reencoded_to_its_own_bytes() {
    let streams = [
        (HAPROXY_2_6, 8),
        (HAPROXY_3_2, 4),
        (CHECK_2_6, 1),
        (CHECK_3_2, 1),
    ];
    for (stream, count) in streams {
        let frames = frames(stream);
        assert_eq!(
            frames.len(),
            count,
            "{:?}",
            frames.iter().map(|f| f.0.frame_type).collect::<Vec<_>>()
        );
        for (frame, bytes) in frames {
            assert_eq!(reencoded(&frame), bytes, "{frame:?}");
        }
    }
}

#[test]
fn hellos_are_as_haproxy_sends_them() {
    let hello = |stream| HaproxyHello::decode(&frames(stream)[0].0).unwrap();
    let (old, new) = (hello(HAPROXY_2_6), hello(HAPROXY_3_2));
    assert!(old.has_capability("async") && old.has_capability("pipelining"));
    assert_eq!(new.capabilities, b"pipelining");
    for hello in [old, new] {
        assert!(hello.supports_version_2());
        assert_eq!((hello.max_frame_size, hello.healthcheck), (2048, false));
        assert_eq!(hello.engine_id.map(<[u8]>::len), Some(36));
    }
    for check in [hello(CHECK_2_6), hello(CHECK_3_2)] {
        assert_eq!(
            (check.max_frame_size, check.capabilities),
            (16_380, &b""[..])
        );
        assert_eq!((check.engine_id, check.healthcheck), (None, true));
    }
}

#[test]
fn the_first_notify_has_the_arguments_of_the_configuration() {
    for (stream, method) in [(HAPROXY_2_6, "GET"), (HAPROXY_3_2, "GET")] {
        let frame = frames(stream)[1].0;
        assert_eq!(
            (frame.frame_type, frame.flags),
            (FrameType::Notify, Flags::FIN)
        );
        let messages = messages(frame.payload);
        let names: Vec<_> = messages.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [&b"every-type"[..], b"two-args"]);
        let arguments = &messages[0].1;
        assert_eq!(arguments.len(), 18);
        let value = |name: &str| {
            arguments
                .iter()
                .find(|argument| argument.name == name.as_bytes())
                .unwrap()
                .value
        };
        assert_eq!(value("ip"), TypedData::Ipv4([10, 1, 2, 3].into()));
        assert_eq!(
            value("ip6"),
            TypedData::Ipv6("2001:db8::7".parse().unwrap())
        );
        assert_eq!(value("src"), TypedData::Ipv4([127, 0, 0, 1].into()));
        assert!(matches!(value("src-port"), TypedData::Int64(1..65_536)));
        assert_eq!(value("method"), TypedData::from(method));
        assert_eq!(value("path"), TypedData::from("/a/path"));
        assert_eq!(value("query"), TypedData::from("q=1"));
        assert_eq!(value("ver"), TypedData::from("1.1"));
        assert_eq!(value("ssl"), TypedData::Bool(false));
        assert_eq!(value("int"), TypedData::Int64(-5));
        assert_eq!(value("yes"), TypedData::Bool(true));
        assert_eq!(value("none"), TypedData::Null);
        assert_eq!(value("empty"), TypedData::from(""));
        assert_eq!(value(""), TypedData::from("unnamed"));
        let TypedData::String(headers) = value("hdrs") else {
            panic!("{:?}", value("hdrs"))
        };
        assert!(headers.windows(5).any(|bytes| bytes == b"caf\xe9\xff"));
        let TypedData::Binary(blob) = value("bin") else {
            panic!("{:?}", value("bin"))
        };
        assert!(
            blob.windows(12)
                .any(|bytes| bytes == b"\x05x-bin\x05caf\xe9\xff")
        );
        assert!(blob.ends_with(&[0, 0]));
        let repeated: Vec<_> = arguments
            .iter()
            .filter(|argument| argument.name == b"dup")
            .collect();
        assert_eq!(
            [repeated[0].value, repeated[1].value],
            ["a".into(), "b".into()]
        );
        let unnamed: Vec<_> = messages[1]
            .1
            .iter()
            .map(|argument| argument.value)
            .collect();
        assert_eq!(unnamed, [TypedData::Int64(240), TypedData::Int64(2288)]);
    }
}

#[test]
fn the_fragments_of_2_6_make_one_message() {
    let frames = frames(HAPROXY_2_6);
    let fragments: Vec<_> = frames
        .iter()
        .filter(|(frame, _)| frame.frame_type == FrameType::Unset || !frame.flags.is_fin())
        .map(|(frame, _)| *frame)
        .collect();
    assert!(fragments.len() >= 3, "{} fragments", fragments.len());
    assert!(
        fragments
            .iter()
            .all(|frame| frame.stream_id == fragments[0].stream_id)
    );
    let payload: Vec<u8> = fragments
        .iter()
        .flat_map(|frame| frame.payload)
        .copied()
        .collect();
    let messages = messages(&payload);
    let body = messages
        .iter()
        .find(|(name, _)| *name == b"body")
        .unwrap()
        .1[0]
        .value;
    assert_eq!(body, TypedData::Binary(&[b'b'; 5000]));
}

#[test]
fn the_goodbye_of_2_6() {
    let (frame, _) = *frames(HAPROXY_2_6).last().unwrap();
    let goodbye = Disconnect::decode(&frame).unwrap();
    assert_eq!(
        (goodbye.status, goodbye.reason),
        (Status::NORMAL, &b"normal"[..])
    );
}

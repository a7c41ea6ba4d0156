//! Frames cut, joined, wrong and fragmented.

use std::time::Duration;

use ringspoa::Driver;
use ringspoa::spop::{Argument, Flags, FrameType, Status, TypedData};

use crate::agent::Scene;
use crate::on_both_drivers;
use crate::support::{FRAME_SIZE, config, frame, hello, notify, notify_with};

const NOTIFY: u8 = 3;
const UNSET: u8 = 0;
const FIN: u32 = 1;
const ABORT: u32 = 2;

/// What the worker of this server has ever allocated at once.
fn largest_allocation(scene: &Scene) -> i64 {
    let ack = scene.server.introduce().ask(1, "memory", 0);
    ack.value("largest")
        .and_then(|value| value.as_i64())
        .unwrap()
}

/// How the bytes are cut into reads makes no difference.
#[test]
fn case_29_cuts_between_reads_make_no_difference() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let hello = hello(FRAME_SIZE, "pipelining");
        let frames: Vec<Vec<u8>> = (0..50)
            .map(|n| match n % 3 {
                0 => notify(n, 1, "now", 5),
                1 => notify_with(n, 1, "echo", &[Argument::new("a", &[b'x'; 600][..])]),
                _ => notify(n, 240, "nothing", 5),
            })
            .collect();

        let mut one_by_one = scene.server.connect();
        one_by_one.send(&hello);
        let mut expected = one_by_one.expect_frame().bytes;
        for frame in &frames {
            one_by_one.send(frame);
            expected.extend(one_by_one.expect_frame().bytes);
        }

        let mut at_once = scene.server.connect();
        let mut all = hello.clone();
        all.extend(frames.concat());
        at_once.send(&all);
        at_once.finish_sending();
        assert!(at_once.receive_all() == expected, "all in one write");

        let mut in_bytes = scene.server.connect();
        let (few, rest) = all.split_at(hello.len() + frames[0].len() + 40);
        for byte in few {
            in_bytes.send(&[*byte]);
        }
        for piece in rest.chunks(97) {
            in_bytes.send(piece);
        }
        in_bytes.finish_sending();
        assert!(in_bytes.receive_all() == expected, "byte by byte");
        scene.server.stop();
    });
}

/// A length that cannot be is refused when it is read, and no room is made for it.
#[test]
fn case_30_impossible_lengths_are_refused_without_memory() {
    let scene = Scene::start();
    let lengths = [
        (0, Status::INVALID),
        (6, Status::INVALID),
        (FRAME_SIZE + 1, Status::TOO_BIG),
        (1 << 31, Status::TOO_BIG),
        (u32::MAX, Status::TOO_BIG),
    ];
    for (len, status) in lengths {
        let mut before_hello = scene.server.connect();
        before_hello.send(&len.to_be_bytes());
        before_hello.expect_disconnect(status);

        let mut running = scene.server.introduce();
        running.send(&len.to_be_bytes());
        running.expect_disconnect(status);

        // With content that goes on and on.
        let mut talking = scene.server.introduce();
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.resize(40_000, 3);
        talking.send(&bytes);
        talking.expect_disconnect(status);
    }
    assert_eq!(scene.seer.calls(), 0);

    // The largest frame there may be is none of these.
    let mut haproxy = scene.server.introduce();
    let overhead = notify_with(1, 1, "m", &[Argument::new("a", &[0; 3000][..])]).len() - 4 - 3000;
    let value = vec![0; FRAME_SIZE as usize - overhead];
    let largest = notify_with(1, 1, "m", &[Argument::new("a", &value[..])]);
    assert_eq!(largest.len(), 4 + FRAME_SIZE as usize);
    haproxy.send(&largest);
    haproxy.expect_ack(1, 1);
    assert!(largest_allocation(&scene) < 256 * 1024);
    assert_eq!(scene.server.stop().protocol_errors, 15);
}

/// A frame that ends with the connection is no frame.
#[test]
fn case_31_a_cut_frame_ends_without_a_call() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let whole = notify(1, 1, "now", 1);
        for cut in 1..whole.len() {
            let mut haproxy = scene.server.introduce();
            haproxy.send(&whole[..cut]);
            haproxy.finish_sending();
            assert_eq!(haproxy.receive_all(), b"", "cut at {cut}");
        }
        assert_eq!(scene.seer.calls(), 0);
        assert_eq!(scene.seer.complaints(), [""; 0]);
        scene.server.stop();
    });
}

/// Lengths and counts that lie are refused with status 4.
#[test]
fn case_32_lengths_that_lie_are_refused() {
    let scene = Scene::start();
    let payloads: [&[u8]; 10] = [
        // A string of 2^64 - 1 bytes.
        b"\x01m\x01\x01a\x08\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
        // A varint of 11 bytes, and one of 10 above 2^64 - 1.
        b"\x01m\x01\x01a\x04\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x8e\x00",
        b"\x01m\x01\x01a\x04\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0f",
        // Names past the end.
        b"\x02m",
        b"\x01m\x01\xef",
        b"\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
        // More arguments than there are.
        b"\x01m\x02\x01a\x00",
        b"\x01m\xff",
        // No count at all, and an address that is cut.
        b"\x01m",
        b"\x01m\x01\x01a\x06\x01\x02",
    ];
    for payload in payloads {
        let mut haproxy = scene.server.introduce();
        haproxy.send(&frame(NOTIFY, FIN, (1, 1), payload));
        haproxy.expect_disconnect(Status::INVALID);
        // The same in the pieces of a fragmented frame.
        let mut haproxy = scene.server.introduce();
        haproxy.send(&frame(NOTIFY, 0, (1, 1), &payload[..1]));
        haproxy.send(&frame(UNSET, FIN, (1, 1), &payload[1..]));
        haproxy.expect_disconnect(Status::INVALID);
    }
    let hellos: [&[u8]; 4] = [
        b"\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
        b"\x12supported-versions\x08\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
        b"\x0emax-frame-size\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00",
        b"\x00\x08\x01x",
    ];
    for payload in hellos {
        let mut haproxy = scene.server.connect();
        haproxy.send(&frame(1, FIN, (0, 0), payload));
        haproxy.expect_disconnect(Status::INVALID);
    }
    // The ids may lie too: they run past the frame.
    let mut haproxy = scene.server.introduce();
    haproxy.send(b"\0\0\0\x07\x03\0\0\0\x01\xf0\x01");
    haproxy.expect_disconnect(Status::INVALID);
    let stats = scene.server.stop();
    assert_eq!((stats.protocol_errors, stats.agent_panics), (25, 0));
}

/// Wherever a message is cut into fragments, the agent gets it whole, once, and there is one ACK,
/// after the last fragment.
#[test]
fn case_33_fragments_are_put_together() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    let arguments = [
        Argument::new("n", 7_i64),
        Argument::new("path", "/a/path"),
        Argument::new("body", &[9; 300][..]),
    ];
    let whole = notify_with(1, 1, "fragmented", &arguments);
    let payload = &whole[11..];
    haproxy.send(&whole);
    haproxy.expect_ack(1, 1);
    let expected = scene.seer.take_messages();
    assert_eq!(expected[0].1.len(), 3);

    // Every cut in two, an empty part included, and a third fragment at some distance.
    for (id, cut) in (2..).zip(0..=payload.len()) {
        let end = payload.len().min(cut + 33);
        haproxy.send(&frame(NOTIFY, 0, (id, 1), &payload[..cut]));
        haproxy.send(&frame(UNSET, 0, (id, 1), &payload[cut..end]));
        haproxy.send(&frame(UNSET, FIN, (id, 1), &payload[end..]));
        haproxy.expect_ack(id, 1);
        assert_eq!(scene.seer.take_messages(), expected, "cut at {cut}");
    }

    // No ACK before the last fragment.
    haproxy.send(&frame(NOTIFY, 0, (1000, 1), payload));
    haproxy.expect_silence(Duration::from_millis(20));
    haproxy.send(&frame(UNSET, FIN, (1000, 1), b""));
    haproxy.expect_ack(1000, 1);
    let calls = 3 + u64::try_from(payload.len()).unwrap();
    assert_eq!(scene.seer.calls(), calls);
    let stats = scene.server.stop();
    assert_eq!((stats.notifies, stats.acks), (calls, calls));
}

/// Other streams go on between the fragments; fragments of nothing are refused with status 12, and
/// a second frame inside a fragmented one with status 11.
#[test]
fn case_34_interlaced_fragments_are_refused() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.send(&notify(5, 1, "late", 5));
    let (_, ticket) = scene.take_tickets(1).remove(0);
    haproxy.send(&frame(NOTIFY, 0, (1, 1), b"\x01m\x01\x01a\x08\x04"));
    haproxy.ask(2, "now", 2);
    haproxy.send(&frame(UNSET, 0, (1, 1), b"te"));
    ticket.send();
    haproxy.expect_ack(5, 1);
    haproxy.send(&notify(1, 2, "now", 3));
    haproxy.expect_ack(1, 2);
    scene.seer.take_messages();
    haproxy.send(&frame(UNSET, FIN, (1, 1), b"xt"));
    haproxy.expect_ack(1, 1);
    let text = (b"a".to_vec(), "STRING", b"text".to_vec());
    assert_eq!(
        scene.seer.take_messages(),
        [(b"m".to_vec(), vec![text.clone()])]
    );

    let begun = frame(NOTIFY, 0, (1, 1), b"\x01m\x00");
    let refused = [
        (
            vec![],
            frame(UNSET, FIN, (1, 1), b""),
            Status::UNKNOWN_FRAME_ID,
        ),
        (
            vec![],
            frame(UNSET, 0, (1, 1), b""),
            Status::UNKNOWN_FRAME_ID,
        ),
        (
            vec![],
            frame(UNSET, FIN | ABORT, (1, 1), b""),
            Status::UNKNOWN_FRAME_ID,
        ),
        (
            begun.clone(),
            frame(UNSET, FIN, (1, 2), b""),
            Status::UNKNOWN_FRAME_ID,
        ),
        (
            begun.clone(),
            frame(UNSET, FIN, (2, 1), b""),
            Status::UNKNOWN_FRAME_ID,
        ),
        (
            begun.clone(),
            frame(NOTIFY, FIN, (1, 1), b""),
            Status::INTERLACED,
        ),
        (
            begun.clone(),
            frame(NOTIFY, 0, (1, 1), b""),
            Status::INTERLACED,
        ),
        (
            begun.clone(),
            frame(NOTIFY, 0, (2, 1), b""),
            Status::INTERLACED,
        ),
    ];
    let calls = scene.seer.calls();
    for (first, second, status) in refused {
        let mut haproxy = scene.server.introduce();
        haproxy.send(&[first, second].concat());
        haproxy.expect_disconnect(status);
    }
    assert_eq!(scene.seer.calls(), calls);
    scene.server.stop();
}

/// A message beyond the limit of reassembly is given up with one ACK that has ABORT, after its last fragment;
/// the memory is bounded and the connection goes on.
#[test]
fn case_35_an_endless_message_is_aborted() {
    let mut config = config(Driver::Auto);
    config.limits.max_reassembly_len = 20_000;
    let scene = Scene::with(config);
    let before = largest_allocation(&scene);
    let mut haproxy = scene.server.introduce();
    let piece = vec![b'x'; 8000];
    haproxy.send(&frame(NOTIFY, 0, (1, 1), &piece));
    for _ in 0..500 {
        haproxy.send(&frame(UNSET, 0, (1, 1), &piece));
    }
    // Others are served while the rest of it comes.
    haproxy.ask(2, "now", 1);
    haproxy.send(&frame(UNSET, FIN, (1, 1), &piece));
    let abort = haproxy.expect_frame();
    let abort = abort.frame();
    assert_eq!(abort.frame_type, FrameType::Ack);
    assert_eq!(abort.flags, Flags::FIN_ABORT);
    assert_eq!((abort.stream_id.0, abort.frame_id.0), (1, 1));
    assert_eq!(abort.payload, b"");
    haproxy.ask(3, "now", 1);
    assert_eq!(scene.seer.calls(), 1 + 2);
    let after = largest_allocation(&scene);
    assert!(after <= before.max(40_000), "{after} bytes at once");

    // At the limit it is taken.
    let body = vec![b'y'; 12_000];
    let small = notify_with(4, 1, "m", &[Argument::new("a", &body[..])]);
    haproxy.send(&frame(NOTIFY, 0, (4, 1), &small[11..6000]));
    haproxy.send(&frame(UNSET, FIN, (4, 1), &small[6000..]));
    haproxy.expect_ack(4, 1);
    assert_eq!(scene.seer.take_messages().pop().unwrap().1[0].2, body);
    scene.server.stop();
}

/// When HAProxy gives a message up there is nobody to answer.
#[test]
fn case_36_an_aborted_message_is_forgotten() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.send(&frame(NOTIFY, 0, (1, 1), b"\x01m\x01\x01a\x08\x04te"));
    haproxy.send(&frame(UNSET, FIN | ABORT, (1, 1), b""));
    haproxy.expect_silence(Duration::from_millis(20));
    assert_eq!(scene.seer.calls(), 0);
    // The same ids again, and nothing left of before.
    haproxy.send(&frame(NOTIFY, 0, (1, 1), b"\x01m\x01"));
    haproxy.send(&frame(UNSET, FIN, (1, 1), b"\x01b\x00"));
    haproxy.expect_ack(1, 1);
    let b = (b"b".to_vec(), "NULL", b"null".to_vec());
    assert_eq!(scene.seer.take_messages(), [(b"m".to_vec(), vec![b])]);
    let stats = scene.server.stop();
    assert_eq!((stats.notifies, stats.acks), (1, 1));
}

/// Where fragments were not agreed on they are refused with status 10.
#[test]
fn case_37_fragments_that_were_not_announced_are_refused() {
    let mut config = config(Driver::Auto);
    config.limits.fragmentation = false;
    let scene = Scene::with(config);
    let fragments = [
        frame(NOTIFY, 0, (1, 1), b"\x01m\x00"),
        frame(UNSET, 0, (1, 1), b""),
        frame(UNSET, FIN, (1, 1), b""),
    ];
    for fragment in fragments {
        let mut haproxy = scene.server.connect();
        haproxy.send(&hello(FRAME_SIZE, "pipelining"));
        assert_eq!(haproxy.expect_hello().1, "pipelining");
        haproxy.ask(1, "now", 1);
        haproxy.send(&fragment);
        haproxy.expect_disconnect(Status::NO_FRAGMENTATION);
    }
    scene.server.stop();
}

/// A frame of a type nobody knows is skipped, one that only agents send is refused.
#[test]
fn case_38_unknown_frames_are_skipped() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    for (code, stream_id) in (4..=100).chain(104..=255).zip(1..) {
        haproxy.send(&frame(code, FIN, (stream_id, 1), b"anything"));
    }
    haproxy.send(&frame(50, 0, (1, 1), b""));
    let ack = haproxy.ask(7, "now", 7);
    assert_eq!(ack.value("answer"), Some(TypedData::Int64(7)));
    assert_eq!(scene.seer.calls(), 1);
    for code in [101, 102, 103] {
        let mut haproxy = scene.server.introduce();
        haproxy.send(&frame(code, FIN, (1, 1), b""));
        haproxy.expect_disconnect(Status::INVALID);
    }
    scene.server.stop();
}

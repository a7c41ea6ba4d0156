//! NOTIFY and its one ACK.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ringspoa::spop::{Argument, Scope, TypedData, Variable};
use ringspoa::{Driver, Fallback};

use crate::agent::{ANSWER, Scene, Seen, answer};
use crate::on_both_drivers;
use crate::support::{FRAME_SIZE, config, frame, hello, notify, notify_with};

fn int(value: i64) -> Option<TypedData<'static>> {
    Some(TypedData::Int64(value))
}

/// The bytes HAProxy sends for a message `m` with `p="/x"` get the bytes of an empty ACK.
#[test]
fn case_16_the_golden_notify_is_answered() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut haproxy = scene.server.introduce();
        haproxy.send(b"\0\0\0\x10\x03\0\0\0\x01\x01\x01\x01m\x01\x01p\x08\x02/x");
        assert_eq!(
            haproxy.expect_frame().bytes,
            b"\0\0\0\x07\x67\0\0\0\x01\x01\x01"
        );
        let argument = (b"p".to_vec(), "STRING", b"/x".to_vec());
        let message = (b"m".to_vec(), vec![argument]);
        assert_eq!(scene.seer.take_messages(), [message]);
        let stats = scene.server.stop();
        assert_eq!((stats.notifies, stats.acks), (1, 1));
    });
}

/// Stream-id 0 is an id like any other.
#[test]
fn case_17_stream_id_0_is_answered() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.send(b"\0\0\0\x07\x03\0\0\0\x01\x00\x01");
    assert_eq!(
        haproxy.expect_frame().bytes,
        b"\0\0\0\x07\x67\0\0\0\x01\x00\x01"
    );
    scene.server.stop();
}

/// Ids of several bytes come back byte for byte.
#[test]
fn case_18_wide_ids_are_echoed_exactly() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    let ids: [(u64, &[u8]); 6] = [
        (239, b"\xef"),
        (240, b"\xf0\x00"),
        (2287, b"\xff\x7f"),
        (2288, b"\xf0\x80\x00"),
        (u64::from(u32::MAX), b"\xff\xf0\xfe\xfe\x7e"),
        (u64::MAX, b"\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e"),
    ];
    for (stream_id, stream_bytes) in ids {
        for (frame_id, frame_bytes) in ids {
            let ids = [stream_bytes, frame_bytes].concat();
            let len = u8::try_from(5 + ids.len()).unwrap();
            haproxy.send(&[&[0, 0, 0, len, 3, 0, 0, 0, 1], &ids[..]].concat());
            let ack = haproxy.expect_ack(stream_id, frame_id);
            assert_eq!(
                ack.bytes,
                [&[0, 0, 0, len, 103, 0, 0, 0, 1], &ids[..]].concat()
            );
        }
    }
    scene.server.stop();
}

/// A NOTIFY without messages, which 3.1 to 3.3 send, is answered; the agent sees no message in it.
#[test]
fn case_19_an_empty_notify_is_answered() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.send(&frame(3, 1, (1, 1), b""));
    assert_eq!(haproxy.expect_ack(1, 1).actions(), []);
    assert_eq!(scene.seer.calls(), 1);
    assert_eq!(scene.seer.take_messages(), []);
    scene.server.stop();
}

/// No arguments, 255 of them, without names, of one name, messages of one name: all reach the agent
/// in their order.
#[test]
fn case_20_messages_and_arguments_keep_their_order() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    let unnamed = |n: i64| (Vec::new(), "INT64", n.to_string().into_bytes());

    haproxy.send(&notify_with(1, 1, "none", &[]));
    haproxy.expect_ack(1, 1);
    let many: Vec<_> = (0..255).map(|n| Argument::new("", i64::from(n))).collect();
    haproxy.send(&notify_with(2, 1, "many", &many));
    haproxy.expect_ack(2, 1);
    let seen = scene.seer.take_messages();
    assert_eq!(seen[0], (b"none".to_vec(), vec![]));
    assert_eq!(seen[1].1, (0..255).map(unnamed).collect::<Vec<Seen>>());

    // Twice message "m", with twice argument "a", and one without a name.
    let payload = b"\x01m\x03\x01a\x04\x01\x01a\x04\x02\x00\x04\x03\x01m\x01\x01a\x04\x04";
    haproxy.send(&frame(3, 1, (3, 1), payload));
    haproxy.expect_ack(3, 1);
    let a = |n: &str| (b"a".to_vec(), "INT64", n.as_bytes().to_vec());
    let expected = [
        (b"m".to_vec(), vec![a("1"), a("2"), unnamed(3)]),
        (b"m".to_vec(), vec![a("4")]),
    ];
    assert_eq!(scene.seer.take_messages(), expected);
    scene.server.stop();
}

/// Every type of value reaches the agent undamaged.
#[test]
fn case_21_every_type_of_value_is_decoded() {
    let mut config = config(Driver::Auto);
    config.limits.max_frame_size = 131_068;
    let scene = Scene::with(config);
    let mut haproxy = scene.server.connect();
    assert_eq!(haproxy.shake_hands(131_068), 131_068);

    let raw: [(&[u8], &str, &[u8]); 13] = [
        (b"\x00", "NULL", b"null"),
        (b"\x08\x00", "STRING", b""),
        (b"\x01", "BOOL", b"false"),
        (b"\x11", "BOOL", b"true"),
        // Only a high nibble of exactly 1 is true.
        (b"\x31", "BOOL", b"false"),
        (
            b"\x02\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
            "INT32",
            b"-1",
        ),
        (
            b"\x04\xfb\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
            "INT64",
            b"-5",
        ),
        (
            b"\x05\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e",
            "UINT64",
            b"18446744073709551615",
        ),
        (b"\x06\xc0\x00\x02\x01", "IPV4", b"192.0.2.1"),
        (b"\x09\x02\x00\xff", "BINARY", b"\x00\xff"),
        (b"\x08\x04caf\xe9", "STRING", b"caf\xe9"),
        // The tag has a bit that means nothing.
        (b"\x18\x01s", "STRING", b"s"),
        (b"\x03\xff\xf0\xfe\xfe\x7e", "UINT32", b"4294967295"),
    ];
    let mut payload = b"\x01m\x0d".to_vec();
    for (bytes, ..) in raw {
        payload.extend_from_slice(b"\x01v");
        payload.extend_from_slice(bytes);
    }
    haproxy.send(&frame(3, 1, (1, 1), &payload));
    haproxy.expect_ack(1, 1);
    let expected: Vec<Seen> = raw
        .iter()
        .map(|&(_, name, text)| (b"v".to_vec(), name, text.to_vec()))
        .collect();
    assert_eq!(scene.seer.take_messages(), [(b"m".to_vec(), expected)]);

    // The rest goes both ways.
    let blob: Vec<u8> = (0_u8..=255).cycle().take(64 * 1024).collect();
    let values = [
        TypedData::Int64(i64::MIN),
        TypedData::Int64(i64::MAX),
        TypedData::Int32(i32::MIN),
        TypedData::Ipv4(Ipv4Addr::BROADCAST),
        TypedData::Ipv6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        TypedData::Null,
        TypedData::Bool(true),
        TypedData::String(b"caf\xe9\0"),
        TypedData::Binary(&blob),
    ];
    for (stream_id, value) in (10..).zip(values) {
        let argument = Argument { name: b"v", value };
        haproxy.send(&notify_with(stream_id, 1, "echo", &[argument]));
        let ack = haproxy.expect_ack(stream_id, 1);
        assert!(ack.value("answer") == Some(value), "{}", value.type_name());
    }
    scene.server.stop();
}

/// A message the agent does not know is answered without actions.
#[test]
fn case_22_an_unknown_message_is_answered() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    assert_eq!(haproxy.ask(1, "no-such-message", 1).actions(), []);
    scene.server.stop();
}

/// Twenty NOTIFYs answered in reverse, from another thread, with an ACK each, while others are
/// answered on the spot: every ACK once, whole, and with its own answer.
#[test]
fn case_23_answers_in_reverse_order_never_mix() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut haproxy = scene.server.introduce();
        let late: Vec<u8> = (0..20_u8)
            .flat_map(|n| notify(u64::from(n), 1, "late", i64::from(n)))
            .collect();
        haproxy.send(&late);
        let mut tickets = scene.take_tickets(20);
        let answering = std::thread::spawn(move || {
            while let Some((n, ticket)) = tickets.pop() {
                // Of a length and content of its own.
                let byte = u8::try_from(n).unwrap();
                answer(ticket, &vec![byte; 3000 + usize::from(byte)][..]);
            }
        });
        // Meanwhile the pump writes too.
        for n in 20..120_u8 {
            haproxy.send(&notify(u64::from(n), 1, "big", 1000));
        }
        let mut acks = BTreeMap::new();
        for _ in 0..120 {
            let ack = haproxy.expect_frame();
            let (stream_id, frame_id) = ack.ids();
            assert_eq!(frame_id, 1);
            let value = match ack.value("answer") {
                Some(TypedData::Binary(value)) => value.to_vec(),
                other => panic!("stream {stream_id} was answered {other:?}"),
            };
            assert!(acks.insert(stream_id, value).is_none(), "answered twice");
        }
        answering.join().unwrap();
        for n in 0..20_u8 {
            assert!(acks[&u64::from(n)] == vec![n; 3000 + usize::from(n)]);
        }
        for n in 20..120 {
            assert!(acks[&n] == vec![7; 1000]);
        }
        haproxy.expect_silence(Duration::from_millis(20));
        let stats = scene.server.stop();
        assert_eq!((stats.notifies, stats.acks, stats.deferred), (120, 120, 20));
    });
}

/// The same ids on two connections are two NOTIFYs, each answered where it came from.
#[test]
fn case_24_ids_belong_to_their_connection() {
    let scene = Scene::start();
    let mut first = scene.server.introduce();
    let mut second = scene.server.introduce();
    first.send(&notify(1, 1, "late", 100));
    second.send(&notify(1, 1, "late", 200));
    let mut tickets = scene.take_tickets(2);
    tickets.sort_by_key(|(n, _)| -n);
    for (n, ticket) in tickets {
        answer(ticket, n);
    }
    assert_eq!(first.expect_ack(1, 1).value("answer"), int(100));
    assert_eq!(second.expect_ack(1, 1).value("answer"), int(200));
    assert_eq!(first.ask(1, "now", 1).value("answer"), int(1));
    assert_eq!(second.ask(1, "now", 2).value("answer"), int(2));
    scene.server.stop();
}

/// Two frames of one stream under way are two NOTIFYs.
#[test]
fn case_25_two_frames_of_a_stream_are_both_answered() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.send(&notify(1, 1, "late", 1));
    haproxy.send(&notify(1, 2, "late", 2));
    let tickets = scene.take_tickets(2);
    // A ticket that is sent while its handler still runs waits for it.
    crate::support::eventually("both are deferred", || {
        scene.server.handle().stats().deferred == 2
    });
    for (n, ticket) in tickets.into_iter().rev() {
        answer(ticket, n);
    }
    assert_eq!(haproxy.expect_ack(1, 2).value("answer"), int(2));
    assert_eq!(haproxy.expect_ack(1, 1).value("answer"), int(1));
    scene.server.stop();
}

/// An agent that fails, panics, drops its ticket or takes too long gets the fallback for that
/// NOTIFY alone.
#[test]
fn case_26_a_failure_concerns_its_own_notify_only() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.agent_deadline = Duration::from_millis(100);
        let failed = Variable::literal(Scope::Transaction, "failed");
        config.fallback = Fallback::with_variables([(failed, TypedData::Int64(1))]).unwrap();
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        let messages = [
            "error", "now", "panic", "now", "abandon", "now", "late", "now",
        ];
        let mut all = Vec::new();
        for (stream_id, message) in (1..).zip(messages) {
            all.extend(notify(stream_id, 1, message, 5));
        }
        haproxy.send(&all);
        let mut acks = BTreeMap::new();
        for _ in messages {
            let ack = haproxy.expect_frame();
            assert!(acks.insert(ack.ids().0, ack).is_none(), "answered twice");
        }
        for (stream_id, message) in (1..).zip(messages) {
            let ack = &acks[&stream_id];
            let expected = if message == "now" { "answer" } else { "failed" };
            assert_eq!(ack.actions().len(), 1, "{message}");
            assert!(ack.value(expected).is_some(), "{message}");
        }
        haproxy.ask(9, "now", 1);
        let stats = scene.server.stop();
        assert_eq!((stats.notifies, stats.acks), (9, 9));
        let faults = [
            stats.agent_errors,
            stats.agent_panics,
            stats.tickets_abandoned,
            stats.deadlines_passed,
        ];
        assert_eq!(faults, [1; 4]);
    });
}

/// An agent that keeps its core longer than the deadline has an answer all the same, and is counted.
#[test]
fn case_26_an_overrun_is_answered_and_counted() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.agent_deadline = Duration::from_millis(20);
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        haproxy.ask(1, "now", 1);
        haproxy.send(&notify(3, 1, "block", 100));
        haproxy.expect_ack(3, 1);
        haproxy.ask(5, "now", 1);
        let stats = scene.server.stop();
        assert_eq!((stats.acks, stats.overruns), (3, 1));
    });
}

/// HAProxy may have given up: the late ACK is sent all the same, and once.
#[test]
fn case_27_a_late_answer_is_sent_once() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.agent_deadline = Duration::from_millis(300);
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();

        // In time for us, too late for HAProxy.
        haproxy.send(&notify(1, 1, "late-forever", 1));
        let ticket = scene.take_tickets(1).remove(0).1;
        haproxy.expect_silence(Duration::from_millis(100));
        answer(ticket, 1_i64);
        assert_eq!(haproxy.expect_ack(1, 1).value("answer"), int(1));

        // Too late for us as well: the fallback went out before.
        haproxy.send(&notify(2, 1, "late", 2));
        let ticket = scene.take_tickets(1).remove(0).1;
        assert_eq!(haproxy.expect_ack(2, 1).actions(), []);
        answer(ticket, 2_i64);
        haproxy.expect_silence(Duration::from_millis(50));
        haproxy.ask(3, "now", 1);
        let stats = scene.server.stop();
        assert_eq!((stats.acks, stats.deadlines_passed), (3, 1));
        assert_eq!(stats.late_answers_discarded, 1);
    });
}

/// Without pipelining the next NOTIFY comes after the ACK: no answer may wait for more input.
#[test]
fn case_28_an_answer_does_not_wait_for_more_input() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut haproxy = scene.server.connect();
        haproxy.send(&hello(FRAME_SIZE, ""));
        haproxy.expect_hello();
        for n in 0..100 {
            if n % 2 == 0 {
                assert_eq!(haproxy.ask(n, "now", 1).value("answer"), int(1));
            } else {
                haproxy.send(&notify(n, 1, "late", 2));
                let (_, mut ticket) = scene.take_tickets(1).remove(0);
                ticket.set_var(ANSWER, 2_i64).unwrap();
                ticket.send();
                assert_eq!(haproxy.expect_ack(n, 1).value("answer"), int(2));
            }
        }
        scene.server.stop();
    });
}

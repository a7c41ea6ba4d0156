//! What the agent may send, and how it looks on the wire.

use std::time::Duration;

use ringspoa::spop::{
    Action, Disconnect, EncodeError, MAX_VARIABLE_LEN, Scope, Status, TypedData, Variable,
    VariableError,
};
use ringspoa::{Driver, Fallback};

use crate::agent::{ANSWER, Scene};
use crate::on_both_drivers;
use crate::support::{FRAME_SIZE, config, frame, haproxy_disconnect, hello, notify};

/// Negative numbers take ten bytes, booleans are 0x11 and 0x01, strings have the type byte 0x08.
#[test]
fn case_45_values_have_haproxys_encoding() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    let expected: &[u8] = b"\0\0\0\x3f\x67\0\0\0\x01\x01\x01\
        \x01\x03\x02\x06answer\x02\xff\xf0\xfe\xfe\xfe\xfe\xfe\xfe\xfe\x0e\
        \x01\x03\x02\x06answer\x11\
        \x01\x03\x02\x06answer\x01\
        \x01\x03\x02\x06answer\x08\x01s";
    haproxy.send(&notify(1, 1, "values", 0));
    assert_eq!(haproxy.expect_frame().bytes, expected);
    scene.server.stop();
}

/// Names HAProxy would ignore cannot be made, so they are never sent.
#[test]
fn case_46_bad_variable_names_are_refused() {
    for (name, byte) in [("a-b", b'-'), ("a b", b' '), ("a\0b", 0), ("é", 0xc3)] {
        let refused = Variable::new(Scope::Transaction, name);
        assert_eq!(refused, Err(VariableError::Character(byte)));
    }
    assert_eq!(
        Variable::new(Scope::Transaction, ""),
        Err(VariableError::Empty)
    );
    for (scope, word) in [
        (Scope::Process, "proc"),
        (Scope::Session, "sess"),
        (Scope::Transaction, "txn"),
        (Scope::Request, "req"),
        (Scope::Response, "res"),
    ] {
        let name = "n".repeat(61 - word.len());
        assert!(Variable::new(scope, &name).is_ok(), "{word}");
        let longer = format!("{name}n");
        assert_eq!(
            Variable::new(scope, &longer),
            Err(VariableError::TooLong),
            "{word}"
        );
    }
    assert_eq!(MAX_VARIABLE_LEN, 61);

    let failed = Variable::literal(Scope::Transaction, "failed");
    let mut config = config(Driver::Auto);
    config.fallback = Fallback::with_variables([(failed, true.into())]).unwrap();
    let scene = Scene::with(config);
    let mut haproxy = scene.server.introduce();
    let ack = haproxy.ask(1, "bad-name", 1);
    assert_eq!(ack.actions().len(), 1);
    assert_eq!(ack.value("failed"), Some(TypedData::Bool(true)));
    assert_eq!(scene.server.stop().agent_errors, 1);
}

/// Actions that do not fit are left out, all of them; no frame is of the maximum size; and answers
/// to a pile of NOTIFYs go out before the next ones are made.
#[test]
fn case_47_actions_that_do_not_fit_are_left_out() {
    let failed = Variable::literal(Scope::Transaction, "failed");
    let mut config = config(Driver::Auto);
    config.fallback = Fallback::with_variables([(failed, true.into())]).unwrap();
    let scene = Scene::with(config);
    let mut haproxy = scene.server.introduce();
    // Header, action, type and length: what a value cannot have.
    let most = i64::from(FRAME_SIZE) - 1 - 7 - 10 - 1 - 3;
    let ack = haproxy.ask(1, "big", most);
    assert_eq!(ack.frame_len(), FRAME_SIZE as usize - 1);
    assert!(ack.value("answer").is_some());
    for (stream_id, message) in [(2, "big"), (3, "big-unnoticed")] {
        for size in [most + 1, most + 2, 1_000_000] {
            let ack = haproxy.ask(stream_id, message, size);
            assert_eq!(ack.actions().len(), 1);
            assert_eq!(ack.value("failed"), Some(TypedData::Bool(true)));
        }
    }
    let stats = scene.server.stop();
    assert_eq!((stats.too_large, stats.acks), (6, 7));

    // A fallback that fits no frame of a connection is left out as well.
    let mut config = crate::support::config(Driver::Auto);
    config.fallback = Fallback::with_variables([(failed, (&[7; 300][..]).into())]).unwrap();
    let scene = Scene::with(config);
    let mut small = scene.server.connect();
    assert_eq!(small.shake_hands(256), 256);
    assert_eq!(small.ask(1, "big", 300).actions(), []);
    assert_eq!(small.ask(2, "error", 0).actions(), []);
    scene.server.stop();
}

/// The same for an answer that comes late.
#[test]
fn case_47_late_actions_that_do_not_fit_are_left_out() {
    let failed = Variable::literal(Scope::Transaction, "failed");
    let mut config = config(Driver::Auto);
    config.fallback = Fallback::with_variables([(failed, true.into())]).unwrap();
    let scene = Scene::with(config);
    let mut haproxy = scene.server.introduce();
    let most = FRAME_SIZE as usize - 1 - 7 - 10 - 1 - 3;
    haproxy.send(&notify(1, 1, "late", 1));
    let (_, mut ticket) = scene.take_tickets(1).remove(0);
    ticket.set_var(ANSWER, &vec![7; most][..]).unwrap();
    ticket.send();
    assert_eq!(
        haproxy.expect_ack(1, 1).frame_len(),
        FRAME_SIZE as usize - 1
    );
    haproxy.send(&notify(2, 1, "late", 2));
    let (_, mut ticket) = scene.take_tickets(1).remove(0);
    ticket.set_var(ANSWER, 1_i64).unwrap();
    let refused = ticket.set_var(ANSWER, &vec![7; most][..]);
    assert_eq!(refused, Err(EncodeError::Full));
    ticket.send();
    let ack = haproxy.expect_ack(2, 1);
    assert_eq!(ack.actions().len(), 1, "no half an answer");
    assert_eq!(ack.value("failed"), Some(TypedData::Bool(true)));
    assert_eq!(scene.server.stop().too_large, 1);
}

/// Answers are written by half a frame size: before the agent is asked for more, HAProxy has got
/// what fills that.
#[test]
fn case_47_a_pile_of_answers_is_written_in_parts() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut haproxy = scene.server.introduce();
        // ACKs of 1024 bytes and some: the eighth fills half of 16 380.
        let pile: Vec<u8> = (1..=20_u8)
            .flat_map(|n| {
                let gate = if n > 9 { i64::from(n) - 9 } else { 0 };
                notify(u64::from(n), 1, "gate", gate)
            })
            .collect();
        haproxy.send(&pile);
        let mut received = 0;
        for n in 1..=20 {
            let ack = haproxy.expect_ack(n, 1);
            assert!(ack.value("answer").is_some(), "answer {n} waited for more");
            received += ack.bytes.len();
            scene.seer.open_gate(n);
        }
        assert!(received > 16_384, "together they would fill the buffer");
        scene.server.stop();
    });
}

/// A NULL is on the wire as such; HAProxy unsets the variable.
#[test]
fn case_48_null_is_a_set_var_without_a_value() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.send(&notify(1, 1, "null", 0));
    let ack = haproxy.expect_ack(1, 1);
    assert_eq!(&ack.bytes[11..], b"\x01\x03\x02\x06answer\x00");
    haproxy.send(&notify(2, 1, "unset", 0));
    let ack = haproxy.expect_ack(2, 1);
    assert_eq!(&ack.bytes[11..], b"\x02\x02\x02\x06answer");
    scene.server.stop();
}

/// Nothing to say is an ACK without actions, or, for 3.1.0 which waits for ever on one, an ACK with
/// an action that changes nothing.
#[test]
fn case_49_acks_can_be_made_never_empty() {
    for never_empty in [false, true] {
        let mut config = config(Driver::Auto);
        config.never_empty_acks = never_empty;
        config.agent_deadline = Duration::from_millis(50);
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        let nothing = Action::UnsetVar {
            scope: Scope::Transaction,
            name: b"ringspoa_nothing",
        };
        let expected = if never_empty { vec![nothing] } else { vec![] };
        // Nothing said, failed, too large, abandoned, too late.
        for message in ["nothing", "error", "panic", "abandon", "late"] {
            let ack = haproxy.ask(1, message, 1);
            assert_eq!(ack.actions(), expected, "{message}");
        }
        assert_eq!(haproxy.ask(1, "big", 1_000_000).actions(), expected);
        haproxy.send(&frame(3, 1, (9, 1), b""));
        assert_eq!(haproxy.expect_ack(9, 1).actions(), expected, "no message");
        // What says something stays as it is.
        let ack = haproxy.ask(2, "now", 5);
        assert_eq!(ack.actions().len(), 1);
        assert_eq!(ack.value("answer"), Some(TypedData::Int64(5)));
        scene.server.stop();
    }
}

/// Every goodbye has both keys and a text that HAProxy up to 3.0 takes.
#[test]
fn case_50_a_goodbye_has_both_keys_and_a_short_text() {
    let mut long = Disconnect {
        status: Status::NORMAL,
        reason: &[b'x'; 255],
    };
    let mut out = [0; 512];
    let len = long.encode_agent(&mut out).unwrap();
    assert_eq!(&out[..11], b"\0\0\x01\x1f\x66\0\0\0\x01\0\0");
    assert_eq!(len, 4 + 0x11f);
    long.reason = &[b'x'; 256];
    assert_eq!(long.encode_agent(&mut out), Err(EncodeError::ReasonTooLong));

    let scene = Scene::start();
    let mut leaving = scene.server.introduce();
    leaving.send(&haproxy_disconnect(0));
    assert_eq!(
        leaving.receive_all(),
        b"\0\0\0\x25\x66\0\0\0\x01\0\0\x0bstatus-code\x03\x00\x07message\x08\x06normal"
    );
    let mut wrong = scene.server.introduce();
    wrong.send(&hello(FRAME_SIZE, ""));
    assert_eq!(
        wrong.receive_all(),
        b"\0\0\0\x35\x66\0\0\0\x01\0\0\x0bstatus-code\x03\x04\
          \x07message\x08\x16invalid frame received"
    );
    // And every text there is.
    for code in (0..=13).chain([99, u32::MAX]) {
        let disconnect = Disconnect::with_status(Status(code));
        assert!((1..=255).contains(&disconnect.reason.len()));
    }
    scene.server.stop();
}

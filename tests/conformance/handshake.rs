//! HELLO: what is accepted, what is refused, and with which status.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ringspoa::spop::{Status, TypedData};

use crate::agent::Scene;
use crate::on_both_drivers;
use crate::support::{
    FRAME_SIZE, config, eventually, frame, haproxy_disconnect, hello, hello_of, notify, pairs,
};

/// HAPROXY-HELLO of 3.2.0.
const GOLDEN_HELLO: &[u8] = b"\0\0\0\x7b\x01\0\0\0\x01\0\0\
    \x12supported-versions\x08\x032.0\x0emax-frame-size\x03\xfc\xf0\x06\
    \x0ccapabilities\x08\x0apipelining\
    \x09engine-id\x08\x24a3b0c44e-98fc-4c14-9afb-f4c8996fb924";

/// The answer to it.
pub(crate) const GOLDEN_AGENT_HELLO: &[u8] = b"\0\0\0\x4e\x65\0\0\0\x01\0\0\
    \x07version\x08\x032.0\x0emax-frame-size\x03\xfc\xf0\x06\
    \x0ccapabilities\x08\x18pipelining,fragmentation";

/// A HELLO is answered with version, size and capabilities, in a single segment: 3.2 and later
/// reset the connection otherwise.
#[test]
fn case_01_hello_is_answered_in_one_segment() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        for _ in 0..50 {
            let mut haproxy = scene.server.connect();
            haproxy.send(GOLDEN_HELLO);
            assert_eq!(haproxy.receive_once(), GOLDEN_AGENT_HELLO);
        }
        scene.server.stop();
    });
}

/// `async` is never accepted, though it is offered.
#[test]
fn case_02_async_is_not_answered_with_async() {
    let scene = Scene::start();
    let mut haproxy = scene.server.connect();
    haproxy.send(&hello(FRAME_SIZE, "pipelining,async"));
    let (_, capabilities) = haproxy.expect_hello();
    assert_eq!(capabilities, "pipelining,fragmentation");
    haproxy.ask(1, "now", 1);
    scene.server.stop();
}

/// A HAProxy without any capability is served, one NOTIFY at a time.
#[test]
fn case_03_empty_capabilities_are_accepted() {
    let scene = Scene::start();
    let mut haproxy = scene.server.connect();
    haproxy.send(&hello(FRAME_SIZE, ""));
    assert_eq!(haproxy.expect_hello().0, FRAME_SIZE);
    for stream_id in 1..=3 {
        let ack = haproxy.ask(stream_id, "now", 7);
        assert_eq!(ack.value("answer"), Some(TypedData::Int64(7)));
    }
    scene.server.stop();
}

/// The engine-id may be missing.
#[test]
fn case_04_hello_without_engine_id_is_accepted() {
    let scene = Scene::start();
    let mut haproxy = scene.server.connect();
    haproxy.send(&hello_of(&[
        ("supported-versions", "2.0".into()),
        ("max-frame-size", FRAME_SIZE.into()),
        ("capabilities", "pipelining".into()),
    ]));
    assert_eq!(haproxy.expect_hello().0, FRAME_SIZE);
    haproxy.ask(1, "now", 1);
    scene.server.stop();
}

/// Keys may come in any order, unknown ones of any type are skipped, and a `healthcheck` that is
/// false makes it no check.
#[test]
fn case_05_unknown_keys_in_any_order_are_accepted() {
    let scene = Scene::start();
    let mut haproxy = scene.server.connect();
    haproxy.send(&hello_of(&[
        ("x0", TypedData::Null),
        ("capabilities", "pipelining".into()),
        ("x1", true.into()),
        ("x2", (-2_i32).into()),
        ("x3", 3_u32.into()),
        ("engine-id", "e".into()),
        ("x4", i64::MIN.into()),
        ("x5", u64::MAX.into()),
        ("x6", Ipv4Addr::LOCALHOST.into()),
        ("healthcheck", false.into()),
        ("max-frame-size", FRAME_SIZE.into()),
        ("x7", std::net::Ipv6Addr::LOCALHOST.into()),
        ("x8", "text".into()),
        ("x9", (&b"\x00\xff"[..]).into()),
        ("supported-versions", "2.0".into()),
    ]));
    assert_eq!(haproxy.expect_hello().0, FRAME_SIZE);
    haproxy.ask(1, "now", 1);
    assert_eq!(scene.server.stop().health_checks, 0);
}

/// 2.0 is found in a list with spaces; a list without it is refused with status 8, then the
/// connection ends.
#[test]
fn case_06_only_a_list_with_version_2_0_is_accepted() {
    let scene = Scene::start();
    let with_versions = |versions: &'static str| {
        let mut haproxy = scene.server.connect();
        haproxy.send(&hello_of(&[
            ("supported-versions", versions.into()),
            ("max-frame-size", FRAME_SIZE.into()),
            ("capabilities", "pipelining".into()),
        ]));
        haproxy
    };
    for versions in ["2.0", "2.0, 1.5", " 2.0 ", "3.0,2.0"] {
        with_versions(versions).expect_hello();
    }
    for versions in ["1.0", "3.0", "2", "2.00", "", ","] {
        with_versions(versions).expect_disconnect(Status::BAD_VERSION);
    }
    assert_eq!(scene.server.stop().protocol_errors, 6);
}

/// The smallest size works and bounds every frame of ours, one less is refused with status 9, and
/// more than our own limit is answered with that limit.
#[test]
fn case_07_the_frame_size_is_negotiated() {
    let scene = Scene::start();

    let mut small = scene.server.connect();
    assert_eq!(small.shake_hands(256), 256);
    assert_eq!(small.ask(1, "big", 200).frame_len(), 219);
    let ack = small.ask(2, "big", 250);
    assert_eq!(ack.actions(), [], "what does not fit is left out");
    small.send(&notify(3, 1, "late", 3));
    for (_, mut ticket) in scene.take_tickets(1) {
        let too_large = ticket.set_var(crate::agent::ANSWER, &[7; 250][..]);
        assert!(too_large.is_err());
        ticket.send();
    }
    assert!(small.expect_ack(3, 1).frame_len() < 256);
    small.send(&haproxy_disconnect(0));
    let goodbye = small.expect_frame();
    assert!(goodbye.frame_len() < 256);

    let mut too_small = scene.server.connect();
    too_small.send(&hello(255, "pipelining"));
    too_small.expect_disconnect(Status::BAD_FRAME_SIZE);

    let mut huge = scene.server.connect();
    assert_eq!(
        huge.shake_hands(1_048_572),
        65_532,
        "the default limit of the server"
    );
    scene.server.stop();
}

/// Each missing key is refused with the status that names it.
#[test]
fn case_08_missing_keys_are_named() {
    let scene = Scene::start();
    let all = [
        (
            "supported-versions",
            TypedData::from("2.0"),
            Status::NO_VERSION,
        ),
        (
            "max-frame-size",
            FRAME_SIZE.into(),
            Status::NO_MAX_FRAME_SIZE,
        ),
        ("capabilities", "pipelining".into(), Status::NO_CAPABILITIES),
    ];
    for (missing, _, status) in all {
        let others: Vec<_> = all
            .iter()
            .filter(|(key, ..)| *key != missing)
            .map(|&(key, value, _)| (key, value))
            .collect();
        let mut haproxy = scene.server.connect();
        haproxy.send(&hello_of(&others));
        haproxy.expect_disconnect(status);
    }
    scene.server.stop();
}

/// The frame size may have any of the four integer types.
#[test]
fn case_09_the_frame_size_may_be_any_integer() {
    let scene = Scene::start();
    let with_size = |size: TypedData<'_>| {
        let mut haproxy = scene.server.connect();
        haproxy.send(&hello_of(&[
            ("supported-versions", "2.0".into()),
            ("max-frame-size", size),
            ("capabilities", "pipelining".into()),
        ]));
        haproxy
    };
    for size in [
        TypedData::Int32(16_380),
        TypedData::Uint32(16_380),
        TypedData::Int64(16_380),
        TypedData::Uint64(16_380),
    ] {
        assert_eq!(with_size(size).expect_hello().0, 16_380);
    }
    for size in [TypedData::Int32(-1), TypedData::String(b"16380")] {
        with_size(size).expect_disconnect(Status::INVALID);
    }
    with_size(TypedData::Uint64(1 << 32)).expect_disconnect(Status::BAD_FRAME_SIZE);
    scene.server.stop();
}

/// Nothing goes before HELLO: status 4, and the agent is not called.
#[test]
fn case_10_a_frame_before_hello_is_refused() {
    let scene = Scene::start();
    let frames = [
        notify(1, 1, "now", 1),
        frame(0, 1, (1, 1), b""),
        haproxy_disconnect(0),
        frame(200, 1, (0, 0), b""),
    ];
    for first in frames {
        let mut haproxy = scene.server.connect();
        haproxy.send(&first);
        haproxy.expect_disconnect(Status::INVALID);
    }
    assert_eq!(scene.seer.calls(), 0);
    let stats = scene.server.stop();
    assert_eq!((stats.notifies, stats.protocol_errors), (0, 4));
}

/// A HELLO without FIN, or with its flags in the wrong byte order, is refused with status 10.
#[test]
fn case_11_a_hello_without_fin_is_refused() {
    let scene = Scene::start();
    let content = pairs(&[
        ("supported-versions", "2.0".into()),
        ("max-frame-size", FRAME_SIZE.into()),
        ("capabilities", "pipelining".into()),
    ]);
    for flags in [0, 2, 0x0100_0000] {
        let mut haproxy = scene.server.connect();
        haproxy.send(&frame(1, flags, (0, 0), &content));
        haproxy.expect_disconnect(Status::NO_FRAGMENTATION);
    }
    scene.server.stop();
}

/// A second HELLO ends the connection with status 4 and changes nothing: it is not answered, and
/// what follows it is not served.
#[test]
fn case_12_a_second_hello_is_refused() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    haproxy.ask(1, "now", 1);
    let mut again = hello(256, "pipelining");
    again.extend(notify(2, 1, "now", 2));
    haproxy.send(&again);
    haproxy.expect_disconnect(Status::INVALID);
    assert_eq!(scene.seer.calls(), 1);
    scene.server.stop();
}

/// A peer that does not introduce itself in time is closed without a word; one that only tries
/// whether the port is open leaves no line in the log.
#[test]
fn case_13_silent_peers_are_closed_by_the_handshake_timer() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.limits.hello_timeout = Duration::from_millis(200);
        let scene = Scene::with(config);
        let began = Instant::now();
        let (mut silent, mut slow) = (scene.server.connect(), scene.server.connect());
        slow.send(&GOLDEN_HELLO[..3]);
        let mut prober = scene.server.connect();
        prober.finish_sending();
        assert_eq!(prober.receive_all(), b"");
        assert_eq!(silent.receive_all(), b"");
        assert_eq!(slow.receive_all(), b"");
        assert!(began.elapsed() >= Duration::from_millis(150), "too early");
        assert!(began.elapsed() < Duration::from_secs(3), "too late");
        // Those that did introduce themselves stay.
        let mut haproxy = scene.server.introduce();
        haproxy.expect_silence(Duration::from_millis(450));
        haproxy.ask(1, "now", 1);
        eventually("the others' sockets are closed", || {
            scene.server.open_sockets() == 1
        });
        assert_eq!(scene.seer.complaints(), [""; 0]);
        assert_eq!(scene.server.stop().timeouts, 2);
    });
}

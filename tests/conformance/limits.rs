//! Limits that shed: what is beyond them is answered or told, and counted.

use std::time::{Duration, Instant};

use ringspoa::Driver;
use ringspoa::spop::{FrameType, Status, TypedData};

use crate::agent::{Scene, answer};
use crate::check::GOLDEN_CHECK;
use crate::handshake::GOLDEN_AGENT_HELLO;
use crate::on_both_drivers;
use crate::support::{FRAME_SIZE, config, eventually, hello, hello_of, notify};

/// A listener has a limit of its own, which leaves the others alone.
#[test]
fn a_listener_has_a_limit_of_its_own() {
    let mut config = config(Driver::Auto);
    config.listen.push("127.0.0.1:0".parse().unwrap());
    config.max_connections_per_listener = 1;
    let scene = Scene::with(config);
    let mut first = scene.server.introduce();
    let mut second = scene.server.connect();
    second.send(&hello(FRAME_SIZE, "pipelining"));
    second.expect_disconnect(Status::NO_RESOURCES);
    let mut elsewhere = crate::support::FakeHaproxy::connect(scene.server.address_of(1));
    elsewhere.shake_hands(FRAME_SIZE);
    elsewhere.ask(1, "now", 1);
    first.ask(1, "now", 1);
    drop(elsewhere);
    assert_eq!(scene.server.stop().connections_surplus, 1);
}

/// A ticket too many on a core is answered with the fallback at once; those before are not harmed.
#[test]
fn a_ticket_too_many_gets_the_fallback_at_once() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.max_in_flight_per_core = 2;
        let scene = Scene::with(config);
        let (mut one, mut other) = (scene.server.introduce(), scene.server.introduce());
        one.send(&notify(1, 1, "late", 1));
        other.send(&notify(1, 1, "late", 2));
        let tickets = scene.take_tickets(2);
        other.send(&notify(2, 1, "late", 3));
        assert_eq!(other.expect_ack(2, 1).actions(), []);
        other.ask(3, "now", 1);
        let (_, shed) = scene.take_tickets(1).remove(0);
        answer(shed, 3_i64);
        for (n, ticket) in tickets {
            answer(ticket, n);
        }
        let value = |n| Some(TypedData::Int64(n));
        assert_eq!(one.expect_ack(1, 1).value("answer"), value(1));
        assert_eq!(other.expect_ack(1, 1).value("answer"), value(2));
        // There is room again.
        one.send(&notify(4, 1, "late", 4));
        answer(scene.take_tickets(1).remove(0).1, 4_i64);
        assert_eq!(one.expect_ack(4, 1).value("answer"), value(4));
        drop((one, other));
        let stats = scene.server.stop();
        assert_eq!((stats.shed, stats.late_answers_discarded), (1, 1));
        assert_eq!(stats.acks, stats.notifies);
    });
}

/// A refused HELLO is told so after a while, not at once: its sender would be back at once. Others
/// do not wait with it, nor does a drain.
#[test]
fn a_refused_hello_waits() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.refusal_delay = Duration::from_millis(300);
        let scene = Scene::with(config);
        let refused = || {
            let mut haproxy = scene.server.connect();
            haproxy.send(&hello_of(&[("supported-versions", "1.0".into())]));
            haproxy
        };
        let began = Instant::now();
        let mut waits = refused();
        let mut other = scene.server.introduce();
        other.ask(1, "now", 1);
        assert!(began.elapsed() < Duration::from_millis(300));
        let goodbye = waits.expect_frame();
        assert!(
            began.elapsed() >= Duration::from_millis(290),
            "{:?}",
            began.elapsed()
        );
        waits.check_disconnect(&goodbye, Status::NO_MAX_FRAME_SIZE);
        // One that gives up meanwhile leaves nothing behind.
        drop((refused(), waits, other));
        eventually("all have gone", || scene.server.open_sockets() == 0);
        scene.server.stop();
    });
}

/// Handshakes beyond the rate wait for their turn; all of them get it.
#[test]
fn handshakes_wait_for_their_turn() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.max_handshakes = 20;
        let scene = Scene::with(config);
        let mut haproxies: Vec<_> = (0..30).map(|_| scene.server.connect()).collect();
        let began = Instant::now();
        for haproxy in &mut haproxies {
            haproxy.send(&hello(FRAME_SIZE, "pipelining"));
        }
        for haproxy in &mut haproxies {
            haproxy.expect_hello();
        }
        // The bucket holds 20, and 10 more take half a second.
        assert!(
            began.elapsed() >= Duration::from_millis(400),
            "{:?}",
            began.elapsed()
        );
        haproxies[29].ask(1, "now", 1);
        drop(haproxies);
        let stats = scene.server.stop();
        assert!((8..=10).contains(&stats.handshakes_delayed), "{stats:?}");
    });
}

/// A handshake waits for its turn, but not for longer than one may take.
#[test]
fn handshakes_do_not_wait_for_ever() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.max_handshakes = 1;
        config.limits.hello_timeout = Duration::from_millis(300);
        let scene = Scene::with(config);
        let mut haproxies: Vec<_> = (0..40).map(|_| scene.server.connect()).collect();
        for haproxy in &mut haproxies {
            haproxy.send(&hello(FRAME_SIZE, "pipelining"));
        }
        // At one a second it would take 40 s until nobody waits.
        eventually("nobody waits any more", || scene.server.open_sockets() < 5);
        drop(haproxies);
        scene.server.stop();
    });
}

/// For the time of the notice a draining server does everything as before, but fails health checks.
#[test]
fn a_drain_fails_health_checks_first() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.drain_notice = Duration::from_millis(600);
        let scene = Scene::with(config);
        let mut early = scene.server.connect();
        let mut haproxy = scene.server.introduce();
        scene.server.handle().drain();
        assert!(scene.server.handle().is_draining());
        // A check that is quicker than the word of the drain is answered.
        eventually("checks fail", || {
            let mut check = scene.server.connect();
            check.send(GOLDEN_CHECK);
            check.expect_frame().frame().frame_type == FrameType::AgentDisconnect
        });
        let mut late = scene.server.connect();
        for check in [&mut late, &mut early] {
            check.send(GOLDEN_CHECK);
            check.expect_disconnect(Status::NORMAL);
        }
        let mut new = scene.server.introduce();
        new.ask(1, "now", 1);
        haproxy.ask(1, "now", 1);
        haproxy.expect_disconnect(Status::NORMAL);
        new.expect_disconnect(Status::NORMAL);
        drop((early, late, haproxy, new));
        let stats = scene.server.join();
        assert!(stats.health_checks_failed >= 3, "{stats:?}");
    });
}

/// Without a notice checks fail too, for as long as there is somebody to ask.
#[test]
fn a_check_before_the_drain_is_answered_and_one_during_it_fails() {
    let scene = Scene::start();
    let mut before = scene.server.connect();
    before.send(GOLDEN_CHECK);
    assert_eq!(before.receive_once(), GOLDEN_AGENT_HELLO);
    drop(before);
    let mut during = scene.server.connect();
    eventually("it was accepted", || scene.server.open_sockets() == 1);
    // Until nobody can connect any more, so that the core knows.
    scene.server.drain();
    // It may be gone already, which fails a check as well.
    if during.try_send(GOLDEN_CHECK).is_ok()
        && let Some(frame) = during.next_frame()
    {
        during.check_disconnect(&frame, Status::NORMAL);
    }
    scene.server.join();
}

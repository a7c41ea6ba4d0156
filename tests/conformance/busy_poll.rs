//! Busy polling changes when a core sleeps, and nothing else. Here it
//! hardly ever does, so that whatever depends on sleeping fails.

use std::time::Duration;

use ringspoa::spop::Status;
use ringspoa::{Driver, ServerConfig};

use crate::agent::{Scene, answer};
use crate::on_both_drivers;
use crate::support::{PATIENCE, config, eventually, notify};

fn always_awake(driver: Driver) -> ServerConfig {
    ServerConfig {
        busy_poll: Duration::from_secs(1),
        ..config(driver)
    }
}

/// Tickets come from other threads, whose wake-ups the event loop must get to.
#[test]
fn tickets_are_answered() {
    on_both_drivers(|driver| {
        let scene = Scene::with(ServerConfig {
            agent_deadline: PATIENCE,
            ..always_awake(driver)
        });
        let mut haproxy = scene.server.introduce();
        for stream_id in 1..=20 {
            haproxy.send(&notify(stream_id, 1, "late", 1));
            answer(scene.take_tickets(1).remove(0).1, 1_i64);
            haproxy.expect_ack(stream_id, 1);
        }
        let stats = scene.server.stop();
        assert_eq!((stats.deferred, stats.acks), (20, 20));
    });
}

/// Deadlines, timeouts and the drain hang on timers.
#[test]
fn timers_fire() {
    on_both_drivers(|driver| {
        let scene = Scene::with(ServerConfig {
            agent_deadline: Duration::from_millis(20),
            idle_timeout: Some(Duration::from_millis(300)),
            ..always_awake(driver)
        });
        let mut haproxy = scene.server.introduce();
        haproxy.send(&notify(1, 1, "late", 1));
        let ticket = scene.take_tickets(1);
        haproxy.expect_ack(1, 1);
        drop(ticket);
        haproxy.expect_disconnect(Status::TIMEOUT);
        let mut last = scene.server.introduce();
        last.ask(1, "now", 1);
        scene.server.drain();
        last.expect_disconnect(Status::NORMAL);
        drop(last);
        let stats = scene.server.join();
        assert_eq!((stats.deferred, stats.acks, stats.timeouts), (1, 2, 1));
    });
}

/// A core that polls must get to new connections, and hold no socket at the end.
#[test]
fn connections_come_and_go() {
    on_both_drivers(|driver| {
        let scene = Scene::with(always_awake(driver));
        for _ in 0..20 {
            let mut haproxy = scene.server.introduce();
            haproxy.ask(1, "now", 1);
        }
        eventually("the sockets are closed", || {
            scene.server.open_sockets() == 0
        });
        scene.server.stop();
    });
}

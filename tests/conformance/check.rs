//! Health checks.

use crate::agent::Scene;
use crate::handshake::GOLDEN_AGENT_HELLO;
use crate::on_both_drivers;
use crate::support::{config, eventually};

/// The check of `option spop-check`.
pub(crate) const GOLDEN_CHECK: &[u8] = b"\0\0\0\x4e\x01\0\0\0\x01\0\0\
    \x12supported-versions\x08\x032.0\x0emax-frame-size\x03\xfc\xf0\x06\
    \x0ccapabilities\x08\0\x0bhealthcheck\x11";

/// A check gets one HELLO with all three keys and not a byte more, up to the end; that HAProxy ends
/// it with a reset is no complaint.
#[test]
fn case_14_a_health_check_gets_a_hello_and_nothing_else() {
    assert_eq!(GOLDEN_CHECK.len(), 82);
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));

        let mut resets = scene.server.connect();
        resets.send(GOLDEN_CHECK);
        assert_eq!(resets.receive_once(), GOLDEN_AGENT_HELLO);
        resets.reset();

        let mut closes = scene.server.connect();
        closes.send(GOLDEN_CHECK);
        assert_eq!(closes.receive_once(), GOLDEN_AGENT_HELLO);
        closes.finish_sending();
        assert_eq!(closes.receive_all(), b"");

        // One that never closes is left after a while, without a goodbye.
        let mut stays = scene.server.connect();
        stays.send(GOLDEN_CHECK);
        assert_eq!(stays.receive_all(), GOLDEN_AGENT_HELLO);

        // What follows the HELLO is not served, and a drain says nothing either.
        let mut talks = scene.server.connect();
        let mut more = GOLDEN_CHECK.to_vec();
        more.extend(crate::support::notify(1, 1, "now", 1));
        talks.send(&more);
        assert_eq!(talks.receive_once(), GOLDEN_AGENT_HELLO);
        scene.server.drain();
        assert_eq!(talks.receive_all(), b"");

        assert_eq!(scene.seer.calls(), 0);
        assert_eq!(scene.seer.complaints(), [""; 0]);
        let stats = scene.server.join();
        assert_eq!((stats.health_checks, stats.protocol_errors), (4, 0));
    });
}

/// Checks by the hundred beside traffic do not reach the agent and leave nothing behind.
#[test]
fn case_15_checks_amid_traffic_cost_nothing() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    let mut live = Vec::new();
    for check in 0..200 {
        let mut checker = scene.server.connect();
        checker.send(GOLDEN_CHECK);
        assert_eq!(checker.receive_once(), GOLDEN_AGENT_HELLO);
        checker.reset();
        if check % 4 == 0 {
            haproxy.ask(check + 1, "now", 1);
        }
        if check % 100 == 99 {
            eventually("the checks' sockets are closed", || {
                scene.server.open_sockets() == 1
            });
            let ack = haproxy.ask(1000, "memory", 0);
            live.push(ack.value("live").and_then(|live| live.as_i64()).unwrap());
        }
    }
    assert!(
        live[1] - live[0] < 16 * 1024,
        "100 checks took memory for good: {live:?}"
    );
    assert_eq!(scene.seer.calls(), 50 + 2);
    let stats = scene.server.stop();
    assert_eq!((stats.health_checks, stats.notifies), (200, 52));
}

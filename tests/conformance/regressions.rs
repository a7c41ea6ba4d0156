//! Mistakes this server once made, each by the name of what was wrong.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringspoa::spop::{FrameType, Status, TypedData};
use ringspoa::{Driver, ListenAddress};

use crate::agent::{Scene, answer};
use crate::on_both_drivers;
use crate::support::{
    FakeHaproxy, PATIENCE, config, eventually, frame, haproxy_disconnect, notify,
};

/// A ticket whose NOTIFY had failed shared its serial with the next one, and answered it.
#[test]
fn a_ticket_of_a_failed_notify_answers_no_other() {
    let scene = Scene::start();
    let mut haproxy = scene.server.introduce();
    let mut both = notify(1, 1, "late-and-error", 1);
    both.extend(notify(2, 1, "late", 2));
    haproxy.send(&both);
    assert_eq!(haproxy.expect_ack(1, 1).actions(), []);
    let mut tickets = scene.take_tickets(2);
    let (second, first) = (tickets.remove(1), tickets.remove(0));
    assert_eq!((first.0, second.0), (1, 2));
    answer(first.1, 1_i64);
    haproxy.expect_silence(Duration::from_millis(50));
    answer(second.1, 2_i64);
    let ack = haproxy.expect_ack(2, 1);
    assert_eq!(ack.value("answer"), Some(TypedData::Int64(2)));

    // Nor does it when it is dropped.
    let mut both = notify(3, 1, "abandon-and-error", 3);
    both.extend(notify(4, 1, "late", 4));
    haproxy.send(&both);
    assert_eq!(haproxy.expect_ack(3, 1).actions(), []);
    haproxy.expect_silence(Duration::from_millis(50));
    answer(scene.take_tickets(1).remove(0).1, 4_i64);
    let ack = haproxy.expect_ack(4, 1);
    assert_eq!(ack.value("answer"), Some(TypedData::Int64(4)));
    assert_eq!(scene.server.stop().tickets_abandoned, 0);
}

/// An answer that was queued when HAProxy said goodbye went out after our own goodbye.
#[test]
fn no_ack_follows_a_goodbye() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut blocker = scene.server.introduce();
        for _ in 0..5 {
            let mut haproxy = scene.server.introduce();
            haproxy.send(&notify(1, 1, "late", 1));
            let ticket = scene.take_tickets(1).remove(0).1;
            // While the core is busy, the answer and the goodbye arrive.
            let calls = scene.seer.calls();
            blocker.send(&notify(1, 1, "block", 50));
            eventually("the core is busy", || scene.seer.calls() > calls);
            haproxy.send(&haproxy_disconnect(0));
            answer(ticket, 1_i64);
            let mut last = haproxy.expect_frame();
            if last.frame().frame_type == FrameType::Ack {
                last = haproxy.expect_frame();
            }
            haproxy.check_disconnect(&last, Status::NORMAL);
            haproxy.expect_end();
            blocker.expect_ack(1, 1);
        }
        scene.server.stop();
    });
}

/// The goodbye of a drain overtook an answer that waited for late answers to be written.
#[test]
fn a_goodbye_overtakes_no_answer() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.drain_timeout = Duration::from_millis(10);
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        // More than the kernel takes for a peer that does not read, so that writing stops.
        let late: Vec<u8> = (0..400).flat_map(|n| notify(n, 1, "late", 1)).collect();
        haproxy.send(&late);
        for (_, ticket) in scene.take_tickets(400) {
            answer(ticket, &[7; 16_000][..]);
        }
        let calls = scene.seer.calls();
        haproxy.send(&notify(400, 1, "now", 1));
        eventually("the answer is made", || scene.seer.calls() > calls);
        scene.server.drain();
        // Nothing tells when the goodbye is said. If it is not by now, this shows less than it can.
        std::thread::sleep(Duration::from_millis(150));
        let mut answered = vec![false; 401];
        loop {
            let frame = haproxy.expect_frame();
            if frame.frame().frame_type == FrameType::AgentDisconnect {
                break;
            }
            let stream_id = usize::try_from(frame.ids().0).unwrap();
            assert!(!std::mem::replace(&mut answered[stream_id], true));
        }
        assert!(answered.iter().all(|&answered| answered));
        haproxy.expect_end();
        drop(haproxy);
        scene.server.join();
    });
}

/// A peer that was disconnected for being idle was counted again at every look until it closed.
#[test]
fn an_idle_peer_is_counted_once() {
    let mut config = config(Driver::Auto);
    config.idle_timeout = Some(Duration::from_millis(200));
    let scene = Scene::with(config);
    let mut haproxy = scene.server.introduce();
    let goodbye = haproxy.expect_frame();
    haproxy.check_disconnect(&goodbye, Status::TIMEOUT);
    // It stays until the server has had enough.
    eventually("the peer is cut", || scene.server.open_sockets() == 0);
    haproxy.expect_end();
    assert_eq!(scene.server.stop().timeouts, 1);
}

/// The first answers of a slow agent waited for its last ones.
#[test]
fn a_slow_agents_first_answers_go_out_first() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut haproxy = scene.server.introduce();
        let all: Vec<u8> = (0..64).flat_map(|id| notify(id, 1, "block", 20)).collect();
        haproxy.send(&all);
        haproxy.expect_ack(0, 1);
        let calls = scene.seer.calls();
        assert!(
            calls < 64,
            "all {calls} were asked before the first was told"
        );
        for id in 1..64 {
            haproxy.expect_ack(id, 1);
        }
        drop(haproxy);
        scene.server.stop();
    });
}

/// Durations that mean "for ever" overflowed the clock, and took the core with them.
#[test]
fn endless_timeouts_are_allowed() {
    let mut config = config(Driver::Auto);
    config.agent_deadline = Duration::MAX;
    config.write_timeout = Duration::MAX;
    config.drain_timeout = Duration::MAX;
    config.idle_timeout = Some(Duration::MAX);
    config.limits.hello_timeout = Duration::MAX;
    let scene = Scene::with(config);
    let mut haproxy = scene.server.introduce();
    haproxy.send(&notify(1, 1, "late", 1));
    haproxy.send(&notify(2, 1, "late-forever", 1));
    for (n, ticket) in scene.take_tickets(2) {
        haproxy.expect_silence(Duration::from_millis(120));
        answer(ticket, n);
        haproxy.expect_frame();
    }
    scene.server.drain();
    haproxy.expect_disconnect(Status::NORMAL);
    drop(haproxy);
    scene.server.join();
}

/// On epoll a read or write that need not wait never let another task run, so one busy peer had a
/// core, its timers included, for itself.
#[test]
fn a_busy_peer_leaves_room_for_others() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.agent_deadline = Duration::from_millis(50);
        let scene = Scene::with(config);
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..2 {
            let busy = scene.server.introduce();
            let mut reading = busy.socket().try_clone().unwrap();
            let mut writing = busy.socket().try_clone().unwrap();
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || {
                // What is read matters only so that the server can write.
                let mut sink = vec![0; 256 * 1024];
                while std::io::Read::read(&mut reading, &mut sink).is_ok_and(|len| len > 0) {}
            }));
            threads.push(std::thread::spawn(move || {
                let batch = notify(1, 1, "now", 1).repeat(4000);
                while !stop.load(Ordering::SeqCst) {
                    if std::io::Write::write_all(&mut writing, &batch).is_err() {
                        break;
                    }
                }
                let _ = busy.socket().shutdown(std::net::Shutdown::Both);
            }));
        }
        let began = Instant::now();
        let mut other = scene.server.introduce();
        while began.elapsed() < Duration::from_millis(500) {
            let asked = Instant::now();
            other.ask(1, "now", 1);
            assert!(asked.elapsed() < Duration::from_secs(1));
        }
        // Timers go on as well.
        let asked = Instant::now();
        assert_eq!(other.ask(2, "late", 1).actions(), []);
        assert!(asked.elapsed() < Duration::from_secs(2));
        stop.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(scene.server.stop().deadlines_passed, 1);
    });
}

/// A drained server has given its sockets back, also those that were never used.
#[test]
fn a_drained_server_holds_no_socket() {
    on_both_drivers(|driver| {
        for connections in [0, 3] {
            let scene = Scene::with(config(driver));
            let port = scene.server.port();
            let open: Vec<FakeHaproxy> =
                (0..connections).map(|_| scene.server.introduce()).collect();
            scene.server.stop();
            drop(open);
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let held = table.lines().filter(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields[1].ends_with(&format!(":{port:04X}")) && fields[9] != "0"
            });
            assert_eq!(held.collect::<Vec<_>>(), [""; 0]);
        }
    });
}

/// A task asleep at the end kept the agent of its core for ever.
#[test]
fn a_drained_server_lets_its_agents_go() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.agent_deadline = PATIENCE;
        config.drain_timeout = Duration::from_millis(100);
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        haproxy.send(&notify(1, 1, "late", 1));
        let tickets = scene.take_tickets(1);
        let Scene {
            server,
            seer,
            tickets: no_more,
        } = scene;
        server.stop();
        assert_eq!(Arc::strong_count(&seer), 1);
        assert!(no_more.recv().is_err(), "the agent could still send");
        drop(tickets);
    });
}

/// A connection that is full is not read, and its answers find the peer gone: it must end all the
/// same.
#[test]
fn a_full_connection_that_is_reset_ends() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.limits.max_in_flight = 2;
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        for stream_id in 1..=5 {
            haproxy.send(&notify(stream_id, 1, "late", 1));
        }
        let tickets = scene.take_tickets(2);
        haproxy.reset();
        for (_, ticket) in tickets {
            answer(ticket, &[7; 16_000][..]);
        }
        eventually("the socket is closed", || scene.server.open_sockets() == 0);
        scene.server.introduce().ask(1, "now", 1);
        scene.server.stop();
    });
}

/// A full connection is read again when an answer has gone out, and loses nothing.
#[test]
fn a_full_connection_goes_on_after_an_answer() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.limits.max_in_flight = 2;
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        let all: Vec<u8> = (0..500).flat_map(|n| notify(n, 1, "late", 1)).collect();
        haproxy.send(&all);
        let mut answered = 0;
        while answered < 500 {
            let (n, ticket) = scene.tickets.recv_timeout(PATIENCE).unwrap();
            assert!(scene.seer.calls() <= answered + 2, "more than agreed");
            answer(ticket, n);
            haproxy.expect_ack(answered, 1);
            answered += 1;
        }
        scene.server.stop();
    });
}

/// Over a Unix socket all of it works as over TCP.
#[test]
fn a_unix_socket_serves_too() {
    on_both_drivers(|driver| {
        let name = format!("ringspoa-conformance-{}-{driver:?}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut config = config(driver);
        config.listen = vec![ListenAddress::Unix {
            path: path.clone(),
            mode: None,
            user: None,
            group: None,
        }];
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        haproxy.ask(1, "now", 1);
        haproxy.send(&notify(2, 1, "late", 2));
        answer(scene.take_tickets(1).remove(0).1, 2_i64);
        haproxy.expect_ack(2, 1);
        scene.server.drain();
        haproxy.expect_disconnect(Status::NORMAL);
        drop(haproxy);
        scene.server.join();
        assert!(!path.exists());
    });
}

/// A peer that began a fragmented message and stayed silent was never idle.
#[test]
fn half_a_message_does_not_keep_an_idle_peer() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.idle_timeout = Some(Duration::from_millis(200));
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        haproxy.send(&frame(3, 0, (1, 1), b"\x01m"));
        haproxy.expect_disconnect(Status::TIMEOUT);
        assert_eq!(scene.server.stop().timeouts, 1);
    });
}

/// The same peer held a drain up to its deadline.
#[test]
fn half_a_message_does_not_hold_a_drain_up() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.drain_timeout = Duration::from_secs(60);
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        haproxy.send(&frame(3, 0, (1, 1), b"\x01m"));
        scene.server.drain();
        haproxy.expect_disconnect(Status::NORMAL);
        scene.server.join();
    });
}

/// A peer that took its answers slowly was told goodbye for being idle, with answers to come.
#[test]
fn a_peer_that_takes_its_answers_slowly_is_not_idle() {
    on_both_drivers(|driver| {
        const COUNT: u64 = 1500;
        let mut config = config(driver);
        config.idle_timeout = Some(Duration::from_millis(300));
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        // More than the sockets of both sides hold.
        let mut writer = haproxy.socket().try_clone().unwrap();
        let all: Vec<u8> = (1..=COUNT)
            .flat_map(|id| notify(id, 1, "big", 14_000))
            .collect();
        let sending = std::thread::spawn(move || writer.write_all(&all).unwrap());
        std::thread::sleep(Duration::from_millis(1000));
        for id in 1..=COUNT {
            haproxy.expect_ack(id, 1);
        }
        sending.join().unwrap();
        haproxy.expect_disconnect(Status::TIMEOUT);
        scene.server.stop();
    });
}

/// On epoll a queue of connections that never emptied kept the core from everyone else.
#[test]
fn a_flood_of_connections_leaves_room_for_others() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.max_connections = 3;
        let name = format!("ringspoa-flood-{}-{driver:?}", std::process::id());
        let path = std::env::temp_dir().join(name);
        config.listen = vec![ListenAddress::Unix {
            path: path.clone(),
            mode: None,
            user: None,
            group: None,
        }];
        let scene = Scene::with(config);
        let mut haproxy = scene.server.introduce();
        let end = Arc::new(AtomicBool::new(false));
        let flooding: Vec<_> = (0..3)
            .map(|_| {
                let (end, path) = (Arc::clone(&end), path.clone());
                std::thread::spawn(move || {
                    while !end.load(Ordering::Relaxed) {
                        drop(std::os::unix::net::UnixStream::connect(&path));
                    }
                })
            })
            .collect();
        let began = Instant::now();
        for id in 1..=20 {
            haproxy.ask(id, "now", 1);
        }
        let took = began.elapsed();
        end.store(true, Ordering::Relaxed);
        for thread in flooding {
            thread.join().unwrap();
        }
        // One answer took many seconds.
        assert!(took < Duration::from_secs(5), "20 answers in {took:?}");
        scene.server.stop();
    });
}

//! How connections end, and what they may cost others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringspoa::Driver;
use ringspoa::spop::{FrameType, Status, TypedData};

use crate::agent::{ANSWER, Scene, answer};
use crate::on_both_drivers;
use crate::support::{
    FRAME_SIZE, FakeHaproxy, config, eventually, haproxy_disconnect, hello, notify,
};

/// Less than the server waits for a peer to close: what takes longer was ended by that timer.
const PROMPT: Duration = Duration::from_millis(900);

/// HAProxy's goodbye is answered at once with status 0, whatever its own; no answer comes after,
/// and those under way are given up.
#[test]
fn case_39_a_disconnect_is_answered_at_once() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        for status in [0, 1, 2, 3, 10, 99, 12_345] {
            let began = Instant::now();
            let mut idle = scene.server.introduce();
            idle.ask(1, "now", 1);
            idle.send(&haproxy_disconnect(status));
            idle.expect_disconnect(Status::NORMAL);
            assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());

            let began = Instant::now();
            let mut busy = scene.server.introduce();
            for stream_id in 1..=3 {
                busy.send(&notify(stream_id, 1, "late", 1));
            }
            let tickets = scene.take_tickets(3);
            busy.send(&haproxy_disconnect(status));
            busy.expect_disconnect(Status::NORMAL);
            assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
            for (_, ticket) in tickets {
                answer(ticket, 1_i64);
            }

            // Even one that was answered late before.
            let began = Instant::now();
            let mut used = scene.server.introduce();
            used.send(&notify(1, 1, "late", 1));
            answer(scene.take_tickets(1).remove(0).1, 1_i64);
            used.expect_ack(1, 1);
            used.send(&haproxy_disconnect(status));
            used.expect_disconnect(Status::NORMAL);
            assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        }
        eventually("the sockets are closed", || {
            scene.server.open_sockets() == 0
        });
        assert_eq!(scene.seer.complaints(), [""; 0]);
        let stats = scene.server.stop();
        assert_eq!((stats.deferred, stats.late_answers_discarded), (28, 21));
        assert_eq!((stats.notifies, stats.acks), (35, 14));
        assert_eq!((stats.protocol_errors, stats.timeouts), (0, 0));
    });
}

/// The same on a connection that never carried a NOTIFY.
#[test]
fn case_40_a_disconnect_right_after_hello() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let began = Instant::now();
        let mut haproxy = scene.server.introduce();
        haproxy.send(&haproxy_disconnect(0));
        haproxy.expect_disconnect(Status::NORMAL);

        let mut hasty = scene.server.connect();
        let hello = hello(FRAME_SIZE, "pipelining");
        hasty.send(&[hello, haproxy_disconnect(0)].concat());
        hasty.expect_hello();
        hasty.expect_disconnect(Status::NORMAL);
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        drop((haproxy, hasty));
        eventually("the sockets are closed", || {
            scene.server.open_sockets() == 0
        });
        assert_eq!(scene.seer.calls(), 0);
        assert_eq!(scene.server.stop().protocol_errors, 0);
    });
}

/// Connections that are reset or closed, idle or at work, are cleaned up without a word.
#[test]
fn case_41_a_reset_is_cleaned_up_quietly() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut idle = scene.server.introduce();
        idle.ask(1, "now", 1);
        idle.reset();

        let mut busy = scene.server.introduce();
        busy.send(&notify(1, 1, "late", 1));
        let first = scene.take_tickets(1).remove(0).1;
        busy.reset();

        let mut half_closed = scene.server.introduce();
        half_closed.ask(1, "now", 1);
        half_closed.finish_sending();
        half_closed.expect_end();

        let mut half_closed_busy = scene.server.introduce();
        half_closed_busy.send(&notify(1, 1, "late", 2));
        let second = scene.take_tickets(1).remove(0).1;
        half_closed_busy.finish_sending();
        half_closed_busy.expect_end();

        eventually("the sockets are closed", || {
            scene.server.open_sockets() == 0
        });
        answer(first, 1_i64);
        answer(second, 1_i64);
        scene.server.introduce().ask(1, "now", 1);
        assert_eq!(scene.seer.complaints(), [""; 0]);
        let stats = scene.server.stop();
        assert_eq!(stats.late_answers_discarded, 2);
        assert_eq!((stats.notifies, stats.acks), (5, 3));
    });
}

/// Sends NOTIFYs and reads nothing, until the server takes no more of them or `limit` are sent.
fn flood(haproxy: &mut FakeHaproxy, message: &str, argument: i64, limit: u64) -> u64 {
    let socket = haproxy.socket();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.set_send_buffer_size(64 * 1024).unwrap();
    socket
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let mut sent = 0;
    while sent < limit {
        let batch: Vec<u8> = (sent..sent + 500)
            .flat_map(|stream_id| notify(stream_id, 1, message, argument))
            .collect();
        if haproxy.try_send(&batch).is_err() {
            break;
        }
        sent += 500;
    }
    sent
}

/// Others are served quickly, and the worker has never asked for much memory at once.
fn check_the_others(scene: &Scene) {
    let mut other = scene.server.introduce();
    for stream_id in 1..=100 {
        let began = Instant::now();
        other.ask(stream_id, "now", 1);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    let ack = other.ask(1000, "memory", 0);
    let largest = ack
        .value("largest")
        .and_then(|value| value.as_i64())
        .unwrap();
    assert!(largest < 8 * 1024 * 1024, "{largest} bytes at once");
}

/// A peer that stops reading is not read from any more: memory is bounded, whether the agent
/// answers at once or late, and others go on. After a time it is cut.
#[test]
fn case_42_a_peer_that_stops_reading_harms_no_other() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.write_timeout = Duration::from_secs(1);
        let scene = Scene::with(config);

        let mut deaf = scene.server.introduce();
        let sent = flood(&mut deaf, "big", 2000, 200_000);
        assert!(sent < 200_000, "all of it was taken");
        check_the_others(&scene);
        assert!(scene.seer.calls() < 200_000);
        eventually("the deaf peer is cut", || scene.server.open_sockets() == 0);
        let calls = scene.seer.calls();

        let mut deaf = scene.server.introduce();
        let answered = Arc::new(AtomicU64::new(calls));
        let count = Arc::clone(&answered);
        let Scene {
            server,
            seer,
            tickets,
        } = scene;
        let answering = std::thread::spawn(move || {
            for (_, mut ticket) in tickets {
                ticket.set_var(ANSWER, &[7; 2000][..]).unwrap();
                ticket.send();
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        flood(&mut deaf, "late", 1, 40_000);
        eventually("the tickets are answered", || {
            answered.load(Ordering::SeqCst) == seer.calls()
        });
        let (_, no_tickets) = std::sync::mpsc::channel();
        let scene = Scene {
            server,
            seer,
            tickets: no_tickets,
        };
        check_the_others(&scene);
        eventually("the deaf peer is cut", || scene.server.open_sockets() == 0);
        assert_eq!(scene.server.stop().timeouts, 2);
        answering.join().unwrap();
    });
}

/// Hundreds of connections at once that never send a NOTIFY, and thousands that come and go: no
/// socket and no memory stays behind.
#[test]
fn case_43_connections_that_come_and_go_leave_nothing() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut witness = scene.server.introduce();

        let mut silent: Vec<FakeHaproxy> = (0..500).map(|_| scene.server.connect()).collect();
        for haproxy in &mut silent {
            haproxy.send(&hello(FRAME_SIZE, "pipelining"));
        }
        for haproxy in &mut silent {
            haproxy.expect_hello();
        }
        eventually("all are open at once", || {
            scene.server.open_sockets() == 501
        });
        witness.ask(1, "now", 1);
        for (index, haproxy) in silent.into_iter().enumerate() {
            if index % 2 == 0 {
                haproxy.reset();
            }
        }

        let mut live = Vec::new();
        for _ in 0..2 {
            // Accepted after all others.
            drop(scene.server.introduce());
            eventually("only the witness is left", || {
                scene.server.open_sockets() == 1
            });
            let ack = witness.ask(2, "memory", 0);
            live.push(ack.value("live").and_then(|live| live.as_i64()).unwrap());
            for connect in 0..1500 {
                let haproxy = scene.server.connect();
                // Mostly resets, which leave no TIME_WAIT for the next run to trip over.
                if connect % 10 != 0 {
                    haproxy.reset();
                }
            }
        }
        drop(scene.server.introduce());
        eventually("only the witness is left", || {
            scene.server.open_sockets() == 1
        });
        let ack = witness.ask(3, "memory", 0);
        live.push(ack.value("live").and_then(|live| live.as_i64()).unwrap());
        assert!(
            live[2] - live[1] < 64 * 1024,
            "1500 connections took memory for good: {live:?}"
        );
        assert_eq!(scene.seer.complaints(), [""; 0]);
        let stats = scene.server.stop();
        assert_eq!((stats.connections, stats.timeouts), (3504, 0));
        assert_eq!((stats.protocol_errors, stats.notifies), (0, 4));
    });
}

/// At the end of the server every NOTIFY under way is answered first, those that come meanwhile
/// too; then the goodbye.
#[test]
fn case_44_a_drain_answers_before_it_says_goodbye() {
    on_both_drivers(|driver| {
        let scene = Scene::with(config(driver));
        let mut idle = scene.server.introduce();
        let mut busy = scene.server.introduce();
        for stream_id in 1..=3 {
            busy.send(&notify(stream_id, 1, "late", 1));
        }
        let tickets = scene.take_tickets(3);
        scene.server.drain();
        idle.expect_disconnect(Status::NORMAL);
        assert_eq!(
            busy.ask(4, "now", 4).value("answer"),
            Some(TypedData::Int64(4))
        );
        busy.send(&notify(5, 1, "late", 5));
        for (_, ticket) in tickets.into_iter().chain(scene.take_tickets(1)) {
            answer(ticket, 9_i64);
        }
        for stream_id in [1, 2, 3, 5] {
            let ack = busy.expect_ack(stream_id, 1);
            assert_eq!(ack.value("answer"), Some(TypedData::Int64(9)));
        }
        busy.expect_disconnect(Status::NORMAL);
        drop((idle, busy));
        let stats = scene.server.join();
        assert_eq!((stats.notifies, stats.acks), (5, 5));
        assert_eq!((stats.deferred, stats.late_answers_discarded), (4, 0));
    });
}

/// A drain has an end: at its deadline what is not answered gets the fallback, then the goodbye.
#[test]
fn case_44_a_drain_ends_at_its_deadline() {
    on_both_drivers(|driver| {
        let mut config = config(driver);
        config.drain_timeout = Duration::from_millis(300);
        let scene = Scene::with(config);
        let mut busy = scene.server.introduce();
        busy.send(&notify(1, 1, "late", 1));
        busy.send(&notify(2, 1, "late-forever", 1));
        let tickets = scene.take_tickets(2);
        let began = Instant::now();
        scene.server.drain();
        assert_eq!(busy.expect_ack(1, 1).actions(), []);
        assert_eq!(busy.expect_ack(2, 1).actions(), []);
        let goodbye = busy.expect_frame();
        assert_eq!(goodbye.frame().frame_type, FrameType::AgentDisconnect);
        // The peer does not even close.
        let stats = scene.server.join();
        assert!(began.elapsed() < Duration::from_secs(5));
        busy.expect_end();
        assert_eq!((stats.deadlines_passed, stats.acks), (2, 2));
        drop(tickets);
    });
}

/// One more than the limit is turned away, and there is room again when one has gone.
#[test]
fn connections_beyond_the_limit_are_turned_away() {
    let mut config = config(Driver::Auto);
    config.max_connections = 2;
    let scene = Scene::with(config);
    let (first, mut second) = (scene.server.introduce(), scene.server.introduce());
    let mut third = scene.server.connect();
    third.send(&hello(FRAME_SIZE, "pipelining"));
    third.expect_disconnect(Status::NO_RESOURCES);
    third.expect_end();
    // A health check is none of those who are too many.
    let mut check = scene.server.connect();
    check.send(crate::check::GOLDEN_CHECK);
    assert_eq!(check.receive_once(), crate::handshake::GOLDEN_AGENT_HELLO);
    // But there is an end to that too.
    let surplus: Vec<_> = (0..100).map(|_| scene.server.connect()).collect();
    eventually("more are closed at once", || {
        scene.server.stats().connections_refused > 0
    });
    second.ask(1, "now", 1);
    drop((first, third, check, surplus));
    eventually("there is room", || scene.server.open_sockets() == 1);
    // The socket is closed before it is counted out.
    eventually("one is let in", || {
        let mut next = scene.server.connect();
        let sent = next.try_send(&hello(FRAME_SIZE, "pipelining"));
        sent.is_ok()
            && next
                .next_frame()
                .is_some_and(|frame| frame.frame().frame_type == FrameType::AgentHello)
    });
    second.ask(2, "now", 1);
    assert!(scene.server.stop().connections_refused >= 1);
}

//! How many calls an endpoint may have, and that endpoints do not wait for each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ringspoa::outbound::{BreakerState, EndpointConfig, FailureKind, OutboundFault, Phase};

use crate::stub::{self, LONG, PATIENCE, Stub, body_of, config, get, wait_until};

/// Takes requests and never answers.
fn stuck() -> Stub {
    Stub::start(|mut peer| peer.wait_until_gone())
}

#[test]
fn calls_that_are_stuck_hold_up_nobody_else() {
    let (stuck, working) = (stuck(), Stub::echo());
    let outbound = stub::start();
    let slow = outbound.endpoint(config(stuck.url())).unwrap();
    let fast = outbound.endpoint(config(working.url())).unwrap();
    let deadline = Duration::from_secs(5);
    let began = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let called_back: Arc<Vec<AtomicUsize>> =
        Arc::new((0..64).map(|_| AtomicUsize::new(0)).collect());
    for index in 0..64 {
        let (sender, called_back) = (sender.clone(), Arc::clone(&called_back));
        slow.call(get("/"), deadline, 100, move |result| {
            called_back[index].fetch_add(1, Ordering::SeqCst);
            sender.send(result).unwrap();
        });
    }
    drop(sender);
    for index in 0..500 {
        let path = format!("/{index}");
        assert_eq!(body_of(&fast, get(&path)), path);
    }
    let answered_after = began.elapsed();
    let in_flight = slow.stats().in_flight;
    // On a machine slow enough the deadlines may have passed by then, which says nothing.
    assert!(in_flight == 64 || answered_after >= deadline, "{in_flight}");
    for _ in 0..64 {
        let error = receiver
            .recv_timeout(PATIENCE)
            .expect("a callback")
            .unwrap_err();
        let expected = OutboundFault::Timeout {
            after: deadline,
            phase: Phase::Waiting,
        };
        assert_eq!(error.fault(), &expected);
    }
    assert!(began.elapsed() >= deadline);
    assert!(
        receiver.recv_timeout(PATIENCE).is_err(),
        "no callback is left"
    );
    assert!(
        called_back
            .iter()
            .all(|count| count.load(Ordering::SeqCst) == 1)
    );
    assert_eq!(slow.stats().failures_of(FailureKind::Timeout), 64);
    assert_eq!(slow.stats().in_flight, 0);
    let shown: Vec<_> = outbound
        .stats()
        .into_iter()
        .map(|stats| stats.calls)
        .collect();
    assert_eq!(shown, [64, 500]);
}

#[test]
fn one_call_too_many_is_shed_at_once() {
    let stuck = stuck();
    let outbound = stub::start();
    let endpoint = outbound
        .endpoint(EndpointConfig {
            max_in_flight: 2,
            max_queued: 1,
            ..config(stuck.url())
        })
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    let call = |deadline| {
        let sender = sender.clone();
        endpoint.call(get("/"), deadline, 100, move |result| {
            // Two are still there when nobody wants to know any more.
            let _ = sender.send((std::thread::current().id(), result));
        });
    };
    // Two are in flight, one waits.
    call(LONG);
    call(LONG);
    wait_until("two connections", || stuck.connections() == 2);
    let after = Duration::from_millis(200);
    call(after);
    call(LONG);
    // It is there when `call` returns.
    let (thread, result) = receiver.try_recv().unwrap();
    assert_eq!(thread, std::thread::current().id());
    let error = result.unwrap_err();
    assert_eq!(error.fault(), &OutboundFault::Shed { limit: 3 });
    assert!(
        error
            .to_string()
            .ends_with("shed: 3 calls are in flight or waiting")
    );
    let (_, result) = receiver.recv_timeout(PATIENCE).unwrap();
    let phase = Phase::Queued;
    assert_eq!(
        result.unwrap_err().fault(),
        &OutboundFault::Timeout { after, phase }
    );
    assert_eq!(stuck.connections(), 2);
}

#[test]
fn calls_wait_for_a_connection_in_turn() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound
        .endpoint(EndpointConfig {
            max_in_flight: 2,
            max_queued: 1000,
            ..config(stub.url())
        })
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    for index in 0..500 {
        let sender = sender.clone();
        endpoint.call(get(&format!("/{index}")), LONG, 100, move |result| {
            sender
                .send(result.map(|response| response.status()))
                .unwrap();
        });
    }
    for _ in 0..500 {
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Ok(200));
    }
    assert_eq!(stub.connections(), 2);
    let stats = endpoint.stats();
    assert_eq!((stats.connections, stats.reuses), (2, 498));
}

#[test]
fn a_freed_place_is_taken_by_who_waits() {
    // The first connection never answers, so its call gives up, and the next needs another one.
    let stub = Stub::start(|mut peer| {
        while peer.request().is_some() {
            if peer.number == 1 {
                peer.wait_until_gone();
            }
            peer.answer("x");
        }
    });
    let outbound = stub::start();
    let endpoint = outbound
        .endpoint(EndpointConfig {
            max_in_flight: 1,
            max_queued: 1,
            ..config(stub.url())
        })
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    for deadline in [Duration::from_millis(100), LONG] {
        let sender = sender.clone();
        endpoint.call(get("/"), deadline, 100, move |result| {
            sender.send(result).unwrap()
        });
    }
    assert!(receiver.recv_timeout(PATIENCE).unwrap().is_err());
    assert!(receiver.recv_timeout(PATIENCE).unwrap().is_ok());
}

#[test]
fn waiting_in_vain_for_a_busy_endpoint_is_not_its_failure() {
    let stuck = stuck();
    let outbound = stub::start();
    let endpoint = outbound
        .endpoint(EndpointConfig {
            max_in_flight: 1,
            max_queued: 100,
            ..EndpointConfig::new("busy", stuck.url())
        })
        .unwrap();
    endpoint.call(get("/"), LONG, 100, drop);
    wait_until("a connection", || stuck.connections() == 1);
    for _ in 0..10 {
        let error = stub::ask_within(&endpoint, get("/"), Duration::from_millis(20));
        assert_eq!(error.unwrap_err().fault().kind(), FailureKind::Timeout);
    }
    assert_eq!(endpoint.stats().breaker, BreakerState::Closed);
}

#[test]
fn a_deadline_of_nothing_is_a_timeout() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let error = stub::ask_within(&endpoint, get("/"), Duration::ZERO).unwrap_err();
    assert_eq!(error.fault().kind(), FailureKind::Timeout);
    // And one that the clock does not reach is none.
    assert!(stub::ask_within(&endpoint, get("/"), Duration::MAX).is_ok());
}

//! The circuit breaker, seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringspoa::outbound::{
    BreakerConfig, BreakerState, Endpoint, EndpointConfig, FailureKind, Outbound, StreamTimeouts,
};

use crate::stub::{self, Stub, ask, body_of, config, get, wait_until};

fn endpoint(outbound: &Outbound, stub: &Stub) -> Endpoint {
    let breaker = BreakerConfig {
        failures: 3,
        open_for: Duration::from_millis(400),
        ..BreakerConfig::default()
    };
    let config = EndpointConfig {
        breaker: Some(breaker),
        ..config(stub.url())
    };
    outbound.endpoint(config).unwrap()
}

#[test]
fn it_opens_half_opens_and_closes() {
    let works = Arc::new(AtomicBool::new(false));
    let stub = Stub::start({
        let works = Arc::clone(&works);
        move |mut peer| {
            while peer.request().is_some() {
                if !works.load(Ordering::SeqCst) {
                    return;
                }
                peer.answer("x");
            }
        }
    });
    let outbound = stub::start();
    let endpoint = endpoint(&outbound, &stub);
    let kind = || ask(&endpoint, get("/")).unwrap_err().fault().kind();
    for _ in 0..3 {
        assert_eq!(endpoint.stats().breaker, BreakerState::Closed);
        assert_eq!(kind(), FailureKind::Closed);
    }
    assert_eq!(endpoint.stats().breaker, BreakerState::Open);
    for _ in 0..10 {
        let error = ask(&endpoint, get("/")).unwrap_err();
        if endpoint.stats().breaker == BreakerState::Open {
            assert_eq!(error.fault().kind(), FailureKind::BreakerOpen);
        }
    }
    // The one that is let through fails, and it opens again.
    wait_until("half open", || {
        endpoint.stats().breaker == BreakerState::HalfOpen
    });
    let connections = stub.connections();
    assert_eq!(kind(), FailureKind::Closed);
    assert_eq!(stub.connections(), connections + 1);
    let stats = endpoint.stats();
    assert!(stats.breaker_opened >= 2, "{stats:?}");
    works.store(true, Ordering::SeqCst);
    wait_until("half open again", || {
        endpoint.stats().breaker == BreakerState::HalfOpen
    });
    assert_eq!(body_of(&endpoint, get("/")), "x");
    assert_eq!(endpoint.stats().breaker, BreakerState::Closed);
    assert_eq!(body_of(&endpoint, get("/")), "x");
}

#[test]
fn streams_count_by_the_head_of_their_answer() {
    let works = Arc::new(AtomicBool::new(false));
    let stub = Stub::start({
        let works = Arc::clone(&works);
        move |mut peer| {
            peer.request();
            if works.load(Ordering::SeqCst) {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbegin");
                peer.wait_until_gone();
            }
        }
    });
    let outbound = stub::start();
    let endpoint = endpoint(&outbound, &stub);
    let stream = || endpoint.stream(get("/"), StreamTimeouts::default());
    for _ in 0..3 {
        assert!(stream().is_err());
    }
    assert_eq!(endpoint.stats().breaker, BreakerState::Open);
    works.store(true, Ordering::SeqCst);
    wait_until("half open", || {
        endpoint.stats().breaker == BreakerState::HalfOpen
    });
    let reader = stream().unwrap();
    assert_eq!(endpoint.stats().breaker, BreakerState::Closed);
    drop(reader);
}

#[test]
fn gateways_that_say_so_are_failures_and_other_answers_are_not() {
    let answer = |text: &'static str| {
        Stub::start(move |mut peer| {
            while peer.request().is_some() {
                peer.send(text);
            }
        })
    };
    let outbound = stub::start();
    for (text, expected) in [
        (
            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            BreakerState::Open,
        ),
        (
            "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            BreakerState::Closed,
        ),
        (
            "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
            BreakerState::Closed,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n",
            BreakerState::Closed,
        ),
        (
            "HTTP/1.1 301 M\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            BreakerState::Closed,
        ),
        ("no HTTP\r\n\r\n", BreakerState::Open),
    ] {
        let stub = answer(text);
        let endpoint = endpoint(&outbound, &stub);
        for _ in 0..3 {
            let _ = ask(&endpoint, get("/"));
        }
        assert_eq!(endpoint.stats().breaker, expected, "{text}");
    }
}

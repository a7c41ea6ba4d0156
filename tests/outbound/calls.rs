//! What a call is, where nothing goes wrong.

use std::sync::{Arc, Mutex, mpsc};

use ringspoa::outbound::{FailureKind, OutboundFault};

use crate::stub::{self, LONG, PATIENCE, Stub, ask, body_of, config, get, post};

#[test]
fn a_request_arrives_as_it_was_made() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let stub = Stub::start({
        let seen = Arc::clone(&seen);
        move |mut peer| {
            while let Some(request) = peer.request() {
                seen.lock().unwrap().push(request);
                peer.send(
                    "HTTP/1.1 403 Forbidden\r\nX-One: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\nno",
                );
            }
        }
    });
    let outbound = stub::start();
    let endpoint = outbound
        .endpoint(config(format!("{}/base/", stub.url())))
        .unwrap();
    let mut request = post("/check?a=b", "the body");
    request.header("X-Api-Key", "secret").unwrap();
    let response = ask(&endpoint, request).unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(response.header("X-ONE"), Some(&b"1"[..]));
    assert_eq!(response.body(), "no");
    let headers: Vec<_> = response.headers().map(|(name, _)| name).collect();
    assert_eq!(headers, ["x-one", "x-two", "content-length"]);
    ask(&endpoint, get("")).unwrap();

    let seen = seen.lock().unwrap();
    let host = format!("host: {}\r\n", stub.address);
    let head = &seen[0].head;
    assert!(
        head.starts_with("post /base/check?a=b http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(&host), "{head}");
    assert!(head.contains("x-api-key: secret\r\n"), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");
    assert_eq!(seen[0].body, b"the body");
    assert!(seen[1].head.starts_with("get /base http/1.1\r\n"));
    let stats = endpoint.stats();
    assert_eq!((stats.calls, stats.answered, stats.in_flight), (2, 2, 0));
    assert_eq!(stats.failures.iter().sum::<u64>(), 0);
    assert_eq!(stats.latencies.iter().sum::<u64>(), 2);
}

#[test]
fn connections_are_used_again() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    for index in 0..50 {
        let path = format!("/{index}");
        assert_eq!(body_of(&endpoint, get(&path)), path);
    }
    assert_eq!(stub.connections(), 1);
    let stats = endpoint.stats();
    assert_eq!((stats.connections, stats.reuses), (1, 49));
}

#[test]
fn a_call_from_a_callback_finds_the_connection() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let (sender, receiver) = mpsc::channel();
    let next = endpoint.clone();
    endpoint.call(get("/first"), LONG, 100, move |_| {
        next.call(get("/second"), LONG, 100, move |result| {
            sender.send(result.unwrap().into_body()).unwrap();
        });
    });
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "/second");
    assert_eq!(stub.connections(), 1);
}

#[test]
fn what_cannot_be_sent_is_not() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let error = ask(&endpoint, get("/a b")).unwrap_err();
    assert!(matches!(error.fault(), OutboundFault::InvalidRequest(_)));
    assert_eq!(stub.connections(), 0);
    let stats = endpoint.stats();
    assert_eq!(stats.failures_of(FailureKind::InvalidRequest), 1);
}

//! What a call says when something goes wrong, and what it does not do.

use std::collections::HashSet;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ringspoa::outbound::{
    EndpointConfig, FailureKind, Method, Outbound, OutboundError, OutboundFault, Part, Phase,
    Request, Response,
};

use crate::stub::{
    self, LONG, PATIENCE, Peer, Stub, ask, ask_within, body_of, config, get, post, wait_until,
};

/// The outcome of one GET of a stub that does this with its connections.
fn outcome(serve: impl Fn(Peer) + Send + Sync + 'static) -> Result<Response, OutboundError> {
    outcome_within(LONG, serve)
}

fn outcome_within(
    deadline: Duration,
    serve: impl Fn(Peer) + Send + Sync + 'static,
) -> Result<Response, OutboundError> {
    let stub = Stub::start(serve);
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let result = ask_within(&endpoint, get("/"), deadline);
    assert_eq!(endpoint.stats().retries, 0);
    assert_eq!(endpoint.stats().in_flight, 0);
    if let Err(error) = &result {
        let kind = error.fault().kind();
        assert_eq!(endpoint.stats().failures_of(kind), 1);
        let expected = format!("stub ({}): ", stub.url());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    result
}

fn fault(serve: impl Fn(Peer) + Send + Sync + 'static) -> OutboundFault {
    outcome(serve).expect_err("a failure").fault().clone()
}

/// Answers the first request with these bytes, and closes.
fn fault_of(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> OutboundFault {
    fault(move |mut peer| {
        peer.request();
        peer.send(bytes.as_ref());
    })
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(url.as_str())).unwrap();
    let error = ask(&endpoint, get("/")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("stub ({url}): cannot connect: connection refused")
    );
    let missing = outbound
        .endpoint(config("unix:/nonexistent/socket"))
        .unwrap();
    let error = ask(&missing, get("/")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "stub (unix:/nonexistent/socket): cannot connect: entity not found"
    );
}

#[test]
fn names_are_resolved_or_not() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let url = format!("http://localhost:{}", stub.address.port());
    let endpoint = outbound.endpoint(config(url)).unwrap();
    assert_eq!(body_of(&endpoint, get("/here")), "/here");
    let nowhere = outbound.endpoint(config("http://host.invalid")).unwrap();
    // Depending on the host, somebody is asked in vain first.
    match ask(&nowhere, get("/")).unwrap_err().fault() {
        OutboundFault::Resolve(_) => {}
        OutboundFault::Timeout { phase, .. } => assert_eq!(*phase, Phase::Connecting),
        fault => panic!("{fault}"),
    }
}

#[test]
fn the_connection_ends_too_early() {
    let waiting = OutboundFault::Closed {
        phase: Phase::Waiting,
    };
    let reading = OutboundFault::Closed {
        phase: Phase::Reading,
    };
    assert_eq!(fault(drop), waiting);
    let reset = fault(|mut peer| {
        peer.request();
        peer.reset();
    });
    assert_eq!(reset, waiting);
    assert_eq!(fault_of(""), waiting);
    assert_eq!(fault_of("HTTP/1.1 200 OK\r\nContent-"), waiting);
    assert_eq!(
        fault_of("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
        reading
    );
    assert_eq!(
        fault_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        reading
    );
    let reset = fault(|mut peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        peer.reset();
    });
    // A RST may overtake what came before it.
    assert!(reset == reading || reset == waiting, "{reset}");
}

#[test]
fn what_comes_is_no_answer() {
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ] {
        let fault = fault_of(answer);
        assert_eq!(
            fault.kind(),
            FailureKind::InvalidResponse,
            "{answer:?}: {fault}"
        );
    }
}

#[test]
fn too_much_comes() {
    let too_large = |part, limit| OutboundFault::TooLarge { part, limit };
    let limit = 1024 * 1024;
    let fault = fault(move |mut peer| {
        peer.request();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            limit + 1
        ));
        // Nothing of it is waited for.
        peer.wait_until_gone();
    });
    assert_eq!(fault, too_large(Part::Body, limit));
    let fault = self::fault(move |mut peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while peer.send(&chunk) {}
    });
    assert_eq!(fault, too_large(Part::Body, limit));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70 * 1024));
    assert_eq!(fault_of(long), too_large(Part::Head, 64 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert_eq!(fault_of(many), too_large(Part::Head, 64 * 1024));

    let fits = outcome(move |mut peer| {
        peer.request();
        peer.answer(&"x".repeat(limit));
    });
    assert_eq!(fits.unwrap().body().len(), limit);
}

#[test]
fn bytes_that_trickle_in_do_not_move_the_deadline() {
    fn trickle(peer: &mut Peer, bytes: &[u8]) {
        for byte in bytes.iter().cycle() {
            if !peer.send([*byte]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let after = Duration::from_millis(300);
    let timeout = |phase| OutboundFault::Timeout { after, phase };
    let error = outcome_within(after, |mut peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nX: ");
        trickle(&mut peer, b"x");
    });
    let error = error.unwrap_err();
    assert_eq!(error.fault(), &timeout(Phase::Waiting));
    let text = error.to_string();
    assert!(
        text.ends_with("timeout after 300 ms, before the answer began"),
        "{text}"
    );
    let error = outcome_within(after, |mut peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        trickle(&mut peer, b"1\r\nx\r\n");
    });
    assert_eq!(error.unwrap_err().fault(), &timeout(Phase::Reading));
}

#[test]
fn a_request_that_is_given_up_is_not_sent_to_its_end() {
    const LEN: usize = 32 * 1024 * 1024;
    let (given_up, wait) = mpsc::channel();
    let (sender, received) = mpsc::channel();
    let both = Mutex::new(Some((wait, sender)));
    let stub = Stub::start(move |mut peer| {
        let (wait, sender) = both.lock().unwrap().take().unwrap();
        wait.recv_timeout(PATIENCE).unwrap();
        let mut len = 0;
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = peer.io.read(&mut buffer) {
            len += read;
        }
        sender.send(len).unwrap();
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let mut request = Request::new(Method::Post, "/");
    request.body(vec![b'x'; LEN]);
    let after = Duration::from_millis(300);
    let error = ask_within(&endpoint, request, after).unwrap_err();
    let phase = Phase::Waiting;
    assert_eq!(error.fault(), &OutboundFault::Timeout { after, phase });
    given_up.send(()).unwrap();
    assert!(received.recv_timeout(PATIENCE).unwrap() < LEN);
}

#[test]
fn every_form_of_answer_is_read() {
    for (answer, status, body) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: x\r\n\r\n",
            200,
            "abcde",
        ),
        ("HTTP/1.0 500 Oh\r\n\r\nuntil the end", 500, "until the end"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            200,
            "x",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            304,
            "",
        ),
        ("HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n", 999, ""),
    ] {
        let response = outcome(move |mut peer| {
            peer.request();
            peer.send(answer);
        });
        let response = response.expect(answer);
        assert_eq!(
            (response.status(), &response.body()[..]),
            (status, body.as_bytes())
        );
    }
}

#[test]
fn redirects_are_told_and_not_followed() {
    let fault = fault_of(
        "HTTP/1.1 302 Found\r\nLocation: https://elsewhere/login?key=1\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        fault.to_string(),
        "redirected to https://elsewhere/login (status 302), which is not followed"
    );
}

#[test]
fn a_connection_closed_while_idle_is_not_used() {
    let stub = Stub::start(|mut peer| {
        peer.request();
        peer.answer("x");
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    for round in 1..=20 {
        // Whether the closing is seen before the next request or met by it.
        assert_eq!(body_of(&endpoint, get("/")), "x");
        assert_eq!(stub.connections(), round);
    }
    assert_eq!(endpoint.stats().failures.iter().sum::<u64>(), 0);
}

/// A server that answers the first request of its first connection, and takes the second one without a
/// word. It notes the bodies and paths it has seen.
fn forgetful() -> (Stub, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let stub = Stub::start(move |mut peer| {
        while let Some(request) = peer.request() {
            let path = request.head.split(' ').nth(1).unwrap().to_owned();
            let mut noted = noted.lock().unwrap();
            noted.push(path);
            if peer.number == 1 && noted.len() == 2 {
                return;
            }
            peer.answer("x");
        }
    });
    (stub, seen)
}

#[test]
fn a_get_on_a_kept_connection_that_goes_is_repeated_once() {
    let (stub, seen) = forgetful();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    body_of(&endpoint, get("/1"));
    assert_eq!(body_of(&endpoint, get("/2")), "x");
    assert_eq!(*seen.lock().unwrap(), ["/1", "/2", "/2"]);
    let stats = endpoint.stats();
    assert_eq!(
        (stats.retries, stats.answered, stats.connections),
        (1, 2, 2)
    );
}

#[test]
fn the_other_kept_connections_are_not_tried_either() {
    // Both answer one request, once both have one, and go with the next.
    let both = Arc::new(std::sync::Barrier::new(2));
    let stub = Stub::start(move |mut peer| {
        peer.request();
        if peer.number <= 2 {
            both.wait();
        }
        peer.answer("x");
        peer.request();
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let (sender, receiver) = mpsc::channel();
    for _ in 0..2 {
        let sender = sender.clone();
        endpoint.call(get("/"), LONG, 100, move |result| {
            sender.send(result).unwrap()
        });
    }
    for _ in 0..2 {
        receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    assert_eq!(stub.connections(), 2);
    assert_eq!(body_of(&endpoint, get("/")), "x");
    assert_eq!((stub.connections(), endpoint.stats().retries), (3, 1));
}

#[test]
fn a_post_that_was_written_is_not_repeated() {
    let (stub, seen) = forgetful();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    body_of(&endpoint, get("/1"));
    let error = ask(&endpoint, post("/2", "body")).unwrap_err();
    let closed = OutboundFault::Closed {
        phase: Phase::Waiting,
    };
    assert_eq!(error.fault(), &closed);
    assert_eq!(*seen.lock().unwrap(), ["/1", "/2"]);
    assert_eq!(endpoint.stats().retries, 0);
}

#[test]
fn a_get_is_not_repeated_once_its_answer_has_begun() {
    let stub = Stub::start(|mut peer| {
        peer.request();
        peer.answer("x");
        peer.request();
        peer.send("HTTP/1.1 2");
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    body_of(&endpoint, get("/1"));
    let error = ask(&endpoint, get("/2")).unwrap_err();
    assert_eq!(error.fault().kind(), FailureKind::Closed);
    assert_eq!(endpoint.stats().retries, 0);
}

#[test]
fn no_post_arrives_twice_however_its_connection_ends() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    // Closes right after its answer, while the next request is on its way.
    let stub = Stub::start(move |mut peer| {
        if let Some(request) = peer.request() {
            noted
                .lock()
                .unwrap()
                .push(request.head.split(' ').nth(1).unwrap().to_owned());
            peer.answer("x");
        }
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let (sender, receiver) = mpsc::channel();
    let mut answered = 0;
    for index in 0..300 {
        let (next, sender) = (endpoint.clone(), sender.clone());
        endpoint.call(post(&format!("/{index}/a"), "b"), LONG, 100, move |first| {
            next.call(
                post(&format!("/{index}/b"), "b"),
                LONG,
                100,
                move |second| {
                    sender.send((first, second)).unwrap();
                },
            );
        });
        let (first, second) = receiver.recv_timeout(PATIENCE).unwrap();
        for result in [first, second] {
            match result {
                Ok(_) => answered += 1,
                Err(error) => assert_eq!(error.fault().kind(), FailureKind::Closed, "{error}"),
            }
        }
    }
    let seen = seen.lock().unwrap();
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "one came twice");
    assert_eq!(seen.len(), answered);
    assert!(answered >= 300, "{answered}");
}

#[test]
fn connections_are_not_kept_longer_than_agreed() {
    let stub = Stub::start(|mut peer| {
        while peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    for _ in 0..3 {
        ask(&endpoint, get("/")).unwrap();
    }
    assert_eq!(stub.connections(), 3);

    let (sender, gone) = mpsc::channel();
    let sender = Mutex::new(sender);
    let stub = Stub::start(move |mut peer| {
        while peer.request().is_some() {
            peer.answer("x");
        }
        sender.lock().unwrap().send(()).unwrap();
    });
    let endpoint = outbound
        .endpoint(EndpointConfig {
            idle_timeout: Duration::from_millis(50),
            ..config(stub.url())
        })
        .unwrap();
    ask(&endpoint, get("/")).unwrap();
    gone.recv_timeout(PATIENCE).expect("the client closes it");
}

#[test]
fn a_panicking_callback_is_counted_and_no_more() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    endpoint.call(get("/"), LONG, 100, |_| panic!("in a callback, on purpose"));
    wait_until("the panic", || endpoint.stats().callback_panics == 1);
    assert_eq!(body_of(&endpoint, get("/after")), "/after");
    // Refused at once, it panics on this thread.
    outbound.stop();
    endpoint.call(get("/"), LONG, 100, |_| panic!("in a callback, on purpose"));
    assert_eq!(endpoint.stats().callback_panics, 2);
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let outbound: Outbound = stub::start();
    let refused = |config: EndpointConfig| outbound.endpoint(config).unwrap_err().to_string();
    let secretive = config("http://user:secret@host/secret");
    assert!(!format!("{secretive:?}").contains("secret"));
    let text = refused(secretive);
    assert!(
        text.contains("user name or password") && !text.contains("secret"),
        "{text}"
    );
    let text = refused(EndpointConfig {
        max_in_flight: 0,
        ..config("http://host")
    });
    assert_eq!(text, "max_in_flight must be more than zero");
}

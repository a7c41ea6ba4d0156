//! The end of the thread: every call is called back, once.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringspoa::outbound::{EndpointConfig, EndpointError, FailureKind, StreamTimeouts};

use crate::stub::{self, LONG, PATIENCE, Stub, body_of, config, get};

fn stuck() -> Stub {
    Stub::start(|mut peer| peer.wait_until_gone())
}

#[test]
fn dropping_the_last_handle_ends_the_calls_in_flight() {
    let stub = stuck();
    let outbound = stub::start();
    let endpoint = outbound
        .endpoint(EndpointConfig {
            max_in_flight: 4,
            max_queued: 10,
            ..config(stub.url())
        })
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    let call = || {
        let sender = sender.clone();
        endpoint.call(get("/"), LONG, 100, move |result| {
            sender.send(result.unwrap_err().fault().kind()).unwrap();
        });
    };
    for _ in 0..10 {
        call();
    }
    stub::wait_until("some are in flight", || stub.connections() == 4);
    drop(outbound.clone());
    assert!(receiver.try_recv().is_err(), "a handle is left");
    drop(outbound);
    let kinds: Vec<_> = receiver.try_iter().collect();
    assert_eq!(kinds, [FailureKind::Stopped; 10]);
    // And what comes after is refused at once.
    call();
    assert_eq!(receiver.try_recv(), Ok(FailureKind::Stopped));
    let error = endpoint.stream(get("/"), StreamTimeouts::default());
    assert_eq!(error.unwrap_err().fault().kind(), FailureKind::Stopped);
    let stats = endpoint.stats();
    assert_eq!(stats.failures_of(FailureKind::Stopped), 12);
    assert_eq!(stats.in_flight, 0);
}

#[test]
fn stopping_amid_calls_loses_none_and_doubles_none() {
    let stub = Stub::echo();
    for _ in 0..20 {
        let outbound = stub::start();
        let config = EndpointConfig {
            max_queued: 1000,
            ..config(stub.url())
        };
        let endpoint = outbound.endpoint(config).unwrap();
        let counts: Arc<Vec<_>> = Arc::new((0..400).map(|_| AtomicUsize::new(0)).collect());
        std::thread::scope(|scope| {
            for part in 0..4 {
                let (endpoint, counts) = (endpoint.clone(), Arc::clone(&counts));
                scope.spawn(move || {
                    for index in part * 100..(part + 1) * 100 {
                        let counts = Arc::clone(&counts);
                        endpoint.call(get("/"), LONG, 100, move |_| {
                            counts[index].fetch_add(1, Ordering::SeqCst);
                        });
                    }
                });
            }
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(300));
                outbound.stop();
            });
        });
        // All threads have ended, the outbound one too.
        for (index, count) in counts.iter().enumerate() {
            assert_eq!(count.load(Ordering::SeqCst), 1, "call {index}");
        }
        assert_eq!(endpoint.stats().in_flight, 0);
    }
}

#[test]
fn a_callback_may_drop_the_last_handle() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let (sender, receiver) = mpsc::channel();
    endpoint.call(get("/"), LONG, 100, move |_| {
        drop(outbound);
        sender.send(()).unwrap();
    });
    receiver
        .recv_timeout(PATIENCE)
        .expect("it does not wait for itself");
}

#[test]
fn a_reader_is_told_that_calls_were_stopped() {
    let stub = Stub::start(|mut peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin");
        peer.wait_until_gone();
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let mut reader = endpoint
        .stream(get("/"), StreamTimeouts::default())
        .unwrap();
    let mut bytes = [0; 5];
    reader.read_exact(&mut bytes).unwrap();
    let stopper = std::thread::spawn(move || outbound.stop());
    let error = reader.read(&mut bytes).unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error}");
    stopper.join().unwrap();
    assert_eq!(endpoint.stats().failures_of(FailureKind::Stopped), 1);
}

#[test]
fn calls_outlive_the_handle_of_their_endpoint() {
    let stub = Stub::echo();
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let (sender, receiver) = mpsc::channel();
    endpoint.call(get("/"), LONG, 100, move |result| {
        sender.send(result.unwrap().status()).unwrap();
    });
    drop(endpoint);
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(200));
    stub::wait_until("it is forgotten", || outbound.stats().is_empty());
    let other = outbound.endpoint(config(stub.url())).unwrap();
    assert_eq!(body_of(&other, get("/other")), "/other");
    outbound.stop();
    let error = outbound.endpoint(config(stub.url())).unwrap_err();
    assert_eq!(error, EndpointError::Stopped);
}

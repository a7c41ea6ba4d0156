//! Long answers, read as they come.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::SndBuf};
use ringspoa::outbound::{
    Endpoint, FailureKind, Outbound, OutboundError, OutboundFault, Phase, StreamReader,
    StreamTimeouts,
};

use crate::stub::{self, LONG, PATIENCE, Peer, Stub, body_of, config, get, wait_until};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

const TIMEOUTS: StreamTimeouts = StreamTimeouts {
    connect: LONG,
    first_byte: LONG,
    idle_read: LONG,
};

fn open(stub: &Stub) -> (Outbound, Endpoint, StreamReader) {
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let reader = endpoint.stream(get("/"), TIMEOUTS).unwrap();
    (outbound, endpoint, reader)
}

fn fault_of(error: &std::io::Error) -> &OutboundFault {
    let inner = error.get_ref().expect("an error of ours");
    inner.downcast_ref::<OutboundError>().unwrap().fault()
}

/// Chunks of a full pull of 50 000 decisions, and the length of each.
const PIECES: usize = 1000;
const PIECE: &[u8; 7000] = &[b'd'; 7000];

#[test]
fn a_long_answer_is_read_in_constant_memory() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let stub = Stub::start(move |mut peer| {
        // What the kernel holds for the sender is not what is measured.
        setsockopt(peer.socket.as_ref().unwrap(), SndBuf, &(32 * 1024)).unwrap();
        peer.request();
        peer.send(CHUNKED);
        let mut chunk = format!("{:x}\r\n", PIECE.len()).into_bytes();
        chunk.extend_from_slice(PIECE);
        chunk.extend_from_slice(b"\r\n");
        for _ in 0..PIECES {
            if !peer.send(&chunk) {
                return;
            }
            counted.fetch_add(PIECE.len(), Ordering::SeqCst);
        }
        peer.send("0\r\n\r\n");
        peer.request();
        peer.answer("after");
    });
    let (_outbound, endpoint, mut reader) = open(&stub);
    assert_eq!(
        (reader.status(), reader.header("transfer-encoding")),
        (200, Some(&b"chunked"[..]))
    );
    // Nothing is read until the server has stood still for a while.
    let mut last = usize::MAX;
    wait_until("the server stands still", || {
        let before = std::mem::replace(&mut last, sent.load(Ordering::SeqCst));
        std::thread::sleep(Duration::from_millis(100));
        last > 0 && before == last
    });
    // The buffers of two sockets, four pieces of 64 KiB, and room for a kernel that is generous.
    assert!(
        last < 1024 * 1024,
        "{last} bytes were taken that nobody read"
    );
    let mut len = 0;
    let mut buffer = [0; 5000];
    loop {
        let read = reader.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        assert!(buffer[..read].iter().all(|byte| *byte == b'd'));
        len += read;
        let ahead = sent.load(Ordering::SeqCst).saturating_sub(len);
        assert!(ahead < 8 * 1024 * 1024, "{ahead}");
    }
    assert_eq!(len, PIECES * PIECE.len());
    assert_eq!(reader.read(&mut buffer).unwrap(), 0, "an end is an end");
    // The connection is good for the next one.
    wait_until("the stream is over", || endpoint.stats().in_flight == 0);
    assert_eq!(body_of(&endpoint, get("/")), "after");
    assert_eq!(stub.connections(), 1);
}

#[test]
fn an_answer_that_is_cut_off_is_an_error() {
    for (head, phase) in [
        (CHUNKED, Phase::Reading),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
            Phase::Reading,
        ),
    ] {
        let stub = Stub::start(move |mut peer| {
            peer.request();
            peer.send(head);
            peer.send("400\r\n");
            peer.send("x".repeat(0x400));
        });
        let (_outbound, endpoint, mut reader) = open(&stub);
        let mut whole = Vec::new();
        let error = reader.read_to_end(&mut whole).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(fault_of(&error), &OutboundFault::Closed { phase });
        assert!(whole.len() >= 0x400);
        // It does not become an end by asking again.
        assert!(reader.read(&mut [0; 10]).is_err());
        assert_eq!(endpoint.stats().failures_of(FailureKind::Closed), 1);
    }
}

#[test]
fn chunks_that_are_none_are_an_error() {
    let stub = Stub::start(|mut peer| {
        peer.request();
        peer.send(CHUNKED);
        peer.send("3\r\nabc\r\nXYZ\r\n");
        peer.wait_until_gone();
    });
    let (_outbound, _endpoint, mut reader) = open(&stub);
    let mut whole = Vec::new();
    let error = reader.read_to_end(&mut whole).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(whole, b"abc");
}

/// Opens and reads a stream of a stub that does this.
fn timed(timeouts: StreamTimeouts, serve: impl Fn(Peer) + Send + Sync + 'static) -> OutboundFault {
    let stub = Stub::start(serve);
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    match endpoint.stream(get("/"), timeouts) {
        Err(error) => error.fault().clone(),
        Ok(mut reader) => {
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            fault_of(&error).clone()
        }
    }
}

#[test]
fn each_wait_has_a_limit_of_its_own() {
    let after = Duration::from_millis(200);
    let fault = timed(
        StreamTimeouts {
            idle_read: after,
            ..TIMEOUTS
        },
        |mut peer| {
            peer.request();
            peer.send(CHUNKED);
            peer.send("3\r\nabc\r\n");
            peer.wait_until_gone();
        },
    );
    let phase = Phase::Reading;
    assert_eq!(fault, OutboundFault::Timeout { after, phase });
    let fault = timed(
        StreamTimeouts {
            first_byte: after,
            ..TIMEOUTS
        },
        |mut peer| peer.wait_until_gone(),
    );
    let phase = Phase::Waiting;
    assert_eq!(fault, OutboundFault::Timeout { after, phase });
}

#[test]
fn a_reader_that_takes_its_time_is_not_the_servers_fault() {
    let stub = Stub::start(|mut peer| {
        peer.request();
        peer.answer(&"x".repeat(500_000));
        peer.wait_until_gone();
    });
    let outbound = stub::start();
    let endpoint = outbound.endpoint(config(stub.url())).unwrap();
    let timeouts = StreamTimeouts {
        idle_read: Duration::from_millis(250),
        ..TIMEOUTS
    };
    let mut reader = endpoint.stream(get("/"), timeouts).unwrap();
    std::thread::sleep(Duration::from_millis(750));
    let mut whole = Vec::new();
    reader.read_to_end(&mut whole).unwrap();
    assert_eq!(whole.len(), 500_000);
}

#[test]
fn dropping_the_reader_closes_the_connection() {
    let (sender, gone) = mpsc::channel();
    let sender = Mutex::new(sender);
    let stub = Stub::start(move |mut peer| {
        peer.request();
        peer.send(CHUNKED);
        peer.wait_until_gone();
        sender.lock().unwrap().send(()).unwrap();
    });
    let (_outbound, endpoint, reader) = open(&stub);
    assert_eq!(endpoint.stats().in_flight, 1);
    drop(reader);
    gone.recv_timeout(PATIENCE).expect("the client goes");
    wait_until("its place is free", || endpoint.stats().in_flight == 0);
}

#[test]
fn other_statuses_are_answers_too() {
    let stub = Stub::start(|mut peer| {
        peer.request();
        peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    });
    let (_outbound, _endpoint, mut reader) = open(&stub);
    assert_eq!(reader.status(), 403);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "no");
}

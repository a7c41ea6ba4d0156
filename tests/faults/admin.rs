//! Clients of the admin listener that mean no good.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fixture::{Folder, Launch, PATIENCE, Server, SetOnDrop, Traffic, scrape};

fn threads(server: &Server) -> usize {
    let folder = format!("/proc/{}/task", server.pid());
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn connect(server: &Server) -> UnixStream {
    let socket = UnixStream::connect(server.admin()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Fifty requests that come a byte at a time: sixteen are read at once, each for five seconds. A
/// scrape waits for its turn, NOTIFYs do not.
#[test]
fn fifty_requests_a_byte_at_a_time() {
    let folder = Folder::new();
    let server = Launch::new(&folder).start();
    let traffic = Traffic::start(&server);
    traffic.goes_on();
    let before = threads(&server);
    let ended = &AtomicBool::new(false);
    let (waited, most) = std::thread::scope(|scope| {
        let ending = SetOnDrop(ended);
        let mut slow: Vec<_> = (0..50).map(|_| connect(&server)).collect();
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for socket in &mut slow {
                    // Those that were cut are of no more use.
                    let _ = socket.write_all(b"G");
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let (began, mut most) = (Instant::now(), 0);
        let scraping = scope.spawn(|| scrape(server.admin(), "/metrics"));
        while !scraping.is_finished() {
            most = most.max(threads(&server));
            std::thread::sleep(Duration::from_millis(20));
        }
        let waited = began.elapsed();
        let answer = scraping.join().expect("no panic").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        drop(ending);
        (waited, most)
    });
    assert!(most <= before + 16, "{most} threads, {before} before");
    // Fifty are three times sixteen, and two.
    assert!(waited < Duration::from_secs(19), "{waited:?}");
    let asked = traffic.finish();
    println!(
        "a scrape after {waited:?}, {} threads more, {asked}",
        most - before
    );
    server.finish();
}

/// What is no request is told so, and what is too long.
#[test]
fn requests_that_are_none() {
    let folder = Folder::new();
    let server = Launch::new(&folder).start();
    let traffic = Traffic::start(&server);
    let memory = server.memory();
    let huge = [
        b"GET /metrics HTTP/1.1\r\nx: ".to_vec(),
        vec![b'a'; 1 << 20],
    ]
    .concat();
    let many = [
        b"GET /metrics HTTP/1.1\r\n".to_vec(),
        b"a: b\r\n".repeat(1000),
    ]
    .concat();
    for (request, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "400"),
        (b"\x00\x00\x00\x40\x01\x00\x00\x00\x01\x00\x00", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", "404"),
        (&huge, "431"),
        (&many, "400"),
    ] {
        for _ in 0..5 {
            let mut socket = connect(&server);
            // It may have been answered before all of it was sent.
            let _ = socket.write_all(request);
            let mut answer = Vec::new();
            let read = socket.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{read:?} {status}: {answer}");
        }
    }
    // And those that do not wait for their answer.
    for _ in 0..100 {
        let mut socket = connect(&server);
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
            .expect("it listens");
    }
    assert_eq!(server.metrics().get("draining"), 0.0);
    assert!(server.memory() <= memory + 8 * 1024 * 1024);
    traffic.goes_on();
    traffic.finish();
    server.finish();
}

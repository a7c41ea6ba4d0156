//! Peers that take more than their share: of descriptors, of patience, of connections.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};

use crate::fixture::{
    ALLOWED, DRIVERS, Folder, Launch, PATIENCE, Peer, Server, SetOnDrop, Stream, Traffic,
    eventually, hello, notify, scrape,
};
use crate::haproxy::Haproxy;

const MIB: u64 = 1024 * 1024;

/// Connections that are there are served; those that wait for a descriptor get theirs as soon as
/// there is one. What needs descriptors meanwhile fails with a word, and works later.
#[test]
fn no_descriptors_left() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let list = folder.write("bans.txt", "192.0.2.0/24\n");
        let server = Launch::new(&folder)
            .shell("ulimit -n 64")
            .arguments(&["--driver", driver])
            .path("--ban-list", &list)
            .start();
        let before = server.descriptors();
        let traffic = Traffic::start(&server);
        let began = Instant::now();
        let greedy: Vec<_> = (0..60)
            .flat_map(|_| [server.connect_tcp(), server.connect()])
            .collect();
        server.await_line("accept failed", 1);
        traffic.goes_on();

        server.signal(Signal::SIGHUP);
        let line = server.await_line("reload failed", 1);
        assert!(line.contains("Too many open files"), "{line}");
        server.signal(Signal::SIGUSR2);
        let line = server.await_line("the hand-over failed", 1);
        assert!(line.contains("Too many open files"), "{line}");
        // It is answered once its connection can be accepted.
        let admin = server.admin().to_owned();
        let scraped = std::thread::spawn(move || scrape(&admin, "/readyz"));
        traffic.goes_on();
        let asked = traffic.finish();

        let idle = server.cpu_time();
        std::thread::sleep(Duration::from_secs(1));
        let idle = server.cpu_time() - idle;
        assert!(
            idle < Duration::from_millis(300),
            "{idle:?} of CPU time in a second"
        );
        // A line a second and core, and one at the beginning.
        let most = 2.0 * (began.elapsed().as_secs_f64() + 2.0);
        let lines = server.lines("accept failed");
        assert!(
            lines as f64 <= most,
            "{lines} lines, not {most}:\n{}",
            server.log()
        );

        drop(greedy);
        assert!(
            scraped
                .join()
                .expect("no panic")
                .expect("an answer")
                .ends_with("ok\n")
        );
        assert_eq!(server.peer().ask(ALLOWED), "allow");
        server.signal(Signal::SIGHUP);
        server.await_line("reloaded; ", 1);
        eventually("the descriptors come back", || {
            server.descriptors() == before
        });
        let metrics = server.metrics();
        let errors = metrics.get("accept_errors_total");
        assert!(errors >= 1.0);
        assert_eq!(metrics.get("reload_failures_total"), 1.0);
        assert_eq!(metrics.get("hand_over_failures_total"), 1.0);
        println!("{driver}: {asked}, idle {idle:?}/s, {lines} lines, {errors} errors");
        server.finish();
    }
}

/// A socket of the port whose own window is small, so that it is full soon.
fn connect_with_small_window(server: &Server) -> Stream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&server.tcp().into()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Stream::Tcp(socket.into())
}

/// Peers that never read what they asked for are cut after the write timeout, hold one burst of
/// answers each meanwhile, and disturb nobody.
#[test]
fn peers_that_never_read() {
    const PEERS: u64 = 12;
    for driver in DRIVERS {
        let folder = Folder::new();
        let server = Launch::new(&folder)
            .arguments(&["--driver", driver, "--write-timeout-ms", "700"])
            .start();
        let traffic = Traffic::start(&server);
        traffic.goes_on();
        let before = server.memory();
        let mut deaf: Vec<_> = (0..PEERS)
            .map(|n| {
                let stream = if n % 4 == 0 {
                    connect_with_small_window(&server)
                } else {
                    server.connect().expect("it listens")
                };
                let peer = Peer::introduced(stream).expect("it answers a HELLO");
                peer.stream.set_nonblocking(true).expect("a socket");
                Some((peer, 0))
            })
            .collect();
        let burst: Vec<u8> = (1..=100).flat_map(|id| notify(id, ALLOWED, 0)).collect();
        let (began, mut most) = (Instant::now(), 0);
        while deaf.iter().any(Option::is_some) {
            assert!(began.elapsed() < PATIENCE, "they are not cut");
            for slot in &mut deaf {
                let Some((peer, sent)) = slot else { continue };
                match peer.stream.write(&burst[*sent..]) {
                    Ok(len) => *sent = (*sent + len) % burst.len(),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => *slot = None,
                }
            }
            most = most.max(server.memory());
            std::thread::sleep(Duration::from_millis(2));
        }
        let cut_after = began.elapsed();
        // Each holds its input, an output, and what a burst needs beyond; the rest is slack.
        let bound = before + PEERS * 96 * 1024 + 6 * MIB;
        assert!(most <= bound, "{most} bytes, not {bound}");
        let asked = traffic.finish();
        assert_eq!(server.metrics().get("timeouts_total"), PEERS as f64);
        server.await_line("its peer does not take its answers", 1);
        println!(
            "{driver}: {asked}, cut after {cut_after:?}, memory {} KiB more",
            most.saturating_sub(before) / 1024
        );
        server.finish();
    }
}

/// Peers that connect and say nothing, or half a HELLO, are gone after the hello timeout, and what
/// they held is back.
#[test]
fn five_hundred_peers_without_a_hello() {
    const PEERS: usize = 500;
    for driver in DRIVERS {
        let folder = Folder::new();
        let server = Launch::new(&folder)
            .arguments(&["--driver", driver, "--hello-timeout-ms", "1500"])
            .start();
        let traffic = Traffic::start(&server);
        traffic.goes_on();
        // Before the scrape, whose own descriptor is closed some time after it.
        let (descriptors, memory) = (server.descriptors(), server.memory());
        let before = server.metrics();
        let hello = hello(16_380);
        let began = Instant::now();
        let mut silent: Vec<_> = (0..PEERS)
            .map(|n| {
                let stream = if n % 4 < 2 {
                    server.connect()
                } else {
                    server.connect_tcp()
                };
                let mut stream = stream.expect("it listens");
                if n % 2 == 0 {
                    stream
                        .write_all(&hello[..hello.len() / 2])
                        .expect("it reads");
                }
                stream
            })
            .collect();
        eventually("all are accepted", || {
            server.descriptors() >= descriptors + PEERS
        });
        let most = server.memory();
        traffic.goes_on();
        assert!(silent.iter_mut().all(Stream::is_ended));
        let ended_after = began.elapsed();
        eventually("their descriptors come back", || {
            server.descriptors() == descriptors
        });
        // 16 KiB of input buffer each, of which what was never filled takes no memory.
        let bound = memory + PEERS as u64 * 24 * 1024 + 4 * MIB;
        assert!(most <= bound, "{most} bytes, not {bound}");
        let after = server.metrics();
        for name in ["timeouts_total", "connections_silent_total"] {
            assert_eq!(after.get(name) - before.get(name), PEERS as f64, "{name}");
        }
        let asked = traffic.finish();
        println!(
            "{driver}: {asked}, gone after {ended_after:?}, {} KiB more meanwhile",
            most.saturating_sub(memory) / 1024
        );
        server.finish();
    }
}

/// Peers that stop in the middle of a NOTIFY hold a connection until the idle timeout, where there
/// is one.
#[test]
fn peers_that_stop_in_the_middle_of_a_frame() {
    for driver in DRIVERS {
        let folder = Folder::new();
        let server = Launch::new(&folder)
            .arguments(&["--driver", driver, "--idle-timeout-ms", "1000"])
            .start();
        let traffic = Traffic::start(&server);
        traffic.goes_on();
        let descriptors = server.descriptors();
        let half = notify(1, ALLOWED, 0);
        let mut stopped: Vec<_> = (0..50)
            .map(|_| {
                let mut peer = server.peer();
                assert_eq!(peer.ask(ALLOWED), "allow");
                peer.stream
                    .write_all(&half[..half.len() - 1])
                    .expect("it reads");
                peer
            })
            .collect();
        for peer in &mut stopped {
            assert_eq!(
                peer.goodbye().expect("it is told"),
                2,
                "status: a timeout occurred"
            );
        }
        drop(stopped);
        eventually("their descriptors come back", || {
            server.descriptors() == descriptors
        });
        assert_eq!(server.metrics().get("timeouts_total"), 50.0);
        traffic.finish();
        server.finish();
    }
}

/// Connects `per_second` times a second and resets each connection at once, every tenth one with
/// some bytes that are no frame; how many there were.
fn storm(server: &Server, per_second: u32, duration: Duration) -> u32 {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < duration {
        if f64::from(count) > began.elapsed().as_secs_f64() * f64::from(per_second) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut stream = server.connect_tcp().expect("it listens");
        if count % 10 == 0 {
            // It may have been quicker to close.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        }
        // A reset: no port is kept waiting on either side.
        if let Stream::Tcp(stream) = &stream {
            let linger = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            linger.expect("a socket can be told to reset");
        }
        count += 1;
    }
    count
}

/// Ten thousand connects a second: whoever is connected is answered, HAProxy's health checks and
/// requests too, and nothing is left of it afterwards.
#[test]
fn ten_thousand_connects_a_second() {
    let folder = Folder::new();
    let server = Launch::new(&folder).start();
    let haproxies: Vec<_> = ["3.2", "2.6"]
        .into_iter()
        .map(|version| Haproxy::start(version, &server.tcp().to_string(), &folder))
        .collect();
    let traffic = Traffic::start(&server);
    traffic.goes_on();
    let before = server.memory();
    let ended = AtomicBool::new(false);
    let (connects, memory, requests) = std::thread::scope(|scope| {
        let ending = SetOnDrop(&ended);
        let watcher = scope.spawn(|| {
            let mut requests = 0;
            while !ended.load(Ordering::Relaxed) {
                for haproxy in &haproxies {
                    let state = haproxy.get().expect("HAProxy answers");
                    assert!(state.is_up, "a health check failed");
                    assert_eq!(state.verdict, "ban");
                    requests += 1;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            requests
        });
        let rounds = [(); 2].map(|()| {
            let connects = storm(&server, 10_000, Duration::from_millis(1500));
            let memory = server.memory();
            // HAProxy's own connections and health checks come and go; refused peers take a second.
            eventually("the connections have gone", || {
                server.metrics().get("core_connections") <= 10.0
            });
            (connects, memory)
        });
        drop(ending);
        let requests = watcher.join().expect("HAProxy was served");
        let connects = rounds.map(|(connects, _)| connects);
        (connects, rounds.map(|(_, memory)| memory), requests)
    });
    traffic.goes_on();
    let asked = traffic.finish();
    assert!(
        connects[0] >= 1500,
        "only {connects:?}: the machine is too busy for this test"
    );
    // What the peak took is kept for the next one; what grows with each round is a leak.
    assert!(memory[1] <= memory[0] + 6 * MIB, "{before}, {memory:?}");
    assert!(memory[1] <= before + 64 * MIB, "{before}, {memory:?}");
    println!("{connects:?} connects, {asked}, {requests} requests, memory {before} {memory:?}");
    drop(haproxies);
    server.finish();
}

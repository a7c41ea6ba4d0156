//! What memory is bounded by, and what happens below that bound.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::fixture::{ALLOWED, DRIVERS, Folder, Launch, Peer, Server, Traffic, eventually, notify};

const KIB: u64 = 1024;

/// The default of `--max-frame-size`.
const FRAME_SIZE: u32 = 65_532;

/// A NOTIFY that nearly fills such a frame.
fn large() -> Vec<u8> {
    notify(1, ALLOWED, 65_000)
}

/// As many peers as can be had that have sent half a large NOTIFY.
fn half_filled(server: &Server, count: u32) -> Vec<Peer> {
    let frame = large();
    let mut peers = Vec::new();
    for _ in 0..count {
        let Ok(stream) = server.connect() else { break };
        let Ok(mut peer) = Peer::with_frames(stream, FRAME_SIZE) else {
            break;
        };
        if peer.stream.write_all(&frame[..frame.len() / 2]).is_err() {
            break;
        }
        peers.push(peer);
    }
    peers
}

/// A thousand connections with frames of 64 KiB, half of them there: as much memory as they sent,
/// and a little; when the other half comes, a buffer each. Once more, it is no more than before.
#[test]
fn a_thousand_half_filled_buffers() {
    const PEERS: u32 = 1000;
    for driver in DRIVERS {
        let folder = Folder::new();
        let server = Launch::new(&folder)
            .arguments(&["--driver", driver])
            .start();
        let traffic = Traffic::start(&server);
        traffic.goes_on();
        let before = server.memory();
        let descriptors = server.descriptors();
        let frame = large();
        let rounds = [(); 2].map(|()| {
            let mut peers = half_filled(&server, PEERS);
            assert_eq!(peers.len(), 1000);
            let half = server.memory();
            for peer in &mut peers {
                peer.stream
                    .write_all(&frame[frame.len() / 2..])
                    .expect("it reads");
                assert_eq!(peer.take_verdict(), "allow");
            }
            let whole = server.memory();
            drop(peers);
            eventually("they have gone", || server.descriptors() == descriptors);
            (half - before, whole - before)
        });
        let asked = traffic.finish();
        println!("{driver}: half and whole {rounds:?} bytes beyond {before}, {asked}");
        // What was never filled takes no memory, at first; 8 KiB is what a connection is, and 8 MiB
        // are slack.
        // On epoll a part of a frame is there twice while the rest is waited for.
        let copies = if driver == "epoll" { 2 } else { 1 };
        let bound = |each: u64| u64::from(PEERS) * (copies * each + 8) * KIB + 8192 * KIB;
        assert!(rounds[0].0 <= bound(32), "{rounds:?}");
        assert!(
            rounds.iter().all(|&(_, whole)| whole <= bound(64)),
            "{rounds:?}"
        );
        assert!(rounds[1].1 <= rounds[0].1 + 4096 * KIB, "{rounds:?}");
        server.finish();
    }
}

/// Where memory is limited, `max-connections` has to fit it. If it does, the limit is told to whoever
/// comes beyond it; if it does not, an allocation that fails ends the process, as it does every Rust
/// program.
#[test]
fn less_memory_than_connections_need() {
    // Of address space, in KiB; 100 connections of this size take 10 MB.
    const LIMIT: &str = "ulimit -v 120000";
    let folder = Folder::new();
    let server = Launch::new(&folder)
        .shell(LIMIT)
        .arguments(&["--max-connections", "100", "--refusal-delay-ms", "0"])
        .start();
    let traffic = Traffic::start(&server);
    // The limit, and the surplus that is kept for health checks and refusals.
    let peers = half_filled(&server, 1000);
    assert_eq!(peers.len(), 96, "96, and the four of the traffic");
    traffic.goes_on();
    let asked = traffic.finish();
    println!("sized: {asked}, {} peers", peers.len());
    server.finish();

    let folder = Folder::new();
    let mut server = Launch::new(&folder).shell(LIMIT).start();
    let peers = half_filled(&server, 3000);
    let status = server.await_end();
    println!("not sized: {status} with {} peers", peers.len());
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
    let log = server.log();
    assert!(log.contains("memory allocation of"), "{log}");
}

//! The core loop of a worker, from the read that brings NOTIFYs to the write that takes their ACKs,
//! allocates nothing once it is warm: not ours, not monoio's.

mod counting;
mod handshake;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use counting::Counting;
use handshake::shake_hands;
use ringspoa::agents::remediation::{RemediationAgent, embedded};
use ringspoa::spop::{Argument, Frame, FrameId, FrameType, NotifyWriter, StreamId, TypedData};
use ringspoa::{
    Agent, AgentPair, Cores, Driver, ListenAddress, Message, Router, Server, ServerConfig, Var,
};

thread_local! {
    /// Set on worker threads only, by the agent factory, which runs there.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

static WORKER_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    // `try_with`: threads allocate while their locals are being torn down, too.
    if IS_WORKER.try_with(Cell::get).unwrap_or(false) {
        WORKER_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

const FRAMES: usize = 100_000;
const BATCH: usize = 20;

/// Sends `count` NOTIFYs, `BATCH` in flight, and reads as many ACKs.
fn exchange(socket: &mut UnixStream, count: usize) {
    let (mut requests, mut answers) = (vec![0; 128 * BATCH], vec![0; 64 * 1024]);
    for batch in 0..count / BATCH {
        let mut filled = 0;
        for index in 0..BATCH {
            let id = StreamId((2 * (batch * BATCH + index) + 1) as u64);
            let room = &mut requests[filled..];
            let mut notify = NotifyWriter::begin(room, 16_380, id, FrameId(1)).unwrap();
            let ip = if index % 2 == 0 {
                "192.0.2.7"
            } else {
                "10.0.0.7"
            };
            let ip: std::net::IpAddr = ip.parse().unwrap();
            notify
                .message(
                    "check-client-ip",
                    [Argument::new("ip", TypedData::from(ip))],
                )
                .unwrap();
            if index % 4 == 3 {
                // One more, which the agents but the pair pass over or read like the first.
                notify
                    .message("check-other", [Argument::new("ip", TypedData::from(ip))])
                    .unwrap();
            }
            filled += notify.finish();
        }
        socket.write_all(&requests[..filled]).unwrap();
        let (mut acks, mut len, mut start) = (0, 0, 0);
        while acks < BATCH {
            let read = socket.read(&mut answers[len..]).unwrap();
            assert_ne!(read, 0, "the server closed");
            len += read;
            while let Some((frame, used)) = Frame::split(&answers[start..len], 16_380).unwrap() {
                assert_eq!(frame.frame_type, FrameType::Ack);
                start += used;
                acks += 1;
            }
        }
    }
}

/// Agents of each kind: what is built in, and what is made of typed messages.
fn allocations_over_100_000_frames<A: Agent + 'static>(
    driver: Driver,
    agent: impl Fn() -> A + Send + Sync + 'static,
) -> u64 {
    let name = format!("ringspoa-no-alloc-{}-{driver:?}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let config = ServerConfig {
        listen: vec![ListenAddress::Unix {
            path: path.clone(),
            mode: None,
            user: None,
            group: None,
        }],
        cores: Cores::List(vec![0]),
        driver,
        ..ServerConfig::default()
    };
    let server = Server::start(config, move |_| {
        IS_WORKER.set(true);
        Ok(agent())
    })
    .unwrap();
    let mut socket = UnixStream::connect(&path).unwrap();
    shake_hands(&mut socket);
    exchange(&mut socket, 2_000);
    let before = WORKER_ALLOCATIONS.load(Ordering::Relaxed);
    assert_ne!(before, 0, "the counter counts: making the agent allocates");
    exchange(&mut socket, FRAMES);
    let after = WORKER_ALLOCATIONS.load(Ordering::Relaxed);
    drop(socket);
    server.drain();
    let stats = server.join().unwrap();
    assert_eq!(stats.acks, (FRAMES + 2_000) as u64);
    after - before
}

#[derive(Message)]
struct CheckClientIp {
    ip: IpAddr,
}

const IS_LOCAL: Var<bool> = Var::txn("is_local");

fn typed() -> impl Agent {
    // Some state of its own, so that making it allocates.
    Router::new("typed", vec![IpAddr::from([10, 0, 0, 7])]).on::<CheckClientIp>(
        |local: &mut Vec<IpAddr>, check, reply| Ok(reply.set(IS_LOCAL, local.contains(&check.ip))?),
    )
}

#[derive(Message)]
struct CheckOther {
    ip: IpAddr,
}

/// Two agents, which both have a message in every fourth NOTIFY.
fn pair() -> impl Agent {
    let other = Router::new("other", vec![1]).on::<CheckOther>(|_: &mut Vec<i32>, _, _| Ok(()));
    AgentPair::new(other, typed())
}

// One test for all: they share the counter.
#[test]
fn no_allocation_per_frame_on_either_driver() {
    for driver in [Driver::Auto, Driver::Epoll] {
        let built_in = || RemediationAgent::new(embedded());
        for (kind, count) in [
            (
                "built in",
                allocations_over_100_000_frames(driver, built_in),
            ),
            ("typed", allocations_over_100_000_frames(driver, typed)),
            ("pair", allocations_over_100_000_frames(driver, pair)),
        ] {
            println!("{driver:?}, {kind}: {count} allocations in {FRAMES} frames");
            assert_eq!(
                count, 0,
                "{driver:?}, {kind}: allocations in {FRAMES} frames"
            );
        }
    }
}

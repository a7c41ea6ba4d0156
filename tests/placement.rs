//! HAProxy opens few connections and keeps them: each core gets its share of real ones.

mod handshake;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use handshake::shake_hands;
use ringspoa::spop::{Argument, FrameId, Messages, NotifyWriter, StreamId};
use ringspoa::{Agent, AgentError, Driver, ListenAddress, Reply, Server, ServerConfig};

/// Counts what its core was asked.
struct Counting {
    core: usize,
    asked: Arc<Vec<AtomicU64>>,
}

impl Agent for Counting {
    fn handle_notify(&mut self, _: &mut Messages<'_>, _: &mut Reply<'_>) -> Result<(), AgentError> {
        self.asked[self.core].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn ask(socket: &mut (impl Read + Write)) {
    shake_hands(socket);
    let mut buffer = [0; 256];
    let mut notify = NotifyWriter::begin(&mut buffer, 256, StreamId(1), FrameId(1)).unwrap();
    notify.message("m", [Argument::new("n", 1_i64)]).unwrap();
    let len = notify.finish();
    socket.write_all(&buffer[..len]).unwrap();
    assert_ne!(socket.read(&mut buffer).unwrap(), 0);
}

/// Opens this many connections at once, asks on each, and returns what each core was asked.
fn spread(connections: usize, address: ListenAddress, driver: Driver) -> Vec<u64> {
    let asked: Arc<Vec<_>> = Arc::new((0..1024).map(|_| AtomicU64::new(0)).collect());
    let mut config = ServerConfig::listening_on(address);
    config.driver = driver;
    let for_agents = Arc::clone(&asked);
    let server = Server::start(config, move |core| {
        Ok(Counting {
            core,
            asked: Arc::clone(&for_agents),
        })
    })
    .unwrap();
    let cores = server.cores().len();
    // All are open before the first one asks.
    match &server.addresses()[0] {
        ListenAddress::Tcp(address) => {
            let connect = |_| TcpStream::connect(address).unwrap();
            let mut sockets: Vec<_> = (0..connections).map(connect).collect();
            sockets.iter_mut().for_each(ask);
        }
        ListenAddress::Unix { path, .. } => {
            let connect = |_| UnixStream::connect(path).unwrap();
            let mut sockets: Vec<_> = (0..connections).map(connect).collect();
            sockets.iter_mut().for_each(ask);
        }
    }
    server.drain();
    server.join().unwrap();
    asked[..cores]
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect()
}

#[test]
fn a_burst_of_connections_is_spread_evenly_over_the_cores() {
    let path = std::env::temp_dir().join(format!("ringspoa-placement-{}", std::process::id()));
    let unix: ListenAddress = format!("unix:{}", path.display()).parse().unwrap();
    for driver in [Driver::Auto, Driver::Epoll] {
        for address in ["127.0.0.1:0".parse().unwrap(), unix.clone()] {
            for connections in [2, 16, 300] {
                let counts = spread(connections, address.clone(), driver);
                let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
                assert_eq!(counts.iter().sum::<u64>(), connections as u64);
                assert!(most - least <= 1, "{connections}, {driver:?}: {counts:?}");
            }
        }
    }
}

//! What an outbound call costs the core that makes it: `cargo bench --bench outbound`.
//!
//! The stub server and the outbound thread run beside it on the same machine, so the figures are worth
//! reading on a quiet one with more than one CPU. Allocations are of the calling thread alone.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use divan::{AllocProfiler, Bencher, black_box};
use ringspoa::outbound::{Endpoint, EndpointConfig, Method, Outbound, OutboundConfig, Request};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Calls of a burst.
const BURST: u32 = 64;

const DEADLINE: Duration = Duration::from_secs(5);

fn main() {
    divan::main();
}

/// A server that answers what ends in an empty line.
fn stub() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || answer(socket));
        }
    });
    address
}

fn answer(mut socket: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    let mut len = 0;
    while let Ok(read @ 1..) = socket.read(&mut buffer[len..]) {
        len += read;
        if buffer[..len].ends_with(b"\r\n\r\n") {
            len = 0;
            if socket
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .is_err()
            {
                return;
            }
        }
    }
}

fn endpoint(outbound: &Outbound, max_in_flight: usize) -> Endpoint {
    let config = EndpointConfig {
        max_in_flight,
        max_queued: BURST as usize,
        ..EndpointConfig::new("stub", format!("http://{}", stub()))
    };
    outbound.endpoint(config).unwrap()
}

/// What is asked of a firewall for one request: its headers and some more.
fn request() -> Request {
    let mut request = Request::new(Method::Get, "/");
    for index in 0..20 {
        let name = format!("x-header-number-{index}");
        request.header(name, "a value as long as they are").unwrap();
    }
    request
}

/// A call whose callback has as much to keep as a ticket.
fn call(endpoint: &Endpoint, request: Request) {
    let kept = [0_u64; 8];
    endpoint.call(request, DEADLINE, 1024, move |_| {
        black_box(kept);
    });
}

fn wait_until_idle(endpoint: &Endpoint) {
    while endpoint.stats().in_flight > 0 {
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// The outbound thread sleeps and is woken.
#[divan::bench(sample_size = 1, sample_count = 2000)]
fn call_when_asleep(bencher: Bencher<'_, '_>) {
    let outbound = Outbound::start(OutboundConfig::default()).unwrap();
    let endpoint = endpoint(&outbound, 4);
    bencher
        .with_inputs(|| {
            wait_until_idle(&endpoint);
            std::thread::sleep(Duration::from_micros(200));
            request()
        })
        .bench_local_values(|request| call(&endpoint, request));
}

/// It has others to do already.
#[divan::bench(sample_size = BURST, sample_count = 200)]
fn call_in_a_burst(bencher: Bencher<'_, '_>) {
    let outbound = Outbound::start(OutboundConfig::default()).unwrap();
    let endpoint = endpoint(&outbound, 4);
    bencher
        .with_inputs(|| {
            let request = request();
            wait_until_idle(&endpoint);
            request
        })
        .bench_local_values(|request| call(&endpoint, request));
}

/// The endpoint has as many as it may.
#[divan::bench]
fn call_that_is_shed(bencher: Bencher<'_, '_>) {
    let outbound = Outbound::start(OutboundConfig::default()).unwrap();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = EndpointConfig {
        max_in_flight: 1,
        ..EndpointConfig::new("stub", format!("http://{}", silent.local_addr().unwrap()))
    };
    let endpoint = outbound.endpoint(config).unwrap();
    endpoint.call(request(), Duration::from_secs(60), 1024, drop);
    bencher
        .with_inputs(|| Request::new(Method::Get, "/"))
        .bench_local_values(|request| call(&endpoint, request));
}

/// Making the request of twenty headers.
#[divan::bench]
fn request_of_twenty_headers(bencher: Bencher<'_, '_>) {
    let names: Vec<_> = (0..20)
        .map(|index| format!("x-header-number-{index}"))
        .collect();
    bencher.bench_local(|| {
        let mut request = Request::new(Method::Get, "/");
        for name in &names {
            request.header(name, "a value as long as they are").unwrap();
        }
        request
    });
}

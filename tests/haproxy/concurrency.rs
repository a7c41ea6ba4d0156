//! Many streams at once: pipelined on one connection, from several threads, over TCP and Unix
//! sockets.

use std::sync::{Arc, Mutex};

use ringspoa::spop::{Messages, Scope, Variable};
use ringspoa::{AgentError, Reply, Ticket};

use crate::fixture::{Config, Haproxy, Served, Version, respond};
use crate::http::Request;

/// What HAProxy pipelines on a connection: `max-waiting-frames` up to 3.0, a fixed number from 3.1
/// on.
const STREAMS: usize = 20;

const ECHO: Variable<'static> = Variable::literal(Scope::Transaction, "echo");
const ORDER: Variable<'static> = Variable::literal(Scope::Transaction, "order");

const PATH_MESSAGE: &str = "spoe-message request
    args path=path
    event on-frontend-http-request";

fn path<'a>(messages: &mut Messages<'a>) -> Result<&'a str, AgentError> {
    let mut message = messages.next_message()?.ok_or("no message")?;
    let argument = message.next_argument()?.ok_or("no path")?;
    Ok(argument.value.as_str().ok_or("not text")?)
}

/// The agent answers nobody until 20 NOTIFYs wait, then the last one first. There is one
/// connection, so all of them are in flight on it; and each request has its own answer.
pub(crate) fn twenty_streams_are_pipelined_and_answered_in_reverse(version: Version) {
    let waiting: Arc<Mutex<Vec<(String, Ticket)>>> = Arc::default();
    let shared = Arc::clone(&waiting);
    let agent = move |messages: &mut Messages<'_>, reply: &mut Reply<'_>| {
        let path = path(messages)?;
        if path == "/warm" {
            reply.set_var(ECHO, path)?;
            return Ok(());
        }
        let mut waiting = shared.lock().expect("not poisoned");
        waiting.push((path.to_owned(), reply.defer()));
        if waiting.len() == STREAMS {
            for (order, (path, mut ticket)) in (0_i64..).zip(waiting.drain(..).rev()) {
                ticket.set_var(ECHO, &*path)?;
                ticket.set_var(ORDER, order)?;
                ticket.send();
            }
        }
        Ok(())
    };
    let served = Served::start(agent);
    let config = Config {
        frontend: respond(&[
            ("x-echo", "var(txn.t.echo)"),
            ("x-order", "var(txn.t.order)"),
        ]),
        // A message opens a connection of its own up to 3.0, unless fewer wait than were answered
        // in the last second, or one was opened in that second: both hold here.
        agent: if version.has_multiplexer() {
            "messages request"
        } else {
            "messages request\n    maxconnrate 1"
        },
        messages: PATH_MESSAGE,
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    // From 3.1 on, streams share a connection only once it has had its HELLO.
    let warm_up = 3 * STREAMS;
    for _ in 0..warm_up {
        assert_eq!(
            haproxy.get("/warm").assert_passed().header("x-echo"),
            "/warm"
        );
    }
    let mut orders: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..STREAMS)
            .map(|number| {
                let haproxy = &haproxy;
                scope.spawn(move || {
                    let path = format!("/{number}");
                    let response = haproxy.get(&path);
                    assert_eq!(response.assert_passed().header("x-echo"), path);
                    response.header("x-order").parse().expect("a number")
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|order| order.expect("no request fails"))
            .collect()
    });
    orders.sort_unstable();
    assert!(orders.into_iter().eq(0..STREAMS), "each was answered once");
    drop(haproxy);
    let stats = served.finish();
    assert_eq!(stats.connections, 1, "{stats:?}");
    assert_eq!(stats.deferred, STREAMS as u64);
    assert_eq!(stats.notifies, (warm_up + STREAMS) as u64);
}

pub(crate) fn two_threads_over_tcp(version: Version) {
    two_threads(version, Served::start(echo));
}

pub(crate) fn two_threads_over_a_unix_socket(version: Version) {
    two_threads(version, Served::start_unix(echo));
}

fn echo(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
    reply.set_var(ECHO, path(messages)?)?;
    Ok(())
}

/// `nbthread 2`, with more clients than that: everyone gets their own answer.
fn two_threads(version: Version, served: Served) {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 50;
    let config = Config {
        threads: 2,
        frontend: respond(&[("x-echo", "var(txn.t.echo)"), ("x-thread", "thread")]),
        messages: PATH_MESSAGE,
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    let mut threads: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let socket = haproxy.socket();
                scope.spawn(move || {
                    let mut threads = Vec::new();
                    for number in 0..REQUESTS {
                        let path = format!("/{client}/{number}");
                        let response = Request::get(&path).send(&socket).expect("a response");
                        assert_eq!(response.assert_passed().header("x-echo"), path);
                        threads.push(response.header("x-thread").to_owned());
                    }
                    threads
                })
            })
            .collect();
        let joined = clients.into_iter().map(|client| client.join());
        joined
            .flat_map(|threads| threads.expect("no request fails"))
            .collect()
    });
    threads.sort();
    threads.dedup();
    assert_eq!(threads.len(), 2, "both of HAProxy's threads had requests");
    drop(haproxy);
    assert_eq!(served.finish().notifies, (CLIENTS * REQUESTS) as u64);
}

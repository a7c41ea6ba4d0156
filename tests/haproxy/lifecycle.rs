//! Coming and going: health checks, HAProxy reloading, the agent restarting, most of it under
//! load.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use ringspoa::spop::{Messages, Scope, Variable};
use ringspoa::{AgentError, Reply};

use crate::fixture::{
    Binary, Config, Folder, GONE, Haproxy, Served, Version, own_loopback_address, respond, wait_for,
};
use crate::http::Request;

const ECHO: Variable<'static> = Variable::literal(Scope::Transaction, "echo");

/// What takes a while on a loaded machine, but comes.
const SOON: Duration = Duration::from_secs(10);

/// Sends the path back; a path that begins with `/slow` from another thread, a little later.
fn echo(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
    let mut message = messages.next_message()?.ok_or("no message")?;
    let argument = message.next_argument()?.ok_or("no path")?;
    let path = argument.value.as_str().ok_or("not text")?;
    if !path.starts_with("/slow") {
        reply.set_var(ECHO, path)?;
        return Ok(());
    }
    let mut ticket = reply.defer();
    ticket.set_var(ECHO, path)?;
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        ticket.send();
    });
    Ok(())
}

fn echoing() -> Config {
    Config {
        frontend: respond(&[("x-echo", "var(txn.t.echo)"), ("x-agents", "nbsrv(agents)")]),
        messages: "spoe-message request
    args path=path
    event on-frontend-http-request unless { path /state }",
        ..Config::default()
    }
}

/// `option spop-check`: the agent's server is DOWN before the agent runs and after it has drained,
/// and UP while it runs, twice.
pub(crate) fn check_goes_down_and_up_with_the_server(version: Version) {
    let address = own_loopback_address().to_string();
    let config = Config {
        backend: "option spop-check",
        server: "check inter 50ms rise 2 fall 2",
        processing_ms: 500,
        ..echoing()
    };
    let haproxy = Haproxy::start(version, &address, &config);
    let reaches = |count: &str| {
        let state = || haproxy.get("/state").header("x-agents") == count;
        wait_for(SOON, || state().then_some(())).is_some()
    };
    assert!(reaches("0"), "UP without an agent");
    for _ in 0..2 {
        let served = Served::start_at(&address, echo);
        assert!(reaches("1"), "DOWN with an agent");
        // Up to 3.0, SPOE goes on waiting for a connection that was tried while there was no
        // agent, but not for longer than a request may take.
        let answered = || (haproxy.get("/up").header("x-echo") == "/up").then_some(());
        assert!(
            wait_for(SOON, answered).is_some(),
            "no verdict with an agent"
        );
        assert!(served.finish().health_checks > 0);
        assert!(reaches("0"), "UP after the agent has drained");
        // Fail-open: answered, without a verdict, and SPOE says so.
        let response = haproxy.get("/down");
        assert_eq!((response.status, response.header("x-echo")), (200, ""));
        assert_ne!(response.header("x-error"), "", "{response:?}");
    }
}

/// A soft stop with an idle connection to the agent: up to 3.0 HAProxy says goodbye and waits for
/// ours.
pub(crate) fn idle_haproxy_stops_softly_at_once(version: Version) {
    let served = Served::start(echo);
    let mut haproxy = Haproxy::start(version, &served.address(), &echoing());
    assert_eq!(haproxy.get("/a").assert_passed().header("x-echo"), "/a");
    haproxy.process.signal(Signal::SIGUSR1);
    let (status, _) = haproxy.process.wait(GONE);
    assert_eq!(status.code(), Some(0));
    assert_eq!(served.finish().notifies, 1);
}

/// Sets a flag when it goes, also by a panic.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `during` while as many clients do `send` over and over, which is given the client's number
/// and the request's; returns what they all had, and what `during` has.
fn under_load<T: Send, R>(
    clients: usize,
    send: impl Fn(usize, usize) -> T + Sync,
    during: impl FnOnce() -> R,
) -> (Vec<T>, R) {
    let (stop, send) = (AtomicBool::new(false), &send);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let stop = &stop;
                scope.spawn(move || {
                    (0..)
                        .take_while(|_| !stop.load(Ordering::Relaxed))
                        .map(|number| send(client, number))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let stop = SetOnDrop(&stop);
        let result = during();
        drop(stop);
        let joined = threads.into_iter().map(|thread| thread.join());
        let sent = joined.flat_map(|results| results.expect("no client fails"));
        (sent.collect(), result)
    })
}

/// Two reloads, each taking the listeners over, while clients open one connection after the other
/// and some answers take a while: every request has its answer, and every process left goes.
pub(crate) fn reload_under_load_loses_nothing(version: Version) {
    let served = Served::start(echo);
    let mut haproxy = Haproxy::start(version, &served.address(), &echoing());
    let socket = haproxy.socket();
    let send = |client, number| {
        let kind = if client == 0 { "slow" } else { "fast" };
        let path = format!("/{kind}/{client}/{number}");
        let response = Request::get(&path).send(&socket);
        (path, response.map_err(|error| error.to_string()))
    };
    let (answers, exits) = under_load(4, send, || {
        let exits = [(); 2].map(|()| {
            std::thread::sleep(Duration::from_millis(300));
            haproxy.reload().wait(GONE)
        });
        std::thread::sleep(Duration::from_millis(300));
        exits
    });
    for (path, response) in &answers {
        match response {
            Ok(response) => assert_eq!(response.assert_passed().header("x-echo"), path),
            Err(error) => panic!("{path}: {error}"),
        }
    }
    for (status, _) in &exits {
        assert_eq!(status.code(), Some(0));
    }
    println!("{} requests; old processes: {exits:?}", answers.len());
    drop(haproxy);
    assert_eq!(served.finish().notifies, answers.len() as u64);
}

/// What became of a request while the agent restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// The verdict on its address.
    Verdict,
    /// None, and an SPOE error: the request passed.
    FailedOpen,
}

/// The agent leaves, a new one comes to the same address afterwards.
pub(crate) fn agent_restart_under_load_over_tcp(version: Version) {
    let address = own_loopback_address();
    let listens = move || TcpStream::connect(address).is_ok();
    let (listen, haproxy) = (address.to_string(), address.to_string());
    agent_restart(version, &listen, &haproxy, &listens, |old, start| {
        old.finish();
        start()
    });
}

/// The agent is asked to leave, and a new one takes its socket's path while the old one drains.
pub(crate) fn agent_restart_under_load_over_a_unix_socket(version: Version) {
    let folder = Folder::new();
    let path = folder.file("spop.sock");
    let (listen, haproxy) = (
        format!("unix:{}", path.display()),
        format!("unix@{}", path.display()),
    );
    let listens = move || UnixStream::connect(&path).is_ok();
    agent_restart(version, &listen, &haproxy, &listens, |mut old, start| {
        old.drain();
        let left = wait_for(GONE, || (!listens()).then_some(()));
        assert!(left.is_some(), "still accepting while it drains");
        let new = start();
        old.finish();
        assert!(listens(), "the old one took the new one's socket with it");
        new
    });
}

/// Sends the agent SIGTERM under load; `replace` makes a new one. Every request is answered, and
/// in the end with its verdict again.
fn agent_restart(
    version: Version,
    listen: &str,
    address: &str,
    listens: &dyn Fn() -> bool,
    replace: impl FnOnce(Binary, &dyn Fn() -> Binary) -> Binary,
) {
    const CLIENTS: usize = 4;
    const RECOVERED: usize = 100;
    let folder = Folder::new();
    let start = || Binary::start(&folder, listen, &["--drain-timeout-ms", "500"]);
    let agent = start();
    assert!(listens());
    let config = Config {
        frontend: format!(
            "http-request deny deny_status 403 if {{ var(txn.t.remediation) -m str ban }}\n    {}",
            respond(&[("x-verdict", "var(txn.t.remediation)")])
        ),
        messages: "spoe-message request
    args ip=req.hdr_ip(x-client)
    event on-frontend-http-request",
        processing_ms: 300,
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, address, &config);
    let socket = haproxy.socket();
    // Answers with a verdict since the last one without.
    let streak = AtomicUsize::new(0);
    let send = |client: usize, number: usize| {
        let banned = (client + number).is_multiple_of(2);
        let client = if banned { "192.0.2.1" } else { "10.0.0.1" };
        let request = Request::get("/").header("x-client", client);
        let response = request.send(&socket).expect("an answer to every request");
        let seen = (response.status, response.header("x-verdict"));
        let failed = !response.header("x-error").is_empty();
        if seen == (if banned { (403, "") } else { (200, "allow") }) && !failed {
            streak.fetch_add(1, Ordering::Relaxed);
            Answer::Verdict
        } else if seen == (200, "") && failed {
            streak.store(0, Ordering::Relaxed);
            Answer::FailedOpen
        } else {
            panic!("{client}: {response:?}");
        }
    };
    let recovers = || {
        streak.store(0, Ordering::Relaxed);
        let recovered = || streak.load(Ordering::Relaxed) >= RECOVERED;
        wait_for(SOON, || recovered().then_some(())).is_some()
    };
    let (answers, agent) = under_load(CLIENTS, send, || {
        assert!(recovers(), "no verdicts before the restart");
        let agent = replace(agent, &start);
        assert!(recovers(), "no verdicts after the restart");
        agent
    });
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_insert(0) += 1;
    }
    println!("{counts:?}");
    drop(haproxy);
    agent.finish();
}

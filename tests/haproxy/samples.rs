//! The samples of dist/ as they are, but for their addresses: what passes with an agent, without
//! one, and with one that does not answer.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ringspoa::spop::Messages;
use ringspoa::{AgentError, Reply};

use crate::fixture::{Binary, Folder, Haproxy, Served, Version, wait_for};
use crate::http::Request;

const FAIL_OPEN: &str = "haproxy.cfg";
const FAIL_CLOSED: &str = "haproxy-fail-closed.cfg";

/// Banned where there is no list.
const BANNED: &str = "192.0.2.1";
const ALLOWED: &str = "10.1.1.1";

/// HAProxy has made the few checks that it decides by.
const CHECKED: Duration = Duration::from_secs(10);

/// Where HAProxy looks for the agent.
fn agent(folder: &Folder) -> String {
    format!("unix:{}", folder.file("spop.sock").display())
}

/// `text` with each of these in it replaced; fails where one is not in it.
pub(crate) fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements
        .iter()
        .fold(text.to_owned(), |text, (theirs, ours)| {
            assert!(text.contains(theirs), "the sample has no {theirs}:\n{text}");
            text.replace(theirs, ours)
        })
}

/// Starts HAProxy with a sample. Its files and sockets, and the agent's, are in `folder`.
fn start(version: Version, sample: &str, processing: &str, folder: &Folder) -> Haproxy {
    start_with(version, sample, processing, "", folder)
}

/// The same behind lines of a global section.
fn start_with(
    version: Version,
    sample: &str,
    processing: &str,
    global: &str,
    folder: &Folder,
) -> Haproxy {
    let dist =
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("dist")
            .join(if version.has_multiplexer() {
                "haproxy-3.1"
            } else {
                "haproxy-2.6"
            });
    let read = |name: &str| fs::read_to_string(dist.join(name)).expect("a sample");
    let own = Folder::new();
    let path = |folder: &Folder, name: &str| folder.file(name).display().to_string();
    let config = replaced(
        &read(sample),
        &[
            ("/etc/haproxy/ringspoa.spoe.cfg", &path(&own, "spoe.cfg")),
            (
                "bind :80",
                &format!("bind unix@{} accept-proxy", path(&own, "http.sock")),
            ),
            (
                "127.0.0.1:8000",
                &format!("unix@{}", path(&own, "origin.sock")),
            ),
            ("/run/ringspoa/ringspoa.sock", &path(folder, "spop.sock")),
            // So that the test waits less; checks come every 1 or 2 s in the samples.
            (".sock check", ".sock check inter 100ms"),
        ],
    )
    .replace("inter 100ms inter 1s", "inter 100ms");
    let origin = path(&own, "origin.sock");
    own.write(
        "haproxy.cfg",
        &format!(
            "{global}{config}\nfrontend origin\n    bind unix@{origin}\n    http-request return status 200\n"
        ),
    );
    own.write(
        "spoe.cfg",
        &replaced(&read("spoe.cfg"), &[("100ms", processing)]),
    );
    Haproxy::start_in(version, own)
}

/// The status that a client at this address gets.
#[track_caller]
fn status(haproxy: &Haproxy, path: &str, client: &str) -> u16 {
    let ip: IpAddr = client.parse().expect("an address");
    haproxy.send(&Request::get(path).behind_proxy(ip)).status
}

/// Waits until the monitor of the sample that fails closed has this status.
#[track_caller]
fn wait_for_monitor(haproxy: &Haproxy, expected: u16) {
    let found = wait_for(CHECKED, || {
        (status(haproxy, "/haproxy-health", ALLOWED) == expected).then_some(())
    });
    assert!(
        found.is_some(),
        "the monitor is not {expected} after {CHECKED:?}"
    );
}

/// Without an agent all pass; with one, who is banned does not.
pub(crate) fn the_open_sample_asks_and_fails_open(version: Version) {
    let folder = Folder::new();
    let haproxy = start(version, FAIL_OPEN, "10s", &folder);
    assert_eq!(status(&haproxy, "/", BANNED), 200, "no agent");
    drop(haproxy);

    let binary = Binary::start(&folder, &agent(&folder), &[]);
    let haproxy = start(version, FAIL_OPEN, "10s", &folder);
    assert_eq!(status(&haproxy, "/", BANNED), 403);
    assert_eq!(status(&haproxy, "/", ALLOWED), 200);
    binary.finish();
    assert_eq!(status(&haproxy, "/", BANNED), 200, "the agent went");
}

/// The message has the address alone, whatever else a request has.
pub(crate) fn no_length_is_a_way_past_the_open_sample(version: Version) {
    let folder = Folder::new();
    let binary = Binary::start(&folder, &agent(&folder), &[]);
    for size in [16_384, 131_072] {
        let global = format!("global\n    tune.bufsize {size}\n");
        let haproxy = start_with(version, FAIL_OPEN, "10s", &global, &folder);
        let most = "x".repeat(size / 10 * 8);
        for request in [
            Request::get(&format!("/{most}")),
            Request::get("/").header("x-long", &most),
        ] {
            for (client, expected) in [(BANNED, 403), (ALLOWED, 200)] {
                let ip: IpAddr = client.parse().expect("an address");
                let status = haproxy.send(&request.clone().behind_proxy(ip)).status;
                assert_eq!(status, expected, "tune.bufsize {size}, {client}");
            }
        }
    }
    binary.finish();
}

/// Without an agent nobody passes, and the monitor says so; it comes back with the agent.
pub(crate) fn the_closed_sample_asks_and_fails_closed(version: Version) {
    let folder = Folder::new();
    let haproxy = start(version, FAIL_CLOSED, "10s", &folder);
    // Also before the first check, which is when HAProxy takes the agent to be up.
    assert_eq!(status(&haproxy, "/", ALLOWED), 503, "no agent");
    wait_for_monitor(&haproxy, 503);
    assert_eq!(status(&haproxy, "/", ALLOWED), 503, "no agent");

    let binary = Binary::start(&folder, &agent(&folder), &[]);
    wait_for_monitor(&haproxy, 200);
    assert_eq!(status(&haproxy, "/", ALLOWED), 200);
    assert_eq!(status(&haproxy, "/", BANNED), 403);
    binary.finish();
    assert_eq!(status(&haproxy, "/", ALLOWED), 503, "the agent went");
}

/// An agent that is up, but answers too late or not what was asked, lets nobody pass either.
pub(crate) fn the_closed_sample_refuses_what_got_no_answer(version: Version) {
    fn too_late(_: &mut Messages<'_>, _: &mut Reply<'_>) -> Result<(), AgentError> {
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }
    fn nothing(_: &mut Messages<'_>, _: &mut Reply<'_>) -> Result<(), AgentError> {
        Ok(())
    }
    type Answer = fn(&mut Messages<'_>, &mut Reply<'_>) -> Result<(), AgentError>;
    for (answer, processing) in [(too_late as Answer, "100ms"), (nothing, "10s")] {
        let folder = Folder::new();
        let served = Served::start_at(&agent(&folder), answer);
        let haproxy = start(version, FAIL_CLOSED, processing, &folder);
        wait_for_monitor(&haproxy, 200);
        assert_eq!(status(&haproxy, "/", ALLOWED), 503);
        wait_for_monitor(&haproxy, 200);
        drop(haproxy);
        served.finish();
    }
}

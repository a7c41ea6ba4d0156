//! Real HAProxy in front of the binary, with health checks, failing open.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::fixture::{Folder, PATIENCE, eventually};

/// A running HAProxy, killed when dropped.
#[derive(Debug)]
pub(crate) struct Haproxy {
    child: Child,
    socket: PathBuf,
}

/// The headers of its response that say how the agent fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether its health checks find the agent.
    pub(crate) is_up: bool,
    /// What the agent said of the client; empty where it said nothing.
    pub(crate) verdict: String,
}

impl Haproxy {
    /// Starts it in front of the agent at `agent`, as HAProxy writes addresses.
    pub(crate) fn start(version: &str, agent: &str, folder: &Folder) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = root.join(format!(".haproxy/{version}/haproxy"));
        assert!(
            program.is_file(),
            "HAProxy {version} is not installed: {} is missing, run scripts/install-haproxy",
            program.display()
        );
        let socket = folder.file(&format!("http-{version}.sock"));
        let engine = folder.write(&format!("spoe-{version}.cfg"), engine(version));
        let config = format!(
            "global
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 20s
    timeout server 20s
frontend web
    bind unix@{}
    filter spoe engine test config {}
    http-request return status 200 hdr x-agents \"%[nbsrv(agents)]\" \
     hdr x-verdict \"%[var(txn.t.remediation)]\"
backend agents
    mode {}
    option spop-check
    timeout check 5s
    server agent {agent} check inter 100ms rise 1 fall 2
",
            socket.display(),
            engine.display(),
            if has_multiplexer(version) {
                "spop"
            } else {
                "tcp"
            },
        );
        let config = folder.write(&format!("haproxy-{version}.cfg"), config);
        let log =
            File::create(folder.file(&format!("haproxy-{version}.log"))).expect("a file of ours");
        let child = Command::new(program)
            .args(["-db".as_ref(), "-f".as_ref(), config.as_os_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("HAProxy can be run");
        let haproxy = Self { child, socket };
        eventually("HAProxy finds the agent", || {
            haproxy
                .get()
                .is_ok_and(|state| state.is_up && state.verdict == "ban")
        });
        haproxy
    }

    /// One request of a banned client.
    pub(crate) fn get(&self) -> io::Result<State> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(
            b"GET / HTTP/1.1\r\nhost: test\r\nx-client: 192.0.2.7\r\nconnection: close\r\n\r\n",
        )?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        if !response.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(response));
        }
        let header = |name: &str| {
            let lines = response.lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.next().unwrap_or_default().to_owned()
        };
        Ok(State {
            is_up: header("x-agents") == "1",
            verdict: header("x-verdict"),
        })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether SPOP is a multiplexer as for HTTP/2, as from 3.1 on.
fn has_multiplexer(version: &str) -> bool {
    version == "3.2"
}

fn engine(version: &str) -> String {
    // Required up to 3.0, ignored from 3.1 on.
    let timeouts = if has_multiplexer(version) {
        ""
    } else {
        "timeout hello 2s\n    timeout idle 60s"
    };
    format!(
        "[test]
spoe-agent test
    messages check
    option var-prefix t
    option dontlog-normal
    {timeouts}
    timeout processing 5s
    use-backend agents
spoe-message check
    args src=req.hdr_ip(x-client)
    event on-frontend-http-request
"
    )
}

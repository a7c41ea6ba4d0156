//! The binary replaced and reloaded again and again while wrk asks through HAProxy: nobody notices.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{
    Binary, Config, Folder, Haproxy, Version, own_loopback_address, respond, wait_for,
};

/// Each of hand-overs and reloads, one after the other.
const TIMES: usize = 10;

/// How long the processes may take to change.
const CHANGE: Duration = Duration::from_secs(10);

/// Between two changes, so that requests come between them.
const BETWEEN: Duration = Duration::from_millis(200);

/// A frontend on `address` that fails a request that got no answer.
fn failing_closed(address: SocketAddr) -> Config {
    Config {
        frontend: format!(
            "bind {address}\n    \
             http-request return status 500 if {{ var(txn.t.error) -m found }}\n    \
             http-request return status 503 unless {{ var(txn.t.remediation) -m str allow }}\n    {}",
            respond(&[])
        ),
        agent: "messages direct",
        processing_ms: 2000,
        messages: "spoe-message direct
    args src=src
    event on-frontend-http-request",
        ..Config::default()
    }
}

/// The process that serves now, ended when dropped: after a hand-over it is nobody's child here.
struct Current(Pid);

impl Current {
    fn signal(&self, signal: Signal) {
        kill(self.0, signal).expect("it runs");
    }

    fn is_gone(&self) -> bool {
        // A process that nobody waits for stays as a zombie where no init collects it.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if !self.is_gone() {
            let _ = kill(self.0, Signal::SIGKILL);
        }
    }
}

fn changes_under_load(version: Version, listen: &str, agent: &str, driver: &str, folder: &Folder) {
    let list = folder.write("bans.txt", "192.0.2.0/24\n");
    let admin = folder.file("admin.sock");
    let admin_listen = format!("unix:{}", admin.display());
    let flags = [
        "--ban-list",
        list.to_str().expect("a path of ours"),
        "--driver",
        driver,
        "--admin-listen",
        &admin_listen,
    ];
    let mut binary = Binary::start(folder, listen, &flags);
    let mut current = Current(binary.pid());
    let address = own_loopback_address();
    let haproxy = Haproxy::start(version, agent, &failing_closed(address));
    let mut wrk = Command::new("wrk")
        .args(["-t1", "-c16", "-d60s", &format!("http://{address}/")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("wrk makes the load: apt-get install wrk");
    std::thread::sleep(BETWEEN);

    for time in 1..=TIMES {
        current.signal(Signal::SIGHUP);
        let reloads = |output: &str| output.matches("reloaded; ").count();
        wait_for(CHANGE, || (reloads(&binary.output()) == time).then_some(()))
            .unwrap_or_else(|| panic!("no reload {time}:\n{}", binary.output()));
        std::thread::sleep(BETWEEN);
        current.signal(Signal::SIGUSR2);
        let next = wait_for(CHANGE, || {
            let output = binary.output();
            let pid = output.split("handed over to process ").nth(time)?;
            pid.lines().next()?.parse().ok().map(Pid::from_raw)
        })
        .unwrap_or_else(|| panic!("no hand-over {time}:\n{}", binary.output()));
        if time == 1 {
            binary.await_exit();
        }
        wait_for(CHANGE, || current.is_gone().then_some(()))
            .unwrap_or_else(|| panic!("hand-over {time} did not end:\n{}", binary.output()));
        current = Current(next);
        std::thread::sleep(BETWEEN);
    }
    // wrk tells what it has at SIGINT.
    let pid = i32::try_from(wrk.id()).expect("a process id is positive");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("wrk runs");
    let report = wrk.wait_with_output_text();
    println!("{version:?} over {listen}:\n{report}");
    assert!(!report.contains("Non-2xx"), "requests failed:\n{report}");
    assert!(!report.contains("Socket errors"), "{report}");
    assert_eq!(haproxy.complaints(), [""; 0]);
    assert!(answers_ready(&admin), "the admin listener went over too");

    current.signal(Signal::SIGTERM);
    wait_for(CHANGE, || current.is_gone().then_some(()))
        .unwrap_or_else(|| panic!("the last process did not end:\n{}", binary.output()));
    let output = binary.output();
    assert_eq!(output.matches("ended; ").count(), TIMES + 1, "{output}");
    for fault in [
        "protocol errors",
        "timeouts",
        "late answers",
        "NOTIFYs whose",
    ] {
        assert!(!output.contains(fault), "{fault}:\n{output}");
    }
    assert!(!admin.exists(), "the last one removes the socket files");
    let moved: usize = output
        .lines()
        .filter_map(|line| {
            line.split(" connections handed over")
                .next()?
                .rsplit(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum();
    assert!(
        moved >= TIMES,
        "{moved} connections were handed over:\n{output}"
    );
    println!("{moved} connections went over in {TIMES} hand-overs");
}

trait Report {
    fn wait_with_output_text(&mut self) -> String;
}

impl Report for std::process::Child {
    fn wait_with_output_text(&mut self) -> String {
        use std::io::Read;
        let mut report = String::new();
        let output = self.stdout.as_mut().expect("it is piped");
        output.read_to_string(&mut report).expect("wrk writes text");
        self.wait().expect("wrk ends");
        report
    }
}

fn answers_ready(admin: &PathBuf) -> bool {
    use std::io::{Read, Write};
    let Ok(mut socket) = UnixStream::connect(admin) else {
        return false;
    };
    let mut answer = String::new();
    socket.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").is_ok()
        && socket.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200 ")
}

pub(crate) fn hand_overs_and_reloads_over_a_unix_socket(version: Version) {
    let folder = Folder::new();
    let socket = folder.file("spop.sock").display().to_string();
    let (listen, agent) = (format!("unix:{socket}"), format!("unix@{socket}"));
    changes_under_load(version, &listen, &agent, "auto", &folder);
}

pub(crate) fn hand_overs_and_reloads_over_tcp(version: Version) {
    let address = own_loopback_address().to_string();
    // The other driver gives its connections up in another way.
    changes_under_load(version, &address, &address, "epoll", &Folder::new());
}

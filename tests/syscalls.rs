//! How many system calls a frame costs, counted by strace: 16 connections, 32 NOTIFYs in flight on
//! each.

mod handshake;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use handshake::shake_hands;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringspoa::spop::{Argument, Frame, FrameId, NotifyWriter, StreamId, TypedData};

const CONNECTIONS: usize = 16;
const IN_FLIGHT: usize = 32;
const ROUNDS: usize = 400;

/// Connects and says HELLO.
fn connect(path: &str) -> UnixStream {
    let mut socket = UnixStream::connect(path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    shake_hands(&mut socket);
    socket
}

/// One burst of NOTIFYs.
fn burst() -> Vec<u8> {
    let mut bytes = vec![0; 64 * IN_FLIGHT];
    let mut len = 0;
    for index in 0..IN_FLIGHT {
        let id = StreamId(2 * index as u64 + 1);
        let mut notify = NotifyWriter::begin(&mut bytes[len..], 16_380, id, FrameId(1)).unwrap();
        let ip = TypedData::Ipv4([192, 0, 2, 1].into());
        notify
            .message("check-client-ip", [Argument::new("ip", ip)])
            .unwrap();
        len += notify.finish();
    }
    bytes.truncate(len);
    bytes
}

fn read_acks(socket: &mut UnixStream, buffer: &mut [u8]) {
    let (mut acks, mut len, mut start) = (0, 0, 0);
    while acks < IN_FLIGHT {
        len += socket
            .read(&mut buffer[len..])
            .expect("an ACK for each NOTIFY");
        while let Some((_, used)) = Frame::split(&buffer[start..len], 16_380).unwrap() {
            start += used;
            acks += 1;
        }
    }
}

/// Starts a server under strace, lets `drive` have its socket, ends it, and returns how many system
/// calls there were, with the report.
fn count_calls(name: &str, flags: &[&str], drive: impl FnOnce(&str)) -> (usize, String) {
    let name = format!("ringspoa-syscalls-{name}-{}", std::process::id());
    let base = std::env::temp_dir().join(name);
    let (socket, counts) = (base.with_extension("sock"), base.with_extension("strace"));
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&counts)
        .arg(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["serve", "--cores", "0", "--driver", "io_uring"])
        .args(flags)
        .arg("--listen")
        .arg(format!("unix:{}", socket.display()))
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace counts: apt-get install strace");
    let mut line = String::new();
    let mut log = BufReader::new(strace.stderr.take().unwrap());
    log.read_line(&mut line).unwrap();
    assert!(line.contains("listening"), "{line}");
    drive(socket.to_str().unwrap());
    // The server is strace's only child; strace ends with it.
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let server = fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill(Pid::from_raw(server), Signal::SIGTERM).unwrap();
    assert!(strace.wait().unwrap().success());

    let report = fs::read_to_string(&counts).unwrap();
    fs::remove_file(&counts).unwrap();
    // The last line is the total, of everything from exec to exit.
    let total = report.lines().rev().find_map(|line| {
        let (name, calls) = line.trim().split_once(char::is_whitespace)?;
        (name == "total").then(|| calls.trim().parse::<usize>().unwrap())
    });
    (total.expect("a total"), report)
}

#[test]
fn fewer_than_a_tenth_of_a_system_call_a_frame() {
    let (total, report) = count_calls("frames", &[], |socket| {
        let mut sockets: Vec<_> = (0..CONNECTIONS).map(|_| connect(socket)).collect();
        let (burst, mut buffer) = (burst(), vec![0; 64 * 1024]);
        for _ in 0..ROUNDS {
            for socket in &mut sockets {
                socket.write_all(&burst).unwrap();
            }
            for socket in &mut sockets {
                read_acks(socket, &mut buffer);
            }
        }
    });
    let frames = CONNECTIONS * IN_FLIGHT * ROUNDS;
    println!("{total} system calls, {frames} frames\n{report}");
    assert!(
        total > ROUNDS / 4,
        "strace did not see the worker: {report}"
    );
    assert!(
        total * 10 < frames,
        "{total} system calls for {frames} frames:\n{report}"
    );
}

/// Each look at the ring is a system call, so their number tells whether the core went to sleep.
#[test]
fn a_core_that_polls_sleeps_once_nothing_comes() {
    const QUIET: Duration = Duration::from_millis(500);
    let ask_and_wait = |socket: &str| {
        let mut socket = connect(socket);
        socket.write_all(&burst()).unwrap();
        read_acks(&mut socket, &mut vec![0; 64 * 1024]);
        std::thread::sleep(QUIET);
    };
    let (short, report) = count_calls("short", &["--busy-poll-us", "5000"], ask_and_wait);
    let (long, _) = count_calls("long", &["--busy-poll-us", "1000000"], ask_and_wait);
    println!("{short} system calls with 5 ms, {long} with 1 s");
    assert!(
        long > 3 * short,
        "{short} system calls with 5 ms, {long} with 1 s:\n{report}"
    );
}

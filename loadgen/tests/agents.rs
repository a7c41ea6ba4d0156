//! The generator against agents in this process that answer well, badly, late or not at all.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use ringspoa_loadgen::{ErrorKind, Plan, Profile, Progress, RunError, SavedRun, Target, run};

use crate::support::{Behaviour, agent, start};

fn plan(target: Target) -> Plan {
    Plan {
        in_flight: 4,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(300),
        drain: Duration::from_millis(200),
        ..Plan::new(target, Profile::ip(None, None))
    }
}

fn run_quietly(plan: &Plan) -> SavedRun {
    run(plan, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

fn count(run: &SavedRun, kind: ErrorKind) -> u64 {
    run.results.errors_by_kind[kind.key()]
}

#[test]
fn a_good_agent_has_no_errors() {
    let (target, agent) = start(Behaviour::Well);
    let plan = Plan {
        connections: 3,
        threads: 2,
        profile: Profile::http(None, None),
        expectations: vec!["txn.remediation=ban|allow".parse().unwrap()],
        warmup: Duration::from_millis(50),
        ..plan(target)
    };
    let run = run_quietly(&plan);
    let results = &run.results;
    assert_eq!(
        (results.errors, results.unsent),
        (0, 0),
        "{:?}",
        results.error_examples
    );
    assert!(results.frames > 100, "{}", results.frames);
    assert_eq!(
        run.rounds[0].frames_by_second.iter().sum::<u64>(),
        results.frames
    );
    // Beside the frames: those of the warm-up, and those in flight at the end.
    let answered = agent.notifies.load(Ordering::Relaxed) as u64;
    assert!(run.corrected.len() >= results.frames && run.corrected.len() <= answered);
    assert!(run.corrected.len() <= results.frames + 12);
    assert!(results.bytes_out > results.frames * 650 && results.bytes_in > results.frames * 20);
    assert!(results.p50_us > 1.0 && results.p50_us <= results.max_us);
    assert!((results.duration_s - 0.3).abs() < 1e-6);
    assert_eq!(results.connections_opened, 3);
}

#[test]
fn a_unix_socket_works_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let agent = agent(Behaviour::Well);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            std::thread::spawn(move || agent.serve(socket));
        }
    });
    let target = format!("unix:{}", path.display()).parse().unwrap();
    // Frames of more than a socket holds, so that writes stop half-way.
    let plan = Plan {
        connections: 2,
        in_flight: 2_000,
        profile: Profile::http(None, None),
        ..plan(target)
    };
    let run = run_quietly(&plan);
    assert_eq!(run.results.errors, 0, "{:?}", run.results.error_examples);
    assert!(run.results.frames > 2_000, "{}", run.results.frames);
}

#[test]
fn each_violation_is_counted_once_under_its_kind() {
    let (target, _) = start(Behaviour::Twice);
    let run = run_quietly(&plan(target));
    assert_eq!(count(&run, ErrorKind::Duplicate), 1);
    assert_eq!(run.results.errors, 1);

    let (target, _) = start(Behaviour::WrongId);
    let run = run_quietly(&plan(target));
    assert_eq!(count(&run, ErrorKind::UnknownId), 1);
    // The one whose ACK went elsewhere.
    assert_eq!(count(&run, ErrorKind::Unanswered), 1);
    assert_eq!(run.results.errors, 2);

    let (target, _) = start(Behaviour::BrokenAction);
    let run = run_quietly(&plan(target));
    assert_eq!(
        count(&run, ErrorKind::BadActions),
        1,
        "{:?}",
        run.results.error_examples
    );
    assert_eq!(run.results.errors, 1);

    let (target, _) = start(Behaviour::Forgets);
    let run = run_quietly(&plan(target));
    assert_eq!(count(&run, ErrorKind::Unanswered), 1);
    assert_eq!(run.results.errors, 1);
}

#[test]
fn an_unexpected_value_is_a_violation() {
    let (target, agent) = start(Behaviour::Well);
    let plan = Plan {
        expectations: vec!["remediation=ban".parse().unwrap()],
        ..plan(target)
    };
    let run = run_quietly(&plan);
    let answered = agent.notifies.load(Ordering::Relaxed) as u64;
    assert!(count(&run, ErrorKind::UnexpectedValue).abs_diff(answered / 2) <= 1);
    let example = &run.results.error_examples["unexpected_value"];
    assert_eq!(
        example,
        "expected remediation=ban, got txn.remediation=\"allow\""
    );
}

#[test]
fn a_connection_that_goes_is_opened_again() {
    for (behaviour, kind, text) in [
        (
            Behaviour::Closes,
            ErrorKind::Closed,
            "closed the connection",
        ),
        (
            Behaviour::Disconnects,
            ErrorKind::Disconnect,
            "status 13 (resource allocation error): \"too hot\"",
        ),
    ] {
        let (target, agent) = start(behaviour);
        let run = run_quietly(&plan(target));
        assert_eq!(count(&run, kind), 1, "{:?}", run.results.error_examples);
        let lost = count(&run, ErrorKind::Lost);
        assert!((1..=4).contains(&lost), "{lost}");
        assert_eq!(run.results.errors, 1 + lost);
        let example = &run.results.error_examples[kind.key()];
        assert!(
            example.contains(text) || example.contains("reset"),
            "{example}"
        );
        assert_eq!(agent.connections.load(Ordering::Relaxed), 2);
        assert!(run.results.frames > 60, "{}", run.results.frames);
    }
}

#[test]
fn without_pipelining_one_is_in_flight() {
    let (target, _) = start(Behaviour::Sequential);
    let mut warnings = Vec::new();
    let mut note = |progress: &Progress| {
        if let Progress::Warning(text) = progress {
            warnings.push(text.clone());
        }
    };
    let run = run(&plan(target), &AtomicBool::new(false), &mut note).unwrap();
    assert_eq!(
        (run.settings.in_flight, run.settings.in_flight_asked),
        (1, 4)
    );
    assert!(
        warnings[0].contains("does not announce pipelining"),
        "{warnings:?}"
    );
    assert_eq!(run.results.errors, 0);
}

/// Latencies of more than 50 ms: what a stall of 200 ms makes, and a slow machine hardly does.
fn stalled(histogram: &Histogram<u64>) -> u64 {
    histogram.len() - histogram.count_between(0, 50_000_000)
}

#[test]
fn an_open_loop_sees_the_stall_that_the_uncorrected_figures_miss() {
    let (target, _) = start(Behaviour::Stalls(1_500));
    let plan = Plan {
        in_flight: 1,
        rate: Some(1_000),
        duration: Duration::from_secs(3),
        ..plan(target)
    };
    let run = run_quietly(&plan);
    let results = &run.results;
    assert_eq!(results.errors, 0, "{:?}", results.error_examples);
    // At the end of the run a NOTIFY or two may wait for the last ACK.
    let got = run.corrected.len() + results.unsent;
    assert_eq!(got, 3_000);
    assert!(results.unsent < 30, "{}", results.unsent);
    // 200 NOTIFYs fell due in the stall. The 150 of its first 150 ms waited for more than 50 ms,
    // and the first of them for all of it: they are 5 % of all, so p99 and p99.9 are among them.
    let seen = stalled(&run.corrected);
    assert!((100..=400).contains(&seen), "{seen}");
    assert!(results.p99_us > 100_000.0, "{}", results.p99_us);
    assert!(results.p999_us > 150_000.0, "{}", results.p999_us);
    // From its actual send time only the one in flight took long, of 3000, which is beyond p99.9:
    // the others were sent when the stall was over. A machine with hiccups of its own may add some.
    let seen = stalled(&run.uncorrected);
    assert!((1..=10).contains(&seen), "{seen}");
    let us = results.uncorrected_p99_us;
    assert!(us < 50_000.0, "{us}");
    // It takes three hiccups of half the stall to fail this.
    let us = results.uncorrected_p999_us;
    assert!(us < 100_000.0, "{us}");
    let us = results.uncorrected_max_us;
    assert!(us > 150_000.0, "{us}");
    // The generator did not wait for itself.
    assert!(results.late_p50_us < 1_000.0, "{}", results.late_p50_us);
}

#[test]
fn a_closed_loop_misses_the_stall_in_both_figures() {
    let (target, _) = start(Behaviour::Stalls(200));
    let plan = Plan {
        in_flight: 1,
        duration: Duration::from_secs(3),
        ..plan(target)
    };
    let run = run_quietly(&plan);
    let results = &run.results;
    assert_eq!(results.errors, 0, "{:?}", results.error_examples);
    // It waited with the agent: the stall is one latency of thousands.
    assert_eq!(run.corrected, run.uncorrected);
    let seen = stalled(&run.corrected);
    assert!((1..=10).contains(&seen), "{seen} of {}", results.frames);
    assert!(results.max_us > 150_000.0, "{}", results.max_us);
    assert!(results.p99_us < 50_000.0, "{}", results.p99_us);
    assert!(results.p999_us < 100_000.0, "{}", results.p999_us);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let (target, _) = start(Behaviour::Well);
    let plan = Plan {
        connections: 5,
        threads: 2,
        rate: Some(4_000),
        duration: Duration::from_millis(500),
        ..plan(target)
    };
    let run = run_quietly(&plan);
    assert_eq!(run.results.errors, 0);
    assert_eq!(run.corrected.len(), 2_000);
    assert!((run.results.frames_per_second - 4_000.0).abs() < 100.0);
}

#[test]
fn a_rate_above_what_the_agent_takes_is_reported() {
    let (target, _) = start(Behaviour::Well);
    let plan = Plan {
        in_flight: 1,
        rate: Some(10_000_000),
        duration: Duration::from_millis(200),
        ..plan(target)
    };
    let run = run_quietly(&plan);
    assert!(run.results.unsent > 1_000_000);
    assert!(
        run.results
            .warnings
            .iter()
            .any(|text| text.contains("never sent"))
    );
    assert_eq!(run.results.errors, 0);
}

#[test]
fn no_connection_at_all_is_an_error_with_a_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    drop(listener);
    let error = run(&plan(target.clone()), &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&target.to_string()) && text.contains("--target"),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");

    // Accepts, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = Plan {
        connect_timeout: Duration::from_millis(200),
        ..plan(Target::Tcp(listener.local_addr().unwrap()))
    };
    let error = run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(
        error.to_string().contains("no AGENT-HELLO within 200ms"),
        "{error}"
    );

    // Speaks something else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut socket: TcpStream = listener.accept().unwrap().0;
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        let _ = socket.read(&mut [0; 1024]);
    });
    let plan = Plan { target, ..plan };
    let error = run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("is this a SPOA?"), "{error}");
}

#[test]
fn a_plan_is_checked_before_anything_is_opened() {
    let (target, agent) = start(Behaviour::Well);
    let plan = Plan {
        threads: 2,
        ..plan(target)
    };
    let error = run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(matches!(error, RunError::Plan(_)));
    assert_eq!(agent.connections.load(Ordering::Relaxed), 0);
}

#[test]
fn stopping_early_gives_the_results_so_far() {
    let (target, _) = start(Behaviour::Well);
    let plan = Plan {
        duration: Duration::from_secs(60),
        ..plan(target)
    };
    let stop = AtomicBool::new(false);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
        run(&plan, &stop, &mut |_| {}).unwrap()
    });
    assert_eq!(run.results.errors, 0);
    assert!(run.results.frames > 100);
    assert!(
        (0.2..2.0).contains(&run.results.duration_s),
        "{}",
        run.results.duration_s
    );
}

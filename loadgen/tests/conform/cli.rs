//! The command: its report for people and for machines, its flags and exit codes.

use std::net::TcpListener;
use std::process::{Command, Output};

use ringspoa_loadgen::Rule;
use serde_json::Value;

use crate::agent::start;
use crate::faults::Fault;

fn conform(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringspoa-loadgen"))
        .arg("conform")
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_report_for_people_says_what_why_and_how() {
    let target = start(Fault::AckWithoutFin).target.to_string();
    let output = conform(&[&target, "--only", "H1,known-message,N27"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "pass     H1    hello\n",
        "FAIL     N16   known-message\n",
        "rule: a NOTIFY of the profile gets exactly one ACK",
        "the ACK has flags 0x00000000, without FIN",
        "[1] -> NOTIFY 1/1: a message of the profile  0000",
        "[1] <- ACK 1/1, set-var txn.remediation=",
        "why: A request waits until timeout processing without its ACK;",
        "n/a      N27   late-ack\n",
        "1 passed, 1 failed, 1 not applicable",
        "capabilities \"pipelining,fragmentation\"",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let target = start(Fault::None).target.to_string();
    let output = conform(&[&target, "--only", "H1", "--verbose"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.contains("<- AGENT-HELLO, version \"2.0\""), "{text}");
    // What went well is one line, unless more is asked for.
    let output = conform(&[&target, "--only", "H1"]);
    assert_eq!(stdout(&output).lines().next(), Some("pass     H1    hello"));
    assert_eq!(stdout(&output).lines().nth(1), Some(""));
}

#[test]
fn the_report_for_machines_has_all_of_it() {
    let target = start(Fault::Duplicates).target.to_string();
    let output = conform(&[&target, "--only", "H1,N16,A48", "--json", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["target"], target.as_str());
    assert_eq!(report["profile"], "ip");
    assert_eq!(report["message"], "check-client-ip");
    assert_eq!(report["max_frame_size"], 16_380);
    assert_eq!(report["timeout_s"], 1.0);
    assert_eq!(report["agent"]["max_frame_size"], 16_380);
    assert_eq!(report["agent"]["capabilities"], "pipelining,fragmentation");
    assert_eq!(report["hostile"], Value::Null);
    let counts = ["passed", "failed", "not_applicable", "not_run"].map(|key| &report[key]);
    assert_eq!(counts, [1, 1, 1, 0]);
    let rules = report["rules"].as_array().unwrap();
    let verdicts: Vec<_> = rules.iter().map(|rule| &rule["verdict"]).collect();
    assert_eq!(verdicts, ["pass", "fail", "not_applicable"]);
    let failed = &rules[1];
    assert_eq!(failed["id"], "N16");
    assert_eq!(failed["name"], "known-message");
    assert_eq!(failed["group"], "notify");
    assert!(failed["reason"].as_str().unwrap().contains("ACK 1/1"));
    assert!(failed["why"].as_str().unwrap().contains("3.1.0"));
    let exchange = failed["exchange"].as_array().unwrap();
    assert_eq!(exchange[0]["from"], "haproxy");
    assert_eq!(exchange[1]["from"], "agent");
    let hello = exchange[0]["hex"].as_str().unwrap();
    assert!(hello.starts_with("0000007b0100000001"), "{hello}");
    // Cut, with the whole length beside it.
    assert_eq!((hello.len(), &exchange[0]["len"]), (96, &Value::from(127)));
    for one in exchange {
        assert!(one["connection"].as_u64().unwrap() >= 1 && one["what"].is_string());
    }
    assert!(failed["duration_ms"].is_u64() && failed["notes"].is_array());
    assert_eq!(rules[0]["reason"], Value::Null);
}

#[test]
fn hostile_frames_are_bounded_and_repeatable() {
    let target = start(Fault::None).target.to_string();
    let arguments = [
        &target,
        "--hostile",
        "--only",
        "X1",
        "--seed",
        "42",
        "--hostile-frames",
        "70",
        "--json",
    ];
    let output = conform(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["hostile"]["seed"], 42);
    assert_eq!(report["rules"][0]["notes"][0], "seed 42, 70 frames sent");
}

#[test]
fn rules_are_listed_without_an_agent() {
    let output = conform(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert_eq!(text.lines().count(), Rule::all().count());
    assert!(text.contains("N19   empty-notify "), "{text}");
    assert!(text.lines().all(|line| line.len() < 160));
}

#[test]
fn rules_can_be_skipped() {
    let target = start(Fault::IgnoresEmpty).target.to_string();
    let output = conform(&[
        &target,
        "--only",
        "N17,N19",
        "--skip",
        "empty-notify",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["rules"].as_array().unwrap().len(), 1);
}

#[test]
fn nobody_listening_is_no_verdict() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    drop(listener);
    for target in [target.as_str(), "unix:/nonexistent/agent.sock"] {
        let output = conform(&[target]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        assert!(
            text.contains(target) && text.contains("start the agent"),
            "{text}"
        );
    }
}

#[test]
fn wrong_flags_are_named_with_a_way_out() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "ADDR|unix:PATH", ""),
        (&["9000"], "ADDR", "HOST:PORT"),
        (&["/run/agent.sock"], "ADDR", "unix:/run/agent.sock"),
        (&["127.0.0.1:1", "--only", "N99"], "--only", "--list"),
        (&["127.0.0.1:1", "--skip", "x"], "--skip", "--list"),
        (
            &["127.0.0.1:1", "--only", "N16", "--skip", "N16"],
            "--skip",
            "--list",
        ),
        (
            &["127.0.0.1:1", "--timeout", "0"],
            "--timeout",
            "more than 0 s",
        ),
        (
            &["127.0.0.1:1", "--timeout", "-1"],
            "--timeout",
            "such as 10",
        ),
        (
            &["127.0.0.1:1", "--run-timeout", "4000"],
            "--run-timeout",
            "at most an hour",
        ),
        (
            &["127.0.0.1:1", "--hello-timeout", "0"],
            "--hello-timeout",
            "more than 0 s",
        ),
        (
            &["127.0.0.1:1", "--max-frame-size", "100"],
            "--max-frame-size",
            "1024",
        ),
        (
            &["127.0.0.1:1", "--profile", "htpp"],
            "--profile",
            "'ip' and 'http'",
        ),
        (
            &["127.0.0.1:1", "--idle-connections", "0"],
            "--idle-connections",
            "1 to",
        ),
        (&["127.0.0.1:1", "--seed", "3"], "--hostile", ""),
        (
            &["127.0.0.1:1", "--hostile", "--hostile-frames", "0"],
            "--hostile-frames",
            "at least 1",
        ),
        (
            &["127.0.0.1:1", "--hostile", "--hostile-frame", "0"],
            "--hostile-frame",
            "from 1",
        ),
        (
            &["127.0.0.1:1", "--hostile", "--hostile-seconds", "0"],
            "--hostile-seconds",
            "more than 0 s",
        ),
        (
            &["127.0.0.1:1", "--json", "--verbose"],
            "--json",
            "--verbose",
        ),
    ];
    for (arguments, flag, way_out) in cases {
        let output = conform(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(
            text.contains(flag) && text.contains(way_out),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn help_names_the_exit_codes() {
    let text = stdout(&conform(&["--help"]));
    for code in [
        "0 no rule failed",
        "1 the check",
        "2 wrong",
        "3 at least one rule",
    ] {
        let words: Vec<_> = text.split_whitespace().collect();
        assert!(words.join(" ").contains(code), "{code}: {text}");
    }
}

//! `run --rounds`, `ab` and `compare` as a user calls them, against agents in this process.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use ringspoa_loadgen::{SavedRun, Target};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Behaviour, start};

const LOAD: &[&str] = &[
    "--connections",
    "2",
    "--in-flight",
    "2",
    "--duration",
    "0.1",
    "--warmup",
    "0.02",
    "--quiet",
];

fn loadgen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringspoa-loadgen"))
        .args(args)
        .output()
        .unwrap()
}

/// The exit code, stdout and stderr of `ab` with a load.
fn ab(a: &Target, b: &Target, more: &[&str]) -> (i32, String, String) {
    let (a, b) = (a.to_string(), b.to_string());
    let args = [&["ab", &a, &b][..], LOAD, more].concat();
    texts(&loadgen(&args))
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn figure<'a>(comparison: &'a Value, key: &str) -> &'a Value {
    let figures = comparison["comparisons"][0]["figures"].as_array().unwrap();
    figures.iter().find(|row| row["key"] == key).unwrap()
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

#[test]
fn two_equal_agents_are_compared_in_pairs() {
    let (a, _) = start(Behaviour::Well);
    let (b, _) = start(Behaviour::Well);
    let dir = tempfile::tempdir().unwrap();
    let (file_a, file_b) = (path(dir.path(), "a.json"), path(dir.path(), "b.json"));
    let files = ["--output-a", &file_a, "--output-b", &file_b];
    let more = [&["--rounds", "3", "--name-a", "one"][..], &files].concat();
    let (code, stdout, stderr) = ab(&a, &b, &more);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    for part in [
        "| B / one |",
        "3 pairs of rounds",
        "- one: ",
        "| throughput",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }

    // The files say the same as what was printed.
    let (code, compared, _) = texts(&loadgen(&["compare", &file_a, &file_b]));
    assert_eq!(code, 0);
    let table = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with('|'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(table(&compared), table(&stdout));

    // Every other round goes the other way round.
    let [saved_a, saved_b] = [&file_a, &file_b].map(|file| SavedRun::load(file.as_ref()).unwrap());
    assert_eq!((saved_a.rounds.len(), saved_b.rounds.len()), (3, 3));
    for (one, other) in saved_a.rounds.iter().zip(&saved_b.rounds) {
        assert!(one.pair.is_some());
        assert_eq!(one.pair, other.pair);
    }
    assert_ne!(saved_a.rounds[0].pair, saved_a.rounds[1].pair);

    // A run beside itself is the same, to the last digit. As one file it is a mistake.
    let copy = path(dir.path(), "copy.json");
    std::fs::copy(&file_a, &copy).unwrap();
    let (code, json, _) = texts(&loadgen(&["compare", &file_a, &copy, "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 0);
    assert_eq!(figure(&json, "p99_us")["verdict"], "within_noise");
    assert_eq!(figure(&json, "p99_us")["ratio"], 1.0);
    let (code, _, stderr) = texts(&loadgen(&["compare", &file_a, &file_a]));
    assert_eq!(code, 2);
    assert!(stderr.contains("is given twice"), "{stderr}");
}

#[test]
fn rounds_alternate_which_agent_comes_first() {
    let (a, _) = start(Behaviour::Well);
    let (b, _) = start(Behaviour::Well);
    let (a, b) = (a.to_string(), b.to_string());
    let load = LOAD.iter().filter(|flag| **flag != "--quiet").copied();
    let args: Vec<_> = ["ab", &a, &b, "--rounds", "3"]
        .into_iter()
        .chain(load)
        .collect();
    let (_, _, stderr) = texts(&loadgen(&args));
    let order: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("round "))
        .map(|line| (&line[..1], &line[8..9]))
        .collect();
    let wanted = [
        ("1", "A"),
        ("1", "B"),
        ("2", "B"),
        ("2", "A"),
        ("3", "A"),
        ("3", "B"),
    ];
    assert_eq!(order, wanted, "{stderr}");
}

#[test]
fn a_slow_agent_is_named() {
    let (quick, _) = start(Behaviour::Well);
    let (slow, _) = start(Behaviour::Slow);
    let names = ["--name-a", "quick", "--name-b", "slow", "--rounds", "4"];
    let more = [&names[..], &["--fail-if-slower", "50"]].concat();
    let (code, stdout, stderr) = ab(&quick, &slow, &more);
    assert_eq!(code, 4, "{stdout}{stderr}");
    let row = stdout
        .lines()
        .find(|line| line.starts_with("| p50"))
        .unwrap();
    assert!(row.contains("| slow worse, +"), "{stdout}");
    assert!(
        stderr.contains("slower: p50, us: slow is worse than quick by more than 50 %"),
        "{stderr}"
    );

    // The quick one is not slower than the slow one.
    let (code, stdout, _) = ab(
        &slow,
        &quick,
        &["--rounds", "4", "--fail-if-slower", "50", "--json"],
    );
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0);
    assert_eq!(figure(&json, "p50_us")["verdict"], "b_better");
    assert_eq!(json["comparisons"][0]["method"], "paired");
}

#[test]
fn errors_that_were_counted_are_the_exit_code() {
    let (well, _) = start(Behaviour::Well);
    let (twice, _) = start(Behaviour::Twice);
    let (code, stdout, _) = ab(&well, &twice, &["--rounds", "2", "--fail-if-slower", "0"]);
    assert_eq!(code, 3, "{stdout}");
    assert!(
        stdout.contains("warning: B: errors were counted, 1 in all"),
        "{stdout}"
    );
}

#[test]
fn an_agent_that_is_not_there_is_named_by_its_argument() {
    let (well, _) = start(Behaviour::Well);
    let nobody = Target::Unix("/nonexistent/agent.sock".into());
    let (code, stdout, stderr) = ab(&well, &nobody, &[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("as TARGET_B"), "{stderr}");
    // It is found out before the other has its round.
    assert_eq!(stdout, "");
    let (code, stdout, stderr) = ab(&nobody, &well, &[]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("as TARGET_A"), "{stderr}");
}

#[test]
fn flags_that_contradict_each_other() {
    let target: Target = "127.0.0.1:1".parse().unwrap();
    for (more, said) in [
        (&["--rounds", "0"][..], "1 to 1000"),
        (
            &["--output-a", "/tmp/x", "--output-b", "/tmp/x"],
            "give two",
        ),
        (&["--name-a", "x", "--name-b", "x"], "give two names"),
        (&["--fail-if-slower", "5", "--rounds", "1"], "--rounds 2"),
        (&["--fail-if-slower", "-5"], "such as 5"),
        (&["--name-a", " "], "--name-a"),
        (
            &["--output-a", "/nonexistent/x"],
            "--output-a /nonexistent/x",
        ),
        (&["--connections", "0"], "--connections"),
    ] {
        let load = if more.contains(&"--connections") {
            &LOAD[2..]
        } else {
            LOAD
        };
        let (a, b) = (target.to_string(), target.to_string());
        let output = loadgen(&[&["ab", &a, &b][..], load, more].concat());
        let (code, _, stderr) = texts(&output);
        assert_eq!(code, 2, "{more:?}: {stderr}");
        assert!(stderr.contains(said), "{more:?}: {stderr}");
    }
}

/// Starts a command with progress lines and waits for the first that has a text.
fn start_until(args: &[&str], text: &str) -> (Child, impl Read) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringspoa-loadgen"))
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(
            stderr.read_line(&mut line).unwrap() > 0,
            "it ended before {text:?}"
        );
    }
    (child, stderr)
}

fn interrupt(child: &Child) {
    let id = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(id, Signal::INT).unwrap();
}

#[test]
fn interrupted_in_the_middle_ab_compares_the_whole_rounds() {
    let (a, _) = start(Behaviour::Well);
    let (b, _) = start(Behaviour::Well);
    let (a, b) = (a.to_string(), b.to_string());
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "a.json");
    let args = [
        "ab",
        &a,
        &b,
        "--connections",
        "1",
        "--in-flight",
        "1",
        "--duration",
        "0.5",
        "--warmup",
        "0.1",
        "--rounds",
        "100",
        "--output-a",
        &file,
    ];
    let (child, mut stderr) = start_until(&args, "round 3 of 100");
    interrupt(&child);
    let (code, stdout, _) = texts(&child.wait_with_output().unwrap());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(code, 0, "{stdout}{rest}");
    assert!(stdout.contains("2 pairs of rounds"), "{stdout}");
    assert!(
        rest.contains("round 3 was cut short and is left out"),
        "{rest}"
    );
    assert_eq!(SavedRun::load(file.as_ref()).unwrap().rounds.len(), 2);
}

#[test]
fn interrupted_in_the_first_round_ab_prints_what_there_is() {
    let (a, _) = start(Behaviour::Well);
    let (b, _) = start(Behaviour::Well);
    let (a, b) = (a.to_string(), b.to_string());
    let load = ["--connections", "1", "--in-flight", "1", "--warmup", "0"];
    let args = [&["ab", &a, &b, "--duration", "60"][..], &load].concat();
    // In the first run of A: its second has passed, so that there is something.
    let (child, _stderr) = start_until(&args, "  1s  ");
    interrupt(&child);
    let (code, stdout, _) = texts(&child.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(
        stdout.contains("throughput") && !stdout.contains("verdict"),
        "{stdout}"
    );
}

/// timeout(1) sends its signal to the process and to its group.
#[test]
fn two_signals_at_once_end_a_run_like_one() {
    let (target, _) = start(Behaviour::Well);
    let target = target.to_string();
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "run.json");
    let load = ["--connections", "1", "--in-flight", "1", "--warmup", "0"];
    let more = ["--duration", "60", "--output", &file];
    let args = [&["run", "--target", &target][..], &load, &more].concat();
    let (child, _stderr) = start_until(&args, "  1s  ");
    interrupt(&child);
    interrupt(&child);
    let (code, stdout, _) = texts(&child.wait_with_output().unwrap());
    assert_eq!(code, 0);
    assert!(stdout.contains("ended early: "), "{stdout}");
    let saved = SavedRun::load(file.as_ref()).unwrap();
    assert!(saved.results.frames > 0 && saved.results.duration_s < 60.0);
}

#[test]
fn a_run_without_a_measured_frame_is_no_result() {
    let (target, _) = start(Behaviour::Well);
    let target = target.to_string();
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "run.json");
    let load = ["--connections", "1", "--in-flight", "1", "--duration", "60"];
    let more = ["--warmup", "60", "--output", &file];
    let args = [&["run", "--target", &target][..], &load, &more].concat();
    let (child, mut stderr) = start_until(&args, "warming up");
    interrupt(&child);
    let (code, stdout, _) = texts(&child.wait_with_output().unwrap());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(rest.contains("interrupted before anything"), "{rest}");
    assert!(!Path::new(&file).exists());
}

#[test]
fn several_rounds_of_one_agent() {
    let (target, agent) = start(Behaviour::Well);
    let target = target.to_string();
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "run.json");
    let rounds = [
        "run", "--target", &target, "--rounds", "3", "--output", &file,
    ];
    let (code, stdout, _) = texts(&loadgen(&[&rounds[..], LOAD].concat()));
    assert_eq!(code, 0);
    assert!(
        stdout.contains("in 3 rounds, each") && stdout.contains("scatter"),
        "{stdout}"
    );
    let connections = agent.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(connections, 6, "each round has its own");
    let saved = SavedRun::load(file.as_ref()).unwrap();
    let sum: u64 = saved.rounds.iter().map(|round| round.results.frames).sum();
    assert_eq!((saved.rounds.len(), saved.results.frames), (3, sum));
    assert_eq!(saved.results.errors, 0);

    let json = [&rounds[..5], LOAD, &["--json"]].concat();
    let json: Value = serde_json::from_str(&texts(&loadgen(&json)).1).unwrap();
    assert_eq!(json["rounds"].as_array().unwrap().len(), 3);
    assert!(json["frames_per_second"].is_f64() && json["p50_us"].is_f64());
}

#[test]
fn compare_refuses_what_is_not_alike_and_says_how_to_allow_it() {
    let (target, _) = start(Behaviour::Well);
    let target = target.to_string();
    let dir = tempfile::tempdir().unwrap();
    let files = [path(dir.path(), "1.json"), path(dir.path(), "2.json")];
    for (file, in_flight) in files.iter().zip(["2", "3"]) {
        let run = ["run", "--target", &target, "--output", file];
        let load = [
            "--connections",
            "1",
            "--duration",
            "0.05",
            "--warmup",
            "0",
            "--quiet",
        ];
        let output = loadgen(&[&run[..], &load, &["--in-flight", in_flight]].concat());
        assert!(output.status.success());
    }
    let [a, b] = &files;
    let (code, stdout, stderr) = texts(&loadgen(&["compare", a, b]));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("in-flight: 2 in A, 3 in B"), "{stderr}");
    assert!(stderr.contains("--allow-different in-flight"), "{stderr}");
    let (code, stdout, _) = texts(&loadgen(&[
        "compare",
        a,
        b,
        "--allow-different",
        "in-flight",
    ]));
    assert_eq!(code, 0);
    assert!(
        stdout.contains("note: different, and allowed to be: in-flight"),
        "{stdout}"
    );
    // One round each.
    assert!(
        stdout.contains("run --rounds 5") && !stdout.contains(" worse"),
        "{stdout}"
    );
    let (code, _, stderr) = texts(&loadgen(&[
        "compare",
        a,
        b,
        "--allow-different",
        "all",
        "--fail-if-slower",
        "5",
    ]));
    assert_eq!(code, 2);
    assert!(stderr.contains("--rounds 5"), "{stderr}");

    let (code, _, stderr) = texts(&loadgen(&["compare", a, "/nonexistent.json"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("/nonexistent.json: "), "{stderr}");
    let (code, _, stderr) = texts(&loadgen(&["compare", a, b, "--allow-different", "target"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("there are loop, connections"), "{stderr}");

    // A file of the first format has one round and knows less.
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/format-1.json");
    let (code, stdout, _) = texts(&loadgen(&["compare", a, old, "--allow-different", "all"]));
    assert_eq!(code, 0);
    assert!(
        stdout.contains("not compared, since the file of an older"),
        "{stdout}"
    );
}

//! `export`, `plot` and `sweep` as a user calls them, against agents in this process.

mod support;

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Behaviour, start};

/// The exit code, stdout and stderr.
fn loadgen(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa-loadgen"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

/// A file of two rounds at a rate.
fn saved(dir: &Path) -> String {
    let (target, _) = start(Behaviour::Well);
    let (target, file) = (target.to_string(), path(dir, "run.json"));
    let line = "--connections 2 --in-flight 4 --rate 2000 --duration 0.2 --warmup 0.05 --rounds 2";
    let mut args = vec!["run", "--quiet", "--target", &target, "--output", &file];
    args.extend(line.split(' '));
    let (code, _, stderr) = loadgen(&args);
    assert_eq!((code, stderr.as_str()), (0, ""));
    file
}

#[test]
fn a_run_is_exported_for_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved(dir.path());
    let (code, text, stderr) = loadgen(&["export", &file, "--format", "hgrm"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "       Value     Percentile TotalCount 1/(1-Percentile)"
    );
    assert!(lines[lines.len() - 3].starts_with("#[Mean    = "), "{text}");
    // Milliseconds are a thousandth, here in a file and as CSV.
    let csv = path(dir.path(), "run.csv");
    let (code, stdout, _) = loadgen(&[
        "export", &file, "--format", "csv", "--unit", "ms", "-o", &csv,
    ]);
    assert_eq!((code, stdout.as_str()), (0, ""));
    let csv = fs::read_to_string(csv).unwrap();
    let last = csv.lines().last().unwrap();
    assert!(last.ends_with(",Infinity"), "{last}");
    let ms: f64 = last.split(',').next().unwrap().parse().unwrap();
    let us: f64 = lines[lines.len() - 4]
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((ms * 1_000.0 - us).abs() <= 1.0, "{ms} ms, {us} us");

    let (code, _, stderr) = loadgen(&["export", &file, "--unit", "s"]);
    assert_eq!(code, 2, "{stderr}");
    let (code, _, stderr) = loadgen(&["export", &path(dir.path(), "run.csv")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("run.csv: not a saved run"), "{stderr}");
}

#[test]
fn runs_become_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved(dir.path());
    let copy = path(dir.path(), "copy.json");
    fs::copy(&file, &copy).unwrap();
    for name in ["plot.svg", "plot.html"] {
        let picture = path(dir.path(), name);
        let labels = "--labels=one,<two> & \"half\"";
        let (code, stdout, stderr) = loadgen(&["plot", &file, &copy, "-o", &picture, labels]);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""));
        let text = fs::read_to_string(&picture).unwrap();
        let escaped = "&lt;two&gt; &amp; &quot;half&quot;";
        assert!(text.contains(escaped) && !text.contains("<two>"), "{text}");
        assert!(text.contains("the rounds one after the other"), "{text}");
        if name.ends_with("svg") {
            roxmltree::Document::parse(&text).unwrap();
        }
    }
    let picture = path(dir.path(), "plot.png");
    let (code, _, stderr) = loadgen(&["plot", &file, "-o", &picture]);
    assert_eq!(code, 2);
    assert!(stderr.contains("ends in .svg or .html"), "{stderr}");
    let picture = path(dir.path(), "plot.svg");
    let (code, _, stderr) = loadgen(&["plot", &file, "-o", &picture, "--labels", "a,b"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("2 names for 1 files"), "{stderr}");
    let (code, _, stderr) = loadgen(&["plot", &picture, "-o", &path(dir.path(), "2.svg")]);
    assert_eq!(code, 1);
    assert!(stderr.contains("not a saved run"), "{stderr}");
    // Nor is a run drawn over itself, whatever its name, or taken twice.
    let named = path(dir.path(), "run.svg");
    fs::copy(&file, &named).unwrap();
    let (code, _, stderr) = loadgen(&["plot", &named, "-o", &named]);
    assert_eq!(code, 2);
    assert!(stderr.contains("are the same file"), "{stderr}");
    let (code, _, stderr) = loadgen(&["plot", &file, &file, "-o", &picture]);
    assert_eq!(code, 2);
    assert!(stderr.contains("is given twice"), "{stderr}");
    // A place that is no plain file is written in place, and a link is followed: a pipe as a stand-in
    // for /dev/null, which a mistake here would take away.
    let (pipe, link) = (path(dir.path(), "pipe"), path(dir.path(), "link"));
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    let (code, _, stderr) = loadgen(&["export", &file, "-o", &pipe]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let kept = fs::metadata(&pipe).unwrap();
    assert!(kept.file_type().is_fifo(), "the pipe was replaced");
    let piped = reader.join().unwrap();
    std::os::unix::fs::symlink("linked", &link).unwrap();
    fs::write(path(dir.path(), "linked"), "old").unwrap();
    let (code, _, stderr) = loadgen(&["export", &file, "-o", &link]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(link).unwrap(), piped);
}

#[test]
fn a_sweep_finds_a_rate_and_draws_it() {
    let dir = tempfile::tempdir().unwrap();
    let (target, _) = start(Behaviour::Well);
    let target = target.to_string();
    let (curve, picture) = (
        path(dir.path(), "curve.json"),
        path(dir.path(), "curve.svg"),
    );
    let load = "--connections 2 --in-flight 20 --seconds 0.25 --warmup 0.05";
    let sweep = |more: &str| {
        let mut args = vec!["sweep", "--target", &target];
        args.extend(load.split(' ').chain(more.split(' ')));
        loadgen(&args)
    };
    // A bound that every machine keeps, up to a rate that it has.
    let files = format!("--output {curve} --plot {picture}");
    let range = "--p99-below 2000000 --from 1000 --to 2000 --steps 2";
    // A machine that does much else may stand still at the end of a measurement, which is then not the
    // agent's: such a sweep is made again.
    let undisturbed = |more: &str, is_good: &dyn Fn(&str, &str) -> bool| {
        let mut last = sweep(more);
        for _ in 0..20 {
            if last.0 == 0 && is_good(&last.1, &last.2) {
                break;
            }
            last = sweep(more);
        }
        last
    };
    let passes_at_once = |stdout: &str, _: &str| {
        stdout
            .lines()
            .nth(1)
            .is_some_and(|line| line.ends_with("  pass"))
            && stdout
                .lines()
                .last()
                .is_some_and(|line| line.contains("at 2 000 NOTIFYs/s"))
    };
    let (code, stdout, stderr) = undisturbed(&format!("{range} {files}"), &passes_at_once);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].contains("asked/s"), "{stdout}");
    assert!(lines[1].ends_with("  pass"), "{stdout}");
    let answer = lines.last().unwrap();
    assert!(answer.contains("at 2 000 NOTIFYs/s"), "{answer}");
    let json: Value = serde_json::from_str(&fs::read_to_string(curve).unwrap()).unwrap();
    assert_eq!(
        (&json["best_rate"], &json["end"]),
        (&2_000.into(), &"reached_to".into())
    );
    assert_eq!(json["settings"]["connections"], 2);
    roxmltree::Document::parse(&fs::read_to_string(picture).unwrap()).unwrap();

    // With --json stdout has nothing but that.
    let first_passes = |stdout: &str, _: &str| {
        serde_json::from_str::<Value>(stdout)
            .is_ok_and(|json| json["measurements"][0]["verdict"] == "pass")
    };
    let (code, stdout, stderr) = undisturbed(&format!("{range} --json"), &first_passes);
    assert_eq!(code, 0, "{stderr}");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["measurements"][0]["verdict"], "pass");
    assert!(stderr.contains("asked/s"), "{stderr}");

    // No agent and no generator takes a nanosecond.
    let (code, stdout, _) = sweep("--p99-below 0.001 --quiet");
    assert_eq!((code, stdout.lines().count()), (3, 1), "{stdout}");
    assert!(stdout.starts_with("no rate with a p99 below"), "{stdout}");

    let (code, _, stderr) = sweep("--p99-below 500 --from 10");
    assert_eq!(code, 2);
    assert!(stderr.contains("--from: 10 NOTIFYs/s"), "{stderr}");
    let (code, _, stderr) = sweep("--p99-below 500 --plot curve.html");
    assert_eq!(code, 2);
    assert!(stderr.contains("ends in .svg"), "{stderr}");
}

#[test]
fn errors_of_a_sweep_are_counted() {
    let (target, _) = start(Behaviour::Twice);
    let target = target.to_string();
    let mut args = vec!["sweep", "--target", &target];
    let line = "--connections 1 --in-flight 20 --seconds 0.25 --warmup 0.05 --p99-below 2000000 \
                --from 1000 --to 2000";
    args.extend(line.split_whitespace());
    let (code, stdout, _) = loadgen(&args);
    assert_eq!(code, 3, "{stdout}");
    assert!(stdout.contains("errors: errors counted: 1"), "{stdout}");
}

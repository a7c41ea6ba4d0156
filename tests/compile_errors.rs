//! What the compiler says of misuse: of `#[derive(Message)]`, of variables and of handlers.
//!
//! Each file in tests/compile_errors is a program that does not compile, and says in its first lines
//! what comes of it:
//!
//! - `//~ error: TEXT`: an error whose message is this text, of our own making. Where a file has such
//!   lines, there are no errors but these.
//! - `//~ says: TEXT`: this text is somewhere in an error whose words are otherwise the compiler's.
//! - `//~ at: TEXT`: what the error of the line before underlines, where that is our doing.
//!
//! Whole outputs, as trybuild compares them, hold for one release of the compiler only: its own words and
//! notes change, and what it underlines, and ringspoa is built with any release from 1.88 on. So this
//! reads the compiler's JSON, in which the message and the place stand by themselves. The programs are
//! checked as one package of its own below target/tmp, offline, with the versions of Cargo.lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a file says of itself.
struct Expected {
    is_whole: bool,
    text: String,
    at: Option<String>,
}

/// What the compiler said.
struct Error {
    message: String,
    at: String,
    rendered: String,
}

fn expected(source: &str) -> Vec<Expected> {
    let mut all: Vec<Expected> = Vec::new();
    for line in source.lines().map_while(|line| line.strip_prefix("//~ ")) {
        let (key, text) = line.split_once(": ").expect("KEY: TEXT");
        match key {
            "error" | "says" => all.push(Expected {
                is_whole: key == "error",
                text: text.to_owned(),
                at: None,
            }),
            "at" => all.last_mut().expect("after an error").at = Some(text.to_owned()),
            _ => panic!("`//~ {key}` is none of error, says and at"),
        }
    }
    all
}

/// What is underlined in the source, of several lines the first.
fn underlined(message: &Value) -> String {
    let spans = message["spans"].as_array().expect("there are spans");
    let primary = spans.iter().find(|span| span["is_primary"] == true);
    let Some(line) = primary.map(|span| &span["text"][0]) else {
        return String::new();
    };
    let column = |end: &str| usize::try_from(line[end].as_u64().unwrap_or(1)).unwrap_or(1) - 1;
    let (start, end) = (column("highlight_start"), column("highlight_end"));
    let text = line["text"].as_str().unwrap_or_default();
    text.chars().skip(start).take(end - start).collect()
}

/// Compiles the files as programs of one package, with the sources and versions of this one.
fn check(files: &[PathBuf]) -> Vec<(String, Error)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile-errors");
    fs::create_dir_all(&package).unwrap();
    let mut manifest = format!(
        "[package]\nname = \"compile-errors\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [workspace]\n\n[dependencies.ringspoa]\npath = {root:?}\n\
         default-features = false\nfeatures = [\"std\"]\n"
    );
    for file in files {
        let name = file.file_stem().unwrap();
        manifest += &format!("\n[[bin]]\nname = {name:?}\npath = {file:?}\n");
    }
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args([
            "check",
            "--offline",
            "--keep-going",
            "--message-format=json",
        ])
        .arg("--target-dir")
        .arg(package.join("target"))
        .current_dir(&package)
        .output()
        .expect("cargo runs");
    let output_of = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (output_of(&output.stdout), output_of(&output.stderr));
    let mut errors = Vec::new();
    let mut is_built = false;
    for line in stdout.lines() {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        is_built |=
            line["reason"] == "compiler-artifact" && line["target"]["name"] == "nothing_wrong";
        let message = &line["message"];
        let text = message["message"].as_str().unwrap_or_default();
        if message["level"] != "error" || text.starts_with("aborting due to") {
            continue;
        }
        let error = Error {
            message: text.to_owned(),
            at: underlined(message),
            rendered: message["rendered"].as_str().unwrap_or_default().to_owned(),
        };
        errors.push((
            line["target"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            error,
        ));
    }
    assert!(
        is_built,
        "not even the file that is right compiles:\n{stderr}\n{stdout}"
    );
    errors
}

#[test]
fn misuse_ends_in_errors_that_say_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_errors");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 30, "{files:?}");
    let errors = check(&files);
    let mut wrong = String::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let expected = expected(&fs::read_to_string(file).unwrap());
        let errors: Vec<_> = errors
            .iter()
            .filter(|(of, _)| of == name)
            .map(|(_, error)| error)
            .collect();
        let is_met = |expected: &Expected| {
            errors.iter().any(|error| {
                let is_it = if expected.is_whole {
                    error.message == expected.text
                } else {
                    error.rendered.contains(&expected.text)
                };
                is_it && expected.at.as_ref().is_none_or(|at| *at == error.at)
            })
        };
        let is_ours = expected.iter().all(|expected| expected.is_whole);
        if !expected.iter().all(is_met) || is_ours && errors.len() != expected.len() {
            wrong += &format!("\n{} ends in:\n\n", file.display());
            for error in errors {
                wrong += &format!(
                    "//~ error: {}\n//~ at: {}\n{}\n",
                    error.message, error.at, error.rendered
                );
            }
        }
    }
    assert!(wrong.is_empty(), "not as the file says:\n{wrong}");
}

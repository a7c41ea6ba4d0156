//! The files of dist/: accepted by the programs they are for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn haproxy(version: &str) -> PathBuf {
    let path = root().join(format!(".haproxy/{version}/haproxy"));
    assert!(
        path.exists(),
        "{} is missing: run scripts/install-haproxy",
        path.display()
    );
    path
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn haproxy_accepts_the_samples_for_its_version() {
    for (version, sample) in [
        ("2.6", "haproxy-2.6"),
        ("2.8", "haproxy-2.6"),
        ("3.0", "haproxy-2.6"),
        ("3.2", "haproxy-3.1"),
    ] {
        let folder = root().join("dist").join(sample);
        let engine = folder.join("spoe.cfg");
        for name in ["haproxy.cfg", "haproxy-fail-closed.cfg"] {
            let config = fs::read_to_string(folder.join(name)).unwrap();
            let here = config.replace("/etc/haproxy/ringspoa.spoe.cfg", engine.to_str().unwrap());
            assert_ne!(config, here, "{name} names its engine file");
            let path = std::env::temp_dir()
                .join(format!("ringspoa-{}-{version}-{name}", std::process::id()));
            fs::write(&path, here).unwrap();
            let output = Command::new(haproxy(version))
                .arg("-c")
                .arg("-f")
                .arg(&path)
                .output()
                .unwrap();
            fs::remove_file(&path).unwrap();
            let text = text(&output);
            assert!(output.status.success(), "{version} {name}: {text}");
            assert!(!text.contains("WARNING"), "{version} {name}: {text}");
        }
    }
}

#[test]
fn the_binary_reads_the_sample_configuration_with_every_default_spelled_out() {
    let sample = fs::read_to_string(root().join("dist/ringspoa.toml")).unwrap();
    let mut keys = 0;
    let spelled_out: Vec<_> = sample
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(key, _)| !key.contains(' ')) =>
            {
                keys += 1;
                rest
            }
            _ => line,
        })
        .collect();
    assert_eq!(keys, 15, "every key but `listen` is commented out");
    let path = std::env::temp_dir().join(format!("ringspoa-{}.toml", std::process::id()));
    fs::write(&path, spelled_out.join("\n")).unwrap();
    // The ban list is not there, which is found out after the file was understood.
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["serve", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("ban list /etc/ringspoa.bans"),
        "{}",
        text(&output)
    );
}

/// Every Rust file below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_code_is_where_the_security_policy_says() {
    let policy = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let section = policy.split("## ").find(|part| part.starts_with("Unsafe"));
    let places: Vec<_> = section
        .expect("a section on unsafe code")
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once('`'))
        .map(|(place, _)| root().join(place))
        .collect();
    let mut files = Vec::new();
    for folder in ["src", "loadgen/src"] {
        sources(&root().join(folder), &mut files);
    }
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        if ["unsafe {", "unsafe impl", "unsafe fn"]
            .iter()
            .any(|word| text.contains(word))
        {
            count += 1;
            assert!(
                places.iter().any(|place| file.starts_with(place)),
                "SECURITY.md does not list {}",
                file.display()
            );
        }
    }
    assert!(count > 0, "there is none left, and the policy says so");
}

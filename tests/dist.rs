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

//! Where all is well: silence, from us and from HAProxy.

use std::fs;
use std::path::Path;

use ringspoa::haproxy_config::{
    CheckOptions, ConfigFile, Severity, SpoeConfig, check, engine_files,
};

use crate::fixture::{Folder, INSTALLED, Verdict, Whom, haproxy, root, samples};

/// What is found beside notes; the ids of these.
#[track_caller]
fn check_good(version: &str, files: &[ConfigFile], options: CheckOptions) -> Vec<&'static str> {
    let report = check(files, &options.with_version(version.parse().unwrap()));
    let mut notes = Vec::new();
    for finding in &report.findings {
        assert_eq!(finding.severity, Severity::Note, "{version} {finding}");
        notes.push(finding.id);
    }
    notes.sort_unstable();
    notes.dedup();
    notes
}

#[test]
fn nothing_is_wrong_with_the_samples_in_any_order() {
    for version in ["2.6", "2.8", "3.0", "3.1", "3.2", "3.3"] {
        let (main, engine) = samples(version);
        let main = ConfigFile::new("haproxy.cfg", main);
        let engine = ConfigFile::new("spoe.cfg", engine);
        for files in [[main.clone(), engine.clone()], [engine, main]] {
            let notes = check_good(version, &files, Whom::Ours.options());
            assert_eq!(notes, [""; 0], "{version}");
        }
    }
}

/// As they are installed, which is another name and folder than they have here; and fail closed.
#[test]
fn nothing_is_wrong_with_the_samples_as_they_are() {
    for (version, folder) in [
        ("2.6", "haproxy-2.6"),
        ("3.0", "haproxy-2.6"),
        ("3.2", "haproxy-3.1"),
    ] {
        let folder = root().join("dist").join(folder);
        for name in ["haproxy.cfg", "haproxy-fail-closed.cfg"] {
            let read = |name: &str| {
                let path = folder.join(name);
                ConfigFile::new(path.display().to_string(), fs::read(path).unwrap())
            };
            let files = [read(name), read("spoe.cfg")];
            assert_eq!(check_good(version, &files, Whom::Ours.options()), [""; 0]);
        }
    }
}

/// What `ringspoa spoe-config` prints is what is checked for.
#[test]
fn nothing_is_wrong_with_what_is_made_from_the_declaration() {
    for version in ["2.6", "2.8", "3.0", "3.1", "3.2", "3.3"] {
        let options = Whom::Ours.options();
        let config = SpoeConfig::new(&options.agents[0]).for_haproxy(version.parse().unwrap());
        let main = format!(
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\n\
             frontend www\n    bind :80\n{}    default_backend app\n\n\
             backend app\n    server app1 127.0.0.1:8000\n\n{}",
            // Rules to begin with are there as comments.
            config
                .frontend_lines()
                .unwrap()
                .replace("# http-request", "http-request"),
            config.backend().unwrap()
        );
        let engine = config.spoe().unwrap();
        let files = [
            ConfigFile::new("haproxy.cfg", main.as_str()),
            ConfigFile::new("spoe.cfg", engine.as_str()),
        ];
        let listen = ["127.0.0.1:9000".to_owned()];
        let notes = check_good(version, &files, options.with_listen(listen));
        assert_eq!(notes, [""; 0], "{version}\n{main}\n{engine}");
    }
}

fn data() -> std::path::PathBuf {
    root().join("tests/data/check")
}

fn read(folder: &Path, name: &str) -> ConfigFile {
    ConfigFile::new(name, fs::read(folder.join(name)).unwrap())
}

#[test]
fn nothing_is_wrong_with_what_others_write() {
    for (name, of_3_0, of_3_2) in [
        (
            "waf",
            &["agent-unknown"][..],
            &["agent-unknown", "keyword-ignored"][..],
        ),
        (
            "bouncer",
            &["agent-unknown"],
            &["agent-unknown", "keyword-ignored"],
        ),
        (
            "engines",
            &["agent-unknown"],
            &["agent-unknown", "keyword-ignored"],
        ),
        (
            "tcp",
            &["agent-unknown"],
            &["agent-unknown", "keyword-ignored"],
        ),
    ] {
        for version in INSTALLED {
            let main = format!("{name}.cfg");
            let (verdict, text) = haproxy(version, &data(), &main);
            assert_eq!(verdict, Verdict::Accepts, "{version} {main}: {text}");

            let engine = format!("{name}.spoe.cfg");
            let files = [read(&data(), &main), read(&data(), &engine)];
            assert_eq!(engine_files(&files[..1]), [engine]);
            assert_eq!(engine_files(&files), [""; 0]);
            let expected = if version < "3.1" { of_3_0 } else { of_3_2 };
            let notes = check_good(version, &files, Whom::Ours.options());
            assert_eq!(notes, expected, "{version} {name}");
        }
    }
}

/// Without a haproxy.cfg there is nothing to say of filters and backends, and the other way about.
#[test]
fn each_file_may_be_checked_on_its_own() {
    let (main, engine) = samples("3.2");
    let engine = ConfigFile::new("spoe.cfg", engine);
    assert_eq!(check_good("3.2", &[engine], Whom::Ours.options()), [""; 0]);
    let main = ConfigFile::new("haproxy.cfg", main);
    assert_eq!(
        check_good("3.2", &[main], Whom::Ours.options()),
        ["engine-not-given"]
    );
    assert_eq!(check_good("3.2", &[], Whom::Ours.options()), [""; 0]);
}

/// An engine is for the agent that was named, whatever it is called.
#[test]
fn an_agent_that_is_named_is_the_one() {
    let files = [read(&data(), "waf.cfg"), read(&data(), "waf.spoe.cfg")];
    let agent = Whom::Ours.options().agents.remove(0);
    let report = check(&files, &CheckOptions::default().with_agent(agent));
    let ids: Vec<_> = report.findings.iter().map(|finding| finding.id).collect();
    assert!(!ids.contains(&"agent-unknown"), "{ids:?}");
    // It sets no txn.waf.action, and reads no argument but src-ip, which responses come without.
    for id in ["variable-unknown", "argument-unknown", "argument-missing"] {
        assert!(ids.contains(&id), "{id}: {ids:?}");
    }
}

/// Line ends of other systems, and sections that begin anywhere in a line.
#[test]
fn what_a_line_looks_like_is_of_no_account() {
    let (main, engine) = samples("3.0");
    let folder = Folder::new();
    for rewrite in [
        |text: &str| text.replace('\n', "\r\n"),
        |text: &str| format!("\t{}\n", text.trim_end().replace('\n', "\n\t")),
        |text: &str| {
            text.lines()
                .map(|line| format!("{}\n", line.trim()))
                .collect()
        },
        |text: &str| {
            text.replace("    ", "  \t")
                .replace('\n', "  # as it was\n\n")
        },
    ] {
        let (main, engine) = (rewrite(&main), rewrite(&engine));
        folder.write("haproxy.cfg", &main);
        folder.write("spoe.cfg", &engine);
        let (verdict, text) = haproxy("3.0", &folder.0, "haproxy.cfg");
        assert_eq!(verdict, Verdict::Accepts, "{text}");
        let files = [
            ConfigFile::new("haproxy.cfg", main),
            ConfigFile::new("spoe.cfg", engine),
        ];
        assert_eq!(check_good("3.0", &files, Whom::Ours.options()), [""; 0]);
    }
}

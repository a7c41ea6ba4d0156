//! The command as an operator meets it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture::{Folder, root, samples};

/// Runs it in a folder, where no HAProxy is to be found.
fn check(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .env("PATH", folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// The samples of 3.1 and later, with a change.
fn folder(from: &str, to: &str) -> Folder {
    let folder = Folder::new();
    let (main, engine) = samples("3.2");
    folder.write("haproxy.cfg", &main);
    folder.write("spoe.cfg", &engine.replace(from, to));
    folder
}

#[test]
fn findings_come_with_file_line_and_fix_and_exit_code_1() {
    let folder = folder("ip=src", "ip=src_port");
    let (code, out, err) = check(&folder.0, &["--haproxy", "3.2", "haproxy.cfg", "spoe.cfg"]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert_eq!(
        out,
        "spoe.cfg:13: error[argument-type]: argument ip is INT64 (src_port), and the agent takes IPV4 or \
         IPV6 or STRING there: it has to be an IP address\n  \
         fix: send an IP address, as in ip=src\n\
         2 files read for HAProxy 3.2: 1 error, 0 warnings, 0 notes\n"
    );
}

#[test]
fn json_has_the_same() {
    let folder = folder("ip=src", "ip=\"src_port\" \"a\\\"b\u{7}\"=path");
    let (code, out, _) = check(&folder.0, &["--json", "haproxy.cfg"]);
    assert_eq!(code, Some(1));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["haproxy"], "3.2");
    assert_eq!(json["haproxy_from"], "mode spop");
    // The second was found by the first.
    assert_eq!(
        json["files"],
        serde_json::json!(["haproxy.cfg", "spoe.cfg"])
    );
    assert_eq!(json["errors"], 1);
    assert_eq!(json["warnings"], 0);
    assert_eq!(json["notes"], 1);
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 2);
    let finding = &findings[0];
    assert_eq!(finding["file"], "spoe.cfg");
    assert_eq!(finding["line"], 13);
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["id"], "argument-type");
    for key in ["text", "fix"] {
        assert!(
            finding[key].as_str().is_some_and(|text| text.len() > 10),
            "{finding}"
        );
    }
    let note = findings[1]["text"].as_str().unwrap();
    assert!(note.contains("argument 'a\"b\\u{7}' of"), "{note}");
}

#[test]
fn notes_alone_are_no_failure() {
    let folder = folder("    use-backend", "    timeout idle 60s\n    use-backend");
    let (code, out, _) = check(&folder.0, &["spoe.cfg", "haproxy.cfg"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("spoe.cfg:10: note[keyword-ignored]"), "{out}");
    assert!(
        out.ends_with(
            "2 files read for HAProxy 3.2 (assumed for mode spop, --haproxy says otherwise): 0 errors, \
             0 warnings, 1 note\n"
        ),
        "{out}"
    );
}

#[test]
fn the_version_is_taken_from_where_it_is_known() {
    let folder = Folder::new();
    let (main, engine) = samples("3.0");
    folder.write("haproxy.cfg", &main);
    folder.write("spoe.cfg", &engine);
    let (code, out, _) = check(&folder.0, &["haproxy.cfg"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("for HAProxy 3.2 (assumed, --haproxy says otherwise)"),
        "{out}"
    );

    // The test's folder is all of PATH.
    let program = folder.write(
        "haproxy",
        "#!/bin/sh\necho 'HAProxy version 2.8.25-5cf5d0683 2026/06/26 - https://haproxy.org/'\n",
    );
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(program, mode).unwrap();
    let (code, out, _) = check(&folder.0, &["haproxy.cfg"]);
    assert_eq!(code, Some(0));
    assert!(
        out.ends_with("for HAProxy 2.8 (from haproxy -v, --haproxy says otherwise): 0 errors, 0 warnings, 0 notes\n"),
        "{out}"
    );
    // Files with mode spop are not for it.
    let (main, _) = samples("3.2");
    folder.write("haproxy.cfg", &main);
    let (_, out, _) = check(&folder.0, &["--json", "haproxy.cfg"]);
    assert!(
        out.contains("\"haproxy\":\"3.2\",\"haproxy_from\":\"mode spop\""),
        "{out}"
    );
}

#[test]
fn a_folder_stands_for_its_files() {
    let folder = folder("", "");
    folder.write("notes.txt", "not read");
    folder.write(".hidden.cfg", "not read");
    std::fs::create_dir(folder.0.join("old.cfg")).unwrap();
    let (code, out, _) = check(&folder.0, &["--json", "."]);
    assert_eq!(code, Some(0), "{out}");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        json["files"],
        serde_json::json!(["./haproxy.cfg", "./spoe.cfg"])
    );
}

#[test]
fn the_agents_own_settings_count() {
    let folder = folder("", "");
    let sample = root().join("dist/ringspoa.toml").display().to_string();
    let (code, out, _) = check(
        &folder.0,
        &["--config", &sample, "--agent", "remediation", "haproxy.cfg"],
    );
    assert_eq!(code, Some(0), "{out}");

    folder.write(
        "ringspoa.toml",
        "listen = ['127.0.0.1:9000', 'unix:/run/other.sock,mode=660']\nagent-deadline-ms = 100\n\
         max-frame-size = 4096\n",
    );
    let (code, out, _) = check(&folder.0, &["--config", "ringspoa.toml", "haproxy.cfg"]);
    assert_eq!(code, Some(1));
    for id in [
        "server-address",
        "timeout-processing-short",
        "frame-size-agent",
    ] {
        assert!(out.contains(&format!(": warning[{id}]: ")), "{id}: {out}");
    }
    assert!(
        out.contains("it listens at 127.0.0.1:9000, unix@/run/other.sock;"),
        "{out}"
    );
}

/// Who asks others before it answers has a deadline, also where the file leaves it at its default.
#[test]
fn the_default_deadline_counts_for_who_asks_others() {
    let folder = folder("", "");
    folder.write("list.toml", "ban-list = \"/nowhere\"\n");
    folder.write("ringspoa.toml", "[remediation]\nwait-ready-ms = 1\n");
    let sample = root().join("dist/haproxy-3.1/crowdsec.cfg");
    let sample = sample.display().to_string();
    let engine = root().join("dist/haproxy-3.1/crowdsec.spoe.cfg");
    let engine = engine.display().to_string();
    let (_, out, _) = check(&folder.0, &["--config", "ringspoa.toml", &sample, &engine]);
    assert!(out.contains("after 500ms (agent-deadline-ms)"), "{out}");
    let (code, out, _) = check(&folder.0, &["--config", "list.toml", "haproxy.cfg"]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn what_cannot_be_read_is_named_with_exit_code_2() {
    let folder = folder("", "");
    std::fs::create_dir(folder.0.join("empty")).unwrap();
    folder.write("wrong.toml", "lisen = 1");
    folder.write("bad.toml", "max-frame-size = 1");
    for (arguments, part) in [
        (
            &["missing.cfg"][..],
            "ringspoa: missing.cfg: cannot read it: ",
        ),
        (&["empty"], "ringspoa: empty: has no file that ends in .cfg"),
        (
            &["haproxy.cfg", "--config", "wrong.toml"],
            "did you mean `listen`?",
        ),
        (
            &["haproxy.cfg", "--config", "bad.toml"],
            "bad.toml: max-frame-size is 1",
        ),
        (
            &["haproxy.cfg", "--config", "none.toml"],
            "cannot read the configuration none.toml",
        ),
        (
            &["haproxy.cfg", "--haproxy", "2.4"],
            "--haproxy: HAProxy 2.4 is too old: want 2.6 or later, as in 2.6, 2.8, 3.0, 3.1, 3.2, 3.3",
        ),
        (
            &["haproxy.cfg", "--haproxy", "new"],
            "--haproxy: 'new' is no version of HAProxy: want MAJOR.MINOR, as in 2.6 or 3.2; known are 2.6,",
        ),
        (
            &["haproxy.cfg", "--agent", "ringspo"],
            "--agent: there is no agent 'ringspo'; there is remediation, crowdsec, challenge",
        ),
        (&[], "<FILE>..."),
    ] {
        let (code, out, err) = check(&folder.0, arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
}

/// Named or not, it is held against what the files send.
#[test]
fn the_agent_of_crowdsecs_messages_is_known() {
    let folder = Folder::new();
    let dist = root().join("dist/haproxy-3.1");
    let read = |name: &str| std::fs::read_to_string(dist.join(name)).unwrap();
    let main = read("crowdsec.cfg").replace("/etc/haproxy/crowdsec.spoe.cfg", "spoe.cfg");
    folder.write("haproxy.cfg", &main);
    for flags in [
        &["haproxy.cfg", "--haproxy", "3.2"][..],
        &["haproxy.cfg", "--haproxy", "3.2", "--agent", "crowdsec"],
    ] {
        let engine = read("crowdsec.spoe.cfg");
        folder.write("spoe.cfg", &engine);
        let (code, out, err) = check(&folder.0, flags);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        folder.write("spoe.cfg", &engine.replace("src-ip=src ", "src-ip=path "));
        let (code, out, err) = check(&folder.0, flags);
        assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
        assert!(out.contains("argument src-ip is STRING (path)"), "{out}");
    }
}

/// Bytes that are no text, and lines that are long.
#[test]
fn files_may_hold_anything() {
    let folder = Folder::new();
    let mut bytes =
        b"frontend a\nfilter spoe engine \xff\xfe\x1b[2J config x\nbackend \x00\n".to_vec();
    bytes.extend(b"option ".repeat(100_000));
    std::fs::write(folder.0.join("haproxy.cfg"), bytes).unwrap();
    let (code, out, err) = check(&folder.0, &["haproxy.cfg", "--agent", "remediation"]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    assert!(
        out.matches(": error[syntax]: ").count() == 3 && !out.contains('\x1b'),
        "{out}"
    );
}

#[test]
fn an_engine_of_another_agent_is_told_what_to_do() {
    let folder = folder("unused", "unused");
    let files = ["waf.cfg", "waf.spoe.cfg"];
    for name in files {
        let text = std::fs::read_to_string(root().join("tests/data/check").join(name)).unwrap();
        folder.write(name, &text);
    }
    let (code, out, _) = check(&folder.0, &["--haproxy", "2.8", files[0], files[1]]);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains(
            "name it with --agent (remediation, crowdsec, challenge); agents of your own are checked by the library"
        ),
        "{out}"
    );
}

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

/// What the bouncer's own file sends for nobody to read is no fault; the names of its earlier versions are as
/// good.
#[test]
fn nothing_is_wrong_with_the_samples_of_crowdsecs_messages() {
    for (version, folder) in [
        ("2.6", "haproxy-2.6"),
        ("3.0", "haproxy-2.6"),
        ("3.2", "haproxy-3.1"),
    ] {
        let folder = root().join("dist").join(folder);
        for name in ["crowdsec.cfg", "crowdsec-fail-closed.cfg"] {
            for is_old in [false, true] {
                let read = |name: &str| {
                    let path = folder.join(name);
                    let mut text = fs::read_to_string(&path).unwrap();
                    if is_old {
                        text = text
                            .replace("crowdsec-tcp", "crowdsec-ip")
                            .replace("crowdsec-http-body", "crowdsec-http");
                    }
                    ConfigFile::new(path.display().to_string(), text)
                };
                let files = [read(name), read("crowdsec.spoe.cfg")];
                let notes = check_good(version, &files, Whom::Crowdsec.options());
                assert_eq!(notes, [""; 0], "{name}, old names: {is_old}");
            }
        }
    }
}

/// Two engines of one agent, each with its own timeout, are no fault where rules send what they ask.
#[test]
fn nothing_is_wrong_with_the_samples_of_challenges() {
    for (version, folder) in [
        ("2.6", "haproxy-2.6"),
        ("3.0", "haproxy-2.6"),
        ("3.2", "haproxy-3.1"),
    ] {
        let folder = root().join("dist").join(folder);
        for name in ["challenge.cfg", "challenge-fail-closed.cfg"] {
            let read = |name: &str| {
                let text = fs::read_to_string(folder.join(name)).unwrap();
                ConfigFile::new(name, text)
            };
            let files = [read(name), read("challenge.spoe.cfg")];
            let declaration = ringspoa::agents::challenge::messages::declaration();
            let options = CheckOptions::default()
                .with_agents([declaration])
                .with_version(version.parse().unwrap());
            let report = check(&files, &options);
            assert!(
                report.findings.is_empty(),
                "{version} {name}: {:?}",
                report.findings
            );
        }
    }
}

/// An engine of nothing but older names, which no other name tells the agent of, is the agent's.
#[test]
fn an_engine_is_known_by_older_names_of_its_messages() {
    let engine = "[protect]\nspoe-agent protector\n    messages crowdsec-ip\n    timeout processing 1s\n    \
                  use-backend agents\n\nspoe-message crowdsec-ip\n    args src-ip=src\n    \
                  event on-client-session\n";
    let ids = |engine: &str| {
        let files = [ConfigFile::new("spoe.cfg", engine)];
        let options = Whom::Crowdsec
            .options()
            .with_version("3.2".parse().unwrap());
        let report = ringspoa::haproxy_config::check(&files, &options);
        let ids = report.findings.iter().map(|finding| finding.id);
        ids.filter(|id| id.starts_with("agent") || id.starts_with("argument"))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(engine), [""; 0]);
    // It is held against what the agent takes.
    assert_eq!(
        ids(&engine.replace("=src\n", "=src_port\n")),
        ["argument-type"]
    );
    assert_eq!(
        ids(&engine.replace("crowdsec-ip", "other")),
        ["agent-unknown"]
    );
}

/// A variable of the process that the configuration names is there for the agent to set.
#[test]
fn variables_of_the_process_are_registered_or_read() {
    for version in ["2.6", "3.2"] {
        let (main, engine) = samples(version);
        let registered = engine.replacen(
            "    use-backend",
            "    register-var-names total\n    use-backend",
            1,
        );
        let deny = "    http-request deny";
        let reading = "    http-request deny if { var(proc.ringspoa.total) -m int gt 9 }\n    http-request deny";
        let reading = main.replacen(deny, reading, 1);
        for (main, engine) in [(&main, &registered), (&reading, &engine)] {
            let files = [
                ConfigFile::new("haproxy.cfg", main.as_str()),
                ConfigFile::new("spoe.cfg", engine.as_str()),
            ];
            assert_eq!(
                check_good(version, &files, Whom::OfProcess.options()),
                [""; 0]
            );
        }
    }
}

/// What the configuration says that the agent sets is set, whatever the agent known here declares.
#[test]
fn rules_read_what_is_registered() {
    let (main, engine) = samples("3.2");
    let engine = engine.replacen(
        "    use-backend",
        "    register-var-names score\n    use-backend",
        1,
    );
    let reading =
        "    http-request deny if { var(sess.ringspoa.score) -m int gt 9 }\n    http-request deny";
    let main = main.replacen("    http-request deny", reading, 1);
    let files = [
        ConfigFile::new("haproxy.cfg", main),
        ConfigFile::new("spoe.cfg", engine),
    ];
    assert_eq!(check_good("3.2", &files, Whom::Ours.options()), [""; 0]);
}

/// `check-client-ip` is the message of HAProxy's own example too: the variables may be another agent's.
#[test]
fn an_agent_of_another_name_sets_variables_of_its_own() {
    let (main, engine) = samples("3.2");
    let files = [
        ConfigFile::new(
            "haproxy.cfg",
            main.replace("engine ringspoa", "engine iprep")
                .replace("txn.ringspoa.remediation", "sess.iprep.ip_score"),
        ),
        ConfigFile::new(
            "spoe.cfg",
            engine
                .replace("[ringspoa]", "[iprep]")
                .replace("spoe-agent ringspoa", "spoe-agent iprep-agent")
                .replace("var-prefix ringspoa", "var-prefix iprep"),
        ),
    ];
    let options = Whom::Ours.options();
    assert_eq!(check_good("3.2", &files, options.clone()), [""; 0]);
    // Unless somebody says that it is this one.
    let agent = options.agents[0].clone();
    let report = check(&files, &options.with_agent(agent));
    let ids: Vec<_> = report.findings.iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["variable-unknown"]);
}

/// What `ringspoa spoe-config` prints is what is checked for.
#[test]
fn nothing_is_wrong_with_what_is_made_from_the_declaration() {
    let versions = ["2.6", "2.8", "3.0", "3.1", "3.2", "3.3"];
    let agents = [Whom::Ours, Whom::Crowdsec];
    for (version, whom) in versions
        .into_iter()
        .flat_map(|v| agents.map(|whom| (v, whom)))
    {
        let options = whom.options();
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

/// What CrowdSec's messages lack is told, each with what it costs.
#[test]
fn what_crowdsecs_messages_lack_is_told() {
    let folder = root().join("dist/haproxy-3.1");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    for (file, from, to, expected) in [
        (
            "crowdsec.spoe.cfg",
            " headers=req.hdrs",
            "",
            &[("argument-absent", "no captcha is ever solved"); 2][..],
        ),
        (
            "crowdsec.spoe.cfg",
            " ssl=ssl_fc src-ip=src",
            " ssl=ssl_fc",
            &[("argument-absent", "the address is not looked up"); 2],
        ),
        (
            "crowdsec.spoe.cfg",
            " src-ip=src src-port=src_port\n    event",
            " src-port=src_port\n    event",
            &[("argument-missing", "src-ip")],
        ),
        ("crowdsec.spoe.cfg", " path=path", "", &[]),
        (
            "crowdsec.spoe.cfg",
            " body=req.body",
            "",
            &[("argument-absent", "AppSec sees no body")],
        ),
        (
            "crowdsec.cfg",
            "    option http-buffer-request\n",
            "",
            &[("body-not-buffered", "does not wait for the body")],
        ),
    ] {
        let files = ["crowdsec.cfg", "crowdsec.spoe.cfg"].map(|name| {
            let mut text = read(name);
            if name == file {
                assert!(text.contains(from), "{from}");
                text = text.replace(from, to);
            }
            ConfigFile::new(name, text)
        });
        let report = check(
            &files,
            &Whom::Crowdsec
                .options()
                .with_version("3.2".parse().unwrap()),
        );
        let found: Vec<_> = report.findings.iter().collect();
        assert_eq!(found.len(), expected.len(), "{from}: {found:?}");
        for (finding, (id, part)) in found.iter().zip(expected) {
            assert_eq!((finding.id, finding.severity), (*id, Severity::Warning));
            assert!(finding.text.contains(part), "{finding}");
        }
    }
}

//! The files of dist/: accepted by the programs they are for.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
        for (name, engine) in [
            ("haproxy.cfg", "spoe.cfg"),
            ("haproxy-fail-closed.cfg", "spoe.cfg"),
            ("crowdsec.cfg", "crowdsec.spoe.cfg"),
            ("crowdsec-fail-closed.cfg", "crowdsec.spoe.cfg"),
            ("challenge.cfg", "challenge.spoe.cfg"),
            ("challenge-fail-closed.cfg", "challenge.spoe.cfg"),
        ] {
            let config = fs::read_to_string(folder.join(name)).unwrap();
            let installed = match engine {
                "spoe.cfg" => "/etc/haproxy/ringspoa.spoe.cfg".to_owned(),
                engine => format!("/etc/haproxy/{engine}"),
            };
            assert!(config.contains(&installed), "{name} names its engine file");
            let engine = folder.join(engine);
            let here = config.replace(&installed, engine.to_str().unwrap());
            let pages = root().join("dist/pages");
            let here = here.replace("/usr/share/ringspoa/pages", pages.to_str().unwrap());
            let of_this = format!("ringspoa-{}-{version}-{name}", std::process::id());
            let path = std::env::temp_dir().join(of_this);
            let page = path.with_extension("html");
            let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
                .args(["page", "--no-js", "refresh", "--output"])
                .arg(&page)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text(&output));
            let never = root().join("dist/challenge-never.lst");
            let here = here
                .replace("/etc/haproxy/challenge.html", page.to_str().unwrap())
                .replace("/etc/haproxy/challenge-never.lst", never.to_str().unwrap());
            // A haproxy.cfg that the parts are put into says where its log goes.
            let here = format!("global\n    log /dev/log local0\n{here}");
            fs::write(&path, here).unwrap();
            let output = Command::new(haproxy(version))
                .arg("-c")
                .arg("-f")
                .arg(&path)
                .output()
                .unwrap();
            fs::remove_file(&path).unwrap();
            fs::remove_file(&page).unwrap();
            let text = text(&output);
            assert!(output.status.success(), "{version} {name}: {text}");
            assert!(!text.contains("WARNING"), "{version} {name}: {text}");
        }
    }
}

/// A page with another script would not run under the policy of another one.
#[test]
fn the_samples_have_the_policy_of_the_page() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["page", "--csp"])
        .output()
        .unwrap();
    let policy = text(&output);
    let line = format!("Content-Security-Policy \"{}\" if is_page", policy.trim());
    for folder in ["haproxy-2.6", "haproxy-3.1"] {
        for name in ["challenge.cfg", "challenge-fail-closed.cfg"] {
            let sample = fs::read_to_string(root().join("dist").join(folder).join(name)).unwrap();
            assert!(sample.contains(&line), "{folder}/{name} lacks\n{line}");
        }
    }
}

/// What a sample tells people to run, the binary has: each flag in a comment is one of that command's.
#[test]
fn commands_in_comments_of_samples_exist() {
    let flags = fs::read_to_string(root().join("tests/data/flags-ringspoa.txt")).unwrap();
    let mut files = Vec::new();
    files_below(&root().join("dist"), &mut files);
    let mut count = 0;
    for file in files {
        // Binary ones are none of ours.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("ringspoa ") {
                let mut words = line[at..].split([' ', '`', '"']).skip(1);
                let command = words.next().unwrap_or_default();
                let is_command = [
                    "page", "serve", "check", "import", "lookup", "token", "table",
                ];
                if !is_command.contains(&command) {
                    continue;
                }
                let known = flags
                    .lines()
                    .filter(|known| known.starts_with(&format!("ringspoa {command} ")))
                    .collect::<Vec<_>>();
                for flag in words.filter(|word| word.starts_with("--")) {
                    let flag = flag.trim_end_matches([',', '.', ';', ':', ')']);
                    let flag = flag.split('=').next().unwrap();
                    count += 1;
                    assert!(
                        known
                            .iter()
                            .any(|known| known.split([' ', ',']).any(|word| word == flag)),
                        "{}:{}: `ringspoa {command}` has no {flag}",
                        file.display(),
                        index + 1
                    );
                }
            }
        }
    }
    assert!(count > 5, "{count}");
}

/// Who writes rules of their own has all variables in one place.
#[test]
fn the_readme_has_every_variable_of_browser_validation() {
    use ringspoa::agents::challenge::messages::{NUMBERS, SWITCHES, TEXTS};
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, table) = readme.split_once("**What HAProxy gets**").unwrap();
    let (table, _) = table.split_once("\n\n**").unwrap();
    let rows: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('|').next())
        .collect();
    let names = SWITCHES.iter().map(|variable| variable.variable().name());
    let names = names.chain(NUMBERS.iter().map(|variable| variable.variable().name()));
    for name in names.chain(TEXTS.iter().map(|variable| variable.variable().name())) {
        let is_there = rows
            .iter()
            .any(|row| row.split('`').any(|word| word == name));
        assert!(is_there, "the README's table lacks {name}");
    }
}

/// Every file below `folder`.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The archive has every file of dist/ that a server is run with, and not only what the package has.
#[test]
fn the_archive_has_what_the_samples_name() {
    let script = fs::read_to_string(root().join("scripts/package")).unwrap();
    let (_, rest) = script
        .split_once("cp -r README.md")
        .expect("what is packed");
    let (packed, _) = rest.split_once("\"$tree/\"").expect("where to");
    for entry in fs::read_dir(root().join("dist")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // For who watches it, and for the package's own scripts.
        let is_beside = [
            "debian",
            "metrics.md",
            "grafana-dashboard.json",
            "prometheus.rules.yml",
        ];
        let is_packed = packed
            .split_whitespace()
            .any(|word| word == format!("dist/{name}"));
        assert!(
            is_packed || is_beside.contains(&&*name),
            "scripts/package --static leaves out dist/{name}"
        );
    }
}

/// The lines of dist/ringspoa.toml that are settings, with what is commented out as if it were not.
fn settings() -> Vec<String> {
    let sample = fs::read_to_string(root().join("dist/ringspoa.toml")).unwrap();
    sample
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
        .filter(|line| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
        })
        .map(str::to_owned)
        .collect()
}

fn key(line: &str) -> &str {
    line.split_once(" = ").unwrap().0
}

#[test]
fn the_sample_configuration_has_a_key_for_each_flag() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["serve", "--help"])
        .output()
        .unwrap();
    let help = text(&output);
    let flags = help.lines().filter_map(|line| {
        let flag = line
            .trim_start()
            .trim_start_matches("-h, ")
            .strip_prefix("--")?;
        Some(flag.split([' ', '.']).next().unwrap().to_owned())
    });
    let mut flags: Vec<_> = flags
        .filter(|flag| !["config", "check", "help"].contains(&flag.as_str()))
        .collect();
    let settings = settings();
    let mut keys: Vec<_> = settings.iter().map(|line| key(line)).collect();
    keys.sort_unstable();
    flags.sort_unstable();
    assert!(flags.len() > 20, "{help}");
    assert_eq!(keys, flags);
}

#[test]
fn the_binary_reads_the_sample_configuration_with_every_default_spelled_out() {
    // Users and groups differ between systems; a number is one everywhere.
    let spelled_out = settings().into_iter().map(|line| match key(&line) {
        name @ ("user" | "group") => format!("{name} = \"0\""),
        _ => line,
    });
    let path = std::env::temp_dir().join(format!("ringspoa-{}.toml", std::process::id()));
    fs::write(&path, spelled_out.collect::<Vec<_>>().join("\n")).unwrap();
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

/// A process, ended by its pid whatever the test does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The keys that the sample marks are the ones that a reload says it leaves alone.
#[test]
fn what_the_sample_marks_waits_for_a_restart() {
    let sample = fs::read_to_string(root().join("dist/ringspoa.toml")).unwrap();
    // A mark stands in the line, or at the end of the comment right above it.
    let mut above = false;
    let mut marked: Vec<_> = sample
        .lines()
        .filter_map(|line| {
            let setting = line.strip_prefix("# ").unwrap_or(line).split_once(" = ");
            let setting = setting.filter(|(key, _)| !key.contains(' '));
            let marked = line.contains("# [restart]") || above;
            above = setting.is_none() && line.ends_with("[restart]");
            setting.filter(|_| marked).map(|(key, _)| key)
        })
        .collect();

    let path = std::env::temp_dir().join(format!("ringspoa-{}-marks.toml", std::process::id()));
    let before = "listen = \"127.0.0.1:0\"\n";
    fs::write(&path, before).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["serve", "--config"])
        .arg(&path)
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut log = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let started = log.next().unwrap().unwrap();
    assert!(started.contains("listening on"), "{started}");

    // Every setting with another value than its default.
    let changed = settings().into_iter().map(|line| {
        let key = key(&line);
        let value = match key {
            "listen" | "admin-listen" => "\"127.0.0.1:1\"",
            "cores" | "user" | "group" => "\"0\"",
            "driver" => "\"epoll\"",
            "ban-list" => "\"/dev/null\"",
            "never-empty-acks" => "true",
            "fallback" => "[{ scope = \"txn\", name = \"a\", value = 1 }]",
            "log-format" => "\"json\"",
            "log-level" => "\"debug\"",
            _ => "777",
        };
        format!("{key} = {value}\n")
    });
    fs::write(&path, changed.collect::<String>()).unwrap();
    let pid = i32::try_from(running.0.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    let reloaded = log
        .by_ref()
        .map(Result::unwrap)
        .find(|line| line.contains("reload"));
    fs::remove_file(&path).unwrap();
    let reloaded = reloaded.expect("a line about the reload");
    let (what, names) = reloaded
        .split_once("; these settings are used after a restart or SIGUSR2: ")
        .expect(&reloaded);
    assert!(
        what.contains("0 ranges banned, from /dev/null"),
        "{reloaded}"
    );
    let mut names: Vec<_> = names.split(", ").collect();
    names.sort_unstable();
    marked.sort_unstable();
    assert_eq!(marked, names, "marked, and said by a reload");
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

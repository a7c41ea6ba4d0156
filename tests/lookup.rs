//! `ringspoa lookup` and `ringspoa table`: what they say of lists and of what a server kept of a LAPI.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("ringspoa-lookup-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Two lists, an allow list, and the state of a LAPI that nobody listens for.
    fn config(&self) -> PathBuf {
        self.write("low.txt", "192.0.2.0/24\n203.0.113.9\n");
        self.write("high.txt", "198.51.100.0/24\n");
        self.write("allowed.txt", "192.0.2.200\n");
        self.write("state", state());
        let config = format!(
            r#"
[remediation]
allow-lists = ["{0}/allowed.txt"]
state-file = "{0}/state"

[[remediation.list]]
path = "{0}/low.txt"
remediation = "captcha"

[[remediation.list]]
path = "{0}/high.txt"
priority = 5

[remediation.crowdsec]
url = "http://127.0.0.1:9/"
key = "key-of-lapi"
"#,
            self.0.display()
        );
        self.write("ringspoa.toml", config)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// What a server writes, by the format that src/sources/warm.rs has: an hour and a half old.
fn state() -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        out.extend(text.as_bytes());
    }
    let mut out = b"ringspoa decisions\n\x01".to_vec();
    out.extend(1_u16.to_le_bytes());
    text(&mut out, "crowdsec");
    out.extend((now() - 5_400).to_le_bytes());
    let kinds = [
        ("cscli", "ban"),
        ("cscli", "captcha"),
        ("lists:tor", "ban"),
        ("CAPI", "mfa"),
    ];
    out.extend(u32::try_from(kinds.len()).unwrap().to_le_bytes());
    for (origin, word) in kinds {
        out.extend(0_u16.to_le_bytes());
        text(&mut out, origin);
        text(&mut out, word);
    }
    let later = u32::try_from(now() + 90_000).unwrap();
    let past = u32::try_from(now() - 60).unwrap();
    let rows: [([u8; 4], u8, u32, u32, i64); 7] = [
        ([192, 0, 2, 7], 32, 0, later, 71),
        ([192, 0, 2, 7], 32, 1, later, 72),
        ([192, 0, 2, 0], 28, 2, u32::MAX, 73),
        ([192, 0, 2, 200], 32, 0, u32::MAX, 74),
        ([198, 51, 100, 1], 32, 1, u32::MAX, 75),
        ([203, 0, 113, 1], 32, 3, u32::MAX, 76),
        ([203, 0, 113, 2], 32, 0, past, 77),
    ];
    out.extend((rows.len() as u64 + 1).to_le_bytes());
    for (address, len, kind, end, id) in rows {
        out.push(4);
        out.extend(address);
        out.push(len);
        out.extend(kind.to_le_bytes());
        out.extend(end.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    // A country, without an id.
    out.push(2);
    out.extend(b"FR");
    out.extend(0_u32.to_le_bytes());
    out.extend(u32::MAX.to_le_bytes());
    let sum = out.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    out.extend(sum.to_le_bytes());
    out
}

fn ringspoa(command: &str, config: Option<&PathBuf>, arguments: &[&str]) -> Output {
    let mut ringspoa = Command::new(env!("CARGO_BIN_EXE_ringspoa"));
    ringspoa.arg(command).args(arguments);
    if let Some(config) = config {
        ringspoa.arg("--config").arg(config);
    }
    ringspoa.output().unwrap()
}

fn good(output: Output) -> String {
    shown(output, 0)
}

fn shown(output: Output, code: i32) -> String {
    let told = String::from_utf8(output.stderr).unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), &*told), (Some(code), ""), "{out}");
    out
}

fn json(command: &str, config: &PathBuf, arguments: &[&str]) -> Value {
    let text = good(ringspoa(
        command,
        Some(config),
        &[arguments, &["--json"]].concat(),
    ));
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_answer_comes_with_its_reasons() {
    let folder = Folder::new("reasons");
    let config = folder.config();
    for (arguments, answer, expected) in [
        (
            &["192.0.2.7"][..],
            "ban",
            &[
                ("192.0.2.7 ban", "this holds"),
                ("192.0.2.7 captcha", "ban is harder"),
                (
                    "192.0.2.0/28 ban",
                    "a decision on the address itself goes before",
                ),
                (
                    "192.0.2.0/24 captcha",
                    "a decision on the address itself goes before",
                ),
            ][..],
        ),
        (
            &["::ffff:192.0.2.8"],
            "ban",
            &[
                ("192.0.2.0/28 ban", "this holds"),
                ("192.0.2.0/24 captcha", "a more specific range goes before"),
            ],
        ),
        (
            &["192.0.2.200"],
            "allow",
            &[
                ("192.0.2.200 ban", "the allow list goes before"),
                ("192.0.2.0/24 captcha", "the allow list goes before"),
            ],
        ),
        (
            &["198.51.100.1"],
            "ban",
            &[
                (
                    "198.51.100.1 captcha",
                    "its source has priority 0, and that of the other 5",
                ),
                ("198.51.100.0/24 ban", "this holds"),
            ],
        ),
        (
            &["203.0.113.1"],
            "unknown",
            &[("203.0.113.1 mfa", "this holds")],
        ),
        (&["203.0.113.2"], "allow", &[]),
        (&["2001:db8::1"], "allow", &[]),
        (
            &["203.0.113.2", "--country", "fr", "--as", "64500"],
            "ban",
            &[("FR ban", "this holds")],
        ),
        (
            &["203.0.113.9", "--country", "FR"],
            "captcha",
            &[
                ("203.0.113.9 captcha", "this holds"),
                (
                    "FR ban",
                    "what is closer to the address than that says something already",
                ),
            ],
        ),
    ] {
        let object = json("lookup", &config, arguments);
        assert_eq!(object["answer"], answer, "{arguments:?}: {object}");
        let decisions = object["decisions"].as_array().unwrap();
        let shown: Vec<_> = decisions
            .iter()
            .map(|one| {
                let what = format!("{} {}", one["value"].as_str()?, one["word"].as_str()?);
                assert_eq!(one["holds"], one["why"] == "this holds");
                Some((what, one["why"].as_str()?.to_owned()))
            })
            .map(Option::unwrap)
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(what, why)| ((*what).to_owned(), (*why).to_owned()))
            .collect();
        assert_eq!(shown, expected, "{arguments:?}");
    }
}

#[test]
fn text_names_source_origin_end_and_how_old_it_is() {
    let folder = Folder::new("text");
    let config = folder.config();
    let text = good(ringspoa("lookup", Some(&config), &["192.0.2.7"]));
    let folder = folder.0.display().to_string();
    for part in [
        "192.0.2.7: ban, because of the decision on Ip 192.0.2.7, as of 1 h 30 min ago\n",
        "* Ip 192.0.2.7: ban, origin cscli, source crowdsec, until 2",
        "left), id 71\n    this holds\n",
        "- Range 192.0.2.0/28: ban, origin lists:tor, source crowdsec, without end, id 73\n",
        &format!("captcha, origin low.txt, source list 1 {folder}/low.txt, without end\n"),
        "the LAPI knows the scenario: cscli decisions list --all --value 192.0.2.7\n",
        "the LAPI knows the scenario: cscli decisions list --all --value 192.0.2.0/28\n",
        &format!(
            "  crowdsec: what {folder}/state has of its answer 1 h 30 min ago; it was not asked now; \
             no server has had and written an answer since\n"
        ),
        "  list 1: its files as they are now\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = good(ringspoa("lookup", Some(&config), &["192.0.2.200"]));
    let expected = format!(
        "192.0.2.200: allow, because {folder}/allowed.txt has it, and an allow list goes before all\n"
    );
    assert!(text.starts_with(&expected), "{text}");
    let text = good(ringspoa("lookup", Some(&config), &["203.0.113.9"]));
    assert!(!text.contains("cscli"), "of a file: {text}");
    let text = good(ringspoa("lookup", Some(&config), &["203.0.113.1"]));
    assert!(text.contains("203.0.113.1: unknown (\"mfa\")"), "{text}");
}

/// An operator who reads "allow" where the server says "ban" looks in the wrong place.
#[test]
fn nothing_is_allowed_where_decisions_are_not_known() {
    let folder = Folder::new("unknown");
    let config = folder.config();
    let state = folder.0.join("state");
    let missing = format!(
        "a server that has its answer writes {}, which has none of it",
        state.display()
    );
    type Change = fn(&PathBuf);
    let cases: [(Change, &str); 3] = [
        (|state| fs::remove_file(state).unwrap(), &missing),
        (
            |state| fs::write(state, "other").unwrap(),
            "another sort of file",
        ),
        (
            |state| fs::set_permissions(state, fs::Permissions::from_mode(0o666)).unwrap(),
            "its mode should be 0600",
        ),
    ];
    for (change, reason) in cases {
        change(&state);
        // Also where a list says something that does not turn away.
        for address in ["203.0.113.1", "2001:db8::1"] {
            let text = shown(ringspoa("lookup", Some(&config), &[address]), 3);
            let (first, rest) = text.split_once('\n').unwrap();
            let expected =
                format!("{address}: unknown: decisions of crowdsec are not known here (");
            assert!(first.starts_with(&expected), "{text}");
            assert!(first.contains(reason) && !first.contains("allow"), "{text}");
            assert!(rest.contains("  crowdsec: not known here: "), "{text}");
            let text = shown(ringspoa("lookup", Some(&config), &[address, "--json"]), 3);
            let object: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(object["answer"], "unknown");
            assert_eq!(object["unknown_sources"][0], "crowdsec");
            assert!(
                object["because"].as_str().unwrap().contains(reason),
                "{text}"
            );
        }
        // An allow list goes before all, and what turns away is said with what may be against it.
        let text = good(ringspoa("lookup", Some(&config), &["192.0.2.200"]));
        assert!(text.starts_with("192.0.2.200: allow, because "), "{text}");
        let object = json("lookup", &config, &["198.51.100.1"]);
        assert_eq!(object["answer"], "ban");
        let because = object["because"].as_str().unwrap();
        assert!(
            because.contains("decisions of crowdsec are not known"),
            "{because}"
        );
        let text = shown(ringspoa("table", Some(&config), &["--count"]), 3);
        assert!(
            text.contains("        3  in all, without those of crowdsec\n"),
            "{text}"
        );
        let text = shown(ringspoa("table", Some(&config), &[]), 3);
        assert!(
            text.contains("\n3 of 3 decisions, without those of crowdsec\n"),
            "{text}"
        );
    }
}

#[test]
fn without_a_table_it_is_the_ban_list() {
    let folder = Folder::new("list");
    folder.write("bans.csv", "192.0.2.0/24 # all\n");
    let path = folder.0.join("bans.csv");
    let config = folder.write("a.toml", format!("ban-list = \"{}\"\n", path.display()));
    let object = json("lookup", &config, &["192.0.2.1"]);
    assert_eq!(object["answer"], "ban");
    assert_eq!(object["decisions"][0]["file"].as_str(), path.to_str());
    assert_eq!(json("lookup", &config, &["192.0.3.1"])["answer"], "allow");
    assert_eq!(json("table", &config, &[])["total"], 1);
    for (address, answer) in [("192.0.2.1", "ban"), ("9.9.9.9", "allow")] {
        let text = good(ringspoa("lookup", None, &[address]));
        assert!(
            text.starts_with(&format!("{address}: {answer}, because the embedded list")),
            "{text}"
        );
    }
    let empty = folder.write("empty.toml", "");
    let output = ringspoa("table", Some(&empty), &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("neither ban-list nor [remediation]"),
        "{told}"
    );
}

/// A LAPI tells a key what changed since its last question: one more who asks takes that from the server.
#[test]
fn no_lapi_is_asked_and_nothing_is_written() {
    let folder = Folder::new("asked");
    let config = folder.config();
    let lapi = TcpListener::bind("127.0.0.1:0").unwrap();
    lapi.set_nonblocking(true).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let address = lapi.local_addr().unwrap().to_string();
    fs::write(&config, text.replace("127.0.0.1:9", &address)).unwrap();
    let kept = fs::read(folder.0.join("state")).unwrap();
    let names = || {
        let entries = fs::read_dir(&folder.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    for (command, arguments) in [("lookup", &["192.0.2.7"][..]), ("table", &["--count"])] {
        good(ringspoa(command, Some(&config), arguments));
        let asked = lapi.accept().map(|(_, peer)| peer);
        let error = asked.expect_err("nobody connects");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(names(), before);
    assert_eq!(fs::read(folder.0.join("state")).unwrap(), kept);
}

#[test]
fn decisions_are_listed_and_counted() {
    let folder = Folder::new("table");
    let config = folder.config();
    let text = good(ringspoa("table", Some(&config), &["--origin", "lists"]));
    assert!(
        text.starts_with("Range 192.0.2.0/28: ban, origin lists:tor, source crowdsec, without end, id 73\n1 of 1 decisions\n"),
        "{text}"
    );
    let object = json("table", &config, &["--limit", "2"]);
    assert_eq!(object["total"], 10);
    assert_eq!(object["decisions"].as_array().unwrap().len(), 2);
    let none = json("table", &config, &["--origin", "list"]);
    assert_eq!(none["total"], 0);
    let object = json("table", &config, &["--count", "--origin", "cscli"]);
    let counts: Vec<_> = object["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            (
                text("scope"),
                text("remediation"),
                one["count"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("Country", "ban", 1),
        ("Ip", "captcha", 2),
        ("Ip", "ban", 2),
    ];
    let expected = expected.map(|(scope, word, count)| (scope.to_owned(), word.to_owned(), count));
    assert_eq!(counts, expected);
    let text = good(ringspoa("table", Some(&config), &["--count"]));
    assert!(
        text.contains("        1  ban      Range    lists:tor\n"),
        "{text}"
    );
    assert!(text.contains("       10  in all\n"), "{text}");
    let text = good(ringspoa("table", Some(&config), &["--origin", "CSCLI"]));
    let origins = "CAPI, cscli, high.txt, lists:tor, low.txt";
    let expected = format!("0 of 0 decisions; there are decisions of {origins}\n");
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn decisions_on_a_range_are_listed() {
    let folder = Folder::new("range");
    let config = folder.config();
    for (range, expected) in [
        (
            "192.0.2.0/28",
            &["192.0.2.0/24", "192.0.2.0/28", "192.0.2.7", "192.0.2.7"][..],
        ),
        ("192.0.2.128/25", &["192.0.2.0/24", "192.0.2.200"]),
        ("203.0.113.9", &["203.0.113.9"]),
        ("9.9.9.0/24", &[]),
    ] {
        let object = json("table", &config, &["--on", range]);
        let rows = object["decisions"].as_array().unwrap().iter();
        let mut values: Vec<_> = rows.map(|row| row["value"].as_str().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, expected, "{range}");
    }
    let output = ringspoa("lookup", Some(&config), &["192.0.2.0/28"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("want one address") && told.contains("--on 192.0.2.0/28"),
        "{told}"
    );
    let object = json("lookup", &config, &["192.0.2.7/32"]);
    assert_eq!(object["address"], "192.0.2.7");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let folder = Folder::new("refused");
    let config = folder.config();
    for (command, config, arguments) in [
        ("lookup", Some(&config), &["192.0.2"][..]),
        ("lookup", Some(&config), &["192.0.2.1", "--country", "FRA"]),
        (
            "lookup",
            Some(&folder.0.join("missing.toml")),
            &["192.0.2.1"],
        ),
        ("table", None, &[]),
        ("table", Some(&config), &["--count", "--limit", "1"]),
    ] {
        let output = ringspoa(command, config, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    fs::remove_file(folder.0.join("low.txt")).unwrap();
    let output = ringspoa("lookup", Some(&config), &["192.0.2.1"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("low.txt"), "{told}");
}

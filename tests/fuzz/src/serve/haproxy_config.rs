//! HAProxy's configuration, as `ringspoa check` reads it.

use std::time::Duration;

use ringspoa::agents::remediation::{AddressTable, RemediationAgent};
use ringspoa::haproxy_config::{
    CheckOptions, ConfigFile, Finding, HaproxyVersion, IDS, check, engine_files, guess_version,
    sample_types,
};
use ringspoa::{
    Agent, AgentDeclaration, ArgumentDeclaration, MessageDeclaration, OtherMessages, ValueTypes,
    Var,
};

/// What parts the files of an input.
const SEPARATOR: &[u8] = b"\n---\n";

/// Wants what ours does not, and refuses what ours reads.
fn strict() -> AgentDeclaration {
    const MESSAGE: MessageDeclaration = MessageDeclaration::new(
        "check-client-ip",
        &[
            ArgumentDeclaration::new("ip", ValueTypes::IPV4, "an IPv4 address"),
            ArgumentDeclaration::new("ua", ValueTypes::STRING, "text"),
        ],
    )
    .denying_unknown_arguments();
    let mut agent = AgentDeclaration::new("ringspoa")
        .with_variable(Var::<str>::txn("remediation"))
        .with_variable(Var::<i64>::proc("total"))
        .with_variable(Var::<bool>::res("seen"))
        .with_other_messages(OtherMessages::Refused);
    agent.messages.push(MESSAGE);
    agent
}

/// Files of any bytes: findings are of lines that are there, can be printed, and do not change with
/// comments.
pub fn haproxy_config(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let known = [
        HaproxyVersion::V2_6,
        HaproxyVersion::V2_8,
        HaproxyVersion::V3_0,
        HaproxyVersion::V3_1,
        HaproxyVersion::V3_2,
        HaproxyVersion::V3_3,
    ];
    let mut options = CheckOptions::default();
    if let Some(version) = known.get(usize::from(choice % 8)) {
        options = options.with_version(*version);
    }
    options = match choice >> 4 & 3 {
        0 => options.with_agents([RemediationAgent::new(AddressTable::default()).declaration()]),
        1 => options.with_agent(strict()),
        _ => options.with_agents([strict()]),
    };
    if choice & 0x40 != 0 {
        options = options
            .with_deadline(Duration::from_millis(100))
            .with_max_frame_size(4096)
            .with_listen(["127.0.0.1:9000".to_owned(), "unix@/run/a.sock".to_owned()]);
    }

    let mut texts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR)
    {
        texts.push(&rest[..=at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    texts.push(rest);
    let file = |(index, text): (usize, &&[u8])| ConfigFile::new(index.to_string(), *text);
    let files: Vec<_> = texts.iter().enumerate().map(file).collect();

    let report = check(&files, &options);
    assert_eq!(
        report.version,
        options
            .version
            .or_else(|| guess_version(&files))
            .unwrap_or(HaproxyVersion::V3_2)
    );
    for finding in &report.findings {
        check_finding(finding, &texts);
    }
    let places = report.findings.iter().map(|finding| {
        let file: usize = finding.file.parse().expect("a name of these");
        (file, finding.line)
    });
    assert!(places.is_sorted());
    for path in engine_files(&files) {
        assert!(!files.iter().any(|file| file.name() == path), "{path}");
    }

    // Line ends are kept as they are: one that is missing is a finding.
    let commented: Vec<_> = texts
        .iter()
        .enumerate()
        .filter(|(_, text)| text.ends_with(b"\n"))
        .map(|(index, text)| {
            let text = [text, &b"  # and so on\n\n"[..]].concat();
            ConfigFile::new(index.to_string(), text)
        })
        .collect();
    if commented.len() == files.len() {
        assert_eq!(check(&commented, &options), report);
    }

    for text in texts {
        if let Ok(text) = std::str::from_utf8(text) {
            assert_ne!(sample_types(text), Some(ValueTypes::NULL));
        }
    }
}

fn check_finding(finding: &Finding, texts: &[&[u8]]) {
    let index: usize = finding.file.parse().expect("a name of these");
    let lines = texts[index].split(|&byte| byte == b'\n').count();
    assert!((1..=lines).contains(&finding.line), "{finding}");
    assert!(IDS.iter().any(|(id, _)| *id == finding.id), "{finding}");
    let shown = finding.to_string();
    assert_eq!(shown.lines().count(), 2, "{shown:?}");
    assert!(
        !shown.chars().any(|c| c.is_control() && c != '\n') && shown.len() < 2_000,
        "{shown:?}"
    );
    assert!(
        !finding.text.is_empty() && !finding.fix.is_empty(),
        "{shown:?}"
    );
}

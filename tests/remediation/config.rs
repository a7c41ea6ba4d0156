//! Settings of hosts and what is said of them; declarations of what is sent and set.

use ringspoa::agents::remediation::messages::{
    CrowdsecHttpBody, CrowdsecHttpNoBody, CrowdsecTcp, REMEDIATION, VARIABLES,
};
use ringspoa::agents::remediation::{
    HostSettings, Policy, PolicySettings, RemediationWords, parse_list,
};
use ringspoa::{AgentDeclaration, Message, SpoeConfig};

use crate::site::{BANNED, FREE, SUSPECT, policy, site_of, visit};

#[test]
fn a_host_without_a_pattern_is_named_with_its_place() {
    for (host, error) in [
        (
            "{}",
            "shop.yaml: host: is missing: name the host, or * for all",
        ),
        (
            r#"{ "host": "[a" }"#,
            "shop.yaml: host: pattern \"[a\" has no ] to the [ at 1",
        ),
    ] {
        let settings: HostSettings = serde_json::from_str(host).unwrap();
        let settings = PolicySettings {
            hosts: vec![("shop.yaml".to_owned(), settings)],
            ..PolicySettings::default()
        };
        assert_eq!(Policy::new(settings).unwrap_err().to_string(), error);
    }
}

#[test]
fn what_is_wrong_with_a_host_is_said() {
    let (policy, problems) = policy(
        &[
            r#"{ "host": "a.example", "ban": { "contact_us_url": "x\" onclick=\"y" } }"#,
            r#"{ "host": "b.example", "ban": { "contact_us_url": "mailto:a@b?subject=a%20b" } }"#,
            r#"{ "host": "c.example", "appsec": { "url": "127.0.0.1:7422", "timeout": "fast" } }"#,
            r#"{ "host": "d.example", "appsec": { "url": "http://127.0.0.1:7422", "timeout": "fast",
                 "failure_action": "closed" } }"#,
            r#"{ "host": "A.example", "ban": { "contact_us_url": "mailto:b@example" } }"#,
        ],
        None,
    );
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let starts = [
        "host 1: ban.contact-us-url has the character '\"'",
        "host 2: ban.contact-us-url has a '%'",
        "host 3: appsec.url is \"127.0.0.1:7422\", which is not asked",
        "host 4: appsec.failure-action is \"closed\", for which passthrough is used",
        "host 4: appsec.api-key is missing",
        "host 4: appsec.timeout \"fast\" is not a duration, as in 4h, 1h30m or 90s: 200ms is used",
        "host 5: host is that of host 1 too, which is taken instead",
    ];
    assert_eq!(texts.len(), starts.len(), "{texts:#?}");
    for (text, start) in texts.iter().zip(starts) {
        assert!(text.starts_with(start), "{text}");
    }
    let errors: Vec<bool> = problems.iter().map(|problem| problem.is_error).collect();
    assert_eq!(errors, [true, false, true, true, false, false, true]);
    let url = |host: &[u8]| policy.hosts().get(host).unwrap().contact_us_url.clone();
    assert_eq!(url(b"a.example"), "");
    assert_eq!(url(b"b.example"), "mailto:a@b?subject=a%20b");
}

/// A longer one would make answers that do not fit into a frame, and those that are banned pass.
#[test]
fn texts_for_pages_have_a_greatest_length() {
    let host = |len| {
        let text = "x".repeat(len);
        format!(r#"{{ "host": "a.example", "ban": {{ "contact_us_url": "{text}" }} }}"#)
    };
    let (longest, problems) = policy(&[&host(2048)], None);
    assert_eq!(problems, []);
    let ack = site_of(longest).http(&visit(BANNED, "a.example"));
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
    let (too_long, problems) = policy(&[&host(2049)], None);
    let text = problems[0].to_string();
    let start = "host 1: ban.contact-us-url has 2049 bytes: want 2048 at most";
    assert!(text.starts_with(start) && problems[0].is_error, "{text}");
    let ack = site_of(too_long).http(&visit(BANNED, "a.example"));
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
}

#[test]
fn who_is_always_let_through_is_not_asked_about() {
    let settings = PolicySettings {
        appsec: Some(
            serde_json::from_str(r#"{ "url": "http://127.0.0.1:1", "api_key": "k" }"#).unwrap(),
        ),
        allowed: parse_list("192.0.2.0/25").unwrap(),
        words: RemediationWords::new([("mfa", "captcha")]).unwrap(),
        ..PolicySettings::default()
    };
    let (policy, problems) = Policy::new(settings).unwrap();
    assert_eq!(problems, []);
    let mut site = site_of(policy);
    for address in [BANNED, SUSPECT, FREE] {
        assert_eq!(site.tcp(address).get(REMEDIATION), Some("allow"));
        let ack = site.http(&visit(address, "shop.example"));
        assert_eq!(ack.get(REMEDIATION), Some("allow"));
    }
    assert!(site.asked().is_empty());
    // A word with a meaning.
    assert_eq!(site.tcp("203.0.113.9").get(REMEDIATION), Some("captcha"));
}

#[test]
fn the_declaration_makes_a_configuration() {
    let mut declaration = AgentDeclaration::new("crowdsec-agent")
        .with_message::<CrowdsecTcp>()
        .with_message::<CrowdsecHttpBody<'_>>()
        .with_message::<CrowdsecHttpNoBody<'_>>();
    for variable in VARIABLES {
        declaration = declaration.with_variable(variable);
    }
    assert_eq!(CrowdsecTcp::DECLARATION.aliases, ["crowdsec-ip"]);
    let text = SpoeConfig::new(&declaration).spoe().unwrap();
    for line in [
        "spoe-group crowdsec-http-body",
        "spoe-group crowdsec-http-no-body",
        "event on-client-session",
        "src-ip=src",
        "body=req.body",
        "headers=req.hdrs",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}

//! AppSec beyond the vectors: what it is told, what its answers mean, and how they meet captchas.

use ringspoa::Agent;
use ringspoa::agents::remediation::messages::{
    APPSEC_HTTP_STATUS, CAPTCHA_COOKIE_HEADER, CAPTCHA_SITE_KEY, CAPTCHA_STATUS, CONTACT_US_URL,
    REDIRECT, REMEDIATION,
};
use ringspoa::agents::remediation::{EndpointKind, NoAnswer, OutsideRequest, Policy};

use crate::site::{
    BANNED, CAPTCHA, FREE, NOW, REFUSED, SOLVED, SUSPECT, Says, Site, Visit, claims, names, policy,
    site, site_of, token, visit,
};

const APPSEC: &str = r#"{ "url": "http://127.0.0.1:7422/", "api_key": "key-1" }"#;
const PASSES: Says = Says::Json(200, r#"{"action":"allow"}"#);
const WANTS_CAPTCHA: Says = Says::Json(403, r#"{"action":"captcha","http_status":403}"#);
const BANS: Says = Says::Json(403, r#"{"action":"ban","http_status":406}"#);

fn kinds(asked: &[(EndpointKind, OutsideRequest)]) -> Vec<EndpointKind> {
    asked.iter().map(|(kind, _)| *kind).collect()
}

/// The one question that AppSec is asked about a request.
fn question(site: &mut Site<impl Agent>, request: &Visit<'_>) -> OutsideRequest {
    site.http(request);
    let mut asked = site.asked();
    assert_eq!(kinds(&asked), [EndpointKind::AppSec]);
    asked.remove(0).1
}

#[test]
fn what_appsec_is_told() {
    let mut site = site(Some(APPSEC));
    let mut request = visit("::ffff:192.0.2.77", "shop.example:8443");
    request.more_headers = "user-agent: curl/8\r\naccept: */*\r\naccept: text/html\r\n\
        connection: close, X-Hop\r\nx-hop: 1\r\nupgrade: websocket\r\ncontent-length: 3\r\n\
        transfer-encoding: chunked\r\nx-crowdsec-appsec-ip: 127.0.0.1\r\n\
        x_crowdsec_appsec_verb: HEAD\r\nx bad: 1\r\nx-control: a\x01b\r\n";
    let question = question(&mut site, &request);
    assert!(!question.is_post && question.body.is_empty());
    assert_eq!(question.timeout.as_millis(), 200);
    let headers: Vec<(&str, &str)> = question
        .headers()
        .map(|(name, value)| {
            (
                std::str::from_utf8(name).unwrap(),
                std::str::from_utf8(value).unwrap(),
            )
        })
        .collect();
    assert_eq!(
        headers,
        [
            ("user-agent", "curl/8"),
            ("accept", "*/*"),
            ("accept", "text/html"),
            // HAProxy passes on what the client's `Connection` names, so AppSec is to see it too.
            ("x-hop", "1"),
            ("x-control", "a b"),
            ("x-crowdsec-appsec-ip", "192.0.2.77"),
            ("x-crowdsec-appsec-uri", "/p?x=1"),
            ("x-crowdsec-appsec-verb", "GET"),
            ("x-crowdsec-appsec-api-key", "key-1"),
            ("x-crowdsec-appsec-http-version", "11"),
            ("x-crowdsec-appsec-host", "shop.example:8443"),
            ("x-crowdsec-appsec-user-agent", "curl/8"),
            ("x-crowdsec-appsec-transaction-id", "id-1"),
        ]
    );
    assert!(!format!("{question:?}").contains("key-1"));
}

#[test]
fn bodies_versions_and_urls() {
    let mut site = site(Some(APPSEC));
    let request = visit(FREE, "shop.example");
    let posted = Visit {
        method: "PATCH",
        body: "a=1",
        ..request.clone()
    };
    let posted = question(&mut site, &posted);
    assert!(posted.is_post);
    assert_eq!(&posted.body[..], b"a=1");
    assert_eq!(posted.header("x-crowdsec-appsec-verb"), Some(&b"PATCH"[..]));
    for (version, digits) in [
        ("1.0", "10"),
        ("1.1", "11"),
        ("2.0", "20"),
        ("3.0", "30"),
        ("", "11"),
    ] {
        let asked = question(
            &mut site,
            &Visit {
                version,
                ..request.clone()
            },
        );
        assert_eq!(
            asked.header("x-crowdsec-appsec-http-version"),
            Some(digits.as_bytes()),
            "{version}"
        );
    }
    // Path and query, not the absolute URL that HTTP/2 has.
    for (path, query, uri) in [
        ("/p", Some("x=1"), "/p?x=1"),
        ("/p", Some(""), "/p?"),
        ("/a b\u{7f}", None, "/a%20b%7F"),
        ("/%2e", None, "/%2e"),
        ("*", None, "*"),
    ] {
        let url = "http://shop.example/p?x=1";
        let asked = question(
            &mut site,
            &Visit {
                path,
                query,
                url,
                ..request.clone()
            },
        );
        assert_eq!(asked.header("x-crowdsec-appsec-uri"), Some(uri.as_bytes()));
    }
}

#[test]
fn what_answers_mean() {
    let mut site = site(Some(APPSEC));
    for (says, remediation, status) in [
        (PASSES, "allow", None),
        (Says::Json(200, "not JSON"), "allow", None),
        (BANS, "ban", Some("406")),
        (Says::Json(403, ""), "ban", None),
        (Says::Json(403, r#"{"action":"allow"}"#), "allow", None),
        (Says::Json(403, r#"{"action":"challenge"}"#), "ban", None),
        (
            Says::Json(418, r#"{"action":"ban","http_status":99999}"#),
            "ban",
            None,
        ),
        (
            Says::Json(418, r#"{"action":"ban","http_status":99}"#),
            "ban",
            None,
        ),
        (WANTS_CAPTCHA, "captcha", Some("403")),
        // What is no answer lets pass, unless it is to do otherwise.
        (Says::Json(401, ""), "allow", None),
        (Says::Json(404, ""), "allow", None),
        (Says::Json(500, r#"{"action":"ban"}"#), "allow", None),
        (Says::Fails(NoAnswer::Failed), "allow", None),
        // Only one that blocks has a page.
        (Says::Fails(NoAnswer::TooLarge), "ban", None),
    ] {
        site.state().appsec = says;
        let ack = site.http(&visit(FREE, "shop.example"));
        assert_eq!(ack.get(REMEDIATION), Some(remediation));
        let read = ack.get(APPSEC_HTTP_STATUS);
        assert_eq!(read, status);
    }
}

#[test]
fn appsec_adds_to_decisions_and_takes_nothing_away() {
    let mut site = site(Some(APPSEC));
    site.state().appsec = PASSES;
    let ack = site.http(&visit("203.0.113.9", "shop.example"));
    assert_eq!(ack.get(REMEDIATION), Some("unknown"));
    assert_eq!(site.asked().len(), 1);
    for address in [BANNED, SUSPECT] {
        site.http(&visit(address, "shop.example"));
        assert!(site.asked().is_empty(), "{address} does not pass anyway");
    }
}

fn always(appsec: &str) -> Policy {
    let host = format!(
        r#"{{ "host": "shop.example", "captcha": {{ {CAPTCHA} }}, "appsec": {{ {appsec} }} }}"#
    );
    let (policy, problems) = policy(&[&host], Some(APPSEC));
    assert_eq!(problems, []);
    policy
}

#[test]
fn with_always_send_it_is_asked_about_all() {
    // Of the host's own AppSec, and of the one of all hosts.
    for appsec in [
        r#""always_send": true, "url": "http://127.0.0.1:7423/""#,
        r#""always_send": true"#,
    ] {
        let mut site = site_of(always(appsec));
        // A ban is not waited for.
        let ack = site.http(&visit(BANNED, "shop.example"));
        assert_eq!(ack.get(REMEDIATION), Some("ban"));
        let asked = site.asked();
        assert_eq!(kinds(&asked), [EndpointKind::AppSec]);
        let key = asked[0].1.header("x-crowdsec-appsec-api-key");
        assert_eq!(key, Some(&b"key-1"[..]), "that of all hosts");

        site.state().appsec = BANS;
        let ack = site.http(&visit(SUSPECT, "shop.example"));
        assert_eq!(ack.get(REMEDIATION), Some("ban"));
        assert_eq!(ack.get(CONTACT_US_URL), Some(""));
        assert!(
            site.counts()
                .contains(&"blocked{appsec,ipv4,ban}".to_owned())
        );
    }
}

#[test]
fn a_solved_captcha_is_judged_by_appsec_after_that() {
    let mut site = site(Some(APPSEC));
    let request = visit(SUSPECT, "shop.example").with_solution();
    for (provider, appsec, remediation, asked) in [
        (SOLVED, PASSES, "allow", 2),
        (SOLVED, BANS, "ban", 2),
        (SOLVED, Says::Nothing, "allow", 2),
        // It was solved a moment ago.
        (SOLVED, WANTS_CAPTCHA, "allow", 2),
        (REFUSED, BANS, "captcha", 1),
        (Says::Nothing, BANS, "captcha", 1),
    ] {
        site.state().provider = provider;
        site.state().appsec = appsec;
        let ack = site.http(&request);
        assert_eq!(ack.get(REMEDIATION), Some(remediation));
        assert_eq!(site.asked().len(), asked);
    }
}

#[test]
fn both_may_answer_in_any_order() {
    for provider_first in [true, false] {
        let mut site = site_of(always(r#""always_send": true"#));
        site.state().provider_first = provider_first;
        let request = visit(SUSPECT, "shop.example").with_solution();
        for (provider, appsec, remediation) in [
            (SOLVED, PASSES, "allow"),
            (SOLVED, BANS, "ban"),
            (SOLVED, WANTS_CAPTCHA, "allow"),
            (REFUSED, PASSES, "captcha"),
            (REFUSED, BANS, "ban"),
            (Says::Nothing, BANS, "ban"),
            (SOLVED, Says::Nothing, "allow"),
            (Says::Nothing, Says::Nothing, "captcha"),
        ] {
            site.state().provider = provider;
            site.state().appsec = appsec;
            let ack = site.http(&request);
            assert_eq!(ack.get(REMEDIATION), Some(remediation));
        }
    }
}

#[test]
fn a_captcha_that_appsec_wants_is_shown_solved_and_remembered() {
    let mut site = site(Some(APPSEC));
    site.state().appsec = WANTS_CAPTCHA;
    let first = site.http(&visit(FREE, "shop.example"));
    assert_eq!(first.get(REMEDIATION), Some("captcha"));
    assert_eq!(first.get(CAPTCHA_SITE_KEY), Some("site-1"));
    assert_eq!(claims(&first).via.as_deref(), Some("appsec"));
    assert_eq!(
        site.counts(),
        [
            "processed{ipv4}",
            "blocked{appsec,ipv4,captcha}",
            "captcha Issued",
            "appsec captcha"
        ]
    );

    // It is solved by a request that AppSec wants a captcha for.
    let request = visit(FREE, "shop.example")
        .with_solution()
        .with_cookie(&token(&first));
    site.asked();
    let unanswered = site.http(&request);
    assert_eq!(unanswered.get(REMEDIATION), Some("captcha"));
    site.state().provider = SOLVED;
    let solved = site.http(&request);
    assert_eq!(solved.get(REMEDIATION), Some("allow"));
    assert_eq!(solved.get(REDIRECT), Some("1"));
    use EndpointKind::{AppSec, Captcha};
    assert_eq!(kinds(&site.asked()), [AppSec, Captcha, AppSec, Captcha]);
    let solved = token(&solved);
    site.counts();

    let ack = site.http(&visit(FREE, "shop.example").with_cookie(&solved));
    assert_eq!(ack.get(REMEDIATION), Some("allow"));
    assert_eq!(ack.get(CAPTCHA_STATUS), Some("valid"));
    assert_eq!(
        site.counts(),
        ["processed{ipv4}", "captcha Passed", "appsec captcha"]
    );

    // A request in between that AppSec has nothing against does not lose the cookie.
    site.state().appsec = PASSES;
    let ack = site.http(&visit(FREE, "shop.example").with_cookie(&solved));
    assert_eq!(names(&ack), ["remediation"]);
    site.state().now = NOW + 24 * 60 * 60;
    let ack = site.http(&visit(FREE, "shop.example").with_cookie(&solved));
    assert!(
        ack.get(CAPTCHA_COOKIE_HEADER)
            .unwrap()
            .contains("Max-Age=0")
    );
}

#[test]
fn a_captcha_that_cannot_be_shown_is_the_fallback() {
    for (host, remediation) in [
        (r#"{ "host": "*" }"#, "ban"),
        (
            r#"{ "host": "*", "captcha": { "fallback_remediation": "allow" } }"#,
            "allow",
        ),
        (r#"{ "host": "other.example" }"#, "ban"),
    ] {
        let (policy, _) = policy(&[host], Some(APPSEC));
        let mut site = site_of(policy);
        site.state().appsec = WANTS_CAPTCHA;
        let ack = site.http(&visit(FREE, "shop.example"));
        assert_eq!(ack.get(REMEDIATION), Some(remediation), "{host}");
        let listed = site.http(&visit("203.0.113.9", "shop.example"));
        let expected = if remediation == "allow" {
            "unknown"
        } else {
            "ban"
        };
        assert_eq!(listed.get(REMEDIATION), Some(expected), "{host}");
        assert_eq!(ack.get(CAPTCHA_STATUS), None);
    }
}

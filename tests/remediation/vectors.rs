//! The vectors that the agent's behaviour was specified by, by their numbers. Some end otherwise than with
//! CrowdSec's bouncer, on purpose: 2, 5, 19 and 23, and the ends of 14 and 18. Numbers 20 to 22 are about
//! the feed of decisions, which is not in here.

use ringspoa::agents::remediation::messages::{
    APPSEC_HTTP_STATUS, CAPTCHA_COOKIE_HEADER, CAPTCHA_FRONTEND_JS, CAPTCHA_FRONTEND_KEY,
    CAPTCHA_SITE_KEY, CAPTCHA_STATUS, CONTACT_US_URL, DECISION_TYPE, ISOCODE, REDIRECT,
    REMEDIATION,
};
use ringspoa::agents::remediation::{CaptchaStatus, Claims, NoAnswer};
use ringspoa::spop::{Argument, TypedData};

use crate::site::{
    BANNED, CAPTCHA, FREE, NOW, REFUSED, SOLVED, SUSPECT, Says, UUID, claims, key, names, policy,
    site, site_of, visit,
};

const DELETION: &str =
    "crowdsec_captcha_cookie=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict";
const APPSEC: &str = r#"{ "url": "http://127.0.0.1:7422/", "api_key": "key-1" }"#;

/// A token of these claims.
fn token(st: CaptchaStatus, exp: u64) -> String {
    key().sign(&Claims {
        exp,
        host: None,
        iat: NOW - 60,
        net: None,
        st,
        uuid: "old".to_owned(),
        via: None,
    })
}

fn valid() -> String {
    token(CaptchaStatus::Valid, NOW + 60)
}

#[test]
fn vector_01_a_banned_address_over_tcp() {
    let mut site = site(None);
    let ack = site.tcp(BANNED);
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
    assert_eq!(ack.get(ISOCODE), Some("FR"));
    assert_eq!(names(&ack), ["remediation", "isocode"]);
    assert_eq!(
        site.counts(),
        ["processed{ipv4}", "blocked{cscli,ipv4,ban}"]
    );
}

/// It is the IPv4 address that it is.
#[test]
fn vector_02_a_banned_address_mapped_to_ipv6() {
    let mut site = site(None);
    let mapped = TypedData::Ipv6("::ffff:192.0.2.1".parse().unwrap());
    let ack = site
        .harness()
        .notify_with(|notify| notify.message("crowdsec-tcp", [Argument::new("src-ip", mapped)]))
        .ack();
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
    assert_eq!(
        site.counts(),
        ["processed{ipv4}", "blocked{cscli,ipv4,ban}"]
    );
}

#[test]
fn vectors_03_and_04_the_more_specific_network_counts() {
    let mut site = site(None);
    let ack = site.tcp("198.51.100.200");
    assert_eq!(ack.get(REMEDIATION), Some("captcha"));
    assert_eq!(
        site.counts(),
        ["processed{ipv4}", "blocked{CAPI,ipv4,captcha}"]
    );
    let ack = site.tcp("198.51.100.5");
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
}

#[test]
fn vector_05_a_word_of_its_own() {
    let mut site = site(None);
    let ack = site.tcp("203.0.113.9");
    assert_eq!(ack.get(REMEDIATION), Some("unknown"));
    // The word is not lost.
    assert_eq!(ack.get(DECISION_TYPE), Some("mfa"));
    assert_eq!(site.counts(), ["processed{ipv4}"]);
}

#[test]
fn vector_06_no_address() {
    let mut site = site(None);
    for arguments in [&[][..], &[Argument::new("src-ip", TypedData::Null)]] {
        let arguments = arguments.iter().copied();
        let ack = site
            .harness()
            .notify_with(|notify| notify.message("crowdsec-tcp", arguments))
            .ack();
        assert!(ack.is_empty() && ack.fault().is_none());
    }
    let mut request = visit(BANNED, "shop.example");
    request.address = None;
    assert!(site.http(&request).is_empty());
    request.remediation = Some("captcha");
    let ack = site.http(&request);
    assert_eq!(
        (ack.get(REMEDIATION), names(&ack).len()),
        (Some("captcha"), 1)
    );
    assert!(site.counts().is_empty());
}

#[test]
fn vector_07_a_banned_address_on_a_host() {
    let mut site = site(None);
    let ack = site.http(&visit(BANNED, "shop.example"));
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
    assert_eq!(ack.get(CONTACT_US_URL), Some("mailto:x@example"));
    assert_eq!(names(&ack), ["remediation", "isocode", "contact_us_url"]);
    let ack = site.http(&visit(BANNED, "other.example"));
    assert_eq!(ack.get(CONTACT_US_URL), Some(""), "set, and empty");
}

#[test]
fn vector_08_a_banned_address_on_no_host() {
    let (policy, _) = policy(&[r#"{ "host": "shop.example" }"#], None);
    let mut site = site_of(policy);
    let ack = site.http(&visit(BANNED, "other.example"));
    assert_eq!(names(&ack), ["remediation", "isocode"]);
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
}

#[test]
fn vector_09_a_suspect_without_a_cookie() {
    let mut site = site(None);
    let ack = site.http(&visit(SUSPECT, "shop.example"));
    assert_eq!(ack.get(REMEDIATION), Some("captcha"));
    assert_eq!(ack.get(CAPTCHA_SITE_KEY), Some("site-1"));
    assert_eq!(ack.get(CAPTCHA_FRONTEND_KEY), Some("h-captcha"));
    let script = ack.get(CAPTCHA_FRONTEND_JS);
    assert_eq!(script, Some("https://hcaptcha.com/1/api.js"));
    assert_eq!(ack.get(CAPTCHA_STATUS), Some("pending"));
    assert!(ack.get(REDIRECT).is_none() && ack.get(CONTACT_US_URL).is_none());
    let cookie = ack.get(CAPTCHA_COOKIE_HEADER).unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Strict"),
        "{cookie}"
    );
    let expected = Claims {
        exp: NOW + 30 * 60,
        host: None,
        iat: NOW,
        net: None,
        st: CaptchaStatus::Pending,
        uuid: UUID.to_owned(),
        via: None,
    };
    assert_eq!(claims(&ack), expected);
    assert_eq!(
        site.counts(),
        [
            "processed{ipv4}",
            "blocked{cscli,ipv4,captcha}",
            "captcha Issued"
        ]
    );
}

#[test]
fn vector_10_a_suspect_who_solved_it() {
    let mut site = site(None);
    let ack = site.http(&visit(SUSPECT, "shop.example").with_cookie(&valid()));
    assert_eq!(ack.get(REMEDIATION), Some("allow"));
    assert_eq!(ack.get(CAPTCHA_STATUS), Some("valid"));
    assert_eq!(
        names(&ack),
        [
            "remediation",
            "captcha_site_key",
            "captcha_frontend_key",
            "captcha_frontend_js",
            "captcha_status"
        ]
    );
    assert_eq!(site.counts(), ["processed{ipv4}", "captcha Passed"]);
}

#[test]
fn vector_11_a_solution_that_is_one() {
    let mut site = site(None);
    site.state().provider = SOLVED;
    let pending = token(CaptchaStatus::Pending, NOW + 60);
    let request = visit(SUSPECT, "shop.example").with_solution();
    for (request, uuid) in [
        (request.clone().with_cookie(&pending), "old"),
        (request, UUID),
    ] {
        let ack = site.http(&request);
        assert_eq!(ack.get(REMEDIATION), Some("allow"));
        assert_eq!(ack.get(CAPTCHA_STATUS), Some("valid"));
        assert_eq!(ack.get(REDIRECT), Some("1"));
        let claims = claims(&ack);
        assert_eq!((claims.st, &*claims.uuid), (CaptchaStatus::Valid, uuid));
        assert_eq!((claims.iat, claims.exp), (NOW, NOW + 24 * 60 * 60));
        assert_eq!(site.counts(), ["processed{ipv4}", "captcha Solved"]);
    }
}

#[test]
fn vector_12_a_solution_that_is_none_or_is_not_judged_in_time() {
    let mut site = site(None);
    let pending = token(CaptchaStatus::Pending, NOW + 60);
    let request = visit(SUSPECT, "shop.example")
        .with_solution()
        .with_cookie(&pending);
    for (says, count) in [
        (REFUSED, "captcha Refused"),
        (Says::Nothing, "captcha TimedOut"),
        (Says::Fails(NoAnswer::TimedOut), "captcha TimedOut"),
        (Says::Fails(NoAnswer::Failed), "captcha Unanswered"),
        (Says::Json(200, "true"), "captcha Unanswered"),
    ] {
        site.state().provider = says;
        let ack = site.http(&request);
        assert_eq!(ack.get(REMEDIATION), Some("captcha"));
        assert_eq!(ack.get(CAPTCHA_STATUS), Some("pending"));
        assert!(ack.get(CAPTCHA_COOKIE_HEADER).is_none() && ack.get(REDIRECT).is_none());
        let expected = ["processed{ipv4}", "blocked{cscli,ipv4,captcha}", count];
        assert_eq!(site.counts(), expected);
    }
}

#[test]
fn vector_13_a_suspect_on_no_host() {
    let (policy, _) = policy(&[r#"{ "host": "shop.example" }"#], None);
    let mut site = site_of(policy);
    let ack = site.http(&visit(SUSPECT, "other.example"));
    assert_eq!((ack.get(REMEDIATION), names(&ack).len()), (Some("ban"), 1));
    let expected = [
        "processed{ipv4}",
        "blocked{cscli,ipv4,captcha}",
        "captcha NotShown",
    ];
    assert_eq!(site.counts(), expected);
    let ack = site.http(&visit(SUSPECT, ""));
    assert_eq!(ack.get(REMEDIATION), Some("ban"), "no Host is no host");
}

#[test]
fn vector_14_a_suspect_on_a_host_without_a_captcha_that_works() {
    for (fallback, remediation, count) in [("allow", "allow", 1), ("ban", "ban", 2)] {
        let host = format!(
            r#"{{ "host": "*", "captcha": {{ "provider": "hcaptcha",
                  "fallback_remediation": "{fallback}" }} }}"#
        );
        let (policy, problems) = policy(&[&host], None);
        assert_eq!(
            problems.len(),
            4,
            "both keys, the signing key, and what comes of it"
        );
        let ack = site_of(policy).http(&visit(SUSPECT, "shop.example"));
        assert_eq!(ack.get(REMEDIATION), Some(remediation));
        // contact_us_url is set, empty here, for this ban too.
        assert_eq!(names(&ack).len(), count);
    }
}

#[test]
fn vector_15_a_cookie_that_is_needed_no_more() {
    let mut site = site(None);
    for cookie in [valid(), "stray".to_owned()] {
        let ack = site.http(&visit(FREE, "shop.example").with_cookie(&cookie));
        assert_eq!(ack.get(REMEDIATION), Some("allow"));
        assert_eq!(ack.get(CAPTCHA_COOKIE_HEADER), Some(DELETION));
        assert_eq!(names(&ack), ["remediation", "captcha_cookie"]);
    }
}

#[test]
fn vector_16_a_cookie_on_a_host_without_a_captcha() {
    let mut site = site(Some(APPSEC));
    site.state().appsec = Says::Json(200, "");
    let ack = site.http(&visit(FREE, "other.example").with_cookie("stray"));
    assert_eq!(ack.get(REMEDIATION), Some("allow"));
    assert_eq!(ack.get(CAPTCHA_COOKIE_HEADER), Some(DELETION));
    assert_eq!(site.asked().len(), 1, "AppSec is asked all the same");
}

#[test]
fn vector_17_appsec_blocks() {
    let mut site = site(Some(APPSEC));
    site.state().appsec = Says::Json(403, r#"{"action":"ban","http_status":403}"#);
    let ack = site.http(&visit(FREE, "shop.example"));
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
    assert_eq!(ack.get(CONTACT_US_URL), Some("mailto:x@example"));
    assert_eq!(ack.get(APPSEC_HTTP_STATUS), Some("403"));
    let expected = ["processed{ipv4}", "blocked{appsec,ipv4,ban}", "appsec ban"];
    assert_eq!(site.counts(), expected);
}

#[test]
fn vector_18_appsec_says_nothing_in_time() {
    for (action, remediation) in [
        ("passthrough", "allow"),
        ("deny", "ban"),
        ("captcha", "captcha"),
    ] {
        let appsec = format!(
            r#"{{ "url": "http://127.0.0.1:7422/", "api_key": "k", "failure_action": "{action}" }}"#
        );
        let mut site = site(Some(&appsec));
        for says in [Says::Nothing, Says::Fails(NoAnswer::TimedOut)] {
            site.state().appsec = says;
            let ack = site.http(&visit(FREE, "shop.example"));
            assert_eq!(ack.get(REMEDIATION), Some(remediation));
            assert!(site.counts().contains(&"appsec TimedOut".to_owned()));
        }
    }
}

/// HAProxy sends NULL for a variable that is not set.
#[test]
fn vector_19_null_is_as_good_as_no_argument() {
    let mut site = site(None);
    site.http(&visit(FREE, "shop.example"));
    assert_eq!(site.counts(), ["processed{ipv4}"]);
    for (said, expected) in [
        ("allow", &["blocked{cscli,ipv4,ban}"][..]),
        ("ban", &[]),
        ("unknown", &[]),
    ] {
        let mut request = visit(BANNED, "shop.example");
        request.remediation = Some(said);
        site.http(&request);
        assert_eq!(site.counts(), expected, "{said}");
    }
}

/// Names of hosts have no case, and a port is not part of them.
#[test]
fn vector_23_a_host_in_capitals_with_a_port() {
    let mut site = site(None);
    let ack = site.http(&visit(BANNED, "SHOP.example:8443"));
    assert_eq!(ack.get(CONTACT_US_URL), Some("mailto:x@example"));
    let ack = site.http(&visit(SUSPECT, "Shop.Example."));
    assert_eq!(ack.get(CAPTCHA_SITE_KEY), Some("site-1"));
}

#[test]
fn names_of_earlier_versions_are_taken() {
    let mut site = site(None);
    let address = TypedData::Ipv4("192.0.2.1".parse().unwrap());
    for name in ["crowdsec-ip", "crowdsec-http", "crowdsec-http-no-body"] {
        let arguments = [Argument::new("x", 1_i64), Argument::new("src-ip", address)];
        let ack = site
            .harness()
            .notify_with(|notify| notify.message(name, arguments))
            .ack();
        assert_eq!(ack.get(REMEDIATION), Some("ban"), "{name}");
    }
}

#[test]
fn headers_that_cannot_be_read_do_not_let_a_banned_address_pass() {
    let mut site = site(Some(APPSEC));
    let request = |address: &str| {
        [
            Argument::new("src-ip", TypedData::Ipv4(address.parse().unwrap())),
            Argument::new("method", "GET"),
            Argument::new("path", "/"),
            Argument::new("headers", TypedData::String(b"host: shop.example\nx")),
        ]
    };
    for (address, remediation) in [(BANNED, "ban"), (SUSPECT, "ban"), (FREE, "allow")] {
        let arguments = request(address);
        let ack = site
            .harness()
            .notify_with(|notify| notify.message("crowdsec-http-no-body", arguments))
            .ack();
        assert_eq!(ack.get(REMEDIATION), Some(remediation), "{address}");
    }
    assert!(site.asked().is_empty());
    assert!(site.counts().contains(&"appsec NotAsked".to_owned()));
}

#[test]
fn a_host_with_a_captcha_says_so() {
    let host = format!(r#"{{ "host": "a.example", "captcha": {{ {CAPTCHA} }} }}"#);
    let (policy, problems) = policy(&[&host], None);
    assert_eq!(problems, []);
    let endpoint = &policy.endpoints()[0];
    assert_eq!(endpoint.url, "https://api.hcaptcha.com/siteverify");
    assert_eq!(endpoint.timeout.as_secs(), 5);
}

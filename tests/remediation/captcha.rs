//! Captchas beyond the vectors: what counts as a solution, what is asked, and what tokens are tied to.

use ringspoa::Agent;
use ringspoa::agents::remediation::messages::{
    CAPTCHA_COOKIE_HEADER, CAPTCHA_STATUS, REDIRECT, REMEDIATION,
};
use ringspoa::agents::remediation::{CaptchaStatus, EndpointKind};

use crate::site::{
    CAPTCHA, NOW, SOLVED, SUSPECT, Says, Site, Visit, claims, field, policy, site, site_of, token,
    visit,
};

fn shop(more: &str) -> Site<impl Agent> {
    let host = format!(r#"{{ "host": "*.example", "captcha": {{ {CAPTCHA}{more} }} }}"#);
    let (policy, problems) = policy(&[&host], None);
    assert_eq!(problems, []);
    let mut site = site_of(policy);
    site.state().provider = SOLVED;
    site
}

#[test]
fn what_the_provider_is_asked() {
    let request = visit(SUSPECT, "shop.example").with_solution();
    for (more, address) in [("", None), (r#", "send_remote_ip": true"#, Some(SUSPECT))] {
        let mut site = shop(more);
        site.http(&request);
        let asked = site.asked();
        let [(EndpointKind::Captcha, question)] = &asked[..] else {
            panic!("{asked:?}");
        };
        assert!(question.is_post);
        assert_eq!(question.timeout.as_secs(), 5);
        assert_eq!(
            question.header("Content-Type"),
            Some(&b"application/x-www-form-urlencoded"[..])
        );
        assert_eq!(field(question, "secret").as_deref(), Some("secret&1"));
        assert_eq!(field(question, "response").as_deref(), Some("solution 1"));
        assert_eq!(field(question, "remoteip").as_deref(), address);
        assert!(!format!("{question:?}").contains("secret&1"));
    }
    // One that is in IPv6 for HAProxy's sake is told as what it is.
    let mut site = shop(r#", "send_remote_ip": true"#);
    site.http(&visit(&format!("::ffff:{SUSPECT}"), "shop.example").with_solution());
    let asked = site.asked();
    assert_eq!(field(&asked[0].1, "remoteip").as_deref(), Some(SUSPECT));
}

#[test]
fn what_is_no_solution() {
    let mut site = shop("");
    let solution = || visit(SUSPECT, "shop.example").with_solution();
    let long = format!("h-captcha-response={}", "a".repeat(16 * 1024));
    for request in [
        Visit {
            method: "PUT",
            ..solution()
        },
        Visit {
            method: "post",
            ..solution()
        },
        Visit {
            content_type: "text/plain",
            ..solution()
        },
        Visit {
            content_type: "",
            ..solution()
        },
        Visit {
            body: "",
            ..solution()
        },
        Visit {
            body: "h-captcha-response=",
            ..solution()
        },
        Visit {
            body: "g-recaptcha-response=1",
            ..solution()
        },
        Visit {
            body: "h-captcha-response=%4",
            ..solution()
        },
    ] {
        let ack = site.http(&request);
        assert_eq!(ack.get(REMEDIATION), Some("captcha"));
        assert_eq!(ack.get(CAPTCHA_STATUS), Some("pending"));
    }
    // Longer than any solution, and than a frame, if HAProxy sent it.
    let body = &long[..12_000];
    assert_eq!(
        site.http(&Visit { body, ..solution() }).get(REDIRECT),
        Some("1")
    );
    assert_eq!(site.asked().len(), 1, "the last alone is one");
}

#[test]
fn providers_answer_with_json() {
    let mut site = shop("");
    for says in [
        Says::Json(200, ""),
        Says::Json(200, r#"{"success":"true"}"#),
        Says::Json(200, r#"{"error-codes":[]}"#),
        Says::Json(200, r#"{"success":false,"error-codes":null}"#),
    ] {
        site.state().provider = says;
        let ack = site.http(&visit(SUSPECT, "shop.example").with_solution());
        assert_eq!(ack.get(REMEDIATION), Some("captcha"));
    }
    // The status does not count.
    site.state().provider = Says::Json(500, r#"{"success":true,"hostname":"shop.example"}"#);
    let ack = site.http(&visit(SUSPECT, "shop.example").with_solution());
    assert_eq!(ack.get(REMEDIATION), Some("allow"));
}

#[test]
fn a_visit_from_the_first_page_to_the_last_token() {
    let mut site = shop(r#", "pending_ttl": "10m", "passed_ttl": "1h""#);
    let pending = site.http(&visit(SUSPECT, "shop.example"));
    assert_eq!(claims(&pending).exp, NOW + 600);
    let pending = token(&pending);

    // A pending token is not renewed.
    let again = site.http(&visit(SUSPECT, "shop.example").with_cookie(&pending));
    assert_eq!(again.get(CAPTCHA_STATUS), Some("pending"));
    assert!(again.get(CAPTCHA_COOKIE_HEADER).is_none());

    site.state().now = NOW + 599;
    let solved = site.http(
        &visit(SUSPECT, "shop.example")
            .with_solution()
            .with_cookie(&pending),
    );
    assert_eq!(solved.get(REDIRECT), Some("1"));
    assert_eq!(claims(&solved).exp, NOW + 599 + 3600);
    let solved = token(&solved);

    // With a solved one, forms are the application's.
    let request = visit(SUSPECT, "shop.example")
        .with_solution()
        .with_cookie(&solved);
    let ack = site.http(&request);
    assert_eq!(
        (ack.get(REMEDIATION), ack.get(REDIRECT)),
        (Some("allow"), None)
    );
    assert_eq!(site.asked().len(), 1);

    // Once a token is over, a new visit begins.
    for (token, over) in [(&pending, NOW + 600), (&solved, NOW + 599 + 3600)] {
        site.state().now = over;
        let ack = site.http(&visit(SUSPECT, "shop.example").with_cookie(token));
        assert_eq!(ack.get(REMEDIATION), Some("captcha"));
        assert!(ack.get(CAPTCHA_COOKIE_HEADER).is_some());
    }
}

#[test]
fn tokens_are_tied_to_network_and_host_if_so_configured() {
    let bound = r#", "binding": { "address": true, "ipv4_prefix_len": 25, "host": true }"#;
    let strict = r#", "binding": { "address": true, "host": true, "strict": true }"#;
    let solve = |site: &mut Site<_>| {
        token(&site.http(&visit("198.51.100.200", "Shop.example:443").with_solution()))
    };
    let mut tied = shop(bound);
    let of_bound = solve(&mut tied);
    let read = crate::site::key().verify(of_bound.as_bytes(), NOW).unwrap();
    assert_eq!(read.net.as_deref(), Some("198.51.100.128/25"));
    assert_eq!(read.host.as_deref(), Some("shop.example"));

    let mut passes = |address: &str, host: &str, token: &str| {
        let ack = tied.http(&visit(address, host).with_cookie(token));
        ack.get(REMEDIATION) == Some("allow")
    };
    assert!(passes("198.51.100.200", "shop.example", &of_bound));
    assert!(passes("198.51.100.129", "shop.example:8443", &of_bound));
    assert!(!passes("198.51.100.200", "other.example", &of_bound));
    assert!(!passes(SUSPECT, "shop.example", &of_bound));

    // Tokens from before pass, unless that is not wanted.
    let mut untied = shop("");
    let of_untied = solve(&mut untied);
    assert!(passes(SUSPECT, "other.example", &of_untied));
    let mut strict = shop(strict);
    let ack = strict.http(&visit(SUSPECT, "shop.example").with_cookie(&of_untied));
    assert_eq!(ack.get(REMEDIATION), Some("captcha"));
    // Without binding, what a token is tied to does not count.
    let ack = untied.http(&visit(SUSPECT, "other.example").with_cookie(&of_bound));
    assert_eq!(ack.get(REMEDIATION), Some("allow"));
}

#[test]
fn tokens_of_another_key_begin_a_new_visit() {
    let mut site = site(None);
    for cookie in ["", "x", "a.b.c"] {
        let ack = site.http(&visit(SUSPECT, "shop.example").with_cookie(cookie));
        assert_eq!(claims(&ack).st, CaptchaStatus::Pending);
    }
}

#[test]
fn over_plain_http_the_cookie_is_not_secure() {
    let mut site = shop("");
    let mut request = visit(SUSPECT, "shop.example");
    request.is_tls = false;
    let ack = site.http(&request);
    let cookie = ack.get(CAPTCHA_COOKIE_HEADER).unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
}

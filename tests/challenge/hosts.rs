//! Hosts: which are served, what is made of their names, and who shares a cookie.

use ringspoa::agents::challenge::messages::{REASON, RESPONSE, RESULT, SET_COOKIE, STATUS, VALID};
use serde_json::json;

use crate::site::{Browser, Site, pow, response, settings, solution};

fn at(host: &str) -> Browser {
    Browser {
        host: host.to_owned(),
        ..Browser::default()
    }
}

/// 28: one host has one form.
#[test]
fn one_host_has_many_ways_to_be_written() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    for (first, others) in [
        (
            "shop.example",
            [
                "SHOP.example:443",
                "Shop.Example.",
                "shop.example:",
                "shop.example.:8080",
            ],
        ),
        (
            "[2001:db8::1]",
            [
                "[2001:DB8::1]:443",
                "[2001:db8::1]:",
                "[2001:db8::1]",
                "[2001:Db8::1]:1",
            ],
        ),
    ] {
        let mut browser = at(first);
        browser.solve(&mut site, 1);
        for other in others {
            browser.host = other.to_owned();
            assert_eq!(
                browser.validate(&mut site, 1).get(VALID),
                Some(true),
                "{other}"
            );
        }
        browser.host = "pay.example".to_owned();
        assert_eq!(browser.validate(&mut site, 1).get(REASON), Some("mac"));
    }
}

/// 28: what is no host is not made one.
#[test]
fn hosts_that_are_none_get_nothing() {
    let mut site = Site::new(&settings(&json!({
        "level": [pow()], "trusted-domains": ["shop.example"],
    })));
    let good = response(&at("shop.example").issue(&mut site, 1));
    let long = "a".repeat(300);
    for host in [
        "",
        ".",
        "a..b",
        "shop.example;Domain=evil.example",
        "shop.example\r\nSet-Cookie: a=b",
        "shop.example\0",
        "shop.example, evil.example",
        "shop.example:99999",
        "shop.example:8x",
        "user@shop.example",
        "sh\u{f6}p.example",
        "shop example",
        "[::1",
        "[shop.example]",
        "shop.example/..",
        &*long,
    ] {
        let mut browser = at(host);
        let ack = browser.validate(&mut site, 1);
        assert_eq!(
            (ack.get(VALID), ack.get(REASON)),
            (Some(false), Some("host")),
            "{host}"
        );
        let ack = browser.issue(&mut site, 1);
        assert_eq!(ack.get(STATUS), Some(403));
        assert_eq!(ack.get(RESPONSE), Some(r#"{"ok":false,"code":"host"}"#));
        let ack = browser.verify(&mut site, &solution(&good));
        assert_eq!(
            (ack.get(RESULT), ack.get(SET_COOKIE)),
            (Some("host"), None),
            "{host}"
        );
    }
}

#[test]
fn a_realm_serves_its_hosts_alone() {
    let realm = json!({ "level": [pow()], "hosts": ["shop.example", "*.shop.example"] });
    let mut site = Site::new(&settings(&realm));
    for (host, is_served) in [
        ("shop.example", true),
        ("a.shop.example:80", true),
        ("evilshop.example", false),
        ("shop.example.evil.example", false),
    ] {
        let expected = if is_served { "none" } else { "host" };
        assert_eq!(
            at(host).validate(&mut site, 1).get(REASON),
            Some(expected),
            "{host}"
        );
    }
}

/// 5: all hosts of a trusted domain, and none that is only called like it.
#[test]
fn hosts_of_a_trusted_domain_share_a_cookie() {
    let realm = json!({ "level": [pow()], "trusted-domains": ["shop.example"] });
    let mut site = Site::new(&settings(&realm));
    let mut browser = at("a.shop.example");
    let ack = browser.solve(&mut site, 1);
    let set_cookie = ack.get(SET_COOKIE).unwrap();
    assert!(set_cookie.starts_with("clearance-s="), "{set_cookie}");
    assert!(
        set_cookie.contains("; Domain=shop.example; Secure; HttpOnly"),
        "{set_cookie}"
    );
    for (host, expected) in [
        ("b.shop.example", None),
        ("shop.example", None),
        ("evil-shop.example", Some("host")),
        ("evilshop.example", Some("host")),
        ("shop.example.evil.example", Some("host")),
    ] {
        browser.host = host.to_owned();
        assert_eq!(
            browser.validate(&mut site, 1).get(REASON),
            expected,
            "{host}"
        );
    }
    let mut other = at("evil-shop.example");
    let ack = other.solve(&mut site, 1);
    assert!(!ack.get(SET_COOKIE).unwrap().contains("Domain="));
}

/// 4: what a parent domain gave does not shadow what the host gave, in whatever order they come.
#[test]
fn a_cookie_of_the_parent_does_not_shadow_that_of_the_host() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let (mut sub, mut parent) = (at("sub.shop.example"), at("shop.example"));
    let ack = sub.solve(&mut site, 1);
    assert!(
        !ack.get(SET_COOKIE).unwrap().contains("Domain="),
        "it is of the host alone"
    );
    parent.solve(&mut site, 1);
    let (mine, other) = (sub.cookie_header(), parent.cookie_header());
    for header in [format!("{mine}; {other}"), format!("{other}; {mine}")] {
        let (name, value) = header.split_once('=').unwrap();
        sub.cookies = [(name.to_owned(), value.to_owned())].into();
        assert_eq!(sub.validate(&mut site, 1).get(VALID), Some(true));
    }
}

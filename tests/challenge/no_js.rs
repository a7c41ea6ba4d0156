//! Visitors without JavaScript: they wait, and are sent back to where they were and nowhere else.

use ringspoa::agents::challenge::messages::{
    CLASS, LOCATION, LevelArgument, NOJS_URL, NOJS_WAIT, REASON, RESPONSE, RESULT, SET_COOKIE,
    STATUS, TOKEN_AGE, VALID,
};
use serde_json::{Value, json};

use crate::site::{Browser, Site, challenge_text, pow, response, settings};

fn realm(no_js: &str) -> Value {
    json!({ "level": [pow()], "nojs": no_js, "nojs-wait-s": 8, "nojs-duration-s": 600 })
}

/// The query that a visitor goes on with.
fn query(browser: &Browser, site: &mut Site, url: &[u8]) -> String {
    let ack = browser.issue_for(site, LevelArgument::Number(1), url);
    assert_eq!(ack.get(NOJS_WAIT), Some(8));
    let query = ack.get(NOJS_URL).unwrap().strip_prefix("/.challenge/pass?");
    query.unwrap().to_owned()
}

/// 10: refused before its time, and let in with a class of its own after that.
#[test]
fn who_waits_is_let_in_for_a_while() {
    for kind in ["refresh", "link"] {
        let mut site = Site::new(&settings(&realm(kind)));
        let mut browser = Browser::default();
        let query = query(&browser, &mut site, b"/cart?item=7&x=%20");
        for wait in [0, 7] {
            site.wait(wait);
            let ack = browser.pass(&mut site, &query);
            assert_eq!(
                (ack.get(STATUS), ack.get(RESULT)),
                (Some(403), Some("early"))
            );
            assert_eq!((ack.get(LOCATION), ack.get(SET_COOKIE)), (None, None));
        }
        site.wait(1);
        let ack = browser.pass(&mut site, &query);
        assert_eq!((ack.get(STATUS), ack.get(RESULT)), (Some(303), Some("ok")));
        assert_eq!(ack.get(LOCATION), Some("/cart?item=7&x=%20"));
        assert!(ack.get(SET_COOKIE).unwrap().contains("Max-Age=592;"));
        let ack = browser.validate(&mut site, 1);
        assert_eq!((ack.get(VALID), ack.get(CLASS)), (Some(true), Some("nojs")));
        assert_eq!(ack.get(TOKEN_AGE), Some(8));
        site.wait(592);
        assert_eq!(browser.validate(&mut site, 1).get(REASON), Some("expired"));
        // What it came by is over too.
        assert_eq!(browser.pass(&mut site, &query).get(RESULT), Some("expired"));
    }
}

#[test]
fn there_is_no_such_way_unless_it_is_switched_on() {
    let mut site = Site::new(&settings(&realm("refresh")));
    let mut browser = Browser::default();
    let query = query(&browser, &mut site, b"/");
    site.wait(8);
    site.reload(&settings(&realm("off")));
    let ack = browser.issue(&mut site, 1);
    assert_eq!((ack.get(NOJS_URL), ack.get(NOJS_WAIT)), (None, None));
    assert_eq!(browser.pass(&mut site, &query).get(RESULT), Some("expired"));
    // And not past the first level, which is the cheapest, unless that is wanted.
    let mut two = realm("refresh");
    two["level"] = json!([pow(), pow()]);
    for (most, expected) in [
        (None, false),
        (Some(1), false),
        (Some(2), true),
        (Some(255), true),
    ] {
        two["nojs-max-level"] = json!(most);
        site.reload(&settings(&two));
        assert!(browser.issue(&mut site, 1).get(NOJS_URL).is_some());
        let ack = browser.issue(&mut site, 2);
        assert_eq!(ack.get(NOJS_URL).is_some(), expected, "{most:?}");
        // Nor with one from before.
        let query = ack
            .get(NOJS_URL)
            .map(|url| url.split_once('?').unwrap().1.to_owned());
        if let Some(query) = query {
            two["nojs-max-level"] = json!(1);
            site.reload(&settings(&two));
            site.wait(8);
            assert_eq!(browser.pass(&mut site, &query).get(RESULT), Some("expired"));
        }
    }
    // And not past a captcha.
    let mut with_captcha = realm("refresh");
    with_captcha["nojs-max-level"] = json!(9);
    with_captcha["level"] = json!([pow(), {
        "type": "turnstile", "site-key": "k", "secret-key": "s",
    }, pow()]);
    site.reload(&settings(&with_captcha));
    let mut second = pow();
    second["work"] = json!(32);
    let two = json!({
        "level": [pow(), second], "nojs": "refresh", "nojs-wait-s": 8, "nojs-max-level": 2,
    });
    for (level, has_way) in [(1, true), (2, false), (3, false)] {
        let ack = browser.issue(&mut site, level);
        assert_eq!(ack.get(NOJS_URL).is_some(), has_way, "{level}");
    }
    // Nor where there is one by the time that the visitor has waited.
    site.reload(&settings(&two));
    let ack = browser.issue(&mut site, 2);
    let query = ack
        .get(NOJS_URL)
        .unwrap()
        .split_once('?')
        .unwrap()
        .1
        .to_owned();
    site.wait(8);
    let mut captcha_first = two;
    captcha_first["level"][0] = with_captcha["level"][1].clone();
    site.reload(&settings(&captcha_first));
    assert_eq!(browser.pass(&mut site, &query).get(RESULT), Some("expired"));
}

/// 29: whatever is asked for, and whatever is made of it, the visitor stays on the host.
#[test]
fn nobody_is_sent_elsewhere() {
    let mut site = Site::new(&settings(&realm("link")));
    let mut browser = Browser::default();
    for url in [
        &b"//evil.example"[..],
        b"/\\evil.example",
        b"\\\\evil.example",
        b"javascript:alert(1)",
        b"https://evil.example/",
        b"/a\r\nSet-Cookie: a=b",
        b"/\t/evil.example",
        b" /a",
        b"/a b",
        b"/\xff",
        b"/a\"onload=",
        b"/<script>",
        b"*",
        b"",
        &[b"/", &b"a"[..].repeat(2_000)[..]].concat(),
    ] {
        let query = query(&browser, &mut site, url);
        site.wait(8);
        let ack = browser.pass(&mut site, &query);
        assert_eq!(ack.get(LOCATION), Some("/"), "{}", url.escape_ascii());
    }
    for url in [
        "/",
        "/a//b",
        "/a?next=https://other.example/&b=%0d%0a",
        "/%2f%2fevil.example",
        "/~a;b=c@d",
    ] {
        let query = query(&browser, &mut site, url.as_bytes());
        site.wait(8);
        assert_eq!(browser.pass(&mut site, &query).get(LOCATION), Some(url));
    }
    // A path that is not the signed one, whatever is around it.
    let query = query(&browser, &mut site, b"/cart");
    site.wait(8);
    let (signed, _) = query.split_once("&r=").unwrap();
    for path in [
        "//evil.example",
        "/%5cevil.example",
        "/%5Cevil",
        "%2f%2fevil.example",
        "/cart2",
        "/car",
        "javascript:alert(1)",
        "/cart%0d%0aSet-Cookie:a=b",
        "https://evil.example/",
        "",
        "%",
        "/%4",
        "/%zz",
        "/cart&r=//evil.example",
        "/cart&x=1",
        "/cart&",
        "/%63art%00",
    ] {
        let ack = browser.pass(&mut site, &format!("{signed}&r={path}"));
        let result = ack.get(RESULT).unwrap();
        assert!(matches!(result, "mac" | "format"), "{path}: {result}");
        assert_eq!(
            (ack.get(LOCATION), ack.get(SET_COOKIE)),
            (None, None),
            "{path}"
        );
    }
    for query in ["", "c=&s=&r=", "c=a", signed, "r=/&s=&c=x", "&&&"] {
        assert_eq!(
            browser.pass(&mut site, query).get(RESULT),
            Some("format"),
            "{query}"
        );
    }
    for twice in ["&r=/cart", "&s=AAAAAAAAAAAAAAAAAAAAAA"] {
        let ack = browser.pass(&mut site, &format!("{query}{twice}"));
        assert_eq!(ack.get(RESULT), Some("format"));
    }
    let ack = browser.pass(&mut site, &query);
    assert_eq!(ack.get(LOCATION), Some("/cart"));
}

#[test]
fn one_way_is_not_the_other() {
    let mut site = Site::new(&settings(&realm("refresh")));
    let mut browser = Browser::default();
    let query = query(&browser, &mut site, b"/");
    let challenge = response(&browser.issue(&mut site, 1));
    site.wait(8);
    // The challenge of the page, where one of waiting is wanted, and the other way round.
    let (_, rest) = query.split_once('&').unwrap();
    let ack = browser.pass(
        &mut site,
        &format!("c={}&{rest}", challenge_text(&challenge)),
    );
    assert_eq!(ack.get(RESULT), Some("format"));
    let waited = query.strip_prefix("c=").unwrap().split('&').next().unwrap();
    let ack = browser.verify(&mut site, &format!("{waited}."));
    assert_eq!(ack.get(RESULT), Some("format"));
    assert_eq!(ack.get(RESPONSE), Some(r#"{"ok":false,"code":"format"}"#));
    // Another visitor's, and another host's.
    let mut other = Browser::at("192.0.2.8");
    assert_eq!(other.pass(&mut site, &query).get(RESULT), Some("binding"));
    let mut other = Browser {
        host: "pay.example".to_owned(),
        ..Browser::default()
    };
    assert_eq!(other.pass(&mut site, &query).get(RESULT), Some("mac"));
    assert_eq!(browser.pass(&mut site, &query).get(RESULT), Some("ok"));
}

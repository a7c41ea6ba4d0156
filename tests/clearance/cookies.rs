//! The cookie: which of a request's are looked at, that any good token in them counts, and what is set.

use ringspoa::agents::challenge::{
    CookieAttributes, CookieNames, CookieValue, Cookies, MAX_CANDIDATES, MAX_COOKIES_LEN, Reason,
    SameSite, Visit,
};

use super::*;

fn candidates(header: &str) -> Vec<String> {
    let names = CookieNames::default();
    let texts = names.candidates(Cookies::Header(header.as_bytes()));
    texts
        .map(|text| String::from_utf8(text.to_vec()).unwrap())
        .collect()
}

#[test]
fn cookies_are_found_by_their_names() {
    for (header, expected) in [
        ("", vec![]),
        ("a=b; c=d", vec![]),
        ("clearance=x", vec!["x"]),
        ("a=b; clearance=x; c=d", vec!["x"]),
        (
            "__Host-clearance=x;clearance=y;clearance-s=z",
            vec!["x", "y", "z"],
        ),
        (" \t clearance=x \t ;; ;clearance=y", vec!["x", "y"]),
        ("clearance=x.y", vec!["x", "y"]),
        ("clearance=x.y.z.w", vec!["x", "y"]),
        ("clearance=", vec![""]),
        ("clearance=a=b", vec!["a=b"]),
        ("clearance", vec![]),
        (
            "Clearance=x; xclearance=x; clearance2=x; clearance =x; __host-clearance=x",
            vec![],
        ),
        ("a=clearance=x", vec![]),
        ("ance=x; -clearance=x; s=x; -s=x; =x; =", vec![]),
        ("a=b, clearance=x", vec![]),
    ] {
        assert_eq!(candidates(header), expected, "{header:?}");
    }
    let value = |text: &'static str| -> Vec<&[u8]> {
        let names = CookieNames::default();
        names.candidates(Cookies::Value(text.as_bytes())).collect()
    };
    assert_eq!(value("x.y.z"), [&b"x"[..], b"y"]);
    assert_eq!(value("x"), [&b"x"[..]]);
    assert_eq!(value(""), [&b""[..]; 0]);
}

#[test]
fn a_good_token_counts_in_any_place_among_twenty() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let good = cleared(&keys, &visit);
    let over = cleared(&keys, &before(visit, 4000));
    let elsewhere = cleared(&keys, &from(visit, "198.51.100.1"));
    let forged = format!("{}A", &good[..63]);
    let bad = [&*forged, &over, "", &elsewhere, "junk", "..", &forged[..40]];
    for count in 1..=MAX_CANDIDATES {
        for place in 0..count {
            let cookies: Vec<String> = (0..count)
                .map(|index| {
                    let name = ["clearance", "__Host-clearance", "clearance-s"][index % 3];
                    let bad = bad[index % bad.len()];
                    match (index == place, index % 2 == 0) {
                        (false, _) => format!("{name}={bad}"),
                        (true, true) => format!("{name}={good}"),
                        (true, false) => format!("{name}={forged}.{good}"),
                    }
                })
                .collect();
            let header = cookies.join("; ");
            let found = validated_header(&keys, &header, &visit);
            assert_eq!(found, Ok(()), "{place} of {count}: {header}");
        }
    }
    // One more of its name is not looked at, so that a request costs no more than that. Of other names, which
    // neighbours can set, there may be any number.
    let many = "clearance=junk; ".repeat(MAX_CANDIDATES);
    let found = validated_header(&keys, &format!("{many}__Host-clearance={good}"), &visit);
    assert_eq!(found, Ok(()));
    let found = validated_header(&keys, &format!("{many}clearance={good}"), &visit);
    assert_eq!(found, Err(Reason::Malformed));
    // Cookies of other names do not count.
    let others = "session=junk; ".repeat(100);
    let found = validated_header(&keys, &format!("{others}clearance={good}"), &visit);
    assert_eq!(found, Ok(()));
}

#[test]
fn as_much_is_looked_at_as_haproxy_takes_and_no_more() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let cookie = format!("; clearance={}", cleared(&keys, &visit));
    let junk = |len: usize| "j".repeat(len);
    let within = junk(MAX_COOKIES_LEN - cookie.len()) + &cookie;
    assert_eq!(within.len(), 32_768);
    assert_eq!(validated_header(&keys, &within, &visit), Ok(()));
    let found = validated_header(&keys, &format!("j{within}"), &visit);
    assert_eq!(found, Err(Reason::Malformed), "it is cut off by one");
    let found = validated_header(&keys, &(junk(MAX_COOKIES_LEN) + &cookie), &visit);
    assert_eq!(found, Err(Reason::None));
    assert_eq!(validated_header(&keys, "", &visit), Err(Reason::None));
}

/// The token of a visitor at an address.
fn at(keys: &RealmKeys, visit: &Visit<'_>, address: &str) -> (Token, TokenText) {
    let visit = from(*visit, address);
    let body = solved_body(&issue(keys, POW, &visit));
    submit(keys, body.as_bytes(), &visit).unwrap()
}

#[test]
fn one_cookie_has_a_token_of_each_family() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let names = CookieNames::default();
    let (_, old) = at(&keys, &visit, "192.0.2.1");
    let (new, text) = at(&keys, &visit, "2001:db8::1");
    let header = format!("clearance={}", old.as_str());
    let cookies = Cookies::Header(header.as_bytes());
    let now = from(visit, "2001:db8::1");
    let kept = keys.kept(&names, cookies, &new, &now);
    assert_eq!(kept, Some(old));
    let value = CookieValue::new(&text, kept.as_ref());
    assert_eq!(
        value.as_str(),
        format!("{}.{}", text.as_str(), old.as_str())
    );
    for (address, expected) in [
        ("192.0.2.1", Ok(())),
        ("2001:db8::2", Ok(())),
        ("192.0.2.2", Err(Reason::Address)),
        ("2001:db8:1::1", Err(Reason::Address)),
    ] {
        let visit = from(visit, address);
        let cookies = Cookies::Value(value.as_str().as_bytes());
        let found = keys.validate_cookies(&names, cookies, POW, &visit);
        let found = found.map(|_| ()).map_err(|refusal| refusal.reason);
        assert_eq!(found, expected, "{address}");
    }
    // A new one of either family takes the place of the one of its family.
    let later = after(now, 60);
    let (newer, newer_text) = at(&keys, &later, "2001:db8:2::1");
    let cookies = Cookies::Value(value.as_str().as_bytes());
    assert_eq!(keys.kept(&names, cookies, &newer, &later), Some(old));
    let value = CookieValue::new(&newer_text, Some(&old));
    let (newest, _) = at(&keys, &later, "198.51.100.1");
    let cookies = Cookies::Value(value.as_str().as_bytes());
    assert_eq!(
        keys.kept(&names, cookies, &newest, &later),
        Some(newer_text)
    );
    let alone = CookieValue::new(&text, None);
    assert_eq!(alone.as_str(), text.as_str());
}

#[test]
fn only_a_token_that_would_count_is_kept() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let names = CookieNames::default();
    let now = from(visit, "2001:db8::1");
    let (new, _) = at(&keys, &visit, "2001:db8::1");
    let kept = |texts: &[&str]| {
        let header: String = texts
            .iter()
            .map(|text| format!("clearance={text}; "))
            .collect();
        keys.kept(&names, Cookies::Header(header.as_bytes()), &new, &now)
    };
    let (_, good) = at(&keys, &visit, "192.0.2.1");
    assert_eq!(kept(&[good.as_str()]), Some(good));
    assert_eq!(kept(&[]), None);
    // Of the same family.
    let (_, other) = at(&keys, &visit, "2001:db8:1::1");
    assert_eq!(kept(&[other.as_str()]), None);
    // Forged, over, from the future.
    let forged = format!("{}A", &good.as_str()[..63]);
    assert_eq!(kept(&[&forged]), None);
    let (_, over) = at(&keys, &before(visit, 3600), "192.0.2.1");
    assert_eq!(kept(&[over.as_str()]), None);
    let (_, future) = at(&keys, &after(visit, 61), "192.0.2.1");
    assert_eq!(kept(&[future.as_str()]), None);
    // Of another user agent, another host, another scope.
    let other = Visit {
        user_agent: Some(b"other"),
        ..visit
    };
    let (_, other) = at(&keys, &other, "192.0.2.1");
    assert_eq!(kept(&[other.as_str()]), None);
    let host = scope_of("other.test");
    let other = Visit {
        scope: &host,
        ..visit
    };
    let (_, other) = at(&keys, &other, "192.0.2.1");
    assert_eq!(kept(&[other.as_str()]), None);
    // Of several the one of the highest level, then the one that lasts longest, wherever it stands.
    let (_, older) = at(&keys, &before(visit, 60), "192.0.2.1");
    let low = keys.operator_token(WAIT, 86_400, new.id, &from(visit, "192.0.2.1"));
    let low = low.unwrap().1;
    let texts = [older.as_str(), good.as_str(), low.as_str(), &forged];
    for turn in 0..texts.len() {
        let mut texts = texts;
        texts.rotate_left(turn);
        assert_eq!(kept(&texts), Some(good), "turned by {turn}");
        texts.reverse();
        assert_eq!(kept(&texts), Some(good), "turned by {turn}, reversed");
    }
}

#[test]
fn what_a_host_has_is_not_kept_in_the_cookie_of_its_domain() {
    let keys = realm();
    let names = CookieNames::default();
    let shared = scope_of("a.example.com");
    let rules = ScopeRules::default();
    let alone = rules.scope(Some(b"a.example.com")).unwrap();
    let (_, own) = at(&keys, &visit(&alone), "192.0.2.1");
    let (new, _) = at(&keys, &visit(&shared), "2001:db8::1");
    assert!(new.flags.is_shared());
    let cookies = Cookies::Value(own.as_str().as_bytes());
    assert_eq!(keys.kept(&names, cookies, &new, &visit(&shared)), None);
    let (_, own) = at(&keys, &visit(&shared), "192.0.2.1");
    let cookies = Cookies::Value(own.as_str().as_bytes());
    assert_eq!(keys.kept(&names, cookies, &new, &visit(&shared)), Some(own));
}

#[test]
fn the_header_is_as_the_host_and_the_connection_are() {
    let keys = realm();
    let names = CookieNames::new("pass").unwrap();
    let header = |host: &str, is_secure, same_site| {
        let scope = scope_of(host);
        let (token, text) = at(&keys, &visit(&scope), "192.0.2.1");
        let value = CookieValue::new(&text, None);
        let attributes = CookieAttributes {
            is_secure,
            same_site,
        };
        let mut header = "before:".to_owned();
        let visit = after(visit(&scope), 100);
        names.set_cookie(attributes, &token, &value, &visit, &mut header);
        header.replace(text.as_str(), "TOKEN")
    };
    assert_eq!(
        header("shop.test", false, SameSite::Lax),
        "before:pass=TOKEN; Path=/; Max-Age=3500; HttpOnly; SameSite=Lax"
    );
    assert_eq!(
        header("shop.test", true, SameSite::Lax),
        "before:__Host-pass=TOKEN; Path=/; Max-Age=3500; Secure; HttpOnly; SameSite=Lax"
    );
    assert_eq!(
        header("a.example.com", true, SameSite::Lax),
        "before:pass-s=TOKEN; Path=/; Max-Age=3500; Domain=example.com; Secure; HttpOnly; SameSite=Lax"
    );
    assert_eq!(
        header("a.example.com", false, SameSite::Lax),
        "before:pass-s=TOKEN; Path=/; Max-Age=3500; Domain=example.com; HttpOnly; SameSite=Lax"
    );
    assert_eq!(
        header("shop.test", true, SameSite::None),
        "before:__Host-pass=TOKEN; Path=/; Max-Age=3500; Secure; HttpOnly; SameSite=None; Partitioned"
    );
    // Browsers do not take SameSite=None without TLS.
    assert_eq!(
        header("shop.test", false, SameSite::None),
        "before:pass=TOKEN; Path=/; Max-Age=3500; HttpOnly; SameSite=Lax"
    );
}

#[test]
fn what_a_host_has_for_itself_is_set_for_no_domain() {
    let keys = realm();
    let rules = ScopeRules::default();
    let alone = rules.scope(Some(b"a.example.com")).unwrap();
    let (token, text) = at(&keys, &visit(&alone), "192.0.2.1");
    let value = CookieValue::new(&text, None);
    let shared = scope_of("a.example.com");
    let mut header = String::new();
    let attributes = CookieAttributes::default();
    CookieNames::default().set_cookie(attributes, &token, &value, &visit(&shared), &mut header);
    assert!(header.starts_with("clearance="), "{header}");
    assert!(!header.contains("Domain"), "{header}");
}

#[test]
fn a_cookie_has_a_name_that_browsers_take() {
    let longest = "x".repeat(64);
    for name in [
        "clearance",
        "a",
        "!#$%&'*+-.^_`|~09AZ",
        &longest,
        "Host-x",
        "__Hos",
    ] {
        let names = CookieNames::new(name).unwrap();
        assert_eq!(names.plain(), name);
        assert_eq!(names.name(false, false), name);
        assert_eq!(names.name(true, false), format!("__Host-{name}"));
        assert_eq!(names.name(true, true), format!("{name}-s"));
        assert_eq!(names.name(false, true), format!("{name}-s"));
    }
    let too_long = "x".repeat(65);
    let bad = [
        "",
        "a b",
        "a=b",
        "a;b",
        "a,b",
        "a\"",
        "a\r\nb",
        "ä",
        "__Host-x",
        "__HOST-x",
        "__Secure-x",
        "__secure-",
        "(a)",
        "a/b",
        "@",
        "{",
        "\0",
        &too_long,
    ];
    for name in bad {
        let error = CookieNames::new(name).unwrap_err();
        assert_eq!(error.name, name);
        let text = error.to_string();
        assert!(
            text.contains("want 1 to 64 letters") && !text.contains('\r'),
            "{text}"
        );
    }
    assert_eq!(
        CookieNames::default(),
        CookieNames::new("clearance").unwrap()
    );
}

#[test]
fn no_token_is_in_what_is_printed() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let (token, text) = at(&keys, &visit(&scope), "192.0.2.1");
    let value = CookieValue::new(&text, Some(&text));
    assert_eq!(format!("{text:?} {value:?}"), "TokenText CookieValue");
    assert!(!format!("{token:?} {keys:?}").contains(text.as_str()));
}

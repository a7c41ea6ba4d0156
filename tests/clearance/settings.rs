//! Keys, levels, rules and hosts as they are configured: what is taken, and that what is not is named with
//! what to do about it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use ringspoa::agents::challenge::{
    BindingError, BindingRules, HostError, HostPattern, Key, KeyError, Keyring, Level, LevelError,
    MAX_PARTS, Method, RealmKeys, ScopeRules,
};

use super::*;

#[test]
fn keys_that_are_none_are_refused() {
    let good: Vec<u8> = (0..32).collect();
    let error = |id, secret: &[u8]| Key::new(id, secret, None).unwrap_err();
    assert!(Key::new(1, &good, None).is_ok());
    assert_eq!(Key::new(255, &good, None).unwrap().id(), 255);
    for (error, expected, text) in [
        (error(0, &good), KeyError::ZeroId, "want 1 to 255"),
        (
            error(1, &good[..31]),
            KeyError::TooShort(31),
            "has 31 bytes, of 32 or more",
        ),
        (
            error(1, b""),
            KeyError::TooShort(0),
            "openssl rand -base64 32",
        ),
        (
            error(1, &[7; 64]),
            KeyError::AllEqual,
            "one byte again and again",
        ),
        (
            error(1, b"ringspoa sample key, not secret!"),
            KeyError::Sample,
            "that of a sample",
        ),
        (
            Key::from_base64(1, "?", None).unwrap_err(),
            KeyError::NotBase64,
            "is not base64",
        ),
        (Keyring::new(vec![]).unwrap_err(), KeyError::NoKey, "no key"),
        (
            Keyring::new(vec![key(4, &good), key(9, &good), key(4, SECRETS[0])]).unwrap_err(),
            KeyError::SameId(4),
            "two keys have the id 4",
        ),
    ] {
        assert_eq!(error, expected);
        assert!(error.to_string().contains(text), "{error}");
    }
    let mut nearly = [7; 32];
    nearly[31] = 8;
    assert!(Key::new(1, &nearly, None).is_ok());
}

#[test]
fn a_secret_is_read_of_any_base64() {
    let secret: Vec<u8> = (200..=240).collect();
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let token = |key| {
        let keyring = Keyring::new(vec![key]).unwrap();
        let keys = realm_of(&keyring, "default", &levels(), BindingRules::default());
        cleared(&keys, &visit)
    };
    let expected = token(key(7, &secret));
    for text in [
        STANDARD.encode(&secret),
        STANDARD_NO_PAD.encode(&secret),
        URL_SAFE.encode(&secret),
        format!(" {}\r\n", STANDARD.encode(&secret)),
    ] {
        let key = Key::from_base64(7, &text, None).unwrap();
        assert_eq!(token(key), expected, "{text:?}");
    }
    for text in ["", "====", "AAAA\nAAAA", "not base64!"] {
        assert!(Key::from_base64(7, text, None).is_err(), "{text:?}");
    }
}

#[test]
fn no_secret_is_in_what_is_printed() {
    let key = Key::new(7, SECRETS[0], Some(5)).unwrap();
    assert_eq!(
        format!("{key:?}"),
        "Key { id: 7, not_after_unix_s: Some(5), .. }"
    );
    let keyring = Keyring::new(vec![key]).unwrap();
    let printed = format!("{keyring:?} {:?}", realm());
    for secret in SECRETS {
        let as_list = format!("{:?}", &secret[..4]);
        assert!(
            !printed.contains(as_list.trim_matches(['[', ']'])),
            "{printed}"
        );
    }
    assert!(printed.contains("ids: [7, 3], level_count: 4"), "{printed}");
    assert_eq!(keyring.ids().collect::<Vec<_>>(), [7]);
    assert_eq!(
        (realm().level_count(), *realm().binding()),
        (4, BindingRules::default())
    );
}

#[test]
fn an_address_has_a_pseudonym_that_only_the_key_tells() {
    let keyring = keyring();
    let pseudonym = |text| keyring.pseudonym(address(text));
    assert_eq!(pseudonym("192.0.2.1"), pseudonym("192.0.2.1"));
    assert_eq!(pseudonym("192.0.2.1"), pseudonym("::ffff:192.0.2.1"));
    assert_ne!(pseudonym("192.0.2.1"), pseudonym("192.0.2.2"));
    assert_ne!(pseudonym("2001:db8::1"), pseudonym("2001:db8::2"));
    let other = Keyring::new(vec![key(7, SECRETS[1])]).unwrap();
    assert_ne!(
        pseudonym("192.0.2.1"),
        other.pseudonym(address("192.0.2.1"))
    );
}

#[test]
fn levels_that_are_none_are_refused() {
    let level = |method| Level {
        method,
        wait_s: 0,
        duration_s: 1,
    };
    let pow = |work, parts| level(Method::Sha256 { work, parts });
    let pbkdf2 = |work, parts, iterations| {
        level(Method::Pbkdf2 {
            work,
            parts,
            iterations,
        })
    };
    let captcha = |provider: usize, site_key: usize| {
        level(Method::Captcha {
            provider: "p".repeat(provider),
            site_key: "k".repeat(site_key),
        })
    };
    let none = Level {
        duration_s: 0,
        ..level(Method::Wait)
    };
    for good in [
        level(Method::Wait),
        pow(1, 1),
        pow(u32::MAX, MAX_PARTS),
        pbkdf2(1, 1, 1),
        pbkdf2(1, MAX_PARTS, 1_000_000),
        captcha(1024, 1024),
    ] {
        assert_eq!(good.check(), Ok(()), "{good:?}");
    }
    for (bad, error, text) in [
        (none, LevelError::NoDuration, "want 1 second or more"),
        (pow(0, 1), LevelError::NoWork, "want 1 or more"),
        (pow(1, 0), LevelError::Parts(0), "want 1 to 50"),
        (pow(1, 51), LevelError::Parts(51), "there are 51 parts"),
        (pbkdf2(0, 1, 1), LevelError::NoWork, "the work is 0"),
        (pbkdf2(1, 51, 1), LevelError::Parts(51), "want 1 to 50"),
        (
            pbkdf2(1, 1, 0),
            LevelError::Iterations(0),
            "want 1 to 1000000",
        ),
        (
            pbkdf2(1, 1, 1_000_001),
            LevelError::Iterations(1_000_001),
            "there are 1000001 iterations",
        ),
        (
            captcha(1025, 1),
            LevelError::TextTooLong,
            "more than 1024 bytes",
        ),
        (
            captcha(1, 1025),
            LevelError::TextTooLong,
            "more than 1024 bytes",
        ),
    ] {
        assert_eq!(bad.check(), Err(error), "{bad:?}");
        assert!(error.to_string().contains(text), "{error}");
        // A realm with it is none either.
        let levels = [level(Method::Wait), bad];
        let realm = RealmKeys::new(&keyring(), "default", &levels, BindingRules::default());
        assert_eq!(realm.unwrap_err(), error);
    }
}

#[test]
fn a_realm_has_1_to_255_levels_and_a_name_of_1024_bytes_at_most() {
    let of = |name: &str, count| {
        let levels = vec![levels()[0].clone(); count];
        RealmKeys::new(&keyring(), name, &levels, BindingRules::default())
    };
    assert_eq!(of("a", 255).unwrap().level_count(), 255);
    for count in [0, 256, 257] {
        let error = of("a", count).unwrap_err();
        assert_eq!(error, LevelError::Count(count));
        assert!(error.to_string().contains("want 1 to 255"), "{error}");
    }
    assert!(of(&"a".repeat(1024), 1).is_ok());
    let error = of(&"a".repeat(1025), 1).unwrap_err();
    assert_eq!(error, LevelError::RealmTooLong);
    assert!(
        error.to_string().contains("more than 1024 bytes"),
        "{error}"
    );
}

#[test]
fn prefixes_that_bind_to_too_little_or_too_much_are_refused() {
    for (ipv4, ipv6) in [(24, 48), (32, 64), (28, 56)] {
        assert!(BindingRules::new(Some(ipv4), Some(ipv6), false, false).is_ok());
    }
    for prefix in [0, 23, 33, 255] {
        let error = BindingRules::new(Some(prefix), None, true, true).unwrap_err();
        assert_eq!(error, BindingError::Ipv4Prefix(prefix));
        assert!(error.to_string().contains("want 24 to 32"), "{error}");
    }
    for prefix in [0, 47, 65, 128, 255] {
        let error = BindingRules::new(None, Some(prefix), true, true).unwrap_err();
        assert_eq!(error, BindingError::Ipv6Prefix(prefix));
        assert!(error.to_string().contains("want 48 to 64"), "{error}");
    }
    let default = BindingRules::new(Some(32), Some(64), true, false).unwrap();
    assert_eq!(default, BindingRules::default());
}

#[test]
fn a_host_is_taken_in_one_form_or_not_at_all() {
    let rules = ScopeRules::default();
    let long = |len: usize| "x".repeat(len);
    let (longest, too_long, far_too_long) = (long(255), long(256), long(300));
    let with_port = format!("{longest}:443");
    for (header, expected) in [
        ("shop.test", Ok("shop.test")),
        ("SHOP.Test", Ok("shop.test")),
        ("shop.test:443", Ok("shop.test")),
        ("shop.test:", Ok("shop.test")),
        ("shop.test:0", Ok("shop.test")),
        ("shop.test:65535", Ok("shop.test")),
        ("shop.test.", Ok("shop.test")),
        ("shop.test.:8443", Ok("shop.test")),
        ("localhost", Ok("localhost")),
        ("_dmarc.x-y.test", Ok("_dmarc.x-y.test")),
        ("192.0.2.1:80", Ok("192.0.2.1")),
        ("[2001:DB8::1]", Ok("2001:db8::1")),
        ("[2001:db8::1]:8443", Ok("2001:db8::1")),
        ("[::ffff:192.0.2.1]", Ok("::ffff:192.0.2.1")),
        (&longest, Ok(&longest)),
        (&with_port, Ok(&longest)),
        ("", Err(HostError::Empty)),
        (":80", Err(HostError::Empty)),
        (".", Err(HostError::Empty)),
        ("[]", Err(HostError::Empty)),
        (&too_long, Err(HostError::TooLong)),
        (&far_too_long, Err(HostError::TooLong)),
        ("shop.test:65536", Err(HostError::Malformed)),
        ("shop.test:443443", Err(HostError::Malformed)),
        ("shop.test:000443", Err(HostError::Malformed)),
        ("shop.test:4294967739", Err(HostError::Malformed)),
        ("shop.test:+80", Err(HostError::Malformed)),
        ("shop.test:80:80", Err(HostError::Malformed)),
        ("shop.test:x", Err(HostError::Malformed)),
        ("shop..test", Err(HostError::Malformed)),
        (".shop.test", Err(HostError::Malformed)),
        ("shop.test..", Err(HostError::Malformed)),
        ("shop.test; Domain=test", Err(HostError::Malformed)),
        ("shop.test;Domain=test", Err(HostError::Malformed)),
        ("shop.test\r\nSet-Cookie: a=b", Err(HostError::Malformed)),
        ("shop.test\0", Err(HostError::Malformed)),
        ("shop.test ", Err(HostError::Malformed)),
        (" shop.test", Err(HostError::Malformed)),
        ("user@shop.test", Err(HostError::Malformed)),
        ("shop.test/", Err(HostError::Malformed)),
        ("shop,test", Err(HostError::Malformed)),
        ("*.test", Err(HostError::Malformed)),
        ("b\u{fc}cher.test", Err(HostError::Malformed)),
        ("2001:db8::1", Err(HostError::Malformed)),
        ("[2001:db8::1", Err(HostError::Malformed)),
        ("[2001:db8::1]x", Err(HostError::Malformed)),
        ("[2001:db8::1].:80", Err(HostError::Malformed)),
        ("[fe80::1%eth0]", Err(HostError::Malformed)),
        ("[shop.test]", Err(HostError::Malformed)),
        ("[192.0.2.1]", Err(HostError::Malformed)),
        ("[::1;x]", Err(HostError::Malformed)),
    ] {
        let scope = rules.scope(Some(header.as_bytes()));
        let found = scope
            .as_ref()
            .map(|scope| scope.host())
            .map_err(|error| *error);
        assert_eq!(found, expected, "{header:?}");
    }
    // In bytes that are no text, too.
    for header in [&b"\xff.test"[..], b"[\xff]", b"shop.test\x80"] {
        assert_eq!(rules.scope(Some(header)).unwrap_err(), HostError::Malformed);
    }
    // HAProxy need not say.
    assert_eq!(rules.scope(None).unwrap().host(), "");
    let texts = [
        HostError::Empty,
        HostError::TooLong,
        HostError::Malformed,
        HostError::Unknown,
    ];
    assert!(
        texts
            .iter()
            .all(|error| error.to_string().starts_with("the host is "))
    );
}

#[test]
fn hosts_that_the_realm_does_not_serve_are_refused() {
    let patterns = ["shop.test", "*.example.com"].map(|text| HostPattern::new(text).unwrap());
    let rules = ScopeRules::new::<'static>(patterns, ["example.com"]).unwrap();
    for (header, expected) in [
        ("shop.test", Ok(None)),
        ("SHOP.test.:443", Ok(None)),
        ("a.example.com", Ok(Some("example.com"))),
        ("a.example.com:8443", Ok(Some("example.com"))),
        ("example.com", Err(HostError::Unknown)),
        ("other.test", Err(HostError::Unknown)),
        ("shop.test.evil", Err(HostError::Unknown)),
        ("evil-example.com", Err(HostError::Unknown)),
        ("a.example.com;", Err(HostError::Malformed)),
    ] {
        let scope = rules.scope(Some(header.as_bytes()));
        let found = scope
            .as_ref()
            .map(Scope::shared_domain)
            .map_err(|error| *error);
        assert_eq!(found, expected, "{header:?}");
    }
    assert_eq!(rules.scope(None).unwrap_err(), HostError::Unknown);
}

#[test]
fn a_domain_to_trust_is_one() {
    let rules = |domain: &'static str| ScopeRules::new([], [domain]);
    for domain in ["example.com", "a.b.c.d", "xn--bcher-kva.test"] {
        assert!(rules(domain).is_ok(), "{domain}");
    }
    for domain in [
        "",
        "com",
        ".com",
        "example.com.",
        ".example.com",
        "Example.com",
        "example.com:80",
        "*.com",
        "192.0.2.1",
        "[2001:db8::1]",
        "2001:db8::1",
        "example.com; Secure",
        "a b.com",
    ] {
        let error = rules(domain).unwrap_err();
        assert_eq!(error.domain, domain);
        let text = error.to_string();
        assert!(
            text.contains("no domain to trust: want one of two labels or more"),
            "{text}"
        );
    }
}

#[test]
fn a_domain_has_what_is_below_it_and_nothing_that_ends_so() {
    for (host, expected) in [
        ("example.com", Some("example.com")),
        ("a.example.com", Some("example.com")),
        ("A.B.Example.COM.", Some("example.com")),
        ("evil-example.com", None),
        ("evilexample.com", None),
        ("example.com.evil.test", None),
        ("com", None),
        ("b.example", Some("b.example")),
    ] {
        assert_eq!(scope_of(host).shared_domain(), expected, "{host}");
    }
}

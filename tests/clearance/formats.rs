//! Formats that do not change: other programs, and tokens in browsers, rely on them.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use ringspoa::agents::challenge::{
    Algorithm, BindingRules, Class, Failure, Keyring, Reason, Submission, SupportId, Terms, Visit,
};
use sha2::{Digest, Sha256};

use super::*;

/// What tests/data/clearance.py, which shares no line with this, writes of the format: for each case its
/// words.
fn vectors() -> BTreeMap<&'static str, BTreeMap<&'static str, &'static str>> {
    let mut cases = BTreeMap::new();
    let mut case = "";
    for line in include_str!("../data/clearance.txt").lines() {
        if let Some(name) = line.strip_prefix('[') {
            case = name.trim_end_matches(']');
            cases.insert(case, BTreeMap::new());
        } else if let Some((word, value)) = line.rsplit_once(' ') {
            cases.get_mut(case).unwrap().insert(word, value);
        }
    }
    cases
}

struct Case {
    name: &'static str,
    key_id: u8,
    realm: &'static str,
    level: u8,
    terms: Terms,
    rules: BindingRules,
    host: Option<&'static str>,
    address: Option<&'static str>,
    user_agent: Option<&'static str>,
    tls: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let of = |level: u8| Terms::of(level, &levels()[usize::from(level) - 1], TTL_S);
    let rules =
        |ipv4, ipv6, user_agent, tls| BindingRules::new(ipv4, ipv6, user_agent, tls).unwrap();
    vec![
        Case {
            name: "sha256",
            key_id: 7,
            realm: "default",
            level: POW,
            terms: of(POW),
            rules: BindingRules::default(),
            host: Some("shop.test"),
            address: Some("203.0.113.7"),
            user_agent: Some("Mozilla/5.0"),
            tls: Some("not asked for"),
        },
        Case {
            name: "pbkdf2",
            key_id: 3,
            realm: "another realm",
            level: PBKDF2,
            terms: of(PBKDF2),
            rules: rules(Some(24), None, false, true),
            host: Some("Shop.Test:443"),
            address: Some("::ffff:203.0.113.7"),
            user_agent: Some("not asked for"),
            tls: Some("t13d1516h2"),
        },
        Case {
            name: "wait",
            key_id: 7,
            realm: "default",
            level: WAIT,
            terms: of(WAIT),
            rules: rules(Some(32), Some(56), true, true),
            host: Some("a.example.com"),
            address: Some("2001:db8:1:2ff::1"),
            user_agent: Some("Mozilla/5.0"),
            tls: Some("t13d1516h2"),
        },
        Case {
            name: "nojs",
            key_id: 7,
            realm: "default",
            level: POW,
            terms: Terms {
                level: POW,
                algorithm: Algorithm::Wait,
                class: Class::NoJs,
                wait_s: 9,
                ttl_s: TTL_S,
                work: 0,
                parts: 0,
                iterations: 0,
                anew_of: None,
            },
            rules: rules(Some(32), None, true, true),
            host: Some("[2001:DB8::1]"),
            address: Some("2001:db8::1"),
            user_agent: Some(""),
            tls: Some(""),
        },
        Case {
            name: "captcha",
            key_id: 3,
            realm: "",
            level: CAPTCHA,
            terms: of(CAPTCHA),
            rules: rules(Some(32), Some(64), true, true),
            host: None,
            address: None,
            user_agent: None,
            tls: None,
        },
    ]
}

#[test]
fn challenges_and_tokens_are_as_another_program_writes_them() {
    let vectors = vectors();
    let trusted = ScopeRules::new([], ["example.com"]).unwrap();
    for case in cases() {
        let expected = &vectors[case.name];
        let (first, second) = (key(7, SECRETS[0]), key(3, SECRETS[1]));
        let keys = match case.key_id {
            7 => vec![first, second],
            _ => vec![second, first],
        };
        let keys = realm_of(
            &Keyring::new(keys).unwrap(),
            case.realm,
            &levels(),
            case.rules,
        );
        let scope = trusted.scope(case.host.map(str::as_bytes)).unwrap();
        let visit = Visit {
            scope: &scope,
            address: case.address.map(address),
            user_agent: case.user_agent.map(str::as_bytes),
            tls: case.tls.map(str::as_bytes),
            now_unix_s: NOW,
        };
        let issued = keys.issue(&case.terms, ID, &visit).unwrap();
        assert_eq!(issued.as_str(), expected["challenge"], "{}", case.name);
        assert_eq!(encoded(issued.as_bytes()), expected["challenge"]);
        let returned = keys.sign_return(&issued, b"/a/path?q=1", &visit).unwrap();
        assert_eq!(returned.as_str(), expected["return"], "{}", case.name);
        let support_id = SupportId::from(issued.challenge.id);
        assert_eq!(support_id.as_str(), expected["support-id"]);

        // Its solution is found here too, and is taken.
        let solution = match case.terms.algorithm {
            Algorithm::Sha256 | Algorithm::Pbkdf2 => expected["solution"],
            Algorithm::Captcha => "an-answer",
            _ => "",
        };
        let body = format!("{}.{solution}", issued.as_str());
        if let Some(nonces) = solve(issued.as_bytes()) {
            assert_eq!(solution_body(issued.as_str(), &nonces), body);
        }
        let visit = after(visit, case.terms.wait_s.into());
        let (token, text) = submit(&keys, body.as_bytes(), &visit).unwrap();
        assert_eq!(text.as_str(), expected["token"], "{}", case.name);
        assert_eq!(token.class(), case.terms.class);
        let read = keys.validate(expected["token"].as_bytes(), case.level, &visit);
        assert_eq!(read, Ok(token), "{}", case.name);
    }
}

#[test]
fn pseudonyms_are_as_another_program_writes_them() {
    let vectors = vectors();
    for (id, secret) in [(7, SECRETS[0]), (3, SECRETS[1])] {
        let keyring = Keyring::new(vec![key(id, secret)]).unwrap();
        for text in ["203.0.113.7", "2001:db8::1"] {
            let pseudonym = format!("{:016x}", keyring.pseudonym(address(text)));
            assert_eq!(pseudonym, vectors["pseudonyms"][&*format!("{id} {text}")]);
        }
    }
}

#[test]
fn every_class_has_a_word_and_a_place_in_the_flags() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let classes = [
        (Class::Wait, 0, "wait"),
        (Class::Pow, 1, "pow"),
        (Class::Captcha, 2, "captcha"),
        (Class::NoJs, 3, "nojs"),
        (Class::Operator, 4, "operator"),
        (Class::Pbkdf2, 5, "pbkdf2"),
    ];
    for (class, bits, word) in classes {
        let terms = Terms {
            class,
            wait_s: 0,
            ..Terms::of(WAIT, &levels()[0], TTL_S)
        };
        let issued = keys.issue(&terms, ID, &visit).unwrap();
        assert_eq!(issued.as_bytes()[4] >> 4, bits);
        let body = format!("{}.", issued.as_str());
        let (token, text) = submit(&keys, body.as_bytes(), &visit).unwrap();
        assert_eq!((token.class(), class.as_str()), (class, word));
        assert_eq!(decoded(text.as_str())[2] >> 4, bits);
        let said = format!("{:?}", token.flags);
        assert!(said.contains(&format!("class: Some({class:?})")), "{said}");
    }
}

/// What key 7 signs for a level of the realm, by the words of the format.
fn signature(purpose: &str, level: u8, thing: &[u8], text: &[u8]) -> [u8; 16] {
    let hmac = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let extracted = hmac(&[0; 32], &[SECRETS[0]]);
    let info = format!("ringspoa challenge 1 {purpose}");
    let key = hmac(&extracted, &[info.as_bytes(), &[1]]);
    let definition = levels()[usize::from(level) - 1].definition();
    let realm_and_level = Sha256::digest([b"\0\x07default", &definition[..]].concat());
    let mut label = [0; 32];
    label[..purpose.len()].copy_from_slice(purpose.as_bytes());
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    let full = hmac(&key, &[&realm_and_level, &label, thing, &length, text]);
    *full.first_chunk().unwrap()
}

#[test]
fn what_is_signed_and_of_another_version_is_none() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let token = decoded(&cleared(&keys, &visit));
    let challenge = issue(&keys, POW, &visit).as_bytes().to_vec();
    let host = b"shop.test";
    let changed = |raw: &[u8], purpose: &str, change: (usize, u8)| {
        let mut bytes = raw[..raw.len() - 16].to_vec();
        bytes[change.0] = change.1;
        let signature = signature(purpose, POW, &bytes, host);
        encoded(&[&bytes[..], &signature].concat())
    };
    let validated = |purpose, change| {
        let text = changed(&token, purpose, change);
        validated(&keys, &text, POW, &visit)
    };
    let opened = |purpose, change| {
        let text = changed(&challenge, purpose, change);
        let submission = Submission::without_solution(text.as_bytes()).unwrap();
        keys.open(&submission, &visit).map(|_| ())
    };
    let (flags, algorithm) = (token[2], challenge[2]);
    assert_eq!(validated("clearance", (0, 1)), Ok(()));
    assert_eq!(opened("challenge", (0, 1)), Ok(()));
    for version in [0, 2, 255] {
        assert_eq!(validated("clearance", (0, version)), Err(Reason::Malformed));
        assert_eq!(opened("challenge", (0, version)), Err(Failure::Format));
    }
    for class in 0..8 {
        let flags = flags & 0x8f | class << 4;
        let is_known = class < 6;
        assert_eq!(validated("clearance", (2, flags)).is_ok(), is_known);
        assert_eq!(opened("challenge", (4, flags)).is_ok(), is_known);
        if !is_known {
            assert_eq!(validated("clearance", (2, flags)), Err(Reason::Malformed));
            assert_eq!(opened("challenge", (4, flags)), Err(Failure::Format));
        }
    }
    for other in 0..=255 {
        let expected = if other < 4 {
            Ok(())
        } else {
            Err(Failure::Format)
        };
        assert_eq!(opened("challenge", (2, other)), expected);
    }
    // What is signed for one purpose counts for no other.
    for purpose in ["challenge", "nojs", "log", "tags", ""] {
        assert_eq!(validated(purpose, (0, 1)), Err(Reason::Mac));
    }
    for purpose in ["clearance", "nojs", "log", "tags", ""] {
        assert_eq!(opened(purpose, (2, algorithm)), Err(Failure::Mac));
    }
}

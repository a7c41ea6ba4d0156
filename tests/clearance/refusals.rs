//! What is refused, and for what reason: time, keys, realms, levels, and anything that was not signed.

use ringspoa::agents::challenge::{
    BindingRules, CHALLENGE_TEXT_LEN, CLOCK_TOLERANCE_S, Class, Failure, Key, Keyring, Level,
    Method, Reason, ScopeRules, Submission, TOKEN_LEN, TOKEN_TEXT_LEN, Terms, TokenId, Visit,
};

use super::*;

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[test]
fn a_token_is_good_for_its_level_and_those_below() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let text = cleared(&keys, &visit);
    let token = keys.validate(text.as_bytes(), POW, &visit).unwrap();
    assert_eq!((token.level, token.class()), (POW, Class::Pow));
    assert_eq!((token.age_s(NOW + 9), token.left_s(NOW)), (9, 3600));
    assert_eq!(validated(&keys, &text, 1, &visit), Ok(()));
    for level in [3, 4, 5, 255] {
        assert_eq!(validated(&keys, &text, level, &visit), Err(Reason::Level));
    }
}

#[test]
fn every_bit_of_a_token_counts() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, CAPTCHA, &visit);
    let (_, text) = submit(&keys, format!("{}.x", issued.as_str()).as_bytes(), &visit).unwrap();
    let text = text.as_str();
    assert_eq!(validated(&keys, text, 1, &visit), Ok(()));
    for bit in 0..8 * TOKEN_LEN {
        let mut bytes = decoded(text);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refusal = keys
            .validate(encoded(&bytes).as_bytes(), 1, &visit)
            .unwrap_err();
        assert_eq!(refusal.token, None, "bit {bit} is not signed");
        let expected = match bit {
            0..8 => Reason::Malformed,
            // Key 6 and others that there are not; 7 ^ 4 is the other one.
            8..16 if bit != 10 => Reason::RevokedKey,
            // A captcha's class, 2, with another bit is one that there is not.
            22 => Reason::Malformed,
            // A trusted domain, which the host is not of.
            23 => Reason::Host,
            // Level 4 and bits: 5, 6, 0 and others that there are not.
            24..32 => Reason::Level,
            _ => Reason::Mac,
        };
        assert_eq!(refusal.reason, expected, "bit {bit}");
    }
}

#[test]
fn every_bit_of_a_challenge_counts() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, CAPTCHA, &visit);
    let solution = ".x";
    let body = format!("{}{solution}", issued.as_str());
    assert_eq!(submitted(&keys, body.as_bytes(), &visit), Ok(()));
    for bit in 0..8 * issued.as_bytes().len() {
        let mut bytes = *issued.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let body = encoded(&bytes) + solution;
        let failure = submitted(&keys, body.as_bytes(), &visit).unwrap_err();
        let expected = match bit {
            0..8 => Failure::Format,
            8..16 if bit != 10 => Failure::Key,
            // Algorithm 3 and bits: 2 and 1 there are, too.
            18..24 => Failure::Format,
            24..32 => Failure::Level,
            38 => Failure::Format,
            39 => Failure::Host,
            _ => Failure::Mac,
        };
        assert_eq!(failure, expected, "bit {bit}");
    }
}

#[test]
fn every_character_of_a_token_and_a_challenge_counts() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let text = cleared(&keys, &visit);
    let body = solved_body(&issue(&keys, POW, &visit));
    let others = |byte: u8| {
        ALPHABET
            .iter()
            .chain(b"+/= .\0\xff")
            .filter(move |&&other| other != byte)
    };
    for place in 0..TOKEN_TEXT_LEN {
        for &other in others(text.as_bytes()[place]) {
            let mut forged = text.clone().into_bytes();
            forged[place] = other;
            let refusal = keys.validate(&forged, 1, &visit).unwrap_err();
            let is_text = ALPHABET.contains(&other);
            let is_malformed = refusal.reason == Reason::Malformed;
            assert!(is_text || is_malformed, "{place} {other}: {refusal:?}");
        }
    }
    for place in 0..=CHALLENGE_TEXT_LEN {
        for &other in others(body.as_bytes()[place]) {
            let mut forged = body.clone().into_bytes();
            forged[place] = other;
            let failure = submitted(&keys, &forged, &visit).unwrap_err();
            let is_text = ALPHABET.contains(&other) && place != CHALLENGE_TEXT_LEN;
            let is_malformed = failure == Failure::Format;
            assert!(is_text || is_malformed, "{place} {other}: {failure:?}");
        }
    }
}

#[test]
fn what_is_cut_off_or_longer_is_none() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let text = cleared(&keys, &visit);
    for len in 0..text.len() {
        assert_eq!(
            validated(&keys, &text[..len], 1, &visit),
            Err(Reason::Malformed)
        );
    }
    for more in ["A", "AA", "AAAA", "=", "\0"] {
        let longer = format!("{text}{more}");
        assert_eq!(validated(&keys, &longer, 1, &visit), Err(Reason::Malformed));
    }
    let issued = issue(&keys, POW, &visit);
    let body = solved_body(&issued);
    for len in 0..=CHALLENGE_TEXT_LEN {
        let cut = &body.as_bytes()[..len];
        assert_eq!(submitted(&keys, cut, &visit), Err(Failure::Format));
        if len < CHALLENGE_TEXT_LEN {
            assert!(matches!(
                Submission::without_solution(cut),
                Err(Failure::Format)
            ));
        }
    }
    assert!(Submission::without_solution(format!("{}.", issued.as_str()).as_bytes()).is_err());
}

#[test]
fn random_texts_are_nobodys() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below).unwrap()
    };
    for _ in 0..100_000 {
        let text: Vec<u8> = (0..TOKEN_TEXT_LEN).map(|_| ALPHABET[random(64)]).collect();
        assert!(keys.validate(&text, 1, &visit).is_err());
        let len = random(200);
        let body: Vec<u8> = (0..len)
            .map(|_| ALPHABET[random(64)])
            .chain(*b".0")
            .collect();
        assert!(submitted(&keys, &body, &visit).is_err());
    }
}

#[test]
fn a_token_lasts_up_to_its_end_and_not_a_second_longer() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let text = cleared(&keys, &visit);
    let duration_s = u64::from(DURATION_S);
    assert_eq!(
        validated(&keys, &text, 1, &after(visit, duration_s - 1)),
        Ok(())
    );
    for late in [duration_s, duration_s + 1, u64::from(u32::MAX)] {
        let refusal = keys
            .validate(text.as_bytes(), 1, &after(visit, late))
            .unwrap_err();
        assert_eq!(refusal.reason, Reason::Expired);
        assert_eq!(refusal.token.map(|token| token.issued), Some(NOW_S));
    }
}

#[test]
fn clocks_may_be_a_minute_apart() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let text = cleared(&keys, &visit);
    let tolerated = before(visit, CLOCK_TOLERANCE_S);
    assert_eq!(validated(&keys, &text, 1, &tolerated), Ok(()));
    let refused = before(visit, CLOCK_TOLERANCE_S + 1);
    assert_eq!(validated(&keys, &text, 1, &refused), Err(Reason::Future));

    // A challenge that takes no waiting takes none on an agent whose clock is behind either.
    let body = solved_body(&issue(&keys, POW, &visit));
    assert_eq!(submitted(&keys, body.as_bytes(), &before(visit, 1)), Ok(()));
    assert_eq!(submitted(&keys, body.as_bytes(), &tolerated), Ok(()));
    assert_eq!(
        submitted(&keys, body.as_bytes(), &refused),
        Err(Failure::Future)
    );
    // Of one that does, no second is left out.
    let body = format!("{}.", issue(&keys, WAIT, &visit).as_str());
    assert_eq!(
        submitted(&keys, body.as_bytes(), &tolerated),
        Err(Failure::Early { wait_s: 65 })
    );
}

#[test]
fn a_challenge_is_over_after_its_time() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let ttl_s = u64::from(TTL_S);
    let body = solved_body(&issue(&keys, POW, &visit));
    assert_eq!(
        submitted(&keys, body.as_bytes(), &after(visit, ttl_s - 1)),
        Ok(())
    );
    let late = after(visit, ttl_s);
    assert_eq!(
        submitted(&keys, body.as_bytes(), &late),
        Err(Failure::Expired)
    );
    // That of a level with a wait has as long from when it can be solved.
    let body = format!("{}.", issue(&keys, WAIT, &visit).as_str());
    assert_eq!(
        submitted(&keys, body.as_bytes(), &after(visit, ttl_s + 4)),
        Ok(())
    );
    let late = after(visit, ttl_s + 5);
    assert_eq!(
        submitted(&keys, body.as_bytes(), &late),
        Err(Failure::Expired)
    );
}

#[test]
fn who_does_not_wait_gets_nothing() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, WAIT, &visit);
    let body = format!("{}.", issued.as_str());
    for elapsed in 0..5 {
        let early = Failure::Early {
            wait_s: 5 - elapsed,
        };
        let visit = after(visit, elapsed.into());
        assert_eq!(submitted(&keys, body.as_bytes(), &visit), Err(early));
        let submission = Submission::without_solution(issued.as_str().as_bytes()).unwrap();
        assert_eq!(keys.open(&submission, &visit).unwrap_err(), early);
    }
    let visit = after(visit, 5);
    let (token, _) = submit(&keys, body.as_bytes(), &visit).unwrap();
    assert_eq!((token.class(), token.level), (Class::Wait, WAIT));
    // From when the challenge was made.
    assert_eq!((token.issued, token.expires), (NOW_S, NOW_S + DURATION_S));
}

#[test]
fn keys_are_rotated_without_refusing_anybody() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let of = |keys: Vec<Key>| {
        let keyring = Keyring::new(keys).unwrap();
        realm_of(&keyring, "default", &levels(), BindingRules::default())
    };
    let (old, new) = (key(7, SECRETS[0]), key(3, SECRETS[1]));
    let alone = of(vec![old.clone()]);
    let added = of(vec![old.clone(), new.clone()]);
    let first = of(vec![new.clone(), old.clone()]);
    let removed = of(vec![new]);

    let of_old = cleared(&alone, &visit);
    let of_new = cleared(&first, &visit);
    assert_eq!(cleared(&added, &visit), of_old, "the first signs");
    assert_eq!(decoded(&of_old)[1], 7);
    assert_eq!(decoded(&of_new)[1], 3);
    for (keys, expected) in [
        (&alone, [Ok(()), Err(Reason::RevokedKey)]),
        (&added, [Ok(()), Ok(())]),
        (&first, [Ok(()), Ok(())]),
        (&removed, [Err(Reason::RevokedKey), Ok(())]),
    ] {
        let found = [&of_old, &of_new].map(|text| validated(keys, text, POW, &visit));
        assert_eq!(found, expected);
    }

    // A challenge of the old key is solved with the new one in front: it gives a token of the old.
    let body = solved_body(&issue(&alone, POW, &visit));
    let (token, text) = submit(&first, body.as_bytes(), &visit).unwrap();
    assert_eq!((token.key_id, text.as_str()), (7, &*of_old));
    assert_eq!(
        submitted(&removed, body.as_bytes(), &visit),
        Err(Failure::Key)
    );
    // An id that has another secret now is not the key that it was.
    let other = of(vec![key(7, SECRETS[1])]);
    assert_eq!(validated(&other, &of_old, POW, &visit), Err(Reason::Mac));
    assert_eq!(
        submitted(&other, body.as_bytes(), &visit),
        Err(Failure::Mac)
    );
}

#[test]
fn a_key_counts_up_to_its_end() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let ending = Key::new(7, SECRETS[0], Some(NOW + 10)).unwrap();
    let of = |keys| {
        let keyring = Keyring::new(keys).unwrap();
        realm_of(&keyring, "default", &levels(), BindingRules::default())
    };
    let keys = of(vec![ending.clone(), key(3, SECRETS[1])]);
    let text = cleared(&keys, &visit);
    let issued = issue(&keys, POW, &visit);
    let body = solved_body(&issued);
    assert_eq!(decoded(&text)[1], 7);
    assert_eq!(validated(&keys, &text, POW, &after(visit, 10)), Ok(()));
    assert_eq!(submitted(&keys, body.as_bytes(), &after(visit, 10)), Ok(()));
    let late = after(visit, 11);
    assert_eq!(validated(&keys, &text, POW, &late), Err(Reason::RevokedKey));
    assert_eq!(submitted(&keys, body.as_bytes(), &late), Err(Failure::Key));
    let submission = Submission::parse(body.as_bytes()).unwrap();
    assert_eq!(keys.open(&submission, &late).unwrap_err(), Failure::Key);
    // What was solved in time and is signed too late is not.
    let opened = keys.open(&Submission::parse(body.as_bytes()).unwrap(), &visit);
    let Ok(Step::Solved(solved)) = opened.unwrap().judge() else {
        panic!("it is solved");
    };
    assert_eq!(
        keys.clearance(&solved, DURATION_S, &late).unwrap_err(),
        Failure::Key
    );
    // The next one signs from then on.
    assert_eq!(issue(&keys, POW, &late).challenge.key_id, 3);
    assert_eq!(decoded(&cleared(&keys, &late))[1], 3);
    // And without a next one there is nothing to sign with.
    let alone = of(vec![ending]);
    let terms = Terms::of(POW, &levels()[1], TTL_S);
    assert!(alone.issue(&terms, ID, &late).is_none());
    assert!(
        alone
            .operator_token(POW, 60, TokenId([1; 8]), &late)
            .is_none()
    );
    assert!(alone.sign_return(&issued, b"/", &late).is_none());
}

#[test]
fn nothing_of_another_realm_counts() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let one = realm();
    for name in ["Default", "defaul", "default2", ""] {
        let other = realm_of(&keyring(), name, &levels(), BindingRules::default());
        let text = cleared(&one, &visit);
        assert_eq!(
            validated(&other, &text, 1, &visit),
            Err(Reason::Mac),
            "{name}"
        );
        let body = solved_body(&issue(&one, POW, &visit));
        assert_eq!(
            submitted(&other, body.as_bytes(), &visit),
            Err(Failure::Mac),
            "{name}"
        );
    }
}

#[test]
fn nothing_of_a_level_that_was_changed_counts() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let keys = realm();
    let changed: [fn(&mut Level); 9] = [
        |level| level.method = Method::Wait,
        |level| level.wait_s += 1,
        |level| level.duration_s -= 1,
        |level| level.method = Method::Sha256 { work: 65, parts: 4 },
        |level| level.method = Method::Sha256 { work: 64, parts: 5 },
        |level| {
            level.method = Method::Pbkdf2 {
                work: 64,
                parts: 4,
                iterations: 1,
            };
        },
        |level| captcha(level, "turnstile", "a"),
        |level| captcha(level, "turnstile", "b"),
        // The same letters with another border between.
        |level| captcha(level, "turnstil", "ea"),
    ];
    let mut realms = vec![keys];
    for change in changed {
        let mut levels = levels();
        change(&mut levels[1]);
        realms.push(realm_of(
            &keyring(),
            "default",
            &levels,
            BindingRules::default(),
        ));
    }
    for (place, keys) in realms.iter().enumerate() {
        // What this realm's own level would take does not matter: a wait is solved by nothing.
        let terms = Terms::of(POW, &levels()[0], TTL_S);
        let issued = keys.issue(&terms, ID, &visit).unwrap();
        let visit = after(visit, 5);
        let body = format!("{}.", issued.as_str());
        let (_, text) = submit(keys, body.as_bytes(), &visit).unwrap();
        for (other_place, other) in realms.iter().enumerate() {
            let is_same = place == other_place;
            let token = validated(other, text.as_str(), 1, &visit);
            assert_eq!(token, if is_same { Ok(()) } else { Err(Reason::Mac) });
            let challenge = submitted(other, body.as_bytes(), &visit);
            assert_eq!(challenge, if is_same { Ok(()) } else { Err(Failure::Mac) });
        }
    }
}

fn captcha(level: &mut Level, provider: &str, site_key: &str) {
    level.method = Method::Captcha {
        provider: provider.to_owned(),
        site_key: site_key.to_owned(),
    };
}

#[test]
fn nothing_of_a_level_that_is_gone_counts() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let keys = realm();
    let fewer = realm_of(
        &keyring(),
        "default",
        &levels()[..1],
        BindingRules::default(),
    );
    let text = cleared(&keys, &visit);
    assert_eq!(validated(&fewer, &text, 1, &visit), Err(Reason::Level));
    let issued = issue(&keys, POW, &visit);
    let body = solved_body(&issued);
    assert_eq!(
        submitted(&fewer, body.as_bytes(), &visit),
        Err(Failure::Level)
    );
    // None is made for it either, nor for level 0.
    for level in [0, 2, 255] {
        let terms = Terms::of(level, &levels()[1], TTL_S);
        assert!(fewer.issue(&terms, ID, &visit).is_none(), "level {level}");
        assert!(
            fewer
                .operator_token(level, 60, TokenId([1; 8]), &visit)
                .is_none()
        );
    }
    assert!(fewer.sign_return(&issued, b"/", &visit).is_none());
}

#[test]
fn nothing_of_another_host_counts() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let text = cleared(&keys, &visit);
    let body = solved_body(&issue(&keys, POW, &visit));
    for host in [
        "shop.tes",
        "xshop.test",
        "a.shop.test",
        "test",
        "example.com",
    ] {
        let other = scope_of(host);
        let visit = Visit {
            scope: &other,
            ..visit
        };
        assert_eq!(
            validated(&keys, &text, 1, &visit),
            Err(Reason::Mac),
            "{host}"
        );
        assert_eq!(
            submitted(&keys, body.as_bytes(), &visit),
            Err(Failure::Mac),
            "{host}"
        );
    }
    // The same host is, however it is written.
    let same = scope_of("SHOP.Test.:8443");
    let visit = Visit {
        scope: &same,
        ..visit
    };
    assert_eq!(validated(&keys, &text, 1, &visit), Ok(()));
}

#[test]
fn a_trusted_domain_shares_what_its_hosts_get() {
    let keys = realm();
    let scopes = [
        "a.example.com",
        "b.example.com",
        "example.com",
        "x.y.example.com",
    ]
    .map(scope_of);
    let text = cleared(&keys, &visit(&scopes[0]));
    let body = solved_body(&issue(&keys, POW, &visit(&scopes[0])));
    for scope in &scopes {
        assert_eq!(
            validated(&keys, &text, POW, &visit(scope)),
            Ok(()),
            "{scope:?}"
        );
        assert_eq!(
            submitted(&keys, body.as_bytes(), &visit(scope)),
            Ok(()),
            "{scope:?}"
        );
    }
    // Of another trusted domain it is not signed, and of none there is nothing to compare it with.
    for (host, reason, failure) in [
        ("b.example", Reason::Mac, Failure::Mac),
        ("evil-example.com", Reason::Host, Failure::Host),
        ("example.com.evil.test", Reason::Host, Failure::Host),
        ("com", Reason::Host, Failure::Host),
    ] {
        let scope = scope_of(host);
        assert_eq!(
            validated(&keys, &text, POW, &visit(&scope)),
            Err(reason),
            "{host}"
        );
        assert_eq!(
            submitted(&keys, body.as_bytes(), &visit(&scope)),
            Err(failure),
            "{host}"
        );
    }
    // One that a host got for itself, before the domain was trusted, is no domain's.
    let nobody = ScopeRules::default();
    let alone = nobody.scope(Some(b"example.com")).unwrap();
    let text = cleared(&keys, &visit(&alone));
    assert_eq!(
        validated(&keys, &text, POW, &visit(&scopes[0])),
        Err(Reason::Mac)
    );
    assert_eq!(validated(&keys, &text, POW, &visit(&scopes[2])), Ok(()));
}

#[test]
fn the_nearest_reason_is_told() {
    let order = Reason::ALL;
    assert!(order.is_sorted());
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let good = cleared(&keys, &visit);
    let forged = format!("{}A", &good[..63]);
    let elsewhere = cleared(&keys, &from(visit, "198.51.100.1"));
    let over = cleared(&keys, &before(visit, 4000));
    let pairs = [
        (String::new(), Reason::None),
        ("junk".to_owned(), Reason::Malformed),
        (forged, Reason::Mac),
        (over, Reason::Expired),
        (elsewhere, Reason::Address),
    ];
    let header = |texts: &[&String]| -> String {
        let pairs = texts.iter().filter(|text| !text.is_empty());
        pairs.map(|text| format!("clearance={text}; ")).collect()
    };
    for (index, (text, reason)) in pairs.iter().enumerate() {
        for (other, _) in &pairs[..index] {
            for texts in [[text, other], [other, text]] {
                let found = validated_header(&keys, &header(&texts), &visit);
                assert_eq!(found, Err(*reason), "{texts:?}");
            }
        }
    }
    // It comes with the token that it is about.
    let names = CookieNames::default();
    let texts: Vec<&String> = pairs.iter().map(|(text, _)| text).collect();
    let cookies = header(&texts);
    let cookies = Cookies::Header(cookies.as_bytes());
    let refusal = keys
        .validate_cookies(&names, cookies, POW, &visit)
        .unwrap_err();
    assert_eq!(refusal.token.map(|token| token.issued), Some(NOW_S));
}

#[test]
fn every_reason_and_failure_has_a_word() {
    let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(words.len(), Reason::ALL.len());
    for (failure, code) in [
        (Failure::Format, "format"),
        (Failure::Solution, "format"),
        (Failure::Key, "mac"),
        (Failure::Mac, "mac"),
        (Failure::Host, "host"),
        (Failure::Tls, "binding"),
        (Failure::UserAgent, "binding"),
        (Failure::Address, "binding"),
        (Failure::Level, "expired"),
        (Failure::Future, "expired"),
        (Failure::Expired, "expired"),
        (Failure::Early { wait_s: 1 }, "early"),
        (Failure::Work, "work"),
    ] {
        assert_eq!(failure.code(), code);
    }
}

#[test]
fn an_operator_makes_tokens_without_a_challenge() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = Visit {
        user_agent: None,
        ..visit(&scope)
    };
    let id = TokenId([0xab; 8]);
    let (token, text) = keys.operator_token(CAPTCHA, 86_400, id, &visit).unwrap();
    assert_eq!(
        (token.class(), token.level, token.id),
        (Class::Operator, CAPTCHA, id)
    );
    assert_eq!((token.issued, token.left_s(NOW)), (NOW_S, 86_400));
    assert_eq!(
        keys.validate(text.as_str().as_bytes(), CAPTCHA, &visit),
        Ok(token)
    );
    assert_eq!(id.to_string(), "abababababababab");
    let shared = scope_of("a.example.com");
    let visit = Visit {
        scope: &shared,
        ..visit
    };
    let (token, _) = keys.operator_token(1, 60, id, &visit).unwrap();
    assert!(token.flags.is_shared());
}

#[test]
fn a_token_of_the_operator_is_bound_to_what_the_operator_chose() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let keys = bound_to(Some(32), Some(64), true, true);
    let other = Visit {
        user_agent: Some(b"other"),
        tls: Some(b"other"),
        ..from(visit, "2001:db8::1")
    };
    let shown = |chosen: &Visit<'_>, shown: &Visit<'_>| {
        let token = keys.operator_token(POW, 60, TokenId([1; 8]), chosen);
        validated(&keys, token.unwrap().1.as_str(), POW, shown)
    };
    let nothing = Visit {
        address: None,
        user_agent: None,
        tls: None,
        ..visit
    };
    assert_eq!(shown(&nothing, &visit), Ok(()));
    assert_eq!(shown(&nothing, &other), Ok(()));
    let only_address = Visit {
        address: visit.address,
        ..nothing
    };
    let only_agent = Visit {
        user_agent: visit.user_agent,
        ..nothing
    };
    let only_tls = Visit {
        tls: visit.tls,
        ..nothing
    };
    for (chosen, reason) in [
        (only_address, Reason::Address),
        (only_agent, Reason::UserAgent),
        (only_tls, Reason::Tls),
        (visit, Reason::Tls),
    ] {
        assert_eq!(shown(&chosen, &visit), Ok(()), "{reason:?}");
        assert_eq!(shown(&chosen, &other), Err(reason));
    }
}

#[test]
fn a_path_is_signed_for_one_challenge() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let terms = |wait_s| Terms {
        wait_s,
        ..Terms::of(POW, &levels()[0], TTL_S)
    };
    let issued = keys.issue(&terms(0), ID, &visit).unwrap();
    let path = b"/a/path?q=1";
    let signature = keys.sign_return(&issued, path, &visit).unwrap();
    let signature = signature.as_str().as_bytes();
    let open = |issued: &Issued| {
        let text = issued.as_str().to_owned();
        let submission = Submission::without_solution(text.as_bytes()).unwrap();
        keys.open(&submission, &visit).unwrap()
    };
    let opened = open(&issued);
    assert!(keys.is_return(&opened, path, signature, &visit));
    for other in [&b"/a/path?q=2"[..], b"/a/path?q=1&", b"//evil.test", b""] {
        assert!(!keys.is_return(&opened, other, signature, &visit));
    }
    let mut forged = signature.to_vec();
    for place in 0..forged.len() {
        for &other in ALPHABET {
            forged[place] = other;
            let is_same = other == signature[place];
            assert_eq!(keys.is_return(&opened, path, &forged, &visit), is_same);
        }
        forged[place] = signature[place];
    }
    for text in [
        &signature[..21],
        &[signature, b"A"].concat(),
        &[signature, b"=="].concat(),
        b"",
    ] {
        assert!(!keys.is_return(&opened, path, text, &visit));
    }
    let another = keys.issue(&terms(0), ChallengeId([1; 12]), &visit).unwrap();
    assert!(!keys.is_return(&open(&another), path, signature, &visit));
    // More than a length in front can say is not signed, and is no path either.
    let long = vec![b'/'; 65_536];
    assert!(keys.sign_return(&issued, &long, &visit).is_none());
    let longest = &long[1..];
    let signature = keys.sign_return(&issued, longest, &visit).unwrap();
    assert!(keys.is_return(&opened, longest, signature.as_str().as_bytes(), &visit));
    assert!(!keys.is_return(&opened, &long, signature.as_str().as_bytes(), &visit));
}

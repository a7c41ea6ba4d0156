//! Whom a token is for: addresses by their network, user agent and TLS.

use ringspoa::agents::challenge::{BindingRules, Failure, Reason, Visit};

use super::*;

/// What becomes of a token, and of a challenge, that one visitor got and another shows.
fn shown_by(
    keys: &RealmKeys,
    got: &Visit<'_>,
    shows: &Visit<'_>,
) -> (Result<(), Reason>, Result<(), Failure>) {
    let text = cleared(keys, got);
    let body = solved_body(&issue(keys, POW, got));
    (
        validated(keys, &text, POW, shows),
        submitted(keys, body.as_bytes(), shows),
    )
}

const TAKEN: (Result<(), Reason>, Result<(), Failure>) = (Ok(()), Ok(()));
const OTHER_ADDRESS: (Result<(), Reason>, Result<(), Failure>) =
    (Err(Reason::Address), Err(Failure::Address));
const OTHER_AGENT: (Result<(), Reason>, Result<(), Failure>) =
    (Err(Reason::UserAgent), Err(Failure::UserAgent));
const OTHER_TLS: (Result<(), Reason>, Result<(), Failure>) = (Err(Reason::Tls), Err(Failure::Tls));

#[test]
fn a_network_is_as_wide_as_its_rule_says() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    for (ipv4, ipv6, got, shows, expected) in [
        (Some(32), None, "192.0.2.1", "192.0.2.1", TAKEN),
        (Some(32), None, "192.0.2.1", "192.0.2.0", OTHER_ADDRESS),
        (Some(31), None, "192.0.2.1", "192.0.2.0", TAKEN),
        (Some(31), None, "192.0.2.1", "192.0.2.2", OTHER_ADDRESS),
        (Some(24), None, "192.0.2.1", "192.0.2.255", TAKEN),
        (Some(24), None, "192.0.2.1", "192.0.3.1", OTHER_ADDRESS),
        (None, None, "192.0.2.1", "198.51.100.1", TAKEN),
        (None, Some(64), "2001:db8::1", "2001:db8::ffff:0:0:2", TAKEN),
        (
            None,
            Some(64),
            "2001:db8::1",
            "2001:db8:0:1::1",
            OTHER_ADDRESS,
        ),
        (None, Some(56), "2001:db8::1", "2001:db8:0:ff::1", TAKEN),
        (
            None,
            Some(56),
            "2001:db8::1",
            "2001:db8:0:100::1",
            OTHER_ADDRESS,
        ),
        (None, Some(48), "2001:db8::1", "2001:db8:0:ffff::1", TAKEN),
        (
            None,
            Some(48),
            "2001:db8::1",
            "2001:db8:1::1",
            OTHER_ADDRESS,
        ),
        (None, None, "2001:db8::1", "2001:dead::1", TAKEN),
        // An address of IPv4 is one, however it is written, and of IPv6 is none.
        (Some(32), Some(64), "::ffff:192.0.2.1", "192.0.2.1", TAKEN),
        (Some(32), Some(64), "192.0.2.1", "::ffff:192.0.2.1", TAKEN),
        (
            Some(32),
            Some(64),
            "192.0.2.1",
            "::ffff:192.0.2.2",
            OTHER_ADDRESS,
        ),
        (
            Some(32),
            Some(64),
            "192.0.2.1",
            "2001:db8::1",
            OTHER_ADDRESS,
        ),
        (
            Some(32),
            Some(64),
            "2001:db8::1",
            "192.0.2.1",
            OTHER_ADDRESS,
        ),
        // Who got it from where nothing is bound shows it from where something is.
        (None, Some(64), "192.0.2.1", "2001:db8::1", OTHER_ADDRESS),
        (Some(32), None, "2001:db8::1", "192.0.2.1", OTHER_ADDRESS),
        (Some(24), Some(48), "::", "0.0.0.0", OTHER_ADDRESS),
    ] {
        let keys = bound_to(ipv4, ipv6, true, false);
        let found = shown_by(&keys, &from(visit, got), &from(visit, shows));
        assert_eq!(found, expected, "{ipv4:?} {ipv6:?}: {got}, then {shows}");
    }
}

#[test]
fn a_network_is_not_one_of_another_width() {
    let scope = scope_of("shop.test");
    let visit = from(visit(&scope), "192.0.2.0");
    let (wide, narrow) = (
        bound_to(Some(24), None, true, false),
        bound_to(Some(32), None, true, false),
    );
    let text = cleared(&wide, &visit);
    assert_eq!(validated(&narrow, &text, POW, &visit), Err(Reason::Address));
}

#[test]
fn a_token_tells_which_family_it_is_of_and_what_it_is_bound_to() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let flags = |keys: &RealmKeys, visit: &Visit<'_>| issue(keys, POW, visit).challenge.flags;
    let all = bound_to(Some(32), Some(64), true, true);
    for (address, is_ipv6) in [
        ("192.0.2.1", false),
        ("::ffff:192.0.2.1", false),
        ("2001:db8::1", true),
    ] {
        let flags = flags(&all, &from(visit, address));
        assert_eq!(flags.is_ipv6(), is_ipv6, "{address}");
        assert!(flags.binds_address() && flags.binds_user_agent() && flags.binds_tls());
        assert!(!flags.is_shared());
    }
    let nothing = bound_to(None, None, false, false);
    let challenge = issue(&nothing, POW, &visit).challenge;
    let found = challenge.flags;
    assert!(!found.binds_address() && !found.binds_user_agent() && !found.binds_tls());
    assert_eq!(
        challenge.tags,
        Default::default(),
        "there are no tags of what is not bound"
    );
    // Tags are of a key: they tell nothing to who has not got it, and nothing of one key to another.
    let other = Keyring::new(vec![key(7, SECRETS[1])]).unwrap();
    let rules = BindingRules::new(Some(32), Some(64), true, true).unwrap();
    let other = realm_of(&other, "default", &levels(), rules);
    let (one, other) = (issue(&all, POW, &visit), issue(&other, POW, &visit));
    let (one, other) = (one.challenge.tags, other.challenge.tags);
    assert_ne!(one.address, other.address);
    assert_ne!(one.user_agent, other.user_agent);
    assert_ne!(one.tls, other.tls);
    // And the same text has another tag as another thing.
    let twin = Visit {
        tls: visit.user_agent,
        ..visit
    };
    let twin = issue(&all, POW, &twin).challenge.tags;
    assert_ne!(twin.user_agent, twin.tls);
}

#[test]
fn a_token_is_for_one_user_agent_and_tls() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let keys = bound_to(Some(32), Some(64), true, true);
    let agent = |user_agent| Visit {
        user_agent,
        ..visit
    };
    let tls = |tls| Visit { tls, ..visit };
    assert_eq!(shown_by(&keys, &visit, &visit), TAKEN);
    for other in [&b"Mozilla/5.1"[..], b"Mozilla/5.0 ", b""] {
        assert_eq!(shown_by(&keys, &visit, &agent(Some(other))), OTHER_AGENT);
        assert_eq!(shown_by(&keys, &visit, &tls(Some(other))), OTHER_TLS);
    }
    // Where the rules do not ask for it, any will do.
    let loose = bound_to(Some(32), Some(64), false, false);
    assert_eq!(shown_by(&loose, &visit, &agent(Some(b"other"))), TAKEN);
    assert_eq!(shown_by(&loose, &visit, &tls(Some(b"other"))), TAKEN);
    assert_eq!(shown_by(&loose, &visit, &agent(None)), TAKEN);
    assert_eq!(shown_by(&loose, &visit, &tls(None)), TAKEN);
}

#[test]
fn what_is_there_and_empty_is_not_what_is_absent() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let keys = bound_to(Some(32), Some(64), true, true);
    let agent = |user_agent| Visit {
        user_agent,
        ..visit
    };
    let tls = |tls| Visit { tls, ..visit };
    let nowhere = Visit {
        address: None,
        ..visit
    };
    // Nothing is bound to what HAProxy does not send, and it need not send it later.
    assert_eq!(shown_by(&keys, &agent(None), &agent(None)), TAKEN);
    assert_eq!(shown_by(&keys, &tls(None), &tls(None)), TAKEN);
    assert_eq!(shown_by(&keys, &nowhere, &nowhere), TAKEN);
    // An empty text is a text.
    assert_eq!(shown_by(&keys, &agent(Some(b"")), &agent(Some(b""))), TAKEN);
    assert_eq!(shown_by(&keys, &tls(Some(b"")), &tls(Some(b""))), TAKEN);
    // Neither is the other, in either order.
    for (one, other) in [
        (None, Some(&b"x"[..])),
        (Some(&b"x"[..]), None),
        (None, Some(b"")),
        (Some(b""), None),
    ] {
        assert_eq!(shown_by(&keys, &agent(one), &agent(other)), OTHER_AGENT);
        assert_eq!(shown_by(&keys, &tls(one), &tls(other)), OTHER_TLS);
    }
    assert_eq!(shown_by(&keys, &nowhere, &visit), OTHER_ADDRESS);
    assert_eq!(shown_by(&keys, &visit, &nowhere), OTHER_ADDRESS);
    assert_eq!(
        shown_by(&keys, &from(visit, "::1"), &nowhere),
        OTHER_ADDRESS
    );
    // Of a family that is not bound there is nothing to miss.
    let ipv4 = bound_to(Some(32), None, true, true);
    assert_eq!(
        shown_by(&ipv4, &from(visit, "2001:db8::1"), &nowhere),
        TAKEN
    );
}

#[test]
fn rules_that_were_made_stricter_refuse_what_was_bound_to_less() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let text = cleared(&bound_to(None, None, false, false), &visit);
    for (keys, reason) in [
        (bound_to(Some(32), None, false, false), Reason::Address),
        (bound_to(None, None, true, false), Reason::UserAgent),
        (bound_to(None, None, false, true), Reason::Tls),
    ] {
        assert_eq!(validated(&keys, &text, POW, &visit), Err(reason));
    }
    // And looser ones take what was bound to more.
    let text = cleared(&bound_to(Some(32), Some(64), true, true), &visit);
    let loose = bound_to(None, None, false, false);
    let elsewhere = Visit {
        user_agent: None,
        tls: None,
        ..from(visit, "2001:db8::1")
    };
    assert_eq!(validated(&loose, &text, POW, &elsewhere), Ok(()));
    let nowhere = Visit {
        address: None,
        ..elsewhere
    };
    assert_eq!(validated(&loose, &text, POW, &nowhere), Ok(()));
}

#[test]
fn the_address_is_told_if_nothing_else_differs() {
    let scope = scope_of("shop.test");
    let visit = visit(&scope);
    let keys = bound_to(Some(32), Some(64), true, true);
    let text = cleared(&keys, &visit);
    let elsewhere = from(visit, "198.51.100.7");
    let refusal = keys.validate(text.as_bytes(), POW, &elsewhere).unwrap_err();
    assert_eq!(refusal.reason, Reason::Address);
    assert_eq!(refusal.token.map(|token| token.issued), Some(NOW_S));
    let other_agent = Visit {
        user_agent: Some(b"other"),
        ..elsewhere
    };
    assert_eq!(
        validated(&keys, &text, POW, &other_agent),
        Err(Reason::UserAgent)
    );
    let other_tls = Visit {
        tls: Some(b"other"),
        ..other_agent
    };
    assert_eq!(validated(&keys, &text, POW, &other_tls), Err(Reason::Tls));
    let over = after(other_tls, u64::from(DURATION_S));
    assert_eq!(
        validated(&keys, &text, CAPTCHA, &over),
        Err(Reason::Expired)
    );
    assert_eq!(
        validated(&keys, &text, CAPTCHA, &other_tls),
        Err(Reason::Level)
    );
}

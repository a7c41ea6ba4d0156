//! A visitor who is asked, solves and is let in; who goes to another network; who has both families.

use ringspoa::agents::challenge::messages::{
    BOT, CHALLENGE, CLASS, LEVEL, LevelArgument, REASON, REBIND_OK, RESPONSE, RESULT, SET_COOKIE,
    STATUS, SUGGEST_LEVEL, SUPPORT_ID, TOKEN, TOKEN_AGE, TOKEN_ID, VALID, WOULD_CHALLENGE,
};
use serde_json::json;

use crate::site::{Browser, Site, pow, response, settings, solution};

#[test]
fn a_browser_solves_and_is_let_in_until_its_time_is_over() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let mut browser = Browser::default();
    let ack = browser.validate_with(&mut site, LevelArgument::Number(1), Some(true));
    assert_eq!(ack.get(VALID), Some(false));
    assert_eq!(ack.get(REASON), Some("none"));
    assert_eq!(ack.get(CHALLENGE), Some("page"));
    assert_eq!(ack.get(SUGGEST_LEVEL), Some(1));
    assert_eq!(ack.get(TOKEN_ID), None);
    // 12: what no navigation asks for gets no page.
    let ack = browser.validate_with(&mut site, LevelArgument::Number(1), Some(false));
    assert_eq!(ack.get(CHALLENGE), Some("json"));

    let ack = browser.issue(&mut site, 1);
    assert_eq!(ack.get(STATUS), Some(200));
    let support_id = ack.get(SUPPORT_ID).unwrap().to_owned();
    let challenge = response(&ack);
    assert_eq!(challenge["v"], 1);
    assert_eq!(challenge["a"], "sha256");
    assert_eq!((&challenge["w"], &challenge["k"]), (&json!(64), &json!(4)));
    assert_eq!(
        (&challenge["nb"], &challenge["ttl"]),
        (&json!(0), &json!(300))
    );
    assert_eq!(challenge["sid"], *support_id);
    assert_eq!(challenge.as_object().unwrap().len(), 8, "{challenge}");
    assert!(!ack.get(RESPONSE).unwrap().contains('<'));

    site.wait(20);
    let ack = browser.verify(&mut site, &solution(&challenge));
    assert_eq!(ack.get(RESULT), Some("ok"));
    assert_eq!(ack.get(STATUS), Some(200));
    assert_eq!(ack.get(SUPPORT_ID), Some(&*support_id));
    // The challenge's time counts for the token's end, not the solution's.
    assert_eq!(response(&ack), json!({ "ok": true, "exp": 3580 }));
    let token = ack.get(TOKEN).unwrap();
    let set_cookie = ack.get(SET_COOKIE).unwrap();
    assert_eq!(
        set_cookie,
        format!("__Host-clearance={token}; Path=/; Max-Age=3580; Secure; HttpOnly; SameSite=Lax")
    );
    let token_id = ack.get(TOKEN_ID).unwrap().to_owned();

    site.wait(10);
    let ack = browser.validate(&mut site, 1);
    assert_eq!(ack.get(VALID), Some(true));
    assert_eq!((ack.get(REASON), ack.get(CHALLENGE)), (None, None));
    assert_eq!(ack.get(LEVEL), Some(1));
    assert_eq!(ack.get(TOKEN_AGE), Some(30));
    assert_eq!(ack.get(CLASS), Some("pow"));
    assert_eq!(ack.get(TOKEN_ID), Some(&*token_id));
    site.wait(3569);
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
    site.wait(1);
    let ack = browser.validate(&mut site, 1);
    assert_eq!(ack.get(REASON), Some("expired"));
    assert_eq!(ack.get(TOKEN_ID), Some(&*token_id));
}

#[test]
fn the_cookie_is_as_the_request_is() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()], "cookie": "id" })));
    let mut browser = Browser {
        secure: false,
        ..Browser::default()
    };
    let ack = browser.solve(&mut site, 1);
    let set_cookie = ack.get(SET_COOKIE).unwrap();
    assert!(set_cookie.starts_with("id="), "{set_cookie}");
    assert!(set_cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"));
    let embedded = json!({ "level": [pow()], "same-site": "none" });
    let mut site = Site::new(&settings(&embedded));
    let ack = Browser::default().solve(&mut site, 1);
    assert!(
        ack.get(SET_COOKIE)
            .unwrap()
            .ends_with("; Secure; HttpOnly; SameSite=None; Partitioned")
    );
}

#[test]
fn nothing_is_asked_of_level_0() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let ack = Browser::default().validate(&mut site, 0);
    assert!(ack.is_empty() && ack.fault().is_none());
    // The page that is there gets a challenge all the same.
    let challenge = response(&Browser::default().issue(&mut site, 0));
    assert_eq!(challenge["a"], "sha256");
}

#[test]
fn a_dry_run_lets_everybody_pass_and_tells_who_would_not() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()], "dry-run": true })));
    let mut browser = Browser::default();
    let ack = browser.validate(&mut site, 1);
    assert_eq!(ack.get(VALID), Some(true));
    assert_eq!(ack.get(WOULD_CHALLENGE), Some(true));
    assert_eq!(ack.get(REASON), Some("none"));
    assert_eq!(ack.get(CHALLENGE), None);
    browser.solve(&mut site, 1);
    let ack = browser.validate(&mut site, 1);
    assert_eq!(ack.get(VALID), Some(true));
    assert_eq!(ack.get(WOULD_CHALLENGE), Some(false));
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    assert_eq!(browser.validate(&mut site, 1).get(WOULD_CHALLENGE), None);
}

/// 19: within the network nothing happens; outside of it a sixteenth of the work.
#[test]
fn who_moves_has_the_token_anew_for_less_work() {
    let realm = json!({
        "bind": { "ipv4": 24 }, "level": [{ "type": "pow", "work": 1600, "parts": 4 }],
        "rebind-max-age-s": 600,
    });
    let mut site = Site::new(&settings(&realm));
    let mut browser = Browser::default();
    browser.solve(&mut site, 1);
    browser.src = "192.0.2.250".parse().unwrap();
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));

    browser.src = "198.51.100.1".parse().unwrap();
    let ack = browser.validate(&mut site, 1);
    assert_eq!(ack.get(REASON), Some("address"));
    assert_eq!(ack.get(REBIND_OK), Some(true));
    assert_eq!(response(&browser.issue(&mut site, 1))["w"], 100);
    // Another browser with the same cookie is another visitor.
    let other = Browser {
        ua: "curl/8".to_owned(),
        ..browser.clone()
    };
    let ack = other.validate(&mut site, 1);
    assert_eq!(ack.get(REASON), Some("ua"));
    assert_eq!(ack.get(REBIND_OK), None);
    assert_eq!(response(&other.issue(&mut site, 1))["w"], 1600);
    let mut moved = browser.clone();
    moved.solve(&mut site, 1);
    assert_eq!(moved.validate(&mut site, 1).get(VALID), Some(true));
    assert_eq!(site.agent.counts().rebound["default"], 2);

    site.wait(600);
    let ack = browser.validate(&mut site, 1);
    assert_eq!(ack.get(REBIND_OK), Some(false), "it is too old");
    assert_eq!(response(&browser.issue(&mut site, 1))["w"], 1600);
}

/// However often a visitor moves, and whoever has the cookie too: one puzzle is good for its time, and all
/// tokens of it have the one id that HAProxy limits and revokes by.
#[test]
fn a_token_that_is_had_anew_counts_no_longer_and_keeps_its_id() {
    let level = json!({ "type": "pow", "work": 64, "parts": 4, "duration-s": 3200, "wait-s": 2 });
    let mut site = Site::new(&settings(&json!({ "level": [level] })));
    let mut browser = Browser::default();
    let solve = |site: &mut Site, browser: &mut Browser, work: i64| {
        let ack = browser.issue(site, 1);
        let challenge = response(&ack);
        assert_eq!(challenge["w"], work);
        assert_eq!(challenge["ttl"], 302);
        let early = browser.verify(site, &solution(&challenge));
        assert_eq!(response(&early)["retry"], 2, "the wait is as long");
        site.wait(2);
        browser.verify(site, &solution(&challenge))
    };
    let first = solve(&mut site, &mut browser, 64);
    let (id, support_id) = (first.get(TOKEN_ID), first.get(SUPPORT_ID));
    assert!(id.is_some());
    for moved in 1..=14 {
        site.wait(198);
        browser.src = format!("198.51.100.{moved}").parse().unwrap();
        let ack = solve(&mut site, &mut browser, 4);
        assert_eq!(response(&ack)["exp"], 3200 - 2 - moved * 200, "not longer");
        assert_eq!((ack.get(TOKEN_ID), ack.get(SUPPORT_ID)), (id, support_id));
        assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
    }
    let solved = &site.agent.counts().solved;
    let times = solved.values().next().unwrap();
    assert_eq!(
        times.sum_s,
        15 * 2,
        "from the challenge, not from the first one"
    );
    // With a sixteenth of its time left, there is nothing to be had for a sixteenth.
    site.wait(198);
    browser.src = "198.51.100.99".parse().unwrap();
    assert_eq!(browser.validate(&mut site, 1).get(REBIND_OK), Some(false));
    let ack = solve(&mut site, &mut browser, 64);
    assert_ne!(ack.get(TOKEN_ID), id);
    assert_eq!(response(&ack)["exp"], 3198);
}

/// A neighbour of the host can have browsers send all cookies but those with __Host-: nobody takes on its id.
#[test]
fn over_tls_nobody_is_given_the_token_of_a_neighbour() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    for (src, is_kept) in [("198.51.100.1", false), ("2001:db8::1", true)] {
        let mut neighbour = Browser::at(src);
        let id = neighbour
            .solve(&mut site, 1)
            .get(TOKEN_ID)
            .unwrap()
            .to_owned();
        let token = neighbour.cookies["__Host-clearance"].clone();
        for (name, secure, is_own) in [
            ("clearance", true, false),
            ("__Host-clearance", true, true),
            ("clearance", false, true),
        ] {
            let mut browser = Browser {
                secure,
                ..Browser::default()
            };
            browser.cookies.insert(name.to_owned(), token.clone());
            let ack = browser.solve(&mut site, 1);
            assert_eq!(ack.get(TOKEN_ID) == Some(&*id), is_own, "{name} {secure}");
            let text = ack.get(TOKEN).unwrap();
            assert_eq!(text.ends_with(&token), is_own && is_kept, "{name} {secure}");
        }
    }
}

#[test]
fn a_token_that_many_share_is_had_anew_for_less_work_a_few_times_only() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let mut browser = Browser::default();
    browser.solve(&mut site, 1);
    let mut cheap = 0;
    for last in 1..=40 {
        browser.src = format!("198.51.100.{last}").parse().unwrap();
        cheap += u32::from(response(&browser.issue(&mut site, 1))["w"] == 4);
    }
    assert_eq!(cheap, 8);
}

#[test]
fn who_only_waited_has_no_work_to_be_spared() {
    let realm = json!({ "level": [{ "type": "wait", "wait-s": 3 }] });
    let mut site = Site::new(&settings(&realm));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    site.wait(3);
    browser.verify(&mut site, &solution(&challenge));
    browser.src = "198.51.100.1".parse().unwrap();
    assert_eq!(browser.validate(&mut site, 1).get(REBIND_OK), Some(false));
    assert_eq!(response(&browser.issue(&mut site, 1))["nb"], 3);
}

/// 19: one solution for each family, and then none.
#[test]
fn both_families_are_kept_in_one_cookie() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let mut browser = Browser::default();
    browser.solve(&mut site, 1);
    browser.src = "2001:db8::1".parse().unwrap();
    assert_eq!(browser.validate(&mut site, 1).get(REASON), Some("address"));
    browser.solve(&mut site, 1);
    assert_eq!(browser.cookies.len(), 1);
    for (src, expected) in [
        ("192.0.2.7", None),
        ("::ffff:192.0.2.7", None),
        ("2001:db8::1", None),
        ("2001:db8::ffff", None),
        ("2001:db8:0:1::1", Some("address")),
        ("192.0.2.8", Some("address")),
    ] {
        browser.src = src.parse().unwrap();
        assert_eq!(
            browser.validate(&mut site, 1).get(REASON),
            expected,
            "{src}"
        );
    }
    // A third one replaces the one of its own family.
    browser.src = "192.0.2.8".parse().unwrap();
    browser.solve(&mut site, 1);
    for (src, expected) in [("192.0.2.7", Some(false)), ("2001:db8::1", Some(true))] {
        browser.src = src.parse().unwrap();
        assert_eq!(browser.validate(&mut site, 1).get(VALID), expected, "{src}");
    }
}

#[test]
fn tls_counts_where_the_realm_says_so() {
    let bound = json!({ "level": [pow()], "bind": { "tls": true } });
    for (realm, expected) in [(json!({ "level": [pow()] }), None), (bound, Some("tls"))] {
        let mut site = Site::new(&settings(&realm));
        let mut browser = Browser::default();
        browser.solve(&mut site, 1);
        browser.tls = "t13d1715h2".to_owned();
        assert_eq!(browser.validate(&mut site, 1).get(REASON), expected);
    }
}

#[test]
fn crawlers_are_known_by_their_addresses() {
    let directory = std::env::temp_dir().join(format!("ringspoa-crawlers-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("google.json");
    std::fs::write(&file, r#"{"prefixes":[{"ipv4Prefix":"203.0.113.0/24"}]}"#).unwrap();
    let mut settings = settings(&json!({ "level": [pow()] }));
    settings["crawler"] = json!([{ "name": "google", "user-agent": "Googlebot", "files": [file] }]);
    let mut site = Site::new(&settings);
    let mut crawler = Browser::at("203.0.113.9");
    crawler.ua = "Mozilla/5.0 (compatible; Googlebot/2.1)".to_owned();
    let ack = crawler.validate(&mut site, 1);
    assert_eq!(
        (ack.get(BOT), ack.get(VALID)),
        (Some("google"), Some(false))
    );
    crawler.src = "198.51.100.1".parse().unwrap();
    assert_eq!(crawler.validate(&mut site, 1).get(BOT), Some("claimed"));
    // HAProxy lets it in, so that a dry run does not count it among those who would be challenged.
    settings["realm"][0]["dry-run"] = json!(true);
    let mut dry_site = Site::new(&settings);
    let claimed = crawler.validate(&mut dry_site, 1);
    assert_eq!(claimed.get(WOULD_CHALLENGE), Some(true));
    let mut known = crawler.clone();
    known.src = "203.0.113.9".parse().unwrap();
    let known = known.validate(&mut dry_site, 1);
    assert_eq!(
        (known.get(VALID), known.get(BOT)),
        (Some(true), Some("google"))
    );
    assert_eq!(known.get(WOULD_CHALLENGE), Some(false));
    let counts = dry_site.agent.counts().validated;
    let count = |reason| {
        let found = counts.iter().find(|(labels, _)| labels.reason == reason);
        found.map_or(0, |(_, count)| *count)
    };
    assert_eq!((count(None), count(Some("none"))), (1, 1));
    assert_eq!(Browser::default().validate(&mut site, 1).get(BOT), None);
    // Files are read again with the settings.
    std::fs::write(&file, "198.51.100.0/24\n").unwrap();
    site.reload(&settings);
    assert_eq!(crawler.validate(&mut site, 1).get(BOT), Some("google"));
    let counts = site.agent.counts();
    let crawlers: Vec<_> = counts
        .crawlers
        .iter()
        .map(|(l, n)| (l.name.as_deref(), *n))
        .collect();
    assert_eq!(crawlers, [(None, 1), (Some("google"), 2)]);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn everything_is_counted_also_across_a_reload() {
    let all = settings(&json!({ "level": [pow()] }));
    let mut site = Site::new(&all);
    let mut browser = Browser::default();
    browser.validate(&mut site, 1);
    let challenge = response(&browser.issue(&mut site, 1));
    site.wait(7);
    browser.verify(&mut site, "nonsense");
    browser.verify(&mut site, &solution(&challenge));
    browser.validate(&mut site, 1);
    site.reload(&all);
    browser.validate(&mut site, 1);
    let counts = site.agent.counts();
    assert_eq!(counts, site.agent.counts(), "reading changes nothing");
    let validated = |reason: Option<&str>| -> u64 {
        let found = counts
            .validated
            .iter()
            .filter(|(labels, _)| labels.reason == reason);
        found.map(|(_, count)| count).sum()
    };
    assert_eq!((validated(None), validated(Some("none"))), (2, 1));
    assert_eq!(counts.validated.values().sum::<u64>(), 3);
    let submitted: Vec<_> = counts
        .submitted
        .iter()
        .filter(|(_, count)| **count > 0)
        .collect();
    let submitted: Vec<_> = submitted
        .iter()
        .map(|(l, n)| (&*l.realm, l.result, **n))
        .collect();
    assert_eq!(submitted, [("default", "format", 1), ("default", "ok", 1)]);
    let issued: Vec<_> = counts
        .issued
        .iter()
        .filter(|(_, count)| **count > 0)
        .collect();
    assert_eq!(issued.len(), 1);
    let (labels, &count) = issued[0];
    assert_eq!(
        (labels.level, &*labels.algorithm, labels.via, count),
        (1, "sha256", "issue", 1)
    );
    let times = counts.solved.values().next().unwrap();
    assert_eq!((times.count(), times.sum_s), (1, 7));
    assert_eq!(times.buckets[3], 1, "up to 10 s");
    assert_eq!(counts.work.values().copied().collect::<Vec<_>>(), [64]);
}

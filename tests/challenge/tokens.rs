//! Solutions and tokens that are replayed, altered, forged or somebody else's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringspoa::agents::challenge::messages::{REASON, RESPONSE, RESULT, STATUS, TOKEN, VALID};
use ringspoa::agents::challenge::{MAX_COOKIES_LEN, solution_body};
use ringspoa::{Agent, Harness};
use serde_json::json;

use crate::site::{
    Browser, Site, challenge_bytes, challenge_text, nonces, pow, response, settings, solution,
};

fn site() -> Site {
    let realm = json!({ "level": [pow(), { "type": "pow", "work": 32, "parts": 2 }] });
    let mut settings = settings(&realm);
    let other = json!({ "name": "other", "level": [pow()], "cookie": "clearance" });
    settings["realm"].as_array_mut().unwrap().push(other);
    Site::new(&settings)
}

/// 23: the same token each time, with the same end; and none for anybody else.
#[test]
fn a_solution_that_is_sent_again_gives_the_same_token() {
    let mut site = site();
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    let body = solution(&challenge);
    let first = browser
        .verify(&mut site, &body)
        .get(TOKEN)
        .unwrap()
        .to_owned();
    for count in 0..1_000 {
        if count % 10 == 0 {
            site.wait(1);
        }
        let ack = browser.verify(&mut site, &body);
        assert_eq!(ack.get(TOKEN), Some(&*first));
        assert_eq!(response(&ack)["exp"], 3_600 - (count / 10 + 1));
    }
    let others = [
        (
            Browser {
                src: "192.0.2.8".parse().unwrap(),
                ..Browser::default()
            },
            "binding",
        ),
        (
            Browser {
                src: "2001:db8::1".parse().unwrap(),
                ..Browser::default()
            },
            "binding",
        ),
        (
            Browser {
                ua: "curl/8".to_owned(),
                ..Browser::default()
            },
            "binding",
        ),
        (
            Browser {
                ua: String::new(),
                ..Browser::default()
            },
            "binding",
        ),
        (
            Browser {
                host: "www.shop.example".to_owned(),
                ..Browser::default()
            },
            "mac",
        ),
        (
            Browser {
                realm: "other",
                ..Browser::default()
            },
            "mac",
        ),
    ];
    for (mut other, expected) in others {
        let ack = other.verify(&mut site, &body);
        assert_eq!(ack.get(RESULT), Some(expected));
        assert_eq!(ack.get(STATUS), Some(403));
        assert_eq!(ack.get(TOKEN), None);
        other.cookies.clone_from(&browser.cookies);
        let ack = other.validate(&mut site, 1);
        assert_eq!(ack.get(VALID), Some(false));
        let reason = ack.get(REASON).unwrap();
        assert!(matches!(reason, "address" | "ua" | "mac"), "{reason}");
    }
}

/// 24: no bit of a challenge or of a token can be another.
#[test]
fn every_bit_counts() {
    let mut site = site();
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    let (bytes, nonces) = (challenge_bytes(&challenge), nonces(&challenge));
    for bit in 0..8 * bytes.len() {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let body = solution_body(&URL_SAFE_NO_PAD.encode(bytes), &nonces);
        let ack = browser.clone().verify(&mut site, &body);
        let result = ack.get(RESULT).unwrap();
        assert!(
            matches!(result, "mac" | "format" | "expired" | "host"),
            "{bit}: {result}"
        );
        assert_eq!(ack.get(TOKEN), None);
    }
    let ack = browser.verify(&mut site, &solution(&challenge));
    let token = URL_SAFE_NO_PAD.decode(ack.get(TOKEN).unwrap()).unwrap();
    for bit in 0..8 * token.len() {
        let mut token = token.clone();
        token[bit / 8] ^= 1 << (bit % 8);
        let text = URL_SAFE_NO_PAD.encode(token);
        browser.cookies.insert("__Host-clearance".to_owned(), text);
        let ack = browser.validate(&mut site, 1);
        assert_eq!(ack.get(VALID), Some(false), "{bit}");
        assert_ne!(ack.get(REASON), Some("none"));
    }
}

/// 25: the right form with the wrong work.
#[test]
fn work_that_was_not_done_does_not_count() {
    let mut site = site();
    let browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    let (text, good) = (challenge_text(&challenge), nonces(&challenge));
    let mut results = Vec::new();
    let mut submit = |nonces: &[u64]| {
        let ack = browser
            .clone()
            .verify(&mut site, &solution_body(text, nonces));
        let result = ack.get(RESULT).unwrap().to_owned();
        if result == "work" {
            assert!(response(&ack)["next"]["ch"].is_string());
        }
        assert_eq!(ack.get(TOKEN).is_some(), result == "ok");
        result
    };
    // Each part by itself is as good as its hash: of 16 in a row at most few are.
    for part in 0..good.len() {
        let wrong = (0..64_u64).filter(|distance| {
            let mut nonces = good.clone();
            nonces[part] ^= 1 << distance;
            submit(&nonces) == "ok"
        });
        let lucky = wrong.count();
        assert!(lucky < 24, "{lucky} of 64 other nonces solve part {part}");
    }
    for nonces in [
        vec![good[0]; 4],
        good.iter().rev().copied().collect(),
        vec![0; 4],
        vec![u64::MAX; 4],
    ] {
        // By chance it may be right: then it is the work.
        results.push(submit(&nonces));
    }
    assert!(results.iter().any(|result| result == "work"), "{results:?}");
    let three = &good[..3];
    let five: Vec<u64> = good.iter().copied().chain([1]).collect();
    assert_eq!(submit(three), "format");
    assert_eq!(submit(&five), "format");
    assert_eq!(submit(&[]), "format");
    assert_eq!(submit(&good), "ok");
}

#[test]
fn bodies_that_are_none_are_refused_as_such() {
    let mut site = site();
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    let good = solution(&challenge);
    let (text, nonces) = good.split_once('.').unwrap();
    for body in [
        String::new(),
        ".".to_owned(),
        text.to_owned(),
        format!("{text}.{nonces},"),
        format!("{text}.{nonces} "),
        format!(" {good}"),
        format!("{text},{nonces}"),
        format!("{text}=.{nonces}"),
        format!("{text}.{}", nonces.to_uppercase() + "A"),
        format!("{text}.0x1,2,3,4"),
        format!("{text}.-1,2,3,4"),
        format!("{text}.00000000000000001,2,3,4"),
        format!("{text}.{nonces}{}", ",0".repeat(600)),
        "A".repeat(8 * 1024),
        "A".repeat(12 * 1024),
    ] {
        let ack = browser.verify(&mut site, &body);
        assert_eq!(ack.get(RESULT), Some("format"), "{body}");
        assert_eq!(ack.get(STATUS), Some(400));
        assert_eq!(ack.get(RESPONSE), Some(r#"{"ok":false,"code":"format"}"#));
    }
    assert_eq!(browser.verify(&mut site, &good).get(RESULT), Some("ok"));
}

/// 30: a valid one is found wherever it is, and what is looked at has an end.
#[test]
fn the_valid_one_of_many_cookies_counts() {
    let mut site = site();
    site.harness =
        Harness::new(Box::new(site.agent.agent()) as Box<dyn Agent>).with_max_frame_size(65_532);
    let mut browser = Browser::default();
    browser.solve(&mut site, 1);
    let (name, good) = browser.cookies.pop_first().unwrap();
    let mut stranger = Browser::at("203.0.113.1");
    stranger.solve(&mut site, 1);
    let bad = stranger.cookies.pop_first().unwrap().1;
    let mut validate = |header: String| {
        browser.cookies = [("a".to_owned(), format!("b; {header}"))].into();
        let ack = browser.validate(&mut site, 1);
        ack.get(REASON).map(str::to_owned)
    };
    for count in 2..=20 {
        for place in 0..count {
            let pairs = (0..count).map(|index| {
                let value = if index == place { &good } else { &bad };
                let name = ["clearance", "__Host-clearance", "clearance-s"][index % 3];
                format!("{name}={value}")
            });
            let header = pairs.collect::<Vec<_>>().join("; ");
            assert_eq!(validate(header), None, "{place} of {count}");
        }
    }
    let twenty = format!("{name}={bad}; ").repeat(20);
    assert_eq!(
        validate(format!("{twenty}{name}={good}")).as_deref(),
        Some("address")
    );
    // Another host of the domain can set all names but the one with __Host-.
    let tossed = [("clearance", &bad), ("clearance-s", &bad)];
    let tossed = tossed.map(|(name, value)| format!("{name}={value}; ").repeat(30));
    assert_eq!(validate(format!("{}{name}={good}", tossed.concat())), None);
    // Others' cookies are not counted.
    let others = "session=x; xclearance=y; clearance2=z; ".repeat(20);
    assert_eq!(validate(format!("{others}{name}={good}")), None);
    let junk = "j=".to_owned() + &"x".repeat(MAX_COOKIES_LEN);
    assert_eq!(validate(format!("{name}={good}; {junk}")), None);
    assert_eq!(
        validate(format!("{junk}; {name}={good}")).as_deref(),
        Some("none")
    );
    assert_eq!(validate(format!("{name}={good}.{bad}")), None);
    assert_eq!(validate(format!("{name}={bad}.{good}")), None);
    assert_eq!(
        validate(format!("{name}={bad}.{bad}.{good}")).as_deref(),
        Some("address")
    );
    assert_eq!(
        validate(format!("{name}=\"{good}\"")).as_deref(),
        Some("malformed")
    );
    assert_eq!(
        validate(format!("{name}=; {name}")).as_deref(),
        Some("malformed")
    );
}

/// 26: what another realm or level gave.
#[test]
fn tokens_are_of_their_realm() {
    let mut site = site();
    let mut browser = Browser {
        realm: "other",
        ..Browser::default()
    };
    browser.solve(&mut site, 1);
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
    browser.realm = "default";
    // Level 1 of both is the same but for the realm.
    assert_eq!(browser.validate(&mut site, 1).get(REASON), Some("mac"));
    browser.realm = "unknown";
    assert_eq!(browser.validate(&mut site, 1).get(REASON), Some("mac"));
    let mut browser = Browser {
        realm: "unknown",
        ..Browser::default()
    };
    browser.solve(&mut site, 1);
    browser.realm = "default";
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
}

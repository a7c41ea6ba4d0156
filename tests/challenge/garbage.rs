//! Whatever comes, each NOTIFY has one ACK, nothing panics, and nobody is let in who has solved nothing.

use std::hash::{BuildHasher, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringspoa::agents::challenge::messages::{TOKEN, VALID};
use ringspoa::spop::{Argument, TypedData};
use serde_json::json;

use crate::site::{
    Browser, Site, challenge_bytes, challenge_text, pow, response, settings, solution,
};

const MESSAGES: [&str; 6] = ["validate", "issue", "verify", "pass", "challenge", "other"];

const NAMES: [&str; 18] = [
    "realm", "frontend", "level", "src", "host", "cookie", "cookies", "ua", "tls", "secure", "nav",
    "load", "url", "body", "query", "method", "session", "unknown",
];

/// Numbers that differ from run to run; which run it was is told where one fails.
struct Random {
    state: RandomState,
    count: u64,
}

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.count += 1;
        usize::try_from(self.state.hash_one(self.count) % end as u64).unwrap()
    }
}

#[test]
fn every_notify_has_one_ack_whatever_its_arguments_are() {
    let mut all = settings(&json!({
        "level": [pow(), { "type": "wait" }, { "type": "pbkdf2", "work": 1, "parts": 1, "iterations": 1 }],
        "nojs": "link",
    }));
    all["realm"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "r", "level": [pow()], "dry-run": false }));
    let mut site = Site::new(&all);
    let mut browser = Browser::default();
    browser.solve(&mut site, 1);
    let challenge = response(&browser.issue(&mut site, 1));
    let texts: Vec<Vec<u8>> = [
        "",
        "GET",
        "POST",
        "r",
        "shop.example",
        "a=b; clearance=x.y.z",
        "..",
        "-1",
        "c=&s=&r=%",
        "\0",
        "\u{ff}",
        challenge_text(&challenge),
        &"A".repeat(64),
        &"%".repeat(1_000),
        &"a=b;".repeat(300),
        "true",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        vec![0xff; 300],
        format!("{}.0,0,0,0", challenge_text(&challenge)).into_bytes(),
        format!("__Host-clearance={}", "A".repeat(64)).into_bytes(),
    ])
    .collect();
    let mut random = Random {
        state: RandomState::new(),
        count: 0,
    };
    for _ in 0..20_000 {
        let message = MESSAGES[random.below(MESSAGES.len())];
        let arguments: Vec<_> = (0..random.below(9))
            .map(|_| {
                let name = NAMES[random.below(NAMES.len())];
                let text = &texts[random.below(texts.len())];
                let number = (random.below(usize::MAX) as u64).cast_signed();
                let [low, next, third, fourth, ..] = number.to_ne_bytes();
                let value = match random.below(10) {
                    0 => TypedData::Null,
                    1 => TypedData::Bool(number & 1 == 0),
                    2 => TypedData::Int32(i32::from_ne_bytes([low, next, third, fourth])),
                    3 => TypedData::Uint64(number as u64),
                    4 => TypedData::Int64(number % 4),
                    5 => TypedData::Ipv4([192, 0, 2, low].into()),
                    6 => TypedData::from(std::net::Ipv6Addr::from_bits(number as u128)),
                    7 => TypedData::Binary(text),
                    _ => TypedData::String(text),
                };
                Argument::new(name, value)
            })
            .collect();
        let shown = format!("{message} {arguments:?}");
        let ack = site
            .harness
            .notify_with(|notify| notify.message(message, arguments.iter().cloned()))
            .ack();
        assert!(
            !matches!(
                ack.fault(),
                Some("the agent panicked" | "a ticket was dropped")
            ),
            "{shown}"
        );
        assert_ne!(ack.get(VALID), Some(true), "{shown}");
        // Of all levels only those that take no work can be solved by chance, and they take a signature.
        assert_eq!(ack.get(TOKEN), None, "{shown}");
    }
}

/// 24: bodies and cookies that are near to good ones, and are none.
#[test]
fn nothing_that_was_altered_is_taken() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    let good = solution(&challenge).into_bytes();
    browser.solve(&mut site, 1);
    let cookie = browser.cookie_header().into_bytes();
    let mut random = Random {
        state: RandomState::new(),
        count: 0,
    };
    let alter = |bytes: &[u8], random: &mut Random| {
        let mut bytes = bytes.to_vec();
        match random.below(4) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                let place = random.below(bytes.len());
                bytes[place] = u8::try_from(random.below(256)).unwrap();
            }
            2 => {
                bytes.remove(random.below(bytes.len()));
            }
            _ => {
                let place = random.below(bytes.len());
                bytes.insert(place, u8::try_from(random.below(256)).unwrap());
            }
        }
        bytes
    };
    // A changed nonce may be right by chance, and a cookie may be changed beside its value.
    let signed = &good[..challenge_text(&challenge).len()];
    for _ in 0..20_000 {
        let body = alter(&good, &mut random);
        let message = browser.verify_message(&body, b"");
        let ack = site.harness.notify(&message).ack();
        if ack.get(TOKEN).is_some() {
            assert!(body.starts_with(signed), "{}", body.escape_ascii());
        }
        let altered = alter(&cookie, &mut random);
        let message = ringspoa::agents::challenge::messages::Validate {
            cookies: Some(&altered),
            src: Some(browser.src),
            host: ringspoa::agents::challenge::messages::SentText(Some(b"shop.example")),
            ua: ringspoa::agents::challenge::messages::SentText(Some(browser.ua.as_bytes())),
            level: ringspoa::agents::challenge::messages::LevelArgument::Number(1),
            ..Default::default()
        };
        let ack = site.harness.notify(&message).ack();
        if ack.get(VALID) == Some(true) {
            let value = &cookie[cookie.len() - 64..];
            assert!(
                altered.windows(64).any(|window| window == value),
                "{}",
                altered.escape_ascii()
            );
        }
    }
}

#[test]
fn random_bytes_in_the_form_of_challenges_are_none() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    let bytes = challenge_bytes(&challenge);
    let mut random = Random {
        state: RandomState::new(),
        count: 0,
    };
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        // Version and key are good; the rest is made up from somewhere on.
        let start = 2 + random.below(bytes.len() - 2);
        for byte in &mut bytes[start..] {
            *byte = u8::try_from(random.below(256)).unwrap();
        }
        let body = format!("{}.0,0,0,0", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(browser.verify(&mut site, &body).get(TOKEN), None);
    }
}

//! 24, 34, 35, 36: whoever asks, and whatever is sent that is no solution, allocates nothing in the engine, and
//! nothing is kept of a challenge: memory does not grow by what visitors do.

mod counting;

use std::cell::Cell;
use std::sync::Arc;

use counting::Counting;
use ringspoa::agents::challenge::messages::{LevelArgument, Visitor};
use ringspoa::agents::challenge::{
    Answer, ChallengeSettings, Challenges, Engine, IssueRequest, Now, Outcome, Verification, Via,
    solution_body, solve,
};
use serde_json::json;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(|| {
    // `try_with`: threads allocate while their locals are being torn down, too.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
});

/// How many allocations this makes.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    run();
    COUNT.with(Cell::get) - before
}

const NOW: Now = Now {
    unix_s: 1_800_000_000,
    ms: 1,
};

fn engine() -> Engine {
    let settings: ChallengeSettings = serde_json::from_value(json!({
        "key": [
            { "id": 1, "secret": "QmV0dGVyIHRha2UgMzIgcmFuZG9tIGJ5dGVzLCB5b3U=" },
            { "id": 2, "secret": "QW5kIGFub3RoZXIgMzIgb2YgdGhlbSBiZWhpbmQgaXQ=" },
        ],
        "realm": [{
            "level": [
                { "type": "pow", "work": 64, "parts": 4, "adaptive": { "per-prefix": 3 } },
                { "type": "wait" },
                { "type": "turnstile", "site-key": "k", "secret-key": "s" },
            ],
            "trusted-domains": ["shop.example"], "nojs": "refresh",
        }],
    }))
    .unwrap();
    Engine::new(Arc::new(Challenges::new(&settings).unwrap()))
}

const fn visitor() -> Visitor<'static> {
    Visitor {
        realm: Some(b"default"),
        address: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7))),
        host: Some(b"a.shop.example:443"),
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        tls: None,
        is_secure: true,
        cookie: None,
        cookies: None,
    }
}

fn issue(engine: &mut Engine, answer: &mut Answer) {
    let request = IssueRequest {
        level: LevelArgument::Number(1),
        load: Some(7),
        url: Some(b"/a?b"),
        via: Via::Issue,
    };
    engine.issue(&visitor(), &request, NOW, answer);
}

/// The body that solves the challenge of an answer.
fn solution(answer: &Answer) -> String {
    let reply: serde_json::Value = serde_json::from_str(answer.response().unwrap()).unwrap();
    let text = reply["ch"].as_str().unwrap();
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .unwrap();
    solution_body(text, &solve(bytes[..].try_into().unwrap()).unwrap())
}

#[test]
fn requests_are_validated_without_allocations() {
    let mut engine = engine();
    let mut answer = Answer::default();
    issue(&mut engine, &mut answer);
    let body = solution(&answer);
    let verified = engine.verify(&visitor(), body.as_bytes(), NOW, &mut answer);
    assert!(matches!(verified, Verification::Done));
    let good = answer.token().unwrap().to_owned();
    let headers = [
        String::new(),
        format!("a=b; clearance-s={good}; c=d"),
        format!("clearance-s={good}x; clearance={}", "A".repeat(64)),
        format!("clearance-s={}; ", "B".repeat(64)).repeat(25),
        "x".repeat(16 * 1024),
    ];
    let mut valid = 0;
    let count = allocations(|| {
        for _ in 0..1_000 {
            for header in &headers {
                let visitor = Visitor {
                    cookies: Some(header.as_bytes()),
                    ..visitor()
                };
                let level = LevelArgument::Number(1);
                let validation = engine
                    .validate(&visitor, level, None, Some(3), NOW)
                    .unwrap();
                valid += u32::from(validation.is_valid);
            }
        }
    });
    assert_eq!(valid, 1_000);
    assert_eq!(count, 0);
}

#[test]
fn challenges_are_made_without_allocations() {
    let mut engine = engine();
    let mut answer = Answer::default();
    let count = allocations(|| {
        for _ in 0..10_000 {
            issue(&mut engine, &mut answer);
        }
    });
    assert!(answer.response().is_some() && answer.no_js().is_some());
    assert_eq!(count, 0);
}

#[test]
fn what_is_no_solution_allocates_nothing() {
    let mut engine = engine();
    let mut answer = Answer::default();
    issue(&mut engine, &mut answer);
    let good = solution(&answer);
    let (text, _) = good.split_once('.').unwrap();
    let forged = format!("{}AA.0,0,0,0", &text[..text.len() - 2]);
    let huge = "A".repeat(16 * 1024);
    let other = Visitor {
        user_agent: Some(b"curl/8"),
        ..visitor()
    };
    // The first that is wrong; by chance some are right.
    let nonces = (0..100_u64).map(|nonce| solution_body(text, &[nonce; 4]));
    let wrong = nonces.filter(|body| {
        let _ = engine.verify(&visitor(), body.as_bytes(), NOW, &mut answer);
        answer.outcome() == Some(Outcome::Work)
    });
    let wrong = wrong.last().unwrap();
    let late = Now {
        unix_s: NOW.unix_s + 301,
        ..NOW
    };
    for (body, visitor, now, expected) in [
        ("", visitor(), NOW, Outcome::Format),
        (&*huge, visitor(), NOW, Outcome::Format),
        (&*forged, visitor(), NOW, Outcome::Mac),
        (&*good, other, NOW, Outcome::Binding),
        (&*good, visitor(), late, Outcome::Expired),
        (&*wrong, visitor(), NOW, Outcome::Work),
        (text, visitor(), NOW, Outcome::Format),
    ] {
        let count = allocations(|| {
            for _ in 0..1_000 {
                let verified = engine.verify(&visitor, body.as_bytes(), now, &mut answer);
                assert!(matches!(verified, Verification::Done));
            }
        });
        assert_eq!(answer.outcome(), Some(expected));
        assert_eq!(count, 0, "{expected:?}");
    }
    let count = allocations(|| {
        for query in ["", "c=&s=&r=/", "c=x&r=%2f%2fa&s=y", &*huge] {
            engine.pass(&visitor(), query.as_bytes(), NOW, &mut answer);
        }
    });
    assert_eq!(count, 0);
    // What solves it may allocate its cookie, once.
    let count = allocations(|| {
        for _ in 0..1_000 {
            let _ = engine.verify(&visitor(), good.as_bytes(), NOW, &mut answer);
        }
    });
    assert_eq!(answer.outcome(), Some(Outcome::Ok));
    assert!(count < 10, "{count}");
}

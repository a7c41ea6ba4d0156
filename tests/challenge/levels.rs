//! Levels: what the argument asks for, what waiting is worth, and what happens as the level changes.

use ringspoa::Ack;
use ringspoa::agents::challenge::messages::{
    LEVEL, LevelArgument, REASON, RESULT, STATUS, VALID, declaration,
};
use ringspoa::spop::{Argument, TypedData};
use serde_json::{Value, json};

use crate::site::{Browser, Site, pow, response, settings, solution};

/// Three levels, told apart by their work.
fn three_levels() -> Site {
    let level = |work: u32| json!({ "type": "pow", "work": work, "parts": 1 });
    Site::new(&settings(
        &json!({ "level": [level(2), level(4), level(8)] }),
    ))
}

/// The work that is asked for with this argument, as HAProxy may send it.
fn work_of(site: &mut Site, level: Option<TypedData<'_>>) -> (Ack, Value) {
    let mut ask = |message: &str| {
        let level = level.map(|level| Argument::new("level", level));
        let arguments = level.into_iter().chain([
            Argument::new("src", TypedData::Ipv4([192, 0, 2, 7].into())),
            Argument::new("host", TypedData::from("shop.example")),
        ]);
        site.harness
            .notify_with(|notify| notify.message(message, arguments))
            .ack()
    };
    let validated = ask("validate");
    let challenge = response(&ask("issue"));
    (validated, challenge["w"].clone())
}

/// 27: never weaker than what was asked for, and never a wrap.
#[test]
fn the_level_argument_is_never_taken_for_a_weaker_one() {
    let mut site = three_levels();
    for (level, expected) in [
        (Some(TypedData::Int32(1)), 2),
        (Some(TypedData::Uint64(2)), 4),
        (Some(TypedData::Int64(3)), 8),
        (Some(TypedData::Int64(4)), 8),
        (Some(TypedData::Int64(255)), 8),
        (Some(TypedData::Int64(256)), 8),
        (Some(TypedData::Int64(257)), 8),
        (Some(TypedData::Uint64(1 << 32)), 8),
        (Some(TypedData::Uint64(u64::MAX)), 8),
        (Some(TypedData::Int64(i64::MAX)), 8),
        (Some(TypedData::Int64(-1)), 8),
        (Some(TypedData::Int32(-255)), 8),
        (Some(TypedData::Int64(i64::MIN)), 8),
        (Some(TypedData::Null), 8),
        (Some(TypedData::Bool(true)), 8),
        (Some(TypedData::String(b"1")), 8),
        (Some(TypedData::String(b"")), 8),
        (Some(TypedData::Binary(b"\0")), 8),
        (Some(TypedData::Ipv4([0, 0, 0, 1].into())), 8),
        (None, 8),
    ] {
        let (validated, work) = work_of(&mut site, level);
        assert_eq!(work, expected, "{level:?}");
        assert_eq!(validated.get(VALID), Some(false), "{level:?}");
    }
    // The only one that is no level at all.
    let (validated, work) = work_of(&mut site, Some(TypedData::Int64(0)));
    assert!(validated.is_empty());
    assert_eq!(work, 2);
}

#[test]
fn a_higher_level_is_good_for_lower_ones_and_not_the_other_way_round() {
    let mut site = three_levels();
    let mut browser = Browser::default();
    browser.solve(&mut site, 2);
    for (level, expected) in [(1, None), (2, None), (3, Some("level"))] {
        let ack = browser.validate(&mut site, level);
        assert_eq!(ack.get(REASON), expected, "{level}");
        assert_eq!(ack.get(LEVEL), Some(2));
    }
    let ack = browser.validate_with(&mut site, LevelArgument::Missing, None);
    assert_eq!(ack.get(REASON), Some("level"));
}

/// 15: what was fetched at a level is good for that level, whatever it is when the solution comes.
#[test]
fn a_level_that_is_raised_in_between_costs_one_more_challenge() {
    let mut site = three_levels();
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    assert_eq!(browser.validate(&mut site, 3).get(VALID), Some(false));
    let ack = browser.verify(&mut site, &solution(&challenge));
    assert_eq!(ack.get(RESULT), Some("ok"));
    assert_eq!(browser.validate(&mut site, 3).get(REASON), Some("level"));
    browser.solve(&mut site, 3);
    assert_eq!(browser.validate(&mut site, 3).get(VALID), Some(true));
}

/// 22: too early it is refused, and the same solution is good when its time has come.
#[test]
fn waiting_takes_as_long_as_it_takes() {
    let realm = json!({ "level": [{ "type": "none", "wait-s": 5 }] });
    let mut site = Site::new(&settings(&realm));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    assert_eq!(challenge["a"], "wait");
    assert_eq!(
        (&challenge["nb"], &challenge["ttl"]),
        (&json!(5), &json!(305))
    );
    assert_eq!((challenge.get("w"), challenge.get("k")), (None, None));
    let body = solution(&challenge);
    for left in (1..=5).rev() {
        let ack = browser.verify(&mut site, &body);
        assert_eq!(ack.get(RESULT), Some("early"));
        assert_eq!(ack.get(STATUS), Some(403));
        assert_eq!(
            response(&ack),
            json!({ "ok": false, "code": "early", "retry": left })
        );
        site.wait(1);
    }
    assert_eq!(browser.verify(&mut site, &body).get(RESULT), Some("ok"));
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
}

/// 32, 14: a challenge that is over, and the one that comes with the refusal.
#[test]
fn a_challenge_has_its_time() {
    let mut site = Site::new(&settings(
        &json!({ "level": [pow()], "challenge-ttl-s": 60 }),
    ));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    site.wait(59);
    let body = solution(&challenge);
    assert_eq!(
        browser.clone().verify(&mut site, &body).get(RESULT),
        Some("ok")
    );
    site.wait(1);
    let ack = browser.verify(&mut site, &body);
    assert_eq!(ack.get(RESULT), Some("expired"));
    let reply = response(&ack);
    assert_eq!(
        (&reply["ok"], &reply["code"]),
        (&json!(false), &json!("expired"))
    );
    let ack = browser.verify(&mut site, &solution(&reply["next"]));
    assert_eq!(ack.get(RESULT), Some("ok"));
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
}

#[test]
fn a_token_that_would_be_over_at_once_is_none() {
    let level = json!({ "type": "pow", "work": 1, "parts": 1, "duration-s": 10 });
    let mut site = Site::new(&settings(&json!({ "level": [level] })));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    site.wait(10);
    let ack = browser.verify(&mut site, &solution(&challenge));
    assert_eq!(ack.get(RESULT), Some("expired"));
    assert!(browser.cookies.is_empty());
}

/// 21: whatever is fetched, and however often, nothing but a solution gives a token.
#[test]
fn fetching_alone_gives_no_token() {
    let realm = json!({ "level": [{ "type": "wait" }, pow()] });
    let mut site = Site::new(&settings(&realm));
    let browser = Browser::default();
    for level in 0..=3 {
        for _ in 0..5 {
            let ack = browser.issue(&mut site, level);
            let names: Vec<_> = ack.actions().map(|action| format!("{action:?}")).collect();
            assert!(
                !names
                    .iter()
                    .any(|name| name.contains("token") || name.contains("cookie"))
            );
            site.wait(10);
            let query = format!(
                "c={}&s=AAAAAAAAAAAAAAAAAAAAAA&r=/",
                response(&ack)["ch"].as_str().unwrap()
            );
            let ack = browser.clone().pass(&mut site, &query);
            assert_ne!(ack.get(RESULT), Some("ok"));
        }
    }
}

#[test]
fn what_is_sent_and_set_is_declared() {
    let site = three_levels();
    let declared = ringspoa::Agent::declaration(site.harness.agent());
    let expected = declaration();
    assert_eq!(
        format!("{:?}", declared.variables),
        format!("{:?}", expected.variables)
    );
    let names = |declaration: &ringspoa::AgentDeclaration| -> Vec<String> {
        let names = declaration
            .messages
            .iter()
            .map(|message| format!("{:?}", message));
        names.collect()
    };
    assert_eq!(names(&declared), names(&expected));
}

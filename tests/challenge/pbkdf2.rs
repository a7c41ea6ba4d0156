//! Derivations: verified on threads of their own, for which not too many may wait.

use ringspoa::agents::challenge::messages::{CLASS, RESULT, STATUS, TOKEN, VALID};
use ringspoa::agents::challenge::solution_body;
use serde_json::{Value, json};

use crate::site::{Browser, Site, challenge_text, nonces, pow, response, settings, solution};

fn level(work: u32, iterations: u32) -> Value {
    json!({ "type": "pbkdf2", "work": work, "parts": 2, "iterations": iterations })
}

#[test]
fn derivations_are_verified() {
    let mut site = Site::new(&settings(&json!({ "level": [level(16, 10)] })));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    assert_eq!(challenge["a"], "pbkdf2");
    assert_eq!(
        (&challenge["w"], &challenge["k"], &challenge["it"]),
        (&json!(16), &json!(2), &json!(10))
    );
    let good = nonces(&challenge);
    let text = challenge_text(&challenge);
    // Of as many others hardly any is right.
    let wrong = (0..32_u64).map(|distance| {
        let ack = browser.clone().verify(
            &mut site,
            &solution_body(text, &[good[0], good[1] ^ (1 << distance)]),
        );
        let result = ack.get(RESULT).unwrap().to_owned();
        assert_eq!(ack.get(TOKEN).is_some(), result == "ok");
        if result == "work" {
            assert_eq!(response(&ack)["next"]["a"], "pbkdf2");
        }
        result
    });
    let wrong = wrong.filter(|result| result == "work").count();
    assert!(wrong > 16, "{wrong}");
    let ack = browser.verify(&mut site, &solution_body(text, &good[..1]));
    assert_eq!(ack.get(RESULT), Some("format"));
    let ack = browser.verify(&mut site, &solution(&challenge));
    assert_eq!((ack.get(RESULT), ack.get(STATUS)), (Some("ok"), Some(200)));
    let ack = browser.validate(&mut site, 1);
    assert_eq!(
        (ack.get(VALID), ack.get(CLASS)),
        (Some(true), Some("pbkdf2"))
    );
    let counts = site.agent.counts();
    assert_eq!(
        counts.solved.values().next().unwrap().count(),
        1 + 32 - wrong as u64
    );
}

/// Whoever comes when all places are taken is asked to come back, and the rest goes on.
#[test]
fn the_places_for_derivations_have_an_end() {
    // Each takes longer than it takes to send them all, also where hashes are fast.
    let mut all = settings(&json!({ "level": [pow(), level(1, 3_000)] }));
    all["pbkdf2-queue"] = json!(3);
    let mut site = Site::new(&all);
    let mut cleared = Browser::default();
    cleared.solve(&mut site, 1);
    let browser = Browser::at("203.0.113.1");
    let challenge = response(&browser.issue(&mut site, 2));
    let body = solution(&challenge);
    let message = browser.verify_message(body.as_bytes(), b"");
    let ids: Vec<_> = (0..12)
        .map(|_| site.harness.notify(&message).id())
        .collect();
    let ack = cleared.validate(&mut site, 1);
    assert_eq!(ack.get(VALID), Some(true));
    let acks: Vec<_> = ids.into_iter().map(|id| site.harness.ack(id)).collect();
    let busy: Vec<_> = acks
        .iter()
        .filter(|ack| ack.get(RESULT) == Some("busy"))
        .collect();
    let good = acks
        .iter()
        .filter(|ack| ack.get(RESULT) == Some("ok"))
        .count();
    // One is worked on, three wait; or the first was not begun when all places were taken.
    assert!((3..=5).contains(&good), "{good}");
    assert_eq!(good + busy.len(), acks.len());
    for ack in busy {
        assert_eq!(ack.get(STATUS), Some(503));
        assert_eq!(
            response(ack),
            json!({ "ok": false, "code": "busy", "retry": 2 })
        );
    }
    let ack = browser.clone().verify(&mut site, &body);
    assert_eq!(ack.get(RESULT), Some("ok"), "there is room again");
}

/// Whose network sends many gets half of the places, and leaves the rest to others.
#[test]
fn one_network_does_not_take_all_places() {
    let mut all = settings(&json!({ "level": [level(1, 1_000)] }));
    all["pbkdf2-queue"] = json!(40);
    let mut site = Site::new(&all);
    let greedy = Browser::default();
    let body = solution(&response(&greedy.issue(&mut site, 1)));
    let message = greedy.verify_message(body.as_bytes(), b"");
    let other = Browser::at("203.0.113.1");
    let solved = solution(&response(&other.issue(&mut site, 1)));
    let others = other.verify_message(solved.as_bytes(), b"");
    let ids: Vec<_> = (0..60)
        .map(|_| site.harness.notify(&message).id())
        .collect();
    let mine = site.harness.notify(&others).id();
    let is_good = |ack: ringspoa::Ack| ack.get(RESULT) == Some("ok");
    let good = ids
        .into_iter()
        .filter(|&id| is_good(site.harness.ack(id)))
        .count();
    // Those that were worked off meanwhile made room for as many.
    assert!((16..=45).contains(&good), "{good}");
    assert!(is_good(site.harness.ack(mine)));
}

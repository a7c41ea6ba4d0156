//! Keys: changed by a reload, shared by two agents, and the clocks of those.

use ringspoa::agents::challenge::messages::{REASON, RESPONSE, RESULT, STATUS, VALID};
use serde_json::{Value, json};

use crate::site::{Browser, START, Site, TestClock, pow, response, secret, settings, solution};

fn with_keys(ids: &[u8]) -> Value {
    let mut settings = settings(&json!({ "level": [pow()] }));
    settings["key"] = ids
        .iter()
        .map(|id| json!({ "id": id, "secret": secret(*id) }))
        .collect();
    settings
}

/// 26, 38: the new key signs, the old one counts until it is taken out.
#[test]
fn keys_are_changed_without_anybody_noticing() {
    let mut site = Site::new(&with_keys(&[1]));
    let mut old = Browser::default();
    old.solve(&mut site, 1);
    let challenge = response(&old.issue(&mut site, 1));

    // As it is done: behind the old one, then in front of it, then alone.
    for keys in [&[1, 2][..], &[2, 1]] {
        site.reload(&with_keys(keys));
        assert_eq!(old.validate(&mut site, 1).get(VALID), Some(true));
        let ack = old.clone().verify(&mut site, &solution(&challenge));
        assert_eq!(ack.get(RESULT), Some("ok"));
    }
    let mut new = Browser::default();
    new.solve(&mut site, 1);
    site.reload(&with_keys(&[2]));
    assert_eq!(new.validate(&mut site, 1).get(VALID), Some(true));
    assert_eq!(old.validate(&mut site, 1).get(REASON), Some("revoked-key"));
    let ack = old.verify(&mut site, &solution(&challenge));
    assert_eq!(ack.get(RESULT), Some("mac"));
    // Another key of the same number is another key.
    let mut settings = with_keys(&[2]);
    settings["key"][0]["secret"] = json!(secret(3));
    site.reload(&settings);
    assert_eq!(new.validate(&mut site, 1).get(REASON), Some("mac"));
}

#[test]
fn a_key_counts_until_its_time_is_over() {
    let mut settings = with_keys(&[1, 2]);
    settings["key"][0]["not-after"] = json!(START + 100);
    let mut site = Site::new(&settings);
    let mut browser = Browser::default();
    browser.solve(&mut site, 1);
    site.wait(99);
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
    site.wait(2);
    assert_eq!(
        browser.validate(&mut site, 1).get(REASON),
        Some("revoked-key")
    );
    browser.solve(&mut site, 1);
    assert_eq!(
        browser.validate(&mut site, 1).get(VALID),
        Some(true),
        "the second one signs now"
    );

    // Where none is left, nobody is let in, and nobody told otherwise.
    settings["key"] = json!([settings["key"][0]]);
    let mut site = Site::new(&settings);
    site.wait(101);
    let ack = browser.issue(&mut site, 1);
    assert_eq!(ack.get(STATUS), Some(503));
    assert_eq!(
        ack.get(RESPONSE),
        Some(r#"{"ok":false,"code":"busy","retry":5}"#)
    );
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(false));
}

/// 26: a level that asks for something else now.
#[test]
fn a_level_that_was_changed_has_to_be_passed_again() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let mut browser = Browser::default();
    browser.solve(&mut site, 1);
    let mut harder = pow();
    harder["work"] = json!(65);
    site.reload(&settings(&json!({ "level": [harder.clone()] })));
    assert_eq!(browser.validate(&mut site, 1).get(REASON), Some("mac"));
    // A level behind it changes nothing.
    site.reload(&settings(&json!({ "level": [pow(), harder] })));
    assert_eq!(browser.validate(&mut site, 1).get(VALID), Some(true));
    // One that is gone is as if it had never been.
    browser.solve(&mut site, 2);
    site.reload(&settings(&json!({ "level": [pow()] })));
    assert_eq!(browser.validate(&mut site, 1).get(REASON), Some("level"));
}

/// 17, 36: nothing is kept of a challenge but in the challenge.
#[test]
fn two_agents_with_the_same_keys_are_one() {
    let clock = TestClock::default();
    let settings = with_keys(&[1]);
    let mut sites = [
        Site::at(&settings, clock.clone()),
        Site::at(&settings, clock),
    ];
    let mut browser = Browser::default();
    for first in [0, 1] {
        let challenge = response(&browser.issue(&mut sites[first], 1));
        let ack = browser.verify(&mut sites[1 - first], &solution(&challenge));
        assert_eq!(ack.get(RESULT), Some("ok"));
        for site in &mut sites {
            assert_eq!(browser.validate(site, 1).get(VALID), Some(true));
        }
        // Both give the same token for it.
        let again = browser
            .clone()
            .verify(&mut sites[first], &solution(&challenge));
        assert_eq!(again.get(RESPONSE), ack.get(RESPONSE));
    }
    // A restart is another agent with the same keys.
    let mut restarted = Site::new(&settings);
    assert_eq!(browser.validate(&mut restarted, 1).get(VALID), Some(true));
}

/// 18, 32: clocks may be a minute apart.
#[test]
fn clocks_of_agents_may_be_apart() {
    let clock = TestClock::default();
    let settings = with_keys(&[1]);
    for (ahead, is_fine) in [
        (-61, false),
        (-60, true),
        (-30, true),
        (30, true),
        (60, true),
    ] {
        let mut here = Site::at(&settings, clock.clone());
        let mut there = Site::ahead(&settings, &clock, ahead);
        let mut browser = Browser::default();
        let challenge = response(&browser.issue(&mut here, 1));
        let ack = browser.verify(&mut there, &solution(&challenge));
        let expected = if is_fine { "ok" } else { "expired" };
        assert_eq!(ack.get(RESULT), Some(expected), "{ahead}");
        browser.solve(&mut here, 1);
        let ack = browser.validate(&mut there, 1);
        let expected = if is_fine { None } else { Some("future") };
        assert_eq!(ack.get(REASON), expected, "{ahead}");
        assert_eq!(browser.validate(&mut here, 1).get(VALID), Some(true));
    }
}

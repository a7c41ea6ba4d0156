//! How much work is asked for: more under load, and more of networks that ask for much.

use std::time::Duration;

use ringspoa::agents::challenge::messages::SUGGEST_LEVEL;
use serde_json::json;

use crate::site::{Browser, Site, response, settings, solution};

fn site() -> Site {
    let level = |adaptive: serde_json::Value| json!({ "type": "pow", "work": 100, "parts": 1, "adaptive": adaptive });
    Site::new(&settings(&json!({ "level": [
        level(json!({
            "cap": 10_000, "normal-rate": 10, "peak-rate": 1_000, "per-prefix": 0,
            "normal-load": 50, "peak-load": 100,
        })),
        level(json!({ "cap": 1_600, "normal-rate": 1_000, "per-prefix": 10 })),
        level(json!({ "cap": 1_600 })),
    ] })))
}

fn work(site: &mut Site, browser: &Browser, level: i64) -> u64 {
    response(&browser.issue(site, level))["w"].as_u64().unwrap()
}

#[test]
fn work_rises_with_the_rate_of_challenges_and_falls_slowly() {
    let mut site = site();
    let browser = Browser::default();
    assert_eq!(work(&mut site, &browser, 1), 100);
    // 100 a second are half way between 10 and 1,000 where factors count.
    for _ in 0..3_000 {
        site.clock.pass(Duration::from_millis(10));
        work(&mut site, &browser, 1);
    }
    let high = work(&mut site, &browser, 1);
    assert!((900..1_100).contains(&high), "{high}");
    let counts = site.agent.counts();
    let current = *counts.work.values().next().unwrap();
    assert!(u64::from(current).abs_diff(high) < 20, "{current} {high}");
    let suggested = browser.validate(&mut site, 1).get(SUGGEST_LEVEL);
    // Half way is where one more is suggested: a little below or above it.
    assert!(matches!(suggested, Some(1 | 2)), "{suggested:?}");
    // Now nobody comes for a minute, which changes nothing, and then for two.
    site.wait(59);
    let held = work(&mut site, &browser, 1);
    assert!(held > 850, "{held}");
    site.wait(30);
    let falling = work(&mut site, &browser, 1);
    assert!(falling < held && falling > 100, "{falling}");
    site.wait(180);
    assert_eq!(work(&mut site, &browser, 1), 100);
}

/// A thousand a second, but all of one network: whoever else comes has nothing to do with it.
#[test]
fn one_network_does_not_make_all_others_work_more() {
    let mut site = Site::new(&settings(&json!({ "level": [{
        "type": "pow", "work": 100, "parts": 1,
        "adaptive": { "cap": 1_600, "normal-rate": 10, "peak-rate": 100, "per-prefix": 20 },
    }] })));
    let busy = Browser::at("203.0.113.1");
    for _ in 0..5_000 {
        site.clock.pass(Duration::from_millis(1));
        work(&mut site, &busy, 1);
    }
    assert_eq!(work(&mut site, &busy, 1), 1_600);
    assert_eq!(work(&mut site, &Browser::default(), 1), 100);
    // Of many networks it is another matter.
    for network in 0..1_000 {
        let [.., high, low] = u32::to_be_bytes(network);
        site.clock.pass(Duration::from_millis(5));
        work(&mut site, &Browser::at(&format!("10.{high}.{low}.1")), 1);
    }
    assert_eq!(work(&mut site, &Browser::default(), 1), 1_600);
}

#[test]
fn work_rises_with_the_load_that_haproxy_tells() {
    let mut site = site();
    let mut browser = Browser::default();
    for (load, expected) in [
        (None, 100),
        (Some(i64::MIN), 100),
        (Some(50), 100),
        (Some(100), 10_000),
    ] {
        browser.load = load;
        assert_eq!(work(&mut site, &browser, 1), expected, "{load:?}");
    }
    let ack = browser.validate(&mut site, 1);
    assert_eq!(ack.get(SUGGEST_LEVEL), Some(3));
    browser.load = None;
    site.wait(300);
    assert_eq!(work(&mut site, &browser, 1), 100);
    assert_eq!(browser.validate(&mut site, 1).get(SUGGEST_LEVEL), Some(1));
    // A validation brings the load too.
    browser.load = Some(i64::MAX);
    assert_eq!(browser.validate(&mut site, 1).get(SUGGEST_LEVEL), Some(3));
    assert_eq!(
        browser.validate(&mut site, 3).get(SUGGEST_LEVEL),
        Some(3),
        "there is none above"
    );
}

/// 6 of the policy: each doubling beyond what a network may have doubles its work, and its work alone.
#[test]
fn networks_that_ask_for_many_work_more_for_each() {
    let mut site = site();
    let browser = Browser::default();
    let works: Vec<u64> = (0..200).map(|_| work(&mut site, &browser, 2)).collect();
    assert!(works[..10].iter().all(|&work| work == 100), "{works:?}");
    assert!(works[10..20].iter().all(|&work| work == 200), "{works:?}");
    assert!(works[20..40].iter().all(|&work| work == 400), "{works:?}");
    assert_eq!(works[199], 1_600, "and no more than the cap");
    assert!(works.is_sorted());
    let neighbour = Browser::at("192.0.2.200");
    assert_eq!(work(&mut site, &neighbour, 2), 1_600);
    let stranger = Browser::at("203.0.113.1");
    assert_eq!(work(&mut site, &stranger, 2), 100);
    assert_eq!(stranger.validate(&mut site, 2).get(SUGGEST_LEVEL), Some(2));
    assert_eq!(browser.validate(&mut site, 2).get(SUGGEST_LEVEL), Some(3));
    site.wait(600);
    assert_eq!(work(&mut site, &browser, 2), 100);
}

/// What is refused as wrong counts twice, and what comes instead is dearer for it.
#[test]
fn wrong_solutions_make_a_network_work_more() {
    let mut site = site();
    let mut browser = Browser::default();
    let mut next = response(&browser.issue(&mut site, 2));
    let mut works = Vec::new();
    for _ in 0..40 {
        works.push(next["w"].as_u64().unwrap());
        let body = format!("{}.{}", next["ch"].as_str().unwrap(), "ffffffffffffffff");
        let reply = response(&browser.verify(&mut site, &body));
        if reply["ok"] == true {
            // By chance it may be right.
            next = response(&browser.issue(&mut site, 2));
            continue;
        }
        next = reply["next"].clone();
    }
    assert!(works.is_sorted(), "{works:?}");
    assert_eq!(*works.last().unwrap(), 800, "{works:?}");
    browser.verify(&mut site, &solution(&next));
}

/// 38: whoever asks for many is not helped by a reload.
#[test]
fn a_reload_leaves_work_where_it_is() {
    let level = |work: u32| {
        let adaptive = json!({ "cap": 10_000, "normal-load": 50, "peak-load": 100 });
        json!({ "type": "pow", "work": work, "parts": 1, "adaptive": adaptive })
    };
    let mut site = Site::new(&settings(&json!({ "level": [level(100)] })));
    let mut browser = Browser {
        load: Some(100),
        ..Browser::default()
    };
    assert_eq!(work(&mut site, &browser, 1), 10_000);
    browser.load = None;
    let mut changed = settings(&json!({ "name": "first", "level": [level(100)] }));
    let realms = changed["realm"].as_array_mut().unwrap();
    realms.push(json!({ "level": [level(200)] }));
    site.reload(&changed);
    assert_eq!(work(&mut site, &browser, 1), 10_000);
    browser.realm = "first";
    assert_eq!(work(&mut site, &browser, 1), 100, "that one was not there");
    browser.realm = "default";
    site.wait(180);
    assert_eq!(work(&mut site, &browser, 1), 200);
    assert_eq!(site.agent.counts().work.values().copied().max(), Some(200));
}

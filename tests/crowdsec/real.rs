//! What the operator of a LAPI does, and what lookups find.

use std::time::{Duration, Instant};

use ringspoa::agents::remediation::Remediation;
use ringspoa::sources::{LapiConfig, SourceConfig, Sources, SourcesConfig};

use super::lapi::{KEY, Lapi, PATIENCE};

fn config(lapi: &Lapi) -> LapiConfig {
    let mut config = LapiConfig::new(lapi.url(), KEY);
    config.update_frequency = Duration::from_millis(200);
    config.retry_at_most = Duration::from_millis(500);
    config
}

fn start(config: LapiConfig) -> Sources {
    let sources = Sources::start(SourcesConfig {
        sources: vec![SourceConfig::new("main", config)],
        ..SourcesConfig::default()
    });
    sources.unwrap()
}

fn remediation(sources: &Sources, address: &str) -> Remediation {
    let snapshot = sources.snapshots().current();
    let found = snapshot.lookup(address.parse().unwrap());
    found.map_or(Remediation::Allow, |found| found.remediation())
}

fn is_banned(sources: &Sources, address: &str) -> bool {
    remediation(sources, address) == Remediation::Ban
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn decisions_of_before_and_after_the_start_come_and_go() {
    let lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    let sources = start(config(&lapi));
    assert!(sources.wait_ready(PATIENCE));
    assert!(is_banned(&sources, "192.0.2.1"), "by the first answer");
    assert!(!is_banned(&sources, "192.0.2.2"));
    lapi.add("192.0.2.2", "4h");
    wait_until("the ban comes", || is_banned(&sources, "192.0.2.2"));
    lapi.delete("192.0.2.1");
    wait_until("the ban goes", || !is_banned(&sources, "192.0.2.1"));
    assert!(is_banned(&sources, "192.0.2.2"));
    let status = &sources.status().sources[0];
    assert_eq!((status.full_count, status.failure_count), (1, 0));
    assert!(status.delta_count > 0);
}

//! What a LAPI is told of our work.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringspoa::sources::{Dropped, Processed, SourceConfig, Sources, SourcesConfig, Traffic};
use serde_json::Value;

use super::stub::{Act, Asked, PATIENCE, Stub, answer, ban, body, quick, status, wait_until};

/// Answers questions, and reports with this status.
fn takes(status: &'static str) -> Act {
    Arc::new(move |asked, socket| {
        let bytes = match asked.head.starts_with("POST") {
            true => answer(status, ""),
            false => answer("200 OK", &body(&[ban(1, "192.0.2.1")], &[])),
        };
        let _ = socket.write_all(&bytes);
    })
}

fn start(stub: &Stub, every: Duration, count: &Arc<AtomicU64>) -> Sources {
    let mut config = quick(stub.url());
    config.usage_every = every;
    let count = Arc::clone(count);
    let traffic = move |source: &str| {
        assert_eq!(source, "main");
        let count = count.load(Ordering::SeqCst);
        Traffic {
            processed: vec![Processed {
                ip_type: "ipv4",
                count: 10 * count,
            }],
            dropped: vec![Dropped {
                origin: "cscli".to_owned(),
                ip_type: "ipv4",
                remediation: "ban".to_owned(),
                count,
            }],
        }
    };
    let settings = SourcesConfig {
        sources: vec![SourceConfig::new("main", config)],
        ..SourcesConfig::default()
    };
    let sources = Sources::start_with_usage(settings, Arc::new(traffic)).unwrap();
    assert!(sources.wait_ready(PATIENCE));
    sources
}

fn reports(stub: &Stub) -> Vec<Asked> {
    let asked = stub.asked().into_iter();
    asked
        .filter(|asked| asked.head.starts_with("POST /v1/usage-metrics"))
        .collect()
}

/// The value of an item of a report.
fn value(report: &Asked, name: &str) -> Option<u64> {
    let report: Value = serde_json::from_str(&report.body).unwrap();
    let component = &report["remediation_components"][0];
    assert_eq!(component["type"], "crowdsec-spoa-bouncer");
    let items = component["metrics"][0]["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["name"] == name)?;
    item["value"].as_u64()
}

#[test]
fn what_was_not_taken_is_in_the_next_report() {
    let stub = Stub::new(takes("500 Internal Server Error"));
    let count = Arc::new(AtomicU64::new(3));
    let sources = start(&stub, Duration::from_millis(100), &count);
    wait_until("two reports", || reports(&stub).len() >= 2);
    assert_eq!(status(&sources).usage_count, 0);
    for report in reports(&stub) {
        assert_eq!(value(&report, "dropped"), Some(3));
        assert_eq!(value(&report, "processed"), Some(30));
        assert_eq!(value(&report, "active_decisions"), Some(1));
    }
    // Only this is a yes.
    stub.then(takes("201 Created"));
    wait_until("it is taken", || status(&sources).usage_count >= 1);
    let before = reports(&stub).len();
    wait_until("one more", || reports(&stub).len() > before);
    assert_eq!(value(reports(&stub).last().unwrap(), "dropped"), None);
    count.store(5, Ordering::SeqCst);
    wait_until("what came since", || {
        value(reports(&stub).last().unwrap(), "dropped") == Some(2)
    });
}

#[test]
fn the_last_of_it_is_told_at_the_end() {
    let stub = Stub::new(takes("201 Created"));
    let count = Arc::new(AtomicU64::new(0));
    let sources = start(&stub, Duration::from_secs(900), &count);
    count.store(7, Ordering::SeqCst);
    assert!(reports(&stub).is_empty());
    sources.stop();
    let reports = reports(&stub);
    assert_eq!(reports.len(), 1);
    assert_eq!(value(&reports[0], "dropped"), Some(7));
}

#[test]
fn the_end_does_not_wait_for_a_lapi_that_hangs() {
    let stub = Stub::new(takes("201 Created"));
    let count = Arc::new(AtomicU64::new(1));
    let sources = start(&stub, Duration::from_secs(900), &count);
    stub.then(Arc::new(|_, _| std::thread::sleep(Duration::from_secs(10))));
    let began = Instant::now();
    sources.stop();
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(status(&sources).usage_failure_count, 1);
}

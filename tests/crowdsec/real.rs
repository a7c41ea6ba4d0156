//! What the operator of a LAPI does, and what lookups find.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use ringspoa::agents::remediation::{CountryCode, Remediation};
use ringspoa::outbound::ClientCertificate;
use ringspoa::sources::{
    LapiConfig, Readiness, SourceConfig, SourceStatus, Sources, SourcesConfig, StalePolicy,
    Traffic, WarmConfig,
};

use super::lapi::{KEY, Lapi, PATIENCE};

/// A LAPI asked often, so that tests are short.
fn config(lapi: &Lapi) -> LapiConfig {
    let mut config = LapiConfig::new(lapi.url(), KEY);
    config.update_frequency = Duration::from_millis(200);
    config.retry_at_most = Duration::from_millis(500);
    config
}

fn start(config: LapiConfig) -> Sources {
    start_with(config, None)
}

fn start_with(config: LapiConfig, warm: Option<&Path>) -> Sources {
    let sources = Sources::start(SourcesConfig {
        sources: vec![SourceConfig::new("main", config)],
        warm: warm.map(WarmConfig::new),
        ..SourcesConfig::default()
    });
    sources.unwrap()
}

fn ready(config: LapiConfig) -> Sources {
    let sources = start(config);
    assert!(sources.wait_ready(PATIENCE));
    sources
}

fn is_banned(sources: &Sources, address: &str) -> bool {
    let snapshot = sources.snapshots().current();
    let found = snapshot.lookup(address.parse().unwrap());
    found.is_some_and(|found| found.remediation() == Remediation::Ban)
}

fn status(sources: &Sources) -> SourceStatus {
    sources.status().sources.remove(0)
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the LAPI has answered twice from now on: what was done before is in force then.
#[track_caller]
fn settle(sources: &Sources) {
    let answers = |status: &SourceStatus| status.full_count + status.delta_count;
    let before = answers(&status(sources));
    wait_until("two answers", || answers(&status(sources)) >= before + 2);
}

#[test]
fn decisions_of_before_and_after_the_start_come_and_go() {
    let lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    let sources = ready(config(&lapi));
    assert!(is_banned(&sources, "192.0.2.1"), "by the first answer");
    assert!(!is_banned(&sources, "192.0.2.2"));
    lapi.add("192.0.2.2", "4h");
    wait_until("the ban comes", || is_banned(&sources, "192.0.2.2"));
    lapi.delete("192.0.2.1");
    wait_until("the ban goes", || !is_banned(&sources, "192.0.2.1"));
    assert!(is_banned(&sources, "192.0.2.2"));
    let status = status(&sources);
    assert_eq!((status.full_count, status.failure_count), (1, 0));
    assert!(status.delta_count > 0 && !status.is_failing);
    // As the LAPI's operator sees us.
    let listed = lapi.cscli(&["bouncers", "list"]);
    assert!(listed.contains("crowdsec-spoa-bouncer"), "{listed}");
}

#[test]
fn ranges_and_addresses_with_a_prefix() {
    let lapi = Lapi::start();
    let sources = ready(config(&lapi));
    lapi.cscli(&[
        "decisions",
        "add",
        "--range",
        "198.51.100.0/25",
        "-d",
        "4h",
        "-t",
        "ban",
    ]);
    lapi.cscli(&[
        "decisions",
        "add",
        "--range",
        "2001:db8::/64",
        "-d",
        "4h",
        "-t",
        "captcha",
    ]);
    lapi.cscli(&[
        "decisions",
        "add",
        "--ip",
        "203.0.113.7",
        "-d",
        "4h",
        "-t",
        "mfa",
    ]);
    wait_until("all come", || sources.snapshots().current().count() == 3);
    assert!(is_banned(&sources, "198.51.100.127"));
    assert!(!is_banned(&sources, "198.51.100.128"));
    let word = |address: &str| {
        let snapshot = sources.snapshots().current();
        let found = snapshot.lookup(address.parse().unwrap()).unwrap();
        (found.remediation(), found.word().to_owned())
    };
    assert_eq!(
        word("2001:db8::ffff"),
        (Remediation::Captcha, "captcha".to_owned())
    );
    assert_eq!(
        word("203.0.113.7"),
        (Remediation::Unknown, "mfa".to_owned())
    );
    lapi.cscli(&["decisions", "delete", "--range", "198.51.100.0/25"]);
    wait_until("the range goes", || !is_banned(&sources, "198.51.100.1"));
    let active = sources.status().active;
    let shown: Vec<_> = active
        .iter()
        .map(|active| {
            (
                active.origin.as_str(),
                active.scope,
                active.ip_type,
                active.count,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [("cscli", "ip", "ipv4", 1), ("cscli", "range", "ipv6", 1)]
    );
}

#[test]
fn countries_come_where_they_are_wanted() {
    let lapi = Lapi::start();
    lapi.cscli(&[
        "decisions",
        "add",
        "--scope",
        "Country",
        "--value",
        "FR",
        "-d",
        "4h",
        "-t",
        "ban",
    ]);
    lapi.cscli(&[
        "decisions",
        "add",
        "--scope",
        "AS",
        "--value",
        "64500",
        "-d",
        "4h",
        "-t",
        "ban",
    ]);
    lapi.add("192.0.2.1", "4h");
    // The LAPI holds what a client has by its key.
    lapi.cscli(&["bouncers", "add", "unasked", "-k", "other-key"]);
    let mut unasked = config(&lapi);
    unasked.api_key = Some(ringspoa::sources::ApiKey::new("other-key"));
    let unasked = ready(unasked);
    let mut asking = config(&lapi);
    (asking.wants_countries, asking.wants_as_numbers) = (true, true);
    let asking = ready(asking);
    let nobody = "203.0.113.1".parse().unwrap();
    let found = |sources: &Sources, country: &str, as_number| {
        let snapshot = sources.snapshots().current();
        snapshot
            .lookup_with(nobody, CountryCode::new(country), as_number)
            .is_some()
    };
    assert!(found(&asking, "FR", None) && found(&asking, "DE", Some(64_500)));
    assert!(!found(&asking, "DE", Some(64_501)));
    assert_eq!(unasked.snapshots().current().count(), 1);
    let snapshot = asking.snapshots().current();
    let of_country = snapshot
        .lookup_with(nobody, CountryCode::new("FR"), None)
        .unwrap();
    let id = of_country.id().unwrap().to_string();
    lapi.cscli(&["decisions", "delete", "--id", &id]);
    wait_until("the country goes", || !found(&asking, "FR", None));
}

#[test]
fn decisions_end_in_their_time_with_and_without_the_lapi() {
    let mut lapi = Lapi::start();
    let mut config = config(&lapi);
    config.grace = Some(Duration::ZERO);
    lapi.add("192.0.2.1", "4h");
    let sources = ready(config);
    lapi.add("192.0.2.2", "3s");
    wait_until("the short ban comes", || is_banned(&sources, "192.0.2.2"));
    wait_until("it goes", || !is_banned(&sources, "192.0.2.2"));
    // Now nobody says so.
    lapi.add("192.0.2.3", "6s");
    let added = Instant::now();
    wait_until("the short ban comes", || is_banned(&sources, "192.0.2.3"));
    lapi.kill();
    wait_until("it goes", || !is_banned(&sources, "192.0.2.3"));
    let after = added.elapsed();
    assert!(
        after >= Duration::from_secs(5) && after < Duration::from_secs(10),
        "{after:?}"
    );
    assert!(is_banned(&sources, "192.0.2.1"));
    assert_eq!(sources.status().expired_count, 1);
}

/// As the LAPI says it, which is where the mistakes of other clients were.
#[test]
fn one_value_with_decisions_of_several_origins() {
    for dedup in [false, true] {
        let lapi = Lapi::start();
        let mut config = config(&lapi);
        config.dedup = dedup;
        let sources = ready(config);
        let count = || sources.snapshots().current().count();
        lapi.add("192.0.2.1", "4h");
        wait_until("the first ban comes", || count() == 1);
        // Of another origin, and longer or shorter than that.
        lapi.import(std::iter::once(Ipv4Addr::new(192, 0, 2, 1)));
        lapi.add("192.0.2.1", "1h");
        settle(&sources);
        if !dedup {
            assert_eq!(count(), 3);
        }
        let snapshot = sources.snapshots().current();
        let found = snapshot.lookup("192.0.2.1".parse().unwrap()).unwrap();
        let id = found.id().unwrap().to_string();
        if !dedup {
            lapi.cscli(&["decisions", "delete", "--id", &id]);
            wait_until("one goes", || count() == 2);
            assert!(is_banned(&sources, "192.0.2.1"), "by the others");
        }
        // All that are left, at once.
        lapi.delete("192.0.2.1");
        wait_until("all go", || !is_banned(&sources, "192.0.2.1"));
        // Between two questions: it went and came again.
        lapi.add("192.0.2.1", "2h");
        wait_until("it comes again", || is_banned(&sources, "192.0.2.1"));
        lapi.delete("192.0.2.1");
        lapi.add("192.0.2.1", "3h");
        settle(&sources);
        // Also after the next answers, which repeat the deletion.
        for _ in 0..3 {
            assert!(is_banned(&sources, "192.0.2.1"), "dedup {dedup}");
            settle(&sources);
        }
    }
}

#[test]
fn a_lapi_that_is_killed_and_comes_back() {
    let mut lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    let sources = ready(config(&lapi));
    for round in 0..3 {
        lapi.kill();
        wait_until("it is noticed", || status(&sources).is_failing);
        assert!(is_banned(&sources, "192.0.2.1"), "what was said holds");
        lapi.run();
        let address = format!("192.0.2.{}", 10 + round);
        lapi.add(&address, "4h");
        wait_until("new bans come", || is_banned(&sources, &address));
        lapi.delete(&address);
        wait_until("and go", || !is_banned(&sources, &address));
        assert!(is_banned(&sources, "192.0.2.1"));
    }
    let status = status(&sources);
    assert!(!status.is_failing && status.failure_count > 0);
    let text = status.last_failure.unwrap().text;
    assert!(
        text.contains("main") && text.contains("127.0.0.1"),
        "{text}"
    );
}

#[test]
fn a_lapi_that_hangs_loses_nothing() {
    let lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    lapi.add("192.0.2.9", "4h");
    let mut config = config(&lapi);
    config.timeouts.first_byte = Duration::from_millis(300);
    config.retry_at_most = Duration::from_secs(2);
    let sources = ready(config);
    for round in 0..3 {
        // Told before it hangs, perhaps not asked yet.
        let address = format!("192.0.2.{}", 20 + round);
        lapi.add(&address, "4h");
        lapi.hang();
        wait_until("it is noticed", || {
            let failure = status(&sources).last_failure;
            status(&sources).is_failing
                && failure.is_some_and(|failure| failure.text.contains("timeout"))
        });
        assert!(is_banned(&sources, "192.0.2.1"));
        // It answers questions that nobody waits for any more, and takes them for answered.
        lapi.go_on();
        wait_until("it works again", || !status(&sources).is_failing);
        assert!(is_banned(&sources, &address));
        assert!(is_banned(&sources, "192.0.2.1"));
    }
    lapi.delete("192.0.2.9");
    wait_until("bans go", || !is_banned(&sources, "192.0.2.9"));
    assert!(
        status(&sources).full_count >= 4,
        "each loss asks for everything"
    );
}

#[test]
fn a_key_that_is_removed_and_registered_again() {
    let lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    lapi.add("192.0.2.2", "4h");
    let sources = ready(config(&lapi));
    lapi.cscli(&["bouncers", "delete", "test"]);
    wait_until("it is noticed", || status(&sources).is_failing);
    let text = status(&sources).last_failure.unwrap().text;
    assert!(text.contains("api_key") && text.contains("403"), "{text}");
    // Unseen by us, and before we are known again: not in what changed since then.
    lapi.delete("192.0.2.1");
    lapi.add("192.0.2.3", "4h");
    std::thread::sleep(Duration::from_secs(1));
    assert!(is_banned(&sources, "192.0.2.1"), "what was said holds");
    lapi.cscli(&["bouncers", "add", "test", "-k", KEY]);
    wait_until("new bans come", || is_banned(&sources, "192.0.2.3"));
    assert!(!is_banned(&sources, "192.0.2.1"));
    assert!(is_banned(&sources, "192.0.2.2"));
    assert!(!status(&sources).is_failing);
}

#[test]
fn a_lapi_that_is_not_there_at_the_start() {
    let mut lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    lapi.kill();
    let sources = start(config(&lapi));
    assert!(!sources.wait_ready(Duration::from_millis(600)));
    lapi.run();
    assert!(sources.wait_ready(PATIENCE));
    assert!(is_banned(&sources, "192.0.2.1"));
}

#[test]
fn decisions_that_are_stale_are_dropped_where_that_is_wanted() {
    let mut lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    let mut config = config(&lapi);
    config.stale_policy = StalePolicy::DropAfter(Duration::from_secs(2));
    let sources = ready(config);
    settle(&sources);
    assert!(is_banned(&sources, "192.0.2.1"));
    lapi.kill();
    wait_until("they are dropped", || !is_banned(&sources, "192.0.2.1"));
    let dropped = status(&sources);
    assert!(dropped.is_dropped && dropped.drop_count == 1);
    assert!(dropped.staleness >= Duration::from_secs(2));
    lapi.run();
    wait_until("they come again", || is_banned(&sources, "192.0.2.1"));
    assert!(!status(&sources).is_dropped);
}

#[test]
fn a_warm_start() {
    let mut lapi = Lapi::start();
    lapi.add("192.0.2.1", "4h");
    lapi.add("192.0.2.2", "5s");
    lapi.cscli(&[
        "decisions",
        "add",
        "--range",
        "198.51.100.0/24",
        "-d",
        "4h",
        "-t",
        "ban",
    ]);
    let mut config = config(&lapi);
    config.grace = Some(Duration::ZERO);
    let kept = lapi.folder().join("kept");
    let sources = start_with(config.clone(), Some(&kept));
    assert!(sources.wait_ready(PATIENCE));
    sources.stop();
    assert!(kept.exists());
    drop(sources);
    lapi.kill();
    std::thread::sleep(Duration::from_secs(5));
    let sources = start_with(config, Some(&kept));
    assert!(sources.ready(), "at once");
    assert_eq!(status(&sources).readiness, Readiness::Warm);
    assert!(is_banned(&sources, "192.0.2.1") && is_banned(&sources, "198.51.100.9"));
    assert!(!is_banned(&sources, "192.0.2.2"), "it ended meanwhile");
    lapi.run();
    lapi.delete("192.0.2.1");
    lapi.add("192.0.2.3", "4h");
    wait_until("the LAPI has its say", || is_banned(&sources, "192.0.2.3"));
    assert_eq!(status(&sources).readiness, Readiness::Ready);
    wait_until("also about what was kept", || {
        !is_banned(&sources, "192.0.2.1")
    });
    assert!(is_banned(&sources, "198.51.100.9"));
}

/// 1.4.6 is from before there was usage to be told.
#[test]
fn an_older_lapi_is_not_told_of_usage_again() {
    let lapi = Lapi::start();
    let mut config = config(&lapi);
    config.usage_every = Duration::from_millis(100);
    let counts = Arc::new(|_: &str| Traffic::default());
    let settings = SourcesConfig {
        sources: vec![SourceConfig::new("main", config)],
        ..SourcesConfig::default()
    };
    let sources = Sources::start_with_usage(settings, counts).unwrap();
    assert!(sources.wait_ready(PATIENCE));
    let asked = || {
        let log = std::fs::read_to_string(lapi.folder().join("log")).unwrap();
        log.matches("POST /v1/usage-metrics").count()
    };
    wait_until("it is told", || asked() == 1);
    std::thread::sleep(Duration::from_millis(500));
    sources.stop();
    assert_eq!(asked(), 1);
    let status = status(&sources);
    assert_eq!((status.usage_count, status.usage_failure_count), (0, 0));
}

/// A LAPI that knows its clients by certificates, of an authority that no system knows.
#[test]
fn certificates_of_both_sides() {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let issue = |unit: &str, names: &[String], purpose| {
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "ringspoa");
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, unit);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let here = ["127.0.0.1".to_owned()];
    let server = issue("servers", &here, ExtendedKeyUsagePurpose::ServerAuth);
    let client = issue("bouncers", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let other = issue("others", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let settings = "    tls:\n      cert_file: @/server.pem\n      key_file: @/server.key\n\
        \x20     ca_cert_path: @/authority.pem\n      client_verification: VerifyClientCertIfGiven\n\
        \x20     bouncers_allowed_ou: [bouncers]\n      agents_allowed_ou: [agents]\n";
    let files = [
        ("authority.pem", authority.pem()),
        ("server.pem", server.0),
        ("server.key", server.1),
        ("client.pem", client.0),
        ("client.key", client.1),
        ("other.pem", other.0),
        ("other.key", other.1),
    ];
    let lapi = Lapi::with_server(settings, &files);
    lapi.add("192.0.2.1", "4h");
    let with = |name: &str| {
        let file = |end: &str| lapi.folder().join(format!("{name}.{end}"));
        let mut config = config(&lapi);
        config.api_key = None;
        config.client_certificate = Some(ClientCertificate {
            certificate_file: file("pem"),
            key_file: file("key"),
        });
        config.ca_file = Some(lapi.folder().join("authority.pem"));
        config
    };
    let sources = ready(with("client"));
    assert!(is_banned(&sources, "192.0.2.1"));
    lapi.delete("192.0.2.1");
    wait_until("the ban goes", || !is_banned(&sources, "192.0.2.1"));
    let listed = lapi.cscli(&["bouncers", "list"]);
    assert!(listed.contains("ringspoa@127.0.0.1"), "{listed}");
    drop(sources);
    let fails = |config: LapiConfig, part: &str| {
        let sources = start(config);
        wait_until("it is noticed", || status(&sources).is_failing);
        let text = status(&sources).last_failure.unwrap().text;
        assert!(text.contains(part), "{text}");
    };
    fails(with("other"), "the client certificate");
    let mut unknown = with("client");
    unknown.ca_file = None;
    fails(unknown, "TLS");
    let mut trusting = config(&lapi);
    trusting.insecure = true;
    assert!(ready(trusting).ready(), "by its key");
}

/// The operator's acts at random, with the LAPI killed, hung and restarted between them. In the end a
/// lookup finds what the operator left, and on the way nothing that was always there was ever missing.
#[test]
fn any_acts_end_in_what_the_operator_left() {
    let mut lapi = Lapi::start();
    lapi.add("203.0.113.1", "4h");
    let mut config = config(&lapi);
    config.timeouts.first_byte = Duration::from_millis(500);
    let sources = ready(config);
    // A core's view of it, all the time.
    let is_over = Arc::new(AtomicBool::new(false));
    let core = {
        let (is_over, mut reader) = (Arc::clone(&is_over), sources.snapshots().reader());
        std::thread::spawn(move || {
            let mut count = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                let snapshot = reader.snapshot();
                let found = snapshot.lookup("203.0.113.1".parse().unwrap());
                assert!(found.is_some(), "after {count} lookups");
                assert!(snapshot.lookup("203.0.113.2".parse().unwrap()).is_none());
                count += 1;
                std::thread::sleep(Duration::from_micros(50));
            }
            count
        })
    };
    let seed = std::process::id().wrapping_mul(0x9e37_79b1) | 1;
    println!("seed {seed}");
    let state = Cell::new(seed);
    let random = |below: u32| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        state.set(x);
        x % below
    };
    let mut left = BTreeSet::new();
    for _ in 0..60 {
        let last = random(12);
        let address = format!("192.0.2.{last}");
        match random(10) {
            0 => {
                lapi.kill();
                lapi.run();
            }
            1 => {
                lapi.hang();
                std::thread::sleep(Duration::from_millis(u64::from(random(1_200))));
                lapi.go_on();
            }
            2..=4 => {
                lapi.delete(&address);
                left.remove(&last);
            }
            _ => {
                lapi.add(&address, "4h");
                left.insert(last);
            }
        }
    }
    settle(&sources);
    is_over.store(true, Ordering::Relaxed);
    println!("{} lookups meanwhile", core.join().unwrap());
    for last in 0..12 {
        let address = format!("192.0.2.{last}");
        assert_eq!(
            is_banned(&sources, &address),
            left.contains(&last),
            "{address}, seed {seed}"
        );
    }
}

/// What the process has in memory, or had at most, in KiB.
fn memory_kib(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// 5 000 decisions, or as many as `RINGSPOA_DECISIONS` says.
#[test]
fn many_decisions() {
    let count: u32 =
        std::env::var("RINGSPOA_DECISIONS").map_or(5_000, |count| count.parse().unwrap());
    let lapi = Lapi::start();
    let address = |index: u32| Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 0, 0]) + 2 * index);
    let began = Instant::now();
    lapi.import((0..count).map(address));
    println!("imported {count} in {:?}", began.elapsed());
    let before = memory_kib("VmRSS:");
    let began = Instant::now();
    let sources = ready(config(&lapi));
    println!(
        "pulled {count} in {:?}: {} KiB resident before, {} after, {} at most; the snapshot has {} bytes",
        began.elapsed(),
        before,
        memory_kib("VmRSS:"),
        memory_kib("VmHWM:"),
        sources.status().snapshot_len,
    );
    for _ in 0..3 {
        sources.resync();
        settle(&sources);
    }
    println!(
        "after three more: {} KiB resident, {} at most",
        memory_kib("VmRSS:"),
        memory_kib("VmHWM:")
    );
    let snapshot = sources.snapshots().current();
    assert_eq!(snapshot.count(), usize::try_from(count).unwrap());
    for index in 0..count {
        let (listed, other) = (
            address(index),
            Ipv4Addr::from_bits(address(index).to_bits() + 1),
        );
        assert!(snapshot.lookup(listed.into()).is_some(), "{listed}");
        assert!(snapshot.lookup(other.into()).is_none(), "{other}");
    }
    drop(snapshot);
    lapi.cscli(&["decisions", "delete", "--all"]);
    wait_until("all go", || sources.snapshots().current().count() == 0);
}

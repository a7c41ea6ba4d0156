//! The agent of CrowdSec's messages as a whole: decisions from a store, questions over HTTP to stubs of a
//! captcha provider and of AppSec, answers by ticket.

mod asked;

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringspoa::agents::remediation::messages::{
    CAPTCHA_COOKIE_HEADER, CAPTCHA_STATUS, CONTACT_US_URL, CrowdsecHttpBody, CrowdsecTcp, REDIRECT,
    REMEDIATION, RequestHeaders,
};
use ringspoa::agents::remediation::{
    Bouncer, Decision, DecisionStore, HostSettings, Network, Policy, PolicySettings, Remediation,
    SnapshotCell, Source, messages,
};
use ringspoa::outbound::{Outbound, OutboundConfig};
use ringspoa::{Ack, Agent, Harness, Headers};

use asked::next_request;

/// What HAProxy waits is longer, what the stubs below take when they are stuck is much longer.
const DEADLINE: Duration = Duration::from_millis(400);

/// Longer than any test.
const STUCK: Duration = Duration::from_secs(600);

/// A request as a stub sees it: the head, lower case, and the body.
struct Seen {
    head: String,
    body: String,
}

/// A stub of somebody who is asked over HTTP, on loopback. It ends with the test's process.
struct Stub {
    url: String,
    count: Arc<AtomicUsize>,
    /// Whoever is asked gives no answer.
    is_stuck: Arc<AtomicBool>,
    /// It takes a while for each.
    is_slow: Arc<AtomicBool>,
}

impl Stub {
    fn start(answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let count = Arc::<AtomicUsize>::default();
        let [is_stuck, is_slow] = [(); 2].map(|()| Arc::<AtomicBool>::default());
        let (counted, stuck) = (Arc::clone(&count), Arc::clone(&is_stuck));
        let slow = Arc::clone(&is_slow);
        let answer = Arc::new(move |seen: &Seen| {
            if slow.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
            answer(seen)
        });
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (counted, stuck) = (Arc::clone(&counted), Arc::clone(&stuck));
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(&socket, &counted, &stuck, &*answer));
            }
        });
        Self {
            url,
            count,
            is_stuck,
            is_slow,
        }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn serve(
    socket: &TcpStream,
    count: &AtomicUsize,
    is_stuck: &AtomicBool,
    answer: &dyn Fn(&Seen) -> (u16, String),
) {
    let mut reader = BufReader::new(socket);
    while let Some((head, body)) = next_request(&mut reader) {
        count.fetch_add(1, Ordering::SeqCst);
        if is_stuck.load(Ordering::SeqCst) {
            thread::sleep(STUCK);
        }
        let (status, text) = answer(&Seen { head, body });
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        let mut socket = socket;
        if socket.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A site: what is decided, and who is asked.
struct Site {
    bouncer: Bouncer,
    provider: Stub,
    appsec: Stub,
    cell: Arc<SnapshotCell>,
    store: DecisionStore,
    _outbound: Outbound,
}

/// The provider takes the solution `4`; AppSec turns away whoever asks for `/evil`, and has whoever asks
/// for `/odd` solve a captcha.
fn site() -> Site {
    let provider = Stub::start(|seen| {
        assert!(seen.body.contains("secret=2"), "{}", seen.body);
        let is_solved = seen.body.contains("response=4");
        (200, format!(r#"{{"success":{is_solved}}}"#))
    });
    let appsec = Stub::start(|seen| {
        assert!(
            seen.head.contains("x-crowdsec-appsec-api-key: k"),
            "{}",
            seen.head
        );
        let has = |uri: &str| seen.head.contains(&format!("x-crowdsec-appsec-uri: {uri}"));
        match (has("/evil"), has("/odd")) {
            (true, _) => (403, r#"{"action":"ban","http_status":403}"#.to_owned()),
            (_, true) => (403, r#"{"action":"captcha"}"#.to_owned()),
            _ => (200, r#"{"action":"allow"}"#.to_owned()),
        }
    });
    let host = format!(
        r#"{{ "host": "*.example", "ban": {{ "contact_us_url": "mailto:x@example" }},
             "captcha": {{ "provider": "custom", "site_key": "1", "secret_key": "2", "timeout": 1,
                 "signing_key": "0123456789abcdef0123456789abcdef",
                 "custom": {{ "script": "https://captcha.example/x.js", "class": "x-captcha",
                              "field": "x-response", "url": "{}" }} }},
             "appsec": {{ "url": "{}", "api_key": "k", "timeout": "5s" }} }}"#,
        provider.url, appsec.url
    );
    let host: HostSettings = serde_json::from_str(&host).unwrap();
    let settings = PolicySettings {
        hosts: vec![("host 1".to_owned(), host)],
        ..PolicySettings::default()
    };
    let (policy, problems) = Policy::new(settings).unwrap();
    assert_eq!(problems, []);
    let mut store = DecisionStore::new();
    let source = store.add_source(Source::default()).unwrap();
    for (network, word) in [("192.0.2.1", "ban"), ("192.0.2.2", "captcha")] {
        let network: Network = network.parse().unwrap();
        store
            .insert(source, &Decision::new(network, word, "cscli"))
            .unwrap();
    }
    store.apply(0);
    let cell = SnapshotCell::new(Arc::clone(store.snapshot()));
    let outbound = Outbound::start(OutboundConfig::default()).unwrap();
    let bouncer = Bouncer::new(Arc::new(policy), Arc::clone(&cell), &outbound, DEADLINE).unwrap();
    Site {
        bouncer,
        provider,
        appsec,
        cell,
        store,
        _outbound: outbound,
    }
}

struct Visit<'v> {
    address: [u8; 4],
    path: &'v [u8],
    headers: String,
    body: &'v [u8],
}

fn visit(address: [u8; 4], path: &str) -> Visit<'_> {
    Visit {
        address,
        path: path.as_bytes(),
        headers: "host: shop.example\r\nuser-agent: test\r\n".to_owned(),
        body: b"",
    }
}

impl Visit<'_> {
    fn message(&self, block: &'static str) -> CrowdsecHttpBody<'_> {
        CrowdsecHttpBody {
            remediation: None,
            id: Some(b"1"),
            method: Some(if self.body.is_empty() {
                b"GET"
            } else {
                b"POST"
            }),
            path: Some(self.path),
            query: None,
            version: Some(b"1.1"),
            headers: RequestHeaders(Some(Headers::from_text(block.as_bytes()).unwrap())),
            body: Some(self.body),
            url: Some(self.path),
            ssl: Some(false),
            src_ip: Some(self.address.into()),
        }
    }

    fn ack(&self, harness: &mut Harness<impl Agent>) -> Ack {
        harness.notify(&self.message(self.block())).ack()
    }

    fn block(&self) -> &'static str {
        // Some bytes of a test that live as long as its process.
        Box::leak(format!("{}\r\n", self.headers).into_boxed_str())
    }
}

fn harness(site: &Site) -> Harness<impl Agent + use<>> {
    Harness::new(site.bouncer.agent()).with_deadline(Duration::from_secs(60))
}

#[test]
fn decisions_hold_at_once_and_change_while_it_runs() {
    let mut site = site();
    let mut harness = harness(&site);
    let tcp = |harness: &mut Harness<_>, address: &str| {
        let message = CrowdsecTcp {
            src_ip: Some(address.parse().unwrap()),
        };
        let ack = harness.notify(&message).ack();
        ack.get(REMEDIATION).map(str::to_owned)
    };
    assert_eq!(tcp(&mut harness, "192.0.2.1").as_deref(), Some("ban"));
    assert_eq!(
        tcp(&mut harness, "::ffff:192.0.2.1").as_deref(),
        Some("ban")
    );
    assert_eq!(tcp(&mut harness, "192.0.2.9").as_deref(), Some("allow"));
    let nobody = harness.notify(&CrowdsecTcp { src_ip: None }).ack();
    assert!(nobody.is_empty());
    assert_eq!(nobody.fault(), None);

    let source = site.store.add_source(Source::default()).unwrap();
    let network: Network = "192.0.2.8/29".parse().unwrap();
    site.store
        .insert(source, &Decision::new(network, "ban", "list"))
        .unwrap();
    site.store.apply(0);
    site.cell.publish(Arc::clone(site.store.snapshot()));
    assert_eq!(tcp(&mut harness, "192.0.2.9").as_deref(), Some("ban"));

    let counts = site.bouncer.counts();
    assert_eq!((counts.processed_v4, counts.processed_v6), (4, 0));
    let blocked: Vec<_> = counts
        .blocked
        .iter()
        .map(|(labels, count)| (labels.origin.as_str(), labels.remediation, *count))
        .collect();
    let ban = Remediation::Ban;
    assert_eq!(blocked, [("cscli", ban, 2), ("list", ban, 1)]);
}

#[test]
fn appsec_is_asked_about_those_who_pass_and_only_raises() {
    let site = site();
    let mut harness = harness(&site);
    let good = visit([192, 0, 2, 9], "/").ack(&mut harness);
    assert_eq!(good.get(REMEDIATION), Some("allow"));
    let evil = visit([192, 0, 2, 9], "/evil").ack(&mut harness);
    assert_eq!(evil.get(REMEDIATION), Some("ban"));
    assert_eq!(evil.get(CONTACT_US_URL), Some("mailto:x@example"));
    let odd = visit([192, 0, 2, 9], "/odd").ack(&mut harness);
    assert_eq!(odd.get(REMEDIATION), Some("captcha"));
    assert_eq!(odd.get(CAPTCHA_STATUS), Some("pending"));
    assert_eq!(site.appsec.count(), 3);
    let banned = visit([192, 0, 2, 1], "/").ack(&mut harness);
    assert_eq!(banned.get(REMEDIATION), Some("ban"));
    assert_eq!(site.appsec.count(), 3, "it is banned anyway");
    assert_eq!(site.provider.count(), 0);
}

#[test]
fn a_captcha_is_solved_and_its_cookie_lets_pass() {
    let site = site();
    let mut harness = harness(&site);
    let first = visit([192, 0, 2, 2], "/").ack(&mut harness);
    assert_eq!(first.get(REMEDIATION), Some("captcha"));
    let cookie = first.get(CAPTCHA_COOKIE_HEADER).unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();

    let mut submission = visit([192, 0, 2, 2], "/");
    submission.headers += "content-type: application/x-www-form-urlencoded\r\n";
    submission.headers += &format!("cookie: {cookie}\r\n");
    submission.body = b"x-response=5";
    let wrong = submission.ack(&mut harness);
    assert_eq!(wrong.get(REMEDIATION), Some("captcha"));
    assert_eq!(site.appsec.count(), 0, "nobody to judge yet");
    submission.body = b"x-response=4";
    let right = submission.ack(&mut harness);
    assert_eq!(right.get(REMEDIATION), Some("allow"));
    assert_eq!(right.get(REDIRECT), Some("1"));
    assert_eq!((site.provider.count(), site.appsec.count()), (2, 1));

    let passed = right.get(CAPTCHA_COOKIE_HEADER).unwrap();
    let mut later = visit([192, 0, 2, 2], "/");
    later.headers += &format!("cookie: {}\r\n", passed.split(';').next().unwrap());
    let later = later.ack(&mut harness);
    assert_eq!(later.get(REMEDIATION), Some("allow"));
    assert_eq!(later.get(CAPTCHA_STATUS), Some("valid"));
    assert_eq!(later.get(REDIRECT), None);
}

#[test]
fn calls_that_are_stuck_hold_up_nobody_and_end_at_their_deadline() {
    const COUNT: u64 = 64;
    let site = site();
    site.appsec.is_stuck.store(true, Ordering::SeqCst);
    site.provider.is_stuck.store(true, Ordering::SeqCst);
    let mut harness = harness(&site);
    let waiting: Vec<_> = (0..COUNT)
        .map(|_| {
            let visit = visit([192, 0, 2, 9], "/");
            harness.notify(&visit.message(visit.block())).id()
        })
        .collect();
    // Whoever needs nobody's answer has one before any of those.
    for _ in 0..1000 {
        let message = CrowdsecTcp {
            src_ip: Some([192, 0, 2, 1].into()),
        };
        let ack = harness.notify(&message).ack();
        assert_eq!(ack.get(REMEDIATION), Some("ban"));
    }
    for id in waiting {
        let ack = harness.ack(id);
        assert_eq!(ack.fault(), None, "a verdict, and not the fallback");
        assert_eq!(
            ack.get(REMEDIATION),
            Some("allow"),
            "as is the failure action"
        );
    }
    let mut submission = visit([192, 0, 2, 2], "/");
    submission.headers += "content-type: application/x-www-form-urlencoded\r\n";
    submission.body = b"x-response=4";
    let unanswered = submission.ack(&mut harness);
    assert_eq!(unanswered.get(REMEDIATION), Some("captcha"));
    assert_eq!(unanswered.get(CAPTCHA_STATUS), Some("pending"));
}

#[test]
fn what_it_declares_fits_haproxy() {
    let site = site();
    let declaration = site.bouncer.agent().declaration();
    assert_eq!(declaration, messages::declaration());
    let names: Vec<_> = declaration.messages.iter().map(|m| m.name).collect();
    assert_eq!(
        names,
        [
            "crowdsec-tcp",
            "crowdsec-http-body",
            "crowdsec-http-no-body"
        ]
    );
    assert_eq!(declaration.variables.len(), 11);
    let spoe = ringspoa::SpoeConfig::new(&declaration).spoe().unwrap();
    for line in ["spoe-agent crowdsec", "spoe-group crowdsec-http-body"] {
        assert!(spoe.contains(line), "{spoe}");
    }
}

#[test]
fn more_requests_than_connections_are_judged_all() {
    // As many as come in a burst; AppSec has 64 connections for them, and takes a while.
    const COUNT: usize = 300;
    let site = site();
    site.appsec.is_slow.store(true, Ordering::SeqCst);
    let mut harness = harness(&site);
    let waiting: Vec<_> = (0..COUNT)
        .map(|_| {
            let visit = visit([192, 0, 2, 9], "/evil");
            harness.notify(&visit.message(visit.block())).id()
        })
        .collect();
    let passed = waiting
        .into_iter()
        .filter(|id| harness.ack(*id).get(REMEDIATION) != Some("ban"));
    assert_eq!(
        passed.count(),
        0,
        "requests that AppSec was not asked about"
    );
}

#[test]
fn a_flood_of_headers_takes_no_longer_than_it_has_bytes() {
    let site = site();
    let mut harness = harness(&site).with_max_frame_size(1_000_000);
    let mut visit = visit([192, 0, 2, 9], "/");
    for index in 0..40_000 {
        visit.headers += &format!("{index:x}:\r\n");
    }
    let begun = std::time::Instant::now();
    let message = visit.message(visit.block());
    let _ = harness.notify(&message);
    let took = begun.elapsed();
    // Each header looked up in all of them took seconds, and minutes without optimization.
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_word_that_would_begin_another_header_is_not_passed_on() {
    let mut site = site();
    let source = site.store.add_source(Source::default()).unwrap();
    for (address, word) in [
        ("192.0.2.21", "mfa"),
        ("192.0.2.22", "x\r\nset-cookie: a=1"),
        ("192.0.2.23", "x\u{0}"),
        ("192.0.2.24", "x\u{85}y"),
    ] {
        let network: Network = address.parse().unwrap();
        site.store
            .insert(source, &Decision::new(network, word, "cscli"))
            .unwrap();
    }
    site.store.apply(0);
    site.cell.publish(Arc::clone(site.store.snapshot()));
    let mut harness = harness(&site);
    let word = |harness: &mut Harness<_>, last: u8| {
        let message = CrowdsecTcp {
            src_ip: Some([192, 0, 2, last].into()),
        };
        let ack = harness.notify(&message).ack();
        assert_eq!(ack.get(REMEDIATION), Some("unknown"));
        ack.get(messages::DECISION_TYPE).map(str::to_owned)
    };
    assert_eq!(word(&mut harness, 21).as_deref(), Some("mfa"));
    for last in 22..=24 {
        assert_eq!(word(&mut harness, last), None);
    }
}

/// The rows of the specification's table that are about looking up, with the decisions that it gives and the
/// store that has them; `remediation/vectors.rs` has them with a look-up of its own.
#[test]
fn the_vectors_hold_with_decisions_of_a_store() {
    let mut site = site();
    let mut store = DecisionStore::new();
    let source = store.add_source(Source::default()).unwrap();
    for (value, word, origin) in [
        ("192.0.2.1", "ban", "cscli"),
        ("192.0.2.2", "captcha", "cscli"),
        ("198.51.100.0/24", "ban", "lists:blk"),
        ("198.51.100.128/25", "captcha", "CAPI"),
        ("203.0.113.9", "mfa", "cscli"),
        ("203.0.113.0/24", "ban", "cscli"),
        // An IPv4 network as IPv6 has it, and one of both.
        ("::ffff:198.18.0.0/112", "ban", "cscli"),
        ("2001:db8::/32", "ban", "cscli"),
        ("2001:db8::1:0/112", "captcha", "cscli"),
    ] {
        let network: Network = value.parse().unwrap();
        let decision = Decision::new(network, word, origin);
        store.insert(source, &decision).unwrap();
    }
    store.apply(0);
    site.cell.publish(Arc::clone(store.snapshot()));
    site.store = store;
    let mut harness = harness(&site);
    let mut tcp = |address: &str| {
        let message = CrowdsecTcp {
            src_ip: Some(address.parse().unwrap()),
        };
        let ack = harness.notify(&message).ack();
        ack.get(REMEDIATION).map(str::to_owned)
    };
    for (address, expected) in [
        ("192.0.2.1", "ban"),
        ("::ffff:192.0.2.1", "ban"),
        ("198.51.100.200", "captcha"),
        ("::ffff:198.51.100.200", "captcha"),
        ("198.51.100.127", "ban"),
        ("198.51.100.128", "captcha"),
        ("198.51.100.255", "captcha"),
        ("198.51.101.0", "allow"),
        ("203.0.113.9", "unknown"),
        ("203.0.113.10", "ban"),
        ("198.18.0.0", "ban"),
        ("::ffff:198.18.255.255", "ban"),
        ("198.19.0.0", "allow"),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "ban"),
        ("2001:db8::1:0", "captcha"),
        ("2001:db8::2:0", "ban"),
        ("2001:db9::", "allow"),
        // Not mapped: addresses of their own.
        ("::192.0.2.1", "allow"),
        ("64:ff9b::192.0.2.1", "allow"),
    ] {
        assert_eq!(tcp(address).as_deref(), Some(expected), "{address}");
    }
}

/// Whatever else lists say: what is allowed passes, and of two priorities the higher holds, also a range
/// against an address.
#[test]
fn allow_lists_and_priorities_go_before_what_is_more_specific() {
    let site = site();
    let mut store = DecisionStore::new();
    let mut source = |priority, is_allow_list| {
        let source = Source {
            priority,
            is_allow_list,
        };
        store.add_source(source).unwrap()
    };
    let (low, high, allowing) = (source(0, false), source(9, false), source(0, true));
    for (source, value, word) in [
        (low, "192.0.2.0/24", "ban"),
        (low, "192.0.2.1", "ban"),
        (high, "192.0.2.0/30", "captcha"),
        (high, "192.0.2.8", "allow"),
        (allowing, "192.0.2.0/31", "allow"),
        // Of an allow list alone, it is a decision like others.
        (allowing, "198.51.100.1", "ban"),
    ] {
        let network: Network = value.parse().unwrap();
        let decision = Decision::new(network, word, "cscli");
        store.insert(source, &decision).unwrap();
    }
    store.apply(0);
    site.cell.publish(Arc::clone(store.snapshot()));
    let mut harness = harness(&site);
    for (address, expected) in [
        ([192, 0, 2, 0], "allow"),
        ([192, 0, 2, 1], "allow"),
        ([192, 0, 2, 2], "captcha"),
        ([192, 0, 2, 4], "ban"),
        ([192, 0, 2, 8], "allow"),
        ([198, 51, 100, 1], "ban"),
    ] {
        let src_ip = Some(address.into());
        let ack = harness.notify(&CrowdsecTcp { src_ip }).ack();
        assert_eq!(ack.get(REMEDIATION), Some(expected), "{address:?}");
    }
}

/// A request that waits for AppSec is judged as it was begun with, and the next one by what is in force then.
#[test]
fn a_reload_in_the_middle_of_a_question() {
    let site = site();
    site.appsec.is_slow.store(true, Ordering::SeqCst);
    let mut before = harness(&site);
    let evil = visit([192, 0, 2, 9], "/evil");
    let waiting = before.notify(&evil.message(evil.block())).id();
    // Without hosts there is no AppSec either.
    let (policy, _) = Policy::new(PolicySettings::default()).unwrap();
    let next = site
        .bouncer
        .with_policy(Arc::new(policy), &site._outbound, DEADLINE)
        .unwrap();
    let mut after = Harness::new(next.agent());
    let ack = evil.ack(&mut after);
    assert_eq!(ack.get(REMEDIATION), Some("allow"));
    let ack = before.ack(waiting);
    assert_eq!(ack.get(REMEDIATION), Some("ban"));
    assert_eq!(ack.get(CONTACT_US_URL), Some("mailto:x@example"));
    assert_eq!(next.counts().processed_v4, 2);
}

/// A client may know requests that AppSec takes too long for: they are not to make it be asked about nobody.
#[test]
fn requests_that_appsec_is_slow_with_do_not_switch_it_off() {
    let site = site();
    let mut harness = harness(&site);
    site.appsec.is_stuck.store(true, Ordering::SeqCst);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let visit = visit([192, 0, 2, 9], "/slow");
            harness.notify(&visit.message(visit.block())).id()
        })
        .collect();
    for id in waiting {
        assert_eq!(harness.ack(id).get(REMEDIATION), Some("allow"));
    }
    site.appsec.is_stuck.store(false, Ordering::SeqCst);
    let evil = visit([192, 0, 2, 9], "/evil").ack(&mut harness);
    assert_eq!(evil.get(REMEDIATION), Some("ban"));
}

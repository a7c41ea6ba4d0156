//! Answers that no LAPI should give, and what becomes of the decisions that are there.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringspoa::sources::{SourceConfig, Sources, SourcesConfig, WarmConfig};

use super::stub::{
    Act, Folder, PATIENCE, Stub, answer, ban, body, is_banned, quick, raw, ready, says, start,
    status, wait_until,
};

/// In the face of this act, what was there holds, nothing else comes, and it is said why; after it, the
/// next question is for everything, and works.
#[track_caller]
fn is_refused(act: Act, part: &str) {
    let before = [ban(1, "192.0.2.1"), ban(2, "192.0.2.2")];
    let stub = Stub::new(says(&before, &[]));
    let sources = ready(quick(stub.url()));
    stub.then(act);
    wait_until("it is noticed", || status(&sources).is_failing);
    stub.wait_for(2);
    let failing = status(&sources);
    let text = failing.last_failure.unwrap().text;
    assert!(text.contains(part), "{text}");
    assert!(failing.failure_count >= 1);
    let holds = || {
        let count = sources.snapshots().current().count();
        count == 2 && is_banned(&sources, "192.0.2.1") && is_banned(&sources, "192.0.2.2")
    };
    assert!(holds(), "what was there");
    let asked = stub.asked();
    assert!(
        asked.last().unwrap().is_full(),
        "what changed may be used up"
    );
    stub.then(says(&[ban(3, "192.0.2.3")], &[]));
    wait_until("it works again", || !status(&sources).is_failing);
    wait_until("it is replaced", || !is_banned(&sources, "192.0.2.1"));
    assert!(is_banned(&sources, "192.0.2.3"));
}

/// The head of a good answer that ends with the connection, which cannot be told from one that is cut.
const ENDLESS: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";

const NEW: &str = "192.0.2.66";

#[test]
fn answers_that_are_cut_off() {
    // The announced length does not come.
    let whole = body(
        &[ban(9, NEW), ban(10, "192.0.2.67")],
        &[ban(1, "192.0.2.1")],
    );
    for len in [0, 1, 40, 200, whole.len() - 1] {
        let mut cut = answer("200 OK", &whole);
        cut.truncate(cut.len() - whole.len() + len);
        is_refused(raw(cut), "closed in the middle of the answer");
    }
    // The connection ends the answer, and the JSON is not whole.
    for len in [1, 200, whole.len() - 1] {
        is_refused(raw(format!("{ENDLESS}{}", &whole[..len])), "EOF");
    }
    // A chunk is missing.
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{chunked}{:x}\r\n{whole}\r\n", whole.len());
    is_refused(raw(chunk), "closed in the middle of the answer");
}

#[test]
fn answers_that_are_something_else() {
    for (what, part) in [
        ("<html>Please log in</html>", "expected value"),
        ("", "EOF"),
        ("null", "an object"),
        ("[]", "an object"),
        ("{}", "neither 'new' nor 'deleted'"),
        (r#"{"message":"hello"}"#, "neither 'new' nor 'deleted'"),
        (r#"{"new":"none"}"#, "an array"),
        (r#"{"new":[{"value":{"x":1}}]}"#, "a text"),
        ("{\"new\":null,\"deleted\":null}{}", "trailing"),
        ("{\"new\":[\"\u{0}\"]}", "control character"),
    ] {
        is_refused(raw(answer("200 OK", what)), part);
    }
    let mut bytes = answer("200 OK", "");
    bytes = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".as_slice(),
        b"\xff\xfe\x00\x01",
    ]
    .concat()
    .into_iter()
    .chain(bytes.drain(..0))
    .collect();
    is_refused(raw(bytes), "expected value");
    is_refused(raw("SSH-2.0-OpenSSH\r\n"), "not valid HTTP");
}

#[test]
fn statuses_that_are_none_of_a_good_answer() {
    for (status, part) in [
        ("500 Internal Server Error", "status 500"),
        ("502 Bad Gateway", "status 502"),
        ("504 Gateway Timeout", "status 504"),
        ("401 Unauthorized", "registered"),
        ("403 Forbidden", "registered"),
        ("404 Not Found", "api_url"),
        ("302 Found", "redirected"),
        ("204 No Content", "status 204"),
    ] {
        // A body of decisions does not help.
        let bytes = answer(status, &body(&[ban(9, NEW)], &[]));
        is_refused(raw(bytes), part);
    }
}

/// Sends pieces until the client goes.
fn without_end(head: &'static str, piece: String, pause: Duration) -> Act {
    Arc::new(move |_, socket| {
        if socket.write_all(head.as_bytes()).is_err() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        while socket.write_all(piece.as_bytes()).is_ok() && Instant::now() < until {
            std::thread::sleep(pause);
        }
    })
}

const BEGUN: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"new\":[";

#[test]
fn answers_without_end() {
    let before = [ban(1, "192.0.2.1")];
    let endless = format!("{},", ban(9, NEW)).repeat(64);
    for (piece, part) in [
        (endless, "max_decisions"),
        (" ".repeat(64 * 1024), "longer than"),
        ("\"".to_owned() + &"x".repeat(128 * 1024), "64 KiB"),
        ("[".repeat(64 * 1024), "64 deep"),
        (format!("{{\"x\":{}", "[".repeat(64 * 1024)), "64 deep"),
    ] {
        let stub = Stub::new(says(&before, &[]));
        let mut config = quick(stub.url());
        config.max_decisions = 1_000;
        let sources = ready(config);
        stub.then(without_end(BEGUN, piece, Duration::ZERO));
        wait_until("it is noticed", || status(&sources).is_failing);
        let text = status(&sources).last_failure.unwrap().text;
        assert!(text.contains(part), "{text}");
        assert!(is_banned(&sources, "192.0.2.1") && !is_banned(&sources, NEW));
    }
}

#[test]
fn answers_that_trickle_pause_or_never_come() {
    is_refused(
        without_end(BEGUN, " ".to_owned(), Duration::from_millis(50)),
        "trickles",
    );
    let pauses: Act = Arc::new(|_, socket| {
        let _ = socket.write_all(BEGUN.as_bytes());
        std::thread::sleep(Duration::from_secs(3));
    });
    is_refused(pauses, "timeout after 1500 ms, in the middle of the answer");
    let silent: Act = Arc::new(|_, _| std::thread::sleep(Duration::from_secs(3)));
    is_refused(silent, "timeout after 1500 ms, before the answer began");
}

/// An answer may take as long as it likes while it moves.
#[test]
fn answers_that_are_long_on_their_way() {
    let slow: Act = Arc::new(|_, socket| {
        let mut body = BEGUN.to_owned();
        for index in 0..30 {
            body += &ban(index, &format!("192.0.2.{index}"));
            body += if index == 29 { "]}" } else { "," };
            // Padding that is none of the answer's matter, so that it moves.
            body += &" ".repeat(2_000);
            if socket.write_all(body.as_bytes()).is_err() {
                return;
            }
            body.clear();
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let stub = Stub::new(slow);
    let began = Instant::now();
    let sources = ready(quick(stub.url()));
    assert!(began.elapsed() > Duration::from_secs(2));
    assert_eq!(sources.snapshots().current().count(), 30);
}

#[test]
fn the_first_questions_are_for_everything_until_one_is_answered() {
    let stub = Stub::new(raw(answer("500 Internal Server Error", "")));
    let sources = start(vec![SourceConfig::new("main", quick(stub.url()))]);
    stub.wait_for(3);
    assert!(!sources.ready());
    stub.then(says(&[ban(1, "192.0.2.1")], &[]));
    assert!(sources.wait_ready(PATIENCE));
    stub.then(says(&[], &[]));
    stub.wait_for(4);
    let asked = stub.asked();
    let fulls = asked.iter().filter(|asked| asked.is_full()).count();
    assert_eq!(
        fulls,
        usize::try_from(status(&sources).failure_count).unwrap() + 1
    );
    assert!(!asked.last().unwrap().is_full());
    assert!(is_banned(&sources, "192.0.2.1"));
    let head = asked[0].head.to_lowercase();
    for line in [
        "get /v1/decisions/stream?startup=true&dedup=false http/1.1",
        "x-api-key: key-of-the-test",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let agent = head
        .lines()
        .find_map(|line| line.strip_prefix("user-agent: "))
        .unwrap();
    assert_eq!(agent.matches('/').count(), 1, "{agent}");
    assert!(agent.starts_with("crowdsec-spoa-bouncer/v"), "{agent}");
}

#[test]
fn nothing_new_changes_nothing_and_what_failed_to_connect_used_up_nothing() {
    let stub = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let url = stub.url();
    let address = stub.address;
    let sources = ready(quick(url));
    stub.then(raw(answer("200 OK", r#"{"deleted":null,"new":null}"#)));
    stub.wait_for(2);
    let generation = sources.snapshots().generation();
    stub.wait_for(3);
    assert_eq!(sources.snapshots().generation(), generation);
    drop(stub);
    wait_until("it is noticed", || status(&sources).is_failing);
    let listener = std::net::TcpListener::bind(address).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let mut request = [0; 64];
    std::io::Read::read_exact(&mut socket, &mut request).unwrap();
    let request = String::from_utf8_lossy(&request);
    assert!(!request.contains("startup"), "{request}");
    assert!(is_banned(&sources, "192.0.2.1"));
}

#[test]
fn everything_is_asked_for_now_and_then_and_after_an_outage() {
    let stub = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let mut config = quick(stub.url());
    config.resync_every = Duration::from_millis(300);
    let sources = ready(config);
    stub.then(says(&[], &[]));
    wait_until("it is asked for everything again", || {
        status(&sources).full_count >= 2
    });
    assert!(!is_banned(&sources, "192.0.2.1"), "there is nothing");
    drop(sources);

    let stub = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let mut config = quick(stub.url());
    config.resync_after = Duration::from_millis(300);
    let sources = ready(config);
    let address = stub.address;
    drop(stub);
    std::thread::sleep(Duration::from_millis(500));
    let listener = std::net::TcpListener::bind(address).unwrap();
    // The first may be from before it was asked for everything.
    let is_full = (0..5).any(|_| {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 64];
        std::io::Read::read_exact(&mut socket, &mut request).unwrap();
        String::from_utf8_lossy(&request).contains("startup=true")
    });
    assert!(is_full);
    drop(sources);
}

/// A LAPI that fails half way through its answer may end it in good order.
#[test]
fn an_answer_with_few_of_many_is_asked_for_again() {
    let bans = |count: i64| -> Vec<String> {
        (0..count)
            .map(|id| ban(id, &format!("192.0.2.{id}")))
            .collect()
    };
    let stub = Stub::new(says(&bans(200), &[]));
    let mut config = quick(stub.url());
    config.update_frequency = Duration::from_millis(300);
    let sources = ready(config);
    let counts = || sources.snapshots().current().count();
    // Once: nothing of it is seen.
    let full = body(&bans(200), &[]);
    let few = body(&bans(50), &[]);
    let times = std::sync::atomic::AtomicUsize::new(0);
    stub.then(Arc::new(move |asked, socket| {
        let body = match (
            asked.is_full(),
            times.load(std::sync::atomic::Ordering::SeqCst),
        ) {
            (false, _) => body(&[], &[]),
            (true, 0) => few.clone(),
            (true, _) => full.clone(),
        };
        if asked.is_full() {
            times.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        let _ = socket.write_all(&answer("200 OK", &body));
    }));
    sources.resync();
    wait_until("it is doubted", || status(&sources).is_failing);
    assert_eq!(counts(), 200);
    wait_until("it is asked for again", || !status(&sources).is_failing);
    assert_eq!(counts(), 200);
    // Twice: so it is.
    stub.then(says(&bans(50), &[]));
    sources.resync();
    wait_until("it is believed", || counts() == 50);
    let text = status(&sources).last_failure.unwrap().text;
    assert!(
        text.contains("of 200 decisions the answer has 50 left"),
        "{text}"
    );
}

/// In the words of the LAPI's API: deletions that are repeated, of other origins, and beside the addition
/// of the same value, in either order.
#[test]
fn deletions() {
    let stub = Stub::new(says(&[ban(1, "192.0.2.1"), ban(2, "192.0.2.2")], &[]));
    let sources = ready(quick(stub.url()));
    let other = ban(1, "192.0.2.1").replace("cscli", "CAPI");
    let again = ban(2, "192.0.2.2");
    let renewed = ban(3, "192.0.2.1");
    let swapped = format!("{{\"deleted\":[{other},{again},{again}],\"new\":[{renewed}]}}");
    stub.then(raw(answer("200 OK", &swapped)));
    wait_until("the deletion works", || !is_banned(&sources, "192.0.2.2"));
    stub.wait_for(2);
    assert!(is_banned(&sources, "192.0.2.1"), "by the new one");
    stub.then(says(&[], &[ban(3, "192.0.2.1")]));
    wait_until("it ends", || !is_banned(&sources, "192.0.2.1"));
    assert_eq!(status(&sources).removed_count, 3);
    let count = sources.snapshots().current().count();
    assert_eq!(count, 0);
}

#[test]
fn bad_decisions_are_passed_over_and_counted() {
    let nonsense = ban(3, "nonsense");
    let user = ban(4, "root").replace("\"Ip\"", "\"username\"");
    let stub = Stub::new(says(&[nonsense, ban(1, "192.0.2.1"), user], &[]));
    let sources = ready(quick(stub.url()));
    let status = status(&sources);
    assert!(is_banned(&sources, "192.0.2.1"));
    assert!(status.bad_count >= 1 && status.ignored_count >= 1);
    assert!(!status.is_failing);
}

#[test]
fn a_source_that_fails_takes_nothing_from_another() {
    let good = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let bad = Stub::new(raw("nonsense"));
    let folder = Folder::new();
    let list = folder.write("list.txt", "192.0.2.3\n");
    let sources = start(vec![
        SourceConfig::new("good", quick(good.url())),
        SourceConfig::new("bad", quick(bad.url())),
        SourceConfig::new("list", ringspoa::sources::FilesConfig::new([list])),
    ]);
    bad.wait_for(2);
    wait_until("the good one", || is_banned(&sources, "192.0.2.1"));
    assert!(is_banned(&sources, "192.0.2.3"));
    assert!(!sources.ready());
    let failing: Vec<bool> = sources
        .status()
        .sources
        .iter()
        .map(|s| s.is_failing)
        .collect();
    assert_eq!(failing, [false, true, false]);
    bad.then(says(&[ban(1, "192.0.2.2")], &[]));
    assert!(sources.wait_ready(PATIENCE));
    assert!(
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
            .iter()
            .all(|a| is_banned(&sources, a))
    );
    // Both call theirs 1.
    good.then(says(&[], &[ban(1, "192.0.2.1")]));
    wait_until("it ends", || !is_banned(&sources, "192.0.2.1"));
    assert!(is_banned(&sources, "192.0.2.2"));
    let snapshot = sources.snapshots().current();
    let found = snapshot.lookup("192.0.2.3".parse().unwrap()).unwrap();
    let (name, path) = sources.origin_of(found.source()).unwrap();
    assert_eq!((name, path.is_some()), ("list", true));
}

/// How the kernel schedules the threads of this process with a name: 0 is as usual.
fn policies(name: &str) -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let paths = threads.filter_map(|thread| Some(thread.ok()?.path()));
    let named = paths.filter(|path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    });
    let policy = |path: std::path::PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        // From the third field on, as the name is behind.
        let fields = stat.rsplit(')').next()?;
        fields.split(' ').nth(41 - 2).map(str::to_owned)
    };
    named.filter_map(policy).collect()
}

#[test]
fn a_delta_is_taken_behind_those_who_answer_and_the_first_answer_is_not() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let says = says(&[ban(1, "192.0.2.1")], &[]);
    let act: Act = {
        let seen = Arc::clone(&seen);
        Arc::new(move |asked, socket| {
            let policies = policies("lapi behind");
            seen.lock().unwrap().push((asked.is_full(), policies));
            says(asked, socket);
        })
    };
    let stub = Stub::new(act);
    let sources = start(vec![SourceConfig::new("behind", quick(stub.url()))]);
    assert!(sources.wait_ready(PATIENCE));
    wait_until("deltas", || stub.asked().len() >= 4);
    sources.stop();
    for (is_full, policies) in seen.lock().unwrap().iter() {
        let [policy] = &policies[..] else {
            panic!("{policies:?}");
        };
        // While idle, or of a low priority where it may not come back from that.
        let is_behind = policy == "5" || policy == "3";
        assert_eq!(is_behind, !is_full, "{policy}");
    }
}

#[test]
fn stopping_does_not_wait_for_a_lapi_that_hangs() {
    let silent: Act = Arc::new(|_, _| std::thread::sleep(Duration::from_secs(10)));
    let stub = Stub::new(silent);
    let mut config = quick(stub.url());
    config.timeouts.first_byte = Duration::from_secs(60);
    let sources = start(vec![SourceConfig::new("main", config)]);
    wait_until("it is asked", || status(&sources).request_count > 0);
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    sources.stop();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert!(!status(&sources).is_failing, "it was stopped");
    sources.stop();
}

#[test]
fn what_was_kept_is_used_until_there_is_an_answer() {
    let folder = Folder::new();
    let kept = folder.path().join("kept");
    let stub = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let start = |name: &str| {
        Sources::start(SourcesConfig {
            sources: vec![SourceConfig::new(name, quick(stub.url()))],
            warm: Some(WarmConfig::new(&kept)),
            ..SourcesConfig::default()
        })
        .unwrap()
    };
    let sources = start("main");
    assert!(sources.wait_ready(PATIENCE));
    drop(sources);
    stub.then(raw("nonsense"));
    let sources = start("main");
    assert!(sources.ready() && is_banned(&sources, "192.0.2.1"));
    stub.wait_for(2);
    assert!(is_banned(&sources, "192.0.2.1"));
    drop(sources);
    // Kept once more, though there was no answer.
    let sources = start("main");
    assert!(sources.ready() && is_banned(&sources, "192.0.2.1"));
    stub.then(says(&[ban(7, "192.0.2.7")], &[]));
    wait_until("there is an answer", || is_banned(&sources, "192.0.2.7"));
    assert!(!is_banned(&sources, "192.0.2.1"));
    drop(sources);
    // Of another source it is not.
    stub.then(raw("nonsense"));
    let sources = start("other");
    assert!(!sources.ready() && !is_banned(&sources, "192.0.2.7"));
    drop(sources);
    std::fs::write(&kept, "something else").unwrap();
    let sources = start("main");
    assert!(!sources.ready());
    let failure = sources.status().warm_failure.unwrap().text;
    assert!(
        failure.contains("kept") && failure.contains("another sort"),
        "{failure}"
    );
}

#[test]
fn what_is_kept_is_written_soon_after_it_changes() {
    let folder = Folder::new();
    let stub = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let mut warm = WarmConfig::new(folder.path().join("kept"));
    warm.write_after = Duration::from_millis(100);
    let config = SourcesConfig {
        sources: vec![SourceConfig::new("main", quick(stub.url()))],
        warm: Some(warm),
        ..SourcesConfig::default()
    };
    let sources = Sources::start(config.clone()).unwrap();
    // As after a kill.
    let is_kept = |address: &str| {
        let kept = Sources::at_rest(config.clone()).unwrap();
        is_banned(&kept, address)
    };
    wait_until("the first answer is kept", || is_kept("192.0.2.1"));
    stub.then(says(&[ban(2, "192.0.2.2")], &[]));
    wait_until("what was added is kept", || is_kept("192.0.2.2"));
    stub.then(says(&[], &[ban(1, "192.0.2.1")]));
    wait_until("what was deleted is not", || !is_kept("192.0.2.1"));
    assert!(is_kept("192.0.2.2"));
    // An answer that came before that may still be taken.
    stub.wait_for(3);
    std::thread::sleep(Duration::from_millis(300));
    let count = sources.status().warm_write_count;
    stub.wait_for(3);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sources.status().warm_write_count, count, "nothing changed");
}

/// Whoever reads it is to know how old it is, and so it is not left to age.
#[test]
fn what_is_kept_has_the_time_of_an_answer_of_late() {
    let folder = Folder::new();
    let stub = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let mut warm = WarmConfig::new(folder.path().join("kept"));
    warm.write_after = Duration::from_millis(10);
    warm.write_every = Duration::from_millis(100);
    let config = SourcesConfig {
        sources: vec![SourceConfig::new("main", quick(stub.url()))],
        warm: Some(warm),
        ..SourcesConfig::default()
    };
    let sources = Sources::start(config.clone()).unwrap();
    assert!(sources.wait_ready(PATIENCE));
    let kept_at = || {
        let kept = Sources::at_rest(config.clone()).unwrap();
        status(&kept).last_success_unix_s
    };
    wait_until("it is kept", || kept_at().is_some());
    let first = kept_at();
    wait_until("it is kept anew", || kept_at() > first);
    // It is not said to be newer than the last answer.
    stub.then(raw("nonsense"));
    wait_until("it fails", || status(&sources).is_failing);
    let last = status(&sources).last_success_unix_s;
    wait_until("the last answer is kept", || kept_at() == last);
    std::thread::sleep(Duration::from_millis(300));
    let count = sources.status().warm_write_count;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        sources.status().warm_write_count,
        count,
        "there was no answer"
    );
}

#[test]
fn settings_that_cannot_be_used_name_their_source() {
    let check = |sources: Vec<SourceConfig>| {
        let config = SourcesConfig {
            sources,
            ..SourcesConfig::default()
        };
        Sources::check(config.clone()).unwrap_err();
        Sources::start(config).unwrap_err().to_string()
    };
    let lapi = |url: &str| SourceConfig::new("main", quick(url));
    for (sources, part) in [
        (vec![lapi("127.0.0.1:8080")], "source 'main': api_url"),
        (vec![lapi("http://user:x@host/")], "source 'main': api_url"),
        (
            vec![lapi("http://h/"), lapi("http://h/")],
            "two sources are named 'main'",
        ),
        (
            vec![SourceConfig::new("", quick("http://h/"))],
            "no name of a source",
        ),
        // It is the name of a thread too.
        (
            vec![SourceConfig::new("a\0", quick("http://h/"))],
            "no name of a source",
        ),
    ] {
        let text = check(sources);
        assert!(text.contains(part), "{text}");
    }
    let mut twice = quick("http://h/");
    twice.ca_file = Some("/nonexistent/ca.pem".into());
    twice.api_url = "https://h/".to_owned();
    let text = check(vec![SourceConfig::new("tls", twice)]);
    assert!(
        text.contains("source 'tls'") && text.contains("/nonexistent/ca.pem"),
        "{text}"
    );
}

#[test]
fn a_lapi_on_a_socket() {
    let folder = Folder::new();
    let path = folder.path().join("lapi.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut socket, &mut byte).unwrap();
            head.push(byte[0]);
        }
        let body = body(&[ban(1, "192.0.2.1")], &[]);
        socket.write_all(&answer("200 OK", &body)).unwrap();
        String::from_utf8(head).unwrap()
    });
    let sources = ready(quick(path.to_str().unwrap()));
    assert!(is_banned(&sources, "192.0.2.1"));
    let head = thread.join().unwrap();
    assert!(
        head.starts_with("GET /v1/decisions/stream?startup=true"),
        "{head}"
    );
}

/// Bans of so many addresses, from this id on.
fn bans(from: i64, count: i64) -> Vec<String> {
    let address = |id: i64| format!("10.{}.{}.{}", id >> 16 & 255, id >> 8 & 255, id & 255);
    (from..from + count)
        .map(|id| ban(id, &address(id)))
        .collect()
}

#[test]
fn an_answer_that_is_cut_short_does_not_take_what_was_kept() {
    let folder = Folder::new();
    let config = |stub: &Stub| SourcesConfig {
        sources: vec![SourceConfig::new("main", quick(stub.url()))],
        warm: Some(WarmConfig::new(folder.path().join("decisions"))),
        ..SourcesConfig::default()
    };
    let stub = Stub::new(says(&bans(1, 500), &[]));
    let sources = Sources::start(config(&stub)).unwrap();
    assert!(sources.wait_ready(PATIENCE));
    sources.stop();
    drop(sources);
    // The first answer of the next start has three of them; it is not believed at once.
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (few, all) = (body(&bans(1, 3), &[]), body(&bans(1, 500), &[]));
    let stub = Stub::new(Arc::new(move |_, socket| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let text = if number == 0 { &few } else { &all };
        let _ = socket.write_all(&answer("200 OK", text));
    }));
    let sources = Sources::start(config(&stub)).unwrap();
    stub.wait_for(1);
    wait_until("it says so", || status(&sources).last_failure.is_some());
    let text = status(&sources).last_failure.unwrap().text;
    assert!(text.contains("of 500 decisions the answer has 3"), "{text}");
    assert!(is_banned(&sources, "10.0.1.1"));
    stub.wait_for(2);
    assert!(is_banned(&sources, "10.0.1.1"));
}

#[test]
fn who_is_paused_asks_nothing_and_has_written_all() {
    let folder = Folder::new();
    let path = folder.path().join("decisions");
    let stub = Stub::new(says(&[ban(1, "192.0.2.1")], &[]));
    let sources = Sources::start(SourcesConfig {
        sources: vec![SourceConfig::new("main", quick(stub.url()))],
        warm: Some(WarmConfig::new(&path)),
        ..SourcesConfig::default()
    })
    .unwrap();
    assert!(sources.wait_ready(PATIENCE));
    stub.then(says(&[ban(2, "192.0.2.2")], &[]));
    wait_until("it is there", || is_banned(&sources, "192.0.2.2"));
    sources.pause();
    assert!(path.exists(), "written before it returns");
    let asked = stub.asked().len();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stub.asked().len(), asked);
    assert!(is_banned(&sources, "192.0.2.1"), "what was there holds");
    // Another process begins with what this one has now.
    let next = Sources::at_rest(SourcesConfig {
        sources: vec![SourceConfig::new("main", quick(stub.url()))],
        warm: Some(WarmConfig::new(&path)),
        ..SourcesConfig::default()
    })
    .unwrap();
    assert!(is_banned(&next, "192.0.2.2"));
    // It failed to start: this one goes on, and has missed what the other was told.
    sources.resume();
    stub.wait_for(1);
    assert!(stub.asked()[asked].is_full());
    // And at its end it leaves alone what the other process writes.
    sources.pause();
    std::fs::write(&path, "of the other process").unwrap();
    sources.stop();
    assert_eq!(std::fs::read(&path).unwrap(), b"of the other process");
}

#[test]
fn a_hundred_thousand_origins_are_not_a_hundred_thousand_kinds() {
    const COUNT: i64 = 100_000;
    let decisions: Vec<String> = (1..=COUNT)
        .map(|id| {
            format!(
                "{{\"id\":{id},\"origin\":\"lists\",\"type\":\"ban\",\"scope\":\"Ip\",\
                 \"value\":\"10.{}.{}.{}\",\"duration\":\"1h\",\"scenario\":\"list-{id}\"}}",
                id >> 16 & 255,
                id >> 8 & 255,
                id & 255
            )
        })
        .collect();
    let stub = Stub::new(says(&decisions, &[]));
    let sources = ready(quick(stub.url()));
    let snapshot = sources.snapshots().current();
    assert_eq!(snapshot.count(), 100_000);
    let first = snapshot.lookup("10.0.0.1".parse().unwrap()).unwrap();
    assert_eq!(first.origin(), "lists:list-1");
    let last = snapshot.lookup("10.1.134.160".parse().unwrap()).unwrap();
    assert_eq!(last.origin(), "other");
    assert!(snapshot.kinds().len() < 5_000, "{}", snapshot.kinds().len());
    // Another source has room for its own.
    let active = sources.status().active;
    assert!(active.len() < 5_000, "{}", active.len());
    // And deletions find theirs.
    stub.then(says(&[], &decisions[..]));
    wait_until("all are gone", || {
        sources.snapshots().current().count() == 0
    });
}

//! Captchas, with a stub of a provider: no provider is asked from here.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use ringspoa::agents::challenge::messages::{
    CLASS, RESPONSE, RESULT, SET_COOKIE, STATUS, TOKEN, VALID,
};
use serde_json::{Value, json};

use crate::asked::next_request;
use crate::site::{Browser, Site, challenge_text, pow, response, settings};

/// A stub of a provider, on loopback. It ends with the test's process.
struct StubProvider {
    url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    is_stuck: bool,
    /// Bodies as they came.
    asked: Vec<String>,
}

impl StubProvider {
    /// Takes the solution `good`, and says that it was shown on this host.
    fn start(hostname: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/siteverify", listener.local_addr().unwrap());
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&socket, &shared, hostname));
            }
        });
        Self { url, state }
    }

    fn stick(&self, is_stuck: bool) {
        self.state.0.lock().unwrap().is_stuck = is_stuck;
        self.state.1.notify_all();
    }

    fn asked(&self) -> Vec<String> {
        self.state.0.lock().unwrap().asked.clone()
    }

    fn level(&self) -> Value {
        json!({
            "type": "captcha", "provider": "turnstile", "site-key": "site</script>", "secret-key": "secret",
            "verify-url": self.url,
        })
    }
}

fn serve(socket: &TcpStream, shared: &(Mutex<State>, Condvar), hostname: Option<&str>) {
    let mut reader = BufReader::new(socket);
    while let Some((_, body)) = next_request(&mut reader) {
        let is_good = body.contains("response=good");
        let is_broken = body.contains("response=broken");
        let is_own_fault = body.contains("response=secret");
        let mut state = shared.0.lock().unwrap();
        state.asked.push(body);
        while state.is_stuck {
            state = shared.1.wait(state).unwrap();
        }
        drop(state);
        let text = match (is_good, hostname) {
            _ if is_broken => "<html>".to_owned(),
            _ if is_own_fault => {
                r#"{"success":false,"error-codes":["invalid-input-secret"]}"#.to_owned()
            }
            (true, Some(hostname)) => format!(r#"{{"success":true,"hostname":"{hostname}"}}"#),
            (true, None) => r#"{"success":true}"#.to_owned(),
            (false, _) => {
                r#"{"success":false,"error-codes":["invalid-input-response"]}"#.to_owned()
            }
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        let mut socket = socket;
        if socket.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn what_the_provider_says_counts() {
    let provider = StubProvider::start(Some("shop.example"));
    let mut site = Site::new(&settings(&json!({ "level": [provider.level()] })));
    let mut browser = Browser::default();
    let ack = browser.issue(&mut site, 1);
    assert!(!ack.get(RESPONSE).unwrap().contains('<'));
    let challenge = response(&ack);
    assert_eq!(challenge["a"], "turnstile");
    assert_eq!(challenge["sk"], "site</script>");
    assert_eq!(challenge["g"], "turnstile");
    assert!(
        challenge["js"]
            .as_str()
            .unwrap()
            .starts_with("https://challenges.cloudflare.com/")
    );
    let text = challenge_text(&challenge).to_owned();

    let ack = browser.verify(&mut site, &format!("{text}.bad"));
    assert_eq!(
        (ack.get(RESULT), ack.get(STATUS)),
        (Some("work"), Some(403))
    );
    let next = response(&ack)["next"].clone();
    assert_eq!(next["a"], "turnstile");
    for (word, retry) in [("broken", 5), ("secret", 5)] {
        let ack = browser.verify(&mut site, &format!("{text}.{word}"));
        assert_eq!(
            (ack.get(RESULT), ack.get(STATUS)),
            (Some("provider"), Some(503))
        );
        assert_eq!(
            response(&ack),
            json!({ "ok": false, "code": "provider", "retry": retry })
        );
    }
    assert!(browser.cookies.is_empty());
    let ack = browser.verify(&mut site, &format!("{}.good", challenge_text(&next)));
    assert_eq!((ack.get(RESULT), ack.get(STATUS)), (Some("ok"), Some(200)));
    assert!(
        ack.get(SET_COOKIE)
            .unwrap()
            .starts_with("__Host-clearance=")
    );
    let ack = browser.validate(&mut site, 1);
    assert_eq!(
        (ack.get(VALID), ack.get(CLASS)),
        (Some(true), Some("captcha"))
    );

    let asked = provider.asked();
    assert_eq!(asked.len(), 4);
    assert_eq!(
        asked[3], "secret=secret&response=good",
        "nothing of the visitor"
    );
    let counts = site.agent.counts();
    let said: Vec<_> = counts
        .provider
        .iter()
        .map(|(labels, n)| (labels.outcome, *n))
        .collect();
    assert_eq!(
        said,
        [("host", 0), ("refused", 1), ("solved", 1), ("unusable", 2)]
    );
}

#[test]
fn nothing_goes_out_for_what_is_refused_here() {
    let provider = StubProvider::start(Some("shop.example"));
    let mut site = Site::new(&settings(&json!({ "level": [pow(), provider.level()] })));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 2));
    let text = challenge_text(&challenge);
    let long = "x".repeat(8 * 1024);
    for solution in ["", "a b", "a\nb", "\u{e9}", &*long] {
        let ack = browser.verify(&mut site, &format!("{text}.{solution}"));
        assert_eq!(ack.get(RESULT), Some("format"));
    }
    let mut other = Browser::at("203.0.113.1");
    assert_eq!(
        other.verify(&mut site, &format!("{text}.good")).get(RESULT),
        Some("binding")
    );
    let forged = format!("B{}", &text[1..]);
    assert_eq!(
        browser
            .verify(&mut site, &format!("{forged}.good"))
            .get(RESULT),
        Some("format")
    );
    site.wait(300);
    assert_eq!(
        browser
            .verify(&mut site, &format!("{text}.good"))
            .get(RESULT),
        Some("expired")
    );
    assert!(provider.asked().is_empty());
    // The provider's longest tokens are taken.
    let challenge = response(&browser.issue(&mut site, 2));
    let body = format!(
        "{}.good{}",
        challenge_text(&challenge),
        "x".repeat(6 * 1024)
    );
    assert_eq!(browser.verify(&mut site, &body).get(RESULT), Some("ok"));
}

#[test]
fn a_captcha_counts_on_the_host_it_was_shown_on() {
    for (hostname, settings_of, expected) in [
        (Some("shop.example"), json!({}), "ok"),
        (Some("Shop.Example"), json!({}), "ok"),
        (Some("evil.example"), json!({}), "host"),
        (Some("evilshop.example"), json!({}), "host"),
        (Some(""), json!({}), "host"),
        (None, json!({}), "host"),
        (None, json!({ "skip-hostname-check": true }), "ok"),
        (
            Some("dummy-key-pass"),
            json!({ "skip-hostname-check": true }),
            "ok",
        ),
        // One that is not known may not say it.
        (
            None,
            json!({ "provider": "own", "script-url": "https://c.example/a.js", "script-global": "own" }),
            "ok",
        ),
        (
            Some("evil.example"),
            json!({ "provider": "own", "script-url": "https://c.example/a.js", "script-global": "own" }),
            "host",
        ),
    ] {
        let provider = StubProvider::start(hostname);
        let mut level = provider.level();
        for (key, value) in settings_of.as_object().unwrap() {
            level[key] = value.clone();
        }
        let mut site = Site::new(&settings(&json!({ "level": [level] })));
        let mut browser = Browser::default();
        let challenge = response(&browser.issue(&mut site, 1));
        let ack = browser.verify(&mut site, &format!("{}.good", challenge_text(&challenge)));
        assert_eq!(
            ack.get(RESULT),
            Some(expected),
            "{hostname:?} {settings_of}"
        );
        assert_eq!(ack.get(TOKEN).is_some(), expected == "ok");
    }
}

#[test]
fn the_address_is_told_where_the_level_says_so() {
    let provider = StubProvider::start(None);
    let mut level = provider.level();
    level["send-remote-ip"] = json!(true);
    level["skip-hostname-check"] = json!(true);
    let mut site = Site::new(&settings(&json!({ "level": [level] })));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    browser.verify(&mut site, &format!("{}.good", challenge_text(&challenge)));
    assert_eq!(
        provider.asked(),
        ["secret=secret&response=good&remoteip=192.0.2.7"]
    );
}

/// 33: a provider that hangs holds up nobody but those who wait for it.
#[test]
fn while_the_provider_hangs_all_others_are_answered() {
    let provider = StubProvider::start(Some("shop.example"));
    provider.stick(true);
    let mut level = provider.level();
    // Longer than this test takes on a machine that does much else.
    level["timeout-s"] = json!(60);
    let mut site = Site::new(&settings(&json!({ "level": [pow(), level] })));
    let mut cleared = Browser::default();
    cleared.solve(&mut site, 1);
    let browser = Browser::at("203.0.113.1");
    let mut waiting = Vec::new();
    for _ in 0..1_000 {
        let challenge = response(&browser.issue(&mut site, 2));
        let body = format!("{}.good", challenge_text(&challenge));
        let message = browser.verify_message(body.as_bytes(), b"");
        waiting.push(site.harness.notify(&message).id());
    }
    let mut other = Browser::at("198.51.100.1");
    for _ in 0..1_000 {
        let ack = cleared.validate(&mut site, 1);
        assert_eq!(ack.get(VALID), Some(true));
        other.cookies.clear();
        other.solve(&mut site, 1);
    }
    // Not one of those was waited for. Those that had no place were told so, the rest is still asked about.
    provider.stick(false);
    let acks: Vec<_> = waiting.into_iter().map(|id| site.harness.ack(id)).collect();
    let count = |result| {
        let found = acks.iter().filter(|ack| ack.get(RESULT) == Some(result));
        found.count()
    };
    assert_eq!(count("ok") + count("provider"), 1_000);
    assert!((64..=400).contains(&count("ok")), "{}", count("ok"));
    for ack in acks
        .iter()
        .filter(|ack| ack.get(RESULT) == Some("provider"))
    {
        assert_eq!(
            response(ack),
            json!({ "ok": false, "code": "provider", "retry": 5 })
        );
    }
}

#[test]
fn a_provider_that_is_not_there_is_no_way_in() {
    let mut level = StubProvider::start(None).level();
    // Nobody listens on the discard port of loopback.
    level["verify-url"] = json!("http://127.0.0.1:9/");
    let mut site = Site::new(&settings(&json!({ "level": [level] })));
    let mut browser = Browser::default();
    let challenge = response(&browser.issue(&mut site, 1));
    let body = format!("{}.good", challenge_text(&challenge));
    for _ in 0..10 {
        let ack = browser.verify(&mut site, &body);
        assert_eq!(
            (ack.get(RESULT), ack.get(STATUS)),
            (Some("provider"), Some(503))
        );
        assert_eq!(ack.get(TOKEN), None);
    }
}

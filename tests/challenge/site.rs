//! A site with the agent in front of it, browsers that visit it, and a clock that tests set.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringspoa::agents::challenge::messages::{
    Issue, LevelArgument, LoadArgument, Pass, RESPONSE, RESULT, SET_COOKIE, SentText, Validate,
    Verify,
};
use ringspoa::agents::challenge::{
    ChallengeAgent, ChallengeSettings, Challenges, Now, solution_body, solve,
};
use ringspoa::outbound::{Outbound, OutboundConfig};
use ringspoa::{Ack, Agent, Harness};
use serde_json::{Value, json};

/// The second at which every test begins.
pub(crate) const START: u64 = 1_800_000_000;

/// Keys by number, in base64.
pub(crate) fn secret(number: u8) -> String {
    let bytes: Vec<u8> = (0..32)
        .map(|index| number.wrapping_mul(37) ^ (index * 7 + 1))
        .collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A level of little work.
pub(crate) fn pow() -> Value {
    json!({ "type": "pow", "work": 64, "parts": 4, "duration-s": 3600 })
}

/// Settings with one key and one realm, whose other keys are these.
pub(crate) fn settings(realm: &Value) -> Value {
    json!({ "key": [{ "id": 1, "secret": secret(1) }], "realm": [realm] })
}

pub(crate) fn checked(settings: &Value) -> Arc<Challenges> {
    let settings: ChallengeSettings = serde_json::from_value(settings.clone()).unwrap();
    Arc::new(Challenges::new(&settings).unwrap_or_else(|error| panic!("{error}")))
}

/// What time it is: all agents that have it, have the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn pass(&self, time: Duration) {
        self.0
            .fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn now(&self) -> Now {
        let ms = self.0.load(Ordering::SeqCst);
        Now {
            unix_s: START + ms / 1_000,
            ms,
        }
    }
}

pub(crate) struct Site {
    pub(crate) agent: ChallengeAgent,
    pub(crate) harness: Harness<Box<dyn Agent>>,
    pub(crate) clock: TestClock,
    outbound: Outbound,
}

/// What derivations may take here: a machine that does much else at the time is no failure.
const DEADLINE: Duration = Duration::from_secs(8);

impl Site {
    pub(crate) fn new(settings: &Value) -> Self {
        Self::at(settings, TestClock::default())
    }

    pub(crate) fn at(settings: &Value, clock: TestClock) -> Self {
        let outbound = Outbound::start(OutboundConfig::default()).unwrap();
        let now = clock.clone();
        let agent = ChallengeAgent::new(checked(settings), &outbound, DEADLINE).unwrap();
        let agent = agent.with_clock(Arc::new(move || now.now()));
        Self {
            harness: Harness::new(Box::new(agent.agent()) as Box<dyn Agent>),
            agent,
            clock,
            outbound,
        }
    }

    /// Whose clock is so many seconds ahead of the others'.
    pub(crate) fn ahead(settings: &Value, clock: &TestClock, seconds: i64) -> Self {
        let site = Self::at(settings, clock.clone());
        let clock = clock.clone();
        let agent = site.agent.with_clock(Arc::new(move || {
            let now = clock.now();
            Now {
                unix_s: now.unix_s.checked_add_signed(seconds).unwrap(),
                ..now
            }
        }));
        Self {
            harness: Harness::new(Box::new(agent.agent()) as Box<dyn Agent>),
            agent,
            ..site
        }
    }

    /// Other settings, as after SIGHUP: a new agent on the core, and the counts go on.
    pub(crate) fn reload(&mut self, settings: &Value) {
        let agent = self
            .agent
            .with_settings(checked(settings), &self.outbound, DEADLINE);
        self.agent = agent.unwrap();
        self.harness = Harness::new(Box::new(self.agent.agent()) as Box<dyn Agent>);
    }

    pub(crate) fn wait(&self, seconds: u64) {
        self.clock.pass(Duration::from_secs(seconds));
    }
}

/// A visitor, and what HAProxy says of one.
#[derive(Clone, Debug)]
pub(crate) struct Browser {
    pub(crate) realm: &'static str,
    pub(crate) src: IpAddr,
    pub(crate) host: String,
    pub(crate) ua: String,
    pub(crate) tls: String,
    pub(crate) secure: bool,
    pub(crate) load: Option<i64>,
    /// By name.
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Default for Browser {
    fn default() -> Self {
        Self {
            realm: "default",
            src: "192.0.2.7".parse().unwrap(),
            host: "shop.example".to_owned(),
            ua: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned(),
            tls: "t13d1516h2".to_owned(),
            secure: true,
            load: None,
            cookies: BTreeMap::new(),
        }
    }
}

impl Browser {
    pub(crate) fn at(src: &str) -> Self {
        Self {
            src: src.parse().unwrap(),
            ..Self::default()
        }
    }

    pub(crate) fn cookie_header(&self) -> String {
        let pairs = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn validate(&self, site: &mut Site, level: i64) -> Ack {
        self.validate_with(site, LevelArgument::Number(level), None)
    }

    pub(crate) fn validate_with(
        &self,
        site: &mut Site,
        level: LevelArgument,
        nav: Option<bool>,
    ) -> Ack {
        let cookies = self.cookie_header();
        let message = Validate {
            realm: Some(self.realm.as_bytes()),
            src: Some(self.src),
            host: SentText(Some(self.host.as_bytes())),
            ua: SentText(Some(self.ua.as_bytes())),
            tls: SentText(Some(self.tls.as_bytes())),
            secure: Some(self.secure),
            cookies: Some(cookies.as_bytes()),
            level,
            nav,
            load: LoadArgument(self.load),
            ..Validate::default()
        };
        site.harness.notify(&message).ack()
    }

    pub(crate) fn issue(&self, site: &mut Site, level: i64) -> Ack {
        self.issue_for(site, LevelArgument::Number(level), b"/cart?item=7")
    }

    pub(crate) fn issue_for(&self, site: &mut Site, level: LevelArgument, url: &[u8]) -> Ack {
        let cookies = self.cookie_header();
        let message = Issue {
            realm: Some(self.realm.as_bytes()),
            src: Some(self.src),
            host: SentText(Some(self.host.as_bytes())),
            ua: SentText(Some(self.ua.as_bytes())),
            tls: SentText(Some(self.tls.as_bytes())),
            secure: Some(self.secure),
            cookies: Some(cookies.as_bytes()),
            level,
            load: LoadArgument(self.load),
            url: SentText(Some(url)),
            ..Issue::default()
        };
        site.harness.notify(&message).ack()
    }

    pub(crate) fn verify(&mut self, site: &mut Site, body: &str) -> Ack {
        let cookies = self.cookie_header();
        let message = self.verify_message(body.as_bytes(), cookies.as_bytes());
        let ack = site.harness.notify(&message).ack();
        self.keep(&ack);
        ack
    }

    pub(crate) fn verify_message<'a>(&'a self, body: &'a [u8], cookies: &'a [u8]) -> Verify<'a> {
        Verify {
            realm: Some(self.realm.as_bytes()),
            src: Some(self.src),
            host: SentText(Some(self.host.as_bytes())),
            ua: SentText(Some(self.ua.as_bytes())),
            tls: SentText(Some(self.tls.as_bytes())),
            secure: Some(self.secure),
            cookies: Some(cookies),
            body: Some(body),
            ..Verify::default()
        }
    }

    pub(crate) fn pass(&mut self, site: &mut Site, query: &str) -> Ack {
        let cookies = self.cookie_header();
        let message = Pass {
            realm: Some(self.realm.as_bytes()),
            src: Some(self.src),
            host: SentText(Some(self.host.as_bytes())),
            ua: SentText(Some(self.ua.as_bytes())),
            tls: SentText(Some(self.tls.as_bytes())),
            secure: Some(self.secure),
            cookies: Some(cookies.as_bytes()),
            query: Some(query.as_bytes()),
            ..Pass::default()
        };
        let ack = site.harness.notify(&message).ack();
        self.keep(&ack);
        ack
    }

    /// Takes a cookie as browsers do.
    pub(crate) fn keep(&mut self, ack: &Ack) {
        if let Some(header) = ack.get(SET_COOKIE) {
            let pair = header.split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Goes through a level, as a page does.
    pub(crate) fn solve(&mut self, site: &mut Site, level: i64) -> Ack {
        let challenge = response(&self.issue(site, level));
        let ack = self.verify(site, &solution(&challenge));
        assert_eq!(ack.get(RESULT), Some("ok"), "{:?}", ack.get(RESPONSE));
        ack
    }
}

/// The JSON of a reply.
pub(crate) fn response(ack: &Ack) -> Value {
    let text = ack
        .get(RESPONSE)
        .unwrap_or_else(|| panic!("no response: {ack:?}"));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(crate) fn challenge_text(challenge: &Value) -> &str {
    challenge["ch"]
        .as_str()
        .unwrap_or_else(|| panic!("no challenge: {challenge}"))
}

pub(crate) fn challenge_bytes(challenge: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(challenge_text(challenge)).unwrap()
}

pub(crate) fn nonces(challenge: &Value) -> Vec<u64> {
    solve(challenge_bytes(challenge)[..].try_into().unwrap()).unwrap_or_default()
}

/// What a page sends: nonces of a puzzle, nothing of what is no puzzle.
pub(crate) fn solution(challenge: &Value) -> String {
    solution_body(challenge_text(challenge), &nonces(challenge))
}

//! A site with decisions, hosts and others to ask, all of the test's making.

use std::net::IpAddr;
use std::sync::Arc;

use ringspoa::agents::remediation::messages::{
    CAPTCHA_COOKIE_HEADER, CrowdsecHttpBody, CrowdsecHttpNoBody, CrowdsecTcp, HttpRequest,
    RequestHeaders,
};
use ringspoa::agents::remediation::{
    Claims, EndpointKind, HostSettings, Inquiry, Listed, Lookup, NoAnswer, OutsideAnswer,
    OutsideRequest, OutsideResult, Policy, PolicySettings, Problem, Question, RemediationWords,
    Ruling, TokenKey, Verdict, form_field, parse_list,
};
use ringspoa::{Ack, Agent, AgentError, Harness, Headers, Reply, Router};

pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";
/// Of the random bytes that every test has.
pub(crate) const UUID: &str = "07070707-0707-4707-8707-070707070707";

/// An address or network, its remediation and its origin.
const DECISIONS: [(&str, &str, &str); 6] = [
    ("192.0.2.1/32", "ban", "cscli"),
    ("192.0.2.2/32", "captcha", "cscli"),
    ("198.51.100.0/24", "ban", "lists:blk"),
    ("198.51.100.128/25", "captcha", "CAPI"),
    ("203.0.113.9/32", "mfa", "cscli"),
    ("203.0.113.0/24", "ban", "cscli"),
];

pub(crate) const BANNED: &str = "192.0.2.1";
pub(crate) const SUSPECT: &str = "192.0.2.2";
pub(crate) const FREE: &str = "192.0.2.77";

/// A captcha's section without its braces.
pub(crate) const CAPTCHA: &str = r#""provider": "hcaptcha", "site_key": "site-1",
    "secret_key": "secret&1", "signing_key": "0123456789abcdef0123456789abcdef""#;

/// What somebody answers.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    /// This status and JSON.
    Json(u16, &'static str),
    /// Nothing before the deadline.
    Nothing,
    /// That there will be nothing.
    Fails(NoAnswer),
}

pub(crate) const SOLVED: Says = Says::Json(200, r#"{"success":true}"#);
pub(crate) const REFUSED: Says = Says::Json(
    200,
    r#"{"success":false,"error-codes":["invalid-input-response"]}"#,
);

pub(crate) struct State {
    pub(crate) policy: Arc<Policy>,
    pub(crate) now: u64,
    pub(crate) provider: Says,
    pub(crate) appsec: Says,
    /// The provider answers before AppSec does, if both are asked.
    pub(crate) provider_first: bool,
    /// Who was asked what.
    pub(crate) asked: Vec<(EndpointKind, OutsideRequest)>,
    /// What was counted.
    pub(crate) counts: Vec<String>,
}

impl State {
    fn lookup(address: Option<IpAddr>, words: &RemediationWords) -> Lookup<'static> {
        let mut lookup = Lookup::default();
        let Some(address) = address else {
            return lookup;
        };
        let networks = DECISIONS.iter().filter(|(network, ..)| {
            let list = parse_list(network).unwrap();
            list.contains(address)
        });
        let longest = networks.max_by_key(|(network, ..)| {
            let (_, len) = network.split_once('/').unwrap();
            len.parse::<u8>().unwrap()
        });
        lookup.listed = longest.map(|&(_, word, origin)| Listed {
            remediation: words.remediation(word),
            word,
            origin,
        });
        lookup.country = (address.to_string() == "192.0.2.1").then_some("FR");
        lookup
    }

    fn tcp(&mut self, message: &CrowdsecTcp, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let lookup = Self::lookup(message.src_ip, self.policy.words());
        let verdict = self.policy.decide_tcp(message.src_ip, &lookup);
        send(&mut self.counts, &verdict, reply)
    }

    fn http(&mut self, request: &HttpRequest<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let policy = Arc::clone(&self.policy);
        let lookup = Self::lookup(request.address, policy.words());
        match policy.decide_http(request, &lookup, self.now, || [7; 16]) {
            Ruling::Now(verdict) => send(&mut self.counts, &verdict, reply),
            Ruling::Ask(mut inquiry) => {
                self.ask_around(&mut inquiry);
                if !inquiry.is_settled() {
                    inquiry.handle_deadline();
                }
                assert!(inquiry.is_settled() && inquiry.poll_question().is_none());
                send(&mut self.counts, &inquiry.verdict(), reply)
            }
        }
    }

    fn ask_around(&mut self, inquiry: &mut Inquiry) {
        loop {
            let mut questions: Vec<Question> =
                std::iter::from_fn(|| inquiry.poll_question()).collect();
            if questions.is_empty() {
                return;
            }
            let is_provider = |question: &Question| matches!(question, Question::Captcha(_));
            questions.sort_by_key(|question| is_provider(question) != self.provider_first);
            for question in questions {
                let (kind, request) = match question {
                    Question::Captcha(request) => (EndpointKind::Captcha, request),
                    Question::AppSec(request) => (EndpointKind::AppSec, request),
                };
                let endpoint = &self.policy.endpoints()[request.endpoint.index()];
                assert_eq!(endpoint.kind, kind);
                self.asked.push((kind, request));
                let says = match kind {
                    EndpointKind::Captcha => self.provider,
                    _ => self.appsec,
                };
                let result: OutsideResult<'_> = match says {
                    Says::Nothing => continue,
                    Says::Fails(why) => Err(why),
                    Says::Json(status, body) => Ok(OutsideAnswer {
                        status,
                        content_type: Some(b"application/json; charset=utf-8"),
                        body: body.as_bytes(),
                    }),
                };
                let was_asked = match kind {
                    EndpointKind::Captcha => {
                        // Once it is answered, it is answered.
                        inquiry.handle_provider(&result, self.now).is_some()
                            && inquiry.handle_provider(&result, self.now).is_none()
                    }
                    _ => {
                        inquiry.handle_appsec(&result).is_some()
                            && inquiry.handle_appsec(&result).is_none()
                    }
                };
                assert!(was_asked);
            }
        }
    }
}

fn send(
    log: &mut Vec<String>,
    verdict: &Verdict<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), AgentError> {
    for (variable, value) in verdict.variables() {
        reply.set(variable, value)?;
    }
    let counts = verdict.counts;
    let ip_type = counts.ip_type();
    if counts.is_processed {
        log.push(format!("processed{{{ip_type}}}"));
    }
    for blocked in [counts.blocked, counts.blocked_by_appsec].iter().flatten() {
        let (origin, remediation) = (blocked.origin, blocked.remediation);
        log.push(format!("blocked{{{origin},{ip_type},{remediation}}}"));
    }
    if let Some(captcha) = counts.captcha {
        log.push(format!("captcha {captcha:?}"));
    }
    match counts.appsec {
        Some(Ok(remediation)) => log.push(format!("appsec {remediation}")),
        Some(Err(failure)) => log.push(format!("appsec {failure:?}")),
        None => {}
    }
    Ok(())
}

/// A policy of hosts in JSON, and of an AppSec of all hosts.
pub(crate) fn policy(hosts: &[&str], appsec: Option<&str>) -> (Policy, Vec<Problem>) {
    let hosts = hosts.iter().zip(1..).map(|(json, number)| {
        let settings: HostSettings = serde_json::from_str(json).expect("settings of a host");
        (format!("host {number}"), settings)
    });
    let settings = PolicySettings {
        hosts: hosts.collect(),
        appsec: appsec.map(|json| serde_json::from_str(json).expect("settings of AppSec")),
        words: RemediationWords::default(),
        allowed: parse_list("").unwrap(),
    };
    Policy::new(settings).expect("a policy")
}

/// The agent of a policy; providers and AppSec say nothing until a test has them do so.
pub(crate) struct Site<A>(Harness<A>, fn(&mut A) -> &mut State);

pub(crate) fn site_of(policy: Policy) -> Site<impl Agent> {
    let state = State {
        policy: Arc::new(policy),
        now: NOW,
        provider: Says::Nothing,
        appsec: Says::Nothing,
        provider_first: true,
        asked: Vec::new(),
        counts: Vec::new(),
    };
    let agent = Router::new("crowdsec", state)
        .on::<CrowdsecTcp>(|state: &mut State, message, reply| state.tcp(&message, reply))
        .on::<CrowdsecHttpBody<'_>>(|state, message, reply| state.http(&(&message).into(), reply))
        .on::<CrowdsecHttpNoBody<'_>>(|state, message, reply| {
            state.http(&(&message).into(), reply)
        });
    Site(Harness::new(agent), Router::state_mut)
}

/// The hosts of the reference's vectors: one with a captcha, and all others.
pub(crate) fn site(appsec: Option<&str>) -> Site<impl Agent> {
    let shop = format!(
        r#"{{ "host": "shop.example", "captcha": {{ {CAPTCHA} }},
              "ban": {{ "contact_us_url": "mailto:x@example" }} }}"#
    );
    let (policy, problems) = policy(&[&shop, r#"{ "host": "*" }"#], appsec);
    assert_eq!(problems, []);
    site_of(policy)
}

impl<A: Agent> Site<A> {
    pub(crate) fn state(&mut self) -> &mut State {
        (self.1)(self.0.agent_mut())
    }

    pub(crate) fn harness(&mut self) -> &mut Harness<A> {
        &mut self.0
    }

    pub(crate) fn tcp(&mut self, address: &str) -> Ack {
        let src_ip = Some(address.parse().unwrap());
        self.0.notify(&CrowdsecTcp { src_ip }).ack()
    }

    pub(crate) fn http(&mut self, visit: &Visit<'_>) -> Ack {
        let text = visit.headers();
        let message = CrowdsecHttpBody {
            remediation: visit.remediation.map(str::as_bytes),
            id: Some(b"id-1"),
            method: Some(visit.method.as_bytes()),
            path: Some(visit.path.as_bytes()),
            query: visit.query.map(str::as_bytes),
            version: Some(visit.version.as_bytes()),
            headers: RequestHeaders(Some(Headers::from_text(text.as_bytes()).unwrap())),
            body: Some(visit.body.as_bytes()),
            url: Some(visit.url.as_bytes()),
            ssl: Some(visit.is_tls),
            src_ip: visit.address.map(|address| address.parse().unwrap()),
        };
        self.0.notify(&message).ack()
    }

    /// What was counted since this was asked last.
    pub(crate) fn counts(&mut self) -> Vec<String> {
        std::mem::take(&mut self.state().counts)
    }

    /// Whom was asked since this was asked last.
    pub(crate) fn asked(&mut self) -> Vec<(EndpointKind, OutsideRequest)> {
        std::mem::take(&mut self.state().asked)
    }
}

/// A request.
#[derive(Clone)]
pub(crate) struct Visit<'a> {
    pub(crate) address: Option<&'a str>,
    pub(crate) remediation: Option<&'a str>,
    pub(crate) host: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) url: &'a str,
    pub(crate) version: &'a str,
    /// The captcha's token.
    pub(crate) cookie: Option<String>,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a str,
    pub(crate) more_headers: &'a str,
    pub(crate) is_tls: bool,
}

pub(crate) fn visit<'a>(address: &'a str, host: &'a str) -> Visit<'a> {
    Visit {
        address: Some(address),
        remediation: None,
        host,
        method: "GET",
        path: "/p",
        query: Some("x=1"),
        url: "/p?x=1",
        version: "1.1",
        cookie: None,
        content_type: "",
        body: "",
        more_headers: "",
        is_tls: true,
    }
}

impl Visit<'_> {
    /// The same, sending the form of a captcha's page.
    pub(crate) fn with_solution(self) -> Self {
        Self {
            method: "POST",
            content_type: "application/x-www-form-urlencoded",
            body: "h-captcha-response=solution%201&x=2",
            ..self
        }
    }

    pub(crate) fn with_cookie(self, token: &str) -> Self {
        Self {
            cookie: Some(token.to_owned()),
            ..self
        }
    }

    fn headers(&self) -> String {
        let mut text = String::new();
        let mut push = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        push("host", self.host);
        push("content-type", self.content_type);
        if let Some(token) = &self.cookie {
            push("cookie", &format!("a=b; crowdsec_captcha_cookie={token}"));
        }
        text + self.more_headers + "\r\n"
    }
}

pub(crate) fn key() -> TokenKey {
    TokenKey::new(&KEY.into()).unwrap()
}

/// The token that a `Set-Cookie` gives.
pub(crate) fn token(ack: &Ack) -> String {
    let cookie = ack.get(CAPTCHA_COOKIE_HEADER).expect("a cookie is set");
    let value = cookie.strip_prefix("crowdsec_captcha_cookie=").unwrap();
    value.split(';').next().unwrap().to_owned()
}

/// What it says.
pub(crate) fn claims(ack: &Ack) -> Claims {
    key()
        .verify(token(ack).as_bytes(), NOW)
        .expect("a token of this key")
}

/// The names of the variables that are set, in order.
pub(crate) fn names(ack: &Ack) -> Vec<String> {
    ack.actions()
        .map(|action| match action {
            ringspoa::spop::Action::SetVar { name, scope, .. } => {
                assert_eq!(scope, ringspoa::spop::Scope::Transaction);
                String::from_utf8(name.to_vec()).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A field of the form that a provider was sent.
pub(crate) fn field(request: &OutsideRequest, name: &str) -> Option<String> {
    form_field(&request.body, name).map(|value| String::from_utf8(value).unwrap())
}

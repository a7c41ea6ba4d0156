//! Decisions about requests: the messages as HAProxy sends them, with a provider that takes its time on
//! another thread.

use std::sync::Arc;
use std::time::Duration;

use ringspoa::agents::remediation::messages::{
    CAPTCHA_COOKIE_HEADER, CAPTCHA_FRONTEND_KEY, CAPTCHA_STATUS, CONTACT_US_URL, CrowdsecHttpBody,
    CrowdsecTcp, HttpRequest, ISOCODE, REDIRECT, REMEDIATION, VARIABLES,
};
use ringspoa::agents::remediation::{
    HostSettings, Listed, Lookup, OutsideAnswer, Policy, PolicySettings, Question, Remediation,
    Ruling, form_field,
};
use ringspoa::spop::Messages;
use ringspoa::{AgentDeclaration, AgentError, Message, Reply, SpoeConfig, TestHaproxy};

use crate::fixture::{Served, Version};

const NOW: u64 = 1_700_000_000;
const SHOP: &str = r#"{ "host": "*.example", "ban": { "contact_us_url": "mailto:x@example" },
    "captcha": { "provider": "turnstile", "site_key": "1", "secret_key": "2",
                 "signing_key": "0123456789abcdef0123456789abcdef" } }"#;

fn lookup(address: Option<std::net::IpAddr>) -> Lookup<'static> {
    let address = address.map(|address| address.to_string());
    let remediation = match address.as_deref() {
        Some("192.0.2.1") => Remediation::Ban,
        Some("192.0.2.2") => Remediation::Captcha,
        _ => return Lookup::default(),
    };
    Lookup {
        listed: Some(Listed {
            remediation,
            word: remediation.as_str(),
            origin: "cscli",
        }),
        country: Some("FR"),
    }
}

fn answer(
    policy: &Arc<Policy>,
    messages: &mut Messages<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), AgentError> {
    while let Some(mut message) = messages.next_message()? {
        if message.name() == b"crowdsec-tcp" {
            let address = CrowdsecTcp::decode(&mut message)?.src_ip;
            let verdict = policy.decide_tcp(address, &lookup(address));
            for (variable, value) in verdict.variables() {
                reply.set(variable, value)?;
            }
            continue;
        }
        let message = CrowdsecHttpBody::decode(&mut message)?;
        let request = HttpRequest::from(&message);
        assert_eq!(message.version, Some(&b"1.1"[..]));
        assert_eq!((message.ssl, message.path), (Some(false), Some(&b"/p"[..])));
        assert_eq!(message.query, Some(&b"x=1"[..]));
        // What the message before it said, in the same transaction.
        let said = message
            .remediation
            .and_then(|word| std::str::from_utf8(word).ok());
        let listed = lookup(request.address).listed;
        assert_eq!(said, Some(listed.map_or("allow", |listed| listed.word)));
        match policy.decide_http(&request, &lookup(request.address), NOW, || [7; 16]) {
            Ruling::Now(verdict) => {
                for (variable, value) in verdict.variables() {
                    reply.set(variable, value)?;
                }
            }
            Ruling::Ask(mut inquiry) => {
                let mut ticket = reply.defer();
                std::thread::spawn(move || {
                    let Some(Question::Captcha(question)) = inquiry.poll_question() else {
                        panic!("nothing else is asked");
                    };
                    std::thread::sleep(Duration::from_millis(20));
                    let is_solved =
                        form_field(&question.body, "response").as_deref() == Some(b"four 4");
                    let body = format!(r#"{{"success":{is_solved}}}"#);
                    let result = Ok(OutsideAnswer {
                        status: 200,
                        content_type: Some(b"application/json"),
                        body: body.as_bytes(),
                    });
                    inquiry.handle_provider(&result, NOW);
                    assert!(inquiry.is_settled());
                    for (variable, value) in inquiry.verdict().variables() {
                        ticket.set(variable, value).expect("room for it");
                    }
                    ticket.send();
                });
            }
        }
    }
    Ok(())
}

pub(crate) fn a_visitor_solves_a_captcha(version: Version) {
    let host: HostSettings = serde_json::from_str(SHOP).expect("settings");
    let settings = PolicySettings {
        hosts: vec![("host 1".to_owned(), host)],
        ..PolicySettings::default()
    };
    let (policy, problems) = Policy::new(settings).expect("a policy");
    assert_eq!(problems, []);
    let policy = Arc::new(policy);
    let served = Served::start(move |messages, reply| answer(&policy, messages, reply));
    let mut declaration = AgentDeclaration::new("crowdsec")
        .with_message::<CrowdsecTcp>()
        .with_message::<CrowdsecHttpBody<'_>>();
    for variable in VARIABLES {
        declaration = declaration.with_variable(variable);
    }
    let config = SpoeConfig::new(&declaration)
        .address(served.address())
        .processing_timeout(Duration::from_secs(10));
    let haproxy = TestHaproxy::start_with(&config, version.executable())
        .unwrap_or_else(|error| panic!("{error}"));
    let host = ("Host", "SHOP.example:8080");
    let path = "/p?x=1";

    let banned = haproxy.client([192, 0, 2, 1]).get(path, &[host]);
    let banned = banned.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(banned.get(REMEDIATION), Some("ban"));
    assert_eq!(banned.get(CONTACT_US_URL), Some("mailto:x@example"));
    assert_eq!(banned.get(ISOCODE), Some("FR"));
    let free = haproxy.get(path, &[host]).expect("an answer");
    assert_eq!(free.get(REMEDIATION), Some("allow"));
    assert_eq!(free.get(CAPTCHA_STATUS), None);

    let suspect = haproxy.client([192, 0, 2, 2]);
    let first = suspect.get(path, &[host]).expect("an answer");
    assert_eq!(first.get(REMEDIATION), Some("captcha"));
    assert_eq!(first.get(CAPTCHA_STATUS), Some("pending"));
    assert_eq!(first.get(CAPTCHA_FRONTEND_KEY), Some("cf-turnstile"));
    let cookie = first.get(CAPTCHA_COOKIE_HEADER).expect("a cookie");
    let (cookie, attributes) = cookie.split_once(';').expect("attributes");
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Strict");

    let form = (
        "content-type",
        "application/x-www-form-urlencoded; charset=UTF-8",
    );
    let headers = [host, form, ("cookie", cookie)];
    for (solution, remediation, redirect) in
        [("5", "captcha", None), ("four+%34", "allow", Some("1"))]
    {
        let body = format!("cf-turnstile-response={solution}");
        let posted = suspect
            .request("POST", path, &headers, body)
            .expect("an answer");
        assert_eq!(posted.get(REMEDIATION), Some(remediation));
        assert_eq!(posted.get(REDIRECT), redirect);
        if redirect.is_some() {
            let solved = posted.get(CAPTCHA_COOKIE_HEADER).expect("a cookie");
            let (solved, _) = solved.split_once(';').expect("attributes");
            let next = suspect
                .get(path, &[host, ("cookie", solved)])
                .expect("an answer");
            assert_eq!(next.get(REMEDIATION), Some("allow"));
            assert_eq!(next.get(CAPTCHA_STATUS), Some("valid"));
            assert_eq!(next.get(CAPTCHA_COOKIE_HEADER), None);
        }
    }
    drop(haproxy);
    served.finish();
}

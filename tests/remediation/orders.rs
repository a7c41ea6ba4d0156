//! Every order in which answers, deadlines and questions may come.

use std::sync::Arc;

use ringspoa::Headers;
use ringspoa::agents::remediation::messages::HttpRequest;
use ringspoa::agents::remediation::{
    Inquiry, Listed, Lookup, NoAnswer, OutsideAnswer, OutsideResult, Policy, Question, Remediation,
    Ruling,
};

use crate::site::{CAPTCHA, NOW, policy};

const TIMED_OUT: OutsideResult<'_> = Err(NoAnswer::TimedOut);

fn json(status: u16, body: &str) -> OutsideResult<'_> {
    Ok(OutsideAnswer {
        status,
        content_type: Some(b"application/json"),
        body: body.as_bytes(),
    })
}

/// What may happen to an inquiry.
#[derive(Clone, Copy, Debug)]
enum Event {
    Poll,
    Solved,
    Refused,
    ProviderTimedOut,
    Passes,
    Blocks,
    WantsCaptcha,
    AppSecTimedOut,
    Deadline,
}

use Event::{
    AppSecTimedOut, Blocks, Deadline, Passes, Poll, ProviderTimedOut, Refused, Solved, WantsCaptcha,
};

const EVENTS: [Event; 9] = [
    Poll,
    Solved,
    Refused,
    ProviderTimedOut,
    Passes,
    Blocks,
    WantsCaptcha,
    AppSecTimedOut,
    Deadline,
];

/// Who was asked and has not answered.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    provider: bool,
    appsec: bool,
}

/// Has it happen, if it can: nobody answers who was not asked.
fn happen(inquiry: &mut Inquiry, open: &mut Open, event: Event) {
    let provider = |inquiry: &mut Inquiry, open: &mut Open, result: OutsideResult<'_>| {
        if std::mem::take(&mut open.provider) {
            inquiry.handle_provider(&result, NOW);
        }
    };
    let appsec = |inquiry: &mut Inquiry, open: &mut Open, result: OutsideResult<'_>| {
        if std::mem::take(&mut open.appsec) {
            inquiry.handle_appsec(&result);
        }
    };
    match event {
        Poll => match inquiry.poll_question() {
            Some(Question::Captcha(_)) => {
                assert!(!open.provider, "the provider is asked twice");
                open.provider = true;
            }
            Some(Question::AppSec(_)) => {
                assert!(!open.appsec, "AppSec is asked twice");
                open.appsec = true;
            }
            None => {}
        },
        Solved => provider(inquiry, open, json(200, r#"{"success":true}"#)),
        Refused => provider(inquiry, open, json(200, r#"{"success":false}"#)),
        ProviderTimedOut => provider(inquiry, open, TIMED_OUT),
        Passes => appsec(inquiry, open, json(200, "")),
        Blocks => appsec(inquiry, open, json(403, r#"{"action":"ban"}"#)),
        WantsCaptcha => appsec(inquiry, open, json(403, r#"{"action":"captcha"}"#)),
        AppSecTimedOut => appsec(inquiry, open, TIMED_OUT),
        Deadline => inquiry.handle_deadline(),
    }
}

fn inquiry(policy: &Arc<Policy>, decided: Remediation) -> Box<Inquiry> {
    let headers = b"host: shop.example\r\ncontent-type: application/x-www-form-urlencoded\r\n\r\n";
    let request = HttpRequest {
        address: Some([192, 0, 2, 1].into()),
        method: Some(b"POST"),
        path: Some(b"/"),
        headers: Some(Headers::from_text(headers).unwrap()),
        body: b"h-captcha-response=1",
        ..HttpRequest::default()
    };
    let listed = Listed {
        remediation: decided,
        word: decided.as_str(),
        origin: "cscli",
    };
    let lookup = Lookup {
        listed: Some(listed),
        country: None,
    };
    match policy.decide_http(&request, &lookup, NOW, || [1; 16]) {
        Ruling::Ask(inquiry) => inquiry,
        Ruling::Now(verdict) => panic!("nobody is asked: {verdict:?}"),
    }
}

#[test]
fn no_order_of_events_opens_what_was_shut() {
    let mut orders = 0_u32;
    for action in ["passthrough", "deny", "captcha"] {
        let appsec = format!(
            r#""url": "http://127.0.0.1:1", "api_key": "k", "always_send": true,
               "failure_action": "{action}""#
        );
        let asked_always =
            format!(r#"{{ "host": "*", "captcha": {{ {CAPTCHA} }}, "appsec": {{ {appsec} }} }}"#);
        let asked_later = asked_always.replace(r#""always_send": true,"#, "");
        for (host, decisions) in [
            (&asked_always, &["allow", "unknown", "captcha", "ban"][..]),
            (&asked_later, &["allow", "captcha"]),
        ] {
            let policy = Arc::new(policy(&[host], None).0);
            for decided in decisions {
                let decided = match *decided {
                    "unknown" => Remediation::Unknown,
                    word => Remediation::from_word(word),
                };
                for order in 0..EVENTS.len().pow(4) {
                    one_order(&policy, decided, order);
                    orders += 1;
                }
            }
        }
    }
    assert_eq!(orders, 3 * 6 * 9_u32.pow(4));
}

/// The events that the digits of a number name, to the base of their count.
fn one_order(policy: &Arc<Policy>, decided: Remediation, order: usize) {
    let mut inquiry = inquiry(policy, decided);
    let (mut open, mut rest) = (Open::default(), order);
    let mut was_solved = false;
    // All are asked first; what else is to be asked is found out by events.
    for _ in 0..2 {
        happen(&mut inquiry, &mut open, Poll);
    }
    for _ in 0..4 {
        let event = EVENTS[rest % EVENTS.len()];
        rest /= EVENTS.len();
        let settled = inquiry.is_settled().then(|| inquiry.verdict().remediation);
        was_solved |= matches!(event, Solved) && open.provider;
        happen(&mut inquiry, &mut open, event);
        let verdict = inquiry.verdict();
        let remediation = verdict.remediation.expect("there is an address");
        if let Some(settled) = settled {
            assert_eq!(Some(remediation), settled, "{order}: {event:?}");
        }
        // A captcha opens what a decision shut, and nothing else does.
        let is_opened = decided != Remediation::Ban && was_solved;
        assert!(remediation >= decided || is_opened, "{order}: {event:?}");
        assert_eq!(verdict.redirects, verdict.captcha.is_some() && was_solved);
        if matches!(event, Deadline) {
            assert!(inquiry.is_settled() && inquiry.poll_question().is_none());
            open = Open::default();
        }
    }
    inquiry.handle_deadline();
    assert!(inquiry.is_settled());
}

#[test]
fn inquiries_go_to_other_threads_and_policies_are_shared() {
    fn goes<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    goes::<Inquiry>();
    is_shared::<Policy>();
}

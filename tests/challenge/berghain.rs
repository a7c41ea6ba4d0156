//! berghain's two messages, as HAProxy sends them with berghain's configuration: nothing but the page is
//! another.

use ringspoa::Ack;
use ringspoa::agents::challenge::messages::{
    Berghain, DOMAIN, LevelArgument, REASON, RESPONSE, RESULT, SentText, TOKEN, VALID,
};
use ringspoa::spop::{Argument, TypedData};
use serde_json::json;

use crate::site::{Site, pow, response, settings, solution};

const SRC: [u8; 4] = [192, 0, 2, 7];

/// `validate` with berghain's five arguments, in this order.
fn validate(
    site: &mut Site,
    order: [usize; 5],
    level: i64,
    host: &str,
    cookie: Option<&str>,
) -> Ack {
    let cookie = cookie.map_or(TypedData::Null, TypedData::from);
    let all = [
        Argument::new("frontend", TypedData::from("fe_main")),
        Argument::new("level", TypedData::Int64(level)),
        Argument::new("src", TypedData::Ipv4(SRC.into())),
        Argument::new("host", TypedData::from(host)),
        Argument::new("cookie", cookie),
    ];
    let arguments = order.map(|index| all[index]);
    site.harness
        .notify_with(|notify| notify.message("validate", arguments))
        .ack()
}

fn challenge(site: &mut Site, method: &str, host: &str, body: &str) -> Ack {
    let message = Berghain {
        frontend: Some(b"fe_main"),
        level: LevelArgument::Number(1),
        src: Some(SRC.into()),
        host: SentText(Some(host.as_bytes())),
        method: Some(method.as_bytes()),
        body: Some(body.as_bytes()),
        session: Some(b"bh@6dd1c4a0-5b6e-4d50-a4a5-1e2d84b4d6c1"),
    };
    site.harness.notify(&message).ack()
}

/// All orders of five arguments.
fn orders() -> Vec<[usize; 5]> {
    let mut orders = Vec::new();
    for code in 0..5_usize.pow(5) {
        let mut rest = code;
        let order: [usize; 5] = std::array::from_fn(|_| {
            let index = rest % 5;
            rest /= 5;
            index
        });
        if (0..5).all(|index| order.contains(&index)) {
            orders.push(order);
        }
    }
    assert_eq!(orders.len(), 120);
    orders
}

#[test]
fn berghains_messages_are_understood_in_whatever_order() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    let host = "shop.example";
    for order in orders() {
        assert_eq!(
            validate(&mut site, order, 1, host, None).get(VALID),
            Some(false)
        );
        assert!(validate(&mut site, order, 0, host, None).is_empty());
    }
    let ack = challenge(&mut site, "GET", host, "");
    assert_eq!(ack.get(DOMAIN), Some(""));
    assert_eq!(ack.get(TOKEN), None);
    let ack = challenge(&mut site, "POST", host, &solution(&response(&ack)));
    assert_eq!(response(&ack), json!({ "ok": true, "exp": 3600 }));
    assert_eq!(ack.get(DOMAIN), Some(""));
    let token = ack.get(TOKEN).unwrap().to_owned();
    for order in orders() {
        assert_eq!(
            validate(&mut site, order, 1, host, Some(&token)).get(VALID),
            Some(true)
        );
    }
    let order = [0, 1, 2, 3, 4];
    for cookie in ["", "x", "deadbeef|00|00"] {
        let ack = validate(&mut site, order, 1, host, Some(cookie));
        assert_eq!(ack.get(VALID), Some(false), "{cookie}");
    }
    let ack = validate(&mut site, order, 1, "pay.example", Some(&token));
    assert_eq!(
        (ack.get(VALID), ack.get(REASON)),
        (Some(false), Some("mac"))
    );
}

#[test]
fn berghains_domain_is_ready_made() {
    let realm = json!({ "name": "fe_main", "level": [pow()], "trusted-domains": ["shop.example"] });
    let mut settings = settings(&realm);
    settings["realm"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "level": [pow()] }));
    let mut site = Site::new(&settings);
    let ack = challenge(&mut site, "GET", "a.shop.example", "");
    let ack = challenge(
        &mut site,
        "POST",
        "a.shop.example",
        &solution(&response(&ack)),
    );
    assert_eq!(ack.get(DOMAIN), Some("domain=shop.example;"));
    let token = ack.get(TOKEN).unwrap().to_owned();
    let order = [4, 3, 2, 1, 0];
    for (host, is_valid) in [("b.shop.example", true), ("evil-shop.example", false)] {
        let ack = validate(&mut site, order, 1, host, Some(&token));
        assert_eq!(ack.get(VALID), Some(is_valid), "{host}");
    }
    // What was issued to one host alone stays with it, though its domain is trusted since.
    let mut alone = settings.clone();
    alone["realm"][0]["trusted-domains"] = json!([]);
    site.reload(&alone);
    let issued = challenge(&mut site, "GET", "a.shop.example", "");
    site.reload(&settings);
    let ack = challenge(
        &mut site,
        "POST",
        "a.shop.example",
        &solution(&response(&issued)),
    );
    assert_eq!((ack.get(RESULT), ack.get(DOMAIN)), (Some("ok"), Some("")));
}

/// Every reply is JSON, and none that refuses has a token.
#[test]
fn what_is_refused_is_refused_in_json() {
    let mut site = Site::new(&settings(&json!({ "level": [pow()] })));
    for (method, body, expected) in [
        ("POST", "", "format"),
        ("POST", "r-s-1", "format"),
        ("PUT", "x", "format"),
        ("", "", "format"),
        ("get", "", "format"),
    ] {
        let ack = challenge(&mut site, method, "shop.example", body);
        assert_eq!(ack.get(RESULT), Some(expected));
        assert_eq!(response(&ack), json!({ "ok": false, "code": expected }));
        assert_eq!((ack.get(TOKEN), ack.get(DOMAIN)), (None, Some("")));
    }
    let ack = challenge(&mut site, "GET", "a;b", "");
    assert_eq!(ack.get(RESPONSE), Some(r#"{"ok":false,"code":"host"}"#));
}

/// 21: `none` gives its cookie to who waits, and not to who asks.
#[test]
fn berghains_none_is_waited_for() {
    let mut site = Site::new(&settings(
        &json!({ "level": [{ "type": "none", "duration-s": 60 }] }),
    ));
    let ack = challenge(&mut site, "GET", "shop.example", "");
    assert_eq!(ack.get(TOKEN), None);
    let body = solution(&response(&ack));
    assert_eq!(
        challenge(&mut site, "POST", "shop.example", &body).get(RESULT),
        Some("early")
    );
    site.wait(3);
    assert!(
        challenge(&mut site, "POST", "shop.example", &body)
            .get(TOKEN)
            .is_some()
    );
}

//! Settings that cannot be used: each is refused with its place, its key, and what is wanted instead.

use std::os::unix::fs::PermissionsExt as _;

use ringspoa::agents::challenge::{ChallengeSettings, Challenges, NoJs, SettingsError};
use serde_json::{Value, json};

use crate::site::{pow, secret, settings};

fn check(settings: &Value) -> Result<Challenges, String> {
    let settings: ChallengeSettings =
        serde_json::from_value(settings.clone()).map_err(|error| error.to_string())?;
    Challenges::new(&settings).map_err(|error: SettingsError| error.to_string())
}

/// Good settings but for one place, given as a pointer.
fn changed(pointer: &str, value: Value) -> Value {
    let mut settings = settings(&json!({ "level": [pow()] }));
    settings["crawler"] = json!([]);
    match settings.pointer_mut(pointer) {
        Some(there) => *there = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            settings.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    settings
}

#[test]
fn what_is_left_out_has_a_default() {
    let challenges = check(&settings(&json!({ "level": [
        { "type": "pow" }, { "type": "wait" }, { "type": "pbkdf2" },
        { "type": "captcha", "provider": "hcaptcha", "site-key": "k", "secret-key": "s" },
    ] })))
    .unwrap();
    assert_eq!(challenges.path(), "/.challenge");
    let realm = challenges.realm(None);
    assert_eq!(
        (realm.name(), realm.status(), realm.no_js()),
        ("default", 403, NoJs::Off)
    );
    assert!(!realm.is_dry_run());
    let levels: Vec<_> = realm
        .levels()
        .iter()
        .map(|level| {
            (
                level.algorithm(),
                level.definition().duration_s,
                level.definition().wait_s,
            )
        })
        .collect();
    let expected = [
        ("sha256", 43_200, 0),
        ("wait", 3_600, 3),
        ("pbkdf2", 43_200, 0),
        ("hcaptcha", 43_200, 0),
    ];
    assert_eq!(levels, expected);
    assert_eq!(challenges.endpoints().len(), 1);
    assert_eq!(
        challenges.endpoints()[0].url,
        "https://api.hcaptcha.com/siteverify"
    );
}

#[test]
fn keys_may_have_hyphens_or_underscores() {
    let value = |hyphen: &str| {
        let text = json!({
            "key": [{ "id": 1, "secret": secret(1), "not-after": "2099-01-31T00:00:00Z" }],
            "realm": [{
                "challenge-ttl-s": 60, "nojs-wait-s": 5, "same-site": "none", "dry-run": true,
                "bind": { "user-agent": false, "ipv6": "off", "ipv4": false },
                "level": [{ "type": "pow", "duration-s": 60, "wait-s": 1, "adaptive": { "normal-rate": 3 } }],
            }],
        });
        serde_json::from_str::<Value>(
            &text
                .to_string()
                .replace("2099-01-31", "2099+01+31")
                .replace('-', hyphen)
                .replace('+', "-"),
        )
        .unwrap()
    };
    let hyphens = serde_json::from_value::<ChallengeSettings>(value("-")).unwrap();
    let underscores = serde_json::from_value::<ChallengeSettings>(value("_")).unwrap();
    assert_eq!(hyphens, underscores);
    assert!(Challenges::new(&hyphens).is_ok());
}

#[test]
fn what_cannot_be_used_is_named() {
    let captcha = |more: Value| {
        let mut level = json!({ "type": "captcha", "provider": "own", "site-key": "k", "secret-key": "s",
            "verify-url": "https://c.example/", "script-url": "https://c.example/a.js", "script-global": "own" });
        for (key, value) in more.as_object().unwrap() {
            level[key] = value.clone();
        }
        level
    };
    let missing = "/nonexistent/ringspoa-test";
    let weak = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let realm = || json!({ "level": [pow()] });
    for (pointer, value, place, part) in [
        ("/path", json!("challenge"), "path: ", "/.challenge"),
        ("/path", json!("//x"), "path: ", "one /"),
        ("/path", json!("/x/"), "path: ", "does not"),
        ("/path", json!("/a b"), "path: ", "letters"),
        ("/key", json!([]), "key: ", "[[challenge.key]]"),
        ("/key/0/id", json!(0), "key 0: id: ", "1 to 255"),
        ("/key/0/id", json!(256), "key 256: id: ", "1 to 255"),
        ("/key/0/id", Value::Null, "key at place 1: id: ", "1 to 255"),
        ("/key/0/secret", json!("c2hvcnQ="), "key 1: secret: ", "32"),
        ("/key/0/secret", json!(weak), "key 1: secret: ", ""),
        (
            "/key/0/secret",
            json!("no base64!"),
            "key 1: secret: ",
            "base64",
        ),
        (
            "/key/0/secret",
            Value::Null,
            "key 1: secret-file: ",
            "one of",
        ),
        (
            "/key/0/secret-file",
            json!(missing),
            "key 1: secret-file: ",
            "one of",
        ),
        (
            "/key/0",
            json!({ "id": 1, "secret-file": missing }),
            "key 1: secret-file: ",
            missing,
        ),
        ("/realm", json!([]), "realm: ", "default"),
        ("/realm/0/name", json!("other"), "realm: ", "default"),
        ("/realm/0/name", json!(""), "realm \"\": name: ", "empty"),
        ("/realm", json!([realm(), realm()]), "realm: name: ", "two"),
        (
            "/realm/0/level",
            json!([]),
            "realm \"default\": level: ",
            "[[challenge.realm.level]]",
        ),
        (
            "/realm/0/hosts",
            json!(["["]),
            "realm \"default\": hosts: ",
            "",
        ),
        (
            "/realm/0/trusted-domains",
            json!(["com"]),
            "realm \"default\": trusted-domains: ",
            "com",
        ),
        (
            "/realm/0/cookie",
            json!("a b"),
            "realm \"default\": cookie: ",
            "a b",
        ),
        (
            "/realm/0/bind",
            json!({ "ipv4": 8 }),
            "realm \"default\": bind: ",
            "24 to 32",
        ),
        (
            "/realm/0/bind",
            json!({ "ipv6": 300 }),
            "realm \"default\": bind.ipv6: ",
            "300",
        ),
        (
            "/realm/0/challenge-ttl-s",
            json!(1),
            "realm \"default\": challenge-ttl-s: ",
            "10 to 86400",
        ),
        (
            "/realm/0/status",
            json!(404),
            "realm \"default\": status: ",
            "403",
        ),
        (
            "/realm/0/nojs",
            json!("on"),
            "realm \"default\": nojs: ",
            "refresh",
        ),
        (
            "/realm/0/nojs-wait-s",
            json!(0),
            "realm \"default\": nojs-wait-s: ",
            "1 to 3600",
        ),
        (
            "/realm/0/nojs-duration-s",
            json!(1),
            "realm \"default\": nojs-duration-s: ",
            "60 to",
        ),
        (
            "/realm/0/same-site",
            json!("strict"),
            "realm \"default\": same-site: ",
            "lax",
        ),
        (
            "/realm/0/level/0/type",
            Value::Null,
            "realm \"default\": level 1: type: ",
            "want wait",
        ),
        (
            "/realm/0/level/0/type",
            json!("magic"),
            "realm \"default\": level 1: type: ",
            "magic",
        ),
        (
            "/realm/0/level/0/work",
            json!(0),
            "realm \"default\": level 1: work: ",
            "1 to",
        ),
        (
            "/realm/0/level/0/work",
            json!(1_u64 << 32),
            "realm \"default\": level 1: work: ",
            "1 to",
        ),
        (
            "/realm/0/level/0/parts",
            json!(51),
            "realm \"default\": level 1: parts: ",
            "1 to 50",
        ),
        (
            "/realm/0/level/0/duration-s",
            json!(0),
            "realm \"default\": level 1: duration-s: ",
            "10 to",
        ),
        (
            "/realm/0/level/0/wait-s",
            json!(301),
            "realm \"default\": level 1: wait-s: ",
            "0 to 300",
        ),
        (
            "/realm/0/level/0/iterations",
            json!(9),
            "realm \"default\": level 1: iterations: ",
            "take it out",
        ),
        (
            "/realm/0/level/0/site-key",
            json!("k"),
            "realm \"default\": level 1: site-key: ",
            "take it out",
        ),
        (
            "/realm/0/level/0",
            json!({ "type": "wait", "wait-s": 0 }),
            "realm \"default\": level 1: wait-s: ",
            "1 to 300",
        ),
        (
            "/realm/0/level/0",
            json!({ "type": "wait", "adaptive": {} }),
            "realm \"default\": level 1: adaptive: ",
            "take it out",
        ),
        (
            "/realm/0/level/0",
            json!({ "type": "pbkdf2", "iterations": 0 }),
            "realm \"default\": level 1: iterations: ",
            "1 to",
        ),
        (
            "/realm/0/level/0",
            json!({ "type": "captcha" }),
            "realm \"default\": level 1: provider: ",
            "turnstile",
        ),
        (
            "/realm/0/level/0",
            json!({ "type": "turnstile", "secret-key": "s" }),
            "realm \"default\": level 1: site-key: ",
            "provider",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "provider": "wait" })),
            "realm \"default\": level 1: provider: ",
            "wait",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "provider": "A B" })),
            "realm \"default\": level 1: provider: ",
            "A B",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "secret-key": "" })),
            "realm \"default\": level 1: secret-key: ",
            "missing",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "verify-url": null })),
            "realm \"default\": level 1: verify-url: ",
            "missing",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "verify-url": "ftp://x" })),
            "realm \"default\": level 1: verify-url: ",
            "http",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "script-url": "x y" })),
            "realm \"default\": level 1: script-url: ",
            "http",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "script-global": "a;b" })),
            "realm \"default\": level 1: script-global: ",
            "object",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "timeout-s": 0 })),
            "realm \"default\": level 1: timeout-s: ",
            "1 to 60",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "site-key": "k".repeat(1_025) })),
            "realm \"default\": level 1: ",
            "1024",
        ),
        (
            "/realm/0/level/0",
            captcha(json!({ "script-url": format!("https://c.example/{}", "a".repeat(2_048)) })),
            "realm \"default\": level 1: script-url: ",
            "2048",
        ),
        (
            "/realm/0/level/0/adaptive",
            json!({ "cap": 1 }),
            "realm \"default\": level 1: adaptive.cap: ",
            "64 to",
        ),
        (
            "/realm/0/level/0/adaptive",
            json!({ "normal-rate": 0 }),
            "realm \"default\": level 1: adaptive.normal-rate: ",
            "1 to",
        ),
        (
            "/realm/0/level/0/adaptive",
            json!({ "peak-rate": 20 }),
            "realm \"default\": level 1: adaptive.peak-rate: ",
            "21 to",
        ),
        (
            "/realm/0/level/0/adaptive",
            json!({ "normal-load": 20 }),
            "realm \"default\": level 1: adaptive.peak-load: ",
            "together",
        ),
        (
            "/realm/0/level/0/adaptive",
            json!({ "peak-load": 20 }),
            "realm \"default\": level 1: adaptive.normal-load: ",
            "together",
        ),
        (
            "/realm/0/level/0/adaptive",
            json!({ "per-prefix": 65_536 }),
            "realm \"default\": level 1: adaptive.per-prefix: ",
            "0 to",
        ),
        (
            "/crawler",
            json!([{ "files": [] }]),
            "crawler 1: name: ",
            "missing",
        ),
        (
            "/crawler",
            json!([{ "name": "claimed" }]),
            "crawler \"claimed\": name: ",
            "claimed",
        ),
        (
            "/crawler",
            json!([{ "name": "a", "user-agent": "" }]),
            "crawler \"a\": user-agent: ",
            "empty",
        ),
        (
            "/crawler",
            json!([{ "name": "a", "user-agent": "A" }]),
            "crawler \"a\": files: ",
            "missing",
        ),
        (
            "/crawler",
            json!([{ "name": "a", "user-agent": ["A"], "files": [missing] }]),
            "crawler \"a\": files: ",
            missing,
        ),
        ("/pbkdf2-threads", json!(0), "pbkdf2-threads: ", "1 to 64"),
        ("/pbkdf2-queue", json!(0), "pbkdf2-queue: ", "1 to"),
    ] {
        let error = match check(&changed(pointer, value.clone())) {
            Ok(_) => panic!("{pointer} = {value} is taken"),
            Err(error) => error,
        };
        assert!(error.starts_with(place), "{pointer} = {value}: {error}");
        assert!(error.contains(part), "{pointer} = {value}: {error}");
        assert!(!error.contains(&secret(1)), "{error}");
    }
    check(&changed(
        "/path",
        json!("/cdn-cgi/challenge-platform/challenge"),
    ))
    .unwrap();
}

#[test]
fn hosts_have_no_ports() {
    for (host, part) in [
        ("www.example:8443", "want \"www.example\""),
        ("*.example:80", "want \"*.example\""),
        ("*:443", "want \"*\""),
    ] {
        let error = check(&changed("/realm/0/hosts", json!(["a.example", host]))).unwrap_err();
        assert!(error.starts_with("realm \"default\": hosts: "), "{error}");
        assert!(
            error.contains("whatever the port") && error.contains(part),
            "{error}"
        );
    }
}

#[test]
fn what_is_not_likely_to_be_meant_is_told() {
    let warnings = |hosts: Value, domain: &str| {
        let mut settings = changed("/realm/0/hosts", hosts);
        settings["realm"][0]["trusted-domains"] = json!([domain]);
        check(&settings).unwrap().warnings().to_vec()
    };
    for hosts in [
        json!([]),
        json!(["example.org"]),
        json!(["b.example", "www.Example.org"]),
        json!(["*.example.org"]),
        json!(["*.www.example.org"]),
        json!(["*"]),
        json!(["*.org"]),
        json!(["www.example.*"]),
    ] {
        assert_eq!(warnings(hosts.clone(), "example.org"), [""; 0], "{hosts}");
    }
    for hosts in [
        json!(["www.example"]),
        json!(["badexample.org"]),
        json!(["*.example.com", "example.org.example"]),
    ] {
        let told = warnings(hosts.clone(), "example.org");
        assert_eq!(told.len(), 1, "{hosts}");
        assert!(
            told[0].starts_with("realm \"default\": trusted-domains: ")
                && told[0].contains("example.org"),
            "{told:?}"
        );
    }

    let file = std::env::temp_dir().join(format!("ringspoa-{}-key", std::process::id()));
    std::fs::write(&file, secret(1)).unwrap();
    for (mode, count) in [(0o644, 1), (0o640, 0), (0o600, 0)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let key = json!([{ "id": 1, "secret-file": file }]);
        let challenges = check(&changed("/key", key)).unwrap();
        let told = challenges.warnings();
        assert_eq!(told.len(), count, "{mode:o}: {told:?}");
        assert!(
            told.iter()
                .all(|told| told.contains("secret-file") && told.contains("chmod"))
        );
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn misspelt_keys_are_no_settings() {
    for (pointer, value) in [
        ("/pathh", json!("/x")),
        ("/key/0/scret", json!("x")),
        ("/realm/0/no-js", json!("off")),
        ("/realm/0/bind", json!({ "ip": 32 })),
        ("/realm/0/level/0/wrok", json!(1)),
        ("/realm/0/level/0/adaptive", json!({ "max": 1 })),
        ("/crawler", json!([{ "ua": "x" }])),
    ] {
        let error = check(&changed(pointer, value)).unwrap_err();
        assert!(error.contains("unknown field"), "{pointer}: {error}");
    }
}

#[test]
fn what_is_secret_is_not_shown() {
    let level = json!({ "type": "turnstile", "site-key": "k", "secret-key": "hidden-from-all" });
    let settings = settings(&json!({ "level": [level] }));
    let parsed: ChallengeSettings = serde_json::from_value(settings.clone()).unwrap();
    let shown = format!("{parsed:?}{:?}", check(&settings).unwrap());
    assert!(!shown.contains("hidden-from-all") && !shown.contains(&secret(1)));
}

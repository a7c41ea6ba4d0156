//! What HAProxy sends arrives byte for byte, and what the agent sets is seen.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringspoa::spop::{Messages, Scope, TypedData, Variable, decode_varint};
use ringspoa::{AgentError, Headers, Reply};

use crate::fixture::{Config, Haproxy, Served, Version, respond};
use crate::http::{Request, from_hex};

const fn transaction(name: &'static str) -> Variable<'static> {
    Variable::literal(Scope::Transaction, name)
}

/// Every type and scope that HAProxy takes, on the request and on the response.
pub(crate) fn variables_are_visible_in_the_response(version: Version) {
    fn agent(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        while let Some(mut message) = messages.next_message()? {
            if message.name() == b"response" {
                // What the request event set in the transaction is still there.
                let status = message.next_argument()?.ok_or("no status")?.value;
                let seen = message.next_argument()?.ok_or("no variable")?.value;
                reply.set_var(Variable::literal(Scope::Response, "status"), status)?;
                reply.set_var(transaction("seen"), seen)?;
                continue;
            }
            reply.set_var(transaction("yes"), true)?;
            reply.set_var(transaction("no"), false)?;
            reply.set_var(transaction("negative"), -5_i64)?;
            reply.set_var(transaction("small"), TypedData::Int32(-1))?;
            reply.set_var(transaction("large"), i64::MAX)?;
            reply.set_var(transaction("v4"), Ipv4Addr::new(192, 0, 2, 1))?;
            let v6 = "2001:db8::1".parse::<Ipv6Addr>()?;
            reply.set_var(transaction("v6"), v6)?;
            reply.set_var(transaction("text"), "word")?;
            reply.set_var(transaction("bytes"), &[0, 0x7f, 0xff][..])?;
            reply.set_var(Variable::literal(Scope::Session, "text"), "in session")?;
            reply.set_var(Variable::literal(Scope::Request, "text"), "in request")?;
            reply.set_var(transaction("gone"), "set first")?;
            reply.unset_var(transaction("gone"))?;
            reply.set_var(transaction("null"), "set first")?;
            reply.set_var(transaction("null"), TypedData::Null)?;
        }
        Ok(())
    }

    let expected = [
        ("x-yes", "var(txn.t.yes)", "1"),
        ("x-no", "var(txn.t.no)", "0"),
        ("x-negative", "var(txn.t.negative)", "-5"),
        ("x-small", "var(txn.t.small)", "-1"),
        ("x-large", "var(txn.t.large)", "9223372036854775807"),
        ("x-v4", "var(txn.t.v4)", "192.0.2.1"),
        ("x-v6", "var(txn.t.v6)", "2001:db8::1"),
        ("x-text", "var(txn.t.text)", "word"),
        ("x-bytes", "var(txn.t.bytes),hex", "007FFF"),
        ("x-session", "var(sess.t.text)", "in session"),
        ("x-gone", "var(txn.t.gone)", ""),
        ("x-null", "var(txn.t.null)", ""),
        ("x-status", "var(res.t.status)", "200"),
        ("x-seen", "var(txn.t.seen)", "-5"),
    ];
    let mut lines =
        String::from("http-request set-var(txn.in_request) var(req.t.text)\n    http-response");
    lines.push_str(" set-header x-request \"%[var(txn.in_request)]\"\n    ");
    for (name, expression, _) in [("x-error", "var(txn.t.error)", "")]
        .iter()
        .chain(&expected)
    {
        lines.push_str(&format!(
            "http-response set-header {name} \"%[{expression}]\"\n    "
        ));
    }
    let served = Served::start(agent);
    let config = Config {
        frontend: lines,
        agent: "messages request response",
        messages: "spoe-message request
    args path=path
    event on-frontend-http-request
spoe-message response
    args status=status seen=var(txn.t.negative)
    event on-http-response",
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    let response = haproxy.get("/");
    response.assert_passed();
    assert_eq!(response.header("x-request"), "in request");
    for (name, _, value) in expected {
        assert_eq!(response.header(name), value, "{name}: {response:?}");
    }
    drop(haproxy);
    assert_eq!(served.finish().notifies, 2);
}

pub(crate) fn unnamed_arguments_arrive_in_order(version: Version) {
    /// `name:type=value` of each argument.
    fn agent(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let mut seen = Vec::new();
        while let Some(message) = messages.next_message()? {
            for argument in message {
                let argument = argument?;
                let name = std::str::from_utf8(argument.name)?;
                seen.push(match argument.value {
                    TypedData::String(text) => format!("{name}:{}", std::str::from_utf8(text)?),
                    other => format!("{name}:{other:?}"),
                });
            }
        }
        reply.set_var(transaction("seen"), &*seen.join(" "))?;
        Ok(())
    }

    let served = Served::start(agent);
    let config = Config {
        frontend: respond(&[("x-seen", "var(txn.t.seen)")]),
        messages: "spoe-message request
    args method path int(-5) named=str(x) bool(true) ipv4(192.0.2.1) req.hdr(none) str()
    event on-frontend-http-request",
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    let response = haproxy.get("/some/path");
    assert_eq!(
        response.assert_passed().header("x-seen"),
        ":GET :/some/path :Int64(-5) named:x :Bool(true) :Ipv4(192.0.2.1) :Null :"
    );
    drop(haproxy);
    assert_eq!(served.finish().notifies, 1);
}

pub(crate) fn two_messages_on_one_event_share_a_notify(version: Version) {
    /// The names of the messages, and of each its argument.
    fn agent(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let mut seen = Vec::new();
        while let Some(mut message) = messages.next_message()? {
            let name = std::str::from_utf8(message.name())?;
            let argument = message.next_argument()?.ok_or("no argument")?;
            seen.push(format!("{name}={}", argument.value.as_str().unwrap_or("?")));
        }
        reply.set_var(transaction("seen"), &*seen.join(" "))?;
        Ok(())
    }

    let served = Served::start(agent);
    let config = Config {
        frontend: respond(&[("x-seen", "var(txn.t.seen)")]),
        agent: "messages first second",
        messages: "spoe-message first
    args path=path
    event on-frontend-http-request
spoe-message second
    args method=method path=path
    event on-frontend-http-request if { path /both }",
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    let both = haproxy.get("/both");
    assert_eq!(
        both.assert_passed().header("x-seen"),
        "first=/both second=GET"
    );
    let one = haproxy.get("/one");
    assert_eq!(one.assert_passed().header("x-seen"), "first=/one");
    drop(haproxy);
    assert_eq!(served.finish().notifies, 2);
}

/// Splits `req.hdrs_bin`: names and values in turn, each behind its length, until two empty ones.
fn headers_of(mut blob: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut next = || {
        let (len, used) = decode_varint(blob).expect("a length");
        let len = usize::try_from(len).expect("a length in memory");
        let (field, rest) = blob[used..].split_at(len);
        blob = rest;
        field.to_vec()
    };
    let mut headers = Vec::new();
    loop {
        let (name, value) = (next(), next());
        if name.is_empty() && value.is_empty() {
            break;
        }
        let name = String::from_utf8(name).expect("header names are ASCII");
        headers.push((name, value));
    }
    assert!(blob.is_empty(), "{} bytes behind the end", blob.len());
    headers
}

/// `req.hdrs_bin` as binary and one value of it as string, sent back as they came.
pub(crate) fn header_blobs_keep_every_byte(version: Version) {
    fn agent(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let mut message = messages.next_message()?.ok_or("no message")?;
        let blob = message.next_argument()?.ok_or("no blob")?.value;
        let value = message.next_argument()?.ok_or("no value")?.value;
        let types = format!("{} {}", blob.type_name(), value.type_name());
        reply.set_var(transaction("blob"), blob)?;
        reply.set_var(transaction("value"), value)?;
        reply.set_var(transaction("types"), &*types)?;
        Ok(())
    }

    let served = Served::start(agent);
    let config = Config {
        frontend: respond(&[
            ("x-blob", "var(txn.t.blob),hex"),
            ("x-value", "var(txn.t.value),hex"),
            ("x-types", "var(txn.t.types)"),
        ]),
        messages: "spoe-message request
    args headers=req.hdrs_bin value=req.fhdr(x-latin)
    event on-frontend-http-request",
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    // "café" in Latin-1, an overlong UTF-8 form, a lone continuation byte, and all high bytes.
    let latin = b"caf\xe9 \xff \xc0\xaf \x80";
    let high: Vec<u8> = (0x80..=0xff).collect();
    let request = Request::get("/")
        .header("x-latin", latin)
        .header("x-empty", "")
        .header("x-high", &high)
        .header("x-long", vec![0xfe; 2_500]);
    let response = haproxy.send(&request);
    response.assert_passed();
    assert_eq!(response.header("x-types"), "BINARY STRING");
    assert_eq!(from_hex(response.header("x-value")), latin);
    // Without `connection`, which HAProxy has taken out by then.
    let expected: [(&str, &[u8]); 5] = [
        ("host", b"test"),
        ("x-latin", latin),
        ("x-empty", b""),
        ("x-high", &high),
        // A length that takes three bytes.
        ("x-long", &[0xfe; 2_500]),
    ];
    let headers = headers_of(&from_hex(response.header("x-blob")));
    let names = headers.iter().map(|(name, _)| name);
    assert!(names.eq(expected.map(|(name, _)| name)), "{headers:?}");
    for ((name, value), (_, expected)) in headers.iter().zip(expected) {
        let (value, expected) = (value.escape_ascii(), expected.escape_ascii());
        assert_eq!(value.to_string(), expected.to_string(), "{name}");
    }
    drop(haproxy);
    assert_eq!(served.finish().notifies, 1);
}

/// `req.hdrs` and `req.hdrs_bin` of one request read the same, as the client sent it.
pub(crate) fn both_forms_of_headers_agree(version: Version) {
    /// The headers as `name=value` in lines, and of the cookies only the values.
    fn agent(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
        let mut message = messages.next_message()?.ok_or("no message")?;
        let text = message.next_argument()?.ok_or("no text")?.value;
        let binary = message.next_argument()?.ok_or("no binary")?.value;
        let types = format!("{} {}", text.type_name(), binary.type_name());
        let (text, binary) = (Headers::from_value(text)?, Headers::from_value(binary)?);
        let mut lines = Vec::new();
        for header in text {
            lines.extend_from_slice(&[header.name, b"=", header.value, b"\n"].concat());
        }
        let mut cookies = Vec::new();
        for cookie in binary.cookies() {
            cookies.extend_from_slice(&[cookie.value, b"\n"].concat());
        }
        reply.set_var(transaction("types"), &*types)?;
        reply.set_var(transaction("equal"), text == binary)?;
        reply.set_var(transaction("headers"), &*lines)?;
        reply.set_var(transaction("cookies"), &*cookies)?;
        Ok(())
    }

    let served = Served::start(agent);
    let config = Config {
        frontend: respond(&[
            ("x-types", "var(txn.t.types)"),
            ("x-equal", "var(txn.t.equal)"),
            ("x-headers", "var(txn.t.headers),hex"),
            ("x-cookies", "var(txn.t.cookies),hex"),
        ]),
        messages: "spoe-message request
    args text=req.hdrs binary=req.hdrs_bin
    event on-frontend-http-request",
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    let request = Request::get("/")
        .header("X-Case", "Kept: here")
        .header("x-empty", "")
        .header("x-blank", " \t v \t ")
        .header("x-folded", "a\r\n b")
        .header("x-latin", b"caf\xe9 \xff")
        .header("Cookie", "a=1; b=\"2\"")
        .header("x-long", vec![b'v'; 2_500])
        .header("cookie", "c=3;d");
    let response = haproxy.send(&request);
    response.assert_passed();
    assert_eq!(response.header("x-types"), "STRING BINARY");
    assert_eq!(response.header("x-equal"), "1");
    let headers = from_hex(response.header("x-headers"));
    let long = [b"x-long=".to_vec(), vec![b'v'; 2_500]].concat();
    // The line break of a folded header is blanks by then, and `connection` was taken out.
    let expected: [&[u8]; 9] = [
        b"host=test",
        b"x-case=Kept: here",
        b"x-empty=",
        b"x-blank=v",
        b"x-folded=a   b",
        b"x-latin=caf\xe9 \xff",
        b"cookie=a=1; b=\"2\"",
        &long,
        b"cookie=c=3;d",
    ];
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    assert_eq!(
        shown(&headers),
        shown(&[&expected.join(&b'\n')[..], b"\n"].concat())
    );
    assert_eq!(from_hex(response.header("x-cookies")), b"1\n\"2\"\n3\n");
    drop(haproxy);
    assert_eq!(served.finish().notifies, 1);
}

/// FNV-1a: enough to see that no byte is missing, doubled or in another place.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `len` bytes of all values, without a period that a mistake could hide in.
fn body(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}

/// Length and checksum of each argument, as the agent and the test write it.
fn digest(bytes: &[u8]) -> String {
    format!("{}:{:016x}", bytes.len(), checksum(bytes))
}

fn digesting(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
    let mut digests = Vec::new();
    while let Some(message) = messages.next_message()? {
        for argument in message {
            let bytes = argument?.value.as_bytes().ok_or("not bytes")?;
            digests.push(digest(bytes));
        }
    }
    reply.set_var(transaction("digests"), &*digests.join(" "))?;
    Ok(())
}

pub(crate) fn post_bodies_arrive_whole(version: Version) {
    let served = Served::start(digesting);
    let config = Config {
        frontend: format!(
            "option http-buffer-request\n    {}",
            respond(&[("x-digests", "var(txn.t.digests)")])
        ),
        messages: "spoe-message request
    args body=req.body
    event on-frontend-http-request",
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    let sizes = [0, 1, 1_000, 10_000];
    for size in sizes {
        let body = body(size);
        let response = haproxy.send(&Request::post("/", body.clone()));
        assert_eq!(
            response.assert_passed().header("x-digests"),
            digest(&body),
            "{size} bytes"
        );
    }
    drop(haproxy);
    assert_eq!(served.finish().notifies, sizes.len() as u64);
}

/// A body larger than a frame. Up to 3.0 it comes in fragments, and the agent sees one message;
/// from 3.1 on HAProxy sends nothing and says so, and the connection lives on.
pub(crate) fn a_message_above_max_frame_size(version: Version) {
    large_messages(
        version,
        "messages request\n    max-frame-size 1024",
        "spoe-message request
    args body=req.body
    event on-frontend-http-request",
        1,
    );
}

/// The same with the frame size HAProxy has by default, 16 380 bytes: two copies of a body exceed
/// it.
pub(crate) fn a_message_above_the_default_max_frame_size(version: Version) {
    large_messages(
        version,
        "messages request",
        "spoe-message request
    args body=req.body again=req.body
    event on-frontend-http-request",
        2,
    );
}

fn large_messages(version: Version, agent: &'static str, messages: &'static str, copies: usize) {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let served = Served::start(move |messages: &mut Messages<'_>, reply: &mut Reply<'_>| {
        counted.fetch_add(1, Ordering::Relaxed);
        digesting(messages, reply)
    });
    let config = Config {
        frontend: format!(
            "option http-buffer-request\n    {}",
            respond(&[("x-digests", "var(txn.t.digests)")])
        ),
        agent,
        messages,
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    let (small, large) = (body(100), body(12_000));
    let digests = |body| vec![digest(body); copies].join(" ");
    let mut expected_calls = 0;
    for _ in 0..3 {
        let response = haproxy.send(&Request::post("/small", small.clone()));
        expected_calls += 1;
        assert_eq!(
            response.assert_passed().header("x-digests"),
            digests(&small)
        );
        let response = haproxy.send(&Request::post("/large", large.clone()));
        if version.has_multiplexer() {
            // Error 3: too big.
            assert_eq!(response.header("x-error"), "3", "{response:?}");
            assert_eq!(response.header("x-digests"), "");
        } else {
            expected_calls += 1;
            assert_eq!(
                response.assert_passed().header("x-digests"),
                digests(&large)
            );
        }
        assert_eq!(calls.load(Ordering::Relaxed), expected_calls);
    }
    drop(haproxy);
    let stats = served.finish();
    assert_eq!(stats.notifies, expected_calls);
    if version.has_multiplexer() {
        assert_eq!(stats.connections, 1, "{stats:?}");
    }
}

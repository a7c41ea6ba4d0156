//! The types that `ringspoa check` says arguments have are the ones that HAProxy sends.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use ringspoa::haproxy_config::sample_types;
use ringspoa::spop::Messages;
use ringspoa::{AgentError, Reply, ValueTypes};

use crate::fixture::{Config, Haproxy, Served, Version, respond};
use crate::http::Request;

/// Fetches and converters, without double quotes and dollars.
const EXPRESSIONS: &[&str] = &[
    "src",
    "src,ipmask(24,64)",
    "src,lower",
    "src_port",
    "dst",
    "dst_port",
    "ssl_fc",
    "fe_name",
    "fe_id",
    "fc_rcvd_proxy",
    "method",
    "method,lower",
    "path",
    "path,length",
    "path,bytes(1)",
    "pathq",
    "query",
    "url",
    "url,url_dec",
    "url_param(a)",
    "urlp_val(n)",
    "base",
    "base32",
    "base32+src",
    "req.ver",
    "req.hdr(x-text)",
    "req.hdr(x-text),upper",
    "req.hdr(x-none)",
    "req.fhdr(x-text)",
    "req.hdr_cnt(x-text)",
    "req.hdr_ip(x-ip)",
    "req.hdr_val(x-number)",
    "req.hdr_names",
    "req.hdrs",
    "req.hdrs_bin",
    "req.cook(c)",
    "req.cook_val(n)",
    "req.cook_cnt(c)",
    "req.body",
    "req.body,sha1",
    "req.body,sha1,hex",
    "req.body,base64",
    "req.body_len",
    "req.body_size",
    "req.body_param(a)",
    "http_auth_user",
    "http_first_req",
    "unique-id",
    "uuid",
    "date",
    "date,http_date",
    "date,ltime(%Y)",
    "rand(5)",
    "nbsrv(proxied)",
    "always_true",
    "bool(1)",
    "int(7)",
    "int(7),add(1)",
    "int(7),even",
    "int(7),htonl",
    "str(text)",
    "str(5),bool",
    "str(ff),hex2i",
    "str(YQ==),b64dec",
    "str(a b),word(1,b)",
    "str(a),concat(b)",
    "str(a),crc32",
    "str(a),xxh64",
    "str(a),sha2",
    "str(a),json",
    "str(a),set-var(txn.a)",
    "bin(6162)",
    "bin(6162),hex",
    "bin(6162),bytes(1)",
    "bool(1),iif(yes,no)",
    "ipv4(192.0.2.1)",
    "ipv6(2001:db8::1)",
    "sc0_tracked",
    "capture.req.ver",
    "var(txn.none),lower",
];

type Seen = Arc<Mutex<Vec<(usize, ValueTypes)>>>;

pub(crate) fn arguments_have_the_types_that_are_expected(version: Version) {
    let seen = Seen::default();
    let into = Arc::clone(&seen);
    let agent = move |messages: &mut Messages<'_>, _: &mut Reply<'_>| -> Result<(), AgentError> {
        while let Some(message) = messages.next_message()? {
            for argument in message {
                let argument = argument?;
                let index = std::str::from_utf8(argument.name)?.parse()?;
                let types = ValueTypes::of(&argument.value);
                into.lock().unwrap().push((index, types));
            }
        }
        Ok(())
    };
    let mut lines = String::from("spoe-message request\n");
    for (index, expression) in EXPRESSIONS.iter().enumerate() {
        writeln!(lines, "    args \"{index}={expression}\"").unwrap();
    }
    lines.push_str("    event on-frontend-http-request\n");

    let served = Served::start(agent);
    let config = Config {
        bind: "accept-proxy",
        backend: "option spop-check",
        frontend: format!(
            "option http-buffer-request\n    unique-id-format id\n    {}",
            respond(&[])
        ),
        // Configurations of other tests are constants; this one is as long as its table.
        messages: lines.leak(),
        ..Config::default()
    };
    let haproxy = Haproxy::start(version, &served.address(), &config);
    for source in ["192.0.2.7", "2001:db8::7"] {
        let source: IpAddr = source.parse().unwrap();
        let request = Request::post("/p?a=b&n=5", b"a=1".to_vec())
            .header("x-text", "text")
            .header("x-number", "5")
            .header("x-ip", source.to_string())
            .header("cookie", "c=1; n=5")
            .header("authorization", "Basic dTpw")
            .header("content-type", "application/x-www-form-urlencoded")
            .behind_proxy(source);
        let response = haproxy.send(&request);
        assert_eq!(response.status, 200);
    }
    assert_eq!(haproxy.complaints(), [""; 0]);
    drop(haproxy);
    served.finish();

    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2 * EXPRESSIONS.len());
    let mut wrong = Vec::new();
    for &(index, types) in seen.iter() {
        let expression = EXPRESSIONS[index];
        let expected =
            sample_types(expression).unwrap_or_else(|| panic!("{expression} is not known"));
        if !expected.contains(types) {
            wrong.push(format!("{expression}: {types}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Both families of addresses were there, and a header that was not.
    for types in [ValueTypes::IPV4, ValueTypes::IPV6, ValueTypes::NULL] {
        assert!(seen.iter().any(|(_, other)| *other == types), "{types}");
    }
}

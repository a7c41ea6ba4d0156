//! The binary with its own agent: who is banned gets a 403.

use std::net::IpAddr;

use crate::fixture::{Binary, Config, Folder, Haproxy, Version, respond};
use crate::http::{Request, Response};

/// A frontend that denies what the agent bans. The address is that of the PROXY protocol, or that
/// of a header where there is one.
fn denying() -> Config {
    Config {
        bind: "accept-proxy",
        frontend: format!(
            "http-request deny deny_status 403 hdr x-verdict \"%[var(txn.t.remediation)]\" \
             if {{ var(txn.t.remediation) -m str ban }}\n    {}",
            respond(&[("x-verdict", "var(txn.t.remediation)")])
        ),
        agent: "messages direct forwarded",
        messages: "spoe-message direct
    args src=src
    event on-frontend-http-request if !{ req.hdr(x-client) -m found }
spoe-message forwarded
    args ip=req.hdr(x-client)
    event on-frontend-http-request if { req.hdr(x-client) -m found }",
        ..Config::default()
    }
}

#[track_caller]
fn assert_verdict(response: &Response, address: &str, banned: bool) {
    let (status, verdict) = if banned { (403, "ban") } else { (200, "allow") };
    assert_eq!(
        (response.status, response.header("x-verdict")),
        (status, verdict),
        "{address}: {response:?}"
    );
}

fn verdicts(version: Version, flags: &[&str], folder: &Folder, cases: &[(&str, bool)]) {
    let socket = folder.file("spop.sock").display().to_string();
    let binary = Binary::start(folder, &format!("unix:{socket}"), flags);
    let haproxy = Haproxy::start(version, &format!("unix@{socket}"), &denying());
    for &(address, banned) in cases {
        let ip: IpAddr = address.parse().expect("an address");
        let response = haproxy.send(&Request::get("/").behind_proxy(ip));
        assert_verdict(&response, address, banned);
        // As text, from a header, while the connection itself comes from an address that is not
        // banned.
        let request = Request::get("/")
            .behind_proxy("10.1.1.1".parse().expect("an address"))
            .header("x-client", address);
        assert_verdict(&haproxy.send(&request), address, banned);
    }
    drop(haproxy);
    binary.finish();
}

/// Without a list, the documentation networks are banned.
pub(crate) fn ban_is_answered_403(version: Version) {
    let cases = [
        ("192.0.2.1", true),
        ("198.51.100.255", true),
        ("203.0.113.77", true),
        ("2001:db8::1", true),
        ("10.0.0.1", false),
        ("192.0.3.0", false),
        ("2001:db9::1", false),
    ];
    verdicts(version, &[], &Folder::new(), &cases);
}

pub(crate) fn ban_list_is_followed(version: Version) {
    let folder = Folder::new();
    let list = folder.write(
        "bans.txt",
        "# of this test\n10.9.0.0/16\n10.8.8.8\nfd00:1::/32  # a network\n",
    );
    let list = list.display().to_string();
    let cases = [
        ("10.9.255.255", true),
        ("10.8.8.8", true),
        ("fd00:1:2::3", true),
        ("10.10.0.0", false),
        ("10.8.8.9", false),
        ("fd00:2::", false),
        // Those that are banned where there is no list.
        ("192.0.2.1", false),
    ];
    verdicts(version, &["--ban-list", &list], &folder, &cases);
}

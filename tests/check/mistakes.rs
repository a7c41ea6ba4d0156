//! Mistakes, each a small change of the samples: found with its id, in its file and line, and nothing
//! else found. What a finding says of HAProxy is asked of HAProxy.

use std::collections::BTreeSet;
use std::time::Duration;

use ringspoa::haproxy_config::{CheckOptions, ConfigFile, Finding, IDS, Severity, check};

use crate::fixture::{Folder, INSTALLED, Verdict, Whom, haproxy, samples};

use File::{Engine, Main};
use Verdict::{Accepts, Refuses, Warns};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Main,
    Engine,
}

impl File {
    const fn name(self) -> &'static str {
        match self {
            Self::Main => "haproxy.cfg",
            Self::Engine => "spoe.cfg",
        }
    }
}

/// A change of one file: this text for that.
type Edit = (File, &'static str, &'static str);

struct Mistake {
    /// What must be found.
    id: &'static str,
    severity: Severity,
    version: &'static str,
    edits: Vec<Edit>,
    /// The file, and a text of the line it is found in.
    at: (File, &'static str),
    /// What HAProxy says, where that version is installed.
    verdict: Verdict,
    whom: Whom,
    options: fn(CheckOptions) -> CheckOptions,
    /// What else comes of it.
    companions: &'static [&'static str],
}

impl Mistake {
    fn edit(mut self, file: File, from: &'static str, to: &'static str) -> Self {
        self.edits.push((file, from, to));
        self
    }

    fn haproxy(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    fn against(mut self, whom: Whom) -> Self {
        self.whom = whom;
        self
    }

    fn with(mut self, options: fn(CheckOptions) -> CheckOptions) -> Self {
        self.options = options;
        self
    }

    fn and(mut self, companions: &'static [&'static str]) -> Self {
        self.companions = companions;
        self
    }
}

fn mistake(
    severity: Severity,
    id: &'static str,
    version: &'static str,
    at: (File, &'static str),
) -> Mistake {
    Mistake {
        id,
        severity,
        version,
        edits: Vec::new(),
        at,
        verdict: Accepts,
        whom: Whom::Ours,
        options: |options| options,
        companions: &[],
    }
}

fn error(id: &'static str, version: &'static str, at: (File, &'static str)) -> Mistake {
    mistake(Severity::Error, id, version, at)
}

fn warning(id: &'static str, version: &'static str, at: (File, &'static str)) -> Mistake {
    mistake(Severity::Warning, id, version, at)
}

fn note(id: &'static str, version: &'static str, at: (File, &'static str)) -> Mistake {
    mistake(Severity::Note, id, version, at)
}

const FILTER: &str = "    filter spoe engine ringspoa config spoe.cfg\n";
const DENY: &str =
    "    http-request deny deny_status 403 if { var(txn.ringspoa.remediation) -m str ban }\n";
const SERVER: &str = "unix@/run/ringspoa/ringspoa.sock check";
const EVENT: &str = "    event on-frontend-http-request\n";
const BACKEND: &str = "    use-backend spoe-ringspoa\n";

/// Another engine below ours.
const SECOND: &str = "    event on-frontend-http-request
[second]
spoe-agent second
    messages check-path
    option set-on-error error
    timeout hello 1s
    timeout idle 60s
    timeout processing 100ms
    use-backend spoe-ringspoa

spoe-message check-path
    args path=path
    event on-frontend-http-request
";
const TWO_FILTERS: &str = "    filter spoe engine ringspoa config spoe.cfg
    filter spoe engine second config spoe.cfg
";
const SEND_GROUP: &str = "    filter spoe engine ringspoa config spoe.cfg
    http-request send-spoe-group ringspoa addresses
";
const GROUP: &str = "spoe-group addresses
    messages check-client-ip

spoe-message check-client-ip
";

fn files() -> Vec<Mistake> {
    vec![
        warning("file-unknown", "3.2", (Engine, "# SPOE engine"))
            .edit(Engine, "spoe-agent ", "agent ")
            .edit(Engine, "spoe-message ", "message ")
            .haproxy(Refuses)
            .and(&["engine-not-found"]),
        error("syntax", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=\"src")
            .haproxy(Refuses),
        error("syntax", "2.6", (Engine, "# more"))
            .edit(Engine, "    event on-frontend-http-request\n", "    event on-frontend-http-request\n# more")
            .haproxy(Refuses),
        error("syntax", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=src # \0")
            .haproxy(Refuses),
        error("syntax", "3.0", (Engine, "event"))
            .edit(Engine, "on-frontend-http-request", LONG_EVENT)
            .haproxy(Refuses),
        error("syntax", "2.6", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=src ipmask(24)")
            .and(&["argument-unnamed"])
            .haproxy(Refuses),
        error("syntax", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=src ipmask(24)")
            .and(&["argument-unnamed"])
            .haproxy(Refuses),
        error("syntax", "3.2", (Engine, "[ring"))
            .edit(Engine, "[ringspoa]", "[ring spoa]")
            .haproxy(Refuses)
            .and(&["engine-not-found"]),
        error("syntax", "2.6", (Engine, "spoe-message"))
            .edit(Engine, "spoe-message check-client-ip", "spoe-message check-client-ip now")
            .haproxy(Refuses),
        error("syntax", "3.0", (Engine, "event"))
            .edit(Engine, EVENT, "    event on-frontend-http-request { src 192.0.2.1 }\n")
            .haproxy(Refuses),
        error("section-misplaced", "3.2", (Main, "spoe-message other"))
            .edit(Main, "\nbackend app\n", "\nspoe-message other\n    args ip=src\n\nbackend app\n")
            .haproxy(Refuses),
        error("keyword-unknown", "3.0", (Engine, "message "))
            .edit(Engine, "    messages ", "    message ")
            .haproxy(Refuses)
            .and(&["messages-missing", "message-unused"]),
        error("keyword-unknown", "3.2", (Engine, "option     set-on-eror"))
            .edit(Engine, "set-on-error", "set-on-eror")
            .haproxy(Refuses)
            .and(&["set-on-error-missing"]),
        error("keyword-unknown", "3.2", (Engine, "no option"))
            .edit(Engine, "option     set-on-error error", "no option set-on-error")
            .haproxy(Refuses)
            .and(&["set-on-error-missing"]),
        error("keyword-unknown", "2.8", (Engine, "timeout    connect"))
            .edit(Engine, "timeout    hello ", "timeout    connect ")
            .haproxy(Refuses)
            .and(&["timeout-hello-missing"]),
        error("keyword-unknown", "2.8", (Engine, "log global"))
            .edit(Engine, "[ringspoa]", "[ringspoa]\n    log global")
            .haproxy(Refuses),
        // HAProxy does not mind, and sends the message without arguments.
        warning("keyword-unknown", "3.2", (Engine, "arg "))
            .edit(Engine, "    args ", "    arg ")
            .and(&["argument-missing"]),
        note("keyword-ignored", "3.2", (Engine, "max-waiting-frames"))
            .edit(Engine, BACKEND, "    max-waiting-frames 50\n    use-backend spoe-ringspoa\n"),
        note("keyword-ignored", "3.2", (Engine, "maxconnrate"))
            .edit(Engine, BACKEND, "    maxconnrate 50\n    use-backend spoe-ringspoa\n"),
        note("keyword-ignored", "3.2", (Engine, "timeout idle"))
            .edit(Engine, BACKEND, "    timeout idle 60s\n    use-backend spoe-ringspoa\n"),
        note("keyword-ignored", "3.2", (Engine, "option async"))
            .edit(Engine, BACKEND, "    option async\n    use-backend spoe-ringspoa\n"),
        error("value-invalid", "3.2", (Engine, "timeout    processing"))
            .edit(Engine, "100ms", "25d")
            .and(&["timeout-server-short"])
            .haproxy(Refuses),
        error("value-invalid", "3.2", (Engine, "timeout    processing"))
            .edit(Engine, "100ms", "0.1s")
            .haproxy(Refuses),
        error("value-invalid", "3.2", (Engine, "option     set-on-error"))
            .edit(Engine, "set-on-error error", "set-on-error")
            .haproxy(Refuses),
        note("not-checked", "3.2", (Main, ".if"))
            .edit(Main, DENY, ".if defined(BLOCK)\n    http-request deny\n.else\n.endif\n    http-request deny deny_status 403 if { var(txn.ringspoa.remediation) -m str ban }\n"),
        // Of an engine that no agent here is for: the prefix is known all the same.
        warning("variable-prefix", "3.2", (Main, "txn.secnod.score"))
            .edit(Main, FILTER, "    filter spoe engine ringspoa config spoe.cfg\n    filter spoe engine second config spoe.cfg\n    http-request deny if { var(txn.secnod.score) -m int gt 9 }\n    http-request set-var(txn.secon.own) bool(true)\n    http-request deny if { var(txn.secon.other) -m found }\n")
            .edit(Main, "backend spoe-ringspoa\n", "backend spoe-second\n    mode spop\n    option spop-check\n    timeout connect 1s\n    server second 127.0.0.1:9001 check\n\nbackend spoe-ringspoa\n")
            .edit(Engine, EVENT, "    event on-frontend-http-request\n[second]\nspoe-agent second\n    messages check-path\n    option set-on-error error\n    timeout processing 100ms\n    use-backend spoe-second\n\nspoe-message check-path\n    args path=path\n    event on-frontend-http-request\n")
            .and(&["agent-unknown"]),
        note("agent-unknown", "3.2", (Engine, "[second]"))
            .edit(Main, FILTER, TWO_FILTERS)
            .edit(Main, "backend spoe-ringspoa\n", "backend spoe-second\n    mode spop\n    option spop-check\n    timeout connect 1s\n    server second 127.0.0.1:9001 check\n\nbackend spoe-ringspoa\n")
            .edit(Engine, EVENT, "    event on-frontend-http-request\n[second]\nspoe-agent second\n    messages check-path\n    option set-on-error error\n    timeout processing 100ms\n    use-backend spoe-second\n\nspoe-message check-path\n    args path=path\n    event on-frontend-http-request\n"),
    ]
}

fn engines() -> Vec<Mistake> {
    vec![
        error("engine-not-found", "3.2", (Main, "filter"))
            .edit(Engine, "[ringspoa]", "[ringspooa]")
            .haproxy(Refuses)
            .and(&["engine-unused"]),
        error("engine-not-found", "3.0", (Main, "filter"))
            .edit(Main, "engine ringspoa ", "")
            .haproxy(Refuses)
            .and(&["engine-unused"]),
        error("engine-not-found", "2.6", (Main, "filter"))
            .edit(Engine, "[ringspoa]\n", "")
            .haproxy(Refuses)
            .and(&["engine-unused"]),
        // One of two filters of a file that has the other's engine.
        error("engine-not-found", "3.2", (Main, "engine second"))
            .edit(Main, FILTER, TWO_FILTERS)
            .haproxy(Refuses),
        note("engine-not-given", "3.2", (Main, "other.cfg"))
            .edit(Main, FILTER, "    filter spoe engine ringspoa config spoe.cfg\n    filter spoe engine other config other.cfg\n")
            .haproxy(Refuses),
        warning("engine-unused", "3.0", (Engine, "[second]")).edit(Engine, EVENT, SECOND),
        error("engine-duplicate", "3.0", (Main, "    filter spoe config spoe.cfg engine ringspoa"))
            .edit(Main, FILTER, "    filter spoe engine ringspoa config spoe.cfg\n    filter spoe config spoe.cfg engine ringspoa\n")
            .haproxy(Refuses),
        error("engine-duplicate", "3.2", (Engine, "spoe-agent second"))
            .edit(Engine, "spoe-message", "spoe-agent second\n    use-backend spoe-ringspoa\n\nspoe-message")
            .haproxy(Refuses),
        error("filter-invalid", "3.2", (Main, "filter"))
            .edit(Main, FILTER, "    filter spoe engine ringspoa\n")
            .haproxy(Refuses),
        error("filter-invalid", "3.2", (Main, "filter"))
            .edit(Main, FILTER, "")
            .edit(Main, "    mode http\n", "    mode http\n    filter spoe engine ringspoa config spoe.cfg\n")
            .haproxy(Refuses)
            .and(&["engine-unused"]),
    ]
}

fn messages() -> Vec<Mistake> {
    vec![
        warning("messages-missing", "3.2", (Engine, "spoe-agent"))
            .edit(Engine, "    messages   check-client-ip\n", "")
            .haproxy(Warns)
            .and(&["message-unused"]),
        error("message-undefined", "2.6", (Engine, "messages "))
            .edit(Engine, "messages   check-client-ip", "messages check-client-ip check-path")
            .haproxy(Refuses),
        error("message-undefined", "3.2", (Engine, "    messages check-client\n"))
            .edit(Main, FILTER, SEND_GROUP)
            .edit(Engine, BACKEND, "    groups addresses\n    use-backend spoe-ringspoa\n")
            .edit(Engine, "spoe-message", "spoe-group addresses\n    messages check-client\n\nspoe-message")
            .haproxy(Refuses),
        warning("message-unused", "3.2", (Engine, "spoe-message check-path"))
            .edit(Engine, EVENT, "    event on-frontend-http-request\n\nspoe-message check-path\n    args ip=src\n    event on-client-session\n"),
        error("message-duplicate", "3.2", (Engine, "messages "))
            .edit(Engine, "messages   check-client-ip", "messages check-client-ip check-client-ip")
            .haproxy(Refuses),
        error("message-duplicate", "3.0", (Engine, "spoe-message check-client-ip # again"))
            .edit(Engine, EVENT, "    event on-frontend-http-request\nspoe-message check-client-ip # again\n    args ip=src\n    event on-client-session\n")
            .haproxy(Refuses),
        error("message-duplicate", "3.2", (Engine, "    messages check-client-ip # too"))
            .edit(Main, FILTER, "    filter spoe engine ringspoa config spoe.cfg\n    http-request send-spoe-group ringspoa addresses\n    http-request send-spoe-group ringspoa others\n")
            .edit(Engine, BACKEND, "    groups addresses others\n    use-backend spoe-ringspoa\n")
            .edit(Engine, "spoe-message check-client-ip\n", "spoe-group addresses\n    messages check-client-ip\n\nspoe-group others\n    messages check-client-ip # too\n\nspoe-message check-client-ip\n")
            .haproxy(Refuses),
        warning("message-without-event", "3.2", (Engine, "spoe-message"))
            .edit(Engine, EVENT, "")
            .haproxy(Warns),
        error("message-unknown", "3.2", (Engine, "spoe-message"))
            .edit(Engine, "messages   check-client-ip", "messages check-client")
            .edit(Engine, "spoe-message check-client-ip", "spoe-message check-client")
            .against(Whom::Strict),
        warning("message-unknown", "2.6", (Engine, "spoe-message"))
            .edit(Engine, "messages   check-client-ip", "messages check-clint-ip")
            .edit(Engine, "spoe-message check-client-ip", "spoe-message check-clint-ip")
            .against(Whom::Lenient),
        error("group-undefined", "3.2", (Engine, "groups addresses"))
            .edit(Engine, BACKEND, "    groups addresses\n    use-backend spoe-ringspoa\n")
            .haproxy(Refuses),
        error("group-undefined", "3.0", (Main, "send-spoe-group"))
            .edit(Main, FILTER, SEND_GROUP)
            .haproxy(Refuses),
        error("group-undefined", "3.2", (Main, "send-spoe-group"))
            .edit(Main, FILTER, "    filter spoe engine ringspoa config spoe.cfg\n    http-request send-spoe-group ringsopa addresses\n")
            .haproxy(Refuses),
        error("group-unlisted", "3.2", (Main, "send-spoe-group"))
            .edit(Main, FILTER, SEND_GROUP)
            .edit(Engine, "spoe-message check-client-ip\n", GROUP)
            .haproxy(Refuses),
        warning("group-unlisted", "3.2", (Engine, "spoe-group"))
            .edit(Engine, "spoe-message check-client-ip\n", GROUP),
        warning("group-not-sent", "3.2", (Engine, "groups addresses"))
            .edit(Engine, "messages   check-client-ip", "groups addresses")
            .edit(Engine, "spoe-message check-client-ip\n", GROUP)
            .edit(Engine, EVENT, ""),
        warning("inspect-delay-missing", "3.2", (Main, "send-spoe-group"))
            .edit(Main, "frontend www\n", "frontend www\n    mode tcp\n")
            .edit(Main, FILTER, "    filter spoe engine ringspoa config spoe.cfg\n    tcp-request content send-spoe-group ringspoa addresses\n")
            .edit(Main, DENY, "    tcp-request content reject if { var(txn.ringspoa.remediation) -m str ban }\n")
            .edit(Main, "\nbackend app\n", "\nbackend app\n    mode tcp\n")
            .edit(Engine, "messages   check-client-ip", "groups addresses")
            .edit(Engine, "spoe-message check-client-ip\n", GROUP)
            .edit(Engine, EVENT, ""),
        error("event-unknown", "3.2", (Engine, "event"))
            .edit(Engine, "on-frontend-http-request", "on-fronted-http-request")
            .haproxy(Refuses),
        warning("event-unfit", "3.2", (Engine, "event"))
            .edit(Main, "frontend www\n", "frontend www\n    mode tcp\n")
            .edit(Main, DENY, "    tcp-request content reject if { var(txn.ringspoa.remediation) -m str ban }\n")
            .edit(Main, "\nbackend app\n", "\nbackend app\n    mode tcp\n"),
        warning("event-unfit", "3.0", (Engine, "event"))
            .edit(Main, FILTER, "")
            .edit(Main, "    server app1", "    filter spoe engine ringspoa config spoe.cfg\n    server app1")
            .haproxy(Warns),
    ]
}

fn arguments() -> Vec<Mistake> {
    vec![
        error("argument-missing", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ua=str(x)")
            .against(Whom::Strict),
        warning("argument-missing", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "client=src")
            .and(&["argument-unknown"]),
        error("argument-missing", "3.2", (Engine, "spoe-message"))
            .edit(Engine, "    args  ip=src\n", "")
            .against(Whom::Lenient),
        note("argument-unknown", "3.2", (Engine, "args")).edit(
            Engine,
            "ip=src",
            "ip=src path=path",
        ),
        warning("argument-unknown", "3.2", (Engine, "args")).edit(Engine, "ip=src", "src_ip=src"),
        error("argument-unknown", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=url_ip ua=str(x) path=path")
            .against(Whom::Strict)
            .and(&["argument-optional"]),
        warning("argument-unnamed", "3.0", (Engine, "args")).edit(Engine, "ip=src", "src"),
        warning("argument-duplicate", "3.2", (Engine, "args ip=dst")).edit(
            Engine,
            "ip=src\n",
            "ip=src\n    args ip=dst\n",
        ),
        error(
            "argument-count",
            "3.2",
            (Engine, "args =src =src =src =src =src # last"),
        )
        .edit(Engine, "args  ip=src\n", MANY_ARGUMENTS)
        .and(&["argument-unnamed"; 6]),
        error("argument-type", "3.2", (Engine, "args")).edit(Engine, "ip=src", "ip=src_port"),
        error("argument-type", "3.0", (Engine, "args")).edit(
            Engine,
            "ip=src",
            "ip=src src-ip=ssl_fc",
        ),
        error("argument-type", "2.6", (Engine, "args"))
            .edit(
                Engine,
                "ip=src",
                "ip=req.hdr_ip(x-forwarded-for)  length(1)",
            )
            .edit(Engine, "  length(1)", ",length"),
        error("argument-type", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=url_ip ua=req.body,sha1")
            .edit(
                Main,
                FILTER,
                "    option http-buffer-request\n    filter spoe engine ringspoa config spoe.cfg\n",
            )
            .against(Whom::Strict)
            .and(&["argument-optional"]),
        warning("argument-type-partial", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=src ua=str(x)")
            .against(Whom::Strict),
        warning("argument-optional", "3.2", (Engine, "args ua"))
            .edit(
                Engine,
                "ip=src\n",
                "ip=ipv4(192.0.2.1)\n    args ua=req.fhdr(user-agent)\n",
            )
            .against(Whom::Strict),
        error("sample-unavailable", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=req.hdr_ip(x-forwarded-for)")
            .edit(Engine, "on-frontend-http-request", "on-http-response")
            .haproxy(Refuses),
        error("sample-unavailable", "2.8", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=res.hdr_ip(x)")
            .haproxy(Refuses),
        error("sample-unavailable", "3.0", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=hdr_ip(x)")
            .edit(Engine, "on-frontend-http-request", "on-client-session")
            .haproxy(Refuses),
        error("sample-unavailable", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=src srv=srv_name")
            .haproxy(Refuses)
            .and(&["argument-unknown"]),
        warning("body-not-buffered", "3.2", (Engine, "args"))
            .edit(Engine, "ip=src", "ip=src body=req.body")
            .and(&["argument-unknown"]),
    ]
}

/// With the event there are 65 words.
const LONG_EVENT: &str = concat!(
    "on-frontend-http-request if TRUE TRUE",
    " TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE",
    " TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE",
    " TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE TRUE",
);

/// 255 arguments are one too few to be wrong, and these are 256.
const MANY_ARGUMENTS: &str = concat!(
    "args ip=src\n",
    "    args =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src\n",
    "    args =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src\n",
    "    args =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src\n",
    "    args =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src\n",
    "    args =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src =src\n",
    "    args =src =src =src =src =src # last\n",
);

fn times() -> Vec<Mistake> {
    vec![
        warning("timeout-processing-missing", "3.2", (Engine, "spoe-agent"))
            .edit(Engine, "    timeout    processing 100ms\n", "")
            .haproxy(Warns),
        warning("timeout-processing-missing", "3.0", (Engine, "timeout    processing"))
            .edit(Engine, "100ms", "0")
            .haproxy(Warns),
        warning("timeout-processing-short", "3.2", (Engine, "timeout    processing"))
            .with(|options| options.with_deadline(Duration::from_millis(100))),
        warning("timeout-processing-short", "2.6", (Engine, "timeout    processing"))
            .with(|options| options.with_deadline(Duration::from_millis(86))),
        warning("timeout-hello-missing", "3.0", (Engine, "spoe-agent"))
            .edit(Engine, "    timeout    hello      1s\n", "")
            .haproxy(Warns),
        warning("timeout-idle-missing", "2.6", (Engine, "timeout    idle"))
            .edit(Engine, "60s", "0s")
            .haproxy(Warns),
        // The applications' backend lacks it too, of which HAProxy warns in any version.
        warning("timeout-connect-missing", "3.2", (Main, "backend spoe-ringspoa"))
            .edit(Main, "    timeout connect 1s\n", "")
            .edit(Main, "    timeout connect 5s\n", "")
            .edit(Main, "    server app1", "    timeout connect 5s\n    server app1"),
        warning("timeout-server-missing", "3.0", (Main, "backend spoe-ringspoa"))
            .edit(Main, "    timeout server  120s\n", "")
            .edit(Main, "    timeout server  30s\n", "")
            .edit(Main, "    server app1", "    timeout server 30s\n    server app1")
            .haproxy(Warns),
        warning("timeout-server-short", "3.2", (Main, "timeout server  50ms"))
            .edit(Main, "    # Covers connecting and the HELLO.\n    timeout connect 1s\n    timeout server  30s\n", "    timeout connect 1s\n    timeout server  50ms\n"),
        warning("timeout-server-short", "3.0", (Main, "timeout server  60s"))
            .edit(Main, "timeout server  120s", "timeout server  60s"),
        // Inherited, and too short for connections to an agent.
        warning("timeout-server-short", "3.0", (Main, "timeout server  30s"))
            .edit(Main, "    timeout server  120s\n", ""),
    ]
}

fn frames() -> Vec<Mistake> {
    vec![
        error("frame-size-invalid", "3.2", (Engine, "max-frame-size"))
            .edit(
                Engine,
                BACKEND,
                "    max-frame-size 65532\n    use-backend spoe-ringspoa\n",
            )
            .haproxy(Refuses),
        error("frame-size-invalid", "2.6", (Engine, "max-frame-size"))
            .edit(
                Engine,
                BACKEND,
                "    max-frame-size 255\n    use-backend spoe-ringspoa\n",
            )
            .haproxy(Refuses),
        error("frame-size-invalid", "3.2", (Engine, "max-frame-size"))
            .edit(
                Engine,
                BACKEND,
                "    max-frame-size 4k\n    use-backend spoe-ringspoa\n",
            )
            .haproxy(Refuses),
        warning("frame-size-agent", "3.2", (Main, "tune.bufsize")).edit(
            Main,
            "defaults\n",
            "global\n    tune.bufsize 131072\n\ndefaults\n",
        ),
        warning("frame-size-agent", "3.0", (Engine, "spoe-agent"))
            .with(|options| options.with_max_frame_size(4096)),
        error("check-frame-size", "3.2", (Main, "tune.bufsize")).edit(
            Main,
            "defaults\n",
            "global\n    tune.bufsize 8192\n\ndefaults\n",
        ),
    ]
}

fn backends() -> Vec<Mistake> {
    let listening = |options: CheckOptions| {
        options.with_listen(["unix@/run/ringspoa/ringspoa.sock".to_owned()])
    };
    let on_tcp = |options: CheckOptions| options.with_listen(["127.0.0.1:9000".to_owned()]);
    vec![
        error("backend-missing", "3.2", (Engine, "use-backend"))
            .edit(Engine, "spoe-ringspoa", "spoe-ringspo")
            .haproxy(Refuses),
        error("backend-missing", "2.8", (Engine, "spoe-agent"))
            .edit(Engine, BACKEND, "")
            .haproxy(Refuses),
        error("backend-mode", "3.0", (Main, "mode spop"))
            .edit(Main, "mode tcp", "mode spop")
            .haproxy(Refuses),
        error("backend-mode", "3.2", (Main, "backend spoe-ringspoa"))
            .edit(Main, "    mode spop\n", "")
            .haproxy(Refuses),
        error("backend-mode", "2.6", (Main, "    mode http # wrong"))
            .edit(Main, "    mode tcp\n", "    mode http # wrong\n")
            .haproxy(Refuses),
        warning("backend-name", "3.2", (Main, "backend www"))
            .edit(Main, "backend spoe-ringspoa", "backend www")
            .edit(Engine, "spoe-ringspoa", "www")
            .haproxy(Warns),
        error("backend-name", "3.3", (Main, "backend www"))
            .edit(Main, "backend spoe-ringspoa", "backend www")
            .edit(Engine, "spoe-ringspoa", "www")
            .haproxy(Refuses),
        note("backend-shared", "3.2", (Engine, "    use-backend spoe-ringspoa # too"))
            .edit(Main, FILTER, TWO_FILTERS)
            .edit(Engine, EVENT, "    event on-frontend-http-request\n[second]\nspoe-agent second\n    messages check-path\n    option set-on-error error\n    timeout processing 100ms\n    use-backend spoe-ringspoa # too\n\nspoe-message check-path\n    args path=path\n    event on-frontend-http-request\n")
            .and(&["agent-unknown"]),
        warning("backend-empty", "3.2", (Main, "backend spoe-ringspoa"))
            .edit(Main, "    server ringspoa unix@/run/ringspoa/ringspoa.sock check\n", ""),
        warning("check-missing", "3.2", (Main, "server ringspoa"))
            .edit(Main, "ringspoa.sock check", "ringspoa.sock"),
        warning("check-missing", "3.0", (Main, "server ringspoa"))
            .edit(Main, "    server ringspoa unix", "    default-server check inter 1s\n    server ringspoa unix")
            .edit(Main, SERVER, "unix@/run/ringspoa/ringspoa.sock no-check"),
        warning("check-plain", "2.6", (Main, "server ringspoa"))
            .edit(Main, "    option spop-check\n", ""),
        warning("server-address", "3.2", (Main, "server ringspoa"))
            .edit(Main, SERVER, "127.0.0.1:9001 check")
            .with(on_tcp),
        warning("server-address", "3.2", (Main, "server ringspoa")).with(on_tcp),
        warning("server-address", "3.0", (Main, "server ringspoa"))
            .edit(Main, SERVER, "unix@/run/ringspoa.sock check")
            .with(listening),
        note("server-chroot", "3.2", (Main, "server ringspoa"))
            .edit(Main, "defaults\n", "global\n    chroot /var/lib/haproxy\n\ndefaults\n"),
        error("server-chroot", "3.2", (Main, "server ringspoa"))
            .edit(Main, "defaults\n", "global\n    chroot /var/lib/haproxy\n\ndefaults\n")
            .with(listening),
        error("server-chroot", "3.0", (Main, "server ringspoa"))
            .edit(Main, "defaults\n", "global\n    chroot /var/lib/haproxy/\n\ndefaults\n")
            .edit(Main, SERVER, "unix@/var/lib/haproxy/ringspoa.sock check"),
        error("server-encryption", "3.2", (Main, "server ringspoa"))
            .edit(Main, SERVER, "127.0.0.1:9000 check ssl verify none"),
        error("server-encryption", "3.0", (Main, "server ringspoa"))
            .edit(Main, SERVER, "127.0.0.1:9000 check send-proxy"),
        note("option-async", "3.0", (Engine, "option async"))
            .edit(Engine, BACKEND, "    option async\n    use-backend spoe-ringspoa\n"),
        note("option-pipelining", "3.2", (Engine, "no option pipelining"))
            .edit(Engine, BACKEND, "    no option pipelining\n    use-backend spoe-ringspoa\n"),
        note("empty-acks", "3.1", (Engine, "spoe-agent")).with(|mut options| {
            options.never_empty_acks = Some(false);
            options
        }),
    ]
}

fn variables() -> Vec<Mistake> {
    vec![
        warning("set-on-error-missing", "3.2", (Engine, "spoe-agent"))
            .edit(Engine, "    option     set-on-error error\n", ""),
        error("prefix-invalid", "3.2", (Engine, "var-prefix"))
            .edit(Engine, "var-prefix ringspoa", "var-prefix ring-spoa")
            .haproxy(Refuses),
        error("prefix-invalid", "3.0", (Engine, "spoe-agent"))
            .edit(Engine, "spoe-agent ringspoa", "spoe-agent ring-spoa")
            .edit(Engine, "    option     var-prefix ringspoa\n", "")
            .haproxy(Refuses),
        error("prefix-invalid", "3.2", (Engine, "set-on-error"))
            .edit(Engine, "set-on-error error", "set-on-error the-error")
            .haproxy(Refuses),
        warning("prefix-shared", "3.2", (Engine, "    option var-prefix ringspoa # too"))
            .edit(Main, FILTER, TWO_FILTERS)
            .edit(Engine, EVENT, "    event on-frontend-http-request\n[second]\nspoe-agent second\n    messages check-path\n    option var-prefix ringspoa # too\n    option set-on-error error\n    timeout processing 100ms\n    use-backend spoe-second\n\nspoe-message check-path\n    args ip=src\n    event on-frontend-http-request\n")
            .edit(Main, "\nbackend app\n", "\nbackend spoe-second\n    mode spop\n    option spop-check\n    timeout connect 1s\n    server second 127.0.0.1:9001 check\n\nbackend app\n"),
        error("variable-too-long", "3.2", (Engine, "var-prefix"))
            .against(Whom::OfLongName),
        error("variable-too-long", "3.2", (Engine, "set-process-time"))
            .edit(Engine, BACKEND, "    option set-process-time the_time_in_milliseconds_that_it_took_to_be_answered\n    use-backend spoe-ringspoa\n"),
        warning("variable-unknown", "3.2", (Main, "remedation"))
            .edit(Main, "txn.ringspoa.remediation", "txn.ringspoa.remedation"),
        warning("variable-unknown", "3.0", (Main, "txn.ringspoa.reason"))
            .edit(Main, DENY, "    http-request deny deny_status 403 if { var(txn.ringspoa.remediation) -m str ban }\n    http-request set-header X-Why \"%[var(txn.ringspoa.reason),lower]\"\n"),
        warning("variable-prefix", "3.2", (Main, "ringspa.remediation"))
            .edit(Main, "txn.ringspoa.remediation", "txn.ringspa.remediation")
            .and(&["variable-unread"]),
        warning("variable-prefix", "3.2", (Main, "txn.remediation"))
            .edit(Main, "txn.ringspoa.remediation", "txn.remediation")
            .and(&["variable-unread"]),
        warning("variable-scope", "3.2", (Main, "sess.ringspoa.remediation"))
            .edit(Main, "txn.ringspoa.remediation", "sess.ringspoa.remediation"),
        warning("variable-unread", "3.2", (Engine, "spoe-agent")).edit(Main, DENY, ""),
        error("variable-refused", "3.2", (Engine, "spoe-agent")).against(Whom::OfProcess),
        // Names are registered without a scope.
        error("variable-refused", "3.0", (Engine, "spoe-agent"))
            .edit(Engine, BACKEND, "    register-var-names proc.total\n    use-backend spoe-ringspoa\n")
            .against(Whom::OfProcess),
        error("variable-refused", "2.6", (Engine, "spoe-agent")).against(Whom::OfResponse),
    ]
}

fn all() -> Vec<Mistake> {
    let themes = [
        files(),
        engines(),
        messages(),
        arguments(),
        times(),
        frames(),
        backends(),
        variables(),
    ];
    themes.into_iter().flatten().collect()
}

/// The two files of a version with the changes.
fn changed(version: &str, edits: &[Edit]) -> [String; 2] {
    let (main, engine) = samples(version);
    let mut texts = [main, engine];
    for (file, from, to) in edits {
        let text = match file {
            Main => &mut texts[0],
            Engine => &mut texts[1],
        };
        assert!(
            text.contains(from),
            "{version} {} lacks {from:?}",
            file.name()
        );
        *text = text.replacen(from, to, 1);
    }
    texts
}

fn line_of(text: &str, part: &str) -> usize {
    let at = text
        .find(part)
        .unwrap_or_else(|| panic!("no line has {part:?}:\n{text}"));
    text[..at + part.len() - part.trim_start().len()]
        .matches('\n')
        .count()
        + 1
}

fn found(mistake: &Mistake, texts: &[String; 2]) -> Vec<Finding> {
    let options = (mistake.options)(mistake.whom.options());
    let options = options.with_version(mistake.version.parse().unwrap());
    let [main, engine] = texts;
    let files = [
        ConfigFile::new(Main.name(), main.as_str()),
        ConfigFile::new(Engine.name(), engine.as_str()),
    ];
    check(&files, &options).findings
}

#[test]
fn each_mistake_is_found_where_it_is_and_nothing_else() {
    let mut failures = Vec::new();
    let mistakes = all();
    assert!(mistakes.len() > 90, "{}", mistakes.len());
    for mistake in &mistakes {
        let texts = changed(mistake.version, &mistake.edits);
        let (file, part) = mistake.at;
        let line = line_of(&texts[usize::from(file == Engine)], part);
        let found = found(mistake, &texts);
        let (own, others): (Vec<_>, Vec<_>) =
            found.iter().partition(|finding| finding.id == mistake.id);
        let is_there = |finding: &&Finding| {
            finding.file == file.name()
                && finding.line == line
                && finding.severity == mistake.severity
        };
        let mut expected: Vec<_> = mistake.companions.to_vec();
        let mut other_ids: Vec<_> = others.iter().map(|finding| finding.id).collect();
        expected.sort_unstable();
        other_ids.sort_unstable();
        if own.len() != 1 || !is_there(&own[0]) || other_ids != expected {
            let found: Vec<_> = found
                .iter()
                .map(|finding| format!("\n    {finding}"))
                .collect();
            failures.push(format!(
                "{} in {} line {line} of {} {:?}, with {expected:?}: {}",
                mistake.id,
                file.name(),
                mistake.version,
                mistake.edits,
                found.concat()
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}\n{}",
        failures.len(),
        mistakes.len(),
        failures.join("\n")
    );
}

#[test]
fn each_finding_has_a_mistake_and_is_listed() {
    let mut listed: Vec<_> = IDS.iter().map(|(id, _)| *id).collect();
    let mut tested: Vec<_> = all().iter().map(|mistake| mistake.id).collect();
    tested.extend(crate::challenge::IDS);
    listed.sort_unstable();
    // What CrowdSec's messages lack is held against their own samples, in `good`.
    tested.push("argument-absent");
    tested.sort_unstable();
    tested.dedup();
    assert_eq!(tested, listed);
    let whats: BTreeSet<_> = IDS.iter().map(|(_, what)| *what).collect();
    assert_eq!(whats.len(), IDS.len());
}

/// What is said of HAProxy: that it does not start, or warns.
#[test]
fn haproxy_says_the_same() {
    let mut failures = Vec::new();
    let mut asked = 0;
    for mistake in all() {
        let texts = changed(mistake.version, &mistake.edits);
        let found = found(&mistake, &texts);
        let says = |word: &str| found.iter().any(|finding| finding.text.contains(word));
        // Where a file was not given, nothing is said of what HAProxy does with it.
        let is_silent = mistake.id == "engine-not-given";
        if !is_silent && (mistake.verdict == Refuses) != says("does not start") {
            failures.push(format!("{} {:?}: {found:?}", mistake.id, mistake.verdict));
        }
        if !INSTALLED.contains(&mistake.version) {
            continue;
        }
        asked += 1;
        let folder = Folder::new();
        for (file, text) in [Main, Engine].iter().zip(&texts) {
            folder.write(file.name(), text);
        }
        let (verdict, text) = haproxy(mistake.version, &folder.0, Main.name());
        if verdict != mistake.verdict || (verdict == Accepts && says("warns")) {
            failures.push(format!(
                "{} of {}: expected {:?}, got {verdict:?}: {:?}\n{text}",
                mistake.id, mistake.version, mistake.verdict, mistake.edits
            ));
        }
    }
    assert!(asked > 80, "{asked}");
    assert!(
        failures.is_empty(),
        "{}\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Findings are for people: sentences with a fix, of one line each.
#[test]
fn findings_read_as_a_compiler_has_them() {
    for mistake in all() {
        let texts = changed(mistake.version, &mistake.edits);
        for finding in found(&mistake, &texts) {
            let shown = finding.to_string();
            let lines: Vec<_> = shown.lines().collect();
            let head = format!(
                "{}:{}: {}[{}]: ",
                finding.file,
                finding.line,
                finding.severity.as_str(),
                finding.id
            );
            assert!(lines.len() == 2 && lines[0].starts_with(&head), "{shown}");
            assert!(
                lines[1].starts_with("  fix: ") && !finding.fix.is_empty(),
                "{shown}"
            );
            assert!(
                !finding.text.ends_with('.') && !finding.text.contains("  "),
                "{shown}"
            );
        }
    }
}

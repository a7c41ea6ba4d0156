//! Configurations made from declarations: their text, what HAProxy of each version says to them, that the
//! samples of dist/ are what is made, and the command that prints them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ringspoa::agents::remediation::{AddressTable, RemediationAgent, messages};
use ringspoa::haproxy_config::{CheckOptions, ConfigFile, check};
use ringspoa::{
    Agent, AgentDeclaration, ArgumentDeclaration, ConfigTextError, DEFAULT_AGENT_DEADLINE,
    HaproxyVersion, Message, MessageDeclaration, ServerConfig, SpoeConfig, ValueTypes, Var,
};

const BINARY: &str = env!("CARGO_BIN_EXE_ringspoa");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The versions that scripts/install-haproxy installs.
const INSTALLED: [HaproxyVersion; 4] = [
    HaproxyVersion::V2_6,
    HaproxyVersion::V2_8,
    HaproxyVersion::V3_0,
    HaproxyVersion::V3_2,
];

fn haproxy(version: HaproxyVersion) -> PathBuf {
    let path = root().join(format!(".haproxy/{version}/haproxy"));
    assert!(
        path.exists(),
        "{} is missing: run scripts/install-haproxy",
        path.display()
    );
    path
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("ringspoa-spoe-config-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A message with every argument that needs no sample, for requests.
#[derive(Debug, Message)]
#[spop(name = "well-known", event = "on-frontend-http-request")]
struct WellKnown<'a> {
    base: Option<&'a str>,
    date: Option<i64>,
    dst: Option<IpAddr>,
    dst_port: Option<u16>,
    fc_http_major: Option<u8>,
    fe_name: Option<&'a str>,
    hostname: Option<&'a str>,
    http_auth_user: Option<&'a str>,
    method: Option<&'a str>,
    path: Option<&'a str>,
    pathq: Option<&'a str>,
    query: Option<&'a str>,
    #[spop(name = "req.body")]
    body: Option<&'a [u8]>,
    #[spop(name = "req.body_size")]
    body_size: Option<u64>,
    #[spop(name = "req.hdrs")]
    headers: Option<&'a str>,
    #[spop(name = "req.hdrs_bin")]
    headers_bin: Option<&'a [u8]>,
    #[spop(name = "req.ver")]
    ver: Option<&'a str>,
    src: Option<IpAddr>,
    src_port: Option<u16>,
    ssl_c_used: Option<bool>,
    ssl_c_verify: Option<i64>,
    ssl_fc: Option<bool>,
    ssl_fc_alpn: Option<&'a str>,
    ssl_fc_cipher: Option<&'a str>,
    ssl_fc_protocol: Option<&'a str>,
    ssl_fc_sni: Option<&'a str>,
    #[spop(name = "unique-id")]
    unique_id: Option<&'a str>,
    url: Option<&'a str>,
}

/// The same for responses.
#[derive(Debug, Message)]
#[spop(name = "well-known-response", event = "on-http-response")]
struct WellKnownResponse<'a> {
    be_name: Option<&'a str>,
    #[spop(name = "res.hdrs")]
    headers: Option<&'a str>,
    #[spop(name = "res.hdrs_bin")]
    headers_bin: Option<&'a [u8]>,
    #[spop(name = "res.ver")]
    ver: Option<&'a str>,
    status: Option<u16>,
}

/// Without an event, but with a condition.
#[derive(Debug, Message)]
#[spop(
    name = "body:scan.v1",
    condition = r#"unless { req.hdr(content-type) -m sub "image # 'x'" } || { path -m str \"\ \# }"#
)]
struct BodyScan<'a> {
    #[spop(sample = "req.body")]
    body: &'a [u8],
}

#[derive(Debug, Message)]
#[spop(
    name = "quoted",
    event = "on-backend-http-request",
    condition = r#"if { req.hdr(x-a) -m reg "^a b[#'].*\$" }"#
)]
struct Quoted<'a> {
    #[spop(sample = r#"req.hdr("x, y"),concat("'$ # \"",,'')"#)]
    header: &'a str,
    #[spop(sample = "str('a b')")]
    text: &'a str,
}

const MANY_ARGUMENTS: &str = "many-arguments";

fn many_arguments() -> AgentDeclaration {
    AgentDeclaration::new(MANY_ARGUMENTS)
        .with_message::<WellKnown<'_>>()
        .with_message::<WellKnownResponse<'_>>()
        .with_variable(Var::<bool>::txn("is_bot"))
        .with_variable(Var::<i64>::sess("score"))
        .with_variable(Var::<IpAddr>::req("real_ip"))
        .with_variable(Var::<std::net::Ipv6Addr>::req("six"))
        .with_variable(Var::<str>::res("cookie"))
        .with_variable(Var::<[u8]>::txn("headers"))
}

fn group() -> AgentDeclaration {
    AgentDeclaration::new("scanner")
        .with_message::<BodyScan<'_>>()
        .with_variable(Var::<str>::txn("verdict"))
}

fn quoted() -> AgentDeclaration {
    AgentDeclaration::new("q")
        .with_message::<Quoted<'_>>()
        .with_message::<BodyScan<'_>>()
        .with_variable(Var::<u32>::proc("count"))
        .with_variable(Var::<str>::res("after"))
}

fn compiled_in() -> AgentDeclaration {
    RemediationAgent::new(AddressTable::default()).declaration()
}

/// HAProxy takes it for what it is made for, without a warning, and the rules that are comments too.
#[test]
fn haproxy_of_each_version_accepts_what_is_made_for_it() {
    for version in INSTALLED {
        for declaration in [
            compiled_in(),
            messages::declaration(),
            many_arguments(),
            group(),
            quoted(),
        ] {
            for (address, path) in [
                ("127.0.0.1:9000", "spoe.cfg"),
                ("[::1]:9000", "spoe.cfg"),
                ("unix:/run/a b/#.sock,mode=600", "a 'file' #1.cfg"),
            ] {
                let folder = Folder::new(&format!("{version}-{}", declaration.name));
                let path = folder.0.join(path).to_str().unwrap().to_owned();
                let config = SpoeConfig::new(&declaration)
                    .for_haproxy(version)
                    .address(address)
                    .spoe_file(&path);
                fs::write(&path, config.spoe().unwrap()).unwrap();
                let lines = config.frontend_lines().unwrap();
                let lines = lines.replace("# http-re", "http-re").replace("TEXT", "ban");
                let main = format!(
                    "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    \
                     timeout server 1s\n\nfrontend www\n    bind unix@{}\n{lines}    \
                     default_backend app\n\nbackend app\n    server app 127.0.0.1:1\n\n{}",
                    folder.0.join("www.sock").display(),
                    config.backend().unwrap()
                );
                let file = folder.write("haproxy.cfg", &main);
                let output = Command::new(haproxy(version))
                    .arg("-c")
                    .arg("-f")
                    .arg(&file)
                    .output()
                    .unwrap();
                let said = text(&output);
                let made = format!("{version}: {said}\n{main}\n{}", config.spoe().unwrap());
                assert!(output.status.success(), "{made}");
                for complaint in ["WARNING", "ALERT"] {
                    assert!(!said.contains(complaint), "{made}");
                }
            }
        }
    }
}

/// Without it, a configuration for the other side of 3.1 would pass, too.
#[test]
fn the_timeouts_are_those_of_the_version() {
    let config = SpoeConfig::new(&compiled_in()).address("127.0.0.1:9000");
    for (version, is_old) in [
        (HaproxyVersion::V2_6, true),
        (HaproxyVersion::V3_0, true),
        (HaproxyVersion::V3_1, false),
        (HaproxyVersion::V3_3, false),
    ] {
        let config = config.clone().for_haproxy(version);
        let (spoe, backend) = (config.spoe().unwrap(), config.backend().unwrap());
        assert_eq!(spoe.contains("hello"), is_old, "{version}");
        assert_eq!(spoe.contains("idle"), is_old, "{version}");
        assert_eq!(backend.contains("mode tcp"), is_old, "{version}");
        assert_eq!(backend.contains("mode spop"), !is_old, "{version}");
    }
}

#[test]
fn the_text_is_this() {
    let declaration = AgentDeclaration::new("web-firewall")
        .with_message::<Quoted<'_>>()
        .with_message::<WellKnown<'_>>()
        .with_message::<BodyScan<'_>>()
        .with_variable(Var::<i64>::txn("score"))
        .with_variable(Var::<u32>::proc("count"));
    let config = SpoeConfig::new(&declaration)
        .for_haproxy(HaproxyVersion::V2_8)
        .address("unix:/run/firewall.sock,mode=660")
        .agent_deadline(Duration::from_millis(500));
    assert_eq!(
        config.spoe().unwrap(),
        r#"# SPOE engine for HAProxy 2.6 to 3.0. Install as /etc/haproxy/web-firewall.spoe.cfg
[web-firewall]
spoe-agent web-firewall
    messages   quoted well-known
    groups     body:scan.v1
    option     var-prefix web_firewall
    # Lets the agent set variables of the process.
    option     force-set-var
    # txn.web_firewall.error has the SPOE status of a request that got no answer.
    option     set-on-error error
    timeout    hello      1s
    timeout    idle       60s
    # What a request waits at most; it goes on without an answer then.
    timeout    processing 600ms
    use-backend spoe-web-firewall

spoe-message quoted
    args  "header=req.hdr(\"x, y\"),concat(\"'\$ # \\\"\",,'')" "text=str('a b')"
    event on-backend-http-request if { req.hdr(x-a) -m reg "^a b[#'].*\$" }

spoe-message well-known
    args  base=base date=date dst=dst dst_port=dst_port fc_http_major=fc_http_major fe_name=fe_name
    args  hostname=hostname http_auth_user=http_auth_user method=method path=path pathq=pathq
    args  query=query req.body=req.body req.body_size=req.body_size req.hdrs=req.hdrs
    args  req.hdrs_bin=req.hdrs_bin req.ver=req.ver src=src src_port=src_port ssl_c_used=ssl_c_used
    args  ssl_c_verify=ssl_c_verify ssl_fc=ssl_fc ssl_fc_alpn=ssl_fc_alpn
    args  ssl_fc_cipher=ssl_fc_cipher ssl_fc_protocol=ssl_fc_protocol ssl_fc_sni=ssl_fc_sni
    args  unique-id=unique-id url=url
    event on-frontend-http-request

# Sent by `http-request send-spoe-group web-firewall body:scan.v1`.
spoe-group body:scan.v1
    messages body:scan.v1

spoe-message body:scan.v1
    args  body=req.body
"#
    );
    assert_eq!(
        config.backend().unwrap(),
        "backend spoe-web-firewall
    mode tcp
    option spop-check
    timeout connect 1s
    # Longer than `timeout idle` of the engine.
    timeout server  120s
    # Looked for inside `chroot`, if the global section has one.
    server web-firewall unix@/run/firewall.sock check
"
    );
    assert_eq!(
        config.frontend_lines().unwrap(),
        r#"    # A message has the body, which HAProxy would not wait for.
    option http-buffer-request
    filter spoe engine web-firewall config /etc/haproxy/web-firewall.spoe.cfg
    # body:scan.v1 has no event: it is sent here.
    http-request send-spoe-group web-firewall body:scan.v1 unless { req.hdr(content-type) -m sub "image # 'x'" } || { path -m str \"\ \# }
    # Without an answer txn.web_firewall.error is set, and of the agent's own variables none.
    # To let pass what got no answer, and say so to the next in line:
    # http-request set-header x-agent-error %[var(txn.web_firewall.error)] if { var(txn.web_firewall.error) -m found }
    # To refuse it:
    # http-request deny deny_status 503 if { var(txn.web_firewall.error) -m found }
    # What the agent sets, in rules to begin with.
    # http-request deny deny_status 403 if { var(txn.web_firewall.score) -m int gt 100 }
    # http-request deny deny_status 403 if { var(proc.web_firewall.count) -m int gt 100 }
"#
    );
}

/// A time above it HAProxy refuses: 24.8 days.
#[test]
fn the_longest_time_goes_into_every_line() {
    let longest = Duration::from_millis(2_147_483_647);
    let config = SpoeConfig::new(&compiled_in()).processing_timeout(longest);
    let text = config.text().unwrap();
    assert!(text.contains("processing 2147483647ms\n"), "{text}");
    assert!(text.contains("timeout server  2147483s\n"), "{text}");
}

#[test]
fn names_and_times_can_be_chosen() {
    let config = SpoeConfig::new(&compiled_in())
        .engine("edge")
        .variable_prefix("e")
        .error_variable("failed")
        .processing_timeout(Duration::from_secs(60))
        .address("0.0.0.0:9000")
        .without_checks();
    let spoe = config.spoe().unwrap();
    for part in [
        "Install as /etc/haproxy/edge.spoe.cfg\n[edge]\nspoe-agent ringspoa\n",
        "option     var-prefix e\n",
        "# txn.e.failed has",
        "set-on-error failed\n",
        "processing 60000ms\n    use-backend spoe-edge\n",
    ] {
        assert!(spoe.contains(part), "{spoe}");
    }
    let backend = config.backend().unwrap();
    // A server that gives up before the request does would be the timeout.
    assert!(backend.contains("timeout server  120s\n"), "{backend}");
    assert!(backend.ends_with("    server ringspoa 127.0.0.1:9000\n"));
    assert!(!backend.contains("check"));
    assert!(config.frontend_lines().unwrap().contains("engine edge"));
    let short = config.agent_deadline(Duration::from_millis(20));
    assert!(short.spoe().unwrap().contains("processing 40ms\n"));
}

/// What a server does unless told otherwise, and what HAProxy is told unless otherwise, fit.
#[test]
fn the_defaults_leave_room_for_the_fallback() {
    let config = SpoeConfig::new(&compiled_in());
    let text = config.spoe().unwrap();
    assert!(text.contains("processing 600ms\n"), "{text}");
    let deadline = ServerConfig::default().agent_deadline;
    assert_eq!(deadline, DEFAULT_AGENT_DEADLINE);
    let same = config.clone().agent_deadline(deadline);
    assert_eq!(same.spoe().unwrap(), text);
    for (deadline_ms, processing) in [(1, "21ms"), (99, "119ms"), (100, "120ms"), (1000, "1200ms")]
    {
        let config = config
            .clone()
            .agent_deadline(Duration::from_millis(deadline_ms));
        let text = config.spoe().unwrap();
        assert!(
            text.contains(&format!("processing {processing}\n")),
            "{text}"
        );
        let files = [ConfigFile::new("spoe.cfg", text)];
        let options = CheckOptions::default()
            .with_agent(compiled_in())
            .with_deadline(Duration::from_millis(deadline_ms));
        let found = check(&files, &options).findings;
        assert!(
            found.iter().all(|f| f.id != "timeout-processing-short"),
            "{found:?}"
        );
    }
}

/// A message made by hand, with one argument.
fn message(name: &'static str, argument: &'static str) -> MessageDeclaration {
    let argument = ArgumentDeclaration::new(argument, ValueTypes::ANY, "a value");
    MessageDeclaration::new(name, Vec::leak(vec![argument])).with_event("on-frontend-http-request")
}

fn with_sample(sample: &'static str) -> MessageDeclaration {
    let argument = ArgumentDeclaration::new("a", ValueTypes::ANY, "a value").with_sample(sample);
    MessageDeclaration::new("m", Vec::leak(vec![argument])).with_event("on-http-response")
}

#[test]
fn errors_name_the_thing_and_the_fix() {
    let agent = |messages: &[MessageDeclaration]| {
        let mut declaration = AgentDeclaration::new("agent");
        declaration.messages.extend_from_slice(messages);
        declaration
    };
    let fine = agent(&[message("m", "src")]);
    let long = Var::<i64>::txn("a23456789012345678901234567890123456789012345678901234567");
    let many = [ArgumentDeclaration::new("src", ValueTypes::ANY, "a value"); 256];
    let many = MessageDeclaration::new("m", Vec::leak(many.to_vec()));
    for (config, parts) in [
        (
            SpoeConfig::new(&agent(&[message("m", "ip")])),
            &["message m", "argument ip", "#[spop(sample = \"...\")]"][..],
        ),
        (
            SpoeConfig::new(&agent(&[])),
            &["agent agent declares no message"],
        ),
        (
            SpoeConfig::new(&agent(&[message("m", "src"), message("m", "src")])),
            &["message m is declared twice"],
        ),
        (
            SpoeConfig::new(&agent(&[message("m", "src").with_event("on-request")])),
            &[
                "message m",
                "'on-request'",
                "on-frontend-http-request, on-backend",
            ],
        ),
        (
            SpoeConfig::new(&agent(&[message("m", "src").with_condition("{ TRUE }")])),
            &["message m", "neither `if` nor `unless`"],
        ),
        (
            SpoeConfig::new(&agent(&[
                message("m", "src").with_condition("if { path # }")
            ])),
            &["message m", "takes for a comment"],
        ),
        (
            SpoeConfig::new(&agent(&[many])),
            &["message m has 256 arguments"],
        ),
        (
            SpoeConfig::new(&agent(&[with_sample("'src'")])),
            &["message m", "argument 'a'", "without quotes around it"],
        ),
        (
            SpoeConfig::new(&agent(&[with_sample("src\nevent")])),
            &["message m", "argument 'a'", "one line"],
        ),
        (
            SpoeConfig::new(&agent(&[message("m", "a=b")])),
            &["argument a=b"],
        ),
        (
            SpoeConfig::new(&agent(&[message("m 1", "src")])),
            &["the name of a message", "' '", "'m 1'"],
        ),
        (
            SpoeConfig::new(&AgentDeclaration::new("")),
            &["the name of the agent is empty"],
        ),
        (
            SpoeConfig::new(&fine).variable_prefix("a-b"),
            &["the prefix of variables", "'-'", "'a-b'"],
        ),
        (
            SpoeConfig::new(&fine).engine("a]"),
            &["the name of the engine", "']'"],
        ),
        (
            SpoeConfig::new(&fine.clone().with_variable(long)),
            &[
                "txn.agent.a2345",
                "has 67 bytes",
                "63",
                "shorter name or prefix",
            ],
        ),
        (
            SpoeConfig::new(&fine.clone().with_variable(Var::<str>::txn("error"))),
            &["txn.agent.error", "choose another error variable"],
        ),
        (
            SpoeConfig::new(&fine.clone().with_variable(Var::<i64>::res("seen"))),
            &[
                "variable res.agent.seen is of the response",
                "event = \"on-http-response\"",
            ],
        ),
        (
            SpoeConfig::new(&agent(&[with_sample("src")]).with_variable(Var::<i64>::req("seen"))),
            &[
                "variable req.agent.seen is of the request",
                "event = \"on-frontend-http-request\"",
            ],
        ),
        (
            SpoeConfig::new(&fine).for_haproxy(HaproxyVersion::new(2, 4)),
            &["HAProxy version '2.4' is too old: want 2.6 or later"],
        ),
        (
            SpoeConfig::new(&fine).processing_timeout(Duration::from_micros(900)),
            &["processing timeout '900µs'", "no timeout at all"],
        ),
        (
            SpoeConfig::new(&fine).agent_deadline(Duration::MAX),
            &["processing timeout", "above 2147483647 ms"],
        ),
        (
            SpoeConfig::new(&fine).spoe_file("/a\nb"),
            &["path of the SPOE file '/a\\nb' is not one line"],
        ),
    ] {
        let error = config.spoe().unwrap_err();
        // What a `main` that returns it prints.
        assert_eq!(format!("{error:?}"), error.to_string());
        let error = error.to_string();
        for part in parts {
            assert!(error.contains(part), "{error} lacks {part}");
        }
        // The other parts would not fit either; only what the messages fetch is not in them.
        if !error.contains("argument ") {
            assert_eq!(config.backend().unwrap_err().to_string(), error);
            assert_eq!(config.frontend_lines().unwrap_err().to_string(), error);
        }
    }
    let config = SpoeConfig::new(&fine).address("127.0.0.1:0");
    let error = config.backend().unwrap_err();
    assert!(matches!(error, ConfigTextError::Setting { .. }));
    assert_eq!(config.text(), Err(error.clone()));
    assert!(error.to_string().contains("has the port 0"), "{error}");
    for (address, fault) in [
        ("localhost", "has no port"),
        ("foo", "has no port"),
        ("[::1]", "has no port"),
        (":9000", "has no host"),
        ("*:9000", "has no host"),
        ("tcp@:9000", "has no host"),
        ("localhost:90000", "has no port from 1 to 65535"),
        ("localhost:+9000", "has no port from 1 to 65535"),
        ("http://localhost", "has no port from 1 to 65535"),
        ("::1:9000", "write it as in [::1]:9000"),
        ("unix:", "has nothing behind the '@'"),
        ("", "is empty"),
    ] {
        let error = config.clone().address(address).backend().unwrap_err();
        assert!(error.to_string().contains(fault), "{address}: {error}");
    }
    for address in [
        "localhost:9000",
        "agent.example:1",
        "[::1]:65535",
        "ipv4@agent:9000",
        "unix@/run/a:0",
        "/run/agent.sock",
        "abns@agent",
    ] {
        let backend = config.clone().address(address).backend();
        assert!(backend.is_ok(), "{address}: {backend:?}");
    }
    // A message without an event may be sent by a rule for responses.
    let mut anywhere = group().with_variable(Var::<i64>::res("seen"));
    assert!(SpoeConfig::new(&anywhere).text().is_ok());
    anywhere.messages.clear();
    assert!(SpoeConfig::new(&anywhere).text().is_err());
    // 63 bytes are what HAProxy takes: scope, two full stops, the prefix and the name.
    for (len, fits) in [(57, true), (58, false)] {
        let variable = Var::<i64>::txn(String::leak("n".repeat(len)));
        let config = SpoeConfig::new(&fine.clone().with_variable(variable)).variable_prefix("p");
        assert_eq!(config.spoe().is_ok(), fits, "{len}");
    }
}

/// What the command makes: the agent of the binary answers at once.
fn built_in() -> SpoeConfig {
    SpoeConfig::new(&compiled_in()).processing_timeout(Duration::from_millis(100))
}

/// The lines without comments and blank ones.
fn meaningful(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_end);
    lines
        .filter(|line| !line.trim_start().starts_with('#') && !line.is_empty())
        .collect()
}

#[test]
fn the_samples_are_what_is_made() {
    for (version, folder) in [
        (HaproxyVersion::V2_6, "haproxy-2.6"),
        (HaproxyVersion::V3_1, "haproxy-3.1"),
    ] {
        let read = |name: &str| fs::read_to_string(root().join("dist").join(folder).join(name));
        let config = built_in()
            .for_haproxy(version)
            .address("unix@/run/ringspoa/ringspoa.sock");
        // Comments and all.
        assert_eq!(
            read("spoe.cfg").unwrap(),
            config.spoe().unwrap(),
            "{folder}"
        );
        let (backend, lines) = (config.backend().unwrap(), config.frontend_lines().unwrap());
        for (name, server) in [
            ("haproxy.cfg", "check"),
            // Where nobody passes without an agent, it has to be seen soon that there is one.
            ("haproxy-fail-closed.cfg", "check inter 1s rise 1"),
        ] {
            let sample = read(name).unwrap();
            let start = sample.find("backend spoe-ringspoa").unwrap();
            let made = backend.replace(".sock check\n", &format!(".sock {server}\n"));
            assert_eq!(meaningful(&sample[start..]), meaningful(&made), "{name}");
            for line in meaningful(&lines) {
                assert!(sample.contains(line), "{name} lacks {line}");
            }
        }
        let variable = &compiled_in().variables[0];
        let rule = format!(
            "if {{ var({}) -m str ban }}",
            config.variable_name(variable)
        );
        assert!(read("haproxy.cfg").unwrap().contains(&rule));
    }
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY)
        .arg("spoe-config")
        .args(arguments)
        .output()
        .unwrap();
    let utf8 = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        utf8(output.stdout),
        utf8(output.stderr),
    )
}

#[test]
fn the_command_prints_the_parts() {
    // Where the server listens by default.
    let config = built_in();
    assert!(config.backend().unwrap().contains("127.0.0.1:9000"));
    let old = config.clone().for_haproxy(HaproxyVersion::V2_6);
    for (arguments, expected) in [
        (&["--part", "spoe"][..], config.spoe()),
        (&["--part", "backend"], config.backend()),
        (&["--part", "frontend"], config.frontend_lines()),
        (&["--part", "spoe", "--haproxy", "2.6"], old.spoe()),
        (&["--part", "backend", "--haproxy", "2.6.14"], old.backend()),
        (
            &[
                "--part",
                "backend",
                "--address",
                "unix@/a",
                "--agent",
                "remediation",
            ],
            config.clone().address("unix@/a").backend(),
        ),
        // It may ask others before it answers.
        (
            &["--part", "spoe", "--agent", "crowdsec"],
            SpoeConfig::new(&messages::declaration())
                .processing_timeout(Duration::from_millis(500))
                .spoe(),
        ),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, &*err), (Some(0), ""));
        assert_eq!(out, expected.unwrap(), "{arguments:?}");
    }
    let (code, all, _) = run(&[]);
    assert_eq!((code, &all), (Some(0), &config.text().unwrap()));
    for part in [config.spoe(), config.backend(), config.frontend_lines()] {
        let part = part.unwrap();
        assert!(all.contains(&part), "{all} lacks {part}");
    }
}

#[test]
fn the_command_takes_the_settings_of_the_server() {
    let folder = Folder::new("settings");
    let sample = root().join("dist/ringspoa.toml");
    let (code, out, err) = run(&["--config", sample.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("server ringspoa unix@/run/ringspoa/ringspoa.sock check"));
    // It is set to nothing there, and the agent answers at once.
    assert!(out.contains("processing 100ms"), "{out}");

    let settings = "listen = ['[::]:9100', '127.0.0.1:1']\nagent-deadline-ms = 1000\n\
                    user = 'nobody-of-this-name'\n";
    let file = folder.write("ringspoa.toml", settings);
    let file = file.to_str().unwrap();
    let (code, out, err) = run(&["--config", file]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("server ringspoa [::1]:9100 check"), "{out}");
    assert!(out.contains("processing 1200ms"), "{out}");
    let (_, out, _) = run(&["--config", file, "--address", "10.0.0.1:9000"]);
    assert!(out.contains("server ringspoa 10.0.0.1:9000 check"), "{out}");
}

/// Two engines, and rules that agree with the page: more than a declaration says. HAProxy takes it together
/// with a frontend and an application, and `ringspoa check` has nothing against it.
#[test]
fn the_command_prints_browser_validation_as_the_samples_have_it() {
    let folder = Folder::new("challenge");
    let settings = folder.write(
        "ringspoa.toml",
        "listen = '127.0.0.1:9123'\n[challenge]\npath = '/are-you-there'\n[[challenge.realm]]\n\
         [[challenge.realm.level]]\ntype = 'captcha'\ntimeout-s = 8\n",
    );
    let settings = settings.to_str().unwrap();
    for version in ["2.6", "2.8", "3.0", "3.2"] {
        let dist = match version {
            "3.2" => "haproxy-3.1",
            _ => "haproxy-2.6",
        };
        let read =
            |name: &str| fs::read_to_string(root().join("dist").join(dist).join(name)).unwrap();
        let part = |part: &str, flags: &[&str]| {
            let arguments = [&["--haproxy", version, "--part", part], flags].concat();
            let (code, out, err) = run(&arguments);
            assert_eq!((code, &*err), (Some(0), ""), "{arguments:?}");
            out
        };
        let named = [
            "--agent",
            "challenge",
            "--address",
            "unix@/run/ringspoa/ringspoa.sock",
        ];
        assert_eq!(part("spoe", &named), read("challenge.spoe.cfg"));
        let sample = read("challenge.cfg");
        let (rules, backends) = (part("frontend", &named), part("backend", &named));
        assert!(sample.ends_with(&backends) && backends.contains("backend challenge-verify-spoa"));
        for line in meaningful(&rules) {
            assert!(sample.contains(line), "{line}");
        }
        assert!(
            rules.contains("challenge-never.lst   paths")
                && rules.contains("challenge-fail-closed")
        );

        // By the table alone.
        let flags = ["--config", settings];
        let [spoe, rules, backends] =
            ["spoe", "frontend", "backend"].map(|name| part(name, &flags));
        assert!(
            spoe.contains("processing 9000ms\n") && spoe.contains("processing 100ms\n"),
            "{spoe}"
        );
        assert_eq!(
            backends
                .matches("    server ringspoa 127.0.0.1:9123 check")
                .count(),
            2
        );
        assert!(
            !backends.contains("chroot") && !rules.contains("/.challenge"),
            "{rules}"
        );
        assert!(rules.contains("if { path /are-you-there/ok }"), "{rules}");
        let all = part("all", &flags);
        for part in [&spoe, &rules, &backends] {
            assert!(all.contains(part), "{all}");
        }

        let here = folder.0.to_str().unwrap();
        fs::copy(
            root().join("dist/challenge-never.lst"),
            folder.0.join("challenge-never.lst"),
        )
        .unwrap();
        folder.write("challenge.html", "a page");
        let socket = folder.0.join("www.sock").display().to_string();
        let main = format!(
            "global\n    log stdout format raw local0\n\
             defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n\
             frontend www\n    bind unix@{socket}\n{rules}    default_backend app\n\
             backend app\n    server app 127.0.0.1:1\n\n{backends}"
        )
        .replace("/etc/haproxy", here);
        folder.write("challenge.spoe.cfg", &spoe);
        let file = folder.write("haproxy.cfg", &main);
        let program = haproxy(version.parse().unwrap());
        let output = Command::new(program)
            .arg("-c")
            .arg("-f")
            .arg(&file)
            .output()
            .unwrap();
        let said = text(&output);
        assert!(
            output.status.success() && !said.contains("WARNING"),
            "{version}: {said}"
        );
        let output = Command::new(BINARY)
            .args(["check", "--haproxy", version, "--config", settings])
            .arg(&file)
            .output()
            .unwrap();
        assert!(
            text(&output).contains(": 0 errors, 0 warnings, 0 notes"),
            "{}",
            text(&output)
        );
    }
}

/// What a server of the settings has.
#[test]
fn the_command_prints_the_agents_that_the_settings_have() {
    let folder = Folder::new("served");
    const CHALLENGE: &str = "[challenge]\n";
    const REMEDIATION: &str = "[remediation]\n";
    for (settings, engines) in [
        (String::new(), &["[ringspoa]"][..]),
        (CHALLENGE.to_owned(), &["[challenge]", "[challenge-verify]"]),
        (REMEDIATION.to_owned(), &["[crowdsec]"]),
        (
            format!("{REMEDIATION}{CHALLENGE}"),
            &["[crowdsec]", "[challenge]", "[challenge-verify]"],
        ),
        (
            format!("ban-list = '/etc/ringspoa.bans'\n{CHALLENGE}"),
            &["[ringspoa]", "[challenge]", "[challenge-verify]"],
        ),
    ] {
        let file = folder.write("ringspoa.toml", &settings);
        let file = file.to_str().unwrap();
        let (code, out, err) = run(&["--part", "spoe", "--config", file]);
        assert_eq!((code, &*err), (Some(0), ""));
        let made: Vec<_> = out.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(made, engines, "{settings}");
        // Named, it is that one.
        let (_, out, _) = run(&["--part", "spoe", "--config", file, "--agent", "remediation"]);
        assert_eq!(out.matches("\n[").count(), 1, "{out}");
    }
}

#[test]
fn the_command_names_what_is_wrong_and_exits_with_2() {
    let folder = Folder::new("wrong");
    let unknown = folder.write("unknown.toml", "lisen = '127.0.0.1:9000'\n");
    let any_port = folder.write("any.toml", "listen = '127.0.0.1:0'\n");
    let wrong = folder.write("wrong.toml", "agent-deadline-ms = 0\n");
    let [unknown, any_port, wrong] = [&unknown, &any_port, &wrong].map(|p| p.to_str().unwrap());
    for (arguments, parts) in [
        (
            &["--haproxy", "new"][..],
            &["'new' is no version", "2.6, 2.8, 3.0, 3.1, 3.2, 3.3"][..],
        ),
        (
            &["--haproxy", "2.4"],
            &["HAProxy 2.4 is too old", "2.6, 2.8, 3.0, 3.1, 3.2, 3.3"],
        ),
        (&["--agent", "waf"], &["no agent 'waf'", "remediation"]),
        (
            &["--part", "all-of-it"],
            &["spoe", "backend", "frontend", "all"],
        ),
        (&["--config", "/nonexistent"], &["/nonexistent"]),
        (
            &["--config", unknown],
            &["unknown.toml", "did you mean `listen`?"],
        ),
        (&["--config", any_port], &["127.0.0.1:0", "port 0"]),
        (&["--config", wrong], &["wrong.toml", "agent-deadline-ms"]),
        (&["--address", "a\nb"], &["address 'a\\nb' is not one line"]),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, &*out), (Some(2), ""), "{arguments:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{arguments:?}: {err} lacks {part}");
        }
    }
}

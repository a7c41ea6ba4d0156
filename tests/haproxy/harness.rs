//! `TestHaproxy`, which users' tests are made with: configurations made from declarations, in real
//! HAProxy, with an agent that is there or is not.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringspoa::agents::remediation::{RemediationAgent, embedded};
use ringspoa::spop::{Messages, Scope};
use ringspoa::{Agent, AgentDeclaration, AgentError, Message, Reply, SpoeConfig, TestHaproxy, Var};

use crate::fixture::{Folder, GONE, Served, Version};

fn start(version: Version, declaration: &AgentDeclaration, served: &Served) -> TestHaproxy {
    let config = SpoeConfig::new(declaration)
        .address(served.address())
        .processing_timeout(Duration::from_secs(10));
    start_with(version, &config)
}

fn start_with(version: Version, config: &SpoeConfig) -> TestHaproxy {
    let haproxy = TestHaproxy::start_with(config, version.executable());
    let haproxy = haproxy.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(haproxy.version().to_string(), version.name());
    // No warning: what is generated is what this version wants.
    assert_eq!(haproxy.output(), "");
    haproxy
}

/// What is asked for by the path; each message has it.
#[derive(Debug, Message)]
#[spop(name = "ask", event = "on-frontend-http-request")]
struct Ask<'a> {
    path: &'a str,
    src: IpAddr,
}

const BOOL: Var<bool> = Var::txn("a_bool");
const I32: Var<i32> = Var::txn("an_i32");
const U32: Var<u32> = Var::txn("a_u32");
const I64: Var<i64> = Var::txn("an_i64");
const U64: Var<u64> = Var::txn("a_u64");
const IPV4: Var<Ipv4Addr> = Var::txn("an_ipv4");
const IPV6: Var<Ipv6Addr> = Var::txn("an_ipv6");
const IP: Var<IpAddr> = Var::txn("an_ip");
const TEXT: Var<str> = Var::txn("text");
const BYTES: Var<[u8]> = Var::txn("bytes");

fn of_all_types() -> AgentDeclaration {
    AgentDeclaration::new("types")
        .with_message::<Ask<'_>>()
        .with_variable(BOOL)
        .with_variable(I32)
        .with_variable(U32)
        .with_variable(I64)
        .with_variable(U64)
        .with_variable(IPV4)
        .with_variable(IPV6)
        .with_variable(IP)
        .with_variable(TEXT)
        .with_variable(BYTES)
}

/// Values of which the text and the binary could be mistaken for those of another type, and odd bytes.
const TEXTS: [&str; 6] = [
    "plain",
    "",
    "1.2.3.4",
    "12345678",
    "a \"b\" 'c' %[src] \\ # é\n:=\t",
    "a\0b",
];
const BINARIES: [&[u8]; 5] = [b"\x00\xff\r\n\x80", b"", b"\0", b"12345678", b"1.2.3.4"];

/// Sets the values of a number, that of the path.
fn set_all(messages: &mut Messages<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
    while let Some(mut message) = messages.next_message()? {
        let ask = Ask::decode(&mut message)?;
        let number: usize = ask.path[1..].parse()?;
        reply.set(BOOL, number % 2 == 1)?;
        reply.set(I32, [i32::MIN, -1, i32::MAX][number % 3])?;
        reply.set(U32, [0, u32::MAX][number % 2])?;
        reply.set(I64, [i64::MIN, -5, 1, i64::MAX][number % 4])?;
        reply.set(U64, [u64::MAX, 1 << 63, 7][number % 3])?;
        reply.set(IPV4, [Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST][number % 2])?;
        reply.set(
            IPV6,
            [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED][number % 2],
        )?;
        reply.set(IP, ask.src)?;
        reply.set(TEXT, TEXTS[number % TEXTS.len()])?;
        reply.set(BYTES, BINARIES[number % BINARIES.len()])?;
    }
    Ok(())
}

pub(crate) fn variables_of_each_type_come_back(version: Version) {
    let served = Served::start(set_all);
    let haproxy = start(version, &of_all_types(), &served);
    for number in 0..12_usize {
        let client: IpAddr = if number % 2 == 0 {
            [192, 0, 2, 9].into()
        } else {
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()
        };
        let path = format!("/{number}");
        let answer = haproxy.client(client).get(&path, &[]);
        let answer = answer.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.spoe_error(), None, "{answer:?}");
        assert_eq!(answer.get(BOOL), Some(number % 2 == 1));
        assert_eq!(answer.text("txn.a_bool"), Some(["0", "1"][number % 2]));
        let i32s = [i32::MIN, -1, i32::MAX];
        assert_eq!(answer.get(I32), Some(i32s[number % 3]));
        assert_eq!(answer.get(U32), Some([0, u32::MAX][number % 2]));
        let i64s = [i64::MIN, -5, 1, i64::MAX];
        assert_eq!(answer.get(I64), Some(i64s[number % 4]));
        assert_eq!(
            answer.text("txn.an_i64"),
            Some(&*i64s[number % 4].to_string())
        );
        let u64s = [u64::MAX, 1 << 63, 7];
        assert_eq!(answer.get(U64), Some(u64s[number % 3]));
        let ipv4s = [Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST];
        assert_eq!(answer.get(IPV4), Some(ipv4s[number % 2]));
        let ipv6s = [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED];
        assert_eq!(answer.get(IPV6), Some(ipv6s[number % 2]));
        assert_eq!(answer.get(IP), Some(client));
        assert_eq!(answer.text("txn.an_ip"), Some(&*client.to_string()));
        assert_eq!(answer.get(TEXT), Some(TEXTS[number % TEXTS.len()]));
        assert_eq!(answer.text("txn.text"), Some(TEXTS[number % TEXTS.len()]));
        let binary = BINARIES[number % BINARIES.len()];
        assert_eq!(answer.get(BYTES), Some(binary));
    }
    drop(haproxy);
    served.finish();
}

pub(crate) fn a_variable_that_is_not_set_is_none(version: Version) {
    let served = Served::start(|messages, reply| {
        let mut message = messages.next_message()?.ok_or("no message")?;
        let ask = Ask::decode(&mut message)?;
        if ask.path == "/binary" {
            reply.set_var(TEXT.variable(), &b"\xff\x00"[..])?;
        } else if ask.path == "/number" {
            reply.set_var(TEXT.variable(), 5_i64)?;
        } else if ask.path == "/large" {
            reply.set_var(U32.variable(), -5_i64)?;
        }
        Ok(())
    });
    let haproxy = start(version, &of_all_types(), &served);
    let answer = haproxy.get("/", &[]).expect("an answer");
    for variable in of_all_types().variables {
        assert_eq!(answer.text(&format!("txn.{}", variable.name)), None);
    }
    assert_eq!(answer.get(I64), None);
    assert_eq!(answer.get(TEXT), None);
    assert_eq!(answer.spoe_error(), None);

    // What is not of the declared type is a mistake of the agent, and not read as something it is not.
    let complaint = |path: &str, read: &dyn Fn(&ringspoa::TestAnswer)| {
        let answer = haproxy.get(path, &[]).expect("an answer");
        let read = std::panic::AssertUnwindSafe(|| read(&answer));
        let panic = std::panic::catch_unwind(read).expect_err("a complaint");
        panic.downcast_ref::<String>().expect("a text").clone()
    };
    let text = complaint("/number", &|answer| assert!(answer.get(TEXT).is_none()));
    assert!(text.contains("txn.text is to be STRING"), "{text}");
    assert!(text.contains("the number 5"), "{text}");
    let text = complaint("/binary", &|answer| assert!(answer.get(TEXT).is_none()));
    assert!(text.contains("\"ff00\""), "{text}");
    let text = complaint("/large", &|answer| assert!(answer.get(U32).is_none()));
    assert!(text.contains("the number -5"), "{text}");
    let text = complaint("/", &|answer| assert!(answer.text("txn.texts").is_none()));
    assert!(
        text.contains("no variable txn.texts; it declares txn.a_bool"),
        "{text}"
    );
    drop(haproxy);
    served.finish();
}

/// Without an agent a request waits for its timeout, or less, and the error is seen.
pub(crate) fn an_agent_that_is_down_is_an_error_of_spoe(version: Version) {
    let folder = Folder::new();
    let nobody = format!("unix:{}", folder.file("nobody.sock").display());
    let config = SpoeConfig::new(&of_all_types())
        .address(nobody)
        .processing_timeout(Duration::from_millis(300));
    let haproxy = start_with(version, &config);
    let began = Instant::now();
    let answer = haproxy.get("/1", &[]).expect("an answer");
    assert!(began.elapsed() < GONE, "{:?}", began.elapsed());
    assert_eq!(answer.spoe_error(), Some(1));
    assert_eq!(answer.get(I64), None);
}

#[derive(Debug, Message)]
#[spop(name = "client", event = "on-client-session")]
struct OnClient {
    src: IpAddr,
}
#[derive(Debug, Message)]
#[spop(name = "server", event = "on-server-session")]
struct OnServer {
    src: IpAddr,
}
#[derive(Debug, Message)]
#[spop(name = "frontend-tcp", event = "on-frontend-tcp-request")]
struct OnFrontendTcp {
    src: IpAddr,
}
#[derive(Debug, Message)]
#[spop(name = "backend-tcp", event = "on-backend-tcp-request")]
struct OnBackendTcp {
    src: IpAddr,
}
#[derive(Debug, Message)]
#[spop(name = "tcp-response", event = "on-tcp-response")]
struct OnTcpResponse {
    src: IpAddr,
}
#[derive(Debug, Message)]
#[spop(name = "frontend-http", event = "on-frontend-http-request")]
struct OnFrontendHttp {
    src: IpAddr,
}
#[derive(Debug, Message)]
#[spop(name = "backend-http", event = "on-backend-http-request")]
struct OnBackendHttp {
    src: IpAddr,
}
#[derive(Debug, Message)]
#[spop(name = "http-response", event = "on-http-response")]
struct OnHttpResponse {
    src: IpAddr,
    status: u16,
}
/// Has no event.
#[derive(Debug, Message)]
#[spop(
    name = "in-a-group",
    condition = r#"if { req.hdr(x-when) -m str "now # 'or' never" }"#
)]
struct InAGroup<'a> {
    #[spop(name = "req.body")]
    body: &'a [u8],
}

const PROC: Var<i64> = Var::proc("seen");
const SESS: Var<str> = Var::sess("seen");
const TXN: Var<str> = Var::txn("seen");
const REQ: Var<str> = Var::req("seen");
const RES: Var<u32> = Var::res("seen");

/// Every event is sent, a message without one by a rule, and variables of each scope are seen.
pub(crate) fn all_events_groups_and_scopes(version: Version) {
    let declaration = AgentDeclaration::new("all-events")
        .with_message::<OnClient>()
        .with_message::<OnServer>()
        .with_message::<OnFrontendTcp>()
        .with_message::<OnBackendTcp>()
        .with_message::<OnTcpResponse>()
        .with_message::<OnFrontendHttp>()
        .with_message::<OnBackendHttp>()
        .with_message::<OnHttpResponse>()
        .with_message::<InAGroup<'_>>()
        .with_variable(PROC)
        .with_variable(SESS)
        .with_variable(TXN)
        .with_variable(REQ)
        .with_variable(RES);
    let (sender, seen) = std::sync::mpsc::channel();
    let sender = Arc::new(Mutex::new(sender));
    let served = Served::start(move |messages, reply| {
        while let Some(mut message) = messages.next_message()? {
            let name = String::from_utf8_lossy(message.name()).into_owned();
            match &*name {
                "client" => reply.set(SESS, "session")?,
                "frontend-http" => {
                    reply.set(PROC, 12)?;
                    reply.set(REQ, "request")?;
                }
                "http-response" => {
                    reply.set(RES, OnHttpResponse::decode(&mut message)?.status.into())?;
                }
                "in-a-group" => {
                    let body = InAGroup::decode(&mut message)?.body;
                    reply.set(TXN, std::str::from_utf8(body)?)?;
                }
                _ => {}
            }
            let sender = sender.lock().map_err(|_| "poisoned")?;
            sender.send(name).map_err(|_| "nobody listens")?;
        }
        Ok(())
    });
    let haproxy = start(version, &declaration, &served);
    let answer = haproxy
        .request("POST", "/", &[("X-When", "now # 'or' never")], "a body")
        .expect("an answer");
    assert_eq!(answer.spoe_error(), None, "{answer:?}");
    let mut names: Vec<_> = seen.try_iter().collect();
    names.sort_unstable();
    let mut declared: Vec<_> = declaration.messages.iter().map(|m| m.name).collect();
    declared.sort_unstable();
    assert_eq!(names, declared);
    assert_eq!(answer.get(PROC), Some(12));
    assert_eq!(answer.get(SESS), Some("session"));
    assert_eq!(answer.get(TXN), Some("a body"));
    assert_eq!(answer.get(REQ), Some("request"));
    assert_eq!(answer.get(RES), Some(200));

    let answer = haproxy.get("/", &[]).expect("an answer");
    assert_eq!(answer.get(TXN), None, "the condition is false");
    assert!(!seen.try_iter().any(|name| name == "in-a-group"));
    drop(haproxy);
    served.finish();
}

/// Samples with what HAProxy's lines give a meaning.
#[derive(Debug, Message)]
#[spop(name = "quoted", event = "on-frontend-http-request")]
struct Quoted<'a> {
    #[spop(sample = r#"str("a, b")"#)]
    double: &'a str,
    #[spop(sample = "str('a # $HOME \" c')")]
    single: &'a str,
    #[spop(sample = r"str(a\\b)")]
    backslash: &'a str,
    #[spop(sample = r#"req.hdr(x-list),field(2,' '),concat("'$\"",,'')"#)]
    both: &'a str,
    #[spop(sample = "str()")]
    empty: &'a str,
}

pub(crate) fn samples_are_quoted(version: Version) {
    let declaration = AgentDeclaration::new("quoted")
        .with_message::<Quoted<'_>>()
        .with_variable(TXN);
    let served = Served::start(|messages, reply| {
        let mut message = messages.next_message()?.ok_or("no message")?;
        let seen = format!("{:?}", Quoted::decode(&mut message)?);
        reply.set(TXN, &*seen)?;
        Ok(())
    });
    let haproxy = start(version, &declaration, &served);
    let answer = haproxy.get("/", &[("x-list", "1 2 3")]).expect("an answer");
    let expected = Quoted {
        double: "a, b",
        single: "a # $HOME \" c",
        backslash: r"a\b",
        both: "2'$\"",
        empty: "",
    };
    assert_eq!(answer.get(TXN), Some(&*format!("{expected:?}")));
    drop(haproxy);
    served.finish();
}

/// The agent of the binary, by its own declaration.
pub(crate) fn the_compiled_in_agent_is_asked(version: Version) {
    let agent = RemediationAgent::new(embedded());
    let declaration = agent.declaration();
    let variable: Var<str> = Var::new(Scope::Transaction, "remediation");
    let served =
        Served::start_unix(move |messages, reply| agent.clone().handle_notify(messages, reply));
    let haproxy = start(version, &declaration, &served);
    for (client, expected) in [
        ("192.0.2.1", "ban"),
        ("2001:db8::1", "ban"),
        ("10.0.0.1", "allow"),
    ] {
        let client: IpAddr = client.parse().expect("an address");
        let answer = haproxy.client(client).get("/", &[]).expect("an answer");
        assert_eq!(answer.get(variable), Some(expected), "{client}");
    }
    drop(haproxy);
    served.finish();
}

/// What takes more room than a response has is an error that says so.
pub(crate) fn variables_that_do_not_fit_are_an_error(version: Version) {
    let served = Served::start(|_, reply| {
        reply.set(BYTES, &[b'x'; 6000][..])?;
        Ok(())
    });
    let haproxy = start(version, &of_all_types(), &served);
    let error = haproxy.get("/", &[]).expect_err("too much").to_string();
    assert!(error.contains("GET /"), "{error}");
    assert!(error.contains("tune.bufsize"), "{error}");
    drop(haproxy);
    served.finish();
}

/// Something listens that is no agent, and goes: the connection is lost.
pub(crate) fn a_lost_connection_is_an_error_of_spoe(version: Version) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let closing = std::thread::spawn(move || drop(listener.accept()));
    let config = SpoeConfig::new(&of_all_types())
        .address(address)
        .processing_timeout(Duration::from_millis(300));
    let haproxy = start_with(version, &config);
    let answer = haproxy.get("/1", &[]).expect("an answer");
    assert!(answer.spoe_error().is_some(), "{answer:?}");
    closing.join().expect("a connection");
}

#[derive(Debug, Message)]
#[spop(name = "wrong", event = "on-frontend-http-request")]
struct Wrong {
    #[spop(sample = "no_such_fetch(1)")]
    number: i64,
}

/// HAProxy refuses the configuration, and what it says is what the error says.
pub(crate) fn what_haproxy_says_is_in_the_error(version: Version) {
    let declaration = AgentDeclaration::new("wrong").with_message::<Wrong>();
    let config = SpoeConfig::new(&declaration).address("127.0.0.1:9000");
    let error = TestHaproxy::start_with(&config, version.executable()).expect_err("a wrong fetch");
    let (shown, debugged) = (error.to_string(), format!("{error:?}"));
    for part in ["did not start", "no_such_fetch", version.name()] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(shown, debugged, "a test that returns it shows it");
}

/// The socket that requests go to, which is nobody's matter but of these tests.
fn frontend_of(haproxy: &TestHaproxy) -> PathBuf {
    let debugged = format!("{haproxy:?}");
    let folder = debugged.split('"').nth(1).expect("a folder");
    Path::new(folder).join("http.sock")
}

/// The agent is asked once the whole body is there, also where it comes late.
pub(crate) fn bodies_are_waited_for(version: Version) {
    let declaration = AgentDeclaration::new("bodies").with_message::<InAGroup<'_>>();
    let (sender, seen) = std::sync::mpsc::channel();
    let sender = Arc::new(Mutex::new(sender));
    let served = Served::start(move |messages, _| {
        let mut message = messages.next_message()?.ok_or("no message")?;
        let body = InAGroup::decode(&mut message)?.body.to_vec();
        let sender = sender.lock().map_err(|_| "poisoned")?;
        sender.send(body).map_err(|_| "nobody listens")?;
        Ok(())
    });
    let haproxy = start(version, &declaration, &served);
    let mut socket = UnixStream::connect(frontend_of(&haproxy)).expect("a connection");
    let head = b"PROXY UNKNOWN\r\nPOST / HTTP/1.1\r\nhost: test\r\nx-when: now # 'or' never\r\n\
                 connection: close\r\ncontent-length: 8\r\n\r\nfour";
    socket.write_all(head).expect("room for it");
    std::thread::sleep(Duration::from_millis(50));
    socket.write_all(b"more").expect("room for it");
    let mut response = Vec::new();
    socket.read_to_end(&mut response).expect("a response");
    assert!(response.starts_with(b"HTTP/1.1 200"));
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [b"fourmore"]);
    drop(haproxy);
    served.finish();
}

/// The process and its folder are gone when it is dropped, also while requests wait.
pub(crate) fn nothing_is_left_behind(version: Version) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = SpoeConfig::new(&of_all_types())
        .address(listener.local_addr().expect("its address"))
        .processing_timeout(Duration::from_secs(60));
    let haproxy = start_with(version, &config);
    let socket = frontend_of(&haproxy);
    assert!(socket.exists());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            crate::http::Request::get("/")
                .behind_proxy([127, 0, 0, 1].into())
                .send(&socket)
        });
        // It has asked, and nobody answers.
        let asked = listener.accept();
        drop(haproxy);
        assert!(asked.is_ok());
        assert!(waiting.join().expect("no panic").is_err());
    });
    assert!(began.elapsed() < GONE, "{:?}", began.elapsed());
    let folder = socket.parent().expect("its folder");
    assert!(!folder.exists(), "{}", folder.display());
}

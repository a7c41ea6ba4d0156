//! The binary by its `[remediation]` table, behind the samples of dist/ with the messages of CrowdSec's
//! bouncer: who is turned away, who gets a captcha, and what holds without an agent.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::asked::next_request;
use crate::fixture::{Binary, Folder, Haproxy, Version, wait_for};
use crate::http::{Request, Response};
use crate::lapi::{KEY, Lapi};
use crate::samples::replaced;

/// A changed list is in force, a reload done, a new decision of a LAPI known.
const CHANGE: Duration = Duration::from_secs(10);

const BANNED: &str = "192.0.2.1";
const SUSPECT: &str = "192.0.2.2";
const FREE: &str = "10.1.1.1";

/// The socket of the frontend that makes HTTP/2 of HTTP/1.1.
const TO_HTTP2: &str = "to-http2.sock";

/// The line of the samples, which tests make another one of.
const BUFSIZE: &str = "    tune.bufsize 65536\n";

const FORM: &str = "application/x-www-form-urlencoded";

/// What a stub answers to a head in lower case and a body: a status and JSON.
type Judge = fn(head: &str, body: &str) -> (u16, &'static str);

/// A stub of a captcha provider or an AppSec, on loopback.
struct ProviderStub {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProviderStub {
    /// A provider whose captchas `four` solves.
    fn start() -> Self {
        Self::judging(|_, body| {
            let has = |pair: &str| body.split('&').any(|field| field == pair);
            match has("secret=hush") && has("response=four") {
                true => (200, r#"{"success":true}"#),
                false => (200, r#"{"success":false}"#),
            }
        })
    }

    fn judging(judge: Judge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                answer(&stream, judge);
            }
        });
        Self {
            address,
            is_over,
            thread: Some(thread),
        }
    }
}

/// One question a connection.
fn answer(mut stream: &TcpStream, judge: Judge) {
    let timeout = Some(Duration::from_secs(2));
    stream.set_read_timeout(timeout).expect("a timeout");
    let mut reader = BufReader::new(stream);
    let Some((head, body)) = next_request(&mut reader) else {
        return;
    };
    let (status, text) = judge(&head, &body);
    let _ = write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{text}",
        text.len()
    );
}

impl Drop for ProviderStub {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// ringspoa.toml and the list it names, in a folder where also the agent's socket is.
struct Agent {
    folder: Folder,
    config: PathBuf,
    list: PathBuf,
}

impl Agent {
    /// Asks the stub, and has these decisions.
    fn prepare(stub: &ProviderStub, decisions: &str) -> Self {
        let folder = Folder::new();
        let list = folder.write("decisions.csv", decisions);
        let text = settings(&list, stub.address, "mailto:x@example");
        let config = folder.write("ringspoa.toml", &text);
        Self {
            folder,
            config,
            list,
        }
    }

    fn start(&self) -> Binary {
        let listen = format!("unix:{}", self.folder.file("spop.sock").display());
        let config = self.config.display().to_string();
        Binary::start(&self.folder, &listen, &["--config", &config])
    }

    /// With AppSec, and with more time for the stubs than they ever need: without a word of theirs a request
    /// passes.
    fn start_patient(&self, provider: &ProviderStub, appsec: &ProviderStub) -> Binary {
        let text = settings_with_appsec(&self.list, provider.address, appsec.address);
        let text = text.replace("350ms", "4s").replace("= 400", "= 4500");
        fs::write(&self.config, text).expect("a file of ours");
        self.start()
    }
}

fn settings(list: &Path, provider: SocketAddr, contact: &str) -> String {
    format!(
        "agent-deadline-ms = 400

[remediation]
wait-ready-ms = 5000

[[remediation.list]]
path = \"{}\"

[[remediation.host]]
host = \"test\"

[remediation.host.ban]
contact-us-url = \"{contact}\"

[remediation.host.captcha]
provider = \"custom\"
site-key = \"the-site-key\"
secret-key = \"hush\"
signing-key = \"0123456789abcdef0123456789abcdef\"

[remediation.host.captcha.custom]
script = \"https://captcha.example/api.js\"
class = \"x-captcha\"
field = \"x-captcha-response\"
url = \"http://{provider}/siteverify\"
",
        list.display()
    )
}

/// Starts HAProxy with a sample, whose application sets a cookie. `agent` has the agent's socket.
fn start(version: Version, sample: &str, agent: &Folder) -> Haproxy {
    start_with(version, sample, BUFSIZE, agent)
}

/// The same with buffers of another size.
fn start_with(version: Version, sample: &str, bufsize: &str, agent: &Folder) -> Haproxy {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dist = root.join("dist").join(match version.has_multiplexer() {
        true => "haproxy-3.1",
        false => "haproxy-2.6",
    });
    let read = |name: &str| fs::read_to_string(dist.join(name)).expect("a sample");
    let own = Folder::new();
    let path = |folder: &Folder, name: &str| folder.file(name).display().to_string();
    let pages = root.join("dist/pages").display().to_string();
    let origin = format!("unix@{}", path(&own, "origin.sock"));
    let http2 = path(&own, "http2.sock");
    // Clients come over HTTP/1.1, or over HTTP/2 by way of a frontend that makes it of HTTP/1.1.
    let bind = format!(
        "bind unix@{} accept-proxy\n    bind unix@{http2} accept-proxy proto h2",
        path(&own, "http.sock")
    );
    let config = replaced(
        &read(sample),
        &[
            ("/etc/haproxy/crowdsec.spoe.cfg", &path(&own, "spoe.cfg")),
            ("/usr/share/ringspoa/pages", &pages),
            ("bind :80", &bind),
            (BUFSIZE, bufsize),
            ("127.0.0.1:8000", &origin),
            ("/run/ringspoa/ringspoa.sock", &path(agent, "spop.sock")),
            // So that the test waits less; checks come every 1 or 2 s in the samples.
            (".sock check", ".sock check inter 100ms"),
        ],
    )
    .replace("inter 100ms inter 1s", "inter 100ms");
    own.write(
        "haproxy.cfg",
        &format!(
            "{config}\nfrontend origin\n    bind {origin}\n    \
             http-request return status 200 hdr set-cookie app=1 hdr x-app 1 hdr x-seen \"%[req.hdr(x-hop)]\"\n\
             frontend to_http2\n    bind unix@{} accept-proxy\n    default_backend http2\n\
             backend http2\n    server web unix@{http2} proto h2 send-proxy\n",
            path(&own, TO_HTTP2)
        ),
    );
    // A machine that does much else may be late.
    let spoe = replaced(&read("crowdsec.spoe.cfg"), &[("500ms", "5s")]);
    own.write("spoe.cfg", &spoe);
    Haproxy::start_in(version, own)
}

#[track_caller]
fn send(haproxy: &Haproxy, client: &str, request: Request) -> Response {
    let ip: IpAddr = client.parse().expect("an address");
    haproxy.send(&request.behind_proxy(ip))
}

#[track_caller]
fn send_over_http2(haproxy: &Haproxy, client: &str, request: Request) -> Response {
    let ip: IpAddr = client.parse().expect("an address");
    let request = request.behind_proxy(ip);
    let socket = haproxy.socket().with_file_name(TO_HTTP2);
    request
        .send(&socket)
        .unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

#[track_caller]
fn get(haproxy: &Haproxy, client: &str) -> Response {
    let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
    send(
        haproxy,
        client,
        Request::get("/p?x=1").header("accept", browser),
    )
}

#[track_caller]
fn wait_for_status(haproxy: &Haproxy, client: &str, expected: u16) {
    let found = wait_for(CHANGE, || {
        (get(haproxy, client).status == expected).then_some(())
    });
    assert!(
        found.is_some(),
        "{client} does not get {expected} after {CHANGE:?}: {:?}",
        get(haproxy, client)
    );
}

#[track_caller]
fn assert_passed(response: &Response) {
    assert_eq!(
        (response.status, response.header("x-app")),
        (200, "1"),
        "{response:?}"
    );
}

#[track_caller]
fn assert_page(response: &Response, status: u16, parts: &[&str]) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(response.header("cache-control"), "no-cache, no-store");
    for part in parts {
        assert!(response.body.contains(part), "{part}: {response:?}");
    }
    // A log-format that was not one.
    assert!(!response.body.contains("%["), "{response:?}");
}

pub(crate) fn the_crowdsec_sample_shows_pages_and_captchas(version: Version) {
    let stub = ProviderStub::start();
    let agent = Agent::prepare(
        &stub,
        "192.0.2.1,ban\n192.0.2.2,captcha\n192.0.2.3,challenge\n",
    );
    let binary = agent.start();
    let haproxy = start(version, "crowdsec.cfg", &agent.folder);

    let free = get(&haproxy, FREE);
    assert_passed(&free);
    assert_eq!(free.all("set-cookie"), ["app=1"]);

    // Turned away: with a page, or with a word for who takes no pages. So are those that are to solve a
    // challenge, which there is not.
    let contact = "href=\"mailto:x@example\"";
    assert_page(&get(&haproxy, "192.0.2.3"), 403, &["Access denied"]);
    // IPv4 clients of a socket that takes both are the clients that they are.
    assert_page(&get(&haproxy, "::ffff:192.0.2.1"), 403, &[contact]);
    assert_passed(&get(&haproxy, "::192.0.2.1"));
    assert_page(
        &get(&haproxy, BANNED),
        403,
        &["Access denied", contact, "</html>"],
    );
    assert_page(&send(&haproxy, BANNED, Request::get("/")), 403, &[contact]);
    for accept in ["application/json", "text/html; q=0, */*;q=0.1"] {
        let response = send(&haproxy, BANNED, Request::get("/").header("accept", accept));
        assert_eq!(
            (response.status, &*response.body),
            (403, "Forbidden"),
            "{accept}"
        );
    }

    // A captcha, and not for who cannot show it.
    let page = get(&haproxy, SUSPECT);
    assert_page(
        &page,
        200,
        &[
            "<script src=\"https://captcha.example/api.js\" async defer>",
            "<div class=\"x-captcha\" data-sitekey=\"the-site-key\" data-callback=\"captchaCallback\">",
            "<form id=\"captcha\" method=\"post\"",
        ],
    );
    let cookies = page.all("set-cookie");
    let [cookie] = cookies[..] else {
        panic!("{cookies:?}");
    };
    let (cookie, attributes) = cookie.split_once(';').expect("attributes");
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Strict");
    let json = Request::get("/").header("accept", "application/json");
    assert_eq!(send(&haproxy, SUSPECT, json).status, 403);

    // A wrong solution, then the right one: the browser gets back to what it wanted, on this host.
    let post = |path: &str, solution: &str| {
        let body = format!("x-captcha-response={solution}");
        let request = Request::post(path, body.into_bytes())
            .header("content-type", FORM)
            .header("cookie", cookie);
        send(&haproxy, SUSPECT, request)
    };
    assert_page(&post("/p?x=1", "five"), 200, &["x-captcha"]);
    for (path, location) in [
        ("/p?x=1", "/p?x=1"),
        ("//evil.example/p", "/evil.example/p"),
        // As browsers read `Location`, a backslash is a slash.
        ("/\\evil.example/p", "/evil.example/p"),
        ("/\\/\\evil.example\\p", "/evil.example\\p"),
    ] {
        let solved = post(path, "four");
        assert_eq!(
            (solved.status, solved.header("location")),
            (302, location),
            "{solved:?}"
        );
        let cookies = solved.all("set-cookie");
        let [cookie] = cookies[..] else {
            panic!("{solved:?}");
        };
        let (cookie, _) = cookie.split_once(';').expect("attributes");
        let next = send(
            &haproxy,
            SUSPECT,
            Request::get("/p?x=1").header("cookie", cookie),
        );
        assert_passed(&next);
        assert_eq!(next.all("set-cookie"), ["app=1"]);
        // Whose decision is gone loses the cookie, and keeps that of the application.
        let free = send(&haproxy, FREE, Request::get("/").header("cookie", cookie));
        assert_passed(&free);
        let mut cookies = free.all("set-cookie");
        cookies.sort_unstable();
        assert_eq!(cookies[0], "app=1");
        assert!(
            cookies[1].starts_with("crowdsec_captcha_cookie=; Path=/; Max-Age=0;"),
            "{cookies:?}"
        );
    }
    // A body that is not sent is no solution, and its client is judged all the same.
    let long = Request::post("/", vec![b'x'; 60_000]).header("content-type", FORM);
    assert_page(&send(&haproxy, SUSPECT, long.clone()), 200, &["x-captcha"]);
    assert_eq!(send(&haproxy, BANNED, long.clone()).status, 403);
    assert_passed(&send(&haproxy, FREE, long));

    assert_eq!(haproxy.complaints(), [""; 0]);
    drop(haproxy);
    binary.finish();
}

pub(crate) fn lists_and_settings_change_while_haproxy_asks(version: Version) {
    let stub = ProviderStub::start();
    let agent = Agent::prepare(&stub, "192.0.2.1,ban\n");
    let binary = agent.start();
    let haproxy = start(version, "crowdsec.cfg", &agent.folder);
    assert_eq!(get(&haproxy, BANNED).status, 403);
    assert_passed(&get(&haproxy, FREE));

    // A list, without a signal.
    fs::write(&agent.list, "# others\n10.1.0.0/16,ban\n").expect("a file of ours");
    wait_for_status(&haproxy, FREE, 403);
    assert_passed(&get(&haproxy, BANNED));

    // Settings, by a signal.
    assert_page(&get(&haproxy, FREE), 403, &["mailto:x@example"]);
    let text = settings(&agent.list, stub.address, "");
    fs::write(&agent.config, text).expect("a file of ours");
    kill(binary.pid(), Signal::SIGHUP).expect("it runs");
    let found = wait_for(CHANGE, || {
        let page = get(&haproxy, FREE);
        (page.status == 403 && !page.body.contains("mailto:")).then_some(page)
    });
    let page = found.unwrap_or_else(|| panic!("the page has the old contact after {CHANGE:?}"));
    assert_page(&page, 403, &["it may not have been you"]);

    assert_eq!(haproxy.complaints(), [""; 0]);
    drop(haproxy);
    binary.finish();
}

/// Without an agent all pass.
pub(crate) fn the_open_crowdsec_sample_fails_open(version: Version) {
    let stub = ProviderStub::start();
    let agent = Agent::prepare(&stub, "192.0.2.1,ban\n192.0.2.2,captcha\n");
    let haproxy = start(version, "crowdsec.cfg", &agent.folder);
    assert_passed(&get(&haproxy, BANNED));
    drop(haproxy);

    let mut binary = agent.start();
    let haproxy = start(version, "crowdsec.cfg", &agent.folder);
    assert_eq!(get(&haproxy, BANNED).status, 403);
    assert_passed(&get(&haproxy, FREE));
    // It does not say goodbye.
    binary.kill();
    for client in [BANNED, SUSPECT, FREE] {
        assert_passed(&get(&haproxy, client));
    }
}

/// Without an agent nobody passes, and the monitor says so; it comes back with the agent.
pub(crate) fn the_closed_crowdsec_sample_fails_closed(version: Version) {
    let stub = ProviderStub::start();
    let agent = Agent::prepare(&stub, "192.0.2.1,ban\n192.0.2.2,captcha\n");
    let haproxy = start(version, "crowdsec-fail-closed.cfg", &agent.folder);
    // Also before the first check, which is when HAProxy takes the agent to be up.
    assert_eq!(get(&haproxy, FREE).status, 503);

    let mut binary = agent.start();
    wait_for_status(&haproxy, FREE, 200);
    assert_passed(&get(&haproxy, FREE));
    assert_eq!(get(&haproxy, BANNED).status, 403);
    assert_page(&get(&haproxy, SUSPECT), 200, &["x-captcha"]);
    let health = || send(&haproxy, FREE, Request::get("/haproxy-health")).status;
    assert_eq!(health(), 200);
    binary.kill();
    for client in [BANNED, SUSPECT, FREE] {
        assert_eq!(get(&haproxy, client).status, 503, "{client}");
    }
    assert!(
        wait_for(CHANGE, || (health() == 503).then_some(())).is_some(),
        "the monitor is not 503 after {CHANGE:?}"
    );
}

/// What an operator tells CrowdSec holds at HAProxy.
pub(crate) fn a_decision_of_cscli_reaches_haproxy(version: Version) {
    let lapi = Lapi::start();
    let folder = Folder::new();
    let config = folder.write(
        "ringspoa.toml",
        &format!(
            "[remediation]\nwait-ready-ms = 10000\n\n[remediation.crowdsec]\nurl = \"{}\"\nkey = \"{KEY}\"\n\
             update-frequency-ms = 500\n",
            lapi.url()
        ),
    );
    let agent = Agent {
        list: PathBuf::new(),
        folder,
        config,
    };
    let binary = agent.start();
    let haproxy = start(version, "crowdsec.cfg", &agent.folder);
    assert_passed(&get(&haproxy, BANNED));
    lapi.add(BANNED, "4h");
    wait_for_status(&haproxy, BANNED, 403);
    assert_page(&get(&haproxy, BANNED), 403, &["Access denied"]);
    assert_passed(&get(&haproxy, FREE));
    lapi.cscli(&["decisions", "delete", "--ip", BANNED]);
    wait_for_status(&haproxy, BANNED, 200);
    assert_eq!(haproxy.complaints(), [""; 0]);
    drop(haproxy);
    binary.finish();
}

/// AppSec as the tests have it: `evil` in what it is told is to be turned away.
fn judged_by_appsec(head: &str, body: &str) -> (u16, &'static str) {
    let told = |name: &str| {
        let mut lines = head.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_default()
    };
    let uri = told("x-crowdsec-appsec-uri");
    let is_whole = told("x-crowdsec-appsec-api-key") == "waf-key"
        && told("x-crowdsec-appsec-ip") == FREE
        && told("x-crowdsec-appsec-host") == "test"
        && told("x-crowdsec-appsec-transaction-id").len() == 36
        && ["11", "20"].contains(&told("x-crowdsec-appsec-http-version"))
        // A path, also of the absolute URL that HTTP/2 has.
        && uri.starts_with('/');
    if !is_whole {
        return (403, r#"{"action":"ban"}"#);
    }
    let is_post = told("x-crowdsec-appsec-verb") == "post";
    if uri.contains("challenge") {
        (
            403,
            r#"{"action":"challenge","http_status":200,"user_body_content":"<html>"}"#,
        )
    } else if uri.contains("captcha") {
        (403, r#"{"action":"captcha","http_status":403}"#)
    } else if [
        uri,
        told("cookie"),
        told("x-hop"),
        if is_post { body } else { "" },
    ]
    .iter()
    .any(|part| part.contains("evil"))
    {
        (403, r#"{"action":"ban","http_status":403}"#)
    } else {
        (200, r#"{"action":"allow","http_status":200}"#)
    }
}

/// The settings with an AppSec.
fn settings_with_appsec(list: &Path, provider: SocketAddr, appsec: SocketAddr) -> String {
    format!(
        "{}\n[remediation.appsec]\nurl = \"http://{appsec}/\"\napi-key = \"waf-key\"\ntimeout = \"350ms\"\n",
        settings(list, provider, "mailto:x@example"),
    )
}

pub(crate) fn appsec_judges_requests_over_http_1_and_2(version: Version) {
    let stub = ProviderStub::start();
    let appsec = ProviderStub::judging(judged_by_appsec);
    let agent = Agent::prepare(&stub, "192.0.2.1,ban\n");
    let text = settings_with_appsec(&agent.list, stub.address, appsec.address);
    fs::write(&agent.config, text).expect("a file of ours");
    let binary = agent.start();
    let haproxy = start(version, "crowdsec.cfg", &agent.folder);
    for send in [send, send_over_http2] {
        assert_passed(&send(&haproxy, FREE, Request::get("/p?x=1")));
        assert_page(
            &send(&haproxy, FREE, Request::get("/p?x=evil")),
            403,
            &["Access denied"],
        );
        let post = |body: &str| send(&haproxy, FREE, Request::post("/form", body.into()));
        assert_passed(&post("a=good"));
        assert_eq!(post("a=evil").status, 403);
        let cookie = |request: Request| request.header("cookie", "a=evil");
        assert_eq!(send(&haproxy, FREE, cookie(Request::get("/"))).status, 403);
        // A captcha that AppSec wants is shown.
        assert_page(
            &send(&haproxy, FREE, Request::get("/captcha")),
            200,
            &["x-captcha"],
        );
        // A challenge that it wants is not served, and does not pass; that is told once.
        assert_page(
            &send(&haproxy, FREE, Request::get("/challenge")),
            403,
            &["Access denied"],
        );
        assert_eq!(send(&haproxy, BANNED, Request::get("/")).status, 403);
    }
    // What the client's `Connection` names is not hidden from it, as it is not from the application.
    let hop = |value: &str| {
        let request = Request::get("/").header("connection", "x-hop, cookie");
        send(&haproxy, FREE, request.header("x-hop", value))
    };
    assert_eq!(hop("good").header("x-seen"), "good");
    assert_eq!(hop("evil").status, 403);
    assert_eq!(hop("\u{1}evil").status, 403);
    let told =
        "AppSec wants a client to solve a challenge, which is not served here: it gets ban instead";
    assert_eq!(binary.output().matches(told).count(), 1);
    assert_eq!(haproxy.complaints(), [""; 0]);
    drop(haproxy);
    binary.finish();
}

/// Whom the agent cannot be asked about is not let through for that, whatever else fails open: the length is
/// the client's to choose.
pub(crate) fn requests_that_are_too_long_to_be_asked_about_do_not_pass(version: Version) {
    let stub = ProviderStub::start();
    let agent = Agent::prepare(&stub, "192.0.2.1,ban\n192.0.2.2,captcha\n");
    let binary = agent.start();
    for (sample, refused) in [("crowdsec.cfg", 431), ("crowdsec-fail-closed.cfg", 503)] {
        let haproxy = start(version, sample, &agent.folder);
        wait_for_status(&haproxy, FREE, 200);
        let long = |len: usize| format!("/{}", "x".repeat(len));
        // A path is in the message twice.
        let request = Request::get(&long(34_000));
        let send = |client| send(&haproxy, client, request.clone());
        if version.has_multiplexer() {
            assert_eq!(send(FREE).status, refused);
            assert_eq!(send(SUSPECT).status, refused);
            assert_ne!(send(BANNED).status, 200);
        } else {
            // In fragments it fits.
            assert_passed(&send(FREE));
            assert_page(&send(SUSPECT), 200, &["x-captcha"]);
            assert_eq!(send(BANNED).status, 403);
        }
    }
    binary.finish();
}

/// The same where buffers are larger than the agent's frames, as large as what it puts together from fragments,
/// and larger, and as small as they are by default: what AppSec would refuse does not come to the application.
pub(crate) fn no_length_is_a_way_past_the_agent(version: Version) {
    let stub = ProviderStub::start();
    let appsec = ProviderStub::judging(judged_by_appsec);
    let agent = Agent::prepare(&stub, "192.0.2.1,ban\n192.0.2.2,captcha\n");
    let binary = agent.start_patient(&stub, &appsec);
    for (sample, refused) in [("crowdsec.cfg", 431), ("crowdsec-fail-closed.cfg", 503)] {
        for size in [16_384, 131_072, 262_144] {
            let bufsize = format!("    tune.bufsize {size}\n");
            let haproxy = start_with(version, sample, &bufsize, &agent.folder);
            wait_for_status(&haproxy, FREE, 200);
            // In thirds of a buffer, as the URL is in a message twice.
            let part = "x".repeat(size / 10 * 3);
            let most = "x".repeat(size / 10 * 8);
            let body = vec![b'x'; 51_200.min(size / 2)];
            for (what, request) in [
                ("a path", Request::get(&format!("/evil{part}"))),
                ("a longer path", Request::get(&format!("/evil{most}"))),
                ("a query", Request::get(&format!("/?evil{most}"))),
                ("a header", Request::get("/evil").header("x-long", &most)),
                (
                    "a path and a header",
                    Request::get(&format!("/evil{part}")).header("x-long", &part),
                ),
                (
                    "all of it",
                    Request::post(&format!("/evil{part}"), body)
                        .header("x-long", &part[..part.len() / 2]),
                ),
                ("a method", Request::of(&most, "test", "/evil")),
            ] {
                for client in [FREE, SUSPECT, BANNED] {
                    let response = send(&haproxy, client, request.clone());
                    assert_eq!(
                        response.header("x-app"),
                        "",
                        "{what}, tune.bufsize {size}, {sample}, {client}: {}",
                        response.status
                    );
                }
            }
            // What fits no frame, or not what the agent puts together, is refused for just that.
            let request = Request::get("/").header("x-long", &most);
            let status = send(&haproxy, FREE, request).status;
            let expected = match (size, version.has_multiplexer()) {
                (16_384, _) => 200,
                (_, true) => refused,
                (_, false) => 431,
            };
            assert_eq!(status, expected, "tune.bufsize {size}, {sample}");
            assert_eq!(get(&haproxy, BANNED).status, 403);
            assert_passed(&get(&haproxy, FREE));
        }
    }
    binary.finish();
}

/// AppSec judges the whole of a body, whatever room its head leaves it in HAProxy's buffer, or none of it, where
/// it is longer than the samples send.
pub(crate) fn no_body_is_judged_by_its_beginning(version: Version) {
    let stub = ProviderStub::start();
    let appsec = ProviderStub::judging(judged_by_appsec);
    let agent = Agent::prepare(&stub, "192.0.2.1,ban\n");
    let binary = agent.start_patient(&stub, &appsec);
    for sample in ["crowdsec.cfg", "crowdsec-fail-closed.cfg"] {
        let haproxy = start(version, sample, &agent.folder);
        wait_for_status(&haproxy, FREE, 200);
        let request = |path: usize, header: usize| {
            let path = format!("/{}", "x".repeat(path));
            Request::of("POST", "test", &path).header("x-long", "x".repeat(header))
        };
        let ending_in = |end: &str, len: usize| format!("{}{end}", "x".repeat(len - end.len()));
        for send in [send, send_over_http2] {
            // The longest there is with the longest head.
            for (end, status) in [("good", 200), ("evil", 403)] {
                let request = request(2000, 7900);
                let whole = request.clone().body(ending_in(end, 51_200));
                assert_eq!(send(&haproxy, FREE, whole).status, status, "{end}");
                let pieces = request.chunked_body(&ending_in(end, 51_000));
                assert_eq!(send(&haproxy, FREE, pieces).status, status, "{end}");
            }
            for request in [request(2100, 0), request(0, 8300)] {
                let whole = request.clone().body("x");
                assert_eq!(send(&haproxy, FREE, whole).status, 431);
                let pieces = request.chunked_body("x");
                assert_eq!(send(&haproxy, FREE, pieces).status, 431);
            }
        }
        let ip: IpAddr = FREE.parse().expect("an address");
        for (header, len) in [(20_000, 50_000), (40_000, 45_000), (64_200, 20_000)] {
            let body = ending_in("evil", len);
            let request = request(0, header);
            for request in [request.clone().body(&*body), request.chunked_body(&body)] {
                // HAProxy may be gone before it has taken all of it.
                let answer = request.behind_proxy(ip).send(&haproxy.socket());
                let has_passed = answer.is_ok_and(|answer| answer.header("x-app") == "1");
                assert!(!has_passed, "{sample}, a head of {header}, a body of {len}");
            }
        }
    }
    binary.finish();
}

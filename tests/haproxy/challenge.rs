//! Browser validation by the binary's `[challenge]` table, behind the samples of dist/: who gets a page, who
//! gets in, and what holds while agents come, go and change their keys.
//!
//! The visitor here solves what a page would solve, and sends what it would send.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringspoa::agents::challenge::{CHALLENGE_LEN, solution_body, solve};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::fixture::{Binary, Folder, Haproxy, Version, own_loopback_address, wait_for};
use crate::http::{Request, Response};
use crate::samples::replaced;

const OPEN: &str = "challenge.cfg";
const CLOSED: &str = "challenge-fail-closed.cfg";

const HOST: &str = "www.example";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// 32 bytes each, in base64.
const KEY_1: &str = "YSBrZXkgb2YgdGVzdHMsIHRoZSBmaXJzdCBvZiB0aGU=";
const KEY_2: &str = "YSBrZXkgb2YgdGVzdHMsIHRoZSBzZWNvbmQgb2YgdGg=";

/// A reload is done, HAProxy has noticed who came or went.
const CHANGE: Duration = Duration::from_secs(10);

/// The rule of the sample for dear requests, and as it is without the comment.
const SECOND_LEVEL: (&str, &str) = (
    "# http-request set-var(txn.ask.level) int(2)",
    "http-request set-var(txn.ask.level) int(2)",
);

/// Little work at the first level, and a wait at the second.
const LEVELS: &str = "
[[challenge.realm.level]]
type = \"pow\"
work = 256
parts = 4

[[challenge.realm.level]]
type = \"wait\"
wait-s = 1
duration-s = 600
";

fn settings(keys: &[(u8, &str)], realm: &str, rest: &str) -> String {
    let keys: String = keys
        .iter()
        .map(|(id, secret)| format!("[[challenge.key]]\nid = {id}\nsecret = \"{secret}\"\n"))
        .collect();
    format!("[challenge]\n{keys}\n[[challenge.realm]]\n{realm}\n{LEVELS}\n{rest}\n")
}

/// An agent with its configuration, and the folder of both.
struct Agent {
    folder: Folder,
    config: PathBuf,
    binary: Option<Binary>,
}

impl Agent {
    fn start(settings: &str) -> Self {
        let folder = Folder::new();
        let config = folder.write("ringspoa.toml", settings);
        let mut agent = Self {
            folder,
            config,
            binary: None,
        };
        agent.start_again();
        agent
    }

    fn start_again(&mut self) {
        let listen = format!("unix:{}", self.folder.file("spop.sock").display());
        let config = self.config.display().to_string();
        let admin = format!("unix:{}", self.folder.file("admin.sock").display());
        let flags = [
            "--config",
            &config,
            "--admin-listen",
            &admin,
            "--cores",
            "0",
        ];
        self.binary = Some(Binary::start(&self.folder, &listen, &flags));
    }

    fn binary(&self) -> &Binary {
        self.binary.as_ref().expect("it runs")
    }

    fn kill(&mut self) {
        self.binary.as_mut().expect("it runs").kill();
        self.binary = None;
    }

    /// Has it read other settings; how it went.
    fn reload(&self, settings: &str, outcome: &str) {
        let count = |output: &str| output.matches(outcome).count();
        let before = count(&self.binary().output());
        fs::write(&self.config, settings).expect("a file of ours");
        kill(self.binary().pid(), Signal::SIGHUP).expect("it runs");
        wait_for(CHANGE, || {
            (count(&self.binary().output()) > before).then_some(())
        })
        .unwrap_or_else(|| panic!("no {outcome:?}:\n{}", self.binary().output()));
    }

    fn metrics(&self) -> String {
        let mut socket = UnixStream::connect(self.folder.file("admin.sock")).expect("it is shown");
        let mut text = String::new();
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
            .expect("a request");
        socket.read_to_string(&mut text).expect("an answer");
        text
    }

    /// The sum of the samples of a family that have all these labels.
    fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let samples = text.lines().filter(|line| {
            line.strip_prefix(family)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    fn finish(mut self) {
        self.binary.take().expect("it runs").finish();
    }
}

/// How a sample is used: which, what of it is changed, and with what flags its page is made.
struct Use<'a> {
    sample: &'a str,
    changes: &'a [(&'a str, &'a str)],
    page: &'a [&'a str],
    /// `timeout processing` of what is answered at once.
    processing: &'a str,
    /// Where it also listens, for load.
    address: Option<SocketAddr>,
    /// Where HAProxy sends its log.
    log: Option<&'a Path>,
}

impl Default for Use<'_> {
    fn default() -> Self {
        Self {
            sample: OPEN,
            changes: &[],
            page: &[],
            // A machine that does much else is no reason to fail.
            processing: "10s",
            address: None,
            log: None,
        }
    }
}

fn dist(version: Version) -> PathBuf {
    let folder = match version.has_multiplexer() {
        true => "haproxy-3.1",
        false => "haproxy-2.6",
    };
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist")
        .join(folder)
}

fn make_page(to: &Path, flags: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["page", "--output"])
        .arg(to)
        .args(flags)
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What the application answers: what it was asked.
fn origin(socket: &str) -> String {
    format!(
        "\nfrontend origin\n    bind unix@{socket}\n    option http-buffer-request\n    \
         http-request return status 200 content-type text/plain lf-string \"%[method] %[pathq] %[req.body]\"\n"
    )
}

/// Starts HAProxy with a sample, whose agent is in `folder`.
fn start(version: Version, how: &Use<'_>, folder: &Folder) -> Haproxy {
    let own = Folder::new();
    let path = |name: &str| own.file(name).display().to_string();
    let read = |name: &str| fs::read_to_string(dist(version).join(name)).expect("a sample");
    let page = own.file("challenge.html");
    make_page(&page, how.page);
    let never = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/challenge-never.lst");
    let mut bind = format!("bind unix@{} accept-proxy", path("http.sock"));
    if let Some(address) = how.address {
        bind += &format!("\n    bind {address}");
    }
    let certificate = certificate();
    own.write("site.pem", &certificate.pem);
    let bind_tls = format!(
        "bind unix@{} accept-proxy ssl crt {} ",
        path("https.sock"),
        path("site.pem")
    );
    let agent = folder.file("spop.sock").display().to_string();
    let text = replaced(
        &read(how.sample),
        &[
            ("/etc/haproxy/challenge.spoe.cfg", &path("spoe.cfg")),
            (
                "lf-file /etc/haproxy/challenge.html",
                &format!("lf-file {}", page.display()),
            ),
            (
                "-f /etc/haproxy/challenge-never.lst",
                &format!("-f {}", never.display()),
            ),
            ("bind :80", &bind),
            ("# bind :443 ssl crt /etc/haproxy/site.pem ", &bind_tls),
            ("127.0.0.1:8000", &format!("unix@{}", path("origin.sock"))),
            ("/run/ringspoa/ringspoa.sock", &agent),
            // So that the test waits less, and a machine that does much else is no agent that is down.
            (".sock check", ".sock check inter 100ms fall 30"),
        ],
    );
    let text = replaced(&text, how.changes).replace("fall 30 inter 1s", "fall 30");
    let log = match how.log {
        Some(socket) => format!("    log {} format raw local0\n", socket.display()),
        None => String::new(),
    };
    own.write(
        "haproxy.cfg",
        &format!(
            "global\n    stats socket unix@{} level admin\n{log}{text}{}",
            path("stats.sock"),
            origin(&path("origin.sock"))
        ),
    );
    let processing = format!("processing {}", how.processing);
    let spoe = replaced(
        &read("challenge.spoe.cfg"),
        &[("processing 100ms", &processing)],
    );
    // It is there up to 3.0 alone.
    own.write(
        "spoe.cfg",
        &spoe.replace("hello      200ms", "hello      10s"),
    );
    Haproxy::start_in(version, own)
}

struct Certificate {
    pem: String,
    config: Arc<ClientConfig>,
}

/// Of `HOST`, the same in all tests of this process, and a client that trusts it.
fn certificate() -> &'static Certificate {
    static CERTIFICATE: std::sync::OnceLock<Certificate> = std::sync::OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let made =
            rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("it is one");
        roots.add(der).expect("it is one");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of the provider")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Certificate {
            pem: made.cert.pem() + &made.signing_key.serialize_pem(),
            config: Arc::new(config),
        }
    })
}

/// Somebody with a browser.
#[derive(Clone, Debug)]
struct Visitor {
    host: &'static str,
    address: IpAddr,
    user_agent: &'static str,
    cookie: Option<String>,
}

impl Default for Visitor {
    fn default() -> Self {
        Self {
            host: HOST,
            address: IpAddr::from([10, 1, 1, 1]),
            user_agent: BROWSER,
            cookie: None,
        }
    }
}

impl Visitor {
    fn request(&self, method: &str, path: &str) -> Request {
        let request = Request::of(method, self.host, path).header("user-agent", self.user_agent);
        let request = match &self.cookie {
            Some(cookie) => request.header("cookie", format!("theme=dark; {cookie}; last=1")),
            None => request,
        };
        request.behind_proxy(self.address)
    }

    fn navigation(&self, path: &str) -> Request {
        self.request("GET", path)
            .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("sec-fetch-mode", "navigate")
    }

    /// Asks for a challenge as the page at a path does.
    #[track_caller]
    fn challenge(&self, haproxy: &Haproxy, at: &str) -> Value {
        let referer = format!("http://{}{at}", self.host);
        let request = self
            .request("GET", "/.challenge")
            .header("referer", referer);
        let response = haproxy.send(&request);
        assert_eq!(response.status, 200, "{response:?}");
        json(&response)
    }

    /// Sends a solution as the page does.
    #[track_caller]
    fn submit(&self, haproxy: &Haproxy, body: &str) -> Response {
        haproxy.send(
            &self
                .request("POST", "/.challenge")
                .header("content-type", "text/plain")
                .body(body),
        )
    }

    /// Takes what a response sets.
    #[track_caller]
    fn take(&mut self, response: &Response) {
        let cookie = response.header("set-cookie");
        let (pair, _) = cookie
            .split_once(';')
            .unwrap_or_else(|| panic!("no cookie: {response:?}"));
        self.cookie = Some(pair.to_owned());
    }

    /// Solves a challenge for a path, and has a cookie then.
    #[track_caller]
    fn pass(&mut self, haproxy: &Haproxy, at: &str) -> Response {
        let response = self.submit(haproxy, &solution(&self.challenge(haproxy, at)));
        assert_eq!(
            (response.status, json(&response)["ok"].as_bool()),
            (200, Some(true)),
            "{response:?}"
        );
        self.take(&response);
        response
    }

    #[track_caller]
    fn status(&self, haproxy: &Haproxy, path: &str) -> u16 {
        haproxy.send(&self.navigation(path)).status
    }
}

#[track_caller]
fn json(response: &Response) -> Value {
    serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("{error}: {response:?}"))
}

/// The challenge in a page.
#[track_caller]
fn challenge_in(page: &Response) -> Value {
    let start = page
        .body
        .find("{\"v\":1")
        .unwrap_or_else(|| panic!("none in it: {page:?}"));
    let text = &page.body[start..];
    serde_json::from_str(text.split("</script>").next().unwrap()).expect("a challenge")
}

#[track_caller]
fn solution(challenge: &Value) -> String {
    let text = challenge["ch"]
        .as_str()
        .unwrap_or_else(|| panic!("{challenge}"));
    let bytes = URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let bytes: &[u8; CHALLENGE_LEN] = bytes.first_chunk().expect("all of it");
    solution_body(text, &solve(bytes).unwrap_or_default())
}

#[track_caller]
fn assert_page(response: &Response) {
    assert_eq!(response.status, 403, "{response:?}");
    for (name, part) in [
        ("content-type", "text/html"),
        ("cache-control", "no-store"),
        ("x-challenge", "required"),
        ("x-robots-tag", "noindex"),
        ("content-security-policy", "script-src 'sha256-"),
    ] {
        assert!(response.header(name).contains(part), "{name}: {response:?}");
    }
    assert_eq!(response.header("set-cookie"), "");
}

#[track_caller]
fn assert_short(response: &Response) {
    assert_eq!(
        (
            response.status,
            &*response.body,
            response.header("x-challenge")
        ),
        (403, r#"{"challenge":"required"}"#, "required"),
        "{response:?}"
    );
    assert!(
        response.header("content-type").contains("application/json"),
        "{response:?}"
    );
}

/// From the page to the application, and what a cookie is good for.
pub(crate) fn a_browser_passes_and_nobody_else(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let haproxy = start(version, &Use::default(), &agent.folder);
    let mut visitor = Visitor::default();

    let page = haproxy.send(&visitor.navigation("/shop?x=1"));
    assert_page(&page);
    let challenge = challenge_in(&page);
    assert_eq!(challenge["a"], "sha256");
    assert_eq!(
        challenge["sid"].as_str(),
        Some(page.header("x-challenge-id"))
    );
    assert!(
        page.body.contains(page.header("x-challenge-id")),
        "a visitor can read it"
    );

    let german = visitor
        .navigation("/")
        .header("accept-language", "de-DE,de;q=0.9,en;q=0.8");
    let page = haproxy.send(&german);
    assert_page(&page);
    assert_eq!(challenge_in(&page)["l"], "de", "{page:?}");
    assert!(
        challenge_in(&page)["t"]
            .as_str()
            .is_some_and(|texts| texts.contains('|'))
    );

    // As good as solved: all but the nonces.
    let good = solution(&challenge);
    let (head, nonces) = good.split_once('.').unwrap();
    let wrong = nonces
        .split(',')
        .map(|_| "ffffffffffffffff")
        .collect::<Vec<_>>()
        .join(",");
    let refused = visitor.submit(&haproxy, &format!("{head}.{wrong}"));
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("set-cookie"), "");
    let said = json(&refused);
    assert_eq!(
        (said["ok"].as_bool(), said["code"].as_str()),
        (Some(false), Some("work"))
    );
    assert!(said["next"]["ch"].is_string(), "{said}");
    let probe = |visitor: &Visitor| {
        haproxy
            .send(&visitor.request("GET", "/.challenge/ok"))
            .status
    };
    assert_eq!(probe(&visitor), 403);

    let accepted = visitor.submit(&haproxy, &good);
    assert_eq!(
        (accepted.status, json(&accepted)["ok"].as_bool()),
        (200, Some(true))
    );
    let cookie = accepted.header("set-cookie").to_owned();
    for part in [
        "clearance=",
        "; Path=/",
        "; Max-Age=",
        "; HttpOnly",
        "; SameSite=Lax",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(
        !cookie.contains("Domain") && !cookie.contains("Secure"),
        "{cookie}"
    );
    // Once more is the same, with the same end.
    let again = visitor.submit(&haproxy, &good);
    let token = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
    assert_eq!(token(again.header("set-cookie")), token(&cookie));

    visitor.take(&accepted);
    assert_eq!(probe(&visitor), 204);
    let response = haproxy.send(&visitor.navigation("/shop?x=1"));
    assert_eq!((response.status, &*response.body), (200, "GET /shop?x=1 "));
    // Whoever else has the cookie does not pass.
    for other in [
        Visitor {
            address: IpAddr::from([10, 1, 1, 2]),
            ..visitor.clone()
        },
        Visitor {
            user_agent: "Mozilla/5.0 other",
            ..visitor.clone()
        },
        Visitor {
            host: "other.example",
            ..visitor.clone()
        },
    ] {
        assert_page(&haproxy.send(&other.navigation("/")));
    }
    for (family, labels) in [
        (
            "ringspoa_challenge_issued_total",
            &["level=\"1\"", "algorithm=\"sha256\""][..],
        ),
        ("ringspoa_challenge_submitted_total", &["result=\"ok\""]),
        ("ringspoa_challenge_submitted_total", &["result=\"work\""]),
        (
            "ringspoa_challenge_validated_total",
            &["reason=\"address\""],
        ),
        ("ringspoa_challenge_validated_total", &["reason=\"ua\""]),
    ] {
        assert!(
            agent.metric(family, labels) > 0.0,
            "{family} {labels:?}: {}",
            agent.metrics()
        );
    }
    drop(haproxy);
    agent.finish();
}

/// Over TLS, and for all hosts of a domain.
pub(crate) fn cookies_are_for_one_host_or_a_trusted_domain(version: Version) {
    let realm = "trusted-domains = [\"example.org\"]";
    let agent = Agent::start(&settings(&[(1, KEY_1)], realm, ""));
    let haproxy = start(version, &Use::default(), &agent.folder);
    let tls = haproxy.socket().with_file_name("https.sock");
    let config = &certificate().config;
    let over_tls = |request: Request| {
        request
            .send_over_tls(&tls, config, HOST)
            .expect("a response")
    };

    let mut visitor = Visitor::default();
    let page = over_tls(visitor.navigation("/"));
    assert_page(&page);
    let body = solution(&challenge_in(&page));
    let accepted = over_tls(visitor.request("POST", "/.challenge").body(body));
    let cookie = accepted.header("set-cookie");
    assert!(cookie.starts_with("__Host-clearance="), "{accepted:?}");
    for part in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    visitor.take(&accepted);
    assert_eq!(over_tls(visitor.navigation("/")).status, 200);

    let mut visitor = Visitor {
        host: "a.example.org",
        ..Visitor::default()
    };
    let accepted = visitor.pass(&haproxy, "/");
    let cookie = accepted.header("set-cookie");
    assert!(
        cookie.starts_with("clearance-s=") && cookie.contains("; Domain=example.org"),
        "{cookie}"
    );
    for (host, expected) in [
        ("a.example.org", 200),
        ("b.example.org", 200),
        ("example.org", 200),
        ("evil-example.org", 403),
        ("example.org.evil.example", 403),
    ] {
        let there = Visitor {
            host,
            ..visitor.clone()
        };
        assert_eq!(there.status(&haproxy, "/"), expected, "{host}");
    }
    drop(haproxy);
    agent.finish();
}

/// Who cannot show a page gets none, and what nobody should be asked for passes.
pub(crate) fn pages_are_for_who_navigates(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let haproxy = start(version, &Use::default(), &agent.folder);
    let visitor = Visitor::default();
    let html = "text/html,*/*;q=0.8";
    let kinds: [&[(&str, &str)]; 7] = [
        // curl, fetch, an image, a style sheet, a prefetch, a WebSocket, a service worker.
        &[("accept", "*/*")],
        &[("accept", "*/*"), ("sec-fetch-mode", "cors")],
        &[
            ("accept", "image/avif,image/webp,*/*"),
            ("sec-fetch-mode", "no-cors"),
        ],
        &[
            ("accept", "text/css,*/*;q=0.1"),
            ("sec-fetch-mode", "no-cors"),
        ],
        &[
            ("accept", html),
            ("sec-fetch-mode", "navigate"),
            ("sec-purpose", "prefetch;prerender"),
        ],
        &[
            ("upgrade", "websocket"),
            ("sec-fetch-mode", "websocket"),
            ("accept", html),
        ],
        &[("service-worker", "script"), ("accept", html)],
    ];
    for headers in kinds {
        let request = visitor.request("GET", "/");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        assert_short(&haproxy.send(&request));
    }
    // Browsers before Sec-Fetch-Mode.
    assert_page(&haproxy.send(&visitor.request("GET", "/").header("accept", html)));

    for path in [
        "/robots.txt",
        "/favicon.ico",
        "/.well-known/acme-challenge/abc",
        "/sitemap.xml",
    ] {
        assert_eq!(
            haproxy.send(&visitor.request("GET", path)).status,
            200,
            "{path}"
        );
    }
    for path in [
        "/robots.txt.php",
        "/shop/robots.txt",
        "/.well-known/../admin",
        "/.well-known/%2e%2e/admin",
        "/x?/robots.txt",
    ] {
        assert_short(&haproxy.send(&visitor.request("GET", path)));
    }
    let preflight = visitor
        .request("OPTIONS", "/api")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "PUT");
    assert_eq!(haproxy.send(&preflight).status, 200);
    assert_eq!(
        haproxy
            .send(&visitor.request("PUT", "/.challenge").body("a"))
            .status,
        405
    );
    drop(haproxy);
    agent.finish();
}

/// A form that was challenged reaches the application once it is sent again, and not before.
pub(crate) fn a_form_is_kept(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let haproxy = start(version, &Use::default(), &agent.folder);
    let mut visitor = Visitor::default();
    let send = |visitor: &Visitor| {
        let form = visitor
            .request("POST", "/comment")
            .header("accept", "text/html");
        haproxy.send(
            &form
                .header("sec-fetch-mode", "navigate")
                .body("text=hello&n=1"),
        )
    };
    let page = send(&visitor);
    assert_page(&page);
    assert!(
        page.body.contains("POST"),
        "the page knows that a reload sends the form again"
    );
    let accepted = visitor.submit(&haproxy, &solution(&challenge_in(&page)));
    visitor.take(&accepted);
    let response = send(&visitor);
    assert_eq!(
        (response.status, &*response.body),
        (200, "POST /comment text=hello&n=1")
    );
    drop(haproxy);
    agent.finish();
}

/// No GET gives a cookie, nor does a POST before its time.
pub(crate) fn nothing_but_a_solution_gives_a_cookie(version: Version) {
    let agent = Agent::start(&settings(
        &[(1, KEY_1)],
        "nojs = \"refresh\"\nnojs-wait-s = 1",
        "",
    ));
    let how = Use {
        changes: &[SECOND_LEVEL],
        page: &["--no-js", "refresh"],
        ..Use::default()
    };
    let haproxy = start(version, &how, &agent.folder);
    let visitor = Visitor::default();
    for path in [
        "/",
        "/search",
        "/.challenge",
        "/.challenge?level=0",
        "/.challenge/ok",
        "/.challenge/pass",
        "/.challenge/pass?c=&r=",
        "/",
        "/.challenge",
    ] {
        let response = haproxy.send(&visitor.navigation(path));
        assert_eq!(response.header("set-cookie"), "", "{path}: {response:?}");
        assert_ne!(response.status, 303, "{path}: {response:?}");
    }
    for body in ["", ".", "x", &"a".repeat(8000), "{\"ok\":true}"] {
        let response = visitor.submit(&haproxy, body);
        assert!((400..500).contains(&response.status), "{response:?}");
        assert_eq!(response.header("set-cookie"), "", "{response:?}");
    }
    let response = visitor.submit(&haproxy, &"a".repeat(9_500));
    assert_eq!(
        (response.status, response.header("set-cookie")),
        (413, ""),
        "{response:?}"
    );
    let challenge = visitor.challenge(&haproxy, "/search");
    assert_eq!(
        (challenge["a"].as_str(), challenge["nb"].as_u64()),
        (Some("wait"), Some(1))
    );
    let body = format!("{}.", challenge["ch"].as_str().unwrap());
    let early = visitor.submit(&haproxy, &body);
    let said = json(&early);
    assert_eq!(
        (early.status, said["code"].as_str()),
        (403, Some("early")),
        "{early:?}"
    );
    assert_eq!(early.header("set-cookie"), "");
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(visitor.submit(&haproxy, &body).status, 200);
    drop(haproxy);
    agent.finish();
}

/// Without JavaScript: by waiting, to where the visitor was going and nowhere else.
pub(crate) fn who_has_no_javascript_waits(version: Version) {
    let realm = "nojs = \"refresh\"\nnojs-wait-s = 1\nnojs-duration-s = 60";
    let agent = Agent::start(&settings(&[(1, KEY_1)], realm, ""));
    let how = Use {
        changes: &[SECOND_LEVEL],
        page: &["--no-js", "refresh"],
        ..Use::default()
    };
    let haproxy = start(version, &how, &agent.folder);
    let mut visitor = Visitor::default();
    let page = haproxy.send(&visitor.navigation("/shop?a=1&b=2"));
    let (_, after) = page
        .body
        .split_once("http-equiv=\"refresh\" content=\"")
        .expect("a refresh");
    let content = after.split('"').next().unwrap();
    let (wait, url) = content.split_once(";url=").expect("a wait and where to");
    assert_eq!(wait, "1", "{content}");
    assert!(url.starts_with("/.challenge/pass?"), "{url}");
    // As a browser reads an attribute.
    let url = url.replace("&amp;", "&");

    let early = haproxy.send(&visitor.navigation(&url));
    assert_eq!(
        (early.status, early.header("set-cookie")),
        (403, ""),
        "{early:?}"
    );
    std::thread::sleep(Duration::from_millis(2100));
    let (start_of_url, _) = url.split_once("&r=").unwrap_or_else(|| panic!("{url}"));
    for to in [
        "//evil.example/",
        "/%5Cevil.example",
        "javascript:alert(1)",
        "/a%0d%0aset-cookie:%20a=b",
        "https://evil.example/",
        "/other",
        "",
    ] {
        let response = haproxy.send(&visitor.navigation(&format!("{start_of_url}&r={to}")));
        assert_ne!(response.status, 303, "{to}: {response:?}");
        assert_eq!(response.header("set-cookie"), "", "{to}: {response:?}");
        assert_eq!(response.header("location"), "", "{to}: {response:?}");
    }
    let passed = haproxy.send(&visitor.navigation(&url));
    assert_eq!(
        (passed.status, passed.header("location")),
        (303, "/shop?a=1&b=2"),
        "{passed:?}"
    );
    visitor.take(&passed);
    assert_eq!(visitor.status(&haproxy, "/shop?a=1&b=2"), 200);
    assert!(agent.metric("ringspoa_challenge_submitted_total", &["result=\"ok\""]) > 0.0);

    // What it says, also where waiting leads nowhere: at a dearer level.
    let other = Visitor {
        address: IpAddr::from([10, 1, 1, 2]),
        ..Visitor::default()
    };
    let no_script = |haproxy: &Haproxy, path: &str| {
        let page = haproxy.send(&other.navigation(path)).body;
        let (_, after) = page.split_once("<noscript><p>").expect("a sentence");
        after.split("</noscript>").next().unwrap().to_owned()
    };
    const OFF: &str =
        "JavaScript is off: please turn it on for this site and load the page again.</p>";
    assert_eq!(
        no_script(&haproxy, "/shop"),
        "JavaScript is off: the page opens by itself in 1 seconds.</p>"
    );
    assert_eq!(no_script(&haproxy, "/search"), OFF);
    drop(haproxy);
    let how = Use {
        page: &["--no-js", "link"],
        ..how
    };
    let haproxy = start(version, &how, &agent.folder);
    let said = no_script(&haproxy, "/shop?a='1'");
    let link = "JavaScript is off: please go on after 1 seconds.</p>\
                <a class=\"b\" href=\"/.challenge/pass?c=";
    assert!(
        said.starts_with(link) && said.ends_with("&r=/shop%3Fa%3D%271%27\">Continue</a>"),
        "{said}"
    );
    assert_eq!(no_script(&haproxy, "/search"), OFF);
    drop(haproxy);
    agent.finish();
}

/// A level that rises between challenge and solution.
pub(crate) fn a_level_may_rise_meanwhile(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let how = Use {
        changes: &[SECOND_LEVEL],
        ..Use::default()
    };
    let haproxy = start(version, &how, &agent.folder);
    let mut visitor = Visitor::default();
    let body = solution(&visitor.challenge(&haproxy, "/"));
    let request = visitor
        .request("POST", "/.challenge")
        .header("referer", "http://www.example/search?q=1");
    let accepted = haproxy.send(&request.body(body));
    assert_eq!(accepted.status, 200, "{accepted:?}");
    visitor.take(&accepted);
    assert_eq!(visitor.status(&haproxy, "/"), 200);
    let page = haproxy.send(&visitor.navigation("/search?q=1"));
    assert_page(&page);
    assert_eq!(challenge_in(&page)["a"], "wait");
    let body = format!("{}.", challenge_in(&page)["ch"].as_str().unwrap());
    std::thread::sleep(Duration::from_millis(2100));
    let accepted = visitor.submit(&haproxy, &body);
    visitor.take(&accepted);
    // The higher one is good for both.
    for path in ["/search?q=1", "/"] {
        assert_eq!(visitor.status(&haproxy, path), 200, "{path}");
    }
    drop(haproxy);
    agent.finish();
}

/// What one agent gave out another takes, also one that starts meanwhile.
pub(crate) fn agents_with_the_same_keys_are_one(version: Version) {
    let text = settings(&[(1, KEY_1)], "", "");
    let mut first = Agent::start(&text);
    let second = Agent::start(&text);
    let other = second.folder.file("spop.sock").display().to_string();
    let here = first.folder.file("spop.sock").display().to_string();
    // The second verifies; it validates where the first is gone. What is checked is checked often already.
    let line = |name: &str, socket: &str| {
        format!("    server {name} unix@{socket} check inter 100ms fall 30")
    };
    let validating = format!("{} inter 1s rise 1", line("ringspoa", &here));
    let both = format!("{validating}\n{} backup", line("other", &other));
    let verifying = format!("{}\n", line("ringspoa", &here));
    let changes = [
        (&*validating, &*both),
        (&*verifying, &*format!("{}\n", line("ringspoa", &other))),
    ];
    let how = Use {
        sample: CLOSED,
        changes: &changes,
        ..Use::default()
    };
    let haproxy = start(version, &how, &first.folder);
    let mut visitor = Visitor::default();
    visitor.pass(&haproxy, "/");
    assert_eq!(visitor.status(&haproxy, "/"), 200);
    assert!(first.metric("ringspoa_challenge_issued_total", &[]) > 0.0);
    assert!(second.metric("ringspoa_challenge_submitted_total", &["result=\"ok\""]) > 0.0);

    let pending = solution(&visitor.challenge(&haproxy, "/"));
    first.kill();
    wait_for(CHANGE, || {
        (visitor.status(&haproxy, "/") == 200).then_some(())
    })
    .expect("the second one validates");
    first.start_again();
    // Of the one before.
    assert_eq!(visitor.submit(&haproxy, &pending).status, 200);
    drop(haproxy);
    first.finish();
    second.finish();
}

fn mode(version: Version) -> &'static str {
    match version.has_multiplexer() {
        true => "spop",
        false => "tcp",
    }
}

/// An agent that dies while a page computes.
pub(crate) fn a_solution_outlives_its_agent(version: Version) {
    let mut agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let haproxy = start(version, &Use::default(), &agent.folder);
    let mut visitor = Visitor::default();
    let body = solution(&visitor.challenge(&haproxy, "/"));
    agent.kill();
    let gone = visitor.submit(&haproxy, &body);
    let said = json(&gone);
    assert_eq!(
        (gone.status, said["code"].as_str()),
        (503, Some("busy")),
        "{gone:?}"
    );
    assert!(
        said["retry"].is_u64() && !gone.header("retry-after").is_empty(),
        "{gone:?}"
    );
    agent.start_again();
    let accepted = wait_for(CHANGE, || {
        let response = visitor.submit(&haproxy, &body);
        (response.status == 200).then_some(response)
    });
    visitor.take(&accepted.expect("it comes back"));
    assert_eq!(visitor.status(&haproxy, "/"), 200);
    drop(haproxy);
    agent.finish();
}

/// Without an agent one sample lets all pass, and the other nobody.
pub(crate) fn without_an_agent_it_is_open_or_closed(version: Version) {
    for (sample, without) in [(OPEN, 200), (CLOSED, 503)] {
        let mut agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
        let haproxy = start(
            version,
            &Use {
                sample,
                ..Use::default()
            },
            &agent.folder,
        );
        let mut cleared = Visitor::default();
        let stranger = Visitor {
            address: IpAddr::from([10, 1, 1, 9]),
            ..cleared.clone()
        };
        cleared.pass(&haproxy, "/");
        assert_eq!(
            (
                cleared.status(&haproxy, "/"),
                stranger.status(&haproxy, "/")
            ),
            (200, 403)
        );
        agent.kill();
        for _ in 0..3 {
            assert_eq!(stranger.status(&haproxy, "/"), without, "{sample}");
            assert_eq!(cleared.status(&haproxy, "/"), without, "{sample}");
            std::thread::sleep(Duration::from_millis(200));
        }
        // What is never asked for needs no agent.
        assert_eq!(
            haproxy.send(&stranger.request("GET", "/robots.txt")).status,
            200
        );
        let page_asks = haproxy.send(&stranger.request("GET", "/.challenge"));
        assert_eq!(
            (page_asks.status, page_asks.header("retry-after")),
            (503, "2"),
            "{page_asks:?}"
        );
        agent.start_again();
        wait_for(CHANGE, || {
            (stranger.status(&haproxy, "/") == 403).then_some(())
        })
        .unwrap_or_else(|| panic!("{sample}: the agent is back"));
        assert_eq!(
            cleared.status(&haproxy, "/"),
            200,
            "{sample}: cookies are as good as before"
        );
        drop(haproxy);
        agent.finish();
    }
}

/// Hosts are what they are taken for, and get nothing into a header.
pub(crate) fn hosts_stay_what_they_are(version: Version) {
    let realm = "hosts = [\"www.example\", \"*.shop.example\", \"\\\\[::1\\\\]*\"]\ntrusted-domains = [\"shop.example\"]";
    let agent = Agent::start(&settings(&[(1, KEY_1)], realm, ""));
    let haproxy = start(version, &Use::default(), &agent.folder);
    let mut visitor = Visitor::default();
    visitor.pass(&haproxy, "/");
    let at = |host: &'static str| Visitor {
        host,
        ..visitor.clone()
    };
    for same in ["www.example:80", "WWW.Example", "www.example."] {
        assert_eq!(at(same).status(&haproxy, "/"), 200, "{same}");
    }
    let mut other = Visitor {
        host: "[::1]:8080",
        ..Visitor::default()
    };
    other.pass(&haproxy, "/");
    assert_eq!(other.status(&haproxy, "/"), 200);
    assert_eq!(
        Visitor {
            host: "[::1]",
            ..other.clone()
        }
        .status(&haproxy, "/"),
        200
    );
    let long: &'static str = Box::leak("a".repeat(300).into_boxed_str());
    for host in [
        "other.example",
        "shop.example.evil.example",
        "xshop.example",
        long,
        "a;domain=evil",
        "www.example@evil",
    ] {
        let visitor = Visitor {
            host,
            cookie: visitor.cookie.clone(),
            ..Visitor::default()
        };
        let response = haproxy.send(&visitor.request("GET", "/"));
        assert!(
            (400..500).contains(&response.status),
            "{host}: {response:?}"
        );
        let response = haproxy.send(&visitor.request("GET", "/.challenge"));
        assert_ne!(response.status, 200, "{host}: {response:?}");
        assert_eq!(response.header("set-cookie"), "", "{host}");
    }
    drop(haproxy);
    agent.finish();
}

/// Crawlers from where they should come from, and those that only say so.
pub(crate) fn crawlers_are_known_by_their_addresses(version: Version) {
    let folder = Folder::new();
    let networks = folder.write(
        "bots.json",
        r#"{"creationTime": "2026-01-01", "prefixes": [{"ipv4Prefix": "10.9.0.0/16"}, {"ipv6Prefix": "fd00:9::/32"}]}"#,
    );
    let crawler = format!(
        "[[challenge.crawler]]\nname = \"google\"\nuser-agent = \"Googlebot\"\nfiles = [\"{}\"]",
        networks.display()
    );
    let text = settings(&[(1, KEY_1)], "", &crawler);
    let agent = Agent::start(&text);
    let haproxy = start(version, &Use::default(), &agent.folder);
    let bot = |address: &str| Visitor {
        address: address.parse().unwrap(),
        user_agent: "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        ..Visitor::default()
    };
    for (address, expected) in [
        ("10.9.1.1", 200),
        ("fd00:9::1", 200),
        ("10.8.1.1", 403),
        ("fd00:8::1", 403),
    ] {
        assert_eq!(bot(address).status(&haproxy, "/"), expected, "{address}");
    }
    let browser = Visitor {
        address: IpAddr::from([10, 9, 1, 1]),
        ..Visitor::default()
    };
    assert_eq!(
        browser.status(&haproxy, "/"),
        403,
        "who does not say that it is one"
    );
    // The file is read anew at a reload.
    fs::write(&networks, "10.8.0.0/16\n").unwrap();
    agent.reload(&text, "reloaded; ");
    assert_eq!(bot("10.8.1.1").status(&haproxy, "/"), 200);
    assert_eq!(bot("10.9.1.1").status(&haproxy, "/"), 403);
    drop(haproxy);
    agent.finish();
}

/// Nobody is kept out, and what would be is counted.
pub(crate) fn a_dry_run_challenges_nobody(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "dry-run = true", ""));
    let haproxy = start(
        version,
        &Use {
            sample: CLOSED,
            ..Use::default()
        },
        &agent.folder,
    );
    let visitor = Visitor::default();
    for _ in 0..3 {
        assert_eq!(visitor.status(&haproxy, "/"), 200);
    }
    let refused = agent.metric("ringspoa_challenge_validated_total", &["reason=\"none\""]);
    assert!(refused >= 3.0, "{}", agent.metrics());
    drop(haproxy);
    agent.finish();
}

/// What a visitor reads out leads to the line of HAProxy's log that says why, and to the agent's.
pub(crate) fn a_support_id_leads_to_why(version: Version) {
    let realm = "hosts = [\"www.example\"]";
    let text = settings(&[(1, KEY_1)], realm, "");
    let agent = Agent::start(&format!("log-level = \"debug\"\n{text}"));
    let own = Folder::new();
    let path = own.file("log.sock");
    let log = UnixDatagram::bind(&path).expect("a socket");
    log.set_read_timeout(Some(CHANGE)).expect("it is one");
    let how = Use {
        log: Some(&path),
        ..Use::default()
    };
    let haproxy = start(version, &how, &agent.folder);
    // The line of the next request that has this in it.
    let line = |part: &str| {
        let mut line = [0; 4096];
        loop {
            let len = log.recv(&mut line).expect("a line");
            let line = String::from_utf8_lossy(&line[..len]).into_owned();
            if line.contains(part) {
                return line;
            }
        }
    };
    let has = |line: &str, parts: &[&str]| {
        for part in parts {
            assert!(line.contains(part), "{part}: {line}");
        }
    };

    let mut visitor = Visitor::default();
    let page = haproxy.send(&visitor.navigation("/shop"));
    let id = page.header("x-challenge-id").to_owned();
    assert_eq!(id.len(), 14, "{page:?}");
    let support_id = format!("support_id={id}");
    let none = "level=1 reason=none token_id=- ";
    has(&line("/shop"), &[none, &support_id, " 403 ", "error=-"]);
    let bad = solution(&challenge_in(&page));
    let bad = format!(
        "{}.ffffffff,ffffffff,ffffffff,ffffffff",
        bad.split('.').next().unwrap()
    );
    assert_eq!(json(&visitor.submit(&haproxy, &bad))["ok"], false);
    has(
        &line("POST /.challenge"),
        &["result=work", &support_id, "token_id=-"],
    );
    let solved = visitor.submit(&haproxy, &solution(&challenge_in(&page)));
    visitor.take(&solved);
    has(&line("POST /.challenge"), &["result=ok", &support_id]);
    assert_eq!(visitor.status(&haproxy, "/in"), 200);
    let passed = line("/in");
    has(&passed, &["level=1 reason=- ", "class=pow", " 200 "]);
    assert!(!passed.contains("token_id=- "), "{passed}");
    let elsewhere = Visitor {
        address: IpAddr::from([10, 9, 9, 9]),
        ..visitor.clone()
    };
    assert_eq!(elsewhere.status(&haproxy, "/moved"), 403);
    has(&line("/moved"), &["reason=address"]);
    let lost = Visitor {
        host: "other.example",
        ..Visitor::default()
    };
    assert_eq!(lost.status(&haproxy, "/lost"), 403);
    has(&line("/lost"), &["reason=host", "support_id=-"]);

    let said = agent.binary().output();
    let has_line = |parts: &[&str]| {
        let found = said
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?}\n{said}");
    };
    has_line(&["not cleared", "reason=\"none\"", "host=\"www.example\""]);
    has_line(&["not cleared", "reason=\"address\"", &id]);
    has_line(&["not cleared", "reason=\"host\"", "host=\"other.example\""]);
    has_line(&["no challenge issued", "host=\"other.example\""]);
    has_line(&["challenge issued", &id]);
    has_line(&["visitor admitted", &id]);
    has_line(&[
        "warn: ",
        "host \"other.example\" is none of realm \"default\"",
    ]);
    let warned = said.matches("is none of realm").count();
    assert_eq!(warned, 1, "not for each request: {said}");
    assert!(!said.contains("10.9.9.9"), "{said}");
    drop(haproxy);
    agent.finish();
}

/// What programs send to be let in, and what they spell otherwise.
pub(crate) fn no_header_and_no_spelling_is_a_way_in(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    // A check that takes long on a machine that does much else is not what this is about.
    let never_down = ("nbsrv(challenge-spoa) lt 1", "nbsrv(challenge-spoa) lt 0");
    for (sample, more) in [(OPEN, &[][..]), (CLOSED, &[never_down])] {
        let how = Use {
            sample,
            changes: &[&[
                // More than the agent's frames have room for.
                ("\ndefaults\n", "\n    tune.bufsize 131072\ndefaults\n"),
                SECOND_LEVEL,
                (
                    "    server app1",
                    "    http-request set-var(txn.test) bool(true) if { path_beg /html }\n    \
                     http-response set-header content-type text/html if { var(txn.test) -m found }\n    \
                     server app1",
                ),
            ], more]
            .concat(),
            ..Use::default()
        };
        let haproxy = start(version, &how, &agent.folder);
        let visitor = Visitor::default();
        let sent = |method: &str, path: &str, headers: &[(&str, &str)]| {
            let request = visitor.request(method, path);
            let request = headers.iter().fold(request, |request, (name, value)| {
                request.header(name, *value)
            });
            haproxy.send(&request)
        };

        // A request that fits no frame, of whatever version, is none that the agent is gone for.
        let large = "x".repeat(70_000);
        for name in ["cookie", "x-user-agent", "accept-language"] {
            let response = sent("GET", "/", &[(name, &large), ("accept", "text/html")]);
            assert!(
                matches!(response.status, 403 | 503),
                "{name}: {}",
                response.status
            );
        }

        // OPTIONS is for preflights, and these have no page to show.
        assert_short(&sent("OPTIONS", "/", &[]));
        assert_short(&sent("OPTIONS", "/", &[("origin", "https://a.example")]));
        let preflight = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "PUT"),
        ];
        assert_eq!(sent("OPTIONS", "/", &preflight).status, 200);
        assert_short(&sent("OPTIONS", "/html", &preflight));
        assert_short(&sent("GET", "/", &preflight));

        // Whatever one calls it, what is dear is dear.
        for (index, (path, expected)) in [
            ("/", "sha256"),
            ("/search", "wait"),
            ("/SEARCH?q=/", "wait"),
            ("//search", "wait"),
            ("/%73earch", "wait"),
            ("/./search", "wait"),
            ("/a/%2e%2E/search", "wait"),
            ("/;a=b/search", "wait"),
            ("/%5csearch", "wait"),
            ("/%73earch/%zz", "wait"),
            ("/%2573earch", "wait"),
            ("/research", "sha256"),
            ("/a.b/..c", "sha256"),
        ]
        .into_iter()
        .enumerate()
        {
            let last = u8::try_from(index).unwrap();
            let visitor = Visitor {
                address: IpAddr::from([10, 1, 2, last]),
                ..Visitor::default()
            };
            let page = haproxy.send(&visitor.navigation(path));
            assert_eq!(challenge_in(&page)["a"], expected, "{path}");
            // And so of a page there.
            assert_eq!(visitor.challenge(&haproxy, path)["a"], expected, "{path}");
        }

        // Pages of others use up nothing.
        let victim = Visitor {
            address: IpAddr::from([10, 1, 1, 9]),
            ..Visitor::default()
        };
        for _ in 0..25 {
            let request = victim
                .request("GET", "/.challenge")
                .header("sec-fetch-site", "cross-site");
            assert_eq!(haproxy.send(&request).status, 403);
            let request = victim
                .request("POST", "/.challenge")
                .header("sec-fetch-site", "same-site");
            assert_eq!(haproxy.send(&request.body("nothing.0")).status, 403);
        }
        let request = victim
            .request("GET", "/.challenge")
            .header("sec-fetch-site", "same-origin");
        assert_eq!(haproxy.send(&request).status, 200);
    }
    agent.finish();
}

/// The samples' own examples of exceptions, in force: they are for what they name, and no way past it.
pub(crate) fn an_exception_is_for_its_own_paths(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let exceptions = [
        (
            "# http-request set-var(txn.ask.let) str(git)",
            "http-request set-var(txn.ask.let) str(git)",
        ),
        (
            "# http-request set-var(txn.ask.let) str(api)",
            "http-request set-var(txn.ask.let) str(api)",
        ),
    ];
    // A check that takes long on a machine that does much else is not what this is about.
    let never_down = ("nbsrv(challenge-spoa) lt 1", "nbsrv(challenge-spoa) lt 0");
    let uses = [
        (OPEN, vec![SECOND_LEVEL]),
        (OPEN, vec![]),
        (CLOSED, vec![SECOND_LEVEL, never_down]),
    ];
    for (sample, more) in uses {
        let how = Use {
            sample,
            changes: &[&exceptions[..], &more].concat(),
            ..Use::default()
        };
        let haproxy = start(version, &how, &agent.folder);
        let api = ("authorization", "Bearer x");
        let git = ("git-protocol", "version=2");
        for (path, (name, value), expected) in [
            ("/api/", api, 200),
            ("/api/orders/7.json?q=/../", api, 200),
            ("/api/orders/7", git, 403),
            ("/login/", api, 403),
            ("/api/../login/", api, 403),
            ("/api/%2e%2e/login/", api, 403),
            ("/api/.%2E%2flogin/", api, 403),
            ("/api/%252e%252e/login/", api, 403),
            ("/api/%2e%2e/login/%zz", api, 403),
            ("/api/..;a=b/login/", api, 403),
            ("/api/..%3b/login/", api, 403),
            ("/api/..%5clogin/", api, 403),
            ("/api/..\\login/", api, 403),
            ("/api/./../login/", api, 403),
            ("/api/..", api, 403),
            ("/api/%2e%2e", api, 403),
            ("//api/", api, 403),
            ("/;a/api/", api, 403),
            ("/own/code.git/info/refs?service=git-upload-pack", git, 200),
            ("/Own/Code/git-upload-pack", git, 200),
            ("/own/code.git/info/refs", api, 403),
            ("/own/../info/refs", git, 403),
            ("/own/%2e%2e/info/refs", git, 403),
            ("/own/..%5clogin/info/refs", git, 403),
            ("/own/code/../../login/info/refs", git, 403),
            ("/index.php/login/info/refs", git, 403),
            ("/login/info/refs", git, 403),
        ] {
            let request = Visitor::default().request("GET", path).header(name, value);
            let response = haproxy.send(&request);
            assert_eq!(
                response.status, expected,
                "{sample} {more:?} {path}: {response:?}"
            );
        }
    }
    agent.finish();
}

/// What a source may do in a minute, and a cookie that is revoked.
pub(crate) fn haproxy_limits_and_revokes(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let haproxy = start(version, &Use::default(), &agent.folder);
    let mut visitor = Visitor::default();
    visitor.pass(&haproxy, "/");
    let wrong = Visitor {
        address: IpAddr::from([10, 1, 1, 3]),
        ..Visitor::default()
    };
    let statuses: Vec<u16> = (0..12)
        .map(|_| wrong.submit(&haproxy, "nothing.0").status)
        .collect();
    assert_eq!(statuses[..10], [400; 10], "{statuses:?}");
    assert_eq!(statuses[11], 429, "{statuses:?}");
    let asks = Visitor {
        address: IpAddr::from([10, 1, 1, 4]),
        ..Visitor::default()
    };
    let statuses: Vec<u16> = (0..22).map(|_| asks.status(&haproxy, "/")).collect();
    assert_eq!(statuses[..20], [403; 20], "{statuses:?}");
    assert_eq!(statuses[21], 429, "{statuses:?}");
    assert_eq!(visitor.status(&haproxy, "/"), 200, "others do not notice");
    // A solution that is right, again and again.
    let replays = Visitor {
        address: IpAddr::from([10, 1, 1, 6]),
        ..Visitor::default()
    };
    let good = solution(&replays.challenge(&haproxy, "/"));
    let statuses: Vec<u16> = (0..122)
        .map(|_| replays.submit(&haproxy, &good).status)
        .collect();
    assert_eq!(
        (statuses[0], statuses[100], statuses[121]),
        (200, 200, 429),
        "{statuses:?}"
    );
    assert_eq!(replays.status(&haproxy, "/.challenge/pass"), 429);

    let token = visitor.cookie.clone().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["token", "inspect", &token, "--host", HOST, "--config"])
        .arg(&agent.config)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("good, of realm default"),
        "{said}"
    );
    let id = said
        .lines()
        .find_map(|line| line.strip_prefix("id "))
        .expect("its id")
        .trim();
    let stats = haproxy.socket().with_file_name("stats.sock");
    let mut stats = UnixStream::connect(stats).expect("the stats socket");
    stats
        .write_all(format!("set table challenge-tokens key {id} data.gpt0 1\n").as_bytes())
        .expect("a command");
    let mut answer = String::new();
    stats.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer.trim(), "");
    assert_eq!(visitor.status(&haproxy, "/"), 403, "revoked");

    // Who has no browser.
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args([
            "token",
            "mint",
            "--host",
            HOST,
            "--duration",
            "1h",
            "--config",
        ])
        .arg(&agent.config)
        .output()
        .expect("the binary runs");
    let minted = String::from_utf8(output.stdout).unwrap();
    let program = Visitor {
        address: IpAddr::from([10, 1, 1, 5]),
        user_agent: "monitor/1",
        cookie: Some(format!("clearance={}", minted.trim())),
        ..Visitor::default()
    };
    assert_eq!(
        haproxy.send(&program.request("GET", "/health")).status,
        200,
        "{minted}"
    );
    drop(haproxy);
    agent.finish();
}

/// wrk, ended whatever the test does.
struct Load(Child);

impl Load {
    fn start(address: SocketAddr, headers: &[(&str, &str)], seconds: u32) -> Self {
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c16", "--latency", &format!("-d{seconds}s")]);
        for (name, value) in headers {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        let child = command
            .arg(format!("http://{address}/"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("wrk makes the load: apt-get install wrk");
        Self(child)
    }

    /// Ends it; what it has to tell.
    fn report(mut self) -> String {
        let pid = i32::try_from(self.0.id()).expect("a process id is positive");
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        let mut report = String::new();
        let output = self.0.stdout.as_mut().expect("it is piped");
        output.read_to_string(&mut report).expect("wrk writes text");
        self.0.wait().expect("wrk ends");
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keys change, and files are wrong, while visitors come: nobody who was let in notices.
pub(crate) fn keys_change_under_load(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let address = own_loopback_address();
    // They are one visitor, who asks for more than one could.
    let how = Use {
        sample: CLOSED,
        changes: &[(
            "sc_http_req_rate(1,challenge-tokens) gt 300",
            "sc_http_req_rate(1,challenge-tokens) gt 3000000",
        )],
        address: Some(address),
        ..Use::default()
    };
    let haproxy = start(version, &how, &agent.folder);
    let mut visitor = Visitor {
        address: IpAddr::from([127, 0, 0, 1]),
        ..Visitor::default()
    };
    visitor.pass(&haproxy, "/");
    let cookie = visitor.cookie.clone().unwrap();
    let headers = [
        ("Host", HOST),
        ("User-Agent", BROWSER),
        ("Cookie", &*cookie),
    ];
    let load = Load::start(address, &headers, 60);
    let both = settings(&[(1, KEY_1), (2, KEY_2)], "", "");
    let next = settings(&[(2, KEY_2), (1, KEY_1)], "", "");
    for (text, outcome) in [
        (both.as_str(), "reloaded; "),
        ("[challenge]\nkey = 3\n", "reload failed"),
        (&*next, "reloaded; "),
        (&*settings(&[(2, "c2hvcnQ=")], "", ""), "reload failed"),
        (&*next, "reloaded; "),
    ] {
        std::thread::sleep(Duration::from_millis(200));
        agent.reload(text, outcome);
    }
    std::thread::sleep(Duration::from_millis(200));
    let report = load.report();
    assert!(
        !report.contains("Non-2xx") && !report.contains("Socket errors"),
        "{version:?}\n{report}"
    );
    assert!(report.contains("requests in"), "{report}");
    // The second key signs now.
    let mut later = Visitor {
        address: IpAddr::from([10, 1, 1, 6]),
        ..Visitor::default()
    };
    later.pass(&haproxy, "/");
    agent.reload(&settings(&[(2, KEY_2)], "", ""), "reloaded; ");
    assert_eq!(later.status(&haproxy, "/"), 200);
    assert_eq!(visitor.status(&haproxy, "/"), 403, "the first key is gone");
    let revoked = agent.metric(
        "ringspoa_challenge_validated_total",
        &["reason=\"revoked-key\""],
    );
    assert!(revoked > 0.0, "{}", agent.metrics());
    drop(haproxy);
    agent.finish();
}

/// An agent that dies under load: at once open or closed, and back without HAProxy being told.
pub(crate) fn an_agent_dies_under_load(version: Version) {
    let mut agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let address = own_loopback_address();
    let how = Use {
        address: Some(address),
        processing: "100ms",
        ..Use::default()
    };
    let haproxy = start(version, &how, &agent.folder);
    let load = Load::start(address, &[("Host", HOST), ("Accept", "*/*")], 60);
    std::thread::sleep(Duration::from_millis(300));
    let stranger = Visitor::default();
    assert_eq!(stranger.status(&haproxy, "/"), 403);
    agent.kill();
    let began = Instant::now();
    wait_for(CHANGE, || {
        (stranger.status(&haproxy, "/") == 200).then_some(())
    })
    .expect("it fails open");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{version:?}: {took:?}");
    agent.start_again();
    wait_for(CHANGE, || {
        (stranger.status(&haproxy, "/") == 403).then_some(())
    })
    .expect("it is back");
    let report = load.report();
    assert!(!report.contains("Socket errors"), "{version:?}\n{report}");
    drop(haproxy);
    agent.finish();
}

/// Bad solutions by the thousand: who was let in does not wait, and the agent does not grow.
pub(crate) fn bad_solutions_are_cheap(version: Version) {
    let agent = Agent::start(&settings(&[(1, KEY_1)], "", ""));
    let how = Use {
        changes: &[
            (
                "sc_gpc1_rate(0,challenge-limits) ge 10",
                "sc_gpc1_rate(0,challenge-limits) ge 100000000",
            ),
            (
                "sc_http_req_rate(0,challenge-limits) gt 120",
                "sc_http_req_rate(0,challenge-limits) gt 120000000",
            ),
            (
                "sc_http_req_rate(1,challenge-tokens) gt 300",
                "sc_http_req_rate(1,challenge-tokens) gt 3000000",
            ),
        ],
        address: Some(own_loopback_address()),
        ..Use::default()
    };
    let haproxy = start(version, &how, &agent.folder);
    let mut visitor = Visitor::default();
    visitor.pass(&haproxy, "/");
    let good = solution(&visitor.challenge(&haproxy, "/"));
    let (head, nonces) = good.split_once('.').unwrap();
    let wrong = nonces
        .split(',')
        .map(|_| "ffffffffffffffff")
        .collect::<Vec<_>>()
        .join(",");
    let bad = format!("{head}.{wrong}");
    let script = agent.folder.write(
        "bad.lua",
        &format!("wrk.method = 'POST'\nwrk.path = '/.challenge'\nwrk.body = '{bad}'\n"),
    );
    let mut wrk = Command::new("wrk")
        .args(["-t1", "-c16", "-d60s", "-s"])
        .arg(&script)
        .args([
            "-H",
            &format!("Host: {HOST}"),
            "-H",
            &format!("User-Agent: {BROWSER}"),
        ])
        .arg(format!("http://{}/", how.address.unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .map(Load)
        .expect("wrk makes the load: apt-get install wrk");
    std::thread::sleep(Duration::from_millis(500));
    let before = resident_kib(agent.binary().pid());
    let end = Instant::now() + Duration::from_secs(3);
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        let began = Instant::now();
        assert_eq!(visitor.status(&haproxy, "/"), 200);
        longest = longest.max(began.elapsed());
    }
    assert!(
        wrk.0.try_wait().expect("it runs").is_none(),
        "the load goes on"
    );
    let after = resident_kib(agent.binary().pid());
    let report = wrk.report();
    let refused = agent.metric(
        "ringspoa_challenge_submitted_total",
        &["result=\"binding\""],
    ) + agent.metric("ringspoa_challenge_submitted_total", &["result=\"work\""]);
    assert!(refused > 1000.0, "{refused}\n{report}");
    assert!(after < before + 1024, "{before} KiB, {after} KiB");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    println!(
        "{version:?}: {refused} refused, the longest of the others {longest:?}, {before} to {after} KiB"
    );
    drop(haproxy);
    agent.finish();
}

fn resident_kib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("its memory");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// HAProxy as berghain 0.3 has it configured: its messages, arguments in its order, its path, cookie and
/// variables, and its page in the place of that. Only the page is another.
fn berghain(version: Version, folder: &Folder) -> Haproxy {
    let own = Folder::new();
    let path = |name: &str| own.file(name).display().to_string();
    let page = own.file("index.html");
    make_page(
        &page,
        &[
            "--plain",
            "--no-probe",
            "--path",
            "/cdn-cgi/challenge-platform/challenge",
        ],
    );
    let agent = folder.file("spop.sock").display().to_string();
    let spoe = path("berghain.cfg");
    // It has 100 ms for both, which is not what is tested.
    let timeouts = "timeout hello 10s\n    timeout idle 10m";
    own.write(
        "berghain.cfg",
        &format!(
            "[berghain]
spoe-agent berghain
    option var-prefix berghain
    option set-on-error error
    {timeouts}
    timeout processing 10s
    use-backend berghain_spop
    log global
    groups validate
spoe-message validate
    args frontend=fe_name level=var(req.berghain.level) src=src host=req.hdr(Host) cookie=req.cook(berghain)
spoe-group validate
    messages validate
[berghain_challenge]
spoe-agent berghain_challenge
    option var-prefix berghain
    option set-on-error error
    {timeouts}
    timeout processing 10s
    use-backend berghain_spop
    log global
    groups challenge
spoe-message challenge
    args frontend=fe_name level=var(req.berghain.level) src=src host=req.hdr(Host) method=method body=req.body session=var(txn.berghain.session)
spoe-group challenge
    messages challenge
"
        ),
    );
    let text = format!(
        "defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend test
    bind unix@{http} accept-proxy
    acl berghain_path path /cdn-cgi/challenge-platform/challenge
    http-request set-var-fmt(txn.berghain.session) bh@%[uuid] if berghain_path METH_GET
    http-request set-var(req.berghain.level) hdr(x-level)
    filter spoe engine berghain config {spoe}
    acl berghain_active var(req.berghain.level) -m found
    http-request set-var(req.berghain.level) var(req.berghain.level),add(0) if berghain_active
    http-request send-spoe-group berghain validate if !berghain_path berghain_active
    http-request return status 501 if {{ var(txn.berghain.error) -m found }}
    acl berghain_valid var(txn.berghain.valid) -m bool
    http-request return status 403 content-type \"text/html\" file \"{page}\" if !berghain_valid !berghain_path berghain_active
    http-request wait-for-body time 5s if berghain_path METH_POST
    use_backend berghain_http if berghain_path
    default_backend app_backend
backend app_backend
    http-request return status 200 content-type \"text/plain\" string \"Hello World!\"
backend berghain_http
    filter spoe engine berghain_challenge config {spoe}
    acl is_challenge_path path /cdn-cgi/challenge-platform/challenge
    http-request send-spoe-group berghain_challenge challenge if is_challenge_path
    http-request return status 501 if {{ var(txn.berghain.error) -m found }}
    acl has_token var(txn.berghain.token) -m found
    http-after-response add-header set-cookie \"berghain=%[var(txn.berghain.token)]; %[var(txn.berghain.domain)] path=/;\" if has_token
    http-request return status 200 content-type \"application/json\" lf-string \"%[var(txn.berghain.response)]\" if is_challenge_path
    http-request return status 404
backend berghain_spop
    mode tcp
    option spop-check
    server localhost unix@{agent} check
",
        http = path("http.sock"),
        page = page.display(),
    );
    // From 3.1 on a filter's backend has to be of this mode.
    let text = text.replace(
        "mode tcp\n    option spop",
        &format!("mode {}\n    option spop", mode(version)),
    );
    own.write("haproxy.cfg", &text);
    Haproxy::start_in(version, own)
}

/// Its configuration imported, its rules as they are.
pub(crate) fn rules_of_berghain_go_on_working(version: Version) {
    let folder = Folder::new();
    let yaml = folder.write(
        "config.yaml",
        &format!(
            "secret: {KEY_1}\nlisten: unix://{}\ndefault:\n  trusted_domains: [shop.example]\n  levels:\n    \
             - type: pow\n      duration: 24h\n    - type: none\n      duration: 24h\n      countdown: 0\n",
            folder.file("spop.sock").display()
        ),
    );
    let config = folder.file("ringspoa.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["import", "berghain"])
        .arg(&yaml)
        .arg("--output")
        .arg(&config)
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // For the test, not the time that its puzzle takes.
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("work = 65536", "work = 256");
    assert!(text.contains("work = 256"), "{text}");
    fs::write(&config, text).unwrap();
    let mut agent = Agent {
        folder,
        config,
        binary: None,
    };
    agent.start_again();
    let haproxy = berghain(version, &agent.folder);
    let endpoint = "/cdn-cgi/challenge-platform/challenge";
    let ask = |visitor: &Visitor, level: &str, request: Request| {
        assert!(!visitor.host.is_empty());
        haproxy.send(&request.header("x-level", level))
    };

    let mut visitor = Visitor::default();
    // Without a level it is off.
    assert_eq!(haproxy.send(&visitor.navigation("/")).body, "Hello World!");
    assert_eq!(
        ask(&visitor, "0", visitor.navigation("/")).status,
        403,
        "as it is with berghain: nothing is set"
    );
    let page = ask(&visitor, "1", visitor.navigation("/"));
    assert_eq!(page.status, 403);
    assert!(page.body.contains(endpoint), "the page asks there");
    let challenge = json(&ask(&visitor, "1", visitor.request("GET", endpoint)));
    assert_eq!(challenge["a"], "sha256", "{challenge}");
    let wrong = ask(
        &visitor,
        "1",
        visitor.request("POST", endpoint).body("nothing"),
    );
    assert_eq!((wrong.status, wrong.header("set-cookie")), (200, ""));
    assert_eq!(json(&wrong)["ok"], false, "what the page goes by");
    let accepted = ask(
        &visitor,
        "1",
        visitor.request("POST", endpoint).body(solution(&challenge)),
    );
    assert_eq!(json(&accepted)["ok"], true, "{accepted:?}");
    assert!(
        accepted.header("set-cookie").starts_with("berghain="),
        "{accepted:?}"
    );
    visitor.take(&accepted);
    assert_eq!(
        ask(&visitor, "1", visitor.navigation("/")).body,
        "Hello World!"
    );
    assert_eq!(ask(&visitor, "2", visitor.navigation("/")).status, 403);
    let other = Visitor {
        address: IpAddr::from([10, 1, 1, 2]),
        ..visitor.clone()
    };
    assert_eq!(ask(&other, "1", other.navigation("/")).status, 403);

    let mut visitor = Visitor {
        host: "a.shop.example",
        cookie: None,
        ..visitor
    };
    let challenge = json(&ask(&visitor, "1", visitor.request("GET", endpoint)));
    let accepted = ask(
        &visitor,
        "1",
        visitor.request("POST", endpoint).body(solution(&challenge)),
    );
    let cookie = accepted.header("set-cookie").to_ascii_lowercase();
    assert!(cookie.contains("domain=shop.example; path=/;"), "{cookie}");
    visitor.take(&accepted);
    let sibling = Visitor {
        host: "b.shop.example",
        ..visitor.clone()
    };
    assert_eq!(ask(&sibling, "1", sibling.navigation("/")).status, 200);

    let stranger = Visitor::default();
    agent.kill();
    assert_eq!(
        ask(&stranger, "1", stranger.navigation("/")).status,
        501,
        "as its rules have it"
    );
    agent.start_again();
    wait_for(CHANGE, || {
        (ask(&stranger, "1", stranger.navigation("/")).status == 403).then_some(())
    })
    .expect("it is back");
    drop(haproxy);
    agent.finish();
}

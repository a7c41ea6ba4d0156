//! AppSec and providers of captchas that fail, in the binary: what is logged, and what is counted.

mod asked;
mod handshake;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use asked::next_request;
use handshake::shake_hands;
use ringspoa::spop::{Argument, Frame, FrameId, NotifyWriter, StreamId, TypedData};

const FRAME_SIZE: u32 = 16_380;
const PATIENCE: Duration = Duration::from_secs(20);
const SOLUTION: &str = "h-captcha-response=solution";

/// The status of a stub that gives no answer.
const SILENT: u16 = 0;

/// Somebody who is asked over HTTP on loopback, and answers what a test has it answer. It ends with the
/// test's process.
struct Stub {
    address: String,
    status: Arc<AtomicU16>,
}

impl Stub {
    fn start(status: u16, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let status = Arc::new(AtomicU16::new(status));
        let says = Arc::clone(&status);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let says = Arc::clone(&says);
                thread::spawn(move || answer(&socket, &says, body));
            }
        });
        Self { address, status }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn answer(mut socket: &TcpStream, status: &AtomicU16, body: &str) {
    let mut reader = BufReader::new(socket);
    while next_request(&mut reader).is_some() {
        let status = status.load(Ordering::SeqCst);
        if status == SILENT {
            thread::sleep(PATIENCE);
        }
        let len = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n");
        if write!(socket, "{head}content-length: {len}\r\n\r\n{body}").is_err() {
            return;
        }
    }
}

/// The binary, ended by its pid whatever the test does.
struct Serving {
    child: Child,
    socket: TcpStream,
    admin: String,
    log: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
    asked: u64,
}

impl Serving {
    /// With one suspect, 192.0.2.2, and these lines of settings.
    fn start(name: &str, settings: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ringspoa-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (list, config) = (folder.join("list"), folder.join("ringspoa.toml"));
        fs::write(&list, "192.0.2.2\n").unwrap();
        let list = format!("[[remediation.list]]\npath = {list:?}\nremediation = \"captcha\"\n");
        fs::write(&config, format!("{list}{settings}")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
            .args(["serve", "--listen", "127.0.0.1:0", "--cores", "1"])
            .args([
                "--admin-listen",
                "127.0.0.1:0",
                "--agent-deadline-ms",
                "300",
            ])
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let mut next = || lines.next().expect("it starts").unwrap();
        let started = loop {
            let line = next();
            log.lock().unwrap().push(line.clone());
            if line.contains("listening on ") {
                break line;
            }
        };
        let logged = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                logged.lock().unwrap().push(line);
            }
        });
        let after = |what: &str| {
            let rest = started.split(what).nth(1).expect(&started);
            rest.split(';').next().unwrap().to_owned()
        };
        let mut socket = TcpStream::connect(after("listening on ")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        shake_hands(&mut socket);
        Self {
            child,
            socket,
            admin: after("admin on "),
            log,
            folder,
            asked: 0,
        }
    }

    /// What `crowdsec-http-body` is answered, as it is on the wire.
    fn ask(&mut self, address: [u8; 4], method: Option<&str>, body: &str) -> String {
        self.asked += 1;
        let mut buffer = [0; 2048];
        let ids = (StreamId(self.asked), FrameId(1));
        let mut notify = NotifyWriter::begin(&mut buffer, FRAME_SIZE, ids.0, ids.1).unwrap();
        let headers =
            "host: shop.example\r\ncontent-type: application/x-www-form-urlencoded\r\n\r\n";
        let method = method.map_or(TypedData::Null, TypedData::from);
        notify
            .message(
                "crowdsec-http-body",
                [
                    Argument::new("method", method),
                    Argument::new("path", TypedData::from("/")),
                    Argument::new("headers", TypedData::from(headers)),
                    Argument::new("body", TypedData::from(body)),
                    Argument::new("src-ip", TypedData::Ipv4(address.into())),
                ],
            )
            .unwrap();
        let len = notify.finish();
        self.socket.write_all(&buffer[..len]).unwrap();
        let (mut buffer, mut filled) = ([0; 4096], 0);
        while Frame::split(&buffer[..filled], FRAME_SIZE)
            .unwrap()
            .is_none()
        {
            let len = self.socket.read(&mut buffer[filled..]).unwrap();
            assert_ne!(len, 0, "the server closed");
            filled += len;
        }
        String::from_utf8_lossy(&buffer[..filled]).into_owned()
    }

    fn metric(&self, sample: &str) -> u64 {
        let mut socket = TcpStream::connect(&self.admin).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {sample} in\n{answer}"));
        value.parse().unwrap()
    }

    /// The lines with this in them, once there is one.
    fn logged(&self, part: &str) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = self.log.lock().unwrap();
            let found: Vec<_> = log.iter().filter(|line| line.contains(part)).collect();
            if !found.is_empty() {
                return found.into_iter().cloned().collect();
            }
            assert!(Instant::now() < end, "{part} is not in {log:#?}");
            drop(log);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const FREE: [u8; 4] = [192, 0, 2, 77];
const SUSPECT: [u8; 4] = [192, 0, 2, 2];

#[test]
fn an_appsec_that_fails_is_told_and_counted() {
    let stub = Stub::start(401, "");
    let url = format!("http://{}", stub.address);
    let settings =
        format!("[remediation.appsec]\nurl = \"{url}\"\napi-key = \"k\"\ntimeout = \"100ms\"\n");
    let mut serving = Serving::start("appsec-fails", &settings);
    let get = Some("GET");
    // A line a second, so that each kind waits for its own.
    let pause = Duration::from_millis(1100);
    for _ in 0..5 {
        assert!(serving.ask(FREE, get, "").contains("allow"));
    }
    let told = serving.logged("401, check api-key");
    assert_eq!(told.len(), 1, "five failures in one second: {told:?}");
    let text = format!("appsec ({url}): 401, check api-key; requests pass (failure-action)");
    assert!(told[0].contains(&text), "{told:?}");

    thread::sleep(pause);
    stub.says(500);
    serving.ask(FREE, get, "");
    let told = serving.logged("500, which is no verdict; requests pass (failure-action)");
    assert!(
        told[0].contains("(4 more since the last such line)"),
        "{told:?}"
    );

    thread::sleep(pause);
    stub.says(SILENT);
    assert!(serving.ask(FREE, get, "").contains("allow"));
    serving.logged("timeout after 100 ms, before the answer began; requests pass (failure-action)");

    thread::sleep(pause);
    serving.ask(FREE, None, "");
    serving.logged(
        "not asked, as HAProxy's message lacks src-ip, method, path or headers; requests pass",
    );

    stub.says(200);
    serving.ask(FREE, get, "");
    let of =
        |outcome: &str| serving.metric(&format!("ringspoa_appsec_total{{outcome=\"{outcome}\"}}"));
    for (outcome, count) in [
        ("allow", 1),
        ("ban", 0),
        ("captcha", 0),
        ("timeout", 1),
        ("unreachable", 0),
        ("unauthorized", 5),
        ("error", 1),
        ("not_asked", 1),
    ] {
        assert_eq!(of(outcome), count, "{outcome}");
    }
    assert_eq!(serving.metric("ringspoa_decisions"), 1);
}

#[test]
fn who_is_turned_away_for_want_of_an_appsec_has_an_origin_of_its_own() {
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let settings = format!(
        "[remediation.appsec]\nurl = \"{url}\"\napi-key = \"k\"\nfailure-action = \"deny\"\n"
    );
    let mut serving = Serving::start("appsec-gone", &settings);
    let open = "ringspoa_breakers_open{endpoint=\"appsec\"}";
    assert_eq!(serving.metric(open), 0);
    for _ in 0..5 {
        assert!(serving.ask(FREE, Some("GET"), "").contains("ban"));
    }
    let told = serving.logged("requests are turned away (failure-action)");
    assert!(told[0].contains("cannot connect: "), "{told:?}");
    let told = serving.logged("too many calls failed, the last one so: cannot connect: ");
    assert!(
        told[0].contains("; none for 5s, then one to see"),
        "{told:?}"
    );
    assert_eq!(serving.metric(open), 1);
    let blocked = "crowdsec_haproxy_spoa_bouncer_blocked_requests\
        {origin=\"appsec-failure\",ip_type=\"ipv4\",remediation=\"ban\"}";
    assert_eq!(serving.metric(blocked), 5);
    let unreachable = "ringspoa_appsec_total{outcome=\"unreachable\"}";
    assert_eq!(serving.metric(unreachable), 5);
}

#[test]
fn a_solution_that_is_lost_is_told_and_counted() {
    let stub = Stub::start(
        SILENT,
        r#"{"success":false,"error-codes":["invalid-input-secret"]}"#,
    );
    let url = format!("http://{}/verify", stub.address);
    let settings = format!(
        "[[remediation.host]]\nhost = \"*\"\n[remediation.host.captcha]\nprovider = \"custom\"\n\
         site-key = \"1\"\nsecret-key = \"2\"\nsigning-key = \"0123456789abcdef0123456789abcdef\"\n\
         timeout = 5\n[remediation.host.captcha.custom]\nscript = \"https://captcha.example/x.js\"\n\
         class = \"h-captcha\"\nfield = \"h-captcha-response\"\nurl = \"{url}\"\n"
    );
    let mut serving = Serving::start("captcha-lost", &settings);
    assert!(
        serving
            .ask(SUSPECT, Some("POST"), SOLUTION)
            .contains("captcha")
    );
    let told = serving.logged(
        "a visitor's solution is lost, and the captcha comes again: raise agent-deadline-ms",
    );
    assert!(told[0].contains("timeout after "), "{told:?}");
    stub.says(200);
    thread::sleep(Duration::from_millis(1100));
    serving.ask(SUSPECT, Some("POST"), SOLUTION);
    serving.logged("check secret-key");
    serving.ask(SUSPECT, Some("GET"), "");
    let of =
        |outcome: &str| serving.metric(&format!("ringspoa_captcha_total{{outcome=\"{outcome}\"}}"));
    for (outcome, count) in [
        ("timeout", 1),
        ("unauthorized", 1),
        ("issued", 1),
        ("solved", 0),
    ] {
        assert_eq!(of(outcome), count, "{outcome}");
    }
}

/// What `serve --check` says of these settings: whether they are valid, and what is on stderr.
fn check(name: &str, settings: &str) -> (bool, String) {
    let folder = std::env::temp_dir().join(format!("ringspoa-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (list, config) = (folder.join("list"), folder.join("ringspoa.toml"));
    fs::write(&list, "192.0.2.2\n").unwrap();
    let list = format!("[[remediation.list]]\npath = {list:?}\n");
    fs::write(&config, format!("{list}{settings}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args(["serve", "--check", "--agent-deadline-ms", "400", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let _ = fs::remove_dir_all(&folder);
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said)
}

#[test]
fn a_check_warns_of_timeouts_that_the_deadline_cuts() {
    let settings = |appsec: &str, captcha: &str| {
        format!(
            "[remediation.appsec]\nurl = \"http://127.0.0.1:7422/\"\napi-key = \"k\"\n{appsec}\n\
             [[remediation.host]]\nhost = \"*\"\n[remediation.host.captcha]\nprovider = \"turnstile\"\n\
             site-key = \"1\"\nsecret-key = \"2\"\n\
             signing-key = \"0123456789abcdef0123456789abcdef\"\n{captcha}\n"
        )
    };
    let (is_valid, said) = check("fits", &settings("timeout = \"400ms\"", ""));
    assert_eq!((is_valid, said.as_str()), (true, ""));
    let (is_valid, said) = check("cut", &settings("timeout = \"1s\"", "timeout = 5"));
    assert!(is_valid, "{said}");
    let lines: Vec<_> = said.lines().collect();
    let of = |place: &str, timeout: &str| {
        format!(
            "ringspoa: warning: remediation: {place} is {timeout}, of which agent-deadline-ms leaves 400ms: \
             raise that, and HAProxy's timeout processing above it, or lower this"
        )
    };
    assert_eq!(
        lines,
        [
            of("appsec.timeout of http://127.0.0.1:7422/", "1s"),
            of("host 1: captcha.timeout", "5s"),
        ]
    );
}

#[test]
fn a_check_says_all_that_a_captcha_lacks() {
    let (is_valid, said) = check(
        "lacks",
        "[[remediation.host]]\nhost = \"*\"\n[remediation.host.captcha]\nprovider = \"custom\"\n",
    );
    assert!(!is_valid);
    for part in [
        "captcha.custom lacks script, class, field, url: want script (",
        "captcha.site-key is missing",
        "captcha.secret-key is missing",
        "captcha.signing-key has 0 of the 32 bytes",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

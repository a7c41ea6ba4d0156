//! A stub of a LAPI on loopback, whose answers the test writes; and a folder of files.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringspoa::agents::remediation::Remediation;
use ringspoa::sources::{LapiConfig, SourceConfig, SourceStatus, Sources, SourcesConfig};

/// How long anything may take before the test fails. The machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A request as a stub got it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The request line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// Whether all decisions are asked for.
    pub(crate) fn is_full(&self) -> bool {
        self.head.contains("startup=true")
    }
}

/// What a stub does about one request; to the socket goes what it likes.
pub(crate) type Act = Arc<dyn Fn(&Asked, &mut TcpStream) + Send + Sync>;

/// A whole answer.
pub(crate) fn answer(status: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Answers with these decisions.
pub(crate) fn says(new: &[String], deleted: &[String]) -> Act {
    let body = body(new, deleted);
    Arc::new(move |_, socket| {
        let _ = socket.write_all(&answer("200 OK", &body));
    })
}

pub(crate) fn body(new: &[String], deleted: &[String]) -> String {
    format!(
        "{{\"new\":[{}],\"deleted\":[{}]}}",
        new.join(","),
        deleted.join(",")
    )
}

pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Act {
    let bytes = bytes.into();
    Arc::new(move |_, socket| {
        let _ = socket.write_all(&bytes);
    })
}

/// A ban of an hour.
pub(crate) fn ban(id: i64, address: &str) -> String {
    format!(
        "{{\"id\":{id},\"origin\":\"cscli\",\"type\":\"ban\",\"scope\":\"Ip\",\"value\":\"{address}\",\
         \"duration\":\"1h0m0.5s\",\"scenario\":\"stub\"}}"
    )
}

struct State {
    act: Mutex<Act>,
    asked: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
}

/// A stub that answers one request a connection.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stub {
    pub(crate) fn new(act: Act) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            act: Mutex::new(act),
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (state, socket) = (Arc::clone(&shared), socket.unwrap());
                // They end with their sockets, which have time limits.
                std::thread::spawn(move || serve(&state, socket));
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What it does from now on.
    pub(crate) fn then(&self, act: Act) {
        *self.state.act.lock().unwrap() = act;
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Waits for this many more requests that are answered as it is now.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        let before = self.asked().len();
        wait_until("requests", || self.asked().len() >= before + count);
    }
}

fn serve(state: &State, mut socket: TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read_exact(&mut byte).is_err() {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let len = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; len];
    if socket.read_exact(&mut body).is_err() {
        return;
    }
    let asked = Asked {
        head,
        body: String::from_utf8(body).unwrap(),
    };
    let act = Arc::clone(&state.act.lock().unwrap());
    act(&asked, &mut socket);
    state.asked.lock().unwrap().push(asked);
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // For the listener to look.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A LAPI asked often, whose failures are noticed soon.
pub(crate) fn quick(url: impl Into<String>) -> LapiConfig {
    let mut config = LapiConfig::new(url, "key-of-the-test");
    config.update_frequency = Duration::from_millis(30);
    config.retry_at_most = Duration::from_millis(60);
    config.timeouts.first_byte = Duration::from_millis(1_500);
    config.timeouts.idle_read = Duration::from_millis(1_500);
    config.timeouts.progress = Duration::from_millis(800);
    config
}

pub(crate) fn start(sources: Vec<SourceConfig>) -> Sources {
    Sources::start(SourcesConfig {
        sources,
        ..SourcesConfig::default()
    })
    .unwrap()
}

/// The sources of one LAPI, which has answered.
#[track_caller]
pub(crate) fn ready(config: LapiConfig) -> Sources {
    let sources = start(vec![SourceConfig::new("main", config)]);
    assert!(sources.wait_ready(PATIENCE));
    sources
}

pub(crate) fn is_banned(sources: &Sources, address: &str) -> bool {
    let snapshot = sources.snapshots().current();
    let found = snapshot.lookup(address.parse().unwrap());
    found.is_some_and(|found| found.remediation() == Remediation::Ban)
}

pub(crate) fn status(sources: &Sources) -> SourceStatus {
    sources.status().sources.remove(0)
}

#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder of its own for one test, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringspoa-sources-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! A real HAProxy for the tests of agents: started with a configuration made from the declaration, asked
//! over HTTP, and gone with the test.
//!
//! It listens on Unix sockets in a folder of its own only, so that tests run beside each other and no port
//! is taken from anyone. Of the agent it knows where it listens; serving it is the test's matter.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Write as _};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::agent::AgentDeclaration;
use crate::haproxy_config::{HaproxyVersion, SpoeConfig, quoted};
use crate::message::{ValueTypes, Var, VariableDeclaration, VariableType};
use crate::spop::{Scope, TypedData};

/// How long HAProxy may take to be there, on a machine that does much else.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// What a request waits for the agent, unless a test says otherwise: longer than a loaded machine takes.
const PROCESSING_TIMEOUT: Duration = Duration::from_secs(5);

/// What an HTTP request may take beyond what its messages do.
const HTTP_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest path of a folder with sockets: of the 107 bytes that a Unix socket's may have, HAProxy keeps
/// 14 for the name that it binds before it renames, and the sockets' own names take 12.
const MAX_FOLDER_LEN: usize = 107 - 14 - 12;

/// A running HAProxy that asks an agent about every request, and shows what that set.
///
/// ```no_run
/// use ringspoa::{AgentDeclaration, Message, TestHaproxy, Var};
///
/// #[derive(Message)]
/// #[spop(name = "check-visit", event = "on-frontend-http-request")]
/// struct CheckVisit {
///     src: std::net::IpAddr,
/// }
///
/// const SCORE: Var<i64> = Var::txn("score");
///
/// let declaration = AgentDeclaration::new("reputation")
///     .with_message::<CheckVisit>()
///     .with_variable(SCORE);
/// // The agent is served here, as in production.
/// let haproxy = TestHaproxy::start(&declaration, "127.0.0.1:9000")?;
/// let answer = haproxy.get("/path", &[("user-agent", "curl")])?;
/// assert_eq!(answer.get(SCORE), Some(7));
/// let banned = haproxy.client([192, 0, 2, 1]).get("/", &[])?;
/// assert_eq!(banned.text("txn.score"), Some("100"));
/// # Ok::<(), ringspoa::TestHaproxyError>(())
/// ```
///
/// The executable is the one that the environment variable `HAPROXY` names, else `haproxy`; its version
/// decides how the configuration looks, see [`SpoeConfig`]. The process needs no privileges, listens on
/// Unix sockets in a temporary folder, and is killed, and the folder removed, when this is dropped.
///
/// Requests go through HAProxy to a server that answers each with 200, so that events of requests and of
/// responses take place. Messages without an event are sent by `http-request` rules. There are no health
/// checks, and no second try where the agent cannot be reached.
#[derive(Debug)]
pub struct TestHaproxy {
    // In the order in which they go: the process before its folder.
    process: Process,
    folder: Folder,
    version: HaproxyVersion,
    variables: Vec<VariableDeclaration>,
}

impl TestHaproxy {
    /// Starts it before the agent that listens at `address`: `127.0.0.1:9000` or `unix:/PATH`, as
    /// `Server::addresses` has them, or as HAProxy writes addresses. A request waits for the agent for at
    /// most 5 s; HAProxy up to 3.0 does so, too, where nothing listens.
    ///
    /// # Errors
    ///
    /// If there is no HAProxy, if the declaration makes no configuration, or if HAProxy does not start;
    /// with what it said.
    pub fn start(
        declaration: &AgentDeclaration,
        address: impl Display,
    ) -> Result<Self, TestHaproxyError> {
        let config = SpoeConfig::new(declaration)
            .address(address)
            .processing_timeout(PROCESSING_TIMEOUT);
        Self::start_with(&config, Self::executable()?)
    }

    /// Starts an executable with a configuration; its version, the file's path and health checks are not
    /// taken from that.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(
        config: &SpoeConfig,
        executable: impl AsRef<OsStr>,
    ) -> Result<Self, TestHaproxyError> {
        let executable = executable.as_ref();
        let version = version(executable)?;
        let folder = Folder::new()?;
        let config = config
            .clone()
            .for_haproxy(version)
            .spoe_file(folder.path("spoe.cfg"))
            .without_checks();
        let wrong = |error: crate::haproxy_config::ConfigTextError| {
            TestHaproxyError(format!("no configuration for HAProxy: {error}"))
        };
        folder.write("spoe.cfg", &config.spoe().map_err(wrong)?)?;
        folder.write("haproxy.cfg", &main_file(&config, &folder).map_err(wrong)?)?;
        let process = Process::start(executable, &folder)?;
        let mut haproxy = Self {
            process,
            folder,
            version,
            variables: config.declaration().variables.clone(),
        };
        haproxy.await_start()?;
        Ok(haproxy)
    }

    /// The executable that [`start`](Self::start) takes.
    ///
    /// # Errors
    ///
    /// If there is none; with how to get one.
    pub fn executable() -> Result<OsString, TestHaproxyError> {
        // Debian installs it where the PATH of most users does not lead.
        let places = ["haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        choose(std::env::var_os("HAPROXY"), &places)
    }

    /// The version that runs.
    #[must_use]
    pub fn version(&self) -> HaproxyVersion {
        self.version
    }

    /// Sends a GET request from 127.0.0.1, on a connection of its own.
    ///
    /// # Errors
    ///
    /// If no answer comes, or one without the variables; with what HAProxy said.
    pub fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<TestAnswer, TestHaproxyError> {
        self.client(Ipv4Addr::LOCALHOST).get(path, headers)
    }

    /// Sends a request from 127.0.0.1, on a connection of its own. HAProxy waits for the whole body before
    /// it asks the agent.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Result<TestAnswer, TestHaproxyError> {
        self.client(Ipv4Addr::LOCALHOST)
            .request(method, path, headers, body)
    }

    /// A client that HAProxy takes to be at this address: its `src`.
    pub fn client(&self, address: impl Into<IpAddr>) -> TestClient<'_> {
        TestClient {
            haproxy: self,
            address: address.into(),
        }
    }

    /// What HAProxy wrote to its output so far: warnings, alerts and its log.
    #[must_use]
    pub fn output(&self) -> String {
        self.folder.read(OUTPUT)
    }

    /// Waits until it answers, without asking the agent.
    fn await_start(&mut self) -> Result<(), TestHaproxyError> {
        let end = Instant::now() + START_TIMEOUT;
        let probe = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        loop {
            if let Some(status) = self.process.exited() {
                return Err(
                    self.error(&format!("HAProxy {} did not start: {status}", self.version))
                );
            }
            if exchange(&self.folder.file(ORIGIN), probe, b"")
                .is_ok_and(|answer| !answer.is_empty())
            {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.error(&format!(
                    "HAProxy {} does not answer after {START_TIMEOUT:?}",
                    self.version
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn error(&self, what: &str) -> TestHaproxyError {
        let output = self.output();
        let said = match output.trim_end() {
            "" => "; it said nothing".to_owned(),
            said => format!(". It said:\n{said}"),
        };
        TestHaproxyError(format!("{what}{said}"))
    }
}

/// A client at some address: see [`TestHaproxy::client`].
#[derive(Clone, Copy, Debug)]
pub struct TestClient<'h> {
    haproxy: &'h TestHaproxy,
    address: IpAddr,
}

impl TestClient<'_> {
    /// As [`TestHaproxy::get`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<TestAnswer, TestHaproxyError> {
        self.request("GET", path, headers, "")
    }

    /// As [`TestHaproxy::request`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Result<TestAnswer, TestHaproxyError> {
        let body = body.as_ref();
        let head = http_head(self.address, method, path, headers, body.len())?;
        let response = exchange(&self.haproxy.folder.file(FRONTEND), &head, body)
            .map_err(|error| self.haproxy.error(&format!("{method} {path}: {error}")))?;
        TestAnswer::parse(&response, &self.haproxy.variables).map_err(|what| {
            let shown = String::from_utf8_lossy(&response);
            let response = shown.trim_end();
            self.haproxy
                .error(&format!("{method} {path}: {what}:\n{response}\n"))
        })
    }
}

/// What a request came back with: the variables that the agent declares, as they were at the end.
#[derive(Clone, Debug)]
pub struct TestAnswer {
    variables: Vec<(VariableDeclaration, Option<Found>)>,
    spoe_error: Option<u32>,
}

impl TestAnswer {
    /// The value of a variable, or `None` if it is not set.
    ///
    /// HAProxy holds all integers as one signed type and tells no boolean from 0 and 1, so that the type of
    /// the variable decides as what they are read.
    ///
    /// # Panics
    ///
    /// If the agent does not declare it, or has set it to something of another type.
    #[track_caller]
    pub fn get<T: VariableType + ?Sized>(&self, variable: Var<T>) -> Option<T::Read<'_>> {
        let name = variable.to_string();
        let found = self.found(&name)?;
        let value = found.typed(T::TYPES).and_then(T::read);
        assert!(
            value.is_some(),
            "variable {name} is to be {}, but HAProxy has {found}",
            T::TYPES
        );
        value
    }

    /// A variable as HAProxy prints it, or `None` if it is not set: numbers in decimal, booleans as 1 or 0,
    /// text as it is; binary, and text that is no UTF-8, as hexadecimal digits. The name is scope and name,
    /// without the prefix: `txn.score`.
    ///
    /// # Panics
    ///
    /// If the agent does not declare it.
    #[must_use]
    #[track_caller]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.found(name).map(|found| &*found.text)
    }

    /// The status of SPOE if the agent could not be asked, or gave no answer: 1 for a timeout, which is also
    /// what an agent ends in that does not listen; 256 and more for errors of the connection, such as 257
    /// for one that is lost (doc/SPOE.txt, 2.2, `option set-on-error`).
    #[must_use]
    pub fn spoe_error(&self) -> Option<u32> {
        self.spoe_error
    }

    #[track_caller]
    fn found(&self, name: &str) -> Option<&Found> {
        let mut variables = self.variables.iter();
        let is_it = |variable: &VariableDeclaration| shown(variable) == name;
        match variables.find(|(variable, _)| is_it(variable)) {
            Some((_, found)) => found.as_ref(),
            None => {
                let known = self.variables.iter().map(|(variable, _)| shown(variable));
                let known = known.collect::<Vec<_>>().join(", ");
                panic!("the agent declares no variable {name}; it declares {known}")
            }
        }
    }

    fn parse(response: &[u8], variables: &[VariableDeclaration]) -> Result<Self, &'static str> {
        let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let head = end.and_then(|end| std::str::from_utf8(&response[..end]).ok());
        let head = head.ok_or("this is no whole HTTP response")?;
        let header = |name: &str| {
            let mut headers = head.split("\r\n").filter_map(|line| line.split_once(": "));
            headers.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
        };
        header(END_HEADER).ok_or(
            "the variables are not in this response; if they take more than about 4 KiB, that is why: in the \
             hexadecimal form they come in they do not fit into `tune.bufsize`",
        )?;
        let found = |name: &str, types| match header(name) {
            None => Ok(None),
            Some(value) => match Found::parse(value, types) {
                Some(value) => Ok(Some(value)),
                None => Err("this response has a variable in no form that HAProxy has"),
            },
        };
        let variables = variables.iter().enumerate().map(|(index, variable)| {
            let found = found(&variable_header(index), variable.types)?;
            Ok((*variable, found))
        });
        let error = found(ERROR_HEADER, ValueTypes::INTEGER)?;
        Ok(Self {
            variables: variables.collect::<Result<_, &'static str>>()?,
            spoe_error: error.and_then(|error| error.text.parse().ok()),
        })
    }
}

/// Scope and name, as in `txn.score`.
fn shown(variable: &VariableDeclaration) -> String {
    format!("{}.{}", variable.scope.as_str(), variable.name)
}

/// A value, as far as HAProxy tells its type.
#[derive(Clone, Debug)]
struct Found {
    text: String,
    value: FoundValue,
}

#[derive(Clone, Debug)]
enum FoundValue {
    /// Or a boolean.
    Integer(i64),
    Ip(IpAddr),
    /// Text or binary.
    Bytes(Vec<u8>),
}

impl Found {
    /// Of `TEXT:BYTES`, hexadecimal both: what HAProxy prints for it, and what it is as binary. Only of
    /// text, and of binary without NUL, are they the same.
    fn parse(header: &str, types: ValueTypes) -> Option<Self> {
        let (text, bytes) = header.split_once(':')?;
        let (text, bytes) = (from_hex(text)?, from_hex(bytes)?);
        if text != bytes
            && let Ok(text) = std::str::from_utf8(&text)
            && let Some(value) = FoundValue::of_number(text, &bytes)
        {
            let text = text.to_owned();
            return Some(Self { text, value });
        }
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) if types.intersects(ValueTypes::STRING) => text.to_owned(),
            _ => to_hex(&bytes),
        };
        let value = FoundValue::Bytes(bytes);
        Some(Self { text, value })
    }

    /// As one of these types.
    fn typed(&self, types: ValueTypes) -> Option<TypedData<'_>> {
        let candidates = match &self.value {
            FoundValue::Integer(value) => [
                (*value == 0 || *value == 1).then_some(TypedData::Bool(*value == 1)),
                i32::try_from(*value).ok().map(TypedData::Int32),
                u32::try_from(*value).ok().map(TypedData::Uint32),
                Some(TypedData::Int64(*value)),
                // HAProxy reads what is above the largest INT64 as negative.
                Some(TypedData::Uint64(value.cast_unsigned())),
            ],
            FoundValue::Ip(value) => [Some(TypedData::from(*value)), None, None, None, None],
            FoundValue::Bytes(bytes) => [
                Some(TypedData::String(bytes)),
                Some(TypedData::Binary(bytes)),
                None,
                None,
                None,
            ],
        };
        let is_one = |value: &TypedData<'_>| types.contains(ValueTypes::of(value));
        candidates.into_iter().flatten().find(is_one)
    }
}

/// For messages about it.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            FoundValue::Integer(value) => write!(f, "the number {value}"),
            FoundValue::Ip(value) => write!(f, "the address {value}"),
            FoundValue::Bytes(_) => write!(f, "{:?}", self.text),
        }
    }
}

impl FoundValue {
    fn of_number(text: &str, bytes: &[u8]) -> Option<Self> {
        if let Ok(bytes) = <[u8; 8]>::try_from(bytes) {
            let value = i64::from_be_bytes(bytes);
            return (text.parse() == Ok(value)).then_some(Self::Integer(value));
        }
        let address = if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
            IpAddr::from(bytes)
        } else {
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        };
        (text.parse() == Ok(address)).then_some(Self::Ip(address))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    };
    digits.map(byte).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why HAProxy did not start, or gave no answer, in full sentences and with what it said.
#[derive(Clone, PartialEq, Eq)]
pub struct TestHaproxyError(String);

impl fmt::Display for TestHaproxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As [`Display`], since this is what a test prints that returns it, or unwraps it.
impl fmt::Debug for TestHaproxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TestHaproxyError {}

/// Sockets and output in the folder.
const FRONTEND: &str = "http.sock";
const ORIGIN: &str = "origin.sock";
const OUTPUT: &str = "output";

/// The header that has the status of SPOE, and the last one of all.
const ERROR_HEADER: &str = "ringspoa-error";
const END_HEADER: &str = "ringspoa-end";

fn variable_header(index: usize) -> String {
    format!("ringspoa-{index}")
}

/// haproxy.cfg: a frontend that asks the agent, a server behind it, and the agent's backend.
fn main_file(
    config: &SpoeConfig,
    folder: &Folder,
) -> Result<String, crate::haproxy_config::ConfigTextError> {
    // Variables of the request are gone when the response comes: the copies of them.
    let mut copies = String::new();
    let mut headers = String::new();
    let mut header = |name: &str, variable: &str| {
        // Of a text that is set but empty, there is the header with nothing but the colon.
        let _ = writeln!(
            headers,
            "    http-after-response set-header {name} \
             \"%[var({variable}),concat(),hex]:%[var({variable}),hex]\" \
             if {{ var({variable}) -m found }}"
        );
    };
    for (index, variable) in config.declaration().variables.iter().enumerate() {
        let name = config.variable_name(variable);
        if variable.scope == Scope::Request {
            let _ = writeln!(
                copies,
                "    http-request set-var(txn.ringspoa_copy_{index}) var({name})"
            );
            header(
                &variable_header(index),
                &format!("txn.ringspoa_copy_{index}"),
            );
        } else {
            header(&variable_header(index), &name);
        }
    }
    header(ERROR_HEADER, &config.error_variable_name());
    Ok(format!(
        "global
    maxconn 256
    nbthread 1
    log stdout format raw local0 notice

defaults
    mode http
    # The agent is there, or is not.
    retries 0
    timeout connect 2s
    timeout client  60s
    timeout server  60s

frontend ringspoa-test
    bind {frontend} accept-proxy
    option http-buffer-request
{frontend_lines}{headers}    http-after-response set-header {END_HEADER} 1
    default_backend ringspoa-test-server

backend ringspoa-test-server
{copies}    server origin {origin}

frontend ringspoa-test-origin
    bind {origin}
    http-request return status 200

{backend}",
        frontend = folder.address(FRONTEND),
        origin = folder.address(ORIGIN),
        frontend_lines = config.frontend_lines()?,
        backend = config.backend()?,
    ))
}

/// What is named, or the first that is there.
fn choose(named: Option<OsString>, places: &[&str]) -> Result<OsString, TestHaproxyError> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return Ok(named);
    }
    let is_there = |place: &&&str| version(OsStr::new(place)).is_ok();
    let found = places.iter().find(is_there);
    found.map(OsString::from).ok_or_else(|| {
        TestHaproxyError(
            "there is no HAProxy: haproxy is not on PATH and HAPROXY is not set; install it, as by \
             `apt-get install haproxy`, or set HAPROXY to the executable's path"
                .to_owned(),
        )
    })
}

/// The version that an executable says it is.
fn version(executable: &OsStr) -> Result<HaproxyVersion, TestHaproxyError> {
    let name = executable.to_string_lossy();
    let output = Command::new(executable)
        .arg("-v")
        .output()
        .map_err(|error| {
            TestHaproxyError(format!(
                "cannot run {name}, which should be HAProxy: {error}"
            ))
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `HAProxy version 3.2.4-1 2025/09/01 - https://haproxy.org/`
    let word = text
        .split_once("version ")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).ok_or_else(|| {
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        TestHaproxyError(format!(
            "{name} is no HAProxy: `{name} -v` ended with {} and said:\n{}",
            output.status,
            said.trim_end()
        ))
    })
}

/// What precedes the body, behind the line of the PROXY protocol that says where the client is.
fn http_head(
    client: IpAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body_len: usize,
) -> Result<Vec<u8>, TestHaproxyError> {
    let is_word = |text: &str| !text.is_empty() && !text.contains([' ', '\r', '\n', '\0']);
    let is_line = |text: &str| !text.contains(['\r', '\n', '\0']);
    let names_are_words = headers.iter().all(|(name, _)| is_word(name));
    let values_are_lines = headers.iter().all(|(_, value)| is_line(value));
    if !is_word(method) || !is_word(path) || !names_are_words || !values_are_lines {
        return Err(TestHaproxyError(format!(
            "{method:?} {path:?} with {headers:?} is no HTTP request: method, path and names of headers \
             are words, and values are one line"
        )));
    }
    let (family, here) = match client {
        IpAddr::V4(_) => ("TCP4", "127.0.0.1"),
        IpAddr::V6(_) => ("TCP6", "::1"),
    };
    let mut text =
        format!("PROXY {family} {client} {here} 40000 80\r\n{method} {path} HTTP/1.1\r\n");
    let has = |wanted: &str| {
        let mut names = headers.iter().map(|(name, _)| name);
        names.any(|name| name.eq_ignore_ascii_case(wanted))
    };
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !has("host") {
        text.push_str("host: test\r\n");
    }
    if body_len > 0 && !has("content-length") && !has("transfer-encoding") {
        let _ = write!(text, "content-length: {body_len}\r\n");
    }
    text.push_str("connection: close\r\n\r\n");
    Ok(text.into_bytes())
}

/// Sends a request, and reads until HAProxy closes.
fn exchange(socket: &Path, head: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    stream.set_write_timeout(Some(HTTP_TIMEOUT))?;
    stream.write_all(head)?;
    stream.write_all(body)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            io::Error::other(format!("no whole answer after {HTTP_TIMEOUT:?}"))
        } else {
            error
        }
    })?;
    Ok(response)
}

/// A folder of its own, for nobody else, removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, TestHaproxyError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ringspoa-haproxy-{}-{number}", std::process::id());
            let mut path = std::env::temp_dir().join(&name);
            if !is_fit_for_sockets(&path) {
                path = Path::new("/tmp").join(&name);
            }
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // Of a process of the same id that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(folder_error(&path, &error)),
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).to_string_lossy().into_owned()
    }

    /// A socket's address, as a word of HAProxy's configuration.
    fn address(&self, name: &str) -> String {
        quoted(&format!("unix@{}", self.path(name))).into_owned()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), TestHaproxyError> {
        let path = self.file(name);
        fs::write(&path, text).map_err(|error| folder_error(&path, &error))
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.file(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Whether HAProxy can listen on sockets in the folder: it takes `$` in an address for a variable of the
/// environment, and `,` for the next address.
fn is_fit_for_sockets(folder: &Path) -> bool {
    let is_fit = |c: char| !c.is_control() && !matches!(c, '$' | ',');
    let text = folder.to_str();
    text.is_some_and(|text| text.len() <= MAX_FOLDER_LEN && text.chars().all(is_fit))
}

fn folder_error(path: &Path, error: &io::Error) -> TestHaproxyError {
    TestHaproxyError(format!("cannot write {}: {error}", path.display()))
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The process, killed when dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(executable: &OsStr, folder: &Folder) -> Result<Self, TestHaproxyError> {
        let path = folder.file(OUTPUT);
        let output = File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
        let (output, errors) = output.map_err(|error| folder_error(&path, &error))?;
        let child = Command::new(executable)
            // In the foreground: the child is HAProxy itself.
            .arg("-db")
            .arg("-f")
            .arg(folder.file("haproxy.cfg"))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn();
        child.map(Self).map_err(|error| {
            let name = executable.to_string_lossy();
            TestHaproxyError(format!("cannot run {name}: {error}"))
        })
    }

    fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ArgumentDeclaration, MessageDeclaration};

    fn config() -> SpoeConfig {
        const MESSAGE: MessageDeclaration = MessageDeclaration::new(
            "m",
            &[ArgumentDeclaration::new(
                "src",
                ValueTypes::ADDRESS,
                "an address",
            )],
        );
        let mut declaration = AgentDeclaration::new("a");
        declaration.messages.push(MESSAGE);
        SpoeConfig::new(&declaration).address("127.0.0.1:9000")
    }

    #[test]
    fn what_is_no_haproxy_is_said() {
        for (executable, part) in [
            ("/nonexistent/haproxy", "cannot run /nonexistent/haproxy"),
            ("/bin/false", "/bin/false is no HAProxy"),
        ] {
            let error = TestHaproxy::start_with(&config(), executable).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn what_is_named_wins_and_how_to_get_one_is_said() {
        let named = choose(Some("/opt/haproxy".into()), &[]);
        assert_eq!(named, Ok(OsString::from("/opt/haproxy")));
        for nothing in [None, Some(OsString::new())] {
            let error = choose(nothing, &["/bin/false", "/nonexistent"]).unwrap_err();
            assert!(error.to_string().contains("set HAPROXY"), "{error}");
        }
    }

    #[test]
    fn values_are_told_apart_by_what_they_are_as_text_and_as_bytes() {
        let parse = |text: &[u8], bytes: &[u8]| {
            let header = format!("{}:{}", to_hex(text), to_hex(bytes));
            Found::parse(&header, ValueTypes::ANY).map(|found| found.value)
        };
        let number = parse(b"-5", &(-5_i64).to_be_bytes());
        assert!(
            matches!(number, Some(FoundValue::Integer(-5))),
            "{number:?}"
        );
        // Of eight bytes, but not that number.
        for text in ["12345678", "\0\0\0\0\0\0\0\u{5}"] {
            let bytes = parse(text.split('\0').next().unwrap().as_bytes(), text.as_bytes());
            assert!(matches!(bytes, Some(FoundValue::Bytes(_))), "{bytes:?}");
        }
        let address = parse(b"1.2.3.4", &[1, 2, 3, 4]);
        assert!(
            matches!(address, Some(FoundValue::Ip(IpAddr::V4(_)))),
            "{address:?}"
        );
        let address = parse(b"::1", &Ipv6Addr::LOCALHOST.octets());
        assert!(
            matches!(address, Some(FoundValue::Ip(IpAddr::V6(_)))),
            "{address:?}"
        );
        for header in ["", "31", "3:31", "31:3x"] {
            assert!(Found::parse(header, ValueTypes::ANY).is_none(), "{header}");
        }
    }

    #[test]
    fn folders_that_haproxy_would_misread_are_not_taken() {
        assert!(is_fit_for_sockets(Path::new("/tmp/a b'#\"/c")));
        assert!(is_fit_for_sockets(Path::new(&"/".repeat(MAX_FOLDER_LEN))));
        for path in [
            "/tmp/$a",
            "/tmp/a,b",
            "/tmp/a\n",
            &"/".repeat(MAX_FOLDER_LEN + 1),
        ] {
            assert!(!is_fit_for_sockets(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn heads_are_of_one_request() {
        let client = IpAddr::from([192, 0, 2, 1]);
        let bytes = http_head(client, "POST", "/a", &[("Host", "b")], 4).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "PROXY TCP4 192.0.2.1 127.0.0.1 40000 80\r\nPOST /a HTTP/1.1\r\nHost: b\r\n\
             content-length: 4\r\nconnection: close\r\n\r\n"
        );
        for (method, path, header) in [
            ("GET", "/a b", ("a", "b")),
            ("", "/", ("a", "b")),
            ("GET", "/", ("a b", "c")),
            ("GET", "/", ("a", "b\r\nc: d")),
        ] {
            let error = http_head(client, method, path, &[header], 0).unwrap_err();
            assert!(error.to_string().contains("no HTTP request"), "{error}");
        }
    }
}

//! The HTTP/1.1 client of these tests: one request a connection, over the Unix socket HAProxy's
//! frontend listens on, so that no port is taken from anyone. Header values are any bytes.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Above the longest `timeout processing` of a test: what takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A request, built as the bytes that are sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What precedes the request: a PROXY protocol line.
    preamble: Vec<u8>,
    head: Vec<u8>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self::of("GET", "test", path)
    }

    /// Without a body, to any host.
    pub(crate) fn of(method: &str, host: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        Self {
            preamble: Vec::new(),
            head: head.into(),
            body: None,
        }
    }

    /// With this body.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.head
            .extend(format!("content-length: {}\r\n", body.len()).into_bytes());
        self.body = Some(body);
        self
    }

    /// With this body in chunks, whose length is not said before.
    pub(crate) fn chunked_body(mut self, body: &str) -> Self {
        self.head
            .extend_from_slice(b"transfer-encoding: chunked\r\n");
        let mut chunks = Vec::new();
        for chunk in body.as_bytes().chunks(8192) {
            chunks.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            chunks.extend_from_slice(chunk);
            chunks.extend_from_slice(b"\r\n");
        }
        chunks.extend_from_slice(b"0\r\n\r\n");
        self.body = Some(chunks);
        self
    }

    pub(crate) fn post(path: &str, body: Vec<u8>) -> Self {
        let len = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {len}\r\n"
        );
        Self {
            preamble: Vec::new(),
            head: head.into(),
            body: Some(body),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
            self.head.extend_from_slice(part);
        }
        self
    }

    /// Says that the client is `source`, for a frontend with `accept-proxy`.
    pub(crate) fn behind_proxy(mut self, source: IpAddr) -> Self {
        let (family, destination) = match source {
            IpAddr::V4(_) => ("TCP4", "127.0.0.1"),
            IpAddr::V6(_) => ("TCP6", "::1"),
        };
        self.preamble = format!("PROXY {family} {source} {destination} 40000 80\r\n").into();
        self
    }

    /// Sends it to the frontend at `socket`, and reads the whole response.
    pub(crate) fn send(&self, socket: &Path) -> io::Result<Response> {
        self.exchange(connected(socket)?)
    }

    /// The same over TLS.
    pub(crate) fn send_over_tls(
        &self,
        socket: &Path,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Response> {
        let mut stream = connected(socket)?;
        // The address comes before what is encrypted.
        stream.write_all(&self.preamble)?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let plain = Self {
            preamble: Vec::new(),
            ..self.clone()
        };
        plain.exchange(StreamOwned::new(connection, stream))
    }

    fn exchange(&self, mut stream: impl Read + Write) -> io::Result<Response> {
        let mut bytes = [&self.preamble[..], &self.head, b"\r\n"].concat();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        stream.write_all(&bytes)?;
        let mut response = Vec::new();
        match stream.read_to_end(&mut response) {
            // HAProxy ends TLS without saying goodbye.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        Response::parse(&response).ok_or_else(|| {
            let text = String::from_utf8_lossy(&response);
            io::Error::other(format!("not a whole HTTP response: {text:?}"))
        })
    }
}

fn connected(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A response, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// As text; other bytes are replaced.
    pub(crate) body: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
        let headers = lines
            .map(|line| line.split_once(':'))
            .map(|line| line.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
            .collect::<Option<Vec<_>>>()?;
        let response = Self {
            status: status.parse().ok()?,
            headers,
            body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
        };
        let len = match (response.status, response.header("content-length")) {
            // It has no body, and need not say so.
            (204, "") => 0,
            (_, len) => len.parse::<usize>().ok()?,
        };
        (bytes.len() == end + 4 + len).then_some(response)
    }

    /// The value of a header, empty if it is not there: so HAProxy prints a variable that is not
    /// set.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// The values of all headers of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter().filter(|(key, _)| key == name);
        headers.map(|(_, value)| &**value).collect()
    }

    /// Fails unless the request passed and SPOE reported no error.
    #[track_caller]
    pub(crate) fn assert_passed(&self) -> &Self {
        assert_eq!((self.status, self.header("x-error")), (200, ""), "{self:?}");
        self
    }
}

/// The bytes a hexadecimal header stands for.
#[track_caller]
pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "not whole bytes: {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

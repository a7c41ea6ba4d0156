//! Headers that HAProxy is to set, add or delete, in one variable.
//!
//! From HAProxy 3.4 on a rule applies what an agent has set, without naming the headers itself:
//!
//! ```text
//! http-request del-headers-bin var(txn.agent.names)
//! http-request add-headers-bin var(txn.agent.headers)
//! ```
//!
//! A variable that is not set changes nothing; one that is no such list is answered 500.
//! HAProxy takes these bytes as they are, and sends a CR LF in a value on as the end of a header. So
//! what goes in is checked here, and a variable takes only what went through.

use core::fmt;

use super::headers::Headers;
use crate::spop::{TypedData, encode_varint};

/// The longest name that HAProxy stores, in bytes: its length has eight bits there.
pub const MAX_HEADER_NAME_LEN: usize = 255;

/// Headers that say where a message ends or what the next hop does with the connection (RFC 9110,
/// 7.6.1; RFC 9112, 6). HAProxy writes them itself, and one that disagrees is how requests are
/// smuggled. HAProxy 3.4 drops most of them without a word.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What ends a list of headers: an empty name and an empty value.
const END_OF_HEADERS: [u8; 2] = [0; 2];
/// What ends a list of names: an empty one.
const END_OF_NAMES: [u8; 1] = [0];

/// Writes headers into a caller's buffer, for `set-headers-bin` and `add-headers-bin`.
///
/// A name may come more than once, as `set-cookie` does, but only `add-headers-bin` keeps all of
/// them: to `set-headers-bin` the last one replaces those before it. HAProxy's manual limits a
/// message to `tune.http.maxhdr` headers, 101 unless set.
///
/// ```
/// use ringspoa::HeaderBlobWriter;
/// use ringspoa::spop::TypedData;
///
/// let mut buffer = [0; 256];
/// let mut writer = HeaderBlobWriter::new(&mut buffer);
/// writer.header("X-Score", "7")?.header("x-rule", b"bot")?;
/// // What a byte of an attacker's would do in a log or on the wire, it does not do here.
/// assert!(writer.header("x-user", "a\r\nx-admin: 1").is_err());
/// let blob = writer.finish();
/// assert_eq!(blob.as_bytes(), b"\x07x-score\x017\x06x-rule\x03bot\0\0");
/// let value = TypedData::from(blob);
/// # assert_eq!(value, TypedData::Binary(blob.as_bytes()));
/// # Ok::<(), ringspoa::HeaderError>(())
/// ```
#[derive(Debug)]
pub struct HeaderBlobWriter<'b>(Room<'b>);

impl<'b> HeaderBlobWriter<'b> {
    /// Begins an empty list in `buffer`. It takes its bytes and lengths: of a header two bytes more
    /// than name and value have (four where one has 240 bytes or more), and two at the end.
    #[must_use]
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        Self(Room::new(buffer))
    }

    /// Adds one header, whole or not at all. The name is written in lower case, as HAProxy stores
    /// names; the value as it is.
    ///
    /// # Errors
    ///
    /// The rule that name or value breaks, or `Full`; see [`HeaderError`]. What was added before
    /// stays, and the writer can be used on.
    pub fn header(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Self, HeaderError> {
        self.add(name, value.as_ref())?;
        Ok(self)
    }

    fn add(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        check_name(name)?;
        check_value(value)?;
        self.0.push(name, Some(value), END_OF_HEADERS.len())
    }

    /// Ends the list.
    #[must_use]
    pub fn finish(self) -> HeaderBlob<'b> {
        HeaderBlob(self.0.end(&END_OF_HEADERS))
    }
}

/// Headers that were checked, as `set-headers-bin` and `add-headers-bin` take them. Made by a
/// [`HeaderBlobWriter`] only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderBlob<'b>(&'b [u8]);

impl<'b> HeaderBlob<'b> {
    /// The bytes of the variable's value. They have to fit a frame with the rest of the answer.
    #[must_use]
    pub const fn as_bytes(&self) -> &'b [u8] {
        self.0
    }
}

impl<'b> From<HeaderBlob<'b>> for TypedData<'b> {
    fn from(blob: HeaderBlob<'b>) -> Self {
        Self::Binary(blob.0)
    }
}

/// As [`Headers`] are shown.
impl fmt::Debug for HeaderBlob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = Headers::from_binary(self.0);
        headers.map_err(|_| fmt::Error)?.fmt(f)
    }
}

/// Writes names of headers into a caller's buffer, for `del-headers-bin`.
///
/// That takes a list of names, without values: of a [`HeaderBlob`] it would take the values for
/// names too. Give it no `-m`, which makes of each name a part of others.
///
/// ```
/// use ringspoa::HeaderNamesWriter;
///
/// let mut buffer = [0; 64];
/// let mut writer = HeaderNamesWriter::new(&mut buffer);
/// writer.name("X-Internal")?.name("server")?;
/// assert_eq!(writer.finish().as_bytes(), b"\x0ax-internal\x06server\0");
/// # Ok::<(), ringspoa::HeaderError>(())
/// ```
#[derive(Debug)]
pub struct HeaderNamesWriter<'b>(Room<'b>);

impl<'b> HeaderNamesWriter<'b> {
    /// Begins an empty list in `buffer`. It takes the names, of each a byte more (two from 240 bytes
    /// on), and one at the end.
    #[must_use]
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        Self(Room::new(buffer))
    }

    /// Adds one name, whole or not at all, in lower case.
    ///
    /// # Errors
    ///
    /// The rule that the name breaks, or `Full`; see [`HeaderError`]. What was added before stays,
    /// and the writer can be used on.
    pub fn name(&mut self, name: &str) -> Result<&mut Self, HeaderError> {
        check_name(name)?;
        self.0.push(name, None, END_OF_NAMES.len())?;
        Ok(self)
    }

    /// Ends the list.
    #[must_use]
    pub fn finish(self) -> HeaderNames<'b> {
        HeaderNames(self.0.end(&END_OF_NAMES))
    }
}

/// Names of headers that were checked, as `del-headers-bin` takes them. Made by a
/// [`HeaderNamesWriter`] only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderNames<'b>(&'b [u8]);

impl<'b> HeaderNames<'b> {
    /// The bytes of the variable's value. They have to fit a frame with the rest of the answer.
    #[must_use]
    pub const fn as_bytes(&self) -> &'b [u8] {
        self.0
    }
}

impl<'b> From<HeaderNames<'b>> for TypedData<'b> {
    fn from(names: HeaderNames<'b>) -> Self {
        Self::Binary(names.0)
    }
}

impl fmt::Debug for HeaderNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderNames(\"{}\")", self.0.escape_ascii())
    }
}

/// A caller's buffer, and how much of it is written. Behind that is always room for the end.
struct Room<'b> {
    out: &'b mut [u8],
    len: usize,
}

impl<'b> Room<'b> {
    const fn new(out: &'b mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Writes the name, and the value if there is one, if the end then still fits.
    fn push(
        &mut self,
        name: &str,
        value: Option<&[u8]>,
        end_len: usize,
    ) -> Result<(), HeaderError> {
        let room = self.out.get_mut(self.len..).unwrap_or_default();
        let before = room.len();
        let (written, mut rest) = put(room, name.as_bytes()).ok_or(HeaderError::Full)?;
        written.make_ascii_lowercase();
        if let Some(value) = value {
            (_, rest) = put(rest, value).ok_or(HeaderError::Full)?;
        }
        if rest.len() < end_len {
            return Err(HeaderError::Full);
        }
        self.len += before - rest.len();
        Ok(())
    }

    fn end(self, end: &'static [u8]) -> &'b [u8] {
        let Self { out, len } = self;
        let whole = len + end.len();
        match out.get_mut(len..whole) {
            Some(room) => {
                room.copy_from_slice(end);
                out.get(..whole).unwrap_or(end)
            }
            None => {
                debug_assert!(len == 0, "what was written left room for the end");
                // A buffer too short for anything, so that there is nothing before the end.
                end
            }
        }
    }
}

/// How much is written, not what: of a buffer that may be large.
impl fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.len, self.out.len())
    }
}

/// Writes a length and the bytes at the front of `room`. The bytes there, and what is left.
fn put<'r>(room: &'r mut [u8], bytes: &[u8]) -> Option<(&'r mut [u8], &'r mut [u8])> {
    let used = encode_varint(bytes.len() as u64, room).ok()?;
    let (written, rest) = room.get_mut(used..)?.split_at_mut_checked(bytes.len())?;
    written.copy_from_slice(bytes);
    Some((written, rest))
}

fn check_name(name: &str) -> Result<(), HeaderError> {
    match name.as_bytes() {
        [] => return Err(HeaderError::NoName),
        [b':', ..] => return Err(HeaderError::PseudoHeader),
        bytes if bytes.len() > MAX_HEADER_NAME_LEN => return Err(HeaderError::NameTooLong),
        _ => {}
    }
    if let Some((offset, byte)) = first(name.as_bytes(), |byte| !is_token(byte)) {
        return Err(HeaderError::NameByte { byte, offset });
    }
    if same_name(name, "host") {
        return Err(HeaderError::Host);
    }
    match FRAMING.iter().find(|framing| same_name(name, framing)) {
        Some(framing) => Err(HeaderError::Framing(framing)),
        None => Ok(()),
    }
}

fn check_value(value: &[u8]) -> Result<(), HeaderError> {
    // Bytes from 0x80 on are obs-text, which servers take as they come.
    let is_control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    if let Some((offset, byte)) = first(value, is_control) {
        return Err(HeaderError::ValueByte { byte, offset });
    }
    match value {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Err(HeaderError::Blank),
        _ => Ok(()),
    }
}

fn first(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<(usize, u8)> {
    let mut bytes = bytes.iter().copied().enumerate();
    bytes.find(|&(_, byte)| wanted(byte))
}

/// A `tchar` of RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether a server can take `name` for `refused`: CGI and what follows it make `_` of every `-`.
fn same_name(name: &str, refused: &str) -> bool {
    let canonical = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    name.bytes().map(canonical).eq(refused.bytes())
}

/// Why a header was not written. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is empty, which would end the list.
    NoName,
    /// The name begins with a colon, as those do in which HTTP/2 has the request line.
    PseudoHeader,
    /// The name has more than [`MAX_HEADER_NAME_LEN`] bytes.
    NameTooLong,
    /// The name is no token (RFC 9110, 5.6.2): a byte such as a colon or space would end it early.
    NameByte {
        /// The first such byte.
        byte: u8,
        /// Where in the name it is, in bytes.
        offset: usize,
    },
    /// A header by which messages are framed or connections handled, here in its usual spelling;
    /// also with `_` in place of `-`.
    Framing(&'static str),
    /// `host`, which has to stay one with the authority of the request: `add-headers-bin` would make
    /// two of it, and proxy and server could each take another.
    Host,
    /// The value has a control character other than a tab: CR, LF and NUL can end a header.
    ValueByte {
        /// The first such byte.
        byte: u8,
        /// Where in the value it is, in bytes.
        offset: usize,
    },
    /// The value begins or ends with a space or tab, which HTTP/2 forbids.
    Blank,
    /// The buffer has no room for it.
    Full,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoName => f.write_str("a header without a name; give it one"),
            Self::PseudoHeader => f.write_str(
                "a header name that begins with ':' is for the protocol; use rules such as set-path",
            ),
            Self::NameTooLong => write!(
                f,
                "a header name takes at most {MAX_HEADER_NAME_LEN} bytes; shorten it"
            ),
            Self::NameByte { byte, offset } => write!(
                f,
                "byte {byte:#04x} at {offset} of a header name; \
                 it takes letters, digits and !#$%&'*+-.^_`|~"
            ),
            Self::Framing(name) => write!(
                f,
                "header {name} is HAProxy's own, which frames the message; leave it out"
            ),
            Self::Host => f.write_str(
                "header host cannot be part of a list; \
                 use set-header host with a variable of its own",
            ),
            Self::ValueByte { byte, offset } => write!(
                f,
                "control character {byte:#04x} at {offset} of a header value; encode or remove it"
            ),
            Self::Blank => {
                f.write_str("a header value begins or ends with a space or tab; trim it")
            }
            Self::Full => f.write_str("header does not fit its buffer; make that larger"),
        }
    }
}

impl core::error::Error for HeaderError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob_of<'b>(
        buffer: &'b mut [u8],
        headers: &[(&str, &[u8])],
    ) -> Result<HeaderBlob<'b>, HeaderError> {
        let mut writer = HeaderBlobWriter::new(buffer);
        for (name, value) in headers {
            writer.header(name, value)?;
        }
        Ok(writer.finish())
    }

    fn try_header(name: &str, value: &[u8]) -> Result<(), HeaderError> {
        blob_of(&mut [0; 1_024], &[(name, value)]).map(drop)
    }

    fn try_name(name: &str) -> Result<(), HeaderError> {
        let mut buffer = [0; 1_024];
        HeaderNamesWriter::new(&mut buffer).name(name).map(drop)
    }

    const HEADERS: &[(&str, &[u8])] = &[
        ("X-Score", b"7"),
        ("set-cookie", b"a=1; Path=/"),
        ("set-cookie", b"b=2"),
        ("x-empty", b""),
        ("x-tab", b"a\tb c"),
        ("x-high", b"caf\xe9 \xff"),
        ("!#$%&'*+-.^_`|~09AZaz", b"!\"~"),
    ];
    const BLOB: &[u8] = b"\x07x-score\x017\x0aset-cookie\x0ba=1; Path=/\x0aset-cookie\x03b=2\
        \x07x-empty\x00\x05x-tab\x05a\tb c\x06x-high\x06caf\xe9 \xff\
        \x15!#$%&'*+-.^_`|~09azaz\x03!\"~\x00\x00";

    /// These bytes, and those of the names below, are what HAProxy 3.4 applies as meant.
    #[test]
    fn golden_bytes_that_read_back() {
        let mut buffer = [0xaa; 256];
        let blob = blob_of(&mut buffer, HEADERS).unwrap();
        assert_eq!(
            blob.as_bytes().escape_ascii().to_string(),
            BLOB.escape_ascii().to_string()
        );
        assert_eq!(TypedData::from(blob), TypedData::Binary(BLOB));
        let headers = Headers::from_binary(blob.as_bytes()).unwrap();
        assert_eq!(headers.len(), HEADERS.len());
        for (header, (name, value)) in headers.iter().zip(HEADERS) {
            assert_eq!(header.name, name.to_ascii_lowercase().as_bytes());
            assert_eq!(header.value, *value);
        }
        assert_eq!(format!("{blob:?}"), format!("{headers:?}"));
        assert!(!format!("{blob:?}").contains("a=1"));
        assert_eq!(buffer[BLOB.len()..], [0xaa; 256][BLOB.len()..]);
    }

    #[test]
    fn golden_names() {
        let mut buffer = [0xaa; 32];
        let mut writer = HeaderNamesWriter::new(&mut buffer);
        writer.name("X-Keep").unwrap().name("x-other").unwrap();
        assert_eq!(format!("{writer:?}"), "HeaderNamesWriter(15 of 32 bytes)");
        let names = writer.finish();
        assert_eq!(names.as_bytes(), b"\x06x-keep\x07x-other\0");
        assert_eq!(TypedData::from(names), TypedData::Binary(names.as_bytes()));
        assert_eq!(
            format!("{names:?}"),
            r#"HeaderNames("\x06x-keep\x07x-other\x00")"#
        );
        assert_eq!(HeaderNamesWriter::new(&mut []).finish().as_bytes(), b"\0");
    }

    #[test]
    fn nothing_is_a_list_too() {
        for len in 0..4 {
            let mut buffer = vec![0xaa; len];
            let mut writer = HeaderBlobWriter::new(&mut buffer);
            assert_eq!(writer.header("a", "").unwrap_err(), HeaderError::Full);
            let blob = writer.finish();
            assert_eq!(blob.as_bytes(), b"\0\0");
            assert!(Headers::from_binary(blob.as_bytes()).unwrap().is_empty());
        }
    }

    /// Whatever room there is, what fits is whole and ended.
    #[test]
    fn a_header_is_written_whole_or_not_at_all() {
        for len in 0..=BLOB.len() {
            let mut buffer = vec![0xaa; len];
            let mut writer = HeaderBlobWriter::new(&mut buffer);
            let mut written = 0;
            for (name, value) in HEADERS {
                match writer.header(name, value) {
                    Ok(_) => written += 1,
                    Err(error) => {
                        assert_eq!(error, HeaderError::Full);
                        break;
                    }
                }
            }
            let blob = writer.finish();
            let headers = Headers::from_binary(blob.as_bytes()).unwrap();
            assert_eq!(headers.len(), written, "{len} bytes");
            let start = blob.as_bytes().strip_suffix(b"\0\0").unwrap();
            assert!(BLOB.starts_with(start));
            assert_eq!(written == HEADERS.len(), len == BLOB.len());
        }
    }

    #[test]
    fn a_refused_header_leaves_no_trace() {
        let mut buffer = [0; 64];
        let mut writer = HeaderBlobWriter::new(&mut buffer);
        writer.header("a", "1").unwrap();
        let long = [b'v'; 80];
        let refused: [(&str, &[u8]); 4] =
            [("b", b"\n"), ("b:", b"1"), ("host", b"h"), ("b", &long)];
        for (name, value) in refused {
            assert!(writer.header(name, value).is_err());
        }
        writer.header("c", "3").unwrap();
        assert_eq!(writer.finish().as_bytes(), b"\x01a\x011\x01c\x013\0\0");
    }

    /// Lengths of two bytes and more.
    #[test]
    fn long_names_and_values() {
        for len in [239, 240, 255] {
            let name = "n".repeat(len);
            for value_len in [239, 240, 2_287, 2_288, 70_000] {
                let value = vec![b'v'; value_len];
                let mut buffer = vec![0; 80_000];
                let blob = blob_of(&mut buffer, &[(&name, &value)]).unwrap();
                let headers = Headers::from_binary(blob.as_bytes()).unwrap();
                assert_eq!(headers.get(&name), Some(&*value));
            }
            assert_eq!(try_name(&name), Ok(()));
        }
        let name = "n".repeat(256);
        assert_eq!(try_header(&name, b""), Err(HeaderError::NameTooLong));
        assert_eq!(try_name(&name), Err(HeaderError::NameTooLong));
    }

    /// All characters up to U+00FF, at the start, inside and at the end of a name: written out
    /// again, those that RFC 9110 allows.
    #[test]
    fn every_byte_of_a_name_is_judged() {
        let allowed = "!#$%&'*+-.^_`|~0123456789\
            ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut accepted = 0;
        for character in (0..=u8::MAX).map(char::from) {
            for (before, after) in [("", "n"), ("n", "n"), ("n", "")] {
                let name = format!("{before}{character}{after}");
                let result = try_header(&name, b"v");
                assert_eq!(try_name(&name), result);
                if allowed.contains(character) {
                    assert_eq!(result, Ok(()), "{name:?}");
                    accepted += 1;
                    continue;
                }
                let offset = before.len();
                let error = match name.as_bytes()[offset] {
                    b':' if offset == 0 => HeaderError::PseudoHeader,
                    byte => HeaderError::NameByte { byte, offset },
                };
                assert_eq!(result, Err(error), "{name:?}");
            }
        }
        assert_eq!(accepted, 77 * 3);
    }

    #[test]
    fn every_byte_of_a_value_is_judged() {
        for byte in 0..=u8::MAX {
            let blank = byte == b' ' || byte == b'\t';
            let control = matches!(byte, 0..=8 | 10..=31 | 127);
            for (before, after) in [("", "v"), ("v", "v"), ("v", ""), ("", "")] {
                let value = [before.as_bytes(), &[byte], after.as_bytes()].concat();
                let offset = before.len();
                let expected = match (control, blank) {
                    (true, _) => Err(HeaderError::ValueByte { byte, offset }),
                    (_, true) if before.is_empty() || after.is_empty() => Err(HeaderError::Blank),
                    _ => Ok(()),
                };
                assert_eq!(try_header("n", &value), expected, "{value:?}");
            }
        }
    }

    #[test]
    fn what_frames_a_message_is_refused() {
        for framing in FRAMING {
            let error = Err(HeaderError::Framing(framing));
            for name in [
                (*framing).to_owned(),
                framing.to_uppercase(),
                framing.replace('-', "_"),
            ] {
                assert_eq!(try_header(&name, b"1"), error, "{name}");
                assert_eq!(try_name(&name), error, "{name}");
            }
            for other in [format!("x-{framing}"), format!("{framing}s")] {
                assert_eq!(try_header(&other, b"1"), Ok(()), "{other}");
            }
        }
        let listed = "connection content-length keep-alive proxy-connection te trailer \
            transfer-encoding upgrade";
        assert!(FRAMING.iter().copied().eq(listed.split(' ')));
        for name in ["host", "Host", "HOST"] {
            assert_eq!(try_header(name, b"test"), Err(HeaderError::Host));
            assert_eq!(try_name(name), Err(HeaderError::Host));
        }
        assert_eq!(try_header("x-forwarded-host", b"test"), Ok(()));
    }

    #[test]
    fn what_would_split_a_message_is_refused() {
        let byte = |byte, offset| Err(HeaderError::ValueByte { byte, offset });
        assert_eq!(try_header("x", b"a\r\nx-admin: 1"), byte(b'\r', 1));
        assert_eq!(try_header("x", b"a\nx-admin: 1"), byte(b'\n', 1));
        assert_eq!(try_header("x", b"a\0"), byte(0, 1));
        assert_eq!(try_header("x", b"\r\n\r\nHTTP/1.1 200 OK"), byte(b'\r', 0));
        let name = |byte, offset| Err(HeaderError::NameByte { byte, offset });
        assert_eq!(try_header("x: 1\r\ny", b"2"), name(b':', 1));
        assert_eq!(try_header("x\r\ny", b"2"), name(b'\r', 1));
        assert_eq!(try_header("x ", b"2"), name(b' ', 1));
        assert_eq!(try_header(":path", b"/"), Err(HeaderError::PseudoHeader));
        assert_eq!(try_header("", b"2"), Err(HeaderError::NoName));
        assert_eq!(try_name(""), Err(HeaderError::NoName));
    }

    #[test]
    fn errors_say_what_to_do() {
        for (error, text) in [
            (
                HeaderError::NameByte {
                    byte: b' ',
                    offset: 1,
                },
                "byte 0x20 at 1 of a header name; it takes letters, digits and !#$%&'*+-.^_`|~",
            ),
            (
                HeaderError::Framing("te"),
                "header te is HAProxy's own, which frames the message; leave it out",
            ),
            (
                HeaderError::ValueByte {
                    byte: b'\r',
                    offset: 1,
                },
                "control character 0x0d at 1 of a header value; encode or remove it",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    /// Whatever is offered, what is taken reads back as those headers, and none else.
    #[test]
    fn any_headers_read_back_or_are_refused() {
        let mut state = 3_u64;
        let mut below = |limit: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % limit
        };
        let alphabet = [
            "a", "B", "-", "_", ":", " ", "\t", "\r", "\n", "\0", "\u{e9}", "host",
        ];
        let mut taken_in_all = 0;
        for _ in 0..20_000 {
            let mut buffer = [0xaa; 48];
            let mut writer = HeaderBlobWriter::new(&mut buffer);
            let mut taken = Vec::new();
            for _ in 0..below(5) {
                let mut text = |len: usize| -> String {
                    (0..len).map(|_| alphabet[below(alphabet.len())]).collect()
                };
                let (name, value) = (text(2), text(3));
                if writer.header(&name, &value).is_ok() {
                    taken.push((name.to_ascii_lowercase(), value));
                }
            }
            let blob = writer.finish();
            let headers = Headers::from_binary(blob.as_bytes()).unwrap();
            let expected = taken
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let found = headers.iter().map(|header| (header.name, header.value));
            assert!(found.eq(expected), "{headers:?}");
            taken_in_all += taken.len();
        }
        assert!(taken_in_all > 1_000, "{taken_in_all}");
    }
}

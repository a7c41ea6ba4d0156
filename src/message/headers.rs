//! The header block of a request or response, out of one argument of a message.
//!
//! HAProxy has two fetches for it, of the same headers in the same order:
//!
//! ```text
//! req.hdrs      STRING  host: test\r\n  accept: */*\r\n  \r\n
//! req.hdrs_bin  BINARY  4 host 4 test   6 accept 3 */*   0 0     (numbers are varints)
//! ```
//!
//! Names are lower case, whatever the client wrote, and folded lines have been joined. A block is read
//! through once and refused unless all of it is as it should be; what is read of it later cannot fail.
//! What a name or value may hold is not judged here: the client's bytes come as HAProxy took them.

use core::fmt;
use core::iter::FusedIterator;

use crate::spop::{DecodeError, TypedData, decode_varint};

/// A view on a header block that HAProxy sent, `req.hdrs`, `req.hdrs_bin` or one of the response.
///
/// Names are compared without regard to ASCII case. Values come without the spaces and tabs around
/// them, which are not part of a value (RFC 9110, 5.5), and otherwise as they are: bytes, in no
/// particular encoding. Each look-up reads the block from its start; it has no index.
///
/// Prefer `req.hdrs_bin`, which is read faster and says of every byte where it belongs. In the text
/// a line break inside a value, which a client cannot send but a rule such as `set-header` can make
/// of decoded input, is where a header ends.
///
/// ```
/// use ringspoa::Headers;
///
/// let headers = Headers::from_text(b"host: test\r\ncookie: a=1; b=2\r\n\r\n")?;
/// assert_eq!(headers.get("Host"), Some(&b"test"[..]));
/// assert_eq!(headers.cookie("b"), Some(&b"2"[..]));
/// let binary = Headers::from_binary(b"\x04host\x04test\x06cookie\x08a=1; b=2\0\0")?;
/// assert!(headers == binary);
/// # Ok::<(), ringspoa::HeadersError>(())
/// ```
///
/// Two views are equal if they have the same headers in the same order.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    block: &'a [u8],
    format: Format,
    /// How many headers the block has.
    count: usize,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Text,
    Binary,
}

impl<'a> Headers<'a> {
    /// The headers of `req.hdrs`: lines that end in CR LF, and an empty one behind them.
    ///
    /// # Errors
    ///
    /// What of the block is not so: see [`HeadersError`].
    pub fn from_text(block: &'a [u8]) -> Result<Self, HeadersError> {
        Self::read(block, Format::Text)
    }

    /// The headers of `req.hdrs_bin`: names and values in turn, each behind its length as a varint,
    /// and two empty ones behind them.
    ///
    /// # Errors
    ///
    /// What of the block is not so: see [`HeadersError`].
    pub fn from_binary(block: &'a [u8]) -> Result<Self, HeadersError> {
        Self::read(block, Format::Binary)
    }

    /// The headers of an argument: of `req.hdrs` if it is a STRING, of `req.hdrs_bin` if it is
    /// BINARY.
    ///
    /// # Errors
    ///
    /// Those of the two, and `WrongType` for any other value. NULL is one: so HAProxy says that it
    /// had no headers to give, which is not the same as none in the request.
    pub fn from_value(value: TypedData<'a>) -> Result<Self, HeadersError> {
        match value {
            TypedData::String(block) => Self::from_text(block),
            TypedData::Binary(block) => Self::from_binary(block),
            other => Err(HeadersError::WrongType(other.type_name())),
        }
    }

    fn read(block: &'a [u8], format: Format) -> Result<Self, HeadersError> {
        let (mut count, mut at) = (0, 0);
        loop {
            let (header, next) = format.header_at(block, at)?;
            at = next;
            if header.is_none() {
                break;
            }
            count += 1;
        }
        if at < block.len() {
            return Err(HeadersError::TrailingBytes { offset: at });
        }
        Ok(Self {
            block,
            format,
            count,
        })
    }

    /// The block as it came, in the data type it came in.
    #[must_use]
    pub const fn as_value(&self) -> TypedData<'a> {
        match self.format {
            Format::Text => TypedData::String(self.block),
            Format::Binary => TypedData::Binary(self.block),
        }
    }

    /// How many headers there are; one that comes twice counts twice.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All headers, in the order of the block.
    #[must_use]
    pub const fn iter(&self) -> HeadersIter<'a> {
        HeadersIter {
            headers: *self,
            at: 0,
            left: self.count,
        }
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// The value of the first header of this name, if it is UTF-8.
    ///
    /// `None` also stands for a value that is not: where it matters that a header was there, as in
    /// a rule that denies, ask [`get`](Self::get).
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&'a str> {
        core::str::from_utf8(self.get(name)?).ok()
    }

    /// The values of all headers of this name, in their order.
    #[must_use]
    pub const fn get_all<'n>(&self, name: &'n str) -> HeaderValues<'a, 'n> {
        HeaderValues {
            headers: self.iter(),
            name,
        }
    }

    /// The cookies of all `cookie` headers, in their order.
    ///
    /// Values are split at each `;` as RFC 6265 has it, also inside double quotes, and at the first
    /// `=`, with spaces and tabs around name and value left out. Quotes are part of the value and
    /// stay. What has no `=`, or nothing before it, is no cookie and left out, as HAProxy's own
    /// `req.cook` does.
    #[must_use]
    pub const fn cookies(&self) -> Cookies<'a> {
        Cookies {
            values: self.get_all("cookie"),
            rest: None,
        }
    }

    /// The value of the first cookie of this name. Names of cookies are case-sensitive.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.cookies()
            .find(|cookie| cookie.name == name.as_bytes())
            .map(|cookie| cookie.value)
    }
}

impl<'a> TryFrom<TypedData<'a>> for Headers<'a> {
    type Error = HeadersError;

    fn try_from(value: TypedData<'a>) -> Result<Self, HeadersError> {
        Self::from_value(value)
    }
}

impl<'a> From<Headers<'a>> for TypedData<'a> {
    fn from(headers: Headers<'a>) -> Self {
        headers.as_value()
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl Eq for Headers<'_> {}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl Format {
    /// The header that begins at `at` and where the next one does; `None` for the end of the block.
    /// The check and the iterator both go through here, so that they cannot disagree.
    fn header_at(
        self,
        block: &[u8],
        at: usize,
    ) -> Result<(Option<Header<'_>>, usize), HeadersError> {
        let rest = block.get(at..).unwrap_or_default();
        match self {
            Self::Text => {
                let (line, len) = text_line(rest, at)?;
                let header = match line {
                    [] => None,
                    line => Some(text_header(line, at)?),
                };
                Ok((header, at + len))
            }
            Self::Binary => {
                let (name, name_len) = binary_string(rest, at)?;
                let value_at = at + name_len;
                let rest = block.get(value_at..).unwrap_or_default();
                let (value, value_len) = binary_string(rest, value_at)?;
                let header = match (name, value) {
                    ([], []) => None,
                    ([], _) => return Err(HeadersError::EmptyName { offset: at }),
                    _ => Some(Header {
                        name,
                        value: trimmed(value),
                    }),
                };
                Ok((header, value_at + value_len))
            }
        }
    }
}

/// The line at the front of `rest`, and its length with the line break.
fn text_line(rest: &[u8], at: usize) -> Result<(&[u8], usize), HeadersError> {
    let len = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let (line, end) = len
        .and_then(|len| rest.split_at_checked(len))
        .ok_or(HeadersError::Truncated { offset: at })?;
    match end {
        [b'\r', b'\n', ..] => Ok((line, line.len() + 2)),
        [b'\r'] => Err(HeadersError::Truncated { offset: at }),
        _ => Err(HeadersError::LoneLineBreak {
            offset: at + line.len(),
        }),
    }
}

/// The header on a line that is not empty.
fn text_header(line: &[u8], at: usize) -> Result<Header<'_>, HeadersError> {
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
        return Err(HeadersError::NoColon { offset: at });
    };
    match name {
        [] => Err(HeadersError::EmptyName { offset: at }),
        // The second line of a folded header, which HAProxy has joined to the first.
        [b' ' | b'\t', ..] => Err(HeadersError::Folded { offset: at }),
        _ => Ok(Header {
            name,
            value: trimmed(value),
        }),
    }
}

/// The string at the front of `rest`, and its length with the length before it.
fn binary_string(rest: &[u8], at: usize) -> Result<(&[u8], usize), HeadersError> {
    let truncated = HeadersError::Truncated { offset: at };
    let (len, used) = decode_varint(rest).map_err(|error| match error {
        DecodeError::VarintOverflow => HeadersError::LengthOverflow { offset: at },
        _ => truncated,
    })?;
    // The length is compared with what is left, never added to a position before that.
    let len = usize::try_from(len).map_err(|_| truncated)?;
    let string = rest.get(used..).and_then(|rest| rest.get(..len));
    Ok((string.ok_or(truncated)?, used + len))
}

/// Without spaces and tabs around it. Other white space is not optional there but part of a value.
fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// One header of a [`Headers`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name, in lower case as HAProxy has it. Not empty.
    pub name: &'a [u8],
    /// The value without spaces and tabs around it; may be empty.
    pub value: &'a [u8],
}

/// The iterator of [`Headers::iter`].
#[derive(Clone)]
pub struct HeadersIter<'a> {
    headers: Headers<'a>,
    /// Where in the block the next header begins.
    at: usize,
    left: usize,
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let Headers { block, format, .. } = self.headers;
        // Neither an error nor an early end: the block was read so before.
        let (header, next) = format.header_at(block, self.at).ok()?;
        self.at = next;
        header
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeadersIter<'_> {}
impl FusedIterator for HeadersIter<'_> {}

/// The iterator of [`Headers::get_all`].
#[derive(Clone)]
pub struct HeaderValues<'a, 'n> {
    headers: HeadersIter<'a>,
    name: &'n str,
}

impl<'a> Iterator for HeaderValues<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let name = self.name.as_bytes();
        self.headers
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }
}

impl FusedIterator for HeaderValues<'_, '_> {}

/// One cookie of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cookie<'a> {
    /// The name. Not empty.
    pub name: &'a [u8],
    /// The value, with its double quotes if it has any; may be empty.
    pub value: &'a [u8],
}

/// The iterator of [`Headers::cookies`].
#[derive(Clone)]
pub struct Cookies<'a> {
    values: HeaderValues<'a, 'static>,
    /// What was not read yet of a header's value.
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Cookies<'a> {
    type Item = Cookie<'a>;

    fn next(&mut self) -> Option<Cookie<'a>> {
        loop {
            let Some(rest) = self.rest else {
                self.rest = Some(self.values.next()?);
                continue;
            };
            let (pair, rest) = split_at_byte(rest, b';');
            self.rest = rest;
            let (name, value) = split_at_byte(pair, b'=');
            let (name, Some(value)) = (trimmed(name), value.map(trimmed)) else {
                continue;
            };
            if !name.is_empty() {
                return Some(Cookie { name, value });
            }
        }
    }
}

impl FusedIterator for Cookies<'_> {}

/// What is before the first `byte`, and what is behind it if it is there.
fn split_at_byte(bytes: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    let mut parts = bytes.splitn(2, |&other| other == byte);
    (parts.next().unwrap_or_default(), parts.next())
}

/// How many headers, and how many bytes of a name or value, are shown of a block: enough to
/// recognize a request by, in a log line of some kilobytes.
const SHOWN_HEADERS: usize = 32;
const SHOWN_LEN: usize = 80;

/// Headers whose values let whoever reads a log act for a user.
const SECRET: &[&[u8]] = &[
    b"authorization",
    b"cookie",
    b"proxy-authorization",
    b"set-cookie",
];

/// Names with values, both with their escapes and shortened; only the lengths of cookies and
/// credentials.
impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for header in self.iter().take(SHOWN_HEADERS) {
            map.entry(&Shown(header.name), &header.shown_value());
        }
        if self.count > SHOWN_HEADERS {
            map.finish_non_exhaustive()
        } else {
            map.finish()
        }
    }
}

impl<'a> Header<'a> {
    fn shown_value(&self) -> ShownValue<'a> {
        let secret = SECRET
            .iter()
            .any(|name| name.eq_ignore_ascii_case(self.name));
        if secret {
            ShownValue::Len(self.value.len())
        } else {
            ShownValue::Bytes(self.value)
        }
    }
}

/// As in [`Headers`].
impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", Shown(self.name), self.shown_value())
    }
}

/// The name, and how long the value is.
impl fmt::Debug for Cookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = ShownValue::Len(self.value.len());
        write!(f, "{:?}={value:?}", Shown(self.name))
    }
}

impl fmt::Debug for HeadersIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadersIter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HeaderValues<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderValues")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Cookies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}

/// Bytes as a person reads them, the first of them if they are many.
struct Shown<'a>(&'a [u8]);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHOWN_LEN) {
            Some(start) if start.len() < self.0.len() => {
                write!(f, "\"{}\"... {} bytes", start.escape_ascii(), self.0.len())
            }
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

enum ShownValue<'a> {
    Bytes(&'a [u8]),
    Len(usize),
}

impl fmt::Debug for ShownValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => Shown(bytes).fmt(f),
            Self::Len(len) => write!(f, "({len} bytes)"),
        }
    }
}

/// Why bytes are not a header block. Offsets are in bytes from the start of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadersError {
    /// A value of another data type, named as in the spec. `NULL`: HAProxy had no headers to give.
    WrongType(&'static str),
    /// The block ends before its end marker: a line, a string or the marker itself is not all there.
    Truncated {
        /// Where what is cut off begins.
        offset: usize,
    },
    /// A length above 64 bits.
    LengthOverflow {
        /// Where the length begins.
        offset: usize,
    },
    /// A CR without its LF, or a LF without its CR, which HAProxy writes nowhere: it came out of a
    /// value, and where that ends cannot be told.
    LoneLineBreak {
        /// Where the byte is.
        offset: usize,
    },
    /// A line without a colon.
    NoColon {
        /// Where the line begins.
        offset: usize,
    },
    /// A line that begins with a space or tab, as the second one of a folded header does.
    Folded {
        /// Where the line begins.
        offset: usize,
    },
    /// A header without a name.
    EmptyName {
        /// Where the header begins.
        offset: usize,
    },
    /// More bytes behind the end marker.
    TrailingBytes {
        /// Where they begin.
        offset: usize,
    },
}

impl fmt::Display for HeadersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WrongType(name) => write!(
                f,
                "a header block is a STRING (req.hdrs) or BINARY (req.hdrs_bin), not {name}"
            ),
            Self::Truncated { offset } => {
                write!(f, "header block ends inside what begins at byte {offset}")
            }
            Self::LengthOverflow { offset } => {
                write!(
                    f,
                    "length at byte {offset} of a header block exceeds 64 bits"
                )
            }
            Self::LoneLineBreak { offset } => write!(
                f,
                "header block has half a line break at byte {offset}; req.hdrs_bin can carry it"
            ),
            Self::NoColon { offset } => {
                write!(f, "header line at byte {offset} has no colon")
            }
            Self::Folded { offset } => {
                write!(f, "header line at byte {offset} continues another")
            }
            Self::EmptyName { offset } => {
                write!(f, "header at byte {offset} has no name")
            }
            Self::TrailingBytes { offset } => {
                write!(f, "header block goes on behind its end at byte {offset}")
            }
        }
    }
}

impl core::error::Error for HeadersError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What HAProxy 2.6 to 3.4 send of one request, in both forms.
    const TEXT: &[u8] = b"host: test\r\nx-empty: \r\nx-ws: v\r\nx-col: a:b: c\r\n\
        cookie: a=1; b=2\r\nx-high: caf\xe9 \xff\r\ncookie: c=3\r\n\r\n";
    const BINARY: &[u8] = b"\x04host\x04test\x07x-empty\x00\x04x-ws\x01v\x05x-col\x06a:b: c\
        \x06cookie\x08a=1; b=2\x06x-high\x06caf\xe9 \xff\x06cookie\x03c=3\x00\x00";
    const EXPECTED: &[(&[u8], &[u8])] = &[
        (b"host", b"test"),
        (b"x-empty", b""),
        (b"x-ws", b"v"),
        (b"x-col", b"a:b: c"),
        (b"cookie", b"a=1; b=2"),
        (b"x-high", b"caf\xe9 \xff"),
        (b"cookie", b"c=3"),
    ];

    type Read = for<'a> fn(&'a [u8]) -> Result<Headers<'a>, HeadersError>;
    const BOTH: [(Read, &[u8]); 2] = [
        (|block| Headers::from_text(block), TEXT),
        (|block| Headers::from_binary(block), BINARY),
    ];

    fn text(block: &[u8]) -> Headers<'_> {
        Headers::from_text(block).unwrap()
    }

    #[test]
    fn both_forms_of_the_same_headers_read_the_same() {
        for (read, block) in BOTH {
            let headers = read(block).unwrap();
            let pairs = headers.iter().map(|header| (header.name, header.value));
            assert!(pairs.eq(EXPECTED.iter().copied()), "{headers:?}");
            assert_eq!((headers.len(), headers.is_empty()), (7, false));
            assert_eq!(headers.get("host"), Some(&b"test"[..]));
            assert_eq!(headers.get("X-Col"), Some(&b"a:b: c"[..]));
            assert_eq!(headers.get("x-empty"), Some(&b""[..]));
            for absent in ["x", "hostt", "", "host:", "x_ws"] {
                assert_eq!(headers.get(absent), None, "{absent}");
            }
            assert_eq!(headers.get_str("host"), Some("test"));
            assert_eq!(headers.get_str("x-high"), None);
            assert!(headers.get_all("COOKIE").eq([&b"a=1; b=2"[..], b"c=3"]));
            assert_eq!(headers.get_all("x").count(), 0);
            assert_eq!(headers.as_value().as_bytes(), Some(block));
            let value = TypedData::from(headers);
            assert!(Headers::from_value(value) == Ok(headers));
            assert!(Headers::try_from(value) == Ok(headers));
            let mut iter = headers.iter();
            for left in (0..7).rev() {
                assert!(iter.next().is_some());
                assert_eq!(iter.len(), left);
            }
            assert!(iter.next().is_none() && iter.next().is_none());
            assert_eq!(headers.into_iter().count(), (&headers).into_iter().count());
        }
        assert!(text(TEXT) == Headers::from_binary(BINARY).unwrap());
        assert!(text(TEXT) != text(b"host: test\r\n\r\n"));
    }

    #[test]
    fn a_block_without_headers() {
        for headers in [text(b"\r\n"), Headers::from_binary(b"\0\0").unwrap()] {
            assert!(headers.is_empty());
            assert!(headers.iter().next().is_none());
            assert!(headers.cookies().next().is_none());
            assert_eq!(format!("{headers:?}"), "{}");
        }
    }

    #[test]
    fn every_cut_is_an_error_and_so_is_more() {
        for (read, block) in BOTH {
            for cut in 0..block.len() {
                let error = read(&block[..cut]);
                let Err(HeadersError::Truncated { offset }) = error else {
                    panic!("{cut}: {error:?}");
                };
                assert!(offset <= cut, "{cut}: {offset}");
            }
            for more in [&b"\0"[..], b"\r\n", b"x: y\r\n\r\n"] {
                let longer = [block, more].concat();
                let offset = block.len();
                assert_eq!(read(&longer), Err(HeadersError::TrailingBytes { offset }));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let refused: &[(&[u8], HeadersError)] = &[
            (b"", HeadersError::Truncated { offset: 0 }),
            (b"a: b\r\n", HeadersError::Truncated { offset: 6 }),
            (b"a: b\r\nc\r\n\r\n", HeadersError::NoColon { offset: 6 }),
            (
                b"a: b\r\n: c\r\n\r\n",
                HeadersError::EmptyName { offset: 6 },
            ),
            (b"a: b\r\n c: d\r\n\r\n", HeadersError::Folded { offset: 6 }),
            (
                b"a: b\r\n\tc: d\r\n\r\n",
                HeadersError::Folded { offset: 6 },
            ),
            (
                b"a: b\nc: d\r\n\r\n",
                HeadersError::LoneLineBreak { offset: 4 },
            ),
            (
                b"a: b\rc: d\r\n\r\n",
                HeadersError::LoneLineBreak { offset: 4 },
            ),
            (b"a: b\r\r\n\r\n", HeadersError::LoneLineBreak { offset: 4 }),
            (b"a: b\r\n\n", HeadersError::LoneLineBreak { offset: 6 }),
            // A value that held "\r\n\r\n": the end comes too early.
            (
                b"a: b\r\n\r\nc\r\n\r\n",
                HeadersError::TrailingBytes { offset: 8 },
            ),
        ];
        for (block, error) in refused {
            assert_eq!(
                Headers::from_text(block),
                Err(*error),
                "{}",
                block.escape_ascii()
            );
        }
        let refused: &[(&[u8], HeadersError)] = &[
            (b"", HeadersError::Truncated { offset: 0 }),
            (b"\0", HeadersError::Truncated { offset: 1 }),
            (b"\x01a\x01b", HeadersError::Truncated { offset: 4 }),
            (b"\x01a\x05b\0\0", HeadersError::Truncated { offset: 2 }),
            (
                b"\x01a\x01b\0\x01c\0\0",
                HeadersError::EmptyName { offset: 4 },
            ),
            (b"\0\0\0", HeadersError::TrailingBytes { offset: 2 }),
        ];
        for (block, error) in refused {
            assert_eq!(
                Headers::from_binary(block),
                Err(*error),
                "{}",
                block.escape_ascii()
            );
        }
        let name = HeadersError::WrongType("NULL");
        assert_eq!(Headers::from_value(TypedData::Null), Err(name));
        assert_eq!(
            name.to_string(),
            "a header block is a STRING (req.hdrs) or BINARY (req.hdrs_bin), not NULL"
        );
        for value in [TypedData::Bool(true), TypedData::Int64(1)] {
            let name = value.type_name();
            assert_eq!(
                Headers::from_value(value),
                Err(HeadersError::WrongType(name))
            );
        }
    }

    /// Lengths up to the largest there is, of a name and of a value.
    #[test]
    fn hostile_lengths_are_refused() {
        const MAX: &[u8] = &[0xff, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0e];
        const ABOVE: &[u8] = &[0xf0, 0xf1, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0e];
        const ELEVEN: &[u8] = &[0xff; 11];
        for (length, overflows) in [(MAX, false), (ABOVE, true), (ELEVEN, true)] {
            for before in [&b""[..], b"\x01a", b"\x01a\x01b"] {
                let offset = before.len();
                let block = [before, length, &[b'x'; 40]].concat();
                let error = match overflows {
                    true => HeadersError::LengthOverflow { offset },
                    false => HeadersError::Truncated { offset },
                };
                assert_eq!(Headers::from_binary(&block), Err(error));
            }
        }
        // All lengths that a value's two-byte form has, each one byte short and whole.
        for len in [240, 241, 255, 256, 2_287] {
            let mut length = [0; 10];
            let used = crate::spop::encode_varint(len, &mut length).unwrap();
            let value = vec![b'v'; usize::try_from(len).unwrap()];
            let block = [b"\x01a", &length[..used], &value, b"\0\0"].concat();
            let headers = Headers::from_binary(&block).unwrap();
            assert_eq!(headers.get("a"), Some(&*value));
            let short = [b"\x01a", &length[..used], &value[1..]].concat();
            let error = HeadersError::Truncated { offset: 2 };
            assert_eq!(Headers::from_binary(&short), Err(error));
        }
    }

    #[test]
    fn values_lose_the_blanks_around_them_only() {
        for (value, expected) in [
            (&b""[..], &b""[..]),
            (b" \t ", b""),
            (b"\t a \t b \t", b"a \t b"),
            (b"\x0ba\x0c", b"\x0ba\x0c"),
            (b"\x00 ", b"\x00"),
        ] {
            let block = [b"n:", value, b"\r\n\r\n"].concat();
            assert_eq!(text(&block).get("n"), Some(expected));
            let len = [u8::try_from(value.len()).unwrap()];
            let block = [b"\x01n", &len[..], value, b"\0\0"].concat();
            let headers = Headers::from_binary(&block).unwrap();
            assert_eq!(headers.get("n"), Some(expected));
        }
    }

    /// What is in the cookies of one `cookie` header.
    fn cookies(value: &str) -> Vec<(String, String)> {
        let block = format!("cookie: {value}\r\n\r\n");
        let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        text(block.as_bytes())
            .cookies()
            .map(|cookie| (owned(cookie.name), owned(cookie.value)))
            .collect()
    }

    #[test]
    fn cookies_are_split_as_rfc_6265_has_it() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("a=1", &[("a", "1")]),
            ("a=1; b=2;c=3", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("a=1; a=2", &[("a", "1"), ("a", "2")]),
            (" a = 1 ;\tb\t=\t2\t", &[("a", "1"), ("b", "2")]),
            ("a=", &[("a", "")]),
            ("a=b=c==", &[("a", "b=c==")]),
            ("a=\"1 2\"", &[("a", "\"1 2\"")]),
            ("a=\"1; b=2\"", &[("a", "\"1"), ("b", "2\"")]),
            ("a=1, b=2", &[("a", "1, b=2")]),
            ("$Version=1; a=1", &[("$Version", "1"), ("a", "1")]),
            ("", &[]),
            (";;; ; ;", &[]),
            ("a; =b; =; ;c=1;", &[("c", "1")]),
        ];
        for (value, expected) in cases {
            let found = cookies(value);
            let found = found.iter().map(|(name, value)| (&**name, &**value));
            assert!(
                found.clone().eq(expected.iter().copied()),
                "{value}: {found:?}"
            );
        }
    }

    #[test]
    fn cookies_of_all_headers_are_found() {
        let headers = text(b"cookie: a=1\r\nx: b=9\r\nCookie: ;\r\ncookie: b=2; A=3\r\n\r\n");
        let names = headers.cookies().map(|cookie| cookie.name);
        assert!(names.eq([&b"a"[..], b"b", b"A"]));
        assert_eq!(headers.cookie("b"), Some(&b"2"[..]));
        assert_eq!(headers.cookie("A"), Some(&b"3"[..]));
        assert_eq!(headers.cookie("B"), None);
        assert_eq!(headers.cookie("x"), None);
        assert_eq!(headers.cookie(""), None);
        let mut cookies = headers.cookies();
        assert_eq!(cookies.by_ref().count(), 3);
        assert!(cookies.next().is_none());
    }

    /// A megabyte of separators, of cookies and of headers: reading any of it twice for each of its
    /// parts would take hours.
    #[test]
    fn large_blocks_are_read_in_linear_time() {
        let count = 500_000;
        let headers = [&b"cookie:"[..], &b"; ".repeat(count), b"z=1\r\n\r\n"].concat();
        assert_eq!(text(&headers).cookie("z"), Some(&b"1"[..]));
        let headers = [&b"cookie: "[..], &b"a;".repeat(count), b"z=1\r\n\r\n"].concat();
        assert_eq!(text(&headers).cookies().count(), 1);
        let headers = [&b"cookie: "[..], &b"a=;".repeat(count), b"\r\n\r\n"].concat();
        assert_eq!(text(&headers).cookies().count(), count);
        let headers = [b"cookie:\r\n".repeat(count), b"\r\n".to_vec()].concat();
        assert_eq!(text(&headers).cookies().count(), 0);
        assert_eq!(text(&headers).len(), count);
        let blank = [&b"a:"[..], &b" ".repeat(count), b"\r\n\r\n"].concat();
        assert_eq!(text(&blank).get("a"), Some(&b""[..]));
    }

    #[test]
    fn debug_is_readable_short_and_keeps_secrets() {
        let block = b"host: test\r\nx: \xff\"\r\ncookie: sid=secret\r\n\
            Authorization: Basic secret\r\nset-cookie: secret\r\nproxy-authorization: secret\r\n\r\n";
        let headers = text(block);
        let shown = format!("{headers:?}");
        assert_eq!(
            shown,
            concat!(
                r#"{"host": "test", "x": "\xff\"", "cookie": (10 bytes), "#,
                r#""Authorization": (12 bytes), "set-cookie": (6 bytes), "#,
                r#""proxy-authorization": (6 bytes)}"#
            )
        );
        let header = headers.iter().next().unwrap();
        assert_eq!(format!("{header:?}"), r#""host": "test""#);
        let cookie = headers.cookies().next().unwrap();
        assert_eq!(format!("{cookie:?}"), r#""sid"=(6 bytes)"#);
        for shown in [
            format!("{:?}", headers.iter()),
            format!("{:?}", headers.get_all("cookie")),
            format!("{:?}", headers.cookies()),
            format!("{:?}", headers.iter().nth(2)),
        ] {
            assert!(!shown.contains("secret"), "{shown}");
        }

        let long = [
            b"n".repeat(100_000),
            b": ".to_vec(),
            b"\xff".repeat(100_000),
        ]
        .concat();
        let block = [[&long[..], b"\r\n"].concat().repeat(40), b"\r\n".to_vec()].concat();
        let shown = format!("{:?}", text(&block));
        assert!(
            shown.contains("... 100000 bytes") && shown.ends_with("..}"),
            "{shown}"
        );
        assert!(shown.len() < 20_000, "{} bytes", shown.len());
    }

    /// Goes through all that can be asked of a block.
    fn exercise(block: &[u8]) {
        for headers in [Headers::from_text(block), Headers::from_binary(block)] {
            let headers = match headers {
                Ok(headers) => headers,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    continue;
                }
            };
            assert_eq!(headers.iter().count(), headers.len());
            for header in headers {
                assert!(!header.name.is_empty());
                let name = std::str::from_utf8(header.name);
                assert!(name.is_err() || headers.get(name.unwrap()).is_some());
            }
            assert!(headers.cookies().all(|cookie| !cookie.name.is_empty()));
            assert!(!format!("{headers:?}").is_empty());
        }
    }

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }

        fn below(&mut self, limit: usize) -> usize {
            usize::try_from(self.next() % limit as u64).unwrap()
        }

        fn byte(&mut self) -> u8 {
            self.next().to_le_bytes()[0]
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut random = Random(1);
        let common = b"\0\0\x01\x02:\r\n \tac;=\xff";
        for _ in 0..50_000 {
            let len = random.below(24);
            let block: Vec<u8> = (0..len)
                .map(|_| match random.below(4) {
                    0 => random.byte(),
                    _ => common[random.below(common.len())],
                })
                .collect();
            exercise(&block);
        }
    }

    #[test]
    fn damaged_blocks_are_read_or_refused() {
        let mut random = Random(2);
        for _ in 0..10_000 {
            for (_, block) in BOTH {
                let mut damaged = block.to_vec();
                for _ in 0..=random.below(3) {
                    let at = random.below(damaged.len());
                    match random.below(3) {
                        0 => damaged[at] = random.byte(),
                        1 => damaged.insert(at, random.byte()),
                        _ => drop(damaged.remove(at)),
                    }
                }
                exercise(&damaged);
            }
        }
    }
}

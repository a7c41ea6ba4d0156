//! What the NOTIFYs say: built-in profiles and profiles from TOML.
//!
//! A profile is encoded once, into pieces: bytes that never change, and places that take another
//! value each time. Sending a frame is then a few copies.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringspoa::spop::{MAX_VARINT_LEN, PREFIX_LEN, TypedData, encode_varint};
use serde::Deserialize;
use toml::{Spanned, Value};

/// Type, flags and both ids: a stream-id below 2^31 takes up to five bytes, frame-id 1 takes one.
const MAX_HEADER_LEN: usize = 1 + 4 + 5 + 1;

/// The message of the built-in profiles.
const MESSAGE: &str = "check-client-ip";

/// How many values a built-in mix has before it repeats: enough that no cache of an agent holds
/// all of them by accident of being few, and 20 KiB.
const MIX_LEN: usize = 4096;

/// What all generated texts of a profile may take together, in bytes: no HAProxy sends frames as large,
/// and a `length` of some more digits than meant must not take the machine's memory.
const MAX_TEXT_LEN: u32 = 16 << 20;

/// All mixes come from this seed, so that every run sends the same.
const SEED: u64 = 0x5eed_0f1a_5eed_0f1a;

/// A profile, ready to be sent.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
    messages: Vec<String>,
    pieces: Arc<[Piece]>,
    max_payload_len: usize,
}

#[derive(Clone, Debug)]
enum Piece {
    /// The same each time.
    Fixed(Vec<u8>),
    /// Encoded values, taken in turn.
    Cycle {
        bytes: Vec<u8>,
        ranges: Vec<Range<usize>>,
    },
    /// A number that rises by one: its type byte, and the first.
    Sequence { tag: u8, start: u64 },
    /// Four random bytes after a type byte.
    RandomV4,
    /// Sixteen random bytes after a type byte.
    RandomV6,
}

/// Why a profile cannot be used. The text names file, line and key where there are any.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProfileError {
    /// The file cannot be read.
    Read(PathBuf, std::io::Error),
    /// The text is not TOML, has an unknown key or one of the wrong type.
    Parse(PathBuf, Box<toml::de::Error>),
    /// The text is TOML but does not describe messages.
    Wrong {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what to write.
        text: String,
    },
    /// A fixed address was asked of a profile from a file.
    FixedAddress,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(
                f,
                "profile {}: {error}; the built-in profiles are 'ip' and 'http'",
                path.display()
            ),
            Self::Parse(path, error) => {
                write!(
                    f,
                    "profile {}: {}",
                    path.display(),
                    error.to_string().trim_end()
                )
            }
            Self::Wrong { path, line, text } => {
                write!(f, "profile {}, line {line}: {text}", path.display())
            }
            Self::FixedAddress => f.write_str(
                "a fixed address is for the built-in profiles: write it into the file instead",
            ),
        }
    }
}

impl std::error::Error for ProfileError {}

impl Profile {
    /// The profile of a name, `ip` or `http`, or of a TOML file.
    ///
    /// `message` replaces the name of the (first) message; `address` fixes the address a built-in
    /// profile sends.
    ///
    /// # Errors
    ///
    /// What is wrong with the file; `FixedAddress` if it gets an `address`.
    pub fn load(
        name: &str,
        message: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Self, ProfileError> {
        match name {
            "ip" => Ok(Self::ip(message, address)),
            "http" => Ok(Self::http(message, address)),
            _ if address.is_some() => Err(ProfileError::FixedAddress),
            _ => {
                let path = Path::new(name);
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ProfileError::Read(path.to_owned(), error))?;
                Self::from_toml(path, &text, message)
            }
        }
    }

    /// One message `check-client-ip` with one argument `ip`.
    ///
    /// Without `address` it is a mix of 4096 IPv4 addresses, always the same: half of them out of
    /// the documentation networks (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 198.18.0.0/15),
    /// half out of private and shared ones.
    #[must_use]
    pub fn ip(message: Option<&str>, address: Option<IpAddr>) -> Self {
        let mut builder = Builder::default();
        builder.message(message.unwrap_or(MESSAGE), 1);
        builder.address(address);
        builder.finish("ip")
    }

    /// As [`ip`](Self::ip), and beside it what a bouncer asks about a request: source port, method,
    /// path, query, version, whether over TLS, and about 550 bytes of headers.
    #[must_use]
    pub fn http(message: Option<&str>, address: Option<IpAddr>) -> Self {
        const METHODS: &[&str] = &["GET", "GET", "GET", "POST", "GET", "HEAD", "GET"];
        const PATHS: &[&str] = &[
            "/",
            "/index.html",
            "/static/js/app.3f9c1d7e.js",
            "/api/v1/users/1842/orders",
            "/images/products/large/00018231.webp",
        ];
        const QUERIES: &[&str] = &["", "page=2&sort=price", "q=rust+io_uring&lang=en"];
        const HEADERS: &str = "host: www.example.com\r\n\
            user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
            accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
            accept-language: en-GB,en;q=0.7,de;q=0.3\r\n\
            accept-encoding: gzip, deflate, br, zstd\r\n\
            referer: https://www.example.com/catalogue/spring\r\n\
            cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=yes; visits=17; lang=en\r\n\
            upgrade-insecure-requests: 1\r\n\
            sec-fetch-dest: document\r\n\
            sec-fetch-mode: navigate\r\n\
            sec-fetch-site: same-origin\r\n\
            cache-control: max-age=0\r\n\r\n";
        let texts = |list: &'static [&str]| {
            list.iter()
                .map(|text| TypedData::String(text.as_bytes()))
                .collect::<Vec<_>>()
        };
        let mut random = Random::new(SEED);
        let ports: Vec<_> = (0..1024)
            .map(|_| TypedData::Int64(i64::from(random.below(32_768)) + 28_232))
            .collect();

        let mut builder = Builder::default();
        builder.message(message.unwrap_or(MESSAGE), 8);
        builder.address(address);
        // HAProxy sends every integer as INT64.
        builder.argument("src-port", &ports);
        builder.argument("method", &texts(METHODS));
        builder.argument("path", &texts(PATHS));
        builder.argument("query", &texts(QUERIES));
        builder.argument("version", &[TypedData::String(b"1.1")]);
        builder.argument("ssl", &[TypedData::Bool(true)]);
        builder.argument("headers", &[TypedData::String(HEADERS.as_bytes())]);
        builder.finish("http")
    }

    /// A profile of the text of a TOML file; `path` is for errors.
    ///
    /// ```
    /// # use std::path::Path;
    /// let text = r#"
    ///     [[message]]
    ///     name = "check-client-ip"
    ///
    ///     [[message.argument]]
    ///     name = "ip"
    ///     type = "ipv4"
    ///     values = ["192.0.2.1", "10.0.0.1"]
    ///
    ///     [[message.argument]]
    ///     name = "body"
    ///     type = "string"
    ///     generate = "text"
    ///     length = 550
    /// "#;
    /// let profile = ringspoa_loadgen::Profile::from_toml(Path::new("my.toml"), text, None)?;
    /// assert_eq!(profile.messages(), ["check-client-ip"]);
    /// # Ok::<(), ringspoa_loadgen::ProfileError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Parse` or `Wrong`, with the line.
    pub fn from_toml(path: &Path, text: &str, message: Option<&str>) -> Result<Self, ProfileError> {
        let file: File = toml::from_str(text)
            .map_err(|error| ProfileError::Parse(path.to_owned(), Box::new(error)))?;
        let wrong = |(offset, text_of): (usize, String)| ProfileError::Wrong {
            path: path.to_owned(),
            line: line_of(text, offset),
            text: text_of,
        };
        if file.message.is_empty() {
            return Err(wrong((
                0,
                "no message: write a [[message]] with a name".to_owned(),
            )));
        }
        let mut builder = Builder::default();
        for (index, spanned) in file.message.iter().enumerate() {
            let one = spanned.get_ref();
            let count = u8::try_from(one.argument.len()).map_err(|_| {
                let text = format!("message `{}` has more than 255 arguments", one.name);
                wrong((spanned.span().start, text))
            })?;
            let name = message.filter(|_| index == 0).unwrap_or(&one.name);
            builder.message(name, count);
            for argument in &one.argument {
                let at = argument.span().start;
                builder
                    .read_argument(argument.get_ref(), at)
                    .map_err(wrong)?;
            }
        }
        Ok(builder.finish(&path.display().to_string()))
    }

    /// What the profile was asked for as.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of its messages.
    #[must_use]
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// The longest frame it makes, without the length prefix.
    #[must_use]
    pub const fn max_frame_len(&self) -> usize {
        self.max_payload_len + MAX_HEADER_LEN
    }

    /// Tells apart what profiles of the same name send: 16 hex digits, the 64-bit FNV-1a hash of the
    /// encoded messages. The same on every machine and in every version that sends the same.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for &byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        // A byte that tells the kind first, so that no two kinds can hash the same bytes.
        for piece in &*self.pieces {
            match piece {
                Piece::Fixed(bytes) => {
                    add(&[0]);
                    add(bytes);
                }
                Piece::Cycle { bytes, ranges } => {
                    add(&[1]);
                    for range in ranges {
                        add(&(range.len() as u64).to_le_bytes());
                        add(&bytes[range.clone()]);
                    }
                }
                Piece::Sequence { tag, start } => {
                    add(&[2, *tag]);
                    add(&start.to_le_bytes());
                }
                Piece::RandomV4 => add(&[3]),
                Piece::RandomV6 => add(&[4]),
            }
        }
        format!("{hash:016x}")
    }

    /// A source of frames. Those of different `start` begin at different values.
    #[must_use]
    pub fn generator(&self, start: usize) -> Generator {
        let position = |piece: &Piece| match piece {
            Piece::Cycle { ranges, .. } => (start * 997 % ranges.len()) as u64,
            Piece::Sequence { start, .. } => *start,
            _ => 0,
        };
        Generator {
            positions: self.pieces.iter().map(position).collect(),
            pieces: Arc::clone(&self.pieces),
            random: Random::new(SEED ^ (start as u64 + 1)),
            max_len: PREFIX_LEN + self.max_frame_len(),
        }
    }
}

/// Makes the NOTIFY frames of a profile, one after the other.
#[derive(Debug)]
pub struct Generator {
    pieces: Arc<[Piece]>,
    /// Where each piece is in its cycle or sequence.
    positions: Box<[u64]>,
    random: Random,
    max_len: usize,
}

impl Generator {
    /// Appends one NOTIFY frame to `out`, prefix included.
    #[inline]
    pub fn encode(&mut self, out: &mut Vec<u8>, stream_id: u32) {
        out.reserve(self.max_len);
        let start = out.len();
        // Length to be filled in, type 3 (NOTIFY), flags FIN.
        out.extend_from_slice(&[0, 0, 0, 0, 3, 0, 0, 0, 1]);
        push_varint(out, u64::from(stream_id));
        // Frame-id: always 1, as HAProxy 3.1 and later have it.
        out.push(1);
        for (piece, position) in self.pieces.iter().zip(&mut self.positions) {
            match piece {
                Piece::Fixed(bytes) => out.extend_from_slice(bytes),
                Piece::Cycle { bytes, ranges } => {
                    // A position is below the number of ranges, which fits a usize.
                    let index = usize::try_from(*position).unwrap_or(0);
                    out.extend_from_slice(&bytes[ranges[index].clone()]);
                    *position = if index + 1 == ranges.len() {
                        0
                    } else {
                        *position + 1
                    };
                }
                Piece::Sequence { tag, .. } => {
                    out.push(*tag);
                    push_varint(out, *position);
                    *position = position.wrapping_add(1);
                }
                Piece::RandomV4 => {
                    push_data(
                        out,
                        &TypedData::Ipv4(Ipv4Addr::from(self.random.below(u32::MAX))),
                    );
                }
                Piece::RandomV6 => {
                    let bits =
                        u128::from(self.random.next()) << 64 | u128::from(self.random.next());
                    push_data(out, &TypedData::Ipv6(Ipv6Addr::from(bits)));
                }
            }
        }
        // `Plan::check` refuses profiles whose frames exceed max-frame-size, itself 32 bits.
        let frame_len = u32::try_from(out.len() - start - PREFIX_LEN).unwrap_or(u32::MAX);
        out[start..start + PREFIX_LEN].copy_from_slice(&frame_len.to_be_bytes());
    }
}

#[inline]
fn push_varint(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; MAX_VARINT_LEN];
    let len = encode_varint(value, &mut bytes).expect("ten bytes hold every varint");
    out.extend_from_slice(&bytes[..len]);
}

fn push_data(out: &mut Vec<u8>, value: &TypedData<'_>) {
    let start = out.len();
    let text_len = value.as_bytes().map_or(0, <[u8]>::len);
    // A type byte, then at most 16 bytes of address or a varint and the text.
    out.resize(start + 17 + MAX_VARINT_LEN + text_len, 0);
    let len = value
        .encode(&mut out[start..])
        .expect("room was made for it");
    out.truncate(start + len);
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[derive(Default)]
struct Builder {
    messages: Vec<String>,
    pieces: Vec<Piece>,
    max_payload_len: usize,
    /// Of generated texts.
    text_len: u32,
}

impl Builder {
    /// The bytes that follow the last piece that varies.
    fn fixed(&mut self) -> &mut Vec<u8> {
        if !matches!(self.pieces.last(), Some(Piece::Fixed(_))) {
            self.pieces.push(Piece::Fixed(Vec::new()));
        }
        match self.pieces.last_mut() {
            Some(Piece::Fixed(bytes)) => bytes,
            _ => unreachable!("a fixed piece was just made sure of"),
        }
    }

    fn message(&mut self, name: &str, count: u8) {
        let bytes = self.fixed();
        push_string(bytes, name);
        bytes.push(count);
        self.messages.push(name.to_owned());
    }

    /// An argument whose values, at least one, are taken in turn.
    fn argument(&mut self, name: &str, values: &[TypedData<'_>]) {
        push_string(self.fixed(), name);
        if let [value] = values {
            push_data(self.fixed(), value);
            return;
        }
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for value in values {
            let start = bytes.len();
            push_data(&mut bytes, value);
            ranges.push(start..bytes.len());
        }
        self.pieces.push(Piece::Cycle { bytes, ranges });
    }

    fn address(&mut self, address: Option<IpAddr>) {
        match address {
            Some(IpAddr::V4(address)) => self.argument("ip", &[TypedData::Ipv4(address)]),
            Some(IpAddr::V6(address)) => self.argument("ip", &[TypedData::Ipv6(address)]),
            None => self.argument("ip", &mixed_v4()),
        }
    }

    /// An argument of a file; an error comes with its offset there.
    fn read_argument(
        &mut self,
        argument: &ArgumentEntry,
        at: usize,
    ) -> Result<(), (usize, String)> {
        let name = &argument.name;
        let kind = argument.kind;
        let fail = |at: usize, text: &str| Err((at, format!("argument `{name}`: {text}")));
        let only_with_generate = argument.length.as_ref().or(argument.start.as_ref());
        let sources = usize::from(argument.value.is_some())
            + usize::from(argument.values.is_some())
            + usize::from(argument.generate.is_some());
        if kind == Kind::Null {
            if sources > 0 {
                return fail(at, "type `null` takes no value");
            }
            self.argument(name, &[TypedData::Null]);
            return Ok(());
        }
        if sources != 1 {
            return fail(at, "write one of `value`, `values` and `generate`");
        }
        if let Some(generate) = &argument.generate {
            return self.generated(argument, generate);
        }
        if let Some(key) = only_with_generate {
            return fail(
                key.span().start,
                "`length` and `start` belong to `generate`",
            );
        }
        let values = match (&argument.value, &argument.values) {
            (Some(value), _) => std::slice::from_ref(value),
            (None, Some(values)) => values.as_slice(),
            (None, None) => &[],
        };
        if values.is_empty() {
            return fail(at, "`values` is empty");
        }
        let mut owned = Vec::with_capacity(values.len());
        for value in values {
            match Owned::read(kind, value.get_ref()) {
                Some(one) => owned.push(one),
                None => {
                    let text = format!("{} is no {}", shown(value.get_ref()), kind.expects());
                    return fail(value.span().start, &text);
                }
            }
        }
        let borrowed: Vec<_> = owned.iter().map(Owned::borrow).collect();
        self.argument(name, &borrowed);
        Ok(())
    }

    fn generated(
        &mut self,
        argument: &ArgumentEntry,
        generate: &Spanned<Generate>,
    ) -> Result<(), (usize, String)> {
        let (name, kind, at) = (&argument.name, argument.kind, generate.span().start);
        let fail = |at: usize, text: &str| Err((at, format!("argument `{name}`: {text}")));
        let (length, start) = (&argument.length, &argument.start);
        match *generate.get_ref() {
            Generate::Text if !matches!(kind, Kind::String | Kind::Binary) => {
                return fail(at, "`text` is for type `string` or `binary`");
            }
            Generate::MixedV4 | Generate::RandomV4 if kind != Kind::Ipv4 => {
                return fail(at, "this generator is for type `ipv4`");
            }
            Generate::RandomV6 if kind != Kind::Ipv6 => {
                return fail(at, "`random-v6` is for type `ipv6`");
            }
            Generate::Sequence if kind.sequence_tag().is_none() => {
                return fail(at, "`sequence` is for types `int64` and `uint64`");
            }
            Generate::Text => {}
            _ => {
                if let Some(length) = length {
                    return fail(length.span().start, "`length` is for `generate = \"text\"`");
                }
            }
        }
        if let Some(start) = start
            && *generate.get_ref() != Generate::Sequence
        {
            return fail(
                start.span().start,
                "`start` is for `generate = \"sequence\"`",
            );
        }
        match *generate.get_ref() {
            Generate::Text => {
                let Some(length) = length else {
                    return fail(at, "`generate = \"text\"` needs a `length` in bytes");
                };
                self.text_len = self.text_len.saturating_add(*length.get_ref());
                if self.text_len > MAX_TEXT_LEN {
                    let text =
                        format!("`length` is at most {MAX_TEXT_LEN}, of all arguments together");
                    return fail(length.span().start, &text);
                }
                let bytes: Vec<u8> = (b'a'..=b'z')
                    .cycle()
                    .take(*length.get_ref() as usize)
                    .collect();
                let value = match kind {
                    Kind::Binary => TypedData::Binary(&bytes),
                    _ => TypedData::String(&bytes),
                };
                self.argument(name, &[value]);
            }
            Generate::MixedV4 => self.argument(name, &mixed_v4()),
            Generate::RandomV4 => {
                push_string(self.fixed(), name);
                self.pieces.push(Piece::RandomV4);
            }
            Generate::RandomV6 => {
                push_string(self.fixed(), name);
                self.pieces.push(Piece::RandomV6);
            }
            Generate::Sequence => {
                push_string(self.fixed(), name);
                let start = start
                    .as_ref()
                    .map_or(0, |start| u64::from(*start.get_ref()));
                let tag = kind.sequence_tag().unwrap_or_default();
                self.pieces.push(Piece::Sequence { tag, start });
            }
        }
        Ok(())
    }

    fn finish(mut self, name: &str) -> Profile {
        let longest = |piece: &Piece| match piece {
            Piece::Fixed(bytes) => bytes.len(),
            Piece::Cycle { ranges, .. } => {
                ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
            }
            Piece::Sequence { .. } => 1 + MAX_VARINT_LEN,
            Piece::RandomV4 => 5,
            Piece::RandomV6 => 17,
        };
        self.max_payload_len = self.pieces.iter().map(longest).sum();
        Profile {
            name: name.to_owned(),
            messages: self.messages,
            pieces: self.pieces.into(),
            max_payload_len: self.max_payload_len,
        }
    }
}

/// Addresses of which half are in the documentation networks. Which half comes next is drawn, not
/// alternated: an agent's branch predictor would learn that.
fn mixed_v4() -> Vec<TypedData<'static>> {
    const INSIDE: [([u8; 4], u32); 4] = [
        ([192, 0, 2, 0], 8),
        ([198, 51, 100, 0], 8),
        ([203, 0, 113, 0], 8),
        ([198, 18, 0, 0], 17),
    ];
    const OUTSIDE: [([u8; 4], u32); 4] = [
        ([10, 0, 0, 0], 24),
        ([100, 64, 0, 0], 22),
        ([172, 16, 0, 0], 20),
        ([192, 168, 0, 0], 16),
    ];
    let mut random = Random::new(SEED);
    (0..MIX_LEN)
        .map(|_| {
            let networks = if random.below(2) == 0 {
                INSIDE
            } else {
                OUTSIDE
            };
            let (network, host_bits) = networks[random.below(4) as usize];
            let host = random.below(1 << host_bits);
            TypedData::Ipv4(Ipv4Addr::from(u32::from_be_bytes(network) | host))
        })
        .collect()
}

/// xorshift64*: as good as load needs, and three shifts.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "32 random bits times a 32-bit limit, shifted by 32, is below the limit"
    )]
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        (((self.next() >> 32) * u64::from(limit)) >> 32) as u32
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        other => format!("this {}", other.type_str()),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|&&byte| byte == b'\n').count() + 1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    message: Vec<Spanned<MessageEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageEntry {
    name: String,
    #[serde(default)]
    argument: Vec<Spanned<ArgumentEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArgumentEntry {
    /// Empty: an unnamed argument.
    #[serde(default)]
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    value: Option<Spanned<Value>>,
    values: Option<Vec<Spanned<Value>>>,
    generate: Option<Spanned<Generate>>,
    length: Option<Spanned<u32>>,
    start: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Null,
    Bool,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Ipv4,
    Ipv6,
    String,
    Binary,
}

impl Kind {
    const fn expects(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Int32 => "int32",
            Self::Uint32 => "uint32",
            Self::Int64 => "int64",
            Self::Uint64 => "uint64 (above 2^63-1 write it as text)",
            Self::Ipv4 => "IPv4 address",
            Self::Ipv6 => "IPv6 address",
            Self::String => "text",
            Self::Binary => "binary (text of hex digits, two a byte)",
        }
    }

    /// The type byte of a number that may grow without leaving its type.
    const fn sequence_tag(self) -> Option<u8> {
        match self {
            Self::Int64 => Some(4),
            Self::Uint64 => Some(5),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Generate {
    MixedV4,
    RandomV4,
    RandomV6,
    Sequence,
    Text,
}

/// A value of a file.
enum Owned {
    Bool(bool),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
    String(String),
    Binary(Vec<u8>),
}

impl Owned {
    fn read(kind: Kind, value: &Value) -> Option<Self> {
        let integer = value.as_integer();
        let text = value.as_str();
        Some(match kind {
            Kind::Null => return None,
            Kind::Bool => Self::Bool(value.as_bool()?),
            Kind::Int32 => Self::Int32(i32::try_from(integer?).ok()?),
            Kind::Uint32 => Self::Uint32(u32::try_from(integer?).ok()?),
            Kind::Int64 => Self::Int64(integer?),
            Kind::Uint64 => Self::Uint64(match text {
                // TOML's integers end at 2^63-1.
                Some(text) => text.parse().ok()?,
                None => u64::try_from(integer?).ok()?,
            }),
            Kind::Ipv4 => Self::Ipv4(text?.parse().ok()?),
            Kind::Ipv6 => Self::Ipv6(text?.parse().ok()?),
            Kind::String => Self::String(text?.to_owned()),
            Kind::Binary => Self::Binary(from_hex(text?)?),
        })
    }

    fn borrow(&self) -> TypedData<'_> {
        match self {
            Self::Bool(value) => TypedData::Bool(*value),
            Self::Int32(value) => TypedData::Int32(*value),
            Self::Uint32(value) => TypedData::Uint32(*value),
            Self::Int64(value) => TypedData::Int64(*value),
            Self::Uint64(value) => TypedData::Uint64(*value),
            Self::Ipv4(value) => TypedData::Ipv4(*value),
            Self::Ipv6(value) => TypedData::Ipv6(*value),
            Self::String(value) => TypedData::String(value.as_bytes()),
            Self::Binary(value) => TypedData::Binary(value),
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use ringspoa::spop::{Frame, FrameId, FrameType, Messages, StreamId};

    use super::*;

    /// One frame of a generator, decoded: the names and values of its arguments.
    fn next(generator: &mut Generator) -> Vec<(String, String, String)> {
        let mut out = Vec::new();
        generator.encode(&mut out, 12_345);
        assert!(out.len() <= generator.max_len);
        let (frame, used) = Frame::split(&out, 16_380).unwrap().unwrap();
        assert_eq!(used, out.len());
        assert_eq!(frame.frame_type, FrameType::Notify);
        assert!(frame.flags.is_fin());
        assert_eq!(
            (frame.stream_id, frame.frame_id),
            (StreamId(12_345), FrameId(1))
        );
        let mut messages = Messages::new(frame.payload);
        let mut seen = Vec::new();
        while let Some(mut message) = messages.next_message().unwrap() {
            let name = String::from_utf8(message.name().to_vec()).unwrap();
            while let Some(argument) = message.next_argument().unwrap() {
                let argument_name = String::from_utf8(argument.name.to_vec()).unwrap();
                seen.push((name.clone(), argument_name, argument.value.to_string()));
            }
        }
        seen
    }

    fn parse(text: &str) -> Result<Profile, String> {
        Profile::from_toml(Path::new("test.toml"), text, None).map_err(|error| error.to_string())
    }

    #[test]
    fn digests_tell_contents_apart() {
        let digest = Profile::ip(None, None).digest();
        assert_eq!(digest.len(), 16);
        assert_eq!(digest, Profile::ip(None, None).digest());
        assert_ne!(
            digest,
            Profile::ip(None, Some("192.0.2.1".parse().unwrap())).digest()
        );
        assert_ne!(digest, Profile::ip(Some("other"), None).digest());
        assert_ne!(digest, Profile::http(None, None).digest());
    }

    #[test]
    fn frames_of_each_profile_have_their_size() {
        let mut out = Vec::new();
        Profile::ip(None, None).generator(0).encode(&mut out, 1);
        assert!((34..=48).contains(&out.len()), "{}", out.len());
        let profile = Profile::http(None, None);
        let mut generator = profile.generator(0);
        for _ in 0..20 {
            out.clear();
            generator.encode(&mut out, u32::MAX >> 1);
            assert!((650..=750).contains(&out.len()), "{}", out.len());
            assert!(out.len() - PREFIX_LEN <= profile.max_frame_len());
        }
        let seen = next(&mut generator);
        let names: Vec<_> = seen.iter().map(|(_, name, _)| name.as_str()).collect();
        let wanted = [
            "ip", "src-port", "method", "path", "query", "version", "ssl", "headers",
        ];
        assert_eq!(names, wanted);
        let headers = &seen[7].2;
        let len = headers.replace("\\r\\n", "..").len() - 2;
        assert!((530..=570).contains(&len), "{len}");
        assert!(headers.ends_with("\\r\\n\\r\\n\""));
    }

    #[test]
    fn half_of_the_mix_is_in_documentation_networks() {
        let mut generator = Profile::ip(None, None).generator(0);
        let inside = |_: &usize| {
            let text = next(&mut generator).remove(0).2;
            [
                "192.0.2.",
                "198.51.100.",
                "203.0.113.",
                "198.18.",
                "198.19.",
            ]
            .iter()
            .any(|network| text.starts_with(network))
        };
        let count = (0..MIX_LEN).filter(inside).count();
        assert!((45..=55).contains(&(count * 100 / MIX_LEN)), "{count}");
    }

    #[test]
    fn name_and_address_can_be_fixed() {
        let address = "2001:db8::1".parse().ok();
        let mut generator = Profile::ip(Some("other"), address).generator(3);
        for _ in 0..2 {
            let wanted = ("other", "ip", "2001:db8::1");
            let wanted = (
                wanted.0.to_owned(),
                wanted.1.to_owned(),
                wanted.2.to_owned(),
            );
            assert_eq!(next(&mut generator), [wanted]);
        }
        assert!(matches!(
            Profile::load("some.toml", None, address),
            Err(ProfileError::FixedAddress)
        ));
    }

    #[test]
    fn every_type_and_generator_of_a_file() {
        let profile = parse(
            r#"
            [[message]]
            name = "first"
            argument = [
                { name = "n", type = "null" },
                { name = "b", type = "bool", value = true },
                { type = "int32", value = -5 },
                { name = "u", type = "uint32", values = [1, 2] },
                { name = "i", type = "int64", generate = "sequence", start = 239 },
                { name = "big", type = "uint64", value = "18446744073709551615" },
            ]
            [[message]]
            name = "second"
            [[message.argument]]
            name = "v4"
            type = "ipv4"
            generate = "random-v4"
            [[message.argument]]
            name = "v6"
            type = "ipv6"
            generate = "random-v6"
            [[message.argument]]
            name = "text"
            type = "string"
            generate = "text"
            length = 300
            [[message.argument]]
            name = "hex"
            type = "binary"
            value = "00ff"
            "#,
        )
        .unwrap();
        assert_eq!(profile.messages(), ["first", "second"]);
        let mut generator = profile.generator(0);
        let rounds: Vec<_> = (0..3).map(|_| next(&mut generator)).collect();
        let values = |index: usize| {
            rounds
                .iter()
                .map(|seen| seen[index].2.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(values(0), ["null"; 3]);
        assert_eq!(values(1), ["true"; 3]);
        assert_eq!((rounds[0][2].1.as_str(), values(2)), ("", vec!["-5"; 3]));
        assert_eq!(values(3), ["1", "2", "1"]);
        assert_eq!(values(4), ["239", "240", "241"]);
        assert_eq!(values(5), ["18446744073709551615"; 3]);
        assert_eq!(rounds[0][6].0, "second");
        assert_ne!(values(6)[0], values(6)[1]);
        assert_ne!(values(7)[0], values(7)[1]);
        assert_eq!(values(8)[0].len(), 302);
        assert_eq!(values(9), ["0x00ff"; 3]);
    }

    #[test]
    fn mistakes_in_a_file_name_their_line() {
        let head = "[[message]]\nname = \"m\"\n[[message.argument]]\nname = \"a\"\n";
        let cases = [
            ("type = \"ipv4\"\nvlaue = \"192.0.2.1\"", "line 6", "vlaue"),
            ("type = \"ipv5\"", "line 5", "ipv5"),
            (
                "type = \"ipv4\"\nvalue = \"192.0.2\"",
                "line 6",
                "\"192.0.2\" is no IPv4 address",
            ),
            (
                "type = \"int32\"\nvalues = [1,\n 2147483648]",
                "line 7",
                "no int32",
            ),
            (
                "type = \"ipv4\"",
                "line 3",
                "write one of `value`, `values` and `generate`",
            ),
            (
                "type = \"ipv4\"\nvalues = []",
                "line 3",
                "`values` is empty",
            ),
            (
                "type = \"bool\"\ngenerate = \"text\"",
                "line 6",
                "`text` is for type `string`",
            ),
            (
                "type = \"string\"\ngenerate = \"text\"",
                "line 6",
                "needs a `length`",
            ),
            (
                "type = \"string\"\ngenerate = \"text\"\nlength = 4294967295",
                "line 7",
                "`length` is at most 16777216",
            ),
            (
                "type = \"int64\"\nvalue = 1\nlength = 2",
                "line 7",
                "`length` and `start` belong",
            ),
            ("type = \"binary\"\nvalue = \"0x1\"", "line 6", "two a byte"),
        ];
        for (tail, line, text) in cases {
            let error = parse(&format!("{head}{tail}\n")).unwrap_err();
            assert!(error.contains("test.toml"), "{error}");
            assert!(error.contains(line), "{error}");
            assert!(error.contains(text), "{error}");
        }
        assert!(parse("").unwrap_err().contains("no message"));
        let text = |length: u32| {
            format!(
                "[[message.argument]]\ntype = \"string\"\ngenerate = \"text\"\nlength = {length}\n"
            )
        };
        let two = format!(
            "[[message]]\nname = \"m\"\n{}{}",
            text(1),
            text(MAX_TEXT_LEN)
        );
        let error = parse(&two).unwrap_err();
        assert!(error.contains("of all arguments together"), "{error}");
    }
}

//! What HAProxy sends an agent, in the sizes that occur: the input of every benchmark.
//!
//! All of it is made with the crate's own encoders, of HAProxy's side.

#![allow(dead_code, reason = "each benchmark takes a part of it")]

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringspoa::spop::{
    Argument, Disconnect, Flags, Frame, FrameId, FrameType, HaproxyHello, NotifyWriter, Status,
    StreamId, TypedData,
};

/// What HAProxy offers with its default `tune.bufsize` of 16 KiB, in bytes without prefix.
pub(crate) const MAX_FRAME_SIZE: u32 = 16_380;

/// HAProxy counts its streams from its start: at 5 000 requests a second this id comes after three
/// days. It takes a varint of five bytes, as do all ids from 33 818 864 to 4 328 786 159.
const FIRST_STREAM_ID: u64 = 1_234_567_891;

/// HAProxy deals its streams out to its connections, so one connection does not see every id.
const STREAM_ID_STEP: u64 = 3;

/// The message of the README's first configuration.
const CHECK_CLIENT_IP: &str = "check-client-ip";

/// Of a request that asks for more than its address to be judged.
const CHECK_REQUEST: &str = "check-request";

/// 128 bytes, as `req.cook()` sends a session's sealed state.
const COOKIE: &str = "state=v2.8b0e7153bf7c3706d85c524e440066559a6656c90bd5482a90a29b9fa5ff.\
    5180bc0dbc0e15637ebb8e3b91d26ab4a829a95249f512c17b8ed411fa";
const _: () = assert!(COOKIE.len() == 128);

/// What `req.hdrs` sends of a browser's request.
const HEADERS: &str = "host: www.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    accept-language: en-GB,en;q=0.7,de;q=0.3\r\n\
    accept-encoding: gzip, deflate, br, zstd\r\n\
    referer: https://www.example.com/catalogue/spring\r\n\
    cookie: session=6b3f0c5a9d1e47f28c7ba0e4d5f61392; consent=essential; theme=dark; \
    basket=4f1c09ad77e2b3586d90c4e1f2a8b35\r\n\
    cache-control: max-age=0\r\n\
    priority: u=0, i\r\n\
    sec-fetch-dest: document\r\n\
    sec-fetch-mode: navigate\r\n\
    sec-fetch-site: same-origin\r\n\
    upgrade-insecure-requests: 1\r\n\r\n";

/// 15 KiB: what `req.body` sends of an upload that still fits one frame.
static BODY: [u8; 15 * 1024] = body();

const fn body() -> [u8; 15 * 1024] {
    const LINE: &[u8] = b"{\"sku\":\"48-1137\",\"count\":2,\"note\":\"leave it at the door\"},\n";
    let mut body = [0; 15 * 1024];
    let mut index = 0;
    while index < body.len() {
        body[index] = LINE[index % LINE.len()];
        index += 1;
    }
    body
}

/// One NOTIFY to encode.
pub(crate) struct Notify {
    pub(crate) stream_id: StreamId,
    pub(crate) message: &'static str,
    pub(crate) arguments: Vec<Argument<'static>>,
}

impl Notify {
    /// Writes the frame at the front of `out` and returns its length in bytes, prefix included.
    #[inline]
    pub(crate) fn encode(&self, out: &mut [u8]) -> usize {
        let mut notify = NotifyWriter::begin(out, MAX_FRAME_SIZE, self.stream_id, FrameId(1))
            .expect("a header fits");
        notify
            .message(self.message, self.arguments.iter().copied())
            .expect("a message of the corpus fits a frame");
        notify.finish()
    }
}

/// The inputs, each one or several NOTIFYs of one message. Sizes are in bytes, with the prefix.
///
/// The header takes 15 of them in each frame: prefix 4, type 1, flags 4, stream-id 5, frame-id 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corpus {
    /// 40 bytes, one argument: `ip`.
    Ip,
    /// 128 bytes, five arguments:
    ///
    /// ```text
    /// header 15 | "check-request" 1+13 | argument count 1
    /// ip: 1+2, type 1, IPv4 4 | port: 1+4, type 1, varint 3 | method: 1+6, type 1, "GET" 1+3
    /// path: 1+4, type 1, string 1+17 | cookie: 1+6, type 1, string 1+36
    /// ```
    Five,
    /// Two arguments: `ip` and a `cookie` of 128 bytes.
    Cookie,
    /// 750 bytes, eight arguments: src, port, method, path, query, version, ssl, headers.
    Http,
    /// A `body` of 15 KiB behind src, method and path.
    Body,
    /// 20 NOTIFYs as [`Ip`](Self::Ip), in one buffer.
    IpBatch,
    /// 20 NOTIFYs as [`Http`](Self::Http), in one buffer.
    HttpBatch,
}

impl Corpus {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ip,
        Self::Five,
        Self::Cookie,
        Self::Http,
        Self::Body,
        Self::IpBatch,
        Self::HttpBatch,
    ];

    /// The name in reports and recordings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Five => "five-arguments-128",
            Self::Cookie => "cookie-128",
            Self::Http => "http-750",
            Self::Body => "body-15k",
            Self::IpBatch => "ip-batch-20",
            Self::HttpBatch => "http-batch-20",
        }
    }

    /// How many NOTIFYs there are.
    pub(crate) const fn frame_count(self) -> usize {
        match self {
            Self::IpBatch | Self::HttpBatch => 20,
            _ => 1,
        }
    }

    /// The NOTIFY at `index`. Each comes from another client.
    pub(crate) fn notify(self, index: usize) -> Notify {
        let number = u8::try_from(index).expect("a corpus has fewer than 256 frames");
        // Every second client is on the embedded ban list.
        let client = match number % 2 {
            0 => Ipv4Addr::new(192, 0, 2, 7 + number),
            _ => Ipv4Addr::new(10, 20, 30, 7 + number),
        };
        let (message, arguments) = match self {
            Self::Ip | Self::IpBatch => (CHECK_CLIENT_IP, vec![Argument::new("ip", client)]),
            Self::Five => (
                CHECK_REQUEST,
                vec![
                    Argument::new("ip", client),
                    Argument::new("port", 51_334_i64),
                    Argument::new("method", "GET"),
                    Argument::new("path", "/api/v1/items/471"),
                    Argument::new("cookie", "sid=6b3f0c5a9d1e47f28c7ba0e4d5f61392"),
                ],
            ),
            Self::Cookie => (
                CHECK_REQUEST,
                vec![Argument::new("ip", client), Argument::new("cookie", COOKIE)],
            ),
            Self::Http | Self::HttpBatch => (
                CHECK_REQUEST,
                vec![
                    Argument::new("src", client),
                    Argument::new("src-port", 51_334_i64),
                    Argument::new("method", "GET"),
                    Argument::new("path", "/catalogue/spring/shoes"),
                    Argument::new("query", "size=42&colour=blue&page=2"),
                    Argument::new("version", "1.1"),
                    Argument::new("ssl", true),
                    Argument::new("headers", HEADERS),
                ],
            ),
            Self::Body => (
                CHECK_REQUEST,
                vec![
                    Argument::new("src", client),
                    Argument::new("method", "POST"),
                    Argument::new("path", "/api/v1/orders"),
                    Argument::new("body", TypedData::Binary(&BODY)),
                ],
            ),
        };
        Notify {
            stream_id: StreamId(FIRST_STREAM_ID + STREAM_ID_STEP * index as u64),
            message,
            arguments,
        }
    }

    /// All of them.
    pub(crate) fn notifies(self) -> Vec<Notify> {
        (0..self.frame_count())
            .map(|index| self.notify(index))
            .collect()
    }

    /// All frames, one behind the other, as one read brings them.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; self.frame_count() * (MAX_FRAME_SIZE as usize + 4)];
        let mut len = 0;
        for notify in self.notifies() {
            len += notify.encode(&mut bytes[len..]);
        }
        bytes.truncate(len);
        bytes
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// HAPROXY-HELLO as HAProxy 2.6 to 3.0 send it.
pub(crate) fn hello() -> Vec<u8> {
    let hello = HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size: MAX_FRAME_SIZE,
        capabilities: b"pipelining,async,fragmentation",
        engine_id: Some(b"1d3a7a60-58f6-4a5b-9c0e-5f0a3d2b7c11"),
        healthcheck: false,
    };
    let mut bytes = vec![0; 256];
    let len = hello.encode(&mut bytes).expect("HELLO fits");
    bytes.truncate(len);
    bytes
}

/// HAPROXY-DISCONNECT as HAProxy sends it when a connection was idle for too long.
pub(crate) fn disconnect() -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let len = Disconnect::with_status(Status::TIMEOUT)
        .encode_haproxy(&mut bytes)
        .expect("DISCONNECT fits");
    bytes.truncate(len);
    bytes
}

/// A message of 40 KiB in three fragments, as HAProxy up to 3.0 sends it.
pub(crate) fn fragments() -> Vec<u8> {
    const FRAME_ID: FrameId = FrameId(1);
    const HEADER_LEN: usize = 15;
    let body = BODY.repeat(3);
    let mut whole = vec![0; 64 * 1024];
    let stream_id = StreamId(FIRST_STREAM_ID);
    let mut notify =
        NotifyWriter::begin(&mut whole, u32::MAX, stream_id, FRAME_ID).expect("a header fits");
    notify
        .message(
            CHECK_REQUEST,
            [Argument::new("body", TypedData::Binary(&body[..40 * 1024]))],
        )
        .expect("the body fits");
    let len = notify.finish();
    let payload = &whole[HEADER_LEN..len];
    // HAProxy fills each frame; 11 bytes of it are type, flags and ids.
    let chunks: Vec<&[u8]> = payload.chunks(MAX_FRAME_SIZE as usize - 11).collect();
    let mut bytes = vec![0; len + 64];
    let mut filled = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        let is_last = index + 1 == chunks.len();
        let frame = Frame {
            frame_type: match index {
                0 => FrameType::Notify,
                _ => FrameType::Unset,
            },
            flags: if is_last { Flags::FIN } else { Flags(0) },
            stream_id,
            frame_id: FRAME_ID,
            payload: chunk,
        };
        filled += frame.encode(&mut bytes[filled..]).expect("a fragment fits");
    }
    bytes.truncate(filled);
    bytes
}

/// 64 ids whose varints take five to nine bytes.
pub(crate) fn long_ids() -> Vec<u64> {
    let mut random = Random(7);
    // From 2^26, where five bytes begin to be needed, to 2^58.
    (0..64)
        .map(|index| (1 << 26 << (index % 32)) + (random.next() >> 40))
        .collect()
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `bound`. Its bias is of no account for bounds as small as a list's length.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is below a usize")
    }
}

/// Addresses of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// What a list has an entry of: an IPv4 address, or the first half of an IPv6 one.
    fn random_network(self, random: &mut Random) -> u64 {
        match self {
            Self::V4 => random.next() >> 32,
            // 2000::/3, where all addresses in use are.
            Self::V6 => random.next() >> 3 | 1 << 61,
        }
    }

    /// An address of this network.
    fn random_address(self, network: u64, random: &mut Random) -> IpAddr {
        match self {
            Self::V4 => {
                let bits = u32::try_from(network).expect("an IPv4 network has 32 bits");
                IpAddr::V4(Ipv4Addr::from_bits(bits))
            }
            Self::V6 => {
                let bits = u128::from(network) << 64 | u128::from(random.next());
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            }
        }
    }
}

/// A ban list, and addresses to ask its table for.
pub(crate) struct BanList {
    /// One entry a line, in no order: IPv4 addresses, or IPv6 networks of one customer each (/64).
    pub(crate) text: String,
    /// Addresses that are listed, in no order.
    pub(crate) hits: Vec<IpAddr>,
    /// Addresses that are not, in no order.
    pub(crate) misses: Vec<IpAddr>,
}

impl BanList {
    /// A list of `count` entries, with `probe_count` hits and as many misses.
    pub(crate) fn new(family: Family, count: usize, probe_count: usize) -> Self {
        let mut random = Random(count as u64);
        let mut listed = BTreeSet::new();
        let (mut entries, mut text) = (Vec::with_capacity(count), String::new());
        while entries.len() < count {
            let network = family.random_network(&mut random);
            if !listed.insert(network) {
                continue;
            }
            entries.push(network);
            text += &match family {
                Family::V4 => format!("{}\n", family.random_address(network, &mut random)),
                Family::V6 => format!("{}/64\n", family.random_address(network, &mut random)),
            };
        }
        let hits = (0..probe_count)
            .map(|_| {
                let network = entries[random.below(count)];
                family.random_address(network, &mut random)
            })
            .collect();
        let mut misses = Vec::with_capacity(probe_count);
        while misses.len() < probe_count {
            let network = family.random_network(&mut random);
            if !listed.contains(&network) {
                misses.push(family.random_address(network, &mut random));
            }
        }
        Self { text, hits, misses }
    }
}

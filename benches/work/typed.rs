//! Messages into structs: derived, and by a loop as one would write it by hand.
//!
//! Both find the same faults except for a duplicate, which loops by hand overwrite with.

use std::hint::black_box;
use std::net::IpAddr;

use ringspoa::Message;
use ringspoa::spop::{self, DecodeError, Messages};

use super::split;
use crate::corpus::Corpus;

/// A message that is decoded both ways.
pub(crate) trait Typed: Message {
    fn by_hand<'a>(message: &mut spop::Message<'_, 'a>) -> Result<Self::Of<'a>, Fault>;
}

/// What a loop by hand says.
#[derive(Debug)]
#[allow(dead_code, reason = "it is printed by a benchmark that fails")]
pub(crate) enum Fault {
    Malformed(DecodeError),
    Wrong(&'static str),
    Missing(&'static str),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// As in [`Corpus::Ip`].
#[derive(Debug, PartialEq, Message)]
#[spop(name = "check-client-ip")]
pub(crate) struct One {
    ip: IpAddr,
}

impl Typed for One {
    #[inline]
    fn by_hand<'a>(message: &mut spop::Message<'_, 'a>) -> Result<One, Fault> {
        let mut ip = None;
        while let Some(argument) = message.next_argument()? {
            if argument.name == b"ip" {
                ip = Some(argument.value.as_ip().ok_or(Fault::Wrong("ip"))?);
            }
        }
        Ok(One {
            ip: ip.ok_or(Fault::Missing("ip"))?,
        })
    }
}

/// As in [`Corpus::Five`].
#[derive(Debug, PartialEq, Message)]
#[spop(name = "check-request")]
pub(crate) struct Five<'a> {
    ip: IpAddr,
    port: u16,
    method: &'a [u8],
    path: &'a [u8],
    cookie: Option<&'a [u8]>,
}

fn port(value: spop::TypedData<'_>, name: &'static str) -> Result<u16, Fault> {
    let port = value.as_i64().ok_or(Fault::Wrong(name))?;
    u16::try_from(port).map_err(|_| Fault::Wrong(name))
}

fn bytes<'a>(value: spop::TypedData<'a>, name: &'static str) -> Result<&'a [u8], Fault> {
    value.as_bytes().ok_or(Fault::Wrong(name))
}

impl Typed for Five<'_> {
    #[inline]
    fn by_hand<'a>(message: &mut spop::Message<'_, 'a>) -> Result<Five<'a>, Fault> {
        let (mut ip, mut from, mut method, mut path, mut cookie) = (None, None, None, None, None);
        while let Some(argument) = message.next_argument()? {
            let value = argument.value;
            match argument.name {
                b"ip" => ip = Some(value.as_ip().ok_or(Fault::Wrong("ip"))?),
                b"port" => from = Some(port(value, "port")?),
                b"method" => method = Some(bytes(value, "method")?),
                b"path" => path = Some(bytes(value, "path")?),
                b"cookie" => match value {
                    spop::TypedData::Null => {}
                    value => cookie = Some(bytes(value, "cookie")?),
                },
                _ => {}
            }
        }
        Ok(Five {
            ip: ip.ok_or(Fault::Missing("ip"))?,
            port: from.ok_or(Fault::Missing("port"))?,
            method: method.ok_or(Fault::Missing("method"))?,
            path: path.ok_or(Fault::Missing("path"))?,
            cookie,
        })
    }
}

/// As in [`Corpus::Http`].
#[derive(Debug, PartialEq, Message)]
#[spop(name = "check-request")]
pub(crate) struct Eight<'a> {
    src: IpAddr,
    #[spop(name = "src-port")]
    src_port: u16,
    method: &'a [u8],
    path: &'a [u8],
    query: Option<&'a [u8]>,
    version: &'a [u8],
    ssl: bool,
    headers: &'a [u8],
}

impl Typed for Eight<'_> {
    #[inline]
    fn by_hand<'a>(message: &mut spop::Message<'_, 'a>) -> Result<Eight<'a>, Fault> {
        let (mut src, mut src_port, mut method, mut path) = (None, None, None, None);
        let (mut query, mut version, mut ssl, mut headers) = (None, None, None, None);
        while let Some(argument) = message.next_argument()? {
            let value = argument.value;
            match argument.name {
                b"src" => src = Some(value.as_ip().ok_or(Fault::Wrong("src"))?),
                b"src-port" => src_port = Some(port(value, "src-port")?),
                b"method" => method = Some(bytes(value, "method")?),
                b"path" => path = Some(bytes(value, "path")?),
                b"query" => match value {
                    spop::TypedData::Null => {}
                    value => query = Some(bytes(value, "query")?),
                },
                b"version" => version = Some(bytes(value, "version")?),
                b"ssl" => ssl = Some(value.as_bool().ok_or(Fault::Wrong("ssl"))?),
                b"headers" => headers = Some(bytes(value, "headers")?),
                _ => {}
            }
        }
        Ok(Eight {
            src: src.ok_or(Fault::Missing("src"))?,
            src_port: src_port.ok_or(Fault::Missing("src-port"))?,
            method: method.ok_or(Fault::Missing("method"))?,
            path: path.ok_or(Fault::Missing("path"))?,
            query,
            version: version.ok_or(Fault::Missing("version"))?,
            ssl: ssl.ok_or(Fault::Missing("ssl"))?,
            headers: headers.ok_or(Fault::Missing("headers"))?,
        })
    }
}

/// What messages of which corpus are read as, both ways.
pub(crate) const CORPORA: [Corpus; 3] = [Corpus::Ip, Corpus::Five, Corpus::Http];

/// Decodes every message of every frame by the derived code.
#[inline]
pub(crate) fn derived(corpus: Corpus, bytes: &[u8]) {
    match corpus {
        Corpus::Ip => each(bytes, |message| {
            black_box(One::decode(message).expect("the corpus is valid"));
        }),
        Corpus::Five => each(bytes, |message| {
            black_box(Five::decode(message).expect("the corpus is valid"));
        }),
        _ => each(bytes, |message| {
            black_box(Eight::decode(message).expect("the corpus is valid"));
        }),
    }
}

/// The same by hand.
#[inline]
pub(crate) fn by_hand(corpus: Corpus, bytes: &[u8]) {
    match corpus {
        Corpus::Ip => each(bytes, |message| {
            black_box(One::by_hand(message).expect("the corpus is valid"));
        }),
        Corpus::Five => each(bytes, |message| {
            black_box(Five::by_hand(message).expect("the corpus is valid"));
        }),
        _ => each(bytes, |message| {
            black_box(Eight::by_hand(message).expect("the corpus is valid"));
        }),
    }
}

#[inline(always)]
fn each(mut bytes: &[u8], mut read: impl FnMut(&mut spop::Message<'_, '_>)) {
    while let Some((frame, used)) = split(bytes) {
        let mut messages = Messages::new(frame.payload);
        while let Some(mut message) = messages.next_message().expect("the corpus is valid") {
            read(&mut message);
        }
        bytes = &bytes[used..];
    }
}

/// Both ways find the same in a corpus.
pub(crate) fn agree(corpus: Corpus) {
    fn compare<M: Typed>(bytes: &[u8])
    where
        for<'a> M::Of<'a>: std::fmt::Debug + PartialEq,
    {
        let (frame, _) = split(bytes).expect("the corpus has whole frames");
        let (mut one, mut other) = (Messages::new(frame.payload), Messages::new(frame.payload));
        let mut one = one.next_message().unwrap().unwrap();
        let mut other = other.next_message().unwrap().unwrap();
        assert_eq!(
            M::decode(&mut one).expect("the corpus is valid"),
            M::by_hand(&mut other).expect("the corpus is valid")
        );
    }
    let bytes = corpus.bytes();
    match corpus {
        Corpus::Ip => compare::<One>(&bytes),
        Corpus::Five => compare::<Five<'_>>(&bytes),
        _ => compare::<Eight<'_>>(&bytes),
    }
}

//! What the benchmarks do with the corpora: the steps of an agent, as its users would write them.

#![allow(dead_code, reason = "each benchmark takes a part of it")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringspoa::agents::remediation::{
    AddressTable, DecisionStore, Defaults, Expiry, OnBadRecord, Remediation, Snapshot, Source,
    embedded, parse_lines, parse_list,
};

use ringspoa::spop::{
    AckWriter, Argument, DecodeError, Frame, FrameId, MAX_VARINT_LEN, Messages, Scope, StreamId,
    Variable, decode_varint, encode_varint,
};
use ringspoa::{Connection, Event, Limits, MAX_REPLY_LEN};

pub(crate) mod typed;

use crate::corpus::{self, BanList, Corpus, Family, MAX_FRAME_SIZE, Notify};

const REMEDIATION: Variable<'static> = Variable::literal(Scope::Transaction, "remediation");
const SCORE: Variable<'static> = Variable::literal(Scope::Transaction, "score");
const COUNTRY: Variable<'static> = Variable::literal(Scope::Transaction, "country");

/// An id whose varint takes five bytes, as in the corpora.
pub(crate) const STREAM_ID: StreamId = StreamId(1_234_567_891);

/// Lookups of one iteration of a scenario.
const PROBE_COUNT: usize = 1_024;

/// What the built-in agent answers.
pub(crate) const WORD: &str = "allow";

/// What an agent that scores requests may answer.
pub(crate) const VALUES: (&str, i64, &str) = ("captcha", 4_711, "NL");

/// Room for the answers to any corpus.
pub(crate) const OUT_LEN: usize = 4096;

/// Reads every argument of every message. `black_box` makes each whole in memory, as an agent that
/// looks at all of it would have it.
#[inline]
fn read_arguments(messages: &mut Messages<'_>) -> Result<(), DecodeError> {
    while let Some(mut message) = messages.next_message()? {
        black_box(message.name());
        while let Some(argument) = message.next_argument()? {
            black_box(&argument);
        }
    }
    Ok(())
}

/// Decodes every argument of every frame, and returns how many frames there were.
#[inline]
pub(crate) fn decode(mut bytes: &[u8]) -> usize {
    let mut frame_count = 0;
    while let Some((frame, used)) = split(bytes) {
        read_arguments(&mut Messages::new(frame.payload)).expect("the corpus is valid");
        bytes = &bytes[used..];
        frame_count += 1;
    }
    frame_count
}

#[inline]
fn split(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    Frame::split(bytes, MAX_FRAME_SIZE).expect("the corpus is valid")
}

/// Decodes one frame and writes the ACK that allows its client, returning the ACK's bytes.
#[inline]
pub(crate) fn decode_and_ack(bytes: &[u8], out: &mut [u8]) -> usize {
    let (frame, _) = split(bytes).expect("the corpus has whole frames");
    let mut ack = AckWriter::begin(out, MAX_FRAME_SIZE - 1, frame.stream_id, frame.frame_id)
        .expect("a header fits");
    read_arguments(&mut Messages::new(frame.payload)).expect("the corpus is valid");
    ack.set_var(REMEDIATION, black_box(WORD))
        .expect("one variable fits");
    ack.finish()
}

/// Writes an ACK with one variable, returning its bytes.
#[inline]
pub(crate) fn ack_one(stream_id: StreamId, word: &str, out: &mut [u8]) -> usize {
    let mut ack =
        AckWriter::begin(out, MAX_FRAME_SIZE - 1, stream_id, FrameId(1)).expect("a header fits");
    ack.set_var(REMEDIATION, word).expect("one variable fits");
    ack.finish()
}

/// Writes an ACK with three variables, two of text and a number, returning its bytes.
#[inline]
pub(crate) fn ack_three(
    stream_id: StreamId,
    (word, score, country): (&str, i64, &str),
    out: &mut [u8],
) -> usize {
    let mut ack =
        AckWriter::begin(out, MAX_FRAME_SIZE - 1, stream_id, FrameId(1)).expect("a header fits");
    ack.set_var(REMEDIATION, word).expect("a variable fits");
    ack.set_var(SCORE, score).expect("a variable fits");
    ack.set_var(COUNTRY, country).expect("a variable fits");
    ack.finish()
}

/// Writes these NOTIFYs one behind the other, returning their bytes.
#[inline]
pub(crate) fn encode(notifies: &[Notify], out: &mut [u8]) -> usize {
    let mut len = 0;
    for notify in notifies {
        len += notify.encode(&mut out[len..]);
    }
    len
}

/// Writes the ids as varints one behind the other, returning their bytes.
#[inline]
pub(crate) fn encode_varints(ids: &[u64], out: &mut [u8]) -> usize {
    let mut len = 0;
    for &id in ids {
        len += encode_varint(id, &mut out[len..]).expect("the ids fit");
    }
    len
}

/// Decodes varints up to the end, and returns their sum.
#[inline]
pub(crate) fn decode_varints(mut bytes: &[u8]) -> u64 {
    let mut sum: u64 = 0;
    while !bytes.is_empty() {
        let (value, used) = decode_varint(bytes).expect("the corpus is valid");
        sum = sum.wrapping_add(value);
        bytes = &bytes[used..];
    }
    sum
}

/// A connection that has said HELLO.
pub(crate) fn running_connection() -> Connection {
    let (connection, _) = connect(&corpus::hello(), &mut [0; MAX_REPLY_LEN]);
    connection
}

/// Takes a HELLO on a new connection and writes the answer, returning its bytes.
#[inline]
pub(crate) fn connect(hello: &[u8], out: &mut [u8]) -> (Connection, usize) {
    let mut connection = Connection::new(Limits::default(), Duration::ZERO);
    connection.handle_bytes(hello);
    let len = connection.poll_reply(out);
    assert_ne!(len, 0, "a HELLO is answered");
    (connection, len)
}

/// Takes a DISCONNECT and writes the answer, returning its bytes.
#[inline]
pub(crate) fn disconnect(connection: &mut Connection, bytes: &[u8], out: &mut [u8]) -> usize {
    connection.handle_bytes(bytes);
    connection.poll_reply(out)
}

/// What a worker does with the bytes of one read: frames through the connection's rules, every
/// argument read, an ACK with one variable for each NOTIFY. Returns the bytes of the ACKs.
#[inline]
pub(crate) fn notify_to_ack(connection: &mut Connection, input: &[u8], out: &mut [u8]) -> usize {
    serve(connection, input, out, |messages| {
        read_arguments(messages)?;
        Ok(Some(black_box(WORD)))
    })
}

/// As [`notify_to_ack`], with the work of the built-in agent: each NOTIFY's address is looked up.
#[inline]
pub(crate) fn remediate(
    connection: &mut Connection,
    banned: &AddressTable,
    input: &[u8],
    out: &mut [u8],
) -> usize {
    serve(connection, input, out, |messages| {
        let mut word = None;
        while let Some(message) = messages.next_message()? {
            for argument in message {
                let Some(address) = client(&argument?) else {
                    continue;
                };
                if banned.contains(address) {
                    word = Some("ban");
                } else {
                    word.get_or_insert("allow");
                }
            }
        }
        Ok(word)
    })
}

/// The client's address, of the arguments the built-in agent takes it from.
#[inline]
fn client(argument: &Argument<'_>) -> Option<IpAddr> {
    matches!(argument.name, b"ip" | b"src" | b"src-ip").then(|| argument.value.as_ip())?
}

#[inline]
fn serve(
    connection: &mut Connection,
    input: &[u8],
    out: &mut [u8],
    mut judge: impl FnMut(&mut Messages<'_>) -> Result<Option<&'static str>, DecodeError>,
) -> usize {
    let max_ack_size = connection.max_ack_size();
    let (mut start, mut len) = (0, 0);
    loop {
        let (used, event) = connection.handle_bytes(&input[start..]);
        start += used;
        match event {
            Event::NeedMore => break,
            Event::Handled => {}
            Event::Notify(id, mut messages) => {
                let word = judge(&mut messages).expect("the corpus is valid");
                let room = &mut out[len..];
                let mut ack = AckWriter::begin(room, max_ack_size, id.stream_id, id.frame_id)
                    .expect("a header fits");
                if let Some(word) = word {
                    ack.set_var(REMEDIATION, word).expect("one variable fits");
                }
                len += ack.finish();
            }
        }
    }
    assert_eq!(start, input.len(), "the corpus has whole frames");
    len
}

/// How many of the addresses are listed.
#[inline]
pub(crate) fn count_listed(table: &AddressTable, addresses: &[IpAddr]) -> usize {
    let mut count = 0;
    for &address in addresses {
        count += usize::from(table.contains(address));
    }
    count
}

/// The table of this list, every entry of it a ban.
pub(crate) fn snapshot(list: &str) -> Arc<Snapshot> {
    let mut store = DecisionStore::with_seed([1, 2]);
    let source = store
        .add_source(Source::default())
        .expect("it is the first");
    let defaults = Defaults {
        remediation: "ban",
        origin: "list",
        expiry: Expiry::NEVER,
        now_unix_s: 0,
    };
    parse_lines(
        list.as_bytes(),
        &defaults,
        OnBadRecord::Refuse,
        |decision| store.insert(source, decision),
    )
    .expect("the list is valid");
    store.apply(0);
    Arc::clone(store.snapshot())
}

/// How many of the addresses have a decision that is more than to let them pass.
#[inline]
pub(crate) fn count_remediated(snapshot: &Snapshot, addresses: &[IpAddr]) -> usize {
    let mut count = 0;
    for &address in addresses {
        let found = snapshot.lookup(address);
        count += found.map_or(0, |found| {
            usize::from(found.remediation() > Remediation::Unknown)
        });
    }
    count
}

/// Something to repeat, with all it needs.
type Iterate = Box<dyn FnMut()>;

/// One thing to repeat and count.
pub(crate) struct Scenario {
    /// As in the recording; it stays what it is, or the recording is of no use.
    pub(crate) name: String,
    /// Frames, ids or lookups of one iteration.
    pub(crate) item_count: usize,
    /// Makes what is needed beforehand.
    pub(crate) prepare: Box<dyn Fn() -> Iterate>,
}

impl Scenario {
    fn new<F: FnMut() + 'static>(
        name: impl Into<String>,
        item_count: usize,
        prepare: impl Fn() -> F + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            item_count,
            prepare: Box::new(move || Box::new(prepare())),
        }
    }

    /// All there are. None of them allocates when it is repeated.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for corpus in Corpus::ALL {
            let (name, count) = (corpus.name(), corpus.frame_count());
            all.push(Self::new(format!("decode/{name}"), count, move || {
                let bytes = corpus.bytes();
                move || {
                    black_box(decode(black_box(&bytes)));
                }
            }));
        }
        for corpus in [Corpus::Ip, Corpus::Five, Corpus::Http] {
            let name = format!("decode-and-ack/{corpus}");
            all.push(Self::new(name, 1, move || {
                let (bytes, mut out) = (corpus.bytes(), vec![0; OUT_LEN]);
                move || {
                    black_box(decode_and_ack(black_box(&bytes), black_box(&mut out)));
                }
            }));
        }
        for corpus in [Corpus::Ip, Corpus::IpBatch, Corpus::HttpBatch] {
            let name = format!("notify-to-ack/{corpus}");
            all.push(Self::new(name, corpus.frame_count(), move || {
                let (bytes, mut out) = (corpus.bytes(), vec![0; OUT_LEN]);
                let mut connection = running_connection();
                move || {
                    black_box(notify_to_ack(
                        black_box(&mut connection),
                        black_box(&bytes),
                        black_box(&mut out),
                    ));
                }
            }));
        }
        for corpus in [Corpus::IpBatch, Corpus::HttpBatch] {
            let name = format!("remediate/{corpus}");
            all.push(Self::new(name, corpus.frame_count(), move || {
                let (bytes, mut out) = (corpus.bytes(), vec![0; OUT_LEN]);
                let (mut connection, table) = (running_connection(), embedded());
                move || {
                    black_box(remediate(
                        black_box(&mut connection),
                        black_box(&table),
                        black_box(&bytes),
                        black_box(&mut out),
                    ));
                }
            }));
        }
        for corpus in typed::CORPORA {
            all.push(Self::new(format!("typed/derived/{corpus}"), 1, move || {
                let bytes = corpus.bytes();
                move || typed::derived(corpus, black_box(&bytes))
            }));
            all.push(Self::new(format!("typed/by-hand/{corpus}"), 1, move || {
                let bytes = corpus.bytes();
                move || typed::by_hand(corpus, black_box(&bytes))
            }));
        }
        for corpus in [Corpus::Ip, Corpus::Five, Corpus::Http] {
            let name = format!("encode-notify/{corpus}");
            all.push(Self::new(name, 1, move || {
                let (notifies, mut out) = (corpus.notifies(), corpus.bytes());
                move || {
                    black_box(encode(black_box(&notifies), black_box(&mut out)));
                }
            }));
        }
        all.push(Self::new("encode-ack/one-variable", 1, || {
            let mut out = vec![0; OUT_LEN];
            move || {
                let word = black_box(WORD);
                black_box(ack_one(black_box(STREAM_ID), word, black_box(&mut out)));
            }
        }));
        all.push(Self::new("encode-ack/three-variables", 1, || {
            let mut out = vec![0; OUT_LEN];
            move || {
                let values = black_box(VALUES);
                black_box(ack_three(black_box(STREAM_ID), values, black_box(&mut out)));
            }
        }));
        all.push(Self::new(
            "varint/decode-long",
            corpus::long_ids().len(),
            || {
                let ids = corpus::long_ids();
                let mut bytes = vec![0; MAX_VARINT_LEN * ids.len()];
                let len = encode_varints(&ids, &mut bytes);
                bytes.truncate(len);
                move || {
                    black_box(decode_varints(black_box(&bytes)));
                }
            },
        ));
        all.push(Self::new(
            "varint/encode-long",
            corpus::long_ids().len(),
            || {
                let ids = corpus::long_ids();
                let mut out = vec![0; MAX_VARINT_LEN * ids.len()];
                move || {
                    black_box(encode_varints(black_box(&ids), black_box(&mut out)));
                }
            },
        ));
        for (family, word) in [(Family::V4, "v4"), (Family::V6, "v6")] {
            for hit in [true, false] {
                let kind = if hit { "hit" } else { "miss" };
                let name = format!("table-120k/{word}-{kind}");
                all.push(Self::new(name, PROBE_COUNT, move || {
                    let list = BanList::new(family, 120_000, PROBE_COUNT);
                    let table = parse_list(&list.text).expect("the list is valid");
                    let addresses = if hit { list.hits } else { list.misses };
                    move || {
                        black_box(count_listed(black_box(&table), black_box(&addresses)));
                    }
                }));
            }
        }
        for (family, word) in [(Family::V4, "v4"), (Family::V6, "v6")] {
            for hit in [true, false] {
                let kind = if hit { "hit" } else { "miss" };
                let name = format!("decisions-120k/{word}-{kind}");
                all.push(Self::new(name, PROBE_COUNT, move || {
                    let list = BanList::new(family, 120_000, PROBE_COUNT);
                    let snapshot = snapshot(&list.text);
                    let addresses = if hit { list.hits } else { list.misses };
                    move || {
                        let (snapshot, addresses) = (black_box(&snapshot), black_box(&addresses));
                        black_box(count_remediated(snapshot, addresses));
                    }
                }));
            }
        }
        all.push(Self::new("connection/hello", 1, || {
            let (hello, mut out) = (corpus::hello(), vec![0; MAX_REPLY_LEN]);
            move || {
                black_box(connect(black_box(&hello), black_box(&mut out)));
            }
        }));
        all
    }
}

//! The codec and the connection, in memory.
//!
//! ```sh
//! cargo bench --bench codec                  # all of it
//! cargo bench --bench codec -- decode        # what has "decode" in its name
//! cargo bench --bench codec -- --test        # each once, without a clock
//! ```
//!
//! Items are frames, but ids in `varint`. Decoding borrows, so a body of 15 KiB takes no longer than a
//! short one: judge by items where values are large. A benchmark that allocates says so under its line;
//! only the fragmented message does.

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use ringspoa::spop::MAX_VARINT_LEN;
use ringspoa::{Connection, MAX_REPLY_LEN};

use corpus::Corpus;
use work::OUT_LEN;

mod corpus;
mod work;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Decodes every argument.
#[divan::bench(args = Corpus::ALL)]
fn decode(bencher: Bencher<'_, '_>, corpus: Corpus) {
    let bytes = corpus.bytes();
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .counter(ItemsCount::new(corpus.frame_count()))
        .bench_local(|| work::decode(black_box(&bytes)));
}

/// Decodes every argument and writes an ACK with one variable.
#[divan::bench(args = [Corpus::Ip, Corpus::Five, Corpus::Cookie, Corpus::Http, Corpus::Body])]
fn decode_and_ack(bencher: Bencher<'_, '_>, corpus: Corpus) {
    let (bytes, mut out) = (corpus.bytes(), [0; OUT_LEN]);
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .counter(ItemsCount::new(corpus.frame_count()))
        .bench_local(|| work::decode_and_ack(black_box(&bytes), black_box(&mut out)));
}

/// As [`decode_and_ack`], through the rules of a connection, for all that one read brings.
#[divan::bench(args = Corpus::ALL)]
fn notify_to_ack(bencher: Bencher<'_, '_>, corpus: Corpus) {
    let (bytes, mut out) = (corpus.bytes(), [0; OUT_LEN]);
    let mut connection = work::running_connection();
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .counter(ItemsCount::new(corpus.frame_count()))
        .bench_local(|| {
            work::notify_to_ack(
                black_box(&mut connection),
                black_box(&bytes),
                black_box(&mut out),
            )
        });
}

#[divan::bench(args = Corpus::ALL)]
fn encode_notify(bencher: Bencher<'_, '_>, corpus: Corpus) {
    let mut out = corpus.bytes();
    let notifies = corpus.notifies();
    bencher
        .counter(BytesCount::of_slice(&out))
        .counter(ItemsCount::new(corpus.frame_count()))
        .bench_local(|| work::encode(black_box(&notifies), black_box(&mut out)));
}

#[divan::bench]
fn encode_ack_one_variable(bencher: Bencher<'_, '_>) {
    let mut out = [0; OUT_LEN];
    let len = work::ack_one(work::STREAM_ID, work::WORD, &mut out);
    bencher
        .counter(BytesCount::new(len))
        .counter(ItemsCount::new(1_usize))
        .bench_local(|| {
            work::ack_one(
                black_box(work::STREAM_ID),
                black_box(work::WORD),
                black_box(&mut out),
            )
        });
}

#[divan::bench]
fn encode_ack_three_variables(bencher: Bencher<'_, '_>) {
    let mut out = [0; OUT_LEN];
    let len = work::ack_three(work::STREAM_ID, work::VALUES, &mut out);
    bencher
        .counter(BytesCount::new(len))
        .counter(ItemsCount::new(1_usize))
        .bench_local(|| {
            work::ack_three(
                black_box(work::STREAM_ID),
                black_box(work::VALUES),
                black_box(&mut out),
            )
        });
}

mod varint {
    use super::*;

    #[divan::bench]
    fn decode_long(bencher: Bencher<'_, '_>) {
        let ids = corpus::long_ids();
        let mut bytes = vec![0; MAX_VARINT_LEN * ids.len()];
        let len = work::encode_varints(&ids, &mut bytes);
        bytes.truncate(len);
        bencher
            .counter(BytesCount::of_slice(&bytes))
            .counter(ItemsCount::new(ids.len()))
            .bench_local(|| work::decode_varints(black_box(&bytes)));
    }

    #[divan::bench]
    fn encode_long(bencher: Bencher<'_, '_>) {
        let ids = corpus::long_ids();
        let mut out = vec![0; MAX_VARINT_LEN * ids.len()];
        let len = work::encode_varints(&ids, &mut out);
        bencher
            .counter(BytesCount::new(len))
            .counter(ItemsCount::new(ids.len()))
            .bench_local(|| work::encode_varints(black_box(&ids), black_box(&mut out)));
    }
}

mod connection {
    use super::*;

    /// A new connection, its HELLO and the answer.
    #[divan::bench]
    fn hello(bencher: Bencher<'_, '_>) {
        let (bytes, mut out) = (corpus::hello(), [0; MAX_REPLY_LEN]);
        bencher
            .counter(BytesCount::of_slice(&bytes))
            .counter(ItemsCount::new(1_usize))
            .bench_local(|| work::connect(black_box(&bytes), black_box(&mut out)));
    }

    /// 40 KiB in three frames, put together. What it allocates is what a connection gives back after
    /// each such message.
    #[divan::bench]
    fn fragments(bencher: Bencher<'_, '_>) {
        let (bytes, mut out) = (corpus::fragments(), [0; OUT_LEN]);
        let mut connection = work::running_connection();
        bencher
            .counter(BytesCount::of_slice(&bytes))
            .counter(ItemsCount::new(3_usize))
            .bench_local(|| {
                work::notify_to_ack(
                    black_box(&mut connection),
                    black_box(&bytes),
                    black_box(&mut out),
                )
            });
    }

    /// HAProxy's DISCONNECT and the answer.
    #[divan::bench]
    fn disconnect(bencher: Bencher<'_, '_>) {
        let (bytes, mut out) = (corpus::disconnect(), [0; MAX_REPLY_LEN]);
        bencher
            .counter(BytesCount::of_slice(&bytes))
            .counter(ItemsCount::new(1_usize))
            .with_inputs(work::running_connection)
            .bench_local_refs(|connection: &mut Connection| {
                work::disconnect(connection, black_box(&bytes), black_box(&mut out))
            });
    }
}

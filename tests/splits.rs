//! Every frame of the corpus, cut at every byte, means what it means whole.

mod model;

use std::time::Duration;

use model::{Model, Plan};
use ringspoa::spop::{Argument, Frame, FrameId, NotifyWriter, StreamId};
use ringspoa::{Limits, NotifyId};

const HAPROXY_2_6: &[u8] = include_bytes!("data/haproxy-2.6.bin");
const HAPROXY_3_2: &[u8] = include_bytes!("data/haproxy-3.2.bin");
const CHECKS: [&[u8]; 2] = [
    include_bytes!("data/haproxy-2.6-check.bin"),
    include_bytes!("data/haproxy-3.2-check.bin"),
];

/// What a stream led to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    output: Vec<u8>,
    handled: Vec<(NotifyId, u64)>,
    state: ringspoa::State,
}

fn run<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut model = Model::new(Limits::default(), Duration::from_secs(1));
    for chunk in chunks {
        model.receive(chunk, Duration::ZERO, &mut || Plan::Now);
    }
    Outcome {
        output: model.output,
        handled: model.handled,
        state: model.connection.state(),
    }
}

/// The recordings, and NOTIFYs HAProxy does not send every day behind a recorded HELLO.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = vec![HAPROXY_2_6.to_vec(), HAPROXY_3_2.to_vec()];
    corpus.extend(CHECKS.map(<[u8]>::to_vec));
    let hello = Frame::split(HAPROXY_3_2, 16_380).unwrap().unwrap().1;
    let mut odd = HAPROXY_3_2[..hello].to_vec();
    let ids = [
        (0, 1),
        (240, 2288),
        (u64::from(u32::MAX), 1),
        (u64::MAX, u64::MAX),
    ];
    for (index, (stream, frame)) in ids.into_iter().enumerate() {
        let mut out = vec![0; 2000];
        let mut notify =
            NotifyWriter::begin(&mut out, 2000, StreamId(stream), FrameId(frame)).unwrap();
        let arguments = std::iter::repeat_n(Argument::new("n", -1_i64), 40 * index);
        notify.message("m", arguments).unwrap();
        let len = notify.finish();
        odd.extend_from_slice(&out[..len]);
    }
    // An empty NOTIFY, an unknown frame type, a NOTIFY with a broken argument and one behind it.
    odd.extend_from_slice(&[0, 0, 0, 7, 3, 0, 0, 0, 1, 5, 1]);
    odd.extend_from_slice(&[0, 0, 0, 7, 50, 0, 0, 0, 1, 5, 1]);
    odd.extend_from_slice(&[0, 0, 0, 11, 3, 0, 0, 0, 1, 7, 1, 1, b'm', 1, 0]);
    odd.extend_from_slice(&[0, 0, 0, 7, 3, 0, 0, 0, 1, 9, 1]);
    corpus.push(odd);
    corpus
}

#[test]
fn every_cut_gives_the_same_result() {
    for stream in corpus() {
        let whole = run([&stream[..]]);
        assert!(!whole.output.is_empty());
        for cut in 1..stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(run([head, tail]), whole, "cut at {cut}");
        }
    }
}

#[test]
fn byte_by_byte_gives_the_same_result() {
    for stream in corpus() {
        assert_eq!(run(stream.chunks(1)), run([&stream[..]]));
    }
}

#[test]
fn the_corpus_is_handled_as_expected() {
    let handled: Vec<_> = corpus()
        .iter()
        .map(|stream| run([&stream[..]]).handled.len())
        .collect();
    // Four requests; three, since one was too big for 3.2; checks ask nothing; the odd ones: four,
    // the empty one, and none behind the broken one.
    assert_eq!(handled, [4, 3, 0, 0, 5]);
}

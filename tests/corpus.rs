//! The benchmarks' inputs are what they say they are, and what is done with them allocates nothing.

#[path = "../benches/corpus/mod.rs"]
mod corpus;
mod counting;
#[path = "../benches/work/mod.rs"]
mod work;

use std::cell::Cell;

use corpus::{BanList, Corpus, Family, MAX_FRAME_SIZE};
use counting::Counting;
use ringspoa::agents::remediation::parse_list;
use ringspoa::spop::{Frame, FrameType, Messages, varint_len};
use work::Scenario;

thread_local! {
    /// Of this thread, so that tests side by side do not count for each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // `try_with`: threads allocate while their locals are being torn down, too.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

#[test]
fn lengths_and_argument_counts() {
    for (corpus, frame_len, argument_count, frame_count) in [
        (Corpus::Ip, 40, 1, 1),
        (Corpus::Five, 128, 5, 1),
        (Corpus::Cookie, 175, 2, 1),
        (Corpus::Http, 750, 8, 1),
        (Corpus::Body, 15_442, 4, 1),
        (Corpus::IpBatch, 40, 1, 20),
        (Corpus::HttpBatch, 750, 8, 20),
    ] {
        let bytes = corpus.bytes();
        assert_eq!(bytes.len(), frame_len * frame_count, "{corpus}");
        assert_eq!(work::decode(&bytes), frame_count, "{corpus}");
        assert_eq!(corpus.frame_count(), frame_count, "{corpus}");
        for bytes in bytes.chunks(frame_len) {
            let (frame, used) = Frame::split(bytes, MAX_FRAME_SIZE).unwrap().unwrap();
            assert_eq!(used, frame_len, "{corpus}");
            assert_eq!(varint_len(frame.stream_id.0), 5, "{corpus}");
            let mut messages = Messages::new(frame.payload);
            let message = messages.next_message().unwrap().unwrap();
            assert_eq!(message.count(), argument_count, "{corpus}");
            assert!(messages.next_message().unwrap().is_none(), "{corpus}");
        }
    }
}

#[test]
fn fragments_are_one_message_larger_than_a_frame() {
    let bytes = corpus::fragments();
    let (mut start, mut types) = (0, Vec::new());
    while let Some((frame, used)) = Frame::split(&bytes[start..], MAX_FRAME_SIZE).unwrap() {
        types.push((frame.frame_type, frame.flags.is_fin()));
        start += used;
    }
    let expected = [
        (FrameType::Notify, false),
        (FrameType::Unset, false),
        (FrameType::Unset, true),
    ];
    assert_eq!(types, expected);
    assert_eq!(start, bytes.len());
    let (mut connection, mut out) = (work::running_connection(), [0; 64]);
    assert_ne!(work::notify_to_ack(&mut connection, &bytes, &mut out), 0);
}

#[test]
fn long_ids_take_five_to_nine_bytes() {
    let ids = corpus::long_ids();
    let lengths: Vec<usize> = ids.iter().map(|id| varint_len(*id)).collect();
    assert_eq!(lengths.iter().min(), Some(&5));
    assert_eq!(lengths.iter().max(), Some(&9));
    let mut bytes = vec![0; 1024];
    let len = work::encode_varints(&ids, &mut bytes);
    assert_eq!(lengths.iter().sum::<usize>(), len);
    assert_eq!(work::decode_varints(&bytes[..len]), ids.iter().sum::<u64>());
}

#[test]
fn hits_are_listed_and_misses_are_not() {
    for family in [Family::V4, Family::V6] {
        for count in [5, 1_000] {
            let list = BanList::new(family, count, 500);
            let table = parse_list(&list.text).unwrap();
            assert_eq!(table.range_count(), count, "{family:?}");
            assert_eq!(work::count_listed(&table, &list.hits), 500, "{family:?}");
            assert_eq!(work::count_listed(&table, &list.misses), 0, "{family:?}");
            let snapshot = work::snapshot(&list.text);
            assert_eq!(
                work::count_remediated(&snapshot, &list.hits),
                500,
                "{family:?}"
            );
            assert_eq!(
                work::count_remediated(&snapshot, &list.misses),
                0,
                "{family:?}"
            );
        }
    }
}

#[test]
fn the_batch_of_addresses_is_half_banned() {
    let (mut connection, mut out) = (work::running_connection(), [0; 4096]);
    let banned = ringspoa::agents::remediation::embedded();
    let bytes = Corpus::IpBatch.bytes();
    let len = work::remediate(&mut connection, &banned, &bytes, &mut out);
    let acks = &out[..len];
    let count = |word: &[u8]| acks.windows(word.len()).filter(|w| *w == word).count();
    assert_eq!((count(b"ban"), count(b"allow")), (10, 10));
}

#[test]
fn derived_code_and_loops_by_hand_read_the_same() {
    for corpus in work::typed::CORPORA {
        work::typed::agree(corpus);
    }
}

#[test]
fn no_scenario_allocates() {
    let allocations = || ALLOCATIONS.with(Cell::get);
    for scenario in Scenario::all() {
        let before = allocations();
        let mut iterate = (scenario.prepare)();
        assert_ne!(allocations(), before, "the counter counts");
        iterate();
        let warm = allocations();
        iterate();
        assert_eq!(allocations() - warm, 0, "{}", scenario.name);
    }
}

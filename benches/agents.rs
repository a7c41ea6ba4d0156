//! The built-in agents' work, in memory: `cargo bench --bench agents`.
//!
//! Items are lookups in `hit`, `miss` and `decisions`, frames in `remediate`, and entries in `parse` and
//! where decisions are loaded or changed.

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use ringspoa::agents::remediation::parse_list;

use corpus::{BanList, Corpus, Family};
use work::OUT_LEN;

mod corpus;
mod work;

/// Adds lines on allocations to each benchmark that makes some: reading a list does.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Entries of a list written by hand, of a team's own, and of a threat feed.
const ENTRY_COUNTS: [usize; 3] = [5, 1_000, 120_000];

/// Enough that a branch predictor does not learn the order.
const PROBE_COUNT: usize = 65_536;

fn main() {
    divan::main();
}

/// Lookups of `addresses` of the list, one after the other.
fn look_up(
    bencher: Bencher<'_, '_>,
    family: Family,
    entry_count: usize,
    addresses: impl Fn(BanList) -> Vec<std::net::IpAddr>,
) {
    let list = BanList::new(family, entry_count, PROBE_COUNT);
    let table = parse_list(&list.text).expect("the list is valid");
    let addresses = addresses(list);
    bencher
        .counter(ItemsCount::new(addresses.len()))
        .bench_local(|| work::count_listed(black_box(&table), black_box(&addresses)));
}

mod hit {
    use super::*;

    #[divan::bench(args = ENTRY_COUNTS)]
    fn v4(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V4, entry_count, |list| list.hits);
    }

    #[divan::bench(args = ENTRY_COUNTS)]
    fn v6(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V6, entry_count, |list| list.hits);
    }
}

mod miss {
    use super::*;

    #[divan::bench(args = ENTRY_COUNTS)]
    fn v4(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V4, entry_count, |list| list.misses);
    }

    #[divan::bench(args = ENTRY_COUNTS)]
    fn v6(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V6, entry_count, |list| list.misses);
    }
}

/// The same of decisions, which lie in another table, and what making and changing that takes.
mod decisions {
    use std::cell::RefCell;
    use std::net::IpAddr;

    use ringspoa::agents::remediation::{Decision, DecisionStore, Source};

    use super::*;

    /// A list, and what the largest is of which a million addresses is asked.
    const ENTRY_COUNTS: [usize; 2] = [120_000, 1_000_000];

    fn look_up(
        bencher: Bencher<'_, '_>,
        family: Family,
        entry_count: usize,
        addresses: impl Fn(BanList) -> Vec<IpAddr>,
    ) {
        let list = BanList::new(family, entry_count, PROBE_COUNT);
        let snapshot = work::snapshot(&list.text);
        let addresses = addresses(list);
        bencher
            .counter(ItemsCount::new(addresses.len()))
            .bench_local(|| work::count_remediated(black_box(&snapshot), black_box(&addresses)));
    }

    #[divan::bench(args = ENTRY_COUNTS)]
    fn hit_v4(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V4, entry_count, |list| list.hits);
    }

    #[divan::bench(args = ENTRY_COUNTS)]
    fn miss_v4(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V4, entry_count, |list| list.misses);
    }

    /// IPv6 lists are of networks, which lie in order and are searched.
    #[divan::bench(args = ENTRY_COUNTS)]
    fn hit_v6(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V6, entry_count, |list| list.hits);
    }

    #[divan::bench(args = ENTRY_COUNTS)]
    fn miss_v6(bencher: Bencher<'_, '_>, entry_count: usize) {
        look_up(bencher, Family::V6, entry_count, |list| list.misses);
    }

    #[divan::bench(args = ENTRY_COUNTS)]
    fn load(bencher: Bencher<'_, '_>, entry_count: usize) {
        let text = BanList::new(Family::V4, entry_count, 0).text;
        bencher
            .counter(BytesCount::of_str(&text))
            .counter(ItemsCount::new(entry_count))
            .bench_local(|| work::snapshot(black_box(&text)));
    }

    /// Decisions that end and as many that come, in a table of a million.
    #[divan::bench(args = [2, 5_000, 50_000])]
    fn delta(bencher: Bencher<'_, '_>, change_count: usize) {
        let addresses = BanList::new(Family::V4, 1_000_000, change_count).misses;
        let text = BanList::new(Family::V4, 1_000_000, 0).text;
        let mut store = DecisionStore::new();
        let source = store
            .add_source(Source::default())
            .expect("it is the first");
        let decision = |address: IpAddr| Decision::new(address, "ban", "list");
        for line in text.lines() {
            let address: IpAddr = line.parse().expect("the list is of addresses");
            store
                .insert(source, &decision(address))
                .expect("there is one kind");
        }
        let (coming, going) = addresses.split_at(change_count / 2);
        for address in going {
            store
                .insert(source, &decision(*address))
                .expect("there is one kind");
        }
        store.apply(0);
        let state = RefCell::new((store, coming, going));
        bencher
            .counter(ItemsCount::new(change_count))
            .bench_local(|| {
                let (store, coming, going) = &mut *state.borrow_mut();
                for (come, go) in coming.iter().zip(going.iter()) {
                    store
                        .insert(source, &decision(*come))
                        .expect("there is one kind");
                    store.remove_word(source, *go, "ban");
                }
                assert_eq!(store.apply(0).added, coming.len());
                std::mem::swap(coming, going);
            });
    }
}

/// From NOTIFY to ACK as the built-in agent answers, from a list of 120 000.
#[divan::bench(args = [Corpus::Ip, Corpus::Http, Corpus::IpBatch, Corpus::HttpBatch])]
fn remediate(bencher: Bencher<'_, '_>, corpus: Corpus) {
    let table = parse_list(&BanList::new(Family::V4, 120_000, 0).text).expect("the list is valid");
    let (bytes, mut out) = (corpus.bytes(), [0; OUT_LEN]);
    let mut connection = work::running_connection();
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .counter(ItemsCount::new(corpus.frame_count()))
        .bench_local(|| {
            work::remediate(
                black_box(&mut connection),
                black_box(&table),
                black_box(&bytes),
                black_box(&mut out),
            )
        });
}

#[divan::bench(args = ENTRY_COUNTS)]
fn parse(bencher: Bencher<'_, '_>, entry_count: usize) {
    let text = BanList::new(Family::V4, entry_count, 0).text;
    bencher
        .counter(BytesCount::of_str(&text))
        .counter(ItemsCount::new(entry_count))
        .bench_local(|| parse_list(black_box(&text)));
}

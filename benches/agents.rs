//! The built-in agents' work, in memory: `cargo bench --bench agents`.
//!
//! Items are lookups in `hit` and `miss`, frames in `remediate` and entries in `parse`.

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

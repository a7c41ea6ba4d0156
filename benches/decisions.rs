//! What a table of a million decisions costs: `cargo bench --bench decisions`.
//!
//! Prints nanoseconds of a lookup, bytes of a decision, milliseconds of loading and of changing, what the
//! process holds, and how lookups on one core fare while another changes the table. With words behind
//! `--` only the tables with one of them in their names. `cargo bench --bench agents` has lookups in
//! smaller tables, and repeats them.

#![allow(clippy::cast_possible_truncation, reason = "of numbers that fit")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringspoa::agents::remediation::{
    Decision, DecisionStore, Defaults, Expiry, Network, OnBadRecord, Snapshot, SnapshotCell,
    Source, SourceId, Subject, parse_lines,
};

const ADDRESSES: usize = 1_000_000;
const RANGES: usize = 100_000;
const DELTA: usize = 50_000;
/// Lookups that are timed together, and how often.
const BATCH: usize = 1_024;
const BATCHES: usize = 256;
const ROUNDS: usize = 7;
const NOW: u64 = 1_700_000_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn v4(&mut self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits((self.next() >> 32) as u32))
    }

    /// An address of one of some thousand networks that providers have, as those in use are.
    fn v6(&mut self) -> IpAddr {
        const BLOCKS: [u128; 6] = [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c0f];
        let provider = self.below(12_000) as u128;
        let high = BLOCKS[provider as usize % 6] << 112 | (provider * 7 % 65_536) << 96;
        let customer = u128::from(self.next() >> 32) << 64;
        IpAddr::V6(Ipv6Addr::from_bits(
            high | customer | u128::from(self.next()),
        ))
    }
}

fn addresses(random: &mut Random, count: usize, v6_share: usize) -> Vec<IpAddr> {
    let mut all = BTreeSet::new();
    while all.len() < count {
        let is_v6 = random.below(100) < v6_share;
        all.insert(if is_v6 { random.v6() } else { random.v4() });
    }
    let mut all: Vec<IpAddr> = all.into_iter().collect();
    for index in (1..all.len()).rev() {
        all.swap(index, random.below(index + 1));
    }
    all
}

fn ranges(random: &mut Random, count: usize, v6_share: usize) -> Vec<Network> {
    let mut all = BTreeSet::new();
    while all.len() < count {
        let network = if random.below(100) < v6_share {
            let lengths = [32, 40, 44, 48, 52, 56, 60, 64];
            Network::new(random.v6(), lengths[random.below(lengths.len())])
        } else {
            // Together they are some 2 % of all addresses.
            Network::new(random.v4(), 20 + random.below(9) as u8)
        };
        all.insert(network.expect("the prefix fits"));
    }
    all.into_iter().collect()
}

/// Nanoseconds of a lookup: the median of batches, and of several such medians the lowest, as what else
/// runs on the machine only adds. First one lookup after the other as fast as they go, then each begun
/// when the one before has answered.
fn time(snapshot: &Snapshot, probes: &[IpAddr]) -> (f64, f64) {
    let mut random = Random(5);
    // The compiler does not know it, and so has to wait for the answer before.
    let zero = black_box(0);
    let mut batch = |one_by_one: bool| {
        let probes: Vec<IpAddr> = (0..BATCH)
            .map(|_| probes[random.below(probes.len())])
            .collect();
        let begun = Instant::now();
        let mut sum = 0;
        for address in &probes {
            let after = if one_by_one { sum & zero } else { 0 };
            let address = match address {
                IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() ^ after as u32)),
                IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() ^ after as u128)),
            };
            let found = snapshot.lookup(address);
            sum += found.map_or(1, |found| {
                found.kind().index() + found.remediation() as usize
            });
        }
        black_box(sum);
        begun.elapsed().as_secs_f64() * 1e9 / BATCH as f64
    };
    let mut lowest = |one_by_one: bool| {
        let median = |_| {
            let mut times: Vec<f64> = (0..BATCHES).map(|_| batch(one_by_one)).collect();
            times.sort_unstable_by(f64::total_cmp);
            times[times.len() / 2]
        };
        (0..ROUNDS).map(median).fold(f64::INFINITY, f64::min)
    };
    (lowest(false), lowest(true))
}

/// Kilobytes that the process holds, and the most it held.
fn memory() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let digits = line.and_then(|line| line.split_whitespace().next());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn insert(store: &mut DecisionStore, source: SourceId, subject: Subject, id: Option<i64>) {
    let mut decision = Decision::new(subject, "ban", "CAPI").with_expiry(Expiry::at(NOW + 14_400));
    decision.id = id;
    store.insert(source, &decision).expect("there is one kind");
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn measure(name: &str, v6_share: usize, address_count: usize, range_count: usize, with_ids: bool) {
    let mut random = Random(1);
    let listed = addresses(&mut random, address_count, v6_share);
    let networks = ranges(&mut random, range_count, v6_share);
    let before = memory();
    let mut store = DecisionStore::new();
    let source = store
        .add_source(Source::default())
        .expect("it is the first");
    let id = |index: usize| with_ids.then_some(index as i64);
    let begun = Instant::now();
    for (index, address) in listed.iter().enumerate() {
        insert(&mut store, source, Subject::from(*address), id(index));
    }
    for (index, network) in networks.iter().enumerate() {
        insert(
            &mut store,
            source,
            Subject::from(*network),
            id(address_count + index),
        );
    }
    let noted = ms(begun);
    let changes = store.apply(NOW);
    assert_eq!(changes.added, address_count + range_count);
    let loaded = ms(begun);
    let snapshot = Arc::clone(store.snapshot());
    println!("## {name}: {address_count} addresses, {range_count} ranges, ids: {with_ids}");
    println!(
        "load {loaded:.0} ms (noting {noted:.0}), {:.1} MB, {:.1} bytes a decision; resident {:+.1} MB to \
         {:.1}, at most {:.1}",
        snapshot.byte_len() as f64 / 1e6,
        snapshot.byte_len() as f64 / snapshot.count() as f64,
        (memory().0 as f64 - before.0 as f64) / 1e3,
        memory().0 as f64 / 1e3,
        memory().1 as f64 / 1e3,
    );
    for is_v6 in [false, true] {
        let hits: Vec<IpAddr> = listed
            .iter()
            .copied()
            .filter(|a| a.is_ipv6() == is_v6)
            .collect();
        let in_ranges: Vec<IpAddr> = networks
            .iter()
            .map(|network| match network.first() {
                IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | 5)),
                IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() | 5)),
            })
            .filter(|address| address.is_ipv6() == is_v6)
            .collect();
        let misses: Vec<IpAddr> = (0..ADDRESSES)
            .map(|_| if is_v6 { random.v6() } else { random.v4() })
            .filter(|address| snapshot.lookup(*address).is_none())
            .collect();
        for (kind, probes) in [("hit", hits), ("range", in_ranges), ("miss", misses)] {
            if !probes.is_empty() {
                let (stream, chain) = time(&snapshot, &probes);
                let family = if is_v6 { "v6" } else { "v4" };
                println!("lookup {family} {kind:5} {stream:5.1} ns, one by one {chain:5.1} ns");
            }
        }
    }
    // As many new as gone, on addresses and ranges.
    let begun = Instant::now();
    for index in 0..DELTA / 2 {
        let at = random.below(address_count);
        if with_ids {
            store.remove(source, listed[at], at as i64);
        } else {
            store.remove_word(source, listed[at], "ban");
        }
        let fresh = if random.below(100) < v6_share {
            random.v6()
        } else {
            random.v4()
        };
        insert(
            &mut store,
            source,
            Subject::from(fresh),
            id(2_000_000 + index),
        );
    }
    let changes = store.apply(NOW + 10);
    println!(
        "delta of {DELTA} {:.1} ms (+{} -{})",
        ms(begun),
        changes.added,
        changes.removed
    );
    let begun = Instant::now();
    insert(
        &mut store,
        source,
        Subject::from(random.v4()),
        id(5_000_000),
    );
    let changes = store.apply(NOW + 20);
    println!("delta of 1 {:.1} ms (+{})", ms(begun), changes.added);
    let begun = Instant::now();
    drop(snapshot);
    println!("dropping the old {:.1} ms\n", ms(begun));
}

/// A list of a million lines, from text to snapshot.
fn load_list() {
    let mut random = Random(3);
    let listed = addresses(&mut random, ADDRESSES, 0);
    let text: String = listed
        .iter()
        .map(|address| format!("{address}\n"))
        .collect();
    drop(listed);
    let before = memory().0;
    let mut store = DecisionStore::new();
    let source = store
        .add_source(Source::default())
        .expect("it is the first");
    let defaults = Defaults {
        remediation: "ban",
        origin: "list",
        expiry: Expiry::NEVER,
        now_unix_s: NOW,
    };
    let begun = Instant::now();
    parse_lines(
        text.as_bytes(),
        &defaults,
        OnBadRecord::Refuse,
        |decision| store.insert(source, decision),
    )
    .expect("the list is valid");
    let parsed = ms(begun);
    store.apply(NOW);
    println!(
        "## list: {ADDRESSES} lines, {:.1} MB of text\nload {:.0} ms (reading {parsed:.0}), {:.1} MB, resident \
         {:+.1} MB\n",
        text.len() as f64 / 1e6,
        ms(begun),
        store.snapshot().byte_len() as f64 / 1e6,
        (memory().0 as f64 - before as f64) / 1e3,
    );
}

/// Nanoseconds of single lookups, with the clock's own: median, 99.9th of a hundred, and the most.
fn quantiles(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    let most = times[times.len() - 1];
    format!("{} / {} / {most} ns", at(0.5), at(0.999))
}

/// Lookups on one core, while nothing else happens and while another core replaces 5 % of the table ten
/// times a second.
fn disturb() {
    const RUN: std::time::Duration = std::time::Duration::from_secs(3);
    let mut random = Random(4);
    let listed = addresses(&mut random, ADDRESSES, 0);
    let mut store = DecisionStore::new();
    let source = store
        .add_source(Source::default())
        .expect("it is the first");
    for (index, address) in listed.iter().enumerate() {
        insert(
            &mut store,
            source,
            Subject::from(*address),
            Some(index as i64),
        );
    }
    store.apply(NOW);
    let cell = SnapshotCell::new(Arc::clone(store.snapshot()));
    let look_up = |is_over: &AtomicBool| {
        let (mut reader, mut random) = (cell.reader(), Random(6));
        let mut times = Vec::with_capacity(100_000_000);
        while !is_over.load(Ordering::Relaxed) {
            let address = random.v4();
            let begun = Instant::now();
            black_box(reader.snapshot().lookup(address).map(|found| found.kind()));
            times.push(begun.elapsed().as_nanos() as u64);
        }
        quantiles(times)
    };
    let is_over = AtomicBool::new(false);
    println!("## disturb: lookups of one core, median / 99.9 % / most");
    std::thread::scope(|scope| {
        let quiet = scope.spawn(|| look_up(&is_over));
        std::thread::sleep(RUN);
        is_over.store(true, Ordering::Relaxed);
        println!("quiet                {}", quiet.join().expect("it ends"));
    });
    is_over.store(false, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| look_up(&is_over));
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < RUN {
            for _ in 0..DELTA / 2 {
                let at = random.below(ADDRESSES);
                store.remove(source, listed[at], at as i64);
                insert(
                    &mut store,
                    source,
                    Subject::from(random.v4()),
                    Some(random.next() as i64),
                );
            }
            store.apply(NOW);
            cell.publish(Arc::clone(store.snapshot()));
            count += 1;
            std::thread::sleep(std::time::Duration::from_millis(75));
        }
        is_over.store(true, Ordering::Relaxed);
        println!(
            "{count} deltas of {DELTA} {}\n",
            changing.join().expect("it ends")
        );
    });
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word));
    for (name, v6_share, address_count, range_count, with_ids) in [
        ("120k", 10, 100_000, 20_000, true),
        ("v4", 0, ADDRESSES, RANGES, true),
        ("v4-no-ids", 0, ADDRESSES, RANGES, false),
        ("mixed", 50, ADDRESSES, RANGES, true),
        ("v6", 100, ADDRESSES, RANGES, true),
    ] {
        if is_wanted(name) {
            measure(name, v6_share, address_count, range_count, with_ids);
        }
    }
    if is_wanted("list") {
        load_list();
    }
    if is_wanted("disturb") {
        disturb();
    }
}

//! What a lookup in a database of places costs: `cargo bench --bench geo -- FILE...`, of files in
//! MaxMind's format.
//!
//! Prints how long a file takes to be read, what the process holds for it, and nanoseconds of a lookup,
//! beside those of the reader that finds the record and reads the country out of it; after holding
//! the one to the other.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use maxminddb::{PathElement, Reader};
use ringspoa::agents::remediation::{CountryCode, GeoDatabase};

const LOOKUPS: usize = 1_000_000;
const BATCH: usize = 1_024;

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Addresses all over IPv4, and in the parts of IPv6 that are given out.
fn addresses(is_v6: bool) -> Vec<IpAddr> {
    const BLOCKS: [u128; 6] = [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c0f];
    let mut state = 1;
    let mut address = || {
        let bits = random(&mut state);
        if is_v6 {
            let block = BLOCKS[usize::try_from(bits % 6).unwrap_or(0)] << 112;
            let bits = block | u128::from(bits) << 44 | u128::from(bits);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        } else {
            IpAddr::V4(Ipv4Addr::from(
                (bits >> 32)
                    .to_be_bytes()
                    .last_chunk()
                    .copied()
                    .unwrap_or_default(),
            ))
        }
    };
    (0..LOOKUPS).map(|_| address()).collect()
}

/// The record of an address, and the country in it.
fn as_read(reader: &Reader<Vec<u8>>, address: IpAddr) -> Option<CountryCode> {
    let record = reader.lookup(address).ok()?;
    let countries = ["country", "registered_country", "represented_country"];
    countries.iter().find_map(|country| {
        let path = [PathElement::Key(country), PathElement::Key("iso_code")];
        CountryCode::new(record.decode_path::<&str>(&path).ok()??)
    })
}

/// Nanoseconds of a lookup: the median of batches, and the 99th of a hundred.
fn time<T>(addresses: &[IpAddr], mut look_up: impl FnMut(IpAddr) -> T) -> (f64, f64) {
    let batch = |addresses: &[IpAddr]| {
        let begun = Instant::now();
        for address in addresses {
            black_box(look_up(black_box(*address)));
        }
        begun.elapsed().as_secs_f64() * 1e9 / addresses.len() as f64
    };
    let mut times: Vec<f64> = addresses.chunks(BATCH).map(batch).collect();
    times.sort_unstable_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits = line.and_then(|line| line.split_whitespace().next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0.0) / 1e3
}

fn main() {
    for path in std::env::args().skip(1).filter(|a| !a.starts_with("--")) {
        let bytes = std::fs::read(&path).expect("the file can be read");
        let len = bytes.len() as f64 / 1e6;
        let before = resident_mb();
        let begun = Instant::now();
        let database = GeoDatabase::from_bytes(bytes.clone()).expect("it is a database");
        println!(
            "## {}: {len:.1} MB\nread in {:.0} ms, {:.2} MB, resident {:+.1} MB",
            database.database_type(),
            begun.elapsed().as_secs_f64() * 1e3,
            database.byte_len() as f64 / 1e6,
            resident_mb() - before,
        );
        let reader = Reader::from_source(bytes).expect("it is a database");
        for is_v6 in [false, true] {
            let addresses = addresses(is_v6);
            let mut found = 0;
            for address in &addresses {
                let country = database.country(*address);
                assert_eq!(country, as_read(&reader, *address), "{address}");
                found += usize::from(country.is_some());
            }
            let own = time(&addresses, |address| database.country(address));
            let read = time(&addresses, |address| as_read(&reader, address));
            println!(
                "{}: {:.1} ns (p99 of batches {:.1}); by the reader {:.0} ns ({:.0}); {found} of {LOOKUPS} have \
                 a country, all as the reader says",
                if is_v6 { "IPv6" } else { "IPv4" },
                own.0,
                own.1,
                read.0,
                read.1,
            );
        }
    }
}

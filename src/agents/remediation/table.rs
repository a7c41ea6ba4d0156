//! Which addresses are listed.

use std::net::{IpAddr, Ipv6Addr};

/// A set of addresses, as sorted ranges that neither touch nor overlap: one binary search a
/// lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressTable {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl AddressTable {
    /// Adds a network; the bits of `address` beyond the prefix do not count. IPv4-mapped networks
    /// are IPv4 ones.
    pub(super) fn insert(&mut self, address: IpAddr, prefix_len: u8) {
        /// Where IPv4-mapped addresses begin in IPv6, in bits.
        const MAPPED: u8 = 96;
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
                let bits = address.to_bits();
                self.v4.push((bits & !mask, bits | mask));
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
                let (first, last) = (address.to_bits() & !mask, address.to_bits() | mask);
                match Ipv6Addr::from_bits(first).to_ipv4_mapped() {
                    Some(mapped) if prefix_len >= MAPPED => {
                        self.insert(IpAddr::V4(mapped), prefix_len - MAPPED);
                    }
                    _ => self.v6.push((first, last)),
                }
            }
        }
    }

    /// Sorts and joins the ranges; to be called after the last [`insert`](Self::insert).
    pub(super) fn finish(&mut self) {
        join(&mut self.v4, |last| last.checked_add(1));
        join(&mut self.v6, |last| last.checked_add(1));
    }

    /// Whether the address is listed. An IPv4-mapped IPv6 address counts as IPv4.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => contains(&self.v4, address.to_bits()),
            IpAddr::V6(address) => contains(&self.v6, address.to_bits()),
        }
    }

    /// How many separate ranges the list came down to.
    #[must_use]
    pub const fn range_count(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

#[inline]
fn contains<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after > 0 && address <= ranges[after - 1].1
}

fn join<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let touches = next(earlier.1).is_none_or(|next| later.0 <= next);
        if touches {
            earlier.1 = earlier.1.max(later.1);
        }
        touches
    });
    ranges.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(networks: &[(&str, u8)]) -> AddressTable {
        let mut table = AddressTable::default();
        for (address, prefix_len) in networks {
            table.insert(address.parse().unwrap(), *prefix_len);
        }
        table.finish();
        table
    }

    #[test]
    fn overlapping_and_touching_networks_become_one_range() {
        let table = table(&[
            ("10.0.0.0", 9),
            ("10.128.0.0", 9),
            ("10.1.0.0", 16),
            ("11.0.0.1", 32),
        ]);
        assert_eq!(table.range_count(), 2);
        for (address, listed) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("11.0.0.1", true),
            ("11.0.0.2", false),
            ("::ffff:10.9.9.9", true),
        ] {
            assert_eq!(
                table.contains(address.parse().unwrap()),
                listed,
                "{address}"
            );
        }
    }

    #[test]
    fn the_ends_of_the_address_spaces() {
        let everything = table(&[("0.0.0.0", 0), ("::", 0), ("255.255.255.255", 32)]);
        for address in [
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "ffff::",
            "::ffff:1.2.3.4",
        ] {
            assert!(everything.contains(address.parse().unwrap()), "{address}");
        }
        assert_eq!(everything.range_count(), 2);
        assert!(!AddressTable::default().contains("0.0.0.0".parse().unwrap()));
    }

    #[test]
    fn agrees_with_a_linear_search() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let networks: Vec<(u32, u8)> = (0..500)
            .map(|_| (random(), u8::try_from(8 + random() % 25).unwrap()))
            .collect();
        let mut table = AddressTable::default();
        for &(address, prefix_len) in &networks {
            table.insert(IpAddr::V4(address.into()), prefix_len);
        }
        table.finish();
        for _ in 0..20_000 {
            let address = random();
            let listed = networks
                .iter()
                .any(|&(network, len)| (network ^ address) >> (32 - len) == 0);
            assert_eq!(table.contains(IpAddr::V4(address.into())), listed);
        }
    }
}

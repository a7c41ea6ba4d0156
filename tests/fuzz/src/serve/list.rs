//! Ban lists.

use std::net::{IpAddr, Ipv6Addr};

use ringspoa::agents::remediation::parse_list;

/// A network as 128 bits of address and how many of them count; IPv4 has those of its mapped form.
struct Network {
    bits: u128,
    prefix_len: u32,
}

/// A list is taken or refused as line by line reading says, and has the addresses that comparing
/// bit by bit finds in it, of all the ends of its networks and their neighbours.
pub fn list(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = parse_list(text);
    let networks = match naive_list(text) {
        Ok(networks) => networks,
        Err(line) => {
            let error = parsed.expect_err("a line is neither address nor network");
            assert_eq!(error.line, line, "{error}");
            assert!(!error.reason.is_empty());
            return;
        }
    };
    let table = parsed.expect("each line is an address or a network");
    assert!(table.range_count() <= networks.len());
    let mut probes = vec![0, u128::MAX, mapped(0), mapped(u32::MAX)];
    for network in &networks {
        let host = u128::MAX.checked_shr(network.prefix_len).unwrap_or(0);
        let (first, last) = (network.bits & !host, network.bits | host);
        probes.extend([first, first.wrapping_sub(1), last, last.wrapping_add(1)]);
        probes.push(network.bits);
    }
    for bits in probes {
        let address = Ipv6Addr::from_bits(bits);
        let listed = networks.iter().any(|network| network.has(address));
        assert_eq!(table.contains(IpAddr::V6(address)), listed, "{address}");
        if let Some(address) = address.to_ipv4_mapped() {
            assert_eq!(table.contains(IpAddr::V4(address)), listed, "{address}");
        }
    }
}

fn mapped(bits: u32) -> u128 {
    0xffff << 32 | u128::from(bits)
}

impl Network {
    fn has(&self, address: Ipv6Addr) -> bool {
        // A network of IPv6 that reaches around the mapped addresses does not list IPv4.
        let is_mapped = address.to_ipv4_mapped().is_some();
        let of_mapped = self.prefix_len >= 96 && self.bits >> 32 == 0xffff;
        let differ = self.bits ^ address.to_bits();
        is_mapped == of_mapped && differ.leading_zeros() >= self.prefix_len
    }
}

/// The networks, or the number of the first line that is none.
fn naive_list(text: &str) -> Result<Vec<Network>, usize> {
    let mut networks = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let entry = line.find('#').map_or(line, |at| &line[..at]).trim();
        if !entry.is_empty() {
            networks.push(naive_entry(entry).ok_or(index + 1)?);
        }
    }
    Ok(networks)
}

fn naive_entry(entry: &str) -> Option<Network> {
    let mut parts = entry.splitn(2, '/');
    let (bits, width, offset) = match parts.next()?.parse().ok()? {
        IpAddr::V4(address) => (mapped(address.to_bits()), 32, 96),
        IpAddr::V6(address) => (address.to_bits(), 128, 0),
    };
    let prefix_len = match parts.next() {
        Some(digits) => digits.parse::<u8>().ok().map(u32::from)?,
        None => width,
    };
    let network = Network {
        bits,
        prefix_len: prefix_len + offset,
    };
    (prefix_len <= width).then_some(network)
}

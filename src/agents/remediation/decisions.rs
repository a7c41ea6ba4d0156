//! Ban lists as text: one address or network a line.

use std::fmt;
use std::net::IpAddr;

use super::table::AddressTable;

/// The networks set aside for documentation (RFC 5737, RFC 3849) and benchmarks (RFC 2544): what
/// the server bans until it is given a list, so that it can be tried out.
const EMBEDDED: &str = "\
192.0.2.0/24
198.51.100.0/24
203.0.113.0/24
198.18.0.0/15
2001:db8::/32
";

/// The list used when none is given.
///
/// # Panics
///
/// Never: the list is checked by a test.
#[must_use]
pub fn embedded() -> AddressTable {
    parse_list(EMBEDDED).expect("the embedded list is valid")
}

/// A line that is neither address nor network.
#[derive(Clone, PartialEq, Eq)]
pub struct ListError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// As `Display`: this is what a `main` that returns it prints, and an `unwrap`.
impl fmt::Debug for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ListError {}

/// Reads a list: one address or CIDR network a line; `#` begins a comment; empty lines do not
/// count. An IPv4-mapped IPv6 address counts as IPv4. Bits of a network's address beyond its prefix
/// are ignored.
///
/// # Errors
///
/// The first line that is neither.
pub fn parse_list(text: &str) -> Result<AddressTable, ListError> {
    let mut table = AddressTable::default();
    for (index, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let (address, prefix_len) = parse_entry(entry).map_err(|reason| ListError {
            line: index + 1,
            reason,
        })?;
        table.insert(address, prefix_len);
    }
    table.finish();
    Ok(table)
}

fn parse_entry(entry: &str) -> Result<(IpAddr, u8), String> {
    let (address, prefix) = match entry.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (entry, None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("'{entry}' is not an address or network, as in 192.0.2.0/24"))?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let prefix_len = match prefix {
        None => width,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|len| *len <= width)
            .ok_or_else(|| format!("'{entry}': the prefix length is from 0 to {width}"))?,
    };
    Ok((address, prefix_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_spaces_and_both_families() {
        let list = "# heading\n\n 192.0.2.1 # one\r\n2001:db8::/32\n::ffff:198.51.100.0/120\n";
        let table = parse_list(list).unwrap();
        let banned = |address: &str| table.contains(address.parse().unwrap());
        assert!(banned("192.0.2.1") && banned("2001:db8::1") && banned("198.51.100.9"));
        assert!(!banned("192.0.2.2") && !banned("2001:db9::1"));
    }

    #[test]
    fn bad_lines_are_named() {
        for (list, line, part) in [
            ("192.0.2.1\nnonsense\n", 2, "'nonsense'"),
            ("192.0.2.0/33", 1, "from 0 to 32"),
            ("\n\n2001:db8::/129", 3, "from 0 to 128"),
            ("192.0.2.0/", 1, "prefix length"),
            ("192.0.2.1 192.0.2.2", 1, "not an address"),
        ] {
            let error = parse_list(list).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.reason.contains(part), "{error}");
        }
    }

    #[test]
    fn the_embedded_list_is_the_documentation_and_benchmark_networks() {
        let table = embedded();
        let banned = |address: &str| table.contains(address.parse().unwrap());
        for address in [
            "192.0.2.255",
            "198.51.100.0",
            "203.0.113.9",
            "198.19.255.255",
            "2001:db8:ffff::",
        ] {
            assert!(banned(address), "{address}");
        }
        for address in ["192.0.3.0", "198.20.0.0", "10.0.0.1", "2001:db9::", "::1"] {
            assert!(!banned(address), "{address}");
        }
    }
}

//! Networks: an address and how many of its bits count.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Where IPv4-mapped addresses begin in IPv6, in bits.
const MAPPED_PREFIX_LEN: u8 = 96;

/// A network of IPv4 or IPv6. The bits beyond its prefix are zero; one of IPv4-mapped addresses is kept
/// as the IPv4 network it is, so that each has one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    first: IpAddr,
    prefix_len: u8,
}

impl Network {
    /// The network of this address and prefix; bits beyond the prefix do not count. `None` if the
    /// prefix is longer than such addresses are.
    #[must_use]
    pub fn new(address: IpAddr, prefix_len: u8) -> Option<Self> {
        match address {
            IpAddr::V4(address) => {
                let host = host_bits_v4(prefix_len)?;
                let first = IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & !host));
                Some(Self { first, prefix_len })
            }
            IpAddr::V6(address) => {
                let first = Ipv6Addr::from_bits(address.to_bits() & !host_bits_v6(prefix_len)?);
                match first.to_ipv4_mapped() {
                    Some(mapped) if prefix_len >= MAPPED_PREFIX_LEN => Some(Self {
                        first: IpAddr::V4(mapped),
                        prefix_len: prefix_len - MAPPED_PREFIX_LEN,
                    }),
                    _ => Some(Self {
                        first: IpAddr::V6(first),
                        prefix_len,
                    }),
                }
            }
        }
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// How many bits from the front all its addresses share.
    #[must_use]
    pub const fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether it is a single address.
    #[must_use]
    pub const fn is_address(&self) -> bool {
        self.prefix_len == if self.first.is_ipv4() { 32 } else { 128 }
    }

    /// Whether the address is in it. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.first.is_ipv4() == address.is_ipv4()
            && Self::new(address, self.prefix_len).is_some_and(|network| network == *self)
    }

    /// The networks that together are the addresses from `first` to `last`, and no other: at most 62
    /// for IPv4 and 254 for IPv6. `None` if the two are of different families, or `last` is before
    /// `first`.
    #[must_use]
    pub fn between(first: IpAddr, last: IpAddr) -> Option<Networks> {
        let (first, last, width) = match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (first.to_bits().into(), last.to_bits().into(), 32)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits(), 128),
            _ => return None,
        };
        (first <= last).then_some(Networks {
            next: Some(first),
            last,
            width,
        })
    }
}

/// The bits an IPv4 prefix leaves open.
fn host_bits_v4(prefix_len: u8) -> Option<u32> {
    (prefix_len <= 32).then(|| u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0))
}

/// The bits an IPv6 prefix leaves open.
fn host_bits_v6(prefix_len: u8) -> Option<u128> {
    (prefix_len <= 128).then(|| u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0))
}

/// The networks of a range, from its first address on; see [`Network::between`].
#[derive(Clone, Debug)]
pub struct Networks {
    next: Option<u128>,
    last: u128,
    width: u8,
}

impl Iterator for Networks {
    type Item = Network;

    fn next(&mut self) -> Option<Network> {
        let first = self.next?;
        // The largest network that begins here and ends in time.
        let aligned = first.trailing_zeros().min(self.width.into());
        let count = (self.last - first).saturating_add(1);
        let open = aligned.min(count.ilog2());
        // All of IPv6 has one address more than a count can say.
        let open = match (first, self.last) {
            (0, u128::MAX) => 128,
            _ => open,
        };
        let host = u128::MAX.checked_shr(128 - open).unwrap_or(0);
        let end = first | host;
        self.next = (end < self.last).then(|| end + 1);
        let open = u8::try_from(open).expect("at most 128 bits are open");
        let address = if self.width == 32 {
            let bits = u32::try_from(first).expect("an IPv4 address has 32 bits");
            IpAddr::V4(Ipv4Addr::from_bits(bits))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(first))
        };
        Network::new(address, self.width - open)
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let first = address.to_canonical();
        let prefix_len = if first.is_ipv4() { 32 } else { 128 };
        Self { first, prefix_len }
    }
}

impl fmt::Display for Network {
    /// `192.0.2.0/24`; an address alone is without its prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_address() {
            self.first.fmt(f)
        } else {
            write!(f, "{}/{}", self.first, self.prefix_len)
        }
    }
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkError {
    /// Not an address.
    Address,
    /// Not a prefix length of such addresses; the longest there is, in bits.
    PrefixLen(u8),
    /// The two ends of a range are not of one family, or the last is before the first.
    Ends,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("not an address or network, as in 192.0.2.0/24"),
            Self::PrefixLen(longest) => write!(f, "the prefix length is from 0 to {longest}"),
            Self::Ends => f.write_str("a range goes from its first address to its last"),
        }
    }
}

impl std::error::Error for NetworkError {}

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads an address, or an address and its prefix length as in `192.0.2.0/24`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((address, digits)) = text.split_once('/') else {
            let address: IpAddr = text.parse().map_err(|_| NetworkError::Address)?;
            return Ok(address.into());
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        digits
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|prefix_len| Self::new(address, prefix_len))
            .ok_or(NetworkError::PrefixLen(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn each_network_has_one_form() {
        for (text, shown) in [
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("::1/0", "::/0"),
            ("2001:db8::1/128", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.1/96", "0.0.0.0/0"),
            ("::ffff:192.0.2.1/95", "::fffe:0:0/95"),
        ] {
            assert_eq!(network(text).to_string(), shown, "{text}");
        }
        for (text, error) in [
            ("", NetworkError::Address),
            ("192.0.2", NetworkError::Address),
            ("192.0.2.0/", NetworkError::PrefixLen(32)),
            ("192.0.2.0/33", NetworkError::PrefixLen(32)),
            ("192.0.2.0/+8", NetworkError::PrefixLen(32)),
            ("::/129", NetworkError::PrefixLen(128)),
            ("::/300", NetworkError::PrefixLen(128)),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }

    #[test]
    fn ranges_are_taken_apart_without_a_gap() {
        let apart = |first: &str, last: &str| {
            let networks = Network::between(first.parse().unwrap(), last.parse().unwrap());
            let shown: Vec<String> = networks.unwrap().map(|n| n.to_string()).collect();
            shown.join(" ")
        };
        assert_eq!(apart("192.0.2.1", "192.0.2.1"), "192.0.2.1");
        assert_eq!(apart("10.0.0.0", "10.0.0.255"), "10.0.0.0/24");
        let (first, last) = ("10.0.0.1", "10.0.0.6");
        assert_eq!(
            apart(first, last),
            "10.0.0.1 10.0.0.2/31 10.0.0.4/31 10.0.0.6"
        );
        assert_eq!(apart("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(apart("::", all), "::/0");
        assert_eq!(apart("8000::", all), "8000::/1");
        assert_eq!(apart("::ffff:10.0.0.0", "10.0.0.1"), "10.0.0.0/31");
        let count = |first: &str, last: &str| apart(first, last).split(' ').count();
        assert_eq!(count("0.0.0.1", "255.255.255.254"), 62);
        assert_eq!(count("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), 254);
        for (first, last) in [("10.0.0.2", "10.0.0.1"), ("10.0.0.1", "::1")] {
            assert!(Network::between(first.parse().unwrap(), last.parse().unwrap()).is_none());
        }
    }

    #[test]
    fn the_ends_are_inside_and_their_neighbours_outside() {
        for (text, inside, outside) in [
            ("10.0.0.0/9", "10.127.255.255", "10.128.0.0"),
            ("10.0.0.1/32", "::ffff:10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
        ] {
            assert!(network(text).contains(inside.parse().unwrap()), "{text}");
            assert!(!network(text).contains(outside.parse().unwrap()), "{text}");
        }
    }
}

//! Whom a token is for: short keyed hashes of what HAProxy says of a visitor.
//!
//! A token has a hash of each instead of the thing itself, so that nothing of the visitor can be read in
//! it; and each hash by itself, so that which of them differs is known.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::keyring::sip_hasher;
use super::scope::Scope;
use super::token::Flags;

/// What HAProxy says of a request and the visitor who makes it, and what time it is. What is `None` HAProxy
/// does not send at all, and nothing is bound to it; what it sends empty counts as any other value.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// Whom cookies are for.
    pub scope: &'a Scope<'a>,
    /// Where the visitor is.
    pub address: Option<IpAddr>,
    /// The value of `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// What HAProxy knows of the visitor's TLS.
    pub tls: Option<&'a [u8]>,
    /// The second since 1970 that it is.
    pub now_unix_s: u64,
}

/// What tokens are bound to, where HAProxy sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingRules {
    ipv4_prefix: Option<u8>,
    ipv6_prefix: Option<u8>,
    user_agent: bool,
    tls: bool,
}

impl Default for BindingRules {
    /// The whole of an IPv4 address, the first 64 bits of an IPv6 address, and the user agent.
    fn default() -> Self {
        Self {
            ipv4_prefix: Some(32),
            ipv6_prefix: Some(64),
            user_agent: true,
            tls: false,
        }
    }
}

impl BindingRules {
    /// Rules with so many bits of addresses, 24 to 32 of IPv4 and 48 to 64 of IPv6, or without.
    ///
    /// # Errors
    ///
    /// The prefix that is not in its range.
    pub fn new(
        ipv4_prefix: Option<u8>,
        ipv6_prefix: Option<u8>,
        user_agent: bool,
        tls: bool,
    ) -> Result<Self, BindingError> {
        if let Some(prefix) = ipv4_prefix.filter(|prefix| !(24..=32).contains(prefix)) {
            return Err(BindingError::Ipv4Prefix(prefix));
        }
        if let Some(prefix) = ipv6_prefix.filter(|prefix| !(48..=64).contains(prefix)) {
            return Err(BindingError::Ipv6Prefix(prefix));
        }
        Ok(Self {
            ipv4_prefix,
            ipv6_prefix,
            user_agent,
            tls,
        })
    }

    /// These, of what a token with such flags is bound to.
    pub(super) fn only(self, flags: Flags) -> Self {
        let is_bound = flags.binds_address();
        Self {
            ipv4_prefix: self.ipv4_prefix.filter(|_| is_bound),
            ipv6_prefix: self.ipv6_prefix.filter(|_| is_bound),
            user_agent: self.user_agent && flags.binds_user_agent(),
            tls: self.tls && flags.binds_tls(),
        }
    }
}

/// Why rules are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindingError {
    /// So many bits of IPv4.
    Ipv4Prefix(u8),
    /// So many bits of IPv6.
    Ipv6Prefix(u8),
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4Prefix(prefix) => write!(f, "the IPv4 prefix is {prefix}: want 24 to 32"),
            Self::Ipv6Prefix(prefix) => write!(f, "the IPv6 prefix is {prefix}: want 48 to 64"),
        }
    }
}

impl std::error::Error for BindingError {}

/// Hashes of what a token is bound to; zeros of what it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Of the address.
    pub address: [u8; 6],
    /// Of the user agent.
    pub user_agent: [u8; 3],
    /// Of the TLS.
    pub tls: [u8; 3],
}

impl Tags {
    pub(super) const LEN: usize = 12;

    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..6].copy_from_slice(&self.address);
        bytes[6..9].copy_from_slice(&self.user_agent);
        bytes[9..].copy_from_slice(&self.tls);
        bytes
    }

    pub(super) const fn of_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            address: [a, b, c, d, e, f],
            user_agent: [g, h, i],
            tls: [j, k, l],
        }
    }
}

/// What of a token is another visitor's. In this order it is told: who has another address and nothing
/// else may be the same visitor in another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    Tls,
    UserAgent,
    Address,
}

/// A key for each tag.
#[derive(Clone)]
pub(super) struct TagKeys {
    address: SipHasher24,
    user_agent: SipHasher24,
    tls: SipHasher24,
}

impl TagKeys {
    pub(super) fn new(key: &[u8; 48]) -> Self {
        let part = |index: usize| {
            let part = key[16 * index..].first_chunk();
            sip_hasher(part.expect("there are three parts"))
        };
        Self {
            address: part(0),
            user_agent: part(1),
            tls: part(2),
        }
    }

    /// The tags of a visitor and the flags that say which there are, and of which family the address is.
    pub(super) fn tags(&self, rules: &BindingRules, visit: &Visit<'_>) -> (Tags, Flags) {
        let mut tags = Tags::default();
        let mut flags = Flags::default();
        if let Some(address) = visit.address {
            flags.set_ipv6(address.to_canonical().is_ipv6());
            if let Some(tag) = self.address(rules, address) {
                tags.address = tag;
                flags.bind_address();
            }
        }
        if let Some(user_agent) = visit.user_agent.filter(|_| rules.user_agent) {
            tags.user_agent = short(&self.user_agent, user_agent);
            flags.bind_user_agent();
        }
        if let Some(tls) = visit.tls.filter(|_| rules.tls) {
            tags.tls = short(&self.tls, tls);
            flags.bind_tls();
        }
        (tags, flags)
    }

    /// Whether the visitor is who these tags are of.
    ///
    /// What the rules do not ask for is not compared. What they ask for has to be the same; that goes for
    /// whether it is there, too.
    pub(super) fn compare(
        &self,
        rules: &BindingRules,
        visit: &Visit<'_>,
        tags: &Tags,
        flags: Flags,
    ) -> Result<(), Mismatch> {
        let differs = |wanted: bool, value: Option<&[u8]>, hasher, is_bound: bool, tag: [u8; 3]| {
            wanted
                && match value {
                    Some(value) => !is_bound || short(hasher, value) != tag,
                    None => is_bound,
                }
        };
        if differs(rules.tls, visit.tls, &self.tls, flags.binds_tls(), tags.tls) {
            return Err(Mismatch::Tls);
        }
        if differs(
            rules.user_agent,
            visit.user_agent,
            &self.user_agent,
            flags.binds_user_agent(),
            tags.user_agent,
        ) {
            return Err(Mismatch::UserAgent);
        }
        let is_other = match visit.address {
            Some(address) => self
                .address(rules, address)
                .is_some_and(|tag| !flags.binds_address() || tag != tags.address),
            None => flags.binds_address() && rules.prefix(flags.is_ipv6()).is_some(),
        };
        if is_other {
            return Err(Mismatch::Address);
        }
        Ok(())
    }

    fn address(&self, rules: &BindingRules, address: IpAddr) -> Option<[u8; 6]> {
        // The prefix is hashed too: a network is not its first address.
        let mut bytes = [0; 17];
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let prefix = rules.ipv4_prefix?;
                let mask = u32::MAX << (32 - u32::from(prefix));
                bytes[0] = prefix;
                bytes[1..5].copy_from_slice(&(address.to_bits() & mask).to_be_bytes());
                Some(long(&self.address, &bytes[..5]))
            }
            IpAddr::V6(address) => {
                let prefix = rules.ipv6_prefix?;
                let mask = u128::MAX << (128 - u32::from(prefix));
                bytes[0] = prefix;
                bytes[1..].copy_from_slice(&(address.to_bits() & mask).to_be_bytes());
                Some(long(&self.address, &bytes))
            }
        }
    }
}

impl BindingRules {
    const fn prefix(&self, is_ipv6: bool) -> Option<u8> {
        if is_ipv6 {
            self.ipv6_prefix
        } else {
            self.ipv4_prefix
        }
    }
}

fn long(hasher: &SipHasher24, bytes: &[u8]) -> [u8; 6] {
    *hasher
        .hash(bytes)
        .to_be_bytes()
        .first_chunk()
        .expect("8 bytes")
}

fn short(hasher: &SipHasher24, bytes: &[u8]) -> [u8; 3] {
    *hasher
        .hash(bytes)
        .to_be_bytes()
        .first_chunk()
        .expect("8 bytes")
}

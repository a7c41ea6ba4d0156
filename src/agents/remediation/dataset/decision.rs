//! What a decision is: whom it is about, what is to be done, who said so and until when.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::network::{Network, NetworkError};

/// What is done about a client, from the mildest to the hardest: the higher of two wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Remediation {
    /// The client may pass.
    #[default]
    Allow,
    /// A word that means nothing here: the client may pass, and is told apart.
    Unknown,
    /// The client has to solve a captcha.
    Captcha,
    /// The client is turned away.
    Ban,
}

impl Remediation {
    /// The remediation of this word, exactly as it is spelt here; any other word is `Unknown`.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "allow" => Self::Allow,
            "captcha" => Self::Captcha,
            "ban" => Self::Ban,
            _ => Self::Unknown,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Unknown => "unknown",
            Self::Captcha => "captcha",
            Self::Ban => "ban",
        }
    }
}

impl fmt::Display for Remediation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When a decision ends, in whole seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(u32);

impl Expiry {
    /// It does not end by itself.
    pub const NEVER: Self = Self(u32::MAX);

    /// It ends at this second. Four bytes reach to the year 2106; what is later ends in that year.
    #[must_use]
    pub fn at(unix_s: u64) -> Self {
        Self(u32::try_from(unix_s).map_or(u32::MAX - 1, |second| second.min(u32::MAX - 1)))
    }

    /// The second it ends at, `None` for never.
    #[must_use]
    pub fn unix_s(self) -> Option<u64> {
        (self != Self::NEVER).then_some(u64::from(self.0))
    }

    /// Whether it has ended by this second.
    #[inline]
    #[must_use]
    pub fn is_past(self, now_unix_s: u64) -> bool {
        self != Self::NEVER && u64::from(self.0) <= now_unix_s
    }
}

/// A country by its ISO 3166 code of two letters, kept in capitals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode([u8; 2]);

impl CountryCode {
    /// The code of two letters, large or small; `None` for any other text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(letters.map(|letter| letter.to_ascii_uppercase())))
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a code is of ASCII letters")
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Whom a decision is about: its scope and value in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// An address, which is a network with no bit left open, or a range.
    Network(Network),
    /// Every address of a country.
    Country(CountryCode),
    /// Every address of an autonomous system, by its number.
    AsNumber(u32),
}

impl Subject {
    /// Reads the scope and value of a record. Scopes are compared without regard to case; the value of
    /// `ip` may be a network, and that of `range` an address.
    ///
    /// # Errors
    ///
    /// A scope that is not one of `ip`, `range`, `country` and `as`, or a value that is none of its
    /// scope.
    pub fn parse(scope: &str, value: &str) -> Result<Self, SubjectError> {
        let is = |name: &str| scope.eq_ignore_ascii_case(name);
        if is("ip") || is("range") {
            Ok(Self::Network(value.parse().map_err(SubjectError::Network)?))
        } else if is("country") {
            let country = CountryCode::new(value);
            Ok(Self::Country(country.ok_or(SubjectError::Country)?))
        } else if is("as") {
            let digits = match value.as_bytes() {
                [b'A' | b'a', b'S' | b's', ..] => &value[2..],
                _ => value,
            };
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse().ok().filter(|_| is_number);
            Ok(Self::AsNumber(number.ok_or(SubjectError::AsNumber)?))
        } else {
            Err(SubjectError::Scope)
        }
    }

    /// The scope as CrowdSec writes it.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        match self {
            Self::Network(network) if network.is_address() => "Ip",
            Self::Network(_) => "Range",
            Self::Country(_) => "Country",
            Self::AsNumber(_) => "AS",
        }
    }
}

impl From<IpAddr> for Subject {
    fn from(address: IpAddr) -> Self {
        Self::Network(address.into())
    }
}

impl From<Network> for Subject {
    fn from(network: Network) -> Self {
        Self::Network(network)
    }
}

impl fmt::Display for Subject {
    /// The value alone: an address, a network, two letters, or `AS` and a number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Country(country) => country.fmt(f),
            Self::AsNumber(number) => write!(f, "AS{number}"),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    /// Reads a value whose scope is not said: an address, a network, or `AS` and a number.
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value.as_bytes() {
            [b'A' | b'a', b'S' | b's', b'0'..=b'9', ..] => Self::parse("as", value),
            _ => Self::parse("range", value),
        }
    }
}

/// Why a scope and value name nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubjectError {
    /// Not one of the scopes that are looked up.
    Scope,
    /// Neither address nor network.
    Network(NetworkError),
    /// Not a country code of two letters.
    Country,
    /// Not the number of an autonomous system.
    AsNumber,
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope => f.write_str("the scopes are ip, range, country and as"),
            Self::Network(error) => error.fmt(f),
            Self::Country => f.write_str("not a country code of two letters, as in FR"),
            Self::AsNumber => f.write_str("not a number of an autonomous system, as in AS64500"),
        }
    }
}

impl std::error::Error for SubjectError {}

/// One decision of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whom it is about.
    pub subject: Subject,
    /// The word for what is to be done. What a word means is said by [`Remediation::from_word`] and
    /// [`DecisionStore::set_word`](super::DecisionStore::set_word).
    pub remediation: &'a str,
    /// Who decided: `cscli`, `CAPI`, `lists:tor-exit-nodes`, the name of a file.
    pub origin: &'a str,
    /// Until when.
    pub expiry: Expiry,
    /// The number its source knows it by.
    pub id: Option<i64>,
}

impl<'a> Decision<'a> {
    /// A decision that does not end, without an id.
    #[must_use]
    pub fn new(subject: impl Into<Subject>, remediation: &'a str, origin: &'a str) -> Self {
        Self {
            subject: subject.into(),
            remediation,
            origin,
            expiry: Expiry::NEVER,
            id: None,
        }
    }

    /// The same, until `expiry`.
    #[must_use]
    pub const fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// The same, with an id.
    #[must_use]
    pub const fn with_id(mut self, id: i64) -> Self {
        self.id = Some(id);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remediations_are_ordered_and_their_words_exact() {
        use Remediation::{Allow, Ban, Captcha, Unknown};
        assert!(Allow < Unknown && Unknown < Captcha && Captcha < Ban);
        for remediation in [Allow, Captcha, Ban] {
            assert_eq!(Remediation::from_word(remediation.as_str()), remediation);
        }
        for word in ["", "Ban", "mfa", "unknown", "ban "] {
            assert_eq!(Remediation::from_word(word), Unknown, "{word:?}");
        }
    }

    #[test]
    fn expiries() {
        assert!(!Expiry::NEVER.is_past(u64::MAX));
        assert_eq!(Expiry::NEVER.unix_s(), None);
        assert!(Expiry::at(10).is_past(10) && !Expiry::at(10).is_past(9));
        for later in [u64::from(u32::MAX), u64::MAX] {
            assert_eq!(Expiry::at(later).unix_s(), Some(u64::from(u32::MAX) - 1));
        }
    }

    #[test]
    fn subjects_by_scope_and_value() {
        for (scope, value, shown) in [
            ("Ip", "192.0.2.1", "Ip 192.0.2.1"),
            ("ip", "192.0.2.0/24", "Range 192.0.2.0/24"),
            ("RANGE", "192.0.2.1/32", "Ip 192.0.2.1"),
            ("range", "2001:db8::1/32", "Range 2001:db8::/32"),
            ("Country", "fr", "Country FR"),
            ("AS", "64500", "AS AS64500"),
            ("as", "as64500", "AS AS64500"),
        ] {
            let subject = Subject::parse(scope, value).unwrap();
            assert_eq!(format!("{} {subject}", subject.scope()), shown);
        }
        for (scope, value, error) in [
            ("username", "root", SubjectError::Scope),
            ("country", "FRA", SubjectError::Country),
            ("country", "é", SubjectError::Country),
            ("as", "+1", SubjectError::AsNumber),
            ("as", "AS", SubjectError::AsNumber),
            ("as", "4294967296", SubjectError::AsNumber),
        ] {
            assert_eq!(Subject::parse(scope, value), Err(error), "{scope} {value}");
        }
        assert_eq!("AS7".parse(), Ok(Subject::AsNumber(7)));
        assert!("FR".parse::<Subject>().is_err());
    }
}

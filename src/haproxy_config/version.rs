//! Releases of HAProxy, as far as SPOE differs between them.

use std::fmt;
use std::str::FromStr;

/// A branch of HAProxy: 3.2, whatever follows after that.
///
/// ```
/// use ringspoa::haproxy_config::HaproxyVersion;
///
/// let version: HaproxyVersion = "3.0".parse()?;
/// assert!(version < HaproxyVersion::V3_1 && !version.has_multiplexer());
/// # Ok::<(), ringspoa::haproxy_config::UnknownVersion>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HaproxyVersion {
    major: u8,
    minor: u8,
}

impl HaproxyVersion {
    /// 2.6.
    pub const V2_6: Self = Self::new(2, 6);
    /// 2.8.
    pub const V2_8: Self = Self::new(2, 8);
    /// 3.0, the last one with the applet.
    pub const V3_0: Self = Self::new(3, 0);
    /// 3.1, the first one with the multiplexer.
    pub const V3_1: Self = Self::new(3, 1);
    /// 3.2.
    pub const V3_2: Self = Self::new(3, 2);
    /// 3.3.
    pub const V3_3: Self = Self::new(3, 3);
    /// Those that can be named.
    pub const KNOWN: [Self; 6] = [
        Self::V2_6,
        Self::V2_8,
        Self::V3_0,
        Self::V3_1,
        Self::V3_2,
        Self::V3_3,
    ];

    /// Any branch.
    #[must_use]
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// Whether SPOP is a multiplexer as for HTTP/2, as from 3.1 on, and not an applet of the filter.
    #[must_use]
    pub fn has_multiplexer(self) -> bool {
        self >= Self::V3_1
    }
}

impl fmt::Display for HaproxyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that names no version in [`HaproxyVersion::KNOWN`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVersion(String);

impl fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HAProxy version '{}' is none of", self.0)?;
        for (index, version) in HaproxyVersion::KNOWN.iter().enumerate() {
            let separator = match index {
                0 => "",
                index if index + 1 == HaproxyVersion::KNOWN.len() => " and",
                _ => ",",
            };
            write!(f, "{separator} {version}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownVersion {}

impl FromStr for HaproxyVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let known = Self::KNOWN.into_iter();
        known
            .into_iter()
            .find(|version| version.to_string() == text)
            .ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_version_is_read_as_it_is_written_and_they_are_in_order() {
        for version in HaproxyVersion::KNOWN {
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        assert!(HaproxyVersion::KNOWN.is_sorted());
        assert!(HaproxyVersion::new(2, 10) > HaproxyVersion::V2_8);
        let error = "2.5".parse::<HaproxyVersion>().unwrap_err().to_string();
        assert_eq!(
            error,
            "HAProxy version '2.5' is none of 2.6, 2.8, 3.0, 3.1, 3.2 and 3.3"
        );
    }

    #[test]
    fn the_multiplexer_came_with_3_1() {
        assert!(!HaproxyVersion::V3_0.has_multiplexer());
        assert!(HaproxyVersion::V3_1.has_multiplexer());
        assert!(HaproxyVersion::new(4, 0).has_multiplexer());
    }
}

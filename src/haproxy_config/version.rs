//! Versions of HAProxy, as far as configurations differ by them.

use std::fmt;
use std::str::FromStr;

/// A version of HAProxy, without the number of the bug-fix release: `3.2`.
///
/// ```
/// use ringspoa::HaproxyVersion;
///
/// let version: HaproxyVersion = "3.2.4".parse()?;
/// assert_eq!(version, HaproxyVersion::V3_2);
/// assert!(version.has_multiplexer());
/// # Ok::<(), ringspoa::HaproxyVersionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HaproxyVersion {
    /// The 3 of 3.2.
    pub major: u8,
    /// The 2 of 3.2.
    pub minor: u8,
}

impl HaproxyVersion {
    /// 2.6, the oldest that is supported.
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

    /// The version MAJOR.MINOR.
    #[must_use]
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// Whether SPOP is a multiplexer as for HTTP/2, as from 3.1 on, and not an applet of the filter: its
    /// backends have `mode spop`, and the timeouts `hello` and `idle` are not used.
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

/// `MAJOR.MINOR`; what follows after another full stop or a hyphen is not looked at, as in `2.6.12` and
/// `3.4-dev5`.
impl FromStr for HaproxyVersion {
    type Err = HaproxyVersionError;

    fn from_str(text: &str) -> Result<Self, HaproxyVersionError> {
        let number = |part: &str| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten()
        };
        let parsed = text.split_once('.').and_then(|(major, rest)| {
            let minor = rest.split(['.', '-']).next().unwrap_or(rest);
            Some(Self::new(number(major)?, number(minor)?))
        });
        parsed.ok_or_else(|| HaproxyVersionError(text.to_owned()))
    }
}

/// Text that is no version of HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxyVersionError(String);

impl fmt::Display for HaproxyVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is no version of HAProxy: want MAJOR.MINOR, as in 2.6 or 3.2",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for HaproxyVersionError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_bug_fix_release() {
        for (text, version) in [
            ("2.6", HaproxyVersion::V2_6),
            ("2.6.12", HaproxyVersion::V2_6),
            ("2.6.12-1+deb12u2", HaproxyVersion::V2_6),
            ("3.3-dev5", HaproxyVersion::V3_3),
            ("3.10", HaproxyVersion::new(3, 10)),
        ] {
            assert_eq!(text.parse(), Ok(version), "{text}");
        }
        assert_eq!(HaproxyVersion::V3_2.to_string(), "3.2");
    }

    #[test]
    fn what_is_no_version_is_said() {
        for text in ["", "3", "3.", ".2", "+3.2", "3.x", "v3.2", "3.300", "3,2"] {
            let error = text.parse::<HaproxyVersion>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")), "{error}");
            assert!(error.contains("MAJOR.MINOR"), "{error}");
        }
    }

    #[test]
    fn the_multiplexer_came_with_3_1() {
        assert!(HaproxyVersion::V3_1.has_multiplexer());
        assert!(HaproxyVersion::new(3, 10).has_multiplexer());
        assert!(!HaproxyVersion::V3_0.has_multiplexer());
        assert!(!HaproxyVersion::new(2, 9).has_multiplexer());
    }
}

//! What a level of a realm asks for.
//!
//! The bytes of a definition are in every signature that is made for the level: tokens and challenges of
//! a level that was changed since do not count.

use std::fmt;

/// The most parts that a puzzle has: with 16 digits each they fit a body of
/// [`MAX_BODY_LEN`](super::MAX_BODY_LEN).
pub const MAX_PARTS: u8 = 50;

/// The most iterations of one derivation: about a tenth of a second of the agent's time.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The longest name of a provider and site key, in bytes.
const MAX_TEXT_LEN: usize = 1024;

/// How visitors prove what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// They wait, and run a script.
    Wait,
    /// They look for nonces whose SHA-256 is low.
    Sha256 {
        /// How many hashes it takes, on average and over all parts.
        work: u32,
        /// How many puzzles that is divided into, which makes the time even: 1 to [`MAX_PARTS`].
        parts: u8,
    },
    /// They look for nonces with a low PBKDF2-HMAC-SHA-256, which browsers have built in.
    Pbkdf2 {
        /// How many derivations it takes, on average and over all parts.
        work: u32,
        /// As of `Sha256`; each part costs the agent a derivation too.
        parts: u8,
        /// The iterations of a derivation.
        iterations: u32,
    },
    /// They solve a captcha.
    Captcha {
        /// The provider's name, as configured.
        provider: String,
        /// The site key.
        site_key: String,
    },
}

/// The definition of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// How visitors prove what they are.
    pub method: Method,
    /// How long they have to wait at least, in seconds.
    pub wait_s: u32,
    /// How long they are admitted then, in seconds.
    pub duration_s: u32,
}

impl Level {
    /// Checks the figures.
    ///
    /// # Errors
    ///
    /// The first that is not in its range.
    pub fn check(&self) -> Result<(), LevelError> {
        if self.duration_s == 0 {
            return Err(LevelError::NoDuration);
        }
        match &self.method {
            Method::Wait => Ok(()),
            Method::Sha256 { work, parts } => check_work(*work, *parts),
            Method::Pbkdf2 {
                work,
                parts,
                iterations,
            } => {
                check_work(*work, *parts)?;
                if (1..=MAX_ITERATIONS).contains(iterations) {
                    Ok(())
                } else {
                    Err(LevelError::Iterations(*iterations))
                }
            }
            Method::Captcha { provider, site_key } => {
                let is_short = |text: &str| text.len() <= MAX_TEXT_LEN;
                if is_short(provider) && is_short(site_key) {
                    Ok(())
                } else {
                    Err(LevelError::TextTooLong)
                }
            }
        }
    }

    /// The bytes that are signed with whatever is of this level. Of what is not part of a method there are
    /// zeros; texts have their length in front.
    ///
    /// ```text
    /// 1 version | 1 method | 4 duration | 4 wait | 4 work | 1 parts | 4 iterations | provider | site key
    /// ```
    #[must_use]
    pub fn definition(&self) -> Vec<u8> {
        let (method, work, parts, iterations, provider, site_key) = match &self.method {
            Method::Wait => (0, 0, 0, 0, "", ""),
            Method::Sha256 { work, parts } => (1, *work, *parts, 0, "", ""),
            Method::Pbkdf2 {
                work,
                parts,
                iterations,
            } => (2, *work, *parts, *iterations, "", ""),
            Method::Captcha { provider, site_key } => (3, 0, 0, 0, &**provider, &**site_key),
        };
        let mut bytes = vec![1, method];
        bytes.extend(self.duration_s.to_be_bytes());
        bytes.extend(self.wait_s.to_be_bytes());
        bytes.extend(work.to_be_bytes());
        bytes.push(parts);
        bytes.extend(iterations.to_be_bytes());
        for text in [provider, site_key] {
            bytes.extend(super::keyring::len_prefix(text.as_bytes()));
            bytes.extend(text.as_bytes());
        }
        bytes
    }
}

const fn check_work(work: u32, parts: u8) -> Result<(), LevelError> {
    if parts == 0 || parts > MAX_PARTS {
        return Err(LevelError::Parts(parts));
    }
    if work == 0 {
        return Err(LevelError::NoWork);
    }
    Ok(())
}

/// Why a definition is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LevelError {
    /// Tokens would be over when they are made.
    NoDuration,
    /// A puzzle without work.
    NoWork,
    /// So many parts.
    Parts(u8),
    /// So many iterations.
    Iterations(u32),
    /// The name of a provider or a site key of more than 1,024 bytes.
    TextTooLong,
    /// More than 255 levels, or none.
    Count(usize),
    /// The name of a realm of more than 1,024 bytes.
    RealmTooLong,
}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDuration => f.write_str("the duration is 0: want 1 second or more"),
            Self::NoWork => f.write_str("the work is 0: want 1 or more"),
            Self::Parts(parts) => write!(f, "there are {parts} parts: want 1 to {MAX_PARTS}"),
            Self::Iterations(iterations) => {
                write!(
                    f,
                    "there are {iterations} iterations: want 1 to {MAX_ITERATIONS}"
                )
            }
            Self::TextTooLong => write!(
                f,
                "the provider's name or site key has more than {MAX_TEXT_LEN} bytes"
            ),
            Self::Count(count) => write!(f, "there are {count} levels: want 1 to 255"),
            Self::RealmTooLong => write!(f, "the realm's name has more than {MAX_TEXT_LEN} bytes"),
        }
    }
}

impl std::error::Error for LevelError {}

/// Whether a realm's name is short enough to be signed.
pub(super) const fn is_realm_name(name: &str) -> bool {
    name.len() <= MAX_TEXT_LEN
}

//! Challenges: what a visitor is to solve, signed, and nothing kept of it.
//!
//! ```text
//!  0 version  1 key id  2 algorithm  3 level  4 flags  5 issued  9 expires  13 not before
//! 17 work  21 parts  22 iterations  26 id  38 tags as a token has them  50 signature of all before
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::CLOCK_TOLERANCE_S;
use super::binding::{Mismatch, Tags, Visit};
use super::keyring::{MAC_LEN, RealmKeys};
use super::level::{Level, Method};
use super::token::{Class, Flags, TokenId};

const VERSION: u8 = 1;

/// The length of a challenge in bytes.
pub const CHALLENGE_LEN: usize = 66;

/// The length of its text: base64url without padding.
pub const CHALLENGE_TEXT_LEN: usize = 88;

/// What is signed of it.
const SIGNED_LEN: usize = CHALLENGE_LEN - MAC_LEN;

/// The longest body of a solution, in bytes.
pub const MAX_BODY_LEN: usize = 1024;

/// The longest body of a captcha's solution, in bytes.
pub const MAX_CAPTCHA_BODY_LEN: usize = 8192;

/// How a challenge is solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// By waiting.
    Wait,
    /// By nonces with a low SHA-256.
    Sha256,
    /// By nonces with a low PBKDF2-HMAC-SHA-256.
    Pbkdf2,
    /// By a captcha of the level's provider.
    Captcha,
}

impl Algorithm {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Wait => 0,
            Self::Sha256 => 1,
            Self::Pbkdf2 => 2,
            Self::Captcha => 3,
        }
    }

    const fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Wait),
            1 => Some(Self::Sha256),
            2 => Some(Self::Pbkdf2),
            3 => Some(Self::Captcha),
            _ => None,
        }
    }
}

/// What a challenge is told apart from others by: random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChallengeId(pub [u8; 12]);

impl ChallengeId {
    /// What the token will be told apart by.
    #[must_use]
    pub fn token_id(self) -> TokenId {
        let [id @ .., _, _, _, _] = self.0;
        TokenId(id)
    }

    /// With the bytes of a token's id in front.
    pub(super) fn with_token_id(self, id: TokenId) -> Self {
        let mut bytes = self.0;
        bytes[..8].copy_from_slice(&id.0);
        Self(bytes)
    }
}

/// What a challenge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The key that signed it.
    pub key_id: u8,
    /// How it is solved.
    pub algorithm: Algorithm,
    /// The level that it is for.
    pub level: u8,
    /// What the token will be of.
    pub flags: Flags,
    /// The second since 1970 from which the token will count: at which it was made, or that of the token
    /// that is had anew.
    pub issued: u32,
    /// The second at which it is over.
    pub expires: u32,
    /// The second before which it cannot be solved.
    pub not_before: u32,
    /// How many hashes or derivations it takes, on average; 0 if it is no puzzle.
    pub work: u32,
    /// How many nonces it takes; 0 if it is no puzzle.
    pub parts: u8,
    /// The iterations of a derivation; 0 without.
    pub iterations: u32,
    /// What it is told apart by.
    pub id: ChallengeId,
    /// What it is bound to.
    pub tags: Tags,
}

impl Challenge {
    /// What a challenge's bytes say, signed or not.
    #[must_use]
    pub fn of_bytes(bytes: &[u8; CHALLENGE_LEN]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_be_bytes(bytes)
        };
        let flags = Flags(bytes[4]);
        if bytes[0] != VERSION || flags.class().is_none() {
            return None;
        }
        Some(Self {
            key_id: bytes[1],
            algorithm: Algorithm::of_byte(bytes[2])?,
            level: bytes[3],
            flags,
            issued: number(5),
            expires: number(9),
            not_before: number(13),
            work: number(17),
            parts: bytes[21],
            iterations: number(22),
            id: ChallengeId(*bytes[26..].first_chunk()?),
            tags: Tags::of_bytes(*bytes[38..].first_chunk()?),
        })
    }

    fn to_bytes(self) -> [u8; SIGNED_LEN] {
        let mut bytes = [0; SIGNED_LEN];
        bytes[..5].copy_from_slice(&[
            VERSION,
            self.key_id,
            self.algorithm.to_byte(),
            self.level,
            self.flags.0,
        ]);
        bytes[5..9].copy_from_slice(&self.issued.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.expires.to_be_bytes());
        bytes[13..17].copy_from_slice(&self.not_before.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.work.to_be_bytes());
        bytes[21] = self.parts;
        bytes[22..26].copy_from_slice(&self.iterations.to_be_bytes());
        bytes[26..38].copy_from_slice(&self.id.0);
        bytes[38..].copy_from_slice(&self.tags.to_bytes());
        bytes
    }
}

/// What a visitor is to do, as the caller decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The level, from 1.
    pub level: u8,
    /// How it is solved.
    pub algorithm: Algorithm,
    /// What the token will be of.
    pub class: Class,
    /// How long the visitor has to wait at least, in seconds.
    pub wait_s: u32,
    /// How long the visitor has from then on, in seconds.
    pub ttl_s: u32,
    /// How many hashes or derivations it takes.
    pub work: u32,
    /// How many nonces it takes.
    pub parts: u8,
    /// The iterations of a derivation.
    pub iterations: u32,
    /// The second since 1970 from which a token counts that is had anew: the new one is over when that is.
    pub anew_of: Option<u32>,
}

impl Terms {
    /// As the level of this number has them.
    #[must_use]
    pub const fn of(number: u8, level: &Level, ttl_s: u32) -> Self {
        let (algorithm, class, work, parts, iterations) = match level.method {
            Method::Wait => (Algorithm::Wait, Class::Wait, 0, 0, 0),
            Method::Sha256 { work, parts } => (Algorithm::Sha256, Class::Pow, work, parts, 0),
            Method::Pbkdf2 {
                work,
                parts,
                iterations,
            } => (Algorithm::Pbkdf2, Class::Pbkdf2, work, parts, iterations),
            Method::Captcha { .. } => (Algorithm::Captcha, Class::Captcha, 0, 0, 0),
        };
        Self {
            level: number,
            algorithm,
            class,
            wait_s: level.wait_s,
            ttl_s,
            work,
            parts,
            iterations,
            anew_of: None,
        }
    }
}

/// A challenge that was made.
#[derive(Clone, Copy, Debug)]
pub struct Issued {
    /// What it says.
    pub challenge: Challenge,
    bytes: [u8; CHALLENGE_LEN],
    text: [u8; CHALLENGE_TEXT_LEN],
}

impl Issued {
    /// Its bytes, with the signature.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; CHALLENGE_LEN] {
        &self.bytes
    }

    /// The text that the visitor gets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of base64url alone.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

/// What a visitor sends: a challenge and its solution. Neither is verified yet.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    challenge: [u8; CHALLENGE_LEN],
    solution: &'a [u8],
}

impl<'a> Submission<'a> {
    /// Reads a body: `<challenge>.<solution>`.
    ///
    /// # Errors
    ///
    /// [`Failure::Format`] if it is too long or none.
    pub fn parse(body: &'a [u8]) -> Result<Self, Failure> {
        if body.len() > MAX_CAPTCHA_BODY_LEN {
            return Err(Failure::Format);
        }
        let (challenge, rest) = body
            .split_at_checked(CHALLENGE_TEXT_LEN)
            .ok_or(Failure::Format)?;
        let solution = rest.strip_prefix(b".").ok_or(Failure::Format)?;
        let submission = Self {
            solution,
            ..Self::without_solution(challenge)?
        };
        let is_captcha = submission.challenge[2] == Algorithm::Captcha.to_byte();
        if body.len() > MAX_BODY_LEN && !is_captcha {
            return Err(Failure::Format);
        }
        Ok(submission)
    }

    /// What the challenge says, signed or not; `None` if it is none.
    pub(super) fn claimed(&self) -> Option<Challenge> {
        Challenge::of_bytes(&self.challenge)
    }

    /// Reads a challenge that is solved by waiting.
    ///
    /// # Errors
    ///
    /// [`Failure::Format`] if it is none.
    pub fn without_solution(text: &[u8]) -> Result<Self, Failure> {
        let mut challenge = [0; CHALLENGE_LEN];
        if text.len() != CHALLENGE_TEXT_LEN
            || URL_SAFE_NO_PAD.decode_slice(text, &mut challenge) != Ok(CHALLENGE_LEN)
        {
            return Err(Failure::Format);
        }
        Ok(Self {
            challenge,
            solution: b"",
        })
    }
}

/// Why a submission gives no token. In the order in which it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It is none.
    Format,
    /// The key is not there or does not count any more.
    Key,
    /// The level is not there any more.
    Level,
    /// The challenge is of a domain that is not trusted.
    Host,
    /// The challenge was not signed so, for this realm, level and scope.
    Mac,
    /// The challenge is of other TLS.
    Tls,
    /// The challenge is of another user agent.
    UserAgent,
    /// The challenge is of another address.
    Address,
    /// The challenge is from the future.
    Future,
    /// The challenge is over.
    Expired,
    /// It is too early, by so many seconds.
    Early {
        /// After which it counts.
        wait_s: u32,
    },
    /// The solution has not the form, or not as many parts, as the challenge asks for.
    Solution,
    /// The solution is wrong.
    Work,
}

impl Failure {
    /// The word that the page knows it by.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Format | Self::Solution => "format",
            Self::Key | Self::Mac => "mac",
            Self::Host => "host",
            Self::Tls | Self::UserAgent | Self::Address => "binding",
            Self::Level | Self::Future | Self::Expired => "expired",
            Self::Early { .. } => "early",
            Self::Work => "work",
        }
    }
}

/// A submission whose challenge this realm made for this visitor, and whose time it is. Only
/// [`RealmKeys::open`] makes one.
#[derive(Debug)]
pub struct Opened<'a> {
    pub(super) challenge: Challenge,
    pub(super) bytes: [u8; CHALLENGE_LEN],
    pub(super) solution: &'a [u8],
}

impl Opened<'_> {
    /// What the challenge says.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }
}

/// The text of the signature of a path that a visitor without script is sent back to.
#[derive(Clone, Copy)]
pub struct ReturnSignature([u8; Self::LEN]);

impl ReturnSignature {
    /// Its length.
    pub const LEN: usize = 22;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of base64url alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ReturnSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReturnSignature")
    }
}

impl RealmKeys {
    /// A challenge for a visitor; `None` if no key counts or there is no such level.
    #[must_use]
    pub fn issue(&self, terms: &Terms, id: ChallengeId, visit: &Visit<'_>) -> Option<Issued> {
        let key = self.signing(visit.now_unix_s)?;
        let (tags, mut flags) = key.tags.tags(&self.binding, visit);
        flags.set_class(terms.class);
        let is_shared = visit.scope.shared_domain().is_some();
        flags.set_shared(is_shared);
        let now = u32::try_from(visit.now_unix_s).ok()?;
        let issued = terms.anew_of.unwrap_or(now);
        let open_from = now.saturating_add(terms.wait_s);
        // Without a wait nothing is too early.
        let not_before = if terms.wait_s == 0 { issued } else { open_from };
        let challenge = Challenge {
            key_id: key.id,
            algorithm: terms.algorithm,
            level: terms.level,
            flags,
            issued,
            expires: open_from.saturating_add(terms.ttl_s),
            not_before,
            work: terms.work,
            parts: terms.parts,
            iterations: terms.iterations,
            id,
            tags,
        };
        let signed = challenge.to_bytes();
        let scope = visit.scope.text(is_shared)?;
        let signature = key.level(terms.level)?.challenge.sign(&signed, scope);
        let mut bytes = [0; CHALLENGE_LEN];
        bytes[..SIGNED_LEN].copy_from_slice(&signed);
        bytes[SIGNED_LEN..].copy_from_slice(&signature);
        let mut text = [0; CHALLENGE_TEXT_LEN];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).ok()?;
        Some(Issued {
            challenge,
            bytes,
            text,
        })
    }

    /// Verifies the challenge of a submission, and nothing of its solution.
    ///
    /// # Errors
    ///
    /// The first that is wrong, in the order of [`Failure`].
    pub fn open<'a>(
        &self,
        submission: &Submission<'a>,
        visit: &Visit<'_>,
    ) -> Result<Opened<'a>, Failure> {
        let bytes = &submission.challenge;
        let challenge = Challenge::of_bytes(bytes).ok_or(Failure::Format)?;
        let key = self
            .key(challenge.key_id, visit.now_unix_s)
            .ok_or(Failure::Key)?;
        let signers = key.level(challenge.level).ok_or(Failure::Level)?;
        let scope = visit
            .scope
            .text(challenge.flags.is_shared())
            .ok_or(Failure::Host)?;
        let (signed, signature) = bytes.split_last_chunk().ok_or(Failure::Format)?;
        if !signers.challenge.is_signed(signed, scope, signature) {
            return Err(Failure::Mac);
        }
        match key
            .tags
            .compare(&self.binding, visit, &challenge.tags, challenge.flags)
        {
            Ok(()) => {}
            Err(Mismatch::Tls) => return Err(Failure::Tls),
            Err(Mismatch::UserAgent) => return Err(Failure::UserAgent),
            Err(Mismatch::Address) => return Err(Failure::Address),
        }
        let now = visit.now_unix_s;
        if u64::from(challenge.issued) > now.saturating_add(CLOCK_TOLERANCE_S) {
            return Err(Failure::Future);
        }
        if u64::from(challenge.expires) <= now {
            return Err(Failure::Expired);
        }
        // Where nothing is to be waited for, an agent whose clock is behind does not make it a wait.
        if challenge.not_before > challenge.issued
            && let Some(wait_s) = u64::from(challenge.not_before).checked_sub(now)
            && wait_s != 0
        {
            let wait_s = u32::try_from(wait_s).unwrap_or(u32::MAX);
            return Err(Failure::Early { wait_s });
        }
        Ok(Opened {
            challenge,
            bytes: *bytes,
            solution: submission.solution,
        })
    }

    /// The signature of the path that a visitor with this challenge is sent back to; `None` if it is longer
    /// than 65,535 bytes, or no key counts.
    #[must_use]
    pub fn sign_return(
        &self,
        issued: &Issued,
        path: &[u8],
        visit: &Visit<'_>,
    ) -> Option<ReturnSignature> {
        u16::try_from(path.len()).ok()?;
        let key = self.key(issued.challenge.key_id, visit.now_unix_s)?;
        let signers = key.level(issued.challenge.level)?;
        let mut text = [0; ReturnSignature::LEN];
        let signature = signers.no_js.sign(&issued.bytes, path);
        URL_SAFE_NO_PAD.encode_slice(signature, &mut text).ok()?;
        Some(ReturnSignature(text))
    }

    /// Whether this is the signature of that path.
    #[must_use]
    pub fn is_return(
        &self,
        opened: &Opened<'_>,
        path: &[u8],
        signature: &[u8],
        visit: &Visit<'_>,
    ) -> bool {
        // What is decoded has room for the most that 22 characters may be.
        let mut bytes = [0; MAC_LEN + 2];
        let is_text = signature.len() == ReturnSignature::LEN
            && URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes) == Ok(MAC_LEN);
        let (Some(signature), Ok(_)) = (bytes.first_chunk(), u16::try_from(path.len())) else {
            return false;
        };
        is_text
            && self
                .key(opened.challenge.key_id, visit.now_unix_s)
                .and_then(|key| key.level(opened.challenge.level))
                .is_some_and(|signers| signers.no_js.is_signed(&opened.bytes, path, signature))
    }
}

//! What solves a challenge, and who may say so.
//!
//! ```text
//! seed = SHA-256("pow1" or "pbk1", the challenge's 66 bytes)
//! part j of k is solved by a nonce with
//!     the first 64 bits of SHA-256(seed, j, nonce)                               or
//!     the first 64 bits of PBKDF2-HMAC-SHA-256(seed, j and nonce as salt)
//! below 2^64 / max(1, work / k); j has 4 bytes and a nonce 8
//! ```
//!
//! The seed has the signature in it, so that no work can be done ahead, and the part's number is hashed, so
//! that none counts twice.

use hmac::Hmac;
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

use super::challenge::{Algorithm, CHALLENGE_LEN, Challenge, Failure, Opened};
use super::level::MAX_PARTS;

/// A solved challenge. Only what solves one makes it.
#[derive(Debug)]
pub struct Solved {
    challenge: Challenge,
}

impl Solved {
    /// What the challenge says.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }
}

/// What becomes of a solution.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, and nothing is to allocate"
)]
pub enum Step<'a> {
    /// It is one.
    Solved(Solved),
    /// The provider of the level is to say.
    AskProvider(Proof<'a>),
    /// It takes a thread some time to say.
    Derive(Pbkdf2Job),
}

impl<'a> Opened<'a> {
    /// Judges the solution.
    ///
    /// # Errors
    ///
    /// [`Failure::Solution`] or [`Failure::Work`].
    pub fn judge(self) -> Result<Step<'a>, Failure> {
        let challenge = self.challenge;
        match challenge.algorithm {
            Algorithm::Wait => {
                if !self.solution.is_empty() {
                    return Err(Failure::Solution);
                }
                Ok(Step::Solved(Solved { challenge }))
            }
            Algorithm::Sha256 => {
                let nonces = Nonces::parse(self.solution, challenge.parts)?;
                let seed = seed(b"pow1", &self.bytes);
                let target = target(&challenge);
                for (part, nonce) in (0..).zip(nonces.iter()) {
                    if !is_below(sha256_head(&seed, part, nonce), target) {
                        return Err(Failure::Work);
                    }
                }
                Ok(Step::Solved(Solved { challenge }))
            }
            Algorithm::Pbkdf2 => Ok(Step::Derive(Pbkdf2Job {
                nonces: Nonces::parse(self.solution, challenge.parts)?,
                seed: seed(b"pbk1", &self.bytes),
                challenge,
            })),
            Algorithm::Captcha => {
                let is_token =
                    !self.solution.is_empty() && self.solution.iter().all(u8::is_ascii_graphic);
                match std::str::from_utf8(self.solution) {
                    Ok(token) if is_token => Ok(Step::AskProvider(Proof { challenge, token })),
                    _ => Err(Failure::Solution),
                }
            }
        }
    }
}

/// A captcha's solution.
#[derive(Debug)]
pub struct Proof<'a> {
    challenge: Challenge,
    token: &'a str,
}

impl<'a> Proof<'a> {
    /// What the provider is asked about.
    #[must_use]
    pub const fn token(&self) -> &'a str {
        self.token
    }

    /// What the challenge says.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// For later, when the provider has answered.
    #[must_use]
    pub const fn pending(self) -> Pending {
        Pending {
            challenge: self.challenge,
        }
    }
}

/// A challenge whose captcha the provider is asked about.
#[derive(Debug)]
pub struct Pending {
    challenge: Challenge,
}

impl Pending {
    /// What the challenge says.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// To be called when the provider says that it is solved, and never else.
    #[must_use]
    pub const fn accepted(self) -> Solved {
        Solved {
            challenge: self.challenge,
        }
    }
}

/// Derivations that are to be verified, which takes about 0.2 ms for 1,000 iterations of each part.
#[derive(Debug)]
pub struct Pbkdf2Job {
    challenge: Challenge,
    seed: [u8; 32],
    nonces: Nonces,
}

impl Pbkdf2Job {
    /// What the challenge says.
    #[must_use]
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Derives part by part, up to the first that is wrong.
    ///
    /// # Errors
    ///
    /// [`Failure::Work`] if one is.
    pub fn run(self) -> Result<Solved, Failure> {
        let target = target(&self.challenge);
        for (part, nonce) in (0..).zip(self.nonces.iter()) {
            let head = pbkdf2_head(&self.seed, self.challenge.iterations, part, nonce);
            if !is_below(head, target) {
                return Err(Failure::Work);
            }
        }
        Ok(Solved {
            challenge: self.challenge,
        })
    }
}

/// The nonces of a solution.
#[derive(Clone, Copy, Debug)]
struct Nonces {
    values: [u64; MAX_PARTS as usize],
    count: u8,
}

impl Nonces {
    /// Reads exactly so many, each of 1 to 16 lower-case hexadecimal digits, with commas between. There are
    /// never none: what is empty is one that has no digits.
    fn parse(text: &[u8], count: u8) -> Result<Self, Failure> {
        let mut nonces = Self {
            values: [0; MAX_PARTS as usize],
            count,
        };
        let mut texts = text.split(|&byte| byte == b',');
        let values = nonces
            .values
            .get_mut(..usize::from(count))
            .ok_or(Failure::Solution)?;
        for value in values {
            *value = texts.next().and_then(nonce).ok_or(Failure::Solution)?;
        }
        match texts.next() {
            None => Ok(nonces),
            Some(_) => Err(Failure::Solution),
        }
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.values.iter().copied().take(usize::from(self.count))
    }
}

fn nonce(digits: &[u8]) -> Option<u64> {
    if !(1..=16).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |value: u64, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

fn seed(label: &[u8; 4], challenge: &[u8; CHALLENGE_LEN]) -> [u8; 32] {
    Sha256::new()
        .chain_update(label)
        .chain_update(challenge)
        .finalize()
        .into()
}

/// What the first 64 bits have to be below; `None` if whatever they are will do.
fn target(challenge: &Challenge) -> Option<u64> {
    let work = u64::from(challenge.work) / u64::from(challenge.parts.max(1));
    if work <= 1 {
        return None;
    }
    // 2^64 / work, of which u64 has one less than the dividend.
    let exact = u64::from(u64::MAX % work == work - 1);
    Some(u64::MAX / work + exact)
}

const fn is_below(head: u64, target: Option<u64>) -> bool {
    match target {
        Some(target) => head < target,
        None => true,
    }
}

/// The first 64 bits of a part's hash: 44 bytes are one block, with its padding.
fn sha256_head(seed: &[u8; 32], part: u32, nonce: u64) -> u64 {
    const INITIAL: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    let mut block = [0; 64];
    block[..32].copy_from_slice(seed);
    block[32..36].copy_from_slice(&part.to_be_bytes());
    block[36..44].copy_from_slice(&nonce.to_be_bytes());
    block[44] = 0x80;
    block[56..].copy_from_slice(&(44_u64 * 8).to_be_bytes());
    let mut state = INITIAL;
    compress256(&mut state, &[block]);
    u64::from(state[0]) << 32 | u64::from(state[1])
}

fn pbkdf2_head(seed: &[u8; 32], iterations: u32, part: u32, nonce: u64) -> u64 {
    let mut salt = [0; 12];
    salt[..4].copy_from_slice(&part.to_be_bytes());
    salt[4..].copy_from_slice(&nonce.to_be_bytes());
    let mut derived = [0; 32];
    pbkdf2::pbkdf2::<Hmac<Sha256>>(seed, &salt, iterations, &mut derived)
        .expect("a key of any length");
    u64::from_be_bytes(*derived.first_chunk().expect("32 bytes"))
}

/// Solves a puzzle as a page does, one nonce after the other, which takes as many hashes or derivations as
/// its work says; `None` if it is no puzzle. For tests and tools.
#[must_use]
pub fn solve(challenge: &[u8; CHALLENGE_LEN]) -> Option<Vec<u64>> {
    let said = Challenge::of_bytes(challenge)?;
    let target = target(&said);
    let first = |head: &dyn Fn(u64) -> u64| (0..).find(|&nonce| is_below(head(nonce), target));
    let parts = 0..u32::from(said.parts);
    match said.algorithm {
        Algorithm::Sha256 => {
            let seed = seed(b"pow1", challenge);
            parts
                .map(|part| first(&|nonce| sha256_head(&seed, part, nonce)))
                .collect()
        }
        Algorithm::Pbkdf2 => {
            let seed = seed(b"pbk1", challenge);
            parts
                .map(|part| first(&|nonce| pbkdf2_head(&seed, said.iterations, part, nonce)))
                .collect()
        }
        _ => None,
    }
}

/// The body that a page sends: a challenge's text and nonces.
#[must_use]
pub fn solution_body(challenge: &str, nonces: &[u64]) -> String {
    let nonces: Vec<String> = nonces.iter().map(|nonce| format!("{nonce:x}")).collect();
    format!("{challenge}.{}", nonces.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_two_to_the_64th_divided_by_the_work_of_a_part() {
        let challenge = |work: u32, parts: u8| {
            let mut bytes = [0; CHALLENGE_LEN];
            bytes[0] = 1;
            bytes[17..21].copy_from_slice(&work.to_be_bytes());
            bytes[21] = parts;
            Challenge::of_bytes(&bytes).expect("a challenge")
        };
        for (work, parts) in [
            (2, 1),
            (3, 1),
            (7, 2),
            (10, 3),
            (1 << 20, 16),
            (1_048_577, 50),
            (1 << 31, 1),
            (u32::MAX, 1),
        ] {
            let of_part = u128::from(work / u32::from(parts));
            let expected = u64::try_from((1 << 64) / of_part).ok();
            assert_eq!(target(&challenge(work, parts)), expected, "{work} {parts}");
        }
        for (work, parts) in [(0, 0), (0, 1), (1, 1), (1, 0), (15, 16), (31, 16)] {
            assert_eq!(target(&challenge(work, parts)), None, "{work} {parts}");
        }
        assert!(is_below(u64::MAX, None) && is_below(0, Some(1)) && !is_below(1, Some(1)));
    }
}

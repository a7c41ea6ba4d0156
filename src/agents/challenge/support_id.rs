//! What a visitor can read out over the telephone, and an operator finds in the log.

use std::fmt;

use super::challenge::ChallengeId;
use super::token::TokenId;

/// Digits and letters that are not taken for another: no I, L, O and U, as in Crockford's base 32.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The first 60 bits of a challenge's id, and so of its token's: `7Z9K-0MPD-41XW`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SupportId([u8; 14]);

impl SupportId {
    /// The text: 12 characters in groups of four.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // All of it is of the alphabet.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<TokenId> for SupportId {
    fn from(id: TokenId) -> Self {
        let bits = u64::from_be_bytes(id.0);
        let mut text = [b'-'; 14];
        let places = (0..14).filter(|place| place % 5 != 4);
        for (digit, place) in places.enumerate() {
            let [.., low] = (bits >> (59 - 5 * digit)).to_be_bytes();
            text[place] = ALPHABET[usize::from(low & 31)];
        }
        Self(text)
    }
}

impl From<ChallengeId> for SupportId {
    fn from(id: ChallengeId) -> Self {
        id.token_id().into()
    }
}

impl fmt::Display for SupportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SupportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupportId({self})")
    }
}

//! A bounds-checked cursor over received bytes. Every decoder goes through it.
//!
//! What reads arguments is inlined whatever its size, and says that it failed with `None`, why being
//! kept beside the cursor: only then do cursor and values stay in registers.

use super::error::DecodeError;
use super::varint::{ONE_BYTE, OVERFLOW, RAN_OUT, decode_long};

/// Reads forward over borrowed bytes; what it returns lives as long as they do.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Why a method returned `None`, if one did.
    failure: DecodeError,
}

impl<'a> Reader<'a> {
    #[inline(always)]
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            failure: DecodeError::Truncated,
        }
    }

    /// What `read` makes of the bytes in front, or why it could not.
    #[inline(always)]
    pub(crate) fn decode<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, DecodeError> {
        match read(self) {
            Some(value) => Ok(value),
            None => Err(self.failure),
        }
    }

    /// `None`, for this reason. Where nothing else is said it is that the bytes ran out.
    #[inline(always)]
    pub(crate) const fn fail<T>(&mut self, failure: DecodeError) -> Option<T> {
        self.failure = failure;
        None
    }

    #[inline(always)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline(always)]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Leaves nothing to read: after an error the position means nothing any more.
    pub(crate) const fn poison(&mut self) {
        self.rest = &[];
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let first = u64::from(self.byte()?);
        if first < ONE_BYTE {
            return Some(first);
        }
        match decode_long(first, self.rest) {
            (_, RAN_OUT) => None,
            (_, OVERFLOW) => self.fail(DecodeError::VarintOverflow),
            (value, used) => {
                self.bytes(used)?;
                Some(value)
            }
        }
    }

    /// A varint length and that many bytes. The length is compared with what is left, never added
    /// to a position, so that no value of it can wrap.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.varint()?;
        self.bytes(usize::try_from(len).ok()?)
    }
}

//! A bounds-checked cursor over a caller's buffer. Every encoder goes through it.

use super::error::EncodeError;
use super::varint::encode_varint;

/// Writes forward into a borrowed buffer. A caller that must write whole or not at all keeps
/// [`position`](Self::position) and goes back to it with [`rewind`](Self::rewind).
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    out: &'b mut [u8],
    position: usize,
}

impl<'b> Writer<'b> {
    pub(crate) const fn new(out: &'b mut [u8]) -> Self {
        Self { out, position: 0 }
    }

    #[inline]
    pub(crate) const fn position(&self) -> usize {
        self.position
    }

    /// What was written from this position on.
    #[cfg(feature = "std")]
    pub(crate) fn written_from(&self, start: usize) -> &[u8] {
        self.out.get(start..self.position).unwrap_or_default()
    }

    #[inline]
    pub(crate) const fn rewind(&mut self, position: usize) {
        debug_assert!(position <= self.position, "a rewind goes back");
        self.position = position;
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self, byte: u8) -> Result<(), EncodeError> {
        *self.out.get_mut(self.position).ok_or(EncodeError::Full)? = byte;
        self.position += 1;
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        // `position` never exceeds the buffer, so neither subtraction nor slice can fail.
        let room = self.out.get_mut(self.position..).ok_or(EncodeError::Full)?;
        room.get_mut(..bytes.len())
            .ok_or(EncodeError::Full)?
            .copy_from_slice(bytes);
        self.position += bytes.len();
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self, value: u64) -> Result<(), EncodeError> {
        let room = self.out.get_mut(self.position..).ok_or(EncodeError::Full)?;
        self.position += encode_varint(value, room)?;
        Ok(())
    }

    /// A varint length and the bytes.
    #[inline(always)]
    pub(crate) fn string(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.varint(bytes.len() as u64)?;
        self.bytes(bytes)
    }

    /// Overwrites bytes already written, such as a length known only at the end.
    #[inline(always)]
    pub(crate) fn patch(&mut self, position: usize, bytes: &[u8]) {
        self.out[position..position + bytes.len()].copy_from_slice(bytes);
    }
}

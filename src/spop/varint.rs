//! The variable-length integer of HAProxy's peers protocol (spec 3.1).
//!
//! The coding is bijective: every `u64` has exactly one form, of one to ten bytes, so there are no
//! over-long forms to refuse.

use super::error::{DecodeError, EncodeError};
use super::reader::Reader;

/// The longest form, that of `u64::MAX`.
pub const MAX_VARINT_LEN: usize = 10;

/// Values below this take one byte.
pub(super) const ONE_BYTE: u64 = 240;

/// Decodes one varint from the front of `input`, returning it and the bytes used.
///
/// Spec 3.1. One to ten bytes; all values of `u64`.
///
/// # Errors
///
/// `Truncated` if `input` ends inside the varint, `VarintOverflow` above 64 bits.
#[inline]
pub fn decode_varint(input: &[u8]) -> Result<(u64, usize), DecodeError> {
    let mut reader = Reader::new(input);
    let value = reader.decode(Reader::varint)?;
    Ok((value, input.len() - reader.rest().len()))
}

/// In place of a number of bytes used.
pub(super) const RAN_OUT: usize = 0;
pub(super) const OVERFLOW: usize = usize::MAX;

/// The value of a form of several bytes, and how many follow the first, or one of the two above. Not
/// a `Result`, which would not be returned in registers.
#[inline(never)]
pub(super) fn decode_long(first: u64, rest: &[u8]) -> (u64, usize) {
    /// The bits that say that another byte follows.
    const CONTINUES: u64 = 0x8080_8080_8080_8080;
    // Whole bytes are added at shifts of 4, 11, 18 and so on, their continuation bits too: that is
    // what makes the coding bijective.
    if let Some(&bytes) = rest.first_chunk::<8>() {
        let word = u64::from_le_bytes(bytes);
        let last = !word & CONTINUES;
        if last != 0 {
            // Up to the last byte; then neighbours are joined: bytes at a distance of 7 bits, the
            // sums at 14, theirs at 28. None leaves its lane, and the end is below 2^61.
            let bytes = word & (last ^ (last - 1));
            let pairs =
                (bytes & 0x00ff_00ff_00ff_00ff) + ((bytes >> 8 & 0x00ff_00ff_00ff_00ff) << 7);
            let fours =
                (pairs & 0x0000_ffff_0000_ffff) + ((pairs >> 16 & 0x0000_ffff_0000_ffff) << 14);
            let all = (fours & 0xffff_ffff) + (fours >> 32 << 28);
            return (first + (all << 4), last.trailing_zeros() as usize / 8 + 1);
        }
    }
    decode_bytewise(first, rest)
}

/// The same for what is near the end of the input, or of nine bytes and more.
#[cold]
fn decode_bytewise(first: u64, rest: &[u8]) -> (u64, usize) {
    let (mut value, mut shift) = (first, 4);
    for (index, &byte) in rest.iter().take(MAX_VARINT_LEN - 1).enumerate() {
        // The last byte's bits can carry out of 64, which is checked, since HAProxy's own decoder
        // wraps there.
        let part = u64::from(byte) << shift;
        let Some(sum) = value.checked_add(part) else {
            return (0, OVERFLOW);
        };
        if part >> shift != u64::from(byte) {
            return (0, OVERFLOW);
        }
        value = sum;
        if byte < 0x80 {
            return (value, index + 1);
        }
        shift += 7;
    }
    if rest.len() < MAX_VARINT_LEN - 1 {
        (0, RAN_OUT)
    } else {
        (0, OVERFLOW)
    }
}

/// Encodes `value` at the front of `out`, returning the bytes used.
///
/// Spec 3.1.
///
/// # Errors
///
/// `Full` if `out` is shorter than [`varint_len`]; nothing is written then.
#[inline]
pub fn encode_varint(value: u64, out: &mut [u8]) -> Result<usize, EncodeError> {
    if value < ONE_BYTE {
        let Some(slot) = out.first_mut() else {
            return Err(EncodeError::Full);
        };
        *slot = low_byte(value);
        return Ok(1);
    }
    encode_long(value, out)
}

fn encode_long(value: u64, out: &mut [u8]) -> Result<usize, EncodeError> {
    // Where there is room for the longest form the length need not be known first.
    let out = if out.len() >= MAX_VARINT_LEN {
        &mut out[..MAX_VARINT_LEN]
    } else {
        out.get_mut(..varint_len(value)).ok_or(EncodeError::Full)?
    };
    let (first, others) = out.split_first_mut().ok_or(EncodeError::Full)?;
    *first = low_byte(value) | 0xf0;
    let mut rest = (value - ONE_BYTE) >> 4;
    let mut len = 2;
    for slot in others {
        if rest < 0x80 {
            *slot = low_byte(rest);
            break;
        }
        *slot = low_byte(rest) | 0x80;
        rest = (rest - 0x80) >> 7;
        len += 1;
    }
    Ok(len)
}

/// The low eight bits.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the other bits follow in later bytes"
)]
const fn low_byte(value: u64) -> u8 {
    value as u8
}

/// How many bytes [`encode_varint`] needs for `value`: 1 to [`MAX_VARINT_LEN`].
#[inline]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    if value < ONE_BYTE {
        return 1;
    }
    let mut rest = (value - ONE_BYTE) >> 4;
    let mut len = 2;
    while rest >= 0x80 {
        rest = (rest - 0x80) >> 7;
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The boundaries where the length changes, with HAProxy's own bytes for them.
    const GOLDEN: &[(u64, &[u8])] = &[
        (0, &[0]),
        (239, &[0xef]),
        (240, &[0xf0, 0x00]),
        (2287, &[0xff, 0x7f]),
        (2288, &[0xf0, 0x80, 0x00]),
        (264_431, &[0xff, 0xff, 0x7f]),
        (264_432, &[0xf0, 0x80, 0x80, 0x00]),
        (33_818_863, &[0xff, 0xff, 0xff, 0x7f]),
        (33_818_864, &[0xf0, 0x80, 0x80, 0x80, 0x00]),
        (u32::MAX as u64, &[0xff, 0xf0, 0xfe, 0xfe, 0x7e]),
        (
            i64::MAX as u64,
            &[0xff, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x06],
        ),
        (
            u64::MAX,
            &[0xff, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0e],
        ),
        // -5 as a 64-bit two's complement number.
        (
            u64::MAX - 4,
            &[0xfb, 0xf0, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0e],
        ),
    ];

    #[test]
    fn golden_values_both_ways() {
        for &(value, bytes) in GOLDEN {
            let mut out = [0; MAX_VARINT_LEN];
            let len = encode_varint(value, &mut out).unwrap();
            assert_eq!(&out[..len], bytes, "encoding {value}");
            assert_eq!(varint_len(value), bytes.len(), "length of {value}");
            assert_eq!(
                decode_varint(bytes),
                Ok((value, bytes.len())),
                "decoding {value}"
            );
        }
    }

    #[test]
    fn every_power_and_its_neighbours_round_trip() {
        for shift in 0..64 {
            for value in [
                (1u64 << shift).wrapping_sub(1),
                1 << shift,
                (1 << shift) + 1,
            ] {
                let mut out = [0; MAX_VARINT_LEN];
                let len = encode_varint(value, &mut out).unwrap();
                assert_eq!(decode_varint(&out[..len]), Ok((value, len)));
                for cut in 0..len {
                    assert_eq!(decode_varint(&out[..cut]), Err(DecodeError::Truncated));
                    assert_eq!(
                        encode_varint(value, &mut [0; 10][..cut]),
                        Err(EncodeError::Full)
                    );
                }
            }
        }
    }

    /// The two ways to decode agree, on every length and wherever the input ends.
    #[test]
    fn with_and_without_more_input_behind() {
        let mut value = 240_u64;
        for _ in 0..2_000 {
            let mut out = [0xff; MAX_VARINT_LEN + 8];
            let len = encode_varint(value, &mut out).unwrap();
            assert_eq!(decode_varint(&out[..len]), Ok((value, len)));
            assert_eq!(decode_varint(&out), Ok((value, len)));
            out[len..].fill(0);
            assert_eq!(decode_varint(&out), Ok((value, len)));
            // Steps that grow by 3 %.
            value = value.saturating_add(value / 32);
        }
        assert_eq!(value, u64::MAX);
    }

    #[test]
    fn above_64_bits_is_refused() {
        // 2^64 exactly: one more than the largest value.
        let above = [0xf0, 0xf1, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x0e];
        assert_eq!(decode_varint(&above), Err(DecodeError::VarintOverflow));
        let eleven = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
        ];
        assert_eq!(decode_varint(&eleven), Err(DecodeError::VarintOverflow));
        let ten_wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(decode_varint(&ten_wide), Err(DecodeError::VarintOverflow));
    }
}

//! Single addresses: one step into an index says of nearly all that they are not listed, and of the
//! others where they are.
//!
//! Keys are scrambled addresses, each to another one, so that they lie evenly over their whole width
//! however the addresses cluster: where a key lies among its numbers is then about where it lies in the
//! column. The seed is the process's own: what an attacker gets listed does not choose where it lies.
//! Being in order, the keys can be merged, which a hash table's cannot.

use super::column::{Column, Entry};
use super::wide::Wide;

/// Keys of a mark on average. With 64 places of which each takes at most one, a mark tells 7 of 8
/// addresses that are not listed without a look at the keys; and it takes 16 bytes, 2 for each key.
const KEYS_PER_MARK: usize = 8;

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
const ODD_32: [u32; 2] = [0x7feb_352d, 0x846c_a68b];

/// How addresses are scrambled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scramble([u64; 2]);

impl Scramble {
    pub(super) const fn new(seed: [u64; 2]) -> Self {
        Self(seed)
    }
}

/// Something as wide as an address.
pub(super) trait Key: Copy + Ord {
    /// Another one, and another one for each.
    fn scrambled(self, scramble: &Scramble) -> Self;

    /// What was scrambled.
    fn unscrambled(self, scramble: &Scramble) -> Self;

    /// The highest bits, as a fraction: for the lowest key 0, and for the highest nearly 2^64.
    fn fraction(self) -> u64;
}

#[allow(clippy::cast_possible_truncation, reason = "half of the seed is meant")]
const fn halves(seed: u64) -> (u32, u32) {
    (seed as u32, (seed >> 32) as u32)
}

impl Key for u32 {
    // Two rounds of multiplying and folding down (the constants of Wellons' lowbias32), the seed added
    // before each.
    #[inline]
    fn scrambled(self, scramble: &Scramble) -> Self {
        let (one, two) = halves(scramble.0[0]);
        let mut bits = self.wrapping_add(one);
        bits ^= bits >> 16;
        bits = bits.wrapping_mul(ODD_32[0]).wrapping_add(two);
        bits ^= bits >> 15;
        bits = bits.wrapping_mul(ODD_32[1]);
        bits ^ bits >> 16
    }

    fn unscrambled(self, scramble: &Scramble) -> Self {
        const INVERSE: [u32; 2] = [inverse(ODD_32[0]), inverse(ODD_32[1])];
        let (one, two) = halves(scramble.0[0]);
        let mut bits = self ^ self >> 16;
        bits = bits.wrapping_mul(INVERSE[1]);
        bits ^= bits >> 15 ^ bits >> 30;
        bits = bits.wrapping_sub(two).wrapping_mul(INVERSE[0]);
        bits ^= bits >> 16;
        bits.wrapping_sub(one)
    }

    #[inline]
    fn fraction(self) -> u64 {
        u64::from(self) << 32
    }
}

/// By which a multiplication is undone: each step of Newton's doubles the bits that are right.
const fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

impl Key for Wide {
    // Two rounds of a Feistel network: the lower half takes in the upper, then the upper the lower, and
    // it is the upper that says where a key lies.
    #[inline]
    fn scrambled(self, scramble: &Scramble) -> Self {
        let low = self.low ^ mix(self.high, scramble.0[0]);
        let high = self.high ^ mix(low, scramble.0[1]);
        Self { high, low }
    }

    fn unscrambled(self, scramble: &Scramble) -> Self {
        let high = self.high ^ mix(self.low, scramble.0[1]);
        let low = self.low ^ mix(high, scramble.0[0]);
        Self { high, low }
    }

    #[inline]
    fn fraction(self) -> u64 {
        self.high
    }
}

#[inline]
const fn mix(bits: u64, seed: u64) -> u64 {
    let product = Wide::new((bits ^ seed) as u128 * ODD as u128);
    product.high ^ product.low
}

/// Scrambled addresses in order, with an index of them.
#[derive(Clone, Debug)]
pub(super) struct Addresses<K> {
    pub(super) column: Column<K>,
    marks: Vec<Mark>,
}

/// An equal part of all numbers that keys can have.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// One bit for each 64th of the part: whether a key is in it.
    taken: u64,
    /// The first row whose key is in the part or behind it.
    start: u32,
}

impl<K: Key> Default for Addresses<K> {
    fn default() -> Self {
        Self::new(Column::default())
    }
}

impl<K: Key> Addresses<K> {
    pub(super) fn new(column: Column<K>) -> Self {
        let mark_count = (column.len() / KEYS_PER_MARK).max(1);
        let mut marks = vec![Mark::default(); mark_count];
        let mut next = 0;
        for (row, entry) in (0_u32..).zip(column.entries()) {
            let (index, place) = place_of(entry.key, mark_count);
            for mark in &mut marks[next..=index.max(next) - usize::from(index < next)] {
                mark.start = row;
            }
            next = next.max(index + 1);
            marks[index].taken |= 1 << place;
        }
        Self { column, marks }
    }

    /// The row that holds for this scrambled address.
    #[inline]
    pub(super) fn find(&self, key: K) -> Option<usize> {
        let (index, place) = place_of(key, self.marks.len());
        let Mark { taken, start } = self.marks[index];
        if taken >> place & 1 == 0 {
            return None;
        }
        // At least one key for each place that is taken before this one.
        let before = taken & !(u64::MAX << place);
        let from = start as usize + before.count_ones() as usize;
        let entries = self.column.entries();
        let row = from + steps_to(&entries[from..], key);
        (entries.get(row).is_some_and(|entry| entry.key == key)).then_some(row)
    }

    pub(super) fn byte_len(&self) -> usize {
        self.column.byte_len() + self.marks.capacity() * size_of::<Mark>()
    }
}

/// How many keys there are before the first that is not below `key`: few, unless there are thousands of
/// decisions on one address.
#[inline]
fn steps_to<K: Key>(entries: &[Entry<K>], key: K) -> usize {
    const MOST_WALKED: usize = 8;
    let near = entries.iter().take(MOST_WALKED);
    let walked = near.take_while(|entry| entry.key < key).count();
    if walked < MOST_WALKED {
        return walked;
    }
    entries.partition_point(|entry| entry.key < key)
}

/// The mark of a key, and its place among the 64 of the mark: as far through them as the key is through
/// its numbers.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "a fraction of the count is below the count"
)]
fn place_of<K: Key>(key: K, mark_count: usize) -> (usize, u32) {
    let part = Wide::new(u128::from(key.fraction()) * mark_count as u128);
    (part.high as usize, (part.low >> 58) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAMBLE: Scramble = Scramble::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);

    #[test]
    fn scrambling_can_be_undone() {
        let mut state = 1_u128;
        for step in 0..10_000_u32 {
            state = state
                .wrapping_mul(0xda94_2042_e4dd_58b5)
                .wrapping_add(1 << 77 | 1);
            let wide = Wide::new(state);
            assert_eq!(wide.scrambled(&SCRAMBLE).unscrambled(&SCRAMBLE), wide);
            for bits in [step, step << 16, u32::MAX - step] {
                assert_eq!(bits.scrambled(&SCRAMBLE).unscrambled(&SCRAMBLE), bits);
            }
        }
    }

    /// How many of these keys the fullest of as many marks has.
    fn fullest<K: Key>(keys: &[K]) -> usize {
        let mut counts = vec![0_usize; keys.len()];
        for key in keys {
            counts[place_of(key.scrambled(&SCRAMBLE), keys.len()).0] += 1;
        }
        counts.into_iter().max().unwrap()
    }

    /// Thrown at random, 65 536 keys into as many marks, the fullest has about 8.
    #[test]
    fn clustered_addresses_lie_evenly() {
        let base_v6 = 0x2001_0db8_u128 << 96;
        let count = 1 << 16;
        assert!(fullest::<u32>(&(0..count).map(|n| 0x0a00_0000 + n).collect::<Vec<_>>()) < 16);
        assert!(fullest::<u32>(&(0..count).map(|n| n << 16).collect::<Vec<_>>()) < 16);
        for shift in [0, 16, 48, 64, 80] {
            let keys = (0..u128::from(count)).map(|n| Wide::new(base_v6 | n << shift));
            assert!(fullest(&keys.collect::<Vec<_>>()) < 16, "{shift}");
        }
    }
}

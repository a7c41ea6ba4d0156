//! Single addresses: found by one step through an index and a look at the two or three keys there.
//!
//! Keys are scrambled addresses, each to another one, so that they lie evenly over their whole width
//! however the addresses cluster: an index of the key's place, as in a dictionary's thumb marks, then
//! has about as many keys behind each mark. The seed is the process's own: what an attacker gets listed
//! does not choose where it lies. Being in order, the keys can be merged, which a hash table cannot.

use super::column::Column;

/// Keys behind one mark of the index, on average: 2 bytes of index for each.
const KEYS_PER_MARK: usize = 2;

/// Past this many keys behind a mark, several decisions on one value, halving beats walking.
const MOST_WALKED: usize = 16;

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

    /// The 32 highest bits.
    fn top(self) -> u32;
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
    fn top(self) -> u32 {
        self
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

impl Key for u128 {
    // Two rounds of a Feistel network: the lower half takes in the upper, then the upper the lower, and
    // it is the upper that the index goes by.
    #[inline]
    fn scrambled(self, scramble: &Scramble) -> Self {
        let (mut high, mut low) = split(self);
        low ^= mix(high, scramble.0[0]);
        high ^= mix(low, scramble.0[1]);
        join(high, low)
    }

    fn unscrambled(self, scramble: &Scramble) -> Self {
        let (mut high, mut low) = split(self);
        high ^= mix(low, scramble.0[1]);
        low ^= mix(high, scramble.0[0]);
        join(high, low)
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "32 bits are left")]
    fn top(self) -> u32 {
        (self >> 96) as u32
    }
}

#[allow(clippy::cast_possible_truncation, reason = "each is one half")]
#[inline]
const fn split(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}

#[inline]
const fn join(high: u64, low: u64) -> u128 {
    (high as u128) << 64 | low as u128
}

#[inline]
const fn mix(bits: u64, seed: u64) -> u64 {
    let (high, low) = split((bits ^ seed) as u128 * ODD as u128);
    high ^ low
}

/// Scrambled addresses in order, with an index of them.
#[derive(Clone, Debug)]
pub(super) struct Addresses<K> {
    pub(super) column: Column<K>,
    /// Where the keys of each mark begin, and at last where they all end.
    marks: Vec<u32>,
}

impl<K: Key> Default for Addresses<K> {
    fn default() -> Self {
        Self::new(Column::default())
    }
}

impl<K: Key> Addresses<K> {
    pub(super) fn new(column: Column<K>) -> Self {
        let mark_count = (column.len() / KEYS_PER_MARK).max(1);
        let mut marks = Vec::with_capacity(mark_count + 1);
        for (index, key) in (0_u32..).zip(&column.keys) {
            while marks.len() <= mark_of(*key, mark_count) {
                marks.push(index);
            }
        }
        let end = u32::try_from(column.len()).expect("the store takes fewer than 2^32 decisions");
        marks.resize(mark_count + 1, end);
        Self { column, marks }
    }

    /// The row that holds for this scrambled address.
    #[inline]
    pub(super) fn find(&self, key: K) -> Option<usize> {
        let mark = mark_of(key, self.marks.len() - 1);
        let (from, to) = (self.marks[mark] as usize, self.marks[mark + 1] as usize);
        let keys = &self.column.keys[from..to];
        let before = if keys.len() <= MOST_WALKED {
            keys.iter().take_while(|other| **other < key).count()
        } else {
            keys.partition_point(|other| *other < key)
        };
        (keys.get(before) == Some(&key)).then_some(from + before)
    }

    pub(super) fn byte_len(&self) -> usize {
        self.column.byte_len() + self.marks.capacity() * size_of::<u32>()
    }
}

/// The mark a key lies behind: as far through the marks as the key through its numbers.
#[inline]
fn mark_of<K: Key>(key: K, mark_count: usize) -> usize {
    (u64::from(key.top()) * mark_count as u64 >> 32) as usize
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
            assert_eq!(state.scrambled(&SCRAMBLE).unscrambled(&SCRAMBLE), state);
            for bits in [step, step << 16, u32::MAX - step, state.top()] {
                assert_eq!(bits.scrambled(&SCRAMBLE).unscrambled(&SCRAMBLE), bits);
            }
        }
    }

    /// How many of these keys the fullest of as many marks has.
    fn fullest<K: Key>(keys: &[K]) -> usize {
        let mut counts = vec![0_usize; keys.len()];
        for key in keys {
            counts[mark_of(key.scrambled(&SCRAMBLE), keys.len())] += 1;
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
            let keys = (0..u128::from(count)).map(|n| base_v6 | n << shift);
            assert!(fullest(&keys.collect::<Vec<_>>()) < 16, "{shift}");
        }
    }
}

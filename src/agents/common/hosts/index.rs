//! Which patterns may match a name: by its end, by its beginning, and the few that tell neither.
//!
//! A name is hashed once from its end to its beginning, and at each length that some pattern's end has,
//! those patterns are looked up: the work is that of the name's length, not of the number of patterns.
//! Only patterns with the same end, or beginning, that have wildcards elsewhere are tried one by one.

use std::collections::HashMap;

use super::pattern::{HostPattern, Shape};

/// Patterns by what of them is fixed.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Whole names.
    names: Literals,
    /// Ends, of patterns such as `*.example.com` and of those that have to be tried.
    tails: Literals,
    /// Beginnings, of patterns that have to be tried and end in a wildcard.
    heads: Literals,
    /// Ranks of patterns with wildcards at both ends.
    others: Vec<usize>,
}

impl Index {
    /// An index of patterns and their ranks, which ascend.
    pub(super) fn new<'a>(patterns: impl Iterator<Item = (usize, &'a HostPattern)>) -> Self {
        let [mut names, mut tails, mut heads] = [(); 3].map(|()| HashMap::new());
        let mut others = Vec::new();
        for (rank, pattern) in patterns {
            let (literals, text, is_sure) = match pattern.shape() {
                Shape::Name(name) => (&mut names, name, true),
                Shape::Tail(tail) => (&mut tails, tail, true),
                Shape::Other { head: [], tail: [] } => {
                    others.push(rank);
                    continue;
                }
                Shape::Other { head, tail: [] } => (&mut heads, head, false),
                Shape::Other { tail, .. } => (&mut tails, tail, false),
            };
            let listed: &mut Vec<Listed> = literals.entry(text).or_default();
            listed.push(Listed { rank, is_sure });
        }
        Self {
            names: Literals::new(names, |text| Hash::of(text.iter().rev())),
            tails: Literals::new(tails, |text| Hash::of(text.iter().rev())),
            heads: Literals::new(heads, |text| Hash::of(text.iter())),
            others,
        }
    }

    /// Lowers `best` to the rank of the first pattern that matches, if that is lower.
    pub(super) fn find<T>(&self, name: &[u8], entries: &[(HostPattern, T)], best: &mut usize) {
        // A `*` does not go over a slash: what stands for it ends there at the latest.
        let slash = || name.iter().position(|&byte| byte == b'/');
        let mut hash = Hash::default();
        for len in 0..=name.len().min(self.names.longest.max(self.tails.longest)) {
            let tail = &name[name.len() - len..];
            if let Some(&byte) = tail.first() {
                hash.add(byte);
            }
            if len == name.len()
                && let Some([first, ..]) = self.names.get(hash, tail)
            {
                *best = first.rank.min(*best);
            }
            for listed in self.tails.get(hash, tail).unwrap_or_default() {
                if listed.rank >= *best {
                    break;
                }
                let matches = if listed.is_sure {
                    slash().is_none_or(|slash| slash >= name.len() - len)
                } else {
                    is_tried(name) && entries[listed.rank].0.matches(name)
                };
                if matches {
                    *best = listed.rank;
                }
            }
        }
        if !is_tried(name) {
            return;
        }
        let mut hash = Hash::default();
        for len in 1..=name.len().min(self.heads.longest) {
            hash.add(name[len - 1]);
            let head = &name[..len];
            for listed in self.heads.get(hash, head).unwrap_or_default() {
                if listed.rank >= *best {
                    break;
                }
                if entries[listed.rank].0.matches(name) {
                    *best = listed.rank;
                }
            }
        }
        for &rank in &self.others {
            if rank >= *best {
                break;
            }
            if entries[rank].0.matches(name) {
                *best = rank;
            }
        }
    }
}

/// Whether a name is held against patterns one by one.
const fn is_tried(name: &[u8]) -> bool {
    name.len() <= HostPattern::MAX_TRIED_LEN
}

/// A pattern under what of it is fixed.
#[derive(Clone, Copy, Debug)]
struct Listed {
    rank: usize,
    /// It matches whatever is found so; if not, it has to be tried.
    is_sure: bool,
}

/// A fixed text in lower case, and the patterns that have it, ranks ascending.
type Text = (Box<[u8]>, Box<[Listed]>);

/// Fixed texts in lower case, and the patterns that have them, found by a hash that a caller makes byte
/// by byte.
#[derive(Clone, Debug, Default)]
struct Literals {
    /// Places in `texts` by hash, each taking the next slot that is free. A power of two, and at least
    /// half of them empty.
    slots: Vec<Option<u32>>,
    texts: Vec<Text>,
    /// Which lengths there are.
    has_len: Vec<bool>,
    longest: usize,
}

impl Literals {
    fn new(texts: HashMap<&[u8], Vec<Listed>>, hash: impl Fn(&[u8]) -> Hash) -> Self {
        let longest = texts.keys().map(|text| text.len()).max();
        let mut this = Self {
            slots: vec![None; (2 * texts.len()).next_power_of_two()],
            texts: Vec::with_capacity(texts.len()),
            has_len: vec![false; longest.map_or(0, |longest| longest + 1)],
            longest: longest.unwrap_or(0),
        };
        for ((text, listed), index) in texts.into_iter().zip(0..) {
            let mut slot = hash(text).slot(this.slots.len());
            while this.slots[slot].is_some() {
                slot = (slot + 1) % this.slots.len();
            }
            this.slots[slot] = Some(index);
            this.has_len[text.len()] = true;
            this.texts.push((text.into(), listed.into()));
        }
        this
    }

    /// The patterns of this text in whatever case, ranks ascending; `hash` is that of it.
    #[inline]
    fn get(&self, hash: Hash, text: &[u8]) -> Option<&[Listed]> {
        if !self.has_len.get(text.len()).is_some_and(|&has| has) {
            return None;
        }
        let mut slot = hash.slot(self.slots.len());
        loop {
            let (found, listed) = &self.texts[self.slots[slot]? as usize];
            if found.eq_ignore_ascii_case(text) {
                return Some(listed);
            }
            slot = (slot + 1) % self.slots.len();
        }
    }
}

/// FNV-1a over bytes in lower case. Unkeyed: what is in the tables comes from the operator, so that a
/// client finds no long runs of slots that it did not make.
#[derive(Clone, Copy, Debug)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn of<'a>(bytes: impl Iterator<Item = &'a u8>) -> Self {
        let mut hash = Self::default();
        bytes.for_each(|&byte| hash.add(byte));
        hash
    }

    #[inline(always)]
    const fn add(&mut self, byte: u8) {
        let mixed = self.0 ^ byte.to_ascii_lowercase() as u64;
        self.0 = mixed.wrapping_mul(0x0100_0000_01b3);
    }

    /// The slot of so many, a power of two. The high bits are mixed in, which the low ones lack.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "what is cut off is masked anyway"
    )]
    const fn slot(self, count: usize) -> usize {
        (self.0 ^ (self.0 >> 32)) as usize & (count - 1)
    }
}

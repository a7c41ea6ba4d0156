//! Ranges: of the networks an address is in, the one that holds.
//!
//! The decisions lie in order of first address and prefix. From them the segments are made: the
//! addresses where what holds changes, with the row that holds from there on, so that looking up is
//! finding the last segment that begins at or before the address.
//!
//! Of tries, `poptrie` 0.2.1, `prefix-trie` 0.10.1 and `ip_network_table-deps-treebitmap` 0.5.0 were
//! measured with 100 000 networks (lowest of several runs on a busy machine): 18 to 70 ns a lookup and 4
//! to 15 MB for IPv4, where segments take 9 ns and 1.9 MB; 57 to 330 ns and 5 to 26 MB for IPv6, where
//! segments take 26 ns and 2.6 MB. A trie can be changed in place, which a snapshot has no use for.

use super::column::Column;
use super::kinds::Kinds;
use super::wide::Wide;

/// In a segment, for addresses in no network.
const NO_ROW: u32 = u32::MAX;

/// An address as a number.
pub(super) trait Bits: Copy + Ord + Default {
    /// The last address of the network that begins here.
    fn last(self, prefix_len: u8) -> Self;

    /// The next address; `None` behind the last of all.
    fn next(self) -> Option<Self>;

    /// The first address of the network of this prefix that this one is in.
    fn first(self, prefix_len: u8) -> Self;

    /// How long a prefix is at most.
    const WIDTH: u8;
}

impl Bits for u32 {
    #[inline]
    fn last(self, prefix_len: u8) -> Self {
        self | Self::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn first(self, prefix_len: u8) -> Self {
        self & !Self::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
    }

    const WIDTH: u8 = 32;
}

impl Bits for Wide {
    #[inline]
    fn last(self, prefix_len: u8) -> Self {
        Self::new(self.bits() | open(prefix_len))
    }

    fn next(self) -> Option<Self> {
        self.bits().checked_add(1).map(Self::new)
    }

    fn first(self, prefix_len: u8) -> Self {
        Self::new(self.bits() & !open(prefix_len))
    }

    const WIDTH: u8 = 128;
}

/// The bits that a prefix of IPv6 leaves open.
fn open(prefix_len: u8) -> u128 {
    u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0)
}

/// A network: its first address and its prefix. Outer ones come before the inner ones that begin where
/// they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix<B> {
    pub(super) first: B,
    pub(super) len: u8,
}

/// The networks, and where what holds changes.
#[derive(Clone, Debug)]
pub(super) struct Ranges<B, S> {
    pub(super) column: Column<Prefix<B>>,
    segments: S,
    /// The highest priority of any row.
    pub(super) highest_priority: u16,
}

/// Segments in an order of their own.
pub(in super::super) trait Segments<B> {
    /// Of segments in order, each with its first address and its row; the first begins at 0.
    fn new(segments: Vec<(B, u32)>) -> Self;

    /// The row of the last segment that begins at or before this address.
    fn find(&self, address: B) -> u32;

    fn byte_len(&self) -> usize;
}

impl<B: Bits, S: Segments<B>> Ranges<B, S> {
    pub(super) fn new(column: Column<Prefix<B>>, kinds: &Kinds) -> Self {
        let mut sweep = Changes(vec![(B::default(), NO_ROW)]);
        // The networks around where the sweep is, from the outermost on: the last address of each,
        // and the row that holds in it.
        let mut open: Vec<(B, u32, u16)> = Vec::new();
        let mut highest_priority = 0;
        let mut index = 0;
        while let Some(prefix) = column.entries().get(index).map(|entry| entry.key) {
            while let Some((last, ..)) = open.pop_if(|(last, ..)| *last < prefix.first) {
                sweep.end(last, &open);
            }
            let own = kinds.kind(column.kind(index)).priority;
            highest_priority = highest_priority.max(own);
            let row = u32::try_from(index).expect("the store takes fewer than 2^32 decisions");
            // The most specific network holds, unless one around it is of a higher priority.
            let (row, priority) = match open.last() {
                Some((_, outer, priority)) if *priority > own => (*outer, *priority),
                _ => (row, own),
            };
            sweep.begin(prefix.first, row);
            open.push((prefix.first.last(prefix.len), row, priority));
            // Of several rows of one network the first holds.
            index = column.run_from(index, prefix).end;
        }
        while let Some((last, ..)) = open.pop() {
            sweep.end(last, &open);
        }
        Self {
            column,
            segments: S::new(sweep.0),
            highest_priority,
        }
    }

    /// The row that holds for this address.
    #[inline]
    pub(super) fn find(&self, address: B) -> Option<usize> {
        match self.segments.find(address) {
            NO_ROW => None,
            row => Some(row as usize),
        }
    }

    /// All rows of networks around this address, from the most specific network on.
    pub(super) fn around(&self, address: B) -> impl Iterator<Item = usize> {
        (0..=B::WIDTH).rev().flat_map(move |len| {
            self.column.rows_of(Prefix {
                first: address.first(len),
                len,
            })
        })
    }

    pub(super) fn byte_len(&self) -> usize {
        self.column.byte_len() + self.segments.byte_len()
    }
}

/// Segments as they are made: no two begin at one address, and no two neighbours have the same row.
struct Changes<B>(Vec<(B, u32)>);

impl<B: Bits> Changes<B> {
    fn begin(&mut self, first: B, row: u32) {
        if self.0.last().is_some_and(|(other, _)| *other == first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(_, before)| *before != row) {
            self.0.push((first, row));
        }
    }

    /// What a network around one that ended has from there on.
    fn end(&mut self, last: B, open: &[(B, u32, u16)]) {
        if let Some(first) = last.next() {
            self.begin(first, open.last().map_or(NO_ROW, |(_, row, _)| *row));
        }
    }
}

/// IPv4: segments behind an index of the upper half of the address.
#[derive(Clone, Debug)]
pub(in super::super) struct SegmentsV4 {
    segments: Vec<(u32, u32)>,
    /// For each number the upper bits can have, the first segment that begins past it and before the
    /// next; and at last how many there are.
    marks: Vec<u32>,
    /// By how much an address is shifted to be such a number.
    shift: u32,
}

/// Half of an address: 256 KiB of index, which is what made lookups faster than a search through all.
const MOST_MARK_BITS: u32 = 16;

impl Segments<u32> for SegmentsV4 {
    fn new(mut segments: Vec<(u32, u32)>) -> Self {
        segments.shrink_to_fit();
        // As many marks as segments, so that few networks take little memory.
        let bits = segments.len().ilog2().min(MOST_MARK_BITS);
        let shift = 32 - bits;
        let mut marks = Vec::with_capacity((1 << bits) + 1);
        for (index, (first, _)) in (0_u32..).zip(&segments) {
            while marks.len() <= first.checked_shr(shift).unwrap_or(0) as usize {
                marks.push(index);
            }
        }
        let end = u32::try_from(segments.len()).expect("the store takes fewer than 2^31 ranges");
        marks.resize((1 << bits) + 1, end);
        Self {
            segments,
            marks,
            shift,
        }
    }

    #[inline]
    fn find(&self, address: u32) -> u32 {
        let mark = address.checked_shr(self.shift).unwrap_or(0) as usize;
        let (from, to) = (self.marks[mark] as usize, self.marks[mark + 1] as usize);
        let before = self.segments[from..to].partition_point(|(first, _)| *first <= address);
        // With none of its own the mark's numbers are in the segment before; the first begins at 0.
        self.segments[from + before - 1].1
    }

    fn byte_len(&self) -> usize {
        self.segments.capacity() * size_of::<(u32, u32)>() + self.marks.capacity() * 4
    }
}

/// IPv6: a search among every 64th segment, then among every 8th of those between, then the 8.
///
/// IPv6 addresses in use cluster under few prefixes, where an index of the upper bits says little. Nearly
/// all networks have their own upper half, so that half is searched, and the lower one only where it
/// matters.
#[derive(Clone, Debug)]
pub(in super::super) struct SegmentsV6 {
    /// The upper half of the first address of every 64th segment: 25 KB for 100 000 networks, which stay
    /// in the nearest cache.
    tops: Vec<u64>,
    /// That of every 8th.
    middles: Vec<Line>,
    /// That of each.
    highs: Vec<Line>,
    /// The lower half of each; empty if all of them are 0, as there is no network smaller than /64.
    lows: Vec<u64>,
    rows: Vec<u32>,
}

/// A cache line, so that what is searched last is one.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Line([u64; LINE_LEN]);

const LINE_LEN: usize = 8;

/// These in lines; what is missing to the last is filled with the highest number.
fn lines(numbers: impl IntoIterator<Item = u64>) -> Vec<Line> {
    let mut numbers = numbers.into_iter().peekable();
    let mut lines = Vec::new();
    while numbers.peek().is_some() {
        lines.push(Line(std::array::from_fn(|_| {
            numbers.next().unwrap_or(u64::MAX)
        })));
    }
    lines.shrink_to_fit();
    lines
}

impl Line {
    /// The index of the last number that is not above, if the first one is not.
    #[inline]
    fn last_not_above(&self, number: u64) -> usize {
        // Without branches: none of them could be foreseen.
        let Self(numbers) = self;
        let half = usize::from(numbers[4] <= number) * 4;
        let quarter = half + usize::from(numbers[half + 2] <= number) * 2;
        quarter + usize::from(numbers[quarter + 1] <= number)
    }
}

impl Segments<Wide> for SegmentsV6 {
    fn new(segments: Vec<(Wide, u32)>) -> Self {
        let highs = || segments.iter().map(|(first, _)| first.high);
        let mut lows: Vec<u64> = segments.iter().map(|(first, _)| first.low).collect();
        if lows.iter().all(|low| *low == 0) {
            lows = Vec::new();
        }
        Self {
            tops: highs().step_by(LINE_LEN * LINE_LEN).collect(),
            middles: lines(highs().step_by(LINE_LEN)),
            highs: lines(highs()),
            lows,
            rows: segments.iter().map(|(_, row)| *row).collect(),
        }
    }

    #[inline]
    fn find(&self, address: Wide) -> u32 {
        let Wide { high, low } = address;
        // The last segment whose upper half is not above: the first begins at 0, so there is one.
        let top = self.tops.partition_point(|first| *first <= high) - 1;
        let middle = top * LINE_LEN + self.middles[top].last_not_above(high);
        // What the lines are filled with is not above the highest number of all.
        let middle = middle.min(self.highs.len() - 1);
        let index = middle * LINE_LEN + self.highs[middle].last_not_above(high);
        let index = index.min(self.rows.len() - 1);
        if self.lows.is_empty() || self.high(index) != high || self.lows[index] <= low {
            return self.rows[index];
        }
        self.find_among_equals(index, high, low)
    }

    fn byte_len(&self) -> usize {
        (self.tops.capacity() + self.lows.capacity()) * size_of::<u64>()
            + (self.middles.capacity() + self.highs.capacity()) * size_of::<Line>()
            + self.rows.capacity() * size_of::<u32>()
    }
}

impl SegmentsV6 {
    #[inline]
    fn high(&self, index: usize) -> u64 {
        self.highs[index / LINE_LEN].0[index % LINE_LEN]
    }

    /// As [`find`](Segments::find), where several segments have the upper half, the last of them at
    /// `index`.
    #[cold]
    fn find_among_equals(&self, index: usize, high: u64, low: u64) -> u32 {
        let line = self
            .highs
            .partition_point(|line| line.0[LINE_LEN - 1] < high);
        let mut start = line * LINE_LEN;
        while self.high(start) != high {
            start += 1;
        }
        let before = self.lows[start..index].partition_point(|first| *first <= low);
        // If all of them begin behind, it is the one before.
        self.rows[start + before - 1]
    }
}

//! What a database in MaxMind's format says of addresses, laid out as segments when it is read.
//!
//! In the file an address is walked bit by bit through a tree, and then a record of texts in many
//! languages is read for the two letters in it, which of cities takes half a microsecond and more. Of all
//! records no more than some hundred countries, or some ten thousand autonomous systems, are left here,
//! and neighbours that have the same are one segment, so that looking up is finding a segment: some
//! fifty nanoseconds, in 10 MB.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use maxminddb::{LookupResult, MaxMindDbError, Metadata, Reader};

use super::dataset::{Segments, SegmentsV4, SegmentsV6, Wide};
use super::geo::Place;

/// In a segment, for addresses of which nothing is known.
const NOWHERE: u32 = u32::MAX;

/// In a segment, for addresses that only the reader knows the place of.
const ASK: u32 = u32::MAX - 1;

/// In a segment of IPv6, for networks that IPv4 lies in, as it does in 2002::/16: this, less their prefix.
const EMBEDDED: u32 = u32::MAX - 2;

/// The longest prefix that 32 bits have room behind.
const MOST_BEFORE_V4: u8 = 96;

/// More places than this are not told apart, so that no number of one is among those above.
const MOST_PLACES: usize = (EMBEDDED - MOST_BEFORE_V4 as u32) as usize;

/// A file, which is read by its tree here and by its records elsewhere.
pub(super) struct FileReader {
    bytes: Arc<[u8]>,
    reader: Reader<Arc<[u8]>>,
}

impl FileReader {
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Result<Self, MaxMindDbError> {
        let bytes = Arc::from(bytes);
        let reader = Reader::from_source(Arc::clone(&bytes))?;
        Ok(Self { bytes, reader })
    }

    pub(super) fn metadata(&self) -> &Metadata {
        self.reader.metadata()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The place of an address as its record has it.
    pub(super) fn place(&self, address: IpAddr) -> Place {
        // Asked for what it cannot have, the reader would make an error, with a text.
        if address.is_ipv6() && self.metadata().ip_version == 4 {
            return Place::default();
        }
        let record = self.reader.lookup(address).ok();
        let record = record.filter(LookupResult::has_data);
        record.map_or_else(Place::default, |record| Place::of(&record))
    }
}

/// Where addresses are.
pub(super) struct Places {
    places: Vec<Place>,
    v4: SegmentsV4,
    v6: SegmentsV6,
}

/// What an address comes to.
pub(super) enum Answer {
    /// This.
    Known(Place),
    /// What the reader says.
    Ask,
}

impl Places {
    /// Those of a file, and whether its reader is still needed:
    /// where branches of the tree are shared in a way that databases have no use for, so that walking
    /// them all might take for ever.
    pub(super) fn new(reader: &FileReader) -> (Self, bool) {
        let metadata = reader.metadata();
        let tree = Tree {
            bytes: &reader.bytes,
            record_size: metadata.record_size,
            node_count: metadata.node_count as usize,
        };
        let has_v6 = metadata.ip_version == 6;
        let mut start = 0;
        for _ in 0..if has_v6 { MOST_BEFORE_V4 } else { 0 } {
            if start < tree.node_count {
                start = tree.branch(start, 0);
            }
        }
        let mut walk = Walk {
            seen: vec![0; tree.node_count / 64 + 1],
            tree,
            reader,
            rows_of_records: HashMap::new(),
            rows_of_places: HashMap::new(),
            places: Vec::new(),
            is_asked: false,
            is_cut: false,
        };
        let mut v4 = Vec::new();
        walk.v4(start, &mut v4);
        // As deep as it can be walked as IPv4, it has to end for the same to hold within IPv6.
        let embedded = (!walk.is_asked && !walk.is_cut).then_some(start);
        let mut v6 = Vec::new();
        if has_v6 {
            walk.v6(embedded, &mut v6);
        } else {
            v6.push((Wide::default(), NOWHERE));
        }
        let is_asked = walk.is_asked;
        let mut places = walk.places;
        places.shrink_to_fit();
        let this = Self {
            places,
            v4: SegmentsV4::new(v4),
            v6: SegmentsV6::new(v6),
        };
        (this, is_asked)
    }

    /// What an address comes to. One that is mapped into IPv6 is not looked for as IPv4.
    #[inline]
    pub(super) fn find(&self, address: IpAddr) -> Answer {
        let row = match address {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => {
                let row = self.v6.find(Wide::new(v6.to_bits()));
                match EMBEDDED.checked_sub(row) {
                    Some(len) if len <= MOST_BEFORE_V4.into() => {
                        self.v4.find((v6.to_bits() << len >> MOST_BEFORE_V4) as u32)
                    }
                    _ => row,
                }
            }
        };
        match self.places.get(row as usize) {
            Some(place) => Answer::Known(*place),
            None if row == ASK => Answer::Ask,
            None => Answer::Known(Place::default()),
        }
    }

    /// What it takes in memory, in bytes.
    pub(super) fn byte_len(&self) -> usize {
        self.places.capacity() * size_of::<Place>() + self.v4.byte_len() + self.v6.byte_len()
    }
}

/// The tree of a file. Its bounds were checked when the reader was made.
struct Tree<'a> {
    bytes: &'a [u8],
    record_size: u16,
    node_count: usize,
}

impl Tree<'_> {
    /// Where one of the two branches of a node leads: to a node, nowhere if it is the number of nodes,
    /// or to a record.
    fn branch(&self, node: usize, side: usize) -> usize {
        let number = |at: usize| {
            let bytes = [0, 1, 2, 3].map(|byte| self.bytes[at + byte]);
            u32::from_be_bytes(bytes)
        };
        let number = match (self.record_size, side) {
            (24, 0) => number(node * 6) >> 8,
            (24, _) => number(node * 6 + 2) & 0x00ff_ffff,
            (28, 0) => {
                let number = number(node * 7);
                number >> 8 | number << 20 & 0x0f00_0000
            }
            (28, _) => number(node * 7 + 3) & 0x0fff_ffff,
            _ => number(node * 8 + side * 4),
        };
        number as usize
    }
}

/// All that is collected on the way.
struct Walk<'a> {
    tree: Tree<'a>,
    reader: &'a FileReader,
    /// One bit for each node: whether it was come by.
    seen: Vec<u64>,
    rows_of_records: HashMap<usize, u32>,
    rows_of_places: HashMap<Place, u32>,
    places: Vec<Place>,
    /// Whether a segment is left to the reader.
    is_asked: bool,
    /// Whether a branch of IPv4 is longer than an address.
    is_cut: bool,
}

impl Walk<'_> {
    fn v4(&mut self, start: usize, segments: &mut Vec<(u32, u32)>) {
        let mut ahead = vec![(start, 0_u32, 0_u8)];
        while let Some((node, first, depth)) = ahead.pop() {
            let row = if node >= self.tree.node_count {
                self.row(node, Ipv4Addr::from_bits(first).into())
            } else if depth == 32 {
                self.is_cut = true;
                NOWHERE
            } else if self.is_seen(node) {
                self.ask()
            } else {
                let (left, right) = (self.tree.branch(node, 0), self.tree.branch(node, 1));
                ahead.push((right, first | 1 << (31 - depth), depth + 1));
                ahead.push((left, first, depth + 1));
                continue;
            };
            push(segments, first, row);
        }
    }

    fn v6(&mut self, embedded: Option<usize>, segments: &mut Vec<(Wide, u32)>) {
        let mut ahead = vec![(0, 0_u128, 0_u8)];
        while let Some((node, first, depth)) = ahead.pop() {
            let row = if node >= self.tree.node_count {
                self.row(node, Ipv6Addr::from_bits(first).into())
            } else if depth == 128 {
                NOWHERE
            } else if embedded == Some(node) && depth <= MOST_BEFORE_V4 {
                EMBEDDED - u32::from(depth)
            } else if self.is_seen(node) {
                self.ask()
            } else {
                let (left, right) = (self.tree.branch(node, 0), self.tree.branch(node, 1));
                ahead.push((right, first | 1 << (127 - depth), depth + 1));
                ahead.push((left, first, depth + 1));
                continue;
            };
            push(segments, Wide::new(first), row);
        }
    }

    /// Whether a node was come by before. Each is walked once, however many branches lead to it.
    fn is_seen(&mut self, node: usize) -> bool {
        let (word, bit) = (&mut self.seen[node / 64], 1 << (node % 64));
        let is_seen = *word & bit != 0;
        *word |= bit;
        is_seen
    }

    fn ask(&mut self) -> u32 {
        self.is_asked = true;
        ASK
    }

    /// The row of the place that a record has, which is that of this address.
    fn row(&mut self, record: usize, address: IpAddr) -> u32 {
        if record == self.tree.node_count {
            return NOWHERE;
        }
        if let Some(row) = self.rows_of_records.get(&record) {
            return *row;
        }
        let place = self.reader.place(address);
        let row = if place == Place::default() {
            NOWHERE
        } else if let Some(row) = self.rows_of_places.get(&place) {
            *row
        } else {
            match u32::try_from(self.places.len()) {
                Ok(row) if self.places.len() < MOST_PLACES => {
                    self.places.push(place);
                    self.rows_of_places.insert(place, row);
                    row
                }
                _ => self.ask(),
            }
        };
        self.rows_of_records.insert(record, row);
        row
    }
}

/// Segments that have the same are one.
fn push<B>(segments: &mut Vec<(B, u32)>, first: B, row: u32) {
    if segments.last().is_none_or(|(_, before)| *before != row) {
        segments.push((first, row));
    }
}

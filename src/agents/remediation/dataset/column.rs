//! Decisions of one sort in order of their value. An entry takes 12 bytes for an IPv4 address and 24 for
//! an IPv6 one, and 4 beside it if any decision has an id, or 8 if any of them is no number of 32 bits:
//! what a lookup needs lies together, and is in the cache together.
//!
//! A column is never changed. [`Column::merge`] makes the next one of it and of what is to be done,
//! which costs a copy of the entries at the speed of memory and a sort of the operations: cheaper than
//! it sounds, and what is looked up meanwhile is not disturbed.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use super::decision::Expiry;
use super::kinds::{Kinds, SourceId};
use super::wide::Wide;

/// In `ids`, for a decision without one. LAPI counts from 1.
const NO_ID: i64 = i64::MIN;

/// Entries in order of key; of those with equal keys the one that holds comes first.
#[derive(Clone, Debug)]
pub(super) struct Column<K> {
    entries: Vec<Entry<K>>,
    ids: Ids,
    /// Of all entries the first.
    next_expiry: Expiry,
}

/// A decision, without its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) expiry: Expiry,
    pub(super) kind: u16,
}

/// The ids of entries, of each one.
#[derive(Clone, Debug)]
enum Ids {
    /// No entry has one.
    None,
    /// All are below [`NO_NARROW_ID`], as those of a database that counts from 1 are.
    Narrow(Vec<u32>),
    Wide(Vec<i64>),
}

/// In `Ids::Narrow`, for a decision without one.
const NO_NARROW_ID: u32 = u32::MAX;

/// An id, or [`NO_ID`], as it is in `Ids::Narrow`; `None` if it does not fit.
fn narrow(id: i64) -> Option<u32> {
    match id {
        NO_ID => Some(NO_NARROW_ID),
        _ => u32::try_from(id).ok().filter(|id| *id != NO_NARROW_ID),
    }
}

impl Ids {
    fn get(&self, index: usize) -> i64 {
        match self {
            Self::None => NO_ID,
            Self::Narrow(ids) => match ids[index] {
                NO_NARROW_ID => NO_ID,
                id => id.into(),
            },
            Self::Wide(ids) => ids[index],
        }
    }

    /// One more, which has to fit.
    fn push(&mut self, id: i64) {
        match self {
            Self::None => {}
            Self::Narrow(ids) => ids.push(narrow(id).unwrap_or(NO_NARROW_ID)),
            Self::Wide(ids) => ids.push(id),
        }
    }

    /// Those of another column's rows, which have to fit.
    fn extend(&mut self, other: &Self, rows: Range<usize>) {
        match (self, other) {
            (Self::None, _) => {}
            (Self::Narrow(ids), Self::Narrow(others)) => ids.extend_from_slice(&others[rows]),
            (Self::Wide(ids), Self::Wide(others)) => ids.extend_from_slice(&others[rows]),
            (ids, _) => rows.for_each(|row| ids.push(other.get(row))),
        }
    }

    fn shrink(&mut self) {
        let has_none = match self {
            Self::None => return,
            Self::Narrow(ids) => ids.iter().all(|id| *id == NO_NARROW_ID),
            Self::Wide(ids) => ids.iter().all(|id| *id == NO_ID),
        };
        match self {
            _ if has_none => *self = Self::None,
            Self::None => {}
            Self::Narrow(ids) => ids.shrink_to_fit(),
            Self::Wide(ids) => ids.shrink_to_fit(),
        }
    }

    fn byte_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Narrow(ids) => ids.capacity() * size_of::<u32>(),
            Self::Wide(ids) => ids.capacity() * size_of::<i64>(),
        }
    }
}

/// What most of the memory goes into.
const _: () = assert!(size_of::<Entry<u32>>() == 12 && size_of::<Entry<Wide>>() == 24);

impl<K> Default for Column<K> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            ids: Ids::None,
            next_expiry: Expiry::NEVER,
        }
    }
}

/// What a decision is beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    id: i64,
    pub(super) expiry: Expiry,
    pub(super) kind: u16,
}

impl Row {
    pub(super) fn new(kind: u16, expiry: Expiry, id: Option<i64>) -> Self {
        Self {
            id: id.unwrap_or(NO_ID),
            expiry,
            kind,
        }
    }

    pub(super) fn id(&self) -> Option<i64> {
        (self.id != NO_ID).then_some(self.id)
    }
}

/// Something to be done about the decisions on one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<K> {
    pub(super) key: K,
    // The parts of a `Row`, which as one would leave a gap.
    id: i64,
    expiry: Expiry,
    /// Its place among all operations, from 1.
    number: u32,
    kind: u16,
    action: Action,
}

/// A million of them wait while a list is read.
const _: () = assert!(size_of::<Operation<u32>>() == 24 && size_of::<Operation<Wide>>() == 40);

/// What is done about the decisions on one value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// One comes.
    Insert,
    /// Those of the source and word that the kind has go.
    RemoveWord,
    /// The one of the kind's source and of the id goes.
    RemoveId,
}

impl<K> Operation<K> {
    pub(super) const fn new(key: K, row: Row, number: u32, action: Action) -> Self {
        let Row { id, expiry, kind } = row;
        Self {
            key,
            id,
            expiry,
            number,
            kind,
            action,
        }
    }

    const fn row(&self) -> Row {
        Row {
            id: self.id,
            expiry: self.expiry,
            kind: self.kind,
        }
    }
}

/// What is to be done about decisions wherever they are. Only what came before it is struck.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    /// The place of the operation that last cleared each source; 0 where none did.
    pub(super) cleared: Vec<u32>,
    /// The places of the operations that removed ids.
    pub(super) removed: HashMap<(SourceId, i64), u32>,
}

impl Sweep {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.cleared.iter().all(|number| *number == 0)
    }

    /// Whether a row that came at `number` is removed later.
    fn strikes(&self, row: &Row, number: u32, kinds: &Kinds) -> bool {
        let source = kinds.kind(row.kind).source;
        self.cleared
            .get(source.index())
            .is_some_and(|at| *at > number)
            || (!self.removed.is_empty() && row.id != NO_ID)
                && self
                    .removed
                    .get(&(source, row.id))
                    .is_some_and(|at| *at > number)
    }
}

/// How many decisions came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Decisions that were not there.
    pub added: usize,
    /// Decisions that came again: those with another expiry, that is; where nothing differs, nothing
    /// counts.
    pub renewed: usize,
    /// Decisions that were removed, one by one or with their source.
    pub removed: usize,
    /// Decisions that ended.
    pub expired: usize,
}

impl Changes {
    /// Whether all is as it was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These and those.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            added: self.added + other.added,
            renewed: self.renewed + other.renewed,
            removed: self.removed + other.removed,
            expired: self.expired + other.expired,
        }
    }
}

impl<K: Copy + Ord> Column<K> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn next_expiry(&self) -> Expiry {
        self.next_expiry
    }

    #[inline]
    pub(super) fn entries(&self) -> &[Entry<K>] {
        &self.entries
    }

    #[inline]
    pub(super) fn key(&self, index: usize) -> K {
        self.entries[index].key
    }

    #[inline]
    pub(super) fn kind(&self, index: usize) -> u16 {
        self.entries[index].kind
    }

    pub(super) fn row(&self, index: usize) -> Row {
        let entry = &self.entries[index];
        Row {
            id: self.ids.get(index),
            expiry: entry.expiry,
            kind: entry.kind,
        }
    }

    /// The first row of this key, which is the one that holds.
    #[inline]
    pub(super) fn find(&self, key: K) -> Option<usize> {
        let row = self.entries.partition_point(|entry| entry.key < key);
        self.entries
            .get(row)
            .is_some_and(|entry| entry.key == key)
            .then_some(row)
    }

    /// The rows that have this key, as indexes.
    pub(super) fn rows_of(&self, key: K) -> Range<usize> {
        self.find(key)
            .map_or(0..0, |start| self.run_from(start, key))
    }

    /// The rows from `start` on that have this key.
    pub(super) fn run_from(&self, start: usize, key: K) -> Range<usize> {
        let run = self.entries[start..]
            .iter()
            .take_while(|entry| entry.key == key);
        start..start + run.count()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<K>>() + self.ids.byte_len()
    }

    /// Whether merging nothing but this would change anything.
    pub(super) fn is_touched_by(&self, sweep: &Sweep, now_unix_s: u64) -> bool {
        self.len() > 0 && (!sweep.is_empty() || self.next_expiry.is_past(now_unix_s))
    }

    /// The column after these operations, without what has ended by now. The operations are sorted
    /// here; their order is that of their numbers.
    pub(super) fn merge(
        &self,
        operations: &mut [Operation<K>],
        sweep: &Sweep,
        now_unix_s: u64,
        kinds: &Kinds,
    ) -> (Self, Changes) {
        operations.sort_unstable_by_key(|operation| (operation.key, operation.number));
        let insert_count = operations
            .iter()
            .filter(|o| matches!(o.action, Action::Insert))
            .count();
        let mut merge = Merge {
            old: self,
            new: self.with_capacity(self.len() + insert_count, operations),
            sweep,
            now_unix_s,
            kinds,
            changes: Changes::default(),
        };
        let mut run = Vec::new();
        let (mut taken, mut rest) = (0, &*operations);
        while let Some(first) = rest.first() {
            let start = taken + gallop(&self.entries[taken..], first.key);
            merge.copy(taken..start);
            let old = self.run_from(start, first.key);
            taken = old.end;
            let count = rest
                .iter()
                .take_while(|other| other.key == first.key)
                .count();
            let (of_key, others) = rest.split_at(count);
            merge.apply(first.key, old, of_key, &mut run);
            rest = others;
        }
        merge.copy(taken..self.len());
        let Merge {
            mut new, changes, ..
        } = merge;
        new.shrink();
        (new, changes)
    }

    /// An empty one with room for so many rows, whose ids are of this one and of these operations.
    fn with_capacity(&self, row_count: usize, operations: &[Operation<K>]) -> Self {
        let is_wide =
            matches!(self.ids, Ids::Wide(_)) || operations.iter().any(|o| narrow(o.id).is_none());
        let has_none = matches!(self.ids, Ids::None) && operations.iter().all(|o| o.id == NO_ID);
        Self {
            entries: Vec::with_capacity(row_count),
            ids: match (has_none, is_wide) {
                (true, _) => Ids::None,
                (false, false) => Ids::Narrow(Vec::with_capacity(row_count)),
                (false, true) => Ids::Wide(Vec::with_capacity(row_count)),
            },
            next_expiry: Expiry::NEVER,
        }
    }

    fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.ids.shrink();
    }
}

/// The first index whose key is not below `key`, found in steps that double: most are near.
fn gallop<K: Copy + Ord>(entries: &[Entry<K>], key: K) -> usize {
    let mut step = 1;
    while step < entries.len() && entries[step].key < key {
        step *= 2;
    }
    let (from, to) = (step / 2, entries.len().min(step + 1));
    from + entries[from..to].partition_point(|entry| entry.key < key)
}

struct Merge<'a, K> {
    old: &'a Column<K>,
    new: Column<K>,
    sweep: &'a Sweep,
    now_unix_s: u64,
    kinds: &'a Kinds,
    changes: Changes,
}

impl<K: Copy + Ord> Merge<'_, K> {
    /// Takes over rows that no operation names.
    fn copy(&mut self, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        let old = self.old;
        if old.is_touched_by(self.sweep, self.now_unix_s) {
            for index in rows {
                let row = old.row(index);
                if self.sweep.strikes(&row, 0, self.kinds) {
                    self.changes.removed += 1;
                } else if row.expiry.is_past(self.now_unix_s) {
                    self.changes.expired += 1;
                } else {
                    self.push(old.key(index), row);
                }
            }
            return;
        }
        // Nothing in the old column has ended, so its first expiry is good for any part of it.
        self.new.next_expiry = self.new.next_expiry.min(old.next_expiry);
        self.new
            .entries
            .extend_from_slice(&old.entries[rows.clone()]);
        self.new.ids.extend(&old.ids, rows);
    }

    fn push(&mut self, key: K, row: Row) {
        self.new.next_expiry = self.new.next_expiry.min(row.expiry);
        self.new.entries.push(Entry {
            key,
            expiry: row.expiry,
            kind: row.kind,
        });
        self.new.ids.push(row.id);
    }

    /// What becomes of the rows of one key. `run` is room that is used again.
    fn apply(
        &mut self,
        key: K,
        old: Range<usize>,
        operations: &[Operation<K>],
        run: &mut Vec<Candidate>,
    ) {
        let before = old.len();
        run.clear();
        let old = old.map(|index| Candidate::old(self.old.row(index)));
        run.extend(old.chain(operations.iter().map(Candidate::new)));
        // Of one identity the last insertion counts, unless it is removed after. Sorting finds that in
        // n log n, for values that someone has thousands of decisions on.
        run.sort_unstable_by_key(|one| (self.identity(&one.row), one.number));
        run.dedup_by(|later, earlier| {
            let is_one = self.identity(&later.row) == self.identity(&earlier.row)
                && !matches!(later.action, Action::RemoveWord)
                && !matches!(earlier.action, Action::RemoveWord);
            if is_one {
                *earlier = Candidate {
                    old: earlier.old,
                    ..*later
                };
            }
            is_one
        });
        run.retain(|one| !matches!(one.action, Action::RemoveId));
        let word = |row: &Row| {
            let kind = self.kinds.kind(row.kind);
            (kind.source, kind.word)
        };
        // Backwards, so that a removal is seen before what it strikes.
        run.sort_unstable_by_key(|one| (word(&one.row), Reverse(one.number)));
        let mut removal = None;
        let (mut expired, mut kept) = (0, 0);
        run.retain(|one| {
            let row = &one.row;
            if matches!(one.action, Action::RemoveWord) {
                removal = Some(word(row));
                return false;
            }
            if removal == Some(word(row)) || self.sweep.strikes(row, one.number, self.kinds) {
                return false;
            }
            if row.expiry.is_past(self.now_unix_s) {
                // One that had ended when it came was never there.
                expired += usize::from(one.old.is_some());
                return false;
            }
            match one.old {
                Some(old) => {
                    kept += 1;
                    self.changes.renewed += usize::from(old != *row);
                }
                None => self.changes.added += 1,
            }
            true
        });
        self.changes.expired += expired;
        self.changes.removed += before - kept - expired;
        // Of equal rank the one that lasts longest is shown; the rest only makes the order certain.
        run.sort_unstable_by_key(|one| {
            let rank = self.kinds.kind(one.row.kind).rank();
            Reverse((rank, one.row.expiry, one.row.kind, one.row.id))
        });
        for one in run.iter() {
            self.push(key, one.row);
        }
    }

    /// What a decision on a value is known by: with an id by that and its source, without by its kind.
    fn identity(&self, row: &Row) -> (SourceId, i64, u16) {
        let kind = if row.id == NO_ID { row.kind } else { 0 };
        (self.kinds.kind(row.kind).source, row.id, kind)
    }
}

/// A row of one key, or what is to be done about such rows.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    row: Row,
    /// That of the operation; 0 for a row that was there before.
    number: u32,
    action: Action,
    /// What was there of the same identity.
    old: Option<Row>,
}

impl Candidate {
    fn old(row: Row) -> Self {
        Self {
            row,
            number: 0,
            action: Action::Insert,
            old: Some(row),
        }
    }

    fn new<K>(operation: &Operation<K>) -> Self {
        Self {
            row: operation.row(),
            number: operation.number,
            action: operation.action,
            old: None,
        }
    }
}

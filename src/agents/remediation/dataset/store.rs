//! The master copy, kept by one thread: it takes what sources say, and makes snapshots of it.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use super::addresses::{Addresses, Key, Scramble};
use super::column::{Action, Changes, Column, Operation, Row, Sweep};
use super::decision::{CountryCode, Decision, Expiry, Remediation, Subject};
use super::kinds::{KindFinder, Kinds, Source, SourceId};
use super::network::Network;
use super::ranges::{Prefix, Ranges};
use super::snapshot::Snapshot;
use super::wide::Wide;

/// Why a store does not take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// More than 256 sources.
    TooManySources,
    /// More than 65 536 different sources, origins and words together: too many for what an operator or
    /// a LAPI says, so what is read is something else.
    TooManyKinds,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManySources => "more than 256 sources of decisions",
            Self::TooManyKinds => {
                "more than 65536 different origins and remediations; is it a file of decisions?"
            }
        })
    }
}

impl std::error::Error for StoreError {}

/// Decisions of several sources, and what is to be done to them.
///
/// What is told it is noted down; [`apply`](Self::apply) does it all at once, and then
/// [`snapshot`](Self::snapshot) has it. The decisions are kept in the snapshot alone, so the store takes
/// no memory beside it but that of the notes: 24 bytes for each on an IPv4 address, 40 on an IPv6 one.
///
/// ```
/// use ringspoa::agents::remediation::{Decision, DecisionStore, Remediation, Source, Subject};
///
/// let mut store = DecisionStore::new();
/// let lapi = store.add_source(Source::default())?;
/// let subject: Subject = "192.0.2.0/24".parse()?;
/// store.insert(lapi, &Decision::new(subject, "ban", "cscli").with_id(7))?;
/// store.apply(1_700_000_000);
///
/// let snapshot = store.snapshot();
/// let found = snapshot.lookup("192.0.2.1".parse()?).expect("its network is banned");
/// assert_eq!(found.remediation(), Remediation::Ban);
/// assert_eq!(found.id(), Some(7));
///
/// // The snapshot stays what it is; the next one has one decision less.
/// store.remove(lapi, subject, 7);
/// assert_eq!(store.apply(1_700_000_010).removed, 1);
/// assert!(store.snapshot().lookup("192.0.2.1".parse()?).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A decision is known by its source, subject and id, or if it has none by its source, subject, origin
/// and word. What is inserted once more takes the place of what was there; there can be any number on
/// one subject. Removing what is not there is nothing wrong.
#[derive(Clone, Debug)]
pub struct DecisionStore {
    /// All that was applied.
    snapshot: Arc<Snapshot>,
    finder: KindFinder,
    notes: Notes,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
struct Notes {
    /// How many there are, which is the number of the last.
    count: u32,
    addresses_v4: Vec<Operation<u32>>,
    addresses_v6: Vec<Operation<Wide>>,
    ranges_v4: Vec<Operation<Prefix<u32>>>,
    ranges_v6: Vec<Operation<Prefix<Wide>>>,
    countries: Vec<Operation<CountryCode>>,
    as_numbers: Vec<Operation<u32>>,
    sweep: Sweep,
}

impl Default for DecisionStore {
    fn default() -> Self {
        Self::new()
    }
}

impl DecisionStore {
    /// Without decisions and sources, with a seed that nobody knows.
    #[must_use]
    pub fn new() -> Self {
        let random = || RandomState::new().hash_one(0);
        Self::with_seed([random(), random()])
    }

    /// As [`new`](Self::new), with a known seed: two stores that are told the same then have the same in
    /// the same order, for tests and measurements.
    #[must_use]
    pub fn with_seed(seed: [u64; 2]) -> Self {
        Self {
            snapshot: Arc::new(Snapshot::new(Scramble::new(seed))),
            finder: KindFinder::default(),
            notes: Notes::default(),
        }
    }

    /// Says what a word means that is none of `allow`, `captcha` and `ban`, such as `mfa`, or that means
    /// something else here.
    ///
    /// # Panics
    ///
    /// If a decision had that word already: this is said before the first one comes.
    pub fn set_word(&mut self, word: &str, remediation: Remediation) {
        self.finder.set_meaning(word, remediation);
    }

    /// Gives a source its number.
    ///
    /// # Errors
    ///
    /// `TooManySources` for the 257th.
    pub fn add_source(&mut self, source: Source) -> Result<SourceId, StoreError> {
        self.finder.add_source(source)
    }

    /// Notes a decision down. Of a source with more than 4096 different origins, those that come after are
    /// `other`.
    ///
    /// # Errors
    ///
    /// `TooManyKinds`; nothing is noted then.
    pub fn insert(&mut self, source: SourceId, decision: &Decision<'_>) -> Result<(), StoreError> {
        let kind = self
            .finder
            .find(source, decision.origin, decision.remediation)?;
        let row = Row::new(kind, decision.expiry, decision.id);
        self.note(decision.subject, row, Action::Insert);
        Ok(())
    }

    /// Notes down that the decision of this source, subject and id ends.
    pub fn remove(&mut self, source: SourceId, subject: impl Into<Subject>, id: i64) {
        // Without a kind the source never had a decision.
        if let Some(kind) = self.finder.of_source(source) {
            let row = Row::new(kind, Expiry::NEVER, Some(id));
            self.note(subject.into(), row, Action::RemoveId);
        }
    }

    /// Notes down that every decision of this source and id ends, whomever it is about.
    ///
    /// [`remove`](Self::remove) is quicker: for this, all decisions are gone through.
    pub fn remove_id(&mut self, source: SourceId, id: i64) {
        let number = self.notes.next();
        self.notes.sweep.removed.insert((source, id), number);
    }

    /// Notes down that every decision of this source, subject and word ends, whatever its origin and id:
    /// what a LAPI means that sends one record for several.
    pub fn remove_word(&mut self, source: SourceId, subject: impl Into<Subject>, word: &str) {
        if let Some(kind) = self.finder.of_word(source, word) {
            let row = Row::new(kind, Expiry::NEVER, None);
            self.note(subject.into(), row, Action::RemoveWord);
        }
    }

    /// Notes down that every decision of this source ends. What is inserted after takes their place, all
    /// at once: no snapshot has neither.
    pub fn clear(&mut self, source: SourceId) {
        let number = self.notes.next();
        let cleared = &mut self.notes.sweep.cleared;
        cleared.resize(self.finder.source_count(), 0);
        cleared[source.index()] = number;
    }

    /// Forgets all that was noted and not applied, as when a file turns out to be bad half way.
    pub fn discard(&mut self) {
        self.notes = Notes::default();
    }

    fn note(&mut self, subject: Subject, row: Row, action: Action) {
        let number = self.notes.next();
        let (notes, scramble) = (&mut self.notes, &self.snapshot.scramble);
        match subject {
            Subject::Network(network) => {
                note_network(notes, scramble, network, row, number, action)
            }
            Subject::Country(country) => notes
                .countries
                .push(Operation::new(country, row, number, action)),
            Subject::AsNumber(of) => notes
                .as_numbers
                .push(Operation::new(of, row, number, action)),
        }
    }

    /// Does what was noted, and drops what has ended by this second. Says what changed: if that is
    /// nothing, [`snapshot`](Self::snapshot) is the one it was.
    pub fn apply(&mut self, now_unix_s: u64) -> Changes {
        let mut notes = std::mem::take(&mut self.notes);
        let kinds = self.finder.kinds();
        let old = &*self.snapshot;
        let mut changes = Changes::default();
        let mut step = Step {
            sweep: &notes.sweep,
            now_unix_s,
            kinds,
            changes: &mut changes,
        };
        let addresses_v4 = step.next(&old.addresses_v4.column, &mut notes.addresses_v4);
        let addresses_v6 = step.next(&old.addresses_v6.column, &mut notes.addresses_v6);
        let ranges_v4 = step.next(&old.ranges_v4.column, &mut notes.ranges_v4);
        let ranges_v6 = step.next(&old.ranges_v6.column, &mut notes.ranges_v6);
        let countries = step.next(&old.countries, &mut notes.countries);
        let as_numbers = step.next(&old.as_numbers, &mut notes.as_numbers);
        if !changes.is_empty() {
            self.snapshot = Arc::new(Snapshot {
                scramble: old.scramble,
                kinds: Arc::clone(kinds),
                addresses_v4: made_of(addresses_v4, Addresses::new, &old.addresses_v4),
                addresses_v6: made_of(addresses_v6, Addresses::new, &old.addresses_v6),
                ranges_v4: made_of(ranges_v4, |new| Ranges::new(new, kinds), &old.ranges_v4),
                ranges_v6: made_of(ranges_v6, |new| Ranges::new(new, kinds), &old.ranges_v6),
                countries: made_of(countries, |new| new, &old.countries),
                as_numbers: made_of(as_numbers, |new| new, &old.as_numbers),
            });
        }
        changes
    }

    /// What was applied so far.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// When the first of what was applied ends: by then [`apply`](Self::apply) is to be called. Until it
    /// is, a decision that ended is still found.
    #[must_use]
    pub fn next_expiry(&self) -> Expiry {
        let snapshot = &self.snapshot;
        [
            snapshot.addresses_v4.column.next_expiry(),
            snapshot.addresses_v6.column.next_expiry(),
            snapshot.ranges_v4.column.next_expiry(),
            snapshot.ranges_v6.column.next_expiry(),
            snapshot.countries.next_expiry(),
            snapshot.as_numbers.next_expiry(),
        ]
        .into_iter()
        .min()
        .unwrap_or(Expiry::NEVER)
    }
}

impl Notes {
    fn next(&mut self) -> u32 {
        self.count = self
            .count
            .checked_add(1)
            .expect("2^32 notes are applied in between");
        self.count
    }
}

fn note_network(
    notes: &mut Notes,
    scramble: &Scramble,
    network: Network,
    row: Row,
    number: u32,
    action: Action,
) {
    let len = network.prefix_len();
    match network.first() {
        IpAddr::V4(first) => {
            let first = first.to_bits();
            if network.is_address() {
                let key = first.scrambled(scramble);
                notes
                    .addresses_v4
                    .push(Operation::new(key, row, number, action));
            } else {
                let prefix = Prefix { first, len };
                notes
                    .ranges_v4
                    .push(Operation::new(prefix, row, number, action));
            }
        }
        IpAddr::V6(first) => {
            let first = Wide::new(first.to_bits());
            if network.is_address() {
                let key = first.scrambled(scramble);
                notes
                    .addresses_v6
                    .push(Operation::new(key, row, number, action));
            } else {
                let prefix = Prefix { first, len };
                notes
                    .ranges_v6
                    .push(Operation::new(prefix, row, number, action));
            }
        }
    }
}

/// One application of notes.
struct Step<'a> {
    sweep: &'a Sweep,
    now_unix_s: u64,
    kinds: &'a Kinds,
    changes: &'a mut Changes,
}

impl Step<'_> {
    /// The column after the operations, whose memory is given back; `None` if it stays as it is.
    fn next<K: Copy + Ord>(
        &mut self,
        column: &Column<K>,
        operations: &mut Vec<Operation<K>>,
    ) -> Option<Column<K>> {
        let mut operations = std::mem::take(operations);
        if operations.is_empty() && !column.is_touched_by(self.sweep, self.now_unix_s) {
            return None;
        }
        let (sweep, now_unix_s) = (self.sweep, self.now_unix_s);
        let (column, changes) = column.merge(&mut operations, sweep, now_unix_s, self.kinds);
        *self.changes = self.changes.and(changes);
        (!changes.is_empty()).then_some(column)
    }
}

/// The new one, or the old one once more.
fn made_of<C, T>(column: Option<C>, make: impl FnOnce(C) -> T, old: &Arc<T>) -> Arc<T> {
    column.map_or_else(|| Arc::clone(old), |column| Arc::new(make(column)))
}

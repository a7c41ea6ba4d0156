//! What decisions have in common, kept once: source, origin and word of each kind of decision there is.
//!
//! A list of a million addresses has one kind, a busy LAPI has dozens, so that a decision names its
//! kind in two bytes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::decision::Remediation;
use super::store::StoreError;

/// The priority of what an allow list allows: above all sources.
pub(super) const ALLOW_LISTED: u16 = 256;

/// The different origins a source may have. An operator's or a LAPI's are dozens; a feed that gives each
/// decision one of its own would take memory for ever, and a sample of metrics each.
pub(crate) const MAX_ORIGINS: usize = 4096;

/// The origin of decisions whose own is one too many.
pub(crate) const OTHER_ORIGIN: &str = "other";

/// The number of a source, as the store gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub(super) u8);

impl SourceId {
    /// It as an index: the first source has 0, and the next the next.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// What is to be known of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// What a source of higher priority says of an address holds against all that those of lower ones
    /// say, be it about a range and theirs about the address itself. Among sources of one priority it
    /// does not matter which one a decision is of. 0 by default.
    pub priority: u8,
    /// Whether an `allow` of this source holds against every decision of every source.
    pub is_allow_list: bool,
}

/// The number of a kind, which stays the same for as long as its store lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindId(pub(super) u16);

impl KindId {
    /// It as an index: kinds are numbered from 0 on, as they come. Counters of each kind can be a `Vec`.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// One kind of decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) source: SourceId,
    pub(super) origin: u16,
    pub(super) word: u16,
    pub(super) remediation: Remediation,
    /// The source's, or [`ALLOW_LISTED`].
    pub(super) priority: u16,
}

impl Kind {
    /// What decides between decisions on one value: the higher holds.
    pub(super) fn rank(&self) -> u32 {
        u32::from(self.priority) << 8 | self.remediation as u32
    }
}

/// All kinds, with their texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    rows: Vec<Kind>,
    words: Vec<Box<str>>,
    origins: Vec<Box<str>>,
}

impl Kinds {
    #[inline]
    pub(super) fn kind(&self, id: u16) -> &Kind {
        &self.rows[usize::from(id)]
    }

    pub(super) fn word(&self, id: u16) -> &str {
        &self.words[usize::from(self.kind(id).word)]
    }

    pub(super) fn origin(&self, id: u16) -> &str {
        &self.origins[usize::from(self.kind(id).origin)]
    }

    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    fn is(&self, id: u16, source: SourceId, origin: &str, word: &str) -> bool {
        let kind = self.kind(id);
        kind.source == source && self.origin(id) == origin && self.word(id) == word
    }

    pub(super) fn byte_len(&self) -> usize {
        let texts = self.words.iter().chain(&self.origins);
        self.rows.capacity() * size_of::<Kind>()
            + texts
                .map(|text| text.len() + size_of::<Box<str>>())
                .sum::<usize>()
    }
}

/// Finds the kind of a decision, or makes it.
#[derive(Clone, Debug, Default)]
pub(super) struct KindFinder {
    kinds: Arc<Kinds>,
    rows: HashMap<(SourceId, u16, u16), u16>,
    words: HashMap<Box<str>, u16>,
    origins: HashMap<Box<str>, u16>,
    /// Some kind of this source and word.
    of_word: HashMap<(SourceId, u16), u16>,
    /// The origins of each source, [`MAX_ORIGINS`] at most and [`OTHER_ORIGIN`].
    origins_of: HashMap<SourceId, HashSet<u16>>,
    /// Some kind of each source that has one.
    of_source: HashMap<SourceId, u16>,
    /// What a word means, where it is not what it says.
    meanings: HashMap<Box<str>, Remediation>,
    sources: Vec<Source>,
    /// The kind found last: decisions of one kind come one behind the other.
    last: u16,
}

impl KindFinder {
    /// Shared with the snapshots, which may be older and then have fewer.
    pub(super) const fn kinds(&self) -> &Arc<Kinds> {
        &self.kinds
    }

    pub(super) fn add_source(&mut self, source: Source) -> Result<SourceId, StoreError> {
        let id = u8::try_from(self.sources.len()).map_err(|_| StoreError::TooManySources)?;
        self.sources.push(source);
        Ok(SourceId(id))
    }

    pub(super) fn source_count(&self) -> usize {
        self.sources.len()
    }

    pub(super) fn set_meaning(&mut self, word: &str, remediation: Remediation) {
        assert!(
            !self.words.contains_key(word),
            "what '{word}' means is said before a decision has it"
        );
        self.meanings.insert(word.into(), remediation);
    }

    pub(super) fn find(
        &mut self,
        source: SourceId,
        origin: &str,
        word: &str,
    ) -> Result<u16, StoreError> {
        if self.kinds.count() > usize::from(self.last)
            && self.kinds.is(self.last, source, origin, word)
        {
            return Ok(self.last);
        }
        let kinds = Arc::make_mut(&mut self.kinds);
        let word_id = intern(&mut self.words, &mut kinds.words, word)?;
        let own = self.origins_of.entry(source).or_default();
        let known = self.origins.get(origin).filter(|id| own.contains(id));
        let origin = match known {
            Some(id) => *id,
            None if own.len() < MAX_ORIGINS => {
                intern(&mut self.origins, &mut kinds.origins, origin)?
            }
            None => intern(&mut self.origins, &mut kinds.origins, OTHER_ORIGIN)?,
        };
        own.insert(origin);
        self.last = match self.rows.get(&(source, origin, word_id)) {
            Some(id) => *id,
            None => {
                let id = u16::try_from(kinds.rows.len()).map_err(|_| StoreError::TooManyKinds)?;
                let meaning = self.meanings.get(word).copied();
                let remediation = meaning.unwrap_or_else(|| Remediation::from_word(word));
                let of = &self.sources[source.index()];
                let priority = if of.is_allow_list && remediation == Remediation::Allow {
                    ALLOW_LISTED
                } else {
                    of.priority.into()
                };
                kinds.rows.push(Kind {
                    source,
                    origin,
                    word: word_id,
                    remediation,
                    priority,
                });
                self.rows.insert((source, origin, word_id), id);
                self.of_word.insert((source, word_id), id);
                self.of_source.insert(source, id);
                id
            }
        };
        Ok(self.last)
    }

    /// Some kind of this source and word, if there is one.
    pub(super) fn of_word(&self, source: SourceId, word: &str) -> Option<u16> {
        let word = self.words.get(word)?;
        self.of_word.get(&(source, *word)).copied()
    }

    /// Some kind of this source, if there is one.
    pub(super) fn of_source(&self, source: SourceId) -> Option<u16> {
        self.of_source.get(&source).copied()
    }
}

fn intern(
    ids: &mut HashMap<Box<str>, u16>,
    texts: &mut Vec<Box<str>>,
    text: &str,
) -> Result<u16, StoreError> {
    if let Some(id) = ids.get(text) {
        return Ok(*id);
    }
    let id = u16::try_from(texts.len()).map_err(|_| StoreError::TooManyKinds)?;
    texts.push(text.into());
    ids.insert(text.into(), id);
    Ok(id)
}

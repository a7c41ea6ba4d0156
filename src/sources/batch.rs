//! Decisions on their way from the thread that reads them to the one that keeps them.
//!
//! What is read waits here until it turned out to be whole: of a file that is bad half way, or of an
//! answer that was cut off, nothing comes into force. It takes 48 bytes a decision for as long as that.

use std::collections::{HashMap, HashSet};

use crate::agents::remediation::{
    Decision, DecisionStore, Expiry, MAX_ORIGINS, OTHER_ORIGIN, SourceId, StoreError, Subject,
};

/// Decisions, with origin and word of each kind kept once.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    kinds: Vec<Kind>,
    /// By [`key`].
    ids: HashMap<Box<str>, u16>,
    /// The store would have no more of one source.
    origins: HashSet<Box<str>>,
    rows: Vec<Row>,
    /// The kind that came last: decisions of one kind come one behind the other.
    last: u16,
    /// Room for a key.
    key: String,
}

#[derive(Clone, Debug)]
struct Kind {
    origin: Box<str>,
    word: Box<str>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    subject: Subject,
    expiry: Expiry,
    id: Option<i64>,
    kind: u16,
}

impl Batch {
    /// Takes a decision in.
    ///
    /// # Errors
    ///
    /// `TooManyKinds`, as the store would.
    pub(super) fn push(&mut self, decision: &Decision<'_>) -> Result<(), StoreError> {
        let kind = self.kind(decision.origin, decision.remediation)?;
        self.rows.push(Row {
            subject: decision.subject,
            expiry: decision.expiry,
            id: decision.id,
            kind,
        });
        Ok(())
    }

    fn kind(&mut self, origin: &str, word: &str) -> Result<u16, StoreError> {
        if let Some(last) = self.kinds.get(usize::from(self.last))
            && *last.origin == *origin
            && *last.word == *word
        {
            return Ok(self.last);
        }
        self.set_key(origin, word);
        let mut origin = origin;
        if !self.ids.contains_key(self.key.as_str()) && !self.origins.contains(origin) {
            if self.origins.len() < MAX_ORIGINS {
                self.origins.insert(origin.into());
            } else {
                origin = OTHER_ORIGIN;
                self.set_key(origin, word);
            }
        }
        self.last = match self.ids.get(self.key.as_str()) {
            Some(id) => *id,
            None => {
                let id = u16::try_from(self.kinds.len()).map_err(|_| StoreError::TooManyKinds)?;
                self.kinds.push(Kind {
                    origin: origin.into(),
                    word: word.into(),
                });
                self.ids.insert(self.key.as_str().into(), id);
                id
            }
        };
        Ok(self.last)
    }

    fn set_key(&mut self, origin: &str, word: &str) {
        self.key.clear();
        self.key.push_str(word);
        // No word has one: it would have to come from a text with a NUL in it, and then two kinds are
        // taken for one only if their origins have it too.
        self.key.push('\0');
        self.key.push_str(origin);
    }

    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    /// The decisions, in the order they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = Decision<'_>> {
        self.rows.iter().map(|row| {
            let kind = &self.kinds[usize::from(row.kind)];
            Decision {
                subject: row.subject,
                remediation: &kind.word,
                origin: &kind.origin,
                expiry: row.expiry,
                id: row.id,
            }
        })
    }

    /// Notes all of them down in the store.
    ///
    /// # Errors
    ///
    /// `TooManyKinds`; then some of them are noted.
    pub(super) fn insert_into(
        &self,
        store: &mut DecisionStore,
        source: SourceId,
    ) -> Result<(), StoreError> {
        self.iter()
            .try_for_each(|decision| store.insert(source, &decision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_come_out_as_they_went_in() {
        let subject: Subject = "192.0.2.0/24".parse().unwrap();
        let all = [
            Decision::new(subject, "ban", "cscli").with_id(1),
            Decision::new(subject, "captcha", "cscli").with_expiry(Expiry::at(9)),
            Decision::new(Subject::AsNumber(7), "ban", "CAPI").with_id(i64::MIN + 1),
            Decision::new(subject, "ban", "cscli").with_id(2),
        ];
        let mut batch = Batch::default();
        for decision in &all {
            batch.push(decision).unwrap();
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), all);
        assert_eq!((batch.count(), batch.kinds.len()), (4, 3));
    }

    #[test]
    fn a_row_is_as_small_as_the_module_says() {
        assert!(size_of::<Row>() <= 48, "{}", size_of::<Row>());
    }

    #[test]
    fn more_kinds_than_a_store_takes_are_refused() {
        let mut batch = Batch::default();
        let mut push = |index: u32| {
            let word = index.to_string();
            batch.push(&Decision::new(Subject::AsNumber(1), &word, "cscli"))
        };
        for index in 0..=65_535 {
            push(index).unwrap();
        }
        assert_eq!(push(65_536), Err(StoreError::TooManyKinds));
        assert_eq!(push(3), Ok(()));
    }
}

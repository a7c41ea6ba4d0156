//! Answers of a LAPI, and what becomes of the decisions that are there.

use std::io::Read;
use std::time::Duration;

use ringspoa::agents::remediation::{Decision, DecisionStore, Found, Source, SourceId, Subject};
use ringspoa::sources::{Answer, AnswerRules, Pull};

const NOW: u64 = 1_700_000_000;

/// Bytes in pieces of changing length.
struct Pieces<'a> {
    rest: &'a [u8],
    len: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.len = self.len % 7 + 1;
        let len = self.len.min(out.len()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(len);
        out[..len].copy_from_slice(piece);
        self.rest = rest;
        Ok(len)
    }
}

/// A store with a source that nobody says anything about, and one that answers.
struct Table {
    store: DecisionStore,
    other: SourceId,
    source: SourceId,
}

impl Table {
    fn new() -> Self {
        let mut store = DecisionStore::with_seed([7, 8]);
        let mut source = || store.add_source(Source::default()).expect("there are two");
        let (other, source) = (source(), source());
        let mut table = Self {
            store,
            other,
            source,
        };
        table.insert(other, 1, "192.0.2.1", "ban");
        table
    }

    fn insert(&mut self, source: SourceId, id: i64, value: &str, word: &str) {
        let subject: Subject = value.parse().expect("it is one");
        let decision = Decision::new(subject, word, "cscli").with_id(id);
        self.store
            .insert(source, &decision)
            .expect("there are few kinds");
        self.store.apply(NOW);
    }

    /// With what inputs are likely to be about.
    fn with_some() -> Self {
        let mut table = Self::new();
        let source = table.source;
        table.insert(source, 1, "192.0.2.1", "ban");
        table.insert(source, 2, "192.0.2.1", "captcha");
        table.insert(source, 3, "10.0.0.0/8", "ban");
        table
    }

    fn take(&mut self, answer: &Answer) {
        answer
            .apply(&mut self.store, self.source)
            .expect("a short answer has few kinds");
        self.store.apply(NOW);
    }

    fn of(&self, source: SourceId) -> Vec<String> {
        let snapshot = self.store.snapshot();
        let of_source = |found: &Found<'_>| found.source() == source;
        let mut all: Vec<_> = snapshot
            .iter()
            .filter(of_source)
            .map(|found| format!("{found:?}"))
            .collect();
        all.sort();
        all
    }

    fn all(&self) -> Vec<String> {
        assert_eq!(self.of(self.other).len(), 1, "nobody said so");
        self.of(self.source)
    }
}

/// An answer is read as one however its bytes come, and one that is cut off is none; a full one leaves
/// the same whatever was there before; one of what changed leaves the same twice as once.
pub fn lapi_answer(data: &[u8]) {
    let Some((flags, json)) = data.split_first() else {
        return;
    };
    let rules = AnswerRules {
        pull: if flags & 1 == 0 {
            Pull::Full
        } else {
            Pull::Delta
        },
        dedup: flags & 2 != 0,
        now_unix_s: NOW,
        grace: Duration::from_secs(20),
        max_decisions: 100,
    };
    let answer = Answer::read(json, rules);
    let pieces = Answer::read(Pieces { rest: json, len: 0 }, rules);
    let answer = match (answer, pieces) {
        (Ok(answer), Ok(pieces)) => {
            let counts = |answer: &Answer| {
                let (new, deleted) = (answer.new_count(), answer.deleted_count());
                (new, deleted, answer.ignored_count(), answer.bad_count())
            };
            assert_eq!(counts(&answer), counts(&pieces));
            let (mut table, mut other) = (Table::with_some(), Table::with_some());
            table.take(&answer);
            other.take(&pieces);
            assert_eq!(table.all(), other.all());
            answer
        }
        (Err(whole), Err(pieces)) => {
            // Whichever bound or rule of JSON the bytes reach first.
            assert!(!whole.reason.is_empty() && !pieces.reason.is_empty());
            return;
        }
        (answer, pieces) => panic!("{answer:?} as a whole, {pieces:?} in pieces"),
    };
    assert_eq!(answer.bad_count() > 0, answer.first_bad().is_some());
    let end = json.trim_ascii_end().len();
    for len in [0, end / 2, end.saturating_sub(1)] {
        Answer::read(&json[..len], rules).expect_err("it is cut off");
    }
    let mut table = Table::with_some();
    table.take(&answer);
    let once = table.all();
    table.take(&answer);
    assert_eq!(table.all(), once, "twice is as once");
    if rules.pull == Pull::Full {
        let mut empty = Table::new();
        empty.take(&answer);
        assert_eq!(empty.all(), once, "without a trace of before");
        assert!(once.len() <= answer.new_count() && answer.deleted_count() == 0);
    } else {
        assert!(once.len() <= 3 + answer.new_count());
    }
}

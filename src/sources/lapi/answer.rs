//! The answer of a LAPI: read to its end before anything of it comes into force.

use std::io::{BufReader, Read};
use std::time::Duration;

use crate::agents::remediation::{
    Decision, DecisionStore, Defaults, Expiry, ListError, OnBadRecord, SourceId, StoreError,
    StreamPart, parse_stream,
};

use super::super::batch::Batch;
use super::bounded::Bounded;

/// Bytes a decision may take in JSON, texts of usual length taken together with much room: some 140 as
/// LAPIs write them.
const MAX_DECISION_LEN: u64 = 1024;

/// What an answer may have beside its decisions, in bytes.
const MAX_OTHER_LEN: u64 = 1 << 20;

/// The longest origin or word that is kept, in bytes: each stays in memory.
const MAX_KIND_LEN: usize = 255;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// All decisions, as with `startup=true`: they take the place of those that are there.
    Full,
    /// What changed since the question before.
    Delta,
}

/// How an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRules {
    /// What was asked for.
    pub pull: Pull,
    /// Whether the LAPI was asked to send one of several decisions on one value; see
    /// [`LapiConfig::dedup`](super::LapiConfig::dedup).
    pub dedup: bool,
    /// When the question was sent, in seconds since 1970; durations count from then.
    pub now_unix_s: u64,
    /// How long beyond its end a decision holds.
    pub grace: Duration,
    /// More decisions are refused.
    pub max_decisions: usize,
}

/// An answer that was whole, and waits to be applied.
#[derive(Clone, Debug)]
pub struct Answer {
    rules: AnswerRules,
    new: Batch,
    deleted: Batch,
    ignored_count: usize,
    bad_count: usize,
    first_bad: Option<String>,
}

impl Answer {
    /// Reads an answer to its end: an object with the arrays `new` and `deleted`, in any order, one of
    /// which may be missing and both `null`. Decisions that cannot be read are counted and passed over,
    /// those of scopes that are not looked up too; `deleted` does not count in a full answer, as it lists
    /// what ended long ago.
    ///
    /// Takes memory for the decisions, not for the JSON.
    ///
    /// # Errors
    ///
    /// What cannot be read to its end, is no such JSON, or is longer than it may be.
    pub fn read(input: impl Read, rules: AnswerRules) -> Result<Self, ListError> {
        let longest = MAX_DECISION_LEN.saturating_mul(rules.max_decisions as u64);
        Self::read_bounded(
            Bounded::new(input, longest.saturating_add(MAX_OTHER_LEN)),
            rules,
        )
    }

    /// The same, of which some has to come in each such time.
    pub(super) fn read_with_pace(
        input: impl Read,
        rules: AnswerRules,
        every: Duration,
    ) -> Result<Self, ListError> {
        let longest = MAX_DECISION_LEN.saturating_mul(rules.max_decisions as u64);
        let bounded = Bounded::new(input, longest.saturating_add(MAX_OTHER_LEN));
        Self::read_bounded(bounded.with_pace(every), rules)
    }

    fn read_bounded(input: Bounded<impl Read>, rules: AnswerRules) -> Result<Self, ListError> {
        let mut answer = Self {
            rules,
            new: Batch::default(),
            deleted: Batch::default(),
            ignored_count: 0,
            bad_count: 0,
            first_bad: None,
        };
        let defaults = Defaults {
            remediation: "ban",
            origin: "crowdsec",
            expiry: Expiry::NEVER,
            now_unix_s: rules.now_unix_s,
        };
        let mut count = 0_usize;
        let mut is_too_many = false;
        // The reader of JSON takes byte by byte.
        let input = BufReader::with_capacity(16 * 1024, input);
        let summary = parse_stream(input, &defaults, OnBadRecord::Skip, |part, decision| {
            count += 1;
            if count > rules.max_decisions {
                is_too_many = true;
                return Err(StoreError::TooManyKinds);
            }
            answer.take(part, decision)
        });
        let summary = summary.map_err(|error| match is_too_many {
            true => ListError {
                line: error.line,
                reason: format!(
                    "more than {} decisions, which is max_decisions",
                    rules.max_decisions
                ),
            },
            false => error,
        })?;
        answer.ignored_count += summary.ignored_count;
        answer.bad_count += summary.bad_count;
        let first_bad = summary.first_bad.map(|error| error.reason);
        answer.first_bad = first_bad.or(answer.first_bad);
        Ok(answer)
    }

    fn take(&mut self, part: StreamPart, decision: &Decision<'_>) -> Result<(), StoreError> {
        let (origin, word) = (decision.origin, decision.remediation);
        if origin.len() > MAX_KIND_LEN || word.len() > MAX_KIND_LEN {
            self.bad_count += 1;
            self.first_bad.get_or_insert_with(|| {
                let subject = decision.subject;
                format!("'{subject}': its origin or type is longer than {MAX_KIND_LEN} bytes")
            });
            return Ok(());
        }
        match (part, self.rules.pull) {
            (StreamPart::New, _) => {
                let expiry = decision.expiry.unix_s().map_or(Expiry::NEVER, |second| {
                    Expiry::at(second.saturating_add(self.rules.grace.as_secs()))
                });
                self.new.push(&decision.with_expiry(expiry))
            }
            (StreamPart::Deleted, Pull::Delta) => self.deleted.push(decision),
            (StreamPart::Deleted, Pull::Full) => Ok(()),
        }
    }

    /// Notes down in the store what the answer says. [`DecisionStore::apply`] then does it, all at once.
    ///
    /// A decision is known by its id, so that order and repetition do not matter: one that was deleted
    /// and another one on the same value that came are two. With deduplication, one deletion stands for
    /// all decisions of its value and word, whatever their origin; what came with it is newer.
    ///
    /// # Errors
    ///
    /// `TooManyKinds`; the notes are then to be [discarded](DecisionStore::discard).
    pub fn apply(&self, store: &mut DecisionStore, source: SourceId) -> Result<(), StoreError> {
        if self.rules.pull == Pull::Full {
            store.clear(source);
        }
        if self.rules.dedup {
            for deleted in self.deleted.iter() {
                store.remove_word(source, deleted.subject, deleted.remediation);
            }
        }
        self.new.insert_into(store, source)?;
        for deleted in self.deleted.iter() {
            // Also what came and went between two questions, or within this one.
            match (deleted.id, self.rules.dedup) {
                (Some(id), _) => store.remove(source, deleted.subject, id),
                (None, false) => {
                    store.remove_word(source, deleted.subject, deleted.remediation);
                }
                (None, true) => {}
            }
        }
        Ok(())
    }

    /// What was asked for.
    #[must_use]
    pub const fn pull(&self) -> Pull {
        self.rules.pull
    }

    /// Decisions that came.
    #[must_use]
    pub fn new_count(&self) -> usize {
        self.new.count()
    }

    /// Decisions that ended; none in a full answer.
    #[must_use]
    pub fn deleted_count(&self) -> usize {
        self.deleted.count()
    }

    /// Decisions of scopes that are not looked up, or that were simulated.
    #[must_use]
    pub const fn ignored_count(&self) -> usize {
        self.ignored_count
    }

    /// Decisions that could not be read.
    #[must_use]
    pub const fn bad_count(&self) -> usize {
        self.bad_count
    }

    /// Why the first of those could not.
    #[must_use]
    pub fn first_bad(&self) -> Option<&str> {
        self.first_bad.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::agents::remediation::{CountryCode, Source};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    const RULES: AnswerRules = AnswerRules {
        pull: Pull::Delta,
        dedup: false,
        now_unix_s: NOW,
        grace: Duration::from_secs(20),
        max_decisions: 1_000,
    };

    struct Table {
        store: DecisionStore,
        source: SourceId,
    }

    impl Table {
        fn new() -> Self {
            let mut store = DecisionStore::with_seed([1, 2]);
            let source = store.add_source(Source::default()).unwrap();
            Self { store, source }
        }

        fn take(&mut self, pull: Pull, dedup: bool, json: &str) -> Answer {
            let rules = AnswerRules {
                pull,
                dedup,
                ..RULES
            };
            let answer = Answer::read(json.as_bytes(), rules).unwrap();
            answer.apply(&mut self.store, self.source).unwrap();
            self.store.apply(NOW);
            answer
        }

        /// All there are, in order.
        fn shown(&self) -> String {
            let snapshot = self.store.snapshot();
            let mut all: Vec<String> = snapshot
                .iter()
                .map(|found| {
                    let (subject, word, origin) = (found.subject(), found.word(), found.origin());
                    format!("{subject} {word} {origin} #{}", found.id().unwrap_or(0))
                })
                .collect();
            all.sort();
            all.join(", ")
        }
    }

    fn decision(id: i64, value: &str, word: &str, origin: &str) -> String {
        format!(
            r#"{{"id":{id},"origin":"{origin}","type":"{word}","scope":"Ip","value":"{value}",
            "duration":"1h0m0.5s","scenario":"why"}}"#
        )
    }

    fn answer(new: &[&String], deleted: &[&String]) -> [String; 2] {
        let joined = |all: &[&String]| {
            all.iter()
                .map(|one| one.as_str())
                .collect::<Vec<_>>()
                .join(",")
        };
        let (new, deleted) = (joined(new), joined(deleted));
        [
            format!(r#"{{"new":[{new}],"deleted":[{deleted}]}}"#),
            format!(r#"{{"deleted":[{deleted}],"new":[{new}]}}"#),
        ]
    }

    #[test]
    fn all_that_is_new_is_taken_and_what_is_none_of_ours_is_counted() {
        let mut table = Table::new();
        let json = r#"{"deleted":null,"links":[{"x":[1,"y"]}],"new":[
            {"id":1,"origin":"cscli","type":"ban","scope":"Ip","value":"192.0.2.1","duration":"4h"},
            {"id":2,"origin":"lists","scenario":"tor","type":"captcha","scope":"Range",
             "value":"198.51.100.0/24","duration":"3h59m49.64s","uuid":"u"},
            {"id":3,"origin":"CAPI","type":"ban","scope":"Ip","value":"10.0.0.0/8","duration":"1s"},
            {"id":4,"origin":"cscli","type":"ban","scope":"country","value":"fr","duration":"1h"},
            {"id":5,"origin":"cscli","type":"ban","scope":"AS","value":"64500","duration":"1h"},
            {"id":6,"origin":"cscli","type":"ban","scope":"username","value":"root","duration":"1h"},
            {"id":7,"origin":"cscli","type":"ban","scope":"Ip","value":"nonsense","duration":"1h"},
            {"id":8,"origin":"cscli","type":"ban","scope":"Ip","value":"192.0.2.8","duration":"-1h"}]}"#;
        let answer = table.take(Pull::Delta, false, json);
        assert_eq!(
            (
                answer.new_count(),
                answer.ignored_count(),
                answer.bad_count()
            ),
            (6, 1, 1)
        );
        assert!(answer.first_bad().unwrap().contains("'nonsense'"));
        assert_eq!(
            table.shown(),
            "10.0.0.0/8 ban CAPI #3, 192.0.2.1 ban cscli #1, 198.51.100.0/24 captcha lists:tor #2, \
             AS64500 ban cscli #5, FR ban cscli #4"
        );
        let found = table.store.snapshot().lookup("192.0.2.1".parse().unwrap());
        let expiry = found.unwrap().expiry();
        assert_eq!(expiry, Expiry::at(NOW + 4 * 3_600 + 20), "with grace");
        let nobody: IpAddr = "203.0.113.1".parse().unwrap();
        let of_country = CountryCode::new("FR");
        assert!(
            table
                .store
                .snapshot()
                .lookup_with(nobody, of_country, None)
                .is_some()
        );
    }

    #[test]
    fn deletions_are_by_id_in_any_order_and_number() {
        for order in 0..2 {
            let mut table = Table::new();
            let old = decision(1, "192.0.2.1", "ban", "cscli");
            table.take(Pull::Full, false, &answer(&[&old], &[])[order]);
            // Deleted and added again between two questions.
            let new = decision(2, "192.0.2.1", "ban", "cscli");
            table.take(Pull::Delta, false, &answer(&[&new], &[&old])[order]);
            assert_eq!(table.shown(), "192.0.2.1 ban cscli #2");
            // The overlap of a LAPI's answers: the same deletion again, and again.
            table.take(Pull::Delta, false, &answer(&[], &[&old, &old])[order]);
            assert_eq!(table.shown(), "192.0.2.1 ban cscli #2");
            // Another origin, with the id of none of ours.
            let other = decision(9, "192.0.2.1", "ban", "CAPI");
            table.take(Pull::Delta, false, &answer(&[], &[&other])[order]);
            assert_eq!(table.shown(), "192.0.2.1 ban cscli #2");
            // The id counts, whatever origin the record has.
            let by_id = decision(2, "192.0.2.1", "ban", "CAPI");
            table.take(Pull::Delta, false, &answer(&[], &[&by_id])[order]);
            assert_eq!(table.shown(), "");
            // Came and went in one.
            let both = decision(3, "192.0.2.3", "ban", "cscli");
            table.take(Pull::Delta, false, &answer(&[&both], &[&both])[order]);
            assert_eq!(table.shown(), "");
        }
    }

    #[test]
    fn one_deletion_stands_for_all_origins_where_the_lapi_deduplicates() {
        for order in 0..2 {
            let mut table = Table::new();
            let all = [
                decision(1, "192.0.2.1", "ban", "cscli"),
                decision(2, "192.0.2.1", "ban", "CAPI"),
                decision(3, "192.0.2.1", "captcha", "CAPI"),
            ];
            table.take(Pull::Full, true, &answer(&all.each_ref(), &[])[order]);
            let end = decision(8, "192.0.2.1", "ban", "lists");
            table.take(Pull::Delta, true, &answer(&[], &[&end])[order]);
            assert_eq!(table.shown(), "192.0.2.1 captcha CAPI #3");
            // What comes with it is newer.
            let new = decision(9, "192.0.2.1", "ban", "cscli");
            table.take(Pull::Delta, true, &answer(&[&new], &[&end])[order]);
            assert_eq!(
                table.shown(),
                "192.0.2.1 ban cscli #9, 192.0.2.1 captcha CAPI #3"
            );
            // Unless that is what ended.
            let other = decision(10, "192.0.2.2", "ban", "cscli");
            table.take(
                Pull::Delta,
                true,
                &answer(&[&other], &[&new, &other])[order],
            );
            assert_eq!(table.shown(), "192.0.2.1 captcha CAPI #3");
        }
    }

    #[test]
    fn a_full_answer_takes_the_place_of_all_and_its_deletions_do_not_count() {
        for order in 0..2 {
            let mut table = Table::new();
            let old = decision(1, "192.0.2.1", "ban", "cscli");
            let kept = decision(2, "192.0.2.2", "ban", "cscli");
            table.take(Pull::Full, false, &answer(&[&old, &kept], &[])[order]);
            let full = &answer(&[&kept], &[&old, &kept])[order];
            let answer = table.take(Pull::Full, false, full);
            assert_eq!(table.shown(), "192.0.2.2 ban cscli #2");
            assert_eq!((answer.new_count(), answer.deleted_count()), (1, 0));
        }
    }

    #[test]
    fn an_empty_answer_changes_nothing() {
        let mut table = Table::new();
        let old = decision(1, "192.0.2.1", "ban", "cscli");
        table.take(Pull::Full, false, &answer(&[&old], &[])[0]);
        for json in [
            r#"{"new":null,"deleted":null}"#,
            r#"{"deleted":[],"new":[]}"#,
            r#"{"new":null}"#,
        ] {
            table.take(Pull::Delta, false, json);
            assert_eq!(table.shown(), "192.0.2.1 ban cscli #1");
        }
    }

    #[test]
    fn what_is_no_whole_answer_is_refused() {
        let whole = &answer(&[&decision(1, "192.0.2.1", "ban", "cscli")], &[])[0];
        for len in 0..whole.len() {
            Answer::read(&whole.as_bytes()[..len], RULES).unwrap_err();
        }
        Answer::read(whole.as_bytes(), RULES).unwrap();
        for (json, part) in [
            ("{}", "neither 'new' nor 'deleted'"),
            (r#"{"message":"access forbidden"}"#, "neither"),
            ("null", "an object"),
            ("[]", "an object"),
            ("<html>", "expected value"),
            (r#"{"new":{}}"#, "an array"),
            (r#"{"new":null} trailing"#, "trailing"),
        ] {
            let error = Answer::read(json.as_bytes(), RULES).unwrap_err();
            assert!(error.reason.contains(part), "{json}: {error}");
        }
        let x = "x".repeat(70_000);
        let error = Answer::read(format!(r#"{{"new":[{{"{x}":1}}]}}"#).as_bytes(), RULES);
        assert!(error.unwrap_err().reason.contains("64 KiB"));
    }

    #[test]
    fn endless_answers_end() {
        let few = AnswerRules {
            max_decisions: 10,
            ..RULES
        };
        let one = decision(1, "192.0.2.1", "ban", "cscli");
        let many = r#"{"new":["#.to_owned() + &(one + ",").repeat(20);
        let error = Answer::read(many.as_bytes(), few).unwrap_err();
        assert!(error.reason.contains("max_decisions"), "{error}");
        let endless = r#"{"new":["#.as_bytes().chain(std::io::repeat(b' '));
        let error = Answer::read(endless, few).unwrap_err();
        assert!(error.reason.contains("longer than"), "{error}");
    }

    #[test]
    fn long_origins_and_types_are_bad_decisions() {
        let mut table = Table::new();
        let all = [
            decision(1, "192.0.2.1", "ban", &"x".repeat(256)),
            decision(2, "192.0.2.2", &"x".repeat(256), "cscli"),
            decision(3, "192.0.2.3", "ban", &"x".repeat(255)),
        ];
        let answer = table.take(Pull::Full, false, &answer(&all.each_ref(), &[])[0]);
        assert_eq!((answer.new_count(), answer.bad_count()), (1, 2));
        assert!(answer.first_bad().unwrap().contains("192.0.2.1"));
    }
}

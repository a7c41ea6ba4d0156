//! JSON as CrowdSec writes and reads it.

use std::fmt;
use std::io::Read;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::super::dataset::{Decision, StoreError};
use super::super::decisions::ListError;
use super::{Defaults, Fields, OnBadRecord, Reading, Sink, Summary};

/// Reads decisions in JSON: an array of them, as `cscli decisions import` takes it; an array of alerts
/// with their `decisions` in them, as `cscli decisions list -o json` writes it; or `null` for none.
///
/// A decision has a `value`, and may have `scope`, `type`, `origin`, `scenario` or `reason`, `id`, and
/// `until` or else `duration`; what else it has does not matter. Such as are `simulated` are ignored. The
/// input is read to its end in small pieces, so it should have a buffer.
///
/// # Errors
///
/// As [`parse_lines`](super::parse_lines); and what is not JSON of that form, even if bad records are
/// skipped: there is no telling where the next one begins.
pub fn parse_json(
    input: impl Read,
    defaults: &Defaults<'_>,
    on_bad: OnBadRecord,
    sink: impl FnMut(&Decision<'_>) -> Result<(), StoreError>,
) -> Result<Summary, ListError> {
    let mut reading = Reading::new(defaults, on_bad, sink);
    let mut room = Room::default();
    let mut input = serde_json::Deserializer::from_reader(input);
    let records = Records {
        reading: &mut reading,
        room: &mut room,
    };
    DeserializeSeed::deserialize(records, &mut input)
        .and_then(|()| input.end())
        .map_err(list_error)?;
    Ok(reading.summary)
}

/// Which part of a LAPI's answer a decision is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamPart {
    /// Decisions that came.
    New,
    /// Decisions that ended.
    Deleted,
}

/// Reads the answer to a request for `/v1/decisions/stream`: an object with the arrays `new` and
/// `deleted`, of which each may be `null` and one not there, in any order.
///
/// The expiry of a deleted decision is past, or whatever its record says; what counts is its subject,
/// id and word.
///
/// # Errors
///
/// As [`parse_json`].
pub fn parse_stream(
    input: impl Read,
    defaults: &Defaults<'_>,
    on_bad: OnBadRecord,
    mut sink: impl FnMut(StreamPart, &Decision<'_>) -> Result<(), StoreError>,
) -> Result<Summary, ListError> {
    let part = std::cell::Cell::new(StreamPart::New);
    let sink = |decision: &Decision<'_>| sink(part.get(), decision);
    let mut reading = Reading::new(defaults, on_bad, sink);
    let mut input = serde_json::Deserializer::from_reader(input);
    let answer = Answer {
        reading: &mut reading,
        part: &part,
    };
    DeserializeSeed::deserialize(answer, &mut input)
        .and_then(|()| input.end())
        .map_err(list_error)?;
    Ok(reading.summary)
}

fn list_error(error: serde_json::Error) -> ListError {
    let (line, column) = (error.line(), error.column());
    let reason = error.to_string();
    let place = format!(" at line {line} column {column}");
    ListError {
        line: line.max(1),
        reason: reason.strip_suffix(&place).unwrap_or(&reason).to_owned(),
    }
}

/// Room for the texts of a decision, and of the alert around it.
#[derive(Default)]
struct Room {
    outer: Record,
    inner: Record,
}

#[derive(Default)]
struct Record {
    scope: String,
    value: String,
    remediation: String,
    origin: String,
    scenario: String,
    reason: String,
    duration: String,
    until: String,
    id: Option<i64>,
    is_simulated: bool,
}

impl Record {
    fn clear(&mut self) {
        for text in [
            &mut self.scope,
            &mut self.value,
            &mut self.remediation,
            &mut self.origin,
            &mut self.scenario,
            &mut self.reason,
            &mut self.duration,
            &mut self.until,
        ] {
            text.clear();
        }
        (self.id, self.is_simulated) = (None, false);
    }

    fn fields(&self) -> Fields<'_> {
        Fields {
            scope: &self.scope,
            value: &self.value,
            remediation: &self.remediation,
            origin: &self.origin,
            scenario: either(&self.scenario, &self.reason),
            // A duration counts from when the file was written, which is not known as well.
            expiry: either(&self.until, &self.duration),
            id: self.id,
        }
    }
}

fn either<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.is_empty() { other } else { one }
}

/// The arrays of an answer.
struct Answer<'r, 'd, S> {
    reading: &'r mut Reading<'d, S>,
    part: &'r std::cell::Cell<StreamPart>,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Answer<'_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Answer<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the decisions 'new' and 'deleted'")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut room = Room::default();
        let mut is_answer = false;
        while let Some(key) = map.next_key_seed(Key)? {
            let part = match key {
                Field::New => StreamPart::New,
                Field::Deleted => StreamPart::Deleted,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            is_answer = true;
            self.part.set(part);
            self.reading.has_ended = part == StreamPart::Deleted;
            map.next_value_seed(Records {
                reading: &mut *self.reading,
                room: &mut room,
            })?;
        }
        if !is_answer {
            // Taken for one without decisions, the word of some other server would end all there are.
            return Err(A::Error::custom(
                "an object with neither 'new' nor 'deleted'",
            ));
        }
        Ok(())
    }
}

/// An array of decisions, or of alerts.
struct Records<'r, 'd, S> {
    reading: &'r mut Reading<'d, S>,
    room: &'r mut Room,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Records<'_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Records<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of decisions")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        let Room { outer, inner } = self.room;
        while let Some(()) = records.next_element_seed(One {
            reading: self.reading,
            record: outer,
            inner: Some(inner),
        })? {}
        Ok(())
    }
}

/// The decisions of one alert.
struct OfAlert<'r, 'd, S> {
    reading: &'r mut Reading<'d, S>,
    record: &'r mut Record,
}

impl<'de, S: Sink> DeserializeSeed<'de> for OfAlert<'_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for OfAlert<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the decisions of an alert")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        while let Some(()) = records.next_element_seed(One {
            reading: self.reading,
            record: self.record,
            inner: None,
        })? {}
        Ok(())
    }
}

/// One decision, or where there is room for its decisions one alert.
struct One<'r, 'd, S> {
    reading: &'r mut Reading<'d, S>,
    record: &'r mut Record,
    inner: Option<&'r mut Record>,
}

impl<'de, S: Sink> DeserializeSeed<'de> for One<'_, '_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for One<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decision, as in {\"value\": \"192.0.2.1\", \"type\": \"ban\"}")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.record.clear();
        let mut is_alert = false;
        while let Some(key) = map.next_key_seed(Key)? {
            let record = &mut *self.record;
            let text = match key {
                Field::Scope => &mut record.scope,
                Field::Value => &mut record.value,
                Field::Type => &mut record.remediation,
                Field::Origin => &mut record.origin,
                Field::Scenario => &mut record.scenario,
                Field::Reason => &mut record.reason,
                Field::Duration => &mut record.duration,
                Field::Until => &mut record.until,
                Field::Id => {
                    record.id = map.next_value()?;
                    continue;
                }
                Field::Simulated => {
                    record.is_simulated = map.next_value::<Option<bool>>()?.unwrap_or(false);
                    continue;
                }
                Field::Decisions if let Some(inner) = self.inner.as_deref_mut() => {
                    is_alert = true;
                    map.next_value_seed(OfAlert {
                        reading: &mut *self.reading,
                        record: inner,
                    })?;
                    continue;
                }
                Field::Decisions | Field::New | Field::Deleted | Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            text.clear();
            map.next_value_seed(Text(text))?;
        }
        if is_alert {
            return Ok(());
        }
        if self.record.is_simulated {
            self.reading.summary.ignored_count += 1;
            return Ok(());
        }
        // The line is known to the deserializer alone, which adds it to the error.
        self.reading
            .record(0, &self.record.fields())
            .map_err(|error| A::Error::custom(error.reason))
    }
}

/// The fields that matter.
enum Field {
    Scope,
    Value,
    Type,
    Origin,
    Scenario,
    Reason,
    Duration,
    Until,
    Id,
    Simulated,
    Decisions,
    New,
    Deleted,
    Other,
}

/// The name of a field, without a copy of it.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Field, D::Error> {
        input.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "scope" => Field::Scope,
            "value" => Field::Value,
            "type" => Field::Type,
            "origin" => Field::Origin,
            "scenario" => Field::Scenario,
            "reason" => Field::Reason,
            "duration" => Field::Duration,
            "until" => Field::Until,
            "id" => Field::Id,
            "simulated" => Field::Simulated,
            "decisions" => Field::Decisions,
            "new" => Field::New,
            "deleted" => Field::Deleted,
            _ => Field::Other,
        })
    }
}

/// A text or `null`, into room that is used again.
struct Text<'r>(&'r mut String);

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DEFAULTS, collect, shown};
    use super::*;

    fn parse(text: &str, on_bad: OnBadRecord) -> (Result<Summary, ListError>, Vec<String>) {
        collect(|sink| parse_json(text.as_bytes(), &DEFAULTS, on_bad, sink))
    }

    #[test]
    fn decisions_as_they_are_imported() {
        let json = r#"[
            {"value": "192.0.2.1", "duration": "4h", "scope": "ip", "reason": "r", "type": "captcha"},
            {"value": "10.0.0.0/8"},
            {"value": "FR", "scope": "Country", "origin": null, "until": "1970-01-01T01:00:00Z",
             "duration": "9h", "id": 7, "more": {"value": ["x", 1e3, true]}},
            {"value": "root", "scope": "username"},
            {"value": "192.0.2.9", "simulated": true},
            {"value": "\u0031\u0030.0.0.1", "origin": "lists", "scenario": "tor \"x\"", "reason": "r"}
        ]"#;
        let (summary, decisions) = parse(json, OnBadRecord::Refuse);
        assert_eq!(
            decisions,
            [
                "192.0.2.1 captcha list 15400",
                "10.0.0.0/8 ban list never",
                "FR ban list 3600 #7",
                "10.0.0.1 ban lists:tor \"x\" never",
            ]
        );
        let summary = summary.unwrap();
        assert_eq!((summary.decision_count, summary.ignored_count), (4, 2));
    }

    /// Shortened from what `cscli` 1.4.6 wrote.
    #[test]
    fn decisions_as_they_are_listed() {
        let json = r#"[{"capacity": 0, "created_at": "2026-07-24T10:00:00Z", "decisions": [
            {"duration": "3h59m49.64s", "id": 3, "origin": "cscli", "scenario": "manual 'ban'",
             "scope": "Ip", "simulated": false, "type": "ban", "value": "192.0.2.1"},
            {"duration": "3h", "id": 4, "origin": "cscli", "scope": "Range", "type": "ban",
             "value": "198.51.100.0/24", "decisions": [{"value": "10.0.0.1"}]}],
            "events": [], "id": 2, "source": {"scope": "Ip", "value": "10.9.9.9"}},
            {"id": 9, "decisions": null}]"#;
        let (summary, decisions) = parse(json, OnBadRecord::Refuse);
        assert_eq!(
            decisions,
            [
                "192.0.2.1 ban cscli 15390 #3",
                "198.51.100.0/24 ban cscli 11800 #4"
            ]
        );
        assert_eq!(summary.unwrap().decision_count, 2);
        for none in ["null", "[]", " [ ] "] {
            let (summary, _) = parse(none, OnBadRecord::Refuse);
            assert_eq!(summary, Ok(Summary::default()));
        }
    }

    #[test]
    fn bad_records_are_named_or_counted() {
        for (json, line, part) in [
            (
                "[{\"value\":\"x\"},\n{\"value\":\"::1\"}]",
                1,
                "'x': not an address",
            ),
            (
                "[\n{\"type\":\"ban\"},\n{\"value\":\"::1\"}]",
                2,
                "'': not an address",
            ),
            (
                "[\n\n{\"value\":\"::2\",\"duration\":\"4\"},{\"value\":\"::1\"}]",
                3,
                "'4' is no end",
            ),
        ] {
            let (error, _) = parse(json, OnBadRecord::Refuse);
            let error = error.unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.reason.contains(part), "{error}");
            assert!(!error.reason.contains("column"), "{error}");
            let (summary, decisions) = parse(json, OnBadRecord::Skip);
            let summary = summary.unwrap();
            let first = summary.first_bad.unwrap();
            assert_eq!((summary.bad_count, first.line), (1, 0));
            assert_eq!(first.reason, format!("record 1: {}", error.reason));
            assert_eq!(decisions, ["::1 ban list never"]);
        }
    }

    #[test]
    fn what_is_no_such_json_is_refused() {
        for (json, line, part) in [
            ("", 1, "EOF"),
            ("{}", 1, "an array of decisions"),
            ("[{\"value\":\"::1\"}", 1, "EOF"),
            ("[] x", 1, "trailing"),
            ("[\n{\"value\": 7}]", 2, "a text"),
            ("[\n7]", 2, "a decision"),
            ("[{\"value\":\"::1\",\"id\":\"7\"}]", 1, "i64"),
            ("[{\"decisions\":7}]", 1, "the decisions of an alert"),
        ] {
            let (error, _) = parse(json, OnBadRecord::Skip);
            let error = error.unwrap_err();
            assert_eq!(error.line, line, "{json}: {error}");
            assert!(error.reason.contains(part), "{json}: {error}");
        }
        let deep = format!("[{{\"x\":{}", "[".repeat(100_000));
        assert!(parse(&deep, OnBadRecord::Skip).0.is_err());
    }

    #[test]
    fn answers_of_a_lapi() {
        let stream = |json: &str| {
            let mut seen = Vec::new();
            let summary = parse_stream(
                json.as_bytes(),
                &DEFAULTS,
                OnBadRecord::Refuse,
                |part, decision| {
                    seen.push(format!("{part:?} {}", shown(decision)));
                    Ok(())
                },
            );
            (summary.unwrap().decision_count, seen)
        };
        let (count, seen) = stream(
            r#"{"deleted":[{"duration":"-1m0.5s","id":1,"origin":"CAPI","scenario":"s","scope":"Ip",
            "type":"ban","value":"192.0.2.1"}],"links":null,
            "new":[{"duration":"1h","id":2,"origin":"cscli","scope":"Ip","type":"ban","value":"::1"}]}"#,
        );
        assert_eq!(count, 2);
        assert_eq!(
            seen,
            [
                "Deleted 192.0.2.1 ban CAPI 940 #1",
                "New ::1 ban cscli 4600 #2"
            ]
        );
        let (count, seen) = stream(
            r#"{"deleted":[{"value":"::1","id":1,"duration":"?"}],"new":[{"value":"::1","id":2}]}"#,
        );
        assert_eq!((count, seen.len()), (2, 2), "its end does not matter");
        for none in [r#"{"new":null,"deleted":null}"#, r#"{"deleted":[]}"#] {
            assert_eq!(stream(none), (0, Vec::new()));
        }
    }
}

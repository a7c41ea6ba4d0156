//! Files of decisions: plain lists, CSV, and JSON as CrowdSec writes it (feature `remediation`).
//!
//! What is read is handed on decision by decision, so that a file may be larger than memory. Nothing
//! here opens a file or knows the time.

mod csv;
mod duration;
#[cfg(feature = "remediation")]
mod json;
mod lines;
mod time;

pub use csv::parse_csv;
pub use duration::{DurationError, parse_duration};
#[cfg(feature = "remediation")]
pub use json::{StreamPart, parse_json, parse_stream};
pub use lines::parse_lines;
#[cfg(feature = "challenge")]
pub(in crate::agents) use time::rfc_3339;

use std::io::BufRead;
use std::net::IpAddr;

use super::dataset::{Decision, Expiry, Network, NetworkError, StoreError, Subject, SubjectError};
use super::decisions::ListError;

/// What holds for a decision whose record does not say it.
#[derive(Clone, Copy, Debug)]
pub struct Defaults<'a> {
    /// The word for what is to be done.
    pub remediation: &'a str,
    /// Who decided: the name of the file, say.
    pub origin: &'a str,
    /// Until when.
    pub expiry: Expiry,
    /// From when durations count, in seconds since 1970: now, or when the file was written.
    pub now_unix_s: u64,
}

/// What becomes of a record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadRecord {
    /// It is an error, and nothing after it is read. What came before was handed on.
    Refuse,
    /// It is counted, and what comes after it is read. JSON that is none is an error all the same.
    Skip,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Decisions handed on; a range that is no network is several.
    pub decision_count: usize,
    /// Records that are right but not for us: simulated, or of a scope that is not looked up.
    pub ignored_count: usize,
    /// Records that could not be read.
    pub bad_count: usize,
    /// Why the first of those could not. In JSON its line is not known, and 0; the reason has its number
    /// instead.
    pub first_bad: Option<ListError>,
}

/// Where decisions go: the insertion into a store.
pub(super) trait Sink: FnMut(&Decision<'_>) -> Result<(), StoreError> {}

impl<F: FnMut(&Decision<'_>) -> Result<(), StoreError>> Sink for F {}

/// The longest line that is read, in bytes: what is longer is no list.
const MAX_LINE_LEN: u64 = 64 * 1024;

/// Calls `read` for each line, with its number.
fn each_line(
    mut input: impl BufRead,
    mut read: impl FnMut(usize, &str) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let mut bytes = Vec::new();
    for line in 1.. {
        let error = |reason: String| ListError { line, reason };
        bytes.clear();
        let mut limited = std::io::Read::take(&mut input, MAX_LINE_LEN + 1);
        let len = limited
            .read_until(b'\n', &mut bytes)
            .map_err(|problem| error(format!("cannot be read: {problem}")))?;
        if len == 0 {
            break;
        }
        if len as u64 > MAX_LINE_LEN {
            return Err(error(format!(
                "longer than {MAX_LINE_LEN} bytes; is it text?"
            )));
        }
        if line == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            // A mark of the byte order, which editors of another system leave.
            bytes.drain(..3);
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| error("not UTF-8".to_owned()))?;
        read(line, text.trim_end_matches(['\n', '\r']))?;
    }
    Ok(())
}

/// One reading of one file.
struct Reading<'a, S> {
    defaults: &'a Defaults<'a>,
    on_bad: OnBadRecord,
    sink: S,
    summary: Summary,
    /// Records so far.
    record_count: usize,
    /// Whether the decisions that are read have ended, so that when they would does not matter.
    has_ended: bool,
    /// Room for an origin that is made of two fields.
    origin: String,
}

/// The fields of a record; empty where it has none.
#[derive(Clone, Copy, Debug, Default)]
struct Fields<'a> {
    scope: &'a str,
    value: &'a str,
    remediation: &'a str,
    origin: &'a str,
    scenario: &'a str,
    expiry: &'a str,
    id: Option<i64>,
}

/// Why a record is not handed on.
enum Unread {
    /// It is not for us.
    Ignored,
    Bad(String),
    /// The store does not take it, nor what comes after.
    Refused(StoreError),
}

impl<'a, S: Sink> Reading<'a, S> {
    fn new(defaults: &'a Defaults<'a>, on_bad: OnBadRecord, sink: S) -> Self {
        Self {
            defaults,
            on_bad,
            sink,
            summary: Summary::default(),
            record_count: 0,
            has_ended: false,
            origin: String::new(),
        }
    }

    /// Hands on the decision of a record, or those of a range.
    fn record(&mut self, line: usize, fields: &Fields<'_>) -> Result<(), ListError> {
        self.record_count += 1;
        match self.try_record(fields) {
            Ok(()) => Ok(()),
            Err(Unread::Ignored) => {
                self.summary.ignored_count += 1;
                Ok(())
            }
            Err(Unread::Bad(reason)) => self.bad(ListError { line, reason }),
            Err(Unread::Refused(error)) => Err(ListError {
                line,
                reason: error.to_string(),
            }),
        }
    }

    fn bad(&mut self, mut error: ListError) -> Result<(), ListError> {
        match self.on_bad {
            OnBadRecord::Refuse => Err(error),
            OnBadRecord::Skip => {
                self.summary.bad_count += 1;
                if error.line == 0 {
                    error.reason = format!("record {}: {}", self.record_count, error.reason);
                }
                self.summary.first_bad.get_or_insert(error);
                Ok(())
            }
        }
    }

    fn try_record(&mut self, fields: &Fields<'_>) -> Result<(), Unread> {
        let defaults = self.defaults;
        let expiry = match fields.expiry {
            "" => defaults.expiry,
            text if self.has_ended => {
                time::expiry(text, defaults.now_unix_s).unwrap_or(defaults.expiry)
            }
            text => time::expiry(text, defaults.now_unix_s).ok_or_else(|| {
                let ways = "a duration as in 4h30m, a time as in 2027-01-31T12:00:00Z, or never";
                Unread::Bad(format!("'{text}' is no end of a decision, which is {ways}"))
            })?,
        };
        self.origin.clear();
        self.origin.push_str(match fields.origin {
            "" => defaults.origin,
            origin => origin,
        });
        if fields.origin == "lists" && !fields.scenario.is_empty() {
            // There the scenario is the name of the list.
            self.origin.push(':');
            self.origin.push_str(fields.scenario);
        }
        let mut decision = Decision {
            subject: Subject::AsNumber(0),
            remediation: match fields.remediation {
                "" => defaults.remediation,
                word => word,
            },
            origin: &self.origin,
            expiry,
            id: fields.id,
        };
        let mut hand_on = |subject| {
            decision.subject = subject;
            self.summary.decision_count += 1;
            (self.sink)(&decision).map_err(Unread::Refused)
        };
        match subjects(fields.scope, fields.value) {
            Ok(Subjects::One(subject)) => hand_on(subject),
            Ok(Subjects::Between(first, last)) => Network::between(first, last)
                .ok_or_else(|| Unread::Bad(format!("'{}': {}", fields.value, NetworkError::Ends)))?
                .try_for_each(|network| hand_on(network.into())),
            Err(SubjectError::Scope) => Err(Unread::Ignored),
            Err(error) => Err(Unread::Bad(format!("'{}': {error}", fields.value))),
        }
    }
}

/// Whom a record is about.
enum Subjects {
    One(Subject),
    /// All addresses from one to another.
    Between(IpAddr, IpAddr),
}

fn subjects(scope: &str, value: &str) -> Result<Subjects, SubjectError> {
    let is_network =
        scope.is_empty() || scope.eq_ignore_ascii_case("ip") || scope.eq_ignore_ascii_case("range");
    if is_network && let Some((first, last)) = value.split_once('-') {
        let end = |text: &str| {
            let address = text.trim().parse();
            address.map_err(|_| SubjectError::Network(NetworkError::Address))
        };
        return Ok(Subjects::Between(end(first)?, end(last)?));
    }
    let subject = match scope {
        "" => value.parse(),
        scope => Subject::parse(scope, value),
    };
    subject.map(Subjects::One)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const DEFAULTS: Defaults<'static> = Defaults {
        remediation: "ban",
        origin: "list",
        expiry: Expiry::NEVER,
        now_unix_s: 1_000,
    };

    /// What comes of a reading, with its decisions as text.
    pub(super) fn collect<T>(
        parse: impl FnOnce(&mut dyn FnMut(&Decision<'_>) -> Result<(), StoreError>) -> T,
    ) -> (T, Vec<String>) {
        let mut decisions = Vec::new();
        let result = parse(&mut |decision| {
            decisions.push(shown(decision));
            Ok(())
        });
        (result, decisions)
    }

    pub(super) fn shown(decision: &Decision<'_>) -> String {
        let Decision {
            subject,
            remediation,
            origin,
            expiry,
            id,
        } = decision;
        let end = expiry
            .unix_s()
            .map_or("never".to_owned(), |second| second.to_string());
        let id = id.map_or(String::new(), |id| format!(" #{id}"));
        format!("{subject} {remediation} {origin} {end}{id}")
    }
}

//! What a check found, and where.

use std::fmt;

use super::version::HaproxyVersion;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Good to know.
    Note,
    /// It will go wrong at times, or is not what was meant.
    Warning,
    /// It will not work, or HAProxy does not start with it.
    Error,
}

impl Severity {
    /// As it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One finding. It prints as a compiler's message: `FILE:LINE: error[id]: text`, and the fix below.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding it is; these do not change.
    pub id: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            severity,
            id,
            text,
            fix,
        } = self;
        let severity = severity.as_str();
        write!(f, "{file}:{line}: {severity}[{id}]: {text}\n  fix: {fix}")
    }
}

/// All that was found, in the order of files and lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The version that the files were read for.
    pub version: HaproxyVersion,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings are of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.severity == severity)
            .count()
    }

    /// Whether there is nothing but notes.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity == Severity::Note)
    }
}

/// A line of one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file's index.
    pub(super) file: usize,
    /// From 1.
    pub(super) line: usize,
}

/// Findings as they are made.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(Place, Severity, &'static str, String, String)>);

impl Findings {
    pub(super) fn add(
        &mut self,
        severity: Severity,
        id: &'static str,
        place: Place,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let (text, fix) = (printable(&text.into()), printable(&fix.into()));
        self.0.push((place, severity, id, text, fix));
    }

    pub(super) fn error(
        &mut self,
        id: &'static str,
        place: Place,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Error, id, place, text, fix);
    }

    pub(super) fn warning(
        &mut self,
        id: &'static str,
        place: Place,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Warning, id, place, text, fix);
    }

    pub(super) fn note(
        &mut self,
        id: &'static str,
        place: Place,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Note, id, place, text, fix);
    }

    /// Whether one of this id was made so far.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|(_, _, known, _, _)| *known == id)
    }

    /// In order, each once: an engine that two frontends have is looked at for each.
    pub(super) fn finish(mut self, names: &[&str]) -> Vec<Finding> {
        self.0.sort_by(|a, b| {
            let worse = b.1.cmp(&a.1);
            a.0.cmp(&b.0).then(worse).then(a.2.cmp(b.2))
        });
        self.0.dedup();
        let findings = self.0.into_iter();
        findings
            .map(|(place, severity, id, text, fix)| Finding {
                file: names
                    .get(place.file)
                    .copied()
                    .unwrap_or_default()
                    .to_owned(),
                line: place.line,
                severity,
                id,
                text,
                fix,
            })
            .collect()
    }
}

/// Words of a file may be anything: what would move a cursor is shown escaped, what is long is cut.
fn printable(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if printable.len() > LONGEST {
            printable.push_str("...");
            break;
        }
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

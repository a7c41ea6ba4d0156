//! What is wrong with a configuration that is nevertheless of use.

use std::fmt;

/// Something about a setting that whoever wrote it should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is: the file or the number of the host, and the key.
    pub place: String,
    /// What is wrong and what holds instead, without a subject, as in "is empty: ...".
    pub text: String,
    /// The setting does not have its effect at all; otherwise something near to it.
    pub is_error: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.text)
    }
}

/// Problems of one place, while it is read.
#[derive(Debug)]
pub(super) struct Problems<'p> {
    place: String,
    found: &'p mut Vec<Problem>,
}

impl<'p> Problems<'p> {
    pub(super) fn new(place: impl Into<String>, found: &'p mut Vec<Problem>) -> Self {
        Self {
            place: place.into(),
            found,
        }
    }

    pub(super) fn error(&mut self, key: &str, text: impl fmt::Display) {
        self.add(key, text, true);
    }

    pub(super) fn warning(&mut self, key: &str, text: impl fmt::Display) {
        self.add(key, text, false);
    }

    fn add(&mut self, key: &str, text: impl fmt::Display, is_error: bool) {
        // As the file spells it.
        let key = key.replace('_', "-");
        self.found.push(Problem {
            place: format!("{}: {key}", self.place),
            text: text.to_string(),
            is_error,
        });
    }

    /// A duration, or the default where it is none.
    pub(super) fn duration(
        &mut self,
        key: &str,
        text: Option<&str>,
        default: std::time::Duration,
    ) -> std::time::Duration {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return default;
        };
        let reason = match super::files::parse_duration(text) {
            Ok(ns) => match u64::try_from(ns) {
                Ok(0) => "is zero".to_owned(),
                Ok(ns) => return std::time::Duration::from_nanos(ns),
                Err(_) => "is negative".to_owned(),
            },
            Err(error) => format!("is {error}"),
        };
        let text = shown(text);
        self.warning(key, format_args!("{text} {reason}: {default:?} is used"));
        default
    }

    /// Whether a text can be put into a page as it is: neither HAProxy nor the Lua code in front of it
    /// escapes anything.
    pub(super) fn is_fit_for_page(&mut self, key: &str, text: &str) -> bool {
        let is_bad = |c: char| c.is_control() || matches!(c, '<' | '>' | '"');
        if let Some(bad) = text.chars().find(|&c| is_bad(c)) {
            self.error(
                key,
                format_args!(
                    "has the character {bad:?}, which would end what it stands in on the page: \
                     percent-encode it or leave it out"
                ),
            );
            return false;
        }
        if text.len() > MAX_PAGE_TEXT_LEN {
            self.error(
                key,
                format_args!(
                    "has {} bytes: want {MAX_PAGE_TEXT_LEN} at most, as all of an answer has to fit into \
                     a frame",
                    text.len()
                ),
            );
            return false;
        }
        if text.contains('%') {
            self.warning(
                key,
                "has a '%', which pages filled in by Lua cannot have: check what the page shows",
            );
        }
        true
    }
}

/// The longest text for a page, in bytes. An answer that does not fit into a frame is the fallback, and whoever
/// it was about passes: four of these and a cookie fit into HAProxy's default of 16 KiB.
const MAX_PAGE_TEXT_LEN: usize = 2048;

/// A text of a configuration for an error: in quotes, and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(60).collect();
    if start.len() < text.len() {
        start.push('\u{2026}');
    }
    format!("{start:?}")
}

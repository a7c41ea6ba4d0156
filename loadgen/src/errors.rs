//! What can go wrong in a run, counted by kind.

use std::collections::BTreeMap;
use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $text:literal;)*) => {
        /// A kind of error or violation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $name,)*
        }

        impl ErrorKind {
            /// All kinds, in the order they are reported.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The key of the kind in JSON.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$name => $key,)*
                }
            }

            /// The kind as a person reads it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// A connection could not be opened.
    Connect = "connect", "connections not opened";
    /// A connection was opened, but HELLO did not succeed.
    Handshake = "handshake", "handshakes failed";
    /// The agent sent AGENT-DISCONNECT.
    Disconnect = "disconnect", "AGENT-DISCONNECT received";
    /// The agent closed a connection without one.
    Closed = "closed", "connections closed by the agent";
    /// Bytes that are no frame; the connection is given up.
    BadFrame = "bad_frame", "unparseable frames";
    /// A frame an agent does not send in this state, or an ACK without FIN.
    UnexpectedFrame = "unexpected_frame", "unexpected frames";
    /// An ACK with ids that were never sent.
    UnknownId = "unknown_id", "ACKs with an unknown id";
    /// A second ACK for the same ids.
    Duplicate = "duplicate", "ACKs for an id answered before";
    /// An ACK whose actions do not parse; HAProxy drops the rest without a word.
    BadActions = "bad_actions", "ACKs with unparseable actions";
    /// An ACK without the variable and value of an `--expect`.
    UnexpectedValue = "unexpected_value", "ACKs without an expected value";
    /// A NOTIFY in flight on a connection that went away.
    Lost = "lost", "NOTIFYs lost with their connection";
    /// A NOTIFY without ACK when the drain ended.
    Unanswered = "unanswered", "NOTIFYs never answered";
}

/// Counts by kind, with the first text of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    counts: [u64; ErrorKind::ALL.len()],
    examples: BTreeMap<&'static str, String>,
}

impl Errors {
    /// Counts one. `text` is asked for at the first of a kind only.
    #[cold]
    pub fn add(&mut self, kind: ErrorKind, text: impl FnOnce() -> String) {
        self.counts[kind as usize] += 1;
        self.examples.entry(kind.key()).or_insert_with(text);
    }

    /// Counts several that have nothing to tell.
    pub fn add_many(&mut self, kind: ErrorKind, count: u64) {
        self.counts[kind as usize] += count;
    }

    /// How many of one kind.
    #[must_use]
    pub fn count(&self, kind: ErrorKind) -> u64 {
        self.counts[kind as usize]
    }

    /// How many of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        for (key, text) in other.examples {
            self.examples.entry(key).or_insert(text);
        }
    }

    /// Every kind's count under its key.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<String, u64> {
        let pair = |&kind: &ErrorKind| (kind.key().to_owned(), self.count(kind));
        ErrorKind::ALL.iter().map(pair).collect()
    }

    /// The first text of each kind that has one.
    #[must_use]
    pub fn examples(&self) -> BTreeMap<String, String> {
        let pair = |(&key, text): (&&str, &String)| (key.to_owned(), text.clone());
        self.examples.iter().map(pair).collect()
    }
}

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

//! Decisions of several sources, and which of them holds for an address.
//!
//! ```text
//! sources -> DecisionStore: notes, and on apply() new columns      one thread
//!               |
//!            Snapshot: columns and their indexes, never changed
//!               |  publish()
//!            SnapshotCell -> SnapshotReader -> lookup()            every core
//! ```
//!
//! The columns are in memory once, in the snapshot: a store takes only notes of what changes, and makes
//! the next columns of them and of the last. With a million addresses that is a copy of 12 to 24 MB, some
//! ten milliseconds of one thread, ten times a second if need be; a structure that can be changed in place
//! costs more memory for each decision than the copy, and lookups that share its lines with a writer.
//!
//! What has ended is dropped when the store is told the time, and not by lookups. A LAPI says itself what
//! has ended, and says it late, so that a few seconds do not matter; a lookup would have to look at a
//! clock and at the expiry of what it found, and could not know what the ended decision hid: the range
//! around it, or a milder one on the same address.
//!
//! It does no I/O, has no threads and does not know the time.

mod addresses;
mod cell;
mod column;
mod decision;
mod kinds;
mod network;
mod ranges;
mod snapshot;
mod store;
mod wide;

pub use cell::{SnapshotCell, SnapshotReader};
pub use column::Changes;
pub use decision::{CountryCode, Decision, Expiry, Remediation, Subject, SubjectError};
pub use kinds::{KindId, Source, SourceId};
#[cfg(feature = "remediation")]
pub(crate) use kinds::{MAX_ORIGINS, OTHER_ORIGIN};
pub use network::{Network, NetworkError, Networks};
#[cfg(feature = "remediation")]
pub(super) use ranges::{Segments, SegmentsV4, SegmentsV6};
pub use snapshot::{DecisionCount, DecisionKind, Found, Snapshot};
pub use store::{DecisionStore, StoreError};
#[cfg(feature = "remediation")]
pub(super) use wide::Wide;

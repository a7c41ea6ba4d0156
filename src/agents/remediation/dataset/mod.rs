//! Decisions of several sources, and which of them holds for an address.

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
pub use network::{Network, NetworkError, Networks};
pub use snapshot::{Found, Snapshot};
pub use store::{DecisionStore, StoreError};

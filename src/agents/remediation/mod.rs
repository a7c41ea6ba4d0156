//! IP remediation: is this address banned?
//!
//! `decisions` reads lists, `table` looks addresses up, `agent` speaks SPOE.

mod agent;
mod dataset;
mod decisions;
mod table;

pub use agent::RemediationAgent;
pub use dataset::{
    Changes, CountryCode, Decision, DecisionStore, Expiry, Found, KindId, Network, NetworkError,
    Networks, Remediation, Snapshot, SnapshotCell, SnapshotReader, Source, SourceId, StoreError,
    Subject, SubjectError,
};
pub use decisions::{ListError, embedded, parse_list};
pub use table::AddressTable;

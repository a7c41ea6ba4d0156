//! IP remediation: is this address banned?
//!
//! `decisions` reads lists, `table` looks addresses up, `agent` speaks SPOE. `dataset` keeps decisions of
//! several sources, with their origins and ends, and `files` reads them.

mod agent;
mod dataset;
mod decisions;
mod files;
mod table;

pub use agent::RemediationAgent;
pub use dataset::{
    Changes, CountryCode, Decision, DecisionCount, DecisionKind, DecisionStore, Expiry, Found,
    KindId, Network, NetworkError, Networks, Remediation, Snapshot, SnapshotCell, SnapshotReader,
    Source, SourceId, StoreError, Subject, SubjectError,
};
pub use decisions::{ListError, embedded, parse_list};
pub use files::{
    Defaults, DurationError, OnBadRecord, Summary, parse_csv, parse_duration, parse_lines,
};
#[cfg(feature = "crowdsec")]
pub use files::{StreamPart, parse_json, parse_stream};
pub use table::AddressTable;

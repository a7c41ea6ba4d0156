//! IP remediation: is this address banned?
//!
//! `decisions` reads lists, `table` looks addresses up, `agent` speaks SPOE.

mod agent;
mod decisions;
mod table;

pub use agent::RemediationAgent;
pub use decisions::{ListError, embedded, parse_list};
pub use table::AddressTable;

//! IP remediation: is this address banned?
//!
//! `decisions` reads lists, `table` looks addresses up, `agent` speaks SPOE; `hosts` finds what is
//! configured for a host.

mod agent;
mod decisions;
#[cfg(feature = "remediation")]
mod hosts;
mod table;

pub use agent::RemediationAgent;
pub use decisions::{ListError, embedded, parse_list};
#[cfg(feature = "remediation")]
pub use hosts::{HostPattern, HostTable, PatternError, PatternFault, host_name};
pub use table::AddressTable;

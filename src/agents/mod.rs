//! The agents built into the binary: pure functions over loaded tables.

#![forbid(unsafe_code)]

pub mod remediation;

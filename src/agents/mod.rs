//! The agents built into the binary: pure functions over loaded tables.
//!
//! Beside them, in `common`, what several need.

#![forbid(unsafe_code)]

#[cfg(feature = "challenge")]
pub mod challenge;
#[cfg(any(feature = "challenge", feature = "remediation"))]
#[cfg_attr(
    not(feature = "remediation"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "some of it is of remediation alone"
    )
)]
mod common;
pub mod remediation;

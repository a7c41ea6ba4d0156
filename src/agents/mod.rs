//! The agents built into the binary: pure functions over loaded tables.
//!
//! Beside them what several have in common: questions to others (`outside`), providers of captchas
//! (`provider`), forms, and secrets of configurations.

#![forbid(unsafe_code)]

#[cfg(feature = "remediation")]
mod form;
#[cfg(feature = "remediation")]
mod outside;
#[cfg(feature = "remediation")]
mod provider;
pub mod remediation;
#[cfg(feature = "remediation")]
mod secret;

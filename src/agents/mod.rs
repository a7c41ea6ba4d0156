//! The agents built into the binary: pure functions over loaded tables.
//!
//! Beside them what several have in common: hosts and their patterns, questions to others (`outside`),
//! providers of captchas (`provider`), forms, and secrets of configurations.

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
mod form;
#[cfg(any(feature = "challenge", feature = "remediation"))]
#[cfg_attr(
    not(feature = "remediation"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "some of it is of remediation alone"
    )
)]
mod hosts;
#[cfg(any(feature = "challenge", feature = "remediation"))]
#[cfg_attr(
    not(feature = "remediation"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "some of it is of remediation alone"
    )
)]
mod outside;
#[cfg(any(feature = "challenge", feature = "remediation"))]
#[cfg_attr(
    not(feature = "remediation"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "some of it is of remediation alone"
    )
)]
mod provider;
pub mod remediation;
#[cfg(any(feature = "challenge", feature = "remediation"))]
mod secret;

//! What the fuzz targets in `src/bin` call, one function a target: it reads any bytes, and panics
//! where something it promises of them does not hold.
//!
//! `tests/fuzz_corpus.rs` and `loadgen/tests/fuzz_corpus.rs` include these modules too, and put the
//! committed inputs through them in every run of the tests.

pub mod loadgen;
#[path = "../../../src/challenge.rs"]
#[allow(
    unused,
    unreachable_pub,
    missing_docs,
    clippy::all,
    reason = "the binary's module, which that of the settings names"
)]
mod challenge;
#[path = "../../../src/logging.rs"]
#[allow(
    unused,
    unreachable_pub,
    missing_docs,
    reason = "the binary's module, which that of the settings names"
)]
mod logging;
#[path = "../../../src/remediation.rs"]
#[allow(
    unused,
    unreachable_pub,
    missing_docs,
    clippy::all,
    reason = "the binary's module, which that of the settings names"
)]
mod remediation;
pub mod serve;

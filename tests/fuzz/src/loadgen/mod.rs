//! What `ringspoa-loadgen` reads: profiles, saved runs, and the texts of flags.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the fuzz targets and the test of the corpus each use their part"
)]

mod profile;
mod saved;
mod session;
mod shown;

pub use profile::{expectation, profile};
pub use saved::{histogram, saved_run};
pub use session::session;
pub use shown::{picture, shown};

/// Takes any bytes, and panics where something it promises of them does not hold.
pub type Target = fn(&[u8]);

/// Every target here, by the name of its file in `src/bin`.
pub const TARGETS: &[(&str, Target)] = &[
    ("expectation", expectation),
    ("histogram", histogram),
    ("picture", picture),
    ("profile", profile),
    ("saved_run", saved_run),
    ("session", session),
    ("shown", shown),
];

//! A load generator for SPOE agents in any language: it plays HAProxy's side.
//!
//! [`run`] drives an agent as a [`Plan`] says and returns a [`SavedRun`]: settings, results and
//! full histograms, of one round. [`SavedRun::add_rounds_of`] puts several rounds together, and
//! [`Comparison`] says how two such runs differ, and whether that is more than their scatter. [`conform()`] checks
//! what an agent does on the wire instead of how fast it is. The binary `ringspoa-loadgen` is flags and printing around that.
//!
//! # How latency is counted
//!
//! In a closed loop each connection keeps a fixed number of NOTIFYs in flight, and latency runs
//! from the write of a NOTIFY to the read that brought its ACK. An agent that stalls is then asked
//! less, so a closed loop cannot see coordinated omission: the uncorrected figures equal the plain
//! ones there.
//!
//! In an open loop (`rate`) every NOTIFY has an intended time, fixed before the run, and latency
//! runs from that time whatever the agent or the generator did; the uncorrected figures, from the
//! actual write, stand beside it.
//!
//! What that is worth shows an agent that stalls once, for 200 ms, in a run of 3 s at 1000 NOTIFYs
//! a second with one in flight. 200 NOTIFYs fall due in the stall, of which one has been sent. From
//! the intended times the first waited for 200 ms and the last for 1 ms: 150 of the 3000 took more
//! than 50 ms, and the 99.9th percentile is near 200 ms. From the actual times one took 200 ms, and
//! the others, sent when the stall was over, took no longer than ever: the 99.9th percentile does
//! not know of it. Clients behind HAProxy would have waited as the intended times say. A closed loop
//! gives the uncorrected account of the same agent, and no other.
//!
//! An open loop is truthful only as far as the generator keeps its own schedule. How late it was by
//! itself is measured apart (`late_p50_us` and `late_p99_us`, of NOTIFYs that had a free slot), and
//! what it could not send for want of one is counted (`unsent`). [`sweep()`] uses both to tell an
//! agent that is too slow from a generator that is.
//!
//! Frames are counted if their ACK came within the measured time. Histograms also have the ACKs of
//! what was in flight at its end: leaving those out would hide a stall there. Errors count from the
//! first connection on, the warm-up included.

#![forbid(unsafe_code)]

mod client;
mod compare;
mod conform;
mod connection;
mod errors;
mod expect;
mod hgrm;
mod latency;
mod plan;
mod plot;
mod profile;
mod report;
mod run;
mod saved;
mod slots;
mod statistics;
mod sweep;

pub use compare::{
    Better, CompareError, Comparison, Contestant, Difference, Method, Pairing, Row, Setting,
    Verdict,
};
pub use conform::{
    ConformError, ConformPlan, Conformance, Exchange, Hostile, Rule, RuleResult, RuleVerdict, Side,
    conform,
};
#[doc(hidden)]
pub use connection::replay;
pub use errors::{ErrorKind, Errors};
pub use expect::{Expectation, ExpectationError};
pub use hgrm::{LatencyUnit, NoSamples, percentile_csv, percentile_distribution};
pub use latency::new_histogram;
pub use plan::{Plan, PlanError, Target};
pub use plot::{PlotError, PlotOptions, PlotRun, plot_curve_svg, plot_html, plot_svg};
pub use profile::{Generator, Profile, ProfileError};
pub use report::{Results, Settings};
pub use run::{Progress, RunError, run};
pub use saved::{LoadError, Round, SavedRun};
pub use sweep::{Curve, Measurement, SweepEnd, SweepError, SweepPlan, SweepVerdict, sweep};

//! The inputs that fuzzing found worth keeping, and the targets that `ringspoa` has in tests/fuzz.

#[path = "../src/challenge.rs"]
#[allow(
    unused,
    unreachable_pub,
    missing_docs,
    clippy::all,
    reason = "the binary's module, which that of the settings names"
)]
mod challenge;
#[path = "../src/logging.rs"]
#[allow(
    unused,
    unreachable_pub,
    missing_docs,
    reason = "the binary's module, which that of the settings names"
)]
mod logging;
#[path = "../src/remediation.rs"]
#[allow(
    unused,
    unreachable_pub,
    missing_docs,
    clippy::all,
    reason = "the binary's module, which that of the settings names"
)]
mod remediation;
#[path = "fuzz/src/replay.rs"]
#[allow(
    unreachable_pub,
    reason = "the load generator's test takes its part of it"
)]
mod replay;
#[path = "fuzz/src/serve/mod.rs"]
mod serve;

use std::path::Path;

#[test]
fn every_committed_input_passes_its_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    replay::replay(&fuzz, serve::TARGETS);
}

#[test]
fn every_target_is_in_a_list() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut fuzzed = replay::fuzzed(&fuzz);
    for (name, _) in serve::TARGETS {
        assert!(
            fuzzed.remove(*name),
            "{name} is listed twice or has no file"
        );
    }
    // The load generator's own test goes through the rest.
    let others = std::fs::read_to_string(fuzz.join("src/loadgen/mod.rs")).unwrap();
    fuzzed.retain(|name| !others.contains(&format!("(\"{name}\", {name}),")));
    assert!(fuzzed.is_empty(), "in no list of targets: {fuzzed:?}");
}

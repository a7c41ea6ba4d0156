//! The inputs that fuzzing found worth keeping, and the targets that the load generator has in
//! tests/fuzz.

#[path = "../../tests/fuzz/src/loadgen/mod.rs"]
mod loadgen;
#[path = "../../tests/fuzz/src/replay.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "ringspoa's test takes the rest of it"
)]
mod replay;

use std::path::Path;

#[test]
fn every_committed_input_passes_its_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
    replay::replay(&fuzz, loadgen::TARGETS);
}

//! Browser validation's work, in memory: `cargo bench --bench challenge`.
//!
//! Each figure is of one cookie that is validated, or of one submission that is judged.

use divan::{AllocProfiler, Bencher};

use visits::Scene;

mod visits;

/// Adds lines on allocations to each benchmark that makes some: none is to.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// The scene of this name.
fn bench(bencher: Bencher<'_, '_>, scenes: Vec<Scene>, name: &str) {
    let scene = scenes.iter().find(|scene| scene.name == name);
    let scene = scene.expect("one has the name");
    bencher.bench_local(&scene.run);
}

#[divan::bench(args = [
    "value", "only_cookie", "among_others", "of_both_families", "no_cookie", "forged", "moved",
    "twenty_forged", "junk_8_kib", "with_host",
])]
fn validate(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, visits::validations(), name);
}

#[divan::bench(args = [
    "malformed", "long", "forged", "moved", "first_wrong", "last_wrong", "right", "derived", "issue",
])]
fn submit(bencher: Bencher<'_, '_>, name: &str) {
    bench(bencher, visits::submissions(), name);
}

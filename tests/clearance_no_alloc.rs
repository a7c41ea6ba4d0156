//! Nothing that a visitor sends makes validation of browsers allocate: good cookies and bad ones, submissions
//! that are refused at each step, and those that are taken.

mod counting;
#[path = "../benches/visits/mod.rs"]
mod visits;

use std::cell::Cell;

use counting::Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting =
    Counting(|| _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1)));

#[test]
fn nothing_that_visitors_send_allocates() {
    let before = ALLOCATIONS.get();
    let mut scenes = visits::validations();
    scenes.extend(visits::submissions());
    assert_ne!(
        ALLOCATIONS.get(),
        before,
        "the counter counts: scenes allocate"
    );
    for scene in &scenes {
        // Once for what is made at the first use, such as what the CPU can do.
        (scene.run)();
        let before = ALLOCATIONS.get();
        for _ in 0..20 {
            (scene.run)();
        }
        let count = ALLOCATIONS.get() - before;
        assert_eq!(count, 0, "{}: allocations in 20 rounds", scene.name);
    }
    assert_eq!(scenes.len(), 19);
}

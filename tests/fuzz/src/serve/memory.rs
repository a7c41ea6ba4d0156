//! An allocator that knows how much each thread holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Bytes this thread has allocated and not freed; negative where it freed what others allocated.
pub(super) fn held() -> i64 {
    HELD.with(Cell::get)
}

fn add(len: usize, sign: i64) {
    let change = i64::try_from(len).unwrap_or(i64::MAX) * sign;
    // `try_with`: threads allocate while their locals are being torn down, too.
    let _ = HELD.try_with(|held| held.set(held.get() + change));
}

struct Holding;

#[global_allocator]
static ALLOCATOR: Holding = Holding;

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Holding {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size(), 1);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(layout.size(), -1);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(layout.size(), -1);
        add(size, 1);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

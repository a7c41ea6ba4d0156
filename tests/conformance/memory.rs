//! What each thread of this process has allocated, so that a server's worker, which is one thread,
//! can be asked what it holds while other tests run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static LARGEST: Cell<i64> = const { Cell::new(0) };
}

/// Allocations from this length on are not counted as live: buffers, which are kept for the next
/// connection, would hide what is lost.
const SMALL: usize = 4096;

/// Bytes this thread allocated in small pieces, less those it freed.
pub(crate) fn live() -> i64 {
    LIVE.get()
}

/// The largest allocation this thread ever asked for, in bytes.
pub(crate) fn largest() -> i64 {
    LARGEST.get()
}

struct Counting;

impl Counting {
    fn count(allocated: usize, freed: usize) {
        let bytes = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        let small = |len: usize| if len < SMALL { bytes(len) } else { 0 };
        // `try_with`: threads allocate while their locals are being torn down, too.
        let _ = LIVE.try_with(|live| live.set(live.get() + small(allocated) - small(freed)));
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes(allocated))));
    }
}

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size(), 0);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::count(0, layout.size());
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size, layout.size());
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

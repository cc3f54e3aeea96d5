//! An allocator that counts, for each thread by itself and for all together.
#![expect(unsafe_code, reason = "an allocator that counts has to be an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often this thread has allocated.
pub(crate) fn here() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// How often all threads have.
pub(crate) fn everywhere() -> u64 {
    // A count, by which nothing is ordered; what came before a reply was counted before it.
    EVERYWHERE.load(Ordering::Relaxed)
}

/// Bytes that this thread has allocated and not given back, with what the allocator takes for itself.
pub(crate) fn bytes_here() -> i64 {
    BYTES.with(Cell::get)
}

/// As glibc's: pieces of 16 bytes, 32 at least, 8 of them its own.
fn taken(layout: Layout) -> i64 {
    (layout.size() + 8).next_multiple_of(16).max(32) as i64
}

/// Counts allocations and hands them on.
struct Counting;

static EVERYWHERE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        BYTES.with(|bytes| bytes.set(bytes.get() + taken(layout)));
        EVERYWHERE.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.with(|bytes| bytes.set(bytes.get() - taken(layout)));
        // SAFETY: `pointer` came from `System.alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

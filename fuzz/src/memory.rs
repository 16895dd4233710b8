//! A bound on memory that is exact: libFuzzer looks at the whole process once a second, and at single allocations only
//! with a sanitizer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// 2²⁰ bytes.
pub const MIB: usize = 1 << 20;

/// The system's allocator with books.
struct Books;

#[global_allocator]
static BOOKS: Books = Books;

/// Bytes that are allocated.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// Bytes that may be; all of them outside of a target's body.
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

fn grown(by: usize) {
    let live = LIVE.fetch_add(by, Relaxed).saturating_add(by);
    if live > MOST.load(Relaxed) {
        // What follows needs memory, too.
        MOST.store(usize::MAX, Relaxed);
        eprintln!("too much memory: {live} bytes with the {by} that are asked for\n{}", Backtrace::force_capture());
        std::process::abort();
    }
}

// SAFETY: all memory comes from the system's allocator, asked in the same way.
unsafe impl GlobalAlloc for Books {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        grown(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Runs `body`, which may hold `most` bytes more than are held now.
pub(crate) fn within<T>(most: usize, body: impl FnOnce() -> T) -> T {
    MOST.store(LIVE.load(Relaxed).saturating_add(most), Relaxed);
    let done = body();
    MOST.store(usize::MAX, Relaxed);
    done
}

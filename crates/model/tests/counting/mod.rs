//! An allocator that counts, for tests that are alone in their process.

// An allocator cannot be had without.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that the process has.
pub(crate) fn now() -> usize {
    NOW.load(Ordering::Relaxed)
}

/// Begins the peak anew.
pub(crate) fn forget_peak() {
    PEAK.store(now(), Ordering::Relaxed);
}

/// The most bytes that it has had at once since.
pub(crate) fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// What `work` gives, and the bytes that it had at once at most, beside what was there before it.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = now();
    forget_peak();
    let done = work();
    (done, peak() - before)
}

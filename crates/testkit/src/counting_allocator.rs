//! Allocator that counts the bytes in use, for tests in a process of their own.

// An allocator needs unsafe code.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

/// Allocator that counts. A test declares it with `#[global_allocator]`.
#[derive(Debug)]
pub struct CountingAllocator;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call is forwarded to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` above, and so from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Returns the bytes in use.
pub fn bytes_in_use() -> usize {
    NOW.load(Ordering::Relaxed)
}

/// Resets the peak to the bytes in use.
pub fn reset_peak() {
    PEAK.store(bytes_in_use(), Ordering::Relaxed);
}

/// Returns the peak bytes in use since the last reset.
pub fn peak_bytes() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Runs `work` and returns its result with the peak bytes, relative to the bytes before it.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = bytes_in_use();
    reset_peak();
    let done = work();
    (done, peak_bytes() - before)
}

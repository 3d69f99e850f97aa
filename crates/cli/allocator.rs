//! The global allocator: mimalloc, configured to keep memory that training frees. A process that
//! runs out of memory ends with a message and an exit code.

use std::{
    alloc::{GlobalAlloc, Layout},
    io::{Cursor, Write, stderr},
    os::fd::AsFd,
    sync::atomic::{AtomicUsize, Ordering},
};

use mimalloc::MiMalloc;
use prospect_core::{contain::is_contained, errors::Resource};

use crate::output::warn;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Size of the last request that the system refused; 0 if there was none.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// Size from which a refused request is left to its caller, who may have a way out. Smaller ones
/// have none: handling an error needs such memory too, and printing a backtrace of it can hang.
const LARGE: usize = 1 << 20;

/// Size of a request that tells whether a panic may come from a lack of memory.
const PROBE: usize = 64 << 20;

/// Message of the error EAGAIN, in panics of thread pools that cannot start.
const NO_THREAD: &str = "Resource temporarily unavailable";

/// `mi_option_purge_delay` of mimalloc 2 (`mimalloc.h`), which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// mimalloc, which notes what the system refuses.
struct Allocator;

// SAFETY: passes every call on to mimalloc, and returns what that returns.
#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises is what mimalloc asks for.
        noted(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises is what mimalloc asks for.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises is what mimalloc asks for.
        noted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: what the caller promises is what mimalloc asks for.
        noted(unsafe { MiMalloc.realloc(pointer, layout, size) }, size)
    }
}

#[inline]
fn noted(pointer: *mut u8, size: usize) -> *mut u8 {
    if pointer.is_null() {
        refuse(size);
    }
    pointer
}

#[cold]
fn refuse(size: usize) {
    REFUSED.store(size, Ordering::Relaxed);
    if size < LARGE {
        end_out_of_memory();
    }
}

/// Ends the process if the system has refused memory.
///
/// Neither allocates nor takes locks, so that signal handlers may call it. Files that are being
/// written keep their temporary names.
fn end_out_of_memory() {
    let refused = REFUSED.load(Ordering::Relaxed);
    if refused == 0 {
        return;
    }
    let mut text = Cursor::new([0; 256]);
    let _ = writeln!(
        text,
        "error: out of memory: the system refused {refused} bytes; free some memory or raise its limit \
         (`ulimit -v`, `--mem` of Slurm), then run the same command again, which continues"
    );
    let length = text.position() as usize;
    let _ = rustix::io::write(stderr().as_fd(), text.get_ref().get(..length).unwrap_or_default());
    signal_hook::low_level::exit(1);
}

/// Makes refused memory and refused threads end the process with a message, where their caller has
/// no way out: Rust aborts after a refused allocation, and some libraries panic.
pub(crate) fn end_on_refusal() {
    let panicked = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Libraries in C have allocators of their own. Whether memory is short shows in a stack, which
        // the system maps.
        if std::thread::Builder::new().stack_size(PROBE).spawn(|| ()).is_err() {
            REFUSED.fetch_max(PROBE, Ordering::Relaxed);
        }
        end_out_of_memory();
        let reason = panic.to_string();
        if reason.contains(NO_THREAD) {
            warn(format!(
                "error: the system refuses to start a thread: {}; use fewer threads (RAYON_NUM_THREADS) or {}, \
                 then run the same command again, which continues",
                NO_THREAD.to_lowercase(),
                Resource::Threads.advice()
            ));
            signal_hook::low_level::exit(1);
        }
        if !is_contained() {
            panicked(panic);
        }
    }));
    // SAFETY: the handler calls only functions that are safe in handlers.
    #[expect(unsafe_code, reason = "a signal handler")]
    let registered =
        unsafe { signal_hook::low_level::register(signal_hook::consts::SIGABRT, end_out_of_memory) };
    if let Err(error) = registered {
        tracing::debug!("no handler for refused memory: {error}");
    }
}

/// Stops mimalloc from returning freed memory to the system.
///
/// Every training step frees large buffers and allocates them again. Returning them in between,
/// so that the system clears them each time, took 4 to 10 % of a step's time and saved 4 to 6 %
/// of peak memory.
pub(crate) fn retain() {
    // SAFETY: sets a number that the allocator reads; the call is safe at any time.
    #[expect(unsafe_code, reason = "a C function")]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

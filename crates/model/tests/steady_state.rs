//! Memory of training steps after the first ones: every buffer is used again, so the system clears
//! no pages. A process of its own, with the allocator of the binary.

// Test helpers may panic, and an allocator needs unsafe code.
#![allow(clippy::unwrap_used, unsafe_code)]
#![cfg(target_os = "linux")]

use std::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicU64, Ordering},
};

use mimalloc::MiMalloc;
use prospect_core::config::Document;
use prospect_model::{Activations, Adapter, Decoder, Gradients, LoraConfig, ModelFile, PackedBatch, Packer};

#[global_allocator]
static ALLOCATOR: CountingMiMalloc = CountingMiMalloc;

/// Least size in bytes of an allocation that is counted: a matrix, not bookkeeping of threads.
const LARGE: usize = 64 << 10;

static LARGE_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LARGE_BYTES: AtomicU64 = AtomicU64::new(0);

/// The allocator of the binary, which counts large allocations.
struct CountingMiMalloc;

// SAFETY: every call is forwarded to mimalloc.
unsafe impl GlobalAlloc for CountingMiMalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            LARGE_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            LARGE_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        }
        // SAFETY: the caller upholds the contract of `GlobalAlloc::alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, and so from mimalloc.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

/// Returns the pages that the system has cleared for this process.
fn page_faults() -> u64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap();
    // Fields after the name, which is in parentheses, from the third on: proc_pid_stat(5).
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// Work of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StepMemory {
    allocations: u64,
    bytes: u64,
    page_faults: u64,
}

fn memory_of(step: impl FnOnce()) -> StepMemory {
    let counts = || (LARGE_ALLOCATIONS.load(Ordering::Relaxed), LARGE_BYTES.load(Ordering::Relaxed));
    let ((allocations, bytes), faults) = (counts(), page_faults());
    step();
    let (all_allocations, all_bytes) = counts();
    StepMemory {
        allocations: all_allocations - allocations,
        bytes: all_bytes - bytes,
        page_faults: page_faults() - faults,
    }
}

fn batch() -> PackedBatch {
    let text: Vec<Vec<u32>> =
        (0..4).map(|row| (0..128).map(|at| (row * 7919 + at * 104_729) % 2048).collect()).collect();
    let mut packer = Packer::default();
    for row in &text {
        let prompt = packer.add_prompt(&row[..32]);
        packer.add_completion(prompt, &row[32..80], true);
        packer.add_completion(prompt, &row[80..], true);
    }
    packer.pack().unwrap()
}

fn decoder(dtype: &str) -> Decoder {
    let text = format!(
        "weights: random\ntokenizer: bytes\ndtype: {dtype}\narchitecture: {{vocab_size: 2048, hidden_size: 192,
      intermediate_size: 512, num_hidden_layers: 4, num_attention_heads: 6, num_key_value_heads: 2, head_dim: 32,
      max_position_embeddings: 128}}"
    );
    let recipe: ModelFile = Document::from_text("model.yaml", &text).unwrap().read().unwrap();
    let model = recipe.resolve(&|path| Ok(path.into())).unwrap().load().unwrap();
    model.decoder.with_lora(LoraConfig { r: 8, alpha: 16.0 }, 0).unwrap()
}

#[test]
fn steps_reuse_their_memory() {
    // As the binary does before it trains: `mi_option_purge_delay` of mimalloc 2.
    // SAFETY: sets a number that the allocator reads.
    unsafe { libmimalloc_sys::mi_option_set(15, -1) };
    let batch = batch();
    for (dtype, activations) in
        [("f32", Activations::Keep), ("bf16", Activations::Keep), ("bf16", Activations::Recompute)]
    {
        let decoder = decoder(dtype);
        let step = || {
            decoder.token_log_probs(&batch, Adapter::Off).unwrap();
            let (log_probs, saved) = decoder.forward(&batch, activations).unwrap();
            let mut gradients = Gradients::none(decoder.parameters());
            decoder.backward(saved, &vec![1.0; log_probs.len()], &mut gradients).unwrap();
        };
        let steps: Vec<StepMemory> = (0..8).map(|_| memory_of(step)).collect();
        let StepMemory { allocations, bytes, .. } = steps[2];
        assert!(allocations > 100, "{dtype}: {steps:?}");
        for step in &steps[3..] {
            // A thread may take its first task of some kind late, and then grow its scratch memory.
            assert!(step.allocations.abs_diff(allocations) <= 8, "{dtype}: {steps:?}");
        }
        let pages = 5 * bytes / 4096;
        let cleared: u64 = steps[3..].iter().map(|step| step.page_faults).sum();
        assert!(100 * cleared < pages, "{dtype}: {cleared} of {pages} pages, {steps:?}");
    }
}

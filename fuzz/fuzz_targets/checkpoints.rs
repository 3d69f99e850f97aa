//! Damaged checkpoints: the first byte selects the file, the rest is its content.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((first, rest)) = bytes.split_first() {
        prospect_fuzz::read_checkpoint(usize::from(*first) % prospect_fuzz::CHECKPOINT_FILES.len(), rest);
    }
});

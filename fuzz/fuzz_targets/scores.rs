//! Arbitrary lines for the reader of kind `scores`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("scores", "a.jsonl", bytes));

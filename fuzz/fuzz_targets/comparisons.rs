//! Arbitrary lines for the reader of kind `comparisons`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("comparisons", "a.jsonl", bytes));

//! Arbitrary lines for the reader of kind `pairs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("pairs", "a.jsonl", bytes));

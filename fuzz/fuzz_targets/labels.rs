//! Arbitrary lines for the reader of kind `labels`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("labels", "a.jsonl", bytes));

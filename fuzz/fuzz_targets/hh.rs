//! Arbitrary lines for the reader of kind `hh`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("hh", "a.jsonl", bytes));

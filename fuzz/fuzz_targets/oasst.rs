//! Arbitrary lines for the reader of kind `oasst`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("oasst", "a.jsonl", bytes));

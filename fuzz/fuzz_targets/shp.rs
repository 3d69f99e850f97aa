//! Arbitrary lines for the reader of kind `shp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("shp", "a.jsonl", bytes));

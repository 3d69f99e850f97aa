//! Arbitrary GGUF files.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_gguf(bytes));

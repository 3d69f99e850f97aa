//! Arbitrary lines for the reader of kind `chats`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::read_feedback("chats", "a.jsonl", bytes));

//! Arbitrary answers of a judge's server: the first byte selects the form, the rest is its content.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::ask_judge(bytes));

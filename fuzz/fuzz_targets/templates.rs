//! Arbitrary chat templates.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| prospect_fuzz::read_template(text));

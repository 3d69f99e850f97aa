//! Arbitrary texts as data recipe, model recipe, experiment, Slurm profile and prices.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| prospect_fuzz::read_config(text));

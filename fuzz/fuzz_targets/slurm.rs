//! Arbitrary answers of Slurm's programs: the first byte says whether they fail, the rest is printed.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prospect_fuzz::ask_slurm(bytes));

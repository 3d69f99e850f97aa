//! Arbitrary files of every container format: the first byte selects the file name, the rest is the
//! content.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((first, rest)) = bytes.split_first() {
        let names = ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz", "a.parquet", "a.arrow"];
        prospect_fuzz::read_feedback("labels", names[usize::from(*first) % names.len()], rest);
    }
});

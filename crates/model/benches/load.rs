//! Time to load a model, tokenizer and hash included.
//!
//!     cargo bench --workspace --bench load -- WEIGHTS [dtype] [quantization]

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::time::Instant;

use prospect_model::ModelFile;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let mut recipe = serde_json::json!({ "weights": arguments.first().expect("a path of weights") });
    for (key, value) in ["dtype", "quantization"].into_iter().zip(&arguments[1..]) {
        recipe[key] = value.as_str().into();
    }
    let recipe: ModelFile = serde_json::from_value(recipe).unwrap();
    let recipe = recipe.resolve(&|path| Ok(path.into())).unwrap();
    let timed = |what: &str, work: &dyn Fn()| {
        let start = Instant::now();
        work();
        println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
    };
    timed("tokenizer and template", &|| drop(recipe.load_text().unwrap()));
    timed("hash of the files", &|| drop(recipe.fingerprint().unwrap()));
    timed("everything", &|| drop(recipe.load().unwrap()));
    let peak = prospect_core::memory::peak().map_or(f64::NAN, |bytes| bytes as f64 / 1e9);
    println!("peak: {peak:.2} GB");
}

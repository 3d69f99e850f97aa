//! Greedy generation by a random model of SmolLM2-135M's shape with a LoRA adapter.
//!
//!     cargo bench --workspace --bench generate -- [prompts] [prompt tokens] [new tokens] [repeats] [dtype]
//!
//! Prints generated tokens per second, and the CPU seconds of one repeat.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::time::Instant;

use prospect_model::{Adapter, GenerationConfig, LoraConfig, ModelFile, Prompt, Sampling};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SMOLLM2_135M: &str = r#"{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "rope_theta": 100000.0,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 2048, "tie_word_embeddings": true}"#;

/// Returns the CPU seconds of this process, summed over threads.
fn processor_seconds() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.split_whitespace().skip(13).take(2).filter_map(|field| field.parse().ok()).collect();
    fields.iter().sum::<f64>() / 100.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |at: usize, otherwise: usize| {
        arguments.get(at).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let (count, length, max_new_tokens, repeats) = (number(0, 8), number(1, 64), number(2, 32), number(3, 3));
    let dtype = arguments.get(4).map_or("bf16", String::as_str);
    let mut recipe = serde_json::json!({ "weights": "random", "tokenizer": "bytes", "dtype": dtype });
    recipe["architecture"] = serde_json::from_str(SMOLLM2_135M).unwrap();
    let recipe: ModelFile = serde_json::from_value(recipe).unwrap();
    let base = recipe.resolve(&|path| Ok(path.into())).unwrap().load().unwrap().decoder;
    let decoder = base.with_lora(LoraConfig { r: 16, alpha: 32.0 }, 0).unwrap();

    let text: Vec<Vec<u32>> = (0..count)
        .map(|row| (0..length).map(|at| ((row * 7919 + at * 104_729) % 49152) as u32).collect())
        .collect();
    let prompts: Vec<_> = text.iter().map(|tokens| Prompt { id: "", tokens }).collect();
    let config = GenerationConfig {
        sampling: Sampling::Greedy,
        max_new_tokens,
        eos_token_ids: Vec::new(),
        seed: 0,
        batch_size: count,
    };
    let (mut best, processor) = (f64::INFINITY, processor_seconds());
    let mut check = 0_u64;
    for _ in 0..repeats {
        let start = Instant::now();
        let generated = decoder.generate(&prompts, &config, Adapter::On).unwrap();
        best = best.min(start.elapsed().as_secs_f64());
        check = generated
            .iter()
            .flat_map(|one| &one.tokens)
            .fold(check, |sum, token| sum.wrapping_mul(31).wrapping_add(u64::from(*token)));
    }
    println!(
        "{dtype}, {count} prompts of {length} tokens: {:.0} new tokens/s, {:.2} s of processors, tokens {check:016x}",
        (count * max_new_tokens) as f64 / best,
        (processor_seconds() - processor) / repeats as f64
    );
}

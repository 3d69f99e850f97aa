//! Forward and backward pass of LoRA (rank 16, all linear layers) on a random model of
//! SmolLM2-135M's shape.
//!
//!     cargo bench --workspace --bench step -- [keep|recompute] [sequences] [tokens] [repeats] [dtype] [quantization]
//!
//! Prints tokens per second, peak memory, and the time that the matrix products alone would take at
//! the rate measured in the same process on the model's shapes.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::time::Instant;

use candle_core::{DType, Device};
use prospect_model::{Activations, Decoder, Gradients, LoraConfig, ModelFile, Packer, device};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SMOLLM2_135M: &str = r#"{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "rope_theta": 100000.0,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 2048, "tie_word_embeddings": true}"#;

/// Returns the GFLOP/s of products of a step's shapes, the best of several.
fn product_rate(rows: usize, dtype: DType, shapes: &[(usize, usize)]) -> f64 {
    let (mut seconds, mut flops) = (0.0, 0.0);
    for (inputs, outputs) in shapes {
        seconds += device::product_seconds(&Device::Cpu, dtype, [rows, *inputs, *outputs]).unwrap();
        flops += 2.0 * (rows * inputs * outputs) as f64;
    }
    flops / seconds / 1e9
}

/// Returns the CPU seconds of this process, summed over threads.
fn processor_seconds() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.split_whitespace().skip(13).take(2).filter_map(|field| field.parse().ok()).collect();
    fields.iter().sum::<f64>() / 100.0
}

/// Builds the frozen model, with a recipe's `dtype` and `quantization`.
fn base(dtype: &str, quantization: Option<&String>) -> Decoder {
    let mut recipe = serde_json::json!({ "weights": "random", "tokenizer": "bytes", "dtype": dtype });
    recipe["architecture"] = serde_json::from_str(SMOLLM2_135M).unwrap();
    if let Some(quantization) = quantization {
        recipe["quantization"] = quantization.as_str().into();
    }
    let recipe: ModelFile = serde_json::from_value(recipe).unwrap();
    recipe.resolve(&|path| Ok(path.into())).unwrap().load().unwrap().decoder
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |at: usize, otherwise: usize| {
        arguments.get(at).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let activations = match arguments.first().map_or("keep", String::as_str) {
        "keep" => Activations::Keep,
        "recompute" => Activations::Recompute,
        other => panic!("keep or recompute, not {other}"),
    };
    let (sequences, tokens, repeats) = (number(1, 4), number(2, 256), number(3, 5));

    let dtype = arguments.get(4).map_or("f32", String::as_str);
    let decoder = base(dtype, arguments.get(5)).with_lora(LoraConfig { r: 16, alpha: 32.0 }, 0).unwrap();

    let text: Vec<Vec<u32>> = (0..sequences)
        .map(|row| (0..=tokens).map(|at| ((row * 7919 + at * 104_729) % 49152) as u32).collect())
        .collect();
    let mut packer = Packer::default();
    for row in &text {
        let prompt = packer.add_prompt(&row[..1]);
        packer.add_completion(prompt, &row[1..], true);
    }
    let batch = packer.pack().unwrap();
    let rows = batch.rows();

    let (mut times, processor) = (Vec::new(), processor_seconds());
    for _ in 0..repeats {
        let start = Instant::now();
        let mut gradients = Gradients::none(decoder.parameters());
        let (log_probs, saved) = decoder.forward(&batch, activations).unwrap();
        let forward = start.elapsed().as_secs_f64();
        decoder.backward(saved, &vec![1.0 / 1024.0; log_probs.len()], &mut gradients).unwrap();
        times.push((start.elapsed().as_secs_f64(), forward));
    }
    let processor = (processor_seconds() - processor) / f64::from(repeats as u32);
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (step, forward) = times[times.len() / 2];
    let peak = prospect_core::memory::peak().map_or(f64::NAN, |bytes| bytes as f64 / 1e9);

    let block = [(576, 576), (576, 192), (576, 192), (576, 576), (576, 1536), (576, 1536), (1536, 576)];
    let weights: usize = block.iter().map(|(inputs, outputs)| inputs * outputs).sum();
    let adapters: usize = block.iter().map(|(inputs, outputs)| 16 * (inputs + outputs)).sum();
    // Products with weights: forward, input gradient, and forward again to recompute; two more for
    // an adapter's gradients. Attention: two products forward, five backward, half of each masked.
    let again = usize::from(activations == Activations::Recompute);
    let attention = sequences * tokens * tokens * 9 * 64 / 2 * (2 * (1 + again) + 5);
    let flops = 2
        * (30 * (rows * (weights * (2 + again) + adapters * (4 + again)) + attention)
            + rows * 49152 * 576 * 2);
    let rate = product_rate(rows, decoder.dtype(), &block);
    println!(
        "{}, {dtype}: {rows} rows, {step:.2} s ({forward:.2} s forward), {:.0} tokens/s, {processor:.2} s of processors, peak {peak:.2} GB; best of {repeats}: {:.2} s",
        if activations == Activations::Keep { "keep" } else { "recompute" },
        rows as f64 / step,
        times[0].0,
    );
    println!(
        "{:.0} GFLOP in products, {rate:.0} GFLOP/s measured: {:.2} s, {:.0} % of the step",
        flops as f64 / 1e9,
        flops as f64 / 1e9 / rate,
        100.0 * flops as f64 / 1e9 / rate / step
    );
}

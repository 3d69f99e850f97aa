//! Predicted memory of a training step against the counts of an allocator. In a process of its own,
//! because the allocator counts the whole process.

// Helpers of tests may panic.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use candle_core::Device;
use prospect_core::config::Document;
use prospect_dist::{ProcessGroup, ZeroStage, on_threads};
use prospect_model::{
    Activations, Architecture, BatchSize, Decoder, Dtype, Footprint, Gradients, LoraConfig, ModelFile,
    PackedBatch, Packer, Recipe,
};
use prospect_testkit::{CountingAllocator, bytes_in_use, peak_bytes, peak_of, reset_peak};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Small models that differ in what a block saves. Their matrices are large compared with all
/// bookkeeping.
fn architectures() -> Vec<(&'static str, Architecture)> {
    let of = |text: &str| serde_json::from_str(text).unwrap();
    vec![
        (
            "llama",
            of(r#"{"vocab_size": 4096, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
                "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
                "tie_word_embeddings": true}"#),
        ),
        (
            "qwen3",
            of(r#"{"model_type": "qwen3", "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 384,
                "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
                "max_position_embeddings": 512, "tie_word_embeddings": false}"#),
        ),
        (
            "gpt_neox",
            of(
                r#"{"model_type": "gpt_neox", "vocab_size": 2048, "hidden_size": 192, "intermediate_size": 768,
                "num_hidden_layers": 3, "num_attention_heads": 6, "max_position_embeddings": 512, "rotary_pct": 0.25}"#,
            ),
        ),
        (
            "gemma3_text",
            of(
                r#"{"model_type": "gemma3_text", "vocab_size": 2048, "hidden_size": 160, "intermediate_size": 512,
                "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64,
                "max_position_embeddings": 512, "sliding_window": 64, "sliding_window_pattern": 3}"#,
            ),
        ),
    ]
}

/// Returns a batch of prompts with two completions each, and `mismatched` completions without
/// gradient.
fn batch(prompts: usize, mismatched: usize) -> PackedBatch {
    let tokens = |count: usize, seed: usize| -> Vec<u32> {
        (0..count).map(|index| ((index * 31 + seed * 17) % 2000) as u32).collect()
    };
    let sides: Vec<_> = (0..prompts)
        .map(|index| (tokens(60 + index, index), [tokens(80, index + 1), tokens(100 + index, index + 2)]))
        .collect();
    let mut packer = Packer::default();
    for (index, (prompt, completions)) in sides.iter().enumerate() {
        let id = packer.add_prompt(prompt);
        for completion in completions {
            packer.add_completion(id, completion, true);
        }
        if index < mismatched {
            packer.add_completion(id, &sides[(index + 1) % prompts].1[0], false);
        }
    }
    packer.pack().unwrap()
}

/// Returns the peak bytes of a step of `micro_batches`, relative to the bytes before it.
fn peak_of_step(
    policy: &Decoder,
    batch: &PackedBatch,
    activations: Activations,
    micro_batches: usize,
) -> usize {
    let ((), peak) = peak_of(|| {
        let mut gradients = Gradients::none(policy.parameters());
        for _ in 0..micro_batches {
            let (log_probs, saved) = policy.forward(batch, activations).unwrap();
            policy.backward(saved, &vec![-0.01; log_probs.len()], &mut gradients).unwrap();
        }
    });
    peak
}

/// Variable that limits the instruction set of the kernels, for the whole process.
const ISA: &str = "PROSPECT_MAX_CPU_ISA";

#[test]
fn a_step_takes_the_predicted_memory() {
    // In sequence, because each counts the allocations of the whole process.
    if std::env::var_os(ISA).is_some() {
        return predictions_are_within_a_tenth_of_what_is_allocated();
    }
    if cfg!(target_arch = "x86_64") {
        // The kernels of machines without bf16 arithmetic.
        let mut tests = Command::new(std::env::current_exe().unwrap());
        let output =
            tests.args(["--exact", "a_step_takes_the_predicted_memory"]).env(ISA, "avx2").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    sharded_ranks_take_the_predicted_memory();
    predictions_are_within_a_tenth_of_what_is_allocated();
    a_budget_is_kept();
}

fn predictions_are_within_a_tenth_of_what_is_allocated() {
    let mut lines = Vec::new();
    let mut worst: f64 = 0.0;
    for (name, architecture) in architectures() {
        let base = Decoder::random(architecture.clone(), 0).unwrap();
        let layers = base.architecture().layers as u64;
        let lora = |base: &Decoder| base.with_lora(LoraConfig { r: 8, alpha: 16.0 }, 0).unwrap();
        let full = base.with_all_trained().unwrap();
        let mixed = Decoder::random_on(&Device::Cpu, architecture, 0, Dtype::Bf16, None).unwrap();
        let policies = [("lora", lora(&base)), ("full", full), ("lora, bf16", lora(&mixed))];
        drop((base, mixed));
        for (kind, policy) in &policies {
            // The first pass on a thread allocates the memory for packed matrices.
            peak_of_step(policy, &batch(4, 0), Activations::Recompute, 1);
            for (activations, recomputed) in [(Activations::Keep, 0), (Activations::Recompute, layers)] {
                for (prompts, mismatched, micro_batches) in [(4, 0, 1), (4, 4, 1), (2, 0, 2)] {
                    let batch = batch(prompts, mismatched);
                    let demand =
                        policy.footprint().demand(&BatchSize::from(&batch), recomputed, micro_batches > 1);
                    // Weights and moments exist before the step; the allocator counts what it adds.
                    let predicted = (demand.gradients + demand.activations + demand.workspace) as f64;
                    let fixed = (demand.frozen + demand.trained + demand.moments) as f64;
                    let measured = peak_of_step(policy, &batch, activations, micro_batches) as f64;
                    let (of_step, of_all) =
                        (predicted / measured - 1.0, (predicted + fixed) / (measured + fixed) - 1.0);
                    worst = worst.max(of_all.abs());
                    lines.push(format!(
                        "{name} {kind} {activations:?} {prompts}+{mismatched} ×{micro_batches}: predicted {:.1} MB, measured {:.1} MB ({:+.1} % of the step, {:+.1} % of all)",
                        predicted / 1e6,
                        measured / 1e6,
                        100.0 * of_step,
                        100.0 * of_all,
                    ));
                }
            }
        }
    }
    assert!(worst < 0.1, "off by {:.1} %:\n{}", 100.0 * worst, lines.join("\n"));
}

fn a_budget_is_kept() {
    let (_, architecture) = architectures().remove(0);
    let policy =
        Decoder::random(architecture, 0).unwrap().with_lora(LoraConfig { r: 8, alpha: 16.0 }, 0).unwrap();
    // As a pass assumes, the reference runs after it.
    let (size, batch) = (Footprint { reference_pass: true, ..policy.footprint() }, batch(4, 0));
    let demand = |recomputed| size.demand(&BatchSize::from(&batch), recomputed, true).total();
    let layers = policy.architecture().layers as u64;
    assert!(demand(layers) < demand(0));
    for recomputed in 0..=layers {
        let budget = demand(recomputed);
        let found = size.recomputed_within(budget, &BatchSize::from(&batch), true).unwrap();
        assert!(found <= recomputed && demand(found) <= budget);
    }
    assert_eq!(size.recomputed_within(demand(layers) - 1, &BatchSize::from(&batch), true), None);
    // A pass with this budget stays within it, with room for the reference.
    let fixed = (size.frozen + size.trained.bytes() + 8 * size.trained.count) as usize;
    let budget = demand(layers / 2);
    let taken = fixed + peak_of_step(&policy, &batch, Activations::Within(budget), 1);
    let (least, most) = (0.75 * budget as f64, 1.05 * budget as f64);
    assert!((least..most).contains(&(taken as f64)), "{taken} of {budget}");
}

/// Returns a recipe whose model has most of its weights in the matrices of its blocks.
fn recipe(more: &str) -> Recipe {
    let text = format!(
        "weights: random\ntokenizer: bytes\n{more}architecture: {{vocab_size: 2048, tie_word_embeddings: true, hidden_size: 256, intermediate_size: 1024,
          num_hidden_layers: 8, num_attention_heads: 4, num_key_value_heads: 4, head_dim: 64, max_position_embeddings: 512}}"
    );
    let file: ModelFile = Document::from_text("model.yaml", &text).unwrap().read().unwrap();
    file.resolve(&|path| Ok(path.into())).unwrap()
}

/// Bytes of one rank that keeps a sharded model.
struct RankBytes {
    /// Between steps.
    kept: f64,
    /// At the peak of a step.
    step: f64,
}

/// Trained weights of a sharded model.
#[derive(Debug, Clone, Copy)]
enum Trained {
    Adapter,
    All(ZeroStage),
}

/// Returns measured and predicted bytes of each of `ranks` threads that run a step together.
fn sharded(recipe: &Recipe, trained: Trained, ranks: usize, batch: &PackedBatch) -> (RankBytes, RankBytes) {
    let before = bytes_in_use();
    let one = |member: ProcessGroup| {
        let model = recipe.load_as(&member).unwrap().decoder;
        let (mut policy, reference) = match trained {
            Trained::Adapter => (model.with_lora(LoraConfig { r: 8, alpha: 16.0 }, 0).unwrap(), None),
            Trained::All(ZeroStage::Two) => (model.with_all_trained().unwrap(), Some(model)),
            Trained::All(ZeroStage::Three) => (model.with_all_trained_in_shards().unwrap(), Some(model)),
        };
        if reference.is_some() {
            policy.set_state_shards(ranks);
        }
        let meet = || member.collective.barrier().unwrap();
        meet();
        let kept = bytes_in_use();
        meet();
        reset_peak();
        meet();
        let mut gradients = match trained {
            Trained::All(_) if ranks > 1 => Gradients::sharded(policy.parameters(), &*member.collective),
            _ => Gradients::none(policy.parameters()),
        };
        let (log_probs, saved) = policy.forward(batch, Activations::Keep).unwrap();
        policy.backward(saved, &vec![-0.01; log_probs.len()], &mut gradients).unwrap();
        meet();
        let demand = policy.footprint().demand(&BatchSize::from(batch), 0, false);
        let each = |bytes: usize| (bytes - before) as f64 / ranks as f64;
        let measured = RankBytes { kept: each(kept), step: each(peak_bytes()) };
        let predicted = RankBytes {
            kept: (demand.frozen + demand.trained) as f64,
            step: (demand.total() - demand.moments - demand.master_weights) as f64,
        };
        (measured, predicted)
    };
    let stage = if let Trained::All(stage) = trained { stage } else { ZeroStage::Two };
    let zero = (ranks > 1).then_some(stage);
    let measured = on_threads(ranks, |thread| one(ProcessGroup::new(Box::new(thread), 0, zero)));
    measured.into_iter().next().unwrap()
}

fn sharded_ranks_take_the_predicted_memory() {
    let batch = batch(2, 0);
    for (more, trained) in [
        ("", Trained::Adapter),
        ("quantization: q8_0\n", Trained::Adapter),
        ("", Trained::All(ZeroStage::Two)),
        ("", Trained::All(ZeroStage::Three)),
    ] {
        let recipe = recipe(more);
        let (whole, predicted_whole) = sharded(&recipe, trained, 1, &batch);
        for ranks in [2, 4] {
            let (measured, predicted) = sharded(&recipe, trained, ranks, &batch);
            let lines = format!(
                "{more}{trained:?} {ranks} ranks: {:.1} MB each (predicted {:.1}; unsharded {:.1}), in a step {:.1} (predicted {:.1})",
                measured.kept / 1e6,
                predicted.kept / 1e6,
                whole.kept / 1e6,
                measured.step / 1e6,
                predicted.step / 1e6
            );
            assert!((measured.kept / predicted.kept - 1.0).abs() < 0.1, "{lines}");
            let saved = (whole.kept - measured.kept) / (predicted_whole.kept - predicted.kept);
            assert!((saved - 1.0).abs() < 0.05, "{lines}");
            assert!((measured.step / predicted.step - 1.0).abs() < 0.1, "{lines}");
        }
    }
}

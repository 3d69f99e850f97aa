//! What a training step is said to take, beside what an allocator counts. Alone in its process: the allocator counts all.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

mod counting;

use prospect_core::config::Document;
use prospect_dist::{ProcessGroup, thread_group};
use prospect_model::{
    Activations, Architecture, BatchSize, Decoder, Gradients, Lora, ModelFile, PackedBatch, Packer, Recipe,
};

/// Models that differ in what a block keeps, small but for what counts: their matrices dwarf all bookkeeping.
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
    ]
}

/// Prompts with two completions each, and as many completions without gradient as `mismatched` says.
fn batch(prompts: usize, mismatched: usize) -> PackedBatch {
    let tokens = |count: usize, seed: usize| -> Vec<u32> {
        (0..count).map(|index| ((index * 31 + seed * 17) % 2000) as u32).collect()
    };
    let sides: Vec<_> = (0..prompts)
        .map(|index| (tokens(60 + index, index), [tokens(80, index + 1), tokens(100 + index, index + 2)]))
        .collect();
    let mut packer = Packer::default();
    for (index, (prompt, completions)) in sides.iter().enumerate() {
        let id = packer.prompt(prompt);
        for completion in completions {
            packer.completion(id, completion, true);
        }
        if index < mismatched {
            packer.completion(id, &sides[(index + 1) % prompts].1[0], false);
        }
    }
    packer.pack().unwrap()
}

/// Bytes at the largest moment of a step of so many micro-batches, beside what was there before it.
fn peak_of_step(
    policy: &Decoder,
    batch: &PackedBatch,
    activations: Activations,
    micro_batches: usize,
) -> usize {
    let ((), peak) = counting::peak_of(|| {
        let mut gradients = Gradients::none(policy.parameters());
        for _ in 0..micro_batches {
            let (log_probs, saved) = policy.forward(batch, activations).unwrap();
            policy.backward(saved, &vec![-0.01; log_probs.len()], &mut gradients).unwrap();
        }
    });
    peak
}

#[test]
fn a_step_takes_what_it_is_said_to_take() {
    // One after the other: each counts what all of the process allocates.
    ranks_with_parts_take_what_they_are_said_to_take();
    predictions_are_within_a_tenth_of_what_is_allocated();
    a_budget_is_kept();
}

fn predictions_are_within_a_tenth_of_what_is_allocated() {
    let mut lines = Vec::new();
    let mut worst: f64 = 0.0;
    for (name, architecture) in architectures() {
        let base = Decoder::random(architecture, 0).unwrap();
        let layers = base.architecture().layers as u64;
        let lora = base.with_lora(Lora { r: 8, alpha: 16.0 }, 0).unwrap();
        let full = base.with_all_trained().unwrap();
        for (kind, policy) in [("lora", &lora), ("full", &full)] {
            for (activations, recomputed) in [(Activations::Keep, 0), (Activations::Recompute, layers)] {
                for (prompts, mismatched, micro_batches) in [(4, 0, 1), (4, 4, 1), (2, 0, 2)] {
                    let batch = batch(prompts, mismatched);
                    let demand =
                        policy.footprint().demand(&BatchSize::of(&batch), recomputed, micro_batches > 1);
                    // Weights and moments are there before; the allocator counts what a step adds.
                    let predicted = (demand.gradients + demand.activations + demand.at_hand) as f64;
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
    let policy = Decoder::random(architecture, 0).unwrap().with_lora(Lora { r: 8, alpha: 16.0 }, 0).unwrap();
    let (size, batch) = (policy.footprint(), batch(4, 0));
    let demand = |recomputed| size.demand(&BatchSize::of(&batch), recomputed, true).total();
    let layers = policy.architecture().layers as u64;
    assert!(demand(layers) < demand(0));
    for recomputed in 0..=layers {
        let budget = demand(recomputed);
        let found = size.recomputed_within(budget, &BatchSize::of(&batch), true).unwrap();
        assert!(found <= recomputed && demand(found) <= budget);
    }
    assert_eq!(size.recomputed_within(demand(layers) - 1, &BatchSize::of(&batch), true), None);
    // And a pass that is told the budget keeps to it.
    let fixed = (size.frozen + size.trained.0 * (size.trained.1 + 8)) as usize;
    let budget = demand(layers / 2);
    let taken = fixed + peak_of_step(&policy, &batch, Activations::Within(budget), 1);
    let (least, most) = (0.85 * budget as f64, 1.05 * budget as f64);
    assert!((least..most).contains(&(taken as f64)), "{taken} of {budget}");
}

/// A model most of whose weights are in the matrices of its blocks.
fn recipe(more: &str) -> Recipe {
    let text = format!(
        "weights: random\ntokenizer: bytes\n{more}architecture: {{vocab_size: 2048, tie_word_embeddings: true, hidden_size: 256, intermediate_size: 1024,
          num_hidden_layers: 8, num_attention_heads: 4, num_key_value_heads: 4, head_dim: 64, max_position_embeddings: 512}}"
    );
    let file: ModelFile = Document::from_text("model.yaml", &text).unwrap().read().unwrap();
    file.resolve(&|path| Ok(path.into())).unwrap()
}

/// What `ranks` threads take to keep a model in parts, and in a step that all of them do at once; and what they are said to
/// take, each of them.
fn in_parts(recipe: &Recipe, ranks: usize, batch: &PackedBatch) -> [[f64; 2]; 2] {
    let before = counting::now();
    let one = |member: ProcessGroup| {
        let model = recipe.load_as(&member).unwrap().decoder;
        let policy = model.with_lora(Lora { r: 8, alpha: 16.0 }, 0).unwrap();
        drop(model);
        let meet = || member.collective.barrier().unwrap();
        meet();
        let kept = counting::now();
        meet();
        counting::forget_peak();
        meet();
        let mut gradients = Gradients::none(policy.parameters());
        let (log_probs, saved) = policy.forward(batch, Activations::Keep).unwrap();
        policy.backward(saved, &vec![-0.01; log_probs.len()], &mut gradients).unwrap();
        meet();
        let demand = policy.footprint().demand(&BatchSize::of(batch), 0, false);
        let said = [demand.frozen + demand.trained, demand.total() - demand.moments];
        let taken = [kept, counting::peak()].map(|bytes| (bytes - before) as f64 / ranks as f64);
        [taken, said.map(|bytes| bytes as f64)]
    };
    let one = &one;
    std::thread::scope(|scope| {
        let members = thread_group(ranks)
            .into_iter()
            .map(|thread| scope.spawn(move || one(ProcessGroup::new(Box::new(thread), 0, ranks > 1))));
        let members: Vec<_> = members.collect();
        members.into_iter().map(|member| member.join().unwrap()).next().unwrap()
    })
}

fn ranks_with_parts_take_what_they_are_said_to_take() {
    let batch = batch(2, 0);
    for more in ["", "quantization: q8_0\n"] {
        let recipe = recipe(more);
        let [[whole, _], [said_whole, _]] = in_parts(&recipe, 1, &batch);
        for ranks in [2, 4] {
            let [[kept, step], [said_kept, said_step]] = in_parts(&recipe, ranks, &batch);
            let lines = format!(
                "{more}{ranks} ranks: {:.1} MB each (said {:.1}; one alone {:.1}), in a step {:.1} (said {:.1})",
                kept / 1e6,
                said_kept / 1e6,
                whole / 1e6,
                step / 1e6,
                said_step / 1e6
            );
            assert!((kept / said_kept - 1.0).abs() < 0.1, "{lines}");
            let saved = (whole - kept) / (said_whole - said_kept);
            assert!((saved - 1.0).abs() < 0.05, "{lines}");
            assert!((step / said_step - 1.0).abs() < 0.1, "{lines}");
        }
    }
}

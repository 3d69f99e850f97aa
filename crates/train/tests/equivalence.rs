//! What must not matter: how a global batch is cut, whether activations are kept, whether the cache is warm.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_model::{Activations, Lora, Model, ModelFile, Train};
use prospect_runs::Record;
use prospect_train::{
    Encoder, Job, Observer, Policy, ReferenceCache, Settings, TrainError, TrainFile, TrainingSet, train,
};

struct Records(Vec<Record>);

impl Observer for Records {
    fn after(&mut self, _: u64, _: u64, _: &Policy<'_>, _: &mut ReferenceCache) -> Result<(), TrainError> {
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), TrainError> {
        self.0.push(record);
        Ok(())
    }
}

fn dataset(folder: &Path) {
    let text = "source: {kind: synthetic, pairs: 80}\nimbalance: {keep_desirable: 0.5}";
    let recipe: PipelineFile = Document::from_text("data.yaml", text).unwrap().read().unwrap();
    prospect_data::prepare(&recipe.resolve(&|path| Ok(path.into())).unwrap(), folder).unwrap();
}

fn model() -> Model {
    let text = "weights: random\ntokenizer: bytes\narchitecture: {vocab_size: 258, hidden_size: 16,
      intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8,
      max_position_embeddings: 256}";
    let recipe: ModelFile = Document::from_text("model.yaml", text).unwrap().read().unwrap();
    recipe.resolve(&|path| Ok(path.into())).unwrap().load().unwrap()
}

fn settings(objective: &str, micro: usize) -> Settings {
    let text = format!(
        "objective: {objective}\nlearning_rate: 1e-3\nmax_steps: 20\nbatch_size: 16\nmicro_batch_size: {micro}
max_length: 160\nmax_prompt_length: 100"
    );
    Document::from_text("train.yaml", &text).unwrap().read::<TrainFile>().unwrap().resolve().unwrap()
}

/// The metrics of 20 steps.
fn trajectory(
    folder: &Path,
    settings: &Settings,
    kind: Train,
    activations: Activations,
    cache: &str,
) -> Vec<Record> {
    let model = model();
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    let examples = TrainingSet::read(&folder.join("data"), &settings.objective, &encoder).unwrap();
    let job = Job {
        start: &model,
        train: kind,
        activations,
        settings,
        examples: &examples,
        encoder: &encoder,
        seed: 1,
    };
    let mut cache = ReferenceCache::open(&folder.join(cache)).unwrap();
    let mut records = Records(Vec::new());
    train(&job, &mut cache, &mut records).unwrap();
    cache.save().unwrap();
    records.0
}

fn assert_close(what: &str, a: &[Record], b: &[Record]) {
    assert_eq!(a.len(), 20);
    for (a, b) in a.iter().zip(b) {
        // Cutting a batch runs shared prompts more than once: the count of tokens may differ, nothing else.
        for (name, value) in a.values.iter().filter(|(name, _)| *name != "num_tokens") {
            let other = b.values[name];
            assert!(
                (value - other).abs() < 2e-4 * (1.0 + value.abs()),
                "{what}, step {}: {name} {value} {other}",
                a.step
            );
        }
    }
}

const LORA: Train = Train::Lora(Lora { r: 4, alpha: 8.0 });

#[test]
fn accumulation_gives_the_trajectory_of_one_large_batch_for_kto_too() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (objective, kind) in [("kto", Train::Full), ("kto", LORA), ("dpo", LORA), ("sft", Train::Full)] {
        let run = |micro| {
            trajectory(folder.path(), &settings(objective, micro), kind, Activations::Keep, objective)
        };
        let whole = run(16);
        for micro in [8, 2] {
            assert_close(&format!("{objective} {micro}"), &whole, &run(micro));
        }
    }
}

#[test]
fn the_first_loss_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for kind in [Train::Full, LORA] {
        for (objective, loss) in [("kto", 0.5), ("dpo", std::f64::consts::LN_2)] {
            let records =
                trajectory(folder.path(), &settings(objective, 16), kind, Activations::Keep, "cache");
            assert_eq!(records[0].values["loss"], loss, "{objective} {kind:?}");
            assert!(records[19].values["loss"] != loss);
        }
    }
}

#[test]
fn recomputing_activations_and_a_warm_cache_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let run = |activations, cache| trajectory(folder.path(), &settings("kto", 8), LORA, activations, cache);
    let cold = run(Activations::Keep, "one");
    assert_eq!(cold, run(Activations::Keep, "one"));
    assert_close("recompute", &cold, &run(Activations::Recompute, "two"));
}

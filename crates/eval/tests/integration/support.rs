//! A small dataset, a small model, and its training.

use std::path::Path;

use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_dist::SingleProcess;
use prospect_model::{Activations, Model, ModelFile, Train};
use prospect_train::{
    Encoder, Observer, ReferenceCache, Settings, TrainContext, TrainFile, TrainedPolicy, TrainingSet,
};

/// Prepares a dataset in `folder`.
pub(crate) fn dataset(folder: &Path) {
    dataset_of(folder, "source: {kind: synthetic, pairs: 160}");
}

/// Prepares the dataset of a recipe.
pub(crate) fn dataset_of(folder: &Path, recipe: &str) {
    let recipe: PipelineFile = Document::from_text("data.yaml", recipe).unwrap().read().unwrap();
    prospect_data::prepare(&recipe.resolve(&|path| Ok(path.into())).unwrap(), folder).unwrap();
}

/// Returns a model with random weights.
pub(crate) fn model() -> Model {
    model_of("f32")
}

/// Returns a model with random weights of an element type.
pub(crate) fn model_of(dtype: &str) -> Model {
    let text = format!(
        "weights: random\ntokenizer: bytes\ndtype: {dtype}\narchitecture: {{vocab_size: 258, hidden_size: 16,
          intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8,
          max_position_embeddings: 256}}"
    );
    let recipe: ModelFile = Document::from_text("model.yaml", &text).unwrap().read().unwrap();
    recipe.resolve(&|path| Ok(path.into())).unwrap().load().unwrap()
}

/// Parses training settings, with lengths that fit the dataset.
pub(crate) fn settings(text: &str) -> Settings {
    let text = format!("{text}\nmax_length: 160\nmax_prompt_length: 100");
    Document::from_text("train.yaml", &text).unwrap().read::<TrainFile>().unwrap().resolve().unwrap()
}

/// Trains all weights of `start` on the dataset in `data`.
pub(crate) fn run(
    data: &Path,
    start: &Model,
    settings: &Settings,
    encoder: &Encoder<'_>,
    observer: &mut dyn Observer,
) -> TrainedPolicy {
    run_from(data, (start, Train::Full), settings, encoder, observer)
}

/// Trains weights or an adapter of `start` on the dataset in `data`.
pub(crate) fn run_from(
    data: &Path,
    (start, train): (&Model, Train),
    settings: &Settings,
    encoder: &Encoder<'_>,
    observer: &mut dyn Observer,
) -> TrainedPolicy {
    let examples = TrainingSet::read(data, &settings.objective, encoder).unwrap();
    let context = TrainContext {
        model: start,
        train,
        activations: Activations::Keep,
        settings,
        examples: &examples,
        encoder,
        seed: 1,
        checkpoints: None,
        zero: None,
        group: &SingleProcess,
    };
    let cache = ReferenceCache::new(&data.with_file_name("reference"));
    let trained = prospect_train::train(&context, &cache, observer).unwrap().into_policy().unwrap();
    cache.save().unwrap();
    trained
}

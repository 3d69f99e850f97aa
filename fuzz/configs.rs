//! YAML and JSON files.

use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_model::ModelFile;
use prospect_sweep::{LoadedExperiment, PricesFile, RecipeSources, SlurmProfile, check};

const DATA: &str = "{ source: { kind: synthetic } }";
const MODEL: &str = "{ weights: random, tokenizer: bytes, train: full }";

/// Checks a text as each kind of file, as `prospect validate` does.
pub fn read_config(text: &str) {
    crate::contained::allow();
    let Ok(document) = Document::from_text("file.yaml", text) else { return };
    if let Ok(file) = document.read::<PipelineFile>() {
        let _ = file.check();
    }
    if let Ok(file) = document.read::<ModelFile>() {
        let _ = file.resolve(&|address| Ok(address.into()));
    }
    let _ = PricesFile::read(&document);
    let _ = SlurmProfile::read(document.clone());
    if let Ok(experiment) = LoadedExperiment::read("file.yaml", document, &[]) {
        let sources = RecipeSources {
            recipe: &|_| Document::from_text("model.yaml", MODEL),
            data: &|_| Document::from_text("data.yaml", DATA),
            locate: &|address| Ok(address.into()),
        };
        let _ = check(&experiment, &sources);
    }
}

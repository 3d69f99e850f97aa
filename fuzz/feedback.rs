//! Files of feedback.

use prospect_core::config::Document;
use prospect_data::{DataError, Manifest, PipelineFile, prepare};

/// Prepares a dataset from a file with this name and content, as feedback of the given kind.
pub fn read_feedback(kind: &str, name: &str, bytes: &[u8]) {
    crate::contained::allow();
    let _ = attempt(kind, name, bytes);
}

fn attempt(kind: &str, name: &str, bytes: &[u8]) -> Result<Manifest, DataError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(name);
    std::fs::write(&path, bytes)?;
    let policy = if kind == "scores" { "binarise: { by: median, over: prompt }" } else { "" };
    let recipe = format!("{{ source: {{ kind: {kind}, path: a, {policy} }}, max_rejected: 1 }}");
    let file: PipelineFile = Document::from_text("recipe", &recipe)
        .and_then(|document| document.read())
        .expect("the recipe is valid");
    let pipeline = file.resolve(&|_| Ok(path.clone()))?;
    prepare(&pipeline, &folder.path().join("out"))
}

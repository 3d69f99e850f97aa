//! Architectures of published models, so that planning needs no download.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Architecture;

/// Relevant keys of a published model's `config.json`, and the parameter count on its model card.
#[derive(Deserialize)]
struct PublishedModel {
    parameters: usize,
    config: Value,
}

fn all() -> BTreeMap<String, PublishedModel> {
    // Cannot fail: tests parse the whole file.
    serde_json::from_str(include_str!("published.json")).unwrap_or_default()
}

impl Architecture {
    /// Returns the architecture of a published model by its Hub repository, such as
    /// `huggyllama/llama-30b`; None if no shipped recipe uses it.
    pub fn published(repository: &str) -> Option<Self> {
        let config = all().remove(repository)?.config;
        Self::from_hugging_face(&config.to_string()).ok()
    }

    /// Returns the repositories known to [`published`](Self::published), with the parameter count
    /// on each model card.
    pub fn published_repositories() -> BTreeMap<String, usize> {
        all().into_iter().map(|(name, published)| (name, published.parameters)).collect()
    }
}

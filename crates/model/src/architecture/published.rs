//! Architectures of published models, so that they can be planned for before they are there.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Architecture;

/// A published model: the keys of its config.json that matter, and the number of weights on its card.
#[derive(Deserialize)]
struct Published {
    parameters: usize,
    config: Value,
}

fn all() -> BTreeMap<String, Published> {
    // The tests read it whole.
    serde_json::from_str(include_str!("published.json")).unwrap_or_default()
}

impl Architecture {
    /// The architecture of a published model by its Hub repository, as in `huggyllama/llama-30b`; None if it is not among those
    /// that recipes ship for.
    pub fn published(repository: &str) -> Option<Self> {
        let config = all().remove(repository)?.config;
        Self::from_hugging_face(&config.to_string()).ok()
    }

    /// The repositories that [`published`](Self::published) knows, each with the number of weights on its card.
    pub fn published_repositories() -> BTreeMap<String, usize> {
        all().into_iter().map(|(name, published)| (name, published.parameters)).collect()
    }
}

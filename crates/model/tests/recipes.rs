//! The recipes of `models/`, and that their architectures have exactly the weights that were published.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use prospect_model::{Architecture, ModelFile, Recipe};
use serde::Deserialize;
use serde_json::Value;

/// A published model: the keys of its config.json that matter, and the number of weights on its card.
#[derive(Deserialize)]
struct Published {
    parameters: usize,
    config: Value,
}

fn published() -> BTreeMap<String, Published> {
    serde_json::from_str(include_str!("published.json")).unwrap()
}

fn recipes() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path))
        .collect()
}

#[test]
fn architectures_have_the_published_number_of_weights() {
    for (name, Published { parameters, config }) in published() {
        let architecture = Architecture::from_hugging_face(&config.to_string()).unwrap();
        assert_eq!(architecture.parameter_count().unwrap(), parameters, "{name}");
    }
}

#[test]
fn every_recipe_resolves_and_names_weights_of_known_architecture() {
    let known: BTreeSet<_> = published().into_keys().collect();
    let mut named = BTreeSet::new();
    for (name, path) in recipes() {
        let document = prospect_core::config::Document::open(&path).unwrap();
        let file: ModelFile = document.read().unwrap();
        let recipe: Recipe = file.resolve(&|address| Ok(PathBuf::from(address))).unwrap();
        if recipe.name.starts_with("hf://") {
            assert!(recipe.name.rsplit_once('@').is_some_and(|(_, revision)| !revision.is_empty()), "{name}");
            named.insert(name);
        }
    }
    assert_eq!(named, known);
}

//! The recipes in `models/`, and the parameter counts of their architectures.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use prospect_model::{Architecture, ModelFile, Recipe};

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
    let published = Architecture::published_repositories();
    assert!(published.len() > 20);
    for (name, parameters) in published {
        let architecture = Architecture::published(&name).unwrap();
        assert_eq!(architecture.parameter_count().unwrap(), parameters, "{name}");
    }
    assert_eq!(Architecture::published("nobody/nothing"), None);
}

#[test]
fn every_recipe_resolves_and_names_weights_of_known_architecture() {
    let known: BTreeSet<_> = Architecture::published_repositories().into_keys().collect();
    let mut named = BTreeSet::new();
    for (name, path) in recipes() {
        let document = prospect_core::config::Document::open(&path).unwrap();
        let file: ModelFile = document.read().unwrap();
        let recipe: Recipe = file.resolve(&|address| Ok(PathBuf::from(address))).unwrap();
        if let Some(address) = recipe.name.strip_prefix("hf://") {
            let (repository, revision) = address.split_once('@').unwrap();
            assert!(!revision.is_empty(), "{name}");
            named.insert(repository.to_owned());
        }
    }
    assert_eq!(named, known);
}

//! `prospect validate` from the command line, and the JSON Schemas of the YAML files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use insta::assert_snapshot;
use serde_json::Value;

use prospect_testkit::json_schema::validate;

use crate::support::{Place, repository};

/// Lists the shipped YAML files, each with the kind that its folder implies.
fn shipped() -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    for kind in ["pipeline", "model", "experiment"] {
        for entry in fs_err::read_dir(repository(&format!("{kind}s"))).unwrap() {
            let path = entry.unwrap().path();
            let theory = path.file_stem().is_some_and(|name| name == "theory");
            found.push((if theory { "theory" } else { kind }, path));
        }
    }
    found.sort();
    assert!(found.len() >= 7);
    found
}

/// Returns the path of a shipped file relative to the root of the repository.
fn relative(path: &Path) -> String {
    path.strip_prefix(repository("")).unwrap().display().to_string()
}

/// Returns a folder with a copy of all shipped files.
fn place() -> Place {
    let place = Place::new();
    for (_, path) in shipped() {
        let name = relative(&path);
        fs_err::create_dir_all(place.path(&name).parent().unwrap()).unwrap();
        place.write(&name, fs_err::read(&path).unwrap());
    }
    place
}

#[test]
fn every_shipped_file_is_valid() {
    let files: Vec<_> = shipped().iter().map(|(_, path)| relative(path)).collect();
    let run = place().run(&format!("validate {}", files.join(" ")));
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(run.stdout.lines().count(), files.len());
    for ((kind, _), line) in shipped().iter().zip(run.stdout.lines()) {
        assert!(line.contains(&format!(": ok ({kind}, by its keys")), "{line}");
    }
    assert!(run.stdout.contains("experiments/demo.yaml: ok (experiment, by its keys, 9 runs)"), "{run}");
}

#[test]
fn errors_are_shown_with_file_and_line() {
    let place = place();
    let changed = |name: &str, from: &str, to: &str| {
        let text = fs_err::read_to_string(place.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        text.replace(from, to)
    };
    let model = "train: lora";
    place.write("1.yaml", changed("pipelines/synthetic.yaml", "flip_desirable", "flip_desireable"));
    place.write("2.yaml", changed("pipelines/synthetic.yaml", "test_fraction: 0.2", "test_fraction: 20"));
    place.write("3.yaml", changed("models/smollm2-135m.yaml", model, "train: lorax"));
    place.write("4.yaml", changed("models/smollm2-135m.yaml", model, "train: full"));
    place.write("5.yaml", changed("experiments/demo.yaml", "  beta: 0.1", "  beta: -1"));
    place.write("6.yaml", changed("experiments/demo.yaml", "train.objective: kto,", "train.objective: kti,"));
    place.write("7.yaml", changed("experiments/demo.yaml", "keep_desirable: [0.1]", "keep_desirable: [25]"));
    place.write("8.yaml", changed("experiments/demo.yaml", "models/tiny.yaml", "models/tin.yaml"));
    place.write("9.yaml", changed("experiments/demo.yaml", "baseline: dpo", "baseline: dpp"));
    place.write("10.yaml", "seed: [1\n");
    place.write("11.yaml", "colour: red\n");
    place.write("pipelines/12.yaml", "sorce: { kind: hh }\ntrain: lora\nseed: 1\n");
    let files: Vec<_> = (1..=11).map(|number| format!("{number}.yaml")).collect();
    let run = place.run(&format!("validate {} pipelines/12.yaml missing.yaml", files.join(" ")));
    assert_snapshot!(run);
}

/// Reads a YAML file as JSON.
fn json(path: &Path) -> Value {
    prospect_core::config::Document::open(path).unwrap().read().unwrap()
}

#[test]
fn schemas_are_up_to_date_and_fit_every_shipped_file() {
    let place = Place::new();
    let run = place.run("schemas schemas");
    assert_eq!(run.code, Some(0), "{run}");
    let mut schemas = BTreeMap::new();
    for kind in ["pipeline", "model", "experiment", "theory", "slurm", "prices"] {
        let name = format!("schemas/{kind}.schema.json");
        let fresh = fs_err::read_to_string(place.path(&name)).unwrap();
        let kept = fs_err::read_to_string(repository(&name)).unwrap_or_default();
        assert!(fresh == kept, "{name} is stale; run: cargo run --release -- schemas");
        schemas.insert(kind, serde_json::from_str::<Value>(&fresh).unwrap());
    }
    for (kind, path) in shipped() {
        let document = json(&path);
        let fits = |document: &Value| validate(&schemas[kind], document);
        if let Err(error) = fits(&document) {
            panic!("{}: {error}", path.display());
        }
        // The schema must also reject invalid files.
        let mut misspelt = document.clone();
        misspelt.as_object_mut().unwrap().insert("sourec".to_owned(), Value::Null);
        assert!(fits(&misspelt).is_err(), "{}", path.display());
        assert!(fits(&Value::Object(serde_json::Map::new())).is_err(), "{}", path.display());

        let text = fs_err::read_to_string(&path).unwrap();
        let line = text.lines().nth(usize::from(path.starts_with(repository("experiments")))).unwrap();
        assert_eq!(line, format!("# yaml-language-server: $schema=../schemas/{kind}.schema.json"));
    }
}

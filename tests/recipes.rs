//! Recipes that the binary carries: `prospect recipes`, `prospect init`, and names instead of paths.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{MODEL, Place, repository};

/// Lists the recipes of the repository as paths.
fn shipped() -> Vec<String> {
    let mut paths = Vec::new();
    for folder in ["pipelines", "models", "experiments"] {
        for entry in fs_err::read_dir(repository(folder)).unwrap() {
            paths.push(format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy()));
        }
    }
    paths.sort();
    paths
}

#[test]
fn all_recipes_of_the_repository_are_built_in() {
    let place = Place::new();
    let run = place.run("recipes --json");
    assert_eq!(run.code, Some(0), "{run}");
    let recipes: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    let mut paths: Vec<_> =
        recipes.iter().map(|recipe| recipe["path"].as_str().unwrap().to_owned()).collect();
    paths.sort();
    assert_eq!(paths, shipped());
    for recipe in &recipes {
        assert!(recipe["summary"].as_str().unwrap().len() > 20, "{recipe}");
    }
    let list = place.run("recipes").stdout;
    assert!(list.contains("experiments  (prospect sweep NAME)\n"), "{list}");
    assert!(list.lines().any(|line| line.trim_start().starts_with("imbalance-quick ")), "{list}");
}

#[test]
fn a_recipe_is_printed_as_it_is() {
    let place = Place::new();
    let text = fs_err::read_to_string(repository("pipelines/hh.yaml")).unwrap();
    assert_eq!(place.run("recipes hh").stdout, text);
    assert_eq!(place.run("recipes pipelines/hh.yaml").stdout, text);
    let ambiguous = place.run("recipes thumbs");
    assert!(
        ambiguous.stderr.contains("give one of pipelines/thumbs.yaml, experiments/thumbs.yaml"),
        "{ambiguous}"
    );
}

#[test]
fn names_work_in_an_empty_folder() {
    let place = Place::new();
    let prepared = place.run("prepare synthetic");
    assert_eq!(prepared.code, Some(0), "{prepared}");
    assert_eq!(prepared.stdout, "data/synthetic\n");
    let planned = place.run("sweep worlds-quick --dry-run");
    assert_eq!(planned.code, Some(0), "{planned}");
    assert!(planned.stdout.contains("In which worlds does KTO"), "{planned}");
    let preview = place.run("preview data/synthetic --model tiny -n 1");
    assert_eq!(preview.code, Some(0), "{preview}");
}

#[test]
fn files_in_the_folder_take_precedence() {
    let place = Place::new();
    fs_err::create_dir(place.path("pipelines")).unwrap();
    place.write("pipelines/synthetic.yaml", "source: { kind: synthetic, pairs: 40 }\n");
    let prepared = place.run("prepare synthetic");
    assert!(prepared.stderr.contains("40 rows read: 40 pairs"), "{prepared}");
    place.write("pipelines/synthetic.yaml", "source: { kind: synthetic, pair: 40 }\n");
    let misspelt = place.run("prepare synthetic");
    assert!(misspelt.stderr.contains("pipelines/synthetic.yaml:1: `source.pair`"), "{misspelt}");
}

#[test]
fn an_unknown_name_gets_a_suggestion() {
    let place = Place::new();
    assert_snapshot!(place.run("sweep imbalence-quick"), @r"
    exit code 1
    --- stdout
    --- stderr
    error: imbalence-quick does not exist: give a file or the name of a built-in recipe (`prospect recipes`); did you mean `imbalance-quick`?
    ");
    assert_snapshot!(place.run("prepare nothing-like-it.yaml"), @r"
    exit code 1
    --- stdout
    --- stderr
    error: nothing-like-it.yaml does not exist: give a file or the name of a built-in recipe (`prospect recipes`)
    ");
}

#[test]
fn init_writes_the_recipes_and_keeps_edited_files() {
    let place = Place::new();
    fs_err::create_dir_all(place.path("work/models")).unwrap();
    place.write("work/models/tiny.yaml", MODEL);
    let first = place.run("init work");
    assert_eq!(first.code, Some(0), "{first}");
    assert!(first.stderr.contains("other content than the built-in files: models/tiny.yaml"), "{first}");
    assert_eq!(fs_err::read_to_string(place.path("work/models/tiny.yaml")).unwrap(), MODEL);
    for path in shipped().iter().filter(|path| *path != "models/tiny.yaml") {
        let written = fs_err::read(place.path("work").join(path)).unwrap();
        assert_eq!(written, fs_err::read(repository(path)).unwrap(), "{path}");
    }
    assert!(
        place.path("work/schemas/experiment.schema.json").is_file() && place.path("work/justfile").is_file()
    );
    let again = place.run("init work");
    assert!(again.stderr.starts_with("0 files written\n"), "{again}");
}

#[test]
fn doctor_shows_the_machine_without_the_token() {
    let place = Place::new();
    let mut command = place.command("doctor --json");
    let output = command.env("HF_TOKEN", "hf_secret").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("hf_secret"), "{text}");
    let findings: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(findings["hub"]["has_token"], true);
    assert_eq!(findings["hub"]["offline"], true);
    assert!(findings["threads"].as_u64().unwrap() >= 1);
    let lines = place.run("doctor").stdout;
    for name in ["prospect", "threads", "instruction sets", "memory", "GPU", "Hub", "free disk space"] {
        assert!(lines.lines().any(|line| line.starts_with(&format!("{name} "))), "{lines}");
    }
}

#[test]
fn quiet_prints_results_warnings_and_errors_only() {
    let place = Place::new();
    let run = place.run("prepare synthetic -q");
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (Some(0), "data/synthetic\n", ""),
        "{run}"
    );
    let failed = place.run("--quiet prepare nothing");
    assert!(failed.stderr.starts_with("error: nothing does not exist"), "{failed}");
}

#[test]
fn shells_complete_commands_and_manual_pages_exist() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = place.run(&format!("completions {shell}"));
        assert!(run.code == Some(0) && run.stdout.contains("dry-run"), "{shell}");
    }
    assert_eq!(place.run("man pages").code, Some(0));
    let page = fs_err::read_to_string(place.path("pages/prospect-sweep.1")).unwrap();
    assert!(page.contains("experiment") && page.starts_with(".ie"), "{page}");
}

//! Every shipped experiment, scaled down to seconds: each of its combinations is planned, prepared
//! and trained.

use crate::support::{MODEL, Place, repository};

/// Returns a folder with every shipped recipe and a tiny model.
fn place() -> Place {
    let place = Place::new();
    for folder in ["experiments", "pipelines", "models"] {
        for entry in fs_err::read_dir(repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().display());
            fs_err::create_dir_all(place.path(folder)).unwrap();
            place.write(&name, fs_err::read(&path).unwrap());
        }
    }
    place.write("model.yaml", MODEL);
    place
}

/// Runs an experiment on synthetic feedback and a tiny model, with one seed and one step per run.
/// `also` overrides settings that need other data or models. Arguments must not contain spaces.
fn run(name: &str, also: &[&str], runs: usize) {
    let place = place();
    let text = fs_err::read_to_string(place.path(&format!("experiments/{name}.yaml"))).unwrap();
    let mut set = vec![
        // Names a value of x that the test does not train at.
        "report.primary=null",
        "data=pipelines/worlds.yaml",
        "model=model.yaml",
        "settings={}",
        "data.source.pairs=48",
        "seeds=[0]",
        r#"evaluate={"pairs":4}"#,
        "train.max_length=160",
        "train.max_prompt_length=100",
        "train.batch_size=8",
        "train.micro_batch_size=4",
    ];
    if !name.starts_with("compare") && !name.starts_with("hyper") {
        set.extend(["train.num_train_epochs=null", "train.max_steps=1"]);
    }
    if text.contains("\nsft:") {
        set.extend([
            "sft.num_train_epochs=null",
            "sft.max_steps=1",
            "sft.batch_size=8",
            "sft.micro_batch_size=4",
        ]);
        set.extend(["sft.max_length=160", "sft.max_prompt_length=100"]);
    }
    set.extend(also);
    let set: Vec<String> = set.iter().map(|set| format!("--set {set}")).collect();
    let args = format!("sweep experiments/{name}.yaml {}", set.join(" "));
    let plan = place.run(&format!("{args} --dry-run"));
    assert_eq!(plan.code, Some(0), "{name}: {plan}");
    assert!(plan.stdout.contains(&format!("\n{runs} runs over")), "{name}: {plan}");
    let ran = place.run(&args);
    assert_eq!(ran.code, Some(0), "{name}: {ran}");
    assert!(ran.stderr.contains(&format!("{runs} runs finished")), "{name}: {ran}");
    assert!(place.path(&format!("reports/{name}/index.html")).exists());
}

const DESIRABLE: &str = r#"matrix={"data.imbalance.keep_desirable":[1.0,0.5]}"#;
const UNDESIRABLE: &str = r#"matrix={"data.imbalance.keep_undesirable":[1.0,0.5]}"#;
const PROMPTS: &str = r#"matrix={"data.select.train_prompts":[8,16]}"#;

#[test]
fn compare() {
    let budget = r#"linked.budget={"epochs":{"train.num_train_epochs":1},"steps":{"train.max_steps":2}}"#;
    run("compare", &[budget, "report.reference=null"], 24);
    run("compare-quick", &[], 5);
    run("compare-smoke", &[], 12);
}

#[test]
fn ablations() {
    let beta = r#"matrix={"train.beta":[0.1,0.5]}"#;
    run("ablations", &[beta], 18);
    run("ablations-quick", &[beta], 14);
}

#[test]
fn imbalance() {
    run("imbalance", &[DESIRABLE], 10);
    run("imbalance-quick", &[DESIRABLE], 5);
    run("imbalance-worlds-quick", &[DESIRABLE], 6);
    run("imbalance-undesirable", &[UNDESIRABLE], 10);
    run("imbalance-undesirable-smoke", &[UNDESIRABLE], 5);
}

#[test]
fn imbalance_extreme() {
    run("imbalance-extreme", &[DESIRABLE], 12);
    run("imbalance-extreme-quick", &[DESIRABLE], 12);
}

#[test]
fn zephyr_ultrafeedback() {
    run("zephyr-ultrafeedback", &[], 5);
}

#[test]
fn mistral_oasst() {
    run("mistral-oasst", &[], 3);
    run("mistral-oasst-smoke", &[], 3);
}

#[test]
fn no_sft() {
    run("no-sft", &[], 4);
    run("no-sft-smoke", &[], 4);
}

#[test]
fn noise() {
    // One method trains on every kind of noise at every rate; below, every method on some noise.
    run("noise", &[r#"linked.method={"dpo":{"train.objective":"dpo"}}"#], 25);
    run("noise-quick", &[], 6);
}

#[test]
fn intransitive() {
    let three = "data.source.world.completions=3";
    run("intransitive", &[three], 15);
    run("intransitive-quick", &[three, "data.source.world.judgements=3"], 12);
}

#[test]
fn scale() {
    // The paper's numbers belong to models that this test does not train.
    let no_reference = "report.reference=null";
    run(
        "scale",
        &[
            no_reference,
            r#"linked.model={"one":{"model":"model.yaml"},"other":{"model":"models/tiny.yaml","sft":null}}"#,
        ],
        4,
    );
    run("scale-quick", &[], 12);
}

#[test]
fn domains() {
    run("domains", &[r#"linked.train_on={"home":{"data.select.train_domains":["home"]}}"#], 2);
    run("domains-quick", &[], 10);
}

#[test]
fn binary() {
    run("binary", &[PROMPTS], 12);
    run("binary-quick", &[PROMPTS], 10);
}

#[test]
fn thumbs() {
    let recipe = "data=pipelines/thumbs.yaml";
    run("thumbs", &[recipe, DESIRABLE], 12);
    run("thumbs-quick", &[recipe, DESIRABLE], 10);
}

#[test]
fn hyper() {
    // For two methods: nine trials, then the best three, then the best, then its winner again.
    let budget = r#"linked.budget={"steps":{"train.max_steps":9}}"#;
    let halves = r#"evaluate={"pairs":9}"#;
    run("hyper", &["search.trials=9", budget, halves], 28);
    run("hyper-quick", &[budget, halves], 28);
}

#[test]
fn worlds() {
    run("worlds", &[], 32);
    run("worlds-quick", &[], 12);
    let samples = r#"evaluate={"pairs":4,"generations":{"prompts":4,"max_new_tokens":4,"every":1}}"#;
    run("frontier-quick", &[samples], 9);
}

//! Learning works: on synthetic feedback with known utility, KTO and DPO end far above chance.

use serde_json::Value;

use crate::support::{Place, repository};

/// The demo's experiment, one run per method.
#[test]
fn kto_and_dpo_end_between_chance_and_oracle() {
    let place = Place::new();
    for file in ["experiments/demo.yaml", "pipelines/worlds.yaml", "models/tiny.yaml"] {
        let target = place.path(file);
        fs_err::create_dir_all(target.parent().unwrap()).unwrap();
        fs_err::copy(repository(file), target).unwrap();
    }
    let run = place.run(
        "sweep experiments/demo.yaml --set matrix={\"data.imbalance.keep_desirable\":[1.0]} --set seeds=[0] \
         --set evaluate={} --set train.num_train_epochs=1 --set data.source.pairs=800 --out runs/learning",
    );
    assert_eq!(run.code, Some(0), "{run}");
    let json =
        |path: &str| -> Value { serde_json::from_slice(&fs_err::read(place.path(path)).unwrap()).unwrap() };
    let experiment = json("runs/learning/experiment.json");
    let oracle = experiment["data"][0]["manifest"]["oracle_accuracy"].as_f64().unwrap();
    let summary = json("runs/learning/summary.json");
    let points = summary["points"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    for point in points {
        let accuracy = point["accuracy"]["value"].as_f64().unwrap();
        let low = point["accuracy"]["low"].as_f64().unwrap();
        assert!(accuracy < oracle, "{}: {accuracy}, oracle {oracle}", point["series"]);
        // The 95 % interval excludes chance.
        assert!(low > 0.5 && low < accuracy, "{}: {accuracy}, from {low}", point["series"]);
    }
}

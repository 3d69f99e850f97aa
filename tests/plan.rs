//! Plans of memory, for models that need not be there.

use serde_json::Value;

use crate::support::{MODEL, Place, repository};

fn plan(args: &str) -> crate::support::Run {
    Place::new().run(&format!("plan {} {args}", repository("models/llama-30b.yaml").display()))
}

#[test]
fn thirty_billion_weights_fit_onto_one_gpu() {
    let table = plan("--gpu 80GiB");
    assert_eq!(table.code, Some(0), "{table}");
    for text in ["weights in 60 blocks", "60.6 GiB", "q8_0", "q4_k", "train.micro_batch_size="] {
        assert!(table.stdout.contains(text), "{text}: {table}");
    }
    let json: Value = serde_json::from_str(&plan("--gpu 141GiB --json").stdout).unwrap();
    let first = &json["ways"][0];
    // Comfortably: no matrix in fewer bits.
    assert_eq!(first["quantization"], Value::Null);
    let parts = ["frozen", "trained", "gradients", "moments", "activations", "at_hand"];
    let total: u64 = parts.iter().map(|part| first["demand"][part].as_u64().unwrap()).sum();
    assert!(total + json["overhead"].as_u64().unwrap() <= 141 << 30);
}

#[test]
fn what_does_not_fit_is_an_error_with_a_way_out() {
    let small = plan("--gpu 16GiB");
    assert_eq!(small.code, Some(1), "{small}");
    assert!(
        small.stderr.contains("no way to train") && small.stderr.contains("the smallest takes"),
        "{small}"
    );
    let place = Place::new();
    place.write("model.yaml", MODEL);
    let here = place.run("plan model.yaml --objective dpo");
    assert_eq!(here.code, Some(0), "{here}");
    assert!(here.stdout.contains("all of them are trained"), "{here}");
    let amount = place.run("plan model.yaml --gpu 80");
    assert_eq!(amount.code, Some(2), "{amount}");
    assert!(amount.stderr.contains("write it like 8GiB"), "{amount}");
    let objective = place.run("plan model.yaml --objective kot");
    assert!(objective.stderr.contains("kto"), "{objective}");
}

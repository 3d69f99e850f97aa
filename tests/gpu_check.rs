//! `prospect gpu-check`, on the CPU with tiny models.

use serde_json::Value;

use crate::support::Place;

#[test]
fn every_part_runs_and_is_reported() {
    let place = Place::new();
    let run = place.run("gpu-check --device cpu --small --json check.json");
    assert_eq!(run.code, Some(0), "{run}");
    for text in [
        "Device check",
        "== Parity",
        "grouped heads, adapter, f32",
        "== Kernels",
        "skipped: kernels run only on a GPU",
        "TFLOP/s in products of 256 × 256 matrices in f32",
        "== LoRA steps, including the reference",
        "of products",
        "plan/peak",
        "tiny models",
    ] {
        assert!(run.stdout.contains(text), "{text}: {run}");
    }

    let json: Value = serde_json::from_slice(&fs_err::read(place.path("check.json")).unwrap()).unwrap();
    assert!(json["device"]["name"].as_str().unwrap().starts_with("CPU"), "{json}");
    // The CPU agrees with itself.
    let parity = json["parity"].as_array().unwrap();
    assert!(parity.len() >= 16, "{json}");
    for case in parity {
        assert_eq!(
            (&case["done"]["gradients"], &case["done"]["steps"]),
            (&0.0.into(), &0.0.into()),
            "{case}"
        );
    }
    assert!(json["kernels"]["left_out"].is_string(), "{json}");
    assert!(json["rate"]["done"]["operations_per_second"].as_f64().unwrap() > 1e6, "{json}");
    let steps = json["steps"].as_array().unwrap();
    let names: Vec<_> =
        steps.iter().map(|step| (step["model"].as_str(), step["objective"].as_str())).collect();
    let expected = [("1b", "kto"), ("1b", "dpo"), ("7b", "kto"), ("7b", "dpo"), ("30b", "kto")];
    assert_eq!(names, expected.map(|(model, objective)| (Some(model), Some(objective))));
    for step in steps {
        let done = &step["done"];
        let number = |name: &str| done[name].as_f64().unwrap_or(f64::NAN);
        assert!(number("seconds") > 0.0 && number("loss").is_finite(), "{step}");
        // Prompts have 32 tokens, completions 32, the last of which has no row. KTO has eight
        // completions and eight mismatched ones, DPO eight pairs.
        assert_eq!((number("rows"), number("examples")), (f64::from(8 * 32 + 16 * 31), 8.0), "{step}");
        assert!(number("operations") > 1e6 && number("planned") > 1e5, "{step}");
        if !done["peak"].is_null() {
            assert!(number("planned") < number("peak"), "the process comes on top: {step}");
        }
    }
    // A model with more layers of the same size takes more operations.
    let operations = |index: usize| steps[index]["done"]["operations"].as_u64().unwrap();
    assert!(operations(0) < operations(2) && operations(2) < operations(4), "{json}");
}

#[test]
fn a_part_can_run_alone() {
    let run = Place::new().run("gpu-check --device cpu --small --only 7b --only kernels");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stdout.contains("== Kernels") && run.stdout.contains("\n  7b"), "{run}");
    assert!(!run.stdout.contains("\n  1b"), "{run}");
}

#[test]
fn missing_devices_are_errors_that_say_what_to_do() {
    let place = Place::new();
    // A build with CUDA reports a missing driver or GPU instead.
    let run = place.run("gpu-check");
    assert_eq!(run.code, Some(1), "{run}");
    assert_eq!(
        run.stderr,
        "error: device: this build has no CUDA; build with --features cuda (scripts/check-cuda.sh); without a GPU, use --device cpu --small\n"
    );
    let run = place.run("gpu-check --device gpu0");
    assert!(run.stderr.contains("unknown device `gpu0`; use cpu, or cuda:0 for the first GPU"), "{run}");
    let run = place.run("gpu-check --device cpu --only 70b");
    assert_eq!(run.code, Some(2), "{run}");
}

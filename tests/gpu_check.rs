//! `prospect gpu-check`, on the CPU with tiny models.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use serde_json::Value;

use crate::support::{Place, repository};

/// Stands in for a Python with torch, transformers and peft. It checks how the script calls it, and
/// reports a step of two seconds. Everything else is done by the real Python.
const STUB_OF_TORCH: &str = r#"#!/usr/bin/env bash
case $1 in
    -c | */time_gpu_step.py)
        # Torch brings CUDA libraries of its own.
        [[ -z ${LD_LIBRARY_PATH+set} ]] || { echo 'LD_LIBRARY_PATH leaks into torch' >&2 && exit 1; }
        ;;
    *) exec python3 "$@" ;;
esac
[[ $1 != -c ]] || { [[ $2 == 'import torch, transformers, peft' ]]; exit; }
while (($#)); do
    case $1 in
        --device) device=$2 ;;
        --model) model=$2 ;;
        --json) file=$2 ;;
    esac
    shift
done
echo "the tests' stub of torch: $model on $device"
cat >"$file" <<JSON
{"trainer": "TRL of the tests", "model": "$model", "steps": [
  {"objective": "kto", "seconds": 2.0, "steps": 1, "examples": 8, "rows": 752, "sequences": 16, "peak": null, "loss": 0.5}]}
JSON
"#;

/// Writes a program into the place's folder.
fn program(place: &Place, name: &str, text: &str) -> PathBuf {
    place.write(name, text);
    fs_err::set_permissions(place.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    place.path(name)
}

/// Runs `scripts/gpu-check.sh --small` with a Python on a device. Returns its log, the summary, and
/// whether all parts passed.
pub(crate) fn script(place: &Place, python: &str, device: &str) -> (String, String, bool) {
    let output = Command::new(repository("scripts/gpu-check.sh"))
        .arg("--small")
        .arg(assert_cmd::cargo::cargo_bin!("prospect"))
        .arg(place.path("out"))
        .env("PYTHON", program(place, "python", python))
        .env("PROSPECT_CHECK_DEVICE", device)
        .env("XDG_CACHE_HOME", place.path("cache"))
        .env_remove("PROSPECT_KERNELS")
        .output()
        .unwrap();
    let summary = fs_err::read_to_string(place.path("out/summary.txt")).unwrap_or_default();
    (String::from_utf8_lossy(&output.stderr).into_owned(), summary, output.status.success())
}

/// Runs the whole script with the stub of torch, and returns the summary.
pub(crate) fn script_beside_torch(place: &Place, device: &str) -> String {
    let (log, summary, passed) = script(place, STUB_OF_TORCH, device);
    assert!(passed, "{log}\n{summary}");
    assert!(summary.contains(&format!("the tests' stub of torch: 7b on {device}")), "{log}\n{summary}");
    // 8 examples and 752 rows in two seconds, beside the steps of prospect.
    let row =
        summary.lines().find(|line| line.contains("TRL of the tests")).unwrap_or_else(|| panic!("{summary}"));
    assert!(row.contains("7b") && row.contains("4.00") && row.contains("376"), "{summary}");
    summary
}

#[test]
fn the_script_runs_without_a_gpu_and_compares_with_torch() {
    let place = Place::new();
    let summary = script_beside_torch(&place, "cpu");
    assert!(summary.contains("== Verdict") && summary.contains("kernels: not checked"), "{summary}");
}

#[test]
fn the_script_says_why_torch_is_left_out() {
    let failing = "#!/usr/bin/env bash\n[[ $1 == -c ]] || exec python3 \"$@\"\necho 'no module in this stub' >&2\nexit 1\n";
    let (log, summary, passed) = script(&Place::new(), failing, "cpu");
    assert!(passed && log.contains("torch: skipped: no module in this stub"), "{log}");
    assert!(!summary.contains("TRL of the tests"), "{summary}");
}

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

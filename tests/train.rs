//! `prospect train`, on small random checkpoints of several model families.

use crate::support::Place;

/// Architecture keys common to all families.
const SHAPE: &str = "vocab_size: 258, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, \
    num_attention_heads: 4, max_position_embeddings: 256";

const FAMILIES: [(&str, &str); 3] = [
    ("pythia", "model_type: gpt_neox, rotary_pct: 0.25, tie_word_embeddings: false"),
    ("qwen2", "model_type: qwen2, num_key_value_heads: 2, tie_word_embeddings: true"),
    ("qwen3", "model_type: qwen3, num_key_value_heads: 2, head_dim: 16, tie_word_embeddings: true"),
];

fn place() -> Place {
    let place = Place::new();
    place.write("data.yaml", "source: { kind: synthetic, pairs: 60 }\nsplit: { test_fraction: 0.2 }\n");
    for (name, keys) in FAMILIES {
        let architecture = format!("architecture: {{ {SHAPE}, {keys} }}");
        place.write(&format!("{name}.yaml"), format!("weights: random\ntokenizer: bytes\n{architecture}\n"));
    }
    place
}

#[test]
fn every_family_trains_from_a_recipe_to_an_adapter() {
    let place = place();
    for (family, _) in FAMILIES {
        for objective in ["kto", "dpo"] {
            let out = format!("runs/{family}-{objective}");
            let command = format!(
                "train data.yaml --model {family}.yaml --objective {objective} --batch-size 8 --max-length 160 \
                 --set train.max_steps=3 --learning-rate 0.01 --memory 1GiB --out {out}"
            );
            let run = place.run(&command);
            assert_eq!(run.code, Some(0), "{run}");
            assert!(
                run.stderr.contains(&format!("{objective}: 3 steps, accuracy on held-out pairs ")),
                "{run}"
            );
            let directory = place.path(run.stdout.trim());
            assert!(directory.join("adapter/adapter_model.safetensors").is_file(), "{run}");
            let metrics = fs_err::read_to_string(directory.join("metrics.jsonl")).unwrap();
            let losses: Vec<f64> = metrics
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .filter_map(|record| record.get("loss")?.as_f64())
                .collect();
            assert!(losses.len() == 3 && losses[0] != losses[2], "{losses:?}");
            // The same command finds the run finished.
            assert_eq!(place.run(&command).stdout, run.stdout);
        }
    }
}

#[test]
fn an_instruction_set_limits_the_kernels_and_changes_only_rounding() {
    let place = place();
    let train = |dtype: &str, isa: &str| {
        let out = format!("runs/{dtype}-{isa}");
        let command = format!(
            "train data.yaml --model qwen3.yaml --objective kto --batch-size 8 --max-length 160 --seed 0 \
             --set train.max_steps=3 --set model.dtype={dtype} --out {out}"
        );
        let run = place.run_with(&command, &[("PROSPECT_MAX_CPU_ISA", isa)]);
        assert_eq!(run.code, Some(0), "{run}");
        let directory = place.path(run.stdout.trim());
        let read = |name: &str| fs_err::read_to_string(directory.join(name)).unwrap();
        let config: serde_json::Value = serde_json::from_str(&read("config.json")).unwrap();
        let records = read("metrics.jsonl");
        let losses: Vec<f64> = records
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter_map(|record| record.get("loss")?.as_f64())
            .collect();
        (config["kernels"].as_str().unwrap().to_owned(), losses)
    };
    for (dtype, scalar, tolerance) in
        [("f32", "gemm_scalar", 1e-4), ("bf16", "bf16_widened_to_f32_scalar", 2e-2)]
    {
        let (_, expected) = train(dtype, "");
        let (kernels, losses) = train(dtype, "scalar");
        assert_eq!(kernels, scalar);
        assert_eq!(losses.len(), 3);
        for (loss, expected) in losses.iter().zip(&expected) {
            assert!((loss - expected).abs() < tolerance, "{dtype}: {losses:?} {expected}");
        }
    }
    let run = place.run_with(
        "train data.yaml --model qwen3.yaml --objective kto --max-length 160 --out runs/unknown",
        &[("PROSPECT_MAX_CPU_ISA", "avx10")],
    );
    let message = "PROSPECT_MAX_CPU_ISA: unknown instruction set `avx10`; use one of scalar, avx2, avx512, avx512_bf16, amx_bf16";
    assert!(run.code == Some(1) && run.stderr.contains(message), "{run}");
}

#[test]
fn invalid_options_are_errors_with_suggestions() {
    let place = place();
    let run = place.run("train data.yaml --model pythia.yaml --objective ktoo");
    assert!(run.code == Some(1) && run.stderr.contains("did you mean `kto`"), "{run}");
    let run = place.run("train data.yaml --model pythia.yaml --memory 8");
    assert!(run.code == Some(1) && run.stderr.contains("write it like 8GiB"), "{run}");
    let run = place.run("train data.yaml --model pythia.yaml --set beta=0.2");
    assert!(run.code == Some(1) && run.stderr.contains("beta"), "{run}");
}

//! A build with CUDA on the emulated machine (`scripts/emulate.sh`).

mod needs_emulator {
    use std::{collections::BTreeMap, fmt::Write as _};

    use prospect_model::{ClassifierInput, SequenceClassifier, device};
    use prospect_testkit::write_reward_model;
    use serde_json::Value;

    use crate::{gpu_check::script_beside_torch, reward_models, support::Place};

    fn read(place: &Place, name: &str) -> Value {
        serde_json::from_slice(&fs_err::read(place.path(name)).unwrap()).unwrap()
    }

    /// Runs `gpu-check` with other arguments and variables. Returns its results and the record of
    /// the machine.
    fn gpu_check(args: &str, variables: &[(&str, &str)]) -> (Value, Value) {
        let place = Place::new();
        let record = place.path("record.json");
        let record = ("EMULATED_CUDA_RECORD", record.to_str().unwrap());
        let cache = place.path("cache");
        let cache = ("XDG_CACHE_HOME", cache.to_str().unwrap());
        let run = place.run_with(
            &format!("gpu-check --json check.json {args}"),
            &[&[record, cache][..], variables].concat(),
        );
        assert_eq!(run.code, Some(0), "{run}");
        (read(&place, "check.json"), read(&place, "record.json"))
    }

    fn number(value: &Value, name: &str) -> u64 {
        value[name].as_u64().unwrap_or_else(|| panic!("no {name}: {value}"))
    }

    /// Counts of one step on a model of 7B, in which nothing is computed.
    #[test]
    #[ignore = "needs scripts/emulate.sh"]
    fn steps_of_7b_have_known_counts_and_the_planned_peak() {
        let variables = [("PROSPECT_KERNELS", "all"), ("EMULATED_CUDA_COUNT", "1")];
        let (report, record) = gpu_check("--only 7b", &variables);
        // Measured sections alternate with others.
        let sections = record["sections"].as_array().unwrap().iter().skip(1).step_by(2);
        for (step, section) in report["steps"].as_array().unwrap().iter().zip(sections) {
            let kernels = step["kernels"].as_array().unwrap();
            let kernels = match kernels.as_slice() {
                [] => "candle",
                [_] => continue,
                _ => "own",
            };
            let (done, objective) = (&step["done"], step["objective"].as_str().unwrap());
            let steps = number(done, "steps");
            let per_step = |count: u64| {
                assert_eq!(count % steps, 0, "{section}");
                count / steps
            };
            let names = ["launches", "products", "uploads", "reads", "synchronisations", "copies", "fills"];
            let mut text = String::new();
            for name in names {
                writeln!(text, "{:>7} {name}", per_step(number(section, name))).unwrap();
            }
            let by_kernel: BTreeMap<String, u64> =
                serde_json::from_value(section["by_kernel"].clone()).unwrap();
            for (kernel, count) in by_kernel {
                writeln!(text, "{:>7} × {kernel}", per_step(count)).unwrap();
            }
            insta::assert_snapshot!(format!("counts_of_7b_{objective}_{kernels}"), text);
            let ratio = number(done, "planned") as f64 / number(done, "peak") as f64;
            assert!((1.0..1.05).contains(&ratio), "{objective}, {kernels}: plan/peak is {ratio}");
            if kernels == "own" {
                let count = |name| number(section, name) / steps;
                assert!(count("uploads") <= 20 && count("reads") <= 4, "{section}");
                assert!(count("launches") + count("products") <= 4000, "{section}");
            }
        }
    }

    /// The whole script of a real GPU, with tiny models.
    #[test]
    #[ignore = "needs scripts/emulate.sh"]
    fn the_script_for_gpus_ends_with_a_verdict() {
        let place = Place::new();
        let summary = script_beside_torch(&place, "cuda:0");
        for text in [
            "small models that agree with the CPU: 16 of 16",
            "small models with own kernels that agree with the CPU: 16 of 16",
            "own kernels used on this GPU from now on: norm, rotary",
            "planned memory by peak, 7b kto, prospect, all own kernels",
        ] {
            assert!(summary.contains(text), "{text}: {summary}");
        }
        // What passed is used from then on, by this program on this GPU.
        assert_eq!(fs_err::read_dir(place.path("cache/prospect/kernels")).unwrap().count(), 1);
    }
    /// The golden values of `crates/model/tests/integration/classifiers`, one of each architecture.
    #[test]
    #[ignore = "needs scripts/emulate.sh"]
    fn scores_of_reward_models_equal_those_of_transformers() {
        let gpu = device::open("cuda:0").unwrap();
        for case in
            ["deberta-v2", "deberta-v3", "gemma3", "gpt_neox", "llama3", "modernbert", "qwen2", "qwen3"]
        {
            let place = Place::new();
            let golden = write_reward_model(case, &place.path("scorer"));
            let model = SequenceClassifier::open(&place.path("scorer"), &gpu).unwrap();
            let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
            let texts = golden["texts"].as_array().unwrap();
            let texts = texts
                .iter()
                .map(|text| ClassifierInput { tokens: ids(&text["tokens"]), types: ids(&text["types"]) });
            let inputs: Vec<ClassifierInput> = texts.collect();
            let scores = model.scores(&inputs.iter().collect::<Vec<_>>()).unwrap();
            for (ours, theirs) in scores.iter().zip(golden["scores"].as_array().unwrap()) {
                let theirs = theirs.as_f64().unwrap();
                assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{case}: {ours} {theirs}");
            }
        }
    }

    #[test]
    #[ignore = "needs scripts/emulate.sh"]
    fn a_reward_model_on_a_gpu_judges_as_on_the_cpu() {
        reward_models::check_an_encoder();
    }
}

//! `prospect sweep` and `prospect report`, from the command line.

use std::{collections::BTreeMap, path::Path, time::Duration};

use insta::assert_snapshot;

use crate::support::{MODEL, Place, repository};

const EXPERIMENT: &str = "\
question: Does it work?
data: data.yaml
model: model.yaml
sft:
  learning_rate: 3e-3
  num_train_epochs: 1
  batch_size: 16
  max_length: 160
  max_prompt_length: 100
train:
  learning_rate: 1e-3
  num_train_epochs: 1
  batch_size: 8
  max_length: 160
  max_prompt_length: 100
linked:
  method:
    dpo: { train.objective: dpo }
    kto: { train.objective: kto, train.desirable_weight: auto }
matrix:
  data.imbalance.keep_desirable: [1.0, 0.5]
seeds: [0]
report:
  x: data.imbalance.keep_desirable
  series: method
  baseline: dpo
";

pub(crate) fn place() -> Place {
    Place::with(EXPERIMENT)
}

/// Reads every file of the runs that has no times.
pub(crate) fn results(place: &Place, sweep: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if !path.ends_with("status.json") && !path.ends_with("config.json") {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, fs_err::read(path).unwrap());
            }
        }
    }
    let (root, mut found) = (place.path(sweep).join("runs"), BTreeMap::new());
    walk(&root, &root, &mut found);
    found
}

#[track_caller]
pub(crate) fn assert_same(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in a {
        assert!(bytes == &b[name], "{name} differs");
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let place = place();
    let run = place.run("sweep experiment.yaml --dry-run");
    assert_eq!(run.code, Some(0), "{run}");
    let (plan, _) = run.stdout.split_once("\n\n").unwrap();
    let ids: Vec<_> = plan.lines().skip(2).map(|line| line.trim().split("  ").next().unwrap()).collect();
    assert_eq!(ids.len(), 5);
    let text = ids.iter().fold(plan.to_owned(), |text, id| text.replace(id, "[id]"));
    assert_snapshot!(text, @r"
    Does it work?
    4 runs over 2 datasets and 1 model; shared stages: 1 SFT
      [id]  sft, shared  to do
      [id]  data.imbalance.keep_desirable = 1.0, method = dpo, seed 0  to do
      [id]  data.imbalance.keep_desirable = 0.5, method = dpo, seed 0  to do
      [id]  data.imbalance.keep_desirable = 1.0, method = kto, seed 0  to do
      [id]  data.imbalance.keep_desirable = 0.5, method = kto, seed 0  to do
    ");
    assert!(!place.path("runs").exists());
}

#[test]
fn a_sweep_writes_a_report_and_a_second_call_trains_nothing() {
    let place = place();
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(run.stdout, "runs/experiment/report/index.html\n");
    assert!(run.stderr.contains("4 runs finished, 0 already done"), "{run}");
    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(page.contains("Does it work?") && page.contains("prospect sweep experiment.yaml"));
    assert!(place.path("reports/experiment").is_symlink());
    assert!(place.path("runs/experiment/report/index.html").exists());
    assert!(place.path("reports/experiment/figures/accuracy.png").exists());
    assert!(place.path("reports/experiment/tables/points.csv").exists());

    let first = results(&place, "runs/experiment");
    let metrics = first.iter().find(|(name, _)| name.ends_with("metrics.jsonl")).unwrap();
    assert!(String::from_utf8(metrics.1.clone()).unwrap().contains("\"loss\""));
    let again = place.run("sweep experiment.yaml");
    assert!(again.stderr.contains("0 runs finished, 4 already done"), "{again}");
    assert_same(&first, &results(&place, "runs/experiment"));

    let list = fs_err::read_to_string(place.path("reports/index.html")).unwrap();
    assert!(list.contains("experiment/index.html") && list.contains("Does it work?"));

    // Other report settings do not overwrite the report.
    let other = place.run("sweep experiment.yaml --set report.baseline=kto");
    let folder = other.stdout.trim_end().trim_end_matches("/index.html");
    assert!(folder.starts_with("runs/experiment/report-") && folder.ends_with("-kto"), "{other}");
    assert!(other.stderr.contains("dpo versus kto") && !other.stderr.contains('\u{1b}'), "{other}");
    let first_page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert_eq!(first_page, page);

    let paper = place.run("report experiment --export paper");
    assert_eq!(paper.code, Some(0), "{paper}");
    assert!(fs_err::read(place.path("paper/accuracy.pdf")).unwrap().starts_with(b"%PDF"));
    assert!(fs_err::read_to_string(place.path("paper/estimates.tex")).unwrap().contains("\\toprule"));

    let report = place.run("report experiment --out elsewhere");
    assert_eq!((report.code, report.stdout.as_str()), (Some(0), "elsewhere/index.html\n"));
    let both = place.run("report --compare experiment runs/experiment");
    assert_eq!(both.stdout, "reports/experiment-beside-experiment/index.html\n", "{both}");
    assert_eq!(place.run("report").code, Some(2));
}

#[test]
fn generations_and_noise_metrics_are_recorded_only_where_they_apply() {
    let place = place();
    let asked = r#"evaluate={"generations":{"prompts":3,"max_new_tokens":8,"mode":"nucleus"}}"#;
    let run = place.run(&format!("sweep experiment.yaml --set {asked} --set data.noise.swap_pairs=0.3"));
    assert_eq!(run.code, Some(0), "{run}");
    let first = results(&place, "runs/experiment");
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let said: Vec<_> = first.iter().filter(|(name, _)| name.ends_with("generations.jsonl")).collect();
    assert_eq!(said.len(), 4, "the shared stage has no generations");
    for (_, bytes) in said {
        let lines: Vec<serde_json::Value> =
            text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        for line in lines {
            assert!(line["prompt"].as_str().unwrap().starts_with("user: "), "{line}");
            assert!(line["tokens"].as_u64().unwrap() <= 8 && line["mode"] == "nucleus", "{line}");
        }
    }
    for (name, bytes) in first.iter().filter(|(name, _)| name.ends_with("metrics.jsonl")) {
        let metrics = text(bytes);
        let stage = !metrics.contains("eval_loss");
        for key in [
            "eval_generations/entropy",
            "eval_generations/kl",
            "eval_calibration/error",
            "eval_noise/agreement/corrupted",
            "noise/gradient_weight/corrupted",
            "noise/rewards/clean",
        ] {
            assert!(stage || metrics.contains(&format!("\"{key}\":")), "{name}: {key}");
        }
    }
    place.run("sweep experiment.yaml --out plain");
    for (name, bytes) in results(&place, "plain") {
        assert!(!name.ends_with("generations.jsonl"));
        if name.ends_with("metrics.jsonl") {
            assert!(!text(&bytes).contains("noise/") && !text(&bytes).contains("generations"), "{name}");
        }
    }
    let zero = place.run(r#"sweep experiment.yaml --set evaluate={"generations":{"prompts":0}}"#);
    assert!(zero.stderr.contains("nonzero"), "{zero}");
}

#[test]
fn step_0_losses_are_exact() {
    let place = place();
    place.run("sweep experiment.yaml --set train.warmup_steps=1");
    let mut seen = Vec::new();
    for (name, bytes) in results(&place, "runs/experiment") {
        if name.ends_with("metrics.jsonl") {
            let text = String::from_utf8(bytes).unwrap();
            let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            if let Some(first) = lines.find(|line| line["eval_loss"].is_number()) {
                seen.push(first["eval_loss"].as_f64().unwrap());
            }
        }
    }
    seen.sort_by(f64::total_cmp);
    // KTO's loss is half the mean class weight: 1 if both classes are complete, and (2 + 1)/2 if
    // half of one class is dropped.
    let expected = [0.5, std::f64::consts::LN_2, std::f64::consts::LN_2, 0.75];
    assert_eq!((seen[0], seen[3]), (expected[0], expected[3]));
    assert!(seen.iter().zip(expected).all(|(seen, expected)| (seen - expected).abs() < 1e-15), "{seen:?}");
}

#[test]
fn a_killed_sweep_resumes_to_the_same_results() {
    let place = place();
    place.run("sweep experiment.yaml --out whole/sweep");
    let mut child = place.command("sweep experiment.yaml --out cut/sweep").spawn().unwrap();
    // Two preference runs have started: usually one is finished and one is in progress.
    let begun = || {
        let runs = fs_err::read_dir(place.path("cut/sweep/runs")).into_iter().flatten();
        runs.filter(|run| run.as_ref().unwrap().path().join("metrics.jsonl").exists()).count() >= 3
    };
    for _ in 0..6000 {
        if begun() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let run = place.run("sweep experiment.yaml --out cut/sweep");
    assert_eq!(run.code, Some(0), "{run}");
    assert_same(&results(&place, "whole/sweep"), &results(&place, "cut/sweep"));
}

#[test]
fn one_thread_and_two_give_the_same_bytes() {
    let place = place();
    for threads in ["1", "2"] {
        let mut command = place.command(&format!("sweep experiment.yaml --out threads-{threads}/sweep"));
        assert!(command.env("RAYON_NUM_THREADS", threads).output().unwrap().status.success());
    }
    assert_same(&results(&place, "threads-1/sweep"), &results(&place, "threads-2/sweep"));
}

#[test]
fn parallel_runs_give_the_bytes_of_sequential_runs() {
    let place = place();
    // Two models, so that the weights change while another run still uses the old ones.
    let text = EXPERIMENT.replace("matrix:\n", "matrix:\n  model.init_seed: [0, 1]\n");
    place.write("experiment.yaml", text.replace("1e-3\n  num_train_epochs: 1", "1e-3\n  max_steps: 3"));
    for how in ["--out alone/sweep", "--out together/sweep --jobs 3"] {
        let run = place.run(&format!("sweep experiment.yaml {how}"));
        assert_eq!(run.code, Some(0), "{run}");
        assert!(run.stderr.contains("all figures average over model.init_seed"), "{run}");
    }
    let together = results(&place, "together/sweep");
    assert_eq!(together.keys().filter(|name| name.ends_with("metrics.jsonl")).count(), 10);
    assert_same(&results(&place, "alone/sweep"), &together);
}

#[test]
fn the_number_of_parallel_runs_is_chosen_and_recorded() {
    let place = place();
    let sweep = |options: &str| {
        let args = format!("sweep experiment.yaml --set sft=null {options}");
        let run = place.run_with(&args, &[("RAYON_NUM_THREADS", "2")]);
        assert_eq!(run.code, Some(0), "{run}");
        run.stderr
    };
    let said = sweep("--out chosen/sweep");
    let choice =
        "training 2 runs at a time: not measured, as the runs are short; --jobs sets another number\n";
    assert!(said.contains(choice), "{said}");
    let recorded = fs_err::read(place.path("chosen/sweep/jobs.json")).unwrap();
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
    assert_eq!(
        (&recorded["jobs"], &recorded["runs"], &recorded["threads"]),
        (&2.into(), &4.into(), &2.into())
    );

    // Enough steps to measure.
    let said = sweep("--set train.num_train_epochs=null --set train.max_steps=60 --out measured/sweep");
    assert!(said.contains(" s alone, ") && said.contains(" s in each of 2 runs; --jobs sets"), "{said}");
    let recorded = fs_err::read(place.path("measured/sweep/jobs.json")).unwrap();
    let recorded: serde_json::Value = serde_json::from_slice(&recorded).unwrap();
    assert_eq!(recorded["measured"].as_array().unwrap().len(), 2);

    assert!(!sweep("--jobs 2 --out set/sweep").contains("at a time"));
    assert_same(&results(&place, "chosen/sweep"), &results(&place, "set/sweep"));
}

#[test]
fn a_part_of_a_sweep_can_run_first() {
    let place = place();
    let run = place.run(
        "sweep experiment.yaml --set sft=null --only method=kto --only data.imbalance.keep_desirable=0.50",
    );
    assert!(run.stderr.contains("1 runs finished, 0 already done, 3 remaining"), "{run}");
    let run = place.run("sweep experiment.yaml --set sft=null --max-hours 0");
    assert!(run.stderr.contains("0 runs finished, 1 already done, 3 remaining"), "{run}");
    let run = place.run("sweep experiment.yaml --set sft=null");
    assert!(run.stderr.contains("3 runs finished, 1 already done\n"), "{run}");

    let run = place.run("sweep experiment.yaml --dry-run --only seed=7");
    assert_snapshot!(run.stderr, @"error: no run has seed=7; there are: data.imbalance.keep_desirable=0.5, data.imbalance.keep_desirable=1.0, method=dpo, method=kto, seed=0; did you mean `seed=0`?");
    let run = place.run("sweep experiment.yaml --dry-run --only kto");
    assert_snapshot!(run.stderr, @"error: --only takes KEY=VALUE, as in method=kto, not `kto`");
}

#[test]
fn sweeps_in_a_folder_share_reference_log_probs() {
    let place = place();
    place.run("sweep experiment.yaml --out runs/one");
    let cache = || {
        let files = fs_err::read_dir(place.path("runs/.reference")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let size = cache();
    assert!(size > 0);
    place.run("sweep experiment.yaml --out runs/other");
    assert_eq!(cache(), size, "the second sweep computed no reference log-probs");
    assert_same(&results(&place, "runs/one"), &results(&place, "runs/other"));
}

#[test]
fn errors_say_what_to_do() {
    let place = place();
    let error = |args: &str| {
        let run = place.run(args);
        assert_eq!(run.code, Some(1), "{run}");
        run.stderr
    };
    assert_snapshot!(error("sweep experiment.yaml --set train.learning_rat=1"), @"error: experiment.yaml: `train.learning_rat`: unknown field `learning_rat`, expected one of `objective`, `preset`, `beta`, `desirable_weight`, `undesirable_weight`, `class_balance`, `z0`, `world_size`, `kl_partners`, `value_function`, `reference_free`, `clip_ratio`, `kl_coef`, `discount`, `label_smoothing`, `simpo_gamma`, `lambda_coef`, `control_tokens`, `humanline`, `sync_every`, `sync_alpha`, `optimizer`, `learning_rate`, `lr_scheduler_type`, `warmup_steps`, `warmup_ratio`, `num_train_epochs`, `max_steps`, `batch_size`, `micro_batch_size`, `max_grad_norm`, `weight_decay`, `adam_beta1`, `adam_beta2`, `adam_epsilon`, `rmsprop_alpha`, `rmsprop_epsilon`, `max_length`, `max_prompt_length`; did you mean `learning_rate`?");
    assert_snapshot!(error("sweep experiment.yaml --set report.series=methods"), @r#"error: experiment.yaml: `report.series` is `methods`, which is not swept; swept settings: ["method", "data.imbalance.keep_desirable"]"#);
    let reference = |series: &str| {
        let reference = format!(r#"{{"label":"paper","measure":"win-rate","series":{series}}}"#);
        error(&format!("sweep experiment.yaml --set report.reference={reference}"))
    };
    assert_snapshot!(reference(r#"{"ipo":[[1.0,30.9]]}"#), @r#"error: experiment.yaml: `report.reference.series.ipo` is not a series of the experiment; series: ["dpo", "kto"]"#);
    assert_snapshot!(reference(r#"{"dpo":[["all",30.9]]}"#), @r#"error: experiment.yaml: `report.reference.series.dpo`: "all" is not a value of `data.imbalance.keep_desirable`; values: ["1.0", "0.5"]"#);
    let twice =
        r#"[{"label":"a","measure":"m","series":{"dpo":[[1.0,3]]}},{"label":"b","measure":"m","series":{}}]"#;
    assert_snapshot!(error(&format!("sweep experiment.yaml --set report.reference={twice}")), @"error: experiment.yaml: `report.reference` has two sets of numbers with the same `measure`: join them");
    assert_snapshot!(error("sweep experiment.yaml --set model.weights=missing.gguf --set model.architecture=null"), @"error: model recipe: `weights`: missing.gguf does not exist; relative paths start at the current directory, [folder]");
    assert_snapshot!(error("sweep experiment.yaml --set train.max_length=20"), @"error: experiment.yaml:15: training settings: `max_prompt_length` (100) leaves no room for a completion in `max_length` (20)");
    assert_snapshot!(error("report nothing"), @"error: runs/nothing is not a sweep: it has no experiment.json; create one with `prospect sweep`");
    assert!(!place.path("runs").exists());
}

#[test]
fn the_shipped_experiments_can_be_planned() {
    let place = Place::new();
    for folder in ["experiments", "pipelines", "models"] {
        fs_err::create_dir(place.path(folder)).unwrap();
        for entry in fs_err::read_dir(repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            fs_err::copy(&path, place.path(folder).join(path.file_name().unwrap())).unwrap();
        }
    }
    place.write("hh.jsonl", fs_err::read(repository("tests/fixtures/hh.jsonl")).unwrap());
    let hub = r#"--set data.source.path=hh.jsonl --set model.weights=random --set model.tokenizer=bytes --set model.architecture={"vocab_size":258,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":1,"num_key_value_heads":1,"head_dim":8,"max_position_embeddings":64}"#;
    for (name, overrides, runs) in [("demo", "", 9), ("imbalance", hub, 90), ("imbalance-quick", hub, 40)] {
        let run = place.run(&format!("sweep experiments/{name}.yaml --dry-run {overrides}"));
        assert_eq!(run.code, Some(0), "{run}");
        assert!(run.stdout.contains(&format!("{runs} runs over")), "{run}");
    }
    let grid = place.run(&format!("sweep experiments/imbalance.yaml --dry-run {hub}"));
    let (plan, _) = grid.stdout.split_once("\n\n").unwrap();
    assert_snapshot!(plan, @r"
    How does KTO compare with DPO when most thumbs-up are lost?
    90 runs over 16 datasets and 1 model; shared stages: none
      runs by data.imbalance.keep_desirable (across), seeds 0, 1, 2 each:
                             1.0    0.5    0.25   0.1    0.05   0.01
      method = dpo           to do  to do  to do  to do  to do  to do
      method = kto           to do  to do  to do  to do  to do  to do
      method = kto-auto      to do  to do  to do  to do  to do  to do
      method = kto-auto-4/3  to do  to do  to do  to do  to do  to do
      method = kto-auto-3/2  to do  to do  to do  to do  to do  to do
    ");
}

#[test]
fn a_sweep_says_what_it_needs_before_it_starts() {
    let place = place();
    let run = place.run("sweep experiment.yaml --only method=kto");
    let line = run.stderr.lines().find(|line| line.starts_with("to train: ")).unwrap();
    assert!(line.starts_with("to train: 2 runs: less than a minute, "), "{line}");
    assert!(line.contains(" of memory, ") && line.contains(" of disk space ("), "{line}");
    // Nothing is left to train.
    let again = place.run("sweep experiment.yaml --only method=kto").stderr;
    assert!(!again.contains("to train"), "{again}");
}

#[test]
fn work_of_days_is_announced_before_anything_is_downloaded() {
    let place = Place::new();
    let run = place.run("sweep imbalance");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.starts_with("to download: hf://"), "{run}");
    assert!(
        run.stderr.contains("warning: an optimizer step of kto on hf://huggyllama/llama-7b@main takes"),
        "{run}"
    );
    assert!(run.stderr.contains("`prospect sweep imbalance-quick` asks the same question"), "{run}");
    assert!(run.stderr.contains("`prospect plan MODEL --gpu 80GiB`"), "{run}");
}

#[test]
fn plans_and_estimates_are_json_on_request() {
    let place = place();
    let json = |args: &str| -> serde_json::Value {
        let run = place.run(args);
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
    };
    let plan = json("sweep experiment.yaml --dry-run --json");
    assert_eq!(plan["runs"].as_array().unwrap().len(), 4);
    assert_eq!(plan["runs"][0]["state"], "to_do");
    assert_eq!(plan["schedule"].as_array().unwrap().len(), 4);
    assert!(plan["memory"][0]["train_plan"]["micro_batch_size"].as_u64().unwrap() > 0, "{plan}");
    let estimate = json("sweep experiment.yaml --estimate --json --max-hours 1000");
    assert_eq!((estimate["runs"].as_u64(), estimate["runs_in_time"].as_u64()), (Some(4), Some(4)));
    assert!(estimate["seconds"][0].as_f64().unwrap() > 0.0);
    let without = place.run("sweep experiment.yaml --json");
    assert_eq!(without.code, Some(1), "{without}");
    assert!(without.stderr.contains("--dry-run or the result of --estimate"), "{without}");
}

#[test]
fn names_of_sweeps_and_runs_get_suggestions() {
    let place = place();
    assert_eq!(place.run("sweep experiment.yaml --only method=kto").code, Some(0));
    let report = place.run("report experimnt").stderr;
    assert!(report.contains("create one with `prospect sweep`; did you mean `experiment`?"), "{report}");
    let built_in = place.run("report imbalance-quick").stderr;
    assert!(built_in.contains("create one with `prospect sweep imbalance-quick`"), "{built_in}");
    let only = place.run("sweep experiment.yaml --only method=ktoo").stderr;
    assert!(only.contains("; did you mean `method=kto`?"), "{only}");
}

#[test]
fn runs_may_differ_in_recipe_and_start_and_combinations_may_be_excluded() {
    let place = place();
    place.write("other.yaml", MODEL.replace("hidden_size: 16", "hidden_size: 24"));
    let linked = r#"linked={"method":{"kto":{"train.objective":"kto"},"dpo":{"train.objective":"dpo"}},"start":{"sft":{"sft.learning_rate":0.001},"base":{"sft":null}},"model":{"small":{},"large":{"model":"other.yaml"}}}"#;
    let report = r#"report={"x":"start","series":"method","baseline":"dpo"}"#;
    let rest = r#"matrix={"data.imbalance.keep_desirable":[1.0]}"#;
    let plan = |exclude: &str| {
        let set = [linked, report, rest, exclude].map(|set| format!("--set {set}")).join(" ");
        place.run(&format!("sweep experiment.yaml --dry-run {set}"))
    };
    let all = plan("exclude=[]");
    assert!(all.stdout.contains("8 runs over 1 dataset and 2 models; shared stages: 2 SFT"), "{all}");
    assert!(all.stdout.contains("warning: `model` is neither `report.x` nor `report.series`"), "{all}");
    // Linked groups keep the order of the file.
    assert!(all.stdout.find("kto").unwrap() < all.stdout.find("dpo").unwrap(), "{all}");
    let some = plan(r#"exclude=[{"start":"sft","model":["large"]}]"#);
    assert!(some.stdout.contains("6 runs over 1 dataset and 2 models; shared stages: 1 SFT"), "{some}");
    let none = plan(r#"exclude=[{"start":"sfft"}]"#);
    assert!(none.stderr.contains("`exclude`, rule 1 matches no remaining combination"), "{none}");
    let mistaken = |group: &str| {
        let linked = format!(r#"linked.method={{"dpo":{group}}}"#);
        place.run(&format!("sweep experiment.yaml --dry-run --set {linked} --set sft=null")).stderr
    };
    assert!(mistaken(r#"{"sft":true}"#).contains("`sft` is true; for a run it can be null"));
    assert!(mistaken(r#"{"data":3}"#).contains("`data` is 3, but it is a recipe: a path"));
    assert!(mistaken(r#"{"sft.beta":3}"#).contains("the experiment has no `sft`"));
    assert!(mistaken(r#"{"trian.beta":3}"#).contains("settings start with data., model., train. or sft."));
}

#[test]
fn a_run_fails_with_counts_if_all_prompts_are_too_long() {
    let place = place();
    let run = place.run("sweep experiment.yaml --set sft=null --set train.max_prompt_length=10");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("fits max_prompt_length"), "{run}");
    assert!(run.stderr.contains("4 of 4 runs failed"), "{run}");
    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(page.contains("fits max_prompt_length"));
}

#[test]
fn feedback_of_one_class_trains_kto_and_fails_dpo() {
    let place = place();
    let run = place.run("sweep experiment.yaml --set sft=null --set data.imbalance.keep_undesirable=0.0");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("2 runs finished"), "{run}");
    assert!(run.stderr.contains("2 of 4 runs failed"), "{run}");
}

/// A model folder with a valid `config.json` and weights that cannot be loaded.
fn place_with_broken_weights(prompts: usize) -> Place {
    let place = place();
    let config = r#"{"model_type": "llama", "vocab_size": 258, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}"#;
    fs_err::create_dir(place.path("broken")).unwrap();
    place.write("broken/config.json", config);
    place.write("broken/model.safetensors", "no weights");
    place.write(
        "model.yaml",
        "weights: broken\ntokenizer: bytes\nchat_template: chatml\nlora: { r: 2, alpha: 4 }\n",
    );
    let pair = |prompt: usize| format!(r#"{{"prompt": "q{prompt}", "chosen": "good", "rejected": "bad"}}"#);
    let train: Vec<String> = (0..prompts).map(pair).collect();
    fs_err::create_dir(place.path("feedback")).unwrap();
    place.write("feedback/train.jsonl", train.join("\n") + "\n");
    place.write("feedback/test.jsonl", (100..110).map(pair).collect::<Vec<_>>().join("\n") + "\n");
    place.write("data.yaml", "source: { kind: pairs, path: feedback }\n");
    place
}

#[test]
fn a_dataset_with_too_few_prompts_is_refused_before_weights_are_loaded() {
    let sweep = "sweep experiment.yaml --set sft=null --set matrix={\"train.beta\":[0.1]} \
                 --set report.x=train.beta --only method=kto";
    let run = place_with_broken_weights(1).run(sweep);
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("KTO needs 1 completions of other prompts"), "{run}");
    assert!(run.stderr.contains("1 of 2 runs failed"), "{run}");
    // With enough prompts, loading the weights fails.
    let run = place_with_broken_weights(4).run(sweep);
    assert_eq!(run.code, Some(1), "{run}");
    assert!(!run.stderr.contains("KTO needs"), "{run}");
}

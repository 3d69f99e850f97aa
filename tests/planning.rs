//! Plan, cost and memory of a sweep, before it starts.

use insta::assert_snapshot;

use crate::{
    support::{Place, repository},
    sweep::place,
};

/// Reads the cells of the table below the line that starts with `heading`.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    lines
        .take_while(|line| line.starts_with("  "))
        .map(|line| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
        })
        .collect()
}

#[test]
fn a_plan_shows_the_training_schedule_of_each_series() {
    let place = place();
    let budget = |also: &str| {
        let run = place.run(&format!("sweep experiment.yaml --dry-run {also}"));
        assert_eq!(run.code, Some(0), "{run}");
        let (_, rest) = run.stdout.split_once("\n\n").unwrap();
        rest.split_once("\n\n== Memory").unwrap().0.to_owned()
    };
    assert_snapshot!(budget(""), @r"
    Training schedule
    series differ in optimizer steps at data.imbalance.keep_desirable = 0.5

    == Runs of seed 0, before overlong rows are dropped
      method  data.imbalance.keep_desirable  completions  per step  steps  epochs
      dpo     1.0                                     96         8     12    1.00
      dpo     0.5                                     48         8      6    1.00
      kto     1.0                                     96         8     12    1.00
      kto     0.5                                     72         8      9    1.00
    ");
    assert_snapshot!(budget("--set train.num_train_epochs=null --set train.max_steps=6"), @r"
    Training schedule
    series differ in epochs at data.imbalance.keep_desirable = 0.5

    == Runs of seed 0, before overlong rows are dropped
      method  data.imbalance.keep_desirable  completions  per step  steps  epochs
      dpo     1.0                                     96         8      6    0.50
      dpo     0.5                                     48         8      6    1.00
      kto     1.0                                     96         8      6    0.50
      kto     0.5                                     72         8      6    0.67
    ");
    let same = budget("--set matrix={\"data.imbalance.keep_desirable\":[1.0]}");
    assert!(same.contains("all series train for the same optimizer steps and epochs"), "{same}");
    let empty = budget(
        "--set matrix={\"data.imbalance.keep_desirable\":[1.0,0.0]} --set data.imbalance.keep_undesirable=0.0",
    );
    assert!(empty.contains("warning: cannot count the data: "), "{empty}");
    assert!(!place.path("runs").exists());
}

#[test]
fn an_estimate_adds_up_and_leaves_no_files() {
    let place = place();
    let run = place.run("sweep experiment.yaml --estimate --max-hours 100");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(
        run.stdout.contains("remaining: 4 runs, about ")
            && run.stdout.contains("estimated from 11 measured steps"),
        "{run}"
    );
    assert!(run.stdout.contains("\n4 of 4 runs fit into 100 h 0 min\n"), "{run}");
    assert!(!place.path("runs").exists() && !place.path("reports").exists(), "{run}");
    let rows = table(&run.stdout, "== Cost of the runs");
    let kinds: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(kinds, ["sft", "dpo", "kto", "all"], "{run}");
    // The SFT stage has three steps. Runs, steps and hours add up; the last row has no step time.
    let number = |row: &[String], column: usize| row[column].parse::<f64>().unwrap();
    let (all, kinds) = rows.split_last().unwrap();
    let sum = |column: usize| kinds.iter().map(|row| number(row, column)).sum::<f64>();
    assert_eq!((sum(3), sum(4)), (number(all, 1), number(all, 2)), "{run}");
    assert!((sum(9) - number(all, 5)).abs() < 2.1e-6, "{run}");
    for row in kinds {
        let least = number(row, 4) * number(row, 5) / 3600.0;
        assert!(number(row, 9) >= 0.99 * least, "{run}");
    }

    // Methods with the same forward passes are measured once; the second one reuses the cached
    // reference log-probs.
    let alike = r#"{"dpo":{"train.objective":"dpo"},"ipo":{"train.objective":"ipo"}}"#;
    let run = place.run(&format!("sweep experiment.yaml --estimate --set linked.method={alike}"));
    let rows = table(&run.stdout, "== Cost of the runs");
    assert_eq!(
        (rows[1][0].as_str(), rows[1][3].as_str(), rows[1][4].as_str()),
        ("dpo, ipo", "4", "36"),
        "{run}"
    );
    assert!(rows[1][7].starts_with("18 × "), "{run}");

    let none = place.run("sweep experiment.yaml --estimate --max-hours 0 --only method=kto");
    assert!(none.stdout.contains("0 of 2 runs fit into 0.0 s"), "{none}");
    place.run("sweep experiment.yaml");
    let done = place.run("sweep experiment.yaml --estimate");
    assert!(done.stdout.contains("remaining: no runs"), "{done}");
}

const SEARCH: &str = r#"--set sft=null --set matrix={"data.imbalance.keep_desirable":[1.0]} --set train.num_train_epochs=null --set train.max_steps=8 --set search={"settings":{"train.learning_rate":{"log_uniform":[1e-5,1e-1]}},"series":{"kto":{"train.beta":{"choice":[0.1,0.2]}}},"trials":4,"halving":{"rungs":2,"factor":2}}"#;

#[test]
fn a_search_compares_each_series_at_its_own_best() {
    let place = place();
    let plan = place.run(&format!("sweep experiment.yaml --dry-run {SEARCH}"));
    assert!(plan.stdout.contains("\n14 runs over 1 dataset"), "{plan}");
    assert!(
        plan.stdout.contains("then rung 2: 4 runs, of the best 2 trials in each of 2 cells (series and x)"),
        "{plan}"
    );
    assert!(plan.stdout.contains("then the winners again: 2 runs, under fresh seeds (1)"), "{plan}");
    assert!(plan.stdout.contains("all series train for the same optimizer steps and epochs"), "{plan}");
    let estimate = place.run(&format!("sweep experiment.yaml --estimate {SEARCH}"));
    // Eight runs of four steps, four of eight, and two of eight under fresh seeds.
    assert_eq!(
        table(&estimate.stdout, "== Cost of the runs").last().unwrap()[1..3],
        ["14", "80"],
        "{estimate}"
    );

    let sweep = format!("sweep experiment.yaml {SEARCH}");
    let part = place.run(&format!("{sweep} --only method=kto"));
    assert!(part.stderr.contains("7 runs finished, 0 already done, 4 remaining"), "{part}");
    let run = place.run(&sweep);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains("7 runs finished, 7 already done\n"), "{run}");
    assert!(run.stderr.contains(" Each is at its own best of 4 trials, chosen on the other half of the held-out prompts: dpo with train.learning_rate = "), "{run}");
    let json = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&fs_err::read(place.path(&format!("runs/experiment/{file}"))).unwrap())
            .unwrap()
    };
    let (experiment, summary) = (json("experiment.json"), json("summary.json"));
    let trials = summary["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 8, "{summary}");
    for series in ["dpo", "kto"] {
        let of_series: Vec<_> = trials.iter().filter(|trial| trial["series"] == series).collect();
        assert_eq!(of_series.iter().filter(|trial| trial["rung"] == 2).count(), 2);
        // The winner is the best trial of the last rung; the best of each rung are promoted.
        let accuracy = |trial: &serde_json::Value| trial["accuracy"].as_f64().unwrap();
        let last = of_series.iter().filter(|trial| trial["rung"] == 2);
        let best = last.map(|trial| accuracy(trial)).fold(f64::NEG_INFINITY, f64::max);
        let [won] = of_series.iter().filter(|trial| trial["won"] == true).collect::<Vec<_>>()[..] else {
            panic!()
        };
        assert_eq!(accuracy(won), best);
        let compared = experiment["runs"].as_array().unwrap();
        let [run] = compared.iter().filter(|run| run["settings"]["method"] == series).collect::<Vec<_>>()[..]
        else {
            panic!()
        };
        assert_eq!(run["settings"]["train.learning_rate"], won["settings"]["train.learning_rate"]);
        assert_eq!((&run["settings"]["rung"], &run["seed"]), (&serde_json::Value::Null, &1.into()));
    }
    // Of the twelve held-out pairs, some select the trial and the others compare series.
    let pairs = summary["contrasts"][0]["pairs"].as_u64().unwrap();
    assert!((1..12).contains(&pairs), "{summary}");
    assert!(place.path("reports/experiment/tables/trials.csv").exists());
    let page = fs_err::read_to_string(place.path("reports/experiment/index.html")).unwrap();
    assert!(page.contains("Selection accuracy"));
    let again = place.run(&sweep);
    assert!(again.stderr.contains("0 runs finished, 14 already done\n"), "{again}");
    assert_eq!(summary, json("summary.json"));
}

#[test]
fn seeds_can_redraw_the_training_prompts_and_the_sft_stage() {
    let place = place();
    let plan = |settings: &str| place.run(&format!("sweep experiment.yaml --dry-run {settings}"));
    let fixed = plan("--set seeds=[0,1]");
    assert!(fixed.stdout.contains("8 runs over 3 datasets and 1 model; shared stages: 1 SFT"), "{fixed}");
    let resample = |parts: &str| format!(r#"--set seeds={{"values":[0,1],"resample":{parts}}}"#);
    let few = "--set data.select.train_prompts=20";
    let redrawn = plan(&format!("{} {few}", resample(r#"["prompts","sft"]"#)));
    assert!(redrawn.stdout.contains("8 runs over 4 datasets and 1 model; shared stages: 2 SFT"), "{redrawn}");
    // A stage for all seeds trains on prompts of its own draw.
    let prompts = plan(&format!("{} {few}", resample(r#"["prompts"]"#)));
    assert!(prompts.stdout.contains("8 runs over 5 datasets and 1 model; shared stages: 1 SFT"), "{prompts}");
    let nothing = plan(&resample(r#"["prompts"]"#));
    assert!(
        nothing.stderr.contains("so there is nothing to draw: set `data.select.train_prompts`"),
        "{nothing}"
    );
    let without = plan(&format!("--set sft=null {}", resample(r#"["sft"]"#)));
    assert!(without.stderr.contains("the experiment has no `sft`: remove one"), "{without}");
}

#[test]
fn an_invalid_search_is_an_error() {
    let place = place();
    let mistaken = |search: &str| {
        place
            .run(&format!("sweep experiment.yaml --dry-run --set search={search}"))
            .stderr
            .trim_end()
            .to_owned()
    };
    assert_snapshot!(mistaken(r#"{"trials":2}"#), @"error: experiment.yaml: `search` draws nothing: give `settings`");
    assert_snapshot!(mistaken(r#"{"settings":{"train.beta":{"uniform":[0.5,0.1]}},"trials":2}"#), @"error: experiment.yaml: `search`: `train.beta` is uniform [0.5, 0.1]: give two numbers, the smaller first");
    assert_snapshot!(mistaken(r#"{"settings":{"train.beta":{"unifrom":[0.1,0.5]}},"trials":2}"#), @"error: experiment.yaml: `search.settings.train.beta.unifrom`: unknown field `unifrom`, expected one of `choice`, `uniform`, `log_uniform`; did you mean `uniform`?");
    let misspelt = mistaken(r#"{"settings":{"train.bta":{"uniform":[0.1,0.5]}},"trials":2}"#);
    assert!(misspelt.ends_with("did you mean `beta`?"), "{misspelt}");
    assert_snapshot!(mistaken(r#"{"series":{"ipo":{"train.beta":{"uniform":[0.1,0.5]}}},"trials":2}"#), @r#"error: experiment.yaml: `search.series`: `ipo` is not a series; series: ["dpo", "kto"]"#);
    assert_snapshot!(mistaken(r#"{"settings":{"train.beta":{"choice":[0.1,0.5]}},"trials":3}"#), @"error: experiment.yaml: `search.trials` is 3, but dpo has only 2 distinct ones: lower it, or give more values");
    assert_snapshot!(mistaken(r#"{"settings":{"train.beta":{"uniform":[0.1,0.5]}},"trials":4,"halving":{"rungs":4,"factor":3}}"#), @"error: experiment.yaml: `search.halving.rungs` is 4, but only one trial is left before the last rung: lower it, or raise `search.trials`");
}

#[test]
fn a_plan_shows_its_memory_and_does_not_start_if_it_cannot_fit() {
    let place = place();
    let plan = |also: &str| {
        let run = place.run(&format!("sweep experiment.yaml --dry-run {also}"));
        assert_eq!(run.code, Some(0), "{run}");
        table(&run.stdout, "== Memory")
    };
    let alone = plan("");
    let column = |rows: &[Vec<String>], index: usize| -> Vec<String> {
        rows.iter().map(|row| row[index].clone()).collect()
    };
    assert_eq!(column(&alone, 1), ["sft", "dpo", "kto"]);
    assert_eq!(column(&alone, 2), ["1", "1", "1"]);
    let two = plan("--jobs 2");
    assert_eq!(column(&two, 2), ["1", "2", "2"]);
    let bytes = |cell: &str| {
        let (amount, unit) = cell.split_once(' ').unwrap();
        let unit = ["KiB", "MiB", "GiB"].iter().position(|other| *other == unit).unwrap();
        amount.parse::<f64>().unwrap() * [1.0, 1024.0, 1_048_576.0][unit]
    };
    let most = |rows: &[Vec<String>]| bytes(&rows[1][5]);
    // The initial weights are shared.
    let ratio = most(&two) / most(&alone);
    assert!((1.5..2.0).contains(&ratio), "{ratio}");
    assert!(most(&plan("--set train.micro_batch_size=2")) < most(&alone));

    // 10,000 times as wide: 10 TiB of weights, none of which is allocated.
    let wide = "--set model.architecture.hidden_size=160000 --set model.architecture.head_dim=80000 \
                --set model.architecture.intermediate_size=320000 --set model.architecture.num_hidden_layers=4";
    let error = place.run(&format!("sweep experiment.yaml --set sft=null {wide}"));
    assert_eq!(error.code, Some(1), "{error}");
    let (before, after) = error.stderr.split_once(", but this machine has ").unwrap();
    let advice = after.split_once("; ").unwrap().1;
    assert_snapshot!(before, @"error: not enough memory for kto on random: weights, gradients and optimizer state need 17168 GiB");
    assert_snapshot!(advice, @"train an adapter (model.train: lora), quantize frozen weights (model.quantization), or use a smaller model; `prospect plan` shows what fits");
    assert!(!place.path("runs").exists());
}

#[test]
fn every_experiment_is_planned_without_network_and_data() {
    let place = Place::new();
    for folder in ["experiments", "pipelines", "models"] {
        fs_err::create_dir_all(place.path(folder)).unwrap();
        for entry in fs_err::read_dir(repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().display());
            place.write(&name, fs_err::read(&path).unwrap());
        }
    }
    // Any connection fails at once, and would be reported.
    let variables = [("HF_HUB_OFFLINE", "0"), ("HF_ENDPOINT", "http://127.0.0.1:1")];
    for entry in fs_err::read_dir(place.path("experiments")).unwrap() {
        let name = entry.unwrap().file_name().display().to_string();
        let plan = place.run_with(&format!("sweep experiments/{name} --dry-run"), &variables);
        assert_eq!(plan.code, Some(0), "{name}: {plan}");
        if name == "theory.yaml" {
            continue;
        }
        assert!(plan.stdout.contains("== GPU-hours, and memory by card"), "{name}: {plan}");
        let data = plan.stdout.contains("not fetched, counts unknown: hf://");
        // With a number of steps, the completions of a run are known.
        let experiment = fs_err::read_to_string(place.path(&format!("experiments/{name}"))).unwrap();
        let is_known = experiment.contains("max_steps");
        assert!(!data || is_known || plan.stdout.contains("per 100,000 completions"), "{name}: {plan}");
        assert!(!data || plan.stdout.contains("ids above are provisional"), "{name}: {plan}");
        assert_eq!(plan.stderr, "", "{name}");
    }
    let files = "pipelines/hh.yaml models/llama-30b.yaml experiments/scale.yaml";
    let valid = place.run_with(&format!("validate {files}"), &variables);
    assert_eq!(valid.code, Some(0), "{valid}");
}

#[test]
fn a_plan_marks_what_does_not_fit_a_card() {
    let place = Place::new();
    for folder in ["experiments", "pipelines", "models"] {
        fs_err::create_dir_all(place.path(folder)).unwrap();
    }
    for name in ["experiments/scale.yaml", "pipelines/all.yaml"] {
        place.write(name, fs_err::read(repository(name)).unwrap());
    }
    for entry in fs_err::read_dir(repository("models")).unwrap() {
        let path = entry.unwrap().path();
        place.write(&format!("models/{}", path.file_name().unwrap().display()), fs_err::read(&path).unwrap());
    }
    let plan = place.run("sweep experiments/scale.yaml --dry-run");
    // SFT, DPO and KTO of nine models.
    let rows = table(&plan.stdout, "== GPU-hours");
    let rows: Vec<_> = rows.iter().filter(|row| row.len() == 8).collect();
    assert_eq!(rows.len(), 27, "{plan}");
    // Thirty billion weights in bf16 exceed 24 GiB with the settings of the experiment.
    for row in rows.iter().filter(|row| row[0].contains("llama-30b")) {
        assert!(row[5].contains("does not fit") || row[5].contains("blocks recomputed"), "{row:?}");
    }
}

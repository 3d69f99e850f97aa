//! `prospect compare`, from somebody's data to a recommendation.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::{MODEL, Place, Run};

const TASKS: [&str; 5] = ["bake bread", "boil rice", "water plants", "fold shirts", "sharpen knives"];

/// A prompt with a polite and a curt completion.
fn texts(index: usize) -> (String, String, String) {
    let task = TASKS[index % 5];
    (
        format!("How do I {task}, question {index}?"),
        format!("Sure, gladly: {task} slowly."),
        "no idea".to_owned(),
    )
}

/// Pairs in the format of TRL: lists of messages in three columns. One judge in ten prefers the curt
/// completion.
fn trl_pairs(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let (prompt, polite, curt) = texts(index);
        let (chosen, rejected) = if index % 10 == 3 { (curt, polite) } else { (polite, curt) };
        let turn = |role: &str, content: String| json!([{ "role": role, "content": content }]);
        let row = json!({
            "prompt": turn("user", prompt),
            "chosen": turn("assistant", chosen),
            "rejected": turn("assistant", rejected),
        });
        writeln!(text, "{row}").unwrap();
        text
    })
}

/// Thumbs of which a quarter are up; one completion has both labels.
fn thumbs(count: usize) -> String {
    let mut rows: Vec<Value> = (0..count)
        .map(|index| {
            let (prompt, polite, curt) = texts(index);
            let up = index % 4 == 0;
            json!({ "prompt": prompt, "completion": if up { polite } else { curt }, "label": up })
        })
        .collect();
    let mut contradiction = rows[0].clone();
    contradiction["label"] = json!(false);
    rows.push(contradiction);
    rows.iter().fold(String::new(), |mut text, row| {
        writeln!(text, "{row}").unwrap();
        text
    })
}

fn place() -> Place {
    let place = Place::new();
    place.write("model.yaml", MODEL);
    place.write("pairs.jsonl", trl_pairs(150));
    place.write("thumbs.jsonl", thumbs(160));
    place
}

const OPTIONS: &str = "--model model.yaml --max-length 160 --learning-rate 0.003";

/// Lines of a run that do not depend on the speed of the machine.
fn shown(run: &Run) -> String {
    let is_progress = |line: &&str| line.contains(" (steps): ") || line.contains("shared SFT");
    let stderr: Vec<&str> = run.stderr.lines().filter(|line| !is_progress(line)).collect();
    format!("{}\n---\n{}", stderr.join("\n"), run.stdout)
}

#[test]
fn pairs_in_another_tools_format_are_compared_and_continued() {
    let place = place();
    let command = format!("compare pairs.jsonl {OPTIONS} --methods dpo,kto --sft --out mine");
    let first = place.run(&format!("{command} --steps 260"));
    assert_eq!(first.code, Some(0), "{first}");
    insta::assert_snapshot!("compare_pairs", shown(&first));
    // The plan is an experiment like any other.
    for other in ["sweep status mine", "report mine --out again", "validate mine/plan.yaml"] {
        let run = place.run(other);
        assert_eq!(run.code, Some(0), "{run}");
    }
    let plan = fs_err::read(place.path("mine/plan.yaml")).unwrap();
    let runs = || fs_err::read_dir(place.path("mine/runs")).unwrap().count();
    let before = runs();
    // Nothing is left of the budget, so the same plan shows the same result.
    let again = place.run(&command);
    assert_eq!((again.code, &again.stdout), (Some(0), &first.stdout), "{again}");
    assert_eq!(runs(), before);

    let more = place.run(&format!("{command} --steps 200"));
    assert_eq!(more.code, Some(0), "{more}");
    assert!(runs() > before, "{more}");
    assert_eq!(fs_err::read(place.path("mine/plan.yaml")).unwrap(), plan, "the plan stays frozen");
    let record: Value =
        serde_json::from_slice(&fs_err::read(place.path("mine/compare.json")).unwrap()).unwrap();
    let spent: f64 =
        record["looks"].as_array().unwrap().iter().map(|look| look["level"].as_f64().unwrap()).sum();
    assert!(spent < 0.05, "{record}");
    assert_eq!(record["calls"].as_array().unwrap().len(), 2, "{record}");
    let summary: Value =
        serde_json::from_slice(&fs_err::read(place.path("mine/summary.json")).unwrap()).unwrap();
    let recommendation = record["recommendation"].as_str().unwrap();
    assert!(summary["verdict"].as_str().unwrap().starts_with(recommendation), "{summary}");
    assert!(more.stdout.starts_with(recommendation), "{more}");
    let page = fs_err::read_to_string(place.path("mine/report/index.html")).unwrap();
    assert!(page.contains("dpo and kto") || page.contains("Recommendation: "), "{page}");
}

#[test]
fn the_same_steps_give_the_same_plan_and_the_same_result() {
    let place = place();
    let results = ["one", "two"].map(|out| {
        let run = place.run(&format!(
            "compare pairs.jsonl {OPTIONS} --methods kto,bco --steps 160 --batch-size 8 --out {out}"
        ));
        assert_eq!(run.code, Some(0), "{run}");
        let read = |name: &str| fs_err::read_to_string(place.path(out).join(name)).unwrap();
        (read("plan.yaml"), read("compare.json"), run.stdout.replace(out, "out"))
    });
    assert_eq!(results[0].0, results[1].0);
    assert_eq!(results[0].1.replace("one/", "out/"), results[1].1.replace("two/", "out/"));
    assert_eq!(results[0].2, results[1].2);
}

#[test]
fn thumbs_are_compared_by_auc_with_weights_for_the_rare_class() {
    let place = place();
    let planned = place.run(&format!("compare thumbs.jsonl {OPTIONS} --steps 4000 --dry-run"));
    assert_eq!(planned.code, Some(0), "{planned}");
    insta::assert_snapshot!("compare_thumbs_plan", shown(&planned));
    assert!(!place.path("runs").exists(), "a dry run writes nothing");
    let run = place.run(&format!("compare thumbs.jsonl {OPTIONS} --steps 300 --methods kto,csft,sft"));
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stdout.contains("of AUC"), "{run}");
    let compared: Value =
        serde_json::from_slice(&fs_err::read(place.path("runs/compare-thumbs/compare.json")).unwrap())
            .unwrap();
    assert_eq!(compared["methods"][0]["method"], "kto", "{compared}");
    assert_eq!(compared["looks"][0]["results"].as_array().unwrap().len(), 2, "{compared}");
}

#[test]
fn a_clear_difference_ends_in_a_recommendation() {
    let place = place();
    // KTO without class weights fails on feedback with few thumbs up.
    place.write(
        "few.yaml",
        "source: { kind: synthetic, pairs: 600, world: { domains: [home], temperature: 0.4 } }\n\
         imbalance: { keep_desirable: 0.4 }\n\
         split: { test_fraction: 0.3 }\n",
    );
    let command = |steps: u32| {
        format!(
            "compare few.yaml --model model.yaml --max-length 200 --batch-size 8 --learning-rate 0.002 \
             --methods dpo,kto --steps {steps} --out clear --set linked.method.kto={{\"train.objective\":\"kto\"}}"
        )
    };
    let run = place.run(&command(1300));
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stdout.starts_with("Recommendation: dpo. It is better than kto by "), "{run}");
    assert!(run.stdout.contains("Cost: KL of ") && run.stdout.contains("vllm serve "), "{run}");
    let record: Value =
        serde_json::from_slice(&fs_err::read(place.path("clear/compare.json")).unwrap()).unwrap();
    assert_eq!(record["looks"][0]["is_clear"], true, "{record}");
    let more = place.run(&command(500));
    assert!(more.code == Some(0) && more.stderr.contains("is clear already"), "{more}");
    assert_eq!(more.stdout, run.stdout);
}

#[test]
fn a_time_budget_is_measured_once_and_then_frozen() {
    let place = place();
    let run = place.run(&format!(
        "compare pairs.jsonl {OPTIONS} --methods kto,bco --budget 20m --batch-size 8 --dry-run"
    ));
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stderr.contains(" seconds"), "{run}");
    assert!(run.stdout.contains("train.max_steps: "), "{run}");
    assert!(!place.path("runs").exists(), "measuring writes nothing into the comparison");
}

#[test]
fn errors_come_before_any_training() {
    let place = place();
    place.write("up.jsonl", trl_pairs(1).replace("rejected", "other"));
    let errors = [
        "compare pairs.jsonl --model model.yaml --methods dpo,ktoo --steps 500",
        "compare pairs.jsonl --model model.yaml --methods kto --steps 500",
        "compare thumbs.jsonl --model model.yaml --methods kto,dpo --steps 500",
        "compare pairs.jsonl --model model.yaml --steps 20",
        "compare missing.jsonl --model model.yaml --steps 500",
        "compare pairs.jsonl --model missing.yaml --steps 500",
        "compare pairs.jsonl --model model.yaml --steps 500 --set train.bta=1",
        "compare pairs.jsonl --model model.yaml --budget 25",
    ]
    .map(|command| {
        let run = place.run(command);
        assert_ne!(run.code, Some(0), "{run}");
        format!("$ prospect {command}\n{}", run.stderr)
    });
    insta::assert_snapshot!("compare_errors", errors.join("\n"));
    assert!(!place.path("runs").exists());
}

#[test]
fn a_directory_holds_one_comparison() {
    let place = place();
    let command = format!("compare pairs.jsonl {OPTIONS} --batch-size 8 --out mine --steps 160");
    let run = place.run(&format!("{command} --methods kto,bco"));
    assert_eq!(run.code, Some(0), "{run}");
    let other = place.run(&format!("{command} --methods kto,dpo"));
    assert!(other.code == Some(1) && other.stderr.contains("with other arguments"), "{other}");
    let time = place.run(&format!(
        "compare pairs.jsonl {OPTIONS} --batch-size 8 --out mine --methods kto,bco --budget 5m"
    ));
    assert!(time.code == Some(1) && time.stderr.contains("counts steps: continue it with --steps"), "{time}");
    let plan = place.path("mine/plan.yaml");
    let edited = fs_err::read_to_string(&plan).unwrap().replace("train.beta: 0.1", "train.beta: 0.2");
    fs_err::write(&plan, edited).unwrap();
    let changed = place.run(&format!("{command} --methods kto,bco"));
    assert!(changed.code == Some(1) && changed.stderr.contains("the frozen plan was changed"), "{changed}");
}

//! Values that are not finite: a run fails by a stated rule, and the others go on.

use super::*;

/// Two settings, one of which cannot work: what both share, and the two.
fn experiment(shared: &str, train: &str, linked: &str) -> String {
    format!(
        "question: Do the others go on?\ndata: data.yaml\n{shared}\n\
         train: {{ objective: dpo, batch_size: 8, max_length: 160, max_prompt_length: 100, {train} }}\n\
         linked: {{ setting: {{ {linked} }} }}\nmatrix: {{ train.beta: [0.1] }}\nseeds: [0]\n\
         evaluate: {{ pairs: 8 }}\nreport: {{ x: train.beta, series: setting, baseline: good }}\n"
    )
}

/// Runs a sweep in which the runs with `setting = bad` fail for a reason that holds `words`, and
/// returns what it printed.
#[track_caller]
fn assert_one_fails(place: &Place, words: &str) -> String {
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(run.stderr.contains("1 of 2 runs failed"), "{run}");
    assert!(run.stderr.contains("1 runs finished"), "{run}");
    let failed = run.stderr.lines().find(|line| line.starts_with("failed: ")).unwrap_or_default().to_owned();
    assert!(failed.contains("bad") && failed.contains(words), "{run}");
    let page = fs_err::read_to_string(place.path("runs/experiment/report/index.html")).unwrap();
    assert!(page.contains(words), "the report names the reason");
    run.stderr
}

#[test]
fn a_run_that_diverges_at_its_last_step_fails_and_the_others_go_on() {
    let place = place();
    let linked = "good: { train.learning_rate: 1e-3 }, bad: { train.learning_rate: 1e30 }";
    place.write("experiment.yaml", experiment("model: model.yaml", "max_steps: 1", linked));
    let said = assert_one_fails(&place, "step 1: ");
    assert!(said.contains("lower the learning rate"), "{said}");
}

#[test]
fn a_stage_that_diverges_fails_its_runs_and_the_others_go_on() {
    let place = place();
    let shared = "model: model.yaml\nsft: { learning_rate: 1e-3, max_steps: 1, batch_size: 8, max_length: 160, max_prompt_length: 100 }";
    let linked = "good: { sft.learning_rate: 1e-3 }, bad: { sft.learning_rate: 1e30 }";
    place.write("experiment.yaml", experiment(shared, "learning_rate: 1e-3, max_steps: 1", linked));
    let said = assert_one_fails(&place, "SFT stage");
    assert!(said.contains("lower the learning rate"), "{said}");
    // The runs of the stage are not retried unless asked to.
    let again = place.run("sweep experiment.yaml");
    assert!(again.stderr.contains("1 failed in an earlier call"), "{again}");
}

#[test]
fn weights_that_are_not_finite_are_named_before_the_first_step() {
    let place = place();
    assert_eq!(place.run("sweep experiment.yaml --out made/sweep").code, Some(0));
    let runs = fs_err::read_dir(place.path("made/sweep/runs")).unwrap().map(|run| run.unwrap().path());
    let model = runs.map(|run| run.join("model")).find(|model| model.exists()).unwrap();
    copy(&model, &place.path("nan"));
    let weights = place.path("nan/model.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    let middle = bytes.len() / 2 / 4 * 4;
    let end = middle + 64;
    for value in bytes[middle..end].chunks_exact_mut(4) {
        value.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    fs_err::write(&weights, bytes).unwrap();
    fs_err::remove_file(place.path("nan/BLAKE3SUMS")).unwrap();
    place.write("nan.yaml", "weights: nan\ntrain: full\n");
    let linked = "good: { model: model.yaml }, bad: { model: nan.yaml }";
    place.write(
        "experiment.yaml",
        experiment("model: model.yaml", "learning_rate: 1e-3, max_steps: 1", linked),
    );
    let said = assert_one_fails(&place, "step 0: ");
    assert!(said.contains("weights that the run starts from"), "{said}");
}

#[test]
fn scores_that_are_not_finite_never_become_labels() {
    let place = Place::new();
    place.write(
        "scores.csv",
        "prompt,completion,score\na,x,NaN\nb,y,inf\nc,z,0.5\nd,w,-1\ne,v,1e999\nf,u,\ng,t,nan\n",
    );
    let run = place
        .run("prepare scores.csv --out data --set source.binarise.by=threshold --set source.binarise.at=0 --set max_rejected=1");
    assert_eq!(run.code, Some(0), "{run}");
    // As in pandas, NaN is a missing score. An infinity is no score.
    assert!(run.stderr.contains("kept completion_without_score: 2"), "{run}");
    assert!(run.stderr.contains("rejected wrong_type: 2"), "{run}");
    let rejected = fs_err::read_to_string(place.path("data/rejected.jsonl")).unwrap();
    for line in [3, 6] {
        assert!(rejected.contains(&format!("\"line\":{line},")), "{rejected}");
    }
    assert!(
        run.stderr.lines().any(|line| line.split_whitespace().eq(["train", "2", "0", "1", "1"])),
        "{run}"
    );
    place.write("scores.jsonl", "{\"prompt\": \"a\", \"completion\": \"x\", \"score\": 1e999}\n{\"prompt\": \"b\", \"completion\": \"y\", \"score\": 1}\n");
    let run = place.run(
        "prepare scores.jsonl --out lines --set source.binarise.by=threshold --set source.binarise.at=0 --set max_rejected=1",
    );
    assert!(run.stderr.contains("rejected not_json: 1"), "{run}");
}

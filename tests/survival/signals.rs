//! Ctrl-C and SIGTERM: the step ends, a checkpoint is written, and one line says how to go on.

use super::*;
use crate::sharing::{running, signal, steps_below, until};

/// A long run without checkpoints of its own.
fn long_place() -> Place {
    let place = place();
    let text = EXPERIMENT.replace("max_steps: 6", "max_steps: 300");
    let text = text.replace(", every: 3, generations: { prompts: 2, max_new_tokens: 8, every: 2 }", "");
    place.write("experiment.yaml", text.replace("checkpoints: { every: 2 }", "checkpoints: { every: 1000 }"));
    place
}

/// Steps of the checkpoints in a sweep.
fn checkpoints(place: &Place) -> Vec<String> {
    let runs = fs_err::read_dir(place.path("runs/experiment/runs")).into_iter().flatten().flatten();
    let folders = runs.map(|run| run.path().join("checkpoints")).filter(|folder| folder.exists());
    let files = folders.flat_map(|folder| fs_err::read_dir(folder).unwrap());
    files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn trained_steps(place: &Place) -> usize {
    let runs = fs_err::read_dir(place.path("runs/experiment/runs")).into_iter().flatten().flatten();
    let metrics =
        runs.map(|run| fs_err::read_to_string(run.path().join("metrics.jsonl")).unwrap_or_default());
    metrics.filter(|text| text.contains("eval_")).map(|text| text.matches("\"train\"").count()).sum()
}

#[test]
fn an_interrupted_sweep_writes_a_checkpoint_and_continues() {
    let undisturbed = long_place();
    let command = "sweep experiment.yaml --jobs 1";
    let run = undisturbed.run(command);
    assert_eq!(run.code, Some(0), "{run}");
    let expected = files(&undisturbed.path(""));
    for (name, code, called) in [("TERM", 143, "SIGTERM"), ("INT", 130, "Ctrl-C")] {
        let place = long_place();
        let child = start(&place, command, &[]);
        until("some steps", || trained_steps(&place) > 5);
        signal(name, child.id());
        let (ended, said) = end_within(child, Duration::from_mins(1));
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(&format!("{called}: finishing the step and writing a checkpoint")), "{said}");
        let advice = format!("interrupted by {called}; the same command continues: prospect {command}\n");
        assert!(said.ends_with(&advice), "{said}");
        let saved = checkpoints(&place);
        assert_eq!(saved.len(), 1, "{saved:?}");
        assert!(temporaries(&place.path("")).is_empty());
        assert!(running(&place, "runs/experiment").is_empty(), "the claim is released");
        let before = trained_steps(&place);
        let run = place.run(command);
        assert_eq!(run.code, Some(0), "{run}");
        assert!(trained_steps(&place) > before);
        assert_same(&expected, &place, name);
    }
}

#[test]
fn interrupted_training_and_comparisons_continue_to_the_same_files() {
    const COMMANDS: [&str; 2] = [
        "train data.yaml --model model.yaml --max-length 160 --batch-size 8 --set train.max_steps=200",
        "compare pairs.jsonl --model model.yaml --max-length 160 --learning-rate 0.003 --methods dpo,kto --steps 160 \
         --batch-size 8",
    ];
    for command in COMMANDS {
        let [undisturbed, place] = [place(), place()];
        kill::with_few_pairs(&undisturbed);
        kill::with_few_pairs(&place);
        let run = undisturbed.run(command);
        assert_eq!(run.code, Some(0), "{run}");
        let child = start(&place, command, &[]);
        until("some steps", || steps_below(&place.path("")) > 5);
        signal("TERM", child.id());
        let (ended, said) = end_within(child, Duration::from_mins(1));
        assert_eq!(ended, Some(143), "{said}");
        let advice = format!("interrupted by SIGTERM; the same command continues: prospect {command}\n");
        assert!(said.ends_with(&advice), "{said}");
        assert!(temporaries(&place.path("")).is_empty(), "{command}");
        let run = place.run(command);
        assert_eq!(run.code, Some(0), "{run}");
        assert_same(&files(&undisturbed.path("")), &place, command);
    }
}

#[test]
fn an_interrupted_report_ends_at_once_and_stays_whole() {
    let place = soak::swept(500);
    let since = Instant::now();
    let run = place.run("report experiment");
    assert_eq!(run.code, Some(0), "{run}");
    let took = since.elapsed();
    let expected = files(&place.path(""));
    let mut interrupted = 0;
    for (name, code, tenths) in [("TERM", 143, 1), ("INT", 130, 3), ("TERM", 143, 5), ("TERM", 143, 7)] {
        // Over the earlier report, and where there is none.
        for fresh in [false, true] {
            if fresh {
                fs_err::remove_dir_all(place.path("runs/experiment/report")).unwrap();
            }
            let child = start(&place, "report experiment", &[]);
            std::thread::sleep(took * tenths / 10);
            signal(name, child.id());
            let (ended, said) = end_within(child, Duration::from_secs(20));
            // A report that ended all the same is whole.
            if ended != Some(0) {
                assert_eq!(ended, Some(code), "{said}");
                assert!(
                    said.ends_with("; the same command continues: prospect report experiment\n"),
                    "{said}"
                );
                interrupted += 1;
            }
            assert!(temporaries(&place.path("")).is_empty(), "{:?}", temporaries(&place.path("")));
            let run = place.run("report experiment");
            assert_eq!(run.code, Some(0), "{run}");
            assert_same(&expected, &place, &format!("{name} after {tenths} tenths, fresh: {fresh}"));
        }
    }
    assert!(interrupted > 2, "{interrupted}");
}

#[test]
fn commands_without_checkpoints_end_at_once_and_leave_nothing_half_written() {
    // A judge whose endpoint never answers, and commands on much data.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", silent.local_addr().unwrap());
    let place = place();
    assert_eq!(place.run("sweep experiment.yaml").code, Some(0));
    let swept = files(&place.path("runs"));
    let feedback = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n".repeat(400_000);
    place.write("pairs.jsonl", feedback);
    place.write("recipe.yaml", "source: { kind: pairs, path: pairs.jsonl }\n");
    let judge = format!("judge experiment --endpoint {address} --model silent");
    for (command, name, code) in [
        ("prepare recipe.yaml", "TERM", 143),
        ("prepare recipe.yaml", "INT", 130),
        (judge.as_str(), "TERM", 143),
    ] {
        let child = start(&place, command, &[("NO_PROXY", "127.0.0.1".to_owned())]);
        std::thread::sleep(Duration::from_millis(400));
        signal(name, child.id());
        let (ended, said) = end_within(child, Duration::from_secs(20));
        assert_eq!(ended, Some(code), "{command}: {said}");
        assert!(said.contains("; the same command continues: prospect "), "{command}: {said}");
        assert!(temporaries(&place.path("")).is_empty(), "{command}");
        assert!(!place.path("data/recipe").exists(), "{command}");
    }
    let after = files(&place.path("runs"));
    let changed = swept.iter().filter(|(name, bytes)| after.get(*name) != Some(bytes));
    let changed: Vec<&String> = changed.map(|(name, _)| name).collect();
    assert!(changed.is_empty(), "the sweep is as before: {changed:?}");
}

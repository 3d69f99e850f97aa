//! Ranks whose GPUs communicate through NCCL, on the emulated machine (`scripts/emulate.sh`).

mod needs_emulator {
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use crate::{
        group::{end, place, results, start, until_checkpoint},
        support::{Place, Run},
    };

    const TRAIN: &str = "train data.yaml --model lora.yaml --batch-size 8 --max-length 160 \
                         --set train.micro_batch_size=2 --set train.max_steps=4";

    /// Sums a counter over the sections of the record of a rank's machine.
    fn count(place: &Place, rank: usize, name: &str) -> u64 {
        let file = if rank == 0 { "record.json".to_owned() } else { format!("record.json.{rank}") };
        let record: Value = serde_json::from_slice(&fs_err::read(place.path(&file)).unwrap()).unwrap();
        let sections = record["sections"].as_array().unwrap().iter();
        sections.map(|section| section[name].as_u64().unwrap_or_else(|| panic!("no {name}"))).sum()
    }

    /// Returns the values of all lines of `metrics.jsonl` of the only run of a sweep.
    fn metrics(place: &Place, sweep: &str) -> Vec<(String, f64)> {
        let files = results(place, sweep);
        let (_, bytes) = files.iter().find(|(name, _)| name.ends_with("metrics.jsonl")).unwrap();
        let mut values = Vec::new();
        for (index, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
            let line: Value = serde_json::from_str(line).unwrap();
            for (name, value) in line.as_object().unwrap() {
                values.extend(value.as_f64().map(|value| (format!("{index} {name}"), value)));
            }
        }
        values
    }

    /// Runs a command on two ranks with a record, and returns rank 0's output.
    fn on_two_ranks(place: &Place, args: &str) -> Run {
        let record = place.path("record.json");
        let mut ranks =
            start(place, args, 2, &[("EMULATED_CUDA_RECORD", record.to_str().unwrap())]).into_iter().map(end);
        let first = ranks.next().unwrap();
        for run in ranks {
            assert_eq!(run.code, Some(0), "{run}\nrank 0: {first}");
        }
        assert_eq!(first.code, Some(0), "{first}");
        first
    }

    #[test]
    #[ignore = "needs scripts/emulate.sh"]
    fn ranks_equal_one_rank() {
        let place = place();
        let full = " --set model.lora=null --set model.train=full";
        for (name, model) in [("lora", ""), ("full", full)] {
            let one = place.run(&format!("{TRAIN}{model} --out runs/{name}"));
            assert_eq!(one.code, Some(0), "{one}");
            let alone = metrics(&place, &format!("runs/{name}"));
            assert!(alone.iter().filter(|(name, _)| name.ends_with("grad_norm")).count() == 4, "{alone:?}");
            for (index, option) in ["", "--shard", "--shard=3"].into_iter().enumerate() {
                let sweep = format!("runs/{name}-{index}");
                on_two_ranks(&place, &format!("{TRAIN}{model} --out {sweep} {option}"));
                let together = metrics(&place, &sweep);
                assert_eq!(alone.len(), together.len(), "{sweep}");
                for ((name, one), (_, two)) in alone.iter().zip(&together) {
                    assert!((one - two).abs() < 1e-3 * (1.0 + one.abs()), "{sweep}: {name}: {one} {two}");
                }
                for rank in 0..2 {
                    let count = |counter: &str| count(&place, rank, counter);
                    let what = format!("{sweep}, rank {rank}");
                    // Adapters and whole gradients are summed in one bucket per step.
                    let shards_state = model == full && !option.is_empty();
                    assert_eq!(count("all_reduces"), if shards_state { 0 } else { 4 }, "{what}");
                    assert_eq!(count("reduce_scatters") > 0, shards_state, "{what}");
                    assert_eq!(count("all_gathers") > 0, !option.is_empty(), "{what}");
                    // Blocks compute while the next one is gathered. In full training, those of the
                    // policy are sharded in stage 3 only.
                    let gathers_blocks = !option.is_empty() && (model.is_empty() || option == "--shard=3");
                    assert!(!gathers_blocks || count("meanwhile") > 0, "{what}");
                    assert_eq!((count("finalised"), count("aborted")), (1, 0), "{what}");
                }
            }
        }
    }

    /// One allocation fails, of one rank. In a step, the step is repeated, or its update goes on;
    /// elsewhere, the run ends with the reason. Ranks never wait for each other forever.
    #[test]
    #[ignore = "needs scripts/emulate.sh"]
    fn an_allocation_that_fails_changes_no_result() {
        let place = place();
        let full = " --set model.lora=null --set model.train=full";
        for (name, ranks, model) in [
            ("one", 1, ""),
            ("one-full", 1, full),
            ("lora", 2, ""),
            ("lora-2", 2, " --shard"),
            ("full", 2, full),
            ("full-2", 2, &format!("{full} --shard")),
            ("full-3", 2, &format!("{full} --shard=3")),
        ] {
            let args = |sweep: &str| format!("{TRAIN}{model} --out runs/{sweep}");
            let record = place.path("record.json");
            let counted = [("EMULATED_CUDA_RECORD", record.to_str().unwrap())];
            let runs = |sweep: &str, variables: &[(&str, &str)]| -> Vec<Run> {
                start(&place, &args(sweep), ranks, variables).into_iter().map(end).collect()
            };
            for run in runs(name, &counted) {
                assert_eq!(run.code, Some(0), "{run}");
            }
            let last = ranks - 1;
            let allocations = count(&place, last, "allocations");
            let whole = metrics(&place, &format!("runs/{name}"));
            let (mut repeated, mut completed) = (0, 0);
            // A run loads a model first and evaluates last.
            for eighth in 2..=6 {
                // Another part of the step each time.
                let nth = allocations * eighth / 8 + 7 * eighth;
                let (sweep, fail) = (format!("{name}-{nth}"), format!("{nth}@{last}"));
                let runs = runs(&sweep, &[("EMULATED_CUDA_FAIL", &fail)]);
                if runs.iter().any(|run| run.code != Some(0)) {
                    let reasons = runs.iter().filter(|run| run.stderr.contains("OUT_OF_MEMORY"));
                    assert_eq!(reasons.count(), 1, "{sweep}: {}\n{}", runs[0], runs[last]);
                    continue;
                }
                completed += 1;
                let (retries, found): (Vec<_>, Vec<_>) = metrics(&place, &format!("runs/{sweep}"))
                    .into_iter()
                    .partition(|(name, _)| name.contains(" memory/"));
                repeated += u64::from(!retries.is_empty());
                assert_eq!(whole.len(), found.len(), "{sweep}");
                for ((name, expected), (_, found)) in whole.iter().zip(&found) {
                    assert!(
                        (expected - found).abs() < 1e-3 * (1.0 + expected.abs()),
                        "{sweep}: {name}: {expected} {found}"
                    );
                }
            }
            assert!(
                completed > 2 && repeated > 0,
                "{name}: {completed} completed, {repeated} repeated a step"
            );
        }
    }

    #[test]
    #[ignore = "needs scripts/emulate.sh"]
    fn a_killed_rank_ends_the_others() {
        let place = place();
        let record = place.path("record.json");
        let sweep = "sweep experiment.yaml --set sft=null --set train.max_steps=200 --set evaluate.every=null \
                     --out runs/killed --shard";
        let mut ranks = start(&place, sweep, 2, &[("EMULATED_CUDA_RECORD", record.to_str().unwrap())]);
        until_checkpoint(&place, "runs/killed");
        ranks[1].kill().unwrap();
        let when = Instant::now();
        let left = end(ranks.remove(0));
        assert!(when.elapsed() < Duration::from_secs(30), "{left}");
        assert_eq!(left.code, Some(1), "{left}");
        assert!(left.stderr.contains("lost rank 1"), "{left}");
        assert_eq!((count(&place, 0, "aborted"), count(&place, 0, "finalised")), (1, 0), "{left}");
        ranks[0].wait().unwrap();
    }
}

//! Ranks that train each run together, started as a launcher does.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use insta::assert_snapshot;

use crate::{
    support::{Place, Run},
    sweep::{self, assert_same},
};

/// An SFT stage, two methods, evaluations and generations; two micro-batches per step.
const EXPERIMENT: &str = "\
question: Do ranks together do what one does?
data: data.yaml
model: lora.yaml
sft: { learning_rate: 3e-3, max_steps: 6, batch_size: 8, micro_batch_size: 4, max_length: 160, max_prompt_length: 100 }
train: { learning_rate: 1e-3, max_steps: 6, batch_size: 8, micro_batch_size: 4, max_length: 160, max_prompt_length: 100 }
linked:
  method:
    dpo: { train.objective: dpo }
    kto: { train.objective: kto, train.desirable_weight: auto }
matrix: { data.imbalance.keep_desirable: [0.5] }
seeds: [0]
evaluate: { every: 4, pairs: 6, generations: { prompts: 2, max_new_tokens: 4 } }
checkpoints: { every: 2 }
report: { x: data.imbalance.keep_desirable, series: method, baseline: dpo }
";

const MODEL: &str = "\
weights: random
tokenizer: bytes
lora: { r: 4, alpha: 8 }
architecture: { vocab_size: 258, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2,
  num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 256 }
";

pub(crate) fn place() -> Place {
    let place = Place::with(EXPERIMENT);
    place.write("lora.yaml", MODEL);
    place
}

/// Reads every file below `sweep/runs` that has no times, with the name of the sweep masked.
pub(crate) fn results(place: &Place, sweep: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = sweep::results(place, sweep);
    found.retain(|name, _| !name.ends_with("adapter/BLAKE3SUMS"));
    // An adapter names its base weights, which are those of the sweep's SFT stage.
    for (_, bytes) in found.iter_mut().filter(|(name, _)| name.ends_with("adapter_config.json")) {
        *bytes = String::from_utf8_lossy(bytes).replace(sweep, "[sweep]").into_bytes();
    }
    found
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts `size` ranks of a command, as torchrun does, with more environment variables.
pub(crate) fn start(place: &Place, args: &str, size: usize, more: &[(&str, &str)]) -> Vec<Child> {
    let port = free_port().to_string();
    let variables = [&[("MASTER_PORT", port.as_str())], more].concat();
    (0..size).map(|rank| spawn(place.command(args), rank, size, &variables)).collect()
}

fn spawn(mut command: Command, rank: usize, size: usize, more: &[(&str, &str)]) -> Child {
    let [rank, size] = [rank, size].map(|number| number.to_string());
    command.envs([("RANK", &rank), ("WORLD_SIZE", &size), ("LOCAL_RANK", &rank)]);
    command.env("MASTER_ADDR", "127.0.0.1").envs(more.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn end(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a command on `size` ranks to its end. Rank 0 prints what a single process prints, the
/// others print nothing.
fn run_on_ranks(place: &Place, args: &str, size: usize) -> Run {
    let mut runs = start(place, args, size, &[]).into_iter().map(end);
    let first = runs.next().unwrap();
    assert_eq!(first.code, Some(0), "{first}");
    for other in runs {
        assert_eq!(other.code, Some(0), "{other}");
        assert_eq!((other.stdout.as_str(), other.stderr.as_str()), ("", ""));
    }
    first
}

#[test]
fn ranks_give_the_results_of_one_process_bit_for_bit() {
    let place = place();
    let alone = place.run("sweep experiment.yaml --out runs/alone");
    assert_eq!(alone.code, Some(0), "{alone}");
    let expected = results(&place, "runs/alone");
    assert!(expected.keys().any(|name| name.ends_with("generations.jsonl")));
    let two = run_on_ranks(&place, "sweep experiment.yaml --out runs/two", 2);
    assert_same(&expected, &results(&place, "runs/two"));
    assert!(!two.stderr.contains("warning"), "{two}");
    // All ranks agree that no runs remain.
    let again = run_on_ranks(&place, "sweep experiment.yaml --out runs/two", 2);
    assert!(again.stderr.contains("2 already done"), "{again}");

    // Three ranks for two micro-batches: one is idle. The weights are sharded.
    let three = run_on_ranks(&place, "sweep experiment.yaml --out runs/three --shard=3", 3);
    assert_same(&expected, &results(&place, "runs/three"));
    assert!(three.stderr.contains("a batch has 2 micro-batches for 3 ranks"), "{three}");
    assert!(three.stderr.contains("warning: --shard=3 shards no more than --shard"), "{three}");
}

#[test]
fn ranks_are_started_by_the_command_itself() {
    let place = place();
    let train = "train data.yaml --model lora.yaml --objective dpo --batch-size 8 --max-length 160 \
                 --set train.micro_batch_size=4 --set train.max_steps=4";
    let alone = place.run(&format!("{train} --out runs/alone"));
    assert_eq!(alone.code, Some(0), "{alone}");
    let two = place.run(&format!("{train} --out runs/two --ranks 2 --shard"));
    assert_eq!(two.code, Some(0), "{two}");
    // Only rank 0 prints.
    assert_eq!(two.stdout.replace("two", "alone"), alone.stdout);
    // Two ranks need less memory each.
    let forecast = |run: &Run| {
        let (forecast, other): (Vec<String>, Vec<String>) =
            run.stderr.lines().map(str::to_owned).partition(|line| line.starts_with("to train: 1 run: "));
        assert_eq!(forecast.len(), 1, "{run}");
        other
    };
    assert_eq!(forecast(&two), forecast(&alone));
    assert_same(&results(&place, "runs/alone"), &results(&place, "runs/two"));
}

#[test]
fn sharding_trained_weights_changes_no_file() {
    let place = place();
    place.write("lora.yaml", MODEL.replace("lora: { r: 4, alpha: 8 }", "train: full"));
    // Rank 0 evaluates, generates and writes models alone, while the other sends its shards.
    for option in ["--shard", "--shard=3"] {
        let run = place.run(&format!("sweep experiment.yaml --out runs/{option} --ranks 2 {option}"));
        assert_eq!(run.code, Some(0), "{run}");
    }
    let expected = results(&place, "runs/--shard");
    assert!(expected.keys().any(|name| name.ends_with("model/model.safetensors")));
    assert_same(&expected, &results(&place, "runs/--shard=3"));
}

/// Waits until a run below `sweep` has written a checkpoint.
pub(crate) fn until_checkpoint(place: &Place, sweep: &str) {
    let started = Instant::now();
    loop {
        let runs = fs_err::read_dir(place.path(sweep).join("runs")).into_iter().flatten();
        let mut folders = runs.map(|run| run.unwrap().path().join("checkpoints"));
        if folders.any(|folder| fs_err::read_dir(folder).is_ok_and(|mut files| files.next().is_some())) {
            return;
        }
        assert!(started.elapsed() < Duration::from_mins(2), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_rank_ends_all_and_the_same_command_resumes() {
    let place = place();
    let sweep = |out: &str| {
        format!(
            "sweep experiment.yaml --set sft=null --set train.max_steps=40 --set evaluate.every=null --out {out}"
        )
    };
    assert_eq!(place.run(&sweep("runs/alone")).code, Some(0));
    let expected = results(&place, "runs/alone");
    for (killed, shard) in [(1, ""), (0, " --shard")] {
        let out = format!("runs/killed-{killed}");
        let command = sweep(&out) + shard;
        let mut ranks = start(&place, &command, 2, &[]);
        until_checkpoint(&place, &out);
        ranks[killed].kill().unwrap();
        let when = Instant::now();
        let ended: Vec<Run> = ranks.into_iter().map(end).collect();
        let left = &ended[1 - killed];
        assert!(when.elapsed() < Duration::from_secs(30), "{left}");
        assert_eq!(left.code, Some(1), "{left}");
        assert!(left.stderr.contains(&format!("lost rank {killed}")), "{left}");
        assert!(
            left.stderr.contains("run the same command again to resume from the last checkpoint"),
            "{left}"
        );
        assert_ne!(results(&place, &out), expected, "the rank was killed after its work was done");
        run_on_ranks(&place, &command, 2);
        assert_same(&expected, &results(&place, &out));
    }
}

#[test]
fn invalid_groups_are_errors() {
    let place = place();
    let train = "train data.yaml --model lora.yaml --batch-size 8 --set train.max_steps=2";
    let alone = |args: &str, variables: &[(&str, &str)]| place.run_with(args, variables);
    let said = [
        alone(train, &[("RANK", "0"), ("WORLD_SIZE", "2")]),
        alone(train, &[("RANK", "0")]),
        // An address reserved for documentation, so not one of this machine.
        alone(
            train,
            &[("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "192.0.2.1"), ("MASTER_PORT", "29500")],
        ),
        alone(&format!("{train} --shard"), &[]),
        alone("sweep experiment.yaml --dry-run --ranks 2", &[]),
    ];
    let said: Vec<String> = said
        .iter()
        .map(|run| {
            assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run}");
            run.stderr.clone()
        })
        .collect();
    assert_snapshot!(said.concat(), @r"
    error: WORLD_SIZE is 2, but MASTER_ADDR or MASTER_PORT is not set: torchrun sets them; under srun, set them to the host of rank 0 and a free port
    error: RANK is 0, but WORLD_SIZE is not set: set both or neither
    error: rank 0 cannot form a group of 2 ranks at 192.0.2.1:29500 (MASTER_ADDR, MASTER_PORT): Cannot assign requested address (os error 99)
    error: --shard has no effect on one rank: add --ranks N, or start the command with torchrun or srun
    error: --dry-run runs in one process: remove --ranks and --shard, and start it without a launcher
    ");

    // Rank 1 never joins, or rank 0 never listens.
    let port = free_port().to_string();
    let variables = [("MASTER_PORT", port.as_str()), ("PROSPECT_GROUP_WAIT", "1")];
    for (rank, expected) in
        [(0, "rank 1 did not join within 1 s"), (1, "rank 1 cannot reach rank 0 at 127.0.0.1:")]
    {
        let run = end(spawn(place.command(train), rank, 2, &variables));
        assert_eq!(run.code, Some(1), "{run}");
        assert!(run.stderr.contains(expected), "{run}");
    }

    // Ranks with different runs.
    let port = free_port().to_string();
    let other = format!("{train} --seed 1");
    let ranks = [train, &other]
        .into_iter()
        .enumerate()
        .map(|(rank, args)| spawn(place.command(args), rank, 2, &[("MASTER_PORT", &port)]));
    for run in ranks.collect::<Vec<_>>().into_iter().map(end) {
        assert_eq!(run.code, Some(1), "{run}");
        assert!(run.stderr.contains("rank 1 is out of step"), "{run}");
    }
    let run = place.run("sweep experiment.yaml --jobs 2 --ranks 2 --out runs/jobs");
    assert!(run.code == Some(1) && run.stderr.contains("leave one of them out"), "{run}");
}

#[test]
fn full_training_shards_its_state() {
    let place = place();
    let train = "train data.yaml --model lora.yaml --batch-size 8 --set train.max_steps=2 --set model.lora=null --set model.train=full";
    let one = place.run(&format!("{train} --out runs/one"));
    let two = place.run(&format!("{train} --out runs/two --ranks 2 --shard"));
    assert_eq!((one.code, two.code), (Some(0), Some(0)), "{one}\n{two}");
    let result = |run: &Run| run.stderr.lines().find(|line| line.starts_with("kto: ")).map(str::to_owned);
    assert!(result(&one).is_some() && result(&one) == result(&two), "{one}\n{two}");
}

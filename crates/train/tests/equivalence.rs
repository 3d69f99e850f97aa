//! Equivalence of training runs. Micro-batch size, activation recomputation, a warm cache, resuming
//! and the number of ranks must not change the numbers; the scope of KTO's reference point and
//! humanline clamping must.

// Test helpers may panic.
#![allow(clippy::unwrap_used)]

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use candle_core::{DType, Tensor};
use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_dist::{
    Collective, CollectiveError, DeviceCollective, PreparedGather, PreparedSum, ProcessGroup, Shard,
    SingleProcess, ThreadRank, ZeroStage, on_threads,
};
use prospect_model::{Activations, LoraConfig, Model, ModelFile, Train};
use prospect_runs::MetricsRecord;
use prospect_testkit::flipped;
use prospect_train::{
    Checkpoints, Encoder, Length, Observer, Policy, ReferenceCache, Settings, StopReason, TrainContext,
    TrainError, TrainFile, TrainedPolicy, TrainingSet, train,
};

/// Collects the metrics of a run, and stops it after step `stop_after`.
#[derive(Default)]
struct Records {
    records: Vec<MetricsRecord>,
    stop_after: Option<u64>,
}

impl Observer for Records {
    fn on_step_end(
        &mut self,
        step: u64,
        _: u64,
        _: &Policy<'_>,
        _: &ReferenceCache,
    ) -> Result<ControlFlow<StopReason>, TrainError> {
        Ok(if self.stop_after == Some(step) {
            ControlFlow::Break(StopReason::TakenOver)
        } else {
            ControlFlow::Continue(())
        })
    }

    fn on_log(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        self.records.push(record);
        Ok(())
    }
}

fn dataset(folder: &Path) {
    let text = "source: {kind: synthetic, pairs: 80}\nimbalance: {keep_desirable: 0.5}";
    let recipe: PipelineFile = Document::from_text("data.yaml", text).unwrap().read().unwrap();
    prospect_data::prepare(&recipe.resolve(&|path| Ok(path.into())).unwrap(), folder).unwrap();
}

fn model(member: &ProcessGroup, dtype: &str) -> Model {
    let text = "weights: random\ntokenizer: bytes\ndtype: DTYPE\narchitecture: {vocab_size: 258, hidden_size: 16,
      intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8,
      max_position_embeddings: 256}";
    let recipe: ModelFile =
        Document::from_text("model.yaml", &text.replace("DTYPE", dtype)).unwrap().read().unwrap();
    recipe.resolve(&|path| Ok(path.into())).unwrap().load_as(member).unwrap()
}

/// Settings for 20 steps of `batch` completions; `objective` may contain further lines.
fn settings(objective: &str, batch: usize, micro: usize) -> Settings {
    let text = format!(
        "learning_rate: 1e-3\nmax_steps: 20\nbatch_size: {batch}\nmicro_batch_size: {micro}\nmax_length: 160
max_prompt_length: 100\nobjective: {objective}"
    );
    Document::from_text("train.yaml", &text).unwrap().read::<TrainFile>().unwrap().resolve().unwrap()
}

/// Options of a run, in addition to its settings.
struct RunOptions<'a> {
    dtype: &'a str,
    kind: Train,
    activations: Activations,
    cache: &'a str,
    checkpoints: Option<&'a Checkpoints>,
    member: ProcessGroup,
}

impl<'a> RunOptions<'a> {
    fn new(kind: Train, activations: Activations, cache: &'a str) -> Self {
        Self { dtype: "f32", kind, activations, cache, checkpoints: None, member: ProcessGroup::default() }
    }
}

/// Trains and returns the metrics of every step.
fn trajectory(
    folder: &Path,
    settings: &Settings,
    kind: Train,
    activations: Activations,
    cache: &str,
) -> Vec<MetricsRecord> {
    let mut records = Records::default();
    run(folder, settings, RunOptions::new(kind, activations, cache), &mut records).unwrap();
    records.records
}

fn run(
    folder: &Path,
    settings: &Settings,
    options: RunOptions<'_>,
    records: &mut Records,
) -> Result<TrainedPolicy, TrainError> {
    let RunOptions { dtype, kind, activations, cache, checkpoints, member } = options;
    let model = model(&member, dtype);
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    let examples = TrainingSet::read(&folder.join("data"), &settings.objective, &encoder).unwrap();
    let context = TrainContext {
        model: &model,
        train: kind,
        activations,
        settings,
        examples: &examples,
        encoder: &encoder,
        seed: 1,
        checkpoints,
        zero: member.zero(),
        group: &*member.collective,
    };
    let cache = ReferenceCache::new(&folder.join(cache));
    let outcome = train(&context, &cache, records);
    cache.save().unwrap();
    outcome?.into_policy()
}

/// Trained weights, flattened.
fn weights(trained: &TrainedPolicy) -> Vec<Vec<f32>> {
    weights_on_ranks(trained, &SingleProcess)
}

/// Returns whole weights, which all ranks gather if they are sharded.
fn weights_on_ranks(trained: &TrainedPolicy, group: &dyn Collective) -> Vec<Vec<f32>> {
    let flat = |parameter: &prospect_model::Parameter| {
        parameter.whole(group)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    };
    trained.policy.parameters().iter().map(|(_, parameter)| flat(parameter).unwrap()).collect()
}

fn assert_close(what: &str, a: &[MetricsRecord], b: &[MetricsRecord]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        // Splitting a batch runs shared prompts more than once, so only the token count may differ.
        for (name, value) in a.values.iter().filter(|(name, _)| *name != "num_tokens") {
            let other = b.values[name];
            assert!(
                (value - other).abs() < 2e-4 * (1.0 + value.abs()),
                "{what}, step {}: {name} {value} {other}",
                a.step
            );
        }
    }
}

const LORA: Train = Train::Lora(LoraConfig { r: 4, alpha: 8.0 });

/// Asserts that micro-batches of 32, 8 and 1 examples give one trajectory; an example has
/// `completions` completions.
fn assert_micro_batch_size_does_not_matter(
    folder: &Path,
    objective: &str,
    kind: Train,
    completions: usize,
    steps: u64,
) -> Vec<MetricsRecord> {
    let run = |micro| {
        let settings = settings(objective, 32 * completions, micro * completions);
        let settings = Settings { length: Length::Steps(steps), ..settings };
        trajectory(folder, &settings, kind, Activations::Keep, "cache")
    };
    let whole = run(32);
    assert_eq!(whole.len() as u64, steps);
    for micro in [8, 1] {
        assert_close(&format!("{objective} {micro}"), &whole, &run(micro));
    }
    whole
}

#[test]
fn accumulation_gives_the_trajectory_of_one_large_batch_for_kto_too() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let kto = assert_micro_batch_size_does_not_matter(
        folder.path(),
        "kto\ndesirable_weight: 4",
        Train::Full,
        1,
        20,
    );
    assert!(kto.iter().any(|record| record.values["kl"] > 1e-3), "z0 is above its clamp");
    let is_clamped = |record: &MetricsRecord| record.values["kl"] == record.values["kl_unclamped"].max(0.0);
    assert!(kto.iter().all(is_clamped), "z0 is the clamped estimate");
    assert_micro_batch_size_does_not_matter(folder.path(), "dpo", LORA, 2, 20);
}

#[test]
fn accumulation_changes_no_other_objective() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (objective, completions) in [
        ("kto\ndesirable_weight: 4\nkl_partners: 2", 1),
        ("kto\ndesirable_weight: 4\nz0: divided_by_world_size\nworld_size: 4", 1),
        ("bco", 1),
        ("ipo", 2),
        ("dpo\nhumanline: [-0.01, 0.01]", 2),
        ("orpo", 2),
        ("csft", 1),
        ("ppo", 1),
        ("aot", 2),
        ("{ dpo: 1, sft: 0.2 }", 2),
        ("kto\nreference_free: true", 1),
        ("dpo\nsync_every: 2\nsync_alpha: 0.6", 2),
    ] {
        assert_micro_batch_size_does_not_matter(folder.path(), objective, Train::Full, completions, 4);
    }
}

#[test]
fn the_reference_point_is_what_its_mode_says() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let run = |mode: &str, micro| {
        let settings = settings(&format!("kto\ndesirable_weight: 4\n{mode}"), 16, micro);
        trajectory(folder.path(), &settings, Train::Full, Activations::Keep, "cache")
    };
    let kl = |records: &[MetricsRecord]| -> Vec<f64> {
        records.iter().map(|record| record.values["kl"]).collect()
    };
    let global = run("z0: global", 16);
    assert!(kl(&global).iter().any(|kl| *kl > 0.0), "otherwise the modes are indistinguishable");
    // One device has the whole batch.
    assert_eq!(run("z0: divided_by_world_size\nworld_size: 1", 16), global);
    // TRL's estimate depends on the micro-batch size; the estimate of the paper's code is smaller.
    assert_ne!(kl(&run("z0: micro_batch", 4)), kl(&global));
    let divided = kl(&run("z0: divided_by_world_size\nworld_size: 4", 16));
    assert!(divided.iter().sum::<f64>() < 0.7 * kl(&global).iter().sum::<f64>());
    // More partners are other partners.
    assert_ne!(kl(&run("kl_partners: 3", 16)), kl(&global));
}

#[test]
fn clamping_matters_only_where_tokens_have_moved() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let run = |objective: &str| {
        trajectory(folder.path(), &settings(objective, 16, 16), LORA, Activations::Keep, "cache")
    };
    let (plain, wide, narrow) =
        (run("dpo"), run("dpo\nhumanline: [-50, 50]"), run("dpo\nhumanline: [-1e-3, 1e-3]"));
    assert!(wide.iter().all(|record| record.values["humanline/unclamped"] == 1.0));
    for (plain, wide) in plain.iter().zip(&wide) {
        let (plain, wide) = (plain.values["loss"], wide.values["loss"]);
        assert!((plain - wide).abs() < 1e-6, "{plain} {wide}");
    }
    assert_eq!(narrow[0].values["humanline/unclamped"], 1.0);
    assert!(narrow[19].values["humanline/unclamped"] < 0.9);
    // A pair has at most 120 tokens, and each moves by at most 1e-3.
    let margin = narrow[19].values["rewards/margins"];
    assert!(margin.abs() <= 0.1 * 1e-3 * 120.0 && plain[19].values["rewards/margins"] > margin, "{margin}");
}

#[test]
fn the_first_loss_is_exact() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let ln_2 = std::f64::consts::LN_2;
    for kind in [Train::Full, LORA] {
        for (objective, loss) in [
            ("kto", 0.5),
            ("kto\nhumanline: true", 0.5),
            ("apo_zero_unpaired", 0.5),
            ("bco", ln_2),
            ("dpo", ln_2),
            ("cdpo", ln_2),
            ("robust_dpo", ln_2),
            ("hinge", 1.0),
            ("ipo", 25.0),
            ("kto\nvalue_function: log_sigmoid", ln_2),
            ("kto\nvalue_function: identity", 0.0),
            ("apo_zero", 1.0),
            ("apo_down", 1.0),
            ("nca_pair", 2.0 * ln_2),
            ("sppo_hard", 50.0),
            ("aot", ln_2),
            ("aot_unpaired", ln_2),
            ("exo_pair\nlabel_smoothing: 0.2", 0.5 * (0.5 / 0.8_f64).ln() + 0.5 * (0.5 / 0.2_f64).ln()),
            ("{ dpo: 1, hinge: 0.5 }", ln_2 + 0.5),
        ] {
            let settings = Settings { length: Length::Steps(2), ..settings(objective, 16, 16) };
            let records = trajectory(folder.path(), &settings, kind, Activations::Keep, "cache");
            let first = records[0].values["loss"];
            assert!((first - loss).abs() < 1e-15, "{objective} {kind:?}: {first}");
            assert!(records[1].values["loss"] != loss, "{objective} {kind:?}");
        }
    }
}

#[test]
fn a_moved_reference_is_the_policy_of_an_earlier_step() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for kind in [LORA, Train::Full] {
        let run = |objective: &str| {
            trajectory(folder.path(), &settings(objective, 16, 16), kind, Activations::Keep, "cache")
        };
        let (fixed, moved) = (run("dpo"), run("dpo\nsync_every: 4"));
        let mixed = run("dpo\nsync_every: 4\nsync_alpha: 0.5");
        let value = |records: &[MetricsRecord], step: usize, name: &str| records[step].values[name];
        // The first move is before the update of the fourth step, so it shows in the fifth.
        assert_eq!(fixed[..4], moved[..4]);
        assert_eq!(fixed[..4], mixed[..4]);
        let margin = |records: &[MetricsRecord]| value(records, 19, "rewards/margins").abs();
        assert!(margin(&moved) < 0.5 * margin(&fixed), "{} {}", margin(&moved), margin(&fixed));
        let losses = [&fixed, &moved, &mixed].map(|records| value(records, 4, "loss"));
        assert!(losses[0] != losses[1] && losses[1] != losses[2] && losses[0] != losses[2], "{losses:?}");

        // With a move at every step, log-ratios are those of one update.
        let every = run("dpo\nsync_every: 1");
        let first = value(&every, 1, "rewards/margins");
        assert_eq!(first, value(&fixed, 1, "rewards/margins"));
        assert!(value(&every, 0, "loss") == std::f64::consts::LN_2 && margin(&every) < margin(&moved));
        // The same trajectory with a warm cache: log-probs of a moved reference are not cached.
        assert_eq!(run("dpo\nsync_every: 4"), moved);
        assert_eq!(run("dpo"), fixed);
    }
}

#[test]
fn a_sum_of_objectives_has_the_sum_of_their_losses() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let first = |objective: &str| {
        let settings = Settings { length: Length::Steps(1), ..settings(objective, 16, 4) };
        let records = trajectory(folder.path(), &settings, LORA, Activations::Keep, "cache");
        records.into_iter().next().unwrap().values
    };
    let (dpo, slic, sum) = (first("dpo"), first("slic"), first("{ slic: 0.25, dpo: 2 }"));
    assert!((sum["loss"] - 2.0 * dpo["loss"] - 0.25 * slic["loss"]).abs() < 1e-12);
    // Metrics are those of the first part that has them, in the order of the names.
    assert_eq!(sum["rewards/chosen"], dpo["rewards/chosen"]);
    assert_eq!(sum["nll_loss"], slic["nll_loss"]);
    // A weight scales the gradient.
    let (one, two) = (first("{ dpo: 1, hinge: 1 }"), first("{ dpo: 2, hinge: 2 }"));
    assert!((two["grad_norm"] - 2.0 * one["grad_norm"]).abs() < 1e-5 * one["grad_norm"]);
}

#[test]
fn ppo_reports_its_clipped_tokens() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let run = |options: &str| {
        let settings = settings(&format!("ppo\n{options}"), 16, 16);
        trajectory(folder.path(), &settings, LORA, Activations::Keep, "cache")
    };
    let share = |records: &[MetricsRecord]| records[19].values["ppo/unclipped"];
    let (wide, narrow) = (run(""), run("clip_ratio: [0.999, 1.001]"));
    assert!(
        (share(&wide) - 1.0).abs() < 1e-12 && share(&narrow) < 0.9,
        "{} {}",
        share(&wide),
        share(&narrow)
    );
    assert!(wide[0].values["loss"].abs() < 1e-12, "whitened advantages have the mean 0");
    let margins: Vec<f64> = wide.iter().map(|record| record.values["rewards/margins"]).collect();
    // Of single batches, before their updates.
    assert!(margins[10..].iter().sum::<f64>() / 10.0 > 0.03, "{margins:?}");
}

#[test]
fn recomputing_activations_and_a_warm_cache_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let run =
        |activations, cache| trajectory(folder.path(), &settings("kto", 16, 8), LORA, activations, cache);
    let cold = run(Activations::Keep, "one");
    assert_eq!(cold, run(Activations::Keep, "one"));
    // 70 MiB leave room for some blocks next to the chunks of logits; 1 byte leaves room for none.
    for activations in [Activations::Recompute, Activations::Within(70 << 20), Activations::Within(1)] {
        assert_close("recompute", &cold, &run(activations, "two"));
    }
}

#[test]
fn bf16_weights_train_like_f32_weights() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (objective, completions) in [("kto", 1), ("dpo", 2)] {
        for kind in [LORA, Train::Full] {
            let run = |dtype, activations| {
                let mut records = Records::default();
                let cache = format!("{objective} {dtype}");
                let options = RunOptions { dtype, ..RunOptions::new(kind, activations, &cache) };
                let settings = settings(objective, 16 * completions, 8 * completions);
                run(folder.path(), &settings, options, &mut records).unwrap();
                records.records
            };
            let mixed = run("bf16", Activations::Keep);
            assert_eq!(mixed, run("bf16", Activations::Recompute), "{objective}, {kind:?}");
            let (losses, exact) = [mixed, run("f32", Activations::Keep)]
                .map(|records| records.iter().map(|record| record.values["loss"]).collect::<Vec<_>>())
                .into();
            // Policy and reference are the same model at the start, whatever its type.
            assert_eq!(losses[0], exact[0], "{objective}, {kind:?}");
            let moved = exact.iter().map(|loss| (loss - exact[0]).abs()).fold(0.0, f64::max);
            let apart = losses.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(moved > 1e-3 && apart < 0.1 * moved, "{objective}, {kind:?}: {apart} of {moved}");
        }
    }
}

#[test]
fn a_stopped_run_resumes_as_if_it_had_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (case, (objective, kind)) in [
        ("kto", LORA),
        ("bco", LORA),
        ("dpo", Train::Full),
        ("{ kto: 1, bco: 0.5 }", LORA),
        ("ppo\noptimizer: rmsprop", LORA),
        ("dpo\nsync_every: 5\nsync_alpha: 0.6", LORA),
        ("kto\nhumanline: true\nsync_every: 1\noptimizer: rmsprop\nweight_decay: 0.1", Train::Full),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = settings(objective, 16, 16);
        let cache = format!("cache-{case}");
        let run = |checkpoints: Option<&Checkpoints>, stop_after| {
            let mut records = Records { stop_after, ..Records::default() };
            let options = RunOptions { checkpoints, ..RunOptions::new(kind, Activations::Keep, &cache) };
            let trained = crate::run(folder.path(), &settings, options, &mut records);
            (trained, records.records)
        };
        let (whole, all) = run(None, None);
        let stops: &[u64] = if case < 3 { &[1, 6, 7, 19] } else { &[7] };
        for stopped in stops.iter().copied() {
            let directory = folder.path().join(format!("{case}-{stopped}"));
            let checkpoints = Checkpoints::new(directory.clone(), 3, 2, "this run".to_owned());
            assert!(run(Some(&checkpoints), Some(stopped)).0.is_err());
            // No checkpoint is written for the step at which the run stopped.
            let step = (stopped - 1) / 3 * 3;
            assert_eq!(checkpoints.latest().unwrap().map(|state| state.step), (step > 0).then_some(step));
            assert!(fs_err::read_dir(&directory).map_or(0, Iterator::count) <= 2);
            // The newest file is damaged, so the one before it is used.
            let damaged = directory.join("step-00000099-0123456789abcdef.safetensors");
            if step > 0 {
                fs_err::write(&damaged, b"half a file").unwrap();
            }
            let other = Checkpoints::new(directory.clone(), 3, 2, "another run".to_owned());
            assert_eq!(other.latest().unwrap(), None);
            let (resumed, rest) = run(Some(&checkpoints), None);
            assert_eq!(rest, all[step as usize..], "{objective} stopped after {stopped}");
            assert_eq!(weights(&resumed.unwrap()), weights(whole.as_ref().unwrap()));
        }
    }
}

#[test]
fn a_run_with_a_damaged_checkpoint_resumes_from_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let settings = settings("kto", 16, 16);
    let run = |checkpoints: &Checkpoints, stop_after| {
        let mut records = Records { stop_after, ..Records::default() };
        let options = RunOptions {
            checkpoints: Some(checkpoints),
            ..RunOptions::new(LORA, Activations::Keep, "cache")
        };
        let trained = crate::run(folder.path(), &settings, options, &mut records);
        (trained, records.records)
    };
    let checkpoints = |name: &str| Checkpoints::new(folder.path().join(name), 3, 2, "this run".to_owned());
    let (whole, all) = run(&checkpoints("whole"), None);
    let stopped = checkpoints("stopped");
    assert!(run(&stopped, Some(7)).0.is_err());
    let mut files: Vec<_> =
        fs_err::read_dir(folder.path().join("stopped")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let [third, sixth] = &files[..] else { panic!("{files:?}") };
    let step = || stopped.latest().unwrap().map(|state| state.step);
    assert_eq!(step(), Some(6));
    for (position, damaged) in flipped(&fs_err::read(sixth).unwrap(), 100) {
        fs_err::write(sixth, damaged).unwrap();
        assert_eq!(step(), Some(3), "byte {position}");
    }
    let (resumed, rest) = run(&checkpoints("stopped"), None);
    assert_eq!(rest, all[3..]);
    assert_eq!(weights(&resumed.unwrap()), weights(&whole.unwrap()));
    assert!(!third.exists() && !sixth.exists(), "later checkpoints replace them");
    assert_eq!(fs_err::read_dir(folder.path().join("stopped")).unwrap().count(), 2);
}

/// Weights and metrics of a run on `ranks` threads, by rank.
fn run_ranks(
    folder: &Path,
    settings: &Settings,
    kind: Train,
    ranks: usize,
) -> Vec<(Vec<Vec<f32>>, Vec<MetricsRecord>)> {
    run_groups(folder, settings, kind, ranks, "cache", |thread, rank| {
        ProcessGroup::new(Box::new(thread), rank, None)
    })
}

/// Like [`run_ranks`], with a process group per thread.
fn run_groups(
    folder: &Path,
    settings: &Settings,
    kind: Train,
    ranks: usize,
    cache: &str,
    member: impl Fn(ThreadRank, usize) -> ProcessGroup + Sync,
) -> Vec<(Vec<Vec<f32>>, Vec<MetricsRecord>)> {
    let options = RunOptions::new(kind, Activations::Keep, cache);
    run_groups_with(folder, settings, ranks, &options, member)
}

/// Like [`run_groups`], with the options of each rank except its process group.
fn run_groups_with(
    folder: &Path,
    settings: &Settings,
    ranks: usize,
    options: &RunOptions<'_>,
    member: impl Fn(ThreadRank, usize) -> ProcessGroup + Sync,
) -> Vec<(Vec<Vec<f32>>, Vec<MetricsRecord>)> {
    let RunOptions { dtype, kind, activations, cache, .. } = *options;
    let one = |member: ProcessGroup| {
        let mut records = Records::default();
        let group = Arc::clone(&member.collective);
        let options = RunOptions { dtype, member, ..RunOptions::new(kind, activations, cache) };
        let trained = run(folder, settings, options, &mut records).unwrap();
        (weights_on_ranks(&trained, &*group), records.records)
    };
    on_threads(ranks, |thread| {
        let rank = thread.rank();
        one(member(thread, rank))
    })
}

#[test]
fn ranks_together_are_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (objective, kind) in [
        ("kto", LORA),
        ("bco", LORA),
        ("dpo", Train::Full),
        ("kto\nhumanline: true", LORA),
        ("ppo\noptimizer: rmsprop", LORA),
        ("aot_unpaired\nsync_every: 3\nsync_alpha: 0.5", LORA),
    ] {
        // One micro-batch per rank: gradients are summed in the same order as on a single rank.
        let settings = settings(objective, 16, 4);
        let [alone] = run_ranks(folder.path(), &settings, kind, 1).try_into().unwrap();
        let four = run_ranks(folder.path(), &settings, kind, 4);
        for (rank, (weights, records)) in four.iter().enumerate() {
            assert_eq!(records, &alone.1, "{objective}, rank {rank}");
            assert_eq!(weights, &alone.0, "{objective}, rank {rank}");
        }
        // Two micro-batches per rank, or unequal parts: sums are rounded in another order.
        for ranks in [2, 3] {
            let several = run_ranks(folder.path(), &settings, kind, ranks);
            assert!(several.iter().all(|rank| *rank == several[0]), "{objective}: ranks differ");
            assert_close(objective, &several[0].1, &alone.1);
        }
    }
}

#[test]
fn ranks_with_a_sharded_base_are_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for objective in ["kto", "dpo\nhumanline: true"] {
        let settings = Settings { length: Length::Steps(8), ..settings(objective, 16, 4) };
        let [alone] = run_ranks(folder.path(), &settings, LORA, 1).try_into().unwrap();
        // Reference log-probs are cached on all ranks (`cache`), or on none at first.
        for (ranks, cache) in [(4, "cache"), (4, "cold"), (3, "cold"), (2, "colder")] {
            let sharing = |thread, rank| ProcessGroup::new(Box::new(thread), rank, Some(ZeroStage::Two));
            let parts = run_groups(folder.path(), &settings, LORA, ranks, cache, sharing);
            let whole = run_ranks(folder.path(), &settings, LORA, ranks);
            assert!(parts == whole, "{objective}, {ranks} ranks: sharding changes the numbers");
            if ranks == 4 {
                assert!(parts.iter().all(|rank| *rank == alone), "{objective}: differs from one rank");
            }
        }
    }
}

#[test]
fn ranks_with_sharded_training_state_are_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (objective, dtype) in
        [("kto", "f32"), ("dpo\nsync_every: 3\nsync_alpha: 0.5", "f32"), ("kto", "bf16")]
    {
        let settings = Settings { length: Length::Steps(8), ..settings(objective, 16, 4) };
        let options = RunOptions { dtype, ..RunOptions::new(Train::Full, Activations::Keep, "cache") };
        let alone = |thread, rank| ProcessGroup::new(Box::new(thread), rank, None);
        let [alone] = run_groups_with(folder.path(), &settings, 1, &options, alone).try_into().unwrap();
        // Three ranks have unequal numbers of micro-batches; one of five has none.
        for ranks in [2, 3, 4, 5] {
            let on = |boxed: fn(ThreadRank) -> Box<dyn Collective>, stage| {
                let member = move |thread, rank| ProcessGroup::new(boxed(thread), rank, Some(stage));
                let options =
                    RunOptions { dtype, ..RunOptions::new(Train::Full, Activations::Keep, "cache") };
                run_groups_with(folder.path(), &settings, ranks, &options, member)
            };
            let parts = on(|thread| Box::new(thread), ZeroStage::Two);
            assert!(parts.iter().all(|rank| *rank == parts[0]), "{objective}: ranks differ");
            // Half-precision weights are rounded after every step, so sums may differ by more.
            if dtype == "f32" {
                assert_close(objective, &parts[0].1, &alone.1);
            }
            for (name, other) in [
                ("sharding the weights", on(|thread| Box::new(thread), ZeroStage::Three)),
                ("device collectives", on(DirectThread::boxed, ZeroStage::Two)),
                ("both", on(DirectThread::boxed, ZeroStage::Three)),
            ] {
                assert!(other == parts, "{objective}, {ranks} ranks: {name}: other numbers");
            }
        }
    }
}

#[test]
fn a_run_resumes_on_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let settings = Settings { length: Length::Steps(9), ..settings("kto", 16, 4) };
    let on_ranks =
        |(ranks, zero): (usize, Option<ZeroStage>), checkpoints: &Checkpoints, stop_after: Option<u64>| {
            let one = |thread: ThreadRank| {
                let mut records = Records { stop_after, ..Records::default() };
                let rank = thread.rank();
                let member = ProcessGroup::new(Box::new(thread), rank, zero);
                let options = RunOptions {
                    checkpoints: Some(checkpoints),
                    member,
                    ..RunOptions::new(Train::Full, Activations::Keep, "cache")
                };
                let trained = run(folder.path(), &settings, options, &mut records);
                (trained.map(|_| ()), records.records)
            };
            on_threads(ranks, one).into_iter().next().unwrap()
        };
    let checkpoints = |name: &str| Checkpoints::new(folder.path().join(name), 3, 9, "this run".to_owned());
    let (two, three) = (Some(ZeroStage::Two), Some(ZeroStage::Three));
    let (whole, all) = on_ranks((1, None), &checkpoints("whole"), None);
    assert!(whole.is_ok());
    for (name, before, after) in [
        ("a", (3, two), (1, None)),
        ("b", (1, None), (4, two)),
        ("c", (2, three), (3, two)),
        ("d", (3, three), (1, None)),
        ("e", (2, two), (4, three)),
        ("f", (4, three), (3, three)),
    ] {
        let checkpoints = checkpoints(name);
        assert!(on_ranks(before, &checkpoints, Some(5)).0.is_err());
        assert_eq!(checkpoints.latest().unwrap().map(|state| state.step), Some(3));
        let (resumed, rest) = on_ranks(after, &checkpoints, None);
        assert!(resumed.is_ok(), "{name}");
        assert_close(name, &rest, &all[3..]);
    }
}

/// A thread with direct device-to-device collectives, as GPUs have with NCCL.
#[derive(Debug)]
struct DirectThread(Arc<ThreadRank>);

impl DirectThread {
    fn boxed(thread: ThreadRank) -> Box<dyn Collective> {
        Box::new(Self(Arc::new(thread)))
    }
}

impl Collective for DirectThread {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn world_size(&self) -> usize {
        self.0.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.0.all_gather(own)
    }

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        Some(self)
    }
}

impl DeviceCollective for DirectThread {
    fn prepare_all_reduce<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let own = own.clone();
        Ok(Box::new(move || self.0.all_reduce_tensor(&own)))
    }

    fn prepare_reduce_scatter<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        let own = own.clone();
        Ok(Box::new(move || self.0.reduce_scatter_tensor(&own)))
    }

    fn prepare_gather(&self, shards: &[Shard]) -> Result<PreparedGather, CollectiveError> {
        let (thread, shards) = (Arc::clone(&self.0), shards.to_vec());
        Ok(Box::new(move || thread.all_gather_shards(&shards)))
    }
}

/// Error of CUDA's driver, as candle keeps it.
#[derive(Debug)]
struct OutOfMemory;

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")")
    }
}

impl std::error::Error for OutOfMemory {}

/// A thread with direct collectives that runs out of memory where it allocates for a sum or for a
/// gather.
#[derive(Debug)]
struct TightThread {
    direct: DirectThread,
    /// Sums up to the one that fails.
    sums: AtomicUsize,
    /// Gathers up to the one that fails.
    gathers: Arc<AtomicUsize>,
}

impl TightThread {
    fn boxed(thread: ThreadRank, sums: usize, gathers: Arc<AtomicUsize>) -> Box<dyn Collective> {
        Box::new(Self { direct: DirectThread(Arc::new(thread)), sums: AtomicUsize::new(sums), gathers })
    }

    /// Fails if this is the allocation to fail.
    fn allocate(left: &AtomicUsize) -> Result<(), CollectiveError> {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(CollectiveError::Device(candle_core::Error::Cuda(Box::new(OutOfMemory)).bt()));
        }
        Ok(())
    }
}

impl Collective for TightThread {
    fn rank(&self) -> usize {
        self.direct.rank()
    }

    fn world_size(&self) -> usize {
        self.direct.world_size()
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.direct.all_gather(own)
    }

    fn device_collective(&self) -> Option<&dyn DeviceCollective> {
        Some(self)
    }
}

impl DeviceCollective for TightThread {
    fn prepare_all_reduce<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        Self::allocate(&self.sums)?;
        self.direct.prepare_all_reduce(own)
    }

    fn prepare_reduce_scatter<'a>(&'a self, own: &Tensor) -> Result<PreparedSum<'a>, CollectiveError> {
        Self::allocate(&self.sums)?;
        self.direct.prepare_reduce_scatter(own)
    }

    fn prepare_gather(&self, shards: &[Shard]) -> Result<PreparedGather, CollectiveError> {
        Self::allocate(&self.gathers)?;
        self.direct.prepare_gather(shards)
    }
}

#[test]
fn sharded_ranks_that_run_out_of_memory_in_a_backward_pass_repeat_the_step_together() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let settings = Settings { length: Length::Steps(4), ..settings("kto", 16, 4) };
    // Three ranks have unequal numbers of micro-batches.
    for (ranks, stage) in [(2, ZeroStage::Two), (3, ZeroStage::Three)] {
        let on = |wrap: &(dyn Fn(ThreadRank) -> Box<dyn Collective> + Sync)| {
            let member = |thread, rank| ProcessGroup::new(wrap(thread), rank, Some(stage));
            let options = RunOptions::new(Train::Full, Activations::Keep, "cache");
            run_groups_with(folder.path(), &settings, ranks, &options, member)
        };
        let whole = on(&|thread| Box::new(thread));
        // Sums that fail on ranks 0 and 1, if any, and the retries of each step. A step has two
        // passes of about twenty sums on each rank.
        for (failing, retries) in [
            ([0, 1], [1, 0, 0, 0]),
            ([1, 1], [1, 0, 0, 0]),
            ([30, 0], [1, 0, 0, 0]),
            ([3, 0], [1, 0, 0, 0]),
            ([2, 30], [2, 0, 0, 0]),
            ([0, 90], [0, 0, 1, 0]),
        ] {
            let parts = on(&|thread: ThreadRank| {
                let sums = failing.get(thread.rank()).copied().unwrap_or(0);
                TightThread::boxed(thread, sums, Arc::default())
            });
            assert!(parts.iter().all(|rank| *rank == parts[0]), "{failing:?}: ranks differ");
            let noted = parts[0].1.iter().map(|record| record.values.get("memory/retries"));
            let noted: Vec<f64> = noted.map(|retries| retries.copied().unwrap_or(0.0)).collect();
            assert_eq!(noted, retries.map(f64::from), "{failing:?}");
            assert_close("repeated", &whole[0].1, &parts[0].1);
        }
    }
}

#[test]
fn ranks_that_run_out_of_memory_for_the_gathers_of_others_repeat_the_step_together() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let settings = Settings { length: Length::Steps(3), ..settings("kto", 16, 4) };
    for (train, ranks, stage) in [
        (LORA, 2, ZeroStage::Two),
        (LORA, 3, ZeroStage::Two),
        (Train::Full, 2, ZeroStage::Two),
        (Train::Full, 3, ZeroStage::Three),
    ] {
        let on = |wrap: &(dyn Fn(ThreadRank) -> Box<dyn Collective> + Sync)| {
            let member = |thread, rank| ProcessGroup::new(wrap(thread), rank, Some(stage));
            let options = RunOptions::new(train, Activations::Keep, "cold");
            let _ = fs_err::remove_dir_all(folder.path().join("cold"));
            run_groups_with(folder.path(), &settings, ranks, &options, member)
        };
        let left = Arc::new(AtomicUsize::new(0));
        let whole = on(&|thread| {
            let left = if thread.rank() == 1 { Arc::clone(&left) } else { Arc::default() };
            TightThread::boxed(thread, 0, left)
        });
        // Gathers of loading come first, those for the results last.
        let gathers = usize::MAX - left.load(Ordering::Relaxed) + 1;
        let mut repeated = 0;
        for eighth in 2..7 {
            let failing = gathers * eighth / 8 + eighth;
            let parts = on(&|thread: ThreadRank| {
                let gathers = if thread.rank() == 1 { failing } else { 0 };
                TightThread::boxed(thread, 0, Arc::new(AtomicUsize::new(gathers)))
            });
            assert!(parts.iter().all(|rank| *rank == parts[0]), "{failing}: ranks differ");
            let retries = parts[0].1.iter().filter_map(|record| record.values.get("memory/retries"));
            repeated += retries.count();
            assert_close("repeated", &whole[0].1, &parts[0].1);
        }
        // In stage 2 of full training, only updates gather: this rank tries again.
        let gathers_in_passes = stage == ZeroStage::Three || matches!(train, Train::Lora(_));
        assert_eq!(repeated > 0, gathers_in_passes, "{train:?}, {ranks} ranks, {stage:?}: {repeated}");
    }
}

#[test]
fn direct_device_collectives_change_no_number() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let settings = Settings { length: Length::Steps(6), ..settings("kto", 16, 4) };
    for (ranks, shard, cache) in [(2, false, "cache"), (2, true, "cache"), (3, true, "cold")] {
        let expected = run_ranks(folder.path(), &settings, LORA, ranks);
        let zero = shard.then_some(ZeroStage::Two);
        let direct = |thread, rank| ProcessGroup::new(DirectThread::boxed(thread), rank, zero);
        let found = run_groups(folder.path(), &settings, LORA, ranks, cache, direct);
        assert!(found == expected, "{ranks} ranks, sharded: {shard}");
    }
}

#[test]
fn a_rank_may_have_one_class_or_no_example() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    // A batch has two micro-batches of one example each, so a rank has one class, or no example.
    let settings = Settings { length: Length::Steps(12), ..settings("kto", 2, 1) };
    let [alone] = run_ranks(folder.path(), &settings, LORA, 1).try_into().unwrap();
    for ranks in [2, 3] {
        for (weights, records) in run_ranks(folder.path(), &settings, LORA, ranks) {
            assert_eq!((weights, records), alone.clone());
        }
    }
}

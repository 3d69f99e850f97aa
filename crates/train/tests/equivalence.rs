//! What must not matter: how a global batch is cut, whether activations are kept, whether the cache is warm. And what must:
//! the modes of KTO's reference point, humanline clamping.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::Tensor;
use prospect_core::config::Document;
use prospect_data::PipelineFile;
use prospect_dist::{Collective, CollectiveError, Devices, ProcessGroup, Thread, threads};
use prospect_model::{Activations, Lora, Model, ModelFile, Train};
use prospect_runs::MetricsRecord;
use prospect_train::{
    Checkpoints, Encoder, Job, Length, Observer, Policy, ReferenceCache, Settings, TrainError, TrainFile,
    Trained, TrainingSet, train,
};

/// Collects the metrics of a run, and stops it after step `killed`.
#[derive(Default)]
struct Records {
    records: Vec<MetricsRecord>,
    killed: Option<u64>,
}

impl Observer for Records {
    fn after(&mut self, step: u64, _: u64, _: &Policy<'_>, _: &ReferenceCache) -> Result<(), TrainError> {
        if self.killed == Some(step) { Err(TrainError::Examples("killed".to_owned())) } else { Ok(()) }
    }

    fn record(&mut self, record: MetricsRecord) -> Result<(), TrainError> {
        self.records.push(record);
        Ok(())
    }
}

fn dataset(folder: &Path) {
    let text = "source: {kind: synthetic, pairs: 80}\nimbalance: {keep_desirable: 0.5}";
    let recipe: PipelineFile = Document::from_text("data.yaml", text).unwrap().read().unwrap();
    prospect_data::prepare(&recipe.resolve(&|path| Ok(path.into())).unwrap(), folder).unwrap();
}

fn model(member: &ProcessGroup) -> Model {
    let text = "weights: random\ntokenizer: bytes\narchitecture: {vocab_size: 258, hidden_size: 16,
      intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8,
      max_position_embeddings: 256}";
    let recipe: ModelFile = Document::from_text("model.yaml", text).unwrap().read().unwrap();
    recipe.resolve(&|path| Ok(path.into())).unwrap().load_as(member).unwrap()
}

/// Settings of 20 steps of `batch` completions; `objective` may go on with further lines.
fn settings(objective: &str, batch: usize, micro: usize) -> Settings {
    let text = format!(
        "learning_rate: 1e-3\nmax_steps: 20\nbatch_size: {batch}\nmicro_batch_size: {micro}\nmax_length: 160
max_prompt_length: 100\nobjective: {objective}"
    );
    Document::from_text("train.yaml", &text).unwrap().read::<TrainFile>().unwrap().resolve().unwrap()
}

/// How to train, beside the settings.
struct How<'a> {
    kind: Train,
    activations: Activations,
    cache: &'a str,
    checkpoints: Option<&'a Checkpoints>,
    member: ProcessGroup,
}

impl<'a> How<'a> {
    fn new(kind: Train, activations: Activations, cache: &'a str) -> Self {
        Self { kind, activations, cache, checkpoints: None, member: ProcessGroup::default() }
    }
}

/// The metrics of 20 steps.
fn trajectory(
    folder: &Path,
    settings: &Settings,
    kind: Train,
    activations: Activations,
    cache: &str,
) -> Vec<MetricsRecord> {
    let mut records = Records::default();
    run(folder, settings, How::new(kind, activations, cache), &mut records).unwrap();
    records.records
}

fn run(
    folder: &Path,
    settings: &Settings,
    how: How<'_>,
    records: &mut Records,
) -> Result<Trained, TrainError> {
    let How { kind, activations, cache, checkpoints, member } = how;
    let model = model(&member);
    let encoder = Encoder::new(&model, settings.max_length, settings.max_prompt_length);
    let examples = TrainingSet::read(&folder.join("data"), &settings.objective, &encoder).unwrap();
    let job = Job {
        start: &model,
        train: kind,
        activations,
        settings,
        examples: &examples,
        encoder: &encoder,
        seed: 1,
        checkpoints,
        group: &*member.group,
    };
    let cache = ReferenceCache::at(&folder.join(cache));
    let trained = train(&job, &cache, records);
    cache.save().unwrap();
    trained
}

/// The trained numbers.
fn weights(trained: &Trained) -> Vec<Vec<f32>> {
    let flat = |parameter: &prospect_model::Parameter| parameter.value().flatten_all()?.to_vec1();
    trained.policy.parameters().iter().map(|(_, parameter)| flat(parameter).unwrap()).collect()
}

fn assert_close(what: &str, a: &[MetricsRecord], b: &[MetricsRecord]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        // Cutting a batch runs shared prompts more than once: the count of tokens may differ, nothing else.
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

const LORA: Train = Train::Lora(Lora { r: 4, alpha: 8.0 });

/// 32 x 1, 8 x 4 and 1 x 32 examples give one trajectory; an example is `completions` of them.
fn assert_cuts_do_not_matter(
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
    let kto = assert_cuts_do_not_matter(folder.path(), "kto\ndesirable_weight: 4", Train::Full, 1, 20);
    assert!(kto.iter().any(|record| record.values["kl"] > 1e-3), "z0 is not only the clamp");
    assert_cuts_do_not_matter(folder.path(), "dpo", LORA, 2, 20);
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
    ] {
        assert_cuts_do_not_matter(folder.path(), objective, Train::Full, completions, 4);
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
    assert!(kl(&global).iter().any(|kl| *kl > 0.0), "otherwise the modes could not be told apart");
    // One micro-batch, and one device, are the whole batch.
    assert_eq!(run("z0: micro_batch", 16), global);
    assert_eq!(run("z0: divided_by_world_size\nworld_size: 1", 16), global);
    // TRL's estimate depends on how the batch is cut; that of the paper's code is smaller.
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
    // A pair of completions of at most 60 tokens each moves by no more than 1e-3 per token.
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
fn recomputing_activations_and_a_warm_cache_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let run =
        |activations, cache| trajectory(folder.path(), &settings("kto", 16, 8), LORA, activations, cache);
    let cold = run(Activations::Keep, "one");
    assert_eq!(cold, run(Activations::Keep, "one"));
    // Within 70 MiB the logits' chunks leave room for some blocks only; within 1 byte for none.
    for activations in [Activations::Recompute, Activations::Within(70 << 20), Activations::Within(1)] {
        assert_close("recompute", &cold, &run(activations, "two"));
    }
}

#[test]
fn a_killed_run_goes_on_as_if_it_had_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (objective, kind) in [("kto", LORA), ("bco", LORA), ("dpo", Train::Full)] {
        let settings = settings(objective, 16, 16);
        let go = |checkpoints: Option<&Checkpoints>, killed| {
            let mut records = Records { killed, ..Records::default() };
            let how = How { checkpoints, ..How::new(kind, Activations::Keep, objective) };
            let trained = run(folder.path(), &settings, how, &mut records);
            (trained, records.records)
        };
        let (whole, all) = go(None, None);
        for killed in [1, 6, 7, 19] {
            let place = folder.path().join(format!("{objective}-{killed}"));
            let checkpoints = Checkpoints::new(place.clone(), 3, 2, "this run".to_owned());
            assert!(go(Some(&checkpoints), Some(killed)).0.is_err());
            // The checkpoint of the step at which the kill came was not written any more.
            let step = (killed - 1) / 3 * 3;
            assert_eq!(checkpoints.latest().unwrap().map(|reached| reached.step), (step > 0).then_some(step));
            assert!(fs_err::read_dir(&place).map_or(0, Iterator::count) <= 2);
            // The newest file is damaged: the one before it serves.
            let damaged = place.join("step-00000099.safetensors");
            if step > 0 {
                fs_err::write(&damaged, b"half a file").unwrap();
            }
            let other = Checkpoints::new(place.clone(), 3, 2, "another run".to_owned());
            assert_eq!(other.latest().unwrap(), None);
            let (resumed, rest) = go(Some(&checkpoints), None);
            assert_eq!(rest, all[step as usize..], "{objective} killed after {killed}");
            assert_eq!(weights(&resumed.unwrap()), weights(whole.as_ref().unwrap()));
        }
    }
}

/// What each of `ranks` threads makes of a run, by rank.
fn together(
    folder: &Path,
    settings: &Settings,
    kind: Train,
    ranks: usize,
) -> Vec<(Vec<Vec<f32>>, Vec<MetricsRecord>)> {
    as_members(folder, settings, kind, ranks, "cache", |thread, rank| {
        ProcessGroup::of(Box::new(thread), rank, false)
    })
}

/// Like [`together`], of threads that are such members.
fn as_members(
    folder: &Path,
    settings: &Settings,
    kind: Train,
    ranks: usize,
    cache: &str,
    member: impl Fn(Thread, usize) -> ProcessGroup + Sync,
) -> Vec<(Vec<Vec<f32>>, Vec<MetricsRecord>)> {
    let one = |member: ProcessGroup| {
        let mut records = Records::default();
        let how = How { member, ..How::new(kind, Activations::Keep, cache) };
        let trained = run(folder, settings, how, &mut records).unwrap();
        (weights(&trained), records.records)
    };
    let (one, member) = (&one, &member);
    std::thread::scope(|scope| {
        let members = threads(ranks).into_iter().enumerate();
        let members: Vec<_> =
            members.map(|(rank, thread)| scope.spawn(move || one(member(thread, rank)))).collect();
        members.into_iter().map(|member| member.join().unwrap()).collect()
    })
}

#[test]
fn ranks_together_are_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for (objective, kind) in
        [("kto", LORA), ("bco", LORA), ("dpo", Train::Full), ("kto\nhumanline: true", LORA)]
    {
        // A micro-batch a rank: gradients are added up in the same order, whoever has them.
        let settings = settings(objective, 16, 4);
        let [alone] = together(folder.path(), &settings, kind, 1).try_into().unwrap();
        let four = together(folder.path(), &settings, kind, 4);
        for (rank, (weights, records)) in four.iter().enumerate() {
            assert_eq!(records, &alone.1, "{objective}, rank {rank}");
            assert_eq!(weights, &alone.0, "{objective}, rank {rank}");
        }
        // Two micro-batches a rank, and parts that are not equal: sums are rounded in another order.
        for ranks in [2, 3] {
            let several = together(folder.path(), &settings, kind, ranks);
            assert!(several.iter().all(|rank| *rank == several[0]), "{objective}: ranks differ");
            assert_close(objective, &several[0].1, &alone.1);
        }
    }
}

#[test]
fn ranks_with_a_part_of_the_base_each_are_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    for objective in ["kto", "dpo\nhumanline: true"] {
        let settings = Settings { length: Length::Steps(8), ..settings(objective, 16, 4) };
        let [alone] = together(folder.path(), &settings, LORA, 1).try_into().unwrap();
        // What the reference says is known to all (`cache`), or to none at first, and then to each of its own part.
        for (ranks, cache) in [(4, "cache"), (4, "cold"), (3, "cold"), (2, "colder")] {
            let sharing = |thread, rank| ProcessGroup::of(Box::new(thread), rank, true);
            let parts = as_members(folder.path(), &settings, LORA, ranks, cache, sharing);
            let whole = together(folder.path(), &settings, LORA, ranks);
            assert!(parts == whole, "{objective}, {ranks} ranks: parts change the numbers");
            if ranks == 4 {
                assert!(parts.iter().all(|rank| *rank == alone), "{objective}: not those of one rank");
            }
        }
    }
}

/// A thread whose device reaches those of the others, as GPUs do by NCCL.
#[derive(Debug)]
struct Reaching(Thread);

impl Collective for Reaching {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn gather(&self, given: Vec<u8>) -> Result<Vec<Vec<u8>>, CollectiveError> {
        self.0.gather(given)
    }

    fn devices(&self) -> Option<&dyn Devices> {
        Some(self)
    }
}

impl Devices for Reaching {
    fn all_reduce(&self, own: &Tensor) -> Result<Tensor, CollectiveError> {
        self.0.sum_tensor(own)
    }

    fn all_gather(&self, own: &Tensor, rows: usize) -> Result<Tensor, CollectiveError> {
        let columns = own.dim(1)?;
        assert_eq!(own.dim(0)?, self.part(rows).len());
        let mut bytes = Vec::new();
        own.write_bytes(&mut bytes)?;
        let all = self.gather(bytes)?.concat();
        Ok(Tensor::from_raw_buffer(&all, own.dtype(), &[rows, columns], own.device())?)
    }
}

#[test]
fn devices_that_reach_each_other_change_no_number() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    let settings = Settings { length: Length::Steps(6), ..settings("kto", 16, 4) };
    for (ranks, shard, cache) in [(2, false, "cache"), (2, true, "cache"), (3, true, "cold")] {
        let expected = together(folder.path(), &settings, LORA, ranks);
        let reaching = |thread, rank| ProcessGroup::of(Box::new(Reaching(thread)), rank, shard);
        let found = as_members(folder.path(), &settings, LORA, ranks, cache, reaching);
        assert!(found == expected, "{ranks} ranks, in parts: {shard}");
    }
}

#[test]
fn a_rank_may_have_one_class_only_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    dataset(&folder.path().join("data"));
    // Batches of two micro-batches of one example each: ranks have a desirable or an undesirable one, or none.
    let settings = Settings { length: Length::Steps(12), ..settings("kto", 2, 1) };
    let [alone] = together(folder.path(), &settings, LORA, 1).try_into().unwrap();
    for ranks in [2, 3] {
        for (weights, records) in together(folder.path(), &settings, LORA, ranks) {
            assert_eq!((weights, records), alone.clone());
        }
    }
}

//! What a sweep will take: a few steps of each kind of run, measured.

mod measure;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use prospect_core::{files::WholeDir, memory, progress::say};
use prospect_data::{Manifest, prepare, prepared};
use prospect_model::Model;
use prospect_runs::SweepDir;
use prospect_train::{FeedbackFormat, Objective, Settings};

use self::measure::{Measured, STEPS, measure};
use crate::{
    Execution, Plan, SweepError,
    budget::{completions, counted},
    execute::{Todo, start},
    standing::median,
};

/// What runs of one kind take: those of one model and start, of objectives that ask the same of it, and batches and lengths
/// alike.
#[derive(Debug, Clone, PartialEq)]
pub struct KindCost {
    /// The objectives. The first of them was measured.
    pub objectives: Vec<String>,
    /// The model.
    pub model: String,
    /// Whether it is a shared SFT stage, starts from one, or from the base.
    pub place: Place,
    /// Runs of this kind.
    pub runs: usize,
    /// Optimizer steps of all of them.
    pub steps: u64,
    /// Those of them whose batches an earlier run has asked the reference about.
    pub known: u64,
    /// Seconds of the steps that were measured, in rising order.
    pub measured: Vec<f64>,
    /// Seconds of some of these steps where the reference's log-probs are known; none of objectives without a reference.
    pub measured_known: Vec<f64>,
    /// Seconds of evaluation, of all runs together.
    pub evaluation: f64,
    /// Seconds of reading data, of all runs together, and of loading the model.
    pub reading: f64,
    /// The most memory that the process had at once while this was measured, in bytes, where the system tells it.
    pub memory: Option<u64>,
}

/// Where in a sweep a kind of run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The shared SFT stage.
    Stage,
    /// After an SFT stage.
    AfterSft,
    /// From the base model.
    Base,
}

impl KindCost {
    /// The median of the steps measured, in seconds.
    pub fn step(&self) -> f64 {
        median(self.measured.clone()).unwrap_or(0.0)
    }

    /// The median of a step that asks the reference nothing new.
    pub fn known_step(&self) -> f64 {
        median(self.measured_known.clone()).unwrap_or_else(|| self.step())
    }

    /// Seconds of all runs one at a time, by the median step, by the fastest and by the slowest.
    pub fn seconds(&self) -> [f64; 3] {
        let of = |step: f64, known: f64| {
            (self.steps - self.known) as f64 * step
                + self.known as f64 * known
                + self.evaluation
                + self.reading
        };
        let end = |end: fn(&[f64]) -> Option<&f64>| {
            let step = end(&self.measured).copied().unwrap_or(0.0);
            of(step, end(&self.measured_known).copied().unwrap_or(step))
        };
        [of(self.step(), self.known_step()), end(<[f64]>::first), end(<[f64]>::last)]
    }
}

/// What a sweep will take.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// Kinds of runs, in the order in which they are done.
    pub kinds: Vec<KindCost>,
    /// Seconds of the shared stages.
    stages: f64,
    /// Seconds of every run, in the order in which they are done.
    runs: Vec<f64>,
}

impl Cost {
    /// Runs to do.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Seconds of all runs one at a time, by the median steps, by the fastest and by the slowest.
    pub fn seconds(&self) -> [f64; 3] {
        let of = |which: usize| self.kinds.iter().map(|kind| kind.seconds()[which]).sum();
        [of(0), of(1), of(2)]
    }

    /// How many runs are finished after a while, one at a time.
    pub fn fitting(&self, time: Duration) -> usize {
        let mut spent = self.stages;
        let finished = |seconds: &&f64| {
            spent += **seconds;
            spent <= time.as_secs_f64()
        };
        self.runs.iter().take_while(finished).count()
    }
}

/// Measures what is to be done of `plan`. Nothing is written into the sweep: what has to be prepared goes to the system's
/// folder for scratch, and is removed.
pub fn estimate(plan: &Plan, sweep: &SweepDir, how: &Execution) -> Result<Cost, SweepError> {
    let scratch = WholeDir::create(&std::env::temp_dir().join("prospect-estimate"))?;
    let todo = Todo::new(plan, &plan.foreseen(), sweep, how);
    let mut bench = Bench { plan, sweep, scratch: scratch.path(), manifests: BTreeMap::new(), loaded: None };
    let mut cost = Cost { kinds: Vec::new(), stages: 0.0, runs: Vec::new() };
    for sft in todo.stages {
        let place = Place::Stage;
        let item = Item {
            model: sft.model,
            sft: None,
            place,
            settings: &sft.settings,
            dataset: sft.dataset,
            seed: 0,
        };
        let kind = bench.kind(&item, &[(&item, Asked::default())])?.0;
        cost.stages += kind.seconds()[0];
        cost.kinds.push(kind);
    }
    let items: Vec<Item<'_>> = todo
        .runs
        .iter()
        .map(|run| {
            let place = if run.sft.is_some() { Place::AfterSft } else { Place::Base };
            Item {
                model: run.model,
                sft: run.sft,
                place,
                settings: &run.train,
                dataset: run.dataset,
                seed: run.seed,
            }
        })
        .collect();
    let mut seconds = vec![0.0; items.len()];
    let mut measured: Vec<usize> = Vec::new();
    for first in 0..items.len() {
        if measured.contains(&first) {
            continue;
        }
        let alike: Vec<usize> =
            (first..items.len()).filter(|index| items[*index].is_like(&items[first])).collect();
        let asked = |index: usize| Asked::before(&items[index], &items[..index]);
        let members: Vec<_> = alike.iter().map(|index| (&items[*index], asked(*index))).collect();
        let (kind, each) = bench.kind(&items[first], &members)?;
        cost.kinds.push(kind);
        for (index, run) in alike.iter().zip(each) {
            seconds[*index] = run;
        }
        measured.extend(alike);
    }
    cost.runs = seconds;
    Ok(cost)
}

/// A run or a stage.
struct Item<'a> {
    model: usize,
    sft: Option<usize>,
    place: Place,
    settings: &'a Settings,
    dataset: usize,
    seed: u64,
}

/// What earlier runs have asked the reference that a run asks too.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    /// About its batches.
    batches: bool,
    /// About its held-out pairs.
    held_out: bool,
}

impl Asked {
    fn before(item: &Item<'_>, earlier: &[Item<'_>]) -> Self {
        Self {
            batches: earlier.iter().any(|other| item.asks_what(other)),
            held_out: earlier.iter().any(|other| item.ranks_what(other)),
        }
    }
}

impl Item<'_> {
    /// What the objective asks of the model: which completions, how many mismatched ones for each, and whether the reference's
    /// log-probs too. What it makes of them takes no time beside that.
    fn asked(&self) -> (FeedbackFormat, usize, bool) {
        let objective = &self.settings.objective;
        let mismatched = if let Objective::Kto { kl_partners, .. } = objective { *kl_partners } else { 0 };
        (objective.feedback_format(), mismatched, objective.needs_reference())
    }

    /// Whether the reference is asked about the same batches, if at all.
    fn asks_what(&self, other: &Self) -> bool {
        let batches = |item: &Self| {
            let Settings { batch_size, micro_batch_size, max_length, max_prompt_length, .. } = *item.settings;
            let (examples, mismatched, asked) = item.asked();
            let texts =
                (item.dataset, max_length, max_prompt_length, batch_size, micro_batch_size, item.seed);
            asked.then_some((item.model, item.sft, texts, examples, mismatched))
        };
        batches(self).is_some() && batches(self) == batches(other)
    }

    /// Whether held-out pairs are ranked that the reference knows already.
    fn ranks_what(&self, other: &Self) -> bool {
        let pairs = |item: &Self| {
            let Settings { micro_batch_size, max_length, max_prompt_length, .. } = *item.settings;
            let control = item.settings.objective.control(true).to_owned();
            (item.model, item.sft, item.dataset, max_length, max_prompt_length, micro_batch_size, control)
        };
        pairs(self) == pairs(other)
    }

    /// Whether a step of both takes the same time, but for the lengths of texts.
    fn is_like(&self, other: &Self) -> bool {
        let shape = |item: &Self| {
            let Settings { batch_size, micro_batch_size, max_length, humanline, .. } = item.settings;
            (item.model, item.sft, *batch_size, *micro_batch_size, *max_length, humanline.is_some())
        };
        self.asked() == other.asked() && shape(self) == shape(other)
    }
}

/// Each name once, in the order in which they come.
fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// What measuring needs.
struct Bench<'a> {
    plan: &'a Plan,
    sweep: &'a SweepDir,
    scratch: &'a Path,
    manifests: BTreeMap<usize, Manifest>,
    /// The model that was measured last, by model and stage.
    loaded: Option<(usize, Option<usize>, Model)>,
}

impl Bench<'_> {
    /// Measures `item` and makes of it what `members`, which are like it, take together and each.
    fn kind(
        &mut self,
        item: &Item<'_>,
        members: &[(&Item<'_>, Asked)],
    ) -> Result<(KindCost, Vec<f64>), SweepError> {
        let recipe = &self.plan.models[item.model];
        let objective = item.settings.objective.name();
        say(format!("measuring {STEPS} steps of {objective} on {}", recipe.name));
        memory::forget_peak();
        let loading = self.load(item)?;
        let dataset = self.dataset(item.dataset)?;
        let steps = self.steps(item)?;
        let loaded = self.loaded.as_ref().map(|(.., model)| model);
        let model = loaded.ok_or_else(|| SweepError::Setting("no model is loaded".to_owned()))?;
        let measured = measure(self.plan, model, recipe, item, &dataset, steps)?;
        let mut kind = KindCost {
            objectives: unique(members.iter().map(|(member, _)| member.settings.objective.name().to_owned())),
            model: recipe.name.clone(),
            place: item.place,
            runs: members.len(),
            steps: 0,
            known: 0,
            measured: measured.steps.clone(),
            measured_known: measured.known_steps.clone(),
            evaluation: 0.0,
            reading: loading,
            memory: memory::peak(),
        };
        let mut each = Vec::with_capacity(members.len());
        for (member, asked) in members {
            let steps = self.steps(member)?;
            let evaluation = if member.place == Place::Stage {
                0.0
            } else {
                self.evaluation(member, *asked, steps, &measured)?
            };
            kind.steps += steps;
            kind.known += if asked.batches { steps } else { 0 };
            kind.evaluation += evaluation;
            kind.reading += measured.reading;
            let step = if asked.batches { kind.known_step() } else { kind.step() };
            each.push(steps as f64 * step + evaluation + measured.reading);
        }
        if let Some(first) = each.first_mut() {
            *first += loading;
        }
        Ok((kind, each))
    }

    /// Loads what `item` starts from, unless it is there, and says how long that took. Before its stage is trained, the base
    /// stands in for what it will make of it: weights of the same shape.
    fn load(&mut self, item: &Item<'_>) -> Result<f64, SweepError> {
        if self.loaded.as_ref().is_some_and(|(model, sft, _)| (*model, *sft) == (item.model, item.sft)) {
            return Ok(0.0);
        }
        self.loaded = None;
        let trained = item.sft.filter(|sft| self.sweep.run(&self.plan.sft[*sft].id).is_finished());
        let started = Instant::now();
        let model = start(self.plan, self.sweep, item.model, trained)?.load()?;
        self.loaded = Some((item.model, item.sft, model));
        Ok(started.elapsed().as_secs_f64())
    }

    /// A prepared dataset: the sweep's own, or one among the scratch.
    fn dataset(&mut self, index: usize) -> Result<PathBuf, SweepError> {
        let dataset = &self.plan.datasets[index];
        if let Some(manifest) = prepared(&dataset.pipeline, &dataset.path)? {
            self.manifests.insert(index, manifest);
            return Ok(dataset.path.clone());
        }
        let path = self.scratch.join(index.to_string());
        if !path.exists() {
            self.manifests.insert(index, prepare(&dataset.pipeline, &path)?);
        }
        Ok(path)
    }

    fn manifest(&mut self, index: usize) -> Result<&Manifest, SweepError> {
        Ok(match self.manifests.entry(index) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(counted(&self.plan.datasets[index])?),
        })
    }

    fn steps(&mut self, item: &Item<'_>) -> Result<u64, SweepError> {
        let train = self.manifest(item.dataset)?.train;
        Ok(item.settings.steps(completions(train, &item.settings.objective)))
    }

    /// Seconds that a run spends on held-out pairs and prompts.
    fn evaluation(
        &mut self,
        item: &Item<'_>,
        asked: Asked,
        steps: u64,
        measured: &Measured,
    ) -> Result<f64, SweepError> {
        let held_out = self.manifest(item.dataset)?.test.pairs as usize;
        let evaluate = self.plan.evaluate;
        let pairs = evaluate.pairs.map_or(held_out, |most| most.min(held_out));
        // In between and at the end; and at the start, where the policy still is the reference.
        let between = evaluate.every.map_or(0, |every| steps.saturating_sub(1) / every.max(1));
        let times = between + 1 + u64::from(!asked.held_out);
        let prompts = evaluate.generations.map_or(0, |generations| generations.prompts.get().min(held_out));
        Ok((times as usize * pairs + measured.corrupted) as f64 * measured.pair
            + 2.0 * prompts as f64 * measured.prompt)
    }
}

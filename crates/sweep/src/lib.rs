//! Plans and runs sweeps: one experiment file in, a directory of finished runs out.
//!
//! 1. [`LoadedExperiment`] is an experiment file (`experiments/*.yaml`, an [`ExperimentFile`]) with
//!    command-line overrides.
//! 2. [`SweepPlan::new`] resolves it. Every combination of `linked` and `matrix` settings with each
//!    seed becomes a [`ResolvedRun`], named by the fingerprint of everything its result depends on.
//! 3. [`execute`] prepares missing datasets, trains missing shared SFT stages, and trains missing
//!    runs. Several processes can execute one plan; claims keep them off each other's runs.
//! 4. [`prospect_analysis::summarise`] turns finished runs into the estimates and the verdict that
//!    a report shows.
//!
//! Around a plan: [`check`] validates an experiment without its inputs, [`sweep_status`] reads the
//! progress of a sweep, [`estimate_time`] measures how long it takes, [`remaining_work`] and
//! [`estimate_memory`] compute arithmetic, disk space and memory without measuring,
//! [`training_schedule`] lists steps and epochs of each series, and [`Submission`] hands workers to
//! Slurm. A [`Triage`] ranks the labels of a dataset by their disagreement with held-out policies.
//! [`Verification`] finds damaged files of sweeps and datasets, [`Garbage`] what no run needs.
//! A [`ComparisonSession`] compares methods in stages; each stage is such a sweep.
//!
//! Settings are addressed by dotted keys: `data.…` (the data recipe), `model.…` (the model recipe),
//! `train.…` and `sft.…`. `data` and `model` alone name a whole recipe.
//!
//! ```
//! use std::path::Path;
//!
//! use prospect_core::config::Document;
//! use prospect_sweep::{LoadedExperiment, RecipeSources, SweepPlan};
//!
//! let recipe = |name: &str| match name {
//!     "data.yaml" => Document::from_text(name, "source: { kind: synthetic, pairs: 60 }"),
//!     _ => Document::from_text(
//!         name,
//!         "weights: random\ntokenizer: bytes\narchitecture: { vocab_size: 258, hidden_size: 16, \
//!          intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, \
//!          max_position_embeddings: 256 }",
//!     ),
//! };
//! let sources = RecipeSources { recipe: &recipe, data: &recipe, locate: &|path| Ok(path.into()) };
//! let experiment = LoadedExperiment::read(
//!     "beta.yaml",
//!     Document::from_text(
//!         "beta.yaml",
//!         "question: Does a larger beta help?\ndata: data.yaml\nmodel: model.yaml\n\
//!          train: { learning_rate: 1e-3, num_train_epochs: 1, batch_size: 16, max_length: 160, \
//!          max_prompt_length: 100 }\n\
//!          linked: { method: { dpo: { train.objective: dpo }, kto: { train.objective: kto } } }\n\
//!          matrix: { train.beta: [0.1, 0.5] }\nseeds: [0]\n\
//!          report: { x: train.beta, series: method, baseline: dpo }",
//!     )?,
//!     &[],
//! )?;
//! let plan = SweepPlan::new(&experiment, &sources, Path::new("runs/beta/data"))?;
//! assert_eq!(plan.runs.len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compare;
mod config;
mod error;
mod estimate;
mod exec;
mod garbage;
mod plan;
mod search;
mod slurm;
mod status;
mod triage;
mod verify;

pub use compare::{Budget, CompareOptions, ComparisonPlan, ComparisonSession, DataFacts};
pub use config::{
    AccuracyFloor, BaseModel, BaselineFile, CheckpointsFile, ChoicesFile, DrawnFile, EvaluateFile, ExactFile,
    ExperimentFile, GenerationsFile, Groups, HalvingFile, LoadedExperiment, PrimaryFile, RecipeSources,
    ReferenceFile, ReferencesFile, ReportFile, SearchFile, SeedsFile, ShotsFile, StopFile, prepared_dataset,
};
pub use error::SweepError;
pub use estimate::{
    ASSUMED_RATE, CARDS, CardEstimate, CardFit, DeviceCost, DevicePrice, EvaluationCost, MemoryEstimate,
    Parallelism, PricesFile, RemainingWork, RunGroupCost, RunStart, SeriesSchedule, SweepCost, TrainingCost,
    TrainingSchedule, completion_operations, estimate_cards, estimate_memory, estimate_time, remaining_work,
    training_schedule,
};
pub use exec::{
    Execution, ExecutionSummary, Jobs, WaitPolicy, count_pending, execute, prepare_datasets, record_plan,
};
pub use garbage::{Garbage, Reason};
pub use plan::{
    CheckedExperiment, DatasetSource, PlannedDataset, PlannedState, ResolvedRun, RunFilter, SftStage,
    SweepPlan, UntrainedPolicy, check,
};
pub use search::{SearchPlan, TrialId};
pub use slurm::{
    Preparation, PreparationOutcome, SlurmProfile, SlurmProfileFile, SlurmStatus, SlurmTask, Submission,
    SubmissionOutcome,
};
pub use status::{Remaining, RunState, RunStatus, SweepStatus, sweep_status};
pub use triage::{KindResults, RankedItem, Ranking, Triage, TriageOptions, TriagePlan};
pub use verify::{Damage, Part, Remedy, Verification};

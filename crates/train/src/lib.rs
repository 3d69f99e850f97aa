//! Training loop: batches, reference log-probs, loss, optimizer, checkpoints and a memory planner.
//!
//! [`train`] trains a policy as a [`TrainContext`] describes and reports to an [`Observer`]. A step
//! (`step.rs`) runs the whole global batch forward, evaluates the objective once, then runs
//! backward. KTO's reference point is therefore exact under gradient accumulation.
//!
//! | module | content |
//! |---|---|
//! | `settings` | [`TrainFile`], the YAML form, and [`Settings`], the resolved form |
//! | `encode`, `examples` | [`Encoder`]: text to tokens; [`TrainingSet`]: rows to examples |
//! | `batches` | data order, mismatched completions, [`MicroBatch`] |
//! | `trainer`, `step` | the loop, and one optimizer step |
//! | `policy`, `logprobs`, `loss` | log-probs of policy and reference, and the objective's loss |
//! | `reference` | [`ReferenceCache`], reference log-probs cached by content |
//! | `optimizer`, `checkpoint` | AdamW, and [`Checkpoints`] to resume from |
//! | `distributed` | collective operations of data-parallel training |
//! | `step_budget` | what shrinks when the device runs out of memory |
//! | `noise_metrics` | metrics of corrupted and clean rows |
//! | `planner` | [`PlanRequest`]: settings that fit a memory budget; [`benchmark`]: their speed |
//! | `parity` | [`ParityCase`]: a device against the CPU on small models |
//! | `preview` | training examples as text |
//!
//! The order of the data is a function of seed and epoch only.
//!
//! ```
//! use prospect_core::config::Document;
//! use prospect_train::TrainFile;
//!
//! let text = "objective: kto\nlearning_rate: 5e-6\nbatch_size: 32\nmax_length: 512\nmax_steps: 9";
//! let settings = Document::from_text("train.yaml", text)?.read::<TrainFile>()?.resolve()?;
//! assert_eq!(settings.objective.name(), "kto");
//! assert_eq!(settings.max_prompt_length, 256);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batches;
mod checkpoint;
mod context;
mod distributed;
mod encode;
mod error;
mod examples;
mod logprobs;
mod loss;
mod noise_metrics;
mod observer;
mod optimizer;
mod parity;
mod planner;
mod policy;
mod preview;
mod reference;
mod settings;
mod step;
mod step_budget;
mod stop_reason;
mod trainer;

pub use batches::{MicroBatch, Role, pack_labelled, pack_pairs, partners};
pub use checkpoint::{Checkpoints, TrainState};
pub use context::TrainContext;
pub use encode::{
    Adaptation, DropReason, DroppedRow, Encoded, EncodedConversation, Encoder, EncodingCache, EncodingCounts,
    Truncation, token_counter,
};
pub use error::TrainError;
pub use examples::{
    PairExample, SupervisedExample, TrainingSet, UnpairedExample, encode_for_evaluation, needs_pairs,
};
pub use loss::ObjectiveState;
pub use observer::{Observer, TrainOutcome, TrainedPolicy};
pub use parity::{ParityCase, ParityResult};
pub use planner::{PlanRequest, TrainPlan, benchmark};
pub use policy::{Policy, ScoredBatches};
pub use preview::{ExamplePreview, Preview, PreviewStyle, SequencePreview, preview, render_previews};
pub use reference::{LogProbGranularity, ReferenceCache, ReferenceModel};
pub use settings::{
    ClassWeighting, ControlTokens, FeedbackFormat, Length, Objective, ObjectiveChoice, ObjectiveName,
    OptimizerConfig, OptimizerName, Preset, ReferenceSync, Schedule, Settings, TrainFile, WeightedObjective,
    Z0,
};
pub use stop_reason::StopReason;
pub use trainer::{observe_untrained, train};

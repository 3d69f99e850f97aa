//! Prepares datasets for KTO and DPO: raw human feedback to binary and paired parquet files.
//!
//! 1. [`PipelineFile`] is a recipe as written (`pipelines/*.yaml`).
//! 2. [`PipelineFile::resolve`] checks it, finds and hashes its inputs, and returns a [`Pipeline`].
//! 3. [`prepare()`] makes a dataset directory from the pipeline:
//!
//! ```text
//! <dataset>/
//!   kto/{train,test}-00000-of-00001.parquet   BinaryRows: prompt, completion, label
//!   dpo/{train,test}-00000-of-00001.parquet   PairRows: prompt, chosen, rejected
//!   manifest.json                             Manifest: recipe, input hashes, counts of every step
//!   rejected.jsonl                            unusable rows: file, line, reason, detail
//!   BLAKE3SUMS                                hashes of the files above, checked when they are read
//!   README.md                                 dataset card for the Hugging Face `datasets` library
//!   raw.jsonl                                 generated feedback, for synthetic sources only
//! ```
//!
//! The steps run in a fixed order: read and reject rows, apply corrections, settle contradictory
//! labels, find exact duplicates, split by prompt, group or time, find near duplicates, select, keep
//! one row of each pair or prompt, mix sources, apply class imbalance, apply noise, write. Imbalance
//! and noise affect the training split only. The binary and the paired files hold the same rows
//! with the same corruption.
//!
//! The input is read twice. The first pass keeps about forty bytes of each row, on which all steps
//! work; the second pass writes the texts of the rows that remain. [`prepare_shard`] runs the first
//! pass on part of the input, and [`merge_shards`] makes from all parts the same dataset as
//! [`prepare()`].
//!
//! [`read_binary`], [`read_pairs`], [`read_columns`], [`read_rejected`] and [`read_manifest`] read
//! a dataset directory. Synthetic feedback comes from a [`SyntheticWorld`], which knows the true
//! utility of any completion ([`Pipeline::world`]).
//!
//! Questions that measure what training costs a model are no feedback, and no part of a dataset: a
//! [`QuestionSource`] reads them.
//!
//! | module | content |
//! |---|---|
//! | `config` | recipes as written, and resolving them |
//! | `ingest` | input files to prompts with judged completions; rejected rows are counted here |
//! | `table` | table of all rows without their texts, on which the steps work |
//! | `steps` | the steps between reading and writing, one file each |
//! | `output` | parquet files, manifest, dataset card, exports |
//! | `prepare` | all of these in order |
//! | `triage` | judgements that look wrong: signals, folds, table |
//! | `questions` | questions with known answers, read from files in the layouts of public sets |
//!
//! ```
//! use prospect_core::config::Document;
//! use prospect_data::{PipelineFile, Split, prepare, read_pairs};
//!
//! let recipe = Document::from_text("recipe.yaml", "source: {kind: synthetic, pairs: 50}")?;
//! let pipeline = recipe.read::<PipelineFile>()?.resolve(&|path| Ok(path.into()))?;
//! let out = tempfile::tempdir()?;
//! let dataset = out.path().join("synthetic");
//! let manifest = prepare(&pipeline, &dataset)?;
//! assert_eq!((manifest.train.pairs, manifest.test.pairs), (45, 5));
//! assert_eq!(read_pairs(&dataset, Split::Test)?.len(), 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod error;
#[cfg(test)]
mod fixtures;
mod ingest;
mod output;
mod prepare;
mod questions;
mod rows;
mod steps;
mod table;
mod tokens;
mod triage;

pub use config::{HhPart, Locate, Pipeline, PipelineFile, SourceFile, SourceFiles, SourceKind, SplitFile};
pub use error::DataError;
pub use ingest::{
    InputFile, ReadingCounts, RejectedRow, Shard,
    records::{CsvFormat, Delimiter, Quoting, Records, TextEncoding, read_objects},
    shard_file, shards_folder,
    sources::{
        AnnotatorGroup, AnnotatorsFile, Better, Binarise, BothBad, Columns, CompletionPart, Domain, Oasst,
        OneHot, RankPairing, RecordField, ResolvedSource, ResolvedSources, ScoreScope, Several, Shp, Side,
        Synthetic, SyntheticWorld, ThumbWords, Thumbs, WorldFile, first_score, judgement_score,
    },
};
pub use output::{
    BalancedClassWeights, Batches, DatasetFile, LlamaFactoryCounts, Manifest, dataset_fingerprint,
    export_llama_factory, read_binary, read_binary_batches, read_columns, read_manifest, read_pairs,
    read_rejected,
};
pub use prepare::{dry_run, is_dataset, is_shard_prepared, merge_shards, prepare, prepare_shard, prepared};
pub use questions::{
    Answer, AnswerForm, AnswerKey, LabelledChoice, MultipleChoice, Question, QuestionLayout, QuestionSet,
    QuestionSource,
};
pub use rows::{BinaryRow, Message, PairRow, Split};
pub use steps::{
    contradictions::{ContradictionCounts, Contradictions, PolicyEffect},
    corrections::CorrectionCounts,
    duplicates::{DuplicateCounts, Duplicates, NearDuplicates},
    imbalance::{ClassCounts, Imbalance, ImbalanceCounts, ImbalanceScope, Ratio},
    log_counts::{LogCounts, LogSpan},
    mixing::{Mix, MixCounts},
    noise::{
        Annotators, ChangeCounts, DropWords, LengthFlip, Noise, NoiseCounts, NoiseKindCounts, ScoreFlip,
        Shuffle, Truncate,
    },
    one_per_pair::OnePerPair,
    one_per_prompt::OnePerPrompt,
    quality::QualityCounts,
    selection::{Selection, SelectionCounts},
    split::{SplitBy, SplitRule},
};
pub use table::SplitCounts;
pub use tokens::{CountTokens, TokenCounter};
pub use triage::{Fold, ItemKind, Signal, TriageItem, TriageRow, mark, read_items, write_folds, write_table};

//! Raw human feedback to binary and paired parquet.
//!
//! A [`PipelineFile`] is what a recipe (`pipelines/*.yaml`) says; [`PipelineFile::resolve`] finds and hashes its
//! inputs and checks its values, which gives a [`Pipeline`]; [`prepare`] turns that into a dataset directory:
//!
//! ```text
//! <dataset>/
//!   kto/{train,test}-00000-of-00001.parquet   one BinaryRow a row: prompt, completion, label
//!   dpo/{train,test}-00000-of-00001.parquet   one PairRow a row: prompt, chosen, rejected
//!   manifest.json                             Manifest: the recipe, input hashes, every count by reason
//!   rejected.jsonl                            file, line, reason and detail of each row that was not usable
//!   README.md                                 dataset card, read by the Hugging Face `datasets` library
//!   raw.jsonl                                 only with a generated source: what was generated
//! ```
//!
//! The steps have one order: read, reject, pair, settle contradictory labels, count or drop duplicates, split by
//! prompt, select, keep one side of each pair, mix sources, thin classes (imbalance), corrupt (noise), write. Texts are
//! read twice: all is decided on what the first reading keeps of a row. Imbalance and noise touch the training split
//! only, and the binary and the paired files hold the same rows with the same corruption. [`prepare_shard`] reads a part
//! of the input and [`merge_shards`] makes the dataset of all parts, the same as [`prepare`] does.
//!
//! Generated feedback comes from a [`World`], which knows the true utility of any completion ([`Pipeline::world`]).
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
mod rows;
mod steps;
mod summary;
mod table;
mod tokens;

pub use config::{
    HhPart, Locate, Pipeline, PipelineFile, SourceFile, SourceFiles, SourceKind, SplitFile,
};
pub use error::DataError;
pub use ingest::{
    InputFile, ReadingCounts, Shard, shard_file, shards_folder,
    sources::{
        AnnotatorGroup, AnnotatorsFile, Binarise, Columns, CompletionPart, Domain, Oasst, RankPairing, RecordField,
        ResolvedSource, ResolvedSources, ScoreScope, Shp, Synthetic, SyntheticWorld, Thumbs, WorldFile,
    },
};
pub use output::{
    ClassWeights, LlamaFactoryCounts, Manifest, export_llama_factory, read_binary, read_manifest, read_pairs,
};
pub use prepare::{dry_run, is_shard_prepared, merge_shards, prepare, prepare_shard, prepared};
pub use rows::{BinaryRow, Message, PairRow, Split};
pub use steps::{
    contradictions::{ContradictionCounts, Contradictions, PolicyEffect},
    duplicates::{DuplicateCounts, Duplicates, NearDuplicates},
    imbalance::{ClassCounts, Imbalance, ImbalanceCounts, ImbalanceScope, Ratio},
    mixing::{Mix, MixCounts},
    noise::{
        Annotators, ChangeCounts, DropWords, LengthFlip, Noise, NoiseCounts, NoiseKindCounts, ScoreFlip, Shuffle,
        Truncate,
    },
    one_per_pair::OnePerPair,
    selection::{Selection, SelectionCounts},
    split::SplitRule,
};
pub use summary::{
    DatasetSummary, DomainSummary, Example, LengthHistogram, Lengths, RejectedExample, Rejections, RowCounts,
    SplitSummary, TextLengths, summarise,
};
pub use table::SplitCounts;
pub use tokens::{CountTokens, TokenCounter};

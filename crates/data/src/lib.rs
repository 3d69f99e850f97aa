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

mod balance;
mod card;
mod contradictions;
mod donors;
mod duplicates;
mod error;
mod feedback;
mod ids;
mod imbalance;
mod llama_factory;
mod manifest;
mod minhash;
mod mixing;
mod noise;
mod one_per_pair;
mod parquet_file;
mod pipeline;
mod prepare;
mod raw;
mod reading;
mod records;
mod row;
mod selection;
mod shard;
mod shards;
mod sources;
mod split;
mod summary;
mod survey;
mod tokens;
mod writing;

pub use balance::AutoWeights;
pub use contradictions::{ContradictionCounts, Contradictions, PolicyEffect};
pub use duplicates::{DuplicateCounts, Duplicates, Near};
pub use error::DataError;
pub use imbalance::{ClassCounts, Imbalance, ImbalanceCounts, Per, Ratio};
pub use llama_factory::{LlamaFactory, export_llama_factory};
pub use manifest::{InputFile, Manifest, SplitCounts, read_manifest};
pub use mixing::{Mix, MixCounts};
pub use noise::{
    Annotators, Changed, DropWords, KindCounts, LengthFlip, Noise, NoiseCounts, ScoreFlip, Shuffle, Truncate,
};
pub use one_per_pair::OnePerPair;
pub use pipeline::{Locate, Pipeline, PipelineFile, SplitFile, SplitRule};
pub use prepare::{count, merge_shards, prepare, prepared};
pub use reading::ReadingCounts;
pub use row::{BinaryRow, Message, PairRow, Split, read_binary, read_pairs};
pub use selection::{Selection, SelectionCounts};
pub use shard::Shard;
pub use shards::{prepare_shard, shard_file, shard_prepared, shards_folder};
pub use sources::{
    AnnotatorGroup, AnnotatorsFile, Binarise, Columns, Domain, Field, Kind, Oasst, Only, Over, Part, Ranks,
    ResolvedSource, Shp, SourceFile, SourceFiles, Sources, Synthetic, Thumbs, World, WorldFile,
};
pub use summary::{
    Counts, Example, Group, Histogram, Lengths, RejectedExample, Rejections, SplitSummary, Summary,
    TextLengths, summarise,
};
pub use tokens::{CountTokens, TokenCounter};

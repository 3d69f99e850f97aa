//! Readers for raw feedback: public datasets, the user's own files, and generated feedback.
//!
//! To add a source, write a file that parses one record ([`per_record::RecordFormat`]), add an arm
//! to [`SourceFormat`], and add its kind and settings to `config/source_kind.rs` and
//! `config/source.rs`.

mod binarise;
pub(crate) mod chats;
pub(crate) mod columns;
pub(crate) mod comparisons;
mod embedded;
pub(crate) mod excerpt;
pub(crate) mod files;
mod hh;
pub(crate) mod json;
pub(crate) mod judgements;
pub(crate) mod labels;
mod merge;
mod numbers;
mod oasst;
pub(crate) mod pairs;
mod per_record;
mod python;
mod record_log;
pub(crate) mod scores;
mod shp;
mod synthetic;
#[cfg(test)]
pub(crate) mod tests;
mod thumb_words;
mod transcript;
mod tree;
mod turns;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use serde::Serialize;

pub use binarise::{Binarise, ScoreScope};
use chats::Chats;
pub use columns::{Columns, RecordField};
use comparisons::ComparisonsFormat;
pub use comparisons::{Better, BothBad, OneHot, Side, first_score};
pub use judgements::Several;
pub use oasst::{Oasst, RankPairing};
pub use shp::Shp;
pub use synthetic::{
    AnnotatorGroup, AnnotatorsFile, CompletionPart, Domain, Synthetic, SyntheticWorld, Thumbs, WorldFile,
};
pub(crate) use thumb_words::{LABEL_MINUS_ONE, LABEL_ZERO};
pub use thumb_words::{ThumbWords, judgement_score};

use crate::{
    DataError, InputFile,
    ingest::{
        raw::RowSink,
        shard::{Shard, ShardFilter},
    },
    table::group_salt::GroupSalt,
};
use binarise::{Labeller, Rule};
use files::HashedFile;
use hh::HhFormat;
use judgements::Judgements;
use labels::LabelsFormat;
use merge::MergePrompts;
use pairs::PairsFormat;
use per_record::{RecordFormat, SourceContext};
use scores::ScoresFormat;

/// All sources of a recipe, read one after the other.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct ResolvedSources(pub(crate) Vec<ResolvedSource>);

/// A source whose files have been found and hashed.
#[derive(Debug, Clone, Serialize)]
pub struct ResolvedSource {
    /// Value of the `source` column.
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) reader: SourceFormat,
    /// Value of the `domain` column where neither the record nor its folder gives one.
    pub(crate) domain: Option<String>,
    /// Domains to keep; all if empty.
    pub(crate) domains: Vec<String>,
    pub(crate) binarise: Option<Binarise>,
    pub(crate) files: Vec<HashedFile>,
    #[serde(skip)]
    pub(crate) seed: u64,
    /// Salt of the hashes that replace the names of groups.
    #[serde(skip)]
    pub(crate) salt: GroupSalt,
    #[serde(skip)]
    pub(crate) rule: OnceLock<Rule>,
}

/// Format of a source, with its settings.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum SourceFormat {
    Hh,
    Shp(Shp),
    Oasst(Oasst),
    Pairs(PairsFormat),
    Labels(LabelsFormat),
    /// Completions with scores or ranks.
    Scores(ScoresFormat),
    Ranks(ScoresFormat),
    Comparisons(ComparisonsFormat),
    Chats(Chats),
    Judgements(Judgements),
    /// Judgements in a table of their own.
    Joined(Judgements),
    Synthetic(Synthetic),
}

impl ResolvedSources {
    /// Returns true if every source has its own training and test splits.
    pub(crate) fn has_splits(&self) -> bool {
        self.0.iter().all(ResolvedSource::has_splits)
    }

    /// Reads all rows, in the same order every time. `dataset` is the output directory, where a
    /// synthetic source writes the rows that it then reads.
    pub(crate) fn read(&self, dataset: &Path, into: &mut dyn RowSink) -> Result<(), DataError> {
        self.0.iter().try_for_each(|source| source.read(dataset, Shard::WHOLE, into))
    }

    /// Returns the sources in recipe order.
    pub(crate) fn as_slice(&self) -> &[ResolvedSource] {
        &self.0
    }

    /// Returns the world of the synthetic source, if there is one.
    pub(crate) fn world(&self) -> Option<&SyntheticWorld> {
        self.0.iter().find_map(|source| match &source.reader {
            SourceFormat::Synthetic(synthetic) => Some(&synthetic.world),
            _ => None,
        })
    }

    /// Returns the name of the column that a field is mapped to, in the first source that maps it.
    pub(crate) fn mapping(&self, field: RecordField) -> Option<&str> {
        self.0.iter().find_map(|source| source.columns()?.mapping(field))
    }

    /// Replaces the salt that follows from the seed.
    pub(crate) fn set_salt(&mut self, salt: GroupSalt) {
        for source in &mut self.0 {
            source.salt = salt;
        }
    }

    /// Describes the files that [`read`](Self::read) reads; call it after `read`.
    pub(crate) fn inputs(&self, dataset: &Path) -> Result<Vec<InputFile>, DataError> {
        let mut inputs = Vec::new();
        for source in &self.0 {
            match source.reader {
                SourceFormat::Synthetic(_) => inputs.push(Synthetic::input(dataset)?.describe()),
                _ => inputs.extend(source.files.iter().map(HashedFile::describe)),
            }
        }
        Ok(inputs)
    }
}

impl ResolvedSource {
    fn has_splits(&self) -> bool {
        self.files.iter().any(|file| file.split.is_some())
            || self.columns().is_some_and(|columns| columns.mapping(RecordField::Split).is_some())
    }

    /// Returns the names of columns, for kinds whose columns can be named.
    fn columns(&self) -> Option<&Columns> {
        match &self.reader {
            SourceFormat::Pairs(PairsFormat { columns })
            | SourceFormat::Labels(LabelsFormat { columns, .. })
            | SourceFormat::Scores(ScoresFormat { columns, .. })
            | SourceFormat::Ranks(ScoresFormat { columns, .. })
            | SourceFormat::Comparisons(ComparisonsFormat { columns, .. })
            | SourceFormat::Chats(Chats { columns, .. })
            | SourceFormat::Judgements(Judgements { columns, .. })
            | SourceFormat::Joined(Judgements { columns, .. }) => Some(columns),
            SourceFormat::Hh | SourceFormat::Shp(_) | SourceFormat::Oasst(_) | SourceFormat::Synthetic(_) => {
                None
            }
        }
    }

    /// Returns true for generated feedback, which has no input files to read in shards.
    pub(crate) fn is_generated(&self) -> bool {
        matches!(self.reader, SourceFormat::Synthetic(_))
    }

    /// Reads the rows of a shard, in the same order every time.
    pub(crate) fn read(&self, dataset: &Path, shard: Shard, into: &mut dyn RowSink) -> Result<(), DataError> {
        let Some(policy) = &self.binarise else { return self.read_raw(dataset, shard, into) };
        if self.rule.get().is_none() {
            // The rule depends on all scores, so this pass ignores the shard.
            let rule = policy.rule(self.seed, |scores| self.read_raw(dataset, Shard::WHOLE, scores))?;
            let _ = self.rule.set(rule);
        }
        let Some(rule) = self.rule.get() else { return Ok(()) };
        let mut labelling = Labeller { rule, groups: 0, scored: 0, into };
        self.read_raw(dataset, shard, &mut labelling)?;
        if labelling.groups > 0 && labelling.scored == 0 {
            return Err(DataError::NoScores(self.name.clone()));
        }
        Ok(())
    }

    fn read_raw(&self, dataset: &Path, shard: Shard, into: &mut dyn RowSink) -> Result<(), DataError> {
        let format: &dyn RecordFormat = match &self.reader {
            SourceFormat::Hh => &HhFormat,
            SourceFormat::Shp(shp) => {
                shp.settle(&self.files)?;
                shp
            }
            SourceFormat::Pairs(pairs) => pairs,
            SourceFormat::Labels(labels) => labels,
            SourceFormat::Scores(scores) if scores.merge_prompts => {
                // Rows of one prompt can be in two blocks, so all are read before the shard is
                // taken.
                let mut filter = ShardFilter { shard, number: 0, into };
                let mut merged = MergePrompts::new(&mut filter);
                let mut number = 0;
                for file in &self.files {
                    let context = self.context(file, Shard::WHOLE);
                    number += per_record::read(file, scores, &context, number, &mut merged)?;
                }
                return merged.finish();
            }
            SourceFormat::Scores(scores) | SourceFormat::Ranks(scores) => scores,
            SourceFormat::Comparisons(comparisons) => comparisons,
            SourceFormat::Judgements(judgements) => judgements,
            SourceFormat::Joined(judgements) => {
                let mut into = ShardFilter { shard, number: 0, into };
                let context = |file| self.context(file, shard);
                return judgements::joined::read(&self.files, judgements, &context, &mut into);
            }
            SourceFormat::Chats(chats) => {
                let mut into = ShardFilter { shard, number: 0, into };
                return chats::read(&self.files, chats, &|file| self.context(file, shard), &mut into);
            }
            SourceFormat::Oasst(oasst) => {
                let mut into = ShardFilter { shard, number: 0, into };
                return self
                    .files
                    .iter()
                    .try_for_each(|file| oasst::read(file, oasst, &self.context(file, shard), &mut into));
            }
            SourceFormat::Synthetic(synthetic) => {
                synthetic.write(dataset)?;
                let file = Synthetic::input(dataset)?;
                per_record::read(&file, synthetic, &self.context(&file, shard), 0, into)?;
                return Ok(());
            }
        };
        let mut number = 0;
        for file in &self.files {
            number += per_record::read(file, format, &self.context(file, shard), number, into)?;
        }
        Ok(())
    }

    fn context(&self, file: &HashedFile, shard: Shard) -> SourceContext<'_> {
        let folder = match self.reader {
            SourceFormat::Hh | SourceFormat::Shp(_) if !file.folder.is_empty() => Some(file.folder.as_str()),
            _ => None,
        };
        let domain: Arc<str> = self.domain.as_deref().or(folder).unwrap_or(&self.name).into();
        let source = self.name.as_str().into();
        SourceContext { source, domain, domains: &self.domains, shard, salt: self.salt }
    }
}

//! Where raw rows come from. A new source is one file that says how a record is taken apart ([`rows::Format`]), one arm
//! in [`Reader`] and one in [`recipe`].

mod binarise;
mod columns;
mod files;
mod hh;
mod json;
mod labels;
mod oasst;
mod pairs;
mod recipe;
mod rows;
mod scores;
mod shp;
mod sniff;
mod synthetic;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod transcript;
mod turns;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use serde::Serialize;

pub use binarise::{Binarise, Over};
pub use columns::{Columns, Field};
pub use oasst::{Oasst, Ranks};
pub use recipe::{Kind, Only, SourceFile, SourceFiles};
pub use shp::Shp;
pub use synthetic::{AnnotatorGroup, AnnotatorsFile, Domain, Part, Synthetic, Thumbs, World, WorldFile};

use crate::{
    DataError, InputFile,
    raw::Sink,
    shard::{Shard, ShardOf},
};
use binarise::{Labelling, Rule};
use files::Input;
use hh::Hh;
use labels::Labels;
use pairs::Pairs;
use rows::{Common, Format};
use scores::Scores;

/// All sources of a recipe, read one after the other.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Sources(Vec<ResolvedSource>);

/// A source whose files have been found and hashed.
#[derive(Debug, Clone, Serialize)]
pub struct ResolvedSource {
    /// What the `source` column says.
    name: String,
    #[serde(flatten)]
    reader: Reader,
    /// What the `domain` column says where neither record nor folder does.
    domain: Option<String>,
    /// The domains to keep; all if empty.
    domains: Vec<String>,
    binarise: Option<Binarise>,
    files: Vec<Input>,
    #[serde(skip)]
    seed: u64,
    #[serde(skip)]
    rule: OnceLock<Rule>,
}

/// How a source is read.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Reader {
    Hh,
    Shp(Shp),
    Oasst(Oasst),
    Pairs(Pairs),
    Labels(Labels),
    Scores(Scores),
    Synthetic(Synthetic),
}

impl Sources {
    /// Whether every source has a training and a test split of its own.
    pub(crate) fn has_splits(&self) -> bool {
        self.0.iter().all(ResolvedSource::has_splits)
    }

    /// Reads every row in order, the same each time. `dataset` is the directory being made, for a source that writes
    /// what it reads.
    pub(crate) fn read(&self, dataset: &Path, into: &mut dyn Sink) -> Result<(), DataError> {
        self.0.iter().try_for_each(|source| source.read(dataset, Shard::WHOLE, into))
    }

    /// One source after the other.
    pub(crate) fn as_slice(&self) -> &[ResolvedSource] {
        &self.0
    }

    /// The world that feedback is generated from, if any is.
    pub(crate) fn world(&self) -> Option<&World> {
        self.0.iter().find_map(|source| match &source.reader {
            Reader::Synthetic(synthetic) => Some(&synthetic.world),
            _ => None,
        })
    }

    /// The files that [`read`](Self::read) reads, once it has read them.
    pub(crate) fn inputs(&self, dataset: &Path) -> Result<Vec<InputFile>, DataError> {
        let mut inputs = Vec::new();
        for source in &self.0 {
            match source.reader {
                Reader::Synthetic(_) => inputs.push(Synthetic::input(dataset)?.describe()),
                _ => inputs.extend(source.files.iter().map(Input::describe)),
            }
        }
        Ok(inputs)
    }
}

impl ResolvedSource {
    fn has_splits(&self) -> bool {
        self.files.iter().any(|file| file.split.is_some())
    }

    /// Whether feedback is made up, so that there is nothing to read in shards.
    pub(crate) fn is_generated(&self) -> bool {
        matches!(self.reader, Reader::Synthetic(_))
    }

    /// Reads the rows of a shard in order, the same each time.
    pub(crate) fn read(&self, dataset: &Path, shard: Shard, into: &mut dyn Sink) -> Result<(), DataError> {
        let Some(policy) = &self.binarise else { return self.read_raw(dataset, shard, into) };
        if self.rule.get().is_none() {
            // A policy looks at all scores, whatever part of the rows is wanted.
            let rule = policy.rule(self.seed, |scores| self.read_raw(dataset, Shard::WHOLE, scores))?;
            let _ = self.rule.set(rule);
        }
        let Some(rule) = self.rule.get() else { return Ok(()) };
        let mut labelling = Labelling { rule, groups: 0, scored: 0, into };
        self.read_raw(dataset, shard, &mut labelling)?;
        if labelling.groups > 0 && labelling.scored == 0 {
            return Err(DataError::NoScores(self.name.clone()));
        }
        Ok(())
    }

    fn read_raw(&self, dataset: &Path, shard: Shard, into: &mut dyn Sink) -> Result<(), DataError> {
        let format: &dyn Format = match &self.reader {
            Reader::Hh => &Hh,
            Reader::Shp(shp) => {
                shp.settle(&self.files)?;
                shp
            }
            Reader::Pairs(pairs) => pairs,
            Reader::Labels(labels) => labels,
            Reader::Scores(scores) => scores,
            Reader::Oasst(oasst) => {
                let mut into = ShardOf { shard, number: 0, into };
                return self
                    .files
                    .iter()
                    .try_for_each(|file| oasst::read(file, oasst, &self.common(file, shard), &mut into));
            }
            Reader::Synthetic(synthetic) => {
                synthetic.write(dataset)?;
                let file = Synthetic::input(dataset)?;
                rows::read(&file, synthetic, &self.common(&file, shard), 0, into)?;
                return Ok(());
            }
        };
        let mut number = 0;
        for file in &self.files {
            number += rows::read(file, format, &self.common(file, shard), number, into)?;
        }
        Ok(())
    }

    fn common(&self, file: &Input, shard: Shard) -> Common<'_> {
        let folder = match self.reader {
            Reader::Hh | Reader::Shp(_) if !file.folder.is_empty() => Some(file.folder.as_str()),
            _ => None,
        };
        let domain: Arc<str> = self.domain.as_deref().or(folder).unwrap_or(&self.name).into();
        Common { source: self.name.as_str().into(), domain, domains: &self.domains, shard }
    }
}

//! Access to recipes and to the files they name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use prospect_core::{
    config::{ConfigError, Document},
    files::fingerprint,
    not_fetched::NotFetched,
};
use prospect_data::{Pipeline, PipelineFile, TokenCounter, dataset_fingerprint};
use prospect_model::ModelFile;
use prospect_train::token_counter;
use serde::Deserialize;

use crate::{
    SweepError,
    plan::{DatasetSource, PlannedDataset},
};

/// Key of a document that stands for a prepared dataset instead of a recipe.
const PREPARED: &str = "prepared";

/// Document of a prepared dataset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreparedFile {
    /// Folder of the dataset.
    prepared: PathBuf,
}

/// Returns a document that stands for the prepared dataset in `folder`, where a data recipe is
/// expected.
pub fn prepared_dataset(folder: &Path) -> Result<Document, ConfigError> {
    let name = folder.display().to_string();
    Document::from_text(&name, &serde_json::json!({ PREPARED: folder }).to_string())
}

/// Returns true if the document stands for a prepared dataset.
pub(crate) fn is_prepared(document: &Document) -> bool {
    document.keys().any(|key| key == PREPARED)
}

/// Access to recipes and to the files they name.
#[derive(Clone, Copy)]
pub struct RecipeSources<'a> {
    /// Opens the model recipe at a path.
    pub recipe: &'a dyn Fn(&str) -> Result<Document, ConfigError>,
    /// Opens the data recipe at a path, or a document that stands for the feedback or the prepared
    /// dataset there.
    pub data: &'a dyn Fn(&str) -> Result<Document, ConfigError>,
    /// Turns a path or address in a recipe into a local path. For planning only, it may fail with
    /// [`NotFetched`] for an address.
    pub locate: &'a prospect_data::Locate<'a>,
}

impl RecipeSources<'_> {
    /// Resolves a data recipe, whose dataset is to be prepared below `data`, or a prepared dataset.
    pub(crate) fn dataset(
        &self,
        document: &Document,
        data: &Path,
        counters: &mut BTreeMap<String, TokenCounter>,
    ) -> Result<PlannedDataset, SweepError> {
        if is_prepared(document) {
            let PreparedFile { prepared: path } = document.read()?;
            let fingerprint = dataset_fingerprint(&path)?;
            return Ok(PlannedDataset { source: DatasetSource::Prepared { fingerprint }, path });
        }
        let pipeline = match self.pipeline(document, counters) {
            Ok(pipeline) => pipeline,
            Err(error) => {
                let Some(missing) = NotFetched::find(&error).cloned() else { return Err(error) };
                document.read::<PipelineFile>()?.check()?;
                let fingerprint = fingerprint(&document.read::<serde_json::Value>()?)?;
                let path = data.join(&fingerprint);
                return Ok(PlannedDataset {
                    source: DatasetSource::NotFetched { missing, fingerprint },
                    path,
                });
            }
        };
        let path = data.join(pipeline.fingerprint()?);
        Ok(PlannedDataset { source: DatasetSource::Recipe(Box::new(pipeline)), path })
    }

    /// Resolves a data recipe, with a token counter where it asks for one.
    ///
    /// `counters` caches token counters by the path of their model recipe, since loading a
    /// tokenizer takes a while.
    pub fn pipeline(
        &self,
        document: &Document,
        counters: &mut BTreeMap<String, TokenCounter>,
    ) -> Result<Pipeline, SweepError> {
        let file = document.read::<PipelineFile>()?;
        let Some(recipe) = file.tokenizer().map(str::to_owned) else {
            return Ok(file.resolve(self.locate)?);
        };
        let counter = match counters.get(&recipe) {
            Some(counter) => counter.clone(),
            None => token_counter(&(self.recipe)(&recipe)?.read::<ModelFile>()?.resolve(self.locate)?)?,
        };
        counters.insert(recipe, counter.clone());
        Ok(file.resolve(self.locate)?.counting(counter))
    }
}

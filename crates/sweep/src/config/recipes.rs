//! Access to recipes and to the files they name.

use std::collections::BTreeMap;

use prospect_core::config::{ConfigError, Document};
use prospect_data::{Pipeline, PipelineFile, TokenCounter};
use prospect_model::ModelFile;
use prospect_train::token_counter;

use crate::SweepError;

/// Access to recipes and to the files they name.
pub struct RecipeSources<'a> {
    /// Opens the recipe at a path.
    pub recipe: &'a dyn Fn(&str) -> Result<Document, ConfigError>,
    /// Turns a path or address in a recipe into a local path.
    pub locate: &'a prospect_data::Locate<'a>,
}

impl RecipeSources<'_> {
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

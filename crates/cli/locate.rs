//! Resolution of the paths and addresses in YAML files to local paths.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use prospect_core::{
    config::{ConfigError, Document},
    not_fetched::NotFetched,
};
use prospect_data::is_dataset;
use prospect_sweep::{RecipeSources, prepared_dataset};

use crate::recipes::{self, RecipeKind};

/// Recipes from files or built in; the inputs that they name from the file system or the Hub.
pub(crate) const SOURCES: RecipeSources<'static> =
    RecipeSources { recipe: &model, data: &data, locate: &locate };

/// The same recipes for plans, which download nothing: an address that is not cached stands for
/// itself.
pub(crate) const PLANNING_SOURCES: RecipeSources<'static> =
    RecipeSources { recipe: &model, data: &data, locate: &locate_cached };

/// Opens a model recipe.
pub(crate) fn model(path: &str) -> Result<Document, ConfigError> {
    recipes::open(RecipeKind::Models, Path::new(path))
}

/// Opens a data recipe, or the feedback or dataset at `path` (see [`open_data`]).
pub(crate) fn data(path: &str) -> Result<Document, ConfigError> {
    open_data(Path::new(path))
}

/// Opens a data recipe. Any other file or folder, or an `hf://` address, stands for the feedback in
/// it, whose kind is then detected; the folder of a prepared dataset stands for that dataset.
pub(crate) fn open_data(path: &Path) -> Result<Document, ConfigError> {
    let address = path.display().to_string();
    if recipes::has_yaml_extension(path) || !(path.exists() || prospect_hub::is_address(&address)) {
        return recipes::open(RecipeKind::Pipelines, path);
    }
    if is_dataset(path) {
        return prepared_dataset(path);
    }
    let recipe = serde_json::json!({ "source": { "path": address } });
    Document::from_text(&address, &recipe.to_string())
}

/// Fetches an `hf://` address. Returns any other address as a path, which must exist.
///
/// A relative path starts at the current directory, as on the command line, not at the YAML file.
pub(crate) fn locate(address: &str) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    if prospect_hub::is_address(address) {
        return Ok(prospect_hub::fetch(address)?);
    }
    let path = PathBuf::from(address);
    if path.exists() {
        return Ok(path);
    }
    let here = std::env::current_dir()?;
    Err(format!(
        "{address} does not exist; relative paths start at the current directory, {}",
        here.display()
    )
    .into())
}

/// Like [`locate`], without downloads.
///
/// # Errors
/// [`NotFetched`] for an address that is not cached.
pub(crate) fn locate_cached(address: &str) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    if !prospect_hub::is_address(address) {
        return locate(address);
    }
    prospect_hub::cached(address)?.ok_or_else(|| NotFetched(address.to_owned()).into())
}

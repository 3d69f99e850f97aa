//! Resolution of the paths and addresses in YAML files to local paths.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use prospect_core::config::{ConfigError, Document};
use prospect_sweep::RecipeSources;

/// Recipes from files; the inputs that they name from the file system or the Hub.
pub(crate) const SOURCES: RecipeSources<'static> = RecipeSources { recipe: &open, locate: &locate };

fn open(path: &str) -> Result<Document, ConfigError> {
    Document::open(Path::new(path))
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
    Err(format!("it does not exist; relative paths start at the current directory, {}", here.display())
        .into())
}

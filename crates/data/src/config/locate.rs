//! Resolving the paths and addresses in a recipe.

use std::{error::Error, path::PathBuf};

/// Function that turns a path or `hf://` address of a recipe into a local path.
pub type Locate<'a> = dyn Fn(&str) -> Result<PathBuf, Box<dyn Error + Send + Sync>> + 'a;

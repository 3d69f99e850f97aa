//! `prospect init`: writes the built-in recipes into a folder, to be edited there.

use std::{io::Write, path::PathBuf};

use prospect_core::files::write_whole;
use strum::VariantArray;

use super::{RecipeKind, built_in, schemas};
use crate::{output, output::say};

/// Arguments of `prospect init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for pipelines/, models/, experiments/, schemas/ and a justfile
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// Recipes of `just` for the folder.
const JUSTFILE: &str = include_str!("justfile");

/// Writes the files that are not there yet, and prints the folder.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let recipes = RecipeKind::VARIANTS.iter().flat_map(|kind| built_in(*kind));
    let mut files: Vec<(String, &str)> = recipes.map(|recipe| (recipe.path(), recipe.text)).collect();
    files.extend(schemas().map(|(file, text)| (format!("schemas/{file}"), text)));
    files.push(("justfile".to_owned(), JUSTFILE));
    let (mut written, mut present) = (0, Vec::new());
    for (file, text) in files {
        let path = args.folder.join(&file);
        // An existing file may have been edited.
        if path.exists() {
            if fs_err::read_to_string(&path).ok().as_deref() != Some(text) {
                present.push(file);
            }
            continue;
        }
        write_whole(&path, |out| out.write_all(text.as_bytes()))?;
        written += 1;
    }
    say(format!("{written} files written"));
    if !present.is_empty() {
        say(format!("kept as they are, with other content than the built-in files: {}", present.join(", ")));
    }
    Ok(output::print(args.folder.display())?)
}

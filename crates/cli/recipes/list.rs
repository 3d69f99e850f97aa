//! `prospect recipes`: lists the built-in recipes, or prints one.

use anyhow::bail;
use prospect_core::config::did_you_mean;
use serde::Serialize;
use strum::VariantArray;

use super::{BuiltInRecipe, RecipeKind, built_in};
use crate::output;

/// Arguments of `prospect recipes`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Recipe to print, as a name (hh) or path (pipelines/hh.yaml) [default: list all]
    #[arg(value_name = "RECIPE")]
    recipe: Option<String>,
    /// Print JSON instead of a list
    #[arg(long, conflicts_with = "recipe")]
    json: bool,
}

/// A recipe as `--json` prints it.
#[derive(Serialize)]
struct RecipeJson {
    name: &'static str,
    path: String,
    kind: RecipeKind,
    summary: &'static str,
}

impl From<BuiltInRecipe> for RecipeJson {
    fn from(recipe: BuiltInRecipe) -> Self {
        Self { name: recipe.name(), path: recipe.path(), kind: recipe.kind, summary: recipe.summary() }
    }
}

/// Prints the list of recipes, or the text of one.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(given) = &args.recipe {
        return print_recipe(given);
    }
    if args.json {
        let recipes: Vec<RecipeJson> = all().map(RecipeJson::from).collect();
        return Ok(output::print(serde_json::to_string_pretty(&recipes)?)?);
    }
    let width = all().map(|recipe| recipe.name().len()).max().unwrap_or_default();
    for kind in RecipeKind::VARIANTS {
        output::print(format!("{kind}  {}", usage(*kind)))?;
        for recipe in built_in(*kind) {
            output::print(format!("  {:width$}  {}", recipe.name(), recipe.summary()))?;
        }
    }
    Ok(())
}

fn all() -> impl Iterator<Item = BuiltInRecipe> {
    RecipeKind::VARIANTS.iter().flat_map(|kind| built_in(*kind))
}

fn usage(kind: RecipeKind) -> &'static str {
    match kind {
        RecipeKind::Pipelines => "(prospect prepare NAME)",
        RecipeKind::Models => "(prospect train DATA --model NAME)",
        RecipeKind::Experiments => "(prospect sweep NAME)",
    }
}

fn print_recipe(given: &str) -> anyhow::Result<()> {
    let file = super::yaml_file(given.as_ref()).display().to_string();
    let found: Vec<BuiltInRecipe> =
        all().filter(|recipe| recipe.file == file || recipe.path() == file).collect();
    match found[..] {
        [] => {
            let nearest = did_you_mean(given, all().map(|recipe| recipe.name()));
            bail!("no built-in recipe `{given}`: `prospect recipes` lists them{nearest}")
        }
        [recipe] => Ok(output::print(recipe.text.trim_end())?),
        _ => {
            let paths: Vec<String> = found.iter().map(BuiltInRecipe::path).collect();
            bail!("`{given}` is the name of several recipes: give one of {}", paths.join(", "))
        }
    }
}

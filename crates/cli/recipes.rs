//! Recipes that the binary carries: data recipes, model recipes and experiments.
//!
//! A name stands for the file of that name in the current folder, or else for the built-in one:
//! `imbalance-quick` is `experiments/imbalance-quick.yaml`.

pub(crate) mod init;
pub(crate) mod list;

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use prospect_core::config::{ConfigError, Document, closest, did_you_mean};
use serde::Serialize;
use strum::{Display, VariantArray};

/// Kind of a built-in recipe, named after its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, VariantArray, Serialize)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecipeKind {
    /// Data recipe: the steps from feedback to a dataset.
    Pipelines,
    /// Model recipe: a model and the weights to train.
    Models,
    /// Experiment: a question and the runs that answer it.
    Experiments,
}

static PIPELINES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/pipelines");
static MODELS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/models");
static EXPERIMENTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/experiments");
/// JSON Schemas of the recipes, for editors.
static SCHEMAS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/schemas");

/// A built-in recipe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuiltInRecipe {
    pub(crate) kind: RecipeKind,
    /// File name, such as `hh.yaml`.
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
}

impl BuiltInRecipe {
    /// Returns the name that stands for the recipe.
    pub(crate) fn name(&self) -> &'static str {
        self.file.strip_suffix(".yaml").unwrap_or(self.file)
    }

    /// Returns the path in the repository, which also names the recipe in errors.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.kind, self.file)
    }

    /// Returns the first line of its comment.
    pub(crate) fn summary(&self) -> &'static str {
        let mut comment = self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
        comment.find(|line| !line.starts_with("yaml-language-server")).unwrap_or_default()
    }
}

/// Lists the built-in recipes of a kind, by name.
pub(crate) fn built_in(kind: RecipeKind) -> impl Iterator<Item = BuiltInRecipe> {
    let folder = match kind {
        RecipeKind::Pipelines => &PIPELINES,
        RecipeKind::Models => &MODELS,
        RecipeKind::Experiments => &EXPERIMENTS,
    };
    texts(folder).map(move |(file, text)| BuiltInRecipe { kind, file, text })
}

/// Lists the built-in JSON Schemas: file names and texts.
pub(crate) fn schemas() -> impl Iterator<Item = (&'static str, &'static str)> {
    texts(&SCHEMAS)
}

fn texts(folder: &'static Dir<'static>) -> impl Iterator<Item = (&'static str, &'static str)> {
    folder.files().filter_map(|file| Some((file.path().to_str()?, file.contents_utf8()?)))
}

/// Opens the YAML file at `path`, or the recipe of this kind that `path` names.
///
/// `hh` and `hh.yaml` are `pipelines/hh.yaml`. Files in the current folder take precedence over
/// built-in recipes.
pub(crate) fn open(kind: RecipeKind, path: &Path) -> Result<Document, ConfigError> {
    let file = yaml_file(path);
    let in_folder = Path::new(&kind.to_string()).join(&file);
    match [path, &file, &in_folder].into_iter().find(|path| path.is_file()) {
        Some(path) => Document::open(path),
        None => open_built_in(kind, &path.display().to_string()),
    }
}

/// Opens the built-in recipe of this kind with this name or path.
pub(crate) fn open_built_in(kind: RecipeKind, name: &str) -> Result<Document, ConfigError> {
    let file = yaml_file(Path::new(name)).display().to_string();
    match built_in(kind).find(|recipe| recipe.file == file || recipe.path() == file) {
        Some(recipe) => Document::from_text(&recipe.path(), recipe.text),
        None => Err(unknown(kind, name)),
    }
}

/// Appends `.yaml` to a name without it.
fn yaml_file(path: &Path) -> PathBuf {
    if has_yaml_extension(path) { path.to_owned() } else { format!("{}.yaml", path.display()).into() }
}

/// Returns true if the path ends like that of a YAML file.
pub(crate) fn has_yaml_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Returns the error for a path that is neither a file nor a recipe.
fn unknown(kind: RecipeKind, given: &str) -> ConfigError {
    let path = Path::new(given);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let beside = files_beside(path);
    let nearest = match closest(given, beside.iter().map(String::as_str)) {
        Some(file) => format!("; did you mean `{file}`?"),
        None => did_you_mean(&stem, built_in(kind).map(|recipe| recipe.name())),
    };
    let advice = format!("give a file or the name of a built-in recipe (`prospect recipes`){nearest}");
    ConfigError::NoSuchFile { path: given.to_owned(), advice }
}

/// Lists the files of the folder that a path with an extension is in.
fn files_beside(path: &Path) -> Vec<String> {
    let Some(folder) = path.parent().filter(|_| path.extension().is_some()) else { return Vec::new() };
    let shown = if folder == Path::new("") { Path::new(".") } else { folder };
    let entries = fs_err::read_dir(shown).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    files.map(|entry| folder.join(entry.file_name()).display().to_string()).collect()
}

//! Files of a source: a single file, or all data files in a folder, with the split that each file's
//! name indicates.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use prospect_core::files::hash_file;
use serde::Serialize;

use crate::{
    DataError, InputFile, Split,
    ingest::records::{self, FileFormat, FileNotes, RecordHandler},
};

/// A file that has been found and hashed. Its content and folder name enter the dataset's hash; its
/// path doesn't.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HashedFile {
    #[serde(skip)]
    pub(crate) path: PathBuf,
    /// Name of the parent folder within the source's folder; empty at the top level.
    pub(crate) folder: String,
    pub(crate) split: Option<Split>,
    #[serde(flatten)]
    format: FileFormat,
    blake3: String,
    /// URL on the Hub, pinned to the commit that was read.
    #[serde(skip)]
    address: Option<String>,
}

/// Split indicated by a word in a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SplitWord {
    Train,
    Test,
    Validation,
}

/// Files of a source, and warnings about how they were chosen.
#[derive(Debug, Default)]
pub(crate) struct HashedFiles {
    pub(crate) files: Vec<HashedFile>,
    pub(crate) warnings: Vec<String>,
    /// Names of files that describe a dataset and are not read.
    pub(crate) metadata: Vec<String>,
}

/// Names of files that describe a dataset: of the Hub, of LLaMA-Factory, and of `save_to_disk`.
const METADATA: [&str; 4] = ["dataset_infos.json", "dataset_info.json", "dataset_dict.json", STATE];

/// File of `save_to_disk` that lists the data files of its folder.
const STATE: &str = "state.json";

const EXTENSIONS: [&str; 7] = ["jsonl", "json", "csv", "tsv", "parquet", "arrow", "feather"];

impl HashedFile {
    /// Returns the file name without its folder.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Calls `each` for every record, in order. Of parquet files, only the `columns` are read, or
    /// all if None.
    pub(crate) fn for_each_record(
        &self,
        columns: Option<&[String]>,
        each: &mut RecordHandler<'_>,
    ) -> Result<FileNotes, DataError> {
        records::for_each_record(&self.path, self.format, columns, each)
    }

    /// Returns the file's manifest entry.
    pub(crate) fn describe(&self) -> InputFile {
        let Self { split, blake3, address, .. } = self;
        InputFile { name: self.name(), split: *split, blake3: blake3.clone(), address: address.clone() }
    }
}

/// Finds and hashes the files at `path`, the local copy of `address`. In a folder, a file is used
/// if `wanted` accepts the name of its parent folder (empty at the top level) and its path below
/// the source's folder, unless its name is that of metadata.
pub(crate) fn find(
    address: &str,
    path: &Path,
    format: FileFormat,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<HashedFiles, DataError> {
    if !path.is_dir() {
        let file = HashedFile {
            path: path.to_owned(),
            folder: String::new(),
            split: None,
            format,
            blake3: hash_file(path)?,
            address: pinned(address, path),
        };
        return Ok(HashedFiles { files: vec![file], ..HashedFiles::default() });
    }
    let fail = |message: String| DataError::Folder { folder: path.to_owned(), message };
    let mut found = Vec::new();
    walk(path, &EXTENSIONS, &mut found)?;
    found.retain(|file| wanted(&folder(path, file), &below(path, file)));
    one_of_several_sets(path, &found)?;
    let listed = listed(path, &found)?;
    let is_stray = |file: &PathBuf| {
        let list = file.parent().and_then(|folder| listed.get(folder));
        list.is_some_and(|list| is_arrow(file) && !list.contains(file))
    };
    let (metadata, found): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|file| is_metadata(file) || is_stray(file));
    let metadata = metadata.iter().map(|file| below(path, file)).collect();
    if let Some((one, other)) =
        found.iter().zip(found.iter().skip(1)).find(|(one, other)| stem(one) == stem(other))
    {
        let names = [one, other].map(|file| below(path, file));
        return Err(fail(format!(
            "contains both {} and {}, the same data twice; remove one of them",
            names[0], names[1]
        )));
    }
    if found.is_empty() {
        return Err(fail(format!(
            "contains no matching data file ({}, text also with .gz, .zst or .bz2)",
            EXTENSIONS.join(", ")
        )));
    }
    let words: Vec<Option<SplitWord>> = found.iter().map(|file| word(path, file)).collect();
    let has = |word| words.contains(&Some(word));
    let held_out = if has(SplitWord::Test) { SplitWord::Test } else { SplitWord::Validation };
    let mut warnings = Vec::new();
    // The names define splits only if there are both training and held-out files.
    let splits = has(SplitWord::Train) && has(held_out);
    if splits && let Some(index) = words.iter().position(Option::is_none) {
        let name = below(path, &found[index]);
        return Err(fail(format!(
            "{name} has none of train, test and validation in its name, but other files do; rename or remove it"
        )));
    }
    if splits && held_out == SplitWord::Test && has(SplitWord::Validation) {
        warnings.push("skipping validation files, since the source has a test split".to_owned());
    }
    let mut files = Vec::new();
    for (file, word) in found.into_iter().zip(words) {
        let split = match word {
            Some(SplitWord::Train) => Split::Train,
            Some(SplitWord::Validation) if splits && held_out == SplitWord::Test => continue,
            _ => Split::Test,
        };
        files.push(HashedFile {
            folder: folder(path, &file),
            split: splits.then_some(split),
            format,
            blake3: hash_file(&file)?,
            address: pinned(address, &file),
            path: file,
        });
    }
    Ok(HashedFiles { files, warnings, metadata })
}

/// Fails if the files belong to sets of one repository that hold the same rows, as the splits of
/// UltraFeedback do.
fn one_of_several_sets(root: &Path, found: &[PathBuf]) -> Result<(), DataError> {
    const SETS: [&str; 3] = ["prefs", "sft", "gen"];
    let names: Vec<String> = found.iter().map(|file| below(root, file)).collect();
    let of_set = |set: &&str| {
        names.iter().any(|name| {
            let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
            let words: Vec<&str> = words.collect();
            words.windows(2).any(|two| ["train", "test"].contains(&two[0]) && two[1] == *set)
        })
    };
    let sets: Vec<&str> = SETS.into_iter().filter(|set| of_set(set)).collect();
    if sets.len() < 2 {
        return Ok(());
    }
    let message = format!(
        "contains several sets of the same rows ({}); choose one, for example with `files: [\"*_prefs-*\"]`",
        sets.join(", ")
    );
    Err(DataError::Folder { folder: root.to_owned(), message })
}

/// Returns true if a path matches a pattern, in which `*` stands for any text.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(start) = rest.find(part) else { return false };
        rest = &rest[start + part.len()..];
    }
    rest.ends_with(last)
}

fn is_arrow(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "arrow")
}

/// Returns the data files that `save_to_disk` lists, by folder. Others may be left over from an
/// earlier dataset. A listed file that is missing is an error.
fn listed(root: &Path, found: &[PathBuf]) -> Result<HashMap<PathBuf, Vec<PathBuf>>, DataError> {
    let mut folders = HashMap::new();
    for file in found.iter().filter(|file| file.file_name().is_some_and(|name| name == STATE)) {
        let state: serde_json::Value =
            serde_json::from_slice(&fs_err::read(file)?).unwrap_or(serde_json::Value::Null);
        let files = state.get("_data_files").and_then(serde_json::Value::as_array);
        let (Some(files), Some(folder)) = (files, file.parent()) else { continue };
        let names = files.iter().filter_map(|file| file.get("filename")?.as_str());
        let files: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
        if let Some(missing) = files.iter().find(|file| !found.contains(file)) {
            let message = format!("{} is listed in {STATE} but missing; copy it too", below(root, missing));
            return Err(DataError::Folder { folder: root.to_owned(), message });
        }
        folders.insert(folder.to_owned(), files);
    }
    Ok(folders)
}

/// Returns true if a file describes a dataset, by its name.
fn is_metadata(file: &Path) -> bool {
    file.file_name().is_some_and(|name| METADATA.iter().any(|metadata| name == *metadata))
}

/// Returns the path of a file below the source's folder.
fn below(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).display().to_string()
}

/// Collects all files with these extensions below a folder, sorted; hidden ones are skipped.
fn walk(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let mut entries: Vec<PathBuf> =
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, extensions, found)?;
        } else if extension(&name).is_some_and(|extension| extensions.contains(&extension)) {
            found.push(path);
        }
    }
    Ok(())
}

/// Returns the extension, ignoring that of a compression.
fn extension(name: &str) -> Option<&str> {
    let name = records::without_compression(name);
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// Returns the path without the extensions of compression and format.
fn stem(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = records::without_compression(&name);
    path.with_file_name(name.rsplit_once('.').map_or(name, |(stem, _)| stem))
}

/// Returns the name of a file's parent folder; empty for the source's own folder.
fn folder(root: &Path, file: &Path) -> String {
    let parent = file.parent().and_then(|parent| parent.strip_prefix(root).ok());
    parent.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the split that a word names. A number may follow it, as in `valid1`.
pub(crate) fn named_split(word: &str) -> Option<Split> {
    split_word(word.trim().to_lowercase().trim_end_matches(|letter: char| letter.is_ascii_digit())).map(
        |word| match word {
            SplitWord::Train => Split::Train,
            SplitWord::Test | SplitWord::Validation => Split::Test,
        },
    )
}

fn split_word(word: &str) -> Option<SplitWord> {
    match word {
        "train" | "training" => Some(SplitWord::Train),
        "test" => Some(SplitWord::Test),
        "validation" | "valid" | "val" | "dev" | "eval" => Some(SplitWord::Validation),
        _ => None,
    }
}

/// Returns the split indicated by a file's name, or else by the nearest folder above it.
pub(crate) fn word(root: &Path, file: &Path) -> Option<SplitWord> {
    let parts = stem(file);
    let parts = parts.strip_prefix(root).unwrap_or(&parts).to_string_lossy().to_lowercase();
    parts
        .rsplit('/')
        .find_map(|part| part.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).find_map(split_word))
}

/// Returns a file's Hub URL at the cached commit, from the cache's path
/// `.../snapshots/COMMIT/PATH`.
fn pinned(address: &str, path: &Path) -> Option<String> {
    let (repository, _) = address.strip_prefix("hf://").and(address.split_once('@'))?;
    let path = path.to_string_lossy();
    let (_, below) = path.rsplit_once("/snapshots/")?;
    Some(format!("{repository}@{below}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, name).unwrap();
        }
        folder
    }

    fn splits(names: &[&str]) -> Result<Vec<(String, Option<Split>)>, String> {
        let folder = folder_of(names);
        let found =
            find("", folder.path(), FileFormat::default(), |_, _| true).map_err(|error| error.to_string())?;
        Ok(found.files.iter().map(|file| (file.name(), file.split)).collect())
    }

    #[test]
    fn names_and_folders_say_the_split() {
        let (train, test) = (Some(Split::Train), Some(Split::Test));
        let names = [
            "README.md",
            "a/train.json",
            "a/validation.json",
            "a/test.json.gz",
            "b/test-00000-of-00001.parquet",
        ];
        let found = splits(&names).unwrap();
        let found: Vec<_> = found.iter().map(|(name, split)| (name.as_str(), *split)).collect();
        assert_eq!(
            found,
            [("test.json.gz", test), ("train.json", train), ("test-00000-of-00001.parquet", test)]
        );
        let found = splits(&["train/0.jsonl", "dev/0.jsonl"]).unwrap();
        assert_eq!(found.iter().map(|(_, split)| *split).collect::<Vec<_>>(), [test, train]);
    }

    #[test]
    fn files_without_both_splits_have_none_and_ambiguous_folders_are_refused() {
        assert!(splits(&["train-a.csv", "train-b.csv"]).unwrap().iter().all(|(_, split)| split.is_none()));
        assert!(splits(&["a.csv", "b.csv"]).unwrap().iter().all(|(_, split)| split.is_none()));
        assert!(splits(&["train.jsonl", "train.jsonl.gz"]).unwrap_err().contains("contains both"));
        assert!(splits(&["train.jsonl", "test.jsonl", "more.jsonl"]).unwrap_err().contains("more.jsonl"));
        assert!(splits(&["README.md"]).unwrap_err().contains("no matching data file"));
    }

    #[test]
    fn metadata_beside_data_is_not_read() {
        let (train, test) = (Some(Split::Train), Some(Split::Test));
        let found = splits(&["dataset_infos.json", "test.jsonl", "train.jsonl"]).unwrap();
        assert_eq!(found, [("test.jsonl".to_owned(), test), ("train.jsonl".to_owned(), train)]);
        let found = splits(&["dataset_info.json", "my_kto.json"]).unwrap();
        assert_eq!(found, [("my_kto.json".to_owned(), None)]);
        let names = ["dataset_dict.json", "train/state.json", "train/dataset_info.json"];
        assert!(splits(&names).unwrap_err().contains("no matching data file"));
        let folder = folder_of(&names);
        let file = folder.path().join("train/state.json");
        assert_eq!(find("", &file, FileFormat::default(), |_, _| true).unwrap().files.len(), 1);
    }

    #[test]
    fn of_a_dataset_on_disk_the_listed_files_are_read() {
        let state = |name: &str| format!(r#"{{"_data_files": [{{"filename": "{name}"}}]}}"#);
        let folder = folder_of(&[
            "dataset_dict.json",
            "train/data-00000-of-00001.arrow",
            "train/old.arrow",
            "test/data-00000-of-00001.arrow",
        ]);
        for split in ["train", "test"] {
            fs_err::write(folder.path().join(split).join(STATE), state("data-00000-of-00001.arrow")).unwrap();
        }
        let found = find("", folder.path(), FileFormat::default(), |_, _| true).unwrap();
        let files: Vec<_> = found.files.iter().map(|file| (file.folder.as_str(), file.split)).collect();
        assert_eq!(files, [("test", Some(Split::Test)), ("train", Some(Split::Train))]);
        assert!(found.metadata.contains(&"train/old.arrow".to_owned()), "{:?}", found.metadata);
        fs_err::write(folder.path().join("train").join(STATE), state("gone.arrow")).unwrap();
        let error = find("", folder.path(), FileFormat::default(), |_, _| true).unwrap_err().to_string();
        assert!(error.contains("gone.arrow is listed in state.json but missing"), "{error}");
    }

    #[test]
    fn sets_of_the_same_rows_are_told_apart_by_patterns() {
        let names = ["data/train_prefs-0.parquet", "data/test_prefs-0.parquet", "data/train_sft-0.parquet"];
        assert!(splits(&names).unwrap_err().contains("several sets of the same rows (prefs, sft)"));
        for (pattern, path, matched) in [
            ("*_prefs-*", "data/train_prefs-0.parquet", true),
            ("*_prefs-*", "data/train_sft-0.parquet", false),
            ("train-*", "train-0.parquet", true),
            ("train-*", "data/train-0.parquet", false),
            ("data/*.jsonl", "data/a.jsonl", true),
            ("data/*.jsonl", "data/a.jsonl.gz", false),
            ("a.csv", "a.csv", true),
            ("a.csv", "a.csv2", false),
            ("*", "any", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, path), matched, "{pattern} {path}");
        }
    }

    #[test]
    fn a_file_from_the_hub_is_named_by_its_commit() {
        let path = Path::new("/c/datasets--org--name/snapshots/0123abc/data/train.json");
        let address = pinned("hf://datasets/org/name@main/data", path);
        assert_eq!(address.as_deref(), Some("hf://datasets/org/name@0123abc/data/train.json"));
        assert_eq!(pinned("data", path), None);
    }
}

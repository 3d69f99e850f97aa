//! Judgements from outside: comparisons by AlpacaEval, scores of lm-evaluation-harness, and tables
//! that people filled in.
//!
//! [`import_judgements`] recognises a file by its content, matches its rows with the runs and
//! prompts of a sweep, and writes them where [`crate::judge`] writes its own: comparisons to
//! `judgements.jsonl`, scores to `scores.jsonl` of each run. `judges.json` records the file with
//! its hash and the rows that do not count, by reason. The same file replaces what an earlier
//! import of it wrote, under whatever name, so nothing counts twice.

mod alpaca_eval;
mod catalogue;
mod collected;
mod lm_eval;
mod rows;
mod table;

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use prospect_core::files::hash_file;
use prospect_data::{Records, read_objects};
use prospect_runs::{JudgeNote, JudgementImport, Opponent, SweepDir};

pub use self::table::ColumnRole;
use self::{catalogue::Catalogue, collected::Collected, rows::ParsedFile};
use crate::judge::JudgeError;

/// Options of an import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Name of the judge; by default the annotator that the file names, the tool, or the name of
    /// the file.
    pub name: Option<String>,
    /// Opponent of rows that name none.
    pub against: Opponent,
    /// Run that results of lm-evaluation-harness belong to, by name or id; by default the one whose
    /// folder was evaluated.
    pub run: Option<String>,
    /// Columns of a table, where their names do not tell.
    pub columns: BTreeMap<ColumnRole, String>,
}

/// Result of importing one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedFile {
    /// Name of the judge.
    pub judge: String,
    /// Entry of `judges.json`.
    pub import: JudgementImport,
    /// True if it replaces an earlier import of the same file.
    pub replaced: bool,
}

/// Imports a file of judgements or scores into a sweep. `path` may be a folder of
/// lm-evaluation-harness, whose newest results of each task are imported.
///
/// # Errors
///
/// Fails if a file is not recognised, or if no row counts. Nothing is written then.
pub fn import_judgements(
    sweep: &SweepDir,
    path: &Path,
    options: &ImportOptions,
) -> Result<Vec<ImportedFile>, JudgeError> {
    let experiment = sweep.experiment()?;
    let catalogue = Catalogue::read(sweep, &experiment)?;
    let files = if path.is_dir() { lm_eval::sample_files(path, options)? } else { vec![path.to_owned()] };
    let mut parsed = Vec::new();
    for file in files {
        let mut rows = parse(&file, options, &catalogue)?;
        if let Some(name) = &options.name {
            rows.judge.clone_from(name);
        }
        let collected = Collected::new(&catalogue, rows.rows, &options.against);
        parsed.push((file, rows.format, rows.judge, collected));
    }
    if parsed.iter().all(|(.., collected)| collected.used() == 0) {
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for (reason, rows) in parsed.iter().flat_map(|(.., collected)| collected.skipped()) {
            *reasons.entry(reason).or_default() += rows;
        }
        let reasons = describe_skipped(&reasons);
        return Err(unusable(path, &format!("no row counts: {reasons}. {}", lm_eval::NAMES)));
    }
    parsed
        .into_iter()
        .map(|(file, format, judge, collected)| {
            record(sweep, &catalogue, (file.as_path(), format), judge, collected)
        })
        .collect()
}

/// Reads a file and recognises its format.
fn parse(file: &Path, options: &ImportOptions, catalogue: &Catalogue<'_>) -> Result<ParsedFile, JudgeError> {
    let mut start = [0; 4];
    let length = fs_err::File::open(file)?.read(&mut start)?;
    if start[..length] == *b"PK\x03\x04" {
        return Err(unusable(file, "is a spreadsheet; save it as CSV and import that"));
    }
    let records: Records = read_objects(file)?;
    let unreadable = records.unreadable;
    if records.objects.is_empty() {
        return Err(unusable(file, "has no record that can be read; give a table with a header, or JSON"));
    }
    let first = records.objects.first();
    let has = |keys: &[&str]| first.is_some_and(|first| keys.iter().all(|key| first.contains_key(*key)));
    let mut parsed = if has(&["results", "configs"]) {
        return Err(unusable(
            file,
            "has means of lm-evaluation-harness only; run it with --log_samples, and import the folder",
        ));
    } else if has(&["doc_id", "doc"]) || has(&["doc_id", "filtered_resps"]) {
        lm_eval::parse(file, &records.objects, options, catalogue)?
    } else if has(&["generator_1", "generator_2", "preference", "instruction"]) && options.columns.is_empty()
    {
        alpaca_eval::parse(file, &records.objects)
    } else {
        table::parse(file, &records.objects, &options.columns)?
    };
    parsed.rows.extend(std::iter::repeat_with(|| Err(rows::UNREADABLE)).take(unreadable));
    Ok(parsed)
}

/// Writes the rows of a file to the run directories, and its entry to `judges.json`.
fn record(
    sweep: &SweepDir,
    catalogue: &Catalogue<'_>,
    (file, format): (&Path, &str),
    judge: String,
    mut collected: Collected,
) -> Result<ImportedFile, JudgeError> {
    let blake3 = hash_file(file)?;
    let mut import = JudgementImport {
        file: file.display().to_string(),
        blake3,
        format: format.to_owned(),
        rows: collected.rows(),
        used: 0,
        skipped: BTreeMap::new(),
    };
    let mut judges = sweep.judges()?;
    let known = judges.iter().position(|note| note.name == judge);
    let mut note = match known.map(|index| judges.remove(index)) {
        Some(note) if note.imports.is_empty() => {
            let message = format!("`prospect judge` asked {judge} itself; import under another --name");
            return Err(unusable(file, &message));
        }
        Some(note) => note,
        None => {
            JudgeNote { name: judge.clone(), about: String::new(), at_chance: false, imports: Vec::new() }
        }
    };
    let is_same = |old: &JudgementImport| old.blake3 == import.blake3 || old.file == import.file;
    let (mut old, kept): (Vec<_>, Vec<_>) = note.imports.into_iter().partition(is_same);
    // Under another name, the same file is renamed.
    for other in std::mem::take(&mut judges) {
        let (renamed, imports): (Vec<_>, Vec<_>) =
            other.imports.iter().cloned().partition(|own| own.blake3 == import.blake3);
        let is_left = renamed.is_empty() || !imports.is_empty();
        let about = if renamed.is_empty() { other.about } else { describe(&imports) };
        judges.extend(is_left.then_some(JudgeNote { about, imports, ..other }));
        old.extend(renamed);
    }
    let replaced: Vec<String> = old.iter().map(|old| old.id().to_owned()).collect();
    collected.write(sweep, catalogue, &judge, import.id(), &replaced)?;
    (import.used, import.skipped) = (collected.used(), collected.skipped());
    note.imports = kept;
    note.imports.push(import.clone());
    note.imports.sort_by(|a, b| a.file.cmp(&b.file));
    note.about = describe(&note.imports);
    judges.push(note);
    judges.sort_by(|a, b| a.name.cmp(&b.name));
    sweep.write_judges(&judges)?;
    Ok(ImportedFile { judge, import, replaced: !replaced.is_empty() })
}

/// Most files that a description names.
const NAMED_FILES: usize = 3;

/// Describes imported files for the report.
fn describe(imports: &[JudgementImport]) -> String {
    let sum = |count: fn(&JudgementImport) -> usize| imports.iter().map(count).sum::<usize>();
    let (rows, used) = (sum(|import| import.rows), sum(|import| import.used));
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for (reason, count) in imports.iter().flat_map(|import| &import.skipped) {
        *skipped.entry(reason.clone()).or_default() += count;
    }
    let files = if imports.len() > NAMED_FILES {
        format!("{} files, which judges.json lists", imports.len())
    } else {
        let name = |import: &JudgementImport| {
            let name = PathBuf::from(&import.file);
            let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("{name} ({}, BLAKE3 {})", import.format, import.id())
        };
        imports.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let left_out = if skipped.is_empty() {
        String::new()
    } else {
        format!("; left out: {}", describe_skipped(&skipped))
    };
    format!(
        "Made outside of this sweep and imported from {files}: {used} of {rows} rows count{left_out}. Several rows about \
         one completion are averaged."
    )
}

/// Lists reasons with their numbers of rows.
pub fn describe_skipped(skipped: &BTreeMap<String, usize>) -> String {
    let reason = |(reason, count): (&String, &usize)| {
        format!("{count} {} ({reason})", if *count == 1 { "row" } else { "rows" })
    };
    skipped.iter().map(reason).collect::<Vec<_>>().join(", ")
}

fn unusable(file: &Path, message: &str) -> JudgeError {
    JudgeError::Unusable(format!("{}: {message}", file.display()))
}

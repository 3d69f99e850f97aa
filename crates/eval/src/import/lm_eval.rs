//! Results of lm-evaluation-harness: `samples_TASK_DATE.jsonl`, which `--log_samples` writes beside
//! `results_DATE.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    ImportOptions,
    catalogue::Catalogue,
    rows::{Entry, NO_NUMBER, ParsedFile, Question, ScoredRow, Skip},
    unusable,
};
use crate::judge::JudgeError;

/// Advice on the names of runs.
pub(super) const NAMES: &str = "Runs go by their id, or by their name in `prospect export --format alpaca-eval`; results \
     of lm-evaluation-harness also by --run";

/// Levels of folders that are searched for samples.
const DEPTH: usize = 3;

/// Digits of a question's hash that its id contains.
const HASH_DIGITS: usize = 12;

/// Metrics whose lower values are better, unless the results say otherwise.
const LOWER_IS_BETTER: [&str; 7] = ["perplexity", "bits_per_byte", "brier", "loss", "wer", "ter", "mse"];

/// Fields of a sample that are no metric.
const NO_METRIC: [&str; 2] = ["doc_id", "idx"];

/// Finds the newest samples of each task below a folder.
pub(super) fn sample_files(folder: &Path, options: &ImportOptions) -> Result<Vec<PathBuf>, JudgeError> {
    let mut found = Vec::new();
    walk(folder, DEPTH, &mut found)?;
    let folders: BTreeSet<Option<&Path>> = found.iter().map(|file| file.parent()).collect();
    if options.run.is_some() && folders.len() > 1 {
        return Err(unusable(
            folder,
            "has results of several models, but --run names one; import its folder",
        ));
    }
    let mut newest: BTreeMap<(Option<PathBuf>, String), (String, PathBuf)> = BTreeMap::new();
    for file in found {
        let (task, date) = task_and_date(&file);
        let key = (file.parent().map(Path::to_owned), task);
        if newest.get(&key).is_none_or(|(known, _)| *known < date) {
            newest.insert(key, (date, file));
        }
    }
    if newest.is_empty() {
        return Err(unusable(
            folder,
            "has no samples_*.jsonl; run lm-evaluation-harness with --log_samples --output_path",
        ));
    }
    Ok(newest.into_values().map(|(_, file)| file).collect())
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, found)?;
        } else if name.starts_with("samples_")
            && path.extension().is_some_and(|extension| extension == "jsonl")
        {
            found.push(path);
        }
    }
    Ok(())
}

/// Splits `samples_TASK_DATE.jsonl`; the date is empty if there is none.
fn task_and_date(file: &Path) -> (String, String) {
    let stem = super::table::stem(file);
    let name = stem.strip_prefix("samples_").unwrap_or(&stem);
    match name.rsplit_once('_') {
        Some((task, date)) if date.starts_with(|c: char| c.is_ascii_digit()) && date.contains('-') => {
            (task.to_owned(), date.to_owned())
        }
        _ => (name.to_owned(), String::new()),
    }
}

/// The file with means and settings that was written with these samples.
fn results(file: &Path, date: &str) -> Option<Value> {
    let path = file.with_file_name(format!("results_{date}.json"));
    serde_json::from_slice(&fs_err::read(path).ok()?).ok()
}

/// Parses the samples of one task.
pub(super) fn parse(
    file: &Path,
    records: &[Map<String, Value>],
    options: &ImportOptions,
    catalogue: &Catalogue<'_>,
) -> Result<ParsedFile, JudgeError> {
    let (task, date) = task_and_date(file);
    let results = results(file, &date).unwrap_or_default();
    let run = match &options.run {
        Some(run) => run.clone(),
        None => evaluated_run(file, &results, catalogue).unwrap_or_default().to_owned(),
    };
    if records.iter().all(|record| metrics(record).is_empty()) {
        return Err(unusable(file, "has no metric that is a number for each question"));
    }
    let is_lower = |metric: &str| match results.pointer(&format!("/higher_is_better/{task}/{metric}")) {
        Some(Value::Bool(higher)) => !higher,
        _ => LOWER_IS_BETTER.iter().any(|name| metric.contains(name)),
    };
    let row = |record: &Map<String, Value>| -> Result<Vec<Entry>, Skip> {
        let question = question(record).ok_or(super::rows::UNREADABLE)?;
        let filter = record.get("filter").and_then(Value::as_str).filter(|filter| *filter != "none");
        let filter = filter.map(|filter| format!(" ({filter})")).unwrap_or_default();
        let entry = |(metric, score): (&str, f64)| {
            Entry::Score(ScoredRow {
                run: run.clone(),
                task: format!("{task}, {metric}{filter}"),
                question: Question::Id(question.clone()),
                score,
                lower_is_better: is_lower(metric),
            })
        };
        let entries: Vec<Entry> = metrics(record).into_iter().map(entry).collect();
        if entries.is_empty() { Err(NO_NUMBER) } else { Ok(entries) }
    };
    let rows = records.iter().map(row).collect();
    Ok(ParsedFile { format: "lm-evaluation-harness", judge: "lm-evaluation-harness".to_owned(), rows })
}

/// Id of the run whose folder was evaluated, by the results' settings or the folder's name.
fn evaluated_run<'a>(file: &Path, results: &Value, catalogue: &Catalogue<'a>) -> Option<&'a str> {
    let arguments = results.pointer("/config/model_args").map(ToString::to_string);
    let name = results.get("model_name").map(ToString::to_string);
    let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    [arguments, name, folder].into_iter().flatten().find_map(|text| catalogue.run_within(&text))
}

/// Id of the question: its number, and the hash of its contents if there is one, so that other
/// versions of a task are not compared.
fn question(record: &Map<String, Value>) -> Option<String> {
    let number = record.get("doc_id")?;
    let hash = record.get("doc_hash").and_then(Value::as_str).and_then(|hash| hash.get(..HASH_DIGITS));
    Some(hash.map_or_else(|| number.to_string(), |hash| format!("{number}-{hash}")))
}

/// Metrics of a sample that are numbers.
fn metrics(record: &Map<String, Value>) -> Vec<(&str, f64)> {
    let named: Option<Vec<&str>> = record
        .get("metrics")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect());
    let number = |value: &Value| match value {
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        value => value.as_f64(),
    };
    let is_metric = |key: &str| match &named {
        Some(named) => named.contains(&key),
        None => !NO_METRIC.contains(&key),
    };
    record
        .iter()
        .filter(|(key, _)| is_metric(key))
        .filter_map(|(key, value)| Some((key.as_str(), number(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn samples_are_named_after_task_and_date() {
        let split = |name: &str| task_and_date(Path::new(name));
        assert_eq!(
            split("a/samples_arc_easy_2025-01-02T03-04-05.678901.jsonl"),
            ("arc_easy".to_owned(), "2025-01-02T03-04-05.678901".to_owned())
        );
        assert_eq!(split("samples_mmlu_law.jsonl"), ("mmlu_law".to_owned(), String::new()));
    }

    #[test]
    fn metrics_are_the_named_numbers() {
        let record = json!({"doc_id": 3, "doc_hash": "0123456789abcdef", "acc": 1.0, "acc_norm": false,
            "ppl": [1, 2], "length": 7, "metrics": ["acc", "acc_norm", "ppl"]});
        let record = record.as_object().unwrap();
        assert_eq!(metrics(record), [("acc", 1.0), ("acc_norm", 0.0)]);
        assert_eq!(question(record).unwrap(), "3-0123456789ab");
        let old = json!({"doc_id": 3, "doc": {}, "acc": 0.0});
        assert_eq!(metrics(old.as_object().unwrap()), [("acc", 0.0)]);
    }
}

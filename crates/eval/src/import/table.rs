//! Tables of judgements by people or scripts: CSV, TSV, JSON Lines or parquet.
//!
//! | layout | columns |
//! |---|---|
//! | side by side | prompt, `first` and `second` (names of runs) or `first_text` and `second_text`, `win` |
//! | one run | run, prompt, `win`, and `opponent` if rows have different ones |
//! | scores | run, prompt or question, `score`, and `task` if there are several |

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

use prospect_core::config::did_you_mean;
use prospect_data::{first_score, judgement_score};
use serde_json::{Map, Value};

use super::{
    rows::{
        ComparedRow, Entry, NO_JUDGEMENT, NO_NUMBER, NO_PROMPT, ParsedFile, Question, ScoredRow, Side, Skip,
    },
    unusable,
};
use crate::judge::JudgeError;

/// Meaning of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnRole {
    /// Text or id of a held-out prompt.
    Prompt,
    /// Id of a question that is no held-out prompt.
    Question,
    /// Run, by its id or exported name.
    Run,
    /// Run or model that the run is compared with.
    Opponent,
    /// Run or model of the first completion.
    First,
    /// Run or model of the second completion.
    Second,
    /// Text of the first completion.
    FirstText,
    /// Text of the second completion.
    SecondText,
    /// Verdict of a comparison.
    Win,
    /// Score of one completion; higher is better.
    Score,
    /// Task or question asked about the completion.
    Task,
}

/// Roles with their names and usual columns.
const ROLES: [(ColumnRole, &str, &[&str]); 11] = [
    (ColumnRole::Prompt, "prompt", &["prompt", "prompt_id", "instruction"]),
    (ColumnRole::Question, "question", &["question", "question_id", "item", "item_id", "doc_id"]),
    (ColumnRole::Run, "run", &["run", "run_id", "model", "generator", "policy"]),
    (ColumnRole::Opponent, "opponent", &["opponent", "against", "reference"]),
    (ColumnRole::First, "first", &["first", "run_a", "run_1", "model_a", "model_1", "generator_1", "left"]),
    (
        ColumnRole::Second,
        "second",
        &["second", "run_b", "run_2", "model_b", "model_2", "generator_2", "right"],
    ),
    (
        ColumnRole::FirstText,
        "first_text",
        &["first_text", "a", "response_a", "completion_a", "answer_a", "output_a", "response_1", "output_1"],
    ),
    (
        ColumnRole::SecondText,
        "second_text",
        &["second_text", "b", "response_b", "completion_b", "answer_b", "output_b", "response_2", "output_2"],
    ),
    (ColumnRole::Win, "win", &["win", "winner", "preference", "preferred", "better", "choice", "vote"]),
    (
        ColumnRole::Score,
        "score",
        &["score", "rating", "grade", "correct", "acc", "accuracy", "thumb", "thumbs"],
    ),
    (ColumnRole::Task, "task", &["task", "benchmark", "criterion"]),
];

/// Columns whose values tell whether they are verdicts or scores.
const JUDGEMENT: [&str; 4] = ["judgement", "judgment", "label", "verdict"];

impl FromStr for ColumnRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ROLES.iter().find(|(_, name, _)| *name == text);
        found.map(|(role, ..)| *role).ok_or_else(|| {
            let names = || ROLES.iter().map(|(_, name, _)| *name);
            let nearest = did_you_mean(text, names());
            format!(
                "`{text}` is no meaning of a column; there are {}{nearest}",
                names().collect::<Vec<_>>().join(", ")
            )
        })
    }
}

/// Columns of a table by meaning.
type ColumnMap<'a> = BTreeMap<ColumnRole, &'a str>;

/// Arrangement of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    SideBySide,
    OneRun,
    Scores,
}

/// Name of a file without its extension.
pub(super) fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Parses a table.
pub(super) fn parse(
    file: &Path,
    records: &[Map<String, Value>],
    given: &BTreeMap<ColumnRole, String>,
) -> Result<ParsedFile, JudgeError> {
    let names: BTreeSet<&str> = records.iter().flat_map(Map::keys).map(String::as_str).collect();
    let fail = |message: String| unusable(file, &message);
    let mut columns = column_map(&names, given).map_err(fail)?;
    judgement_column(&mut columns, &names, records).map_err(fail)?;
    let layout = layout(&columns).ok_or_else(|| fail(unknown_layout(&names)))?;
    let judge = stem(file);
    let row = |record: &Map<String, Value>| match layout {
        Layout::Scores => scored(record, &columns, &judge),
        _ => compared(record, &columns, layout),
    };
    let rows = records.iter().map(|record| row(record).map(|entry| vec![entry])).collect();
    let format = match layout {
        Layout::SideBySide => "comparisons side by side",
        Layout::OneRun => "comparisons of runs",
        Layout::Scores => "scores",
    };
    Ok(ParsedFile { format, judge, rows })
}

/// Finds the columns by the given and the usual names. Case does not matter.
fn column_map<'a>(
    names: &BTreeSet<&'a str>,
    given: &BTreeMap<ColumnRole, String>,
) -> Result<ColumnMap<'a>, String> {
    let mut columns = ColumnMap::new();
    for (role, wanted) in given {
        let found = names.get(wanted.as_str()).ok_or_else(|| {
            let nearest = did_you_mean(wanted, names.iter().copied());
            format!("has no column `{wanted}`; its columns are {}{nearest}", list(names))
        })?;
        columns.insert(*role, *found);
    }
    let taken: BTreeSet<&str> = columns.values().copied().collect();
    for (role, _, usual) in ROLES.iter().filter(|(role, ..)| !given.contains_key(role)) {
        let is_usual = |name: &&&str| usual.iter().any(|usual| usual.eq_ignore_ascii_case(name.trim()));
        if let Some(found) = names.iter().find(|name| is_usual(name) && !taken.contains(**name)) {
            columns.insert(*role, *found);
        }
    }
    Ok(columns)
}

/// Finds the meaning of a column such as `judgement` by its values, if no other column has it.
fn judgement_column<'a>(
    columns: &mut ColumnMap<'a>,
    names: &BTreeSet<&'a str>,
    records: &[Map<String, Value>],
) -> Result<(), String> {
    if columns.contains_key(&ColumnRole::Win) || columns.contains_key(&ColumnRole::Score) {
        return Ok(());
    }
    let is_judgement = |name: &&&str| JUDGEMENT.iter().any(|usual| usual.eq_ignore_ascii_case(name.trim()));
    let Some(name) = names.iter().find(is_judgement) else { return Ok(()) };
    let values: Vec<&Value> = records.iter().filter_map(|record| judged(record, name)).collect();
    let numbers: Option<Vec<f64>> = values.iter().map(|value| judgement_score(value)).collect();
    let mut as_verdict = columns.clone();
    as_verdict.insert(ColumnRole::Win, *name);
    let is_side_by_side = layout(&as_verdict) == Some(Layout::SideBySide);
    let role = match numbers.filter(|_| !is_side_by_side) {
        None => ColumnRole::Win,
        Some(numbers) if numbers.iter().any(|number| ![0.0, 0.5, 1.0].contains(number)) => ColumnRole::Score,
        Some(_) => {
            return Err(format!(
                "`{name}` could be wins or scores of single completions; add `--column win={name}` or `--column score={name}`"
            ));
        }
    };
    columns.insert(role, *name);
    Ok(())
}

fn layout(columns: &ColumnMap<'_>) -> Option<Layout> {
    let has = |roles: &[ColumnRole]| roles.iter().all(|role| columns.contains_key(role));
    if has(&[ColumnRole::Prompt, ColumnRole::Win, ColumnRole::First, ColumnRole::Second])
        || has(&[ColumnRole::Prompt, ColumnRole::Win, ColumnRole::FirstText, ColumnRole::SecondText])
    {
        Some(Layout::SideBySide)
    } else if has(&[ColumnRole::Run, ColumnRole::Prompt, ColumnRole::Win]) {
        Some(Layout::OneRun)
    } else if has(&[ColumnRole::Run, ColumnRole::Score])
        && (has(&[ColumnRole::Prompt]) || has(&[ColumnRole::Question]))
    {
        Some(Layout::Scores)
    } else {
        None
    }
}

fn unknown_layout(names: &BTreeSet<&str>) -> String {
    let roles: Vec<&str> = ROLES.iter().map(|(_, name, _)| *name).collect();
    format!(
        "cannot tell the meaning of the columns {}. A comparison needs prompt, first, second and win (or run, prompt and win), \
         a score needs run, prompt (or question) and score: map them, as in `--column run=NAME --column score=NAME`. \
         Meanings: {}",
        list(names),
        roles.join(", ")
    )
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A value that is not empty.
fn judged<'r>(record: &'r Map<String, Value>, column: &str) -> Option<&'r Value> {
    let value = record.get(column)?;
    let is_empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
    (!is_empty).then_some(value)
}

/// A text, or a number as text.
fn text(record: &Map<String, Value>, columns: &ColumnMap<'_>, role: ColumnRole) -> Option<String> {
    match judged(record, columns.get(&role)?)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn compared(record: &Map<String, Value>, columns: &ColumnMap<'_>, layout: Layout) -> Result<Entry, Skip> {
    let cell = |role| text(record, columns, role);
    let verdict = columns.get(&ColumnRole::Win).and_then(|name| judged(record, name)).ok_or(NO_JUDGEMENT)?;
    let prompt = cell(ColumnRole::Prompt).ok_or(NO_PROMPT)?;
    let (own, other, score) = if layout == Layout::SideBySide {
        let first = Side { name: cell(ColumnRole::First), text: cell(ColumnRole::FirstText) };
        let second = Side { name: cell(ColumnRole::Second), text: cell(ColumnRole::SecondText) };
        let score = first_score(verdict, [first.name.as_deref(), second.name.as_deref()]);
        (first, Some(second), score)
    } else {
        let own = Side { name: cell(ColumnRole::Run), text: None };
        let other = cell(ColumnRole::Opponent).map(|name| Side { name: Some(name), text: None });
        let names = [own.name.as_deref(), other.as_ref().and_then(|other| other.name.as_deref())];
        let score = won(verdict, names);
        (own, other, score)
    };
    Ok(Entry::Comparison(ComparedRow { prompt, own, other, score }))
}

/// Score of a run in a comparison: words for wins, ties and losses, or a share of wins.
fn won(verdict: &Value, names: [Option<&str>; 2]) -> Option<f64> {
    match verdict.as_str().map(|word| word.trim().to_lowercase()).as_deref() {
        Some("win" | "won" | "wins" | "better") => return Some(1.0),
        Some("loss" | "lose" | "loses" | "lost" | "worse") => return Some(0.0),
        _ => {}
    }
    let share = judgement_score(verdict).filter(|share| (0.0..=1.0).contains(share));
    share.or_else(|| first_score(verdict, names).filter(|_| judgement_score(verdict).is_none()))
}

fn scored(record: &Map<String, Value>, columns: &ColumnMap<'_>, judge: &str) -> Result<Entry, Skip> {
    let cell = |role| text(record, columns, role);
    let value = columns.get(&ColumnRole::Score).and_then(|name| judged(record, name)).ok_or(NO_JUDGEMENT)?;
    let question = match cell(ColumnRole::Prompt) {
        Some(prompt) => Question::Prompt(prompt),
        None => Question::Id(cell(ColumnRole::Question).ok_or(NO_PROMPT)?),
    };
    Ok(Entry::Score(ScoredRow {
        run: cell(ColumnRole::Run).ok_or(super::rows::NO_RUN)?,
        task: cell(ColumnRole::Task).unwrap_or_else(|| judge.to_owned()),
        question,
        score: judgement_score(value).ok_or(NO_NUMBER)?,
        lower_is_better: false,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(records: &Value, given: &[(ColumnRole, &str)]) -> Result<ParsedFile, String> {
        let records = records.as_array().unwrap().iter().map(|record| record.as_object().unwrap().clone());
        let records: Vec<_> = records.collect();
        let given = given.iter().map(|(role, name)| (*role, (*name).to_owned())).collect();
        parse(Path::new("sheet.csv"), &records, &given).map_err(|error| error.to_string())
    }

    fn scores(file: &ParsedFile) -> Vec<Result<Option<f64>, Skip>> {
        let score = |row: &Result<Vec<Entry>, Skip>| {
            row.as_ref().map_err(|skip| *skip).map(|entries| match &entries[0] {
                Entry::Comparison(row) => row.score,
                Entry::Score(row) => Some(row.score),
            })
        };
        file.rows.iter().map(score).collect()
    }

    #[test]
    fn verdicts_side_by_side_are_words_numbers_or_names() {
        let row =
            |winner: Value| json!({"Prompt": "p", "model_a": "kto", "model_b": "dpo", "winner": winner});
        let rows = json!([
            row("A".into()),
            row("dpo".into()),
            row("Tie".into()),
            row(2.into()),
            row("?".into()),
            row("".into())
        ]);
        let file = parsed(&rows, &[]).unwrap();
        assert_eq!(
            scores(&file),
            [Ok(Some(1.0)), Ok(Some(0.0)), Ok(Some(0.5)), Ok(Some(0.0)), Ok(None), Err(NO_JUDGEMENT)]
        );
    }

    #[test]
    fn a_column_of_zeros_and_ones_is_ambiguous() {
        let rows = |values: &[Value]| -> Value {
            values.iter().map(|value| json!({"run": "kto", "prompt": "p", "judgement": value})).collect()
        };
        let file = parsed(&rows(&["win".into(), "loss".into(), "tie".into(), 0.25.into()]), &[]).unwrap();
        assert_eq!(file.format, "comparisons of runs");
        assert_eq!(scores(&file), [Ok(Some(1.0)), Ok(Some(0.0)), Ok(Some(0.5)), Ok(Some(0.25))]);
        assert_eq!(parsed(&rows(&["4".into(), "1".into()]), &[]).unwrap().format, "scores");
        let error = parsed(&rows(&[0.into(), 1.into()]), &[]).err().unwrap();
        assert!(error.contains("--column win=judgement"), "{error}");
        let file = parsed(&rows(&[0.into(), 1.into()]), &[(ColumnRole::Score, "judgement")]).unwrap();
        assert_eq!((file.format, scores(&file)), ("scores", vec![Ok(Some(0.0)), Ok(Some(1.0))]));
    }

    #[test]
    fn unknown_columns_are_named() {
        let error = parsed(&json!([{"wer": "kto", "was": 1}]), &[]).err().unwrap();
        assert!(error.contains("`was`, `wer`") && error.contains("--column run=NAME"), "{error}");
        let error = parsed(&json!([{"score": 1}]), &[(ColumnRole::Score, "scor")]).err().unwrap();
        assert!(error.contains("did you mean `score`"), "{error}");
        assert!("promt".parse::<ColumnRole>().unwrap_err().contains("did you mean `prompt`"));
    }
}

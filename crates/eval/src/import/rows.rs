//! Rows of an imported file, before they are matched with runs and prompts.

/// Reason why a row does not count.
pub(super) type Skip = &'static str;

pub(super) const UNREADABLE: Skip = "no readable record";
pub(super) const NO_JUDGEMENT: Skip = "not judged";
pub(super) const NO_RUN: Skip = "no run of the sweep by that name";
pub(super) const UNFINISHED: Skip = "the run has not finished";
pub(super) const NO_PROMPT: Skip = "the run has no completion of that prompt";
pub(super) const OTHER_TEXT: Skip = "the completion differs from that of the run";
pub(super) const NO_TEXT: Skip = "no run has that completion";
pub(super) const SEVERAL_RUNS: Skip = "several runs have that completion";
pub(super) const ITSELF: Skip = "a run compared with itself";
pub(super) const NO_NUMBER: Skip = "no score that is a number";
pub(super) const ELSEWHERE: Skip = "judged in another imported file already";

/// An imported file.
pub(super) struct ParsedFile {
    /// Format in words.
    pub(super) format: &'static str,
    /// Default name of the judge.
    pub(super) judge: String,
    /// Contents of each row, or the reason why it does not count.
    pub(super) rows: Vec<Result<Vec<Entry>, Skip>>,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Comparison(ComparedRow),
    Score(ScoredRow),
}

/// A comparison of two completions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ComparedRow {
    /// Text or content hash of the prompt.
    pub(super) prompt: String,
    pub(super) own: Side,
    /// Completion that `own` is compared with; None for the default opponent.
    pub(super) other: Option<Side>,
    /// 1 if `own` is better, 0 if the other is; None if the verdict cannot be read.
    pub(super) score: Option<f64>,
}

/// A compared completion by the name of its run or model, its text, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) name: Option<String>,
    pub(super) text: Option<String>,
}

/// A score of one run on one question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScoredRow {
    pub(super) run: String,
    pub(super) task: String,
    pub(super) question: Question,
    pub(super) score: f64,
    pub(super) lower_is_better: bool,
}

/// Question of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Text or content hash of one of the run's held-out prompts.
    Prompt(String),
    /// Id of any other question.
    Id(String),
}

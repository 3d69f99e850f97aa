//! What a source hands over: pairs, rejected rows with their reasons, and counts of both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{DataError, InputFile, Message, Split};

/// A pair as read, before it has ids.
#[derive(Debug)]
pub(crate) struct RawPair {
    /// The split the source puts it in, where the source has splits.
    pub(crate) split: Option<Split>,
    pub(crate) prompt: Vec<Message>,
    pub(crate) chosen: Vec<Message>,
    pub(crate) rejected: Vec<Message>,
    pub(crate) score_chosen: Option<f64>,
    pub(crate) score_rejected: Option<f64>,
}

/// Why a row cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    EmptyCompletion,
    EmptyPrompt,
    HumanTurnLast,
    IdenticalCompletions,
    MissingField,
    NoAssistantTurn,
    NotJson,
    NotUtf8,
    TextBeforeFirstTurn,
    UnequalPrompts,
    WrongType,
}

impl Reason {
    /// The reason as files and messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EmptyCompletion => "empty_completion",
            Self::EmptyPrompt => "empty_prompt",
            Self::HumanTurnLast => "human_turn_last",
            Self::IdenticalCompletions => "identical_completions",
            Self::MissingField => "missing_field",
            Self::NoAssistantTurn => "no_assistant_turn",
            Self::NotJson => "not_json",
            Self::NotUtf8 => "not_utf8",
            Self::TextBeforeFirstTurn => "text_before_first_turn",
            Self::UnequalPrompts => "unequal_prompts",
            Self::WrongType => "wrong_type",
        }
    }
}

/// One thing that is wrong with a row.
#[derive(Debug)]
pub(crate) struct Flaw {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

/// A line of `rejected.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct RejectedRow {
    /// Name of the input file.
    pub(crate) file: String,
    /// Line of the row, from 1.
    pub(crate) line: usize,
    /// The reason, or all of them joined by `+`.
    pub(crate) reason: String,
    /// What exactly, with a short excerpt at most.
    pub(crate) detail: String,
}

/// What was read, by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingCounts {
    /// Rows read; always `pairs + rejected`.
    pub read: u64,
    /// Rows that became pairs.
    pub pairs: u64,
    /// Rows that cannot be used.
    pub rejected: u64,
    /// Rejected rows by reason. A row with two reasons counts under both.
    pub rejected_by_reason: BTreeMap<String, u64>,
    /// Rejected rows with several reasons, by the reasons joined with `+`: what the sum by reason counts twice.
    pub rejected_overlaps: BTreeMap<String, u64>,
    /// Rows and files put right, by what was done: `trimmed_white_space` (rows), `byte_order_mark` (files),
    /// `blank_line` (lines skipped, not among the rows read).
    pub repaired: BTreeMap<String, u64>,
    /// Pairs kept as they are although they look odd: `consecutive_turns`, `empty_prompt_turn`.
    pub noted: BTreeMap<String, u64>,
}

/// Everything a source has handed over so far.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) pairs: Vec<RawPair>,
    pub(crate) rejected: Vec<RejectedRow>,
    pub(crate) inputs: Vec<InputFile>,
    pub(crate) counts: ReadingCounts,
}

/// How often a summary of rejected rows names a row of each reason.
const EXAMPLES: usize = 3;

impl Reading {
    /// Takes the outcome of one row: a pair, or all that is wrong with it.
    pub(crate) fn take(&mut self, file: &str, line: usize, outcome: Result<RawPair, Vec<Flaw>>) {
        self.counts.read += 1;
        match outcome {
            Ok(pair) => {
                self.counts.pairs += 1;
                self.pairs.push(pair);
            }
            Err(mut flaws) => {
                self.counts.rejected += 1;
                flaws.sort_by_key(|flaw| flaw.reason);
                let names: Vec<&str> = flaws.iter().map(|flaw| flaw.reason.name()).collect();
                let mut distinct = names.clone();
                distinct.dedup();
                for name in &distinct {
                    count(&mut self.counts.rejected_by_reason, name, 1);
                }
                let reason = distinct.join("+");
                if distinct.len() > 1 {
                    count(&mut self.counts.rejected_overlaps, &reason, 1);
                }
                let details: Vec<&str> = flaws.iter().map(|flaw| flaw.detail.as_str()).collect();
                self.rejected.push(RejectedRow {
                    file: file.to_owned(),
                    line,
                    reason,
                    detail: details.join("; "),
                });
            }
        }
    }

    /// Counts `times` repairs of a kind.
    pub(crate) fn repaired(&mut self, kind: &str, times: u64) {
        count(&mut self.counts.repaired, kind, times);
    }

    /// Counts a pair that is odd but kept.
    pub(crate) fn noted(&mut self, kind: &str) {
        count(&mut self.counts.noted, kind, 1);
    }

    /// Fails if more than the share `allowed` of the rows was rejected.
    pub(crate) fn check(&self, allowed: f64) -> Result<(), DataError> {
        let (read, rejected) = (self.counts.read, self.counts.rejected);
        if rejected as f64 <= allowed * read as f64 {
            return Ok(());
        }
        Err(DataError::TooManyRejected { rejected, read, allowed, summary: self.summary() })
    }

    /// The reasons of rejected rows, the most frequent first, each with its first rows.
    fn summary(&self) -> String {
        let mut rows: BTreeMap<&str, Vec<&RejectedRow>> = BTreeMap::new();
        for row in &self.rejected {
            rows.entry(&row.reason).or_default().push(row);
        }
        let mut reasons: Vec<_> = rows.into_iter().collect();
        reasons.sort_by_key(|(reason, rows)| (std::cmp::Reverse(rows.len()), *reason));
        let mut lines = Vec::new();
        for (reason, rows) in reasons {
            lines.push(format!("  {reason}: {}", rows.len()));
            let examples = rows.iter().take(EXAMPLES);
            lines.extend(examples.map(|row| format!("    {}:{}: {}", row.file, row.line, row.detail)));
        }
        lines.join("\n")
    }
}

fn count(counts: &mut BTreeMap<String, u64>, key: &str, times: u64) {
    if times > 0 {
        *counts.entry(key.to_owned()).or_default() += times;
    }
}

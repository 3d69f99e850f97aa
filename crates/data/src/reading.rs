//! What was read: groups, rejected rows with their reasons, and counts of both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    raw::{Flaw, RawGroup, RawRow, Remark, Sink},
};

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
    /// Rows read.
    pub read: u64,
    /// Prompts with judged completions that they gave.
    pub groups: u64,
    /// Pairs in these groups.
    pub pairs: u64,
    /// Completions in these groups with a label of their own.
    pub labelled: u64,
    /// Rows that cannot be used.
    pub rejected: u64,
    /// Rejected rows by reason. A row with two reasons counts under both.
    pub rejected_by_reason: BTreeMap<String, u64>,
    /// Rejected rows with several reasons, by the reasons joined with `+`: what the sum by reason counts twice.
    pub rejected_overlaps: BTreeMap<String, u64>,
    /// Rows and files put right, by what was done: `trimmed_white_space` (rows), `byte_order_mark` (files),
    /// `blank_line` (lines skipped, not among the rows read).
    pub repaired: BTreeMap<String, u64>,
    /// Rows kept as they are although they look odd: `consecutive_turns`, `empty_prompt_turn`.
    pub noted: BTreeMap<String, u64>,
    /// Rows left out by a rule of their source or a setting of the recipe.
    pub filtered: BTreeMap<String, u64>,
}

/// Everything a source has handed over so far.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) groups: Vec<RawGroup>,
    pub(crate) rejected: Vec<RejectedRow>,
    pub(crate) counts: ReadingCounts,
}

/// How often a summary of rejected rows names a row of each reason.
const EXAMPLES: usize = 3;

impl Sink for Reading {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        for row in rows {
            self.counts.read += 1;
            row.remarks.into_iter().for_each(|remark| self.remark(remark, 1));
            match row.outcome {
                Ok(groups) => groups.into_iter().for_each(|group| self.group(group)),
                Err(flaws) => self.reject(&row.file, row.line, flaws),
            }
        }
        Ok(())
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        match remark {
            Remark::Repaired(what) => count(&mut self.counts.repaired, what, times),
            Remark::Noted(what) => count(&mut self.counts.noted, what, times),
            Remark::Filtered(what) => count(&mut self.counts.filtered, what, times),
        }
    }
}

impl Reading {
    fn group(&mut self, group: RawGroup) {
        let labelled = group.completions.iter().filter(|completion| completion.label.is_some()).count();
        self.counts.groups += 1;
        self.counts.pairs += group.pairs.len() as u64;
        self.counts.labelled += labelled as u64;
        self.groups.push(group);
    }

    fn reject(&mut self, file: &str, line: usize, mut flaws: Vec<Flaw>) {
        self.counts.rejected += 1;
        flaws.sort_by_key(|flaw| flaw.reason);
        let mut names: Vec<&str> = flaws.iter().map(|flaw| flaw.reason.name()).collect();
        names.dedup();
        for name in &names {
            count(&mut self.counts.rejected_by_reason, name, 1);
        }
        let reason = names.join("+");
        if names.len() > 1 {
            count(&mut self.counts.rejected_overlaps, &reason, 1);
        }
        let details: Vec<&str> = flaws.iter().map(|flaw| flaw.detail.as_str()).collect();
        self.rejected.push(RejectedRow { file: file.to_owned(), line, reason, detail: details.join("; ") });
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

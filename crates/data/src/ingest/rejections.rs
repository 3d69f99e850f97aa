//! Counts of all input rows by outcome, and `rejected.jsonl`. This is the place where a rejected
//! row is counted, with its reasons.
//!
//! A source marks a row as rejected by giving it [`Flaw`]s; [`RowTally`] counts the row under each
//! reason and writes it to `rejected.jsonl`, and [`RowTally::check`] compares the total with
//! `max_rejected`. Steps drop rows too, but those are counted by each step and never appear here.

use std::{collections::BTreeMap, io::Write};

use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    ingest::{
        raw::{Flaw, RawGroup, RawRow, Remark},
        sources::{LABEL_MINUS_ONE, LABEL_ZERO},
    },
};

/// Name of the file of rejected rows in a dataset directory.
pub(crate) const FILE: &str = "rejected.jsonl";

/// A row that cannot be used: a line of `rejected.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// Name of the input file.
    pub file: String,
    /// Line of the row, from 1.
    pub line: usize,
    /// The reason, or several joined by `+`.
    pub reason: String,
    /// Details, with a short excerpt at most.
    pub detail: String,
}

/// Input rows by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingCounts {
    /// Rows read: the sum of `kept`, `filtered_rows` and `rejected`.
    pub read: u64,
    /// Rows that give a pair or a label, or are part of a conversation that does.
    #[serde(default)]
    pub kept: u64,
    /// Rows left out by a rule of their source or a setting of the recipe; `filtered` has the
    /// reasons.
    #[serde(default)]
    pub filtered_rows: u64,
    /// Prompts with judged completions in the rows read.
    pub groups: u64,
    /// Pairs in these groups.
    pub pairs: u64,
    /// Completions in these groups with a label of their own.
    pub labelled: u64,
    /// Rows rejected as unusable.
    pub rejected: u64,
    /// Rejected rows by reason. A row with two reasons counts under both.
    pub rejected_by_reason: BTreeMap<String, u64>,
    /// Rejected rows with several reasons, by the reasons joined with `+`. `rejected_by_reason`
    /// counts these rows more than once.
    pub rejected_overlaps: BTreeMap<String, u64>,
    /// Repairs: `trimmed_white_space`, `turns_as_text`, `transcript` (rows), `byte_order_mark`,
    /// `utf_16`, `windows_1252`, `semicolon_delimiter` and so on (files), `blank_line` (lines
    /// skipped, not among the rows read).
    pub repaired: BTreeMap<String, u64>,
    /// Unusual rows that were kept unchanged, such as `consecutive_turns` and `empty_prompt_turn`.
    /// `label_zero` and `label_minus_one` are counted if both occur.
    pub noted: BTreeMap<String, u64>,
    /// Rows, messages of trees, and completions among several that were left out by a rule of their
    /// source or a setting of the recipe.
    pub filtered: BTreeMap<String, u64>,
}

/// Counts rows by outcome and writes rejected rows to `W`, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RowTally<W> {
    rejected: W,
    /// Makes the first rejected row an error.
    pub(crate) strict: bool,
    pub(crate) counts: ReadingCounts,
    /// Rejected rows by reason, or by several reasons joined with `+`.
    reasons: BTreeMap<String, ReasonTally>,
}

/// Rejected rows with one combination of reasons.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ReasonTally {
    rows: u64,
    /// The first rows, as lines of an error message.
    examples: Vec<String>,
}

/// Rejected rows that an error message quotes for each reason.
const EXAMPLES: usize = 3;

impl RejectedRow {
    fn into_error(self) -> DataError {
        let Self { file, line, reason, detail } = self;
        DataError::Strict { file, line, reason, detail }
    }
}

impl ReadingCounts {
    /// Adds the counts of another part of the input.
    pub(crate) fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.kept += other.kept;
        self.filtered_rows += other.filtered_rows;
        self.groups += other.groups;
        self.pairs += other.pairs;
        self.labelled += other.labelled;
        self.rejected += other.rejected;
        for (ours, theirs) in [
            (&mut self.rejected_by_reason, &other.rejected_by_reason),
            (&mut self.rejected_overlaps, &other.rejected_overlaps),
            (&mut self.repaired, &other.repaired),
            (&mut self.noted, &other.noted),
            (&mut self.filtered, &other.filtered),
        ] {
            for (key, times) in theirs {
                increment(ours, key, *times);
            }
        }
    }
}

impl<W: Write> RowTally<W> {
    /// Starts at zero. With `strict`, the first rejected row is an error.
    pub(crate) fn new(rejected: W, strict: bool) -> Self {
        Self { rejected, strict, counts: ReadingCounts::default(), reasons: BTreeMap::new() }
    }

    /// Flushes the rejected rows and returns the counts.
    pub(crate) fn finish(mut self) -> Result<ReadingCounts, DataError> {
        self.rejected.flush()?;
        // Either alone means undesirable; together, 0 may mean neither.
        let odd = [LABEL_ZERO, LABEL_MINUS_ONE];
        if !odd.iter().all(|note| self.counts.noted.contains_key(*note)) {
            self.counts.noted.retain(|note, _| !odd.contains(&note.as_str()));
        }
        Ok(self.counts)
    }

    /// Counts a row and returns its groups; none if it is rejected.
    pub(crate) fn take(&mut self, row: RawRow) -> Result<Vec<RawGroup>, DataError> {
        self.counts.read += 1;
        let is_filtered = row.remarks.iter().any(|remark| matches!(remark, Remark::Filtered(_)));
        for remark in row.remarks {
            self.remark(remark, 1);
        }
        match row.outcome {
            Ok(groups) => {
                if row.in_other_rows || groups.iter().any(RawGroup::is_judged) {
                    self.counts.kept += 1;
                } else {
                    self.counts.filtered_rows += 1;
                    self.remark(Remark::Filtered("no_judgement"), u64::from(!is_filtered));
                }
                for group in &groups {
                    self.count_group(group);
                }
                Ok(groups)
            }
            Err(flaws) => {
                self.reject(&row.file, row.line, flaws)?;
                Ok(Vec::new())
            }
        }
    }

    /// Adds the tally of the rows that follow.
    pub(crate) fn append(&mut self, next: &RowTally<Vec<u8>>) -> Result<(), DataError> {
        let mut rejected = serde_json::Deserializer::from_slice(&next.rejected).into_iter::<RejectedRow>();
        if self.strict
            && let Some(row) = rejected.next()
        {
            return Err(row.map_err(std::io::Error::from)?.into_error());
        }
        self.rejected.write_all(&next.rejected)?;
        self.counts.add(&next.counts);
        for (reason, next) in &next.reasons {
            let ours = self.reasons.entry(reason.clone()).or_default();
            ours.rows += next.rows;
            let missing = EXAMPLES.saturating_sub(ours.examples.len());
            ours.examples.extend(next.examples.iter().take(missing).cloned());
        }
        Ok(())
    }

    /// Counts a remark.
    pub(crate) fn remark(&mut self, remark: Remark, times: u64) {
        match remark {
            Remark::Repaired(what) => increment(&mut self.counts.repaired, what, times),
            Remark::Noted(what) => increment(&mut self.counts.noted, what, times),
            Remark::Filtered(what) => increment(&mut self.counts.filtered, what, times),
        }
    }

    fn count_group(&mut self, group: &RawGroup) {
        let labelled = group.completions.iter().filter(|completion| completion.label.is_some()).count();
        self.counts.groups += 1;
        self.counts.pairs += group.pairs.len() as u64;
        self.counts.labelled += labelled as u64;
    }

    /// Counts a rejected row and writes it.
    fn reject(&mut self, file: &str, line: usize, mut flaws: Vec<Flaw>) -> Result<(), DataError> {
        self.counts.rejected += 1;
        flaws.sort_by_key(|flaw| flaw.reason);
        let mut names: Vec<&str> = flaws.iter().map(|flaw| flaw.reason.into()).collect();
        names.dedup();
        for name in &names {
            increment(&mut self.counts.rejected_by_reason, name, 1);
        }
        let reason = names.join("+");
        if names.len() > 1 {
            increment(&mut self.counts.rejected_overlaps, &reason, 1);
        }
        let details: Vec<&str> = flaws.iter().map(|flaw| flaw.detail.as_str()).collect();
        let row = RejectedRow { file: file.to_owned(), line, reason, detail: details.join("; ") };
        if self.strict {
            return Err(row.into_error());
        }
        serde_json::to_writer(&mut self.rejected, &row).map_err(std::io::Error::from)?;
        self.rejected.write_all(b"\n")?;
        let tally = self.reasons.entry(row.reason).or_default();
        tally.rows += 1;
        if tally.examples.len() < EXAMPLES {
            tally.examples.push(format!("    {}:{}: {}", row.file, row.line, row.detail));
        }
        Ok(())
    }

    /// Fails if the fraction of rejected rows exceeds `max_rejected`.
    pub(crate) fn check(&self, max_rejected: f64) -> Result<(), DataError> {
        let (read, rejected) = (self.counts.read, self.counts.rejected);
        if rejected as f64 <= max_rejected * read as f64 {
            return Ok(());
        }
        Err(DataError::TooManyRejected { rejected, read, allowed: max_rejected, summary: self.summary() })
    }

    /// Lists the reasons, most frequent first, each with its first rows.
    fn summary(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(reason, tally)| (std::cmp::Reverse(tally.rows), *reason));
        let lines = reasons.into_iter().flat_map(|(reason, tally)| {
            [format!("  {reason}: {}", tally.rows)].into_iter().chain(tally.examples.iter().cloned())
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn increment(counts: &mut BTreeMap<String, u64>, key: &str, times: u64) {
    if times > 0 {
        *counts.entry(key.to_owned()).or_default() += times;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ingest::raw::RowSink;

    /// All groups, rejected rows and counts of a source.
    pub(crate) struct CollectedRows {
        pub(crate) groups: Vec<RawGroup>,
        pub(crate) rejected: Vec<RejectedRow>,
        pub(crate) counts: ReadingCounts,
        tally: RowTally<Vec<u8>>,
    }

    impl Default for CollectedRows {
        fn default() -> Self {
            let tally = RowTally::new(Vec::new(), false);
            Self { groups: Vec::new(), rejected: Vec::new(), counts: ReadingCounts::default(), tally }
        }
    }

    impl RowSink for CollectedRows {
        fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
            for row in rows {
                self.groups.extend(self.tally.take(row)?);
            }
            let lines = std::mem::take(&mut self.tally.rejected);
            let rows = serde_json::Deserializer::from_slice(&lines).into_iter::<RejectedRow>();
            self.rejected.extend(rows.map(Result::unwrap));
            self.counts = self.tally.counts.clone();
            Ok(())
        }

        fn remark(&mut self, remark: Remark, times: u64) {
            self.tally.remark(remark, times);
            self.counts = self.tally.counts.clone();
        }
    }
}

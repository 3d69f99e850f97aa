//! What was read: counts by outcome, and the rejected rows with their reasons.

use std::{collections::BTreeMap, io::Write};

use serde::{Deserialize, Serialize};

use crate::{
    DataError,
    raw::{Flaw, RawGroup, RawRow, Remark},
};

/// A line of `rejected.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
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

/// Counts what a source hands over, and writes down the rows that cannot be used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reading<W> {
    rejected: W,
    /// Whether the first row that cannot be used is an error.
    pub(crate) strict: bool,
    pub(crate) counts: ReadingCounts,
    /// For each reason (or reasons joined by `+`): how many rows, and the first of them.
    reasons: BTreeMap<String, (u64, Vec<String>)>,
}

/// How often a summary of rejected rows names a row of each reason.
const EXAMPLES: usize = 3;

impl RejectedRow {
    /// The row as an error.
    fn forbidden(self) -> DataError {
        let Self { file, line, reason, detail } = self;
        DataError::Strict { file, line, reason, detail }
    }
}

impl ReadingCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.read += other.read;
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
                count(ours, key, *times);
            }
        }
    }
}

impl<W: Write> Reading<W> {
    /// Writes rejected rows to `rejected`, one JSON object a line; `strict` makes the first one an error.
    pub(crate) fn new(rejected: W, strict: bool) -> Self {
        Self { rejected, strict, counts: ReadingCounts::default(), reasons: BTreeMap::new() }
    }

    /// Ends the list of rejected rows.
    pub(crate) fn finish(mut self) -> Result<ReadingCounts, DataError> {
        self.rejected.flush()?;
        Ok(self.counts)
    }

    /// Counts a row, and gives its groups if it can be used.
    pub(crate) fn take(&mut self, row: RawRow) -> Result<Vec<RawGroup>, DataError> {
        self.counts.read += 1;
        for remark in row.remarks {
            self.remark(remark, 1);
        }
        match row.outcome {
            Ok(groups) => {
                for group in &groups {
                    self.count(group);
                }
                Ok(groups)
            }
            Err(flaws) => {
                self.reject(&row.file, row.line, flaws)?;
                Ok(Vec::new())
            }
        }
    }

    /// Takes what another reading found in the rows that come next.
    pub(crate) fn append(&mut self, next: &Reading<Vec<u8>>) -> Result<(), DataError> {
        let mut rejected = serde_json::Deserializer::from_slice(&next.rejected).into_iter::<RejectedRow>();
        if self.strict
            && let Some(row) = rejected.next()
        {
            return Err(row.map_err(std::io::Error::from)?.forbidden());
        }
        self.rejected.write_all(&next.rejected)?;
        self.counts.add(&next.counts);
        for (reason, (rows, examples)) in &next.reasons {
            let known = self.reasons.entry(reason.clone()).or_default();
            known.0 += rows;
            known.1.extend(examples.iter().take(EXAMPLES.saturating_sub(known.1.len())).cloned());
        }
        Ok(())
    }

    /// Counts a remark.
    pub(crate) fn remark(&mut self, remark: Remark, times: u64) {
        match remark {
            Remark::Repaired(what) => count(&mut self.counts.repaired, what, times),
            Remark::Noted(what) => count(&mut self.counts.noted, what, times),
            Remark::Filtered(what) => count(&mut self.counts.filtered, what, times),
        }
    }

    fn count(&mut self, group: &RawGroup) {
        let labelled = group.completions.iter().filter(|completion| completion.label.is_some()).count();
        self.counts.groups += 1;
        self.counts.pairs += group.pairs.len() as u64;
        self.counts.labelled += labelled as u64;
    }

    fn reject(&mut self, file: &str, line: usize, mut flaws: Vec<Flaw>) -> Result<(), DataError> {
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
        let row = RejectedRow { file: file.to_owned(), line, reason, detail: details.join("; ") };
        if self.strict {
            return Err(row.forbidden());
        }
        serde_json::to_writer(&mut self.rejected, &row).map_err(std::io::Error::from)?;
        self.rejected.write_all(b"\n")?;
        let (rows, examples) = self.reasons.entry(row.reason).or_default();
        *rows += 1;
        if examples.len() < EXAMPLES {
            examples.push(format!("    {}:{}: {}", row.file, row.line, row.detail));
        }
        Ok(())
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
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(reason, (rows, _))| (std::cmp::Reverse(*rows), *reason));
        let lines = reasons.into_iter().flat_map(|(reason, (rows, examples))| {
            [format!("  {reason}: {rows}")].into_iter().chain(examples.iter().cloned())
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn count(counts: &mut BTreeMap<String, u64>, key: &str, times: u64) {
    if times > 0 {
        *counts.entry(key.to_owned()).or_default() += times;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::raw::Sink;

    /// Keeps all that a source hands over.
    pub(crate) struct Collected {
        pub(crate) groups: Vec<RawGroup>,
        pub(crate) rejected: Vec<RejectedRow>,
        pub(crate) counts: ReadingCounts,
        reading: Reading<Vec<u8>>,
    }

    impl Default for Collected {
        fn default() -> Self {
            let reading = Reading::new(Vec::new(), false);
            Self { groups: Vec::new(), rejected: Vec::new(), counts: ReadingCounts::default(), reading }
        }
    }

    impl Sink for Collected {
        fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
            for row in rows {
                self.groups.extend(self.reading.take(row)?);
            }
            let lines = std::mem::take(&mut self.reading.rejected);
            let rows = serde_json::Deserializer::from_slice(&lines).into_iter::<RejectedRow>();
            self.rejected.extend(rows.map(Result::unwrap));
            self.counts = self.reading.counts.clone();
            Ok(())
        }

        fn remark(&mut self, remark: Remark, times: u64) {
            self.reading.remark(remark, times);
            self.counts = self.reading.counts.clone();
        }
    }
}

//! Records of one prompt that follow each other, as one group.

use crate::{
    DataError,
    ingest::raw::{RawRow, Remark, RowSink},
};

/// Merges consecutive rows whose prompts are equal, as HelpSteer2 has two rows for each prompt. The
/// completions join the group of the first row.
pub(crate) struct MergePrompts<'a> {
    pub(crate) into: &'a mut dyn RowSink,
    /// Last group, and the rows after it that joined it.
    pending: Vec<RawRow>,
}

impl<'a> MergePrompts<'a> {
    /// Passes rows on to `into`.
    pub(crate) fn new(into: &'a mut dyn RowSink) -> Self {
        Self { into, pending: Vec::new() }
    }

    /// Passes the last rows on.
    pub(crate) fn finish(&mut self) -> Result<(), DataError> {
        self.into.rows(std::mem::take(&mut self.pending))
    }

    /// Moves the completions of a row to the pending group if its prompt is the same. Returns false
    /// if it is not.
    fn joins(&mut self, row: &mut RawRow) -> bool {
        let Some(first) = self.pending.first_mut() else { return false };
        let (Ok(ours), Ok(theirs)) = (&mut first.outcome, &mut row.outcome) else { return false };
        let ([ours], [theirs]) = (ours.as_mut_slice(), theirs.as_mut_slice()) else { return false };
        let same = ours.prompt == theirs.prompt
            && (ours.split, &ours.source, &ours.domain) == (theirs.split, &theirs.source, &theirs.domain);
        if !same {
            return false;
        }
        let moved = ours.completions.len();
        ours.completions.append(&mut theirs.completions);
        let pairs = theirs.pairs.drain(..);
        ours.pairs.extend(pairs.map(|(chosen, rejected)| (chosen + moved, rejected + moved)));
        row.outcome = Ok(Vec::new());
        row.in_other_rows = true;
        true
    }
}

impl RowSink for MergePrompts<'_> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        for mut row in rows {
            if !self.joins(&mut row) {
                self.finish()?;
            }
            self.pending.push(row);
        }
        Ok(())
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.into.remark(remark, times);
    }
}

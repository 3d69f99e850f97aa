//! Rows and groups in blocks that are large enough for parallel work.

use prospect_core::progress::Progress;

use crate::{
    DataError,
    ingest::raw::{GroupSink, RawGroup, RawRow, Remark, RowSink},
};

/// Rows or groups that fill a block.
const BLOCK_ITEMS: usize = 2048;

/// Bytes of text that fill a block.
const BLOCK_BYTES: usize = 4 << 20;

/// Collects rows into blocks, in whatever portions the source gives them.
pub(crate) struct RowBlocks<'a> {
    sink: &'a mut dyn RowSink,
    progress: Progress,
    rows: Vec<RawRow>,
    bytes: usize,
}

impl<'a> RowBlocks<'a> {
    /// Passes blocks on to `sink`.
    pub(crate) fn new(sink: &'a mut dyn RowSink) -> Self {
        Self { sink, progress: Progress::open_ended("reading", "rows"), rows: Vec::new(), bytes: 0 }
    }

    /// Passes the last, partial block on.
    pub(crate) fn finish(&mut self) -> Result<(), DataError> {
        self.bytes = 0;
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = self.rows.len() as u64;
        self.sink.rows(std::mem::take(&mut self.rows))?;
        self.progress.advance(rows, "");
        Ok(())
    }
}

impl RowSink for RowBlocks<'_> {
    fn rows(&mut self, mut rows: Vec<RawRow>) -> Result<(), DataError> {
        self.bytes +=
            rows.iter().flat_map(|row| row.outcome.iter().flatten()).map(RawGroup::bytes).sum::<usize>();
        self.rows.append(&mut rows);
        if self.rows.len() >= BLOCK_ITEMS || self.bytes >= BLOCK_BYTES { self.finish() } else { Ok(()) }
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.sink.remark(remark, times);
    }
}

/// Collects groups into blocks. A block ends with the group that fills it, so blocks depend on the
/// groups only, not on the portions in which the source gives them.
pub(crate) struct GroupBlocks<'a> {
    sink: &'a mut dyn GroupSink,
    progress: Progress,
    groups: Vec<RawGroup>,
    bytes: usize,
}

impl<'a> GroupBlocks<'a> {
    /// Passes blocks on to `sink`. `label` and `total` (the number of groups) are for the progress
    /// bar.
    pub(crate) fn new(sink: &'a mut dyn GroupSink, label: &str, total: usize) -> Self {
        Self { sink, progress: Progress::new(label, "prompts", total as u64), groups: Vec::new(), bytes: 0 }
    }

    pub(crate) fn add(&mut self, groups: impl IntoIterator<Item = RawGroup>) -> Result<(), DataError> {
        for group in groups {
            self.bytes += group.bytes();
            self.groups.push(group);
            if self.groups.len() >= BLOCK_ITEMS || self.bytes >= BLOCK_BYTES {
                self.finish()?;
            }
        }
        Ok(())
    }

    /// Passes the last, partial block on.
    pub(crate) fn finish(&mut self) -> Result<(), DataError> {
        self.bytes = 0;
        let groups = std::mem::take(&mut self.groups);
        let count = groups.len() as u64;
        self.sink.groups(groups)?;
        self.progress.advance(count, "");
        Ok(())
    }
}

impl RowSink for GroupBlocks<'_> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        self.add(rows.into_iter().filter_map(|row| row.outcome.ok()).flatten())
    }

    fn remark(&mut self, _remark: Remark, _times: u64) {}
}

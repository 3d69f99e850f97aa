//! Shards of an input: the part that one of several processes reads.
//!
//! The records of each source are dealt to the shards in blocks, round-robin. Every shard gets an
//! equal part of every source, and the order of all records follows from the shards alone.

use std::str::FromStr;

use crate::{
    DataError,
    ingest::raw::{RawRow, Remark, RowSink},
};

/// One shard of several, written `2/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    index: u64,
    count: u64,
}

/// Records in a block.
pub(crate) const BLOCK_RECORDS: u64 = 1024;

impl Shard {
    /// The whole input.
    pub(crate) const WHOLE: Self = Self { index: 0, count: 1 };

    /// Iterates over all of `count` shards.
    pub(crate) fn all(count: u64) -> impl Iterator<Item = Self> {
        (0..count).map(move |index| Self { index, count })
    }

    /// Returns whether the shard contains a record, by its number in the source, from 0.
    pub(crate) fn contains(self, record: u64) -> bool {
        record / BLOCK_RECORDS % self.count == self.index
    }

    /// Returns whether this is the first shard, which reports remarks that belong to no record.
    pub(crate) fn is_first(self) -> bool {
        self.index == 0
    }

    /// Returns its index, from 0.
    pub(crate) fn index(self) -> u64 {
        self.index
    }

    /// Returns the number of shards.
    pub(crate) fn count(self) -> u64 {
        self.count
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Parses `2/8`, the second of eight shards.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((number, count)) if (1..=count).contains(&number) && count <= 99_999 => {
                Ok(Self { index: number - 1, count })
            }
            _ => Err("a shard is written like 2/8: its number, from 1, and the number of shards".to_owned()),
        }
    }
}

/// Passes on the rows of one shard, for a source that can only be read whole.
pub(crate) struct ShardFilter<'a> {
    pub(crate) shard: Shard,
    /// Number of the next row in the source.
    pub(crate) number: u64,
    pub(crate) into: &'a mut dyn RowSink,
}

impl RowSink for ShardFilter<'_> {
    fn rows(&mut self, mut rows: Vec<RawRow>) -> Result<(), DataError> {
        rows.retain(|_| {
            self.number += 1;
            self.shard.contains(self.number - 1)
        });
        self.into.rows(rows)
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        if self.shard.is_first() {
            self.into.remark(remark, times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_one() {
        let shard = |text: &str| text.parse::<Shard>().map(|shard| (shard.index, shard.count));
        assert_eq!((shard("1/4"), shard("4/4")), (Ok((0, 4)), Ok((3, 4))));
        for wrong in ["0/4", "5/4", "1", "1/0", "a/b", "-1/2", ""] {
            assert!(shard(wrong).is_err_and(|error| error.contains("2/8")), "{wrong}");
        }
    }

    #[test]
    fn every_record_is_in_one_shard() {
        for count in 1..5 {
            assert!(
                (0..9 * BLOCK_RECORDS)
                    .step_by(97)
                    .all(|record| Shard::all(count).filter(|shard| shard.contains(record)).count() == 1)
            );
        }
    }
}

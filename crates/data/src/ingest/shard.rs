//! Shards of an input: what one process of many reads.
//!
//! The records of a source are dealt out in blocks, to the shards in turn, so that every shard has a like share of every
//! source, and the order of all records can be told from the shards alone.

use std::str::FromStr;

use crate::{
    DataError,
    raw::{RawRow, Remark, Sink},
};

/// One of so many shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    index: u64,
    of: u64,
}

/// Records of a block.
pub(crate) const BLOCK: u64 = 1024;

impl Shard {
    /// All there is.
    pub(crate) const WHOLE: Self = Self { index: 0, of: 1 };

    /// Every one of so many shards.
    pub(crate) fn all(of: u64) -> impl Iterator<Item = Self> {
        (0..of).map(move |index| Self { index, of })
    }

    /// Whether a record belongs to it, by its number in its source from 0.
    pub(crate) fn has(self, record: u64) -> bool {
        record / BLOCK % self.of == self.index
    }

    /// Whether it is the one that reports what belongs to no record.
    pub(crate) fn is_first(self) -> bool {
        self.index == 0
    }

    /// Its place among the shards, from 0, and how many there are.
    pub(crate) fn place(self) -> (u64, u64) {
        (self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `2/8`: the second of eight.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) && of <= 99_999 => {
                Ok(Self { index: number - 1, of })
            }
            _ => Err("a shard is written like 2/8: a number from 1, and how many there are".to_owned()),
        }
    }
}

/// Hands on the rows of a shard, of a source that can only be read whole.
pub(crate) struct ShardOf<'a> {
    pub(crate) shard: Shard,
    /// Of the row that comes next.
    pub(crate) number: u64,
    pub(crate) into: &'a mut dyn Sink,
}

impl Sink for ShardOf<'_> {
    fn rows(&mut self, mut rows: Vec<RawRow>) -> Result<(), DataError> {
        rows.retain(|_| {
            self.number += 1;
            self.shard.has(self.number - 1)
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
        let shard = |text: &str| text.parse::<Shard>().map(Shard::place);
        assert_eq!((shard("1/4"), shard("4/4")), (Ok((0, 4)), Ok((3, 4))));
        for wrong in ["0/4", "5/4", "1", "1/0", "a/b", "-1/2", ""] {
            assert!(shard(wrong).is_err_and(|error| error.contains("2/8")), "{wrong}");
        }
    }

    #[test]
    fn every_record_is_in_one_shard() {
        for of in 1..5 {
            assert!(
                (0..9 * BLOCK)
                    .step_by(97)
                    .all(|record| Shard::all(of).filter(|shard| shard.has(record)).count() == 1)
            );
        }
    }
}

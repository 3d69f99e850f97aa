//! Shards on disk: the result of a first pass over part of the input.
//!
//! `<dataset>.shards/00002-of-00008.shard` is a sequence of chunks. A chunk is a length (64-bit,
//! little-endian), that many bytes of postcard, and the hash of both
//! ([`record_hash`](prospect_core::checksums::record_hash)):
//!
//! | chunk | zstd |
//! |---|---|
//! | [`ShardHeader`] | no |
//! | for each block of records: its [`BlockPosition`], as an option | no |
//! | its `FirstPass` (counts, rejected rows, table) | yes |
//! | its groups with their texts, for the second pass | yes |
//! | at the end: no position | no |

mod read;
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataError, ingest::shard::Shard};
pub(crate) use read::OrderedBlocks;
use read::ShardReader;
pub(crate) use write::write_shard;

/// Identity of a shard.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardHeader {
    format_version: u32,
    /// Fingerprint of the recipe and its inputs.
    fingerprint: String,
    /// Index of the shard, from 0, and number of shards.
    place: (u64, u64),
}

/// Version of the shard format. Increment it with every change of the format.
const FORMAT_VERSION: u32 = 3;

/// Position of a block in the order of all records: source, then block number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct BlockPosition {
    source: usize,
    block: u64,
}

/// Returns the folder for the shards of a dataset: `<dataset>.shards`.
pub fn shards_folder(dataset: &Path) -> PathBuf {
    let mut name = dataset.file_name().unwrap_or_default().to_owned();
    name.push(".shards");
    dataset.with_file_name(name)
}

/// Returns the path of a shard.
pub fn shard_file(dataset: &Path, shard: Shard) -> PathBuf {
    shards_folder(dataset).join(format!("{:05}-of-{:05}.shard", shard.index() + 1, shard.count()))
}

impl ShardHeader {
    /// `fingerprint` is that of the recipe.
    pub(crate) fn new(fingerprint: &str, shard: Shard) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            fingerprint: fingerprint.to_owned(),
            place: (shard.index(), shard.count()),
        }
    }

    /// Returns whether `path` is a shard with this header.
    pub(crate) fn matches_file(&self, path: &Path) -> bool {
        path.exists() && ShardReader::open(path).is_ok_and(|(found, _)| found == *self)
    }
}

/// All shards of an input.
pub(crate) struct ShardSet {
    paths: Vec<PathBuf>,
}

impl ShardSet {
    /// Finds the shards of a dataset. Fails unless all are present and have the recipe's
    /// fingerprint.
    pub(crate) fn find(fingerprint: &str, dataset: &Path) -> Result<Self, DataError> {
        let folder = shards_folder(dataset);
        let fail = |message: String| DataError::Folder { folder: folder.clone(), message };
        let count = shard_count(&folder)?;
        let mut missing = Vec::new();
        let mut paths = Vec::new();
        for shard in Shard::all(count) {
            let path = shard_file(dataset, shard);
            let number = shard.index() + 1;
            if path.exists() {
                let (found, _) = ShardReader::open(&path)?;
                if found != ShardHeader::new(fingerprint, shard) {
                    return Err(fail(format!(
                        "holds shard {number}/{count} of another recipe, input or version; make it again with \
                         `--shard {number}/{count}`"
                    )));
                }
                paths.push(path);
            } else {
                missing.push(format!("{number}/{count}"));
            }
        }
        if missing.is_empty() {
            return Ok(Self { paths });
        }
        let shown = &missing[..missing.len().min(8)];
        let more = if missing.len() > shown.len() {
            format!(" and {} more", missing.len() - shown.len())
        } else {
            String::new()
        };
        Err(fail(format!("lacks the shards {}{more}; make them with `--shard`", shown.join(", "))))
    }

    /// Opens all shards for reading their blocks in record order.
    pub(crate) fn open(&self) -> Result<OrderedBlocks, DataError> {
        let readers = self
            .paths
            .iter()
            .map(|path| Ok(ShardReader::open(path)?.1))
            .collect::<Result<Vec<_>, DataError>>()?;
        Ok(OrderedBlocks { readers })
    }
}

/// Returns the number of shards, read from the file names in a folder.
fn shard_count(folder: &Path) -> Result<u64, DataError> {
    let entries: Vec<PathBuf> = if folder.exists() {
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?
    } else {
        Vec::new()
    };
    let mut counts: Vec<u64> = entries
        .iter()
        .filter_map(|path| path.file_stem()?.to_str()?.split_once("-of-")?.1.parse().ok())
        .collect();
    counts.sort_unstable();
    counts.dedup();
    let message = match counts.as_slice() {
        [count] => return Ok(*count),
        [] => "holds no shards; make them with `--shard 1/N` to `--shard N/N`".to_owned(),
        _ => format!("holds shards of {counts:?}; remove those that are not wanted"),
    };
    Err(DataError::Folder { folder: folder.to_owned(), message })
}

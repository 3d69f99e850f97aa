//! Shards on disk: what each process of many found in its part of the input, for one process to put together.
//!
//! `<dataset>.shards/00002-of-00008.shard` holds a header, then block after block of records: where the block stands, what
//! the first reading found in it, and its groups with their texts, which the second reading wants. Each part is a length
//! (64 bits, little endian) and so many bytes of postcard, compressed with zstd but for the first two.

mod reading;
mod saving;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DataError, Pipeline, Shard};
pub(crate) use reading::InOrder;
use reading::Reader;
pub use saving::prepare_shard;

/// What a shard is of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format_version: u32,
    /// Names the recipe and its inputs.
    fingerprint: String,
    place: (u64, u64),
}

/// Raised whenever the layout of shards changes.
const FORMAT_VERSION: u32 = 1;

/// Where a block of records stands among all: source, then number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    source: usize,
    block: u64,
}

/// The folder of a dataset's shards, beside it.
pub fn shards_folder(dataset: &Path) -> PathBuf {
    let mut name = dataset.file_name().unwrap_or_default().to_owned();
    name.push(".shards");
    dataset.with_file_name(name)
}

/// The file of a shard.
pub fn shard_file(dataset: &Path, shard: Shard) -> PathBuf {
    let (index, of) = shard.place();
    shards_folder(dataset).join(format!("{:05}-of-{of:05}.shard", index + 1))
}

fn header(pipeline: &Pipeline, shard: Shard) -> Result<Header, DataError> {
    Ok(Header { format_version: FORMAT_VERSION, fingerprint: pipeline.fingerprint()?, place: shard.place() })
}

/// Whether a shard of this very recipe is there.
pub fn shard_prepared(pipeline: &Pipeline, dataset: &Path, shard: Shard) -> Result<bool, DataError> {
    let path = shard_file(dataset, shard);
    let found = if path.exists() { Reader::open(&path).ok() } else { None };
    Ok(found.is_some_and(|(found, _)| header(pipeline, shard).is_ok_and(|wanted| found == wanted)))
}

/// All shards of an input.
pub(crate) struct Shards {
    paths: Vec<PathBuf>,
}

impl Shards {
    /// Finds the shards beside a dataset; all have to be there, and of this very recipe.
    pub(crate) fn find(pipeline: &Pipeline, dataset: &Path) -> Result<Self, DataError> {
        let folder = shards_folder(dataset);
        let fail = |message: String| DataError::Folder { folder: folder.clone(), message };
        let entries: Vec<PathBuf> = if folder.exists() {
            fs_err::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?
        } else {
            Vec::new()
        };
        let mut counts: Vec<u64> = entries
            .iter()
            .filter_map(|path| path.file_stem()?.to_str()?.split_once("-of-")?.1.parse().ok())
            .collect();
        counts.sort_unstable();
        counts.dedup();
        let &[of] = counts.as_slice() else {
            return Err(fail(match counts.as_slice() {
                [] => "holds no shards; make them with `--shard 1/N` to `--shard N/N`".to_owned(),
                _ => format!("holds shards of {counts:?}; remove those that are not wanted"),
            }));
        };
        let mut missing = Vec::new();
        let mut paths = Vec::new();
        for shard in Shard::all(of) {
            let path = shard_file(dataset, shard);
            let number = shard.place().0 + 1;
            if path.exists() {
                let (found, _) = Reader::open(&path)?;
                if found != header(pipeline, shard)? {
                    return Err(fail(format!(
                        "holds shard {number}/{of} of another recipe, input or version; make it again with `--shard {number}/{of}`"
                    )));
                }
                paths.push(path);
            } else {
                missing.push(format!("{number}/{of}"));
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

    /// Starts to read the blocks of all shards in the order of their records.
    pub(crate) fn open(&self) -> Result<InOrder, DataError> {
        let readers =
            self.paths.iter().map(|path| Ok(Reader::open(path)?.1)).collect::<Result<Vec<_>, DataError>>()?;
        Ok(InOrder { readers })
    }
}

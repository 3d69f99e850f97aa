//! Reading the input: from files of any supported format to prompts with judged completions.
//!
//! | module | content |
//! |---|---|
//! | [`records`] | files (JSON lines, JSON array, CSV, TSV, parquet, gzip) to records, in any of three encodings |
//! | [`sources`] | records to [`raw::RawRow`]s: one file per dataset format |
//! | [`blocks`] | rows and groups in blocks that are worth parallel work |
//! | [`rejections`] | counts of all rows by outcome, and `rejected.jsonl` |
//! | [`digest`] | groups to table rows, without their texts |
//! | [`first_pass`] | the first of the two passes over the input |
//! | [`shards`] | results of a first pass over part of the input, on disk |

pub(crate) mod blocks;
pub(crate) mod digest;
pub(crate) mod first_pass;
mod input_file;
pub(crate) mod raw;
pub(crate) mod records;
pub(crate) mod rejections;
pub(crate) mod shard;
pub(crate) mod shards;
pub(crate) mod sources;

pub use input_file::InputFile;
pub use rejections::{ReadingCounts, RejectedRow};
pub use shard::Shard;
pub use shards::{shard_file, shards_folder};

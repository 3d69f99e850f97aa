//! Shards on disk: what each process of many found in its part of the input, for one process to put together.
//!
//! `<dataset>.shards/00002-of-00008.shard` holds a header, then block after block of records: where the block stands, what
//! the first reading found in it, and its groups with their texts, which the second reading wants. Each part is a length
//! (64 bits, little endian) and so many bytes of postcard, compressed with zstd but for the first two.

use std::{
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
};

use fs_err::File;
use prospect_core::{files::write_whole, progress::Progress};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    DataError, Pipeline, ReadingCounts, Shard,
    raw::{GroupBlocks, RawGroup, RawRow, Remark, Sink},
    shard::BLOCK,
    survey::Survey,
};

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

/// The folder of a dataset's shards.
pub(crate) fn folder(dataset: &Path) -> PathBuf {
    let mut name = dataset.file_name().unwrap_or_default().to_owned();
    name.push(".shards");
    dataset.with_file_name(name)
}

/// The file of a shard.
pub fn shard_file(dataset: &Path, shard: Shard) -> PathBuf {
    let (index, of) = shard.place();
    folder(dataset).join(format!("{:05}-of-{of:05}.shard", index + 1))
}

fn header(pipeline: &Pipeline, shard: Shard) -> Result<Header, DataError> {
    Ok(Header { format_version: FORMAT_VERSION, fingerprint: pipeline.fingerprint()?, place: shard.place() })
}

/// Reads one shard of the input and keeps what it finds beside the dataset to be.
pub fn prepare_shard(pipeline: &Pipeline, dataset: &Path, shard: Shard) -> Result<ReadingCounts, DataError> {
    let (header, measure) = (header(pipeline, shard)?, pipeline.measure()?);
    let mut counts = ReadingCounts::default();
    let mut failed = Ok(());
    write_whole(&shard_file(dataset, shard), |file| {
        write_part(file, &encode(&header)?)?;
        let survey = || Survey::new(Vec::new(), pipeline.strict, measure.clone());
        let mut saving = Saving {
            file,
            shard,
            place: Place { source: 0, block: 0 },
            pending: Vec::new(),
            survey: survey(),
            fresh: &survey,
            counts: ReadingCounts::default(),
            progress: Progress::open_ended("reading", "rows"),
        };
        let read = || -> Result<ReadingCounts, DataError> {
            for (index, source) in pipeline.source.as_slice().iter().enumerate() {
                if !source.is_generated() {
                    saving.place = Place { source: index, block: shard.place().0 };
                    source.read(dataset, shard, &mut saving)?;
                    saving.end()?;
                }
            }
            Ok(saving.counts)
        };
        match read() {
            Ok(found) => counts = found,
            Err(DataError::Io(error)) => return Err(error),
            // The file is not kept either way; the error that says why must not become text.
            Err(error) => {
                failed = Err(error);
                return Err(std::io::Error::other("the shard was not read to its end"));
            }
        }
        Ok(())
    })
    .map_err(|error| std::mem::replace(&mut failed, Ok(())).err().unwrap_or(error.into()))?;
    Ok(counts)
}

/// Whether a shard of this very recipe is there.
pub fn shard_prepared(pipeline: &Pipeline, dataset: &Path, shard: Shard) -> Result<bool, DataError> {
    let path = shard_file(dataset, shard);
    let found = if path.exists() { Reader::open(&path).ok() } else { None };
    Ok(found.is_some_and(|(found, _)| header(pipeline, shard).is_ok_and(|wanted| found == wanted)))
}

/// Takes the rows of a shard and writes them in blocks.
struct Saving<'a, W> {
    file: W,
    shard: Shard,
    /// Of the block at hand.
    place: Place,
    pending: Vec<RawRow>,
    survey: Survey<Vec<u8>>,
    fresh: &'a (dyn Fn() -> Survey<Vec<u8>> + Sync),
    counts: ReadingCounts,
    progress: Progress,
}

impl<W: Write> Saving<'_, W> {
    fn block(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        let read = rows.len() as u64;
        let groups = self.survey.take(rows)?;
        let survey = std::mem::replace(&mut self.survey, (self.fresh)());
        self.counts.add(&survey.reading.counts);
        write_part(&mut self.file, &encode(&self.place)?)?;
        write_part(&mut self.file, &compress(&survey)?)?;
        write_part(&mut self.file, &compress(&groups)?)?;
        self.place.block += self.shard.place().1;
        self.progress.advance(read, "");
        Ok(())
    }

    /// Writes what is left of a source.
    fn end(&mut self) -> Result<(), DataError> {
        let rows = std::mem::take(&mut self.pending);
        if rows.is_empty() && self.survey.reading.counts == ReadingCounts::default() {
            return Ok(());
        }
        self.block(rows)
    }
}

impl<W: Write + Send> Sink for Saving<'_, W> {
    fn rows(&mut self, rows: Vec<RawRow>) -> Result<(), DataError> {
        self.pending.extend(rows);
        while self.pending.len() >= BLOCK as usize {
            let rest = self.pending.split_off(BLOCK as usize);
            let rows = std::mem::replace(&mut self.pending, rest);
            self.block(rows)?;
        }
        Ok(())
    }

    fn remark(&mut self, remark: Remark, times: u64) {
        self.survey.reading.remark(remark, times);
    }
}

/// All shards of an input.
pub(crate) struct Shards {
    paths: Vec<PathBuf>,
}

impl Shards {
    /// Finds the shards beside a dataset; all have to be there, and of this very recipe.
    pub(crate) fn find(pipeline: &Pipeline, dataset: &Path) -> Result<Self, DataError> {
        let folder = folder(dataset);
        let fail = |message: String| DataError::Folder { folder: folder.clone(), message };
        let entries: Vec<PathBuf> = match fs_err::read_dir(&folder) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?,
            Err(_) => {
                return Err(fail(
                    "holds no shards; make them with `--shard 1/N` to `--shard N/N`".to_owned(),
                ));
            }
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

/// The blocks of all shards in the order of their records.
pub(crate) struct InOrder {
    readers: Vec<Reader>,
}

impl InOrder {
    /// The shard that has the next block of a source.
    fn next(&mut self, source: usize) -> Option<&mut Reader> {
        let of_source = |reader: &&mut Reader| reader.next.is_some_and(|place| place.source == source);
        self.readers.iter_mut().filter(of_source).min_by_key(|reader| reader.next)
    }

    /// What was found in the records of a source.
    pub(crate) fn survey<W: Write>(&mut self, source: usize, into: &mut Survey<W>) -> Result<(), DataError> {
        while let Some(reader) = self.next(source) {
            let found: Survey<Vec<u8>> = reader.compressed()?;
            reader.skip()?;
            reader.advance()?;
            into.reading.append(&found.reading)?;
            into.feedback.append(found.feedback)?;
        }
        Ok(())
    }

    /// The groups of a source.
    pub(crate) fn groups(&mut self, source: usize, into: &mut GroupBlocks<'_>) -> Result<(), DataError> {
        while let Some(reader) = self.next(source) {
            reader.skip()?;
            let groups: Vec<RawGroup> = reader.compressed()?;
            reader.advance()?;
            into.add(groups)?;
        }
        Ok(())
    }
}

/// One shard while it is read.
struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes from here to the end.
    left: u64,
    next: Option<Place>,
}

impl Reader {
    fn open(path: &Path) -> Result<(Header, Self), DataError> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        let mut reader = Self { path: path.to_owned(), file: BufReader::new(file), left, next: None };
        let bytes = reader.part()?;
        let header = reader.decode(&bytes)?;
        reader.advance()?;
        Ok((header, reader))
    }

    fn damaged(&self) -> DataError {
        DataError::Shard(self.path.clone())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DataError> {
        postcard::from_bytes(bytes).map_err(|_| self.damaged())
    }

    /// Finds the next block.
    fn advance(&mut self) -> Result<(), DataError> {
        self.next = if self.left == 0 {
            None
        } else {
            let bytes = self.part()?;
            Some(self.decode(&bytes)?)
        };
        Ok(())
    }

    fn length(&mut self) -> Result<u64, DataError> {
        let mut length = [0; 8];
        let left = self.left.checked_sub(8).ok_or_else(|| self.damaged())?;
        self.file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        self.left = left.checked_sub(length).ok_or_else(|| self.damaged())?;
        Ok(length)
    }

    fn part(&mut self) -> Result<Vec<u8>, DataError> {
        let mut bytes = vec![0; self.length()? as usize];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self) -> Result<(), DataError> {
        let length = self.length()?;
        // Within the buffer where possible.
        Ok(self.file.seek_relative(length.cast_signed())?)
    }

    fn compressed<T: DeserializeOwned>(&mut self) -> Result<T, DataError> {
        let bytes = self.part()?;
        let bytes = zstd::decode_all(bytes.as_slice()).map_err(|_| self.damaged())?;
        self.decode(&bytes)
    }
}

fn encode(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(std::io::Error::other)
}

fn compress(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    zstd::encode_all(encode(value)?.as_slice(), 1)
}

fn write_part(file: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(&(bytes.len() as u64).to_le_bytes())?;
    file.write_all(bytes)
}

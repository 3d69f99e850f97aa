//! Append-only file of cache entries, shared by several processes.
//!
//! A record is `key (32 bytes) count (u32) values (f64…) hash (8 bytes)`, little-endian, where the
//! hash is the [`record_hash`] of the bytes before it. Bytes that are not part of a record with a
//! matching hash are damage: a record that a killed process left incomplete, or changed bytes. The
//! first reader reports and removes them.
//!
//! Readers and writers lock the file. On file systems without locks, what looks like damage may be a
//! record that another process is writing: readers leave it in place, and nothing is removed. Files of earlier versions, which have no hashes, have another
//! extension and are not read.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use fs_err::{File, OpenOptions};
use prospect_core::{checksums::record_hash, files::open_to_append};

/// Content hash of a batch and its reference.
pub(super) type CacheKey = [u8; 32];

/// Bytes of a record before its values: key and count.
const HEADER: usize = 32 + 4;

/// Bytes of a record after its values: the hash.
const HASH: usize = 8;

/// Extension of cache files.
pub(super) const EXTENSION: &str = "logps";

/// A cache file, which may not exist yet.
#[derive(Debug)]
pub(super) struct CacheFile {
    path: PathBuf,
}

impl CacheFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all intact records. Reports damage and removes it from the file.
    pub(super) fn read(&self) -> io::Result<Vec<(CacheKey, Vec<f64>)>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let (bytes, is_locked) = self.bytes()?;
        let CacheContent { records, damage } = CacheContent::parse(&bytes);
        if !damage.is_empty() && is_locked {
            let damage = describe(&self.path, &bytes, &damage);
            tracing::warn!("{damage}; the damaged entries are removed and computed again");
            self.remove_damage()?;
        }
        Ok(records)
    }

    /// Reads the file while nobody writes it, and returns true if the file system has locks that
    /// ensure that.
    fn bytes(&self) -> io::Result<(Vec<u8>, bool)> {
        let mut file = File::open(&self.path)?;
        let is_locked = file.file().lock_shared().is_ok();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((bytes, is_locked))
    }

    /// Describes the damage of the file, without removing it.
    pub(super) fn damage(&self) -> io::Result<Option<String>> {
        let (bytes, _) = self.bytes()?;
        let damage = CacheContent::parse(&bytes).damage;
        Ok((!damage.is_empty()).then(|| describe(&self.path, &bytes, &damage)))
    }

    /// Removes damage. A process that is killed here leaves intact records and damage, since every
    /// record has its own hash.
    pub(super) fn remove_damage(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        file.file().lock().map_err(|error| {
            io::Error::other(format!(
                "{}: the file system has no locks ({error}), so its damage is not removed; remove the file once no \
                 process uses it",
                self.path.display()
            ))
        })?;
        // Other processes may have appended records or removed the damage since it was read.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let damage = CacheContent::parse(&bytes).damage;
        let Some(first) = damage.first() else { return Ok(()) };
        let ends = damage.iter().skip(1).map(|next| next.start).chain([bytes.len()]);
        file.seek(SeekFrom::Start(first.start as u64))?;
        for (damaged, end) in damage.iter().zip(ends) {
            file.write_all(&bytes[damaged.end..end])?;
        }
        let length = file.stream_position()?;
        file.set_len(length)?;
        file.sync_all()
    }

    /// Appends records and syncs them to disk.
    pub(super) fn append<'a>(&self, records: impl Iterator<Item = (CacheKey, &'a [f64])>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (key, values) in records {
            let start = bytes.len();
            bytes.extend(key);
            bytes.extend((values.len() as u32).to_le_bytes());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            bytes.extend(record_hash(&bytes[start..]));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut file = open_to_append(&self.path)?;
        let is_locked = file.file().lock().is_ok();
        let length = file.metadata()?.len();
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        if written.is_err() && is_locked {
            // An incomplete record would be reported as damage by the next reader.
            let _ = file.set_len(length);
        }
        written
    }
}

/// Intact records and damage of a cache file.
struct CacheContent {
    records: Vec<(CacheKey, Vec<f64>)>,
    /// Byte ranges between intact records, in order.
    damage: Vec<Range<usize>>,
}

impl CacheContent {
    fn parse(bytes: &[u8]) -> Self {
        let (mut records, mut damage) = (Vec::new(), Vec::<Range<usize>>::new());
        let mut offset = 0;
        while offset < bytes.len() {
            let rest = &bytes[offset..];
            if let Some((key, values)) = parse_record(rest) {
                offset += HEADER + 8 * values.len() + HASH;
                records.push((key, values));
                continue;
            }
            // The next record may start at any byte, since the damaged length cannot be trusted.
            match damage.last_mut() {
                Some(range) if range.end == offset => range.end += 1,
                _ => damage.push(offset..offset + 1),
            }
            offset += 1;
        }
        Self { records, damage }
    }
}

/// Splits the record that `bytes` start with into content and hash; None if it is incomplete.
fn split_record(bytes: &[u8]) -> Option<(&[u8], [u8; HASH])> {
    let count = bytes.get(32..HEADER)?.first_chunk::<4>()?;
    let length = HEADER + 8 * u32::from_le_bytes(*count) as usize;
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((content, *rest.first_chunk::<HASH>()?))
}

/// Parses the record that `bytes` start with; None unless its hash matches.
fn parse_record(bytes: &[u8]) -> Option<(CacheKey, Vec<f64>)> {
    let (content, hash) = split_record(bytes)?;
    if record_hash(content) != hash {
        return None;
    }
    let (key, _) = content.split_first_chunk::<32>()?;
    let (values, _) = content.get(HEADER..)?.as_chunks::<8>();
    Some((*key, values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()))
}

/// Describes the damage of a file.
fn describe(path: &Path, bytes: &[u8], damage: &[Range<usize>]) -> String {
    let lost: usize = damage.iter().map(Range::len).sum();
    let first = damage.first().map_or(0, |range| range.start);
    let cause = match split_record(&bytes[first..]) {
        Some((content, expected)) => format!(
            "has the hash {:016x}, not {:016x} as recorded",
            u64::from_be_bytes(record_hash(content)),
            u64::from_be_bytes(expected)
        ),
        None => "is incomplete".to_owned(),
    };
    format!(
        "{}: {lost} of {} bytes are damaged: the record at byte {first} {cause}",
        path.display(),
        bytes.len()
    )
}

#[cfg(test)]
mod tests {
    use prospect_testkit::flipped;

    use super::*;

    type Record = (CacheKey, Vec<f64>);

    fn records() -> Vec<Record> {
        (0..6_u8).map(|index| ([index; 32], vec![f64::from(index) * -1.5; usize::from(index)])).collect()
    }

    fn append(file: &CacheFile, records: &[Record]) {
        file.append(records.iter().map(|(key, values)| (*key, values.as_slice()))).unwrap();
    }

    fn file(folder: &tempfile::TempDir) -> CacheFile {
        let file = CacheFile::new(folder.path().join("a.logps"));
        append(&file, &records());
        file
    }

    #[test]
    fn a_changed_byte_loses_one_record_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let (all, whole) = (records(), fs_err::read(file.path()).unwrap());
        assert_eq!(file.read().unwrap(), all);
        for (position, damaged) in flipped(&whole, whole.len()) {
            fs_err::write(file.path(), &damaged).unwrap();
            let kept = file.read().unwrap();
            assert_eq!(kept.len(), all.len() - 1, "byte {position}");
            let lost: Vec<&Record> = all.iter().filter(|record| !kept.contains(record)).collect();
            assert_eq!(lost.len(), 1, "byte {position}");
            // The file has no damage any more, and takes the lost record.
            assert!(CacheContent::parse(&fs_err::read(file.path()).unwrap()).damage.is_empty());
            append(&file, &[lost[0].clone()]);
            let mut found = file.read().unwrap();
            found.sort_by_key(|(key, _)| *key);
            assert_eq!(found, all, "byte {position}");
        }
    }

    #[test]
    fn records_after_an_incomplete_one_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let (all, whole) = (records(), fs_err::read(file.path()).unwrap());
        for length in 0..whole.len() {
            fs_err::write(file.path(), &whole[..length]).unwrap();
            let later = ([9; 32], vec![0.25]);
            append(&file, std::slice::from_ref(&later));
            let found = file.read().unwrap();
            assert_eq!(found.last(), Some(&later));
            assert_eq!(found[..found.len() - 1], all[..found.len() - 1], "{length} bytes");
            assert_eq!(file.read().unwrap(), found);
        }
    }

    #[test]
    fn several_damaged_parts_are_removed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let mut bytes = fs_err::read(file.path()).unwrap();
        let size = |count: usize| HEADER + 8 * count + HASH;
        let second = size(0);
        bytes[second] ^= 1;
        let fourth = size(0) + size(1) + size(2);
        // A length beyond the end of the file.
        bytes[fourth + 35] = 0xff;
        let described = describe(file.path(), &bytes, &CacheContent::parse(&bytes).damage);
        let hash = format!(
            "{} of {} bytes are damaged: the record at byte {second} has the hash ",
            size(1) + size(3),
            bytes.len()
        );
        assert!(described.contains(&hash), "{described}");
        fs_err::write(file.path(), &bytes).unwrap();
        let all = records();
        let kept = [0, 2, 4, 5].map(|index: usize| all[index].clone());
        assert_eq!(file.read().unwrap(), kept);
        assert_eq!(fs_err::metadata(file.path()).unwrap().len() as usize, bytes.len() - size(1) - size(3));
        assert_eq!(file.read().unwrap(), kept);
    }
}

//! Append-only file of cache entries, shared by several processes.
//!
//! A record is `key (32 bytes) count (u32) values (f64…)`, little-endian. Readers and writers lock
//! the file, so an incomplete record can only come from a killed process. It is cut off before the
//! next append.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use fs_err::{File, OpenOptions};

/// Content hash of a batch and its reference.
pub(super) type CacheKey = [u8; 32];

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
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Reads all complete records.
    pub(super) fn read(&self) -> std::io::Result<Vec<(CacheKey, Vec<f64>)>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let mut file = File::open(&self.path)?;
        file.file().lock_shared()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mut records, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some((key, after)) = rest.split_first_chunk::<32>()
            && let Some((count, after)) = after.split_first_chunk::<4>()
            && let size = u32::from_le_bytes(*count) as usize * 8
            && after.len() >= size
        {
            let (values, after) = after.split_at(size);
            let (values, _) = values.as_chunks::<8>();
            records.push((*key, values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()));
            rest = after;
        }
        Ok(records)
    }

    /// Appends records and syncs them to disk.
    pub(super) fn append<'a>(
        &self,
        records: impl Iterator<Item = (CacheKey, &'a [f64])>,
    ) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for (key, values) in records {
            bytes.extend(key);
            bytes.extend((values.len() as u32).to_le_bytes());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&self.path)?;
        file.file().lock()?;
        let end = complete_length(&mut file)?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(&bytes)?;
        file.sync_all()
    }
}

/// Length of all complete records, in bytes. Reads only their headers.
fn complete_length(file: &mut File) -> std::io::Result<u64> {
    let (length, mut offset) = (file.metadata()?.len(), 0);
    let mut header = [0; 36];
    while offset + 36 <= length {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut header)?;
        let [.., a, b, c, d] = header;
        let next = offset + 36 + 8 * u64::from(u32::from_le_bytes([a, b, c, d]));
        if next > length {
            break;
        }
        offset = next;
    }
    Ok(offset)
}

//! A file of records that several processes read and append to.
//!
//! Records are `key (32 bytes) count (u32) values (f64…)`, little-endian. Readers and writers hold the file's lock while
//! they are at it, so a record that is not whole is what a killed process left; it is cut off before the next is appended.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use fs_err::{File, OpenOptions};

/// The file at a path, which need not exist yet.
#[derive(Debug)]
pub(super) struct RecordsFile {
    path: PathBuf,
}

impl RecordsFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// All whole records.
    pub(super) fn read(&self) -> std::io::Result<Vec<([u8; 32], Vec<f64>)>> {
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

    /// Appends records and waits until they are on disk.
    pub(super) fn append<'a>(
        &self,
        records: impl Iterator<Item = ([u8; 32], &'a [f64])>,
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
        let end = whole_length(&mut file)?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(&bytes)?;
        file.sync_all()
    }
}

/// Bytes of whole records. Only their heads are read.
fn whole_length(file: &mut File) -> std::io::Result<u64> {
    let (length, mut at) = (file.metadata()?.len(), 0);
    let mut head = [0; 36];
    while at + 36 <= length {
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [.., a, b, c, d] = head;
        let next = at + 36 + 8 * u64::from(u32::from_le_bytes([a, b, c, d]));
        if next > length {
            break;
        }
        at = next;
    }
    Ok(at)
}

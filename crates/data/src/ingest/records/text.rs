//! Text of a plain or gzip-compressed file, decoded to UTF-8.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use fs_err::File;

use crate::{
    DataError,
    ingest::records::encoding::{Charset, TextDecoder, TextEncoding, examine},
};

/// Limits against gzip bombs: data may expand to [`SLACK`] bytes plus this many times the file's
/// length. Text typically compresses two- to tenfold.
const LARGEST_RATIO: u64 = 200;
const SLACK: u64 = 64 << 20;

/// Text of a file. Its errors report how far the file could be read.
pub(crate) struct InputText {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    compressed: bool,
    /// Name of the encoding that the text was decoded from, as a remark; None for UTF-8.
    pub(crate) decoded_from: Option<&'static str>,
    /// Bytes of text read so far.
    bytes: u64,
    /// Whole records read so far, for error messages.
    pub(crate) records: usize,
}

/// Returns true if the file's first bytes are those of parquet.
pub(crate) fn is_parquet(path: &Path) -> Result<bool, DataError> {
    let mut magic = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(magic == b"PAR1")
}

impl InputText {
    /// Opens a file. Compression is detected from its first bytes, not from its name. The encoding
    /// is `encoding`, or else detected; of a table, by reading it to its end.
    pub(crate) fn open(path: &Path, encoding: Option<TextEncoding>, table: bool) -> Result<Self, DataError> {
        let (mut reader, compressed) = open(path)?;
        let fail = |source| explain(path, compressed, 0, 0, source);
        let mut charset = Charset::detect(reader.fill_buf().map_err(fail)?, encoding);
        if table && charset.is_none() && encoding.is_none() {
            charset = examine(&mut reader)
                .map_err(fail)?
                .map_err(|message| DataError::Table { file: path.to_owned(), message })?;
            reader = open(path)?.0;
        }
        if let Some(charset) = charset {
            reader = Box::new(BufReader::with_capacity(1 << 16, TextDecoder::new(reader, charset)));
        }
        let decoded_from = charset.map(Charset::remark);
        Ok(Self { path: path.to_owned(), reader, compressed, decoded_from, bytes: 0, records: 0 })
    }

    /// Returns the buffered bytes that come next; none at the end.
    pub(crate) fn peek(&mut self) -> Result<&[u8], DataError> {
        match self.reader.fill_buf() {
            Ok(bytes) => Ok(bytes),
            Err(source) => Err(explain(&self.path, self.compressed, self.records, self.bytes, source)),
        }
    }

    /// Advances by `bytes` of the bytes that [`peek`](Self::peek) returned.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.reader.consume(bytes);
    }

    /// Appends up to `most` bytes to `line`, through the next line break. Returns the number
    /// appended.
    pub(crate) fn line(&mut self, line: &mut Vec<u8>, most: usize) -> Result<usize, DataError> {
        let read = (&mut self.reader)
            .take(most as u64)
            .read_until(b'\n', line)
            .map_err(|source| explain(&self.path, self.compressed, self.records, self.bytes, source))?;
        self.bytes += read as u64;
        Ok(read)
    }

    /// Skips a byte order mark. Returns true if there was one.
    pub(crate) fn skip_byte_order_mark(&mut self) -> Result<bool, DataError> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let found = self.peek()?.starts_with(MARK);
        if found {
            self.consume(MARK.len());
        }
        Ok(found)
    }

    /// Returns the first buffered byte that is not white space.
    pub(crate) fn first_visible_byte(&mut self) -> Result<Option<u8>, DataError> {
        Ok(self.peek()?.iter().find(|byte| !byte.is_ascii_whitespace()).copied())
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a file for reading what it holds, decompressed. Returns true if it was compressed.
fn open(path: &Path) -> Result<(Box<dyn BufRead>, bool), DataError> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    if !file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok((Box::new(file), false));
    }
    let left = SLACK + LARGEST_RATIO.saturating_mul(length);
    let text = LimitedReader { inner: MultiGzDecoder::new(file), left };
    Ok((Box::new(BufReader::with_capacity(1 << 16, text)), true))
}

fn explain(path: &Path, compressed: bool, records: usize, bytes: u64, source: io::Error) -> DataError {
    let file = path.to_owned();
    if matches!(source.get_ref(), Some(error) if error.is::<GzipTooLarge>()) {
        DataError::GzipTooLarge { file, bytes }
    } else if compressed {
        DataError::Gzip { file, records, bytes, source }
    } else {
        DataError::Io(source)
    }
}

/// Reader that fails beyond a byte limit.
struct LimitedReader<R> {
    inner: R,
    left: u64,
}

/// Error of compressed data that expands far more than text does.
#[derive(Debug)]
struct GzipTooLarge;

impl fmt::Display for GzipTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too much data")
    }
}

impl std::error::Error for GzipTooLarge {}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(GzipTooLarge))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::ingest::records::tests::records;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_of_a_gzip_file_are_one_text() {
        let mut members = gzip(b"\xef\xbb\xbf1\r\n2");
        members.extend(gzip(b"3\n4"));
        let (lines, notes) = records("a", &members).unwrap();
        let texts: Vec<_> = lines.into_iter().map(|(_, line)| line.unwrap()).collect();
        assert_eq!((texts, notes.byte_order_mark), (vec!["1".into(), "23".into(), "4".to_owned()], true));
    }

    #[test]
    fn damaged_gzip_says_how_far_it_was_read() {
        let lines: Vec<String> = (0..4000u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        let text = lines.join("\n") + "\n";
        let whole = gzip(text.as_bytes());
        let error = records("a", &whole[..whole.len() / 2]).unwrap_err();
        let DataError::Gzip { records: lines, bytes, .. } = error else { panic!("{error}") };
        assert!(lines > 100 && bytes > 1000, "{lines} {bytes}");
        let mut is_flipped = whole.clone();
        let last = is_flipped.len() - 6;
        is_flipped[last] ^= 1;
        assert!(matches!(records("a", &is_flipped).unwrap_err(), DataError::Gzip { records: 4000, .. }));
        assert!(matches!(records("a", b"\x1f\x8bnot gzip").unwrap_err(), DataError::Gzip { records: 0, .. }));
    }

    #[test]
    fn a_gzip_bomb_is_refused_without_unpacking_it_whole() {
        let bomb = gzip(&vec![b'0'; 120 << 20]);
        let error = records("bomb.jsonl.gz", &bomb).unwrap_err();
        let DataError::GzipTooLarge { bytes, .. } = error else { panic!("{error}") };
        assert!(bytes < SLACK + LARGEST_RATIO * bomb.len() as u64, "{bytes}");
    }
}

//! Text of a plain or compressed (gzip, zstd, bzip2) file, decoded to UTF-8.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use fs_err::File;

use crate::{
    DataError,
    ingest::records::encoding::{Charset, TextDecoder, TextEncoding, examine},
};

/// Limits against decompression bombs: data may expand to [`SLACK`] bytes plus this many times the
/// file's length. Text typically compresses two- to tenfold.
const LARGEST_RATIO: u64 = 200;
const SLACK: u64 = 64 << 20;

/// Text of a file. Its errors report how far the file could be read.
pub(crate) struct InputText {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    compression: Option<Compression>,
    /// Name of the encoding that the text was decoded from, as a remark; None for UTF-8.
    pub(crate) decoded_from: Option<&'static str>,
    /// Bytes of text read so far.
    bytes: u64,
    /// Whole records read so far, for error messages.
    pub(crate) records: usize,
}

/// Compression of a file, recognised by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
}

impl Compression {
    fn detect(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            // The digit is the block size; the rest begins a block.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// Returns its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// Binary format of tables, recognised by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryFormat {
    Parquet,
    /// Arrow IPC file, which Feather is too.
    ArrowFile,
    /// Arrow IPC stream.
    ArrowStream,
    /// First version of Feather, which is no Arrow file.
    FeatherV1,
}

/// Returns the binary format of a file; None for text.
pub(crate) fn binary_format(path: &Path) -> Result<Option<BinaryFormat>, DataError> {
    let mut magic = Vec::new();
    File::open(path)?.take(8).read_to_end(&mut magic)?;
    Ok(match magic.as_slice() {
        [b'P', b'A', b'R', b'1', ..] => Some(BinaryFormat::Parquet),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Some(BinaryFormat::ArrowFile),
        [0xff, 0xff, 0xff, 0xff, ..] => Some(BinaryFormat::ArrowStream),
        [b'F', b'E', b'A', b'1', ..] => Some(BinaryFormat::FeatherV1),
        _ => None,
    })
}

impl InputText {
    /// Opens a file. Compression is detected from its first bytes, not from its name. The encoding
    /// is `encoding`, or else detected; of a table, by reading it to its end.
    pub(crate) fn open(path: &Path, encoding: Option<TextEncoding>, table: bool) -> Result<Self, DataError> {
        let (mut reader, compression) = open(path)?;
        let fail = |source| explain(path, compression, 0, 0, source);
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
        Ok(Self { path: path.to_owned(), reader, compression, decoded_from, bytes: 0, records: 0 })
    }

    /// Returns the buffered bytes that come next; none at the end.
    pub(crate) fn peek(&mut self) -> Result<&[u8], DataError> {
        match self.reader.fill_buf() {
            Ok(bytes) => Ok(bytes),
            Err(source) => Err(explain(&self.path, self.compression, self.records, self.bytes, source)),
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
            .map_err(|source| explain(&self.path, self.compression, self.records, self.bytes, source))?;
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

/// Opens a file for reading what it holds, decompressed. Returns its compression.
fn open(path: &Path) -> Result<(Box<dyn BufRead>, Option<Compression>), DataError> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let compression = Compression::detect(file.fill_buf()?);
    let inner: Box<dyn Read> = match compression {
        None => return Ok((Box::new(file), None)),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(file)),
        Some(Compression::Zstd) => Box::new(zstd::Decoder::with_buffer(file)?),
        Some(Compression::Bzip2) => Box::new(MultiBzDecoder::new(file)),
    };
    let left = SLACK + LARGEST_RATIO.saturating_mul(length);
    let text = LimitedReader { inner, left };
    Ok((Box::new(BufReader::with_capacity(1 << 16, text)), compression))
}

fn explain(
    path: &Path,
    compression: Option<Compression>,
    records: usize,
    bytes: u64,
    source: io::Error,
) -> DataError {
    let file = path.to_owned();
    let Some(compression) = compression else { return DataError::Io(source) };
    if matches!(source.get_ref(), Some(error) if error.is::<TooLarge>()) {
        DataError::ExpandsTooMuch { file, bytes }
    } else {
        DataError::Compressed { file, compression: compression.name(), records, bytes, source }
    }
}

/// Reader that fails beyond a byte limit.
struct LimitedReader<R> {
    inner: R,
    left: u64,
}

/// Error of compressed data that expands far more than text does.
#[derive(Debug)]
struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too much data")
    }
}

impl std::error::Error for TooLarge {}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(TooLarge))?;
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
        let DataError::Compressed { records: lines, bytes, .. } = error else { panic!("{error}") };
        assert!(lines > 100 && bytes > 1000, "{lines} {bytes}");
        let mut is_flipped = whole.clone();
        let last = is_flipped.len() - 6;
        is_flipped[last] ^= 1;
        assert!(matches!(
            records("a", &is_flipped).unwrap_err(),
            DataError::Compressed { records: 4000, .. }
        ));
        assert!(matches!(
            records("a", b"\x1f\x8bnot gzip").unwrap_err(),
            DataError::Compressed { records: 0, .. }
        ));
    }

    #[test]
    fn zstd_and_bzip2_are_told_by_content() {
        let text = b"{\"a\": 1}\n{\"a\": 2}\n";
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        bzip2.write_all(text).unwrap();
        for (content, name) in
            [(zstd::encode_all(&text[..], 3).unwrap(), "zstd"), (bzip2.finish().unwrap(), "bzip2")]
        {
            let (lines, _) = records("rows", &content).unwrap();
            assert_eq!(lines.len(), 2, "{name}");
            let error = records("rows", &content[..content.len() - 9]).unwrap_err();
            let DataError::Compressed { compression, .. } = error else { panic!("{error}") };
            assert_eq!(compression, name);
        }
        // A text that begins like bzip2 is a text.
        assert_eq!(records("rows", b"BZh9 is a magic number").unwrap().0.len(), 1);
    }

    #[test]
    fn a_gzip_bomb_is_refused_without_unpacking_it_whole() {
        let bomb = gzip(&vec![b'0'; 120 << 20]);
        let error = records("bomb.jsonl.gz", &bomb).unwrap_err();
        let DataError::ExpandsTooMuch { bytes, .. } = error else { panic!("{error}") };
        assert!(bytes < SLACK + LARGEST_RATIO * bomb.len() as u64, "{bytes}");
    }
}

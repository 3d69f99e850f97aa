//! Lines of a plain or gzip-compressed file, one at a time.

use std::{
    io::{BufRead, BufReader},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use fs_err::File;

use crate::DataError;

/// What reading a whole file tells beside its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FileNotes {
    /// Whether the file began with a byte order mark (skipped).
    pub(crate) byte_order_mark: bool,
    /// Lines that hold only white space (skipped).
    pub(crate) blank_lines: u64,
}

/// Calls `each` with the number (from 1) and the bytes of every line that is not blank. Whether a file is
/// compressed is told by its first bytes, not by its name.
pub(crate) fn for_each_line(
    path: &Path,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), DataError>,
) -> Result<FileNotes, DataError> {
    let mut file = BufReader::new(File::open(path)?);
    let compressed = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn BufRead> =
        if compressed { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
    let mut notes = FileNotes::default();
    let (mut number, mut bytes, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|source| {
            if compressed {
                DataError::Gzip { file: path.to_owned(), lines: number, bytes, source }
            } else {
                DataError::Io(source)
            }
        })?;
        if read == 0 {
            return Ok(notes);
        }
        number += 1;
        bytes += read as u64;
        let mut content = line.as_slice();
        if number == 1
            && let Some(rest) = content.strip_prefix(b"\xef\xbb\xbf")
        {
            notes.byte_order_mark = true;
            content = rest;
        }
        let content = content.trim_ascii();
        if content.is_empty() {
            notes.blank_lines += 1;
        } else {
            each(number, content)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Vec<(usize, String)>, FileNotes), DataError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), bytes).unwrap();
        let mut lines = Vec::new();
        let notes = for_each_line(file.path(), |number, line| {
            lines.push((number, String::from_utf8_lossy(line).into_owned()));
            Ok(())
        })?;
        Ok((lines, notes))
    }

    #[test]
    fn marks_blank_lines_and_carriage_returns_are_tolerated() {
        let text = b"\xef\xbb\xbfa\r\n\r\n  \nb";
        let expected = vec![(1, "a".to_owned()), (4, "b".to_owned())];
        let notes = FileNotes { byte_order_mark: true, blank_lines: 2 };
        assert_eq!(read(text).unwrap(), (expected.clone(), FileNotes { ..notes }));
        let mut members = gzip(&text[..4]);
        members.extend(gzip(&text[4..]));
        assert_eq!(read(&members).unwrap().0, expected);
        assert!(read(b"").unwrap().0.is_empty());
    }

    #[test]
    fn damaged_gzip_says_how_far_it_was_read() {
        let lines: Vec<String> = (0..4000u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        let text = lines.join("\n") + "\n";
        let whole = gzip(text.as_bytes());
        let error = read(&whole[..whole.len() / 2]).unwrap_err();
        let DataError::Gzip { lines, bytes, .. } = error else { panic!("{error}") };
        assert!(lines > 100 && bytes > 1000, "{lines} {bytes}");
        let mut flipped = whole.clone();
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        assert!(matches!(read(&flipped).unwrap_err(), DataError::Gzip { lines: 4000, .. }));
        assert!(matches!(read(b"\x1f\x8bnot gzip").unwrap_err(), DataError::Gzip { lines: 0, .. }));
    }
}

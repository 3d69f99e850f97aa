//! Types of the tensors of a GGUF file, read without the tensors: to name those that candle cannot
//! read.

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

/// Ids that candle reads: F32, F16, Q4_0 to Q8_K, and BF16.
const READABLE: [u32; 15] = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 30];

/// Names of the readable types.
pub(super) const READABLE_NAMES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K";

/// Names of the other types in ggml.
const OTHER: [(u32, &str); 23] = [
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
];

/// Returns the types of a file that cannot be read, with the number of tensors of each; none if the
/// header is damaged.
pub(super) fn unreadable(path: &Path) -> BTreeMap<String, usize> {
    let types = fs_err::File::open(path).and_then(|file| tensor_types(BufReader::new(file)));
    let mut unreadable = BTreeMap::new();
    for (id, count) in types.unwrap_or_default() {
        if !READABLE.contains(&id) {
            let known = OTHER.iter().find(|(other, _)| *other == id);
            let name = known.map_or_else(|| format!("type {id}"), |(_, name)| (*name).to_owned());
            *unreadable.entry(name).or_insert(0) += count;
        }
    }
    unreadable
}

/// Counts the tensors of each type.
fn tensor_types(reader: impl Read + Seek) -> io::Result<BTreeMap<u32, usize>> {
    let mut header = Header(reader);
    let (magic, version) = (header.u32()?, header.u32()?);
    if &magic.to_le_bytes() != b"GGUF" || !(2..=3).contains(&version) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (tensors, values) = (header.u64()?, header.u64()?);
    for _ in 0..values {
        header.skip_text()?;
        let kind = header.u32()?;
        header.skip_value(kind, 0)?;
    }
    let mut types = BTreeMap::new();
    for _ in 0..tensors {
        header.skip_text()?;
        let dimensions = header.u32()?;
        header.skip(8 * u64::from(dimensions))?;
        *types.entry(header.u32()?).or_insert(0) += 1;
        // Offset of the data.
        header.u64()?;
    }
    Ok(types)
}

struct Header<R>(R);

impl<R: Read + Seek> Header<R> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        // Beyond the end, the next read fails.
        let bytes = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        self.0.seek(SeekFrom::Current(bytes)).map(drop)
    }

    fn skip_text(&mut self) -> io::Result<()> {
        let length = self.u64()?;
        self.skip(length)
    }

    fn skip_value(&mut self, kind: u32, depth: usize) -> io::Result<()> {
        match kind {
            // u8, i8, bool · u16, i16 · u32, i32, f32 · u64, i64, f64
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.skip(4),
            10..=12 => self.skip(8),
            8 => self.skip_text(),
            9 if depth < 8 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                (0..count).try_for_each(|_| self.skip_value(kind, depth + 1))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

//! Bitmap glyphs of characters that the bundled font does not have.
//!
//! `assets/fallback-glyphs.z` holds GNU Unifont, 16 pixels high: the basic plane of Unicode, and
//! pictographs. `scripts/fallback-font.py` writes it and describes its format.

use std::{io::Read, sync::OnceLock};

use flate2::read::ZlibDecoder;

/// The compressed glyphs.
const BYTES: &[u8] = include_bytes!("../../assets/fallback-glyphs.z");

/// Rows of a glyph.
pub(super) const ROWS: usize = 16;
/// Rows above the baseline.
pub(super) const ASCENT: usize = 14;

/// Bits in the kind of a glyph.
const WIDE: u8 = 1;
const COMBINING: u8 = 2;

/// A bitmap, 16 rows high.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BitmapGlyph {
    /// Bytes of all rows, the most significant bit left.
    bits: &'static [u8],
    is_combining: bool,
}

impl BitmapGlyph {
    /// Columns, 8 or 16.
    pub(super) fn columns(self) -> usize {
        self.bits.len() / ROWS * 8
    }

    /// Columns from this glyph to the next one: none for marks, which are drawn over the character
    /// before.
    pub(super) fn advance(self) -> usize {
        if self.is_combining { 0 } else { self.columns() }
    }

    /// Returns true if the glyph is drawn over the character before.
    pub(super) fn is_combining(self) -> bool {
        self.is_combining
    }

    fn has_ink(self, row: usize, column: usize) -> bool {
        let stride = self.columns() / 8;
        self.bits[row * stride + column / 8] & (128 >> (column % 8)) != 0
    }

    /// Returns the horizontal bars of ink, as row, first column and end column.
    pub(super) fn bars(self) -> Vec<(usize, usize, usize)> {
        let mut bars = Vec::new();
        for row in 0..ROWS {
            let mut start = None;
            for column in 0..=self.columns() {
                let ink = column < self.columns() && self.has_ink(row, column);
                match (ink, start) {
                    (true, None) => start = Some(column),
                    (false, Some(first)) => {
                        bars.push((row, first, column));
                        start = None;
                    }
                    _ => {}
                }
            }
        }
        bars
    }
}

/// The decompressed glyphs.
struct Table {
    /// First character, number of characters, and index of the first glyph, ascending.
    ranges: Vec<(u32, u32, usize)>,
    kinds: &'static [u8],
    /// Position of each glyph in `bits`.
    starts: Vec<usize>,
    bits: &'static [u8],
}

impl Table {
    /// Reads the glyphs; `None` if the file is damaged.
    fn read() -> Option<Self> {
        let mut data = Vec::new();
        ZlibDecoder::new(BYTES).read_to_end(&mut data).ok()?;
        // Read once for the whole process.
        let data: &'static [u8] = data.leak();
        let (count, mut rest) = number(data)?;
        let mut ranges = Vec::with_capacity(count as usize);
        let mut glyphs = 0;
        for _ in 0..count {
            let (first, after) = number(rest)?;
            let (length, after) = number(after)?;
            ranges.push((first, length, glyphs));
            glyphs += length as usize;
            rest = after;
        }
        let (kinds, bits) = rest.split_at_checked(glyphs)?;
        let mut at = 0;
        let mut starts = Vec::with_capacity(glyphs);
        for kind in kinds {
            starts.push(at);
            at += size(*kind);
        }
        (at == bits.len()).then_some(Self { ranges, kinds, starts, bits })
    }

    fn glyph(&self, character: char) -> Option<BitmapGlyph> {
        let code = u32::from(character);
        let after = self.ranges.partition_point(|(first, ..)| *first <= code);
        let (first, length, start) = *self.ranges.get(after.checked_sub(1)?)?;
        let index = start + (code - first) as usize;
        let kind = *self.kinds.get(index).filter(|_| code - first < length)?;
        let start = self.starts[index];
        Some(BitmapGlyph { bits: &self.bits[start..start + size(kind)], is_combining: kind & COMBINING != 0 })
    }
}

/// Bytes of a glyph.
fn size(kind: u8) -> usize {
    if kind & WIDE == 0 { ROWS } else { 2 * ROWS }
}

fn number(bytes: &'static [u8]) -> Option<(u32, &'static [u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// Returns the glyph of a character; `None` if there is none.
pub(super) fn glyph(character: char) -> Option<BitmapGlyph> {
    static TABLE: OnceLock<Option<Table>> = OnceLock::new();
    TABLE.get_or_init(Table::read).as_ref()?.glyph(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws a glyph with letters.
    fn drawn(character: char) -> Vec<String> {
        let glyph = glyph(character).unwrap();
        let row =
            |row| (0..glyph.columns()).map(|at| if glyph.has_ink(row, at) { '#' } else { '.' }).collect();
        (0..ROWS).map(row).collect()
    }

    #[test]
    fn glyphs_are_those_of_the_font() {
        let one = drawn('一');
        assert_eq!(one[7], "###############.");
        assert!(one.iter().enumerate().all(|(row, line)| row == 7 || !line.contains('#')), "{one:?}");
        assert_eq!(glyph('一').unwrap().bars(), [(7, 0, 15)]);
    }

    #[test]
    fn scripts_and_pictographs_have_glyphs_and_marks_no_width() {
        for character in ['法', '律', 'م', 'ﻣ', 'א', 'ก', 'अ', '한', 'か', '🚲', '👍'] {
            let glyph = glyph(character).unwrap();
            assert!(!glyph.bars().is_empty() && glyph.advance() > 0, "{character}");
        }
        let mark = glyph('\u{064E}').unwrap();
        assert!(mark.is_combining() && mark.advance() == 0);
        for character in ['A', '\u{E000}', '\u{10FFFF}'] {
            assert_eq!(glyph(character), None, "{character:?}");
        }
    }
}

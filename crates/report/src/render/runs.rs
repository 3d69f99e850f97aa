//! Text as runs of characters of the bundled font and of bitmap glyphs.

use super::{
    arabic::visual_order,
    fallback::{self, BitmapGlyph},
    font,
};

/// Size of a bitmap's pixel in ems. Ideographs become a little larger than capitals.
pub(super) const BITMAP_PIXEL: f64 = 1.2 / fallback::ROWS as f64;

/// A part of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Run {
    /// Characters of the bundled font.
    Font(String),
    /// Characters that it does not have.
    Bitmaps(Vec<BitmapGlyph>),
}

impl Run {
    /// Returns the width for text of `size` pixels.
    pub(super) fn width(&self, size: f64) -> f64 {
        match self {
            Self::Font(text) => font::bundled_width(text, size),
            Self::Bitmaps(glyphs) => {
                let columns: usize = glyphs.iter().map(|glyph| glyph.advance()).sum();
                columns as f64 * BITMAP_PIXEL * size
            }
        }
    }
}

/// Returns true if the bundled font has all characters of a text, or no glyph is known for those
/// that it does not have.
pub(super) fn is_plain(text: &str) -> bool {
    text.chars().all(|character| !is_invisible(character) && bitmap(character).is_none())
}

/// Splits a text into runs, in the order in which they are drawn from left to right.
pub(super) fn runs(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    for character in visual_order(text).chars().filter(|character| !is_invisible(*character)) {
        match (bitmap(character), runs.last_mut()) {
            (Some(glyph), Some(Run::Bitmaps(glyphs))) => glyphs.push(glyph),
            (Some(glyph), _) => runs.push(Run::Bitmaps(vec![glyph])),
            (None, Some(Run::Font(text))) => text.push(character),
            (None, _) => runs.push(Run::Font(character.to_string())),
        }
    }
    runs
}

fn bitmap(character: char) -> Option<BitmapGlyph> {
    // Most text is ASCII.
    if character.is_ascii() { None } else { fallback::glyph(character) }
}

/// Returns true for characters that only change others: joiners, directions and variants.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_by_the_font_that_has_it() {
        assert!(is_plain("KTO − β ≥ é") && !is_plain("偏好 DPO"));
        assert_eq!(runs("kto"), [Run::Font("kto".to_owned())]);
        let of = |text: &str| Run::Bitmaps(text.chars().filter_map(fallback::glyph).collect());
        assert_eq!(runs("偏好 DPO"), [of("偏好"), Run::Font(" DPO".to_owned())]);
        assert_eq!(runs("👍\u{FE0F}"), [of("👍")]);
        // Reversed, in joined shapes.
        assert_eq!(runs("مطبخ"), [of("\u{FEA6}\u{FE92}\u{FEC4}\u{FEE3}")]);
    }

    #[test]
    fn widths_add_up() {
        let wide = Run::Bitmaps(fallback::glyph('法').into_iter().collect()).width(10.0);
        assert!((wide - 12.0).abs() < 1e-9, "{wide}");
        assert_eq!(Run::Bitmaps(fallback::glyph('\u{064E}').into_iter().collect()).width(10.0), 0.0);
    }
}

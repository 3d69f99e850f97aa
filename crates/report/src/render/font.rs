//! The bundled font: registration and text measurement.

use std::sync::Once;

use plotters::{
    prelude::{FontFamily, FontStyle, IntoFont},
    style::register_font,
};

use super::runs::{is_plain, runs};

/// Name of the bundled font: the generic name, so that an SVG uses the reader's sans-serif font.
pub(super) const FAMILY: FontFamily = FontFamily::SansSerif;

/// The bundled font.
pub(super) const BYTES: &[u8] = include_bytes!("../../assets/Roboto-Regular.ttf");

/// Line height in ems: plotters sizes fonts by line height.
pub(super) const LINE_HEIGHT: f64 = 1.24;

/// Factor on text widths, because a reader's sans-serif font may be wider than the bundled one.
const WIDTH_MARGIN: f64 = 1.17;

/// Registers the bundled font with plotters, once.
pub(super) fn register_bundled_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // If this fails, drawing the first text returns the error.
        let _ = register_font(FAMILY.as_str(), FontStyle::Normal, BYTES);
    });
}

/// Returns the width of a text of `size` pixels, with a margin for other fonts.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let width = if is_plain(text) {
        bundled_width(text, size)
    } else {
        runs(text).iter().map(|run| run.width(size)).sum()
    };
    WIDTH_MARGIN * width
}

/// Returns the width of a text of `size` pixels in the bundled font.
pub(super) fn bundled_width(text: &str, size: f64) -> f64 {
    register_bundled_font();
    // Measured at 16 times the size, because plotters returns whole pixels.
    let font = (FAMILY, 16.0 * LINE_HEIGHT * size).into_font();
    font.box_size(text).map_or(0.0, |(width, _)| f64::from(width) / 16.0)
}

/// Truncates `text` with an ellipsis if it is wider than `width`.
pub(super) fn fit(text: &str, size: f64, width: f64) -> String {
    let mut fitted = text.to_owned();
    while !fitted.is_empty() && text_width(&fitted, size) > width {
        fitted.truncate(fitted.trim_end_matches('…').trim_end().len());
        fitted.pop();
        fitted.push('…');
        if fitted == "…" {
            break;
        }
    }
    fitted
}

/// Breaks `text` between words into at most `lines` lines, and truncates each that is wider than
/// `width`.
pub(super) fn wrap(text: &str, size: f64, width: f64, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_last = wrapped.len() == lines;
        match wrapped.last_mut() {
            Some(line) if is_last || text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => wrapped.push(word.to_owned()),
        }
    }
    wrapped.iter().map(|line| fit(line, size, width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_titles_are_wrapped() {
        assert_eq!(wrap("short title", 12.0, 500.0, 2), ["short title"]);
        let two = wrap("a very long title indeed", 12.0, 80.0, 2);
        assert_eq!(two.join(" "), "a very long title indeed");
        assert_eq!(two.len(), 2);
        let cut = wrap("a very long title indeed that goes on and on", 12.0, 80.0, 2);
        assert!(cut.len() == 2 && cut[1].ends_with('…'), "{cut:?}");
        assert!(wrap("", 12.0, 80.0, 2).is_empty());
    }

    #[test]
    fn long_text_is_truncated_to_fit() {
        assert_eq!(fit("short", 12.0, 500.0), "short");
        let cut = fit("a very long label indeed", 12.0, 60.0);
        assert!(cut.ends_with('…') && text_width(&cut, 12.0) <= 60.0);
        assert_eq!(fit("x", 12.0, 0.0), "…");
    }
}

//! Drawing in CSS pixels on any backend of plotters.
//!
//! Backends accept whole pixels only, so a canvas multiplies all lengths by a scale: SVG gets
//! quarter pixels, and PNG is drawn larger and downsampled.

use plotters::{
    coord::Shift,
    prelude::{
        Circle, Color, DrawingArea, DrawingAreaErrorKind, DrawingBackend, FontDesc, FontTransform, IntoFont,
        PathElement, Polygon, RGBColor, Rectangle, ShapeStyle, Text,
    },
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    fallback::{ASCENT, BitmapGlyph},
    font::{FAMILY, LINE_HEIGHT},
    runs::{BITMAP_PIXEL, Run, is_plain, runs},
    style::{INK, MarkerShape, SeriesStyle},
};

/// Result of drawing on the backend `B`.
pub(crate) type DrawResult<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// A position (x, y) in CSS pixels, from the top left.
pub(crate) type Position = (f64, f64);

/// Width and height in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// Drawer of characters that the bundled font does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingGlyphs {
    /// The reader's program, with its fonts.
    Reader,
    /// This canvas, with bitmap glyphs.
    Canvas,
}

/// A drawing area in CSS pixels.
pub(crate) struct Canvas<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    scale: f64,
    baseline: f64,
    missing: MissingGlyphs,
}

impl<'a, B: DrawingBackend> Canvas<'a, B> {
    /// Creates a canvas over `area` with `scale` backend pixels per CSS pixel.
    ///
    /// `baseline` is the distance from the top of a text to its baseline, in ems, which differs
    /// between backends.
    pub(crate) fn new(
        area: &'a DrawingArea<B, Shift>,
        scale: f64,
        baseline: f64,
        missing: MissingGlyphs,
    ) -> Self {
        Self { area, scale, baseline, missing }
    }

    fn pixel(&self, (x, y): Position) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn length(&self, length: f64) -> u32 {
        (length * self.scale).round().max(1.0) as u32
    }

    fn stroke(&self, colour: RGBColor, opacity: f64, width: f64) -> ShapeStyle {
        colour.mix(opacity).stroke_width(self.length(width))
    }

    /// Draws a solid line through `points`.
    pub(crate) fn line(
        &self,
        points: &[Position],
        colour: RGBColor,
        opacity: f64,
        width: f64,
    ) -> DrawResult<B> {
        let pixels: Vec<_> = points.iter().map(|point| self.pixel(*point)).collect();
        self.area.draw(&PathElement::new(pixels, self.stroke(colour, opacity, width)))
    }

    /// Draws a line through `points` with the pattern `dash`; an empty pattern is solid.
    pub(crate) fn dashed(
        &self,
        points: &[Position],
        dash: &[f64],
        colour: RGBColor,
        opacity: f64,
        width: f64,
    ) -> DrawResult<B> {
        if dash.is_empty() {
            return self.line(points, colour, opacity, width);
        }
        for stroke in strokes(points, dash) {
            self.line(&stroke, colour, opacity, width)?;
        }
        Ok(())
    }

    /// Draws a filled polygon.
    pub(crate) fn polygon(&self, corners: &[Position], colour: RGBColor, opacity: f64) -> DrawResult<B> {
        let pixels: Vec<_> = corners.iter().map(|corner| self.pixel(*corner)).collect();
        self.area.draw(&Polygon::new(pixels, colour.mix(opacity)))
    }

    /// Draws a filled circle.
    pub(crate) fn disc(
        &self,
        centre: Position,
        radius: f64,
        colour: RGBColor,
        opacity: f64,
    ) -> DrawResult<B> {
        self.area.draw(&Circle::new(self.pixel(centre), self.length(radius), colour.mix(opacity).filled()))
    }

    /// Draws the marker of a series.
    pub(crate) fn marker(&self, (x, y): Position, style: SeriesStyle) -> DrawResult<B> {
        let colour = style.colour();
        let corners = |offsets: &[(f64, f64)]| -> Vec<Position> {
            offsets.iter().map(|(right, down)| (x + right, y + down)).collect()
        };
        let shape = |offsets: &[(f64, f64)]| {
            let mut corners = corners(offsets);
            if style.is_hollow() {
                corners.extend(corners.first().copied());
                self.line(&corners, colour, 1.0, 1.5)
            } else {
                self.polygon(&corners, colour, 1.0)
            }
        };
        match style.marker() {
            MarkerShape::Circle if style.is_hollow() => {
                let ring = Circle::new(self.pixel((x, y)), self.length(4.0), self.stroke(colour, 1.0, 1.5));
                self.area.draw(&ring)
            }
            MarkerShape::Circle => self.disc((x, y), 4.0, colour, 1.0),
            MarkerShape::Square => shape(&[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)]),
            MarkerShape::Triangle => shape(&[(0.0, -4.8), (4.6, 3.4), (-4.6, 3.4)]),
            MarkerShape::Diamond => shape(&[(0.0, -5.2), (5.2, 0.0), (0.0, 5.2), (-5.2, 0.0)]),
            MarkerShape::Cross => {
                self.line(&corners(&[(-3.8, -3.8), (3.8, 3.8)]), colour, 1.0, 2.0)?;
                self.line(&corners(&[(-3.8, 3.8), (3.8, -3.8)]), colour, 1.0, 2.0)
            }
        }
    }

    /// Draws a line of text, anchored horizontally by `across` and vertically by `down`.
    pub(crate) fn text(
        &self,
        text: &str,
        (x, y): Position,
        across: HPos,
        down: VerticalAnchor,
        size: f64,
        opacity: f64,
    ) -> DrawResult<B> {
        let baseline = y + down.baseline_offset() * size;
        if self.missing == MissingGlyphs::Reader || is_plain(text) {
            return self.run_of_font(text, (x, baseline), across, TextDirection::Right, size, opacity);
        }
        let runs = runs(text);
        let width: f64 = runs.iter().map(|run| run.width(size)).sum();
        let start = match across {
            HPos::Left => 0.0,
            HPos::Center => -width / 2.0,
            HPos::Right => -width,
        };
        self.runs(&runs, (x + start, baseline), TextDirection::Right, size, opacity)
    }

    /// Draws a line of text upwards, vertically centred on its start.
    pub(crate) fn vertical_text(
        &self,
        text: &str,
        (x, y): Position,
        size: f64,
        opacity: f64,
    ) -> DrawResult<B> {
        let start = (x + VerticalAnchor::Middle.baseline_offset() * size, y);
        if self.missing == MissingGlyphs::Reader || is_plain(text) {
            return self.run_of_font(text, start, HPos::Left, TextDirection::Up, size, opacity);
        }
        self.runs(&runs(text), start, TextDirection::Up, size, opacity)
    }

    /// Draws runs one after the other from `start` on the baseline.
    fn runs(
        &self,
        runs: &[Run],
        start: Position,
        direction: TextDirection,
        size: f64,
        opacity: f64,
    ) -> DrawResult<B> {
        let mut along = 0.0;
        for run in runs {
            let at = direction.offset(start, along, 0.0);
            match run {
                Run::Font(text) => self.run_of_font(text, at, HPos::Left, direction, size, opacity)?,
                Run::Bitmaps(glyphs) => self.run_of_bitmaps(glyphs, at, direction, size, opacity)?,
            }
            along += run.width(size);
        }
        Ok(())
    }

    /// Draws text of the bundled font. `(x, y)` is on the baseline.
    fn run_of_font(
        &self,
        text: &str,
        position: Position,
        across: HPos,
        direction: TextDirection,
        size: f64,
        opacity: f64,
    ) -> DrawResult<B> {
        let font = match direction {
            TextDirection::Right => self.font(size),
            TextDirection::Up => self.font(size).transform(FontTransform::Rotate270),
        };
        let style = font.color(&INK.mix(opacity)).pos(Pos::new(across, VPos::Top));
        let top_left = direction.offset(position, 0.0, -self.baseline * size);
        self.area.draw(&Text::new(text, self.pixel(top_left), style))
    }

    /// Draws bitmap glyphs as bars of ink, from `start` on the baseline.
    fn run_of_bitmaps(
        &self,
        glyphs: &[BitmapGlyph],
        start: Position,
        direction: TextDirection,
        size: f64,
        opacity: f64,
    ) -> DrawResult<B> {
        let ink = INK.mix(opacity).filled();
        let pixel = BITMAP_PIXEL * size;
        let (mut column, mut previous) = (0, 0);
        for glyph in glyphs {
            // A mark is drawn over the character before, which ends where it would start.
            let left = if glyph.is_combining() { previous } else { column };
            for (row, first, end) in glyph.bars() {
                let corner = |column: usize, row: usize| {
                    let (along, down) = (column as f64 * pixel, (row as f64 - ASCENT as f64) * pixel);
                    self.pixel(direction.offset(start, along, down))
                };
                let bar = [corner(left + first, row), corner(left + end, row + 1)];
                self.area.draw(&Rectangle::new(bar, ink))?;
            }
            previous = left;
            column += glyph.advance();
        }
        Ok(())
    }

    fn font(&self, size: f64) -> FontDesc<'static> {
        (FAMILY, LINE_HEIGHT * size * self.scale).into_font()
    }
}

/// Direction in which a text runs.
#[derive(Clone, Copy)]
enum TextDirection {
    Right,
    Up,
}

impl TextDirection {
    /// Returns the position that is `along` the text from `start`, and `down` from its baseline.
    fn offset(self, (x, y): Position, along: f64, down: f64) -> Position {
        match self {
            Self::Right => (x + along, y + down),
            Self::Up => (x + down, y - along),
        }
    }
}

/// Vertical anchor of a text.
#[derive(Clone, Copy)]
pub(crate) enum VerticalAnchor {
    Top,
    Middle,
}

impl VerticalAnchor {
    /// Returns the distance from the anchor down to the baseline, in ems.
    fn baseline_offset(self) -> f64 {
        match self {
            Self::Top => 0.76,
            Self::Middle => 0.36,
        }
    }
}

/// Splits a polyline into strokes by the pattern `dash`.
fn strokes(points: &[Position], dash: &[f64]) -> Vec<Vec<Position>> {
    let mut strokes = Vec::new();
    let mut current: Vec<Position> = points.first().copied().into_iter().collect();
    let (mut part, mut left) = (0, dash[0]);
    for pair in points.windows(2) {
        let ((mut x, mut y), (end_x, end_y)) = (pair[0], pair[1]);
        loop {
            let distance = (end_x - x).hypot(end_y - y);
            let drawing = part % 2 == 0;
            if distance <= left {
                left -= distance;
                if drawing {
                    current.push((end_x, end_y));
                }
                break;
            }
            x += (end_x - x) * left / distance;
            y += (end_y - y) * left / distance;
            if drawing {
                current.push((x, y));
                strokes.push(std::mem::take(&mut current));
            } else {
                current = vec![(x, y)];
            }
            part = (part + 1) % dash.len();
            left = dash[part];
        }
    }
    if current.len() > 1 {
        strokes.push(current);
    }
    strokes
}

#[cfg(test)]
mod tests {
    use plotters::prelude::{BitMapBackend, IntoDrawingArea, WHITE};

    use super::*;
    use crate::render::font::register_bundled_font;

    /// Draws a text of 16 pixels, and returns the positions of its ink.
    fn ink(text: &str, upwards: bool) -> Vec<(usize, usize)> {
        register_bundled_font();
        let side = 100;
        let mut pixels = vec![0; side * side * 3];
        let area = BitMapBackend::with_buffer(&mut pixels, (side as u32, side as u32)).into_drawing_area();
        area.fill(&WHITE).unwrap();
        let canvas = Canvas::new(&area, 1.0, 0.62, MissingGlyphs::Canvas);
        if upwards {
            canvas.vertical_text(text, (50.0, 80.0), 16.0, 1.0).unwrap();
        } else {
            canvas.text(text, (50.0, 20.0), HPos::Center, VerticalAnchor::Top, 16.0, 1.0).unwrap();
        }
        drop(area);
        let dark = pixels.chunks(3).enumerate().filter(|(_, pixel)| pixel[0] < 128);
        dark.map(|(index, _)| (index % side, index / side)).collect()
    }

    /// Width and height of ink.
    fn extent(ink: &[(usize, usize)]) -> (usize, usize) {
        let span = |values: &mut dyn Iterator<Item = usize>| {
            let (low, high) = values.fold((usize::MAX, 0), |(low, high), at| (low.min(at), high.max(at)));
            high - low + 1
        };
        (span(&mut ink.iter().map(|at| at.0)), span(&mut ink.iter().map(|at| at.1)))
    }

    #[test]
    fn characters_that_the_font_lacks_are_drawn_and_can_be_told_apart() {
        // One stroke, 15 of 16 columns of 1.2 pixels, one row.
        let (width, height) = extent(&ink("一", false));
        assert!((17..=19).contains(&width) && height <= 2, "{width} × {height}");
        let (width, height) = extent(&ink("一", true));
        assert!((17..=19).contains(&height) && width <= 2, "{width} × {height}");
        let names = ["法律", "医疗", "مطبخ", "한국", "🚲", "👍", "हिन्दी"].map(|name| ink(name, false));
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() > 20, "{index} has {} dark pixels", name.len());
            assert!(names[..index].iter().all(|other| other != name), "{index} looks like another");
        }
    }

    #[test]
    fn a_text_of_several_fonts_is_centred() {
        let ink = ink("偏好 DPO", false);
        let (low, high) = ink.iter().fold((99, 0), |(low, high), at| (at.0.min(low), at.0.max(high)));
        assert!(low + high > 96 && low + high < 104, "{low} to {high}");
    }

    #[test]
    fn strokes_and_gaps_follow_the_line() {
        let line = [(0.0, 0.0), (4.0, 0.0), (10.0, 0.0)];
        let cut = strokes(&line, &[3.0, 2.0]);
        assert_eq!(cut, [vec![(0.0, 0.0), (3.0, 0.0)], vec![(5.0, 0.0), (8.0, 0.0)]]);
    }
}

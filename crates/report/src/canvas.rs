//! Drawing in CSS pixels on any backend of plotters.
//!
//! Backends take whole pixels, so a canvas multiplies everything by a scale: SVG gets quarter pixels, and PNG is
//! drawn large and averaged down.

use std::sync::Once;

use plotters::{
    coord::Shift,
    prelude::{
        Circle, Color, DrawingArea, DrawingAreaErrorKind, DrawingBackend, FontDesc, FontFamily, FontStyle,
        FontTransform, IntoFont, PathElement, Polygon, RGBColor, ShapeStyle, Text,
    },
    style::{
        register_font,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::look::{INK, Look, Marker};

/// What drawing on the backend `B` gives.
pub(crate) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// A point in CSS pixels.
pub(crate) type At = (f64, f64);

/// A place to draw on.
pub(crate) struct Canvas<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    scale: f64,
    baseline: f64,
}

impl<'a, B: DrawingBackend> Canvas<'a, B> {
    /// A canvas over `area` with `scale` pixels of the backend to a CSS pixel. `baseline` is how far below the top
    /// of a text the backend puts its baseline, in ems: backends differ.
    pub(crate) fn new(area: &'a DrawingArea<B, Shift>, scale: f64, baseline: f64) -> Self {
        Self { area, scale, baseline }
    }

    fn pixel(&self, (x, y): At) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn length(&self, length: f64) -> u32 {
        (length * self.scale).round().max(1.0) as u32
    }

    fn stroke(&self, colour: RGBColor, opacity: f64, width: f64) -> ShapeStyle {
        colour.mix(opacity).stroke_width(self.length(width))
    }

    /// A line through `points`.
    pub(crate) fn line(&self, points: &[At], colour: RGBColor, opacity: f64, width: f64) -> Drawn<B> {
        let pixels: Vec<_> = points.iter().map(|point| self.pixel(*point)).collect();
        self.area.draw(&PathElement::new(pixels, self.stroke(colour, opacity, width)))
    }

    /// A line through `points` in strokes and gaps of the lengths in `dash`; solid if there are none.
    pub(crate) fn dashed(
        &self,
        points: &[At],
        dash: &[f64],
        colour: RGBColor,
        opacity: f64,
        width: f64,
    ) -> Drawn<B> {
        if dash.is_empty() {
            return self.line(points, colour, opacity, width);
        }
        for stroke in strokes(points, dash) {
            self.line(&stroke, colour, opacity, width)?;
        }
        Ok(())
    }

    /// A filled polygon.
    pub(crate) fn polygon(&self, corners: &[At], colour: RGBColor, opacity: f64) -> Drawn<B> {
        let pixels: Vec<_> = corners.iter().map(|corner| self.pixel(*corner)).collect();
        self.area.draw(&Polygon::new(pixels, colour.mix(opacity)))
    }

    /// A filled circle.
    pub(crate) fn disc(&self, centre: At, radius: f64, colour: RGBColor, opacity: f64) -> Drawn<B> {
        self.area.draw(&Circle::new(self.pixel(centre), self.length(radius), colour.mix(opacity).filled()))
    }

    /// A series' marker.
    pub(crate) fn marker(&self, (x, y): At, look: Look) -> Drawn<B> {
        let colour = look.colour();
        let corners = |offsets: &[(f64, f64)]| -> Vec<At> {
            offsets.iter().map(|(right, down)| (x + right, y + down)).collect()
        };
        let shape = |offsets: &[(f64, f64)]| {
            let mut corners = corners(offsets);
            if look.hollow() {
                corners.extend(corners.first().copied());
                self.line(&corners, colour, 1.0, 1.5)
            } else {
                self.polygon(&corners, colour, 1.0)
            }
        };
        match look.marker() {
            Marker::Circle if look.hollow() => {
                let ring = Circle::new(self.pixel((x, y)), self.length(4.0), self.stroke(colour, 1.0, 1.5));
                self.area.draw(&ring)
            }
            Marker::Circle => self.disc((x, y), 4.0, colour, 1.0),
            Marker::Square => shape(&[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)]),
            Marker::Triangle => shape(&[(0.0, -4.8), (4.6, 3.4), (-4.6, 3.4)]),
            Marker::Diamond => shape(&[(0.0, -5.2), (5.2, 0.0), (0.0, 5.2), (-5.2, 0.0)]),
            Marker::Cross => {
                self.line(&corners(&[(-3.8, -3.8), (3.8, 3.8)]), colour, 1.0, 2.0)?;
                self.line(&corners(&[(-3.8, 3.8), (3.8, -3.8)]), colour, 1.0, 2.0)
            }
        }
    }

    /// A line of text that starts, ends or has its middle at `at`.
    pub(crate) fn text(
        &self,
        text: &str,
        (x, y): At,
        across: HPos,
        down: Down,
        size: f64,
        opacity: f64,
    ) -> Drawn<B> {
        let style = self.style(size).color(&INK.mix(opacity)).pos(Pos::new(across, VPos::Top));
        let top = y + (down.drop() - self.baseline) * size;
        self.area.draw(&Text::new(text, self.pixel((x, top)), style))
    }

    /// A line of text that begins at `at`, goes up and has it in the middle of its height.
    pub(crate) fn upright(&self, text: &str, (x, y): At, size: f64, opacity: f64) -> Drawn<B> {
        let font = self.style(size).transform(FontTransform::Rotate270);
        let style = font.color(&INK.mix(opacity)).pos(Pos::new(HPos::Left, VPos::Top));
        let left = x + (Down::Middle.drop() - self.baseline) * size;
        self.area.draw(&Text::new(text, self.pixel((left, y)), style))
    }

    fn style(&self, size: f64) -> FontDesc<'static> {
        (FAMILY, FONT_HEIGHT * size * self.scale).into_font()
    }
}

/// Which part of a text's height its anchor is.
#[derive(Clone, Copy)]
pub(crate) enum Down {
    Top,
    Middle,
}

impl Down {
    /// How far below the anchor the baseline is, in ems.
    fn drop(self) -> f64 {
        match self {
            Self::Top => 0.76,
            Self::Middle => 0.36,
        }
    }
}

/// The bundled font goes by the generic name, so that an SVG takes the reader's own sans-serif.
const FAMILY: FontFamily = FontFamily::SansSerif;

/// Plotters sizes a font by its line, not by its em.
const FONT_HEIGHT: f64 = 1.24;

const ROOM: f64 = 1.17;

/// Registers the bundled font, once.
pub(crate) fn prepare_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // A refusal shows as an error of the first text drawn.
        let _ =
            register_font(FAMILY.as_str(), FontStyle::Normal, include_bytes!("../assets/Roboto-Regular.ttf"));
    });
}

/// The room that a text of `size` pixels needs; a reader's own sans-serif may be wider than the bundled one.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    prepare_font();
    // Measured large, because the answer is in whole pixels.
    let font = (FAMILY, 16.0 * FONT_HEIGHT * size).into_font();
    font.box_size(text).map_or(0.0, |(width, _)| ROOM * f64::from(width) / 16.0)
}

/// `text`, cut short with an ellipsis where it is wider than `width`.
pub(crate) fn fit(text: &str, size: f64, width: f64) -> String {
    let mut kept = text.to_owned();
    while !kept.is_empty() && text_width(&kept, size) > width {
        kept.truncate(kept.trim_end_matches('…').trim_end().len());
        kept.pop();
        kept.push('…');
        if kept == "…" {
            break;
        }
    }
    kept
}

/// Cuts a polyline into strokes by the pattern `dash`.
fn strokes(points: &[At], dash: &[f64]) -> Vec<Vec<At>> {
    let mut strokes = Vec::new();
    let mut current: Vec<At> = points.first().copied().into_iter().collect();
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
    use super::*;

    #[test]
    fn strokes_and_gaps_follow_the_line() {
        let line = [(0.0, 0.0), (4.0, 0.0), (10.0, 0.0)];
        let cut = strokes(&line, &[3.0, 2.0]);
        assert_eq!(cut, [vec![(0.0, 0.0), (3.0, 0.0)], vec![(5.0, 0.0), (8.0, 0.0)]]);
    }

    #[test]
    fn long_text_is_cut_to_fit() {
        assert_eq!(fit("short", 12.0, 500.0), "short");
        let cut = fit("a very long label indeed", 12.0, 60.0);
        assert!(cut.ends_with('…') && text_width(&cut, 12.0) <= 60.0);
        assert_eq!(fit("x", 12.0, 0.0), "…");
    }
}

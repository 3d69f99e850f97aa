//! Styles of series: colour, marker shape and dash pattern together, never colour alone.

use plotters::style::RGBColor;

/// Colour of text, axes and rules. `style.css` replaces it in dark mode.
pub(crate) const INK: RGBColor = RGBColor(0x1B, 0x1F, 0x24);

/// The colour-blind-safe palette of Okabe and Ito, without its yellow, which is too faint on white.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

/// Marker shape of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkerShape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

const MARKERS: [MarkerShape; 5] = [
    MarkerShape::Circle,
    MarkerShape::Square,
    MarkerShape::Triangle,
    MarkerShape::Diamond,
    MarkerShape::Cross,
];

/// Dash patterns: alternating lengths of strokes and gaps; an empty pattern is a solid line.
const DASHES: [&[f64]; 4] = [&[], &[7.0, 4.0], &[2.0, 3.0], &[9.0, 3.0, 2.0, 3.0]];

/// Colours of chosen and rejected completions: green and wine of Tol's colour-blind-safe palette.
const CLASS_COLOURS: [RGBColor; 2] = [RGBColor(0x11, 0x77, 0x33), RGBColor(0x88, 0x22, 0x55)];

/// Style of a legend entry and its marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeriesStyle {
    /// A series, by its index.
    Series(usize),
    /// Values of the series with this index that the sweep did not measure, published or predicted:
    /// dashed, with hollow markers.
    NotMeasured(usize),
    /// Chosen completions.
    Chosen,
    /// Rejected completions.
    Rejected,
}

impl SeriesStyle {
    /// Returns the colour of lines, markers and bands.
    pub(crate) fn colour(self) -> RGBColor {
        match self {
            Self::Series(index) | Self::NotMeasured(index) => COLOURS[index % COLOURS.len()],
            Self::Chosen => CLASS_COLOURS[0],
            Self::Rejected => CLASS_COLOURS[1],
        }
    }

    /// Returns the marker shape.
    pub(crate) fn marker(self) -> MarkerShape {
        match self {
            Self::Series(index) | Self::NotMeasured(index) => MARKERS[index % MARKERS.len()],
            Self::Chosen | Self::Rejected => MarkerShape::Circle,
        }
    }

    /// Returns true if markers are outlines.
    pub(crate) fn is_hollow(self) -> bool {
        matches!(self, Self::NotMeasured(_))
    }

    /// Returns the dash pattern of lines.
    pub(crate) fn dash(self) -> &'static [f64] {
        match self {
            Self::Series(index) => DASHES[index % DASHES.len()],
            Self::NotMeasured(_) => &[4.0, 3.0],
            Self::Chosen => DASHES[0],
            Self::Rejected => DASHES[1],
        }
    }
}

/// Returns the colour of heat map cells above or below the midpoint of the scale.
pub(crate) fn diverging_colour(above: bool) -> RGBColor {
    if above { COLOURS[0] } else { COLOURS[1] }
}

//! How the series of a report are told apart: colour, marker and dash together, never colour alone.

use plotters::style::RGBColor;

/// Text, axes and rules. The page's style sheet names this colour to turn it over in the dark.
pub(crate) const INK: RGBColor = RGBColor(0x1B, 0x1F, 0x24);

/// Okabe and Ito's colours for every kind of colour vision, without the yellow that white swallows.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

/// The shape of a series' markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
}

const MARKERS: [Marker; 5] =
    [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Cross];

/// Lengths of strokes and gaps in turn; an empty pattern is a solid line.
const DASHES: [&[f64]; 4] = [&[], &[7.0, 4.0], &[2.0, 3.0], &[9.0, 3.0, 2.0, 3.0]];

/// Two more of Okabe and Ito's kind, for what is no series: Tol's green and wine.
const OF_CLASSES: [RGBColor; 2] = [RGBColor(0x11, 0x77, 0x33), RGBColor(0x88, 0x22, 0x55)];

/// How something that has a legend looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A series, by its place.
    Series(usize),
    /// Published numbers of the series at a place: dashed, and markers are hollow.
    Reference(usize),
    /// Chosen completions.
    Chosen,
    /// Rejected completions.
    Rejected,
}

impl Look {
    pub(crate) fn colour(self) -> RGBColor {
        match self {
            Self::Series(place) | Self::Reference(place) => COLOURS[place % COLOURS.len()],
            Self::Chosen => OF_CLASSES[0],
            Self::Rejected => OF_CLASSES[1],
        }
    }

    pub(crate) fn marker(self) -> Marker {
        match self {
            Self::Series(place) | Self::Reference(place) => MARKERS[place % MARKERS.len()],
            Self::Chosen | Self::Rejected => Marker::Circle,
        }
    }

    pub(crate) fn hollow(self) -> bool {
        matches!(self, Self::Reference(_))
    }

    pub(crate) fn dash(self) -> &'static [f64] {
        match self {
            Self::Series(place) => DASHES[place % DASHES.len()],
            Self::Reference(_) => &[4.0, 3.0],
            Self::Chosen => DASHES[0],
            Self::Rejected => DASHES[1],
        }
    }
}

/// The colour of a matrix' cell: above its middle or below it, told apart by every kind of colour vision.
pub(crate) fn side(above: bool) -> RGBColor {
    if above { COLOURS[0] } else { COLOURS[1] }
}

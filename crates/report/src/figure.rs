//! A figure as plain data: panels with scales and marks. Building a figure and drawing it know only these types.

use crate::look::Look;

/// A figure: one panel, or small multiples that share their scales' meaning.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// File name without ending; also the figure's anchor in the page.
    pub(crate) name: String,
    /// What it shows, in a few words.
    pub(crate) title: String,
    /// How to read it, in a sentence or two.
    pub(crate) caption: String,
    /// What each look stands for.
    pub(crate) legend: Vec<(Look, String)>,
    /// The panels, in reading order.
    pub(crate) panels: Vec<Panel>,
}

/// One part of a figure.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    /// Which part of the figure it is; empty where the figure has one panel.
    pub(crate) title: String,
    /// What a reader who cannot see it should know.
    pub(crate) description: String,
    /// What it shows.
    pub(crate) content: Content,
}

/// What a panel shows.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Marks between a horizontal and a vertical scale, from back to front.
    Plot { x: Scale, y: Scale, marks: Vec<Mark> },
    /// Values in rows and columns, as shades.
    Matrix(Matrix),
}

/// A heat map with its values in it.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    /// What rows and columns are.
    pub(crate) label: String,
    /// Names of the columns.
    pub(crate) columns: Vec<String>,
    /// Names of the rows, from the top, each with its cells.
    pub(crate) rows: Vec<(String, Vec<Shaded>)>,
}

/// A cell of a matrix.
#[derive(Debug, Clone)]
pub(crate) struct Shaded {
    /// The value.
    pub(crate) text: String,
    /// From −1, far below the middle of the scale, to 1, far above it.
    pub(crate) shade: f64,
    /// Whether it has a frame.
    pub(crate) framed: bool,
}

/// Something drawn at positions of a panel's scales.
#[derive(Debug, Clone)]
pub(crate) enum Mark {
    /// A dashed horizontal line with a word on it.
    Rule { y: f64, text: String },
    /// A dashed line to see others against.
    Guide { points: Vec<(f64, f64)> },
    /// The range between two curves: (x, low, high).
    Band { look: Look, points: Vec<(f64, f64, f64)> },
    /// A faint dot: one seed.
    Dot { look: Look, x: f64, y: f64 },
    /// A curve.
    Line { look: Look, points: Vec<(f64, f64)> },
    /// A vertical interval.
    Interval { look: Look, x: f64, low: f64, high: f64 },
    /// A point in the series' own shape.
    Marker { look: Look, x: f64, y: f64 },
}

/// A linear scale with its ticks.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// The quantity and its unit.
    pub(crate) label: String,
    /// The position at the start of the axis.
    pub(crate) low: f64,
    /// The position at the end of the axis.
    pub(crate) high: f64,
    /// Positions with a label.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A scale whose round ticks hold all of `values`; `format` gets a tick and the decimals that tell it from its
    /// neighbours.
    pub(crate) fn round(
        label: &str,
        values: impl IntoIterator<Item = f64>,
        format: impl Fn(f64, usize) -> String,
    ) -> Self {
        let (mut low, mut high) = values
            .into_iter()
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        // What is zero throughout may be a share, which is never below.
        if low > high || (low, high) == (0.0, 0.0) {
            (low, high) = (0.0, 1.0);
        } else if high - low <= 1e-9 * high.abs().max(low.abs()) {
            let margin = 0.1 * high.abs();
            (low, high) = (low - margin, high + margin);
        }
        let step = round_step((high - low) / 5.0);
        let (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
        let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
        let ticks = (0..=(last - first) as u32)
            .map(|index| (first + f64::from(index)) * step)
            .map(|tick| (tick, format(tick, decimals)))
            .collect();
        Self { label: label.to_owned(), low: first * step, high: last * step, ticks }
    }

    /// Where `value` lies between the ends of the axis, 0 to 1.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        if span > 0.0 { (value - self.low) / span } else { 0.5 }
    }
}

/// The smallest of 1, 2, 5, 10, … (or a tenth, a hundredth, …) that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|round| *round >= step).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_scales_hold_their_values() {
        let labels = |values: &[f64]| {
            let scale =
                Scale::round("", values.iter().copied(), |tick, decimals| format!("{tick:.decimals$}"));
            scale.ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(labels(&[0.48, 0.71]), ["0.45", "0.50", "0.55", "0.60", "0.65", "0.70", "0.75"]);
        assert_eq!(labels(&[0.0, 10.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(&[f64::NAN]), labels(&[]));
        assert_eq!(labels(&[3.0, 3.0]), ["2.6", "2.8", "3.0", "3.2", "3.4"]);
    }
}

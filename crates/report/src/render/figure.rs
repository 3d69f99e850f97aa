//! Figures as plain data: panels with scales and marks. Sections create them, `draw` draws them.

use super::style::SeriesStyle;

/// A figure: one panel, or several small multiples.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// File name without extension, and anchor in the page.
    pub(crate) name: String,
    pub(crate) title: String,
    /// Explanation in one or two sentences.
    pub(crate) caption: String,
    pub(crate) legend: Vec<LegendEntry>,
    /// Panels in reading order.
    pub(crate) panels: Vec<Panel>,
}

/// A style and its meaning.
#[derive(Debug, Clone)]
pub(crate) struct LegendEntry {
    pub(crate) style: SeriesStyle,
    pub(crate) label: String,
}

/// A panel of a figure.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    /// Title that tells panels apart; empty in a figure of one panel.
    pub(crate) title: String,
    /// Text alternative for screen readers.
    pub(crate) description: String,
    pub(crate) content: Content,
}

/// Content of a panel.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Marks on a horizontal and a vertical scale, drawn in order.
    Plot { x: Scale, y: Scale, marks: Vec<PlotMark> },
    /// A heat map.
    Heatmap(Heatmap),
    /// A forest plot.
    Forest(Forest),
}

/// A forest plot: differences with their intervals, one row each, around a line of no difference.
#[derive(Debug, Clone)]
pub(crate) struct Forest {
    /// Horizontal scale, with quantity and unit.
    pub(crate) scale: Scale,
    /// Meaning of the left and of the right half.
    pub(crate) sides: [String; 2],
    /// Rows from top to bottom, in groups.
    pub(crate) groups: Vec<ForestGroup>,
}

/// Rows under a common heading.
#[derive(Debug, Clone)]
pub(crate) struct ForestGroup {
    /// Heading; empty if there is only one group.
    pub(crate) title: String,
    pub(crate) rows: Vec<ForestRow>,
}

/// A difference with its intervals.
#[derive(Debug, Clone)]
pub(crate) struct ForestRow {
    pub(crate) label: String,
    pub(crate) style: SeriesStyle,
    pub(crate) value: f64,
    /// Ends of the 95 % interval, drawn thick.
    pub(crate) interval: [f64; 2],
    /// Ends of the interval at the level of the verdict, drawn thin with caps.
    pub(crate) adjusted: Option<[f64; 2]>,
    /// Smallest difference that the comparison could detect, drawn as a band on both sides of 0.
    pub(crate) detectable: Option<f64>,
    /// Difference as text.
    pub(crate) text: String,
    /// Conclusion in a few words.
    pub(crate) conclusion: String,
    /// Emphasises a significant difference.
    pub(crate) significant: bool,
}

/// A heat map with its values as text.
#[derive(Debug, Clone)]
pub(crate) struct Heatmap {
    /// Meaning of rows and columns.
    pub(crate) label: String,
    /// Column names.
    pub(crate) columns: Vec<String>,
    /// Rows from top to bottom.
    pub(crate) rows: Vec<HeatmapRow>,
}

/// A row of a heat map.
#[derive(Debug, Clone)]
pub(crate) struct HeatmapRow {
    pub(crate) name: String,
    pub(crate) cells: Vec<HeatmapCell>,
}

/// A cell of a heat map.
#[derive(Debug, Clone)]
pub(crate) struct HeatmapCell {
    /// Value as text.
    pub(crate) text: String,
    /// Colour from −1 (below the midpoint of the scale) to 1 (above it).
    pub(crate) shade: f64,
    /// Draws a frame around the cell.
    pub(crate) framed: bool,
}

/// A graphical element at positions of a panel's scales.
#[derive(Debug, Clone)]
pub(crate) enum PlotMark {
    /// A dashed horizontal line with a label (may be empty).
    Rule { y: f64, text: String },
    /// A dashed reference line.
    Guide { points: Vec<(f64, f64)> },
    /// The area between two curves.
    Band { style: SeriesStyle, points: Vec<BandPoint> },
    /// A faint dot for a single seed.
    Dot { style: SeriesStyle, x: f64, y: f64 },
    /// A curve.
    Line { style: SeriesStyle, points: Vec<(f64, f64)> },
    /// A vertical interval with caps.
    Interval { style: SeriesStyle, x: f64, low: f64, high: f64 },
    /// A horizontal interval with caps.
    Span { style: SeriesStyle, y: f64, low: f64, high: f64 },
    /// A short text next to a marker, above and to the right.
    Label { x: f64, y: f64, text: String },
    /// A marker in the shape of the series.
    Marker { style: SeriesStyle, x: f64, y: f64 },
    /// A text above a position.
    Text { x: f64, y: f64, text: String },
}

/// Vertical range of a band at one x.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BandPoint {
    pub(crate) x: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A linear scale with its ticks.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// Quantity and unit.
    pub(crate) label: String,
    /// Start of the axis.
    pub(crate) low: f64,
    /// End of the axis.
    pub(crate) high: f64,
    pub(crate) ticks: Vec<Tick>,
}

/// A tick of an axis.
#[derive(Debug, Clone)]
pub(crate) struct Tick {
    pub(crate) position: f64,
    pub(crate) label: String,
}

impl Scale {
    /// Creates a scale with round ticks that covers `values`.
    ///
    /// `format` receives a tick and the number of decimals that distinguish it from its neighbours.
    pub(crate) fn covering(
        label: &str,
        values: impl IntoIterator<Item = f64>,
        format: impl Fn(f64, usize) -> String,
    ) -> Self {
        let (mut low, mut high) = values
            .into_iter()
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        // Values that are all zero may be shares, which are never negative.
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
            .map(|position| Tick { position, label: format(position, decimals) })
            .collect();
        Self { label: label.to_owned(), low: first * step, high: last * step, ticks }
    }

    /// Ends the axis at `high` and removes ticks beyond it.
    pub(crate) fn end_at(&mut self, high: f64) {
        self.high = high;
        self.ticks.retain(|tick| tick.position <= high);
    }

    /// Returns the relative position of `value` on the axis, from 0 to 1.
    pub(crate) fn fraction(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        if span > 0.0 { (value - self.low) / span } else { 0.5 }
    }
}

/// Returns the smallest of …, 0.1, 0.2, 0.5, 1, 2, 5, 10, … that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|round| *round >= step).unwrap_or(step)
}

/// Returns the outline of adjacent bins of equal width that start at `low`.
pub(crate) fn bin_outline(heights: &[f64], low: f64, width: f64) -> impl Iterator<Item = (f64, f64)> {
    let bin = move |(index, height): (usize, &f64)| {
        let left = low + index as f64 * width;
        [(left, *height), (left + width, *height)]
    };
    heights.iter().enumerate().flat_map(bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_scales_cover_their_values() {
        let labels = |values: &[f64]| {
            let scale =
                Scale::covering("", values.iter().copied(), |tick, decimals| format!("{tick:.decimals$}"));
            scale.ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&[0.48, 0.71]), ["0.45", "0.50", "0.55", "0.60", "0.65", "0.70", "0.75"]);
        assert_eq!(labels(&[0.0, 10.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(&[f64::NAN]), labels(&[]));
        assert_eq!(labels(&[3.0, 3.0]), ["2.6", "2.8", "3.0", "3.2", "3.4"]);
    }
}

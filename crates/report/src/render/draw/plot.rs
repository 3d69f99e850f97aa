//! Plots: marks on a horizontal and a vertical scale, with axes.

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use super::{MUTED, SMALL};
use crate::render::{
    canvas::{Canvas, DrawResult, Position, Size, VerticalAnchor},
    figure::{PlotMark, Scale},
    font::{fit, text_width},
    style::INK,
};

/// The rectangle inside the axes of a panel.
struct PlotArea<'a> {
    x_scale: &'a Scale,
    y_scale: &'a Scale,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl PlotArea<'_> {
    fn x(&self, position: f64) -> f64 {
        self.left + self.x_scale.fraction(position) * (self.right - self.left)
    }

    /// Returns a vertical position; values beyond the scale are at its edge.
    fn y(&self, position: f64) -> f64 {
        self.bottom - self.y_scale.fraction(position).clamp(0.0, 1.0) * (self.bottom - self.top)
    }
}

/// Draws axes and marks.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    [x_scale, y_scale]: [&Scale; 2],
    marks: &[PlotMark],
    (x, y): Position,
    Size { width, height }: Size,
) -> DrawResult<B> {
    let widest =
        |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text_width(text, SMALL)).fold(0.0, f64::max);
    let y_labels = widest(&mut y_scale.ticks.iter().map(|tick| tick.label.as_str())).min(width / 4.0);
    let rule_labels = widest(&mut labelled_rules(marks).map(|(_, text)| text)).min(width / 4.0);
    let mut area = PlotArea {
        x_scale,
        y_scale,
        left: x + y_labels + 10.0,
        // Space for half of the last tick label, or for the labels of rules.
        right: x + width - (rule_labels + 8.0).max(22.0),
        top: y + 26.0,
        bottom: y + height - 42.0,
    };
    let labels = tick_labels(&area);
    let x_label_top = area.bottom + 26.0;
    if labels.iter().any(|label| label.row > 0) {
        area.bottom -= LABEL_ROW_HEIGHT;
    }
    let label = fit(&y_scale.label, SMALL, width);
    canvas.text(&label, (x, y + 2.0), HPos::Left, VerticalAnchor::Top, SMALL, MUTED)?;
    draw_axes(canvas, &area, &labels)?;
    let middle = f64::midpoint(area.left, area.right);
    let label = fit(&x_scale.label, SMALL, area.right - area.left);
    canvas.text(&label, (middle, x_label_top), HPos::Center, VerticalAnchor::Top, SMALL, MUTED)?;
    for mark in marks {
        draw_mark(canvas, &area, mark)?;
    }
    draw_rule_labels(canvas, &area, marks, rule_labels)
}

/// Returns position and label of each rule with a label.
fn labelled_rules(marks: &[PlotMark]) -> impl Iterator<Item = (f64, &str)> {
    marks.iter().filter_map(|mark| match mark {
        PlotMark::Rule { y, text } if !text.is_empty() => Some((*y, text.as_str())),
        _ => None,
    })
}

/// Draws the labels of rules to the right of the plot, shifted up where they would overlap.
fn draw_rule_labels<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    area: &PlotArea<'_>,
    marks: &[PlotMark],
    width: f64,
) -> DrawResult<B> {
    let mut labels: Vec<(f64, &str)> =
        labelled_rules(marks).map(|(position, text)| (area.y(position), text)).collect();
    labels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut lowest_free = f64::INFINITY;
    for (y, text) in labels {
        let y = y.min(lowest_free);
        let start = (area.right + 8.0, y);
        canvas.text(&fit(text, SMALL, width), start, HPos::Left, VerticalAnchor::Middle, SMALL, MUTED)?;
        lowest_free = y - 1.2 * SMALL;
    }
    Ok(())
}

/// Height of a row of tick labels below the axis.
const LABEL_ROW_HEIGHT: f64 = 1.25 * SMALL;

/// A tick label below the axis.
struct TickLabel {
    text: String,
    middle: f64,
    row: usize,
}

/// Places the labels of the x axis without overlap, in a second row where the first is too narrow.
///
/// Labels that fit in neither row are omitted.
fn tick_labels(area: &PlotArea<'_>) -> Vec<TickLabel> {
    let ticks = &area.x_scale.ticks;
    let max_width = (area.right - area.left) / ticks.len().min(6) as f64;
    let mut free_from = [f64::NEG_INFINITY; 2];
    let mut labels = Vec::with_capacity(ticks.len());
    for tick in ticks {
        let (text, middle) = (fit(&tick.label, SMALL, max_width), area.x(tick.position));
        let half = text_width(&text, SMALL) / 2.0;
        if let Some(row) = free_from.iter().position(|free_from| middle - half >= *free_from) {
            free_from[row] = middle + half + 8.0;
            labels.push(TickLabel { text, middle, row });
        }
    }
    labels
}

fn draw_axes<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    area: &PlotArea<'_>,
    labels: &[TickLabel],
) -> DrawResult<B> {
    let PlotArea { left, right, bottom, .. } = *area;
    for tick in &area.y_scale.ticks {
        let y = area.y(tick.position);
        canvas.line(&[(left, y), (right, y)], INK, 0.11, 1.0)?;
        canvas.text(&tick.label, (left - 8.0, y), HPos::Right, VerticalAnchor::Middle, SMALL, MUTED)?;
    }
    canvas.line(&[(left, bottom), (right, bottom)], INK, 0.6, 1.0)?;
    for tick in &area.x_scale.ticks {
        let x = area.x(tick.position);
        canvas.line(&[(x, bottom), (x, bottom + 4.0)], INK, 0.6, 1.0)?;
    }
    labels.iter().try_for_each(|TickLabel { text, middle, row }| {
        let y = bottom + 8.0 + *row as f64 * LABEL_ROW_HEIGHT;
        canvas.text(text, (*middle, y), HPos::Center, VerticalAnchor::Top, SMALL, MUTED)
    })
}

fn draw_mark<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    area: &PlotArea<'_>,
    mark: &PlotMark,
) -> DrawResult<B> {
    let at = |x: f64, y: f64| (area.x(x), area.y(y));
    match mark {
        PlotMark::Rule { y, .. } => {
            let y = area.y(*y);
            // Solid on the axis, where dashes would be invisible.
            let dash: &[f64] = if y < area.bottom { &[4.0, 4.0] } else { &[] };
            canvas.dashed(&[(area.left, y), (area.right, y)], dash, INK, 0.6, 1.0)
        }
        PlotMark::Guide { points } => {
            let points: Vec<Position> = points.iter().map(|(x, y)| at(*x, *y)).collect();
            canvas.dashed(&points, &[4.0, 4.0], INK, 0.6, 1.0)
        }
        PlotMark::Band { style, points } => {
            let upper = points.iter().map(|point| at(point.x, point.high));
            let lower = points.iter().rev().map(|point| at(point.x, point.low));
            canvas.polygon(&upper.chain(lower).collect::<Vec<_>>(), style.colour(), 0.16)
        }
        PlotMark::Dot { style, x, y } => canvas.disc(at(*x, *y), 2.25, style.colour(), 0.5),
        PlotMark::Line { style, points } => {
            let points: Vec<Position> = points.iter().map(|(x, y)| at(*x, *y)).collect();
            canvas.dashed(&points, style.dash(), style.colour(), 1.0, 1.75)
        }
        PlotMark::Interval { style, x, low, high } => {
            let ((x, low), (_, high)) = (at(*x, *low), at(*x, *high));
            canvas.line(&[(x, low), (x, high)], style.colour(), 1.0, 1.5)?;
            canvas.line(&[(x - 3.5, low), (x + 3.5, low)], style.colour(), 1.0, 1.5)?;
            canvas.line(&[(x - 3.5, high), (x + 3.5, high)], style.colour(), 1.0, 1.5)
        }
        PlotMark::Span { style, y, low, high } => {
            let ((low, y), (high, _)) = (at(*low, *y), at(*high, *y));
            canvas.line(&[(low, y), (high, y)], style.colour(), 1.0, 1.5)?;
            canvas.line(&[(low, y - 3.5), (low, y + 3.5)], style.colour(), 1.0, 1.5)?;
            canvas.line(&[(high, y - 3.5), (high, y + 3.5)], style.colour(), 1.0, 1.5)
        }
        PlotMark::Label { x, y, text } => {
            let (x, y) = at(*x, *y);
            // To the left where the text would leave the plot.
            let fits = x + 6.0 + text_width(text, SMALL) <= area.right + 16.0;
            let (x, side) = if fits { (x + 6.0, HPos::Left) } else { (x - 6.0, HPos::Right) };
            canvas.text(text, (x, y - 9.0), side, VerticalAnchor::Middle, SMALL, MUTED)
        }
        PlotMark::Marker { style, x, y } => canvas.marker(at(*x, *y), *style),
        PlotMark::Text { x, y, text } => {
            let (x, y) = at(*x, *y);
            let half = text_width(text, SMALL) / 2.0;
            let x = x.clamp(area.left + half, (area.right - half).max(area.left + half));
            canvas.text(text, (x, y - 14.0), HPos::Center, VerticalAnchor::Middle, SMALL, MUTED)
        }
    }
}

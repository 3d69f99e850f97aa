//! Forest plots: differences with their intervals, one row each.
//!
//! A row has two lines, so that a plot fits a phone: label and difference, and below them the
//! intervals.

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use super::{MUTED, SMALL, TITLE_HEIGHT};
use crate::render::{
    canvas::{Canvas, DrawResult, Position, Size, VerticalAnchor},
    figure::{Forest, ForestRow, Panel},
    font::{fit, text_width},
    style::INK,
};

/// Width of a phone's screen, so that labels keep their size on it.
const WIDTH: f64 = 360.0;
const ROW_HEIGHT: f64 = 46.0;
/// Height of a row's label.
const LABEL_HEIGHT: f64 = 20.0;
/// Distance from the top of a row to its intervals.
const INTERVALS: f64 = 30.0;
const GROUP_HEIGHT: f64 = 24.0;
/// Height of the names of both sides above the rows.
const SIDES_HEIGHT: f64 = 20.0;
/// Height of ticks and axis label below the rows.
const AXIS_HEIGHT: f64 = 44.0;
/// Margin on both sides, for half of a tick label.
const SIDE_MARGIN: f64 = 16.0;
const GAP: f64 = 8.0;

/// Returns the size of a panel with this plot.
pub(super) fn size(panel: &Panel, forest: &Forest) -> Size {
    let title = if panel.title.is_empty() { 0.0 } else { TITLE_HEIGHT };
    Size { width: WIDTH, height: title + SIDES_HEIGHT + rows_height(forest) + AXIS_HEIGHT }
}

fn rows_height(forest: &Forest) -> f64 {
    let group_height = |titled: bool| if titled { GROUP_HEIGHT } else { 0.0 };
    let heights = forest
        .groups
        .iter()
        .map(|group| group_height(!group.title.is_empty()) + group.rows.len() as f64 * ROW_HEIGHT);
    heights.sum()
}

/// Draws a forest plot.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    forest: &Forest,
    (x, y): Position,
    width: f64,
) -> DrawResult<B> {
    let (left, right) = (x + SIDE_MARGIN, x + width - SIDE_MARGIN);
    let at = |value: f64| left + forest.scale.fraction(value).clamp(0.0, 1.0) * (right - left);
    let (top, zero) = (y + SIDES_HEIGHT, at(0.0));
    let bottom = top + rows_height(forest);
    let [worse, better] = &forest.sides;
    // Without room for "better than BASELINE", "better" is enough: the title names the baseline.
    let side = |text: &str, width: f64| {
        let fitted = fit(text, SMALL, width - GAP);
        if fitted == text { fitted } else { text.split(' ').next().unwrap_or_default().to_owned() }
    };
    let text = side(worse, zero - x);
    canvas.text(&text, (zero - GAP, y + 2.0), HPos::Right, VerticalAnchor::Top, SMALL, MUTED)?;
    let text = side(better, x + width - zero);
    canvas.text(&text, (zero + GAP, y + 2.0), HPos::Left, VerticalAnchor::Top, SMALL, MUTED)?;
    let mut row_top = top;
    for group in &forest.groups {
        if !group.title.is_empty() {
            let title = fit(&group.title, SMALL, width);
            let start = (x, row_top + GROUP_HEIGHT / 2.0 + 2.0);
            canvas.text(&title, start, HPos::Left, VerticalAnchor::Middle, SMALL, MUTED)?;
            row_top += GROUP_HEIGHT;
        }
        for row in &group.rows {
            draw_detectable(canvas, row, &at, row_top)?;
            // Interrupted, so that it does not cross labels.
            let ends = [(zero, row_top + LABEL_HEIGHT), (zero, row_top + ROW_HEIGHT)];
            canvas.line(&ends, INK, 0.6, 1.0)?;
            row_top += ROW_HEIGHT;
        }
    }
    draw_axis(canvas, forest, &at, [left, right, bottom])?;
    let mut row_top = top;
    for group in &forest.groups {
        row_top += if group.title.is_empty() { 0.0 } else { GROUP_HEIGHT };
        for row in &group.rows {
            draw_row(canvas, row, &at, (x, row_top), width)?;
            row_top += ROW_HEIGHT;
        }
    }
    Ok(())
}

/// Draws the band of differences that are too small to be detected.
fn draw_detectable<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    row: &ForestRow,
    at: &impl Fn(f64) -> f64,
    top: f64,
) -> DrawResult<B> {
    let Some(detectable) = row.detectable else { return Ok(()) };
    let (from, to) = (at(-detectable), at(detectable));
    let (upper, lower) = (top + INTERVALS - 9.0, top + INTERVALS + 9.0);
    canvas.polygon(&[(from, upper), (to, upper), (to, lower), (from, lower)], INK, 0.09)
}

fn draw_axis<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    forest: &Forest,
    at: &impl Fn(f64) -> f64,
    [left, right, bottom]: [f64; 3],
) -> DrawResult<B> {
    canvas.line(&[(left, bottom), (right, bottom)], INK, 0.6, 1.0)?;
    let mut free_from = f64::NEG_INFINITY;
    for tick in &forest.scale.ticks {
        let middle = at(tick.position);
        canvas.line(&[(middle, bottom), (middle, bottom + 4.0)], INK, 0.6, 1.0)?;
        let half = text_width(&tick.label, SMALL) / 2.0;
        if middle - half >= free_from {
            let start = (middle, bottom + 8.0);
            canvas.text(&tick.label, start, HPos::Center, VerticalAnchor::Top, SMALL, MUTED)?;
            free_from = middle + half + GAP;
        }
    }
    let label = fit(&forest.scale.label, SMALL, right - left);
    let middle = (f64::midpoint(left, right), bottom + 26.0);
    canvas.text(&label, middle, HPos::Center, VerticalAnchor::Top, SMALL, MUTED)
}

fn draw_row<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    row: &ForestRow,
    at: &impl Fn(f64) -> f64,
    (x, top): Position,
    width: f64,
) -> DrawResult<B> {
    let opacity = if row.significant { 1.0 } else { MUTED };
    let text = format!("{}, {}", row.text, row.conclusion);
    let text = fit(&text, SMALL, 0.65 * width);
    let label_width = width - text_width(&text, SMALL) - GAP;
    let line = top + 12.0;
    let label = fit(&row.label, SMALL, label_width);
    canvas.text(&label, (x, line), HPos::Left, VerticalAnchor::Middle, SMALL, 1.0)?;
    canvas.text(&text, (x + width, line), HPos::Right, VerticalAnchor::Middle, SMALL, opacity)?;
    let (colour, y) = (row.style.colour(), top + INTERVALS);
    if let Some([low, high]) = row.adjusted {
        canvas.line(&[(at(low), y), (at(high), y)], colour, 1.0, 1.25)?;
        for end in [at(low), at(high)] {
            canvas.line(&[(end, y - 4.0), (end, y + 4.0)], colour, 1.0, 1.25)?;
        }
    }
    let [low, high] = row.interval;
    canvas.line(&[(at(low), y), (at(high), y)], colour, 1.0, 3.5)?;
    canvas.marker((at(row.value), y), row.style)
}

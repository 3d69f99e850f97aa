//! Marks between a horizontal and a vertical scale.

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use super::{MUTED, SMALL};
use crate::{
    canvas::{At, Canvas, Down, Drawn, fit, text_width},
    figure::{Mark, Scale},
    look::INK,
};

/// The rectangle inside a panel's axes.
struct Plane<'a> {
    scales: [&'a Scale; 2],
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plane<'_> {
    fn x(&self, position: f64) -> f64 {
        self.left + self.scales[0].place(position) * (self.right - self.left)
    }

    fn y(&self, position: f64) -> f64 {
        self.bottom - self.scales[1].place(position) * (self.bottom - self.top)
    }
}

pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    scales: [&Scale; 2],
    marks: &[Mark],
    (x, y): At,
    (width, height): At,
) -> Drawn<B> {
    let widest =
        |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text_width(text, SMALL)).fold(0.0, f64::max);
    let y_labels = widest(&mut scales[1].ticks.iter().map(|(_, label)| label.as_str())).min(width / 4.0);
    let rule_labels = widest(&mut rules(marks).map(|(_, text)| text)).min(width / 4.0);
    let mut plane = Plane {
        scales,
        left: x + y_labels + 10.0,
        // Room for half of the last tick's label, or for the words beside rules.
        right: x + width - (rule_labels + 8.0).max(22.0),
        top: y + 26.0,
        bottom: y + height - 42.0,
    };
    let labels = tick_labels(&plane);
    let below = plane.bottom + 26.0;
    if labels.iter().any(|label| label.row > 0) {
        plane.bottom -= ROW;
    }
    let label = fit(&scales[1].label, SMALL, width);
    canvas.text(&label, (x, y + 2.0), HPos::Left, Down::Top, SMALL, MUTED)?;
    draw_axes(canvas, &plane, &labels)?;
    let middle = f64::midpoint(plane.left, plane.right);
    let label = fit(&scales[0].label, SMALL, plane.right - plane.left);
    canvas.text(&label, (middle, below), HPos::Center, Down::Top, SMALL, MUTED)?;
    for mark in marks {
        draw_mark(canvas, &plane, mark)?;
    }
    draw_rule_labels(canvas, &plane, marks, rule_labels)
}

/// Position and word of each rule that has a word.
fn rules(marks: &[Mark]) -> impl Iterator<Item = (f64, &str)> {
    marks.iter().filter_map(|mark| match mark {
        Mark::Rule { y, text } if !text.is_empty() => Some((*y, text.as_str())),
        _ => None,
    })
}

/// Writes the words of rules beside the plane, where no mark can be, one above the other.
fn draw_rule_labels<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    plane: &Plane<'_>,
    marks: &[Mark],
    room: f64,
) -> Drawn<B> {
    let mut labels: Vec<(f64, &str)> =
        rules(marks).map(|(position, text)| (plane.y(position), text)).collect();
    labels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut free_to = f64::INFINITY;
    for (y, text) in labels {
        let y = y.min(free_to);
        canvas.text(
            &fit(text, SMALL, room),
            (plane.right + 8.0, y),
            HPos::Left,
            Down::Middle,
            SMALL,
            MUTED,
        )?;
        free_to = y - 1.2 * SMALL;
    }
    Ok(())
}

/// Height of a row of labels below the axis.
const ROW: f64 = 1.25 * SMALL;

/// A label below the axis.
struct TickLabel {
    text: String,
    middle: f64,
    row: usize,
}

/// Labels where they do not touch each other, in two rows where one has no room for all. What even two have no room for is
/// left out.
fn tick_labels(plane: &Plane<'_>) -> Vec<TickLabel> {
    let ticks = &plane.scales[0].ticks;
    let most = (plane.right - plane.left) / ticks.len().min(6) as f64;
    let mut free_from = [f64::NEG_INFINITY; 2];
    let mut labels = Vec::with_capacity(ticks.len());
    for (position, label) in ticks {
        let (text, middle) = (fit(label, SMALL, most), plane.x(*position));
        let half = text_width(&text, SMALL) / 2.0;
        if let Some(row) = free_from.iter().position(|free_from| middle - half >= *free_from) {
            free_from[row] = middle + half + 8.0;
            labels.push(TickLabel { text, middle, row });
        }
    }
    labels
}

fn draw_axes<B: DrawingBackend>(canvas: &Canvas<'_, B>, plane: &Plane<'_>, labels: &[TickLabel]) -> Drawn<B> {
    let Plane { scales: [across, up], left, right, bottom, .. } = *plane;
    for (position, label) in &up.ticks {
        let y = plane.y(*position);
        canvas.line(&[(left, y), (right, y)], INK, 0.11, 1.0)?;
        canvas.text(label, (left - 8.0, y), HPos::Right, Down::Middle, SMALL, MUTED)?;
    }
    canvas.line(&[(left, bottom), (right, bottom)], INK, 0.6, 1.0)?;
    for (position, _) in &across.ticks {
        let x = plane.x(*position);
        canvas.line(&[(x, bottom), (x, bottom + 4.0)], INK, 0.6, 1.0)?;
    }
    labels.iter().try_for_each(|TickLabel { text, middle, row }| {
        let y = bottom + 8.0 + *row as f64 * ROW;
        canvas.text(text, (*middle, y), HPos::Center, Down::Top, SMALL, MUTED)
    })
}

fn draw_mark<B: DrawingBackend>(canvas: &Canvas<'_, B>, plane: &Plane<'_>, mark: &Mark) -> Drawn<B> {
    let at = |x: f64, y: f64| (plane.x(x), plane.y(y));
    match mark {
        Mark::Rule { y, .. } => {
            let y = plane.y(*y);
            // On the axis there is a line already.
            let dash: &[f64] = if y < plane.bottom { &[4.0, 4.0] } else { &[] };
            canvas.dashed(&[(plane.left, y), (plane.right, y)], dash, INK, 0.6, 1.0)
        }
        Mark::Guide { points } => {
            let points: Vec<At> = points.iter().map(|(x, y)| at(*x, *y)).collect();
            canvas.dashed(&points, &[4.0, 4.0], INK, 0.6, 1.0)
        }
        Mark::Band { look, points } => {
            let upper = points.iter().map(|(x, _, high)| at(*x, *high));
            let lower = points.iter().rev().map(|(x, low, _)| at(*x, *low));
            canvas.polygon(&upper.chain(lower).collect::<Vec<_>>(), look.colour(), 0.16)
        }
        Mark::Dot { look, x, y } => canvas.disc(at(*x, *y), 2.25, look.colour(), 0.5),
        Mark::Line { look, points } => {
            let points: Vec<At> = points.iter().map(|(x, y)| at(*x, *y)).collect();
            canvas.dashed(&points, look.dash(), look.colour(), 1.0, 1.75)
        }
        Mark::Interval { look, x, low, high } => {
            let ((x, low), (_, high)) = (at(*x, *low), at(*x, *high));
            canvas.line(&[(x, low), (x, high)], look.colour(), 1.0, 1.5)?;
            canvas.line(&[(x - 3.5, low), (x + 3.5, low)], look.colour(), 1.0, 1.5)?;
            canvas.line(&[(x - 3.5, high), (x + 3.5, high)], look.colour(), 1.0, 1.5)
        }
        Mark::Marker { look, x, y } => canvas.marker(at(*x, *y), *look),
    }
}

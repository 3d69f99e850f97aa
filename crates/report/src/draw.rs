//! Draws figures: one function for each thing that becomes an image, the same for SVG and PNG.

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use crate::{
    canvas::{At, Canvas, Down, Drawn, fit, text_width},
    figure::{Figure, Mark, Panel},
    look::{INK, Look},
};

/// Something that becomes an image.
pub(crate) trait Drawing {
    /// Width and height in CSS pixels.
    fn size(&self) -> (f64, f64);
    /// Draws it with its corner at the canvas' corner.
    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B>;
}

const SMALL: f64 = 11.5;
const MEDIUM: f64 = 12.5;
const LARGE: f64 = 16.0;
const MUTED: f64 = 0.72;

/// A panel alone, as the page shows it.
pub(crate) struct Plot<'a> {
    pub(crate) panel: &'a Panel,
    pub(crate) size: (f64, f64),
}

impl Drawing for Plot<'_> {
    fn size(&self) -> (f64, f64) {
        self.size
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        draw_panel(canvas, self.panel, (0.0, 0.0), self.size)
    }
}

/// The line and marker of a series, for a legend.
pub(crate) struct Swatch(pub(crate) Look);

impl Drawing for Swatch {
    fn size(&self) -> (f64, f64) {
        (34.0, 14.0)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        draw_swatch(canvas, self.0, (0.0, 7.0))
    }
}

fn draw_swatch<B: DrawingBackend>(canvas: &Canvas<'_, B>, look: Look, (x, y): At) -> Drawn<B> {
    canvas.dashed(&[(x, y), (x + 34.0, y)], look.dash(), look.colour(), 1.0, 1.75)?;
    canvas.marker((x + 17.0, y), look)
}

/// A whole figure on one sheet, with title and legend: what the figure's files show.
pub(crate) struct Sheet<'a> {
    figure: &'a Figure,
    title: String,
    /// Corner and text of each legend entry.
    legend: Vec<(At, String)>,
    columns: usize,
    panels_from: f64,
}

const EDGE: f64 = 16.0;
const GAP: f64 = 20.0;

impl<'a> Sheet<'a> {
    pub(crate) fn of(figure: &'a Figure) -> Self {
        let columns = figure.panels.len().clamp(1, 3);
        let width = sheet_width(figure, columns) - 2.0 * EDGE;
        let (mut x, mut y) = (EDGE, EDGE + 34.0);
        let mut legend = Vec::new();
        for (_, name) in &figure.legend {
            let name = fit(name, MEDIUM, width - 42.0);
            let wide = 42.0 + text_width(&name, MEDIUM);
            if x > EDGE && x + wide > EDGE + width {
                (x, y) = (EDGE, y + 20.0);
            }
            legend.push(((x, y), name));
            x += wide + 24.0;
        }
        Self { figure, title: fit(&figure.title, LARGE, width), legend, columns, panels_from: y + 18.0 }
    }
}

fn sheet_width(figure: &Figure, columns: usize) -> f64 {
    2.0 * EDGE + columns as f64 * (figure.panel_size().0 + GAP) - GAP
}

impl Drawing for Sheet<'_> {
    fn size(&self) -> (f64, f64) {
        let rows = self.figure.panels.len().div_ceil(self.columns) as f64;
        let height = self.panels_from + rows * (self.figure.panel_size().1 + GAP) - GAP + EDGE;
        (sheet_width(self.figure, self.columns), height)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        canvas.text(&self.title, (EDGE, EDGE), HPos::Left, Down::Top, LARGE, 1.0)?;
        for ((look, _), ((x, y), name)) in self.figure.legend.iter().zip(&self.legend) {
            draw_swatch(canvas, *look, (*x, *y))?;
            canvas.text(name, (x + 42.0, *y), HPos::Left, Down::Middle, MEDIUM, 1.0)?;
        }
        let (width, height) = self.figure.panel_size();
        for (index, panel) in self.figure.panels.iter().enumerate() {
            let (column, row) = ((index % self.columns) as f64, (index / self.columns) as f64);
            let corner = (EDGE + column * (width + GAP), self.panels_from + row * (height + GAP));
            draw_panel(canvas, panel, corner, (width, height))?;
        }
        Ok(())
    }
}

/// The rectangle inside a panel's axes.
struct Plane<'a> {
    panel: &'a Panel,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Plane<'_> {
    fn x(&self, position: f64) -> f64 {
        self.left + self.panel.x.place(position) * (self.right - self.left)
    }

    fn y(&self, position: f64) -> f64 {
        self.bottom - self.panel.y.place(position) * (self.bottom - self.top)
    }
}

fn draw_panel<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &Panel,
    (x, y): At,
    (width, height): At,
) -> Drawn<B> {
    let y_labels =
        panel.y.ticks.iter().map(|(_, label)| text_width(label, SMALL)).fold(0.0, f64::max).min(width / 4.0);
    let title = if panel.title.is_empty() { 0.0 } else { 22.0 };
    let rule_labels =
        rules(panel).map(|(_, text)| text_width(text, SMALL)).fold(0.0, f64::max).min(width / 4.0);
    let plane = Plane {
        panel,
        left: x + y_labels + 10.0,
        // Room for half of the last tick's label, or for the words beside rules.
        right: x + width - (rule_labels + 8.0).max(22.0),
        top: y + title + 26.0,
        bottom: y + height - 42.0,
    };
    if !panel.title.is_empty() {
        canvas.text(&fit(&panel.title, MEDIUM, width), (x, y + 2.0), HPos::Left, Down::Top, MEDIUM, 1.0)?;
    }
    let label = fit(&panel.y.label, SMALL, width);
    canvas.text(&label, (x, y + title + 2.0), HPos::Left, Down::Top, SMALL, MUTED)?;
    draw_axes(canvas, &plane)?;
    for mark in &panel.marks {
        draw_mark(canvas, &plane, mark)?;
    }
    draw_rule_labels(canvas, &plane, rule_labels)
}

/// Position and word of each rule that has a word.
fn rules(panel: &Panel) -> impl Iterator<Item = (f64, &str)> {
    panel.marks.iter().filter_map(|mark| match mark {
        Mark::Rule { y, text } if !text.is_empty() => Some((*y, text.as_str())),
        _ => None,
    })
}

/// Writes the words of rules beside the plane, where no mark can be, one above the other.
fn draw_rule_labels<B: DrawingBackend>(canvas: &Canvas<'_, B>, plane: &Plane<'_>, room: f64) -> Drawn<B> {
    let mut labels: Vec<(f64, &str)> =
        rules(plane.panel).map(|(position, text)| (plane.y(position), text)).collect();
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

fn draw_axes<B: DrawingBackend>(canvas: &Canvas<'_, B>, plane: &Plane<'_>) -> Drawn<B> {
    let Plane { panel, left, right, bottom, .. } = *plane;
    for (position, label) in &panel.y.ticks {
        let y = plane.y(*position);
        canvas.line(&[(left, y), (right, y)], INK, 0.11, 1.0)?;
        canvas.text(label, (left - 8.0, y), HPos::Right, Down::Middle, SMALL, MUTED)?;
    }
    canvas.line(&[(left, bottom), (right, bottom)], INK, 0.6, 1.0)?;
    let mut free_from = f64::NEG_INFINITY;
    for (position, label) in &panel.x.ticks {
        let x = plane.x(*position);
        canvas.line(&[(x, bottom), (x, bottom + 4.0)], INK, 0.6, 1.0)?;
        let label = fit(label, SMALL, (right - left) / panel.x.ticks.len().min(6) as f64);
        let half = text_width(&label, SMALL) / 2.0;
        if x - half >= free_from {
            canvas.text(&label, (x, bottom + 8.0), HPos::Center, Down::Top, SMALL, MUTED)?;
            free_from = x + half + 8.0;
        }
    }
    let label = fit(&panel.x.label, SMALL, right - left);
    canvas.text(&label, (f64::midpoint(left, right), bottom + 26.0), HPos::Center, Down::Top, SMALL, MUTED)
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

//! Draws figures: one function for each thing that becomes an image, the same for SVG and PNG.

mod matrix;
mod plot;

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use crate::{
    canvas::{At, Canvas, Down, Drawn, fit, text_width},
    figure::{Content, Figure, Panel},
    look::Look,
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

/// Width and height of each panel of a figure, in CSS pixels: a lone plot is large, small multiples are small, and a matrix
/// takes what it needs.
pub(crate) fn panel_size(figure: &Figure) -> (f64, f64) {
    let matrices = figure.panels.iter().filter_map(|panel| match &panel.content {
        Content::Matrix(matrix) => Some(matrix::size(panel, matrix)),
        Content::Plot { .. } => None,
    });
    let needed = matrices.reduce(|(wide, high), (width, height)| (wide.max(width), high.max(height)));
    needed.unwrap_or(if figure.panels.len() == 1 { (500.0, 320.0) } else { (320.0, 230.0) })
}

/// A panel alone, as the page shows it.
pub(crate) struct Alone<'a> {
    pub(crate) panel: &'a Panel,
    pub(crate) size: (f64, f64),
}

impl Drawing for Alone<'_> {
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
    panel_size: (f64, f64),
    panels_from: f64,
}

const EDGE: f64 = 16.0;
const GAP: f64 = 20.0;

impl<'a> Sheet<'a> {
    pub(crate) fn of(figure: &'a Figure) -> Self {
        let panel_size = panel_size(figure);
        let most = if panel_size.0 > 500.0 { 1 } else { 3 };
        let columns = figure.panels.len().clamp(1, most);
        let width = columns as f64 * (panel_size.0 + GAP) - GAP;
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
        let title = fit(&figure.title, LARGE, width);
        let panels_from = if legend.is_empty() { y } else { y + 18.0 };
        Self { figure, title, legend, columns, panel_size, panels_from }
    }
}

impl Drawing for Sheet<'_> {
    fn size(&self) -> (f64, f64) {
        let rows = self.figure.panels.len().div_ceil(self.columns) as f64;
        let (width, height) = self.panel_size;
        let width = 2.0 * EDGE + self.columns as f64 * (width + GAP) - GAP;
        (width, self.panels_from + rows * (height + GAP) - GAP + EDGE)
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> Drawn<B> {
        canvas.text(&self.title, (EDGE, EDGE), HPos::Left, Down::Top, LARGE, 1.0)?;
        for ((look, _), ((x, y), name)) in self.figure.legend.iter().zip(&self.legend) {
            draw_swatch(canvas, *look, (*x, *y))?;
            canvas.text(name, (x + 42.0, *y), HPos::Left, Down::Middle, MEDIUM, 1.0)?;
        }
        let (width, height) = self.panel_size;
        for (index, panel) in self.figure.panels.iter().enumerate() {
            let (column, row) = ((index % self.columns) as f64, (index / self.columns) as f64);
            let corner = (EDGE + column * (width + GAP), self.panels_from + row * (height + GAP));
            draw_panel(canvas, panel, corner, (width, height))?;
        }
        Ok(())
    }
}

fn draw_panel<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &Panel,
    (x, y): At,
    (width, height): At,
) -> Drawn<B> {
    let mut top = y;
    if !panel.title.is_empty() {
        canvas.text(&fit(&panel.title, MEDIUM, width), (x, y + 2.0), HPos::Left, Down::Top, MEDIUM, 1.0)?;
        top += TITLE;
    }
    match &panel.content {
        Content::Plot { x: across, y: up, marks } => {
            plot::draw(canvas, [across, up], marks, (x, top), (width, y + height - top))
        }
        Content::Matrix(matrix) => matrix::draw(canvas, matrix, (x, top)),
    }
}

/// Height of a panel's title.
const TITLE: f64 = 22.0;

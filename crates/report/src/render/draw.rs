//! Drawing of figures, independent of the image format.

mod forest;
mod heatmap;
mod plot;

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use super::{
    canvas::{Canvas, DrawResult, Position, Size, VerticalAnchor},
    figure::{Content, Figure, Panel},
    font::{fit, text_width, wrap},
    style::SeriesStyle,
};

/// Something that can be drawn as an image.
pub(crate) trait Drawing {
    /// Returns the size of the image.
    fn size(&self) -> Size;
    /// Draws the image from the top left corner of the canvas.
    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> DrawResult<B>;
}

// Font sizes in CSS pixels.
const SMALL: f64 = 11.5;
const MEDIUM: f64 = 12.5;
const LARGE: f64 = 16.0;
/// Opacity of secondary text.
const MUTED: f64 = 0.72;
/// Height of a panel's title.
const TITLE_HEIGHT: f64 = 22.0;

/// Returns the size of each panel of a figure.
///
/// A single plot is large, small multiples are small, and heat maps and forest plots are as large
/// as their content.
pub(crate) fn panel_size(figure: &Figure) -> Size {
    let sized = figure.panels.iter().filter_map(|panel| match &panel.content {
        Content::Heatmap(heatmap) => Some(heatmap::size(panel, heatmap)),
        Content::Forest(forest) => Some(forest::size(panel, forest)),
        Content::Plot { .. } => None,
    });
    let largest = sized.reduce(|a, b| Size { width: a.width.max(b.width), height: a.height.max(b.height) });
    largest.unwrap_or(if figure.panels.len() == 1 {
        Size { width: 360.0, height: 240.0 }
    } else {
        Size { width: 320.0, height: 230.0 }
    })
}

/// A single panel, for the HTML page.
pub(crate) struct PanelDrawing<'a> {
    pub(crate) panel: &'a Panel,
    pub(crate) size: Size,
}

impl Drawing for PanelDrawing<'_> {
    fn size(&self) -> Size {
        self.size
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> DrawResult<B> {
        draw_panel(canvas, self.panel, (0.0, 0.0), self.size)
    }
}

/// Line and marker of a series, for a legend.
pub(crate) struct LegendSwatch(pub(crate) SeriesStyle);

impl Drawing for LegendSwatch {
    fn size(&self) -> Size {
        Size { width: 34.0, height: 14.0 }
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> DrawResult<B> {
        draw_swatch(canvas, self.0, (0.0, 7.0))
    }
}

fn draw_swatch<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    style: SeriesStyle,
    (x, y): Position,
) -> DrawResult<B> {
    canvas.dashed(&[(x, y), (x + 34.0, y)], style.dash(), style.colour(), 1.0, 1.75)?;
    canvas.marker((x + 17.0, y), style)
}

/// A whole figure with title and legend, for image files.
pub(crate) struct FigureSheet<'a> {
    figure: &'a Figure,
    /// Lines of the title.
    title: Vec<String>,
    /// Position and text of each legend entry.
    legend: Vec<(Position, String)>,
    columns: usize,
    panel_size: Size,
    /// Top of the first row of panels.
    panels_top: f64,
}

/// Margin around a figure.
const MARGIN: f64 = 16.0;
/// Gap between panels.
const GAP: f64 = 20.0;
/// Height of a line of a figure's title.
const TITLE_LINE: f64 = 20.0;

impl<'a> FigureSheet<'a> {
    /// Lays out a figure with its title.
    pub(crate) fn new(figure: &'a Figure) -> Self {
        let max_columns = if panel_size(figure).width > 500.0 { 1 } else { 3 };
        Self::with_columns(figure, max_columns, true)
    }

    /// Lays out a figure for a paper, whose caption replaces the title: one panel for a column, or
    /// two side by side for both columns.
    pub(crate) fn for_print(figure: &'a Figure) -> Self {
        let max_columns = if panel_size(figure).width > 500.0 { 1 } else { 2 };
        Self::with_columns(figure, max_columns, false)
    }

    /// Number of panels side by side.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    fn with_columns(figure: &'a Figure, max_columns: usize, is_titled: bool) -> Self {
        let panel_size = panel_size(figure);
        let columns = figure.panels.len().clamp(1, max_columns);
        let width = columns as f64 * (panel_size.width + GAP) - GAP;
        let title = if is_titled { wrap(&figure.title, LARGE, width, 3) } else { Vec::new() };
        let title_height = if title.is_empty() { 8.0 } else { 14.0 + TITLE_LINE * title.len() as f64 };
        let (mut x, mut y) = (MARGIN, MARGIN + title_height);
        let mut legend = Vec::new();
        for entry in &figure.legend {
            let label = fit(&entry.label, MEDIUM, width - 42.0);
            let entry_width = 42.0 + text_width(&label, MEDIUM);
            if x > MARGIN && x + entry_width > MARGIN + width {
                (x, y) = (MARGIN, y + 20.0);
            }
            legend.push(((x, y), label));
            x += entry_width + 24.0;
        }
        let panels_top = if legend.is_empty() { y } else { y + 18.0 };
        Self { figure, title, legend, columns, panel_size, panels_top }
    }
}

impl Drawing for FigureSheet<'_> {
    fn size(&self) -> Size {
        let rows = self.figure.panels.len().div_ceil(self.columns) as f64;
        Size {
            width: 2.0 * MARGIN + self.columns as f64 * (self.panel_size.width + GAP) - GAP,
            height: self.panels_top + rows * (self.panel_size.height + GAP) - GAP + MARGIN,
        }
    }

    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<'_, B>) -> DrawResult<B> {
        for (index, line) in self.title.iter().enumerate() {
            let start = (MARGIN, MARGIN + TITLE_LINE * index as f64);
            canvas.text(line, start, HPos::Left, VerticalAnchor::Top, LARGE, 1.0)?;
        }
        for (entry, ((x, y), label)) in self.figure.legend.iter().zip(&self.legend) {
            draw_swatch(canvas, entry.style, (*x, *y))?;
            canvas.text(label, (x + 42.0, *y), HPos::Left, VerticalAnchor::Middle, MEDIUM, 1.0)?;
        }
        let Size { width, height } = self.panel_size;
        for (index, panel) in self.figure.panels.iter().enumerate() {
            let (column, row) = ((index % self.columns) as f64, (index / self.columns) as f64);
            let corner = (MARGIN + column * (width + GAP), self.panels_top + row * (height + GAP));
            draw_panel(canvas, panel, corner, self.panel_size)?;
        }
        Ok(())
    }
}

fn draw_panel<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    panel: &Panel,
    (x, y): Position,
    Size { width, height }: Size,
) -> DrawResult<B> {
    let mut top = y;
    if !panel.title.is_empty() {
        let title = fit(&panel.title, MEDIUM, width);
        canvas.text(&title, (x, y + 2.0), HPos::Left, VerticalAnchor::Top, MEDIUM, 1.0)?;
        top += TITLE_HEIGHT;
    }
    match &panel.content {
        Content::Plot { x: x_scale, y: y_scale, marks } => {
            let size = Size { width, height: y + height - top };
            plot::draw(canvas, [x_scale, y_scale], marks, (x, top), size)
        }
        Content::Heatmap(heatmap) => heatmap::draw(canvas, heatmap, (x, top)),
        Content::Forest(forest) => forest::draw(canvas, forest, (x, top), width),
    }
}

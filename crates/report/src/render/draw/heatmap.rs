//! Heat maps. Column names are vertical, so that cells can be narrow.

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use super::{MUTED, SMALL, TITLE_HEIGHT};
use crate::render::{
    canvas::{Canvas, DrawResult, Position, Size, VerticalAnchor},
    figure::{Heatmap, HeatmapCell, Panel},
    font::{fit, text_width},
    style::{INK, diverging_colour},
};

const CELL_HEIGHT: f64 = 28.0;
const MIN_CELL_WIDTH: f64 = 30.0;
/// Height of the line that explains rows and columns.
const LABEL_HEIGHT: f64 = 20.0;
/// Maximum length of a row or column name.
const MAX_NAME: f64 = 130.0;
const GAP: f64 = 8.0;
/// Opacity at full shade; text must stay readable on it, also in dark mode.
const MAX_OPACITY: f64 = 0.55;

/// Returns the size of a panel with this heat map.
pub(super) fn size(panel: &Panel, heatmap: &Heatmap) -> Size {
    let title = if panel.title.is_empty() { 0.0 } else { TITLE_HEIGHT };
    let layout = HeatmapLayout::new(heatmap);
    let width = layout.left + heatmap.columns.len() as f64 * layout.cell + 2.0;
    let height = title + layout.top + heatmap.rows.len() as f64 * CELL_HEIGHT + 2.0;
    Size { width: width.max(text_width(&heatmap.label, SMALL)).ceil(), height: height.ceil() }
}

/// Left and top of the cells, and the width of a cell.
struct HeatmapLayout {
    left: f64,
    top: f64,
    cell: f64,
}

impl HeatmapLayout {
    fn new(heatmap: &Heatmap) -> Self {
        let widest = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| text_width(text, SMALL)).fold(0.0, f64::max)
        };
        let mut cells = heatmap.rows.iter().flat_map(|row| &row.cells).map(|cell| &cell.text);
        Self {
            left: widest(&mut heatmap.rows.iter().map(|row| &row.name)).min(MAX_NAME) + GAP,
            top: LABEL_HEIGHT + widest(&mut heatmap.columns.iter()).min(MAX_NAME) + GAP,
            cell: (widest(&mut cells) + 8.0).max(MIN_CELL_WIDTH),
        }
    }
}

/// Draws a heat map.
pub(super) fn draw<B: DrawingBackend>(
    canvas: &Canvas<'_, B>,
    heatmap: &Heatmap,
    (x, y): Position,
) -> DrawResult<B> {
    let layout = HeatmapLayout::new(heatmap);
    let (left, top) = (x + layout.left, y + layout.top);
    canvas.text(&heatmap.label, (x, y + 2.0), HPos::Left, VerticalAnchor::Top, SMALL, MUTED)?;
    for (index, name) in heatmap.columns.iter().enumerate() {
        let middle = left + (index as f64 + 0.5) * layout.cell;
        canvas.vertical_text(&fit(name, SMALL, MAX_NAME), (middle, top - GAP / 2.0), SMALL, MUTED)?;
    }
    for (index, row) in heatmap.rows.iter().enumerate() {
        let upper = top + index as f64 * CELL_HEIGHT;
        let middle = upper + CELL_HEIGHT / 2.0;
        let name = fit(&row.name, SMALL, MAX_NAME);
        canvas.text(&name, (left - GAP, middle), HPos::Right, VerticalAnchor::Middle, SMALL, MUTED)?;
        for (column, HeatmapCell { text, shade, .. }) in row.cells.iter().enumerate() {
            let from = left + column as f64 * layout.cell;
            let size = Size { width: layout.cell - 1.0, height: CELL_HEIGHT - 1.0 };
            let corners = rectangle((from + 0.5, upper + 0.5), size);
            canvas.polygon(&corners, diverging_colour(*shade > 0.0), MAX_OPACITY * shade.abs().min(1.0))?;
            let centre = (from + layout.cell / 2.0, middle);
            canvas.text(text, centre, HPos::Center, VerticalAnchor::Middle, SMALL, 1.0)?;
        }
    }
    // Frames last, so that no cell covers them.
    for (row, cells) in heatmap.rows.iter().map(|row| &row.cells).enumerate() {
        for (column, _) in cells.iter().enumerate().filter(|(_, cell)| cell.framed) {
            let corner = (left + column as f64 * layout.cell, top + row as f64 * CELL_HEIGHT);
            let size = Size { width: layout.cell, height: CELL_HEIGHT };
            let mut frame = rectangle(corner, size).to_vec();
            frame.push(corner);
            canvas.line(&frame, INK, 1.0, 1.5)?;
        }
    }
    Ok(())
}

fn rectangle((x, y): Position, Size { width, height }: Size) -> [Position; 4] {
    [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
}

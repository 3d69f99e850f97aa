//! Heat maps: names of columns stand upright above them, so that cells can be narrow.

use plotters::{prelude::DrawingBackend, style::text_anchor::HPos};

use super::{MUTED, SMALL, TITLE};
use crate::{
    canvas::{At, Canvas, Down, Drawn, fit, text_width},
    figure::{Matrix, Panel, Shaded},
    look::{INK, side},
};

const CELL_HEIGHT: f64 = 28.0;
/// The least width of a cell; texts may ask for more.
const CELL_WIDTH: f64 = 30.0;
/// The line that says what rows and columns are.
const LABEL: f64 = 20.0;
/// The longest name of a row or a column.
const NAME: f64 = 130.0;
const GAP: f64 = 8.0;
/// Full colour is so opaque: the ink on it must stay readable, in the dark too.
const OPACITY: f64 = 0.55;

/// What a panel with this matrix takes.
pub(super) fn size(panel: &Panel, matrix: &Matrix) -> At {
    let title = if panel.title.is_empty() { 0.0 } else { TITLE };
    let layout = Layout::of(matrix);
    let width = layout.left + matrix.columns.len() as f64 * layout.cell + 2.0;
    let height = title + layout.top + matrix.rows.len() as f64 * CELL_HEIGHT + 2.0;
    (width.max(text_width(&matrix.label, SMALL)).ceil(), height.ceil())
}

/// Where the cells begin, and how wide they are.
struct Layout {
    left: f64,
    top: f64,
    cell: f64,
}

impl Layout {
    fn of(matrix: &Matrix) -> Self {
        let widest = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| text_width(text, SMALL)).fold(0.0, f64::max)
        };
        let cells = matrix.rows.iter().flat_map(|(_, cells)| cells).map(|cell| &cell.text);
        Self {
            left: widest(&mut matrix.rows.iter().map(|(name, _)| name)).min(NAME) + GAP,
            top: LABEL + widest(&mut matrix.columns.iter()).min(NAME) + GAP,
            cell: (widest(&mut cells.into_iter()) + 8.0).max(CELL_WIDTH),
        }
    }
}

pub(super) fn draw<B: DrawingBackend>(canvas: &Canvas<'_, B>, matrix: &Matrix, (x, y): At) -> Drawn<B> {
    let layout = Layout::of(matrix);
    let (left, top) = (x + layout.left, y + layout.top);
    canvas.text(&matrix.label, (x, y + 2.0), HPos::Left, Down::Top, SMALL, MUTED)?;
    for (index, name) in matrix.columns.iter().enumerate() {
        let middle = left + (index as f64 + 0.5) * layout.cell;
        canvas.upright(&fit(name, SMALL, NAME), (middle, top - GAP / 2.0), SMALL, MUTED)?;
    }
    for (row, (name, cells)) in matrix.rows.iter().enumerate() {
        let upper = top + row as f64 * CELL_HEIGHT;
        let middle = upper + CELL_HEIGHT / 2.0;
        canvas.text(
            &fit(name, SMALL, NAME),
            (left - GAP, middle),
            HPos::Right,
            Down::Middle,
            SMALL,
            MUTED,
        )?;
        for (column, Shaded { text, shade, .. }) in cells.iter().enumerate() {
            let from = left + column as f64 * layout.cell;
            let corners = rectangle((from + 0.5, upper + 0.5), (layout.cell - 1.0, CELL_HEIGHT - 1.0));
            canvas.polygon(&corners, side(*shade > 0.0), OPACITY * shade.abs().min(1.0))?;
            canvas.text(text, (from + layout.cell / 2.0, middle), HPos::Center, Down::Middle, SMALL, 1.0)?;
        }
    }
    // Frames last: nothing may cover them.
    for (row, (_, cells)) in matrix.rows.iter().enumerate() {
        for (column, _) in cells.iter().enumerate().filter(|(_, cell)| cell.framed) {
            let corner = (left + column as f64 * layout.cell, top + row as f64 * CELL_HEIGHT);
            let mut frame = rectangle(corner, (layout.cell, CELL_HEIGHT)).to_vec();
            frame.push(corner);
            canvas.line(&frame, INK, 1.0, 1.5)?;
        }
    }
    Ok(())
}

fn rectangle((x, y): At, (width, height): At) -> [At; 4] {
    [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
}

//! Overviews as text for a terminal.

use std::fmt::Write;

use prospect_core::visible::{clipped, visible};

use super::{ContentBlock, Conversation, DisplayTable, HistogramChart, HistogramSeries, Overview, TableCell};

/// Maximum number of characters of a turn.
const MAX_CHARACTERS: usize = 400;

/// Returns the overview as text; line charts and JSON documents are omitted.
pub(super) fn text(overview: &Overview) -> String {
    let mut lines = vec![visible(&overview.title).into_owned()];
    lines.extend(overview.lead.iter().map(|line| visible(line).into_owned()));
    lines.extend(overview.warnings.iter().map(|warning| format!("warning: {}", visible(warning))));
    for section in &overview.sections {
        let shown: Vec<&ContentBlock> = section
            .blocks
            .iter()
            .filter(|block| !matches!(block, ContentBlock::Document(_) | ContentBlock::LineChart(_)))
            .collect();
        if shown.is_empty() {
            continue;
        }
        lines.extend([String::new(), format!("== {}", visible(&section.title))]);
        for block in shown {
            match block {
                ContentBlock::Note(note) => lines.push(visible(note).into_owned()),
                ContentBlock::Table(table) => lines.extend(table_lines(table)),
                ContentBlock::Histogram(histogram) => lines.extend(histogram_lines(histogram)),
                ContentBlock::Conversations(conversations) => {
                    lines.extend(conversations.iter().flat_map(conversation_lines));
                }
                ContentBlock::Document(_) | ContentBlock::LineChart(_) => {}
            }
        }
    }
    lines.join("\n")
}

fn table_lines(table: &DisplayTable) -> Vec<String> {
    let heads = table.columns.iter().map(|head| visible(head).into_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads)
        .chain(table.rows.iter().map(|row| row.iter().map(TableCell::text).collect()))
        .collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    // A column is numeric if the cell of its first row is.
    let number = |column: usize| {
        table
            .rows
            .first()
            .and_then(|row| row.get(column))
            .is_some_and(|cell| !matches!(cell, TableCell::Text(_)))
    };
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for ((column, cell), width) in row.iter().enumerate().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = if number(column) {
                write!(line, "  {cell:>width$}")
            } else {
                write!(line, "  {cell:<width$}")
            };
        }
        line.trim_end().to_owned()
    };
    let title = (!table.title.is_empty()).then(|| visible(&table.title).into_owned());
    title.into_iter().chain(rows.iter().map(line)).collect()
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns one line of bars for each series, scaled to its highest bin.
fn histogram_lines(histogram: &HistogramChart) -> Vec<String> {
    let names: Vec<_> = histogram.series.iter().map(|series| visible(&series.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let end = histogram.series.iter().map(|series| series.counts.len()).max().unwrap_or(0) * histogram.width;
    let more = if histogram.open { " and more" } else { "" };
    let mut lines = vec![format!("{}: {}, 0 to {end}{more}", visible(&histogram.title), histogram.label)];
    for (name, HistogramSeries { counts, .. }) in names.iter().zip(&histogram.series) {
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let bar = |count: &u64| match count {
            0 => ' ',
            // Rounded up, so that small counts remain visible.
            count => BARS.get((count * 8).div_ceil(most) as usize - 1).copied().unwrap_or('█'),
        };
        let bars: String = counts.iter().map(bar).collect();
        lines.push(format!("  {name:<width$}  {}", bars.trim_end()));
    }
    lines
}

fn conversation_lines(conversation: &Conversation) -> Vec<String> {
    let mut lines = vec![format!("- {}", visible(&conversation.facts.join(", ")))];
    for turn in &conversation.turns {
        let mark = if turn.marked { '>' } else { ' ' };
        let content = visible(&turn.content).replace('\n', "\n      ");
        lines.push(format!("  {mark} {}: {}", visible(&turn.role), clipped(&content, MAX_CHARACTERS)));
    }
    lines
}

//! Differences from the baseline as a plot for a terminal.

use prospect_core::visible::visible;
use prospect_runs::{Contrast, Estimate, Measure, SweepDir, Verdict};

use crate::{
    ReportError, format,
    sections::{contrasts::conclusion, forest},
    sweep_data::SweepData,
};

/// Output of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalStyle {
    /// Lines of text, for files and pipes.
    Plain,
    /// A plot of this many columns.
    Plot {
        /// Width in columns.
        width: usize,
        /// Colours significant differences.
        is_coloured: bool,
    },
}

/// Narrowest and widest plot, in columns.
const WIDTHS: [usize; 2] = [40, 110];
/// Columns for a row's label and for its numbers, beyond which they are cut.
const MAX_LABEL: usize = 24;

/// Returns the differences of a summarised sweep from its baseline, with their intervals; empty
/// without comparisons.
///
/// A row shows the 95 % interval as a thick line, the interval that decides the verdict as a thin
/// line, and differences too small to be detected as shading.
pub fn differences(sweep: &SweepDir, style: TerminalStyle) -> Result<String, ReportError> {
    let sweep = SweepData::read(sweep)?;
    let measures = [Measure::Accuracy, Measure::Auc, Measure::Utility];
    let lines = measures.into_iter().flat_map(|measure| {
        let contrasts: Vec<&Contrast> =
            forest::groups(&sweep, measure).into_iter().flat_map(|(_, contrasts)| contrasts).collect();
        measure_lines(&sweep, measure, &contrasts, style)
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// A row of the plot.
struct Row<'a> {
    label: String,
    contrast: &'a Contrast,
    /// Difference and conclusion.
    text: String,
}

fn measure_lines(
    sweep: &SweepData,
    measure: Measure,
    contrasts: &[&Contrast],
    style: TerminalStyle,
) -> Vec<String> {
    let Some(first) = contrasts.first() else { return Vec::new() };
    let (name, scale, digits) = match measure {
        Measure::Accuracy => ("held-out accuracy, points", 100.0, 1),
        Measure::Auc => ("held-out AUC, points", 100.0, 1),
        Measure::Utility => ("true utility of completions", 1.0, 2),
    };
    let signed = |value: f64| {
        let text = format::fixed(scale * value, digits);
        if value > 0.0 { format!("+{text}") } else { text }
    };
    let row = |contrast: &&'_ Contrast| {
        let at_x = if sweep.x.values().len() > 1 {
            format!(", {}", sweep.x.name(contrast.x))
        } else {
            String::new()
        };
        let Estimate { value, low, high } = contrast.difference;
        let interval = match style {
            TerminalStyle::Plain => format!(" ({} to {})", signed(low), signed(high)),
            TerminalStyle::Plot { .. } => String::new(),
        };
        (
            visible(&format!("{}{at_x}", contrast.series)).into_owned(),
            format!("{}{interval}, {}", signed(value), conclusion(contrast)),
        )
    };
    let rows: Vec<Row<'_>> = contrasts
        .iter()
        .map(|contrast| {
            let (label, text) = row(contrast);
            Row { label, contrast, text }
        })
        .collect();
    let title = format!("Difference from {} in {name}", visible(&first.baseline));
    let mut lines = vec![title];
    match style {
        TerminalStyle::Plain => {
            lines.extend(rows.iter().map(|row| format!("  {}: {}", row.label, row.text)));
        }
        TerminalStyle::Plot { width, is_coloured } => {
            lines.extend(plot(&rows, width.clamp(WIDTHS[0], WIDTHS[1]), is_coloured, signed));
        }
    }
    lines
}

/// Horizontal axis of a plot: columns of values from −`reach` to `reach`.
struct ColumnAxis {
    columns: usize,
    reach: f64,
}

impl ColumnAxis {
    fn column(&self, value: f64) -> usize {
        let last = (self.columns - 1) as f64;
        let fraction = f64::midpoint(1.0, (value / self.reach).clamp(-1.0, 1.0));
        (fraction * last).round() as usize
    }
}

fn plot(rows: &[Row<'_>], width: usize, is_coloured: bool, signed: impl Fn(f64) -> String) -> Vec<String> {
    let longest = |text: &dyn Fn(&Row<'_>) -> usize| rows.iter().map(text).max().unwrap_or(0);
    let label_width = longest(&|row| row.label.chars().count()).min(MAX_LABEL);
    let text_width = longest(&|row| row.text.chars().count());
    let used = label_width + text_width + 4;
    // Where the numbers do not fit beside the plot, they are in a line of their own.
    let is_stacked = width < used + 15;
    let columns = if is_stacked { width - 2 } else { width - used };
    // An odd number of columns has one in the middle.
    let columns = columns - (columns + 1) % 2;
    let sizes = rows.iter().flat_map(|row| {
        let Estimate { low, high, .. } = row.contrast.difference;
        [low.abs(), high.abs()]
    });
    let reach = sizes.filter(|size| size.is_finite()).fold(0.0, f64::max);
    let axis = ColumnAxis { columns, reach: if reach > 0.0 { 1.05 * reach } else { 1.0 } };
    let indent = if is_stacked { 2 } else { label_width + 2 };
    let mut lines = Vec::new();
    for row in rows {
        let bar = bar(row.contrast, &axis);
        let significant = row.contrast.verdict != Verdict::Inconclusive;
        let coloured = |text: &str| match (is_coloured && significant, row.contrast.difference.value > 0.0) {
            (true, true) => format!("\u{1b}[32m{text}\u{1b}[0m"),
            (true, false) => format!("\u{1b}[31m{text}\u{1b}[0m"),
            (false, _) => text.to_owned(),
        };
        let label: String = row.label.chars().take(MAX_LABEL).collect();
        if is_stacked {
            lines.push(format!("{label}: {}", coloured(&row.text)));
            lines.push(format!("  {}", coloured(&bar)).trim_end().to_owned());
        } else {
            lines.push(format!("{label:<label_width$}  {}  {}", coloured(&bar), coloured(&row.text)));
        }
    }
    let ends = [signed(-axis.reach), signed(axis.reach)];
    let gap = (columns / 2).saturating_sub(ends[0].chars().count());
    let after = (columns - columns / 2 - 1).saturating_sub(ends[1].chars().count());
    lines.push(format!("{:indent$}{}{:gap$}0{:after$}{}", "", ends[0], "", "", ends[1]));
    lines
}

/// Draws the intervals of a difference: `━` for the 95 % interval, `─` for the one that decides the
/// verdict, `░` for differences too small to be detected, and `●` for the difference.
fn bar(contrast: &Contrast, axis: &ColumnAxis) -> String {
    let mut cells = vec![' '; axis.columns];
    let mut fill = |from: f64, to: f64, mark: char| {
        let (from, to) = (axis.column(from), axis.column(to));
        cells.iter_mut().take(to + 1).skip(from).for_each(|cell| *cell = mark);
    };
    if let Some(detectable) = contrast.detectable {
        fill(-detectable, detectable, '░');
    }
    let contains_zero = |estimate: Estimate| estimate.low <= 0.0 && estimate.high >= 0.0;
    let mut zero = '│';
    for (interval, line, crossing) in [(contrast.adjusted, '─', '┼'), (Some(contrast.difference), '━', '┿')]
    {
        let Some(interval) = interval else { continue };
        fill(interval.low, interval.high, line);
        if contains_zero(interval) {
            zero = crossing;
        }
    }
    fill(0.0, 0.0, zero);
    let value = contrast.difference.value;
    fill(value, value, '●');
    cells.into_iter().collect()
}

#[cfg(test)]
mod tests;

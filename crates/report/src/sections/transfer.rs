//! Heat maps of held-out accuracy: training data (rows) against test data (columns).

use prospect_runs::DataUse;

use super::means::{MeanTable, PairGrouping};
use crate::{
    format,
    render::figure::{Content, Figure, Heatmap, HeatmapCell, HeatmapRow, Panel},
    sweep_data::{SweepData, XValue},
};

/// Maximum number of columns with one decimal; wider heat maps show whole percents.
const MAX_DECIMAL_COLUMNS: usize = 10;

/// Returns held-out accuracy by domain or source, with one heat map for each series.
///
/// Rows are the x values and columns those of `means`. Returns `None` if the x values are numbers.
pub(crate) fn figure(sweep: &SweepData, origin: PairGrouping, means: &MeanTable) -> Option<Figure> {
    if sweep.x.is_numeric() || sweep.x.values().len() < 2 {
        return None;
    }
    let columns = ordered_columns(sweep, &means.columns);
    let panels: Vec<Panel> =
        sweep.series.iter().filter_map(|series| panel(sweep, origin, means, &columns, series)).collect();
    let framed = panels.iter().any(|panel| match &panel.content {
        Content::Heatmap(heatmap) => heatmap.rows.iter().flat_map(|row| &row.cells).any(|cell| cell.framed),
        Content::Plot { .. } | Content::Forest(_) => false,
    });
    let mut caption =
        "Share of held-out pairs whose chosen completion has the higher reward, in percent, mean over seeds. Blue is \
         above chance (50), orange below."
            .to_owned();
    if framed {
        caption.push_str(" Frames mark the domains that the policy was trained on.");
    }
    (!panels.is_empty()).then(|| Figure {
        name: format!("transfer-{origin}"),
        title: format!("Held-out accuracy by {origin} and {}", sweep.x.label()),
        caption,
        legend: Vec::new(),
        panels,
    })
}

fn panel(
    sweep: &SweepData,
    origin: PairGrouping,
    means: &MeanTable,
    columns: &[usize],
    series: &str,
) -> Option<Panel> {
    let deviations = means.rows.iter().flat_map(|row| &row.values).flatten().map(|share| (share - 0.5).abs());
    let max_deviation = deviations.fold(0.1, f64::max);
    let decimals = usize::from(columns.len() <= MAX_DECIMAL_COLUMNS);
    let mut facts = Vec::new();
    let row = |x: &XValue| {
        let row = means.rows.iter().find(|row| row.series == series && row.x == x.name)?;
        let trained_on = train_domains(sweep, x.value);
        let cell = |column: &usize| {
            let share = row.values[*column];
            let text = share.map(|share| format::fixed(100.0 * share, decimals));
            if let Some(text) = &text {
                facts.push(format!("{} on {}: {text} %", x.name, means.columns[*column]));
            }
            HeatmapCell {
                text: text.unwrap_or_else(|| "–".to_owned()),
                shade: share.map_or(0.0, |share| (share - 0.5) / max_deviation),
                framed: trained_on.contains(&means.columns[*column].as_str()),
            }
        };
        Some(HeatmapRow { name: x.name.clone(), cells: columns.iter().map(cell).collect() })
    };
    let rows: Vec<HeatmapRow> = sweep.x.values().iter().filter_map(row).collect();
    (!rows.is_empty()).then(|| Panel {
        title: series.to_owned(),
        description: format!("Held-out accuracy of {series}. {}.", facts.join("; ")),
        content: Content::Heatmap(Heatmap {
            label: format!("rows: {}, columns: held-out {origin}", sweep.x.label()),
            columns: columns.iter().map(|column| means.columns[*column].clone()).collect(),
            rows,
        }),
    })
}

/// Returns the training domains of the runs at an x value, if the pipeline selected them.
fn train_domains(sweep: &SweepData, x: f64) -> Vec<&str> {
    let run = sweep.runs.iter().find(|run| sweep.x.of_run(run) == Some(x));
    let data = run.and_then(|run| sweep.experiment.data.get(run.planned.data));
    data.map(DataUse::train_domains).unwrap_or_default()
}

/// Returns column indices: first the domains in the order of the rows that trained on them, then
/// the others.
fn ordered_columns(sweep: &SweepData, names: &[String]) -> Vec<usize> {
    let row = |name: &String| {
        let mut rows = sweep.x.values().iter();
        rows.position(|x| train_domains(sweep, x.value).contains(&name.as_str())).unwrap_or(usize::MAX)
    };
    let mut columns: Vec<usize> = (0..names.len()).collect();
    columns.sort_by_key(|column| row(&names[*column]));
    columns
}

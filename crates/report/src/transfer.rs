//! What is trained on against what it is tested on, as heat maps.

use prospect_runs::PlannedRun;

use crate::{
    figure::{Content, Figure, Matrix, Panel, Shaded},
    grids::Grid,
    sweep::Sweep,
    text,
};

/// With more columns than this, cells show whole percents.
const WIDE: usize = 10;

/// Held-out accuracy by `kind` (domain or source) as one heat map for each series, where the x axis has names: rows are its
/// values, columns the parts of `grid`.
pub(crate) fn figure(sweep: &Sweep, kind: &str, grid: &Grid) -> Option<Figure> {
    if sweep.x.is_numeric() || sweep.x.values().len() < 2 {
        return None;
    }
    let columns = ordered(sweep, &grid.columns);
    let off = grid.rows.iter().flat_map(|row| &row.values).flatten().map(|share| (share - 0.5).abs());
    let most = off.fold(0.1, f64::max);
    let panel = |series: &String| {
        let mut facts = Vec::new();
        let row = |(x, name): &(f64, String)| {
            let row = grid.rows.iter().find(|row| row.series == *series && row.x == *name)?;
            let cell = |column: &usize| {
                let own = trained_on(sweep, *x).contains(&grid.columns[*column].as_str());
                let share = row.values[*column];
                let shown = share.map(|share| match columns.len() {
                    count if count > WIDE => text::fixed(100.0 * share, 0),
                    _ => text::fixed(100.0 * share, 1),
                });
                if let Some(shown) = &shown {
                    facts.push(format!("{name} on {}: {shown} %", grid.columns[*column]));
                }
                Shaded {
                    text: shown.unwrap_or_else(|| "–".to_owned()),
                    shade: share.map_or(0.0, |share| (share - 0.5) / most),
                    framed: own,
                }
            };
            Some((name.clone(), columns.iter().map(cell).collect()))
        };
        let rows: Vec<(String, Vec<Shaded>)> = sweep.x.values().iter().filter_map(row).collect();
        (!rows.is_empty()).then(|| Panel {
            title: series.clone(),
            description: format!("Held-out accuracy of {series}. {}.", facts.join("; ")),
            content: Content::Matrix(Matrix {
                label: format!("rows: {}, columns: held-out {kind}", sweep.x.label()),
                columns: columns.iter().map(|column| grid.columns[*column].clone()).collect(),
                rows,
            }),
        })
    };
    let panels: Vec<Panel> = sweep.series.iter().filter_map(panel).collect();
    let framed = panels.iter().any(|panel| match &panel.content {
        Content::Matrix(matrix) => matrix.rows.iter().flat_map(|(_, cells)| cells).any(|cell| cell.framed),
        Content::Plot { .. } => false,
    });
    let mut caption = "Share of held-out pairs whose chosen completion has the larger reward, in percent, mean over seeds. Blue is above \
                       chance (50), orange below it; the deeper, the further."
        .to_owned();
    if framed {
        caption.push_str(" Framed: what the policy was trained on.");
    }
    (!panels.is_empty()).then(|| Figure {
        name: format!("transfer-{kind}"),
        title: format!("Held-out accuracy of each {kind}, by {}", sweep.x.label()),
        caption,
        legend: Vec::new(),
        panels,
    })
}

/// The domains that the runs at an x value were trained on, where they were chosen.
fn trained_on(sweep: &Sweep, x: f64) -> Vec<&str> {
    let run = sweep.runs.iter().find(|run| sweep.x.of_run(run) == Some(x));
    let data = run.and_then(|run| {
        let PlannedRun { data, .. } = run.planned;
        sweep.experiment.data.get(data)
    });
    let chosen = data.and_then(|data| data.manifest.pointer("/config/select/train_domains"));
    let chosen = chosen.and_then(serde_json::Value::as_array);
    chosen.into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
}

/// The columns in the order of the rows that were trained on them, then the others.
fn ordered(sweep: &Sweep, names: &[String]) -> Vec<usize> {
    let row = |name: &String| {
        let mut rows = sweep.x.values().iter();
        rows.position(|(x, _)| trained_on(sweep, *x).contains(&name.as_str())).unwrap_or(usize::MAX)
    };
    let mut columns: Vec<usize> = (0..names.len()).collect();
    columns.sort_by_key(|column| row(&names[*column]));
    columns
}

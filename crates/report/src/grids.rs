//! Tables of means over seeds, one row for each series and x value.

use std::collections::BTreeSet;

use prospect_runs::RecordKind;
use serde::Serialize;

use crate::{
    sweep::{Cell, Run, Sweep},
    tables::Table,
    text,
};

/// A table as the page shows it: a row's first cells say where it is from, the others are numbers.
#[derive(Serialize)]
pub(crate) struct Grid {
    /// Anchor, and name of the CSV file.
    pub(crate) name: &'static str,
    title: String,
    caption: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    #[serde(skip)]
    csv_columns: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) x: String,
    pub(crate) series: String,
    cells: Vec<String>,
    #[serde(skip)]
    pub(crate) values: Vec<Option<f64>>,
}

/// What a run has to say in a column.
type Value<'a> = dyn Fn(&Run) -> Option<f64> + 'a;

/// A column: its head, its name in the CSV file, how numbers look in it, and where they are from.
struct Column<'a> {
    head: String,
    name: String,
    show: fn(f64) -> String,
    value: Box<Value<'a>>,
}

impl Grid {
    fn of(
        sweep: &Sweep,
        name: &'static str,
        title: &str,
        caption: &str,
        columns: &[Column<'_>],
    ) -> Option<Self> {
        let row = |cell: Cell<'_>| {
            let values: Vec<Option<f64>> = columns.iter().map(|column| cell.mean(&column.value)).collect();
            let show = |(column, value): (&Column<'_>, &Option<f64>)| {
                value.map_or_else(|| "–".to_owned(), column.show)
            };
            let cells = columns.iter().zip(&values).map(show).collect();
            values.iter().any(Option::is_some).then(|| Row {
                x: cell.x_name.clone(),
                series: cell.series.clone(),
                cells,
                values,
            })
        };
        let rows: Vec<Row> = sweep.cells().into_iter().filter_map(row).collect();
        (!rows.is_empty()).then(|| Self {
            name,
            title: title.to_owned(),
            caption: caption.to_owned(),
            columns: columns.iter().map(|column| column.head.clone()).collect(),
            csv_columns: columns.iter().map(|column| column.name.clone()).collect(),
            rows,
        })
    }

    /// The same at full precision.
    pub(crate) fn table(&self) -> Table {
        let number = |value: &Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let row = |row: &Row| {
            let place = [row.x.clone(), row.series.clone()];
            place.into_iter().chain(row.values.iter().map(number)).collect()
        };
        Table {
            name: self.name,
            columns: ["x_name", "series"]
                .map(str::to_owned)
                .into_iter()
                .chain(self.csv_columns.clone())
                .collect(),
            rows: self.rows.iter().map(row).collect(),
        }
    }
}

fn column<'a>(
    head: &str,
    name: &str,
    show: fn(f64) -> String,
    value: impl Fn(&Run) -> Option<f64> + 'a,
) -> Column<'a> {
    Column { head: head.to_owned(), name: name.to_owned(), show, value: Box::new(value) }
}

/// What became of clean and of corrupted training rows.
pub(crate) fn noise(sweep: &Sweep) -> Option<Grid> {
    let pair = |head: &str, key: &'static str, show: fn(f64) -> String, held_out: bool| {
        ["clean", "corrupted"].map(|class| {
            let metric = format!("{}{key}/{class}", if held_out { "eval_noise/" } else { "noise/" });
            let name = metric.replace('/', "_");
            column(&format!("{head}, {class}"), &name, show, move |run| {
                if held_out { run.last(RecordKind::Eval, &metric) } else { run.late(&metric) }
            })
        })
    };
    let columns = [
        pair("Weight", "gradient_weight", text::number, false),
        pair("Reward", "rewards", text::number, false),
        pair("Agrees", "agreement", text::percent, true),
    ];
    Grid::of(
        sweep,
        "noise",
        "Clean and corrupted training rows",
        "Gradient weight (1 is the mean of a batch) and reward, counted towards the labels as they are, over the last quarter of \
         the steps; and the share of training pairs, exchanged by noise or left alone, whose order the final policy agrees with. \
         A method that ignores noise has a low weight and a low agreement in the corrupted columns.",
        columns.as_flattened(),
    )
}

/// What there is to say of generated completions.
pub(crate) fn generations(sweep: &Sweep) -> Option<Grid> {
    let of = |head: &str, name: &'static str, show: fn(f64) -> String| {
        column(head, name, show, move |run| run.last(RecordKind::Eval, &format!("eval_generations/{name}")))
    };
    Grid::of(
        sweep,
        "generated",
        "Generated completions",
        "Length in tokens beside that of the chosen completions; share that ended by itself; distinct words and pairs of words \
         among all; share of runs of four words that repeat within a completion; entropy of the next token and log π/π_ref of a \
         completion, in nats; true utility where the data knows it.",
        &[
            of("Length", "length", text::number),
            of("Chosen", "chosen_length", text::number),
            of("Ended", "ended", text::percent),
            of("Distinct‑1", "distinct_1", text::percent),
            of("Distinct‑2", "distinct_2", text::percent),
            of("Repetition", "repetition", text::percent),
            of("Entropy", "entropy", text::number),
            of("Log‑ratio", "kl", text::number),
            of("Utility", "utility", text::number),
        ],
    )
}

/// Held-out accuracy by `kind`: `domain` or `source`.
pub(crate) fn accuracy_by(sweep: &Sweep, kind: &'static str) -> Option<Grid> {
    let prefix = format!("eval_rewards/accuracies/{kind}/");
    let names: BTreeSet<&str> = sweep
        .runs
        .iter()
        .flat_map(|run| &run.metrics)
        .filter(|record| record.kind == RecordKind::Eval)
        .flat_map(|record| record.values.keys().filter_map(|key| key.strip_prefix(&prefix)))
        .collect();
    let columns: Vec<Column<'_>> = names
        .into_iter()
        .map(|name| {
            let key = format!("{prefix}{name}");
            column(name, name, text::percent, move |run| run.last(RecordKind::Eval, &key))
        })
        .collect();
    let name = if kind == "domain" { "domains" } else { "sources" };
    Grid::of(
        sweep,
        name,
        &format!("Held-out accuracy by {kind}"),
        "Share of held-out pairs whose chosen completion has the larger reward, mean over seeds.",
        &columns,
    )
}

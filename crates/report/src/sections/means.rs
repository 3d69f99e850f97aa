//! Tables of means over seeds, with one row for each series and x value.

use std::collections::BTreeSet;

use prospect_runs::RecordKind;
use serde::Serialize;

use crate::{
    format,
    sweep_data::{RunData, RunGroup, SweepData},
};

/// The tables of means that the sweep has values for.
pub(crate) struct MeanTables {
    pub(crate) noise: Option<MeanTable>,
    /// Changes of held-out log-probabilities, the largest fall first.
    pub(crate) likelihood: Option<MeanTable>,
    pub(crate) generations: Option<MeanTable>,
    /// Held-out accuracy by domain and by source.
    pub(crate) origins: Vec<(PairGrouping, MeanTable)>,
}

impl MeanTables {
    /// Computes the tables of a sweep.
    pub(crate) fn new(sweep: &SweepData) -> Self {
        let origins = [PairGrouping::Domain, PairGrouping::Source];
        let origins = origins.into_iter().filter_map(|origin| Some((origin, accuracy_by(sweep, origin)?)));
        Self {
            noise: noise(sweep),
            likelihood: likelihood(sweep),
            generations: generations(sweep),
            origins: origins.collect(),
        }
    }

    /// Returns all tables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &MeanTable> {
        let Self { noise, likelihood, generations, origins } = self;
        origins.iter().map(|(_, table)| table).chain(noise).chain(likelihood).chain(generations)
    }
}

/// Grouping of held-out pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum PairGrouping {
    Domain,
    Source,
}

/// A table of means over seeds.
#[derive(Serialize)]
pub(crate) struct MeanTable {
    /// Anchor in the page and name of the CSV file.
    pub(crate) name: &'static str,
    title: String,
    caption: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<MeanRow>,
    #[serde(skip)]
    pub(crate) csv_columns: Vec<String>,
}

/// Means of one series at one x value.
#[derive(Serialize)]
pub(crate) struct MeanRow {
    pub(crate) x: String,
    pub(crate) series: String,
    cells: Vec<String>,
    #[serde(skip)]
    pub(crate) values: Vec<Option<f64>>,
}

/// Value of a run in a column.
type RunValue<'a> = dyn Fn(&RunData) -> Option<f64> + 'a;

/// A column of a [`MeanTable`].
struct MeanColumn<'a> {
    heading: String,
    csv_name: String,
    format: fn(f64) -> String,
    value: Box<RunValue<'a>>,
}

impl<'a> MeanColumn<'a> {
    fn new(
        heading: &str,
        csv_name: &str,
        format: fn(f64) -> String,
        value: impl Fn(&RunData) -> Option<f64> + 'a,
    ) -> Self {
        Self { heading: heading.to_owned(), csv_name: csv_name.to_owned(), format, value: Box::new(value) }
    }
}

impl MeanTable {
    /// Computes a table, or returns `None` if no run has a value.
    fn new(
        sweep: &SweepData,
        name: &'static str,
        title: &str,
        caption: &str,
        columns: &[MeanColumn<'_>],
    ) -> Option<Self> {
        let row = |group: RunGroup<'_>| {
            let values: Vec<Option<f64>> = columns.iter().map(|column| group.mean(&column.value)).collect();
            let cell = |(column, value): (&MeanColumn<'_>, &Option<f64>)| {
                value.map_or_else(|| "–".to_owned(), column.format)
            };
            let cells = columns.iter().zip(&values).map(cell).collect();
            values.iter().any(Option::is_some).then(|| MeanRow {
                x: group.x_name.clone(),
                series: group.series.clone(),
                cells,
                values,
            })
        };
        let rows: Vec<MeanRow> = sweep.run_groups().into_iter().filter_map(row).collect();
        (!rows.is_empty()).then(|| Self {
            name,
            title: title.to_owned(),
            caption: caption.to_owned(),
            columns: columns.iter().map(|column| column.heading.clone()).collect(),
            csv_columns: columns.iter().map(|column| column.csv_name.clone()).collect(),
            rows,
        })
    }
}

/// Returns metrics for clean and corrupted training rows.
fn noise(sweep: &SweepData) -> Option<MeanTable> {
    let pair = |heading: &str, key: &'static str, format: fn(f64) -> String, held_out: bool| {
        ["clean", "corrupted"].map(|class| {
            let metric = format!("{}{key}/{class}", if held_out { "eval_noise/" } else { "noise/" });
            let name = metric.replace('/', "_");
            MeanColumn::new(&format!("{heading}, {class}"), &name, format, move |run| {
                if held_out { run.last(RecordKind::Eval, &metric) } else { run.late_mean(&metric) }
            })
        })
    };
    let columns = [
        pair("Weight", "gradient_weight", format::number, false),
        pair("Reward", "rewards", format::number, false),
        pair("Agreement", "agreement", format::percent, true),
    ];
    MeanTable::new(
        sweep,
        "noise",
        "Clean and corrupted training rows",
        "Gradient weight (1 is the batch mean) and reward, signed by the given labels, over the last quarter of the \
         steps. Agreement is the share of training pairs whose given order matches that of the final policy. A method \
         that is robust to noise has a low weight and a low agreement in the corrupted columns.",
        columns.as_flattened(),
    )
}

/// Returns the changes of log π of held-out completions during training, ordered by that of the
/// chosen ones.
fn likelihood(sweep: &SweepData) -> Option<MeanTable> {
    let change = |class: &'static str| {
        let metric = format!("eval_logps/{class}");
        let name = format!("{class}_change");
        MeanColumn::new(&format!("Change of log π, {class}"), &name, format::signed, move |run| {
            let first = run.first(RecordKind::Eval, &metric)?;
            Some(run.last(RecordKind::Eval, &metric)? - first)
        })
    };
    let fallen = MeanColumn::new("Chosen less likely", "chosen_fallen", format::percent, |run| {
        run.last(RecordKind::Eval, "eval_logps/chosen_fallen")
    });
    let mut table = MeanTable::new(
        sweep,
        "likelihood",
        "Change of the likelihood of held-out completions",
        "Mean change of log π during training, in nats, the largest fall of chosen completions first, and the share of \
         chosen completions that are less likely than under the reference. Most objectives make both classes less \
         likely: where chosen ones fall far, probability has moved to completions outside the dataset, and the \
         generations show where.",
        &[change("chosen"), change("rejected"), fallen],
    )?;
    let fall = |row: &MeanRow| row.values.first().copied().flatten().unwrap_or(f64::INFINITY);
    table.rows.sort_by(|a, b| fall(a).total_cmp(&fall(b)));
    Some(table)
}

/// Returns statistics of generated completions.
fn generations(sweep: &SweepData) -> Option<MeanTable> {
    let column = |heading: &str, name: &'static str, format: fn(f64) -> String| {
        let metric = format!("eval_generations/{name}");
        MeanColumn::new(heading, name, format, move |run| run.last(RecordKind::Eval, &metric))
    };
    MeanTable::new(
        sweep,
        "generated",
        "Generated completions",
        "Length in tokens, next to that of the chosen completions; share of completions that ended with an \
         end-of-sequence token; distinct-1 and distinct-2 (share of distinct words and bigrams); share of repeated \
         4-grams within a completion; entropy of the next token and log π/π_ref of a completion, in nats; KL divergence \
         from the reference of completions sampled at temperature 1, in nats, if the experiment samples any; true \
         utility if the dataset defines it.",
        &[
            column("Length", "length", format::number),
            column("Chosen", "chosen_length", format::number),
            column("Ended", "ended", format::percent),
            column("Distinct‑1", "distinct_1", format::percent),
            column("Distinct‑2", "distinct_2", format::percent),
            column("Repetition", "repetition", format::percent),
            column("Entropy", "entropy", format::number),
            column("Log‑ratio", "kl", format::number),
            MeanColumn::new("KL", "sampled_kl", format::number, |run| {
                run.last(RecordKind::Eval, "eval_samples/kl")
            }),
            column("Utility", "utility", format::number),
        ],
    )
}

/// Returns held-out accuracy by domain or source.
fn accuracy_by(sweep: &SweepData, origin: PairGrouping) -> Option<MeanTable> {
    let prefix = format!("eval_rewards/accuracies/{origin}/");
    let names: BTreeSet<&str> = sweep
        .runs
        .iter()
        .flat_map(|run| &run.metrics)
        .filter(|record| record.kind == RecordKind::Eval)
        .flat_map(|record| record.values.keys().filter_map(|key| key.strip_prefix(&prefix)))
        .collect();
    let columns: Vec<MeanColumn<'_>> = names
        .into_iter()
        .map(|name| {
            let key = format!("{prefix}{name}");
            MeanColumn::new(name, name, format::percent, move |run| run.last(RecordKind::Eval, &key))
        })
        .collect();
    MeanTable::new(
        sweep,
        match origin {
            PairGrouping::Domain => "domains",
            PairGrouping::Source => "sources",
        },
        &format!("Held-out accuracy by {origin}"),
        "Share of held-out pairs whose chosen completion has the higher reward, mean over seeds.",
        &columns,
    )
}

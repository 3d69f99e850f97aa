//! `prospect sweep --estimate`: what a sweep will take, from a few measured steps.

use std::time::Duration;

use prospect_report::overview::{self, ContentBlock, DisplayTable, Overview, Section, TableCell};
use prospect_runs::SweepDir;
use prospect_sweep::{Cost, Execution, KindCost, Place, Plan, estimate};

use crate::output;

/// Measures, and prints what is to do.
pub(super) fn print(
    plan: &Plan,
    sweep: &SweepDir,
    how: &Execution,
    limit: Option<Duration>,
) -> anyhow::Result<()> {
    let cost = estimate(plan, sweep, how)?;
    Ok(output::print(overview(plan, &cost, limit).text())?)
}

fn overview(plan: &Plan, cost: &Cost, limit: Option<Duration>) -> Overview {
    let [likely, low, high] = cost.seconds().map(overview::duration);
    let measured: usize = cost.kinds.iter().map(|kind| kind.measured.len()).sum();
    let mut lead = vec![if cost.kinds.is_empty() {
        "to do: nothing".to_owned()
    } else {
        format!(
            "to do: {} runs, about {likely} at one run at a time ({low} to {high} by the fastest and the slowest steps); an \
             estimate from {measured} measured steps",
            cost.runs()
        )
    }];
    if let Some(limit) = limit {
        let hours = overview::duration(limit.as_secs_f64());
        lead.push(format!("{} of {} runs fit into {hours}", cost.fitting(limit), cost.runs()));
    }
    let heads = [
        "kind",
        "model",
        "start",
        "runs",
        "steps",
        "s/step",
        "range",
        "known",
        "evaluation",
        "reading",
        "hours",
        "memory",
    ];
    let table = DisplayTable {
        title: String::new(),
        columns: heads.map(str::to_owned).to_vec(),
        rows: cost.kinds.iter().map(row).chain(total(cost)).collect(),
    };
    let blocks = if cost.kinds.is_empty() {
        Vec::new()
    } else {
        vec![
            ContentBlock::Table(table),
            ContentBlock::Note(
                "Known are steps whose batches an earlier run has asked the reference about, and seconds of one. Evaluation and reading \
                 are seconds of all runs together. Memory is the most that the process had at once while \
                 a kind was measured, with what it keeps of earlier ones; a GPU's is not in it."
                    .to_owned(),
            ),
        ]
    };
    Overview {
        title: plan.question.clone(),
        lead,
        warnings: Vec::new(),
        sections: vec![Section { title: "What runs take".to_owned(), blocks }],
    }
}

fn row(kind: &KindCost) -> Vec<TableCell> {
    let start = match kind.place {
        Place::Stage => "shared stage",
        Place::AfterSft => "sft",
        Place::Base => "base",
    };
    let range = match (kind.measured.first(), kind.measured.last()) {
        (Some(low), Some(high)) => format!("{low:.3}–{high:.3}"),
        _ => String::new(),
    };
    vec![
        TableCell::Text(kind.objectives.join(", ")),
        TableCell::Text(kind.model.clone()),
        TableCell::Text(start.to_owned()),
        TableCell::count(kind.runs as u64),
        TableCell::count(kind.steps),
        TableCell::Number(format!("{:.3}", kind.step())),
        TableCell::Number(range),
        TableCell::Number(if kind.known > 0 {
            format!("{} × {:.3}", kind.known, kind.known_step())
        } else {
            String::new()
        }),
        TableCell::Number(format!("{:.1}", kind.evaluation)),
        TableCell::Number(format!("{:.1}", kind.reading)),
        TableCell::Number(hours(kind.seconds()[0])),
        TableCell::Number(memory(kind.memory)),
    ]
}

fn total(cost: &Cost) -> Option<Vec<TableCell>> {
    let sum = |value: fn(&KindCost) -> f64| cost.kinds.iter().map(value).sum::<f64>();
    let text = |text: &str| TableCell::Text(text.to_owned());
    let number = |text: String| TableCell::Number(text);
    let runs: usize = cost.kinds.iter().map(|kind| kind.runs).sum();
    (!cost.kinds.is_empty()).then(|| {
        vec![
            text("all"),
            text(""),
            text(""),
            TableCell::count(runs as u64),
            TableCell::count(cost.kinds.iter().map(|kind| kind.steps).sum()),
            number(String::new()),
            number(String::new()),
            number(String::new()),
            number(format!("{:.1}", sum(|kind| kind.evaluation))),
            number(format!("{:.1}", sum(|kind| kind.reading))),
            number(hours(cost.seconds()[0])),
            number(memory(cost.kinds.iter().filter_map(|kind| kind.memory).max())),
        ]
    })
}

fn hours(seconds: f64) -> String {
    let hours = seconds / 3600.0;
    if hours < 0.1 { format!("{hours:.6}") } else { format!("{hours:.2}") }
}

fn memory(bytes: Option<u64>) -> String {
    bytes.map(|bytes| format!("{:.2} GB", bytes as f64 / 1e9)).unwrap_or_default()
}

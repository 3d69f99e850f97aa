//! `prospect sweep --estimate`: estimates the cost of a sweep from a few measured steps.

use std::time::Duration;

use prospect_report::overview::{self, ContentBlock, DisplayTable, Overview, Section, TableCell};
use prospect_runs::SweepDir;
use prospect_sweep::{Execution, RunGroupCost, SweepCost, SweepPlan, estimate_time};
use serde::Serialize;

use super::ExecutionArgs;
use crate::output;

/// Estimate as `--json` prints it.
#[derive(Serialize)]
struct EstimateJson<'a> {
    runs: usize,
    /// Seconds of all runs, one at a time, by the median, the fastest and the slowest steps.
    seconds: [f64; 3],
    /// Runs that fit into --max-hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_in_time: Option<usize>,
    groups: &'a [RunGroupCost],
}

/// Measures a few steps and prints the cost of the remaining runs.
pub(super) fn print(
    plan: &SweepPlan,
    sweep: &SweepDir,
    execution: &Execution,
    options: &ExecutionArgs,
) -> anyhow::Result<()> {
    let cost = estimate_time(plan, sweep, execution)?;
    let limit = options.max_hours;
    if options.planning.json {
        let runs_in_time = limit.map(|limit| cost.runs_within(limit));
        let json =
            EstimateJson { runs: cost.runs(), seconds: cost.seconds(), runs_in_time, groups: &cost.groups };
        return Ok(output::print(serde_json::to_string_pretty(&json)?)?);
    }
    Ok(output::print(overview(plan, &cost, limit).text())?)
}

fn overview(plan: &SweepPlan, cost: &SweepCost, limit: Option<Duration>) -> Overview {
    let [likely, low, high] = cost.seconds().map(overview::duration);
    let measured: usize = cost.groups.iter().map(|group| group.step_seconds.len()).sum();
    let mut lead = vec![if cost.groups.is_empty() {
        "remaining: no runs".to_owned()
    } else {
        format!(
            "remaining: {} runs, about {likely} one run at a time ({low} to {high} from the fastest and the slowest steps); \
             estimated from {measured} measured steps",
            cost.runs()
        )
    }];
    if let Some(limit) = limit {
        let hours = overview::duration(limit.as_secs_f64());
        lead.push(format!("{} of {} runs fit into {hours}", cost.runs_within(limit), cost.runs()));
    }
    let heads = [
        "kind",
        "model",
        "start",
        "runs",
        "steps",
        "s/step",
        "range",
        "cached",
        "evaluation",
        "loading",
        "hours",
        "memory",
    ];
    let table = DisplayTable {
        title: String::new(),
        columns: heads.map(str::to_owned).to_vec(),
        rows: cost.groups.iter().map(row).chain(total(cost)).collect(),
    };
    let blocks = if cost.groups.is_empty() {
        Vec::new()
    } else {
        vec![
            ContentBlock::Table(table),
            ContentBlock::Note(
                "cached: steps whose reference log-probs come from an earlier run, and seconds per such step. evaluation, loading: \
                 seconds of all runs together. memory: peak of the process while the runs of a row are measured, \
                 including what it keeps of earlier rows, without GPU memory."
                    .to_owned(),
            ),
        ]
    };
    Overview {
        title: plan.question.clone(),
        lead,
        warnings: Vec::new(),
        sections: vec![Section { title: "Cost of the runs".to_owned(), blocks }],
    }
}

fn row(group: &RunGroupCost) -> Vec<TableCell> {
    let start: &'static str = group.start.into();
    let range = match (group.step_seconds.first(), group.step_seconds.last()) {
        (Some(low), Some(high)) => format!("{low:.3}–{high:.3}"),
        _ => String::new(),
    };
    vec![
        TableCell::Text(group.objectives.join(", ")),
        TableCell::Text(group.model.clone()),
        TableCell::Text(start.to_owned()),
        TableCell::count(group.runs as u64),
        TableCell::count(group.steps),
        TableCell::Number(format!("{:.3}", group.median_step())),
        TableCell::Number(range),
        TableCell::Number(if group.cached_steps > 0 {
            format!("{} × {:.3}", group.cached_steps, group.median_cached_step())
        } else {
            String::new()
        }),
        TableCell::Number(format!("{:.1}", group.evaluation + group.generation)),
        TableCell::Number(format!("{:.1}", group.reading)),
        TableCell::Number(hours(group.seconds()[0])),
        TableCell::Number(memory(group.memory)),
    ]
}

fn total(cost: &SweepCost) -> Option<Vec<TableCell>> {
    let sum = |value: fn(&RunGroupCost) -> f64| cost.groups.iter().map(value).sum::<f64>();
    let text = |text: &str| TableCell::Text(text.to_owned());
    let number = |text: String| TableCell::Number(text);
    let runs: usize = cost.groups.iter().map(|group| group.runs).sum();
    (!cost.groups.is_empty()).then(|| {
        vec![
            text("all"),
            text(""),
            text(""),
            TableCell::count(runs as u64),
            TableCell::count(cost.groups.iter().map(|group| group.steps).sum()),
            number(String::new()),
            number(String::new()),
            number(String::new()),
            number(format!("{:.1}", sum(|group| group.evaluation + group.generation))),
            number(format!("{:.1}", sum(|group| group.reading))),
            number(hours(cost.seconds()[0])),
            number(memory(cost.groups.iter().filter_map(|group| group.memory).max())),
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

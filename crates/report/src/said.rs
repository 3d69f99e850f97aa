//! What policies say to the same prompts, side by side.

use prospect_core::visible::clipped;
use serde::Serialize;

use crate::{
    sweep::{Cell, Sweep},
    tables::Table,
    text,
};

/// Prompts that the page shows.
const PROMPTS: usize = 24;
/// Policies that the page shows for a prompt.
const POLICIES: usize = 12;
/// Characters of a text that the page shows.
const LONGEST: usize = 1500;

/// A prompt and what is said to it.
#[derive(Serialize)]
pub(crate) struct Prompt {
    id: String,
    text: String,
    chosen: String,
    completions: Vec<Completion>,
}

#[derive(Serialize)]
struct Completion {
    policy: String,
    facts: Vec<String>,
    text: String,
}

/// The prompts of the first seed of every series and x value; of many x values the first and the last.
pub(crate) fn prompts(sweep: &Sweep) -> Vec<Prompt> {
    let mut cells: Vec<Cell<'_>> = sweep.cells();
    for cell in &mut cells {
        cell.runs.retain(|run| !run.generations.is_empty());
        cell.runs.truncate(1);
    }
    cells.retain(|cell| !cell.runs.is_empty());
    if cells.len() > POLICIES {
        let ends = [cells.first(), cells.last()].map(|cell| cell.map(|cell| cell.x));
        cells.retain(|cell| ends.contains(&Some(cell.x)));
        cells.truncate(POLICIES);
    }
    let Some(first) = cells.first().and_then(|cell| cell.runs.first()) else { return Vec::new() };
    let prompt = |asked: &prospect_runs::Generation| {
        let completion = |cell: &Cell<'_>| {
            let run = cell.runs.first()?;
            let said = run.generations.iter().find(|said| said.prompt_id == asked.prompt_id)?;
            let mut facts = vec![said.mode.to_string(), text::count(said.tokens, "token")];
            if !said.ended {
                facts.push("cut".to_owned());
            }
            facts.extend(said.utility.map(|utility| format!("utility {}", text::number(utility))));
            let place =
                if sweep.x.values().len() < 2 { String::new() } else { format!(" at {}", cell.x_name) };
            Some(Completion {
                policy: format!("{}{place}", cell.series),
                facts,
                text: clipped(&said.completion, LONGEST).into_owned(),
            })
        };
        Prompt {
            id: asked.prompt_id.chars().take(12).collect(),
            text: clipped(&asked.prompt, LONGEST).into_owned(),
            chosen: clipped(&asked.chosen, LONGEST).into_owned(),
            completions: cells.iter().filter_map(completion).collect(),
        }
    };
    first.generations.iter().take(PROMPTS).map(prompt).collect()
}

/// Every generation of every run.
pub(crate) fn table(
    sweep: &Sweep,
    columns: Vec<String>,
    cells: impl Fn(&crate::sweep::Run) -> Vec<String>,
) -> Table {
    let mut rows = Vec::new();
    for run in &sweep.runs {
        for said in &run.generations {
            let mut row = cells(run);
            row.extend([said.prompt_id.clone(), said.mode.to_string(), said.tokens.to_string()]);
            row.push(said.ended.to_string());
            row.push(said.utility.map(|utility| utility.to_string()).unwrap_or_default());
            row.extend([said.prompt.clone(), said.completion.clone(), said.chosen.clone()]);
            rows.push(row);
        }
    }
    Table { name: "generations", columns, rows }
}

/// The columns of [`table`] after those that name the run.
pub(crate) const COLUMNS: [&str; 8] =
    ["prompt_id", "mode", "tokens", "ended", "utility", "prompt", "completion", "chosen"];

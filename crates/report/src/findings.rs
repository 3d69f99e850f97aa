//! What looks wrong in runs, by sign.

use prospect_runs::{Finding, Sign};
use serde::Serialize;

use crate::{
    sweep::{Run, Sweep},
    text,
};

/// Findings of one sign that the page shows; the table has all.
const SHOWN: usize = 20;

/// A sign and the runs that show it.
#[derive(Serialize)]
pub(crate) struct Group {
    title: &'static str,
    runs: String,
    advice: String,
    findings: Vec<Shown>,
    /// How many more there are.
    more: usize,
}

#[derive(Serialize)]
struct Shown {
    run: String,
    id: String,
    steps: String,
    evidence: String,
}

/// What a sign is called.
pub(crate) fn title(sign: Sign) -> &'static str {
    match sign {
        Sign::Unstable => "Training is unstable",
        Sign::NoLearning => "Nothing is learnt",
        Sign::ModeCollapse => "Modes collapse",
        Sign::ReferencePointAtZero => "The reference point is stuck at 0",
        Sign::ChosenFalling => "Chosen completions become less likely",
        Sign::LengthBlowUp => "Completions grow long",
    }
}

/// The findings, grouped in the order of their signs.
pub(crate) fn groups(sweep: &Sweep) -> Vec<Group> {
    let findings: Vec<&Finding> = sweep.summary.iter().flat_map(|summary| &summary.findings).collect();
    let mut signs: Vec<Sign> = findings.iter().map(|finding| finding.sign).collect();
    signs.sort_unstable();
    signs.dedup();
    let group = |sign: Sign| {
        let own: Vec<&&Finding> = findings.iter().filter(|finding| finding.sign == sign).collect();
        let advice = own.first().map(|finding| finding.advice.clone()).unwrap_or_default();
        Group {
            title: title(sign),
            runs: text::count(own.len(), "run"),
            advice,
            more: own.len().saturating_sub(SHOWN),
            findings: own.into_iter().take(SHOWN).map(|finding| Shown::of(sweep, finding)).collect(),
        }
    };
    signs.into_iter().map(group).collect()
}

impl Shown {
    fn of(sweep: &Sweep, finding: &Finding) -> Self {
        let run = sweep.runs.iter().find(|run| run.planned.id == finding.run);
        let [from, to] = finding.steps;
        Self {
            run: run.map_or_else(String::new, |run| name(sweep, run)),
            id: finding.run.clone(),
            steps: if from == to { from.to_string() } else { format!("{from}–{to}") },
            evidence: finding.evidence.clone(),
        }
    }
}

/// A run in words: its series, its x value where there are several, its seed.
pub(crate) fn name(sweep: &Sweep, run: &Run) -> String {
    let x = sweep.x.of_run(run).filter(|_| sweep.x.values().len() > 1);
    let place = x.map(|x| format!(" at {}", sweep.x.name(x))).unwrap_or_default();
    format!("{}{place}, seed {}", sweep.series_of(run), run.planned.seed)
}

//! Findings of the diagnosis: signs of training problems, grouped by sign.

use prospect_runs::{Finding, Sign};
use serde::Serialize;

use crate::{format, sweep_data::SweepData};

/// Maximum number of findings per sign on the page; `tables/diagnosis.csv` has all.
const MAX_FINDINGS: usize = 20;

/// A sign and the runs that show it.
#[derive(Serialize)]
pub(crate) struct FindingGroup {
    title: &'static str,
    /// Number of runs, as text.
    runs: String,
    advice: String,
    findings: Vec<FindingRow>,
    /// Number of findings that are not shown.
    more: usize,
}

#[derive(Serialize)]
struct FindingRow {
    run: String,
    id: String,
    steps: String,
    evidence: String,
}

/// Returns the title of a sign.
pub(crate) fn title(sign: Sign) -> &'static str {
    match sign {
        Sign::Unstable => "Training is unstable",
        Sign::NoLearning => "Not better than chance",
        Sign::RanAway => "The policy ran away from the reference",
        Sign::ModeCollapse => "Mode collapse",
        Sign::NoLongerEnds => "Completions no longer end",
        Sign::LengthBlowUp => "Completion length grows",
    }
}

/// Returns the findings, grouped in the order of their signs.
pub(crate) fn groups(sweep: &SweepData) -> Vec<FindingGroup> {
    let findings: Vec<&Finding> = sweep.summary.iter().flat_map(|summary| &summary.findings).collect();
    let mut signs: Vec<Sign> = findings.iter().map(|finding| finding.sign).collect();
    signs.sort_unstable();
    signs.dedup();
    let group = |sign: Sign| {
        let own: Vec<&&Finding> = findings.iter().filter(|finding| finding.sign == sign).collect();
        let advice = own.first().map(|finding| finding.advice.clone()).unwrap_or_default();
        FindingGroup {
            title: title(sign),
            runs: format::count(own.len(), "run"),
            advice,
            more: own.len().saturating_sub(MAX_FINDINGS),
            findings: own
                .into_iter()
                .take(MAX_FINDINGS)
                .map(|finding| FindingRow::new(sweep, finding))
                .collect(),
        }
    };
    signs.into_iter().map(group).collect()
}

impl FindingRow {
    fn new(sweep: &SweepData, finding: &Finding) -> Self {
        let run = sweep.runs.iter().find(|run| run.planned.id == finding.run);
        let [from, to] = finding.steps;
        Self {
            run: run.map_or_else(String::new, |run| sweep.run_name(run)),
            id: finding.run.clone(),
            steps: if from == to { from.to_string() } else { format!("{from}–{to}") },
            evidence: finding.evidence.clone(),
        }
    }
}

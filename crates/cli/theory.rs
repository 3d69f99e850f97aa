//! Theory experiments (`experiments/theory.yaml`), computed exactly instead of trained, and their
//! report.

use std::path::Path;

use prospect_core::{config::Document, files::write_json};
use prospect_report::overview::{
    ChartRule, ContentBlock, DisplayTable, LineChart, LineSeries, Overview, Section, TableCell,
};
use prospect_theory::{
    Findings, TheoryFile,
    gradients::{GradientFinding, GradientPoint},
    majority::{MajorityCase, MajorityFinding},
    utilities::UtilityFinding,
};

use crate::output;
use crate::output::say;

/// File name of the findings.
const FILE: &str = "theory.json";

/// Returns true if a YAML file is a theory experiment.
pub(crate) fn is_theory(document: &Document) -> bool {
    document.keys().any(|key| key == "theory")
}

/// Returns true if a folder holds the findings of a theory experiment.
pub(crate) fn has_findings(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

/// Computes the findings, writes them to `out`, and prints the path of their report.
pub(crate) fn run(
    path: &Path,
    mut document: Document,
    set: &[String],
    out: Option<&Path>,
    dry_run: bool,
) -> anyhow::Result<()> {
    set.iter().try_for_each(|given| document.set_text(given))?;
    let file: TheoryFile = document.read()?;
    let theory = file.resolve().map_err(|error| anyhow::anyhow!(document.blame(&error.to_string())))?;
    if dry_run {
        let worlds = theory.references.len() * theory.shares.len();
        return Ok(output::print(format!(
            "{}\nnothing to train: 3 propositions, {worlds} worlds of contradictory preferences",
            theory.question
        ))?);
    }
    let name = path.file_stem().unwrap_or_default();
    let folder = out.map_or_else(|| Path::new("runs").join(name), Path::to_owned);
    let findings = theory.findings();
    write_json(&folder.join(FILE), &findings)?;
    findings.verdicts().iter().for_each(say);
    output::print(overview(&findings).write(&Path::new("reports").join(name))?.display())?;
    Ok(())
}

/// Renders the report of saved findings.
pub(crate) fn report(folder: &Path, out: &Path) -> anyhow::Result<()> {
    let findings: Findings = serde_json::from_slice(&fs_err::read(folder.join(FILE))?)?;
    output::print(overview(&findings).write(out)?.display())?;
    Ok(())
}

fn overview(findings: &Findings) -> Overview {
    Overview {
        title: findings.settings.question.clone(),
        lead: findings.verdicts().to_vec(),
        warnings: Vec::new(),
        sections: vec![
            gradients_section(&findings.gradients),
            rewards_section(&findings.utilities),
            majority_section(&findings.majority, findings.settings.undesirable_weight),
        ],
    }
}

fn gradients_section(found: &GradientFinding) -> Section {
    let curve = |name: &str, gradient: fn(&GradientPoint) -> f64| LineSeries {
        name: name.to_owned(),
        points: found.curve.iter().map(|point| (point.reward, gradient(point))).collect(),
    };
    Section {
        title: "Extreme rewards".to_owned(),
        blocks: vec![
            ContentBlock::Note("Proposition 4.1: as the reward β·log(π/π_ref) of a completion tends to either infinity, KTO's update tends to 0: λ·β·σ(r)·σ(−r), at a reference point of 0. DPO's update, β·σ(−m) for a margin m, is largest for the pairs that the policy ranks most wrongly: hard pairs and mislabelled pairs.".to_owned()),
            ContentBlock::LineChart(LineChart {
                name: "gradients".to_owned(),
                title: "Size of the gradient".to_owned(),
                caption: format!("Evaluated with the objectives used in training; the largest difference from the closed form is {:.0e}. Desirable and undesirable completions have the same curve.", found.error),
                x_label: "reward of the completion, or margin of the pair".to_owned(),
                y_label: "|d loss / d log π|, in units of β".to_owned(),
                rules: Vec::new(),
                series: vec![curve("KTO", |point| point.kto_desirable), curve("DPO", |point| point.dpo)],
            }),
        ],
    }
}

fn rewards_section(found: &UtilityFinding) -> Section {
    let points = found.curve.iter().map(|shift| (shift.shift, shift.utility)).collect();
    Section {
        title: "Same preferences".to_owned(),
        blocks: vec![
            ContentBlock::Note(format!(
                "Theorem 4.2: r(x, y) + h(x) has the same Bradley-Terry preferences and the same optimal policy as r(x, y), but may have a different human utility. Two prompts, one three times as frequent as the other, have three completions each, with rewards {:?}. The value of a completion is σ(r − z0), where z0 is the policy's mean reward over both prompts. A shift that is the same for both prompts changes the utility by {:.0e}, which is rounding.",
                found.rewards, found.same_for_all
            )),
            ContentBlock::LineChart(LineChart {
                name: "utilities".to_owned(),
                title: "Human utility of the same policy".to_owned(),
                caption: format!(
                    "Preferences and DPO's optimum are the same at every point; the optimum found by gradient descent differs from the closed form by at most {:.0e}.",
                    found.error
                ),
                x_label: "shift s: h = +s for one prompt, −s for the other".to_owned(),
                y_label: "mean value over prompts and completions of the optimal policy".to_owned(),
                rules: Vec::new(),
                series: vec![LineSeries { name: "human utility".to_owned(), points }],
            }),
        ],
    }
}

fn majority_section(found: &MajorityFinding, undesirable_weight: f64) -> Section {
    let mut references: Vec<f64> = found.cases.iter().map(|case| case.reference).collect();
    references.dedup();
    let curves = |under: &str, probability: fn(&MajorityCase) -> f64| -> Vec<LineSeries> {
        let curve = |reference: &f64| {
            let cases = found.cases.iter().filter(|case| case.reference == *reference);
            LineSeries {
                name: format!("{under}, π_ref = {reference}"),
                points: cases.map(|case| (case.share, probability(case))).collect(),
            }
        };
        references.iter().map(curve).collect()
    };
    let figure = |name: &str, title: &str, series| {
        ContentBlock::LineChart(LineChart {
            name: name.to_owned(),
            title: title.to_owned(),
            caption: "π_ref is the reference's probability of the completion that the majority prefers. Below one half, the policy serves the minority.".to_owned(),
            x_label: "share of annotators in the majority".to_owned(),
            y_label: "probability of the majority's completion under the optimal policy".to_owned(),
            rules: vec![ChartRule { y: 0.5, label: "one half".to_owned() }],
            series,
        })
    };
    let averse = format!("KTO, λ_U = {undesirable_weight}");
    let number = |value: f64| TableCell::Number(format!("{value:.6}"));
    let rows = found.cases.iter().map(|case| {
        vec![
            TableCell::Number(case.reference.to_string()),
            TableCell::Number(case.share.to_string()),
            TableCell::Text(if case.condition { "minority" } else { "majority" }.to_owned()),
            number(case.dpo),
            number(case.dpo_descended),
            number(case.kto),
            number(case.kto_averse),
        ]
    });
    let heads = ["π_ref", "majority", "the theorem says DPO serves", "DPO", "DPO by descent", "KTO, neutral"];
    let columns = heads.into_iter().map(str::to_owned).chain([averse.clone()]).collect();
    Section {
        title: "Contradictory preferences".to_owned(),
        blocks: vec![
            ContentBlock::Note("Theorem 4.3: a share p > ½ of the annotators prefers y_a, the others y_b. If p^(1/β)·π_ref(y_a) < (1−p)^(1/β)·π_ref(y_b), DPO's optimal policy is more likely to produce y_b; KTO's, with λ_D = λ_U, produces y_a alone. KTO's reference point is the exact KL divergence of the policy from the reference.".to_owned()),
            figure("majority-dpo", "DPO under contradictory preferences", curves("DPO", |case| case.dpo)),
            figure("majority-kto", "Loss-neutral KTO under contradictory preferences", curves("KTO", |case| case.kto)),
            figure("majority-averse", "KTO that is not loss-neutral, from the reference on", curves(&averse, |case| case.kto_averse)),
            ContentBlock::Table(DisplayTable { title: "Probability of the majority's completion".to_owned(), columns, rows: rows.collect() }),
        ],
    }
}

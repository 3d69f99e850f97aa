//! Theory experiments (`experiments/theory.yaml`), computed exactly instead of trained, and their
//! report.

use std::path::Path;

use prospect_core::{config::Document, files::write_json};
use prospect_report::overview::{
    ChartRule, ContentBlock, DisplayTable, LineChart, LineSeries, Overview, Section, TableCell,
};
use prospect_theory::{
    Findings, TheoryFile,
    contradiction::ContradictionFinding,
    gradients::{GradientFinding, GradientPoint},
    halo::HaloFinding,
    majority::{MajorityCase, MajorityFinding},
    updates::UpdateFinding,
    utilities::{UtilityFinding, UtilityForm},
    values::ValueCurve,
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
            "{}\nnothing to train: theorem 3.5, proposition 4.1, theorems 4.2 and 4.3, {worlds} worlds of contradictory preferences",
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
            values_section(&findings.values, &findings.halos),
            gradients_section(&findings.gradients),
            rewards_section(&findings.utilities),
            contradiction_section(&findings.contradiction),
            majority_section(&findings.majority, &findings.updates, findings.settings.undesirable_weight),
        ],
    }
}

fn values_section(curves: &[ValueCurve], halos: &HaloFinding) -> Section {
    let yes = |holds: bool| TableCell::Text(if holds { "yes" } else { "no" }.to_owned());
    let rows = halos.objectives.iter().map(|test| {
        vec![
            TableCell::Text(test.objective.clone()),
            TableCell::Number(format!("{:.3}", test.spread_at_reference)),
            yes(test.is_monotone),
            yes(test.is_concave),
            yes(test.is_halo),
        ]
    });
    let columns = ["objective", "spread at π_θ = π_ref", "non-decreasing", "concave in gains", "HALO"];
    let series =
        curves.iter().map(|curve| LineSeries { name: curve.objective.clone(), points: curve.points.clone() });
    Section {
        title: "Human-aware losses".to_owned(),
        blocks: vec![
            ContentBlock::LineChart(LineChart {
                name: "values".to_owned(),
                title: "Implied value functions".to_owned(),
                caption: "Minus the loss of a desirable completion, or of a pair with this margin, at β = 1: 0 at the reference point, and scaled to 1 at a reward of 1, which a HALO leaves free. Kahneman and Tversky: α = 0.88, λ = 2.25. PPO-Clip clips the ratio to [0.25, 4].".to_owned(),
                x_label: "reward relative to the reference point".to_owned(),
                y_label: "value".to_owned(),
                rules: Vec::new(),
                series: series.collect(),
            }),
            ContentBlock::Note("A HALO (definition 3.4; theorem 3.5) has a value function that never falls and is concave in gains, and with π_θ = π_ref = π its loss does not depend on π. The spread is that of the loss over four such policies. PPO-Clip's value min(e^z, 4) is convex in the log-ratio z up to the clip, and concave in the ratio itself. SLiC's calibration alone meets the first version's definition, which needs no reference model.".to_owned()),
            ContentBlock::Table(DisplayTable {
                title: "Conditions of a HALO".to_owned(),
                columns: columns.map(str::to_owned).to_vec(),
                rows: rows.collect(),
            }),
        ],
    }
}

fn contradiction_section(found: &ContradictionFinding) -> Section {
    let human = |index: usize, name: &str| LineSeries {
        name: name.to_owned(),
        points: found.optima.iter().map(|optimum| (optimum.kept, optimum.values[index])).collect(),
    };
    Section {
        title: "Equal contradictions".to_owned(),
        blocks: vec![
            ContentBlock::Note(format!(
                "Theorem 4.3 in version 1: two humans with opposite preferences. DPO's loss depends only on the ratio of the two judged completions, so policies that move their probability to a third one, which both humans like least, are optima, too (loss: ln 2, within {:.0e}). KTO's loss is ½ for every policy and z0 (within {:.0e}), and its gradient 0 (within {:.0e}). Descent from the reference leaves it under both: the worst case is about optima.",
                found.dpo_deviation, found.kto_deviation, found.kto_gradient
            )),
            ContentBlock::LineChart(LineChart {
                name: "contradiction".to_owned(),
                title: "Optima of DPO".to_owned(),
                caption:
                    "All of these policies have the same, smallest, loss. At 1, the policy is the reference."
                        .to_owned(),
                x_label: "share of the judged completions' probability that is kept".to_owned(),
                y_label: "expected value".to_owned(),
                rules: Vec::new(),
                series: vec![human(0, "first human"), human(1, "second human")],
            }),
        ],
    }
}

/// Table of the value functions of the paper's versions.
fn forms_table(forms: &[UtilityForm]) -> ContentBlock {
    let row = |form: &UtilityForm| {
        vec![
            TableCell::Text(if form.fixed_z0 { "fixed" } else { "moves" }.to_owned()),
            TableCell::Number(form.scale.to_string()),
            TableCell::Text(if form.uniform { "equal" } else { "opposite" }.to_owned()),
            TableCell::Number(format!("{:.4}", form.before)),
            TableCell::Number(format!("{:.4}", form.after)),
            TableCell::Number(format!("{:.4}", form.value_change)),
        ]
    };
    let columns =
        ["z0", "factor of r − z0", "shift of ±3", "utility before", "after", "largest change of a value"];
    ContentBlock::Table(DisplayTable {
        title: "Value functions of the paper's versions: z0 moves with the reward in version 1, and is fixed in version 5".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: forms.iter().map(row).collect(),
    })
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
            ContentBlock::Note(format!("Version 5 requires that ‖∇ log π‖ is bounded, as it is for the logits of a softmax: at ±20, the update is at most {:.1e} β. For a parameter u with dℓ/du = e^(β|ℓ|), where ℓ is the log-ratio, it is at least {:.4} β.", found.bounded_update, found.unbounded_update)),
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
            forms_table(&found.forms),
        ],
    }
}

fn majority_section(found: &MajorityFinding, updates: &UpdateFinding, undesirable_weight: f64) -> Section {
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
            ContentBlock::Note("Theorem 4.3 in version 4: a share p > ½ of the annotators prefers y_a, the others y_b. If p^(1/β)·π_ref(y_a) < (1−p)^(1/β)·π_ref(y_b), DPO's optimal policy is more likely to produce y_b; KTO's, with λ_D = λ_U, produces y_a alone. KTO's reference point is the exact KL divergence of the policy from the reference.".to_owned()),
            ContentBlock::Note(format!("Version 5 is about the update: in all {} worlds and policies, KTO's default update raises log π(y_a)/π(y_b), by at least {:.1e} per unit of step size. With λ_U = {undesirable_weight}, {} of them lower it.", updates.updates, updates.least, updates.averse_to_majority)),
            figure("majority-dpo", "DPO under contradictory preferences", curves("DPO", |case| case.dpo)),
            figure("majority-kto", "Loss-neutral KTO under contradictory preferences", curves("KTO", |case| case.kto)),
            figure("majority-averse", "KTO that is not loss-neutral, from the reference on", curves(&averse, |case| case.kto_averse)),
            ContentBlock::Table(DisplayTable { title: "Probability of the majority's completion".to_owned(), columns, rows: rows.collect() }),
        ],
    }
}

//! `prospect power`: plans a comparison before its feedback is collected.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use prospect_analysis::{
    MeasuredVariation, measured_variations,
    stats::{Variation, deviation_interval},
};
use prospect_core::sample::unique;
use prospect_report::overview::{ContentBlock, DisplayTable, Overview, Section, TableCell};
use prospect_runs::Measure;
use serde::Serialize;

use crate::{output, report};

/// Arguments of `prospect power`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Finished sweep (name below runs/ or directory) to take the variation between seeds and
    /// prompts from
    ///
    /// Default: an assumed variation, that of DPO and KTO at 65 % accuracy if they rank a fifth of the
    /// pairs differently.
    #[arg(value_name = "SWEEP")]
    sweep: Option<PathBuf>,
    /// Gain in accuracy (or AUC) that the comparison should find, in percentage points
    #[arg(long, value_name = "POINTS", default_value_t = 3.0)]
    gain: f64,
    /// Seeds of each method [default: 2 to 20]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    seeds: Vec<usize>,
    /// Held-out pairs of different prompts; two thumbs count as one pair [default: 50 to 5000]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pairs: Vec<usize>,
    /// Methods that are compared with the baseline [default: those of SWEEP, else 1]
    #[arg(long, value_name = "N")]
    comparisons: Option<usize>,
    /// Share of the feedback that is held out, as `split.test_fraction` of recipes
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    test_fraction: f64,
    /// Significance level of all comparisons together
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    level: f64,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Seeds and pairs that are considered.
const SEEDS: [usize; 6] = [2, 3, 5, 8, 12, 20];
const PAIRS: [usize; 7] = [50, 100, 200, 500, 1000, 2000, 5000];

/// Power of a detectable difference.
const POWER: f64 = 0.8;

/// Variation to plan with, and its origin.
struct Basis {
    variation: Variation,
    /// Origin in sentences.
    about: Vec<String>,
    comparisons: usize,
    is_measured: bool,
}

/// Answer as `--json` prints it.
#[derive(Serialize)]
struct Answer {
    gain: f64,
    level: f64,
    power: f64,
    comparisons: usize,
    measured: bool,
    seed_deviation: f64,
    prompt_variance: f64,
    residual_variance: f64,
    detectable: Vec<Detectable>,
    needed: Vec<Needed>,
}

/// Difference that a comparison detects, as a share.
#[derive(Serialize)]
struct Detectable {
    seeds: usize,
    pairs: usize,
    difference: f64,
}

/// Feedback that a gain needs; None if no amount suffices with these seeds.
#[derive(Serialize)]
struct Needed {
    seeds: usize,
    held_out_pairs: Option<usize>,
    held_out_thumbs: Option<usize>,
    pairs: Option<usize>,
    thumbs: Option<usize>,
}

/// Prints the differences that designs detect, and the feedback that the gain needs.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.gain > 0.0 && args.gain < 100.0, "--gain is {}: give points between 0 and 100", args.gain);
    ensure!(
        args.test_fraction > 0.0 && args.test_fraction < 1.0,
        "--test-fraction is {}: give a share between 0 and 1",
        args.test_fraction
    );
    ensure!(args.level > 0.0 && args.level < 1.0, "--level is {}: give one between 0 and 1", args.level);
    ensure!(
        args.seeds.iter().all(|seeds| *seeds > 1),
        "--seeds: one seed never gives a verdict; give 2 or more"
    );
    ensure!(args.pairs.iter().all(|pairs| *pairs > 1), "--pairs: give 2 or more");
    ensure!(args.comparisons != Some(0), "--comparisons is 0: give 1 or more");
    let basis = args.basis()?;
    let answer = args.answer(&basis);
    if args.json {
        return Ok(output::print(serde_json::to_string_pretty(&answer)?)?);
    }
    Ok(output::print(overview(&answer, &basis, args.test_fraction).text())?)
}

impl Args {
    fn basis(&self) -> anyhow::Result<Basis> {
        let Some(sweep) = &self.sweep else {
            return Ok(Basis {
                variation: Variation::ASSUMED,
                about: vec![format!(
                    "variation: assumed, {:.1} points between seeds, and over prompts that of DPO and KTO at 65 % accuracy \
                         if they rank a fifth of the pairs differently; name a finished sweep to measure it",
                    100.0 * Variation::ASSUMED.seed_deviation
                )],
                comparisons: self.comparisons.unwrap_or(1),
                is_measured: false,
            });
        };
        let sweep = report::open_sweep(sweep)?;
        let all = measured_variations(&sweep)?;
        let first = all.first().with_context(|| {
            format!(
                "{}: no two methods with finished runs of two seeds on the same held-out feedback; leave the sweep out to \
                 plan with assumed variation",
                sweep.path().display()
            )
        })?;
        let comparisons = self.comparisons.unwrap_or(first.comparisons);
        Ok(Basis {
            variation: pooled(&all),
            about: vec![describe(&all, &sweep.path().display().to_string())],
            comparisons,
            is_measured: true,
        })
    }

    fn answer(&self, basis: &Basis) -> Answer {
        let or = |given: &[usize], usual: &[usize]| -> Vec<usize> {
            let chosen = if given.is_empty() { usual } else { given };
            let mut numbers = unique(chosen.iter().copied());
            numbers.sort_unstable();
            numbers
        };
        let (seeds, pairs) = (or(&self.seeds, &SEEDS), or(&self.pairs, &PAIRS));
        let Basis { variation, comparisons, .. } = basis;
        let (gain, alpha) = (self.gain / 100.0, self.level / *comparisons as f64);
        let detectable = |seeds: usize, pairs: usize| Detectable {
            seeds,
            pairs,
            difference: variation.detectable(seeds, pairs, *comparisons, alpha),
        };
        let needed = |seeds: usize| {
            let held_out = variation.pairs_needed(gain, seeds, *comparisons, alpha);
            let all = |count: usize| (count as f64 / self.test_fraction).ceil() as usize;
            Needed {
                seeds,
                held_out_pairs: held_out,
                held_out_thumbs: held_out.map(|pairs| 2 * pairs),
                pairs: held_out.map(all),
                thumbs: held_out.map(|pairs| all(2 * pairs)),
            }
        };
        Answer {
            gain,
            level: self.level,
            power: POWER,
            comparisons: *comparisons,
            measured: basis.is_measured,
            seed_deviation: variation.seed_deviation,
            prompt_variance: variation.prompt,
            residual_variance: variation.residual,
            detectable: seeds
                .iter()
                .flat_map(|seeds| pairs.iter().map(|pairs| detectable(*seeds, *pairs)))
                .collect(),
            needed: seeds.iter().map(|seeds| needed(*seeds)).collect(),
        }
    }
}

/// Mean of the variances of several differences. The variance between seeds is at least the assumed
/// one: few seeds often agree by luck.
fn pooled(all: &[MeasuredVariation]) -> Variation {
    let mean = |value: &dyn Fn(&Variation) -> f64| {
        all.iter().map(|one| value(&one.variation)).sum::<f64>() / all.len() as f64
    };
    Variation {
        seed_deviation: mean(&|one| one.seed_deviation.powi(2)).sqrt().max(Variation::ASSUMED.seed_deviation),
        prompt: mean(&|one| one.prompt),
        residual: mean(&|one| one.residual),
    }
}

fn describe(all: &[MeasuredVariation], sweep: &str) -> String {
    let measure = match all.first().map(|one| one.measure) {
        Some(Measure::Auc) => "AUC",
        _ => "accuracy",
    };
    let least = |value: fn(&MeasuredVariation) -> usize| all.iter().map(value).min().unwrap_or(0);
    let deviation = (all.iter().map(|one| one.between_seeds.powi(2)).sum::<f64>() / all.len() as f64).sqrt();
    let df = all.iter().map(|one| one.df).fold(f64::INFINITY, f64::min);
    let [low, high] = deviation_interval(deviation, df);
    format!(
        "variation: measured in {sweep}, from {} in {measure} with {} seeds and {} held-out pairs or thumbs; one seed's \
         difference varies by {:.1} points (standard deviation; 95 % CI {:.1} to {:.1})",
        output::counted(all.len(), "difference"),
        least(|one| one.seeds),
        least(|one| one.pairs),
        100.0 * deviation,
        100.0 * low,
        100.0 * high
    )
}

fn overview(answer: &Answer, basis: &Basis, test_fraction: f64) -> Overview {
    let mut lead = basis.about.clone();
    lead.push(format!(
        "tests: {} with the baseline at a level of {} together, {:.0} % power; seeds and prompts are drawn again",
        output::counted(answer.comparisons, "comparison"),
        answer.level,
        100.0 * answer.power
    ));
    if basis.is_measured {
        lead.push(format!(
            "planned with {:.1} points between seeds (at least the assumed {:.1}, as few seeds agree by luck), besides what the \
             number of pairs explains",
            100.0 * basis.variation.seed_deviation,
            100.0 * Variation::ASSUMED.seed_deviation
        ));
    }
    let pairs = unique(answer.detectable.iter().map(|one| one.pairs));
    let row = |needed: &Needed| -> Vec<TableCell> {
        let own = answer.detectable.iter().filter(|one| one.seeds == needed.seeds);
        let points = own.map(|one| TableCell::Number(format!("{:.1}", 100.0 * one.difference)));
        std::iter::once(TableCell::count(needed.seeds as u64)).chain(points).collect()
    };
    let heads = std::iter::once("seeds".to_owned()).chain(pairs.iter().map(|pairs| format!("{pairs} pairs")));
    let detectable = DisplayTable {
        title: String::new(),
        columns: heads.collect(),
        rows: answer.needed.iter().map(row).collect(),
    };
    let count = |count: Option<usize>| {
        count.map_or_else(|| TableCell::Text("–".to_owned()), |n| TableCell::count(n as u64))
    };
    let needed = DisplayTable {
        title: String::new(),
        columns: ["seeds", "held-out pairs", "or held-out thumbs", "pairs in all", "or thumbs in all"]
            .map(str::to_owned)
            .to_vec(),
        rows: answer
            .needed
            .iter()
            .map(|one| {
                let counts = [one.held_out_pairs, one.held_out_thumbs, one.pairs, one.thumbs].map(count);
                std::iter::once(TableCell::count(one.seeds as u64)).chain(counts).collect()
            })
            .collect(),
    };
    let gain = format!("{:.1}", 100.0 * answer.gain);
    Overview {
        title: format!("Power of a comparison that should find {gain} points"),
        lead,
        warnings: Vec::new(),
        sections: vec![
            Section {
                title: "Detectable difference, in points".to_owned(),
                blocks: vec![
                    ContentBlock::Table(detectable),
                    ContentBlock::Note(
                        "Columns: held-out pairs of different prompts. Two thumbs count as one pair."
                            .to_owned(),
                    ),
                ],
            },
            Section {
                title: format!("Feedback that finds {gain} points"),
                blocks: vec![
                    ContentBlock::Table(needed),
                    ContentBlock::Note(format!(
                        "In all: with a held-out share of {test_fraction}. A dash means that no number of pairs \
                         suffices, because seeds vary too much: take more seeds. Whether more training rows bring the gain is \
                         another question: see learning curves."
                    )),
                ],
            },
        ],
    }
}

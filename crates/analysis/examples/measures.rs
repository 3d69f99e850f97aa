//! Agreement of measures of held-out pairs with true utility, in the order of policies.
//!
//! `cargo run --release -p prospect-analysis --example measures -- runs/NAME` reads a finished
//! sweep on a synthetic world, whose generations have a true utility. Every two policies (series
//! and x) with the same held-out pairs are compared; the gold order is that of their mean utilities
//! over all seeds and prompts, where the 95 % interval of the difference excludes 0. A measure
//! orders a comparison from one seed and some of the held-out pairs. The table has the share of
//! orders that agree with gold; ties count half. Intervals are a jackknife over policies.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

use std::{collections::BTreeMap, error::Error, path::PathBuf};

use prospect_analysis::stats::{Observation, Scale, contrast, smoothed_accuracies};
use prospect_core::{draw::Draw, sample::mean};
use prospect_runs::{PairOutcome, RunDir, SweepDir, describe_settings, preference};

/// Draws of held-out pairs for each comparison and seed.
const DRAWS: u64 = 40;

/// A finished run.
struct Run {
    seed: u64,
    beta: f64,
    pairs: Vec<PairOutcome>,
    /// True utility of the generations, by prompt.
    utilities: BTreeMap<String, f64>,
}

/// Runs of one policy over seeds.
struct PolicyRuns {
    /// Sweep and dataset: only policies with the same one are compared.
    dataset: String,
    runs: Vec<Run>,
}

/// A measure of held-out pairs: its name, and its value given β.
type Measure = (&'static str, fn(f64, &[&PairOutcome]) -> f64);

const MEASURES: [Measure; 3] = [
    ("0/1 accuracy", |_, pairs| average(pairs.iter().map(|pair| pair.accuracy()))),
    ("smoothed accuracy", |_, pairs| {
        let margins: Vec<f64> = pairs.iter().map(|pair| pair.chosen - pair.rejected).collect();
        average(smoothed_accuracies(&margins).into_iter())
    }),
    ("reward margin", |beta, pairs| average(pairs.iter().map(|pair| beta * (pair.chosen - pair.rejected)))),
];

fn average(values: impl Iterator<Item = f64>) -> f64 {
    mean(values).unwrap_or(f64::NAN)
}

/// Two policies whose true utilities differ clearly: indices of the better and of the worse one.
struct GoldOrder([usize; 2]);

fn main() -> Result<(), Box<dyn Error>> {
    let mut policies = Vec::new();
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        policies.extend(read(&path)?);
    }
    if policies.is_empty() {
        return Err("give the directories of sweeps with finished runs, such as runs/frontier-quick".into());
    }
    let (orders, compared) = gold_orders(&policies)?;
    println!(
        "{} policies, {compared} comparisons, {} of them with a clear order of true utility",
        policies.len(),
        orders.len()
    );
    println!("% of orders that agree with it, from one seed and P held-out pairs (95 % interval):");
    let most = policies.iter().flat_map(|policy| &policy.runs).map(|run| run.pairs.len()).min().unwrap_or(0);
    for count in [25, 50, 100, most].into_iter().filter(|count| *count <= most) {
        let shares: Vec<Vec<f64>> = MEASURES
            .iter()
            .map(|measure| orders.iter().map(|order| agreement(&policies, order, measure, count)).collect())
            .collect();
        for (index, ((name, _), agreements)) in MEASURES.iter().zip(&shares).enumerate() {
            let own = jackknife(&orders, agreements, policies.len());
            let gains: Vec<f64> = agreements.iter().zip(&shares[0]).map(|(own, first)| own - first).collect();
            let gain = jackknife(&orders, &gains, policies.len());
            let gain = if index == 0 { String::new() } else { format!(", minus 0/1 accuracy {gain}") };
            println!("P {count:4} {name:18} {own}{gain}");
        }
    }
    Ok(())
}

/// Reads the finished runs of a sweep, by policy.
fn read(path: &std::path::Path) -> Result<Vec<PolicyRuns>, Box<dyn Error>> {
    let sweep = SweepDir::at(path.to_owned());
    let mut policies: BTreeMap<String, PolicyRuns> = BTreeMap::new();
    for planned in sweep.experiment()?.runs {
        let directory = sweep.run(&planned.id);
        if directory.is_finished() {
            let name = describe_settings(&planned.settings);
            let dataset = format!("{} {}", path.display(), planned.data);
            let policy = policies.entry(format!("{dataset} {name}"));
            policy
                .or_insert_with(|| PolicyRuns { dataset, runs: Vec::new() })
                .runs
                .push(read_run(&directory, planned.seed)?);
        }
    }
    Ok(policies.into_values().collect())
}

fn read_run(directory: &RunDir, seed: u64) -> Result<Run, Box<dyn Error>> {
    let mut utilities = BTreeMap::new();
    for generation in directory.generations()? {
        utilities.extend(generation.utility.map(|utility| (generation.prompt_id, utility)));
    }
    if utilities.is_empty() {
        return Err(format!("{}: no generation has a true utility", directory.path().display()).into());
    }
    let pairs = directory.pairs()?;
    Ok(Run { seed, beta: directory.beta()?.unwrap_or(1.0), pairs, utilities })
}

/// Returns the clear orders of policies, and the number of comparisons.
fn gold_orders(policies: &[PolicyRuns]) -> Result<(Vec<GoldOrder>, usize), Box<dyn Error>> {
    let (mut orders, mut compared) = (Vec::new(), 0);
    for (second, b) in policies.iter().enumerate() {
        for (first, a) in policies.iter().enumerate().take(second).filter(|(_, a)| a.dataset == b.dataset) {
            let seeds: Vec<u64> = a.runs.iter().map(|run| run.seed).collect();
            let shared: Vec<u64> =
                b.runs.iter().map(|run| run.seed).filter(|seed| seeds.contains(seed)).collect();
            compared += 1;
            let (ours, theirs) = (utilities(a, &shared), utilities(b, &shared));
            let difference = contrast(&ours, &theirs, Scale::Unbounded)?.estimate();
            if difference.low > 0.0 {
                orders.push(GoldOrder([first, second]));
            } else if difference.high < 0.0 {
                orders.push(GoldOrder([second, first]));
            }
        }
    }
    Ok((orders, compared))
}

/// True utilities of a policy by seed.
fn utilities<'a>(policy: &'a PolicyRuns, seeds: &[u64]) -> Vec<Vec<Observation<'a>>> {
    let observations = |run: &'a Run| -> Vec<Observation<'a>> {
        let known = run.utilities.iter();
        known.map(|(prompt, value)| Observation { pair: prompt, prompt, value: *value }).collect()
    };
    policy.runs.iter().filter(|run| seeds.contains(&run.seed)).map(observations).collect()
}

/// Share of seeds and draws of `count` held-out pairs in which a measure gives the gold order.
fn agreement(policies: &[PolicyRuns], order: &GoldOrder, measure: &Measure, count: usize) -> f64 {
    let [better, worse] = order.0.map(|index| &policies[index]);
    let twin = |run: &Run| worse.runs.iter().find(|other| other.seed == run.seed);
    let seeds = better.runs.iter().filter_map(|run| Some((run, twin(run)?)));
    let draws = |(ours, theirs): (&Run, &Run)| -> Vec<f64> {
        let one = |number: u64| {
            let draw = Draw::new(number, "held-out pairs of a comparison");
            let value = |run: &Run| {
                let mut pairs: Vec<&PairOutcome> = run.pairs.iter().collect();
                draw.keep_lowest(&mut pairs, count, |pair| &pair.pair_id);
                measure.1(run.beta, &pairs)
            };
            preference(value(ours), value(theirs))
        };
        let number = if count < ours.pairs.len() { DRAWS } else { 1 };
        (0..number).map(one).collect()
    };
    average(seeds.map(|runs| average(draws(runs).into_iter())))
}

/// Mean over comparisons in %, with a 95 % interval by a jackknife over policies, since comparisons
/// share policies.
fn jackknife(orders: &[GoldOrder], values: &[f64], policies: usize) -> String {
    let without = |policy: usize| {
        let others = orders.iter().zip(values).filter(|(order, _)| !order.0.contains(&policy));
        mean(others.map(|(_, value)| *value))
    };
    let parts: Vec<f64> = (0..policies).filter_map(without).collect();
    let (all, centre) = (average(values.iter().copied()), average(parts.iter().copied()));
    let squares: f64 = parts.iter().map(|part| (part - centre).powi(2)).sum();
    let count = parts.len() as f64;
    let half = 1.96 * (squares * (count - 1.0) / count).sqrt();
    let [value, low, high] = [all, all - half, all + half].map(|share| 100.0 * share);
    format!("{value:5.1} ({low:.1} to {high:.1})")
}

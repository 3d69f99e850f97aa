//! Agreement of measures with true utility, in the order of policies.
//!
//! `cargo run --release -p prospect-analysis --example measures -- runs/NAME` reads a finished
//! sweep on a synthetic world, whose generations have a true utility. Every two policies (series
//! and x) with the same held-out pairs are compared. A measure orders them from the runs of one
//! seed, and some of the held-out pairs or prompts. The gold order is that of their mean utilities
//! over all other seeds and all prompts, where the 95 % interval of the difference excludes 0. The
//! table has the share of orders that agree with gold; ties count half. Intervals are a jackknife
//! over policies.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::PathBuf,
};

use prospect_analysis::stats::{Observation, Scale, contrast, smoothed_accuracies};
use prospect_core::{draw::Draw, files::short_hash, sample::mean};
use prospect_runs::{PairOutcome, RunDir, SweepDir, describe_settings, preference};

/// Draws of held-out pairs or prompts for each comparison and seed.
const DRAWS: u64 = 40;

/// A finished run.
struct Run {
    seed: u64,
    beta: f64,
    pairs: Vec<PairOutcome>,
    /// True utilities of the greedy completion and of the preferred one, by prompt.
    utilities: BTreeMap<String, [f64; 2]>,
    /// KL divergence from the reference and true utility of samples, by step and prompt.
    samples: BTreeMap<u64, BTreeMap<String, [f64; 2]>>,
}

/// Runs of one policy over seeds.
struct PolicyRuns {
    /// Hash of the held-out pairs: only policies with the same ones are compared.
    held_out: String,
    runs: Vec<Run>,
}

/// Rule that prefers one run to another, by some of their held-out pairs or prompts.
enum Measure {
    /// By the larger value of a run's pairs, given β.
    Pairs(fn(f64, &[&PairOutcome]) -> f64),
    /// By the larger share of greedy completions of more utility than the preferred completion.
    WinRate,
    /// By utility of samples where both have gone equally far from the reference.
    AtEqualKl,
}

const MEASURES: [(&str, Measure); 5] = [
    ("0/1 accuracy", Measure::Pairs(|_, pairs| average(pairs.iter().map(|pair| pair.accuracy())))),
    (
        "smoothed accuracy",
        Measure::Pairs(|_, pairs| {
            let margins: Vec<f64> = pairs.iter().map(|pair| pair.chosen - pair.rejected).collect();
            average(smoothed_accuracies(&margins).into_iter())
        }),
    ),
    (
        "reward margin",
        Measure::Pairs(|beta, pairs| average(pairs.iter().map(|pair| beta * (pair.chosen - pair.rejected)))),
    ),
    ("win rate", Measure::WinRate),
    ("utility at equal KL", Measure::AtEqualKl),
];

fn average(values: impl Iterator<Item = f64>) -> f64 {
    mean(values).unwrap_or(f64::NAN)
}

/// Two policies whose true utilities over all seeds but one differ clearly: indices of the better
/// and of the worse one, and the seed left out.
struct GoldOrder {
    policies: [usize; 2],
    seed: u64,
}

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
        "{} policies, {compared} comparisons and seeds, {} of them with a clear order of true utility",
        policies.len(),
        orders.len()
    );
    println!(
        "% of orders that agree with it, from one seed and P held-out pairs or prompts (95 % interval):"
    );
    let runs = || policies.iter().flat_map(|policy| &policy.runs);
    let pairs = runs().map(|run| run.pairs.len()).min().unwrap_or(0);
    let prompts = runs().map(|run| run.utilities.len()).min().unwrap_or(0);
    for count in BTreeSet::from([25, 50, 100, prompts, pairs]) {
        let mut accuracy: Option<Vec<f64>> = None;
        for (name, measure) in &MEASURES {
            let most = if matches!(measure, Measure::Pairs(_)) { pairs } else { prompts };
            if count > most {
                continue;
            }
            let values = || orders.iter().map(|order| agreement(&policies, order, measure, count));
            let agreements: Vec<f64> = values().collect();
            if agreements.iter().all(|agreement| agreement.is_nan()) {
                continue; // no samples along training
            }
            let own = jackknife(&orders, &agreements, policies.len());
            let gain = accuracy.as_ref().map_or(String::new(), |accuracy| {
                let gains: Vec<f64> =
                    agreements.iter().zip(accuracy).map(|(own, first)| own - first).collect();
                format!(", minus 0/1 accuracy {}", jackknife(&orders, &gains, policies.len()))
            });
            println!("P {count:4} {name:19} {own}{gain}");
            accuracy.get_or_insert(agreements);
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
            let run = read_run(&directory, planned.seed)?;
            let mut ids: Vec<&str> = run.pairs.iter().map(|pair| pair.pair_id.as_str()).collect();
            ids.sort_unstable();
            let held_out = short_hash(ids.concat().as_bytes());
            let policy = policies.entry(format!("{held_out} {}", describe_settings(&planned.settings)));
            policy.or_insert_with(|| PolicyRuns { held_out, runs: Vec::new() }).runs.push(run);
        }
    }
    Ok(policies.into_values().collect())
}

fn read_run(directory: &RunDir, seed: u64) -> Result<Run, Box<dyn Error>> {
    let mut utilities = BTreeMap::new();
    for generation in directory.generations()? {
        if let (Some(own), Some(preferred)) = (generation.utility, generation.chosen_utility) {
            utilities.insert(generation.prompt_id, [own, preferred]);
        }
    }
    if utilities.is_empty() {
        return Err(format!("{}: no generation has a true utility", directory.path().display()).into());
    }
    let mut samples: BTreeMap<u64, BTreeMap<String, [f64; 2]>> = BTreeMap::new();
    for sample in directory.samples()? {
        if let Some(utility) = sample.utility {
            samples.entry(sample.step).or_default().insert(sample.prompt_id, [sample.kl, utility]);
        }
    }
    let pairs = directory.pairs()?;
    Ok(Run { seed, beta: directory.beta()?.unwrap_or(1.0), pairs, utilities, samples })
}

/// Returns the clear orders of policies, without each seed in turn, and the number of comparisons.
fn gold_orders(policies: &[PolicyRuns]) -> Result<(Vec<GoldOrder>, usize), Box<dyn Error>> {
    let (mut orders, mut compared) = (Vec::new(), 0);
    for (second, b) in policies.iter().enumerate() {
        for (first, a) in policies.iter().enumerate().take(second).filter(|(_, a)| a.held_out == b.held_out) {
            let seeds: Vec<u64> = a.runs.iter().map(|run| run.seed).collect();
            let shared: Vec<u64> =
                b.runs.iter().map(|run| run.seed).filter(|seed| seeds.contains(seed)).collect();
            for &seed in &shared {
                let others: Vec<u64> = shared.iter().copied().filter(|other| *other != seed).collect();
                compared += 1;
                let (ours, theirs) = (utilities(a, &others), utilities(b, &others));
                let difference = contrast(&ours, &theirs, Scale::Unbounded)?.estimate();
                if difference.low > 0.0 {
                    orders.push(GoldOrder { policies: [first, second], seed });
                } else if difference.high < 0.0 {
                    orders.push(GoldOrder { policies: [second, first], seed });
                }
            }
        }
    }
    Ok((orders, compared))
}

/// True utilities of a policy by seed.
fn utilities<'a>(policy: &'a PolicyRuns, seeds: &[u64]) -> Vec<Vec<Observation<'a>>> {
    let observations = |run: &'a Run| -> Vec<Observation<'a>> {
        let known = run.utilities.iter();
        known.map(|(prompt, [value, _])| Observation { pair: prompt, prompt, value: *value }).collect()
    };
    policy.runs.iter().filter(|run| seeds.contains(&run.seed)).map(observations).collect()
}

/// Share of draws of `count` held-out pairs or prompts in which a measure gives the gold order.
fn agreement(policies: &[PolicyRuns], order: &GoldOrder, measure: &Measure, count: usize) -> f64 {
    let run = |policy: usize| policies[policy].runs.iter().find(|run| run.seed == order.seed);
    let [Some(better), Some(worse)] = order.policies.map(run) else { return f64::NAN };
    let all = if matches!(measure, Measure::Pairs(_)) { better.pairs.len() } else { better.utilities.len() };
    let draws = if count < all { DRAWS } else { 1 };
    average((0..draws).map(|draw| {
        let draw = Draw::new(draw, "held-out pairs or prompts of a comparison");
        match measure {
            Measure::Pairs(value) => {
                let value = |run: &Run| {
                    let mut pairs: Vec<&PairOutcome> = run.pairs.iter().collect();
                    draw.keep_lowest(&mut pairs, count, |pair| &pair.pair_id);
                    value(run.beta, &pairs)
                };
                preference(value(better), value(worse))
            }
            Measure::WinRate => {
                let value = |run: &Run| {
                    let prompts = some_prompts(run, &draw, count);
                    average(prompts.iter().map(|prompt| {
                        let [own, preferred] = run.utilities[*prompt];
                        preference(own, preferred)
                    }))
                };
                preference(value(better), value(worse))
            }
            Measure::AtEqualKl => {
                let prompts = some_prompts(better, &draw, count);
                let [ours, theirs] = [better, worse].map(|run| frontier(run, &prompts));
                let far = |frontier: &[[f64; 2]]| frontier.iter().map(|[kl, _]| *kl).fold(0.0, f64::max);
                let common = far(&ours).min(far(&theirs));
                match (utility_at(&ours, common), utility_at(&theirs, common)) {
                    (Some(ours), Some(theirs)) => preference(ours, theirs),
                    _ => f64::NAN,
                }
            }
        }
    }))
}

fn some_prompts<'a>(run: &'a Run, draw: &Draw, count: usize) -> Vec<&'a str> {
    let mut prompts: Vec<&str> = run.utilities.keys().map(String::as_str).collect();
    draw.keep_lowest(&mut prompts, count, |prompt| prompt);
    prompts
}

/// Mean KL divergence and mean utility of samples for `prompts`, in the order of steps.
fn frontier(run: &Run, prompts: &[&str]) -> Vec<[f64; 2]> {
    let moments = run.samples.values().map(|samples| {
        [0, 1].map(|part| average(prompts.iter().filter_map(|prompt| Some(samples.get(*prompt)?[part]))))
    });
    moments.collect()
}

/// Utility where a run first is `kl` away from its reference, between steps linear in √KL.
fn utility_at(frontier: &[[f64; 2]], kl: f64) -> Option<f64> {
    let mut before: Option<[f64; 2]> = None;
    for &[far, utility] in frontier {
        if far >= kl {
            let Some([near, from]) = before else { return Some(utility) };
            let (start, end) = (near.max(0.0).sqrt(), far.sqrt());
            let share = if end > start { (kl.sqrt() - start) / (end - start) } else { 1.0 };
            return Some(share.clamp(0.0, 1.0).mul_add(utility - from, from));
        }
        before = Some([far, utility]);
    }
    None
}

/// Mean over comparisons in %, with a 95 % interval by a jackknife over policies, since comparisons
/// share policies.
fn jackknife(orders: &[GoldOrder], values: &[f64], policies: usize) -> String {
    let known = || orders.iter().zip(values).filter(|(_, value)| value.is_finite());
    let without = |policy: usize| {
        mean(known().filter(|(order, _)| !order.policies.contains(&policy)).map(|(_, value)| *value))
    };
    let parts: Vec<f64> = (0..policies).filter_map(without).collect();
    let (all, centre) = (average(known().map(|(_, value)| *value)), average(parts.iter().copied()));
    let squares: f64 = parts.iter().map(|part| (part - centre).powi(2)).sum();
    let count = parts.len() as f64;
    let half = 1.96 * (squares * (count - 1.0) / count).sqrt();
    let [value, low, high] = [all, all - half, all + half].map(|share| 100.0 * share);
    format!("{value:5.1} ({low:.1} to {high:.1})")
}

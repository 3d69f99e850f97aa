//! KL–reward frontier: how far samples are from the reference, and how good they are.
//!
//! Gao, Schulman and Hilton (2023, arXiv 2210.10760) plot rewards over √KL, along training: the
//! learnt reward keeps growing, the true one may fall. Rafailov et al. (2024, arXiv 2406.02900) do
//! so for objectives without a reward model, over training and over β.

use std::collections::{BTreeMap, BTreeSet};

use prospect_core::sample::mean;
use prospect_runs::{Estimate, FrontierPoint, FrontierReward, Judgement, PolicySample, RewardKind};

use super::{
    finished_runs::{CellKey, FinishedRun},
    sweep_runs::SweepRuns,
};
use crate::{
    AnalysisError,
    stats::{Observation, Sample, Scale, SeedVariance, pool_levels},
};

/// Samples of one cell after the same number of steps, by seed.
struct Moment<'a> {
    cell: &'a CellKey,
    step: u64,
    is_last: bool,
    runs: Vec<RunMoment<'a>>,
}

/// Samples of one run after one step.
struct RunMoment<'a> {
    samples: Vec<&'a PolicySample>,
    judgements: Vec<&'a Judgement>,
}

/// A value of every prompt of a moment, by seed.
type Values<'a> = Vec<Vec<Observation<'a>>>;

/// Returns the points of every cell whose runs have samples, in the order of their steps.
pub(super) fn frontier(sweep: &SweepRuns<'_>) -> Result<Vec<FrontierPoint>, AnalysisError> {
    let moments: Vec<Moment<'_>> =
        sweep.cells.iter().flat_map(|(cell, runs)| moments_of_cell(cell, runs)).collect();
    let kl = divergences(sweep, &moments)?;
    let (low, high) = sweep.utility_range().unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let utility = Scale::Range { low, high };
    let utility = if low.is_finite() { utility } else { Scale::Unbounded };
    let mut rewards = vec![(
        RewardKind::Utility,
        estimates(sweep, &moments, utility, |moment| moment.values(|sample| sample.utility))?,
    )];
    let judgements = || moments.iter().flat_map(|moment| &moment.runs).flat_map(|run| &run.judgements);
    let judges: BTreeSet<&str> = judgements().map(|judgement| judgement.judge.as_str()).collect();
    for judge in judges {
        let means = estimates(sweep, &moments, Scale::Unbounded, |moment| {
            moment.judged(judge, |judgement| judgement.reward)
        })?;
        rewards.push((RewardKind::Reward(judge.to_owned()), means));
        let means = estimates(sweep, &moments, Scale::Share, |moment| {
            moment.judged(judge, |judgement| judgement.score)
        })?;
        rewards.push((RewardKind::WinRate(judge.to_owned()), means));
    }
    let points = moments.iter().zip(kl).enumerate().map(|(index, (moment, kl))| {
        let reward = |(kind, means): &(RewardKind, Vec<Option<Estimate>>)| {
            Some(FrontierReward { kind: kind.clone(), mean: means[index]? })
        };
        FrontierPoint {
            series: moment.cell.series.clone(),
            x: sweep.xs.numbers[moment.cell.x],
            step: moment.step,
            is_last: moment.is_last,
            kl,
            rewards: rewards.iter().filter_map(reward).collect(),
            seeds: moment.runs.len(),
            prompts: moment.runs.first().map_or(0, |run| run.samples.len()),
        }
    });
    Ok(points.collect())
}

/// Returns the steps that all runs with samples have, and the last one of each, which may differ.
fn moments_of_cell<'a>(cell: &'a CellKey, runs: &'a [FinishedRun<'_>]) -> Vec<Moment<'a>> {
    let runs: Vec<&FinishedRun<'_>> = runs.iter().filter(|run| !run.samples.is_empty()).collect();
    let steps_of =
        |run: &FinishedRun<'_>| -> BTreeSet<u64> { run.samples.iter().map(|sample| sample.step).collect() };
    let steps: Vec<BTreeSet<u64>> = runs.iter().map(|run| steps_of(run)).collect();
    let last: Vec<u64> = steps.iter().filter_map(|steps| steps.last().copied()).collect();
    let (Some(first_steps), Some(first_last)) = (steps.first(), last.first()) else { return Vec::new() };
    let is_shared =
        |step: &&u64| steps.iter().zip(&last).all(|(own, last)| own.contains(step) && *step < last);
    let at = |run: &&'a FinishedRun<'_>, step: u64| RunMoment {
        samples: run.samples.iter().filter(|sample| sample.step == step).collect(),
        judgements: run.sample_judgements.iter().filter(|own| own.step == Some(step)).collect(),
    };
    let moment = |step: u64| Moment {
        cell,
        step,
        is_last: false,
        runs: runs.iter().map(|run| at(run, step)).collect(),
    };
    let mut moments: Vec<Moment<'_>> =
        first_steps.iter().filter(is_shared).map(|step| moment(*step)).collect();
    let ends = runs.iter().zip(&last).map(|(run, last)| at(run, *last)).collect();
    moments.push(Moment { cell, step: *first_last, is_last: true, runs: ends });
    moments
}

impl<'a> Moment<'a> {
    /// A value of every sample by seed; None unless all are known.
    fn values(&self, value: impl Fn(&PolicySample) -> Option<f64>) -> Option<Values<'a>> {
        let observation = |sample: &&'a PolicySample| Some(observation(sample, value(sample)?));
        self.runs.iter().map(|run| run.samples.iter().map(observation).collect()).collect()
    }

    /// Values of a judge, of the prompts that have one under every seed; None without such prompts.
    fn judged(&self, judge: &str, value: impl Fn(&Judgement) -> Option<f64>) -> Option<Values<'a>> {
        let of_run = |run: &RunMoment<'a>| -> BTreeMap<&'a str, f64> {
            let own = run.judgements.iter().filter(|judgement| judgement.judge == judge);
            own.filter_map(|judgement| Some((judgement.prompt_id.as_str(), value(judgement)?))).collect()
        };
        let known: Vec<BTreeMap<&str, f64>> = self.runs.iter().map(of_run).collect();
        let is_known = |sample: &&&PolicySample| {
            known.iter().all(|values| values.contains_key(sample.prompt_id.as_str()))
        };
        let of_run = |(run, values): (&RunMoment<'a>, &BTreeMap<&str, f64>)| -> Vec<Observation<'a>> {
            let shared = run.samples.iter().filter(is_known);
            let value = |sample: &&'a PolicySample| {
                Some(observation(sample, *values.get(sample.prompt_id.as_str())?))
            };
            shared.filter_map(value).collect()
        };
        let values: Values<'a> = self.runs.iter().zip(&known).map(of_run).collect();
        values.iter().all(|values| !values.is_empty()).then_some(values)
    }

    /// Moments whose seeds vary alike: the start, the course and the end of training.
    fn phase(&self) -> (bool, bool) {
        (self.step == 0, self.is_last)
    }
}

fn observation(sample: &PolicySample, value: f64) -> Observation<'_> {
    Observation { pair: &sample.prompt_id, prompt: &sample.prompt_id, value }
}

/// Returns the KL divergence at every moment. At step 0 the policy is the reference.
///
/// Divergences differ by orders of magnitude, so the variance between seeds is pooled relative to
/// the square of the mean, and intervals are those of the logarithm.
fn divergences(sweep: &SweepRuns<'_>, moments: &[Moment<'_>]) -> Result<Vec<Estimate>, AnalysisError> {
    let mut samples = Vec::with_capacity(moments.len());
    for moment in moments {
        let values = moment.values(|sample| Some(sample.kl)).unwrap_or_default();
        samples.push(Sample::new(&values, Scale::Unbounded)?);
    }
    let levels: Vec<f64> = samples.iter().map(|sample| mean(sample.run_means()).unwrap_or(0.0)).collect();
    let relative = |index: usize| -> Vec<f64> {
        samples[index].run_means().into_iter().map(|kl| kl / levels[index]).collect()
    };
    let pooled = pooled_by_phase(sweep, moments, |index| (levels[index] > 0.0).then(|| relative(index)));
    let estimate = |(index, sample): (usize, &Sample)| {
        if levels[index] == 0.0 {
            return Estimate { value: 0.0, low: 0.0, high: 0.0 };
        }
        let scaled = pooled[index]
            .map(|seeds| SeedVariance { variance: seeds.variance * levels[index] * levels[index], ..seeds });
        positive(sample.estimate_with(scaled))
    };
    Ok(samples.iter().enumerate().map(estimate).collect())
}

/// Returns the interval of a positive mean, symmetric on the logarithmic scale with the same
/// standard error to first order, so that it stays above 0.
fn positive(Estimate { value, low, high }: Estimate) -> Estimate {
    let factor = ((high - low) / (2.0 * value)).exp();
    Estimate { value, low: value / factor, high: value * factor }
}

/// Returns the mean of a reward at every moment that has it, with the variance between seeds pooled
/// over moments of the same phase.
fn estimates<'a>(
    sweep: &SweepRuns<'_>,
    moments: &[Moment<'a>],
    scale: Scale,
    values: impl Fn(&Moment<'a>) -> Option<Values<'a>>,
) -> Result<Vec<Option<Estimate>>, AnalysisError> {
    let mut samples = Vec::with_capacity(moments.len());
    for moment in moments {
        samples.push(values(moment).map(|values| Sample::new(&values, scale)).transpose()?);
    }
    let pooled = pooled_by_phase(sweep, moments, |index| samples[index].as_ref().map(Sample::run_means));
    let (least, most) = match scale {
        Scale::Share => (0.0, 1.0),
        Scale::Range { low, high } => (low, high),
        Scale::Unbounded => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let estimate = |(sample, seeds): (&Option<Sample>, &Option<SeedVariance>)| {
        Some(sample.as_ref()?.estimate_with(*seeds).clamped(least, most))
    };
    Ok(samples.iter().zip(&pooled).map(estimate).collect())
}

/// Returns the variance between seeds at every moment, pooled over moments of the same phase whose
/// results do not repeat those of another series.
fn pooled_by_phase(
    sweep: &SweepRuns<'_>,
    moments: &[Moment<'_>],
    run_means: impl Fn(usize) -> Option<Vec<f64>>,
) -> Vec<Option<SeedVariance>> {
    let mut pooled = vec![None; moments.len()];
    let phases: BTreeSet<(bool, bool)> = moments.iter().map(Moment::phase).collect();
    for phase in phases {
        let is_pooled =
            |moment: &Moment<'_>| moment.phase() == phase && !sweep.identical.contains_key(moment.cell);
        let (members, means): (Vec<usize>, Vec<Vec<f64>>) = (0..moments.len())
            .filter(|index| is_pooled(&moments[*index]))
            .filter_map(|index| Some((index, run_means(index)?)))
            .unzip();
        for (index, seeds) in members.into_iter().zip(pool_levels(&means)) {
            pooled[index] = seeds;
        }
    }
    pooled
}

#[cfg(test)]
mod tests {
    use prospect_runs::{Opponent, PlannedRun};

    use super::*;
    use crate::summary::{finished_runs::XValues, tests::experiment};

    /// Samples whose KL divergence is `kl`, and whose utility falls with it, with some noise.
    fn samples(step: u64, kl: f64, seed: u64) -> Vec<PolicySample> {
        let noise = |prompt: u64| ((prompt * 7 + seed * 5 + step) % 11) as f64 / 11.0 - 5.0 / 11.0;
        let sample = |prompt: u64| PolicySample {
            step,
            prompt_id: format!("{prompt:03}"),
            completion: String::new(),
            tokens: 3,
            ended: true,
            kl: kl * (1.0 + 0.5 * noise(prompt)),
            log_ratio: 0.0,
            utility: Some(1.0 - kl + noise(prompt)),
        };
        (0..22).map(sample).collect()
    }

    fn planned(seed: u64) -> PlannedRun {
        PlannedRun { id: String::new(), settings: BTreeMap::new(), seed, data: 0 }
    }

    fn points_of(runs: Vec<FinishedRun<'_>>) -> Vec<FrontierPoint> {
        let experiment = experiment("dpo");
        let cells = [(CellKey { series: "kto".to_owned(), x: 0 }, runs)].into();
        let xs = XValues { values: vec![0.5.into()], numbers: vec![0.5] };
        frontier(&SweepRuns::new(&experiment, xs, cells, BTreeMap::new())).unwrap()
    }

    #[test]
    fn points_are_the_steps_that_all_seeds_have_and_their_ends() {
        let plans = [planned(0), planned(1), planned(2)];
        let run = |(seed, planned)| {
            let steps = [(0, 0.0), (10, 0.2), (20, 0.5), (if seed == 2 { 27 } else { 30 }, 1.0)];
            let mut run = FinishedRun::with_judgements(planned, Vec::new());
            run.samples = steps.iter().flat_map(|(step, kl)| samples(*step, *kl, seed)).collect();
            run
        };
        let points = points_of((0..).zip(&plans).map(run).collect());
        let steps: Vec<_> = points.iter().map(|point| (point.step, point.is_last)).collect();
        assert_eq!(steps, [(0, false), (10, false), (20, false), (30, true)]);
        assert_eq!(
            (points[0].kl, points[0].root_kl().value),
            (Estimate { value: 0.0, low: 0.0, high: 0.0 }, 0.0)
        );
        for (point, kl) in points.iter().zip([0.0, 0.2, 0.5, 1.0]).skip(1) {
            assert!(
                (point.kl.value - kl).abs() < 0.05 && (point.seeds, point.prompts) == (3, 22),
                "{point:?}"
            );
            assert!(0.0 < point.kl.low && point.kl.low < point.kl.value && point.kl.value < point.kl.high);
            let root = point.root_kl();
            assert!((root.high * root.high - point.kl.high).abs() < 1e-12);
            let utility = point.reward(&RewardKind::Utility).unwrap();
            assert!((utility.value - (1.0 - kl)).abs() < 0.1 && utility.low < utility.high, "{utility:?}");
            assert_eq!(point.rewards.len(), 1);
        }
        assert!(points_of(vec![FinishedRun::with_judgements(&plans[0], Vec::new())]).is_empty());
    }

    #[test]
    fn judged_rewards_are_means_over_the_prompts_that_every_seed_has() {
        let plans = [planned(0), planned(1)];
        let run = |(seed, planned)| {
            let judgement = |sample: &PolicySample| Judgement {
                judge: "rm".to_owned(),
                opponent: Opponent::Target,
                prompt_id: sample.prompt_id.clone(),
                step: Some(8),
                score: Some(f64::from(u8::from(sample.prompt_id.ends_with('1')))),
                reward: (sample.prompt_id != "003" || seed == 0).then_some(2.5),
                characters: None,
                import: None,
            };
            let samples = samples(8, 0.3, seed);
            let sample_judgements = samples.iter().map(judgement).collect();
            let mut run = FinishedRun::with_judgements(planned, Vec::new());
            (run.samples, run.sample_judgements) = (samples, sample_judgements);
            run
        };
        let points = points_of((0..).zip(&plans).map(run).collect());
        let [point] = points.as_slice() else { panic!("one point: {points:?}") };
        let reward = point.reward(&RewardKind::Reward("rm".to_owned())).unwrap();
        assert!(reward.value == 2.5 && reward.low < 2.5 && 2.5 < reward.high, "{reward:?}");
        // Prompts 001, 011 and 021 of 22.
        let rate = point.reward(&RewardKind::WinRate("rm".to_owned())).unwrap();
        assert!((rate.value - 3.0 / 22.0).abs() < 1e-12 && 0.0 < rate.low, "{rate:?}");
    }
}

//! Number of runs to train at the same time.

use std::num::NonZeroUsize;

use prospect_runs::{JobsRecord, RoundTime};

use super::worker::{LoadedStart, Worker};
use crate::{SweepError, plan::ResolvedRun};

/// Number of runs to train at the same time. It does not affect results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// This many.
    Fixed(NonZeroUsize),
    /// The fastest number, found by measuring a few steps.
    Fastest {
        /// Largest number, for example as many runs as fit into memory.
        at_most: NonZeroUsize,
    },
}

impl Default for Jobs {
    fn default() -> Self {
        Self::Fixed(NonZeroUsize::MIN)
    }
}

impl Jobs {
    /// Returns the largest number of runs that may train at the same time.
    pub fn most(self) -> usize {
        let (Self::Fixed(most) | Self::Fastest { at_most: most }) = self;
        most.get()
    }

    /// Returns the number with one run for each thread of this process. More runs would share
    /// threads.
    pub fn one_per_thread() -> NonZeroUsize {
        NonZeroUsize::new(rayon::current_num_threads()).unwrap_or(NonZeroUsize::MIN)
    }
}

/// Largest share of a sweep's steps that a measurement may cost.
const MEASURED_SHARE: f64 = 0.02;
/// Seconds of steps that one measurement should cover.
const MEASURED_SECONDS: f64 = 0.25;
/// Throughput of twice as many runs at half the threads each, where it is not measured.
const ASSUMED_GAIN: f64 = 1.2;

impl Worker<'_> {
    /// Chooses how many of `runs`, which have `steps` optimizer steps left, to train at the same
    /// time, and reports and records the choice.
    pub(super) fn choose_jobs(
        &self,
        jobs: Jobs,
        runs: &[&ResolvedRun],
        steps: u64,
        loaded: &LoadedStart,
    ) -> Result<usize, SweepError> {
        let (Jobs::Fastest { at_most }, Some(first)) = (jobs, runs.first()) else { return Ok(jobs.most()) };
        let threads = Jobs::one_per_thread().get();
        let candidates = candidates(at_most.get().min(runs.len()).min(threads));
        if candidates.len() == 1 {
            return Ok(1);
        }
        let allowed = (MEASURED_SHARE * steps as f64) as u64;
        let rounds = allowed.saturating_sub(1) / candidates.iter().sum::<usize>() as u64;
        let (measured, reason) = match rounds {
            0 => (Vec::new(), "not measured, as the runs are short".to_owned()),
            rounds => match self.measure_rounds(first, &candidates, rounds, loaded) {
                Ok(measured) => {
                    let reason = describe(&measured);
                    (measured, reason)
                }
                // The run itself will fail with this error, and record it.
                Err(error) => (Vec::new(), format!("not measured: {error}")),
            },
        };
        let jobs = if measured.is_empty() {
            fastest(runs.len(), &assumed_times(&candidates))
        } else {
            fastest(runs.len(), &measured)
        };
        tracing::info!(
            "training {} at a time: {reason}; --jobs sets another number",
            if jobs == 1 { "1 run".to_owned() } else { format!("{jobs} runs") }
        );
        self.sweep.write_jobs(&JobsRecord { jobs, runs: runs.len(), threads, measured, reason })?;
        Ok(jobs)
    }

    /// Measures rounds: one optimizer step of `run`, alone and next to copies of itself. Each
    /// measurement has at most `rounds` rounds.
    fn measure_rounds(
        &self,
        run: &ResolvedRun,
        candidates: &[usize],
        rounds: u64,
        loaded: &LoadedStart,
    ) -> Result<Vec<RoundTime>, SweepError> {
        let model = self.start_model(run, loaded)?;
        let seconds = |jobs, rounds| {
            let worker = Worker { jobs, ..*self };
            worker.run_training(run, &model).seconds_of_steps(jobs, rounds)
        };
        // The first step clears the memory that all others use.
        let first = seconds(1, 1)?;
        let rounds = ((MEASURED_SECONDS / first).ceil() as u64).clamp(1, rounds);
        let mut measured: Vec<RoundTime> = Vec::new();
        for jobs in candidates.iter().copied() {
            let round = RoundTime { jobs, seconds: seconds(jobs, rounds)? / rounds as f64 };
            let is_worse = measured.last().is_some_and(|before| round.per_run() > before.per_run());
            measured.push(round);
            if is_worse {
                break;
            }
        }
        Ok(measured)
    }
}

/// Returns the numbers of parallel runs to compare: powers of two, and the largest one.
fn candidates(most: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1_usize), |jobs| jobs.checked_mul(2));
    powers.take_while(|jobs| *jobs < most).chain([most.max(1)]).collect()
}

/// Returns relative times of rounds under the assumption that doubling the number of parallel runs
/// multiplies the throughput by [`ASSUMED_GAIN`].
fn assumed_times(candidates: &[usize]) -> Vec<RoundTime> {
    let seconds = |jobs: usize| jobs as f64 / ASSUMED_GAIN.powf((jobs as f64).log2());
    candidates.iter().map(|jobs| RoundTime { jobs: *jobs, seconds: seconds(*jobs) }).collect()
}

/// Returns the number of parallel runs with which `runs` runs of equal length end first. The last
/// round may have fewer runs, and does not take less time.
fn fastest(runs: usize, rounds: &[RoundTime]) -> usize {
    let total = |round: &RoundTime| runs.div_ceil(round.jobs) as f64 * round.seconds;
    let best = rounds.iter().min_by(|a, b| total(a).total_cmp(&total(b)));
    best.map_or(1, |round| round.jobs)
}

fn describe(measured: &[RoundTime]) -> String {
    let one = |round: &RoundTime| match round.jobs {
        1 => format!("a step takes {:.3} s alone", round.seconds),
        jobs => format!("{:.3} s in each of {jobs} runs", round.seconds),
    };
    measured.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(seconds: &[(usize, f64)]) -> Vec<RoundTime> {
        seconds.iter().map(|(jobs, seconds)| RoundTime { jobs: *jobs, seconds: *seconds }).collect()
    }

    #[test]
    fn candidates_double_up_to_the_largest_number() {
        assert_eq!(candidates(1), [1]);
        assert_eq!(candidates(2), [1, 2]);
        assert_eq!(candidates(6), [1, 2, 4, 6]);
        assert_eq!(candidates(8), [1, 2, 4, 8]);
    }

    #[test]
    fn the_fastest_number_ends_all_runs_first() {
        let measured = rounds(&[(1, 1.0), (2, 1.6), (4, 3.4)]);
        assert_eq!(fastest(8, &measured), 2, "8, 6.4 and 6.8 s");
        assert_eq!(fastest(3, &measured), 1, "3, 3.2 and 3.4 s: threads idle in the last round");
        assert_eq!(fastest(8, &rounds(&[(1, 1.0), (2, 2.1)])), 1);
        assert_eq!(fastest(8, &[]), 1);
    }

    #[test]
    fn without_a_measurement_every_thread_has_a_run() {
        let assumed = assumed_times(&candidates(16));
        assert_eq!(fastest(100, &assumed), 16);
        assert_eq!(fastest(16, &assumed), 16);
        let assumed = assumed_times(&candidates(2));
        assert_eq!([2, 3, 8, 9].map(|runs| fastest(runs, &assumed)), [2, 1, 2, 2]);
    }
}

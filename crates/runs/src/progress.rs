//! How far a sweep has come, for those who watch it.

use std::{fmt, path::Path, time::SystemTime};

use crate::{RunsError, State, SweepDir};

/// How many runs of a sweep are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// All files are there.
    pub finished: usize,
    /// Ended with an error.
    pub failed: usize,
    /// Ended before their time.
    pub stopped: usize,
    /// Begun and not ended.
    pub running: usize,
    /// Not begun.
    pub not_started: usize,
}

impl Progress {
    /// Whether every run has ended, in one way or the other.
    pub fn ended(&self) -> bool {
        self.running + self.not_started == 0
    }
}

impl FromIterator<Option<State>> for Progress {
    fn from_iter<I: IntoIterator<Item = Option<State>>>(states: I) -> Self {
        let mut progress = Self::default();
        for state in states {
            *match state {
                Some(State::Finished) => &mut progress.finished,
                Some(State::Failed) => &mut progress.failed,
                Some(State::Stopped) => &mut progress.stopped,
                Some(State::Running) => &mut progress.running,
                None => &mut progress.not_started,
            } += 1;
        }
        progress
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { finished, failed, stopped, running, not_started } = *self;
        let total = finished + failed + stopped + running + not_started;
        write!(f, "{total} run{}", if total == 1 { "" } else { "s" })?;
        let parts = [
            (finished, "finished"),
            (failed, "failed"),
            (stopped, "stopped"),
            (running, "running"),
            (not_started, "not started"),
        ];
        for (index, (count, state)) in parts.into_iter().filter(|(count, _)| *count > 0).enumerate() {
            write!(f, "{} {count} {state}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// When the files that tell of a sweep's progress were written: equal as long as nothing is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Option<(u64, SystemTime)>>);

impl SweepDir {
    /// How far the planned runs have come.
    pub fn progress(&self) -> Result<Progress, RunsError> {
        let experiment = self.experiment()?;
        experiment
            .all_runs()
            .iter()
            .map(|run| Ok(self.run(&run.id).status()?.map(|status| status.state)))
            .collect()
    }

    /// When the sweep's plan, and metrics and status of its runs and stages, were written.
    pub fn stamp(&self) -> Result<Stamp, RunsError> {
        let experiment = self.experiment()?;
        let stages = experiment.stages.iter().map(|stage| &stage.id);
        let runs = stages.chain(experiment.all_runs().into_iter().map(|run| &run.id)).map(|id| self.run(id));
        let of_runs =
            runs.flat_map(|run| ["status.json", "metrics.jsonl"].map(|name| written(&run.path().join(name))));
        Ok(Stamp(std::iter::once(written(&self.path().join("experiment.json"))).chain(of_runs).collect()))
    }
}

/// Size and time of a file, if it is there.
fn written(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs_err::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_words() {
        let progress = |states: &[Option<State>]| states.iter().copied().collect::<Progress>();
        assert_eq!(progress(&[]).to_string(), "0 runs");
        let some = progress(&[Some(State::Finished), None, Some(State::Running), Some(State::Finished)]);
        assert_eq!(some.to_string(), "4 runs: 2 finished, 1 running, 1 not started");
        assert!(!some.ended() && progress(&[Some(State::Failed)]).ended());
    }
}

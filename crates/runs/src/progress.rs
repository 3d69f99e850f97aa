//! Progress of a sweep.

use std::{fmt, path::Path, time::SystemTime};

use crate::{RunsError, State, SweepDir};

/// Number of runs of a sweep in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepProgress {
    /// Complete.
    pub finished: usize,
    /// Ended with an error.
    pub failed: usize,
    /// Stopped before their last step.
    pub stopped: usize,
    /// Started and not ended.
    pub running: usize,
    /// Not started.
    pub not_started: usize,
}

impl SweepProgress {
    /// Returns true if every run has finished, failed or stopped.
    pub fn ended(&self) -> bool {
        self.running + self.not_started == 0
    }
}

impl FromIterator<Option<State>> for SweepProgress {
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

impl fmt::Display for SweepProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { finished, failed, stopped, running, not_started } = *self;
        let total = finished + failed + stopped + running + not_started;
        write!(f, "{total} run{}", if total == 1 { "" } else { "s" })?;
        let parts: [(usize, &str); 5] = [
            (finished, State::Finished.into()),
            (failed, State::Failed.into()),
            (stopped, State::Stopped.into()),
            (running, State::Running.into()),
            (not_started, State::NOT_STARTED),
        ];
        for (index, (count, state)) in parts.into_iter().filter(|(count, _)| *count > 0).enumerate() {
            write!(f, "{} {count} {state}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// Size and modification time of the files that show a sweep's progress. Equal stamps mean that
/// nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Option<(u64, SystemTime)>>);

impl SweepDir {
    /// Counts the planned runs by state.
    pub fn progress(&self) -> Result<SweepProgress, RunsError> {
        let experiment = self.experiment()?;
        experiment
            .all_runs()
            .iter()
            .map(|run| Ok(self.run(&run.id).status()?.map(|status| status.state)))
            .collect()
    }

    /// Stamp of the plan, and of metrics and status of all runs and stages.
    pub fn stamp(&self) -> Result<Stamp, RunsError> {
        let experiment = self.experiment()?;
        let stages = experiment.stages.iter().map(|stage| &stage.id);
        let ids = stages.chain(experiment.all_runs().into_iter().map(|run| &run.id));
        let mut files = vec![self.path().join("experiment.json")];
        for id in ids {
            let run = self.run(id);
            files.extend(["status.json", "metrics.jsonl"].map(|name| run.path().join(name)));
        }
        Ok(Stamp(files.iter().map(|file| size_and_time(file)).collect()))
    }
}

/// Size and modification time of a file; None if it does not exist.
fn size_and_time(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs_err::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_formatted_by_state() {
        let progress = |states: &[Option<State>]| states.iter().copied().collect::<SweepProgress>();
        assert_eq!(progress(&[]).to_string(), "0 runs");
        let some = progress(&[Some(State::Finished), None, Some(State::Running), Some(State::Finished)]);
        assert_eq!(some.to_string(), "4 runs: 2 finished, 1 running, 1 not started");
        assert!(!some.ended() && progress(&[Some(State::Failed)]).ended());
    }
}

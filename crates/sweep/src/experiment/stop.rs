//! When to end a run before its time.

use prospect_train::TrainError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EvaluateFile;

/// When to end a run before its time. A run that is ended so is left out of estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopFile {
    /// End a run whose loss or norm of the gradient is not finite, which is a failure otherwise (false).
    pub diverged: bool,
    /// End a run whose held-out accuracy is low (none).
    pub below: Option<Below>,
}

/// What a run has to reach in order to go on.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Below {
    /// The least held-out accuracy, from 0 to 1.
    pub accuracy: f64,
    /// Optimizer steps before it is looked at, at the evaluations between the start and the end.
    pub after: u64,
}

impl StopFile {
    /// Says what of it would have no effect.
    pub(crate) fn check(self, evaluate: EvaluateFile) -> Result<(), String> {
        let Some(Below { accuracy, after }) = self.below else {
            return if self.diverged {
                Ok(())
            } else {
                Err("`stop` ends no run: set `diverged: true` or `below`".to_owned())
            };
        };
        if !(0.0..=1.0).contains(&accuracy) {
            return Err(format!("`stop.below.accuracy` is a share, from 0 to 1, not {accuracy}"));
        }
        if after == 0 {
            return Err(
                "`stop.below.after` must be at least 1: before the first step every pair is a tie".to_owned()
            );
        }
        if evaluate.every.is_none() {
            return Err("`stop.below` needs evaluations between the start and the end: set `evaluate.every`"
                .to_owned());
        }
        Ok(())
    }

    /// Why a run ends after `step` of `total`, if it does. At its last step a run is at its end anyway.
    pub(crate) fn reason(self, step: u64, total: u64, accuracy: f64) -> Option<String> {
        let Below { accuracy: least, after } = self.below?;
        (step >= after && step < total && accuracy < least)
            .then(|| format!("held-out accuracy is {accuracy:.3}, below {least}"))
    }

    /// Returns true if an error of training ends the run early, rather than failing it.
    pub(crate) fn ends(self, error: &TrainError) -> bool {
        self.diverged && matches!(error, TrainError::Diverged { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(accuracy: f64, after: u64) -> StopFile {
        StopFile { diverged: false, below: Some(Below { accuracy, after }) }
    }

    #[test]
    fn a_run_ends_from_the_step_on_that_is_given_and_not_at_its_last() {
        let stop = below(0.45, 20);
        assert_eq!(stop.reason(10, 40, 0.1), None);
        assert_eq!(stop.reason(20, 40, 0.44).unwrap(), "held-out accuracy is 0.440, below 0.45");
        assert_eq!(stop.reason(30, 40, 0.45), None);
        assert_eq!(stop.reason(40, 40, 0.1), None);
        assert_eq!(StopFile { diverged: true, below: None }.reason(20, 40, 0.0), None);
    }

    #[test]
    fn rules_without_effect_are_told() {
        let every = EvaluateFile { every: Some(5), ..EvaluateFile::default() };
        let complaint = |stop: StopFile, evaluate| stop.check(evaluate).unwrap_err();
        assert!(complaint(StopFile::default(), every).contains("ends no run"));
        assert!(complaint(below(45.0, 20), every).contains("a share"));
        assert!(complaint(below(0.45, 0), every).contains("at least 1"));
        assert!(complaint(below(0.45, 20), EvaluateFile::default()).contains("`evaluate.every`"));
        assert_eq!(below(0.45, 20).check(every), Ok(()));
    }
}

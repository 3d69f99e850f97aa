//! Early stopping.

use prospect_train::TrainError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Early stopping: conditions that end a run before its last step. Estimates leave stopped runs
/// out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopFile {
    /// Stop a run whose loss or gradient norm is not finite. Default: false, such a run fails.
    pub diverged: bool,
    /// Stop a run whose held-out accuracy (AUC on thumbs without pairs) is low. Default: never.
    pub below: Option<AccuracyFloor>,
}

/// Lowest held-out accuracy at which a run continues.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccuracyFloor {
    /// Held-out accuracy, from 0 to 1.
    pub accuracy: f64,
    /// First optimizer step that it applies to, at the evaluations between the start and the end.
    pub after: u64,
}

impl StopFile {
    /// Refuses settings that have no effect. `evaluates_midway` is true if held-out pairs are also
    /// evaluated between the start and the end.
    pub(crate) fn check(self, evaluates_midway: bool) -> Result<(), String> {
        let Some(AccuracyFloor { accuracy, after }) = self.below else {
            return if self.diverged {
                Ok(())
            } else {
                Err("`stop` has no effect: set `diverged: true` or `below`".to_owned())
            };
        };
        if !(0.0..=1.0).contains(&accuracy) {
            return Err(format!("`stop.below.accuracy` must be between 0 and 1, not {accuracy}"));
        }
        if after == 0 {
            return Err(
                "`stop.below.after` must be at least 1: before the first step every pair is a tie".to_owned()
            );
        }
        if !evaluates_midway {
            return Err("`stop.below` needs evaluations between the start and the end: set `evaluate.every`"
                .to_owned());
        }
        Ok(())
    }

    /// Returns the reason to stop after `step` of `total` steps, if any. A run is never stopped at
    /// its last step.
    pub(crate) fn reason(self, step: u64, total: u64, accuracy: f64) -> Option<String> {
        let AccuracyFloor { accuracy: least, after } = self.below?;
        (step >= after && step < total && accuracy < least)
            .then(|| format!("held-out accuracy is {accuracy:.3}, below {least}"))
    }

    /// Returns true if a training error means that the run is stopped, not failed.
    pub(crate) fn stops_on(self, error: &TrainError) -> bool {
        self.diverged && matches!(error, TrainError::Diverged { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(accuracy: f64, after: u64) -> StopFile {
        StopFile { diverged: false, below: Some(AccuracyFloor { accuracy, after }) }
    }

    #[test]
    fn a_run_stops_from_the_given_step_on_but_not_at_its_last() {
        let stop = below(0.45, 20);
        assert_eq!(stop.reason(10, 40, 0.1), None);
        assert_eq!(stop.reason(20, 40, 0.44).unwrap(), "held-out accuracy is 0.440, below 0.45");
        assert_eq!(stop.reason(30, 40, 0.45), None);
        assert_eq!(stop.reason(40, 40, 0.1), None);
        assert_eq!(StopFile { diverged: true, below: None }.reason(20, 40, 0.0), None);
    }

    #[test]
    fn rules_without_effect_are_errors() {
        let complaint = |stop: StopFile, evaluates_midway| stop.check(evaluates_midway).unwrap_err();
        assert!(complaint(StopFile::default(), true).contains("no effect"));
        assert!(complaint(below(45.0, 20), true).contains("between 0 and 1"));
        assert!(complaint(below(0.45, 0), true).contains("at least 1"));
        assert!(complaint(below(0.45, 20), false).contains("`evaluate.every`"));
        assert_eq!(below(0.45, 20).check(true), Ok(()));
    }
}

//! Fixtures of the summary's tests.

use prospect_runs::{Axis, Experiment};
use serde_json::Value;

/// An experiment without runs.
pub(super) fn experiment(baseline: &str) -> Experiment {
    let axis = |key: &str| Axis { key: key.to_owned(), label: key.to_owned() };
    Experiment {
        name: "experiment".to_owned(),
        question: String::new(),
        commands: Vec::new(),
        x: axis("kept"),
        series: axis("method"),
        baseline: baseline.to_owned(),
        primary: None,
        level: None,
        resample: Vec::new(),
        reference: None,
        more_references: Vec::new(),
        trained_starts: Vec::new(),
        capabilities: Vec::new(),
        untrained: Vec::new(),
        stages: Vec::new(),
        data: Vec::new(),
        runs: Vec::new(),
        search: None,
        base: Value::Null,
    }
}

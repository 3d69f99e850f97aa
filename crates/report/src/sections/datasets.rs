//! Datasets that the runs trained on, with their manifests.

use serde::Serialize;

use crate::{format, render::document::JsonDocument, sweep_data::SweepData};

/// A dataset as the page shows it.
#[derive(Serialize)]
pub(crate) struct DatasetView {
    path: String,
    /// Number of runs that use it.
    used: String,
    manifest: JsonDocument,
}

/// Returns the datasets of the experiment.
pub(crate) fn datasets(sweep: &SweepData) -> Vec<DatasetView> {
    let dataset = |(index, data): (usize, &prospect_runs::DataUse)| {
        let users = sweep.runs.iter().filter(|run| run.planned.data == index).count();
        DatasetView {
            path: data.path.display().to_string(),
            used: format::count(users, "run"),
            manifest: JsonDocument::new(&data.manifest),
        }
    };
    sweep.experiment.data.iter().enumerate().map(dataset).collect()
}

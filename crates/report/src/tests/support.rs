//! Helpers that render synthetic sweeps and read the results.

use std::{collections::BTreeMap, path::Path, time::Duration};

use prospect_runs::{Axis, Experiment, SweepDir};
use serde_json::json;
use tempfile::TempDir;

use super::fixture::{DEFAULT, SyntheticSweep};
use crate::{
    page::{self, PageFigures},
    render,
    sections::means::MeanTables,
    sweep_data::SweepData,
};

/// Renders a synthetic sweep and returns its folder and page.
///
/// If `KEEP_REPORT` is set, the report is also written to that folder.
pub(super) fn render_page(synthetic: &SyntheticSweep<'_>, name: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let sweep = synthetic.write(&folder.path().join("sweep"));
    let html = fs_err::read_to_string(render(&sweep, &folder.path().join("report"), None).unwrap()).unwrap();
    if let Some(folder) = std::env::var_os("KEEP_REPORT") {
        render(&sweep, &Path::new(&folder).join(name), None).unwrap();
    }
    (folder, html)
}

/// Reads the files of a report, by relative path.
pub(super) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for inner in ["", "figures", "tables"] {
        for entry in fs_err::read_dir(folder.join(inner)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let name = format!("{inner}/{}", entry.file_name().to_string_lossy());
                files.insert(name, fs_err::read(entry.path()).unwrap());
            }
        }
    }
    files
}

/// Writes a synthetic sweep whose x values have these names, modified by `change`.
pub(super) fn with_x_names(
    folder: &TempDir,
    names: &[&str],
    change: impl Fn(&SweepDir, &mut Experiment),
) -> SweepDir {
    let xs: Vec<f64> = (0..names.len()).map(|index| index as f64).collect();
    let synthetic = SyntheticSweep { xs: &xs.iter().map(|x| 0.1 + 0.2 * x).collect::<Vec<_>>(), ..DEFAULT };
    let sweep = synthetic.write(&folder.path().join("sweep"));
    let mut experiment = sweep.experiment().unwrap();
    for run in &mut experiment.runs {
        run.settings.insert("setting".to_owned(), json!(names[run.data]));
    }
    experiment.x = Axis { key: "setting".to_owned(), label: "data".to_owned() };
    change(&sweep, &mut experiment);
    sweep.write_experiment(&experiment).unwrap();
    let mut summary = sweep.summary().unwrap().unwrap();
    let value = |x: f64| xs[synthetic.xs.iter().position(|other| *other == x).unwrap()];
    summary.points.iter_mut().for_each(|point| point.x = value(point.x));
    summary.contrasts.iter_mut().for_each(|contrast| contrast.x = value(contrast.x));
    sweep.write_summary(&summary).unwrap();
    sweep
}

/// Returns the page of a sweep, without writing its files.
///
/// If `KEEP_REPORT` is set, the report is also written to that folder.
pub(super) fn page_html(sweep: &SweepDir, reload: Option<Duration>, name: &str) -> String {
    if let Some(folder) = std::env::var_os("KEEP_REPORT") {
        render(sweep, &Path::new(&folder).join(name), reload).unwrap();
    }
    let sweep = SweepData::read(sweep).unwrap();
    let means = MeanTables::new(&sweep);
    page::html(&sweep, &PageFigures::new(&sweep, &means), &means, reload).unwrap()
}

/// Returns the text alternatives of a figure's panels.
pub(super) fn descriptions<'a>(html: &'a str, figure: &str) -> Vec<&'a str> {
    let (_, rest) = html.split_once(&format!("id=\"figure-{figure}\"")).unwrap();
    let (figure, _) = rest.split_once("</figure>").unwrap();
    figure.split("<title>").skip(1).map(|part| part.split_once("</title>").unwrap().0).collect()
}

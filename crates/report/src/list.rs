//! List page of all reports in a folder.

use std::path::{Path, PathBuf};

use prospect_core::files::write_json;
use prospect_runs::{Experiment, PrimaryContrast, SweepDir};
use serde::{Deserialize, Serialize};

use crate::{ReportError, format, render::templates, sweep_data::SweepData};

const FILE: &str = "report.json";

/// Entry of a report in the list, stored as `report.json` next to its page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportEntry {
    /// Name of the experiment.
    pub(crate) name: String,
    /// Question of the experiment.
    pub(crate) question: String,
    /// Verdict, once there is one.
    pub(crate) verdict: Option<String>,
    /// Number of runs in each state.
    pub(crate) progress: String,
    /// Settings of the report; None for comparisons of sweeps.
    #[serde(default)]
    pub(crate) settings: Option<ReportSettings>,
}

/// Settings of a report that make it another report of the same runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportSettings {
    x: String,
    series: String,
    baseline: String,
    /// Series, x and measure of the primary comparison.
    primary: Option<String>,
}

impl ReportSettings {
    fn new(experiment: &Experiment) -> Self {
        let primary = |primary: &PrimaryContrast| {
            format!("{} at {}, {}", primary.series, format::setting(&primary.x), primary.measure)
        };
        Self {
            x: experiment.x.key.clone(),
            series: experiment.series.key.clone(),
            baseline: experiment.baseline.clone(),
            primary: experiment.primary.as_ref().map(primary),
        }
    }

    /// Suffix of the folder of a report with these settings, if another report has the plain name.
    fn suffix(&self) -> String {
        let Self { x, series, baseline, primary } = self;
        let words = format!("{x} {series} {baseline} {}", primary.as_deref().unwrap_or_default());
        let is_word = |character: char| character.is_ascii_alphanumeric() || character == '.';
        let words: Vec<&str> =
            words.split(|character| !is_word(character)).filter(|word| !word.is_empty()).collect();
        words.join("-")
    }
}

/// Returns the folder in a sweep for its report: `report`, unless that holds a report with other
/// settings, so that neither overwrites the other.
pub(crate) fn folder_in(sweep: &SweepDir) -> Result<PathBuf, ReportError> {
    let failed = |source| ReportError::Sweep { path: sweep.path().to_owned(), source };
    let settings = ReportSettings::new(&sweep.experiment().map_err(failed)?);
    let folder = sweep.path().join("report");
    let known = fs_err::read(folder.join(FILE)).ok();
    let known = known.and_then(|text| serde_json::from_slice::<ReportEntry>(&text).ok());
    let is_other = known.and_then(|entry| entry.settings).is_some_and(|known| known != settings);
    Ok(if is_other { sweep.path().join(format!("report-{}", settings.suffix())) } else { folder })
}

impl ReportEntry {
    /// Creates the entry of a sweep's report.
    pub(crate) fn new(sweep: &SweepData) -> Self {
        Self {
            name: sweep.experiment.name.clone(),
            question: sweep.experiment.question.clone(),
            verdict: sweep.summary.as_ref().map(|summary| summary.verdict.clone()),
            progress: sweep.progress(),
            settings: Some(ReportSettings::new(&sweep.experiment)),
        }
    }

    /// Writes `report.json` into the folder of a report.
    pub(crate) fn write(&self, report: &Path) -> Result<(), ReportError> {
        Ok(write_json(&report.join(FILE), self)?)
    }
}

/// An entry with its link.
#[derive(Serialize)]
struct LinkedEntry {
    /// Relative URL of the report's folder.
    address: String,
    #[serde(flatten)]
    entry: ReportEntry,
}

/// Returns the list of the reports in `reports` as HTML, ordered by folder name.
///
/// Folders without a readable `report.json` are skipped.
pub(crate) fn html(reports: &Path) -> Result<String, ReportError> {
    let mut entries = Vec::new();
    for folder in fs_err::read_dir(reports)? {
        let path = folder?.path();
        let Ok(text) = fs_err::read(path.join(FILE)) else { continue };
        let (Ok(entry), Some(name)) = (serde_json::from_slice(&text), path.file_name()) else { continue };
        entries.push(LinkedEntry { address: percent_encoded(&name.to_string_lossy()), entry });
    }
    entries.sort_by(|a, b| a.address.cmp(&b.address));
    templates::render("list.html", serde_json::json!({ "reports": entries }))
}

/// Percent-encodes a folder name for a URL.
fn percent_encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

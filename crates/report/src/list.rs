//! List page of all reports in a folder.

use std::path::Path;

use prospect_core::files::write_json;
use serde::{Deserialize, Serialize};

use crate::{ReportError, render::templates, sweep_data::SweepData};

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
}

impl ReportEntry {
    /// Creates the entry of a sweep's report.
    pub(crate) fn new(sweep: &SweepData) -> Self {
        Self {
            name: sweep.experiment.name.clone(),
            question: sweep.experiment.question.clone(),
            verdict: sweep.summary.as_ref().map(|summary| summary.verdict.clone()),
            progress: sweep.progress(),
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

//! The page that lists reports.

use std::path::Path;

use prospect_core::files::write_json;
use serde::{Deserialize, Serialize};

use crate::{
    ReportError,
    page::{progress, rendered},
    sweep::Sweep,
};

const FILE: &str = "report.json";

/// What the list says of a report; `report.json` beside its page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The experiment's name.
    pub(crate) name: String,
    /// What it asks.
    pub(crate) question: String,
    /// The answer, if there is one yet.
    pub(crate) verdict: Option<String>,
    /// How far it has come.
    pub(crate) progress: String,
}

impl Entry {
    pub(crate) fn of(sweep: &Sweep) -> Self {
        Self {
            name: sweep.experiment.name.clone(),
            question: sweep.experiment.question.clone(),
            verdict: sweep.summary.as_ref().map(|summary| summary.verdict.clone()),
            progress: progress(sweep),
        }
    }

    pub(crate) fn write(&self, report: &Path) -> Result<(), ReportError> {
        Ok(write_json(&report.join(FILE), self)?)
    }
}

#[derive(Serialize)]
struct Listed {
    /// Address of the report's folder, from that of the list.
    address: String,
    #[serde(flatten)]
    entry: Entry,
}

/// The list of the reports in the folders of `reports`, by name. A folder without a readable `report.json` is no report.
pub(crate) fn html(reports: &Path) -> Result<String, ReportError> {
    let mut listed = Vec::new();
    for folder in fs_err::read_dir(reports)? {
        let path = folder?.path();
        let Ok(text) = fs_err::read(path.join(FILE)) else { continue };
        let (Ok(entry), Some(name)) = (serde_json::from_slice(&text), path.file_name()) else { continue };
        listed.push(Listed { address: escaped(&name.to_string_lossy()), entry });
    }
    listed.sort_by(|a, b| a.address.cmp(&b.address));
    rendered("list.html", serde_json::json!({ "reports": listed }))
}

/// A folder's name as a part of an address.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(escape).collect()
}

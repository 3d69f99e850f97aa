//! Folder of a sweep's report: inside the sweep, with a link in `reports/`.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use fs_err::os::unix::fs::symlink;
use prospect_core::files::write_whole_at;
use prospect_runs::SweepDir;

use super::REPORTS;
use crate::output::say;

/// Folder that a report is written to.
pub(crate) struct ReportPlace {
    folder: PathBuf,
    /// True if `reports/` gets a link to it.
    is_linked: bool,
}

impl ReportPlace {
    /// Returns `out` if it is given; otherwise the folder in the sweep for its report settings.
    pub(crate) fn new(sweep: &SweepDir, out: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match out {
            Some(out) => Self { folder: out.to_owned(), is_linked: false },
            None => Self { folder: prospect_report::folder_in(sweep)?, is_linked: true },
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Updates the link and the list of reports. An existing folder of this name is left alone.
    pub(crate) fn publish(&self, sweep: &SweepDir) -> anyhow::Result<()> {
        if self.is_linked {
            link(sweep, &self.folder)?;
        }
        if self.is_linked || self.folder.parent() == Some(Path::new(REPORTS)) {
            prospect_report::list(Path::new(REPORTS))?;
        }
        Ok(())
    }
}

/// Links `reports/NAME` to the folder of a report, where NAME is that of the sweep's directory,
/// with the suffix of the report's folder.
fn link(sweep: &SweepDir, folder: &Path) -> anyhow::Result<()> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let suffix = name(folder).trim_start_matches("report").to_owned();
    let link = Path::new(REPORTS).join(name(sweep.path()) + &suffix);
    fs_err::create_dir_all(REPORTS)?;
    let target = if folder.is_relative() { Path::new("..").join(folder) } else { folder.to_owned() };
    match fs_err::symlink_metadata(&link) {
        Ok(known) if !known.is_symlink() => {
            say(format!(
                "{} holds a report of an earlier version, which is no longer updated; remove it to get a link to {}",
                link.display(),
                folder.display()
            ));
            return Ok(());
        }
        Ok(_) if fs_err::read_link(&link)? == target => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // Renamed into place, so that no reader and no other worker finds it missing.
    Ok(write_whole_at(&link, |temporary| symlink(target, temporary))?)
}

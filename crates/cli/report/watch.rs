//! `prospect report --watch`: updates the report of a sweep that another process runs.

use std::{
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use prospect_runs::SweepDir;

use super::{ReportPlace, open_sweep, summarise_and_render, sweep_directory};
use crate::output::say;

/// Minimum time between two checks.
const PAUSE: Duration = Duration::from_secs(1);

/// Reload interval of the page.
const RELOAD: Duration = Duration::from_secs(5);

/// Opens the sweep of this name or directory. A directory without a plan is still preparing its
/// data: waits for the plan.
pub(super) fn wait_for_plan(given: &Path) -> anyhow::Result<SweepDir> {
    let directory = sweep_directory(given);
    let plan = directory.join("experiment.json");
    if directory.exists() && !plan.exists() {
        say(format!("waiting for {}", plan.display()));
        while directory.exists() && !plan.exists() {
            sleep(PAUSE);
        }
    }
    open_sweep(given)
}

/// Updates the report whenever the sweep changes, until every run has ended. Returns the path of
/// its page.
pub(super) fn update_until_ended(sweep: &SweepDir, place: &ReportPlace) -> anyhow::Result<PathBuf> {
    let mut last = None;
    loop {
        let started = Instant::now();
        let stamp = sweep.stamp()?;
        if last.as_ref() != Some(&stamp) {
            let progress = sweep.progress()?;
            // The summary is made after this check, so it has every run that has ended by now.
            let reload = (!progress.ended()).then_some(RELOAD);
            let page = summarise_and_render(sweep, place, reload)?;
            say(format!("{}: {progress}", page.display()));
            if progress.ended() {
                return Ok(page);
            }
            last = Some(stamp);
        }
        // Rendering takes at most half of the time.
        sleep(PAUSE.max(started.elapsed()));
    }
}

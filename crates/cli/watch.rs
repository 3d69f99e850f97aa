//! `prospect report --watch`: the report of a sweep that another process works on.

use std::{
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use prospect_core::progress::say;
use prospect_runs::SweepDir;

use crate::report;

/// The least time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// After how long a page loads itself again.
const RELOAD: Duration = Duration::from_secs(5);

/// The sweep of this name or directory. If there is a directory without a plan, its data are still being prepared.
pub(crate) fn appearing(given: &Path) -> anyhow::Result<SweepDir> {
    let directory = report::directory(given);
    let plan = directory.join("experiment.json");
    if directory.exists() && !plan.exists() {
        say(format!("waiting for {}", plan.display()));
        while directory.exists() && !plan.exists() {
            sleep(PAUSE);
        }
    }
    report::found(given)
}

/// Writes the report whenever there is something new, until every run has ended, and returns the path of its page.
pub(crate) fn until_ended(sweep: &SweepDir, out: &Path) -> anyhow::Result<PathBuf> {
    let mut last = None;
    loop {
        let started = Instant::now();
        let stamp = sweep.stamp()?;
        if last.as_ref() != Some(&stamp) {
            let progress = sweep.progress()?;
            // What has ended by now is in the summary, which is made after.
            let reload = (!progress.ended()).then_some(RELOAD);
            let page = report::summarised(sweep, out, reload)?;
            say(format!("{}: {progress}", page.display()));
            if progress.ended() {
                return Ok(page);
            }
            last = Some(stamp);
        }
        // No more than half of the time goes into it.
        sleep(PAUSE.max(started.elapsed()));
    }
}

//! `prospect prepare --executor slurm`: reads the parts of an input on a cluster.

use std::path::Path;

use prospect_core::shell;
use prospect_sweep::{Preparation, PreparationOutcome};

use super::Args;
use crate::{output, output::say, profile};

/// Submits the jobs that read and merge the input, or prints their scripts.
pub(super) fn submit(args: &Args, out: &Path) -> anyhow::Result<()> {
    let profile = profile::find(args.executor.profile.as_deref(), &args.pipeline)?;
    let path = |path: &Path| shell::word(&path.display().to_string());
    let mut words = vec!["prepare".to_owned(), path(&args.pipeline), format!("--out {}", path(out))];
    words.extend(args.overrides.given().iter().map(|set| format!("--set {}", shell::word(set))));
    words.extend(args.force.then(|| "--force".to_owned()));
    words.extend(args.strict.then(|| "--strict".to_owned()));
    let arguments = words.join(" ");
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let preparation = Preparation { name: &name, dataset: out, profile: &profile, arguments: &arguments };
    if args.executor.dry_run {
        output::print(preparation.scripts()?.join("\n").trim_end())?;
        return Ok(());
    }
    let last = match preparation.submit()? {
        PreparationOutcome::Submitted { parts, tasks, merge } => {
            say(format!(
                "submitted job {parts} ({tasks} tasks that read the input) and job {merge} (merges the parts); cancel with \
                 `scancel {parts} {merge}`, resume with the same command"
            ));
            merge
        }
        PreparationOutcome::AlreadyActive(job) => {
            say(format!("jobs of an earlier call are queued or running, up to {job}: submitted none"));
            job
        }
    };
    Ok(output::print(last)?)
}

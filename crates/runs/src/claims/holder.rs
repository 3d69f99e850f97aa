//! Holder of a claim.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Default heartbeat interval; `PROSPECT_HEARTBEAT`, in seconds, overrides it.
const BEAT: Duration = Duration::from_secs(10);

/// A process that holds a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the machine.
    pub host: String,
    /// Process id on that machine.
    pub pid: u32,
    /// Slurm job and array task, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Boot id of the system whose processes see the lock on the claim's file; None without a lock.
    pub(super) system: Option<String>,
    /// Heartbeat interval in milliseconds.
    pub(super) beat: u64,
}

impl Holder {
    /// This process. `PROSPECT_HOST` overrides the machine's name, and makes it count as another
    /// machine.
    pub(super) fn this_process() -> Self {
        let named = std::env::var("PROSPECT_HOST").ok();
        let file = |path| fs_err::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let host = named.clone().or_else(|| file("/proc/sys/kernel/hostname"));
        let beat = std::env::var("PROSPECT_HEARTBEAT").ok().and_then(|seconds| seconds.parse().ok());
        let beat = beat.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self {
            host: host.unwrap_or_else(|| "this machine".to_owned()),
            pid: std::process::id(),
            job: job(),
            // Systems without a boot id cannot be distinguished; assume a single machine.
            system: named.or_else(|| file("/proc/sys/kernel/random/boot_id")).or(Some(String::new())),
            beat: beat.unwrap_or(BEAT).as_millis().max(1) as u64,
        }
    }

    /// Process on the machine `host`.
    #[cfg(test)]
    pub(super) fn on(host: &str, beat: Duration) -> Self {
        let host = host.to_owned();
        Self { system: Some(host.clone()), host, pid: 1, job: None, beat: beat.as_millis() as u64 }
    }

    pub(super) fn beat(&self) -> Duration {
        Duration::from_millis(self.beat)
    }

    /// Returns true if `other` sees the holder's lock.
    pub(super) fn is_on_system_of(&self, other: &Self) -> bool {
        self.system.is_some() && self.system == other.system
    }
}

/// Slurm job of this process: `JOB`, or `JOB_TASK` in an array.
fn job() -> Option<String> {
    let variable = |name| std::env::var(name).ok();
    match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => Some(format!("{job}_{task}")),
        _ => variable("SLURM_JOB_ID"),
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, pid, job, .. } = self;
        match job {
            Some(job) => write!(f, "Slurm job {job} on {host}"),
            None => write!(f, "process {pid} on {host}"),
        }
    }
}

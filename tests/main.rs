//! End-to-end tests: the binary as a user runs it. A single test binary, so that it links once.

// Helpers fail the test, like the tests themselves.
#![allow(clippy::unwrap_used)]

mod baselines;
mod capabilities;
mod compare;
mod docs;
mod emulated;
mod exchange;
mod experiments;
mod export;
mod formats;
mod gpu_check;
mod group;
mod hostile;
mod import;
mod inspect;
mod integrity;
mod judge;
mod learning;
mod more_data;
mod nccl;
mod objectives;
mod paper;
mod plan;
mod planning;
mod prepare;
mod progress;
#[cfg(not(feature = "cuda"))]
mod python;
mod query;
mod recipes;
mod reward_models;
mod sharing;
mod slurm;
mod sources;
mod starts;
mod support;
#[cfg(target_os = "linux")]
mod survival;
mod sweep;
mod templates;
mod theory;
mod thumbs;
mod train;
mod triage;
mod validate;
mod watch;

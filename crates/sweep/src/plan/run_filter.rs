//! Selection of runs by their settings.

use std::borrow::Cow;

use prospect_core::config::{Document, did_you_mean};
use prospect_runs::series_name;
use serde_json::Value;

use super::{ResolvedRun, SweepPlan};
use crate::{SweepError, config::same_value};

/// Selects the runs that match every `KEY=VALUE` condition. `seed` is a key too.
///
/// The default selects every run.
#[derive(Debug, Clone, Default)]
pub struct RunFilter(Vec<(String, Value)>);

impl RunFilter {
    /// Parses `KEY=VALUE` conditions. It is an error if no run of `plan` matches.
    pub fn parse(conditions: &[String], plan: &SweepPlan) -> Result<Self, SweepError> {
        let parse = |condition: &String| {
            let (key, value) = condition.split_once('=').ok_or_else(|| {
                SweepError::Setting(format!("--only takes KEY=VALUE, as in method=kto, not `{condition}`"))
            })?;
            let value: Value = Document::from_text("--only", value)?.read()?;
            if plan.runs.iter().any(|run| has_value(run, key, &value)) {
                return Ok((key.to_owned(), value));
            }
            let all = plan.runs.iter().flat_map(values);
            let mut existing: Vec<String> =
                all.map(|(name, value)| format!("{name}={}", series_name(&value))).collect();
            existing.sort();
            existing.dedup();
            let nearest = did_you_mean(condition, existing.iter().map(String::as_str));
            let existing = existing.join(", ");
            Err(SweepError::Setting(format!("no run has {condition}; there are: {existing}{nearest}")))
        };
        let filter = Self(conditions.iter().map(parse).collect::<Result<_, _>>()?);
        if plan.runs.iter().any(|run| filter.matches(run)) {
            return Ok(filter);
        }
        Err(SweepError::Setting(format!("no run has all of {}", conditions.join(", "))))
    }

    /// Returns true if the run matches every condition.
    pub fn matches(&self, run: &ResolvedRun) -> bool {
        self.0.iter().all(|(key, value)| has_value(run, key, value))
    }
}

/// Iterates over the swept settings of a run and its seed.
fn values(run: &ResolvedRun) -> impl Iterator<Item = (&str, Cow<'_, Value>)> {
    let settings = run.settings.iter().map(|(key, value)| (key.as_str(), Cow::Borrowed(value)));
    settings.chain([("seed", Cow::Owned(run.seed.into()))])
}

fn has_value(run: &ResolvedRun, key: &str, wanted: &Value) -> bool {
    values(run).any(|(name, value)| name == key && same_value(&value, wanted))
}

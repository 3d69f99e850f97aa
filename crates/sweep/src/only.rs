//! A part of a plan's runs.

use std::borrow::Cow;

use prospect_core::config::Document;
use prospect_runs::series_name;
use serde_json::Value;

use crate::{Plan, Run, SweepError, exclude::same};

/// Runs of certain settings: `KEY=VALUE`, of which a run must match all. `seed` is a key too.
#[derive(Debug, Clone, Default)]
pub struct Only(Vec<(String, Value)>);

impl Only {
    /// Reads `KEY=VALUE` as typed, and checks that some run of `plan` matches.
    pub fn read(given: &[String], plan: &Plan) -> Result<Self, SweepError> {
        let pair = |given: &String| {
            let (key, value) = given.split_once('=').ok_or_else(|| {
                SweepError::Setting(format!("--only takes KEY=VALUE, as in method=kto, not `{given}`"))
            })?;
            let value: Value = Document::from_text("--only", value)?.read()?;
            if plan.runs.iter().any(|run| has(run, key, &value)) {
                return Ok((key.to_owned(), value));
            }
            let all = plan.runs.iter().flat_map(values);
            let mut there: Vec<String> =
                all.map(|(name, value)| format!("{name}={}", series_name(&value))).collect();
            there.sort();
            there.dedup();
            Err(SweepError::Setting(format!("no run has {given}; there are: {}", there.join(", "))))
        };
        let only = Self(given.iter().map(pair).collect::<Result<_, _>>()?);
        if plan.runs.iter().any(|run| only.takes(run)) {
            return Ok(only);
        }
        Err(SweepError::Setting(format!("no run has all of {}", given.join(", "))))
    }

    /// Whether a run is one of them.
    pub fn takes(&self, run: &Run) -> bool {
        self.0.iter().all(|(key, value)| has(run, key, value))
    }
}

/// What can be said of a run: its settings and its seed.
fn values(run: &Run) -> impl Iterator<Item = (&str, Cow<'_, Value>)> {
    let settings = run.settings.iter().map(|(key, value)| (key.as_str(), Cow::Borrowed(value)));
    settings.chain([("seed", Cow::Owned(run.seed.into()))])
}

fn has(run: &Run, key: &str, wanted: &Value) -> bool {
    values(run).any(|(name, value)| name == key && same(&value, wanted))
}

//! A part of a plan's runs.

use crate::{Plan, Run, SweepError, summary::series_name};

/// Runs of certain settings: `KEY=VALUE`, of which a run must match all. `seed` is a key too.
#[derive(Debug, Clone, Default)]
pub struct Only(Vec<(String, String)>);

impl Only {
    /// Reads `KEY=VALUE` as typed, and checks that some run of `plan` matches.
    pub fn read(given: &[String], plan: &Plan) -> Result<Self, SweepError> {
        let pair = |given: &String| {
            let (key, value) = given.split_once('=').ok_or_else(|| {
                SweepError::Setting(format!("--only takes KEY=VALUE, as in method=kto, not `{given}`"))
            })?;
            let known = |run: &Run| values(run).any(|(name, _)| name == key);
            if plan.runs.iter().any(|run| known(run) && matches(run, key, value)) {
                return Ok((key.to_owned(), value.to_owned()));
            }
            let mut there: Vec<String> =
                plan.runs.iter().flat_map(values).map(|(name, value)| format!("{name}={value}")).collect();
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
        self.0.iter().all(|(key, value)| matches(run, key, value))
    }
}

/// What can be said of a run: its settings and its seed.
fn values(run: &Run) -> impl Iterator<Item = (&str, String)> {
    let settings = run.settings.iter().map(|(key, value)| (key.as_str(), series_name(value)));
    settings.chain([("seed", run.seed.to_string())])
}

fn matches(run: &Run, key: &str, wanted: &str) -> bool {
    values(run).any(|(name, value)| {
        // Numbers are the same however they are written.
        let same_number = || Some(value.parse::<f64>().ok()? == wanted.parse::<f64>().ok()?);
        name == key && (value == wanted || same_number() == Some(true))
    })
}

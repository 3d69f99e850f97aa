//! Names of runs in exports and imports.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Experiment, PlannedRun, series_name};

/// Returns the ids of all stages and runs with unique names that are valid as file names, in the
/// order of the plan.
///
/// The name of a run consists of the values of its settings and the seed, such as
/// `0.25-kto-seed-1`. Runs that would share a name have their id at the end.
pub fn run_names(experiment: &Experiment) -> Vec<(&str, String)> {
    let stages = experiment.stages.iter().map(|stage| (stage.id.as_str(), file_name(&stage.name)));
    let runs = experiment.runs.iter().map(|run| (run.id.as_str(), run_name(run)));
    let mut all: Vec<(&str, String)> = stages.chain(runs).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, name) in &all {
        *counts.entry(name.clone()).or_default() += 1;
    }
    for (id, name) in &mut all {
        if counts.get(name).is_some_and(|count| *count > 1) {
            *name = format!("{name}-{id}");
        }
    }
    all
}

fn run_name(run: &PlannedRun) -> String {
    let settings = run.settings.values().filter(|value| **value != Value::Null).map(series_name);
    file_name(&settings.chain([format!("seed {}", run.seed)]).collect::<Vec<_>>().join(" "))
}

/// Keeps ASCII letters, digits, dots, plus signs and underscores, and replaces other characters
/// with single hyphens.
fn file_name(text: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || ".+_".contains(c);
    let words = text.split(|c| !keep(c)).filter(|word| !word.trim_matches('.').is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_file_names() {
        for (text, name) in [
            ("swap 10 % kto seed 0", "swap-10-kto-seed-0"),
            ("0.25 kto-auto-4/3 seed 1", "0.25-kto-auto-4-3-seed-1"),
            ("../../etc/passwd", "etc-passwd"),
            ("<script> é", "script"),
        ] {
            assert_eq!(file_name(text), name);
        }
    }
}

//! Published numbers that an experiment names must belong to its series and its x axis.

use prospect_runs::PublishedResults;
use serde_json::Value;

use crate::ExperimentFile;

/// The published numbers of an experiment whose series are `series`.
pub(crate) fn resolve(raw: &ExperimentFile, series: &[String]) -> Result<Option<PublishedResults>, String> {
    let Some(reference) = &raw.report.reference else { return Ok(None) };
    let values: Vec<Value> = match raw.linked.get(&raw.report.x) {
        Some(groups) => groups.names().map(|name| name.clone().into()).collect(),
        None => raw.matrix.get(&raw.report.x).cloned().unwrap_or_default(),
    };
    // Between numbers there may be others.
    let numeric = values.iter().all(Value::is_number);
    for (name, points) in &reference.series {
        let place = format!("report.reference.series.{name}");
        if !series.contains(name) {
            return Err(format!("`{place}` is no series of the experiment; there are: {series:?}"));
        }
        for (x, _) in points {
            let fits = if numeric { x.is_number() } else { values.contains(x) };
            if !fits {
                let all: Vec<String> = values.iter().map(prospect_runs::series_name).collect();
                return Err(format!("`{place}`: {x} is no value of `{}`; there are: {all:?}", raw.report.x));
            }
        }
    }
    Ok(Some(PublishedResults {
        label: reference.label.clone(),
        measure: reference.measure.clone(),
        series: reference.series.clone(),
    }))
}

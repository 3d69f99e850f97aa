//! Published numbers, checked against the series and the x axis.

use prospect_runs::PublishedResults;
use serde_json::Value;

use super::primary::x_values;
use crate::config::ExperimentFile;

/// Returns the published numbers of an experiment whose series are `series`.
pub(super) fn resolve(raw: &ExperimentFile, series: &[String]) -> Result<Option<PublishedResults>, String> {
    let Some(reference) = &raw.report.reference else { return Ok(None) };
    let values = x_values(raw);
    // On a numeric axis, published points may lie between the sweep's values.
    let numeric = values.iter().all(Value::is_number);
    for (name, points) in &reference.series {
        let key = format!("report.reference.series.{name}");
        if !series.contains(name) {
            return Err(format!("`{key}` is not a series of the experiment; series: {series:?}"));
        }
        for (x, _) in points {
            let is_on_axis = if numeric { x.is_number() } else { values.contains(x) };
            if !is_on_axis {
                let all: Vec<String> = values.iter().map(prospect_runs::series_name).collect();
                return Err(format!("`{key}`: {x} is not a value of `{}`; values: {all:?}", raw.report.x));
            }
        }
    }
    Ok(Some(PublishedResults {
        label: reference.label.clone(),
        measure: reference.measure.clone(),
        series: reference.series.clone(),
    }))
}

//! Published numbers, checked against the series and the x axis.

use prospect_runs::PublishedResults;
use serde_json::Value;

use super::primary::x_values;
use crate::config::{ExperimentFile, ReferenceFile};

/// Returns the published numbers of an experiment whose series are `series`, one set for each
/// measure.
pub(super) fn resolve(raw: &ExperimentFile, series: &[String]) -> Result<Vec<PublishedResults>, String> {
    let references = raw.report.reference.as_ref().map_or(&[][..], |references| &references.0);
    let mut measures = Vec::new();
    for reference in references {
        check(raw, reference, series)?;
        if measures.contains(&&reference.measure) {
            return Err(
                "`report.reference` has two sets of numbers with the same `measure`: join them".to_owned()
            );
        }
        measures.push(&reference.measure);
    }
    let resolved = |reference: &ReferenceFile| PublishedResults {
        label: reference.label.clone(),
        measure: reference.measure.clone(),
        series: reference.series.clone(),
    };
    let mut resolved: Vec<PublishedResults> = references.iter().map(resolved).collect();
    // Numbers in the sweep's own measure belong to its first figure.
    resolved.sort_by_key(|reference| reference.measure.is_some());
    Ok(resolved)
}

/// Checks that the numbers belong to series and values of the experiment.
fn check(raw: &ExperimentFile, reference: &ReferenceFile, series: &[String]) -> Result<(), String> {
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
    Ok(())
}

//! The primary comparison, checked against the series and the x axis.

use prospect_runs::{PrimaryContrast, series_name};
use serde_json::Value;

use crate::config::{ExperimentFile, same_value};

/// Returns the primary comparison of an experiment whose series are `series`.
pub(super) fn resolve(raw: &ExperimentFile, series: &[String]) -> Result<Option<PrimaryContrast>, String> {
    let Some(primary) = &raw.report.primary else { return Ok(None) };
    if !series.contains(&primary.series) {
        return Err(format!(
            "`report.primary.series` is `{}`, which is not a series; series: {series:?}",
            primary.series
        ));
    }
    if primary.series == raw.report.baseline {
        return Err(format!(
            "`report.primary.series` is the baseline, `{}`: name the series to compare with it",
            primary.series
        ));
    }
    let values = x_values(raw);
    let names = || values.iter().map(series_name).collect::<Vec<_>>();
    let x = match (&primary.x, values.as_slice()) {
        (Some(wanted), _) => values.iter().find(|value| same_value(value, wanted)).ok_or_else(|| {
            format!(
                "`report.primary.x` is {wanted}, not a value of `{}`; values: {:?}",
                raw.report.x,
                names()
            )
        })?,
        (None, [only]) => only,
        (None, _) => {
            return Err(format!(
                "`report.primary` needs `x`, the value of `{}` to compare at; values: {:?}",
                raw.report.x,
                names()
            ));
        }
    };
    Ok(Some(PrimaryContrast { series: primary.series.clone(), x: x.clone(), measure: primary.measure }))
}

/// Values of the x axis, in the order of the file.
pub(super) fn x_values(raw: &ExperimentFile) -> Vec<Value> {
    match raw.linked.get(&raw.report.x) {
        Some(groups) => groups.names().map(|name| name.clone().into()).collect(),
        None => raw.matrix.get(&raw.report.x).cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use prospect_runs::Measure;

    use super::*;

    fn primary(text: &str, values: &str) -> Result<Option<PrimaryContrast>, String> {
        let text = format!(
            "{{question: q, data: d, model: m, train: {{}}, seeds: [0], \
             report: {{x: train.beta, series: method, baseline: dpo, primary: {text}}}, \
             linked: {{method: {{dpo: , kto: }}}}, matrix: {{train.beta: {values}}}}}"
        );
        let raw: ExperimentFile = serde_yaml::from_str(&text).unwrap();
        resolve(&raw, &["dpo".to_owned(), "kto".to_owned()])
    }

    #[test]
    fn the_primary_comparison_is_one_of_the_plan() {
        let found = primary("{series: kto, x: 1, measure: utility}", "[0.1, 1.0]").unwrap().unwrap();
        assert_eq!((found.x, found.measure), (1.0.into(), Measure::Utility));
        let only = primary("{series: kto}", "[0.1]").unwrap().unwrap();
        assert_eq!((only.x, only.measure), (0.1.into(), Measure::Accuracy));
        for (text, words) in [
            ("{series: ipo}", "is `ipo`, which is not a series"),
            ("{series: dpo}", "is the baseline"),
            ("{series: kto}", "`report.primary` needs `x`"),
            ("{series: kto, x: 2}", "is 2, not a value of `train.beta`; values: [\"0.1\", \"1.0\"]"),
        ] {
            assert!(primary(text, "[0.1, 1.0]").unwrap_err().contains(words), "{text}");
        }
    }
}

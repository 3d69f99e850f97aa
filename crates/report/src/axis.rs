//! The x axis: the values that the sweep took, and how to place and call them.

use prospect_runs::{Axis, Experiment, Summary};
use serde_json::Value;

use crate::{sweep::Run, text};

/// The x axis: the values that the sweep took, and how to place and call them.
pub(crate) struct XAxis {
    axis: Axis,
    /// The values and their names, in rising order.
    values: Vec<(f64, String)>,
    /// Each setting's value, where settings are not numbers but, say, names of models.
    named: Option<Vec<String>>,
    logarithmic: bool,
}

impl XAxis {
    /// Settings that are all numbers are themselves the values; others count from 0 in the order of the plan.
    pub(crate) fn of(experiment: &Experiment, summary: Option<&Summary>) -> Self {
        let settings: Vec<&Value> = experiment
            .runs
            .iter()
            .map(|run| run.settings.get(&experiment.x.key).unwrap_or(&Value::Null))
            .collect();
        let named = (!settings.iter().all(|setting| setting.is_number())).then(|| {
            let mut names: Vec<String> = Vec::new();
            for name in settings.iter().map(|setting| text::setting(setting)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        });
        let mut values: Vec<f64> = match &named {
            Some(names) => (0..names.len()).map(|index| index as f64).collect(),
            None => settings.iter().filter_map(|setting| setting.as_f64()).collect(),
        };
        values.extend(summary.iter().flat_map(|summary| &summary.points).map(|point| point.x));
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        values.dedup();

        let shares = values.iter().all(|value| (0.0..=1.0).contains(value));
        let percent = experiment.x.label.contains('%') || experiment.x.label.contains("fraction");
        let name = |value: f64| match (&named, percent) {
            (Some(names), _) if value.fract() == 0.0 && (0.0..names.len() as f64).contains(&value) => {
                names[value as usize].clone()
            }
            (_, true) if shares => format!("{}\u{a0}%", text::plain(value * 100.0)),
            (_, true) => format!("{}\u{a0}%", text::plain(value)),
            (_, false) => text::plain(value),
        };
        let logarithmic = match (values.first(), values.last()) {
            (Some(first), Some(last)) => *first > 0.0 && shares && last / first >= 8.0,
            _ => false,
        };
        let values = values.iter().map(|value| (*value, name(*value))).collect();
        Self { axis: experiment.x.clone(), values, named, logarithmic }
    }

    /// Whether the values are numbers, with something between them.
    pub(crate) fn is_numeric(&self) -> bool {
        self.named.is_none()
    }

    /// The values and their names, in rising order.
    pub(crate) fn values(&self) -> &[(f64, String)] {
        &self.values
    }

    /// How figures call the axis.
    pub(crate) fn label(&self) -> &str {
        &self.axis.label
    }

    /// The name of a value.
    pub(crate) fn name(&self, x: f64) -> String {
        let known = self.values.iter().find(|(value, _)| *value == x);
        known.map_or_else(|| text::plain(x), |(_, name)| name.clone())
    }

    /// The value of a run.
    pub(crate) fn of_run(&self, run: &Run) -> Option<f64> {
        self.of_setting(run.planned.settings.get(&self.axis.key).unwrap_or(&Value::Null))
    }

    /// The value of a setting.
    pub(crate) fn of_setting(&self, setting: &Value) -> Option<f64> {
        match &self.named {
            Some(names) => {
                names.iter().position(|name| *name == text::setting(setting)).map(|index| index as f64)
            }
            None => setting.as_f64(),
        }
    }

    /// Where a value stands on the scale.
    pub(crate) fn place(&self, x: f64) -> f64 {
        if self.logarithmic { x.ln() } else { x }
    }
}

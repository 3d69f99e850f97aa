//! The x axis of a sweep: values of the swept setting, their order and their names.

use prospect_runs::{Axis, Experiment, Summary};
use serde_json::Value;

use crate::{format, sweep_data::RunData};

/// The x axis of a sweep.
pub(crate) struct XAxis {
    axis: Axis,
    /// Values in ascending order.
    values: Vec<XValue>,
    /// Names of settings that are not numbers, such as models; the index of a name is its value.
    names: Option<Vec<String>>,
    logarithmic: bool,
}

/// A value of the x axis.
pub(crate) struct XValue {
    pub(crate) value: f64,
    pub(crate) name: String,
}

impl XAxis {
    /// Creates the axis of an experiment.
    ///
    /// If all settings are numbers, they are the values. Otherwise settings are numbered from 0 in
    /// plan order.
    pub(crate) fn new(experiment: &Experiment, summary: Option<&Summary>) -> Self {
        let settings: Vec<&Value> = experiment
            .runs
            .iter()
            .map(|run| run.settings.get(&experiment.x.key).unwrap_or(&Value::Null))
            .collect();
        let names = (!settings.iter().all(|setting| setting.is_number())).then(|| {
            let mut names: Vec<String> = Vec::new();
            for name in settings.iter().map(|setting| format::setting(setting)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        });
        let mut values: Vec<f64> = match &names {
            Some(names) => (0..names.len()).map(|index| index as f64).collect(),
            None => settings.iter().filter_map(|setting| setting.as_f64()).collect(),
        };
        values.extend(summary.iter().flat_map(|summary| &summary.points).map(|point| point.x));
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        values.dedup();

        let shares = values.iter().all(|value| (0.0..=1.0).contains(value));
        let percent = experiment.x.label.contains('%') || experiment.x.label.contains("fraction");
        let name = |value: f64| match (&names, percent) {
            (Some(names), _) if value.fract() == 0.0 && (0.0..names.len() as f64).contains(&value) => {
                names[value as usize].clone()
            }
            (_, true) if shares => format!("{}\u{a0}%", format::plain(value * 100.0)),
            (_, true) => format!("{}\u{a0}%", format::plain(value)),
            (_, false) => format::plain(value),
        };
        let logarithmic = match (values.first(), values.last()) {
            (Some(first), Some(last)) => *first > 0.0 && shares && last / first >= 8.0,
            _ => false,
        };
        let values = values.iter().map(|value| XValue { value: *value, name: name(*value) }).collect();
        Self { axis: experiment.x.clone(), values, names, logarithmic }
    }

    /// Returns true if the settings are numbers, so that curves may connect them.
    pub(crate) fn is_numeric(&self) -> bool {
        self.names.is_none()
    }

    /// Returns the values in ascending order.
    pub(crate) fn values(&self) -> &[XValue] {
        &self.values
    }

    /// Returns the axis label.
    pub(crate) fn label(&self) -> &str {
        &self.axis.label
    }

    /// Returns the name of a value.
    pub(crate) fn name(&self, x: f64) -> String {
        let known = self.values.iter().find(|known| known.value == x);
        known.map_or_else(|| format::plain(x), |known| known.name.clone())
    }

    /// Returns the value of a run.
    pub(crate) fn of_run(&self, run: &RunData) -> Option<f64> {
        self.of_setting(run.planned.settings.get(&self.axis.key).unwrap_or(&Value::Null))
    }

    /// Returns the value of a setting.
    pub(crate) fn of_setting(&self, setting: &Value) -> Option<f64> {
        match &self.names {
            Some(names) => {
                names.iter().position(|name| *name == format::setting(setting)).map(|index| index as f64)
            }
            None => setting.as_f64(),
        }
    }

    /// Returns the position of a value on a linear or logarithmic scale.
    pub(crate) fn position(&self, x: f64) -> f64 {
        if self.logarithmic { x.ln() } else { x }
    }
}

//! CSV: one file for each run, with one row for each step and one column for each metric.
//!
//! Trackio imports these files directly.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use prospect_runs::MetricsRecord;

use super::NamedRun;
use crate::{ReportError, format, sweep_data::SweepData, tables::CsvTable, write_text};

/// Writes `metrics/NAME.csv` for every run with metrics, and `runs.csv` with the settings of all.
///
/// Returns the number of runs with metrics.
pub(super) fn write(sweep: &SweepData, named: &[NamedRun<'_>], folder: &Path) -> Result<usize, ReportError> {
    let written = || named.iter().filter(|named| !named.run.metrics.is_empty());
    for NamedRun { name, run } in written() {
        write_text(&folder.join("metrics").join(format!("{name}.csv")), &table(&run.metrics).csv())?;
    }
    let settings = sweep.setting_names();
    let row = |NamedRun { name, run }: &NamedRun<'_>| {
        let setting = |key: &String| run.planned.settings.get(key).map(format::setting).unwrap_or_default();
        let mut row = vec![name.clone(), run.planned.id.clone()];
        row.extend(settings.iter().map(setting));
        row.extend([run.planned.seed.to_string(), run.state_name().to_owned()]);
        row
    };
    let columns = ["name", "run"].map(str::to_owned).into_iter().chain(settings.clone());
    let runs = CsvTable {
        name: "runs",
        columns: columns.chain(["seed", "state"].map(str::to_owned)).collect(),
        rows: named.iter().map(row).collect(),
    };
    write_text(&folder.join("runs.csv"), &runs.csv())?;
    Ok(written().count())
}

fn table(records: &[MetricsRecord]) -> CsvTable {
    // Training and evaluation metrics of a step have different names and share a row.
    let mut steps: BTreeMap<u64, BTreeMap<&str, f64>> = BTreeMap::new();
    for record in records {
        let values = record.values.iter().map(|(name, value)| (name.as_str(), *value));
        steps.entry(record.step).or_default().extend(values);
    }
    let names: BTreeSet<&str> = steps.values().flat_map(BTreeMap::keys).copied().collect();
    let row = |(step, values): (u64, BTreeMap<&str, f64>)| {
        let value = |name: &&str| values.get(name).map(f64::to_string).unwrap_or_default();
        std::iter::once(step.to_string()).chain(names.iter().map(value)).collect()
    };
    CsvTable {
        name: "metrics",
        columns: std::iter::once("step").chain(names.iter().copied()).map(str::to_owned).collect(),
        rows: steps.into_iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use prospect_runs::RecordKind;

    use super::*;

    #[test]
    fn each_step_is_a_row_and_missing_values_are_empty() {
        let record = |kind, step, values: &[(&str, f64)]| MetricsRecord {
            kind,
            step,
            values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        };
        let records = [
            record(RecordKind::Eval, 0, &[("eval_loss", 0.5)]),
            record(RecordKind::Train, 1, &[("loss", 0.5), ("kl", 0.0)]),
            record(RecordKind::Train, 2, &[("loss", 0.1)]),
            record(RecordKind::Eval, 2, &[("eval_loss", 0.25)]),
        ];
        assert_eq!(table(&records).csv(), "step,eval_loss,kl,loss\n0,0.5,,\n1,,0,0.5\n2,0.25,,0.1\n");
    }
}

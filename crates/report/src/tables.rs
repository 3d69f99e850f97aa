//! CSV tables: every number of the report at full precision.

mod csv;
mod frontier;
mod learning_curves;
mod retention;
mod runs;
mod scores;
mod summary;

pub(crate) use self::csv::CsvTable;
use self::csv::{columns, numbers};
use crate::{
    sections::means::{MeanRow, MeanTable, MeanTables},
    sweep_data::SweepData,
};

/// Returns all tables of a sweep.
///
/// `points`, `contrasts`, `runs` and `curves` are always present, the others only with rows.
pub(crate) fn all(sweep: &SweepData, means: &MeanTables) -> Vec<CsvTable> {
    let mut tables =
        vec![summary::points(sweep), summary::contrasts(sweep), runs::runs(sweep), runs::curves(sweep)];
    let optional = means.iter().map(mean_table).chain([
        summary::win_rates(sweep),
        summary::win_rate_contrasts(sweep),
        scores::scores(sweep),
        frontier::frontier(sweep),
        retention::retention(sweep),
        learning_curves::learning_curves(sweep),
        summary::reference(sweep),
        summary::calibration(sweep),
        runs::rewards(sweep),
        summary::thumbs(sweep),
        summary::reliability(sweep),
        runs::thumb_rewards(sweep),
        summary::findings(sweep),
        summary::trials(sweep),
        runs::generations(sweep),
    ]);
    tables.extend(optional.filter(|table| !table.rows.is_empty()));
    tables
}

fn mean_table(means: &MeanTable) -> CsvTable {
    let number = |value: &Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let row = |row: &MeanRow| {
        let mut cells = vec![row.x.clone(), row.series.clone()];
        cells.extend(row.values.iter().map(number));
        cells
    };
    let mut names = columns(&["x_name", "series"]);
    names.extend(means.csv_columns.iter().cloned());
    CsvTable { name: means.name, columns: names, rows: means.rows.iter().map(row).collect() }
}

//! Sections of the report page: each module makes the figures, table rows or texts of one section.

pub(crate) mod contrasts;
pub(crate) mod curves;
pub(crate) mod datasets;
mod estimate_plot;
pub(crate) mod estimates;
mod facets;
pub(crate) mod findings;
pub(crate) mod forest;
pub(crate) mod frontier;
pub(crate) mod generations;
pub(crate) mod learning_curves;
pub(crate) mod means;
pub(crate) mod measures;
pub(crate) mod metrics;
pub(crate) mod reference;
pub(crate) mod retention;
pub(crate) mod rewards;
pub(crate) mod running;
pub(crate) mod runs;
pub(crate) mod scores;
pub(crate) mod thumbs;
pub(crate) mod transfer;
pub(crate) mod trials;
pub(crate) mod win_rates;

use crate::sweep_data::{RunGroup, SweepData, XValue};

/// Maximum number of panels of series and x values; with more, only the first and the last x value
/// are shown.
const MAX_PANELS: usize = 12;

/// Panel title of an x value; empty if the sweep has only one.
fn x_title(sweep: &SweepData, x: &XValue) -> String {
    if sweep.x.values().len() < 2 { String::new() } else { format!("{}: {}", sweep.x.label(), x.name) }
}

/// Reduces more than `max` groups to those of the first and the last x value, at most `max`.
fn first_and_last_x(groups: &mut Vec<RunGroup<'_>>, max: usize) {
    if groups.len() > max {
        let ends = [groups.first(), groups.last()].map(|group| group.map(|group| group.x));
        groups.retain(|group| ends.contains(&Some(group.x)));
        groups.truncate(max);
    }
}

/// Returns the title of a panel: series and x value.
fn panel_title(sweep: &SweepData, group: &RunGroup<'_>) -> String {
    if sweep.x.values().len() < 2 {
        group.series.clone()
    } else {
        format!("{}, {}: {}", group.series, sweep.x.label(), group.x_name)
    }
}

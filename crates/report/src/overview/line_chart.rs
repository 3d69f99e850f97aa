//! Line charts as figures.

use super::{LineChart, LineSeries};
use crate::{
    format,
    render::{
        figure::{Content, Figure, LegendEntry, Panel, PlotMark, Scale},
        style::SeriesStyle,
    },
};

/// Maximum number of points that are drawn with markers.
const MAX_MARKERS: usize = 20;

/// Creates the figure of a line chart.
pub(super) fn figure(chart: &LineChart) -> Figure {
    let points = || chart.series.iter().flat_map(|series| series.points.iter().copied());
    // The scale includes the rules, so that they are always visible.
    let heights = points().map(|(_, y)| y).chain(chart.rules.iter().map(|rule| rule.y));
    let y = Scale::covering(&chart.y_label, heights, format::fixed);
    let x = x_scale(&chart.x_label, points().map(|(x, _)| x));
    let mut marks: Vec<PlotMark> =
        chart.rules.iter().map(|rule| PlotMark::Rule { y: rule.y, text: rule.label.clone() }).collect();
    for (style, LineSeries { points, .. }) in (0..).map(SeriesStyle::Series).zip(&chart.series) {
        marks.push(PlotMark::Line { style, points: points.clone() });
        if points.len() <= MAX_MARKERS {
            marks.extend(points.iter().map(|(x, y)| PlotMark::Marker { style, x: *x, y: *y }));
        }
    }
    let ends = chart.series.iter().filter_map(|LineSeries { name, points }| {
        let ((_, first), (_, last)) = (points.first()?, points.last()?);
        Some(format!("{name} goes from {} to {}", format::number(*first), format::number(*last)))
    });
    let description =
        format!("{} over {}. {}.", chart.title, chart.x_label, ends.collect::<Vec<_>>().join("; "));
    let labels = chart.series.iter().map(|series| series.name.clone());
    let legend = (0..).map(SeriesStyle::Series).zip(labels);
    Figure {
        name: chart.name.clone(),
        title: chart.title.clone(),
        caption: chart.caption.clone(),
        legend: legend.map(|(style, label)| LegendEntry { style, label }).collect(),
        panels: vec![Panel { title: String::new(), description, content: Content::Plot { x, y, marks } }],
    }
}

/// Returns a scale with round ticks that ends just beyond the values.
fn x_scale(label: &str, values: impl Iterator<Item = f64> + Clone) -> Scale {
    let mut scale = Scale::covering(label, values.clone(), format::fixed);
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low < high {
        let margin = 0.02 * (high - low);
        (scale.low, scale.high) = (low - margin, high + margin);
        scale.ticks.retain(|tick| (scale.low..=scale.high).contains(&tick.position));
    }
    scale
}

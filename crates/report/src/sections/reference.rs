//! Published results next to those of the sweep.

use prospect_runs::PublishedResults;

use super::facets::{Facet, by_model_size, facets};
use crate::{
    format,
    render::{
        figure::{Content, Figure, LegendEntry, Panel, PlotMark, Scale},
        style::SeriesStyle,
    },
    sweep_data::SweepData,
};

/// Returns each set of published results whose measure differs from the sweep's as a separate
/// figure.
///
/// On a shared axis, two measures would look the same.
pub(crate) fn figures(sweep: &SweepData) -> Vec<Figure> {
    let published = sweep.experiment.reference.iter().chain(&sweep.experiment.more_references);
    let figures = published.zip(1..).filter_map(|(reference, number)| {
        let name = if number == 1 { "reference".to_owned() } else { format!("reference-{number}") };
        figure(sweep, reference, name)
    });
    figures.collect()
}

fn figure(sweep: &SweepData, reference: &PublishedResults, name: String) -> Option<Figure> {
    let measure = reference.measure.as_deref()?;
    let y = Scale::covering(measure, points(sweep, reference).map(|point| point.y), format::fixed);
    let panel = |mut facet: Facet| {
        // Places points at their x values, because they have no whiskers to separate.
        facet.bands = true;
        let marks = marks(sweep, reference, &facet);
        let facts =
            points(sweep, reference).filter(|point| facet.position(point.x, 0, 1).is_some()).map(|point| {
                format!("{} at {}: {}", point.series, sweep.x.name(point.x), format::plain(point.y))
            });
        let description =
            format!("{}: {measure}. {}.", reference.label, facts.collect::<Vec<_>>().join("; "));
        let Facet { title, scale: x, .. } = facet;
        (!marks.is_empty()).then(|| Panel {
            title,
            description,
            content: Content::Plot { x, y: y.clone(), marks },
        })
    };
    let facets = by_model_size(sweep).unwrap_or_else(|| facets(sweep));
    let panels: Vec<Panel> = facets.into_iter().filter_map(panel).collect();
    (!panels.is_empty()).then(|| Figure {
        name,
        title: reference.label.clone(),
        caption: "Published results, not measured by this sweep, without intervals. Measure, models and data differ \
                  from those of the figures above: compare the ranking of methods and the shape of curves, not levels."
            .to_owned(),
        legend: legend(sweep, reference, str::to_owned),
        panels,
    })
}

/// Returns the legend of published series, labelled by `label`.
pub(super) fn legend(
    sweep: &SweepData,
    reference: &PublishedResults,
    label: impl Fn(&str) -> String,
) -> Vec<LegendEntry> {
    let published = sweep.series.iter().filter(|series| reference.series.contains_key(*series));
    let entry = |series: &String| LegendEntry {
        style: SeriesStyle::NotMeasured(sweep.series_index(series)),
        label: label(series),
    };
    published.map(entry).collect()
}

/// A published result at its position in a panel.
struct PlacedPoint {
    x: f64,
    y: f64,
    connected: bool,
}

/// Returns the marks of the published results in a panel.
pub(super) fn marks(sweep: &SweepData, reference: &PublishedResults, facet: &Facet) -> Vec<PlotMark> {
    let mut marks = Vec::new();
    for series in &sweep.series {
        let index = sweep.series_index(series);
        let style = SeriesStyle::NotMeasured(index);
        let mut own: Vec<PlacedPoint> = points(sweep, reference)
            .filter(|point| point.series == series)
            .filter_map(|point| {
                let x = facet.position(point.x, index, sweep.series.len())?;
                Some(PlacedPoint { x, y: point.y, connected: facet.connects(point.x) })
            })
            .collect();
        own.sort_by(|a, b| a.x.total_cmp(&b.x));
        let line: Vec<(f64, f64)> =
            own.iter().filter(|point| point.connected).map(|point| (point.x, point.y)).collect();
        if line.len() > 1 {
            marks.push(PlotMark::Line { style, points: line });
        }
        marks.extend(own.iter().map(|point| PlotMark::Marker { style, x: point.x, y: point.y }));
    }
    marks
}

/// A published result.
pub(crate) struct PublishedPoint<'a> {
    series: &'a str,
    x: f64,
    pub(super) y: f64,
}

/// Returns the published results at x values of the sweep.
pub(super) fn points<'a>(
    sweep: &'a SweepData,
    reference: &'a PublishedResults,
) -> impl Iterator<Item = PublishedPoint<'a>> {
    let all =
        reference.series.iter().flat_map(|(series, points)| points.iter().map(move |point| (series, point)));
    all.filter_map(|(series, (setting, y))| {
        let x = sweep.x.of_setting(setting)?;
        let known = sweep.x.values().iter().any(|known| known.value == x);
        known.then_some(PublishedPoint { series, x, y: *y })
    })
}

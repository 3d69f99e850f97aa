//! Plots of estimates with their intervals, one panel for each facet of the x axis.

use prospect_runs::{Estimate, Point, PublishedResults};

use super::{facets::Facet, reference};
use crate::{
    render::figure::{BandPoint, Content, Figure, Panel, PlotMark, Scale},
    sweep_data::SweepData,
};

/// Values of one series at one x.
pub(super) struct PlottedPoint {
    pub(super) series: String,
    pub(super) x: f64,
    pub(super) estimate: Option<Estimate>,
    /// Values of single seeds.
    pub(super) seeds: Vec<f64>,
}

impl PlottedPoint {
    /// Creates the values of a point of the summary, without single seeds.
    pub(super) fn new(point: &Point, estimate: Estimate) -> Self {
        Self { series: point.series.clone(), x: point.x, estimate: Some(estimate), seeds: Vec::new() }
    }

    /// Returns all values, to compute scales.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        let ends = self.estimate.map(|estimate| [estimate.low, estimate.value, estimate.high]);
        ends.into_iter().flatten().chain(self.seeds.iter().copied())
    }
}

/// A horizontal line with a label (may be empty).
pub(super) struct LabelledRule<'a> {
    pub(super) y: f64,
    pub(super) label: &'a str,
}

/// Properties shared by all panels of a figure.
pub(super) struct FigureSpec<'a> {
    pub(super) name: &'a str,
    pub(super) title: &'a str,
    pub(super) caption: String,
    pub(super) y: Scale,
    pub(super) rules: Vec<LabelledRule<'a>>,
    /// Published results of the same measure.
    pub(super) published: Option<&'a PublishedResults>,
}

/// Creates a figure with one panel for each facet that has points.
///
/// `value` formats a point for the text alternative.
pub(super) fn figure(
    sweep: &SweepData,
    spec: FigureSpec<'_>,
    points: &[PlottedPoint],
    value: impl Fn(&PlottedPoint) -> Option<String>,
    facets: Vec<Facet>,
) -> Option<Figure> {
    let panel = |facet: Facet| {
        let own: Vec<(f64, &PlottedPoint)> = points
            .iter()
            .filter_map(|point| {
                let index = sweep.series_index(&point.series);
                Some((facet.position(point.x, index, sweep.series.len())?, point))
            })
            .collect();
        let facts = own.iter().filter_map(|(_, point)| {
            Some(format!("{} at {}: {}", point.series, sweep.x.name(point.x), value(point)?))
        });
        let facts = facts.collect::<Vec<_>>().join("; ");
        let marks = marks(sweep, &spec, &facet, &own);
        let Facet { title, scale, .. } = facet;
        let facet_name = if title.is_empty() { String::new() } else { format!(", {title}") };
        (!own.is_empty()).then(|| Panel {
            description: format!("{}{facet_name}. {facts}.", spec.title),
            title,
            content: Content::Plot { x: scale, y: spec.y.clone(), marks },
        })
    };
    let panels: Vec<Panel> = facets.into_iter().filter_map(panel).collect();
    let mut legend = sweep.legend();
    if let Some(published) = spec.published {
        let label = |series: &str| format!("{series}, {}", published.label);
        legend.extend(reference::legend(sweep, published, label));
    }
    (!panels.is_empty()).then(|| Figure {
        name: spec.name.to_owned(),
        title: spec.title.to_owned(),
        caption: spec.caption,
        legend,
        panels,
    })
}

/// An estimate at its position in a panel.
#[derive(Clone, Copy)]
struct PlacedEstimate {
    x: f64,
    estimate: Estimate,
    connected: bool,
}

/// Returns the marks of a panel; `points` have their positions in it.
fn marks(
    sweep: &SweepData,
    spec: &FigureSpec<'_>,
    facet: &Facet,
    points: &[(f64, &PlottedPoint)],
) -> Vec<PlotMark> {
    let rule = |rule: &LabelledRule<'_>| PlotMark::Rule { y: rule.y, text: rule.label.to_owned() };
    let mut marks: Vec<PlotMark> = spec.rules.iter().map(rule).collect();
    let scale = &facet.scale;
    for (position, point) in points {
        // Next to the whisker, so that it does not cover the dots.
        let (style, x) = (sweep.style(&point.series), position + 0.01 * (scale.high - scale.low));
        marks.extend(point.seeds.iter().map(|y| match point.estimate {
            Some(_) => PlotMark::Dot { style, x, y: *y },
            None => PlotMark::Marker { style, x, y: *y },
        }));
    }
    let series = sweep.legend().into_iter().map(|entry| {
        let own = points.iter().filter(|(_, point)| point.series == entry.label);
        let mut own: Vec<PlacedEstimate> = own
            .filter_map(|(x, point)| {
                let connected = facet.connects(point.x);
                Some(PlacedEstimate { x: *x, estimate: point.estimate?, connected })
            })
            .collect();
        own.sort_by(|a, b| a.x.total_cmp(&b.x));
        let mut line: Vec<PlacedEstimate> = own.iter().filter(|point| point.connected).copied().collect();
        if line.len() < 2 {
            line.clear();
        }
        (entry.style, own, line)
    });
    let series: Vec<_> = series.collect();
    for (style, _, line) in series.iter().filter(|(.., line)| facet.bands && !line.is_empty()) {
        let range = |point: &PlacedEstimate| BandPoint {
            x: point.x,
            low: point.estimate.low,
            high: point.estimate.high,
        };
        marks.push(PlotMark::Band { style: *style, points: line.iter().map(range).collect() });
    }
    for (style, own, line) in series {
        if !line.is_empty() {
            let points = line.iter().map(|point| (point.x, point.estimate.value)).collect();
            marks.push(PlotMark::Line { style, points });
        }
        for PlacedEstimate { x, estimate, .. } in own {
            if line.is_empty() || !facet.bands {
                marks.push(PlotMark::Interval { style, x, low: estimate.low, high: estimate.high });
            }
            marks.push(PlotMark::Marker { style, x, y: estimate.value });
        }
    }
    if let Some(published) = spec.published {
        marks.extend(reference::marks(sweep, published, facet));
    }
    marks
}

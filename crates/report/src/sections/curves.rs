//! Metrics over optimizer steps: small multiples, one panel for each x value.

use std::collections::BTreeMap;

use prospect_core::sample::mean;
use prospect_runs::RecordKind;

use super::{metrics::PlottedMetric, x_title};
use crate::{
    format,
    render::{
        figure::{BandPoint, Content, Figure, LegendEntry, Panel, PlotMark, Scale},
        style::SeriesStyle,
    },
    sweep_data::{RunData, SweepData, XValue},
};

/// Maximum number of points of a curve; longer curves are averaged over consecutive steps.
const MAX_POINTS: u64 = 100;
/// Maximum number of points that are drawn with markers.
const MAX_MARKERS: usize = 20;

/// Fewest points of a curve: two show a start and an end, which are in the tables.
const MIN_POINTS: usize = 3;
/// If the values of one panel span this many times the range of the median panel, panels get
/// scales of their own.
const OWN_SCALE: f64 = 5.0;
/// A curve whose values span this many times the range of the median curve is cut at the edge
/// of the scale.
const CUT: f64 = 8.0;

/// Returns the figure of a metric, or `None` if no run recorded it at three steps or more, or if it
/// is 0 throughout.
pub(crate) fn figure(sweep: &SweepData, metric: &PlottedMetric) -> Option<Figure> {
    let width = match metric.kind {
        RecordKind::Train => bin_width(sweep.runs.iter().filter_map(RunData::steps).max().unwrap_or(0)),
        RecordKind::Eval => 1,
    };
    let panels: Vec<(String, Vec<SeriesCurve>)> = sweep
        .x
        .values()
        .iter()
        .map(|x| (x_title(sweep, x), series_curves(sweep, metric, x, width)))
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    let tick = if metric.percent { format::percent_tick } else { format::fixed };
    let ranges: Vec<Vec<f64>> = panels.iter().map(|(_, curves)| values(curves)).collect();
    let is_cut = panels.iter().any(|(_, curves)| has_outlier(curves));
    if ranges.iter().flatten().all(|value| *value == 0.0) {
        return None;
    }
    let scale = |values: &mut dyn Iterator<Item = f64>| {
        Scale::covering(metric.label, values.chain(metric.rule), tick)
    };
    let has_own_scales = one_squashes_the_others(&ranges);
    let common = scale(&mut ranges.iter().flatten().copied());
    let scales: Vec<Scale> = ranges
        .iter()
        .map(|range| if has_own_scales { scale(&mut range.iter().copied()) } else { common.clone() })
        .collect();
    let mut caption =
        vec!["Curves are means over seeds; bands span the minimum and maximum over seeds.".to_owned()];
    if width > 1 {
        caption.push(format!("Each point is the mean of {width} steps."));
    }
    if has_own_scales {
        caption.push("Vertical scales differ between panels.".to_owned());
    }
    if is_cut {
        caption
            .push("Curves that vary far more than the others are cut at the edge of the scale.".to_owned());
    }
    caption.push(metric.note.to_owned());
    Some(Figure {
        name: metric.name.to_owned(),
        title: metric.title.to_owned(),
        caption: caption.join(" ").trim_end().to_owned(),
        legend: sweep.legend(),
        panels: panels
            .into_iter()
            .zip(scales)
            .map(|((title, curves), y)| panel(metric, title, &y, &curves))
            .collect(),
    })
}

/// Returns the values of the curves of a panel, without those of outliers.
fn values(curves: &[SeriesCurve]) -> Vec<f64> {
    let limit = cut_limit(curves);
    let kept = curves.iter().filter(|curve| curve.span() <= limit);
    kept.flat_map(|curve| &curve.points).flat_map(|point| [point.low, point.high]).collect()
}

/// Returns true if a curve is cut.
fn has_outlier(curves: &[SeriesCurve]) -> bool {
    let limit = cut_limit(curves);
    curves.iter().any(|curve| curve.span() > limit)
}

/// Returns the span above which a curve is cut. Of two curves, none is.
fn cut_limit(curves: &[SeriesCurve]) -> f64 {
    match lower_median(curves.iter().map(SeriesCurve::span)) {
        Some(median) if curves.len() > 2 && median > 0.0 => CUT * median,
        _ => f64::INFINITY,
    }
}

/// Returns true if one panel's values span far more than those of most panels.
fn one_squashes_the_others(ranges: &[Vec<f64>]) -> bool {
    let spans = || ranges.iter().map(|range| span(range.iter().copied()));
    let most = spans().fold(0.0, f64::max);
    ranges.len() > 1 && lower_median(spans()).is_some_and(|median| most > OWN_SCALE * median)
}

/// Returns the difference between the largest and the smallest value.
fn span(values: impl Iterator<Item = f64>) -> f64 {
    let ends = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    ends.1 - ends.0
}

/// Returns the median; of an even number of values, the smaller of the middle two.
fn lower_median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// A metric of one series at one x value, over steps.
struct SeriesCurve {
    series: String,
    style: SeriesStyle,
    /// Number of runs that recorded the metric.
    runs: usize,
    points: Vec<CurvePoint>,
}

impl SeriesCurve {
    /// Difference between the largest and the smallest value of any seed.
    fn span(&self) -> f64 {
        span(self.points.iter().flat_map(|point| [point.low, point.high]))
    }
}

/// Mean and range over seeds at one step.
struct CurvePoint {
    step: f64,
    mean: f64,
    low: f64,
    high: f64,
}

impl CurvePoint {
    /// Returns `None` without values.
    fn new(step: f64, values: &[f64]) -> Option<Self> {
        Some(Self {
            step,
            mean: mean(values.iter().copied())?,
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

fn series_curves(sweep: &SweepData, metric: &PlottedMetric, x: &XValue, width: u64) -> Vec<SeriesCurve> {
    let of_series = |entry: LegendEntry| {
        let runs: Vec<_> = sweep
            .runs
            .iter()
            .filter(|run| sweep.series_of(run) == entry.label && sweep.x.of_run(run) == Some(x.value))
            .map(|run| binned_values(run, metric, width))
            .filter(|bins| !bins.is_empty())
            .collect();
        let mut bins: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (bin, value) in runs.iter().flatten() {
            bins.entry(*bin).or_default().push(*value);
        }
        let points =
            bins.into_iter().filter_map(|(bin, values)| CurvePoint::new(bin_centre(bin, width), &values));
        let points = points.collect();
        SeriesCurve { series: entry.label, style: entry.style, runs: runs.len(), points }
    };
    sweep.legend().into_iter().map(of_series).filter(|curve| curve.points.len() >= MIN_POINTS).collect()
}

/// Returns the number of steps per bin for a run of this length.
fn bin_width(steps: u64) -> u64 {
    steps.div_ceil(MAX_POINTS).max(1)
}

/// Returns the middle step of a bin.
fn bin_centre(bin: u64, width: u64) -> f64 {
    (bin * width) as f64 + (width - 1) as f64 / 2.0
}

/// Returns the means of a run's metric over bins of `width` steps, by bin.
fn binned_values(run: &RunData, metric: &PlottedMetric, width: u64) -> BTreeMap<u64, f64> {
    let mut bins: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for record in run.metrics.iter().filter(|record| record.kind == metric.kind) {
        if let Some(value) = record.values.get(metric.key).filter(|value| value.is_finite()) {
            bins.entry(record.step / width).or_default().push(*value);
        }
    }
    bins.into_iter().filter_map(|(bin, values)| Some((bin, mean(values)?))).collect()
}

/// Returns a run's metric over steps, averaged to at most [`MAX_POINTS`] points.
pub(super) fn run_curve(run: &RunData, metric: &PlottedMetric) -> Vec<(f64, f64)> {
    let width = bin_width(run.steps().unwrap_or(0));
    let bins = binned_values(run, metric, width);
    bins.into_iter().map(|(bin, value)| (bin_centre(bin, width), value)).collect()
}

/// Returns the scale of optimizer steps from 0 to `last`.
pub(super) fn step_scale(last: f64) -> Scale {
    let mut scale = Scale::covering("optimizer steps", [0.0, last], format::fixed);
    scale.end_at(last.max(1.0));
    scale
}

fn panel(metric: &PlottedMetric, title: String, y: &Scale, curves: &[SeriesCurve]) -> Panel {
    let steps = curves.iter().flat_map(|curve| &curve.points).map(|point| point.step);
    let x = step_scale(steps.fold(0.0, f64::max));
    let rule = |y: f64| PlotMark::Rule { y, text: String::new() };
    let mut marks: Vec<PlotMark> = metric.rule.into_iter().map(rule).collect();
    for SeriesCurve { style, points, .. } in curves.iter().filter(|curve| curve.runs > 1) {
        let range = |point: &CurvePoint| BandPoint { x: point.step, low: point.low, high: point.high };
        marks.push(PlotMark::Band { style: *style, points: points.iter().map(range).collect() });
    }
    for SeriesCurve { style, points, .. } in curves {
        let points: Vec<_> = points.iter().map(|point| (point.step, point.mean)).collect();
        if points.len() <= MAX_MARKERS {
            marks.extend(points.iter().map(|(x, y)| PlotMark::Marker { style: *style, x: *x, y: *y }));
        }
        marks.push(PlotMark::Line { style: *style, points });
    }
    let ends = curves.iter().filter_map(|curve| {
        let last = curve.points.last()?.mean;
        let value = if metric.percent { format::percent(last) } else { format::number(last) };
        Some(format!("{} ends at {value}", curve.series))
    });
    let at_x = if title.is_empty() { String::new() } else { format!(", {title}") };
    let description = format!("{} over steps{at_x}. {}.", metric.title, ends.collect::<Vec<_>>().join("; "));
    Panel { title, description, content: Content::Plot { x, y: y.clone(), marks } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_with_far_larger_values_gets_its_own_scale() {
        let [calm, wild] = [vec![0.0, 1.0], vec![-40.0, 2.0]];
        assert!(one_squashes_the_others(&[calm.clone(), calm.clone(), wild.clone()]));
        assert!(one_squashes_the_others(&[calm.clone(), wild]));
        assert!(!one_squashes_the_others(&[calm.clone(), calm.clone(), vec![0.0, 3.0]]));
        assert!(!one_squashes_the_others(&[calm]));
        assert!(!one_squashes_the_others(&[]));
    }

    #[test]
    fn a_curve_with_far_larger_values_is_cut() {
        let curve = |low: f64, high: f64| SeriesCurve {
            series: String::new(),
            style: SeriesStyle::Series(0),
            runs: 1,
            points: [low, high]
                .map(|value| CurvePoint { step: value, mean: value, low: value, high: value })
                .into(),
        };
        let curves = [curve(0.0, 1.0), curve(-1.0, 0.5), curve(0.0, 100.0)];
        assert!(has_outlier(&curves) && !has_outlier(&curves[..2]));
        assert_eq!(values(&curves), [0.0, 0.0, 1.0, 1.0, -1.0, -1.0, 0.5, 0.5]);
        assert!(!has_outlier(&[curve(0.0, 1.0), curve(0.0, 100.0)]));
    }
}

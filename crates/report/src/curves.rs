//! Figures of metrics over optimizer steps: small multiples, one panel per x value.

use std::collections::BTreeMap;

use prospect_runs::RecordKind;

use crate::{
    figure::{Content, Figure, Mark, Panel, Scale},
    metrics::Metric,
    sweep::{Run, Sweep},
    text,
};

/// At most so many points to a curve; more are averaged.
pub(crate) const POINTS: u64 = 100;

/// The figure of a metric, or nothing if no run has recorded it.
pub(crate) fn figure(sweep: &Sweep, metric: &Metric) -> Option<Figure> {
    let width = match metric.kind {
        RecordKind::Train => longest(sweep).div_ceil(POINTS).max(1),
        RecordKind::Eval => 1,
    };
    // Panels and, in each, one bundle per series that has values.
    let panels: Vec<(String, Vec<Bundle>)> = sweep
        .x
        .values()
        .iter()
        .map(|(x, name)| (name.clone(), bundles(sweep, metric, *x, width)))
        .filter(|(_, bundles)| !bundles.is_empty())
        .collect();
    let all = panels.iter().flat_map(|(_, bundles)| bundles).flat_map(|bundle| &bundle.points);
    let mut all: Vec<f64> = all.flat_map(|(_, spread)| [spread.low, spread.high]).collect();
    if all.is_empty() {
        return None;
    }
    all.extend(metric.rule);
    let tick = if metric.percent { text::percent_tick } else { text::fixed };
    let y = Scale::round(metric.label, all, tick);
    let one_x = sweep.x.values().len() < 2;
    let mut caption =
        vec!["Curves are means over seeds; bands reach from the lowest seed to the highest.".to_owned()];
    if width > 1 {
        caption.push(format!("Each point is the mean of {width} steps."));
    }
    caption.push(metric.note.to_owned());
    let panel = |(name, bundles): (String, Vec<Bundle>)| {
        let title = if one_x { String::new() } else { format!("{}: {name}", sweep.x.label()) };
        panel(metric, title, &y, &bundles)
    };
    Some(Figure {
        name: metric.name.to_owned(),
        title: metric.title.to_owned(),
        caption: caption.join(" ").trim_end().to_owned(),
        legend: sweep.legend(),
        panels: panels.into_iter().map(panel).collect(),
    })
}

/// The runs of one series at one x, over steps.
struct Bundle {
    series: String,
    look: crate::look::Look,
    runs: usize,
    points: Vec<(f64, Spread)>,
}

/// The runs' values at one step.
struct Spread {
    mean: f64,
    low: f64,
    high: f64,
}

fn longest(sweep: &Sweep) -> u64 {
    sweep.runs.iter().filter_map(Run::steps).max().unwrap_or(0)
}

fn bundles(sweep: &Sweep, metric: &Metric, x: f64, width: u64) -> Vec<Bundle> {
    let of_series = |(look, series): (_, String)| {
        let runs: Vec<_> = sweep
            .runs
            .iter()
            .filter(|run| sweep.series_of(run) == series && sweep.x.of_run(run) == Some(x))
            .map(|run| curve(run, metric, width))
            .filter(|curve| !curve.is_empty())
            .collect();
        let mut steps: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (step, value) in runs.iter().flatten() {
            steps.entry(*step).or_default().push(*value);
        }
        let middle = (width - 1) as f64 / 2.0;
        let points =
            steps.into_iter().map(|(step, values)| ((step * width) as f64 + middle, spread(&values)));
        Bundle { series, look, runs: runs.len(), points: points.collect() }
    };
    sweep.legend().into_iter().map(of_series).filter(|bundle| !bundle.points.is_empty()).collect()
}

/// A run's values, each the mean over `width` steps, by the number of that stretch of steps.
pub(crate) fn curve(run: &Run, metric: &Metric, width: u64) -> BTreeMap<u64, f64> {
    let mut stretches: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for record in run.metrics.iter().filter(|record| record.kind == metric.kind) {
        if let Some(value) = record.values.get(metric.key).filter(|value| value.is_finite()) {
            stretches.entry(record.step / width).or_default().push(*value);
        }
    }
    stretches.into_iter().map(|(stretch, values)| (stretch, spread(&values).mean)).collect()
}

fn spread(values: &[f64]) -> Spread {
    Spread {
        mean: values.iter().sum::<f64>() / values.len() as f64,
        low: values.iter().copied().fold(f64::INFINITY, f64::min),
        high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}

fn panel(metric: &Metric, title: String, y: &Scale, bundles: &[Bundle]) -> Panel {
    let steps = bundles.iter().flat_map(|bundle| &bundle.points).map(|(step, _)| *step);
    let last = steps.clone().fold(0.0, f64::max);
    let mut x = Scale::round("optimizer steps", [0.0, last], text::fixed);
    // Round ticks may reach beyond the last step; the axis need not.
    x.high = last.max(1.0);
    x.ticks.retain(|(tick, _)| *tick <= x.high);
    let rule = |y: f64| Mark::Rule { y, text: String::new() };
    let mut marks: Vec<Mark> = metric.rule.into_iter().map(rule).collect();
    for bundle in bundles.iter().filter(|bundle| bundle.runs > 1) {
        let points = bundle.points.iter().map(|(step, spread)| (*step, spread.low, spread.high)).collect();
        marks.push(Mark::Band { look: bundle.look, points });
    }
    for bundle in bundles {
        let points: Vec<_> = bundle.points.iter().map(|(step, spread)| (*step, spread.mean)).collect();
        if points.len() <= 20 {
            marks.extend(points.iter().map(|(x, y)| Mark::Marker { look: bundle.look, x: *x, y: *y }));
        }
        marks.push(Mark::Line { look: bundle.look, points });
    }
    let ends = bundles.iter().filter_map(|bundle| {
        let (_, spread) = bundle.points.last()?;
        let value = if metric.percent { text::percent(spread.mean) } else { text::number(spread.mean) };
        Some(format!("{} ends at {value}", bundle.series))
    });
    let place = if title.is_empty() { String::new() } else { format!(", {title}") };
    let description = format!("{} over steps{place}. {}.", metric.title, ends.collect::<Vec<_>>().join("; "));
    Panel { title, description, content: Content::Plot { x, y: y.clone(), marks } }
}

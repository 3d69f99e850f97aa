//! Learning curves: measured and predicted values by the number of training rows.

use prospect_runs::{LearningCurve, LearningPoint, Measure};
use serde::Serialize;

use crate::{
    format,
    render::{
        figure::{Content, Figure, Panel, PlotMark, Scale, Tick},
        style::SeriesStyle,
    },
    sweep_data::SweepData,
};

/// Distance of neighbouring series at the same size, in doublings, so that intervals do not cover
/// each other.
const DODGE: f64 = 0.06;

/// Learning curves as the page shows them.
#[derive(Serialize)]
pub(crate) struct LearningView {
    notes: Vec<String>,
    rows: Vec<LearningRow>,
}

#[derive(Serialize)]
struct LearningRow {
    series: String,
    measure: &'static str,
    /// Number of training rows, with its ratio to the largest measured one if it is predicted.
    size: String,
    value: String,
    gain: String,
    predicted: bool,
}

/// Returns the curves, if the sweep is over numbers of training prompts.
pub(crate) fn view(sweep: &SweepData) -> Option<LearningView> {
    let all = sweep.summary.as_ref()?.learning_curves.as_ref()?;
    let rows = all.curves.iter().flat_map(rows).collect();
    Some(LearningView { notes: all.notes.clone(), rows })
}

fn rows(curve: &LearningCurve) -> Vec<LearningRow> {
    let largest = curve.largest();
    let row = |point: &LearningPoint| {
        let size = format::plain(point.rows.round());
        LearningRow {
            series: curve.series.clone(),
            measure: name_of(curve.measure),
            size: match point.gain {
                None => size,
                Some(_) => format!("{size} ({} × the largest)", format::plain(point.rows / largest)),
            },
            value: format::percent_estimate(point.value),
            gain: point.gain.map_or_else(
                || "–".to_owned(),
                |gain| format!("{} ({})", format::points(gain.value), format::points_interval(gain)),
            ),
            predicted: point.gain.is_some(),
        }
    };
    curve.points().map(row).collect()
}

fn name_of(measure: Measure) -> &'static str {
    if measure == Measure::Auc { "AUC" } else { "accuracy" }
}

/// Returns one figure for each measure that has curves.
///
/// Methods on pairs have other numbers of rows than those on completions, so sizes are relative to
/// the largest one of each series, on a logarithmic axis.
pub(crate) fn figures(sweep: &SweepData) -> Vec<Figure> {
    let all = sweep.summary.iter().filter_map(|summary| summary.learning_curves.as_ref());
    let curves: Vec<&LearningCurve> = all.flat_map(|all| &all.curves).collect();
    let of_measure = |measure| {
        let own: Vec<&LearningCurve> =
            curves.iter().copied().filter(|curve| curve.measure == measure).collect();
        (!own.is_empty()).then(|| figure(sweep, measure, &own))
    };
    [Measure::Accuracy, Measure::Auc].into_iter().filter_map(of_measure).collect()
}

fn figure(sweep: &SweepData, measure: Measure, curves: &[&LearningCurve]) -> Figure {
    let name = name_of(measure);
    let title = format!("Held-out {name} by the number of training rows");
    let points = || curves.iter().flat_map(|curve| curve.points());
    let values = points().flat_map(|point| [point.value.low, point.value.value, point.value.high]);
    let y = Scale::covering(&format!("held-out {name}"), values.chain([0.5]), format::percent_tick);
    let (mut marks, mut facts) = (vec![PlotMark::Rule { y: 0.5, text: "chance".to_owned() }], Vec::new());
    for curve in curves {
        marks.extend(curve_marks(sweep, curve));
        let fact = |point: &LearningPoint| {
            let kind = if point.gain.is_some() { "predicted " } else { "" };
            format!(
                "{kind}{} from {} rows",
                format::percent_estimate(point.value),
                format::plain(point.rows.round())
            )
        };
        let points = curve.points().map(fact);
        facts.push(format!("{}: {}", curve.series, points.collect::<Vec<_>>().join(", ")));
    }
    let panel = Panel {
        title: String::new(),
        description: format!("{title}. {}.", facts.join("; ")),
        content: Content::Plot { x: size_scale(curves), y, marks },
    };
    Figure {
        name: format!("learning-curve-{}", name.to_lowercase()),
        title,
        caption: "Filled markers are measured; hollow ones are predictions of the fitted power law. \
                  Whiskers are 95 % confidence intervals."
            .to_owned(),
        legend: sweep.legend(),
        panels: vec![panel],
    }
}

/// Returns the marks of a curve: measured sizes, then predictions from the largest of them on.
fn curve_marks(sweep: &SweepData, curve: &LearningCurve) -> Vec<PlotMark> {
    let index = sweep.series_index(&curve.series);
    let shift = DODGE * (index as f64 - (sweep.series.len().saturating_sub(1)) as f64 / 2.0);
    let largest = curve.largest();
    let place = |point: &LearningPoint| ((point.rows / largest).log2() + shift, point.value.value);
    let from = curve.measured.len().saturating_sub(1);
    let predicted: Vec<LearningPoint> = curve.points().skip(from).copied().collect();
    let styled =
        [(SeriesStyle::NotMeasured(index), &predicted), (SeriesStyle::Series(index), &curve.measured)];
    let mut marks = Vec::new();
    for (style, points) in styled {
        marks.push(PlotMark::Line { style, points: points.iter().map(place).collect() });
        for point in points {
            let (x, y) = place(point);
            marks.push(PlotMark::Interval { style, x, low: point.value.low, high: point.value.high });
            marks.push(PlotMark::Marker { style, x, y });
        }
    }
    marks
}

/// Returns the scale of sizes relative to the largest measured one, in doublings.
fn size_scale(curves: &[&LearningCurve]) -> Scale {
    let sizes = |curve: &&LearningCurve| -> Vec<f64> {
        let largest = curve.largest();
        curve.points().map(|point| (point.rows / largest).log2()).collect()
    };
    let mut positions: Vec<f64> = curves.iter().flat_map(sizes).collect();
    positions.sort_by(f64::total_cmp);
    // Sizes of different series that are nearly equal share a tick.
    positions.dedup_by(|next, kept| *next - *kept < 0.25);
    let tick = |position: &f64| {
        let ratio = position.exp2();
        let digits = if ratio < 0.1 { 1000.0 } else { 100.0 };
        Tick { position: *position, label: format!("{}×", format::plain((ratio * digits).round() / digits)) }
    };
    Scale {
        label: "training rows / largest measured".to_owned(),
        low: positions.first().copied().unwrap_or(0.0) - 0.25,
        high: positions.last().copied().unwrap_or(0.0) + 0.25,
        ticks: positions.iter().map(tick).collect(),
    }
}

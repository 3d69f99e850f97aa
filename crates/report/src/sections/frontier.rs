//! Reward of sampled completions over their KL divergence from the reference, along training and at
//! its end, and true utility over a learnt reward.

use std::collections::BTreeSet;

use prospect_runs::{Estimate, FrontierPoint, RewardKind};

use super::x_title;
use crate::{
    format,
    render::figure::{Content, Figure, Panel, PlotMark, Scale},
    sweep_data::{SweepData, XValue},
};

/// Fewest points of a curve.
const LEAST_POINTS: usize = 3;
/// Most points of a panel that are drawn with their intervals; of more, only the last ones are.
const MOST_INTERVALS: usize = 8;

/// Returns the figures that the samples suffice for.
pub(crate) fn figures(sweep: &SweepData) -> Vec<Figure> {
    let all = || sweep.summary.iter().flat_map(|summary| &summary.frontier).flat_map(|point| &point.rewards);
    let kinds: BTreeSet<&RewardKind> = all().map(|reward| &reward.kind).collect();
    let along = kinds.iter().enumerate().filter_map(|(index, kind)| along_training(sweep, kind, index));
    let ends = kinds.iter().enumerate().filter_map(|(index, kind)| at_the_end(sweep, kind, index));
    let against = kinds.iter().filter_map(|kind| over_optimisation(sweep, kind));
    along.chain(ends).chain(against).collect()
}

/// A point of a curve: position with intervals in both directions.
struct CurvePoint<'a> {
    point: &'a FrontierPoint,
    x: Estimate,
    y: Estimate,
}

/// Curve of one series in a panel.
struct Curve<'a> {
    series: &'a str,
    points: Vec<CurvePoint<'a>>,
}

/// Quantities on both axes.
type Axes<'a> = dyn Fn(&FrontierPoint) -> Option<(Estimate, Estimate)> + 'a;

/// Reward over √KL along training, one panel for each x value.
fn along_training(sweep: &SweepData, kind: &RewardKind, index: usize) -> Option<Figure> {
    let axes = |point: &FrontierPoint| Some((point.root_kl(), point.reward(kind)?));
    let panels = training_panels(sweep, &axes);
    let what = name_of(kind);
    let caption = format!(
        "{} over the square root of the KL divergence. Each curve runs from the start of training (at 0) through its \
         steps (dots) to its end (marker). Where a curve bends down, training went past its optimum. {}",
        capitalised(&what.full),
        intervals_note(&panels)
    );
    figure(
        sweep,
        FigureText {
            name: numbered("frontier", index),
            title: format!("{} and KL divergence along training", capitalised(&what.full)),
            caption,
        },
        [SQRT_KL, &what.axis],
        &panels,
    )
}

/// Reward over √KL at the end of training. Over a numeric x, such as β, each series is a curve.
fn at_the_end(sweep: &SweepData, kind: &RewardKind, index: usize) -> Option<Figure> {
    let ends = |series: &str| -> Vec<CurvePoint<'_>> {
        let own = points(sweep).filter(|point| point.series == series && point.is_last);
        let place = |point: &'_ FrontierPoint| Some((point.root_kl(), point.reward(kind)?));
        let mut ends: Vec<CurvePoint<'_>> =
            own.filter_map(|point| place(point).map(|(x, y)| CurvePoint { point, x, y })).collect();
        ends.sort_by(|a, b| a.point.x.total_cmp(&b.point.x));
        ends
    };
    let curves: Vec<Curve<'_>> =
        sweep.series.iter().map(|series| Curve { series, points: ends(series) }).collect();
    if !sweep.x.is_numeric() || !curves.iter().any(|curve| curve.points.len() >= LEAST_POINTS) {
        return None;
    }
    let what = name_of(kind);
    let caption = format!(
        "{} over the square root of the KL divergence at the end of training, one curve for each series through the \
         values of {}; the first and the last are labelled. Whiskers are 95 % confidence intervals of both.",
        capitalised(&what.full),
        sweep.x.label()
    );
    let text = FigureText {
        name: numbered("frontier-end", index),
        title: format!("{} and KL divergence by {}", capitalised(&what.full), sweep.x.label()),
        caption,
    };
    let panel = FrontierPanel { x: None, curves, labels_x: true };
    figure(sweep, text, [SQRT_KL, &what.axis], &[panel])
}

/// True utility over a learnt reward along training, one panel for each x value; None unless the
/// reward is that of a judge.
fn over_optimisation(sweep: &SweepData, kind: &RewardKind) -> Option<Figure> {
    let RewardKind::Reward(judge) = kind else { return None };
    let axes = |point: &FrontierPoint| Some((point.reward(kind)?, point.reward(&RewardKind::Utility)?));
    let panels = training_panels(sweep, &axes);
    let caption = format!(
        "Gold against proxy: mean true utility over the reward of the {judge}. Where the proxy grows and the utility \
         falls, the policy exploits errors of the proxy (over-optimisation). {}",
        intervals_note(&panels)
    );
    let text = FigureText {
        name: "over-optimisation".to_owned(),
        title: "True utility against learnt reward along training".to_owned(),
        caption,
    };
    figure(sweep, text, [&name_of(kind).axis, "true utility"], &panels)
}

const SQRT_KL: &str = "√KL, √nats";

/// Names of a reward.
struct RewardName {
    full: String,
    axis: String,
}

fn name_of(kind: &RewardKind) -> RewardName {
    match kind {
        RewardKind::Utility => {
            RewardName { full: "true utility".to_owned(), axis: "true utility".to_owned() }
        }
        RewardKind::Reward(judge) => RewardName {
            full: format!("reward of the {judge}"),
            axis: format!("reward ({judge}) − preferred completion’s"),
        },
        RewardKind::WinRate(judge) => RewardName {
            full: format!("win rate against the preferred completions ({judge})"),
            axis: format!("win rate ({judge})"),
        },
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn numbered(name: &str, index: usize) -> String {
    if index == 0 { name.to_owned() } else { format!("{name}-{}", index + 1) }
}

fn points(sweep: &SweepData) -> impl Iterator<Item = &FrontierPoint> {
    sweep.summary.iter().flat_map(|summary| &summary.frontier)
}

/// A panel before it is drawn.
struct FrontierPanel<'a> {
    x: Option<&'a XValue>,
    curves: Vec<Curve<'a>>,
    /// Labels the x values at the ends of each curve.
    labels_x: bool,
}

impl FrontierPanel<'_> {
    fn points(&self) -> impl Iterator<Item = &CurvePoint<'_>> {
        self.curves.iter().flat_map(|curve| &curve.points)
    }

    fn has_all_intervals(&self) -> bool {
        self.labels_x || self.points().count() <= MOST_INTERVALS
    }
}

fn intervals_note(panels: &[FrontierPanel<'_>]) -> &'static str {
    if panels.iter().all(FrontierPanel::has_all_intervals) {
        "Whiskers are 95 % confidence intervals of both."
    } else {
        "Whiskers at the ends are 95 % confidence intervals of both."
    }
}

/// Returns the panels in which a series has enough steps for a curve.
fn training_panels<'a>(sweep: &'a SweepData, axes: &Axes<'_>) -> Vec<FrontierPanel<'a>> {
    let panel = |x: &'a XValue| {
        let curve = |series: &'a String| {
            let own = points(sweep).filter(|point| point.series == *series && point.x == x.value);
            let placed = own.filter_map(|point| axes(point).map(|(x, y)| CurvePoint { point, x, y }));
            let mut points: Vec<CurvePoint<'a>> = placed.collect();
            points.sort_by_key(|placed| (placed.point.step, placed.point.is_last));
            Curve { series, points }
        };
        let curves: Vec<Curve<'a>> = sweep.series.iter().map(curve).collect();
        let is_enough = curves.iter().any(|curve| curve.points.len() >= LEAST_POINTS);
        is_enough.then_some(FrontierPanel { x: Some(x), curves, labels_x: false })
    };
    sweep.x.values().iter().filter_map(panel).collect()
}

/// Name and texts of a figure.
struct FigureText {
    name: String,
    title: String,
    caption: String,
}

/// Draws panels on common scales; None without any.
fn figure(
    sweep: &SweepData,
    text: FigureText,
    [x_label, y_label]: [&str; 2],
    panels: &[FrontierPanel<'_>],
) -> Option<Figure> {
    let shown = |panel: &FrontierPanel<'_>| -> Vec<(Estimate, Estimate)> {
        let all = panel.has_all_intervals();
        let place = |placed: &CurvePoint<'_>| {
            let only =
                |estimate: Estimate| Estimate { low: estimate.value, high: estimate.value, ..estimate };
            let is_shown = all || placed.point.is_last;
            if is_shown { (placed.x, placed.y) } else { (only(placed.x), only(placed.y)) }
        };
        panel.points().map(place).collect()
    };
    let places: Vec<(Estimate, Estimate)> = panels.iter().flat_map(shown).collect();
    let ends = |estimate: Estimate| [estimate.low, estimate.high];
    let percent = y_label.starts_with("win rate");
    let tick = if percent { format::percent_tick } else { format::fixed };
    let x = Scale::covering(x_label, places.iter().flat_map(|(x, _)| ends(*x)), format::fixed);
    let y = Scale::covering(y_label, places.iter().flat_map(|(_, y)| ends(*y)), tick);
    let panels: Vec<Panel> =
        panels.iter().map(|panel| draw(sweep, &text.title, panel, [x.clone(), y.clone()])).collect();
    let FigureText { name, title, caption } = text;
    (!panels.is_empty()).then(|| Figure { name, title, caption, legend: sweep.legend(), panels })
}

fn draw(sweep: &SweepData, title: &str, panel: &FrontierPanel<'_>, [x, y]: [Scale; 2]) -> Panel {
    let (mut lines, mut others, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    let all_intervals = panel.has_all_intervals();
    for Curve { series, points } in panel.curves.iter().filter(|curve| !curve.points.is_empty()) {
        let style = sweep.style(series);
        if points.len() >= LEAST_POINTS {
            let points: Vec<_> = points.iter().map(|placed| (placed.x.value, placed.y.value)).collect();
            // Curves may turn back sharply, where one line would have a long spike.
            lines.extend(points.windows(2).map(|pair| PlotMark::Line { style, points: pair.to_vec() }));
        }
        for (index, CurvePoint { point, x, y }) in points.iter().enumerate() {
            if (all_intervals || point.is_last) && point.step > 0 {
                others.push(PlotMark::Interval { style, x: x.value, low: y.low, high: y.high });
                others.push(PlotMark::Span { style, y: y.value, low: x.low, high: x.high });
            }
            let (x, y) = (x.value, y.value);
            let is_end = index == 0 || index + 1 == points.len();
            if panel.labels_x && is_end {
                others.push(PlotMark::Label { x, y, text: sweep.x.name(point.x) });
            }
            others.push(if point.is_last {
                PlotMark::Marker { style, x, y }
            } else {
                PlotMark::Dot { style, x, y }
            });
        }
        let fact = |placed: &CurvePoint<'_>| {
            let at = if panel.labels_x {
                sweep.x.name(placed.point.x)
            } else {
                format!("step {}", placed.point.step)
            };
            format!("{} at {} ({at})", format::number(placed.y.value), format::number(placed.x.value))
        };
        facts.push(format!("{series}: {}", points.iter().map(fact).collect::<Vec<_>>().join(", ")));
    }
    let x_name = panel.x.map(|x| x_title(sweep, x)).unwrap_or_default();
    let place = if x_name.is_empty() { String::new() } else { format!(", {x_name}") };
    Panel {
        description: format!("{title}{place}. {}.", facts.join("; ")),
        title: x_name,
        content: Content::Plot { x, y, marks: lines.into_iter().chain(others).collect() },
    }
}

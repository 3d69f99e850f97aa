//! Figures of the summary's estimates: held-out accuracy, true utility, win rates and reward margin.

use prospect_runs::{Estimate, Kind, Point, Reference, WinRate};

use super::{
    facets::{Facet, by_model_size, facets},
    reference,
    win_rates::{Matchup, matchups},
};
use crate::{
    format,
    render::figure::{BandPoint, Content, Figure, Panel, PlotMark, Scale},
    sweep_data::{RunData, SweepData},
};

/// Returns held-out accuracy over x, the main result of the sweep.
///
/// Without a summary, the figure shows the latest evaluation of each run, without intervals.
pub(crate) fn accuracy(sweep: &SweepData) -> Option<Figure> {
    accuracy_over(sweep, "accuracy", "Held-out preference accuracy", facets(sweep))
}

/// Returns held-out accuracy over the number of parameters, if the x axis is of models.
pub(crate) fn accuracy_by_size(sweep: &SweepData) -> Option<Figure> {
    sweep.summary.as_ref()?;
    let facets = by_model_size(sweep)?;
    accuracy_over(sweep, "accuracy-by-size", "Held-out preference accuracy by model size", facets)
}

fn accuracy_over(sweep: &SweepData, name: &str, title: &str, facets: Vec<Facet>) -> Option<Figure> {
    let points: Vec<PlottedPoint> = match &sweep.summary {
        Some(summary) => summary
            .points
            .iter()
            .map(|point| PlottedPoint {
                seeds: point.seeds.clone(),
                ..PlottedPoint::new(point, point.accuracy)
            })
            .collect(),
        None => latest_accuracies(sweep),
    };
    let mut rules = vec![LabelledRule { y: 0.5, label: "chance" }];
    let oracle = sweep.summary.iter().filter_map(|summary| summary.oracle_accuracy);
    rules.extend(oracle.map(|y| LabelledRule { y, label: "oracle" }));
    let published = sweep.experiment.reference.as_ref().filter(|reference| reference.measure.is_none());
    let published_values =
        published.iter().flat_map(|published| reference::points(sweep, published)).map(|point| point.y);
    let values = points.iter().flat_map(PlottedPoint::values).chain(rules.iter().map(|rule| rule.y));
    let y =
        Scale::covering("held-out preference accuracy", values.chain(published_values), format::percent_tick);
    let mut caption = match &sweep.summary {
        Some(_) => {
            let intervals = if facets.iter().any(|facet| facet.bands) { "Bands" } else { "Whiskers" };
            format!("{intervals} are 95 % confidence intervals; faint dots are single seeds.")
        }
        None => "Each marker is the latest evaluation of one run; there are no intervals yet.".to_owned(),
    };
    caption.push_str(" “Chance” is the accuracy of random guessing.");
    if rules.len() > 1 {
        caption.push_str(" “Oracle” is the accuracy of the true utility.");
    }
    if published.is_some() {
        caption
            .push_str(" Dashed lines and hollow markers are published results, not measured by this sweep.");
    }
    let spec = FigureSpec { name, title, caption, y, rules, published };
    figure(sweep, spec, &points, |point| Some(format::percent_estimate(point.estimate?)), facets)
}

/// Returns the true utility of completions over x, if the dataset defines one.
pub(crate) fn utility(sweep: &SweepData) -> Option<Figure> {
    utility_over(sweep, "utility", "True utility of completions", facets(sweep))
}

/// Returns the true utility of completions over the number of parameters, if the x axis is of models.
pub(crate) fn utility_by_size(sweep: &SweepData) -> Option<Figure> {
    let title = "True utility of completions by model size";
    utility_over(sweep, "utility-by-size", title, by_model_size(sweep)?)
}

fn utility_over(sweep: &SweepData, name: &str, title: &str, facets: Vec<Facet>) -> Option<Figure> {
    let points: Vec<PlottedPoint> = sweep
        .summary
        .iter()
        .flat_map(|summary| &summary.points)
        .filter_map(|point| Some(PlottedPoint::new(point, point.utility?)))
        .collect();
    let values = points.iter().flat_map(PlottedPoint::values).chain([0.0]);
    let spec = FigureSpec {
        name,
        title,
        caption: "Mean true utility of the policy’s completions to held-out prompts, with 95 % confidence intervals. \
                  Preferences are noisy labels of this quantity."
            .to_owned(),
        y: Scale::covering("true utility", values, format::fixed),
        rules: vec![LabelledRule { y: 0.0, label: "" }],
        published: None,
    };
    figure(sweep, spec, &points, |point| Some(format::number(point.estimate?.value)), facets)
}

/// Returns one figure of win rates over x for each matchup.
pub(crate) fn win_rates(sweep: &SweepData) -> Vec<Figure> {
    let of_matchup = |(index, matchup): (usize, Matchup<'_>)| {
        let point = |rate: &&WinRate| PlottedPoint {
            series: rate.series.clone(),
            x: rate.x,
            estimate: Some(rate.rate),
            seeds: Vec::new(),
        };
        let points: Vec<PlottedPoint> = matchup.rates.iter().map(point).collect();
        let values = points.iter().flat_map(PlottedPoint::values).chain([0.5]);
        let spec = FigureSpec {
            name: &format!("win-rate-{}", index + 1),
            title: &format!("Win rate: {}", matchup.title(sweep)),
            caption:
                "Win rate with ties counted as half, and 95 % confidence intervals over seeds and prompts. \
                      50 % means no difference."
                    .to_owned(),
            y: Scale::covering("win rate", values, format::percent_tick),
            rules: vec![LabelledRule { y: 0.5, label: "even" }],
            published: None,
        };
        figure(sweep, spec, &points, |point| Some(format::percent(point.estimate?.value)), facets(sweep))
    };
    matchups(sweep).into_iter().enumerate().filter_map(of_matchup).collect()
}

/// Returns the reward margin on held-out pairs over x.
pub(crate) fn margin(sweep: &SweepData) -> Option<Figure> {
    let points: Vec<PlottedPoint> = sweep
        .summary
        .iter()
        .flat_map(|summary| &summary.points)
        .map(|point| PlottedPoint::new(point, point.margin))
        .collect();
    let values = points.iter().flat_map(PlottedPoint::values).chain([0.0]);
    let spec = FigureSpec {
        name: "margin",
        title: "Reward margin on held-out pairs",
        caption: "Mean reward of the chosen completion minus that of the rejected one on held-out pairs, with 95 % \
                  confidence intervals. Margins grow with β and training length; they do not measure quality."
            .to_owned(),
        y: Scale::covering("reward margin", values, format::fixed),
        rules: vec![LabelledRule { y: 0.0, label: "" }],
        published: None,
    };
    figure(sweep, spec, &points, |point| Some(format::number(point.estimate?.value)), facets(sweep))
}

/// Values of one series at one x.
struct PlottedPoint {
    series: String,
    x: f64,
    estimate: Option<Estimate>,
    /// Values of single seeds.
    seeds: Vec<f64>,
}

impl PlottedPoint {
    fn new(point: &Point, estimate: Estimate) -> Self {
        Self { series: point.series.clone(), x: point.x, estimate: Some(estimate), seeds: Vec::new() }
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let ends = self.estimate.map(|estimate| [estimate.low, estimate.value, estimate.high]);
        ends.into_iter().flatten().chain(self.seeds.iter().copied())
    }
}

/// Returns the latest held-out accuracy of every run that has one.
fn latest_accuracies(sweep: &SweepData) -> Vec<PlottedPoint> {
    let of_run = |run: &RunData| {
        let seeds = vec![run.last(Kind::Eval, "eval_rewards/accuracies")?];
        Some(PlottedPoint { series: sweep.series_of(run), x: sweep.x.of_run(run)?, estimate: None, seeds })
    };
    sweep.runs.iter().filter_map(of_run).collect()
}

/// A horizontal line with a label (may be empty).
struct LabelledRule<'a> {
    y: f64,
    label: &'a str,
}

/// Properties shared by all panels of a figure.
struct FigureSpec<'a> {
    name: &'a str,
    title: &'a str,
    caption: String,
    y: Scale,
    rules: Vec<LabelledRule<'a>>,
    /// Published results of the same measure.
    published: Option<&'a Reference>,
}

fn figure(
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

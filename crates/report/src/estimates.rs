//! Figures of the summary's estimates: the answer, and the reward margins behind it.

use prospect_runs::{Estimate, Kind, Point, WinRate};

use crate::{
    figure::{Figure, Mark, Panel, Scale},
    sweep::{Run, Sweep},
    text,
    wins::{self, Round},
};

/// Held-out accuracy at every x, one curve per series: the figure that answers the question.
///
/// Without a summary it shows what the runs themselves have measured so far, without intervals.
pub(crate) fn accuracy(sweep: &Sweep) -> Option<Figure> {
    let points: Vec<Shown> = match &sweep.summary {
        Some(summary) => summary
            .points
            .iter()
            .map(|point| Shown { estimate: Some(point.accuracy), ..Shown::at(point, point.seeds.clone()) })
            .collect(),
        None => measured(sweep),
    };
    let mut rules = vec![(0.5, "chance")];
    rules.extend(sweep.summary.iter().filter_map(|s| s.oracle_accuracy).map(|share| (share, "oracle")));
    let seen = points.iter().flat_map(Shown::values).chain(rules.iter().map(|rule| rule.0));
    let y = Scale::round("held-out preference accuracy", seen, text::percent_tick);
    let mut caption = match &sweep.summary {
        Some(_) => "Whiskers are 95 % intervals; faint dots are single seeds.".to_owned(),
        None => "Each marker is one run’s latest evaluation; the sweep has no intervals yet.".to_owned(),
    };
    caption.push_str(" The line “chance” is what guessing reaches.");
    if rules.len() > 1 {
        caption.push_str(" “Oracle” is what the true utility reaches.");
    }
    let shown = |point: &Shown| {
        let estimate = point.estimate?;
        Some(format!("{} ({})", text::percent(estimate.value), text::percent_interval(estimate)))
    };
    let plot = Plot { name: "accuracy", title: "Held-out preference accuracy", caption, y, rules };
    figure(sweep, plot, &points, shown)
}

/// The true utility of what policies say, at every x: the other half of the answer, where the data knows it.
pub(crate) fn utility(sweep: &Sweep) -> Option<Figure> {
    let points: Vec<Shown> = sweep
        .summary
        .iter()
        .flat_map(|summary| &summary.points)
        .filter_map(|point| Some(Shown { estimate: Some(point.utility?), ..Shown::at(point, Vec::new()) }))
        .collect();
    let seen = points.iter().flat_map(Shown::values).chain([0.0]);
    let y = Scale::round("true utility", seen, text::fixed);
    let caption =
        "Mean true utility of what policies say to held-out prompts, with 95 % intervals: what preferences \
                   are a sign of."
            .to_owned();
    let shown = |point: &Shown| point.estimate.map(|estimate| text::number(estimate.value));
    let title = "True utility of what policies say";
    let plot = Plot { name: "utility", title, caption, y, rules: vec![(0.0, "")] };
    figure(sweep, plot, &points, shown)
}

/// How often each judge prefers what policies say, at every x: a figure for each judge and opponent.
pub(crate) fn wins(sweep: &Sweep) -> Vec<Figure> {
    let of_round = |(index, round): (usize, Round<'_>)| {
        let shown = |rate: &&WinRate| Shown {
            series: rate.series.clone(),
            x: rate.x,
            estimate: Some(rate.rate),
            seeds: Vec::new(),
        };
        let points: Vec<Shown> = round.rates.iter().map(shown).collect();
        let seen = points.iter().flat_map(Shown::values).chain([0.5]);
        let y = Scale::round("win rate", seen, text::percent_tick);
        let caption = "Wins and half of the ties, with 95 % intervals over seeds and prompts; at 50 % neither is better.";
        let name = Round::figure_name(index);
        let title = format!("Win rate: {}", round.title(sweep));
        let rules = vec![(0.5, "as good")];
        let plot = Plot { name: &name, title: &title, caption: caption.to_owned(), y, rules };
        let value = |point: &Shown| point.estimate.map(|estimate| text::percent(estimate.value));
        figure(sweep, plot, &points, value)
    };
    wins::rounds(sweep).into_iter().enumerate().filter_map(of_round).collect()
}

/// The reward margin at every x.
pub(crate) fn margin(sweep: &Sweep) -> Option<Figure> {
    let points: Vec<Shown> = sweep
        .summary
        .iter()
        .flat_map(|summary| &summary.points)
        .map(|point| Shown { estimate: Some(point.margin), ..Shown::at(point, Vec::new()) })
        .collect();
    let seen = points.iter().flat_map(Shown::values).chain([0.0]);
    let y = Scale::round("reward margin", seen, text::fixed);
    let caption =
        "Mean reward of the chosen completion minus that of the rejected one on held-out pairs, with 95 % \
                   intervals. Margins grow with β and training length; they are not a measure of quality."
            .to_owned();
    let shown = |point: &Shown| point.estimate.map(|estimate| text::number(estimate.value));
    let plot =
        Plot { name: "margin", title: "Reward margin on held-out pairs", caption, y, rules: vec![(0.0, "")] };
    figure(sweep, plot, &points, shown)
}

/// What is shown of one series at one x.
struct Shown {
    series: String,
    x: f64,
    estimate: Option<Estimate>,
    seeds: Vec<f64>,
}

impl Shown {
    fn at(point: &Point, seeds: Vec<f64>) -> Self {
        Self { series: point.series.clone(), x: point.x, estimate: None, seeds }
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let ends = self.estimate.map(|estimate| [estimate.low, estimate.value, estimate.high]);
        ends.into_iter().flatten().chain(self.seeds.iter().copied())
    }
}

/// The latest held-out accuracy of every run that has one.
fn measured(sweep: &Sweep) -> Vec<Shown> {
    let of_run = |run: &Run| {
        let seeds = vec![run.last(Kind::Eval, "eval_rewards/accuracies")?];
        Some(Shown { series: sweep.series_of(run), x: sweep.x.of_run(run)?, estimate: None, seeds })
    };
    sweep.runs.iter().filter_map(of_run).collect()
}

struct Plot<'a> {
    name: &'a str,
    title: &'a str,
    caption: String,
    y: Scale,
    rules: Vec<(f64, &'a str)>,
}

fn figure(
    sweep: &Sweep,
    plot: Plot<'_>,
    points: &[Shown],
    value: impl Fn(&Shown) -> Option<String>,
) -> Option<Figure> {
    if points.is_empty() {
        return None;
    }
    let one_x = sweep.x.values().len() < 2;
    let x = if one_x { series_scale(sweep) } else { sweep.x.scale() };
    let title = plot.title.to_owned();
    let mut marks: Vec<Mark> =
        plot.rules.iter().map(|(y, text)| Mark::Rule { y: *y, text: (*text).to_owned() }).collect();
    let place = |point: &Shown| {
        let index = sweep.look(&point.series).0 as f64;
        if one_x { index } else { sweep.x.place(point.x) + beside(sweep, &x, index) }
    };
    for point in points {
        // Beside the whisker, not behind it.
        let (look, x) = (sweep.look(&point.series), place(point) + 0.01 * (x.high - x.low));
        marks.extend(point.seeds.iter().map(|y| match point.estimate {
            Some(_) => Mark::Dot { look, x, y: *y },
            None => Mark::Marker { look, x, y: *y },
        }));
    }
    for (look, name) in sweep.legend() {
        let mut own: Vec<&Shown> = points.iter().filter(|point| point.series == name).collect();
        own.sort_by(|a, b| a.x.total_cmp(&b.x));
        let line: Vec<_> = own.iter().filter_map(|p| p.estimate.map(|e| (place(p), e.value))).collect();
        // Between values that are no numbers there is nothing.
        if !one_x && sweep.x.is_numeric() && line.len() > 1 {
            marks.push(Mark::Line { look, points: line });
        }
        for (x, estimate) in own.iter().filter_map(|point| point.estimate.map(|e| (place(point), e))) {
            marks.push(Mark::Interval { look, x, low: estimate.low, high: estimate.high });
            marks.push(Mark::Marker { look, x, y: estimate.value });
        }
    }
    let facts = points.iter().filter_map(|point| {
        Some(format!("{} at {}: {}", point.series, sweep.x.name(point.x), value(point)?))
    });
    let description = format!("{title}. {}.", facts.collect::<Vec<_>>().join("; "));
    let panel = Panel { title: String::new(), description, x, y: plot.y, marks };
    Some(Figure {
        name: plot.name.to_owned(),
        title,
        caption: plot.caption,
        legend: sweep.legend(),
        panels: vec![panel],
    })
}

/// With one x value, the series stand side by side.
fn series_scale(sweep: &Sweep) -> Scale {
    let ticks: Vec<_> =
        sweep.series.iter().enumerate().map(|(index, name)| (index as f64, name.clone())).collect();
    Scale { label: String::new(), low: -0.5, high: ticks.len() as f64 - 0.5, ticks }
}

/// How far beside its x a series is drawn, so that whiskers do not cover each other.
fn beside(sweep: &Sweep, scale: &Scale, index: f64) -> f64 {
    let count = sweep.series.len() as f64;
    let step = (0.024 * (scale.high - scale.low)).min(0.5 * sweep.x.least_gap() / count);
    (index - (count - 1.0) / 2.0) * step
}

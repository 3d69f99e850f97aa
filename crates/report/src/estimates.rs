//! Figures of the summary's estimates: the answer, and the reward margins behind it.

use prospect_runs::{Estimate, Point, PublishedResults, RecordKind, WinRate};

use crate::{
    facets::{self, Facet},
    figure::{Content, Figure, Mark, Panel, Scale},
    reference,
    sweep::{Run, Sweep},
    text,
    wins::{self, Round},
};

/// Held-out accuracy at every x, one curve per series: the figure that answers the question.
///
/// Without a summary it shows what the runs themselves have measured so far, without intervals.
pub(crate) fn accuracy(sweep: &Sweep) -> Option<Figure> {
    accuracy_over(sweep, "accuracy", "Held-out preference accuracy", facets::of(sweep))
}

/// The same over the number of the model's parameters, where the x axis is of models.
pub(crate) fn accuracy_by_size(sweep: &Sweep) -> Option<Figure> {
    sweep.summary.as_ref()?;
    let facets = facets::sizes(sweep)?;
    accuracy_over(sweep, "accuracy-by-size", "Held-out preference accuracy by size of the model", facets)
}

fn accuracy_over(sweep: &Sweep, name: &str, title: &str, facets: Vec<Facet>) -> Option<Figure> {
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
    let published = sweep.experiment.reference.as_ref().filter(|reference| reference.measure.is_none());
    let numbers = published.iter().flat_map(|published| reference::points(sweep, published));
    let seen = points.iter().flat_map(Shown::values).chain(rules.iter().map(|rule| rule.0));
    let seen = seen.chain(numbers.map(|point| point.y));
    let y = Scale::round("held-out preference accuracy", seen, text::percent_tick);
    let mut caption = match &sweep.summary {
        Some(_) => format!("{} are 95 % intervals; faint dots are single seeds.", intervals(&facets)),
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
    if published.is_some() {
        caption.push_str(
            " Dashed lines and hollow markers are published numbers, copied, not measured by this sweep.",
        );
    }
    figure(sweep, Plot { name, title, caption, y, rules, published }, &points, shown, facets)
}

/// The true utility of what policies say, at every x: the other half of the answer, where the data knows it.
pub(crate) fn utility(sweep: &Sweep) -> Option<Figure> {
    utility_over(sweep, "utility", "True utility of what policies say", facets::of(sweep))
}

/// The same over the number of the model's parameters, where the x axis is of models.
pub(crate) fn utility_by_size(sweep: &Sweep) -> Option<Figure> {
    let title = "True utility of what policies say by size of the model";
    utility_over(sweep, "utility-by-size", title, facets::sizes(sweep)?)
}

fn utility_over(sweep: &Sweep, name: &str, title: &str, facets: Vec<Facet>) -> Option<Figure> {
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
    let plot = Plot { name, title, caption, y, rules: vec![(0.0, "")], published: None };
    figure(sweep, plot, &points, shown, facets)
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
        let plot =
            Plot { name: &name, title: &title, caption: caption.to_owned(), y, rules, published: None };
        let value = |point: &Shown| point.estimate.map(|estimate| text::percent(estimate.value));
        figure(sweep, plot, &points, value, facets::of(sweep))
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
    let title = "Reward margin on held-out pairs";
    let plot = Plot { name: "margin", title, caption, y, rules: vec![(0.0, "")], published: None };
    figure(sweep, plot, &points, shown, facets::of(sweep))
}

/// How intervals are drawn.
fn intervals(facets: &[Facet]) -> &'static str {
    if facets.iter().any(|facet| facet.bands) { "Bands" } else { "Whiskers" }
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
        let seeds = vec![run.last(RecordKind::Eval, "eval_rewards/accuracies")?];
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
    /// Published numbers of the same measure.
    published: Option<&'a PublishedResults>,
}

fn figure(
    sweep: &Sweep,
    plot: Plot<'_>,
    points: &[Shown],
    value: impl Fn(&Shown) -> Option<String>,
    facets: Vec<Facet>,
) -> Option<Figure> {
    let panel = |facet: Facet| {
        let own: Vec<(f64, &Shown)> = points
            .iter()
            .filter_map(|point| {
                Some((facet.at(point.x, sweep.place(&point.series), sweep.series.len())?, point))
            })
            .collect();
        let facts = own.iter().filter_map(|(_, point)| {
            Some(format!("{} at {}: {}", point.series, sweep.x.name(point.x), value(point)?))
        });
        let facts = facts.collect::<Vec<_>>().join("; ");
        let marks = marks(sweep, &plot, &facet, &own);
        let Facet { title, scale, .. } = facet;
        let place = if title.is_empty() { String::new() } else { format!(", {title}") };
        (!own.is_empty()).then(|| Panel {
            description: format!("{}{place}. {facts}.", plot.title),
            title,
            content: Content::Plot { x: scale, y: plot.y.clone(), marks },
        })
    };
    let panels: Vec<Panel> = facets.into_iter().filter_map(panel).collect();
    let mut legend = sweep.legend();
    if let Some(published) = plot.published {
        let name = |series: &str| format!("{series}, {}", published.label);
        legend.extend(reference::legend(sweep, published, name));
    }
    (!panels.is_empty()).then(|| Figure {
        name: plot.name.to_owned(),
        title: plot.title.to_owned(),
        caption: plot.caption,
        legend,
        panels,
    })
}

/// What is drawn of `points`, each at its place.
fn marks(sweep: &Sweep, plot: &Plot<'_>, facet: &Facet, points: &[(f64, &Shown)]) -> Vec<Mark> {
    let mut marks: Vec<Mark> =
        plot.rules.iter().map(|(y, text)| Mark::Rule { y: *y, text: (*text).to_owned() }).collect();
    let scale = &facet.scale;
    for (at, point) in points {
        // Beside the whisker, not behind it.
        let (look, x) = (sweep.look(&point.series), at + 0.01 * (scale.high - scale.low));
        marks.extend(point.seeds.iter().map(|y| match point.estimate {
            Some(_) => Mark::Dot { look, x, y: *y },
            None => Mark::Marker { look, x, y: *y },
        }));
    }
    // Between values that are no numbers there is nothing.
    let series = sweep.legend().into_iter().map(|(look, name)| {
        let own = points.iter().filter(|(_, point)| point.series == name);
        let mut own: Vec<(f64, Estimate, bool)> =
            own.filter_map(|(at, point)| Some((*at, point.estimate?, facet.joins(point.x)))).collect();
        own.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut line: Vec<(f64, Estimate)> =
            own.iter().filter(|(.., joined)| *joined).map(|(at, estimate, _)| (*at, *estimate)).collect();
        if line.len() < 2 {
            line.clear();
        }
        (look, own, line)
    });
    let series: Vec<_> = series.collect();
    for (look, _, line) in series.iter().filter(|(.., line)| facet.bands && !line.is_empty()) {
        let points = line.iter().map(|(x, estimate)| (*x, estimate.low, estimate.high)).collect();
        marks.push(Mark::Band { look: *look, points });
    }
    for (look, own, line) in series {
        if !line.is_empty() {
            let points = line.iter().map(|(x, estimate)| (*x, estimate.value)).collect();
            marks.push(Mark::Line { look, points });
        }
        for (x, estimate, _) in own {
            if line.is_empty() || !facet.bands {
                marks.push(Mark::Interval { look, x, low: estimate.low, high: estimate.high });
            }
            marks.push(Mark::Marker { look, x, y: estimate.value });
        }
    }
    if let Some(published) = plot.published {
        marks.extend(reference::marks(sweep, published, facet));
    }
    marks
}

//! Figures of estimates over x: held-out accuracy, true utility, win rates and reward margin.

use prospect_runs::{Measure, Point, RecordKind, WinRate};

use super::{
    estimate_plot::{FigureSpec, LabelledRule, PlottedPoint, figure},
    facets::{Facet, by_model_size, facets},
    reference,
    win_rates::{Matchup, matchups},
};
use crate::{
    format,
    render::figure::{Figure, Scale},
    sweep_data::{RunData, SweepData},
};

/// Returns held-out accuracy over x, the main result of the sweep; the AUC of thumbs if there are
/// no pairs.
///
/// Without a summary, the figure shows the latest evaluation of each run, without intervals.
pub(crate) fn accuracy(sweep: &SweepData) -> Option<Figure> {
    accuracy_over(sweep, "accuracy", "", facets(sweep))
}

/// Returns held-out accuracy over the number of parameters, if the x axis is of models.
pub(crate) fn accuracy_by_size(sweep: &SweepData) -> Option<Figure> {
    sweep.summary.as_ref()?;
    let facets = by_model_size(sweep)?;
    accuracy_over(sweep, "accuracy-by-size", " by model size", facets)
}

fn accuracy_over(sweep: &SweepData, name: &str, suffix: &str, facets: Vec<Facet>) -> Option<Figure> {
    let is_auc = is_auc(sweep);
    let label = if is_auc { "held-out AUC" } else { "held-out preference accuracy" };
    let title = if is_auc { "Held-out AUC of the reward" } else { "Held-out preference accuracy" };
    let title = &format!("{title}{suffix}");
    let points: Vec<PlottedPoint> = match &sweep.summary {
        Some(summary) => summary
            .points
            .iter()
            .filter_map(|point| {
                let (_, headline) = point.headline()?;
                Some(PlottedPoint { seeds: point.seeds.clone(), ..PlottedPoint::new(point, headline) })
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
    let y = Scale::covering(label, values.chain(published_values), format::percent_tick);
    let mut caption = match &sweep.summary {
        Some(_) => {
            let intervals = if facets.iter().any(|facet| facet.bands) { "Bands" } else { "Whiskers" };
            format!("{intervals} are 95 % confidence intervals; faint dots are single seeds.")
        }
        None => "Each marker is the latest evaluation of one run; there are no intervals yet.".to_owned(),
    };
    caption.push_str(if is_auc {
        " The AUC is the probability that a random thumb up has a higher reward than a random thumb down; \
         “chance” is 50 %."
    } else {
        " “Chance” is the accuracy of random guessing."
    });
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

/// Returns true if the headline measure is the AUC of thumbs, since there are no held-out pairs.
pub(crate) fn is_auc(sweep: &SweepData) -> bool {
    let has_accuracy = |run: &RunData| {
        run.last(RecordKind::Eval, "eval_rewards/accuracies").is_some() || !run.pairs.is_empty()
    };
    if let Some(summary) = &sweep.summary {
        return summary.points.iter().filter_map(Point::headline).any(|(measure, _)| measure == Measure::Auc);
    }
    let evaluated: Vec<_> = sweep.runs.iter().filter(|run| run.headline().is_some()).collect();
    !evaluated.is_empty() && !evaluated.iter().any(|run| has_accuracy(run))
}

/// Returns the true utility of completions over x, if the dataset defines one.
pub(crate) fn utility(sweep: &SweepData) -> Option<Figure> {
    utility_over(sweep, "utility", "True utility of completions", facets(sweep))
}

/// Returns the true utility over the number of parameters, if the x axis is of models.
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

/// Returns the latest held-out accuracy of every run that has one.
fn latest_accuracies(sweep: &SweepData) -> Vec<PlottedPoint> {
    let of_run = |run: &RunData| {
        let seeds = vec![run.headline()?];
        Some(PlottedPoint { series: sweep.series_of(run), x: sweep.x.of_run(run)?, estimate: None, seeds })
    };
    sweep.runs.iter().filter_map(of_run).collect()
}

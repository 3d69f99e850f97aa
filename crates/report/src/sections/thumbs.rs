//! Held-out thumbs: a table of measures, and the reliability of probabilities.

use prospect_runs::{Estimate, Point, ThumbEstimates};
use serde::Serialize;

use super::{MAX_PANELS, first_and_last_x, panel_title};
use crate::{
    format,
    render::figure::{Content, Figure, Panel, PlotMark, Scale},
    sweep_data::{RunGroup, SweepData},
};

/// Table of the measures of held-out thumbs.
#[derive(Serialize)]
pub(crate) struct ThumbTable {
    /// Counts of the held-out thumbs, in a sentence.
    about: String,
    rows: Vec<ThumbRow>,
}

/// Measures of one series at one x value, each with its interval.
#[derive(Serialize)]
struct ThumbRow {
    x: String,
    series: String,
    auc: String,
    auc_within_prompt: String,
    balanced_accuracy: String,
    log_loss: String,
    brier_skill: String,
}

/// Returns the points of the summary with their measures of thumbs.
pub(crate) fn points(sweep: &SweepData) -> impl Iterator<Item = (&Point, &ThumbEstimates)> {
    let points = sweep.summary.iter().flat_map(|summary| &summary.points);
    points.filter_map(|point| Some((point, point.thumbs.as_ref()?)))
}

/// Returns the table, if the held-out feedback has thumbs of both labels.
pub(crate) fn table(sweep: &SweepData) -> Option<ThumbTable> {
    let (_, first) = points(sweep).next()?;
    let optional_fixed = |estimate: Option<Estimate>| {
        let shown = |Estimate { value, low, high }: Estimate| {
            let [value, low, high] = [value, low, high].map(|value| format::fixed(value, 2));
            format!("{value} ({low} to {high})")
        };
        estimate.map_or_else(|| "–".to_owned(), shown)
    };
    let row = |(point, thumbs): (&Point, &ThumbEstimates)| ThumbRow {
        x: sweep.x.name(point.x),
        series: point.series.clone(),
        auc: format::percent_estimate(thumbs.auc),
        auc_within_prompt: thumbs.auc_within_prompt.map_or_else(|| "–".to_owned(), format::percent_estimate),
        balanced_accuracy: format::percent_estimate(thumbs.balanced_accuracy),
        log_loss: optional_fixed(thumbs.log_loss),
        brier_skill: optional_fixed(thumbs.brier_skill),
    };
    Some(ThumbTable { about: about(first), rows: points(sweep).map(row).collect() })
}

/// Describes the held-out thumbs and what baselines without a policy reach.
fn about(thumbs: &ThumbEstimates) -> String {
    let ThumbEstimates { desirable, undesirable, prompts, groups, length_auc, prompt_auc, .. } = thumbs;
    let groups = groups.map(|groups| format!(" from {}", format::count(groups, "group"))).unwrap_or_default();
    let baseline =
        |(auc, what): (Option<f64>, &str)| Some(format!("{what} reaches {}", format::percent(auc?)));
    let baselines: Vec<String> =
        [(*length_auc, "the length of the completion alone"), (*prompt_auc, "the words of the prompt alone")]
            .into_iter()
            .filter_map(baseline)
            .collect();
    let baselines =
        if baselines.is_empty() { String::new() } else { format!(" As an AUC, {}.", baselines.join(", ")) };
    format!(
        "{desirable} desirable and {undesirable} undesirable completions of {}{groups}.{baselines}",
        format::count(*prompts, "prompt")
    )
}

/// Returns the share of thumbs up over the probability of a thumb up, one panel for each series and
/// x value.
pub(crate) fn reliability(sweep: &SweepData) -> Option<Figure> {
    let x = Scale::covering("probability of a thumb up", [0.0, 1.0], format::percent_tick);
    let y = Scale::covering("share of thumbs up", [0.0, 1.0], format::percent_tick);
    let mut groups = sweep.run_groups();
    let all = groups.len();
    first_and_last_x(&mut groups, MAX_PANELS);
    let panel = |group: &RunGroup<'_>| {
        let own = |(point, _): &(&Point, _)| point.x == group.x && point.series == group.series;
        let (_, thumbs) = points(sweep).find(own)?;
        let style = sweep.style(&group.series);
        let mut marks = vec![PlotMark::Guide { points: vec![(0.0, 0.0), (1.0, 1.0)] }];
        let points: Vec<_> = thumbs.reliability.iter().map(|bin| (bin.probability, bin.desirable)).collect();
        if points.len() > 2 {
            marks.push(PlotMark::Line { style, points: points.clone() });
        }
        for (bin, (x, y)) in thumbs.reliability.iter().zip(points) {
            marks.push(PlotMark::Marker { style, x, y });
            marks.push(PlotMark::Text { x, y, text: bin.thumbs.to_string() });
        }
        let bin = |bin: &prospect_runs::ReliabilityBin| {
            let (said, found) = (format::percent(bin.probability), format::percent(bin.desirable));
            format!("{said} against {found} of {}", bin.thumbs)
        };
        let bins: Vec<String> = thumbs.reliability.iter().map(bin).collect();
        let title = panel_title(sweep, group);
        (!bins.is_empty()).then(|| Panel {
            description: format!("Probability against share, {title}: {}.", bins.join(", ")),
            title,
            content: Content::Plot { x: x.clone(), y: y.clone(), marks },
        })
    };
    let panels: Vec<Panel> = groups.iter().filter_map(panel).collect();
    let mut caption = "Held-out thumbs by the probability that their reward implies after Platt scaling on training rows, \
         against the share that is up; numbers are thumbs in a bin, over all seeds. Reliable probabilities lie on the \
         dashed line."
        .to_owned();
    if all > groups.len() {
        caption.push_str(" Only the first and the last value of the swept setting are shown.");
    }
    (!panels.is_empty()).then(|| Figure {
        name: "reliability".to_owned(),
        title: "Reliability of the probability of a thumb up".to_owned(),
        caption,
        legend: Vec::new(),
        panels,
    })
}

//! Distributions of held-out rewards by class, and calibration of the implied preferences.

use prospect_core::sample::mean;

use super::{MAX_PANELS, first_and_last_x, panel_title};
use crate::{
    format,
    render::{
        figure::{BandPoint, Content, Figure, LegendEntry, Panel, PlotMark, Scale, bin_outline},
        style::SeriesStyle,
    },
    sweep_data::{RunGroup, SweepData},
};

/// Number of bins of the reward histograms.
const BINS: usize = 32;
/// Share of rewards that may lie beyond either end of the scale; the outermost bins include them.
const OUTLIERS: f64 = 0.005;

/// Rewards of the chosen and the rejected completions of one panel.
struct ClassRewards {
    title: String,
    chosen: Vec<f64>,
    rejected: Vec<f64>,
}

impl ClassRewards {
    fn new(sweep: &SweepData, group: &RunGroup<'_>) -> Self {
        let title = panel_title(sweep, group);
        let mut rewards = Self { title, chosen: Vec::new(), rejected: Vec::new() };
        for run in &group.runs {
            rewards.chosen.extend(run.pairs.iter().map(|pair| run.beta * pair.chosen));
            rewards.rejected.extend(run.pairs.iter().map(|pair| run.beta * pair.rejected));
            if run.pairs.is_empty() {
                for thumb in &run.thumbs {
                    let class = if thumb.desirable { &mut rewards.chosen } else { &mut rewards.rejected };
                    class.push(run.beta * thumb.log_ratio);
                }
            }
        }
        rewards
    }
}

/// Returns the distributions of rewards of chosen and rejected held-out completions after training.
pub(crate) fn rewards(sweep: &SweepData) -> Option<Figure> {
    let mut groups = sweep.run_groups();
    let all = groups.len();
    first_and_last_x(&mut groups, MAX_PANELS);
    let reduced = all > MAX_PANELS;
    let groups: Vec<ClassRewards> = groups
        .iter()
        .map(|group| ClassRewards::new(sweep, group))
        .filter(|rewards| !rewards.chosen.is_empty())
        .collect();
    let mut finite: Vec<f64> = groups
        .iter()
        .flat_map(|rewards| rewards.chosen.iter().chain(&rewards.rejected))
        .copied()
        .filter(|reward| reward.is_finite())
        .collect();
    finite.sort_by(f64::total_cmp);
    let outliers = (OUTLIERS * finite.len() as f64) as usize;
    let (low, high) = (*finite.get(outliers)?, *finite.get(finite.len() - 1 - outliers)?);
    let x = Scale::covering("reward", [low, high, 0.0], format::fixed);
    let histograms: Vec<[Vec<f64>; 2]> = groups
        .iter()
        .map(|rewards| [&rewards.chosen, &rewards.rejected].map(|class| bin_shares(class, &x)))
        .collect();
    let shares = histograms.iter().flatten().flatten().copied();
    let y = Scale::covering("share of completions", shares.chain([0.0]), format::percent_tick);
    let panels = groups.iter().zip(&histograms).map(|(rewards, histogram)| {
        let mean = |class: &[f64]| format::number(mean(class.iter().copied()).unwrap_or(f64::NAN));
        Panel {
            title: rewards.title.clone(),
            description: format!(
                "Rewards of held-out completions, {}: mean {} for chosen, {} for rejected.",
                rewards.title,
                mean(&rewards.chosen),
                mean(&rewards.rejected)
            ),
            content: Content::Plot { x: x.clone(), y: y.clone(), marks: histogram_marks(histogram, &x) },
        }
    });
    let mut caption =
        "Reward β·log π/π_ref of each held-out completion after training, pooled over seeds. The outermost bins \
         include outliers."
            .to_owned();
    if reduced {
        caption.push_str(" Only the first and the last value of the swept setting are shown.");
    }
    Some(Figure {
        name: "rewards".to_owned(),
        title: "Rewards by class".to_owned(),
        caption,
        legend: vec![
            LegendEntry { style: SeriesStyle::Chosen, label: "chosen".to_owned() },
            LegendEntry { style: SeriesStyle::Rejected, label: "rejected".to_owned() },
        ],
        panels: panels.collect(),
    })
}

/// Returns the share of rewards in each bin of the scale.
fn bin_shares(rewards: &[f64], x: &Scale) -> Vec<f64> {
    let mut shares = vec![0.0; BINS];
    for reward in rewards {
        let bin = (x.fraction(*reward) * BINS as f64).clamp(0.0, BINS as f64 - 1.0);
        shares[bin as usize] += 1.0 / rewards.len() as f64;
    }
    shares
}

/// Returns the histograms of chosen and rejected rewards as marks, chosen in front.
fn histogram_marks([chosen, rejected]: &[Vec<f64>; 2], x: &Scale) -> Vec<PlotMark> {
    let width = (x.high - x.low) / BINS as f64;
    let mut marks = Vec::new();
    for (style, shares) in [(SeriesStyle::Rejected, rejected), (SeriesStyle::Chosen, chosen)] {
        let outline: Vec<_> = bin_outline(shares, x.low, width).collect();
        let points = outline.iter().map(|(x, y)| BandPoint { x: *x, low: 0.0, high: *y }).collect();
        marks.push(PlotMark::Band { style, points });
        marks.push(PlotMark::Line { style, points: outline });
    }
    marks
}

/// Returns the accuracy of implied preferences over their confidence, one panel for each series and
/// x value.
pub(crate) fn calibration(sweep: &SweepData) -> Option<Figure> {
    let summary = sweep.summary.as_ref()?;
    let x = Scale::covering("confidence", [0.5, 1.0], format::percent_tick);
    let mut groups = sweep.run_groups();
    let all = groups.len();
    first_and_last_x(&mut groups, MAX_PANELS);
    let of_group = |group: &RunGroup<'_>| {
        let mut own =
            summary.points.iter().filter(|point| point.x == group.x && point.series == group.series);
        own.next()?.calibration.as_ref()
    };
    let accuracies = groups.iter().filter_map(of_group).flat_map(|calibration| &calibration.bins);
    let accuracies = accuracies.map(|bin| bin.accuracy);
    let y = Scale::covering("accuracy", accuracies.chain([0.5, 1.0]), format::percent_tick);
    let panel = |group: &RunGroup<'_>| {
        let calibration = of_group(group)?;
        let style = sweep.style(&group.series);
        let mut marks = vec![PlotMark::Guide { points: vec![(0.5, 0.5), (1.0, 1.0)] }];
        let points: Vec<_> = calibration.bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
        if points.len() > 2 {
            marks.push(PlotMark::Line { style, points: points.clone() });
        }
        for (bin, (x, y)) in calibration.bins.iter().zip(points) {
            marks.push(PlotMark::Marker { style, x, y });
            marks.push(PlotMark::Text { x, y, text: bin.pairs.to_string() });
        }
        let title = panel_title(sweep, group);
        Some(Panel {
            description: format!(
                "{title}: expected calibration error {} over {} bins.",
                format::percent(calibration.error),
                calibration.bins.len()
            ),
            title,
            content: Content::Plot { x: x.clone(), y: y.clone(), marks },
        })
    };
    let panels: Vec<Panel> = groups.iter().filter_map(panel).collect();
    let mut caption = "Held-out pairs by the confidence that rewards imply, σ(|reward margin|), against the share of pairs whose \
         chosen completion has the higher reward; numbers are pairs in a bin, over all seeds. A calibrated policy lies on the \
         dashed line, an overconfident one below it."
        .to_owned();
    if all > groups.len() {
        caption.push_str(" Only the first and the last value of the swept setting are shown.");
    }
    (!panels.is_empty()).then(|| Figure {
        name: "calibration".to_owned(),
        title: "Calibration of the implied preferences".to_owned(),
        caption,
        legend: Vec::new(),
        panels,
    })
}

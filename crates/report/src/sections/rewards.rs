//! Distributions of held-out rewards by class, and calibration of the implied preferences.

use prospect_core::sample::mean;

use super::{first_and_last_x, x_title};
use crate::{
    format,
    render::{
        figure::{BandPoint, Content, Figure, LegendEntry, Panel, PlotMark, Scale, bin_outline},
        style::SeriesStyle,
    },
    sweep_data::{RunGroup, SweepData, XValue},
};

/// Number of bins of the reward histograms.
const BINS: usize = 32;
/// Maximum number of panels; with more, only the first and the last x value are shown.
const MAX_PANELS: usize = 12;
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
        let title = if sweep.x.values().len() < 2 {
            group.series.clone()
        } else {
            format!("{}, {}: {}", group.series, sweep.x.label(), group.x_name)
        };
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

/// Returns the accuracy of implied preferences over their confidence, one panel for each x value.
pub(crate) fn calibration(sweep: &SweepData) -> Option<Figure> {
    let summary = sweep.summary.as_ref()?;
    let x = Scale::covering("confidence", [0.5, 1.0], format::percent_tick);
    let calibrated: Vec<_> =
        summary.points.iter().filter_map(|point| Some((point, point.calibration.as_ref()?))).collect();
    let accuracies = calibrated.iter().flat_map(|(_, calibration)| &calibration.bins).map(|bin| bin.accuracy);
    let y = Scale::covering("accuracy", accuracies.chain([0.5, 1.0]), format::percent_tick);
    let panel = |x_value: &XValue| {
        let mut marks = vec![PlotMark::Guide { points: vec![(0.5, 0.5), (1.0, 1.0)] }];
        let mut errors = Vec::new();
        for LegendEntry { style, label: series } in sweep.legend() {
            let mut own =
                calibrated.iter().filter(|(point, _)| point.x == x_value.value && point.series == series);
            let Some((_, calibration)) = own.next() else { continue };
            let points: Vec<_> = calibration.bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
            marks.extend(points.iter().map(|(x, y)| PlotMark::Marker { style, x: *x, y: *y }));
            marks.push(PlotMark::Line { style, points });
            errors.push(format!("{series} has an error of {}", format::percent(calibration.error)));
        }
        (!errors.is_empty()).then(|| Panel {
            title: x_title(sweep, x_value),
            description: format!("Expected calibration error, {}: {}.", x_value.name, errors.join("; ")),
            content: Content::Plot { x: x.clone(), y: y.clone(), marks },
        })
    };
    let panels: Vec<Panel> = sweep.x.values().iter().filter_map(panel).collect();
    (!panels.is_empty()).then(|| Figure {
        name: "calibration".to_owned(),
        title: "Calibration of the implied preferences".to_owned(),
        caption: "Held-out pairs by the confidence that rewards imply, σ(|reward margin|), against the share of pairs whose \
                  chosen completion has the higher reward. A calibrated policy lies on the dashed line, an \
                  overconfident one below it."
            .to_owned(),
        legend: sweep.legend(),
        panels,
    })
}

//! Rewards of held-out completions by class, and how sure of its preferences a policy is.

use crate::{
    figure::{Content, Figure, Mark, Panel, Scale},
    look::Look,
    sweep::{Cell, Sweep},
    text,
};

/// Bins of the rewards.
const BINS: usize = 32;
/// The most panels of the figure of rewards: beyond, only the first x value and the last are shown.
const PANELS: usize = 12;
/// Share of the rewards that may lie outside the scale on either side; they count to the outermost bins.
const OUTSIDE: f64 = 0.005;

/// Rewards β·log-ratio of chosen and of rejected completions at the end of training.
pub(crate) fn rewards(sweep: &Sweep) -> Option<Figure> {
    let (cells, all) = shown(sweep);
    let rewards = |cell: &Cell<'_>| -> [Vec<f64>; 2] {
        let mut classes = [Vec::new(), Vec::new()];
        for run in &cell.runs {
            classes[0].extend(run.pairs.iter().map(|pair| run.beta * pair.chosen));
            classes[1].extend(run.pairs.iter().map(|pair| run.beta * pair.rejected));
        }
        classes
    };
    let cells: Vec<(Cell<'_>, [Vec<f64>; 2])> = cells
        .into_iter()
        .map(|cell| {
            let rewards = rewards(&cell);
            (cell, rewards)
        })
        .filter(|(_, rewards)| !rewards[0].is_empty())
        .collect();
    let mut seen: Vec<f64> =
        cells.iter().flat_map(|(_, classes)| classes.iter().flatten()).copied().collect();
    seen.retain(|reward| reward.is_finite());
    seen.sort_by(f64::total_cmp);
    let outside = (OUTSIDE * seen.len() as f64) as usize;
    let (low, high) = (*seen.get(outside)?, *seen.get(seen.len() - 1 - outside)?);
    let x = Scale::round("reward", [low, high, 0.0], text::fixed);
    let heights = |rewards: &[f64]| -> Vec<f64> {
        let mut counts = vec![0.0; BINS];
        for reward in rewards {
            let bin = (x.place(*reward) * BINS as f64).clamp(0.0, BINS as f64 - 1.0);
            counts[bin as usize] += 1.0 / rewards.len() as f64;
        }
        counts
    };
    let panels: Vec<(String, [Vec<f64>; 2], [f64; 2])> = cells
        .iter()
        .map(|(cell, classes)| {
            let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
            (
                title(sweep, cell),
                [&classes[0], &classes[1]].map(|class| heights(class)),
                [mean(&classes[0]), mean(&classes[1])],
            )
        })
        .collect();
    let most = panels.iter().flat_map(|(_, heights, _)| heights.iter().flatten()).copied();
    let y = Scale::round("share of completions", most.chain([0.0]), text::percent_tick);
    let width = (x.high - x.low) / BINS as f64;
    let low = x.low;
    let panel = |(title, heights, [chosen, rejected]): (String, [Vec<f64>; 2], [f64; 2])| {
        let mut marks = Vec::new();
        for (look, heights) in [Look::Rejected, Look::Chosen].into_iter().zip(heights.iter().rev()) {
            let outline = steps(heights, low, width);
            marks.push(Mark::Band { look, points: outline.iter().map(|(x, y)| (*x, 0.0, *y)).collect() });
            marks.push(Mark::Line { look, points: outline });
        }
        let description = format!(
            "Rewards of held-out completions, {title}: chosen ones have a mean of {}, rejected ones of {}.",
            text::number(chosen),
            text::number(rejected)
        );
        Panel { title, description, content: Content::Plot { x: x.clone(), y: y.clone(), marks } }
    };
    let mut caption = "Reward β·log π/π_ref of each held-out completion at the end of training, all seeds together; the few \
                       beyond an end of the scale count to its outermost bin."
        .to_owned();
    if !all {
        caption.push_str(" Only the first and the last value of the swept setting are shown.");
    }
    Some(Figure {
        name: "rewards".to_owned(),
        title: "Rewards by class".to_owned(),
        caption,
        legend: vec![(Look::Chosen, "chosen".to_owned()), (Look::Rejected, "rejected".to_owned())],
        panels: panels.into_iter().map(panel).collect(),
    })
}

/// The cells to show, and whether they are all.
fn shown(sweep: &Sweep) -> (Vec<Cell<'_>>, bool) {
    let mut cells = sweep.cells();
    let ends = [cells.first(), cells.last()].map(|cell| cell.map(|cell| cell.x));
    let all = cells.len() <= PANELS;
    if !all {
        cells.retain(|cell| ends.contains(&Some(cell.x)));
        cells.truncate(PANELS);
    }
    (cells, all)
}

fn title(sweep: &Sweep, cell: &Cell<'_>) -> String {
    if sweep.x.values().len() < 2 {
        cell.series.clone()
    } else {
        format!("{}, {}: {}", cell.series, sweep.x.label(), cell.x_name)
    }
}

/// The outline of bins of equal width.
fn steps(heights: &[f64], low: f64, width: f64) -> Vec<(f64, f64)> {
    let bin = |(index, height): (usize, &f64)| {
        let left = low + index as f64 * width;
        [(left, *height), (left + width, *height)]
    };
    heights.iter().enumerate().flat_map(bin).collect()
}

/// Accuracy of the preferences of each confidence, one panel for each x value.
pub(crate) fn calibration(sweep: &Sweep) -> Option<Figure> {
    let summary = sweep.summary.as_ref()?;
    let x = Scale::round("confidence", [0.5, 1.0], text::percent_tick);
    let of_points = summary.points.iter().filter_map(|point| Some((point, point.calibration.as_ref()?)));
    let of_points: Vec<_> = of_points.collect();
    let seen = of_points.iter().flat_map(|(_, calibration)| &calibration.bins).map(|bin| bin.accuracy);
    let y = Scale::round("accuracy", seen.chain([0.5, 1.0]), text::percent_tick);
    let panel = |(x_value, name): &(f64, String)| {
        let mut marks = vec![Mark::Guide { points: vec![(0.5, 0.5), (1.0, 1.0)] }];
        let mut errors = Vec::new();
        for (look, series) in sweep.legend() {
            let mut own = of_points.iter().filter(|(point, _)| point.x == *x_value && point.series == series);
            let Some((_, calibration)) = own.next() else { continue };
            let points: Vec<_> = calibration.bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
            marks.extend(points.iter().map(|(x, y)| Mark::Marker { look, x: *x, y: *y }));
            marks.push(Mark::Line { look, points });
            errors.push(format!("{series} is off by {} on average", text::percent(calibration.error)));
        }
        let title =
            if sweep.x.values().len() < 2 { String::new() } else { format!("{}: {name}", sweep.x.label()) };
        let description = format!("Calibration, {name}: {}.", errors.join("; "));
        (!errors.is_empty()).then(|| Panel {
            title,
            description,
            content: Content::Plot { x: x.clone(), y: y.clone(), marks },
        })
    };
    let panels: Vec<Panel> = sweep.x.values().iter().filter_map(panel).collect();
    (!panels.is_empty()).then(|| Figure {
        name: "calibration".to_owned(),
        title: "Calibration of the implied preference".to_owned(),
        caption: "Held-out pairs by the confidence that rewards imply, σ(β·|margin|), against the share of them whose chosen \
                  completion has the larger reward. On the dashed line a policy is as right as it is sure; below it, it is too \
                  sure."
            .to_owned(),
        legend: sweep.legend(),
        panels,
    })
}

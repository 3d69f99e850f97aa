//! A histogram as a figure: steps, filled faintly down to the axis.

use super::Histogram;
use crate::{
    figure::{Content, Figure, Mark, Panel, Scale},
    look::Look,
    text,
};

pub(super) fn figure(histogram: &Histogram) -> Figure {
    let width = histogram.width as f64;
    let bins = histogram.series.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0).max(1);
    let share = |counts: &[u64]| -> Vec<f64> {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|count| *count as f64 / total).collect()
    };
    let shares: Vec<Vec<f64>> = histogram.series.iter().map(|(_, counts)| share(counts)).collect();
    let y = Scale::round("share of rows", shares.iter().flatten().copied().chain([0.0]), text::percent_tick);
    let mut x = Scale::round(&histogram.label, [0.0, bins as f64 * width], text::fixed);
    x.high = bins as f64 * width;
    x.ticks.retain(|(tick, _)| *tick <= x.high && tick.fract() == 0.0);

    let mut marks = Vec::new();
    for (look, shares) in (0..).map(Look::Series).zip(&shares) {
        let band = steps(shares, width).map(|(x, y)| (x, 0.0, y)).collect();
        marks.push(Mark::Band { look, points: band });
    }
    for (look, shares) in (0..).map(Look::Series).zip(&shares) {
        let line = [(0.0, 0.0)].into_iter().chain(steps(shares, width)).chain([(x.high, 0.0)]);
        marks.push(Mark::Line { look, points: line.collect() });
    }
    let fullest = |(name, counts): &(String, Vec<u64>)| {
        let (bin, _) = counts.iter().enumerate().max_by_key(|(bin, count)| (**count, usize::MAX - bin))?;
        Some(format!("{name} most often {} to {}", bin * histogram.width, (bin + 1) * histogram.width))
    };
    let facts: Vec<String> = histogram.series.iter().filter_map(fullest).collect();
    let mut caption = format!("Steps of {}.", histogram.width);
    if histogram.open {
        caption.push_str(" The last one holds everything longer too.");
    }
    Figure {
        name: histogram.name.clone(),
        title: histogram.title.clone(),
        caption,
        legend: histogram
            .series
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (Look::Series(index), name.clone()))
            .collect(),
        panels: vec![Panel {
            title: String::new(),
            description: format!("{}: {}. {}.", histogram.title, histogram.label, facts.join("; ")),
            content: Content::Plot { x, y, marks },
        }],
    }
}

/// The outline of bins of equal width.
fn steps(heights: &[f64], width: f64) -> impl Iterator<Item = (f64, f64)> {
    let bin = move |(index, height): (usize, &f64)| {
        let left = index as f64 * width;
        [(left, *height), (left + width, *height)]
    };
    heights.iter().enumerate().flat_map(bin)
}

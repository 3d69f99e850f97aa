//! Histograms as figures: stepped outlines with a faint fill.

use super::{HistogramChart, HistogramSeries};
use crate::{
    format,
    render::{
        figure::{BandPoint, Content, Figure, LegendEntry, Panel, PlotMark, Scale, bin_outline},
        style::SeriesStyle,
    },
};

/// Creates the figure of a histogram; counts become shares of their series.
pub(super) fn figure(chart: &HistogramChart) -> Figure {
    let width = chart.width as f64;
    let bins = chart.series.iter().map(|series| series.counts.len()).max().unwrap_or(0).max(1);
    let shares = |counts: &[u64]| -> Vec<f64> {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|count| *count as f64 / total).collect()
    };
    let shares: Vec<Vec<f64>> = chart.series.iter().map(|series| shares(&series.counts)).collect();
    let y =
        Scale::covering("share of rows", shares.iter().flatten().copied().chain([0.0]), format::percent_tick);
    let mut x = Scale::covering(&chart.label, [0.0, bins as f64 * width], format::fixed);
    x.end_at(bins as f64 * width);
    x.ticks.retain(|tick| tick.position.fract() == 0.0);

    let mut marks = Vec::new();
    for (style, shares) in (0..).map(SeriesStyle::Series).zip(&shares) {
        let range = |(x, y)| BandPoint { x, low: 0.0, high: y };
        marks.push(PlotMark::Band { style, points: bin_outline(shares, 0.0, width).map(range).collect() });
    }
    for (style, shares) in (0..).map(SeriesStyle::Series).zip(&shares) {
        let line = [(0.0, 0.0)].into_iter().chain(bin_outline(shares, 0.0, width)).chain([(x.high, 0.0)]);
        marks.push(PlotMark::Line { style, points: line.collect() });
    }
    let mode = |HistogramSeries { name, counts }: &HistogramSeries| {
        let (bin, _) = counts.iter().enumerate().max_by_key(|(bin, count)| (**count, usize::MAX - bin))?;
        Some(format!("{name} most often {} to {}", bin * chart.width, (bin + 1) * chart.width))
    };
    let modes: Vec<String> = chart.series.iter().filter_map(mode).collect();
    let mut caption = format!("Bin width {}.", chart.width);
    if chart.open {
        caption.push_str(" The last bin includes all larger values.");
    }
    let labels = chart.series.iter().map(|series| series.name.clone());
    let legend = (0..).map(SeriesStyle::Series).zip(labels);
    Figure {
        name: chart.name.clone(),
        title: chart.title.clone(),
        caption,
        legend: legend.map(|(style, label)| LegendEntry { style, label }).collect(),
        panels: vec![Panel {
            title: String::new(),
            description: format!("{}: {}. {}.", chart.title, chart.label, modes.join("; ")),
            content: Content::Plot { x, y, marks },
        }],
    }
}

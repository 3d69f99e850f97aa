//! Curves over one variable as a figure.

use super::Curves;
use crate::{
    figure::{Content, Figure, Mark, Panel, Scale},
    look::Look,
    text,
};

/// Curves of more points have no markers.
const MARKED: usize = 20;

pub(super) fn figure(curves: &Curves) -> Figure {
    let points = || curves.series.iter().flat_map(|(_, points)| points.iter().copied());
    // A rule is something to compare with: it is always in sight.
    let heights = points().map(|(_, y)| y).chain(curves.rules.iter().map(|rule| rule.0));
    let y = Scale::round(&curves.y_label, heights, text::fixed);
    let mut x = Scale::round(&curves.x_label, points().map(|(x, _)| x), text::fixed);
    // Round ticks may reach beyond the curves; the axis need not.
    let (low, high) = points()
        .map(|(x, _)| x)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low < high {
        let margin = 0.02 * (high - low);
        (x.low, x.high) = (low - margin, high + margin);
        x.ticks.retain(|(tick, _)| (x.low..=x.high).contains(tick));
    }
    let mut marks: Vec<Mark> =
        curves.rules.iter().map(|(y, text)| Mark::Rule { y: *y, text: text.clone() }).collect();
    for (look, (_, points)) in (0..).map(Look::Series).zip(&curves.series) {
        marks.push(Mark::Line { look, points: points.clone() });
        if points.len() <= MARKED {
            marks.extend(points.iter().map(|(x, y)| Mark::Marker { look, x: *x, y: *y }));
        }
    }
    let ends = curves.series.iter().filter_map(|(name, points)| {
        let ((_, first), (_, last)) = (points.first()?, points.last()?);
        Some(format!("{name} goes from {} to {}", text::number(*first), text::number(*last)))
    });
    let description =
        format!("{} over {}. {}.", curves.title, curves.x_label, ends.collect::<Vec<_>>().join("; "));
    let names = curves.series.iter().map(|(name, _)| name.clone());
    Figure {
        name: curves.name.clone(),
        title: curves.title.clone(),
        caption: curves.caption.clone(),
        legend: (0..).map(Look::Series).zip(names).collect(),
        panels: vec![Panel { title: String::new(), description, content: Content::Plot { x, y, marks } }],
    }
}

//! Runs that are at work: how far they have come.

use crate::{
    curves,
    figure::{Content, Figure, Mark, Panel, Scale},
    findings,
    look::Look,
    metrics,
    sweep::{Run, Sweep},
    text,
};

/// Runs that are shown.
const SHOWN: usize = 12;

/// The loss so far of every run and stage at work, over all the steps that it will take.
pub(crate) fn figure(sweep: &Sweep) -> Option<Figure> {
    let stages = sweep.stages.iter().map(|(name, run)| (name.clone(), Look::Series(0), run));
    let runs =
        sweep.runs.iter().map(|run| (findings::name(sweep, run), sweep.look(&sweep.series_of(run)), run));
    let at_work: Vec<_> = stages.chain(runs).filter(|(.., run)| run.state() == "running").collect();
    let panels: Vec<Panel> =
        at_work.into_iter().take(SHOWN).map(|(name, look, run)| panel(&name, look, run)).collect();
    (!panels.is_empty()).then(|| Figure {
        name: "running".to_owned(),
        title: "Training loss so far".to_owned(),
        caption: "The horizontal axis has all the steps that a run takes. A run that was interrupted stands here too, until the sweep goes \
                  on."
            .to_owned(),
        legend: Vec::new(),
        panels,
    })
}

fn panel(name: &str, look: Look, run: &Run) -> Panel {
    let done = run.steps().unwrap_or(0);
    let total = run.steps_planned.unwrap_or(done).max(1);
    let title = match run.steps_planned {
        Some(total) => format!("{name}: step {done} of {total}"),
        None => format!("{name}: step {done}"),
    };
    let width = done.div_ceil(curves::POINTS).max(1);
    let curve = curves::curve(run, &metrics::LOSS, width);
    let middle = (width - 1) as f64 / 2.0;
    let points: Vec<(f64, f64)> =
        curve.into_iter().map(|(stretch, loss)| ((stretch * width) as f64 + middle, loss)).collect();
    let mut x = Scale::round("optimizer steps", [0.0, total as f64], text::fixed);
    x.high = total as f64;
    x.ticks.retain(|(tick, _)| *tick <= x.high);
    let y = Scale::round("loss", points.iter().map(|point| point.1), text::fixed);
    let last = points.last().map_or(String::new(), |(_, loss)| format!(" Loss {}.", text::number(*loss)));
    let marks = match points.as_slice() {
        [(x, y)] => vec![Mark::Marker { look, x: *x, y: *y }],
        _ => vec![Mark::Line { look, points }],
    };
    Panel { description: format!("{title}.{last}"), title, content: Content::Plot { x, y, marks } }
}

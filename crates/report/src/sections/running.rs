//! Training loss of running runs.

use prospect_runs::State;

use super::{curves, metrics};
use crate::{
    format,
    render::{
        figure::{Content, Figure, Panel, PlotMark, Scale},
        style::SeriesStyle,
    },
    sweep_data::{RunData, SweepData},
};

/// Maximum number of runs in the figure.
const MAX_RUNS: usize = 12;

/// Returns the training loss of running runs and stages, over all steps of their training.
pub(crate) fn figure(sweep: &SweepData) -> Option<Figure> {
    let stages = sweep.stages.iter().map(|(name, run)| (name.clone(), SeriesStyle::Series(0), run));
    let runs = sweep.runs.iter().map(|run| (sweep.run_name(run), sweep.style(&sweep.series_of(run)), run));
    let running = stages.chain(runs).filter(|(.., run)| run.state() == Some(State::Running));
    let panels: Vec<Panel> =
        running.take(MAX_RUNS).map(|(name, style, run)| panel(&name, style, run)).collect();
    (!panels.is_empty()).then(|| Figure {
        name: "running".to_owned(),
        title: "Training loss so far".to_owned(),
        caption: "The x axis spans all steps of the training. Interrupted runs are shown here until the sweep resumes."
            .to_owned(),
        legend: Vec::new(),
        panels,
    })
}

fn panel(name: &str, style: SeriesStyle, run: &RunData) -> Panel {
    let done = run.steps().unwrap_or(0);
    let title = match run.steps_planned {
        Some(total) => format!("{name}: step {done} of {total}"),
        None => format!("{name}: step {done}"),
    };
    let points = curves::run_curve(run, &metrics::LOSS);
    let x = curves::step_scale(run.steps_planned.unwrap_or(done) as f64);
    let y = Scale::covering("loss", points.iter().map(|(_, loss)| *loss), format::fixed);
    let last = points.last().map_or(String::new(), |(_, loss)| format!(" Loss {}.", format::number(*loss)));
    let marks = match points.as_slice() {
        [(x, y)] => vec![PlotMark::Marker { style, x: *x, y: *y }],
        _ => vec![PlotMark::Line { style, points }],
    };
    Panel { description: format!("{title}.{last}"), title, content: Content::Plot { x, y, marks } }
}

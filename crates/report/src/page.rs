//! The page: what the template is given, already in words.

use minijinja::{Environment, syntax::SyntaxConfig, value::Serde};
use prospect_core::visible::visible;
use prospect_runs::{Contrast, Kind};
use serde::Serialize;
use serde_json::Value;

use crate::{
    ReportError, curves,
    draw::{Plot, Swatch},
    estimates,
    figure::Figure,
    image::{self, Frame},
    sweep::{Run, Sweep},
    text, tree,
};

/// The report's figures, by section of the page.
pub(crate) struct Figures {
    answer: Vec<Figure>,
    training: Vec<Figure>,
    margins: Vec<Figure>,
}

impl Figures {
    /// The figures that the sweep has values for.
    pub(crate) fn of(sweep: &Sweep) -> Self {
        let curve = |metric| curves::figure(sweep, metric);
        let training = [&curves::LOSS, &curves::TRAIN_MARGIN, &curves::HELD_OUT_ACCURACY].map(curve);
        let margins = [estimates::margin(sweep), curve(&curves::HELD_OUT_MARGIN), curve(&curves::KL)]
            .into_iter()
            .flatten();
        Self {
            answer: estimates::accuracy(sweep).into_iter().collect(),
            training: training.into_iter().flatten().collect(),
            margins: margins.collect(),
        }
    }

    /// All of them, in the order of the page.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Figure> {
        self.answer.iter().chain(&self.training).chain(&self.margins)
    }
}

/// The page as one HTML document.
pub(crate) fn html(sweep: &Sweep, figures: &Figures) -> Result<String, ReportError> {
    let page = Page::of(sweep, figures)?;
    rendered("report.html", page)
}

/// A page's template filled in.
pub(crate) fn rendered(template: &str, page: impl Serialize) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    // The ending of a name switches escaping on.
    environment.add_template("parts.html", include_str!("parts.html.j2"))?;
    environment.add_template("style.css", include_str!("style.css"))?;
    environment.add_template("report.html", include_str!("report.html.j2"))?;
    environment.add_template("overview.html", include_str!("overview.html.j2"))?;
    let html = environment.get_template(template)?.render(Serde(page))?;
    // Names and texts come from anywhere.
    Ok(visible(&html).into_owned())
}

/// What the template is given.
#[derive(Serialize)]
struct Page<'a> {
    name: &'a str,
    question: &'a str,
    verdict: Option<&'a str>,
    method: Option<&'a str>,
    start_accuracy: Option<String>,
    progress: String,
    /// Such as `1 run`; nothing if no run has failed.
    failed: Option<String>,
    baseline: &'a str,
    x_label: &'a str,
    series_label: &'a str,
    answer: Vec<FigureView>,
    training: Vec<FigureView>,
    margins: Vec<FigureView>,
    contrasts: Vec<ContrastRow>,
    setting_names: Vec<String>,
    runs: Vec<RunRow>,
    stages: Vec<(&'a str, RunRow)>,
    data: Vec<Dataset>,
    base: Document,
    commands: String,
}

impl<'a> Page<'a> {
    fn of(sweep: &'a Sweep, figures: &Figures) -> Result<Self, ReportError> {
        let views = |figures: &[Figure]| figures.iter().map(FigureView::of).collect::<Result<Vec<_>, _>>();
        let experiment = &sweep.experiment;
        let summary = sweep.summary.as_ref();
        let contrasts = summary.iter().flat_map(|summary| &summary.contrasts);
        let failed = in_state(sweep, "failed");
        Ok(Self {
            name: &experiment.name,
            question: &experiment.question,
            verdict: summary.map(|summary| summary.verdict.as_str()),
            method: summary.map(|summary| summary.method.as_str()),
            start_accuracy: summary.and_then(|summary| summary.start_accuracy).map(text::percent),
            progress: progress(sweep),
            failed: (failed > 0).then(|| text::count(failed, "run")),
            baseline: &experiment.baseline,
            x_label: sweep.x.label(),
            series_label: &experiment.series.label,
            answer: views(&figures.answer)?,
            training: views(&figures.training)?,
            margins: views(&figures.margins)?,
            contrasts: contrasts.map(|contrast| ContrastRow::of(sweep, contrast)).collect(),
            setting_names: sweep.setting_names(),
            runs: sweep.runs.iter().map(|run| RunRow::of(sweep, run)).collect(),
            stages: sweep.stages.iter().map(|(name, run)| (name.as_str(), RunRow::of(sweep, run))).collect(),
            data: datasets(sweep),
            base: Document::of(&experiment.base),
            commands: experiment.commands.join("\n"),
        })
    }
}

fn in_state(sweep: &Sweep, state: &str) -> usize {
    sweep.runs.iter().filter(|run| run.state() == state).count()
}

/// How far the sweep has come, in a sentence without its full stop.
fn progress(sweep: &Sweep) -> String {
    let states = ["finished", "failed", "running", "not started"];
    let parts: Vec<String> = states
        .iter()
        .map(|state| (in_state(sweep, state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let total = text::count(sweep.runs.len(), "run");
    if parts.is_empty() { total } else { format!("{total}: {}", parts.join(", ")) }
}

/// A figure as the page shows it.
#[derive(Serialize)]
pub(crate) struct FigureView {
    name: String,
    title: String,
    caption: String,
    /// Swatch and name of each series.
    legend: Vec<(String, String)>,
    panels: Vec<String>,
}

impl FigureView {
    pub(crate) fn of(figure: &Figure) -> Result<Self, ReportError> {
        let legend = figure
            .legend
            .iter()
            .map(|(look, name)| Ok((image::svg(&Swatch(*look), figure, Frame::Page(""))?, name.clone())))
            .collect::<Result<_, ReportError>>()?;
        let size = figure.panel_size();
        let panels = figure
            .panels
            .iter()
            .map(|panel| image::svg(&Plot { panel, size }, figure, Frame::Page(&panel.description)))
            .collect::<Result<_, _>>()?;
        let Figure { name, title, caption, .. } = figure.clone();
        Ok(Self { name, title, caption, legend, panels })
    }
}

#[derive(Serialize)]
struct ContrastRow {
    x: String,
    series: String,
    baseline: String,
    difference: String,
    interval: String,
    reading: String,
    clear: bool,
    seeds: usize,
    pairs: usize,
}

impl ContrastRow {
    fn of(sweep: &Sweep, contrast: &Contrast) -> Self {
        let Contrast { series, baseline, x, difference, seeds, pairs } = contrast;
        let reading = if difference.low > 0.0 {
            format!("{series} higher")
        } else if difference.high < 0.0 {
            format!("{baseline} higher")
        } else {
            "cannot tell".to_owned()
        };
        Self {
            x: sweep.x.name(*x),
            series: series.clone(),
            baseline: baseline.clone(),
            difference: text::points(difference.value),
            interval: text::points_interval(*difference),
            clear: difference.low > 0.0 || difference.high < 0.0,
            reading,
            seeds: *seeds,
            pairs: *pairs,
        }
    }
}

#[derive(Serialize)]
struct RunRow {
    id: String,
    settings: Vec<String>,
    seed: u64,
    steps: String,
    accuracy: String,
    margin: String,
    duration: String,
    rate: String,
    state: &'static str,
    error: Option<String>,
}

impl RunRow {
    fn of(sweep: &Sweep, run: &Run) -> Self {
        let names = sweep.setting_names();
        let setting = |name: &String| run.planned.settings.get(name).map(text::setting).unwrap_or_default();
        let none = || "–".to_owned();
        let timed = run.status.as_ref().filter(|status| status.seconds > 0.0);
        let last = |metric| run.last(Kind::Eval, metric);
        Self {
            id: run.planned.id.clone(),
            settings: names.iter().map(setting).collect(),
            seed: run.planned.seed,
            steps: run.steps().map_or_else(none, |steps| steps.to_string()),
            accuracy: last("eval_rewards/accuracies").map_or_else(none, text::percent),
            margin: last("eval_rewards/margins").map_or_else(none, text::number),
            duration: timed.map_or_else(none, |status| text::duration(status.seconds)),
            rate: timed.map_or_else(none, |status| format!("{:.0}", status.tokens as f64 / status.seconds)),
            state: run.state(),
            error: run.error().map(str::to_owned),
        }
    }
}

/// A JSON document, as a table and as itself.
#[derive(Serialize)]
pub(crate) struct Document {
    rows: Vec<tree::Row>,
    json: String,
}

impl Document {
    pub(crate) fn of(value: &Value) -> Self {
        Self { rows: tree::rows(value), json: format!("{value:#}") }
    }
}

#[derive(Serialize)]
struct Dataset {
    path: String,
    used: String,
    manifest: Document,
}

fn datasets(sweep: &Sweep) -> Vec<Dataset> {
    let dataset = |(index, data): (usize, &prospect_runs::DataUse)| {
        let users = sweep.runs.iter().filter(|run| run.planned.data == index).count();
        Dataset {
            path: data.path.display().to_string(),
            used: text::count(users, "run"),
            manifest: Document::of(&data.manifest),
        }
    };
    sweep.experiment.data.iter().enumerate().map(dataset).collect()
}

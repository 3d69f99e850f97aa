//! The page: what the template is given, already in words.

use std::time::Duration;

use minijinja::{Environment, syntax::SyntaxConfig, value::Serde};
use prospect_core::visible::visible;
use prospect_runs::{Measure, SweepProgress};
use serde::Serialize;
use serde_json::Value;

use crate::{
    ReportError, classes, curves,
    draw::{Alone, Swatch, panel_size},
    estimates,
    figure::{Content, Figure},
    findings::{self, Group},
    grids::{self, Grid},
    image::{self, Frame},
    metrics::{self, Metric},
    reference,
    rows::{ContrastRow, RunRow, TrialRow},
    running,
    said::{self, Prompt},
    script,
    sweep::Sweep,
    tables::Table,
    text, transfer, tree,
    wins::{self, RoundView},
};

/// The report's figures, by section of the page.
pub(crate) struct Figures {
    answer: Vec<Figure>,
    wins: Vec<Figure>,
    training: Vec<Figure>,
    margins: Vec<Figure>,
    likelihood: Vec<Figure>,
    noise: Vec<Figure>,
    origins: Vec<Figure>,
}

impl Figures {
    /// The figures that the sweep has values for.
    pub(crate) fn of(sweep: &Sweep, grids: &Grids) -> Self {
        let curves = |metrics: &[&Metric]| -> Vec<Figure> {
            metrics.iter().filter_map(|metric| curves::figure(sweep, metric)).collect()
        };
        let margins = [estimates::margin(sweep), classes::rewards(sweep), classes::calibration(sweep)];
        let moved = curves(&[&metrics::HELD_OUT_MARGIN, &metrics::KL, &metrics::HELD_OUT_KL]);
        let answer = [
            estimates::accuracy(sweep),
            estimates::utility(sweep),
            estimates::accuracy_by_size(sweep),
            estimates::utility_by_size(sweep),
            reference::figure(sweep),
        ];
        let transfer = grids.origins.iter().filter_map(|(kind, grid)| transfer::figure(sweep, kind, grid));
        Self {
            answer: answer.into_iter().flatten().collect(),
            wins: estimates::wins(sweep),
            training: curves(&[&metrics::LOSS, &metrics::TRAIN_MARGIN, &metrics::HELD_OUT_ACCURACY]),
            margins: margins.into_iter().flatten().chain(moved).collect(),
            likelihood: curves(&[&metrics::CHOSEN, &metrics::REJECTED, &metrics::CHOSEN_FALLEN]),
            noise: curves(&[&metrics::CORRUPTED_WEIGHT, &metrics::CORRUPTED_REWARD, &metrics::CLEAN_REWARD]),
            origins: transfer.collect(),
        }
    }

    /// All of them, in the order of the page.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Figure> {
        let Self { answer, wins, training, margins, likelihood, noise, origins } = self;
        [answer, wins, training, margins, likelihood, noise, origins].into_iter().flatten()
    }
}

/// The page's tables of means over seeds.
pub(crate) struct Grids {
    noise: Option<Grid>,
    generations: Option<Grid>,
    /// By what they tell apart.
    origins: Vec<(&'static str, Grid)>,
}

impl Grids {
    /// Those that the sweep has values for.
    pub(crate) fn of(sweep: &Sweep) -> Self {
        let origins = ["domain", "source"].map(|kind| Some((kind, grids::accuracy_by(sweep, kind)?)));
        Self {
            noise: grids::noise(sweep),
            generations: grids::generations(sweep),
            origins: origins.into_iter().flatten().collect(),
        }
    }

    /// All of them.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let Self { noise, generations, origins } = self;
        origins.iter().map(|(_, grid)| grid).chain(noise).chain(generations).map(Grid::table).collect()
    }
}

/// The page as one HTML document.
pub(crate) fn html(
    sweep: &Sweep,
    figures: &Figures,
    grids: &Grids,
    reload: Option<Duration>,
) -> Result<String, ReportError> {
    let page = Page::of(sweep, figures, grids, reload)?;
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
    environment.add_template("compare.html", include_str!("compare.html.j2"))?;
    environment.add_template("list.html", include_str!("list.html.j2"))?;
    let html = environment.get_template(template)?.render(Serde(page))?;
    // Names and texts come from anywhere.
    Ok(visible(&html).into_owned())
}

/// What the template is given.
#[derive(Serialize)]
struct Page<'a> {
    /// Seconds after which the page loads itself again.
    reload: Option<u64>,
    script: &'static str,
    script_source: String,
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
    /// Each judge's round with its figure.
    rounds: Vec<(RoundView, FigureView)>,
    running: Option<FigureView>,
    training: Vec<FigureView>,
    margins: Vec<FigureView>,
    likelihood: Vec<FigureView>,
    noise: Vec<FigureView>,
    noise_grid: Option<&'a Grid>,
    transfer: Vec<FigureView>,
    origins: Vec<&'a Grid>,
    generations_grid: Option<&'a Grid>,
    prompts: Vec<Prompt>,
    findings: Vec<Group>,
    /// Differences in accuracy, and in true utility.
    contrasts: Vec<ContrastRow>,
    utilities: Vec<ContrastRow>,
    effect: Option<String>,
    setting_names: Vec<String>,
    trials: Vec<TrialRow>,
    runs: Vec<RunRow>,
    stages: Vec<(&'a str, RunRow)>,
    data: Vec<Dataset>,
    base: Document,
    commands: String,
}

impl<'a> Page<'a> {
    fn of(
        sweep: &'a Sweep,
        figures: &Figures,
        grids: &'a Grids,
        reload: Option<Duration>,
    ) -> Result<Self, ReportError> {
        let views = |figures: &[Figure]| figures.iter().map(FigureView::of).collect::<Result<Vec<_>, _>>();
        let experiment = &sweep.experiment;
        let summary = sweep.summary.as_ref();
        let rows = |measure| {
            let contrasts = summary.iter().flat_map(|summary| &summary.contrasts);
            let of = contrasts.filter(move |contrast| contrast.measure == measure);
            of.map(|contrast| ContrastRow::of(sweep, contrast)).collect::<Vec<_>>()
        };
        let failed = sweep.runs.iter().filter(|run| run.state() == "failed").count();
        Ok(Self {
            reload: reload.map(|reload| reload.as_secs()),
            script: script::SCRIPT,
            script_source: script::source(),
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
            rounds: rounds(sweep).zip(views(&figures.wins)?).collect(),
            running: running::figure(sweep).as_ref().map(FigureView::of).transpose()?,
            training: views(&figures.training)?,
            margins: views(&figures.margins)?,
            likelihood: views(&figures.likelihood)?,
            noise: views(&figures.noise)?,
            noise_grid: grids.noise.as_ref(),
            transfer: views(&figures.origins)?,
            origins: grids.origins.iter().map(|(_, grid)| grid).collect(),
            generations_grid: grids.generations.as_ref(),
            prompts: said::prompts(sweep),
            findings: findings::groups(sweep),
            contrasts: rows(Measure::Accuracy),
            utilities: rows(Measure::Utility),
            effect: summary.map(|summary| text::points(summary.effect).trim_start_matches('+').to_owned()),
            setting_names: sweep.setting_names(),
            trials: summary
                .iter()
                .flat_map(|summary| &summary.trials)
                .map(|trial| TrialRow::of(sweep, trial))
                .collect(),
            runs: sweep.runs.iter().map(|run| RunRow::of(sweep, run)).collect(),
            stages: sweep.stages.iter().map(|(name, run)| (name.as_str(), RunRow::of(sweep, run))).collect(),
            data: datasets(sweep),
            base: Document::of(&experiment.base),
            commands: experiment.commands.join("\n"),
        })
    }
}

fn rounds(sweep: &Sweep) -> impl Iterator<Item = RoundView> {
    wins::rounds(sweep).into_iter().enumerate().map(|(index, round)| round.view(sweep, index))
}

/// How far the sweep has come, in a sentence without its full stop.
pub(crate) fn progress(sweep: &Sweep) -> String {
    let states = sweep.runs.iter().map(|run| run.status.as_ref().map(|status| status.state));
    states.collect::<SweepProgress>().to_string()
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
    /// Width of a panel in CSS pixels, where it must not become much smaller.
    width: Option<f64>,
}

impl FigureView {
    pub(crate) fn of(figure: &Figure) -> Result<Self, ReportError> {
        let legend = figure
            .legend
            .iter()
            .map(|(look, name)| Ok((image::svg(&Swatch(*look), figure, Frame::Page(""))?, name.clone())))
            .collect::<Result<_, ReportError>>()?;
        let size = panel_size(figure);
        let panels = figure
            .panels
            .iter()
            .map(|panel| image::svg(&Alone { panel, size }, figure, Frame::Page(&panel.description)))
            .collect::<Result<_, _>>()?;
        let matrices = figure.panels.iter().any(|panel| matches!(panel.content, Content::Matrix(_)));
        let Figure { name, title, caption, .. } = figure.clone();
        Ok(Self { name, title, caption, legend, panels, width: matrices.then_some(size.0) })
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

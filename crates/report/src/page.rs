//! The report page, assembled from its sections.

use std::time::Duration;

use prospect_runs::{Measure, NoVerdict, State};
use serde::Serialize;

use crate::{
    ReportError, format,
    render::{document::JsonDocument, figure::Figure, figure_view::FigureView, templates},
    sections::{
        contrasts::{self, ContrastRow},
        curves,
        datasets::{self, DatasetView},
        estimates,
        findings::{self, FindingGroup},
        forest, frontier,
        generations::{self, PromptView},
        learning_curves::{self, LearningView},
        means::{MeanTable, MeanTables},
        measures::{self, MeasureTable},
        metrics::{self, PlottedMetric},
        reference,
        retention::{self, RetentionTable},
        rewards, running,
        runs::RunRow,
        scores::{self, ScoreTable},
        thumbs::{self, ThumbTable},
        transfer,
        trials::{self, TrialRow},
        win_rates::{self, MatchupView},
    },
    sweep_data::SweepData,
};

/// Figures of the report that are also written as files, by section.
pub(crate) struct PageFigures {
    answer: Vec<Figure>,
    frontier: Vec<Figure>,
    retention: Option<Figure>,
    win_rates: Vec<Figure>,
    learning: Vec<Figure>,
    thumbs: Vec<Figure>,
    training: Vec<Figure>,
    margins: Vec<Figure>,
    likelihood: Vec<Figure>,
    noise: Vec<Figure>,
    origins: Vec<Figure>,
}

impl PageFigures {
    /// Creates the figures that the sweep has values for.
    pub(crate) fn new(sweep: &SweepData, means: &MeanTables) -> Self {
        let curves = |metrics: &[&PlottedMetric]| -> Vec<Figure> {
            metrics.iter().filter_map(|metric| curves::figure(sweep, metric)).collect()
        };
        let answer = [
            estimates::accuracy(sweep),
            estimates::utility(sweep),
            estimates::accuracy_by_size(sweep),
            estimates::utility_by_size(sweep),
        ];
        // Where runs have not learnt yet, their curves are the answer.
        let (first, training) = if is_unlearnt(sweep) {
            (curves(&[&metrics::HELD_OUT_ACCURACY, &metrics::HELD_OUT_AUC]), Vec::new())
        } else {
            (Vec::new(), curves(&[&metrics::HELD_OUT_ACCURACY]))
        };
        let margins = [estimates::margin(sweep), rewards::rewards(sweep), rewards::calibration(sweep)];
        let margin_curves = curves(&[&metrics::HELD_OUT_MARGIN, &metrics::KL, &metrics::HELD_OUT_KL]);
        let transfer =
            means.origins.iter().filter_map(|(origin, table)| transfer::figure(sweep, *origin, table));
        Self {
            answer: first
                .into_iter()
                .chain(forest::figure(sweep))
                .chain(answer.into_iter().flatten())
                .chain(reference::figures(sweep))
                .collect(),
            frontier: frontier::figures(sweep),
            retention: retention::figure(sweep),
            win_rates: estimates::win_rates(sweep),
            learning: learning_curves::figures(sweep),
            thumbs: thumbs::reliability(sweep)
                .into_iter()
                .chain(
                    curves(&[&metrics::HELD_OUT_AUC])
                        .into_iter()
                        .filter(|_| estimates::is_auc(sweep) && !is_unlearnt(sweep)),
                )
                .collect(),
            training: [curves(&[&metrics::LOSS, &metrics::TRAIN_MARGIN]), training].concat(),
            margins: margins.into_iter().flatten().chain(margin_curves).collect(),
            likelihood: curves(&[&metrics::CHOSEN, &metrics::REJECTED, &metrics::CHOSEN_FALLEN]),
            noise: curves(&[&metrics::CORRUPTED_WEIGHT, &metrics::CORRUPTED_REWARD, &metrics::CLEAN_REWARD]),
            origins: transfer.collect(),
        }
    }

    /// Returns all figures in the order of the page.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Figure> {
        let Self {
            answer,
            frontier,
            retention,
            win_rates,
            learning,
            thumbs,
            training,
            margins,
            likelihood,
            noise,
            origins,
        } = self;
        let later = [win_rates, learning, thumbs, training, margins, likelihood, noise, origins];
        let first = [answer, frontier].into_iter().flatten().chain(retention);
        first.chain(later.into_iter().flatten())
    }
}

/// Returns true if comparisons have no verdict because neither series beats chance.
fn is_unlearnt(sweep: &SweepData) -> bool {
    let mut contrasts = sweep.summary.iter().flat_map(|summary| &summary.contrasts);
    contrasts.any(|contrast| contrast.no_verdict == Some(NoVerdict::NotLearnt))
}

/// Returns the page as one HTML document.
pub(crate) fn html(
    sweep: &SweepData,
    figures: &PageFigures,
    means: &MeanTables,
    reload: Option<Duration>,
) -> Result<String, ReportError> {
    templates::render("report.html", ReportPage::new(sweep, figures, means, reload)?)
}

/// Data of the template `report.html`.
#[derive(Serialize)]
struct ReportPage<'a> {
    /// Seconds between reloads.
    reload: Option<u64>,
    script: &'static str,
    script_source: String,
    name: &'a str,
    question: &'a str,
    verdict: Option<&'a str>,
    method: Option<&'a str>,
    start_accuracy: Option<String>,
    progress: String,
    /// Number of failed runs, such as `1 run`, if any.
    failed: Option<String>,
    baseline: &'a str,
    x_label: &'a str,
    series_label: &'a str,
    answer: Vec<FigureView>,
    frontier: Vec<FigureView>,
    measures: Option<MeasureTable>,
    retention: Option<RetentionTable>,
    retention_figures: Vec<FigureView>,
    matchups: Vec<(MatchupView, FigureView)>,
    scores: Vec<ScoreTable>,
    learning: Option<LearningView>,
    learning_figures: Vec<FigureView>,
    thumb_table: Option<ThumbTable>,
    thumbs: Vec<FigureView>,
    running: Option<FigureView>,
    training: Vec<FigureView>,
    margins: Vec<FigureView>,
    likelihood: Vec<FigureView>,
    likelihood_means: Option<&'a MeanTable>,
    noise: Vec<FigureView>,
    noise_means: Option<&'a MeanTable>,
    transfer: Vec<FigureView>,
    origin_means: Vec<&'a MeanTable>,
    generation_means: Option<&'a MeanTable>,
    prompts: Vec<PromptView>,
    generation_sources: Vec<String>,
    findings: Vec<FindingGroup>,
    notes: &'a [String],
    accuracy_contrasts: Vec<ContrastRow>,
    auc_contrasts: Vec<ContrastRow>,
    utility_contrasts: Vec<ContrastRow>,
    setting_names: Vec<String>,
    trials: Vec<TrialRow>,
    runs: Vec<RunRow>,
    stages: Vec<(&'a str, RunRow)>,
    data: Vec<DatasetView>,
    base: JsonDocument,
    commands: String,
}

impl<'a> ReportPage<'a> {
    fn new(
        sweep: &'a SweepData,
        figures: &PageFigures,
        means: &'a MeanTables,
        reload: Option<Duration>,
    ) -> Result<Self, ReportError> {
        let views = |figures: &[Figure]| figures.iter().map(FigureView::new).collect::<Result<Vec<_>, _>>();
        let experiment = &sweep.experiment;
        let summary = sweep.summary.as_ref();
        let failed = sweep.runs.iter().filter(|run| run.state() == Some(State::Failed)).count();
        let matchups = win_rates::matchups(sweep).into_iter().map(|matchup| matchup.view(sweep));
        Ok(Self {
            reload: reload.map(|reload| reload.as_secs()),
            script: templates::SCRIPT,
            script_source: templates::script_source(),
            name: &experiment.name,
            question: &experiment.question,
            verdict: summary.map(|summary| summary.verdict.as_str()),
            method: summary.map(|summary| summary.method.as_str()),
            start_accuracy: summary.and_then(|summary| summary.start_accuracy).map(format::percent),
            progress: sweep.progress(),
            failed: (failed > 0).then(|| format::count(failed, "run")),
            baseline: &experiment.baseline,
            x_label: sweep.x.label(),
            series_label: &experiment.series.label,
            answer: views(&figures.answer)?,
            frontier: views(&figures.frontier)?,
            measures: measures::table(sweep),
            retention: retention::table(sweep),
            retention_figures: figures.retention.iter().map(FigureView::new).collect::<Result<_, _>>()?,
            matchups: matchups.zip(views(&figures.win_rates)?).collect(),
            scores: scores::tables(sweep),
            learning: learning_curves::view(sweep),
            learning_figures: views(&figures.learning)?,
            thumb_table: thumbs::table(sweep),
            thumbs: views(&figures.thumbs)?,
            running: running::figure(sweep).as_ref().map(FigureView::new).transpose()?,
            training: views(&figures.training)?,
            margins: views(&figures.margins)?,
            likelihood: views(&figures.likelihood)?,
            likelihood_means: means.likelihood.as_ref(),
            noise: views(&figures.noise)?,
            noise_means: means.noise.as_ref(),
            transfer: views(&figures.origins)?,
            origin_means: means.origins.iter().map(|(_, table)| table).collect(),
            generation_means: means.generations.as_ref(),
            prompts: generations::prompts(sweep),
            generation_sources: generations::sources(sweep),
            findings: findings::groups(sweep),
            notes: summary.map_or(&[], |summary| summary.notes.as_slice()),
            accuracy_contrasts: contrasts::rows(sweep, Measure::Accuracy),
            auc_contrasts: contrasts::rows(sweep, Measure::Auc),
            utility_contrasts: contrasts::rows(sweep, Measure::Utility),
            setting_names: sweep.setting_names(),
            trials: trials::rows(sweep),
            runs: sweep.runs.iter().map(|run| RunRow::new(sweep, run)).collect(),
            stages: sweep.stages.iter().map(|(name, run)| (name.as_str(), RunRow::new(sweep, run))).collect(),
            data: datasets::datasets(sweep),
            base: JsonDocument::new(&experiment.base),
            commands: experiment.commands.join("\n"),
        })
    }
}

//! Rows of the page's tables of contrasts and runs.

use prospect_runs::{Contrast, Measure, RecordKind, TrialResult, Verdict};
use serde::Serialize;

use crate::{
    findings,
    sweep::{Run, Sweep},
    text,
};

#[derive(Serialize)]
pub(crate) struct ContrastRow {
    x: String,
    series: String,
    baseline: String,
    difference: String,
    interval: String,
    reading: String,
    p: String,
    p_holm: String,
    clear: bool,
    seeds: usize,
    seeds_needed: String,
    pairs: usize,
}

impl ContrastRow {
    pub(crate) fn of(sweep: &Sweep, contrast: &Contrast) -> Self {
        let Contrast { series, baseline, x, difference, p, p_holm, verdict, .. } = contrast;
        let reading = match verdict {
            Verdict::Ahead => format!("{series} higher"),
            Verdict::Behind => format!("{baseline} higher"),
            Verdict::CannotTell => "cannot tell".to_owned(),
        };
        let (shown, interval) = match contrast.measure {
            Measure::Accuracy => (text::points(difference.value), text::points_interval(*difference)),
            Measure::Utility => (text::signed(difference.value), text::signed_interval(*difference)),
        };
        Self {
            x: sweep.x.name(*x),
            series: series.clone(),
            baseline: baseline.clone(),
            difference: shown,
            interval,
            p: text::p_value(*p),
            p_holm: text::p_value(*p_holm),
            clear: *verdict != Verdict::CannotTell,
            reading,
            seeds: contrast.seeds,
            seeds_needed: contrast.seeds_needed.map_or_else(|| "–".to_owned(), |seeds| seeds.to_string()),
            pairs: contrast.pairs,
        }
    }
}

/// A trial of a search for settings.
#[derive(Serialize)]
pub(crate) struct TrialRow {
    series: String,
    settings: String,
    rung: usize,
    accuracy: Sorted,
    seeds: usize,
    won: bool,
}

impl TrialRow {
    pub(crate) fn of(sweep: &Sweep, trial: &TrialResult) -> Self {
        Self {
            series: trial.series.clone(),
            settings: settings(sweep, trial),
            rung: trial.rung,
            accuracy: Sorted::of(Some(trial.accuracy), text::percent),
            seeds: trial.seeds,
            won: trial.won,
        }
    }
}

/// A trial's settings in words, but for its series, and for x where all have the same.
pub(crate) fn settings(sweep: &Sweep, trial: &TrialResult) -> String {
    let experiment = &sweep.experiment;
    let tells =
        |key: &str| key != experiment.series.key && (key != experiment.x.key || sweep.x.values().len() > 1);
    let settings = trial.settings.iter().filter(|(key, _)| tells(key));
    settings.map(|(key, value)| format!("{key} = {}", text::setting(value))).collect::<Vec<_>>().join(", ")
}

/// A cell of a table that sorts: what it shows, and what it sorts by.
#[derive(Serialize)]
struct Sorted {
    shown: String,
    value: String,
}

impl Sorted {
    fn of(value: Option<f64>, show: impl Fn(f64) -> String) -> Self {
        let none = || (String::from("–"), String::new());
        let (shown, value) = value.map_or_else(none, |value| (show(value), value.to_string()));
        Self { shown, value }
    }
}

#[derive(Serialize)]
pub(crate) struct RunRow {
    id: String,
    name: String,
    settings: Vec<String>,
    seed: u64,
    steps: Sorted,
    accuracy: Sorted,
    margin: Sorted,
    duration: Sorted,
    rate: Sorted,
    state: &'static str,
    pub(crate) error: Option<String>,
    stopped: Option<String>,
}

impl RunRow {
    pub(crate) fn of(sweep: &Sweep, run: &Run) -> Self {
        let names = sweep.setting_names();
        let setting = |name: &String| run.planned.settings.get(name).map(text::setting).unwrap_or_default();
        let timed = run.status.as_ref().filter(|status| status.seconds > 0.0);
        let last = |metric| run.last(RecordKind::Eval, metric);
        let whole = |value: f64| format!("{value:.0}");
        Self {
            id: run.planned.id.clone(),
            name: findings::name(sweep, run),
            settings: names.iter().map(setting).collect(),
            seed: run.planned.seed,
            steps: Sorted::of(run.steps().map(|steps| steps as f64), whole),
            accuracy: Sorted::of(last("eval_rewards/accuracies"), text::percent),
            margin: Sorted::of(last("eval_rewards/margins"), text::number),
            duration: Sorted::of(timed.map(|status| status.seconds), text::duration),
            rate: Sorted::of(timed.map(|status| status.tokens as f64 / status.seconds), whole),
            state: run.state(),
            error: run.error().map(str::to_owned),
            stopped: run.stopped().map(str::to_owned),
        }
    }
}

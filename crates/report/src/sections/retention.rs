//! Capability retention: scores on capability tests before and after training.

use prospect_runs::{CapabilityTest, Estimate, NoVerdict, Retention, Verdict};
use serde::Serialize;

use super::forest::points_tick;
use crate::{
    format,
    render::figure::{Content, Figure, Forest, ForestGroup, ForestRow, Panel, Scale},
    sweep_data::SweepData,
};

/// Most rows of the figure; with more, only changes with a verdict are drawn.
const MAX_ROWS: usize = 40;

/// Most changes that are described in words; with more, only those with a verdict are.
const MAX_WORDS: usize = 12;

/// Changes of scores as the page shows them.
#[derive(Serialize)]
pub(crate) struct RetentionTable {
    /// The changes of headline scores in words.
    words: Vec<String>,
    /// Each test in a sentence.
    tests: Vec<String>,
    rows: Vec<RetentionRow>,
}

#[derive(Serialize)]
struct RetentionRow {
    test: String,
    score: String,
    x: String,
    series: String,
    start: String,
    trained: String,
    change: String,
    interval: String,
    p: String,
    p_holm: String,
    conclusion: &'static str,
    significant: bool,
    seeds: usize,
    questions: usize,
}

/// Returns the changes of the summary.
pub(crate) fn changes(sweep: &SweepData) -> impl Iterator<Item = &Retention> {
    sweep.summary.iter().flat_map(|summary| &summary.retention)
}

/// Returns the table, or `None` without capability tests.
pub(crate) fn table(sweep: &SweepData) -> Option<RetentionTable> {
    let all: Vec<&Retention> = changes(sweep).collect();
    let headline = || all.iter().filter(|change| change.is_headline);
    let is_told = |change: &&&Retention| headline().count() <= MAX_WORDS || is_significant(change);
    let about = |test: &CapabilityTest| describe(test, &all);
    (!all.is_empty()).then(|| RetentionTable {
        words: headline().filter(is_told).map(|change| change.words.clone()).collect(),
        tests: sweep.experiment.capabilities.iter().map(about).collect(),
        rows: all.iter().map(|change| RetentionRow::new(sweep, change)).collect(),
    })
}

/// Describes the questions of a test, and those that are left out.
fn describe(test: &CapabilityTest, changes: &[&Retention]) -> String {
    let CapabilityTest { name, path, layout, headline, rows, rejected, questions, .. } = test;
    let mut parts = vec![format!(
        "{name}: {questions} of {rows} questions of {path} (layout {layout}, verdict by {headline})"
    )];
    if !rejected.is_empty() {
        let reasons: Vec<String> = rejected.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
        parts.push(format!("rows that cannot be used: {}", reasons.join(", ")));
    }
    let asked = changes.iter().filter(|change| change.test == *name).map(|change| change.questions).min();
    if let Some(asked) = asked.filter(|asked| asked < questions) {
        parts.push(format!("{} too long for a model", questions - asked));
    }
    parts.join("; ") + "."
}

fn is_significant(change: &Retention) -> bool {
    change.verdict != Verdict::Inconclusive
}

/// Words for a verdict, or for the reason why there is none; a dash for scores that have none.
fn conclusion(change: &Retention) -> &'static str {
    match (change.no_verdict, change.verdict) {
        _ if !change.is_headline => "–",
        (Some(NoVerdict::OneSeed), _) => "one seed",
        (Some(NoVerdict::TooWide), _) => "too few questions",
        (Some(NoVerdict::LostRuns), _) => "inconclusive: runs failed",
        (_, Verdict::Better) => "gains",
        (_, Verdict::Worse) => "loses",
        (_, Verdict::Inconclusive) => "inconclusive",
    }
}

impl RetentionRow {
    fn new(sweep: &SweepData, change: &Retention) -> Self {
        // One seed has no p-value.
        let p_value = |p: Option<f64>| match p {
            Some(p) if change.seeds > 1 => format::p_value(p),
            _ => "–".to_owned(),
        };
        Self {
            test: change.test.clone(),
            score: change.score.clone(),
            x: sweep.x.name(change.x),
            series: change.series.clone(),
            start: format::percent_estimate(change.start),
            trained: format::percent_estimate(change.trained),
            change: format::signed_points(change.change.value),
            interval: format::points_interval(change.change),
            p: p_value(Some(change.p)),
            p_holm: p_value(change.p_holm),
            conclusion: conclusion(change),
            significant: is_significant(change),
            seeds: change.seeds,
            questions: change.questions,
        }
    }
}

/// Returns the figure of the changes of headline scores, or `None` without any.
pub(crate) fn figure(sweep: &SweepData) -> Option<Figure> {
    let all: Vec<&Retention> = changes(sweep).filter(|change| change.is_headline).collect();
    let is_shown = |change: &&Retention| all.len() <= MAX_ROWS || is_significant(change);
    let shown: Vec<&Retention> = all.iter().copied().filter(is_shown).collect();
    let groups: Vec<ForestGroup> = sweep
        .experiment
        .capabilities
        .iter()
        .map(|test| group(sweep, test, &shown))
        .filter(|group| !group.rows.is_empty())
        .collect();
    if groups.is_empty() {
        return None;
    }
    let facts: Vec<String> = groups
        .iter()
        .flat_map(|group| group.rows.iter().map(move |row| (&group.title, row)))
        .map(|(test, row)| format!("{} on {test}: {}, {}", row.label, row.text, row.conclusion))
        .collect();
    let values = shown.iter().flat_map(|change| {
        let Estimate { value, low, high } = change.change;
        [0.0, value, low, high]
    });
    let scale = Scale::covering("change of the score, points", values, points_tick);
    let sides = ["loses", "gains"].map(str::to_owned);
    Some(Figure {
        name: "retention".to_owned(),
        title: "Changes of capability scores".to_owned(),
        caption: caption(&shown, all.len() - shown.len()),
        legend: Vec::new(),
        panels: vec![Panel {
            title: String::new(),
            description: format!("Changes of capability scores from the start. {}.", facts.join("; ")),
            content: Content::Forest(Forest { scale, sides, groups }),
        }],
    })
}

/// Returns the rows of one test, by x and series.
fn group(sweep: &SweepData, test: &CapabilityTest, shown: &[&Retention]) -> ForestGroup {
    let ends = |estimate: Estimate| [estimate.low, estimate.high];
    let mut own: Vec<&&Retention> = shown.iter().filter(|change| change.test == test.name).collect();
    own.sort_by(|a, b| {
        let series = |change: &Retention| sweep.series_index(&change.series);
        a.x.total_cmp(&b.x).then(series(a).cmp(&series(b)))
    });
    let row = |change: &&Retention| ForestRow {
        label: if sweep.x.values().len() > 1 {
            format!("{}, {}", change.series, sweep.x.name(change.x))
        } else {
            change.series.clone()
        },
        style: sweep.style(&change.series),
        value: change.change.value,
        interval: ends(change.change),
        adjusted: change.adjusted.map(ends),
        detectable: change.detectable,
        text: format::points(change.change.value),
        conclusion: conclusion(change).to_owned(),
        significant: is_significant(change),
    };
    ForestGroup {
        title: format!("{} ({})", test.name, test.headline),
        rows: own.into_iter().map(row).collect(),
    }
}

fn caption(shown: &[&Retention], hidden: usize) -> String {
    let mut caption = vec![
        "Score after training minus score of the weights that training started from. Thick lines are 95 % confidence \
         intervals, paired by question and seed."
            .to_owned(),
    ];
    if shown.iter().any(|change| change.adjusted.is_some()) {
        caption.push(
            "Thin lines are intervals adjusted for all series and tests (Holm): a change is significant if its thin \
             line does not cross 0."
                .to_owned(),
        );
    }
    if shown.iter().any(|change| change.detectable.is_some()) {
        caption.push("Grey bands are changes too small to be detected reliably.".to_owned());
    }
    if hidden > 0 {
        let count = format::count(hidden, "inconclusive change");
        caption.push(format!("{count} not shown here: see tables/retention.csv."));
    }
    caption.join(" ")
}

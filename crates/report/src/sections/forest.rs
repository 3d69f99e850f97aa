//! Forest plot of the differences from the baseline: the first figure of the page.

use prospect_runs::{Contrast, Estimate, Measure, Verdict};

use super::contrasts::conclusion;
use crate::{
    format,
    render::figure::{Content, Figure, Forest, ForestGroup, ForestRow, Panel, Scale},
    sweep_data::SweepData,
};

/// Most rows of a plot; with more, only comparisons with a verdict and the primary one are drawn.
const MAX_ROWS: usize = 40;

/// Returns the figure of all differences, with a panel for each measure, or `None` without
/// comparisons.
pub(crate) fn figure(sweep: &SweepData) -> Option<Figure> {
    let measures = [Measure::Accuracy, Measure::Auc, Measure::Utility];
    let plots: Vec<MeasurePlot<'_>> =
        measures.into_iter().filter_map(|measure| MeasurePlot::new(sweep, measure)).collect();
    let shown: Vec<&Contrast> = plots.iter().flat_map(MeasurePlot::contrasts).collect();
    let baseline = &shown.first()?.baseline;
    let hidden = plots.iter().map(|plot| plot.hidden).sum();
    Some(Figure {
        name: "differences".to_owned(),
        title: format!("Differences from {baseline}"),
        caption: caption(&shown, hidden),
        legend: Vec::new(),
        panels: plots.iter().map(|plot| plot.panel(sweep, plots.len() > 1)).collect(),
    })
}

/// Words of a measure.
#[derive(Clone, Copy)]
struct MeasureWords {
    title: &'static str,
    /// Label of the axis.
    label: &'static str,
    /// Formats a difference.
    signed: fn(f64) -> String,
    tick: fn(f64, usize) -> String,
}

fn words(measure: Measure) -> MeasureWords {
    match measure {
        Measure::Accuracy => MeasureWords {
            title: "Held-out accuracy",
            label: "difference in accuracy, points",
            signed: format::points,
            tick: points_tick,
        },
        Measure::Auc => MeasureWords {
            title: "Held-out AUC",
            label: "difference in AUC, points",
            signed: format::points,
            tick: points_tick,
        },
        Measure::Utility => MeasureWords {
            title: "True utility of completions",
            label: "difference in true utility",
            signed: format::signed,
            tick: signed_tick,
        },
    }
}

/// Formats a tick in signed percentage points; `decimals` counts decimals of the share itself.
pub(super) fn points_tick(share: f64, decimals: usize) -> String {
    signed_tick(100.0 * share, decimals.saturating_sub(2))
}

fn signed_tick(value: f64, decimals: usize) -> String {
    let text = format::fixed(value, decimals);
    let is_zero = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    if is_zero || text.starts_with('−') { text } else { format!("+{text}") }
}

/// The comparisons of one measure that are drawn.
struct MeasurePlot<'a> {
    words: MeasureWords,
    /// Comparisons by x value, with its name.
    groups: Vec<(String, Vec<&'a Contrast>)>,
    /// Number of comparisons that are not drawn.
    hidden: usize,
}

impl<'a> MeasurePlot<'a> {
    /// Returns `None` without comparisons.
    fn new(sweep: &'a SweepData, measure: Measure) -> Option<Self> {
        let mut groups = groups(sweep, measure);
        let all: usize = groups.iter().map(|(_, contrasts)| contrasts.len()).sum();
        let is_shown =
            |contrast: &&Contrast| all <= MAX_ROWS || is_significant(contrast) || contrast.is_primary;
        for (_, contrasts) in &mut groups {
            contrasts.retain(is_shown);
        }
        groups.retain(|(_, contrasts)| !contrasts.is_empty());
        let shown: usize = groups.iter().map(|(_, contrasts)| contrasts.len()).sum();
        (shown > 0).then(|| Self { words: words(measure), groups, hidden: all - shown })
    }

    fn contrasts(&self) -> impl Iterator<Item = &'a Contrast> {
        self.groups.iter().flat_map(|(_, contrasts)| contrasts.iter().copied())
    }

    fn panel(&self, sweep: &SweepData, is_titled: bool) -> Panel {
        let MeasureWords { title, label, signed, tick } = self.words;
        let has_groups = sweep.x.values().len() > 1;
        let group = |(title, contrasts): &(String, Vec<&Contrast>)| ForestGroup {
            title: if has_groups { title.clone() } else { String::new() },
            rows: contrasts.iter().map(|contrast| row(sweep, contrast, signed)).collect(),
        };
        let groups: Vec<ForestGroup> = self.groups.iter().map(group).collect();
        let rows = groups.iter().flat_map(|group| group.rows.iter().map(|row| (&group.title, row)));
        let facts: Vec<String> = rows
            .map(|(at, row)| {
                let at = if at.is_empty() { String::new() } else { format!(" ({at})") };
                format!("{}{at}: {}, {}", row.label, row.text, row.conclusion)
            })
            .collect();
        let baseline = self.contrasts().next().map_or("", |contrast| contrast.baseline.as_str());
        let contrasts: Vec<&Contrast> = self.contrasts().collect();
        let scale = Scale::covering(label, extent(&contrasts), tick);
        let sides = ["worse", "better"].map(|side| format!("{side} than {baseline}"));
        Panel {
            title: if is_titled { title.to_owned() } else { String::new() },
            description: format!("{title}, difference from {baseline}. {}.", facts.join("; ")),
            content: Content::Forest(Forest { scale, sides, groups }),
        }
    }
}

/// Returns the comparisons by x value, without those that repeat another series.
pub(crate) fn groups(sweep: &SweepData, measure: Measure) -> Vec<(String, Vec<&Contrast>)> {
    let contrasts = || sweep.summary.iter().flat_map(|summary| &summary.contrasts);
    let own = |x: f64| {
        let is_own = |contrast: &&Contrast| {
            contrast.measure == measure && contrast.x == x && contrast.identical_to.is_none()
        };
        let mut own: Vec<&Contrast> = contrasts().filter(is_own).collect();
        own.sort_by_key(|contrast| sweep.series_index(&contrast.series));
        own
    };
    let title = |name: &str| format!("{}: {name}", sweep.x.label());
    sweep.x.values().iter().map(|x| (title(&x.name), own(x.value))).collect()
}

fn is_significant(contrast: &Contrast) -> bool {
    contrast.verdict != Verdict::Inconclusive
}

fn row(sweep: &SweepData, contrast: &Contrast, signed: fn(f64) -> String) -> ForestRow {
    let ends = |estimate: Estimate| [estimate.low, estimate.high];
    ForestRow {
        label: contrast.series.clone(),
        style: sweep.style(&contrast.series),
        value: contrast.difference.value,
        interval: ends(contrast.difference),
        adjusted: contrast.adjusted.map(ends),
        detectable: contrast.detectable,
        text: signed(contrast.difference.value),
        conclusion: conclusion(contrast),
        significant: is_significant(contrast),
    }
}

/// Returns the values that the scale covers: differences and 95 % intervals, and longer intervals
/// and bands as far as they do not squash these.
fn extent(contrasts: &[&Contrast]) -> Vec<f64> {
    let mut values = vec![0.0];
    let mut longer = Vec::new();
    for contrast in contrasts {
        let Estimate { value, low, high } = contrast.difference;
        values.extend([value, low, high]);
        longer.extend(contrast.adjusted.iter().flat_map(|adjusted| [adjusted.low, adjusted.high]));
        longer.extend(contrast.detectable.iter().flat_map(|detectable| [-detectable, *detectable]));
    }
    let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let most = 2.0 * sizes.last().copied().unwrap_or(0.0);
    values.extend(longer.into_iter().map(|value| if most > 0.0 { value.clamp(-most, most) } else { value }));
    values
}

fn caption(shown: &[&Contrast], hidden: usize) -> String {
    let mut caption =
        vec!["Thick lines are 95 % confidence intervals, paired by prompt and seed.".to_owned()];
    if shown.iter().any(|contrast| contrast.adjusted.is_some()) {
        caption.push(
            "Thin lines are intervals adjusted for all planned comparisons (Holm): a difference is significant if \
             its thin line does not cross 0."
                .to_owned(),
        );
    }
    if shown.iter().any(|contrast| contrast.detectable.is_some()) {
        caption.push(
            "Grey bands are differences too small to be detected reliably: a true difference beyond the band would be \
             found in four of five such sweeps."
                .to_owned(),
        );
    }
    if hidden > 0 {
        let count = format::count(hidden, "inconclusive comparison");
        caption.push(format!("{count} not shown here: see tables/contrasts.csv."));
    }
    caption.join(" ")
}

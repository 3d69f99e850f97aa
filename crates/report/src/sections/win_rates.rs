//! Win rates of policies, as judges prefer their completions.

use prospect_core::sample::mean;
use prospect_runs::{Opponent, Verdict, WinRate, WinRateContrast};
use serde::Serialize;

use crate::{format, sweep_data::SweepData};

/// Win rates of one judge against one opponent.
pub(crate) struct Matchup<'a> {
    judge: &'a str,
    opponent: &'a Opponent,
    pub(crate) rates: Vec<&'a WinRate>,
}

/// A matchup as the page shows it.
#[derive(Serialize)]
pub(crate) struct MatchupView {
    title: String,
    /// Description of the judge.
    about: String,
    rows: Vec<WinRateRow>,
    /// True if published results are shown, which count wins among all comparisons.
    as_published: bool,
    /// Definition of the length-controlled rate, if there is one.
    length_control: Option<String>,
    contrasts: Vec<WinRateContrastRow>,
}

/// Difference of a series' win rate from the baseline's.
#[derive(Serialize)]
struct WinRateContrastRow {
    x: String,
    series: String,
    baseline: String,
    difference: String,
    interval: String,
    p: String,
    p_holm: String,
    conclusion: &'static str,
    significant: bool,
    seeds: usize,
    prompts: usize,
}

#[derive(Serialize)]
struct WinRateRow {
    x: String,
    series: String,
    rate: String,
    interval: String,
    length_controlled: String,
    decided: String,
    /// Wins as a share of all comparisons, with a 90 % interval.
    wins_of_all: String,
    wins: u64,
    ties: u64,
    losses: u64,
    unread: u64,
    p: String,
    p_holm: String,
    conclusion: &'static str,
    significant: bool,
}

/// Returns the matchups of a sweep, in the order of its summary.
pub(crate) fn matchups(sweep: &SweepData) -> Vec<Matchup<'_>> {
    let mut matchups: Vec<Matchup<'_>> = Vec::new();
    for rate in sweep.summary.iter().flat_map(|summary| &summary.win_rates) {
        let same = |known: &&mut Matchup<'_>| known.judge == rate.judge && *known.opponent == rate.opponent;
        match matchups.iter_mut().find(same) {
            Some(matchup) => matchup.rates.push(rate),
            None => {
                matchups.push(Matchup { judge: &rate.judge, opponent: &rate.opponent, rates: vec![rate] });
            }
        }
    }
    for matchup in &mut matchups {
        matchup.rates.sort_by(|a, b| {
            let index = |rate: &WinRate| sweep.series_index(&rate.series);
            a.x.total_cmp(&b.x).then_with(|| index(a).cmp(&index(b)))
        });
    }
    matchups
}

impl Matchup<'_> {
    /// Returns judge and opponent as a title.
    pub(crate) fn title(&self, sweep: &SweepData) -> String {
        format!("{}, against {}", self.judge, opponent_name(sweep, self.opponent))
    }

    /// Returns the view for the page.
    pub(crate) fn view(&self, sweep: &SweepData) -> MatchupView {
        let note = sweep.judges.iter().find(|note| note.name == self.judge);
        MatchupView {
            title: self.title(sweep),
            about: note.map_or_else(
                || "The judge prefers the completion with the higher true utility, which the dataset defines.".to_owned(),
                |note| note.about.clone(),
            ),
            as_published: sweep.experiment.reference.is_some(),
            length_control: self.length_control(),
            rows: self.rates.iter().map(|rate| WinRateRow::new(sweep, rate)).collect(),
            contrasts: self.contrasts(sweep),
        }
    }
}

impl Matchup<'_> {
    /// Describes the length-controlled rate and the lengths; None without lengths.
    fn length_control(&self) -> Option<String> {
        let lengths = |rate: &&WinRate| rate.characters;
        let side = |side: usize| mean(self.rates.iter().filter_map(|rate| Some(lengths(rate)?[side])));
        let (own, other) = (side(0)?, side(1)?);
        Some(format!(
            "Length-controlled: the win rate that a logistic regression predicts for completions as long as those of \
             the opponent, since judges prefer longer ones. Completions have {own:.0} characters on average, those of \
             the opponent {other:.0}. A dash means that the lengths of both do not overlap enough."
        ))
    }

    fn contrasts(&self, sweep: &SweepData) -> Vec<WinRateContrastRow> {
        let all = sweep.summary.iter().flat_map(|summary| &summary.win_rate_contrasts);
        let own = all.filter(|contrast| contrast.judge == self.judge && contrast.opponent == *self.opponent);
        own.map(|contrast| WinRateContrastRow::new(sweep, contrast)).collect()
    }
}

impl WinRateContrastRow {
    fn new(sweep: &SweepData, contrast: &WinRateContrast) -> Self {
        Self {
            x: sweep.x.name(contrast.x),
            series: contrast.series.clone(),
            baseline: contrast.baseline.clone(),
            difference: format::points(contrast.difference.value),
            interval: format::points_interval(contrast.difference),
            p: format::p_value(contrast.p),
            p_holm: format::p_value(contrast.p_holm),
            conclusion: match contrast.verdict {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::Inconclusive => "inconclusive",
            },
            significant: contrast.verdict != Verdict::Inconclusive,
            seeds: contrast.seeds,
            prompts: contrast.prompts,
        }
    }
}

/// Returns the opponent as text.
pub(crate) fn opponent_name(sweep: &SweepData, opponent: &Opponent) -> String {
    match opponent {
        Opponent::Target => "the preferred completions".to_owned(),
        Opponent::Baseline => format!("completions of {}", sweep.experiment.baseline),
        Opponent::Run(id) => {
            let run = sweep.runs.iter().find(|run| run.planned.id == *id);
            format!("completions of {}", run.map_or_else(|| id.clone(), |run| sweep.run_name(run)))
        }
        Opponent::Model(name) => format!("completions of {name}"),
    }
}

impl WinRateRow {
    fn new(sweep: &SweepData, rate: &WinRate) -> Self {
        Self {
            x: sweep.x.name(rate.x),
            series: rate.series.clone(),
            rate: format::percent(rate.rate.value),
            interval: format::percent_interval(rate.rate),
            length_controlled: rate
                .length_controlled
                .map_or_else(|| "–".to_owned(), format::percent_estimate),
            decided: rate.decided.map_or_else(|| "–".to_owned(), format::percent_estimate),
            wins_of_all: rate.wins_of_all.map_or_else(|| "–".to_owned(), format::percent_estimate),
            wins: rate.wins,
            ties: rate.ties,
            losses: rate.losses,
            unread: rate.unread,
            p: format::p_value(rate.p),
            p_holm: format::p_value(rate.p_holm),
            conclusion: match rate.verdict {
                Verdict::Better => "wins more often",
                Verdict::Worse => "loses more often",
                Verdict::Inconclusive => "inconclusive",
            },
            significant: rate.verdict != Verdict::Inconclusive,
        }
    }
}

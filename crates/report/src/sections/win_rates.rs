//! Win rates of policies, as judges prefer their completions.

use prospect_runs::{Opponent, Verdict, WinRate};
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
}

#[derive(Serialize)]
struct WinRateRow {
    x: String,
    series: String,
    rate: String,
    interval: String,
    decided: String,
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
            rows: self.rates.iter().map(|rate| WinRateRow::new(sweep, rate)).collect(),
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
    }
}

impl WinRateRow {
    fn new(sweep: &SweepData, rate: &WinRate) -> Self {
        Self {
            x: sweep.x.name(rate.x),
            series: rate.series.clone(),
            rate: format::percent(rate.rate.value),
            interval: format::percent_interval(rate.rate),
            decided: rate.decided.map_or_else(|| "–".to_owned(), format::percent_estimate),
            wins: rate.wins,
            ties: rate.ties,
            losses: rate.losses,
            unread: rate.unread,
            p: format::p_value(rate.p),
            p_holm: format::p_value(rate.p_holm),
            conclusion: match rate.verdict {
                Verdict::Ahead => "wins more often",
                Verdict::Behind => "loses more often",
                Verdict::CannotTell => "inconclusive",
            },
            significant: rate.verdict != Verdict::CannotTell,
        }
    }
}

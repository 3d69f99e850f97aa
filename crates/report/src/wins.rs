//! How often judges prefer what policies say.

use prospect_runs::{Opponent, Verdict, WinRate};
use serde::Serialize;

use crate::{
    findings,
    sweep::Sweep,
    tables::{Table, columns, numbers},
    text,
};

/// The rates of one judge against one opponent.
pub(crate) struct Round<'a> {
    pub(crate) judge: &'a str,
    opponent: &'a Opponent,
    pub(crate) rates: Vec<&'a WinRate>,
}

/// What the page says of a round.
#[derive(Serialize)]
pub(crate) struct RoundView {
    title: String,
    about: String,
    /// The name of its figure.
    pub(crate) figure: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
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
    reading: &'static str,
    clear: bool,
}

/// The rounds of a sweep, in the order of its summary.
pub(crate) fn rounds(sweep: &Sweep) -> Vec<Round<'_>> {
    let mut rounds: Vec<Round<'_>> = Vec::new();
    for rate in sweep.summary.iter().flat_map(|summary| &summary.win_rates) {
        match rounds.iter_mut().find(|round| round.judge == rate.judge && *round.opponent == rate.opponent) {
            Some(round) => round.rates.push(rate),
            None => rounds.push(Round { judge: &rate.judge, opponent: &rate.opponent, rates: vec![rate] }),
        }
    }
    for round in &mut rounds {
        round.rates.sort_by(|a, b| {
            let place = |rate: &WinRate| sweep.place(&rate.series);
            a.x.total_cmp(&b.x).then_with(|| place(a).cmp(&place(b)))
        });
    }
    rounds
}

impl Round<'_> {
    /// The judge and the opponent in words.
    pub(crate) fn title(&self, sweep: &Sweep) -> String {
        format!("{}, against {}", self.judge, opponent(sweep, self.opponent))
    }

    /// The name of its figure: `index` is its place among the rounds.
    pub(crate) fn figure_name(index: usize) -> String {
        format!("win-rate-{}", index + 1)
    }

    pub(crate) fn view(&self, sweep: &Sweep, index: usize) -> RoundView {
        let note = sweep.judges.iter().find(|note| note.name == self.judge);
        RoundView {
            title: self.title(sweep),
            about: note.map_or_else(
                || "The data knows what a text is worth: the better of two is the one with the larger true utility.".to_owned(),
                |note| note.about.clone(),
            ),
            figure: Self::figure_name(index),
            rows: self.rates.iter().map(|rate| Row::of(sweep, rate)).collect(),
        }
    }
}

fn opponent(sweep: &Sweep, opponent: &Opponent) -> String {
    match opponent {
        Opponent::Target => "the preferred completions".to_owned(),
        Opponent::Baseline => format!("what {} says", sweep.experiment.baseline),
        Opponent::Run(id) => {
            let run = sweep.runs.iter().find(|run| run.planned.id == *id);
            format!("what {} says", run.map_or_else(|| id.clone(), |run| findings::name(sweep, run)))
        }
    }
}

impl Row {
    fn of(sweep: &Sweep, rate: &WinRate) -> Self {
        Self {
            x: sweep.x.name(rate.x),
            series: rate.series.clone(),
            rate: text::percent(rate.rate.value),
            interval: text::percent_interval(rate.rate),
            decided: rate.decided.map_or_else(
                || "–".to_owned(),
                |share| format!("{} ({})", text::percent(share.value), text::percent_interval(share)),
            ),
            wins: rate.wins,
            ties: rate.ties,
            losses: rate.losses,
            unread: rate.unread,
            p: text::p_value(rate.p),
            p_holm: text::p_value(rate.p_holm),
            reading: match rate.verdict {
                Verdict::Ahead => "wins more",
                Verdict::Behind => "loses more",
                Verdict::CannotTell => "cannot tell",
            },
            clear: rate.verdict != Verdict::CannotTell,
        }
    }
}

/// All rates.
pub(crate) fn table(sweep: &Sweep) -> Table {
    let row = |rate: &WinRate| {
        let mut row = vec![
            rate.judge.clone(),
            opponent(sweep, &rate.opponent),
            rate.series.clone(),
            sweep.x.name(rate.x),
            rate.x.to_string(),
        ];
        row.extend(numbers(rate.rate));
        row.extend(rate.decided.map_or_else(|| vec![String::new(); 3], |share| numbers(share).to_vec()));
        row.extend([rate.wins, rate.ties, rate.losses, rate.unread].map(|count| count.to_string()));
        row.extend([rate.p, rate.p_holm].map(|p| p.to_string()));
        row
    };
    Table {
        name: "win_rates",
        columns: columns(&[
            "judge",
            "opponent",
            "series",
            "x_name",
            "x",
            "rate",
            "low",
            "high",
            "decided",
            "decided_low",
            "decided_high",
            "wins",
            "ties",
            "losses",
            "unread",
            "p",
            "p_holm",
        ]),
        rows: rounds(sweep).iter().flat_map(|round| round.rates.iter().copied().map(row)).collect(),
    }
}

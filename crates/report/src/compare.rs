//! Two sweeps side by side.

use prospect_runs::Point;
use serde::Serialize;

use crate::{
    ReportError, estimates,
    figure::Figure,
    list::Entry,
    page::{FigureView, progress, rendered},
    sweep::Sweep,
    tables::Table,
    text,
};

/// Two sweeps and the figure that answers each.
pub(crate) struct Comparison {
    sweeps: [Sweep; 2],
    figures: [Option<Figure>; 2],
}

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    sides: Vec<Side<'a>>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Side<'a> {
    name: &'a str,
    question: &'a str,
    verdict: Option<&'a str>,
    progress: String,
    figure: Option<FigureView>,
}

impl<'a> Side<'a> {
    fn of(sweep: &'a Sweep, figure: Option<&Figure>) -> Result<Self, ReportError> {
        Ok(Self {
            name: &sweep.experiment.name,
            question: &sweep.experiment.question,
            verdict: sweep.summary.as_ref().map(|summary| summary.verdict.as_str()),
            progress: progress(sweep),
            figure: figure.map(FigureView::of).transpose()?,
        })
    }
}

#[derive(Serialize)]
struct Row {
    series: String,
    x: String,
    estimates: Vec<String>,
    difference: String,
}

/// One series at one x value, which at least one of the sweeps has.
struct Match<'a> {
    series: &'a str,
    x: String,
    points: [Option<&'a Point>; 2],
}

impl Comparison {
    pub(crate) fn of(sweeps: [Sweep; 2]) -> Self {
        let mut figures = sweeps.each_ref().map(estimates::accuracy);
        for (figure, place) in figures.iter_mut().zip(["first", "second"]) {
            if let Some(figure) = figure {
                figure.name = format!("{}-{place}", figure.name);
            }
        }
        Self { sweeps, figures }
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().flatten()
    }

    /// Points of equal series and x; names of x values are what counts, so that 10 % is 10 %.
    fn matches(&self) -> Vec<Match<'_>> {
        let mut matches: Vec<Match<'_>> = Vec::new();
        for (side, sweep) in self.sweeps.iter().enumerate() {
            for point in sweep.summary.iter().flat_map(|summary| &summary.points) {
                let x = sweep.x.name(point.x);
                let known = matches.iter().position(|known| known.series == point.series && known.x == x);
                let index = known.unwrap_or_else(|| {
                    matches.push(Match { series: &point.series, x, points: [None, None] });
                    matches.len() - 1
                });
                matches[index].points[side] = Some(point);
            }
        }
        matches
    }

    /// The points of both, at full precision.
    pub(crate) fn table(&self) -> Table {
        let numbers = |point: Option<&Point>| match point {
            Some(Point { accuracy, .. }) => {
                [accuracy.value, accuracy.low, accuracy.high].map(|value| value.to_string())
            }
            None => [const { String::new() }; 3],
        };
        let row = |found: Match<'_>| {
            let place = [found.series.to_owned(), found.x];
            place.into_iter().chain(found.points.into_iter().flat_map(numbers)).collect()
        };
        let columns = ["series", "x_name"].map(str::to_owned).into_iter().chain(
            ["first", "second"]
                .iter()
                .flat_map(|side| ["", "_low", "_high"].map(|part| format!("{side}_accuracy{part}"))),
        );
        Table {
            name: "comparison",
            columns: columns.collect(),
            rows: self.matches().into_iter().map(row).collect(),
        }
    }

    fn title(&self) -> String {
        let [one, other] = self.sweeps.each_ref().map(|sweep| sweep.experiment.name.as_str());
        format!("{one} beside {other}")
    }

    /// What a list of reports says of it.
    pub(crate) fn entry(&self) -> Entry {
        let questions = self.sweeps.each_ref().map(|sweep| sweep.experiment.question.as_str());
        let runs: usize = self.sweeps.iter().map(|sweep| sweep.runs.len()).sum();
        Entry {
            name: self.title(),
            question: questions.join(" · "),
            verdict: None,
            progress: format!("two sweeps of {} together", text::count(runs, "run")),
        }
    }

    pub(crate) fn html(&self) -> Result<String, ReportError> {
        let sides =
            self.sweeps.iter().zip(&self.figures).map(|(sweep, figure)| Side::of(sweep, figure.as_ref()));
        let sides = sides.collect::<Result<Vec<_>, _>>()?;
        let row = |found: Match<'_>| {
            let shown = |point: Option<&Point>| {
                point.map_or_else(
                    || "–".to_owned(),
                    |Point { accuracy, .. }| {
                        format!("{} ({})", text::percent(accuracy.value), text::percent_interval(*accuracy))
                    },
                )
            };
            let difference = match found.points {
                [Some(one), Some(other)] => text::points(other.accuracy.value - one.accuracy.value),
                _ => "–".to_owned(),
            };
            Row {
                series: found.series.to_owned(),
                x: found.x,
                estimates: found.points.map(shown).to_vec(),
                difference,
            }
        };
        let rows = self.matches().into_iter().map(row).collect();
        rendered("compare.html", Page { title: self.title(), sides, rows })
    }
}

//! Comparison page of two sweeps.

use prospect_runs::{Estimate, Measure, Point};
use serde::Serialize;

use crate::{
    ReportError, format,
    list::ReportEntry,
    render::{figure::Figure, figure_view::FigureView, templates},
    sections::estimates,
    sweep_data::SweepData,
    tables::CsvTable,
};

/// Two sweeps with their accuracy figures.
pub(crate) struct SweepComparison {
    sweeps: [SweepData; 2],
    figures: [Option<Figure>; 2],
}

/// Data of the template `compare.html`.
#[derive(Serialize)]
struct ComparePage<'a> {
    title: String,
    sides: Vec<SideView<'a>>,
    rows: Vec<ComparisonRow>,
}

#[derive(Serialize)]
struct SideView<'a> {
    name: &'a str,
    question: &'a str,
    verdict: Option<&'a str>,
    progress: String,
    figure: Option<FigureView>,
}

impl<'a> SideView<'a> {
    fn new(sweep: &'a SweepData, figure: Option<&Figure>) -> Result<Self, ReportError> {
        Ok(Self {
            name: &sweep.experiment.name,
            question: &sweep.experiment.question,
            verdict: sweep.summary.as_ref().map(|summary| summary.verdict.as_str()),
            progress: sweep.progress(),
            figure: figure.map(FigureView::new).transpose()?,
        })
    }
}

#[derive(Serialize)]
struct ComparisonRow {
    series: String,
    x: String,
    /// Estimate of each sweep.
    estimates: Vec<String>,
    /// Second minus first.
    difference: String,
}

/// Estimates of one series at one x value, in one or both sweeps.
struct MatchedPoints<'a> {
    series: &'a str,
    x: String,
    points: [Option<&'a Point>; 2],
}

impl SweepComparison {
    /// Creates the comparison and its figures.
    pub(crate) fn new(sweeps: [SweepData; 2]) -> Self {
        let mut figures = sweeps.each_ref().map(estimates::accuracy);
        for (figure, side) in figures.iter_mut().zip(["first", "second"]) {
            if let Some(figure) = figure {
                figure.name = format!("{}-{side}", figure.name);
            }
        }
        Self { sweeps, figures }
    }

    /// Returns the accuracy figure of each sweep that has one.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().flatten()
    }

    /// Returns points matched by series and name of the x value.
    ///
    /// Names match where numbers may not: a sweep may write 10 % as 0.1 and another as 10.
    fn matched_points(&self) -> Vec<MatchedPoints<'_>> {
        let mut matches: Vec<MatchedPoints<'_>> = Vec::new();
        for (side, sweep) in self.sweeps.iter().enumerate() {
            for point in sweep.summary.iter().flat_map(|summary| &summary.points) {
                let x = sweep.x.name(point.x);
                let known = matches.iter().position(|known| known.series == point.series && known.x == x);
                let index = known.unwrap_or_else(|| {
                    matches.push(MatchedPoints { series: &point.series, x, points: [None, None] });
                    matches.len() - 1
                });
                matches[index].points[side] = Some(point);
            }
        }
        matches
    }

    /// Returns the accuracies of both sweeps at full precision.
    pub(crate) fn table(&self) -> CsvTable {
        let numbers = |point: Option<&Point>| match point.and_then(Point::headline) {
            Some((_, Estimate { value, low, high })) => [value, low, high].map(|value| value.to_string()),
            None => [const { String::new() }; 3],
        };
        let row = |matched: MatchedPoints<'_>| {
            let key = [matched.series.to_owned(), matched.x];
            key.into_iter().chain(matched.points.into_iter().flat_map(numbers)).collect()
        };
        let columns = ["series", "x_name"].map(str::to_owned).into_iter().chain(
            ["first", "second"]
                .iter()
                .flat_map(|side| ["", "_low", "_high"].map(|part| format!("{side}_accuracy{part}"))),
        );
        CsvTable {
            name: "comparison",
            columns: columns.collect(),
            rows: self.matched_points().into_iter().map(row).collect(),
        }
    }

    fn title(&self) -> String {
        let [first, second] = self.sweeps.each_ref().map(|sweep| sweep.experiment.name.as_str());
        format!("{first} and {second}")
    }

    /// Returns the entry for the list of reports.
    pub(crate) fn entry(&self) -> ReportEntry {
        let questions = self.sweeps.each_ref().map(|sweep| sweep.experiment.question.as_str());
        let runs: usize = self.sweeps.iter().map(|sweep| sweep.runs.len()).sum();
        ReportEntry {
            name: self.title(),
            question: questions.join(" · "),
            verdict: None,
            progress: format!("comparison of two sweeps, {} in total", format::count(runs, "run")),
            settings: None,
        }
    }

    /// Returns the page as one HTML document.
    pub(crate) fn html(&self) -> Result<String, ReportError> {
        let sides = self
            .sweeps
            .iter()
            .zip(&self.figures)
            .map(|(sweep, figure)| SideView::new(sweep, figure.as_ref()));
        let sides = sides.collect::<Result<Vec<_>, _>>()?;
        let row = |matched: MatchedPoints<'_>| {
            let headlines = matched.points.map(|point| point.and_then(Point::headline));
            let estimate = |headline: Option<(Measure, Estimate)>| {
                headline.map_or_else(|| "–".to_owned(), |(_, estimate)| format::percent_estimate(estimate))
            };
            let difference = match headlines {
                // An accuracy and an AUC are different quantities.
                [Some((one, first)), Some((other, second))] if one == other => {
                    format::points(second.value - first.value)
                }
                _ => "–".to_owned(),
            };
            ComparisonRow {
                series: matched.series.to_owned(),
                x: matched.x,
                estimates: headlines.map(estimate).to_vec(),
                difference,
            }
        };
        let rows = self.matched_points().into_iter().map(row).collect();
        templates::render("compare.html", ComparePage { title: self.title(), sides, rows })
    }
}

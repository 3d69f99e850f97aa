//! Published numbers beside the sweep's own.

use prospect_runs::PublishedResults;

use crate::{
    facets::{self, Facet},
    figure::{Content, Figure, Mark, Panel, Scale},
    look::Look,
    sweep::Sweep,
    tables::Table,
    text,
};

/// The reference as a figure of its own, where it is of another measure than the sweep's: on one axis the two would seem to be
/// the same.
pub(crate) fn figure(sweep: &Sweep) -> Option<Figure> {
    let reference = sweep.experiment.reference.as_ref()?;
    let measure = reference.measure.as_deref()?;
    let y = Scale::round(measure, points(sweep, reference).map(|point| point.y), text::fixed);
    let panel = |mut facet: Facet| {
        // Bands stand where their value is, not side by side.
        facet.bands = true;
        let marks = marks(sweep, reference, &facet);
        let facts = points(sweep, reference)
            .filter(|point| facet.at(point.x, 0, 1).is_some())
            .map(|point| format!("{} at {}: {}", point.series, sweep.x.name(point.x), text::plain(point.y)));
        let description =
            format!("{}: {measure}. {}.", reference.label, facts.collect::<Vec<_>>().join("; "));
        let Facet { title, scale: x, .. } = facet;
        (!marks.is_empty()).then(|| Panel {
            title,
            description,
            content: Content::Plot { x, y: y.clone(), marks },
        })
    };
    let facets = facets::sizes(sweep).unwrap_or_else(|| facets::of(sweep));
    let panels: Vec<Panel> = facets.into_iter().filter_map(panel).collect();
    (!panels.is_empty()).then(|| Figure {
        name: "reference".to_owned(),
        title: reference.label.clone(),
        caption: "Published numbers, copied, not measured by this sweep, without intervals. Their measure, models and data are not \
                  those of the figures above: compare which method is ahead and how curves bend, not levels."
            .to_owned(),
        legend: legend(sweep, reference, str::to_owned),
        panels,
    })
}

/// What a legend says of the reference's series.
pub(crate) fn legend(
    sweep: &Sweep,
    reference: &PublishedResults,
    name: impl Fn(&str) -> String,
) -> Vec<(Look, String)> {
    let own = sweep.series.iter().filter(|series| reference.series.contains_key(*series));
    own.map(|series| (Look::Reference(sweep.place(series)), name(series))).collect()
}

/// The reference's marks in a panel.
pub(crate) fn marks(sweep: &Sweep, reference: &PublishedResults, facet: &Facet) -> Vec<Mark> {
    let mut marks = Vec::new();
    for series in &sweep.series {
        let index = sweep.place(series);
        let look = Look::Reference(index);
        let place = |x: f64| facet.at(x, index, sweep.series.len());
        let mut own: Vec<(f64, f64, bool)> = points(sweep, reference)
            .filter(|point| point.series == series)
            .filter_map(|point| Some((place(point.x)?, point.y, facet.joins(point.x))))
            .collect();
        own.sort_by(|a, b| a.0.total_cmp(&b.0));
        let line: Vec<(f64, f64)> =
            own.iter().filter(|(.., joined)| *joined).map(|(x, y, _)| (*x, *y)).collect();
        if line.len() > 1 {
            marks.push(Mark::Line { look, points: line });
        }
        marks.extend(own.iter().map(|(x, y, _)| Mark::Marker { look, x: *x, y: *y }));
    }
    marks
}

/// One published number.
pub(crate) struct Published<'a> {
    series: &'a str,
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// The numbers at x values that the sweep has.
pub(crate) fn points<'a>(
    sweep: &'a Sweep,
    reference: &'a PublishedResults,
) -> impl Iterator<Item = Published<'a>> {
    let all =
        reference.series.iter().flat_map(|(series, points)| points.iter().map(move |point| (series, point)));
    all.filter_map(|(series, (setting, y))| {
        let x = sweep.x.of_setting(setting)?;
        let there = sweep.x.values().iter().any(|(value, _)| *value == x);
        there.then_some(Published { series, x, y: *y })
    })
}

/// All of the reference's numbers.
pub(crate) fn table(sweep: &Sweep) -> Table {
    let row = |reference: &PublishedResults| {
        let measure = reference.measure.clone().unwrap_or_else(|| "accuracy".to_owned());
        let of = |(series, points): (&String, &Vec<(serde_json::Value, f64)>)| {
            let row = |(x, y): &(serde_json::Value, f64)| {
                vec![
                    series.clone(),
                    text::setting(x),
                    y.to_string(),
                    measure.clone(),
                    reference.label.clone(),
                ]
            };
            points.iter().map(row).collect::<Vec<_>>()
        };
        reference.series.iter().flat_map(of).collect::<Vec<_>>()
    };
    Table {
        name: "reference",
        columns: ["series", "x", "value", "measure", "label"].map(str::to_owned).to_vec(),
        rows: sweep.experiment.reference.iter().flat_map(row).collect(),
    }
}

//! Facets: the x axis of estimates, split into panels.
//!
//! Values may form one axis, one axis for each kind of value (`swap 10 %`, `swap 20 %`), or one for
//! each model family, over the number of parameters.

use prospect_runs::ModelSize;

use crate::{
    format,
    render::figure::{Scale, Tick},
    sweep_data::{SweepData, XValue},
};

/// The x axis of one panel.
pub(super) struct Facet {
    /// Panel title; empty if there is only one panel.
    pub(super) title: String,
    pub(super) scale: Scale,
    /// Draws intervals as bands around lines instead of whiskers side by side.
    pub(super) bands: bool,
    positions: Positions,
}

enum Positions {
    /// A single x value: each series has a position of its own.
    BySeries,
    ByValue(Vec<XPosition>),
}

/// An x value and its position.
struct XPosition {
    x: f64,
    /// Position on the scale.
    position: f64,
    /// Connected with its neighbours by a line.
    connected: bool,
}

/// A position with its tick label.
struct LabelledPosition {
    position: XPosition,
    label: String,
}

/// Returns the distance between the whiskers of `count` series at one x value, for a scale of this
/// width.
fn whisker_distance(positions: &[XPosition], count: usize, width: f64) -> f64 {
    let gaps = positions.windows(2).map(|pair| pair[1].position - pair[0].position);
    let max_distance = 0.5 * gaps.fold(f64::INFINITY, f64::min) / count as f64;
    max_distance.min(0.024 * width)
}

impl Facet {
    fn new(title: &str, label: &str, positions: Vec<LabelledPosition>, [low, high]: [f64; 2]) -> Self {
        let margin = if high > low { 0.06 * (high - low) } else { 0.5 };
        let (positions, ticks) = positions
            .into_iter()
            .map(|LabelledPosition { position, label }| {
                let tick = Tick { position: position.position, label };
                (position, tick)
            })
            .unzip();
        let scale = Scale { label: label.to_owned(), low: low - margin, high: high + margin, ticks };
        Self { title: title.to_owned(), scale, bands: false, positions: Positions::ByValue(positions) }
    }

    /// Returns the position of an x value for series `series` of `count`, or `None` if the facet
    /// does not have the value.
    pub(super) fn position(&self, x: f64, series: usize, count: usize) -> Option<f64> {
        let positions = match &self.positions {
            Positions::BySeries => return Some(series as f64),
            Positions::ByValue(positions) => positions,
        };
        let known = positions.iter().find(|known| known.x == x)?;
        if self.bands {
            return Some(known.position);
        }
        let distance = whisker_distance(positions, count, self.scale.high - self.scale.low);
        Some(known.position + (series as f64 - (count as f64 - 1.0) / 2.0) * distance)
    }

    /// Returns true if a line may connect an x value with its neighbours.
    pub(super) fn connects(&self, x: f64) -> bool {
        match &self.positions {
            Positions::BySeries => false,
            Positions::ByValue(positions) => positions.iter().any(|known| known.x == x && known.connected),
        }
    }

    /// Extends the scale at both ends for the whiskers of `count` series.
    fn with_whisker_margin(mut self, count: usize) -> Self {
        let (Positions::ByValue(positions), Scale { low, high, .. }) = (&self.positions, &mut self.scale)
        else {
            return self;
        };
        let ends = [*low, *high];
        // A wider scale increases the distance of whiskers, so the margin is a fixed point.
        for _ in 0..8 {
            let width = *high - *low;
            let half = (count as f64 - 1.0) / 2.0 * whisker_distance(positions, count, width) + 0.02 * width;
            if let (Some(first), Some(last)) = (positions.first(), positions.last()) {
                (*low, *high) = (ends[0].min(first.position - half), ends[1].max(last.position + half));
            }
        }
        self
    }
}

/// Returns the facets of the x axis: one, or one for each kind if values are named `KIND NUMBER`.
pub(super) fn facets(sweep: &SweepData) -> Vec<Facet> {
    if sweep.x.values().len() < 2 {
        let tick = |(index, name): (usize, &String)| Tick { position: index as f64, label: name.clone() };
        let ticks: Vec<_> = sweep.series.iter().enumerate().map(tick).collect();
        let scale = Scale { label: String::new(), low: -0.5, high: ticks.len() as f64 - 0.5, ticks };
        return vec![Facet { title: String::new(), scale, bands: false, positions: Positions::BySeries }];
    }
    let facets = by_kind(sweep).unwrap_or_else(|| {
        let connected = sweep.x.is_numeric();
        let position = |x: &XValue| LabelledPosition {
            position: XPosition { x: x.value, position: sweep.x.position(x.value), connected },
            label: x.name.clone(),
        };
        let positions: Vec<_> = sweep.x.values().iter().map(position).collect();
        let end = |end: Option<&LabelledPosition>| end.map_or(0.0, |end| end.position.position);
        let ends = [end(positions.first()), end(positions.last())];
        vec![Facet::new("", sweep.x.label(), positions, ends)]
    });
    facets.into_iter().map(|facet| facet.with_whisker_margin(sweep.series.len())).collect()
}

/// A value named `KIND NUMBER`.
struct NumberedValue<'a> {
    x: f64,
    number: f64,
    /// The number as written.
    label: &'a str,
}

/// Returns one facet for each kind if the values are named `KIND NUMBER`, such as `swap 10 %`.
///
/// A single value without a number, such as `clean`, precedes the numbers of every kind.
fn by_kind(sweep: &SweepData) -> Option<Vec<Facet>> {
    let mut kinds: Vec<(&str, Vec<NumberedValue<'_>>)> = Vec::new();
    let mut unnumbered: Vec<&XValue> = Vec::new();
    for x in sweep.x.values() {
        let Some(KindAndNumber { kind, number, label }) = kind_and_number(&x.name) else {
            unnumbered.push(x);
            continue;
        };
        let value = NumberedValue { x: x.value, number, label };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, values)) => values.push(value),
            None => kinds.push((kind, vec![value])),
        }
    }
    let several = kinds.iter().all(|(_, values)| values.len() > 1);
    if sweep.x.is_numeric() || kinds.is_empty() || !several || unnumbered.len() > 1 {
        return None;
    }
    let facet = |(kind, mut values): (&str, Vec<NumberedValue<'_>>)| {
        values.sort_by(|a, b| a.number.total_cmp(&b.number));
        let gaps = values.windows(2).map(|pair| pair[1].number - pair[0].number);
        let gap = gaps.fold(f64::INFINITY, f64::min);
        let (first, last) = (values.first()?.number, values.last()?.number);
        let before = unnumbered.iter().map(|x| LabelledPosition {
            position: XPosition { x: x.value, position: first - gap, connected: false },
            label: x.name.clone(),
        });
        let numbered = values.iter().map(|value| LabelledPosition {
            position: XPosition { x: value.x, position: value.number, connected: true },
            label: value.label.to_owned(),
        });
        let positions: Vec<_> = before.chain(numbered).collect();
        let low = positions.first().map_or(first, |first| first.position.position);
        (gap > 0.0).then(|| Facet::new(kind, sweep.x.label(), positions, [low, last]))
    };
    kinds.into_iter().map(facet).collect()
}

/// Parts of a name such as `swap 10 %`.
#[derive(Debug, PartialEq)]
struct KindAndNumber<'a> {
    /// `swap`
    kind: &'a str,
    /// 10
    number: f64,
    /// `10 %`
    label: &'a str,
}

fn kind_and_number(name: &str) -> Option<KindAndNumber<'_>> {
    let digits = name.trim_end_matches(|c: char| c == '%' || c.is_whitespace());
    let at = digits.rfind(char::is_whitespace)?;
    let number = digits[at..].trim().parse().ok().filter(|number: &f64| number.is_finite())?;
    let kind = digits[..at].trim();
    (!kind.is_empty()).then(|| KindAndNumber { kind, number, label: name[at..].trim() })
}

/// Returns one facet for each model family, over the number of parameters on a logarithmic scale.
/// Names that continue after a comma, such as `llama-7b, base`, have facets of their own.
///
/// Returns `None` if the x axis is not of models, or if all have the same size.
pub(super) fn by_model_size(sweep: &SweepData) -> Option<Vec<Facet>> {
    let sizes: Vec<(f64, &ModelSize)> =
        sweep.x.values().iter().filter_map(|x| Some((x.value, sweep.size_at(x.value)?))).collect();
    let logs = || sizes.iter().map(|(_, size)| (size.parameters as f64).log10());
    let ends = [logs().fold(f64::INFINITY, f64::min), logs().fold(f64::NEG_INFINITY, f64::max)];
    if sweep.x.is_numeric() || ends[1] <= ends[0] {
        return None;
    }
    let variant = |x: f64| {
        let name = sweep.x.values().iter().find(|known| known.value == x).map_or("", |known| &known.name);
        name.split_once(", ").map_or("", |(_, variant)| variant)
    };
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for (x, size) in &sizes {
        let kind = (size.family.as_str(), variant(*x));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let facet = |(family, wanted): &(&str, &str)| {
        let is_own = |(x, size): &&(f64, &ModelSize)| size.family == *family && variant(*x) == *wanted;
        let mut own: Vec<_> = sizes.iter().filter(is_own).collect();
        own.sort_by_key(|(_, size)| size.parameters);
        let position = |(x, size): &&(f64, &ModelSize)| LabelledPosition {
            position: XPosition { x: *x, position: (size.parameters as f64).log10(), connected: true },
            label: format::parameter_count(size.parameters),
        };
        let title = match (kinds.len() > 1, *wanted) {
            (false, _) => String::new(),
            (true, "") => (*family).to_owned(),
            (true, variant) => format!("{family}, {variant}"),
        };
        let facet = Facet::new(&title, "parameters", own.iter().map(position).collect(), ends);
        Facet { bands: true, ..facet }
    };
    Some(kinds.iter().map(facet).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_into_kind_and_number() {
        let parts = |kind, number, label| Some(KindAndNumber { kind, number, label });
        assert_eq!(kind_and_number("flip desirable 10 %"), parts("flip desirable", 10.0, "10 %"));
        assert_eq!(kind_and_number("swap\u{a0}0.1"), parts("swap", 0.1, "0.1"));
        for name in ["clean", "10 %", "few up", "32 x", "", " %", "llama nan", "über 7b"] {
            assert_eq!(kind_and_number(name), None, "{name}");
        }
    }
}

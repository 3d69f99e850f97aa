//! The x axis as panels: where the values of the swept setting stand, and between which of them there is something.

use prospect_runs::ModelSize;

use crate::{figure::Scale, sweep::Sweep, text};

/// One panel's part of the x axis.
pub(crate) struct Facet {
    /// Which part it is; empty where it is all.
    pub(crate) title: String,
    pub(crate) scale: Scale,
    /// Whether estimates are bands around their line, or whiskers that stand side by side.
    pub(crate) bands: bool,
    places: Places,
}

enum Places {
    /// One x value: the series stand in its place.
    Series,
    Values(Vec<Place>),
}

struct Place {
    /// The value.
    x: f64,
    /// Where it stands on the scale.
    at: f64,
    /// Whether there is something between it and its neighbours.
    joined: bool,
}

/// How far apart whiskers of `count` series stand that share a value, so that they do not cover each other, on a scale of this
/// width.
fn step(places: &[Place], count: usize, width: f64) -> f64 {
    let gaps = places.windows(2).map(|pair| pair[1].at - pair[0].at);
    let gap = 0.5 * gaps.fold(f64::INFINITY, f64::min) / count as f64;
    gap.min(0.024 * width)
}

impl Facet {
    /// Where a value of the series at place `series` of `count` stands, if this part has the value.
    pub(crate) fn at(&self, x: f64, series: usize, count: usize) -> Option<f64> {
        let places = match &self.places {
            Places::Series => return Some(series as f64),
            Places::Values(places) => places,
        };
        let place = places.iter().find(|place| place.x == x)?;
        if self.bands {
            return Some(place.at);
        }
        let step = step(places, count, self.scale.high - self.scale.low);
        Some(place.at + (series as f64 - (count as f64 - 1.0) / 2.0) * step)
    }

    /// With room at both ends for whiskers of `count` series.
    fn with_room(mut self, count: usize) -> Self {
        let (Places::Values(places), Scale { low, high, .. }) = (&self.places, &mut self.scale) else {
            return self;
        };
        let ends = [*low, *high];
        // The wider the scale, the wider apart they stand; a few rounds settle it.
        for _ in 0..8 {
            let width = *high - *low;
            let half = (count as f64 - 1.0) / 2.0 * step(places, count, width) + 0.02 * width;
            if let (Some(first), Some(last)) = (places.first(), places.last()) {
                (*low, *high) = (ends[0].min(first.at - half), ends[1].max(last.at + half));
            }
        }
        self
    }

    /// Whether a line may lead to a value.
    pub(crate) fn joins(&self, x: f64) -> bool {
        match &self.places {
            Places::Series => false,
            Places::Values(places) => places.iter().any(|place| place.x == x && place.joined),
        }
    }

    fn of(title: &str, label: &str, places: Vec<(Place, String)>, ends: [f64; 2]) -> Self {
        let [low, high] = ends;
        let margin = if high > low { 0.06 * (high - low) } else { 0.5 };
        let (places, ticks) = places
            .into_iter()
            .map(|(place, name)| {
                let tick = (place.at, name);
                (place, tick)
            })
            .unzip();
        let scale = Scale { label: label.to_owned(), low: low - margin, high: high + margin, ticks };
        Self { title: title.to_owned(), scale, bands: false, places: Places::Values(places) }
    }
}

/// The parts of the x axis of a sweep: one, or one for each kind where its values are named by kind and number.
pub(crate) fn of(sweep: &Sweep) -> Vec<Facet> {
    if sweep.x.values().len() < 2 {
        let ticks: Vec<_> =
            sweep.series.iter().enumerate().map(|(index, name)| (index as f64, name.clone())).collect();
        let scale = Scale { label: String::new(), low: -0.5, high: ticks.len() as f64 - 0.5, ticks };
        return vec![Facet { title: String::new(), scale, bands: false, places: Places::Series }];
    }
    let facets = kinds(sweep).unwrap_or_else(|| {
        let joined = sweep.x.is_numeric();
        let place =
            |(x, name): &(f64, String)| (Place { x: *x, at: sweep.x.place(*x), joined }, name.clone());
        let places: Vec<_> = sweep.x.values().iter().map(place).collect();
        let end = |place: Option<&(Place, String)>| place.map_or(0.0, |(place, _)| place.at);
        let ends = [end(places.first()), end(places.last())];
        vec![Facet::of("", sweep.x.label(), places, ends)]
    });
    facets.into_iter().map(|facet| facet.with_room(sweep.series.len())).collect()
}

/// A value named `KIND NUMBER`, without its kind.
struct Numbered<'a> {
    x: f64,
    number: f64,
    shown: &'a str,
}

/// Values named `KIND NUMBER`, such as `swap 10 %`: one part for each kind. A value without a number, such as `clean`, stands
/// before the numbers of every kind.
fn kinds(sweep: &Sweep) -> Option<Vec<Facet>> {
    let mut kinds: Vec<(&str, Vec<Numbered<'_>>)> = Vec::new();
    let mut plain: Vec<(f64, &str)> = Vec::new();
    for (x, name) in sweep.x.values() {
        let Some((kind, number, shown)) = kind_and_number(name) else {
            plain.push((*x, name));
            continue;
        };
        let value = Numbered { x: *x, number, shown };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, values)) => values.push(value),
            None => kinds.push((kind, vec![value])),
        }
    }
    let several = kinds.iter().all(|(_, values)| values.len() > 1);
    if sweep.x.is_numeric() || kinds.is_empty() || !several || plain.len() > 1 {
        return None;
    }
    let facet = |(kind, mut values): (&str, Vec<Numbered<'_>>)| {
        values.sort_by(|a, b| a.number.total_cmp(&b.number));
        let gaps = values.windows(2).map(|pair| pair[1].number - pair[0].number);
        let gap = gaps.fold(f64::INFINITY, f64::min);
        let (first, last) = (values.first()?.number, values.last()?.number);
        let before = plain
            .iter()
            .map(|(x, name)| (Place { x: *x, at: first - gap, joined: false }, (*name).to_owned()));
        let numbered = values.iter().map(|Numbered { x, number, shown }| {
            (Place { x: *x, at: *number, joined: true }, (*shown).to_owned())
        });
        let places: Vec<_> = before.chain(numbered).collect();
        let low = places.first().map_or(first, |(place, _)| place.at);
        (gap > 0.0).then(|| Facet::of(kind, sweep.x.label(), places, [low, last]))
    };
    kinds.into_iter().map(facet).collect()
}

/// `swap 10 %` as `swap`, 10 and `10 %`.
fn kind_and_number(name: &str) -> Option<(&str, f64, &str)> {
    let digits = name.trim_end_matches(|c: char| c == '%' || c.is_whitespace());
    let at = digits.rfind(char::is_whitespace)?;
    let number = digits[at..].trim().parse().ok().filter(|number: &f64| number.is_finite())?;
    let kind = digits[..at].trim();
    (!kind.is_empty()).then(|| (kind, number, name[at..].trim()))
}

/// Models by their number of parameters, on a logarithmic scale, one part for each family; None if the x axis is not of models,
/// or of one size only.
pub(crate) fn sizes(sweep: &Sweep) -> Option<Vec<Facet>> {
    let sizes: Vec<(f64, &ModelSize)> =
        sweep.x.values().iter().filter_map(|(x, _)| Some((*x, sweep.size_at(*x)?))).collect();
    let places = || sizes.iter().map(|(_, size)| (size.parameters as f64).log10());
    let ends = [places().fold(f64::INFINITY, f64::min), places().fold(f64::NEG_INFINITY, f64::max)];
    if sweep.x.is_numeric() || ends[1] <= ends[0] {
        return None;
    }
    let mut families: Vec<&str> = Vec::new();
    for (_, size) in &sizes {
        if !families.contains(&size.family.as_str()) {
            families.push(&size.family);
        }
    }
    let facet = |family: &&str| {
        let mut own: Vec<_> = sizes.iter().filter(|(_, size)| size.family == *family).collect();
        own.sort_by_key(|(_, size)| size.parameters);
        let place = |(x, size): &&(f64, &ModelSize)| {
            let at = (size.parameters as f64).log10();
            (Place { x: *x, at, joined: true }, text::size(size.parameters))
        };
        let title = if families.len() > 1 { *family } else { "" };
        let facet = Facet::of(title, "parameters", own.iter().map(place).collect(), ends);
        Facet { bands: true, ..facet }
    };
    Some(families.iter().map(facet).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(kind_and_number("flip desirable 10 %"), Some(("flip desirable", 10.0, "10 %")));
        assert_eq!(kind_and_number("swap\u{a0}0.1"), Some(("swap", 0.1, "0.1")));
        for name in ["clean", "10 %", "few up", "32 x", "", " %", "llama nan", "über 7b"] {
            assert_eq!(kind_and_number(name), None, "{name}");
        }
    }
}

//! Outcomes of several runs on the same pairs, brought into one order.

use std::collections::BTreeMap;

use super::{Outcome, StatsError};

/// Outcomes by run and pair. Columns follow the pair ids, so that the order of the runs' lists has no effect.
pub(super) struct Grid {
    /// Outcomes of each run, one per pair.
    pub(super) runs: Vec<Vec<f64>>,
    /// For each pair, the number of its prompt.
    pub(super) prompts: Vec<usize>,
    /// How many prompts there are.
    pub(super) prompt_count: usize,
    /// Whether all outcomes are verdicts, or differences of such: no, a tie, or yes.
    pub(super) verdicts: bool,
    /// The pair ids.
    pairs: Vec<String>,
}

impl Grid {
    /// Aligns the runs by pair id.
    pub(super) fn align(runs: &[Vec<Outcome<'_>>]) -> Result<Self, StatsError> {
        let first = runs.first().ok_or(StatsError::Without("runs"))?;
        if first.is_empty() {
            return Err(StatsError::Without("held-out pairs"));
        }
        let mut numbers = BTreeMap::new();
        for outcome in first {
            numbers.insert(outcome.prompt, 0);
        }
        for (number, (_, value)) in numbers.iter_mut().enumerate() {
            *value = number;
        }
        let reference = sorted(first);
        let prompts = reference.iter().filter_map(|outcome| numbers.get(outcome.prompt).copied()).collect();
        let runs: Vec<Vec<f64>> = runs
            .iter()
            .enumerate()
            .map(|(run, outcomes)| values(run, &reference, outcomes))
            .collect::<Result<_, _>>()?;
        let pairs = reference.iter().map(|outcome| outcome.pair.to_owned()).collect();
        let verdicts = runs.iter().flatten().all(|value| [0.0, 0.5, 1.0].contains(value));
        Ok(Self { runs, prompts, prompt_count: numbers.len(), verdicts, pairs })
    }

    /// `self` minus `other`, run by run and pair by pair.
    pub(super) fn minus(mut self, other: &Self) -> Result<Self, StatsError> {
        if self.runs.len() != other.runs.len() {
            return Err(StatsError::Seeds(self.runs.len(), other.runs.len()));
        }
        let longest = self.pairs.len().max(other.pairs.len());
        let pair = |grid: &Self, column: usize| grid.pairs.get(column).cloned();
        if let Some(column) = (0..longest).find(|column| self.pairs.get(*column) != other.pairs.get(*column))
        {
            let pair = pair(&self, column).or_else(|| pair(other, column)).unwrap_or_default();
            return Err(StatsError::Pairs { run: self.runs.len(), pair });
        }
        self.verdicts &= other.verdicts;
        for (run, other) in self.runs.iter_mut().zip(&other.runs) {
            for (value, other) in run.iter_mut().zip(other) {
                *value -= other;
            }
        }
        Ok(self)
    }
}

fn sorted<'a>(outcomes: &[Outcome<'a>]) -> Vec<Outcome<'a>> {
    let mut outcomes = outcomes.to_vec();
    outcomes.sort_by_key(|outcome| outcome.pair);
    outcomes
}

/// The run's values in the order of `reference`, which must hold the same pairs, each once.
fn values(run: usize, reference: &[Outcome<'_>], outcomes: &[Outcome<'_>]) -> Result<Vec<f64>, StatsError> {
    let outcomes = sorted(outcomes);
    let off = |outcome: &Outcome<'_>| StatsError::Pairs { run, pair: outcome.pair.to_owned() };
    for twins in outcomes.windows(2) {
        if let [one, two] = twins
            && one.pair == two.pair
        {
            return Err(off(one));
        }
    }
    let mut found = outcomes.iter();
    let mut values = Vec::with_capacity(reference.len());
    for wanted in reference {
        let outcome =
            found.next().filter(|outcome| outcome.pair == wanted.pair).ok_or_else(|| off(wanted))?;
        if !outcome.value.is_finite() {
            let (pair, value) = (outcome.pair.to_owned(), outcome.value.to_string());
            return Err(StatsError::NotFinite { run, pair, value });
        }
        values.push(outcome.value);
    }
    match found.next() {
        Some(extra) => Err(off(extra)),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pair: &'static str, value: f64) -> Outcome<'static> {
        Outcome { pair, prompt: pair, value }
    }

    #[test]
    fn runs_are_aligned_by_pair() {
        let grid = Grid::align(&[
            vec![outcome("b", 2.0), outcome("a", 1.0)],
            vec![outcome("a", 3.0), outcome("b", 4.0)],
        ])
        .unwrap();
        assert_eq!(grid.runs, [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!((grid.prompts, grid.prompt_count), (vec![0, 1], 2));
    }

    #[test]
    fn what_cannot_be_aligned_is_named() {
        let fault = |runs: &[Vec<Outcome<'_>>]| {
            Grid::align(runs).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let ab = vec![outcome("a", 1.0), outcome("b", 1.0)];
        assert_eq!(fault(&[]), "no estimate without runs");
        assert_eq!(fault(&[vec![]]), "no estimate without held-out pairs");
        assert!(fault(&[ab.clone(), vec![outcome("a", 1.0)]]).starts_with("run 1 lacks the held-out pair b"));
        assert!(fault(&[vec![outcome("a", 1.0)], ab.clone()]).starts_with("run 1 lacks the held-out pair b"));
        assert!(fault(&[vec![outcome("a", 1.0), outcome("a", 1.0)]]).starts_with("run 0 lacks"));
        assert!(fault(&[vec![outcome("a", f64::NAN)]]).starts_with("the outcome of pair a in run 0 is NaN"));
        let (two, one) = (Grid::align(&[ab.clone(), ab.clone()]), Grid::align(&[ab]));
        assert_eq!(two.unwrap().minus(&one.unwrap()).err(), Some(StatsError::Seeds(2, 1)));
    }
}

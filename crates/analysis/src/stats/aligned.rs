//! Observations of several runs on the same pairs, in one order.

use std::collections::BTreeMap;

use super::{Observation, StatsError};

/// Values by run and pair. Columns are sorted by pair id, so the order of the runs' lists has no
/// effect.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AlignedRuns {
    /// Values of each run, one per pair.
    pub(super) runs: Vec<Vec<f64>>,
    /// Index of each pair's prompt.
    pub(super) prompts: Vec<usize>,
    /// Number of prompts.
    pub(super) prompt_count: usize,
    /// Pair ids.
    pairs: Vec<String>,
}

impl AlignedRuns {
    /// Aligns the runs by pair id.
    pub(super) fn align(runs: &[Vec<Observation<'_>>]) -> Result<Self, StatsError> {
        let first = runs.first().ok_or(StatsError::Without("runs"))?;
        if first.is_empty() {
            return Err(StatsError::Without("held-out pairs"));
        }
        let mut indices = BTreeMap::new();
        for observation in first {
            indices.insert(observation.prompt, 0);
        }
        for (index, (_, value)) in indices.iter_mut().enumerate() {
            *value = index;
        }
        let reference = sorted(first);
        let prompts =
            reference.iter().filter_map(|observation| indices.get(observation.prompt).copied()).collect();
        let runs: Vec<Vec<f64>> = runs
            .iter()
            .enumerate()
            .map(|(run, observations)| values(run, &reference, observations))
            .collect::<Result<_, _>>()?;
        let pairs = reference.iter().map(|observation| observation.pair.to_owned()).collect();
        Ok(Self { runs, prompts, prompt_count: indices.len(), pairs })
    }

    /// Returns `self − other`, run by run and pair by pair.
    pub(super) fn minus(&self, other: &Self) -> Result<Self, StatsError> {
        if self.runs.len() != other.runs.len() {
            return Err(StatsError::Seeds(self.runs.len(), other.runs.len()));
        }
        let longest = self.pairs.len().max(other.pairs.len());
        let pair = |aligned: &Self, column: usize| aligned.pairs.get(column).cloned();
        if let Some(column) = (0..longest).find(|column| self.pairs.get(*column) != other.pairs.get(*column))
        {
            let pair = pair(self, column).or_else(|| pair(other, column)).unwrap_or_default();
            return Err(StatsError::Pairs { run: self.runs.len(), pair });
        }
        let subtract = |(run, other): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
            run.iter().zip(other).map(|(value, other)| value - other).collect()
        };
        Ok(Self { runs: self.runs.iter().zip(&other.runs).map(subtract).collect(), ..self.clone() })
    }
}

fn sorted<'a>(observations: &[Observation<'a>]) -> Vec<Observation<'a>> {
    let mut observations = observations.to_vec();
    observations.sort_by_key(|observation| observation.pair);
    observations
}

/// Returns the run's values in the order of `reference`, which must have the same pairs, each once.
fn values(
    run: usize,
    reference: &[Observation<'_>],
    observations: &[Observation<'_>],
) -> Result<Vec<f64>, StatsError> {
    let observations = sorted(observations);
    let mismatch =
        |observation: &Observation<'_>| StatsError::Pairs { run, pair: observation.pair.to_owned() };
    for twins in observations.windows(2) {
        if let [one, two] = twins
            && one.pair == two.pair
        {
            return Err(mismatch(one));
        }
    }
    let mut remaining = observations.iter();
    let mut values = Vec::with_capacity(reference.len());
    for wanted in reference {
        let observation = remaining
            .next()
            .filter(|observation| observation.pair == wanted.pair)
            .ok_or_else(|| mismatch(wanted))?;
        if !observation.value.is_finite() {
            let (pair, value) = (observation.pair.to_owned(), observation.value.to_string());
            return Err(StatsError::NotFinite { run, pair, value });
        }
        values.push(observation.value);
    }
    match remaining.next() {
        Some(extra) => Err(mismatch(extra)),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(pair: &'static str, value: f64) -> Observation<'static> {
        Observation { pair, prompt: pair, value }
    }

    #[test]
    fn runs_are_aligned_by_pair() {
        let aligned = AlignedRuns::align(&[
            vec![observation("b", 2.0), observation("a", 1.0)],
            vec![observation("a", 3.0), observation("b", 4.0)],
        ])
        .unwrap();
        assert_eq!(aligned.runs, [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!((aligned.prompts, aligned.prompt_count), (vec![0, 1], 2));
    }

    #[test]
    fn runs_that_cannot_be_aligned_name_the_pair() {
        let fault = |runs: &[Vec<Observation<'_>>]| {
            AlignedRuns::align(runs).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let ab = vec![observation("a", 1.0), observation("b", 1.0)];
        assert_eq!(fault(&[]), "no estimate without runs");
        assert_eq!(fault(&[vec![]]), "no estimate without held-out pairs");
        assert!(
            fault(&[ab.clone(), vec![observation("a", 1.0)]]).starts_with("run 1 lacks the held-out pair b")
        );
        assert!(
            fault(&[vec![observation("a", 1.0)], ab.clone()]).starts_with("run 1 lacks the held-out pair b")
        );
        assert!(fault(&[vec![observation("a", 1.0), observation("a", 1.0)]]).starts_with("run 0 lacks"));
        assert!(
            fault(&[vec![observation("a", f64::NAN)]]).starts_with("the value of pair a in run 0 is NaN")
        );
        let (two, one) = (AlignedRuns::align(&[ab.clone(), ab.clone()]), AlignedRuns::align(&[ab]));
        assert_eq!(two.unwrap().minus(&one.unwrap()).err(), Some(StatsError::Seeds(2, 1)));
    }
}

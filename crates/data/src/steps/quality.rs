//! Quality counts of each source, on the rows as read. They change nothing.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::transitivity;
use crate::table::{
    feedback::{Feedback, FeedbackRow, Judgement},
    ids::Id,
};

/// Quality counts of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityCounts {
    /// Rows: a completion with a label of its own is one, any other is one in each of its pairs.
    pub rows: u64,
    /// Rows whose completion has no score.
    pub rows_without_score: u64,
    /// Pairs.
    pub pairs: u64,
    /// Pairs with a score on both sides.
    pub scored_pairs: u64,
    /// Scored pairs whose chosen completion has the lower score.
    pub lower_score_preferred: u64,
    /// Scored pairs whose completions have equal scores.
    pub equal_scores: u64,
    /// Pairs of two completions that other pairs of the source order the other way round.
    pub reversed_pairs: u64,
    /// Completions with several rows.
    pub repeated_completions: u64,
    /// Completions that are desirable in one row and undesirable in another.
    pub opposite_labels: u64,
    /// Triples of completions of a prompt that are compared in all three pairs, none of them with a
    /// tie.
    #[serde(default)]
    pub judged_triples: u64,
    /// Judged triples that are intransitive: A over B, B over C and C over A.
    #[serde(default)]
    pub cyclic_triples: u64,
    /// Pairs whose rejected completion is preferred to the chosen one over other pairs of the
    /// prompt, directly (`reversed_pairs`) or in a circle of any length.
    #[serde(default)]
    pub pairs_in_cycles: u64,
}

impl QualityCounts {
    /// Returns whether most of the unequally scored pairs prefer the lower score, which suggests
    /// that the sides or the scores are the wrong way round.
    pub fn prefers_lower_scores(&self) -> bool {
        2 * self.lower_score_preferred > self.scored_pairs - self.equal_scores
    }
}

/// Counts the rows and pairs of each source, by the name in the `source` column. `judgements` are
/// those of the table.
pub(crate) fn count(feedback: &Feedback, judgements: &[Judgement]) -> BTreeMap<String, QualityCounts> {
    // Sources by origin; several origins may share a source.
    let mut names: Vec<&str> = feedback.origins.iter().map(|origin| origin.source.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let of_origin: Vec<u16> = feedback
        .origins
        .iter()
        .map(|origin| names.partition_point(|name| *name < origin.source.as_str()) as u16)
        .collect();
    let source = |row: &FeedbackRow| of_origin[usize::from(feedback.group(row).origin)];
    let mut counts = vec![QualityCounts::default(); names.len()];
    for row in &feedback.rows {
        let counts = &mut counts[usize::from(source(row))];
        counts.rows += 1;
        counts.rows_without_score += u64::from(row.score().is_none());
    }
    for pair in &feedback.pairs {
        let [chosen, rejected] = feedback.sides(pair);
        let counts = &mut counts[usize::from(source(chosen))];
        counts.pairs += 1;
        if let (Some(high), Some(low)) = (chosen.score(), rejected.score()) {
            counts.scored_pairs += 1;
            counts.lower_score_preferred += u64::from(high < low);
            counts.equal_scores += u64::from(high == low);
        }
    }
    for same in judgements.chunk_by(|one, other| one.0 == other.0).filter(|same| same.len() > 1) {
        // The same completion may occur in several sources.
        let mut rows: Vec<(u16, bool)> =
            same.iter().map(|(_, label, index)| (source(&feedback.rows[*index as usize]), *label)).collect();
        rows.sort_unstable();
        for same in rows.chunk_by(|one, other| one.0 == other.0) {
            let counts = &mut counts[usize::from(same[0].0)];
            counts.repeated_completions += u64::from(same.len() > 1);
            counts.opposite_labels += u64::from(same[0].1 != same[same.len() - 1].1);
        }
    }
    // Sorted, so that the pairs of two completions are adjacent.
    let mut pairs: Vec<(Id, Id, u16, bool)> = feedback
        .pairs
        .par_iter()
        .map(|pair| {
            let [chosen, rejected] = feedback.sides(pair);
            let (low, high) = (chosen.id.min(rejected.id), chosen.id.max(rejected.id));
            (low, high, source(chosen), chosen.id == low)
        })
        .collect();
    pairs.par_sort_unstable();
    for same in pairs.chunk_by(|one, other| (one.0, one.1, one.2) == (other.0, other.1, other.2)) {
        if same[0].3 != same[same.len() - 1].3 {
            counts[usize::from(same[0].2)].reversed_pairs += same.len() as u64;
        }
    }
    count_cycles(feedback, source, &mut counts);
    names.into_iter().map(str::to_owned).zip(counts).collect()
}

/// Adds the intransitive triples and pairs of each prompt to the counts of its source.
fn count_cycles(
    feedback: &Feedback,
    source: impl Fn(&FeedbackRow) -> u16 + Sync,
    counts: &mut [QualityCounts],
) {
    // Sorted, so that the pairs of a prompt are adjacent.
    let mut pairs: Vec<(u16, Id, (Id, Id))> = feedback
        .pairs
        .par_iter()
        .map(|pair| {
            let [chosen, rejected] = feedback.sides(pair);
            (source(chosen), feedback.group(chosen).prompt, (chosen.id, rejected.id))
        })
        .collect();
    pairs.par_sort_unstable();
    for of_prompt in pairs.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        let sides: Vec<(Id, Id)> = of_prompt.iter().map(|(.., sides)| *sides).collect();
        let found = transitivity::count(&sides);
        let counts = &mut counts[usize::from(of_prompt[0].0)];
        counts.judged_triples += found.judged_triples;
        counts.cyclic_triples += found.cyclic_triples;
        counts.pairs_in_cycles += found.pairs_in_cycles;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{completion, raw_pair},
        ingest::raw::{RawCompletion, RawGroup},
    };

    fn scored(
        source: &str,
        prompt: &str,
        chosen: (&str, Option<f64>),
        rejected: (&str, Option<f64>),
    ) -> RawGroup {
        let side = |(text, score): (&str, Option<f64>)| RawCompletion { score, ..completion(text, None) };
        let completions = vec![side(chosen), side(rejected)];
        RawGroup { source: source.into(), completions, ..raw_pair(prompt, "", "", None) }
    }

    #[test]
    fn circles_are_counted_by_prompt_and_source() {
        let pair = |source: &str, prompt: &str, chosen, rejected| {
            scored(source, prompt, (chosen, None), (rejected, None))
        };
        let groups = [
            pair("a", "p", "1", "2"),
            pair("a", "p", "2", "3"),
            pair("a", "p", "3", "1"),
            // The same completions of another prompt, and the closing pair from another source.
            pair("a", "q", "1", "2"),
            pair("a", "q", "2", "3"),
            pair("b", "q", "3", "1"),
        ];
        let feedback = Feedback::new(groups);
        let counts = count(&feedback, &feedback.judgements());
        let found = |source: &str| {
            let counts = counts[source];
            [counts.judged_triples, counts.cyclic_triples, counts.pairs_in_cycles]
        };
        assert_eq!((found("a"), found("b")), ([1, 1, 3], [0, 0, 0]));
    }

    #[test]
    fn every_source_has_its_own_counts() {
        let groups = [
            scored("b", "p", ("good", Some(1.0)), ("bad", Some(4.0))),
            scored("a", "p", ("good", Some(4.0)), ("bad", Some(1.0))),
            scored("b", "p", ("bad", Some(4.0)), ("good", Some(1.0))),
            scored("b", "q", ("good", Some(2.0)), ("bad", Some(2.0))),
            scored("b", "q", ("good", None), ("worse", Some(2.0))),
            scored("b", "r", ("good", Some(1.0)), ("bad", Some(3.0))),
        ];
        let feedback = Feedback::new(groups);
        let counts = count(&feedback, &feedback.judgements());
        let expected = QualityCounts { rows: 2, pairs: 1, scored_pairs: 1, ..QualityCounts::default() };
        assert_eq!(counts["a"], expected);
        let expected = QualityCounts {
            rows: 10,
            rows_without_score: 1,
            pairs: 5,
            scored_pairs: 4,
            lower_score_preferred: 2,
            equal_scores: 1,
            reversed_pairs: 2,
            repeated_completions: 3,
            opposite_labels: 2,
            pairs_in_cycles: 2,
            ..QualityCounts::default()
        };
        assert_eq!(counts["b"], expected);
        assert!(counts["b"].prefers_lower_scores() && !counts["a"].prefers_lower_scores());
        assert!(!QualityCounts::default().prefers_lower_scores());
    }
}

//! Intransitive preferences in the rows as read: triples of completions that beat each other in a
//! circle, and pairs that lie in a circle of any length.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::ids::Id;

/// Counts of one prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PromptTransitivity {
    /// Triples of completions that are compared in all three pairs, none of them with a tie.
    pub(super) judged_triples: u64,
    /// Judged triples that form a circle: A over B, B over C, C over A.
    pub(super) cyclic_triples: u64,
    /// Pairs whose rejected completion is, over other pairs, preferred to the chosen one.
    pub(super) pairs_in_cycles: u64,
}

/// Net number of preferences of one completion over another, by both.
type Wins<'a> = BTreeMap<(&'a Id, &'a Id), i64>;

/// Counts the triples and circles among the pairs (chosen, rejected) of one prompt.
pub(super) fn count(pairs: &[(Id, Id)]) -> PromptTransitivity {
    if pairs.len() < 2 {
        return PromptTransitivity::default();
    }
    let mut wins = Wins::new();
    let mut over: BTreeMap<&Id, BTreeSet<&Id>> = BTreeMap::new();
    for (chosen, rejected) in pairs.iter().filter(|(chosen, rejected)| chosen != rejected) {
        *wins.entry((chosen, rejected)).or_default() += 1;
        *wins.entry((rejected, chosen)).or_default() -= 1;
        over.entry(chosen).or_default().insert(rejected);
    }
    let (judged_triples, cyclic_triples) = triples(&wins);
    let reachable: BTreeMap<&Id, BTreeSet<&Id>> =
        over.keys().map(|completion| (*completion, reachable_from(completion, &over))).collect();
    let is_in_cycle = |(chosen, rejected): &&(Id, Id)| {
        chosen != rejected && reachable.get(rejected).is_some_and(|below| below.contains(chosen))
    };
    let pairs_in_cycles = pairs.iter().filter(is_in_cycle).count() as u64;
    PromptTransitivity { judged_triples, cyclic_triples, pairs_in_cycles }
}

/// Counts the triples without ties, and the cyclic ones among them.
fn triples(wins: &Wins<'_>) -> (u64, u64) {
    let mut beaten: BTreeMap<&Id, Vec<&Id>> = BTreeMap::new();
    for ((winner, loser), _) in wins.iter().filter(|(_, net)| **net > 0) {
        beaten.entry(winner).or_default().push(loser);
    }
    let beats = |winner, loser| wins.get(&(winner, loser)).copied().unwrap_or(0);
    let (mut transitive, mut cyclic) = (0, 0);
    for (first, losers) in &beaten {
        for second in losers {
            for third in beaten.get(second).into_iter().flatten() {
                match beats(first, third) {
                    1.. => transitive += 1,
                    // Each circle is found from each of its completions.
                    ..0 => cyclic += 1,
                    0 => {}
                }
            }
        }
    }
    let cyclic = cyclic / 3;
    (transitive + cyclic, cyclic)
}

/// Returns the completions that are below another one over any number of pairs.
fn reachable_from<'a>(start: &'a Id, over: &BTreeMap<&'a Id, BTreeSet<&'a Id>>) -> BTreeSet<&'a Id> {
    let (mut found, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(completion) = open.pop() {
        for below in over.get(completion).into_iter().flatten() {
            if found.insert(*below) {
                open.push(below);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(u8, u8)]) -> [u64; 3] {
        let id = |name: u8| Id::from_hash(blake3::hash(&[name]));
        let pairs: Vec<(Id, Id)> =
            pairs.iter().map(|(chosen, rejected)| (id(*chosen), id(*rejected))).collect();
        let PromptTransitivity { judged_triples, cyclic_triples, pairs_in_cycles } = count(&pairs);
        [judged_triples, cyclic_triples, pairs_in_cycles]
    }

    #[test]
    fn a_ranking_has_triples_and_no_circle() {
        // All six pairs of four ranks, and only the adjacent ones.
        assert_eq!(counts(&[(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]), [4, 0, 0]);
        assert_eq!(counts(&[(1, 2), (2, 3), (3, 4)]), [0, 0, 0]);
    }

    #[test]
    fn a_circle_is_counted_once_whatever_its_direction() {
        assert_eq!(counts(&[(1, 2), (2, 3), (3, 1)]), [1, 1, 3]);
        assert_eq!(counts(&[(2, 1), (3, 2), (1, 3)]), [1, 1, 3]);
        // One circle among the four triples of four completions.
        assert_eq!(counts(&[(1, 2), (2, 3), (3, 1), (4, 1), (4, 2), (4, 3)]), [4, 1, 3]);
    }

    #[test]
    fn a_circle_of_four_has_no_judged_triple() {
        assert_eq!(counts(&[(1, 2), (2, 3), (3, 4), (4, 1), (1, 5)]), [0, 0, 4]);
    }

    #[test]
    fn the_majority_of_repeated_judgements_decides_a_triple() {
        // Two of three prefer 1 to 3: no cyclic triple, but all pairs lie in a circle.
        assert_eq!(counts(&[(1, 2), (2, 3), (1, 3), (1, 3), (3, 1)]), [1, 0, 5]);
        // A tie leaves the triple out.
        assert_eq!(counts(&[(1, 2), (2, 3), (1, 3), (3, 1)]), [0, 0, 4]);
        assert_eq!(counts(&[(1, 2), (2, 1)]), [0, 0, 2]);
    }

    #[test]
    fn a_pair_of_equal_completions_is_no_circle() {
        assert_eq!(counts(&[(1, 1), (1, 1)]), [0, 0, 0]);
    }
}

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use prospect_core::draw::exact_count;

use super::{score_flip::score_gap, *};
use crate::table::{
    corruption::{Corruption, LabelNoise},
    feedback::FeedbackPair,
};
use crate::{
    fixtures::{distinct_pairs, raw_pair},
    ingest::raw::{RawCompletion, RawGroup},
    table::ids::Id,
};

fn completion(text: String, score: Option<f64>, label: Option<bool>) -> RawCompletion {
    RawCompletion { messages: vec![Message::assistant(text)], score, label }
}

/// 120 pairs over 60 prompts, with varying scores and lengths.
fn varied() -> Feedback {
    Feedback::new((0..120).map(|n| {
        let word = |times: usize| vec!["word"; 1 + times % 9].join(" ");
        let completions = vec![
            completion(format!("{n} {}", word(n * 7)), Some((n % 10) as f64), None),
            completion(format!("{n} {} no", word(n * 5 + 3)), Some((n % 4) as f64 - 1.0), None),
        ];
        RawGroup { completions, ..raw_pair(&format!("p{}", n % 60), "", "", None) }
    }))
}

/// Noise settings with one kind, by name, at a rate per class.
fn noise(kind: &str, desirable: f64, undesirable: f64) -> Noise {
    let none = Noise::default();
    match kind {
        "flip" => Noise { flip_desirable: desirable, flip_undesirable: undesirable, ..none },
        "score_flip" => {
            let (desirable, undesirable) = (Some(desirable), Some(undesirable));
            Noise { score_flip: Some(ScoreFlip { temperature: 2.0, desirable, undesirable }), ..none }
        }
        "length_flip" => {
            Noise { length_flip: Some(LengthFlip { desirable, undesirable, temperature: 1.0 }), ..none }
        }
        "shuffle" => Noise { shuffle: Some(Shuffle { desirable, undesirable }), ..none },
        "truncate" => Noise { truncate: Some(Truncate { desirable, undesirable, keep: 0.5 }), ..none },
        _ => Noise { drop_words: Some(DropWords { desirable, undesirable, drop: 0.3 }), ..none },
    }
}

const ROW_KINDS: [&str; 6] = ["flip", "score_flip", "length_flip", "shuffle", "truncate", "drop_words"];

/// Returns the index and the noise of each changed row.
fn changed(feedback: &Feedback) -> BTreeMap<usize, Corruption> {
    let rows = feedback.rows.iter().enumerate();
    rows.filter(|(_, row)| row.corruption != Corruption::default())
        .map(|(index, row)| (index, row.corruption))
        .collect()
}

fn apply(noise: Noise, seed: u64) -> (NoiseCounts, Feedback) {
    let mut feedback = varied();
    let counts = noise.apply(&mut feedback, seed);
    (counts, feedback)
}

proptest! {
    #[test]
    fn every_kind_changes_exact_counts_and_less_of_it_a_subset(
        kind in proptest::sample::select(ROW_KINDS.to_vec()),
        a in 0.0..=1.0f64,
        b in 0.0..=1.0f64,
        seed: u64,
    ) {
        let (low, high) = (a.min(b), a.max(b));
        let (counts, small) = apply(noise(kind, low, 0.25), seed);
        let (_, large) = apply(noise(kind, high, 0.25), seed);
        let (small, large) = (changed(&small), changed(&large));
        prop_assert!(small.iter().all(|(row, corruption)| large.get(row) == Some(corruption)));
        let NoiseKindCounts { desirable, undesirable, .. } = counts.kinds[kind];
        prop_assert_eq!(desirable.changed as usize, exact_count(low, desirable.eligible as usize));
        prop_assert_eq!(undesirable.changed as usize, exact_count(0.25, undesirable.eligible as usize));
        prop_assert_eq!(small.len() as u64, desirable.changed + undesirable.changed);
    }

    #[test]
    fn kinds_after_a_kind_leave_its_rows_alone(seed: u64, later in 0.0..=1.0f64) {
        let first = noise("flip", 0.2, 0.1);
        let both = Noise {
            swap_pairs: later,
            length_flip: noise("length_flip", later, later).length_flip,
            truncate: noise("truncate", later, later).truncate,
            ..first
        };
        let flips = |feedback: &Feedback| {
            let rows = feedback.rows.iter().enumerate();
            rows.filter(|(_, row)| row.corruption.label == LabelNoise::Flip).map(|(index, _)| index).collect::<Vec<_>>()
        };
        prop_assert_eq!(flips(&apply(first, seed).1), flips(&apply(both, seed).1));
    }

    #[test]
    fn flip_counts_are_of_each_class(rate in 0.0..=1.0f64, seed: u64) {
        let mut feedback = distinct_pairs(83);
        let counts = noise("flip", rate, 0.2).apply(&mut feedback, seed);
        prop_assert_eq!(counts.flipped_desirable as usize, exact_count(rate, 83));
        prop_assert_eq!(counts.flipped_undesirable, 17);
        prop_assert_eq!(counts.swapped_pairs, counts.flipped_desirable.max(17));
    }

    #[test]
    fn at_equal_rates_pairs_flip_whole(rate in 0.0..=1.0f64, seed: u64) {
        let mut feedback = distinct_pairs(50);
        let counts = noise("flip", rate, rate).apply(&mut feedback, seed);
        let both_flipped = |pair: &FeedbackPair| feedback.sides(pair).iter().all(|row| row.corruption.is_flipped());
        prop_assert!(feedback.pairs.iter().all(|pair| feedback.is_swapped(pair) == both_flipped(pair)));
        prop_assert_eq!(counts.swapped_pairs, counts.flipped_desirable);
    }

    #[test]
    fn swaps_are_an_exact_number_of_whole_pairs(rate in 0.0..=1.0f64, seed: u64) {
        let (counts, feedback) = apply(Noise { swap_pairs: rate, ..Noise::default() }, seed);
        let swapped = feedback.pairs.iter().filter(|pair| feedback.is_swapped(pair)).count();
        prop_assert_eq!(swapped, exact_count(rate, 120));
        prop_assert_eq!((counts.flipped_desirable, counts.flipped_undesirable), (swapped as u64, swapped as u64));
    }
}

#[test]
fn scores_that_are_close_are_confused() {
    let gap = |feedback: &Feedback, pair: &FeedbackPair| score_gap(feedback, pair).unwrap();
    let mean = |gaps: Vec<f64>| gaps.iter().sum::<f64>() / gaps.len() as f64;
    let (_, feedback) = apply(noise("score_flip", 0.3, 0.3), 1);
    let (swapped, straight): (Vec<_>, Vec<_>) =
        feedback.pairs.iter().partition(|pair| feedback.is_swapped(pair));
    assert_eq!(swapped.len(), 36);
    let gaps = |pairs: Vec<&FeedbackPair>| mean(pairs.into_iter().map(|pair| gap(&feedback, pair)).collect());
    assert!(gaps(swapped) + 2.0 < gaps(straight));

    // Without rates, each pair flips with its own probability.
    let score_flip = Some(ScoreFlip { temperature: 3.0, desirable: None, undesirable: None });
    let mut flips = 0;
    for seed in 0..100 {
        let (counts, feedback) = apply(Noise { score_flip, ..Noise::default() }, seed);
        assert_eq!(counts.kinds["score_flip"].drawn.unwrap().eligible, 120);
        flips += feedback.pairs.iter().filter(|pair| feedback.is_swapped(pair)).count();
    }
    let feedback = varied();
    let expected: f64 =
        feedback.pairs.iter().map(|pair| 100.0 / (1.0 + (gap(&feedback, pair) / 3.0).exp())).sum();
    assert!((flips as f64 - expected).abs() < 4.0 * expected.sqrt(), "{flips} for {expected}");
}

#[test]
fn unscored_pairs_cannot_be_confused_and_this_is_told() {
    let mut feedback = distinct_pairs(10);
    let noise = noise("score_flip", 0.5, 0.0);
    let counts = noise.apply(&mut feedback, 0);
    assert_eq!(
        noise.idle(&counts),
        ["`noise.score_flip.desirable: 0.5` has no effect: there is nothing that it could change"]
    );
}

#[test]
fn only_longer_completions_win_by_length() {
    let (counts, feedback) = apply(noise("length_flip", 1.0, 1.0), 0);
    let longer = |pair: &FeedbackPair| {
        let [chosen, rejected] = feedback.sides(pair).map(|row| row.characters);
        rejected > chosen
    };
    assert!(feedback.pairs.iter().all(|pair| feedback.is_swapped(pair) == longer(pair)));
    assert!(counts.swapped_pairs > 20);

    // Rows without pairs are compared with the median.
    let thumb = |n: usize| RawGroup {
        completions: vec![completion("x".repeat(n), None, Some(n.is_multiple_of(2)))],
        pairs: Vec::new(),
        ..raw_pair(&n.to_string(), "", "", None)
    };
    let mut feedback = Feedback::new((1..=21).map(thumb));
    noise("length_flip", 1.0, 1.0).apply(&mut feedback, 0);
    for row in &feedback.rows {
        assert_eq!(row.label(), if row.characters == 11 { row.original_label } else { row.characters > 11 });
    }
}

#[test]
fn contrary_annotators_turn_whole_prompts_round() {
    let annotators =
        |contrary| Noise { annotators: Some(Annotators { groups: 10, contrary }), ..Noise::default() };
    let (counts, feedback) = apply(annotators(0.3), 5);
    let drawn = counts.kinds["annotators"].drawn.unwrap();
    assert_eq!((drawn.eligible, drawn.changed), (60, 18));
    let prompts = |is_flipped| -> HashSet<Id> {
        let rows = feedback.rows.iter().filter(|row| row.corruption.is_flipped() == is_flipped);
        rows.map(|row| feedback.group(row).prompt).collect()
    };
    assert!(prompts(true).is_disjoint(&prompts(false)));
    assert_eq!((counts.flipped_desirable, counts.flipped_undesirable, counts.swapped_pairs), (36, 36, 36));
    let (_, more) = apply(annotators(0.5), 5);
    assert!(changed(&feedback).keys().all(|row| changed(&more).contains_key(row)));
}

#[test]
fn cycles_close_triangles_one_a_prompt() {
    let ranked = |n: usize, pairs: &[(usize, usize)]| RawGroup {
        completions: (0..4).map(|rank| completion(format!("{n} {rank}"), None, None)).collect(),
        pairs: pairs.to_vec(),
        ..raw_pair(&format!("p{n}"), "", "", None)
    };
    let all = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    let groups = (0..20).map(|n| ranked(n, if n < 15 { &all } else { &all[..1] }));
    let mut feedback = Feedback::new(groups);
    let noise = Noise { cycles: 0.4, ..Noise::default() };
    let counts = noise.apply(&mut feedback, 9);
    let drawn = counts.kinds["cycles"].drawn.unwrap();
    assert_eq!((drawn.eligible, drawn.changed, counts.swapped_pairs), (15, 6, 6));
    for group in (0..15).filter(|group| {
        feedback.pairs[feedback.group_pairs(*group)].iter().any(|pair| feedback.is_swapped(pair))
    }) {
        let over: BTreeSet<(u32, u32)> = feedback.pairs[feedback.group_pairs(group)]
            .iter()
            .map(|pair| {
                let [chosen, rejected] = feedback.sides(pair).map(|row| row.completion);
                if feedback.is_swapped(pair) { (rejected, chosen) } else { (chosen, rejected) }
            })
            .collect();
        let cycles =
            over.iter().filter(|(a, b)| (0..4).any(|c| over.contains(&(*b, c)) && over.contains(&(c, *a))));
        assert!(cycles.count() >= 3, "{over:?}");
    }
}

#[test]
fn shuffled_completions_are_of_other_prompts_whatever_the_rate() {
    let (_, few) = apply(noise("shuffle", 0.2, 0.2), 3);
    let (_, all) = apply(noise("shuffle", 1.0, 1.0), 3);
    assert_eq!((few.donors.len(), all.donors.len()), (48, 240));
    let prompt = |row: u32| all.group(&all.rows[row as usize]).prompt;
    assert!(all.donors.iter().all(|(row, donor)| prompt(*row) != prompt(*donor)));
    assert!(few.donors.iter().all(|gift| all.donors.contains(gift)));
    // A single prompt has no donors.
    let mut one = Feedback::new((0..3).map(|n| raw_pair("p", &n.to_string(), "no", None)));
    let counts = noise("shuffle", 1.0, 1.0).apply(&mut one, 3);
    assert_eq!((one.donors.len(), counts.kinds["shuffle"].desirable.eligible), (0, 0));
}

#[test]
fn names_are_joined_once_each() {
    let corruption = |label, text| Corruption { label, text };
    let plain = Corruption::default();
    assert_eq!(Corruption::column_value(&[plain, plain]), "none");
    assert_eq!(Corruption::column_value(&[corruption(LabelNoise::Flip, TextNoise::Original), plain]), "flip");
    let both =
        [corruption(LabelNoise::Swap, TextNoise::Shuffle), corruption(LabelNoise::Swap, TextNoise::Truncate)];
    assert_eq!(Corruption::column_value(&both), "swap+shuffle+truncate");
}

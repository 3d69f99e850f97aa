//! Quality of the sources, and the groups and times of their rows.

use prospect_data::{Manifest, QualityCounts, Split};
use prospect_report::overview::{ContentBlock, TableCell, grouped};

use super::{share, table};

/// Builds the table of scores that are missing, equal or against the preference, and of judgements
/// that repeat or contradict each other.
pub(super) fn quality(manifest: &Manifest) -> Vec<ContentBlock> {
    if manifest.quality.is_empty() {
        let note = "Not counted: an earlier version prepared this dataset.";
        return vec![ContentBlock::Note(note.to_owned())];
    }
    let scored = manifest.quality.iter().filter(|(_, counts)| counts.rows_without_score < counts.rows);
    let scores = scored.clone().map(|(source, counts)| {
        let QualityCounts { rows, rows_without_score, scored_pairs, .. } = *counts;
        vec![
            TableCell::Text(source.clone()),
            TableCell::count(rows),
            TableCell::count(rows_without_score),
            TableCell::count(scored_pairs),
            TableCell::count(counts.lower_score_preferred),
            share(counts.lower_score_preferred, scored_pairs),
            TableCell::count(counts.equal_scores),
        ]
    });
    let circles = manifest.quality.iter().filter(|(_, counts)| counts.pairs > 0).map(|(source, counts)| {
        vec![
            TableCell::Text(source.clone()),
            TableCell::count(counts.judged_triples),
            TableCell::count(counts.cyclic_triples),
            match counts.judged_triples {
                0 => TableCell::Text("–".to_owned()),
                judged => share(counts.cyclic_triples, judged),
            },
            TableCell::count(counts.pairs_in_cycles),
            share(counts.pairs_in_cycles, counts.pairs),
        ]
    });
    let circle_heads = [
        "source",
        "judged triples",
        "intransitive",
        "share of triples",
        "pairs in circles",
        "share of pairs",
    ];
    let judgements = manifest.quality.iter().map(|(source, counts)| {
        vec![
            TableCell::Text(source.clone()),
            TableCell::count(counts.pairs),
            TableCell::count(counts.reversed_pairs),
            TableCell::count(counts.repeated_completions),
            TableCell::count(counts.opposite_labels),
        ]
    });
    let heads = [
        "source",
        "rows",
        "without score",
        "scored pairs",
        "lower score preferred",
        "share of scored pairs",
        "equal scores",
    ];
    let scores = match scored.count() {
        0 => ContentBlock::Note("No completion has a score.".to_owned()),
        _ => table("Scores, as read", &heads, scores),
    };
    vec![
        scores,
        table(
            "Judgements, as read",
            &["source", "pairs", "in both orders", "completions with several rows", "with both labels"],
            judgements,
        ),
        table("Intransitive preferences, as read", &circle_heads, circles),
    ]
}

/// Builds the table of groups and times in each split, if a source gives them.
pub(super) fn logs(manifest: &Manifest) -> Vec<ContentBlock> {
    let Some(logs) = &manifest.logs else { return Vec::new() };
    let rows = [(Split::Train, &logs.train), (Split::Test, &logs.test)].map(|(split, span)| {
        let time = |time: &Option<String>| TableCell::Text(time.clone().unwrap_or_else(|| "–".to_owned()));
        vec![
            TableCell::Text(split.to_string()),
            TableCell::count(span.groups),
            time(&span.first),
            time(&span.last),
        ]
    });
    let note = format!(
        "Groups in both splits: {}. Input rows without a group: {}, without a time: {}.",
        grouped(logs.groups_in_both_splits),
        grouped(logs.rows_without_group),
        grouped(logs.rows_without_time)
    );
    vec![
        table("Groups and times", &["split", "groups", "first time", "last time"], rows.into_iter()),
        ContentBlock::Note(note),
    ]
}

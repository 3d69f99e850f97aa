//! Warnings about a prepared dataset: settings without effect, and splits that lack something.

use crate::{
    CorrectionCounts, Manifest, Pipeline, RecordField, SplitRule,
    ingest::sources::{LABEL_MINUS_ONE, LABEL_ZERO},
    table::feedback::Feedback,
};

/// Explains an empty training split by the counts of the steps.
pub(super) fn explain_empty(manifest: &Manifest) -> String {
    let Manifest { reading, contradictions, imbalance, .. } = manifest;
    let filtered = match reading.filtered.values().sum::<u64>() {
        0 => String::new(),
        rows => {
            let reasons = reading.filtered.iter().map(|(reason, rows)| format!("{reason} {rows}"));
            format!("{rows} left out ({}), ", reasons.collect::<Vec<_>>().join(", "))
        }
    };
    format!(
        "of {} rows read, {} were rejected, {filtered}{} completions dropped for contradictory labels, {} for a prompt \
         that is in the test split, {} by imbalance; {} pairs are held out",
        reading.read,
        reading.rejected,
        contradictions.dropped,
        manifest.leaked_rows_dropped,
        imbalance.desirable.dropped + imbalance.undesirable.dropped,
        manifest.test.pairs,
    )
}

/// Collects the warnings for the manifest.
pub(super) fn collect(pipeline: &Pipeline, manifest: &Manifest, feedback: &Feedback) -> Vec<String> {
    let Manifest { train, test, imbalance, noise, .. } = manifest;
    let keep = pipeline.imbalance;
    let mut warnings = pipeline.noise.idle(noise);
    warnings.extend(quality(manifest));
    warnings.extend(corrections(manifest.corrections));
    warnings.extend(logs(pipeline, manifest, feedback));
    let mut warn = |condition: bool, text: &str| {
        if condition {
            warnings.push(text.to_owned());
        }
    };
    for (key, share, counts) in [
        ("imbalance.keep_desirable", keep.keep_desirable, imbalance.desirable),
        ("imbalance.keep_undesirable", keep.keep_undesirable, imbalance.undesirable),
    ] {
        let text = format!("`{key}: {share}` has no effect: it rounds to no row");
        warn(share != 1.0 && counts.dropped == 0, &text);
    }
    warn(train.n_desirable == 0, "the training split has no desirable row");
    warn(train.n_undesirable == 0, "the training split has no undesirable row");
    // Feedback that never was pairs is trained on and evaluated as it is.
    warn(
        train.pairs == 0 && manifest.reading.pairs > 0,
        "the training split has no whole pair: paired objectives have nothing to train on",
    );
    warn(
        test.pairs == 0 && manifest.reading.pairs > 0,
        "the test split has no pair: there is no preference accuracy",
    );
    warn(
        test.pairs == 0 && test.n_desirable.min(test.n_undesirable) == 0,
        "the test split has no pair and not both labels: rewards cannot be ranked",
    );
    warnings
}

/// Warns about listed ids without effect.
fn corrections(counts: CorrectionCounts) -> impl Iterator<Item = String> {
    let lists = [
        ("exclude", counts.unmatched_exclude, "no pair or row"),
        ("flip", counts.unmatched_flip, "no pair, and no row outside of pairs"),
    ];
    lists.into_iter().filter(|(_, unmatched, _)| *unmatched > 0).map(|(key, unmatched, nothing)| {
        let verb = if unmatched == 1 { "matches" } else { "match" };
        format!(
            "`{key}`: {unmatched} of its entries {verb} {nothing}; ids are content hashes, so a text that was edited \
             has another one"
        )
    })
}

/// Warns about scores that contradict the pairs, and labels whose
/// meaning is unclear.
fn quality(manifest: &Manifest) -> Vec<String> {
    let mut warnings: Vec<String> = manifest
        .quality
        .iter()
        .filter(|(_, counts)| counts.prefers_lower_scores())
        .map(|(source, counts)| {
            format!(
                "source {source}: the lower score is preferred in {} of {} scored pairs; check that higher scores are \
                 better and that chosen and rejected are not exchanged",
                counts.lower_score_preferred, counts.scored_pairs
            )
        })
        .collect();
    let noted = |note: &str| manifest.reading.noted.get(note).copied().unwrap_or_default();
    let (zeros, minus_ones) = (noted(LABEL_ZERO), noted(LABEL_MINUS_ONE));
    if zeros > 0 && minus_ones > 0 {
        warnings.push(format!(
            "{zeros} labels are 0 and {minus_ones} are -1, and all of them count as undesirable; if 0 means that nobody \
             judged, set `words: {{no_judgement: [0]}}` in the source"
        ));
    }
    warnings
}

/// Warns about sources without rows, groups and times that are missing, and about a split by group
/// that holds out none.
fn logs(pipeline: &Pipeline, manifest: &Manifest, feedback: &Feedback) -> Vec<String> {
    let mut warnings = Vec::new();
    let sources = pipeline.source.as_slice();
    for source in sources.iter().filter(|source| !manifest.quality.contains_key(&source.name)) {
        warnings.push(format!(
            "source {}: none of its rows is used; check `columns`, and `rejected` and `filtered` in the counts",
            source.name
        ));
    }
    for (field, any) in
        [(RecordField::Group, feedback.has_groups()), (RecordField::Time, feedback.has_times())]
    {
        if let (Some(column), false) = (pipeline.source.mapping(field), any) {
            let field: &str = field.into();
            warnings.push(format!("`columns.{field}: {column}` has no effect: no row has it"));
        }
    }
    let Some(logs) = &manifest.logs else { return warnings };
    match pipeline.split {
        SplitRule::ByGroup { test_fraction } if test_fraction > 0.0 && logs.test.groups == 0 => {
            warnings.push(format!(
                "`split.test_fraction: {test_fraction}` holds out no group: it rounds to none of {}",
                logs.train.groups
            ));
        }
        SplitRule::ByTime { .. } if logs.rows_without_time > 0 => warnings.push(format!(
            "{} rows without a time are in the training split, even if they are later than the test split",
            logs.rows_without_time
        )),
        _ => {}
    }
    warnings
}

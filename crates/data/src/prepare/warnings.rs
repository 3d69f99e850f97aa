//! Warnings about a prepared dataset: settings without effect, and splits that lack something.

use crate::{Manifest, Pipeline};

/// Explains an empty training split by the counts of the steps.
pub(super) fn explain_empty(manifest: &Manifest) -> String {
    let Manifest { reading, contradictions, imbalance, .. } = manifest;
    format!(
        "of {} rows read, {} were rejected, {} completions dropped for contradictory labels, {} for a prompt that \
         is in the test split, {} by imbalance; {} pairs are held out",
        reading.read,
        reading.rejected,
        contradictions.dropped,
        manifest.leaked_rows_dropped,
        imbalance.desirable.dropped + imbalance.undesirable.dropped,
        manifest.test.pairs,
    )
}

/// Collects the warnings for the manifest.
pub(super) fn collect(pipeline: &Pipeline, manifest: &Manifest) -> Vec<String> {
    let Manifest { train, test, imbalance, noise, .. } = manifest;
    let keep = pipeline.imbalance;
    let mut warnings = pipeline.noise.idle(noise);
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
    warn(
        train.pairs == 0,
        "the training split has no whole pair: paired objectives have nothing to train on",
    );
    warn(test.pairs == 0, "the test split has no pair: nothing can be evaluated");
    warnings
}

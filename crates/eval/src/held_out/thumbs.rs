//! Held-out thumbs: labelled completions, as sides of pairs or on their own.

use std::collections::{BTreeMap, BTreeSet};

use prospect_analysis::thumbs::{
    PlattScaling, auc, auc_by_prompt, balanced_accuracy_terms, base_rate, brier_skill_terms, log_loss_terms,
    scores,
};
use prospect_core::{draw::Draw, sample::mean};
use prospect_data::BinaryRow;
use prospect_objective::LogProb;
use prospect_runs::{PairOutcome, ThumbOutcome};
use prospect_train::{
    Encoded, Encoder, MicroBatch, PairExample, Policy, ReferenceCache, Settings, TrainError,
    encode_for_evaluation, pack_labelled,
};

use crate::{passes, rows_of};

/// Most training rows of each class that probabilities are fitted on.
const CALIBRATION_ROWS: usize = 64;

/// A held-out completion that is not a side of a pair.
#[derive(Debug)]
pub(super) struct LoneThumb {
    /// Id that is unique among judgements of one completion.
    pub(super) id: String,
    pub(super) row: BinaryRow,
    pub(super) encoded: Encoded,
}

impl LoneThumb {
    /// Outcome with a log-ratio of 0.
    pub(super) fn outcome(&self) -> ThumbOutcome {
        outcome(self.id.clone(), &self.row, self.encoded.completion.len())
    }
}

/// A held-out thumb, and where an evaluation scores it.
#[derive(Debug)]
pub(super) struct HeldOutThumb {
    /// Outcome with a log-ratio of 0.
    pub(super) outcome: ThumbOutcome,
    pub(super) source: ThumbSource,
}

/// Sequence that a thumb is scored by.
#[derive(Debug, Clone, Copy)]
pub(super) enum ThumbSource {
    /// Chosen or rejected side of the pair at an index.
    Side { pair: usize, chosen: bool },
    /// Lone thumb at an index.
    Lone(usize),
}

impl HeldOutThumb {
    /// Returns the outcome with the log-ratio of its sequence.
    pub(super) fn scored(&self, pairs: &[PairOutcome], lone: &[(LogProb, bool)]) -> ThumbOutcome {
        let log_ratio = match self.source {
            ThumbSource::Side { pair, chosen: true } => pairs[pair].chosen,
            ThumbSource::Side { pair, chosen: false } => pairs[pair].rejected,
            ThumbSource::Lone(index) => lone[index].0.ratio(),
        };
        ThumbOutcome { log_ratio, ..self.outcome.clone() }
    }
}

fn outcome(id: String, row: &BinaryRow, tokens: usize) -> ThumbOutcome {
    ThumbOutcome {
        id,
        prompt_id: row.prompt_id.clone(),
        source: row.source.clone(),
        domain: row.domain.clone(),
        group: row.group.clone(),
        desirable: row.label,
        tokens,
        log_ratio: 0.0,
        probability: None,
    }
}

/// Separates rows that are sides of `pairs` from rows outside of any pair. Rows of pairs that are
/// not evaluated are left out.
pub(super) fn split_by_pair(rows: Vec<BinaryRow>, pairs: &[PairExample]) -> (Vec<BinaryRow>, Vec<BinaryRow>) {
    let evaluated: BTreeSet<&str> = pairs.iter().map(|pair| pair.row.pair_id.as_str()).collect();
    let (sides, lone): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.pair_id.is_some());
    let is_evaluated = |row: &BinaryRow| row.pair_id.as_deref().is_some_and(|id| evaluated.contains(id));
    (sides.into_iter().filter(is_evaluated).collect(), lone)
}

/// Gives each row an id that is unique among judgements of one completion, and orders rows by it.
pub(super) fn numbered(mut rows: Vec<(BinaryRow, Encoded)>) -> Vec<LoneThumb> {
    rows.sort_by(|(a, _), (b, _)| (&a.id, a.label).cmp(&(&b.id, b.label)));
    let mut numbering = Numbering::default();
    rows.into_iter().map(|(row, encoded)| LoneThumb { id: numbering.next(&row.id), row, encoded }).collect()
}

/// Returns the thumbs that rows of `pairs` are, in the order of the pairs.
pub(super) fn from_pairs(mut sides: Vec<BinaryRow>, pairs: &[PairExample]) -> Vec<HeldOutThumb> {
    let index: BTreeMap<&str, usize> =
        pairs.iter().enumerate().map(|(index, pair)| (pair.row.pair_id.as_str(), index)).collect();
    let pair_of = |row: &BinaryRow| row.pair_id.as_deref().and_then(|id| index.get(id).copied());
    sides.sort_by(|a, b| (pair_of(a), &a.id, a.label).cmp(&(pair_of(b), &b.id, b.label)));
    let mut numbering = Numbering::default();
    let thumb = |row: BinaryRow| {
        let index = pair_of(&row)?;
        let pair = &pairs[index];
        let chosen = row.completion == pair.row.chosen;
        let encoded = if chosen { &pair.chosen } else { &pair.rejected };
        Some(HeldOutThumb {
            outcome: outcome(numbering.next(&row.id), &row, encoded.completion.len()),
            source: ThumbSource::Side { pair: index, chosen },
        })
    };
    sides.into_iter().filter_map(thumb).collect()
}

/// Counts rows by id.
#[derive(Default)]
struct Numbering(BTreeMap<String, usize>);

impl Numbering {
    /// Returns `id`, with `#2` and so on from its second row.
    fn next(&mut self, id: &str) -> String {
        let count = self.0.entry(id.to_owned()).or_default();
        *count += 1;
        if *count == 1 { id.to_owned() } else { format!("{id}#{count}") }
    }
}

/// Returns the metrics of thumbs. `z0` is the reference point, in nats.
pub(super) fn values(thumbs: &[ThumbOutcome], z0: f64) -> BTreeMap<String, f64> {
    let measures = [
        ("auc", auc(&scores(thumbs))),
        ("auc_within_prompt", mean(auc_by_prompt(thumbs).into_values())),
        ("balanced_accuracy", balanced_accuracy_terms(thumbs, z0).and_then(mean)),
        ("base_rate", base_rate(thumbs)),
    ];
    named(measures)
}

/// Returns the metrics of the thumbs' probabilities.
pub(super) fn probability_values(thumbs: &[ThumbOutcome]) -> BTreeMap<String, f64> {
    named([
        ("log_loss", log_loss_terms(thumbs).and_then(mean)),
        ("brier_skill", brier_skill_terms(thumbs).and_then(mean)),
    ])
}

fn named<const N: usize>(measures: [(&str, Option<f64>); N]) -> BTreeMap<String, f64> {
    let value = |(name, value): (&str, Option<f64>)| Some((format!("eval_thumbs/{name}"), value?));
    measures.into_iter().filter_map(value).collect()
}

/// Training rows that probabilities are fitted on: as many of each class, at most 64 and no more
/// than there are held-out thumbs.
#[derive(Debug)]
pub(super) struct CalibrationRows {
    batches: Vec<MicroBatch>,
    /// Labels in the order of the batches.
    labels: Vec<bool>,
}

impl CalibrationRows {
    /// Draws and encodes rows of the training split; None unless there are two of each class.
    pub(super) fn new(
        rows: Vec<BinaryRow>,
        held_out: usize,
        settings: &Settings,
        encoder: &Encoder<'_>,
    ) -> Result<Option<Self>, TrainError> {
        let of_class = held_out.div_ceil(2).min(CALIBRATION_ROWS);
        let (mut up, mut down): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.label);
        let draw = Draw::new(0, "training rows to fit probabilities on");
        for class in [&mut up, &mut down] {
            class.sort_by(|a, b| a.id.cmp(&b.id));
            draw.keep_lowest(class, of_class, |row| &row.id);
        }
        up.append(&mut down);
        let rows = encode_for_evaluation(up, &settings.objective, encoder)?;
        let labels: Vec<bool> = rows.iter().map(|(row, _)| row.label).collect();
        if labels.iter().filter(|label| **label).count() < 2
            || labels.iter().filter(|label| !**label).count() < 2
        {
            return Ok(None);
        }
        let pack = |rows: &[(BinaryRow, Encoded)]| {
            let labelled: Vec<_> = rows.iter().map(|(row, encoded)| (encoded, row.label)).collect();
            pack_labelled(&labelled, &[])
        };
        let passes = passes(rows.iter().map(|(_, encoded)| rows_of(encoded)));
        let batches = passes.into_iter().map(|pass| pack(&rows[pass])).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Self { batches, labels }))
    }

    /// Fits probabilities for a sample with the class shares of the held-out thumbs, since
    /// imbalance changes those of the training split. None if the policy diverged.
    pub(super) fn fit(
        &self,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
        held_out: &[ThumbOutcome],
    ) -> Result<Option<PlattScaling>, TrainError> {
        let Some(base_rate) = base_rate(held_out) else { return Ok(None) };
        let mut log_ratios = Vec::new();
        for batch in &self.batches {
            log_ratios.extend(
                policy.log_probs(&batch.packed, false, cache)?.iter().map(|log_prob| log_prob.ratio()),
            );
        }
        let scored: Vec<(f64, bool)> = log_ratios.into_iter().zip(self.labels.iter().copied()).collect();
        Ok(PlattScaling::fit(&scored, base_rate))
    }
}

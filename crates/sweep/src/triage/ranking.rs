//! Judgements in the order in which to look at them.

use std::{cmp::Reverse, collections::HashMap};

use prospect_analysis::{
    AnalysisError,
    label_errors::{JudgementKind, KnownFlips, LabelErrors, ScoredJudgement, known_flips, label_errors},
};
use prospect_data::{Fold, ItemKind, Signal, TriageItem, TriageRow};

use super::scores::HeldOutScores;
use crate::SweepError;

/// A judgement with its results.
#[derive(Debug, Clone)]
pub struct RankedItem {
    /// The judgement, with the signals against it.
    pub item: TriageItem,
    /// Fold that held it out; None without a model.
    pub fold: Option<usize>,
    /// Score under the policy of its fold, in nats; None if it was not scored.
    pub score: Option<f64>,
    /// Probability of the opposite label, calibrated on held-out judgements.
    pub disagreement: Option<f64>,
    /// Rank, from 1; None if nothing speaks against the label.
    pub rank: Option<usize>,
}

/// Results for the pairs, or for the thumbs, of a dataset.
#[derive(Debug, Clone)]
pub struct KindResults {
    /// Pairs or thumbs.
    pub kind: ItemKind,
    /// Number of judgements.
    pub judgements: usize,
    /// Number of those with a score.
    pub scored: usize,
    /// Agreement of held-out policies with the labels, and share of flipped ones. Its list of
    /// disagreements is empty: the judgements have them.
    pub errors: LabelErrors,
    /// Success of the ranking in finding the labels that noise flipped; None without such noise.
    pub known_flips: Option<KnownFlips>,
}

/// Judgements of a dataset by rank, the unranked ones last.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Judgements by rank.
    pub items: Vec<RankedItem>,
    /// Results of each kind of judgement; empty without a model.
    pub kinds: Vec<KindResults>,
}

impl RankedItem {
    /// Row of `triage.parquet`.
    pub fn row(&self) -> TriageRow<'_> {
        let Self { item, fold, score, disagreement, rank } = self;
        TriageRow { item, fold: *fold, score: *score, disagreement: *disagreement, rank: *rank }
    }
}

impl Ranking {
    /// Ranks the judgements with signals: the most telling signal first, then by their number.
    pub(super) fn by_signals(items: Vec<TriageItem>) -> Self {
        let unscored = |item| RankedItem { item, fold: None, score: None, disagreement: None, rank: None };
        let mut items: Vec<RankedItem> = items.into_iter().map(unscored).collect();
        items.sort_by(|a, b| by_signals(&a.item).cmp(&by_signals(&b.item)));
        let ranked = items.iter_mut().take_while(|ranked| !ranked.item.signals.is_empty());
        for (rank, item) in (1..).zip(ranked) {
            item.rank = Some(rank);
        }
        Self { items, kinds: Vec::new() }
    }

    /// Ranks the scored judgements by disagreement.
    pub(super) fn by_disagreement(
        items: Vec<TriageItem>,
        folds: &[Fold],
        scores: &HeldOutScores,
    ) -> Result<Self, SweepError> {
        let fold_of: HashMap<&str, usize> = folds
            .iter()
            .flat_map(|fold| fold.prompts.iter().map(|prompt| (prompt.as_str(), fold.index)))
            .collect();
        let scored = |item: TriageItem| {
            let fold = fold_of.get(item.prompt_id.as_str()).copied();
            let score = fold.and_then(|fold| scores.get(fold, &item.content_id));
            RankedItem { item, fold, score, disagreement: None, rank: None }
        };
        let mut items: Vec<RankedItem> = items.into_iter().map(scored).collect();
        let mut kinds = Vec::new();
        for kind in [ItemKind::Pair, ItemKind::Thumb] {
            kinds.extend(judge(&mut items, kind)?);
        }
        items.sort_by(|a, b| {
            let disagreement = |item: &RankedItem| item.disagreement.unwrap_or(f64::NEG_INFINITY);
            let by_disagreement = disagreement(b).total_cmp(&disagreement(a));
            by_disagreement.then_with(|| identity(&a.item).cmp(&identity(&b.item)))
        });
        for (rank, item) in (1..).zip(items.iter_mut().take_while(|item| item.disagreement.is_some())) {
            item.rank = Some(rank);
        }
        Ok(Self { items, kinds })
    }

    /// Counts judgements by signal, the most telling first. A judgement may have several.
    pub fn count(&self, signal: Signal) -> usize {
        self.items.iter().filter(|item| item.item.signals.contains(&signal)).count()
    }
}

/// Order of judgements by their signals: those with signals, the most telling one, most signals.
fn by_signals(item: &TriageItem) -> impl Ord + '_ {
    let signals = &item.signals;
    (signals.is_empty(), signals.first(), Reverse(signals.len()), identity(item))
}

/// Order of judgements that rank alike.
fn identity(item: &TriageItem) -> (ItemKind, &str, bool) {
    (item.kind, &item.id, item.label)
}

/// Adds the disagreement to the scored judgements of a kind; None if there are none.
fn judge(items: &mut [RankedItem], kind: ItemKind) -> Result<Option<KindResults>, SweepError> {
    let judgements = items.iter().filter(|item| item.item.kind == kind).count();
    let indices: Vec<usize> = (0..items.len())
        .filter(|index| items[*index].item.kind == kind && items[*index].score.is_some())
        .collect();
    let scored: Vec<ScoredJudgement<'_>> = indices
        .iter()
        .filter_map(|index| {
            let RankedItem { item, fold, score, .. } = &items[*index];
            Some(ScoredJudgement {
                prompt: &item.prompt_id,
                fold: (*fold)?,
                score: (*score)?,
                label: item.label,
            })
        })
        .collect();
    if scored.is_empty() {
        return Ok(None);
    }
    let of = match kind {
        ItemKind::Pair => JudgementKind::Pairs,
        ItemKind::Thumb => JudgementKind::Thumbs,
    };
    let mut errors = label_errors(&scored, of).map_err(AnalysisError::from)?;
    let disagreements = std::mem::take(&mut errors.disagreement);
    let known: Vec<(&str, f64, bool)> = scored
        .iter()
        .zip(&indices)
        .zip(&disagreements)
        .map(|((judgement, index), disagreement)| {
            (judgement.prompt, *disagreement, items[*index].item.is_flipped)
        })
        .collect();
    let known_flips = known_flips(&known);
    let results = KindResults { kind, judgements, scored: indices.len(), errors, known_flips };
    for (index, disagreement) in indices.into_iter().zip(disagreements) {
        items[index].disagreement = Some(disagreement);
    }
    Ok(Some(results))
}

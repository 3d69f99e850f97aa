//! Results of a triage as plain data: `triage.json`.

use prospect_analysis::label_errors::{FlippedShare, KnownFlips};
use prospect_data::{ItemKind, Signal};
use prospect_runs::Estimate;
use prospect_sweep::{KindResults, Ranking};
use serde::Serialize;
use strum::VariantArray;

/// Results of a triage.
#[derive(Debug, Serialize)]
pub(super) struct TriageSummary {
    /// Dataset.
    pub(super) dataset: String,
    /// Number of judgements: pairs, and thumbs outside of pairs.
    pub(super) judgements: usize,
    /// Number of judgements with a signal against them.
    pub(super) with_signals: usize,
    /// Counts by signal; a judgement may have several.
    pub(super) signals: Vec<SignalCount>,
    /// Results of held-out policies; empty without a model.
    pub(super) policies: Vec<PolicyResults>,
}

/// Number of judgements with a signal.
#[derive(Debug, Serialize)]
pub(super) struct SignalCount {
    pub(super) signal: Signal,
    pub(super) judgements: usize,
}

/// Results of held-out policies for pairs or thumbs.
#[derive(Debug, Serialize)]
pub(super) struct PolicyResults {
    pub(super) kind: ItemKind,
    pub(super) judgements: usize,
    pub(super) scored: usize,
    /// Share of pairs, or AUC of thumbs, that held-out policies rank as labelled.
    pub(super) agreement: Estimate,
    /// Upper end of the 95 % interval of the share of flipped labels; null if there is none. Only
    /// this end is shown, since sure mistakes of the policies raise both.
    pub(super) flipped_at_most: Option<f64>,
    /// Reason why there is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) no_bound: Option<&'static str>,
    /// Success of the ranking in finding labels that noise flipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) known_flips: Option<KnownFlipResults>,
}

/// Success of the ranking in finding labels that noise flipped.
#[derive(Debug, Serialize)]
pub(super) struct KnownFlipResults {
    pub(super) flipped: usize,
    pub(super) auc: Estimate,
    pub(super) precision: Vec<Precision>,
}

/// Share of flipped labels among the most disputed ones.
#[derive(Debug, Serialize)]
pub(super) struct Precision {
    pub(super) top: usize,
    pub(super) share: Estimate,
}

impl TriageSummary {
    pub(super) fn new(dataset: &str, ranking: &Ranking) -> Self {
        let count = |signal: &Signal| SignalCount { signal: *signal, judgements: ranking.count(*signal) };
        Self {
            dataset: dataset.to_owned(),
            judgements: ranking.items.len(),
            with_signals: ranking.items.iter().filter(|item| !item.item.signals.is_empty()).count(),
            signals: Signal::VARIANTS.iter().map(count).collect(),
            policies: ranking.kinds.iter().map(PolicyResults::new).collect(),
        }
    }
}

impl PolicyResults {
    fn new(results: &KindResults) -> Self {
        let KindResults { kind, judgements, scored, errors, known_flips } = results;
        let (flipped_at_most, no_bound) = match errors.flipped {
            FlippedShare::Estimated(share) => (Some(share.high), None),
            FlippedShare::AtChance => {
                (None, Some("held-out policies are not shown to rank better than chance"))
            }
            FlippedShare::Unbounded => {
                (None, Some("held-out policies are nowhere sure enough to tell wrong labels from hard ones"))
            }
        };
        Self {
            kind: *kind,
            judgements: *judgements,
            scored: *scored,
            agreement: errors.agreement,
            flipped_at_most,
            no_bound,
            known_flips: known_flips.as_ref().map(KnownFlipResults::new),
        }
    }

    /// True if policies are not shown to rank better than chance.
    pub(super) fn is_at_chance(&self) -> bool {
        self.agreement.low <= 0.5
    }
}

impl KnownFlipResults {
    fn new(known: &KnownFlips) -> Self {
        let precision = known.precision.iter().map(|(top, share)| Precision { top: *top, share: *share });
        Self { flipped: known.flipped, auc: known.auc, precision: precision.collect() }
    }
}

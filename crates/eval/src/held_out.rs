//! Evaluation on held-out feedback: pairs, thumbs, or both.

mod baselines;
mod pair_metrics;
mod thumbs;

use std::{collections::BTreeMap, ops::Range, path::Path};

use prospect_core::{draw::Draw, sample::mean};
use prospect_data::{Message, Split, read_binary};
use prospect_objective::{BatchLoss, LogProb, mean_log_ratio, reference_point};
use prospect_runs::{PairOutcome, ThumbOutcome};
use prospect_train::{
    Encoded, Encoder, MicroBatch, Objective, PairExample, Policy, ReferenceCache, Role, ScoredBatches,
    Settings, TrainError, encode_for_evaluation, pack_labelled, pack_pairs, partners,
};

use self::{
    baselines::Baselines,
    thumbs::{CalibrationRows, HeldOutThumb, LoneThumb, ThumbSource},
};
use crate::{passes, rows_of, rows_of_pair};

/// Most held-out feedback to evaluate; None for all of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeldOutLimits {
    /// Pairs.
    pub pairs: Option<usize>,
    /// Thumbs that are not sides of pairs.
    pub thumbs: Option<usize>,
}

/// A fixed set of held-out feedback, which no run trains on and noise does not change.
///
/// Pairs are ranked. Thumbs, which are the labelled completions of the binary dataset, are scored:
/// the sides of the pairs, and completions of their own.
#[derive(Debug)]
pub struct HeldOut {
    batches: Vec<MicroBatch>,
    /// Pairs in the order of the batches, with log-ratios of 0.
    pairs: Vec<PairOutcome>,
    thumbs: Vec<HeldOutThumb>,
    /// Completions that are not sides of pairs.
    lone_thumbs: usize,
    /// Training rows that probabilities are fitted on, where there are lone thumbs.
    calibration: Option<CalibrationRows>,
    baselines: Option<Baselines>,
}

/// Results of a policy on the held-out feedback.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Metrics under TRL's names with the prefix `eval_`.
    pub values: BTreeMap<String, f64>,
    /// Log-ratios of every pair.
    pub outcomes: Vec<PairOutcome>,
    /// Log-ratio of every thumb.
    pub thumbs: Vec<ThumbOutcome>,
}

impl HeldOut {
    /// Reads the test split of a prepared dataset, for policies trained with `settings`. Draws
    /// `limits` of the feedback if there is more; noise and imbalance of the training split do not
    /// change the draw.
    pub fn read(
        dataset: &Path,
        limits: HeldOutLimits,
        settings: &Settings,
        encoder: &Encoder<'_>,
    ) -> Result<Self, TrainError> {
        let objective = &settings.objective;
        let mut pairs = PairExample::read_held_out(dataset, objective, encoder)?;
        pairs.sort_by(|a, b| a.row.pair_id.cmp(&b.row.pair_id));
        pairs.dedup_by(|a, b| a.row.pair_id == b.row.pair_id);
        let draw = Draw::new(0, "held-out pairs");
        draw.keep_lowest(&mut pairs, limits.pairs.unwrap_or(usize::MAX), |pair| &pair.row.pair_id);

        let (sides, lone) = thumbs::split_by_pair(read_binary(dataset, Split::Test)?, &pairs);
        let mut lone = thumbs::numbered(encode_for_evaluation(lone, objective, encoder)?);
        Draw::new(0, "held-out thumbs").keep_lowest(
            &mut lone,
            limits.thumbs.unwrap_or(usize::MAX),
            |thumb| &thumb.id,
        );
        if pairs.is_empty() && lone.is_empty() {
            return Err(TrainError::Examples(format!(
                "{}: no held-out pair or completion fits max_prompt_length; raise it",
                dataset.display()
            )));
        }

        let mut batches = pair_batches(&pairs, objective, encoder)?;
        batches.extend(lone_batches(&lone, objective, encoder)?);
        let mut thumbs = thumbs::from_pairs(sides, &pairs);
        thumbs.extend(lone.iter().enumerate().map(|(index, thumb)| HeldOutThumb {
            outcome: thumb.outcome(),
            source: ThumbSource::Lone(index),
        }));
        let has_lone = !lone.is_empty();
        let (calibration, baselines) = if has_lone {
            let rows = read_binary(dataset, Split::Train)?;
            let baselines = Baselines::new(&rows, &lone.iter().map(|thumb| &thumb.row).collect::<Vec<_>>());
            (CalibrationRows::new(rows, thumbs.len(), settings, encoder)?, Some(baselines))
        } else {
            (None, None)
        };
        let pairs = pairs.into_iter().map(|PairExample { row, .. }| PairOutcome {
            pair_id: row.pair_id,
            prompt_id: row.prompt_id,
            source: row.source,
            domain: row.domain,
            group: row.group,
            chosen: 0.0,
            rejected: 0.0,
            own_scores: None,
        });
        let pairs = pairs.collect();
        Ok(Self { batches, pairs, thumbs, lone_thumbs: lone.len(), calibration, baselines })
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Number of thumbs: sides of pairs, and completions of their own.
    pub fn thumbs(&self) -> usize {
        self.thumbs.len()
    }

    /// Number of completions that an evaluation runs, without mismatched ones.
    pub fn completions(&self) -> usize {
        2 * self.pairs.len() + self.lone_thumbs
    }

    /// Evaluates the policy. `at_start` is true before the first optimizer step.
    pub fn evaluate(
        &self,
        policy: &Policy<'_>,
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<Evaluation, TrainError> {
        let ScoredBatches { roles, logps: log_probs, evaluated } =
            policy.score(&self.batches, at_start, cache)?;
        let BatchLoss { loss, metrics, .. } = evaluated;
        let scored = ScoredSequences::new(&roles, &log_probs);
        let (beta, z0) = (policy.beta(), reference_point(&scored.mismatched));

        let mut values: BTreeMap<_, _> =
            metrics.named().map(|(name, value)| (format!("eval_{name}"), value)).collect();
        values.extend([("eval_loss".to_owned(), loss), ("eval_kl".to_owned(), z0)]);
        let unclamped = mean_log_ratio(&scored.mismatched);
        values.extend(unclamped.map(|ratio| ("eval_kl_unclamped".to_owned(), ratio)));
        values.extend(scored.class_metrics(beta));
        let outcome = |(pair, (chosen, rejected)): (&PairOutcome, &(LogProb, LogProb))| PairOutcome {
            chosen: chosen.ratio(),
            rejected: rejected.ratio(),
            own_scores: policy.own_score(*chosen).zip(policy.own_score(*rejected)).map(Into::into),
            ..pair.clone()
        };
        let outcomes: Vec<_> = self.pairs.iter().zip(&scored.pairs).map(outcome).collect();
        values.extend(pair_metrics::values(beta, &scored.pairs, &outcomes));
        let thumbs: Vec<_> = self.thumbs.iter().map(|thumb| thumb.scored(&outcomes, &scored.lone)).collect();
        values.extend(thumbs::values(&thumbs, z0));
        values.extend(self.baselines.iter().flat_map(Baselines::values));
        Ok(Evaluation { values, outcomes, thumbs })
    }

    /// Adds probabilities of a thumb up, fitted on training rows, and their metrics. Does nothing
    /// where all thumbs are sides of pairs.
    pub fn add_probabilities(
        &self,
        policy: &Policy<'_>,
        cache: &ReferenceCache,
        evaluation: &mut Evaluation,
    ) -> Result<(), TrainError> {
        let Some(calibration) = &self.calibration else { return Ok(()) };
        let Some(fit) = calibration.fit(policy, cache, &evaluation.thumbs)? else { return Ok(()) };
        for thumb in &mut evaluation.thumbs {
            thumb.probability = Some(fit.probability(thumb.log_ratio));
        }
        evaluation.values.extend(thumbs::probability_values(&evaluation.thumbs));
        Ok(())
    }
}

/// Log-probs of the held-out sequences by role.
struct ScoredSequences {
    pairs: Vec<(LogProb, LogProb)>,
    /// Completions that are not sides of pairs, with their labels.
    lone: Vec<(LogProb, bool)>,
    mismatched: Vec<LogProb>,
}

impl ScoredSequences {
    fn new(roles: &[Role], log_probs: &[LogProb]) -> Self {
        let (mut chosen, mut rejected, mut lone, mut mismatched) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (role, log_prob) in roles.iter().zip(log_probs) {
            match role {
                Role::Chosen => chosen.push(*log_prob),
                Role::Rejected => rejected.push(*log_prob),
                Role::Unpaired { desirable, .. } => lone.push((*log_prob, *desirable)),
                Role::Mismatched { .. } => mismatched.push(*log_prob),
                Role::Supervised { .. } => {}
            }
        }
        Self { pairs: chosen.into_iter().zip(rejected).collect(), lone, mismatched }
    }

    /// Rewards and log-probs of both classes: of pairs if there are any, else of thumbs.
    ///
    /// Rewards are β times the log-ratio to the reference for every method, whatever its training
    /// objective ranks by, so that methods are comparable.
    fn class_metrics(&self, beta: f64) -> BTreeMap<String, f64> {
        let of_class = |desirable: bool| -> Vec<LogProb> {
            if self.pairs.is_empty() {
                let matching = self.lone.iter().filter(|(_, other)| *other == desirable);
                return matching.map(|(log_prob, _)| *log_prob).collect();
            }
            let side = |(chosen, rejected): &(LogProb, LogProb)| if desirable { *chosen } else { *rejected };
            self.pairs.iter().map(side).collect()
        };
        let (chosen, rejected) = (of_class(true), of_class(false));
        let mean_ratio = |class: &[LogProb]| mean(class.iter().map(|log_prob| log_prob.ratio()));
        let mean_policy = |class: &[LogProb]| mean(class.iter().map(|log_prob| log_prob.policy));
        let margin = || Some(mean_ratio(&chosen)? - mean_ratio(&rejected)?);
        // Share below the reference: the margin may grow while both completions become less likely.
        let fallen = mean(chosen.iter().map(|log_prob| f64::from(u8::from(log_prob.ratio() < 0.0))));
        [
            ("eval_rewards/chosen", mean_ratio(&chosen).map(|ratio| beta * ratio)),
            ("eval_rewards/rejected", mean_ratio(&rejected).map(|ratio| beta * ratio)),
            ("eval_rewards/margins", margin().map(|margin| beta * margin)),
            ("eval_logps/chosen", mean_policy(&chosen)),
            ("eval_logps/rejected", mean_policy(&rejected)),
            ("eval_logps/chosen_fallen", fallen),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }
}

/// Packs pairs, each with its mismatched completion: the chosen completion of another prompt.
fn pair_batches(
    pairs: &[PairExample],
    objective: &Objective,
    encoder: &Encoder<'_>,
) -> Result<Vec<MicroBatch>, TrainError> {
    let feedback = pairs.iter().map(|PairExample { row, .. }| Feedback {
        prompt_id: &row.prompt_id,
        prompt: &row.prompt,
        completion: &row.chosen,
    });
    let feedback: Vec<_> = feedback.collect();
    let mismatched = mismatched(&feedback, objective, encoder)?;
    let pack = |pairs: &[PairExample], mismatched: &[Encoded]| {
        pack_pairs(&pairs.iter().collect::<Vec<_>>(), mismatched)
    };
    pack_in_passes(pairs, &mismatched, rows_of_pair, pack)
}

/// Packs lone thumbs, each with its mismatched completion: that of another prompt.
fn lone_batches(
    lone: &[LoneThumb],
    objective: &Objective,
    encoder: &Encoder<'_>,
) -> Result<Vec<MicroBatch>, TrainError> {
    let feedback = lone.iter().map(|LoneThumb { row, .. }| Feedback {
        prompt_id: &row.prompt_id,
        prompt: &row.prompt,
        completion: &row.completion,
    });
    let feedback: Vec<_> = feedback.collect();
    let mismatched = mismatched(&feedback, objective, encoder)?;
    let pack = |thumbs: &[LoneThumb], mismatched: &[Encoded]| {
        let labelled: Vec<_> = thumbs.iter().map(|thumb| (&thumb.encoded, thumb.row.label)).collect();
        pack_labelled(&labelled, mismatched)
    };
    pack_in_passes(lone, &mismatched, |thumb| rows_of(&thumb.encoded), pack)
}

/// A prompt and the completion that other prompts are mismatched with.
struct Feedback<'a> {
    prompt_id: &'a str,
    prompt: &'a [Message],
    completion: &'a [Message],
}

/// Encodes every prompt with the completion of the next other prompt, for the KL estimate; None
/// where there is no other prompt, or where the two are too long.
fn mismatched(
    feedback: &[Feedback<'_>],
    objective: &Objective,
    encoder: &Encoder<'_>,
) -> Result<Vec<Option<Encoded>>, TrainError> {
    let all: Vec<usize> = (0..feedback.len()).collect();
    let encode = |(index, own): (usize, &Feedback<'_>)| {
        let same_prompt = |other: usize| feedback[other].prompt_id == own.prompt_id;
        match partners(&all, index, same_prompt).next() {
            Some(other) => {
                encoder.encode_after(own.prompt, objective.control(true), feedback[other].completion)
            }
            None => Ok(None),
        }
    };
    feedback.iter().enumerate().map(encode).collect()
}

/// Packs as many items as fit into each pass, with their mismatched completions.
fn pack_in_passes<T>(
    items: &[T],
    mismatched: &[Option<Encoded>],
    rows: impl Fn(&T) -> usize,
    pack: impl Fn(&[T], &[Encoded]) -> Result<MicroBatch, TrainError>,
) -> Result<Vec<MicroBatch>, TrainError> {
    // A mismatched completion shares its prompt with the item.
    let own = |mismatched: &Encoded| mismatched.completion.len();
    let rows = items.iter().zip(mismatched).map(|(item, other)| rows(item) + other.as_ref().map_or(0, own));
    let pack = |pass: Range<usize>| {
        let mismatched: Vec<Encoded> = mismatched[pass.clone()].iter().flatten().cloned().collect();
        pack(&items[pass], &mismatched)
    };
    passes(rows).into_iter().map(pack).collect()
}

//! From token log-probs to what objectives see, and from their gradient back to tokens.

use prospect_dist::{Collective, CollectiveError};
use prospect_model::PackedBatch;
use prospect_objective::{Humanline, LogProb};

/// Log-probs of the sequences of a micro-batch.
pub(crate) struct Scores {
    pub(crate) log_probs: Vec<LogProb>,
    /// With humanline clamping, which scored tokens still have a gradient.
    inside: Option<Vec<bool>>,
}

/// Log-probs of sequences from both models.
pub(crate) fn log_probs(packed: &PackedBatch, policy: Vec<f64>, reference: Vec<f64>) -> Vec<LogProb> {
    policy
        .into_iter()
        .zip(reference)
        .zip(packed.lengths())
        .map(|((policy, reference), tokens)| LogProb { policy, reference, tokens })
        .collect()
}

impl Scores {
    /// As they are, the reference's by sequence.
    pub(crate) fn whole(packed: &PackedBatch, policy_tokens: &[f64], reference: Vec<f64>) -> Self {
        let policy = packed.sum_by_sequence(policy_tokens);
        Self { log_probs: log_probs(packed, policy, reference), inside: None }
    }

    /// With the log-ratio of every token clamped before they are summed. The policy's own log-probs stay as they are; the
    /// reference's are what the clamped log-ratios leave of them.
    pub(crate) fn clamped(
        packed: &PackedBatch,
        policy_tokens: &[f64],
        reference_tokens: &[f64],
        humanline: Humanline,
    ) -> Self {
        let ratios: Vec<f64> = policy_tokens
            .iter()
            .zip(reference_tokens)
            .map(|(policy, reference)| policy - reference)
            .collect();
        let clamped: Vec<f64> = ratios.iter().map(|ratio| humanline.clamp(*ratio)).collect();
        let policy = packed.sum_by_sequence(policy_tokens);
        let ratio = packed.sum_by_sequence(&clamped);
        let reference = policy.iter().zip(ratio).map(|(policy, ratio)| policy - ratio).collect();
        let inside = ratios.into_iter().map(|ratio| humanline.is_inside(ratio)).collect();
        Self { log_probs: log_probs(packed, policy, reference), inside: Some(inside) }
    }

    /// d loss / d log π of every scored token, given that of every sequence.
    pub(crate) fn token_gradient(&self, packed: &PackedBatch, gradient: &[f64]) -> Vec<f64> {
        let of_tokens = packed.scored_sequences().map(|sequence| gradient[sequence]);
        match &self.inside {
            None => of_tokens.collect(),
            Some(inside) => {
                of_tokens.zip(inside).map(|(gradient, inside)| if *inside { gradient } else { 0.0 }).collect()
            }
        }
    }

    /// How many scored tokens still have a gradient, and how many there are. None without clamping.
    pub(crate) fn unclamped(&self) -> Option<(usize, usize)> {
        let inside = self.inside.as_ref()?;
        Some((inside.iter().filter(|inside| **inside).count(), inside.len()))
    }
}

/// What the objective sees of a global batch.
pub(crate) struct Scored {
    /// In the order of the micro-batches.
    pub(crate) log_probs: Vec<LogProb>,
    /// With humanline clamping, how many scored tokens still have a gradient, and how many there are.
    pub(crate) unclamped: Option<(usize, usize)>,
}

impl Scored {
    /// The scores of all members of a group, each of which has run the micro-batches of its part.
    pub(crate) fn of_all(own: &[Scores], group: &dyn Collective) -> Result<Self, CollectiveError> {
        let mut given = Vec::new();
        let mut give = |bits: u64| given.extend_from_slice(&bits.to_le_bytes());
        let counts = own.iter().filter_map(Scores::unclamped);
        let counts = counts.reduce(|(inside, tokens), (more, of)| (inside + more, tokens + of));
        let (inside, tokens) = counts.unwrap_or_default();
        [u64::from(counts.is_some()), inside as u64, tokens as u64].into_iter().for_each(&mut give);
        for LogProb { policy, reference, tokens } in own.iter().flat_map(|scores| &scores.log_probs) {
            [policy.to_bits(), reference.to_bits(), *tokens as u64].into_iter().for_each(&mut give);
        }
        let (mut log_probs, mut unclamped) = (Vec::new(), None);
        for (rank, part) in group.all_gather(given)?.iter().enumerate() {
            let (triples, rest) = part.as_chunks::<24>();
            let mut triples = triples.iter().map(|triple| {
                let number = |at: usize| {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&triple[at..at + 8]);
                    u64::from_le_bytes(bytes)
                };
                [number(0), number(8), number(16)]
            });
            let Some([clamps, inside, tokens]) = triples.next().filter(|_| rest.is_empty()) else {
                return Err(CollectiveError::OutOfStep { rank });
            };
            if clamps > 0 {
                let (before, of) = unclamped.unwrap_or_default();
                unclamped = Some((before + inside as usize, of + tokens as usize));
            }
            log_probs.extend(triples.map(|[policy, reference, tokens]| LogProb {
                policy: f64::from_bits(policy),
                reference: f64::from_bits(reference),
                tokens: tokens as usize,
            }));
        }
        Ok(Self { log_probs, unclamped })
    }
}

#[cfg(test)]
mod tests {
    use prospect_model::Packer;

    use super::*;

    #[test]
    fn tokens_are_clamped_before_they_are_summed() {
        let mut packer = Packer::default();
        let prompt = packer.prompt(&[1]);
        packer.completion(prompt, &[2, 3, 4], true);
        packer.completion(prompt, &[5], true);
        let packed = packer.pack().unwrap();
        let (policy, reference) = ([-1.0, -5.0, -2.0, -3.0], [-4.0, -3.0, -2.25, -3.0]);
        let scores = Scores::clamped(&packed, &policy, &reference, Humanline::default());
        let ratios: Vec<f64> = scores.log_probs.iter().map(|log_prob| log_prob.ratio()).collect();
        assert_eq!(ratios, [1.5 - 1.0 + 0.25, 0.0]);
        assert_eq!(scores.log_probs[0].policy, -8.0);
        assert_eq!(scores.token_gradient(&packed, &[2.0, -1.0]), [0.0, 0.0, 2.0, -1.0]);
        assert_eq!(scores.unclamped(), Some((2, 4)));

        let whole = Scores::whole(&packed, &policy, vec![-9.25, -3.0]);
        assert_eq!(whole.log_probs[0], LogProb { policy: -8.0, reference: -9.25, tokens: 3 });
        assert_eq!(whole.token_gradient(&packed, &[2.0, -1.0]), [2.0, 2.0, 2.0, -1.0]);
    }
}

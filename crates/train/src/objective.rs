//! From the log-probs of micro-batches to one loss over the global batch and back to gradients.

use prospect_objective::{Dpo, Evaluated, Kto, LogProb, Metrics, Pair, Supervised, Unpaired, dpo, kto, sft};

use crate::batches::Role;

/// An objective whose class weights are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Loss {
    Kto(Kto),
    Dpo(Dpo),
    Sft,
}

/// The loss of a global batch, and d loss / d log π of every sequence, in the order given.
pub(crate) fn evaluate(loss: &Loss, roles: &[Role], log_probs: &[LogProb]) -> (f64, Vec<f64>, Metrics) {
    let with = |wanted: fn(&Role) -> bool| -> Vec<usize> {
        (0..roles.len()).filter(|index| wanted(&roles[*index])).collect()
    };
    let mut gradient = vec![0.0; roles.len()];
    let mut finish = |indices: &[usize], evaluated: Evaluated| {
        for (index, value) in indices.iter().zip(&evaluated.gradient) {
            gradient[*index] = *value;
        }
        (evaluated.loss, std::mem::take(&mut gradient), evaluated.metrics)
    };
    match loss {
        Loss::Kto(options) => {
            let (mut indices, mut batch) = (Vec::new(), Vec::new());
            for (index, role) in roles.iter().enumerate() {
                // A held-out pair counts as two rows.
                let (desirable, weight) = match role {
                    Role::Unpaired { desirable, weight } => (*desirable, *weight),
                    Role::Chosen => (true, 1.0),
                    Role::Rejected => (false, 1.0),
                    _ => continue,
                };
                indices.push(index);
                batch.push(Unpaired { log_prob: log_probs[index], desirable, weight });
            }
            let mismatched = with(|role| matches!(role, Role::Mismatched));
            let mismatched: Vec<_> = mismatched.into_iter().map(|index| log_probs[index]).collect();
            finish(&indices, kto(options, &batch, &mismatched))
        }
        Loss::Dpo(options) => {
            let (chosen, rejected) =
                (with(|role| *role == Role::Chosen), with(|role| *role == Role::Rejected));
            let pairs: Vec<_> = chosen
                .iter()
                .zip(&rejected)
                .map(|(c, r)| Pair { chosen: log_probs[*c], rejected: log_probs[*r], weight: 1.0 })
                .collect();
            finish(&[chosen, rejected].concat(), dpo(options, &pairs))
        }
        Loss::Sft => {
            let (mut indices, mut batch) = (Vec::new(), Vec::new());
            for (index, role) in roles.iter().enumerate() {
                if let Role::Supervised { tokens } = role {
                    indices.push(index);
                    batch.push(Supervised { policy: log_probs[index].policy, tokens: *tokens });
                }
            }
            finish(&indices, sft(&batch))
        }
    }
}

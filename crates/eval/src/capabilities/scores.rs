//! Scores of answers to multiple-choice questions.

use std::collections::BTreeMap;

use prospect_data::{AnswerKey, LabelledChoice, MultipleChoice};

/// Share of questions whose right choice has the largest log-prob.
const ACC: &str = "acc";
/// The same with log-probs divided by the length of the choice.
const ACC_NORM: &str = "acc_norm";
/// Share of questions whose one true choice has the largest log-prob.
const MC1: &str = "mc1";
/// Probability of the true choices, as a share of that of all choices.
const MC2: &str = "mc2";
/// Share of questions whose answer is the right one.
pub(super) const EXACT_MATCH: &str = "exact_match";

/// Returns the scores of the answer that `log_probs` of the choices give.
pub(super) fn of_choices(question: &MultipleChoice, log_probs: &[f64]) -> BTreeMap<String, f64> {
    let share = |is_right: bool| f64::from(u8::from(is_right));
    match &question.key {
        AnswerKey::One(right) => {
            let normalised = question.choices.iter().zip(log_probs);
            let normalised: Vec<f64> =
                normalised.map(|(choice, log_prob)| log_prob / length(choice)).collect();
            let acc = share(first_largest(log_probs) == Some(*right));
            let acc_norm = share(first_largest(&normalised) == Some(*right));
            [(ACC.to_owned(), acc), (ACC_NORM.to_owned(), acc_norm)].into()
        }
        AnswerKey::Labelled { mc1, mc2 } => {
            let of_set = |set: &[LabelledChoice]| -> Vec<f64> {
                set.iter().map(|labelled| log_probs[labelled.choice]).collect()
            };
            let chosen = first_largest(&of_set(mc1)).and_then(|index| mc1.get(index));
            let mc1 = share(chosen.is_some_and(|labelled| labelled.is_true));
            [(MC1.to_owned(), mc1), (MC2.to_owned(), true_share(mc2, &of_set(mc2)))].into()
        }
    }
}

/// Length that log-probs are divided by: characters, as in lm-evaluation-harness.
fn length(choice: &str) -> f64 {
    choice.chars().count() as f64
}

/// Returns the index of the largest value, the first of several.
fn first_largest(values: &[f64]) -> Option<usize> {
    let larger = |best: usize, index: usize| if values[index] > values[best] { index } else { best };
    (0..values.len()).reduce(larger)
}

/// Returns the probability of the true choices as a share of that of all.
fn true_share(set: &[LabelledChoice], log_probs: &[f64]) -> f64 {
    // Relative to the largest, so that no probability underflows that matters.
    let largest = log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mass = |wanted: &dyn Fn(&LabelledChoice) -> bool| -> f64 {
        let wanted = set.iter().zip(log_probs).filter(|(choice, _)| wanted(choice));
        wanted.map(|(_, log_prob)| (log_prob - largest).exp()).sum()
    };
    mass(&|choice| choice.is_true) / mass(&|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(texts: &[&str], key: AnswerKey) -> MultipleChoice {
        MultipleChoice { choices: texts.iter().map(|text| (*text).to_owned()).collect(), key }
    }

    #[test]
    fn accuracy_takes_the_largest_log_prob_and_its_first_index_in_a_tie() {
        let question = |right| choices(&["ab", "äbcdéfgh", "cd"], AnswerKey::One(right));
        let scores = |right, log_probs: [f64; 3]| {
            let scores = of_choices(&question(right), &log_probs);
            (scores["acc"], scores["acc_norm"])
        };
        // −2/2, −4/8 and −3/2. Characters count, not bytes.
        assert_eq!(scores(0, [-2.0, -4.0, -3.0]), (1.0, 0.0));
        assert_eq!(scores(1, [-2.0, -4.0, -3.0]), (0.0, 1.0));
        assert_eq!(scores(0, [-2.0, -9.0, -2.0]), (1.0, 1.0));
        assert_eq!(scores(2, [-2.0, -9.0, -2.0]), (0.0, 0.0));
    }

    #[test]
    fn truthfulqa_has_an_accuracy_and_a_mass() {
        let of = |choice, is_true| LabelledChoice { choice, is_true };
        let mc1 = vec![of(0, true), of(2, false)];
        let mc2 = vec![of(0, true), of(1, true), of(2, false)];
        let question = choices(&["a", "b", "c"], AnswerKey::Labelled { mc1, mc2 });
        let log_probs = [0.2_f64, 0.1, 0.6].map(f64::ln);
        let scores = of_choices(&question, &log_probs);
        assert_eq!(scores["mc1"], 0.0);
        assert!((scores["mc2"] - 0.3 / 0.9).abs() < 1e-12, "{scores:?}");
        // Sums of many tokens underflow as probabilities.
        let far = of_choices(&question, &log_probs.map(|log_prob| log_prob - 2000.0));
        assert!((far["mc2"] - 0.3 / 0.9).abs() < 1e-12, "{far:?}");
    }
}

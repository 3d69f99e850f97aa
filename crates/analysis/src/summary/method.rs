//! Description of estimates and differences, as reports print it.

use prospect_runs::{Experiment, Resample};

/// Definition of accuracies, intervals and verdicts.
const METHOD: &str = "Accuracy is the share of held-out pairs whose preferred completion has the larger reward \
    (log-ratio to the reference); ties count half. Without held-out pairs, the AUC takes its place: the probability \
    that a random thumb up has a larger reward than a random thumb down. Intervals are 95 % intervals over held-out prompts and seeds \
    together. The variance between seeds is pooled over all series; a series whose seeds vary significantly more \
    keeps its own. Differences are paired by prompt and seed. A series is better or worse than the baseline if the \
    p-value of their difference, adjusted for all planned comparisons of the sweep (Holm), is below 0.05; otherwise \
    the comparison is inconclusive. A comparison could detect a difference if it would find it in four of five such \
    sweeps. One seed gives no verdict, since it does not show how much seeds vary. Runs with the same results as \
    those of another series do not count as a further comparison.";

/// Definition of changes on capability tests.
const RETENTION: &str = " Changes on capability tests are scores after training minus scores of the weights that \
    training started from, paired by question and seed. A series gains or loses if the p-value of the change, adjusted \
    for all series and tests (Holm), is below 0.05.";

/// Returns the definitions, and what a seed of the experiment varies.
pub(super) fn describe(experiment: &Experiment) -> String {
    let mut text = METHOD.to_owned();
    if experiment.primary.is_some() {
        text.push_str(
            " The primary comparison was named before the runs and is not adjusted for the others.",
        );
    }
    if experiment.search.is_some() {
        text.push_str(" The settings that won the search were trained again under fresh seeds.");
    }
    if !experiment.capabilities.is_empty() {
        text.push_str(RETENTION);
    }
    text.push_str(
        " A seed changes the adapter’s initialisation, the data order and the rows that imbalance and noise draw",
    );
    let is_drawn = |part| experiment.resample.contains(&part);
    if is_drawn(Resample::Prompts) {
        text.push_str(", draws other training prompts");
    }
    if is_drawn(Resample::Sft) {
        text.push_str(" and trains an SFT stage of its own");
    }
    let has_shared_sft = !experiment.stages.is_empty() && !is_drawn(Resample::Sft);
    let fixed = match (is_drawn(Resample::Prompts), has_shared_sft) {
        (false, true) => "; the training prompts and the SFT stage are the same under all seeds",
        (false, false) => "; the training prompts are the same under all seeds",
        (true, true) => "; the SFT stage is the same under all seeds",
        (true, false) => "",
    };
    text.push_str(fixed);
    text.push_str(if fixed.is_empty() { "." } else { ", so intervals do not cover their variance." });
    text
}

#[cfg(test)]
mod tests {
    use prospect_runs::Stage;

    use super::*;
    use crate::summary::tests::experiment;

    #[test]
    fn the_method_names_what_a_seed_varies_and_what_it_does_not() {
        let mut experiment = experiment("dpo");
        experiment.stages = vec![Stage { name: "sft".to_owned(), id: "1".to_owned() }];
        assert!(describe(&experiment).ends_with(
            "draw; the training prompts and the SFT stage are the same under all seeds, so intervals do not cover \
             their variance."
        ));
        experiment.resample = vec![Resample::Prompts];
        assert!(describe(&experiment).contains("draws other training prompts; the SFT stage is the same"));
        experiment.resample = vec![Resample::Prompts, Resample::Sft];
        assert!(
            describe(&experiment)
                .ends_with("draw, draws other training prompts and trains an SFT stage of its own.")
        );
    }
}

//! Baselines for held-out thumbs that need no policy: what the length of a completion or the words
//! of its prompt reach.

use std::collections::{BTreeMap, BTreeSet};

use prospect_analysis::thumbs::auc;
use prospect_data::{BinaryRow, Message};

/// Areas under the ROC curve of scores that ignore the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Baselines {
    /// Score: characters of the completion, more or fewer, whichever ranks training rows better.
    length: Option<f64>,
    /// Score: log-odds of a thumb up given the words of the prompt.
    prompt: Option<f64>,
}

impl Baselines {
    /// Fits both scores on training rows and evaluates them on held-out thumbs.
    pub(super) fn new(training: &[BinaryRow], held_out: &[&BinaryRow]) -> Self {
        let length = |row: &BinaryRow| (characters(&row.completion), row.label);
        let on_training = auc(&training.iter().map(length).collect::<Vec<_>>());
        let on_held_out = auc(&held_out.iter().map(|row| length(row)).collect::<Vec<_>>());
        let oriented = |on_training: f64| {
            let auc = on_held_out?;
            Some(if on_training < 0.5 { 1.0 - auc } else { auc })
        };
        let prompts = PromptWords::new(training);
        let score = |row: &&BinaryRow| (prompts.score(&row.prompt), row.label);
        Self {
            length: on_training.and_then(oriented),
            prompt: auc(&held_out.iter().map(score).collect::<Vec<_>>()),
        }
    }

    /// Returns `eval_thumbs/length_auc` and `eval_thumbs/prompt_auc`.
    pub(super) fn values(&self) -> BTreeMap<String, f64> {
        let Self { length, prompt } = *self;
        let named = [("length_auc", length), ("prompt_auc", prompt)];
        named.into_iter().filter_map(|(name, auc)| Some((format!("eval_thumbs/{name}"), auc?))).collect()
    }
}

fn characters(messages: &[Message]) -> f64 {
    messages.iter().map(|message| message.content.chars().count()).sum::<usize>() as f64
}

/// Naive Bayes over the distinct words of prompts, with Laplace smoothing.
struct PromptWords {
    /// Rows with a word, by label.
    rows: BTreeMap<String, LabelCounts>,
    all: LabelCounts,
}

/// Number of rows of each class.
#[derive(Debug, Clone, Copy, Default)]
struct LabelCounts {
    up: f64,
    down: f64,
}

impl LabelCounts {
    fn add(&mut self, label: bool) {
        *(if label { &mut self.up } else { &mut self.down }) += 1.0;
    }
}

impl PromptWords {
    fn new(rows: &[BinaryRow]) -> Self {
        let mut words = Self { rows: BTreeMap::new(), all: LabelCounts::default() };
        for row in rows {
            words.all.add(row.label);
            for word in distinct_words(&row.prompt) {
                words.rows.entry(word).or_default().add(row.label);
            }
        }
        words
    }

    /// Returns the log-odds of a thumb up, up to a constant. Unknown words do not count.
    fn score(&self, prompt: &[Message]) -> f64 {
        let known = distinct_words(prompt).into_iter().filter_map(|word| self.rows.get(&word));
        let log_odds = |counts: &LabelCounts| {
            let up = (counts.up + 1.0) / (self.all.up + 2.0);
            let down = (counts.down + 1.0) / (self.all.down + 2.0);
            (up / down).ln()
        };
        known.map(log_odds).sum()
    }
}

/// Returns the distinct words of a prompt, in lower case and in order.
fn distinct_words(prompt: &[Message]) -> BTreeSet<String> {
    let words = |message: &Message| -> Vec<String> {
        let words = message.content.split(|character: char| !character.is_alphanumeric());
        words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    prompt.iter().flat_map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prompt: &str, completion: &str, label: bool) -> BinaryRow {
        BinaryRow {
            id: String::new(),
            prompt_id: prompt.to_owned(),
            pair_id: None,
            prompt: vec![Message::user(prompt)],
            completion: vec![Message::assistant(completion)],
            label,
            source: String::new(),
            domain: String::new(),
            score: None,
            original_label: label,
            noise: "none".to_owned(),
            weight: 1.0,
            group: None,
        }
    }

    #[test]
    fn short_completions_are_preferred_where_training_rows_prefer_them() {
        let training = [row("a", "yes", true), row("a", "a long story", false)];
        let held_out = [row("b", "no", true), row("b", "another long story", false)];
        let baselines = Baselines::new(&training, &held_out.each_ref());
        assert_eq!(baselines.length, Some(1.0));
        assert_eq!(baselines.values()["eval_thumbs/length_auc"], 1.0);
    }

    #[test]
    fn words_of_the_prompt_tell_thumbs_where_they_depend_on_the_topic() {
        let training = [row("Fix my bug", "x", false), row("Write a poem", "x", true)];
        let held_out = [row("fix: another bug!", "x", false), row("A poem, please", "x", true)];
        assert_eq!(Baselines::new(&training, &held_out.each_ref()).prompt, Some(1.0));
    }

    #[test]
    fn unknown_words_and_one_class_have_no_say() {
        let training = [row("a", "x", true), row("a", "xy", false)];
        let unknown = [row("b", "x", true), row("c", "x", false)];
        assert_eq!(Baselines::new(&training, &unknown.each_ref()).prompt, Some(0.5));
        let one_class = row("a", "x", true);
        assert_eq!(Baselines::new(&training, &[&one_class]).values(), BTreeMap::new());
    }
}

//! Capability tests: questions with known answers, before and after training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A capability test of an experiment, with counts of its questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CapabilityTest {
    /// Name of the test.
    pub name: String,
    /// Path or address of the questions.
    pub path: String,
    /// Layout of the rows, such as `arc`.
    pub layout: String,
    /// Score that stands for the test in verdicts and figures, such as `acc_norm`.
    pub headline: String,
    /// Rows read.
    pub rows: u64,
    /// Unusable rows by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, u64>,
    /// Questions asked, before those are left out that are too long for a model.
    pub questions: usize,
    /// Hash of questions, examples and options.
    pub fingerprint: String,
}

/// A question of a capability test, answered by the start and by the trained policy: a line of
/// `questions.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionOutcome {
    /// Name of the test.
    pub test: String,
    /// Content hash of the question, the same in every run.
    pub id: String,
    /// Content hash of the question's text. Questions with the same text are one draw.
    pub text_id: String,
    /// Subject within the test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Answer of the weights that training started from.
    pub start: QuestionAnswer,
    /// Answer of the trained policy.
    pub policy: QuestionAnswer,
}

/// Answer of a model to a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QuestionAnswer {
    /// Scores by name, from 0 to 1: `acc`, `acc_norm`, `mc1`, `mc2` or `exact_match`.
    pub scores: BTreeMap<String, f64>,
    /// Log-prob of each choice, in nats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_probs: Vec<f64>,
    /// Generated text, up to a stop text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// Answer found in the generated text, as it was compared; None if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

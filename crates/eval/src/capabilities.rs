//! Capability tests: questions with known answers, asked before and after training.
//!
//! Preference training may cost a model knowledge or skill (the "alignment tax"). The tests measure
//! it: multiple choice by log-probs, and texts compared with an exact answer. Prompts, tokens and
//! scores follow lm-evaluation-harness.
//!
//! Every question is answered by the reference, which is the model that training started from, and
//! by the policy. Runs of one start share its answers through the cache of the reference.

mod encode;
mod extract;
mod load;
mod scores;

use std::collections::BTreeMap;

use prospect_core::sample::mean;
use prospect_data::{Answer, Question};
use prospect_model::{
    Adapter, ChatTemplate, Generated, GenerationConfig, Packer, Prompt, Sampling, Tokenizer,
};
use prospect_runs::{GenerationMode, QuestionAnswer, QuestionOutcome};
use prospect_train::{Policy, ReferenceCache, TrainError};

use crate::{GenerationOptions, passes};
use encode::{EncodedQuestion, encode};
use extract::{before_stop, normalised, right_text};

pub use extract::Extractor;
pub use load::{ExactOptions, LoadedTest, ShotsRequest, TestRequest, TestTask};

/// Tests whose questions have been tokenized for a model.
#[derive(Debug)]
pub struct Capabilities<'a> {
    tests: Vec<EncodedTest<'a>>,
    tokenizer: &'a Tokenizer,
    eos_token_ids: &'a [u32],
    /// Least number of prompts to continue at the same time.
    micro_batch_size: usize,
}

/// A test with the tokens of its questions.
#[derive(Debug)]
struct EncodedTest<'a> {
    test: &'a LoadedTest,
    questions: Vec<EncodedQuestion<'a>>,
    /// Questions that are left out since they are too long for the model.
    too_long: usize,
}

/// Numbers of questions of a test that a model is asked, and that are too long for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedQuestions<'a> {
    /// Name of the test.
    pub test: &'a str,
    /// Questions asked.
    pub asked: usize,
    /// Questions left out.
    pub too_long: usize,
}

/// Tokens of a question, to estimate costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuestionShape {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of each choice; none if a text is generated.
    pub choices: Vec<usize>,
    /// Most tokens to generate.
    pub generated: usize,
}

/// Answers of a policy and of the model that it started from.
#[derive(Debug, Clone, PartialEq)]
pub struct CapabilityResults {
    /// Mean scores of the policy, as `eval_capabilities/TEST/SCORE`.
    pub values: BTreeMap<String, f64>,
    /// Answers to every question, by test.
    pub outcomes: Vec<QuestionOutcome>,
}

/// Answers to one question, of the start and of the policy.
struct AnswerPair {
    start: QuestionAnswer,
    policy: QuestionAnswer,
}

impl<'a> Capabilities<'a> {
    /// Tokenizes the questions. Those that exceed `max_positions` tokens are left out.
    pub fn new(
        tests: &'a [LoadedTest],
        tokenizer: &'a Tokenizer,
        template: &'a ChatTemplate,
        max_positions: usize,
        micro_batch_size: usize,
    ) -> Result<Self, TrainError> {
        let encoded = |test: &'a LoadedTest| {
            let questions = encode(test, tokenizer, template)?;
            let all = questions.len();
            let fits =
                |question: &EncodedQuestion<'_>| question.positions(test.max_new_tokens()) <= max_positions;
            let questions: Vec<_> = questions.into_iter().filter(fits).collect();
            let too_long = all - questions.len();
            Ok::<_, TrainError>(EncodedTest { test, questions, too_long })
        };
        let tests = tests.iter().map(encoded).collect::<Result<_, _>>()?;
        Ok(Self { tests, tokenizer, eos_token_ids: template.stop_token_ids(), micro_batch_size })
    }

    /// Returns the numbers of questions that are asked and left out, by test.
    pub fn counts(&self) -> impl Iterator<Item = AskedQuestions<'_>> {
        self.tests.iter().map(|EncodedTest { test, questions, too_long }| AskedQuestions {
            test: &test.record.name,
            asked: questions.len(),
            too_long: *too_long,
        })
    }

    /// Returns the tokens of all questions.
    pub fn shapes(&self) -> impl Iterator<Item = QuestionShape> {
        self.tests.iter().flat_map(|encoded| {
            encoded.questions.iter().map(move |question| QuestionShape {
                prompt: question.prompt.len(),
                choices: question.choices.iter().map(Vec::len).collect(),
                generated: encoded.test.max_new_tokens(),
            })
        })
    }

    /// Keeps the first `count` questions of every test, to measure their duration.
    pub fn truncate(&mut self, count: usize) {
        for test in &mut self.tests {
            test.questions.truncate(count);
        }
    }

    /// Asks the policy and its reference all questions. Before the first step (`at_start`), both are
    /// the same model, so only the reference is asked.
    pub fn evaluate(
        &self,
        policy: &Policy<'_>,
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<CapabilityResults, TrainError> {
        let (mut values, mut outcomes) = (BTreeMap::new(), Vec::new());
        for encoded in &self.tests {
            let answers = match &encoded.test.task {
                TestTask::Choices => encoded.choose(policy, at_start, cache)?,
                TestTask::Exact(options) => self.write_texts(encoded, options, policy, at_start, cache)?,
            };
            let name = &encoded.test.record.name;
            for score in score_names(&answers) {
                let scores = answers.iter().filter_map(|answer| answer.policy.scores.get(score)).copied();
                values.extend(mean(scores).map(|mean| (format!("eval_capabilities/{name}/{score}"), mean)));
            }
            outcomes.extend(encoded.questions.iter().zip(answers).map(|(question, answers)| {
                let Question { id, text_id, subject, .. } = question.question;
                let AnswerPair { start, policy } = answers;
                let (id, text_id, subject) = (id.clone(), text_id.clone(), subject.clone());
                QuestionOutcome { test: name.clone(), id, text_id, subject, start, policy }
            }));
        }
        Ok(CapabilityResults { values, outcomes })
    }

    /// Generates an answer to every question and compares it with the right one.
    fn write_texts(
        &self,
        encoded: &EncodedTest<'_>,
        options: &ExactOptions,
        policy: &Policy<'_>,
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<Vec<AnswerPair>, TrainError> {
        let questions = encoded.questions.iter();
        let prompts: Vec<Prompt<'_>> = questions
            .map(|question| Prompt { id: &question.question.id, tokens: &question.prompt })
            .collect();
        let longest = prompts.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0);
        let bytes = policy.decoder.cache_bytes(longest + options.max_new_tokens);
        let generation = GenerationOptions {
            prompts: prompts.len(),
            max_new_tokens: options.max_new_tokens,
            mode: GenerationMode::Greedy,
        };
        let config = GenerationConfig {
            sampling: Sampling::Greedy,
            max_new_tokens: options.max_new_tokens,
            eos_token_ids: self.eos_token_ids.to_vec(),
            seed: 0,
            batch_size: generation.prompts_at_once(bytes, self.micro_batch_size),
        };
        let by_start = cache.completions(policy.reference_name, &policy.reference, &prompts, &config)?;
        let by_policy = if at_start {
            by_start.clone()
        } else {
            policy.decoder.generate(&prompts, &config, Adapter::On)?
        };
        let answer = |question: &Question, generated: &Generated| -> Result<QuestionAnswer, TrainError> {
            let text = self.tokenizer.decode(&generated.tokens, false)?;
            let text = before_stop(&text, &options.stop);
            let answer = options.extract.find(text).map(|answer| normalised(&answer));
            let is_right =
                answer.as_deref() == Some(normalised(right_text(question.right_answer())).as_str());
            Ok(QuestionAnswer {
                scores: [(scores::EXACT_MATCH.to_owned(), f64::from(u8::from(is_right)))].into(),
                log_probs: Vec::new(),
                completion: Some(text.to_owned()),
                answer,
            })
        };
        let pairs = encoded.questions.iter().zip(by_start.iter().zip(&by_policy));
        pairs
            .map(|(question, (start, policy))| {
                let question = question.question;
                Ok(AnswerPair { start: answer(question, start)?, policy: answer(question, policy)? })
            })
            .collect()
    }
}

impl EncodedTest<'_> {
    /// Scores the choices of every question by their log-probs.
    fn choose(
        &self,
        policy: &Policy<'_>,
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<Vec<AnswerPair>, TrainError> {
        let mut answers = Vec::with_capacity(self.questions.len());
        for pass in passes(self.questions.iter().map(EncodedQuestion::rows)) {
            let questions = &self.questions[pass];
            let mut packer = Packer::default();
            for question in questions {
                let prompt = packer.add_prompt(&question.prompt);
                for choice in &question.choices {
                    packer.add_completion(prompt, choice, false);
                }
            }
            let log_probs = policy.log_probs(&packer.pack()?, at_start, cache)?;
            let mut remaining = log_probs.as_slice();
            for question in questions {
                let (own, others) = remaining.split_at(question.choices.len());
                remaining = others;
                let Answer::Choice(choice) = &question.question.answer else { continue };
                let answer = |log_probs: Vec<f64>| QuestionAnswer {
                    scores: scores::of_choices(choice, &log_probs),
                    log_probs,
                    ..QuestionAnswer::default()
                };
                answers.push(AnswerPair {
                    start: answer(own.iter().map(|log_prob| log_prob.reference).collect()),
                    policy: answer(own.iter().map(|log_prob| log_prob.policy).collect()),
                });
            }
        }
        Ok(answers)
    }
}

/// Returns the names of the scores that answers have.
fn score_names(answers: &[AnswerPair]) -> Vec<&String> {
    answers.first().map(|answer| answer.policy.scores.keys().collect()).unwrap_or_default()
}

//! Questions to tokens, as lm-evaluation-harness makes them.
//!
//! Context and choice are tokenized together, and the tokens after those of the context alone are
//! the choice's. White space at the end of a context belongs to its choices. A text begins with the
//! beginning-of-sequence token if the tokenizer adds one.

use prospect_data::{Answer, DataError, Question};
use prospect_model::{ChatMessage, ChatTemplate, ModelError, Tokenizer};
use prospect_train::TrainError;
use rayon::prelude::*;

use super::LoadedTest;

/// Text between a question and its answer.
const DELIMITER: &str = " ";

/// A question with its tokens.
#[derive(Debug)]
pub(super) struct EncodedQuestion<'a> {
    pub(super) question: &'a Question,
    /// Tokens of examples and question.
    pub(super) prompt: Vec<u32>,
    /// Tokens of each choice; none if a text is to be generated.
    pub(super) choices: Vec<Vec<u32>>,
}

impl EncodedQuestion<'_> {
    /// Returns the rows of a pass over the question and its choices.
    pub(super) fn rows(&self) -> usize {
        self.prompt.len() + self.choices.iter().map(|choice| choice.len() - 1).sum::<usize>()
    }

    /// Returns the positions of its longest sequence. The last token needs none.
    pub(super) fn positions(&self, max_new_tokens: usize) -> usize {
        let longest = self.choices.iter().map(Vec::len).max().unwrap_or(max_new_tokens);
        (self.prompt.len() + longest).saturating_sub(1)
    }
}

/// Tokenizes all questions of a test.
pub(super) fn encode<'a>(
    test: &'a LoadedTest,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
) -> Result<Vec<EncodedQuestion<'a>>, TrainError> {
    let encode = |question: &'a Question| encode_question(test, question, tokenizer, template);
    let encoded: Vec<Result<_, TrainError>> = test.questions.par_iter().map(encode).collect();
    encoded.into_iter().collect()
}

fn encode_question<'a>(
    test: &LoadedTest,
    question: &'a Question,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
) -> Result<EncodedQuestion<'a>, TrainError> {
    let mut asked: String = test
        .shots_of(question)
        .map(|shot| [&shot.prompt, DELIMITER, shot.right_answer(), "\n\n"].concat())
        .collect();
    asked.push_str(&question.prompt);
    let description = question.description.as_deref().unwrap_or_default();
    let context = if test.chat {
        chat(description, &asked, tokenizer, template)?
    } else {
        [description, &asked].concat()
    };
    // Under a chat template, the answer is the beginning of a turn.
    let delimiter = if test.chat { "" } else { DELIMITER };
    let Answer::Choice(answer) = &question.answer else {
        return Ok(EncodedQuestion { question, prompt: tokens(tokenizer, &context)?, choices: Vec::new() });
    };
    let start = context.trim_end();
    let space = &context[start.len()..];
    let prompt = tokens(tokenizer, start)?;
    let choice = |text: &String| -> Result<Vec<u32>, TrainError> {
        let whole = tokens(tokenizer, &[start, space, delimiter, text].concat())?;
        match whole.get(prompt.len()..) {
            Some(own) if !own.is_empty() => Ok(own.to_vec()),
            _ => {
                let message = format!(
                    "the choice `{text}` has no token of its own after `…{}`; remove the question",
                    start.lines().last().unwrap_or_default()
                );
                Err(DataError::Questions { path: test.record.path.as_str().into(), message }.into())
            }
        }
    };
    let choices = answer.choices.iter().map(choice).collect::<Result<_, _>>()?;
    Ok(EncodedQuestion { question, prompt, choices })
}

/// Tokenizes a text, after the beginning-of-sequence token if the tokenizer adds one and the text has
/// none.
fn tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, ModelError> {
    let begin = tokenizer.bos_token();
    if begin.is_empty() || text.starts_with(begin) {
        return tokenizer.encode(text);
    }
    Ok([tokenizer.encode(begin)?, tokenizer.encode(text)?].concat())
}

/// Renders a question as a user's turn, up to the start of the assistant's. The description is the
/// system's turn, or the start of the user's if the template has no other.
fn chat(
    description: &str,
    asked: &str,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
) -> Result<String, ModelError> {
    let (description, asked) = (tokenizer.guard(description), tokenizer.guard(asked));
    let user = ChatMessage { role: "user", content: &asked };
    if description.is_empty() {
        return template.prompt(&[user]);
    }
    let system = ChatMessage { role: "system", content: &description };
    match template.prompt(&[system, user]) {
        Err(ModelError::Template(_)) => {
            let both = [&*description, &*asked].concat();
            template.prompt(&[ChatMessage { role: "user", content: &both }])
        }
        rendered => rendered,
    }
}

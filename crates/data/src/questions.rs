//! Questions with known answers, to measure what a model knows or can do.
//!
//! Files of the Hub's question sets and of one's own are recognised by their columns
//! ([`QuestionLayout`]). Prompts and choices are written as lm-evaluation-harness writes them, so
//! that scores are comparable.

mod hellaswag;
mod layout;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf};

use prospect_core::files::fingerprint;
use serde::Serialize;

pub use layout::QuestionLayout;

use crate::{
    DataError, InputFile,
    ingest::{
        raw::Flaw,
        records::FileFormat,
        sources::{
            files::{self, HashedFile, SplitWord},
            json::{self, Object},
        },
    },
};

/// Unusable rows that an error message quotes.
const EXAMPLES: usize = 3;

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// Content hash of the question. Further copies of one question end in `#2`, `#3` and so on.
    pub id: String,
    /// Content hash of the question's text alone, which several questions may share.
    pub text_id: String,
    /// Subject within the set, such as `abstract_algebra`.
    pub subject: Option<String>,
    /// Text that precedes examples and question, if the layout has one.
    pub description: Option<String>,
    /// Text of the question, which an answer follows after a space.
    pub prompt: String,
    /// The answer.
    pub answer: Answer,
}

/// Answer of a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Answer {
    /// One of several texts.
    Choice(MultipleChoice),
    /// A text of its own.
    Text(String),
}

/// Choices of a question, and which of them are right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MultipleChoice {
    /// Texts of the choices.
    pub choices: Vec<String>,
    /// The right choices.
    pub key: AnswerKey,
}

/// The right choices of a question, as indices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum AnswerKey {
    /// One choice is right.
    One(usize),
    /// Choices with a label each, in the two sets of TruthfulQA: one choice of `mc1` is true, and
    /// one or several of `mc2`.
    Labelled {
        /// Choices with exactly one true one.
        mc1: Vec<LabelledChoice>,
        /// Choices with at least one true and one false one.
        mc2: Vec<LabelledChoice>,
    },
}

/// A choice that is true or false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LabelledChoice {
    /// Index of the choice.
    pub choice: usize,
    /// Label.
    pub is_true: bool,
}

impl Question {
    /// Returns the text of the right answer: of several right choices, the first.
    pub fn right_answer(&self) -> &str {
        match &self.answer {
            Answer::Text(text) => text,
            Answer::Choice(MultipleChoice { choices, key }) => {
                let index = match key {
                    AnswerKey::One(index) => Some(*index),
                    AnswerKey::Labelled { mc1, .. } => {
                        mc1.iter().find(|choice| choice.is_true).map(|choice| choice.choice)
                    }
                };
                index.and_then(|index| choices.get(index)).map_or("", String::as_str)
            }
        }
    }
}

/// How questions are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerForm {
    /// By choosing one of several texts.
    Choices,
    /// By a text of its own.
    Text,
}

/// Files of questions.
#[derive(Debug, Clone)]
pub struct QuestionSource<'a> {
    /// Address or path as given, for messages.
    pub address: &'a str,
    /// Local file or folder.
    pub path: PathBuf,
    /// Patterns of file names below the folder, in which `*` stands for any text. Without any, the
    /// test files of a folder are read, or else its validation files, or else all.
    pub files: Option<&'a [String]>,
    /// Layout of the rows; None detects it.
    pub layout: Option<QuestionLayout>,
    /// How the questions are to be answered.
    pub form: AnswerForm,
}

/// Questions of a source, with counts of its rows.
#[derive(Debug, Clone)]
pub struct QuestionSet {
    /// Layout of the rows.
    pub layout: QuestionLayout,
    /// Usable questions, in the order of the files.
    pub questions: Vec<Question>,
    /// Rows read.
    pub rows: u64,
    /// Unusable rows by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Files read.
    pub files: Vec<InputFile>,
}

impl QuestionSource<'_> {
    /// Reads the questions. Unusable rows are counted.
    ///
    /// # Errors
    /// A file that cannot be read or has another layout, or a source without a usable question.
    pub fn read(&self) -> Result<QuestionSet, DataError> {
        let fail = |message: String| DataError::Questions { path: self.path.clone(), message };
        let found = self.find()?;
        let first = found.first().ok_or_else(|| fail("no file matches `files`".to_owned()))?;
        let layout = match self.layout {
            Some(layout) => layout,
            None => detect(first)?,
        };
        if layout.form() != self.form {
            return Err(fail(match self.form {
                AnswerForm::Choices => "the questions have no choices; use `evaluate.exact`".to_owned(),
                AnswerForm::Text => "the questions have choices; use `evaluate.choices`".to_owned(),
            }));
        }
        let mut reader = Reader { layout, ..Reader::default() };
        for file in &found {
            let name = file.name();
            file.for_each_record(None, &mut |row, record| {
                reader.add(&name, row, record);
                Ok(())
            })?;
        }
        if reader.questions.is_empty() {
            return Err(fail(reader.describe_failure()));
        }
        let Reader { questions, rows, rejected, .. } = reader;
        let files = found.iter().map(HashedFile::describe).collect();
        Ok(QuestionSet { layout, questions, rows, rejected, files })
    }

    /// Finds the files to read.
    fn find(&self) -> Result<Vec<HashedFile>, DataError> {
        let is_chosen = |file: &str| {
            self.files.is_none_or(|patterns| patterns.iter().any(|pattern| files::matches(pattern, file)))
        };
        let found = files::find(self.address, &self.path, FileFormat::default(), |_, file| is_chosen(file))?;
        let mut found = found.files;
        // Where patterns choose files, all of them are meant.
        if self.files.is_none() {
            let has = |file: &HashedFile, word| files::word(&self.path, &file.path) == Some(word);
            let held_out = [SplitWord::Test, SplitWord::Validation];
            let wanted = held_out.into_iter().find(|word| found.iter().any(|file| has(file, *word)));
            found.retain(|file| wanted.is_none_or(|word| has(file, word)));
        }
        Ok(found)
    }
}

/// Returns the layout of a file, from its first record that has one.
fn detect(file: &HashedFile) -> Result<QuestionLayout, DataError> {
    const LOOKED_AT: usize = 100;
    let (mut layout, mut looked_at, mut keys) = (None, 0, String::new());
    let read = file.for_each_record(None, &mut |_, record| {
        looked_at += 1;
        if let Ok(object) = record.and_then(json::parse::<Object>) {
            layout = QuestionLayout::of(&object);
            keys = object.0.keys().cloned().collect::<Vec<_>>().join(", ");
        }
        // Only an error stops the reader early; it is discarded.
        if layout.is_some() || looked_at == LOOKED_AT {
            Err(std::io::Error::other("enough").into())
        } else {
            Ok(())
        }
    });
    match (layout, read) {
        (Some(layout), _) => Ok(layout),
        (None, Err(error)) if looked_at < LOOKED_AT => Err(error),
        (None, _) => {
            let found = if keys.is_empty() { "no record".to_owned() } else { format!("keys {keys}") };
            let message = format!(
                "cannot detect the layout of the questions ({found}); known layouts are those of MMLU, ARC, HellaSwag, \
                 TruthfulQA and GSM8K, and rows with `question`, `choices` and `answer`, or `question` and `answer`"
            );
            Err(DataError::Questions { path: file.path.clone(), message })
        }
    }
}

/// Questions read so far.
#[derive(Default)]
struct Reader {
    layout: QuestionLayout,
    questions: Vec<Question>,
    rows: u64,
    rejected: BTreeMap<String, u64>,
    /// The first unusable rows.
    examples: Vec<String>,
    /// Number of copies of each question.
    copies: BTreeMap<String, usize>,
}

impl Reader {
    fn add(&mut self, file: &str, row: usize, record: Result<&[u8], Flaw>) {
        self.rows += 1;
        let question = record.and_then(json::parse::<Object>).and_then(|object| self.layout.read(&object));
        match question {
            Ok(mut question) => {
                let copies = self.copies.entry(question.id.clone()).or_default();
                *copies += 1;
                if *copies > 1 {
                    question.id = format!("{}#{copies}", question.id);
                }
                self.questions.push(question);
            }
            Err(Flaw { reason, detail }) => {
                let reason: &'static str = reason.into();
                *self.rejected.entry(reason.to_owned()).or_default() += 1;
                if self.examples.len() < EXAMPLES {
                    self.examples.push(format!("{file}:{row}: {reason}: {detail}"));
                }
            }
        }
    }

    fn describe_failure(&self) -> String {
        if self.rows == 0 {
            return "no question: the files are empty".to_owned();
        }
        format!(
            "no usable question in {} rows (layout {}):\n  {}\nrepair the rows, or choose other files with `files`",
            self.rows,
            self.layout,
            self.examples.join("\n  ")
        )
    }
}

/// Makes a question, with its hashes.
fn question(
    subject: Option<String>,
    description: Option<String>,
    prompt: String,
    answer: Answer,
) -> Result<Question, Flaw> {
    let hash = |parts: &[&str]| fingerprint(&parts).map_err(|error| layout::flaw_of(&error));
    let text_id = hash(&[prompt.as_str()])?;
    let mut parts = vec![prompt.as_str()];
    match &answer {
        Answer::Text(text) => parts.push(text),
        Answer::Choice(choice) => parts.extend(choice.choices.iter().map(String::as_str)),
    }
    let id = hash(&parts)?;
    Ok(Question { id, text_id, subject, description, prompt, answer })
}

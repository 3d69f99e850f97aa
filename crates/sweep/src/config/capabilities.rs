//! Capability tests of an experiment: `evaluate.choices` and `evaluate.exact`.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf};

use prospect_data::{AnswerForm, Locate, QuestionLayout, QuestionSource};
use prospect_eval::{ExactOptions, Extractor, ShotsRequest, TestRequest, TestTask};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EvaluateFile;

/// Questions with several choices, scored by the log-probs of the choices.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChoicesFile {
    /// File, folder or `hf://datasets/…` address of the questions. The layout is
    /// recognised by the columns: MMLU, ARC, HellaSwag, TruthfulQA, or `question`, `choices` and
    /// `answer`.
    pub path: String,
    /// Patterns of file names below the folder, in which `*` stands for any text. Default: test
    /// files, else validation files, else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// Layout of the rows: `mmlu`, `arc`, `hellaswag`, `truthfulqa` or `choices`. Default:
    /// recognised by the columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<QuestionLayout>,
    /// Number of questions, drawn by a hash of their content. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<NonZeroUsize>,
    /// Examples that precede every question. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<ShotsFile>,
    /// Asks in a turn of the chat template. Default: false, plain text.
    #[serde(default)]
    pub chat: bool,
}

/// Questions whose answer is generated greedily and compared with the right one.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExactFile {
    /// File, folder or `hf://datasets/…` address of the questions, with `question` and `answer`, as
    /// in GSM8K.
    pub path: String,
    /// Patterns of file names below the folder, in which `*` stands for any text. Default: test
    /// files, else validation files, else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// Number of questions, drawn by a hash of their content. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<NonZeroUsize>,
    /// Examples that precede every question. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<ShotsFile>,
    /// Asks in a turn of the chat template. Default: false, plain text.
    #[serde(default)]
    pub chat: bool,
    /// Maximum number of new tokens. Default: 256.
    #[serde(default = "ExactFile::default_max_new_tokens")]
    pub max_new_tokens: NonZeroUsize,
    /// Regular expression of the answer in the generated text: the last match, and of it the first
    /// group, if there is one. Default: the number after `####`, else the last number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<String>,
    /// Texts that end the answer. Default: `Question:`.
    #[serde(default = "ExactFile::default_stop")]
    pub stop: Vec<String>,
}

impl ExactFile {
    const fn default_max_new_tokens() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(255)
    }

    fn default_stop() -> Vec<String> {
        vec!["Question:".to_owned()]
    }
}

/// Examples that precede every question, with their right answers.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShotsFile {
    /// File, folder or `hf://datasets/…` address of the examples, in the layout of the questions.
    pub path: String,
    /// Patterns of file names below the folder. Default: as for questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// Number of examples for each question: the first ones of the file, in MMLU's layout of the
    /// question's subject. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroUsize>,
}

/// A capability test in an experiment file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestFile<'a> {
    name: &'a str,
    task: TaskFile<'a>,
}

#[derive(Debug, Clone, Copy)]
enum TaskFile<'a> {
    Choices(&'a ChoicesFile),
    Exact(&'a ExactFile),
}

/// Local path of an address, or the error of finding it.
type Located = Result<PathBuf, Box<dyn std::error::Error + Send + Sync>>;

impl<'a> TestFile<'a> {
    /// Returns the dotted key of the test.
    pub(crate) fn key(&self) -> String {
        let kind = match self.task {
            TaskFile::Choices(_) => "choices",
            TaskFile::Exact(_) => "exact",
        };
        format!("evaluate.{kind}.{}", self.name)
    }

    /// Checks everything that needs no files.
    fn check(&self) -> Result<(), String> {
        let key = self.key();
        if self.name.is_empty() || self.name.contains(['/', '\n']) {
            return Err(format!("`{key}`: the name of a test is empty or has a slash: choose another"));
        }
        match self.task {
            TaskFile::Choices(ChoicesFile { layout: Some(layout), .. })
                if layout.form() != AnswerForm::Choices =>
            {
                Err(format!(
                    "`{key}.layout` is {layout}, whose questions have no choices: use `evaluate.exact`"
                ))
            }
            TaskFile::Exact(ExactFile { extract: Some(pattern), .. }) => {
                Extractor::new(pattern).map(drop).map_err(|error| format!("`{key}.extract`: {error}"))
            }
            _ => Ok(()),
        }
    }

    /// Resolves paths and addresses.
    ///
    /// # Errors
    /// A path that cannot be found, or an invalid setting.
    pub(crate) fn request(&self, locate: &Locate<'_>) -> Result<TestRequest<'a>, TestError> {
        let find = |address: &str| -> Located { locate(address) };
        let source = |path: &'a str, files: Option<&'a Vec<String>>, layout, form| {
            let local = find(path).map_err(TestError::Locate)?;
            let files = files.map(Vec::as_slice);
            Ok::<_, TestError>(QuestionSource { address: path, path: local, files, layout, form })
        };
        let shots = |shots: Option<&'a ShotsFile>, layout, form| {
            let request = |ShotsFile { path, files, count }: &'a ShotsFile| {
                let source = source(path, files.as_ref(), layout, form)?;
                Ok::<_, TestError>(ShotsRequest { source, count: *count })
            };
            shots.map(request).transpose()
        };
        let name = self.name;
        match self.task {
            TaskFile::Choices(file) => {
                let form = AnswerForm::Choices;
                Ok(TestRequest {
                    name,
                    source: source(&file.path, file.files.as_ref(), file.layout, form)?,
                    limit: file.limit,
                    shots: shots(file.shots.as_ref(), file.layout, form)?,
                    chat: file.chat,
                    task: TestTask::Choices,
                })
            }
            TaskFile::Exact(file) => {
                let form = AnswerForm::Text;
                let extract = match &file.extract {
                    None => Extractor::default(),
                    Some(pattern) => Extractor::new(pattern).map_err(TestError::Setting)?,
                };
                let max_new_tokens = file.max_new_tokens.get();
                Ok(TestRequest {
                    name,
                    source: source(&file.path, file.files.as_ref(), None, form)?,
                    limit: file.limit,
                    shots: shots(file.shots.as_ref(), None, form)?,
                    chat: file.chat,
                    task: TestTask::Exact(ExactOptions { max_new_tokens, extract, stop: file.stop.clone() }),
                })
            }
        }
    }
}

/// Error of resolving a capability test.
pub(crate) enum TestError {
    Setting(String),
    Locate(Box<dyn std::error::Error + Send + Sync>),
}

impl EvaluateFile {
    /// Returns the capability tests, by kind and name.
    pub(crate) fn tests(&self) -> impl Iterator<Item = TestFile<'_>> {
        let choices =
            self.choices.iter().map(|(name, file)| TestFile { name, task: TaskFile::Choices(file) });
        let exact = self.exact.iter().map(|(name, file)| TestFile { name, task: TaskFile::Exact(file) });
        choices.chain(exact)
    }

    /// Returns the evaluation without its capability tests.
    pub(crate) fn without_tests(&self) -> Self {
        Self { choices: BTreeMap::new(), exact: BTreeMap::new(), ..self.clone() }
    }

    /// Checks the capability tests, without their files.
    pub(crate) fn check_tests(&self) -> Result<(), String> {
        if let Some(name) = self.exact.keys().find(|name| self.choices.contains_key(*name)) {
            return Err(format!(
                "`evaluate.choices` and `evaluate.exact` both have a test `{name}`: rename one"
            ));
        }
        self.tests().try_for_each(|test| test.check())
    }
}

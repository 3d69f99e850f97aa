//! Loading of capability tests: questions, a sample of them, and examples.

use std::num::NonZeroUsize;

use prospect_core::{draw::Draw, files::fingerprint};
use prospect_data::{DataError, Question, QuestionLayout, QuestionSet, QuestionSource};
use prospect_runs::CapabilityTest;

use super::extract::{Extractor, normalised, right_text};

/// Version of prompts, tokens and scores. Raised whenever the same questions would give other
/// results.
const FORMAT_VERSION: u32 = 1;

/// A capability test as an experiment asks for it.
#[derive(Debug)]
pub struct TestRequest<'a> {
    /// Name of the test.
    pub name: &'a str,
    /// Files of the questions.
    pub source: QuestionSource<'a>,
    /// Most questions to ask; None for all.
    pub limit: Option<NonZeroUsize>,
    /// Examples that precede every question.
    pub shots: Option<ShotsRequest<'a>>,
    /// Asks in the turns of the chat template instead of plain text.
    pub chat: bool,
    /// Task.
    pub task: TestTask,
}

/// Examples that precede every question.
#[derive(Debug)]
pub struct ShotsRequest<'a> {
    /// Files of the examples.
    pub source: QuestionSource<'a>,
    /// Number of examples, the first ones of the files; None for all.
    pub count: Option<NonZeroUsize>,
}

/// What a test asks a model to do.
#[derive(Debug, Clone)]
pub enum TestTask {
    /// To choose an answer, by log-probs.
    Choices,
    /// To write an answer.
    Exact(ExactOptions),
}

/// Options of generated answers.
#[derive(Debug, Clone)]
pub struct ExactOptions {
    /// Token limit.
    pub max_new_tokens: usize,
    /// Finds the answer.
    pub extract: Extractor,
    /// Texts that end an answer.
    pub stop: Vec<String>,
}

/// A test with its questions.
#[derive(Debug, Clone)]
pub struct LoadedTest {
    /// Name and counts.
    pub record: CapabilityTest,
    pub(super) questions: Vec<Question>,
    pub(super) shots: Vec<Question>,
    pub(super) layout: QuestionLayout,
    pub(super) chat: bool,
    pub(super) task: TestTask,
    shots_per_question: Option<usize>,
}

impl TestRequest<'_> {
    /// Reads the questions, draws a sample of them by a hash of their content, and reads the
    /// examples.
    pub fn load(self) -> Result<LoadedTest, DataError> {
        let Self { name, source, limit, shots, chat, task } = self;
        let path = source.path.clone();
        let fail = |message: String| DataError::Questions { path: path.clone(), message };
        let QuestionSet { layout, mut questions, rows, rejected, .. } = source.read()?;
        let limit = limit.map_or(usize::MAX, NonZeroUsize::get);
        // Larger samples contain smaller ones.
        Draw::new(0, "questions of a capability test")
            .keep_lowest(&mut questions, limit, |question| &question.id);
        if let TestTask::Exact(options) = &task {
            let right = |question: &Question| normalised(right_text(question.right_answer()));
            if let Some(question) =
                questions.iter().find(|question| !options.extract.can_find(&right(question)))
            {
                return Err(fail(format!(
                    "the answer `{}` is no number, so it would never be found: set `extract` to a regular expression",
                    right(question)
                )));
            }
        }
        let (shots, shots_per_question) = match shots {
            None => (Vec::new(), None),
            Some(ShotsRequest { source, count }) => {
                let set = source.read()?;
                if set.layout != layout {
                    return Err(fail(format!(
                        "the examples of `shots` have the layout {}, the questions {layout}: use files of one layout",
                        set.layout
                    )));
                }
                (set.questions, count.map(NonZeroUsize::get))
            }
        };
        let (form, address) = (form_name(&task), source.address.to_owned());
        let mut test = LoadedTest {
            record: CapabilityTest {
                name: name.to_owned(),
                path: address,
                layout: layout.to_string(),
                headline: headline(layout).to_owned(),
                rows,
                rejected,
                questions: questions.len(),
                fingerprint: String::new(),
            },
            questions,
            shots,
            layout,
            chat,
            task,
            shots_per_question,
        };
        test.check_shots().map_err(fail)?;
        test.record.fingerprint = test.fingerprint(form)?;
        Ok(test)
    }
}

impl LoadedTest {
    /// Returns the token limit of generated answers; 0 for choices.
    pub fn max_new_tokens(&self) -> usize {
        match &self.task {
            TestTask::Choices => 0,
            TestTask::Exact(options) => options.max_new_tokens,
        }
    }

    /// Returns the examples that precede a question: in MMLU's layout, those of its subject.
    pub(super) fn shots_of<'a>(&'a self, question: &'a Question) -> impl Iterator<Item = &'a Question> {
        let by_subject = self.layout == QuestionLayout::Mmlu;
        let own = self.shots.iter().filter(move |shot| !by_subject || shot.subject == question.subject);
        own.take(self.shots_per_question.unwrap_or(usize::MAX))
    }

    /// Checks that every question has its examples, and that none of them is the question itself.
    fn check_shots(&self) -> Result<(), String> {
        if self.shots.is_empty() {
            return Ok(());
        }
        for question in &self.questions {
            let (mut found, wanted) = (0, self.shots_per_question.unwrap_or(1));
            for shot in self.shots_of(question) {
                found += 1;
                if shot.text_id == question.text_id {
                    let text: String = question.prompt.chars().take(60).collect();
                    return Err(format!(
                        "the example `{text}…` of `shots` is also a question: use other files"
                    ));
                }
            }
            if found < wanted {
                let subject = question.subject.as_ref().filter(|_| self.layout == QuestionLayout::Mmlu);
                let subject = subject.map(|subject| format!(" on {subject}")).unwrap_or_default();
                return Err(format!(
                    "`shots` has {found} examples{subject}, not {wanted}: lower `shots.count`"
                ));
            }
        }
        Ok(())
    }

    /// Returns a hash of everything besides the model that results depend on.
    fn fingerprint(&self, form: &str) -> Result<String, DataError> {
        let options = match &self.task {
            TestTask::Choices => None,
            TestTask::Exact(options) => {
                Some((options.max_new_tokens, options.extract.pattern(), options.stop.as_slice()))
            }
        };
        let Self { questions, shots, layout, chat, shots_per_question, .. } = self;
        let texts = (questions, shots, shots_per_question);
        Ok(fingerprint(&(FORMAT_VERSION, &self.record.name, form, layout, chat, texts, options))?)
    }
}

fn form_name(task: &TestTask) -> &'static str {
    match task {
        TestTask::Choices => "choices",
        TestTask::Exact(_) => "exact",
    }
}

/// Returns the score that usually stands for a set.
fn headline(layout: QuestionLayout) -> &'static str {
    match layout {
        QuestionLayout::Arc | QuestionLayout::HellaSwag => "acc_norm",
        QuestionLayout::TruthfulQa => "mc2",
        QuestionLayout::Mmlu | QuestionLayout::Choices => "acc",
        QuestionLayout::Answers => "exact_match",
    }
}

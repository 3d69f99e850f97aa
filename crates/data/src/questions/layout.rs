//! Layouts of question sets, and the prompts that they are asked with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::Display;

use super::{
    Answer, AnswerForm, AnswerKey, LabelledChoice, MultipleChoice, Question,
    hellaswag::{capitalised, cleaned},
    question,
};
use crate::ingest::{
    raw::{Flaw, RejectReason},
    sources::{excerpt::excerpt_value, json::Object},
};

/// Layout of the rows of a question set, recognised by its columns.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum QuestionLayout {
    /// MMLU: `question`, `choices`, `answer` as an index, and `subject`. The choices are listed in
    /// the prompt, and the answer is a letter.
    Mmlu,
    /// ARC: `question`, `choices` with `text` and `label`, and `answerKey`.
    Arc,
    /// HellaSwag: `ctx` (or `ctx_a` and `ctx_b`), `endings`, `label` and `activity_label`.
    HellaSwag,
    /// TruthfulQA: `question`, `mc1_targets` and `mc2_targets` with `choices` and `labels`.
    TruthfulQa,
    /// Rows of one's own: `question`, `choices` and `answer` as an index, a letter or the text of
    /// the choice.
    Choices,
    /// GSM8K, or rows of one's own: `question` and `answer`.
    #[default]
    Answers,
}

/// Reads a field as a text that is not blank.
fn text<'a>(object: &'a Object, key: &str) -> Result<&'a str, Flaw> {
    let value = field(object, key)?;
    let text = value.as_str().ok_or_else(|| wrong(key, "a text", value))?;
    if text.trim().is_empty() {
        return Err(flaw(RejectReason::EmptyPrompt, format!("`{key}` is empty")));
    }
    Ok(text)
}

fn field<'a>(object: &'a Object, key: &str) -> Result<&'a Value, Flaw> {
    let missing = || flaw(RejectReason::MissingField, format!("`{key}` is missing"));
    object.0.get(key).filter(|value| !value.is_null()).ok_or_else(missing)
}

fn flaw(reason: RejectReason, detail: String) -> Flaw {
    Flaw { reason, detail }
}

fn wrong(key: &str, wanted: &str, value: &Value) -> Flaw {
    flaw(RejectReason::WrongType, format!("`{key}` is {}, not {wanted}", excerpt_value(value)))
}

/// Makes a flaw of a row that cannot be hashed.
pub(super) fn flaw_of(error: &std::io::Error) -> Flaw {
    flaw(RejectReason::BadValue, error.to_string())
}

/// Reads a list of texts, none of them empty.
fn texts(key: &str, value: &Value) -> Result<Vec<String>, Flaw> {
    let list = value.as_array().ok_or_else(|| wrong(key, "a list", value))?;
    let text = |item: &Value| -> Result<String, Flaw> {
        let text = item.as_str().ok_or_else(|| wrong(key, "a list of texts", value))?;
        if text.trim().is_empty() {
            return Err(flaw(RejectReason::EmptyCompletion, format!("`{key}` has an empty text")));
        }
        Ok(text.to_owned())
    };
    list.iter().map(text).collect()
}

/// Reads two choices or more.
fn choices(key: &str, value: &Value) -> Result<Vec<String>, Flaw> {
    let choices = texts(key, value)?;
    match choices.len() {
        0 | 1 => {
            Err(flaw(RejectReason::BadValue, format!("`{key}` has {} choice(s), not two", choices.len())))
        }
        _ => Ok(choices),
    }
}

/// Letter of a choice; None beyond Z.
fn letter(index: usize) -> Option<char> {
    u8::try_from(index).ok().filter(|index| *index < 26).map(|index| char::from(b'A' + index))
}

/// Reads which choice is right: its index from 0, its letter or its text.
fn answer_index(key: &str, value: &Value, choices: &[String]) -> Result<usize, Flaw> {
    let unknown = || {
        let detail =
            format!("`{key}` is {}, which names none of {} choices", excerpt_value(value), choices.len());
        flaw(RejectReason::BadValue, detail)
    };
    if let Some(index) = value.as_i64() {
        if index == -1 {
            return Err(no_answer(key));
        }
        return usize::try_from(index).ok().filter(|index| *index < choices.len()).ok_or_else(unknown);
    }
    let text = value.as_str().ok_or_else(|| wrong(key, "an index or a text", value))?.trim();
    if text.is_empty() {
        return Err(no_answer(key));
    }
    let by_text: Vec<usize> = (0..choices.len()).filter(|index| choices[*index].trim() == text).collect();
    let by_letter =
        (0..choices.len()).find(|index| letter(*index).is_some_and(|own| text == own.to_string()));
    match (by_text.as_slice(), by_letter) {
        ([index], None) => Ok(*index),
        ([], Some(index)) => Ok(index),
        ([index], Some(letter)) if *index == letter => Ok(letter),
        ([], None) => Err(unknown()),
        _ => {
            let detail = format!("`{key}` is {}, which names several choices", excerpt_value(value));
            Err(flaw(RejectReason::BadValue, detail))
        }
    }
}

fn no_answer(key: &str) -> Flaw {
    flaw(RejectReason::NoAnswer, format!("`{key}` is withheld"))
}

impl QuestionLayout {
    /// Returns the layout of a record, by its columns.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let has = |key: &str| object.0.contains_key(key);
        let choices = object.0.get("choices").filter(|_| has("question"));
        if has("mc1_targets") || has("mc2_targets") {
            Some(Self::TruthfulQa)
        } else if has("endings") && (has("ctx") || has("ctx_a")) {
            Some(Self::HellaSwag)
        } else if choices.is_some_and(Value::is_object) {
            Some(Self::Arc)
        } else if choices.is_some() {
            Some(if has("subject") { Self::Mmlu } else { Self::Choices })
        } else if has("question") && has("answer") {
            Some(Self::Answers)
        } else {
            None
        }
    }

    /// Returns how questions of this layout are answered.
    pub fn form(self) -> AnswerForm {
        match self {
            Self::Mmlu | Self::Arc | Self::HellaSwag | Self::TruthfulQa | Self::Choices => {
                AnswerForm::Choices
            }
            Self::Answers => AnswerForm::Text,
        }
    }

    /// Reads a record.
    pub(super) fn read(self, object: &Object) -> Result<Question, Flaw> {
        match self {
            Self::Mmlu => mmlu(object),
            Self::Arc => arc(object),
            Self::HellaSwag => hellaswag(object),
            Self::TruthfulQa => truthfulqa(object),
            Self::Choices => own_choices(object),
            Self::Answers => answers(object),
        }
    }
}

/// Prompt of a question whose answer is a text.
fn asked(question: &str) -> String {
    format!("Question: {question}\nAnswer:")
}

fn one_of(choices: Vec<String>, right: usize) -> Answer {
    Answer::Choice(MultipleChoice { choices, key: AnswerKey::One(right) })
}

fn mmlu(object: &Object) -> Result<Question, Flaw> {
    let subject = text(object, "subject")?;
    let texts = choices("choices", field(object, "choices")?)?;
    let right = answer_index("answer", field(object, "answer")?, &texts)?;
    let letters: Option<Vec<char>> = (0..texts.len()).map(letter).collect();
    let Some(letters) = letters else {
        let detail = format!("`choices` has {} choices, more than letters", texts.len());
        return Err(flaw(RejectReason::BadValue, detail));
    };
    let listed = letters.iter().zip(&texts).map(|(letter, choice)| format!("\n{letter}. {choice}"));
    let prompt = [text(object, "question")?.trim(), &listed.collect::<String>(), "\nAnswer:"].concat();
    let topic = subject.split('_').collect::<Vec<_>>().join(" ");
    let description =
        format!("The following are multiple choice questions (with answers) about {topic}.\n\n");
    let letters = letters.into_iter().map(String::from).collect();
    question(Some(subject.to_owned()), Some(description), prompt, one_of(letters, right))
}

fn arc(object: &Object) -> Result<Question, Flaw> {
    let value = field(object, "choices")?;
    let part = |key: &str| {
        value.get(key).ok_or_else(|| wrong("choices", "an object with `text` and `label`", value))
    };
    let (texts, labels) =
        (choices("choices.text", part("text")?)?, self::texts("choices.label", part("label")?)?);
    if texts.len() != labels.len() {
        let detail = format!("`choices` has {} texts and {} labels", texts.len(), labels.len());
        return Err(flaw(RejectReason::BadValue, detail));
    }
    let key = field(object, "answerKey")?;
    let name = key.as_str().ok_or_else(|| wrong("answerKey", "a text", key))?.trim();
    if name.is_empty() {
        return Err(no_answer("answerKey"));
    }
    let named: Vec<usize> = (0..labels.len()).filter(|index| labels[*index] == name).collect();
    let [right] = named[..] else {
        let detail =
            format!("`answerKey` is {}, which is the label of {} choices", excerpt_value(key), named.len());
        return Err(flaw(RejectReason::BadValue, detail));
    };
    question(None, None, asked(text(object, "question")?), one_of(texts, right))
}

fn hellaswag(object: &Object) -> Result<Question, Flaw> {
    let activity = text(object, "activity_label")?;
    let context = match object.0.get("ctx_a").and_then(Value::as_str) {
        Some(first) => {
            let second = object.0.get("ctx_b").and_then(Value::as_str).unwrap_or_default();
            format!("{first} {}", capitalised(second))
        }
        None => text(object, "ctx")?.to_owned(),
    };
    let endings = choices("endings", field(object, "endings")?)?;
    let endings: Vec<String> = endings.iter().map(|ending| cleaned(ending)).collect();
    if endings.iter().any(|ending| ending.trim().is_empty()) {
        let detail = "`endings` has a text of nothing but brackets".to_owned();
        return Err(flaw(RejectReason::EmptyCompletion, detail));
    }
    let label = field(object, "label")?;
    let index = label.as_str().map_or_else(|| label.as_i64(), |text| text.trim().parse().ok());
    let right = match index {
        None if label.as_str().is_some_and(|text| text.trim().is_empty()) => return Err(no_answer("label")),
        None => return Err(wrong("label", "an index", label)),
        Some(index) => answer_index("label", &index.into(), &endings)?,
    };
    let prompt = cleaned(&format!("{activity}: {context}"));
    question(Some(activity.to_owned()), None, prompt, one_of(endings, right))
}

fn truthfulqa(object: &Object) -> Result<Question, Flaw> {
    let mut texts: Vec<String> = Vec::new();
    let mut labelled = |key: &str| -> Result<Vec<LabelledChoice>, Flaw> {
        let value = field(object, key)?;
        let part = |part: &str| {
            value.get(part).ok_or_else(|| wrong(key, "an object with `choices` and `labels`", value))
        };
        let own = choices(key, part("choices")?)?;
        let labels = part("labels")?.as_array().map(Vec::as_slice).unwrap_or_default();
        let label = |label: &Value| {
            label.as_bool().or_else(|| label.as_i64().filter(|n| [0, 1].contains(n)).map(|n| n == 1))
        };
        let labels: Option<Vec<bool>> = labels.iter().map(label).collect();
        let labels = labels.filter(|labels| labels.len() == own.len());
        let labels = labels.ok_or_else(|| wrong(key, "choices with as many labels, each 0 or 1", value))?;
        let mut choice = |(text, is_true): (String, bool)| {
            // Both sets share most of their choices.
            let choice = texts.iter().position(|other| *other == text).unwrap_or_else(|| {
                texts.push(text);
                texts.len() - 1
            });
            LabelledChoice { choice, is_true }
        };
        Ok(own.into_iter().zip(labels).map(&mut choice).collect())
    };
    let (mc1, mc2) = (labelled("mc1_targets")?, labelled("mc2_targets")?);
    let count = |set: &[LabelledChoice]| set.iter().filter(|choice| choice.is_true).count();
    if count(&mc1) != 1 {
        let detail = format!("`mc1_targets` has {} true choices, not one", count(&mc1));
        return Err(flaw(RejectReason::BadValue, detail));
    }
    if count(&mc2) == 0 || count(&mc2) == mc2.len() {
        let detail = "`mc2_targets` has no true or no false choice".to_owned();
        return Err(flaw(RejectReason::BadValue, detail));
    }
    let answer = Answer::Choice(MultipleChoice { choices: texts, key: AnswerKey::Labelled { mc1, mc2 } });
    question(None, None, format!("Q: {}\nA:", text(object, "question")?), answer)
}

fn own_choices(object: &Object) -> Result<Question, Flaw> {
    let texts = choices("choices", field(object, "choices")?)?;
    let right = answer_index("answer", field(object, "answer")?, &texts)?;
    question(None, None, asked(text(object, "question")?), one_of(texts, right))
}

fn answers(object: &Object) -> Result<Question, Flaw> {
    let value = field(object, "answer")?;
    let answer = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(wrong("answer", "a text or a number", value)),
    };
    if answer.trim().is_empty() {
        return Err(no_answer("answer"));
    }
    let subject = object.0.get("subject").and_then(Value::as_str).map(str::to_owned);
    question(subject, None, asked(text(object, "question")?), Answer::Text(answer))
}

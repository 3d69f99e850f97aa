//! Questions of capability tests, answered by the start and by the trained policies.

use prospect_runs::{QuestionOutcome, RunDir};

use super::{Of, run_column};
use crate::{
    QueryError,
    table::{RowColumn, Table},
};

/// A score of a question.
struct QuestionScore {
    score: String,
    question: QuestionOutcome,
}

/// Makes a column of a score.
fn score(
    name: &str,
    meaning: &str,
    value: fn(&QuestionOutcome, &str) -> Option<f64>,
) -> RowColumn<Of<QuestionScore>> {
    RowColumn::optional_number(name, meaning, move |of: &Of<QuestionScore>| {
        value(&of.record.question, &of.record.score)
    })
}

/// Makes a column of a text that only generated answers have.
fn generated(
    name: &str,
    meaning: &str,
    text: fn(&QuestionOutcome) -> &Option<String>,
) -> RowColumn<Of<QuestionScore>> {
    RowColumn::optional_text(name, meaning, move |of: &Of<QuestionScore>| text(&of.record.question).clone())
}

/// Returns the table of questions, one row for each score.
pub(super) fn questions(dirs: Vec<RunDir>) -> Table {
    let columns = vec![
        run_column(),
        RowColumn::text("test", "Name of the capability test", |of: &Of<QuestionScore>| {
            of.record.question.test.clone()
        }),
        RowColumn::text("id", "Hash of the question, the same in every run", |of: &Of<QuestionScore>| {
            of.record.question.id.clone()
        }),
        RowColumn::optional_text("subject", "Subject within the test", |of: &Of<QuestionScore>| {
            of.record.question.subject.clone()
        }),
        RowColumn::text(
            "score",
            "`acc`, `acc_norm`, `mc1`, `mc2` or `exact_match`",
            |of: &Of<QuestionScore>| of.record.score.clone(),
        ),
        score("start", "Score of the weights that training started from, 0 to 1", |question, name| {
            question.start.scores.get(name).copied()
        }),
        score("trained", "Score of the trained policy, 0 to 1", |question, name| {
            question.policy.scores.get(name).copied()
        }),
        generated("start_answer", "Generated answers: the start's, as compared", |question| {
            &question.start.answer
        }),
        generated("trained_answer", "Generated answers: the policy's, as compared", |question| {
            &question.policy.answer
        }),
        generated("start_completion", "Generated answers: text of the start", |question| {
            &question.start.completion
        }),
        generated("trained_completion", "Generated answers: text of the policy", |question| {
            &question.policy.completion
        }),
    ];
    let meaning = "A score of a question of a capability test, before and after training";
    Table::of_rows("questions", meaning, columns, move || {
        let mut rows = Vec::new();
        for dir in &dirs {
            for question in dir.questions()? {
                let scores: Vec<String> = question.policy.scores.keys().cloned().collect();
                rows.extend(scores.into_iter().map(|score| {
                    let question = question.clone();
                    Of { run: dir.id(), record: QuestionScore { score, question } }
                }));
            }
        }
        Ok::<_, QueryError>(rows)
    })
}

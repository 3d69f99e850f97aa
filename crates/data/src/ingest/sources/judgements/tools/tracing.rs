//! Judgements of observability tools.

use serde_json::Value;

use super::{Judgement, JudgementRow, Tool, list, object};
use crate::ingest::sources::json::Object;

/// Columns of Langfuse's traces and observations that hold no scores.
const LANGFUSE: [&str; 31] = [
    "bookmarked",
    "comments",
    "completionStartTime",
    "completionTokens",
    "costDetails",
    "endTime",
    "environment",
    "id",
    "input",
    "latency",
    "level",
    "metadata",
    "model",
    "modelParameters",
    "name",
    "observations",
    "output",
    "parentObservationId",
    "promptTokens",
    "public",
    "release",
    "sessionId",
    "startTime",
    "tags",
    "timestamp",
    "toolCalls",
    "traceId",
    "traceTags",
    "type",
    "usageDetails",
    "userId",
];

/// Returns the scores of a trace: a column for each name, with a list of values.
pub(super) fn langfuse(record: &Object) -> Vec<Judgement> {
    let columns = record.0.iter().filter(|(name, _)| !LANGFUSE.contains(&name.as_str()));
    columns
        .flat_map(|(name, values)| {
            let values = list(values).unwrap_or_default().into_iter();
            let simple = values.filter(|value| !value.is_object() && !value.is_array());
            simple.map(|value| Judgement::new(name, &value)).collect::<Vec<_>>()
        })
        .collect()
}

/// Returns the annotations of an example in a dataset.
pub(super) fn phoenix(record: &Object) -> Vec<Judgement> {
    let metadata = record.0.get("metadata").and_then(object).unwrap_or_default();
    let annotations = metadata.get("annotations").and_then(object).unwrap_or_default();
    annotations
        .iter()
        .flat_map(|(name, list)| {
            let list = list.as_array().into_iter().flatten();
            list.map(|one| annotation(name, one, one)).collect::<Vec<_>>()
        })
        .collect()
}

/// Returns an annotation, whose result has a label, a score or both.
fn annotation(name: &str, one: &Value, result: &Value) -> Judgement {
    let given = |key: &str| result.get(key).filter(|value| !value.is_null() && *value != "");
    let machine = one.get("annotator_kind").and_then(Value::as_str).is_some_and(|kind| kind != "HUMAN");
    Judgement {
        number: given("score").cloned(),
        ..Judgement::new(name, given("label").or(given("score")).unwrap_or(&Value::Null))
    }
    .by_machine(machine)
}

/// Name of the thumb of Helicone's interface.
const FEEDBACK: &str = "feedback";

/// Returns the thumb, and other scores. Old exports have the thumb in `feedback_rating`.
pub(super) fn helicone(record: &Object) -> Vec<Judgement> {
    let thumb = record.0.get("feedback_rating").filter(|value| !value.is_null() && *value != "");
    let scores = record.0.get("scores").and_then(object).unwrap_or_default();
    let named = scores.iter().map(|(name, score)| {
        let name = if name == "helicone-score-feedback" { FEEDBACK } else { name };
        Judgement::new(name, score.get("value").unwrap_or(score))
    });
    thumb.into_iter().map(|thumb| Judgement::new(FEEDBACK, thumb)).chain(named).collect()
}

/// Name of the reactions of Weave's interface.
const REACTION: &str = "reaction";

/// Returns the feedback of a call.
pub(super) fn weave(record: &Object) -> Vec<Judgement> {
    let summary = record.0.get("summary").and_then(object).unwrap_or_default();
    let feedback = summary.get("weave").and_then(|weave| weave.get("feedback")).and_then(Value::as_array);
    feedback.into_iter().flatten().filter_map(weave_feedback).collect()
}

/// Returns a piece of feedback; None for a note.
fn weave_feedback(one: &Value) -> Option<Judgement> {
    let kind = one.get("feedback_type").and_then(Value::as_str)?;
    let payload = one.get("payload")?;
    if kind.starts_with("wandb.reaction") {
        // Any emoji can be a reaction; `detoned` is the one without skin tone.
        let value = payload.get("detoned").or_else(|| payload.get("emoji"))?;
        return Some(Judgement { unknown: Some("other_reaction"), ..Judgement::new(REACTION, value) });
    }
    if let Some(name) = kind.strip_prefix("wandb.annotation.") {
        return Some(Judgement::new(name, payload.get("value")?));
    }
    let name = kind.strip_prefix("wandb.runnable.")?;
    Some(Judgement::new(name, payload.get("output")?).by_machine(true))
}

/// Returns the judgements of a log. Those of people come from evaluators of type `human`.
pub(super) fn humanloop(record: &Object) -> Vec<Judgement> {
    let logs = record.0.get("evaluator_logs").and_then(list).unwrap_or_default();
    logs.iter().filter_map(humanloop_log).collect()
}

fn humanloop_log(log: &Value) -> Option<Judgement> {
    let evaluator = log.get("evaluator")?;
    let text = |pointer: &str| evaluator.pointer(pointer).and_then(Value::as_str);
    let name = text("/name").or_else(|| text("/path")?.rsplit('/').next())?;
    let mut judgement = Judgement::new(name, log.get("judgment").unwrap_or(&Value::Null));
    if let Value::Array(options) = &judgement.value
        && let [only] = options.as_slice()
    {
        judgement.value = only.clone();
    }
    // An option of the project can say whether it is positive or negative.
    let options = evaluator.pointer("/spec/options").and_then(Value::as_array);
    let chosen = options.into_iter().flatten().find(|option| option.get("name") == Some(&judgement.value));
    match chosen.and_then(|option| option.get("valence")).and_then(Value::as_str) {
        Some("positive") => judgement.value = Value::Bool(true),
        Some("negative") => judgement.value = Value::Bool(false),
        Some("neutral") => judgement.unknown = Some("no_judgement"),
        _ => {}
    }
    if judgement.value.is_number() && text("/spec/number_valence") == Some("negative") {
        judgement.unanswered = Some("lower_is_better");
    }
    Some(judgement.by_machine(text("/spec/evaluator_type") != Some("human")))
}

/// Returns the judgement of a record that is one.
pub(super) fn row(tool: Tool, record: &Object) -> Option<JudgementRow> {
    let value = |key: &str| record.0.get(key).filter(|value| !value.is_null() && *value != "");
    let text = |key: &str| value(key).and_then(Value::as_str);
    let null = Value::Null;
    let (target, group, judgement) = match tool {
        Tool::LangfuseScore => {
            let kind = text("dataType").unwrap_or_default();
            let by_word = matches!(kind, "CATEGORICAL" | "TEXT");
            let given =
                if by_word { value("stringValue").or_else(|| value("value")) } else { value("value") };
            let unanswered = (kind == "CORRECTION").then_some("correction");
            let number = if by_word { value("value").cloned() } else { None };
            let score =
                Judgement { number, unanswered, ..Judgement::new(text("name")?, given.unwrap_or(&null)) };
            let target = text("observationId").or_else(|| text("traceId"))?;
            (target, None, score.by_machine(text("source") == Some("EVAL")))
        }
        Tool::LangSmithFeedback => {
            let score = value("score");
            // A value beside the score can be anything.
            let unknown = score.is_none().then_some("no_judgement");
            let given = score.or_else(|| value("value")).unwrap_or(&null);
            let source = record.0.get("feedback_source").and_then(object).unwrap_or_default();
            let kind = source.get("type").and_then(Value::as_str).unwrap_or_default();
            let judgement = Judgement { unknown, ..Judgement::new(text("key")?, given) };
            let machine = matches!(kind, "model" | "auto_eval");
            (text("run_id")?, text("feedback_group_id"), judgement.by_machine(machine))
        }
        Tool::PhoenixAnnotation => {
            let name = text("name").or_else(|| text("annotation_name"))?;
            let whole = Value::Object(record.0.clone());
            let mut flat = serde_json::Map::new();
            for key in ["label", "score"] {
                let dotted = record.0.get(&format!("result.{key}"));
                let nested = record.0.get("result").and_then(|result| result.get(key));
                let found = dotted.or(nested).or_else(|| record.0.get(key));
                flat.extend(found.map(|value| (key.to_owned(), value.clone())));
            }
            (text("span_id")?, None, annotation(name, &whole, &Value::Object(flat)))
        }
        Tool::WeaveFeedback => {
            let call = text("weave_ref")?.rsplit('/').next()?;
            (call, None, weave_feedback(&Value::Object(record.0.clone()))?)
        }
        _ => return None,
    };
    Some(JudgementRow { target: target.to_owned(), group: group.map(str::to_owned), judgement })
}

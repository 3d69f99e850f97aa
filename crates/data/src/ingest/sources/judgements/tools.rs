//! Records of the tools: by which keys they are recognised, and where they hold judgements.

use serde_json::{Map, Value};

use super::{ANY, Judgement};
use crate::ingest::sources::json::{self, Object};

mod annotation;
mod tracing;

/// Tool whose export a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
pub(crate) enum Tool {
    #[strum(serialize = "Langfuse, traces")]
    LangfuseTrace,
    #[strum(serialize = "Langfuse, scores")]
    LangfuseScore,
    #[strum(serialize = "LangSmith, runs")]
    LangSmithRun,
    #[strum(serialize = "LangSmith, feedback")]
    LangSmithFeedback,
    #[strum(serialize = "Phoenix, dataset")]
    PhoenixDataset,
    #[strum(serialize = "Phoenix, annotations")]
    PhoenixAnnotation,
    #[strum(serialize = "Helicone")]
    Helicone,
    #[strum(serialize = "W&B Weave, calls")]
    WeaveCall,
    #[strum(serialize = "W&B Weave, feedback")]
    WeaveFeedback,
    #[strum(serialize = "Humanloop, logs")]
    HumanloopLog,
    #[strum(serialize = "Argilla 2")]
    Argilla,
    #[strum(serialize = "Argilla 1, FeedbackDataset")]
    ArgillaFeedback,
    #[strum(serialize = "Label Studio, JSON")]
    LabelStudio,
}

/// A judgement in a record of its own.
#[derive(Debug)]
pub(crate) struct JudgementRow {
    /// Id of the trace that was judged.
    pub(crate) target: String,
    /// Id of the comparison that the judgement belongs to.
    pub(crate) group: Option<String>,
    pub(crate) judgement: Judgement,
}

impl Tool {
    /// Returns true if its records hold an input and an output.
    pub(crate) fn is_trace(self) -> bool {
        matches!(
            self,
            Self::LangfuseTrace
                | Self::LangSmithRun
                | Self::PhoenixDataset
                | Self::Helicone
                | Self::WeaveCall
                | Self::HumanloopLog
        )
    }

    /// Returns true if its records are judgements of records in another table.
    pub(crate) fn is_row(self) -> bool {
        matches!(
            self,
            Self::LangfuseScore | Self::LangSmithFeedback | Self::PhoenixAnnotation | Self::WeaveFeedback
        )
    }
}

/// Returns the tool of a record, if it is a known one.
pub(crate) fn tool(record: &Object) -> Option<Tool> {
    let has = |keys: &[&str]| keys.iter().all(|key| record.0.contains_key(*key));
    Some(if has(&["traceId", "name", "dataType"]) && !has(&["input"]) {
        Tool::LangfuseScore
    } else if has(&["bookmarked"]) && (has(&["input"]) || has(&["output"]))
        || has(&["traceId", "input", "output"])
    {
        Tool::LangfuseTrace
    } else if has(&["run_id", "key"]) && (has(&["score"]) || has(&["value"])) {
        Tool::LangSmithFeedback
    } else if has(&["run_type"]) && (has(&["inputs"]) || has(&["outputs"])) {
        Tool::LangSmithRun
    } else if has(&["span_id", "annotator_kind"]) {
        Tool::PhoenixAnnotation
    } else if has(&["input", "output"])
        && record.0.get("metadata").is_some_and(|metadata| metadata.get("annotations").is_some())
    {
        Tool::PhoenixDataset
    } else if has(&["request_id"]) && (has(&["response_body"]) || has(&["response_status"])) {
        Tool::Helicone
    } else if has(&["feedback_type", "weave_ref"]) {
        Tool::WeaveFeedback
    } else if has(&["op_name"]) && (has(&["inputs"]) || has(&["output"])) {
        Tool::WeaveCall
    } else if has(&["evaluator_logs"]) && (has(&["output"]) || has(&["output_message"])) {
        Tool::HumanloopLog
    } else if annotation::questions(record).next().is_some() {
        Tool::Argilla
    } else if annotation::old_questions(record).next().is_some() {
        Tool::ArgillaFeedback
    } else if annotation::is_task(record) {
        Tool::LabelStudio
    } else {
        return None;
    })
}

/// Returns the judgements that a record holds.
pub(crate) fn judgements(record: &Object) -> Vec<Judgement> {
    match tool(record) {
        Some(Tool::LangfuseTrace) => tracing::langfuse(record),
        Some(Tool::PhoenixDataset) => tracing::phoenix(record),
        Some(Tool::Helicone) => tracing::helicone(record),
        Some(Tool::WeaveCall) => tracing::weave(record),
        Some(Tool::HumanloopLog) => tracing::humanloop(record),
        Some(Tool::Argilla) => annotation::argilla(record),
        Some(Tool::ArgillaFeedback) => annotation::old_argilla(record),
        Some(Tool::LabelStudio) => annotation::label_studio(record),
        _ => Vec::new(),
    }
}

/// Returns the judgement of a record that is one.
pub(crate) fn row(record: &Object) -> Option<JudgementRow> {
    tracing::row(tool(record)?, record)
}

/// Returns the ids under which judgements refer to a trace.
pub(crate) fn id(record: &Object) -> Option<&str> {
    let text = |key: &str| record.0.get(key).and_then(Value::as_str);
    text("id").or_else(|| text("request_id"))
}

/// Returns the reason to leave out a trace whatever its judgements are.
pub(crate) fn error(record: &Object) -> Option<&'static str> {
    let failed = |key: &str| record.0.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let is_run = ["run_type", "op_name", "evaluator_logs"].iter().any(|key| record.0.contains_key(*key));
    (is_run && (failed("error") || failed("exception"))).then_some("error")
}

/// Returns a record with the fields of its data at the top.
pub(crate) fn flat(mut record: Object) -> Object {
    if annotation::is_task(&record) {
        let data = record.0.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
        for (key, value) in data {
            record.0.entry(key).or_insert(value);
        }
    }
    record
}

impl Judgement {
    fn new(name: &str, value: &Value) -> Self {
        let (name, value) = (name.to_owned(), value.clone());
        Self { name, value, number: None, unknown: None, by_machine: false, unanswered: None }
    }

    fn unanswered(name: &str, why: &'static str) -> Self {
        Self { unanswered: Some(why), ..Self::new(name, &Value::Null) }
    }

    fn by_machine(self, by_machine: bool) -> Self {
        Self { by_machine, ..self }
    }
}

/// Returns a list, which may be JSON in a text as tables hold it.
fn list(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list.clone()),
        Value::String(text) if text.trim_start().starts_with('[') => match json::value(text)? {
            Value::Array(list) => Some(list),
            _ => None,
        },
        _ => None,
    }
}

/// Returns an object, which may be JSON in a text as tables hold it.
fn object(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map.clone()),
        Value::String(text) if text.trim_start().starts_with('{') => match json::value(text)? {
            Value::Object(map) => Some(map),
            _ => None,
        },
        _ => None,
    }
}

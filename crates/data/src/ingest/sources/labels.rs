//! The user's own labelled completions: TRL's unpaired format (text or conversational) and
//! LLaMA-Factory's KTO format (Alpaca or ShareGPT), in which the last turn of a conversation is
//! judged.

use serde::Serialize;

use crate::ingest::{
    raw::{Flaw, RawCompletion},
    sources::{
        columns::{Columns, FoundValue, RecordField, completion, split_last, whole_conversation},
        embedded,
        json::Object,
        per_record::{Draft, Parsed, RecordFormat, SourceRecord},
        record_log::RecordLog,
        thumb_words::{Thumb, ThumbWords},
        turns::turns,
    },
};

/// Format of labelled completions, with the user's names of columns and words for labels.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LabelsFormat {
    pub(crate) columns: Columns,
    #[serde(skip_serializing_if = "ThumbWords::is_empty")]
    pub(crate) words: ThumbWords,
}

/// Reason for leaving out a record that nobody judged.
const NO_JUDGEMENT: &str = "no_judgement";

impl RecordFormat for LabelsFormat {
    fn columns(&self) -> Option<Vec<String>> {
        Some(self.columns.names())
    }

    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        let (object, remarks) = match embedded::parse(record.bytes, &self.columns) {
            Ok(parsed) => parsed,
            Err(flaw) => return Parsed::rejected(vec![flaw]),
        };
        if let Some(unjudged) = unjudged(&self.columns, &object, RecordField::Label) {
            return unjudged;
        }
        let found = self.columns.need(&object, RecordField::Label);
        match found.and_then(|found| self.words.read(found)) {
            Err(flaw) => Parsed::rejected(vec![flaw]),
            Ok(Thumb { label: None, .. }) => Parsed::filtered(NO_JUDGEMENT),
            Ok(Thumb { label: Some(_), .. }) if is_cut(&object) => Parsed::filtered("truncated"),
            Ok(Thumb { label: Some(label), remark }) => {
                let parsed = Parsed::from(self.draft(&object, label));
                let parsed = parsed.logged(RecordLog::read(&self.columns, &object));
                parsed.noting(remarks.into_iter().chain(remark).collect())
            }
        }
    }
}

/// Returns the result for a record without a judgement in `field`: filtered if the judgement is
/// null or empty, or if it is left out of a record that is complete otherwise, as in exports that
/// omit nulls.
pub(super) fn unjudged(columns: &Columns, record: &Object, field: RecordField) -> Option<Parsed> {
    let empty = |found: FoundValue<'_>| found.value.as_str().is_some_and(|text| text.trim().is_empty());
    match columns.find(record, field) {
        Some(found) => empty(found).then(|| Parsed::filtered(NO_JUDGEMENT)),
        None if columns.is_null(record, field) => Some(Parsed::filtered(NO_JUDGEMENT)),
        None => Some(match judged(columns, record) {
            Ok(_) => Parsed::filtered(NO_JUDGEMENT),
            Err(flaw) => Parsed::rejected(vec![flaw]),
        }),
    }
}

/// Returns true for a record of Dify, which cuts replies after 500 characters and adds dots.
fn is_cut(record: &Object) -> bool {
    const CUT: usize = 503;
    let reply = record.0.get("ai_response").and_then(serde_json::Value::as_str);
    record.0.contains_key("user_query")
        && reply.is_some_and(|reply| reply.ends_with("...") && reply.chars().count() == CUT)
}

impl LabelsFormat {
    fn draft(&self, record: &Object, label: bool) -> Result<Draft, Flaw> {
        let Self { columns, .. } = self;
        let (prompt, judged) = judged(columns, record)?;
        // A label in a column named `rating` is no score.
        let name = |field| columns.find(record, field).map(|found| found.name);
        let score = if name(RecordField::Score) == name(RecordField::Label) {
            None
        } else {
            columns.score(record, RecordField::Score)?
        };
        let completion = RawCompletion { label: Some(label), score, ..judged };
        Ok(Draft {
            domain: columns.domain(record)?,
            prompt,
            completions: vec![completion],
            pairs: Vec::new(),
        })
    }
}

/// Splits a record into a prompt and the judged completion. A conversation's last turn is its
/// completion.
pub(super) fn judged(
    columns: &Columns,
    record: &Object,
) -> Result<(Vec<crate::Message>, RawCompletion), Flaw> {
    if let Some(found) = columns.find(record, RecordField::Completion) {
        let prompt = columns.prompt(record)?.unwrap_or_default();
        if let Some(whole) = whole_conversation(found, &prompt) {
            return Ok(whole);
        }
        let completion = completion(found, &prompt)?;
        return Ok((prompt, completion));
    }
    let conversation = columns
        .find(record, RecordField::Conversation)
        .map_or_else(|| columns.need(record, RecordField::Completion), Ok)?;
    // Without a prompt of its own, the record's conversation is prompt and completion in one.
    let whole = match columns.prompt(record)? {
        Some(prompt) if columns.find(record, RecordField::Prompt).is_none() => prompt,
        _ => turns(conversation.name, conversation.value, "user")?,
    };
    let (prompt, last) = split_last(conversation.name, whole)?;
    Ok((prompt, RawCompletion { messages: vec![last], score: None, label: None }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::ingest::sources::tests::{only, read};

    #[test]
    fn the_formats_of_trl_and_llama_factory_mean_the_same() {
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let from = |role: &str, text: &str| json!({"from": role, "value": text});
        for row in [
            json!({"prompt": "p", "completion": "a", "label": false}),
            json!({"prompt": [turn("user", "p")], "completion": [turn("assistant", "a")], "label": false}),
            json!({"messages": [turn("user", "p"), turn("assistant", "a")], "label": false}),
            json!({"conversations": [from("human", "p"), from("gpt", "a")], "kto_tag": false}),
            json!({"instruction": "p", "input": "", "output": "a", "kto_tag": false}),
        ] {
            let group = only(&row);
            assert_eq!(group.prompt[0].content, "p", "{row}");
            assert_eq!(group.completions[0].messages[0].content, "a", "{row}");
            assert_eq!((group.completions[0].label, group.pairs.len()), (Some(false), 0));
        }
    }

    #[test]
    fn words_of_the_recipe_are_read_and_others_rejected_with_advice() {
        let rows = ["up", "5", "meh", "2"]
            .map(|word| json!({"prompt": "p", "completion": "a", "label": word}).to_string())
            .join("\n");
        let source = "{kind: labels, words: {desirable: [5], undesirable: [2]}}";
        let reading = read(source, "a.jsonl", rows.as_bytes());
        let labels: Vec<_> = reading.groups.iter().map(|group| group.completions[0].label).collect();
        assert_eq!(labels, [Some(true), Some(true), Some(false)]);
        let row = &reading.rejected[0];
        assert_eq!((row.line, row.reason.as_str(), reading.rejected.len()), (3, "unknown_word", 1));
        assert!(row.detail.contains("\"meh\"") && row.detail.contains("add it to `words:"), "{}", row.detail);
    }

    #[test]
    fn a_column_of_labels_is_not_read_as_scores_too() {
        let row = json!({"prompt": "p", "completion": "a", "rating": 1, "score": 5});
        for (columns, score) in [("{label: rating}", Some(5.0)), ("{label: score}", None)] {
            let words = if score.is_none() { ", words: {desirable: [5]}" } else { "" };
            let source = format!("{{kind: labels, columns: {columns}{words}}}");
            let reading = read(&source, "a.jsonl", row.to_string().as_bytes());
            let side = &reading.groups[0].completions[0];
            assert_eq!((side.label, side.score), (Some(true), score), "{columns}");
        }
    }

    #[test]
    fn rows_that_nobody_judged_are_filtered_and_not_rejected() {
        let rows = [
            json!({"prompt": "p", "completion": "a", "feedback": {"rating": "up"}}),
            json!({"prompt": "p", "completion": "a", "feedback": {"rating": null}}),
            json!({"prompt": "p", "completion": "a", "feedback": {"rating": " "}}),
            json!({"prompt": "p", "completion": "a", "feedback": null}),
            json!({"prompt": "p", "completion": "a"}),
            // The reply failed, and nobody judged it.
            json!({"prompt": "p", "completion": null, "feedback": null}),
            json!({"prompt": "p"}),
            json!({"prompt": "p", "completion": "", "feedback": {"rating": "down"}}),
        ];
        let text = rows.map(|row| row.to_string()).join("\n");
        let reading = read("{kind: labels, columns: {label: feedback.rating}}", "a.jsonl", text.as_bytes());
        assert_eq!((reading.counts.read, reading.groups.len()), (8, 1));
        assert_eq!(reading.counts.filtered["no_judgement"], 5);
        let rejected: Vec<_> = reading.rejected.iter().map(|row| (row.line, row.reason.as_str())).collect();
        assert_eq!(rejected, [(7, "missing_field"), (8, "empty_completion")]);
    }

    #[test]
    fn the_kind_is_known_if_the_first_rows_are_not_judged() {
        let rows = "{\"prompt\": \"p\", \"completion\": \"a\", \"label\": null}\n".repeat(40)
            + "{\"prompt\": \"p\", \"completion\": \"a\", \"label\": \"👎\"}\n";
        let reading = read("{}", "a.jsonl", rows.as_bytes());
        assert_eq!((reading.counts.filtered["no_judgement"], reading.groups.len()), (40, 1));
    }

    #[test]
    fn zeros_are_noted_beside_minus_ones() {
        let notes = |labels: &[i32]| {
            let rows: Vec<_> = labels
                .iter()
                .map(|label| json!({"prompt": "p", "completion": "a", "label": label}).to_string())
                .collect();
            read("{}", "a.jsonl", rows.join("\n").as_bytes()).counts.noted
        };
        let noted = notes(&[1, 0, -1, 0]);
        assert_eq!((noted["label_zero"], noted["label_minus_one"]), (2, 1));
    }

    #[test]
    fn tables_are_read_with_their_own_names_of_columns() {
        let source = "{columns: {prompt: question, completion: answer, label: thumb}}";
        let reading = read(
            source,
            "a.csv",
            b"question,answer,thumb\nhow?,\"so, so\",up\nwhy?,,down\nwho?,me,sideways\nwhen?,now,\n",
        );
        assert_eq!((reading.groups.len(), reading.counts.filtered["no_judgement"]), (1, 1));
        assert_eq!(reading.groups[0].completions[0].messages[0].content, "so, so");
        let rejected: Vec<_> = reading.rejected.iter().map(|row| (row.line, row.reason.as_str())).collect();
        assert_eq!(rejected, [(3, "empty_completion"), (4, "unknown_word")]);
    }
}

//! The user's own labelled completions: TRL's unpaired format (text or conversational) and
//! LLaMA-Factory's KTO format (Alpaca or ShareGPT), in which the last turn of a conversation is
//! judged.

use serde::Serialize;

use crate::ingest::{
    raw::{Flaw, RawCompletion},
    sources::{
        columns::{Columns, RecordField, completion, label, split_last},
        json::{self, Object},
        per_record::{Draft, Parsed, RecordFormat, SourceRecord},
        turns::turns,
    },
};

/// Format of labelled completions, with the user's column names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LabelsFormat {
    pub(crate) columns: Columns,
}

impl RecordFormat for LabelsFormat {
    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        json::parse::<Object>(record.bytes).and_then(|object| self.draft(&object)).into()
    }
}

impl LabelsFormat {
    fn draft(&self, record: &Object) -> Result<Draft, Flaw> {
        let Self { columns } = self;
        let label = label(columns.need(record, RecordField::Label)?)?;
        let (prompt, judged) = judged(columns, record)?;
        let completion =
            RawCompletion { label: Some(label), score: columns.score(record, RecordField::Score)?, ..judged };
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
    fn labels_are_read_in_words_and_never_guessed() {
        let label = |label: serde_json::Value| {
            let row = json!({"prompt": "p", "completion": "a", "label": label}).to_string();
            let reading = read("{kind: labels}", "a.jsonl", row.as_bytes());
            reading.groups.first().map(|group| group.completions[0].label.unwrap())
        };
        for (value, expected) in [
            (json!(true), Some(true)),
            (json!(0), Some(false)),
            (json!("False"), Some(false)),
            (json!("1"), Some(true)),
            (json!("-1"), Some(false)),
            (json!("maybe"), None),
            (json!(2), None),
            (json!(""), None),
            (json!(null), None),
        ] {
            assert_eq!(label(value.clone()), expected, "{value}");
        }
    }

    #[test]
    fn tables_are_read_with_their_own_names_of_columns() {
        let source = "{columns: {prompt: question, completion: answer, label: thumb}}";
        let reading = read(
            source,
            "a.csv",
            b"question,answer,thumb\nhow?,\"so, so\",up\nwhy?,,down\nwho?,me,sideways\n",
        );
        assert_eq!(reading.groups.len(), 1);
        assert_eq!(reading.groups[0].completions[0].messages[0].content, "so, so");
        let rejected: Vec<_> = reading.rejected.iter().map(|row| (row.line, row.reason.as_str())).collect();
        assert_eq!(rejected, [(3, "empty_completion"), (4, "bad_value")]);
    }
}

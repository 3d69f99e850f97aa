//! The user's own scored completions, as in UltraFeedback. A record holds one completion and its
//! score, or several completions of one prompt. Several completions are texts or turns with a
//! parallel list of scores, or objects that hold text and score. `source.binarise` turns the scores
//! into labels.

use serde::Serialize;
use serde_json::Value;

use crate::ingest::{
    raw::{Flaw, RawCompletion, RejectReason},
    sources::{
        columns::{Columns, FoundValue, RecordField, completion, score},
        json::{self, Object, wrong_type},
        labels::{judged, unjudged},
        per_record::{Draft, Parsed, RecordFormat, SourceRecord},
        record_log::RecordLog,
    },
};

/// Format of scored completions, with the user's column names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ScoresFormat {
    pub(crate) columns: Columns,
}

impl RecordFormat for ScoresFormat {
    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        let object: Object = match json::parse(record.bytes) {
            Ok(object) => object,
            Err(flaw) => return Parsed::rejected(vec![flaw]),
        };
        let single = self.columns.find(&object, RecordField::Completions).is_none();
        if single && let Some(unjudged) = unjudged(&self.columns, &object, RecordField::Score) {
            return unjudged;
        }
        Parsed::from(self.draft(&object)).logged(RecordLog::read(&self.columns, &object))
    }
}

impl ScoresFormat {
    fn draft(&self, record: &Object) -> Result<Draft, Flaw> {
        let Self { columns } = self;
        let domain = columns.domain(record)?;
        let Some(list) = columns.find(record, RecordField::Completions) else {
            let score = score(columns.need(record, RecordField::Score)?)?;
            let (prompt, judged) = judged(columns, record)?;
            let completions = vec![RawCompletion { score, ..judged }];
            return Ok(Draft { domain, prompt, completions, pairs: Vec::new() });
        };
        let prompt = columns.prompt(record)?.unwrap_or_default();
        let values = list.value.as_array().ok_or_else(|| wrong_type(list.name, list.value, "a list"))?;
        let scores = columns.find(record, RecordField::Scores);
        let scores = scores
            .map(|found| found.value.as_array().ok_or_else(|| wrong_type(found.name, found.value, "a list")))
            .transpose()?;
        if let Some(scores) = scores.filter(|scores| scores.len() != values.len()) {
            let detail = format!("{} completions with {} scores", values.len(), scores.len());
            return Err(Flaw { reason: RejectReason::BadValue, detail });
        }
        let mut completions = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let mut scored = match value {
                // A turn is an object too, but has a role.
                Value::Object(object) if !object.contains_key("role") && !object.contains_key("from") => {
                    self.object(list.name, object, &prompt)?
                }
                value => completion(FoundValue { name: list.name, value }, &prompt)?,
            };
            if let Some(value) = scores.and_then(|scores| scores.get(index)).filter(|value| !value.is_null())
            {
                scored.score = score(FoundValue { name: "scores", value })?;
            }
            completions.push(scored);
        }
        Ok(Draft { domain, prompt, completions, pairs: Vec::new() })
    }

    /// Parses a completion that contains its own score.
    fn object(
        &self,
        name: &str,
        object: &serde_json::Map<String, Value>,
        prompt: &[crate::Message],
    ) -> Result<RawCompletion, Flaw> {
        const TEXT: [&str; 5] = ["response", "text", "content", "completion", "output"];
        let value = TEXT.iter().find_map(|key| object.get(*key)).ok_or_else(|| Flaw {
            reason: RejectReason::MissingField,
            detail: format!("an object of `{name}` has none of `{}`", TEXT.join("`, `")),
        })?;
        let scored = Object(object.clone());
        Ok(RawCompletion {
            score: self.columns.score(&scored, RecordField::Score)?,
            ..completion(FoundValue { name, value }, prompt)?
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::ingest::sources::tests::read;

    #[test]
    fn scores_stand_in_objects_or_in_a_list_beside_the_completions() {
        for row in [
            json!({"instruction": "p", "completions": [{"response": "a", "overall_score": 8}, {"response": "b", "overall_score": 3.5}]}),
            json!({"prompt": "p", "completions": ["a", "b"], "scores": [8, 3.5]}),
            json!({"prompt": "p", "completions": [[{"role": "assistant", "content": "a"}], {"from": "gpt", "value": "b"}], "ratings": ["8", 3.5]}),
        ] {
            let source = "{binarise: {by: best_and_worst}}";
            let reading = read(source, "a.jsonl", row.to_string().as_bytes());
            let scores: Vec<_> = reading.groups[0]
                .completions
                .iter()
                .map(|completion| (completion.messages[0].content.as_str(), completion.score))
                .collect();
            assert_eq!(scores, [("a", Some(8.0)), ("b", Some(3.5))], "{row}");
            assert_eq!(reading.groups[0].pairs, [(0, 1)]);
        }
    }

    #[test]
    fn single_completions_without_a_score_are_filtered() {
        let rows = [
            json!({"prompt": "p", "completion": "a", "score": 1}),
            json!({"prompt": "p", "completion": "b", "score": null}),
            json!({"prompt": "p", "completion": "c", "score": ""}),
            json!({"prompt": "p", "completion": "d"}),
        ];
        let text = rows.map(|row| row.to_string()).join("\n");
        let reading = read("{binarise: {by: threshold, at: 0}}", "a.jsonl", text.as_bytes());
        assert_eq!((reading.groups.len(), reading.counts.filtered["no_judgement"]), (1, 3));
    }

    #[test]
    fn lists_of_unequal_length_and_completions_without_text_are_rejected() {
        for (row, reason) in [
            (json!({"prompt": "p", "completions": ["a", "b"], "scores": [1]}), "bad_value"),
            (json!({"prompt": "p", "completions": [{"score": 1}]}), "missing_field"),
            (json!({"prompt": "p", "completions": "a"}), "wrong_type"),
            (json!({"prompt": "p"}), "missing_field"),
        ] {
            let source = "{kind: scores, binarise: {by: best_and_worst}}";
            let reading = read(source, "a.jsonl", row.to_string().as_bytes());
            assert_eq!(reading.rejected[0].reason, reason, "{row}");
        }
    }
}

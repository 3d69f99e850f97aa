//! The user's own scored completions, as in UltraFeedback. A record holds one completion and its
//! score, or several completions of one prompt. Several completions are texts or turns with a
//! parallel list of scores, or objects that hold text and score. `source.binarise` turns the scores
//! into labels. Of several completions, only those that cannot be used are left out.

use serde::Serialize;
use serde_json::Value;

use crate::{
    Message,
    ingest::{
        raw::{Flaw, RawCompletion, RejectReason, Remark},
        sources::{
            columns::{Columns, FoundValue, RecordField, completion, score},
            embedded,
            json::{Object, wrong_type},
            labels::{judged, unjudged},
            oasst::RankPairing,
            per_record::{Draft, Parsed, RecordFormat, SourceRecord},
            record_log::RecordLog,
        },
    },
};

/// Format of scored or ranked completions, with the user's column names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ScoresFormat {
    pub(crate) columns: Columns,
    /// Ranks that form pairs, if completions have ranks; 1 is best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ranks: Option<RankPairing>,
    /// Merges consecutive records of one prompt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) merge_prompts: bool,
}

/// Key of a completion's rank.
const RANK: &str = "rank";

impl RecordFormat for ScoresFormat {
    fn columns(&self) -> Option<Vec<String>> {
        Some(self.columns.names())
    }

    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        let (object, mut remarks) = match embedded::parse(record.bytes, &self.columns) {
            Ok(parsed) => parsed,
            Err(flaw) => return Parsed::rejected(vec![flaw]),
        };
        let single = self.columns.find(&object, RecordField::Completions).is_none();
        if single && let Some(unjudged) = unjudged(&self.columns, &object, RecordField::Score) {
            return unjudged;
        }
        let parsed = Parsed::from(self.draft(&object, &mut remarks));
        parsed.logged(RecordLog::read(&self.columns, &object)).noting(remarks)
    }
}

impl ScoresFormat {
    fn draft(&self, record: &Object, remarks: &mut Vec<Remark>) -> Result<Draft, Flaw> {
        let Self { columns, .. } = self;
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
        let mut flaws = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let score = scores.and_then(|scores| scores.get(index));
            match self.completion(FoundValue { name: list.name, value }, score, &prompt) {
                Ok(completion) => completions.push(completion),
                Err(flaw) => flaws.push(flaw),
            }
        }
        if completions.is_empty() {
            let detail = format!("`{}` is empty", list.name);
            return Err(flaws.pop().unwrap_or(Flaw { reason: RejectReason::EmptyCompletion, detail }));
        }
        remarks.extend(flaws.iter().map(|flaw| Remark::Filtered(flaw.reason.into())));
        let pairs = self.ranks.map_or_else(Vec::new, |ranks| ranked_pairs(&completions, ranks, remarks));
        Ok(Draft { domain, prompt, completions, pairs })
    }

    /// Parses one of several completions; `given` is its score in a list of scores.
    fn completion(
        &self,
        found: FoundValue<'_>,
        given: Option<&Value>,
        prompt: &[Message],
    ) -> Result<RawCompletion, Flaw> {
        let mut scored = match found.value {
            // A turn is an object too, but has a role.
            Value::Object(object) if !object.contains_key("role") && !object.contains_key("from") => {
                self.object(found.name, object, prompt)?
            }
            _ => completion(found, prompt)?,
        };
        if let Some(value) = given {
            scored.score = score(FoundValue { name: "scores", value })?;
        }
        if scored.messages.iter().all(|turn| turn.content.is_empty()) {
            let detail = format!("a completion of `{}` is empty", found.name);
            return Err(Flaw { reason: RejectReason::EmptyCompletion, detail });
        }
        Ok(scored)
    }

    /// Parses a completion that contains its own score.
    fn object(
        &self,
        name: &str,
        object: &serde_json::Map<String, Value>,
        prompt: &[Message],
    ) -> Result<RawCompletion, Flaw> {
        const TEXT: [&str; 6] = ["response", "text", "content", "completion", "output", "answer"];
        let value = TEXT.iter().find_map(|key| object.get(*key)).ok_or_else(|| Flaw {
            reason: RejectReason::MissingField,
            detail: format!("an object of `{name}` has none of `{}`", TEXT.join("`, `")),
        })?;
        let score = match (self.ranks, object.get(RANK)) {
            (Some(_), Some(value)) => score(FoundValue { name: RANK, value })?.map(|rank| -rank),
            (Some(_), None) => None,
            (None, _) => self.columns.score(&Object(object.clone()), RecordField::Score)?,
        };
        Ok(RawCompletion { score, ..completion(FoundValue { name, value }, prompt)? })
    }
}

/// Returns true for several completions that have ranks and no scores.
pub(crate) fn are_ranked(columns: &Columns, record: &Object) -> bool {
    let list = columns.find(record, RecordField::Completions).and_then(|found| found.value.as_array());
    list.is_some_and(|list| !list.is_empty() && list.iter().all(|one| one.get(RANK).is_some()))
        && columns.find(record, RecordField::Scores).is_none()
}

/// Pairs completions whose score is minus their rank.
fn ranked_pairs(
    completions: &[RawCompletion],
    ranks: RankPairing,
    remarks: &mut Vec<Remark>,
) -> Vec<(usize, usize)> {
    let unranked = completions.iter().filter(|one| one.score.is_none()).count();
    remarks.extend((0..unranked).map(|_| Remark::Noted("completion_without_rank")));
    let mut ranked: Vec<(f64, usize)> =
        completions.iter().enumerate().filter_map(|(index, one)| Some((-one.score?, index))).collect();
    ranked.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut pairs = Vec::new();
    for (place, (rank, chosen)) in ranked.iter().enumerate() {
        for (next, rejected) in ranked.iter().skip(place + 1) {
            let paired = match ranks {
                RankPairing::Adjacent => (next - rank - 1.0).abs() < 1e-9,
                RankPairing::All => next > rank,
            };
            if !paired {
                continue;
            }
            if completions[*chosen].messages == completions[*rejected].messages {
                remarks.push(Remark::Filtered("identical_replies"));
            } else {
                pairs.push((*chosen, *rejected));
            }
        }
    }
    pairs
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
    fn one_bad_answer_does_not_take_the_others_with_it() {
        let object = |text: &str, score: serde_json::Value| json!({"response": text, "overall_score": score});
        for (row, left_out, scores) in [
            (
                json!({"instruction": "p", "completions": [object("a", json!(8)), object("", json!(6)), object("c", json!(1))]}),
                Some("empty_completion"),
                vec![Some(8.0), Some(1.0)],
            ),
            (
                json!({"instruction": "p", "completions": [object("a", json!(8)), object("b", json!("N/A")), object("c", json!("1"))]}),
                None,
                vec![Some(8.0), None, Some(1.0)],
            ),
            (
                json!({"prompt": "p", "completions": ["a", null, "c"], "scores": [8, 6, 1]}),
                Some("wrong_type"),
                vec![Some(8.0), Some(1.0)],
            ),
            (
                json!({"prompt": "p", "completions": ["a", "b", "c"], "scores": [8, "good", 1]}),
                Some("wrong_type"),
                vec![Some(8.0), Some(1.0)],
            ),
            (
                json!({"prompt": "p", "completions": ["a", "b", "c"], "scores": [8, null, 1]}),
                None,
                vec![Some(8.0), None, Some(1.0)],
            ),
            (
                json!({"prompt": "p", "completions": ["a", {"score": 6}, "c"], "scores": [8, 6, 1]}),
                Some("missing_field"),
                vec![Some(8.0), Some(1.0)],
            ),
        ] {
            let reading = read(
                "{kind: scores, binarise: {by: threshold, at: 5}}",
                "a.jsonl",
                row.to_string().as_bytes(),
            );
            let group = &reading.groups[0];
            let found: Vec<_> = group.completions.iter().map(|completion| completion.score).collect();
            assert_eq!((found, group.pairs.len()), (scores, 1), "{row}");
            let filtered: Vec<_> = reading.counts.filtered.keys().map(String::as_str).collect();
            assert_eq!(filtered, left_out.into_iter().collect::<Vec<_>>(), "{row}");
            let unscored = u64::from(left_out.is_none());
            assert_eq!(
                reading.counts.noted.get("completion_without_score").copied().unwrap_or_default(),
                unscored
            );
        }
    }

    #[test]
    fn lists_of_unequal_length_and_completions_without_text_are_rejected() {
        for (row, reason) in [
            (json!({"prompt": "p", "completions": ["a", "b"], "scores": [1]}), "bad_value"),
            (json!({"prompt": "p", "completions": [{"score": 1}]}), "missing_field"),
            (json!({"prompt": "p", "completions": "a"}), "wrong_type"),
            (json!({"prompt": "p", "completions": []}), "empty_completion"),
            (json!({"prompt": "p", "completions": ["", " "]}), "empty_completion"),
            (json!({"prompt": "p"}), "missing_field"),
        ] {
            let source = "{kind: scores, binarise: {by: best_and_worst}}";
            let reading = read(source, "a.jsonl", row.to_string().as_bytes());
            assert_eq!(reading.rejected[0].reason, reason, "{row}");
        }
    }
}

//! The user's own pairs: TRL's paired format (text or conversational, with an explicit prompt or
//! one implied by two conversations) and LLaMA-Factory's DPO format (Alpaca or ShareGPT).

use serde::Serialize;
use serde_json::Value;

use crate::{
    Message,
    ingest::{
        raw::{Flaw, RawCompletion, RejectReason},
        sources::{
            columns::{Columns, FoundValue, RecordField, completion, split_last, whole_conversation},
            embedded,
            json::Object,
            per_record::{Draft, Parsed, RecordFormat, SourceRecord},
            record_log::RecordLog,
            turns::turns,
        },
    },
};

/// Format of pairs, with the user's column names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PairsFormat {
    pub(crate) columns: Columns,
}

impl RecordFormat for PairsFormat {
    fn columns(&self) -> Option<Vec<String>> {
        Some(self.columns.names())
    }

    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        match embedded::parse(record.bytes, &self.columns) {
            Ok((object, _)) if is_tie(&object) => Parsed::filtered("tie"),
            Ok((object, remarks)) => Parsed::from(self.draft(&object))
                .logged(RecordLog::read(&self.columns, &object))
                .noting(remarks),
            Err(flaw) => Parsed::rejected(vec![flaw]),
        }
    }
}

/// Returns true for a pair of distilabel that its judge found equal.
fn is_tie(record: &Object) -> bool {
    record.0.get("status").is_some_and(|status| status == "tie") && record.0.contains_key("rating")
}

impl PairsFormat {
    fn draft(&self, record: &Object) -> Result<Draft, Flaw> {
        let Self { columns } = self;
        let rejected = columns.need(record, RecordField::Rejected)?;
        let (prompt, mut chosen, mut rejected) = match columns.find(record, RecordField::Chosen) {
            Some(chosen) => sides(columns, record, chosen, rejected)?,
            None => last_turn_is_chosen(columns, record, rejected)?,
        };
        chosen.score = columns.score(record, RecordField::ScoreChosen)?;
        rejected.score = columns.score(record, RecordField::ScoreRejected)?;
        Ok(Draft {
            domain: columns.domain(record)?,
            prompt,
            completions: vec![chosen, rejected],
            pairs: vec![(0, 1)],
        })
    }
}

/// Returns the prompt of a record, and the two completions of its sides.
pub(super) fn sides(
    columns: &Columns,
    record: &Object,
    one: FoundValue<'_>,
    other: FoundValue<'_>,
) -> Result<(Vec<Message>, RawCompletion, RawCompletion), Flaw> {
    let Some(prompt) = columns.prompt(record)? else { return implicit(one, other) };
    if let (Some((before, first)), Some((also, second))) =
        (whole_conversation(one, &prompt), whole_conversation(other, &prompt))
    {
        equal_prompts(&before, &also)?;
        return Ok((before, first, second));
    }
    let (first, second) = (completion(one, &prompt)?, completion(other, &prompt)?);
    Ok((prompt, first, second))
}

/// Reads a conversation whose last turn is the chosen completion, as ms-swift has it.
fn last_turn_is_chosen(
    columns: &Columns,
    record: &Object,
    rejected: FoundValue<'_>,
) -> Result<(Vec<Message>, RawCompletion, RawCompletion), Flaw> {
    let Some(conversation) = columns.find(record, RecordField::Conversation) else {
        return Err(columns.need(record, RecordField::Chosen).err().unwrap_or_else(|| no_prompt(rejected)));
    };
    let whole = turns(conversation.name, conversation.value, "user")?;
    let (prompt, last) = split_last(conversation.name, whole)?;
    let chosen = RawCompletion { messages: vec![last], score: None, label: None };
    let rejected = completion(rejected, &prompt)?;
    Ok((prompt, chosen, rejected))
}

fn no_prompt(side: FoundValue<'_>) -> Flaw {
    let detail = format!("no `prompt`, and `{}` is not a conversation that contains it", side.name);
    Flaw { reason: RejectReason::MissingField, detail }
}

fn equal_prompts(one: &[Message], other: &[Message]) -> Result<(), Flaw> {
    if one == other {
        return Ok(());
    }
    let detail =
        format!("the conversations differ before their last turn ({} and {} turns)", one.len(), other.len());
    Err(Flaw { reason: RejectReason::UnequalPrompts, detail })
}

/// Extracts the implicit prompt of two conversations. Each is split before its last turn, which
/// must be the assistant's; the rest must be equal. Plain texts are rejected: their common prefix
/// may belong to the completions.
fn implicit(
    chosen: FoundValue<'_>,
    rejected: FoundValue<'_>,
) -> Result<(Vec<Message>, RawCompletion, RawCompletion), Flaw> {
    let side = |found: FoundValue<'_>| {
        if !matches!(found.value, Value::Array(_)) {
            return Err(no_prompt(found));
        }
        split_last(found.name, turns(found.name, found.value, "assistant")?)
    };
    let ((prompt, chosen), (other, rejected)) = (side(chosen)?, side(rejected)?);
    equal_prompts(&prompt, &other)?;
    let completion = |turn| RawCompletion { messages: vec![turn], score: None, label: None };
    Ok((prompt, completion(chosen), completion(rejected)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::ingest::{
        raw::RawGroup,
        sources::tests::{only, read},
    };

    fn texts(group: &RawGroup) -> (Vec<&str>, Vec<&str>) {
        let prompt = group.prompt.iter().map(|turn| turn.content.as_str()).collect();
        (prompt, group.completions.iter().map(|side| side.messages[0].content.as_str()).collect())
    }

    #[test]
    fn the_formats_of_trl_and_llama_factory_mean_the_same() {
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let from = |role: &str, text: &str| json!({"from": role, "value": text});
        for row in [
            json!({"prompt": "p", "chosen": "a", "rejected": "b"}),
            json!({"prompt": [turn("user", "p")], "chosen": [turn("assistant", "a")], "rejected": [turn("assistant", "b")]}),
            json!({"prompt": "p", "chosen": [turn("user", "p"), turn("assistant", "a")], "rejected": [turn("user", "p"), turn("assistant", "b")]}),
            json!({"chosen": [turn("user", "p"), turn("assistant", "a")], "rejected": [turn("user", "p"), turn("assistant", "b")]}),
            json!({"conversations": [from("human", "p")], "chosen": from("gpt", "a"), "rejected": from("gpt", "b")}),
            json!({"instruction": "p", "input": "", "chosen": "a", "rejected": "b"}),
        ] {
            let group = only(&row);
            assert_eq!(texts(&group), (vec!["p"], vec!["a", "b"]), "{row}");
            assert_eq!(group.pairs, [(0, 1)]);
        }
        let row = json!({"instruction": "q", "input": "i", "system": "s", "history": [["h", "r"]], "chosen": "a", "rejected": "b"});
        assert_eq!(texts(&only(&row)).0, ["s", "h", "r", "q\ni"]);
    }

    #[test]
    fn what_cannot_be_split_is_rejected() {
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        for (row, reason) in [
            (json!({"chosen": "p a", "rejected": "p b"}), "missing_field"),
            (
                json!({"chosen": [turn("user", "p"), turn("assistant", "a")], "rejected": [turn("user", "q"), turn("assistant", "b")]}),
                "unequal_prompts",
            ),
            (json!({"chosen": [turn("user", "p")], "rejected": [turn("user", "p")]}), "human_turn_last"),
            (
                json!({"prompt": "p", "chosen": [turn("user", "x"), turn("assistant", "a")], "rejected": "b"}),
                "no_assistant_turn",
            ),
            (json!({"prompt": "p", "chosen": "a", "rejected": " a"}), "identical_completions"),
            (json!({"prompt": " ", "chosen": "a", "rejected": "b"}), "empty_prompt"),
            (json!({"prompt": "p", "chosen": true, "rejected": "b"}), "wrong_type"),
            (json!({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "high"}), "wrong_type"),
        ] {
            let reading = read("{kind: pairs}", "a.jsonl", row.to_string().as_bytes());
            assert_eq!(
                reading.rejected.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>(),
                [reason],
                "{row}"
            );
        }
    }

    #[test]
    fn a_prompt_from_the_column_input_is_not_doubled() {
        for (source, row, prompt) in [
            ("{columns: {prompt: input}}", json!({"input": "p", "chosen": "a", "rejected": "b"}), vec!["p"]),
            (
                "{columns: {system: input}}",
                json!({"input": "s", "prompt": "p", "chosen": "a", "rejected": "b"}),
                vec!["s", "p"],
            ),
            (
                "{columns: {prompt: input}}",
                json!({"input": "p", "instruction": "q", "chosen": "a", "rejected": "b"}),
                vec!["p"],
            ),
            (
                "{columns: {prompt: history}}",
                json!({"history": "[p]", "chosen": "a", "rejected": "b"}),
                vec!["[p]"],
            ),
            ("{}", json!({"instruction": "p", "input": "i", "chosen": "a", "rejected": "b"}), vec!["p\ni"]),
        ] {
            let reading = read(source, "a.jsonl", row.to_string().as_bytes());
            assert_eq!(texts(&reading.groups[0]).0, prompt, "{source} {row}");
        }
    }

    #[test]
    fn columns_have_the_names_that_the_recipe_gives_them() {
        let source = "{columns: {prompt: Question, chosen: good.text, rejected: bad, score_chosen: good.score, domain: topic}}";
        let row = json!({"Question": "p", "good": {"text": "a", "score": 7}, "bad": "b", "topic": "law"});
        let reading = read(source, "a.jsonl", row.to_string().as_bytes());
        assert_eq!(texts(&reading.groups[0]), (vec!["p"], vec!["a", "b"]));
        assert_eq!((reading.groups[0].completions[0].score, &*reading.groups[0].domain), (Some(7.0), "law"));
    }
}

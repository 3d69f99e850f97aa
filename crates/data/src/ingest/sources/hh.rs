//! Anthropic's HH: one JSON object per line, `{"chosen": TRANSCRIPT, "rejected": TRANSCRIPT}`.
//!
//! Each side is split at its own last assistant turn (see [`transcript`]); the two prompts must
//! then be equal. Two shortcuts fail here. Splitting at the longest common prefix moves the shared
//! beginning of two completions into the prompt. Slicing one side by the length of the other's
//! prompt cuts words. The numbers `score_chosen` and `score_rejected` are kept if a line has them;
//! other keys are ignored.

use serde::Deserialize;

use crate::{
    Message,
    ingest::{
        raw::{Flaw, RawCompletion, RejectReason, Remark},
        sources::{
            excerpt::excerpt,
            json, numbers,
            per_record::{Draft, Parsed, RecordFormat, SourceRecord},
            transcript::{self, Transcript},
        },
    },
};

/// Format of HH.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HhFormat;

#[derive(Deserialize)]
struct HhRecord {
    chosen: String,
    rejected: String,
    #[serde(default, deserialize_with = "numbers::optional")]
    score_chosen: Option<f64>,
    #[serde(default, deserialize_with = "numbers::optional")]
    score_rejected: Option<f64>,
}

impl RecordFormat for HhFormat {
    fn columns(&self) -> Option<Vec<String>> {
        Some(["chosen", "rejected", "score_chosen", "score_rejected"].map(str::to_owned).into())
    }

    fn parse(&self, record: &SourceRecord<'_>) -> Parsed {
        let line: HhRecord = match json::parse(record.bytes) {
            Ok(line) => line,
            Err(flaw) => return Parsed::rejected(vec![flaw]),
        };
        let (chosen, rejected) = match (side("chosen", &line.chosen), side("rejected", &line.rejected)) {
            (Ok(chosen), Ok(rejected)) => (chosen, rejected),
            (chosen, rejected) => {
                return Parsed::rejected([chosen.err(), rejected.err()].into_iter().flatten().collect());
            }
        };
        let unequal = unequal_prompts(&chosen, &rejected);
        let trimmed = chosen.trimmed || rejected.trimmed;
        let completion = |text: String, score| RawCompletion {
            messages: vec![Message::assistant(text)],
            score,
            label: None,
        };
        let draft = Draft {
            domain: None,
            prompt: chosen.prompt,
            completions: vec![
                completion(chosen.completion, line.score_chosen),
                completion(rejected.completion, line.score_rejected),
            ],
            pairs: vec![(0, 1)],
        };
        if let Some(unequal) = unequal {
            // Identical completions of different prompts are no flaw.
            let others =
                draft.flaws().into_iter().filter(|flaw| flaw.reason != RejectReason::IdenticalCompletions);
            return Parsed::rejected(others.chain([unequal]).collect());
        }
        let mut parsed = Parsed::from(Ok(draft));
        if trimmed && parsed.drafts.is_ok() {
            parsed.remarks.push(Remark::Repaired("trimmed_white_space"));
        }
        parsed
    }
}

fn side(name: &str, text: &str) -> Result<Transcript, Flaw> {
    transcript::parse(text).map_err(|flaw| {
        let (reason, what) = match flaw {
            transcript::TranscriptFlaw::NoAssistantTurn => {
                (RejectReason::NoAssistantTurn, "has no assistant turn")
            }
            transcript::TranscriptFlaw::TextBeforeFirstTurn => {
                (RejectReason::TextBeforeFirstTurn, "has text before its first turn")
            }
            transcript::TranscriptFlaw::HumanTurnLast => {
                (RejectReason::HumanTurnLast, "ends with a human turn")
            }
        };
        Flaw { reason, detail: format!("{name} {what}: {}", excerpt(text.trim())) }
    })
}

fn unequal_prompts(chosen: &Transcript, rejected: &Transcript) -> Option<Flaw> {
    if chosen.prompt == rejected.prompt {
        return None;
    }
    let same = chosen.prompt.iter().zip(&rejected.prompt).take_while(|(one, other)| one == other).count();
    let (one, other) = (chosen.prompt.len(), rejected.prompt.len());
    let detail = format!("prompts of {one} and {other} turns differ from turn {}", same + 1);
    Some(Flaw { reason: RejectReason::UnequalPrompts, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sources::tests::{Collected, read};
    use proptest::prelude::*;

    fn hh(lines: &[&[u8]]) -> Collected {
        read("{kind: hh}", "a.jsonl", &lines.join(&b'\n'))
    }

    fn line(chosen: &str, rejected: &str) -> String {
        serde_json::json!({"chosen": chosen, "rejected": rejected}).to_string()
    }

    #[test]
    fn every_flaw_is_named_and_overlaps_are_told() {
        let same = "\n\nHuman: a\n\nAssistant: b";
        let lines = [
            line(same, "\n\nHuman: a\n\nAssistant: c"),
            line(same, same),
            line(same, "\n\nHuman: z\n\nAssistant: "),
            line("\n\nAssistant: b", "\n\nAssistant: c"),
            line("\n\nHuman: a", "x\n\nAssistant: c"),
            r#"{"chosen": "x"}"#.to_owned(),
            r#"{"chosen": "x", "rejected": 3}"#.to_owned(),
            r#"{"chosen": "x", "rejec"#.to_owned(),
            r"[1, 2]".to_owned(),
        ];
        let mut bytes: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        bytes.push(b"{\"chosen\": \"\xff\"}");
        let reading = hh(&bytes);
        let reasons: Vec<_> = reading.rejected.iter().map(|row| (row.line, row.reason.as_str())).collect();
        let expected = [
            (2, "identical_completions"),
            (3, "empty_completion+unequal_prompts"),
            (4, "empty_prompt"),
            (5, "no_assistant_turn+text_before_first_turn"),
            (6, "missing_field"),
            (7, "wrong_type"),
            (8, "not_json"),
            (9, "wrong_type"),
            (10, "not_utf8"),
        ];
        assert_eq!(reasons, expected);
        assert_eq!(reading.counts.rejected_by_reason["empty_completion"], 1);
        assert_eq!(reading.counts.rejected_overlaps["empty_completion+unequal_prompts"], 1);
        assert_eq!(reading.counts.pairs, 1);
    }

    #[test]
    fn scores_are_kept_and_other_keys_ignored() {
        let text = r#"{"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"\n\nHuman: a\n\nAssistant: c","score_chosen":1,"extra":[{}]}"#;
        let reading = hh(&[text.as_bytes()]);
        let scores: Vec<_> = reading.groups[0].completions.iter().map(|side| side.score).collect();
        assert_eq!(scores, [Some(1.0), None]);
    }

    #[test]
    fn odd_pairs_are_kept_and_noted() {
        let text = "\n\nHuman: a\n\nHuman: \n\nAssistant: ";
        let reading = hh(&[line(&format!("{text}b"), &format!("{text}c")).as_bytes()]);
        assert_eq!(reading.counts.pairs, 1);
        assert_eq!(
            (reading.counts.noted["consecutive_turns"], reading.counts.noted["empty_prompt_turn"]),
            (1, 1)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_sides_are_pairs_or_rejected(
            parts in proptest::collection::vec("\n|Human:|\n\nHuman: a|\n\nAssistant: |é|\\PC", 0..12),
            cut in 0usize..12,
        ) {
            let (chosen, rejected) = parts.split_at(cut.min(parts.len()));
            let line = line(&chosen.concat(), &rejected.concat());
            let record = SourceRecord { bytes: line.as_bytes(), split: None, number: 0 };
            for draft in HhFormat.parse(&record).drafts.into_iter().flatten() {
                prop_assert!(draft.completions[0] != draft.completions[1] && !draft.prompt.is_empty());
            }
        }
    }
}

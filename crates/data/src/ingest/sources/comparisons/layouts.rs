//! Layouts of public sets of comparisons, recognised by their columns.

use serde_json::Value;

use super::{Better, OneHot, Side};
use crate::ingest::sources::{columns::RecordField, json::Object, numbers, thumb_words::Word};

/// Layout of a set.
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    /// Columns that every record has.
    keys: &'static [&'static str],
    pub(crate) columns: &'static [(RecordField, &'static str)],
    verdict: LayoutVerdict,
}

enum LayoutVerdict {
    /// Common words, or scores.
    Usual,
    /// Numbers for the first and the second side.
    Index(f64, f64),
    /// Negative numbers prefer the first side.
    NegativeIsFirst,
    OneHot([&'static str; 3]),
}

use LayoutVerdict::{Index, NegativeIsFirst, Usual};
use RecordField::{Better as Verdict, First, Prompt, ScoreFirst, ScoreSecond, Second};

const LAYOUTS: [Layout; 11] = [
    Layout {
        name: "PKU-SafeRLHF (better: the more helpful; map `better` to safer_response_id for the safer)",
        keys: &["response_0", "response_1", "better_response_id"],
        columns: &[(First, "response_0"), (Second, "response_1"), (Verdict, "better_response_id")],
        verdict: Index(0.0, 1.0),
    },
    Layout {
        name: "HelpSteer2, preference",
        keys: &["response_1", "response_2", "preference_strength"],
        columns: &[(First, "response_1"), (Second, "response_2"), (Verdict, "preference_strength")],
        verdict: NegativeIsFirst,
    },
    Layout {
        name: "HelpSteer3, preference",
        keys: &["context", "response1", "response2", "overall_preference"],
        columns: &[
            (Prompt, "context"),
            (First, "response1"),
            (Second, "response2"),
            (Verdict, "overall_preference"),
        ],
        verdict: NegativeIsFirst,
    },
    Layout {
        name: "Chatbot Arena",
        keys: &["conversation_a", "conversation_b", "winner"],
        columns: &[(First, "conversation_a"), (Second, "conversation_b"), (Verdict, "winner")],
        verdict: Usual,
    },
    Layout {
        name: "Chatbot Arena, 55k",
        keys: &["response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"],
        columns: &[(First, "response_a"), (Second, "response_b")],
        verdict: LayoutVerdict::OneHot(["winner_model_a", "winner_model_b", "winner_tie"]),
    },
    Layout {
        name: "summarize_from_feedback, comparisons",
        keys: &["summaries", "choice", INFO],
        columns: &[(First, "summaries[0].text"), (Second, "summaries[1].text"), (Verdict, "choice")],
        verdict: Index(0.0, 1.0),
    },
    Layout {
        name: "WebGPT comparisons",
        keys: &["question", "answer_0", "answer_1", "score_0", "score_1"],
        columns: &[
            (Prompt, "question.full_text"),
            (First, "answer_0"),
            (Second, "answer_1"),
            (ScoreFirst, "score_0"),
            (ScoreSecond, "score_1"),
        ],
        verdict: Usual,
    },
    Layout {
        name: "two responses and a winner",
        keys: &["response_a", "response_b", "winner"],
        columns: &[(First, "response_a"), (Second, "response_b"), (Verdict, "winner")],
        verdict: Usual,
    },
    Layout {
        name: "two responses and a preference",
        keys: &["response_a", "response_b", "preference"],
        columns: &[(First, "response_a"), (Second, "response_b"), (Verdict, "preference")],
        verdict: Usual,
    },
    Layout {
        name: "two answers and a winner",
        keys: &["answer_a", "answer_b", "winner"],
        columns: &[(First, "answer_a"), (Second, "answer_b"), (Verdict, "winner")],
        verdict: Usual,
    },
    Layout {
        name: "two completions and a winner",
        keys: &["completion_a", "completion_b", "winner"],
        columns: &[(First, "completion_a"), (Second, "completion_b"), (Verdict, "winner")],
        verdict: Usual,
    },
];

/// Post or article of a comparison of summaries.
pub(crate) const INFO: &str = "info";

/// Number of the vote within a conversation of an arena, from 1.
pub(crate) const VOTE: &str = "evaluation_order";

/// Returns true for a later vote on a conversation. The models saw its earlier turns, but the two
/// conversations of the record begin after the vote before.
pub(crate) fn is_later_vote(record: &Object) -> bool {
    record.0.contains_key("conversation_a")
        && record.0.get(VOTE).and_then(numbers::number).is_some_and(|vote| vote > 1.0)
}

impl Layout {
    /// Returns the layout of a record, if it is a known one.
    pub(crate) fn find(record: &Object) -> Option<&'static Self> {
        // A key whose value is null in this record counts: the next one may have a value.
        LAYOUTS.iter().find(|layout| layout.keys.iter().all(|key| record.0.contains_key(*key)))
    }

    /// Returns the names of all columns that tell a layout.
    pub(crate) fn telling() -> impl Iterator<Item = &'static str> {
        LAYOUTS.iter().flat_map(|layout| layout.keys.iter().copied())
    }

    /// Returns the meaning of its verdicts.
    pub(crate) fn better(&self) -> Better {
        match self.verdict {
            Usual => Better::default(),
            Index(first, second) => Better {
                first: vec![Word::from_number(first)],
                second: vec![Word::from_number(second)],
                ..Better::default()
            },
            NegativeIsFirst => Better { low: Some(Side::First), ..Better::default() },
            LayoutVerdict::OneHot([first, second, tie]) => {
                let [first, second, tie] = [first, second, tie].map(str::to_owned);
                Better { one_hot: Some(OneHot { first, second, tie: Some(tie) }), ..Better::default() }
            }
        }
    }
}

/// Makes the prompt of a comparison of summaries: the post, or the article, and `TL;DR:`, in the
/// form that OpenAI's own models were trained on.
pub(crate) fn restore_prompt(record: &mut Object) {
    let Some(info) = record.0.get(INFO).filter(|_| !record.0.contains_key("prompt")) else { return };
    let text =
        |key: &str| info.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let prompt = match (text("post"), text("article")) {
        (Some(post), _) => {
            let subreddit = text("subreddit").map(|name| format!("SUBREDDIT: r/{name}\n\n"));
            let title = text("title").map(|title| format!("TITLE: {title}\n\n"));
            format!("{}{}POST: {post}\n\nTL;DR:", subreddit.unwrap_or_default(), title.unwrap_or_default())
        }
        (None, Some(article)) => format!("{article}\n\nTL;DR:"),
        (None, None) => return,
    };
    record.0.insert("prompt".to_owned(), prompt.into());
}

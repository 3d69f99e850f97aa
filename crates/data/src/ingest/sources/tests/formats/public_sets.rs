//! Public sets in the layouts of their files, each with a row of every peculiarity.

use serde_json::{Value, json};

use super::{assistant, count, lines, numbers, texts, user};
use crate::ingest::sources::tests::read;

/// Two turns.
fn chat(prompt: &str, reply: &str) -> Value {
    json!([user(prompt), assistant(reply)])
}

#[test]
fn sets_of_pairs_are_recognised_by_their_columns() {
    let binarized = |chosen: &str, rejected: &str, score: f64| {
        json!({"prompt": "Sea?", "prompt_id": "0f", "chosen": chat("Sea?", chosen), "rejected": chat("Sea?", rejected),
            "messages": chat("Sea?", chosen), "score_chosen": 7.0, "score_rejected": score})
    };
    let orca =
        |system: &str| json!({"system": system, "question": "Sea?", "chosen": "Wet.", "rejected": "Dry."});
    let capybara = |chosen: &str| {
        let side = |last: &str| json!([user("Sea?"), assistant("Wet."), user("Why?"), assistant(last)]);
        json!({"source": "s", "conversation": [{"input": "Sea?", "output": "Wet."}, {"input": "Why?", "output": chosen}],
            "original_response": "x", "prompt": "Why?", "chosen": side(chosen), "rejected": side("No."),
            "rating_chosen": 5, "rating_rejected": 5, "chosen_model": "m", "rejected_model": "n"})
    };
    let transcript =
        |prompt: &str| json!({"prompt": prompt, "response": " Wet.", "chosen": " Wet.", "rejected": " Dry."});
    let implied = |turns: &[Value]| {
        let side = |reply: &str| [turns, &[assistant(reply)]].concat();
        json!({"chosen": side("Wet."), "rejected": side("Dry."), "source": "s"})
    };
    let summary =
        |chosen: &str| json!({"prompt": "POST: I sailed.", "chosen": chosen, "rejected": "TL;DR:  Land."});
    for (set, records, expected) in [
        (
            "UltraFeedback, binarized",
            vec![binarized("Wet.", "Dry.", 3.0), binarized("Wet.", "", 1.0), binarized("Wet.", "Wet.", 7.0)],
            numbers(1, 1, 1, "empty_completion identical_completions"),
        ),
        ("Orca", vec![orca(""), orca("Be brief.")], numbers(2, 2, 2, "")),
        ("Capybara", vec![capybara("So."), capybara("No.")], numbers(1, 1, 1, "identical_completions")),
        (
            "full HH with transcripts",
            vec![
                transcript("\n\nHuman: Sea?\n\nAssistant:"),
                transcript("\n\nHuman: Sea?\n\nAssistant: Wet.\n\nHuman: Why?\n\nAssistant:"),
            ],
            numbers(2, 2, 2, ""),
        ),
        (
            "implied prompts",
            vec![implied(&[user("Sea?")]), implied(&[user("Sea?"), assistant("Wet."), user("Why?")])],
            numbers(2, 2, 2, ""),
        ),
        (
            "summaries",
            vec![summary("TL;DR:  Sea."), summary("TL;DR:  Land.")],
            numbers(1, 1, 1, "identical_completions"),
        ),
        (
            "RewardBench",
            vec![
                json!({"prompt": "Sea?", "chosen": "Wet.", "chosen_model": "m", "rejected": "Dry.", "rejected_model": "n",
                "subset": "s", "id": 1}),
            ],
            numbers(1, 1, 1, ""),
        ),
        (
            "WildFeedback",
            vec![
                json!({"conversations": [{"from": "human", "value": "Sea?"}, {"from": "gpt", "value": "Wet."},
                {"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "Salt."},
                "rejected": {"from": "gpt", "value": "No."}}),
            ],
            numbers(1, 1, 1, ""),
        ),
    ] {
        assert_eq!(count(&lines("{}", &records)), expected, "{set}");
    }
    let roles = |record: Value| -> Vec<String> {
        lines("{}", &[record]).groups[0].prompt.iter().map(|turn| turn.role.clone()).collect()
    };
    assert_eq!(
        (roles(orca("")), roles(orca("Be brief."))),
        (vec!["user".to_owned()], vec!["system".to_owned(), "user".to_owned()])
    );
    assert_eq!(lines("{}", &[capybara("So.")]).counts.noted["equal_scores"], 1);
    assert_eq!(roles(capybara("So.")), ["user", "assistant", "user"]);
    let long = transcript("\n\nHuman: Sea?\n\nAssistant: Wet.\n\nHuman: Why?\n\nAssistant:");
    assert_eq!(roles(long), ["user", "assistant", "user"]);
}

#[test]
fn sets_of_labels_are_recognised_by_their_columns() {
    let mix =
        |label: bool| json!({"prompt": [user("Sea?")], "completion": [assistant("Wet.")], "label": label});
    let whole = |label: bool| json!({"prompt": "Sea?", "completion": chat("Sea?", "Wet."), "label": label, "rating": 4.0, "dataset": "d"});
    let swift = |label: bool| json!({"messages": chat("Sea?", "Wet."), "label": label});
    for row in [mix, whole, swift] {
        let found = lines("{}", &[row(true), row(false), row(true)]);
        assert_eq!(count(&found), numbers(2, 1, 0, ""));
        assert!(found.groups.iter().all(|group| texts(group) == (vec!["Sea?"], vec!["Wet."])));
    }
}

#[test]
fn labels_mined_from_what_users_wrote_next_need_their_meaning_and_keep_the_earlier_turns() {
    let row = |label: u8| {
        json!({"id": format!("c_turn{label}"), "history": [user("Sea?"), assistant("Wet.")], "text": "# Task",
            "messages": chat("Why?", "Salt."), "user_feedback": "Thanks", "label": label})
    };
    let found = lines("{words: {desirable: [3, 4], undesirable: [1, 2]}}", &[1, 2, 3, 4].map(row));
    assert_eq!(count(&found), numbers(2, 2, 0, ""));
    assert!(found.groups.iter().all(|group| texts(group) == (vec!["Sea?", "Wet.", "Why?"], vec!["Salt."])));
    // Without it, levels are not guessed.
    assert_eq!(lines("{}", &[2, 3, 4].map(row)).counts.rejected_by_reason["unknown_word"], 3);
}

#[test]
fn scored_completions_need_a_rule() {
    let completion = |reply: &str, score: Value| {
        json!({"model": "m", "principle": "honesty", "custom_system_prompt": "Be honest.", "response": reply,
            "annotations": {"honesty": {"Rating": "N/A", "Rationale": "x"}}, "overall_score": score})
    };
    let row = |scores: [Value; 3]| {
        let [a, b, c] = scores;
        json!({"source": "s", "instruction": "Sea?", "models": ["m"], "correct_answers": [],
            "completions": [completion("Wet.", a), completion("Dry.", b), completion("Deep.", c)]})
    };
    let records = [row([json!(8.5), json!(3.0), json!(7)]), row([json!("7"), json!(null), json!(1.0)])];
    let found = lines("{binarise: {by: threshold, at: 7}}", &records);
    assert_eq!((count(&found).pairs, found.groups[0].completions.len()), (2, 3));
    let labels: Vec<Vec<Option<bool>>> = found
        .groups
        .iter()
        .map(|group| group.completions.iter().map(|completion| completion.label).collect())
        .collect();
    assert_eq!(labels, [vec![Some(true), Some(false), Some(true)], vec![Some(true), None, Some(false)]]);
    assert_eq!(found.counts.noted["completion_without_score"], 1);
}

#[test]
fn the_table_of_dify_is_read_like_its_json() {
    let table = "feedback_id,message_id,user_query,ai_response,feedback_rating,feedback_rating_raw,from_end_user_id\r\n\
                 1,m1,Sea?,Wet.,👍,like,u-1\r\n2,m1,Sea?,Wet.,👎,dislike,\r\n3,m2,\"Why,\nso?\",\"Salt, \"\"of course\"\"\",👍,like,u-2\r\n";
    let found = read("{}", "feedback.csv", table.as_bytes());
    assert_eq!(count(&found), numbers(2, 1, 0, ""));
    assert_eq!(texts(&found.groups[2]), (vec!["Why,\nso?"], vec!["Salt, \"of course\""]));
}

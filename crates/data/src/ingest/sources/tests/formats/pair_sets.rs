//! Public sets of pairs, labels, scores and ranks.

use serde_json::{Value, json};

use super::{assistant, count, lines, numbers, texts, user};
use crate::ingest::sources::tests::read;

#[test]
fn conversations_that_agree_up_to_the_last_turn_are_the_prompt_if_it_occurs_in_them() {
    let side = |first: &str, last: &str| {
        json!([user("Name a fish."), assistant(first), user("Another?"), assistant(last)])
    };
    let system = |reply: &str| json!([{"role": "system", "content": "Be brief."}, user("Name a fish."), assistant(reply)]);
    let row = |prompt: &str, chosen: Value, rejected: Value| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    let records = [
        row(
            "Name a fish.",
            json!([user("Name a fish."), assistant("Cod.")]),
            json!([user("Name a fish."), assistant("Cow.")]),
        ),
        row("Name a fish.", side("Cod.", "Eel."), side("Cod.", "Elk.")),
        row("Another?", side("Cod.", "Eel."), side("Cod.", "Elk.")),
        row("Name a fish.", system("Cod."), system("Cow.")),
        row("Name a fish.", side("Cod.", "Eel."), side("Cow.", "Elk.")),
        row("Name a bird.", side("Cod.", "Eel."), side("Cod.", "Elk.")),
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(4, 4, 4, "unequal_prompts no_assistant_turn"));
    let turns: Vec<usize> = found.groups.iter().map(|group| group.prompt.len()).collect();
    assert_eq!(turns, [1, 3, 3, 2]);
    let kto = json!({"prompt": "Another?", "completion": side("Cod.", "Eel."), "label": true, "rating": 4.5});
    let found = lines("{}", &[kto]);
    assert_eq!((count(&found), texts(&found.groups[0]).1), (numbers(1, 0, 0, ""), vec!["Eel."]));
}

#[test]
fn scores_of_both_sides_have_many_names() {
    for (chosen, rejected) in [
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("chosen-rating", "rejected-rating"),
        ("rating_chosen", "rating_rejected"),
        ("chosen_rating", "rejected_rating"),
    ] {
        let row = json!({"prompt": "p", "chosen": "a", "rejected": "b", chosen: 4.5, rejected: null});
        let even = json!({"prompt": "p", "chosen": "a", "rejected": "b", chosen: 3, rejected: 3});
        let found = lines("{}", &[row, even]);
        let scores: Vec<_> = found.groups[0].completions.iter().map(|side| side.score).collect();
        assert_eq!((scores, found.counts.noted["equal_scores"]), (vec![Some(4.5), None], 1), "{chosen}");
    }
}

#[test]
fn a_prompt_called_input_is_not_doubled_and_a_tie_is_no_pair() {
    let row = |status: &str, reply: &str| {
        json!({"system": "", "input": "Biggest cat?", "chosen": reply, "rejected": "A lynx.", "rating": [9.0, 2.0],
            "status": status, "chosen_score": 9.0, "order": ["chosen", "rejected"]})
    };
    let found =
        lines("{}", &[row("unchanged", "A tiger."), row("tie", "A lion."), row("swapped", "A tiger!")]);
    assert_eq!(count(&found), numbers(2, 2, 2, "tie"));
    assert_eq!(texts(&found.groups[0]).0, ["Biggest cat?"]);
    // The column of LLaMA-Factory that is empty or follows an instruction.
    let row = json!({"conversations": [user("q")], "input": "", "chosen": assistant("a"), "rejected": assistant("b")});
    assert_eq!(texts(&lines("{}", &[row]).groups[0]).0, ["q"]);
}

#[test]
fn fine_tuning_files_are_recognised_and_turns_of_tools_rejected() {
    let row = |messages: Value, chosen: Value| {
        json!({"input": {"messages": messages, "tools": []}, "preferred_output": chosen,
            "non_preferred_output": [assistant("No.")]})
    };
    let call = json!([{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "5"}, assistant("Five.")]);
    let long = json!([user("2?"), assistant("Two."), user("3?")]);
    let records = [
        row(json!([user("5?")]), json!([assistant("Five.")])),
        row(long.clone(), json!([assistant("Three.")])),
        row(json!([user("5?")]), call),
        row(json!([user("5?")]), json!([assistant("No.")])),
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(2, 2, 2, "unknown_role identical_completions"));
    assert_eq!(texts(&found.groups[1]).0, ["2?", "Two.", "3?"]);
    let think = json!({"prompt": "5?", "chosen": "<think>Hm.</think>Five.", "rejected": "Six."});
    assert_eq!(lines("{}", &[think]).counts.noted["reasoning_block"], 1);
    let messages = json!([user("2?"), assistant("Two.")]);
    let found = lines(
        "{}",
        &[
            json!({"messages": &messages, "rejected_response": "Three."}),
            json!({"messages": &messages, "rejected_response": [assistant("Three.")]}),
            json!({"messages": &messages, "rejected_messages": [user("2?"), assistant("Three.")]}),
            json!({"messages": [user("2?")], "rejected_response": "Three."}),
        ],
    );
    assert_eq!(count(&found), numbers(3, 3, 3, "human_turn_last"));
    assert!(found.groups.iter().all(|group| texts(group) == (vec!["2?"], vec!["Two.", "Three."])));
    let paired =
        json!({"qid": 1, "question": "2?", "metadata": ["u"], "response_j": "Two.", "response_k": "Three."});
    assert_eq!(texts(&lines("{}", &[paired]).groups[0]), (vec!["2?"], vec!["Two.", "Three."]));
}

#[test]
fn ranks_give_adjacent_pairs_or_all_and_the_best_is_first() {
    let answer = |text: &str, rank: Value| json!({"answer": text, "model": "m", "rank": rank});
    let row = |prompt: &str, answers: Value| json!({"prompt": prompt, "answers": answers, "num_responses": 3, "source": ["s"]});
    let records = [
        row(
            "\n\nHuman: Red?\n\nAssistant: ",
            json!([answer("c", json!(3)), answer("a", json!(1)), answer("b", json!(2))]),
        ),
        row(
            "\n\nHuman: Red?\n\nAssistant: Yes.\n\nHuman: Blue?\n\nAssistant: ",
            json!([
                answer("a", json!(1)),
                answer("b", json!(3)),
                answer("", json!(2)),
                answer("d", json!(null))
            ]),
        ),
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(2, 2, 2, "empty_completion"));
    assert_eq!(found.groups[0].pairs, [(1, 2), (2, 0)]);
    assert_eq!(found.counts.noted["completion_without_rank"], 1);
    let all = lines("{ranks: all}", &records);
    assert_eq!(
        (all.groups[0].pairs.len(), all.groups[1].pairs.len(), texts(&all.groups[1]).0.len()),
        (3, 1, 3)
    );
    let best = lines("{binarise: {by: best_and_worst}}", &records);
    assert_eq!(best.groups[0].pairs, [(1, 0)]);
}

#[test]
fn two_rows_of_one_prompt_are_a_pair_if_the_recipe_merges_them() {
    let row = |prompt: &str, response: &str, score: u8| json!({"prompt": prompt, "response": response, "helpfulness": score, "correctness": 4});
    let records = [
        row("a", "good", 4),
        row("a", "bad", 0),
        row("b", "even", 2),
        row("b", "equal", 2),
        row("c", "alone", 3),
        row("a", "again", 1),
    ];
    let source =
        "{kind: scores, columns: {score: helpfulness}, binarise: {by: best_and_worst}, merge_prompts: true}";
    let found = lines(source, &records);
    assert_eq!((found.groups.len(), count(&found).pairs, found.counts.read), (4, 1, 6));
    assert_eq!(found.groups[0].pairs, [(0, 1)]);
}

#[test]
fn replies_that_dify_cut_are_left_out() {
    let cut = "word ".repeat(100) + "...";
    assert_eq!(cut.chars().count(), 503);
    let row = |reply: &str, rating: &str, raw: &str| {
        json!({"feedback_id": "f", "message_id": "m", "user_query": "Why?", "ai_response": reply,
            "feedback_rating": rating, "feedback_rating_raw": raw, "from_end_user_id": "u"})
    };
    let rows = [
        row("So.", "👍", "like"),
        row("No.", "👎", "dislike"),
        row(&cut, "👍", "like"),
        row("So.", "👎", "dislike"),
        row("...", "👍", "like"),
    ];
    let wrapped = json!({"export_info": {"app_id": "a", "total_records": 5}, "feedback_data": rows});
    let found = read("{}", "feedback.json", serde_json::to_string_pretty(&wrapped).unwrap().as_bytes());
    assert_eq!(count(&found), numbers(2, 2, 0, "truncated"));
    assert_eq!(found.counts.repaired["wrapped_array"], 1);
    assert_eq!(count(&lines("{}", &rows)), numbers(2, 2, 0, "truncated"));
}

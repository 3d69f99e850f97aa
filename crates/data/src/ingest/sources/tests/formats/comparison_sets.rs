//! Public sets of comparisons: two completions and a verdict.

use serde_json::{Value, json};

use super::{assistant, count, lines, numbers, texts, user};
use crate::ingest::sources::tests::read;

#[test]
fn the_better_of_two_is_told_by_an_index() {
    let row = |better: Value, safer: u8| {
        json!({"prompt": "Tea?", "response_0": "Green.", "response_1": "Black.", "better_response_id": better,
            "safer_response_id": safer, "is_response_0_safe": true, "is_response_1_safe": better == 1})
    };
    let records = [row(json!(0), 1), row(json!(1), 1), row(json!(null), 1), row(json!(2), 0)];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(2, 2, 2, "no_judgement unknown_word"));
    assert_eq!(found.groups.iter().map(|group| group.pairs[0]).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    let safer = lines("{columns: {better: safer_response_id}}", &records);
    assert_eq!(safer.groups.iter().map(|group| group.pairs[0].0).collect::<Vec<_>>(), [1, 1, 1, 0]);
    // Labels of each side come with the pairs.
    let source = "{columns: {label_first: is_response_0_safe, label_second: is_response_1_safe}}";
    assert_eq!(count(&lines(source, &records[..2])), numbers(3, 1, 2, ""));
}

#[test]
fn a_strength_prefers_by_its_sign_and_is_a_margin() {
    let helpsteer2 = |prompt: &str, strength: i32| {
        json!({"split": "train", "prompt": prompt, "response_1": "One.", "response_2": "Two.",
            "preference_strength": strength, "all_preferences_unprocessed": []})
    };
    let turns = "Count.\n<extra_id_1>Assistant\nTo what?\n<extra_id_1>User\nTo two.";
    let found = lines("{}", &[helpsteer2("Count.", -2), helpsteer2(turns, 3), helpsteer2("Count.", 0)]);
    assert_eq!(count(&found), numbers(2, 2, 2, "tie"));
    let chosen: Vec<_> = found
        .groups
        .iter()
        .map(|group| {
            let (chosen, rejected) = group.pairs[0];
            (chosen, group.completions[chosen].score, group.completions[rejected].score)
        })
        .collect();
    assert_eq!(chosen, [(0, Some(2.0), Some(0.0)), (1, Some(3.0), Some(0.0))]);
    assert_eq!(texts(&found.groups[1]).0, ["Count.", "To what?", "To two."]);
    let helpsteer3 = |domain: &str, strength: i32| {
        json!({"domain": domain, "language": "english", "context": [user("a"), assistant("b"), user("c")],
            "response1": "One.", "response2": "Two.", "overall_preference": strength, "individual_preference": []})
    };
    let found = lines("{}", &[helpsteer3("code", 1), helpsteer3("stem", 0), helpsteer3("general", -3)]);
    assert_eq!(count(&found), numbers(2, 2, 2, "tie"));
    assert_eq!((&*found.groups[0].domain, found.groups[0].pairs[0]), ("code", (1, 0)));
    assert_eq!((found.groups[1].pairs[0], texts(&found.groups[1]).0), ((0, 1), vec!["a", "b", "c"]));
    // A slider of the user's own, from 1 (the second is better) to 7.
    let source = "{kind: comparisons, columns: {first: x, second: y, better: slider}, better: {low: second, middle: 4}}";
    let own = |slider: u8| json!({"prompt": "p", "x": "X", "y": "Y", "slider": slider});
    let found = lines(source, &[own(1), own(4), own(6)]);
    assert_eq!(count(&found), numbers(2, 2, 2, "tie"));
    assert_eq!((found.groups[0].pairs[0], found.groups[1].pairs[0]), ((1, 0), (0, 1)));
}

fn battle(winner: &str, one: &Value, other: &Value) -> Value {
    json!({"question_id": "q", "model_a": "m", "model_b": "n", "winner": winner, "judge": "arena_user_77",
        "conversation_a": one, "conversation_b": other, "turn": 1, "language": "English"})
}

#[test]
fn battles_have_a_winner_and_both_bad_can_be_two_thumbs_down() {
    let conversation = |reply: &str| json!([user("Best tree?"), assistant(reply)]);
    let (oak, elm) = (conversation("Oak."), conversation("Elm."));
    let further = |reply: &str| json!([user("Best tree?"), assistant(reply), user("Why?"), assistant("So.")]);
    let part = |reply: &str| {
        let text = |text: &str| json!([{"type": "text", "text": text, "image": null, "mimeType": null}]);
        json!([{"role": "user", "content": text("Best tree?")}, {"role": "assistant", "content": text(reply)}])
    };
    let mut image = part("Oak.");
    image[0]["content"][0] = json!({"type": "image", "text": null, "image": "i", "mimeType": "image/png"});
    let records = [
        battle("model_a", &oak, &elm),
        battle("model_b", &part("Oak."), &part("Elm.")),
        battle("tie", &oak, &elm),
        battle("tie (bothbad)", &oak, &elm),
        battle("both_bad", &part("Oak."), &part("Elm.")),
        battle("model_b", &further("Oak."), &further("Elm.")),
        battle("model_a", &oak, &oak),
        battle("model_a", &image, &image),
    ];
    let rejected = "unequal_prompts identical_completions wrong_type";
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(2, 2, 2, &format!("{rejected} tie both_bad both_bad")));
    assert_eq!((found.groups[0].pairs[0], found.groups[1].pairs[0]), ((0, 1), (1, 0)));
    let bad = lines("{both_bad: undesirable}", &records);
    assert_eq!(count(&bad), numbers(2, 6, 2, &format!("{rejected} tie")));
    let differ = [battle("both_bad", &further("Oak."), &further("Elm."))];
    let bad = lines("{both_bad: undesirable}", &differ);
    assert_eq!((bad.groups.len(), count(&bad)), (2, numbers(0, 2, 0, "")));
}

#[test]
fn experts_of_the_arena_vote_in_occupations_and_later_votes_lack_their_context() {
    // NumPy's notation: arrays of turns without commas between them.
    let side = |reply: &str| {
        format!(
            "[{{'role': 'user', 'content': array([{{'type': 'text', 'text': \"What's a tort?\", 'image': None}}], dtype=object)}}\n \
             {{'role': 'assistant', 'content': array([{{'type': 'text', 'text': '{reply}', 'image': None}}], dtype=object)}}]"
        )
    };
    let vote = |winner: &str, order: u8, tags: &[&str]| {
        let mut flags: serde_json::Map<String, Value> =
            ["law", "maths", "health"].iter().map(|tag| ((*tag).to_owned(), json!(null))).collect();
        for tag in tags {
            flags[*tag] = json!(true);
        }
        json!({"id": "i", "model_a": "m", "model_b": "n", "winner": winner, "evaluation_order": order,
            "conversation_a": side("A wrong."), "conversation_b": side("A cake."), "language": "en", "tags": flags})
    };
    let records = [
        vote("model_a", 1, &["law"]),
        vote("model_b", 1, &["law", "health"]),
        vote("model_a", 1, &[]),
        vote("both_bad", 1, &["law"]),
        vote("model_a", 2, &["law"]),
    ];
    let found = lines("{columns: {domain: tags}, domain: other}", &records);
    assert_eq!(count(&found), numbers(3, 3, 3, "both_bad after_an_earlier_vote"));
    assert_eq!(texts(&found.groups[0]), (vec!["What's a tort?"], vec!["A wrong.", "A cake."]));
    let domains = |found: &super::Collected| -> Vec<String> {
        found.groups.iter().map(|group| group.domain.to_string()).collect()
    };
    assert_eq!(domains(&found), ["law", "health+law", "other"]);
    let law = lines("{columns: {domain: tags}, domains: [law], domain: other}", &records);
    assert_eq!((domains(&law), law.counts.filtered["other_domain"]), (vec!["law".to_owned(); 2], 1));
}

#[test]
fn battles_in_a_table_have_one_column_for_each_verdict() {
    let header = "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n";
    let row = |prompt: &str, one: &str, other: &str, votes: &str| {
        let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        format!("1,m,n,{},{},{},{votes}\n", cell(prompt), cell(one), cell(other))
    };
    let table = [
        header.to_owned(),
        row(r#"["Sum of 1 and 2?"]"#, r#"["3\nthree"]"#, r#"["4"]"#, "1,0,0"),
        row(r#"["Sum of 1 and 2?"]"#, r#"["4"]"#, r#"["3"]"#, "0,1,0"),
        row(r#"["Sum of 1 and 2?"]"#, r#"["3"]"#, r#"["III"]"#, "0,0,1"),
        row(r#"["Hi", "Sum?"]"#, r#"["Hello", "3"]"#, r#"["Hey", "4"]"#, "1,0,0"),
        row(r#"["Hi", "Sum?"]"#, r#"["Hello", "3"]"#, r#"["Hello", "4"]"#, "1,0,0"),
        row(r#"["Sum?"]"#, r#"["3"]"#, "[null]", "1,0,0"),
        row(r#"["Sum?"]"#, r#"["3"]"#, r#"["broken"#, "1,0,0"),
        row(r#"["Sum?"]"#, r#"["3"]"#, r#"["4"]"#, "1,1,0"),
    ];
    let found = read("{}", "train.csv", table.concat().as_bytes());
    let others = "tie unequal_prompts empty_completion turns_as_text bad_value";
    assert_eq!(count(&found), numbers(3, 3, 3, others));
    assert_eq!(texts(&found.groups[0]).1, ["3\nthree", "4"]);
    assert_eq!(texts(&found.groups[2]).0, ["Hi", "Hello", "Sum?"]);
}

#[test]
fn summaries_are_chosen_by_index_and_answers_by_score() {
    let summaries = |info: Value, choice: u8| {
        json!({"info": info, "summaries": [{"text": " A cat.", "policy": "s"}, {"text": " A dog.", "policy": "r"}],
            "choice": choice, "worker": "w", "batch": "b", "split": "train", "extra": {"confidence": null}})
    };
    let post =
        json!({"id": "i", "post": "I have a dog.", "title": "Pet", "subreddit": "pets", "article": null});
    let article = json!({"id": "i", "post": null, "title": "Pet", "article": "Dogs bark."});
    let found = lines("{}", &[summaries(post, 1), summaries(article, 0), summaries(json!({"id": "i"}), 0)]);
    assert_eq!(count(&found), numbers(2, 2, 2, "missing_field"));
    let prompt = "SUBREDDIT: r/pets\n\nTITLE: Pet\n\nPOST: I have a dog.\n\nTL;DR:";
    assert_eq!(texts(&found.groups[0]), (vec![prompt], vec!["A cat.", "A dog."]));
    assert_eq!((found.groups[0].pairs[0], texts(&found.groups[1]).0), ((1, 0), vec!["Dogs bark.\n\nTL;DR:"]));
    let answers = |one: f64, other: f64| {
        json!({"question": {"dataset": "d", "id": "i", "full_text": "Why?"}, "answer_0": "So.", "answer_1": "Thus.",
            "score_0": one, "score_1": other, "quotes_0": {}, "quotes_1": {}})
    };
    let found = lines("{}", &[answers(0.5, -0.5), answers(-1.0, 1.0), answers(0.0, 0.0)]);
    assert_eq!(count(&found), numbers(2, 2, 2, "tie"));
    assert_eq!((texts(&found.groups[0]).0, found.groups[1].pairs[0]), (vec!["Why?"], (1, 0)));
    assert_eq!(found.groups[0].completions[1].score, Some(-0.5));
}

#[test]
fn verdicts_are_words_of_the_recipe_or_common_ones_and_never_bare_numbers() {
    let row = |verdict: Value| json!({"prompt": "p", "x": "X", "y": "Y", "v": verdict});
    let columns = "columns: {first: x, second: y, better: v}";
    let common = [json!("A"), json!("Model B"), json!("y"), json!("tie"), json!(1), json!("C"), json!("")];
    let found = lines(&format!("{{{columns}}}"), &common.map(row));
    assert_eq!(count(&found), numbers(3, 3, 3, "tie no_judgement unknown_word unknown_word"));
    let row = |verdict: Value| json!({"prompt": "p", "x": "X", "y": "Y", "v": verdict});
    let source = format!("{{{columns}, better: {{first: [1], second: [2], tie: [0]}}}}");
    let found = lines(&source, &[json!(1), json!("2.0"), json!(0), json!("A")].map(row));
    assert_eq!(count(&found), numbers(2, 2, 2, "tie unknown_word"));
    for (better, message) in [
        ("{first: [1]}", "both sides"),
        ("{first: [1], second: [1]}", "listed twice"),
        ("{low: first, first: [1], second: [2]}", "not two of them"),
        ("{middle: 3}", "needs `low`"),
    ] {
        let source = format!("{{{columns}, better: {better}}}");
        let file = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
        fs_err::write(file.path(), row(json!(1)).to_string()).unwrap();
        let error = super::super::resolve(&source, file.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

//! Exports of chat applications.

use serde_json::{Value, json};

use super::{count, lines, numbers, texts};
use crate::ingest::sources::tests::{read, read_folder};

/// Message of Open WebUI.
fn message(id: &str, parent: Option<&str>, role: &str, content: &str, rating: Option<i64>) -> Value {
    let mut message =
        json!({"id": id, "parentId": parent, "childrenIds": [], "role": role, "content": content});
    if let Some(rating) = rating {
        message["annotation"] = json!({"rating": rating, "comment": "ok"});
    }
    message
}

/// Chat of Open WebUI; its `messages` are only the current branch.
fn chat(id: &str, messages: &[Value]) -> Value {
    let history: serde_json::Map<String, Value> = messages
        .iter()
        .map(|message| (message["id"].as_str().unwrap().to_owned(), message.clone()))
        .collect();
    json!({"id": id, "user_id": "someone@mail", "title": "t",
        "chat": {"params": {}, "history": {"messages": history, "currentId": "x"}, "messages": []}})
}

fn feedback(message: &str, rating: Value, chat: Option<&Value>) -> Value {
    json!({"id": format!("f-{message}"), "user_id": "u", "type": "rating",
        "data": {"rating": rating, "reason": null, "sibling_model_ids": null},
        "meta": {"message_id": message, "chat_id": chat.map_or("gone", |chat| chat["id"].as_str().unwrap())},
        "snapshot": chat.map(|chat| json!({"chat": chat}))})
}

fn rivers() -> Value {
    chat(
        "rivers",
        &[
            message("q", None, "user", "Longest river?", None),
            message("nile", Some("q"), "assistant", "The Nile.", Some(1)),
            message("rhine", Some("q"), "assistant", "The Rhine.", Some(-1)),
            message("po", Some("q"), "assistant", "The Po.", None),
            message("q2", Some("nile"), "user", "How long?", None),
            message(
                "a2",
                Some("q2"),
                "assistant",
                "<details type=\"reasoning\" done=\"true\">hm</details>\n6650 km.",
                Some(1),
            ),
            message("q3", Some("a2"), "user", "Thanks.", None),
        ],
    )
}

#[test]
fn feedback_of_open_webui_gives_thumbs_and_pairs_of_siblings() {
    let rivers = rivers();
    let tools = chat(
        "tools",
        &[
            message("t1", None, "user", "Weather?", None),
            message("t2", Some("t1"), "assistant", "<details type=\"tool_calls\">…</details> Sunny.", None),
            message("t3", Some("t2"), "user", "And tomorrow?", None),
            message("t4", Some("t3"), "assistant", "Rain.", None),
        ],
    );
    let records = [
        feedback("a2", json!(1), Some(&rivers)),
        feedback("nile", json!("1"), Some(&rivers)),
        feedback("rhine", json!(-1), Some(&rivers)),
        feedback("po", json!(null), Some(&rivers)),
        feedback("po", json!(0), Some(&rivers)),
        feedback("gone", json!(-1), None),
        feedback("t4", json!(1), Some(&tools)),
        feedback("q2", json!(1), Some(&rivers)),
        feedback("missing", json!(1), Some(&rivers)),
    ];
    let text = serde_json::to_string_pretty(&records).unwrap();
    let found = read("{}", "feedback-history-export.json", text.as_bytes());
    let others =
        "missing_field missing_field no_judgement no_judgement after_a_message_left_out no_assistant_turn";
    assert_eq!(count(&found), numbers(2, 1, 1, others));
    assert_eq!(texts(&found.groups[0]), (vec!["Longest river?", "The Nile.", "How long?"], vec!["6650 km."]));
    assert_eq!(texts(&found.groups[1]), (vec!["Longest river?"], vec!["The Nile.", "The Rhine."]));
    assert_eq!((found.counts.repaired["reasoning_block"], found.counts.kept), (1, 3));
    // A user's id is in no row.
    assert!(found.rejected.iter().all(|row| !row.detail.contains("someone")), "{:?}", found.rejected);
    let inferred = read("{unrated_siblings_lose: true}", "a.json", text.as_bytes());
    assert_eq!(count(&inferred), numbers(2, 2, 2, others));
}

#[test]
fn chats_of_open_webui_have_thumbs_on_messages_of_any_branch() {
    let empty = chat(
        "empty",
        &[message("a", None, "user", "Hi", None), message("b", Some("a"), "assistant", " ", Some(-1))],
    );
    let unrated = chat(
        "unrated",
        &[message("a", None, "user", "Hi", None), message("b", Some("a"), "assistant", "Hello.", None)],
    );
    let found = read("{}", "chats.json", json!([rivers(), empty, unrated]).to_string().as_bytes());
    assert_eq!(count(&found), numbers(2, 1, 1, "empty_completion no_judgement"));
    let columns = lines("{columns: {group: user_id}}", &[rivers()]);
    assert!(columns.groups.iter().all(|group| group.log.group.is_some()));
}

#[test]
fn the_same_thumb_twice_counts_once_and_opposite_ones_contradict() {
    let rivers = rivers();
    let again = |rating: i64| feedback("nile", json!(rating), Some(&rivers));
    let found = lines("{}", &[again(1), again(1)]);
    assert_eq!(count(&found), numbers(1, 0, 0, ""));
    assert_eq!(found.counts.noted["repeated_judgement"], 1);
    assert_eq!(count(&lines("{}", &[again(1), again(-1)])), numbers(1, 1, 0, ""));
}

/// Message of LibreChat.
fn libre(id: &str, parent: &str, by_user: bool, text: &str, rating: Option<&str>) -> Value {
    let mut message = json!({"messageId": id, "conversationId": "c", "parentMessageId": parent, "text": text,
        "sender": "x", "isCreatedByUser": by_user, "error": false, "unfinished": false});
    if let Some(rating) = rating {
        message["feedback"] = json!({"rating": rating});
    }
    message
}

#[test]
fn librechat_is_read_as_a_list_a_tree_and_single_messages() {
    const ROOT: &str = "00000000-0000-0000-0000-000000000000";
    let mut parts = libre("5", "4", false, "", Some("thumbsUp"));
    parts["content"] =
        json!([{"type": "think", "think": "hm"}, {"type": "text", "text": {"value": "In Oslo."}}]);
    let mut failed = libre("7", "6", false, "Failed.", Some("thumbsDown"));
    failed["error"] = json!(true);
    let messages = [
        libre("1", ROOT, true, "Capital of Peru?", None),
        libre("2", "1", false, "Quito.", Some("thumbsDown")),
        libre("3", "1", false, "Lima.", Some("thumbsUp")),
        libre("4", "3", true, "And where is the opera?", None),
        parts,
        libre("6", "5", true, "Sure?", None),
        failed,
    ];
    let list = json!({"conversationId": "c", "endpoint": "e", "messages": &messages});
    let expected = numbers(2, 1, 1, "error");
    let found = read("{}", "c.json", serde_json::to_string_pretty(&list).unwrap().as_bytes());
    assert_eq!(count(&found), expected);
    assert_eq!(found.counts.repaired["reasoning_block"], 1);
    // A dump of the database has one message a line.
    let found = lines("{}", &messages);
    assert_eq!((count(&found), found.counts.read, found.counts.kept), (expected, 7, 7));
    let nest = |outer: &Value, inner: Vec<Value>| {
        let mut outer = outer.clone();
        outer["children"] = inner.into();
        outer
    };
    let last = nest(&messages[5], vec![messages[6].clone()]);
    let fifth = nest(&messages[4], vec![last]);
    let third = nest(&messages[2], vec![nest(&messages[3], vec![fifth])]);
    let tree = json!({"conversationId": "c", "messagesTree": [nest(&messages[0], vec![messages[1].clone(), third])]});
    assert_eq!(count(&lines("{}", &[tree])), numbers(2, 1, 1, "error"));
}

#[test]
fn chatgpt_joins_its_conversations_with_their_thumbs() {
    let node = |id: &str, parent: Option<&str>, role: &str, kind: &str, text: &str| {
        json!({"id": id, "parent": parent, "children": [],
            "message": {"id": id, "author": {"role": role}, "recipient": "all",
                "content": {"content_type": kind, "parts": [text]}}})
    };
    let nodes = [
        json!({"id": "root", "parent": null, "children": [], "message": null}),
        node("s", Some("root"), "system", "text", ""),
        node("q", Some("s"), "user", "text", "Who wrote Emma?"),
        node("r", Some("q"), "assistant", "thoughts", ""),
        node("a", Some("r"), "assistant", "text", "Jane Austen."),
        node("b", Some("q"), "assistant", "text", "No idea."),
        node("q2", Some("a"), "user", "multimodal_text", ""),
        node("c", Some("q2"), "assistant", "text", "A picture."),
    ];
    let mapping: serde_json::Map<String, Value> =
        nodes.iter().map(|node| (node["id"].as_str().unwrap().to_owned(), node.clone())).collect();
    let conversations =
        json!([{"title": "t", "conversation_id": "c", "current_node": "c", "mapping": mapping}]).to_string();
    let thumb = |message: &str, rating: &str| json!({"message_id": message, "conversation_id": "c", "user_id": "user-1", "rating": rating});
    let thumbs =
        json!([thumb("a", "thumbs_up"), thumb("b", "thumbsDown"), thumb("c", "thumbsUp")]).to_string();
    let files = [("conversations.json", conversations.as_str()), ("message_feedback.json", thumbs.as_str())];
    let found = read_folder("{}", &files);
    assert_eq!(count(&found), numbers(1, 1, 1, "after_a_message_left_out"));
    assert_eq!(texts(&found.groups[0]), (vec!["Who wrote Emma?"], vec!["Jane Austen.", "No idea."]));
    // Thumbs without conversations are an error, row by row.
    let alone = read("{}", "message_feedback.json", thumbs.as_bytes());
    assert_eq!(count(&alone), numbers(0, 0, 0, "missing_field missing_field missing_field"));
}

#[test]
fn votes_of_fastchat_begin_after_the_turns_of_the_template() {
    let state = |turns: &[(&str, &str)], offset: u64| json!({"template_name": "t", "roles": ["USER", "BOT"], "messages": turns, "offset": offset, "conv_id": "c"});
    let vote = |kind: &str, state: Value| json!({"tstamp": 1.0, "type": kind, "model": "m", "state": state, "ip": "10.1.2.3"});
    let battle = |kind: &str, states: [Value; 2]| json!({"tstamp": 1.0, "type": kind, "models": ["", ""], "states": states, "ip": "10.1.2.3"});
    let [four, five] =
        [("BOT", "Four."), ("BOT", "Five.")].map(|reply| state(&[("USER", "2 + 2?"), reply], 0));
    let further =
        |reply: &str| state(&[("USER", "2 + 2?"), ("BOT", reply), ("USER", "+ 1?"), ("BOT", "5.")], 0);
    let records = [
        vote(
            "upvote",
            state(&[("USER", "Ready?"), ("BOT", "Yes."), ("USER", "2 + 2?"), ("BOT", "Four.")], 2),
        ),
        vote("downvote", five.clone()),
        vote("chat", four.clone()),
        vote("flag", five.clone()),
        battle("rightvote", [five.clone(), four.clone()]),
        battle("leftvote", [further("Four."), further("Five.")]),
        battle("tievote", [five.clone(), four.clone()]),
        battle("bothbad_vote", [five, four]),
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(2, 2, 1, "no_judgement flag unequal_prompts tie both_bad"));
    assert_eq!(texts(&found.groups[0]), (vec!["2 + 2?"], vec!["Four."]));
    assert_eq!(texts(&found.groups[2]).1, ["Four.", "Five."]);
}

#[test]
fn messages_of_fastgpt_follow_each_other_and_the_presence_of_a_text_is_the_thumb() {
    let text = |text: &str| json!([{"type": "text", "text": {"content": text}}]);
    let item = |id: &str, chat: &str, role: &str, minute: u8, value: Value| {
        json!({"_id": {"$oid": format!("o-{id}")}, "dataId": id, "chatId": chat, "userId": "u-7", "obj": role,
            "value": value, "time": {"$date": format!("2026-01-01T00:{minute:02}:00Z")}})
    };
    let with = |mut item: Value, key: &str, value: Value| {
        item[key] = value;
        item
    };
    let reasoned =
        json!([{"type": "reasoning", "reasoning": {"content": "hm"}}, {"text": {"content": "Four."}}]);
    let tool = json!([{"type": "tool", "tools": [{"id": "1"}]}, {"text": {"content": "Rain."}}]);
    let records = [
        item("s", "a", "System", 0, json!("Be brief.")),
        item("q", "a", "Human", 1, text("2 + 2?")),
        // A dump need not be in the order of the conversation.
        with(item("r2", "a", "AI", 4, text("Six.")), "userBadFeedback", json!("wrong")),
        with(item("r", "a", "AI", 2, reasoned), "userGoodFeedback", json!("yes")),
        item("q2", "a", "Human", 3, text("+ 1?")),
        item("t", "b", "Human", 0, text("Weather?")),
        with(item("u", "b", "AI", 1, tool), "userGoodFeedback", json!("yes")),
        with(item("v", "c", "Human", 0, json!([{"file": {"url": "x"}}])), "userGoodFeedback", json!("")),
        with(item("w", "c", "AI", 1, text("A cat.")), "userBadFeedback", json!("no")),
        item("x", "d", "Human", 0, text("Hi")),
        with(item("y", "d", "AI", 1, text("Hello.")), "adminFeedback", json!({"q": "Hi", "a": "Hey."})),
    ];
    let found = lines("{}", &records);
    let others = "tool_turn after_a_message_left_out no_judgement no_judgement no_judgement no_judgement";
    assert_eq!(count(&found), numbers(1, 1, 0, others));
    assert_eq!(texts(&found.groups[0]), (vec!["Be brief.", "2 + 2?", "Four.", "+ 1?"], vec!["Six."]));
    assert_eq!(texts(&found.groups[1]), (vec!["Be brief.", "2 + 2?"], vec!["Four."]));
    assert_eq!((found.counts.read, found.counts.kept), (11, 5));
    // One chat, as the interface returns it: no ids of chats, and new parts without a type.
    let item = |id: &str, role: &str, text: &str| json!({"dataId": id, "obj": role, "value": [{"text": {"content": text}}]});
    let good = with(item("2", "AI", "Four."), "userGoodFeedback", json!("yes"));
    let failed =
        with(with(item("4", "AI", "Oops."), "errorMsg", json!("timeout")), "userBadFeedback", json!("yes"));
    let list =
        json!({"total": 4, "list": [item("1", "Human", "2 + 2?"), good, item("3", "Human", "+ 1?"), failed]});
    let found = read("{}", "records.json", list.to_string().as_bytes());
    assert_eq!(count(&found), numbers(1, 0, 0, "error"));
    assert_eq!(texts(&found.groups[0]), (vec!["2 + 2?"], vec!["Four."]));
}

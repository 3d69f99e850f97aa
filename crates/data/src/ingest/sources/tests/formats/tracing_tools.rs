//! Exports of observability tools.

use serde_json::{Value, json};

use super::{assistant, count, lines, numbers, texts, user};
use crate::ingest::sources::tests::{Collected, read, read_folder, resolve};

fn error(source: &str, name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    resolve(source, &path).unwrap_err().to_string()
}

fn text(records: &[Value]) -> String {
    records.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

fn trace(id: &str, input: Value, output: Value, thumb: Value, automatic: Value) -> Value {
    json!({"id": id, "timestamp": "2026-01-01", "name": "chat", "userId": "u-9", "environment": "default", "tags": [],
        "bookmarked": false, "public": false, "input": input, "output": output, "metadata": {}, "comments": [],
        "thumb": thumb, "automatic": automatic})
}

fn traces() -> Vec<Value> {
    let messages = json!({"messages": [{"role": "system", "content": "Short."}, user("Ice?")]});
    vec![
        trace("1", messages, assistant("Cold."), json!([1]), json!([0.2])),
        trace(
            "2",
            json!("[{\"role\": \"user\", \"content\": \"Ice?\"}]"),
            json!("Hot."),
            json!([0]),
            json!(null),
        ),
        trace(
            "3",
            json!({"question": "Ice?"}),
            json!({"answer": "Wet."}),
            json!([true, true, false]),
            json!([0.9]),
        ),
        trace("4", json!("Ice?"), json!(null), json!(["up"]), json!(null)),
        trace("5", json!("Ice?"), json!("Cold."), json!(null), json!([1])),
        trace("6", json!({"a": 1, "b": "x", "c": "y"}), json!("Cold."), json!([1]), json!(null)),
    ]
}

#[test]
fn the_score_of_langfuse_is_chosen_by_name_and_names_are_listed() {
    let message = error("{}", "traces.jsonl", &text(&traces()));
    assert!(message.starts_with("`source.judgement` is not given"), "{message}");
    assert!(message.contains("automatic (3 by people), thumb (7 by people)"), "{message}");
    let message = error("{judgement: thumbs}", "traces.jsonl", &text(&traces()));
    assert!(message.contains("no judgement has this name"), "{message}");
    let found = lines("{judgement: thumb}", &traces());
    let others = "conflicting empty_completion other_judgement missing_field";
    assert_eq!(count(&found), numbers(1, 1, 0, others));
    assert_eq!(texts(&found.groups[0]), (vec!["Short.", "Ice?"], vec!["Cold."]));
    let found = lines("{judgement: thumb, several: majority}", &traces());
    assert_eq!(count(&found), numbers(2, 1, 0, "empty_completion other_judgement missing_field"));
    assert_eq!(texts(&found.groups[2]), (vec!["Ice?"], vec!["Wet."]));
    let found = lines("{judgement: thumb, columns: {prompt: input.b}}", &traces()[5..]);
    assert_eq!(texts(&found.groups[0]).0, ["x"]);
}

#[test]
fn scores_of_langfuse_are_joined_with_their_traces() {
    let header = "id,traceId,observationId,source,name,dataType,value,stringValue,userId\n";
    let table = header.to_owned()
        + "a,1,,API,thumb,BOOLEAN,1,True,u\nb,1,,EVAL,thumb,NUMERIC,0,,u\nc,2,,ANNOTATION,thumb,CATEGORICAL,0,bad,u\n"
        + "d,9,,API,thumb,BOOLEAN,1,True,u\ne,2,,EVAL,other,NUMERIC,0.3,,u\nf,3,,API,thumb,BOOLEAN,1,True,u\n"
        + "g,3,,API,thumb,BOOLEAN,0,False,u\n";
    let bare: Vec<Value> = traces()
        .into_iter()
        .map(|mut trace| {
            for name in ["thumb", "automatic"] {
                trace.as_object_mut().unwrap().remove(name);
            }
            trace
        })
        .collect();
    let traces = text(&bare);
    let found = read_folder("{judgement: thumb}", &[("scores.csv", &table), ("traces.jsonl", &traces)]);
    // Score d has no trace; b and e are a model's; scores f and g of trace 3 contradict each other.
    let expected = numbers(
        1,
        1,
        0,
        "missing_field machine_judgement other_judgement conflicting no_judgement no_judgement no_judgement",
    );
    assert_eq!(count(&found), expected);
    let message = error("{judgement: thumb}", "scores.csv", &table);
    assert!(message.starts_with("`source.join` is not given"), "{message}");
}

fn run(id: &str, question: &str, answer: &str) -> Value {
    json!({"id": id, "run_type": "chain", "inputs": {"question": question}, "outputs": {"output": answer},
        "error": null, "feedback_stats": {}})
}

fn feedback(run: &str, key: &str, score: Value, value: Value, by: &str, group: Option<&str>) -> Value {
    json!({"id": format!("{run}{key}"), "run_id": run, "key": key, "score": score, "value": value, "comment": "c",
        "feedback_source": {"type": by, "user_id": "u"}, "feedback_group_id": group})
}

fn joined(source: &str, feedback: &[Value], runs: &[Value]) -> Collected {
    read_folder(source, &[("feedback.jsonl", &text(feedback)), ("runs.jsonl", &text(runs))])
}

#[test]
fn feedback_of_langsmith_is_joined_with_runs_and_groups_are_pairs() {
    let langchain = |class: &str, content: &str| json!({"lc": 1, "type": "constructor", "id": ["langchain", class], "kwargs": {"content": content}});
    let mut first = run("r1", "", "");
    first["inputs"] =
        json!({"messages": [[langchain("SystemMessage", "Short."), langchain("HumanMessage", "Ice?")]]});
    first["outputs"] =
        json!({"generations": [[{"text": "Cold.", "message": langchain("AIMessage", "Cold.")}]]});
    let runs = [
        first,
        run("r2", "Ice?", "Hot."),
        run("r3", "Ice?", "Wet."),
        run("r4", "Fire?", "Hot."),
        run("r5", "Fire?", "Cold."),
        run("r6", "Fire?", "Wet."),
    ];
    let records = [
        feedback("r1", "stars", json!(1), json!(null), "app", None),
        feedback("r2", "stars", json!(0.0), json!(null), "api", None),
        feedback("r3", "stars", json!(null), json!("so so"), "api", None),
        feedback("r4", "ranked", json!(1), json!(null), "api", Some("g")),
        feedback("r5", "ranked", json!(0), json!(null), "api", Some("g")),
        feedback("r6", "ranked", json!(0), json!(null), "api", Some("g")),
        feedback("r6", "quality", json!(0.1), json!(null), "model", None),
    ];
    let found = joined("{judgement: [stars, ranked]}", &records, &runs);
    // r3 has no score, and neither side of a tie of zeros is better.
    assert_eq!(
        count(&found),
        numbers(3, 3, 2, "no_judgement no_judgement other_judgement other_judgement tie")
    );
    assert_eq!(texts(&found.groups[0]), (vec!["Short.", "Ice?"], vec!["Cold."]));
    let message = error("{}", "feedback.jsonl", &text(&records));
    assert!(message.contains("name the table of the traces"), "{message}");
    let machines =
        joined("{judgement: quality, machines: true, binarise: {by: threshold, at: 0.5}}", &records, &runs);
    assert_eq!((count(&machines).up, count(&machines).down), (0, 1));
}

#[test]
fn annotations_of_phoenix_are_of_people_unless_machines_are_allowed() {
    let annotated = |name: &str, label: Value, score: Value, kind: &str, reply: &str| {
        let one = json!({"label": label, "score": score, "annotator_kind": kind, "email": "a@b.c", "username": "ann"});
        json!({"id": "x", "node_id": "x", "input": {"messages": [user("Ice?")]},
            "output": {"messages": [assistant(reply)]}, "metadata": {"span_kind": "LLM", "annotations": {name: [one]}}, "splits": []})
    };
    let records = [
        annotated("feedback", json!("thumbs-up"), json!(1.0), "HUMAN", "Cold."),
        annotated("feedback", json!("thumbs-down"), json!(null), "HUMAN", "Hot."),
        annotated("feedback", json!(null), json!(0), "HUMAN", "Wet."),
        annotated("feedback", json!("thumbs-up"), json!(1.0), "LLM", "Icy."),
        annotated("correct", json!("correct"), json!(1.0), "CODE", "Cold."),
        annotated("feedback", json!("meh"), json!(1.0), "HUMAN", "Icy."),
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(1, 2, 0, "machine_judgement other_judgement unknown_word"));
    let found = lines("{judgement: feedback, machines: true, words: {undesirable: [meh]}}", &records);
    assert_eq!(count(&found), numbers(2, 3, 0, "other_judgement"));
    let message = error("{}", "a.jsonl", &records[4].to_string());
    assert!(message.contains("only models judged"), "{message}");
}

#[test]
fn zero_is_a_thumb_down_in_helicone_and_failed_requests_have_no_reply() {
    let request = |body: Value, rating: Value, scores: Value| {
        json!({"request_id": "r", "response_id": "s", "response_status": 200, "request_user_id": "u",
            "request_body": {"model": "m", "messages": [user("Ice?")]}, "response_body": body,
            "feedback_rating": rating, "scores": scores})
    };
    let reply = |text: &str| json!({"choices": [{"message": assistant(text)}]});
    let call = json!({"choices": [{"message": {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}}]});
    let mut bodiless = request(reply("x"), json!(true), json!(null));
    for key in ["request_body", "response_body"] {
        bodiless.as_object_mut().unwrap().remove(key);
    }
    let records = [
        request(reply("Cold."), json!(true), json!(null)),
        request(reply("Hot."), json!(null), json!({"helicone-score-feedback": 0})),
        request(
            reply("Icy."),
            json!(null),
            json!({"helicone-score-feedback": {"value": 1, "valueType": "number"}}),
        ),
        request(reply("Wet."), json!(null), json!({})),
        request(json!({"error": {"message": "down"}}), json!(false), json!(null)),
        request(call, json!(true), json!(null)),
        bodiless,
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(2, 1, 0, "no_judgement missing_field missing_field tool_turn"));
}

#[test]
fn reactions_of_weave_are_compared_without_skin_tone() {
    let call = |emoji: Option<&str>, plain: &str| {
        let reaction = json!({"feedback_type": "wandb.reaction.1", "weave_ref": "weave:///e/p/call/1",
            "payload": {"emoji": emoji, "detoned": plain}, "creator": "c", "wb_user_id": "u"});
        let note = json!({"feedback_type": "wandb.note.1", "weave_ref": "r", "payload": {"note": "n"}});
        let list = if emoji.is_some() { vec![reaction, note] } else { vec![note] };
        json!({"id": "1", "op_name": "o", "inputs": {"question": "Ice?"}, "output": plain.to_owned() + " it is",
            "exception": null, "summary": {"weave": {"feedback": list}}})
    };
    let mut failed = call(Some("👍"), "👍");
    failed["exception"] = json!("timeout");
    let records =
        [call(Some("👍🏽"), "👍"), call(Some("👎"), "👎"), call(Some("🎱"), "🎱"), call(None, "x"), failed];
    assert_eq!(count(&lines("{}", &records)), numbers(1, 1, 0, "other_reaction no_judgement error"));
}

#[test]
fn csv_of_traces_is_read_like_json() {
    let table = "id,bookmarked,input,output,thumb\n1,false,\"{\"\"messages\"\": [{\"\"role\"\": \"\"user\"\", \
                 \"\"content\"\": \"\"Ice?\"\"}]}\",Cold.,[1]\n2,false,Ice?,Hot.,\"[0, 0]\"\n3,false,Ice?,Wet.,\n";
    let found = read("{}", "traces.csv", table.as_bytes());
    assert_eq!(count(&found), numbers(1, 1, 0, "no_judgement"));
    assert_eq!(texts(&found.groups[0]), (vec!["Ice?"], vec!["Cold."]));
}

#[test]
fn logs_of_humanloop_have_judgements_of_people_and_of_other_evaluators() {
    let evaluator = |name: &str, kind: &str| {
        json!({"id": "e", "path": format!("team/{name}"), "name": name,
            "spec": {"evaluator_type": kind, "options": [{"name": "helpful", "valence": "positive"},
                {"name": "useless", "valence": "negative"}, {"name": "odd", "valence": "neutral"}]}})
    };
    let judged =
        |judgment: Value, evaluator: Value| json!({"id": "j", "judgment": judgment, "evaluator": evaluator});
    let log = |reply: Value, logs: &[Value]| {
        json!({"id": "l", "user": "u-5", "messages": [user("Ice?")], "inputs": {}, "output": "Cold.", "output_message": reply,
            "error": null, "evaluator_logs": logs})
    };
    let person = |judgment: Value| judged(judgment, evaluator("verdict", "human"));
    let machine = judged(json!(false), evaluator("safety", "llm"));
    let mut failed = log(assistant("Cold."), &[person(json!(true))]);
    failed["error"] = json!("timeout");
    let records = [
        log(assistant("Icy."), &[person(json!(true)), machine.clone()]),
        log(json!(null), &[person(json!("useless"))]),
        log(assistant("Wet."), &[person(json!(["helpful"]))]),
        log(assistant("Icy."), &[person(json!("odd"))]),
        log(assistant("Icy."), &[machine]),
        log(assistant("Icy."), &[]),
        failed,
    ];
    let found = lines("{}", &records);
    assert_eq!(count(&found), numbers(2, 1, 0, "no_judgement no_judgement other_judgement error"));
    assert_eq!(texts(&found.groups[1]), (vec!["Ice?"], vec!["Cold."]));
    let message = error("{}", "logs.jsonl", &records[4].to_string());
    assert!(message.contains("only models judged"), "{message}");
    let mut lower = evaluator("errors", "human");
    lower["spec"]["number_valence"] = json!("negative");
    let records =
        [log(assistant("Icy."), &[judged(json!(3), evaluator("stars", "human")), judged(json!(9), lower)])];
    let found = lines("{judgement: [stars, errors], binarise: {by: threshold, at: 4}}", &records);
    assert_eq!(count(&found), numbers(0, 1, 0, ""));
}

//! Chat templates that refuse conversations, from the command line.

use serde_json::Value;

use crate::support::Place;

/// Refuses system turns, turns that do not alternate, and a word.
const STRICT: &str = "{% for m in messages %}{% if 'forbidden' in m.content %}{{ raise_exception('a forbidden word') }}{% endif %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";

fn place(prompts: &[Value]) -> Place {
    let place = Place::with("");
    place.write("strict.jinja", STRICT);
    let model = fs_err::read_to_string(place.path("model.yaml")).unwrap();
    place.write("model.yaml", format!("{model}\nchat_template: strict.jinja\n"));
    let rows: Vec<String> = prompts
        .iter()
        .enumerate()
        .map(|(index, prompt)| {
            let completion =
                |text: &str| serde_json::json!([{"role": "assistant", "content": format!("{text} {index}")}]);
            let row = serde_json::json!({
                "prompt": prompt, "chosen": completion("good"), "rejected": completion("bad")
            });
            row.to_string()
        })
        .collect();
    place.write("pairs.jsonl", rows.join("\n"));
    place.write("data.yaml", "source: { path: pairs.jsonl }\nsplit: { test_fraction: 0.25 }\n");
    let run = place.run("prepare data.yaml --out data");
    assert_eq!(run.code, Some(0), "{run}");
    place
}

fn turns(contents: &[(&str, String)]) -> Value {
    contents.iter().map(|(role, content)| serde_json::json!({"role": role, "content": content})).collect()
}

#[test]
fn refused_turns_are_adapted_and_counted_and_the_run_goes_on() {
    let prompts: Vec<Value> = (0..24)
        .map(|row| match row % 3 {
            0 => turns(&[("system", "short".to_owned()), ("user", format!("question {row}"))]),
            1 => turns(&[("user", format!("first {row}")), ("user", format!("second {row}"))]),
            _ => turns(&[
                ("user", format!("old question {row}")),
                ("assistant", "old answer".to_owned()),
                ("user", format!("new {row}")),
            ]),
        })
        .collect();
    let place = place(&prompts);
    let run = place.run("preview data --model model.yaml -n 40 --max-length 100 --max-prompt-length 40");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.stdout.contains("[INST] short\n\nquestion "), "{run}");
    assert!(run.stdout.contains("refuses consecutive turns") && run.stdout.contains("end marker"), "{run}");
    let command = "train data.yaml --model model.yaml --objective kto --batch-size 4 --max-length 100 \
        --set train.max_prompt_length=40 --set train.max_steps=2 --out run";
    let run = place.run(command);
    assert_eq!(run.code, Some(0), "{run}");
    let config = fs_err::read(place.path(run.stdout.trim()).join("config.json")).unwrap();
    let encoding = &serde_json::from_slice::<Value>(&config).unwrap()["encoding"];
    for count in ["systems_folded", "turns_merged", "prompts_cut"] {
        assert!(encoding[count].as_u64().unwrap() > 0, "{count}: {encoding}");
    }
    assert_eq!((&encoding["refused"], &encoding["prompt_too_long"]), (&Value::from(0), &Value::from(0)));
}

#[test]
fn a_row_that_stays_refused_is_dropped_by_name() {
    let prompts: Vec<Value> = (0..24)
        .map(|row| {
            let word = if row % 3 == 0 { "forbidden" } else { "text" };
            turns(&[("user", format!("{word} {row}"))])
        })
        .collect();
    let place = place(&prompts);
    let run = place.run(
        "train data.yaml --model model.yaml --objective dpo --batch-size 4 --max-length 100 \
         --set train.max_steps=2 --out run",
    );
    assert_eq!(run.code, Some(0), "{run}");
    let config = fs_err::read(place.path(run.stdout.trim()).join("config.json")).unwrap();
    let encoding = &serde_json::from_slice::<Value>(&config).unwrap()["encoding"];
    assert!(encoding["refused"].as_u64().unwrap() > 0, "{encoding}");
    let dropped = &encoding["dropped"][0];
    assert!(dropped["reason"].as_str().unwrap().contains("a forbidden word"), "{encoding}");
    assert!(!dropped["id"].as_str().unwrap().is_empty());
    let run = place.run("preview data --model model.yaml -n 1 --max-length 100");
    assert!(run.stderr.contains("refused by the chat template"), "{run}");
}

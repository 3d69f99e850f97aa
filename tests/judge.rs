//! `prospect judge`: a scripted model behind an API, and a reward model.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::support::{MODEL, Place, Run, files_below};

/// Reply of the scripted endpoint to a request, by its number and question: status, extra headers
/// and body.
type Script = dyn Fn(usize, &str) -> (u16, &'static str, String) + Send + Sync;

/// OpenAI-compatible endpoint on the loopback interface.
struct Endpoint {
    address: String,
    requests: Arc<AtomicUsize>,
    keys: Arc<Mutex<Vec<String>>>,
}

impl Endpoint {
    fn start(script: impl Fn(usize, &str) -> (u16, &'static str, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let (requests, keys) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let script: Arc<Script> = Arc::new(script);
        let (counted, seen) = (Arc::clone(&requests), Arc::clone(&keys));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, counted, seen) = (Arc::clone(&script), Arc::clone(&counted), Arc::clone(&seen));
                thread::spawn(move || serve(&stream.unwrap(), &*script, &counted, &seen));
            }
        });
        Self { address, requests, keys }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn serve(stream: &TcpStream, script: &Script, counted: &AtomicUsize, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        assert_eq!(line.trim(), "POST /v1/chat/completions HTTP/1.1");
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let header = line.trim().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if header.starts_with("authorization:") {
                seen.lock().unwrap().push(line.trim().to_owned());
            }
            if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["temperature"], 0);
        let question = body["messages"][0]["content"].as_str().unwrap();
        let (status, headers, body) = script(counted.fetch_add(1, Ordering::Relaxed), question);
        let length = body.len();
        let reply = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        (&mut &*stream).write_all(reply.as_bytes()).unwrap();
    }
}

fn says(content: &str) -> (u16, &'static str, String) {
    (200, "", serde_json::json!({ "choices": [{ "message": { "content": content } }] }).to_string())
}

/// Extracts the two responses from a question.
fn responses(question: &str) -> [&str; 2] {
    let between = |from: &str, to: &str| question.split_once(from).unwrap().1.split_once(to).unwrap().0;
    [between("Response 1:\n", "\nEND OF RESPONSE 1"), between("Response 2:\n", "\nEND OF RESPONSE 2")]
}

/// Runs a sweep of two methods on a synthetic world, with generations for eight prompts.
pub(crate) fn swept() -> Place {
    let place = Place::new();
    place.write("model.yaml", MODEL);
    place.write(
        "data.yaml",
        "source: { kind: synthetic, pairs: 200, world: { domains: [home] } }\nsplit: { test_fraction: 0.4 }\n",
    );
    place.write(
        "said.yaml",
        "question: Who says better things?\n\
         data: data.yaml\nmodel: model.yaml\n\
         train: { learning_rate: 1e-2, batch_size: 8, max_steps: 2, max_length: 160, max_prompt_length: 100 }\n\
         linked: { method: { dpo: { train.objective: dpo }, kto: { train.objective: kto } } }\n\
         matrix: { train.beta: [0.1] }\n\
         seeds: [0, 1]\n\
         evaluate: { pairs: 8, generations: { prompts: 8, max_new_tokens: 12, every: 1 } }\n\
         report: { x: train.beta, series: method, baseline: dpo }\n",
    );
    let swept = place.run("sweep said.yaml");
    assert_eq!(swept.code, Some(0), "{swept}");
    place
}

/// Runs `prospect judge` with a key in the environment.
pub(crate) fn judge(place: &Place, args: &str) -> Run {
    place.run_with(&format!("judge said {args}"), &[("JUDGE_KEY", "sesame"), ("NO_PROXY", "127.0.0.1")])
}

pub(crate) fn rates(place: &Place) -> Vec<Value> {
    let summary: Value =
        serde_json::from_slice(&fs_err::read(place.path("runs/said/summary.json")).unwrap()).unwrap();
    summary["win_rates"].as_array().unwrap().clone()
}

/// Counts wins, ties and losses of a series against the preferred completions if the longer text
/// wins. A truncated generation ends at its last complete sentence.
fn by_length(place: &Place, series: &str) -> [Value; 3] {
    let read = |path: String| -> Vec<Value> {
        let text = fs_err::read_to_string(place.path(&path)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let text = fs_err::read_to_string(place.path("runs/said/experiment.json")).unwrap();
    let experiment: Value = serde_json::from_str(&text).unwrap();
    let mut counts = [0, 0, 0];
    for run in experiment["runs"].as_array().unwrap() {
        if run["settings"]["method"] != series {
            continue;
        }
        for said in read(format!("runs/said/runs/{}/generations.jsonl", run["id"].as_str().unwrap())) {
            let completion = said["completion"].as_str().unwrap();
            let end = completion.rfind(['.', '!', '?']).map_or(completion.len(), |at| at + 1);
            let ours = if said["ended"].as_bool().unwrap() { completion.len() } else { end };
            let place = match ours.cmp(&said["chosen"].as_str().unwrap().len()) {
                std::cmp::Ordering::Greater => 0,
                std::cmp::Ordering::Equal => 1,
                std::cmp::Ordering::Less => 2,
            };
            counts[place] += 1;
        }
    }
    assert_eq!(counts.iter().sum::<i32>(), 16);
    counts.map(Value::from)
}

#[test]
fn a_model_behind_an_api_judges_in_both_orders() {
    let place = swept();
    // Synthetic worlds know the true utility, which needs no judge.
    assert_eq!(rates(&place).len(), 2);
    assert!(rates(&place).iter().all(|rate| rate["judge"] == "true utility"));

    // The endpoint is busy at first. Then it prefers the longer response, in either order.
    let endpoint = Endpoint::start(|number, question| {
        if number < 2 {
            return (429, "retry-after: 0\r\n", "slow down".to_owned());
        }
        let [first, second] = responses(question);
        match first.len().cmp(&second.len()) {
            std::cmp::Ordering::Less => says("Response 2"),
            std::cmp::Ordering::Greater => says("Response 1"),
            std::cmp::Ordering::Equal => says("1"),
        }
    });
    let args = format!("--endpoint {} --model long --key JUDGE_KEY --at-once 2", endpoint.address);
    let judged = judge(&place, &args);
    assert_eq!(judged.code, Some(0), "{judged}");
    assert!(judged.stderr.contains("32 comparisons judged"), "{judged}");
    assert!(judged.stdout.contains("runs/said/report/index.html"), "{judged}");
    assert!(endpoint.keys.lock().unwrap().iter().all(|key| key.ends_with("Bearer sesame")));
    let asked = endpoint.requests();
    assert!(asked <= 2 + 64, "every question once: {asked}");

    let own: Vec<Value> = rates(&place).into_iter().filter(|rate| rate["judge"] == "long").collect();
    assert_eq!(own.len(), 2);
    for rate in &own {
        assert_eq!(rate["opponent"], "target");
        let expected = by_length(&place, rate["series"].as_str().unwrap());
        assert_eq!([&rate["wins"], &rate["ties"], &rate["losses"]], expected.each_ref(), "{rate}");
        assert_eq!(rate["unread"], 0);
    }
    let page = fs_err::read_to_string(place.path("reports/said/index.html")).unwrap();
    assert!(page.contains("Win rates") && page.contains("long, against the preferred completions"));
    assert!(
        fs_err::read_to_string(place.path("reports/said/tables/win_rates.csv")).unwrap().contains("\nlong,")
    );

    // Answered questions are not sent again.
    let again = judge(&place, &args);
    assert_eq!((again.code, endpoint.requests()), (Some(0), asked), "{again}");
}

#[test]
fn tokens_and_keys_appear_nowhere() {
    let place = swept();
    let secrets =
        [("HF_TOKEN", "hf_open-sesame"), ("JUDGE_KEY", "sk-open-sesame"), ("NO_PROXY", "127.0.0.1")];
    // The first call fails with a reply that repeats the key, as some proxies do.
    let endpoint = Endpoint::start(|number, _| match number {
        0 => (401, "", "no such key: Bearer sk-open-sesame".to_owned()),
        _ => says("Response 1"),
    });
    let address = endpoint.address.replace("http://", "http://user:open-sesame@");
    let args = format!("judge said -vv --endpoint {address} --model m --key JUDGE_KEY --at-once 1");
    let commands =
        [args.as_str(), args.as_str(), "report said", "export said --format csv --out columns", "doctor"];
    let mut outputs = Vec::new();
    for command in commands {
        let run = place.run_with(command, &secrets);
        outputs.push(format!("{run}"));
    }
    assert!(outputs[0].contains("no such key: Bearer [redacted]"), "{}", outputs[0]);
    assert!(outputs[1].starts_with("exit code 0"), "{}", outputs[1]);
    assert!(endpoint.keys.lock().unwrap().iter().any(|key| key.ends_with("Bearer sk-open-sesame")));
    let leaks = |text: &str| text.contains("open-sesame");
    for output in &outputs {
        assert!(!leaks(output), "{output}");
    }
    for path in files_below(&place.path(".")) {
        let bytes = fs_err::read(&path).unwrap();
        assert!(!leaks(&String::from_utf8_lossy(&bytes)), "{}", path.display());
    }
}

#[test]
fn a_judge_that_always_prefers_the_first_is_inconclusive() {
    let place = swept();
    let endpoint =
        Endpoint::start(|number, _| if number % 5 == 4 { says("Neither!") } else { says("Response 1") });
    let args = format!("--endpoint {}/ --model first --at-once 1 --against baseline", endpoint.address);
    let judged = judge(&place, &args);
    assert_eq!(judged.code, Some(0), "{judged}");
    assert!(judged.stderr.contains("of 16 in the last call"), "{judged}");
    let own: Vec<Value> = rates(&place).into_iter().filter(|rate| rate["judge"] == "first").collect();
    let [rate] = own.as_slice() else { panic!("kto against dpo alone: {own:?}") };
    assert_eq!((rate["opponent"].as_str(), rate["series"].as_str()), (Some("baseline"), Some("kto")));
    let count = |name: &str| rate[name].as_u64().unwrap();
    assert_eq!((count("wins"), count("losses")), (0, 0));
    assert!(count("unread") > 0 && count("ties") > 0, "{rate}");
    assert_eq!(count("ties") + count("unread"), 16);
    assert_eq!(rate["verdict"], "inconclusive");
    assert!(endpoint.keys.lock().unwrap().is_empty());
}

#[test]
fn damaged_answers_are_named_and_asked_for_again() {
    let place = swept();
    let endpoint = Endpoint::start(|_, _| says("Response 1"));
    let args = format!("--endpoint {}/ --model first --against baseline", endpoint.address);
    assert_eq!(judge(&place, &args).code, Some(0));
    assert!(place.run("verify runs").stdout.contains("1 answer file"));
    // A folder of the same name elsewhere is not Prospect's.
    fs_err::create_dir(place.path("runs/judges")).unwrap();
    place.write("runs/judges/notes.jsonl", "{\"mine\": 1}\n");
    let answers = place.path("runs/said/judges/first.jsonl");
    let damaged = fs_err::read_to_string(&answers).unwrap().replacen("Response 1", "Response 2", 1);
    fs_err::write(&answers, damaged).unwrap();
    let found = place.run("verify runs --repair");
    assert!(found.stdout.contains("1 answer is damaged or incomplete, the first in line "), "{found}");
    assert!(found.stderr.contains("the next `prospect judge` that needs them asks again"), "{found}");
    assert_eq!(fs_err::read_to_string(place.path("runs/judges/notes.jsonl")).unwrap(), "{\"mine\": 1}\n");
    let asked = endpoint.requests();
    assert_eq!(judge(&place, &args).code, Some(0));
    assert_eq!(endpoint.requests(), asked + 1);
}

#[test]
fn answers_are_kept_when_an_endpoint_fails() {
    let place = swept();
    let endpoint = Endpoint::start(|number, _| match number {
        10 => (401, "", "{\"error\": \"no\u{7} such key\"}".to_owned()),
        _ => says("Response 2"),
    });
    let args = format!("--endpoint {} --model m --at-once 1", endpoint.address);
    let refused = judge(&place, &args);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("401"), "{refused}");
    assert!(refused.stderr.contains("run the same command again to continue"), "{refused}");
    assert!(!refused.stderr.contains('\u{7}'), "{refused}");
    assert_eq!(endpoint.requests(), 11);
    let judged = judge(&place, &args);
    assert_eq!(judged.code, Some(0), "{judged}");
    assert!(endpoint.requests() <= 11 + 54, "ten answers were kept: {}", endpoint.requests());

    let gone = judge(&place, "--endpoint http://127.0.0.1:9/v1 --model m --tries 1");
    assert_eq!(gone.code, Some(0), "every answer is known by now: {gone}");
    let gone = judge(&place, "--endpoint http://127.0.0.1:9/v1 --model other --tries 1");
    assert_eq!(gone.code, Some(1), "{gone}");
    assert!(gone.stderr.contains("http://127.0.0.1:9/v1: io: Connection refused"), "{gone}");
}

#[test]
fn a_reward_model_is_trained_on_held_out_pairs_and_judges() {
    let place = swept();
    let args = "--reward-model model.yaml --set learning_rate=1e-2 --set max_length=160 --set batch_size=8 --set num_train_epochs=6";
    let judged = judge(&place, args);
    assert_eq!(judged.code, Some(0), "{judged}");
    assert!(judged.stderr.contains("pairs of the judged prompts correctly"), "{judged}");
    let own: Vec<Value> = rates(&place).into_iter().filter(|rate| rate["judge"] == "reward model").collect();
    assert_eq!(own.len(), 2);
    for rate in &own {
        let count = |name: &str| rate[name].as_u64().unwrap();
        assert_eq!(count("wins") + count("ties") + count("losses") + count("unread"), 16, "{rate}");
    }
    // A second call gives the same results bit for bit.
    let summary = fs_err::read(place.path("runs/said/summary.json")).unwrap();
    assert_eq!(judge(&place, args).code, Some(0));
    assert_eq!(fs_err::read(place.path("runs/said/summary.json")).unwrap(), summary);

    let frontier = |place: &Place| -> Vec<Value> {
        let text = fs_err::read_to_string(place.path("runs/said/summary.json")).unwrap();
        let summary: Value = serde_json::from_str(&text).unwrap();
        summary["frontier"].as_array().unwrap().clone()
    };
    let rewards =
        |point: &Value| point["rewards"].as_array().unwrap().iter().map(|r| r["kind"].clone()).collect();
    let unjudged: Vec<Vec<Value>> = frontier(&place).iter().map(rewards).collect();
    assert_eq!(unjudged, vec![vec![Value::from("utility")]; 6], "two series at steps 0, 1 and 2");
    let judged = judge(&place, &format!("{args} --samples"));
    assert!(judged.stderr.contains("128 comparisons judged"), "4 runs × (1 + 3 steps) × 8 prompts: {judged}");
    for point in frontier(&place) {
        let [kinds, kl] = [Value::Array(rewards(&point)), point["kl"]["value"].clone()];
        assert_eq!(
            kinds,
            serde_json::json!(["utility", {"reward": "reward model"}, {"win_rate": "reward model"}])
        );
        assert_eq!(kl == 0.0, point["step"] == 0, "{point}");
        assert!(kl.as_f64().unwrap() >= 0.0 && point["is_last"] == (point["step"] == 2), "{point}");
    }
    let page = fs_err::read_to_string(place.path("reports/said/index.html")).unwrap();
    assert!(page.contains("figure-frontier") && page.contains("figure-over-optimisation"));
    let of_generations =
        rates(&place).into_iter().filter(|rate| rate["judge"] == "reward model").collect::<Vec<_>>();
    assert_eq!(of_generations, own, "samples do not count among generations");
    let against = judge(&place, &format!("{args} --samples --against baseline"));
    assert!(against.stderr.contains("leave out --against"), "{against}");

    let objective = judge(&place, "--reward-model model.yaml --set objective=kto");
    assert!(objective.stderr.contains("a reward model is trained on pairs"), "{objective}");
    let typo = judge(&place, "--reward-model model.yaml --set learning_rat=1");
    assert!(typo.stderr.contains("did you mean `learning_rate`"), "{typo}");
}

#[test]
fn a_judge_needs_a_sweep_and_a_model() {
    let place = Place::new();
    let nothing = place.run("judge nowhere --endpoint http://127.0.0.1:9/v1 --model m");
    assert!(nothing.stderr.contains("is not a sweep"), "{nothing}");
    let nobody = place.run("judge nowhere");
    assert_eq!(nobody.code, Some(2), "{nobody}");
    let nameless = place.run("judge nowhere --endpoint http://127.0.0.1:9/v1");
    assert_eq!(nameless.code, Some(2), "{nameless}");
}

//! Answers of judges behind an API, and of Slurm's programs.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{LazyLock, Mutex},
    thread,
    time::Duration,
};

use prospect_core::config::Document;
use prospect_eval::judge::{CompletionPair, Endpoint, EndpointOptions, Judge, Question};
use prospect_runs::SweepDir;
use prospect_sweep::{SlurmProfile, SlurmStatus, Submission};
use tempfile::TempDir;

/// What [`SERVER`] sends next.
static RESPONSE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Server that answers every request with [`RESPONSE`] and closes the connection.
static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface is up");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = respond(stream);
        }
    });
    address
});

/// Reads a request whole, so that closing the connection does not reset it.
fn respond(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        request.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    request.read_exact(&mut vec![0; length])?;
    stream.write_all(&RESPONSE.lock().expect("it is only read and replaced"))
}

/// Form of a server's answer, from the whole response to the words of the judge.
const FORMS: u8 = 3;

/// Asks a judge whose server answers with `bytes`; the first says what the others are.
pub fn ask_judge(bytes: &[u8]) {
    let Some((form, bytes)) = bytes.split_first() else { return };
    let success = |body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let response = match form % FORMS {
        0 => bytes.to_vec(),
        1 => success(bytes),
        _ => {
            let content = serde_json::json!(String::from_utf8_lossy(bytes));
            success(format!(r#"{{"choices": [{{"message": {{"content": {content}}}}}]}}"#).as_bytes())
        }
    };
    *RESPONSE.lock().expect("it is only read and replaced") = response;

    let folder = tempfile::tempdir().expect("there is space for an answer");
    let options = EndpointOptions {
        address: format!("http://{}/v1", *SERVER),
        model: "judge".to_owned(),
        key: None,
        question: Question::default(),
        max_tokens: 8,
        per_minute: None,
        at_once: NonZeroUsize::MIN,
        timeout: Duration::from_secs(10),
        tries: NonZeroUsize::MIN,
        wait: Duration::ZERO,
    };
    let comparison = CompletionPair {
        prompt_id: "0".to_owned(),
        prompt: "Hi".to_owned(),
        completion: "Hello.".to_owned(),
        other: "Yes?".to_owned(),
    };
    let answers = folder.path().join("answers.jsonl");
    let mut judge = Endpoint::new(options, &answers).expect("address and folder are valid");
    if judge.judge(folder.path(), &[comparison]).is_ok() {
        let damage = prospect_eval::judge::damaged_answers(&answers).expect("it is a file");
        assert_eq!(damage, None, "an answer was written that cannot be read");
    }
}

/// Folder of Slurm's programs, which print the file `answer` here and exit with the code in `code`.
static CLUSTER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is space for scripts");
    for program in ["squeue", "sacct", "sbatch"] {
        let script = folder.path().join(program);
        let text = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\ncat answer >&2\ncat answer\nexit \"$(cat code)\"\n";
        fs::write(&script, text).expect("there is space for scripts");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let path = env::var("PATH").unwrap_or_default();
    // SAFETY: The fuzzer calls this before it starts threads that read the environment.
    unsafe { env::set_var("PATH", format!("{}:{path}", folder.path().display())) };
    folder
});

/// Asks Slurm for the state of a sweep's workers and submits more. The first byte says whether its
/// programs fail, the others are all that they print.
pub fn ask_slurm(bytes: &[u8]) {
    let Some((code, bytes)) = bytes.split_first() else { return };
    let folder = CLUSTER.path();
    fs::write(folder.join("code"), (code % 2).to_string()).expect("there is space for a code");
    fs::write(folder.join("answer"), bytes).expect("there is space for an answer");
    let slurm = folder.join("sweep/slurm");
    let _ = fs::remove_dir_all(&slurm);
    fs::create_dir_all(&slurm).expect("there is space for a folder");
    let sweep = SweepDir::at(folder.join("sweep"));
    let submit = |sweep: &SweepDir| {
        let document = Document::from_text("slurm.yaml", "workers: 2").expect("it is valid");
        let profile = SlurmProfile::read(document).expect("it is valid");
        let (name, arguments, max_workers) = ("sweep", "sweep worlds", NonZeroUsize::MAX);
        let _ = Submission { name, sweep, profile: &profile, arguments, max_workers }.submit();
    };
    submit(&sweep);
    fs::write(slurm.join("job.json"), r#"{"id": "7", "workers": 2}"#).expect("there is space for a job");
    let status = SlurmStatus::read(&sweep).expect("the job's file is valid").expect("there is a job");
    assert!(status.note.is_some() || status.tasks.len() >= 2, "{status:?} has lost a task");
    submit(&sweep);
}

/// Writes answers to start from to `corpus/judges` and `corpus/slurm` in a folder.
pub(crate) fn write_seeds(folder: &Path) -> std::io::Result<()> {
    let reply = r#"{"choices": [{"message": {"role": "assistant", "content": "Response 2"}}]}"#;
    let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ntransfer-encoding: chunked\r\n\r\n4\r\nBusy\r\n0\r\n\r\n";
    let judges = [
        ("response", [&[0], busy.as_bytes()].concat()),
        ("reply", [&[1], reply.as_bytes()].concat()),
        ("answer", [&[2], "**Response 2** is better than [Response 1]: “short”.".as_bytes()].concat()),
    ];
    let slurm = [
        ("squeue", b"\x000|RUNNING|n1|0:02|None\n1|PENDING||0:00|Resources\n".to_vec()),
        ("sacct", b"\x007_0|COMPLETED|n1|00:00:02|0:0\n7_1|CANCELLED by 0|n1|00:00:02|0:15\n".to_vec()),
        ("sbatch", b"\x004711;cluster\n".to_vec()),
        ("refusal", b"\x01sbatch: error: Invalid job id specified: time limit\n".to_vec()),
    ];
    for (target, seeds) in [("judges", judges.as_slice()), ("slurm", &slurm)] {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        seeds.iter().try_for_each(|(name, bytes)| fs::write(corpus.join(name), bytes))?;
    }
    Ok(())
}

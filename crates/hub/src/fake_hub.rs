//! A server on the loopback interface that plays the Hub, for tests.
//!
//! It serves the same files as `org/name` (a model and a dataset) and refuses `org/gated`; `main` is its only branch.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// The commit that `main` stands for.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

type Files = &'static [(&'static str, &'static str)];

pub(crate) struct FakeHub {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    requests: Mutex<Vec<String>>,
    tokens: Mutex<Vec<String>>,
    refuse_downloads: AtomicBool,
}

struct Request {
    method: String,
    path: String,
    body: String,
}

struct Reply {
    status: u16,
    headers: String,
    body: String,
}

impl FakeHub {
    /// Serves `files`, given as path and content, until the test process ends.
    pub(crate) fn start(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            files,
            requests: Mutex::default(),
            tokens: Mutex::default(),
            refuse_downloads: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                thread::spawn(move || serve(stream.unwrap(), &served));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Method and path of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The `authorization` header of every request so far.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.shared.tokens.lock().unwrap().clone()
    }

    /// Answers downloads (not the HEAD requests before them) with an error page.
    pub(crate) fn refuse_downloads(&self, refuse: bool) {
        self.shared.refuse_downloads.store(refuse, Ordering::SeqCst);
    }
}

/// An address that nobody listens on.
pub(crate) fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let request = read(&stream, shared);
    let reply = answer(&request, shared);
    let mut text = format!("HTTP/1.1 {} -\r\nconnection: close\r\n{}", reply.status, reply.headers);
    write!(text, "content-length: {}\r\n\r\n", reply.body.len()).unwrap();
    if request.method != "HEAD" {
        text.push_str(&reply.body);
    }
    stream.write_all(text.as_bytes()).unwrap();
}

fn read(stream: &TcpStream, shared: &Shared) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (mut length, mut token) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => value.clone_into(&mut token),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    shared.requests.lock().unwrap().push(format!("{method} {path}"));
    shared.tokens.lock().unwrap().push(token);
    Request { method, path, body: String::from_utf8(body).unwrap() }
}

fn answer(request: &Request, shared: &Shared) -> Reply {
    let path = request.path.trim_start_matches('/');
    let api = path.strip_prefix("api/models/").or_else(|| path.strip_prefix("api/datasets/"));
    let rest = api.unwrap_or_else(|| path.strip_prefix("datasets/").unwrap_or(path));
    let mut parts = rest.splitn(5, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (owner, name, action, revision, file) = (part(), part(), part(), part(), part());
    if (owner, name) == ("org", "gated") {
        return error(401, "GatedRepo");
    }
    if (owner, name) != ("org", "name") {
        return error(404, "RepoNotFound");
    }
    if revision != "main" && revision != COMMIT {
        return error(404, "RevisionNotFound");
    }
    match action {
        "tree" => {
            entries(shared.files.iter().filter(|(path, _)| is_below(path, file)).map(|file| entry(*file)))
        }
        "paths-info" => {
            let wanted = request.body.split('"').nth(3).unwrap_or_default();
            let exact = shared.files.iter().find(|(path, _)| *path == wanted).map(|file| entry(*file));
            let folder = || {
                shared
                    .files
                    .iter()
                    .any(|(path, _)| is_below(path, wanted))
                    .then(|| format!(r#"{{"type":"directory","oid":"-","path":"{wanted}"}}"#))
            };
            entries(exact.or_else(folder).into_iter())
        }
        "resolve" => match shared.files.iter().find(|(path, _)| *path == file) {
            Some(_) if request.method == "GET" && shared.refuse_downloads.load(Ordering::SeqCst) => {
                error(403, "AccessDenied")
            }
            Some((path, content)) => Reply {
                status: 200,
                headers: format!("etag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\n", path.replace('/', "-")),
                body: (*content).to_owned(),
            },
            None => error(404, "EntryNotFound"),
        },
        _ => error(400, "-"),
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn entry((path, content): (&str, &str)) -> String {
    format!(r#"{{"type":"file","oid":"-","size":{},"path":"{path}"}}"#, content.len())
}

fn entries(entries: impl Iterator<Item = String>) -> Reply {
    let body = format!("[{}]", entries.collect::<Vec<_>>().join(","));
    Reply { status: 200, headers: "content-type: application/json\r\n".to_owned(), body }
}

fn error(status: u16, code: &str) -> Reply {
    Reply { status, headers: format!("x-error-code: {code}\r\n"), body: "an error page".to_owned() }
}

//! Fake Hub for tests: an HTTP server on the loopback interface.
//!
//! Serves the same files as the model and the dataset `org/name`. Refuses `org/gated`. Its only
//! branch is `main`.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use sha2::{Digest, Sha256};

/// Commit of `main`.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Commit of the tag `v2`, with the same files.
const SECOND_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

type Files = &'static [(&'static str, &'static str)];

/// A running server.
pub struct FakeHub {
    address: SocketAddr,
    shared: Arc<FakeHubState>,
}

struct FakeHubState {
    files: Files,
    requests: Mutex<Vec<String>>,
    tokens: Mutex<Vec<String>>,
    /// `range` header of each download.
    ranges: Mutex<Vec<String>>,
    refuse_downloads: AtomicBool,
    /// Bytes of a download after which the connection closes; 0 for no limit.
    close_after: AtomicUsize,
    /// Address of the next page of every listing.
    next_page: Mutex<Option<String>>,
    /// Number of requests to refuse with status 429.
    busy: AtomicUsize,
}

struct Request {
    path: String,
    recursive: bool,
    range: String,
}

struct Reply {
    status: u16,
    headers: String,
    body: String,
    /// Bytes of the body to send.
    sent: usize,
}

impl FakeHub {
    /// Serves `files`, pairs of path and content, until the test process ends.
    pub fn start(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(FakeHubState {
            files,
            requests: Mutex::default(),
            tokens: Mutex::default(),
            ranges: Mutex::default(),
            refuse_downloads: AtomicBool::new(false),
            close_after: AtomicUsize::new(0),
            next_page: Mutex::default(),
            busy: AtomicUsize::new(0),
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

    /// The base URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns method and path of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Returns the `authorization` headers of all requests so far.
    pub fn tokens(&self) -> Vec<String> {
        self.shared.tokens.lock().unwrap().clone()
    }

    /// Returns the `range` headers of all downloads so far.
    pub fn ranges(&self) -> Vec<String> {
        self.shared.ranges.lock().unwrap().clone()
    }

    /// Responds to downloads with an error page.
    pub fn refuse_downloads(&self, refuse: bool) {
        self.shared.refuse_downloads.store(refuse, Ordering::SeqCst);
    }

    /// Closes the connection after `bytes` bytes of a download.
    pub fn close_after(&self, bytes: usize) {
        self.shared.close_after.store(bytes, Ordering::SeqCst);
    }

    /// Names `url` as the next page of every listing.
    pub fn continue_listings_at(&self, url: &str) {
        *self.shared.next_page.lock().unwrap() = Some(url.to_owned());
    }

    /// Answers the next requests with status 429, and asks for half a second of patience.
    pub fn refuse_next(&self, requests: usize) {
        self.shared.busy.store(requests, Ordering::SeqCst);
    }
}

/// Returns an address without a listener.
pub fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn serve(mut stream: TcpStream, shared: &FakeHubState) {
    let request = read(&stream, shared);
    let reply = answer(&request, shared);
    let mut text = format!("HTTP/1.1 {} -\r\nconnection: close\r\n{}", reply.status, reply.headers);
    write!(text, "content-length: {}\r\n\r\n", reply.body.len()).unwrap();
    text.push_str(&reply.body[..reply.sent]);
    stream.write_all(text.as_bytes()).unwrap();
}

fn read(stream: &TcpStream, shared: &FakeHubState) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().replace("%2F", "/");
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, recursive) = (path.to_owned(), query.contains("recursive=true"));
    let (mut range, mut token) = (String::new(), String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => value.clone_into(&mut range),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => value.clone_into(&mut token),
            Some(_) => {}
            None => break,
        }
    }
    shared.requests.lock().unwrap().push(format!("{method} {path}"));
    shared.tokens.lock().unwrap().push(token);
    Request { path, recursive, range }
}

fn answer(request: &Request, shared: &FakeHubState) -> Reply {
    if shared.busy.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        return Reply { headers: "retry-after: 0.5\r\n".to_owned(), ..error(429, "RateLimited") };
    }
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
    if !["main", "v2", COMMIT, SECOND_COMMIT].contains(&revision) {
        return error(404, "RevisionNotFound");
    }
    match action {
        "revision" => {
            let sha = if revision == "v2" { SECOND_COMMIT } else { COMMIT };
            json(format!(r#"{{"id":"org/name","sha":"{sha}"}}"#))
        }
        "tree" => {
            let mut listing = tree(shared.files, file, request.recursive);
            if let Some(next) = shared.next_page.lock().unwrap().as_deref() {
                write!(listing.headers, "link: <{next}>; rel=\"next\"\r\n").unwrap();
            }
            listing
        }
        "resolve" => {
            shared.ranges.lock().unwrap().push(request.range.clone());
            match shared.files.iter().find(|(path, _)| *path == file) {
                Some(_) if shared.refuse_downloads.load(Ordering::SeqCst) => {
                    Reply { status: 200, ..error(200, "AccessDenied") }
                }
                Some((_, content)) => content_from(content, &request.range, shared),
                None => error(404, "EntryNotFound"),
            }
        }
        _ => error(400, "-"),
    }
}

/// Responds with the bytes of a file from the start of the range.
fn content_from(content: &str, range: &str, shared: &FakeHubState) -> Reply {
    let start: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
    let body = content[start..].to_owned();
    let most = match shared.close_after.load(Ordering::SeqCst) {
        0 => usize::MAX,
        bytes => bytes,
    };
    let status = if start == 0 { 200 } else { 206 };
    Reply { status, headers: String::new(), sent: body.len().min(most), body }
}

/// Lists a folder: its entries, or all files below it with `recursive`.
fn tree(files: Files, folder: &str, recursive: bool) -> Reply {
    let mut entries: Vec<String> = Vec::new();
    for file in files.iter().filter(|(path, _)| is_below(path, folder)) {
        let rest = file.0[folder.len()..].trim_start_matches('/');
        match rest.split_once('/') {
            Some((name, _)) if !recursive => {
                let path = file.0[..file.0.len() - rest.len() + name.len()].to_owned();
                let entry = format!(r#"{{"type":"directory","oid":"-","size":0,"path":"{path}"}}"#);
                if !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
            _ => entries.push(entry(*file)),
        }
    }
    json(format!("[{}]", entries.join(",")))
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the tree entry of a file. Safetensors are large files with a SHA-256, which is wrong for
/// `damaged.safetensors`. The size of files named `longer` is one byte less than what is sent.
fn entry((path, content): (&str, &str)) -> String {
    let (size, oid) = (content.len() - usize::from(path.starts_with("longer")), path.replace('/', "-"));
    let lfs = if path.ends_with(".safetensors") {
        let hashed = if path.starts_with("damaged") { "other" } else { content };
        let sha256 = hexadecimal(&Sha256::digest(hashed));
        format!(r#","lfs":{{"oid":"{sha256}","size":{size},"pointerSize":134}}"#)
    } else {
        String::new()
    };
    format!(r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{path}"{lfs}}}"#)
}

fn json(body: String) -> Reply {
    Reply { status: 200, headers: "content-type: application/json\r\n".to_owned(), sent: body.len(), body }
}

fn error(status: u16, code: &str) -> Reply {
    let body = "an error page".to_owned();
    Reply { status, headers: format!("x-error-code: {code}\r\n"), sent: body.len(), body }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

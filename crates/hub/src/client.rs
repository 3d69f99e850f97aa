//! Hub client: commits, file listings and resumable downloads.

use std::{
    fmt::Write as _,
    io::{self, Read, Write as _},
    path::Path,
    time::Duration,
};

use prospect_core::backoff::Backoff;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::{
    Agent, Body,
    config::RedirectAuthHeaders,
    http::{Response, StatusCode},
    tls::{RootCerts, TlsConfig},
};

use crate::{
    HubError, RequestError,
    address::{Address, RepoKind, is_safe_path},
    settings::HubSettings,
};

/// Consecutive failures after which a request is given up.
const ATTEMPTS: u32 = 3;
/// Initial backoff.
const INITIAL_BACKOFF: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Read timeout within a response.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Most pages of a file listing; the Hub's have a thousand entries each.
const MAX_PAGES: usize = 10_000;
/// Read buffer size in bytes.
const CHUNK: usize = 1 << 18;

/// File of a repository.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    /// Path relative to the root of the repository.
    pub(crate) path: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Name of the content in the cache: SHA-256 of a large file (LFS), git object id of a small
    /// one.
    pub(crate) etag: String,
    /// True if `etag` is the SHA-256 of the content.
    is_sha256: bool,
}

/// Client for one repository.
pub(crate) struct Client<'a> {
    agent: Agent,
    settings: &'a HubSettings,
    address: &'a Address,
}

/// Entry of a repository's tree in the API.
#[derive(Deserialize)]
struct TreeEntry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

impl From<TreeEntry> for RemoteFile {
    fn from(entry: TreeEntry) -> Self {
        let TreeEntry { path, size, oid, lfs, .. } = entry;
        match lfs {
            Some(lfs) => Self { path, size: lfs.size, etag: lfs.oid, is_sha256: true },
            None => Self { path, size, etag: oid, is_sha256: false },
        }
    }
}

impl<'a> Client<'a> {
    /// Creates a client for the repository of `address`.
    pub(crate) fn new(address: &'a Address, settings: &'a HubSettings) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("prospect/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { agent, settings, address }
    }

    /// Converts a failed request to an error that suggests a fix.
    pub(crate) fn explain(&self, error: RequestError) -> HubError {
        let (page, address) = (self.address.page(&self.settings.endpoint), self.address.to_string());
        match error {
            RequestError::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                HubError::NoAccess { address, page }
            }
            RequestError::Status(StatusCode::NOT_FOUND, _) => HubError::NotFound { address, page },
            error @ (RequestError::Connection(_) | RequestError::Interrupted(_)) => {
                HubError::Network { address, cause: Box::new(error) }
            }
            error => HubError::Hub { address, cause: Box::new(error) },
        }
    }

    /// Resolves the address's revision to a commit.
    pub(crate) fn commit(&self) -> Result<String, RequestError> {
        let url = format!("{}/revision/{}", self.api(), percent_encode(&self.address.revision, false));
        let Revision { sha } = read_json(self.get(&url)?)?;
        if is_safe_path(&sha) && !sha.contains('/') {
            Ok(sha)
        } else {
            Err(RequestError::Unexpected(format!("`{sha}` as commit")))
        }
    }

    /// Lists the files of the address at `commit`.
    ///
    /// For a whole model, leaves out formats that duplicate the weights.
    pub(crate) fn list(&self, commit: &str) -> Result<Vec<RemoteFile>, RequestError> {
        let path = &self.address.path;
        if path.is_empty() {
            let mut files = self.tree(commit, "")?;
            if self.address.kind == RepoKind::Model {
                files.retain(|file| is_model_file(&file.path));
            }
            return Ok(files);
        }
        // The API lists folders only, so look a file up in its parent folder.
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let entry = self.entries(commit, parent, false)?.into_iter().find(|entry| entry.path == *path);
        match entry {
            Some(folder) if folder.r#type == "directory" => self.tree(commit, path),
            Some(file) => Ok(vec![file.into()]),
            None => Err(RequestError::Status(StatusCode::NOT_FOUND, None)),
        }
    }

    /// Lists all files in a folder and its subfolders.
    fn tree(&self, commit: &str, folder: &str) -> Result<Vec<RemoteFile>, RequestError> {
        let entries = self.entries(commit, folder, true)?;
        Ok(entries.into_iter().filter(|entry| entry.r#type == "file").map(RemoteFile::from).collect())
    }

    /// Lists the entries of a folder. Follows pagination.
    fn entries(&self, commit: &str, folder: &str, recursive: bool) -> Result<Vec<TreeEntry>, RequestError> {
        let slash = if folder.is_empty() { "" } else { "/" };
        let folder = percent_encode(folder, true);
        let mut url = format!("{}/tree/{commit}{slash}{folder}?recursive={recursive}", self.api());
        let mut entries = Vec::new();
        for _ in 0..MAX_PAGES {
            let response = self.get(&url)?;
            let next = next_page(&response);
            entries.extend(read_json::<Vec<TreeEntry>>(response)?);
            let Some(next) = next else { return Ok(entries) };
            // A mirror may name pages of the original; the token is for this endpoint only.
            let page = next.find("/api/").map(|at| format!("{}{}", self.settings.endpoint, &next[at..]));
            url = match page {
                Some(page) if page != url => page,
                _ => return Err(RequestError::Unexpected(format!("`{next}` as next page of {url}"))),
            };
        }
        Err(RequestError::Unexpected(format!("more than {MAX_PAGES} pages of files")))
    }

    /// Downloads `file` at `commit` to `path`. Resumes an earlier partial download.
    ///
    /// Calls `on_progress` with the number of bytes downloaded so far. Retries transient failures
    /// and verifies the result.
    pub(crate) fn download(
        &self,
        file: &RemoteFile,
        commit: &str,
        path: &Path,
        on_progress: &dyn Fn(u64),
    ) -> Result<(), HubError> {
        let page = self.address.page(&self.settings.endpoint);
        let url = format!("{page}/resolve/{commit}/{}", percent_encode(&file.path, true));
        let mut backoff = Backoff::new(INITIAL_BACKOFF, ATTEMPTS);
        loop {
            let before = length(path);
            let error = match self.download_rest(&url, file, path, on_progress) {
                Ok(()) => return self.verify(file, path),
                Err(error) => error,
            };
            if length(path) > before {
                backoff.reset();
            }
            let wait = error.is_transient().then(|| backoff.wait(error.retry_after())).flatten();
            match wait {
                Some(wait) => std::thread::sleep(wait),
                None => return Err(self.explain(error)),
            }
        }
    }

    /// Downloads the missing bytes of `file` and appends them to `path`.
    fn download_rest(
        &self,
        url: &str,
        file: &RemoteFile,
        path: &Path,
        on_progress: &dyn Fn(u64),
    ) -> Result<(), RequestError> {
        let mut out =
            fs_err::OpenOptions::new().create(true).append(true).open(path).map_err(RequestError::Cache)?;
        let mut have = length(path);
        if have > file.size {
            out.set_len(0).map_err(RequestError::Cache)?;
            have = 0;
        }
        if have == file.size {
            return Ok(());
        }
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if have > 0 {
            request = request.header("range", format!("bytes={have}-"));
        }
        let response = self.authorized(request).call()?;
        let status = response.status();
        if !status.is_success() {
            return Err(RequestError::status(&response));
        }
        if have > 0 && status != StatusCode::PARTIAL_CONTENT {
            // The server ignored the range and sends the whole file.
            out.set_len(0).map_err(RequestError::Cache)?;
            have = 0;
        }
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let bytes = body.read(&mut chunk).map_err(RequestError::Interrupted)?;
            if bytes == 0 {
                break;
            }
            out.write_all(&chunk[..bytes]).map_err(RequestError::Cache)?;
            have += bytes as u64;
            if have > file.size {
                // Not the file of the listing; a lying server could go on for ever.
                break;
            }
            on_progress(have);
        }
        if have < file.size {
            let missing = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection closed early");
            return Err(RequestError::Interrupted(missing));
        }
        out.sync_all().map_err(RequestError::Cache)
    }

    /// Verifies the size and, for large files, the SHA-256 of a download. Deletes it if they
    /// differ.
    fn verify(&self, file: &RemoteFile, path: &Path) -> Result<(), HubError> {
        let got = length(path);
        if got == file.size && (!file.is_sha256 || sha256(path)? == file.etag) {
            return Ok(());
        }
        fs_err::remove_file(path)?;
        Err(HubError::Corrupt {
            address: self.address.to_string(),
            file: file.path.clone(),
            got,
            expected: file.size,
        })
    }

    /// Sends a GET request. Retries transient failures.
    fn get(&self, url: &str) -> Result<Response<Body>, RequestError> {
        let mut backoff = Backoff::new(INITIAL_BACKOFF, ATTEMPTS);
        loop {
            let error = match self.authorized(self.agent.get(url)).call() {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => RequestError::status(&response),
                Err(error) => error.into(),
            };
            let wait = error.is_transient().then(|| backoff.wait(error.retry_after())).flatten();
            match wait {
                Some(wait) => std::thread::sleep(wait),
                None => return Err(error),
            }
        }
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.settings.token {
            Some(token) => request.header("authorization", token.bearer()),
            None => request,
        }
    }

    /// Returns the base URL of the repository's API.
    fn api(&self) -> String {
        let Address { kind, owner, name, .. } = self.address;
        format!("{}/api/{}/{owner}/{name}", self.settings.endpoint, kind.plural())
    }
}

/// Returns true for files of a whole-model download: safetensors weights, configuration, tokenizer
/// and template.
fn is_model_file(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    let wanted =
        matches!(extension, Some("safetensors" | "json" | "jinja" | "txt")) || path == "tokenizer.model";
    // Other folders (onnx/, original/) and consolidated.* duplicate the weights.
    let name = path.strip_prefix("additional_chat_templates/").unwrap_or(path);
    wanted && !name.contains('/') && !name.starts_with("consolidated")
}

/// Returns the URL of the next page from the `Link` header (RFC 8288, `<URL>; rel="next"`).
fn next_page(response: &Response<Body>) -> Option<String> {
    let links = response.headers().get("link")?.to_str().ok()?;
    let link = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}

fn read_json<T: serde::de::DeserializeOwned>(mut response: Response<Body>) -> Result<T, RequestError> {
    let text = response
        .body_mut()
        .with_config()
        .limit(1 << 28)
        .read_to_string()
        .map_err(|error| RequestError::Interrupted(io::Error::other(error)))?;
    serde_json::from_str(&text).map_err(|error| RequestError::Unexpected(error.to_string()))
}

/// Percent-encodes a path or revision for a URL.
fn percent_encode(text: &str, keep_slashes: bool) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (keep_slashes && byte == b'/') {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// Returns the size of a file in bytes, or 0 if it does not exist.
fn length(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |metadata| metadata.len())
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            bytes => digest.update(&chunk[..bytes]),
        }
    }
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_percent_encoded() {
        assert_eq!(percent_encode("data/a b#1.json", true), "data/a%20b%231.json");
        assert_eq!(percent_encode("refs/pr/3", false), "refs%2Fpr%2F3");
    }
}

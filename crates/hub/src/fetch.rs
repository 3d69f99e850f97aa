//! From an address to a local path.

use std::path::{Path, PathBuf};

use hf_hub::{HFError, HFRepositorySync, RepoTypeAny, repository::RepoTreeEntry};

use crate::{
    HubError,
    address::{Address, is_safe_path},
    meter::Meter,
    settings::Settings,
};

/// A file of a repository.
struct RemoteFile {
    /// Its path in the repository.
    path: String,
    /// Its length in bytes.
    size: u64,
}

/// The local path of `text`, fetched where the cache lacks it.
pub(crate) fn fetch(text: &str, settings: &Settings) -> Result<PathBuf, HubError> {
    let address = Address::parse(text)?;
    let explain = |error| HubError::explain(&address, &settings.endpoint, error);
    let client = settings.client().map_err(explain)?;
    let repository = client.repository(address.kind, &address.owner, &address.name);
    if settings.offline {
        return cached(&repository, &address, settings);
    }
    let files = list(&repository, &address).map_err(explain)?;
    let root = download(&repository, &address, settings, &files)?;
    Ok(if address.path.is_empty() { root } else { root.join(&address.path) })
}

/// What the cache holds of the address.
fn cached(
    repository: &HFRepositorySync<RepoTypeAny>,
    address: &Address,
    settings: &Settings,
) -> Result<PathBuf, HubError> {
    let revision = &address.revision;
    let found = if address.path.is_empty() {
        repository.snapshot_download().revision(revision).local_files_only(true).send()
    } else {
        // Finds folders as well as files.
        repository.download_file().filename(&address.path).revision(revision).local_files_only(true).send()
    };
    found.map_err(|error| match error {
        HFError::LocalEntryNotFound { .. } => {
            HubError::NotCached { address: address.to_string(), cache: settings.cache.clone() }
        }
        error => HubError::explain(address, &settings.endpoint, error),
    })
}

/// The files that the address names.
fn list(repository: &HFRepositorySync<RepoTypeAny>, address: &Address) -> Result<Vec<RemoteFile>, HFError> {
    let tree = |path: Option<String>| {
        repository.list_tree().revision(&address.revision).maybe_path_in_repo(path).recursive(true).send()
    };
    if address.path.is_empty() {
        let mut files = files_of(tree(None)?);
        if address.kind == RepoTypeAny::Model {
            files.retain(|file| is_model_file(&file.path));
        }
        return Ok(files);
    }
    let missing = || HFError::EntryNotFound {
        path: address.path.clone(),
        repo_id: repository.repo_path(),
        context: None,
    };
    let found =
        repository.get_paths_info().paths(vec![address.path.clone()]).revision(&address.revision).send()?;
    match found.into_iter().next().ok_or_else(missing)? {
        RepoTreeEntry::Directory { path, .. } => Ok(files_of(tree(Some(path))?)),
        file @ RepoTreeEntry::File { .. } => Ok(files_of(vec![file])),
    }
}

fn files_of(entries: Vec<RepoTreeEntry>) -> Vec<RemoteFile> {
    entries
        .into_iter()
        .filter_map(|entry| match entry {
            RepoTreeEntry::File { path, size, .. } => Some(RemoteFile { path, size }),
            RepoTreeEntry::Directory { .. } => None,
        })
        .collect()
}

/// Whether a whole-model fetch takes the file: weights as safetensors, and what describes them.
fn is_model_file(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    let wanted = matches!(extension, Some("safetensors" | "json" | "txt")) || path == "tokenizer.model";
    // Folders (onnx/, original/) and consolidated.* hold the same weights once more.
    wanted && !path.contains('/') && !path.starts_with("consolidated")
}

/// Fetches the files and gives the folder of the snapshot that holds them.
fn download(
    repository: &HFRepositorySync<RepoTypeAny>,
    address: &Address,
    settings: &Settings,
    files: &[RemoteFile],
) -> Result<PathBuf, HubError> {
    let meter = Meter::new(&format!("fetching {address}"), files.iter().map(|file| file.size).sum());
    let mut root: Option<PathBuf> = None;
    for file in files {
        if !is_safe_path(&file.path) {
            return Err(HubError::Io(std::io::Error::other(format!(
                "{address} lists the path `{}`, which leads out of the repository",
                file.path
            ))));
        }
        let local = repository
            .download_file()
            .filename(&file.path)
            .revision(&address.revision)
            .progress(meter.clone())
            .send()
            .map_err(|error| HubError::explain(address, &settings.endpoint, error))?;
        check_length(address, file, &local)?;
        meter.finish(file.size);
        let depth = file.path.split('/').count();
        let snapshot = local.ancestors().nth(depth).unwrap_or(&local).to_owned();
        if root.get_or_insert_with(|| snapshot.clone()) != &snapshot {
            return Err(HubError::Moved { address: address.to_string() });
        }
    }
    root.ok_or_else(|| HubError::Empty { address: address.to_string() })
}

/// Discards a file of the wrong length. The client keeps whatever the server sends, even the text of an error.
fn check_length(address: &Address, file: &RemoteFile, local: &Path) -> Result<(), HubError> {
    let got = fs_err::metadata(local)?.len();
    if got == file.size {
        return Ok(());
    }
    // The path in the snapshot is a link to the content, and the content is what would be found again.
    fs_err::remove_file(fs_err::canonicalize(local)?)?;
    if fs_err::symlink_metadata(local).is_ok() {
        fs_err::remove_file(local)?;
    }
    Err(HubError::Damaged { address: address.to_string(), file: file.path.clone(), got, expected: file.size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_hub::{COMMIT, FakeHub};

    const FILES: &[(&str, &str)] = &[
        ("config.json", "{}"),
        ("model.safetensors", "weights"),
        ("pytorch_model.bin", "weights once more"),
        ("onnx/config.json", "{}"),
        ("tokenizer.model", "pieces"),
        ("data/train/a.jsonl", "1"),
        ("data/train/b/c.jsonl", "22"),
        ("data/test.jsonl", "333"),
    ];

    fn settings(hub: &FakeHub, cache: &Path) -> Settings {
        Settings {
            endpoint: hub.endpoint(),
            token: Some("secret".to_owned()),
            cache: cache.to_owned(),
            offline: false,
        }
    }

    /// Paths below `folder`, sorted.
    fn tree(folder: &Path) -> Vec<String> {
        let mut paths = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs_err::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    paths.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        paths.sort();
        paths
    }

    #[test]
    fn a_file_is_fetched_once_and_then_served_offline() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        let mut settings = settings(&hub, cache.path());
        let text = "hf://org/name@main/config.json";
        let path = fetch(text, &settings).unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "{}");
        assert_eq!(fetch(text, &settings).unwrap(), path);
        let fetched =
            hub.requests().iter().filter(|request| request.starts_with("GET /org/name/resolve")).count();
        assert_eq!(fetched, 1, "{:?}", hub.requests());

        settings.offline = true;
        let before = hub.requests().len();
        assert_eq!(fetch(text, &settings).unwrap(), path);
        let error = fetch("hf://org/name@main/tokenizer.model", &settings).unwrap_err();
        assert!(matches!(error, HubError::NotCached { .. }), "{error}");
        assert!(matches!(fetch("hf://org/other@main", &settings), Err(HubError::NotCached { .. })));
        assert_eq!(hub.requests().len(), before);
    }

    #[test]
    fn a_folder_is_fetched_with_all_files_below_it() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        let mut settings = settings(&hub, cache.path());
        let text = format!("hf://datasets/org/name@{COMMIT}/data/train");
        let path = fetch(&text, &settings).unwrap();
        assert!(path.ends_with("data/train"));
        assert_eq!(tree(&path), ["a.jsonl", "b/c.jsonl"]);
        settings.offline = true;
        assert_eq!(fetch(&text, &settings).unwrap(), path);
    }

    #[test]
    fn a_whole_model_leaves_out_other_formats() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        let mut settings = settings(&hub, cache.path());
        let path = fetch("hf://org/name@main", &settings).unwrap();
        assert_eq!(tree(&path), ["config.json", "model.safetensors", "tokenizer.model"]);
        let dataset = fetch("hf://datasets/org/name@main", &settings).unwrap();
        assert_eq!(tree(&dataset).len(), FILES.len());
        settings.offline = true;
        assert_eq!(fetch("hf://org/name@main", &settings).unwrap(), path);
    }

    #[test]
    fn the_token_is_sent() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        fetch("hf://org/name@main/config.json", &settings(&hub, cache.path())).unwrap();
        assert!(hub.tokens().iter().all(|token| token == "Bearer secret"), "{:?}", hub.tokens());
    }

    #[test]
    fn refusals_say_what_to_do() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        let settings = settings(&hub, cache.path());
        for text in [
            "hf://org/name@main/none.json",
            "hf://org/none@main",
            "hf://org/name@none",
            "hf://org/none@main/a",
        ] {
            let error = fetch(text, &settings).unwrap_err();
            assert!(matches!(error, HubError::NotFound { .. }), "{text}: {error}");
        }
        for text in ["hf://org/gated@main", "hf://org/gated@main/config.json"] {
            let error = fetch(text, &settings).unwrap_err();
            assert!(error.to_string().contains("set HF_TOKEN"), "{text}: {error}");
        }
        assert!(matches!(fetch("org/name", &settings), Err(HubError::Address { .. })));
    }

    #[test]
    fn a_refused_connection_points_to_local_paths() {
        let cache = tempfile::tempdir().unwrap();
        let endpoint = format!("http://{}", crate::fake_hub::closed_port());
        let settings = Settings { endpoint, token: None, cache: cache.path().to_owned(), offline: false };
        let error = fetch("hf://org/name@main", &settings).unwrap_err();
        assert!(matches!(error, HubError::Network { .. }), "{error}");
        assert!(error.to_string().contains("HF_HUB_OFFLINE=1"));
    }

    #[test]
    fn a_file_of_the_wrong_length_is_discarded() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        let settings = settings(&hub, cache.path());
        let text = "hf://org/name@main/config.json";
        hub.refuse_downloads(true);
        assert!(matches!(fetch(text, &settings), Err(HubError::Damaged { expected: 2, .. })));
        hub.refuse_downloads(false);
        assert_eq!(fs_err::read_to_string(fetch(text, &settings).unwrap()).unwrap(), "{}");
    }
}

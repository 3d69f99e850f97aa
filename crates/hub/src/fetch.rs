//! Resolution of an address to a local path.

use std::path::{Path, PathBuf};

use prospect_core::progress::Progress;

use crate::{
    HubError,
    address::{Address, is_safe_path},
    cache::RepoCache,
    client::{Client, RemoteFile},
    settings::HubSettings,
};

const MEGABYTE: u64 = 1_000_000;

/// Returns the local path of an address. Downloads files that are not cached.
pub(crate) fn fetch(text: &str, settings: &HubSettings) -> Result<PathBuf, HubError> {
    let address = Address::parse(text)?;
    let cache = RepoCache::new(&settings.cache, &address);
    if settings.offline {
        return cache.find(&address).ok_or_else(|| HubError::NotCached {
            address: address.to_string(),
            cache: settings.cache.clone(),
        });
    }
    let client = Client::new(&address, settings);
    let explain = |error| client.explain(error);
    // Download everything at one commit, because a branch may move meanwhile.
    let commit = client.commit().map_err(explain)?;
    let files = client.list(&commit).map_err(explain)?;
    if files.is_empty() {
        return Err(HubError::Empty { address: address.to_string() });
    }
    cache.save_ref(&address.revision, &commit)?;
    download(&client, &cache, &address, &commit, &files)?;
    let root = cache.snapshot(&commit);
    Ok(if address.path.is_empty() { root } else { root.join(&address.path) })
}

/// Downloads the files to the cache.
fn download(
    client: &Client<'_>,
    cache: &RepoCache,
    address: &Address,
    commit: &str,
    files: &[RemoteFile],
) -> Result<(), HubError> {
    // Sizes are claims of the server.
    let total = files.iter().fold(0u64, |total, file| total.saturating_add(file.size));
    let progress = Progress::new(&format!("fetching {address}"), "MB", total.div_ceil(MEGABYTE));
    let shown = std::cell::Cell::new(0);
    let mut before = 0u64;
    for file in files {
        if !is_safe_path(&file.path) || !is_safe_path(&file.etag) || file.etag.contains('/') {
            return Err(HubError::Io(std::io::Error::other(format!(
                "{address} lists the path `{}`, which is outside the repository",
                file.path
            ))));
        }
        let on_progress = |bytes: u64| {
            let megabytes = before.saturating_add(bytes) / MEGABYTE;
            if megabytes > shown.get() {
                progress.advance(megabytes - shown.replace(megabytes), "");
            }
        };
        let (blob, partial) = cache.blob(file)?;
        if !is_complete(&blob, file) {
            let _lock = cache.lock(file)?;
            // Another process may have downloaded it meanwhile.
            if !is_complete(&blob, file) {
                client.download(file, commit, &partial, &on_progress)?;
                fs_err::rename(&partial, &blob)?;
            }
        }
        cache.link(file, commit)?;
        on_progress(file.size);
        before = before.saturating_add(file.size);
    }
    Ok(())
}

/// Returns true if `blob` is complete.
fn is_complete(blob: &Path, file: &RemoteFile) -> bool {
    fs_err::metadata(blob).is_ok_and(|metadata| metadata.len() == file.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prospect_core::secret::Secret;
    use prospect_testkit::fake_hub::{COMMIT, FakeHub};

    const FILES: &[(&str, &str)] = &[
        ("config.json", "{}"),
        ("model.safetensors", "weights"),
        ("pytorch_model.bin", "duplicate weights"),
        ("onnx/config.json", "{}"),
        ("additional_chat_templates/rag.jinja", "{{ documents }}"),
        ("tokenizer.model", "pieces"),
        ("data/train/a.jsonl", "1"),
        ("data/train/b/c.jsonl", "22"),
        ("data/test.jsonl", "333"),
    ];

    fn settings(hub: &FakeHub, cache: &Path) -> HubSettings {
        HubSettings {
            endpoint: hub.endpoint(),
            token: Secret::new("secret"),
            cache: cache.to_owned(),
            offline: false,
        }
    }

    /// Returns the paths of all files below `folder`, sorted.
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
        let expected =
            ["additional_chat_templates/rag.jinja", "config.json", "model.safetensors", "tokenizer.model"];
        assert_eq!(tree(&path), expected);
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
    fn refusals_suggest_a_fix() {
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
        let endpoint = format!("http://{}", prospect_testkit::fake_hub::closed_port());
        let settings = HubSettings { endpoint, token: None, cache: cache.path().to_owned(), offline: false };
        let error = fetch("hf://org/name@main", &settings).unwrap_err();
        assert!(matches!(error, HubError::Network { .. }), "{error}");
        assert!(error.to_string().contains("HF_HUB_OFFLINE=1"));
    }

    #[test]
    fn a_lying_server_is_refused() {
        const LONGER: &[(&str, &str)] = &[("longer.json", "{}  ")];
        let (hub, cache) = (FakeHub::start(LONGER), tempfile::tempdir().unwrap());
        let settings = settings(&hub, cache.path());
        let message = |error: HubError| prospect_core::errors::chain(&error).join(": ");
        let error = fetch("hf://datasets/org/name@main/longer.json", &settings).unwrap_err();
        assert!(matches!(error, HubError::Corrupt { got: 4, expected: 3, .. }), "{error}");
        let endless = format!("{}/api/models/org/name/tree/{COMMIT}?recursive=true", hub.endpoint());
        for next in [&endless, "http://elsewhere.example/page"] {
            hub.continue_listings_at(next);
            let error = message(fetch("hf://org/name@main", &settings).unwrap_err());
            assert!(error.contains("as next page of"), "{error}");
        }
    }

    #[test]
    fn a_busy_server_is_asked_again_after_the_wait_it_states() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        hub.refuse_next(2);
        let begun = std::time::Instant::now();
        fetch("hf://org/name@main/config.json", &settings(&hub, cache.path())).unwrap();
        assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
        hub.refuse_next(9);
        let error = fetch("hf://org/name@v2/config.json", &settings(&hub, cache.path())).unwrap_err();
        assert!(matches!(error, HubError::Hub { .. }), "{error}");
    }

    #[test]
    fn an_interrupted_download_resumes() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        hub.close_after(3);
        let path = fetch("hf://org/name@main/model.safetensors", &settings(&hub, cache.path())).unwrap();
        assert_eq!(fs_err::read_to_string(path).unwrap(), "weights");
        assert_eq!(hub.ranges(), ["", "bytes=3-", "bytes=6-"]);
    }

    #[test]
    fn content_shared_by_two_revisions_is_downloaded_once() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        let settings = settings(&hub, cache.path());
        fetch("hf://org/name@main/config.json", &settings).unwrap();
        fetch("hf://org/name@v2/config.json", &settings).unwrap();
        assert_eq!(hub.ranges().len(), 1);
    }

    #[test]
    fn a_file_with_a_wrong_hash_is_deleted() {
        const DAMAGED: &[(&str, &str)] = &[("damaged.safetensors", "weights")];
        let (hub, cache) = (FakeHub::start(DAMAGED), tempfile::tempdir().unwrap());
        let error =
            fetch("hf://org/name@main/damaged.safetensors", &settings(&hub, cache.path())).unwrap_err();
        assert!(matches!(error, HubError::Corrupt { got: 7, expected: 7, .. }), "{error}");
        assert!(!tree(cache.path()).iter().any(|path| path.contains("blobs")));
    }

    #[test]
    fn a_file_with_a_wrong_size_is_deleted() {
        let (hub, cache) = (FakeHub::start(FILES), tempfile::tempdir().unwrap());
        let settings = settings(&hub, cache.path());
        let text = "hf://org/name@main/config.json";
        hub.refuse_downloads(true);
        assert!(matches!(fetch(text, &settings), Err(HubError::Corrupt { expected: 2, .. })));
        hub.refuse_downloads(false);
        assert_eq!(fs_err::read_to_string(fetch(text, &settings).unwrap()).unwrap(), "{}");
    }
}

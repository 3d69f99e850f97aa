//! Cache folder in the layout of Python's `huggingface_hub`.
//!
//! ```text
//! <cache>/models--ORG--NAME/
//!   refs/<revision>             commit of a branch or tag
//!   snapshots/<commit>/<path>   links to blobs
//!   blobs/<etag>                file contents; `<etag>.incomplete` during a download
//! <cache>/.locks/models--ORG--NAME/<etag>.lock
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use prospect_core::files::write_whole;

use crate::{address::Address, client::RemoteFile};

/// Cache folder of one repository.
pub(crate) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

/// Exclusive lock for the download of a file's content. Released on drop.
pub(crate) struct BlobLock {
    _file: fs_err::File,
}

impl RepoCache {
    /// Opens the folder of the address's repository in `cache`.
    pub(crate) fn new(cache: &Path, address: &Address) -> Self {
        let name = format!("{}--{}--{}", address.kind.plural(), address.owner, address.name);
        Self { root: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// Returns the folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Returns the local path of `address` if it is cached.
    pub(crate) fn find(&self, address: &Address) -> Option<PathBuf> {
        let commit = fs_err::read_to_string(self.root.join("refs").join(&address.revision));
        let commit = commit.map_or_else(|_| address.revision.clone(), |text| text.trim().to_owned());
        let path = self.snapshot(&commit).join(&address.path);
        path.exists().then_some(path)
    }

    /// Saves the commit of a revision.
    pub(crate) fn save_ref(&self, revision: &str, commit: &str) -> io::Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        write_whole(&path, |writer| io::Write::write_all(writer, commit.as_bytes()))
    }

    /// Locks the content of `file`. Blocks while another process downloads it.
    pub(crate) fn lock(&self, file: &RemoteFile) -> io::Result<BlobLock> {
        fs_err::create_dir_all(&self.locks)?;
        let lock = fs_err::File::create(self.locks.join(format!("{}.lock", file.etag)))?;
        lock.file().lock()?;
        Ok(BlobLock { _file: lock })
    }

    /// Returns the paths of a file's content and of its partial download. Creates their folder.
    pub(crate) fn blob(&self, file: &RemoteFile) -> io::Result<(PathBuf, PathBuf)> {
        let folder = self.root.join("blobs");
        fs_err::create_dir_all(&folder)?;
        Ok((folder.join(&file.etag), folder.join(format!("{}.incomplete", file.etag))))
    }

    /// Links the content of `file` into the snapshot of `commit`.
    pub(crate) fn link(&self, file: &RemoteFile, commit: &str) -> io::Result<()> {
        let pointer = self.snapshot(commit).join(&file.path);
        if let Some(folder) = pointer.parent() {
            fs_err::create_dir_all(folder)?;
        }
        if pointer.exists() {
            return Ok(());
        }
        if fs_err::symlink_metadata(&pointer).is_ok() {
            // Dangling link: the content was deleted.
            fs_err::remove_file(&pointer)?;
        }
        let up = "../".repeat(file.path.split('/').count() + 1);
        link_file(
            Path::new(&format!("{up}blobs/{}", file.etag)),
            &pointer,
            &self.root.join("blobs").join(&file.etag),
        )
    }
}

/// Links `pointer` to `target`, which is relative to it. Copies `content` on systems other than
/// Unix.
fn link_file(target: &Path, pointer: &Path, content: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let _ = content;
        fs_err::os::unix::fs::symlink(target, pointer)
    }
    #[cfg(not(unix))]
    {
        let _ = target;
        fs_err::copy(content, pointer).map(|_| ())
    }
}

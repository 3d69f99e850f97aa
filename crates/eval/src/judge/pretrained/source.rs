//! Names of pretrained reward models.

use std::path::Path;

/// Origin of a pretrained reward model, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewardModelSource {
    name: String,
    description: String,
    pretrained: String,
}

impl RewardModelSource {
    /// Names a model of the Hub by its address, `hf://ORG/NAME@REVISION`, and the folder of the
    /// cache that it was fetched to, whose name is the commit.
    pub fn hub(address: &str, folder: &Path) -> Self {
        let id = address.strip_prefix("hf://").unwrap_or(address);
        let (repository, revision) = id.split_once('@').unwrap_or((id, "main"));
        let is_snapshot = folder.parent().and_then(Path::file_name).is_some_and(|name| name == "snapshots");
        let commit = folder.file_name().filter(|_| is_snapshot).map(|name| name.to_string_lossy());
        let commit = commit.filter(|commit| *commit != revision);
        let commit = commit.map(|commit| format!(" (commit {})", shortened(&commit))).unwrap_or_default();
        Self {
            name: format!("{repository}@{}", shortened(revision)),
            description: format!(
                "{repository} of the Hugging Face Hub at revision {}{commit}",
                shortened(revision)
            ),
            pretrained: format!("'{repository}', revision='{revision}'"),
        }
    }

    /// Names a model in a local folder by the folder.
    pub fn folder(folder: &Path) -> Self {
        let whole = fs_err::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let name = whole
            .file_name()
            .map_or_else(|| "reward model".to_owned(), |name| name.to_string_lossy().into_owned());
        Self {
            name,
            description: format!("in the folder {}", folder.display()),
            pretrained: format!("'{}'", folder.display()),
        }
    }

    /// Returns the name of the judge.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the origin in words.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the arguments with which Python's `from_pretrained` finds the model.
    pub fn pretrained(&self) -> &str {
        &self.pretrained
    }
}

/// Shortens a commit to seven digits.
fn shortened(revision: &str) -> &str {
    let is_commit = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit { &revision[..7] } else { revision }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_with_its_revision() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let folder = Path::new("cache/models--org--name/snapshots").join(commit);
        let branch = RewardModelSource::hub("hf://org/name@main", &folder);
        assert_eq!(branch.name(), "org/name@main");
        assert_eq!(
            branch.description(),
            "org/name of the Hugging Face Hub at revision main (commit 0123456)"
        );
        assert_eq!(branch.pretrained(), "'org/name', revision='main'");
        let pinned = RewardModelSource::hub(&format!("hf://org/name@{commit}"), &folder);
        assert_eq!(pinned.name(), "org/name@0123456");
        assert_eq!(pinned.description(), "org/name of the Hugging Face Hub at revision 0123456");
        let local = RewardModelSource::folder(Path::new("models/scorer"));
        assert_eq!((local.name(), local.description()), ("scorer", "in the folder models/scorer"));
    }
}

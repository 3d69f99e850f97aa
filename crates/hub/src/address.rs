//! Parsing of `hf://` addresses.

use std::fmt;

use crate::HubError;

/// URL scheme of addresses.
pub(crate) const SCHEME: &str = "hf://";

/// Kind of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepoKind {
    /// Model repository.
    Model,
    /// Dataset repository.
    Dataset,
}

impl RepoKind {
    /// Returns the kind's name in API URLs and in the cache (`models--ORG--NAME`).
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// Returns the prefix of a repository in page and download URLs.
    fn url_prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// Path in a repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Kind of repository.
    pub(crate) kind: RepoKind,
    /// User or organisation.
    pub(crate) owner: String,
    /// Repository name, without its owner.
    pub(crate) name: String,
    /// Branch, tag or commit.
    pub(crate) revision: String,
    /// Path of a file or folder, without leading or trailing slashes. Empty for the whole
    /// repository.
    pub(crate) path: String,
}

impl Address {
    /// Parses an address: `hf://[datasets/]ORG/NAME@REVISION[/PATH]`.
    pub(crate) fn parse(text: &str) -> Result<Self, HubError> {
        let fail = |problem: &'static str| HubError::Address { address: text.to_owned(), problem };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| fail("it does not start with hf://"))?;
        let (kind, rest) = match rest.strip_prefix("datasets/") {
            Some(rest) => (RepoKind::Dataset, rest),
            None => (RepoKind::Model, rest),
        };
        let (repository, rest) = rest.split_once('@').ok_or_else(|| {
            fail("the revision is missing; add @ and a commit (from the repository's history page), a tag or `main`")
        })?;
        let (owner, name) =
            repository.split_once('/').ok_or_else(|| fail("the repository is not ORG/NAME"))?;
        if ![owner, name].into_iter().all(is_repository_part) {
            return Err(fail("the repository is not ORG/NAME"));
        }
        let (revision, path) = split_revision(rest);
        let path = path.trim_matches('/');
        if revision.is_empty() {
            return Err(fail("the revision after @ is empty"));
        }
        if !is_safe_path(&revision) || !(path.is_empty() || is_safe_path(path)) {
            return Err(fail("the path has an empty, `.` or `..` part"));
        }
        Ok(Self { kind, owner: owner.to_owned(), name: name.to_owned(), revision, path: path.to_owned() })
    }

    /// Returns the URL of the repository's page, which is also the base of its download URLs.
    pub(crate) fn page(&self, endpoint: &str) -> String {
        format!("{endpoint}/{}{}/{}", self.kind.url_prefix(), self.owner, self.name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, owner, name, revision, path } = self;
        write!(formatter, "{SCHEME}{}{owner}/{name}@{revision}", kind.url_prefix())?;
        if path.is_empty() { Ok(()) } else { write!(formatter, "/{path}") }
    }
}

fn is_repository_part(part: &str) -> bool {
    !part.is_empty()
        && !part.chars().all(|letter| letter == '.')
        && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
}

/// Returns true if a slash-separated path has no empty, `.` or `..` part, so it cannot leave its
/// folder.
pub(crate) fn is_safe_path(path: &str) -> bool {
    path.split('/')
        .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']))
}

/// Splits a revision from the path after it. Only revisions such as `refs/pr/N` and
/// `refs/convert/NAME` contain slashes.
fn split_revision(text: &str) -> (String, &str) {
    let parts = if text.starts_with("refs/pr/") || text.starts_with("refs/convert/") { 3 } else { 1 };
    let end = text.match_indices('/').nth(parts - 1).map_or(text.len(), |(index, _)| index);
    let (revision, path) = text.split_at(end);
    (revision.to_owned(), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Address::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn addresses_round_trip() {
        for (text, kind, revision, path) in [
            ("hf://org/name@main", RepoKind::Model, "main", ""),
            ("hf://org/name@v1.0/config.json", RepoKind::Model, "v1.0", "config.json"),
            ("hf://datasets/org/name@abc/data/train", RepoKind::Dataset, "abc", "data/train"),
            ("hf://datasets/org/name@refs/pr/3", RepoKind::Dataset, "refs/pr/3", ""),
            (
                "hf://datasets/org/name@refs/convert/parquet/d/f",
                RepoKind::Dataset,
                "refs/convert/parquet",
                "d/f",
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(
                (address.kind, address.revision.as_str(), address.path.as_str()),
                (kind, revision, path)
            );
            assert_eq!((address.owner.as_str(), address.name.as_str()), ("org", "name"));
        }
        assert_eq!(
            Address::parse("hf://org/name@main/").unwrap(),
            Address::parse("hf://org/name@main").unwrap()
        );
    }

    #[test]
    fn a_missing_revision_is_named() {
        assert_eq!(
            problem("hf://org/name"),
            "`hf://org/name` is not a Hub address: the revision is missing; add @ and a commit (from the repository's history \
             page), a tag or `main`; write hf://[datasets/]ORG/NAME@REVISION[/PATH]"
        );
        assert!(problem("hf://org/name@").contains("revision after @ is empty"));
    }

    #[test]
    fn other_text_is_rejected() {
        for text in [
            "org/name@main",
            "hf://name@main",
            "hf://@main",
            "hf://a/b/c@main",
            "hf://o/../x@main",
            "hf:///n@m",
        ] {
            assert!(problem(text).contains("is not a Hub address"), "{text}");
        }
        for path in ["../x", "a//b", "a/./b", "a/.."] {
            assert!(problem(&format!("hf://o/n@main/{path}")).contains("`..` part"), "{path}");
        }
    }
}

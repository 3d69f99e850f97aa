//! Lists of judgements by id: the files of `exclude` and `flip`.

use std::{collections::BTreeSet, path::Path};

use prospect_core::files::hash_file;
use serde::Serialize;

use crate::{DataError, config::locate::Locate, table::ids::Id};

/// Judgements listed in a file, one a line: `ID`, or `ID true` or `ID false` for the rows with that
/// label. A `#` starts a comment. The content of the file enters the dataset's hash; its path
/// doesn't.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IdList {
    blake3: String,
    #[serde(skip)]
    pub(crate) entries: BTreeSet<ListedId>,
}

/// Id of a pair or a row, and the label that a row must have; None for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListedId {
    pub(crate) id: Id,
    pub(crate) label: Option<bool>,
}

impl IdList {
    /// Finds and reads the list at `address`, the value of `key`.
    pub(crate) fn read(key: &'static str, address: &str, locate: &Locate<'_>) -> Result<Self, DataError> {
        let locate_error = |source| DataError::LocateList { key, address: address.to_owned(), source };
        let path = locate(address).map_err(locate_error)?;
        let entries = parse(&path, &fs_err::read_to_string(&path)?)?;
        if entries.is_empty() {
            let message = "the file lists no id; remove the key, or list ids, one a line";
            return Err(DataError::Value { key: key.into(), value: address.to_owned(), message });
        }
        Ok(Self { blake3: hash_file(&path)?, entries })
    }

    /// Returns an entry that the other list names too.
    pub(crate) fn shared_with(&self, other: &Self) -> Option<ListedId> {
        let overlaps = |one: &ListedId, other: &ListedId| {
            one.id == other.id && (one.label.is_none() || other.label.is_none() || one.label == other.label)
        };
        self.entries.iter().find(|one| other.entries.iter().any(|other| overlaps(one, other))).copied()
    }
}

fn parse(path: &Path, text: &str) -> Result<BTreeSet<ListedId>, DataError> {
    let mut entries = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
        let Some(word) = words.next() else { continue };
        let flaw = |what: String| DataError::Table {
            file: path.to_owned(),
            message: format!(
                "line {number}: {what}; write an id of 16 hexadecimal digits, then `true` or `false` if only rows with that label are meant"
            ),
        };
        let id = Id::parse(word).ok_or_else(|| flaw(format!("`{word}` is no id")))?;
        let label = match words.next() {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => return Err(flaw(format!("`{other}` is no label"))),
        };
        if let Some(more) = words.next() {
            return Err(flaw(format!("`{more}` follows the label")));
        }
        entries.insert(ListedId { id, label });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, Option<bool>)>, String> {
        let entries = parse(Path::new("ids.txt"), text).map_err(|error| error.to_string())?;
        Ok(entries.into_iter().map(|entry| (entry.id.to_string(), entry.label)).collect())
    }

    #[test]
    fn comments_blank_lines_and_labels_are_read() {
        let text = "# rank, id\n\n00000000000000ab true # 0.98\r\n00000000000000ab,false\n00000000000000AA\n";
        let id = |text: &str| text.to_owned();
        assert_eq!(
            parsed(text).unwrap(),
            [
                (id("00000000000000aa"), None),
                (id("00000000000000ab"), Some(false)),
                (id("00000000000000ab"), Some(true)),
            ]
        );
    }

    #[test]
    fn a_line_that_is_no_id_is_an_error_with_its_number() {
        for (text, what) in [
            ("\nabc\n", "line 2: `abc` is no id"),
            ("00000000000000ab up", "line 1: `up` is no label"),
            ("00000000000000ab true 0.9", "line 1: `0.9` follows the label"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
